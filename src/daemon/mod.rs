//! The shells around the core: start-up, threads, and what the core wants done.

mod activation;
mod broker;
mod check;
mod clients;
mod clock;
mod doors;
mod endpoint;
mod files;
mod guard;
mod hand;
mod handover;
mod harden;
mod hooks;
#[cfg(all(debug_assertions, target_os = "linux"))]
mod intruder;
mod job;
mod lanes;
mod log;
mod memory;
mod monitor;
mod outbox;
mod pass;
mod pipe;
mod place;
mod presence;
mod process;
mod provider;
mod restart;
mod runner;
mod seals;
mod shared;
mod show;
mod sign_in;
mod signals;
mod store;
mod timer;
mod verbs;

use std::{
    io,
    net::TcpListener,
    os::fd::AsFd,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{Mode, umask},
};
use sd_notify::NotifyState;

use self::{
    activation::Given,
    broker::Broker,
    clients::Clients,
    doors::Doors,
    handover::{Kept, KeptSite},
    hooks::Hooks,
    monitor::{Charge, Start},
    place::{Place, SocketFile},
    presence::Presence,
    process::{Detached, Starter},
    restart::Renewed,
    shared::Shared,
    signals::{Wish, Wishes},
    store::{Left, State},
    timer::Timer,
};
use crate::{
    alarm::Alarm,
    cli::ServerOptions,
    config::{Config, Listen},
    control::{self, Control},
    core::{Core, CoreState, Ports},
    error::{Exit, Failure},
    paths,
    redirect::{self, Identity, Pages, Site},
    serve::{self, Inbox, Listener, Remote},
    sys,
};

pub use check::check;

/// How long an ending server waits for replies of token endpoints, in order to save them: most come
/// within a second, and a network that is down must not hold up a logout.
const REPLY_GRACE: Duration = Duration::from_secs(10);

/// How long an ending server waits until its token files are removed: disks are faster, but a
/// network may be in between.
const FILES_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an ending server lets hooks tell what has happened: the end must not come before its
/// reason, and hooks that hang have other limits.
const TELL_GRACE: Duration = Duration::from_secs(2);

/// How long the last save may take: as long as any (the manual's minute).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an ending server may take: all of these, and what they don't count. A new server waits
/// so long for it, and so do the manual and the files for service managers promise.
const END_TIMEOUT: Duration = Duration::from_secs(85);

/// How long the main thread rests after a panic: what brought it about is likely still there, and a
/// loop of panics must not fill the log or keep a processor busy.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The stack of the control and redirect threads, in bytes: config parsing goes deepest.
const SERVER_STACK: usize = 1 << 20;

pub use restart::take_over;

/// A daemon that runs.
pub struct Daemon {
    shared: Arc<Shared>,
    config_file: PathBuf,
    ports: Ports,
    https: Option<Arc<Identity>>,
    /// The control socket's file, unless that is a service manager's.
    socket: Mutex<Option<SocketFile>>,
    clients: Remote,
    doors: Doors,
    /// What a successor needs; gone when the server ends.
    kept: Mutex<Option<Kept>>,
    /// The configuration of a restart that is to begin.
    restarting: Mutex<Option<Renewed>>,
    /// Why the last one failed.
    restart_failure: Mutex<Option<String>>,
    /// Held by the reload under way; how many there were.
    reloading: Mutex<()>,
    reloads: AtomicU64,
    stopping: AtomicBool,
    /// It stops, and perhaps another follows, for which the service manager keeps something.
    leaving: AtomicBool,
    alarm: Arc<Alarm>,
    /// What the process has given up, as `info` shows it.
    sandbox: Vec<&'static str>,
}

