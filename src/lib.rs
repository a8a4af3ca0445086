//! pizauth, an OAuth2 token daemon. The modules, in reading order:
#![doc = "see DESIGN in README.md's CONTRIBUTING section for the plan that they follow."]

pub mod alarm;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod core;
pub mod error;
pub mod oauth;
pub mod paths;
pub mod redirect;
pub mod secret;
pub mod serve;
pub mod text;
pub mod time;
pub mod view;
pub mod wire;
