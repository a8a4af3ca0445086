//! The service manager's file-descriptor store (sd_notify(3), FDSTORE=1). A server that is told to
//! stop can't know whether another is to follow, and one that is killed can tell nobody: from its
//! start on its checkpoints and its sockets are there, and the manager passes them to the next one if
//! it restarts the service, or else closes them. Who connects meanwhile waits.
//!
//! What was left is read at the start, and taken away only when the new server answers and its own is
//! stored: if it can't start, the next one gets another chance. The sockets are closed then, so that
//! no client or browser waits for a server that doesn't come.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::{fs::MetadataExt, net::UnixListener};
use std::{env, fs::File, path::PathBuf, sync::Arc};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use super::helpers::MonitorClient;
use super::redirect_ports::RedirectInfo;
use crate::core::{CoreState, Ports, STATE_VERSION};
use crate::redirect::{Identity, IdentityDer};
use crate::server::base::activation::{InheritedFd, listener};
use crate::server::ipc::memfd;

/// How many descriptors the manager keeps: systemd says so since 254, and for older ones the unit.
const CAPACITY: &str = "FDSTORE";

/// What the state is called there, and what each of the sockets for clients, for browsers and for the
/// proxies' programs, before a number of its own: so one can be stored before another is taken away,
/// and what stays isn't touched.
const STATE: &str = "pizauth-state";
pub const SOCKET: &str = "pizauth-socket";
pub const PORT: &str = "pizauth-port";
pub const PROXY: &str = "pizauth-proxy";

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
    /// The certificate and its key.
    pub identity: Option<IdentityDer>,
    pub core: CoreState,
}

impl StoredState {
    /// Of the core, as it was `at` then, and of the redirect listeners.
    pub fn new(at: u64, redirects: &RedirectInfo, core: CoreState) -> Self {
        StoredState {
            at,
            http_port: redirects.ports.http,
            https_port: redirects.ports.https,
            identity: redirects.identity.as_deref().map(|it| it.der.clone()),
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
        self.identity
            .as_ref()
            .and_then(|it| Identity::from_der(it).ok())
    }
}

/// Whether the manager keeps anything: a server's state has room beside its predecessor's.
pub fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some() && capacity() >= STATES
}

/// How many of the descriptors are states at most.
const STATES: usize = 4;

fn capacity() -> usize {
    let number = env::var(CAPACITY).ok();
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What is stored, if anything is, by its name: the checkpoints, into which the state is written from
/// then on, and what is `listening`, by what it is and the most important first.
pub fn named<'a>(
    checkpoints: &'a [File],
    listening: impl Iterator<Item = (&'static str, BorrowedFd<'a>)>,
) -> Vec<(String, BorrowedFd<'a>)> {
    if checkpoints.is_empty() || !is_there() {
        return Vec::new();
    }
    let states = checkpoints.iter().map(|file| (STATE, file.as_fd()));
    let all = states.chain(listening.take(capacity().saturating_sub(STATES)));
    let named = all.filter_map(|(kind, fd)| {
        let found = File::from(fd.try_clone_to_owned().ok()?).metadata().ok()?;
        Some((format!("{kind}-{}", found.ino()), fd))
    });
    named.collect()
}

/// Has the manager keep these in the place of what it has `kept`. At no time it lacks something that
/// it is to have before and after.
///
/// # Errors
/// When it can't be told; nothing of what it had is taken away then.
pub fn put(
    monitor: &MonitorClient,
    kept: &mut Vec<String>,
    wanted: &[(String, BorrowedFd)],
) -> io::Result<()> {
    for (name, fd) in wanted {
        if !kept.contains(name) {
            // Whether it can be read from or written to is no reason to close it.
            monitor.notify(format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), &[*fd])?;
            kept.push(name.clone());
        }
    }
    remove(monitor, kept, |name| {
        wanted.iter().all(|(it, _)| it != name)
    });
    Ok(())
}

/// Takes away what the manager has `kept` under such names.
pub fn remove(monitor: &MonitorClient, kept: &mut Vec<String>, gone: impl Fn(&str) -> bool) {
    kept.retain(|name| {
        let gone = gone(name);
        if gone {
            tell(monitor, format!("FDSTOREREMOVE=1\nFDNAME={name}\n"));
        }
        !gone
    });
}

/// What a predecessor has left.
pub struct Predecessor {
    monitor: Arc<MonitorClient>,
    states: Vec<File>,
    /// The control socket and the restricted ones.
    pub sockets: Vec<(PathBuf, UnixListener)>,
    /// The redirect listeners' sockets.
    pub ports: Vec<TcpListener>,
    /// The proxies' sockets.
    pub proxies: Vec<OwnedFd>,
    /// What is still the manager's, too, and not the new server's to take away.
    pub kept: Vec<String>,
}

/// Tells what a predecessor has left from what was given for other reasons.
pub fn split(monitor: &Arc<MonitorClient>, given: Vec<InheritedFd>) -> (Predecessor, Vec<OwnedFd>) {
    let mut predecessor = Predecessor {
        monitor: monitor.clone(),
        states: Vec::new(),
        sockets: Vec::new(),
        ports: Vec::new(),
        proxies: Vec::new(),
        kept: Vec::new(),
    };
    let mut others = Vec::new();
    for InheritedFd { name, fd } in given {
        if name.starts_with(STATE) {
            predecessor.states.push(fd.into());
        } else if name.starts_with(SOCKET) {
            predecessor.sockets.extend(listener(fd));
        } else if name.starts_with(PORT) {
            predecessor.ports.push(fd.into());
        } else if name.starts_with(PROXY) {
            predecessor.proxies.push(fd);
        } else {
            others.push(fd);
            continue;
        }
        predecessor.kept.push(name);
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

    /// The new server answers: the state is its own now, and no other process shall have it.
    pub fn forget(self) {
        self.states.iter().for_each(memfd::discard);
    }
}

impl Drop for Predecessor {
    /// Without a server, nobody shall wait for one at its sockets.
    fn drop(&mut self) {
        remove(&self.monitor, &mut self.kept, |name| {
            !name.starts_with(STATE)
        });
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
    tell(monitor, state.iter().map(|it| format!("{it}\n")).collect());
}

fn tell(monitor: &MonitorClient, lines: String) {
    if let Err(error) = monitor.notify(lines, &[]) {
        log::warn!("the service manager can't be told: {error}");
    }
}
