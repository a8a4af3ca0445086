//! The monitor: the process that people and service managers know, and pid 1 of the family.
//!
//! It keeps all of the user's rights for as long as the server runs, and never has a secret: it
//! forks the token holder, which has them all and gives its rights up, before either has read
//! anything. On request of the holder it forks helpers, tells the service manager something (which
//! listens to this process only), holds back signals, and becomes the program that a `restart` is to
//! run. It starts the hook runner, and another one when that has ended. It sends no requests to
//! providers, and does nothing that could make it wait. While a client waits, and for a watchdog, it
//! asks whether the holder answers ([`heartbeat`]). When it is killed, the holder saves and ends. When
//! the holder is killed, the monitor starts another one, with the state that it has guarded for that
//! and never reads; when the holder ends by itself, the monitor ends with the same status, after all
//! others.

mod children;
mod heartbeat;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::{ffi::OsStrExt, net::UnixDatagram};
use std::time::{Duration, Instant};
use std::{ffi::CString, io, path::Path};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::{errno::Errno, unistd::Pid};

use self::children::Children;
pub use self::children::{Predecessor, Programs};
use self::heartbeat::Heartbeat;
use crate::server::base::{clock, handlers, signals};
use crate::server::ipc::line::{Line, Message, Next, send_some};
use crate::server::ipc::monitor_messages::{
    CHECKPOINTS, MonitorLines, MonitorReply, MonitorRequest, StartOptions, SuccessorArgs,
};
use crate::server::ipc::{capability::Key, helper_messages::HelperContext};
use crate::{cli::TAKE_OVER, error::Exit, paths, sys};

/// What there is to tell a service manager (sd_notify(3)). Others would have it act on processes
/// that aren't the server's.
const KNOWN: [&str; 9] = [
    "FDNAME=pizauth-",
    "FDPOLL=0",
    "FDSTORE=1",
    "FDSTOREREMOVE=1",
    "MONOTONIC_USEC=",
    "READY=1",
    "RELOADING=1",
    "STOPPING=1",
    WATCHDOG,
];

/// What a watchdog hears.
const WATCHDOG: &str = "WATCHDOG=1";

/// How long a service manager may take to take a word: it takes microseconds, and one that hangs
/// must not hang the monitor.
const MANAGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many holders may be killed within [`DEATHS_WITHIN`]: what kills the third one is likely to
/// kill the next.
const MAX_DEATHS: usize = 3;

/// See [`MAX_DEATHS`], in milliseconds.
const DEATHS_WITHIN: u64 = 60_000;

/// What a shell adds to the number of the signal that has ended a program.
const SIGNALLED: i32 = 128;

/// What the monitor knows from its start.
pub struct Options {
    /// The program that the server was started as.
    pub program: std::path::PathBuf,
    /// The server's configuration.
    pub config_file: std::path::PathBuf,
    /// How it was started.
    pub start: StartOptions,
    /// What its children do.
    pub programs: Programs,
    /// The monitor that this process was before it became this program.
    pub predecessor: Predecessor,
}

/// Serves the holder until it has ended; the exit status of both.
pub fn run(lines: MonitorLines, holder: Pid, options: Options) -> i32 {
    let failed = Exit::Other.code().into();
    children::adopt_orphans();
    let outcome = Monitor::new(lines, holder, options).and_then(|mut monitor| {
        handlers::forward_signals(holder)?;
        let end = monitor.serve()?;
        // There is no process left to pass them on to.
        signals::block()?;
        let end = end.map_or_else(|| waitpid(holder, None), Ok)?;
        if let WaitStatus::Signaled(_, signal, _) = end {
            let error = monitor.replace_holder(signal);
            log::error!("the token holder was killed by {signal} and is not replaced: {error}");
        }
        // A holder whose start has failed lets go of nothing.
        drop((monitor.guarded, monitor.kept));
        monitor.children.outlive();
        Ok(end)
    });
    let end = outcome.or_else(|error| {
        log::error!("the monitor can't go on: {error}");
        // It saves what it can.
        let _ = kill(holder, Signal::SIGTERM);
        waitpid(holder, None)
    });
    match end {
        Ok(WaitStatus::Exited(_, status)) => status,
        Ok(WaitStatus::Signaled(_, signal, _)) => SIGNALLED.saturating_add(signal as i32),
        Ok(_) | Err(_) => failed,
    }
}

