//! The shapes in which an access token is handed to other programs, named by both ends.

use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize, de::IntoDeserializer};

/// What `show`'s one line looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// Its kind.
    #[serde(default, skip_serializing_if = "Format::is_raw")]
    pub format: Format,
    /// With the ID token in place of the access token (OpenID Connect Core 1.0, 2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub id_token: bool,
    /// For the SASL formats, the mailbox's name; the config's `login_hint` when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// For OAUTHBEARER, the server's name (RFC 7628, 3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// For OAUTHBEARER, the server's port (RFC 7628, 3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The kind of a [`Form`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The token alone.
    #[default]
    Raw,
    /// A header field of HTTP (RFC 6750, 2.1).
    Bearer,
    /// An object with that header field, for programs that ask a command for headers.
    Headers,
    /// An object with the token and what is known of it.
    Json,
    /// An ExecCredential, for kubectl and other clients of Kubernetes.
    Kubernetes,
    /// A SASL initial response, in base64: what most mail servers know.
    Xoauth2,
    /// A SASL initial response, in base64 (RFC 7628).
    Oauthbearer,
}

impl Format {
    /// The format with this name.
    pub fn named(name: &str) -> Option<Self> {
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        Format::deserialize(name).ok()
    }

    fn is_raw(&self) -> bool {
        *self == Format::Raw
    }
}
