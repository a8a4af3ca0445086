//! What the fuzz targets and tests/corpus.rs need of the rooms.

use std::{
    io,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::Path,
};

use nix::sys::socket::MsgFlags;

pub use super::ipc::{
    capability::Key,
    hook_messages::{HookJob, HookOrder, OrderLine, VARIABLES},
    line::{Line, MAX_BYTES, Message, Next},
};
use super::{
    base::error::other,
    holder::handover::{self, Handover, Succession},
    ipc::line::send_some,
    runner,
};
use crate::{config::Config, core::CoreState, error::Failure};

/// Sends what a peer of a line might send, and never waits.
///
/// # Errors
/// When nothing could be sent.
pub fn send(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<usize> {
    send_some(stream, bytes, fds, MsgFlags::MSG_DONTWAIT)
}

/// What a successor goes by when it is given these bytes, and before that, what it would write again.
///
/// # Errors
/// Why it can't take over.
pub fn take_over(state: &[u8]) -> Result<(Vec<u8>, Config, CoreState), Failure> {
    let handover = Handover::read(&mut &*state)?;
    let written = serde_json::to_vec(&handover).unwrap_or_default();
    let Succession { handover, config } = handover::check(handover, Path::new("pizauth.conf"))?;
    let core = handover
        .core
        .ok_or_else(|| other("the core is in checkpoints"))?;
    Ok((written, config, core))
}

/// Whether the hook runner would run this.
pub fn would_run(key: &Key, job: &HookJob) -> bool {
    runner::check(key, job).is_ok()
}
