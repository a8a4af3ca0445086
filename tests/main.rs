//! Everything that is tested from outside, in one target.
#![allow(missing_docs)]

mod config;
