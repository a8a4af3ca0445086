//! Copies what a program and a server say to each other. Each side is read only when the other has
//! taken what was read before.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{Shutdown, setsockopt, shutdown, sockopt},
        stat::{SFlag, fstat},
    },
};
use rustls::Connection;

use super::dial;
use crate::mail::Front;

/// How much is read at once, in bytes: two records of TLS. As much again may wait in `rustls`.
pub const CHUNK_BYTES: usize = 32 << 10;

/// One side of a session.
pub struct End {
    /// Where it is heard.
    input: Arc<File>,
    /// Where it is told something.
    output: Arc<File>,
    tls: Option<Box<Connection>>,
    /// What it is to be told, not yet encrypted.
    untold: Vec<u8>,
    /// It says no more.
    has_ended: bool,
    /// It knows that the other side says no more.
    is_shut: bool,
}

impl End {
    /// One at two descriptors.
    pub fn new(input: OwnedFd, output: OwnedFd) -> Self {
        dont_block(input.as_fd());
        dont_block(output.as_fd());
        End::of(Arc::new(input.into()), Arc::new(output.into()), None)
    }

    /// One at a socket, behind `tls`.
    pub fn socket(socket: OwnedFd, tls: Option<Box<Connection>>) -> Self {
        dont_block(socket.as_fd());
        // Without it, a peer that vanishes is never missed.
        let _ = setsockopt(&socket, sockopt::KeepAlive, &true);
        let socket = Arc::new(File::from(socket));
        End::of(socket.clone(), socket, tls)
    }

    fn of(input: Arc<File>, output: Arc<File>, tls: Option<Box<Connection>>) -> Self {
        End {
            input,
            output,
            tls,
            untold: Vec::new(),
            has_ended: false,
            is_shut: false,
        }
    }

    /// A server on which somebody is signed in.
    pub fn server(connection: dial::Connection) -> Self {
        let (stream, tls) = connection.into_parts();
        let tls = tls.map(|tls| Box::new(Connection::Client(*tls)));
        End::socket(stream.into(), tls)
    }

    /// It is to be told this.
    pub fn tell(&mut self, bytes: &[u8]) {
        self.untold.extend_from_slice(bytes);
    }

    /// Whether there is something that it hasn't been told yet.
    fn owes(&self) -> bool {
        let tls_wants = || self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        !self.is_shut && (!self.untold.is_empty() || tls_wants())
    }

    /// Tells it what it takes, and in the end that nothing follows, if this is the `last`.
    fn flush(&mut self, last: bool) -> io::Result<()> {
        if last && self.untold.is_empty() {
            self.tls.iter_mut().for_each(|tls| tls.send_close_notify());
        }
        while self.owes() {
            let mut output = &*self.output;
            let told = match &mut self.tls {
                Some(tls) => {
                    let count = tls.writer().write(&self.untold)?;
                    self.untold.drain(..count);
                    tls.write_tls(&mut output)
                }
                None => output
                    .write(&self.untold)
                    .inspect(|count| drop(self.untold.drain(..*count))),
            };
            match told {
                Err(error) if is_for_later(&error) => return Ok(()),
                told => told?,
            };
        }
        if last && !self.is_shut {
            self.is_shut = true;
            shutdown(self.output.as_raw_fd(), Shutdown::Write)?;
        }
        Ok(())
    }

    /// Reads what there is, by way of `chunk`, into `heard`.
    fn hear(&mut self, chunk: &mut [u8], heard: &mut Vec<u8>) -> io::Result<()> {
        match (&*self.input).read(chunk) {
            Err(error) if is_for_later(&error) => Ok(()),
            Ok(0) => {
                self.has_ended = true;
                Ok(())
            }
            read => {
                let count = read?;
                self.decrypt(chunk.get(..count).unwrap_or_default(), heard)
            }
        }
    }

    /// Takes what was sent.
    fn decrypt(&mut self, mut sent: &[u8], heard: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            heard.extend_from_slice(sent);
            return Ok(());
        };
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            self.has_ended |= state.peer_has_closed();
            let count = u64::try_from(state.plaintext_bytes_to_read()).unwrap_or(u64::MAX);
            heard.reserve(usize::try_from(count).unwrap_or(0));
            tls.reader().take(count).read_to_end(heard)?;
            if sent.is_empty() || self.has_ended {
                return Ok(());
            }
            tls.read_tls(&mut sent)?;
        }
    }

    /// Whether it has ended in TLS's own way (RFC 8446, section 6.1).
    fn has_closed(&mut self) -> bool {
        let state = self.tls.as_mut().map(|tls| tls.process_new_packets());
        matches!(state, Some(Ok(state)) if state.peer_has_closed())
    }
}

