//! One account: the tokens held, the sign-in under way, and how every event changes them.

mod device;
mod discovering;
mod endpoints;
mod handover;
#[cfg(test)]
mod under_way;
mod waiting;

use std::{collections::BTreeMap, sync::Arc};

pub(super) use endpoints::Origins;
pub(super) use handover::Carried;
use log::Level;
use url::Url;

use self::{
    device::Device,
    discovering::Discovering,
    endpoints::{Configured, Endpoints, Location},
};
use super::{
    AttemptId, Effect, Ended, TokenEvent, Waiter,
    credentials::Credentials,
    dump::{Saved, SavedAccess},
    env::{Common, Env},
    publish::Published,
    revoking::{Revocation, Step},
    schedule,
};
use crate::{
    config::{self, Config, Policy, Registration, TokenFile},
    oauth::{
        authorization::{self, Callback, CallbackResult},
        revocation,
        token::{self, Cause, GrantType, Outcome, Refusal, Tokens, Verdict},
    },
    secret::Secret,
    time::{Instant, Now, Wall},
    view::{
        AccessView, AccountView, DeviceView, Happening, ReasonView, RenewalView, SignInStart,
        SignInView,
    },
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
    Exchanging,
    /// The token has expired and is being refreshed.
    Refreshing {
        /// Why the last refresh failed, if it did.
        trouble: Option<Refusal>,
    },
    /// The token has expired and the configuration keeps it from being refreshed.
    Parked(Refusal),
}

