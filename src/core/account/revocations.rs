//! Telling the provider of tokens that are no longer wanted (RFC 7009).

use log::Level;

use super::{Endpoints, Grant, LiveAccount};
use crate::{
    core::{
        attempt::{AttemptId, Waiter},
        effect::Ended,
        env::Env,
        revoking::{Revocation, Step},
    },
    oauth::{
        revocation,
        token::{Outcome, Refusal},
    },
};

impl LiveAccount {
    /// The revocation of tokens that are held no longer, if the provider takes one.
    pub(super) fn revocation_of(
        &self,
        grant: Option<Grant>,
        access_is_valid: bool,
        attempt: AttemptId,
        waiter: Waiter,
    ) -> Option<Revocation> {
        let mut grant = grant?;
        let takes_none = match self.endpoints.as_ref() {
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
        match all.find(|it| it.dispatch.is(attempt)) {
            Some(revocation) if env.common.held => revocation.put_off(env.now.instant),
            Some(_) | None => self.send(env, attempt),
        }
    }

    /// The revocation whose request is `attempt`.
    pub(super) fn revocation(&self, attempt: AttemptId) -> Option<&Revocation> {
        let mut all = self.state.revocations.iter();
        all.find(|it| it.dispatch.is(attempt))
    }

    /// Why the revocation whose request is `attempt` has nowhere to go, if it hasn't.
    pub(super) fn no_revocation(
        &self,
        endpoints: &Endpoints,
        attempt: AttemptId,
    ) -> Option<Refusal> {
        let origins = self.revocation(attempt)?.origins();
        match &endpoints.revocation_uri {
            None => Some(Refusal::new(
                "there is no revocation endpoint, or none any more",
            )),
            Some(_) if endpoints.revocation_for(origins).is_some() => None,
            Some(uri) => Some(Refusal::new(format!(
                "the issuer now names the revocation endpoint {uri}, of another origin than when you \
                 signed in; the tokens are not sent there"
            ))),
        }
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
        let mut all = self.state.revocations.iter();
        let Some(at) = all.position(|it| it.dispatch.is(attempt)) else {
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
        env.settle(&self.name, Ended::Revocation, revocation.waiters, result);
    }
}
