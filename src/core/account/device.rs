//! The device code as one of a sign-in's channels (RFC 8628): asked for when the sign-in starts,
//! polled until somebody has entered it, and dead when another channel was first.

use std::{sync::Arc, time::Duration};

use log::Level;
use serde::{Deserialize, Serialize};

use super::{Account, Endpoints, Env, Pending, Reminder, SignIn};
use crate::{
    core::{AttemptId, Effect, Ended, dump, schedule},
    oauth::{
        device::{self, Authorization, Poll},
        token::{Outcome, Refusal},
    },
    secret::{Mark, Secret},
    time::{Instant, Now},
    view::DeviceView,
};

/// The device channel of a pending sign-in.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum Device {
    /// The config has no endpoint for it.
    None,
    /// A code is to be asked for as soon as that is allowed; reminders wait for it.
    Wanted,
    /// The code is being asked for; reminders wait for it.
    Asking(AttemptId),
    /// There is a code.
    Code(Box<Code>),
    /// There was one, or none could be had.
    Over {
        /// Whether another may be asked for, at the next reminder.
        again: bool,
    },
}

/// A code that waits for the user.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Code {
    authorization: Authorization,
    expires: Instant,
    interval: Duration,
    /// Polls without an answer, in a row.
    troubles: u32,
    /// The reply to the last poll was lost.
    lost: bool,
    phase: PollPhase,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum PollPhase {
    PollAt(Instant),
    InFlight(AttemptId),
}

/// A [`Device`] on its way to a successor of this process.
#[derive(Serialize, Deserialize)]
pub(super) enum CarriedDevice {
    None,
    Wanted,
    Over {
        again: bool,
    },
    Code {
        #[serde(with = "dump::secret")]
        device_code: Arc<Secret>,
        user_code: String,
        verification_uri: String,
        verification_uri_complete: Option<String>,
        expires: u64,
        interval: Duration,
        troubles: u32,
        lost: bool,
        /// When the next poll is due, if none is outstanding.
        poll_at: Option<u64>,
    },
}

impl CarriedDevice {
    /// Says under which registration the code was issued.
    pub(super) fn bind(&self, mark: Mark) {
        match self {
            CarriedDevice::None | CarriedDevice::Wanted | CarriedDevice::Over { .. } => {}
            CarriedDevice::Code { device_code, .. } => device_code.bind(mark),
        }
    }
}

impl Device {
    /// When [`Account::tick_device`] wants to be called; `asked` is when the account last asked
    /// for a code.
    pub(super) fn due(&self, asked: Option<Instant>) -> Option<Instant> {
        match self {
            Device::Wanted => Some(schedule::earliest(asked, None)),
            Device::Code(code) => match code.phase {
                PollPhase::PollAt(at) => Some(at.min(code.expires)),
                PollPhase::InFlight(_) => None,
            },
            Device::None | Device::Asking(_) | Device::Over { .. } => None,
        }
    }

    /// Whether there may soon be a code, so that reminders and users wait for it.
    pub(super) fn is_to_come(&self) -> bool {
        match self {
            Device::Wanted | Device::Asking(_) => true,
            Device::None | Device::Code(_) | Device::Over { .. } => false,
        }
    }

    /// The request of it that has no answer yet.
    pub(super) fn awaits_reply(&self) -> Option<AttemptId> {
        match self {
            Device::Asking(attempt) => Some(*attempt),
            Device::Code(code) => match code.phase {
                PollPhase::InFlight(attempt) => Some(attempt),
                PollPhase::PollAt(_) => None,
            },
            Device::None | Device::Wanted | Device::Over { .. } => None,
        }
    }

