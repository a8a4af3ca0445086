//! Telling the provider of a `revoke`. The tokens are the account's no longer; this only carries
//! them to the revocation endpoint.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    attempt::{AttemptId, Dispatch, Waiter},
    grant::{Grant, Origins},
    plain,
    schedule::doubled,
};
use crate::{
    oauth::{
        revocation::{TokenType, Verdict},
        token::Refusal,
    },
    secret::Secret,
    time::Instant,
};

/// How often the provider is asked before it counts as out of reach: a revocation is best effort,
/// and the user has been waiting.
const MAX_TRIES: u32 = 4;

/// How long to wait before the second try, doubling with each further one.
const RETRY: Duration = Duration::from_secs(2);

/// How long a provider may ask to be left alone in between.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// Tokens on their way to the revocation endpoint, one request after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Revocation {
    current: RevocableToken,
    /// The access token goes after the refresh token: not every provider ends both with the one.
    next: Option<RevocableToken>,
    /// The refresh token has been revoked.
    renewal_ended: bool,
    tries: u32,
    pub dispatch: Dispatch,
    #[serde(skip)]
    pub waiters: Vec<Waiter>,
}

/// A token that is to be revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RevocableToken {
    kind: TokenType,
    #[serde(with = "plain")]
    token: Arc<Secret>,
    /// Where it may be sent.
    origins: Origins,
}

/// What is to be done after an answer.
#[derive(Debug)]
#[must_use]
pub(super) enum Step {
    /// Send the next request, under the attempt that was given.
    Send,
    /// Wait: there is a new deadline.
    Wait(Refusal),
    /// It is over.
    Over(Result<(), Refusal>),
}

impl Revocation {
    /// Of the tokens in `grant`, about to be sent as `attempt`; `None` when there is nothing to
    /// revoke.
    pub fn new(grant: Grant, attempt: AttemptId, waiter: Waiter) -> Option<Self> {
        let refresh = grant.renewal.and_then(|renewal| {
            Some(RevocableToken {
                kind: TokenType::Refresh,
                token: renewal.refresh_token?,
                origins: renewal.origins,
            })
        });
        let access = grant.access.map(|access| RevocableToken {
            kind: TokenType::Access,
            token: access.token,
            origins: access.origins,
        });
        let mut tokens = refresh.into_iter().chain(access);
        Some(Revocation {
            current: tokens.next()?,
            next: tokens.next(),
            renewal_ended: false,
            tries: 1,
            dispatch: Dispatch::InFlight(attempt),
            waiters: vec![waiter],
        })
    }

    /// The tokens that it carries.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        let next = self.next.iter();
        std::iter::once(&self.current)
            .chain(next)
            .map(|it| &it.token)
    }

    pub fn origins(&self) -> &Origins {
        &self.current.origins
    }

    pub fn token(&self) -> (TokenType, &Secret) {
        (self.current.kind, &self.current.token)
    }

    /// Waits until `now` is over: nothing has been sent yet.
    pub fn put_off(&mut self, now: Instant) {
        self.tries = 0;
        self.dispatch = Dispatch::At(now);
    }

    pub fn retry(&mut self, attempt: AttemptId) {
        self.tries = self.tries.saturating_add(1);
        self.dispatch = Dispatch::InFlight(attempt);
    }

    /// Draws the conclusion; `attempt` is the name of the request that may follow.
    pub fn conclude(&mut self, now: Instant, verdict: Verdict, attempt: AttemptId) -> Step {
        match verdict {
            Verdict::Done => match self.next.take() {
                Some(next) => {
                    self.current = next;
                    self.renewal_ended = true;
                    self.tries = 1;
                    self.dispatch = Dispatch::InFlight(attempt);
                    Step::Send
                }
                None => Step::Over(Ok(())),
            },
            // The refresh token is gone, which is what counts.
            Verdict::Refused(_) if self.renewal_ended => Step::Over(Ok(())),
            Verdict::Refused(refusal) => Step::Over(Err(refusal)),
            Verdict::Later { refusal, .. } if self.tries >= MAX_TRIES => Step::Over(Err(refusal)),
            Verdict::Later {
                refusal,
                retry_after,
            } => {
                let delay = retry_after.unwrap_or(doubled(RETRY, self.tries));
                let delay = delay.min(MAX_RETRY);
                self.dispatch = Dispatch::At(now.after(delay));
                Step::Wait(refusal)
            }
        }
    }
}
