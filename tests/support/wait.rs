//! The one deadline of every wait, and the two ways to wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen before it fails. Generous, since a loaded
/// machine is slow and a test that passes never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long [`until`] parks between two looks: short beside what a process takes to start.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until `look` finds something; `what` names it in the panic when that takes too long.
///
/// Only for what the system gives no portable event for: a file that another process appends to,
/// a socket that appears, a process that isn't our child and goes. Everything else waits on a
/// [`Condvar`] or on the thing itself.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_until(look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// The same; `None` when it takes too long.
pub fn try_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::park_timeout(LOOK_AGAIN);
    }
}

/// A value that other threads change, and that can be waited on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub fn new(value: T) -> Self {
        Watched {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// Looks at the value.
    pub fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.lock())
    }

    /// Changes the value, and wakes whoever waits on it.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something; `None` when `patience` runs out first.
    pub fn try_wait<R>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + patience;
        let mut value = self.lock();
        loop {
            if let Some(found) = look(&mut value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value = self
                .changed
                .wait_timeout(value, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// A test that panicked with the lock held has said why; the guards' drops still need the
    /// value.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
