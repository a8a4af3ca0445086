//! In a build for tests: faults on order, for which files lie in the directory that the environment
//! names.

use std::io::Write;
use std::path::PathBuf;

use nix::{
    poll::{PollTimeout, poll},
    sys::signal::{SigSet, Signal},
};

/// That directory.
pub fn dir() -> Option<PathBuf> {
    std::env::var_os("PIZAUTH_DRILL").map(PathBuf::from)
}

/// Panics once for each file of this name, and removes the file.
pub fn panic(name: &str) {
    let planted = dir()
        .map(|dir| dir.join(name))
        .is_some_and(|file| std::fs::remove_file(file).is_ok());
    if planted {
        std::panic::resume_unwind(Box::new("planted"));
    }
}

/// Waits as long as there is a file `hang-NAME`, as a system call waits for a disk, and writes into it
/// which process does. With `deaf-NAME` only SIGKILL ends the wait, as where the disk is gone.
pub fn hang(name: &str) {
    for how in ["hang", "deaf"] {
        let Some(file) = dir().map(|dir| dir.join(format!("{how}-{name}"))) else {
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
