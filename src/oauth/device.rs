//! The device authorization grant (RFC 8628): a code to enter on any other device, and polls until
//! somebody has.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{
    message::{Outcome, Refusal, Reply, Request, authority},
    reply::Members,
    token::{self, GrantType, Requester, Verdict},
};
use crate::{secret::Secret, text::sanitize, time::Wall};

/// How often to poll when the provider doesn't say (RFC 8628, 3.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// What a `slow_down` adds to the interval, for good (RFC 8628, 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// The slowest that polling gets by itself or by a provider's word: the user may be waiting.
const MAX_INTERVAL: Duration = Duration::from_secs(120);

/// How long codes live when the provider doesn't say: as long as those that do let them.
const EXPIRES_IN: Duration = Duration::from_secs(1800);

/// How long codes may live: after that the user won't remember what they were for.
const MAX_EXPIRES_IN: Duration = Duration::from_secs(86_400);

/// How long a user code may be, in characters: people have to type it.
const MAX_USER_CODE_CHARS: usize = 64;

/// A device authorization response (RFC 8628, 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// What the token endpoint knows the sign-in by.
    pub device_code: Arc<Secret>,
    /// What the user enters; printable.
    pub user_code: String,
    /// Where; http or https, and printable.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// From when the request was sent.
    pub expires_in: Duration,
    /// How long to wait between two polls.
    pub interval: Duration,
}

/// What a poll says (RFC 8628, 3.5).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Poll {
    /// Not yet: poll again after so long from now on.
    Pending(Duration),
    /// The code has expired: another may be asked for.
    Expired(Refusal),
    /// The user has refused.
    Denied(Refusal),
    /// What any reply may say: that the user has agreed, that nothing is known (ask again, at longer
    /// intervals), or that it will never work.
    Other(Verdict),
}

/// Why a code is of no use any more.
pub const EXPIRED: &str = "the code has expired before anybody entered it";

/// What to do then.
pub const ANOTHER: &str = "sign in again for a new one";

/// The grant type of device codes (RFC 8628, 3.4).
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

impl Requester<'_> {
    /// The device authorization request (RFC 8628, 3.1). The parameters that say what the token is for
    /// go along with this one, too.
    pub fn device_code(&self) -> Request {
        let scope = self.registration.scopes.join(" ");
        let mut fields = vec![("client_id", self.registration.client_id.as_str().into())];
        if !scope.is_empty() {
            fields.push(("scope", scope.as_str().into()));
        }
        self.request(&fields)
    }

    /// The request that asks whether the user has agreed (RFC 8628, 3.4).
    pub fn poll(&self, device_code: &Secret) -> Request {
        self.request(&[
            ("grant_type", GRANT.into()),
            ("device_code", device_code.into()),
            ("client_id", self.registration.client_id.as_str().into()),
        ])
    }
}

/// Reads a device authorization response.
///
/// # Errors
/// Why there is no code, and whether that may pass.
pub fn judge_authorization(
    endpoint: &Url,
    outcome: &Outcome,
    wall: Wall,
) -> Result<Authorization, (Refusal, bool)> {
    judge_answer(endpoint, outcome, wall, "a code", read)
}

/// Reads the response to a request for `what`, whose errors are those of a token endpoint (RFC 8628,
/// 3.2; RFC 9126, 2.3; RFC 6749, 5.2).
pub(super) fn judge_answer<T>(
    endpoint: &Url,
    outcome: &Outcome,
    wall: Wall,
    what: &str,
    read: fn(&mut Members) -> Result<T, &'static str>,
) -> Result<T, (Refusal, bool)> {
    let host = authority(endpoint);
    let members = match outcome {
        Outcome::Reply(reply) if (200..=299).contains(&reply.status) => Members::read(reply).ok(),
        _ => None,
    };
    if let Some(mut members) = members.filter(|members| members.error().is_none()) {
        return read(&mut members).map_err(|lack| {
            let text = format!("{host}: the reply to the request for {what} {lack}");
            (Refusal::new(text), false)
        });
    }
    match token::judge(GrantType::DeviceCode, endpoint, &[], outcome, wall) {
        Verdict::Transient { refusal, .. } => Err((refusal, true)),
        Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal) => Err((refused(refusal), false)),
        Verdict::Granted(_) => {
            let text = format!("{host} gave a token instead of {what}");
            Err((Refusal::new(text), false))
        }
    }
}

