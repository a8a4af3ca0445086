//! What is looked at after every event: the effects, and everything that the core lets be seen.

use std::sync::Arc;

use super::{
    promise::{ASKED, Check, FLOOR, Invariant, fail, must},
    provider::{Asks, Form, Minted, OTHER_USER, read_tag},
    setup::{MARK, NAMES, NOTIFY, device_endpoint, endpoint, index_of, revocation_endpoint},
    state::{ClientSecret, Device, Doing, Flight, Held, Renewal, Said, SignIn},
    world::{RANDOM_MARK, World},
};
use crate::{
    core::{
        AttemptId, Effect, Ended, Waiter,
        account::tests::UnderWay,
        dump::{self, Saved},
        hook::{Hook, HookInput},
        schedule::{EXCHANGE_RETRY, MAX_RETRY_DELAY, NETWORK_SETTLE, STOPPED_RETRY},
    },
    hook::HookKind,
    oauth::token::Request,
    secret::Secret,
    time::Instant,
    view::{AccountView, RenewalView, SignInView},
};

/// How often the whole core is printed and searched, in steps: it takes long.
const DEBUG_EVERY: u64 = 64;

impl World {
    /// The core has said just this, beside requests, reminders and the log.
    pub fn expect(&mut self, mut expected: Said) -> Check {
        let mut said = Said::default();
        let mut answers = Vec::new();
        self.notice_sign_ins()?;
        for effect in self.sut.effects() {
            search(&format!("{effect:?}"))?;
            match effect {
                // When all is done that they may tell of.
                Effect::Answer {
                    request,
                    account,
                    answer,
                } => answers.push((index_of(&account)?, request.waiter, answer)),
                effect => self.heard(effect, &mut said)?,
            }
        }
        self.must_agree(said, &mut expected)?;
        self.notice_operations()?;
        for (account, waiter, answer) in answers {
            self.answered(account, waiter, &answer)?;
        }
        let late = std::mem::take(&mut self.people.impatient);
        must(
            !late
                .iter()
                .any(|waiter| self.people.waits.contains_key(waiter)),
            Invariant::Answers,
            "a failure that somebody waits for isn't told",
        )
    }

    /// Takes notice of the operations that wait for a client secret. Whatever else the core says
    /// is under way must be with an issuer: nothing else would ever end it.
    fn notice_operations(&mut self) -> Check {
        for (account, name) in NAMES.iter().enumerate().take(self.state.shadows.len()) {
            let under_way = self.sut.under_way(name);
            let fetching = matches!(
                self.state.shadows[account].secret,
                ClientSecret::Fetching(_)
            );
            let waits = fetching || !self.is_located(account);
            let attempts: Vec<_> = under_way.attempts().collect();
            let UnderWay {
                refresh,
                exchange,
                code,
                poll,
                revocations,
                wants_code,
                told,
                pending: _,
                discovering: _,
                told_of_end: _,
            } = under_way;
            self.drop_unheard(account, told);
            let theirs = self
                .state
                .revocations
                .iter()
                .filter(|it| it.account == account);
            must(
                theirs.count() == told,
                Invariant::Revoked,
                "a revocation has ended that nobody heard of",
            )?;
            match (wants_code, code) {
                (true, _) => self.code_wanted(account)?,
                (false, None) => self.code_given_up(account)?,
                (false, Some(_)) => {}
            }
            for attempt in attempts {
                must(
                    waits || self.is_flying(attempt),
                    Invariant::Liveness,
                    "an operation is under way that nothing will end",
                )?;
            }
            if !waits {
                continue;
            }
            if let Some(attempt) = refresh {
                self.refresh_asked_for(account, attempt)?;
            }
            if let Some(attempt) = exchange {
                self.exchange_asked_for(account, attempt)?;
            }
            if let Some(attempt) = code {
                self.code_asked_for(account, attempt)?;
            }
            if let Some(attempt) = poll {
                self.poll_asked_for(account, attempt)?;
            }
            for (attempt, waiter) in revocations {
                self.revocation_asked_for(account, attempt, waiter)?;
            }
        }
        Ok(())
    }