/// `pizauth server`.
pub fn start(options: &ServerOptions) -> Result<(), Failure> {
    process::hear_of_children().map_err(cant)?;
    let config_file = config_file(options.config.as_deref())?;
    let program = handover::program();
    let given = activation::descriptors();
    if options.foreground {
        return run(options, config_file, program, given, &mut Starter::none());
    }
    match process::detach(&given)
        .map_err(|error| other(&format!("can't start a process: {error}")))?
    {
        Detached::Command(outcome) => outcome,
        Detached::Daemon(mut starter) => {
            let outcome = run(options, config_file, program, given, &mut starter);
            if let Err(failure) = &outcome {
                starter.failed(failure);
            }
            // It has been told; stderr is the user's terminal no longer.
            std::process::exit(i32::from(outcome.is_err()));
        }
    }
}

/// The configuration's path: the usual one unless another was `given`.
fn config_file(given: Option<&Path>) -> Result<PathBuf, Failure> {
    match given {
        // The daemon reads it again at every reload, wherever it is then.
        Some(file) => std::path::absolute(file)
            .map_err(|error| other(&format!("can't tell the configuration's path: {error}"))),
        None => paths::config(),
    }
}

/// What the monitor and the daemon have in common.
fn begin(options: &ServerOptions, config_file: PathBuf, program: PathBuf) -> Charge {
    umask(Mode::from_bits_truncate(0o077));
    sys::tune_heap();
    let (verbose, detached) = (options.verbose, !options.foreground);
    log::start(verbose, detached);
    Charge {
        program,
        config_file,
        start: Start {
            verbose,
            detached,
            descriptors: harden::more_descriptors(),
        },
        legacy: None,
    }
}

/// The daemon from its first breath to its last.
fn run(
    options: &ServerOptions,
    config_file: PathBuf,
    program: PathBuf,
    given: Vec<Given>,
    starter: &mut Starter,
) -> Result<(), Failure> {
    let detached = !options.foreground;
    let charge = begin(options, config_file.clone(), program);
    let (lines, given) = process::fork_daemon(starter, charge, given).map_err(cant)?;
    let mut sandbox = harden::harden();
    let broker = Arc::new(Broker::new(lines.orders).map_err(cant)?);
    let (mut left, given) = store::split(&broker, given);
    let (config, seals) = verbs::read_config(&config_file, &broker.hand()?)?;
    broker.learn(seals);
    let address = paths::address()?;
    address.prepare()?;
    let lock = place::lock(&address)?;
    let startup_cmd = config.startup_cmd.clone();
    let state = left.state();
    let sites = Sites::bind(&config, state.as_ref())?;
    let presence = Presence::new(&address.socket);
    let place = Place::new(address, lock, presence);
    let given = activation::control_socket(given, place.socket())?;
    if detached {
        // Whoever unmounts that directory shall be free to.
        std::env::set_current_dir("/").map_err(cant)?;
    }
    sandbox.confine(place.socket());
    sandbox.deny_calls();
    sandbox.tell();

    let hooks = Hooks::new(lines.news, broker.clone()).map_err(cant)?;
    let mut parts = Parts::new(config, &sites, hooks, broker).map_err(cant)?;
    if let Some(state) = state {
        parts.adopt(state.core);
    }
    parts.load()?;
    let listeners = parts
        .shared
        .with(|core, _| handover::listeners(core.config()));
    let opened = parts.open(place.socket(), given, &mut left)?;
    let (daemon, listener) = parts.daemon(config_file, &sites, opened, sandbox.layers);
    *daemon.kept() = Some(Kept {
        control: listener.try_clone().map_err(cant)?,
        given: daemon.socket().is_none(),
        sites: sites.kept().map_err(cant)?,
        listeners,
        restarts: 0,
    });
    if detached {
        process::close_stdio().map_err(cant)?;
    }
    serve(
        daemon,
        parts,
        listener,
        sites,
        place,
        Some(Started {
            starter,
            startup_cmd,
            left,
        }),
    )
}

/// What is to be done once when the server answers for the first time.
struct Started<'a> {
    starter: &'a mut Starter,
    startup_cmd: Option<String>,
    left: Left,
}

