//! Where a panic ends: at the job that it happened in. The process holds every token, so a bug in
//! one job must cost no more than that job; and the core changes by whole values, so what the job
//! leaves behind is sound.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

/// Does `work`; `None` when it panicked.
pub fn job<T>(name: &str, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        drill(name);
        work()
    }));
    if outcome.is_err() {
        log::error!("a bug: {name} panicked; the server goes on");
    }
    outcome.ok()
}

/// In a build for tests, panics once for each file of this name in the directory that the
/// environment names, and removes the file.
#[cfg(debug_assertions)]
fn drill(name: &str) {
    let planted = drills()
        .map(|dir| dir.join(name))
        .is_some_and(|file| std::fs::remove_file(file).is_ok());
    if planted {
        std::panic::resume_unwind(Box::new("planted"));
    }
}

/// In a build for tests, waits as long as there is a file `hang-NAME` in that directory, as a system
/// call waits for a disk, and writes into it which process does. With `deaf-NAME` only SIGKILL ends
/// the wait, as where the disk is gone.
#[cfg(debug_assertions)]
pub fn hang(name: &str) {
    use std::io::Write;

    use nix::{
        poll::{PollTimeout, poll},
        sys::signal::{SigSet, Signal},
    };
    for how in ["hang", "deaf"] {
        let Some(file) = drills().map(|dir| dir.join(format!("{how}-{name}"))) else {
            return;
        };
        let Ok(mut planted) = std::fs::OpenOptions::new().write(true).open(&file) else {
            continue;
        };
        if how == "deaf" {
            let _ = SigSet::from_iter([Signal::SIGALRM]).thread_block();
        }
        let _ = writeln!(planted, "{}", std::process::id());
        while file.exists() {
            let _ = poll(&mut [], PollTimeout::from(10_u8));
        }
    }
}

/// That directory.
#[cfg(debug_assertions)]
pub fn drills() -> Option<PathBuf> {
    std::env::var_os("PIZAUTH_DRILL").map(PathBuf::from)
}

#[cfg(not(debug_assertions))]
pub fn drills() -> Option<PathBuf> {
    None
}

#[cfg(not(debug_assertions))]
fn drill(_name: &str) {}
