//! When a sign-in will end, as far as that can be told from how the account's earlier ones have
//! ended. There is no secret in it, so dumps carry it as it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// How many sign-ins are remembered that the provider has ended: enough for a provider with several
/// reasons to do so, and few enough that habits of last year are forgotten.
const MAX_LIVES: usize = 4;

/// How short a life may be that is told of beforehand: who signs in for less than a working day knows
/// that it ends, and what ended after minutes had another reason.
pub const MIN_LIFE: Duration = Duration::from_secs(8 * 60 * 60);

/// How often the user is told.
pub const NOTICE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How late the next notice may be at the hour that the config wants: whoever was told at another is
/// then told from a third of this on.
pub const MAX_NOTICE_INTERVAL: Duration = Duration::from_secs(36 * 60 * 60);

/// What is known of an account's sign-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIns {
    /// When the user signed in for the tokens that are held, if that is known.
    pub began: Option<Wall>,
    /// How long those lived that the provider has ended, the last one first.
    lives: Vec<Duration>,
    /// When the user was last told that the sign-in will end.
    pub told: Option<Wall>,
}

impl SignIns {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == SignIns::default()
    }

    /// The user has signed in.
    pub fn begin(&mut self, now: Wall) {
        (self.began, self.told) = (Some(now), None);
    }

    /// Whether a life is known.
    pub fn has_learned(&self) -> bool {
        !self.lives.is_empty()
    }

    /// The lives that a dump has count where none is known, or if the dump `is_newer`. Whether that
    /// changes something.
    pub fn learn(&mut self, saved: &SignIns, is_newer: bool) -> bool {
        let counts = self.lives.is_empty() || is_newer;
        let new = counts && !saved.lives.is_empty() && self.lives != saved.lives;
        if new {
            self.lives.clone_from(&saved.lives);
        }
        new
    }

    /// What was called `before` is called `after` since the wall clock was set.
    pub fn clock_set(&mut self, before: Wall, after: Wall) {
        let moved = |at: Wall| at.after(after.since(before)).before(before.since(after));
        (self.began, self.told) = (self.began.map(moved), self.told.map(moved));
    }

    /// The provider has ended the sign-in, which last worked at `worked`; `refusal` may say how long it
    /// was to live. What wasn't used for long may have ended because of that, which is no life to
    /// expect of one that is.
    pub fn ended(&mut self, worked: Wall, now: Wall, refusal: &str) {
        let lived = self.began.take().map(|began| worked.since(began));
        let used = |lived: &Duration| now.since(worked).saturating_mul(4) <= *lived;
        let life = told_life(refusal).or(lived.filter(used));
        if let Some(life) = life.filter(|life| *life >= MIN_LIFE) {
            let lived = lived.unwrap_or_default();
            self.lives.retain(|life| !is_outlived(*life, lived));
            self.lives.insert(0, life);
            self.lives.truncate(MAX_LIVES);
        }
    }

    /// When the sign-in will end, which still worked at `worked`, if it lives no longer than the
    /// shortest-lived one before it.
    pub fn expected_end(&self, worked: Wall) -> Option<Wall> {
        let began = self.began?;
        let lived = worked.since(began);
        let lives = self.lives.iter().copied();
        let life = lives.filter(|life| !is_outlived(*life, lived)).min()?;
        Some(began.after(life))
    }
}

/// Whether a sign-in that has `lived` so long lives on without regard to that `life`.
fn is_outlived(life: Duration, lived: Duration) -> bool {
    lived.saturating_sub(life).saturating_mul(8) > life
}

