//! One account: the tokens held, the sign-in under way, and how every event changes them.

mod asking;
mod device;
mod discovering;
mod endpoints;
mod handover;
mod refreshing;
mod revocations;
mod saving;
mod signing_in;
#[cfg(test)]
mod under_way;
mod viewing;
mod waiting;

use std::{collections::BTreeMap, sync::Arc};

pub(super) use endpoints::Origins;
pub(super) use handover::Carried;
use log::Level;

use self::{
    device::Device,
    discovering::Discovering,
    endpoints::{Configured, Endpoints, Location},
};
use super::{
    AttemptId, Effect, Ended, TokenEvent, Waiter,
    credentials::Credentials,
    env::{Common, Env},
    publish::Published,
    revoking::Revocation,
    schedule,
};
use crate::{
    config::{self, Config, Policy, Registration, TokenFile},
    oauth::token::{Cause, Refusal},
    secret::Secret,
    time::{Instant, Now, Wall},
    view::{DeviceView, ReasonView},
};

#[cfg(test)]
pub use under_way::UnderWay;
use waiting::Waiting;
pub use waiting::{Answer, Ask, Asker, Handed, Patience};

/// The answer to `show`.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum Show {
    /// The access token.
    Token(Arc<Secret>),
    /// There is none that is valid, but this may bring one.
    Coming(Progress),
    /// The token has expired and the configuration keeps it from being refreshed.
    Parked(Refusal),
}

/// What brings a token; the answer to `refresh`.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum Progress {
    /// A refresh has been started, was under way, or is about to start.
    Refreshing {
        /// Why the last refresh failed, if it did.
        trouble: Option<Refusal>,
    },
    /// Somebody has to sign in there.
    SignIn {
        /// The address to open.
        uri: String,
        /// The code to enter elsewhere, if there is one.
        device: Option<DeviceView>,
        /// Why the tokens that were held, or the last sign-in, didn't do.
        reason: Option<Refusal>,
    },
    /// Somebody has to sign in, but nobody knows where: the issuer is being asked.
    Discovering {
        /// Why that has failed so far, if it has.
        trouble: Option<Refusal>,
    },
    /// Somebody has to sign in with a code that is being asked for.
    AskingForCode,
    /// Somebody is just signing in.
    Exchanging {
        /// Why the code couldn't be exchanged yet, if that has failed.
        trouble: Option<Refusal>,
    },
}

/// Whether there is a sign-in to wait for.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum SignInWait {
    /// The waiter will hear of its end.
    Yes,
    /// There is none, and the last one didn't fail.
    No,
}

/// Whether a reminder may still wait for a code to remind of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reminder {
    /// Yes: if there is none, it is asked for first.
    WithCode,
    /// No.
    WithWhatThereIs,
}

/// What became of an authorization response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Wait,
    Refused(Refusal),
    OtherIssuer,
    Stale,
}

/// One account of the config.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Account {
    name: Arc<str>,
    registration: Arc<Registration>,
    credentials: Credentials,
    policy: Policy,
    pub(super) token_file: Option<Arc<TokenFile>>,
    pub(super) published: Published,
    held: Held,
    sign_in: SignIn,
    configured: Configured,
    location: Location,
    /// When a device code was last asked for.
    last_device_request: Option<Instant>,
    revocations: Vec<Revocation>,
    /// When the last token request was made; see [`schedule::MIN_REQUEST_GAP`].
    last_request: Option<Instant>,
    /// The oddities of the last reply, so that a provider's habit is logged once.
    warned: Vec<String>,
    /// The user has heard that a sign-in brings no refresh token.
    told_no_refresh_token: bool,
    /// Who waits for a token.
    waiting: BTreeMap<Waiter, Waiting>,
    /// The deadline under which the core has filed this account.
    pub filed: Option<Instant>,
}

