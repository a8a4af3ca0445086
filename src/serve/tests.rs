use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;

/// How long a test waits for what must happen before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq)]
enum Event {
    Parked(ConnId),
    Closed(ConnId),
}

/// A line in, an answer out.
struct Echo {
    events: Sender<Event>,
    /// Ends a `block`.
    release: Receiver<()>,
}

impl Service for Echo {
    type Conn = ConnId;

    fn connected(&mut self, id: ConnId, _listener: usize, _peer: &Socket) -> Option<ConnId> {
        Some(id)
    }

    fn received(&mut self, id: &mut ConnId, input: &mut Vec<u8>, end: bool) -> Next {
        let text = String::from_utf8_lossy(input).into_owned();
        let Some(line) = text.strip_suffix('\n').or(end.then_some(text.as_str())) else {
            return if input.len() >= 1024 {
                Next::Reply(b"too long".to_vec())
            } else {
                Next::More
            };
        };
        match line {
            "park" | "stream" | "soon" => {
                let _ = self.events.send(Event::Parked(*id));
                match line {
                    "park" => Next::Park(None),
                    "soon" => Next::Park(Some(Duration::from_millis(1))),
                    _ => Next::Stream(b"first,".to_vec()),
                }
            }
            "block" => {
                let _ = self.events.send(Event::Parked(*id));
                let _ = self.release.recv_timeout(PATIENCE);
                Next::Close
            }
            "big" => Next::Reply(vec![b'x'; 8 << 20]),
            "panic" => panic!("on purpose"),
            "drop" => Next::Close,
            _ => Next::Reply(line.as_bytes().to_vec()),
        }
    }

    fn unparked(&mut self, _id: &mut ConnId, why: Unparked) -> Vec<u8> {
        format!("{why:?}").into_bytes()
    }

    fn closed(&mut self, id: ConnId) {
        let _ = self.events.send(Event::Closed(id));
    }
}

const SHARE: Share = share(64, 8);

const fn share(connections: usize, parked: usize) -> Share {
    Share {
        connections,
        parked,
    }
}

const LIMITS: Limits = Limits {
    first: SHARE,
    others: SHARE,
    max_input: 1024,
    read_timeout: PATIENCE,
    write_timeout: PATIENCE,
};

