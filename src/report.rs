//! The JSON that scripts read: `status -j`, `watch -j`, `show -f json`, as pizauth(1) and
//! pizauth.sock(7) promise it. Flat, so that a shell can read it; times twice, as RFC 3339 in UTC
//! and as seconds since 1970; absent what there is nothing to say of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    time::Wall,
    view::{
        AccountView, DeviceView, DiscoveryState, DiscoveryView, Happening, News, Refusal,
        RenewalView, SignInView,
    },
};

/// Raised when a script that reads `status -j` would have to change.
pub const STATUS_FORMAT_VERSION: u32 = 1;

/// Raised when a script that reads `watch -j` would have to change.
pub const WATCH_FORMAT_VERSION: u32 = 1;

/// `status -j`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_FORMAT_VERSION`].
    pub status_format_version: u32,
    /// Every account, by name.
    pub accounts: Vec<AccountReport>,
    /// Why the state can't be saved, or what was saved not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
}

/// One account.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountReport {
    /// Its name.
    pub account: String,
    /// Whether `show` would print a token now.
    pub valid: bool,
    /// What the user has to do: `none`, `sign_in` or `config`.
    pub needs: String,
    /// Whether its endpoints are asked over a network without TLS.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// When the access token was asked for.
    #[serde(flatten, with = "obtained")]
    pub obtained: Option<Wall>,
    /// When it expires, unless the provider didn't say.
    #[serde(flatten, with = "expires")]
    pub expires: Option<Wall>,
    /// `none` (no tokens), `impossible`, `on_request`, `scheduled`, `under_way`, `failing`, `rejected`,
    /// `stopped`.
    pub refresh: String,
    /// When the next refresh is due.
    #[serde(flatten, with = "refresh_at")]
    pub refresh_at: Option<Wall>,
    /// Since when refreshes fail, are refused or have stopped.
    #[serde(flatten, with = "refresh_since")]
    pub refresh_since: Option<Wall>,
    /// How many have failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_failures: Option<u32>,
    /// Why the last didn't work or, when there are no tokens, what has become of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_error: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_hint: Option<String>,
    /// `none`, `discovering`, `pending`, `completing`, `failed`.
    pub sign_in: String,
    /// Since when it waits for the endpoints, is pending or being completed.
    #[serde(flatten, with = "sign_in_since")]
    pub sign_in_since: Option<Wall>,
    /// When the user was last asked.
    #[serde(flatten, with = "sign_in_reminded")]
    pub sign_in_reminded: Option<Wall>,
    /// The code to enter on any device, of a sign-in that is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_device: Option<DeviceReport>,
    /// Whether the address of its last page, or the code on it, is to be pasted into `redirect`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sign_in_paste: bool,
    /// Why the last sign-in ended without tokens, or why this one isn't completed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_error: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in_hint: Option<String>,
    /// Whose tokens these are, if they are somebody else's than the config's login_hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_user: Option<String>,
    /// What its issuer says of itself, if that was or will be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryReport>,
}

/// Where an account's provider is, as its issuer says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiscoveryReport {
    /// The issuer.
    pub issuer: String,
    /// `not_yet`, `under_way`, `done`, `failed`.
    pub state: String,
    /// The endpoints, once they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_uri: Option<String>,
    /// As above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_uri: Option<String>,
    /// As above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_auth_uri: Option<String>,
    /// As above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_uri: Option<String>,
    /// Since when it fails.
    #[serde(flatten, with = "since")]
    pub since: Option<Wall>,
    /// How often in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// When the next try is due; absent when it waits until they are needed.
    #[serde(flatten, with = "next")]
    pub next: Option<Wall>,
    /// Why the last didn't work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl DiscoveryReport {
    fn of(view: &DiscoveryView) -> Self {
        let bare = |state: &str| DiscoveryReport {
            issuer: view.issuer.clone(),
            state: state.into(),
            ..DiscoveryReport::default()
        };
        match &view.state {
            DiscoveryState::NotYet => bare("not_yet"),
            DiscoveryState::UnderWay => bare("under_way"),
            DiscoveryState::Done {
                auth_uri,
                token_uri,
                device_auth_uri,
                revocation_uri,
            } => DiscoveryReport {
                auth_uri: auth_uri.clone(),
                token_uri: Some(token_uri.clone()),
                device_auth_uri: device_auth_uri.clone(),
                revocation_uri: revocation_uri.clone(),
                ..bare("done")
            },
            DiscoveryState::Failed {
                since,
                failures,
                at,
                reason,
            } => DiscoveryReport {
                since: Some(*since),
                failures: Some(*failures),
                next: *at,
                error: Some(reason.text.clone()),
                hint: reason.hint.clone(),
                ..bare("failed")
            },
        }
    }
}

