//! Where things are: the config, the runtime directory and the socket in it, and whether they may
//! be trusted. Both ends use this, so that they agree.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{
    env, fs,
    io::{self, ErrorKind},
};

use nix::{
    fcntl::{Flock, FlockArg},
    libc,
    unistd::{Uid, User},
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Exit, Failure};

/// The socket's name in the runtime directory.
const SOCKET: &str = "pizauth.sock";

/// The server's lock's name in the runtime directory.
const LOCK: &str = "pizauth.lock";

/// The config's name in its directory.
const CONFIG: &str = "pizauth.conf";

/// `$XDG_CONFIG_HOME/pizauth.conf`, else `~/.config/pizauth.conf`.
pub fn config() -> Result<PathBuf, Failure> {
    let dir = absolute("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")));
    let dir = dir.ok_or_else(|| {
        let what = "no home directory: where the configuration is can't be told";
        Failure::other(what).hint("set HOME or XDG_CONFIG_HOME, or give the file with `-c`")
    })?;
    Ok(dir.join(CONFIG))
}

/// `path`, with the home directory in the place of a leading `~`; `None` without one.
pub fn expand(path: &str) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(rest) => Some(home()?.join(rest)),
        None => Some(path.into()),
    }
}

/// `$HOME`, else what the system's user database says.
fn home() -> Option<PathBuf> {
    absolute("HOME").or_else(|| {
        let user = User::from_uid(Uid::effective()).ok().flatten()?;
        Some(user.dir).filter(|dir| dir.is_absolute())
    })
}

/// The directory that the socket is in: `$XDG_RUNTIME_DIR/pizauth`, else
/// `${TMPDIR:-/tmp}/pizauth-<uid>`.
pub fn runtime_dir() -> PathBuf {
    match absolute("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("pizauth"),
        None => absolute("TMPDIR")
            .unwrap_or_else(|| "/tmp".into())
            .join(format!("pizauth-{}", Uid::effective())),
    }
}

/// Where the server and its clients meet.
#[derive(Debug)]
pub struct Address {
    /// The control socket.
    pub socket: PathBuf,
    /// The directory that it is in.
    pub dir: PathBuf,
    /// Whether the user named it, instead of leaving it to us.
    named: bool,
}

/// `$PIZAUTH_SOCK`, else `pizauth.sock` in the [`runtime_dir`].
pub fn address() -> Result<Address, Failure> {
    let Some(named) = env::var_os("PIZAUTH_SOCK").filter(|path| !path.is_empty()) else {
        return Ok(Address::in_dir(runtime_dir()));
    };
    let socket = PathBuf::from(named);
    match socket.parent() {
        Some(dir) if socket.is_absolute() && socket.file_name().is_some() => Ok(Address {
            dir: dir.into(),
            socket,
            named: true,
        }),
        _ => Err(Failure::new(
            Exit::Usage,
            "PIZAUTH_SOCK is no absolute path of a socket",
        )),
    }
}

/// The same for a client, which looks at the [`usual`] place where no socket is.
pub fn client_address() -> Result<Address, Failure> {
    let address = address()?;
    match usual(&address) {
        Some(usual) if !address.socket.exists() && usual.socket.exists() => Ok(usual),
        _ => Ok(address),
    }
}

/// Where the socket of most users is, for a client that knows no runtime directory, such as one that
/// cron(8) started.
pub fn usual(address: &Address) -> Option<Address> {
    let known = address.named || absolute("XDG_RUNTIME_DIR").is_some();
    (!known).then(|| Address::in_dir(format!("/run/user/{}/pizauth", Uid::effective()).into()))
}

impl Address {
    fn in_dir(dir: PathBuf) -> Self {
        Address {
            socket: dir.join(SOCKET),
            dir,
            named: false,
        }
    }

    /// The server's lock, beside the socket.
    pub fn lock_file(&self) -> PathBuf {
        if !self.named {
            return self.dir.join(LOCK);
        }
        let mut name = self.socket.clone().into_os_string();
        name.push(".lock");
        name.into()
    }

    /// Whether a server of ours may be there: it holds the lock for life. Beside a restricted socket
    /// there is none.
    pub fn may_be_served(&self) -> bool {
        match open_regular(fs::OpenOptions::new().read(true), &self.lock_file()) {
            Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
            Err(_) => self.named,
        }
    }

    /// For a server that starts: makes the runtime directory of a user for whom nobody has made one,
    /// and [prepares](Address::prepare) ours in it.
    pub fn prepare_all(&self) -> Result<(), Failure> {
        if let (false, Some(around)) = (self.named, self.dir.parent()) {
            make_dir(around)?;
        }
        self.prepare()
    }

