//! Who does what the core says.

use std::sync::Arc;

use super::{
    checkpoints::StateKeeper,
    clients,
    engine::Engine,
    hooks::Hooks,
    provider::{Provider, What},
    redirects,
    token_files::TokenFiles,
};
use crate::{alarm::Alarm, core::Effect, redirect::Pages, serve::Remote};

/// The shells, each of which has a queue of its own.
pub struct Effects {
    /// Asks token endpoints and issuers.
    pub provider: Arc<Provider>,
    /// Runs commands.
    pub hooks: Arc<Hooks>,
    /// Writes token files.
    pub files: Arc<TokenFiles>,
    /// The browsers that wait for the end of a sign-in.
    pub browsers: Remote,
    /// What they are shown.
    pub pages: Arc<Pages>,
    /// The clients of the control socket.
    pub clients: Remote,
    /// Rings when there is something for the hook runner, or the next deadline has changed.
    pub alarm: Arc<Alarm>,
    /// Keeps the state for a successor.
    pub keeper: Arc<StateKeeper>,
}

impl Effects {
    /// Does what an effect says, or has it done: what it takes time for is another thread's.
    pub fn perform(&self, engine: &Arc<Engine>, effect: Effect) {
        match effect {
            Effect::Request {
                account,
                attempt,
                request,
            } => {
                let form = What::Form(account, request);
                self.provider.submit(engine, attempt, form);
            }
            Effect::Discover { attempt, url } => {
                self.provider.submit(engine, attempt, What::Document(url));
            }
            Effect::Settled {
                what,
                waiters,
                account,
                result,
            } => {
                // A number is a browser's or a client's; the server that doesn't know it does
                // nothing.
                let view = engine.with(|core, cx| core.view(&account, cx.now));
                for waiter in waiters {
                    let (pages, view) = (&self.pages, view.as_ref());
                    redirects::settle(&self.browsers, pages, waiter, &account, &result, view);
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
            Effect::Error { account, message } => log::error!("{account}: {message}"),
            Effect::Hook(hook) => {
                self.hooks.run(hook);
                self.alarm.ring();
            }
            Effect::NotifyEnd { attempt } => {
                self.hooks.end(attempt);
                self.alarm.ring();
            }
        }
    }
}
