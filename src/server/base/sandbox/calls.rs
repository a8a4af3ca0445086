//! Elsewhere a process gives up no system calls.

/// As `info` would show it.
pub const NAME: &str = "seccomp";

/// Which call has which number isn't known.
pub fn deny() -> Result<bool, String> {
    Ok(false)
}