/// A code to enter on any device (RFC 8628).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceReport {
    /// What to enter.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// When the code expires.
    #[serde(flatten, with = "expires")]
    pub expires: Option<Wall>,
}

impl DeviceReport {
    fn of(view: &DeviceView) -> Self {
        DeviceReport {
            user_code: view.user_code.clone(),
            verification_uri: view.verification_uri.clone(),
            verification_uri_complete: view.verification_uri_complete.clone(),
            expires: Some(view.expires),
        }
    }
}

/// A line of `watch -j`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// [`WATCH_FORMAT_VERSION`].
    pub watch_format_version: u32,
    /// When it happened.
    #[serde(flatten, with = "time")]
    pub time: Option<Wall>,
    /// What happened.
    pub event: String,
    /// To which account, unless to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When the new access token expires, unless the provider didn't say.
    #[serde(flatten, with = "expires")]
    pub expires: Option<Wall>,
    /// How many refreshes have failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_failures: Option<u32>,
    /// When the next is due.
    #[serde(flatten, with = "refresh_at")]
    pub refresh_at: Option<Wall>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Every account, as `status -j` has it.
pub fn status(views: &[AccountView]) -> Status {
    Status {
        status_format_version: STATUS_FORMAT_VERSION,
        accounts: views.iter().map(account).collect(),
        state_error: None,
    }
}

/// One account, as `status -j` has it.
pub fn account(view: &AccountView) -> AccountReport {
    let mut account = AccountReport {
        account: view.account.clone(),
        valid: view.access.as_ref().is_some_and(|access| access.valid),
        needs: needs(view).into(),
        plain_http: view.plain,
        obtained: view.access.as_ref().map(|access| access.obtained),
        expires: view.access.as_ref().and_then(|access| access.expires),
        refresh: "none".into(),
        other_user: view.other_user.clone(),
        discovery: view.discovery.as_ref().map(DiscoveryReport::of),
        ..AccountReport::default()
    };
    match (&view.renewal, &view.lost) {
        (Some(renewal), _) => put_renewal(&mut account, renewal),
        (None, Some(why)) => {
            account.refresh_error = Some(why.text.clone());
            account.refresh_hint = why.hint.clone();
        }
        (None, None) => {}
    }
    put_sign_in(&mut account, &view.sign_in);
    account
}

/// What only the user can do: `none`, `sign_in` or `config`.
fn needs(view: &AccountView) -> &'static str {
    let valid = view.access.as_ref().is_some_and(|access| access.valid);
    // The user's part of it is done.
    let completing = matches!(view.sign_in, SignInView::Exchanging { .. });
    match &view.renewal {
        Some(RenewalView::Parked { .. }) => "config",
        _ if completing => "none",
        None | Some(RenewalView::Rejected { .. }) => "sign_in",
        Some(RenewalView::Impossible) if !valid => "sign_in",
        Some(
            RenewalView::Impossible
            | RenewalView::OnRequest
            | RenewalView::Scheduled { .. }
            | RenewalView::UnderWay
            | RenewalView::Failing { .. },
        ) => "none",
    }
}

