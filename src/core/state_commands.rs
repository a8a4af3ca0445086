//! When `state_save_cmd` and `state_load_cmd` run. One command at a time; a save follows every
//! change of a token, and changes that come while one runs share the next.
//!
//! What was saved before is only ever replaced by a state that includes it: nothing is saved until
//! a load has succeeded (when there is a command for it). A load that failed at start is tried
//! again before the first save, because a key that was locked then may not be now.

use std::{sync::Arc, time::Duration};

use log::Level;
use serde::{Deserialize, Serialize};

use super::{Core, Cx, Ended, Waiter, attempt::AttemptId, dump, env::Env, hook::HookInput};
use crate::{config::Config, hook::HookKind, oauth::token::Refusal, time::Instant, time::Wall};

/// How long after a failure the next try follows, if no token changes meanwhile: often enough that
/// a reboot seldom costs a login, seldom enough that a command that asks for a key is no plague.
const RETRY: Duration = Duration::from_secs(5 * 60);

/// The same when the server ends, and nobody minds how long that takes.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// What is said of a saved state that lacks the last changes.
const OLDER: &str = "the saved tokens are older than the last ones: if a provider has replaced a \
                     refresh token since, a new sign-in is needed";

/// Stands for the account where a message is about all of them.
const ALL: &str = "all accounts";

/// What is known of the saved state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct StateCommands {
    /// The command that runs.
    #[serde(skip)]
    work: Option<(HookKind, AttemptId)>,
    /// `state_load_cmd` has succeeded.
    loaded: bool,
    /// A token has changed since the last save that succeeded was begun.
    dirty: bool,
    /// The last try failed: no other before this, or a change.
    #[serde(skip)]
    retry_at: Option<Instant>,
    /// Whether the user has been notified that it fails.
    told: bool,
    /// The server ends: this is the last chance.
    #[serde(skip)]
    pub closing: bool,
    /// Nothing has changed since a save that somebody waited for.
    #[serde(skip)]
    current: bool,
    /// Why the last try failed.
    #[serde(skip)]
    trouble: Option<String>,
    /// Who waits for the next save.
    #[serde(skip)]
    waiters: Vec<Waiter>,
    /// When tokens last changed. Each change has a later time than the one before, whatever the clock
    /// says.
    #[serde(skip)]
    changed: Option<Wall>,
    /// The same, as the server before this one has left it.
    #[serde(skip)]
    before: Option<Wall>,
}

impl StateCommands {
    /// When something is to be tried again.
    pub fn deadline(&self, config: &Config) -> Option<Instant> {
        // A reload may have taken out the command that was to be tried again.
        config.state_save_cmd.as_ref()?;
        self.retry_at.filter(|_| self.work.is_none() && self.dirty)
    }

    /// What is to be begun now.
    fn step(&self, config: &Config, now: Instant) -> Option<(HookKind, String)> {
        if self.work.is_some() || !self.dirty || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let save = config.state_save_cmd.clone()?;
        Some(match &config.state_load_cmd {
            Some(load) if !self.loaded => (HookKind::Load, load.clone()),
            Some(_) | None => (HookKind::Save, save),
        })
    }

    /// Whether it was `attempt` of this kind that ran; it doesn't any more.
    fn ends(&mut self, kind: HookKind, attempt: AttemptId) -> bool {
        self.work.take_if(|work| *work == (kind, attempt)).is_some()
    }

    /// As a successor goes on with them, which knows of the changes itself.
    pub fn inherited(self, by: &Self) -> Self {
        StateCommands {
            changed: by.changed,
            before: by.before,
            ..self
        }
    }

    fn changed(&mut self, now: Wall) {
        self.dirty = true;
        self.current = false;
        self.retry_at = None;
        let later = self.changed.map(|at| at.after(Duration::from_millis(1)));
        self.changed = later.max(Some(now));
    }
}

