//! The holder's line to the monitor, and helpers for what the holder can't do itself since it has
//! given up the file system and running programs.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{fs::File, net::SocketAddr, path::Path, sync::Arc};

use nix::poll::{PollTimeout, poll};

use crate::server::base::config_file::{self, ConfigText};
use crate::server::base::{error::other, runtime_files::FileId};
use crate::server::ipc::capability::{Capabilities, Capability, SOCKET};
use crate::server::ipc::helper_messages::{
    FileStep, HelperKind, HelperReply, HelperRequest, RequestLine,
};
use crate::server::ipc::line::{Line, MAX_FDS, Message};
use crate::server::ipc::monitor_messages::{MonitorReply, MonitorRequest};
use crate::{config::Config, error::Failure, lock::Lock, secret::Secret, time::humane};

/// How long the monitor may take to take a request or to do what it does itself: it takes
/// microseconds, and must not keep the end of a session waiting.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end may take that the successor brings, in milliseconds.
const END_TIMEOUT_MILLIS: u16 = 5_000;

/// How often another helper is tried: what kills every one of them is to be reported.
const HELPER_RETRIES: usize = 2;

/// Where requests go, and what gives them weight.
pub struct MonitorClient {
    line: Lock<Line<MonitorRequest, ()>>,
    /// The capabilities of the configuration in force, and of the one before: something of that may
    /// still be under way.
    capabilities: Lock<[Capabilities; 2]>,
}

impl MonitorClient {
    /// `line` leads to the monitor.
    ///
    /// # Errors
    /// When it isn't fit for that.
    pub fn new(line: Line<MonitorRequest, ()>) -> io::Result<Self> {
        line.socket().set_write_timeout(Some(TIMEOUT))?;
        Ok(MonitorClient {
            line: Lock::new(line),
            capabilities: Lock::default(),
        })
    }

    /// A configuration is about to come into force.
    pub fn learn(&self, capabilities: Capabilities) {
        self.capabilities.with(|known| {
            known.swap(0, 1);
            let [current, _] = known;
            *current = capabilities;
        });
    }

    /// The capability of what a configuration has under this option; none fits what it doesn't have.
    pub fn capability(&self, option: &str, value: &str) -> Capability {
        let found = self.capabilities.with(|known| {
            let mut known = known.iter();
            known.find_map(|capabilities| capabilities.find(option, value))
        });
        found.unwrap_or_default()
    }

