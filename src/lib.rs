//! pizauth, an OAuth2 token daemon. The modules, from the words that all share to the shells that
//! act on them; README.md (CONTRIBUTING) draws the map.
//!
//! In what the daemon runs on once it has started, arithmetic says what becomes of an overflow.

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod error;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod form;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod secret;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod text;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod time;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod view;

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod report;

pub mod config;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod oauth;
pub mod providers;

pub mod mail;

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod core;

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod http;

pub mod cli;
pub mod client;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod paths;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod wire;

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod alarm;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod control;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod redirect;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod serve;
#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod sys;

#[cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
pub mod daemon;
