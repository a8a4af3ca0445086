//! Telling the provider of tokens that are no longer wanted (RFC 7009).

use log::Level;
use url::Url;

use super::{Account, Endpoints, Grant};
use crate::{
    core::{
        attempt::{AttemptId, Waiter},
        effect::{Effect, Ended},
        env::Env,
        revoking::{Revocation, Step},
    },
    oauth::{
        revocation,
        token::{Outcome, Refusal},
    },
};

impl Account {
    /// The revocation of tokens that are held no longer, if the provider takes one.
    pub(super) fn revocation_of(
        &self,
        grant: Option<Grant>,
        access_is_valid: bool,
        attempt: AttemptId,
        waiter: Waiter,
    ) -> Option<Revocation> {
        let mut grant = grant?;
        let takes_none = match self.location.known() {
            Some(endpoints) => endpoints.revocation_uri.is_none(),
            // The issuer may have an endpoint for it.
            None => self.registration.discovers().is_none(),
        };
        if takes_none {
            return None;
        }
        grant.access = grant.access.filter(|_| access_is_valid);
        Revocation::new(grant, attempt, waiter)
    }

    /// Sends the next request of a revocation, unless nothing is to be sent for now.
    pub(super) fn tell_provider(&mut self, env: &mut Env, attempt: AttemptId) {
        let mut all = self.state.revocations.iter_mut();
        match all.find(|it| it.dispatch().is(attempt)) {
            Some(revocation) if env.common.held => revocation.put_off(env.now.instant),
            Some(_) | None => self.send(env, attempt),
        }
    }

    pub(super) fn send_revocation(&mut self, env: &mut Env, attempt: AttemptId) {
        let Some(endpoints) = self.location.known().cloned() else {
            return;
        };
        let Some(revocation) = self
            .state
            .revocations
            .iter()
            .find(|it| it.dispatch().is(attempt))
        else {
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
        let at = endpoints.at(endpoint);
        let request = revocation::request(at, client_id, &credentials, token_type, token);
        self.emit_request(env, attempt, request);
    }

    pub(super) fn revocation_answered(
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

    pub(super) fn revocation_outcome(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
        verdict: revocation::Verdict,
    ) {
        let Some(at) = self
            .state
            .revocations
            .iter()
            .position(|it| it.dispatch().is(attempt))
        else {
            return;
        };
        let next = env.attempt();
        let mut revocation = self.state.revocations.swap_remove(at);
        match revocation.conclude(env.now.instant, verdict, next) {
            Step::Send => {
                self.state.revocations.push(revocation);
                self.tell_provider(env, next);
            }
            Step::Wait(refusal) => {
                let message = format!("will tell the provider again: {}", refusal.line());
                env.log(Level::Warn, &self.name, message);
                self.state.revocations.push(revocation);
            }
            Step::Over(result) => self.revocation_over(env, revocation, result),
        }
    }

    pub(super) fn revocation_over(
        &self,
        env: &mut Env,
        revocation: Revocation,
        result: Result<(), Refusal>,
    ) {
        match &result {
            Ok(()) => env.log(
                Level::Info,
                &self.name,
                "the provider has revoked the tokens",
            ),
            Err(refusal) => {
                let message = format!(
                    "the provider has not revoked the tokens: {}",
                    refusal.line()
                );
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
}

/// Why a revocation has nowhere to go.
fn no_revocation() -> Refusal {
    Refusal::new("there is no revocation endpoint, or none any more")
}

/// Why a token isn't sent to be revoked.
fn revoked_elsewhere(uri: &Url) -> Refusal {
    Refusal::new(format!(
        "the issuer now names the revocation endpoint {uri}, of another origin than when you \
         signed in; the tokens are not sent there"
    ))
}
