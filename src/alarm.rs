//! A descriptor that one thread rings and another polls.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sys {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::sys::eventfd::{EfdFlags, EventFd};

    /// Readable once it has been rung.
    pub struct Alarm(EventFd);

    impl Alarm {
        /// Not rung yet.
        pub fn new() -> io::Result<Self> {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            Ok(Alarm(EventFd::from_value_and_flags(0, flags)?))
        }

        /// Makes it readable.
        pub fn ring(&self) {
            // It can fail only when it has been rung 2^64 times already.
            let _ = self.0.write(1);
        }

        /// Makes it unreadable; to be done before looking at what it was rung for.
        pub fn clear(&self) {
            let _ = self.0.read();
        }
    }

    impl AsFd for Alarm {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sys {
    use std::io::{self, Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    /// Readable once it has been rung.
    pub struct Alarm {
        rung: UnixStream,
        bell: UnixStream,
    }

    impl Alarm {
        /// Not rung yet.
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

        /// Makes it unreadable; to be done before looking at what it was rung for.
        pub fn clear(&self) {
            let mut buffer = [0; 256];
            while matches!((&self.rung).read(&mut buffer), Ok(n) if n > 0) {}
        }
    }

    impl AsFd for Alarm {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.rung.as_fd()
        }
    }
}

pub use sys::Alarm;
