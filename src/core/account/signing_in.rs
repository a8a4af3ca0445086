//! Signing in: who waits for it, the request, the code that comes back, and what ends it.

use std::sync::Arc;

use log::Level;
use url::Url;

use super::{
    Browser, Device, Endpoints, Exchanging, Failure, LiveAccount, Pending, Phase, Progress, Pushed,
    Reminder, SignIn, waiting::passing,
};
use crate::{
    core::{
        answer::CallbackAnswer,
        attempt::{AttemptId, Dispatch, Waiter},
        effect::{Effect, Ended},
        env::{Common, Env},
        hook::HookInput,
        schedule,
    },
    hook::HookKind,
    oauth::{
        authorization::{self, CallbackResult},
        pushed,
        token::{Outcome, Refusal, Tokens, Verdict},
    },
    secret::Secret,
    time::{Instant, Now},
    view::{self, Happening, News, SignInStart, SignInWays},
};

/// What the refusal of a code that was sent twice may come from (RFC 6749, 4.1.2).
const LOST_BEFORE: &str = "; the server ended before an earlier reply came, so sign in again";

impl LiveAccount {
    /// Starts a sign-in, or joins the one under way.
    pub(super) fn ask(&mut self, env: &mut Env) -> Progress {
        match &mut self.state.sign_in {
            SignIn::Exchanging(_) => {}
            SignIn::Discovering(_) => match self.locate(env) {
                // They have become known just now.
                Some(_) => self.begin_discovered(env),
                None => self.discover_for_sign_in(env),
            },
            // A code that has expired is replaced on request.
            SignIn::Pending(_) => self.renew_device(env),
            SignIn::None => self.begin_sign_in(env),
        }
        match &self.state.sign_in {
            SignIn::Pending(pending) => match self.ways(env, pending) {
                ways if ways.uri().is_some() => Progress::SignIn {
                    ways,
                    reason: self.why_no_token().cloned(),
                },
                _ => Progress::AskingForCode,
            },
            SignIn::Discovering(_) => Progress::Discovering {
                trouble: self.discovery_trouble(env),
            },
            SignIn::Exchanging(exchanging) => Progress::Exchanging {
                trouble: exchanging.trouble.clone(),
            },
            SignIn::None => Progress::AskingForCode,
        }
    }

    /// Why a sign-in is needed: the last thing that is known to have gone wrong.
    fn why_no_token(&self) -> Option<&Refusal> {
        let rejected = match self.phase() {
            Some(Phase::Rejected { refusal, .. }) => Some(refusal),
            _ => None,
        };
        let (failed, lost) = (&self.state.failed, &self.state.lost);
        failed.as_ref().or(rejected).or(lost.as_ref())
    }

    /// Starts a sign-in or joins the one under way; with `join` it never starts one. While a code
    /// is being asked for, `waiter` is notified; likewise while the issuer is, unless that has
    /// failed before and there is a `hurry`.
    ///
    /// # Errors
    /// Why a sign-in isn't possible yet.
    pub fn auth(
        &mut self,
        env: &mut Env,
        join: bool,
        hurry: bool,
        opens: bool,
        waiter: Waiter,
    ) -> Result<SignInStart, Refusal> {
        if !self.registration.source.is_person() {
            if !join && self.valid_access(env.now.instant).is_none() {
                let _ = self.refresh(env);
            }
            return Ok(SignInStart::Over);
        }
        if !join {
            // What there is to show is below.
            self.opens = opens;
            let _ = self.ask(env);
        }
        let trouble = self.discovery_trouble(env);
        let asking = self.is_issuer_asked(env);
        Ok(match &self.state.sign_in {
            SignIn::None => SignInStart::Over,
            SignIn::Exchanging(_) => SignInStart::Exchanging,
            SignIn::Discovering(_) => match trouble {
                Some(refusal) if hurry || !asking => return Err(refusal),
                Some(_) | None => {
                    self.waiters.push((Ended::Code, waiter));
                    SignInStart::AskingForCode
                }
            },
            SignIn::Pending(pending) if pending.device.is_to_come() => {
                self.waiters.push((Ended::Code, waiter));
                SignInStart::AskingForCode
            }
            SignIn::Pending(pending) => {
                self.opens = false;
                SignInStart::Open(self.ways(env, pending))
            }
        })
    }

