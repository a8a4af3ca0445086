//! What is looked at after every event: the effects, and everything that the core lets be seen.

use super::{
    Check, FLOOR, Invariant, Violation, fail,
    provider::{Form, Kind, MARK, endpoint_of, read_tag},
    world::{
        Doing, Flight, Held, NAMES, NOTIFY, RANDOM_MARK, Renewal, Said, SignIn, World, endpoint,
        must,
    },
};
use crate::{
    core::{
        AttemptId, Effect, Waiter,
        dump::Saved,
        schedule::{EXCHANGE_RETRY, MAX_RETRY_DELAY},
    },
    oauth::token::{Refusal, Request},
    secret::Secret,
    time::Instant,
    view::{AccountView, RenewalView, SignInView},
};

/// How often the whole core is printed and searched, in steps: it takes long.
const DEBUG_EVERY: u64 = 64;

/// The account of that name; the core knows no others.
pub fn index_of(name: &str) -> Result<usize, Violation> {
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => Ok(index),
        None => fail(Invariant::Events, format!("something about {name}")),
    }
}

impl World {
    /// The core has said just this, beside requests, reminders and the log.
    pub fn expect(&mut self, mut expected: Said) -> Check {
        let mut said = Said::default();
        for effect in self.sut.effects() {
            search(&format!("{effect:?}"))?;
            self.heard(effect, &mut said)?;
        }
        // Of accounts among each other the order is free.
        said.announced.sort_by_key(|(account, _)| *account);
        expected.announced.sort_by_key(|(account, _)| *account);
        said.settled.sort_by_key(|(account, ..)| *account);
        expected.settled.sort_by_key(|(account, ..)| *account);
        if said.settled != expected.settled {
            let text = format!("settled {:?}, not {:?}", said.settled, expected.settled);
            let succeeds = |said: &Said, one: usize| {
                let settled = said.settled.iter();
                settled
                    .clone()
                    .any(|(account, _, ok)| *account == one && *ok)
            };
            let discarded = |one: &usize| succeeds(&expected, *one) && !succeeds(&said, *one);
            return match (0..self.shadows.len()).any(|one| discarded(&one)) {
                true => fail(
                    Invariant::SignIn,
                    "a completed sign-in was discarded".into(),
                ),
                false => fail(Invariant::Answers, text),
            };
        }
        match said == expected {
            true => Ok(()),
            false => fail(
                Invariant::Events,
                format!("said {said:?}, not {expected:?}"),
            ),
        }
    }

    fn heard(&mut self, effect: Effect, said: &mut Said) -> Check {
        match effect {
            Effect::Request {
                account,
                attempt,
                request,
            } => self.requested(index_of(&account)?, attempt, &request)?,
            Effect::Notify {
                account,
                attempt,
                uri,
                limit,
                ..
            } => {
                must(
                    limit == self.setup.interval(),
                    Invariant::Events,
                    "a reminder of another length",
                )?;
                self.reminded(index_of(&account)?, attempt, &uri)?;
            }
            Effect::NotifyEnd { .. } => said.notify_ends += 1,
            Effect::Error {
                account, message, ..
            } => {
                search_plain(&message)?;
                said.errors.push(index_of(&account)?);
            }
            Effect::Announce { account, event, .. } => {
                said.announced.push((index_of(&account)?, event.name()));
            }
            Effect::Probe {
                account, attempt, ..
            } => {
                let account = index_of(&account)?;
                self.fresh(attempt)?;
                self.shadows[account].renewal = Renewal::Probing(attempt);
                self.probes.push((account, attempt));
                said.probes.push(account);
            }
            // Its accounts have their endpoints in the config.
            Effect::Discover { url, .. } => {
                let text = format!("{url} is asked for");
                return fail(Invariant::Events, text);
            }
            // Its accounts have no such command.
            Effect::FetchSecret { account, .. } => {
                let text = format!("{account} asks for a client secret");
                return fail(Invariant::Events, text);
            }
            Effect::Settled {
                what: _,
                waiters,
                account,
                result,
            } => said.settled.push(settled(waiters, &account, &result)?),
            // Nobody waits for a token in this world: tests/waiting.rs has those who do.
            Effect::Answer { .. } => {}
            Effect::Log { message, .. } => search_plain(&message)?,
            Effect::Save { .. } | Effect::Load { .. } | Effect::TokenFile { .. } => {
                return fail(Invariant::Events, "nothing was to be kept".into());
            }
        }
        Ok(())
    }

