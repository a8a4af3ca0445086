//! Failures as every room of the server words them.

use std::io;

use crate::error::{Exit, Failure};

/// The server can't start for this reason.
pub fn cant(error: io::Error) -> Failure {
    other(&format!("can't start: {error}"))
}

/// A failure without an exit status of its own.
pub fn other(what: &str) -> Failure {
    Failure::new(Exit::Other, what)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        other(&error.to_string())
    }
}
