//! The people: the pages they have open, the codes and dumps they keep, and what they wait for.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{provider::Tag, setup::Origin, state::Held};
use crate::{
    core::{Patience, Waiter},
    time::Instant,
};

/// What they have, and wait for.
#[derive(Clone, Debug, Default)]
pub struct People {
    pub tabs: VecDeque<Tab>,
    /// Device codes that users have seen, newest first.
    pub codes: VecDeque<Tag>,
    /// Sealed, newest first.
    pub dumps: VecDeque<Vec<u8>>,
    /// What was held when each dump was made.
    pub dumped: VecDeque<Vec<Option<Held>>>,
    /// Who waits for a token.
    pub waits: BTreeMap<Waiter, Wait>,
    /// How many have ever waited for anything.
    pub waiters: u64,
    /// Who must have been answered at the end of the event.
    pub impatient: Vec<Waiter>,
    /// Whose sign-in the event may begin.
    pub begins: Option<usize>,
    /// Who is asked for in the event.
    pub asks: Option<usize>,
}

impl People {
    /// One more who waits.
    pub fn waiter(&mut self) -> Waiter {
        self.waiters += 1;
        Waiter(self.waiters)
    }

    /// The daemon that they waited for is gone.
    pub fn renew(&mut self) {
        self.waits.clear();
        self.impatient.clear();
    }
}

/// A page that a user has open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tab {
    pub origin: Origin,
    pub state: String,
    pub challenge: String,
    pub code: Option<Tag>,
}

/// Somebody who waits for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    pub account: usize,
    pub min_valid: Duration,
    pub patience: Patience,
    /// For an ID token.
    pub id_token: bool,
    /// How long.
    pub until: Instant,
}

impl Wait {
    /// One of the ways to ask.
    pub fn new(account: usize, how: u8, now: Instant) -> Self {
        let secs = Duration::from_secs;
        Wait {
            account,
            min_valid: [0, 0, 30, 45, 600, 3500, 7200, 20].map(secs)[usize::from(how % 8)],
            patience: [
                Patience::Token,
                Patience::Refresh,
                Patience::None,
                Patience::Token,
            ][usize::from(how / 8 % 4)],
            id_token: how % 8 == 7,
            until: now
                .after([10, 1, 300, 3600, 60, 30, 20, 86_400].map(secs)[usize::from(how / 32)]),
        }
    }
}