struct Monitor {
    lines: MonitorLines,
    context: HelperContext,
    start: StartOptions,
    children: Children,
    heartbeat: Heartbeat,
    /// Descriptors for a successor.
    kept: Vec<OwnedFd>,
    /// What another holder is to go on from: the state, its checkpoints, and what it counts.
    guarded: Vec<OwnedFd>,
    /// When holders were killed lately, in milliseconds of the machine's clock.
    deaths: Vec<u64>,
}

impl Monitor {
    fn new(lines: MonitorLines, holder: Pid, options: Options) -> io::Result<Self> {
        let before = options.predecessor;
        let key = before.key.map(Key::from_pipe).transpose()?;
        Ok(Monitor {
            lines,
            context: HelperContext {
                program: options.program,
                config_file: options.config_file,
                key: key.unwrap_or_else(|| Key::of(clock::random())),
            },
            start: options.start,
            children: Children::new(holder, options.programs, options.start, before.runners)?,
            heartbeat: Heartbeat::new(Instant::now()),
            kept: Vec::new(),
            guarded: before.guarded,
            deaths: before.deaths,
        })
    }

    /// Until the holder has ended, or its line has: then it is just ending.
    fn serve(&mut self) -> io::Result<Option<WaitStatus>> {
        sys::trim();
        loop {
            let now = Instant::now();
            self.children
                .start_runner(now, &self.context.key, &self.lines.events);
            self.children.end_overdue(now);
            self.wait(now)?;
            if self.heartbeat.turn(Instant::now()) {
                // It notices by itself what it isn't told.
                let _ = tell_manager(WATCHDOG, &[]);
            }
            let serves = self.obey();
            if let Some(end) = self.children.reap() {
                return Ok(Some(end));
            }
            if !serves {
                return Ok(None);
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, now: Instant) -> io::Result<()> {
        let deadlines = [
            self.children.next_deadline(),
            self.heartbeat.next_deadline(),
        ];
        let pause = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(at) => clock::poll_timeout(at.saturating_duration_since(now)),
        };
        let fds = [self.lines.requests.as_fd(), self.children.fd()].into_iter();
        let fds = fds.chain(self.heartbeat.fd());
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, pause) {
            // Without memory it is as if something had happened: there may be some the next time.
            Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Does what was asked; false when nothing more will be.
    fn obey(&mut self) -> bool {
        loop {
            match self.lines.requests.try_recv() {
                Ok(Next::Message(message)) => self.perform(message),
                // Who has asked hears the end of the line that was to answer.
                Ok(Next::Lost) => log::error!("the monitor has no descriptors left"),
                Ok(Next::Nothing) => return true,
                Ok(Next::End) => return false,
                Err(error) => {
                    log::error!("the token holder's line has ended: {error}");
                    return false;
                }
            }
        }
    }

    fn perform(&mut self, Message { body, mut fds }: Message<MonitorRequest>) {
        if matches!(body, MonitorRequest::Keep) {
            return self.kept.append(&mut fds);
        }
        let mut kept = std::mem::take(&mut self.kept);
        // What came before is of an attempt that broke off.
        let mut last = |count: usize| match kept.len().checked_sub(count) {
            Some(from) => Ok(kept.split_off(from)),
            None => Err(io::Error::other("a descriptor got lost")),
        };
        if fds.is_empty() {
            // There is no peer left to read it.
            return;
        }
        let line = fds.remove(0).into();
        let outcome = match body {
            MonitorRequest::Keep => return,
            MonitorRequest::Helper(kind) => {
                self.kept = kept;
                return self.children.start_helper(kind, line, &self.context);
            }
            MonitorRequest::Notify(text) => tell_manager(&text, &as_fds(&fds)),
            MonitorRequest::HoldSignals(true) => signals::block(),
            MonitorRequest::HoldSignals(false) => signals::unblock_server_signals(),
            MonitorRequest::Guard(count) => last(count).map(|fds| {
                self.heartbeat.watch(&fds);
                self.guarded = fds;
            }),
            MonitorRequest::Become {
                kept: count,
                reload,
            } => last(count).and_then(|kept| {
                let holder = self.children.holder();
                Err(self.become_successor(holder, &kept, reload))
            }),
        };
        let reply: MonitorReply = outcome.map_err(|error| error.to_string());
        // An empty line takes it at once; for anybody else the monitor doesn't wait.
        let _ = Line::<MonitorReply, ()>::new(line).send_now(&reply, &[]);
    }

    /// Starts another holder in the place of one that was killed, as a restart in place does it: the
    /// signals are held back already. Returns only when that isn't possible.
    fn replace_holder(&mut self, signal: Signal) -> io::Error {
        let now = clock::now().instant.millis();
        let recent = |at: &u64| now.saturating_sub(*at) < DEATHS_WITHIN;
        self.deaths.retain(recent);
        self.deaths.push(now);
        // Among them are ends of the proxies' lines, which must hear it when there is no other holder.
        let guarded = std::mem::take(&mut self.guarded);
        if guarded.is_empty() {
            return io::Error::other("it was starting or ending");
        }
        if self.deaths.len() >= MAX_DEATHS {
            return io::Error::other(format!("it is the {MAX_DEATHS}rd within a minute"));
        }
        log::error!("the token holder was killed by {signal}: another one goes on");
        // Its number may soon be another process's.
        self.become_successor(Pid::from_raw(0), &guarded, false)
    }

    /// Becomes the program that is there now, which ends `holder` and answers the signals that are
    /// held back. Returns only when that isn't possible.
    fn become_successor(&self, holder: Pid, kept: &[OwnedFd], reload: bool) -> io::Error {
        let outcome = self.context.key.to_pipe().and_then(|key| {
            if kept.len() <= CHECKPOINTS {
                return Err(io::Error::other("there is no state"));
            }
            let args = SuccessorArgs {
                start: self.start,
                runners: self.children.runners(),
                holder: holder.as_raw(),
                key: key.as_raw_fd(),
                deaths: self.deaths.clone(),
                fds: kept.iter().map(AsRawFd::as_raw_fd).collect(),
            };
            let words = [
                self.context.program.as_os_str().as_bytes(),
                TAKE_OVER.as_bytes(),
                self.context.config_file.as_os_str().as_bytes(),
                &serde_json::to_vec(&args)?,
            ]
            .map(CString::new);
            let words: Vec<CString> = words.into_iter().collect::<Result<_, _>>()?;
            let mut passed = as_fds(kept);
            passed.push(key.as_fd());
            if reload {
                kill(Pid::this(), Signal::SIGHUP)?;
            }
            let failed = set_cloexec(&passed, false).map(|()| execute(&words));
            set_cloexec(&passed, true)?;
            failed
        });
        outcome.unwrap_or_else(|error| error)
    }
}

/// execv(3), which returns only when it has failed.
fn execute(words: &[CString]) -> io::Error {
    match words.first().map(|path| nix::unistd::execv(path, words)) {
        Some(Err(errno)) => errno.into(),
        _ => io::Error::other("there is no program"),
    }
}

fn as_fds(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// Whether these lines are all words of the server's. A manager may take other characters for the
/// end of a line, too.
fn is_known(text: &str) -> bool {
    let known = |line: &str| KNOWN.iter().any(|word| line.starts_with(word));
    let plain = |line: &str| !line.contains(char::is_control);
    let lines = text.strip_suffix('\n').unwrap_or(text);
    lines.split('\n').all(|line| known(line) && plain(line))
}

/// Tells the service manager (sd_notify(3)), if there is one. That listens to this process only. It
/// gets descriptors only where nobody but the user and root can listen in its place: the state is
/// among them.
fn tell_manager(text: &str, fds: &[BorrowedFd]) -> io::Result<()> {
    if !is_known(text) {
        return Err(io::Error::other("that is no word of the server's"));
    }
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Err(io::Error::other("there is none"));
    };
    let guarded = || Path::new(&path).parent().is_some_and(paths::is_guarded);
    if !fds.is_empty() && !guarded() {
        return Err(io::Error::other("others could take its socket's place"));
    }
    let line = UnixDatagram::unbound()?;
    line.connect(path)?;
    line.set_write_timeout(Some(MANAGER_TIMEOUT))?;
    send_some(&line, text.as_bytes(), fds, MsgFlags::empty()).map(drop)
}

fn set_cloexec(fds: &[BorrowedFd], closed: bool) -> io::Result<()> {
    let flags = if closed {
        FdFlag::FD_CLOEXEC
    } else {
        FdFlag::empty()
    };
    for fd in fds {
        fcntl(fd, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
