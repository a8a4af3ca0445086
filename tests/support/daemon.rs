//! A daemon in a world of its own: directories, configuration and environment that vanish with
//! it. Whatever a test does, dropping the guard ends the daemon.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::browser::{self, Page};
use super::command::{Capture, Output, Running};
use super::hooks::Record;
use super::provider::Provider;
use super::wait;

/// Names another binary to test, for instance an installed one.
const BINARY_VAR: &str = "PIZAUTH_UNDER_TEST";
/// What a command gets of the environment of the tests: where programs are, where a coverage
/// build writes, and what AddressSanitizer is told (`detect_leaks=0`: its leak check wants to trace
/// the daemon, which lets nobody).
const PASSED_ON: [&str; 3] = ["PATH", "LLVM_PROFILE_FILE", "ASAN_OPTIONS"];

/// The guard. The daemon runs from [`Daemon::start`] or [`Daemon::start_forked`] on.
#[derive(Debug)]
pub struct Daemon {
    home: TempDir,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    /// As whom the commands run, when that isn't us.
    user: Option<u32>,
    running: Server,
}

#[derive(Debug)]
enum Server {
    Down,
    /// `server -d`, our child.
    Foreground(Running),
    /// It went into the background. Without a pid it can only be asked to go.
    Forked(Option<Pid>),
}

impl Daemon {
    /// A world with `config` in it; the daemon doesn't run yet.
    pub fn new(config: &str) -> Self {
        let binary = std::env::var_os(BINARY_VAR)
            .map_or_else(|| env!("CARGO_BIN_EXE_pizauth").into(), PathBuf::from);
        Daemon::of_binary(&binary, config)
    }

