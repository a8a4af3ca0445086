//! The core on its way to the program's successor.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    Core, Cx,
    account::Snapshot,
    discovery::Issuers,
    env::{Env, UsedState},
    schedule::Pauses,
    state_commands::StateCommands,
};
use crate::time::Now;

/// The layout of [`CoreState`], and of all that goes with it to a successor. Raised by hand when
/// any of it changes; a test fails otherwise.
pub const STATE_VERSION: u32 = 15;

/// All that the successor needs to go on: the core's own types, settled.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreState {
    attempts: u64,
    commands: StateCommands,
    issuers: Issuers,
    /// Which endpoints asked to be left alone, and until when.
    pauses: Pauses,
    spent: VecDeque<UsedState>,
    accounts: Vec<Snapshot>,
}

impl CoreState {
    /// The same for a successor that has nothing to remove: the predecessor does it as it ends.
    pub fn without_token_files(mut self) -> Self {
        for account in &mut self.accounts {
            account.token_file = None;
        }
        self
    }
}

impl Core {
    /// What there is, to be handed over while nothing is sent ([`Core::hold`]).
    pub fn state(&self, now: Now) -> CoreState {
        let mut issuers = self.common.issuers.clone();
        issuers.settle();
        let accounts = self.accounts.values();
        CoreState {
            attempts: self.common.output.attempts,
            commands: self.commands.clone(),
            issuers,
            pauses: self.common.pauses.clone(),
            spent: self.common.spent.clone(),
            accounts: accounts.map(|it| it.snapshot(now)).collect(),
        }
    }

    /// Goes on where the predecessor was. Accounts that have another registration now start anew,
    /// and those that are gone from the configuration end.
    pub fn adopt(&mut self, cx: &mut Cx, state: CoreState) {
        self.common.output.attempts = self.common.output.attempts.max(state.attempts);
        self.commands = state.commands.inherited(&self.commands);
        self.common.issuers = state.issuers;
        self.common.pauses = state.pauses;
        self.common.spent = state.spent;
        for snapshot in state.accounts {
            let mut env = Env::new(cx, &mut self.common);
            match self.accounts.get_mut(&snapshot.account) {
                Some(account) => account.adopt(&mut env, snapshot),
                None => snapshot.end(&mut env),
            }
        }
        self.end_for_all(cx);
    }

    /// The predecessor's commands have ended with it: they are run again, `all` of them or those that
    /// waited for a click.
    pub fn remind_again(&mut self, cx: &mut Cx, all: bool) {
        for account in self.accounts.values_mut() {
            account.remind_again(all);
        }
        self.end_for_all(cx);
    }
}
