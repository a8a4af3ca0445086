//! One account: the tokens held, the sign-in under way, and how every event changes them.

mod asking;
mod device;
mod discovering;
mod endpoints;
mod expiring;
mod handover;
mod importing;
mod refreshing;
mod revocations;
mod saving;
mod signing_in;
mod token_file;
mod viewing;
mod waiting;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub(super) use handover::Snapshot;
use log::Level;
use serde::{Deserialize, Serialize};

use self::{endpoints::Endpoints, token_file::TokenFileState};
use super::{
    answer::{Progress, ShowRequest},
    attempt::{AttemptId, Waiter},
    credentials::Credentials,
    effect::Ended,
    env::{Common, Env},
    forecast::SignIns,
    grant::{Access, Failure, Grant, Origins, Phase, Renewal, Trouble},
    hook::HookInput,
    revoking::Revocation,
    schedule,
    sign_in::{Browser, Code, Device, Discovering, Exchanging, Pending, Pushed, SignIn},
};
use crate::{
    config::{self, Config, Registration},
    hook::HookKind,
    oauth::token::Refusal,
    secret::{Mark, Secret},
    time::{Instant, Now},
    view::Happening,
};

/// Whether a reminder may still wait for a code to remind of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reminder {
    /// Yes: if there is none, it is asked for first.
    WithCode,
    /// No.
    WithWhatThereIs,
}

/// One account of the config.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct LiveAccount {
    name: Arc<str>,
    registration: Arc<Registration>,
    /// What the config says of it: a reload may change all but the two above.
    config: config::Account,
    credentials: Credentials,
    published: TokenFileState,
    /// Where its provider is, if that is known.
    endpoints: Option<Arc<Endpoints>>,
    /// The requests that can't be made without that.
    unlocated: Vec<AttemptId>,
    state: AccountState,
    /// Who waits for a token.
    waiting: BTreeMap<Waiter, ShowRequest>,
    /// Who waits for the end of something else.
    waiters: Vec<(Ended, Waiter)>,
    /// A client of `auth` that waits for the ways to sign in will open a browser: the first
    /// notification is not needed.
    opens: bool,
    /// Who has signed in, as the last id_token says.
    user: Option<String>,
    /// The deadline under which the core has filed this account.
    pub(super) filed: Option<Instant>,
}

/// What an account has to remember: a successor of the process gets it as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountState {
    // Apart, since an account without tokens needs no room for them.
    grant: Option<Box<Grant>>,
    /// Why there are no tokens any more, unless `revoke` ended them.
    lost: Option<Refusal>,
    sign_in: SignIn,
    /// For which program that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requester: Option<String>,
    /// Why the last sign-in ended without tokens.
    failed: Option<Refusal>,
    /// When the last token request was made; see [`schedule::MIN_REQUEST_GAP`].
    last_request: Option<Instant>,
    /// Until when the token endpoint asked to be left alone by this account.
    pause: Option<Instant>,
    /// Whether a refresh has succeeded with this configuration.
    works: bool,
    sign_ins: SignIns,
    /// The user is still to be notified that the sign-in will end.
    notice: bool,
    /// When a device code was last asked for.
    last_device_request: Option<Instant>,
    revocations: Vec<Revocation>,
    /// The oddities of the last reply, so that a provider's habit is logged once.
    warned: Vec<String>,
    /// Whether the user has been notified that a sign-in yields no refresh token.
    told_no_refresh_token: bool,
}

/// What an operation in flight asks the provider for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Exchange,
    Refresh,
    /// A device code.
    Code,
    /// Whether the device code was entered.
    Poll,
    /// A name for the authorization request.
    Push,
    Revocation,
}

impl AccountState {
    /// What stays of it under another registration.
    fn changed(&self) -> Self {
        let lost = match &self.grant {
            Some(grant) if grant.has_tokens() => Some(Refusal::new(
                "the account's registration was changed in the config",
            )),
            Some(_) | None => self.lost.clone(),
        };
        AccountState {
            last_request: self.last_request,
            lost,
            ..AccountState::default()
        }
    }

    /// Says of each token under which registration it was issued.
    fn bind(&self, mark: Mark) {
        let grant = self.grant.iter().flat_map(|it| it.secrets());
        let revocations = self.revocations.iter().flat_map(Revocation::secrets);
        let others = self.sign_in.secrets().chain(revocations);
        grant.chain(others).for_each(|it| it.bind(mark));
    }

