//! What the holder and the hook runner tell each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{capability::Capability, line::Line};
pub use crate::hook::{HookEnd, HookKind};

/// The variables that commands are told something by. Others mean something to shells and programs,
/// pizauth itself among them.
pub const VARIABLES: [&str; 8] = [
    ACCOUNT,
    "PIZAUTH_BYTES",
    "PIZAUTH_EVENT",
    "PIZAUTH_MSG",
    "PIZAUTH_REQUESTER",
    "PIZAUTH_URL",
    "PIZAUTH_USER_CODE",
    "PIZAUTH_VERIFICATION_URI",
];

/// The variable that tells a command whose it is.
pub const ACCOUNT: &str = "PIZAUTH_ACCOUNT";

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
