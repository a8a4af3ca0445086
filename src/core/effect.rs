//! What the core wants done. The shells do it and decide nothing.

use std::sync::Arc;

use url::Url;

use super::{
    answer::{ShowAnswer, ShowRequest},
    attempt::{AttemptId, Waiter},
    hook::Hook,
};
use crate::{
    oauth::token::{Refusal, Request},
    secret::Secret,
};

/// What a client has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A sign-in.
    SignIn,
    /// A refresh that stands for a sign-in: nobody has to sign in, or has elsewhere.
    Refresh,
    /// Asking for a device code, or for the endpoints; what came of it is to be asked for.
    Code,
    /// Telling the provider of a `revoke`.
    Revocation,
    /// A save.
    Saving,
}

/// One thing to do.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub enum Effect {
    /// POST this; exactly one [`super::Core::token_outcome`] answers it.
    Request {
        /// Whose.
        account: Arc<str>,
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// What and where to.
        request: Request,
    },
    /// Run a command of the configuration.
    Hook(Hook),
    /// The sign-in is over: end its `auth_notify_cmd` if it still runs.
    NotifyEnd {
        /// As in [`Hook::attempt`].
        attempt: AttemptId,
    },
    /// Log this error: there is no `error_notify_cmd` for it.
    Error {
        /// Whose trouble.
        account: Arc<str>,
        /// Safe to show, on one line.
        message: String,
    },
    /// Write or remove a token file. [`super::Core::publish_failed`] is called when that fails.
    TokenFile {
        /// Whose.
        account: Arc<str>,
        /// As written in the config: absolute, or below `~/`.
        path: Arc<str>,
        /// What stands in it; without, it is to go.
        content: Option<Arc<Secret>>,
    },
    /// GET this; exactly one [`super::Core::discovery_outcome`] answers it.
    Discover {
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// What to get.
        url: Url,
    },
    /// Something that clients wait for has ended.
    Settled {
        /// What.
        what: Ended,
        /// Who waits.
        waiters: Vec<Waiter>,
        /// Whose.
        account: Arc<str>,
        /// How it ended.
        result: Result<(), Refusal>,
    },
    /// The answer that a client has waited for.
    Answer {
        /// Who waits, and how the answer is to be put.
        request: ShowRequest,
        /// Whose token.
        account: Arc<str>,
        /// The answer.
        answer: ShowAnswer,
    },
    /// Log this.
    Log {
        /// How loudly.
        level: log::Level,
        /// Whose.
        account: Arc<str>,
        /// Safe to show, on one line.
        message: String,
    },
}
