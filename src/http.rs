//! HTTP to providers: one POST or GET, and what came of it. Certificates are checked against the
//! system's trust store, redirects aren't followed, replies are bounded. Nothing of TLS is loaded
//! before the first request.

mod names;

use std::{
    io::{self, Read},
    time::Duration,
};

use nix::errno::Errno;
use ureq::{
    Agent, Error, Timeout,
    config::Config,
    http,
    tls::{RootCerts, TlsConfig},
    unversioned::transport::DefaultConnector,
};
use url::Url;
use zeroize::Zeroizing;

pub use self::names::LookUp;
use self::names::{Names, NoAddress};
use crate::{
    config::is_loopback,
    oauth::{
        metadata::{self, Metadata, Miss, MissKind},
        token::{MAX_BODY_BYTES, Outcome, Reply, Request},
    },
    secret::{Secret, SecretBytes},
};

/// How long a request may take from name lookup to the last byte: half a minute with the second
/// that ureq takes longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(29);

/// How long a connection is kept for the next request: long enough for accounts that are due
/// together, shorter than any server keeps it. One that the server closes while a request is on its
/// way looks like a lost reply.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// How many connections are kept for the next request, of one server and of all: one for each of the
/// daemon's workers. With fewer, requests that end together close what the next ones open again.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// How much of a reply a connection has room for at once, in bytes: the head must fit as a whole, and
/// a longer one than this isn't understood anyway.
const READ_BUFFER: usize = 64 << 10;

/// How much of a request a connection has room for at once, in bytes: a line of the head must fit as
/// a whole, and is configured or a URL.
const WRITE_BUFFER: usize = 32 << 10;

/// How much of a reply is read, in bytes: one more than is understood, so that a reply which is too
/// long can be told from one that was lost.
const MAX_READ: u64 = MAX_BODY_BYTES as u64 + 1;

/// What every reply is to be.
const JSON: &str = "application/json";

/// An agent for each way out: what stays on this machine never goes through a proxy.
pub struct Agents {
    direct: Agent,
    proxied: Agent,
}

impl Default for Agents {
    fn default() -> Self {
        Agents::new()
    }
}

impl Agents {
    /// No connection is made yet.
    pub fn new() -> Self {
        Agents::build(None)
    }

    /// The same, and names are looked up elsewhere.
    pub fn asking(elsewhere: LookUp) -> Self {
        Agents::build(Some(elsewhere))
    }

    fn build(elsewhere: Option<LookUp>) -> Self {
        // The process's default; another library can't have set one, so the result says nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = |proxy| {
            Config::builder()
                .timeout_global(Some(REQUEST_TIMEOUT))
                .http_status_as_error(false)
                .max_idle_age(MAX_IDLE)
                .max_idle_connections(MAX_IDLE_CONNECTIONS)
                .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
                .input_buffer_size(READ_BUFFER)
                .output_buffer_size(WRITE_BUFFER)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("pizauth/", env!("CARGO_PKG_VERSION")))
                .proxy(proxy)
                .tls_config(
                    TlsConfig::builder()
                        .root_certs(RootCerts::PlatformVerifier)
                        .build(),
                )
                .build()
        };
        let agent = |proxy| {
            let names = Names::asking(elsewhere.clone());
            Agent::with_parts(config(proxy), DefaultConnector::default(), names)
        };
        Agents {
            direct: agent(None),
            proxied: agent(ureq::Proxy::try_from_env()),
        }
    }

    /// POSTs one form, unless a secret in it belongs to another registration than the endpoint does.
    pub fn post(&self, request: &Request) -> Outcome {
        if !request.may_be_sent() {
            log::error!("a bug: a request with another registration's secret isn't sent");
            return Outcome::NotSent("a secret in it belongs to another registration".into());
        }
        let idle = match request.only_once {
            true => Duration::ZERO,
            false => MAX_IDLE,
        };
        let mut post = self
            .toward(&request.endpoint)
            .post(request.endpoint.as_str())
            .config()
            .max_idle_age(idle)
            .build()
            .header(http::header::ACCEPT, JSON)
            .header(
                http::header::CONTENT_TYPE,
                "application/x-www-form-urlencoded",
            );
        for header in &request.headers {
            post = post.header(&header.name, header.value.expose());
        }
        match post.send(request.form.expose().as_bytes()) {
            Ok(response) => read(response),
            Err(error) => failed(&error),
        }
    }

    /// GETs a document.
    pub fn get(&self, url: &Url) -> Outcome {
        let get = self.toward(url).get(url.as_str());
        match get.header(http::header::ACCEPT, JSON).call() {
            Ok(response) => read(response),
            Err(error) => failed(&error),
        }
    }

    /// POSTs a JSON object, with a bearer token (RFC 6750, 2.1) if there is one.
    pub fn post_json(&self, url: &Url, json: &str, token: Option<&Secret>) -> Outcome {
        let mut post = self.toward(url).post(url.as_str());
        post = post.header(http::header::ACCEPT, JSON);
        post = post.header(http::header::CONTENT_TYPE, JSON);
        if let Some(token) = token {
            let value = Zeroizing::new(format!("Bearer {}", token.expose()));
            post = post.header(http::header::AUTHORIZATION, value.as_str());
        }
        match post.send(json) {
            Ok(response) => read(response),
            Err(error) => failed(&error),
        }
    }

    /// What an issuer says of itself, for a command that waits for it.
    ///
    /// # Errors
    /// Why there is nothing to be believed.
    pub fn metadata(&self, issuer: &str) -> Result<Metadata, Miss> {
        let mut missed: Option<Miss> = None;
        for url in metadata::well_known(issuer) {
            match metadata::judge(issuer, &url, &self.get(&url)) {
                Ok(metadata) => return Ok(metadata),
                Err(miss) => missed = Some(miss.worse(missed)),
            }
            if matches!(&missed, Some(miss) if miss.kind == MissKind::Unreachable) {
                break;
            }
        }
        Err(missed.unwrap_or_else(|| metadata::no_issuer(issuer)))
    }

    fn toward(&self, endpoint: &Url) -> &Agent {
        match is_loopback(endpoint) {
            true => &self.direct,
            false => &self.proxied,
        }
    }
}

