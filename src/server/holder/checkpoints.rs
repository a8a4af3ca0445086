//! The state after each change, in memory that outlives this process: the monitor has it, unread, and
//! so has the service manager, if it keeps anything. When this process is killed, another one goes on
//! from there.
//!
//! The core's state is written before anything is done that follows from a change of it: a request
//! that is sent, an answer. What changes seldom, sockets and configuration, goes to the monitor
//! again when it has changed.

use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs::File, sync::Arc, thread, time::Duration};

use super::fdstore::{self, StoredState};
use super::handover::NewConfig;
use super::{engine::Engine, redirect_ports::RedirectInfo, state::Holder, trial};
use crate::core::{Core, CoreState, STATE_VERSION};
use crate::error::Failure;
use crate::lock::Lock;
use crate::server::base::error::{cant, other};
use crate::server::base::{config_file::ConfigText, guard};
use crate::server::ipc::memfd::{self, Checkpoints, last_checkpoint};
use crate::server::ipc::slots::SlotWriter;
use crate::time::Now;

/// How many accounts are written at once, before an answer: some tens of microseconds.
const AT_ONCE: usize = 64;

/// How often the state of more accounts is written, on a thread of its own.
const PAUSE: Duration = Duration::from_millis(200);

/// What the memory with the configuration starts with, and its layout.
const CONFIG_MAGIC: &str = "pizauth config ";
const CONFIG_VERSION: u32 = 1;

/// The state's memory.
pub struct StateKeeper {
    /// `None` where the system has no such memory.
    checkpoints: Lock<Option<Checkpoints>>,
    redirects: Arc<RedirectInfo>,
    /// The configuration in force, which has client secrets: not in this process's own memory.
    config: Lock<Option<File>>,
    /// There is such memory. It is asked while the core is locked, which waits for no write.
    begun: AtomicBool,
    /// There is something that isn't written yet.
    behind: AtomicBool,
    /// A thread is writing.
    writing: AtomicBool,
    /// What the service manager has, by name.
    stored: Lock<Vec<String>>,
    /// It was said that something can't be written.
    complained: AtomicBool,
}

impl StateKeeper {
    /// Nothing is written before [`StateKeeper::begin`].
    pub fn new(redirects: Arc<RedirectInfo>) -> Self {
        StateKeeper {
            checkpoints: Lock::default(),
            redirects,
            config: Lock::default(),
            begun: AtomicBool::default(),
            behind: AtomicBool::default(),
            writing: AtomicBool::default(),
            stored: Lock::default(),
            complained: AtomicBool::default(),
        }
    }

    /// The service manager has this of a predecessor, which this server's takes the place of.
    pub fn succeed(&self, kept: Vec<String>) {
        self.stored.with(|stored| *stored = kept);
    }

    /// The configuration in force.
    pub fn learn(&self, config: ConfigText) {
        let written = memfd::write(CONFIG_MAGIC, CONFIG_VERSION, &config);
        self.config.with(|kept| *kept = written.ok());
    }

    /// From now on the state is written.
    ///
    /// # Errors
    /// When the system has no memory for that.
    pub fn begin(&self, engine: &Arc<Engine>) -> io::Result<()> {
        let checkpoints = Checkpoints::create()?;
        self.checkpoints.with(|ours| *ours = Some(checkpoints));
        self.begun.store(true, Ordering::SeqCst);
        self.write_now(engine);
        Ok(())
    }

    /// The state is written no more, and what was written is wiped.
    pub fn end(&self) {
        self.begun.store(false, Ordering::SeqCst);
        if let Some(checkpoints) = self.checkpoints.with(Option::take) {
            checkpoints.files().iter().for_each(memfd::discard);
        }
    }

    /// The pieces of memory; none before the beginning.
    pub fn files(&self) -> Vec<File> {
        self.checkpoints.with(|checkpoints| {
            let files = checkpoints.iter().flat_map(|it| it.files());
            files.filter_map(|file| file.try_clone().ok()).collect()
        })
    }

