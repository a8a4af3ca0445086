//! The token endpoint (RFC 6749, 3.2): request forms, and the verdict on a reply.

use std::{sync::Arc, time::Duration};

use url::Url;

use crate::{secret::Secret, time::Wall};

/// What the daemon's HTTP shell brings back from a token endpoint: a reply or how it failed.
#[derive(Debug)]
pub enum Outcome {
    /// The endpoint answered.
    Reply(Reply),
    /// Nothing of the request was sent: name lookup, connection, TLS handshake or proxy failed.
    /// The text says why, without the request.
    NotSent(String),
    /// The request may have arrived, but no whole reply came back.
    Lost(String),
}

/// An HTTP reply of the token endpoint.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After` (RFC 9110, 10.2.3), if any.
    pub retry_after: Option<String>,
    /// The value of `Location`, if any: only ever shown, never followed.
    pub location: Option<String>,
    /// The body; holds secrets when the request succeeded.
    pub body: zeroize::Zeroizing<Vec<u8>>,
}

/// What was asked of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// `authorization_code` (RFC 6749, 4.1.3).
    AuthorizationCode,
    /// `refresh_token` (RFC 6749, 6).
    RefreshToken,
}

/// A request to a token endpoint: an HTTP POST of `form` to `endpoint`.
#[derive(Debug)]
pub struct Request {
    /// Where to, and nowhere else.
    pub endpoint: Url,
    /// `application/x-www-form-urlencoded` body, encoded.
    pub form: Arc<Secret>,
}

/// The tokens of a successful reply (RFC 6749, 5.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The access token: printable ASCII without spaces.
    pub access_token: Secret,
    /// The refresh token, when the reply carried a non-empty one.
    pub refresh_token: Option<Secret>,
    /// How long the access token lives, from when the request was sent; `None` when the provider
    /// didn't say anything usable.
    pub expires_in: Option<Duration>,
    /// Oddities worth one line in the log each; safe to show.
    pub warnings: Vec<String>,
}

/// Why the provider, or the way to it, didn't give tokens. Safe to show: no secret, no control
/// characters, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The provider's own words, or what happened on the way.
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// What an outcome means. There are exactly these four.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Tokens.
    Granted(Tokens),
    /// The provider's definite word: somebody has to sign in.
    LoginNeeded(Refusal),
    /// The configuration is wrong: neither a retry nor a sign-in helps.
    Parked(Refusal),
    /// Anything else: keep the tokens and try again later.
    Transient {
        /// What happened.
        refusal: Refusal,
        /// The provider asked to be left alone for so long.
        retry_after: Option<Duration>,
    },
}

/// Judges what came back for a request of `grant_type`; `requested_scopes` are those of the
/// registration, `endpoint` names the host in messages, `wall` is needed for a `Retry-After` that
/// is a date.
pub fn judge(
    _grant_type: GrantType,
    _endpoint: &Url,
    _requested_scopes: &[String],
    _outcome: &Outcome,
    _wall: Wall,
) -> Verdict {
    Verdict::Transient {
        refusal: Refusal {
            text: String::new(),
            hint: None,
        },
        retry_after: None,
    }
}
