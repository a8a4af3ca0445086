//! A token endpoint for many refreshes: a thread a connection, kept alive, after a delay.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{
    HandshakeKind, ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer,
};

pub struct Server {
    pub base: String,
    /// The certificate that clients must trust, as a file.
    pub certificate: Option<PathBuf>,
    counts: Arc<Counts>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// TLS handshakes with all that belongs to one, and those that went on with an earlier session.
    full: AtomicUsize,
    resumed: AtomicUsize,
}

impl Server {
    /// Answers after `delay`.
    pub fn tls(delay: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = dir.path().join("certificate.pem");
        std::fs::write(&file, key.cert.pem()).unwrap();
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![key.cert.der().clone()],
                    PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
                )
                .unwrap();
        Self::start(dir, "https", Some(file), Some(Arc::new(config)), delay)
    }

    /// Never answers.
    pub fn hanging() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start(dir, "http", None, None, Duration::from_secs(3600))
    }

    fn start(
        dir: tempfile::TempDir,
        scheme: &str,
        certificate: Option<PathBuf>,
        tls: Option<Arc<ServerConfig>>,
        delay: Duration,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!(
            "{scheme}://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let counts = Arc::new(Counts::default());
        let theirs = counts.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, counts, tls) = (stream.unwrap(), theirs.clone(), tls.clone());
                counts.connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let stream = StreamOwned::new(connection, stream);
                        serve(stream, &counts, delay, |tls| {
                            match tls.conn.handshake_kind() {
                                Some(HandshakeKind::Resumed) => &counts.resumed,
                                _ => &counts.full,
                            }
                        });
                    }
                    None => serve(stream, &counts, delay, |_| &counts.resumed),
                });
            }
        });
        Server {
            base,
            certificate,
            counts,
            _dir: dir,
        }
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Full and resumed TLS handshakes.
    pub fn handshakes(&self) -> [usize; 2] {
        [&self.counts.full, &self.counts.resumed].map(|count| count.load(Ordering::Relaxed))
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Relaxed)
    }
}

/// `shaken` is what counts the handshake, once it is known.
fn serve<'a, S: Read + Write>(
    mut stream: S,
    counts: &Counts,
    delay: Duration,
    shaken: impl FnOnce(&S) -> &'a AtomicUsize,
) {
    let mut shaken = Some(shaken);
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some(end) = whole(&input) else {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => input.extend_from_slice(&buffer[..count]),
                _ => return,
            }
            continue;
        };
        input.drain(..end);
        if let Some(shaken) = shaken.take() {
            shaken(&stream).fetch_add(1, Ordering::Relaxed);
        }
        let number = counts.requests.fetch_add(1, Ordering::Relaxed);
        // why: the delay is the server's.
        thread::sleep(delay);
        let body = format!(
            r#"{{"access_token":"{number:0>1800}","token_type":"Bearer","expires_in":3600}}"#
        );
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream
            .write_all((head + &body).as_bytes())
            .and_then(|()| stream.flush())
            .is_err()
        {
            return;
        }
    }
}

/// Where the first request of `input` ends, once it is whole.
fn whole(input: &[u8]) -> Option<usize> {
    let head = input.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&input[..head]).to_lowercase();
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))?
        .trim()
        .parse()
        .ok()?;
    (input.len() >= head + length).then_some(head + length)
}
