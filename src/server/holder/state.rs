//! A server that runs: its parts, and its life.

use std::{io, path::PathBuf, sync::Arc, thread};

use super::life::{AskedBy, Life};
use super::redirect_ports::{RedirectInfo, RedirectPorts};
use super::{
    control_socket::ControlSocket, effects::Effects, engine::Engine, fdstore,
    helpers::MonitorClient, proxies::Proxies, restricted::RestrictedSockets,
};
use crate::server::base::sandbox::Sandbox;
use crate::{control, lock::Lock, serve::Remote, wire::Reply};

/// The stack of the threads that serve and of jobs, in bytes: config parsing goes deepest.
pub const STACK: usize = 1 << 20;

/// A server that runs, as all of its threads see it.
pub struct Holder {
    /// The core.
    pub engine: Arc<Engine>,
    /// Who does what it says: hooks, token files, the servers of clients and of browsers.
    pub effects: Arc<Effects>,
    /// The line to the monitor.
    pub monitor: Arc<MonitorClient>,
    /// The control socket.
    pub socket: ControlSocket,
    /// The restricted sockets.
    pub restricted: RestrictedSockets,
    /// The processes of the proxies.
    pub proxies: Proxies,
    /// The redirect listeners' sockets, for a successor.
    pub redirects: Lock<RedirectPorts>,
    /// What the redirect listeners are.
    pub redirect_info: Arc<RedirectInfo>,
    /// The configuration.
    pub config_file: PathBuf,
    /// How often it was restarted in place.
    pub restarts: u32,
    /// What the process has given up.
    pub sandbox: Sandbox,
    /// What it is doing.
    pub life: Lock<Life>,
    /// How the last restart, or the one under way, goes.
    pub restart: Lock<RestartProgress>,
    /// How many requests are being dealt with on threads of their own.
    pub requests: Lock<usize>,
}

/// How a restart goes.
#[derive(Default)]
pub struct RestartProgress {
    /// The main thread is to do it.
    pub wanted: bool,
    /// Why the last one failed.
    pub failure: Option<String>,
}

impl Holder {
    /// Does `work` on a thread of its own, which may wait for a disk. `work` guards itself against
    /// panics: only it knows who waits for its end.
    ///
    /// # Errors
    /// When there can't be another thread.
    pub fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce(&Arc<Holder>) + Send + 'static,
    ) -> io::Result<()> {
        let theirs = self.clone();
        let thread = thread::Builder::new().name(name.into()).stack_size(STACK);
        thread.spawn(move || work(&theirs))?;
        Ok(())
    }

    /// The servers of clients and of browsers.
    pub fn servers(&self) -> [&Remote; 2] {
        [&self.effects.clients, &self.effects.browsers]
    }

    /// How many requests are being dealt with on threads of their own.
    pub fn requests_under_way(&self) -> usize {
        self.requests.with(|count| *count)
    }

    /// Answers clients that wait for this; signals hear nothing.
    pub fn reply(&self, to: &[AskedBy], reply: &Reply) {
        for id in to.iter().flatten() {
            self.effects.clients.send(*id, control::encode(reply), true);
        }
    }

    /// Whether it is to end.
    pub fn is_stopping(&self) -> bool {
        self.life.with(|life| life.is_stopping())
    }

    /// Removes the sockets' files, so that no client finds them any more; once.
    pub fn hide(&self) {
        self.socket.remove();
        self.restricted.remove();
        // Without proxies there is nothing to start.
        let _ = self.proxies.replace(&[]);
    }

    /// Has the main thread end, once the sockets can't be found any more.
    pub fn stop(&self) {
        self.hide();
        self.life.with(|life| life.finish(false));
        self.effects.alarm.ring();
    }

    /// The same for a service manager, which may start another server: if it keeps something for
    /// that, the sockets stay.
    pub fn leave(&self) {
        self.life.with(|life| life.finish(fdstore::is_there()));
        self.effects.alarm.ring();
    }
}
