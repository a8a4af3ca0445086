//! A daemon in a directory of its own, with as many accounts as are wanted.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use pizauth::{
    config::Config,
    core::dump::{self, Access, Dump, Saved, SignIns},
    secret::Secret,
    time::Wall,
};

use crate::{TOKEN_BYTES, server::Server};

pub struct World {
    dir: tempfile::TempDir,
    binary: PathBuf,
    config: String,
    certificate: Option<PathBuf>,
}

pub struct Memory {
    pub resident: f64,
    pub proportional: f64,
    pub dirty: f64,
    pub threads: f64,
}

/// The minimal clients, built.
pub struct Floors {
    dir: tempfile::TempDir,
}

/// So many accounts of one provider.
pub fn config(base: &str, accounts: usize, more: &str) -> String {
    let account = |number| {
        format!(
            "account \"a{number}\" {{ auth_uri = \"{base}/auth\"; token_uri = \"{base}/token\"; \
             client_id = \"bench\"; scopes = [\"mail\"]; }}\n"
        )
    };
    more.to_owned() + &(0..accounts).map(account).collect::<String>()
}

/// Tokens for every account.
pub fn tokens(config: &Config, obtained: Wall, expires: Wall) -> Dump {
    let grants = config.accounts.iter().map(|account| Saved {
        account: account.name.clone(),
        registration: account.registration.clone(),
        access: Some(Access {
            token: Arc::new(Secret::new("t".repeat(TOKEN_BYTES))),
            expires: Some(expires),
            scopes: None,
            origins: None,
            id_token: None,
        }),
        refresh_token: Some(Arc::new(Secret::new(format!(
            "{}.0.{}",
            account.name,
            "r".repeat(TOKEN_BYTES)
        )))),
        refresh_origins: None,
        refresh_ends: None,
        sign_ins: SignIns::default(),
        other_user: None,
        obtained,
        original: false,
    });
    Dump {
        grants: grants.collect(),
        changed: None,
    }
}

