//! Where an account's access tokens come from: `grant`, or `token_cmd`.

use serde::{Deserialize, Serialize};

use super::{
    error::{ConfigError, quoted},
    section::Section,
    suggest::nearest,
};

/// What yields an account's access tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSource {
    /// A person signs in; from then on, the refresh token does.
    #[default]
    Person,
    /// The client asks for tokens of its own (RFC 6749, 4.4). There is no refresh token.
    ClientCredentials,
    /// This command prints them. There is no refresh token, and no provider that we know.
    Command(String),
}

/// The values of `grant`.
const GRANTS: [(&str, TokenSource); 2] = [
    ("authorization_code", TokenSource::Person),
    ("client_credentials", TokenSource::ClientCredentials),
];

/// The options that only a sign-in has a use for.
const OF_SIGN_INS: [&str; 4] = ["provider", "auth_uri", "device_auth_uri", "redirect_uri"];

/// The options that only requests have a use for.
const OF_REQUESTS: [&str; 12] = [
    "issuer",
    "token_uri",
    "revocation_uri",
    "allow_http",
    "client_id",
    "client_secret",
    "client_secret_cmd",
    "client_auth",
    "scopes",
    "token_uri_fields",
    "token_uri_headers",
    "grant",
];

impl TokenSource {
    /// Whether a person has to sign in first.
    pub fn is_person(&self) -> bool {
        *self == TokenSource::Person
    }

    /// Whether it is a provider that is asked.
    pub fn is_provider(&self) -> bool {
        !matches!(self, TokenSource::Command(_))
    }

    /// What a section says, whose other options must have a use then.
    pub(super) fn of(section: &Section) -> Result<Self, ConfigError> {
        let refuse = |option: &str, why: &str, hint: &str| {
            let place = section.place(option, cfgrammar::Span::new(0, 0));
            let what = format!("`{option}` has no use with {why}");
            Err(section.source.error(place, what).hint(hint))
        };
        let used = |options: &[&'static str]| {
            let mut options = options.iter().copied();
            options.find(|option| section.value(option).is_some())
        };
        if let Some(command) = section.filled_command("token_cmd")? {
            return match used(&OF_SIGN_INS).or(used(&OF_REQUESTS)) {
                Some(option) => refuse(
                    option,
                    "`token_cmd`",
                    "the command obtains the tokens, not pizauth: leave it out",
                ),
                None => Ok(TokenSource::Command(command.value.into_owned())),
            };
        }
        let Some(grant) = section.filled("grant")? else {
            return Ok(TokenSource::Person);
        };
        let found = GRANTS.into_iter().find(|(name, _)| *name == grant.value);
        let Some((name, source)) = found else {
            let what = format!("unknown grant {}", quoted(&grant.value));
            let near = nearest(&grant.value, GRANTS.iter().map(|(name, _)| *name));
            let hint = near.map(|near| format!("did you mean \"{near}\"?"));
            return Err(section.source.error(grant.span, what).maybe_hint(hint));
        };
        match used(&OF_SIGN_INS).filter(|_| !source.is_person()) {
            None => Ok(source),
            Some(option) => refuse(
                option,
                &format!("`grant = \"{name}\"`"),
                "nobody signs in to this account: name its endpoint by `token_uri` or `issuer`",
            ),
        }
    }

    /// Complains of a client without a secret and `client_auth`, if it must prove who it is.
    pub(super) fn check_secret(&self, section: &Section) -> Result<(), ConfigError> {
        match (self, section.value("grant")) {
            (TokenSource::ClientCredentials, Some(grant)) => {
                let what = "this grant needs a `client_secret` or a `client_secret_cmd`";
                let error = section.source.error(grant.span, what);
                Err(error
                    .hint("if the client proves who it is by headers, set `client_auth = none;`"))
            }
            _ => Ok(()),
        }
    }
}