    /// What is in flight becomes wanted: its answer will not arrive.
    fn settle(&mut self, now: Now, is_sent: impl Fn(AttemptId) -> bool) {
        if let Some(renewal) = self.grant.as_mut().and_then(|it| it.renewal.as_mut()) {
            renewal.phase.settle(now, &is_sent);
        }
        self.sign_in.settle(now.instant, &is_sent);
        (self.revocations.iter_mut()).for_each(|it| it.dispatch.settle(now.instant));
    }
}

impl LiveAccount {
    pub(super) fn new(described: &config::Account) -> Self {
        LiveAccount {
            name: described.name.clone(),
            registration: described.registration.clone(),
            credentials: Credentials::new(described),
            published: TokenFileState::default(),
            endpoints: Endpoints::of(described, None).map(Arc::new),
            unlocated: Vec::new(),
            config: described.clone(),
            state: AccountState::default(),
            waiting: BTreeMap::new(),
            waiters: Vec::new(),
            opens: false,
            user: None,
            filed: None,
        }
    }

    /// This account under another registration: nothing stays but the floor, and the knowledge
    /// that there were tokens.
    pub(super) fn changed(&self, described: &config::Account) -> Self {
        let mut changed = LiveAccount::new(described);
        changed.state = self.state.changed();
        changed
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The operations in flight.
    fn in_flight(&self) -> impl Iterator<Item = (AttemptId, Operation)> {
        let exchanging = self.state.sign_in.exchanging();
        let pending = self.state.sign_in.pending();
        let device = pending.map(|it| &it.device);
        let browser = pending.and_then(|it| it.browser.as_ref());
        let refresh = match self.phase() {
            Some(Phase::InFlight { attempt, .. }) => Some(*attempt),
            _ => None,
        };
        let one = [
            (
                exchanging.and_then(|it| it.dispatch.attempt()),
                Operation::Exchange,
            ),
            (device.and_then(Device::asking), Operation::Code),
            (device.and_then(Device::polling), Operation::Poll),
            (browser.and_then(Browser::pushing), Operation::Push),
            (refresh, Operation::Refresh),
        ];
        let revocations = self.state.revocations.iter();
        let revocations = revocations.map(|it| (it.dispatch.attempt(), Operation::Revocation));
        let all = one.into_iter().chain(revocations);
        all.filter_map(|(attempt, operation)| Some((attempt?, operation)))
    }

    /// What `attempt` asks for, if it is in flight.
    fn operation(&self, attempt: AttemptId) -> Option<Operation> {
        let mut in_flight = self.in_flight();
        let (_, operation) = in_flight.find(|(id, _)| *id == attempt)?;
        Some(operation)
    }

    /// Whether a request of it is with the shell; what waits for an endpoint hasn't been sent.
    pub(super) fn awaits_reply(&self) -> bool {
        let mut in_flight = self.in_flight();
        in_flight.any(|(attempt, _)| !self.unlocated.contains(&attempt))
    }

    /// Whether the request of this attempt has left the core.
    fn is_sent(&self, attempt: AttemptId) -> bool {
        !self.unlocated.contains(&attempt) && !self.credentials.keeps(attempt)
    }

    /// Whether it has something to save.
    pub(super) fn holds(&self) -> bool {
        self.state.grant.is_some() || self.state.sign_ins.has_learned()
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// When this account wants [`LiveAccount::tick`] next.
    pub(super) fn deadline(&self, common: &Common) -> Option<Instant> {
        let refresh = self.refresh_due(common);
        let sign_in = self.sign_in_due(&common.config);
        let notice = self.notice_due(common);
        let due = [refresh, sign_in, notice, self.token_file_due()];
        let revocations = self.state.revocations.iter();
        let revocations = revocations.filter_map(|it| it.dispatch.due());
        due.into_iter().flatten().chain(revocations).min()
    }

    /// The access token held, valid or not.
    fn access(&self) -> Option<&Access<Instant>> {
        self.state.grant.as_ref()?.access.as_ref()
    }

    /// When the access token expires, as far as that is known.
    fn access_expires(&self) -> Option<Instant> {
        self.access()?.expires
    }

    fn valid_access(&self, now: Instant) -> Option<Arc<Secret>> {
        let access = self.access()?;
        let valid = access.expires.is_none_or(|expires| now < expires);
        valid.then(|| access.token.clone())
    }

    /// How refreshing goes, if there is something to refresh with.
    fn phase(&self) -> Option<&Phase> {
        Some(&self.state.grant.as_ref()?.renewal.as_ref()?.phase)
    }

    fn phase_mut(&mut self) -> Option<&mut Phase> {
        Some(&mut self.state.grant.as_mut()?.renewal.as_mut()?.phase)
    }

    fn set_phase(&mut self, new: Phase) {
        if let Some(phase) = self.phase_mut() {
            *phase = new;
        }
    }

    /// Whether only a sign-in makes the account work. A reminder is in order only then: tokens
    /// may have come by another way (`restore`) since the request was made.
    fn needs_person(&self) -> bool {
        self.registration.source.is_person()
            && matches!(self.phase(), None | Some(Phase::Rejected { .. }))
    }

    /// Whether it works without a person: a token is valid, or may be refreshed.
    fn is_live(&self, now: Instant) -> bool {
        self.valid_access(now).is_some() || !self.needs_person()
    }

    // ---- what users ask for -------------------------------------------------------------------

    /// Starts what yields a token, or joins it; returns what that is.
    fn bring(&mut self, env: &mut Env) -> Progress {
        let asked = self.state.last_request;
        let lately = |at: Instant| env.now.instant < at.after(schedule::MIN_ASK_GAP);
        match self.stopped() {
            Some(trouble) if asked.is_some_and(lately) => Progress::Parked(trouble.refusal.clone()),
            _ => self.join(env),
        }
    }

    /// The failures in a row for which refreshing has stopped.
    fn stopped(&self) -> Option<&Trouble> {
        match self.phase()? {
            Phase::Failing { trouble, .. } => Some(trouble).filter(|it| it.stopped.is_some()),
            Phase::Waiting
            | Phase::Wanted
            | Phase::InFlight { .. }
            | Phase::Probing { .. }
            | Phase::Rejected { .. } => None,
        }
    }

    /// `refresh`: a new token now, or when that will be if the provider wants to be left alone.
    pub fn refresh(&mut self, env: &mut Env) -> Progress {
        self.try_anew();
        let progress = self.join(env);
        let due = self.refresh_due(env.common);
        let delay = due.map_or(Duration::ZERO, |due| due.since(env.now.instant));
        match progress {
            Progress::Refreshing { trouble } if delay > schedule::MIN_REQUEST_GAP => {
                Progress::Deferred { delay, trouble }
            }
            progress => progress,
        }
    }

    /// If refreshing has stopped, that is forgotten: the next try begins a new row.
    fn try_anew(&mut self) -> bool {
        let stopped = self.stopped().is_some();
        if stopped {
            self.set_phase(Phase::Wanted);
        }
        stopped
    }

    /// Starts a refresh or a sign-in, or joins what is under way.
    fn join(&mut self, env: &mut Env) -> Progress {
        if !self.registration.source.is_person() && self.state.grant.is_none() {
            self.hold(Grant::without_tokens(env.now));
        }
        let trouble = match self.phase() {
            None | Some(Phase::Rejected { .. }) => return self.ask(env),
            Some(Phase::Waiting | Phase::Wanted) => {
                self.refresh_soon(env);
                None
            }
            Some(Phase::Failing { trouble, .. }) => {
                let trouble = Some(trouble.refusal.clone());
                self.refresh_soon(env);
                trouble
            }
            Some(Phase::InFlight { trouble, .. }) => {
                trouble.as_ref().map(|trouble| trouble.refusal.clone())
            }
            Some(Phase::Probing { failure, .. }) => Some(failure.refusal.clone()),
        };
        Progress::Refreshing { trouble }
    }

    /// `revoke`: forgets the tokens and cancels a pending sign-in. With `tell` the provider is to revoke
    /// them, if it can be asked to: true then, and `tell` is notified of the outcome.
    pub fn revoke(&mut self, env: &mut Env, tell: Option<Waiter>) -> bool {
        let access_is_valid = self.valid_access(env.now.instant).is_some();
        let grant = self.drop_grant(env, Happening::TokenRevoked);
        let why = Refusal::new("the account's tokens were revoked");
        self.cancel_sign_in(env, why.clone());
        self.state.failed = None;
        self.state.told_no_refresh_token = false;
        self.answer_failed(env, &why);
        let Some(waiter) = tell else {
            return false;
        };
        let attempt = env.attempt();
        match self.revocation_of(grant, access_is_valid, attempt, waiter) {
            Some(revocation) => {
                self.state.revocations.push(revocation);
                self.tell_provider(env, attempt);
                true
            }
            None => false,
        }
    }

    /// Takes the tokens away, and announces it if there were any.
    fn drop_grant(&mut self, env: &mut Env, event: Happening) -> Option<Grant> {
        self.state.lost = None;
        let grant = self.state.grant.take()?;
        if grant.has_tokens() {
            env.tokens_changed();
            self.announce(env, event);
        }
        Some(*grant)
    }

    /// The account as this registration ends: its tokens go nowhere else.
    pub(super) fn end(&mut self, env: &mut Env) {
        self.drop_grant(env, Happening::TokenInvalidated);
        let why = Refusal::new("the account was changed or removed in the config");
        for revocation in std::mem::take(&mut self.state.revocations) {
            self.revocation_over(env, revocation, Err(why.clone()));
        }
        self.settle(env, Ended::Refresh, Err(why.clone()));
        self.cancel_sign_in(env, why);
        self.withdraw(env);
    }

    /// The same registration, described anew: what isn't part of it bites at once, and a parked
    /// refresh gets another chance.
    pub(super) fn reconfigure(&mut self, env: &mut Env, described: &config::Account) {
        if self.config.token_file != described.token_file {
            self.withdraw(env);
            self.published = TokenFileState::default();
        }
        let same_client = self.config.client == described.client;
        self.config = described.clone();
        // It may name other optional endpoints.
        let before = self.endpoints.take();
        self.endpoints = Endpoints::of(described, None).map(Arc::new);
        if self.locate(env).is_none() && self.in_flight().any(|(attempt, _)| self.is_sent(attempt))
        {
            // The issuer is being asked again, and whoever has been asked a token answers before that.
            let said = before.and_then(|it| it.metadata.clone());
            self.endpoints = Endpoints::of(described, said.as_ref()).map(Arc::new);
        }
        self.state.works &= same_client;
        for attempt in self.credentials.reconfigure(described) {
            self.send(env, attempt);
        }
        let missed = self.valid_access(env.now.instant).is_none();
        if let Some(Phase::Failing { wanted, .. }) = self.phase_mut() {
            *wanted |= missed;
        }
        if self.try_anew() {
            env.log(
                Level::Info,
                &self.name,
                "config reloaded: trying to refresh again",
            );
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    /// Does what is due.
    pub(super) fn tick(&mut self, env: &mut Env) {
        let now = env.now.instant;
        if self.refresh_due(env.common).is_some_and(|at| at <= now) {
            self.start_refresh(env);
        }
        if self.notice_due(env.common).is_some_and(|at| at <= now) {
            self.tell_of_end(env);
        }
        if self.sign_in_due(env.config()).is_some_and(|at| at <= now) {
            match &self.state.sign_in {
                SignIn::Pending(pending) => {
                    let reminder = self.reminder_due(env.config(), pending);
                    self.tick_device(env);
                    if reminder.is_some_and(|at| at <= now) {
                        self.remind(env, Reminder::WithCode);
                    }
                }
                SignIn::Exchanging(_) => self.retry_exchange(env),
                SignIn::Discovering(_) | SignIn::None => {}
            }
        }
        // Each of them once: one that can't be sent takes another place among them.
        for _ in 0..self.state.revocations.len() {
            let mut all = self.state.revocations.iter_mut();
            let is_due = |it: &&mut Revocation| it.dispatch.due().is_some_and(|at| at <= now);
            let Some(revocation) = all.find(is_due) else {
                break;
            };
            let attempt = env.attempt();
            revocation.retry(attempt);
            self.send(env, attempt);
        }
    }

    /// When the next refresh is due, if there can be one.
    pub(super) fn refresh_due(&self, common: &Common) -> Option<Instant> {
        let grant = self.state.grant.as_ref()?;
        if self.is_exchanging() {
            // One request at a time; and this one will yield other tokens.
            return None;
        }
        let phase = &grant.renewal.as_ref()?.phase;
        let due = match phase {
            Phase::Waiting => match &grant.access {
                Some(access) => {
                    let (obtained, ends) = (grant.obtained.instant, self.refresh_ends());
                    schedule::refresh_at(&self.config.policy, obtained, access.expires, ends)
                }
                None => Instant::from_millis(0),
            },
            Phase::Wanted => Instant::from_millis(0),
            Phase::Failing { wanted: true, .. } => Instant::from_millis(0),
            Phase::Failing {
                trouble,
                failed,
                jitter,
                wanted: false,
            } => {
                let due = failed.after(self.retry_delay(trouble, *failed, *jitter));
                let last = self.state.last_request.unwrap_or(*failed);
                due.min(schedule::after_change(common.network_changed, last).unwrap_or(due))
            }
            Phase::InFlight { .. } | Phase::Probing { .. } | Phase::Rejected { .. } => return None,
        };
        let wanted = matches!(phase, Phase::Wanted | Phase::Failing { wanted: true, .. });
        Some(due.max(self.earliest_request(common, wanted)))
    }

    /// How long to wait after the last of these failures: no longer than half of what is left of the
    /// refresh token's life.
    fn retry_delay(&self, trouble: &Trouble, failed: Instant, jitter: u8) -> Duration {
        let delay = match trouble.stopped {
            Some(_) => schedule::shortened(schedule::STOPPED_RETRY, jitter),
            None => schedule::retry_delay(&self.config.policy, trouble.failures, jitter),
        };
        let left = self.refresh_ends().map(|at| at.since(failed));
        let left = left.filter(|left| !left.is_zero());
        left.map_or(delay, |left| delay.min(left.checked_div(2).unwrap_or(left)))
    }

    /// When the refresh token ends, if it does.
    fn refresh_ends(&self) -> Option<Instant> {
        self.state.grant.as_ref()?.renewal.as_ref()?.ends
    }

    fn sign_in_due(&self, config: &Config) -> Option<Instant> {
        match &self.state.sign_in {
            // The issuer's own deadline counts.
            SignIn::Discovering(_) | SignIn::None => None,
            SignIn::Pending(pending) => {
                let reminder = self.reminder_due(config, pending);
                let device = pending.device.due(self.state.last_device_request);
                reminder.into_iter().chain(device).min()
            }
            SignIn::Exchanging(exchanging) => exchanging.dispatch.due(),
        }
    }

    fn reminder_due(&self, config: &Config, pending: &Pending) -> Option<Instant> {
        config.auth_notify_cmd.as_ref()?;
        // The code that is being asked for shall be in it.
        if pending.device.is_to_come() {
            return None;
        }
        if self.state.notice {
            return Some(Instant::from_millis(0));
        }
        let last = pending.reminded.map(|now| now.instant);
        let due = last.map_or(pending.since.instant, |at| {
            at.after(config.auth_notify_interval)
        });
        // The user who has had a notice is left alone while the tokens serve.
        let told = self.state.sign_ins.told.and(self.access_expires());
        self.needs_person().then(|| due.max(told.unwrap_or(due)))
    }

    /// Whether the pending sign-in is to be reminded of by now.
    fn is_reminder_due(&self, env: &Env) -> bool {
        let pending = self.state.sign_in.pending();
        let due = pending.and_then(|it| self.reminder_due(env.config(), it));
        due.is_some_and(|at| at <= env.now.instant)
    }

    fn is_exchanging(&self) -> bool {
        self.state.sign_in.exchanging().is_some()
    }

    /// When the next token request may be made; `wanted` is whether somebody has asked for it.
    fn earliest_request(&self, common: &Common, wanted: bool) -> Instant {
        let expired = match self.access() {
            Some(access) => access.expires,
            None => Some(Instant::from_millis(0)),
        };
        let (pause, asked) = match (self.endpoints.as_ref(), self.registration.discovers()) {
            (Some(endpoints), _) => {
                let pause = common.pauses.until(&endpoints.token_uri);
                (pause.max(self.state.pause), expired.filter(|_| wanted))
            }
            (None, Some(issuer)) => (common.issuers.not_before(issuer), None),
            (None, None) => (None, None),
        };
        let renewal = self.state.grant.as_ref().and_then(|it| it.renewal.as_ref());
        let usable = renewal.and_then(|it| it.usable);
        let earliest = schedule::earliest(self.state.last_request, pause, asked);
        earliest.max(usable.unwrap_or(earliest))
    }

    fn announce(&self, env: &mut Env, event: Happening) {
        env.log(Level::Info, &self.name, event.name());
        let expires = self.expires(env.now);
        let is_over = matches!(event, Happening::TokenInvalidated | Happening::TokenRevoked);
        env.news(&self.name, event.until(expires.filter(|_| !is_over)));
        if let Some(command) = env.config().token_event_cmd.clone() {
            let (kind, input) = (HookKind::Event, HookInput::Event(event));
            env.run(kind, &self.name, None, command, input);
        }
    }
}

#[cfg(test)]
pub mod tests;
