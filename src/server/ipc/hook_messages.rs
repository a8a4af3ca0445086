//! What the holder and the hook runner tell each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{capability::Capability, line::Line};
pub use crate::hook::HookEnd;

/// The variables that commands are told something by. Others mean something to shells and programs,
/// pizauth itself among them.
pub const VARIABLES: [&str; 7] = [
    ACCOUNT,
    "PIZAUTH_BYTES",
    "PIZAUTH_EVENT",
    "PIZAUTH_MSG",
    "PIZAUTH_URL",
    "PIZAUTH_USER_CODE",
    "PIZAUTH_VERIFICATION_URI",
];

/// The variable that tells a command whose it is.
pub const ACCOUNT: &str = "PIZAUTH_ACCOUNT";

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
        }
    }

    /// Whether it starts what is the user's from then on, such as a browser, which mustn't end with
    /// it.
    pub fn leaves(self) -> bool {
        matches!(self, HookKind::Notify | HookKind::Error)
    }
}

/// What the holder tells the runner.
#[derive(Debug, Serialize, Deserialize)]
pub enum HookOrder {
    /// Run this.
    Run(HookJob),
    /// End this, or don't start it.
    End(u64),
}

/// A command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HookJob {
    /// Never used twice.
    pub id: u64,
    /// What it is for.
    pub kind: HookKind,
    /// `$SHELL -c` it.
    pub command: String,
    /// The configuration has it.
    pub capability: Capability,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// When it has run so long, it is killed: its process group, unless it [leaves](HookKind::leaves)
    /// something.
    pub limit: Duration,
    /// What a descriptor that came along with the order is for.
    pub pipe: Option<Pipe>,
}

impl HookJob {
    /// Which it is, for the log: a command's text may hold what isn't for other readers.
    pub fn words(&self) -> String {
        let account = self.env.iter().find(|(name, _)| name == ACCOUNT);
        let account = account.map(|(_, account)| format!(" for {account}"));
        format!("{}{}", self.kind.option(), account.unwrap_or_default())
    }
}

/// Which of a command's streams leads to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pipe {
    /// It reads what the holder writes.
    Input,
    /// It writes what the holder reads.
    Output,
}

/// What the runner tells the holder.
#[derive(Debug, Serialize, Deserialize)]
pub enum HookEvent {
    /// This job is begun with: it must not be given to another runner. Once for each that is, and
    /// before it is.
    Begun(u64),
    /// This job has ended. Once for each.
    Ended(HookReport),
}

/// A job's end.
#[derive(Debug, Serialize, Deserialize)]
pub struct HookReport {
    /// The job's.
    pub id: u64,
    /// How it ended.
    pub end: HookEnd,
    /// The end of what it wrote to stderr, and to stdout where nobody else reads that.
    pub stderr: String,
}

impl HookReport {
    /// A job that has said nothing.
    pub fn silent(id: u64, end: HookEnd) -> Self {
        HookReport {
            id,
            end,
            stderr: String::new(),
        }
    }
}

/// The holder's end of a line to the runner.
pub type HookLine = Line<HookOrder, HookEvent>;

/// The runner's end.
pub type OrderLine = Line<HookEvent, HookOrder>;
