//! Who waits for a token of an account, and when they hear. A `show` that may not wait, or finds
//! a good token, is answered at once; the others wait here, and all of one account share what
//! brings the token. The shell bounds every wait.

use std::{sync::Arc, time::Duration};

use super::{Account, Progress, Show, Waiter};
use crate::{
    core::{Effect, TokenEvent, env::Env, schedule},
    form::Form,
    oauth::token::Refusal,
    secret::Secret,
    time::{Now, Wall},
    view::Happening,
};

/// What `show` asks for.
#[derive(Debug)]
pub struct Ask {
    /// Only a token that is valid so long will do; zero for any.
    pub min_valid: Duration,
    /// What may be waited for.
    pub patience: Patience,
    /// Whom to tell.
    pub asker: Asker,
}

/// What a `show` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Patience {
    /// Nothing: the answer is given at once.
    None,
    /// The outcome of one refresh.
    Refresh,
    /// A token, whoever brings it: also somebody who signs in.
    Token,
}

/// Who asks, and how the answer is to be put. Only handed back with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Means something only to the shell that gave it.
    pub waiter: Waiter,
    /// The shape of the token.
    pub form: Form,
    /// Leave the URL out of errors.
    pub no_url: bool,
}

/// An access token as it is handed out.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub struct Handed {
    /// The token.
    pub token: Arc<Secret>,
    /// When it expires, unless the provider didn't say.
    pub expires: Option<Wall>,
    /// The scopes granted or, when the provider didn't say, asked for.
    pub scopes: Arc<[String]>,
    /// For whom, as the config's `login_hint` has it.
    pub login_hint: Option<String>,
    /// Whose it is: the host of the token endpoint, or the issuer's.
    pub provider: Option<String>,
}

/// The answer to an [`Ask`].
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
#[must_use]
pub enum Answer {
    /// A token that will do.
    Token(Handed),
    /// There is none, and either no time or no reason to wait longer.
    Not {
        /// What it takes.
        show: Show,
        /// How long the token held is still valid, when that is merely too short.
        left: Option<Duration>,
    },
    /// No token lives as long as was asked for.
    ShortLived {
        /// How long the provider lets them live.
        lifetime: Duration,
    },
    /// The sign-in that was waited for has ended without a token.
    Failed(Refusal),
    /// The account is no longer in the config.
    Gone,
}

/// What is to be done about somebody who waits.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    min_valid: Duration,
    patience: Patience,
    asker: Asker,
}

impl Account {
    /// `show` with all its options: the answer, or `None` when the asker waits for
    /// [`Effect::Answer`].
    pub fn ask_for_token(&mut self, env: &mut Env, ask: Ask) -> Option<Answer> {
        if let Some(handed) = self.hand_out(env.now, ask.min_valid) {
            return Some(Answer::Token(handed));
        }
        if let Some(lifetime) = self.never_valid_for(env, ask.min_valid) {
            return Some(Answer::ShortLived { lifetime });
        }
        let show = self.bring(env);
        let waits = match &show {
            Show::Coming(Progress::Refreshing { .. }) => ask.patience != Patience::None,
            Show::Coming(
                Progress::Discovering { .. }
                | Progress::SignIn { .. }
                | Progress::AskingForCode
                | Progress::Exchanging { .. },
            ) => ask.patience == Patience::Token,
            Show::Token(_) | Show::Parked(_) => false,
        };
        if waits {
            self.wait(ask);
            return None;
        }
        Some(self.lacking(env, show))
    }

    fn wait(&mut self, ask: Ask) {
        let waiting = Waiting {
            min_valid: ask.min_valid,
            patience: ask.patience,
            asker: ask.asker,
        };
        self.waiting.insert(waiting.asker.waiter, waiting);
    }

    /// The time is over for which somebody wanted to wait; what `show` would say now.
    pub fn give_up(&mut self, env: &mut Env, waiter: Waiter) -> Option<Answer> {
        let waiting = self.waiting.remove(&waiter)?;
        self.ask_for_token(
            env,
            Ask {
                min_valid: waiting.min_valid,
                patience: Patience::None,
                asker: waiting.asker,
            },
        )
    }

    /// Somebody who waited has left.
    pub fn forget(&mut self, waiter: Waiter) {
        self.waiting.remove(&waiter);
        self.forget_sign_in_waiter(waiter);
    }

    /// Who waits goes on waiting for the account's successor, which has another registration.
    pub fn hand_over(&mut self, env: &mut Env, successor: Option<&mut Account>) {
        let waiting = std::mem::take(&mut self.waiting);
        match successor {
            Some(successor) => {
                successor.waiting = waiting;
                successor.bring_for_waiting(env);
            }
            None => {
                for (_, waiting) in waiting {
                    self.answer(env, waiting, Answer::Gone);
                }
            }
        }
    }

    // ---- edges of the account's state that somebody may wait for ------------------------------

