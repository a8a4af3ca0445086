//! What users, administrators and the end of a process do.

use super::{
    Check, Invariant, Violation,
    action::{Back, Change, Kill},
    fail,
    look::index_of,
    provider::{Fault, ISSUERS, MARK, Origin, read_tag},
    world::{Doing, EVENT, Held, NAMES, Renewal, Said, Shadow, SignIn, Tab, World, must},
};
use crate::{
    core::{
        CallbackAnswer, Progress, Show, Waiter,
        dump::{self, Saved},
        schedule::MAX_RETRY_DELAY,
    },
    oauth::authorization::{Callback, CallbackResult},
    secret::Secret,
    time::Instant,
};

/// How many pages a user keeps open, and how many dumps lie around.
const MAX_KEPT: usize = 6;

/// How many states of ended sign-ins are remembered at least.
const SPENT: usize = 64;

impl World {
    // ---- show and refresh ---------------------------------------------------------------------

    pub fn show(&mut self, account: usize) -> Check {
        let answer = self.feed(|sut, cx| sut.show(cx, NAMES[account]));
        let promised = matches!(answer, Some(Show::Refreshing { .. }));
        let valid = self.shadows[account].valid(self.now.instant);
        let renewal = self.shadows[account].renewal;
        let renews = self.shadows[account].refresh_token().is_some();
        match answer {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(Show::Token(token)) => self.shown(account, &token)?,
            Some(_) if valid.is_some() => {
                return fail(Invariant::Kept, "a valid token isn't shown".into());
            }
            Some(Show::SignIn { uri, .. }) => {
                must(
                    !renews || renewal == Renewal::Rejected,
                    Invariant::Kept,
                    "a sign-in is asked for without need",
                )?;
                self.asked(account, &uri)?;
            }
            Some(Show::Discovering { .. }) => {
                return fail(
                    Invariant::Events,
                    "there is nothing to discover here".into(),
                );
            }
            Some(Show::AskingForCode) => {
                return fail(Invariant::Events, "there are no device codes here".into());
            }
            Some(Show::Exchanging) => self.must_exchange(account)?,
            Some(Show::Refreshing { .. }) => {
                let refreshes = !matches!(renewal, Renewal::Rejected | Renewal::Parked);
                let text = "a refresh is promised that nobody does";
                must(renews && refreshes, Invariant::Liveness, text)?;
                self.shadows[account].wanted |= renewal == Renewal::Idle;
            }
            Some(Show::Parked(_)) => {
                let parked = renews && renewal == Renewal::Parked;
                must(parked, Invariant::Liveness, "parked without reason")?;
            }
        }
        self.expect(Said::default())?;
        if promised {
            self.must_have_started(account)?;
        }
        self.look(Doing::Other)
    }

    fn shown(&self, account: usize, token: &Secret) -> Check {
        let tag = read_tag(token.expose());
        let origin = tag
            .and_then(|tag| self.provider.get(tag))
            .map(|minted| minted.origin);
        must(
            origin == Some(self.origin(account)),
            Invariant::Origin,
            "a token of another registration was shown",
        )?;
        let held = self.shadows[account].held.as_ref();
        let access = held.and_then(|held| held.access);
        must(
            tag == access.map(|(tag, _)| tag),
            Invariant::NothingOlder,
            "a token was shown that isn't the one held",
        )?;
        must(
            self.shadows[account].valid(self.now.instant) == tag,
            Invariant::NoneExpired,
            "an expired token was shown",
        )
    }