/// The life that a refusal names, as Microsoft's do: "the maximum allowed lifetime for this request is
/// 604800", in seconds, or "a fixed, limited lifetime of 1.00:00:00", in days, hours, minutes and
/// seconds.
fn told_life(refusal: &str) -> Option<Duration> {
    const UNITS: [u32; 4] = [1, 60, 60 * 60, 24 * 60 * 60];
    let (_, rest) = refusal.split_once(" lifetime ")?;
    let is_digit = |c: char| c.is_ascii_digit();
    let rest = rest.get(rest.find(is_digit)?..)?;
    let end = rest.find(|c| !is_digit(c) && !".:".contains(c));
    let number = rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches('.');
    let mut parts = number.rsplit(['.', ':']).zip(UNITS);
    parts.try_fold(Duration::ZERO, |life, (part, unit)| {
        let part = Duration::from_secs(part.parse().ok()?);
        Some(life.saturating_add(part.saturating_mul(unit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl SignIns {
        /// What was learned.
        pub fn lives(&self) -> &[Duration] {
            &self.lives
        }

        /// A planted bug.
        pub fn double_last(&mut self) {
            self.lives
                .first_mut()
                .into_iter()
                .for_each(|life| *life *= 2);
        }
    }

    const DAY: u64 = 24 * 60 * 60;

    fn day(days: u64) -> Wall {
        Wall::from_millis(0).after(Duration::from_secs(days * DAY))
    }

    /// Sign-ins that began, last worked and were refused on these days.
    fn after(ended: &[(u64, u64, u64)]) -> SignIns {
        let mut known = SignIns::default();
        for (began, worked, refused) in ended {
            known.begin(day(*began));
            known.ended(day(*worked), day(*refused), "invalid_grant");
        }
        known.begin(day(1000));
        known
    }

    #[test]
    fn a_sign_in_is_expected_to_live_as_long_as_the_shortest_before_it() {
        for (ended, worked, end) in [
            (&[][..], 1000, None),
            (&[(0, 7, 7)], 1000, Some(1007)),
            (&[(0, 7, 7)], 1007, Some(1007)),
            (&[(0, 90, 90), (90, 97, 97)], 1000, Some(1007)),
            // This one has lived longer, and so did one before.
            (&[(0, 90, 90), (90, 97, 97)], 1008, Some(1090)),
            (&[(0, 7, 7)], 1008, None),
            (&[(0, 7, 7), (7, 97, 97)], 1000, Some(1090)),
            // A week without use: it may have lived as long as it was used, and no longer.
            (&[(0, 30, 37)], 1000, Some(1030)),
            (&[(0, 30, 120)], 1000, None),
            (&[(0, 0, 0)], 1000, None),
        ] {
            let found = after(ended).expected_end(day(worked));
            assert_eq!(found, end.map(day), "{ended:?} {worked}");
        }
        let mut unknown = SignIns::default();
        unknown.ended(day(7), day(7), "invalid_grant");
        assert!(unknown.is_empty());
    }

    #[test]
    fn the_oldest_lives_are_forgotten() {
        let lives = [10, 11, 11, 11, 11].map(|life| (0, life, life));
        assert_eq!(after(&lives[..4]).expected_end(day(1000)), Some(day(1010)));
        assert_eq!(after(&lives).expected_end(day(1000)), Some(day(1011)));
    }

    #[test]
    fn refusals_that_name_the_life_are_believed() {
        for (text, secs) in [
            (
                "invalid_grant: AADSTS70043: The refresh token has expired or is invalid due to sign-in \
                 frequency checks by conditional access. The token was issued on \
                 2026-11-22T10:00:00.0000000Z and the maximum allowed lifetime for this request is \
                 604800.",
                Some(7 * DAY),
            ),
            (
                "AADSTS700084: The refresh token was issued to a single page app (SPA), and therefore \
                 has a fixed, limited lifetime of 1.00:00:00, which cannot be extended.",
                Some(DAY),
            ),
            ("a lifetime of 00:30:00", Some(1800)),
            ("its lifetime is over", None),
            ("a lifetime of 0", Some(0)),
            ("a lifetime of 99999999999999999999 seconds", None),
            ("invalid_grant: Token has been expired or revoked.", None),
        ] {
            assert_eq!(told_life(text), secs.map(Duration::from_secs), "{text}");
        }
        let mut known = SignIns::default();
        known.begin(day(0));
        known.ended(day(2), day(30), "a lifetime of 7.00:00:00");
        known.begin(day(1000));
        assert_eq!(known.expected_end(day(1000)), Some(day(1007)));
    }
}
