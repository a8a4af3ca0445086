//! What a holder is made of, before it answers.

use std::path::{Path, PathBuf};
use std::{fs::File, io, os::unix::net::UnixListener, sync::Arc};

use nix::fcntl::Flock;

use super::checkpoints::StateKeeper;
use super::control_socket::{self, ControlSocket, SocketFile};
use super::main_thread::{MainThread, Turns};
use super::redirect_ports::{RedirectInfo, RedirectPorts};
use super::sandbox::Sandbox;
use super::state::{Holder, RestartProgress};
use super::{
    effects::Effects, engine::Engine, fdstore, helpers::MonitorClient, hooks::Hooks, life::Life,
    provider::Provider, redirects, restricted::RestrictedSockets, socket_watch::SocketWatch,
    timer::Timer, token_files::TokenFiles,
};
use crate::config::{Config, RestrictedSocket};
use crate::core::{Core, CoreState};
use crate::redirect::{Pages, Site};
use crate::serve::{self, Inbox, Remote};
use crate::server::base::clock;
use crate::server::base::error::{cant, other};
use crate::server::base::signals::{ServerSignal, SignalWatch};
use crate::server::ipc::{helper_messages::HelperKind, line::Line, monitor_messages::MonitorEvent};
use crate::{alarm::Alarm, error::Failure, lock::Lock, paths::Address};

/// All but the sockets.
pub struct Parts {
    /// The core.
    pub engine: Arc<Engine>,
    /// The lines to the hook runners.
    pub hooks: Arc<Hooks>,
    monitor: Arc<MonitorClient>,
    files: Arc<TokenFiles>,
    redirects: RedirectPorts,
    redirect_info: Arc<RedirectInfo>,
    /// Keeps the state for a successor.
    pub keeper: Arc<StateKeeper>,
    turns: Turns,
    clients: (Remote, Inbox),
    browsers: (Remote, Inbox),
    pages: Arc<Pages>,
}

/// Where clients find the server.
pub struct Place {
    /// The socket's path, and the lock's.
    pub address: Address,
    /// The lock.
    pub lock: Flock<File>,
    /// Watches the socket; made before the process gives up looking at mounts.
    pub watch: SocketWatch,
}

/// The sockets on which clients are served.
pub struct ClientSockets {
    control: UnixListener,
    /// The control socket's file, unless that is a service manager's.
    file: Option<SocketFile>,
    restricted: RestrictedSockets,
}

/// What the two servers serve.
pub struct Sockets {
    /// The control socket, and the server's end of its remote.
    pub control: UnixListener,
    /// See there.
    pub clients: Inbox,
    /// The redirect listeners, the pages that they show, and the server's end of their remote.
    pub sites: Vec<Site>,
    /// See there.
    pub pages: Arc<Pages>,
    /// See there.
    pub browsers: Inbox,
}

