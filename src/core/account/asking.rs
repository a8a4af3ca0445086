//! What an account asks a provider for: one operation at a time, made, answered, judged and concluded.

use log::Level;

use super::{Account, Endpoints, Operation, Phase, SignIn};
use crate::{
    config::TokenSource,
    core::{AttemptId, Effect, env::Env},
    oauth::{
        command::{self, CommandFailure},
        revocation,
        token::{self, Cause, GrantType, Outcome, Refusal, Request, Verdict},
    },
    secret::Secret,
    time::Instant,
};

impl Account {
    /// Makes the request of an operation in flight, unless it has to wait for the client secret:
    /// then [`Account::secret_outcome`] does.
    pub(super) fn send(&mut self, env: &mut Env, attempt: AttemptId) {
        if let TokenSource::Command(command) = &self.registration.source {
            self.state.last_request = Some(env.now.instant);
            return env.emit(Effect::FetchToken {
                account: self.name.clone(),
                attempt,
                command: command.clone(),
            });
        }
        if self.locate_for(env, attempt).is_none() {
            return;
        }
        match self.operation(attempt) {
            Some(Operation::Exchange | Operation::Refresh) => self.send_token_request(env, attempt),
            Some(Operation::Code) => self.send_device_request(env, attempt),
            Some(Operation::Poll) => self.send_poll(env, attempt),
            Some(Operation::Revocation) => self.send_revocation(env, attempt),
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
        let renewal = self.state.grant.as_ref().and_then(|it| it.renewal.as_ref());
        let request = match (&self.state.sign_in, renewal) {
            (SignIn::Exchanging(exchanging), _) if exchanging.dispatch.is(attempt) => {
                token::exchange_request(
                    endpoint,
                    &self.registration,
                    &credentials,
                    &exchanging.code,
                    &exchanging.browser.verifier,
                    &exchanging.browser.redirect_uri,
                )
            }
            (_, Some(renewal)) => match &renewal.refresh_token {
                Some(refresh_token) => token::refresh_request(
                    endpoint,
                    &self.registration,
                    &credentials,
                    refresh_token,
                ),
                None => token::client_request(endpoint, &self.registration, &credentials),
            },
            (_, None) => return,
        };
        self.state.last_request = Some(env.now.instant);
        self.emit_request(env, attempt, request);
    }

    /// Has a request sent, with what else its answer may not repeat, and how urgent it is.
    pub(super) fn emit_request(&self, env: &mut Env, attempt: AttemptId, mut request: Request) {
        let grant = self.state.grant.as_ref();
        let access = grant.and_then(|it| it.access.as_ref());
        let renewal = grant.and_then(|it| it.renewal.as_ref());
        (request.known).extend(access.map(|it| it.token.clone()));
        (request.known).extend(renewal.and_then(|it| it.refresh_token.clone()));
        (request.known).extend(self.browser().map(|it| it.state.clone()));
        request.due = match self.operation(attempt) {
            Some(Operation::Refresh) => match access {
                Some(access) => Some(access.expires.unwrap_or(Instant::from_millis(u64::MAX))),
                None => Some(env.now.instant),
            },
            Some(Operation::Revocation) => Some(env.now.instant),
            Some(Operation::Exchange | Operation::Code | Operation::Poll) | None => None,
        };
        env.emit(Effect::Request {
            account: self.name.clone(),
            attempt,
            request,
        });
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
                    let refusal = Refusal::new(format!("no client secret: {why}"));
                    self.not_sent(env, request, refusal);
                }
            }
        }
    }

    /// A request couldn't be made, for a reason that may pass.
    pub(super) fn not_sent(&mut self, env: &mut Env, attempt: AttemptId, refusal: Refusal) {
        let retry_after = None;
        match self.operation(attempt) {
            Some(Operation::Exchange | Operation::Refresh) => {
                let verdict = Verdict::Transient {
                    refusal,
                    retry_after,
                    cause: Cause::Passing,
                };
                self.conclude(env, attempt, env.now.instant, verdict);
            }
            Some(Operation::Code) => self.device_over(env, true, Some(refusal)),
            Some(Operation::Poll) => self.poll_troubled(env, false, None, &refusal),
            Some(Operation::Revocation) => {
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
            // Every request went to an endpoint that was known, and none is forgotten.
            return;
        };
        let operation = self.operation(attempt);
        if let Some(Operation::Exchange | Operation::Refresh) = operation {
            // It may have waited for a worker since it was made.
            self.state.last_request = self.state.last_request.max(Some(sent));
        }
        match operation {
            Some(Operation::Exchange) => {
                let grant_type = GrantType::AuthorizationCode;
                let verdict = self.judge(env, &endpoints, grant_type, outcome);
                self.conclude(env, attempt, sent, verdict);
            }
            Some(Operation::Refresh) => {
                let grant_type = match &self.registration.source {
                    TokenSource::Person => GrantType::RefreshToken,
                    TokenSource::ClientCredentials | TokenSource::Command(_) => {
                        GrantType::ClientCredentials
                    }
                };
                let verdict = self.judge(env, &endpoints, grant_type, outcome);
                self.conclude(env, attempt, sent, verdict);
            }
            Some(Operation::Code) => self.device_started(env, &endpoints, sent, outcome),
            Some(Operation::Poll) => self.polled(env, &endpoints, attempt, sent, outcome),
            Some(Operation::Revocation) => {
                self.revocation_answered(env, &endpoints, attempt, outcome);
            }
            None => {}
        }
    }

    /// `token_cmd` has ended.
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
