//! Who waits for a token of an account, and when they are answered. A `show` that may not wait, or
//! finds a good token, is answered at once; the others wait here, and all of one account share the
//! operation that yields the token. The shell bounds every wait.

use std::sync::Arc;

use super::{Ended, LiveAccount, Progress, ShowRequest, SignIn, Waiter};
use crate::{
    core::{
        answer::{AccessToken, Patience, ShowAnswer},
        effect::Effect,
        env::Env,
        hook::HookInput,
        schedule,
    },
    hook::HookKind,
    oauth::token::{self, Refusal},
    secret::Secret,
    time::{Instant, Now, Wall},
};

impl LiveAccount {
    /// `show` with all its options: the answer, or `None` when the client waits for
    /// [`Effect::Answer`].
    pub fn ask_for_token(&mut self, env: &mut Env, mut ask: ShowRequest) -> Option<ShowAnswer> {
        if let Some(handed) = self.hand_out(env.now, &ask) {
            return Some(ShowAnswer::Token(handed));
        }
        if let Some(answer) = self.in_vain(env.now, &ask) {
            return Some(answer);
        }
        if let Some(process) = ask.process.filter(|_| self.begins_sign_in()) {
            ask.process = None;
            let (kind, process) = (HookKind::Requester, process.to_string());
            env.run(kind, &self.name, None, process, HookInput::None);
            self.waiting.insert(ask.waiter, ask);
            return None;
        }
        let progress = self.bring(env);
        let waits = match &progress {
            Progress::Refreshing { .. } | Progress::Deferred { .. } => {
                ask.patience != Patience::None
            }
            Progress::Discovering { .. }
            | Progress::SignIn { .. }
            | Progress::AskingForCode
            | Progress::Exchanging { .. } => ask.patience == Patience::Token,
            Progress::Parked(_) => false,
        };
        if waits {
            self.waiting.insert(ask.waiter, ask);
            return None;
        }
        Some(self.lacking(env, &ask, progress))
    }

    /// A client's time is over: what `show` would say now, or `None` when it has been answered.
    pub fn give_up(&mut self, env: &mut Env, waiter: Waiter) -> Option<ShowAnswer> {
        let mut request = self.waiting.remove(&waiter)?;
        (request.patience, request.process) = (Patience::None, None);
        self.ask_for_token(env, request)
    }

    /// Which program asks, as far as it could be looked up: the sign-in that has waited for that begins.
    pub fn identified(&mut self, env: &mut Env, requester: Option<String>) {
        if self.begins_sign_in() && !self.waiting.is_empty() {
            self.state.requester = requester;
            let _ = self.ask(env);
        }
        self.bring_for_waiting(env);
    }

    /// Whether who asks for a token now begins a sign-in.
    fn begins_sign_in(&self) -> bool {
        self.needs_person() && matches!(self.state.sign_in, SignIn::None)
    }

    /// A client that waited has left.
    pub fn forget(&mut self, waiter: Waiter) {
        self.waiting.remove(&waiter);
        self.waiters.retain(|(_, it)| *it != waiter);
    }

    /// Who waits goes on waiting for the account's successor, which has another registration.
    pub(in crate::core) fn hand_over(
        &mut self,
        env: &mut Env,
        successor: Option<&mut LiveAccount>,
    ) {
        match successor {
            Some(successor) => {
                successor.waiting = std::mem::take(&mut self.waiting);
                successor.bring_for_waiting(env);
            }
            None => self.answer_waiting(env, |_, _, _| Some(ShowAnswer::Gone)),
        }
    }

    // ---- changes of the account's state that clients wait for ---------------------------------

    /// There is a new token: the clients that wait get it, or learn that none will last longer.
    pub(super) fn answer_after_grant(&mut self, env: &mut Env) {
        self.settle(env, Ended::Refresh, Ok(()));
        self.answer_waiting(env, |account, env, request| {
            Some(match account.hand_out(env.now, request) {
                Some(handed) => ShowAnswer::Token(handed),
                None => account.unfit(env.now, request),
            })
        });
    }

    /// Tokens were restored, an account starts anew, or a sign-in is needed: the clients that wait get
    /// a token that will do, or wait for the next.
    pub(super) fn bring_for_waiting(&mut self, env: &mut Env) {
        if self.valid_access(env.now.instant).is_some() {
            self.settle(env, Ended::Refresh, Ok(()));
        }
        self.answer_waiting(env, |account, env, request| {
            account.ask_for_token(env, request.clone())
        });
    }

    /// A refresh has failed in a way that may pass: clients that wait for just one are answered.
    pub(super) fn answer_impatient(&mut self, env: &mut Env, refusal: &Refusal) {
        self.settle(env, Ended::Refresh, Err(passing(refusal)));
        self.answer_waiting(env, |account, env, request| {
            let trouble = Some(refusal.clone());
            let progress = Progress::Refreshing { trouble };
            (request.patience != Patience::Token).then(|| account.lacking(env, request, progress))
        });
    }

