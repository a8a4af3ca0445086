use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use nix::sys::socket::{Backlog, listen};

use super::*;
use crate::secret::{Mark, Secret};

/// A request that is sent once, with a secret of the registration that is described so.
fn request(endpoint: &str, bound: Option<&[u8]>) -> Request {
    let form = Secret::new("refresh_token=t".into());
    if let Some(description) = bound {
        form.bind(Mark::of(description));
    }
    Request {
        endpoint: Url::parse(endpoint).unwrap(),
        under: Mark::of(b"ours"),
        form: Arc::new(form),
        headers: Vec::new(),
        known: Vec::new(),
        due: None,
    }
}

/// Whoever has mixed up two registrations in the core has still sent nothing.
// Covers: H16
#[test]
fn a_secret_of_another_registration_goes_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let request = |bound| request(&format!("http://127.0.0.1:{port}/token"), bound);
    let agents = Agents::new();
    for bound in [None, Some(&b"theirs"[..])] {
        let outcome = agents.post(&request(bound));
        assert!(matches!(outcome, Outcome::NotSent(_)), "{outcome:?}");
    }
    listener.set_nonblocking(true).unwrap();
    let nobody = listener.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock));
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

/// A port that takes no further connection and refuses none, as if its packets were lost; and what
/// keeps it so.
#[cfg(target_os = "linux")]
fn black_hole() -> (SocketAddr, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let first = TcpStream::connect(address).unwrap();
    (address, listener, first)
}

/// Agents for which every name has these addresses.
fn agents(addresses: Vec<SocketAddr>, limits: Limits) -> Agents {
    let names = Names::asking(Arc::new(move |_, _, _| Ok(addresses.clone())));
    Agents::build(&names, limits)
}

fn short() -> Limits {
    let step = Duration::from_millis(300);
    Limits {
        tcp: step,
        tls: step,
    }
}

/// Row 73: a good address is found beside any number of dead ones, before the first has been given
/// up.
// Covers: 73
#[test]
#[cfg(target_os = "linux")]
fn dead_addresses_cost_little_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    let url = Url::parse("http://localhost/token").unwrap();
    for dead in [0, 1, 8, 12] {
        let holes: Vec<_> = (0..dead).map(|_| black_hole()).collect();
        let mut addresses: Vec<_> = holes.iter().map(|(address, ..)| *address).collect();
        addresses.push(good);
        let began = Instant::now();
        let outcome = agents(addresses, Limits::default()).get(&url);
        assert!(matches!(outcome, Outcome::Reply(_)), "{dead}: {outcome:?}");
        // A name with twelve takes 1.4 s where nothing else runs.
        assert!(began.elapsed() < Duration::from_secs(8), "{dead}");
    }
}

/// Row 74: where TCP or TLS gets no answer, nothing was sent.
// Covers: 74
#[test]
#[cfg(target_os = "linux")]
fn nothing_is_sent_before_there_is_a_connection() {
    let (hole, ..) = &black_hole();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silence = silent.local_addr().unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusal = refusing.local_addr().unwrap();
    drop(refusing);
    for (scheme, addresses, why) in [
        ("http", vec![], "the name has no address"),
        ("http", vec![*hole], "no address answered"),
        ("https", vec![*hole], "no address answered"),
        ("https", vec![silence], "TLS got no answer"),
        // Another address is tried then.
        ("https", vec![silence, refusal], "Connection refused"),
        ("http", vec![refusal, *hole], "no address answered"),
        ("http", vec![refusal], "Connection refused"),
    ] {
        let agents = agents(addresses.clone(), short());
        let request = request(&format!("{scheme}://localhost/token"), Some(b"ours"));
        match agents.post(&request) {
            Outcome::NotSent(text) => assert!(text.contains(why), "{text}"),
            outcome => panic!("{scheme} {addresses:?}: {outcome:?}"),
        }
    }
    // Whoever has taken the request may have acted on it.
    let agents = agents(vec![silence], short());
    let server = thread::spawn(move || {
        let mut request = [0; 1024];
        // The ones before were for TLS.
        for mut stream in silent.incoming().flatten() {
            let read = stream.read(&mut request).unwrap_or_default();
            if request[..read].starts_with(b"POST") {
                return;
            }
        }
    });
    let outcome = agents.post(&request("http://localhost/token", Some(b"ours")));
    assert!(matches!(outcome, Outcome::Lost(_)), "{outcome:?}");
    server.join().unwrap();
}
