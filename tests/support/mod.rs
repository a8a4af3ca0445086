//! What the black-box tests stand on: a scripted provider, a browser stand-in, a daemon guard.
//! Everything waits on conditions and nothing sleeps; every guard takes down what it started.

// A helper may be there before the first test that needs it.
#![allow(dead_code)]

pub mod browser;
pub mod command;
pub mod daemon;
pub mod hooks;
pub mod http;
pub mod issuer;
pub mod mail;
pub mod original;
pub mod provider;
pub mod tls;
pub mod wait;

mod selftest;

pub use wait::PATIENCE;
