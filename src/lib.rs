//! pizauth, an OAuth2 token daemon. The modules, from the words that all share to the shells that
//! act on them; README.md (CONTRIBUTING) draws the map.

pub mod error;
pub mod form;
pub mod secret;
pub mod text;
pub mod time;
pub mod view;

pub mod report;

pub mod config;
pub mod oauth;
pub mod providers;

pub mod mail;

pub mod core;

pub mod http;

pub mod cli;
pub mod client;
pub mod paths;
pub mod wire;

pub mod alarm;
pub mod control;
pub mod redirect;
pub mod serve;
pub mod sys;

pub mod daemon;
