//! The core behind its mutex. [`Shared::with`] is the only place that locks it; the other lock
//! here holds one end of a line.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    broker::Broker, clients, clock, files::TokenFiles, hooks::Hooks, outbox::Outbox,
    provider::Provider,
};
use crate::{
    alarm::Alarm,
    core::{Core, Cx, Effect, Waiter},
    oauth::token::Refusal,
    serve::Remote,
    time::Instant,
    view::News,
};

/// Tells the browser that waits for the end of a sign-in.
pub type Settle = Box<dyn Fn(Waiter, &str, &Result<(), Refusal>) + Send + Sync>;

/// The core and the shells that do what it says.
pub struct Shared {
    core: Mutex<Core>,
    outbox: Outbox<Parcel>,
    provider: Provider,
    hooks: Hooks,
    files: TokenFiles,
    broker: Arc<Broker>,
    settle: Settle,
    /// Those of the control socket, which may be made anew.
    clients: Mutex<Option<Remote>>,
    alarm: Arc<Alarm>,
}

/// What follows from one event.
struct Parcel {
    effects: Vec<Effect>,
    news: Vec<News>,
}

impl Parcel {
    /// All that the core has to say.
    fn of(core: &mut Core) -> Self {
        Parcel {
            effects: std::iter::from_fn(|| core.next_effect()).collect(),
            news: std::iter::from_fn(|| core.next_news()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.news.is_empty()
    }
}

impl Shared {
    /// Puts the parts together; `alarm` rings when the next deadline has changed.
    pub fn new(
        core: Core,
        hooks: Hooks,
        broker: Arc<Broker>,
        settle: Settle,
        alarm: Arc<Alarm>,
    ) -> Arc<Self> {
        Arc::new(Shared {
            core: Mutex::new(core),
            outbox: Outbox::default(),
            provider: Provider::new(broker.clone()),
            hooks,
            files: TokenFiles::default(),
            broker,
            settle,
            clients: Mutex::new(None),
            alarm,
        })
    }

    /// The line to the monitor.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// From now on, clients are answered and told of news through `remote`.
    pub fn serve(&self, remote: Remote) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = Some(remote);
    }

    fn clients(&self) -> Option<Remote> {
        let clients = self.clients.lock();
        clients.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Feeds the core one event, and has done what follows from it, after all that followed from
    /// the events before.
    pub fn with<T>(self: &Arc<Self>, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: clock::now(),
            entropy: &mut clock::System,
        };
        // The core changes state by whole values, so one that a panic left behind is sound.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds it back waits for the end of what is under way.
        let waits = |core: &Core| core.is_held() && core.awaits_reply();
        let before = (core.poll_timeout(), waits(&core));
        let value = event(&mut core, &mut cx);
        let parcel = Parcel::of(&mut core);
        let after = (core.poll_timeout(), waits(&core));
        let ticket = (!parcel.is_empty()).then(|| self.outbox.put(parcel));
        drop(core);
        if let Some(ticket) = ticket {
            self.outbox.deliver(ticket, |parcel| self.deliver(parcel));
        }
        if after != before {
            self.alarm.ring();
        }
        value
    }

    fn deliver(self: &Arc<Self>, parcel: Parcel) {
        for effect in parcel.effects {
            self.perform(effect);
        }
        if parcel.news.is_empty() {
            return;
        }
        if let Some(remote) = self.clients() {
            clients::publish(&remote, &parcel.news);
        }
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
            Effect::Discover { attempt, url } => self.provider.discover(self, attempt, url),
            Effect::Settled {
                what,
                waiters,
                account,
                result,
            } => {
                // A number is a browser's or a client's; whoever doesn't know it does nothing.
                let clients = self.clients();
                for waiter in waiters {
                    (self.settle)(waiter, &account, &result);
                    if let Some(remote) = &clients {
                        clients::settle(remote, waiter, what, &account, &result);
                    }
                }
            }
            Effect::Answer {
                asker,
                account,
                answer,
            } => {
                if let Some(remote) = self.clients() {
                    clients::answer(&remote, &asker, &account, answer);
                }
            }
            Effect::TokenFile {
                account,
                path,
                content,
            } => self.files.submit(self, account, path, content),
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
            | Effect::Save { .. }
            | Effect::Load { .. }
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

    /// The writer of token files.
    pub fn files(&self) -> &TokenFiles {
        &self.files
    }

    /// The hooks' end of the runner.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }
}
