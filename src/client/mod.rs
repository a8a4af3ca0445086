//! The thin client: connect, ask, print. No daemon code and no logger on this path, and TLS only in
//! `register`, `setup` and `test`.

mod auth;
mod credential;
mod dump;
mod import;
mod info;
mod older;
mod patience;
mod programs;
mod qr;
mod register;
mod restart;
mod restore;
mod setup;
mod show;
mod status;
mod takeover;
mod test;
pub mod token;
mod tunnel;
mod watch;

use std::io::{self, BufRead, ErrorKind, IsTerminal, Read, Write};
use std::os::{fd::AsFd, unix::net::UnixStream};
use std::{env, fs::File, time::Duration};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Uid,
};

use crate::{
    cli::{self, RedirectOptions, RevokeOptions, Verb},
    error::{Exit, Failure},
    paths::{self, peer},
    secret::{Secret, SecretBytes},
    text::{nearest, sanitize},
    wire::{self, RedirectArgs, Request, RevokeArgs},
};

/// Carries out `verb`, which is none of the daemon's.
pub fn run(verb: &Verb) -> Result<(), Failure> {
    let outcome = match verb {
        Verb::Show(options) => show::run(&options.token),
        other => run_seldom(other),
    };
    outcome.map_err(with_names)
}

/// Says of an account that there isn't which ones there are, and which was likely meant.
#[cold]
fn with_names(failure: Failure) -> Failure {
    if failure.exit != Exit::NoAccount {
        return failure;
    }
    let names = status::names().unwrap_or_default();
    let meant = failure.what.split('\'').nth(1).unwrap_or_default();
    let hint = match nearest(meant, names.iter().map(String::as_str)) {
        _ if failure.hint.is_some() || names.is_empty() => return failure,
        Some(near) => format!("did you mean `{}`?", sanitize(near)),
        None => format!("there are {}", sanitize(&names.join(", "))),
    };
    failure.hint(hint)
}

/// Everything but `show`, which mail programs run all day: kept apart from it, so that it takes few
/// pages of the program.
#[cold]
#[inline(never)]
fn run_seldom(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Auth(options) => auth::run(options, auth::listens()),
        Verb::Check(_)
        | Verb::Server(_)
        | Verb::Show(_)
        | Verb::Succeed(_)
        | Verb::TakeOver { .. } => Err(Failure::other(cli::ELSEWHERE)),
        Verb::Dump(options) => dump::run(options),
        Verb::GitCredential(options) => credential::run(options),
        Verb::Help(text) => print(text.as_bytes()),
        Verb::Import(options) => import::run(&options.account),
        Verb::Info(options) => info::run(options),
        Verb::Redirect(options) => redirect(options),
        Verb::Refresh(options) => say(Request::Refresh(options.token.clone())),
        Verb::Register(options) => register::run(options),
        Verb::Reload(_) => say(Request::Reload),
        Verb::Restart(_) => restart::run(),
        Verb::Restore(_) => restore::run(),
        Verb::Revoke(options) => revoke(options),
        Verb::Setup(options) => setup::run(options),
        Verb::Shutdown(options) => shutdown(options.force),
        Verb::Status(options) => status::run(options.json),
        Verb::Test(options) => test::run(options),
        Verb::Tunnel(options) => tunnel::run(options),
        Verb::Watch(options) => watch::run(options.json),
    }
}

