//! fork(2), descriptors that arrive as numbers, and the calls by which systems other than Linux
//! take rights away: the only unsafe code. All forks happen in
//! processes that have one thread.
#![allow(unsafe_code)]

use std::{
    fs,
    io::{self, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, setsid},
};

use super::{activation::Given, runner, signals, spawner};
use crate::error::{Exit, Failure};

/// What a daemon that answers tells the command that started it; anything else is an error.
const READY: &[u8] = b"ready";

/// The detached daemon's line to the command that started it.
pub struct Starter(Option<UnixStream>);

impl Starter {
    /// Nobody waits: the daemon stays in the foreground.
    pub fn none() -> Self {
        Starter(None)
    }

    /// The daemon answers: `pizauth server` may exit 0.
    pub fn ready(&mut self) {
        self.say(READY);
    }

    /// The daemon doesn't start: `pizauth server` says why.
    pub fn failed(&mut self, failure: &Failure) {
        self.say(format!("{} {failure}", failure.exit.code()).as_bytes());
    }

    fn say(&mut self, bytes: &[u8]) {
        if let Some(mut line) = self.0.take() {
            // A starter that was killed hears nothing.
            let _ = line.write_all(bytes);
        }
    }
}

/// Which process this is after [`detach`].
pub enum Detached {
    /// The command; the daemon has answered so.
    Command(Result<(), Failure>),
    /// The daemon, without a controlling terminal.
    Daemon(Starter),
}

/// Forks the daemon; the command waits until it answers or fails (daemon(7)).
pub fn detach(given: &[Given]) -> io::Result<Detached> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the process has one thread, so the child's memory is consistent.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        drop(theirs);
        waitpid(child, None)?;
        return Ok(Detached::Command(verdict(ours)));
    }
    drop(ours);
    setsid()?;
    // The session's leader ends, so that no terminal can become the daemon's.
    // SAFETY: as above.
    if unsafe { fork() }?.is_parent() {
        std::process::exit(0);
    }
    let mut kept: Vec<RawFd> = given.iter().map(|it| it.fd.as_raw_fd()).collect();
    kept.push(theirs.as_raw_fd());
    close_inherited(&kept);
    Ok(Detached::Daemon(Starter(Some(theirs))))
}

fn verdict(mut line: UnixStream) -> Result<(), Failure> {
    let mut said = Vec::new();
    let read = line.read_to_end(&mut said);
    if said == READY {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    match said.split_once(' ') {
        Some((code, text)) if read.is_ok() => {
            let exit = code.parse().map_or(Exit::Other, Exit::from_code);
            Err(match text.split_once("\nhint: ") {
                Some((what, hint)) => Failure::new(exit, what).hint(hint),
                None => Failure::new(exit, text),
            })
        }
        _ => Err(Failure::new(
            Exit::Other,
            "the server ended while it was starting",
        )),
    }
}

/// Forks the spawner of hook runners, before anything secret is in memory. Returns the line to it,
/// and what it has no use for.
pub fn fork_spawner<T>(starter: &mut Starter, not_for_it: T) -> io::Result<(UnixStream, T)> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the process has one thread, so the child's memory is consistent.
    if unsafe { fork() }?.is_parent() {
        return Ok((ours, not_for_it));
    }
    drop((ours, not_for_it));
    let outcome = become_spawner(starter, theirs);
    std::process::exit(i32::from(outcome.is_err()));
}

fn become_spawner(starter: &mut Starter, line: UnixStream) -> io::Result<()> {
    // Whoever started a detached daemon waits for the end of its line and of its output.
    if starter.0.take().is_some() {
        close_stdio()?;
    }
    // A ^C at the terminal is for the daemon; the spawner and the runner end with it.
    signals::block()?;
    close_inherited(&[line.as_raw_fd()]);
    spawner::run(line)
}

/// Forks a hook runner, which serves `line`, and holds `alive` open as long as it lives. Only the
/// spawner may do so. Returns the runner, and what it has no use for.
pub fn fork_runner<T>(line: UnixStream, alive: PipeWriter, not_for_it: T) -> io::Result<(Pid, T)> {
    // SAFETY: the spawner has one thread, so the child's memory is consistent.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        return Ok((child, not_for_it));
    }
    drop(not_for_it);
    close_inherited(&[line.as_raw_fd(), alive.as_raw_fd()]);
    let outcome = runner::run(line);
    std::process::exit(i32::from(outcome.is_err()));
}

/// Takes over a descriptor that has just come into the process, by its number. It is closed on
/// exec from now on.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel or whoever started this process has said that the number is ours, and
    // each caller gets to see it once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // It can fail only for a descriptor that isn't open, which the first use will tell.
    let _ = fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    fd
}

/// Lets the starting command's terminal, its files and its directory go.
pub fn let_go() -> io::Result<()> {
    close_stdio()?;
    std::env::set_current_dir("/")
}

/// Closes what the starting command happened to have open, stdio aside: a pipe or a lock that the
/// daemon or a hook inherits would be held for as long as they live. Call it while `kept` is all
/// that this program has opened itself.
fn close_inherited(kept: &[RawFd]) {
    // Where there is no such directory, descriptors stay as they are.
    let Ok(open) = fs::read_dir("/dev/fd") else {
        return;
    };
    let open: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open {
        if fd > 2 && !kept.contains(&fd) {
            // SAFETY: nothing in this process owns it. (The directory's own descriptor was in the
            // list and is closed by now, which close(2) merely says.)
            unsafe { nix::libc::close(fd) };
        }
    }
}

/// Lets no process without privileges trace this one any more (procctl(2)).
#[cfg(target_os = "freebsd")]
pub fn deny_tracing() -> io::Result<bool> {
    use nix::libc;
    let mut mode = libc::PROC_TRACE_CTL_DISABLE;
    let data = (&raw mut mode).cast();
    // SAFETY: the command reads an int, which is there until the call has returned.
    let result = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_TRACE_CTL, data) };
    nix::errno::Errno::result(result)?;
    Ok(true)
}

/// Lets no process without privileges trace this one any more (ptrace(2)).
#[cfg(target_os = "macos")]
pub fn deny_tracing() -> io::Result<bool> {
    use nix::libc;
    // SAFETY: the request uses none of the other arguments.
    let result = unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) };
    nix::errno::Errno::result(result)?;
    Ok(true)
}

/// There is no such call; nothing is in force.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
pub fn deny_tracing() -> io::Result<bool> {
    Ok(false)
}

/// From now on this process does nothing else (pledge(2)); what it runs may.
#[cfg(target_os = "openbsd")]
pub fn pledge(promises: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: both are strings that end with a zero, or none.
    let result = unsafe { nix::libc::pledge(promises.as_ptr(), std::ptr::null()) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn close_stdio() -> io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
