//! `pizauth restore`: hands the dump on stdin to the server.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{ABSENT, ask, input};
use crate::{
    error::{Exit, Failure},
    wire::{self, Request},
};

/// How long to wait for a server that has been started at the same moment, as units do it, perhaps
/// in the place of one that is just ending.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to look meanwhile.
const START_POLL: Duration = Duration::from_millis(50);

pub(super) fn run() -> Result<(), Failure> {
    let dump = input(wire::MAX_RESTORE_BYTES + 1, "read the dump")?;
    if dump.len() > wire::MAX_RESTORE_BYTES {
        return Err(Failure::new(Exit::Other, "the dump is too large"));
    }
    let request = Request::Restore(dump);
    let give_up = Instant::now() + START_TIMEOUT;
    loop {
        match ask(&request) {
            Err(failure) if is_change(&failure) && Instant::now() < give_up => {}
            outcome => return outcome.map(drop),
        }
        thread::sleep(START_POLL);
    }
}

/// Whether nothing listens yet, or somebody just doesn't any more. Nothing is restored twice: what is
/// held by then is as new.
fn is_change(failure: &Failure) -> bool {
    [ABSENT, wire::HUNG_UP].contains(&&*failure.what)
}
