//! A descriptor that one thread rings and another polls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

/// What rings an alarm when it is written to its bell.
pub const RING: [u8; 8] = 1_u64.to_ne_bytes();

/// Readable once it has been rung.
pub struct Alarm {
    rung: OwnedFd,
    /// Where one descriptor isn't enough.
    bell: Option<OwnedFd>,
}

impl Alarm {
    /// Not rung yet.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (rung, bell) = descriptors()?;
        Ok(Alarm { rung, bell })
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // A bell that takes no more is loud enough.
        let _ = write(self.bell(), &RING);
    }

    /// What [`RING`] is written to.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_ref().unwrap_or(&self.rung).as_fd()
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

/// An eventfd(2).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok((EventFd::from_value_and_flags(0, flags)?.into(), None))
}

/// A pair of sockets.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn descriptors() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (rung, bell) = std::os::unix::net::UnixStream::pair()?;
    rung.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    Ok((rung.into(), Some(bell.into())))
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
