//! Whether the token holder answers: asked in the way of a client, while somebody waits to be let in,
//! and as often as the service manager's watchdog wants to hear of it. At rest nothing is asked.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::{path::PathBuf, time::Duration, time::Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::server::base::{activation::listener, runtime_files};

/// How long after somebody came it is looked whether somebody still waits: a burst of clients costs
/// one look.
const LOOK_AFTER: Duration = Duration::from_secs(2);

/// How long an answer may take: one that makes room for a successor is silent for nearly as long, and
/// clients give up a little later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(11);

/// How often the watchdog hears something at most.
const MIN_PERIOD: Duration = Duration::from_millis(10);

enum Phase {
    /// Nobody has come.
    Resting,
    /// Somebody has; when to look.
    Looking(Instant),
    /// The holder was asked, and must have answered by then. It was said that it hasn't if there is no
    /// such time any more.
    Asked(UnixStream, Option<Instant>),
}

/// What is known of the holder.
pub struct Heartbeat {
    /// Where it answers; `None` before it does.
    control: Option<(PathBuf, UnixListener)>,
    /// It has said that it ends, for which the manager has another limit.
    ends: bool,
    phase: Phase,
    /// Half of the time that the watchdog gives, and when it is to hear something.
    watchdog: Option<(Duration, Instant)>,
}

impl Heartbeat {
    /// Of a holder that is starting.
    pub fn new(now: Instant) -> Self {
        let period = sd_notify::watchdog_enabled().and_then(|limit| limit.checked_div(2));
        Heartbeat {
            control: None,
            ends: false,
            phase: Phase::Resting,
            watchdog: period.map(|period| (period.max(MIN_PERIOD), now)),
        }
    }

    /// The control socket is the first among these; without any, the holder ends.
    pub fn watch(&mut self, guarded: &[OwnedFd]) {
        let copies = guarded.iter().filter_map(|fd| fd.try_clone().ok());
        self.control = copies.filter_map(listener).next();
        self.ends = guarded.is_empty();
    }

    /// Readable when there is something to do.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.phase {
            Phase::Resting => self.control.as_ref().map(|(_, listener)| listener.as_fd()),
            Phase::Looking(_) => None,
            Phase::Asked(line, _) => Some(line.as_fd()),
        }
    }

    /// When there is, whatever happens until then.
    pub fn next_deadline(&self) -> Option<Instant> {
        let due = self.watchdog.map(|(_, at)| at);
        match self.phase {
            Phase::Resting => due,
            Phase::Looking(at) => due.into_iter().chain([at]).min(),
            Phase::Asked(_, give_up) => give_up,
        }
    }

    /// Does it; true when the watchdog is to hear that all is well.
    pub fn turn(&mut self, now: Instant) -> bool {
        let ready = self.fd().is_some_and(is_readable);
        let due = self.watchdog.is_some_and(|(_, at)| at <= now);
        match &mut self.phase {
            Phase::Asked(line, give_up) if ready => {
                let answered = line.read(&mut [0]).is_ok_and(|count| count > 0);
                if give_up.is_none() {
                    log::warn!("the token holder answers again");
                }
                self.phase = Phase::Resting;
                return answered && self.watchdog.is_some();
            }
            Phase::Asked(_, give_up) => {
                if give_up.is_some_and(|at| at <= now) {
                    *give_up = None;
                    log::error!("the token holder doesn't answer: is it stopped?");
                }
            }
            Phase::Resting | Phase::Looking(_) if due => {
                self.ask(now);
                return self.ends;
            }
            Phase::Resting if ready => self.phase = Phase::Looking(now + LOOK_AFTER),
            Phase::Looking(at) if *at <= now => {
                self.phase = Phase::Resting;
                if self.fd().is_some_and(is_readable) {
                    self.ask(now);
                }
            }
            Phase::Resting | Phase::Looking(_) => {}
        }
        false
    }

    /// Asks the holder, if it can be asked.
    fn ask(&mut self, now: Instant) {
        if let Some((period, at)) = &mut self.watchdog {
            *at = now + *period;
        }
        if let Some((path, _)) = &self.control {
            self.phase = match runtime_files::ask(path) {
                Ok(line) => Phase::Asked(line, Some(now + ANSWER_TIMEOUT)),
                Err(_) => Phase::Looking(now + LOOK_AFTER),
            };
        }
    }
}

