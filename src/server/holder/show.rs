//! What `show` prints: a token in the shape that was asked for, or why there is none.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::json;

use super::replies::{self, failure, no_account, not_yet, refused};
use crate::core::{AccessToken, Progress, ShowAnswer, ShowRequest};
use crate::error::{Exit, Failure};
use crate::{form::Format, oauth::sasl, time::humane, view::rfc3339, wire::Reply};

/// The line that answers an `ask`.
pub fn reply(asker: &ShowRequest, account: &str, answer: ShowAnswer) -> Reply {
    match answer {
        ShowAnswer::Token(handed) => put(asker, account, handed).unwrap_or_else(Reply::Failure),
        ShowAnswer::Not {
            progress,
            left,
            first,
        } => lacking(asker, progress, left, first),
        ShowAnswer::ShortLived { lifetime } => failure(
            Exit::TryLater,
            &format!(
                "no token is valid so long: the provider lets them live {}",
                humane(lifetime)
            ),
        ),
        ShowAnswer::NoIdToken => {
            let failure = Failure::new(Exit::Config, "the provider has sent no ID token");
            Reply::Failure(failure.hint("add the scope openid, and sign in again"))
        }
        ShowAnswer::Failed(refusal) => refused(
            Exit::AuthorisationNeeded,
            "the authorisation failed",
            refusal,
        ),
        ShowAnswer::Gone => no_account(account),
    }
}

fn lacking(asker: &ShowRequest, progress: Progress, left: Option<Duration>, first: bool) -> Reply {
    let token = match asker.form.id_token {
        true => "ID token",
        false => "Access token",
    };
    let state = match left {
        None if first => "No access token has been obtained yet".into(),
        // Scripts look for these words.
        None => format!("{token} has expired"),
        Some(left) => format!("{token} is valid for only {}", humane(left)),
    };
    let (coming, parked) = match first {
        true => ("One has been requested", ", and none can be"),
        false => (
            "Refreshing is in progress but has not yet succeeded",
            " and can not be refreshed",
        ),
    };
    let coming = format!("{state}. {coming}");
    match progress {
        Progress::Refreshing { trouble: None } => failure(Exit::TryLater, &coming),
        Progress::Refreshing {
            trouble: Some(refusal),
        } => refused(Exit::TryLater, &coming, refusal),
        Progress::Parked(refusal) => refused(Exit::Config, &format!("{state}{parked}"), refusal),
        progress => not_yet(asker.no_url, progress),
    }
}

fn put(asker: &ShowRequest, account: &str, handed: AccessToken) -> Result<Reply, Failure> {
    let form = &asker.form;
    let user = || form.user.as_deref().or(handed.login_hint.as_deref());
    let unfit = |sasl::Unfit| {
        let what = "a user or host that is empty or has control characters";
        Failure::new(Exit::Usage, what)
    };
    match form.format {
        Format::Raw => Ok(Reply::Token(handed.token)),
        Format::Bearer => {
            let line = format!("Authorization: Bearer {}", handed.token.expose());
            Ok(Reply::text(line))
        }
        Format::Headers => {
            let value = format!("Bearer {}", handed.token.expose());
            Ok(replies::json(&json!({ "Authorization": value })))
        }
        Format::Json => Ok(line(account, &handed)),
        Format::Kubernetes => {
            let mut status = json!({ "token": handed.token.expose() });
            if let (Some(at), Some(status)) = (handed.expires, status.as_object_mut()) {
                status.insert("expirationTimestamp".into(), rfc3339(at).into());
            }
            // What an exec plugin answers.
            let credential = json!({
                "apiVersion": "client.authentication.k8s.io/v1",
                "kind": "ExecCredential",
                "status": status,
            });
            Ok(replies::json(&credential))
        }
        Format::Xoauth2 => {
            let user = user().ok_or_else(|| {
                Failure::new(Exit::Usage, "no user: the account has no login_hint")
                    .hint("name the mailbox with `--user`")
            })?;
            let response = sasl::xoauth2(user, &handed.token).map_err(unfit)?;
            Ok(Reply::Token(Arc::new(response)))
        }
        Format::Oauthbearer => {
            let host = form.host.as_deref();
            let response = sasl::oauthbearer(user(), host, form.port, &handed.token);
            Ok(Reply::Token(Arc::new(response.map_err(unfit)?)))
        }
    }
}

/// `-f json`, as pizauth(1) documents it.
#[derive(Serialize)]
struct Line<'a> {
    token: &'a str,
    #[serde(rename = "type")]
    token_type: &'static str,
    expiry: Option<String>,
    expiry_unix: Option<i64>,
    scopes: &'a [String],
    account: &'a str,
    login_hint: Option<&'a str>,
    provider: Option<&'a str>,
}

fn line(account: &str, handed: &AccessToken) -> Reply {
    replies::json(&Line {
        token: handed.token.expose(),
        token_type: "Bearer",
        expiry: handed.expires.map(rfc3339),
        expiry_unix: handed.expires.map(crate::time::Wall::secs),
        scopes: &handed.scopes,
        account,
        login_hint: handed.login_hint.as_deref(),
        provider: handed.provider.as_deref(),
    })
}
