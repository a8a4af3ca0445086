//! A browser stand-in: opens the authorization URL and follows it to the loopback redirect, over
//! http and, without a look at the certificate, https.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use url::{Position, Url};

use super::PATIENCE;
use super::http::{Pairs, Response, read_response, write_request};
use super::wait::try_until;

/// How many redirects the browser follows: a sign-in has one, a wandering provider a few more.
const MAX_HOPS: usize = 10;

/// What the browser shows in the end.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is.
    pub url: Url,
    pub response: Response,
    /// The server's certificate, of an https page.
    pub certificate: Option<Vec<u8>>,
    /// Every URL on the way, the first and the last included.
    pub hops: Vec<Url>,
}

impl Page {
    pub fn status(&self) -> u16 {
        self.response.status
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name)
    }

    pub fn text(&self) -> String {
        self.response.text()
    }

    /// What stands between the title tags.
    pub fn title(&self) -> String {
        let text = self.text();
        let after = text.split_once("<title>").map_or("", |(_, after)| after);
        after
            .split("</title>")
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Opens `url` and follows its redirects. Panics when a server can't be reached: see [`try_visit`].
pub fn visit(url: &str) -> Page {
    try_visit(url).unwrap_or_else(|error| panic!("cannot visit {url}: {error}"))
}

/// Opens `url` and follows its redirects.
pub fn try_visit(url: &str) -> io::Result<Page> {
    let mut next = parse(url)?;
    let mut hops = Vec::new();
    loop {
        let mut page = request("GET", &next, &Pairs::default(), b"")?;
        hops.push(next.clone());
        let redirected = (300..400).contains(&page.status());
        let location = page.header("Location").filter(|_| redirected);
        let Some(location) = location.map(str::to_owned) else {
            page.hops = hops;
            return Ok(page);
        };
        if hops.len() > MAX_HOPS {
            return Err(invalid("too many redirects"));
        }
        next = next
            .join(&location)
            .map_err(|error| invalid(&error.to_string()))?;
    }
}

/// Opens `url` and stays at that site: pizauth shows what it has to say at an address without the
/// code.
pub fn get(url: &str) -> Page {
    send("GET", url, &Pairs::default(), b"")
}

/// Follows `url` up to the redirect to the client, and gives that address without opening it:
/// what a user copies from a browser that runs elsewhere.
pub fn callback_of(url: &str) -> String {
    let page = get(url);
    let location = page
        .header("Location")
        .unwrap_or_else(|| panic!("no redirect: {page:?}"));
    location.to_owned()
}

/// Posts `pairs` as a form.
pub fn post(url: &str, pairs: &Pairs) -> Page {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")].into();
    send("POST", url, &headers, pairs.encode().as_bytes())
}

/// Sends one request, with `headers` beside (a `Host` there replaces the right one), and stays at
/// that site as [`get`] does.
pub fn send(method: &str, url: &str, headers: &Pairs, body: &[u8]) -> Page {
    let stay = |page: Page| match page.header("Location") {
        Some(path) if page.status() == 303 && path.starts_with('/') => {
            let next = page.url.join(path).expect("a path");
            let shown = request("GET", &next, headers, b"")?;
            Ok(Page {
                hops: vec![page.url, next],
                ..shown
            })
        }
        _ => Ok(page),
    };
    parse(url)
        .and_then(|url| request(method, &url, headers, body))
        .and_then(stay)
        .unwrap_or_else(|error| panic!("cannot {method} {url}: {error}"))
}

/// The first URL in `text`, such as what `show` says on stderr.
pub fn url_in(text: &str) -> String {
    text.split_whitespace()
        .find(|word| word.starts_with("http://") || word.starts_with("https://"))
        .unwrap_or_else(|| panic!("no URL in {text:?}"))
        .to_owned()
}

/// Sends a request; a page that shows the outcome later is looked at until it does.
fn request(method: &str, url: &Url, headers: &Pairs, body: &[u8]) -> io::Result<Page> {
    let mut last = None;
    try_until(|| {
        let page = last.insert(request_once(method, url, headers, body));
        let waits = page
            .as_ref()
            .is_ok_and(|page| page.status() == 202 && page.header("Refresh").is_some());
        (!waits).then_some(())
    });
    last.expect("a request")
}

/// Sends a request, and takes what comes.
pub fn request_once(method: &str, url: &Url, headers: &Pairs, body: &[u8]) -> io::Result<Page> {
    let host = url
        .host_str()
        .ok_or_else(|| invalid("URL without a host"))?;
    let port = url
        .port_or_known_default()
        .ok_or_else(|| invalid("URL without a port"))?;
    // The brackets of an IPv6 address belong to the URL, not to the address.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut all = headers.clone();
    if headers.header("Host").is_none() {
        all.0.push((
            "Host".into(),
            url[Position::BeforeHost..Position::AfterPort].into(),
        ));
    }
    all.0.push(("Connection".into(), "close".into()));
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let (response, certificate) = if url.scheme() == "https" {
        let mut tls = handshake(stream, host)?;
        let response = converse(&mut tls, method, target, &all, body)?;
        let certificates = tls.conn.peer_certificates().unwrap_or_default();
        (response, certificates.first().map(|der| der.to_vec()))
    } else {
        let mut stream = stream;
        (converse(&mut stream, method, target, &all, body)?, None)
    };
    Ok(Page {
        url: url.clone(),
        response,
        certificate,
        hops: vec![url.clone()],
    })
}

fn converse(
    stream: &mut (impl Read + Write),
    method: &str,
    target: &str,
    headers: &Pairs,
    body: &[u8],
) -> io::Result<Response> {
    write_request(stream, method, target, headers, body)?;
    read_response(&mut BufReader::new(stream), method)
}

/// TLS with whoever is there.
pub fn handshake(
    stream: TcpStream,
    host: &str,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| invalid(&error.to_string()))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// A user who clicks every warning away; the signatures must still be right.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn parse(url: &str) -> io::Result<Url> {
    Url::parse(url).map_err(|error| invalid(&error.to_string()))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
