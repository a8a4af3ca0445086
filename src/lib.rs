//! pizauth, an OAuth2 token daemon. The modules, from the words that all share to the shells that
//! act on them; README.md (CONTRIBUTING) draws the map.
//!
//! In what the daemon runs on once it has started, arithmetic says what becomes of an overflow;
//! what reads the configuration or serves one command need not.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod error;
pub mod form;
pub mod lock;
pub mod secret;
pub mod text;
pub mod time;
pub mod view;

pub mod report;

#[allow(clippy::arithmetic_side_effects)]
pub mod config;
pub mod oauth;
pub mod providers;

#[allow(clippy::arithmetic_side_effects)]
pub mod mail;

pub mod core;

pub mod http;

#[allow(clippy::arithmetic_side_effects)]
pub mod cli;
#[allow(clippy::arithmetic_side_effects)]
pub mod client;
pub mod paths;
pub mod wire;

pub mod alarm;
pub mod control;
pub mod redirect;
pub mod serve;
pub mod sys;

pub mod server;
