//! pizauth, an OAuth2 token daemon. The modules, from the words that all share to the shells that
//! act on them; CONTRIBUTING.md draws the map.
//!
//! In what decides about tokens and moves them, arithmetic says what becomes of an overflow. Elsewhere
//! an overflow would be a bug: sums of lengths and counts are plain, and debug builds check them.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod error;
pub mod form;
pub mod hook;
pub mod lock;
pub mod secret;
#[allow(clippy::arithmetic_side_effects)]
pub mod text;
#[allow(clippy::arithmetic_side_effects)]
pub mod time;
pub mod view;

#[allow(clippy::arithmetic_side_effects)]
pub mod config;
#[allow(clippy::arithmetic_side_effects)]
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
#[allow(clippy::arithmetic_side_effects)]
pub mod relay;
pub mod wire;

pub mod alarm;
pub mod control;
#[allow(clippy::arithmetic_side_effects)]
pub mod redirect;
#[allow(clippy::arithmetic_side_effects)]
pub mod serve;
#[allow(clippy::arithmetic_side_effects)]
pub mod sys;

pub mod server;
