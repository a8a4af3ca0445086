//! TLS in front of a scripted provider, with certificates good and bad, and the kind of proxy that
//! TLS goes through.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::{Pairs, read_request, read_response, write_request};
use super::wait::Watched;

/// A certification authority of the test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    own: Face,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let own = face(certificate.der().clone(), &key);
        let pem = certificate.pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem, own }
    }

    /// For SSL_CERT_FILE.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A good certificate for `name`.
    pub fn certify(&self, name: &str) -> Face {
        self.certify_all(&[name])
    }

    /// A good certificate for all of `names`.
    pub fn certify_all(&self, names: &[&str]) -> Face {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).expect("names"))
    }

    /// One that was good until long ago.
    pub fn certify_formerly(&self, name: &str) -> Face {
        let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    /// One that is good only from long after today.
    pub fn certify_some_day(&self, name: &str) -> Face {
        let mut params = CertificateParams::new(vec![name.into()]).expect("a name");
        params.not_before = date_time_ymd(2201, 1, 1);
        params.not_after = date_time_ymd(2202, 1, 1);
        self.sign(params)
    }

    /// Its own certificate, as a server that was set up in a hurry shows it.
    pub fn own_face(&self) -> Face {
        self.own.clone()
    }

    fn sign(&self, params: CertificateParams) -> Face {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        face(certificate.der().clone(), &key)
    }
}

/// What a front shows to its clients.
#[derive(Clone, Debug)]
pub enum Face {
    /// TLS with a certificate.
    Tls(Arc<ServerConfig>),
    /// Something that isn't TLS at all.
    Plain,
    /// Takes connections and says nothing, until it shows something else.
    Silent,
}

/// A certificate for `name` that nobody vouches for.
pub fn self_signed(name: &str) -> Face {
    let made = rcgen::generate_simple_self_signed(vec![name.into()]).expect("a certificate");
    face(made.cert.der().clone(), &made.signing_key)
}

fn face(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> Face {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("a certificate with its key");
    Face::Tls(Arc::new(config))
}

/// Takes requests over TLS and passes them on to a provider, one a connection. Its thread ends
/// with the tests.
pub struct Front {
    pub port: u16,
    face: Arc<Watched<Face>>,
}

impl Front {
    /// In front of the provider at `port`.
    pub fn start(port: u16, face: Face) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let face = Arc::new(Watched::new(face));
        let theirs = Arc::clone(&face);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let face = theirs.read(Face::clone);
                // A client that doesn't like what it sees is the test's business.
                thread::spawn(move || pass_on(stream, face, port));
            }
        });
        Front { port: own, face }
    }

    /// Shows another face from now on.
    pub fn show(&self, face: Face) {
        self.face.change(|shown| *shown = face);
    }
}

fn pass_on(mut stream: TcpStream, face: Face, port: u16) -> io::Result<()> {
    let config = match face {
        Face::Tls(config) => config,
        Face::Plain => return stream.write_all(b"220 mail.example ESMTP\r\n"),
        // Until the client has had enough.
        Face::Silent => return io::copy(&mut stream, &mut io::sink()).map(|_| ()),
    };
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let Some(request) = read_request(&mut BufReader::new(&mut tls))? else {
        return Ok(());
    };
    let mut behind = TcpStream::connect(("127.0.0.1", port))?;
    let (method, target) = (&request.method, &request.target);
    let mut headers = Pairs::default();
    for (name, value) in request.headers.0 {
        if !name.eq_ignore_ascii_case("content-length") {
            headers.0.push((name, value));
        }
    }
    write_request(&mut behind, method, target, &headers, &request.body)?;
    let mut response = read_response(&mut BufReader::new(&behind), method)?;
    let kept = |name: &str| !name.eq_ignore_ascii_case("content-length");
    response.headers.0.retain(|(name, _)| kept(name));
    response
        .headers
        .0
        .push(("Connection".into(), "close".into()));
    tls.write_all(&response.to_bytes())?;
    tls.conn.send_close_notify();
    tls.flush()
}

/// A proxy that knows CONNECT (RFC 9110, 9.3.6) and SOCKS 5 (RFC 1928), and goes to one place wherever
/// it is asked to.
pub struct Tunnel {
    pub port: u16,
    asked: Arc<Watched<Vec<String>>>,
}

impl Tunnel {
    /// It leads to `port`.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let asked = Arc::new(Watched::default());
        let theirs = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&theirs);
                thread::spawn(move || tunnel(stream, port, &asked));
            }
        });
        Tunnel { port: own, asked }
    }

    /// The first line of each request until now; of SOCKS, the name and port.
    pub fn asked(&self) -> Vec<String> {
        self.asked.read(Vec::clone)
    }
}

fn tunnel(stream: TcpStream, port: u16, asked: &Watched<Vec<String>>) -> io::Result<()> {
    let mut version = [0];
    if stream.peek(&mut version)? == 1 && version == [5] {
        let target = socks(&stream)?;
        asked.change(|asked| asked.push(target));
        return relay(&stream, port);
    }
    // One byte at a time, so that nothing of what follows the head is taken.
    let Some(request) = read_request(&mut BufReader::with_capacity(1, &stream))? else {
        return Ok(());
    };
    asked.change(|asked| asked.push(format!("{} {}", request.method, request.target)));
    if request.method != "CONNECT" {
        return (&stream).write_all(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n");
    }
    (&stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    relay(&stream, port)
}

/// Where a client of SOCKS wants to go, which it then believes to be at.
fn socks(mut stream: &TcpStream) -> io::Result<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    io::copy(&mut stream.take(head[1].into()), &mut io::sink())?;
    stream.write_all(&[5, 0])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    assert_eq!(head[..4], [5, 1, 0, 3], "CONNECT to a name");
    let mut name = vec![0; usize::from(head[4])];
    let mut port = [0; 2];
    stream.read_exact(&mut name)?;
    stream.read_exact(&mut port)?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let name = String::from_utf8_lossy(&name);
    Ok(format!("SOCKS {name}:{}", u16::from_be_bytes(port)))
}

fn relay(stream: &TcpStream, port: u16) -> io::Result<()> {
    let behind = TcpStream::connect(("127.0.0.1", port))?;
    let (mut there, mut from) = (behind.try_clone()?, stream.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut there);
        let _ = there.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut &behind, &mut &*stream);
    let _ = stream.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