/// Serves until the end, and ends well. A server that has just been started tells its starter when
/// it answers, and runs `startup_cmd`.
fn serve(
    daemon: Arc<Daemon>,
    mut parts: Parts,
    listener: UnixListener,
    sites: Sites,
    mut place: Place,
    started: Option<Started>,
) -> Result<(), Failure> {
    let Some((clients_inbox, browsers_inbox)) = parts.inboxes.take() else {
        return Err(other("it serves already"));
    };
    let threads = [
        serve_clients(&daemon, listener, clients_inbox).map_err(cant)?,
        serve_browsers(&daemon, sites, parts.pages.clone(), browsers_inbox).map_err(cant)?,
    ];
    // Whatever happened before anybody watched.
    place.look(&daemon).map_err(cant)?;
    notify(&daemon, &[NotifyState::Ready]);
    if let Some(started) = started {
        started.left.forget();
        // What was taken over may go on.
        daemon.shared.with(Core::release);
        started.starter.ready();
        if let Some(command) = started.startup_cmd {
            daemon.shared.hooks().startup(command);
        }
    }
    // What was read and loaded at start.
    sys::trim_heap();
    let outcome = daemon.main_loop(&mut parts, &mut place);
    notify(&daemon, &[NotifyState::Stopping]);
    let leaves = outcome.is_ok() && daemon.leaving.load(Ordering::Acquire);
    match leaves {
        true => restart::retire(&daemon, &mut parts, &mut place),
        false => daemon.stop(),
    }
    end(threads, &[parts.clients, parts.browsers]);
    if leaves {
        restart::leave(&daemon);
    }
    *daemon.kept() = None;
    daemon.close(&parts.wishes, &mut parts.timer);
    outcome.map_err(|error| other(&format!("the server has ended: {error}")))
}

/// What the daemon is made of, before it answers.
struct Parts {
    shared: Arc<Shared>,
    alarm: Arc<Alarm>,
    wishes: Wishes,
    timer: Timer,
    clients: Remote,
    browsers: Remote,
    pages: Arc<Pages>,
    /// The servers' ends of both.
    inboxes: Option<(Inbox, Inbox)>,
}

impl Parts {
    fn new(config: Config, sites: &Sites, hooks: Hooks, broker: Arc<Broker>) -> io::Result<Self> {
        let alarm = Arc::new(Alarm::new()?);
        let (clients, clients_inbox) = serve::remote()?;
        let (browsers, browsers_inbox) = serve::remote()?;
        let pages = Pages::new(clock::name);
        let shared = Shared::new(
            Core::new(config, sites.ports),
            hooks,
            broker,
            endpoint::settle(browsers.clone(), pages.clone()),
            alarm.clone(),
        );
        shared.serve(clients.clone());
        Ok(Parts {
            shared,
            alarm,
            wishes: Wishes::watch()?,
            timer: Timer::new()?,
            clients,
            browsers,
            pages,
            inboxes: Some((clients_inbox, browsers_inbox)),
        })
    }

    /// Takes over what `state_load_cmd` prints. There is no socket yet: that command would wait
    /// for ever for an answer of this server.
    fn load(&mut self) -> Result<(), Failure> {
        let shared = &self.shared;
        shared.with(|core, cx| core.start(cx));
        while shared.with(|core, _| core.is_keeping()) {
            let wishes = turn(
                shared,
                &self.alarm,
                &self.wishes,
                &mut self.timer,
                Rest::Long,
            );
            if wishes.map_err(cant)?.contains(&Wish::Stop) {
                return Err(other("stopped while the saved tokens were being loaded"));
            }
        }
        Ok(())
    }

    /// Goes on from the state of a server that has ended. Nothing is sent before the state is this
    /// server's own: a start that fails must leave the next one tokens that nobody has used.
    fn adopt(&self, state: CoreState) {
        self.shared.with(|core, cx| {
            core.hold();
            core.adopt(cx, state);
            core.remind_again();
        });
    }

