//! Telling the provider of a `revoke`. The tokens are the account's no longer; this only carries
//! them to the revocation endpoint.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{AttemptId, Waiter, account::Origins, dump};
use crate::{
    oauth::{
        revocation::{TokenType, Verdict},
        token::Refusal,
    },
    secret::{Mark, Secret},
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
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Revocation {
    token_type: TokenType,
    token: Arc<Secret>,
    /// Where that may be sent.
    origins: Origins,
    /// The access token goes after the refresh token: not every provider ends both with the one.
    next: Option<(Arc<Secret>, Origins)>,
    /// The refresh token has been revoked.
    renewal_ended: bool,
    tries: u32,
    phase: Phase,
    pub waiters: Vec<Waiter>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Phase {
    InFlight(AttemptId),
    RetryAt(Instant),
}

/// A [`Revocation`] on its way to a successor of this process. Whoever waited for it has left.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarriedRevocation {
    /// Of the kind that can be refreshed with.
    refresh: bool,
    token: CarriedToken,
    next: Option<CarriedToken>,
    renewal_ended: bool,
    tries: u32,
    /// When the next request is due; at once, if one is outstanding.
    retry_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CarriedToken {
    #[serde(with = "dump::secret")]
    token: Arc<Secret>,
    origins: Origins,
}

impl CarriedRevocation {
    /// Says under which registration the tokens were issued.
    pub fn bind(&self, mark: Mark) {
        let tokens = [Some(&self.token), self.next.as_ref()];
        tokens
            .into_iter()
            .flatten()
            .for_each(|it| it.token.bind(mark));
    }
}

/// What is to be done after an answer.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Send the next request, under the attempt that was given.
    Send,
    /// Wait: there is a new deadline.
    Wait(Refusal),
    /// It is over.
    Over(Result<(), Refusal>),
}

impl Revocation {
    /// About to be sent as `attempt`; `None` when there is nothing to revoke.
    pub fn new(
        refresh: Option<(Arc<Secret>, Origins)>,
        access: Option<(Arc<Secret>, Origins)>,
        attempt: AttemptId,
        waiter: Waiter,
    ) -> Option<Self> {
        let (token_type, (token, origins), next) = match (refresh, access) {
            (Some(refresh), access) => (TokenType::Refresh, refresh, access),
            (None, Some(access)) => (TokenType::Access, access, None),
            (None, None) => return None,
        };
        Some(Revocation {
            token_type,
            token,
            origins,
            next,
            renewal_ended: false,
            tries: 1,
            phase: Phase::InFlight(attempt),
            waiters: vec![waiter],
        })
    }

    /// What a successor of this process needs.
    pub fn carried(&self) -> CarriedRevocation {
        let next = self.next.as_ref();
        CarriedRevocation {
            refresh: self.token_type == TokenType::Refresh,
            token: CarriedToken {
                token: self.token.clone(),
                origins: self.origins.clone(),
            },
            next: next.map(|(token, origins)| CarriedToken {
                token: token.clone(),
                origins: origins.clone(),
            }),
            renewal_ended: self.renewal_ended,
            tries: self.tries,
            retry_at: self.due().map(Instant::millis),
        }
    }

    /// Goes on where a predecessor was.
    pub fn adopt(carried: CarriedRevocation, now: Instant) -> Self {
        Revocation {
            token_type: match carried.refresh {
                true => TokenType::Refresh,
                false => TokenType::Access,
            },
            token: carried.token.token,
            origins: carried.token.origins,
            next: carried.next.map(|it| (it.token, it.origins)),
            renewal_ended: carried.renewal_ended,
            tries: carried.tries,
            phase: Phase::RetryAt(carried.retry_at.map_or(now, Instant::from_millis)),
            waiters: Vec::new(),
        }
    }

    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    pub fn token(&self) -> (TokenType, &Secret) {
        (self.token_type, &self.token)
    }

    pub fn is(&self, attempt: AttemptId) -> bool {
        matches!(self.phase, Phase::InFlight(id) if id == attempt)
    }

    pub fn attempt(&self) -> Option<AttemptId> {
        match self.phase {
            Phase::InFlight(attempt) => Some(attempt),
            Phase::RetryAt(_) => None,
        }
    }

    /// Waits until `now` is over, and something else: nothing has been sent yet.
    pub fn put_off(&mut self, now: Instant) {
        self.tries = 0;
        self.phase = Phase::RetryAt(now);
    }

    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::InFlight(_) => None,
            Phase::RetryAt(at) => Some(at),
        }
    }

    pub fn retry(&mut self, attempt: AttemptId) {
        self.tries = self.tries.saturating_add(1);
        self.phase = Phase::InFlight(attempt);
    }

    /// Draws the conclusion; `attempt` is the name of the request that may follow.
    pub fn conclude(&mut self, now: Instant, verdict: Verdict, attempt: AttemptId) -> Step {
        match verdict {
            Verdict::Done => match self.next.take() {
                Some((access, origins)) => {
                    self.token_type = TokenType::Access;
                    self.token = access;
                    self.origins = origins;
                    self.renewal_ended = true;
                    self.tries = 1;
                    self.phase = Phase::InFlight(attempt);
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
                let doubled =
                    RETRY.saturating_mul(2u32.saturating_pow(self.tries.saturating_sub(1)));
                let delay = retry_after.unwrap_or(doubled).min(MAX_RETRY);
                self.phase = Phase::RetryAt(now.after(delay));
                Step::Wait(refusal)
            }
        }
    }
}
