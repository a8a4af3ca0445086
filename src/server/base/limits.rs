//! Limits that several processes of the server share.

use std::time::Duration;

use nix::sys::{
    resource::{Resource, getrlimit, rlim_t, setrlimit},
    stat::{Mode, umask},
};

/// How long an ending server may take: all of these, and what they don't count. A new server waits
/// so long for it, and so do the manual and the files for service managers promise.
pub const END_TIMEOUT: Duration = Duration::from_secs(85);

/// How many descriptors the token holder may have at least, if the hard limit allows: what
/// [`crate::control::limits`] makes the most of.
const DESCRIPTORS: rlim_t = 8192;

/// Gives the server as many descriptors as it may need; the limit that there was, if it had less.
pub fn more_descriptors() -> Option<rlim_t> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let raised = soft < DESCRIPTORS
        && setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard).is_ok();
    raised.then_some(soft)
}

/// How many descriptors this process may have.
pub fn descriptors() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// Gives commands the limit that the server was started with.
pub fn limit_descriptors(limit: Option<rlim_t>) {
    if let (Some(soft), Ok((_, hard))) = (limit, getrlimit(Resource::RLIMIT_NOFILE)) {
        // They could live with more.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}

/// What commands run with is what the server was started with, not what it needs itself.
pub fn as_before(descriptors: Option<rlim_t>, mask: u32) {
    limit_descriptors(descriptors);
    umask(Mode::from_bits_truncate(mask as _));
}