    /// Opens the sockets, or takes those that are open; the control socket as the last, so that who
    /// finds it finds all.
    fn open(
        &self,
        path: &Path,
        given: Option<UnixListener>,
        left: &mut Left,
    ) -> Result<Opened, Failure> {
        let broker = self.shared.broker();
        let hand = broker.hand()?;
        let doors = Doors::new(self.clients.clone(), broker.clone());
        let sockets = self.shared.with(|core, _| core.config().sockets.clone());
        doors.adopt(left.doors(&sockets), &sockets);
        let plan = doors.prepare(&hand, &sockets, &broker.seals())?;
        let (listener, socket) = match (given, left.socket_at(path)) {
            // Its file is the service manager's.
            (Some(listener), _) => (listener, None),
            (None, Some(listener)) => (listener, Some(SocketFile::of_open(path, broker))),
            (None, None) => {
                let (listener, file) = place::listen_for_all(&hand, broker, path)?;
                (listener, Some(file))
            }
        };
        doors.commit(plan);
        Ok(Opened {
            listener,
            socket,
            doors,
        })
    }

    /// The same with what a predecessor had open.
    fn reopen(
        &self,
        path: &Path,
        kept: &Kept,
        handed: Vec<(Arc<str>, UnixListener)>,
    ) -> Result<Opened, Failure> {
        let broker = self.shared.broker();
        let doors = Doors::new(self.clients.clone(), broker.clone());
        let sockets = self.shared.with(|core, _| core.config().sockets.clone());
        doors.adopt(handed, &sockets);
        let prepared =
            (broker.hand()).and_then(|hand| doors.prepare(&hand, &sockets, &broker.seals()));
        match prepared {
            Ok(plan) => doors.commit(plan),
            // No reason to lose all the others, and the tokens.
            Err(failure) => ::log::error!("{failure}"),
        }
        let socket = match kept.given {
            true => None,
            false => Some(SocketFile::of_open(path, broker)),
        };
        let listener = kept.control.try_clone().map_err(cant)?;
        Ok(Opened {
            listener,
            socket,
            doors,
        })
    }

    fn daemon(
        &self,
        config_file: PathBuf,
        sites: &Sites,
        opened: Opened,
        sandbox: Vec<&'static str>,
    ) -> (Arc<Daemon>, UnixListener) {
        self.shared.with(|core, cx| core.publish(cx));
        let Opened {
            listener,
            socket,
            doors,
        } = opened;
        let daemon = Daemon {
            shared: self.shared.clone(),
            config_file,
            ports: sites.ports,
            https: sites.identity.clone(),
            socket: Mutex::new(socket),
            clients: self.clients.clone(),
            doors,
            kept: Mutex::new(None),
            restarting: Mutex::new(None),
            restart_failure: Mutex::new(None),
            reloading: Mutex::new(()),
            reloads: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            alarm: self.alarm.clone(),
            sandbox,
        };
        (Arc::new(daemon), listener)
    }
}

/// The sockets on which clients are served.
struct Opened {
    listener: UnixListener,
    /// The control socket's file, unless that is a service manager's.
    socket: Option<SocketFile>,
    doors: Doors,
}

impl Daemon {
    /// Asks the main thread to end. The socket goes at once, so that nobody finds it any more.
    fn stop(&self) {
        if let Some(socket) = &*self.socket() {
            socket.remove(None);
        }
        self.doors.remove();
        self.stopping.store(true, Ordering::Release);
        self.alarm.ring();
    }

    /// The same by a signal, which is how a service manager stops a server, be it for good or to
    /// start another: if it keeps something for that, the sockets stay.
    fn stop_by_signal(&self) {
        match store::is_there() {
            // The same signal comes from the monitor and from whoever signals all of the server.
            _ if self.is_stopping() => {}
            true => {
                self.leaving.store(true, Ordering::Release);
                self.stopping.store(true, Ordering::Release);
                self.alarm.ring();
            }
            false => self.stop(),
        }
    }

