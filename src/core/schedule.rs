//! When things are due. Facts are stored, deadlines are derived from them here, so that a changed
//! policy bites at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{config::Policy, time::Instant};

/// How close two token requests of one account may follow each other, whatever the config or the
/// server says: short enough to go unnoticed, long enough that no bug becomes a flood.
pub const MIN_REQUEST_GAP: Duration = Duration::from_secs(10);

/// Where the doubling of `refresh_retry` stops: long enough to be polite to a provider that is
/// down for a day, short enough that mail flows soon after it is back.
pub const MAX_RETRY_DELAY: Duration = Duration::from_secs(10 * 60);

/// How often users who lack a valid token can have an endpoint asked that wants to be left alone, or
/// an account tried that has stopped: no more than a person at a keyboard, and mail programs that
/// look every minute don't become a flood.
pub const MIN_ASK_GAP: Duration = Duration::from_secs(60);

/// How long to wait after a change of the network: an address comes before its routes, and name servers
/// after both.
pub const NETWORK_SETTLE: Duration = Duration::from_secs(2);

/// How long an account that has stopped waits for its next try: seldom enough to be no burden if the
/// configuration is wrong, often enough to notice the same day that the provider was.
pub const STOPPED_RETRY: Duration = Duration::from_secs(60 * 60);

/// How long a provider must have called the configuration wrong that has worked before it is
/// believed: longer than a provider is out of order that forgets its clients.
pub const MIN_MISCONFIGURED: Duration = Duration::from_secs(24 * 60 * 60);

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

/// Which token endpoints are overloaded, and until when: they said so (429 or 503 with Retry-After) to
/// two accounts. What they said to one counts for that account only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pauses {
    busy: BTreeMap<Url, Busy>,
    #[serde(skip)]
    changed: bool,
}

/// What a token endpoint has said.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Busy {
    /// Who has the longest pause.
    account: Arc<str>,
    /// Until when.
    until: Instant,
    /// Until when another account has one: so long there are two.
    all: Option<Instant>,
}

impl Pauses {
    /// When `endpoint` may be asked again; `None` when it may be now.
    pub fn until(&self, endpoint: &Url) -> Option<Instant> {
        self.busy.get(endpoint)?.all
    }

    pub(super) fn set(&mut self, endpoint: &Url, account: &Arc<str>, until: Instant) {
        let busy = self.busy.entry(endpoint.clone()).or_insert_with(|| Busy {
            account: account.clone(),
            until,
            all: None,
        });
        if busy.account == *account {
            busy.until = busy.until.max(until);
            return;
        }
        let shorter = until.min(busy.until);
        if until > busy.until {
            (busy.account, busy.until) = (account.clone(), until);
        }
        self.changed |= Some(shorter) > busy.all;
        busy.all = busy.all.max(Some(shorter));
    }

    /// Whether [`Pauses::set`] was called since the last time this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.busy.retain(|_, busy| busy.until > now);
    }
}

/// When the next token request of an account may be made at the earliest. A pause is obeyed while the
/// access token lives; who asks for a token then may have the provider asked every
/// [`MIN_ASK_GAP`]: `asked` is from when on, if somebody asks.
pub fn earliest(
    last_request: Option<Instant>,
    pause: Option<Instant>,
    asked: Option<Instant>,
) -> Instant {
    let after = |gap| last_request.map_or(Instant::from_millis(0), |at| at.after(gap));
    let gap = after(MIN_REQUEST_GAP);
    let asked = asked.map(|at| at.max(after(MIN_ASK_GAP)));
    let pause = pause.map(|until| asked.map_or(until, |at| until.min(at)));
    gap.max(pause.unwrap_or(gap))
}

/// When a healthy token wants to be refreshed: before it expires, but not in the first half of
/// its life, and at least every `refresh_at_least`. Where the refresh token `ends`, a quarter of its
/// life is kept in hand.
pub fn refresh_at(
    policy: &Policy,
    obtained: Instant,
    expires: Option<Instant>,
    ends: Option<Instant>,
) -> Instant {
    let share = |end: Instant, part| end.since(obtained).checked_div(part).unwrap_or_default();
    let reserve = |end| policy.refresh_before_expiry.min(share(end, 2));
    let by_age = obtained.after(policy.refresh_at_least);
    let by_life = expires.map(|at| at.before(reserve(at)));
    // A provider that doesn't keep its word is asked no more often for that.
    let ends = ends.filter(|at| *at > obtained);
    let by_end = ends.map(|at| at.before(reserve(at).max(share(at, 4))));
    by_age
        .min(by_life.unwrap_or(by_age))
        .min(by_end.unwrap_or(by_age))
}

