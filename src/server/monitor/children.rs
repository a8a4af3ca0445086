//! The monitor's children: the holder, helpers, the hook runner, and what a killed runner leaves
//! behind.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub use self::orphans::adopt as adopt_orphans;
use crate::server::base::{
    clock, error::other, fork::fork_child, handlers, limits, pipe::PipeReader,
};
use crate::server::ipc::helper_messages::{HelperContext, HelperKind, ReplyLine};
use crate::server::ipc::monitor_messages::{MonitorEvent, StartOptions};
use crate::{
    alarm::Alarm,
    server::ipc::{capability::Key, line::Line},
};

/// How long there is from one runner's start to the next one's at least: something that kills every
/// runner must not keep a processor busy.
const RUNNER_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than its deadline a helper may live before the monitor kills it: its own alarm
/// comes first.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// How long children may take to end after the holder: it takes milliseconds, unless a file system
/// hangs.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What the children do; each returns when the other end of its line is gone.
#[derive(Clone, Copy)]
pub struct Programs {
    /// A helper of this kind.
    pub helper: fn(HelperContext, HelperKind, UnixStream) -> io::Result<()>,
    /// The hook runner.
    pub runner: fn(Key, UnixStream) -> io::Result<()>,
}

/// What a monitor has left to the program that it became; of a first one, nothing.
#[derive(Default)]
pub struct Predecessor {
    /// Hook runners, which end when their last hook has.
    pub runners: Vec<Pid>,
    /// The key of the capabilities.
    pub key: Option<PipeReader>,
    /// What it has guarded.
    pub guarded: Vec<OwnedFd>,
    /// When holders were killed lately, in milliseconds of the machine's clock.
    pub deaths: Vec<u64>,
}

/// All of them.
pub struct Children {
    holder: Pid,
    programs: Programs,
    start: StartOptions,
    ended: Alarm,
    helpers: Vec<Helper>,
    runner: Option<Pid>,
    /// Runners of earlier programs, which get no new hooks.
    retiring: Vec<Pid>,
    /// When another runner may be started at the earliest.
    next_start: Instant,
}

struct Helper {
    process: Pid,
    kind: HelperKind,
    /// When it is killed; `None` when it has been, or isn't.
    deadline: Option<Instant>,
}

impl Children {
    /// The holder alone, and the runners of a predecessor.
    ///
    /// # Errors
    /// When their ends can't be noticed.
    pub fn new(
        holder: Pid,
        programs: Programs,
        start: StartOptions,
        retiring: Vec<Pid>,
    ) -> io::Result<Self> {
        Ok(Children {
            holder,
            programs,
            start,
            ended: handlers::tell_of_children()?,
            helpers: Vec::new(),
            runner: None,
            retiring,
            next_start: Instant::now(),
        })
    }

    /// The holder's process.
    pub fn holder(&self) -> Pid {
        self.holder
    }

    /// The runners' processes.
    pub fn runners(&self) -> Vec<i32> {
        let runners = self.retiring.iter().chain(&self.runner);
        runners.map(|runner| runner.as_raw()).collect()
    }

    /// Readable when one has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// When something is to be done, whatever happens until then.
    pub fn next_deadline(&self) -> Option<Instant> {
        let start = self.runner.is_none().then_some(self.next_start);
        let helpers = self.helpers.iter().filter_map(|helper| helper.deadline);
        start.into_iter().chain(helpers).min()
    }

    /// Starts a hook runner if there is none, and tells the holder.
    pub fn start_runner(&mut self, now: Instant, key: &Key, events: &Line<MonitorEvent, ()>) {
        if self.runner.is_some() || self.next_start > now {
            return;
        }
        // What can't be forked now may be in a moment.
        self.runner = self.fork_runner(key, events).ok();
        self.next_start = now.checked_add(RUNNER_PAUSE).unwrap_or(now);
    }

    fn fork_runner(&self, key: &Key, events: &Line<MonitorEvent, ()>) -> io::Result<Pid> {
        let (ours, theirs) = UnixStream::pair()?;
        let run = self.programs.runner;
        let StartOptions {
            descriptors, umask, ..
        } = self.start;
        let runner = fork_child(&[theirs.as_raw_fd()], || {
            limits::as_before(descriptors, umask);
            run(key.clone(), theirs)
        })?;
        // A few bytes into an empty line: they go at once. If the holder is gone, its line says so,
        // too.
        let event = MonitorEvent::RunnerStarted(runner.as_raw().unsigned_abs());
        let _ = events.send_now(&event, &[ours.as_fd()]);
        Ok(runner)
    }

    /// Starts a helper, which serves `line`; that hears why when there is none.
    pub fn start_helper(&mut self, kind: HelperKind, line: UnixStream, context: &HelperContext) {
        let outcome = self.fork_helper(kind, &line, context);
        match outcome {
            Ok(process) => {
                let lifetime = kind.deadline().saturating_add(KILL_AFTER);
                let deadline = Instant::now().checked_add(lifetime);
                self.helpers.push(Helper {
                    process,
                    kind,
                    deadline: deadline.filter(|_| kind.is_brief()),
                });
            }
            Err(what) => {
                // The monitor waits for no other process.
                let _ = ReplyLine::new(line).send_now(&Err(other(&what)), &[]);
            }
        }
    }

