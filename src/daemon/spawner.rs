//! The runner's parent: a process that holds nothing and does nothing but start the hook runner
//! (runner.rs), and another one when that has ended. It was forked before the daemon had read
//! anything, so whatever it forks later has no secrets either, and all of the user's rights.

use std::{
    io::{self, PipeReader},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use super::{pass, process, signals::Children};

/// How long there is from one runner's start to the next one's at least: something that kills every
/// runner must not keep a processor busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Sees to it that there is a runner until the daemon at the other end of `line` is gone. For each
/// it sends the runner's process number on a line, and with it the daemon's end of the line to it.
pub fn run(line: UnixStream) -> io::Result<()> {
    let children = Children::watch()?;
    orphans::adopt();
    let mut runner: Option<Runner> = None;
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if runner.is_none() && next <= now {
            // What can't be forked now may be in a moment.
            runner = start(&line).ok();
            next = now + PAUSE;
        }
        let pause = match &runner {
            Some(_) => PollTimeout::NONE,
            None => PollTimeout::try_from(
                next.saturating_duration_since(now)
                    .saturating_add(MILLISECOND),
            )
            .unwrap_or(PollTimeout::MAX),
        };
        let alive = runner.as_ref().map(|runner| runner.alive.as_fd());
        let ready = wait(&line, &children, alive, pause)?;
        if ready.line {
            return Ok(());
        }
        children.clear();
        reap();
        if ready.runner
            && let Some(runner) = runner.take()
        {
            // It may have been reaped already.
            let _ = waitpid(runner.process, None);
            orphans::end();
        }
    }
}

/// Rounds a timeout up, so that nothing is done a moment too early.
const MILLISECOND: Duration = Duration::from_millis(1);

struct Runner {
    process: Pid,
    /// Ends with it.
    alive: PipeReader,
}

fn start(line: &UnixStream) -> io::Result<Runner> {
    let (ours, theirs) = UnixStream::pair()?;
    let (alive, held) = io::pipe()?;
    let (process, (ours, alive)) = process::fork_runner(theirs, held, (ours, alive))?;
    // A few bytes into an empty line: they go at once, all of them. If the daemon is gone, the line
    // says so, too.
    let _ = pass::send(line, format!("{process}\n").as_bytes(), &[ours.as_fd()]);
    Ok(Runner { process, alive })
}

#[derive(Clone, Copy)]
struct Ready {
    /// The daemon, which never says anything, is gone.
    line: bool,
    /// The runner is gone.
    runner: bool,
}

fn wait(
    line: &UnixStream,
    children: &Children,
    alive: Option<BorrowedFd>,
    pause: PollTimeout,
) -> io::Result<Ready> {
    let mut fds = vec![PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    fds.extend(alive.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    let watched = children.fd().into_iter();
    fds.extend(watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut fds, pause) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(Ready {
        line: ready.next().unwrap_or(false),
        runner: alive.is_some() && ready.next().unwrap_or(false),
    })
}

/// Buries whoever has ended.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
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
    pub fn end() {
        let us = Pid::this();
        let children = fs::read_to_string(format!("/proc/self/task/{us}/children"));
        let children = children.unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            let child = Pid::from_raw(child);
            let leads = getpgid(Some(child)) == Ok(child);
            if leads && getsid(Some(child)) == getsid(None) {
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

    pub fn end() {}
}
