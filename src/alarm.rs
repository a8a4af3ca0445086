//! A descriptor that one thread rings and another polls.

use std::{
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use nix::{errno::Errno, unistd::read};

/// Readable once it has been rung.
pub struct Alarm {
    rung: UnixStream,
    bell: UnixStream,
}

impl Alarm {
    /// Not rung yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (rung, bell) = UnixStream::pair()?;
        rung.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        Ok(Alarm { rung, bell })
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // A full buffer is loud enough.
        let _ = (&self.bell).write(&[0]);
    }

    /// A byte that is written to this rings it.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Makes it unreadable; to be done before looking at what it was rung for.
    pub fn clear(&self) {
        drain(self);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rung.as_fd()
    }
}

/// Throws away what a descriptor that tells of events, and never blocks, has to tell; whether that
/// was anything.
pub fn drain(fd: impl AsFd) -> bool {
    let mut buffer = [0; 4096];
    let mut told = false;
    loop {
        match read(&fd, &mut buffer) {
            // Without room for all there was more than enough.
            Ok(1..) | Err(Errno::ENOBUFS) => told = true,
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return told,
        }
    }
}