    /// What a successor of this process needs.
    pub(super) fn carried(&self) -> CarriedDevice {
        match self {
            Device::None => CarriedDevice::None,
            Device::Wanted | Device::Asking(_) => CarriedDevice::Wanted,
            Device::Over { again } => CarriedDevice::Over { again: *again },
            Device::Code(code) => CarriedDevice::Code {
                device_code: code.authorization.device_code.clone(),
                user_code: code.authorization.user_code.clone(),
                verification_uri: code.authorization.verification_uri.clone(),
                verification_uri_complete: code.authorization.verification_uri_complete.clone(),
                expires: code.expires.millis(),
                interval: code.interval,
                troubles: code.troubles,
                lost: code.lost,
                poll_at: match code.phase {
                    PollPhase::PollAt(at) => Some(at.millis()),
                    PollPhase::InFlight(_) => None,
                },
            },
        }
    }

    /// Goes on where a predecessor was.
    pub(super) fn adopt(carried: CarriedDevice, now: Now) -> Self {
        match carried {
            CarriedDevice::None => Device::None,
            CarriedDevice::Wanted => Device::Wanted,
            CarriedDevice::Over { again } => Device::Over { again },
            CarriedDevice::Code {
                device_code,
                user_code,
                verification_uri,
                verification_uri_complete,
                expires,
                interval,
                troubles,
                lost,
                poll_at,
            } => {
                let poll_at = poll_at.map_or(now.instant.after(interval), Instant::from_millis);
                let expires = Instant::from_millis(expires);
                Device::Code(Box::new(Code {
                    authorization: Authorization {
                        device_code,
                        user_code,
                        verification_uri,
                        verification_uri_complete,
                        expires_in: expires.since(now.instant),
                        interval,
                    },
                    expires,
                    interval,
                    troubles,
                    lost,
                    phase: PollPhase::PollAt(poll_at),
                }))
            }
        }
    }

    /// Whether `attempt` asks for a code.
    pub(super) fn asks(&self, attempt: AttemptId) -> bool {
        matches!(self, Device::Asking(id) if *id == attempt)
    }

    /// Which attempt asks for a code, and which polls for one.
    #[cfg(test)]
    pub(super) fn attempts(&self) -> (Option<AttemptId>, Option<AttemptId>) {
        match self {
            Device::Asking(attempt) => (Some(*attempt), None),
            Device::Code(code) => match code.phase {
                PollPhase::InFlight(attempt) => (None, Some(attempt)),
                PollPhase::PollAt(_) => (None, None),
            },
            Device::None | Device::Wanted | Device::Over { .. } => (None, None),
        }
    }

    /// The code that `attempt` polls for.
    pub(super) fn polled(&self, attempt: AttemptId) -> Option<&Code> {
        match self {
            Device::Code(code) if matches!(code.phase, PollPhase::InFlight(id) if id == attempt) => {
                Some(code)
            }
            Device::None
            | Device::Wanted
            | Device::Asking(_)
            | Device::Code(_)
            | Device::Over { .. } => None,
        }
    }

    /// What the user needs to know.
    pub(super) fn view(&self, now: Now) -> Option<DeviceView> {
        let Device::Code(code) = self else {
            return None;
        };
        Some(DeviceView {
            user_code: code.authorization.user_code.clone(),
            verification_uri: code.authorization.verification_uri.clone(),
            verification_uri_complete: code.authorization.verification_uri_complete.clone(),
            expires: now.wall_at(code.expires),
        })
    }
}

impl Code {
    fn new(authorization: Authorization, sent: Instant) -> Self {
        Code {
            expires: sent.after(authorization.expires_in),
            interval: authorization.interval,
            troubles: 0,
            lost: false,
            phase: PollPhase::PollAt(sent.after(authorization.interval)),
            authorization,
        }
    }
}

impl Account {
    /// Asks for a code if the sign-in under way could use one, now or as soon as that is allowed;
    /// whether the answer is waited for.
    pub(super) fn start_device(&mut self, env: &mut Env) -> bool {
        let endpoints = self.location.known();
        let wanted = endpoints.is_some_and(|it| it.device_auth_uri.is_some());
        let SignIn::Pending(pending) = &mut self.sign_in else {
            return false;
        };
        match pending.device {
            Device::Wanted | Device::Asking(_) => true,
            Device::Over { again: true } if wanted => {
                pending.device = Device::Wanted;
                self.ask_for_code(env);
                true
            }
            Device::None | Device::Code(_) | Device::Over { .. } => false,
        }
    }