    fn must_agree(&mut self, mut said: Said, expected: &mut Said) -> Check {
        // Of accounts among each other the order is free.
        said.announced.sort_by_key(|(account, _)| *account);
        expected.announced.sort_by_key(|(account, _)| *account);
        said.settled.sort_by_key(|(account, ..)| *account);
        expected.settled.sort_by_key(|(account, ..)| *account);
        said.codes.sort_by_key(|(account, ..)| *account);
        expected.codes.sort_by_key(|(account, ..)| *account);
        said.errors.sort_unstable();
        expected.errors.sort_unstable();
        said.probes.sort_unstable();
        expected.probes.sort_unstable();
        if said.settled != expected.settled {
            let text = format!("settled {:?}, not {:?}", said.settled, expected.settled);
            let succeeds = |said: &Said, one: usize| {
                let settled = said.settled.iter();
                settled
                    .clone()
                    .any(|(account, _, ok)| *account == one && *ok)
            };
            let discarded = |one: &usize| succeeds(expected, *one) && !succeeds(&said, *one);
            return match (0..self.state.shadows.len()).any(|one| discarded(&one)) {
                true => fail(
                    Invariant::SignIn,
                    "a completed sign-in was discarded".into(),
                ),
                false => fail(Invariant::Answers, text),
            };
        }
        let others = std::mem::take(&mut expected.other_users);
        must(
            others.iter().all(|account| said.errors.contains(account)),
            Invariant::User,
            "nobody hears that another user has signed in",
        )?;
        let strangers = std::mem::take(&mut expected.strangers);
        must(
            strangers
                .iter()
                .all(|account| said.errors.contains(account)),
            Invariant::Origin,
            "a refresh token is kept for another place than it was issued at",
        )?;
        must(
            said.kept_errors == expected.kept_errors,
            Invariant::Keeping,
            "a failure to keep the state is told wrongly",
        )?;
        match said == *expected {
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
            Effect::Hook(hook) => self.run(hook, said)?,
            Effect::NotifyEnd { .. } => said.notify_ends += 1,
            Effect::Error { account, message } => {
                search_plain(&message)?;
                told(&account, said)?;
            }
            Effect::Discover { attempt, url } => self.document_asked_for(attempt, &url)?,
            Effect::Settled {
                what,
                waiters,
                account,
                result,
            } => {
                self.settled(index_of(&account)?, what, waiters, result.is_ok(), said)?;
            }
            // Already looked at.
            Effect::Answer { .. } => {}
            Effect::Log { message, .. } => search_plain(&message)?,
            Effect::TokenFile { path, content, .. } => {
                self.file_changes(&path, content.as_deref())?
            }
        }
        Ok(())
    }

    /// A command is to run.
    fn run(&mut self, hook: Hook, said: &mut Said) -> Check {
        let account = &hook.account;
        match (hook.kind, hook.attempt, hook.input) {
            (HookKind::Notify, Some(attempt), HookInput::SignIn { ways, limit, .. }) => {
                let text = "a reminder of another length";
                must(limit == self.setup.interval(), Invariant::Events, text)?;
                let account = index_of(account)?;
                let uri = ways.uri().unwrap_or_default();
                self.reminded(account, attempt, uri, ways.paste)?;
                self.judge_code(account, ways.device.as_ref())
            }
            (HookKind::Error, None, HookInput::Message(message)) => {
                search_plain(&message)?;
                told(account, said)
            }
            (HookKind::Event, None, HookInput::Event(event)) => {
                said.announced.push((index_of(account)?, event.name()));
                Ok(())
            }
            (HookKind::Probe, Some(attempt), HookInput::None) => {
                self.probed(index_of(account)?, attempt, said)
            }
            (HookKind::Secret, Some(attempt), HookInput::None) => {
                self.fetched(index_of(account)?, attempt)
            }
            (HookKind::Token, Some(attempt), HookInput::None) => {
                self.command_begins(index_of(account)?, attempt)
            }
            (HookKind::Load, Some(attempt), HookInput::None) => self.load_begins(attempt),
            (HookKind::Save, Some(attempt), HookInput::State { dump, random }) => {
                self.save_begins(attempt, &dump::seal(&dump, random))
            }
            (kind, ..) => fail(
                Invariant::Events,
                format!("{kind:?} is told something else"),
            ),
        }
    }

    fn probed(&mut self, account: usize, attempt: AttemptId, said: &mut Said) -> Check {
        said.probes.push(account);
        self.fresh(attempt)?;
        self.state.shadows[account].renewal = Renewal::Probing(attempt);
        self.state.probes.push((account, attempt));
        Ok(())
    }

