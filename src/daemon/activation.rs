//! The control socket from a service manager that has made it (sd_listen_fds(3)): clients can
//! connect before the server has started, and whoever connects starts it.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
};

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::{other, process};
use crate::{error::Failure, serve::lengthen_backlog};

/// The variables that speak of descriptors of this process, and of no other's.
pub const VARIABLES: [&str; 5] = [
    "FDSTORE",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// A descriptor that was handed to this process.
pub struct Given {
    /// What the manager calls it; empty when it doesn't say.
    pub name: String,
    pub fd: OwnedFd,
}

/// What was handed to this process; to be asked before it forks, since its number says that it is
/// meant.
pub fn descriptors() -> Vec<Given> {
    let given = |(number, name)| Given {
        name,
        fd: process::own(number),
    };
    if let Ok(named) = sd_notify::listen_fds_with_names() {
        return named.map(given).collect();
    }
    // An error is a variable that makes no sense, which was meant for somebody else then.
    let Ok(numbers) = sd_notify::listen_fds() else {
        return Vec::new();
    };
    numbers
        .map(|number| given((number, String::new())))
        .collect()
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
    for descriptor in descriptors {
        if getsockopt(&descriptor, AcceptConn) != Ok(true) {
            continue;
        }
        let listener = UnixListener::from(descriptor);
        let address = listener.local_addr().ok();
        let Some(place) = address.and_then(|it| it.as_pathname().map(Path::to_owned)) else {
            continue;
        };
        if place == path {
            lengthen_backlog(&listener).map_err(super::cant)?;
            return Ok(Some(listener));
        }
        found.push(place.display().to_string());
    }
    match found.as_slice() {
        [] => Ok(None),
        places => {
            let what = format!(
                "the service manager listens at {}, but clients look for {}",
                places.join(", "),
                path.display()
            );
            Err(other(&what).hint("correct ListenStream= or XDG_RUNTIME_DIR"))
        }
    }
}
