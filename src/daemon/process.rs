//! fork(2), descriptors that arrive as numbers, and the calls by which systems other than Linux
//! take rights away: the only unsafe code. All forks happen in
//! processes that have one thread.
#![allow(unsafe_code)]

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

#[cfg(not(target_os = "linux"))]
use nix::sys::resource::{Resource, getrlimit};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollTimeout, poll},
    sys::{
        resource::rlim_t,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, setsid},
};

use super::{
    activation::Given,
    hand::Servant,
    harden,
    monitor::{self, Charge},
    pipe::PipeWriter,
    runner,
    seals::Key,
    signals,
};
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

/// Has the ends of this process's children told, whoever has started it without.
pub fn hear_of_children() -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: this is what processes usually begin with, and involves no handler.
    unsafe { sigaction(Signal::SIGCHLD, &action) }?;
    Ok(())
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

/// One end of the lines between the monitor and the daemon.
pub struct Lines {
    /// The monitor's to write to: who runs the hooks.
    pub news: UnixStream,
    /// The daemon's to write to ([`super::monitor::Order`]).
    pub orders: UnixStream,
}

/// Forks the daemon, before anything secret is in memory. This process becomes the monitor, and
/// ends as the daemon does; only the daemon returns. `not_for_it` is nothing to the monitor.
pub fn fork_daemon<T>(
    starter: &mut Starter,
    charge: Charge,
    not_for_it: T,
) -> io::Result<(Lines, T)> {
    let (news, theirs) = UnixStream::pair()?;
    let (orders, ours) = UnixStream::pair()?;
    // Both answer them: the monitor by passing them on.
    signals::block()?;
    let ForkResult::Parent { child } = fork_patiently()? else {
        drop((news, orders, charge));
        signals::end_with_parent()?;
        if starter.0.is_none() {
            let_go_of_terminal()?;
        }
        let lines = Lines {
            news: theirs,
            orders: ours,
        };
        return Ok((lines, not_for_it));
    };
    drop((theirs, ours, not_for_it));
    let lines = Lines { news, orders };
    let status = become_monitor(starter, lines, child, charge);
    std::process::exit(status);
}

/// fork(2). A restarting server can't do without, and what its daemon has held may take a moment to
/// become free.
fn fork_patiently() -> nix::Result<ForkResult> {
    let give_up = Instant::now() + FORK_TIMEOUT;
    loop {
        // SAFETY: the process has one thread, so the child's memory is consistent.
        match unsafe { fork() } {
            Err(Errno::EAGAIN | Errno::ENOMEM) if Instant::now() < give_up => {
                // Nothing tells when there is room.
                let _ = poll(&mut [], PollTimeout::from(FORK_PAUSE_MILLIS));
            }
            outcome => return outcome,
        }
    }
}

/// How long a server waits for room for its daemon's process: longer than a burst of other programs.
const FORK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it waits in between.
const FORK_PAUSE_MILLIS: u8 = 100;

fn become_monitor(starter: &mut Starter, lines: Lines, daemon: Pid, charge: Charge) -> i32 {
    let mut kept = vec![lines.news.as_raw_fd(), lines.orders.as_raw_fd()];
    kept.extend(charge.descriptors());
    // Whoever started a detached daemon waits for the end of its line and of its output.
    let detached = starter.0.take().is_some();
    if detached && close_stdio().is_err() {
        return Exit::Other.code().into();
    }
    close_inherited(&kept);
    harden::keep_out();
    monitor::run(lines, daemon, charge)
}

/// Who gets this process's signals.
static FORWARDED_TO: AtomicI32 = AtomicI32::new(0);

/// Passes the signals that the daemon answers on to it, from now on: whoever supervises the
/// monitor means both. They were blocked until now.
pub fn forward_signals(daemon: Pid) -> io::Result<()> {
    FORWARDED_TO.store(daemon.as_raw(), Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::Handler(forward),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in signals::WISHES {
        // SAFETY: the handler calls nothing but kill(2), which is safe in a handler.
        unsafe { sigaction(signal, &action) }?;
    }
    signals::unblock_wishes()
}

/// The daemon has ended.
pub fn forward_no_more() {
    FORWARDED_TO.store(0, Ordering::Relaxed);
}

extern "C" fn forward(signal: i32) {
    let daemon = FORWARDED_TO.load(Ordering::Relaxed);
    if daemon > 0 {
        let before = Errno::last_raw();
        // SAFETY: it is this process's child, and a number only.
        unsafe { nix::libc::kill(daemon, signal) };
        // Whatever this has interrupted may be about to look.
        Errno::set_raw(before);
    }
}

/// Forks a hand, which serves `line`. Only the monitor may do so.
pub fn fork_hand(
    line: UnixStream,
    descriptors: Option<rlim_t>,
    servant: Servant,
) -> io::Result<Pid> {
    // SAFETY: the monitor has one thread, so the child's memory is consistent.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        return Ok(child);
    }
    let kept = [line.as_raw_fd()];
    let status = become_servant(&kept, descriptors, || servant.serve(line));
    std::process::exit(status);
}

