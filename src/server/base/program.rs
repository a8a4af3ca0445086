//! The program that the server was started as.

use std::{os::unix::ffi::OsStrExt, path::PathBuf};

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
