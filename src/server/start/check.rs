//! `pizauth check`: what the server would say of a configuration.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, access};

use super::config_file;
use crate::error::{Exit, Failure};
use crate::server::base::{config_file, error::other, places};
use crate::{cli::CheckOptions, config, paths, text::sanitize};

/// Is this config good? Warnings go to stderr, as an error does. Asked to, it prints the accounts, too.
///
/// # Errors
/// What is wrong with it.
pub fn check(options: &CheckOptions) -> Result<(), Failure> {
    let file = config_file(options.config.as_deref())?;
    let bad = |failure| Failure {
        exit: Exit::Config,
        ..failure
    };
    let read = config_file::read_piped(&file).and_then(|()| config_file::read(&file));
    let read = read.map_err(bad)?;
    let config = config_file::parse(&file, &read).map_err(bad)?;
    places::check(&config, &file).map_err(bad)?;
    let mut warnings = config.warnings;
    let hooks = (1usize..).zip(read.text.lines());
    warnings.extend(hooks.filter_map(|(at, line)| {
        let what = hook(line)?;
        Some(format!("{}:{at}: {what}", file.display()))
    }));
    if let Some((line, trial)) = &config.state_trial {
        if let Err(why) = tried(trial) {
            let file = file.display();
            warnings.push(format!(
                "{file}:{line}: `state` can't keep the tokens: {why}"
            ));
        }
    }
    let own = config.state_save_cmd.as_deref().and_then(own_trial);
    if let Some(Err(why)) = own.map(|trial| tried(&trial)) {
        warnings.push(format!("`state_save_cmd` can't keep the tokens: {why}"));
    }
    for warning in &warnings {
        // With stderr closed the warning is lost.
        let _ = io::stderr().write_all(format!("WARN - {warning}\n").as_bytes());
    }
    if options.show {
        let accounts: Vec<String> = config.accounts.iter().map(config::account).collect();
        let written = io::stdout().write_all(accounts.join("\n").as_bytes());
        written.map_err(|error| other(&format!("can't write to stdout: {error}")))?;
    }
    let commands = [
        ("state_load_cmd", &config.state_load_cmd),
        ("state_save_cmd", &config.state_save_cmd),
    ];
    for (option, command) in commands {
        let script = command.as_deref().and_then(script);
        if let Some((path, error)) = script.and_then(|path| Some((path, unusable(path).err()?))) {
            let what = format!("{option}: {path} can't be run: {error}");
            return Err(Failure::new(Exit::Config, what));
        }
    }
    Ok(())
}

/// What is wrong with the script that a line of the configuration names for a command.
fn hook(line: &str) -> Option<String> {
    let (option, command) = line.trim().split_once('=')?;
    let option = option.trim().strip_suffix("_cmd")?;
    let word = command.trim().trim_start_matches('"');
    // Those of the state are errors.
    let other = !option.starts_with("//") && !option.starts_with("state_");
    let word = script(word.split(['"', ';']).next()?).filter(|_| other)?;
    let error = unusable(word).err()?;
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(" (`chmod +x {word}` helps)"),
        _ => String::new(),
    };
    Some(format!("`{option}_cmd` can't run {word}: {error}{help}"))
}

/// What tries a command that saves by a script which can do that, as those in examples/persistence.
fn own_trial(save: &str) -> Option<String> {
    let path = script(save)?;
    let place = save.strip_prefix(path)?.strip_prefix(" save")?;
    let is_place = place.is_empty() || place.strip_prefix(' ').is_some_and(is_plain);
    let text = fs::read_to_string(paths::expand(path)?).ok()?;
    let knows = is_place && text.lines().any(|line| line.trim() == "try)");
    knows.then(|| format!("{path} try{place}"))
}

/// Runs a command that should succeed, or says why it doesn't.
fn tried(command: &str) -> Result<(), String> {
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty());
    match output.status.success() {
        true => Ok(()),
        false => Err(line.map_or(output.status.to_string(), sanitize)),
    }
}

/// The script that a command runs, if it says so by a path and nothing else: the shell has the rest.
fn script(command: &str) -> Option<&str> {
    let first = command.split_whitespace().next()?;
    let named = first.starts_with('/') || first.starts_with("~/");
    (named && is_plain(first)).then_some(first)
}

/// Whether no shell sees more than a word in it.
fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~+".contains(&byte);
    word.bytes().all(plain)
}

fn unusable(path: &str) -> io::Result<()> {
    let path = paths::expand(path).ok_or(io::ErrorKind::NotFound)?;
    if !fs::metadata(&path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(access(&path, AccessFlags::X_OK)?)
}
