//! `make bench`: what pizauth costs, everything side by side in one run. See benches/README.md.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod core;
#[cfg(target_os = "linux")]
mod crowd;
mod owners;
mod proxy;
mod report;
mod server;
mod world;

/// Crowds wait in an event loop of Linux's; elsewhere nothing is measured.
#[cfg(not(target_os = "linux"))]
mod crowd {
    use std::path::Path;

    pub fn arriving(_: &Path, count: usize) -> Vec<f64> {
        vec![f64::NAN; count]
    }

    pub fn standing(_: &Path, count: usize) -> Vec<f64> {
        vec![f64::NAN; count]
    }

    pub fn storming(_: &Path, count: usize) -> Vec<f64> {
        vec![f64::NAN; count]
    }

    pub fn smallest_server(_: &Path) {}
}

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use report::{Report, median, millis, percentile};
use world::World;

/// One part of the benchmark, by the word that picks it.
type Part = (&'static str, fn(&mut Report));

/// A command to measure, by what the table calls it.
type Row<'a> = (&'a str, Box<dyn Fn() -> Command + 'a>);

/// What stands beside the crowds, by what the table calls it.
type Scene = (&'static str, fn(&Path) -> (Trouble, World));

/// What a thousand clients wait for, by what the table calls it.
type Crowd = (&'static str, fn(&Path, usize) -> Vec<f64>);

/// How many threads a server has at rest: the token holder's three, the monitor and the hook runner.
const IDLE_THREADS: f64 = 5.0;

/// A token as long as Microsoft's.
const TOKEN_BYTES: usize = 1800;

fn main() {
    owners::be_one();
    // `cargo bench` passes `--bench`; any other word picks the parts whose name holds it.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let parts: [Part; 10] = [
        ("show", show),
        ("socket", socket),
        ("idle", idle),
        ("scale", scale),
        ("refresh", refresh),
        ("owners", owners::owners),
        ("proxy", proxy::proxy),
        ("size", size),
        ("core", core::core),
        ("build", build),
    ];
    let mut report = Report::default();
    for (name, part) in parts {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            part(&mut report);
        }
    }
    report.finish();
}

/// The client: instructions, CPU, memory, system calls and wall time beside two floors, and a
/// peer's if there is one.
fn show(report: &mut Report) {
    report.section("show with a ready token: the client");
    let world = World::start(3, Some(3600));
    let peer = std::env::var("PEER")
        .ok()
        .map(|peer| World::start_peer(peer.as_ref(), 3));
    let floors = world.build_floors();
    let ours = |words: &[&str]| world.command(world.binary(), words);
    let mut rows: Vec<Row> = vec![
        ("pizauth show", Box::new(|| ours(&["show", "a0"]))),
        ("static C", Box::new(|| floors.c(&world))),
        ("C with a shared libc", Box::new(|| floors.c_shared(&world))),
        ("minimal Rust", Box::new(|| floors.rust(&world))),
        ("/bin/true", Box::new(|| Command::new("/bin/true"))),
        (
            "pizauth show --wait 1s",
            Box::new(|| ours(&["show", "--wait", "1s", "a0"])),
        ),
        ("pizauth status", Box::new(|| ours(&["status"]))),
        ("pizauth status -j", Box::new(|| ours(&["status", "-j"]))),
        (
            "pizauth show, no such account",
            Box::new(|| ours(&["show", "none"])),
        ),
    ];
    if let Some(peer) = &peer {
        // What both can do without a token, since a peer's dump is its own.
        for (name, words) in [
            ("peer info", &["info"][..]),
            ("peer show, no token", &["show", "a0"]),
        ] {
            let theirs = move || peer.command(peer.binary(), words);
            rows.push((name, Box::new(theirs)));
        }
        rows.push(("pizauth info", Box::new(|| ours(&["info"]))));
    }
    for (name, command) in &rows {
        match instructions(command()) {
            Some(count) => report.row(name, "instructions", count as f64, ""),
            None => report.note("valgrind isn't there: no instructions"),
        }
        if let Some(calls) = system_calls(command()) {
            report.row(name, "system calls", calls as f64, "");
        }
        let costs: Vec<[f64; 3]> = (0..21).map(|_| floors.cost(command())).collect();
        for (column, unit) in ["us CPU", "kB peak", "page faults"].iter().enumerate() {
            let mut values: Vec<f64> = costs.iter().map(|cost| cost[column]).collect();
            report.row(name, unit, median(&mut values), "");
        }
    }
    walls(report, &rows);
}

/// Wall time of each row, alternating, so that whatever else the machine does falls on all alike.
fn walls(report: &mut Report, rows: &[Row]) {
    let mut spans: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for _ in 0..200 {
        for (row, (_, command)) in rows.iter().enumerate() {
            let mut command = command();
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let start = Instant::now();
            let _ = command.status().unwrap();
            spans[row].push(millis(start.elapsed()));
        }
    }
    let floor = median(&mut spans[1].clone());
    for ((name, _), spans) in rows.iter().zip(&mut spans) {
        let wall = median(spans);
        let beside = format!("{:.2} x static C", wall / floor);
        report.row(name, "ms wall, median", wall, &beside);
    }
}

/// From execve(2) to the end, as strace(1) counts them; nothing where it isn't installed.
fn system_calls(command: Command) -> Option<usize> {
    let output = under(&["strace", "-qq"], &command).output().ok()?;
    // The calls are on stderr, where a message of the program's may be among them.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_call = |line: &&str| line.contains('(') && line.contains(") ");
    Some(text.lines().filter(is_call).count())
}

/// `command`, run by the first of `words`.
fn under(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer
        .args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
    outer
}

fn instructions(command: Command) -> Option<u64> {
    let words = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ];
    let output = under(&words, &command).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The socket's throughput and latency, undisturbed and beside trouble. With BEFORE in the
/// environment, that other build's follow each of ours.
fn socket(report: &mut Report) {
    report.section("show over the socket");
    let mut builds = vec![("", World::own_binary())];
    let before = std::env::var("BEFORE").ok();
    if let Some(before) = &before {
        builds.push(("before: ", before.into()));
    }
    for (which, binary) in &builds {
        let world = World::start_with(binary, 3, Some(3600));
        throughput(report, which, &world);
    }
    let directory = tempfile::tempdir().unwrap();
    let floor = directory.path().join("floor");
    crowd::smallest_server(&floor);
    let scenes: [Scene; 4] = [
        ("1,000 clients", |binary| {
            (Trouble::None, World::start_with(binary, 3, Some(3600)))
        }),
        ("1,000 clients, beside 60 silent ones", |binary| {
            let world = World::start_with(binary, 3, Some(3600));
            let silent = (0..60).map(|_| world.connect()).collect();
            (Trouble::Silent(silent), world)
        }),
        (
            "1,000 clients, beside reloads of 10,000 accounts",
            |binary| {
                let world = World::start_with(binary, 10_000, Some(3600));
                let reloads = Reloads::begin(&world);
                (Trouble::Reloads(reloads), world)
            },
        ),
        ("1,000 clients, beside a hung token endpoint", |binary| {
            let hung = server::Server::hanging();
            let world = World::of_server_with(binary, &hung, 10, None);
            world.restore_due();
            world.wait_for(|| hung.requests() > 0);
            (Trouble::Hung(hung), world)
        }),
    ];
    for (name, scene) in scenes {
        let worlds: Vec<_> = builds.iter().map(|(_, binary)| scene(binary)).collect();
        let sockets = worlds.iter().map(|(_, world)| world.socket());
        let mut servers: Vec<_> = builds.iter().map(|(name, _)| *name).zip(sockets).collect();
        servers.push(("floor: ", floor.clone()));
        crowds(report, name, &servers);
    }
}

/// What stands beside the clients, as long as it lives.
enum Trouble {
    None,
    Silent(#[allow(dead_code)] Vec<UnixStream>),
    Reloads(#[allow(dead_code)] Reloads),
    Hung(#[allow(dead_code)] server::Server),
}

/// A server that reads its configuration again, ten times a second.
struct Reloads {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Reloads {
    fn begin(world: &World) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (socket, theirs) = (world.socket(), over.clone());
        let thread = thread::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                world::ask_at(&socket, "reload", b"");
                // why: the interval is the scene's.
                thread::sleep(Duration::from_millis(100));
            }
        });
        Reloads {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn throughput(report: &mut Report, which: &str, world: &World) {
    let count = 20_000;
    let ask = || world.ask("show", r#"{"account":"a0"}"#);
    let start = Instant::now();
    for _ in 0..count {
        ask();
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    report.row(&format!("{which}sequential"), "a second", rate, "");
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..count / 8).for_each(|_| drop(ask())));
        }
    });
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    report.row(&format!("{which}8 at once"), "a second", rate, "");
}

/// Every crowd, the servers taking turns.
fn crowds(report: &mut Report, name: &str, servers: &[(&str, PathBuf)]) {
    let kinds: [Crowd; 3] = [
        ("arriving", crowd::arriving),
        ("standing", crowd::standing),
        ("storming", crowd::storming),
    ];
    for (kind, crowd) in kinds {
        let mut spans: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
        for _ in 0..7 {
            for ((_, server), spans) in servers.iter().zip(&mut spans) {
                spans.extend(crowd(server, 1000));
            }
        }
        for ((which, _), spans) in servers.iter().zip(&mut spans) {
            let name = format!("{which}{name}, {kind}");
            for (unit, percent) in [("ms p50", 50.0), ("ms p99", 99.0), ("ms max", 100.0)] {
                report.row(&name, unit, percentile(spans, percent), "");
            }
        }
    }
}

/// What a daemon costs that has nothing to do.
fn idle(report: &mut Report) {
    report.section("an idle daemon, all its processes together");
    for accounts in [1, 3, 100, 1_000, 10_000] {
        let world = World::start(accounts, Some(3600));
        let name = format!("{accounts} accounts with tokens");
        held(report, &name, &world);
        if accounts == 3 {
            // Found beforehand: asking for them wakes the daemon up.
            let processes = world.processes();
            let before = world::wakeups(&processes);
            // why: the time itself is what is measured.
            thread::sleep(Duration::from_secs(60));
            let woken = world::wakeups(&processes) - before;
            report.row(&name, "wake-ups in 60 s", woken, "");
            for _ in 0..1_000 {
                world.ask("reload", "");
            }
            held(report, "the same after 1,000 reloads", &world);
        }
    }
    let server = server::Server::tls(Duration::ZERO);
    let world = World::of_server(&server, 10_000, None);
    world.restore_due();
    world.wait_for(|| server.requests() >= 10_000);
    world.wait_for(|| world.memory().threads <= IDLE_THREADS);
    held(report, "10000 accounts after a refresh of each", &world);
}

fn held(report: &mut Report, name: &str, world: &World) {
    let memory = world.memory();
    report.row(name, "kB resident", memory.resident, "");
    report.row(name, "kB proportional", memory.proportional, "");
    report.row(name, "kB private dirty", memory.dirty, "");
    report.row(name, "threads", memory.threads, "");
}

/// How start, reload, status, dump and restore grow with the number of accounts.
fn scale(report: &mut Report) {
    report.section("growth with the number of accounts");
    let sizes = [1, 1_000, 10_000];
    let mut table: Vec<Vec<f64>> = Vec::new();
    for accounts in sizes {
        let mut starts = Vec::new();
        for _ in 0..5 {
            starts.push(millis(World::time_to_start(accounts)));
        }
        let world = World::start(accounts, Some(3600));
        let mut spans = vec![median(&mut starts)];
        let dump = world.ask("dump", "");
        for (verb, body) in [
            ("reload", &b""[..]),
            ("status", b""),
            ("dump", b""),
            ("restore", &dump),
        ] {
            let mut times: Vec<f64> = (0..5)
                .map(|_| {
                    let start = Instant::now();
                    world.ask_bytes(verb, body);
                    millis(start.elapsed())
                })
                .collect();
            spans.push(median(&mut times));
        }
        table.push(spans);
    }
    for (column, verb) in ["start", "reload", "status", "dump", "restore"]
        .iter()
        .enumerate()
    {
        for (row, accounts) in sizes.iter().enumerate() {
            let name = format!("{verb}, {accounts} accounts");
            report.row(&name, "ms, median of 5", table[row][column], "");
        }
        let exponent = (table[2][column] / table[1][column]).log10();
        report.row(verb, "exponent from 1,000 to 10,000", exponent, "");
    }
}

/// Many tokens due at once, over TLS, from a server that takes a tenth of a second.
fn refresh(report: &mut Report) {
    report.section("tokens due at once, over TLS, from a server that takes 100 ms");
    for accounts in [200, 1_000, 3_000] {
        let server = server::Server::tls(Duration::from_millis(100));
        let world = World::of_server(&server, accounts, None);
        let before = world.memory();
        let start = Instant::now();
        world.restore_due();
        let mut shows = Vec::new();
        let (mut peak, mut threads) = (0.0_f64, 0.0_f64);
        while server.requests() < accounts {
            let asked = Instant::now();
            world.ask("show", r#"{"account":"a0"}"#);
            shows.push(millis(asked.elapsed()));
            let memory = world.memory();
            peak = peak.max(memory.resident);
            threads = threads.max(memory.threads);
            // why: a sampling interval.
            thread::sleep(Duration::from_millis(5));
        }
        let name = format!("{accounts} tokens");
        report.row(
            &name,
            "s until the last is asked for",
            start.elapsed().as_secs_f64(),
            "",
        );
        report.row(&name, "connections", server.connections() as f64, "");
        let [full, resumed] = server.handshakes();
        report.row(&name, "full TLS handshakes", full as f64, "");
        report.row(&name, "resumed TLS handshakes", resumed as f64, "");
        report.row(&name, "threads at most", threads, "");
        report.row(&name, "kB growth at most", peak - before.resident, "");
        report.row(
            &name,
            "ms show p99 meanwhile",
            percentile(&mut shows, 99.0),
            "",
        );
    }
    cost_of_a_refresh(report);
}

/// What a refresh costs, undisturbed by anybody who asks meanwhile.
fn cost_of_a_refresh(report: &mut Report) {
    let accounts = 1_000;
    let server = server::Server::tls(Duration::from_millis(10));
    let world = World::of_server(&server, accounts, None);
    let processes = world.processes();
    let before = world::cpu_millis(&processes);
    world.restore_due();
    let restored = world::cpu_millis(&processes);
    world.wait_for(|| server.requests() >= accounts);
    world.wait_for(|| world.memory().threads <= IDLE_THREADS);
    let each = |span: f64| span / accounts as f64;
    let refreshed = each(world::cpu_millis(&processes) - restored);
    let name = format!("one of {accounts} tokens");
    report.row(&name, "ms CPU to restore", each(restored - before), "");
    report.row(&name, "ms CPU to refresh", refreshed, "");
}

/// What is installed, by section, and what it is made of; `make bloat` says which crate costs what.
fn size(report: &mut Report) {
    report.section("the binary");
    let binary = env!("CARGO_BIN_EXE_pizauth");
    let bytes = std::fs::metadata(binary).unwrap().len();
    report.row("pizauth", "bytes", bytes as f64, "");
    let sections = Command::new("size").args(["-A", binary]).output();
    let sections = sections.map(|output| output.stdout).unwrap_or_default();
    for line in String::from_utf8_lossy(&sections).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, bytes, _] = words[..] else {
            continue;
        };
        if let Some(bytes) = bytes.parse::<f64>().ok().filter(|bytes| *bytes > 16_384.0) {
            report.row(name, "bytes", bytes, "");
        }
    }
    let tree = [
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ];
    let tree = Command::new(env!("CARGO"))
        .args(tree)
        .output()
        .unwrap()
        .stdout;
    let tree = String::from_utf8_lossy(&tree).into_owned();
    let crates: std::collections::BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    report.row("crates in the binary", "", crates.len() as f64, "");
}

/// A build of everything from nothing, as a packager does it.
fn build(report: &mut Report) {
    report.section("a clean build");
    let target = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release", "--quiet", "--target-dir"])
        .arg(target.path())
        .status()
        .unwrap();
    assert!(status.success(), "it doesn't build");
    report.row(
        "cargo build --release",
        "s",
        start.elapsed().as_secs_f64(),
        "",
    );
}
