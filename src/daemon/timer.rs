//! What wakes the main thread when the core's next deadline has come, also when the machine slept
//! through it.

use std::{io, os::fd::BorrowedFd};

use nix::poll::PollTimeout;

use crate::time::Instant;

#[cfg(target_os = "linux")]
mod sys {
    use std::{os::fd::AsFd, time::Duration};

    use nix::sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    };

    use super::*;
    use crate::daemon::clock;

    /// A timer on the suspend-aware clock: the kernel fires it right after a resume.
    pub struct Timer {
        timer: TimerFd,
        armed: Option<Instant>,
    }

    impl Timer {
        /// Not armed.
        pub fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            Ok(Timer {
                timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?,
                armed: None,
            })
        }

        /// Makes [`Timer::fd`] readable at `deadline`.
        pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
            if deadline == self.armed {
                return Ok(());
            }
            self.armed = deadline;
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

        /// It has fired, or will not be asked about this deadline again.
        pub fn clear(&mut self) {
            self.armed = None;
        }

        /// Readable when the deadline has come.
        pub fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.timer.as_fd())
        }

        /// How long poll(2) may sleep at most.
        pub fn timeout(&self) -> PollTimeout {
            PollTimeout::NONE
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::time::Duration;

    use super::*;
    use crate::daemon::clock;

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

        /// There is no descriptor.
        pub fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        /// How long poll(2) may sleep at most.
        pub fn timeout(&self) -> PollTimeout {
            match self.armed {
                None => PollTimeout::NONE,
                Some(at) => {
                    let span = clock::until(at) + Duration::from_millis(1);
                    PollTimeout::try_from(span.min(MAX_NAP)).unwrap_or(PollTimeout::MAX)
                }
            }
        }
    }
}

pub use sys::Timer;
