//! The processes of the proxies: one that takes programs, and earlier ones in which sessions go on.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::control_socket::SocketFile;
use super::helpers::MonitorClient;
use crate::config::Proxy;
use crate::server::base::{activation, clock};
use crate::server::ipc::helper_messages::{HelperKind, HelperRequest, RequestLine};
use crate::server::ipc::memfd;
use crate::server::ipc::slots::{Slot, SlotReader, SlotWriter};
use crate::{error::Failure, lock::Lock, view::ProxyView};

/// How long there is from one process to the next that takes its place: what kills every one must not
/// keep a processor busy.
const PAUSE: Duration = Duration::from_secs(1);

/// All of them.
pub struct Proxies {
    monitor: Arc<MonitorClient>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// The proxies of the configuration in force; of a successor, none is known to be.
    wanted: Option<Vec<Proxy>>,
    /// Their sockets, for the next process.
    sockets: Vec<Arc<OwnedFd>>,
    /// The process that takes programs.
    current: Option<Process>,
    /// Those that drain.
    earlier: Vec<Process>,
}

struct Process {
    line: RequestLine,
    /// Of what its sessions are counted, in this order.
    of: Vec<Named>,
    counts: Arc<File>,
    since: Instant,
}

impl Process {
    fn has_ended(&self) -> bool {
        let line = self.line.socket();
        let end = PollFd::new(line.as_fd(), PollFlags::empty());
        poll(&mut [end], PollTimeout::ZERO) == Ok(1)
    }

    /// Tells it to let nobody in any more.
    fn drain(&self) {
        // One that was killed hears nothing.
        let _ = self.line.send(&HelperRequest::Drain, &[]);
    }
}

/// The address of a proxy, and its account.
type Named = (Arc<str>, Arc<str>);

/// The proxies for a successor.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxiesState {
    sockets: Vec<Slot>,
    /// The line, what the sessions are of, and what counts them; first of the process that takes
    /// programs.
    processes: Vec<(Slot, Vec<Named>, Slot)>,
}

impl Proxies {
    /// None yet.
    pub fn new(monitor: Arc<MonitorClient>) -> Self {
        Proxies {
            monitor,
            state: Lock::default(),
        }
    }

    /// Has a process listen for those that are `wanted`, unless the one that there is does; that one
    /// drains.
    ///
    /// # Errors
    /// When one can't be listened for; nothing has changed then.
    pub fn replace(&self, wanted: &[Proxy]) -> Result<(), Failure> {
        let (stays, open) = self.state.with(|state| {
            let serves = match &state.current {
                Some(process) => !process.has_ended(),
                None => wanted.is_empty(),
            };
            let stays = serves && state.wanted.as_deref() == Some(wanted);
            (stays, state.sockets.clone())
        });
        if stays {
            return Ok(());
        }
        let (mut process, mut sockets) = (None, Vec::new());
        if !wanted.is_empty() {
            let open: Vec<_> = open.iter().map(AsFd::as_fd).collect();
            let mut helper = self.monitor.helper(HelperKind::Proxies)?;
            let (counts, fds) = helper.start_proxies(&open)?;
            let named = |proxy: &Proxy| (proxy.address.clone(), proxy.account.clone());
            sockets = fds.into_iter().map(Arc::new).collect();
            process = Some(Process {
                line: helper.into_line(),
                of: wanted.iter().map(named).collect(),
                counts: Arc::new(counts),
                since: Instant::now(),
            });
        }
        self.state.with(|state| {
            state.earlier.retain(|it| !it.has_ended());
            if let Some(process) = state.current.take() {
                process.drain();
                state.earlier.push(process);
            }
            (state.wanted, state.current) = (Some(wanted.to_vec()), process);
            state.sockets = sockets;
        });
        self.remove_files(&open);
        Ok(())
    }

    /// Has whoever comes from now on wait for the next process, of this server or of another.
    pub fn drain(&self) {
        self.state
            .with(|state| state.current.iter().for_each(Process::drain));
    }

    /// The sockets at which programs are waited for.
    pub fn sockets(&self) -> Vec<Arc<OwnedFd>> {
        self.state.with(|state| state.sockets.clone())
    }

    /// What a service manager has kept of them.
    pub fn inherit(&self, sockets: Vec<OwnedFd>) {
        let sockets = sockets.into_iter().map(Arc::new).collect();
        self.state.with(|state| state.sockets = sockets);
    }

