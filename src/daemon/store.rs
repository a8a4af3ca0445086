//! The service manager's file-descriptor store (sd_notify(3), FDSTORE=1). A server that is told to
//! stop can't know whether another is to follow: it leaves its state and its sockets there, and the
//! manager hands them to the next one if it restarts the service, or else closes them. The state is
//! in memory without a name, as by a restart in place; who connects meanwhile waits.
//!
//! What was left is read at the start, and taken away only when the new server answers: if it can't
//! start, the next one gets another chance. The sockets are let go then, so that nobody waits for a
//! server that doesn't come.

use std::{
    env,
    fs::File,
    io::{self, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt::AcceptConn},
};
use serde::{Deserialize, Serialize};

use super::{
    activation::Given,
    broker::Broker,
    handover, memory,
    pipe::{PipeReader, pipe},
    place::SocketFile,
};
use crate::{
    config::RestrictedSocket,
    core::{CoreState, Ports, dump},
    paths,
    redirect::Identity,
};

/// How many descriptors the manager keeps: systemd says so since 254, and for older ones the unit.
const CAPACITY: &str = "FDSTORE";

/// What the state is called there, and what each of the sockets.
const STATE: &str = "pizauth-state";
const SOCKET: &str = "pizauth-socket";

/// What the state starts with.
const MAGIC: &str = "pizauth state ";

/// How long the manager may take to hear what it is told, in milliseconds; it takes microseconds,
/// and the end of the session must not wait for one that hangs.
const BARRIER_TIMEOUT_MILLIS: u16 = 2_000;

/// What a server leaves behind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When, in milliseconds of the machine's clock: of several the latest counts.
    pub at: u64,
    /// The redirect listeners' ports: requests that are pending name them.
    pub http_port: Option<u16>,
    pub https_port: Option<u16>,
    /// The certificate and its key. (Whatever is freed is wiped, see sys/alloc.rs.)
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    pub core: CoreState,
}

impl State {
    /// The ports that redirects arrived at.
    pub fn ports(&self) -> Ports {
        Ports {
            http: self.http_port,
            https: self.https_port,
        }
    }

    /// What the https listener showed to browsers.
    pub fn identity(&self) -> Option<Identity> {
        let (certificate, key) = self.identity.as_ref()?;
        Identity::from_der(certificate.clone(), key).ok()
    }
}

/// Whether the manager keeps anything.
pub fn is_there() -> bool {
    has_manager() && capacity() > 0
}

/// Whether a service manager listens.
pub fn has_manager() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn capacity() -> usize {
    let number = env::var(CAPACITY).ok();
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Has the manager keep this, the most important first. Returns when it has heard.
///
/// # Errors
/// When it can't be told; what it has by then is of no use to anybody.
pub fn put(broker: &Broker, state: &State, sockets: &[BorrowedFd]) -> io::Result<()> {
    let memory = memory::write(MAGIC, state)?;
    let outcome = put_all(broker, &memory, sockets).and_then(|()| barrier(broker));
    if outcome.is_err() {
        handover::wipe(&memory);
        remove(broker, &[STATE, SOCKET]);
    }
    outcome
}

fn put_all(broker: &Broker, memory: &File, sockets: &[BorrowedFd]) -> io::Result<()> {
    store(broker, STATE, memory.as_fd())?;
    for socket in sockets.iter().take(capacity().saturating_sub(1)) {
        store(broker, SOCKET, *socket)?;
    }
    Ok(())
}

fn store(broker: &Broker, name: &str, fd: BorrowedFd) -> io::Result<()> {
    // Whether it can be read from or written to is no reason to close it.
    broker.notify(format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"), &[fd])
}

fn remove(broker: &Broker, names: &[&str]) {
    for name in names {
        let removed = broker.notify(format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[]);
        if let Err(error) = removed {
            log::warn!("the service manager can't be told: {error}");
        }
    }
}

/// Returns when the manager has dealt with all that it was told before.
fn barrier(broker: &Broker) -> io::Result<()> {
    let (ours, theirs) = pipe()?;
    broker.notify("BARRIER=1\n".into(), &[theirs.as_fd()])?;
    drop(theirs);
    wait_for_hangup(&ours)
}

fn wait_for_hangup(pipe: &PipeReader) -> io::Result<()> {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(BARRIER_TIMEOUT_MILLIS))? {
        0 => Err(io::Error::other("it doesn't answer")),
        _ => Ok(()),
    }
}

/// What a predecessor has left.
pub struct Left {
    broker: Arc<Broker>,
    states: Vec<File>,
    sockets: Vec<(PathBuf, UnixListener)>,
    /// Which places somebody has asked for.
    used: Vec<PathBuf>,
    /// They are still the manager's, too.
    kept: bool,
}

/// Tells what a predecessor has left from what was given for other reasons.
pub fn split(broker: &Arc<Broker>, given: Vec<Given>) -> (Left, Vec<OwnedFd>) {
    let mut left = Left {
        broker: broker.clone(),
        states: Vec::new(),
        sockets: Vec::new(),
        used: Vec::new(),
        kept: false,
    };
    let mut others = Vec::new();
    for Given { name, fd } in given {
        match name.as_str() {
            STATE => left.states.push(fd.into()),
            SOCKET => left.sockets.extend(listener(fd)),
            _ => {
                others.push(fd);
                continue;
            }
        }
        left.kept = true;
    }
    (left, others)
}

/// A socket that listens, and where.
pub fn listener(fd: OwnedFd) -> Option<(PathBuf, UnixListener)> {
    if getsockopt(&fd, AcceptConn) != Ok(true) {
        return None;
    }
    let listener = UnixListener::from(fd);
    let address = listener.local_addr().ok()?;
    Some((address.as_pathname()?.to_owned(), listener))
}

impl Left {
    /// The state, if there is one that makes sense. One that doesn't is no reason not to start.
    pub fn state(&mut self) -> Option<State> {
        let read = self.states.iter_mut().filter_map(|file| match state(file) {
            Ok(state) => Some(state),
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
    pub fn doors(&mut self, wanted: &[RestrictedSocket]) -> Vec<(Arc<str>, UnixListener)> {
        let found = wanted.iter().filter_map(|socket| {
            let listener = self.socket_at(&paths::expand(&socket.path)?)?;
            Some((socket.path.clone(), listener))
        });
        found.collect()
    }

    /// The new server answers: the state is its own now, and nobody else shall have it.
    pub fn forget(mut self) {
        if !self.kept {
            return;
        }
        self.kept = false;
        self.states.iter().for_each(handover::wipe);
        remove(&self.broker, &[STATE, SOCKET]);
        for (path, socket) in &self.sockets {
            // The configuration has it no more.
            if self.used.contains(path) {
                continue;
            }
            if let Ok(file) = SocketFile::of(path, &self.broker) {
                file.remove(Some(socket.as_fd()));
            }
        }
    }
}

impl Drop for Left {
    /// Without a server, nobody shall wait for one at its sockets.
    fn drop(&mut self) {
        if self.kept {
            remove(&self.broker, &[SOCKET]);
        }
    }
}

fn state(file: &mut File) -> Result<State, String> {
    memory::check(file, dump::MAX_DUMP_BYTES as u64)?;
    file.rewind().map_err(|error| error.to_string())?;
    memory::read(MAGIC, file)
}