impl Core {
    /// To be called once, before anything is answered: loads what was saved, unless a predecessor
    /// did. The server answers when [`Core::is_keeping`] says no.
    pub fn start(&mut self, cx: &mut Cx) {
        let command = self.common.config.state_load_cmd.clone();
        if let Some(command) = command.filter(|_| !self.commands.loaded) {
            self.begin(cx, HookKind::Load, command);
        }
    }

    /// When tokens last changed while a server before this one ran. To be called first.
    pub fn know_last_change(&mut self, at: Option<Wall>) {
        (self.commands.changed, self.commands.before) = (at, at);
    }

    /// When tokens last changed, which the next server is to know.
    pub fn last_change(&self) -> Option<Wall> {
        self.commands.changed
    }

    /// Why the state can't be saved, or what was saved can't be loaded.
    pub fn state_trouble(&self) -> Option<&str> {
        let config = &self.common.config;
        let has_command = config.state_save_cmd.is_some() || config.state_load_cmd.is_some();
        self.commands.trouble.as_deref().filter(|_| has_command)
    }

    /// Whether the server ends, and the last save has failed so far.
    pub fn closes_in_vain(&self) -> bool {
        let saves = self.common.config.state_save_cmd.is_some();
        saves && self.commands.closing && self.commands.dirty && self.commands.trouble.is_some()
    }

    /// Saves what there is now. False when there is nothing that `waiter` could wait for.
    pub fn save_now(&mut self, cx: &mut Cx, waiter: Waiter) -> bool {
        let saves = self.common.config.state_save_cmd.is_some();
        let wanted = saves && (self.commands.dirty || self.holds_anything());
        if wanted {
            self.commands.dirty = true;
            self.commands.retry_at = None;
            self.commands.waiters.push(waiter);
            self.end(cx);
        }
        wanted
    }

    /// The server ends: saves what there is, a last time. It ends when [`Core::is_keeping`] says
    /// no, or when it can't wait any longer.
    pub fn close(&mut self, cx: &mut Cx) {
        self.commands.closing = true;
        self.commands.told = false;
        for account in self.accounts.values_mut() {
            account.close_token_file(&mut Env::new(cx, &mut self.common));
        }
        self.commands.dirty |= self.holds_anything() && !self.commands.current;
        self.commands.retry_at = None;
        self.end_for_all(cx);
    }

    /// Whether one of the commands runs.
    pub fn is_keeping(&self) -> bool {
        self.commands.work.is_some()
    }

    /// `state_load_cmd` ended: with this output, or for this reason without one. No output at all
    /// means that nothing has been saved yet.
    pub fn load_outcome(
        &mut self,
        cx: &mut Cx,
        attempt: AttemptId,
        outcome: Result<&mut [u8], String>,
    ) {
        if !self.commands.ends(HookKind::Load, attempt) {
            return;
        }
        let opened = match outcome {
            Ok([]) => Ok(None),
            Ok(bytes) => dump::open_in_place(bytes)
                .map(Some)
                .map_err(|error| format!("`state_load_cmd` printed no state: {error}")),
            Err(why) => Err(why),
        };
        match opened {
            Ok(dump) => self.loaded(cx, dump),
            Err(why) => {
                let message = format!("the saved tokens could not be loaded: {why}");
                let aside = match self.common.config.state_save_cmd {
                    Some(_) => "; nothing is saved over them before that has worked",
                    None => "",
                };
                self.keeping_failed(cx, format!("{message}{aside}"));
            }
        }
        self.end(cx);
    }

    fn loaded(&mut self, cx: &mut Cx, dump: Option<dump::Dump>) {
        let saved = dump.as_ref().map(|dump| dump.changed);
        let is_older = saved.is_some_and(|at| at < self.commands.before);
        let trouble = is_older.then(|| OLDER.to_owned());
        if let Some(trouble) = &trouble {
            Env::new(cx, &mut self.common).error(&ALL.into(), trouble.clone());
        }
        let taken = dump.map_or(0, |dump| self.take_over(cx, dump));
        self.common.tokens_changed = false;
        // What has just been loaded needn't be saved again.
        let commands = &mut self.commands;
        (commands.loaded, commands.told, commands.retry_at) = (true, false, None);
        commands.changed = commands.changed.max(saved.flatten());
        commands.trouble = trouble;
        let message = format!("the saved tokens of {taken} accounts have been loaded");
        Env::new(cx, &mut self.common).log(Level::Info, &ALL.into(), message);
    }