/// A program and a server.
pub struct Pump {
    program: End,
    server: End,
    front: Option<Front>,
    /// The server didn't listen any more.
    broken: io::Result<()>,
}

impl Pump {
    /// What the program says goes by way of `front`, if there is one.
    ///
    /// # Errors
    /// When what has come with the sign-ins is no TLS.
    pub fn new(mut program: End, mut server: End, front: Option<Front>) -> io::Result<Self> {
        server.decrypt(&[], &mut program.untold)?;
        program.decrypt(&[], &mut server.untold)?;
        Ok(Pump {
            program,
            server,
            front,
            broken: Ok(()),
        })
    }

    /// What it waits for: to tell the program something, or that it has left; to hear it; and the
    /// server. Others than the first would tell of their end without end, and are only there while
    /// they are wanted.
    fn wants(&self) -> [Option<(&File, PollFlags)>; 3] {
        let when = |wanted: bool, flag| if wanted { flag } else { PollFlags::empty() };
        let (program, server) = (&self.program, &self.server);
        let to_tell = server.owes() || (program.has_ended && !server.is_shut);
        let to_hear = !program.has_ended && !server.owes();
        let said = when(!program.owes(), PollFlags::POLLIN);
        let server_flags = said | when(to_tell, PollFlags::POLLOUT);
        let output = when(program.owes(), PollFlags::POLLOUT);
        [
            Some((&*program.output, output)),
            to_hear.then_some((&*program.input, PollFlags::POLLIN)),
            (!server_flags.is_empty()).then_some((&*server.input, server_flags)),
        ]
    }

    /// What to poll for it.
    pub fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let wants = self.wants().into_iter().flatten();
        wants.map(|(fd, flags)| PollFd::new(fd.as_fd(), flags))
    }

    /// What there is to do where each of [`Pump::fds`] `is_ready` or not.
    pub fn ready(&self, is_ready: &mut impl Iterator<Item = bool>) -> [bool; 3] {
        let mut next = |wanted: bool| wanted && is_ready.next() == Some(true);
        self.wants().map(|want| next(want.is_some()))
    }

    /// Copies what there is where it is `ready` (see [`Pump::ready`]), by way of `chunk`.
    /// False when the server has ended, or the program doesn't listen any more.
    ///
    /// # Errors
    /// When the connection to the server broke.
    pub fn turn(&mut self, ready: [bool; 3], chunk: &mut [u8]) -> io::Result<bool> {
        let [to_tell, to_hear, server] = ready;
        // Ready for nothing is gone.
        if to_tell && !(self.program.owes() && self.tell_program()) {
            return Ok(false);
        }
        if to_hear {
            self.hear_program(chunk);
        }
        if let Err(error) = self.server.flush(self.program.has_ended) {
            // Its last words, and why it hung up among them, are still to be read.
            self.broken = Err(error);
            self.program.has_ended = true;
            self.server.is_shut = true;
        }
        if server && !self.program.owes() {
            self.server.hear(chunk, &mut self.program.untold)?;
            if !self.tell_program() {
                return Ok(false);
            }
        }
        Ok(!self.server.has_ended || self.program.owes())
    }

    /// Nothing is said now: one of many that are idle keeps no memory.
    pub fn rest(&mut self) {
        for end in [&mut self.program, &mut self.server] {
            end.untold.shrink_to_fit();
        }
    }

    /// False when it doesn't listen.
    fn tell_program(&mut self) -> bool {
        self.program.flush(false).is_ok()
    }

    fn hear_program(&mut self, chunk: &mut [u8]) {
        let Some(front) = &mut self.front else {
            self.program.has_ended |= self.program.hear(chunk, &mut self.server.untold).is_err();
            return;
        };
        let mut heard = Vec::new();
        self.program.has_ended |= self.program.hear(chunk, &mut heard).is_err();
        let passage = front.feed(&heard);
        self.program.tell(passage.answer.as_bytes());
        self.server.tell(&passage.passed);
    }

    /// Copies until the end.
    ///
    /// # Errors
    /// As [`Pump::turn`].
    pub fn run(mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut ready = [false; 3];
        while self.turn(ready, &mut chunk)? {
            ready = self.wait()?;
        }
        self.end()
    }

    /// Says farewell to the program.
    ///
    /// # Errors
    /// When the connection broke before the server had closed it.
    pub fn end(mut self) -> io::Result<()> {
        let _ = self.program.flush(true);
        match self.server.has_closed() {
            true => Ok(()),
            false => self.broken,
        }
    }

    fn wait(&self) -> io::Result<[bool; 3]> {
        let mut fds: Vec<_> = self.fds().collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => return Ok([false; 3]),
            outcome => outcome?,
        };
        let mut is_ready = fds.iter().map(|fd| fd.any() == Some(true));
        Ok(self.ready(&mut is_ready))
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

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
