//! The commands of the configuration: which there are, and how one ended. The core asks for them and
//! judges their ends; the hook runner runs them.

use serde::{Deserialize, Serialize};

/// Hooks of one kind wait in one queue, and run one at a time or a few at a time, in order. When
/// several kinds have work, an earlier one is begun first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookKind {
    /// `state_load_cmd`.
    Load,
    /// `state_save_cmd`.
    Save,
    /// `startup_cmd`.
    Startup,
    /// `token_event_cmd`: one at a time, in order.
    Event,
    /// `error_notify_cmd`.
    Error,
    /// `transient_error_if_cmd`.
    Probe,
    /// `client_secret_cmd`.
    Secret,
    /// `token_cmd`.
    Token,
    /// No command, but the name of the program whose process is given: the runner may see it.
    Requester,
    /// `auth_notify_cmd`: they wait for a click, so each account's runs beside the others.
    Notify,
}

impl HookKind {
    /// The option whose command it is, for messages.
    pub fn option(self) -> &'static str {
        match self {
            HookKind::Notify => "auth_notify_cmd",
            HookKind::Error => "error_notify_cmd",
            HookKind::Event => "token_event_cmd",
            HookKind::Probe => "transient_error_if_cmd",
            HookKind::Startup => "startup_cmd",
            HookKind::Load => "state_load_cmd",
            HookKind::Save => "state_save_cmd",
            HookKind::Secret => "client_secret_cmd",
            HookKind::Token => "token_cmd",
            HookKind::Requester => "the look-up of who asks",
        }
    }

    /// Whether it starts what is the user's from then on, such as a browser, which mustn't end with
    /// it.
    pub fn leaves(self) -> bool {
        matches!(self, HookKind::Notify | HookKind::Error)
    }
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookEnd {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed at its limit.
    TimedOut,
    /// The server ended it: nothing needs it any more.
    Ended,
    /// It couldn't be started, for this reason.
    NotStarted(String),
    /// The process that ran it was killed, and it with that; nothing is known of it.
    Lost,
}
