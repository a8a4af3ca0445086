//! A thousand clients on one thread. A thread for each would measure the system's scheduler: here
//! each client is a socket in an event loop that does next to nothing, and leaves the other core
//! to the server.

use std::{
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{Backlog, listen},
};

use crate::{TOKEN_BYTES, report::millis};

/// What each asks for.
const REQUEST: &[u8] = b"pizauth 1 show 16\n{\"account\":\"a0\"}";

/// How many of those that are connected have asked and not been answered, at most: what two cores'
/// worth of mail programs do at once.
const ASKING: usize = 8;

/// How far apart [`arriving`] clients come.
const ARRIVAL: Duration = Duration::from_micros(50);

struct Client {
    /// Until it is answered.
    socket: Option<UnixStream>,
    since: Instant,
}

struct Crowd {
    server: PathBuf,
    epoll: Epoll,
    clients: Vec<Client>,
    spans: Vec<f64>,
    buffer: Vec<u8>,
}

/// `count` clients that come one after the other; what each has waited in milliseconds, from before
/// connect(2) to the end of the reply. A system starts a thousand processes a second on each core,
/// perhaps: twenty times as many come here.
pub fn arriving(server: &Path, count: usize) -> Vec<f64> {
    let mut crowd = Crowd::new(server);
    let start = Instant::now();
    for number in 0..count {
        while start.elapsed() < ARRIVAL * number as u32 {
            crowd.hear(EpollTimeout::ZERO);
        }
        let since = Instant::now();
        let socket = crowd.connect();
        crowd.ask(socket, since);
    }
    crowd.finish(count)
}

/// `count` clients that come as fast as one thread can make them; what each has waited. That is more
/// than any server can take that has as many system calls to make as its clients: the last have
/// waited for all others.
pub fn storming(server: &Path, count: usize) -> Vec<f64> {
    let mut crowd = Crowd::new(server);
    for _ in 0..count {
        let since = Instant::now();
        let socket = crowd.connect();
        crowd.ask(socket, since);
        crowd.hear(EpollTimeout::ZERO);
    }
    crowd.finish(count)
}

/// `count` clients that are all connected before the first asks, and then ask a few at a time; what
/// each has waited, from its request to the end of the reply.
pub fn standing(server: &Path, count: usize) -> Vec<f64> {
    let mut crowd = Crowd::new(server);
    let sockets: Vec<UnixStream> = (0..count).map(|_| crowd.connect()).collect();
    for socket in sockets {
        crowd.ask(socket, Instant::now());
        while crowd.clients.len() - crowd.spans.len() >= ASKING {
            crowd.hear(EpollTimeout::NONE);
        }
    }
    crowd.finish(count)
}

impl Crowd {
    fn new(server: &Path) -> Self {
        Crowd {
            server: server.to_owned(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            clients: Vec::new(),
            spans: Vec::new(),
            buffer: vec![0; 4096],
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.server).unwrap()
    }

    fn ask(&mut self, mut socket: UnixStream, since: Instant) {
        socket.write_all(REQUEST).unwrap();
        let number = self.clients.len() as u64;
        self.epoll
            .add(
                socket.as_fd(),
                EpollEvent::new(EpollFlags::EPOLLRDHUP, number),
            )
            .unwrap();
        self.clients.push(Client {
            socket: Some(socket),
            since,
        });
    }

    /// Takes the replies that are whole: the server closes after each.
    fn hear(&mut self, timeout: EpollTimeout) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, timeout).unwrap();
        let now = Instant::now();
        for event in &events[..count] {
            let client = &mut self.clients[event.data() as usize];
            let mut socket = client.socket.take().expect("one answer each");
            self.spans.push(millis(now.duration_since(client.since)));
            let length = socket.read(&mut self.buffer).unwrap();
            let reply = &self.buffer[..length];
            assert!(reply.starts_with(b"pizauth 1 0 "), "a token");
        }
    }

    fn finish(mut self, count: usize) -> Vec<f64> {
        while self.spans.len() < count {
            self.hear(EpollTimeout::NONE);
        }
        self.spans
    }
}

/// The floor under the server: a thread that accepts, reads, writes a reply as long and closes. The
/// thread ends with the benchmark.
pub fn smallest_server(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    listen(&listener, Backlog::MAXCONN).unwrap();
    let reply = format!("pizauth 1 0 {TOKEN_BYTES}\n{}", "t".repeat(TOKEN_BYTES));
    thread::spawn(move || {
        let mut buffer = [0; 512];
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut buffer).unwrap() > 0);
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
}
