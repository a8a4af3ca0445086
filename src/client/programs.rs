//! What this machine has installed.

use std::{env, fs, os::unix::fs::PermissionsExt, path::PathBuf};

/// Whether `PATH` has a program of this name.
pub(super) fn is_installed(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_program = |it: fs::Metadata| it.is_file() && it.permissions().mode() & 0o111 != 0;
    env::split_paths(&path).any(|it| fs::metadata(it.join(name)).is_ok_and(is_program))
}

/// Whether Cyrus SASL has a plugin for tokens: one with `oauth` in its name, as all that are known
/// have.
pub(super) fn has_sasl_plugin() -> bool {
    let is_one = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy()
            .to_ascii_lowercase()
            .contains("oauth")
    };
    sasl_directories().iter().any(|directory| {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.flatten().any(is_one)
    })
}

/// Where Cyrus SASL looks for plugins: what `SASL_PATH` says, or else where systems put them.
fn sasl_directories() -> Vec<PathBuf> {
    if let Some(path) = env::var_os("SASL_PATH") {
        return env::split_paths(&path).collect();
    }
    let usual = "/usr/lib /usr/lib64 /usr/local/lib /usr/pkg/lib /opt/homebrew/lib /opt/local/lib";
    let usual = usual.split(' ').map(PathBuf::from);
    // Debian's have the machine's triplet in between.
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let all = usual.chain(libraries.map(|entry| entry.path()));
    all.map(|directory| directory.join("sasl2")).collect()
}
