//! What a holder is made of, before it answers.

use std::path::PathBuf;
use std::{fs::File, os::unix::net::UnixListener, sync::Arc};

use nix::fcntl::Flock;

use super::checkpoints::StateKeeper;
use super::control_socket::{ControlSocket, SocketFile};
use super::main_thread::MainThread;
use super::network_watch::NetworkWatch;
use super::proxies::Proxies;
use super::redirect_ports::{RedirectInfo, RedirectPorts};
use super::restricted::RestrictedSockets;
use super::state::Holder;
use super::{
    effects::Effects, engine::Engine, helpers::Helper, helpers::MonitorClient, hooks::Hooks,
    provider::Provider, socket_watch::SocketWatch, token_files::TokenFiles,
};
use crate::config::Config;
use crate::core::{Core, CoreState};
use crate::redirect::Pages;
use crate::serve::{self, Inbox, Listener};
use crate::server::base::error::cant;
use crate::server::base::sandbox::{self, Sandbox};
use crate::server::base::{clock, runtime_files};
use crate::server::ipc::{
    helper_messages::HelperKind,
    line::Line,
    monitor_messages::{HolderLines, MonitorEvent},
};
use crate::{
    alarm::Alarm,
    error::Failure,
    lock::Lock,
    paths::{self, Address},
};

/// What a holder has before it knows its configuration.
pub struct Place {
    /// The socket's path, and the lock's.
    pub address: Address,
    /// The configuration's file.
    pub config_file: PathBuf,
    /// What the process has given up.
    pub sandbox: Sandbox,
    /// The line to the monitor.
    pub monitor: Arc<MonitorClient>,
    events: Line<(), MonitorEvent>,
    /// Watches the socket; made before the process gives up looking at mounts.
    watch: SocketWatch,
    /// Watches the network; made before the process gives up system calls.
    network: NetworkWatch,
}

impl Place {
    /// Of a process that has begun just now.
    ///
    /// # Errors
    /// When it can't be told where the socket is to be, or the lines are of no use.
    pub fn new(config_file: PathBuf, lines: HolderLines) -> Result<Self, Failure> {
        let sandbox = sandbox::harden();
        let address = paths::address()?;
        let monitor = MonitorClient::new(lines.requests).map_err(cant)?;
        Ok(Place {
            watch: SocketWatch::new(&address.socket),
            network: NetworkWatch::new(),
            address,
            config_file,
            sandbox,
            monitor: Arc::new(monitor),
            events: lines.events,
        })
    }

    /// Gives up the file system, ports, signals and system calls.
    pub fn confine(&mut self) {
        self.sandbox.confine(&self.address.socket);
        self.sandbox.deny_calls();
    }

    /// A holder whose sockets aren't open yet, restarted so often in place, and the servers' ends of the
    /// clients' remote and of the browsers'.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn assemble(
        self,
        lock: Flock<File>,
        restarts: u32,
        config: Config,
        redirects: RedirectPorts,
    ) -> Result<(MainThread, [Inbox; 2]), Failure> {
        let monitor = self.monitor;
        let alarm = Alarm::new().map_err(cant)?;
        let (clients, client_inbox) = serve::remote().map_err(cant)?;
        let (browsers, browser_inbox) = serve::remote().map_err(cant)?;
        let redirect_info = Arc::new(RedirectInfo::of(&redirects, &config));
        let effects = Arc::new(Effects {
            provider: Arc::new(Provider::new(monitor.clone())),
            hooks: Arc::new(Hooks::new(self.events, monitor.clone())),
            files: Arc::new(TokenFiles::new(monitor.clone())),
            browsers,
            pages: Pages::new(clock::name),
            clients,
            alarm: Arc::new(alarm),
            keeper: Arc::new(StateKeeper::new(redirect_info.clone())),
        });
        let mut core = Core::new(config, redirect_info.ports);
        core.know_last_change(runtime_files::last_change(&lock));
        let holder = Holder {
            engine: Engine::new(core, effects.clone()),
            socket: ControlSocket::new(self.address, monitor.clone(), lock),
            restricted: RestrictedSockets::new(effects.clients.clone(), monitor.clone()),
            proxies: Proxies::new(monitor.clone()),
            effects,
            monitor,
            redirects: Lock::new(redirects),
            redirect_info,
            config_file: self.config_file,
            restarts,
            sandbox: self.sandbox,
            life: Lock::default(),
            restart: Lock::default(),
            requests: Lock::default(),
        };
        let main = MainThread::new(Arc::new(holder), self.watch, self.network);
        Ok((main.map_err(cant)?, [client_inbox, browser_inbox]))
    }
}

impl Holder {
    /// Goes on from the state of a server that has ended. If its commands have, too, they may have heard
    /// of nothing, and `repeats` has them run again: all of them, or those that hadn't ended by
    /// themselves. Nothing is sent before the state is this server's own: a start that fails must leave
    /// the next one unused tokens.
    pub fn adopt(&self, state: CoreState, repeats: Option<bool>) {
        self.engine.with(|core, cx| {
            core.hold();
            core.adopt(cx, state);
            if let Some(all) = repeats {
                core.remind_again(cx, all);
            }
        });
    }

    /// Opens the sockets, or takes those that are open: the control socket as the last, so that who
    /// finds it finds all. That is returned, to be served. With `given` its file is a service
    /// manager's. A server that `goes_on` does without what can't be opened: that is no reason to lose
    /// all the others, and the tokens.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(
        &self,
        control: Option<UnixListener>,
        given: bool,
        restricted: Vec<(PathBuf, UnixListener)>,
        goes_on: bool,
    ) -> Result<Listener, Failure> {
        let (proxies, wanted) = self.engine.with(|core, _| {
            let config = core.config();
            (config.proxies.clone(), config.sockets.clone())
        });
        self.restricted.adopt(restricted, &wanted);
        spare(self.proxies.replace(&proxies), goes_on)?;
        let capabilities = self.monitor.capabilities();
        let plan = spare(self.restricted.prepare(&wanted, &capabilities), goes_on)?;
        let path = self.socket.path();
        let (control, file) = match control {
            Some(control) => (control, (!given).then(|| SocketFile::of_open(path))),
            None => {
                let listening =
                    (self.monitor).with_helper(HelperKind::Sockets, Helper::listen_control)?;
                let (control, id) = listening.ok_or_else(runtime_files::already_running)?;
                (control, Some(SocketFile::known(path, id)))
            }
        };
        if let Some(plan) = plan {
            self.restricted.commit(plan);
        }
        self.socket.opened(control, file).map_err(cant)
    }
}

/// What came of something that a server which `goes_on` can do without.
fn spare<T>(outcome: Result<T, Failure>, goes_on: bool) -> Result<Option<T>, Failure> {
    match outcome {
        Err(failure) if goes_on => {
            log::error!("{failure}");
            Ok(None)
        }
        outcome => outcome.map(Some),
    }
}
