//! A running server: a room for each of its processes, and what they share.
//!
//! `pizauth server` ([`start`]) forks the monitor, which forks everything else: the token holder,
//! helpers and the hook runner. They talk in the messages of `ipc`. Arrows point one way, which
//! tests/tidy checks: monitor, helper and runner use ipc and base; ipc uses base; the holder uses
//! ipc, base and the core; only start sees all.

mod base;
#[doc(hidden)]
#[path = "tests/fuzzing.rs"]
pub mod fuzzing;
mod helper;
mod holder;
mod ipc;
mod monitor;
mod runner;
mod start;

pub use start::{check, start, take_over};
