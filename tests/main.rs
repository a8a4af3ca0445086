//! Black-box tests: they drive the built binary against a scripted provider. One target, so that
//! the suite links once; each file of this directory is a module.
#![allow(missing_docs)]
// A test says what went wrong by panicking, its helpers included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod anywhere;
mod beyond;
mod cli;
mod compat;
mod config;
mod conformance;
mod control;
mod corpus;
mod crash;
mod discovery;
mod doors;
mod famine;
mod faults;
mod filters;
mod flow;
mod git;
mod grants;
mod hangs;
mod hooks;
mod kills;
mod original;
mod packages;
mod persist;
mod promises;
mod proxy;
mod quotas;
mod redirects;
mod register;
mod restart;
mod secrets;
mod services;
mod setup;
mod show;
mod soak;
mod sock;
mod state;
mod store;
mod support;
mod tidy;
mod trial;
mod tunnel;
