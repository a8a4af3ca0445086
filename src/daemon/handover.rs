//! Restart in place: the process becomes a new version of the program by execve(2), and goes on.
//! The sockets stay open, so clients wait a moment instead of failing; the process stays the same,
//! so whoever supervises it notices nothing; the state goes through memory that has no name.
//!
//! Before the point of no return the new program is tried as a child process, with the same state
//! and the same configuration: what it doesn't understand is refused, and nothing has happened.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Seek},
    net::TcpListener,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, net::UnixListener, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use super::{hooks::HooksState, memory, other, process, verbs::bad_config};
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

/// All that the successor needs. Descriptors are the numbers that they have in this process.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The configuration as its text, so that what was tried is what will be in force.
    pub config: String,
    /// Which listeners there are, in the words of [`listeners`].
    pub listeners: String,
    pub detached: bool,
    pub verbose: u8,
    pub restarts: u32,
    /// The numbers of the system calls that a filter of this process denies.
    pub denied: Vec<i64>,
    /// This process has confined itself, and so its successor.
    pub confined: bool,
    pub lock: RawFd,
    /// The line to the hook runner, and that to its parent, unless that is gone.
    pub runner: RawFd,
    pub spawner: Option<RawFd>,
    pub control: RawFd,
    /// The control socket's file is a service manager's.
    pub given: bool,
    pub sites: Vec<SiteState>,
    pub doors: Vec<(Arc<str>, RawFd)>,
    pub hooks: HooksState,
    pub core: CoreState,
}

/// The listeners of one port.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteState {
    port: u16,
    sockets: Vec<RawFd>,
    /// The certificate and its key, with which it is https. (Whatever is freed is wiped, see
    /// sys/alloc.rs.)
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl SiteState {
    /// This site, whose sockets have these numbers.
    pub fn of(port: u16, sockets: Vec<RawFd>, identity: Option<&Identity>) -> Self {
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
    pub fn open(self) -> io::Result<Site> {
        let identity = self.identity()?;
        let sockets = self.sockets.into_iter();
        Ok(Site {
            bound: Bound {
                sockets: sockets.map(|fd| process::own(fd).into()).collect(),
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
    fn memory(&self) -> io::Result<File> {
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

    /// Has the program at `program` look at this, and say whether it could go on from here.
    ///
    /// # Errors
    /// Its own words when it couldn't.
    pub fn trial(&self, program: &Path, config_file: &Path) -> Result<(), Failure> {
        let cant = |why: String| other(&format!("{} can't take over: {why}", program.display()));
        let memory = self.memory().map_err(|error| cant(error.to_string()))?;
        let shown = memory.try_clone();
        let shown = shown.map_err(|error| cant(error.to_string()))?;
        let outcome = look_at(program, config_file, shown);
        wipe(&memory);
        outcome.map_err(cant)
    }

    /// Becomes `program`. The descriptors in `kept` stay open.
    ///
    /// # Errors
    /// Returns only if that wasn't possible.
    pub fn exec(&self, program: &Path, config_file: &Path, kept: &[BorrowedFd]) -> io::Error {
        let outcome = self.memory().and_then(|memory| {
            let number = memory.as_raw_fd().to_string();
            let words = [
                program.as_os_str().as_bytes(),
                TAKE_OVER.as_bytes(),
                config_file.as_os_str().as_bytes(),
                number.as_bytes(),
            ];
            let words: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
            let words = words?;
            let mut passed = kept.to_vec();
            passed.push(memory.as_fd());
            set_cloexec(&passed, false)?;
            let failed = match words.first() {
                Some(path) => nix::unistd::execv(path, &words).err(),
                None => None,
            };
            set_cloexec(&passed, true)?;
            Ok(failed)
        });
        match outcome {
            Ok(Some(errno)) => errno.into(),
            Ok(None) => io::Error::other("there is no program"),
            Err(error) => error,
        }
    }
}

/// Has `program` try to take over the state in `memory`.
///
/// # Errors
/// Why it couldn't, in its own words if it has any.
fn look_at(program: &Path, config_file: &Path, memory: File) -> Result<(), String> {
    let mut child = Command::new(program)
        .arg(TAKE_OVER)
        .arg(config_file)
        .stdin(OwnedFd::from(memory))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let status = child.wait_timeout(TRIAL_TIMEOUT);
    if !matches!(status, Ok(Some(_))) {
        // A script has children. It may all just have ended by itself.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
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

fn set_cloexec(fds: &[BorrowedFd], closed: bool) -> io::Result<()> {
    let flags = match closed {
        true => FdFlag::FD_CLOEXEC,
        false => FdFlag::empty(),
    };
    for fd in fds {
        fcntl(fd, FcntlArg::F_SETFD(flags))?;
    }
    Ok(())
}

/// The successor's view of what it is given, checked.
pub struct Taken {
    pub handover: Handover,
    pub config: Config,
}

/// Reads and checks what a predecessor has left in the descriptor of this number, or on standard
/// input for a trial.
pub fn take(config_file: &Path, number: Option<RawFd>) -> Result<Taken, Failure> {
    let handover = match number {
        Some(number) => {
            let mut file = File::from(process::own(number));
            let rewound = file.rewind();
            rewound.map_err(|error| other(&format!("there is no state: {error}")))?;
            let handover = Handover::read(&mut file)?;
            wipe(&file);
            handover
        }
        None => Handover::read(&mut io::stdin())?,
    };
    let config = handover.config(config_file)?;
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
    pub denied: Vec<i64>,
    pub confined: bool,
    pub detached: bool,
    pub verbose: u8,
    pub program: PathBuf,
}

impl Kept {
    /// Their numbers.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let sites = self.sites.iter().flat_map(|(_, sockets, _)| sockets);
        std::iter::once(self.control.as_fd())
            .chain(sites.map(AsFd::as_fd))
            .collect()
    }

    /// What the successor needs of them.
    pub fn sites(&self) -> Vec<SiteState> {
        let sites = self.sites.iter();
        sites
            .map(|(port, sockets, identity)| {
                let numbers = sockets.iter().map(AsRawFd::as_raw_fd).collect();
                SiteState::of(*port, numbers, identity.as_deref())
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
                "it is of version 1, and this program knows version 6",
            ),
        ] {
            assert_eq!(refused(text), format!("{cant}{why}"));
        }
        assert!(refused("pizauth handover 5\n{}").starts_with(cant));
    }
}