fn is_readable(fd: BorrowedFd) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A holder that is looked after, and a clock.
    struct World {
        holder: UnixListener,
        path: PathBuf,
        heartbeat: Heartbeat,
        now: Instant,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new(watchdog: Option<Duration>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("socket");
            let holder = UnixListener::bind(&path).unwrap();
            let now = Instant::now();
            let mut heartbeat = Heartbeat::new(now);
            heartbeat.watchdog = watchdog.map(|period| (period, now));
            heartbeat.watch(&[holder.as_fd().try_clone_to_owned().unwrap()]);
            World {
                holder,
                path,
                heartbeat,
                now,
                _dir: dir,
            }
        }

        fn client(&self) -> UnixStream {
            UnixStream::connect(&self.path).unwrap()
        }

        fn serve(&self) {
            let (mut client, _) = self.holder.accept().unwrap();
            client.write_all(b"pizauth 1 0 0\n").unwrap();
        }

        /// A turn so much later; when the next one is due.
        fn later(&mut self, span: Duration) -> (bool, Option<Duration>) {
            self.now += span;
            let well = self.heartbeat.turn(self.now);
            let next = self.heartbeat.next_deadline();
            (well, next.map(|at| at.duration_since(self.now)))
        }

        fn is_silent(&self) -> bool {
            matches!(self.heartbeat.phase, Phase::Asked(_, None))
        }
    }

    const ZERO: Duration = Duration::ZERO;

    #[test]
    fn a_holder_that_lets_in_who_comes_is_not_asked() {
        let mut world = World::new(None);
        assert_eq!(world.later(ZERO), (false, None));
        for _ in 0..2 {
            let _client = world.client();
            assert_eq!(world.later(ZERO), (false, Some(LOOK_AFTER)));
            assert!(world.heartbeat.fd().is_none(), "it spins");
            world.serve();
            assert_eq!(world.later(LOOK_AFTER), (false, None));
        }
        world.holder.set_nonblocking(true).unwrap();
        assert!(world.holder.accept().is_err());
    }

    #[test]
    fn a_holder_that_hangs_is_noticed_and_so_is_its_end() {
        let mut world = World::new(None);
        let _client = world.client();
        assert_eq!(world.later(ZERO), (false, Some(LOOK_AFTER)));
        assert_eq!(world.later(LOOK_AFTER), (false, Some(ANSWER_TIMEOUT)));
        assert!(!world.is_silent());
        assert_eq!(world.later(ANSWER_TIMEOUT), (false, None));
        assert!(world.is_silent());
        for _ in 0..2 {
            world.serve();
        }
        assert_eq!(world.later(ZERO), (false, None));
        assert!(!world.is_silent());
    }

    #[test]
    fn the_watchdog_hears_what_the_holder_answers() {
        let period = Duration::from_secs(15);
        let mut world = World::new(Some(period));
        for _ in 0..2 {
            assert_eq!(world.later(ZERO), (false, Some(ANSWER_TIMEOUT)));
            world.serve();
            assert_eq!(world.later(ZERO), (true, Some(period)));
            assert_eq!(world.later(ZERO), (false, Some(period)));
            world.now += period;
        }
        // One that hangs up has not answered.
        assert_eq!(world.later(ZERO), (false, Some(ANSWER_TIMEOUT)));
        drop(world.holder.accept().unwrap());
        assert_eq!(world.later(ZERO), (false, Some(period)));
        // One that ends is the manager's to limit; one that has gone isn't well.
        world.heartbeat.watch(&[]);
        assert_eq!(world.later(period), (true, Some(period)));
        world.heartbeat.ends = false;
        assert_eq!(world.later(period), (false, Some(period)));
    }
}
