//! The program that the server was started as, and those that it runs.

use std::os::unix::{ffi::OsStrExt, process::CommandExt};
use std::{path::PathBuf, process::Command};

use super::activation;

/// A command of the configuration, run by the user's shell in a process group of its own. What speaks
/// of descriptors of this process isn't for it.
pub fn shell(command: &str) -> Command {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut shell = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
    for variable in activation::VARIABLES {
        shell.env_remove(variable);
    }
    shell.arg("-c").arg(command).process_group(0);
    shell
}

/// The program that this process was started as, wherever its path leads to by now.
pub fn program() -> PathBuf {
    let started_as = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let found = if started_as.as_os_str().as_bytes().contains(&b'/') {
        std::path::absolute(&started_as).ok()
    } else {
        std::env::var_os("PATH").and_then(|path| {
            let mut dirs = std::env::split_paths(&path).map(|dir| dir.join(&started_as));
            dirs.find(|place| place.is_file() && place.is_absolute())
        })
    };
    found
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or(started_as)
}
