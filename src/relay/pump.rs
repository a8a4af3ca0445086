//! Copies what a program and a server say to each other. Each side is read only when the other has
//! taken what was read before.

use std::{fs::File, io, os::fd::AsFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::end::End;
use crate::mail::Front;

/// How much is read at once, in bytes: two records of TLS. As much again may wait in `rustls`.
pub const CHUNK_BYTES: usize = 32 << 10;

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
    pub fn new(program: End, server: End, front: Option<Front>) -> Self {
        Pump {
            program,
            server,
            front,
            broken: Ok(()),
        }
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
    pub fn end(&mut self) -> io::Result<()> {
        let _ = self.program.flush(true);
        match self.server.has_closed() {
            true => Ok(()),
            false => std::mem::replace(&mut self.broken, Ok(())),
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
