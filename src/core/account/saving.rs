//! An account into a dump and back.

use super::{Grant, LiveAccount, Phase, token_file::TokenFileState};
use crate::{
    core::{
        dump::{Saved, original},
        env::Env,
        grant::LoadedTimes,
    },
    time::{Instant, Now},
    view::Happening,
};

impl LiveAccount {
    /// What a dump carries of this account.
    pub(in crate::core) fn saved(&self, now: Now) -> Option<Saved> {
        let none = Grant::without_tokens(now);
        let held = self.state.grant.as_deref().filter(|it| it.has_tokens());
        // What was learned is the account's, not its tokens'.
        let learned = self.state.sign_ins.has_learned().then_some(&none);
        let grant = held.or(learned)?;
        let renewal = grant.renewal.as_ref();
        // Loaded tokens are saved with the times that they came with.
        let loaded = grant.loaded;
        let expires = |at| loaded.and_then(|it| it.expires).unwrap_or(now.wall_at(at));
        let ends = loaded.and_then(|it| it.ends);
        let obtained = loaded.map(|it| it.obtained);
        Some(Saved {
            account: self.name.clone(),
            registration: self.registration.clone(),
            access: self.access().map(|it| it.on_clock(expires)),
            refresh_token: renewal.and_then(|it| it.refresh_token.clone()),
            refresh_origins: renewal.and_then(|it| it.origins.clone()),
            refresh_ends: ends.or_else(|| Some(now.wall_at(renewal?.ends?))),
            other_user: grant.other_user.clone(),
            sign_ins: self.state.sign_ins.clone(),
            obtained: obtained.unwrap_or(now.wall_at(grant.obtained.instant)),
            original: false,
        })
    }

    /// The wall clock was set: what was told by it is told anew, in the token file as well.
    pub(in crate::core) fn clock_set(&mut self, env: &mut Env) {
        if let Some(grant) = self.state.grant.as_mut().filter(|it| it.loaded.is_some()) {
            grant.tell_times(env.now);
            self.bring_for_waiting(env);
        } else if let Some(grant) = &mut self.state.grant {
            let now = env.now.wall_at(grant.obtained.instant);
            let before = std::mem::replace(&mut grant.obtained.wall, now);
            self.state.sign_ins.clock_set(before, now);
        }
        self.published = TokenFileState::Unknown;
        self.publish(env);
    }

    /// Takes `saved` if it is of this registration and newer than what is held.
    pub(in crate::core) fn restore(&mut self, env: &mut Env, mut saved: Saved) -> bool {
        if saved.original && original::is_same(&saved.registration, &self.registration) {
            saved.registration = self.registration.clone();
        }
        if saved.registration != self.registration {
            return false;
        }
        if self.state.sign_ins.learn(&saved.sign_ins, false) {
            env.tokens_changed();
        }
        if saved.access.is_none() && saved.refresh_token.is_none() {
            return false;
        }
        let asked = env.now.instant_at(saved.obtained);
        if let Some(grant) = self.state.grant.as_ref().filter(|it| it.has_tokens()) {
            // Tokens from the future can't be compared with the tokens held.
            let future = asked > env.now.instant;
            let newer = grant.obtained.instant >= asked;
            if newer || (future && self.is_live(env.now.instant)) {
                return false;
            }
            self.state.sign_ins.learn(&saved.sign_ins, true);
        }
        env.tokens_changed();
        let access = saved.access.as_ref();
        let times = LoadedTimes {
            obtained: saved.obtained,
            expires: access.and_then(|it| it.expires),
            ends: saved.refresh_ends,
        };
        let refresh_token = saved.refresh_token;
        let renewal = refresh_token.map(|token| (token, saved.refresh_origins));
        let mut grant = Grant {
            access: access.map(|it| it.on_clock(|_| Instant::from_millis(u64::MAX))),
            renewal: self.succeed(renewal),
            obtained: env.now,
            other_user: saved.other_user,
            loaded: Some(times),
        };
        let known = &mut self.state.sign_ins;
        (known.began, known.told) = (saved.sign_ins.began, saved.sign_ins.told);
        let behind = grant.tell_times(env.now);
        self.hold(grant);
        if let (false, Some(phase @ Phase::Waiting)) = (behind.is_zero(), self.phase_mut()) {
            // The clock is wrong, so nobody knows how old they are.
            *phase = Phase::Wanted;
        }
        self.state.bind(self.registration.mark());
        let expires = self.expires(env.now);
        env.news(&self.name, Happening::TokenRestored.until(expires));
        // The clients that wait get the new access token first, if it will do.
        let waiting = std::mem::take(&mut self.waiting);
        self.keep_tokens_from_strangers(env);
        self.waiting = waiting;
        self.bring_for_waiting(env);
        true
    }
}