/// How long a server may take to answer what it needn't wait for: time enough for one that is just
/// being restarted, or swapped in. A server that takes longer has been stopped, or hangs; whoever
/// asks must not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How a request is asked: how long the server may wait for others before it answers, in seconds; whether
/// a server that is restarting gives way to the next one, since it has done nothing, or the same again
/// changes nothing (`show` and those who wait count their own time); and whether one that was killed
/// does, since it has done nothing that must not be done twice.
fn manners(request: &Request) -> (u64, bool, bool) {
    match request {
        Request::Show(args) => match (args.wait_secs, args.min_valid_secs) {
            (Some(seconds), _) => (seconds, false, true),
            // For one refresh.
            (None, Some(_)) => (30, false, true),
            (None, None) => (0, false, true),
        },
        Request::Info | Request::Status => (0, false, true),
        Request::Refresh(_) => (0, false, false),
        Request::Shutdown => (0, true, false),
        // For the provider.
        Request::Import(_) | Request::Redirect(_) | Request::Revoke(_) => (60, false, false),
        // For the program that is to take over, for a command, and for what is large.
        Request::Restart | Request::Save | Request::Restore(_) | Request::Reload => {
            (60, true, false)
        }
        Request::Dump => (60, true, true),
        // For the user; those who ask it see that they wait.
        Request::Auth(_) | Request::Await(_) | Request::Watch => (u64::MAX, false, false),
    }
}

/// One request and its reply's body.
fn ask(request: &Request) -> Result<SecretBytes, Failure> {
    let (waits_secs, is_repeatable, is_harmless) = manners(request);
    let timeout = Duration::from_secs(waits_secs).checked_add(ANSWER_TIMEOUT);
    let mut hung_up = false;
    loop {
        match ask_once(request, timeout) {
            // The next server is there already, and answers in a moment.
            Err(failure) if is_restarting(&failure) && is_repeatable => {}
            // One that was killed has answered nobody, and has a successor.
            Err(failure) if failure.what == wire::HUNG_UP && is_harmless && !hung_up => {
                hung_up = true;
            }
            outcome => return outcome,
        }
    }
}

fn ask_once(request: &Request, timeout: Option<Duration>) -> Result<SecretBytes, Failure> {
    let mut server = connect()?;
    // Without one, it merely waits longer.
    let _ = server.set_read_timeout(Some(older::SILENCE_TIMEOUT));
    wire::send(&mut server, request)?;
    let mut heard = SecretBytes::default();
    match wire::receive(&mut server, &mut heard) {
        Err(failure) if wire::is_silence(&failure) => {
            older::settle(server, request, heard, timeout)
        }
        outcome => outcome,
    }
}

/// What a reply says in JSON.
fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::other(format!("the server's answer makes no sense: {error}")))
}

/// Sends a request whose reply is at most a remark.
fn say(request: Request) -> Result<(), Failure> {
    let body = ask(&request)?;
    match body.is_empty() {
        true => Ok(()),
        false => print(&body),
    }
}

/// Ends the server; if its tokens can't be saved, only when forced.
fn shutdown(force: bool) -> Result<(), Failure> {
    if !force {
        match ask(&Request::Save) {
            // Older servers save when they end.
            Err(failure) if failure.what == wire::UNKNOWN || older::is_here(&failure) => {}
            Err(failure) if failure.exit == Exit::Other => {
                const HINT: &str = "the server goes on; `pizauth shutdown -f` ends it nonetheless";
                return Err(failure.hint(HINT));
            }
            outcome => drop(outcome?),
        }
    }
    say(Request::Shutdown)
}

/// Whether the server has sent this client away because another takes its place.
fn is_restarting(failure: &Failure) -> bool {
    failure.exit == Exit::TryLater && failure.what == wire::RESTARTING
}

/// Has the tokens forgotten. What became of the provider's copy is a remark: the command has done
/// what it is for.
fn revoke(options: &RevokeOptions) -> Result<(), Failure> {
    let remark = ask(&Request::Revoke(RevokeArgs {
        account: options.account.clone(),
        local: options.local,
    }))?;
    tell(&String::from_utf8_lossy(&remark));
    Ok(())
}

