//! Where an account's access tokens come from: `grant`, or `token_cmd`.

use cfgrammar::Span;
use serde::{Deserialize, Serialize};

use super::{
    error::{ConfigError, quoted},
    section::Section,
    value::Text,
};

/// What yields an account's access tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSource {
    /// A person signs in; from then on, the refresh token does.
    #[default]
    Person,
    /// The client asks for tokens of its own (RFC 6749, 4.4). There is no refresh token.
    ClientCredentials,
    /// The client signs what it asks with (RFC 7523, 2.1).
    JwtBearer {
        /// The file of the key, and of whose it is.
        key_file: String,
        /// For whom, if not for the key's own account.
        subject: Option<String>,
    },
    /// This command prints them. There is no refresh token, and no provider that we know.
    Command(String),
}

/// The options that only a sign-in has a use for.
const OF_SIGN_INS: &str = "provider auth_uri device_auth_uri redirect_uri";

/// Those, and the options that only requests have a use for.
const OF_PROVIDERS: &str = "provider auth_uri device_auth_uri redirect_uri issuer token_uri \
    revocation_uri allow_http client_id client_secret client_secret_cmd client_auth scopes \
    resource token_uri_fields token_uri_headers grant client_key client_certificate";

/// What an account has no use for whose key says who it is.
const OF_CLIENTS: &str = "provider auth_uri device_auth_uri redirect_uri client_id client_secret \
    client_secret_cmd client_auth client_key client_certificate";

impl TokenSource {
    /// Whether a person has to sign in first.
    pub fn is_person(&self) -> bool {
        *self == TokenSource::Person
    }

    /// Whether the config says who the client is.
    pub fn has_client_id(&self) -> bool {
        matches!(self, TokenSource::Person | TokenSource::ClientCredentials)
    }

    /// Whether it is a provider that is asked.
    pub fn is_provider(&self) -> bool {
        !matches!(self, TokenSource::Command(_))
    }

    /// What a section says, whose other options must have a use then.
    pub(super) fn of(section: &Section) -> Result<Self, ConfigError> {
        let command = section.filled_command("token_cmd")?;
        let key_file = section.filled("key_file")?;
        let subject = section.filled("subject")?;
        let grant = section.filled("grant")?;
        let text = |it: &Text| it.value.clone().into_owned();
        let word = grant.as_ref().map(|text| &*text.value);
        let (source, by, useless, hint) = match (command, word) {
            (Some(command), _) => (
                TokenSource::Command(command.value.into_owned()),
                "token_cmd",
                OF_PROVIDERS,
                "the command obtains the tokens, not pizauth: leave it out",
            ),
            (None, Some("client_credentials")) => (
                TokenSource::ClientCredentials,
                "client_credentials",
                OF_SIGN_INS,
                "this account needs no sign-in: name its endpoint by `token_uri` or `issuer`",
            ),
            (None, Some("jwt_bearer")) => (
                TokenSource::JwtBearer {
                    key_file: key_file.as_ref().map(text).unwrap_or_default(),
                    subject: subject.as_ref().map(text),
                },
                "jwt_bearer",
                OF_CLIENTS,
                "the file that `key_file` names says who the client is: leave it out",
            ),
            (None, None | Some("authorization_code")) => (TokenSource::Person, "", "", ""),
            (None, Some(other)) => {
                let what = format!("unknown grant {}", quoted(other));
                let place = section.place("grant", Span::new(0, 0));
                let hint = "it is \"authorization_code\", \"client_credentials\" or \"jwt_bearer\"";
                return Err(section.source.error(place, what).hint(hint));
            }
        };
        if let (true, Some(text)) = (by != "jwt_bearer", key_file.or(subject)) {
            let what = "`key_file` and `subject` need `grant = \"jwt_bearer\"`";
            return Err(section.source.error(text.span, what));
        }
        let is_set = |option: &&str| section.value(option).is_some();
        if let Some(option) = useless.split(' ').find(is_set) {
            let place = section.place(option, Span::new(0, 0));
            let what = format!("`{option}` has no use with `{by}`");
            return Err(section.source.error(place, what).hint(hint));
        }
        Ok(source)
    }

    /// Complains of a client without a secret and `client_auth`, if it must prove who it is.
    pub(super) fn check_secret(&self, section: &Section) -> Result<(), ConfigError> {
        match (self, section.value("grant")) {
            (TokenSource::ClientCredentials, Some(grant)) => {
                let what =
                    "this grant needs a `client_secret`, a `client_secret_cmd` or a `client_key`";
                let error = section.source.error(grant.span, what);
                Err(error
                    .hint("if the client proves who it is by headers, set `client_auth = none;`"))
            }
            (TokenSource::JwtBearer { .. }, Some(grant)) => Err(section
                .source
                .error(grant.span, "this grant needs a `key_file`")),
            _ => Ok(()),
        }
    }
}
