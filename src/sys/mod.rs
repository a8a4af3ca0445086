//! What safe Rust can't say: the allocator, the process's entry. Every use has its SAFETY.
#![allow(unsafe_code)]

mod alloc;
mod entry;

pub use alloc::Wiping;
pub use entry::prepare;
