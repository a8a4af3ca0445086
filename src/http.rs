//! HTTP to providers: one POST or GET, and what came of it. Certificates are checked against the
//! system's trust store, redirects aren't followed, replies are bounded. Nothing of TLS is loaded
//! before the first request.

pub mod assertion;
mod coding;
mod connect;
mod head;
mod mail_exchangers;
mod names;
mod trust;

use std::{env, ffi::OsString, io::Read, time::Duration};

use ureq::{
    Agent, Error, Proxy,
    config::Config,
    http,
    tls::{RootCerts, TlsConfig},
};
use url::Url;

use self::{
    connect::{Connect, STEP_TIMEOUT},
    names::NotConnected,
};
pub use self::{
    connect::{poll_timeout, race},
    mail_exchangers::mail_exchangers,
    names::{LookUp, Names, look_up},
    trust::{tls_error, tls_failure},
};
use crate::{
    config::is_loopback,
    oauth::{
        metadata::{self, Gaps, Metadata, Miss, MissKind},
        token::{CUT, MAX_BODY_BYTES, Outcome, Reply, Request, parse_http_date},
    },
    secret::{Scrubber, Secret, SecretBytes},
};

/// How long a request may take from name lookup to the last byte: half a minute with the second
/// that ureq takes longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(29);

/// How long all of connecting may take, with a proxy and a second address: what is left is enough for
/// an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(21);

/// How many connections are kept for the next request: none. What a server sends without being asked
/// would be taken for the answer to it, and so one account's token for another's. TLS sessions are
/// resumed, so that another connection costs a round trip rather than a check of certificates.
const MAX_IDLE_CONNECTIONS: usize = 0;

/// How much of a reply a connection has room for at once, in bytes: any line of the head must fit, with
/// all the cookies of a proxy, and so must those that are read.
const READ_BUFFER: usize = 128 << 10;

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
    /// Or why the proxy of the environment can't be used: without it nothing is sent elsewhere.
    proxied: Result<Agent, String>,
}

impl Default for Agents {
    /// No connection is made yet.
    fn default() -> Self {
        Agents::asking(&Names::default())
    }
}

impl Agents {
    /// The same, and names are looked up there.
    pub fn asking(names: &Names) -> Self {
        Agents::build(names, STEP_TIMEOUT)
    }

