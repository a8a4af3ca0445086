//! Refreshing: when one starts, what its outcome means, and the tokens that it yields.

use std::{sync::Arc, time::Duration};

use log::Level;

use super::{Access, Ended, Failure, Grant, LiveAccount, Origins, Phase, Renewal, Trouble};
use crate::{
    core::{AttemptId, env::Env, hook::HookInput, schedule},
    hook::HookKind,
    oauth::token::{self, Cause, Refusal, Tokens, Verdict},
    secret::Secret,
    time::{Instant, Now},
    view::{Happening, News},
};

impl LiveAccount {
    /// Refreshes now, or as soon as the floor and the provider allow.
    pub(super) fn refresh_soon(&mut self, env: &mut Env) {
        let earliest = self.earliest_request(env.common, true);
        match self.phase_mut() {
            Some(Phase::Failing { wanted, .. }) => *wanted = true,
            Some(phase) => *phase = Phase::Wanted,
            None => return,
        }
        if earliest <= env.now.instant && !self.is_exchanging() && !env.common.held {
            self.start_refresh(env);
        }
    }

    pub(super) fn start_refresh(&mut self, env: &mut Env) {
        let attempt = env.attempt();
        let Some(phase) = self.phase_mut() else {
            return;
        };
        let trouble = match std::mem::replace(phase, Phase::Wanted) {
            Phase::Failing { trouble, .. } => Some(trouble),
            Phase::Waiting | Phase::Wanted | Phase::Rejected { .. } => None,
            busy @ (Phase::InFlight { .. } | Phase::Probing { .. }) => {
                *phase = busy;
                return;
            }
        };
        *phase = Phase::InFlight { attempt, trouble };
        self.send(env, attempt);
    }