    /// Asks for the code that is wanted, if that is allowed by now.
    fn ask_for_code(&mut self, env: &mut Env) {
        let earliest = schedule::earliest(self.last_device_request, None);
        let SignIn::Pending(pending) = &mut self.sign_in else {
            return;
        };
        if earliest <= env.now.instant && !env.common.held {
            let attempt = env.attempt();
            pending.device = Device::Asking(attempt);
            self.send(env, attempt);
        }
    }

    /// Replaces a code that has expired, or that couldn't be had, but not too often.
    pub(super) fn renew_device(&mut self, env: &mut Env) {
        if schedule::earliest(self.last_device_request, None) <= env.now.instant {
            self.start_device(env);
        }
    }

    /// Makes the request for a code.
    pub(super) fn send_device_request(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(endpoints) = self.location.known().cloned() else {
            return;
        };
        let Some(endpoint) = &endpoints.device_auth_uri else {
            // A reload took it away while the client secret was fetched.
            return self.device_over(env, true, None);
        };
        let usual = endpoints.client_auth();
        let Some(credentials) = self.credentials.get(env, &self.name, attempt, usual) else {
            return;
        };
        let request =
            device::authorization_request(endpoints.at(endpoint), &self.registration, &credentials);
        self.last_device_request = Some(env.now.instant);
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request,
        });
    }

    /// Makes the request that asks whether the code was entered.
    pub(super) fn send_poll(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(endpoints) = self.location.known().cloned() else {
            return;
        };
        let usual = endpoints.client_auth();
        let Some(credentials) = self.credentials.get(env, &self.name, attempt, usual) else {
            return;
        };
        let SignIn::Pending(Pending { device, .. }) = &self.sign_in else {
            return;
        };
        let Some(code) = device.polled(attempt) else {
            return;
        };
        let request = device::poll_request(
            endpoints.at(&endpoints.token_uri),
            &self.registration,
            &credentials,
            &code.authorization.device_code,
        );
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request,
        });
    }

    /// The provider has answered the request for a code.
    pub(super) fn device_started(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        sent: Instant,
        outcome: &Outcome,
    ) {
        let Some(endpoint) = &endpoints.device_auth_uri else {
            return self.device_over(env, true, None);
        };
        match device::judge_authorization(endpoint, outcome, env.now.wall) {
            Ok(authorization) => {
                if let SignIn::Pending(pending) = &mut self.sign_in {
                    authorization.device_code.bind(self.registration.mark());
                    pending.device = Device::Code(Box::new(Code::new(authorization, sent)));
                }
                self.settle_code(env);
                self.remind(env, Reminder::WithWhatThereIs);
            }
            Err((refusal, passes)) => {
                if !passes {
                    // It may be the secret that is out of date.
                    self.credentials.forget();
                }
                self.device_over(env, passes, Some(refusal));
            }
        }
    }

    /// Those who wait for the code hear that it is there, or that there is none.
    fn settle_code(&mut self, env: &mut Env) {
        if let SignIn::Pending(pending) = &mut self.sign_in {
            let waiters = std::mem::take(&mut pending.code_waiters);
            self.settle(env, Ended::Code, waiters, Ok(()));
        }
    }

    /// Asks for a code, polls, or lets the code expire.
    pub(super) fn tick_device(&mut self, env: &mut Env) {
        let now = env.now.instant;
        if let SignIn::Pending(Pending {
            device: Device::Wanted,
            ..
        }) = &self.sign_in
        {
            let endpoints = self.location.known();
            return match endpoints.is_some_and(|it| it.device_auth_uri.is_some()) {
                true => self.ask_for_code(env),
                false => self.device_over(env, true, None),
            };
        }
        let SignIn::Pending(Pending {
            device: Device::Code(code),
            ..
        }) = &mut self.sign_in
        else {
            return;
        };
        let PollPhase::PollAt(at) = code.phase else {
            // The answer on its way may be the tokens.
            return;
        };
        if code.expires <= now {
            let refusal = Refusal {
                text: "the code has expired before anybody entered it".into(),
                hint: Some("sign in again for a new one".into()),
            };
            return self.device_over(env, true, Some(refusal));
        }
        if at <= now {
            let attempt = env.attempt();
            code.phase = PollPhase::InFlight(attempt);
            self.send(env, attempt);
        }
    }

    /// The provider has answered the poll `attempt`.
    pub(super) fn polled(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        attempt: AttemptId,
        sent: Instant,
        outcome: &Outcome,
    ) {
        let SignIn::Pending(pending) = &self.sign_in else {
            return;
        };
        let Some(code) = pending.device.polled(attempt) else {
            return;
        };
        let (endpoint, scopes) = (&endpoints.token_uri, &self.registration.scopes);
        let wall = env.now.wall;
        let poll = device::judge_poll(endpoint, scopes, code.interval, code.lost, outcome, wall);
        match poll {
            Poll::Granted(tokens) => {
                for warning in &tokens.warnings {
                    env.log(Level::Warn, &self.name, warning.clone());
                }
                self.spend_pending(env, Ok(()));
                self.end_sign_in(env, Ok(()));
                self.signed_in(env, tokens, sent);
            }
            Poll::Pending(interval) => self.poll_again(env, Some(interval), false, None),
            Poll::Troubled {
                refusal,
                lost,
                retry_after,
            } => self.poll_troubled(env, lost, retry_after, &refusal),
            Poll::Expired(refusal) => self.device_over(env, true, Some(refusal)),
            Poll::Denied(refusal) => self.pending_failed(env, refusal),
            Poll::Failed(refusal) => {
                // It may be the secret that is out of date.
                self.credentials.forget();
                self.device_over(env, false, Some(refusal));
            }
        }
    }

    /// A poll brought no answer; it is repeated until the code expires.
    pub(super) fn poll_troubled(
        &mut self,
        env: &mut Env,
        lost: bool,
        retry_after: Option<Duration>,
        refusal: &Refusal,
    ) {
        let message = format!(
            "will ask again whether the code was entered: {}",
            refusal.line()
        );
        env.log(Level::Debug, &self.name, message);
        self.poll_again(env, None, lost, retry_after);
    }

    /// Files the next poll; an `interval` is an answer.
    fn poll_again(
        &mut self,
        env: &mut Env,
        interval: Option<Duration>,
        lost: bool,
        retry_after: Option<Duration>,
    ) {
        let SignIn::Pending(Pending {
            device: Device::Code(code),
            ..
        }) = &mut self.sign_in
        else {
            return;
        };
        match interval {
            Some(interval) => (code.interval, code.troubles) = (interval, 0),
            None => code.troubles = code.troubles.saturating_add(1),
        }
        // Once lost, it stays so until the provider says that nobody has agreed.
        code.lost = interval.is_none() && (lost || code.lost);
        let delay = device::delay(code.interval, code.troubles);
        let delay = delay.max(retry_after.unwrap_or_default());
        code.phase = PollPhase::PollAt(env.now.instant.after(delay));
    }

    /// This channel is closed. The sign-in goes on if it has another, and ends if not.
    pub(super) fn device_over(&mut self, env: &mut Env, again: bool, refusal: Option<Refusal>) {
        let SignIn::Pending(pending) = &mut self.sign_in else {
            return;
        };
        let other = pending.browser.is_some();
        let asked = pending.device.is_to_come();
        pending.device = Device::Over { again };
        self.settle_code(env);
        match (other, refusal) {
            (true, refusal) => {
                if let Some(refusal) = refusal {
                    let message = format!("no sign-in by code: {}", refusal.line());
                    env.log(Level::Warn, &self.name, message);
                }
                if asked && self.is_reminder_due(env) {
                    self.remind(env, Reminder::WithWhatThereIs);
                }
            }
            (false, Some(refusal)) => self.pending_failed(env, refusal),
            (false, None) => {
                let refusal = Refusal {
                    text: "there is no longer an endpoint for device codes".into(),
                    hint: None,
                };
                self.pending_failed(env, refusal);
            }
        }
    }
}
