//! A running server: a room for each of its processes, and what they share.
//!
//! `pizauth server` ([`start`]) forks the monitor, which forks everything else: the token holder,
//! helpers, the hook runner and the proxies. They talk in the messages of `ipc`. Arrows point one way, which
//! tests/tidy checks: monitor, helper, runner and proxy use ipc and base; ipc uses base; the holder
//! uses ipc, base and the core; only start sees all. The proxies' process is a client of the holder.

mod base;
#[doc(hidden)]
#[path = "tests/fuzzing.rs"]
pub mod fuzzing;
mod helper;
mod holder;
mod ipc;
mod monitor;
mod proxy;
mod runner;
mod start;

pub use start::{check, start, take_over};
