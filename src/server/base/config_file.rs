//! Reading the configuration's file, for all who need it.

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::libc::O_NONBLOCK;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Account, ClientSecret, Config, ConfigError},
    error::{Exit, Failure},
};

/// A configuration as it was read.
#[derive(Clone, Serialize, Deserialize)]
pub struct ConfigText {
    /// All of it. (There may be a client secret in it: whatever is freed is wiped, sys/alloc.rs.)
    pub text: String,
    /// Other users may read its file.
    pub shared: bool,
}

impl std::fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("ConfigText")
    }
}

/// Checks the configuration.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(file: &Path, read: &ConfigText) -> Result<Config, Failure> {
    let name = file.display().to_string();
    let mut config = config::parse(&name, &read.text).map_err(bad_config)?;
    let given = |account: &Account| matches!(account.client.secret, ClientSecret::Given(_));
    if read.shared && config.accounts.iter().any(given) {
        config.warnings.push(format!(
            "{name}: the file's mode lets other users read it, and a client_secret is in it (`chmod go-r` helps)"
        ));
    }
    Ok(config)
}

/// Reads the configuration. A FIFO that nobody writes to doesn't hold it up.
///
/// # Errors
/// When it can't be read, or is too large or no text.
pub fn read(file: &Path) -> Result<ConfigText, Failure> {
    let unreadable = |error: std::io::Error| {
        let what = format!("can't read the configuration {}: {error}", file.display());
        Failure::new(Exit::Other, what)
    };
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(file)
        .map_err(unreadable)?;
    let found = opened.metadata().map_err(unreadable)?;
    if !found.is_file() {
        let what = format!("the configuration {} is no regular file", file.display());
        return Err(Failure::new(Exit::Other, what));
    }
    let mut bytes = Vec::new();
    opened
        .take((config::MAX_CONFIG_BYTES as u64).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = config::text(&file.display().to_string(), bytes).map_err(bad_config)?;
    let shared = found.mode() & READABLE_BY_OTHERS != 0;
    Ok(ConfigText { text, shared })
}

/// The bits of a file's mode that let its group and the rest read it (inode(7)).
const READABLE_BY_OTHERS: u32 = 0o044;

/// A config error as the one who asks gets to see it.
fn bad_config(error: ConfigError) -> Failure {
    Failure {
        what: error.report(),
        hint: error.advice().map(str::to_owned),
        exit: Exit::Other,
    }
}
