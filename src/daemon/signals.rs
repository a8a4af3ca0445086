//! Signals as descriptors that become readable. Programs inherit what is blocked, so whoever starts
//! one does so [`unmasked`].

use std::{io, os::fd::BorrowedFd, time::Duration};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: end.
    Stop,
    /// SIGHUP: reload.
    Reload,
}

/// Keeps the signals that the daemon answers from its threads; to be called before there are any.
pub fn block() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&answered()), None)?;
    Ok(())
}

/// The signals that are [`Wish`]es.
pub const WISHES: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Lets those through that are wishes, which come to a handler.
pub fn unblock_wishes() -> io::Result<()> {
    let wishes: SigSet = WISHES.into_iter().collect();
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&wishes), None)?;
    Ok(())
}

/// Lets through what the monitor has blocked to watch its children: this process has its own.
pub fn unblock_children() -> io::Result<()> {
    let signals: SigSet = [Signal::SIGCHLD].into_iter().collect();
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&signals), None)?;
    Ok(())
}

/// Does `work`, which starts a program, with no signal blocked: programs inherit that, and few of
/// them undo it. A child's end meanwhile goes unnoticed.
pub fn unmasked<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let outcome = work();
    before.thread_set_mask()?;
    Ok(outcome)
}

/// From now on this process is killed when its parent is: SIGKILL means both.
#[cfg(target_os = "linux")]
pub fn end_with_parent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// The end of its lines is what it notices instead.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent() -> io::Result<()> {
    Ok(())
}

/// The signals that mean something to the daemon, or must not end it.
pub fn answered() -> SigSet {
    // SIGUSR1 and SIGUSR2 mean nothing here and must not end a daemon that holds every token. Nor
    // must SIGXFSZ: a file that must not grow is an error like any other.
    [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGXFSZ,
    ]
    .into_iter()
    .collect()
}

#[cfg(target_os = "linux")]
mod sys {
    use std::os::fd::AsFd;

    use nix::sys::signalfd::{SfdFlags, SignalFd};

    use super::*;

    fn open(signals: &SigSet) -> io::Result<SignalFd> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(SignalFd::with_flags(signals, flags)?)
    }

    /// The daemon's signals.
    pub struct Wishes(SignalFd);

    impl Wishes {
        /// [`block`] was called before.
        pub fn watch() -> io::Result<Self> {
            open(&answered()).map(Wishes)
        }

        /// Readable when there is a wish.
        pub fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        /// The next wish that has come.
        pub fn next(&self) -> Option<Wish> {
            while let Ok(Some(info)) = self.0.read_signal() {
                let number = i32::try_from(info.ssi_signo).ok();
                match number.and_then(|number| Signal::try_from(number).ok()) {
                    Some(Signal::SIGTERM | Signal::SIGINT) => return Some(Wish::Stop),
                    Some(Signal::SIGHUP) => return Some(Wish::Reload),
                    Some(_) | None => {}
                }
            }
            None
        }
    }

    /// Notices when a child has ended.
    pub struct Children(SignalFd);

    impl Children {
        /// From now on, in this process.
        pub fn watch() -> io::Result<Self> {
            let signals: SigSet = [Signal::SIGCHLD].into_iter().collect();
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
            open(&signals).map(Children)
        }

        /// Readable when one has.
        pub fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.0.as_fd())
        }

        /// Forgets what it has noticed.
        pub fn clear(&self) {
            while let Ok(Some(_)) = self.0.read_signal() {}
        }

        /// How often to ask, where nothing becomes readable.
        pub fn must_ask(&self) -> Option<Duration> {
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
        thread,
    };

    use super::*;

    /// The daemon's signals, from a thread that waits for them.
    pub struct Wishes(UnixStream);

    impl Wishes {
        /// [`block`] was called before.
        pub fn watch() -> io::Result<Self> {
            let (ours, mut theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            thread::Builder::new()
                .name("signals".into())
                .spawn(move || {
                    while let Ok(signal) = answered().wait() {
                        let byte = match signal {
                            Signal::SIGTERM | Signal::SIGINT => b's',
                            Signal::SIGHUP => b'r',
                            _ => continue,
                        };
                        if theirs.write_all(&[byte]).is_err() {
                            return;
                        }
                    }
                })?;
            Ok(Wishes(ours))
        }

        /// Readable when there is a wish.
        pub fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        /// The next wish that has come.
        pub fn next(&self) -> Option<Wish> {
            let mut byte = [0];
            match (&self.0).read(&mut byte) {
                Ok(1) if byte == *b"s" => Some(Wish::Stop),
                Ok(1) => Some(Wish::Reload),
                _ => None,
            }
        }
    }

    /// Children are asked after, a few times a second while any run.
    pub struct Children;

    impl Children {
        /// Nothing to prepare.
        pub fn watch() -> io::Result<Self> {
            Ok(Children)
        }

        /// Nothing becomes readable.
        pub fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        /// Nothing is remembered.
        pub fn clear(&self) {}

        /// How often to ask, where nothing becomes readable: a hook's end is not urgent.
        pub fn must_ask(&self) -> Option<Duration> {
            Some(Duration::from_millis(200))
        }
    }
}

pub use sys::{Children, Wishes};