struct Server {
    directory: tempfile::TempDir,
    port: u16,
    remote: Remote,
    events: Receiver<Event>,
    release: Sender<()>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("s")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let listeners = vec![Listener::new(unix).unwrap(), Listener::new(tcp).unwrap()];
        let (sender, events) = mpsc::channel();
        let (remote, inbox) = remote().unwrap();
        let (release, released) = mpsc::channel();
        let service = Echo {
            events: sender,
            release: released,
        };
        let thread = std::thread::spawn(move || run(listeners, service, limits, inbox));
        Server {
            directory,
            port,
            remote,
            events,
            release,
            thread: Some(thread),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn unix(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn parked(&self) -> ConnId {
        loop {
            if let Event::Parked(id) = self.events.recv_timeout(PATIENCE).unwrap() {
                return id;
            }
        }
    }

    fn wait_closed(&self, id: ConnId) {
        while self.events.recv_timeout(PATIENCE).unwrap() != Event::Closed(id) {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.remote.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn ask(mut stream: impl Read + Write, line: &str) -> String {
    stream.write_all(line.as_bytes()).unwrap();
    rest(stream)
}

/// Everything up to the peer's end, or to its reset.
fn rest(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    let outcome = stream.read_to_end(&mut bytes);
    if let Err(error) = outcome {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn both_families_get_their_replies() {
    let server = Server::start(LIMITS);
    assert_eq!(ask(server.unix(), "hello\n"), "hello");
    assert_eq!(ask(server.tcp(), "hello\n"), "hello");
    assert_eq!(ask(server.unix(), "drop\n"), "");
    assert_eq!(ask(server.unix(), "big\n").len(), 8 << 20);
    assert_eq!(ask(server.tcp(), "big\n").len(), 8 << 20);
}

#[test]
fn a_request_may_come_byte_by_byte_and_end_with_a_half_close() {
    let server = Server::start(LIMITS);
    for end in ["\n", ""] {
        let mut stream = server.tcp();
        for byte in b"slow" {
            stream.write_all(&[*byte]).unwrap();
        }
        stream.write_all(end.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(stream), "slow");
    }
}

#[test]
fn a_request_that_never_ends_is_cut_at_its_deadline_however_it_dribbles() {
    let server = Server::start(Limits {
        read_timeout: Duration::from_millis(30),
        ..LIMITS
    });
    assert_eq!(rest(server.unix()), "");
    assert_eq!(rest(server.tcp()), "");
    let mut dribbler = server.unix();
    let start = Instant::now();
    while dribbler.write_all(b"x").is_ok() && start.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_reply_that_is_not_taken_is_given_up() {
    let server = Server::start(Limits {
        write_timeout: Duration::from_millis(30),
        ..LIMITS
    });
    let mut stream = server.unix();
    stream.write_all(b"big\n").unwrap();
    assert!(matches!(
        server.events.recv_timeout(PATIENCE),
        Ok(Event::Closed(_))
    ));
    assert!(rest(stream).len() < 8 << 20);
}

#[test]
fn oversized_input_gets_its_refusal_while_it_is_still_being_sent() {
    let server = Server::start(LIMITS);
    assert_eq!(ask(server.unix(), &"x".repeat(5_000)), "too long");
    assert_eq!(ask(server.tcp(), &"x".repeat(100_000)), "too long");
}

#[test]
fn endless_input_is_cut() {
    let server = Server::start(LIMITS);
    let mut stream = server.tcp();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let outcome = (0..100_000).try_for_each(|_| stream.write_all(&[b'x'; 64 * 1024]));
    let kind = outcome.unwrap_err().kind();
    assert!(
        matches!(
            kind,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{kind}"
    );
}

#[test]
fn silent_clients_cost_nobody_anything() {
    let server = Server::start(Limits {
        first: share(4, 8),
        ..LIMITS
    });
    let mut silent = Vec::new();
    for round in 0..100 {
        silent.push(server.unix());
        assert_eq!(ask(server.unix(), &format!("{round}\n")), round.to_string());
    }
    let last = silent.pop().unwrap();
    assert_eq!(rest(silent.remove(0)), "", "the first had to go");
    assert_eq!(ask(last, "late\n"), "late");
}

/// However often others say a little, they outlive nobody who came after them.
#[test]
fn who_keeps_saying_a_little_gains_nothing_by_it() {
    let server = Server::start(Limits {
        first: share(4, 8),
        ..LIMITS
    });
    // What was there before this was answered has been seen.
    let settle = || assert_eq!(ask(server.tcp(), "x\n"), "x");
    let mut crowd: Vec<_> = (0..4).map(|_| server.unix()).collect();
    for number in 0..20 {
        let late = server.unix();
        settle();
        for stream in &mut crowd {
            // Whoever was dropped already can't say it.
            let _ = stream.write_all(b"x");
        }
        settle();
        crowd.push(server.unix());
        crowd.remove(0);
        settle();
        assert_eq!(ask(late, &format!("{number}\n")), number.to_string());
    }
}

/// A request that has arrived is answered, though its connection's place was wanted before that was
/// seen.
#[test]
fn a_request_that_has_arrived_is_answered_in_any_crowd() {
    let server = Server::start(Limits {
        first: share(2, 8),
        ..LIMITS
    });
    let mut browser = server.unix();
    assert_eq!(ask(server.unix(), "x\n"), "x");
    let block = |mut stream: Box<dyn Write>| {
        stream.write_all(b"block\n").unwrap();
        stream
    };
    let first = block(Box::new(server.tcp()));
    server.parked();
    // All of these are accepted in one go.
    let second = block(Box::new(server.unix()));
    let crowd: Vec<_> = (0..10).map(|_| server.unix()).collect();
    server.release.send(()).unwrap();
    server.parked();
    browser.write_all(b"hello\n").unwrap();
    server.release.send(()).unwrap();
    assert_eq!(rest(browser), "hello");
    drop((first, second, crowd));
}

#[test]
fn parked_connections_are_not_evicted_and_have_a_limit_of_their_own() {
    let server = Server::start(Limits {
        first: share(2, 2),
        ..LIMITS
    });
    let mut parked = Vec::new();
    for _ in 0..3 {
        let mut stream = server.unix();
        stream.write_all(b"park\n").unwrap();
        parked.push((server.parked(), stream));
    }
    assert_eq!(rest(parked.remove(0).1), "Crowded");
    for _ in 0..20 {
        assert_eq!(ask(server.unix(), "x\n"), "x");
    }
    for (id, stream) in parked {
        server.remote.send(id, b"at last".to_vec(), true);
        assert_eq!(rest(stream), "at last");
    }
}

/// Whatever comes by one listener, the share of the others stays theirs.
#[test]
fn a_crowd_at_one_listener_takes_nothing_from_another() {
    let server = Server::start(Limits {
        first: share(2, 2),
        others: share(4, 4),
        ..LIMITS
    });
    let path = server.directory.path().join("another");
    let another = UnixListener::bind(&path).unwrap();
    server.remote.open(7, Listener::new(another).unwrap());
    let another = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let park = |mut stream: UnixStream| {
        stream.write_all(b"park\n").unwrap();
        (server.parked(), stream)
    };
    let ours: Vec<_> = (0..2).map(|_| park(server.unix())).collect();
    let silent = server.unix();
    let tcp: Vec<_> = (0..2).map(|_| server.tcp()).collect();
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(park(another()));
        crowd.push((ConnId::next(), another()));
    }
    // Half of what the two have is this one's.
    let last = crowd.split_off(crowd.len() - 4);
    for (_, stream) in crowd {
        assert!(["Crowded", ""].contains(&&*rest(stream)));
    }
    let waiting = last.into_iter().step_by(2);
    for (id, stream) in ours.into_iter().chain(waiting) {
        server.remote.send(id, b"at last".to_vec(), true);
        assert_eq!(rest(stream), "at last");
    }
    assert_eq!(ask(silent, "x\n"), "x");
    for stream in tcp {
        assert_eq!(ask(stream, "y\n"), "y");
    }
}

#[test]
fn a_thousand_clients_at_once_are_all_served() {
    let server = Server::start(Limits {
        first: share(256, 8),
        others: share(256, 8),
        ..LIMITS
    });
    let (path, port) = (server.path(), server.port);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let tcp = || TcpStream::connect(("127.0.0.1", port)).unwrap();
                let streams: Vec<_> = (0..10).map(|_| tcp()).collect();
                for stream in streams {
                    assert_eq!(ask(stream, "x\n"), "x");
                }
                for _ in 0..40 {
                    assert_eq!(ask(UnixStream::connect(&path).unwrap(), "y\n"), "y");
                }
            });
        }
    });
}

#[test]
fn streams_are_written_in_order() {
    let server = Server::start(LIMITS);
    let mut stream = server.unix();
    stream.write_all(b"stream\n").unwrap();
    let id = server.parked();
    server.remote.send(id, b"second,".to_vec(), false);
    server.remote.send(id, b"third".to_vec(), true);
    server.remote.send(id, b"never".to_vec(), true);
    assert_eq!(rest(stream), "first,second,third");
    server.wait_closed(id);
}

#[test]
fn a_waiter_that_leaves_is_noticed() {
    let server = Server::start(LIMITS);
    let mut stream = server.unix();
    stream.write_all(b"park\n").unwrap();
    let id = server.parked();
    drop(stream);
    server.wait_closed(id);
    server.remote.send(id, b"nobody".to_vec(), true);
    assert_eq!(ask(server.unix(), "x\n"), "x");
}

#[test]
fn a_waiter_that_has_only_stopped_sending_is_answered() {
    let server = Server::start(LIMITS);
    let mut streams = (server.unix(), server.tcp());
    streams.0.write_all(b"park\n").unwrap();
    streams.0.shutdown(Shutdown::Write).unwrap();
    let id = server.parked();
    server.remote.send(id, b"unix".to_vec(), true);
    assert_eq!(rest(streams.0), "unix");
    streams.1.write_all(b"park\n").unwrap();
    streams.1.shutdown(Shutdown::Write).unwrap();
    let id = server.parked();
    server.remote.send(id, b"tcp".to_vec(), true);
    assert_eq!(rest(streams.1), "tcp");
}

#[test]
fn a_waiter_hears_of_its_deadline() {
    let server = Server::start(LIMITS);
    assert_eq!(ask(server.unix(), "soon\n"), "Deadline");
}

#[test]
fn a_panic_closes_one_connection_only() {
    let server = Server::start(LIMITS);
    let other = server.unix();
    assert_eq!(ask(server.unix(), "panic\n"), "");
    assert_eq!(ask(other, "x\n"), "x");
}

#[test]
fn stopping_finishes_what_is_being_said() {
    let mut server = Server::start(LIMITS);
    let (mut waiting, silent, mut big) = (server.unix(), server.unix(), server.unix());
    waiting.write_all(b"park\n").unwrap();
    server.parked();
    big.write_all(b"big\n").unwrap();
    assert_eq!(big.read(&mut [0]).unwrap(), 1);
    server.remote.stop();
    assert_eq!(rest(waiting), "Stopping");
    assert_eq!(rest(silent), "");
    assert_eq!(rest(big).len(), (8 << 20) - 1);
    server.thread.take().unwrap().join().unwrap().unwrap();
    assert!(UnixStream::connect(server.path()).is_err());
    server.thread = Some(std::thread::spawn(|| Ok(())));
}

/// Run by hand: `cargo test --release -- --ignored --nocapture ten_thousand`.
// Covers: H1
#[test]
#[ignore = "a measurement"]
fn ten_thousand_requests_in_turn() {
    let server = Server::start(LIMITS);
    let start = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(ask(server.unix(), "x\n"), "x");
    }
    eprintln!(
        "{:.0} requests a second",
        10_000.0 / start.elapsed().as_secs_f64()
    );
}
