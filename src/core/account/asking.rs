//! What an account asks a provider for: one operation at a time, made, answered, judged and concluded.

use log::Level;
use url::Url;

use super::{Endpoints, Exchanging, LiveAccount, Operation, Phase, Pushed, SignIn};
use crate::{
    config::TokenSource,
    core::{AttemptId, Effect, env::Env, hook::HookInput},
    hook::HookKind,
    oauth::{
        command::{self, CommandFailure},
        pushed, revocation,
        token::{self, Cause, GrantType, Outcome, Refusal, Request, Requester, Verdict},
    },
    secret::Secret,
    time::Instant,
};

impl LiveAccount {
    /// Makes the request of an operation in flight, unless it has to wait for the client secret:
    /// then [`LiveAccount::secret_outcome`] does.
    pub(super) fn send(&mut self, env: &mut Env, attempt: AttemptId) {
        if let TokenSource::Command(command) = &self.registration.source {
            self.state.last_request = Some(env.now.instant);
            let (kind, command) = (HookKind::Token, command.clone());
            return env.run(kind, &self.name, Some(attempt), command, HookInput::None);
        }
        let Some(endpoints) = self.locate_for(env, attempt) else {
            return;
        };
        let Some(operation) = self.operation(attempt) else {
            return;
        };
        // A reload may have taken the endpoint away, and an issuer may name another.
        if operation == Operation::Code && endpoints.device_auth_uri.is_none() {
            return self.device_over(env, true, None);
        }
        if operation == Operation::Push && endpoints.push_uri().is_none() {
            return self.pushed(Pushed::Unneeded);
        }
        if let Some(refusal) = self.no_revocation(&endpoints, attempt) {
            let verdict = revocation::Verdict::Refused(refusal);
            return self.revocation_outcome(env, attempt, verdict);
        }
        if self.credentials.keep_waiting(env, &self.name, attempt) {
            return;
        }
        let Some(request) = self.request(&endpoints, operation, attempt) else {
            return;
        };
        match operation {
            Operation::Exchange | Operation::Refresh => {
                self.state.last_request = Some(env.now.instant);
            }
            Operation::Code => self.state.last_device_request = Some(env.now.instant),
            Operation::Poll | Operation::Push | Operation::Revocation => {}
        }
        self.emit_request(env, operation, attempt, request);
    }

    /// The request of an operation in flight.
    fn request(
        &self,
        endpoints: &Endpoints,
        operation: Operation,
        attempt: AttemptId,
    ) -> Option<Request> {
        let ours = Requester {
            endpoint: endpoints.at(&endpoints.token_uri),
            registration: &self.registration,
            credentials: &self.credentials.proof(endpoints.client_auth()),
        };
        Some(match operation {
            Operation::Exchange => {
                let Exchanging { code, browser, .. } = self.state.sign_in.exchanging()?;
                ours.exchange(code, &browser.verifier, &browser.redirect_uri)
            }
            Operation::Refresh => {
                match &self.state.grant.as_ref()?.renewal.as_ref()?.refresh_token {
                    Some(token) => ours.refresh(token),
                    None => ours.for_itself(),
                }
            }
            Operation::Code => {
                let endpoint = endpoints.at(endpoints.device_auth_uri.as_ref()?);
                Requester { endpoint, ..ours }.device_code()
            }
            Operation::Poll => ours.poll(&self.state.sign_in.pending()?.device.code()?.device_code),
            Operation::Push => {
                let uri = Url::parse(&self.pending_browser()?.uri).ok()?;
                pushed::request(endpoints.at(endpoints.push_uri()?), ours.credentials, &uri)
            }
            Operation::Revocation => {
                let revocation = self.revocation(attempt)?;
                let endpoint = endpoints.at(endpoints.revocation_for(revocation.origins())?);
                let (kind, token) = revocation.token();
                let client_id = &self.registration.client_id;
                revocation::request(endpoint, client_id, ours.credentials, kind, token)
            }
        })
    }

