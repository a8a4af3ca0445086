//! What safe Rust can't say: the allocator, its heap, the process's entry. Every use has its SAFETY.
#![allow(unsafe_code)]

mod alloc;
mod entry;
mod heap;

pub use alloc::Wiping;
pub use entry::prepare;
pub use heap::{trim_heap, tune_heap};
