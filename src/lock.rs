//! A mutex whose holder can't forget it.

use std::sync::{Mutex, PoisonError};

/// State that several threads share. It changes by whole values, so what a panic leaves behind is
/// sound; nothing that may wait is done while it is held.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Holds this.
    pub const fn new(state: T) -> Self {
        Lock(Mutex::new(state))
    }

    /// Lets `act` at the state, alone.
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
