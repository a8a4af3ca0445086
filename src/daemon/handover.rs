//! Restart in place: the monitor becomes a new version of the program by execve(2), which forks its
//! own daemon, and that goes on. The sockets stay open, so clients wait a moment instead of failing;
//! the monitor's process stays the same, so whoever supervises it notices nothing; the state goes
//! through memory that has no name, and through the monitor as a descriptor only.
//!
//! Before the point of no return the new program is tried as a process of its own, with the same
//! state and the same configuration: what it doesn't understand is refused, and nothing has happened.

use std::{
    fs::File,
    io::{self, Read, Seek},
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixListener, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use super::{hooks::HooksState, memory, other, seals::Sealed, verbs::bad_config};
use crate::{
    cli::TAKE_OVER,
    config::{self, Config},
    core::CoreState,
    error::Failure,
    redirect::{Bound, Identity, Site},
    text,
};

/// What the state starts with.
const MAGIC: &str = "pizauth handover ";

/// How long the new program may look at the state; it takes milliseconds.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Which of the descriptors that go along.
pub type Slot = usize;

/// The descriptors that go along, as they are counted.
#[derive(Default)]
pub struct Passed<'a>(pub Vec<BorrowedFd<'a>>);

impl<'a> Passed<'a> {
    /// One more.
    pub fn put(&mut self, fd: BorrowedFd<'a>) -> Slot {
        self.0.push(fd);
        self.0.len().saturating_sub(1)
    }
}

/// The descriptors that have come along.
pub struct Received(Vec<Option<OwnedFd>>);

impl Received {
    /// All of them.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Received(fds.into_iter().map(Some).collect())
    }

    /// One, which is there once.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn take(&mut self, slot: Slot) -> io::Result<OwnedFd> {
        let found = self.0.get_mut(slot).and_then(Option::take);
        found.ok_or_else(|| io::Error::other("a descriptor got lost"))
    }
}

/// All that the successor needs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The configuration as its text, so that what was tried is what will be in force.
    pub config: String,
    /// The seals of what it names, and those of the configuration before.
    pub seals: Vec<Sealed>,
    pub old_seals: Vec<Sealed>,
    /// Which listeners there are, in the words of [`listeners`].
    pub listeners: String,
    pub restarts: u32,
    pub lock: Slot,
    /// The line to the hook runner.
    pub runner: Slot,
    pub control: Slot,
    /// The control socket's file is a service manager's.
    pub given: bool,
    pub sites: Vec<SiteState>,
    pub doors: Vec<(Arc<str>, Slot)>,
    pub hooks: HooksState,
    pub core: CoreState,
}

/// The listeners of one port.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteState {
    port: u16,
    sockets: Vec<Slot>,
    /// The certificate and its key, with which it is https. (Whatever is freed is wiped, see
    /// sys/alloc.rs.)
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl SiteState {
    /// This site, with these sockets.
    pub fn of(port: u16, sockets: Vec<Slot>, identity: Option<&Identity>) -> Self {
        SiteState {
            port,
            sockets,
            identity: identity.map(|it| (it.certificate().to_vec(), it.key().to_vec())),
        }
    }

    fn identity(&self) -> io::Result<Option<Arc<Identity>>> {
        let Some((certificate, key)) = &self.identity else {
            return Ok(None);
        };
        Identity::from_der(certificate.clone(), key).map(|it| Some(Arc::new(it)))
    }

    /// The site itself; its sockets are this process's from now on.
    pub fn open(self, received: &mut Received) -> io::Result<Site> {
        let identity = self.identity()?;
        let sockets = self.sockets.into_iter();
        let sockets = sockets.map(|slot| received.take(slot).map(TcpListener::from));
        Ok(Site {
            bound: Bound {
                sockets: sockets.collect::<io::Result<_>>()?,
                port: self.port,
            },
            identity,
        })
    }
}

/// What of the configuration needs other listeners: that is more than a restart in place can do.
pub fn listeners(config: &Config) -> String {
    format!("{:?} {:?}", config.http_listen, config.https_listen)
}

/// The program that this process was started as, wherever its path leads to by now.
pub fn program() -> PathBuf {
    let started_as = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let found = match started_as.as_os_str().as_bytes().contains(&b'/') {
        true => std::path::absolute(&started_as).ok(),
        false => std::env::var_os("PATH").and_then(|path| {
            let mut dirs = std::env::split_paths(&path).map(|dir| dir.join(&started_as));
            dirs.find(|place| place.is_file() && place.is_absolute())
        }),
    };
    found
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or(started_as)
}

impl Handover {
    /// Memory that holds it, without a name, closed on exec.
    pub fn memory(&self) -> io::Result<File> {
        memory::write(MAGIC, self)
    }