/// The tokens held. They were issued under the account's registration: a changed one makes a new
/// account.
#[derive(Debug)]
// Nearly every account holds a grant nearly always: there is nothing to save by a box.
#[allow(clippy::large_enum_variant)]
#[cfg_attr(test, derive(Clone))]
enum Held {
    Nothing {
        /// Why there are none any more, unless somebody here has ended them.
        lost: Option<Refusal>,
    },
    Grant(Grant),
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Grant {
    access: Option<Access>,
    renewal: Renewal,
    /// When the tokens were asked for.
    obtained: Now,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Access {
    token: Arc<Secret>,
    expires: Option<Instant>,
    /// Where it may be sent to be revoked.
    origins: Origins,
    /// Those granted; `None` when the provider didn't say, and so those asked for.
    scopes: Option<Arc<[String]>>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Renewal {
    /// The provider gave no refresh token.
    Impossible,
    With {
        refresh_token: Arc<Secret>,
        /// Where it may be sent.
        origins: Origins,
        phase: Phase,
    },
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Phase {
    /// The schedule says when.
    Waiting,
    /// Somebody wants it as soon as the floor allows.
    Wanted,
    /// The request is with the shell.
    InFlight {
        attempt: AttemptId,
        trouble: Option<Trouble>,
    },
    /// The last one failed in a way that may pass.
    Failing {
        trouble: Trouble,
        failed: Instant,
        /// Shortens the wait for the next one; see [`schedule::retry_delay`].
        jitter: u8,
        /// Somebody wants the next one as soon as the floor allows.
        wanted: bool,
    },
    /// `transient_error_if_cmd` is being asked about the last failure.
    Probing {
        attempt: AttemptId,
        trouble: Option<Trouble>,
        failure: Failure,
    },
    /// The provider's definite word: the refresh token is kept, but no longer used.
    Rejected { refusal: Refusal, since: Wall },
    /// The configuration is wrong: no retry before a reload or `refresh`.
    Parked { refusal: Refusal, since: Wall },
}

/// A refresh that has failed in a way that may pass.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Failure {
    refusal: Refusal,
    cause: Cause,
}

/// A row of transient failures.
#[derive(Clone, Debug)]
struct Trouble {
    since: Now,
    failures: u32,
    /// How many of the last were the very same refusal that nobody explained.
    unexplained: u32,
    /// Whether a reply was lost among them, and with it perhaps a new refresh token.
    lost: bool,
    refusal: Refusal,
    /// Whether the user has heard of it.
    told: bool,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum SignIn {
    None { failed: Option<Refusal> },
    Discovering(Discovering),
    Pending(Pending),
    Exchanging(Exchanging),
}

/// A sign-in that waits for the user, by one channel or several: the first to finish wins.
///
/// It waits for as long as it takes. A fresh state and verifier every hour, say, would lose each
/// sign-in that somebody began before and ended after, and guard nothing: the reminders that spread
/// one URL would spread the next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Pending {
    attempt: AttemptId,
    /// Why the sign-in before this one ended without tokens.
    failed: Option<Refusal>,
    /// At least one of these two is open.
    browser: Option<Browser>,
    device: Device,
    since: Now,
    reminded: Option<Now>,
    waiters: Vec<Waiter>,
    /// Who waits for the code that is being asked for.
    code_waiters: Vec<Waiter>,
}

/// An authorization request, completed by a redirect or a paste of it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Browser {
    state: Arc<Secret>,
    verifier: Arc<Secret>,
    redirect_uri: String,
    uri: String,
}

/// An authorization code on its way to the token endpoint. It owns everything that the exchange
/// needs, so that nothing but revoke and reload can cost it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Exchanging {
    browser: Browser,
    code: Arc<Secret>,
    since: Now,
    waiters: Vec<Waiter>,
    phase: ExchangePhase,
    /// Why the last try failed.
    trouble: Option<Refusal>,
    /// Whether the user has heard of it.
    told: bool,
}

impl Pending {
    /// The address to open: the browser's, or else the page for the code.
    fn uri(&self, now: Now) -> Option<String> {
        let browser = self.browser.as_ref().map(|browser| browser.uri.clone());
        browser.or_else(|| {
            let device = self.device.view(now)?;
            Some((device.verification_uri_complete).unwrap_or(device.verification_uri))
        })
    }
}

/// What an operation in flight asks the provider for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Exchange,
    Refresh,
    /// A device code.
    Code,
    /// Whether the device code was entered.
    Poll,
    Revocation,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum ExchangePhase {
    InFlight(AttemptId),
    /// Nothing of the request was sent, so the code is still good.
    RetryAt(Instant),
}

impl ExchangePhase {
    /// Whether `attempt` is the one that is in flight.
    fn is(&self, attempt: AttemptId) -> bool {
        matches!(self, ExchangePhase::InFlight(id) if *id == attempt)
    }
}

impl Account {
    pub fn new(described: &config::Account) -> Self {
        let configured = Configured {
            device_auth_uri: described.device_auth_uri.clone(),
            revocation_uri: described.revocation_uri.clone(),
        };
        Account {
            name: described.name.clone(),
            registration: described.registration.clone(),
            credentials: Credentials::new(described),
            policy: described.policy,
            token_file: described.token_file.clone(),
            published: Published::default(),
            held: Held::Nothing { lost: None },
            sign_in: SignIn::None { failed: None },
            location: Location::new(&described.registration, &configured),
            configured,
            last_device_request: None,
            revocations: Vec::new(),
            last_request: None,
            warned: Vec::new(),
            told_no_refresh_token: false,
            waiting: BTreeMap::new(),
            filed: None,
        }
    }