    /// A token has come: whoever waits gets it, or hears that none will be better.
    pub(super) fn answer_after_grant(&mut self, env: &mut Env) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let answer = match self.hand_out(env.now, waiting.min_valid) {
                Some(handed) => Answer::Token(handed),
                None => Answer::ShortLived {
                    lifetime: self.lifetime().unwrap_or_default(),
                },
            };
            self.answer(env, waiting, answer);
        }
    }

    /// Tokens were restored, or an account starts anew: whoever can have a token gets it, and for
    /// the others one is brought.
    pub(super) fn bring_for_waiting(&mut self, env: &mut Env) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let Waiting {
                min_valid,
                patience,
                asker,
            } = waiting;
            let again = asker.clone();
            let ask = Ask {
                min_valid,
                patience,
                asker,
            };
            if let Some(answer) = self.ask_for_token(env, ask) {
                self.tell(env, again, answer);
            }
        }
    }

    /// The provider wants a person. Whoever waits for a token waits for that person.
    pub(super) fn ask_for_waiting(&mut self, env: &mut Env) {
        if self.waiting.is_empty() {
            return;
        }
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let progress = self.ask(env);
            match waiting.patience {
                Patience::Token => {
                    self.waiting.insert(waiting.asker.waiter, waiting);
                }
                Patience::Refresh | Patience::None => {
                    let answer = self.lacking(env, Show::Coming(progress));
                    self.answer(env, waiting, answer);
                }
            }
        }
    }

    /// A refresh has failed in a way that may pass: those who wait for no more than one hear it.
    pub(super) fn answer_impatient(&mut self, env: &mut Env, refusal: &Refusal) {
        let all = std::mem::take(&mut self.waiting);
        for (waiter, waiting) in all {
            match waiting.patience {
                Patience::Token => {
                    self.waiting.insert(waiter, waiting);
                }
                Patience::Refresh | Patience::None => {
                    let trouble = Some(refusal.clone());
                    let show = Show::Coming(Progress::Refreshing { trouble });
                    let answer = self.lacking(env, show);
                    self.answer(env, waiting, answer);
                }
            }
        }
    }

    /// The sign-in has ended without a token.
    pub(super) fn answer_failed(&mut self, env: &mut Env, refusal: &Refusal) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.answer(env, waiting, Answer::Failed(refusal.clone()));
        }
    }

    /// The configuration is wrong: waiting longer is of no use to anyone.
    pub(super) fn answer_parked(&mut self, env: &mut Env, refusal: &Refusal) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let answer = self.lacking(env, Show::Parked(refusal.clone()));
            self.answer(env, waiting, answer);
        }
    }

    /// What became of a token, for whoever watches.
    pub(super) fn token_news(&self, env: &mut Env, event: TokenEvent) {
        let expires = self.expires(env.now);
        let happening = match event {
            TokenEvent::New => Happening::TokenNew { expires },
            TokenEvent::Refreshed => Happening::TokenRefreshed { expires },
            TokenEvent::Invalidated => Happening::TokenInvalidated,
            TokenEvent::Revoked => Happening::TokenRevoked,
        };
        env.news(&self.name, happening);
    }

    /// When the access token expires, as far as is known.
    pub(super) fn expires(&self, now: Now) -> Option<Wall> {
        Some(now.wall_at(self.access_expires()?))
    }

    fn answer(&self, env: &mut Env, waiting: Waiting, answer: Answer) {
        self.tell(env, waiting.asker, answer);
    }

    fn tell(&self, env: &mut Env, asker: Asker, answer: Answer) {
        env.emit(Effect::Answer {
            asker,
            account: self.name.clone(),
            answer,
        });
    }

    /// Why there is no token that will do: one that is merely too short says so.
    fn lacking(&self, env: &Env, show: Show) -> Answer {
        let left = self.access_expires();
        let left = left.filter(|expires| *expires > env.now.instant);
        Answer::Not {
            show,
            left: left.map(|expires| expires.since(env.now.instant)),
        }
    }

    /// The token, if it is valid for so long; one of unknown life is taken to be.
    fn hand_out(&self, now: Now, min_valid: Duration) -> Option<Handed> {
        let token = self.valid_access(now.instant.after(min_valid))?;
        let scopes = self.access()?.scopes.clone();
        let fields = &self.registration.auth_uri_fields;
        let login_hint = fields.iter().find(|(key, _)| key == "login_hint");
        Some(Handed {
            token,
            expires: self.expires(now),
            scopes: scopes.unwrap_or_else(|| self.registration.scopes.as_slice().into()),
            login_hint: login_hint.map(|(_, value)| value.clone()),
            provider: self.registration.provider_host(),
        })
    }

    /// The life of the present, valid token, if a successor of the same life could not be valid for
    /// `min_valid` either: to refresh it would be in vain, and again with every `show`.
    fn never_valid_for(&self, env: &Env, min_valid: Duration) -> Option<Duration> {
        self.valid_access(env.now.instant)?;
        let lifetime = self.lifetime()?;
        (lifetime < min_valid.saturating_add(schedule::MIN_REQUEST_GAP)).then_some(lifetime)
    }

    /// How long the provider let the present token live.
    fn lifetime(&self) -> Option<Duration> {
        let obtained = self.state.grant.as_ref()?.obtained;
        Some(self.access_expires()?.since(obtained.instant))
    }
}
