//! What a server gets of an older one, the original's, whose place it is to take: the tokens first,
//! and the word that the old one is gone (client/takeover.rs has the other end).

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use nix::poll::{PollTimeout, poll};

use crate::core::dump::{self, Dump};
use crate::{
    error::Failure, secret::SecretBytes, server::base::error::other, wire::MAX_RESTORE_BYTES,
};

/// How long the other end may take: the old server has ten seconds to end.
const WORD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the kernel may take to free the ports of a process that has gone.
const PORTS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to try them meanwhile, in milliseconds.
const PORTS_PAUSE_MILLIS: u16 = 50;

/// The older server's tokens, from standard input; returns when its place is free, and says before
/// that this server could take it.
fn wait() -> Result<Dump, Failure> {
    let line = io::stdin().as_fd().try_clone_to_owned();
    let mut line = UnixStream::from(line.map_err(cut)?);
    line.set_read_timeout(Some(WORD_TIMEOUT)).map_err(cut)?;
    let mut length = [0; 8];
    line.read_exact(&mut length).map_err(cut)?;
    let length = u64::from_le_bytes(length).min(MAX_RESTORE_BYTES as u64);
    let mut bytes = SecretBytes::default();
    let read = (&mut line).take(length).read_to_end(&mut bytes);
    read.map_err(cut)?;
    let dump = dump::open_in_place(&mut bytes)
        .map_err(|error| other(&format!("the older server's state is of no use: {error}")))?;
    line.write_all(&[1]).map_err(cut)?;
    line.read_exact(&mut [0]).map_err(cut)?;
    Ok(dump)
}

fn cut(error: io::Error) -> Failure {
    other(&format!("the older server's place can't be taken: {error}"))
}

/// What `bind` gives, and for an `heir` the older server's tokens. Most ports are there while the old
/// one still has its own; those that it has are tried again when it has gone.
pub fn bind<T>(
    heir: bool,
    mut bind: impl FnMut() -> Result<T, Failure>,
) -> Result<(T, Option<Dump>), Failure> {
    if !heir {
        return Ok((bind()?, None));
    }
    let mut bound = bind();
    let dump = wait()?;
    let give_up = Instant::now() + PORTS_TIMEOUT;
    while bound.is_err() && Instant::now() < give_up {
        // Nothing tells when they are free.
        let _ = poll(&mut [], PollTimeout::from(PORTS_PAUSE_MILLIS));
        bound = bind();
    }
    Ok((bound?, Some(dump)))
}
