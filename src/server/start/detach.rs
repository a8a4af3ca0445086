//! `pizauth server` in the background: the command waits until the server answers or fails
//! (daemon(7)).

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::{net::Shutdown, sync::Arc};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, setsid},
};

use crate::error::Failure;
use crate::server::base::activation::InheritedFd;
use crate::server::base::fork::{close_inherited, fork};

/// What a server that answers tells the command that started it; anything else is an error.
const READY: &[u8] = b"ready";

/// The detached server's line to the command that started it.
#[derive(Clone)]
pub struct Launcher(Option<Arc<UnixStream>>);

impl Launcher {
    /// No command waits: the server stays in the foreground.
    pub fn none() -> Self {
        Launcher(None)
    }

    /// Whether a command waits.
    pub fn waits(&self) -> bool {
        self.0.is_some()
    }

    /// The server answers: `pizauth server` may exit 0.
    pub fn ready(&self) {
        self.tell(READY);
    }

    /// The server doesn't start: `pizauth server` says why.
    pub fn failed(&self, failure: &Failure) {
        self.tell(format!("{} {failure}", failure.exit.code()).as_bytes());
    }

    /// The first word is the last, too.
    fn tell(&self, bytes: &[u8]) {
        if let Some(line) = &self.0 {
            // A command that was killed hears nothing.
            let _ = (&**line).write_all(bytes);
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

/// Which process this is after [`detach`].
pub enum Detached {
    /// The command; the server has answered so.
    Command(Result<(), Failure>),
    /// The server, without a controlling terminal.
    Server(Launcher),
}

/// Forks the server; the command waits until it answers or fails.
///
/// # Errors
/// When that isn't possible.
pub fn detach(inherited: &[InheritedFd]) -> io::Result<Detached> {
    let (ours, theirs) = UnixStream::pair()?;
    if let ForkResult::Parent { child } = fork()? {
        drop(theirs);
        waitpid(child, None)?;
        return Ok(Detached::Command(verdict(ours)));
    }
    drop(ours);
    setsid()?;
    // The session's leader ends, so that no terminal can become the server's.
    if fork()?.is_parent() {
        std::process::exit(0);
    }
    let mut kept: Vec<RawFd> = inherited.iter().map(|it| it.fd.as_raw_fd()).collect();
    kept.push(theirs.as_raw_fd());
    close_inherited(&kept);
    Ok(Detached::Server(Launcher(Some(Arc::new(theirs)))))
}

fn verdict(mut line: UnixStream) -> Result<(), Failure> {
    let mut said = Vec::new();
    let read = line.read_to_end(&mut said);
    if said == READY {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    match said.split_once(' ') {
        Some((code, text)) if read.is_ok() => Err(Failure::parse(code, text)),
        _ => Err(Failure::other("the server ended while it was starting")),
    }
}
