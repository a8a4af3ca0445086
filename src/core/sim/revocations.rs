//! Telling the provider of a `revoke` (RFC 7009).

use std::{cmp::Reverse, time::Duration};

use super::{
    promise::{Check, Invariant, fail, must},
    provider::{Fault, Tag},
    setup::NAMES,
    state::{Flight, Revocation, Said},
    world::World,
};
use crate::core::{AttemptId, Waiter};

/// How often a provider is asked at most.
const MAX_TRIES: u32 = 4;

/// The least time between two of these.
const RETRY: Duration = Duration::from_secs(2);

impl World {
    /// What is held of `account` is to be revoked where it came from.
    pub fn begin_revocation(&mut self, account: usize, waiter: Waiter, tags: Vec<Tag>) {
        let Some(first) = tags.first().copied() else {
            return;
        };
        let mut twin = false;
        for other in self.state.revocations.iter_mut() {
            if other.account == account && other.tags.iter().any(|tag| tags.contains(tag)) {
                (other.twin, twin) = (true, true);
            }
        }
        self.state.revocations.push(Revocation {
            first,
            account,
            waiter: Some(waiter),
            tags,
            tries: 0,
            attempt: None,
            last: None,
            twin,
        });
    }

    /// A revocation request is made.
    pub fn revocation_requested(&mut self, account: usize, sent_as: AttemptId, tag: Tag) -> Check {
        let now = self.now.instant;
        self.find_request(account, sent_as, tag);
        // A token that was restored may be revoked twice; nobody can tell whose request is whose.
        let all = self.state.revocations.iter();
        let alone = all.filter(|it| it.tags.first() == Some(&tag)).count() == 1;
        let may = |it: &&mut Revocation| {
            let idle = it.attempt.is_none() && it.last.is_none_or(|at| now.since(at) >= RETRY);
            let known = it.attempt == Some(sent_as);
            it.account == account && it.tags.first() == Some(&tag) && (known || idle)
        };
        // Who waits tells them apart, as long as nobody has left.
        let under_way = self.sut.under_way(NAMES[account]).revocations;
        let waiter = under_way.iter().find(|(attempt, _)| *attempt == sent_as);
        let waiter = waiter.and_then(|(_, waiter)| *waiter);
        let likely =
            |it: &&mut Revocation| (it.attempt != Some(sent_as), it.waiter != waiter, it.tries);
        let ours = self.state.revocations.iter_mut().filter(may);
        let Some(revocation) = ours.min_by_key(likely) else {
            // After a restart nobody can tell which of two of one token has ended.
            if self
                .state
                .revocations
                .iter()
                .any(|it| it.account == account && it.twin)
            {
                return Ok(());
            }
            let text = "a revocation of nothing, twice at once, or too soon";
            return fail(Invariant::Revoked, text.into());
        };
        revocation.tries += 1;
        must(
            !alone || revocation.tries <= MAX_TRIES,
            Invariant::Revoked,
            "a revocation too often",
        )?;
        (revocation.attempt, revocation.last) = (Some(sent_as), Some(now));
        Ok(())
    }

    /// While it waits for the client secret, nobody can tell which token a request is about.
    fn find_request(&mut self, account: usize, attempt: AttemptId, tag: Tag) {
        let mut all = self.state.revocations.iter();
        let named = all.position(|it| it.account == account && it.attempt == Some(attempt));
        let about = |it: &Revocation| it.account == account && it.tags.first() == Some(&tag);
        let ours = self.state.revocations.iter().position(about);
        let named = named.filter(|named| !about(&self.state.revocations[*named]));
        if let (Some(named), Some(ours)) = (named, ours) {
            self.state.revocations[named].attempt = self.state.revocations[ours].attempt;
            self.state.revocations[ours].attempt = Some(attempt);
        }
    }

    /// A revocation waits for the client secret.
    pub fn revocation_asked_for(
        &mut self,
        account: usize,
        attempt: AttemptId,
        waiter: Option<Waiter>,
    ) -> Check {
        let mut all = self.state.revocations.iter_mut();
        if all.any(|it| it.attempt == Some(attempt)) {
            return Ok(());
        }
        // Of several of one account, who waits for it tells which it is.
        let all = self.state.revocations.iter_mut();
        let idle = all.filter(|it| it.account == account && it.attempt.is_none());
        match idle.min_by_key(|it| it.waiter != waiter) {
            Some(revocation) => {
                revocation.attempt = Some(attempt);
                Ok(())
            }
            None => fail(Invariant::Revoked, "a revocation of nothing".into()),
        }
    }

    /// The issuer, or whoever stood in its way, has answered.
    pub fn revocation_replied(&mut self, flight: &Flight, fault: Fault) -> Said {
        let attempt = Some(flight.attempt);
        let mut all = self.state.revocations.iter_mut();
        if let Some(revocation) = all.find(|it| it.attempt == attempt) {
            revocation.attempt = None;
            if fault.revokes() {
                self.provider.revoked.extend(revocation.tags.first());
                (revocation.tries, revocation.last) = (0, None);
                if revocation.tags.len() > 1 {
                    revocation.tags.remove(0);
                }
            }
        }
        Said::default()
    }

    /// A revocation that couldn't be sent.
    pub fn revocation_failed(&mut self, account: usize, attempt: AttemptId) -> Said {
        let mut all = self.state.revocations.iter_mut();
        let ours = all.find(|it| it.account == account && it.attempt == Some(attempt));
        if let Some(revocation) = ours {
            revocation.attempt = None;
        }
        Said::default()
    }

    /// Somebody hears how telling the provider ended.
    pub fn told_of_revocation(&mut self, account: usize, waiter: Waiter, ok: bool) -> Check {
        let mut all = self.state.revocations.iter();
        let at = all.position(|it| it.account == account && it.waiter == Some(waiter));
        let Some(at) = at else {
            return fail(Invariant::Revoked, "a revocation ended twice".into());
        };
        let revocation = self.state.revocations.remove(at);
        must(
            !ok || self.provider.revoked.contains(&revocation.first),
            Invariant::Revoked,
            "tokens were called revoked that aren't",
        )
    }

    /// After a restart nobody hears of the end of a revocation.
    pub fn drop_unheard(&mut self, account: usize, left: usize) {
        let theirs = self
            .state
            .revocations
            .iter()
            .filter(|it| it.account == account);
        for _ in left..theirs.count() {
            // The one that has come to its end, if that can be told.
            let ended = |it: &Revocation| {
                // What has been sent again since is of another revocation of the same token.
                let last = it.tags.len() == 1 && it.attempt.is_none() && it.last.is_none();
                last && self.provider.revoked.contains(&it.tags[0])
            };
            let all = self.state.revocations.iter().enumerate();
            let unheard = all.filter(|(_, it)| it.account == account && it.waiter.is_none());
            // One that is in flight has no end yet.
            let likely = |it: &Revocation| (it.attempt.is_some(), !ended(it), Reverse(it.tries));
            let unheard = unheard.min_by_key(|(_, it)| likely(it));
            if let Some((at, _)) = unheard {
                self.state.revocations.remove(at);
            }
        }
    }

    /// Each one goes on.
    pub fn look_at_revocations(&self) -> Check {
        let wake = self.sut.poll_timeout(self.now);
        for name in NAMES {
            let under_way = self.sut.under_way(name);
            let idle = under_way.told > under_way.revocations.len();
            must(
                self.sut.core.is_held() || !idle || wake.is_some(),
                Invariant::Revoked,
                "a revocation that nobody goes on with",
            )?;
        }
        Ok(())
    }
}
