//! The restricted sockets: opening and closing them as the configuration says, and what their
//! clients may ask.

use std::{collections::HashMap, os::unix::net::UnixListener, path::PathBuf, sync::Arc};

use super::helpers::MonitorClient;
use super::{control_socket::SocketFile, replies::no_account};
use crate::config::RestrictedSocket;
use crate::control::{Asker, FULL};
use crate::core::access::{self, Denial};
use crate::error::{Exit, Failure};
use crate::serve::{Listener, Remote};
use crate::server::base::{error::other, log::ACCESS};
use crate::server::ipc::{capability::Capabilities, helper_messages::HelperKind};
use crate::view::AccountView;
use crate::wire::{NOT_ALLOWED, Reply, Request};
use crate::{lock::Lock, paths};

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
    /// Those of them that are new.
    opened: Vec<OpenSocket>,
}

impl Plan {
    fn add(&mut self, rules: &RestrictedSocket, listener: UnixListener, file: SocketFile) {
        self.opened.push(OpenSocket {
            rules: Arc::new(rules.clone()),
            file,
            listener: Arc::new(listener),
        });
    }
}

impl Drop for Plan {
    /// What wasn't put into force leaves nothing behind.
    fn drop(&mut self) {
        for socket in &self.opened {
            socket.file.remove_with(&self.monitor, &socket.listener);
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
        wanted: &[RestrictedSocket],
        capabilities: &Capabilities,
    ) -> Result<Plan, Failure> {
        self.monitor.with_helper(HelperKind::Sockets, |helper| {
            let mut plan = self.plan(wanted);
            for rules in wanted.iter().filter(|it| !self.is_open(&it.path)) {
                let path = paths::expand(&rules.path)
                    .ok_or_else(|| other(&format!("no home directory for {}", rules.path)))?;
                let (listener, id) = helper.listen(&rules.path, capabilities)?;
                plan.add(rules, listener, SocketFile::known(&path, id));
            }
            Ok(plan)
        })
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
        for socket in std::mem::take(&mut plan.opened) {
            match socket.listener.try_clone().and_then(Listener::new) {
                Ok(served) => {
                    let number = self.state.with(|state| {
                        state.last = state.last.saturating_add(1);
                        let number = FULL.saturating_add(state.last);
                        state.open.insert(number, socket);
                        number
                    });
                    self.server.open(number, served);
                }
                Err(error) => {
                    log::error!("can't serve the socket {}: {error}", socket.rules.path);
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

    /// Goes on with a predecessor's sockets; those that aren't wanted go.
    pub fn adopt(&self, sockets: Vec<(PathBuf, UnixListener)>, wanted: &[RestrictedSocket]) {
        let mut plan = self.plan(wanted);
        for (path, listener) in sockets {
            let Ok(file) = SocketFile::of(&path) else {
                continue;
            };
            let is_there = |it: &RestrictedSocket| paths::expand(&it.path).as_ref() == Some(&path);
            match wanted.iter().find(|it| is_there(it)) {
                // A service manager may have an earlier one of the same path.
                Some(_) if plan.opened.iter().any(|it| is_there(&it.rules)) => {}
                Some(rules) => plan.add(rules, listener, file),
                None => file.remove_with(&self.monitor, &listener),
            }
        }
        self.commit(plan);
    }

    /// The sockets, for another server.
    pub fn sockets(&self) -> Vec<Arc<UnixListener>> {
        self.state.with(|state| {
            let open = state.open.values();
            open.map(|socket| socket.listener.clone()).collect()
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

    /// Whether `asker` may ask something with this verb.
    ///
    /// # Errors
    /// When it may not, or its socket has just been closed.
    pub fn permit(&self, asker: &Asker, verb: &str) -> Result<(), Reply> {
        self.judge(asker, verb, None).map(drop)
    }

    /// How much `asker` may see of the answer to its request. An authorisation URL goes through no
    /// restricted socket: a process that has it could sign in as another user.
    ///
    /// # Errors
    /// As those of [`RestrictedSockets::permit`].
    pub fn admit(&self, asker: &Asker, request: &mut Request) -> Result<Admitted, Reply> {
        let verb = request.verb();
        let args = match request {
            Request::Show(args) => Some((&args.account, &mut args.no_url)),
            Request::Refresh(args) => Some((&args.account, &mut args.no_url)),
            _ => None,
        };
        let account = args.map(|(account, no_url)| {
            *no_url |= asker.listener != FULL;
            account.as_str()
        });
        let admitted = self.judge(asker, verb, account)?;
        if let Admitted::To(rules) = &admitted {
            let words = words(rules, asker, verb, account);
            log::info!(target: ACCESS, "{words}");
        }
        Ok(admitted)
    }

    fn judge(&self, asker: &Asker, verb: &str, account: Option<&str>) -> Result<Admitted, Reply> {
        if asker.listener == FULL {
            return Ok(Admitted::Fully);
        }
        let rules = self.state.with(|state| {
            let socket = state.open.get(&asker.listener);
            socket.map(|socket| socket.rules.clone())
        });
        let rules = rules.ok_or_else(|| refused("this socket has just been closed"))?;
        let Err(denial) = access::judge(&rules, verb, account) else {
            return Ok(Admitted::To(rules));
        };
        let words = words(&rules, asker, verb, account);
        log::warn!(target: ACCESS, "{words} was refused");
        Err(match denial {
            Denial::Never => refused(NOT_ALLOWED),
            Denial::NotHere(allowed) => {
                refused(&format!("this socket doesn't allow `{}`", allowed.name()))
            }
            Denial::NoAccount => no_account(account.unwrap_or_default()),
        })
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
    /// As much of an account as the client may see: of one that isn't there for it, nothing.
    pub fn shown(&self, view: AccountView) -> Option<AccountView> {
        match self {
            Admitted::Fully => Some(view),
            Admitted::To(rules) => {
                access::sees(rules, &view.account).then(|| access::without_sign_in(view))
            }
        }
    }
}

/// A request in words for the log.
fn words(rules: &RestrictedSocket, asker: &Asker, verb: &str, account: Option<&str>) -> String {
    let about = account.map(|name| format!(" {}", crate::text::sanitize(name)));
    let pid = asker.pid.map(|pid| format!("process {pid} of "));
    let (about, pid) = (about.unwrap_or_default(), pid.unwrap_or_default());
    format!(
        "socket {}: {verb}{about} by {pid}user {}",
        rules.path, asker.uid
    )
}

fn refused(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
