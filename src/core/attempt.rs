//! Operations that a shell carries out for the core, and who waits for them.

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// Names one operation in flight, and nothing else. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

/// A client that waits for an end or a token; means something only to the shell that gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// One operation that is repeated until it ends: the request in flight, or when the next is due.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Dispatch {
    /// The request is with the shell.
    #[serde(skip)]
    InFlight(AttemptId),
    /// No request is outstanding, and the next one is due then.
    At(Instant),
}

impl Dispatch {
    /// The attempt in flight.
    pub fn attempt(&self) -> Option<AttemptId> {
        match self {
            Dispatch::InFlight(attempt) => Some(*attempt),
            Dispatch::At(_) => None,
        }
    }

    /// Whether `attempt` is the one in flight.
    pub fn is(&self, attempt: AttemptId) -> bool {
        self.attempt() == Some(attempt)
    }

    /// When the next request is due, unless one is in flight.
    pub fn due(&self) -> Option<Instant> {
        match self {
            Dispatch::InFlight(_) => None,
            Dispatch::At(at) => Some(*at),
        }
    }

    /// Files the request in flight for `at` instead: its answer will not arrive.
    pub fn settle(&mut self, at: Instant) {
        if let Dispatch::InFlight(_) = self {
            *self = Dispatch::At(at);
        }
    }
}
