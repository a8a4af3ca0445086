//! The shells around the core: start-up, threads, and what the core wants done.

mod check;
mod clients;
mod clock;
mod endpoint;
mod harden;
mod hooks;
mod log;
mod presence;
mod process;
mod provider;
mod runner;
mod shared;
mod show;
mod sign_in;
mod signals;
mod timer;
mod verbs;

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, poll},
    sys::stat::{Mode, umask},
};
use sd_notify::NotifyState;

use self::{
    clients::Clients,
    hooks::Hooks,
    presence::Presence,
    process::{Detached, Starter},
    shared::Shared,
    signals::{Wish, Wishes},
    timer::Timer,
};
use crate::{
    alarm::Alarm,
    cli::ServerOptions,
    config::{Config, Listen},
    control::{self, Control},
    core::{Core, Ports},
    error::{Exit, Failure},
    paths::{self, Address},
    redirect::{self, Identity, Site},
    serve::{self, Inbox, Listener, Remote},
};

pub use check::check;

/// How long a server that is just ending may keep a new one waiting.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the new one looks meanwhile.
const TAKEOVER_POLL: Duration = Duration::from_millis(20);

/// What a second server is told.
const ALREADY_RUNNING: &str = "a server is already running";

/// The stack of the control and redirect threads, in bytes: config parsing goes deepest.
const SERVER_STACK: usize = 1 << 20;

/// A daemon that runs.
pub struct Daemon {
    shared: Arc<Shared>,
    config_file: PathBuf,
    ports: Ports,
    https: Option<Arc<Identity>>,
    socket: Mutex<SocketFile>,
    stopping: AtomicBool,
    alarm: Arc<Alarm>,
    /// What the process has given up, as `info` shows it.
    sandbox: Vec<&'static str>,
}

