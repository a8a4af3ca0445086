//! The device code as one of a sign-in's channels (RFC 8628): asked for when the sign-in starts,
//! polled until the user has entered it, and dropped when another channel was first.

use std::time::Duration;

use log::Level;

use super::{Code, Device, Ended, Endpoints, Env, LiveAccount, Reminder, SignIn};
use crate::{
    core::{
        attempt::{AttemptId, Dispatch},
        schedule,
    },
    oauth::{
        device::{self, Poll},
        token::{Cause, Outcome, Refusal, Verdict},
    },
    time::Instant,
};

impl LiveAccount {
    /// Asks for a code if the sign-in under way could use one, now or as soon as that is allowed;
    /// whether the answer is waited for.
    pub(super) fn start_device(&mut self, env: &mut Env) -> bool {
        let endpoints = self.endpoints.as_ref();
        let wanted = endpoints.is_some_and(|it| it.device_auth_uri.is_some());
        let SignIn::Pending(pending) = &mut self.state.sign_in else {
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
        let earliest = schedule::earliest(self.state.last_device_request, None, None);
        let SignIn::Pending(pending) = &mut self.state.sign_in else {
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
        if schedule::earliest(self.state.last_device_request, None, None) <= env.now.instant {
            self.start_device(env);
        }
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
                if let SignIn::Pending(pending) = &mut self.state.sign_in {
                    authorization.device_code.bind(self.registration.mark());
                    pending.device = Device::Code(Box::new(Code::new(authorization, sent)));
                }
                self.settle(env, Ended::Code, Ok(()));
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

    /// Asks for a code, polls, or lets the code expire.
    pub(super) fn tick_device(&mut self, env: &mut Env) {
        let now = env.now.instant;
        let device = self.state.sign_in.pending().map(|it| &it.device);
        if matches!(device, Some(Device::Wanted)) {
            let endpoints = self.endpoints.as_ref();
            return if endpoints.is_some_and(|it| it.device_auth_uri.is_some()) {
                self.ask_for_code(env);
            } else {
                self.device_over(env, true, None);
            };
        }
        let Some(code) = self.state.sign_in.code_mut() else {
            return;
        };
        let Some(at) = code.dispatch.due() else {
            // The answer on its way may be the tokens.
            return;
        };
        if code.expires <= now {
            let refusal = Refusal::new(device::EXPIRED).hint(Some(device::ANOTHER));
            return self.device_over(env, true, Some(refusal));
        }
        if at <= now {
            let attempt = env.attempt();
            code.dispatch = Dispatch::InFlight(attempt);
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
        let code = self.state.sign_in.code_mut();
        let Some(code) = code.filter(|code| code.dispatch.is(attempt)) else {
            return;
        };
        let (endpoint, scopes) = (&endpoints.token_uri, &self.registration.scopes);
        let wall = env.now.wall;
        let poll = device::judge_poll(endpoint, scopes, code.interval, code.lost, outcome, wall);
        match poll {
            Poll::Other(Verdict::Granted(tokens)) => {
                for warning in &tokens.warnings {
                    env.log(Level::Warn, &self.name, warning.clone());
                }
                self.spend_pending(env, Ok(()));
                self.end_sign_in(env, Ok(()));
                self.signed_in(env, tokens, sent);
            }
            Poll::Pending(interval) => self.poll_again(env, Some(interval), false, None),
            Poll::Other(Verdict::Transient {
                refusal,
                retry_after,
                cause,
            }) => self.poll_troubled(env, cause == Cause::Lost, retry_after, &refusal),
            Poll::Expired(refusal) => self.device_over(env, true, Some(refusal)),
            Poll::Denied(refusal) => self.pending_failed(env, refusal),
            Poll::Other(Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal)) => {
                // It may be the secret that is out of date.
                self.credentials.forget();
                let refusal = refusal.with_consent_address(&self.registration);
                self.device_over(env, false, Some(refusal));
            }
        }
    }

    /// A poll got no answer; it is repeated until the code expires.
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
        let Some(code) = self.state.sign_in.code_mut() else {
            return;
        };
        match interval {
            Some(interval) => (code.interval, code.troubles) = (interval, 0),
            None => code.troubles = code.troubles.saturating_add(1),
        }
        // Once lost, it stays so until the provider says that the user has not agreed.
        code.lost = interval.is_none() && (lost || code.lost);
        let delay = device::delay(code.interval, code.troubles);
        let delay = delay.max(retry_after.unwrap_or_default());
        code.dispatch = Dispatch::At(env.now.instant.after(delay));
    }

    /// This channel is closed. The sign-in goes on if it has another, and ends if not.
    pub(super) fn device_over(&mut self, env: &mut Env, again: bool, refusal: Option<Refusal>) {
        let SignIn::Pending(pending) = &mut self.state.sign_in else {
            return;
        };
        let other = pending.browser.is_some();
        let asked = pending.device.is_to_come();
        pending.device = Device::Over { again };
        self.settle(env, Ended::Code, Ok(()));
        if !other {
            let none = || Refusal::new("there is no longer an endpoint for device codes");
            return self.pending_failed(env, refusal.unwrap_or_else(none));
        }
        if let Some(refusal) = refusal {
            let message = format!("no sign-in by code: {}", refusal.line());
            env.log(Level::Warn, &self.name, message);
        }
        if asked && self.is_reminder_due(env) {
            self.remind(env, Reminder::WithWhatThereIs);
        }
    }
}
