//! An access token, and what the server knows about it, for commands that use it themselves.

use serde::Deserialize;

use super::{ask, read};
use crate::{
    error::{Exit, Failure},
    form::{Form, Format},
    secret::{Secret, plain},
    wire::{Request, ShowArgs, is_silence},
};

/// How long a token must be valid unless the user says otherwise, in seconds: from here to the end
/// of the last sign-in with it, through a proxy and to a slow server. Nobody here keeps it longer.
const MIN_VALID_SECS: u64 = 60;

/// A token as the server hands it out.
#[derive(Debug, Deserialize)]
pub struct Held {
    #[serde(deserialize_with = "plain::deserialize")]
    /// The token.
    pub token: Secret,
    /// When it expires, in seconds since 1970, unless the provider didn't say.
    pub expiry_unix: Option<i64>,
    /// For whom, as the config has it.
    #[serde(default)]
    pub login_hint: Option<String>,
    /// The host that it came from, or the issuer's.
    #[serde(default)]
    pub provider: Option<String>,
    /// Granted or, where the provider doesn't say, asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// Asks for a token that lasts for a while, and waits for a refresh if that takes one. If nobody has
/// said for how long, the one that there is will do.
pub fn fetch_to_use(args: ShowArgs) -> Result<Held, Failure> {
    if args.min_valid_secs.is_some() {
        return fetch(args);
    }
    let lasting = ShowArgs {
        min_valid_secs: Some(MIN_VALID_SECS),
        ..args.clone()
    };
    fetch(lasting).or_else(|failure| match failure.exit {
        Exit::TryLater if !is_silence(&failure) => fetch(ShowArgs {
            wait_secs: None,
            ..args
        })
        .map_err(|_| failure),
        _ => Err(failure),
    })
}

/// Asks for a token, as `show` does.
pub(super) fn fetch(args: ShowArgs) -> Result<Held, Failure> {
    let form = Form {
        format: Format::Json,
        ..Form::default()
    };
    read(&ask(&Request::Show(ShowArgs { form, ..args }))?)
}
