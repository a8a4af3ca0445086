//! What goes to a provider's endpoints and what comes back, as this module and the HTTP shell
//! exchange it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Url, form_urlencoded};

use super::client::Assertion;
use crate::{
    config::Header,
    secret::{Mark, Scrubber, Secret, SecretBytes},
    text::sanitize,
    time::{Instant, Wall},
};

pub use crate::view::Refusal;

/// How long a reply may be, in bytes: a hundred times the longest known, and no burden.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The fields and headers that hold no secret, and may well be named in an error.
const NO_SECRETS: &str = "\
    accept audience client_assertion_type client_id grant_type origin redirect_uri referer \
    resource scope token_type_hint user-agent";

fn is_secret(name: &str) -> bool {
    !NO_SECRETS
        .split(' ')
        .any(|it| it.eq_ignore_ascii_case(name))
}

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
    /// What else the provider knows and may repeat: secrets of its own that aren't in the form.
    pub known: Vec<Arc<Secret>>,
    /// What has to be signed when it is sent; its fields belong to the form.
    pub assertion: Option<Assertion>,
    /// When the answer is too late; `None` when somebody waits for it to sign in.
    pub due: Option<Instant>,
}

impl Request {
    /// Whether all the secrets in it were issued under the registration that names the endpoint.
    pub fn may_be_sent(&self) -> bool {
        self.form.belongs_to(self.under)
    }

    /// What no text may repeat that answers it: all that is sent but names of things.
    pub fn secrets(&self) -> Scrubber {
        let mut secrets = Scrubber::default();
        for (name, value) in form_urlencoded::parse(self.form.expose().as_bytes()) {
            if is_secret(&name) {
                secrets.add(&value);
            }
        }
        for header in &self.headers {
            let value = header.value.expose();
            if is_secret(&header.name) {
                secrets.add(value);
                secrets.add(&password(value).unwrap_or_default());
            }
        }
        (self.known.iter()).for_each(|known| secrets.add(known.expose()));
        secrets
    }
}

/// The password in HTTP Basic's header, which is form-encoded there (RFC 6749, 2.3.1).
fn password(header: &str) -> Option<String> {
    let credentials = header.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    let text = format!("={password}");
    let mut decoded = form_urlencoded::parse(text.as_bytes());
    decoded.next().map(|(_, password)| password.into_owned())
}

/// What the daemon's HTTP shell brings back from an endpoint: a reply or how it failed.
#[derive(Debug)]
pub enum Outcome {
    /// The endpoint answered.
    Reply(Reply),
    /// Nothing of the request was sent: name lookup, connection, TLS handshake or proxy failed.
    /// The text says why, without the request's secrets.
    NotSent(String),
    /// The request may have arrived, but no whole reply came back: why, without its secrets.
    Lost(String),
}

impl Outcome {
    /// The reply, or what has happened instead on the way to `host` and back.
    pub(super) fn reply(&self, host: &str) -> Result<&Reply, String> {
        match self {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::NotSent(why) => Err(format!("{host}: {}", sanitize(why))),
            Outcome::Lost(why) => Err(format!("{host}: the reply was lost: {}", sanitize(why))),
        }
    }
}

/// An HTTP reply.
#[derive(Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After` (RFC 9110, 10.2.3), if any.
    pub retry_after: Option<String>,
    /// What time it was where it came from, if it said (`Date`, RFC 9110, 6.6.1): the times in it
    /// count from there, since either clock may be wrong.
    pub date: Option<Wall>,
    /// The value of `Location`, if any, without the request's secrets: only ever shown, never
    /// followed.
    pub location: Option<String>,
    /// The value of `WWW-Authenticate` (RFC 9110, 11.6.1), if any: of a protected resource.
    pub challenge: Option<String>,
    /// The body; holds secrets when the request succeeded.
    pub body: SecretBytes,
    /// What none of its texts may repeat: [`Request::secrets`].
    pub sent: Scrubber,
}

/// Host, and port unless it is the scheme's own.
pub(super) fn authority(uri: &Url) -> String {
    let host = uri.host_str().unwrap_or("nowhere");
    match uri.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
