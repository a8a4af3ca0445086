//! An access token, and what the server knows about it, for commands that use it themselves.

use serde::{Deserialize, Deserializer};

use super::{ask, read};
use crate::{
    error::Failure,
    form::{Form, Format},
    secret::Secret,
    wire::{Request, ShowArgs},
};

/// A token as the server hands it out.
#[derive(Debug, Deserialize)]
pub(super) struct Held {
    #[serde(deserialize_with = "secret")]
    pub token: Secret,
    /// When it expires, in seconds since 1970, unless the provider didn't say.
    pub expiry_unix: Option<i64>,
    /// For whom, as the config has it.
    #[serde(default)]
    pub login_hint: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
    String::deserialize(d).map(Secret::new)
}

/// Asks for a token, as `show` does.
pub(super) fn fetch(args: ShowArgs) -> Result<Held, Failure> {
    let form = Form {
        format: Format::Json,
        ..Form::default()
    };
    read(&ask(&Request::Show(ShowArgs { form, ..args }))?)
}
