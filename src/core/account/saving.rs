//! An account into a dump and back.

use super::{Account, Grant};
use crate::{
    core::{
        dump::{Saved, original},
        env::Env,
    },
    time::Now,
    view::Happening,
};

impl Account {
    /// What a dump carries of this account.
    pub fn saved(&self, now: Now) -> Option<Saved> {
        let grant = self.state.grant.as_ref().filter(|it| it.has_tokens())?;
        let renewal = grant.renewal.as_ref();
        Some(Saved {
            account: self.name.clone(),
            registration: self.registration.clone(),
            access: self.access().map(|it| it.on_clock(|at| now.wall_at(at))),
            refresh_token: renewal.and_then(|it| it.refresh_token.clone()),
            refresh_origins: renewal.and_then(|it| it.origins.clone()),
            obtained: now.wall_at(grant.obtained.instant),
            original: false,
        })
    }

    /// Takes `saved` if it is of this registration and newer than what is held.
    pub fn restore(&mut self, env: &mut Env, mut saved: Saved) -> bool {
        if saved.original && original::is_same(&saved.registration, &self.registration) {
            saved.registration = self.registration.clone();
        }
        if saved.registration != self.registration {
            return false;
        }
        let asked = env.now.instant_at(saved.obtained);
        // Tokens from the future were asked for before the clock was set back: they live no longer
        // for that, and can't be compared with the tokens held.
        let obtained = asked.min(env.now.instant);
        let ahead = asked.since(obtained);
        if let Some(grant) = self.state.grant.as_ref().filter(|it| it.has_tokens()) {
            let newer = grant.obtained.instant >= asked;
            if newer || (!ahead.is_zero() && self.is_live(env.now.instant)) {
                return false;
            }
        }
        env.tokens_changed();
        let refresh_token = saved.refresh_token;
        let renewal = self.succeed(refresh_token.map(|token| (token, saved.refresh_origins)));
        let access = saved.access.as_ref();
        self.hold(Grant {
            access: access.map(|it| it.on_clock(|at| env.now.instant_at(at).before(ahead))),
            renewal,
            obtained: Now {
                instant: obtained,
                wall: env.now.wall_at(obtained),
            },
            other_user: None,
        });
        self.state.bind(self.registration.mark());
        let expires = self.expires(env.now);
        env.news(&self.name, Happening::TokenRestored { expires });
        // The clients that wait get the new access token first, if it will do.
        let waiting = std::mem::take(&mut self.waiting);
        self.keep_tokens_from_strangers(env);
        self.waiting = waiting;
        self.bring_for_waiting(env);
        true
    }
}
