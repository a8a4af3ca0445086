//! A hand: a process that the monitor forks when the daemon needs a file, and that ends when the
//! daemon lets it go. It has all of the user's rights and none of the secrets: it opens, and passes
//! the descriptor on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    net::{SocketAddr, ToSocketAddrs},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, OpenOptionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    handover,
    job::take_line,
    other, pass,
    place::{self, FileId},
    seals::{self, Key, Seal},
    store, verbs,
};
use crate::{
    error::{Exit, Failure},
    paths,
};

/// What a hand can do. Paths are as they are written in the configuration.
#[derive(Debug, Serialize, Deserialize)]
pub enum Deed {
    /// Read the configuration, and seal what it names: its bytes follow the answer, and the seals
    /// on a line of their own those.
    ReadConfig,
    /// Make the directory of the control socket, or check the one that is there.
    Prepare,
    /// Open the lock's file.
    OpenLock,
    /// Listen on the control socket, or on a restricted one; which file it is comes along.
    ListenControl,
    Listen(Arc<str>, Seal),
    /// Remove a socket's file, at this path if it still is that file: the control socket's, or that
    /// of the listening socket that comes along.
    RemoveSocket(Vec<u8>, FileId),
    /// Open a new file beside a token file, put it in that one's place, or remove it again.
    Write(Arc<str>, Seal),
    Replace(Arc<str>, Seal),
    Discard(Arc<str>, Seal),
    /// Remove a token file.
    Remove(Arc<str>, Seal),
    /// Look up the addresses of a host. The daemon can't ask all who may know them: a resolver, a
    /// cache or a directory at a Unix socket, or files that the system has anywhere.
    LookUp(String, u16),
    /// Have the program that is there now look at the state that comes along.
    Try,
}

impl Deed {
    /// What it is, as the subject of an error.
    pub fn words(&self) -> String {
        match self {
            Deed::ReadConfig => "reading the configuration".into(),
            Deed::Prepare => "making the runtime directory".into(),
            Deed::OpenLock => "opening the lock".into(),
            Deed::ListenControl => "making the control socket".into(),
            Deed::Listen(path, _) => format!("making the socket {path}"),
            Deed::RemoveSocket(..) => "removing a socket".into(),
            Deed::Write(path, _) | Deed::Replace(path, _) | Deed::Discard(path, _) => {
                format!("writing {path}")
            }
            Deed::Remove(path, _) => format!("removing {path}"),
            Deed::LookUp(host, _) => format!("looking up {host}"),
            Deed::Try => "trying the new program".into(),
        }
    }
}

/// Why a deed wasn't done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// What went wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble {
            what: failure.what,
            hint: failure.hint,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble {
            what: error.to_string(),
            hint: None,
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let failure = Failure::new(Exit::Other, trouble.what);
        match trouble.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// How it went, on a line; a descriptor may come along.
pub type Answer = Result<Done, Trouble>;

/// What a deed has brought.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Which file it is that comes along.
    pub id: Option<FileId>,
    /// How many bytes follow.
    pub bytes: usize,
    /// Other users may read what follows in its file, too.
    pub shared: bool,
    /// Another server has it.
    pub taken: bool,
    /// What was looked up.
    pub addresses: Vec<SocketAddr>,
}

/// What a hand knows.
#[derive(Clone)]
pub struct Servant {
    /// The program that the server was started as.
    pub program: PathBuf,
    /// The server's configuration.
    pub config_file: PathBuf,
    /// What it seals with, and checks seals.
    pub key: Key,
}

/// A deed's outcome, and what it has opened.
type Outcome = Result<(Done, Option<OwnedFd>), Trouble>;

impl Servant {
    /// Does what the daemon at the other end of `line` asks for until that lets go.
    ///
    /// # Errors
    /// When the line breaks.
    pub fn serve(self, line: UnixStream) -> io::Result<()> {
        let (mut incoming, mut fds) = (Vec::new(), Vec::new());
        let mut buffer = [0; 4096];
        loop {
            match pass::recv(&line, &mut buffer, &mut fds)? {
                0 => return Ok(()),
                count => incoming.extend(buffer.iter().take(count)),
            }
            while let Some(deed) = take_line(&mut incoming) {
                let deed = serde_json::from_slice(&deed)?;
                if matches!(deed, Deed::ReadConfig) {
                    self.read_config(&line)?;
                    continue;
                }
                match self.act(deed, fds.pop()) {
                    Ok((done, fd)) => send(&line, &Ok(done), fd)?,
                    Err(trouble) => send(&line, &Err(trouble), None)?,
                }
            }
        }
    }

