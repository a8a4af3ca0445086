//! TLS for `https://` redirects, with a certificate that is made at start and never stored.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{MsgFlags, recv};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};

use crate::serve::{Socket, Transport, Wrap};

use super::http::{self, StatusCode, TLS_HANDSHAKE};
use super::page;

/// The names that every certificate has.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The certificate's days: from before any clock that is merely wrong, to the last one that the
/// common date format of certificates holds. It dies with the daemon, long before.
const NOT_BEFORE: (i32, u8, u8) = (2000, 1, 1);
const NOT_AFTER: (i32, u8, u8) = (2049, 12, 31);

/// A certificate and its private key (PKCS #8), both in DER. (Whatever is freed is wiped, see
/// sys/alloc.rs.)
pub type IdentityDer = (Vec<u8>, Vec<u8>);

/// A key, its self-signed certificate, and what TLS needs of them.
pub struct Identity {
    config: Arc<ServerConfig>,
    /// What [`Identity::from_der`] makes the same of.
    pub der: IdentityDer,
    /// The certificate's SHA-256 fingerprint, as browsers show it: upper-case hex with colons.
    pub certificate_sha256: String,
    /// The public key itself (an uncompressed point), in the same form.
    pub public_key: String,
    /// The SHA-256 fingerprint of its SubjectPublicKeyInfo, in the same form.
    pub public_key_sha256: String,
}

impl Identity {
    /// A new key (ECDSA on P-256) with a certificate for the loopback names and for `hosts`
    /// (names or addresses, IPv6 ones with or without brackets).
    ///
    /// # Errors
    /// When a host can't stand in a certificate.
    pub fn generate(hosts: &[&str]) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = parameters(hosts)?
            .self_signed(&key)
            .map_err(io::Error::other)?;
        Identity::of(certificate.der().clone(), &key)
    }

    /// The identity that this is of.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn from_der((certificate, key): &IdentityDer) -> io::Result<Self> {
        let key = KeyPair::try_from(key.as_slice()).map_err(io::Error::other)?;
        Identity::of(certificate.clone().into(), &key)
    }

    fn of(certificate: CertificateDer<'static>, key: &KeyPair) -> io::Result<Self> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .map_err(io::Error::other)?;
        // A browser comes once or twice: there is nothing to gain from sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Identity {
            config: Arc::new(config),
            certificate_sha256: fingerprint(&certificate),
            public_key: hex(key.der_bytes()),
            public_key_sha256: fingerprint(&key.subject_public_key_info()),
            der: (certificate.to_vec(), key.serialize_der()),
        })
    }

    /// Puts TLS around a listener's connections.
    pub fn wrap(&self) -> Wrap {
        let config = Arc::clone(&self.config);
        Box::new(move |_| {
            let tls = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            Ok(Box::new(Tls {
                tls,
                begun: false,
                refusal: Vec::new(),
            }))
        })
    }
}

fn parameters(hosts: &[&str]) -> io::Result<CertificateParams> {
    let mut names: Vec<String> = LOOPBACK_NAMES.map(String::from).to_vec();
    for host in hosts {
        let name = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut parameters = CertificateParams::new(names).map_err(|error| {
        io::Error::new(
            ErrorKind::InvalidInput,
            format!("a certificate for the redirect hosts: {error}"),
        )
    })?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "pizauth (self-signed)");
    parameters.not_before = date_time_ymd(NOT_BEFORE.0, NOT_BEFORE.1, NOT_BEFORE.2);
    parameters.not_after = date_time_ymd(NOT_AFTER.0, NOT_AFTER.1, NOT_AFTER.2);
    // A user may tell a browser to trust it; it must not be able to vouch for others then.
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

fn fingerprint(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

struct Tls {
    tls: ServerConnection,
    /// The first byte was one of TLS.
    begun: bool,
    /// What is left to say, in clear, to a peer that doesn't speak TLS.
    refusal: Vec<u8>,
}

impl Tls {
    /// Looks whether it is TLS at all. A person who has typed `http://` deserves an answer.
    fn begin(&mut self, socket: &Socket) -> io::Result<()> {
        // What is there at the peer's end, too.
        let mut first = [TLS_HANDSHAKE];
        recv(socket.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)?;
        if first == [TLS_HANDSHAKE] {
            self.begun = true;
            return Ok(());
        }
        self.refusal = http::reply(StatusCode::BAD_REQUEST, &page::fixed("use_https"), false);
        let what = "plain http on the port of https";
        Err(io::Error::new(ErrorKind::InvalidData, what))
    }
}

impl Transport for Tls {
    fn read(&mut self, mut socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begin(socket)?;
        }
        match rustls::Stream::new(&mut self.tls, &mut socket).read(buffer) {
            // An end without close_notify; what is missing shows in the request.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            outcome => outcome,
        }
    }

    fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        self.tls.writer().write(bytes)
    }

    fn flush(&mut self, mut socket: &Socket) -> io::Result<()> {
        while !self.refusal.is_empty() {
            let written = socket.write(&self.refusal)?;
            self.refusal.drain(..written);
        }
        while self.begun && self.tls.wants_write() {
            self.tls.write_tls(&mut socket)?;
        }
        Ok(())
    }

    fn wants_write(&self) -> bool {
        !self.refusal.is_empty() || (self.begun && self.tls.wants_write())
    }

    fn end(&mut self) {
        if self.begun {
            self.tls.send_close_notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_of_what_they_say_and_differ_each_time() {
        let (one, two) = (
            Identity::generate(&[]).unwrap(),
            Identity::generate(&["Example.ORG", "[::1]"]).unwrap(),
        );
        assert_eq!(one.certificate_sha256, fingerprint(&one.der.0));
        assert_eq!(one.certificate_sha256.len(), 32 * 3 - 1);
        assert_eq!(one.public_key.len(), 65 * 3 - 1);
        assert!(one.public_key.starts_with("04:"), "{}", one.public_key);
        assert_eq!(one.public_key_sha256.len(), 32 * 3 - 1);
        assert_ne!(one.public_key_sha256, two.public_key_sha256);
        assert!(two.der.0.windows(11).any(|window| window == b"example.org"));
        assert!(Identity::generate(&["bü"]).is_err());
    }
}