/// A process that serves the daemon at the other end of a line, and ends with it: signals are the
/// daemon's to answer.
fn become_servant(
    kept: &[RawFd],
    descriptors: Option<rlim_t>,
    serve: impl FnOnce() -> io::Result<()>,
) -> i32 {
    let outcome = shrug_off_signals().and_then(|()| {
        signals::unblock_children()?;
        close_inherited(kept);
        harden::limit_descriptors(descriptors);
        serve()
    });
    i32::from(outcome.is_err())
}

/// Signals that are for the daemon do nothing to this process, and all that they are meant to do to
/// the programs that it starts: a handler doesn't outlive execve(2), where what is blocked does.
fn shrug_off_signals() -> io::Result<()> {
    let signals = signals::answered();
    let action = SigAction::new(
        SigHandler::Handler(do_nothing),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in signals.iter() {
        // SAFETY: the handler does nothing.
        unsafe { sigaction(signal, &action) }?;
    }
    signals.thread_unblock()?;
    Ok(())
}

extern "C" fn do_nothing(_signal: i32) {}

/// Forks a hook runner, which serves `line`, and holds `alive` open as long as it lives. Only the
/// monitor may do so. Returns the runner, and what it has no use for.
pub fn fork_runner<T>(
    line: UnixStream,
    alive: PipeWriter,
    descriptors: Option<rlim_t>,
    key: Key,
    not_for_it: T,
) -> io::Result<(Pid, T)> {
    // SAFETY: the monitor has one thread, so the child's memory is consistent.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        return Ok((child, not_for_it));
    }
    drop(not_for_it);
    let kept = [line.as_raw_fd(), alive.as_raw_fd()];
    let status = become_servant(&kept, descriptors, || runner::run(line, key));
    std::process::exit(status);
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

/// The daemon of a server in the foreground logs, and neither reads nor writes anything else: what is
/// typed at the terminal is the shell's.
fn let_go_of_terminal() -> io::Result<()> {
    let null = open_null()?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
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
/// daemon or a hook inherits would be held for as long as they live. Call it while `kept` is all
/// that this program has opened itself.
fn close_inherited(kept: &[RawFd]) {
    for fd in open_descriptors() {
        if fd > 2 && !kept.contains(&fd) {
            // SAFETY: nothing in this process uses it any more: what a fork has copied of its owners
            // is never dropped. (A directory's own descriptor was in the list and is closed by now,
            // which close(2) merely says.)
            unsafe { nix::libc::close(fd) };
        }
    }
}

/// Where the system doesn't tell, all stay as they are.
#[cfg(target_os = "linux")]
fn open_descriptors() -> Vec<RawFd> {
    let entries = fs::read_dir("/dev/fd").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// All that there could be: elsewhere the directory may list the first three only.
#[cfg(not(target_os = "linux"))]
fn open_descriptors() -> Vec<RawFd> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    (0..RawFd::try_from(limit).unwrap_or(MAX_CLOSED).min(MAX_CLOSED)).collect()
}

/// How many descriptors to close where the limit is none.
#[cfg(not(target_os = "linux"))]
const MAX_CLOSED: RawFd = 65_536;

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

/// Shows this process a path in the file system, and all that is below it (unveil(2)).
#[cfg(target_os = "openbsd")]
pub fn unveil(path: &std::path::Path, rights: &std::ffi::CStr) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both are strings that end with a zero.
    let result = unsafe { nix::libc::unveil(path.as_ptr(), rights.as_ptr()) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// It sees nothing else from now on.
#[cfg(target_os = "openbsd")]
pub fn seal_veil() -> io::Result<()> {
    // SAFETY: without arguments it ends the calls of this kind.
    let result = unsafe { nix::libc::unveil(std::ptr::null(), std::ptr::null()) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

/// A system call by its number, for tests of what is denied.
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
pub fn call(number: i64, [a, b, c, d]: [i64; 4]) -> nix::Result<i64> {
    // SAFETY: tests pass numbers, and nothing that points to memory.
    let result = unsafe { nix::libc::syscall(number, a, b, c, d) };
    nix::errno::Errno::result(result)
}

fn open_null() -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open("/dev/null")
}

/// Lets the starting command's terminal and its files go.
pub fn close_stdio() -> io::Result<()> {
    let null = open_null()?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