    fn fork_helper(
        &self,
        kind: HelperKind,
        line: &UnixStream,
        context: &HelperContext,
    ) -> Result<Pid, String> {
        let busy = self.helpers.iter().filter(|helper| helper.kind == kind);
        if busy.count() >= kind.quota() {
            return Err("too many are at work already".into());
        }
        let serve = self.programs.helper;
        let descriptors = self.start.descriptors;
        let forked = line.try_clone().and_then(|line| {
            fork_child(&[line.as_raw_fd()], || {
                limits::limit_descriptors(descriptors);
                if kind.is_brief() {
                    handlers::end_after(kind.deadline())?;
                }
                serve(context.clone(), kind, line)
            })
        });
        forked.map_err(|error| format!("no process can be started: {error}"))
    }

    /// Kills the helpers that hang where their own alarm can't end them.
    pub fn end_overdue(&mut self, now: Instant) {
        for helper in &mut self.helpers {
            if helper.deadline.is_some_and(|at| at <= now) {
                // It is counted until it has ended.
                helper.deadline = None;
                let _ = kill(helper.process, Signal::SIGKILL);
            }
        }
    }

    /// Reaps those that have ended. Returns how the holder did.
    pub fn reap(&mut self) -> Option<WaitStatus> {
        self.ended.clear();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(process) = status.pid() else {
                break;
            };
            if process == self.holder {
                // Its number may soon be another process's.
                handlers::forward_no_more();
                return Some(status);
            }
            self.forget(process, matches!(status, WaitStatus::Exited(_, 0)));
        }
        None
    }

    fn forget(&mut self, process: Pid, in_order: bool) {
        self.helpers.retain(|helper| helper.process != process);
        let before = self.retiring.len();
        self.retiring.retain(|runner| *runner != process);
        let retired = self.retiring.len() < before;
        let was_runner = retired || self.runner == Some(process);
        self.runner = self.runner.filter(|runner| *runner != process);
        // One that ends in order has no hooks left; what those have left behind was meant to stay.
        if was_runner && !in_order {
            orphans::end(self.holder);
        }
    }

    /// Waits for the helpers and the hook runners, which end when the holder has. To a service
    /// manager the end of this process is the end of the server: it kills who is left, and says so.
    /// One that hangs or is stopped notices nothing, and is killed, with a runner's hooks.
    pub fn outlive(&mut self) {
        self.wait_for_ends();
        let runners = self.runners();
        let helpers = self.helpers.iter().map(|helper| helper.process);
        for process in helpers.chain(runners.iter().copied().map(Pid::from_raw)) {
            let _ = kill(process, Signal::SIGKILL);
        }
        if !runners.is_empty() {
            self.wait_for_ends();
        }
    }

    /// Reaps what ends within [`LAST_WAIT`].
    fn wait_for_ends(&mut self) {
        let Some(give_up) = Instant::now().checked_add(LAST_WAIT) else {
            return;
        };
        loop {
            let _ = self.reap();
            let left = give_up.saturating_duration_since(Instant::now());
            let all_ended = self.helpers.is_empty() && self.runners().is_empty();
            if all_ended || left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, clock::poll_timeout(left)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// What a runner that was killed leaves behind: hooks that nothing would end at their limit, beside
/// which the next ones would run out of order.
#[cfg(target_os = "linux")]
mod orphans {
    use std::fs;

    use nix::{
        sys::prctl,
        unistd::{Pid, getpgid, getsid},
    };

    use crate::server::base::{fork, signals};

    /// From now on they are this process's children.
    pub fn adopt() {
        // Without it they run on.
        fork::cautiously(|| {
            let _ = prctl::set_child_subreaper(true);
        });
    }

    /// Kills the hooks, with all of their process groups. What else hooks have left behind leads no
    /// group, or has a session of its own; it was left on purpose.
    pub fn end(holder: Pid) {
        let us = Pid::this();
        let children = fs::read_to_string(format!("/proc/self/task/{us}/children"));
        let children = children.unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            let child = Pid::from_raw(child);
            let leads = getpgid(Some(child)) == Ok(child);
            if child != holder && leads && getsid(Some(child)) == getsid(None) {
                // Its number is its own until it is reaped.
                signals::kill_group(child);
            }
        }
    }
}

/// Elsewhere nothing says who they are; they run on.
#[cfg(not(target_os = "linux"))]
mod orphans {
    pub fn adopt() {}

    pub fn end(_holder: nix::unistd::Pid) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_monitor_waits_for_no_peer_that_reads_no_reply() {
        let (line, _silent) = UnixStream::pair().unwrap();
        line.set_nonblocking(true).unwrap();
        while (&line).write(&[0; 1024]).is_ok() {}
        line.set_nonblocking(false).unwrap();
        let outcome = Err(other("full"));
        assert!(ReplyLine::new(line).send_now(&outcome, &[]).is_err());
    }
}
