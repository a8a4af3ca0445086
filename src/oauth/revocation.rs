//! The revocation endpoint (RFC 7009): telling the provider that a token is no longer wanted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    client::{Credentials, Endpoint},
    message::{Outcome, Refusal, Reply, Request, authority},
    reply::ProviderError,
    token::parse_retry_after,
};
use crate::{secret::Secret, time::Wall};

/// Which of its tokens the provider is asked to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenType {
    /// And with it the access tokens that it has brought (RFC 7009, 2.1).
    Refresh,
    /// On its own.
    Access,
}

impl TokenType {
    /// The `token_type_hint`.
    fn hint(self) -> &'static str {
        match self {
            TokenType::Refresh => "refresh_token",
            TokenType::Access => "access_token",
        }
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The token is no longer any good.
    Done,
    /// The provider won't do it.
    Refused(Refusal),
    /// Nothing is known: try again.
    Later {
        /// What happened.
        refusal: Refusal,
        /// The provider asked to be left alone for so long.
        retry_after: Option<Duration>,
    },
}

/// The request that has `token` revoked (RFC 7009, 2.1).
pub fn request(
    endpoint: Endpoint,
    client_id: &str,
    credentials: &Credentials,
    token_type: TokenType,
    token: &Secret,
) -> Request {
    let fields = [
        ("token", token.into()),
        ("token_type_hint", token_type.hint().into()),
        ("client_id", client_id.into()),
    ];
    credentials.request(endpoint, &fields)
}

/// Judges the reply (RFC 7009, 2.2): any success will do, and a token that the provider doesn't
/// know needs no revocation.
pub fn judge(endpoint: &Url, outcome: &Outcome, wall: Wall) -> Verdict {
    let host = authority(endpoint);
    let later = |text: String, retry_after| Verdict::Later {
        refusal: Refusal::new(text),
        retry_after,
    };
    let reply = match outcome.reply(&host) {
        Ok(reply) => reply,
        Err(text) => return later(text, None),
    };
    match reply.status {
        200..=299 => Verdict::Done,
        status @ (300..=399 | 407 | 408 | 425 | 429 | 500..=599) => {
            let now = reply.date.unwrap_or(wall);
            let retry_after = reply.retry_after.as_deref();
            let retry_after = retry_after.and_then(|value| parse_retry_after(value, now));
            later(format!("{host} answered {status}"), retry_after)
        }
        status => refused(&host, status, reply),
    }
}

fn refused(host: &str, status: u16, reply: &Reply) -> Verdict {
    let refusal = match ProviderError::of(reply) {
        Some(error) if error.code == "invalid_token" => return Verdict::Done,
        Some(error) => {
            let hint = "the provider doesn't revoke tokens of this kind";
            let kind = error.code == "unsupported_token_type";
            Refusal::new(error.sentence()).hint(kind.then_some(hint))
        }
        None => {
            let hint = matches!(status, 404 | 405).then_some("check revocation_uri");
            Refusal::new(format!("{host} answered {status}")).hint(hint)
        }
    };
    Verdict::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>, body: &str) -> Outcome {
        Outcome::Reply(Reply {
            status,
            retry_after: retry_after.map(str::to_owned),
            date: None,
            location: None,
            body: Vec::from(body).into(),
            ..Reply::default()
        })
    }

    #[test]
    fn replies_mean_done_refused_or_later() {
        let done = || "done".to_owned();
        for (outcome, wanted) in [
            (reply(200, None, ""), done()),
            (reply(204, None, ""), done()),
            (reply(200, None, "<html>"), done()),
            (reply(400, None, r#"{"error":"invalid_token"}"#), done()),
            (
                reply(400, None, r#"{"error":"unsupported_token_type"}"#),
                "refused: unsupported_token_type \
                 [the provider doesn't revoke tokens of this kind]"
                    .into(),
            ),
            (
                reply(
                    401,
                    None,
                    r#"{"error":"invalid_client","error_description":"who?"}"#,
                ),
                "refused: invalid_client: who?".into(),
            ),
            (
                reply(404, None, "nothing"),
                "refused: a.example answered 404 [check revocation_uri]".into(),
            ),
            (
                reply(503, Some("7"), ""),
                "later 7s: a.example answered 503".into(),
            ),
            (reply(302, None, ""), "later: a.example answered 302".into()),
            (
                Outcome::NotSent("no\nroute".into()),
                "later: a.example: no route".into(),
            ),
            (
                Outcome::Lost("timeout".into()),
                "later: a.example: the reply was lost: timeout".into(),
            ),
        ] {
            let endpoint = Url::parse("https://a.example/revoke").unwrap();
            let told = |refusal: Refusal| match refusal.hint {
                Some(hint) => format!("{} [{hint}]", refusal.text),
                None => refusal.text,
            };
            let got = match judge(&endpoint, &outcome, Wall::from_millis(0)) {
                Verdict::Done => "done".into(),
                Verdict::Refused(refusal) => format!("refused: {}", told(refusal)),
                Verdict::Later {
                    refusal,
                    retry_after: Some(span),
                } => format!("later {span:?}: {}", told(refusal)),
                Verdict::Later { refusal, .. } => format!("later: {}", told(refusal)),
            };
            assert_eq!(got, wanted);
        }
    }
}