    /// The same with another binary.
    pub fn of_binary(binary: &Path, config: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut env = BTreeMap::from([
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
        ]);
        env.extend(
            PASSED_ON
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))),
        );
        for (name, directory) in [
            ("HOME", "home"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            let path = home.path().join(directory);
            fs::create_dir(&path).expect("a directory");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("its mode");
            env.insert(name.into(), path.to_str().expect("a path in UTF-8").into());
        }
        let daemon = Daemon {
            home,
            binary: binary.into(),
            env,
            user: None,
            running: Server::Down,
        };
        daemon.write_config(config);
        daemon
    }

    /// A path in the world's top directory, which is the commands' working directory too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn config_path(&self) -> PathBuf {
        self.path("config/pizauth.conf")
    }

    pub fn socket_path(&self) -> PathBuf {
        self.path("run/pizauth/pizauth.sock")
    }

    /// Replaces the configuration.
    pub fn write_config(&self, config: &str) {
        fs::write(self.config_path(), config).expect("to write the configuration");
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.config_path(), mode).expect("to keep it to ourselves");
    }

    /// A record for hooks to write to.
    pub fn record(&self, name: &str) -> Record {
        Record::new(self.home.path(), name)
    }

    /// Sets a variable for the commands that start from now on, the daemon included.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Takes a variable away from them.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.env.remove(name);
        self
    }

    /// `pizauth` with `args`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .env_clear()
            .envs(&self.env)
            .current_dir(self.home.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Gives the whole world, with a copy of the binary in it, to `user`, as whom everything runs
    /// from now on; only root can.
    pub fn give_to(&mut self, user: u32) -> &mut Self {
        let binary = self.path("pizauth");
        // Not by ourselves: a command that another test starts just then would hold the copy open
        // for writing, and it couldn't be run (ETXTBSY).
        let mut copy = Command::new("cp");
        let copied = copy.arg(&self.binary).arg(&binary).status();
        assert!(copied.expect("cp").success(), "no copy of the binary");
        self.binary = binary;
        let mut paths = vec![self.home.path().to_owned()];
        while let Some(path) = paths.pop() {
            chown(&path, Some(user), Some(user)).expect("to give it away");
            let entries = fs::read_dir(&path).into_iter().flatten();
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        self.user = Some(user);
        self
    }

    /// `program` as whoever the daemon runs as.
    pub fn neighbour(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs `pizauth` with `args` and an empty stdin.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"")
    }

    /// Runs `pizauth` with `args` and `input` on its stdin.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut running = self.spawn(args);
        running.feed(input);
        running.finish()
    }

    /// Starts `pizauth` with `args` beside the test.
    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// Whether it is this project's own binary that is tested.
    pub fn is_ours() -> bool {
        std::env::var_os(BINARY_VAR).is_none()
    }

    /// The state as `dump` prints it, byte by byte.
    #[track_caller]
    pub fn dump(&self) -> Vec<u8> {
        let running = self.spawn(&["dump"]);
        let stdout = running.stdout.clone();
        running.finish().ok();
        stdout.bytes()
    }

    /// Runs `pizauth` with `args` again and again until `good` likes what it says.
    pub fn eventually(&self, args: &[&str], good: impl Fn(&Output) -> bool) -> Output {
        wait::until(&format!("the right answer of {args:?}"), || {
            Some(self.run(args)).filter(|output| good(output))
        })
    }

    /// Starts the daemon in the foreground, with all that it can log, and waits until it listens.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_with(&["-vvvv"]);
    }

    /// Starts the daemon in the foreground with `flags`, and waits until it listens.
    #[track_caller]
    pub fn start_with(&mut self, flags: &[&str]) {
        assert!(
            matches!(self.running, Server::Down),
            "the server runs already"
        );
        let mut server = self.spawn(&[&["server", "-d"], flags].concat());
        wait::until("the server to listen", || {
            assert!(
                server.is_running(),
                "the server went: {}",
                server.stderr.text()
            );
            UnixStream::connect(self.socket_path()).ok()
        });
        self.running = Server::Foreground(server);
    }

    /// Starts the daemon the normal way: the command has to succeed, in silence, when it answers.
    #[track_caller]
    pub fn start_forked(&mut self) {
        assert!(
            matches!(self.running, Server::Down),
            "the server runs already"
        );
        // The path says in the process list whose daemon it is.
        let config = self.config_path();
        let output = self.run(&["server", "-c", config.to_str().expect("a path in UTF-8")]);
        // Whatever it said, there may be a daemon now, and it is ours to end.
        self.running = Server::Forked(self.find_pid());
        assert_eq!(output.ok(), "");
    }

    /// Takes over a daemon that the test has started in the background itself.
    pub fn adopt(&mut self) {
        assert!(
            matches!(self.running, Server::Down),
            "the server runs already"
        );
        self.running = Server::Forked(self.find_pid());
    }

    /// Waits until the daemon has ended by itself; its exit status, when it is our child.
    #[track_caller]
    pub fn wait_end(&mut self) -> Option<i32> {
        match std::mem::replace(&mut self.running, Server::Down) {
            Server::Down | Server::Forked(None) => None,
            Server::Foreground(server) => Some(server.finish().status),
            Server::Forked(Some(pid)) => {
                wait::until("the daemon's end", || gone(pid));
                None
            }
        }
    }

    /// Takes the state over into a fresh daemon, through a file that is gone afterwards.
    #[track_caller]
    pub fn restart(&mut self) {
        let file = self.path("dump");
        let dump = fs::File::create(&file).expect("a file for the dump");
        let status = self.command(&["dump"]).stdout(dump).status();
        assert!(status.expect("to run dump").success());
        self.shutdown();
        self.start();
        self.run_with(&["restore"], &fs::read(&file).expect("the dump"))
            .ok();
        fs::remove_file(file).expect("to remove the dump");
    }

    /// The daemon's process, as far as that can be known.
    pub fn pid(&self) -> Option<Pid> {
        match &self.running {
            Server::Down => None,
            Server::Foreground(server) => Some(server.pid()),
            Server::Forked(pid) => *pid,
        }
    }

    /// Sets a limit of the process that holds the tokens, as prlimit(1) takes it: false where that
    /// can't be done. One on the length of files stands for a full disk, since it takes no mount to set.
    pub fn limit(&self, limit: &str) -> bool {
        limit_process(self.holder(), limit)
    }

    /// The process that holds the tokens, by its own word.
    #[track_caller]
    pub fn holder(&self) -> Pid {
        self.process("token_holder").expect("who holds the tokens")
    }

    /// Has a signal kill the process that holds the tokens, and waits for the next one.
    #[track_caller]
    pub fn kill_holder(&self, signal: Signal) {
        let victim = self.holder();
        kill(victim, signal).unwrap();
        wait::until("another token holder", || {
            // It may be asked just as it ends.
            let info = self.run(&["info", "-j"]);
            let info: serde_json::Value = serde_json::from_str(&info.stdout).ok()?;
            let holder = info["server_info"]["token_holder"].as_i64()?;
            let holder = Pid::from_raw(i32::try_from(holder).unwrap());
            (holder != victim).then_some(())
        });
    }

    /// What the daemon has logged until now; only in the foreground.
    pub fn log(&self) -> Capture {
        match &self.running {
            Server::Foreground(server) => server.stderr.clone(),
            Server::Down | Server::Forked(_) => Capture::nothing(),
        }
    }

    /// Asks the daemon to go, checks that it goes as it should, and gives what it had logged.
    #[track_caller]
    pub fn shutdown(&mut self) -> String {
        let log = self.log();
        self.run(&["shutdown"]).ok();
        match std::mem::replace(&mut self.running, Server::Down) {
            Server::Down | Server::Forked(None) => {}
            Server::Foreground(server) => assert_eq!(server.finish().status, 0, "{}", log.text()),
            Server::Forked(Some(pid)) => wait::until("the daemon's end", || gone(pid)),
        }
        log.text()
    }

    /// Kills the daemon without a word, as a crash would.
    pub fn kill(&mut self) {
        let processes = self.pid().map(children).unwrap_or_default();
        match std::mem::replace(&mut self.running, Server::Down) {
            Server::Down | Server::Forked(None) => {}
            Server::Foreground(mut server) => server.kill(),
            Server::Forked(Some(pid)) => self.kill_forked(pid),
        }
        // They end with it, one after the other; until then, the socket still takes connections.
        for pid in processes {
            wait::until("the end of all its processes", || gone(pid));
        }
    }

    /// The URL that `show` says has to be visited. Panics unless it fails in the way for that.
    #[track_caller]
    pub fn authorization_url(&self, account: &str) -> String {
        browser::url_in(self.run(&["show", account]).failed(77))
    }

    /// Signs in, up to the page that tells so.
    #[track_caller]
    pub fn sign_in(&self, account: &str) -> Page {
        let page = browser::visit(&self.authorization_url(account));
        assert_eq!(page.status(), 200, "{page:?}");
        page
    }

    /// The token that `show` prints, in its one line.
    #[track_caller]
    pub fn token(&self, account: &str) -> String {
        let output = self.run(&["show", account]);
        let token = output.ok().strip_suffix('\n').expect("a whole line");
        assert!(!token.is_empty() && !token.contains('\n'), "{output:?}");
        token.into()
    }

    /// The process that runs the hooks, if there is one.
    pub fn hook_runner(&self) -> Option<Pid> {
        self.process("hook_runner")
    }

    fn process(&self, name: &str) -> Option<Pid> {
        let info = self.run(&["info", "-j"]).ok().to_owned();
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        let process = info["server_info"][name].as_i64()?;
        Some(Pid::from_raw(i32::try_from(process).expect("a process")))
    }

    /// Kills the process that runs the hooks; returns when another one has taken its place.
    pub fn kill_hook_runner(&self) {
        let first = wait::until("the hook runner", || self.hook_runner());
        kill(first, Signal::SIGKILL).expect("it is there");
        wait::until("another hook runner", || {
            self.hook_runner().filter(|next| *next != first)
        });
    }

    /// The pid of a daemon in the background: its own word, or the kernel's.
    fn find_pid(&self) -> Option<Pid> {
        let info = self.run(&["info", "-j"]).stdout;
        let info: serde_json::Value = serde_json::from_str(&info).unwrap_or_default();
        let told = info["server_info"]["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        told.map(Pid::from_raw)
            .or_else(|| listener_of(&self.socket_path()))
            .filter(|pid| self.owns(*pid))
    }

    /// Whether `pid` is a daemon that this guard started: a number that was taken over by another
    /// process must not cost that one its life. Where nothing tells, nobody is killed.
    fn owns(&self, pid: Pid) -> bool {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let home = self.home.path().to_string_lossy();
        String::from_utf8_lossy(&command_line).contains(&*home)
    }

    fn kill_forked(&self, pid: Pid) {
        if self.owns(pid) {
            let _ = kill(pid, Signal::SIGKILL);
            wait::try_until(|| gone(pid));
        }
    }
}

