//! Descriptors that this process is given when it starts (sd_listen_fds(3)): a control socket that a
//! service manager has made, so that the first client starts the server, and what it has kept for
//! an earlier one.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::{
    descriptors,
    error::{cant, other},
};
use crate::{error::Failure, serve::lengthen_backlog};

/// The variables that speak of descriptors of this process, and of no other's.
pub const VARIABLES: [&str; 4] = ["FDSTORE", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A descriptor that this process inherits.
pub struct InheritedFd {
    /// What the manager calls it; empty when it doesn't say.
    pub name: String,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// All that this process inherits; to be asked before it forks, since its number says that it is
/// meant.
pub fn inherited() -> Vec<InheritedFd> {
    let inherit = |(number, name)| InheritedFd {
        name,
        fd: descriptors::own(number),
    };
    if let Ok(named) = sd_notify::listen_fds_with_names() {
        return named.map(inherit).collect();
    }
    // An error is a variable that makes no sense, which was meant for another process then.
    let numbers = sd_notify::listen_fds().into_iter().flatten();
    let unnamed = numbers.map(|number| inherit((number, String::new())));
    unnamed.collect()
}

/// A socket that listens, and where; `None` for any other descriptor.
pub fn listener(fd: OwnedFd) -> Option<(PathBuf, UnixListener)> {
    if getsockopt(&fd, AcceptConn) != Ok(true) {
        return None;
    }
    let listener = UnixListener::from(fd);
    let address = listener.local_addr().ok()?;
    Some((address.as_pathname()?.to_owned(), listener))
}

/// The one among `descriptors` that is the control socket, while this process may still listen.
///
/// # Errors
/// When there are some, but none that clients would find.
pub fn control_socket(
    descriptors: Vec<OwnedFd>,
    path: &Path,
) -> Result<Option<UnixListener>, Failure> {
    let mut found = Vec::new();
    for (place, listener) in descriptors.into_iter().filter_map(listener) {
        if place == path {
            lengthen_backlog(&listener).map_err(cant)?;
            return Ok(Some(listener));
        }
        found.push(place.display().to_string());
    }
    if found.is_empty() {
        return Ok(None);
    }
    let what = format!(
        "the service manager listens at {}, but clients look for {}",
        found.join(", "),
        path.display()
    );
    Err(other(&what).hint("correct ListenStream= or XDG_RUNTIME_DIR"))
}
