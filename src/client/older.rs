//! What else may listen where our server does: the daemon of the original pizauth, as for everyone in
//! the first minute after the switch, or something that is no pizauth at all.

use std::io::{self, Read, Write};
use std::{fs, net::Shutdown, os::unix::net::UnixStream, time::Duration};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use super::{ANSWER_TIMEOUT, connect, no_server, patience, tell};
use crate::error::{Exit, Failure};
use crate::paths::{self, peer};
use crate::wire::{self, Request, original};
use crate::{secret::SecretBytes, text::sanitize};

/// How long a server may be silent before a client asks itself what it is. A server of ours hardly
/// ever is for so long, and who meets another knows it within a second.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long what isn't a server of ours may take for its first word when we have said our last.
const WORD_TIMEOUT: Duration = Duration::from_secs(1);

/// What is said of the original's daemon.
const HERE: &str = "an older pizauth is running here";

/// What to do about it.
const HINT: &str = "`pizauth restart` replaces it and keeps its tokens";

/// Goes on with a server that has been silent for [`SILENCE_TIMEOUT`] but for `heard`.
#[cold]
pub(super) fn settle(
    mut server: UnixStream,
    request: &Request,
    mut heard: SecretBytes,
    timeout: Option<Duration>,
) -> Result<SecretBytes, Failure> {
    let address = paths::client_address()?;
    if !address.may_be_served() {
        // The original's daemon answers when it has seen the end; ours, whatever it has to say.
        let _ = server.set_read_timeout(Some(WORD_TIMEOUT));
        let _ = server.shutdown(Shutdown::Write);
        let outcome = wire::receive(&mut server, &mut heard);
        if original::is_its(&heard) {
            return match request {
                // Their answers look different.
                Request::Info | Request::Status => Err(here()),
                other => ask(other),
            };
        }
        match outcome {
            Err(failure) if wire::is_silence(&failure) => {}
            outcome => return outcome,
        }
        if !address.may_be_served() && !is_to_come(&server) {
            return Err(stranger(&server, &address));
        }
    }
    patience::receive(&mut server, heard, timeout)
}

/// Asks the original's daemon, and says that it is one.
pub(super) fn ask(request: &Request) -> Result<SecretBytes, Failure> {
    let body = order(request).map_err(|failure| match failure.hint {
        Some(_) => failure,
        None => failure.hint(format!("{HERE}; {HINT}")),
    })?;
    // These are for programs.
    if !matches!(request, Request::Show(_) | Request::Dump) {
        tell(&format!("{HERE}; {HINT}\n"));
    }
    Ok(body)
}

/// Asks the original's daemon.
pub(super) fn order(request: &Request) -> Result<SecretBytes, Failure> {
    let words = original::encode(request).ok_or_else(here)?;
    let mut server = connect()?;
    let answer = exchange(&mut server, &words)
        .map_err(|error| no_server(&format!("trouble with an older pizauth: {error}")))?;
    original::reply(request, answer).map_err(|failure| Failure {
        what: sanitize(&failure.what),
        ..failure
    })
}

fn exchange(server: &mut UnixStream, words: &[u8]) -> io::Result<SecretBytes> {
    server.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    server.write_all(words)?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = SecretBytes::default();
    let limit = wire::MAX_RESTORE_BYTES as u64;
    server.take(limit).read_to_end(&mut answer)?;
    Ok(answer)
}

/// It can't do that.
fn here() -> Failure {
    Failure::new(Exit::NoServer, HERE).hint(HINT)
}

/// Whether a command has failed since the server is the original's.
pub(super) fn is_here(failure: &Failure) -> bool {
    failure.what == HERE
}

/// Whether the socket only waits for the next server: a service manager made it, or who did has ended,
/// and a manager keeps it.
fn is_to_come(server: &UnixStream) -> bool {
    process(server).is_some_and(|pid| {
        kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) || name(pid) == "systemd"
    })
}

/// Who listens there, as far as the system says.
pub(super) fn process(server: &UnixStream) -> Option<i32> {
    peer(server)?.pid
}

fn name(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    sanitize(name.unwrap_or_default().trim())
}

/// Something listens that says nothing.
fn stranger(server: &UnixStream, address: &paths::Address) -> Failure {
    let who = process(server).map_or("something".into(), |pid| {
        format!("process {pid} ({})", name(pid))
    });
    let place = address.socket.display();
    let what = format!("{who} listens at {place} but is no pizauth");
    no_server(&what).hint("end it, then run `pizauth server`")
}
