//! The core as the world sees it, and bugs to plant around it: a simulator that doesn't find
//! these finds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use url::Url;

use super::{
    issuer::STRANGER,
    promise::Invariant,
    setup::{ISSUERS, MARK, PLACES, host},
};
use crate::{
    config::Config,
    core::{
        AttemptId, CallbackAnswer, Core, CoreState, Cx, Effect, Ended, Ports, Progress, ShowAnswer,
        ShowRequest, Waiter,
        account::tests::UnderWay,
        dump::{self, Dump, Saved},
        env::Common,
        hook::{Hook, HookInput},
    },
    hook::HookKind,
    oauth::{
        authorization::{Callback, CallbackResult},
        command::CommandFailure,
        token::{Outcome, Reply, Request},
    },
    secret::Secret,
    time::{Instant, Now},
    view::{AccountView, RenewalView, SignInView, SignInWays},
};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Requests go where the account's first one went, whatever the config says now.
    OldEndpoint,
    /// The first `show` after `revoke` answers from memory.
    ShowAfterRevoke,
    /// A lost reply costs the refresh token.
    ForgetRefreshToken,
    /// A refresh is asked for twice at once.
    DuplicateRequest,
    /// `refresh` doesn't wait for the floor.
    HastyRefresh,
    /// Hooks hear of everything twice.
    AnnounceTwice,
    /// One of those who wait for a sign-in never hears of its end.
    ForgetWaiter,
    /// A sign-in that the provider completed is thrown away.
    DiscardSignIn,
    /// A tick makes the exchange's attempt another one: its outcome is dropped as a late one.
    ReminderDiscards,
    /// `Retry-After` is the end of the daemon.
    Panic,
    /// `restore` replaces what it finds.
    RestoreOlder,
    /// A dump has no refresh tokens.
    DumpForgets,
    /// A token is shown until half a minute after its expiry.
    ShowExpired,
    /// After a failure there is no next deadline.
    SwallowDeadline,
    /// A log line quotes the request.
    LeakIntoLog,
    /// Somebody who waits for a token is never answered.
    ForgetAsker,
    /// Reminders have the code of somebody else.
    OtherUserCode,
    /// Nobody hears how telling the provider of a `revoke` ended.
    SilentRevocation,
    /// A deadline isn't in the index.
    LoseDeadline,
    /// A save that failed counts as one that worked.
    TrustSave,
    /// Token files are never removed.
    LeaveFile,
    /// A successor takes nothing over.
    ForgetAtRestart,
    /// A document is believed, whoever it says it is of.
    BelieveAnybody,
    /// The first token that a command prints is taken for its last.
    StalePrint,
    /// A client that asks for itself gives up what it has after a lost reply.
    OrphanClient,
    /// Tokens that are restored go wherever the issuer now says.
    TrustMoved,
    /// An account that has stopped is not tried again.
    StopForGood,
    /// `refresh` succeeds and does nothing while the provider wants to be left alone.
    IdleRefresh,
    /// Nobody notices that the wall clock is set.
    OldTimes,
    /// Nobody notices that the network has changed.
    DeafToNetwork,
    /// That a refresh token ends is not read.
    IgnoreEnd,
    /// Whose tokens they are is not read.
    IgnoreUser,
    /// A redirect that ends elsewhere is sent as one of our own.
    OwnRedirect,
    /// A code without a state is for the first sign-in there is.
    AnySignIn,
    /// The life of a sign-in that the provider has ended counts twice.
    LearnDouble,
    /// A dump has what was learned of an account only beside its tokens.
    UnlearnRevoked,
}