    pub fn refresh(&mut self, account: usize) -> Check {
        let answer = self.feed(|sut, cx| sut.refresh(cx, NAMES[account]));
        let promised = matches!(answer, Some(Progress::Refreshing));
        let shadow = &mut self.shadows[account];
        let renews = shadow.refresh_token().is_some() && shadow.renewal != Renewal::Rejected;
        match answer {
            None => must(!self.present(account), Invariant::Events, "who is that?")?,
            Some(Progress::Refreshing) => {
                must(renews, Invariant::Liveness, "a refresh with nothing")?;
                if shadow.renewal == Renewal::Parked {
                    shadow.renewal = Renewal::Idle;
                }
                shadow.wanted |= shadow.renewal == Renewal::Idle;
            }
            Some(Progress::SignIn { uri, .. }) => {
                let text = "a sign-in is asked for without need";
                must(!renews, Invariant::Kept, text)?;
                self.asked(account, &uri)?;
            }
            Some(Progress::Discovering { .. }) => {
                return fail(
                    Invariant::Events,
                    "there is nothing to discover here".into(),
                );
            }
            Some(Progress::AskingForCode) => {
                return fail(Invariant::Events, "there are no device codes here".into());
            }
            Some(Progress::Exchanging) => self.must_exchange(account)?,
        }
        self.expect(Said::default())?;
        if promised {
            self.must_have_started(account)?;
        }
        self.look(Doing::Other)
    }

    /// Whoever wants a refresh gets it at once, if that is allowed.
    fn must_have_started(&self, account: usize) -> Check {
        let shadow = &self.shadows[account];
        let waits = shadow.renewable() && shadow.wanted;
        must(
            !waits || self.earliest(account) > self.now.instant,
            Invariant::Liveness,
            "a refresh that may start doesn't",
        )
    }

    fn must_exchange(&self, account: usize) -> Check {
        let exchanging = matches!(self.shadows[account].sign_in, SignIn::Exchanging { .. });
        must(exchanging, Invariant::SignIn, "an exchange of nothing")
    }

    /// The user was given this URI.
    fn asked(&mut self, account: usize, uri: &str) -> Check {
        let origin = self.origin(account);
        let (state, challenge) = read_uri(uri, origin)?;
        match &self.shadows[account].sign_in {
            SignIn::None => {
                self.tabs.push_front(Tab {
                    origin,
                    state: state.clone(),
                    challenge,
                    code: None,
                });
                self.tabs.truncate(MAX_KEPT);
                self.shadows[account].sign_in = SignIn::Pending {
                    state,
                    since: self.now.instant,
                    reminded: None,
                    notified: None,
                };
                Ok(())
            }
            SignIn::Pending { state: known, .. } => must(
                *known == state,
                Invariant::SignIn,
                "a pending URI was replaced",
            ),
            SignIn::Exchanging { .. } => fail(
                Invariant::SignIn,
                "an exchange was given up for a new one".into(),
            ),
        }
    }

    // ---- browsers -----------------------------------------------------------------------------

    pub fn browser(&mut self, pick: usize, back: Back) -> Check {
        let count = self.tabs.len();
        if count == 0 {
            return Ok(());
        }
        let tab = &mut self.tabs[pick % count];
        let known = tab.code.filter(|_| back == Back::Again);
        let (origin, challenge) = (tab.origin, tab.challenge.clone());
        let code = known.unwrap_or_else(|| self.provider.authorize(origin, &challenge));
        let tab = &mut self.tabs[pick % count];
        tab.code = Some(code);
        let state = match back {
            Back::Forged => "f".repeat(64),
            Back::Code | Back::Again | Back::Refused | Back::OtherIssuer => tab.state.clone(),
        };
        self.waiters += 1;
        let waiter = Waiter(self.waiters);
        let callback = Callback {
            state: Secret::new(state.clone()),
            iss: match back {
                Back::OtherIssuer => Some("https://evil.example".into()),
                _ => code
                    .is_multiple_of(2)
                    .then(|| format!("https://iss{}.example", origin.issuer)),
            },
            result: match back {
                Back::Refused => CallbackResult::Error {
                    error: "access_denied".into(),
                    description: None,
                    uri: None,
                },
                _ => CallbackResult::Code(Secret::new(self.provider.text(code))),
            },
        };
        let answer = self.feed(|sut, cx| sut.callback(cx, callback, waiter));
        let said = self.called_back(&state, back, code, waiter, &answer)?;
        self.expect(said)?;
        self.look(Doing::Other)
    }

