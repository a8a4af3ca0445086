//! Where clients find the daemon: the lock that makes it the only one, the control socket's file,
//! and what it takes to be found again when those have gone.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    Daemon, END_TIMEOUT,
    broker::{Broker, Hand},
    other,
    presence::Presence,
};
use crate::{
    control,
    error::Failure,
    paths::Address,
    serve::{Listener, lengthen_backlog},
    wire::{self, Request},
};

/// How often the new one looks meanwhile.
const TAKEOVER_POLL: Duration = Duration::from_millis(20);

/// How long a server that listens may take to say something, and still counts as running if it
/// doesn't: a busy one does, and one that was killed hangs up when the kernel gets to that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a server has no place.
pub enum NoPlace {
    /// Another one is at work there.
    Running,
    /// Anything else.
    Other(Failure),
}

impl From<Failure> for NoPlace {
    fn from(failure: Failure) -> Self {
        NoPlace::Other(failure)
    }
}

impl From<NoPlace> for Failure {
    fn from(why: NoPlace) -> Self {
        match why {
            NoPlace::Running => other("a server is already running"),
            NoPlace::Other(failure) => failure,
        }
    }
}

/// The daemon's lock and socket, watched over.
pub struct Place {
    /// Notices when something has happened to them.
    pub presence: Presence,
    address: Address,
    lock: Flock<fs::File>,
    /// Why the socket can't be made, as it was said last.
    complaint: String,
}

impl Place {
    /// The daemon with this lock is found at `address`.
    pub fn new(address: Address, lock: Flock<fs::File>, presence: Presence) -> Self {
        Place {
            presence,
            address,
            lock,
            complaint: String::new(),
        }
    }

    /// Where the control socket is.
    pub fn socket(&self) -> &Path {
        &self.address.socket
    }

    /// The lock's descriptor.
    pub fn lock_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Makes the socket and the lock again if they are gone. What can't be made now is tried again
    /// later: the tokens are worth keeping.
    ///
    /// # Errors
    /// When another server has taken the place, so that nobody would find this one any more.
    pub fn look(&mut self, daemon: &Arc<Daemon>) -> io::Result<()> {
        self.presence.renew();
        match self.mend(daemon) {
            Ok(false) => self.complaint.clear(),
            Ok(true) => self.presence.mended(),
            Err(NoPlace::Running) => {
                let why = "its control socket was gone, and another server has taken its place";
                return Err(io::Error::other(why));
            }
            Err(NoPlace::Other(failure)) => {
                if self.complaint != failure.what {
                    log::error!("the control socket is gone: {failure}");
                    self.complaint = failure.what;
                }
                self.presence.missing();
            }
        }
        Ok(())
    }

    /// Whether there was anything to mend.
    fn mend(&mut self, daemon: &Arc<Daemon>) -> Result<bool, NoPlace> {
        let lock_gone = !is_same(&self.address.lock_file(), file_id(&self.lock));
        // A service manager's socket is its own to make again.
        let there = daemon.socket().as_ref().is_none_or(SocketFile::is_there);
        if there && !lock_gone {
            return Ok(false);
        }
        let hand = daemon.shared.broker().hand()?;
        hand.prepare()?;
        if lock_gone {
            let file = hand.lock_file()?;
            self.lock =
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| NoPlace::Running)?;
            log::warn!("the lock was gone and has been made again");
        }
        if there {
            return Ok(true);
        }
        let (listener, file) = listen_for_all(&hand, daemon.shared.broker(), &self.address.socket)?;
        let cant = |error: io::Error| other(&format!("can't serve it: {error}"));
        if let Some(kept) = &mut *daemon.kept() {
            kept.control = listener.try_clone().map_err(cant)?;
        }
        let listener = Listener::unix(listener).map_err(cant)?;
        *daemon.socket() = Some(file);
        daemon.clients.open(control::FULL, listener);
        log::warn!("the control socket was gone and has been made again");
        Ok(true)
    }
}

/// The one daemon's lock, held for life.
pub fn lock(address: &Address) -> Result<Flock<fs::File>, Failure> {
    let mut file = open_lock(address)?;
    let give_up = Instant::now() + END_TIMEOUT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) => file,
        };
        // A server that answers is running; any other is just ending.
        if answers(&address.socket) || Instant::now() >= give_up {
            return Err(NoPlace::Running.into());
        }
        thread::sleep(TAKEOVER_POLL);
    }
}

/// The lock that a predecessor holds: the same open file, and so the same lock.
pub fn adopt_lock(lock: OwnedFd) -> io::Result<Flock<fs::File>> {
    Flock::lock(fs::File::from(lock), FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno.into())
}

