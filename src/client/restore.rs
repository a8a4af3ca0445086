//! `pizauth restore`: hands the dump on stdin to the server.

use std::time::Duration;

use super::{ABSENT, ask, input, patience};
use crate::{
    error::Failure,
    wire::{self, Request},
};

/// How long to wait for a server that has been started at the same moment, as units do it, perhaps
/// in the place of one that is just ending.
const START_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run() -> Result<(), Failure> {
    let dump = input(wire::MAX_RESTORE_BYTES + 1, "read the dump")?;
    if dump.len() > wire::MAX_RESTORE_BYTES {
        return Err(Failure::other("the dump is too large"));
    }
    let request = Request::Restore(dump);
    for () in patience::tries(START_TIMEOUT) {
        match ask(&request) {
            // Nothing listens yet, or the server is just ending. Nothing is restored twice: what is
            // held by then is as new.
            Err(failure) if [ABSENT, wire::HUNG_UP].contains(&&*failure.what) => {}
            outcome => return outcome.map(drop),
        }
    }
    ask(&request).map(drop)
}
