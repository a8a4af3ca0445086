//! The files of the runtime directory: the lock that makes a server the only one, and sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs, path::Path, thread};

use nix::fcntl::{Flock, FlockArg};

use super::{error::other, limits::END_TIMEOUT};
use crate::paths::{self, Address};
use crate::time::Wall;
use crate::wire::{self, Request};
use crate::{error::Failure, serve::lengthen_backlog};

/// How often the new one looks meanwhile.
const TAKEOVER_POLL: Duration = Duration::from_millis(20);

/// How long a server that listens may take to say something, and still counts as running if it
/// doesn't: a busy one does, and one that was killed hangs up when the kernel gets to that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Another server is where clients look for this one.
pub fn already_running() -> Failure {
    other("a server is already running")
        .hint("`pizauth restart` has this version take over, even from an older pizauth")
}

/// The lock, for the server's whole life. Waits for a server that is just ending. A socket that was
/// `given` to this process answers nobody yet, and says nothing of another.
///
/// # Errors
/// When another server answers, or doesn't end.
pub fn lock(address: &Address, given: bool) -> Result<Flock<fs::File>, Failure> {
    let mut file = open_lock(address)?;
    let give_up = Instant::now() + END_TIMEOUT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) => file,
        };
        // A server that answers is running; any other is just ending.
        if (!given && answers(&address.socket)) || Instant::now() >= give_up {
            return Err(already_running());
        }
        thread::sleep(TAKEOVER_POLL);
    }
}

/// Whether a server is at work there. To listen isn't enough: one that was killed does that for as
/// long as the kernel takes to close its files.
pub fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = ask(socket) else {
        return false;
    };
    let limited = stream.set_read_timeout(Some(ANSWER_TIMEOUT));
    match limited.and_then(|()| stream.read(&mut [0])) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Asks the server that listens there who it is.
pub fn ask(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = paths::connect(socket, ANSWER_TIMEOUT)?;
    stream.write_all(&wire::encode_request(&Request::Info))?;
    Ok(stream)
}

/// Opens the lock's file, or makes it.
pub fn open_lock(address: &Address) -> Result<fs::File, Failure> {
    let path = address.lock_file();
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).mode(0o600);
    options.read(true).write(true);
    let file = paths::open_regular(&mut options, &path);
    file.map_err(|error| other(&format!("can't use the lock {}: {error}", path.display())))
}

/// When tokens last changed while a server had this lock, if that was noted: a saved state of an
/// earlier time isn't the last one.
pub fn last_change(lock: &fs::File) -> Option<Wall> {
    let mut note = [0; NOTE_BYTES];
    lock.read_exact_at(&mut note, 0).ok()?;
    let millis = std::str::from_utf8(&note).ok()?.trim().parse().ok()?;
    Some(Wall::from_millis(millis))
}

/// Notes it.
///
/// # Errors
/// When it can't be written.
pub fn note_change(lock: &fs::File, at: Wall) -> io::Result<()> {
    let (width, millis) = (NOTE_BYTES - 1, at.millis());
    lock.write_all_at(format!("{millis:>width$}\n").as_bytes(), 0)
}

/// How long such a note is, in bytes: the longest number and a newline. It never gets longer, for
/// which a full disk may have no room.
const NOTE_BYTES: usize = 21;

/// Device and inode: which file it is, whatever its name.
pub type FileId = (u64, u64);

/// That of a file which was looked at.
pub fn id_of(found: &fs::Metadata) -> FileId {
    (found.dev(), found.ino())
}

/// Listens on a Unix socket. A socket without a listener is replaced.
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

/// The lock that a predecessor holds: the same open file, and so the same lock.
///
/// # Errors
/// When it isn't.
pub fn adopt_lock(lock: OwnedFd) -> io::Result<Flock<fs::File>> {
    Flock::lock(fs::File::from(lock), FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno.into())
}
