//! The program that a `restart` becomes: its beginning, and its trial before.

use std::io::{self, Write};
use std::{os::fd::OwnedFd, path::PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{detach::Launcher, own_umask, processes};
use crate::server::base::error::{cant, other};
use crate::server::base::{descriptors::own, handlers, log, rights};
use crate::server::{holder, ipc::monitor_messages::SuccessorArgs, monitor::Predecessor};
use crate::{error::Failure, sys};

/// The successor's beginning; without `args` only whether there could be one.
///
/// # Errors
/// Why there can't be.
pub fn take_over(config_file: PathBuf, args: Option<&str>) -> Result<(), Failure> {
    rights::keep_out();
    handlers::hear_of_children().map_err(cant)?;
    own_umask();
    sys::tune_heap();
    let Some(args) = args else {
        let proof = holder::try_state(&config_file)?;
        let mut stdout = io::stdout();
        let told = stdout.write_all(proof.as_bytes());
        return told.and_then(|()| stdout.flush()).map_err(cant);
    };
    let args: SuccessorArgs =
        serde_json::from_str(args).map_err(|_| other("it is given nothing"))?;
    log::start(args.start.verbose, args.start.detached);
    // No other process reports it.
    succeed(config_file, args).inspect_err(|failure| ::log::error!("{failure}"))
}

fn succeed(config_file: PathBuf, args: SuccessorArgs) -> Result<(), Failure> {
    end_holder(Pid::from_raw(args.holder));
    let left: Vec<OwnedFd> = args.fds.into_iter().map(own).collect();
    // The same once more, for the case that this program's first holder is killed before it has left
    // something itself.
    let guarded = left.iter().map(OwnedFd::try_clone);
    let predecessor = Predecessor {
        runners: args.runners.into_iter().map(Pid::from_raw).collect(),
        key: Some(own(args.key).into()),
        guarded: guarded.collect::<io::Result<_>>().map_err(cant)?,
        deaths: args.deaths,
    };
    let start = args.start;
    let forked = processes::fork_holder(Launcher::none(), &config_file, start, predecessor, left);
    let (lines, left) = forked.map_err(cant)?;
    if start.detached {
        std::env::set_current_dir("/").map_err(cant)?;
    }
    holder::succeed(config_file, lines, left)
}

/// Makes sure that the holder ends, which ends by itself unless an intruder has taken it over.
fn end_holder(holder: Pid) {
    // It is this process's child, and so its number is its own until it is reaped.
    if holder > Pid::from_raw(1) {
        let _ = kill(holder, Signal::SIGKILL);
        let _ = waitpid(holder, None);
    }
}