impl Canary {
    /// Each planted bug but `LearnDouble`, and the invariant that it breaks.
    pub const ALL: [(Canary, Invariant); 35] = [
        (Canary::OldEndpoint, Invariant::Origin),
        (Canary::ShowAfterRevoke, Invariant::NothingOlder),
        (Canary::ForgetRefreshToken, Invariant::Kept),
        (Canary::DuplicateRequest, Invariant::OneInFlight),
        (Canary::HastyRefresh, Invariant::Floor),
        (Canary::AnnounceTwice, Invariant::Events),
        (Canary::ForgetWaiter, Invariant::Answers),
        (Canary::DiscardSignIn, Invariant::SignIn),
        (Canary::ReminderDiscards, Invariant::SignIn),
        (Canary::Panic, Invariant::NoPanic),
        (Canary::RestoreOlder, Invariant::Restore),
        (Canary::DumpForgets, Invariant::Restore),
        (Canary::ShowExpired, Invariant::NoneExpired),
        (Canary::SwallowDeadline, Invariant::Liveness),
        (Canary::LeakIntoLog, Invariant::Secrecy),
        (Canary::ForgetAsker, Invariant::Answers),
        (Canary::OtherUserCode, Invariant::Device),
        (Canary::SilentRevocation, Invariant::Revoked),
        (Canary::LoseDeadline, Invariant::Index),
        (Canary::TrustSave, Invariant::Keeping),
        (Canary::LeaveFile, Invariant::Published),
        (Canary::ForgetAtRestart, Invariant::Handover),
        (Canary::BelieveAnybody, Invariant::Origin),
        (Canary::TrustMoved, Invariant::Origin),
        (Canary::OrphanClient, Invariant::Kept),
        (Canary::StalePrint, Invariant::Kept),
        (Canary::StopForGood, Invariant::Liveness),
        (Canary::IdleRefresh, Invariant::Liveness),
        (Canary::OldTimes, Invariant::Kept),
        (Canary::DeafToNetwork, Invariant::Liveness),
        (Canary::IgnoreEnd, Invariant::SignIn),
        (Canary::IgnoreUser, Invariant::User),
        (Canary::OwnRedirect, Invariant::Pasting),
        (Canary::AnySignIn, Invariant::Pasting),
        (Canary::UnlearnRevoked, Invariant::Ending),
    ];
}

/// The core, perhaps with a bug around it.
#[derive(Clone)]
pub struct Sut {
    pub core: Core,
    canary: Option<Canary>,
    effects: Vec<Effect>,
    first_endpoints: BTreeMap<Arc<str>, url::Url>,
    remembered: BTreeMap<String, Arc<Secret>>,
    printed: BTreeMap<String, Vec<u8>>,
    exchanges: BTreeSet<AttemptId>,
    doomed: BTreeSet<AttemptId>,
}

impl Sut {
    pub fn new(config: Config, ports: Ports, canary: Option<Canary>) -> Self {
        Sut {
            core: Core::new(misread(config, canary), ports),
            canary,
            effects: Vec::new(),
            first_endpoints: BTreeMap::new(),
            remembered: BTreeMap::new(),
            printed: BTreeMap::new(),
            exchanges: BTreeSet::new(),
            doomed: BTreeSet::new(),
        }
    }

    /// Another daemon, with the same bug.
    pub fn successor(&self, config: Config) -> Sut {
        Sut::new(config, self.core.common.ports, self.canary)
    }

    pub fn adopt(&mut self, cx: &mut Cx, state: CoreState) {
        self.core.adopt(cx, state);
        if self.has(Canary::ForgetAtRestart) {
            let Common { config, ports, .. } = &self.core.common;
            let mut core = Core::new((**config).clone(), *ports);
            core.common.output.attempts = self.core.common.output.attempts;
            self.core = core;
        }
    }

    pub fn save_outcome(&mut self, cx: &mut Cx, attempt: AttemptId, outcome: Result<(), String>) {
        let outcome = match self.canary {
            Some(Canary::TrustSave) => Ok(()),
            _ => outcome,
        };
        self.core.save_outcome(cx, attempt, outcome);
    }

    pub fn compare_clocks(&mut self, cx: &mut Cx) {
        if !self.has(Canary::OldTimes) {
            self.core.compare_clocks(cx);
        }
    }

    pub fn network_changed(&mut self, cx: &mut Cx) {
        if !self.has(Canary::DeafToNetwork) {
            self.core.network_changed(cx);
        }
    }

    pub fn start(&mut self, cx: &mut Cx) {
        self.core.start(cx);
    }

    fn has(&self, canary: Canary) -> bool {
        self.canary == Some(canary)
    }

