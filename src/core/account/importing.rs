//! A refresh token that another program has obtained is taken over: one refresh has to prove it.

use std::sync::Arc;

use super::{Ended, Grant, LiveAccount, Renewal};
use crate::{
    core::{Waiter, env::Env},
    oauth::token::Refusal,
    secret::Secret,
};

impl LiveAccount {
    /// Takes over `refresh_token`, and has `waiter` notified of what a refresh with it comes to.
    /// Nothing that works gives way to it.
    ///
    /// # Errors
    /// Why it isn't taken.
    pub fn import(
        &mut self,
        env: &mut Env,
        refresh_token: Secret,
        waiter: Waiter,
    ) -> Result<(), Refusal> {
        let refuse = |text: &str, hint: &str| Err(Refusal::new(text).hint(Some(hint)));
        if !self.registration.source.is_person() {
            return refuse(
                "this account needs no sign-in",
                "`pizauth show` obtains its tokens",
            );
        }
        if self.is_live(env.now.instant) || self.is_exchanging() {
            let hint = "to give them up, run `pizauth revoke --local` first";
            return refuse("the account has tokens that work", hint);
        }
        // Where a token may go is settled when it is taken.
        let Some(endpoints) = self.locate(env) else {
            if let Some(issuer) = self.registration.discovers() {
                env.want_metadata(issuer)?;
            }
            let text = "the issuer is being asked for its endpoints";
            return refuse(text, "try again in a moment");
        };
        refresh_token.bind(self.registration.mark());
        env.tokens_changed();
        // When the user signed in for it isn't known.
        (self.state.sign_ins.began, self.state.sign_ins.told) = (None, None);
        self.hold(Grant {
            access: None,
            renewal: Some(Renewal {
                refresh_token: Some(Arc::new(refresh_token)),
                origins: endpoints.origins.clone(),
                ..Renewal::default()
            }),
            obtained: env.now,
            other_user: None,
            loaded: None,
        });
        self.waiters.push((Ended::Refresh, waiter));
        let _ = self.refresh(env);
        Ok(())
    }
}
