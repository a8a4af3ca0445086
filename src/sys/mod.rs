//! What safe Rust can't say: the allocator, its heap, memory for secrets, the process's entry. Every
//! use has its SAFETY.
#![allow(unsafe_code)]

mod alloc;
mod entry;
mod heap;
mod locked;

pub use entry::prepare;
pub use heap::{trim, tune_heap};
pub use locked::{LockedText, lock_texts};
