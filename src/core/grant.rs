//! The tokens that an account holds, and how they are renewed. Handovers carry these types as they
//! are; dumps carry the access token with its life on the wall clock.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{attempt::AttemptId, plain};
use crate::{
    oauth::token::{self, Cause, Refusal},
    secret::Secret,
    time::{Instant, Now, Wall},
};

/// The origins that the issuer named for tokens when they were issued: no token goes to another
/// that it names later. `None` when the config named them: its change is another registration.
pub(super) type Origins = Option<Arc<[String]>>;

/// An account's tokens. They were issued under the account's registration: a changed one makes a
/// new account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Grant {
    pub access: Option<Access<Instant>>,
    /// `None` when the provider gave no refresh token.
    pub renewal: Option<Renewal>,
    /// When the tokens were asked for.
    pub obtained: Now,
    /// Who has signed in, if that is somebody else than the config's login_hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_user: Option<String>,
    /// Their times as they were loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<LoadedTimes>,
}

impl Grant {
    /// Tells the times of loaded tokens by the wall clock, also anew when that was set; how far it is
    /// behind the time when they were asked for. Tokens from the future were asked for before the
    /// clock was set back: they live no longer for that.
    pub fn tell_times(&mut self, now: Now) -> Duration {
        let Some(times) = self.loaded else {
            return Duration::ZERO;
        };
        let asked = now.instant_at(times.obtained);
        let instant = asked.min(now.instant);
        let behind = asked.since(instant);
        let at = |wall: Wall| now.instant_at(wall).before(behind);
        let wall = now.wall_at(instant);
        self.obtained = Now { instant, wall };
        if let Some(access) = &mut self.access {
            let before = access.expires.filter(|_| !behind.is_zero());
            let expires = times.expires.map(at);
            access.expires = expires.map(|at| at.min(before.unwrap_or(at)));
        }
        if let Some(renewal) = &mut self.renewal {
            renewal.tell_start(now.wall.after(behind), now.instant, false);
            renewal.ends = times.ends.map(at).or(renewal.ends);
        }
        behind
    }
}

/// The times of loaded tokens, on the wall clock: that may have been wrong when they were loaded.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LoadedTimes {
    pub obtained: Wall,
    pub expires: Option<Wall>,
    pub ends: Option<Wall>,
}

/// An access token with its life, on the clock `T`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access<T> {
    /// The token.
    #[serde(with = "plain")]
    pub token: Arc<Secret>,
    /// When it expires, if the provider said.
    pub expires: Option<T>,
    /// Where it may be sent to be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Origins,
    /// The scopes granted; `None` when the provider didn't say, and so those asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Arc<[String]>>,
    /// The ID token that came with it, or with an earlier one of the same sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "plain::optional")]
    pub id_token: Option<Arc<Secret>>,
}

impl Grant {
    /// What an account has that needs nobody, before its first token.
    pub fn without_tokens(obtained: Now) -> Self {
        Grant {
            access: None,
            renewal: Some(Renewal::default()),
            obtained,
            other_user: None,
            loaded: None,
        }
    }

    /// Its tokens.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        let access = self.access.iter().flat_map(Access::secrets);
        access.chain(self.renewal.iter().flat_map(|it| &it.refresh_token))
    }

    /// Whether there is a token in it.
    pub fn has_tokens(&self) -> bool {
        self.secrets().next().is_some()
    }
}

impl Renewal {
    /// Reads from the refresh token, which may be fresh, from when on it can be used.
    pub fn tell_start(&mut self, wall: Wall, now: Instant, fresh: bool) {
        let span = (self.refresh_token.as_ref()).and_then(|it| token::usable_in(it, fresh, wall));
        self.usable = span.map(|span| now.after(span));
    }
}

impl<T: Copy> Access<T> {
    /// It and the ID token.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        std::iter::once(&self.token).chain(&self.id_token)
    }

    /// The same with its life on another clock.
    pub fn on_clock<U>(&self, convert: impl FnOnce(T) -> U) -> Access<U> {
        Access {
            token: self.token.clone(),
            expires: self.expires.map(convert),
            origins: self.origins.clone(),
            scopes: self.scopes.clone(),
            id_token: self.id_token.clone(),
        }
    }
}