    /// How a pending sign-in can be completed by now.
    fn ways(&self, env: &Env, pending: &Pending) -> SignInWays {
        let browser = pending.browser.as_ref();
        let browser_uri = browser.and_then(|browser| env.common.browser_uri(browser));
        let short_uri = browser.and_then(|browser| env.common.short_uri(browser));
        SignInWays {
            short_uri: short_uri.filter(|it| browser_uri.as_ref() != Some(it)),
            browser_uri,
            device: pending.device.view(env.now),
            paste: self.awaits_paste(),
        }
    }

    /// Has `waiter` notified of the end of the sign-in under way, if there is one: then true; false
    /// when the last one didn't fail.
    pub fn wait_for_sign_in(&mut self, env: &mut Env, waiter: Waiter) -> Result<bool, Refusal> {
        if !self.registration.source.is_person() {
            return self.wait_for_refresh(env, waiter);
        }
        if matches!(self.state.sign_in, SignIn::None) {
            return self.state.failed.clone().map_or(Ok(false), Err);
        }
        self.waiters.push((Ended::SignIn, waiter));
        Ok(true)
    }

    /// The same where nobody has to sign in: what is waited for is a token.
    fn wait_for_refresh(&mut self, env: &Env, waiter: Waiter) -> Result<bool, Refusal> {
        let valid = self.valid_access(env.now.instant).is_some();
        match self.phase() {
            Some(Phase::Failing {
                trouble, wanted, ..
            }) if !valid && !wanted => Err(match trouble.stopped {
                None => passing(&trouble.refusal),
                Some(_) => trouble.refusal.clone(),
            }),
            Some(_) if !valid => {
                self.waiters.push((Ended::Refresh, waiter));
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// What clients have waited for is over. Of [`Ended::Code`]: the ways to sign in are known, or why
    /// they aren't.
    pub(super) fn settle(&mut self, env: &mut Env, what: Ended, result: Result<(), Refusal>) {
        self.opens &= what != Ended::Code || result.is_ok();
        let waiters = std::mem::take(&mut self.waiters).into_iter();
        let (over, waiting): (Vec<_>, Vec<_>) = waiters.partition(|(ours, _)| *ours == what);
        self.waiters = waiting;
        let over = over.into_iter().map(|(_, waiter)| waiter).collect();
        env.settle(&self.name, what, over, result);
    }

    pub(super) fn begin_sign_in(&mut self, env: &mut Env) {
        let Some(endpoints) = self.locate(env) else {
            return self.discover_first(env);
        };
        self.open_request(env, &endpoints, None);
        self.remind(env, Reminder::WithCode);
    }

    /// Where a browser that has just seen a sign-in fail can go for another one. Nobody else is
    /// asked to complete that one before the next reminder is due.
    pub fn sign_in_again(&mut self, env: &mut Env) -> Option<String> {
        if matches!(self.state.sign_in, SignIn::None) && self.registration.source.is_person() {
            let endpoints = self.locate(env)?;
            self.open_request(env, &endpoints, Some(env.now));
        }
        env.common.browser_uri(self.pending_browser()?)
    }

    /// Where a browser goes that has come to the short address of the pending sign-in; `None` is there
    /// again, in a moment.
    ///
    /// # Errors
    /// Why the provider doesn't take the request.
    pub(in crate::core) fn visit(&mut self, env: &mut Env) -> Result<Option<String>, Refusal> {
        let client_id = &self.config.registration.client_id;
        let endpoints = self.endpoints.as_deref();
        let SignIn::Pending(Pending {
            browser: Some(browser),
            ..
        }) = &mut self.state.sign_in
        else {
            return Ok(None);
        };
        match &browser.pushed {
            Pushed::Unneeded => return Ok(Some(browser.uri.clone())),
            Pushed::Done(name, until) if *until > env.now.instant => {
                let endpoint = endpoints.and_then(|it| it.auth_uri.as_ref());
                return Ok(endpoint.map(|it| pushed::authorization_uri(it, client_id, name)));
            }
            Pushed::Refused(refusal) => {
                let refusal = refusal.clone();
                browser.pushed = Pushed::Due;
                return Err(refusal);
            }
            Pushed::Due | Pushed::Done(..) if !env.common.held => {
                let attempt = env.attempt();
                browser.pushed = Pushed::Asking(attempt);
                self.send(env, attempt);
            }
            Pushed::Due | Pushed::Done(..) | Pushed::Asking(_) => {}
        }
        Ok(None)
    }

    /// This is how far the pending request is.
    pub(super) fn pushed(&mut self, pushed: Pushed) {
        if let SignIn::Pending(Pending {
            browser: Some(browser),
            ..
        }) = &mut self.state.sign_in
        {
            browser.pushed = pushed;
        }
    }

    /// The provider has answered the request that was left with it.
    pub(super) fn push_answered(
        &mut self,
        env: &mut Env,
        endpoints: &Endpoints,
        sent: Instant,
        outcome: &Outcome,
    ) {
        let Some(endpoint) = endpoints.push_uri() else {
            return self.pushed(Pushed::Due);
        };
        let pushed = match pushed::judge(endpoint, outcome, env.now.wall) {
            Ok((name, life)) => Pushed::Done(name, sent.after(life)),
            Err((refusal, passes)) => {
                if !passes {
                    // It may be the secret that is out of date.
                    self.credentials.forget();
                }
                Pushed::Refused(refusal)
            }
        };
        self.pushed(pushed);
    }

    /// The authorization request that is pending.
    pub(in crate::core) fn pending_browser(&self) -> Option<&Browser> {
        self.state.sign_in.pending()?.browser.as_ref()
    }

    fn open_request(&mut self, env: &mut Env, endpoints: &Endpoints, reminded: Option<Now>) {
        let browser = endpoints.auth_uri.as_ref().map(|endpoint| {
            let state = Arc::new(authorization::token_text(&env.bytes32()));
            let verifier = Arc::new(authorization::token_text(&env.bytes32()));
            verifier.bind(self.registration.mark());
            let redirect_uri = self.redirect_uri(env.common);
            let uri = authorization::authorization_uri(
                endpoint,
                &self.registration,
                &redirect_uri,
                state.expose(),
                &authorization::code_challenge(verifier.expose()),
            );
            let mut browser = Browser {
                state,
                verifier,
                redirect_uri,
                uri,
                pushed: Pushed::Unneeded,
            };
            if endpoints.push_uri().is_some() && env.common.short_uri(&browser).is_some() {
                browser.pushed = Pushed::Due;
            }
            browser
        });
        self.state.sign_in = SignIn::Pending(Pending {
            attempt: env.attempt(),
            browser,
            device: match endpoints.device_auth_uri {
                Some(_) => Device::Over { again: true },
                None => Device::None,
            },
            since: env.now,
            reminded,
            told: false,
        });
        let message = match self.is_live(env.now.instant) {
            true => "authorisation can be renewed",
            false => "authorisation needed",
        };
        env.log(Level::Info, &self.name, message);
        if let Some(requester) = &self.state.requester {
            env.log(Level::Info, &self.name, format!("asked for by {requester}"));
        }
        let news = News {
            requester: self.state.requester.clone(),
            ..Happening::AuthorisationPending.into()
        };
        env.news(&self.name, news);
    }

    pub(super) fn remind(&mut self, env: &mut Env, reminder: Reminder) {
        if reminder == Reminder::WithCode && self.start_device(env) {
            return;
        }
        let Some(command) = env.config().auth_notify_cmd.clone() else {
            return;
        };
        let needed = self.needs_person();
        let notice = self.state.notice;
        let SignIn::Pending(pending) = &self.state.sign_in else {
            return;
        };
        let ways = self.ways(env, pending);
        if ways.uri().is_none() || !(needed || notice) {
            return;
        }
        let (kind, attempt) = (HookKind::Notify, Some(pending.attempt));
        let input = HookInput::SignIn {
            ways,
            requester: self.state.requester.clone(),
            expiring: notice && self.is_live(env.now.instant),
            limit: env.config().auth_notify_interval,
        };
        if let SignIn::Pending(pending) = &mut self.state.sign_in {
            (pending.reminded, pending.told) = (Some(env.now), false);
        }
        self.state.notice = false;
        if !std::mem::take(&mut self.opens) {
            env.run(kind, &self.name, attempt, command, input);
        }
    }

    /// `auth_notify_cmd` has ended by itself.
    pub fn notified(&mut self, env: &mut Env, attempt: AttemptId) {
        if let SignIn::Pending(pending) = &mut self.state.sign_in {
            pending.told |= pending.attempt == attempt;
            // A successor learns only of what has an effect.
            env.log(Level::Debug, &self.name, "the notification has been shown");
        }
    }

    /// Why the code of the sign-in under way couldn't be exchanged yet.
    pub(in crate::core) fn exchange_trouble(&self) -> Option<&Refusal> {
        self.state.sign_in.exchanging()?.trouble.as_ref()
    }

    /// Whether `state` is that of the sign-in under way. Always compares, in constant time.
    pub(in crate::core) fn awaits(&self, state: &Secret) -> bool {
        let browser = self.browser();
        browser.is_some_and(|browser| *browser.state == *state)
    }

    /// What the browser was sent away with by the sign-in under way.
    pub(super) fn browser(&self) -> Option<&Browser> {
        let exchanging = self.state.sign_in.exchanging().map(|it| &it.browser);
        exchanging.or_else(|| self.pending_browser())
    }

    /// The redirection endpoint as it is sent.
    pub(super) fn redirect_uri(&self, common: &Common) -> String {
        let configured = &self.registration.redirect_uri;
        let listened = || authorization::redirect_uri(configured, common.ports.of(configured));
        (self.config.pasted_redirect.as_deref()).map_or_else(listened, str::to_owned)
    }

    /// Whether the user has to paste what the pending sign-in ends with.
    pub(in crate::core) fn awaits_paste(&self) -> bool {
        self.pending_browser().is_some() && self.config.pasted_redirect.is_some()
    }

    /// Whether a code without a state may be for the pending sign-in: from `at` this address, or as
    /// the page shows it.
    pub(in crate::core) fn takes_code(&self, at: Option<&Url>) -> bool {
        self.awaits_paste() && self.check_arrival(at).is_ok()
    }

    /// Whether a response at this address is of the server that was asked, as far as its place tells.
    /// A code that was copied has none.
    fn check_arrival(&self, at: Option<&Url>) -> Result<(), &'static str> {
        match self.browser().zip(at) {
            Some((browser, at)) if !authorization::is_redirect(&browser.redirect_uri, at) => {
                Err("an authorization response that arrived elsewhere was ignored")
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An authorization response for the sign-in under way: that `at` this address, whose state is
    /// this account's, or a code that the user has copied.
    pub(in crate::core) fn deliver(
        &mut self,
        env: &mut Env,
        at: Option<&Url>,
        iss: Option<&str>,
        result: CallbackResult,
        waiter: Waiter,
    ) -> CallbackAnswer {
        let account = self.name.clone();
        if let Err(message) = self.check_issuer(iss).and(self.check_arrival(at)) {
            env.log(Level::Warn, &self.name, message);
            return CallbackAnswer::OtherProvider { account };
        }
        let (attempt, browser) = match &self.state.sign_in {
            SignIn::Exchanging(_) => {
                self.waiters.push((Ended::SignIn, waiter));
                return CallbackAnswer::Wait { account };
            }
            SignIn::Pending(Pending {
                attempt,
                browser: Some(browser),
                ..
            }) => (*attempt, browser.clone()),
            // No sign-in has this state.
            SignIn::None | SignIn::Discovering(_) | SignIn::Pending(_) => {
                return CallbackAnswer::Stale;
            }
        };
        match result {
            CallbackResult::Code(code) => {
                env.emit(Effect::NotifyEnd { attempt });
                self.state.failed = None;
                self.settle(env, Ended::Code, Ok(()));
                code.bind(self.registration.mark());
                self.waiters.push((Ended::SignIn, waiter));
                self.begin_exchange(env, browser, Arc::new(code));
                CallbackAnswer::Wait { account }
            }
            CallbackResult::Error {
                error,
                description,
                uri,
            } => {
                let refusal =
                    authorization::refusal(&error, description.as_deref(), uri.as_deref());
                let refusal = self
                    .with_scopes(refusal, &error)
                    .with_consent_address(&self.registration);
                self.pending_failed(env, refusal.clone());
                let result = Err(refusal);
                CallbackAnswer::Over { account, result }
            }
        }
    }

    fn begin_exchange(&mut self, env: &mut Env, browser: Browser, code: Arc<Secret>) {
        self.state.sign_in = SignIn::Exchanging(Exchanging {
            browser,
            code,
            since: env.now,
            dispatch: Dispatch::At(env.now.instant),
            trouble: None,
            told: false,
        });
        if !env.common.held {
            self.retry_exchange(env);
        }
        env.news(&self.name, Happening::AuthorisationCompleting);
    }

    pub(super) fn retry_exchange(&mut self, env: &mut Env) {
        if let SignIn::Exchanging(exchanging) = &mut self.state.sign_in {
            let attempt = env.attempt();
            exchanging.dispatch = Dispatch::InFlight(attempt);
            self.send(env, attempt);
        }
    }

    pub(super) fn exchange_outcome(
        &mut self,
        env: &mut Env,
        mut exchanging: Exchanging,
        sent: Instant,
        verdict: Verdict,
    ) {
        let mut refusal = match verdict {
            Verdict::Granted(tokens) => {
                self.state.sign_in = SignIn::Exchanging(exchanging);
                self.end_sign_in(env, Ok(()));
                self.signed_in(env, tokens, sent);
                return;
            }
            Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal) => refusal,
            Verdict::Transient { refusal, .. } => {
                let waited = env.now.instant.since(exchanging.since.instant);
                if waited.saturating_add(schedule::EXCHANGE_RETRY) < schedule::CODE_LIFETIME {
                    let why = refusal.line();
                    if waited >= schedule::EXCHANGE_NOTICE_AFTER && !exchanging.told {
                        exchanging.told = true;
                        let message = format!("can't complete the authorisation yet: {why}");
                        env.error(&self.name, message);
                    } else {
                        let message = format!("will try again to exchange the code: {why}");
                        env.log(Level::Warn, &self.name, message);
                    }
                    let retry_at = env.now.instant.after(schedule::EXCHANGE_RETRY);
                    exchanging.dispatch = Dispatch::At(retry_at);
                    exchanging.trouble = Some(refusal);
                    self.state.sign_in = SignIn::Exchanging(exchanging);
                    return;
                }
                refusal
            }
        };
        if exchanging.trouble == Some(Failure::unheard().refusal) {
            refusal.text += LOST_BEFORE;
        }
        self.state.sign_in = SignIn::Exchanging(exchanging);
        self.end_sign_in(env, Err(refusal.clone()));
        self.sign_in_failed(env, refusal);
    }

    /// The user has signed in, by any channel.
    pub(super) fn signed_in(&mut self, env: &mut Env, tokens: Tokens, sent: Instant) {
        let hint = tokens.no_refresh_token;
        if let Some(grant) = &mut self.state.grant {
            grant.other_user = None;
        }
        self.granted(env, tokens, sent);
        self.state.sign_ins.begin(env.now.wall_at(sent));
        self.announce(env, Happening::TokenNew);
        if let Some(user) = self.other_user() {
            env.error(&self.name, view::other_user(user));
        }
        match hint {
            // A refresh token of old may go on; what replaces it need not be news.
            Some(hint) if self.needs_person() => self.tell_of_the_end(env, hint),
            Some(_) => {}
            None => self.state.told_no_refresh_token = false,
        }
        self.answer_after_grant(env);
    }

    /// There is nothing to refresh with. The user is notified while the token is good and the
    /// sign-in in mind, and not when mail no longer comes; and once, for that is how the provider
    /// or the config is.
    fn tell_of_the_end(&mut self, env: &mut Env, hint: &str) {
        let Some(expires) = self.access_expires() else {
            let message = format!(
                "no refresh token came along, so a new sign-in is needed if the access token \
                 expires ({hint})"
            );
            return env.log(Level::Warn, &self.name, message);
        };
        let left = crate::time::humane(expires.since(env.now.instant));
        let message = format!("authorised for only {left}: no refresh token came along ({hint})");
        if std::mem::replace(&mut self.state.told_no_refresh_token, true) {
            env.log(Level::Warn, &self.name, message);
        } else {
            env.error(&self.name, message);
        }
    }

    /// Ends the sign-in under way: its reminder, its state and all waits for it.
    pub(super) fn end_sign_in(&mut self, env: &mut Env, result: Result<(), Refusal>) {
        (self.opens, self.state.notice) = (false, false);
        self.state.requester = None;
        let sign_in = std::mem::take(&mut self.state.sign_in);
        if !matches!(sign_in, SignIn::None) {
            self.state.failed = None;
        }
        match sign_in {
            SignIn::None | SignIn::Discovering(_) => {}
            SignIn::Pending(Pending { attempt, .. }) => env.emit(Effect::NotifyEnd { attempt }),
            SignIn::Exchanging(exchanging) => {
                env.spend(exchanging.browser.state, &self.name, result.clone());
            }
        }
        self.settle(env, Ended::Code, Ok(()));
        self.settle(env, Ended::SignIn, result);
    }

    /// Remembers how the pending sign-in ended for a browser that comes late.
    pub(super) fn spend_pending(&self, env: &mut Env, result: Result<(), Refusal>) {
        if let Some(browser) = self.pending_browser() {
            env.spend(browser.state.clone(), &self.name, result);
        }
    }

    /// The pending sign-in has failed, by whatever channel.
    pub(super) fn pending_failed(&mut self, env: &mut Env, refusal: Refusal) {
        self.spend_pending(env, Err(refusal.clone()));
        self.end_sign_in(env, Err(refusal.clone()));
        self.sign_in_failed(env, refusal);
    }

    /// Ends a sign-in that may be under way, because of what the user did here.
    pub(super) fn cancel_sign_in(&mut self, env: &mut Env, why: Refusal) {
        if !matches!(self.state.sign_in, SignIn::None) {
            env.news(&self.name, Happening::AuthorisationCancelled.because(&why));
        }
        self.end_sign_in(env, Err(why));
    }

    fn sign_in_failed(&mut self, env: &mut Env, refusal: Refusal) {
        env.error(
            &self.name,
            format!("authorisation failed: {}", refusal.line()),
        );
        let news = Happening::AuthorisationFailed.because(&refusal);
        env.news(&self.name, news);
        // Those who wait for a refresh go on waiting for it.
        if self.needs_person() {
            self.answer_failed(env, &refusal);
        }
        self.state.failed = Some(refusal);
    }
}
