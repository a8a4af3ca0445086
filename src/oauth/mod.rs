//! The RFCs as pure functions: what to send, and what the reply means. No I/O, no clock.

pub mod authorization;
mod hints;
mod reply;
pub mod sasl;
pub mod token;
mod words;
