//! An account into a dump and back.

use super::{Access, Account, Grant, Held, Renewal};
use crate::{
    core::{
        dump::{Saved, SavedAccess},
        env::Env,
    },
    time::Now,
    view::Happening,
};

impl Account {
    /// What a dump carries of this account.
    pub fn saved(&self, now: Now) -> Option<Saved> {
        let Held::Grant(grant) = &self.held else {
            return None;
        };
        Some(Saved {
            account: self.name.clone(),
            registration: self.registration.clone(),
            access: grant.access.as_ref().map(|access| SavedAccess {
                token: access.token.clone(),
                expires: access.expires.map(|at| now.wall_at(at)),
                origins: access.origins.clone(),
                scopes: access.scopes.clone(),
            }),
            refresh_token: match &grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { refresh_token, .. } => Some(refresh_token.clone()),
            },
            refresh_origins: match &grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { origins, .. } => origins.clone(),
            },
            obtained: now.wall_at(grant.obtained.instant),
        })
    }

    /// Takes `saved` if it is of this registration and newer than what is held.
    pub fn restore(&mut self, env: &mut Env, saved: Saved) -> bool {
        if saved.registration != self.registration {
            return false;
        }
        let asked = env.now.instant_at(saved.obtained);
        // Tokens from the future were asked for before the clock was set back: they live no longer
        // for that, and nobody knows whether they are newer than what is held.
        let obtained = asked.min(env.now.instant);
        let ahead = asked.since(obtained);
        if let Held::Grant(grant) = &self.held {
            let live = || self.is_live(env.now.instant);
            if grant.obtained.instant >= asked || (!ahead.is_zero() && live()) {
                return false;
            }
        }
        env.tokens_changed();
        let access = saved.access.as_ref().map(|access| &access.token);
        for token in [access, saved.refresh_token.as_ref()] {
            token.inspect(|token| token.bind(saved.registration.mark()));
        }
        let refresh_token = saved.refresh_token;
        let renewal = self.succeed(refresh_token.map(|token| (token, saved.refresh_origins)));
        self.held = Held::Grant(Grant {
            access: saved.access.map(|access| Access {
                token: access.token,
                expires: access
                    .expires
                    .map(|at| env.now.instant_at(at).before(ahead)),
                origins: access.origins,
                scopes: access.scopes,
            }),
            renewal,
            obtained: Now {
                instant: obtained,
                wall: env.now.wall_at(obtained),
            },
        });
        let expires = self.expires(env.now);
        env.news(&self.name, Happening::TokenRestored { expires });
        // Whoever waits looks at the new tokens first: the access token may do.
        let waiting = std::mem::take(&mut self.waiting);
        self.keep_tokens_from_strangers(env);
        self.waiting = waiting;
        self.bring_for_waiting(env);
        true
    }
}