    /// An attempt's name is never used twice.
    fn fresh(&mut self, attempt: AttemptId) -> Check {
        let fresh = attempt.0 > self.last_attempt;
        self.last_attempt = self.last_attempt.max(attempt.0);
        must(fresh, Invariant::OneInFlight, "an attempt was named twice")
    }

    fn requested(&mut self, account: usize, attempt: AttemptId, request: &Request) -> Check {
        self.fresh(attempt)?;
        let origin = self.origin(account);
        must(
            self.present(account) && request.endpoint == endpoint(origin.issuer),
            Invariant::Origin,
            "a request to an endpoint that isn't the account's",
        )?;
        must(
            request.may_be_sent(),
            Invariant::Origin,
            "a request that the shell won't send: a secret in it is of another registration",
        )?;
        let form = Form::read(request.form.expose())?;
        let minted = self.provider.get(form.tag).map(|minted| minted.origin);
        must(
            minted == Some(origin),
            Invariant::Origin,
            "a request with the secret of another registration",
        )?;
        match form.kind {
            Kind::Code => self.exchange_requested(account, attempt, form.tag)?,
            Kind::Refresh | Kind::Access => self.refresh_requested(account, attempt, form.tag)?,
        }
        self.shadows[account].last_request = Some(self.now.instant);
        self.flights.push(Flight {
            account,
            attempt,
            issuer: endpoint_of(&request.endpoint).unwrap_or(u8::MAX),
            form: request.form.clone(),
            sent: self.now.instant,
            decision: None,
        });
        Ok(())
    }

    fn refresh_requested(&mut self, account: usize, attempt: AttemptId, tag: usize) -> Check {
        let (now, earliest) = (self.now.instant, self.earliest(account));
        let shadow = &mut self.shadows[account];
        must(
            shadow.refresh_token() == Some(tag),
            Invariant::NothingOlder,
            "a refresh token was sent that isn't the one held",
        )?;
        let exchanging = matches!(shadow.sign_in, SignIn::Exchanging { .. });
        match shadow.renewal {
            Renewal::Idle if !exchanging => {}
            Renewal::Idle | Renewal::InFlight(_) | Renewal::Probing(_) => {
                let text = "a refresh beside another request of the account";
                return fail(Invariant::OneInFlight, text.into());
            }
            Renewal::Rejected | Renewal::Parked => {
                return fail(Invariant::Floor, "a refresh without hope".into());
            }
        }
        must(
            now >= earliest,
            Invariant::Floor,
            "a refresh before the floor or the provider allow it",
        )?;
        shadow.renewal = Renewal::InFlight(attempt);
        shadow.wanted = false;
        Ok(())
    }

    fn exchange_requested(&mut self, account: usize, sent_as: AttemptId, tag: usize) -> Check {
        let now = self.now.instant;
        let SignIn::Exchanging {
            code,
            attempt,
            last,
            ..
        } = &mut self.shadows[account].sign_in
        else {
            return fail(
                Invariant::SignIn,
                "an exchange that nobody asked for".into(),
            );
        };
        must(
            *code == tag && attempt.is_none(),
            Invariant::SignIn,
            "a code was sent twice, or another's",
        )?;
        must(
            last.is_none_or(|at| now.since(at) >= FLOOR),
            Invariant::Floor,
            "a code was sent again before the floor allows it",
        )?;
        (*attempt, *last) = (Some(sent_as), Some(now));
        Ok(())
    }