    /// This account under another registration: nothing stays but the floor, and the knowledge
    /// that there were tokens.
    pub fn changed(&self, described: &config::Account) -> Self {
        Account {
            last_request: self.last_request,
            held: Held::Nothing {
                lost: match &self.held {
                    Held::Nothing { lost } => lost.clone(),
                    Held::Grant(_) => Some(lost_by_change()),
                },
            },
            ..Account::new(described)
        }
    }

    /// Why there are no tokens any more.
    fn lost(&self) -> Option<&Refusal> {
        match &self.held {
            Held::Nothing { lost } => lost.as_ref(),
            Held::Grant(_) => None,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether a request of it is with the shell.
    pub fn awaits_reply(&self) -> bool {
        let exchanging = match &self.sign_in {
            SignIn::Exchanging(Exchanging {
                phase: ExchangePhase::InFlight(attempt),
                ..
            }) => Some(*attempt),
            SignIn::Pending(pending) => pending.device.awaits_reply(),
            SignIn::Exchanging(_) | SignIn::Discovering(_) | SignIn::None { .. } => None,
        };
        let refreshing = match self.phase() {
            Some(Phase::InFlight { attempt, .. }) => Some(*attempt),
            _ => None,
        };
        let revoking = self.revocations.iter().filter_map(Revocation::attempt);
        let mut attempts = exchanging.into_iter().chain(refreshing).chain(revoking);
        // What waits for an endpoint hasn't been sent.
        attempts.any(|attempt| !self.location.keeps_waiting(attempt))
    }

    /// Whether it has tokens.
    pub fn holds(&self) -> bool {
        matches!(self.held, Held::Grant(_))
    }

    pub fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// When this account wants [`Account::tick`] next.
    pub fn deadline(&self, common: &Common) -> Option<Instant> {
        let refresh = self.refresh_due(common);
        let sign_in = self.sign_in_due(&common.config);
        let due = [refresh, sign_in, self.token_file_due()];
        let revocations = self.revocations.iter().filter_map(Revocation::due);
        due.into_iter().flatten().chain(revocations).min()
    }

    /// When the token in the file has expired.
    fn token_file_due(&self) -> Option<Instant> {
        match self.published {
            Published::Token(_) => self.access_expires(),
            Published::Unknown | Published::Nothing => None,
        }
    }

    /// When the access token expires, as far as that is known.
    pub(super) fn access_expires(&self) -> Option<Instant> {
        match &self.held {
            Held::Nothing { .. } => None,
            Held::Grant(grant) => grant.access.as_ref()?.expires,
        }
    }

    // ---- what users ask for -------------------------------------------------------------------

    pub fn show(&mut self, env: &mut Env) -> Show {
        match self.valid_access(env.now.instant) {
            Some(token) => Show::Token(token),
            None => self.bring(env),
        }
    }

    /// Starts what brings a token, or joins it; what that is.
    fn bring(&mut self, env: &mut Env) -> Show {
        match self.phase() {
            Some(Phase::Parked { refusal, .. }) => Show::Parked(refusal.clone()),
            _ => Show::Coming(self.refresh(env)),
        }
    }

    pub fn refresh(&mut self, env: &mut Env) -> Progress {
        let trouble = match self.phase() {
            None | Some(Phase::Rejected { .. }) => return self.ask(env),
            Some(Phase::Waiting | Phase::Wanted | Phase::Parked { .. }) => {
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

    /// Forgets the tokens; true when `tell` will hear what the provider says to that.
    pub fn revoke(&mut self, env: &mut Env, tell: Option<Waiter>) -> bool {
        let access = self.valid_access(env.now.instant);
        let held = std::mem::replace(&mut self.held, Held::Nothing { lost: None });
        if let Held::Grant(_) = held {
            env.tokens_changed();
            self.announce(env, TokenEvent::Revoked);
        }
        let why = Refusal {
            text: "the account's tokens were revoked".into(),
            hint: None,
        };
        self.cancel_sign_in(env, why.clone());
        self.sign_in = SignIn::None { failed: None };
        self.told_no_refresh_token = false;
        self.answer_failed(env, &why);
        let Some(waiter) = tell else {
            return false;
        };
        let attempt = env.attempt();
        match self.revocation_of(held, access.is_some(), attempt, waiter) {
            Some(revocation) => {
                self.revocations.push(revocation);
                self.tell_provider(env, attempt);
                true
            }
            None => false,
        }
    }

    /// The account as this registration ends: its tokens go nowhere else.
    pub fn end(&mut self, env: &mut Env) {
        if let Held::Grant(_) = std::mem::replace(&mut self.held, Held::Nothing { lost: None }) {
            env.tokens_changed();
            self.announce(env, TokenEvent::Invalidated);
        }
        let why = Refusal {
            text: "the account was changed or removed in the config".into(),
            hint: None,
        };
        for revocation in std::mem::take(&mut self.revocations) {
            self.revocation_over(env, revocation, Err(why.clone()));
        }
        self.cancel_sign_in(env, why);
        self.withdraw(env);
    }

    /// The same registration, described anew: what isn't part of it bites at once, and a parked
    /// refresh gets another chance.
    pub fn reconfigure(&mut self, env: &mut Env, described: &config::Account) {
        self.policy = described.policy;
        if self.token_file != described.token_file {
            self.withdraw(env);
            self.token_file = described.token_file.clone();
            self.published = Published::default();
        }
        self.relocate(
            env,
            Configured {
                device_auth_uri: described.device_auth_uri.clone(),
                revocation_uri: described.revocation_uri.clone(),
            },
        );
        for attempt in self.credentials.reconfigure(described) {
            self.send(env, attempt);
        }
        if let Some(phase @ Phase::Parked { .. }) = self.phase_mut() {
            *phase = Phase::Wanted;
            env.log(
                Level::Info,
                &self.name,
                "config reloaded: trying to refresh again",
            );
        }
    }

    // ---- time ---------------------------------------------------------------------------------

    /// Does what is due.
    pub fn tick(&mut self, env: &mut Env) {
        let now = env.now.instant;
        if self.refresh_due(env.common).is_some_and(|at| at <= now) {
            self.start_refresh(env);
        }
        if self.sign_in_due(env.config()).is_some_and(|at| at <= now) {
            match &self.sign_in {
                SignIn::Pending(pending) => {
                    let reminder = self.reminder_due(env.config(), pending);
                    self.tick_device(env);
                    if reminder.is_some_and(|at| at <= now) {
                        self.remind(env, Reminder::WithCode);
                    }
                }
                SignIn::Exchanging(_) => self.retry_exchange(env),
                SignIn::Discovering(_) | SignIn::None { .. } => {}
            }
        }
        for at in 0..self.revocations.len() {
            let revocation = self.revocations.get_mut(at);
            let due = |it: &&mut Revocation| it.due().is_some_and(|at| at <= now);
            if let Some(revocation) = revocation.filter(due) {
                let attempt = env.attempt();
                revocation.retry(attempt);
                self.send(env, attempt);
            }
        }
    }

    /// When the next refresh is due, if there can be one.
    pub fn refresh_due(&self, common: &Common) -> Option<Instant> {
        let Held::Grant(grant) = &self.held else {
            return None;
        };
        let Renewal::With { phase, .. } = &grant.renewal else {
            return None;
        };
        if self.is_exchanging() {
            // One request at a time; and this one will bring other tokens.
            return None;
        }
        let wish = match phase {
            Phase::Waiting => match &grant.access {
                Some(access) => {
                    schedule::refresh_at(&self.policy, grant.obtained.instant, access.expires)
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
            } => failed.after(schedule::retry_delay(
                &self.policy,
                trouble.failures,
                *jitter,
            )),
            Phase::InFlight { .. }
            | Phase::Probing { .. }
            | Phase::Rejected { .. }
            | Phase::Parked { .. } => return None,
        };
        Some(wish.max(self.earliest_request(common)))
    }

    fn sign_in_due(&self, config: &Config) -> Option<Instant> {
        match &self.sign_in {
            // The issuer's own deadline counts.
            SignIn::Discovering(_) | SignIn::None { .. } => None,
            SignIn::Pending(pending) => {
                let reminder = self.reminder_due(config, pending);
                let device = pending.device.due(self.last_device_request);
                reminder.into_iter().chain(device).min()
            }
            SignIn::Exchanging(exchanging) => match exchanging.phase {
                ExchangePhase::InFlight(_) => None,
                ExchangePhase::RetryAt(at) => Some(at),
            },
        }
    }

    fn reminder_due(&self, config: &Config, pending: &Pending) -> Option<Instant> {
        config.auth_notify_cmd.as_ref()?;
        // The code that is being asked for shall be in it.
        if !self.needs_person() || pending.device.is_to_come() {
            return None;
        }
        let last = pending.reminded.map(|now| now.instant);
        Some(last.map_or(pending.since.instant, |at| {
            at.after(config.auth_notify_interval)
        }))
    }

    /// Whether the pending sign-in is to be reminded of by now.
    fn is_reminder_due(&self, env: &Env) -> bool {
        let SignIn::Pending(pending) = &self.sign_in else {
            return false;
        };
        let due = self.reminder_due(env.config(), pending);
        due.is_some_and(|at| at <= env.now.instant)
    }

    fn is_exchanging(&self) -> bool {
        match self.sign_in {
            SignIn::Exchanging(_) => true,
            SignIn::None { .. } | SignIn::Discovering(_) | SignIn::Pending(_) => false,
        }
    }

    fn earliest_request(&self, common: &Common) -> Instant {
        let pause = match (self.location.known(), self.registration.discovers()) {
            (Some(endpoints), _) => common.pauses.until(&endpoints.token_uri),
            (None, Some(issuer)) => common.issuers.not_before(issuer),
            (None, None) => None,
        };
        schedule::earliest(self.last_request, pause)
    }

    /// Whether only a sign-in brings a working account. A reminder is in order only then: tokens
    /// may have come by another way (`restore`) since the request was made.
    fn needs_person(&self) -> bool {
        match &self.held {
            Held::Nothing { .. } => true,
            Held::Grant(grant) => match &grant.renewal {
                Renewal::Impossible => true,
                Renewal::With { phase, .. } => matches!(phase, Phase::Rejected { .. }),
            },
        }
    }

    // ---- small parts --------------------------------------------------------------------------

    pub(super) fn valid_access(&self, now: Instant) -> Option<Arc<Secret>> {
        let Held::Grant(grant) = &self.held else {
            return None;
        };
        let access = grant.access.as_ref()?;
        let valid = access.expires.is_none_or(|expires| now < expires);
        valid.then(|| access.token.clone())
    }

    fn phase(&self) -> Option<&Phase> {
        match &self.held {
            Held::Nothing { .. } => None,
            Held::Grant(grant) => match &grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { phase, .. } => Some(phase),
            },
        }
    }

    /// Whether it works without a person: a token is valid, or may be refreshed.
    fn is_live(&self, now: Instant) -> bool {
        self.valid_access(now).is_some() || !self.needs_person()
    }

    fn phase_mut(&mut self) -> Option<&mut Phase> {
        match &mut self.held {
            Held::Nothing { .. } => None,
            Held::Grant(grant) => match &mut grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { phase, .. } => Some(phase),
            },
        }
    }

    fn set_phase(&mut self, new: Phase) {
        if let Some(phase) = self.phase_mut() {
            *phase = new;
        }
    }

    fn announce(&self, env: &mut Env, event: TokenEvent) {
        env.log(Level::Info, &self.name, event.name());
        self.token_news(env, event);
        if let Some(command) = env.config().token_event_cmd.clone() {
            env.emit(Effect::Announce {
                account: self.name.clone(),
                command,
                event,
            });
        }
    }
}

/// Why an account under another registration has none of the tokens that there were.
fn lost_by_change() -> Refusal {
    Refusal {
        text: "the account's registration was changed in the config".into(),
        hint: None,
    }
}

fn reason(refusal: &Refusal) -> ReasonView {
    ReasonView {
        text: refusal.text.clone(),
        hint: refusal.hint.clone(),
    }
}

#[cfg(test)]
mod tests;
