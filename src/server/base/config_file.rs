//! Reading the configuration's file, for all who need it.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::{fs, path::Path, sync::OnceLock};

use jiff::tz::TimeZone;
use nix::libc::O_NONBLOCK;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Account, ClientSecret, Config, ConfigError},
    error::Failure,
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
    if let Some((_, zone)) = &mut config.notice_at {
        *zone = TimeZone::system();
    }
    let given = |account: &Account| matches!(account.client.secret, ClientSecret::Given(_));
    if read.shared && config.accounts.iter().any(given) {
        config.warnings.push(format!(
            "{name}: the file's mode lets other users read it, and a client_secret is in it (`chmod go-r` helps)"
        ));
    }
    Ok(config)
}

/// A configuration that can be read only once, since it comes through a pipe.
static PIPED: OnceLock<ConfigText> = OnceLock::new();

/// Reads the configuration if it can't be read later: to be called before there are other processes.
///
/// # Errors
/// When it can't be read, or is too large or no text.
pub fn read_piped(file: &Path) -> Result<(), Failure> {
    if fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
        let text = text(file, opened)?;
        let shared = false;
        // The first call wins, and there is one in a process's life.
        let _ = PIPED.set(ConfigText { text, shared });
    }
    Ok(())
}

/// For what reads the configuration again.
///
/// # Errors
/// When it can't be.
pub fn check_readable_again() -> Result<(), Failure> {
    if PIPED.get().is_none() {
        return Ok(());
    }
    let what = "the configuration came through a pipe and can't be read again";
    Err(Failure::other(what).hint("start the server with a file to be able to"))
}

/// Reads the configuration. A FIFO without a writer doesn't hold it up.
///
/// # Errors
/// When it can't be read, or is too large or no text.
pub fn read(file: &Path) -> Result<ConfigText, Failure> {
    if let Some(piped) = PIPED.get() {
        return Ok(piped.clone());
    }
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(file)
        .map_err(|error| unreadable(file, &error))?;
    let found = opened.metadata();
    let found = found.map_err(|error| unreadable(file, &error))?;
    if !found.is_file() {
        let what = format!("the configuration {} is no regular file", file.display());
        return Err(Failure::other(what));
    }
    let text = text(file, opened)?;
    let shared = found.mode() & READABLE_BY_OTHERS != 0;
    Ok(ConfigText { text, shared })
}

fn text(file: &Path, opened: fs::File) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    opened
        .take((config::MAX_CONFIG_BYTES as u64).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(file, &error))?;
    config::text(&file.display().to_string(), bytes).map_err(bad_config)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let what = format!("can't read the configuration {}: {error}", file.display());
    let hint = (error.kind() == ErrorKind::NotFound).then(|| "`pizauth setup` makes one".into());
    Failure::other(what).with_hint(hint)
}

/// The bits of a file's mode that let its group and the rest read it (inode(7)).
const READABLE_BY_OTHERS: u32 = 0o044;

/// A config error as the one who asks gets to see it.
fn bad_config(error: ConfigError) -> Failure {
    Failure::other(error.report()).with_hint(error.advice)
}
