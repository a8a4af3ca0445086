//! The thin client: connect, ask, print. No daemon code, no TLS and no logger on this path.

mod dump;
mod info;
mod status;
mod watch;

use std::{
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Uid,
};
use zeroize::Zeroizing;

use crate::{
    cli::{AccountOptions, ShowOptions, Verb},
    error::{Exit, Failure},
    paths::{self, peer_uid},
    wire::{self, AccountArgs, Request, ShowArgs},
};

/// Carries out `verb`, which is one for the server.
pub fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        // The daemon's own.
        Verb::Check(_) | Verb::Server(_) => Ok(()),
        Verb::Dump(options) => dump::run(options),
        Verb::Help(text) => print(text.as_bytes()),
        Verb::Info { json } => info::run(*json),
        Verb::Refresh(options) => say(Request::Refresh(account(options))),
        Verb::Reload => say(Request::Reload),
        Verb::Restore => restore(),
        Verb::Revoke(options) => say(Request::Revoke(account(options))),
        Verb::Show(options) => show(options),
        Verb::Shutdown => say(Request::Shutdown),
        Verb::Status { json } => status::run(*json),
        Verb::Watch { json } => watch::run(*json),
    }
}

fn account(options: &AccountOptions) -> AccountArgs {
    AccountArgs {
        account: options.account.clone(),
        no_url: options.no_url,
    }
}

/// One request and its reply's body.
fn ask(request: &Request) -> Result<Zeroizing<Vec<u8>>, Failure> {
    wire::ask(&mut connect()?, request)
}

/// Sends a request whose reply is at most a remark.
fn say(request: Request) -> Result<(), Failure> {
    let body = ask(&request)?;
    match body.is_empty() {
        true => Ok(()),
        false => print(&body),
    }
}

fn show(options: &ShowOptions) -> Result<(), Failure> {
    let args = ShowArgs {
        account: options.account.clone(),
        no_url: options.no_url,
        wait_secs: options.wait.map(|span| span.as_secs()),
        min_valid_secs: options.min_valid.map(|span| span.as_secs()),
        form: options.form.clone(),
    };
    let mut line = ask(&Request::Show(args))?;
    line.push(b'\n');
    print(&line)
}

fn restore() -> Result<(), Failure> {
    let mut dump = Zeroizing::new(Vec::new());
    io::stdin()
        .take(wire::MAX_RESTORE_BYTES as u64 + 1)
        .read_to_end(&mut dump)
        .map_err(|error| Failure::new(Exit::Other, format!("can't read the dump: {error}")))?;
    if dump.len() > wire::MAX_RESTORE_BYTES {
        return Err(Failure::new(Exit::Other, "the dump is too large"));
    }
    say(Request::Restore(dump))
}

/// A connection to this user's server.
fn connect() -> Result<UnixStream, Failure> {
    let address = paths::address()?;
    match UnixStream::connect(&address.socket) {
        Ok(stream) => {
            address.check()?;
            match peer_uid(&stream) {
                Some(uid) if uid == Uid::effective() => Ok(stream),
                _ => Err(no_server("the socket's server runs as somebody else")),
            }
        }
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                Err(no_server("pizauth is not running").hint("start it with `pizauth server`"))
            }
            _ => Err(no_server(&format!(
                "can't reach the server at {}: {error}",
                address.socket.display()
            ))),
        },
    }
}

fn no_server(what: &str) -> Failure {
    Failure::new(Exit::NoServer, what)
}

/// Whether stdout is shown to somebody.
fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writes to stdout, and means it: a full disk or a closed pipe is an error.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    // Straight to the descriptor: std's buffer would keep a copy of a token.
    let mut left = bytes;
    while !left.is_empty() {
        match nix::unistd::write(io::stdout(), left) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => {
                let error = io::Error::from(errno);
                return Err(Failure::new(
                    Exit::Other,
                    format!("can't write to stdout: {error}"),
                ));
            }
        }
    }
    Ok(())
}

fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Sleeps until there is something to read from `stream`; false when nobody reads what is printed
/// any more.
fn wait_for(stream: &UnixStream) -> bool {
    let stdout = io::stdout();
    let mut fds = [
        PollFd::new(stream.as_fd(), PollFlags::POLLIN),
        // Its end is told unasked.
        PollFd::new(stdout.as_fd(), PollFlags::empty()),
    ];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            // The read that follows says what is wrong.
            Err(_) => return true,
            Ok(_) => {
                let [_, stdout] = &fds;
                let ended = PollFlags::POLLERR | PollFlags::POLLHUP;
                return !stdout
                    .revents()
                    .is_some_and(|flags| flags.intersects(ended));
            }
        }
    }
}

/// Prints why a command failed, on stderr.
pub fn complain(failure: &Failure) {
    // With stderr closed there is nobody left to tell; the exit status does.
    let _ = io::stderr().write_all(format!("ERROR - {failure}\n").as_bytes());
}
