//! fork(2) for a process that has one thread, what a child lets go of, and what would kill it.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use nix::{
    errno::Errno,
    poll::{PollTimeout, poll},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid},
};

use super::handlers;

/// fork(2). Only a process with one thread may do so: the start, the token holder before it serves,
/// and the monitor for as long as it lives.
///
/// # Errors
/// As fork(2).
pub fn fork() -> nix::Result<ForkResult> {
    // SAFETY: the process has one thread, so the child's memory is consistent.
    unsafe { nix::unistd::fork() }
}

/// The same, and waits for room. A restarting server can't do without, and what its token holder has
/// held may take a moment to become free.
///
/// # Errors
/// As fork(2).
pub fn fork_patiently() -> nix::Result<ForkResult> {
    let give_up = Instant::now() + FORK_TIMEOUT;
    loop {
        match fork() {
            Err(Errno::EAGAIN | Errno::ENOMEM) if Instant::now() < give_up => {
                // Nothing tells when there is room.
                let _ = poll(&mut [], PollTimeout::from(FORK_PAUSE_MILLIS));
            }
            outcome => return outcome,
        }
    }
}

/// Forks a child that does `serve` and ends: it has nothing open but stdio and `kept`, and signals
/// that are for the server mean nothing to it.
///
/// # Errors
/// As fork(2).
pub fn fork_child(kept: &[RawFd], serve: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    if let ForkResult::Parent { child } = fork()? {
        return Ok(child);
    }
    let outcome = handlers::shrug_off_signals().and_then(|()| {
        close_inherited(kept);
        serve()
    });
    std::process::exit(i32::from(outcome.is_err()));
}

/// Does what could be done without, unless a filter would kill for it.
pub fn cautiously(deed: impl Fn()) {
    if !is_filtered() || survives(&deed) == Ok(true) {
        deed();
    }
}

/// Whether system calls of this process are filtered already (seccomp(2)), as service managers and
/// containers do it, for all that can be known.
pub fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    cfg!(target_os = "linux") && !status.lines().any(|line| line == "Seccomp:\t0")
}

/// Whether a process lives on that does `deed`: a child tries it. Some filters kill for a call that
/// they don't know.
///
/// # Errors
/// As fork(2) and waitpid(2).
pub fn survives(deed: impl FnOnce()) -> nix::Result<bool> {
    if let ForkResult::Parent { child } = fork()? {
        return Ok(matches!(waitpid(child, None)?, WaitStatus::Exited(..)));
    }
    // It isn't what the server does.
    ::log::set_max_level(::log::LevelFilter::Off);
    deed();
    std::process::exit(0);
}

/// How long a server waits for room for its processes: longer than a burst of other programs.
const FORK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it waits in between.
const FORK_PAUSE_MILLIS: u8 = 100;

/// The token holder of a server in the foreground logs, and neither reads nor writes anything else:
/// what is typed at the terminal is the shell's.
pub fn let_go_of_terminal() -> io::Result<()> {
    close_stdin_and_stdout()?;
    // SAFETY: nothing closes it for as long as the process lives.
    if unsafe { BorrowedFd::borrow_raw(2) }.is_terminal() {
        // Terminals are open for both. Linux opens it anew; where it can't be, it stays as it is.
        let to_write = fs::File::options()
            .write(true)
            .custom_flags(nix::libc::O_NOCTTY)
            .open("/dev/fd/2");
        if let Ok(to_write) = to_write {
            nix::unistd::dup2_stderr(&to_write)?;
        }
    }
    Ok(())
}

/// Closes what the starting command happened to have open, stdio aside: a pipe or a lock that the
/// token holder or a hook inherits would be held for as long as they live. Call it while `kept` is
/// all that this program has opened itself.
pub fn close_inherited(kept: &[RawFd]) {
    for fd in open_descriptors() {
        if fd > 2 && !kept.contains(&fd) {
            // SAFETY: nothing in this process uses it any more: what a fork has copied of its owners
            // is never dropped. (A directory's own descriptor was in the list and is closed by now,
            // which close(2) merely says.)
            unsafe { nix::libc::close(fd) };
        }
    }
}

/// What is open, as Linux tells it; where it doesn't (elsewhere the directory may list the first three
/// only, and without /proc there is none), all that there could be.
fn open_descriptors() -> Vec<RawFd> {
    let listed: Vec<RawFd> = if cfg!(target_os = "linux") {
        let entries = fs::read_dir("/dev/fd").into_iter().flatten();
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    } else {
        Vec::new()
    };
    if !listed.is_empty() {
        return listed;
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    (0..RawFd::try_from(limit).unwrap_or(MAX_CLOSED).min(MAX_CLOSED)).collect()
}

/// How many descriptors to close where the limit is none.
const MAX_CLOSED: RawFd = 65_536;

/// Has null in their place; returns that.
fn close_stdin_and_stdout() -> io::Result<fs::File> {
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(null)
}

/// Lets the starting command's terminal and its files go.
pub fn close_stdio() -> io::Result<()> {
    Ok(nix::unistd::dup2_stderr(&close_stdin_and_stdout()?)?)
}
