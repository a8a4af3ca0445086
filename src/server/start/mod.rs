//! What runs before a server has processes of its own, as the user who types `pizauth server`: it
//! reads options and inherited descriptors, detaches, and forks the monitor and the token holder.
//! The command that was typed waits until the holder answers or says why it can't; it has all of
//! the user's rights and no secrets. `pizauth check` and the program that a `restart` becomes begin
//! here, too. Only this room sees all others.

mod check;
mod detach;
mod processes;
mod take_over;

use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use self::detach::{Detached, Launcher};
pub use self::{check::check, take_over::take_over};
use crate::server::base::activation::{self, InheritedFd};
use crate::server::base::error::{cant, other};
use crate::server::base::{self, fork::close_stdio, handlers, limits, log};
use crate::server::holder::{self, Beginning};
use crate::server::{ipc::monitor_messages::StartOptions, monitor::Predecessor};
use crate::{cli::ServerOptions, error::Failure, paths, sys};

/// `pizauth server`; an heir takes the place of an older server, whose tokens are on standard input.
///
/// # Errors
/// Why there is no server now.
pub fn start(options: &ServerOptions, heir: bool) -> Result<(), Failure> {
    handlers::hear_of_children().map_err(cant)?;
    let config_file = config_file(options.config.as_deref())?;
    base::config_file::read_piped(&config_file)?;
    let inherited = activation::inherited();
    if options.foreground {
        return run(options, config_file, inherited, heir, Launcher::none());
    }
    let detached = detach::detach(&inherited)
        .map_err(|error| other(&format!("can't start a process: {error}")))?;
    match detached {
        Detached::Command(outcome) => outcome,
        Detached::Server(launcher) => {
            let outcome = run(options, config_file, inherited, heir, launcher.clone());
            if let Err(failure) = &outcome {
                launcher.failed(failure);
            }
            // It has been told; stderr is the user's terminal no longer.
            std::process::exit(i32::from(outcome.is_err()));
        }
    }
}

/// The configuration's path: the usual one unless another was `given`.
fn config_file(given: Option<&Path>) -> Result<PathBuf, Failure> {
    match given {
        // The server reads it again at every reload, wherever it is then.
        Some(file) => std::path::absolute(file)
            .map_err(|error| other(&format!("can't tell the configuration's path: {error}"))),
        None => paths::config(),
    }
}

/// The holder from its first breath to its last; the monitor never returns from here.
fn run(
    options: &ServerOptions,
    config_file: PathBuf,
    inherited: Vec<InheritedFd>,
    heir: bool,
    launcher: Launcher,
) -> Result<(), Failure> {
    let options = StartOptions {
        verbose: options.verbose,
        detached: !options.foreground,
        umask: own_umask(),
        descriptors: limits::more_descriptors(),
    };
    sys::tune_heap();
    log::start(options.verbose, options.detached);
    let (detached, none) = (options.detached, Predecessor::default());
    let for_holder = (inherited, launcher.clone());
    let forked = processes::fork_holder(launcher, &config_file, options, none, for_holder);
    let (lines, (inherited, launcher)) = forked.map_err(cant)?;
    holder::run(Beginning {
        lines,
        config_file,
        inherited,
        heir,
        leave_directory: detached,
        answers: Box::new(move || {
            if detached {
                close_stdio()?;
            }
            launcher.ready();
            Ok(())
        }),
    })
}

/// What is made from now on is the user's alone; returns the mask that there was.
// Elsewhere it is a smaller number.
#[allow(clippy::useless_conversion)]
fn own_umask() -> u32 {
    umask(Mode::from_bits_truncate(0o077)).bits().into()
}
