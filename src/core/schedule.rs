//! When things are due. Facts are stored, deadlines are derived from them here, so that a changed
//! policy bites at once.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{config::Policy, time::Instant};

/// How close two token requests of one account may follow each other, whatever the config or the
/// server says: short enough to go unnoticed, long enough that no bug becomes a flood.
pub const MIN_REQUEST_GAP: Duration = Duration::from_secs(10);

/// Where the doubling of `refresh_retry` stops: long enough to be polite to a provider that is
/// down for a day, short enough that mail flows soon after it is back.
pub const MAX_RETRY_DELAY: Duration = Duration::from_secs(10 * 60);

/// How long refreshes must have failed before the user is notified.
pub const TROUBLE_NOTICE_AFTER: Duration = Duration::from_secs(60 * 60);

/// How many times in a row the same refusal may come without an explanation before the user is
/// notified: with the usual `refresh_retry` after ten minutes, longer than a captive portal is left
/// unattended.
pub const MAX_UNEXPLAINED: u32 = 5;

/// How long the same words that are no error code must have come before they are believed: longer than
/// a gateway is out of order that says so.
pub const MIN_VAGUE: Duration = Duration::from_secs(10 * 60);

/// How long an authorization code is worth retrying when nothing of the request was sent
/// (RFC 6749, 4.1.2 recommends that codes live ten minutes at most).
pub const CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long the code exchange must have failed before the user is notified, who has just signed in
/// and waits: longer than the browser does, which then tells, and than a network needs to come up.
pub const EXCHANGE_NOTICE_AFTER: Duration = Duration::from_secs(60);

/// How long to wait before the code exchange is tried again when nothing of it was sent.
pub const EXCHANGE_RETRY: Duration = Duration::from_secs(10);

/// Which token endpoints asked to be left alone (Retry-After), and until when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pauses {
    until: BTreeMap<Url, Instant>,
    #[serde(skip)]
    changed: bool,
}

impl Pauses {
    /// When `endpoint` may be asked again; `None` when it may be now.
    pub fn until(&self, endpoint: &Url) -> Option<Instant> {
        if self.until.is_empty() {
            return None;
        }
        self.until.get(endpoint).copied()
    }

    pub(super) fn set(&mut self, endpoint: Url, until: Instant) {
        let at = self.until.entry(endpoint).or_insert(until);
        *at = (*at).max(until);
        self.changed = true;
    }

    /// Whether [`Pauses::set`] was called since the last time this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
    }
}

/// When the next token request of an account may be made at the earliest.
pub fn earliest(last_request: Option<Instant>, pause: Option<Instant>) -> Instant {
    let gap = last_request.map_or(Instant::from_millis(0), |at| at.after(MIN_REQUEST_GAP));
    gap.max(pause.unwrap_or(gap))
}

/// When a healthy token wants to be refreshed: before it expires, but not in the first half of
/// its life, and at least every `refresh_at_least`.
pub fn refresh_at(policy: &Policy, obtained: Instant, expires: Option<Instant>) -> Instant {
    let by_age = obtained.after(policy.refresh_at_least);
    match expires {
        Some(expires) => {
            let half_life = expires.since(obtained).checked_div(2).unwrap_or_default();
            by_age.min(expires.before(policy.refresh_before_expiry.min(half_life)))
        }
        None => by_age,
    }
}

/// How long to wait after the `failures`-th failed refresh in a row (from 1): `refresh_retry`,
/// doubling up to [`MAX_RETRY_DELAY`] (or `refresh_retry` itself where that is longer), shortened
/// by up to a fifth so that accounts which failed together don't come back together.
pub fn retry_delay(policy: &Policy, failures: u32, jitter: u8) -> Duration {
    let base = policy.refresh_retry;
    let delay = doubled(base, failures).min(MAX_RETRY_DELAY.max(base));
    let fifth = delay.checked_div(5).unwrap_or_default();
    let share = fifth.saturating_mul(u32::from(jitter)).checked_div(255);
    delay.saturating_sub(share.unwrap_or_default())
}

/// `base`, doubled with each of `tries` (from 1) but the first; it stops far above any limit.
pub fn doubled(base: Duration, tries: u32) -> Duration {
    base.saturating_mul(2u32.saturating_pow(tries.saturating_sub(1).min(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        Policy {
            refresh_at_least: 5400 * S,
            refresh_before_expiry: 90 * S,
            refresh_retry: 40 * S,
        }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn a_token_is_refreshed_before_expiry_but_not_in_its_first_half() {
        for (life, due) in [
            (Some(3600), 3510),
            (Some(100), 50),
            (Some(60), 30),
            (Some(86_400), 5400),
            (None, 5400),
        ] {
            let expires = life.map(|life| at(1000 + life));
            assert_eq!(refresh_at(&policy(), at(1000), expires), at(1000 + due));
        }
    }

    #[test]
    fn retries_back_off_to_ten_minutes_and_never_below_the_floor() {
        let delays: Vec<u64> = (1..=6)
            .map(|failures| retry_delay(&policy(), failures, 0).as_secs())
            .collect();
        assert_eq!(delays, [40, 80, 160, 320, 600, 600]);
        assert_eq!(retry_delay(&policy(), 1, 255), 32 * S);
        assert_eq!(retry_delay(&policy(), u32::MAX, 255), 480 * S);
        let patient = Policy {
            refresh_retry: 3600 * S,
            ..policy()
        };
        assert_eq!(retry_delay(&patient, 9, 0), 3600 * S);
    }

    #[test]
    fn the_gap_and_the_pause_both_hold() {
        assert_eq!(earliest(None, None), at(0));
        assert_eq!(earliest(Some(at(5)), None), at(15));
        assert_eq!(earliest(Some(at(5)), Some(at(99))), at(99));
        assert_eq!(earliest(Some(at(5)), Some(at(9))), at(15));
    }
    #[test]
    fn a_pause_lasts_as_long_as_the_longest_and_is_forgotten_then() {
        let mut pauses = Pauses::default();
        let urls = ["https://a.example/", "https://b.example/"];
        let [a, b] = urls.map(|text| Url::parse(text).unwrap());
        assert!(!pauses.take_changed());
        pauses.set(a.clone(), at(9));
        pauses.set(a.clone(), at(5));
        assert!(pauses.take_changed() && !pauses.take_changed());
        assert_eq!((pauses.until(&a), pauses.until(&b)), (Some(at(9)), None));
        pauses.expire(at(8));
        assert_eq!(pauses.until(&a), Some(at(9)));
        pauses.expire(at(9));
        assert_eq!(pauses.until(&a), None);
    }
}