    pub(super) fn refresh_outcome(
        &mut self,
        env: &mut Env,
        trouble: Option<Trouble>,
        sent: Instant,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Granted(mut tokens) => {
                // What the reply doesn't say is as it was (RFC 6749, 6).
                tokens.scopes = tokens.scopes.or_else(|| self.granted_scopes());
                tokens.id_token = tokens.id_token.or_else(|| self.lasting_id_token(env.now));
                let event = match &self.state.grant {
                    Some(grant) if grant.has_tokens() => Happening::TokenRefreshed,
                    Some(_) | None => Happening::TokenNew,
                };
                self.granted(env, tokens, sent);
                self.state.works = true;
                if trouble.is_some() {
                    env.news(&self.name, Happening::RefreshRecovered);
                }
                self.announce(env, event);
                self.answer_after_grant(env);
            }
            Verdict::LoginNeeded(refusal) => self.rejected(env, trouble.as_ref(), refusal),
            // What has worked isn't given up for one answer.
            Verdict::Parked(refusal) => {
                let cause = Cause::Config;
                self.failing(env, trouble, Failure { refusal, cause });
            }
            // Its Retry-After has become a pause.
            Verdict::Transient { refusal, cause, .. } => {
                let failure = Failure { refusal, cause };
                if self.is_final(env, trouble.as_ref(), &failure) {
                    return self.rejected(env, trouble.as_ref(), failure.refusal);
                }
                match env.config().transient_error_if_cmd.clone() {
                    Some(command) => self.probe(env, command, trouble, failure),
                    None => self.failing(env, trouble, failure),
                }
            }
        }
    }

    /// Whether an answer that need not be the provider's has come so often and for so long that it
    /// must be, and there is nothing to lose by a sign-in.
    fn is_final(&self, env: &Env, before: Option<&Trouble>, failure: &Failure) -> bool {
        let trouble = Trouble::after(before.cloned(), failure, env.now);
        let span = env.now.instant.since(trouble.since.instant);
        let access = self.state.grant.as_ref().and_then(|it| it.access.as_ref());
        let expired = access.is_none_or(|it| it.expires.is_some_and(|at| at <= env.now.instant));
        failure.cause == Cause::Vague
            && expired
            && trouble.unexplained >= schedule::MAX_UNEXPLAINED
            && span >= schedule::MIN_VAGUE
    }

    fn probe(
        &mut self,
        env: &mut Env,
        command: String,
        trouble: Option<Trouble>,
        failure: Failure,
    ) {
        let attempt = env.attempt();
        let (kind, input) = (HookKind::Probe, HookInput::None);
        env.run(kind, &self.name, Some(attempt), command, input);
        self.set_phase(Phase::Probing {
            attempt,
            trouble,
            failure,
        });
    }

    /// `transient_error_if_cmd` has judged the last failure: `transient` is to be ignored.
    pub fn probe_outcome(&mut self, env: &mut Env, attempt: AttemptId, transient: bool) {
        let Some(phase) = self.phase_mut() else {
            return;
        };
        match std::mem::replace(phase, Phase::Wanted) {
            Phase::Probing {
                attempt: id,
                trouble,
                failure,
            } if id == attempt => {
                if transient {
                    return self.failing(env, trouble, failure);
                }
                if let Some(grant) = &mut self.state.grant {
                    grant.access = None;
                    env.tokens_changed();
                }
                let Refusal { text, hint } = failure.refusal;
                let text = format!("transient_error_if_cmd took this for final: {text}");
                self.rejected(env, None, Refusal { text, hint });
            }
            other => *phase = other,
        }
    }

    fn failing(&mut self, env: &mut Env, before: Option<Trouble>, failure: Failure) {
        let mut trouble = Trouble::after(before, &failure, env.now);
        let [jitter, ..] = env.bytes32();
        let wrong = trouble.misconfigured.map(|at| env.now.instant.since(at));
        let believed = |span| !self.state.works || span >= schedule::MIN_MISCONFIGURED;
        match trouble.stopped.is_none() && wrong.is_some_and(believed) {
            true => self.stop(env, &mut trouble),
            false => self.say_failing(env, &mut trouble, jitter),
        }
        match trouble.stopped {
            None => self.answer_impatient(env, &trouble.refusal),
            Some(_) => self.answer_parked(env, &trouble.refusal),
        }
        env.common.heeds_network = true;
        self.set_phase(Phase::Failing {
            trouble,
            failed: env.now.instant,
            jitter,
            wanted: false,
        });
    }

    /// One more failure, and when the next try is.
    fn say_failing(&self, env: &mut Env, trouble: &mut Trouble, jitter: u8) {
        let delay = self.retry_delay(trouble, env.now.instant, jitter);
        let earliest = self.earliest_request(env.common, false);
        let delay = delay.max(earliest.since(env.now.instant));
        let message = format!(
            "refresh failed, trying again in {}: {}",
            crate::time::humane(delay),
            trouble.refusal.line()
        );
        let span = env.now.instant.since(trouble.since.instant);
        let lasts = span >= schedule::TROUBLE_NOTICE_AFTER
            || trouble.unexplained >= schedule::MAX_UNEXPLAINED;
        if !trouble.told && lasts {
            trouble.told = true;
            env.error(&self.name, message);
        } else {
            env.log(Level::Warn, &self.name, message);
        }
        env.news(
            &self.name,
            News {
                refresh_failures: Some(trouble.failures),
                refresh_at: Some(env.now.wall_at(env.now.instant.after(delay))),
                ..Happening::RefreshFailing.because(&trouble.refusal)
            },
        );
    }

    /// The configuration must be wrong: it is tried less often from now on.
    fn stop(&mut self, env: &mut Env, trouble: &mut Trouble) {
        self.state.works = false;
        (trouble.stopped, trouble.told) = (Some(env.now.wall), true);
        let message = format!("refreshing has stopped: {}", trouble.refusal.line());
        env.error(&self.name, message);
        let news = Happening::RefreshStopped.because(&trouble.refusal);
        env.news(&self.name, news);
    }

    pub(super) fn rejected(
        &mut self,
        env: &mut Env,
        before: Option<&Trouble>,
        mut refusal: Refusal,
    ) {
        if !self.registration.source.is_person() {
            // No sign-in would help.
            let cause = Cause::Config;
            return self.failing(env, before.cloned(), Failure { refusal, cause });
        }
        if before.is_some_and(|trouble| trouble.lost) {
            refusal.text += LOST_BEFORE;
        } else if let Some(grant) = &self.state.grant {
            let worked = grant.obtained.wall;
            (self.state.sign_ins).ended(worked, env.now.wall, &refusal.text);
        }
        self.settle(env, Ended::Refresh, Err(refusal.clone()));
        env.error(
            &self.name,
            format!("authorisation needed again: {}", refusal.line()),
        );
        let news = Happening::AuthorisationNeeded.because(&refusal);
        env.news(&self.name, news);
        self.set_phase(Phase::Rejected {
            refusal,
            since: env.now.wall,
        });
        self.state.failed = None;
        self.announce(env, Happening::TokenInvalidated);
        self.bring_for_waiting(env);
    }

    /// The scopes that the provider has granted, if it said.
    fn granted_scopes(&self) -> Option<Vec<String>> {
        Some(self.access()?.scopes.as_ref()?.to_vec())
    }

    /// The ID token, until it expires: a refresh needn't bring another (OpenID Connect Core 1.0, 12.2).
    fn lasting_id_token(&self, now: Now) -> Option<Arc<Secret>> {
        let id_token = self.access()?.id_token.clone();
        id_token.filter(|it| token::expiry(it).is_some_and(|at| at > now.wall))
    }

    /// New tokens.
    pub(super) fn granted(&mut self, env: &mut Env, tokens: Tokens, sent: Instant) {
        env.tokens_changed();
        self.state.pause = None;
        let origins = self.endpoints.as_ref().and_then(|it| it.origins.clone());
        let refresh_token = tokens.refresh_token.map(Arc::new);
        let users = (tokens.id_token.as_deref()).map_or_else(Vec::new, token::users);
        self.user = users.first().cloned();
        let other_user = match users.is_empty() {
            true => self.other_user().map(str::to_owned),
            false => self.other_than_hint(users),
        };
        let fresh = refresh_token.is_some();
        let before = self.refresh_ends();
        let mut renewal = self.succeed(refresh_token.map(|token| (token, origins.clone())));
        // Who signs in for itself keeps no refresh token.
        if let Some(renewal) = renewal.as_mut().filter(|it| it.refresh_token.is_some()) {
            if fresh {
                renewal.tell_start(env.now.wall, env.now.instant, true);
            }
            if let Some(life) = tokens.refresh_life {
                renewal.ends = (life != Duration::MAX).then(|| sent.after(life));
                let same = |(at, before): (Instant, Instant)| at <= before.after(SAME_END);
                renewal.fixed = renewal.ends.zip(before).is_some_and(same);
            }
        }
        self.hold(Grant {
            access: Some(Access {
                token: Arc::new(tokens.access_token),
                expires: tokens.expires_in.map(|life| sent.after(life)),
                origins,
                scopes: tokens.scopes.map(Arc::from),
                id_token: tokens.id_token,
            }),
            renewal,
            obtained: Now {
                instant: sent,
                wall: env.now.wall_at(sent),
            },
            other_user,
            loaded: None,
        });
        self.state.bind(self.registration.mark());
    }

    /// The first of `users`, unless one of them is the config's login_hint.
    fn other_than_hint(&self, users: Vec<String>) -> Option<String> {
        let hint = self.login_hint()?;
        let is_hint = |user: &String| {
            let name = user.split('@').next().filter(|_| !hint.contains('@'));
            hint.eq_ignore_ascii_case(name.unwrap_or(user))
        };
        let same = users.iter().any(is_hint);
        users.into_iter().next().filter(|_| !same)
    }

    /// Who has signed in, if that is somebody else than was expected.
    pub(in crate::core) fn other_user(&self) -> Option<&str> {
        self.state.grant.as_ref()?.other_user.as_deref()
    }

    /// These are the account's tokens from now on.
    pub(super) fn hold(&mut self, grant: Grant) {
        self.state.grant = Some(Box::new(grant));
        self.state.lost = None;
    }

    /// What renews tokens that came with `refresh_token`, or with none. The refresh token held is
    /// given up only for another one.
    pub(super) fn succeed(
        &mut self,
        refresh_token: Option<(Arc<Secret>, Origins)>,
    ) -> Option<Renewal> {
        if let Some((refresh_token, origins)) = refresh_token {
            return Some(Renewal {
                refresh_token: Some(refresh_token),
                origins,
                ..Renewal::default()
            });
        }
        let renewal = self.state.grant.take().and_then(|it| it.renewal);
        let mut renewal = match self.registration.source.is_person() {
            true => renewal?,
            false => renewal.unwrap_or_default(),
        };
        match renewal.phase {
            // Of no use, but only a successor ends it.
            Phase::Rejected { .. } => {}
            // On its way, and it may come back as another.
            Phase::InFlight { .. } => {}
            Phase::Waiting | Phase::Wanted | Phase::Failing { .. } | Phase::Probing { .. } => {
                renewal.phase = Phase::Waiting
            }
        }
        Some(renewal)
    }
}

/// How far apart two words on one end may be: they count from requests whose way took a while.
const SAME_END: Duration = Duration::from_secs(60);

/// What a refusal after a lost reply may come from: a provider that replaces its refresh tokens
/// takes the second use of one for theft (RFC 9700, 4.14.2).
const LOST_BEFORE: &str =
    "; an earlier reply was lost on the way, and a new refresh token perhaps with it";
