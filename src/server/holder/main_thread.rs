//! The main thread: it sleeps until a deadline of the core, a signal, a hook's end or a change around
//! the control socket, and does what there is to do. It never waits for anything else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use std::{io, os::fd::AsFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    checkpoints, control_socket::Found, jobs, life::LifeRequest, network_watch::NetworkWatch,
    socket_watch::SocketWatch, state::Holder, timer::Timer,
};
use crate::server::base::error::{cant, other};
use crate::server::base::signals::{ServerSignal, SignalWatch};
use crate::server::base::{clock, guard};
use crate::{error::Failure, serve::Remote};

/// How long an ending server waits for replies of token endpoints, in order to save them: most come
/// within a second, and a network that is down must not hold up a logout.
pub const REPLY_GRACE: Duration = Duration::from_secs(10);

/// How long a server that ends or is restarted waits until its token files are written or removed:
/// disks are faster, but a network may be in between.
pub const FILES_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an ending server lets hooks tell what has happened: the end must not come before its
/// reason, and hooks that hang have other limits.
pub const TELL_GRACE: Duration = Duration::from_secs(2);

/// How long the last save may take: as long as any (the manual's minute).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long clients may take to finish what they have begun to ask.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// How often to look meanwhile whether the socket is still there: no client finds it before.
const DRAIN_LOOK: Duration = Duration::from_millis(250);

/// How long the first look at the control socket may take: as long as the helper that makes it again.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the main thread rests after a panic: what brought it about is likely still there, and a
/// loop of panics must not fill the log or keep a processor busy.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The main thread, before the server answers and as long as it does.
pub struct MainThread {
    /// The server.
    pub holder: Arc<Holder>,
    /// What signals ask.
    signals: SignalWatch,
    /// The core's deadline.
    timer: Timer,
    watch: SocketWatch,
    network: NetworkWatch,
    /// A look at the control socket that is under way.
    looking: Option<Receiver<Found>>,
}

