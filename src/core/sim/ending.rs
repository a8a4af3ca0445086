//! The ends of sign-ins: what can be known of them, and what the user is told.

use std::time::Duration;

use super::{
    promise::{Check, Invariant, ensure, fail, must},
    setup::{NAMES, NOTICE_BEFORE, index_of},
    state::{Renewal, SignIn},
    world::World,
};
use crate::{
    core::dump,
    time::Instant,
    view::{AccountView, EndsBy, Happening},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far apart two clocks may be that aren't taken for set.
const NEAR: Duration = Duration::from_secs(60);

/// What the world knows of the sign-in whose tokens are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ending {
    /// When the user signed in, if this daemon has seen it.
    pub began: Option<Instant>,
    /// When the user was last told of its end.
    pub noticed: Option<Instant>,
    /// The next reminder is for that.
    pub open: bool,
    /// A sign-in has ended since, and the notice with it.
    pub closed: bool,
}

impl Ending {
    pub fn signed_in(&mut self, at: Option<Instant>) {
        (self.began, self.noticed) = (at, None);
    }

    /// Another sign-in begins beside it, or after it.
    pub fn begin(&mut self, now: Instant) {
        self.open = self.noticed == Some(now) && !self.closed;
    }
}

/// How long sign-ins lived.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    seen: Vec<Duration>,
    /// One began before the daemon, so nobody here knows how long it lived.
    unknown: bool,
}

impl World {
    /// The provider has ended the account's sign-in.
    pub fn learn(&mut self, account: usize) {
        let shadow = &self.state.shadows[account];
        let lives = self.lives.entry(account).or_default();
        match (shadow.ending.began, &shadow.held) {
            (Some(began), Some(held)) => lives.seen.push(held.obtained.since(began)),
            _ => lives.unknown = true,
        }
    }

    /// What was learned is in a dump, whether there are tokens or not.
    pub fn must_tell_lives(&self, bytes: &[u8]) -> Check {
        let dump = dump::open(bytes).unwrap_or_default();
        let told = |name: &str| {
            let saved = dump.grants.iter().find(|saved| *saved.account == *name);
            saved.map_or(&[][..], |saved| saved.sign_ins.lives())
        };
        let all = NAMES.iter().all(|name| told(name) == self.sut.lives(name));
        must(all, Invariant::Ending, "a dump has other lives than known")
    }

    /// Notices come for what serves, and once a day.
    pub fn take_notices(&mut self) -> Check {
        while let Some(news) = self.sut.core.next_news() {
            if news.event != Happening::SignInExpiring {
                continue;
            }
            let account = index_of(&news.account.unwrap_or_default())?;
            let now = self.now.instant;
            let shadow = &mut self.state.shadows[account];
            let serves = shadow.held.is_some() && shadow.renewal != Renewal::Rejected;
            let text = "the end of what doesn't serve is told of";
            must(serves, Invariant::Ending, text)?;
            let last = shadow.ending.noticed.replace(now);
            let again = last.is_none_or(|at| now.since(at) + NEAR >= DAY);
            must(again, Invariant::Ending, "an end is told of too often")?;
            let left = news.expires.map(|at| at.since(self.now.wall));
            let soon = left.is_some_and(|left| left <= NOTICE_BEFORE + NEAR);
            must(soon, Invariant::Ending, "an end is told of too soon")?;
            (shadow.ending.open, shadow.ending.closed) = (true, false);
        }
        Ok(())
    }

    /// The end that is shown is one that is known, and the user is told of it in time.
    pub fn look_at_end(&self, account: usize, view: &AccountView, wake: Option<Instant>) -> Check {
        let Some(end) = view.sign_in_end else {
            return Ok(());
        };
        let shadow = &self.state.shadows[account];
        let Some(held) = &shadow.held else {
            return fail(Invariant::Ending, "nothing is held, and will end".into());
        };
        let at = self.now.instant_at(end.at);
        let near = |known: Instant| at.since(known) + known.since(at) <= NEAR;
        let began = shadow.ending.began;
        let known = match (end.by, held.refresh, self.lives.get(&account)) {
            (EndsBy::Provider, Some(_), _) => held.ends.is_some_and(near),
            (EndsBy::Provider, None, _) => held.access.is_some_and(|it| it.1.is_some_and(near)),
            (EndsBy::Experience, _, Some(lives)) => {
                let ends = |began: Instant| lives.seen.iter().any(|life| near(began.after(*life)));
                lives.unknown || began.is_none_or(ends)
            }
            (EndsBy::Experience, _, None) => false,
        };
        ensure(known, Invariant::Ending, || {
            format!("account {account} is said to end at {end:?}, which nobody knows")
        })?;
        let open = matches!(shadow.sign_in, SignIn::None | SignIn::Pending { .. });
        let Some(began) = began.filter(|_| end.by == EndsBy::Experience && open) else {
            return Ok(());
        };
        let ahead = NOTICE_BEFORE.min(at.since(began) / 2);
        let from = at.before(ahead).max(self.now.instant).after(NEAR);
        let told = self.sut.under_way(NAMES[account]).told_of_end;
        let met = told || wake.is_some_and(|wake| wake <= from);
        must(
            met || self.sut.core.is_held() || !self.is_located(account),
            Invariant::Ending,
            "an end is known, and nothing will tell of it",
        )
    }
}
