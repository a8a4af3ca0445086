//! What the daemon takes from itself, so that its memory stays its own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors the daemon may have at least, if the hard limit allows: 2,048 clients, the
/// browsers, the providers.
const DESCRIPTORS: u64 = 4096;

/// No core files, and no tracing by processes of the same user where the system can prevent it;
/// to be called after the hook runner was forked, which keeps the user's own limits. Whatever the
/// system refuses is logged and done without.
pub fn harden() {
    let told = |what: &str, outcome: nix::Result<()>| {
        if let Err(errno) = outcome {
            log::warn!("{what}: {errno}");
        }
    };
    told(
        "core files can't be switched off",
        setrlimit(Resource::RLIMIT_CORE, 0, 0),
    );
    told("other processes can't be kept out", undumpable());
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
    {
        let wanted = DESCRIPTORS.min(hard);
        told(
            "the limit of descriptors stays",
            setrlimit(Resource::RLIMIT_NOFILE, wanted, hard),
        );
    }
}

/// Memory, environment and descriptors become root's to look at (proc(5), ptrace(2)).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn undumpable() -> nix::Result<()> {
    nix::sys::prctl::set_dumpable(false)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn undumpable() -> nix::Result<()> {
    Ok(())
}