    fn build(names: &Names, step: Duration) -> Self {
        // The process's default; another library can't have set one, so the result says nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = |proxy| {
            Config::builder()
                .timeout_global(Some(REQUEST_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .http_status_as_error(false)
                .max_idle_connections(MAX_IDLE_CONNECTIONS)
                .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
                .input_buffer_size(READ_BUFFER)
                .max_response_header_size(READ_BUFFER)
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
            let connect = Connect::new(step);
            Agent::with_parts(config(proxy), connect, names.clone())
        };
        Agents {
            direct: agent(None),
            proxied: proxy().map(agent),
        }
    }

    /// POSTs one form, unless a secret in it belongs to another registration than the endpoint does.
    pub fn post(&self, request: &Request) -> Outcome {
        if !request.may_be_sent() {
            log::error!("a bug: a request with another registration's secret isn't sent");
            return Outcome::NotSent("a secret in it belongs to another registration".into());
        }
        self.ask(&request.endpoint, request.secrets(), |agent| {
            let form = "application/x-www-form-urlencoded";
            let post = agent
                .post(request.endpoint.as_str())
                .header(http::header::ACCEPT, JSON)
                .header(http::header::CONTENT_TYPE, form);
            let headers = request.headers.iter();
            let post = headers.fold(post, |post, it| post.header(&it.name, it.value.expose()));
            post.send(request.form.expose().as_bytes())
        })
    }

    /// GETs a document.
    pub fn get(&self, url: &Url) -> Outcome {
        self.ask(url, Scrubber::default(), |agent| {
            let get = agent.get(url.as_str());
            get.header(http::header::ACCEPT, JSON).call()
        })
    }

    /// POSTs a JSON object, with a bearer token (RFC 6750, 2.1) if there is one.
    pub fn post_json(&self, url: &Url, json: &str, token: Option<&Secret>) -> Outcome {
        let mut sent = Scrubber::default();
        token.inspect(|token| sent.add(token.expose()));
        self.ask(url, sent, |agent| {
            let mut post = agent
                .post(url.as_str())
                .header(http::header::ACCEPT, JSON)
                .header(http::header::CONTENT_TYPE, JSON);
            if let Some(token) = token {
                let value = format!("Bearer {}", token.expose());
                post = post.header(http::header::AUTHORIZATION, value);
            }
            post.send(json)
        })
    }

    /// What an issuer says of itself, for a command that waits for it to write an account with it.
    ///
    /// # Errors
    /// Why there is nothing to be believed.
    pub fn metadata(&self, issuer: &str) -> Result<Metadata, Miss> {
        let mut missed: Option<Miss> = None;
        for url in metadata::well_known(issuer) {
            match metadata::judge(issuer, &url, &self.get(&url), [Gaps::ALL]) {
                Ok(metadata) => return Ok(metadata),
                Err(miss) => missed = Some(miss.worse(missed)),
            }
            if matches!(&missed, Some(miss) if miss.kind == MissKind::Unreachable) {
                break;
            }
        }
        Err(missed.unwrap_or_else(|| metadata::no_issuer(issuer)))
    }

    /// What comes of a request to `url`; no text of it has what was `sent`.
    fn ask(
        &self,
        url: &Url,
        sent: Scrubber,
        send: impl FnOnce(&Agent) -> Result<http::Response<ureq::Body>, Error>,
    ) -> Outcome {
        match &self.proxied {
            _ if is_loopback(url) => outcome(send(&self.direct), sent),
            Ok(agent) => outcome(send(agent), sent),
            Err(why) => Outcome::NotSent(why.clone()),
        }
    }
}

/// The proxy of the environment.
///
/// # Errors
/// Which variable names one that can't be used. Its value may hold a password.
fn proxy() -> Result<Option<Proxy>, String> {
    // In ureq's order, which goes on after one that it doesn't understand.
    let mut variables =
        "ALL_PROXY all_proxy HTTPS_PROXY https_proxy HTTP_PROXY http_proxy".split(' ');
    let value = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let named = variables.find_map(|name| Some((name, value(name)?)));
    let usable = |value: &OsString| value.to_str().is_some_and(|it| Proxy::new(it).is_ok());
    match named {
        Some((name, value)) if !usable(&value) => Err(format!(
            "{name} names no proxy that can be used: it should look like http://proxy.example:3128 or \
             socks5h://proxy.example:1080"
        )),
        _ => Ok(Proxy::try_from_env()),
    }
}

/// What came of a request. Its own secrets are in no text of it; those in the body aren't read here.
fn outcome(answer: Result<http::Response<ureq::Body>, Error>, sent: Scrubber) -> Outcome {
    let clean = |text: String| sent.scrub(&text, CUT);
    match answer.map_or_else(|error| failed(&error), read) {
        Outcome::NotSent(why) => Outcome::NotSent(clean(why)),
        Outcome::Lost(why) => Outcome::Lost(clean(why)),
        Outcome::Reply(reply) => Outcome::Reply(Reply {
            location: reply.location.map(clean),
            sent,
            ..reply
        }),
    }
}

fn read(response: http::Response<ureq::Body>) -> Outcome {
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let status = response.status().as_u16();
    let retry_after = header(http::header::RETRY_AFTER);
    let date = header(http::header::DATE).and_then(|value| parse_http_date(&value));
    let location = header(http::header::LOCATION);
    let challenge = header(http::header::WWW_AUTHENTICATE);
    // More than one line of it means the same as one (RFC 9110, 5.3).
    let codings = response.headers().get_all(http::header::CONTENT_ENCODING);
    let codings: Vec<_> = codings
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let codings = codings.join(",");
    // ureq's own limit is an error; here the rest just isn't read.
    let mut reader = response.into_body().into_reader().take(MAX_READ);
    let mut body = SecretBytes::default();
    if let Err(error) = reader.read_to_end(&mut body) {
        return Outcome::Lost(format!("the reply couldn't be read: {error}"));
    }
    match coding::decode(&codings, body) {
        Ok(body) => Outcome::Reply(Reply {
            status,
            retry_after,
            date,
            location,
            challenge,
            body,
            sent: Scrubber::default(),
        }),
        Err(why) => Outcome::Lost(format!("a reply with status {status}: {why}")),
    }
}

/// Whether anything of the request may have reached the endpoint decides whether a code may be
/// sent again.
fn failed(error: &Error) -> Outcome {
    match error {
        Error::Other(why) if why.is::<NotConnected>() => Outcome::NotSent(why.to_string()),
        Error::BadUri(_) | Error::Http(_) => Outcome::NotSent(error.to_string()),
        // Without ureq's "io: ", which tells a user nothing.
        Error::Io(error) => Outcome::Lost(error.to_string()),
        other => Outcome::Lost(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