/// `pizauth server`.
pub fn start(options: &ServerOptions) -> Result<(), Failure> {
    let config_file = config_file(options.config.as_deref())?;
    if options.foreground {
        return run(options, config_file, &mut Starter::none());
    }
    match process::detach().map_err(|error| other(&format!("can't start a process: {error}")))? {
        Detached::Command(outcome) => outcome,
        Detached::Daemon(mut starter) => {
            let outcome = run(options, config_file, &mut starter);
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

/// The daemon from its first breath to its last.
fn run(
    options: &ServerOptions,
    config_file: PathBuf,
    starter: &mut Starter,
) -> Result<(), Failure> {
    umask(Mode::from_bits_truncate(0o077));
    let cant = |error: io::Error| other(&format!("can't start: {error}"));
    let line = process::fork_runner(starter).map_err(cant)?;
    signals::block().map_err(cant)?;
    log::start(options.verbose, !options.foreground);
    let sandbox = harden::harden();
    let config = verbs::read_config(&config_file)?;
    let address = paths::address()?;
    address.prepare()?;
    let lock = lock(&address)?;
    let startup_cmd = config.startup_cmd.clone();
    let sites = Sites::bind(&config)?;
    let (listener, socket) = listen(&address.socket)?;

    let alarm = Arc::new(Alarm::new().map_err(cant)?);
    let (browsers, browsers_inbox) = serve::remote().map_err(cant)?;
    let shared = Shared::new(
        Core::new(config, sites.ports),
        Hooks::new(line).map_err(cant)?,
        endpoint::settle(browsers.clone()),
        alarm.clone(),
    );
    let daemon = Arc::new(Daemon {
        shared,
        config_file,
        ports: sites.ports,
        https: sites.identity.clone(),
        socket: Mutex::new(socket),
        stopping: AtomicBool::new(false),
        alarm,
        sandbox,
    });
    let wishes = Wishes::watch().map_err(cant)?;
    let mut timer = Timer::new().map_err(cant)?;
    let mut place = Place {
        presence: Presence::new(&address.socket),
        clients: serve_clients(&daemon, listener).map_err(cant)?,
        address,
        lock,
        former: Vec::new(),
        complaint: String::new(),
    };
    let browsers = Server {
        thread: serve_browsers(&daemon, sites, browsers_inbox).map_err(cant)?,
        remote: browsers,
    };

    // Whatever happened before anybody watched.
    place.look(&daemon).map_err(cant)?;
    if !options.foreground {
        process::let_go().map_err(cant)?;
    }
    notify(&[NotifyState::Ready]);
    starter.ready();
    if let Some(command) = startup_cmd {
        daemon.shared.hooks().startup(command);
    }
    let outcome = daemon.main_loop(&wishes, &mut timer, &mut place);
    notify(&[NotifyState::Stopping]);
    daemon.socket().remove();
    end([place.clients, browsers], place.former);
    outcome.map_err(|error| other(&format!("the server has ended: {error}")))
}

impl Daemon {
    /// Asks the main thread to end. The socket goes at once, so that nobody finds it any more.
    fn stop(&self) {
        self.socket().remove();
        self.stopping.store(true, Ordering::Release);
        self.alarm.ring();
    }

    /// The refresher: sleeps until a deadline, a signal, a hook's end or a change of plan.
    fn main_loop(
        self: &Arc<Self>,
        wishes: &Wishes,
        timer: &mut Timer,
        place: &mut Place,
    ) -> io::Result<()> {
        let hooks = self.shared.hooks();
        while !self.stopping.load(Ordering::Acquire) {
            timer.arm(self.shared.deadline())?;
            let mut fds = vec![
                PollFd::new(std::os::fd::AsFd::as_fd(&*self.alarm), PollFlags::POLLIN),
                PollFd::new(wishes.fd(), PollFlags::POLLIN),
            ];
            fds.extend(timer.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            fds.extend((place.presence.fd()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let flags = match hooks.wants_write() {
                true => PollFlags::POLLIN | PollFlags::POLLOUT,
                false => PollFlags::POLLIN,
            };
            fds.extend(hooks.line().map(|fd| PollFd::new(fd, flags)));
            match poll(&mut fds, place.presence.timeout(timer.timeout())) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.alarm.clear();
            timer.clear();
            while let Some(wish) = wishes.next() {
                match wish {
                    Wish::Stop => self.stop(),
                    Wish::Reload => self.reload_by_signal(),
                }
            }
            if place.presence.is_due() {
                place.look(self)?;
            }
            self.shared.with(|core, cx| core.tick(cx));
            hooks.exchange(&self.shared);
        }
        Ok(())
    }

    fn socket(&self) -> MutexGuard<'_, SocketFile> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_by_signal(self: &Arc<Self>) {
        match verbs::reload(self) {
            Ok(remark) if remark.is_empty() => {}
            Ok(remark) => ::log::warn!("{remark}"),
            Err(failure) => ::log::error!("the configuration was not reloaded: {failure}"),
        }
    }
}

/// Where clients find the daemon, and what it takes to be found again when that has gone.
struct Place {
    presence: Presence,
    address: Address,
    lock: Flock<fs::File>,
    clients: Server,
    /// Servers of sockets that are gone, with their last replies.
    former: Vec<JoinHandle<()>>,
    /// Why the socket can't be made, as it was said last.
    complaint: String,
}

impl Place {
    /// Makes the socket and the lock again if they are gone. What can't be made now is tried again
    /// later: the tokens are worth keeping.
    ///
    /// # Errors
    /// When another server has taken the place, so that nobody would find this one any more.
    fn look(&mut self, daemon: &Arc<Daemon>) -> io::Result<()> {
        self.presence.renew();
        match self.mend(daemon) {
            Ok(false) => self.complaint.clear(),
            Ok(true) => self.presence.mended(),
            Err(failure) if failure.what == ALREADY_RUNNING => {
                let why = "its control socket was gone, and another server has taken its place";
                return Err(io::Error::other(why));
            }
            Err(failure) => {
                if self.complaint != failure.what {
                    ::log::error!("the control socket is gone: {failure}");
                    self.complaint = failure.what;
                }
                self.presence.missing();
            }
        }
        Ok(())
    }

    /// Whether there was anything to mend.
    fn mend(&mut self, daemon: &Arc<Daemon>) -> Result<bool, Failure> {
        self.address.prepare()?;
        let lock_gone = !is_same(&self.address.lock_file(), file_id(&self.lock));
        if lock_gone {
            let file = open_lock(&self.address)?;
            self.lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
                .map_err(|_| other(ALREADY_RUNNING))?;
            ::log::warn!("the lock was gone and has been made again");
        }
        if daemon.socket().is_there() {
            return Ok(lock_gone);
        }
        let (listener, file) = listen(&self.address.socket)?;
        let clients = serve_clients(daemon, listener)
            .map_err(|error| other(&format!("can't serve it: {error}")))?;
        *daemon.socket() = file;
        let old = std::mem::replace(&mut self.clients, clients);
        old.remote.stop();
        self.former.retain(|thread| !thread.is_finished());
        self.former.push(old.thread);
        ::log::warn!("the control socket was gone and has been made again");
        Ok(true)
    }
}

/// A thread that serves, and the way to end it.
struct Server {
    remote: Remote,
    thread: JoinHandle<()>,
}

/// The redirect listeners.
struct Sites {
    sites: Vec<Site>,
    ports: Ports,
    identity: Option<Arc<Identity>>,
}

impl Sites {
    fn bind(config: &Config) -> Result<Self, Failure> {
        let mut sites = Sites {
            sites: Vec::new(),
            ports: Ports::default(),
            identity: None,
        };
        if let Listen::On { host, port } = &config.http_listen {
            let bound = bind("http_listen", host, *port)?;
            sites.ports.http = Some(bound.port);
            sites.sites.push(Site {
                bound,
                identity: None,
            });
        }
        if let Listen::On { host, port } = &config.https_listen {
            let bound = bind("https_listen", host, *port)?;
            let hosts = https_hosts(config);
            let identity = Identity::generate(&hosts)
                .map_err(|error| other(&format!("can't make a certificate: {error}")))?;
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

fn bind(option: &str, host: &str, port: u16) -> Result<redirect::Bound, Failure> {
    redirect::bind(host, port).map_err(|error| other(&format!("{option}: {error}")))
}

/// The hosts that https redirects go to, beside the loopback's names.
fn https_hosts(config: &Config) -> Vec<&str> {
    let uris = config
        .accounts
        .iter()
        .filter(|account| account.registration.auth_uri.is_some())
        .map(|account| &account.registration.redirect_uri);
    let mut hosts: Vec<&str> = uris
        .filter(|uri| uri.scheme() == "https")
        .filter_map(|uri| uri.host_str())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The one daemon's lock, held for life.
fn lock(address: &Address) -> Result<Flock<fs::File>, Failure> {
    let mut file = open_lock(address)?;
    let give_up = Instant::now() + TAKEOVER_TIMEOUT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) => file,
        };
        // A server that answers is running; one without a socket is just ending.
        let answers = UnixStream::connect(&address.socket).is_ok();
        if answers || Instant::now() >= give_up {
            return Err(other(ALREADY_RUNNING));
        }
        thread::sleep(TAKEOVER_POLL);
    }
}

fn open_lock(address: &Address) -> Result<fs::File, Failure> {
    let path = address.lock_file();
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path);
    file.map_err(|error| other(&format!("can't use the lock {}: {error}", path.display())))
}

/// Device and inode: which file it is, whatever its name.
type FileId = (u64, u64);

fn file_id(file: &fs::File) -> Option<FileId> {
    let found = file.metadata().ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether `path` still names this file.
fn is_same(path: &Path, file: Option<FileId>) -> bool {
    let found = fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()));
    found.is_ok_and(|found| Some(found) == file)
}

/// The control socket's file.
struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    /// Whether it is still this server's.
    fn is_there(&self) -> bool {
        is_same(&self.path, Some(self.id))
    }

    /// Removes it, if it is still this server's.
    fn remove(&self) {
        if self.is_there() {
            // Somebody may just have removed it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on the control socket. A file that nobody listens on is replaced.
fn listen(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let cant = |error: io::Error| {
        other(&format!(
            "can't listen on the socket {}: {error}",
            path.display()
        ))
    };
    match UnixStream::connect(path) {
        // Its lock was removed from under it.
        Ok(_) => return Err(other(ALREADY_RUNNING)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(cant)?;
        }
        Err(error) => return Err(cant(error)),
    }
    let listener = UnixListener::bind(path).map_err(cant)?;
    let file = fs::symlink_metadata(path).map_err(cant)?;
    let socket = SocketFile {
        path: path.to_owned(),
        id: (file.dev(), file.ino()),
    };
    Ok((listener, socket))
}

fn serve_clients(daemon: &Arc<Daemon>, listener: UnixListener) -> io::Result<Server> {
    let (remote, inbox) = serve::remote()?;
    daemon.shared.serve(remote.clone());
    let listener = Listener::unix(listener)?;
    let theirs = daemon.clone();
    let control = Control::new(Clients::new(theirs));
    let theirs = daemon.clone();
    let thread = spawn("control", move || {
        let outcome = serve::run(vec![listener], control, control::LIMITS, inbox);
        theirs.ended("control socket", outcome);
    })?;
    Ok(Server { remote, thread })
}

fn serve_browsers(daemon: &Arc<Daemon>, sites: Sites, inbox: Inbox) -> io::Result<JoinHandle<()>> {
    let endpoint = endpoint::Endpoint(daemon.shared.clone());
    let theirs = daemon.clone();
    spawn("redirect", move || {
        let outcome = redirect::run(sites.sites, endpoint, inbox);
        theirs.ended("redirect listener", outcome);
    })
}

impl Daemon {
    fn ended(&self, what: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            ::log::error!("the {what} has ended: {error}");
            self.stop();
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
fn end(servers: [Server; 2], former: Vec<JoinHandle<()>>) {
    for server in &servers {
        server.remote.stop();
    }
    let threads = servers.map(|server| server.thread);
    for thread in threads.into_iter().chain(former) {
        // A thread that has panicked has nothing left to finish.
        let _ = thread.join();
    }
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        ::log::warn!("the service manager can't be told: {error}");
    }
}

fn other(what: &str) -> Failure {
    Failure::new(Exit::Other, what)
}
