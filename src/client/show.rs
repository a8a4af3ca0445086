//! `pizauth show`: a token, and nothing else.

use std::time::{Duration, Instant};

use super::{ask, is_restarting, print};
use crate::error::Failure;
use crate::wire::{Request, ShowArgs};

pub(super) fn run(args: &ShowArgs) -> Result<(), Failure> {
    // Whoever doesn't wait needs no clock, and the pages that it takes to read it.
    let began = args.wait_secs.map(|_| Instant::now());
    let waited = || began.map_or(Duration::ZERO, |began| began.elapsed());
    let left = |secs| {
        let left = Duration::from_secs(secs).saturating_sub(waited());
        left.as_secs_f64().ceil() as u64
    };
    let mut line = loop {
        let outcome = ask(&Request::Show(ShowArgs {
            wait_secs: args.wait_secs.map(left),
            ..args.clone()
        }));
        match outcome {
            // The next server is there already, and answers in a moment.
            Err(failure) if is_restarting(&failure) => {}
            outcome => break outcome?,
        }
    };
    line.push(b'\n');
    print(&line)
}
