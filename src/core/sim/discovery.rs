//! Issuers that say themselves where their endpoints are (RFC 8414): documents that are late, wrong,
//! missing or somebody else's, and endpoints that move from one daemon's life to the next.

use super::{
    issuer::{Asking, Found, Issuer},
    promise::{Check, FLOOR, Invariant, Violation, fail, must},
    provider::Tag,
    setup::{DISCOVERED, ISSUERS, NAMES, PLACES, issuer_uri},
    state::{Doing, Renewal, Said, SignIn},
    world::World,
};
use crate::{
    core::{
        AttemptId,
        schedule::{MAX_RETRY_DELAY, MAX_UNEXPLAINED, TROUBLE_NOTICE_AFTER},
    },
    oauth::metadata,
    time::Instant,
};

impl World {
    /// Whether the config leaves it to the issuer to say where `account` asks.
    fn discovers(&self, account: usize) -> bool {
        let described = &self.setup.accounts[account];
        described.present && described.origin.client == DISCOVERED
    }

    /// Whether it is known where `account` asks.
    pub fn is_located(&self, account: usize) -> bool {
        let issuer = self.setup.accounts[account].origin.issuer;
        !self.discovers(account) || self.provider.issuers[usize::from(issuer)].known.is_some()
    }

    /// When an account that needs `issuer`'s document may ask for it.
    pub fn document_from(&self, issuer: u8) -> Option<Instant> {
        let failed = self.provider.issuers[usize::from(issuer)].failed;
        failed.map(|at| at.after(FLOOR))
    }

    /// An issuer's endpoints move. Whoever knows the old ones isn't told.
    pub fn move_endpoints(&mut self, pick: u8) -> Check {
        let issuer = &mut self.provider.issuers[usize::from(pick % ISSUERS)];
        issuer.place = (issuer.place + 1) % PLACES;
        Ok(())
    }

    /// The core asks for a document.
    pub fn document_asked_for(&mut self, attempt: AttemptId, url: &url::Url) -> Check {
        self.fresh(attempt)?;
        let places = (0..ISSUERS).flat_map(|issuer| {
            let places = metadata::well_known(&issuer_uri(issuer)).into_iter();
            places.enumerate().map(move |(nth, at)| (issuer, nth, at))
        });
        let mut asked = places.filter(|(.., at)| at == url);
        let Some((issuer, nth, _)) = asked.next() else {
            return fail(Invariant::Origin, format!("{url} is nobody's document"));
        };
        let now = self.now.instant;
        let (held, last) = (self.state.hold.is_some(), self.document_from(issuer));
        let one = &mut self.provider.issuers[usize::from(issuer)];
        let text = "a document is asked for that is there";
        must(one.known.is_none(), Invariant::Events, text)?;
        let text = "a document is asked for twice at once";
        must(one.asking.is_none(), Invariant::OneInFlight, text)?;
        match one.next.take() {
            Some(next) => must(next == nth, Invariant::Events, "a place was left out")?,
            None => {
                must(nth == 0, Invariant::Events, "the first place was left out")?;
                // What comes of it changes nobody's tokens, but a successor asks for itself.
                must(
                    !held,
                    Invariant::Handover,
                    "a document is asked for in a hold",
                )?;
                let text = "a document is asked for before the floor allows it";
                must(last.is_none_or(|at| now >= at), Invariant::Floor, text)?;
            }
        }
        one.asking = Some(Asking {
            attempt,
            nth,
            sent: now,
        });
        Ok(())
    }

    /// A request for a document ends.
    pub fn found(&mut self, pick: usize, found: Found) -> Check {
        let asking = |issuer: &u8| self.provider.issuers[usize::from(*issuer)].asking.is_some();
        let all: Vec<u8> = (0..ISSUERS).filter(asking).collect();
        if all.is_empty() {
            return Ok(());
        }
        let issuer = all[pick % all.len()];
        let one = &mut self.provider.issuers[usize::from(issuer)];
        let Some(Asking { attempt, nth, .. }) = one.asking.take() else {
            return Ok(());
        };
        let outcome = found.outcome(issuer, one.place);
        let said = match found {
            Found::Honest => {
                (one.known, one.failed) = (Some(one.place), None);
                self.endpoints_known(issuer)
            }
            _ if nth == 0 && !found.is_unreachable() => {
                one.next = Some(1);
                Said::default()
            }
            _ => {
                one.failed = Some(self.now.instant);
                self.no_endpoints(issuer, !found.is_unreachable())?
            }
        };
        self.feed(|sut, cx| sut.discovery_outcome(cx, attempt, &issuer_uri(issuer), &outcome));
        self.expect(said)?;
        self.look(Doing::Other)
    }