    /// What the core wants done since the last time.
    pub fn effects(&mut self) -> Vec<Effect> {
        self.collect();
        std::mem::take(&mut self.effects)
    }

    fn collect(&mut self) {
        while let Some(effect) = self.core.next_effect() {
            match self.canary {
                None => self.effects.push(effect),
                Some(canary) => self.corrupt(canary, effect),
            }
        }
    }

    fn discard(&mut self) {
        while self.core.next_effect().is_some() {}
    }

    fn corrupt(&mut self, canary: Canary, mut effect: Effect) {
        match (canary, &mut effect) {
            (
                _,
                Effect::Request {
                    account,
                    attempt,
                    request,
                },
            ) => self.corrupt_request(canary, account, *attempt, request),
            (
                Canary::AnnounceTwice,
                Effect::Hook(
                    hook @ Hook {
                        kind: HookKind::Event,
                        ..
                    },
                ),
            ) => self.effects.push(Effect::Hook(hook.clone())),
            (
                Canary::ForgetWaiter,
                Effect::Settled {
                    what: Ended::SignIn,
                    waiters,
                    ..
                },
            ) => {
                waiters.pop();
            }
            (Canary::ForgetAsker, Effect::Answer { .. })
            | (Canary::LeaveFile, Effect::TokenFile { content: None, .. })
            | (
                Canary::SilentRevocation,
                Effect::Settled {
                    what: Ended::Revocation,
                    ..
                },
            ) => return,
            (
                Canary::OtherUserCode,
                Effect::Hook(Hook {
                    input:
                        HookInput::SignIn {
                            ways:
                                SignInWays {
                                    device: Some(code), ..
                                },
                            ..
                        },
                    ..
                }),
            ) => code.user_code = "USER-0".into(),
            _ => {}
        }
        self.effects.push(effect);
    }

    fn corrupt_request(
        &mut self,
        canary: Canary,
        account: &Arc<str>,
        attempt: AttemptId,
        request: &mut Request,
    ) {
        match canary {
            Canary::OldEndpoint if request.endpoint.path() == "/token" => {
                let first = self.first_endpoints.entry(account.clone());
                request.endpoint = first.or_insert(request.endpoint.clone()).clone();
            }
            Canary::DuplicateRequest if request.form.expose().contains("refresh_token=") => {
                self.effects.push(Effect::Request {
                    account: account.clone(),
                    attempt: AttemptId(attempt.0 - 1),
                    request: request.clone(),
                });
            }
            Canary::ReminderDiscards if request.form.expose().contains("&code=") => {
                self.exchanges.insert(attempt);
            }
            Canary::LeakIntoLog => self.effects.push(Effect::Log {
                level: log::Level::Debug,
                account: account.clone(),
                message: format!("asking with {}", request.form.expose()),
            }),
            _ => {}
        }
    }

    /// What the core says is under way.
    pub fn under_way(&self, name: &str) -> UnderWay {
        let account = self.core.accounts.get(name);
        account
            .map(|account| account.under_way())
            .unwrap_or_default()
    }

    /// What a dump has of it, if it has tokens.
    pub fn saved(&self, now: Now, name: &str) -> Option<Saved> {
        let saved = self.core.accounts.get(name)?.saved(now);
        saved.filter(has_tokens)
    }

    /// What it has learned of its sign-ins.
    pub fn lives(&self, name: &str) -> &[Duration] {
        let account = self.core.accounts.get(name);
        account.map(|it| it.lives()).unwrap_or_default()
    }

    pub fn status(&self, now: Now) -> Vec<AccountView> {
        self.core.status(now)
    }

    pub fn poll_timeout(&self, now: Now) -> Option<Instant> {
        let failing = |view: &AccountView| matches!(view.renewal, RenewalView::Failing { .. });
        if self.has(Canary::SwallowDeadline) && self.status(now).iter().any(failing) {
            return None;
        }
        let stopped = |view: &AccountView| matches!(view.renewal, RenewalView::Parked { .. });
        // What is to be saved has its own deadline.
        let saves = self.core.common.config.state_save_cmd.is_some();
        if self.has(Canary::StopForGood) && !saves && self.status(now).iter().any(stopped) {
            return None;
        }
        self.core.poll_timeout()
    }