    /// What a predecessor wrote.
    fn read(file: &mut impl Read) -> Result<Self, Failure> {
        memory::read(MAGIC, file).map_err(|why| {
            other(&format!(
                "the running server's state can't be taken over: {why}"
            ))
        })
    }

    /// The configuration, if it goes with the listeners that there are.
    fn config(&self, file: &Path) -> Result<Config, Failure> {
        let config = config::parse(&file.display().to_string(), &self.config);
        let config = config.map_err(bad_config)?;
        match listeners(&config) == self.listeners {
            true => Ok(config),
            false => Err(other(
                "http_listen or https_listen was changed, which needs a stop and a start",
            )),
        }
    }
}

/// Has `program` look at the state in `memory`, and say whether it could go on from there.
///
/// # Errors
/// Why it couldn't, in its own words if it has any.
pub fn look_at(program: &Path, config_file: &Path, memory: OwnedFd) -> Result<(), Failure> {
    try_out(program, config_file, memory)
        .map_err(|why| other(&format!("{} can't take over: {why}", program.display())))
}

fn try_out(program: &Path, config_file: &Path, memory: OwnedFd) -> Result<(), String> {
    let mut child = Command::new(program)
        .arg(TAKE_OVER)
        .arg(config_file)
        .stdin(memory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = child.wait_timeout(TRIAL_TIMEOUT);
    if !matches!(status, Ok(Some(_))) {
        // A script has children. It may all just have ended by itself.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let _ = child.wait();
        return Err("it takes too long".into());
    }
    let said = child.stderr.map(said).unwrap_or_default();
    match status {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) if said.is_empty() => Err(format!("it ends with {status}")),
        _ => Err(said.trim_start_matches("ERROR - ").to_owned()),
    }
}

/// What a program that has ended has left in `pipe`; something that it started may still hold that.
fn said(pipe: ChildStderr) -> String {
    let mut bytes = Vec::new();
    // What can't be read isn't said.
    if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() {
        let _ = pipe.take(4096).read_to_end(&mut bytes);
    }
    text::sanitize_lines(&String::from_utf8_lossy(&bytes))
}

/// What was in `memory` is of no more use.
pub fn wipe(memory: &File) {
    if let Err(error) = memory::wipe(memory) {
        log::warn!("the state that was handed over can't be wiped: {error}");
    }
}

/// The successor's view of what it is given, checked.
pub struct Taken {
    pub handover: Handover,
    pub config: Config,
}

/// Reads and checks what a predecessor has left in `state`, or on standard input for a trial.
pub fn take(config_file: &Path, state: Option<OwnedFd>) -> Result<Taken, Failure> {
    let mut handover = match state {
        Some(state) => {
            let mut file = File::from(state);
            let rewound = file.rewind();
            rewound.map_err(|error| other(&format!("there is no state: {error}")))?;
            let handover = Handover::read(&mut file)?;
            wipe(&file);
            handover
        }
        None => Handover::read(&mut io::stdin())?,
    };
    let config = handover.config(config_file)?;
    // There are client secrets in it, and what is handed over may live as long as the server.
    handover.config = String::new();
    for site in &handover.sites {
        let identity = site.identity();
        identity.map_err(|error| other(&format!("the certificate makes no sense: {error}")))?;
    }
    Ok(Taken { handover, config })
}

/// A port, its sockets, and the certificate with which it is https.
pub type KeptSite = (u16, Vec<TcpListener>, Option<Arc<Identity>>);

/// The sockets that a restart in place keeps open while their servers are gone.
pub struct Kept {
    pub control: UnixListener,
    pub given: bool,
    pub sites: Vec<KeptSite>,
    pub listeners: String,
    pub restarts: u32,
}

impl Kept {
    /// What the successor needs of the sites; their sockets go along.
    pub fn sites<'a>(&'a self, passed: &mut Passed<'a>) -> Vec<SiteState> {
        let sites = self.sites.iter();
        sites
            .map(|(port, sockets, identity)| {
                let sockets = sockets.iter().map(|it| passed.put(it.as_fd()));
                SiteState::of(*port, sockets.collect(), identity.as_deref())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_version_or_of_no_kind_is_refused() {
        let refused = |text: &str| {
            let outcome = Handover::read(&mut text.as_bytes());
            outcome
                .err()
                .map(|failure| failure.what)
                .unwrap_or_default()
        };
        let cant = "the running server's state can't be taken over: ";
        for (text, why) in [
            ("", "it is none"),
            ("pizauth dump 1\nx", "it is none"),
            ("pizauth handover 2", "it is none"),
            (
                "pizauth handover 1\n{}",
                "it is of version 1, and this program knows version 8",
            ),
        ] {
            assert_eq!(refused(text), format!("{cant}{why}"));
        }
        assert!(refused("pizauth handover 7\n{}").starts_with(cant));
    }
}
