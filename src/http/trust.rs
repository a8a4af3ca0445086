//! Why TLS failed, and what to do about it, in plain words.

use std::{env, ffi::OsString, fmt::Debug, fs, io, path::Path};

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, Error,
    pki_types::{ServerName, UnixTime},
};

use crate::oauth::token::Refusal;

/// The error of TLS that is behind one of a stream.
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn failure(what: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(what).hint(Some(hint))
}

/// Why TLS failed: what an error of rustls means for the user.
pub fn tls_failure(error: &Error) -> Refusal {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        // The platform's verifier has found nothing to trust.
        Error::General(what) => Refusal::new(unreadable().unwrap_or_else(|| what.clone())),
        Error::PeerIncompatible(_)
        | Error::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::ProtocolVersion,
        ) => failure(
            "the server has no TLS version, cipher or signature in common with pizauth",
            "it should offer TLS 1.2 or 1.3 with ECDHE, and a key of RSA, P-256, P-384 or Ed25519",
        ),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Refusal::new("the server wants a client certificate, which pizauth doesn't have")
        }
        Error::AlertReceived(alert) => Refusal::new(format!(
            "the server refused TLS with the alert \"{}\"",
            spelt_out(alert)
        )),
        Error::InvalidMessage(_) => failure(
            "the answer is not TLS",
            "check the address and its port; a proxy or the network's sign-in page may have answered",
        ),
        Error::PeerMisbehaved(how) => Refusal::new(format!(
            "the server broke the rules of TLS: {}",
            spelt_out(how)
        )),
        other => Refusal::new(format!("TLS failed: {other}")),
    }
}

fn certificate(error: &CertificateError) -> Refusal {
    let clock = |words: &str, limit: &UnixTime, time: &UnixTime| {
        format!(
            "the server's certificate {words} {} (this machine's clock says {})",
            date(limit),
            date(time)
        )
    };
    let invalid =
        |why: String| Refusal::new(format!("the server's certificate is not valid: {why}"));
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => failure(
            "the server's certificate is from an unknown authority (self-signed, or a corporate proxy that \
             inspects TLS?)",
            &authority_hint(),
        ),
        CertificateError::ExpiredContext { time, not_after } => failure(
            clock("expired on", not_after, time),
            "set the clock if it is wrong; otherwise the server needs a new certificate",
        ),
        CertificateError::NotValidYetContext { time, not_before } => failure(
            clock("is valid only from", not_before, time),
            "set the clock if it is wrong",
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => other_name(expected, presented),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => failure(
            "the server's certificate has a kind of key or signature that pizauth doesn't support",
            "RSA, P-256, P-384 and Ed25519 are supported",
        ),
        CertificateError::Other(inner) if spelt_out(&inner.0) == "ca used as end entity" => {
            failure(
                "the server's certificate is self-signed and marked as an authority's (CA:TRUE)",
                "the server needs one that isn't (CA:FALSE)",
            )
        }
        CertificateError::Other(inner) => invalid(spelt_out(&inner.0)),
        other => invalid(spelt_out(other)),
    }
}

fn authority_hint() -> String {
    let named = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let unread = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
        .into_iter()
        .find(named);
    match (unreadable(), unread) {
        (Some(why), _) => why,
        (None, Some(name)) if !named(&"SSL_CERT_FILE") => {
            format!("pizauth doesn't read {name}: set SSL_CERT_FILE to that file as well")
        }
        (None, _) => "if you trust it, add its authority to the system's trust store, or name the \
                      authority's file in SSL_CERT_FILE"
            .into(),
    }
}

fn other_name(expected: &ServerName, presented: &[String]) -> Refusal {
    // They look like `DnsName("name")`.
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    let names: Vec<String> = presented.iter().take(3).map(bare).collect();
    let names = match names.is_empty() {
        true => "no name at all".into(),
        false => names.join(", "),
    };
    failure(
        format!(
            "the server's certificate is for {names}, not for {}",
            expected.to_str()
        ),
        "check the address; another server may have answered",
    )
}

/// What of the environment should name certificates to trust and doesn't.
fn unreadable() -> Option<String> {
    let wrong = |variable: &str, path: &Path, why: String| {
        Some(format!("{variable} names {}, which {why}", path.display()))
    };
    let unread = |error: io::Error| format!("can't be read: {error}");
    if let Some(file) = env::var_os("SSL_CERT_FILE") {
        let path = Path::new(&file);
        let why = match fs::read(path) {
            Err(error) => Some(unread(error)),
            Ok(text) => (!has_certificate(&text)).then(|| "has no certificate in PEM form".into()),
        };
        if let Some(why) = why {
            return wrong("SSL_CERT_FILE", path, why);
        }
    }
    let dirs: OsString = env::var_os("SSL_CERT_DIR")?;
    let mut failed =
        env::split_paths(&dirs).filter_map(|dir| Some((fs::read_dir(&dir).err()?, dir)));
    let (error, dir) = failed.next()?;
    wrong("SSL_CERT_DIR", &dir, unread(error))
}

fn has_certificate(text: &[u8]) -> bool {
    let begin = b"-----BEGIN CERTIFICATE-----";
    text.windows(begin.len()).any(|window| window == begin)
}

pub(super) fn date(time: &UnixTime) -> String {
    let secs = i64::try_from(time.as_secs()).ok();
    let time = secs.and_then(|secs| Timestamp::from_second(secs).ok());
    time.map_or_else(String::new, |time| {
        time.strftime("%Y-%m-%d %H:%M UTC").to_string()
    })
}

/// The name of a variant, as words: `NoCipherSuite` is "no cipher suite".
fn spelt_out(name: &impl Debug) -> String {
    let mut words = String::new();
    for char in format!("{name:?}").chars() {
        if char.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(char.to_lowercase());
    }
    words
}