    /// Both read it at once: the daemon to go by it, and the hand to seal it. What is no
    /// configuration has no seals, and the daemon says why.
    fn read_config(&self, mut line: &UnixStream) -> io::Result<()> {
        let read = match verbs::config_bytes(&self.config_file) {
            Ok(read) => read,
            Err(failure) => return send(line, &Err(failure.into()), None),
        };
        let done = Done {
            bytes: read.bytes.len(),
            shared: read.shared,
            ..Done::default()
        };
        send(line, &Ok(done), None)?;
        line.write_all(&read.bytes)?;
        let config = verbs::parse_config(&self.config_file, read).ok();
        let sealed = config.map(|config| self.key.seal_all(&config));
        let mut sealed = serde_json::to_vec(&sealed.unwrap_or_default())?;
        sealed.push(b'\n');
        line.write_all(&sealed)
    }

    fn act(&self, deed: Deed, brought: Option<OwnedFd>) -> Outcome {
        let token_file = |path, seal| self.place_of(seals::TOKEN_FILE, path, seal);
        let opened = |fd: File| (Done::default(), Some(fd.into()));
        Ok(match deed {
            Deed::ListenControl => return listen_control(&paths::address()?.socket),
            Deed::Listen(path, seal) => {
                return listen(&self.place_of(seals::SOCKET, &path, &seal)?);
            }
            Deed::LookUp(host, port) => {
                let found = Done {
                    addresses: (host.as_str(), port).to_socket_addrs()?.collect(),
                    ..Done::default()
                };
                (found, None)
            }
            Deed::OpenLock => opened(place::open_lock(&paths::address()?)?),
            Deed::Write(path, seal) => opened(write(&token_file(&path, &seal)?)?),
            deed => {
                self.act_for_nothing(deed, brought)?;
                (Done::default(), None)
            }
        })
    }

    /// Deeds that open nothing.
    fn act_for_nothing(&self, deed: Deed, brought: Option<OwnedFd>) -> Result<(), Trouble> {
        match deed {
            Deed::Prepare => paths::address()?.prepare()?,
            Deed::RemoveSocket(path, id) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(&path));
                if !is_ours(path, brought)? {
                    return Err(other("the server has no such socket").into());
                }
                remove_socket(path, id);
            }
            Deed::Replace(path, seal) => {
                let path = self.place_of(seals::TOKEN_FILE, &path, &seal)?;
                fs::rename(beside(&path), path)?;
            }
            Deed::Discard(path, seal) => {
                remove(&beside(&self.place_of(seals::TOKEN_FILE, &path, &seal)?))?;
            }
            Deed::Remove(path, seal) => {
                let path = self.place_of(seals::TOKEN_FILE, &path, &seal)?;
                // A server that was killed may have left that one, too.
                remove(&beside(&path))?;
                remove(&path)?;
            }
            Deed::Try => {
                let state = brought.ok_or_else(|| io::Error::other("the state got lost"))?;
                handover::look_at(&self.program, &self.config_file, state)?;
            }
            // Done elsewhere.
            Deed::ReadConfig
            | Deed::OpenLock
            | Deed::ListenControl
            | Deed::Listen(..)
            | Deed::LookUp(..)
            | Deed::Write(..) => {}
        }
        Ok(())
    }

    /// Where a file is that the configuration has under this option.
    fn place_of(&self, option: &str, written: &str, seal: &Seal) -> Result<PathBuf, Failure> {
        if !self.key.fits(option, written, seal) {
            return Err(other("the configuration doesn't have it"));
        }
        paths::expand(written).ok_or_else(|| {
            let what = format!("no home directory: where {written} is can't be told");
            other(&what).hint("set HOME")
        })
    }
}

fn send(line: &UnixStream, answer: &Answer, fd: Option<OwnedFd>) -> io::Result<()> {
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    pass::write_line(line, answer, &fds)
}

/// Whoever took the lock away may have started another server.
fn listen_control(path: &Path) -> Outcome {
    if place::answers(path) {
        let taken = Done {
            taken: true,
            ..Done::default()
        };
        return Ok((taken, None));
    }
    listen(path)
}

fn listen(path: &Path) -> Outcome {
    let (listener, id) = place::listen(path)?;
    let done = Done {
        id: Some(id),
        ..Done::default()
    };
    Ok((done, Some(listener.into())))
}

/// Whether the server listens at this path: whoever has the socket has it from a hand, or from who
/// started the server.
fn is_ours(path: &Path, brought: Option<OwnedFd>) -> Result<bool, Failure> {
    let listens_there = || {
        brought
            .and_then(store::listener)
            .is_some_and(|it| it.0 == path)
    };
    Ok(path == paths::address()?.socket || listens_there())
}

/// What is no socket isn't one of the server's.
fn remove_socket(path: &Path, id: FileId) {
    let found = fs::symlink_metadata(path);
    if found.is_ok_and(|it| it.file_type().is_socket() && place::id_of(&it) == id) {
        // Somebody may just have removed it.
        let _ = fs::remove_file(path);
    }
}

/// The name that a token file has while it is written. Nobody else uses it; what is there was left
/// by a server that was killed.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".pizauth");
    path.with_file_name(name)
}

fn write(path: &Path) -> io::Result<File> {
    let new = beside(path);
    remove(&new)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