impl World {
    /// The binary that this was built with.
    pub fn own_binary() -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_pizauth"))
    }

    /// With tokens that expire in so many seconds, or without tokens.
    pub fn start(accounts: usize, expires: Option<u64>) -> Self {
        Self::start_with(&Self::own_binary(), accounts, expires)
    }

    /// As [`World::start`], with another binary.
    pub fn start_with(binary: &Path, accounts: usize, expires: Option<u64>) -> Self {
        let world = Self::prepared(binary, accounts, "http://localhost:1", None);
        world.run_server();
        if let Some(expires) = expires {
            world.restore(expires);
        }
        world
    }

    /// With accounts of `server`.
    pub fn of_server(server: &Server, accounts: usize, expires: Option<u64>) -> Self {
        Self::of_server_with(&Self::own_binary(), server, accounts, expires)
    }

    /// As [`World::of_server`], with another binary.
    pub fn of_server_with(
        binary: &Path,
        server: &Server,
        accounts: usize,
        expires: Option<u64>,
    ) -> Self {
        let world = Self::prepared(binary, accounts, &server.base, server.certificate.clone());
        world.run_server();
        if let Some(expires) = expires {
            world.restore(expires);
        }
        world
    }

    /// With accounts of the provider at `base`, without tokens.
    pub fn of_provider(base: &str, accounts: usize) -> Self {
        let world = Self::prepared(&Self::own_binary(), accounts, base, None);
        world.run_server();
        world
    }

    /// With one account, and this beside it; provider and servers show `certificate`.
    pub fn with(more: &str, certificate: PathBuf) -> Self {
        let mut world = Self::prepared(
            &Self::own_binary(),
            1,
            "http://localhost:1",
            Some(certificate),
        );
        world.config += more;
        fs::write(world.dir.path().join("pizauth.conf"), &world.config).unwrap();
        world.run_server();
        world
    }

    /// From `pizauth server` to the first answer.
    pub fn time_to_start(accounts: usize) -> Duration {
        let binary = Path::new(env!("CARGO_BIN_EXE_pizauth"));
        let world = Self::prepared(binary, accounts, "http://localhost:1", None);
        let start = Instant::now();
        world.run_server();
        world.ask("show", r#"{"account":"a0"}"#);
        start.elapsed()
    }

    fn prepared(binary: &Path, accounts: usize, base: &str, certificate: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(base, accounts, "");
        fs::write(dir.path().join("pizauth.conf"), &config).unwrap();
        World {
            dir,
            binary: binary.to_owned(),
            config,
            certificate,
        }
    }

    /// The same with another program of the same command line. It stays in the foreground, since
    /// in the background it may need a syslog, which not every machine has.
    pub fn start_peer(binary: &Path, accounts: usize) -> Self {
        let world = Self::prepared(binary, accounts, "http://localhost:1", None);
        let script = "\"$0\" server -d 2>/dev/null &";
        let words = ["-c", script, binary.to_str().unwrap()];
        let started = world.command("/bin/sh".as_ref(), &words).status();
        assert!(started.unwrap().success());
        world.wait_for(|| UnixStream::connect(world.socket()).is_ok());
        world
    }

    fn run_server(&self) {
        let status = self.command(&self.binary, &["server"]).status().unwrap();
        assert!(status.success(), "the server doesn't start");
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// `program` with `words`, in this world's environment.
    pub fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path());
        if let Some(certificate) = &self.certificate {
            command.env("SSL_CERT_FILE", certificate);
        }
        command
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("pizauth/pizauth.sock")
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    pub fn ask(&self, verb: &str, body: &str) -> Vec<u8> {
        self.ask_bytes(verb, body.as_bytes())
    }

    pub fn ask_bytes(&self, verb: &str, body: &[u8]) -> Vec<u8> {
        ask_at(&self.socket(), verb, body)
    }

    /// Tokens for every account, that expire in so many seconds.
    pub fn restore(&self, expires: u64) {
        self.take(&self.dump(Duration::ZERO, expires, None));
    }

    /// Tokens for every account, all due for a refresh and still valid.
    pub fn restore_due(&self) {
        self.take(&self.dump(Duration::from_secs(3600), 60, None));
    }

    /// A token of one account that has expired, with its refresh token.
    pub fn restore_expired(&self, account: &str) {
        let dump = self.dump(Duration::from_secs(3600), 0, Some(account));
        self.take(&dump);
    }

    /// Restores `dump`, which a build of long ago may not know.
    fn take(&self, dump: &[u8]) {
        let reply = self.ask_bytes("restore", dump);
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.is_empty(), "{reply}");
    }

    /// Tokens of so many seconds' age, that expire in so many; of one account, if it is named.
    fn dump(&self, age: Duration, expires: u64, only: Option<&str>) -> Vec<u8> {
        let config = pizauth::config::parse("bench.conf", &self.config).unwrap();
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        let now = Wall::from_millis(0).after(since);
        let expires = now.after(Duration::from_secs(expires));
        let mut dump = tokens(&config, now.before(age), expires);
        dump.grants
            .retain(|it| only.is_none_or(|name| *it.account == *name));
        dump::seal(&dump, [7; 32])
    }

    /// The daemon, and what it has forked.
    pub fn processes(&self) -> Vec<u32> {
        let info: serde_json::Value = serde_json::from_slice(&self.ask("info", "")).unwrap();
        let daemon = info["pid"].as_u64().unwrap() as u32;
        let children = format!("/proc/{daemon}/task/{daemon}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        [daemon].into_iter().chain(children).collect()
    }

    pub fn memory(&self) -> Memory {
        let sum = |file: &str, key: &str| -> f64 {
            let pids = self.processes();
            pids.iter()
                .map(|pid| field(&format!("/proc/{pid}/{file}"), key))
                .sum()
        };
        Memory {
            resident: sum("smaps_rollup", "Rss:"),
            proportional: sum("smaps_rollup", "Pss:"),
            dirty: sum("smaps_rollup", "Private_Dirty:"),
            threads: sum("status", "Threads:"),
        }
    }

    pub fn wait_for(&self, condition: impl Fn() -> bool) {
        // A busy machine takes half a minute for 10,000 refreshes.
        let give_up = Instant::now() + Duration::from_secs(180);
        while !condition() {
            assert!(Instant::now() < give_up, "waited in vain");
            // why: another process has nothing to wake us with.
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn build_floors(&self) -> Floors {
        let dir = tempfile::tempdir().unwrap();
        let root = env!("CARGO_MANIFEST_DIR");
        let c = ["-O2", "-static", "-o", "c"];
        let shared = ["-O2", "-o", "c-shared"];
        let rust = ["-O", "-o", "rust"];
        let cost = ["-O2", "-static", "-o", "cost"];
        let sources = [
            ("cc", &c[..], "show.c"),
            ("cc", &shared[..], "show.c"),
            ("cc", &cost[..], "cost.c"),
            ("rustc", &rust[..], "show.rs"),
        ];
        for (compiler, options, source) in sources {
            let status = Command::new(compiler)
                .current_dir(dir.path())
                .args(options)
                .arg(format!("{root}/benches/floor/{source}"))
                .status()
                .unwrap();
            assert!(status.success());
        }
        Floors { dir }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Nobody is left to tell when it can't be ended.
        let _ = self.command(&self.binary, &["shutdown"]).status();
    }
}

impl Floors {
    pub fn c(&self, world: &World) -> Command {
        self.client("c", world)
    }

    pub fn c_shared(&self, world: &World) -> Command {
        self.client("c-shared", world)
    }

    pub fn rust(&self, world: &World) -> Command {
        self.client("rust", world)
    }

    /// CPU time in us, peak memory in kB and page faults of a command.
    pub fn cost(&self, command: Command) -> [f64; 3] {
        let mut outer = Command::new(self.dir.path().join("cost"));
        outer
            .arg(command.get_program())
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            );
        let output = outer.output().unwrap().stdout;
        let text = String::from_utf8_lossy(&output).into_owned();
        let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
        std::array::from_fn(|_| numbers.next().expect("three numbers"))
    }

    fn client(&self, name: &str, world: &World) -> Command {
        let socket = world.socket();
        world.command(
            &self.dir.path().join(name),
            &[socket.to_str().unwrap(), "a0"],
        )
    }
}

/// What the server at this socket says.
pub fn ask_at(socket: &Path, verb: &str, body: &[u8]) -> Vec<u8> {
    let mut socket = UnixStream::connect(socket).unwrap();
    let mut head = format!("pizauth 1 {verb} {}\n", body.len()).into_bytes();
    // One call for a client's request; what it takes to copy a dump isn't to be measured.
    let (short, long) = body.split_at(body.len().min(4096));
    head.extend_from_slice(short);
    socket.write_all(&head).unwrap();
    socket.write_all(long).unwrap();
    let mut reply = Vec::new();
    socket.read_to_end(&mut reply).unwrap();
    let end = reply
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a reply")
        + 1;
    reply.split_off(end)
}

/// Voluntary context switches of all threads of these processes.
pub fn wakeups(processes: &[u32]) -> f64 {
    let threads = processes.iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.map(|task| task.unwrap().path().join("status"))
    });
    threads
        .map(|file| field(file.to_str().unwrap(), "voluntary_ctxt_switches:"))
        .sum()
}

/// What these processes have cost so far, in ms of CPU.
pub fn cpu_millis(processes: &[u32]) -> f64 {
    // proc(5): utime and stime are fields 14 and 15, in hundredths of a second; the name before them
    // ends with the last bracket.
    let ticks = processes.iter().flat_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = text.rsplit(')').next().unwrap().to_owned();
        let numbers = fields.split_whitespace().skip(11).take(2);
        numbers
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .collect::<Vec<_>>()
    });
    ticks.sum::<f64>() * 10.0
}

/// The first number behind `key` in a file of /proc; 0 when there is none.
pub fn field(file: &str, key: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.map_or(0.0, |number| number.parse().unwrap())
}