    fn called_back(
        &mut self,
        state: &str,
        back: Back,
        code: usize,
        waiter: Waiter,
        answer: &CallbackAnswer,
    ) -> Result<Said, Violation> {
        let spent = self.spent.iter().find(|(spent, _)| spent == state);
        if let Some((_, ok)) = spent {
            let already =
                matches!(answer, CallbackAnswer::Already { result, .. } if result.is_ok() == *ok);
            must(already, Invariant::SignIn, "a state was good twice")?;
            return Ok(Said::default());
        }
        let now = self.now.instant;
        let waits = |shadow: &Shadow| shadow.sign_in.waits_for(state);
        let Some(account) = self.shadows.iter().position(waits) else {
            let stale = matches!(answer, CallbackAnswer::Stale);
            must(stale, Invariant::SignIn, "a stale state was taken")?;
            return Ok(Said::default());
        };
        if back == Back::OtherIssuer {
            let other = match answer {
                CallbackAnswer::OtherIssuer { account: name } => **name == *NAMES[account],
                _ => false,
            };
            must(
                other,
                Invariant::Origin,
                "another issuer's response was taken",
            )?;
            return Ok(Said::default());
        }
        let shadow = &mut self.shadows[account];
        let mut said = Said::default();
        match &mut shadow.sign_in {
            SignIn::Exchanging { waiters, .. } => waiters.push(waiter),
            _ => said.notify_ends = 1,
        }
        let pending = matches!(shadow.sign_in, SignIn::Pending { .. });
        if pending && back == Back::Refused {
            shadow.sign_in = SignIn::None;
            said.errors.push(account);
            self.spend(state.into(), false);
            let refused = match answer {
                CallbackAnswer::Refused { account: name, .. } => **name == *NAMES[account],
                _ => false,
            };
            must(refused, Invariant::SignIn, "a refusal was lost")?;
            return Ok(said);
        }
        if pending {
            shadow.sign_in = SignIn::Exchanging {
                state: state.into(),
                since: now,
                code,
                attempt: None,
                last: None,
                waiters: vec![waiter],
            };
        }
        let wait =
            matches!(answer, CallbackAnswer::Wait { account: name } if **name == *NAMES[account]);
        must(wait, Invariant::SignIn, "a good response wasn't taken")?;
        Ok(said)
    }

    pub fn spend(&mut self, state: String, ok: bool) {
        self.spent.push_front((state, ok));
        self.spent.truncate(SPENT);
    }

    // ---- the end of tokens --------------------------------------------------------------------

    pub fn revoke(&mut self, account: usize) -> Check {
        let known = self.feed(|sut, cx| sut.revoke(cx, NAMES[account]));
        must(
            known == self.present(account),
            Invariant::Events,
            "who is that?",
        )?;
        let mut said = Said::default();
        self.ends(account, "token_revoked", &mut said);
        self.expect(said)?;
        self.look(Doing::Ending)
    }

    /// Everything that `account` has is over.
    fn ends(&mut self, account: usize, event: &'static str, said: &mut Said) {
        let last_request = self.shadows[account].last_request;
        let shadow = std::mem::replace(&mut self.shadows[account], Shadow::new());
        self.shadows[account].last_request = last_request;
        if shadow.held.is_some() && self.setup.has(EVENT) {
            said.announced.push((account, event));
        }
        match shadow.sign_in {
            SignIn::None => {}
            SignIn::Pending { .. } => said.notify_ends += 1,
            SignIn::Exchanging { state, waiters, .. } => {
                self.spend(state, false);
                said.settled.push((account, waiters, false));
            }
        }
    }

