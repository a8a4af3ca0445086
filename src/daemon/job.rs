//! What the daemon and its hook runner tell each other, a JSON object a line.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::seals::Seal;

/// The variables that commands are told something by. Others mean something to shells and programs,
/// pizauth itself among them.
pub const VARIABLES: [&str; 6] = [
    ACCOUNT,
    "PIZAUTH_EVENT",
    "PIZAUTH_MSG",
    "PIZAUTH_URL",
    "PIZAUTH_USER_CODE",
    "PIZAUTH_VERIFICATION_URI",
];

/// The variable that tells a command whose it is.
pub const ACCOUNT: &str = "PIZAUTH_ACCOUNT";

/// Hooks of one lane run one at a time or few at a time, in order. When several lanes have work,
/// an earlier one is begun first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
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
    /// `auth_notify_cmd`: they wait for a click, so each account's runs beside the others.
    Notify,
}

impl Lane {
    /// The option whose command runs there, for messages.
    pub fn option(self) -> &'static str {
        match self {
            Lane::Notify => "auth_notify_cmd",
            Lane::Error => "error_notify_cmd",
            Lane::Event => "token_event_cmd",
            Lane::Probe => "transient_error_if_cmd",
            Lane::Startup => "startup_cmd",
            Lane::Load => "state_load_cmd",
            Lane::Save => "state_save_cmd",
            Lane::Secret => "client_secret_cmd",
        }
    }
}

/// What the daemon tells the runner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Run this.
    Run(Job),
    /// End this, or don't start it.
    End(u64),
}

/// A command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Never used twice.
    pub id: u64,
    /// Where it has queued.
    pub lane: Lane,
    /// `$SHELL -c` it.
    pub command: String,
    /// The configuration has it.
    pub seal: Seal,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// When it has run so long, its process group is killed.
    pub limit: Duration,
    /// What a descriptor that came along with the order is for.
    pub pipe: Option<Pipe>,
}

impl Job {
    /// Which it is, for the log: a command's text may hold what is nobody's business.
    pub fn words(&self) -> String {
        let account = self.env.iter().find(|(name, _)| name == ACCOUNT);
        let account = account.map(|(_, account)| format!(" for {account}"));
        format!("{}{}", self.lane.option(), account.unwrap_or_default())
    }
}

/// Which of a command's streams leads to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pipe {
    /// It reads what the daemon writes.
    Input,
    /// It writes what the daemon reads.
    Output,
}

/// What the runner tells the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// This job is begun with: it must not be given to another runner. Once for each that is, and
    /// before it is.
    Begun(u64),
    /// This job has ended. Once for each.
    Ended(Report),
}

/// A job's end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The job's.
    pub id: u64,
    /// How it ended.
    pub end: End,
    /// The end of what it wrote to stderr.
    pub stderr: String,
    /// What it wrote to stdout, in the lane whose output counts; a secret.
    pub stdout: Zeroizing<String>,
}

impl Report {
    /// A job that has said nothing.
    pub fn silent(id: u64, end: End) -> Self {
        Report {
            id,
            end,
            stderr: String::new(),
            stdout: Zeroizing::default(),
        }
    }
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed at its limit.
    TimedOut,
    /// It was ended by [`Order::End`].
    Ended,
    /// It couldn't be started.
    NotStarted(String),
    /// The runner was killed, and it with the runner.
    Lost,
}

/// Takes the first whole line out of `input`.
pub fn take_line(input: &mut Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let mut line: Zeroizing<Vec<u8>> = Zeroizing::new(input.drain(..=end).collect());
    // Draining leaves a copy of the last bytes behind.
    input.spare_capacity_mut().zeroize();
    line.pop();
    Some(line)
}
