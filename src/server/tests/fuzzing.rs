//! What the fuzz targets, tests/corpus.rs and the benchmarks need of the rooms.

use std::{
    io,
    os::{
        fd::BorrowedFd,
        unix::{fs::FileExt, net::UnixStream},
    },
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
    holder::fdstore::{MAGIC, StoredState},
    holder::handover::{self, Handover},
    ipc::line::send_some,
    ipc::memfd::{Checkpoints, head_of, last_checkpoint},
    runner,
};
use crate::core::{CoreState, Ports, STATE_VERSION};
use crate::{config::Config, error::Failure};

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
    let (handover, config) = handover::check(handover, Path::new("pizauth.conf"))?;
    let core = handover
        .core
        .ok_or_else(|| other("the core is in checkpoints"))?;
    Ok((written, config, core))
}

/// What a token holder goes on from that finds these bytes in a checkpoint, behind the head that a
/// `whole` one has, and before that, what it would write again.
///
/// # Errors
/// Why it can't go on from them.
pub fn stored(bytes: &[u8], whole: bool) -> Result<Option<(Vec<u8>, Ports, CoreState)>, String> {
    let head = whole.then(|| head_of(1, bytes.len() as u64, bytes));
    let head = head.as_ref().map_or(&[][..], |head| head);
    let memory = Checkpoints::create().map_err(|error| error.to_string())?;
    let [file, _] = memory.files();
    file.write_all_at(&[head, bytes].concat(), 0)
        .map_err(|error| error.to_string())?;
    let state = last_checkpoint::<StoredState>(MAGIC, STATE_VERSION, memory.files())?;
    Ok(state.map(|state| {
        let written = serde_json::to_vec(&state).unwrap_or_default();
        // Whatever the certificate is.
        let _ = state.identity();
        (written, state.ports(), state.core)
    }))
}

/// Writes states as a token holder does it after each change.
///
/// # Errors
/// When this system has no memory for that.
pub fn state_writer() -> io::Result<impl FnMut(&CoreState) -> io::Result<()>> {
    let mut memory = Checkpoints::create()?;
    Ok(move |state: &CoreState| memory.write(MAGIC, STATE_VERSION, state))
}

/// Whether the hook runner would run this.
pub fn would_run(key: &Key, job: &HookJob) -> bool {
    runner::check(key, job).is_ok()
}