impl Drop for Daemon {
    /// Asks first, so that the daemon can end its hooks.
    fn drop(&mut self) {
        if matches!(self.running, Server::Down) {
            return;
        }
        // Not by `run`: that panics.
        let mut command = self.command(&["shutdown"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let asked = command
            .spawn()
            .ok()
            .and_then(|child| Running::of(child).wait());
        let asked = asked.is_some_and(|status| status.success());
        match std::mem::replace(&mut self.running, Server::Down) {
            Server::Foreground(mut server) if asked => {
                server.wait();
            }
            Server::Forked(Some(pid)) => {
                if !asked || wait::try_until(|| gone(pid)).is_none() {
                    self.kill_forked(pid);
                }
            }
            // A child that wasn't asked dies with its guard.
            Server::Down | Server::Foreground(_) | Server::Forked(None) => {}
        }
    }
}

/// Sets a limit of a process, as prlimit(1) takes it: false where that can't be done.
pub fn limit_process(process: Pid, limit: &str) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &process.to_string(), limit]);
    command.output().is_ok_and(|done| done.status.success())
}

/// A daemon with an account `work` that has a `token_file`, and the file.
pub fn with_token_file(provider: &Provider) -> (Daemon, PathBuf) {
    let mut daemon = Daemon::new("");
    let file = daemon.path("token");
    let option = format!("token_file = \"{}\";", file.display());
    daemon.write_config(&provider.account_with("work", &option));
    daemon.start();
    (daemon, file)
}

/// Waits until a file holds this line and nothing else.
#[track_caller]
pub fn wait_for_line(file: &Path, line: &str) {
    wait::until("the line", || {
        (fs::read_to_string(file).ok()?.trim() == line).then_some(())
    });
}

/// Whether the process has ended; one that nobody has waited for yet, has.
pub fn gone(pid: Pid) -> Option<()> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let zombie = stat
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'));
    // The first thread may be through while others still hold the process's files open.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    ((zombie && threads <= 1) || kill(pid, None).is_err()).then_some(())
}

/// The processes that this one has started.
pub fn children(pid: Pid) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace();
    children
        .map(|pid| Pid::from_raw(pid.parse().expect("a process")))
        .collect()
}

/// The process that listens on `socket`, by the kernel's word.
#[cfg(target_os = "linux")]
fn listener_of(socket: &Path) -> Option<Pid> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    let stream = UnixStream::connect(socket).ok()?;
    let peer = getsockopt(&stream, PeerCredentials).ok()?;
    Some(Pid::from_raw(peer.pid()))
}

#[cfg(not(target_os = "linux"))]
fn listener_of(_socket: &Path) -> Option<Pid> {
    None
}
