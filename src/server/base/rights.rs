//! The calls by which a process takes rights from itself that only some systems have.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
use std::io;

use super::fork;

/// Lets no other process look into this one or those that it forks, as far as the system can; the
/// programs that they run are as any others.
pub fn keep_out() {
    // The holder logs what isn't in force.
    fork::cautiously(|| {
        let _ = undumpable();
    });
}

/// Memory, environment and descriptors become root's to look at (proc(5), ptrace(2)).
#[cfg(target_os = "linux")]
pub fn undumpable() -> Result<bool, String> {
    let outcome = nix::sys::prctl::set_dumpable(false);
    outcome
        .map(|()| true)
        .map_err(|errno| errno.desc().to_lowercase())
}

/// On FreeBSD and macOS no process may trace this one from now on; elsewhere nothing is in force.
#[cfg(not(target_os = "linux"))]
pub fn undumpable() -> Result<bool, String> {
    deny_tracing().map_err(|error| error.to_string())
}

/// Lets no process without privileges trace this one any more (procctl(2)).
#[cfg(target_os = "freebsd")]
fn deny_tracing() -> io::Result<bool> {
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
fn deny_tracing() -> io::Result<bool> {
    use nix::libc;
    // SAFETY: the request uses none of the other arguments.
    let result = unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) };
    nix::errno::Errno::result(result)?;
    Ok(true)
}

/// There is no such call; nothing is in force.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
fn deny_tracing() -> io::Result<bool> {
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