    pub fn tick(&mut self, cx: &mut Cx) {
        if self.has(Canary::ReminderDiscards) {
            self.doomed.append(&mut self.exchanges);
        }
        self.core.tick(cx);
    }

    /// The token, or what it takes to have one.
    pub fn show(&mut self, cx: &mut Cx, name: &str) -> Option<Result<Arc<Secret>, Progress>> {
        if let Some(token) = self.remembered.remove(name) {
            return Some(Ok(token));
        }
        if self.has(Canary::ShowExpired) {
            let access = self.saved(cx.now, name).and_then(|saved| saved.access);
            let fresh = |at| cx.now.wall.since(at) < Duration::from_secs(30);
            if let Some(access) = access.filter(|access| access.expires.is_some_and(fresh)) {
                return Some(Ok(access.token));
            }
        }
        match self.core.ask(cx, name, ShowRequest::default()) {
            Some(ShowAnswer::Token(handed)) => Some(Ok(handed.token)),
            Some(ShowAnswer::Not { progress, .. }) => Some(Err(progress)),
            Some(ShowAnswer::Gone) => None,
            other => panic!("{other:?}"),
        }
    }

    pub fn refresh(&mut self, cx: &mut Cx, name: &str) -> Option<Progress> {
        let answer = self.core.on(cx, name, |it, env| it.refresh(env));
        let seen = self.effects.len();
        self.collect();
        if self.has(Canary::HastyRefresh)
            && matches!(answer, Some(Progress::Refreshing { .. }))
            && self.effects.len() == seen
        {
            let mut now = cx.now;
            now.instant = now.instant.after(Duration::from_secs(9));
            let entropy = &mut *cx.entropy;
            return self
                .core
                .on(&mut Cx { now, entropy }, name, |it, env| it.refresh(env));
        }
        match answer {
            // A refresh token that isn't good yet is another matter.
            Some(Progress::Deferred {
                trouble: trouble @ Some(_),
                ..
            }) if self.has(Canary::IdleRefresh) => Some(Progress::Refreshing { trouble }),
            answer => answer,
        }
    }

    /// `revoke`; with a waiter the provider is told, if it can be.
    pub fn revoke(&mut self, cx: &mut Cx, name: &str, tell: Option<Waiter>) -> Option<bool> {
        if self.has(Canary::ShowAfterRevoke) {
            let access = self.saved(cx.now, name).and_then(|saved| saved.access);
            (self.remembered).extend(access.map(|access| (name.into(), access.token)));
        }
        self.core.on(cx, name, |it, env| it.revoke(env, tell))
    }

    pub fn ask(&mut self, cx: &mut Cx, name: &str, ask: ShowRequest) -> Option<ShowAnswer> {
        self.core.ask(cx, name, ask)
    }

    pub fn give_up(&mut self, cx: &mut Cx, name: &str, waiter: Waiter) -> Option<ShowAnswer> {
        self.core
            .on(cx, name, |it, env| it.give_up(env, waiter))
            .flatten()
    }

    pub fn secret_outcome(
        &mut self,
        cx: &mut Cx,
        name: &str,
        attempt: AttemptId,
        secret: Result<Secret, String>,
    ) {
        self.core
            .on(cx, name, |it, env| it.secret_outcome(env, attempt, secret));
    }

    pub fn callback(
        &mut self,
        cx: &mut Cx,
        at: &Url,
        callback: Callback,
        waiter: Waiter,
    ) -> CallbackAnswer {
        self.core.callback(cx, at, callback, waiter)
    }

    pub fn pasted_code(
        &mut self,
        cx: &mut Cx,
        name: Option<&str>,
        code: Secret,
        waiter: Waiter,
    ) -> Option<CallbackAnswer> {
        let again = Secret::new(code.expose().to_owned());
        let answer = self.core.pasted_code(cx, name, None, code, waiter);
        if answer.is_some() || !self.has(Canary::AnySignIn) {
            return answer;
        }
        let mut names = self.core.accounts.keys();
        let open = |name: &&Arc<str>| self.under_way(name).pending.is_some();
        let name = names.find(open).cloned()?;
        self.core.on(cx, &name, |account, env| {
            account.deliver(env, None, None, CallbackResult::Code(again), waiter)
        })
    }