    /// The refresher: sleeps until a deadline, a signal, a hook's end or a change of plan.
    fn main_loop(self: &Arc<Self>, parts: &mut Parts, place: &mut Place) -> io::Result<()> {
        while !self.is_stopping() {
            let rest = Rest::Watching(&place.presence);
            let (alarm, wishes, timer) = (&parts.alarm, &parts.wishes, &mut parts.timer);
            let wishes = turn(&self.shared, alarm, wishes, timer, rest)?;
            guard::job("the main thread", || self.grant(&wishes, parts, place)).transpose()?;
        }
        Ok(())
    }

    /// What a turn of the main thread has left to do.
    fn grant(
        self: &Arc<Self>,
        wishes: &[Wish],
        parts: &mut Parts,
        place: &mut Place,
    ) -> io::Result<()> {
        for wish in wishes {
            match wish {
                Wish::Stop => self.stop_by_signal(),
                Wish::Reload => self.reload_by_signal(),
            }
        }
        // One that ends has taken its socket away itself.
        if !self.is_stopping() && place.presence.is_due() {
            place.look(self)?;
        }
        if !self.shared.hooks().is_minded() {
            return Err(io::Error::other("the monitor was killed"));
        }
        let restarting = self.restarting().take();
        if let Some(config) = restarting.filter(|_| !self.is_stopping()) {
            restart::perform(self, parts, place, config);
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_turn(&self) -> MutexGuard<'_, ()> {
        self.reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many reloads have come into force.
    fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Acquire)
    }

    fn restarting(&self) -> MutexGuard<'_, Option<Renewed>> {
        self.restarting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn restart_failure(&self) -> MutexGuard<'_, Option<String>> {
        self.restart_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last save. Nobody is answered any more.
    fn close(&self, wishes: &Wishes, timer: &mut Timer) {
        let shared = &self.shared;
        shared.with(|core, _| core.hold());
        let saves = shared.with(|core, _| core.config().state_save_cmd.is_some());
        // One that leaves has waited already.
        if saves && !self.leaving.load(Ordering::Acquire) {
            self.wait_for_replies(wishes, timer);
        }
        shared.with(|core, cx| core.close(cx));
        let keeping = |shared: &Arc<Shared>| shared.with(|core, _| core.is_keeping());
        if !self.wait_while(wishes, timer, CLOSE_TIMEOUT, keeping) {
            ::log::error!("the tokens could not be saved in time");
        }
        if !shared.files().finish(FILES_TIMEOUT) {
            ::log::error!("the token files could not be removed in time");
        }
        let telling = |shared: &Arc<Shared>| shared.hooks().tells();
        self.wait_while(wishes, timer, TELL_GRACE, telling);
    }

    /// Hears what providers still have to say.
    fn wait_for_replies(&self, wishes: &Wishes, timer: &mut Timer) {
        self.wait_while(wishes, timer, REPLY_GRACE, |shared| {
            shared.with(|core, _| core.awaits_reply())
        });
    }

    /// Turns until `busy` says no; false when it still says yes after so long.
    fn wait_while(
        &self,
        wishes: &Wishes,
        timer: &mut Timer,
        patience: Duration,
        busy: impl Fn(&Arc<Shared>) -> bool,
    ) -> bool {
        let give_up = Instant::now() + patience;
        while busy(&self.shared) {
            let left = give_up.saturating_duration_since(Instant::now());
            // Signals are nothing to it: it ends already.
            if left.is_zero()
                || turn(&self.shared, &self.alarm, wishes, timer, Rest::AtMost(left)).is_err()
            {
                return false;
            }
        }
        true
    }

    fn reload_by_signal(self: &Arc<Self>) {
        match verbs::reload(self) {
            Ok(remark) if remark.is_empty() => {}
            Ok(remark) => ::log::warn!("{remark}"),
            Err(failure) => {
                let why = failure.one_line();
                ::log::error!("the configuration was not reloaded: {why}");
            }
        }
    }
}