/// The answer to `refresh`.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// A refresh has been started, was under way, or is about to start.
    Refreshing,
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
    Exchanging,
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
    Nothing,
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
            held: Held::Nothing,
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

    /// This account under another registration: nothing stays but the floor.
    pub fn changed(&self, described: &config::Account) -> Self {
        let why = Refusal {
            text: "the account's registration was changed in the config".into(),
            hint: None,
        };
        Account {
            sign_in: SignIn::None { failed: Some(why) },
            last_request: self.last_request,
            ..Account::new(described)
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
            Held::Nothing => None,
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
        let Held::Grant(Grant {
            renewal: Renewal::With { phase, .. },
            ..
        }) = &self.held
        else {
            return self.ask_to_show(env, None);
        };
        match phase {
            Phase::Waiting | Phase::Wanted => {
                self.refresh_soon(env);
                Show::Refreshing { trouble: None }
            }
            Phase::Failing { trouble, .. } => {
                let trouble = Some(trouble.refusal.clone());
                self.refresh_soon(env);
                Show::Refreshing { trouble }
            }
            Phase::InFlight { trouble, .. } => Show::Refreshing {
                trouble: trouble.as_ref().map(|trouble| trouble.refusal.clone()),
            },
            Phase::Probing { failure, .. } => Show::Refreshing {
                trouble: Some(failure.refusal.clone()),
            },
            Phase::Rejected { refusal, .. } => {
                let refusal = refusal.clone();
                self.ask_to_show(env, Some(refusal))
            }
            Phase::Parked { refusal, .. } => Show::Parked(refusal.clone()),
        }
    }

    pub fn refresh(&mut self, env: &mut Env) -> Progress {
        let Held::Grant(Grant {
            renewal: Renewal::With { phase, .. },
            ..
        }) = &self.held
        else {
            return self.ask(env, None);
        };
        match phase {
            Phase::Waiting | Phase::Wanted | Phase::Failing { .. } | Phase::Parked { .. } => {
                self.refresh_soon(env);
                Progress::Refreshing
            }
            Phase::InFlight { .. } | Phase::Probing { .. } => Progress::Refreshing,
            Phase::Rejected { refusal, .. } => {
                let refusal = refusal.clone();
                self.ask(env, Some(refusal))
            }
        }
    }

    /// Forgets the tokens; true when `tell` will hear what the provider says to that.
    pub fn revoke(&mut self, env: &mut Env, tell: Option<Waiter>) -> bool {
        let access = self.valid_access(env.now.instant);
        let held = std::mem::replace(&mut self.held, Held::Nothing);
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
        if let Held::Grant(_) = std::mem::replace(&mut self.held, Held::Nothing) {
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
            if let Some(revocation) = self.revocations.get_mut(at)
                && revocation.due().is_some_and(|at| at <= now)
            {
                let attempt = env.attempt();
                revocation.retry(attempt);
                self.send(env, attempt);
            }
        }
    }

    fn refresh_due(&self, common: &Common) -> Option<Instant> {
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
            Held::Nothing => true,
            Held::Grant(grant) => match &grant.renewal {
                Renewal::Impossible => true,
                Renewal::With { phase, .. } => matches!(phase, Phase::Rejected { .. }),
            },
        }
    }

    // ---- signing in ---------------------------------------------------------------------------

    fn ask_to_show(&mut self, env: &mut Env, reason: Option<Refusal>) -> Show {
        match self.ask(env, reason) {
            Progress::SignIn {
                uri,
                device,
                reason,
            } => Show::SignIn {
                uri,
                device,
                reason,
            },
            Progress::Discovering { trouble } => Show::Discovering { trouble },
            Progress::AskingForCode => Show::AskingForCode,
            Progress::Exchanging => Show::Exchanging,
            Progress::Refreshing => Show::Refreshing { trouble: None },
        }
    }

    /// Starts a sign-in, or joins the one under way.
    fn ask(&mut self, env: &mut Env, reason: Option<Refusal>) -> Progress {
        let reason = match &self.sign_in {
            SignIn::Exchanging(_) => return Progress::Exchanging,
            SignIn::Discovering(_) => {
                self.discover_for_sign_in(env);
                reason
            }
            SignIn::Pending(_) => {
                // A code that has expired is replaced when somebody wants it.
                self.renew_device(env);
                reason
            }
            SignIn::None { failed } => {
                let reason = reason.or_else(|| failed.clone());
                self.begin_sign_in(env);
                reason
            }
        };
        match &self.sign_in {
            SignIn::Pending(pending) => match pending.uri(env.now) {
                Some(uri) => Progress::SignIn {
                    uri,
                    device: pending.device.view(env.now),
                    reason,
                },
                None => Progress::AskingForCode,
            },
            SignIn::Discovering(_) => Progress::Discovering {
                trouble: self.discovery_trouble(env),
            },
            SignIn::None { .. } | SignIn::Exchanging(_) => Progress::AskingForCode,
        }
    }

    /// Starts a sign-in or joins the one under way; with `join` it never starts one. While a code
    /// is being asked for, `waiter` will hear of it.
    pub fn auth(&mut self, env: &mut Env, join: bool, waiter: Waiter) -> SignInStart {
        if !join {
            // What there is to show is below.
            let _ = self.ask(env, None);
        }
        match &mut self.sign_in {
            SignIn::None { .. } => SignInStart::Over,
            SignIn::Exchanging(_) => SignInStart::Exchanging,
            SignIn::Discovering(Discovering { code_waiters, .. }) => {
                code_waiters.push(waiter);
                SignInStart::AskingForCode
            }
            SignIn::Pending(Pending {
                device,
                code_waiters,
                ..
            }) if device.is_to_come() => {
                code_waiters.push(waiter);
                SignInStart::AskingForCode
            }
            SignIn::Pending(pending) => SignInStart::Open {
                browser_uri: pending.browser.as_ref().map(|browser| browser.uri.clone()),
                device: pending.device.view(env.now),
            },
        }
    }

    /// Has `waiter` hear of the end of the sign-in under way.
    pub fn wait_for_sign_in(&mut self, waiter: Waiter) -> Result<SignInWait, Refusal> {
        match &mut self.sign_in {
            SignIn::None { failed: None } => return Ok(SignInWait::No),
            SignIn::None {
                failed: Some(refusal),
            } => return Err(refusal.clone()),
            SignIn::Discovering(discovering) => discovering.waiters.push(waiter),
            SignIn::Pending(pending) => pending.waiters.push(waiter),
            SignIn::Exchanging(exchanging) => exchanging.waiters.push(waiter),
        }
        Ok(SignInWait::Yes)
    }

    /// Somebody who waited for the sign-in has left.
    fn forget_sign_in_waiter(&mut self, waiter: Waiter) {
        match &mut self.sign_in {
            SignIn::None { .. } => {}
            SignIn::Discovering(Discovering {
                waiters,
                code_waiters,
                ..
            })
            | SignIn::Pending(Pending {
                waiters,
                code_waiters,
                ..
            }) => {
                waiters.retain(|it| *it != waiter);
                code_waiters.retain(|it| *it != waiter);
            }
            SignIn::Exchanging(exchanging) => exchanging.waiters.retain(|it| *it != waiter),
        }
    }

    fn begin_sign_in(&mut self, env: &mut Env) {
        let Some(endpoints) = self.locate(env) else {
            return self.discover_first(env);
        };
        let browser = endpoints.auth_uri.as_ref().map(|endpoint| {
            let state = Arc::new(authorization::token_text(&env.bytes32()));
            let verifier = Arc::new(authorization::token_text(&env.bytes32()));
            verifier.bind(self.registration.mark());
            let port = env.common.ports.of(&self.registration.redirect_uri);
            let redirect_uri = authorization::redirect_uri(&self.registration.redirect_uri, port);
            let uri = authorization::authorization_uri(
                endpoint,
                &self.registration,
                &redirect_uri,
                state.expose(),
                &authorization::code_challenge(verifier.expose()),
            );
            Browser {
                state,
                verifier,
                redirect_uri,
                uri,
            }
        });
        self.sign_in = SignIn::Pending(Pending {
            attempt: env.attempt(),
            browser,
            device: match endpoints.device_auth_uri {
                Some(_) => Device::Over { again: true },
                None => Device::None,
            },
            since: env.now,
            reminded: None,
            waiters: Vec::new(),
            code_waiters: Vec::new(),
        });
        env.log(Level::Info, &self.name, "authorisation needed");
        env.news(&self.name, Happening::AuthorisationPending);
        self.remind(env, Reminder::WithCode);
    }

    fn remind(&mut self, env: &mut Env, reminder: Reminder) {
        if reminder == Reminder::WithCode && self.start_device(env) {
            return;
        }
        let Some(command) = env.config().auth_notify_cmd.clone() else {
            return;
        };
        let needed = self.needs_person();
        let SignIn::Pending(pending) = &mut self.sign_in else {
            return;
        };
        let Some(uri) = pending.uri(env.now).filter(|_| needed) else {
            return;
        };
        pending.reminded = Some(env.now);
        let notify = Effect::Notify {
            account: self.name.clone(),
            attempt: pending.attempt,
            command,
            uri,
            device: pending.device.view(env.now),
            limit: env.config().auth_notify_interval,
        };
        env.emit(notify);
    }

    /// Whether `state` is that of the sign-in under way. Always compares, in constant time.
    pub fn awaits(&self, state: &Secret) -> bool {
        match &self.sign_in {
            SignIn::None { .. } | SignIn::Discovering(_) => false,
            SignIn::Pending(pending) => {
                let browser = pending.browser.as_ref();
                browser.is_some_and(|browser| *browser.state == *state)
            }
            SignIn::Exchanging(exchanging) => *exchanging.browser.state == *state,
        }
    }

    /// An authorization response whose state is this account's.
    pub fn deliver(&mut self, env: &mut Env, callback: Callback, waiter: Waiter) -> Delivery {
        if let Err(message) = self.check_issuer(callback.iss.as_deref()) {
            env.log(Level::Warn, &self.name, message);
            return Delivery::OtherIssuer;
        }
        match std::mem::replace(&mut self.sign_in, SignIn::None { failed: None }) {
            SignIn::Exchanging(mut exchanging) => {
                exchanging.waiters.push(waiter);
                self.sign_in = SignIn::Exchanging(exchanging);
                Delivery::Wait
            }
            SignIn::Pending(Pending {
                attempt,
                browser: Some(browser),
                mut waiters,
                code_waiters,
                ..
            }) => {
                env.emit(Effect::NotifyEnd { attempt });
                self.settle(env, Ended::Code, code_waiters, Ok(()));
                match callback.result {
                    CallbackResult::Code(code) => {
                        code.bind(self.registration.mark());
                        waiters.push(waiter);
                        self.begin_exchange(env, browser, Arc::new(code), waiters);
                        Delivery::Wait
                    }
                    CallbackResult::Error {
                        error,
                        description,
                        uri,
                    } => {
                        let refusal =
                            authorization::refusal(&error, description.as_deref(), uri.as_deref());
                        let refusal = self.with_scopes(refusal, &error);
                        env.spend(browser.state, &self.name, Err(refusal.clone()));
                        self.settle(env, Ended::SignIn, waiters, Err(refusal.clone()));
                        self.sign_in_failed(env, refusal.clone());
                        Delivery::Refused(refusal)
                    }
                }
            }
            // Nobody has this state.
            other @ (SignIn::None { .. } | SignIn::Discovering(_) | SignIn::Pending(_)) => {
                self.sign_in = other;
                Delivery::Stale
            }
        }
    }

    fn begin_exchange(
        &mut self,
        env: &mut Env,
        browser: Browser,
        code: Arc<Secret>,
        waiters: Vec<Waiter>,
    ) {
        let attempt = env.attempt();
        self.sign_in = SignIn::Exchanging(Exchanging {
            browser,
            code,
            since: env.now,
            waiters,
            phase: match env.common.held {
                true => ExchangePhase::RetryAt(env.now.instant),
                false => ExchangePhase::InFlight(attempt),
            },
        });
        if !env.common.held {
            self.send(env, attempt);
        }
        env.news(&self.name, Happening::AuthorisationCompleting);
    }

    fn retry_exchange(&mut self, env: &mut Env) {
        match std::mem::replace(&mut self.sign_in, SignIn::None { failed: None }) {
            SignIn::Exchanging(mut exchanging) => {
                let attempt = env.attempt();
                exchanging.phase = ExchangePhase::InFlight(attempt);
                self.sign_in = SignIn::Exchanging(exchanging);
                self.send(env, attempt);
            }
            other @ (SignIn::None { .. } | SignIn::Discovering(_) | SignIn::Pending(_)) => {
                self.sign_in = other;
            }
        }
    }

    fn exchange_outcome(
        &mut self,
        env: &mut Env,
        mut exchanging: Exchanging,
        sent: Instant,
        verdict: Verdict,
    ) {
        let refusal = match verdict {
            Verdict::Granted(tokens) => {
                self.sign_in = SignIn::Exchanging(exchanging);
                self.end_sign_in(env, Ok(()));
                self.signed_in(env, tokens, sent);
                return;
            }
            Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal) => refusal,
            Verdict::Transient { refusal, .. } => {
                let waited = env.now.instant.since(exchanging.since.instant);
                if waited.saturating_add(schedule::EXCHANGE_RETRY) < schedule::CODE_LIFETIME {
                    let message = format!("will try again to exchange the code: {}", refusal.text);
                    env.log(Level::Warn, &self.name, message);
                    let retry_at = env.now.instant.after(schedule::EXCHANGE_RETRY);
                    exchanging.phase = ExchangePhase::RetryAt(retry_at);
                    self.sign_in = SignIn::Exchanging(exchanging);
                    return;
                }
                refusal
            }
        };
        self.sign_in = SignIn::Exchanging(exchanging);
        self.end_sign_in(env, Err(refusal.clone()));
        self.sign_in_failed(env, refusal);
    }

    /// Somebody has signed in, by whatever channel.
    fn signed_in(&mut self, env: &mut Env, tokens: Tokens, sent: Instant) {
        let hint = tokens.no_refresh_token;
        self.granted(env, tokens, sent);
        self.announce(env, TokenEvent::New);
        match hint {
            // A refresh token of old may go on; what replaces it need not be news.
            Some(hint) if self.needs_person() => self.tell_of_the_end(env, hint),
            Some(_) => {}
            None => self.told_no_refresh_token = false,
        }
        self.answer_after_grant(env);
    }

    /// There is nothing to refresh with. The user hears of it while the token is good and the
    /// sign-in in mind, and not when mail no longer comes; and once, for that is how the provider
    /// or the config is.
    fn tell_of_the_end(&mut self, env: &mut Env, hint: &str) {
        let Some(expires) = self.access_expires() else {
            let message = format!(
                "no refresh token came along, so a new sign-in is needed if the access token \
                 expires ({hint})"
            );
            return env.log(Level::Warn, &self.name, message);
        };
        let left = crate::time::humane(expires.since(env.now.instant));
        let message = format!("authorised for only {left}: no refresh token came along ({hint})");
        match std::mem::replace(&mut self.told_no_refresh_token, true) {
            false => env.error(&self.name, message),
            true => env.log(Level::Warn, &self.name, message),
        }
    }

    /// Ends the sign-in under way: its reminder, its state and whoever waits for it.
    fn end_sign_in(&mut self, env: &mut Env, result: Result<(), Refusal>) {
        match std::mem::replace(&mut self.sign_in, SignIn::None { failed: None }) {
            none @ SignIn::None { .. } => self.sign_in = none,
            SignIn::Discovering(discovering) => {
                self.settle(env, Ended::Code, discovering.code_waiters, Ok(()));
                self.settle(env, Ended::SignIn, discovering.waiters, result);
            }
            SignIn::Pending(pending) => {
                env.emit(Effect::NotifyEnd {
                    attempt: pending.attempt,
                });
                self.settle(env, Ended::Code, pending.code_waiters, Ok(()));
                self.settle(env, Ended::SignIn, pending.waiters, result);
            }
            SignIn::Exchanging(exchanging) => {
                env.spend(exchanging.browser.state, &self.name, result.clone());
                self.settle(env, Ended::SignIn, exchanging.waiters, result);
            }
        }
    }

    /// Tells whoever waits.
    fn settle(
        &self,
        env: &mut Env,
        what: Ended,
        waiters: Vec<Waiter>,
        result: Result<(), Refusal>,
    ) {
        if !waiters.is_empty() {
            env.emit(Effect::Settled {
                what,
                waiters,
                account: self.name.clone(),
                result,
            });
        }
    }

    /// Remembers how the pending sign-in ended for a browser that comes late.
    fn spend_pending(&self, env: &mut Env, result: Result<(), Refusal>) {
        if let SignIn::Pending(Pending {
            browser: Some(browser),
            ..
        }) = &self.sign_in
        {
            env.spend(browser.state.clone(), &self.name, result);
        }
    }

    /// The pending sign-in has failed, by whatever channel.
    fn pending_failed(&mut self, env: &mut Env, refusal: Refusal) {
        self.spend_pending(env, Err(refusal.clone()));
        self.end_sign_in(env, Err(refusal.clone()));
        self.sign_in_failed(env, refusal);
    }

    /// Ends a sign-in that may be under way, because of what the user did here.
    fn cancel_sign_in(&mut self, env: &mut Env, why: Refusal) {
        if !matches!(self.sign_in, SignIn::None { .. }) {
            let reason = reason(&why);
            env.news(&self.name, Happening::AuthorisationCancelled { reason });
        }
        self.end_sign_in(env, Err(why));
    }

    fn sign_in_failed(&mut self, env: &mut Env, refusal: Refusal) {
        env.error(
            &self.name,
            format!("authorisation failed: {}", told(&refusal)),
        );
        let reason = reason(&refusal);
        env.news(&self.name, Happening::AuthorisationFailed { reason });
        // Those who wait for a refresh go on waiting for it.
        if self.needs_person() {
            self.answer_failed(env, &refusal);
        }
        self.sign_in = SignIn::None {
            failed: Some(refusal),
        };
    }

    // ---- refreshing ---------------------------------------------------------------------------

    /// Refreshes now, or as soon as the floor and the provider allow.
    fn refresh_soon(&mut self, env: &mut Env) {
        let earliest = self.earliest_request(env.common);
        match self.phase_mut() {
            Some(Phase::Failing { wanted, .. }) => *wanted = true,
            Some(phase) => *phase = Phase::Wanted,
            None => return,
        }
        if earliest <= env.now.instant && !self.is_exchanging() && !env.common.held {
            self.start_refresh(env);
        }
    }

    fn start_refresh(&mut self, env: &mut Env) {
        let attempt = env.attempt();
        let Some(phase) = self.phase_mut() else {
            return;
        };
        let trouble = match std::mem::replace(phase, Phase::Wanted) {
            Phase::Failing { trouble, .. } => Some(trouble),
            Phase::Waiting | Phase::Wanted | Phase::Rejected { .. } | Phase::Parked { .. } => None,
            busy @ (Phase::InFlight { .. } | Phase::Probing { .. }) => {
                *phase = busy;
                return;
            }
        };
        *phase = Phase::InFlight { attempt, trouble };
        self.send(env, attempt);
    }

    // ---- asking the token endpoint --------------------------------------------------------------

    /// Makes the request of an operation in flight, unless it has to wait for the client secret:
    /// then [`Account::secret_outcome`] does.
    fn send(&mut self, env: &mut Env, attempt: AttemptId) {
        if self.locate_for(env, attempt).is_none() {
            return;
        }
        match self.asked(attempt) {
            Some(Asked::Exchange | Asked::Refresh) => self.send_token_request(env, attempt),
            Some(Asked::Code) => self.send_device_request(env, attempt),
            Some(Asked::Poll) => self.send_poll(env, attempt),
            Some(Asked::Revocation) => self.send_revocation(env, attempt),
            None => {}
        }
    }

    fn send_token_request(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(endpoints) = self.location.known().cloned() else {
            return;
        };
        let usual = endpoints.client_auth();
        let Some(credentials) = self.credentials.get(env, &self.name, attempt, usual) else {
            return;
        };
        let endpoint = endpoints.at(&endpoints.token_uri);
        let request = match (&self.sign_in, &self.held) {
            (SignIn::Exchanging(exchanging), _) if exchanging.phase.is(attempt) => {
                token::exchange_request(
                    endpoint,
                    &self.registration,
                    &credentials,
                    &exchanging.code,
                    &exchanging.browser.verifier,
                    &exchanging.browser.redirect_uri,
                )
            }
            (
                _,
                Held::Grant(Grant {
                    renewal: Renewal::With { refresh_token, .. },
                    ..
                }),
            ) => token::refresh_request(endpoint, &self.registration, &credentials, refresh_token),
            (_, Held::Grant(_) | Held::Nothing) => return,
        };
        self.last_request = Some(env.now.instant);
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request,
        });
    }

    /// What the operation `attempt` asks for, if it is still wanted.
    fn asked(&self, attempt: AttemptId) -> Option<Asked> {
        if self.revocations.iter().any(|it| it.is(attempt)) {
            return Some(Asked::Revocation);
        }
        match &self.sign_in {
            SignIn::Exchanging(exchanging) if exchanging.phase.is(attempt) => {
                return Some(Asked::Exchange);
            }
            SignIn::Pending(pending) if pending.device.asks(attempt) => return Some(Asked::Code),
            SignIn::Pending(pending) if pending.device.polled(attempt).is_some() => {
                return Some(Asked::Poll);
            }
            SignIn::None { .. }
            | SignIn::Discovering(_)
            | SignIn::Pending(_)
            | SignIn::Exchanging(_) => {}
        }
        match self.phase() {
            Some(Phase::InFlight { attempt: id, .. }) if *id == attempt => Some(Asked::Refresh),
            _ => None,
        }
    }

    /// `client_secret_cmd` has ended; without a secret, what waited for it has failed.
    pub fn secret_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        secret: Result<Secret, String>,
    ) {
        let (secret, why) = match secret {
            Ok(secret) => (Some(secret), None),
            Err(why) => (None, Some(why)),
        };
        for request in self.credentials.answered(attempt, secret) {
            match &why {
                None => self.send(env, request),
                Some(why) => {
                    let refusal = Refusal {
                        text: format!("no client secret: {why}"),
                        hint: None,
                    };
                    self.not_sent(env, request, refusal);
                }
            }
        }
    }

    /// A request couldn't be made, for a reason that may pass.
    fn not_sent(&mut self, env: &mut Env, attempt: AttemptId, refusal: Refusal) {
        let retry_after = None;
        match self.asked(attempt) {
            Some(Asked::Exchange | Asked::Refresh) => {
                let verdict = Verdict::Transient {
                    refusal,
                    retry_after,
                    cause: Cause::Passing,
                };
                self.conclude(env, attempt, env.now.instant, verdict);
            }
            Some(Asked::Code) => self.device_over(env, true, Some(refusal)),
            Some(Asked::Poll) => self.poll_troubled(env, false, None, &refusal),
            Some(Asked::Revocation) => {
                let verdict = revocation::Verdict::Later {
                    refusal,
                    retry_after,
                };
                self.revocation_outcome(env, attempt, verdict);
            }
            None => {}
        }
    }

    /// What came back from the token endpoint, or from another that takes a token.
    pub fn token_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        sent: Instant,
        outcome: &Outcome,
    ) {
        let Some(endpoints) = self.location.known().cloned() else {
            // Whatever was sent went to one that was known, and none is forgotten.
            return;
        };
        match self.asked(attempt) {
            Some(Asked::Exchange) => {
                let grant_type = GrantType::AuthorizationCode;
                let verdict = self.judge(env, &endpoints, grant_type, outcome);
                self.conclude(env, attempt, sent, verdict);
            }
            Some(Asked::Refresh) => {
                let verdict = self.judge(env, &endpoints, GrantType::RefreshToken, outcome);
                self.conclude(env, attempt, sent, verdict);
            }
            Some(Asked::Code) => self.device_started(env, &endpoints, sent, outcome),
            Some(Asked::Poll) => self.polled(env, &endpoints, attempt, sent, outcome),
            Some(Asked::Revocation) => {
                self.revocation_answered(env, &endpoints, attempt, outcome);
            }
            None => {}
        }
    }

    /// The end of an operation in flight.
    fn conclude(&mut self, env: &mut Env, attempt: AttemptId, sent: Instant, verdict: Verdict) {
        match std::mem::replace(&mut self.sign_in, SignIn::None { failed: None }) {
            SignIn::Exchanging(exchanging) if exchanging.phase.is(attempt) => {
                return self.exchange_outcome(env, exchanging, sent, verdict);
            }
            other => self.sign_in = other,
        }
        let Some(phase) = self.phase_mut() else {
            return;
        };
        match std::mem::replace(phase, Phase::Wanted) {
            Phase::InFlight {
                attempt: id,
                trouble,
            } if id == attempt => {
                self.refresh_outcome(env, trouble, sent, verdict);
            }
            other => *phase = other,
        }
    }

    fn judge(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        grant_type: GrantType,
        outcome: &Outcome,
    ) -> Verdict {
        let registration = self.registration.clone();
        let (endpoint, scopes) = (&endpoints.token_uri, &registration.scopes);
        let verdict = token::judge(grant_type, endpoint, scopes, outcome, env.now.wall);
        match &verdict {
            Verdict::Granted(tokens) => {
                for warning in &tokens.warnings {
                    if !self.warned.contains(warning) {
                        env.log(Level::Warn, &self.name, warning.clone());
                    }
                }
                self.warned.clone_from(&tokens.warnings);
            }
            Verdict::Transient {
                retry_after: Some(span),
                ..
            } => env.set_pause(endpoint, *span),
            // It may be the secret that is out of date.
            Verdict::Parked(_) => self.credentials.forget(),
            Verdict::Transient { .. } | Verdict::LoginNeeded(_) => {}
        }
        verdict
    }

    fn refresh_outcome(
        &mut self,
        env: &mut Env,
        trouble: Option<Trouble>,
        sent: Instant,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Granted(mut tokens) => {
                // What the reply doesn't say is as it was (RFC 6749, 6).
                tokens.scopes = tokens.scopes.or_else(|| self.granted_scopes());
                self.granted(env, tokens, sent);
                if trouble.is_some() {
                    env.news(&self.name, Happening::RefreshRecovered);
                }
                self.announce(env, TokenEvent::Refreshed);
                self.answer_after_grant(env);
            }
            Verdict::LoginNeeded(refusal) => self.rejected(env, trouble.as_ref(), refusal),
            Verdict::Parked(refusal) => {
                env.error(
                    &self.name,
                    format!("refreshing has stopped: {}", told(&refusal)),
                );
                let reason = reason(&refusal);
                env.news(&self.name, Happening::RefreshStopped { reason });
                self.answer_parked(env, &refusal);
                let since = env.now.wall;
                self.set_phase(Phase::Parked { refusal, since });
            }
            // Its Retry-After has become a pause of the endpoint.
            Verdict::Transient { refusal, cause, .. } => {
                let failure = Failure { refusal, cause };
                match env.config().transient_error_if_cmd.clone() {
                    Some(command) => self.probe(env, command, trouble, failure),
                    None => self.failing(env, trouble, failure),
                }
            }
        }
    }

    fn probe(
        &mut self,
        env: &mut Env,
        command: String,
        trouble: Option<Trouble>,
        failure: Failure,
    ) {
        let attempt = env.attempt();
        env.emit(Effect::Probe {
            account: self.name.clone(),
            attempt,
            command,
        });
        self.set_phase(Phase::Probing {
            attempt,
            trouble,
            failure,
        });
    }

    /// `transient_error_if_cmd` has judged the last failure.
    pub fn probe_outcome(&mut self, env: &mut Env, attempt: AttemptId, transient: bool) {
        let Some(phase) = self.phase_mut() else {
            return;
        };
        match std::mem::replace(phase, Phase::Wanted) {
            Phase::Probing {
                attempt: id,
                trouble,
                failure,
            } if id == attempt => {
                if transient {
                    return self.failing(env, trouble, failure);
                }
                if let Held::Grant(grant) = &mut self.held {
                    grant.access = None;
                    env.tokens_changed();
                }
                self.rejected(env, None, failure.refusal);
            }
            other => *phase = other,
        }
    }

    fn failing(&mut self, env: &mut Env, before: Option<Trouble>, failure: Failure) {
        let mut trouble = Trouble::after(before, &failure, env.now);
        let [jitter, ..] = env.bytes32();
        let delay = schedule::retry_delay(&self.policy, trouble.failures, jitter);
        let earliest = self.earliest_request(env.common);
        let delay = delay.max(earliest.since(env.now.instant));
        let message = format!(
            "refresh failed, trying again in {}: {}",
            crate::time::humane(delay),
            told(&trouble.refusal)
        );
        let span = env.now.instant.since(trouble.since.instant);
        let lasts = span >= schedule::TROUBLE_NOTICE_AFTER
            || trouble.unexplained >= schedule::MAX_UNEXPLAINED;
        if !trouble.told && lasts {
            trouble.told = true;
            env.error(&self.name, message);
        } else {
            env.log(Level::Warn, &self.name, message);
        }
        env.news(
            &self.name,
            Happening::RefreshFailing {
                failures: trouble.failures,
                at: env.now.wall_at(env.now.instant.after(delay)),
                reason: reason(&trouble.refusal),
            },
        );
        self.answer_impatient(env, || Show::Refreshing {
            trouble: Some(trouble.refusal.clone()),
        });
        self.set_phase(Phase::Failing {
            trouble,
            failed: env.now.instant,
            jitter,
            wanted: false,
        });
    }

    fn rejected(&mut self, env: &mut Env, before: Option<&Trouble>, mut refusal: Refusal) {
        if before.is_some_and(|trouble| trouble.lost) {
            refusal.text += LOST_BEFORE;
        }
        env.error(
            &self.name,
            format!("authorisation needed again: {}", told(&refusal)),
        );
        let reason = reason(&refusal);
        env.news(&self.name, Happening::AuthorisationNeeded { reason });
        self.set_phase(Phase::Rejected {
            refusal: refusal.clone(),
            since: env.now.wall,
        });
        self.announce(env, TokenEvent::Invalidated);
        self.ask_for_waiting(env, refusal);
    }

    /// The scopes that the provider has granted, if it said.
    fn granted_scopes(&self) -> Option<Vec<String>> {
        match &self.held {
            Held::Grant(grant) => Some(grant.access.as_ref()?.scopes.as_ref()?.to_vec()),
            Held::Nothing => None,
        }
    }

    /// New tokens.
    fn granted(&mut self, env: &mut Env, tokens: Tokens, sent: Instant) {
        env.tokens_changed();
        for token in [Some(&tokens.access_token), tokens.refresh_token.as_ref()] {
            token.inspect(|token| token.bind(self.registration.mark()));
        }
        let origins = self.location.known().and_then(|it| it.origins.clone());
        let refresh_token = tokens.refresh_token.map(Arc::new);
        let renewal = self.succeed(refresh_token.map(|token| (token, origins.clone())));
        self.held = Held::Grant(Grant {
            access: Some(Access {
                token: Arc::new(tokens.access_token),
                expires: tokens.expires_in.map(|life| sent.after(life)),
                origins,
                scopes: tokens.scopes.map(Arc::from),
            }),
            renewal,
            obtained: Now {
                instant: sent,
                wall: env.now.wall_at(sent),
            },
        });
    }

    // ---- telling the provider of a revoke -------------------------------------------------------

    /// What the provider is to be told of tokens that are held no longer.
    fn revocation_of(
        &self,
        held: Held,
        access_is_valid: bool,
        attempt: AttemptId,
        waiter: Waiter,
    ) -> Option<Revocation> {
        let Held::Grant(grant) = held else {
            return None;
        };
        let endpoints = self.location.known();
        if endpoints.is_some_and(|endpoints| endpoints.revocation_uri.is_none()) {
            return None;
        }
        let refresh = match grant.renewal {
            Renewal::With {
                refresh_token,
                origins,
                ..
            } => Some((refresh_token, origins)),
            Renewal::Impossible => None,
        };
        let access = grant.access.filter(|_| access_is_valid);
        let access = access.map(|access| (access.token, access.origins));
        Revocation::new(refresh, access, attempt, waiter)
    }

    /// Sends the next request of a revocation, unless nothing is to be sent for now.
    fn tell_provider(&mut self, env: &mut Env, attempt: AttemptId) {
        let mut all = self.revocations.iter_mut();
        match all.find(|it| it.is(attempt)) {
            Some(revocation) if env.common.held => revocation.put_off(env.now.instant),
            Some(_) | None => self.send(env, attempt),
        }
    }

    fn send_revocation(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(endpoints) = self.location.known().cloned() else {
            return;
        };
        let Some(revocation) = self.revocations.iter().find(|it| it.is(attempt)) else {
            return;
        };
        let Some(endpoint) = endpoints.revocation_for(revocation.origins()) else {
            let verdict = match &endpoints.revocation_uri {
                None => revocation::Verdict::Refused(no_revocation()),
                Some(uri) => revocation::Verdict::Refused(revoked_elsewhere(uri)),
            };
            return self.revocation_outcome(env, attempt, verdict);
        };
        let usual = endpoints.client_auth();
        let Some(credentials) = self.credentials.get(env, &self.name, attempt, usual) else {
            return;
        };
        let (token_type, token) = revocation.token();
        let client_id = &self.registration.client_id;
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request: revocation::request(
                endpoints.at(endpoint),
                client_id,
                &credentials,
                token_type,
                token,
            ),
        });
    }

    fn revocation_answered(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        attempt: AttemptId,
        outcome: &Outcome,
    ) {
        // A reload may have taken it out of the config while the request was under way: an answer
        // is one all the same.
        let endpoint = endpoints.revocation_uri.as_ref();
        let endpoint = endpoint.unwrap_or(&endpoints.token_uri);
        let verdict = revocation::judge(endpoint, outcome, env.now.wall);
        self.revocation_outcome(env, attempt, verdict);
    }

    fn revocation_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        verdict: revocation::Verdict,
    ) {
        let Some(at) = self.revocations.iter().position(|it| it.is(attempt)) else {
            return;
        };
        let next = env.attempt();
        let mut revocation = self.revocations.swap_remove(at);
        match revocation.conclude(env.now.instant, verdict, next) {
            Step::Send => {
                self.revocations.push(revocation);
                self.tell_provider(env, next);
            }
            Step::Wait(refusal) => {
                let message = format!("will tell the provider again: {}", told(&refusal));
                env.log(Level::Warn, &self.name, message);
                self.revocations.push(revocation);
            }
            Step::Over(result) => self.revocation_over(env, revocation, result),
        }
    }

    fn revocation_over(&self, env: &mut Env, revocation: Revocation, result: Result<(), Refusal>) {
        match &result {
            Ok(()) => env.log(
                Level::Info,
                &self.name,
                "the provider has revoked the tokens",
            ),
            Err(refusal) => {
                let message = format!("the provider has not revoked the tokens: {}", told(refusal));
                env.log(Level::Warn, &self.name, message);
            }
        }
        env.emit(Effect::Settled {
            what: Ended::Revocation,
            waiters: revocation.waiters,
            account: self.name.clone(),
            result,
        });
    }

    /// What renews tokens that came with `refresh_token`, or with none. The held refresh token is
    /// given up only for another one.
    fn succeed(&mut self, refresh_token: Option<(Arc<Secret>, Origins)>) -> Renewal {
        if let Some((refresh_token, origins)) = refresh_token {
            return Renewal::With {
                refresh_token,
                origins,
                phase: Phase::Waiting,
            };
        }
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing
            | Held::Grant(Grant {
                renewal: Renewal::Impossible,
                ..
            }) => Renewal::Impossible,
            Held::Grant(Grant {
                renewal:
                    Renewal::With {
                        refresh_token,
                        origins,
                        phase,
                    },
                ..
            }) => Renewal::With {
                refresh_token,
                origins,
                phase: match phase {
                    // Of no use, but only a successor ends it.
                    rejected @ Phase::Rejected { .. } => rejected,
                    // On its way, and it may come back as another.
                    in_flight @ Phase::InFlight { .. } => in_flight,
                    Phase::Waiting
                    | Phase::Wanted
                    | Phase::Failing { .. }
                    | Phase::Probing { .. }
                    | Phase::Parked { .. } => Phase::Waiting,
                },
            },
        }
    }

    // ---- dump, restore, status ----------------------------------------------------------------

    /// What a dump carries of this account.
    pub fn saved(&self, now: Now) -> Option<Saved> {
        let Held::Grant(grant) = &self.held else {
            return None;
        };
        Some(Saved {
            account: self.name.clone(),
            registration: self.registration.clone(),
            access: grant.access.as_ref().map(|access| SavedAccess {
                token: access.token.clone(),
                expires: access.expires.map(|at| now.wall_at(at)),
                origins: access.origins.clone(),
                scopes: access.scopes.clone(),
            }),
            refresh_token: match &grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { refresh_token, .. } => Some(refresh_token.clone()),
            },
            refresh_origins: match &grant.renewal {
                Renewal::Impossible => None,
                Renewal::With { origins, .. } => origins.clone(),
            },
            obtained: now.wall_at(grant.obtained.instant),
        })
    }

    /// Takes `saved` if it is of this registration and newer than what is held.
    pub fn restore(&mut self, env: &mut Env, saved: Saved) -> bool {
        if saved.registration != self.registration {
            return false;
        }
        let asked = env.now.instant_at(saved.obtained);
        // Tokens from the future were asked for before the clock was set back: they live no longer
        // for that, and nobody knows whether they are newer than what is held.
        let obtained = asked.min(env.now.instant);
        let ahead = asked.since(obtained);
        if let Held::Grant(grant) = &self.held
            && (grant.obtained.instant >= asked
                || (!ahead.is_zero() && self.is_live(env.now.instant)))
        {
            return false;
        }
        env.tokens_changed();
        let access = saved.access.as_ref().map(|access| &access.token);
        for token in [access, saved.refresh_token.as_ref()] {
            token.inspect(|token| token.bind(saved.registration.mark()));
        }
        let refresh_token = saved.refresh_token;
        let renewal = self.succeed(refresh_token.map(|token| (token, saved.refresh_origins)));
        self.held = Held::Grant(Grant {
            access: saved.access.map(|access| Access {
                token: access.token,
                expires: access
                    .expires
                    .map(|at| env.now.instant_at(at).before(ahead)),
                origins: access.origins,
                scopes: access.scopes,
            }),
            renewal,
            obtained: Now {
                instant: obtained,
                wall: env.now.wall_at(obtained),
            },
        });
        let expires = self.expires(env.now);
        env.news(&self.name, Happening::TokenRestored { expires });
        self.keep_tokens_from_strangers(env);
        self.bring_for_waiting(env);
        true
    }

    /// What `status` shows.
    pub fn view(&self, now: Now, common: &Common) -> AccountView {
        let grant = match &self.held {
            Held::Nothing => None,
            Held::Grant(grant) => Some(grant),
        };
        AccountView {
            account: self.name.to_string(),
            access: grant.and_then(|grant| {
                let access = grant.access.as_ref()?;
                Some(AccessView {
                    valid: self.valid_access(now.instant).is_some(),
                    obtained: now.wall_at(grant.obtained.instant),
                    expires: access.expires.map(|at| now.wall_at(at)),
                })
            }),
            renewal: grant.map(|grant| self.renewal_view(grant, now, common)),
            sign_in: self.sign_in_view(now),
            discovery: self.discovery_view(common, now),
        }
    }

    fn renewal_view(&self, grant: &Grant, now: Now, common: &Common) -> RenewalView {
        let Renewal::With { phase, .. } = &grant.renewal else {
            return RenewalView::Impossible;
        };
        let at = now.wall_at(
            self.refresh_due(common)
                .unwrap_or(now.instant)
                .max(now.instant),
        );
        match phase {
            Phase::Waiting | Phase::Wanted => RenewalView::Scheduled { at },
            Phase::InFlight { .. } | Phase::Probing { .. } => RenewalView::UnderWay,
            Phase::Failing { trouble, .. } => RenewalView::Failing {
                since: trouble.since.wall,
                failures: trouble.failures,
                at,
                reason: reason(&trouble.refusal),
            },
            Phase::Rejected { refusal, since } => RenewalView::Rejected {
                since: *since,
                reason: reason(refusal),
            },
            Phase::Parked { refusal, since } => RenewalView::Parked {
                since: *since,
                reason: reason(refusal),
            },
        }
    }

    fn sign_in_view(&self, now: Now) -> SignInView {
        match &self.sign_in {
            SignIn::None { failed } => SignInView::None {
                failed: failed.as_ref().map(reason),
            },
            SignIn::Discovering(discovering) => SignInView::Discovering {
                since: discovering.since.wall,
            },
            SignIn::Pending(pending) => SignInView::Pending {
                since: pending.since.wall,
                reminded: pending.reminded.map(|now| now.wall),
                device: pending.device.view(now),
            },
            SignIn::Exchanging(exchanging) => SignInView::Exchanging {
                since: exchanging.since.wall,
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
            Held::Nothing => None,
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
            Held::Nothing => None,
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

impl Trouble {
    /// The row of failures with one more.
    fn after(before: Option<Trouble>, failure: &Failure, now: Now) -> Self {
        let mut trouble = before.unwrap_or_else(|| Trouble {
            since: now,
            failures: 0,
            unexplained: 0,
            lost: false,
            refusal: failure.refusal.clone(),
            told: false,
        });
        let same = trouble.refusal == failure.refusal;
        trouble.unexplained = match (failure.cause, same) {
            (Cause::Unexplained, true) => trouble.unexplained.saturating_add(1),
            (Cause::Unexplained, false) => 1,
            (Cause::Passing | Cause::Lost, _) => 0,
        };
        trouble.lost |= failure.cause == Cause::Lost;
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.refusal = failure.refusal.clone();
        trouble
    }
}

/// What a refusal after a lost reply may come from: a provider that replaces its refresh tokens
/// takes the second use of one for theft (RFC 9700, 4.14.2).
const LOST_BEFORE: &str =
    "; an earlier reply was lost on the way, and a new refresh token perhaps with it";

/// Why nobody can be told that a token is no longer wanted.
fn no_revocation() -> Refusal {
    Refusal {
        text: "there is no revocation endpoint, or none any more".into(),
        hint: None,
    }
}

/// Why a token isn't sent to be revoked.
fn revoked_elsewhere(uri: &Url) -> Refusal {
    Refusal {
        text: format!(
            "the issuer now names the revocation endpoint {uri}, of another origin than when you \
             signed in; the tokens are not sent there"
        ),
        hint: None,
    }
}

/// A refusal and its hint as one line.
fn told(refusal: &Refusal) -> String {
    match &refusal.hint {
        Some(hint) => format!("{} ({hint})", refusal.text),
        None => refusal.text.clone(),
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
