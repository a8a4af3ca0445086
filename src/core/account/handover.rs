//! An account on its way to the program's successor: all that would be lost otherwise, sign-ins
//! under way included. Unlike a dump it stays on the machine, so points of its clock mean the same
//! at the other end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AccountState, LiveAccount, SignIn};
use crate::{
    config::{self, Client, Policy, Registration, TokenFile, TokenFormat},
    core::{effect::Effect, env::Env},
    oauth::token::Refusal,
    time::Now,
};

/// One account, settled.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub account: Arc<str>,
    registration: Arc<Registration>,
    /// Where the predecessor has written the access token to, if anywhere.
    pub token_file: Option<Arc<str>>,
    state: AccountState,
}

impl LiveAccount {
    /// All that the successor needs.
    pub(in crate::core) fn snapshot(&self, now: Now) -> Snapshot {
        let mut state = self.state.clone();
        state.settle(now, |attempt| self.is_sent(attempt));
        Snapshot {
            account: self.name.clone(),
            registration: self.registration.clone(),
            token_file: self.token_file_path(),
            state,
        }
    }

    fn token_file_path(&self) -> Option<Arc<str>> {
        Some(self.config.token_file.as_ref()?.path.clone())
    }

    /// Goes on where the predecessor's account was. If that had another registration, it ends, and
    /// this one starts anew.
    pub(in crate::core) fn adopt(&mut self, env: &mut Env, snapshot: Snapshot) {
        if snapshot.registration != self.registration {
            self.state = snapshot.state.changed();
            return snapshot.end(env);
        }
        let ours = self.token_file_path();
        let old = snapshot.token_file;
        let old = old.filter(|path| ours.as_ref() != Some(path));
        if let Some(path) = old {
            env.emit(Effect::TokenFile {
                account: self.name.clone(),
                path,
                content: None,
            });
        }
        self.state = snapshot.state;
        self.state.bind(self.registration.mark());
        self.cancel_unreachable(env);
        self.locate(env);
        self.begin_discovered(env);
        if self.sign_in_waits_for_endpoints() {
            self.discover_for_sign_in(env);
        }
    }

    /// The pending sign-in's reminder is due: in any case, or if the last one has died with the
    /// predecessor.
    pub(in crate::core) fn remind_again(&mut self, all: bool) {
        if let SignIn::Pending(pending) = &mut self.state.sign_in {
            pending.reminded = pending.reminded.filter(|_| pending.told && !all);
        }
    }

    /// Cancels a sign-in that can no longer be completed: the predecessor had another port, or no channel
    /// of it is open.
    fn cancel_unreachable(&mut self, env: &mut Env) {
        let SignIn::Pending(pending) = &self.state.sign_in else {
            return;
        };
        let why = match &pending.browser {
            Some(browser) => {
                let elsewhere = browser.redirect_uri != self.redirect_uri(env.common);
                elsewhere.then_some("the server listens on another port now")
            }
            None => (!pending.device.is_open()).then_some("nothing is left of the sign-in"),
        };
        if let Some(why) = why {
            self.cancel_sign_in(env, Refusal::new(why));
        }
    }
}

impl Snapshot {
    /// Ends what the configuration has no more, as a reload would: it is announced, and its file
    /// goes.
    pub fn end(self, env: &mut Env) {
        let mut account = LiveAccount::new(&config::Account {
            name: self.account,
            registration: self.registration,
            client: Arc::new(Client::default()),
            device_auth_uri: None,
            revocation_uri: None,
            pasted_redirect: None,
            // It refreshes nothing any more.
            policy: Policy::default(),
            token_file: self.token_file.map(|path| {
                let format = TokenFormat::Raw;
                Arc::new(TokenFile { path, format })
            }),
        });
        account.state = self.state;
        account.end(env);
    }
}
