//! What the token holder takes from itself, so that its memory stays its own and a bug in it can do
//! less. The hook runner is the monitor's child and keeps all of the user's rights and limits.

use std::path::Path;

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, rlim_t, setrlimit},
};

use crate::{
    server::base::{fork, rights},
    sys,
};

#[cfg_attr(target_os = "openbsd", path = "pledge.rs")]
#[cfg_attr(
    all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64"
        )
    ),
    path = "seccomp.rs"
)]
mod calls;
#[cfg_attr(target_os = "linux", path = "landlock.rs")]
#[cfg_attr(not(target_os = "linux"), path = "unveil.rs")]
mod system;

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests;

/// What part of the memory that may be locked is for secrets: a half; the rest is for whatever a
/// library wants to lock.
const LOCKED_PART: rlim_t = 2;

/// What is in force.
#[derive(Default)]
pub struct Sandbox {
    /// By the names that `info` shows.
    pub layers: Vec<&'static str>,
    /// What the system has refused, and why.
    pub refused: Vec<String>,
    /// Somebody else's filter may kill this process for a system call (seccomp(2)).
    deadly: bool,
}

/// No core files, no tracing by processes of the same user, no new privileges and no secrets in swap
/// from now on. Whatever the system refuses is done without; [`Sandbox::tell`] logs it.
pub fn harden() -> Sandbox {
    let mut sandbox = Sandbox {
        deadly: fork::is_filtered(),
        ..Sandbox::default()
    };
    sandbox.told("no_core", "core files can't be switched off", || {
        done(setrlimit(Resource::RLIMIT_CORE, 0, 0))
    });
    sandbox.told(
        "not_dumpable",
        "other processes can't be kept out",
        rights::undumpable,
    );
    sandbox.told(
        "no_new_privs",
        "set-user-ID programs can't be given up",
        system::no_new_privs,
    );
    sandbox.told("locked", "secrets may be swapped out", locked);
    sandbox
}

impl Sandbox {
    /// Gives up running programs, and the system calls that only an intruder would make.
    pub fn deny_calls(&mut self) {
        self.told(calls::NAME, "system calls can't be given up", calls::deny);
    }

    /// Gives up the file system, ports, and signals to others, once every port is bound and before
    /// there are threads.
    /// The control socket is at `socket`: whether it still is must be seen.
    pub fn confine(&mut self, socket: &Path) {
        self.told(system::NAME, "the file system can't be given up", || {
            system::confine(socket)
        });
    }

    fn told(
        &mut self,
        layer: &'static str,
        what: &str,
        give_up: impl Fn() -> Result<bool, String>,
    ) {
        let outcome = match self.deadly.then(|| fork::survives(|| drop(give_up()))) {
            Some(Ok(false)) => Err("a filter of system calls would kill the server".into()),
            Some(Err(errno)) => Err(format!("it could not be tried: {}", described(errno))),
            Some(Ok(true)) | None => give_up(),
        };
        match outcome {
            Ok(true) => self.layers.push(layer),
            Ok(false) => {}
            Err(why) => self.refused.push(format!("{layer}: {what}: {why}")),
        }
    }

    /// Logs what isn't in force though it could be.
    pub fn tell(&self) {
        for refused in &self.refused {
            log::warn!("{refused}");
        }
    }
}

fn done(outcome: nix::Result<()>) -> Result<bool, String> {
    outcome.map(|()| true).map_err(described)
}

fn described(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// Keeps secrets out of swap. Not all users may do that; then their secrets are where all else is.
fn locked() -> Result<bool, String> {
    let limit = lockable().map_err(described)?;
    let limit = limit.checked_div(LOCKED_PART).unwrap_or(0);
    let outcome = sys::lock_texts(usize::try_from(limit).unwrap_or(usize::MAX));
    if let Err(error) = &outcome {
        log::info!("secrets may be swapped out: {error}");
    }
    Ok(outcome.is_ok())
}

/// How much memory this process may lock, in bytes; all that the hard limit allows.
#[cfg(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
))]
fn lockable() -> nix::Result<rlim_t> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    // If that can't be, it is what it was.
    let raised = soft < hard && setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).is_ok();
    Ok(if raised { hard } else { soft })
}

/// There is no limit of one's own, or none that is known.
#[cfg(not(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
fn lockable() -> nix::Result<rlim_t> {
    Ok(rlim_t::MAX)
}
