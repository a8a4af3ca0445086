//! The service manager's file-descriptor store (sd_notify(3), FDSTORE=1). A server that is told to
//! stop can't know whether another is to follow, and one that is killed can tell nobody: from its
//! start on its checkpoints and its sockets are there, and the manager passes them to the next one if
//! it restarts the service, or else closes them. Who connects meanwhile waits.
//!
//! What was left is read at the start, and taken away only when the new server answers: if it can't
//! start, the next one gets another chance. The sockets are closed then, so that no client waits
//! for a server that doesn't come.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{env, fs::File, sync::Arc};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use super::redirect_ports::{IdentityState, RedirectInfo, identity_of, identity_state};
use super::{control_socket::SocketFile, helpers::MonitorClient};
use crate::core::{CoreState, Ports, STATE_VERSION};
use crate::server::base::activation::{InheritedFd, listener};
use crate::server::ipc::memfd;
use crate::{config::RestrictedSocket, paths, redirect::Identity};

/// How many descriptors the manager keeps: systemd says so since 254, and for older ones the unit.
const CAPACITY: &str = "FDSTORE";

/// What the state is called there, and what each of the sockets.
const STATE: &str = "pizauth-state";
const SOCKET: &str = "pizauth-socket";

/// What the state starts with.
pub const MAGIC: &str = "pizauth state ";

/// What a server leaves behind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredState {
    /// When, in milliseconds of the machine's clock: of several the latest counts.
    pub at: u64,
    /// The redirect listeners' ports: requests that are pending name them.
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    /// The certificate and its key. (Whatever is freed is wiped, see sys/alloc.rs.)
    pub identity: Option<IdentityState>,
    pub core: CoreState,
}

impl StoredState {
    /// Of the core, as it was `at` then, and of the redirect listeners.
    pub fn new(at: u64, redirects: &RedirectInfo, core: CoreState) -> Self {
        StoredState {
            at,
            http_port: redirects.ports.http,
            https_port: redirects.ports.https,
            identity: redirects.identity.as_deref().map(identity_state),
            // This server removes its token files itself, with its own configuration's capabilities.
            core: core.without_token_files(),
        }
    }

    /// The ports that redirects arrived at.
    pub fn ports(&self) -> Ports {
        Ports {
            http: self.http_port,
            https: self.https_port,
        }
    }

    /// What the https listener showed to browsers.
    pub fn identity(&self) -> Option<Identity> {
        self.identity.as_ref().and_then(|it| identity_of(it).ok())
    }
}

/// Whether the manager keeps anything.
pub fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some() && capacity() > 0
}

fn capacity() -> usize {
    let number = env::var(CAPACITY).ok();
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Has the manager keep these, the most important first: the checkpoints, into which the state is
/// written from then on, and the sockets.
///
/// # Errors
/// When it can't be told; what it has by then is of no use to anybody.
pub fn put(
    monitor: &MonitorClient,
    checkpoints: &[File],
    sockets: &[Arc<UnixListener>],
) -> io::Result<()> {
    if checkpoints.is_empty() {
        return Err(io::Error::other("there is no memory for it"));
    }
    let room = capacity().saturating_sub(checkpoints.len());
    let states = checkpoints.iter().map(|file| (STATE, file.as_fd()));
    let sockets = sockets.iter().map(|socket| (SOCKET, socket.as_fd()));
    let outcome = states.chain(sockets.take(room)).try_for_each(|(name, fd)| {
        // Whether it can be read from or written to is no reason to close it.
        monitor.notify(format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), &[fd])
    });
    if outcome.is_err() {
        remove(monitor);
    }
    outcome
}

/// Takes all away that the manager has.
pub fn remove(monitor: &MonitorClient) {
    remove_named(monitor, &[STATE, SOCKET]);
}

fn remove_named(monitor: &MonitorClient, names: &[&str]) {
    for name in names {
        let removed = monitor.notify(format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[]);
        if let Err(error) = removed {
            log::warn!("the service manager can't be told: {error}");
        }
    }
}

/// What a predecessor has left.
pub struct Predecessor {
    monitor: Arc<MonitorClient>,
    states: Vec<File>,
    sockets: Vec<(PathBuf, UnixListener)>,
    /// Which paths were asked for.
    used: Vec<PathBuf>,
    /// They are still the manager's, too.
    kept: bool,
}

/// Tells what a predecessor has left from what was given for other reasons.
pub fn split(monitor: &Arc<MonitorClient>, given: Vec<InheritedFd>) -> (Predecessor, Vec<OwnedFd>) {
    let mut predecessor = Predecessor {
        monitor: monitor.clone(),
        states: Vec::new(),
        sockets: Vec::new(),
        used: Vec::new(),
        kept: false,
    };
    let mut others = Vec::new();
    for InheritedFd { name, fd } in given {
        match name.as_str() {
            STATE => predecessor.states.push(fd.into()),
            SOCKET => predecessor.sockets.extend(listener(fd)),
            _ => {
                others.push(fd);
                continue;
            }
        }
        predecessor.kept = true;
    }
    (predecessor, others)
}

impl Predecessor {
    /// The state, if there is one that makes sense. One that doesn't is no reason not to start.
    pub fn state(&mut self) -> Option<StoredState> {
        let read = self.states.iter().filter_map(|file| match state(file) {
            Ok(state) => state,
            Err(why) => {
                log::error!("the state that the service manager has kept is not used: {why}");
                None
            }
        });
        read.max_by_key(|state| state.at)
    }

    /// The socket whose file is there.
    pub fn socket_at(&mut self, path: &Path) -> Option<UnixListener> {
        self.used.push(path.to_owned());
        let at = self.sockets.iter().position(|(place, _)| place == path)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Those of the restricted sockets that are wanted, with their paths as in the configuration.
    pub fn restricted(&mut self, wanted: &[RestrictedSocket]) -> Vec<(Arc<str>, UnixListener)> {
        let found = wanted.iter().filter_map(|socket| {
            let listener = self.socket_at(&paths::expand(&socket.path)?)?;
            Some((socket.path.clone(), listener))
        });
        found.collect()
    }

    /// The new server answers: the state is its own now, and no other process shall have it.
    pub fn forget(mut self) {
        if !self.kept {
            return;
        }
        self.kept = false;
        self.states.iter().for_each(memfd::discard);
        remove(&self.monitor);
        for (path, socket) in &self.sockets {
            // Those that the configuration has no more.
            if self.used.contains(path) {
                continue;
            }
            if let Ok(file) = SocketFile::of(path) {
                file.remove_with(&self.monitor, socket);
            }
        }
    }
}

impl Drop for Predecessor {
    /// Without a server, no client shall wait for one at its sockets.
    fn drop(&mut self) {
        if self.kept {
            remove_named(&self.monitor, &[SOCKET]);
        }
    }
}

/// The state in one of the two pieces of memory; one of them is empty.
fn state(file: &File) -> Result<Option<StoredState>, String> {
    memfd::check(file, memfd::MAX_STATE_BYTES)?;
    memfd::last_checkpoint(MAGIC, STATE_VERSION, std::slice::from_ref(file))
}

/// Tells the service manager, if there is one.
pub fn notify(monitor: &MonitorClient, state: &[NotifyState]) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let lines = state.iter().map(|it| format!("{it}\n")).collect();
    if let Err(error) = monitor.notify(lines, &[]) {
        log::warn!("the service manager can't be told: {error}");
    }
}
