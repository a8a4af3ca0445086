//! What wakes the main thread when the core's next deadline has come, also when the machine slept
//! through it, and when the wall clock was set.

use std::{io, os::fd::BorrowedFd};

use crate::time::Instant;

#[cfg(target_os = "linux")]
mod sys {
    use std::{os::fd::AsFd, time::Duration};

    use nix::sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    };

    use super::*;
    use crate::server::base::clock;

    /// A timer on the suspend-aware clock: the kernel fires it right after a resume.
    pub struct Timer {
        timer: TimerFd,
        /// Readable when the wall clock was set, or never; not every kernel can tell.
        wall: Option<TimerFd>,
    }

    /// A time on the wall clock that nobody lives to see: the year 2242.
    const NEVER: Duration = Duration::from_secs(1 << 33);

    impl Timer {
        /// Not armed.
        pub fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            let wall = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
            let never = Expiration::OneShot(TimeSpec::from(NEVER));
            let when_set = TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
            let told = wall.set(never, TimerSetTimeFlags::TFD_TIMER_ABSTIME | when_set);
            Ok(Timer {
                wall: told.ok().map(|()| wall),
                timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?,
            })
        }

        /// Makes one of [`Timer::fds`] readable at `deadline`, and not before.
        pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
            match deadline {
                None => self.timer.unset()?,
                Some(at) => {
                    // A zero would disarm it.
                    let span = clock::until(at).max(Duration::from_millis(1));
                    let expiration = Expiration::OneShot(TimeSpec::from(span));
                    self.timer.set(expiration, TimerSetTimeFlags::empty())?;
                }
            }
            Ok(())
        }

        /// It was heard that the wall clock was set.
        pub fn clear(&mut self) {
            let _ = self.wall.as_ref().map(TimerFd::wait);
        }

        /// Readable when the deadline has come, and when the wall clock was set.
        pub fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
            [
                Some(self.timer.as_fd()),
                self.wall.as_ref().map(AsFd::as_fd),
            ]
        }

        /// How long poll(2) may sleep at most.
        pub fn left(&self) -> Option<Duration> {
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::time::Duration;

    use super::*;
    use crate::server::base::clock;

    /// How long to sleep at most where poll(2)'s timeout may stand still while the machine sleeps:
    /// so late may a refresh be after a resume.
    const MAX_NAP: Duration = Duration::from_secs(37);

    /// poll(2)'s own timeout.
    pub struct Timer {
        armed: Option<Instant>,
    }

    impl Timer {
        /// Not armed.
        pub fn new() -> io::Result<Self> {
            Ok(Timer { armed: None })
        }

        /// Limits [`Timer::timeout`].
        pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
            self.armed = deadline;
            Ok(())
        }

        /// Nothing is kept.
        pub fn clear(&mut self) {}

        /// There are no descriptors.
        pub fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
            [None, None]
        }

        /// How long poll(2) may sleep at most.
        pub fn left(&self) -> Option<Duration> {
            self.armed.map(|at| clock::until(at).min(MAX_NAP))
        }
    }
}

pub use sys::Timer;

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::server::base::clock;

    #[test]
    fn a_timer_that_has_fired_is_silent_when_nothing_more_is_due() {
        let mut timer = Timer::new().unwrap();
        // False also where there is no descriptor.
        let readable = |timer: &Timer, timeout| {
            let fds = timer.fds().into_iter().flatten();
            let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            !fds.is_empty() && poll(&mut fds, timeout).unwrap() > 0
        };
        timer.arm(Some(clock::now().instant)).unwrap();
        let some = timer.fds().iter().any(Option::is_some);
        assert_eq!(readable(&timer, PollTimeout::MAX), some);
        timer.clear();
        timer.arm(None).unwrap();
        assert!(!readable(&timer, PollTimeout::ZERO));
    }
}
