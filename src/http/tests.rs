use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use nix::sys::socket::{Backlog, listen};
use socket2::{Domain, Socket, Type};

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
        assertion: None,
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
    let agents = Agents::default();
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
fn agents(addresses: Vec<SocketAddr>, step: Duration) -> Agents {
    let names = Names(Arc::new(move |_, _, _| Ok(addresses.clone())));
    Agents::build(&names, step)
}

const SHORT: Duration = Duration::from_millis(300);

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
        let outcome = agents(addresses, STEP_TIMEOUT).get(&url);
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
    // It doesn't listen, and nobody else gets its port meanwhile.
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    refusing.bind(&any.into()).unwrap();
    let refusal = refusing.local_addr().unwrap().as_socket().unwrap();
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
        let agents = agents(addresses.clone(), SHORT);
        let request = request(&format!("{scheme}://localhost/token"), Some(b"ours"));
        match agents.post(&request) {
            Outcome::NotSent(text) => assert!(text.contains(why), "{text}"),
            outcome => panic!("{scheme} {addresses:?}: {outcome:?}"),
        }
    }
    // Whoever has taken the request may have acted on it.
    let agents = agents(vec![silence], SHORT);
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

/// What comes of a request that a server answers with these bytes, in pieces of that size.
fn answered(bytes: &[u8], piece: usize) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            // All of the request, so that closing the connection takes nothing of the answer along.
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"=t") && stream.read(&mut byte).unwrap() > 0 {
                asked.extend(byte);
            }
            // A client that has had enough hangs up.
            let _ = bytes
                .chunks(piece)
                .try_for_each(|piece| stream.write_all(piece));
        });
        Agents::default().post(&request(&format!("http://{address}/token"), Some(b"ours")))
    })
}

/// Row 93: whatever stands around the body of a reply, the body is read, in any pieces.
// Covers: 93
#[test]
fn no_head_is_too_long() {
    const BODY: &str = "{\"access_token\":\"at\"}";
    let lines = |count: usize, length: usize| -> String {
        let line = |n| format!("Set-Cookie: c{n}={}\r\n", "y".repeat(length));
        (0..count).map(line).collect()
    };
    let ends = [
        format!("Content-Length: {}\r\n\r\n{BODY}", BODY.len()),
        format!("CONTENT-length:{}\r\n\r\n{BODY}and more", BODY.len()),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n9\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            &BODY[..9],
            BODY.len() - 9,
            &BODY[9..]
        ),
        format!("\r\n{BODY}"),
        format!("X: y\n\n{BODY}"),
    ];
    let heads = [
        String::new(),
        lines(100, 1),
        lines(129, 1),
        lines(500, 1),
        lines(2000, 1),
        lines(16, 4 << 10),
        lines(50, 4 << 10),
        lines(1, 64 << 10),
        // Nothing of these has to be as RFC 9112 has it.
        "X-Folded: a\r\n b\r\n\tc\r\nno colon\r\nX Y: z\r\nX-Bytes: \u{e4}\u{0}\r\n".into(),
        "Location: https://x.example/".to_owned() + &"l".repeat(64 << 10) + "\r\n",
    ];
    let before = [
        String::new(),
        "\r\n".into(),
        "HTTP/1.1 100 Continue\r\n\r\n".into(),
        "HTTP/1.1 100 Continue\r\nX-Via: proxy\r\n\r\n".into(),
        format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", lines(200, 9)),
        format!(
            "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n{}",
            "HTTP/1.1 103\n\n"
        ),
    ];
    let read = |before: &str, head: &str, end: &str, piece| {
        let reply = format!("{before}HTTP/1.1 200 OK\r\nRetry-After: 7\r\n{head}{end}");
        match answered(reply.as_bytes(), piece) {
            Outcome::Reply(reply) => {
                assert_eq!(
                    reply.body.as_slice(),
                    BODY.as_bytes(),
                    "{before}{head}{end}"
                );
                assert_eq!(reply.retry_after.as_deref(), Some("7"));
            }
            outcome => panic!("{outcome:?}: {before:.99}{head:.99}{end}"),
        }
    };
    for head in &heads {
        for end in &ends {
            read("", head, end, 1 << 20);
        }
        read("", head, &ends[0], 1000);
    }
    for before in &before {
        for end in &ends {
            read(before, &heads[2], end, 1);
        }
    }
}

/// What is no reply that can be read is told in words, and at once where it isn't HTTP.
#[test]
fn a_head_has_a_bound() {
    let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"X: y\r\n".repeat(1 << 20);
    let line = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"y".repeat(4 << 20);
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1 << 18);
    for (bytes, why) in [
        (endless.as_str(), "the head of the reply is too long"),
        (&line, "the head of the reply is too long"),
        (&interim, "the head of the reply is too long"),
        ("", "isconnected"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "isconnected"),
        ("220 mail.example ESMTP\r\n", "invalid HTTP version"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "content-length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 1\r\n\r\n",
            "isconnected",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n",
            "invalid header name",
        ),
    ] {
        match answered(bytes.as_bytes(), 1 << 20) {
            Outcome::Lost(text) => assert!(text.contains(why), "{text}"),
            outcome => panic!("{outcome:?}: {bytes:.99}"),
        }
    }
}

/// The longest body comes as it was sent, behind a long head.
#[test]
fn the_longest_body_is_read() {
    let body = "b".repeat(MAX_BODY_BYTES);
    let head = "Set-Cookie: c\r\n".repeat(500);
    for piece in [1 << 10, 1 << 20] {
        let length = body.len();
        let reply = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {length}\r\n\r\n{body}");
        match answered(reply.as_bytes(), piece) {
            Outcome::Reply(reply) => assert!(reply.body.as_slice() == body.as_bytes()),
            outcome => panic!("{outcome:?}"),
        }
    }
}
