//! The restricted sockets: opening and closing them as the configuration says, and what their
//! clients may ask.

use std::{collections::HashMap, os::unix::net::UnixListener, sync::Arc};

use super::helpers::{Helper, MonitorClient};
use super::{control_socket::SocketFile, replies::no_account};
use crate::control::{Asker, FULL};
use crate::core::access::{self, Denial, RestrictedRequest};
use crate::error::{Exit, Failure};
use crate::serve::{Listener, Remote};
use crate::server::base::{error::other, log::ACCESS};
use crate::server::ipc::capability::Capabilities;
use crate::wire::{NOT_ALLOWED, Reply, Request};
use crate::{config::RestrictedSocket, lock::Lock, paths};

/// The restricted sockets that are open.
pub struct RestrictedSockets {
    server: Remote,
    monitor: Arc<MonitorClient>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// The greatest number that a listener has had.
    last: usize,
    open: HashMap<usize, OpenSocket>,
}

struct OpenSocket {
    rules: Arc<RestrictedSocket>,
    file: SocketFile,
    /// The same socket as the server's, for a successor.
    listener: Arc<UnixListener>,
}

/// What a new configuration changes, ready to be put into force without fail.
pub struct Plan {
    monitor: Arc<MonitorClient>,
    wanted: Vec<RestrictedSocket>,
    /// Those of them that are new, with their files.
    opened: Vec<(Arc<str>, UnixListener, SocketFile)>,
}

impl Drop for Plan {
    /// What wasn't put into force leaves nothing behind.
    fn drop(&mut self) {
        for (_, listener, file) in &self.opened {
            file.remove_with(&self.monitor, listener);
        }
    }
}

impl RestrictedSockets {
    /// None yet; `server` is to accept their connections.
    pub fn new(server: Remote, monitor: Arc<MonitorClient>) -> Self {
        RestrictedSockets {
            server,
            monitor,
            state: Lock::default(),
        }
    }

    /// Listens on those of `wanted` that aren't open.
    ///
    /// # Errors
    /// When one can't be; nothing has changed then.
    pub fn prepare(
        &self,
        helper: &mut Helper,
        wanted: &[RestrictedSocket],
        capabilities: &Capabilities,
    ) -> Result<Plan, Failure> {
        let mut plan = self.plan(wanted);
        for socket in wanted {
            if self.is_open(&socket.path) {
                continue;
            }
            let path = paths::expand(&socket.path)
                .ok_or_else(|| other(&format!("no home directory for {}", socket.path)))?;
            let (listener, id) = helper.listen(&socket.path, capabilities)?;
            let file = SocketFile::known(&path, id);
            plan.opened.push((socket.path.clone(), listener, file));
        }
        Ok(plan)
    }

    fn plan(&self, wanted: &[RestrictedSocket]) -> Plan {
        Plan {
            monitor: self.monitor.clone(),
            wanted: wanted.to_vec(),
            opened: Vec::new(),
        }
    }

    /// Puts a plan into force: opens what is new, closes what has gone, changes the rules of what
    /// stays.
    pub fn commit(&self, mut plan: Plan) {
        for (number, socket) in self.close_all_but(&plan.wanted) {
            socket.file.remove_with(&self.monitor, &socket.listener);
            self.server.close(number);
        }
        for (path, listener, file) in std::mem::take(&mut plan.opened) {
            let Some(rules) = plan.wanted.iter().find(|it| it.path == path) else {
                continue;
            };
            let number = self.state.with(|state| {
                state.last = state.last.saturating_add(1);
                FULL.saturating_add(state.last)
            });
            let served = listener.try_clone().and_then(Listener::unix);
            let socket = OpenSocket {
                rules: Arc::new(rules.clone()),
                file,
                listener: Arc::new(listener),
            };
            match served {
                Ok(served) => {
                    self.state.with(|state| state.open.insert(number, socket));
                    self.server.open(number, served);
                }
                Err(error) => {
                    log::error!("can't serve the socket {path}: {error}");
                    socket.file.remove_with(&self.monitor, &socket.listener);
                }
            }
        }
    }

    /// Stops admitting clients by those that aren't wanted any more; the others get their new
    /// rules.
    fn close_all_but(&self, wanted: &[RestrictedSocket]) -> Vec<(usize, OpenSocket)> {
        self.state.with(|state| {
            let mut gone = Vec::new();
            for (number, mut socket) in std::mem::take(&mut state.open) {
                match wanted.iter().find(|it| it.path == socket.rules.path) {
                    Some(rules) => {
                        socket.rules = Arc::new(rules.clone());
                        state.open.insert(number, socket);
                    }
                    None => gone.push((number, socket)),
                }
            }
            gone
        })
    }