    /// Has a request sent, with what else its answer may not repeat, and how urgent it is.
    fn emit_request(
        &self,
        env: &mut Env,
        operation: Operation,
        attempt: AttemptId,
        mut request: Request,
    ) {
        let grant = self.state.grant.as_ref();
        let access = grant.and_then(|it| it.access.as_ref());
        (request.known).extend(grant.iter().flat_map(|it| it.secrets()).cloned());
        (request.known).extend(self.browser().map(|it| it.state.clone()));
        request.due = match operation {
            Operation::Refresh => match access {
                Some(access) => Some(access.expires.unwrap_or(Instant::from_millis(u64::MAX))),
                None => Some(env.now.instant),
            },
            Operation::Revocation => Some(env.now.instant),
            Operation::Exchange | Operation::Code | Operation::Poll | Operation::Push => None,
        };
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request,
        });
    }

    /// `client_secret_cmd` has ended, and has printed this, or why not (safe to show): without a
    /// secret, what waited for it has failed.
    pub fn secret_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        secret: Result<Secret, String>,
    ) {
        let why = secret.as_ref().err().cloned();
        for request in self.credentials.answered(attempt, secret.ok()) {
            match &why {
                None => self.send(env, request),
                Some(why) => {
                    let refusal = Refusal::new(format!("no client secret: {why}"));
                    self.not_sent(env, request, refusal);
                }
            }
        }
    }

    /// A request couldn't be made, for a reason that may pass.
    pub(super) fn not_sent(&mut self, env: &mut Env, attempt: AttemptId, refusal: Refusal) {
        match self.operation(attempt) {
            Some(Operation::Exchange | Operation::Refresh) => {
                let verdict = Verdict::later(refusal, Cause::Passing);
                self.conclude(env, attempt, env.now.instant, verdict);
            }
            Some(Operation::Code) => self.device_over(env, true, Some(refusal)),
            Some(Operation::Push) => self.pushed(Pushed::Refused(refusal)),
            Some(Operation::Poll) => self.poll_troubled(env, false, None, &refusal),
            Some(Operation::Revocation) => {
                let verdict = revocation::Verdict::Later {
                    refusal,
                    retry_after: None,
                };
                self.revocation_outcome(env, attempt, verdict);
            }
            None => {}
        }
    }

    /// What came back for an [`Effect::Request`]; `sent` is when its bytes left. An outcome whose
    /// attempt is no longer wanted changes nothing.
    pub fn token_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        sent: Instant,
        outcome: &Outcome,
    ) {
        if matches!(outcome, Outcome::NotSent(_)) && self.credentials.signs() {
            // The key may be why: it is read again.
            self.credentials.forget();
        }
        let Some(endpoints) = self.endpoints.clone() else {
            // Every request went to an endpoint that was known, and none is forgotten.
            return;
        };
        match self.operation(attempt) {
            Some(operation @ (Operation::Exchange | Operation::Refresh)) => {
                // It may have waited for a worker since it was made.
                self.state.last_request = self.state.last_request.max(Some(sent));
                let grant_type = if operation == Operation::Exchange {
                    GrantType::AuthorizationCode
                } else if self.registration.source.is_person() {
                    GrantType::RefreshToken
                } else {
                    GrantType::ClientCredentials
                };
                let verdict = self.judge(env, &endpoints, grant_type, outcome);
                self.conclude(env, attempt, sent, verdict);
            }
            Some(Operation::Code) => self.device_started(env, &endpoints, sent, outcome),
            Some(Operation::Push) => self.push_answered(env, &endpoints, sent, outcome),
            Some(Operation::Poll) => self.polled(env, &endpoints, attempt, sent, outcome),
            Some(Operation::Revocation) => {
                self.revocation_answered(env, &endpoints, attempt, outcome);
            }
            None => {}
        }
    }

    /// `token_cmd` has ended: with what it printed, or without and why.
    pub fn printed(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        printed: Result<Vec<u8>, CommandFailure>,
    ) {
        // The token is as old as the command that printed it.
        let started = self.state.last_request.unwrap_or(env.now.instant);
        let verdict = command::judge(printed, env.now.wall_at(started));
        self.conclude(env, attempt, started, verdict);
    }

    /// The end of an operation in flight.
    pub(super) fn conclude(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        sent: Instant,
        verdict: Verdict,
    ) {
        match std::mem::take(&mut self.state.sign_in) {
            SignIn::Exchanging(exchanging) if exchanging.dispatch.is(attempt) => {
                return self.exchange_outcome(env, exchanging, sent, verdict);
            }
            other => self.state.sign_in = other,
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

    pub(super) fn judge(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        grant_type: GrantType,
        outcome: &Outcome,
    ) -> Verdict {
        let registration = self.registration.clone();
        let (endpoint, scopes) = (&endpoints.token_uri, &registration.scopes);
        let verdict = token::judge(grant_type, endpoint, scopes, outcome, env.now.wall);
        let verdict = match verdict {
            Verdict::LoginNeeded(refusal) => {
                Verdict::LoginNeeded(refusal.with_consent_address(&registration))
            }
            other => other,
        };
        match &verdict {
            Verdict::Granted(tokens) => {
                for warning in &tokens.warnings {
                    if !self.state.warned.contains(warning) {
                        env.log(Level::Warn, &self.name, warning.clone());
                    }
                }
                self.state.warned.clone_from(&tokens.warnings);
            }
            Verdict::Transient {
                retry_after: Some(span),
                ..
            } => {
                let until = env.now.instant.after(*span);
                self.state.pause = self.state.pause.max(Some(until));
                // Other answers may be about this account only, or somebody else's.
                if matches!(outcome, Outcome::Reply(reply) if matches!(reply.status, 429 | 503)) {
                    env.common.pauses.set(endpoint, &self.name, until);
                }
            }
            // It may be the secret that is out of date.
            Verdict::Parked(_) => self.credentials.forget(),
            Verdict::Transient { .. } | Verdict::LoginNeeded(_) => {}
        }
        verdict
    }
}