    /// The sign-in has ended without a token.
    pub(super) fn answer_failed(&mut self, env: &mut Env, refusal: &Refusal) {
        self.settle(env, Ended::Refresh, Err(refusal.clone()));
        self.answer_waiting(env, |_, _, _| Some(ShowAnswer::Failed(refusal.clone())));
    }

    /// The configuration is wrong: waiting longer is of no use to anyone.
    pub(super) fn answer_parked(&mut self, env: &mut Env, refusal: &Refusal) {
        self.settle(env, Ended::Refresh, Err(refusal.clone()));
        self.answer_waiting(env, |account, env, request| {
            Some(account.lacking(env, request, Progress::Parked(refusal.clone())))
        });
    }

    /// Answers the clients that wait; those for whom there is no answer go on waiting.
    fn answer_waiting(
        &mut self,
        env: &mut Env,
        answer: impl Fn(&mut LiveAccount, &mut Env, &ShowRequest) -> Option<ShowAnswer>,
    ) {
        for (waiter, request) in std::mem::take(&mut self.waiting) {
            match answer(self, env, &request) {
                Some(answer) => env.emit(Effect::Answer {
                    request,
                    account: self.name.clone(),
                    answer,
                }),
                None => drop(self.waiting.insert(waiter, request)),
            }
        }
    }

    /// When the access token expires, as far as is known.
    pub(super) fn expires(&self, now: Now) -> Option<Wall> {
        Some(now.wall_at(self.access_expires()?))
    }

    /// Why there is no token that will do: one that is merely too short says so.
    fn lacking(&self, env: &Env, request: &ShowRequest, progress: Progress) -> ShowAnswer {
        let left = self.asked(env.now, request).and_then(|(_, at)| at);
        let left = left.filter(|expires| *expires > env.now.instant);
        ShowAnswer::Not {
            progress,
            left: left.map(|expires| expires.since(env.now.instant)),
            first: self.access().is_none() && !self.registration.source.is_person(),
        }
    }

    /// The token that is asked for, valid or not, and when it expires. An ID token says so itself.
    fn asked(&self, now: Now, request: &ShowRequest) -> Option<(Arc<Secret>, Option<Instant>)> {
        let access = self.access()?;
        if !request.form.id_token {
            return Some((access.token.clone(), access.expires));
        }
        let token = access.id_token.clone()?;
        let expires = token::expiry(&token).map(|at| now.instant_at(at));
        Some((token, expires.or(access.expires)))
    }

    /// The token, if it is valid for so long; one of unknown life is taken to be.
    fn hand_out(&self, now: Now, request: &ShowRequest) -> Option<AccessToken> {
        let (token, expires) = self.asked(now, request)?;
        let then = now.instant.after(request.min_valid);
        if expires.is_some_and(|at| at <= then) {
            return None;
        }
        let scopes = self.access()?.scopes.clone();
        Some(AccessToken {
            token,
            expires: expires.map(|at| now.wall_at(at)),
            scopes: scopes.unwrap_or_else(|| self.registration.scopes.as_slice().into()),
            login_hint: self.login_hint().map(str::to_owned),
            provider: self.registration.provider_host(),
        })
    }

    /// Who is to sign in, as the config has it.
    pub(super) fn login_hint(&self) -> Option<&str> {
        let mut fields = self.registration.auth_uri_fields.iter();
        let login_hint = fields.find(|(key, _)| key == "login_hint");
        login_hint.map(|(_, value)| value.as_str())
    }

    /// Why a successor of the tokens held, which are valid, would not do either: to refresh them would
    /// be in vain, and again with every `show`.
    fn in_vain(&self, now: Now, request: &ShowRequest) -> Option<ShowAnswer> {
        self.valid_access(now.instant)?;
        let wanted = request.min_valid.saturating_add(schedule::MIN_REQUEST_GAP);
        match self.unfit(now, request) {
            ShowAnswer::ShortLived { lifetime } if lifetime >= wanted => None,
            answer => Some(answer),
        }
    }

    /// Why the tokens held don't do: there is no such token, or it lives for too short a time.
    fn unfit(&self, now: Now, request: &ShowRequest) -> ShowAnswer {
        let Some((_, expires)) = self.asked(now, request) else {
            return ShowAnswer::NoIdToken;
        };
        let obtained = self.state.grant.as_ref().map(|it| it.obtained.instant);
        let life = expires.zip(obtained).map(|(at, from)| at.since(from));
        ShowAnswer::ShortLived {
            lifetime: life.unwrap_or_default(),
        }
    }
}

/// Why what is tried again has failed.
pub(super) fn passing(refusal: &Refusal) -> Refusal {
    let mut told = refusal.clone();
    told.hint.get_or_insert_with(|| "it is tried again".into());
    told
}
