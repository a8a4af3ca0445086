//! How a command of the configuration ended: the hook runner tells it, and the core judges it.

use serde::{Deserialize, Serialize};

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