    /// For the server: makes the directory, or checks the one that is there.
    pub fn prepare(&self) -> Result<(), Failure> {
        make_dir(&self.dir)?;
        match self.named {
            false => {
                mend_mode(&self.dir);
                check_runtime_dir(&self.dir, Uid::effective())
            }
            true if is_guarded(&self.dir) => Ok(()),
            true => Err(self.refused()),
        }
    }

    /// For a client that has connected: could somebody else than `user` have planted the socket?
    pub fn check(&self, user: Uid) -> Result<(), Failure> {
        if !self.named {
            return check_runtime_dir(&self.dir, user);
        }
        let own =
            fs::symlink_metadata(&self.socket).is_ok_and(|found| found.uid() == user.as_raw());
        match own || is_guarded(&self.dir) {
            true => Ok(()),
            false => Err(self.refused()),
        }
    }

    fn refused(&self) -> Failure {
        let failure = refused_dir(&self.dir, "others can write to it");
        failure.hint("PIZAUTH_SOCK names a socket in it")
    }
}

/// Connects, for so long at most: so many may have come to a server that was stopped that there is no
/// room for more. What is written to it later has the same limit.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

/// Opens a file that must be a regular one; anything else is refused at once.
///
/// # Errors
/// When it can't be opened, or is something else.
pub fn open_regular(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = options.custom_flags(flags).open(path);
    let is_other = match &opened {
        Ok(file) => !file.metadata()?.is_file(),
        Err(_) => fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()),
    };
    match is_other {
        true => Err(io::Error::other("it is no regular file")),
        false => opened,
    }
}

/// Whether nobody but the user and root can put a file into the directory.
pub fn is_guarded(dir: &Path) -> bool {
    let Ok(found) = fs::metadata(dir) else {
        return false;
    };
    let owned = found.uid() == Uid::effective().as_raw() || found.uid() == 0;
    let shared = found.mode() & 0o022 != 0;
    found.is_dir() && owned && !shared
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let what = format!("can't make the directory {}: {error}", dir.display());
            Err(Failure::other(what))
        }
    }
}

/// Has the user's own directory be the user's alone. What can't be mended is refused by the check
/// that follows.
fn mend_mode(dir: &Path) {
    let mut options = fs::OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let Ok(opened) = options.read(true).custom_flags(flags).open(dir) else {
        return;
    };
    let ours = |found: fs::Metadata| found.uid() == Uid::effective().as_raw();
    if opened.metadata().is_ok_and(ours) {
        let _ = opened.set_permissions(fs::Permissions::from_mode(0o700));
    }
}

/// Refuses a runtime directory that somebody else could have planted or can write to.
fn check_runtime_dir(dir: &Path, user: Uid) -> Result<(), Failure> {
    let why = match fs::symlink_metadata(dir) {
        Err(_) => "it can't be looked at",
        Ok(found) if found.is_symlink() => "it is a symbolic link",
        Ok(found) if !found.is_dir() => "it is no directory",
        Ok(found) if found.uid() != user.as_raw() => "it belongs to another user",
        Ok(found) if found.mode() & 0o077 != 0 => "others may enter it (its mode should be 0700)",
        Ok(_) => return dir.parent().map_or(Ok(()), |it| check_around(it, user)),
    };
    Err(refused_dir(dir, why))
}

/// Refuses a directory in which somebody else could put another one in the place of ours.
fn check_around(dir: &Path, user: Uid) -> Result<(), Failure> {
    let why = match fs::metadata(dir) {
        Err(_) => "it can't be looked at",
        Ok(found) if found.uid() != user.as_raw() && found.uid() != 0 => {
            "it belongs to another user"
        }
        Ok(found) if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 => {
            "others can replace what is in it (its mode should be 0700)"
        }
        Ok(_) => return Ok(()),
    };
    Err(refused_dir(dir, why))
}

fn refused_dir(dir: &Path, why: &str) -> Failure {
    let what = format!("refusing to use the directory {}: {why}", dir.display());
    Failure::other(what)
}

/// An environment variable that names an absolute path; anything else is as good as unset (XDG
/// Base Directory Specification).
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

/// The process at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whose it is.
    pub uid: Uid,
    /// Which one, where the system tells.
    pub pid: Option<i32>,
}

/// Who is at the other end.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn peer(socket: &impl AsFd) -> Option<Peer> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    let credentials = getsockopt(&socket.as_fd(), PeerCredentials).ok()?;
    Some(Peer {
        uid: Uid::from_raw(credentials.uid()),
        pid: Some(credentials.pid()),
    })
}

/// Who is at the other end.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn peer(socket: &impl AsFd) -> Option<Peer> {
    let (uid, _) = nix::unistd::getpeereid(socket).ok()?;
    Some(Peer { uid, pid: None })
}