fn put_renewal(account: &mut AccountReport, renewal: &RenewalView) {
    let mut put = |word: &str, at: Option<Wall>, since: Option<Wall>, why: Option<&Refusal>| {
        account.refresh = word.into();
        account.refresh_at = at;
        account.refresh_since = since;
        account.refresh_error = why.map(|why| why.text.clone());
        account.refresh_hint = why.and_then(|why| why.hint.clone());
    };
    match renewal {
        RenewalView::Impossible => put("impossible", None, None, None),
        RenewalView::OnRequest => put("on_request", None, None, None),
        RenewalView::Scheduled { at } => put("scheduled", Some(*at), None, None),
        RenewalView::UnderWay => put("under_way", None, None, None),
        RenewalView::Failing {
            since,
            failures,
            at,
            reason,
        } => {
            put("failing", Some(*at), Some(*since), Some(reason));
            account.refresh_failures = Some(*failures);
        }
        RenewalView::Rejected { since, reason } => {
            put("rejected", None, Some(*since), Some(reason));
        }
        RenewalView::Parked { since, at, reason } => {
            put("stopped", Some(*at), Some(*since), Some(reason));
        }
    }
}

fn put_sign_in(account: &mut AccountReport, sign_in: &SignInView) {
    let mut put = |word: &str, since: Option<Wall>, why: Option<&Refusal>| {
        account.sign_in = word.into();
        account.sign_in_since = since;
        account.sign_in_error = why.map(|why| why.text.clone());
        account.sign_in_hint = why.and_then(|why| why.hint.clone());
    };
    match sign_in {
        SignInView::None { failed: None } => put("none", None, None),
        SignInView::None { failed } => put("failed", None, failed.as_ref()),
        SignInView::Discovering { since } => put("discovering", Some(*since), None),
        SignInView::Pending {
            since,
            reminded,
            device,
            paste,
            failed,
        } => {
            put("pending", Some(*since), failed.as_ref());
            account.sign_in_device = device.as_ref().map(DeviceReport::of);
            account.sign_in_reminded = *reminded;
            account.sign_in_paste = *paste;
        }
        SignInView::Exchanging { since, trouble } => {
            put("completing", Some(*since), trouble.as_ref());
        }
    }
}

/// What a watcher hears first.
pub fn watching(at: Wall) -> Event {
    bare(at, "watching")
}

/// News, as `watch -j` has it.
pub fn event(news: &News) -> Event {
    let expiring = |word, expires: &Option<Wall>| Event {
        expires: *expires,
        ..bare(news.at, word)
    };
    let because = |word, reason: &Refusal| Event {
        error: Some(reason.text.clone()),
        hint: reason.hint.clone(),
        ..bare(news.at, word)
    };
    let event = match &news.what {
        Happening::TokenNew { expires } => expiring("token_new", expires),
        Happening::TokenRefreshed { expires } => expiring("token_refreshed", expires),
        Happening::TokenRestored { expires } => expiring("token_restored", expires),
        Happening::TokenInvalidated => bare(news.at, "token_invalidated"),
        Happening::TokenRevoked => bare(news.at, "token_revoked"),
        Happening::AuthorisationPending => bare(news.at, "authorisation_pending"),
        Happening::AuthorisationCompleting => bare(news.at, "authorisation_completing"),
        Happening::AuthorisationFailed { reason } => because("authorisation_failed", reason),
        Happening::AuthorisationCancelled { reason } => because("authorisation_cancelled", reason),
        Happening::AuthorisationNeeded { reason } => because("authorisation_needed", reason),
        Happening::RefreshFailing {
            failures,
            at,
            reason,
        } => Event {
            refresh_failures: Some(*failures),
            refresh_at: Some(*at),
            ..because("refresh_failing", reason)
        },
        Happening::RefreshRecovered => bare(news.at, "refresh_recovered"),
        Happening::RefreshStopped { reason } => because("refresh_stopped", reason),
        Happening::Reloaded => bare(news.at, "reloaded"),
    };
    Event {
        account: news.account.as_deref().map(str::to_owned),
        ..event
    }
}