    /// The accounts for which `issuer` is asked.
    fn of_issuer(&self, issuer: u8) -> Vec<usize> {
        let theirs = |account: &usize| {
            self.discovers(*account) && self.setup.accounts[*account].origin.issuer == issuer
        };
        (0..self.state.shadows.len()).filter(theirs).collect()
    }

    /// What has waited for the endpoints goes on.
    fn endpoints_known(&mut self, issuer: u8) -> Said {
        let mut said = Said::default();
        for account in self.of_issuer(issuer) {
            self.keeps_from_strangers(account, &mut said);
            let waits = matches!(
                self.state.shadows[account].sign_in,
                SignIn::Discovering { .. }
            );
            if waits && !self.setup.accounts[account].has_device() {
                self.code_settles(account, &mut said);
            }
        }
        said
    }

    /// What has waited for the endpoints has failed; who wants to sign in waits on.
    fn no_endpoints(&mut self, issuer: u8, answered: bool) -> Result<Said, Violation> {
        let now = self.now.instant;
        let before = self.sut.core.common.issuers.trouble(&issuer_uri(issuer));
        let since = before.map_or(now, |row| row.since.instant);
        let failures = before.map_or(0, |row| row.failures) + 1;
        let long = now.since(since) >= TROUBLE_NOTICE_AFTER;
        let lasts = long || (answered && failures >= MAX_UNEXPLAINED);
        let mut said = Said::default();
        for account in self.of_issuer(issuer) {
            said.add(self.nothing_sent(account)?);
            let SignIn::Discovering { told } = &mut self.state.shadows[account].sign_in else {
                continue;
            };
            if lasts && !std::mem::replace(told, *told || lasts) {
                said.errors.push(account);
            }
            self.code_settles(account, &mut said);
        }
        Ok(said)
    }

    /// A refresh token that was issued at another place is kept, and not sent.
    pub fn keeps_from_strangers(&mut self, account: usize, said: &mut Said) {
        let shadow = &self.state.shadows[account];
        let token = shadow.refresh_token();
        let known = self.is_located(account).then(|| self.origin(account).place);
        let elsewhere = |token: Tag| {
            let place = self.provider.get(token).map(|minted| minted.origin.place);
            known.is_some() && place != known
        };
        if self.discovers(account)
            && shadow.renewal != Renewal::Rejected
            && token.is_some_and(elsewhere)
        {
            let more = self.rejected(account);
            said.add(more);
            said.strangers.push(account);
        }
    }

    /// Takes notice of a sign-in that waits for the endpoints.
    pub fn notice_discovering(&mut self, account: usize, may_begin: bool) -> Check {
        let unlocated = !self.is_located(account);
        let sign_in = &mut self.state.shadows[account].sign_in;
        match sign_in {
            SignIn::Discovering { .. } => {}
            SignIn::None => {
                let text = "a sign-in waits for endpoints by itself";
                must(may_begin, Invariant::SignIn, text)?;
                *sign_in = SignIn::Discovering { told: false };
            }
            SignIn::Pending { .. } | SignIn::Exchanging { .. } => {
                let text = "a sign-in was given up for its endpoints";
                return fail(Invariant::SignIn, text.into());
            }
        }
        let text = "a sign-in waits for endpoints that are known";
        must(unlocated, Invariant::Liveness, text)
    }

    /// Whoever waits for endpoints waits for something.
    pub fn look_at_discovery(&self) -> Check {
        let wake = self.sut.poll_timeout(self.now);
        for (account, name) in NAMES.iter().enumerate().take(self.state.shadows.len()) {
            if self.is_located(account) || self.sut.core.is_held() {
                continue;
            }
            let issuer = self.provider.issuers[usize::from(self.origin(account).issuer)];
            let under_way = self.sut.under_way(name);
            let requests = under_way.refresh.is_some() || !under_way.revocations.is_empty();
            let by = match (requests, issuer.failed) {
                (true, _) => Some(self.now.instant),
                (false, failed) if under_way.discovering => {
                    Some(failed.map_or(self.now.instant, |at| at.after(MAX_RETRY_DELAY)))
                }
                (false, _) => None,
            };
            let by = by.map(|by| by.max(self.now.instant));
            must(
                issuer.asking.is_some() || by.is_none_or(|by| wake.is_some_and(|at| at <= by)),
                Invariant::Liveness,
                "nobody asks for the endpoints that somebody waits for",
            )?;
        }
        Ok(())
    }

    /// Another daemon asks for itself; one that takes over knows what this one knew.
    pub fn forget_documents(&mut self, keeps: bool) {
        for issuer in &mut self.provider.issuers {
            *issuer = Issuer {
                place: issuer.place,
                known: issuer.known.filter(|_| keeps),
                failed: issuer.failed.filter(|_| keeps),
                ..Issuer::default()
            };
        }
    }
}
