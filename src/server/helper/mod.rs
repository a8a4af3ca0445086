//! A helper: a process that the monitor forks for one request that needs the user's rights (a file,
//! a socket, a name), and that ends when the holder lets it go, or by its own alarm.
//!
//! It has all of the user's rights and no secrets but the key of the capabilities and, where it
//! reads it, the configuration. It does what its kind may do, for a path only with the
//! configuration's capability: it opens, and passes the descriptor on. It sends no requests. When
//! it is killed, its one request has failed.

mod capabilities;
mod trial;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::server::base::config_file::{self, ConfigText};
use crate::server::base::places::{self, beside};
use crate::server::base::runtime_files::{self, FileId};
use crate::server::base::{activation::listener, error::other};
use crate::server::ipc::capability::{Capabilities, Capability, SOCKET, TOKEN_FILE};
use crate::server::ipc::helper_messages::{
    FileStep, HelperContext, HelperKind, HelperReply, HelperRequest, ReplyLine,
};
use crate::server::ipc::line::Message;
use crate::{error::Failure, paths};

/// Does what the holder at the other end of `line` asks for until that lets go.
///
/// # Errors
/// When the line breaks, or something else is asked for than a helper of this kind does.
pub fn serve(context: HelperContext, kind: HelperKind, line: UnixStream) -> io::Result<()> {
    let mut line = ReplyLine::new(line);
    while let Some(Message { body, mut fds }) = line.recv()? {
        if body.about().0 != kind {
            return Err(io::Error::other("another helper does that"));
        }
        #[cfg(debug_assertions)]
        crate::server::base::drills::hang(&format!("{kind:?}"));
        let (outcome, fd) = match perform(&context, body, fds.pop()) {
            Ok((reply, fd)) => (Ok(reply), fd),
            Err(error) => (Err(error), None),
        };
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        line.send(&outcome, &fds)?;
        // Both read it at once: the holder to go by it, and the helper to make capabilities.
        if let Ok(HelperReply::Config(text)) = outcome {
            line.send(&grants(&context, &text).map(HelperReply::Grants), &[])?;
        }
    }
    Ok(())
}

/// What came of a request, and what was opened.
type Done = (HelperReply, Option<OwnedFd>);

fn perform(
    context: &HelperContext,
    request: HelperRequest,
    brought: Option<OwnedFd>,
) -> Result<Done, Failure> {
    match request {
        HelperRequest::ReadConfig => {
            let text = config_file::read(&context.config_file)?;
            return Ok((HelperReply::Config(text), None));
        }
        HelperRequest::Prepare => paths::address()?.prepare()?,
        HelperRequest::OpenLock => {
            return Ok(opened(runtime_files::open_lock(&paths::address()?)?));
        }
        HelperRequest::ListenControl => return listen_control(&paths::address()?.socket),
        HelperRequest::Listen(path, capability) => {
            return listen(&place_of(context, SOCKET, &path, &capability)?);
        }
        HelperRequest::RemoveSocket(path, id) => remove_socket(&path, id, brought)?,
        HelperRequest::TokenFile(step, path, capability) => {
            let path = place_of(context, TOKEN_FILE, &path, &capability)?;
            if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(other("there is something that is no file"));
            }
            match step {
                FileStep::Write => return Ok(opened(write(&path)?)),
                FileStep::Replace => fs::rename(beside(&path), path)?,
                FileStep::Discard => remove(&beside(&path))?,
                FileStep::Remove => {
                    // A server that was killed may have left that one, too.
                    remove(&beside(&path))?;
                    remove(&path)?;
                }
            }
        }
        HelperRequest::LookUp(host, port) => {
            let addresses = (host.as_str(), port).to_socket_addrs()?.collect();
            return Ok((HelperReply::Addresses(addresses), None));
        }
        HelperRequest::Try => {
            let state = brought.ok_or_else(|| other("the state got lost"))?;
            let said = trial::try_program(&context.program, &context.config_file, state)?;
            return Ok((HelperReply::Tried(said), None));
        }
        HelperRequest::Proxies | HelperRequest::Drain => {
            return Err(other("the proxies' process does that"));
        }
    }
    Ok((HelperReply::Done, None))
}

/// The capabilities of what is in the configuration. An invalid one has none: the holder says why.
///
/// # Errors
/// When a token file is in the place of something else.
fn grants(context: &HelperContext, text: &ConfigText) -> Result<Capabilities, Failure> {
    let file = &context.config_file;
    let Ok(config) = config_file::parse(file, text) else {
        return Ok(Capabilities::default());
    };
    places::check(&config, file)?;
    Ok(capabilities::grants(&context.key, &config))
}

/// Where a file is that the configuration has under this option.
fn place_of(
    context: &HelperContext,
    option: &str,
    written: &str,
    capability: &Capability,
) -> Result<PathBuf, Failure> {
    if !context.key.allows(option, written, capability) {
        return Err(other("the configuration doesn't have it"));
    }
    paths::expand(written).ok_or_else(|| {
        let what = format!("no home directory: where {written} is can't be told");
        other(&what).hint("set HOME")
    })
}

fn opened(file: File) -> Done {
    (HelperReply::Done, Some(file.into()))
}

/// The process that took the lock away may have started another server.
fn listen_control(path: &Path) -> Result<Done, Failure> {
    if runtime_files::answers(path) {
        return Ok((HelperReply::Taken, None));
    }
    listen(path)
}

fn listen(path: &Path) -> Result<Done, Failure> {
    let (listener, id) = runtime_files::listen(path)?;
    Ok((HelperReply::Listening(id), Some(listener.into())))
}

/// The server listens at this path, or it isn't one of its sockets: its owner has the socket
/// from a helper, or from the process that started the server. What is no socket stays, too.
fn remove_socket(path: &Path, id: FileId, brought: Option<OwnedFd>) -> Result<(), Failure> {
    let listens_there = || brought.and_then(listener).is_some_and(|it| it.0 == path);
    if path != paths::address()?.socket && !listens_there() {
        return Err(other("the server has no such socket"));
    }
    let found = fs::symlink_metadata(path);
    if found.is_ok_and(|it| it.file_type().is_socket() && runtime_files::id_of(&it) == id) {
        // Another process may just have removed it.
        let _ = fs::remove_file(path);
    }
    Ok(())
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
