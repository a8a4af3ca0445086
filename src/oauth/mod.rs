//! The RFCs as pure functions: what to send, and what the reply means. No I/O, no clock.

pub mod authorization;
pub mod client;
pub mod command;
pub mod device;
mod hints;
mod lifetime;
mod message;
pub mod metadata;
pub mod pushed;
pub mod registration;
mod reply;
pub mod revocation;
pub mod sasl;
pub mod token;
mod words;