/// What else may end the main thread's sleep.
#[derive(Clone, Copy)]
enum Rest<'a> {
    /// Nothing.
    Long,
    /// A change around the control socket.
    Watching(&'a Presence),
    /// Such a change, or it takes so long.
    WatchingAtMost(&'a Presence, Duration),
    /// It takes so long.
    AtMost(Duration),
}

/// One turn of the main thread: sleeps until there is something to do, and does it. Returns the
/// signals that have come; after a panic, none yet.
fn turn(
    shared: &Arc<Shared>,
    alarm: &Alarm,
    wishes: &Wishes,
    timer: &mut Timer,
    rest: Rest,
) -> io::Result<Vec<Wish>> {
    let turned = guard::job("a turn", || {
        turn_unguarded(shared, alarm, wishes, timer, rest)
    });
    turned.unwrap_or_else(|| {
        // A signal may still end it.
        let mut fds = [PollFd::new(wishes.fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(PANIC_PAUSE).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, pause);
        Ok(Vec::new())
    })
}

fn turn_unguarded(
    shared: &Arc<Shared>,
    alarm: &Alarm,
    wishes: &Wishes,
    timer: &mut Timer,
    rest: Rest,
) -> io::Result<Vec<Wish>> {
    let hooks = shared.hooks();
    let lines = hooks.lines();
    timer.arm(shared.deadline())?;
    let mut fds = vec![
        PollFd::new(alarm.as_fd(), PollFlags::POLLIN),
        PollFd::new(wishes.fd(), PollFlags::POLLIN),
    ];
    fds.extend(timer.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    fds.extend((lines.iter()).map(|(line, flags)| PollFd::new(line.as_fd(), *flags)));
    let (presence, limit) = match rest {
        Rest::Long => (None, None),
        Rest::Watching(presence) => (Some(presence), None),
        Rest::WatchingAtMost(presence, limit) => (Some(presence), Some(limit)),
        Rest::AtMost(limit) => (None, Some(limit)),
    };
    let mut timeout = match limit {
        Some(limit) => PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
        None => timer.timeout(),
    };
    if let Some(presence) = presence {
        fds.extend(presence.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend((presence.mounts()).map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        timeout = presence.timeout(timeout);
    }
    match poll(&mut fds, timeout) {
        // Without memory it is as if something had happened: there may be some the next time.
        Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => {}
        Err(errno) => return Err(errno.into()),
    }
    let remounted = fds.iter().any(|fd| told(fd, PollFlags::POLLPRI));
    if let Some(presence) = presence.filter(|_| remounted) {
        presence.mounted();
    }
    alarm.clear();
    timer.clear();
    shared.with(|core, cx| core.tick(cx));
    hooks.exchange(shared);
    Ok(std::iter::from_fn(|| wishes.next()).collect())
}

fn told(fd: &PollFd, flag: PollFlags) -> bool {
    fd.revents().is_some_and(|seen| seen.contains(flag))
}

/// The redirect listeners.
struct Sites {
    sites: Vec<Site>,
    ports: Ports,
    identity: Option<Arc<Identity>>,
}

impl Sites {
    /// The same sockets once more, for a successor.
    fn kept(&self) -> io::Result<Vec<KeptSite>> {
        let sites = self.sites.iter();
        sites
            .map(|site| {
                let sockets = site.bound.sockets.iter().map(TcpListener::try_clone);
                let sockets = sockets.collect::<io::Result<_>>()?;
                Ok((site.bound.port, sockets, site.identity.clone()))
            })
            .collect()
    }

    /// As the configuration says; where that doesn't name a port, on that of a predecessor, which
    /// requests that are pending name.
    fn bind(config: &Config, before: Option<&State>) -> Result<Self, Failure> {
        let ports = before.map(State::ports).unwrap_or_default();
        let mut sites = Sites {
            sites: Vec::new(),
            ports: Ports::default(),
            identity: None,
        };
        if let Listen::On { host, port } = &config.http_listen {
            let bound = bind("http_listen", host, *port, ports.http)?;
            sites.ports.http = Some(bound.port);
            sites.sites.push(Site {
                bound,
                identity: None,
            });
        }
        if let Listen::On { host, port } = &config.https_listen {
            let bound = bind("https_listen", host, *port, ports.https)?;
            let identity = before
                .and_then(State::identity)
                .map_or_else(|| Identity::generate(&https_hosts(config)), Ok);
            let identity =
                identity.map_err(|error| other(&format!("can't make a certificate: {error}")))?;
            let identity = Arc::new(identity);
            sites.ports.https = Some(bound.port);
            sites.identity = Some(identity.clone());
            sites.sites.push(Site {
                bound,
                identity: Some(identity),
            });
        }
        Ok(sites)
    }
}

fn bind(
    option: &str,
    host: &str,
    port: u16,
    before: Option<u16>,
) -> Result<redirect::Bound, Failure> {
    let again = before.filter(|_| port == 0);
    if let Some(Ok(bound)) = again.map(|port| redirect::bind(host, port)) {
        return Ok(bound);
    }
    redirect::bind(host, port).map_err(|error| other(&format!("{option}: {error}")))
}

/// The hosts that https redirects go to, beside the loopback's names.
fn https_hosts(config: &Config) -> Vec<&str> {
    let uris = config
        .accounts
        .iter()
        .filter(|account| {
            let registration = &account.registration;
            registration.auth_uri.is_some() || registration.issuer.is_some()
        })
        .map(|account| &account.registration.redirect_uri);
    let mut hosts: Vec<&str> = uris
        .filter(|uri| uri.scheme() == "https")
        .filter_map(|uri| uri.host_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn serve_clients(
    daemon: &Arc<Daemon>,
    listener: UnixListener,
    inbox: Inbox,
) -> io::Result<JoinHandle<()>> {
    let listener = Listener::unix(listener)?;
    let theirs = daemon.clone();
    let control = Control::new(Clients::new(theirs));
    let theirs = daemon.clone();
    spawn("control", move || {
        let outcome = guard::job("the control socket's thread", || {
            serve::run(vec![listener], control, control::LIMITS, inbox)
        });
        theirs.ended("control socket", outcome);
    })
}

fn serve_browsers(
    daemon: &Arc<Daemon>,
    sites: Sites,
    pages: Arc<Pages>,
    inbox: Inbox,
) -> io::Result<JoinHandle<()>> {
    let endpoint = endpoint::Endpoint(daemon.shared.clone());
    let theirs = daemon.clone();
    spawn("redirect", move || {
        let outcome = guard::job("the redirect listener's thread", || {
            redirect::run(sites.sites, endpoint, pages, inbox)
        });
        theirs.ended("redirect listener", outcome);
    })
}

impl Daemon {
    /// A server without one of its listeners ends, and saves what it has; `None` is a panic.
    fn ended(&self, what: &str, outcome: Option<io::Result<()>>) {
        match outcome {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                ::log::error!("the {what} has ended: {error}");
                self.stop();
            }
            None => self.stop(),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new()
        .name(name.into())
        .stack_size(SERVER_STACK);
    thread.spawn(work)
}

/// Lets the servers finish the replies that they are writing.
fn end(threads: [JoinHandle<()>; 2], remotes: &[Remote]) {
    for remote in remotes {
        remote.stop();
    }
    for thread in threads {
        // A thread that has panicked has nothing left to finish.
        let _ = thread.join();
    }
}

/// The service manager hears of a reload from its beginning to its end.
fn notify_reloading(daemon: &Daemon) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(daemon, &[NotifyState::Reloading, now]);
    }
}

fn notify(daemon: &Daemon, state: &[NotifyState]) {
    if !store::has_manager() {
        return;
    }
    let lines = state.iter().map(|it| format!("{it}\n")).collect();
    if let Err(error) = daemon.shared.broker().notify(lines, &[]) {
        ::log::warn!("the service manager can't be told: {error}");
    }
}

fn cant(error: io::Error) -> Failure {
    other(&format!("can't start: {error}"))
}

fn other(what: &str) -> Failure {
    Failure::new(Exit::Other, what)
}
