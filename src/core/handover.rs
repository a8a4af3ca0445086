//! The core on its way to the program's successor.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Core, Cx, account::Carried, discovery::CarriedIssuer, env::Env};
use crate::time::Now;

/// All that the successor needs to go on. Whoever changes it changes the version that
/// daemon/handover.rs writes before it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreState {
    attempts: u64,
    loaded: bool,
    dirty: bool,
    issuers: Vec<CarriedIssuer>,
    /// Which endpoints asked to be left alone, and until when.
    pauses: Vec<(Url, u64)>,
    accounts: Vec<Carried>,
}

impl CoreState {
    /// The same for a successor that has nothing to remove: the predecessor does it as it ends.
    pub fn without_token_files(mut self) -> Self {
        for account in &mut self.accounts {
            account.forget_token_file();
        }
        self
    }
}

impl Core {
    /// What there is, to be handed over while nothing is sent ([`Core::hold`]).
    pub fn state(&self, now: Now) -> CoreState {
        let (loaded, dirty) = self.keeper.state();
        CoreState {
            attempts: self.common.attempts(),
            loaded,
            dirty,
            issuers: self.common.issuers.carried(),
            pauses: self.common.pauses.carried(),
            accounts: self
                .accounts
                .values()
                .map(|account| account.carried(now))
                .collect(),
        }
    }

    /// Goes on where the predecessor was. Accounts that have another registration now start anew,
    /// and those that are gone from the configuration end.
    pub fn adopt(&mut self, cx: &mut Cx, state: CoreState) {
        self.common.adopt_attempts(state.attempts);
        self.keeper.adopt(state.loaded, state.dirty);
        self.common.issuers.adopt(state.issuers);
        self.common.pauses.adopt(state.pauses);
        for carried in state.accounts {
            let mut env = Env::new(cx, &mut self.common);
            match self.accounts.get_mut(&carried.account) {
                Some(account) => account.adopt(&mut env, carried),
                None => carried.end(&mut env),
            }
        }
        self.refile();
        self.keep(cx);
    }

    /// The predecessor's commands have ended with it: whoever is still to sign in is asked again.
    pub fn remind_again(&mut self) {
        for account in self.accounts.values_mut() {
            account.remind_again();
        }
        self.refile();
    }
}