    /// The capabilities of the configuration in force.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities.with(|[current, _]| current.clone())
    }

    /// A process that does what this one can't.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn helper(&self, kind: HelperKind) -> Result<Helper, Failure> {
        let unheard = |error: io::Error| other(&format!("the monitor doesn't hear: {error}"));
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| other(&format!("can't open a line: {error}")))?;
        let line = RequestLine::new(ours);
        line.set_patience(kind.deadline()).map_err(unheard)?;
        let request = MonitorRequest::Helper(kind);
        let sent = self
            .line
            .with(|line| line.send(&request, &[theirs.as_fd()]));
        sent.map_err(unheard)?;
        Ok(Helper {
            line,
            kind,
            began: Instant::now(),
            died: false,
        })
    }

    /// What a helper does, or another one where the first was killed.
    ///
    /// # Errors
    /// Why it can't be done.
    pub fn with_helper<T>(
        &self,
        kind: HelperKind,
        mut work: impl FnMut(&mut Helper) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        for _ in 0..HELPER_RETRIES {
            let mut helper = self.helper(kind)?;
            let outcome = work(&mut helper);
            // One that hangs would do so again.
            if outcome.is_ok() || !helper.died || !helper.is_fresh() {
                return outcome;
            }
        }
        work(&mut self.helper(kind)?)
    }

    /// Tells the service manager something, in the monitor's name; `fds` go along.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn notify(&self, text: String, fds: &[BorrowedFd]) -> io::Result<()> {
        self.ask(Some(TIMEOUT), &[], MonitorRequest::Notify(text), fds)
    }

    /// Has the monitor hold back signals from now on, or pass them on again. What it has passed on
    /// before has arrived when this returns.
    ///
    /// # Errors
    /// When it can't be told.
    pub fn hold_signals(&self, hold: bool) -> io::Result<()> {
        self.ask(Some(TIMEOUT), &[], MonitorRequest::HoldSignals(hold), &[])
    }

    /// Has the monitor keep this for another holder, should this one be killed: as for
    /// [`MonitorClient::become_successor`]. With nothing, the end of this one is the server's.
    ///
    /// # Errors
    /// When it couldn't.
    pub fn guard(&self, kept: &[BorrowedFd]) -> io::Result<()> {
        let request = MonitorRequest::Guard(kept.len());
        self.ask(Some(TIMEOUT), kept, request, &[])
    }

    /// Has the monitor become the program that is there now, with the state's memory, its checkpoints
    /// and what it counts; it ends this process first thing. Returns only when it couldn't. With
    /// `reload` the successor reloads.
    pub fn become_successor(&self, kept: &[BorrowedFd], reload: bool) -> io::Error {
        let count = kept.len();
        let request = MonitorRequest::Become {
            kept: count,
            reload,
        };
        // Without a limit: a monitor that gets to it late becomes the successor all the same, and the
        // end of the line is never missing.
        match self.ask(None, kept, request, &[]) {
            Ok(()) => io::Error::other("the monitor makes no sense"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                // The monitor is another program now, and everything is that one's.
                #[cfg(all(debug_assertions, target_os = "linux"))]
                super::intruder::stay();
                let _ = poll(&mut [], PollTimeout::from(END_TIMEOUT_MILLIS));
                io::Error::other("the monitor didn't take the order")
            }
            Err(error) => error,
        }
    }

    /// Sends a request, behind what the monitor is to keep for it, and waits for the reply; the end of
    /// the line is one, too, as an error.
    fn ask(
        &self,
        limit: Option<Duration>,
        kept: &[BorrowedFd],
        request: MonitorRequest,
        fds: &[BorrowedFd],
    ) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(limit)?;
        let mut line = Line::<(), MonitorReply>::new(ours);
        let all: Vec<_> = std::iter::once(theirs.as_fd())
            .chain(fds.iter().copied())
            .collect();
        self.line.with(|line| {
            // Nobody else's request comes in between.
            let mut kept = kept.chunks(MAX_FDS);
            kept.try_for_each(|some| line.send(&MonitorRequest::Keep, some))?;
            line.send(&request, &all)
        })?;
        drop(theirs);
        match line.recv()? {
            Some(Message { body, .. }) => body.map_err(io::Error::other),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A helper, as long as this is held.
pub struct Helper {
    line: RequestLine,
    kind: HelperKind,
    began: Instant,
    /// It has ended without an answer.
    died: bool,
}

impl Helper {
    /// Whether it lives long enough for another request: half of its time is left.
    pub fn is_fresh(&self) -> bool {
        self.began.elapsed().saturating_mul(2) < self.kind.deadline()
    }

    /// Reads the server's configuration, and the capabilities of what it names. `parse` runs
    /// while the helper makes those.
    ///
    /// # Errors
    /// When it can't be read, or `parse` doesn't like it.
    pub fn config<T>(
        &mut self,
        parse: impl FnOnce(ConfigText) -> Result<T, Failure>,
    ) -> Result<(T, Capabilities), Failure> {
        let request = HelperRequest::ReadConfig;
        let (reply, _) = self.ask(&request, &[])?;
        let HelperReply::Config(text) = reply else {
            return Err(odd(&request));
        };
        let parsed = parse(text)?;
        match self.hear(&request)?.0 {
            HelperReply::Grants(grants) => Ok((parsed, grants)),
            _ => Err(odd(&request)),
        }
    }

    /// Makes the directory of the control socket, or checks the one that is there.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn prepare(&mut self) -> Result<(), Failure> {
        self.ask(&HelperRequest::Prepare, &[]).map(drop)
    }

    /// Opens the lock's file.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn lock_file(&mut self) -> Result<File, Failure> {
        self.open(&HelperRequest::OpenLock).map(File::from)
    }

    /// Listens on the control socket; `None` when another server answers there.
    ///
    /// # Errors
    /// When it can't.
    pub fn listen_control(&mut self) -> Result<Option<(UnixListener, FileId)>, Failure> {
        let request = HelperRequest::ListenControl;
        match self.ask(&request, &[])? {
            (HelperReply::Taken, _) => Ok(None),
            outcome => listening(&request, outcome).map(Some),
        }
    }

    /// Listens on a socket of the configuration.
    ///
    /// # Errors
    /// When it can't.
    pub fn listen(
        &mut self,
        path: &Arc<str>,
        capabilities: &Capabilities,
    ) -> Result<(UnixListener, FileId), Failure> {
        let capability = capabilities.find(SOCKET, path).unwrap_or_default();
        let request = HelperRequest::Listen(path.clone(), capability);
        let outcome = self.ask(&request, &[])?;
        listening(&request, outcome)
    }

    /// Removes the file of a socket, if it is still that one: the control socket's, or that of
    /// `socket`, which listens there.
    ///
    /// # Errors
    /// When that can't be told.
    pub fn remove_socket(
        &mut self,
        path: &Path,
        id: FileId,
        socket: Option<BorrowedFd>,
    ) -> Result<(), Failure> {
        let request = HelperRequest::RemoveSocket(path.to_owned(), id);
        self.ask(&request, socket.as_slice()).map(drop)
    }

    /// Puts `content` into a token file, in one step.
    ///
    /// # Errors
    /// When it can't be written; what was there is still there then.
    pub fn replace(
        &mut self,
        path: &Arc<str>,
        capability: &Capability,
        content: &Secret,
    ) -> Result<(), Failure> {
        let step = |step| HelperRequest::TokenFile(step, path.clone(), capability.clone());
        let mut file = File::from(self.open(&step(FileStep::Write))?);
        let outcome = file.write_all(content.expose().as_bytes());
        let outcome = outcome
            .map_err(Failure::from)
            .and_then(|()| self.ask(&step(FileStep::Replace), &[]).map(drop));
        if outcome.is_err() {
            // The error that matters is known.
            let _ = self.ask(&step(FileStep::Discard), &[]);
        }
        outcome
    }

    /// Removes a token file.
    ///
    /// # Errors
    /// When it can't.
    pub fn remove(&mut self, path: &Arc<str>, capability: &Capability) -> Result<(), Failure> {
        let request = HelperRequest::TokenFile(FileStep::Remove, path.clone(), capability.clone());
        self.ask(&request, &[]).map(drop)
    }

    /// Starts the proxies of the configuration, at the sockets that are `open` and at new ones: what
    /// counts their sessions, and all of the sockets.
    ///
    /// # Errors
    /// When a proxy can't listen.
    pub fn start_proxies(&mut self, open: &[BorrowedFd]) -> Result<(File, Vec<OwnedFd>), Failure> {
        let request = HelperRequest::Proxies;
        let (_, mut fds) = self.ask(&request, open)?;
        if fds.is_empty() {
            return Err(odd(&request));
        }
        Ok((fds.remove(0).into(), fds))
    }

    /// Looks up the addresses of a host, for at most so long.
    ///
    /// # Errors
    /// When it has none, or the time is over.
    pub fn look_up(
        &mut self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let request = HelperRequest::LookUp(host.into(), port);
        let limit = limit.min(self.kind.deadline());
        let limited = self.line.set_patience(limit);
        limited.map_err(|error| self.broken(&request, &error))?;
        match self.ask(&request, &[])?.0 {
            HelperReply::Addresses(addresses) => Ok(addresses),
            _ => Err(odd(&request)),
        }
    }

    /// Has the program that is there now look at the state in `memory`: what it says when it has.
    ///
    /// # Errors
    /// Why it couldn't take over.
    pub fn try_program(&mut self, memory: BorrowedFd) -> Result<String, Failure> {
        match self.ask(&HelperRequest::Try, &[memory])?.0 {
            HelperReply::Tried(said) => Ok(said),
            _ => Err(odd(&HelperRequest::Try)),
        }
    }

    /// The line alone: what there is to say to a helper that goes on.
    pub fn into_line(self) -> RequestLine {
        self.line
    }

    fn open(&mut self, request: &HelperRequest) -> Result<OwnedFd, Failure> {
        let (_, mut fds) = self.ask(request, &[])?;
        fds.pop().ok_or_else(|| odd(request))
    }

    fn ask(
        &mut self,
        request: &HelperRequest,
        fds: &[BorrowedFd],
    ) -> Result<(HelperReply, Vec<OwnedFd>), Failure> {
        let sent = self.line.send(request, fds);
        sent.map_err(|error| self.broken(request, &error))?;
        self.hear(request)
    }

    fn hear(&mut self, request: &HelperRequest) -> Result<(HelperReply, Vec<OwnedFd>), Failure> {
        match self.line.recv() {
            Ok(Some(Message { body, fds })) => body.map(|reply| (reply, fds)),
            Ok(None) => Err(self.broken(request, &ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.broken(request, &error)),
        }
    }

    fn broken(&mut self, request: &HelperRequest, error: &io::Error) -> Failure {
        let (_, words) = request.about();
        other(&match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!(
                    "{words} takes too long (more than {})",
                    humane(self.kind.deadline())
                )
            }
            _ => {
                self.died = true;
                format!("{words} was broken off: {error}")
            }
        })
    }
}

/// Reads and checks the configuration, and logs what should be changed in it.
///
/// # Errors
/// When it can't be read, or is none.
pub fn read_config(
    monitor: &MonitorClient,
    file: &Path,
) -> Result<(Config, ConfigText, Capabilities), Failure> {
    let read = |helper: &mut Helper| {
        helper.config(|text| {
            let config = config_file::parse(file, &text)?;
            Ok((config, text))
        })
    };
    let ((config, text), capabilities) = monitor.with_helper(HelperKind::Config, read)?;
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok((config, text, capabilities))
}

/// A helper has answered something else.
fn odd(request: &HelperRequest) -> Failure {
    other(&format!("{} has brought nothing", request.about().1))
}

fn listening(
    request: &HelperRequest,
    (reply, mut fds): (HelperReply, Vec<OwnedFd>),
) -> Result<(UnixListener, FileId), Failure> {
    match (reply, fds.pop()) {
        (HelperReply::Listening(id), Some(fd)) => Ok((fd.into(), id)),
        _ => Err(odd(request)),
    }
}
