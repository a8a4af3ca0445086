//! Who does what the core says.

use std::sync::Arc;

use super::engine::{Engine, Executor};
use super::{
    checkpoints::StateKeeper, clients, hooks::Hooks, provider::Provider, redirects::Settle,
    token_files::TokenFiles,
};
use crate::{alarm::Alarm, core::Effect, serve::Remote, view::News};

/// The shells, each of which has a queue of its own.
pub struct Effects {
    /// Asks token endpoints and issuers.
    pub provider: Arc<Provider>,
    /// Runs commands.
    pub hooks: Arc<Hooks>,
    /// Writes token files.
    pub files: Arc<TokenFiles>,
    /// Tells the browser that waits for the end of a sign-in.
    pub settle: Settle,
    /// The clients of the control socket.
    pub clients: Remote,
    /// Rings when there is something for the hook runner.
    pub alarm: Arc<Alarm>,
    /// Keeps the state for a successor.
    pub keeper: Arc<StateKeeper>,
}

impl Executor for Effects {
    fn perform(&self, engine: &Arc<Engine>, effect: Effect) {
        match effect {
            Effect::Request {
                account,
                attempt,
                request,
            } => self.provider.submit(engine, account, attempt, request),
            Effect::Discover { attempt, url } => self.provider.discover(engine, attempt, url),
            Effect::Settled {
                what,
                waiters,
                account,
                result,
            } => {
                // A number is a browser's or a client's; the server that doesn't know it does
                // nothing.
                let user = engine.with(|core, _| core.other_user(&account));
                for waiter in waiters {
                    (self.settle)(waiter, &account, &result, user.as_deref());
                    clients::settle(&self.clients, waiter, what, &account, &result);
                }
            }
            Effect::Answer {
                request,
                account,
                answer,
            } => clients::answer(&self.clients, &request, &account, answer),
            Effect::TokenFile {
                account,
                path,
                content,
            } => self.files.submit(engine, account, path, content),
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
            | Effect::FetchSecret { .. }
            | Effect::FetchToken { .. } => {
                self.hooks.perform(effect);
                self.alarm.ring();
            }
        }
    }

    fn publish(&self, news: &[News]) {
        clients::publish(&self.clients, news);
    }

    fn keeper(&self) -> &Arc<StateKeeper> {
        &self.keeper
    }
}
