//! A sign-in that can't begin before the issuer has said where: it waits, and begins by itself.

use log::Level;

use super::{Discovering, Ended, Env, LiveAccount, SignIn};
use crate::{
    core::schedule::{MAX_UNEXPLAINED, TROUBLE_NOTICE_AFTER},
    oauth::{authorization, token::Refusal},
};

impl LiveAccount {
    /// Has the sign-in wait for the endpoints.
    pub(super) fn discover_first(&mut self, env: &mut Env) {
        self.state.sign_in = SignIn::Discovering(Discovering {
            since: env.now,
            told: false,
        });
        let message = "authorisation needed; asking the issuer for its endpoints";
        env.log(Level::Info, &self.name, message);
        self.discover_for_sign_in(env);
    }

    /// The endpoints are known: begins the sign-in that has waited for them.
    pub(super) fn begin_discovered(&mut self, env: &mut Env) {
        if self.endpoints.is_none() || !self.sign_in_waits_for_endpoints() {
            return;
        }
        self.begin_sign_in(env);
        let pending = self.state.sign_in.pending();
        if !pending.is_some_and(|pending| pending.device.is_to_come()) {
            self.settle(env, Ended::Code, Ok(()));
        }
    }

    /// The issuer was asked in vain; it is asked again. Who only wants to know how to sign in
    /// gets the reason; the user is notified when it lasts.
    pub(super) fn discovery_failed(&mut self, env: &mut Env, refusal: &Refusal) {
        let (Some(issuer), SignIn::Discovering(discovering)) =
            (self.registration.discovers(), &mut self.state.sign_in)
        else {
            return;
        };
        env.common.issuers.insist(issuer);
        let lasts = env.common.issuers.trouble(issuer).is_some_and(|failed| {
            let span = env.now.instant.since(failed.since.instant);
            span >= TROUBLE_NOTICE_AFTER || failed.answered && failed.failures >= MAX_UNEXPLAINED
        });
        if lasts && !discovering.told {
            discovering.told = true;
            env.error(&self.name, format!("can't sign in: {}", refusal.line()));
        }
        self.settle(env, Ended::Code, Err(refusal.clone()));
    }

    /// Whether an authorization response with this `iss` is the provider's (RFC 9207, 2.4).
    ///
    /// # Errors
    /// Why not, for the log.
    pub(super) fn check_issuer(&self, iss: Option<&str>) -> Result<(), &'static str> {
        const OTHER: &str = "an authorization response of another issuer was ignored";
        const NONE: &str = "an authorization response without the issuer's iss was ignored";
        let endpoints = self.endpoints.as_ref();
        let metadata = endpoints.and_then(|endpoints| endpoints.metadata.as_ref());
        let said = metadata.map(|metadata| metadata.issuer.as_str());
        let auth_uri = endpoints.and_then(|endpoints| endpoints.auth_uri.as_ref());
        let same = match (iss, said.or(self.registration.issuer.as_deref())) {
            (None, _) if metadata.is_some_and(|metadata| metadata.iss_in_responses) => {
                return Err(NONE);
            }
            (None, _) => true,
            (Some(iss), Some(issuer)) => iss == issuer,
            (Some(iss), None) => auth_uri.is_none_or(|uri| authorization::is_issuer(uri, iss)),
        };
        if same { Ok(()) } else { Err(OTHER) }
    }

    /// A refusal of the scopes, with those that the provider says it has.
    pub(super) fn with_scopes(&self, mut refusal: Refusal, error: &str) -> Refusal {
        let metadata = self.endpoints.as_ref().and_then(|it| it.metadata.as_ref());
        let listed = metadata.and_then(|metadata| metadata.listed_scopes());
        if let Some(listed) = listed.filter(|_| error == "invalid_scope") {
            refusal.hint = Some(listed);
        }
        refusal
    }
}
