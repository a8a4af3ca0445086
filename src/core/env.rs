//! What a transition of one account may see and do beside its own state.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;
use log::Level;
use serde::{Deserialize, Serialize};

use super::{
    Cx, Entropy, Ports,
    attempt::{AttemptId, Waiter},
    discovery::Issuers,
    effect::{Effect, Ended},
    hook::{Hook, HookInput},
    output::Output,
    plain,
    schedule::Pauses,
    sign_in::{Browser, Pushed},
};
use crate::{
    config::{Config, Listen},
    hook::HookKind,
    oauth::token::Refusal,
    secret::Secret,
    time::{Instant, Now, Wall},
    view::News,
};

/// How many states of finished sign-ins are remembered, so that a reloaded page says "already
/// done" instead of "unknown": more than anyone has open in tabs.
const MAX_SPENT: usize = 64;

/// A sign-in whose state has been used, and how it ended.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct UsedState {
    #[serde(with = "plain")]
    pub state: Arc<Secret>,
    pub account: Arc<str>,
    pub result: Result<(), Refusal>,
}

/// What all accounts share.
#[cfg_attr(test, derive(Clone))]
pub(super) struct Common {
    pub config: Arc<Config>,
    pub ports: Ports,
    pub pauses: Pauses,
    pub issuers: Issuers,
    pub spent: VecDeque<UsedState>,
    pub output: Output,
    /// Nothing is to be sent for now.
    pub held: bool,
    /// Whether what a dump would hold has changed since the last look.
    pub tokens_changed: bool,
    /// When the network has changed last.
    pub network_changed: Option<Instant>,
    /// Whether something may have failed since then that a change of the network may mend.
    pub heeds_network: bool,
}

impl Common {
    /// An address on this machine that leads to the one that a browser is to open, if the http
    /// listener can be reached as `localhost`.
    pub fn short_uri(&self, browser: &Browser) -> Option<String> {
        let (Listen::On { host, .. }, Some(port)) = (&self.config.http_listen, self.ports.http)
        else {
            return None;
        };
        let local = ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"];
        let host = host.trim_matches(['[', ']']);
        let name = || browser.short_name();
        (local.contains(&host)).then(|| format!("http://localhost:{port}/{}", name()))
    }

    /// The address that a browser is to open for this request.
    pub fn browser_uri(&self, browser: &Browser) -> Option<String> {
        match browser.pushed {
            Pushed::Unneeded => Some(browser.uri.clone()),
            _ => self.short_uri(browser),
        }
    }

    /// The last time until `at` that the user is awake, if the config says when that is.
    pub fn last_waking(&self, at: Wall) -> Option<Wall> {
        let (time, zone) = self.config.notice_at.as_ref()?;
        let today = zone
            .to_datetime(Timestamp::from_millisecond(at.millis()).ok()?)
            .date();
        let days = [today, today.yesterday().ok()?].into_iter();
        let moments = days.filter_map(|day| zone.to_timestamp(day.to_datetime(*time)).ok());
        let mut walls = moments.map(|it| Wall::from_millis(it.as_millisecond()));
        walls.find(|waking| *waking <= at)
    }

    pub fn new(config: Config, ports: Ports) -> Self {
        Common {
            config: Arc::new(config),
            ports,
            pauses: Pauses::default(),
            issuers: Issuers::default(),
            spent: VecDeque::new(),
            output: Output::default(),
            held: false,
            tokens_changed: false,
            network_changed: None,
            heeds_network: true,
        }
    }
}

/// One event's view of [`Common`], with the time and the random numbers that came along.
pub struct Env<'a> {
    pub(super) now: Now,
    entropy: &'a mut dyn Entropy,
    pub(super) common: &'a mut Common,
}

impl<'a> Env<'a> {
    pub(super) fn new(cx: &'a mut Cx, common: &'a mut Common) -> Self {
        Env {
            now: cx.now,
            entropy: &mut *cx.entropy,
            common,
        }
    }

    /// A name that no operation has had.
    pub(super) fn attempt(&mut self) -> AttemptId {
        self.common.output.attempt()
    }

    pub(super) fn bytes32(&mut self) -> [u8; 32] {
        self.entropy.bytes32()
    }

    pub(super) fn config(&self) -> &Config {
        &self.common.config
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.common.output.emit(effect);
    }

    pub(super) fn log(&mut self, level: Level, account: &Arc<str>, message: impl Into<String>) {
        self.common.output.log(level, account, message);
    }

    /// For `watch`.
    pub(super) fn news(&mut self, account: &Arc<str>, news: impl Into<News>) {
        self.common.output.report(News {
            at: self.now.wall,
            account: Some(account.to_string()),
            ..news.into()
        });
    }

    /// Has `issuer` asked for its metadata; see [`Issuers::want`].
    pub(super) fn want_metadata(&mut self, issuer: &Arc<str>) -> Result<(), Refusal> {
        let (now, common) = (self.now.instant, &mut *self.common);
        let issuers = &mut common.issuers;
        issuers.want(issuer, now, common.held, &mut common.output)
    }

    /// What a dump would hold of an account has changed.
    pub(super) fn tokens_changed(&mut self) {
        self.common.tokens_changed = true;
    }

    /// Runs a command of the configuration; `attempt` is as in [`Hook`].
    pub(super) fn run(
        &mut self,
        kind: HookKind,
        account: &Arc<str>,
        attempt: Option<AttemptId>,
        command: String,
        input: HookInput,
    ) {
        self.emit(Effect::Hook(Hook {
            kind,
            account: account.clone(),
            attempt,
            command,
            input,
        }));
    }

    /// Notifies the user.
    pub(super) fn error(&mut self, account: &Arc<str>, message: String) {
        match self.config().error_notify_cmd.clone() {
            Some(command) => {
                let input = HookInput::Message(message);
                self.run(HookKind::Error, account, None, command, input);
            }
            None => self.emit(Effect::Error {
                account: account.clone(),
                message,
            }),
        }
    }

    /// Answers the clients that have waited for this, if there are any.
    pub(super) fn settle(
        &mut self,
        account: &Arc<str>,
        what: Ended,
        waiters: Vec<Waiter>,
        result: Result<(), Refusal>,
    ) {
        if !waiters.is_empty() {
            self.emit(Effect::Settled {
                what,
                waiters,
                account: account.clone(),
                result,
            });
        }
    }

    /// Remembers how the sign-in with this state ended.
    pub(super) fn spend(
        &mut self,
        state: Arc<Secret>,
        account: &Arc<str>,
        result: Result<(), Refusal>,
    ) {
        let spent = &mut self.common.spent;
        spent.truncate(MAX_SPENT - 1);
        spent.push_front(UsedState {
            state,
            account: account.clone(),
            result,
        });
    }
}
