//! `pizauth check`: what the server would say of a configuration.

use std::io::{self, Write};

use super::config_file;
use crate::error::{Exit, Failure};
use crate::server::base::{config_file, error::other};
use crate::{cli::CheckOptions, config};

/// Is this config good? Warnings go to stderr, as an error does. Asked to, it prints the accounts, too.
///
/// # Errors
/// What is wrong with it.
pub fn check(options: &CheckOptions) -> Result<(), Failure> {
    let file = config_file(options.config.as_deref())?;
    let read = config_file::read_piped(&file).and_then(|()| config_file::read(&file));
    let config = read.and_then(|text| config_file::parse(&file, &text));
    let config = config.map_err(|failure| Failure {
        exit: Exit::Config,
        ..failure
    })?;
    for warning in &config.warnings {
        // With stderr closed the warning is lost.
        let _ = io::stderr().write_all(format!("WARN - {warning}\n").as_bytes());
    }
    if options.show {
        let accounts: Vec<String> = config.accounts.iter().map(config::account).collect();
        let written = io::stdout().write_all(accounts.join("\n").as_bytes());
        written.map_err(|error| other(&format!("can't write to stdout: {error}")))?;
    }
    Ok(())
}
