//! Copies what a program and a server say to each other. Each side is read only when the other has
//! taken what was read before.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{getsockopt, setsockopt, sockopt},
        stat::{SFlag, fstat},
    },
};
use rustls::ClientConnection;

use crate::{client::dial::Connection, mail::Front};

/// How much is read at once, in bytes: two records of TLS. As much again may wait in `rustls`.
const CHUNK_BYTES: usize = 32 << 10;

/// How long a program behind a socket may take to read why there is no session, in milliseconds: longer
/// than one takes to say its first line.
const LINGER_MS: u16 = 1000;

/// Waits until the program has hung up, or is sure to have read what it was told last: a relay such as
/// socat(1) drops that if it can't pass on what the program says.
pub(super) fn linger() {
    let stdin = io::stdin();
    if getsockopt(&stdin, sockopt::SockType).is_ok() {
        let hangup = PollFd::new(stdin.as_fd(), PollFlags::empty());
        let _ = poll(&mut [hangup], LINGER_MS);
    }
}

/// A program on stdin and stdout, and a server.
pub(super) struct Pump {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    front: Front,
    chunk: Vec<u8>,
    /// For the program.
    down: Vec<u8>,
    /// For the server, not yet encrypted.
    up: Vec<u8>,
    server_ended: bool,
    program_ended: bool,
    /// The server knows that.
    is_shut: bool,
}

impl Pump {
    /// The program is greeted first, and then gets `rest`, which the server has said since.
    pub(super) fn new(connection: Connection, front: Front, rest: &[u8]) -> Self {
        let (stream, tls) = connection.into_parts();
        Pump {
            stream,
            tls,
            chunk: vec![0; CHUNK_BYTES],
            down: [front.greeting().as_bytes(), rest].concat(),
            up: Vec::new(),
            front,
            server_ended: false,
            program_ended: false,
            is_shut: false,
        }
    }

    /// Copies until the server ends, or the program doesn't listen any more.
    ///
    /// # Errors
    /// Those of a connection that broke before the server had closed it (RFC 8446, section 6.1).
    pub(super) fn run(mut self) -> io::Result<()> {
        // Without it, a server that vanishes is never missed.
        let _ = setsockopt(&self.stream, sockopt::KeepAlive, &true);
        self.stream.set_nonblocking(true)?;
        dont_block(io::stdin().as_fd());
        dont_block(io::stdout().as_fd());
        // Some may have come with the last answer.
        self.decrypt(&[])?;
        let mut unheard = Ok(());
        while !(self.server_ended && self.down.is_empty()) {
            let (hear, tell) = self.wait()?;
            if tell && self.tell_program().is_err() {
                break;
            }
            if hear {
                self.hear_program();
            }
            if let Err(error) = self.tell_server() {
                // Its last words, and why it hung up among them, are still to be read.
                unheard = Err(error);
                self.program_ended = true;
                self.is_shut = true;
            }
            self.hear_server()?;
        }
        let state = self.tls.and_then(|mut it| it.process_new_packets().ok());
        match state {
            Some(state) if state.peer_has_closed() => Ok(()),
            _ => unheard,
        }
    }

    fn wants_write(&self) -> bool {
        let tls_wants = || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        !self.is_shut && (!self.up.is_empty() || tls_wants())
    }

    /// Sleeps until something can be done; whether the program can be heard, and told something.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let when = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let to_hear = !self.program_ended && !self.wants_write();
        let owes = self.wants_write() || (self.program_ended && !self.is_shut);
        let server = when(self.down.is_empty(), PollFlags::POLLIN) | when(owes, PollFlags::POLLOUT);
        let (stdin, stdout) = (io::stdin(), io::stdout());
        // That the program doesn't listen any more is told unasked.
        let to_tell = when(!self.down.is_empty(), PollFlags::POLLOUT);
        let mut fds = vec![PollFd::new(stdout.as_fd(), to_tell)];
        // The others would tell of their end without end.
        if to_hear {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        if !server.is_empty() {
            fds.push(PollFd::new(self.stream.as_fd(), server));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok((false, false)),
            outcome => outcome?,
        };
        let is_ready = |at: usize| fds.get(at).and_then(PollFd::any) == Some(true);
        Ok((to_hear && is_ready(1), is_ready(0)))
    }

    /// Fails when the program doesn't listen.
    fn tell_program(&mut self) -> nix::Result<()> {
        match nix::unistd::write(io::stdout(), &self.down) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(0) => return Err(Errno::EPIPE),
            outcome => drop(self.down.drain(..outcome?)),
        }
        Ok(())
    }

    fn hear_program(&mut self) {
        match nix::unistd::read(io::stdin(), &mut self.chunk) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(0) | Err(_) => self.program_ended = true,
            Ok(count) => {
                let passage = self.front.feed(self.chunk.get(..count).unwrap_or_default());
                self.down.extend(passage.answer.into_bytes());
                self.up.extend(passage.passed);
            }
        }
    }

    fn tell_server(&mut self) -> io::Result<()> {
        if self.program_ended && self.up.is_empty() {
            self.tls.iter_mut().for_each(|tls| tls.send_close_notify());
        }
        while self.wants_write() {
            let sent = match &mut self.tls {
                Some(tls) => {
                    let count = tls.writer().write(&self.up)?;
                    self.up.drain(..count);
                    tls.write_tls(&mut self.stream)
                }
                None => self
                    .stream
                    .write(&self.up)
                    .inspect(|count| drop(self.up.drain(..*count))),
            };
            if is_for_later(&sent) {
                return Ok(());
            }
            sent?;
        }
        if self.program_ended && !self.is_shut {
            self.is_shut = true;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn hear_server(&mut self) -> io::Result<()> {
        if !self.down.is_empty() {
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        let read = self.stream.read(&mut chunk);
        self.server_ended |= matches!(read, Ok(0));
        let outcome = match read {
            read if is_for_later(&read) => Ok(()),
            read => read.and_then(|count| self.decrypt(chunk.get(..count).unwrap_or_default())),
        };
        self.chunk = chunk;
        outcome
    }

    /// Takes what the server sent.
    fn decrypt(&mut self, mut sent: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.down.extend_from_slice(sent);
            return Ok(());
        };
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            self.server_ended |= state.peer_has_closed();
            let count = u64::try_from(state.plaintext_bytes_to_read()).unwrap_or(u64::MAX);
            tls.reader().take(count).read_to_end(&mut self.down)?;
            if sent.is_empty() || self.server_ended {
                return Ok(());
            }
            tls.read_tls(&mut sent)?;
        }
    }
}

/// Others may have a terminal or a file open, too; a pipe or a socket is this program's alone.
fn dont_block(end: BorrowedFd) {
    let kind = fstat(end).map(|it| SFlag::from_bits_truncate(it.st_mode) & SFlag::S_IFMT);
    if matches!(kind, Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK)) {
        let flags = fcntl(end, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        let _ = flags.map(|flags| fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
    }
}

fn is_for_later(outcome: &io::Result<usize>) -> bool {
    matches!(outcome, Err(error) if error.kind() == ErrorKind::WouldBlock)
}
