//! The monitor: the process that people and service managers know, and the only one that keeps all
//! of the user's rights for as long as the server runs. It never has a secret: it forks the daemon
//! (the rest of this directory), which has them all and gives its rights up, before either has read
//! anything. What the daemon can't do any more, it orders here: a hook runner (runner.rs), and
//! another one when that has ended; a hand (hand.rs), for what concerns files; a word to the service
//! manager, who listens to this process only; and to become the program that a `restart` is to run,
//! which then forks its own daemon. The monitor itself does nothing that could make it wait.

use std::{
    ffi::CString,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{
            ffi::OsStrExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::rlim_t,
        signal::{Signal, kill, raise},
        socket::{MsgFlags, send},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    clock,
    hand::{Answer, Done, Servant, Trouble},
    job::take_line,
    pass,
    pipe::{PipeReader, pipe},
    process::{self, Lines},
    seals::Key,
    signals::{self, Children},
};
use crate::{cli::TAKE_OVER, core::Entropy, error::Exit};

/// How long there is from one runner's start to the next one's at least: something that kills every
/// runner must not keep a processor busy.
const PAUSE: Duration = Duration::from_secs(1);

/// What there is to tell a service manager (sd_notify(3)). Others would have it act on processes
/// that aren't the daemon's.
const KNOWN: [&str; 9] = [
    "BARRIER=1",
    "FDNAME=pizauth-",
    "FDPOLL=0",
    "FDSTORE=1",
    "FDSTOREREMOVE=1",
    "MONOTONIC_USEC=",
    "READY=1",
    "RELOADING=1",
    "STOPPING=1",
];

/// How long a service manager may take to take a word: it takes microseconds, and one that hangs
/// must not hang the monitor.
const MANAGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many hands there may be at once: more than all the threads of a daemon that is in order, and
/// few enough to leave the user processes of his own.
const MAX_HANDS: usize = 64;

/// How long what the monitor has forked may take to end after the daemon: it takes milliseconds,
/// unless a file system hangs.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What a shell adds to the number of the signal that has ended a program.
const SIGNALLED: i32 = 128;

/// What the daemon asks of the monitor. The first of the descriptors that come along is where the
/// answer goes, or silence.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// A hand is to serve that descriptor.
    Hand,
    /// Tell the service manager this, and give it the other descriptors.
    Notify(String),
    /// Hold back the signals that are the daemon's, for its successor, or pass them on again.
    Hold(bool),
    /// Descriptors for [`Order::Become`], all of which don't go with one message; no answer.
    Keep,
    /// Become the program that is there now, and give it what was kept: the state, the line to the
    /// runner, and what the state counts from there. An answer comes only when that failed.
    Become {
        /// How many descriptors were kept for this, the last ones.
        kept: usize,
        /// The successor is to reload, as a signal has asked the daemon.
        reload: bool,
    },
}

/// An order on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// What is to be done.
    pub order: Order,
    /// How many descriptors come along.
    pub fds: usize,
}

/// What the monitor knows from its start.
pub struct Charge {
    /// The program that the server was started as.
    pub program: PathBuf,
    /// The server's configuration.
    pub config_file: PathBuf,
    /// How it was started.
    pub start: Start,
    /// What a predecessor has left.
    pub legacy: Option<Legacy>,
}

/// How the server was started, which all of its programs go by.
#[derive(Clone, Copy)]
pub struct Start {
    /// How many `-v` there were.
    pub verbose: u8,
    /// It runs in the background.
    pub detached: bool,
    /// How many descriptors its commands may have, where the server itself has been given more.
    pub descriptors: Option<rlim_t>,
}

/// What goes on when a monitor has become another program.
pub struct Legacy {
    /// The hook runner.
    pub runner: Runner,
    /// The key of the seals. The daemon closes this pipe unread.
    pub key: PipeReader,
}

impl Charge {
    /// The descriptors that it holds.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let legacy = self.legacy.iter();
        legacy
            .flat_map(|it| [it.runner.alive.as_raw_fd(), it.key.as_raw_fd()])
            .collect()
    }
}

/// Serves the daemon until it has ended; the exit status of both.
pub fn run(lines: Lines, daemon: Pid, charge: Charge) -> i32 {
    let failed = Exit::Other.code().into();
    orphans::adopt();
    let outcome = Monitor::new(lines, daemon, charge).and_then(|mut monitor| {
        process::forward_signals(daemon)?;
        let end = monitor.serve()?;
        // There is nobody left to pass them on to.
        signals::block()?;
        let end = end.map_or_else(|| waitpid(daemon, None), Ok)?;
        monitor.outlive_others();
        Ok(end)
    });
    let end = outcome.or_else(|error| {
        log::error!("the monitor can't go on: {error}");
        // It saves what it can.
        let _ = kill(daemon, Signal::SIGTERM);
        waitpid(daemon, None)
    });
    match end {
        Ok(WaitStatus::Exited(_, status)) => status,
        Ok(WaitStatus::Signaled(_, signal, _)) => SIGNALLED.saturating_add(signal as i32),
        Ok(_) | Err(_) => failed,
    }
}

