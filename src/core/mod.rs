//! Decides which token belongs to an account, whether it is valid, and when to refresh it or to
//! remind the user. A pure state machine: requests, outcomes and the time go in, answers and effects
//! come out. It knows no socket, thread, lock, clock, file, process or random number.

pub mod access;
mod account;
mod answer;
mod attempt;
mod credentials;
mod discovery;
pub mod dump;
mod effect;
mod env;
mod forecast;
mod grant;
mod handover;
pub mod hook;
#[cfg(test)]
mod model;
mod output;
mod revoking;
mod schedule;
mod sign_in;
#[cfg(test)]
mod sim;
mod state_commands;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use account::LiveAccount;
pub use answer::{AccessToken, CallbackAnswer, Patience, Progress, ShowAnswer, ShowRequest, Visit};
pub use attempt::{AttemptId, Waiter};
pub use effect::{Effect, Ended};
pub use env::Env;
pub use handover::{CoreState, STATE_VERSION};
use url::Url;

use self::{env::Common, state_commands::StateCommands};
use crate::{
    config::Config,
    oauth::{
        authorization::{Callback, CallbackResult},
        token::{Outcome, Refusal},
    },
    secret::{Secret, plain},
    time::{Instant, Now},
    view::{AccountView, Happening, News},
};

/// Where random numbers come from: the kernel in the daemon, a seed in a test.
pub trait Entropy {
    /// 32 unpredictable bytes.
    fn bytes32(&mut self) -> [u8; 32];
}

/// What every event comes with: the time and a source of random numbers.
pub struct Cx<'a> {
    /// When the event happened.
    pub now: Now,
    /// Random numbers for states, verifiers, nonces and jitter.
    pub entropy: &'a mut dyn Entropy,
}

/// The ports that redirects arrive at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The http listener's, unless it is `none`.
    pub http: Option<u16>,
    /// The https listener's, unless it is `none`.
    pub https: Option<u16>,
}

impl Ports {
    /// The port that a redirect to `uri` arrives at. A config whose redirect has no listener is
    /// refused, so 0 is never seen by a provider.
    fn of(self, uri: &Url) -> u16 {
        let port = match uri.scheme() {
            "https" => self.https,
            _ => self.http,
        };
        port.unwrap_or(0)
    }
}

/// The state of every account, and what is to be done next.
#[cfg_attr(test, derive(Clone))]
pub struct Core {
    /// Boxed, since the map's nodes are half empty.
    accounts: BTreeMap<Arc<str>, Box<LiveAccount>>,
    /// Each account that has a deadline, by deadline.
    deadlines: BTreeSet<(Instant, Arc<str>)>,
    common: Common,
    commands: StateCommands,
    /// How far the wall clock was ahead of the other when it was last set, in milliseconds.
    wall_ahead: Option<i64>,
}

/// By how much the clocks must have moved apart for the wall clock to have been set, in milliseconds:
/// more than is corrected little by little in a long sleep.
const MIN_CLOCK_STEP: u64 = 10_000;

impl Core {
    /// Every account of `config`, without tokens.
    pub fn new(config: Config, ports: Ports) -> Self {
        let accounts = config
            .accounts
            .iter()
            .map(|account| (account.name.clone(), Box::new(LiveAccount::new(account))))
            .collect();
        Core {
            accounts,
            deadlines: BTreeSet::new(),
            common: Common::new(config, ports),
            commands: StateCommands::default(),
            wall_ahead: None,
        }
    }

    /// Compares the clocks, before every event: when the wall clock was set, what was told by it is
    /// told anew.
    pub fn compare_clocks(&mut self, cx: &mut Cx) {
        let instant = i64::try_from(cx.now.instant.millis()).unwrap_or(i64::MAX);
        let ahead = cx.now.wall.millis().saturating_sub(instant);
        let before = *self.wall_ahead.get_or_insert(ahead);
        if ahead.abs_diff(before) >= MIN_CLOCK_STEP {
            self.wall_ahead = Some(ahead);
            for account in self.accounts.values_mut() {
                account.clock_set(&mut Env::new(cx, &mut self.common));
            }
            self.end_for_all(cx);
        }
    }

    /// The network has changed: what fails is tried again in a moment.
    pub fn network_changed(&mut self, cx: &mut Cx) {
        self.common.network_changed = Some(cx.now.instant);
        self.common.heeds_network = false;
        self.end_for_all(cx);
    }

