//! `pizauth check`: what the server would say of a configuration.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{config_file, verbs};
use crate::{
    cli::CheckOptions,
    config::Config,
    error::{Exit, Failure},
};

/// Is this config good? Warnings go to stderr, as an error does.
pub fn check(options: &CheckOptions) -> Result<(), Failure> {
    let file = config_file(options.config.as_deref())?;
    let config = load(&file).map_err(|failure| Failure {
        exit: Exit::Config,
        ..failure
    })?;
    for warning in &config.warnings {
        // With stderr closed there is nobody to warn.
        let _ = io::stderr().write_all(format!("WARN - {warning}\n").as_bytes());
    }
    Ok(())
}

fn load(file: &Path) -> Result<Config, Failure> {
    verbs::parse_config(file, verbs::config_bytes(file)?)
}