struct Monitor {
    lines: Lines,
    daemon: Pid,
    children: Children,
    servant: Servant,
    start: Start,
    /// The hands that haven't ended.
    hands: Vec<Pid>,
    runner: Option<Runner>,
    /// When another one may be started at the earliest.
    next_start: Instant,
    /// What has begun to arrive from the daemon, and the descriptors with it.
    incoming: Vec<u8>,
    fds: Vec<OwnedFd>,
    kept: Vec<OwnedFd>,
}

/// A hook runner.
pub struct Runner {
    /// Its process.
    pub process: Pid,
    /// Ends with it.
    pub alive: PipeReader,
}

impl Monitor {
    fn new(lines: Lines, daemon: Pid, charge: Charge) -> io::Result<Self> {
        let (runner, key) = match charge.legacy {
            Some(legacy) => (Some(legacy.runner), Key::take_up(legacy.key)?),
            None => (None, Key::of(clock::System.bytes32())),
        };
        Ok(Monitor {
            lines,
            daemon,
            children: Children::watch()?,
            servant: Servant {
                program: charge.program,
                config_file: charge.config_file,
                key,
            },
            start: charge.start,
            hands: Vec::new(),
            runner,
            next_start: Instant::now(),
            incoming: Vec::new(),
            fds: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// Until the daemon has ended, or its line has: then it is just ending.
    fn serve(&mut self) -> io::Result<Option<WaitStatus>> {
        loop {
            let now = Instant::now();
            if self.runner.is_none() && self.next_start <= now {
                // What can't be forked now may be in a moment.
                self.runner = self.start_runner().ok();
                self.next_start = now + PAUSE;
            }
            let runner_ended = self.wait(now)?;
            let serves = self.obey()?;
            self.children.clear();
            if let Some(end) = self.reap() {
                return Ok(Some(end));
            }
            if !serves {
                return Ok(None);
            }
            let ended = if runner_ended {
                self.runner.take()
            } else {
                None
            };
            if let Some(runner) = ended {
                // It may have been reaped already.
                let _ = waitpid(runner.process, None);
                orphans::end(self.daemon);
            }
        }
    }

    /// Sends the runner's process number on a line of text to the daemon, and with it the daemon's
    /// end of the line to it.
    fn start_runner(&self) -> io::Result<Runner> {
        let (ours, theirs) = UnixStream::pair()?;
        let (alive, held) = pipe()?;
        let key = self.servant.key.clone();
        let limit = self.start.descriptors;
        let (process, (ours, alive)) =
            process::fork_runner(theirs, held, limit, key, (ours, alive))?;
        // A few bytes into an empty line: they go at once, all of them. If the daemon is gone, the
        // line says so, too.
        let words = format!("{process}\n");
        let _ = pass::send(&self.lines.news, words.as_bytes(), &[ours.as_fd()]);
        Ok(Runner { process, alive })
    }

    /// Sleeps until there is something to do; whether the runner is gone.
    fn wait(&self, now: Instant) -> io::Result<bool> {
        let start = self.runner.is_none().then(|| {
            let left = self.next_start.saturating_duration_since(now);
            left.saturating_add(MILLISECOND)
        });
        let ask = self.children.must_ask().filter(|_| !self.hands.is_empty());
        let pause = match start.into_iter().chain(ask).min() {
            None => PollTimeout::NONE,
            Some(pause) => PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX),
        };
        let alive = self.runner.as_ref().map(|runner| runner.alive.as_fd());
        let watched = [alive, Some(self.lines.orders.as_fd()), self.children.fd()];
        let watched = watched.into_iter().flatten();
        let mut fds: Vec<PollFd> = watched
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, pause) {
            // Without memory it is as if something had happened: there may be some the next time.
            Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        let first = fds.first().and_then(PollFd::any);
        Ok(alive.is_some() && first.unwrap_or(false))
    }

    /// Does what was ordered; false when nothing more will be.
    fn obey(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match pass::recv_now(&self.lines.orders, &mut buffer, &mut self.fds) {
                Ok(0) => return Ok(false),
                Ok(count) => self.incoming.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while let Some(line) = take_line(&mut self.incoming) {
            // What makes no sense is nobody's order.
            if let Ok(sent) = serde_json::from_slice::<Sent>(&line) {
                let there = sent.fds.min(self.fds.len());
                let brought = self.fds.drain(..there).collect();
                self.perform(sent, brought);
            }
        }
        Ok(true)
    }

    fn perform(&mut self, Sent { order, fds }: Sent, mut brought: Vec<OwnedFd>) {
        // Descriptors get lost where there is no room for more. Without its line, nobody hears.
        let complete = brought.len() == fds;
        if matches!(order, Order::Keep) {
            return self.kept.append(&mut brought);
        }
        if brought.is_empty() {
            // Nothing of an attempt that broke off is for the next one.
            if matches!(order, Order::Become { .. }) {
                self.kept.clear();
            }
            return;
        }
        let line = UnixStream::from(brought.remove(0));
        let outcome = match order {
            _ if !complete => Err(io::Error::other("a descriptor got lost")),
            Order::Keep => Ok(()),
            Order::Hand => return self.lend_hand(line),
            Order::Notify(text) => tell_manager(&text, &as_fds(&brought)),
            Order::Hold(true) => signals::block(),
            Order::Hold(false) => signals::unblock_wishes(),
            Order::Become {
                kept: count,
                reload,
            } => {
                let mut kept = std::mem::take(&mut self.kept);
                // What came before is of an attempt that broke off.
                let ours = kept.len().checked_sub(count);
                Err(match ours.map(|from| kept.split_off(from)) {
                    Some(kept) => self.become_successor(&kept, reload),
                    None => io::Error::other("a descriptor got lost"),
                })
            }
        };
        answer(&line, outcome);
    }

    fn lend_hand(&mut self, line: UnixStream) {
        if self.hands.len() >= MAX_HANDS {
            return answer(&line, Err(io::Error::other("too many hands are at work")));
        }
        let outcome = line.try_clone().and_then(|theirs| {
            let servant = self.servant.clone();
            process::fork_hand(theirs, self.start.descriptors, servant)
        });
        match outcome {
            Ok(hand) => self.hands.push(hand),
            Err(error) => {
                let why = format!("no process can be started: {error}");
                answer(&line, Err(io::Error::other(why)));
            }
        }
    }

    /// Becomes the program that is there now, which answers the signals that are held back. Returns
    /// only when that isn't possible.
    fn become_successor(&self, kept: &[OwnedFd], reload: bool) -> io::Error {
        let Some(runner) = &self.runner else {
            return io::Error::other("the hook runner is gone");
        };
        let outcome = self.servant.key.lay_down().and_then(|key| {
            let words = [
                self.servant.program.as_os_str().as_bytes(),
                TAKE_OVER.as_bytes(),
                self.servant.config_file.as_os_str().as_bytes(),
                Handed::of(self, runner, &key, kept)?.to_string().as_bytes(),
            ]
            .map(CString::new);
            let words: Vec<CString> = words.into_iter().collect::<Result<_, _>>()?;
            let mut passed = as_fds(kept);
            passed.extend([runner.alive.as_fd(), key.as_fd()]);
            if reload {
                raise(Signal::SIGHUP)?;
            }
            let failed = set_cloexec(&passed, false).map(|()| run_instead(&words));
            set_cloexec(&passed, true)?;
            failed
        });
        outcome.unwrap_or_else(|error| error)
    }

    /// Buries whoever has ended, the daemon among them.
    fn reap(&mut self) -> Option<WaitStatus> {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
            if status.pid() == Some(self.daemon) {
                // Its number may soon be somebody else's.
                process::forward_no_more();
                return Some(status);
            }
            self.hands.retain(|hand| status.pid() != Some(*hand));
        }
        None
    }

    /// Waits for the hands and the hook runner, which end when the daemon has. To a service manager
    /// the end of this process is the end of the server: it kills who is left, and says so. A hand
    /// that is still looking something up notices nothing, and has nobody to tell.
    fn outlive_others(&mut self) {
        let give_up = Instant::now() + LAST_WAIT;
        let mut others = self.hands.clone();
        others.extend(self.runner.iter().map(|runner| runner.process));
        while !self.are_buried(&mut others) && Instant::now() < give_up {
            let left = give_up.saturating_duration_since(Instant::now());
            let pause = self.children.must_ask().map_or(left, |it| it.min(left));
            let fd = self.children.fd();
            let mut fds: Vec<PollFd> = fd
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
                .into_iter()
                .collect();
            let timeout = PollTimeout::try_from(pause.saturating_add(MILLISECOND));
            match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        for hand in others.iter().filter(|it| self.hands.contains(it)) {
            let _ = kill(*hand, Signal::SIGKILL);
        }
    }

    /// Buries those who have ended; whether all have.
    fn are_buried(&self, others: &mut Vec<Pid>) -> bool {
        self.children.clear();
        let still_there = Ok(WaitStatus::StillAlive);
        others.retain(|it| waitpid(*it, Some(WaitPidFlag::WNOHANG)) == still_there);
        others.is_empty()
    }
}

/// execv(3), which returns only when it has failed.
fn run_instead(words: &[CString]) -> io::Error {
    match words.first().map(|path| nix::unistd::execv(path, words)) {
        Some(Err(errno)) => errno.into(),
        _ => io::Error::other("there is no program"),
    }
}

/// Rounds a timeout up, so that nothing is done a moment too early.
const MILLISECOND: Duration = Duration::from_millis(1);

fn as_fds(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// As a hand answers. Who waits for it has an empty line, so that it goes at once; for anybody else
/// the monitor doesn't wait.
fn answer(line: &UnixStream, outcome: io::Result<()>) {
    let answer: Answer = match outcome {
        Ok(()) => Ok(Done::default()),
        Err(error) => Err(Trouble {
            what: error.to_string(),
            hint: None,
        }),
    };
    if let Ok(mut bytes) = serde_json::to_vec(&answer) {
        bytes.push(b'\n');
        // Nobody listens any more, then.
        let _ = send(line.as_raw_fd(), &bytes, MsgFlags::MSG_DONTWAIT);
    }
}

/// Whether these lines are all words of the server's. A manager may take other characters for the
/// end of a line, too.
fn is_known(text: &str) -> bool {
    let known = |line: &str| KNOWN.iter().any(|word| line.starts_with(word));
    let plain = |line: &str| !line.contains(char::is_control);
    let lines = text.strip_suffix('\n').unwrap_or(text);
    lines.split('\n').all(|line| known(line) && plain(line))
}

/// Tells the service manager (sd_notify(3)), if there is one. That listens to this process only.
fn tell_manager(text: &str, fds: &[BorrowedFd]) -> io::Result<()> {
    if !is_known(text) {
        return Err(io::Error::other("that is no word of the server's"));
    }
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Err(io::Error::other("there is none"));
    };
    let line = UnixDatagram::unbound()?;
    line.connect(path)?;
    line.set_write_timeout(Some(MANAGER_TIMEOUT))?;
    pass::send(&line, text.as_bytes(), fds).map(drop)
}

fn set_cloexec(fds: &[BorrowedFd], closed: bool) -> io::Result<()> {
    let flags = match closed {
        true => FdFlag::FD_CLOEXEC,
        false => FdFlag::empty(),
    };
    for fd in fds {
        fcntl(fd, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

/// What a successor gets from the monitor that it was, as the words of one argument.
pub struct Handed {
    /// The hook runner: its process, and the pipe that ends with it.
    pub runner: Pid,
    pub alive: RawFd,
    /// The daemon, which has nothing more to do.
    pub daemon: Pid,
    /// How the server was started.
    pub start: Start,
    /// The pipe with the key of the seals.
    pub key: RawFd,
    /// The memory with the state.
    pub state: RawFd,
    /// What the state counts.
    pub fds: Vec<RawFd>,
}

impl Handed {
    fn of(
        monitor: &Monitor,
        runner: &Runner,
        key: &PipeReader,
        kept: &[OwnedFd],
    ) -> io::Result<Self> {
        let mut numbers = kept.iter().map(AsRawFd::as_raw_fd);
        let state = numbers.next();
        Ok(Handed {
            runner: runner.process,
            alive: runner.alive.as_raw_fd(),
            daemon: monitor.daemon,
            start: monitor.start,
            key: key.as_raw_fd(),
            state: state.ok_or_else(|| io::Error::other("there is no state"))?,
            fds: numbers.collect(),
        })
    }

    /// Reads what [`Handed`] is written as; `None` when it isn't.
    pub fn parse(text: &str) -> Option<Self> {
        fn number<T: FromStr>(word: Option<&str>) -> Option<T> {
            word.and_then(|word| word.parse().ok())
        }
        let mut words = text.split(',');
        let runner = Pid::from_raw(number(words.next())?);
        let alive = number(words.next())?;
        let daemon = Pid::from_raw(number(words.next())?);
        let start = Start {
            verbose: number(words.next())?,
            detached: number::<u8>(words.next())? != 0,
            descriptors: number(words.next()).filter(|limit| *limit > 0),
        };
        let (key, state) = (number(words.next())?, number(words.next())?);
        let fds = words.map(|word| number(Some(word)));
        let fds = fds.collect::<Option<_>>()?;
        Some(Handed {
            runner,
            alive,
            daemon,
            start,
            key,
            state,
            fds,
        })
    }

    /// Makes sure that the daemon ends, which ends by itself unless somebody else has taken it over.
    pub fn end_daemon(&self) {
        // This process's child it is, and so its number is its own until it is reaped.
        if self.daemon > Pid::from_raw(1) {
            let _ = kill(self.daemon, Signal::SIGKILL);
            let _ = waitpid(self.daemon, None);
        }
    }
}

impl std::fmt::Display for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Handed {
            runner,
            alive,
            daemon,
            start,
            key,
            state,
            fds,
        } = self;
        let Start {
            verbose,
            detached,
            descriptors,
        } = start;
        let (detached, descriptors) = (u8::from(*detached), descriptors.unwrap_or(0));
        write!(
            f,
            "{runner},{alive},{daemon},{verbose},{detached},{descriptors},{key},{state}"
        )?;
        fds.iter().try_for_each(|fd| write!(f, ",{fd}"))
    }
}

/// What a runner that was killed leaves behind: hooks that nobody would end at their limit, beside
/// which the next ones would run out of order.
#[cfg(target_os = "linux")]
mod orphans {
    use std::fs;

    use nix::{
        sys::{
            prctl,
            signal::{Signal, killpg},
        },
        unistd::{Pid, getpgid, getsid},
    };

    /// From now on they are this process's children.
    pub fn adopt() {
        // Without it they run on.
        let _ = prctl::set_child_subreaper(true);
    }

    /// Kills the hooks, with all of their process groups. What else hooks have left behind leads no
    /// group, or has a session of its own; it was left on purpose.
    pub fn end(daemon: Pid) {
        let us = Pid::this();
        let children = fs::read_to_string(format!("/proc/self/task/{us}/children"));
        let children = children.unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            let child = Pid::from_raw(child);
            let leads = getpgid(Some(child)) == Ok(child);
            if child != daemon && leads && getsid(Some(child)) == getsid(None) {
                // It may just have ended by itself; its number is its own until it is reaped.
                let _ = killpg(child, Signal::SIGKILL);
            }
        }
    }
}

/// Elsewhere nobody says who they are; they run on.
#[cfg(not(target_os = "linux"))]
mod orphans {
    pub fn adopt() {}

    pub fn end(_daemon: nix::unistd::Pid) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monitor_waits_for_nobody_who_reads_no_answer() {
        let (line, _silent) = UnixStream::pair().unwrap();
        let full = |line: &UnixStream| send(line.as_raw_fd(), &[0; 1024], MsgFlags::MSG_DONTWAIT);
        while full(&line).is_ok() {}
        answer(&line, Ok(()));
    }

    #[test]
    fn what_a_successor_gets_is_read_as_it_was_written() {
        let written = "7,3,9,2,1,1024,4,5,6,8";
        let handed = Handed::parse(written).unwrap();
        assert_eq!((handed.runner.as_raw(), handed.daemon.as_raw()), (7, 9));
        assert_eq!((handed.alive, handed.key, handed.state), (3, 4, 5));
        let start = handed.start;
        assert_eq!((start.verbose, start.detached), (2, true));
        assert_eq!(start.descriptors, Some(1024));
        assert_eq!(handed.fds, [6, 8]);
        assert_eq!(handed.to_string(), written);
        let unlimited = Handed::parse("7,3,9,2,0,0,4,5").unwrap();
        assert_eq!(unlimited.start.descriptors, None);
        assert!(Handed::parse("7,3,9,2,1,1024,4").is_none());
        assert!(Handed::parse("7,3,9,2,1,1024,4,5,x").is_none());
    }

    #[test]
    fn the_service_manager_hears_only_words_of_the_servers() {
        for known in [
            "READY=1",
            "RELOADING=1\nMONOTONIC_USEC=7\n",
            "FDSTORE=1\nFDNAME=pizauth-state\nFDPOLL=0\n",
        ] {
            assert!(is_known(known), "{known:?}");
        }
        for forged in [
            "",
            "MAINPID=1",
            "READY=1\nMAINPID=1",
            "READY=1\rMAINPID=1",
            "READY=1\r\nMAINPID=1",
            "MONOTONIC_USEC=7\0MAINPID=1",
            "READY=1\n\nREADY=1",
        ] {
            assert!(!is_known(forged), "{forged:?}");
        }
    }
}