/// Hands on the address that a browser was sent to, and says what came of it.
fn redirect(options: &RedirectOptions) -> Result<(), Failure> {
    let text = match &options.address {
        Some(address) => address.clone(),
        None => pasted()?,
    };
    let address = text.lines().map(str::trim).find(|line| !line.is_empty());
    let address = address.ok_or_else(|| {
        Failure::new(Exit::Usage, "no address given")
            .hint("paste the address that the browser was sent to, with all that is behind the `?`")
    })?;
    say(Request::Redirect(RedirectArgs {
        address: Secret::new(address.to_owned()),
        account: options.account.clone(),
    }))
}

/// What stdin has up to the end of its first line that isn't empty.
fn pasted() -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        tell("Paste the address that the browser ended at, or the code that its page shows:\n");
    }
    let limit = wire::MAX_REQUEST_BYTES as u64 / 2;
    let mut lines = io::BufReader::new(io::stdin().take(limit)).lines();
    let is_blank = |line: &String| line.trim().is_empty();
    let line = lines.find(|line| !line.as_ref().is_ok_and(is_blank));
    let line = line.unwrap_or_else(|| Ok(String::new()));
    line.map_err(|error| Failure::other(format!("can't read the address: {error}")))
}

/// What stdin has, up to so many bytes; `what` is done with it, as in "read the dump".
fn input(limit: usize, what: &str) -> Result<SecretBytes, Failure> {
    let mut input = SecretBytes::default();
    let read = io::stdin().take(limit as u64).read_to_end(&mut input);
    read.map_err(|error| Failure::other(format!("can't {what}: {error}")))?;
    Ok(input)
}

/// A connection to this user's server.
fn connect() -> Result<UnixStream, Failure> {
    let address = paths::client_address()?;
    match paths::connect(&address.socket, ANSWER_TIMEOUT) {
        Ok(stream) => {
            let user = Uid::effective();
            address.check(user)?;
            match peer(&stream).map(|peer| peer.uid) {
                Some(uid) if uid == user => Ok(stream),
                _ => Err(no_server("the socket's server runs as another user")),
            }
        }
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                let place = address.socket.display();
                let config = paths::config().ok().filter(|file| !file.exists());
                let start = match &config {
                    None => "start it with `pizauth server`".into(),
                    Some(file) => {
                        format!("there is no {}: begin with `pizauth setup`", file.display())
                    }
                };
                let usual = paths::usual(&address).filter(|it| it.socket != address.socket);
                let usual =
                    usual.map_or(String::new(), |it| format!(" or {}", it.socket.display()));
                let hint = format!("{start}; it isn't at {place}{usual}");
                Err(no_server(ABSENT).hint(hint))
            }
            ErrorKind::WouldBlock => Err(wire::silence()),
            _ => Err(no_server(&format!(
                "can't reach the server at {}: {error}",
                address.socket.display()
            ))),
        },
    }
}

/// Why a command fails when nothing listens.
const ABSENT: &str = "pizauth is not running";

fn no_server(what: &str) -> Failure {
    Failure::new(Exit::NoServer, what)
}

/// Writes to stdout, and means it: a full disk or a closed pipe is an error.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    // Straight to the descriptor: std's buffer would keep a copy of a token.
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let written = stdout.and_then(|stdout| File::from(stdout).write_all(bytes));
    written.map_err(|error| Failure::other(format!("can't write to stdout: {error}")))
}

/// Says something beside the output.
fn tell(text: &str) {
    // With stderr closed there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether stderr is shown to somebody, by something that can draw a line anew.
fn stderr_is_live() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// Whether the terminal, if there is one, knows no escape sequences.
fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Whether stdout may be coloured (no-color.org).
fn may_colour() -> bool {
    let forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal() && !forbidden && !is_dumb()
}

/// Whether stdout is shown to somebody.
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
                return !stdout.any().unwrap_or(false);
            }
        }
    }
}

/// What a failure says that the user has been told of.
const SAID: &str = "";

/// Prints why a command failed, on stderr.
pub fn complain(failure: &Failure) {
    if failure.what == SAID {
        return;
    }
    // The exit status tells, too.
    tell(&format!("ERROR - {failure}\n"));
}