    /// The state after a change, if it is to be written at once; otherwise it will be.
    pub fn capture(&self, core: &Core, now: Now) -> Option<StoredState> {
        if !self.begun.load(Ordering::SeqCst) {
            return None;
        }
        if core.config().accounts.len() > AT_ONCE {
            self.behind.store(true, Ordering::SeqCst);
            return None;
        }
        Some(self.state(core, now))
    }

    /// What a server leaves behind.
    pub fn state(&self, core: &Core, now: Now) -> StoredState {
        StoredState::new(now.instant.millis(), &self.redirects, core.state(now))
    }

    /// Writes a state.
    pub fn write(&self, state: &StoredState) {
        let written = self.checkpoints.with(|checkpoints| {
            let Some(checkpoints) = checkpoints else {
                return Ok(());
            };
            checkpoints.write(fdstore::MAGIC, STATE_VERSION, state)
        });
        if let Err(error) = written {
            if !self.complained.swap(true, Ordering::SeqCst) {
                log::error!("the state can't be written to memory: {error}");
            }
        }
    }

    /// Writes the state as it is now.
    fn write_now(&self, engine: &Arc<Engine>) {
        self.behind.store(false, Ordering::SeqCst);
        self.write(&engine.with(|core, cx| self.state(core, cx.now)));
    }

    /// Has the state written that wasn't at once, if there is some.
    pub fn catch_up(self: &Arc<Self>, engine: &Arc<Engine>) {
        let wanted = self.behind.load(Ordering::SeqCst);
        if !wanted || self.writing.swap(true, Ordering::SeqCst) {
            return;
        }
        let (ours, theirs) = (self.clone(), engine.clone());
        let thread = thread::Builder::new().name("checkpoints".into());
        let spawned = thread.spawn(move || {
            while ours.behind.load(Ordering::SeqCst) {
                guard::job("a checkpoint", || ours.write_now(&theirs));
                thread::park_timeout(PAUSE);
            }
            ours.writing.store(false, Ordering::SeqCst);
            // It may have changed just before that.
            ours.catch_up(&theirs);
        });
        if spawned.is_err() {
            self.writing.store(false, Ordering::SeqCst);
        }
    }
}

/// Gives the monitor what another holder is to go on from. To be called again when a socket or the
/// configuration has changed.
pub fn guard(holder: &Holder) {
    if let Err(error) = try_guard(holder) {
        log::warn!("should the token holder be killed, none goes on: {error}");
    }
}

/// What goes to a successor: the state, its checkpoints and what it counts.
pub fn kept<'a>(memory: &'a File, files: &'a [File], fds: &'a SlotWriter) -> Vec<BorrowedFd<'a>> {
    let files = std::iter::once(memory).chain(files);
    files.map(AsFd::as_fd).chain(fds.fds()).collect()
}

fn try_guard(holder: &Holder) -> io::Result<()> {
    let files = holder.effects.keeper.files();
    let text = holder.effects.keeper.config.with(|config| {
        let file = config.as_mut().ok_or("there is no configuration")?;
        file.rewind().map_err(|_| "it can't be read")?;
        memfd::read(CONFIG_MAGIC, CONFIG_VERSION, file).map_err(|_| "it makes no sense")
    });
    let config = NewConfig {
        text: text.map_err(io::Error::other)?,
        capabilities: holder.monitor.capabilities(),
    };
    let mut fds = SlotWriter::default();
    let memory = trial::describe_sockets(holder, &config, &mut fds)?.memory()?;
    holder.monitor.guard(&kept(&memory, &files, &fds))
}