    pub fn reload(&mut self, account: usize, change: Change) -> Check {
        let before = self.setup.clone();
        let one = &mut self.setup.accounts[account];
        match change {
            Change::Nothing => {}
            Change::Policy(policy) => one.policy = policy,
            Change::Global(global) => self.setup.global = global % 32,
            Change::ClientSecret => one.client_secret = one.client_secret.wrapping_add(1),
            Change::Issuer(issuer) => one.origin.issuer = issuer % ISSUERS,
            Change::ClientId(client) => one.origin.client = client % 2,
            Change::Presence => one.present = !one.present,
        }
        if self.setup.accounts.iter().all(|one| !one.present) {
            // A config without accounts is none.
            self.setup = before.clone();
        }
        let config = self.config();
        self.feed(|sut, cx| sut.reload(cx, config));
        let mut said = Said::default();
        for account in self.in_order_of_ending(&before) {
            let (old, new) = (before.accounts[account], self.setup.accounts[account]);
            if !old.present {
                continue;
            }
            if new.present && new.origin == old.origin {
                let shadow = &mut self.shadows[account];
                if shadow.renewal == Renewal::Parked {
                    shadow.renewal = Renewal::Idle;
                    shadow.wanted = true;
                }
                continue;
            }
            self.ends(account, "token_invalidated", &mut said);
            if !new.present {
                self.shadows[account].last_request = None;
            }
        }
        self.expect(said)?;
        self.look(Doing::Ending)
    }

    /// Accounts that stay come first, in the order of the config; then those that go, by name.
    fn in_order_of_ending(&self, before: &super::world::Setup) -> Vec<usize> {
        let mut order: Vec<usize> = (0..before.accounts.len()).collect();
        order.sort_by_key(|account| match self.present(*account) {
            true => (0, *account, ""),
            false => (1, 0, NAMES[*account]),
        });
        order
    }

    // ---- dumps --------------------------------------------------------------------------------

    pub fn dump(&mut self) -> Check {
        let bytes = self.feed(|sut, cx| sut.dump(cx));
        self.dumps.push_front(bytes);
        self.dumps.truncate(MAX_KEPT);
        let held = self.shadows.iter().map(|shadow| shadow.held.clone());
        self.dumped.push_front(held.collect());
        self.dumped.truncate(MAX_KEPT);
        self.look(Doing::Other)
    }

    pub fn restore(&mut self, pick: usize) -> Check {
        let count = self.dumps.len();
        if count == 0 {
            return Ok(());
        }
        let Ok(dump) = dump::open(&self.dumps[pick % count]) else {
            return fail(Invariant::Restore, "a dump doesn't open".into());
        };
        let mut taken = 0;
        for saved in &dump.grants {
            taken += usize::from(self.must_take(saved)?);
        }
        let told = self.feed(|sut, cx| sut.restore(cx, dump));
        must(
            told == taken,
            Invariant::Restore,
            "a dump's tokens weren't taken, or too many",
        )?;
        self.expect(Said::default())?;
        self.look(Doing::Restoring)
    }

    /// Whether the core must take `saved`; if so it is held from now on.
    fn must_take(&mut self, saved: &Saved) -> Result<bool, Violation> {
        let account = index_of(&saved.account)?;
        let access = saved
            .access
            .as_ref()
            .and_then(|access| read_tag(access.token.expose()));
        let refresh = saved
            .refresh_token
            .as_ref()
            .and_then(|token| read_tag(token.expose()));
        let origin = self.origin_of(access.or(refresh));
        if !self.present(account) || origin != Some(self.origin(account)) {
            return Ok(false);
        }
        let now = self.now;
        let asked = now.instant_at(saved.obtained);
        let obtained = asked.min(now.instant);
        let shadow = &mut self.shadows[account];
        let live = shadow.valid(now.instant).is_some()
            || (shadow.refresh_token().is_some() && shadow.renewal != Renewal::Rejected);
        if let Some(held) = &shadow.held
            && (held.obtained >= asked || (asked > now.instant && live))
        {
            return Ok(false);
        }
        let old = shadow.refresh_token();
        let expires = |at: Instant| at.min(obtained.after(at.since(asked)));
        let life = saved.access.as_ref().and_then(|access| access.expires);
        shadow.succeed(refresh);
        shadow.held = Some(Held {
            access: access.map(|tag| (tag, life.map(|at| expires(now.instant_at(at))))),
            refresh: refresh.or(old),
            obtained,
        });
        Ok(true)
    }

