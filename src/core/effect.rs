//! What the core wants done. The shells do it and decide nothing.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{
    answer::{ShowAnswer, ShowRequest},
    attempt::{AttemptId, Waiter},
    dump::Dump,
};
use crate::{
    oauth::token::{Refusal, Request},
    secret::Secret,
    view::SignInWays,
};

/// What a client has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A sign-in.
    SignIn,
    /// Asking for a device code, or for the endpoints; what came of it is to be asked for.
    Code,
    /// Telling the provider of a `revoke`.
    Revocation,
    /// A save.
    Saving,
}

/// What `token_event_cmd` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEvent {
    /// The user signed in.
    New,
    /// A refresh yielded a new access token.
    Refreshed,
    /// The provider, the user's own probe or a changed registration ended the tokens.
    Invalidated,
    /// `pizauth revoke`.
    Revoked,
}

impl TokenEvent {
    /// The value of PIZAUTH_EVENT.
    pub fn name(self) -> &'static str {
        match self {
            TokenEvent::New => "token_new",
            TokenEvent::Refreshed => "token_refreshed",
            TokenEvent::Invalidated => "token_invalidated",
            TokenEvent::Revoked => "token_revoked",
        }
    }
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
    /// Run `auth_notify_cmd`.
    Notify {
        /// Whose sign-in.
        account: Arc<str>,
        /// The pending sign-in: [`Effect::NotifyEnd`] with it ends the command.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
        /// How to complete it; there is an address.
        ways: SignInWays,
        /// Whether the tokens held still serve, and their sign-in will end soon.
        expiring: bool,
        /// How long the command may run: until the next reminder.
        limit: Duration,
    },
    /// The sign-in is over: end its `auth_notify_cmd` if it still runs.
    NotifyEnd {
        /// As in [`Effect::Notify`].
        attempt: AttemptId,
    },
    /// Run `error_notify_cmd`, or log the message when there is none.
    Error {
        /// Whose trouble.
        account: Arc<str>,
        /// `$SHELL -c` it.
        command: Option<String>,
        /// Safe to show, on one line.
        message: String,
    },
    /// Run `token_event_cmd`, in order.
    Announce {
        /// Whose token.
        account: Arc<str>,
        /// `$SHELL -c` it.
        command: String,
        /// What happened.
        event: TokenEvent,
    },
    /// Run `transient_error_if_cmd`; exactly one [`super::Core::probe_outcome`] answers it.
    Probe {
        /// Whose refresh failed.
        account: Arc<str>,
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
    },
    /// Run `state_save_cmd`; exactly one [`super::Core::save_outcome`] answers it.
    Save {
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
        /// For its standard input.
        dump: Arc<Dump>,
        /// What it is sealed with: that takes far longer than the event.
        random: [u8; 32],
    },
    /// Run `state_load_cmd`; exactly one [`super::Core::load_outcome`] answers it.
    Load {
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
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
    /// Run `client_secret_cmd`; exactly one [`super::Core::secret_outcome`] answers it.
    FetchSecret {
        /// Whose secret.
        account: Arc<str>,
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
    },
    /// Run `token_cmd`; exactly one [`super::Core::printed`] answers it.
    FetchToken {
        /// Whose token.
        account: Arc<str>,
        /// To be given back with the outcome.
        attempt: AttemptId,
        /// `$SHELL -c` it.
        command: String,
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