/// Whether a server is at work there. To listen isn't enough: one that was killed does that for as
/// long as the kernel takes to close its files.
pub fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return false;
    };
    let asked = stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| stream.write_all(&wire::encode_request(&Request::Info)));
    match asked.and_then(|()| stream.read(&mut [0])) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Opens the lock's file, or makes it.
pub fn open_lock(address: &Address) -> Result<fs::File, Failure> {
    let path = address.lock_file();
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path);
    file.map_err(|error| other(&format!("can't use the lock {}: {error}", path.display())))
}

/// Device and inode: which file it is, whatever its name.
pub type FileId = (u64, u64);

/// That of a file which was looked at.
pub fn id_of(found: &fs::Metadata) -> FileId {
    (found.dev(), found.ino())
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
pub struct SocketFile {
    path: PathBuf,
    id: FileId,
    broker: Arc<Broker>,
}

impl SocketFile {
    /// The file that is there, as whoever made it says.
    pub fn known(path: &Path, id: FileId, broker: &Arc<Broker>) -> Self {
        SocketFile {
            path: path.to_owned(),
            id,
            broker: broker.clone(),
        }
    }

    /// The file that is there.
    pub fn of(path: &Path, broker: &Arc<Broker>) -> io::Result<Self> {
        let id = id_of(&fs::symlink_metadata(path)?);
        Ok(SocketFile::known(path, id, broker))
    }

    /// That of a socket which is open already. If it is gone, it will be made again.
    pub fn of_open(path: &Path, broker: &Arc<Broker>) -> Self {
        SocketFile::of(path, broker).unwrap_or_else(|_| SocketFile::known(path, (0, 0), broker))
    }

    /// Whether it is still this server's.
    fn is_there(&self) -> bool {
        is_same(&self.path, Some(self.id))
    }

    /// Removes it, if it is still this server's. Unless it is the control socket's, the one that
    /// listens there proves that.
    pub fn remove(&self, socket: Option<BorrowedFd>) {
        let removed =
            (self.broker.hand()).and_then(|hand| hand.remove_socket(&self.path, self.id, socket));
        if let Err(failure) = removed {
            log::warn!("the socket {} stays behind: {failure}", self.path.display());
        }
    }
}

/// Listens on the control socket.
pub fn listen_for_all(
    hand: &Hand,
    broker: &Arc<Broker>,
    path: &Path,
) -> Result<(UnixListener, SocketFile), NoPlace> {
    let (listener, id) = hand.listen_control()?.ok_or(NoPlace::Running)?;
    Ok((listener, SocketFile::known(path, id, broker)))
}

/// Listens on a Unix socket. A socket that nobody listens on is replaced.
pub fn listen(path: &Path) -> Result<(UnixListener, FileId), Failure> {
    let cant = |error: io::Error| {
        other(&format!(
            "can't listen on the socket {}: {error}",
            path.display()
        ))
    };
    match UnixStream::connect(path) {
        Ok(_) => {
            let error = "something else listens there";
            return Err(cant(io::Error::other(error)));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            // A file that was never a socket refuses connections, too.
            let found = fs::symlink_metadata(path).map_err(cant)?;
            if !found.file_type().is_socket() {
                return Err(cant(io::Error::other("there is a file that is no socket")));
            }
            fs::remove_file(path).map_err(cant)?;
        }
        Err(error) => return Err(cant(error)),
    }
    let listener = UnixListener::bind(path).map_err(cant)?;
    lengthen_backlog(&listener).map_err(cant)?;
    let found = fs::symlink_metadata(path).map_err(cant)?;
    Ok((listener, id_of(&found)))
}

#[cfg(test)]
mod tests {
    use super::super::{CLOSE_TIMEOUT, END_TIMEOUT, FILES_TIMEOUT, REPLY_GRACE, TELL_GRACE};

    #[test]
    fn everybody_gives_an_ending_server_the_same_time() {
        let counted = REPLY_GRACE + CLOSE_TIMEOUT + FILES_TIMEOUT + TELL_GRACE;
        assert!(counted < END_TIMEOUT);
        let secs = END_TIMEOUT.as_secs();
        for (text, promise) in [
            (include_str!("../../pizauth.1"), "may take up to N seconds"),
            (
                include_str!("../../lib/systemd/user/pizauth.service"),
                "\nTimeoutStopSec=N\n",
            ),
            (
                include_str!("../../lib/launchd/pizauth.plist"),
                "<integer>N</integer>",
            ),
            (
                include_str!("../../examples/services/dinit"),
                "\nstop-timeout = N\n",
            ),
            (
                include_str!("../../examples/services/openrc"),
                "\nretry=\"TERM/N/KILL/5\"\n",
            ),
            (
                include_str!("../../examples/services/runit/run"),
                "`sv -w N down`",
            ),
        ] {
            let promise = promise.replace('N', &secs.to_string());
            assert!(text.contains(&promise), "no {promise:?}");
        }
    }
}