    fn origin_of(&self, tag: Option<usize>) -> Option<Origin> {
        Some(self.provider.get(tag?)?.origin)
    }

    pub fn kill(&mut self, kill: Kill) -> Check {
        if kill == Kill::Handover {
            self.dump()?;
        }
        let before = self.shadows.clone();
        // Some requests are with the issuer already.
        for index in 0..self.flights.len() {
            if self.flights[index].attempt.0.is_multiple_of(2) {
                self.arrive(index, Some(3600))?;
            }
        }
        self.renew();
        match kill {
            Kill::Bare => self.look(Doing::Ending),
            Kill::Crash(pick) => self.restore(pick.into()),
            Kill::Handover => {
                self.restore(0)?;
                let same = |(old, new): (&Shadow, &Shadow)| old.held == new.held;
                must(
                    before.iter().zip(&self.shadows).all(same),
                    Invariant::Restore,
                    "a dump restored isn't what was dumped",
                )
            }
        }
    }

    // ---- calm ---------------------------------------------------------------------------------

    /// Faults stop. Within one retry interval, whoever can be valid must be.
    pub fn calm(&mut self) -> Check {
        let now = self.now.instant;
        let retry = |account: usize| self.setup.policy(account).refresh_retry;
        let retries = (0..self.shadows.len()).map(retry);
        let longest = retries.fold(MAX_RETRY_DELAY, std::time::Duration::max);
        let pauses = self.pauses.iter().flatten().map(|until| until.since(now));
        let pause = pauses.max().unwrap_or_default();
        let end = now.after(longest.max(pause) + super::FLOOR);
        self.all_answered()?;
        while let Some(at) = self.sut.poll_timeout(self.now)
            && at <= end
        {
            self.forward(at.since(self.now.instant));
            self.tick()?;
            self.all_answered()?;
        }
        self.forward(end.since(self.now.instant));
        self.tick()?;
        self.all_answered()?;
        for account in 0..self.shadows.len() {
            let shadow = &self.shadows[account];
            must(
                !matches!(shadow.sign_in, SignIn::Exchanging { .. }),
                Invariant::SignIn,
                "an exchange has no end",
            )?;
            let token = shadow.refresh_token().filter(|_| shadow.renewable());
            let able = token.is_some_and(|token| self.provider.would_refresh(token));
            must(
                !able || shadow.valid(self.now.instant).is_some(),
                Invariant::Liveness,
                "a renewable account isn't valid after a calm",
            )?;
        }
        Ok(())
    }

    fn all_answered(&mut self) -> Check {
        while self.in_flight() > 0 {
            self.reply(0, Fault::Honest, Some(7200))?;
        }
        while self.probing() {
            self.probe(0, true)?;
        }
        Ok(())
    }
}

/// The state and code_challenge of an authorization request that must be `origin`'s.
fn read_uri(uri: &str, origin: Origin) -> Result<(String, String), Violation> {
    let prefix = format!("https://iss{}.example/auth?", origin.issuer);
    let client = format!("client_id=client-{}-{}", origin.account, origin.client);
    let query = uri.strip_prefix(&prefix).unwrap_or_default();
    let ours = query.split('&').any(|pair| pair == client);
    must(ours, Invariant::Origin, "a sign-in at another issuer")?;
    let field = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
        value.unwrap_or_default().to_owned()
    };
    must(!uri.contains(MARK), Invariant::Secrecy, "a secret in a URI")?;
    Ok((field("state="), field("code_challenge=")))
}