    /// Goes on with a predecessor's sockets.
    pub fn adopt(&self, sockets: Vec<(Arc<str>, UnixListener)>, wanted: &[RestrictedSocket]) {
        let mut plan = self.plan(wanted);
        for (path, listener) in sockets {
            let file = paths::expand(&path);
            let file = file.and_then(|path| SocketFile::of(&path).ok());
            match file {
                Some(file) if wanted.iter().any(|it| it.path == path) => {
                    plan.opened.push((path, listener, file));
                }
                Some(file) => file.remove_with(&self.monitor, &listener),
                None => {}
            }
        }
        self.commit(plan);
    }

    /// The state for a restart: paths and sockets.
    pub fn sockets(&self) -> Vec<(Arc<str>, Arc<UnixListener>)> {
        self.state.with(|state| {
            let open = state.open.values();
            open.map(|socket| (socket.rules.path.clone(), socket.listener.clone()))
                .collect()
        })
    }

    /// Removes their files, so that no client finds them any more.
    pub fn remove(&self) {
        for (_, socket) in self.close_all_but(&[]) {
            socket.file.remove_with(&self.monitor, &socket.listener);
        }
    }

    fn is_open(&self, path: &str) -> bool {
        self.state.with(|state| {
            state
                .open
                .values()
                .any(|socket| &*socket.rules.path == path)
        })
    }

    /// What may be asked of `asker`'s request; `None` when anything may.
    ///
    /// # Errors
    /// When this may not, or the socket has just been closed.
    pub fn admit(&self, asker: &Asker, request: &mut Request) -> Result<Admitted, Reply> {
        if asker.listener == FULL {
            return Ok(Admitted::Fully);
        }
        let rules = self.state.with(|state| {
            let socket = state.open.get(&asker.listener);
            socket.map(|socket| socket.rules.clone())
        });
        let Some(rules) = rules else {
            return Err(refused("this socket has just been closed"));
        };
        let (verb, outcome) = judge(&rules, request);
        let pid = asker.pid.map(|pid| format!("process {pid} of "));
        let who = format!("{}user {}", pid.unwrap_or_default(), asker.uid);
        match &outcome {
            Ok(()) => log::info!(target: ACCESS, "socket {}: {verb} by {who}", rules.path),
            Err(_) => {
                log::warn!(target: ACCESS, "socket {}: {verb} by {who} was refused", rules.path);
            }
        }
        outcome.map(|()| Admitted::To(rules))
    }
}

/// What a request may see.
pub enum Admitted {
    /// Everything.
    Fully,
    /// What a restricted socket shows.
    To(Arc<RestrictedSocket>),
}

impl Admitted {
    /// Whether this account is there as far as the client may tell.
    pub fn sees(&self, account: &str) -> bool {
        match self {
            Admitted::Fully => true,
            Admitted::To(rules) => access::sees(rules, account),
        }
    }
}

/// The request in words for the log, and whether `rules` allow it. An authorisation URL goes
/// through no restricted socket: a process that has it could sign in as another user.
fn judge(rules: &RestrictedSocket, request: &mut Request) -> (String, Result<(), Reply>) {
    let verb = request.verb();
    let (asked, no_url) = match request {
        Request::Show(args) => (
            RestrictedRequest::Show(&args.account),
            Some(&mut args.no_url),
        ),
        Request::Refresh(args) => (
            RestrictedRequest::Refresh(&args.account),
            Some(&mut args.no_url),
        ),
        Request::Status => (RestrictedRequest::Status, None),
        Request::Auth(_)
        | Request::Await(_)
        | Request::Dump
        | Request::Import(_)
        | Request::Info
        | Request::Redirect(_)
        | Request::Reload
        | Request::Restart
        | Request::Restore(_)
        | Request::Revoke(_)
        | Request::Shutdown
        | Request::Watch => (RestrictedRequest::Other, None),
    };
    let account = match asked {
        RestrictedRequest::Show(account) | RestrictedRequest::Refresh(account) => account,
        RestrictedRequest::Status | RestrictedRequest::Other => "",
    };
    let words = format!("{verb} {}", crate::text::sanitize(account));
    let outcome = access::judge(rules, asked).map_err(|denial| match denial {
        Denial::Never => refused(NOT_ALLOWED),
        Denial::NotHere(allowed) => {
            refused(&format!("this socket doesn't allow `{}`", allowed.name()))
        }
        Denial::NoAccount => no_account(account),
    });
    if let Some(no_url) = no_url {
        *no_url = true;
    }
    (words.trim_end().into(), outcome)
}

fn refused(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
