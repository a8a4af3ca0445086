//! The restricted sockets: opening and closing them as the configuration says, and what their
//! clients may ask.

use std::{
    collections::HashMap,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixListener,
    },
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    broker::{Broker, Hand},
    log::ACCESS,
    other,
    place::SocketFile,
    seals::Seals,
    verbs,
};
use crate::{
    config::{Allowed, RestrictedSocket},
    control::{Asker, FULL},
    error::{Exit, Failure},
    paths,
    serve::{Listener, Remote},
    wire::{NOT_ALLOWED, Reply, Request},
};

/// The restricted sockets that are open.
pub struct Doors {
    server: Remote,
    broker: Arc<Broker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The greatest number that a listener has had.
    last: usize,
    open: HashMap<usize, Door>,
}

struct Door {
    rules: Arc<RestrictedSocket>,
    file: SocketFile,
    /// The same socket as the server's, for a successor.
    socket: UnixListener,
}

/// What a new configuration changes, ready to be put into force without fail.
pub struct Plan {
    wanted: Vec<RestrictedSocket>,
    /// Those of them that are new, with their files.
    opened: Vec<(Arc<str>, UnixListener, SocketFile)>,
}

impl Drop for Plan {
    /// What wasn't put into force leaves nothing behind.
    fn drop(&mut self) {
        for (_, listener, file) in &self.opened {
            file.remove(Some(listener.as_fd()));
        }
    }
}

impl Doors {
    /// None yet; `server` is to accept their connections.
    pub fn new(server: Remote, broker: Arc<Broker>) -> Self {
        Doors {
            server,
            broker,
            state: Mutex::default(),
        }
    }

    /// Listens on those of `wanted` that aren't open.
    ///
    /// # Errors
    /// When one can't be; nothing has changed then.
    pub fn prepare(
        &self,
        hand: &Hand,
        wanted: &[RestrictedSocket],
        seals: &Seals,
    ) -> Result<Plan, Failure> {
        let mut plan = Plan {
            wanted: wanted.to_vec(),
            opened: Vec::new(),
        };
        for socket in wanted {
            if self.number_of(&socket.path).is_some() {
                continue;
            }
            let path = paths::expand(&socket.path)
                .ok_or_else(|| other(&format!("no home directory for {}", socket.path)))?;
            let (listener, id) = hand.listen(&socket.path, seals)?;
            let file = SocketFile::known(&path, id, &self.broker);
            plan.opened.push((socket.path.clone(), listener, file));
        }
        Ok(plan)
    }

    /// Puts a plan into force: opens what is new, closes what has gone, changes the rules of what
    /// stays.
    pub fn commit(&self, mut plan: Plan) {
        for (number, door) in self.close_all_but(&plan.wanted) {
            door.file.remove(Some(door.socket.as_fd()));
            self.server.close(number);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { last, open } = &mut *state;
        for (path, listener, file) in std::mem::take(&mut plan.opened) {
            let Some(rules) = plan.wanted.iter().find(|it| it.path == path) else {
                continue;
            };
            let number = FULL.saturating_add(*last).saturating_add(1);
            let opened = listener.try_clone().and_then(|socket| {
                self.server.open(number, Listener::unix(socket)?);
                Ok(())
            });
            match opened {
                Ok(()) => {
                    let rules = Arc::new(rules.clone());
                    let door = Door {
                        rules,
                        file,
                        socket: listener,
                    };
                    open.insert(number, door);
                    *last = last.saturating_add(1);
                }
                Err(error) => {
                    log::error!("can't serve the socket {path}: {error}");
                    file.remove(Some(listener.as_fd()));
                }
            }
        }
    }

    /// Lets nobody in by the doors that aren't wanted any more; those that are get their new rules.
    fn close_all_but(&self, wanted: &[RestrictedSocket]) -> Vec<(usize, Door)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        for (number, mut door) in std::mem::take(&mut state.open) {
            match wanted.iter().find(|it| it.path == door.rules.path) {
                Some(rules) => {
                    door.rules = Arc::new(rules.clone());
                    state.open.insert(number, door);
                }
                None => gone.push((number, door)),
            }
        }
        gone
    }

    /// Goes on with a predecessor's sockets.
    pub fn adopt(&self, handed: Vec<(Arc<str>, UnixListener)>, wanted: &[RestrictedSocket]) {
        let mut plan = Plan {
            wanted: wanted.to_vec(),
            opened: Vec::new(),
        };
        for (path, listener) in handed {
            let file = paths::expand(&path);
            let file = file.and_then(|path| SocketFile::of(&path, &self.broker).ok());
            match file {
                Some(file) if wanted.iter().any(|it| it.path == path) => {
                    plan.opened.push((path, listener, file));
                }
                Some(file) => file.remove(Some(listener.as_fd())),
                None => {}
            }
        }
        self.commit(plan);
    }

    /// Calls `act` with what there is to hand over: paths and sockets.
    pub fn with_sockets<T>(&self, act: impl FnOnce(Vec<(Arc<str>, BorrowedFd)>) -> T) -> T {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.open.values();
        act(open
            .map(|door| (door.rules.path.clone(), door.socket.as_fd()))
            .collect())
    }

    /// Removes their files: nobody finds them any more.
    pub fn remove(&self) {
        for (_, door) in self.close_all_but(&[]) {
            door.file.remove(Some(door.socket.as_fd()));
        }
    }

    fn number_of(&self, path: &str) -> Option<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = state.open.iter();
        open.find(|(_, door)| &*door.rules.path == path)
            .map(|(number, _)| *number)
    }

    /// What may be asked of `asker`'s request; `None` when anything may.
    ///
    /// # Errors
    /// When this may not, or the door has just been closed.
    pub fn admit(&self, asker: &Asker, request: &mut Request) -> Result<Admitted, Reply> {
        if asker.listener == FULL {
            return Ok(Admitted::Fully);
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let door = state.open.get(&asker.listener);
        let rules = door.map(|door| door.rules.clone());
        drop(state);
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
            Admitted::To(rules) => rules.accounts.iter().any(|name| **name == *account),
        }
    }
}

/// The request in words for the log, and whether `rules` allow it. An authorisation URL goes to
/// nobody through a restricted socket: whoever has it could sign in as somebody else.
fn judge(rules: &RestrictedSocket, request: &mut Request) -> (String, Result<(), Reply>) {
    let (allowed, args) = match request {
        Request::Show(args) => (Allowed::Show, Some((&args.account, &mut args.no_url))),
        Request::Refresh(args) => (Allowed::Refresh, Some((&args.account, &mut args.no_url))),
        Request::Status => (Allowed::Status, None),
        Request::Auth(_)
        | Request::Await(_)
        | Request::Dump
        | Request::Info
        | Request::Redirect(_)
        | Request::Reload
        | Request::Restart
        | Request::Restore(_)
        | Request::Revoke(_)
        | Request::Shutdown
        | Request::Watch => {
            return (request.verb().into(), Err(refused(NOT_ALLOWED)));
        }
    };
    let verb = allowed.name();
    let words = match &args {
        Some((account, _)) => {
            format!("{verb} {}", crate::text::sanitize(account))
        }
        None => verb.into(),
    };
    if !rules.allow.contains(&allowed) {
        let why = format!("this socket doesn't allow `{verb}`");
        return (words, Err(refused(&why)));
    }
    let Some((account, no_url)) = args else {
        return (words, Ok(()));
    };
    if !rules.accounts.iter().any(|name| **name == **account) {
        let reply = verbs::no_account(account);
        return (words, Err(reply));
    }
    *no_url = true;
    (words, Ok(()))
}

fn refused(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
