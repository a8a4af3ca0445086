//! Which descriptors are ready: epoll(7) where there is one, since poll(2) looks at every
//! connection for each that has something to say; poll(2) everywhere else.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFlags, PollTimeout};

/// What a descriptor is called: no two that are watched have the same name.
pub(super) type Name = u64;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use epoll::Poller;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use poll::Poller;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll {
    use nix::errno::Errno;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

    use super::{BorrowedFd, Instant, Name, PollFlags, io, until};

    /// How many descriptors one wait tells of; those left over are told of by the next.
    const EVENTS: usize = 128;

    pub struct Poller {
        epoll: Epoll,
        events: Vec<EpollEvent>,
    }

    impl Poller {
        /// Watches nothing yet.
        pub fn new() -> io::Result<Self> {
            Ok(Poller {
                epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
                events: vec![EpollEvent::empty(); EVENTS],
            })
        }

        /// Watches `fd` from now on, which must be forgotten before it is closed: another process
        /// may have a copy of it, and the system tells of it as long as there is one.
        pub fn watch(&mut self, fd: BorrowedFd, name: Name, wanted: PollFlags) -> io::Result<()> {
            Ok(self.epoll.add(fd, event(name, wanted))?)
        }

        /// Watches `fd` for something else.
        pub fn change(&mut self, fd: BorrowedFd, name: Name, wanted: PollFlags) -> io::Result<()> {
            Ok(self.epoll.modify(fd, &mut event(name, wanted))?)
        }

        /// Watches `fd` no longer.
        pub fn forget(&mut self, fd: BorrowedFd) {
            // Whatever isn't watched is forgotten already.
            let _ = self.epoll.delete(fd);
        }

        /// Waits for something to be ready, until `wake_at`. The descriptors are those that are
        /// watched; nobody needs to name them again.
        pub fn wait<'a>(
            &mut self,
            _watched: impl Iterator<Item = (Name, BorrowedFd<'a>, PollFlags)>,
            wake_at: Option<Instant>,
        ) -> Result<Vec<(Name, PollFlags)>, Errno> {
            let count = self.epoll.wait(&mut self.events, until(wake_at))?;
            let ready = self.events.iter().take(count);
            Ok(ready.map(|it| (it.data(), flags(it.events()))).collect())
        }
    }

    // The flags of both calls have the same values on Linux (epoll_ctl(2)); a hang-up and an error are
    // told of unasked.

    fn event(name: Name, wanted: PollFlags) -> EpollEvent {
        EpollEvent::new(EpollFlags::from_bits_truncate(wanted.bits().into()), name)
    }

    fn flags(seen: EpollFlags) -> PollFlags {
        PollFlags::from_bits_truncate(seen.bits().try_into().unwrap_or_default())
    }
}

/// Everywhere else, and wherever the tests run.
#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
mod poll {
    use nix::errno::Errno;
    use nix::poll::{PollFd, poll};

    use super::{BorrowedFd, Instant, Name, PollFlags, io, until};

    pub struct Poller;

    impl Poller {
        /// Watches what every wait names.
        pub fn new() -> io::Result<Self> {
            Ok(Poller)
        }

        pub fn watch(&mut self, _: BorrowedFd, _: Name, _: PollFlags) -> io::Result<()> {
            Ok(())
        }

        pub fn change(&mut self, _: BorrowedFd, _: Name, _: PollFlags) -> io::Result<()> {
            Ok(())
        }

        pub fn forget(&mut self, _: BorrowedFd) {}

        /// Waits for one of `watched` to be ready, until `wake_at`.
        pub fn wait<'a>(
            &mut self,
            watched: impl Iterator<Item = (Name, BorrowedFd<'a>, PollFlags)>,
            wake_at: Option<Instant>,
        ) -> Result<Vec<(Name, PollFlags)>, Errno> {
            let (names, mut fds): (Vec<Name>, Vec<PollFd>) = watched
                .map(|(name, fd, wanted)| (name, PollFd::new(fd, wanted)))
                .unzip();
            poll(&mut fds, until(wake_at))?;
            let seen = fds
                .iter()
                .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            let ready = names.into_iter().zip(seen);
            Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
        }
    }
}

/// How long to wait, rounded up so that nothing is woken a moment too early; `None` is for ever.
fn until(wake_at: Option<Instant>) -> PollTimeout {
    let left = wake_at.map(|at| at.saturating_duration_since(Instant::now()));
    let millis = left.map(|left| left.as_micros().div_ceil(1_000));
    millis.map_or(PollTimeout::NONE, |millis| {
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    /// Both tell the same about the same descriptors.
    macro_rules! told_alike {
        ($test:ident, $poller:ty) => {
            #[test]
            fn $test() {
                let mut poller = <$poller>::new().unwrap();
                let (mut ours, mut theirs) = UnixStream::pair().unwrap();
                let seen = |poller: &mut $poller, ours: &UnixStream, wanted, span| {
                    poller.change(ours.as_fd(), 7, wanted).unwrap();
                    let watched = [(7, ours.as_fd(), wanted)];
                    poller
                        .wait(watched.into_iter(), Some(Instant::now() + span))
                        .unwrap()
                };
                let (nothing, read, write) =
                    (PollFlags::empty(), PollFlags::POLLIN, PollFlags::POLLOUT);
                let (now, soon) = (Duration::ZERO, Duration::from_secs(20));
                poller.watch(ours.as_fd(), 7, read).unwrap();
                assert_eq!(seen(&mut poller, &ours, read, now), []);
                let short = Duration::from_millis(3);
                let began = Instant::now();
                assert_eq!(seen(&mut poller, &ours, read, short), []);
                assert!(began.elapsed() >= short, "woken too early");
                assert_eq!(seen(&mut poller, &ours, read | write, soon), [(7, write)]);
                theirs.write_all(b"x").unwrap();
                assert_eq!(seen(&mut poller, &ours, read, soon), [(7, read)]);
                assert_eq!(seen(&mut poller, &ours, nothing, now), []);
                ours.read_exact(&mut [0]).unwrap();
                drop(theirs);
                let hung_up = PollFlags::POLLHUP;
                assert_eq!(seen(&mut poller, &ours, nothing, soon), [(7, hung_up)]);
                poller.forget(ours.as_fd());
                let none = poller.wait([].into_iter(), Some(Instant::now()));
                assert_eq!(none.unwrap(), []);
            }
        };
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    told_alike!(epoll_tells, epoll::Poller);
    told_alike!(poll_tells, poll::Poller);
}