fn read(response: http::Response<ureq::Body>) -> Outcome {
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let status = response.status().as_u16();
    let retry_after = header(http::header::RETRY_AFTER);
    let location = header(http::header::LOCATION);
    // ureq's own limit is an error; here the rest just isn't read.
    let mut reader = response.into_body().into_reader().take(MAX_READ);
    let mut body = SecretBytes::default();
    match reader.read_to_end(&mut body) {
        Ok(_) => Outcome::Reply(Reply {
            status,
            retry_after,
            location,
            body,
        }),
        Err(error) => Outcome::Lost(format!("the reply couldn't be read: {error}")),
    }
}

/// Whether anything of the request may have reached the endpoint decides whether a code may be
/// sent again.
fn failed(error: &Error) -> Outcome {
    let text = match error {
        // Without ureq's "io: ", which tells a user nothing.
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    let not_sent = match error {
        Error::Other(other) if other.is::<NoAddress>() => return Outcome::NotSent(other.to_string()),
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::InvalidProxyUrl
        | Error::ConnectProxyFailed(_)
        | Error::Tls(_)
        // No certificates to trust, or no name to check: a handshake's errors come as Io.
        | Error::Rustls(_)
        | Error::BadUri(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) if is_famine(error) => true,
        Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::NotFound
                // rustls' word for a handshake that failed.
                | io::ErrorKind::InvalidData
        ),
        _ => false,
    };
    match not_sent {
        true => Outcome::NotSent(text),
        false => Outcome::Lost(text),
    }
}

/// Whether there was no descriptor for a socket: one that exists never says so.
fn is_famine(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, sync::Arc, thread};

    use super::*;
    use crate::secret::{Mark, Secret};

    /// Whoever has mixed up two registrations in the core has still sent nothing.
    // Covers: H16
    #[test]
    fn a_secret_of_another_registration_goes_nowhere() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = |bound: Option<&[u8]>| {
            let form = Secret::new("refresh_token=t".into());
            if let Some(description) = bound {
                form.bind(Mark::of(description));
            }
            Request {
                endpoint: Url::parse(&format!("http://127.0.0.1:{port}/token")).unwrap(),
                under: Mark::of(b"ours"),
                form: Arc::new(form),
                headers: Vec::new(),
                only_once: true,
            }
        };
        let agents = Agents::new();
        for bound in [None, Some(&b"theirs"[..])] {
            let outcome = agents.post(&request(bound));
            assert!(matches!(outcome, Outcome::NotSent(_)), "{outcome:?}");
        }
        listener.set_nonblocking(true).unwrap();
        let nobody = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(nobody, Err(io::ErrorKind::WouldBlock));
        listener.set_nonblocking(false).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .unwrap();
            // What was asked is read, so that the answer isn't lost with the connection.
            let mut asked = String::new();
            let _ = stream.read_to_string(&mut asked);
            asked
        });
        let outcome = agents.post(&request(Some(b"ours")));
        drop(agents);
        assert!(matches!(outcome, Outcome::Reply(_)), "{outcome:?}");
        assert!(server.join().unwrap().ends_with("refresh_token=t"));
    }
}