/// When to try again what has failed, where the network has changed since the `last` request.
pub fn after_change(changed: Option<Instant>, last: Instant) -> Option<Instant> {
    let changed = changed.filter(|at| *at > last)?;
    Some(changed.after(NETWORK_SETTLE).max(last.after(MIN_ASK_GAP)))
}

/// How long to wait after the `failures`-th failed refresh in a row (from 1): `refresh_retry`,
/// doubling up to [`MAX_RETRY_DELAY`] (or `refresh_retry` itself where that is longer), shortened
/// by up to a fifth so that accounts which failed together don't come back together.
pub fn retry_delay(policy: &Policy, failures: u32, jitter: u8) -> Duration {
    let base = policy.refresh_retry;
    shortened(
        doubled(base, failures).min(MAX_RETRY_DELAY.max(base)),
        jitter,
    )
}

/// `delay`, shortened by up to a fifth.
pub fn shortened(delay: Duration, jitter: u8) -> Duration {
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
            notice_before: 86_400 * S,
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
            let refresh_at = refresh_at(&policy(), at(1000), expires, None);
            assert_eq!(refresh_at, at(1000 + due));
        }
    }

    #[test]
    fn a_quarter_of_the_refresh_tokens_life_is_kept_in_hand() {
        for (life, end, due) in [
            (120, Some(40), 20),
            (3600, Some(1800), 1350),
            (3600, Some(400), 300),
            (3600, Some(86_400), 3510),
            (3600, Some(0), 3510),
            (3600, None, 3510),
            (60, Some(86_400), 30),
        ] {
            let end = end.map(|end| at(1000 + end));
            let refresh_at = refresh_at(&policy(), at(1000), Some(at(1000 + life)), end);
            assert_eq!(refresh_at, at(1000 + due));
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
            notice_before: 86_400 * S,
            ..policy()
        };
        assert_eq!(retry_delay(&patient, 9, 0), 3600 * S);
    }

    #[test]
    fn the_gap_and_the_pause_both_hold() {
        assert_eq!(earliest(None, None, None), at(0));
        assert_eq!(earliest(Some(at(5)), None, None), at(15));
        assert_eq!(earliest(Some(at(5)), Some(at(99)), None), at(99));
        assert_eq!(earliest(Some(at(5)), Some(at(9)), None), at(15));
        // Somebody asks, and the token has expired by then.
        assert_eq!(earliest(Some(at(5)), None, Some(at(7))), at(15));
        assert_eq!(earliest(Some(at(5)), Some(at(99)), Some(at(7))), at(65));
        assert_eq!(earliest(Some(at(5)), Some(at(99)), Some(at(80))), at(80));
        assert_eq!(earliest(Some(at(5)), Some(at(99)), Some(at(200))), at(99));
        assert_eq!(earliest(None, Some(at(99)), Some(at(7))), at(7));
    }
    #[test]
    fn an_endpoint_is_left_alone_as_long_as_it_wants_that_of_two_accounts() {
        let urls = ["https://a.example/", "https://b.example/"];
        let [a, b] = urls.map(|text| Url::parse(text).unwrap());
        for (said, all) in [
            (&[("x", 9), ("x", 5)][..], None),
            (&[("x", 9), ("y", 5)], Some(5)),
            (&[("x", 5), ("y", 9)], Some(5)),
            (&[("x", 5), ("y", 9), ("x", 8)], Some(8)),
            (&[("x", 5), ("y", 9), ("z", 7), ("y", 20)], Some(7)),
            (&[("x", 5), ("y", 9), ("x", 3)], Some(5)),
        ] {
            let mut pauses = Pauses::default();
            for (account, until) in said {
                pauses.set(&a, &Arc::from(*account), at(*until));
            }
            assert_eq!(pauses.take_changed(), all.is_some(), "{said:?}");
            assert!(!pauses.take_changed());
            assert_eq!((pauses.until(&a), pauses.until(&b)), (all.map(at), None));
            pauses.expire(at(3));
            assert_eq!(pauses.until(&a), all.map(at));
            pauses.expire(at(20));
            assert_eq!(pauses.until(&a), None);
        }
    }
}
