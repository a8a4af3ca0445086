//! Signals as descriptors that become readable. Programs inherit what is blocked, so a process that
//! starts one does so [`unmasked`].

use std::{io, os::fd::BorrowedFd};

use nix::{
    sys::signal::{SigSet, SigmaskHow, Signal, kill},
    unistd::Pid,
};

use super::{fork, log};

/// What a signal asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSignal {
    /// SIGTERM, SIGINT, and SIGHUP of a terminal: end.
    Stop,
    /// SIGHUP: reload.
    Reload,
}

/// What SIGHUP means.
fn hang_up() -> ServerSignal {
    match log::is_on_terminal() {
        true => ServerSignal::Stop,
        false => ServerSignal::Reload,
    }
}

/// Keeps the signals that the server answers from its threads; to be called before there are any.
pub fn block() -> io::Result<()> {
    Ok(answered().thread_block()?)
}

/// Those that ask something of the server.
pub const SERVER_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Lets these through, which come to a handler.
pub fn unblock_server_signals() -> io::Result<()> {
    let signals: SigSet = SERVER_SIGNALS.into_iter().collect();
    Ok(signals.thread_unblock()?)
}

/// Does `work`, which starts a program, with no signal blocked: programs inherit that, and few of them
/// undo it.
pub fn unmasked<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let outcome = work();
    before.thread_set_mask()?;
    Ok(outcome)
}

/// Kills a process group, by kill(2) and the negative number: with killpg(3) every `show` would have
/// one more function of libc to look up when it starts.
pub fn kill_group(leader: Pid) {
    // It may just have ended by itself.
    let _ = kill(
        Pid::from_raw(leader.as_raw().saturating_neg()),
        Signal::SIGKILL,
    );
}

/// From now on this process is killed when its parent is: SIGKILL means both.
#[cfg(target_os = "linux")]
pub fn end_with_parent() {
    fork::cautiously(|| {
        // Where that can't be, it is as elsewhere.
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    });
}

/// The end of its lines is what it notices instead.
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent() {}

/// The signals that mean something to the server, or must not end it: SIGUSR1 and SIGUSR2 mean nothing
/// here and must not end a process that holds every token. Nor must SIGXFSZ: a file that must not grow
/// is an error like any other.
pub const ANSWERED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXFSZ,
];

/// The same as a set.
pub fn answered() -> SigSet {
    ANSWERED.into_iter().collect()
}

#[cfg(target_os = "linux")]
mod sys {
    use std::os::fd::AsFd;

    use nix::sys::signalfd::{SfdFlags, SignalFd};

    use super::*;

    /// The token holder's signals.
    pub struct SignalWatch(SignalFd);

    impl SignalWatch {
        /// [`block`] was called before.
        pub fn watch() -> io::Result<Self> {
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            Ok(SignalWatch(SignalFd::with_flags(&answered(), flags)?))
        }

        /// Readable when one has come.
        pub fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        /// The next one that has come.
        pub fn next(&self) -> Option<ServerSignal> {
            while let Ok(Some(info)) = self.0.read_signal() {
                let number = i32::try_from(info.ssi_signo).ok();
                match number.and_then(|number| Signal::try_from(number).ok()) {
                    Some(Signal::SIGTERM | Signal::SIGINT) => return Some(ServerSignal::Stop),
                    Some(Signal::SIGHUP) => return Some(hang_up()),
                    Some(_) | None => {}
                }
            }
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

    /// The token holder's signals, from a thread that waits for them.
    pub struct SignalWatch(UnixStream);

    impl SignalWatch {
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
            Ok(SignalWatch(ours))
        }

        /// Readable when one has come.
        pub fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        /// The next one that has come.
        pub fn next(&self) -> Option<ServerSignal> {
            let mut byte = [0];
            match (&self.0).read(&mut byte) {
                Ok(1) if byte == *b"s" => Some(ServerSignal::Stop),
                Ok(1) => Some(hang_up()),
                _ => None,
            }
        }
    }
}

pub use sys::SignalWatch;
