//! Has the program that is there now look at a state, before a restart becomes it.

use std::os::{
    fd::{AsFd, OwnedFd},
    unix::process::CommandExt,
};
use std::process::{Command, Stdio};
use std::{io::Read, path::Path, time::Duration};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::Pid,
};
use wait_timeout::ChildExt;

use crate::{
    cli::TAKE_OVER,
    error::Failure,
    server::base::{error::other, signals},
    text,
};

/// How long the new program may look at the state; it takes milliseconds.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Has `program` look at the state in `memory`: what it says when it has.
///
/// # Errors
/// Why it couldn't, in its own words if it has any.
pub fn try_program(program: &Path, config_file: &Path, memory: OwnedFd) -> Result<String, Failure> {
    try_out(program, config_file, memory)
        .map_err(|why| other(&format!("{} can't take over: {why}", program.display())))
}

fn try_out(program: &Path, config_file: &Path, memory: OwnedFd) -> Result<String, String> {
    let mut child = Command::new(program)
        .arg(TAKE_OVER)
        .arg(config_file)
        .stdin(memory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = child.wait_timeout(TRIAL_TIMEOUT);
    if !matches!(status, Ok(Some(_))) {
        // A script has children.
        if let Ok(group) = i32::try_from(child.id()) {
            signals::kill_group(Pid::from_raw(group));
        }
        let _ = child.wait();
        return Err("it takes too long".into());
    }
    let told = child.stderr.map(said).unwrap_or_default();
    match status {
        Ok(Some(status)) if status.success() => Ok(child.stdout.map(said).unwrap_or_default()),
        Ok(Some(status)) if told.is_empty() => Err(format!("it ends with {status}")),
        _ => Err(told.trim_start_matches("ERROR - ").to_owned()),
    }
}

/// What a program that has ended has left in `pipe`; something that it started may still hold that.
fn said(pipe: impl Read + AsFd) -> String {
    let mut bytes = Vec::new();
    // What can't be read isn't said.
    if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() {
        let _ = pipe.take(4096).read_to_end(&mut bytes);
    }
    text::sanitize_lines(&String::from_utf8_lossy(&bytes))
}