    fn settled(
        &mut self,
        account: usize,
        what: Ended,
        waiters: Vec<Waiter>,
        ok: bool,
        said: &mut Said,
    ) -> Check {
        match what {
            Ended::SignIn | Ended::Refresh => said.settled.push((account, waiters, ok)),
            Ended::Code => said.codes.push((account, waiters)),
            Ended::Revocation => {
                for waiter in waiters {
                    self.told_of_revocation(account, waiter, ok)?;
                }
            }
            Ended::Saving => {
                let asked = waiters.is_empty();
                must(
                    asked,
                    Invariant::Answers,
                    "an answer to a question that nobody asked",
                )?;
            }
        }
        Ok(())
    }

    /// An attempt's name is never used twice.
    pub fn fresh(&mut self, attempt: AttemptId) -> Check {
        let fresh = attempt.0 > self.state.last_attempt;
        self.state.last_attempt = self.state.last_attempt.max(attempt.0);
        must(fresh, Invariant::OneInFlight, "an attempt was named twice")
    }

    fn requested(&mut self, account: usize, attempt: AttemptId, request: &Request) -> Check {
        must(
            !self.is_flying(attempt),
            Invariant::OneInFlight,
            "a request was made twice",
        )?;
        self.may_send(attempt)?;
        let origin = self.origin(account);
        let form = Form::read(request.form.expose())?;
        let wanted = match form.asks {
            Asks::Exchange | Asks::Refresh | Asks::Own | Asks::Poll => endpoint(origin),
            Asks::Code => device_endpoint(origin.issuer),
            Asks::Revocation => revocation_endpoint(origin.issuer),
        };
        must(
            self.present(account) && self.is_located(account) && request.endpoint == wanted,
            Invariant::Origin,
            "a request to an endpoint that isn't the account's",
        )?;
        must(
            request.may_be_sent(),
            Invariant::Origin,
            "a request that the shell won't send: a secret in it is of another registration",
        )?;
        let minted = form.tag.and_then(|tag| self.provider.get(tag));
        let belongs = |minted: &Minted| match form.asks {
            // The config says where, whatever the issuer does.
            Asks::Revocation => minted.origin.registered() == origin.registered(),
            _ => minted.origin == origin,
        };
        let client = format!("client-{}-{}", origin.account, origin.client);
        must(
            minted.is_none_or(belongs) && form.client_id == client,
            Invariant::Origin,
            "a request with the secret of another registration",
        )?;
        self.must_prove(account, &form)?;
        must(
            form.asks != Asks::Exchange || form.redirect_uri == origin.redirect_uri(),
            Invariant::Pasting,
            "a code is sent with another redirect than the browser was",
        )?;
        let tag = form.tag.unwrap_or_default();
        match form.asks {
            Asks::Exchange => self.exchange_requested(account, attempt, tag)?,
            Asks::Refresh => self.refresh_requested(account, attempt, tag)?,
            Asks::Own => self.own_requested(account, attempt)?,
            Asks::Code => self.code_requested(account, attempt)?,
            Asks::Poll => self.poll_requested(account, attempt, tag)?,
            Asks::Revocation => self.revocation_requested(account, attempt, tag)?,
        }
        if let Asks::Exchange | Asks::Refresh | Asks::Own = form.asks {
            self.state.shadows[account].last_request = Some(self.now.instant);
        }
        let asks = match form.asks {
            // It stands for one.
            Asks::Own => Asks::Refresh,
            asks => asks,
        };
        let flight = self.paper_flight(account, asks, attempt);
        self.state.flights.push(Flight {
            tag: form.tag,
            form: request.form.clone(),
            ..flight
        });
        Ok(())
    }

    /// A request that begins now; one of which nobody has seen a form.
    pub fn paper_flight(&self, account: usize, asks: Asks, attempt: AttemptId) -> Flight {
        Flight {
            account,
            attempt,
            origin: self.origin(account),
            asks,
            tag: None,
            form: Arc::new(Secret::new(String::new())),
            sent: self.now.instant,
            decision: None,
        }
    }