impl MainThread {
    /// That of this server.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(holder: Arc<Holder>, watch: SocketWatch, network: NetworkWatch) -> io::Result<Self> {
        Ok(MainThread {
            holder,
            signals: SignalWatch::watch()?,
            timer: Timer::new()?,
            watch,
            network,
            looking: None,
        })
    }

    /// Takes over what `state_load_cmd` prints. There is no socket yet: that command would wait for
    /// ever for an answer of this server.
    ///
    /// # Errors
    /// When a signal ends it.
    pub fn load(&mut self) -> Result<(), Failure> {
        let engine = self.holder.engine.clone();
        engine.with(|core, cx| core.start(cx));
        while engine.with(|core, _| core.is_keeping()) {
            let signals = self.sleep_and_work(false, None).map_err(cant)?;
            if signals.contains(&ServerSignal::Stop) {
                return Err(other("stopped while the saved tokens were being loaded"));
            }
        }
        Ok(())
    }

    /// Turns until the server is to end, or to be restarted: then true.
    ///
    /// # Errors
    /// Why it must end.
    pub fn run(&mut self) -> io::Result<bool> {
        while !self.holder.life.with(|life| life.over) {
            let done = guard::job("the main thread", || self.turn_and_serve(None));
            done.transpose()?;
            let restart = &self.holder.restart;
            let wanted = restart.with(|restart| std::mem::take(&mut restart.wanted));
            if wanted && !self.holder.is_stopping() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One turn, of at most so long, and what follows from it.
    ///
    /// # Errors
    /// Why the server must end.
    pub fn turn_and_serve(&mut self, limit: Option<Duration>) -> io::Result<()> {
        for signal in self.turn(true, limit)? {
            match signal {
                ServerSignal::Stop => jobs::stop_by_signal(&self.holder),
                ServerSignal::Reload => self.reload_by_signal(),
            }
        }
        self.look()?;
        if self.holder.proxies.has_ended() {
            jobs::revive_proxies(&self.holder);
        }
        if !self.holder.effects.hooks.has_monitor() {
            return Err(io::Error::other("the monitor was killed"));
        }
        Ok(())
    }

    /// A turn, and what the next server is to know of it. After a panic, no signal has come yet.
    fn turn(&mut self, watches: bool, limit: Option<Duration>) -> io::Result<Vec<ServerSignal>> {
        let turned = guard::job("a turn", || self.sleep_and_work(watches, limit));
        let signals = turned.unwrap_or_else(|| {
            // A signal may still end it.
            let mut fds = [PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, clock::poll_timeout(PANIC_PAUSE));
            Ok(Vec::new())
        });
        let changed = self.holder.engine.with(|core, _| core.last_change());
        self.holder.socket.note_change(changed);
        signals
    }

    /// Sleeps until there is something to do, where it `watches` around the control socket, too, or
    /// for so long; and does it. Returns the signals that have come.
    fn sleep_and_work(
        &mut self,
        watches: bool,
        limit: Option<Duration>,
    ) -> io::Result<Vec<ServerSignal>> {
        let Holder {
            engine,
            effects,
            proxies,
            ..
        } = &*self.holder;
        let (deadline, heeds) = engine.with(|core, _| (core.poll_timeout(), core.heeds_network()));
        self.timer.arm(deadline)?;
        let sockets = effects.hooks.sockets();
        let proxies = proxies.line();
        let mut fds = vec![
            PollFd::new(effects.alarm.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.fd(), PollFlags::POLLIN),
        ];
        let timers = self.timer.fds().into_iter().flatten();
        let network = self.network.fd().filter(|_| heeds);
        fds.extend(
            timers
                .chain(network)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        // Their end is told unasked.
        fds.extend((proxies.iter()).map(|line| PollFd::new(line.as_fd(), PollFlags::empty())));
        fds.extend((sockets.iter()).map(|(line, flags)| PollFd::new(line.as_fd(), *flags)));
        let mut limit = limit.into_iter().chain(self.timer.left()).min();
        if watches {
            fds.extend((self.watch.fd()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend((self.watch.mounts()).map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
            limit = limit.into_iter().chain(self.watch.left()).min();
        }
        let timeout = limit.map_or(PollTimeout::NONE, clock::poll_timeout);
        match poll(&mut fds, timeout) {
            // Without memory it is as if something had happened: there may be some the next time.
            Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Only the mounts are polled for that.
        if fds.iter().any(|fd| has(fd, PollFlags::POLLPRI)) {
            self.watch.mounted();
        }
        effects.alarm.clear();
        self.timer.clear();
        let changed = heeds && self.network.changed();
        engine.with(|core, cx| {
            if changed {
                core.network_changed(cx);
            }
            core.tick(cx);
        });
        effects.hooks.exchange(engine);
        Ok(self.signals())
    }

    /// The signals that have arrived and aren't answered yet.
    pub fn signals(&self) -> Vec<ServerSignal> {
        std::iter::from_fn(|| self.signals.next()).collect()
    }

    /// SIGHUP.
    pub fn reload_by_signal(&self) {
        // A refusal is for those who wait for one.
        let _ = jobs::request(&self.holder, LifeRequest::Reload, None);
    }

    /// Looks after the control socket if something has happened to it, on a thread of its own;
    /// whether it was made again.
    ///
    /// # Errors
    /// When another server has taken its place.
    pub fn look(&mut self) -> io::Result<bool> {
        // One that ends takes its socket away itself.
        if self.looking.is_none() && self.watch.is_due() && !self.holder.is_stopping() {
            self.begin_look();
        }
        let found = match self.looking.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return Ok(false),
            Some(Ok(found)) => found,
            Some(Err(TryRecvError::Disconnected)) => Found::Missing,
        };
        self.looking = None;
        self.conclude(found)?;
        Ok(found == Found::Mended)
    }

    /// Answers those who have begun to ask, and leaves all others to a successor, until
    /// [`Remote::resume`].
    ///
    /// # Errors
    /// When another server has taken this one's place.
    pub fn drain_clients(&mut self) -> io::Result<()> {
        // Who is still silent then has asked for nothing.
        let give_up = Instant::now() + DRAIN_TIMEOUT;
        let drain = |holder: &Holder| Vec::from(holder.servers().map(Remote::drain));
        let mut draining = drain(&self.holder);
        while let Some(drained) = draining.last().filter(|_| Instant::now() < give_up) {
            match drained.recv_timeout(DRAIN_LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                // A server that has panicked answers no client.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(draining.pop()),
            }
            if self.look()? {
                // A socket that is made again lets in those who had come to the old one.
                draining = drain(&self.holder);
            }
        }
        Ok(())
    }

    /// Watches the control socket from now on, and returns when it has been looked at: what happened
    /// before the watch began raises no event.
    ///
    /// # Errors
    /// When another server has taken its place.
    pub fn first_look(&mut self) -> io::Result<()> {
        self.begin_look();
        let Some(looking) = self.looking.take() else {
            return Ok(());
        };
        // No client waits for this thread yet.
        let found = looking.recv_timeout(LOOK_TIMEOUT);
        self.conclude(found.unwrap_or(Found::Missing))
    }

    /// What follows from a look.
    fn conclude(&mut self, found: Found) -> io::Result<()> {
        match found {
            Found::There => {}
            Found::Mended => {
                self.watch.mended();
                checkpoints::guard(&self.holder);
                // Without the monitor, the next turn ends it.
                let _ = checkpoints::store(&self.holder);
            }
            Found::Missing => self.watch.missing(),
            Found::Replaced if self.holder.is_stopping() => {}
            Found::Replaced => {
                // The next look ends it, where this one only ends a restart.
                self.watch.mended();
                let why = "its control socket was gone, and another server has taken its place";
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }

    /// Watches the control socket from now on, and looks whether it is there.
    fn begin_look(&mut self) {
        self.watch.renew();
        let (sender, found) = sync_channel(1);
        let started = self.holder.spawn("control socket", move |holder| {
            guard::job("control socket", || {
                let _ = sender.send(holder.socket.mend(&holder.effects.clients));
            });
            holder.effects.alarm.ring();
        });
        match started {
            Ok(()) => self.looking = Some(found),
            Err(_) => self.watch.missing(),
        }
    }

    /// Brings to an end what is under way, before a server stops that another may follow.
    pub fn retire(&mut self) {
        self.holder.engine.with(|core, _| core.hold());
        self.wait_for_replies();
        if let Err(error) = self.drain_clients() {
            log::warn!("{error}");
        }
    }

    /// The last save. No client is answered any more.
    pub fn close(&mut self) {
        let holder = self.holder.clone();
        let engine = &holder.engine;
        engine.with(|core, _| core.hold());
        let saves = engine.with(|core, _| core.config().state_save_cmd.is_some());
        // One that leaves has waited already.
        if saves && !holder.life.with(|life| life.leaves) {
            self.wait_for_replies();
        }
        engine.with(|core, cx| core.close(cx));
        // Who sends a signal has the time that a service manager gives.
        let patient = holder.life.with(|life| life.signalled);
        let keeping = |holder: &Holder| {
            (holder.engine).with(|core, _| core.is_keeping() || (patient && core.closes_in_vain()))
        };
        if !self.wait_while(CLOSE_TIMEOUT, keeping) {
            log::error!("the tokens could not be saved in time");
        }
        if !holder.effects.files.finish(FILES_TIMEOUT) {
            log::error!("the token files could not be removed in time");
        }
        self.wait_while(TELL_GRACE, |holder| holder.effects.hooks.tells());
    }

    /// Hears what providers still have to say.
    fn wait_for_replies(&mut self) {
        self.wait_while(REPLY_GRACE, |holder| {
            holder.engine.with(|core, _| core.awaits_reply())
        });
    }

    /// Turns until `busy` says no; false when it still says yes after so long.
    fn wait_while(&mut self, patience: Duration, busy: impl Fn(&Holder) -> bool) -> bool {
        let give_up = Instant::now() + patience;
        while busy(&self.holder) {
            let left = give_up.saturating_duration_since(Instant::now());
            // Signals are nothing to it: it ends already.
            if left.is_zero() || self.turn(false, Some(left)).is_err() {
                return false;
            }
        }
        true
    }
}

fn has(fd: &PollFd, flag: PollFlags) -> bool {
    fd.revents().is_some_and(|seen| seen.contains(flag))
}
