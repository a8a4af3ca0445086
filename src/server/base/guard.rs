//! Where a panic ends: at the job that it happened in. The process holds every token, so a bug in
//! one job must cost no more than that job; and the core changes by whole values, so what the job
//! leaves behind is sound.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work`; `None` when it panicked.
pub fn job<T>(name: &str, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(debug_assertions)]
        super::drills::panic(name);
        work()
    }));
    if outcome.is_err() {
        log::error!("a bug: {name} panicked; the server goes on");
    }
    outcome.ok()
}
