//! What this process does at a signal: the handlers.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::{io, time::Duration};

use nix::{
    errno::Errno,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{Pid, alarm},
};

use super::signals;
use crate::alarm::{Alarm, RING};

/// Has the ends of this process's children reported, even if it was started without.
pub fn hear_of_children() -> io::Result<()> {
    set(SigHandler::SigDfl, [Signal::SIGCHLD])
}

/// Has the kernel forget this process's children as they end.
pub fn forget_children() -> io::Result<()> {
    set(SigHandler::SigIgn, [Signal::SIGCHLD])
}

/// Has this done at these signals. `handler` calls nothing that isn't safe in a handler
/// (signal-safety(7)).
fn set(handler: SigHandler, signals: impl IntoIterator<Item = Signal>) -> io::Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    for signal in signals {
        // SAFETY: of the handlers of this file, one calls kill(2), one write(2), one nothing;
        // the default is what processes usually begin with, and to ignore a signal is no code.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Who gets this process's signals.
static FORWARDED_TO: AtomicI32 = AtomicI32::new(0);

/// Passes the signals that the holder answers on to it, from now on: a supervisor that signals the
/// monitor means both. They were blocked until now.
pub fn forward_signals(holder: Pid) -> io::Result<()> {
    FORWARDED_TO.store(holder.as_raw(), Ordering::Relaxed);
    set(SigHandler::Handler(forward), signals::SERVER_SIGNALS)?;
    signals::unblock_server_signals()
}

/// The holder has ended.
pub fn forward_no_more() {
    FORWARDED_TO.store(0, Ordering::Relaxed);
}

extern "C" fn forward(signal: i32) {
    let holder = FORWARDED_TO.load(Ordering::Relaxed);
    if holder > 0 {
        let before = Errno::last_raw();
        // SAFETY: it is this process's child, and a number only.
        unsafe { nix::libc::kill(holder, signal) };
        // Whatever this has interrupted may be about to look.
        Errno::set_raw(before);
    }
}

/// Signals that are for the server do nothing to this process, and all that they are meant to do to
/// the programs that it starts: a handler doesn't outlive execve(2), where what is blocked does.
pub fn shrug_off_signals() -> io::Result<()> {
    // The parent's handler would write to a descriptor that is closed here.
    hear_of_children()?;
    set(SigHandler::Handler(do_nothing), signals::ANSWERED)?;
    Ok(signals::answered().thread_unblock()?)
}

extern "C" fn do_nothing(_signal: i32) {}

/// Has the kernel end this process (SIGALRM) when this time has passed, whatever it is doing then.
///
/// # Errors
/// When the signal can't be let through.
pub fn end_after(limit: Duration) -> io::Result<()> {
    set(SigHandler::SigDfl, [Signal::SIGALRM])?;
    SigSet::from_iter([Signal::SIGALRM]).thread_unblock()?;
    let limit = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
    alarm::set(limit.saturating_add(1));
    Ok(())
}

/// Where the handler of SIGCHLD writes to.
static CHILD_ENDS: AtomicI32 = AtomicI32::new(-1);

/// Rings when a child of this process has ended, or had before.
///
/// # Errors
/// When that can't be.
pub fn tell_of_children() -> io::Result<Alarm> {
    let alarm = Alarm::new()?;
    CHILD_ENDS.store(alarm.bell().as_raw_fd(), Ordering::Relaxed);
    set(SigHandler::Handler(child_has_ended), [Signal::SIGCHLD])?;
    // The program that this process was before may have blocked it.
    SigSet::from_iter([Signal::SIGCHLD]).thread_unblock()?;
    alarm.ring();
    Ok(alarm)
}

extern "C" fn child_has_ended(_signal: i32) {
    let before = Errno::last_raw();
    let bell = CHILD_ENDS.load(Ordering::Relaxed);
    // SAFETY: it reads bytes that are there. A bell that takes no more has been rung already.
    unsafe { nix::libc::write(bell, RING.as_ptr().cast(), RING.len()) };
    Errno::set_raw(before);
}