/// What new access tokens are asked for with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Renewal {
    /// `None` when the account needs none: nobody has to sign in.
    #[serde(with = "plain::optional")]
    pub refresh_token: Option<Arc<Secret>>,
    /// Where it may be sent.
    pub origins: Origins,
    /// When it ends, if the provider said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Instant>,
    /// Whether the last refresh has not put that off.
    #[serde(default)]
    pub fixed: bool,
    /// From when on it can be used, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable: Option<Instant>,
    pub phase: Phase,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The schedule says when.
    #[default]
    Waiting,
    /// To be done as soon as the floor allows.
    Wanted,
    /// The request is with the shell.
    #[serde(skip)]
    InFlight {
        attempt: AttemptId,
        trouble: Option<Trouble>,
    },
    /// The last one failed in a way that may pass.
    Failing {
        trouble: Trouble,
        failed: Instant,
        /// Shortens the wait for the next one; see [`super::schedule::retry_delay`].
        jitter: u8,
        /// The next one is to be made as soon as the floor allows.
        wanted: bool,
    },
    /// `transient_error_if_cmd` is being asked about the last failure.
    #[serde(skip)]
    Probing {
        attempt: AttemptId,
        trouble: Option<Trouble>,
        failure: Failure,
    },
    /// The provider's definite word: the refresh token is kept, but no longer used.
    Rejected { refusal: Refusal, since: Wall },
}

impl Phase {
    /// The answer to the request in flight will not arrive: it has to be sent again, if it was.
    pub fn settle(&mut self, now: Now, is_sent: impl Fn(AttemptId) -> bool) {
        let trouble = match self {
            Phase::InFlight { attempt, trouble } if is_sent(*attempt) => {
                Some(Trouble::after(trouble.take(), &Failure::unheard(), now))
            }
            Phase::InFlight { trouble, .. } | Phase::Probing { trouble, .. } => trouble.take(),
            Phase::Waiting | Phase::Wanted | Phase::Failing { .. } | Phase::Rejected { .. } => {
                return;
            }
        };
        *self = match trouble {
            None => Phase::Wanted,
            Some(trouble) => Phase::Failing {
                trouble,
                failed: now.instant,
                jitter: 0,
                wanted: true,
            },
        };
    }
}

/// A refresh that has failed in a way that may pass.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub refusal: Refusal,
    pub cause: Cause,
}

impl Failure {
    /// That of a request whose reply had not come when the process ended.
    pub fn unheard() -> Self {
        Failure {
            refusal: Refusal::new("the server ended before the reply came"),
            cause: Cause::Lost,
        }
    }
}

/// A row of transient failures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub since: Now,
    pub failures: u32,
    /// How many of the last were the very same refusal without an explanation.
    pub unexplained: u32,
    /// Whether a reply was lost among them, and with it perhaps a new refresh token.
    pub lost: bool,
    pub refusal: Refusal,
    /// Whether the user has been notified.
    pub told: bool,
    /// Since when every answer was that the configuration is wrong.
    pub misconfigured: Option<Instant>,
    /// Since when that is believed: tries are far between then.
    pub stopped: Option<Wall>,
}

impl Trouble {
    /// The row of failures with one more.
    pub fn after(before: Option<Trouble>, failure: &Failure, now: Now) -> Self {
        let mut trouble = before.unwrap_or_else(|| Trouble {
            since: now,
            failures: 0,
            unexplained: 0,
            lost: false,
            refusal: failure.refusal.clone(),
            told: false,
            misconfigured: None,
            stopped: None,
        });
        let same = trouble.refusal == failure.refusal;
        trouble.unexplained = match (failure.cause, same) {
            (Cause::Unexplained | Cause::Vague | Cause::Config, true) => {
                trouble.unexplained.saturating_add(1)
            }
            (Cause::Unexplained | Cause::Vague | Cause::Config, false) => 1,
            (Cause::Passing | Cause::Lost, _) => 0,
        };
        let is_config = failure.cause == Cause::Config;
        let since = trouble.misconfigured.unwrap_or(now.instant);
        trouble.misconfigured = is_config.then_some(since);
        trouble.lost |= failure.cause == Cause::Lost;
        trouble.failures = trouble.failures.saturating_add(1);
        match failure.cause {
            Cause::Passing | Cause::Lost if trouble.stopped.is_some() => return trouble,
            Cause::Unexplained | Cause::Vague => trouble.stopped = None,
            Cause::Passing | Cause::Lost | Cause::Config => {}
        }
        trouble.refusal = failure.refusal.clone();
        trouble
    }
}
