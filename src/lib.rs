//! pizauth, an OAuth2 token daemon. The modules, in reading order:
#![doc = "see DESIGN in README.md's CONTRIBUTING section for the plan that they follow."]

pub mod alarm;
pub mod config;
pub mod core;
pub mod error;
pub mod oauth;
pub mod redirect;
pub mod secret;
pub mod serve;
pub mod text;
pub mod time;
pub mod view;