    pub fn token_outcome(
        &mut self,
        cx: &mut Cx,
        name: &str,
        attempt: AttemptId,
        sent: Instant,
        outcome: &Outcome,
    ) {
        if brings_tokens(outcome) && self.doomed.remove(&attempt) {
            return;
        }
        let lost = Outcome::Lost("lost".into());
        let told;
        let mut outcome = outcome;
        match (self.canary, outcome) {
            (Some(Canary::DiscardSignIn), Outcome::Reply(reply))
                if reply.status == 200 && self.exchanging(cx.now, name) =>
            {
                outcome = &lost;
            }
            (Some(Canary::Panic), Outcome::Reply(reply)) if reply.retry_after.is_some() => {
                panic!("planted");
            }
            (Some(Canary::IgnoreEnd), Outcome::Reply(reply)) if reply.status == 200 => {
                told = without(&ENDS, &reply.body);
                outcome = &told;
            }
            (Some(Canary::IgnoreUser), Outcome::Reply(reply)) if reply.status == 200 => {
                told = without(&["id_token"], &reply.body);
                outcome = &told;
            }
            _ => {}
        }
        let refreshed = self.under_way(name).refresh == Some(attempt);
        self.core.on(cx, name, |it, env| {
            it.token_outcome(env, attempt, sent, outcome)
        });
        self.collect();
        if let (true, Some(account)) = (
            self.has(Canary::LearnDouble) && refreshed,
            self.core.accounts.get_mut(name),
        ) {
            account.learn_double();
        }
        let lost = refreshed && matches!(outcome, Outcome::Lost(_));
        if self.has(Canary::ForgetRefreshToken) && lost {
            self.forget(cx, name);
        }
        let orphans = self.has(Canary::OrphanClient) && self.is_unattended(name);
        let holds = self.saved(cx.now, name).is_some();
        if orphans && holds && matches!(outcome, Outcome::Lost(_)) {
            self.core.on(cx, name, |it, env| it.revoke(env, None));
            self.discard();
        }
    }

    pub fn printed(
        &mut self,
        cx: &mut Cx,
        name: &str,
        attempt: AttemptId,
        mut printed: Result<Vec<u8>, CommandFailure>,
    ) {
        // Not what is no token.
        let whole = |text: &[u8]| text.ends_with(b"}") || text.ends_with(b"\n");
        let text = printed.as_mut().ok().filter(|text| whole(text));
        if let (true, Some(text)) = (self.has(Canary::StalePrint), text) {
            let first = self.printed.entry(name.into());
            *text = first.or_insert(text.clone()).clone();
        }
        self.core
            .on(cx, name, |it, env| it.printed(env, attempt, printed));
    }

    pub fn discovery_outcome(
        &mut self,
        cx: &mut Cx,
        attempt: AttemptId,
        issuer: &str,
        outcome: &Outcome,
    ) {
        let believes = self.has(Canary::BelieveAnybody);
        if let (true, Outcome::Reply(reply)) = (believes, outcome) {
            let text = String::from_utf8_lossy(&reply.body);
            let said = |issuer: &str| format!("\"issuer\":\"{issuer}\"");
            let text = text.replace(&said(STRANGER), &said(issuer));
            let reply = Reply {
                body: text.into_bytes().into(),
                retry_after: None,
                location: None,
                status: reply.status,
                ..Reply::default()
            };
            return self
                .core
                .discovery_outcome(cx, attempt, &Outcome::Reply(reply));
        }
        self.core.discovery_outcome(cx, attempt, outcome);
    }

    /// Whether somebody is signing in to `name`.
    fn exchanging(&self, now: Now, name: &str) -> bool {
        let mut views = self.status(now).into_iter();
        let view = views.find(|view| view.account == name);
        view.is_some_and(|view| matches!(view.sign_in, SignInView::Exchanging { .. }))
    }