    fn reminded(&mut self, account: usize, attempt: AttemptId, uri: &str) -> Check {
        let (now, interval) = (self.now.instant, self.setup.interval());
        let shadow = &mut self.shadows[account];
        let person = shadow.needs_person();
        let SignIn::Pending {
            state,
            reminded,
            notified,
            ..
        } = &mut shadow.sign_in
        else {
            return fail(Invariant::Events, "a reminder of nothing".into());
        };
        must(
            person && uri.contains(state.as_str()),
            Invariant::Events,
            "a reminder that isn't in order",
        )?;
        must(
            reminded.is_none_or(|at| now.since(at) >= interval)
                && notified.is_none_or(|known| known == attempt),
            Invariant::Events,
            "a reminder too soon, or of another sign-in",
        )?;
        (*reminded, *notified) = (Some(now), Some(attempt));
        Ok(())
    }

    // ---- what can be seen ---------------------------------------------------------------------

    /// Looks at everything.
    pub fn look(&mut self, doing: Doing) -> Check {
        for account in 0..self.shadows.len() {
            self.look_at_held(account, doing)?;
        }
        let views = self.sut.status(self.now);
        let present = self.setup.accounts.iter().filter(|one| one.present);
        must(
            views.len() == present.count(),
            Invariant::Events,
            "an account is missing from the status",
        )?;
        let wake = self.sut.poll_timeout(self.now);
        for view in &views {
            let account = index_of(&view.account)?;
            self.look_at_sign_in(account, view, wake)?;
            self.look_at_renewal(account, view, wake)?;
        }
        if self.steps.is_multiple_of(DEBUG_EVERY) {
            search(&format!("{:?} {views:?}", self.sut.core.accounts))?;
        }
        Ok(())
    }

    fn look_at_held(&self, account: usize, doing: Doing) -> Check {
        let invariant = match doing {
            Doing::Ending => Invariant::NothingOlder,
            Doing::Restoring => Invariant::Restore,
            Doing::SigningIn => Invariant::SignIn,
            Doing::Other => Invariant::Kept,
        };
        let saved = self.sut.saved(self.now, NAMES[account]);
        let shadow = &self.shadows[account];
        match (&saved, &shadow.held) {
            (None, None) => Ok(()),
            (Some(saved), Some(held)) if self.same(saved, held) => Ok(()),
            (saved, held) => {
                let tags = saved.as_ref().map(tags);
                fail(
                    invariant,
                    format!("account {account} holds {tags:?}, not {held:?}"),
                )
            }
        }
    }

    fn same(&self, saved: &Saved, held: &Held) -> bool {
        let wall = |at: Instant| self.now.wall_at(at);
        let access = held
            .access
            .map(|(tag, expires)| (Some(tag), expires.map(wall)));
        let shown = saved.access.as_ref();
        shown.map(|access| (tag(&access.token), access.expires)) == access
            && saved.refresh_token.as_deref().map(tag) == held.refresh.map(Some)
            && saved.obtained == wall(held.obtained)
    }

    fn look_at_sign_in(&self, account: usize, view: &AccountView, wake: Option<Instant>) -> Check {
        let shadow = &self.shadows[account];
        let due = match (&view.sign_in, &shadow.sign_in) {
            (SignInView::None { .. }, SignIn::None) => None,
            (
                SignInView::Pending { .. },
                SignIn::Pending {
                    since, reminded, ..
                },
            ) => {
                let next = reminded.map_or(*since, |at| at.after(self.setup.interval()));
                (self.setup.has(NOTIFY) && shadow.needs_person()).then_some(next)
            }
            (SignInView::Exchanging { .. }, SignIn::Exchanging { attempt, last, .. }) => {
                let known = |attempt| self.flights.iter().any(|flight| flight.attempt == attempt);
                let text = "an exchange that nothing will end";
                must(attempt.is_none_or(known), Invariant::SignIn, text)?;
                let again = last.map(|at| at.after(EXCHANGE_RETRY));
                again.filter(|_| attempt.is_none())
            }
            (
                SignInView::None { .. }
                | SignInView::Discovering { .. }
                | SignInView::Pending { .. }
                | SignInView::Exchanging { .. },
                _,
            ) => {
                let text = "a sign-in began or ended by itself";
                return fail(Invariant::SignIn, text.into());
            }
        };
        must(
            due.is_none_or(|due| wake.is_some_and(|wake| wake <= due.max(self.now.instant))),
            Invariant::Liveness,
            "a sign-in has no next deadline",
        )
    }

