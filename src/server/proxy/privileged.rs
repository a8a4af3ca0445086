//! The half of the proxies' process that keeps the user's rights, and is told nothing by a program or
//! a mail server: it runs a proxy's `password_cmd`, and fetches a token of a proxy's account, as any
//! client does. Each errand has a process of its own, so that none waits for another.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::{net::SocketAddr, time::Duration};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use crate::client::token;
use crate::config::Proxy;
use crate::relay::dial;
use crate::secret::Secret;
use crate::secret::plain;
use crate::server::base::error::{cant, other};
use crate::server::base::fork::fork_child;
use crate::server::base::{handlers, program, signals};
use crate::server::ipc::line::{Line, Message};
use crate::wire::ShowArgs;
use crate::{error::Failure, lock::Lock};

/// How long `password_cmd` may take: its user may have to unlock something.
const PASSWORD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an errand may take: the longest of the others, and the time in which a server that is being
/// restarted is back.
const ERRAND_TIMEOUT: Duration = Duration::from_secs(120);

/// What is wanted. The answer goes to the descriptor that comes along.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Errand {
    /// The password of the proxy of this number.
    Password(usize),
    /// A token of its account, and the addresses of its server.
    Token(usize),
}

/// What an errand brings.
#[derive(Debug, Serialize, Deserialize)]
pub struct Brought {
    /// The password, or the token.
    #[serde(with = "plain")]
    pub secret: Secret,
    /// Whose token it is, as the configuration says.
    pub login_hint: Option<String>,
    /// Where the server may be.
    pub addresses: Vec<SocketAddr>,
}

/// Where errands are asked for.
pub type ErrandLine = Line<Errand, ()>;

/// Asks for an errand at `line`, and waits for it.
///
/// # Errors
/// Why it has failed.
pub fn ask(line: &Lock<ErrandLine>, errand: Errand) -> Result<Brought, Failure> {
    let (ours, theirs) = UnixStream::pair()?;
    line.with(|line| line.send(&errand, &[theirs.as_fd()]))?;
    drop(theirs);
    let mut line = Line::<(), Result<Brought, Failure>>::new(ours);
    line.set_patience(ERRAND_TIMEOUT)?;
    match line.recv()? {
        Some(Message { body, .. }) => body,
        None => Err(other("its other process was killed")),
    }
}

/// Forks it, from a process with one thread; the line to it.
///
/// # Errors
/// As fork(2).
pub fn fork(proxies: Vec<Proxy>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    fork_child(&[theirs.as_raw_fd()], || serve(&proxies, theirs))?;
    Ok(ours)
}

/// Runs errands until the other half has ended.
fn serve(proxies: &[Proxy], line: UnixStream) -> io::Result<()> {
    handlers::forget_children()?;
    let mut line = Line::<(), Errand>::new(line);
    while let Some(Message { body, mut fds }) = line.recv()? {
        let Some(answer) = fds.pop() else {
            continue;
        };
        // Who asks hears the end of its line if there can't be a process.
        let _ = fork_child(&[answer.as_raw_fd()], || {
            let brought = run(proxies, body);
            Line::<Result<Brought, Failure>, ()>::new(answer.into()).send(&brought, &[])
        });
    }
    Ok(())
}

fn run(proxies: &[Proxy], errand: Errand) -> Result<Brought, Failure> {
    let (Errand::Password(number) | Errand::Token(number)) = errand;
    let proxy = proxies
        .get(number)
        .ok_or_else(|| other("there is no such proxy"))?;
    if let Errand::Password(_) = errand {
        let command = proxy.password_cmd.as_deref().unwrap_or_default();
        let failed = |failure: Failure| other(&format!("password_cmd {}", failure.what));
        return Ok(Brought {
            secret: password(command).map_err(failed)?,
            login_hint: None,
            addresses: Vec::new(),
        });
    }
    let held = token::fetch_to_use(ShowArgs {
        account: proxy.account.to_string(),
        no_url: true,
        ..ShowArgs::default()
    })?;
    Ok(Brought {
        secret: held.token,
        login_hint: held.login_hint,
        addresses: dial::look_up(&proxy.server)?,
    })
}

/// The first line that a command prints.
fn password(command: &str) -> Result<Secret, Failure> {
    let mut shell = program::shell(command);
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = signals::unmasked(|| shell.spawn()).map_err(cant)??;
    let Some(status) = child.wait_timeout(PASSWORD_TIMEOUT)? else {
        if let Ok(leader) = i32::try_from(child.id()) {
            signals::kill_group(Pid::from_raw(leader));
        }
        return Err(other("takes too long"));
    };
    if !status.success() {
        return Err(other(&format!("failed: {status}")));
    }
    // What it has left behind may have the rest open.
    let mut line = String::new();
    let stdout = child.stdout.take().map(BufReader::new);
    stdout.map(|mut it| it.read_line(&mut line)).transpose()?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(other("prints nothing"));
    }
    Ok(Secret::new(line.to_owned()))
}