    /// `state_save_cmd` ended; well, or for this reason not.
    pub fn save_outcome(&mut self, cx: &mut Cx, attempt: AttemptId, outcome: Result<(), String>) {
        if !self.commands.ends(HookKind::Save, attempt) {
            return;
        }
        match outcome {
            Ok(()) => {
                self.commands.told = false;
                self.commands.trouble = None;
                if !self.commands.dirty {
                    self.commands.current = !self.commands.waiters.is_empty();
                    self.settle_savers(cx, Ok(()));
                }
                let mut env = Env::new(cx, &mut self.common);
                env.log(Level::Info, &ALL.into(), "the tokens have been saved");
            }
            Err(why) => {
                self.commands.dirty = true;
                self.keeping_failed(cx, format!("the tokens could not be saved: {why}"));
            }
        }
        self.end(cx);
    }

    /// Begins what is due, after any event that may have changed a token.
    pub(super) fn keep(&mut self, cx: &mut Cx) {
        let changed = std::mem::take(&mut self.common.tokens_changed);
        if changed && self.common.config.state_save_cmd.is_some() {
            self.commands.changed(cx.now.wall);
        }
        if self.common.held && !self.commands.closing {
            return;
        }
        let next = self.commands.step(&self.common.config, cx.now.instant);
        if let Some((kind, command)) = next {
            self.begin(cx, kind, command);
        }
    }

    /// A reloaded configuration with another command to save by: it has nothing yet.
    pub(super) fn save_by_another(&mut self, cx: &Cx) {
        if self.holds_anything() {
            self.commands.changed(cx.now.wall);
        }
    }

    /// The configuration was reloaded: perhaps because what was saved could not be loaded.
    pub(super) fn load_again(&mut self, cx: &mut Cx) {
        if !self.commands.loaded && !self.is_keeping() && !self.common.held {
            self.start(cx);
        }
    }

    fn begin(&mut self, cx: &mut Cx, kind: HookKind, command: String) {
        let input = match kind {
            HookKind::Save => {
                self.commands.dirty = false;
                let dump = Arc::new(self.unsealed_dump(cx.now));
                let random = cx.entropy.bytes32();
                HookInput::State { dump, random }
            }
            _ => HookInput::None,
        };
        let mut env = Env::new(cx, &mut self.common);
        let attempt = env.attempt();
        env.run(kind, &ALL.into(), Some(attempt), command, input);
        self.commands.work = Some((kind, attempt));
    }

    /// The user is notified of the first failure of a row; all are logged.
    fn keeping_failed(&mut self, cx: &mut Cx, message: String) {
        let retry = if self.commands.closing {
            LAST_RETRY
        } else {
            RETRY
        };
        self.commands.retry_at = Some(cx.now.instant.after(retry));
        self.commands.trouble = Some(message.clone());
        self.settle_savers(cx, Err(Refusal::new(message.clone())));
        let told = std::mem::replace(&mut self.commands.told, true);
        let mut env = Env::new(cx, &mut self.common);
        if told {
            env.log(Level::Error, &ALL.into(), message);
        } else {
            env.error(&ALL.into(), message);
        }
    }

    fn settle_savers(&mut self, cx: &mut Cx, result: Result<(), Refusal>) {
        let waiters = std::mem::take(&mut self.commands.waiters);
        let mut env = Env::new(cx, &mut self.common);
        env.settle(&ALL.into(), Ended::Saving, waiters, result);
    }

    fn holds_anything(&self) -> bool {
        self.accounts.values().any(|account| account.holds())
    }
}
