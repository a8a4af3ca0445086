//! `pizauth show`: a token, and nothing else.

use std::time::{Duration, Instant};

use super::{ask, is_restarting, print, token::args};
use crate::wire::{Request, ShowArgs};
use crate::{cli::ShowOptions, error::Failure};

pub(super) fn run(options: &ShowOptions) -> Result<(), Failure> {
    // Whoever doesn't wait needs no clock, and the pages that it takes to read it.
    let ShowOptions { token, form } = options;
    let began = token.wait.map(|_| Instant::now());
    let waited = || began.map_or(Duration::ZERO, |began| began.elapsed());
    let left = |span: Duration| span.saturating_sub(waited()).as_secs_f64().ceil() as u64;
    let mut line = loop {
        let outcome = ask(&Request::Show(ShowArgs {
            wait_secs: token.wait.map(left),
            form: form.clone(),
            ..args(token)
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