impl Parts {
    /// Puts them together.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(
        config: Config,
        redirects: RedirectPorts,
        events: Line<(), MonitorEvent>,
        monitor: Arc<MonitorClient>,
    ) -> io::Result<Self> {
        let alarm = Arc::new(Alarm::new()?);
        let (clients, browsers) = (serve::remote()?, serve::remote()?);
        let pages = Pages::new(clock::name);
        let hooks = Arc::new(Hooks::new(events, monitor.clone()));
        let files = Arc::new(TokenFiles::new(monitor.clone()));
        let redirect_info = Arc::new(RedirectInfo::of(&redirects, &config));
        let keeper = Arc::new(StateKeeper::new(redirect_info.clone()));
        let effects = Effects {
            provider: Arc::new(Provider::new(monitor.clone())),
            hooks: hooks.clone(),
            files: files.clone(),
            settle: redirects::settle(browsers.0.clone(), pages.clone()),
            clients: clients.0.clone(),
            alarm: alarm.clone(),
            keeper: keeper.clone(),
        };
        let core = Core::new(config, redirects.ports);
        Ok(Parts {
            engine: Engine::new(core, Box::new(effects), alarm.clone()),
            hooks,
            monitor,
            files,
            redirects,
            redirect_info,
            keeper,
            turns: Turns {
                alarm,
                signals: SignalWatch::watch()?,
                timer: Timer::new()?,
            },
            clients,
            browsers,
            pages,
        })
    }

    /// Takes over what `state_load_cmd` prints, which lacks so many changes of a server before this.
    /// There is no socket yet: that command would wait for ever for an answer of this server.
    ///
    /// # Errors
    /// When a signal ends it.
    pub fn load(&mut self, unsaved: u64) -> Result<(), Failure> {
        self.engine.with(|core, cx| {
            core.inherit_unsaved(unsaved);
            core.start(cx);
        });
        while self.engine.with(|core, _| core.is_keeping()) {
            let signals = self.turns.turn(&self.engine, &self.hooks, None, None);
            if signals.map_err(cant)?.contains(&ServerSignal::Stop) {
                return Err(other("stopped while the saved tokens were being loaded"));
            }
        }
        Ok(())
    }

    /// Goes on from the state of a server that has ended. Nothing is sent before the state is this
    /// server's own: a start that fails must leave the next one unused tokens.
    pub fn adopt(&self, state: CoreState) {
        self.engine.with(|core, cx| {
            core.hold();
            core.adopt(cx, state);
            core.remind_again(cx);
        });
    }

    /// Goes on from the state of the holder before this one, which was killed or has made room.
    pub fn succeed(&self, state: CoreState, killed: bool) {
        self.engine.with(|core, cx| {
            core.adopt(cx, state);
            if killed {
                // Its commands may have heard of nothing.
                core.remind_again(cx);
            }
        });
        if killed {
            log::warn!("the state of the token holder that was killed was taken over");
        } else {
            log::info!("the server was restarted in place");
        }
    }

    fn wanted(&self) -> Vec<RestrictedSocket> {
        self.engine.with(|core, _| core.config().sockets.clone())
    }

    fn restricted(&self) -> RestrictedSockets {
        RestrictedSockets::new(self.clients.0.clone(), self.monitor.clone())
    }

    /// Opens the sockets, or takes those that are open; the control socket as the last, so that who
    /// finds it finds all.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(
        &self,
        path: &Path,
        given: Option<UnixListener>,
        left: &mut fdstore::Predecessor,
    ) -> Result<ClientSockets, Failure> {
        let mut helper = self.monitor.helper(HelperKind::Sockets)?;
        let (restricted, wanted) = (self.restricted(), self.wanted());
        restricted.adopt(left.restricted(&wanted), &wanted);
        let capabilities = self.monitor.capabilities();
        let plan = restricted.prepare(&mut helper, &wanted, &capabilities)?;
        let (control, file) = match (given, left.socket_at(path)) {
            // Its file is the service manager's.
            (Some(listener), _) => (listener, None),
            (None, Some(listener)) => (listener, Some(SocketFile::of_open(path))),
            (None, None) => {
                let (listener, file) = control_socket::listen(&mut helper, path)?;
                (listener, Some(file))
            }
        };
        restricted.commit(plan);
        Ok(ClientSockets {
            control,
            file,
            restricted,
        })
    }

    /// The same with what a predecessor had open.
    pub fn reopen(
        &self,
        path: &Path,
        control: UnixListener,
        given: bool,
        open: Vec<(Arc<str>, UnixListener)>,
    ) -> ClientSockets {
        let (restricted, wanted) = (self.restricted(), self.wanted());
        restricted.adopt(open, &wanted);
        let capabilities = self.monitor.capabilities();
        let prepared = (self.monitor.helper(HelperKind::Sockets))
            .and_then(|mut helper| restricted.prepare(&mut helper, &wanted, &capabilities));
        match prepared {
            Ok(plan) => restricted.commit(plan),
            // No reason to lose all the others, and the tokens.
            Err(failure) => log::error!("{failure}"),
        }
        ClientSockets {
            control,
            file: (!given).then(|| SocketFile::of_open(path)),
            restricted,
        }
    }

    /// The server, and what it serves.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn finish(
        self,
        config_file: PathBuf,
        place: Place,
        sockets: ClientSockets,
        sandbox: Sandbox,
        restarts: u32,
    ) -> Result<(MainThread, Sockets), Failure> {
        self.engine.with(|core, cx| core.publish(cx));
        let control = sockets.control.try_clone().map_err(cant)?;
        let sites = self.redirects.sites().map_err(cant)?;
        let Place {
            address,
            lock,
            watch,
        } = place;
        let (monitor, file) = (self.monitor.clone(), sockets.file);
        let remotes = [self.clients.0.clone(), self.browsers.0];
        let holder = Holder {
            engine: self.engine,
            socket: ControlSocket::new(address, monitor, lock, sockets.control, file),
            monitor: self.monitor,
            hooks: self.hooks,
            files: self.files,
            clients: self.clients.0,
            restricted: sockets.restricted,
            redirects: Lock::new(self.redirects),
            redirect_info: self.redirect_info,
            keeper: self.keeper,
            config_file,
            restarts,
            sandbox,
            life: Lock::new(Life::new()),
            restart: Lock::new(RestartProgress::default()),
            requests: Lock::new(0),
            alarm: self.turns.alarm.clone(),
        };
        let main = MainThread::new(Arc::new(holder), self.turns, watch, remotes);
        let sockets = Sockets {
            control,
            clients: self.clients.1,
            sites,
            pages: self.pages,
            browsers: self.browsers.1,
        };
        Ok((main, sockets))
    }
}
