//! The core behind its mutex. [`Engine::with`] is the only place that locks it: it feeds the core one
//! event, takes out what follows, and lets go. No I/O happens under the lock.

use std::sync::Arc;

use super::{clients, effects::Effects, fdstore::StoredState, outbox::Outbox};
use crate::{
    core::{Core, Cx, Effect, Entropy, Env, LiveAccount},
    lock::Lock,
    server::base::clock,
    view::News,
};

/// The core, and who does what it says.
pub struct Engine {
    core: Lock<Core>,
    outbox: Outbox<Parcel>,
    effects: Arc<Effects>,
}

/// What follows from one event.
struct Parcel {
    effects: Vec<Effect>,
    news: Vec<News>,
    /// The state, if it is written before anything of that is done.
    state: Option<StoredState>,
}

impl Parcel {
    /// All that the core has to say.
    fn of(core: &mut Core) -> Self {
        Parcel {
            effects: std::iter::from_fn(|| core.next_effect()).collect(),
            news: std::iter::from_fn(|| core.next_news()).collect(),
            state: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.news.is_empty()
    }
}

/// The kernel's random numbers, for the core.
struct Random;

impl Entropy for Random {
    fn bytes32(&mut self) -> [u8; 32] {
        clock::random()
    }
}

impl Engine {
    /// Puts the parts together.
    pub fn new(core: Core, effects: Arc<Effects>) -> Arc<Self> {
        Arc::new(Engine {
            core: Lock::new(core),
            outbox: Outbox::default(),
            effects,
        })
    }

    /// Feeds the core one event, and has done what follows from it, after all that followed from
    /// the events before.
    pub fn with<T>(self: &Arc<Self>, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: clock::now(),
            entropy: &mut Random,
        };
        let (value, follows, changed) = self.core.with(|core| {
            // A restart, a load or a save waits for the end of what is under way.
            let waits = |core: &Core| (core.is_held() && core.awaits_reply(), core.is_keeping());
            let before = (core.poll_timeout(), waits(core));
            core.compare_clocks(&mut cx);
            let value = event(core, &mut cx);
            let mut parcel = Parcel::of(core);
            let follows = !parcel.is_empty();
            if follows {
                parcel.state = self.effects.keeper.capture(core, cx.now);
                self.outbox.put(parcel);
            }
            (value, follows, before != (core.poll_timeout(), waits(core)))
        });
        if follows {
            self.outbox.deliver(|parcel| self.deliver(parcel));
            self.effects.keeper.catch_up(self);
        }
        if changed {
            self.effects.alarm.ring();
        }
        value
    }

    /// Feeds one account an event, as [`Core::on`] does.
    pub fn on<T>(
        self: &Arc<Self>,
        account: &str,
        event: impl FnOnce(&mut LiveAccount, &mut Env) -> T,
    ) -> Option<T> {
        self.with(|core, cx| core.on(cx, account, event))
    }

    fn deliver(self: &Arc<Self>, parcel: Parcel) {
        if let Some(state) = &parcel.state {
            self.effects.keeper.write(state);
        }
        for effect in parcel.effects {
            self.effects.perform(self, effect);
        }
        if !parcel.news.is_empty() {
            clients::publish(&self.effects.clients, &parcel.news);
        }
    }
}