/// Some providers allow a part of the scopes only to clients that have a browser.
fn refused(mut refusal: Refusal) -> Refusal {
    if refusal.text.starts_with("invalid_scope") {
        let hint = "this provider doesn't allow these scopes with a device code: use auth_uri";
        refusal.hint = Some(hint.into());
    }
    refusal
}

fn read(members: &mut Members) -> Result<Authorization, &'static str> {
    let uri = |name: &str| {
        let uri = Url::parse(members.text(name)?).ok()?;
        // Users are told to open it.
        let plain = matches!(uri.scheme(), "http" | "https") && uri.username().is_empty();
        (plain && sanitize(uri.as_str()) == uri.as_str()).then(|| uri.into())
    };
    let verification_uri: String = uri("verification_uri")
        .or_else(|| uri("verification_url"))
        .ok_or("has no usable verification_uri")?;
    let verification_uri_complete =
        uri("verification_uri_complete").or_else(|| uri("verification_url_complete"));
    let user_code = sanitize(members.text("user_code").unwrap_or_default());
    if user_code.is_empty() || user_code.chars().count() > MAX_USER_CODE_CHARS {
        return Err("has no usable user_code");
    }
    let expires_in = members.seconds("expires_in");
    let interval = members.seconds("interval");
    let device_code = members.take_secret("device_code");
    Ok(Authorization {
        device_code: device_code.map(Arc::new).ok_or("has no device_code")?,
        user_code,
        verification_uri,
        verification_uri_complete,
        expires_in: expires_in.unwrap_or(EXPIRES_IN).min(MAX_EXPIRES_IN),
        interval: interval.unwrap_or(INTERVAL).min(MAX_INTERVAL),
    })
}

/// Judges a poll. `interval` is the one in force; `lost` is whether the reply to the poll before
/// was lost, so that it may have brought the tokens.
pub fn judge_poll(
    endpoint: &Url,
    scopes: &[String],
    interval: Duration,
    lost: bool,
    outcome: &Outcome,
    wall: Wall,
) -> Poll {
    let error = match outcome {
        Outcome::Reply(reply) => judge_error(interval, lost, reply),
        Outcome::NotSent(_) | Outcome::Lost(_) => None,
    };
    let judge = || token::judge(GrantType::DeviceCode, endpoint, scopes, outcome, wall);
    error.unwrap_or_else(|| Poll::Other(judge()))
}

/// The errors that only a poll has, whatever the status that comes along.
fn judge_error(interval: Duration, lost: bool, reply: &Reply) -> Option<Poll> {
    let members = Members::read(reply).ok()?;
    let error = members.error()?;
    let said = |text: &str, hint: Option<&str>| {
        Refusal::new(format!("{text} ({})", error.sentence())).hint(hint)
    };
    let failed = |refusal| Poll::Other(Verdict::Parked(refusal));
    Some(match error.code.to_ascii_lowercase().as_str() {
        "authorization_pending" => Poll::Pending(interval),
        "slow_down" => {
            let asked = members.seconds("interval").unwrap_or_default();
            Poll::Pending((interval + SLOW_DOWN).max(asked).min(MAX_INTERVAL))
        }
        "expired_token" | "token_expired" => Poll::Expired(said(EXPIRED, Some(ANOTHER))),
        "access_denied" | "authorization_declined" => {
            Poll::Denied(said("the person who entered the code refused", None))
        }
        "invalid_grant" if lost => failed(said(
            "the sign-in was agreed to, but the provider's reply was lost",
            Some("sign in again"),
        )),
        "bad_verification_code" | "incorrect_device_code" => {
            failed(said("the provider doesn't know the code", None))
        }
        "device_flow_disabled" => failed(said(
            "the client is not allowed to use device codes",
            Some("allow them where the client is registered, or use auth_uri"),
        )),
        _ => return None,
    })
}