    /// Whether [`Core::network_changed`] would be of use.
    pub fn heeds_network(&self) -> bool {
        self.common.heeds_network
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.common.config
    }

    /// The next thing to do, in order; call until `None` after every event.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.common.output.effects.pop_front()
    }

    /// What has happened, for `watch`. An effect has to be done; news may be missed.
    pub fn next_news(&mut self) -> Option<News> {
        self.common.output.news.pop_front()
    }

    /// When the next refresh of an account is due, if its tokens can be refreshed; for the log.
    pub fn refresh_due(&self, name: &str) -> Option<Instant> {
        self.accounts.get(name)?.refresh_due(&self.common)
    }

    /// When [`Core::tick`] wants to be called next; changes with every event.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commands = self.commands.deadline(&self.common.config);
        if self.common.held {
            // Token files don't wait: what is in them expires.
            let files = self.accounts.values().map(|it| it.token_file_due());
            let closing = commands.filter(|_| self.commands.closing);
            return files.flatten().chain(closing).min();
        }
        let accounts = self.deadlines.first().map(|(at, _)| *at);
        let asking = [accounts, self.common.issuers.deadline()];
        asking.into_iter().chain([commands]).flatten().min()
    }

    /// The time has come that [`Core::poll_timeout`] named (a call too early does nothing).
    pub fn tick(&mut self, cx: &mut Cx) {
        if !self.common.held {
            self.common.pauses.expire(cx.now.instant);
            // Each of them once: what is due again at once is for the next tick.
            let due = self.deadlines.iter();
            let due = due.take_while(|(at, _)| *at <= cx.now.instant);
            let due: Vec<_> = due.map(|(_, name)| name.clone()).collect();
            for name in due {
                self.transit(cx, &name, |account, env| account.tick(env));
            }
            self.tick_issuers(cx);
        } else {
            let now = cx.now.instant;
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let due = self.accounts.iter();
            let due = due.filter(|(_, account)| is_due(account.token_file_due()));
            let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
            for name in due {
                self.transit(cx, &name, |_, _| ());
            }
        }
        self.end(cx);
    }

    /// Asks the issuers whose time has come, if an account still waits for them.
    fn tick_issuers(&mut self, cx: &mut Cx) {
        for issuer in self.common.issuers.due(cx.now.instant) {
            let mut accounts = self.accounts.values();
            let wanted = accounts.any(|account| {
                account.registration().discovers() == Some(&issuer) && account.waits_for_endpoints()
            });
            if wanted {
                // It is due, so it isn't too soon.
                let _ = Env::new(cx, &mut self.common).want_metadata(&issuer);
            } else {
                self.common.issuers.rest(&issuer);
            }
        }
    }

    /// From now on nothing is sent to a provider, and no command that keeps the state is begun:
    /// whatever came back could come too late. What is under way may still end, see
    /// [`Core::awaits_reply`].
    pub fn hold(&mut self) {
        self.common.held = true;
    }

    /// [`Core::hold`] is over.
    pub fn release(&mut self, cx: &mut Cx) {
        self.common.held = false;
        self.end(cx);
    }

    /// Whether nothing is sent at present.
    pub fn is_held(&self) -> bool {
        self.common.held
    }

    /// Whether a provider's reply is outstanding. To lose it may be to lose a login: the refresh
    /// token that was sent may already have been replaced.
    pub fn awaits_reply(&self) -> bool {
        self.accounts.values().any(|account| account.awaits_reply())
    }

    /// Feeds one account an event: what is asked of it, or what came of an attempt. `None` when there
    /// is no such account.
    pub fn on<T>(
        &mut self,
        cx: &mut Cx,
        name: &str,
        event: impl FnOnce(&mut LiveAccount, &mut Env) -> T,
    ) -> Option<T> {
        let value = self.transit(cx, name, event);
        self.end(cx);
        value
    }

    /// Why the code of the sign-in under way couldn't be exchanged yet, if it couldn't.
    pub fn exchange_trouble(&self, name: &str) -> Option<&Refusal> {
        self.accounts.get(name)?.exchange_trouble()
    }

    /// `show` with all its options: the answer, or `None` when the client waits: exactly one
    /// [`Effect::Answer`] follows then, unless [`Core::give_up`] or [`Core::forget`] come first.
    pub fn ask(&mut self, cx: &mut Cx, name: &str, ask: ShowRequest) -> Option<ShowAnswer> {
        match self.on(cx, name, |account, env| account.ask_for_token(env, ask)) {
            None => Some(ShowAnswer::Gone),
            Some(answer) => answer,
        }
    }

    /// An authorization response (RFC 6749, 4.1.2) that arrived `at` this address, as the browser
    /// named it; `waiter` is notified of its end when the answer is [`CallbackAnswer::Wait`].
    pub fn callback(
        &mut self,
        cx: &mut Cx,
        at: &Url,
        callback: Callback,
        waiter: Waiter,
    ) -> CallbackAnswer {
        let mut spent = self.common.spent.iter();
        if let Some(spent) = spent.find(|spent| *spent.state == callback.state) {
            return CallbackAnswer::Over {
                account: spent.account.clone(),
                result: spent.result.clone(),
            };
        }
        let Some(name) = self.named_by(|it| it.awaits(&callback.state)) else {
            return CallbackAnswer::Stale;
        };
        let answer = self.on(cx, &name, |account, env| {
            let Callback { iss, result, .. } = callback;
            account.deliver(env, Some(at), iss.as_deref(), result, waiter)
        });
        answer.unwrap_or(CallbackAnswer::Stale)
    }

    /// Where the browser goes that has opened the short address with this name of a pending sign-in,
    /// as [`LiveAccount::visit`] says, and whose it is.
    pub fn sign_in_at(&mut self, cx: &mut Cx, name: &Secret) -> Option<Visit> {
        let named = self.named_by(|account| {
            let browser = account.pending_browser();
            browser.is_some_and(|it| Secret::new(it.short_name()) == *name)
        })?;
        let way = self.on(cx, &named, LiveAccount::visit)?;
        Some((named, way))
    }

    /// Who gives the account its tokens: the host of its token endpoint, or its issuer's.
    pub fn provider_host(&self, name: &str) -> Option<String> {
        self.accounts.get(name)?.registration().provider_host()
    }

    /// One account.
    pub fn view(&self, name: &str, now: Now) -> Option<AccountView> {
        Some(self.accounts.get(name)?.view(now, &self.common))
    }

    /// An authorization code without a state, that the user has copied from the last page, or whose
    /// address is `at` there; `None` unless exactly one sign-in (to `account`, if that is given)
    /// ends in that way.
    pub fn pasted_code(
        &mut self,
        cx: &mut Cx,
        account: Option<&str>,
        at: Option<&Url>,
        code: Secret,
        waiter: Waiter,
    ) -> Option<CallbackAnswer> {
        let mut open = self.accounts.values().filter(|it| {
            it.takes_code(at) && account.is_none_or(|account| **it.name() == *account)
        });
        let (Some(one), None) = (open.next(), open.next()) else {
            return None;
        };
        let (name, result) = (one.name().clone(), CallbackResult::Code(code));
        self.on(cx, &name, |account, env| {
            account.deliver(env, None, None, result, waiter)
        })
    }

    /// What came back for an [`Effect::Discover`].
    pub fn discovery_outcome(&mut self, cx: &mut Cx, attempt: AttemptId, outcome: &Outcome) {
        let (issuers, output) = (&mut self.common.issuers, &mut self.common.output);
        let all = self.accounts.values();
        let gaps = |issuer: &_| all.filter_map(|it| it.gaps(issuer)).collect();
        if let Some(issuer) = issuers.answered(cx.now, output, attempt, outcome, gaps) {
            for account in self.accounts.values_mut() {
                if account.registration().discovers() == Some(&issuer) {
                    let mut env = Env::new(cx, &mut self.common);
                    account.discovered(&mut env);
                    account.publish(&mut env);
                }
            }
        }
        self.end_for_all(cx);
    }

    /// A new configuration is in force. Accounts whose registration is unchanged keep everything,
    /// the others start anew.
    pub fn reload(&mut self, cx: &mut Cx, config: Config) {
        if config.state_save_cmd != self.common.config.state_save_cmd {
            self.save_by_another(cx);
        }
        let mut before = std::mem::take(&mut self.accounts);
        self.deadlines.clear();
        let config = Arc::new(config);
        self.common.config = config.clone();
        for described in &config.accounts {
            let mut env = Env::new(cx, &mut self.common);
            let mut account = match before.remove(&described.name) {
                Some(mut kept) if kept.registration() == &described.registration => {
                    kept.reconfigure(&mut env, described);
                    // Its deadline was thrown away with all others.
                    kept.filed = None;
                    kept
                }
                Some(mut old) => {
                    let mut successor = Box::new(old.changed(described));
                    old.end(&mut env);
                    old.hand_over(&mut env, Some(&mut successor));
                    successor
                }
                None => Box::new(LiveAccount::new(described)),
            };
            account.locate(&mut Env::new(cx, &mut self.common));
            self.accounts.insert(described.name.clone(), account);
        }
        for mut gone in before.into_values() {
            let mut env = Env::new(cx, &mut self.common);
            gone.end(&mut env);
            gone.hand_over(&mut env, None);
        }
        self.common.output.report(News {
            at: cx.now.wall,
            ..Happening::Reloaded.into()
        });
        // After all removals, since a file may have gone from one account to another.
        self.publish(cx);
        self.load_again(cx);
    }

    /// Brings every token file in step; to be called before the first answer, too, when a file may
    /// be there that a server left behind that was killed.
    pub fn publish(&mut self, cx: &mut Cx) {
        for account in self.accounts.values_mut() {
            account.publish(&mut Env::new(cx, &mut self.common));
        }
        // A file that has been written is to be removed in time.
        self.end_for_all(cx);
    }

    /// Every account's tokens, for [`dump::seal`]. It shares the tokens with the accounts: sealing
    /// takes far longer, and needs no core.
    pub fn unsealed_dump(&self, now: Now) -> dump::Dump {
        // Without a size hint, a vector that grows is copied and wiped again and again.
        let mut grants = Vec::with_capacity(self.accounts.len());
        grants.extend(self.accounts.values().filter_map(|it| it.saved(now)));
        let changed = self.last_change();
        dump::Dump { grants, changed }
    }

    /// Takes over what `dump` has and is better than what is held: tokens of an account with the
    /// same registration that has none, or older ones. Returns how many accounts took tokens.
    pub fn restore(&mut self, cx: &mut Cx, dump: dump::Dump) -> usize {
        let taken = self.take_over(cx, dump);
        self.end(cx);
        taken
    }

    fn take_over(&mut self, cx: &mut Cx, dump: dump::Dump) -> usize {
        let grants = dump.grants.into_iter();
        let taken = grants.filter_map(|saved| {
            let name = saved.account.clone();
            self.transit(cx, &name, |account, env| account.restore(env, saved))
        });
        taken.filter(|taken| *taken).count()
    }

    /// Every account, by name.
    pub fn status(&self, now: Now) -> Vec<AccountView> {
        self.accounts
            .values()
            .map(|account| account.view(now, &self.common))
            .collect()
    }

    /// The account of which this secret `is`. Looks at every one, so that the time taken says nothing
    /// about their secrets.
    fn named_by(&self, is: impl Fn(&LiveAccount) -> bool) -> Option<Arc<str>> {
        let all = self.accounts.values();
        all.fold(None, |found, account| match is(account) {
            true => Some(account.name().clone()),
            false => found,
        })
    }

    /// Runs one transition of one account as a part of an event. Its token file and its deadline
    /// follow.
    fn transit<T>(
        &mut self,
        cx: &mut Cx,
        name: &str,
        transition: impl FnOnce(&mut LiveAccount, &mut Env) -> T,
    ) -> Option<T> {
        let account = self.accounts.get_mut(name)?;
        let mut env = Env::new(cx, &mut self.common);
        let value = transition(account, &mut env);
        account.publish(&mut env);
        file(&mut self.deadlines, account, &self.common);
        Some(value)
    }

    /// Every event ends here: what it has changed for several accounts changes their deadlines, and
    /// tokens are saved.
    fn end(&mut self, cx: &mut Cx) {
        let pauses = self.common.pauses.take_changed();
        if self.common.issuers.take_changed() || pauses {
            return self.end_for_all(cx);
        }
        self.keep(cx);
    }

    /// The same for an event that may have changed every account.
    fn end_for_all(&mut self, cx: &mut Cx) {
        for account in self.accounts.values_mut() {
            file(&mut self.deadlines, account, &self.common);
        }
        self.keep(cx);
    }
}

/// Keeps `deadlines` in step with what `account` wants now.
fn file(deadlines: &mut BTreeSet<(Instant, Arc<str>)>, account: &mut LiveAccount, common: &Common) {
    let wanted = account.deadline(common);
    if wanted == account.filed {
        return;
    }
    if let Some(old) = account.filed.take() {
        deadlines.remove(&(old, account.name().clone()));
    }
    if let Some(new) = wanted {
        deadlines.insert((new, account.name().clone()));
    }
    account.filed = wanted;
}
