//! Where clients find the server: the lock that makes it the only one, the control socket's file,
//! and what it takes to be found again when those have gone.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{fs, io, sync::Arc};

use nix::fcntl::{Flock, FlockArg};

use super::helpers::MonitorClient;
use crate::serve::{Listener, Remote};
use crate::server::base::error::other;
use crate::server::base::runtime_files::{self, FileId, id_of};
use crate::server::ipc::helper_messages::HelperKind;
use crate::{control, error::Failure, lock::Lock, paths::Address, time::Wall};

/// The server's lock and socket.
pub struct ControlSocket {
    address: Address,
    monitor: Arc<MonitorClient>,
    state: Lock<State>,
}

struct State {
    lock: Arc<Flock<fs::File>>,
    /// What listens, while the server serves.
    listener: Option<Arc<UnixListener>>,
    /// The socket's file, unless that is a service manager's.
    file: Option<SocketFile>,
    /// Why the socket can't be made, as it was said last.
    complaint: String,
    /// What [`ControlSocket::note_change`] has written, or a predecessor.
    noted: Option<Wall>,
}

/// What came of a look at the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    There,
    /// It was gone and has been made again.
    Mended,
    /// It is gone, and can't be made now.
    Missing,
    /// Another server has taken its place, so that no client would find this one any more.
    Replaced,
}

impl ControlSocket {
    /// The server with this lock is to listen at `address`.
    pub fn new(address: Address, monitor: Arc<MonitorClient>, lock: Flock<fs::File>) -> Self {
        let noted = runtime_files::last_change(&lock);
        ControlSocket {
            address,
            monitor,
            state: Lock::new(State {
                lock: Arc::new(lock),
                listener: None,
                file: None,
                complaint: String::new(),
                noted,
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.address.socket
    }

    /// From now on this socket is it, with a `file` of its own unless that is a service manager's. The
    /// same once more is returned, to be served.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn opened(&self, listener: UnixListener, file: Option<SocketFile>) -> io::Result<Listener> {
        let served = Listener::new(listener.try_clone()?)?;
        self.state.with(|state| {
            state.listener = Some(Arc::new(listener));
            state.file = file;
        });
        Ok(served)
    }

    /// What a successor needs: the lock (the same open file), what listens, and whether its file is a
    /// service manager's.
    pub fn parts(&self) -> Option<(fs::File, Arc<UnixListener>, bool)> {
        self.state.with(|state| {
            let listener = state.listener.clone()?;
            Some((state.lock.try_clone().ok()?, listener, state.file.is_none()))
        })
    }

    /// Writes into the lock's file when tokens last changed, for the next server.
    pub fn note_change(&self, changed: Option<Wall>) {
        let lock = self.state.with(|state| {
            let noted = std::mem::replace(&mut state.noted, changed);
            (noted != changed).then(|| state.lock.clone())
        });
        let written = lock.zip(changed);
        let written = written.map(|(lock, at)| runtime_files::note_change(&lock, at));
        if let Some(Err(error)) = written {
            log::warn!("the lock can't be written to: {error}");
        }
    }

    /// Listens no more.
    pub fn release(&self) {
        self.state.with(|state| state.listener = None);
    }

    /// Removes the socket's file, so that no client finds it any more.
    pub fn remove(&self) {
        // It is removed once: whoever comes second would ask a helper for nothing.
        let file = self.state.with(|state| state.file.take());
        if let Some(file) = file {
            file.remove(&self.monitor, None);
        }
    }

    /// Makes the socket and the lock again if they are gone, and has `clients` served there. What
    /// can't be made now is to be tried again later: the tokens are worth keeping.
    pub fn mend(&self, clients: &Remote) -> Found {
        let (found, complaint) = match self.try_mend(clients) {
            Ok(found) => (found, String::new()),
            Err(failure) => (Found::Missing, failure.what),
        };
        let before = self
            .state
            .with(|state| std::mem::replace(&mut state.complaint, complaint.clone()));
        if !complaint.is_empty() && complaint != before {
            log::error!("the control socket is gone: {complaint}");
        }
        found
    }

    fn try_mend(&self, clients: &Remote) -> Result<Found, Failure> {
        let (lock, file) = self
            .state
            .with(|state| (state.lock.clone(), state.file.clone()));
        let lock_gone = !is_same(&self.address.lock_file(), file_id(&lock));
        // A service manager's socket is its own to make again.
        let there = file.is_none_or(|file| file.is_there());
        if there && !lock_gone {
            return Ok(Found::There);
        }
        let mut helper = self.monitor.helper(HelperKind::Sockets)?;
        helper.prepare()?;
        if lock_gone {
            let lock = Flock::lock(helper.lock_file()?, FlockArg::LockExclusiveNonblock);
            let Ok(lock) = lock else {
                return Ok(Found::Replaced);
            };
            self.state.with(|state| {
                (state.lock, state.noted) = (Arc::new(lock), None);
            });
            log::warn!("the lock was gone and has been made again");
        }
        if there {
            return Ok(Found::Mended);
        }
        let Some((listener, id)) = helper.listen_control()? else {
            return Ok(Found::Replaced);
        };
        let file = SocketFile::known(self.path(), id);
        let served = self.opened(listener, Some(file));
        let served = served.map_err(|error| other(&format!("can't serve it: {error}")))?;
        clients.open(control::FULL, served);
        log::warn!("the control socket was gone and has been made again");
        Ok(Found::Mended)
    }
}

fn file_id(file: &fs::File) -> Option<FileId> {
    file.metadata().ok().as_ref().map(id_of)
}

/// Whether `path` still names this file.
fn is_same(path: &Path, file: Option<FileId>) -> bool {
    let found = fs::symlink_metadata(path).as_ref().map(id_of).ok();
    found.is_some() && found == file
}

/// The file of a socket that this server listens on.
#[derive(Clone)]
pub struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    /// The file that is there, as the helper that made it says.
    pub fn known(path: &Path, id: FileId) -> Self {
        let path = path.to_owned();
        SocketFile { path, id }
    }

    /// The file that is there.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let id = id_of(&fs::symlink_metadata(path)?);
        Ok(SocketFile::known(path, id))
    }

    /// That of a socket which is open already. If it is gone, it will be made again.
    pub fn of_open(path: &Path) -> Self {
        SocketFile::of(path).unwrap_or_else(|_| SocketFile::known(path, (0, 0)))
    }

    /// Whether it is still this server's.
    fn is_there(&self) -> bool {
        is_same(&self.path, Some(self.id))
    }

    /// Removes it, if it is still this server's. Unless it is the control socket's, the one that
    /// listens there proves that.
    pub fn remove(&self, monitor: &MonitorClient, socket: Option<BorrowedFd>) {
        let removed = monitor.with_helper(HelperKind::Sockets, |helper| {
            helper.remove_socket(&self.path, self.id, socket)
        });
        if let Err(Failure { what, .. }) = removed {
            log::warn!("the socket {} stays behind: {what}", self.path.display());
        }
    }

    /// The same for one that listens.
    pub fn remove_with(&self, monitor: &MonitorClient, listener: &UnixListener) {
        self.remove(monitor, Some(listener.as_fd()));
    }
}
