//! The core behind its mutex. [`Shared::with`] is the only place that locks it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{clock, hooks::Hooks, provider::Provider};
use crate::{
    alarm::Alarm,
    core::{Core, Cx, Effect, Ended, Waiter},
    oauth::token::Refusal,
    serve::{ConnId, Remote},
    time::Instant,
};

/// Tells whoever waits for an end.
pub type Settle = Box<dyn Fn(Waiter, Ended, &str, &Result<(), Refusal>) + Send + Sync>;

/// The servers of the control socket: the present one, and those before it whose socket has gone,
/// as long as they have clients. A connection's number tells whose it is.
#[derive(Default)]
pub struct Remotes(Mutex<Vec<Remote>>);

impl Remotes {
    /// One more.
    pub fn add(&self, remote: Remote) {
        self.lock().push(remote);
    }

    /// The last words to a client that waits; the others don't know it.
    pub fn send(&self, id: ConnId, bytes: &[u8]) {
        let remotes = self.lock().clone();
        for remote in remotes {
            remote.send(id, bytes.to_vec(), true);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Remote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The core and the shells that do what it says.
pub struct Shared {
    core: Mutex<Core>,
    provider: Provider,
    hooks: Hooks,
    settle: Settle,
    alarm: Arc<Alarm>,
}

impl Shared {
    /// Puts the parts together; `alarm` rings when the next deadline has changed.
    pub fn new(core: Core, hooks: Hooks, settle: Settle, alarm: Arc<Alarm>) -> Arc<Self> {
        Arc::new(Shared {
            core: Mutex::new(core),
            provider: Provider::new(),
            hooks,
            settle,
            alarm,
        })
    }

    /// Feeds the core one event, and has done what follows from it.
    pub fn with<T>(self: &Arc<Self>, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: clock::now(),
            entropy: &mut clock::System,
        };
        let mut effects = Vec::new();
        // The core changes state by whole values, so one that a panic left behind is sound.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let before = core.poll_timeout();
        let value = event(&mut core, &mut cx);
        while let Some(effect) = core.next_effect() {
            effects.push(effect);
        }
        let after = core.poll_timeout();
        drop(core);
        for effect in effects {
            self.perform(effect);
        }
        if after != before {
            self.alarm.ring();
        }
        value
    }

    /// When the core wants to be ticked next.
    pub fn deadline(self: &Arc<Self>) -> Option<Instant> {
        self.with(|core, _| core.poll_timeout())
    }

    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Request {
                account,
                attempt,
                request,
            } => self.provider.submit(self, account, attempt, request),
            Effect::Settled {
                what,
                waiters,
                account,
                result,
            } => {
                for waiter in waiters {
                    (self.settle)(waiter, what, &account, &result);
                }
            }
            Effect::Log {
                level,
                account,
                message,
            } => log::log!(level, "{account}: {message}"),
            Effect::Notify { .. }
            | Effect::NotifyEnd { .. }
            | Effect::Error { .. }
            | Effect::Announce { .. }
            | Effect::Probe { .. }
            | Effect::FetchSecret { .. } => {
                self.hooks.perform(effect);
                self.alarm.ring();
            }
        }
    }

    /// The workers.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The hooks' end of the runner.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }
}