    /// Removes the files of those of `sockets` that nobody listens at any more.
    fn remove_files(&self, sockets: &[Arc<OwnedFd>]) {
        let paths = |sockets: &[Arc<OwnedFd>]| -> Vec<(PathBuf, UnixListener)> {
            let sockets = sockets.iter().filter_map(|it| it.try_clone().ok());
            sockets.filter_map(activation::listener).collect()
        };
        let kept = paths(&self.sockets());
        for (path, socket) in paths(sockets) {
            let file = SocketFile::of(&path);
            if let (Ok(file), false) = (file, kept.iter().any(|(it, _)| *it == path)) {
                file.remove_with(&self.monitor, &socket);
            }
        }
    }

    /// Readable when the process that takes programs has ended.
    pub fn line(&self) -> Option<Arc<UnixStream>> {
        self.state
            .with(|state| Some(state.current.as_ref()?.line.socket()))
    }

    /// Whether another process is to take its place.
    pub fn has_ended(&self) -> bool {
        self.state
            .with(|state| state.current.as_ref().is_some_and(Process::has_ended))
    }

    /// Forgets the process that has ended; since when it was there.
    pub fn bury(&self) -> Option<Instant> {
        let process = self.state.with(|state| state.current.take());
        process.map(|it| it.since)
    }

    /// Starts another one, for one that was there `since` then: at once, or after a pause, since what
    /// kills every one is likely still there.
    pub fn revive(&self, since: Option<Instant>) {
        log::error!("the proxies' process was killed: another one goes on");
        let early = since.map(|since| PAUSE.saturating_sub(since.elapsed()));
        let _ = poll(&mut [], clock::poll_timeout(early.unwrap_or_default()));
        let wanted = self.state.with(|state| state.wanted.clone());
        if let Err(failure) = self.replace(&wanted.unwrap_or_default()) {
            log::error!("the proxies are gone until a reload: {failure}");
        }
    }

    /// How many sessions each proxy has, those from before a reload or a restart among them.
    pub fn views(&self) -> Vec<ProxyView> {
        let mut sessions = BTreeMap::new();
        self.state.with(|state| {
            for process in state.current.iter().chain(&state.earlier) {
                let (is_current, ended) = (sessions.is_empty(), process.has_ended());
                for (number, of) in process.of.iter().enumerate().filter(|_| !ended) {
                    let count = memfd::count(&process.counts, number);
                    if count > 0 || is_current {
                        let sum = sessions.entry(of.clone()).or_insert(0u64);
                        *sum = sum.saturating_add(count);
                    }
                }
            }
        });
        let sessions = sessions.into_iter();
        let view = |((address, account), sessions): (Named, u64)| ProxyView {
            address: address.to_string(),
            account: account.to_string(),
            sessions,
        };
        sessions.map(view).collect()
    }

    /// What a successor needs; the sockets and the lines go along.
    pub fn state(&self, fds: &mut SlotWriter) -> ProxiesState {
        self.state.with(|state| ProxiesState {
            sockets: state.sockets.iter().map(|it| fds.put(it.clone())).collect(),
            processes: (state.current.iter().chain(&state.earlier))
                .map(|it| {
                    (
                        fds.put(it.line.socket()),
                        it.of.clone(),
                        fds.put(it.counts.clone()),
                    )
                })
                .collect(),
        })
    }

    /// Goes on with what a predecessor had, until [`Proxies::replace`].
    ///
    /// # Errors
    /// When a descriptor is missing.
    pub fn adopt(&self, left: ProxiesState, fds: &mut SlotReader) -> io::Result<()> {
        let sockets = left.sockets.into_iter();
        let sockets = sockets.map(|it| fds.take(it).map(Arc::new));
        let sockets = sockets.collect::<io::Result<_>>()?;
        let processes = left.processes.into_iter().map(|(line, of, counts)| {
            Ok(Process {
                line: RequestLine::new(fds.take(line)?.into()),
                of,
                counts: Arc::new(fds.take(counts)?.into()),
                since: Instant::now(),
            })
        });
        let mut processes = processes.collect::<io::Result<Vec<_>>>()?.into_iter();
        self.state.with(|state| {
            state.sockets = sockets;
            state.current = processes.next();
            state.earlier = processes.collect();
        });
        Ok(())
    }
}
