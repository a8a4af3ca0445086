//! What goes to a provider's endpoints and what comes back, as this module and the HTTP shell
//! exchange it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    config::Header,
    secret::{Mark, Secret, SecretBytes},
    time::Wall,
};

/// How long a reply may be, in bytes: a hundred times the longest known, and no burden.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A request to one of a provider's endpoints: an HTTP POST of `form` to `endpoint`.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to, and nowhere else.
    pub endpoint: Url,
    /// The registration that names the endpoint.
    pub under: Mark,
    /// `application/x-www-form-urlencoded` body, encoded.
    pub form: Arc<Secret>,
    /// Further headers: the client's proof, and those that are configured.
    pub headers: Vec<Header>,
    /// It can't be sent again, so it needs a connection of its own: one that was idle may be closed
    /// by the server while the request is on its way.
    pub only_once: bool,
}

impl Request {
    /// Whether all the secrets in it were issued under the registration that names the endpoint.
    pub fn may_be_sent(&self) -> bool {
        self.form.belongs_to(self.under)
    }
}

/// What the daemon's HTTP shell brings back from an endpoint: a reply or how it failed.
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

/// An HTTP reply.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After` (RFC 9110, 10.2.3), if any.
    pub retry_after: Option<String>,
    /// What time it was where it came from, if it said (`Date`, RFC 9110, 6.6.1): the times in it
    /// count from there, since either clock may be wrong.
    pub date: Option<Wall>,
    /// The value of `Location`, if any: only ever shown, never followed.
    pub location: Option<String>,
    /// The body; holds secrets when the request succeeded.
    pub body: SecretBytes,
}

/// Why the provider, or the way to it, didn't give tokens. Safe to show: no secret, no control
/// characters, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The provider's own words, or what happened on the way.
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal in these words, without a hint.
    pub fn new(text: impl Into<String>) -> Self {
        Refusal {
            text: text.into(),
            hint: None,
        }
    }

    /// The refusal and its hint as one line.
    pub fn line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.text),
            None => self.text.clone(),
        }
    }
}

/// Host, and port unless it is the scheme's own.
pub(super) fn authority(uri: &Url) -> String {
    let host = uri.host_str().unwrap_or("nowhere");
    match uri.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