    fn look_at_renewal(&self, account: usize, view: &AccountView, wake: Option<Instant>) -> Check {
        let shadow = &self.shadows[account];
        let under_way = matches!(shadow.renewal, Renewal::InFlight(_) | Renewal::Probing(_));
        let renewable = shadow.refresh_token().is_some();
        let at = match &view.renewal {
            None => return Ok(()),
            Some(RenewalView::Impossible) if !renewable => return Ok(()),
            Some(RenewalView::UnderWay) if under_way => return Ok(()),
            Some(RenewalView::Rejected { .. }) if shadow.renewal == Renewal::Rejected => {
                return Ok(());
            }
            Some(RenewalView::Parked { .. }) if shadow.renewal == Renewal::Parked => return Ok(()),
            Some(RenewalView::Scheduled { at }) if shadow.trouble.is_none() => at,
            Some(RenewalView::Failing { at, .. }) if shadow.trouble.is_some() => at,
            Some(view) => {
                let text = format!("account {account} is at {view:?}, not {shadow:?}");
                return fail(Invariant::Liveness, text);
            }
        };
        if !shadow.renewable() {
            return Ok(());
        }
        let at = self.now.instant_at(*at);
        must(
            wake.is_some_and(|wake| wake <= at),
            Invariant::Liveness,
            "a refresh is due and nothing will start it",
        )?;
        let bound = self.latest_refresh(account);
        match at <= bound {
            true => Ok(()),
            false => {
                let late = at.since(bound);
                fail(
                    Invariant::Liveness,
                    format!("account {account} is refreshed {late:?} late"),
                )
            }
        }
    }

    /// When the next refresh must start, if nothing else happens.
    fn latest_refresh(&self, account: usize) -> Instant {
        let shadow = &self.shadows[account];
        let policy = self.setup.policy(account);
        let wish = match (&shadow.trouble, &shadow.held) {
            _ if shadow.wanted => self.now.instant,
            (Some(trouble), _) => trouble
                .last
                .after(MAX_RETRY_DELAY.max(policy.refresh_retry)),
            (None, Some(held)) => {
                let by_age = held.obtained.after(policy.refresh_at_least);
                match held.access {
                    None => self.now.instant,
                    Some((_, None)) => by_age,
                    Some((_, Some(expires))) => by_age.min(expires),
                }
            }
            (None, None) => self.now.instant,
        };
        wish.max(self.now.instant).max(self.earliest(account))
    }
}

fn settled(
    waiters: Vec<Waiter>,
    account: &str,
    result: &Result<(), Refusal>,
) -> Result<(usize, Vec<Waiter>, bool), Violation> {
    Ok((index_of(account)?, waiters, result.is_ok()))
}

fn tag(secret: &Secret) -> Option<usize> {
    read_tag(secret.expose())
}

fn tags(saved: &Saved) -> String {
    let access = saved.access.as_ref().map(|access| access.token.expose());
    let refresh = saved.refresh_token.as_ref().map(|token| token.expose());
    format!("{access:?} {refresh:?} of {:?}", saved.obtained)
}

/// Nothing minted, configured or random, but for a state in the URI that the user is to open.
pub fn search(text: &str) -> Check {
    let stray = text.match_indices(RANDOM_MARK).any(|(at, _)| {
        let digits = at.saturating_sub(2);
        !text[..digits].ends_with("state=")
    });
    match stray || text.contains(MARK) {
        false => Ok(()),
        true => fail(Invariant::Secrecy, format!("a secret can be read: {text}")),
    }
}

/// Nothing minted, configured or random at all.
pub fn search_plain(text: &str) -> Check {
    match text.contains(RANDOM_MARK) || text.contains(MARK) {
        false => Ok(()),
        true => fail(Invariant::Secrecy, format!("a secret can be read: {text}")),
    }
}