fn bare(at: Wall, event: &str) -> Event {
    Event {
        watch_format_version: WATCH_FORMAT_VERSION,
        time: Some(at),
        event: event.into(),
        ..Event::default()
    }
}

/// A moment in UTC, to the second (RFC 3339, 5.6).
pub fn rfc3339(at: Wall) -> String {
    Timestamp::from_second(at.secs())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// A moment as two members, `name` and `name_unix`; neither without a moment.
macro_rules! moment {
    ($($module:ident: $name:literal, $unix:literal;)*) => {$(
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            use crate::time::Wall;

            #[derive(Serialize, Deserialize)]
            struct Both {
                #[serde(rename = $name, skip_serializing_if = "Option::is_none")]
                text: Option<String>,
                #[serde(rename = $unix, skip_serializing_if = "Option::is_none")]
                unix: Option<i64>,
            }

            pub fn serialize<S: Serializer>(at: &Option<Wall>, to: S) -> Result<S::Ok, S::Error> {
                Both {
                    text: at.map(crate::report::rfc3339),
                    unix: at.map(Wall::secs),
                }
                .serialize(to)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Wall>, D::Error> {
                let both = Both::deserialize(from)?;
                Ok(both.unix.map(|secs| Wall::from_millis(secs.saturating_mul(1000))))
            }
        }
    )*};
}

moment! {
    obtained: "obtained", "obtained_unix";
    expires: "expires", "expires_unix";
    refresh_at: "refresh_at", "refresh_at_unix";
    refresh_since: "refresh_since", "refresh_since_unix";
    sign_in_since: "sign_in_since", "sign_in_since_unix";
    sign_in_reminded: "sign_in_reminded", "sign_in_reminded_unix";
    since: "since", "since_unix";
    next: "next", "next_unix";
    time: "time", "time_unix";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::AccessView;

    const AT: Wall = Wall::from_millis(1_700_000_000_999);

    fn reason() -> Refusal {
        Refusal {
            text: "it said no".into(),
            hint: Some("ask again".into()),
        }
    }

    #[test]
    fn an_account_is_reported_as_the_manual_says() {
        let view = AccountView {
            user: None,
            other_user: None,
            account: "work".into(),
            access: Some(AccessView {
                valid: true,
                obtained: AT,
                expires: Some(AT),
            }),
            renewal: Some(RenewalView::Failing {
                since: AT,
                failures: 2,
                at: AT,
                reason: reason(),
            }),
            lost: None,
            plain: false,
            sign_in: SignInView::Pending {
                since: AT,
                reminded: None,
                device: None,
                paste: true,
                failed: Some(reason()),
            },
            discovery: None,
        };
        let text = serde_json::to_string(&status(std::slice::from_ref(&view))).unwrap();
        let at = "\"2023-11-14T22:13:20Z\"";
        assert_eq!(
            text,
            format!(
                "{{\"status_format_version\":1,\"accounts\":[{{\"account\":\"work\",\"valid\":true,\
                 \"needs\":\"none\",\"obtained\":{at},\"obtained_unix\":1700000000,\
                 \"expires\":{at},\"expires_unix\":1700000000,\"refresh\":\"failing\",\
                 \"refresh_at\":{at},\"refresh_at_unix\":1700000000,\
                 \"refresh_since\":{at},\
                 \"refresh_since_unix\":1700000000,\"refresh_failures\":2,\
                 \"refresh_error\":\"it said no\",\"refresh_hint\":\"ask again\",\
                 \"sign_in\":\"pending\",\"sign_in_since\":{at},\
                 \"sign_in_since_unix\":1700000000,\"sign_in_paste\":true,\"sign_in_error\":\"it said no\",\
                 \"sign_in_hint\":\"ask again\"}}]}}"
            )
        );
        let back: Status = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn what_the_user_has_to_do_is_one_word() {
        let access = |valid| {
            Some(AccessView {
                valid,
                obtained: AT,
                expires: Some(AT),
            })
        };
        let rejected = RenewalView::Rejected {
            since: AT,
            reason: reason(),
        };
        let parked = RenewalView::Parked {
            since: AT,
            at: AT,
            reason: reason(),
        };
        for (access, renewal, word) in [
            (None, None, "sign_in"),
            (access(true), Some(rejected), "sign_in"),
            (access(false), Some(RenewalView::Impossible), "sign_in"),
            (access(true), Some(RenewalView::Impossible), "none"),
            (access(true), Some(parked), "config"),
            (access(false), Some(RenewalView::UnderWay), "none"),
        ] {
            let view = AccountView {
                user: None,
                other_user: None,
                account: "work".into(),
                access,
                renewal,
                lost: None,
                plain: false,
                sign_in: SignInView::None { failed: None },
                discovery: None,
            };
            assert_eq!(account(&view).needs, word, "{view:?}");
            let completing = AccountView {
                sign_in: SignInView::Exchanging {
                    since: AT,
                    trouble: Some(reason()),
                },
                ..view
            };
            let rest = if word == "config" { word } else { "none" };
            assert_eq!(account(&completing).needs, rest, "{completing:?}");
        }
    }

    #[test]
    fn tokens_that_are_lost_and_codes_that_are_stuck_come_with_the_reason() {
        let view = AccountView {
            user: None,
            other_user: None,
            account: "work".into(),
            access: None,
            renewal: None,
            lost: Some(reason()),
            plain: false,
            sign_in: SignInView::Exchanging {
                since: Wall::from_millis(1_700_000_000_000),
                trouble: Some(reason()),
            },
            discovery: None,
        };
        let reported = account(&view);
        assert_eq!(reported.refresh, "none");
        assert_eq!(reported.refresh_error.as_deref(), Some("it said no"));
        assert_eq!(reported.sign_in, "completing");
        assert_eq!(reported.sign_in_hint.as_deref(), Some("ask again"));
    }

    #[test]
    fn what_an_issuer_says_is_reported_and_read_back() {
        for (state, text) in [
            (DiscoveryState::NotYet, "\"state\":\"not_yet\""),
            (DiscoveryState::UnderWay, "\"state\":\"under_way\""),
            (
                DiscoveryState::Done {
                    auth_uri: Some("https://a.example/auth".into()),
                    token_uri: "https://a.example/token".into(),
                    device_auth_uri: None,
                    revocation_uri: None,
                },
                "\"state\":\"done\",\"auth_uri\":\"https://a.example/auth\",\
                 \"token_uri\":\"https://a.example/token\"",
            ),
            (
                DiscoveryState::Failed {
                    since: AT,
                    failures: 3,
                    at: None,
                    reason: reason(),
                },
                "\"state\":\"failed\",\"since\":\"2023-11-14T22:13:20Z\",\
                 \"since_unix\":1700000000,\"failures\":3,\"error\":\"it said no\",\
                 \"hint\":\"ask again\"",
            ),
        ] {
            let view = DiscoveryView {
                issuer: "https://a.example".into(),
                state,
            };
            let found = DiscoveryReport::of(&view);
            let wanted = format!("{{\"issuer\":\"https://a.example\",{text}}}");
            assert_eq!(serde_json::to_string(&found).unwrap(), wanted);
            let back: DiscoveryReport = serde_json::from_str(&wanted).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), wanted);
        }
    }

    #[test]
    fn news_is_one_flat_object() {
        let news = News {
            at: AT,
            account: Some("work".into()),
            what: Happening::AuthorisationFailed { reason: reason() },
        };
        let text = serde_json::to_string(&event(&news)).unwrap();
        assert_eq!(
            text,
            "{\"watch_format_version\":1,\"time\":\"2023-11-14T22:13:20Z\",\
             \"time_unix\":1700000000,\"event\":\"authorisation_failed\",\"account\":\"work\",\
             \"error\":\"it said no\",\"hint\":\"ask again\"}"
        );
        let back: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(back.event, "authorisation_failed");
    }
}