    /// Whether nobody has to sign in to `name`.
    fn is_unattended(&self, name: &str) -> bool {
        let account = self.core.accounts.get(name);
        account.is_some_and(|it| !it.registration().source.is_person())
    }

    fn forget(&mut self, cx: &mut Cx, name: &str) {
        let Some(saved) = self.saved(cx.now, name) else {
            return;
        };
        self.core.on(cx, name, |it, env| it.revoke(env, None));
        let without = Saved {
            refresh_token: None,
            ..saved
        };
        let grants = vec![without];
        self.core.restore(
            cx,
            Dump {
                grants,
                changed: None,
            },
        );
        self.discard();
    }

    pub fn probe_outcome(&mut self, cx: &mut Cx, name: &str, attempt: AttemptId, transient: bool) {
        self.core.on(cx, name, |it, env| {
            it.probe_outcome(env, attempt, transient)
        });
    }

    pub fn reload(&mut self, cx: &mut Cx, config: Config) {
        self.core.reload(cx, misread(config, self.canary));
        if self.has(Canary::LoseDeadline) {
            self.core.deadlines.pop_first();
        }
    }

    pub fn dump(&self, cx: &mut Cx) -> Vec<u8> {
        let bytes = dump::seal(&self.core.unsealed_dump(cx.now), cx.entropy.bytes32());
        let mut dump = dump::open(&bytes).unwrap_or_default();
        match self.canary {
            Some(Canary::DumpForgets) => {
                for saved in &mut dump.grants {
                    (saved.refresh_token, saved.refresh_ends) = (None, None);
                }
            }
            Some(Canary::UnlearnRevoked) => dump.grants.retain(has_tokens),
            _ => return bytes,
        }
        dump::seal(&dump, cx.entropy.bytes32())
    }

    pub fn restore(&mut self, cx: &mut Cx, mut dump: Dump) -> usize {
        if self.has(Canary::TrustMoved) {
            let places = (0..ISSUERS).flat_map(|issuer| (0..PLACES).map(move |it| (issuer, it)));
            let all = places.map(|(issuer, place)| format!("https://{}", host(issuer, place)));
            let all: Arc<[String]> = all.collect();
            for saved in &mut dump.grants {
                saved.refresh_origins = saved.refresh_origins.take().map(|_| all.clone());
            }
        }
        if self.has(Canary::RestoreOlder) {
            self.collect();
            for saved in &dump.grants {
                // Not the sign-in as well, nor what a command is to print.
                let under_way = self.under_way(&saved.account);
                let holds = self.saved(cx.now, &saved.account).is_some();
                if holds && under_way.pending.is_none() && under_way.exchange.is_none() {
                    self.core
                        .on(cx, &saved.account, |it, env| it.revoke(env, None));
                }
            }
            self.discard();
        }
        self.core.restore(cx, dump)
    }
}

/// Whether there is more in it than what was learned.
pub fn has_tokens(saved: &Saved) -> bool {
    saved.access.is_some() || saved.refresh_token.is_some()
}

/// The config, perhaps as one that knows of no pasting.
fn misread(mut config: Config, canary: Option<Canary>) -> Config {
    if canary == Some(Canary::OwnRedirect) {
        for account in &mut config.accounts {
            account.pasted_redirect = None;
        }
    }
    config
}

/// What says when the refresh token ends.
const ENDS: [&str; 3] = [
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
];

/// The same without these members.
fn without(members: &[&str], body: &[u8]) -> Outcome {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for member in members {
        text = text.replace(&format!("\"{member}\""), "\"x\"");
    }
    Outcome::Reply(Reply {
        status: 200,
        body: text.into_bytes().into(),
        ..Reply::default()
    })
}

/// Whether a reply has tokens that can be used.
fn brings_tokens(outcome: &Outcome) -> bool {
    let Outcome::Reply(reply) = outcome else {
        return false;
    };
    let text = String::from_utf8_lossy(&reply.body);
    reply.status == 200 && text.contains(MARK) && text.ends_with('}') && !text.contains(' ')
}
