//! What the token holder asks of the monitor, what that tells it, and what a monitor passes to the
//! program that it becomes.

use nix::sys::resource::rlim_t;
use serde::{Deserialize, Serialize};

use super::{helper_messages::HelperKind, line::Line};

/// How many of the descriptors for a successor are checkpoints, behind the state.
pub const CHECKPOINTS: usize = 2;

/// What the holder asks of the monitor. The first of the descriptors that come along is where the
/// reply goes ([`MonitorReply`]), or silence.
#[derive(Debug, Serialize, Deserialize)]
pub enum MonitorRequest {
    /// A helper is to serve that descriptor.
    Helper(HelperKind),
    /// Tell the service manager this, and give it the other descriptors.
    Notify(String),
    /// Hold back the signals that are the holder's, for its successor, or pass them on again.
    HoldSignals(bool),
    /// Descriptors for [`MonitorRequest::Become`] or [`MonitorRequest::Guard`], all of which don't go
    /// with one message; no reply.
    Keep,
    /// Should the holder be killed, another one is to go on from what was kept, the last so many
    /// descriptors: the state, its checkpoints, and what the state counts from there. They take the
    /// place of those that were guarded before; with 0 the end of the holder is the server's.
    Guard(usize),
    /// Become the program that is there now, and give it what was kept, as for a guard. A reply comes
    /// only when that failed.
    Become {
        /// How many descriptors were kept for this, the last ones.
        kept: usize,
        /// The successor is to reload, as a signal has asked the holder.
        reload: bool,
    },
}

/// Why the monitor has not done it.
pub type MonitorReply = Result<(), String>;

/// What the monitor tells the holder.
#[derive(Debug, Serialize, Deserialize)]
pub enum MonitorEvent {
    /// A hook runner has started, with this process number. The holder's end of the line to it comes
    /// along.
    RunnerStarted(u32),
}

/// One end of the two lines between the holder and the monitor.
pub struct Lines<Requests, Events> {
    /// Where the holder asks.
    pub requests: Requests,
    /// Where it is told.
    pub events: Events,
}

/// The holder's ends.
pub type HolderLines = Lines<Line<MonitorRequest, ()>, Line<(), MonitorEvent>>;

/// The monitor's ends.
pub type MonitorLines = Lines<Line<(), MonitorRequest>, Line<MonitorEvent, ()>>;

/// How the server was started, which all of its programs go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartOptions {
    /// How many `-v` there were.
    pub verbose: u8,
    /// It runs in the background.
    pub detached: bool,
    /// How many descriptors its commands may have, where the server itself has been given more.
    pub descriptors: Option<rlim_t>,
    /// The file mode creation mask that it was started with, and its commands run with.
    pub umask: u32,
}

/// What a monitor passes to the program that it becomes, as one argument; numbers of processes that
/// are its children, and of descriptors.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessorArgs {
    /// How the server was started.
    pub start: StartOptions,
    /// The hook runners, which end when their last hook has.
    pub runners: Vec<i32>,
    /// The holder, which has nothing more to do.
    pub holder: i32,
    /// The pipe with the key of the capabilities.
    pub key: i32,
    /// When holders were killed lately, in milliseconds of the machine's clock.
    pub deaths: Vec<u64>,
    /// The memory with the state; the [`CHECKPOINTS`] pieces of memory with what has changed since, if
    /// the state has no core; and what the state counts.
    pub fds: Vec<i32>,
}