    /// The core starts a refresh, or would if it had the client secret.
    fn refresh_asked_for(&mut self, account: usize, attempt: AttemptId) -> Check {
        let earliest = self.earliest(account, self.is_wanted(account));
        let now = self.now.instant;
        let shadow = &mut self.state.shadows[account];
        if shadow.renewal == Renewal::InFlight(attempt) {
            return Ok(());
        }
        let exchanging = matches!(shadow.sign_in, SignIn::Exchanging { .. });
        match shadow.renewal {
            Renewal::Idle if !exchanging => {}
            Renewal::Idle | Renewal::InFlight(_) | Renewal::Probing(_) => {
                let text = "a refresh beside another request of the account";
                return fail(Invariant::OneInFlight, text.into());
            }
            Renewal::Rejected => {
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

    fn refresh_requested(&mut self, account: usize, attempt: AttemptId, tag: usize) -> Check {
        self.refresh_asked_for(account, attempt)?;
        must(
            self.state.shadows[account].refresh_token() == Some(tag),
            Invariant::NothingOlder,
            "a refresh token was sent that isn't the one held",
        )
    }

    /// `token_cmd` is run.
    fn command_begins(&mut self, account: usize, attempt: AttemptId) -> Check {
        let text = "another command is run than the config has";
        must(self.is_command(account), Invariant::Origin, text)?;
        self.may_send(attempt)?;
        self.own_requested(account, attempt)?;
        self.state.shadows[account].last_request = Some(self.now.instant);
        let flight = self.paper_flight(account, Asks::Refresh, attempt);
        self.state.flights.push(flight);
        Ok(())
    }

    fn own_requested(&mut self, account: usize, attempt: AttemptId) -> Check {
        self.refresh_asked_for(account, attempt)?;
        let shadow = &self.state.shadows[account];
        let text = "a client asks for itself though somebody has to sign in, or nobody has asked";
        must(shadow.begun, Invariant::SignIn, text)
    }

    /// The core starts an exchange, or would if it had the client secret.
    fn exchange_asked_for(&mut self, account: usize, sent_as: AttemptId) -> Check {
        let now = self.now.instant;
        let SignIn::Exchanging { attempt, last, .. } = &mut self.state.shadows[account].sign_in
        else {
            let text = "an exchange that nobody asked for";
            return fail(Invariant::SignIn, text.into());
        };
        if *attempt == Some(sent_as) {
            return Ok(());
        }
        let text = "a code was sent twice";
        must(attempt.is_none(), Invariant::SignIn, text)?;
        must(
            last.is_none_or(|at| now.since(at) >= FLOOR),
            Invariant::Floor,
            "a code was sent again before the floor allows it",
        )?;
        (*attempt, *last) = (Some(sent_as), Some(now));
        Ok(())
    }

    fn exchange_requested(&mut self, account: usize, attempt: AttemptId, tag: usize) -> Check {
        self.exchange_asked_for(account, attempt)?;
        let sign_in = &self.state.shadows[account].sign_in;
        let ours = matches!(sign_in, SignIn::Exchanging { code, .. } if *code == tag);
        must(
            ours,
            Invariant::SignIn,
            "a code of another sign-in was sent",
        )
    }

    fn reminded(&mut self, account: usize, attempt: AttemptId, uri: &str, paste: bool) -> Check {
        let text = "whether a sign-in has to be pasted is told wrongly";
        let elsewhere = self.origin(account).ends_elsewhere();
        must(paste == elsewhere, Invariant::Pasting, text)?;
        let (now, interval) = (self.now.instant, self.setup.interval());
        let shadow = &mut self.state.shadows[account];
        let notice = std::mem::take(&mut shadow.ending.open);
        let wanted = shadow.needs_person() || notice;
        let SignIn::Pending {
            attempt: known,
            browser,
            device,
            reminded,
            told,
            ..
        } = &mut shadow.sign_in
        else {
            return fail(Invariant::Events, "a reminder of nothing".into());
        };
        let fits = browser.as_deref().is_none_or(|state| uri.contains(state));
        must(
            wanted && fits && *known == attempt,
            Invariant::Events,
            "a reminder that isn't in order",
        )?;
        let code = match device {
            Device::Code { tag, .. } => Some(*tag),
            Device::None | Device::Wanted | Device::Asking(_) | Device::Over => None,
        };
        let news = code.is_some() && code != *told;
        must(
            news || notice || reminded.is_none_or(|at| now.since(at) >= interval),
            Invariant::Events,
            "a reminder too soon",
        )?;
        (*reminded, *told) = (Some(now), code.or(*told));
        Ok(())
    }

    // ---- what can be seen ---------------------------------------------------------------------

    /// Looks at everything.
    pub fn look(&mut self, doing: Doing) -> Check {
        for account in 0..self.state.shadows.len() {
            self.look_at_held(account, doing)?;
        }
        let views = self.sut.status(self.now);
        let present = self.setup.accounts.iter().filter(|one| one.present);
        must(
            views.len() == present.count(),
            Invariant::Events,
            "an account is missing from the status",
        )?;
        self.look_at_waits()?;
        self.look_at_keeping()?;
        self.look_at_files()?;
        self.look_at_revocations()?;
        self.look_at_discovery()?;
        self.look_at_deadlines()?;
        let wake = self.sut.poll_timeout(self.now);
        for view in &views {
            let account = index_of(&view.account)?;
            self.look_at_times(account, view)?;
            self.look_at_user(account, view)?;
            self.look_at_sign_in(account, view, wake)?;
            self.look_at_renewal(account, view, wake)?;
            self.look_at_end(account, view, wake)?;
        }
        if self.steps % DEBUG_EVERY == 0 {
            search(&format!("{:?} {views:?}", self.sut.core.accounts))?;
        }
        Ok(())
    }

    fn look_at_held(&self, account: usize, doing: Doing) -> Check {
        let invariant = match doing {
            Doing::Ending => Invariant::NothingOlder,
            Doing::Restoring => Invariant::Restore,
            Doing::SigningIn => Invariant::SignIn,
            Doing::TakingOver => Invariant::Handover,
            Doing::Other => Invariant::Kept,
        };
        let saved = self.sut.saved(self.now, NAMES[account]);
        let shadow = &self.state.shadows[account];
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

    pub fn same(&self, saved: &Saved, held: &Held) -> bool {
        let (access, refresh, obtained) = held.dumped(self.now);
        let shown = saved.access.as_ref();
        shown.map(|it| (tag(&it.token), it.expires)) == access.map(|(tag, at)| (Some(tag), at))
            && saved.refresh_token.as_deref().map(tag) == refresh.0.map(Some)
            && saved.refresh_ends == refresh.1
            && saved.obtained == obtained
    }

    /// Whose tokens they are is told where another user has signed in.
    fn look_at_user(&self, account: usize, view: &AccountView) -> Check {
        let held = self.state.shadows[account].held.as_ref();
        let other = held.is_some_and(|held| held.other_user);
        must(
            view.other_user.as_deref() == other.then_some(OTHER_USER),
            Invariant::User,
            "whose tokens they are is told wrongly",
        )
    }

    /// How old the token is, and how long it lives, is told as the clocks say by now.
    fn look_at_times(&self, account: usize, view: &AccountView) -> Check {
        let shadow = &self.state.shadows[account];
        let told = view
            .obtained
            .map(|obtained| (view.valid, obtained, view.expires));
        let wall = |at| self.now.wall_at(at);
        let known = shadow.held.as_ref().and_then(|held| {
            let (_, expires) = held.access?;
            let valid = shadow.valid(self.now.instant).is_some();
            Some((valid, wall(held.obtained), expires.map(wall)))
        });
        must(
            told == known,
            Invariant::Kept,
            "a token's times aren't what they are",
        )
    }

    fn look_at_sign_in(&self, account: usize, view: &AccountView, wake: Option<Instant>) -> Check {
        let shadow = &self.state.shadows[account];
        let due = match (&view.sign_in, &shadow.sign_in) {
            (SignInView::None | SignInView::Failed { .. }, SignIn::None)
            | (SignInView::Discovering { .. }, SignIn::Discovering { .. }) => None,
            (
                SignInView::Pending { .. },
                SignIn::Pending {
                    since,
                    reminded,
                    device,
                    ..
                },
            ) => {
                let next = reminded.map_or(*since, |at| at.after(self.setup.interval()));
                let to_come = matches!(device, Device::Wanted | Device::Asking(_));
                let notice = shadow.ending.open;
                // Who has had a notice is left alone while the tokens serve.
                let access = shadow.held.as_ref().and_then(|held| held.access?.1);
                let told = self.sut.under_way(NAMES[account]).told_of_end;
                let next = match (notice, access) {
                    (true, _) => *since,
                    (false, Some(expires)) if told => next.max(expires),
                    (false, _) => next,
                };
                let wanted = shadow.needs_person() || notice;
                let reminds = self.setup.has(NOTIFY) && wanted && !to_come;
                let code = match device {
                    Device::Wanted => Some(self.next_code(account)),
                    device => device.due(),
                };
                reminds.then_some(next).into_iter().chain(code).min()
            }
            (SignInView::Exchanging { .. }, SignIn::Exchanging { attempt, last, .. }) => {
                let again = last.map_or(self.now.instant, |at| at.after(EXCHANGE_RETRY));
                attempt.is_none().then_some(again)
            }
            (
                SignInView::None
                | SignInView::Failed { .. }
                | SignInView::Discovering { .. }
                | SignInView::Pending { .. }
                | SignInView::Exchanging { .. }
                | SignInView::Other,
                _,
            ) => {
                let text = "a sign-in began or ended by itself";
                return fail(Invariant::SignIn, text.into());
            }
        };
        let met = |due: Instant| wake.is_some_and(|wake| wake <= due.max(self.now.instant));
        must(
            self.sut.core.is_held() || due.is_none_or(met),
            Invariant::Liveness,
            "a sign-in has no next deadline",
        )
    }

    fn look_at_renewal(&self, account: usize, view: &AccountView, wake: Option<Instant>) -> Check {
        let shadow = &self.state.shadows[account];
        let under_way = matches!(shadow.renewal, Renewal::InFlight(_) | Renewal::Probing(_));
        let renewable = shadow.can_renew();
        let at = match &view.renewal {
            RenewalView::NoTokens { .. } if !renewable => return Ok(()),
            RenewalView::Impossible if !renewable => return Ok(()),
            RenewalView::OnRequest if shadow.unattended && !renewable => return Ok(()),
            RenewalView::UnderWay if under_way => return Ok(()),
            RenewalView::Rejected { .. } if shadow.renewal == Renewal::Rejected => {
                return Ok(());
            }
            RenewalView::Parked { at, .. } if shadow.stopped() => at,
            RenewalView::Scheduled { at } if shadow.trouble.is_none() => at,
            RenewalView::Failing { at, .. } if shadow.trouble.is_some() && !shadow.stopped() => at,
            view => {
                let text = format!("account {account} is at {view:?}, not {shadow:?}");
                return fail(Invariant::Liveness, text);
            }
        };
        if !shadow.renewable() {
            return Ok(());
        }
        let at = self.now.instant_at(*at);
        must(
            self.sut.core.is_held() || wake.is_some_and(|wake| wake <= at),
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

    /// The core's index of deadlines is what a look at every account gives.
    fn look_at_deadlines(&self) -> Check {
        let core = &self.sut.core;
        let scanned = core.accounts.values().filter_map(|account| {
            let due = account.deadline(&core.common)?;
            Some((due, account.name()))
        });
        let mut scanned: Vec<_> = scanned.collect();
        scanned.sort_unstable();
        let filed = core.deadlines.iter().map(|(due, name)| (*due, name));
        must(
            filed.eq(scanned),
            Invariant::Index,
            "the index of deadlines isn't what the accounts say",
        )
    }

    /// When the next refresh must start, if nothing else happens.
    fn latest_refresh(&self, account: usize) -> Instant {
        let shadow = &self.state.shadows[account];
        let policy = self.setup.policy(account);
        let wish = match (&shadow.trouble, &shadow.held) {
            _ if shadow.wanted => self.now.instant,
            (Some(trouble), _) if trouble.stopped => trouble.last.after(STOPPED_RETRY),
            (Some(trouble), held) => {
                let ends = held.as_ref().and_then(|held| held.ends);
                let left = ends
                    .map(|at| at.since(trouble.last))
                    .filter(|left| !left.is_zero());
                let delay = MAX_RETRY_DELAY.max(policy.refresh_retry);
                trouble
                    .last
                    .after(left.map_or(delay, |left| delay.min(left / 2)))
            }
            (None, Some(held)) => {
                let by_age = held.obtained.after(policy.refresh_at_least);
                // A quarter of the refresh token's life is kept in hand.
                let life = held.ends.map(|at| at.since(held.obtained));
                let life = life.filter(|life| !life.is_zero());
                let by_end = life.and_then(|life| Some(held.ends?.before(life / 4)));
                let by_age = by_age.min(by_end.unwrap_or(by_age));
                match held.access {
                    None => self.now.instant,
                    Some((_, None)) => by_age,
                    Some((_, Some(expires))) => by_age.min(expires),
                }
            }
            (None, None) => self.now.instant,
        };
        // After a change of the network, what fails is tried a moment later.
        let last = shadow
            .last_request
            .or(shadow.trouble.as_ref().map(|it| it.last));
        let network = self
            .state
            .network
            .filter(|at| Some(*at) > last && shadow.trouble.is_some());
        let soon = network.map(|at| {
            at.after(NETWORK_SETTLE)
                .max(last.unwrap_or(at).after(ASKED))
        });
        let wish = wish.min(soon.unwrap_or(wish));
        wish.max(self.now.instant)
            .max(self.earliest(account, shadow.wanted))
    }
}

/// The user hears of trouble.
fn told(account: &str, said: &mut Said) -> Check {
    match account {
        "all accounts" => said.kept_errors += 1,
        name => said.errors.push(index_of(name)?),
    }
    Ok(())
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