/// How long to wait for the next poll after `troubles` without an answer in a row: twice as long
/// each time (RFC 8628, 3.5).
pub fn delay(interval: Duration, troubles: u32) -> Duration {
    let doubled = interval * 2u32.pow(troubles.min(8));
    doubled.min(MAX_INTERVAL.max(interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Wall = Wall::from_millis(0);

    fn endpoint() -> Url {
        Url::parse("https://a.example/token").unwrap()
    }

    fn reply(status: u16, body: &str) -> Outcome {
        Outcome::Reply(Reply {
            status,
            retry_after: None,
            date: None,
            location: None,
            body: Vec::from(body).into(),
            ..Reply::default()
        })
    }

    fn told(refusal: &Refusal) -> String {
        match &refusal.hint {
            Some(hint) => format!("{} [{hint}]", refusal.text),
            None => refusal.text.clone(),
        }
    }

    #[test]
    fn codes_are_read_in_every_spelling() {
        let code = |complete: Option<&str>, expires_in, interval| {
            Ok(Authorization {
                device_code: Arc::new(Secret::new("d".into())),
                user_code: "ABCD-EFGH".into(),
                verification_uri: "https://a.example/device".into(),
                verification_uri_complete: complete.map(str::to_owned),
                expires_in: Duration::from_secs(expires_in),
                interval: Duration::from_secs(interval),
            })
        };
        let lack = |what: &str, passes| {
            let text = format!("a.example: the reply to the request for a code {what}");
            Err((Refusal::new(text), passes))
        };
        for (status, body, wanted) in [
            (
                200,
                r#"{"device_code":"d","user_code":"ABCD-EFGH","verification_uri":"https://a.example/device","verification_uri_complete":"https://a.example/device?c=ABCD","expires_in":900,"interval":7,"message":"x"}"#,
                code(Some("https://a.example/device?c=ABCD"), 900, 7),
            ),
            // 63: Google's name, a string for a number, no expiry.
            (
                200,
                r#"{"device_code":"d","user_code":"ABCD-EFGH","verification_url":"https://a.example/device","interval":"5"}"#,
                code(None, 1800, 5),
            ),
            (
                200,
                "device_code=d&user_code=ABCD-EFGH&verification_uri=https%3A%2F%2Fa.example%2Fdevice&expires_in=900&interval=5",
                code(None, 900, 5),
            ),
            (
                200,
                r#"{"device_code":"d","user_code":" ABCD-EFGH\u001b","verification_uri":"https://a.example/device","verification_uri_complete":"javascript:x","expires_in":1e99,"interval":0}"#,
                code(None, 86_400, 5),
            ),
            (
                200,
                r#"{"device_code":"d","user_code":"ABCD-EFGH"}"#,
                lack("has no usable verification_uri", false),
            ),
            (
                200,
                r#"{"device_code":"d","verification_uri":"https://a.example/"}"#,
                lack("has no usable user_code", false),
            ),
            (
                200,
                r#"{"user_code":"A","verification_uri":"https://a.example/"}"#,
                lack("has no device_code", false),
            ),
            (
                400,
                r#"{"error":"invalid_scope","error_description":"Invalid device flow scope"}"#,
                Err((
                    Refusal {
                        text: "invalid_scope: Invalid device flow scope".into(),
                        hint: Some(
                            "this provider doesn't allow these scopes with a device code: use \
                             auth_uri"
                                .into(),
                        ),
                    },
                    false,
                )),
            ),
            (
                503,
                "",
                Err((
                    Refusal {
                        text: "a.example answered 503 with an empty reply".into(),
                        hint: None,
                    },
                    true,
                )),
            ),
        ] {
            let got = judge_authorization(&endpoint(), &reply(status, body), WALL);
            let got = got.map_err(|(refusal, passes)| {
                // The hints on what is on the way have tests of their own.
                let hint = refusal.hint.filter(|_| !passes);
                (Refusal { hint, ..refusal }, passes)
            });
            assert_eq!(got, wanted, "{body}");
        }
    }

    // Covers: 59, 60, 61, 62
    #[test]
    fn polls_mean_what_rows_59_to_62_say_and_the_deviations() {
        let pending = |secs: u64| format!("pending {secs}");
        for (outcome, lost, wanted) in [
            (
                reply(428, r#"{"error":"authorization_pending"}"#),
                false,
                pending(5),
            ),
            (reply(403, r#"{"error":"slow_down"}"#), false, pending(10)),
            (
                reply(200, r#"{"error":"slow_down","interval":30}"#),
                false,
                pending(30),
            ),
            (
                reply(200, r#"{"error":"authorization_pending"}"#),
                false,
                pending(5),
            ),
            (
                reply(400, r#"{"error":"authorization_pending"}"#),
                true,
                pending(5),
            ),
            (
                reply(400, r#"{"error":"expired_token"}"#),
                false,
                "expired: the code has expired before anybody entered it (expired_token) \
                 [sign in again for a new one]"
                    .into(),
            ),
            (
                reply(400, r#"{"error":"authorization_declined"}"#),
                false,
                "denied: the person who entered the code refused (authorization_declined)".into(),
            ),
            (
                reply(400, r#"{"error":"access_denied","error_description":"no"}"#),
                false,
                "denied: the person who entered the code refused (access_denied: no)".into(),
            ),
            (
                reply(400, r#"{"error":"bad_verification_code"}"#),
                false,
                "failed: the provider doesn't know the code (bad_verification_code)".into(),
            ),
            (
                reply(400, r#"{"error":"invalid_grant"}"#),
                true,
                "failed: the sign-in was agreed to, but the provider's reply was lost (invalid_grant) \
                 [sign in again]"
                    .into(),
            ),
            (
                reply(
                    200,
                    r#"{"access_token":"a","token_type":"bearer","refresh_token":"r"}"#,
                ),
                false,
                "granted a".into(),
            ),
            (
                Outcome::Lost("timeout".into()),
                false,
                "troubled, lost".into(),
            ),
            (
                Outcome::NotSent("no route".into()),
                false,
                "troubled".into(),
            ),
            (reply(502, "<html>"), false, "troubled".into()),
        ] {
            let interval = Duration::from_secs(5);
            let got = match judge_poll(&endpoint(), &[], interval, lost, &outcome, WALL) {
                Poll::Other(Verdict::Granted(tokens)) => format!("granted {}", tokens.access_token.expose()),
                Poll::Pending(interval) => pending(interval.as_secs()),
                Poll::Other(Verdict::Transient { cause, .. }) => match cause {
                    token::Cause::Lost => "troubled, lost".into(),
                    _ => "troubled".into(),
                },
                Poll::Expired(refusal) => format!("expired: {}", told(&refusal)),
                Poll::Denied(refusal) => format!("denied: {}", told(&refusal)),
                Poll::Other(Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal)) => {
                    format!("failed: {}", told(&refusal))
                }
            };
            assert_eq!(got, wanted, "{outcome:?}");
        }
    }

    #[test]
    fn trouble_doubles_the_interval_up_to_two_minutes() {
        let secs = |troubles| delay(INTERVAL, troubles).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 99].map(secs),
            [5, 10, 20, 40, 80, 120, 120]
        );
    }
}