/// Gives the service manager the checkpoints and the sockets, if it keeps anything, in the place of
/// those that it has. To be called again as [`guard`]. False when it doesn't take them: it still has
/// what it had then.
///
/// # Errors
/// When the monitor is gone: what the manager has is for the next server.
pub fn store(holder: &Holder) -> Result<bool, Failure> {
    let keeper = &holder.effects.keeper;
    // One that the service manager has made is its own already.
    let control = holder.socket.parts();
    let control = control.and_then(|(_, control, given)| (!given).then_some(control));
    let restricted = holder.restricted.sockets();
    let sockets: Vec<_> = control.into_iter().chain(restricted).collect();
    let files = keeper.files();
    let ports = holder.redirects.with(|redirects| redirects.sites());
    let ports = ports.unwrap_or_default();
    let ports = ports.iter().flat_map(|site| &site.sockets);
    let proxies = holder.proxies.sockets();
    let listening = (sockets.iter().map(|it| (fdstore::SOCKET, it.as_fd())))
        .chain(ports.map(|it| (fdstore::PORT, it.as_fd())))
        .chain(proxies.iter().map(|it| (fdstore::PROXY, it.as_fd())));
    let wanted = fdstore::named(&files, listening);
    let mut kept = keeper.stored.with(std::mem::take);
    let outcome = fdstore::put(&holder.monitor, &mut kept, &wanted);
    keeper.succeed(kept);
    match outcome {
        // In the manager's words, or the monitor's about it.
        Err(error) if error.kind() == io::ErrorKind::Other => {
            log::error!("the service manager can't keep the state: {error}");
            Ok(false)
        }
        other => other.map(|()| true).map_err(cant),
    }
}

/// Leaves the state as it is now with the service manager; nothing is served any more. What can't be
/// left goes.
pub fn leave(holder: &Holder) {
    let keeper = &holder.effects.keeper;
    keeper.write_now(&holder.engine);
    holder.proxies.drain();
    // What it hasn't taken before it may take now.
    let taken = store(holder).unwrap_or(false);
    if taken && keeper.stored.with(|stored| !stored.is_empty()) {
        log::info!("the service manager has the state, should it start another server");
    } else {
        holder.stop();
    }
}

/// Nobody goes on from the state any more.
pub fn forget(holder: &Holder) {
    holder.effects.keeper.end();
    let mut kept = holder.effects.keeper.stored.with(std::mem::take);
    fdstore::remove(&holder.monitor, &mut kept, |_| true);
}

/// The core's state in a predecessor's checkpoints.
///
/// # Errors
/// When there is none.
pub fn core_of(files: &[File]) -> Result<CoreState, Failure> {
    let last = last_checkpoint::<StoredState>(fdstore::MAGIC, STATE_VERSION, files);
    let last = last.and_then(|state| state.ok_or_else(|| "there is none".into()));
    last.map(|state| state.core)
        .map_err(|why| other(&format!("the state can't be taken over: {why}")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::core::Ports;
    use crate::time::{Instant, Wall};

    #[test]
    fn an_event_waits_for_no_write_of_many_accounts() {
        let account = |number| format!("account \"a{number}\" {{ token_cmd = \"true\"; }}\n");
        let text: String = (0..=AT_ONCE).map(account).collect();
        let config = crate::config::parse("x", &text).unwrap();
        let redirects = RedirectInfo {
            ports: Ports::default(),
            identity: None,
            listeners: String::new(),
        };
        let keeper = Arc::new(StateKeeper::new(Arc::new(redirects)));
        keeper.begun.store(true, Ordering::SeqCst);
        let core = Core::new(config, Ports::default());
        let now = Now {
            instant: Instant::from_millis(0),
            wall: Wall::from_millis(0),
        };
        let (sender, captured) = mpsc::channel();
        let ours = keeper.clone();
        // As a write does, which takes a tenth of a second for 10,000 accounts.
        let state = keeper.checkpoints.with(|_| {
            thread::spawn(move || sender.send(ours.capture(&core, now).is_some()));
            captured.recv_timeout(Duration::from_secs(30))
        });
        assert_eq!(state, Ok(false));
        assert!(keeper.behind.load(Ordering::SeqCst));
    }
}
