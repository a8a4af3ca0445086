//! SECURITY.md, sentence by sentence: each promise names a test here, and a test that attacks what
//! it promises. Some need root, to act as another user or to look into the daemon; without it they
//! say on stderr that they were skipped.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    net::{Ipv6Addr, TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::unistd::{Pid, Uid};

use crate::support::{
    browser,
    command::{Output, Running},
    daemon::{Daemon, gone, wait_for_line, with_token_file},
    hooks::option,
    http::Pairs,
    provider::{Provider, Scripted, TOKEN},
    wait,
};

/// Somebody without rights: `nobody` nearly everywhere.
const NOBODY: u32 = 65_534;

/// Somebody else without rights.
const STRANGER: u32 = 65_533;

/// In front of every code and token of a test's provider, and nowhere else.
const TAG: &str = "uHx7-Zq2-only-in-secrets-";

/// What the log says of the last that an intruder tries.
const LAST_TRY: &str = "startup: startup_cmd couldn't be started: ";

const CLIENT_SECRET: &str = "uHx7-the-clients-own-word";

/// Whether the test can go on; says so when it can't.
fn is_root(test: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "skipped promises::{test}: it needs root");
    }
    root
}

/// A daemon with a signed-in account, run by somebody without rights where we may choose.
fn signed_in(provider: &Provider, options: &str) -> Daemon {
    let secret = format!("client_secret = \"{CLIENT_SECRET}\";");
    let mut daemon = Daemon::new(&(options.to_owned() + &provider.account_with("work", &secret)));
    if Uid::effective().is_root() {
        daemon.give_to(NOBODY);
    }
    daemon.start();
    daemon.sign_in("work");
    daemon
}

/// The process that holds the tokens.
fn pid(daemon: &Daemon) -> Pid {
    daemon.holder()
}

/// How often `word` is in the memory of `process`; only root may look.
fn hits(process: Pid, word: &str) -> usize {
    mappings_with(process, word).len()
}

/// Where `word` is in the memory of `process`: the range of the mapping, once for each time.
fn mappings_with(process: Pid, word: &str) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let length = number(end) - number(start);
        // A sanitizer's shadow is as large as the address space, and holds no bytes of ours.
        if !rights.starts_with('r') || line.contains("[v") || length > 1 << 30 {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        memory.seek(SeekFrom::Start(number(start))).unwrap();
        // Guard pages and the like can't be read.
        if memory.read_exact(&mut bytes).is_ok() {
            let found = bytes
                .windows(word.len())
                .filter(|part| *part == word.as_bytes())
                .count();
            if found > 0 && std::env::var_os("SHOW_HITS").is_some() {
                println!("{found} of {word} in {line}");
            }
            all.extend(vec![range.to_owned(); found]);
        }
    }
    all
}

/// The ranges of the mappings of `process` with all of these marks (proc_pid_smaps(5)).
#[cfg(target_os = "linux")]
fn mappings_marked(process: Pid, marks: &[&str]) -> Vec<String> {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap();
    let mut range = "";
    let mut all = Vec::new();
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if first == "VmFlags:" {
            let has: Vec<&str> = rest.split_whitespace().collect();
            if marks.iter().all(|mark| has.contains(mark)) {
                all.push(range.to_owned());
            }
        } else if !first.ends_with(':') {
            range = first;
        }
    }
    all
}

/// Waits until `word` is nowhere in the memory of `process`: what is still being done with it ends.
fn wait_forgotten(process: Pid, word: &str) {
    wait::until("the last copy to go", || {
        (hits(process, word) == 0).then_some(())
    });
}

/// The process that runs the daemon's hooks, and the monitor.
fn others(daemon: &Daemon) -> [Pid; 2] {
    [daemon.hook_runner().unwrap(), daemon.pid().unwrap()]
}

/// All of the server's processes.
fn all(daemon: &Daemon) -> [Pid; 3] {
    let [runner, monitor] = others(daemon);
    [pid(daemon), runner, monitor]
}

fn output(command: &mut Command) -> Output {
    Running::start(command).finish()
}

/// A daemon with tokens that came from a dump, so that no request was just made.
fn restored(provider: &Provider) -> Daemon {
    let config = provider.account("work");
    let mut daemon = Daemon::new(&config);
    daemon.start();
    daemon.sign_in("work");
    let dump = daemon.dump();
    daemon.shutdown();
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    daemon
}

#[test]
fn every_promise_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut named = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        let Some((module, test)) = word.split_once("::") else {
            continue;
        };
        let file = root.join(format!("tests/{module}.rs"));
        let code = fs::read_to_string(&file).unwrap_or_default();
        let written = format!("#[test]\nfn {test}()");
        assert!(code.contains(&written), "there is no test {word}");
        named.push(word.to_owned());
    }
    let own = fs::read_to_string(root.join("tests/promises.rs")).unwrap();
    for test in own.split("#[test]\nfn ").skip(1) {
        let name = format!("promises::{}", test.split('(').next().unwrap());
        let is_this = name.ends_with("::every_promise_has_its_test");
        assert!(is_this || named.contains(&name), "SECURITY.md lacks {name}");
    }
    assert!(named.len() > 20, "{named:?}");
}

// ---- other users ------------------------------------------------------------------------------

// Covers: other-user, H13
#[test]
fn other_uid() {
    if !is_root("other_uid") {
        return;
    }
    let provider = Provider::tagged(TAG);
    let daemon = signed_in(&provider, "");
    // To root no directory is closed, so that it gets as far as the daemon.
    let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
    let _ = stream.write_all(b"pizauth 1 show 18\n{\"account\":\"work\"}");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    daemon.log().wait_line("refused a client of uid 0");
    let mut command = Command::new("ls");
    let refused = output(command.arg(daemon.path("run/pizauth")).uid(STRANGER));
    assert!(
        refused.status != 0 && refused.stdout.is_empty(),
        "{refused:?}"
    );
    assert_eq!(daemon.token("work"), format!("{TAG}at-1"));
}

// Covers: other-user, H13
#[test]
fn another_users_server() {
    if !is_root("another_users_server") {
        return;
    }
    let mut daemon = Daemon::new("");
    fs::create_dir(daemon.path("run/pizauth")).unwrap();
    fs::set_permissions(daemon.path("run/pizauth"), PermissionsExt::from_mode(0o700)).unwrap();
    daemon.give_to(NOBODY);
    let listener = UnixListener::bind(daemon.socket_path()).unwrap();
    fs::set_permissions(daemon.socket_path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(
        daemon.run(&["show", "work"]).failed(69),
        "ERROR - the socket's server runs as another user\n"
    );
    let (mut heard, mut said) = (listener.accept().unwrap().0, Vec::new());
    heard.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"", "it was asked all the same");
}

// Covers: loopback, H9
#[test]
fn hijacked_localhost() {
    let Ok(stranger) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        // Then nobody else can have the other address either.
        return;
    };
    let port = stranger.local_addr().unwrap().port();
    let provider = Provider::start();
    let listen = format!("http_listen = \"127.0.0.1:{port}\";\n");
    let daemon = Daemon::new(&(listen + &provider.account("work")));
    let refused = daemon.run(&["server"]);
    let taken = format!(":{port}: address already in use");
    assert!(refused.failed(1).contains(&taken), "{refused:?}");
}

// ---- the same user ----------------------------------------------------------------------------

// Covers: H18
#[test]
fn no_trace() {
    let provider = Provider::tagged(TAG);
    let daemon = signed_in(&provider, "");
    for what in [
        "cat environ",
        "cat maps",
        "head -c 1 mem",
        "ls fd/",
        "readlink exe",
    ] {
        let mut words: Vec<&str> = what.split(' ').collect();
        let file = words.pop().unwrap();
        let program = words.remove(0);
        for process in all(&daemon) {
            let mut command = daemon.neighbour(program);
            let path = format!("/proc/{process}/{file}");
            let refused = output(command.args(&words).arg(path));
            assert!(
                refused.status != 0 && refused.stdout.is_empty(),
                "{what}: {refused:?}"
            );
        }
    }
    for (what, script) in DEBUGGERS {
        for process in all(&daemon) {
            let mut command = daemon.neighbour("perl");
            let said = output(command.args(["-e", script]).arg(process.to_string()));
            // EPERM
            assert_eq!(said.stdout, "-1 1", "{what}: {said:?}");
        }
    }
}

/// What a debugger would do to a process, by the numbers of system calls. They print what the call
/// returns, and why.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const DEBUGGERS: &[(&str, &str)] = &[
    (
        "ptrace(PTRACE_ATTACH)",
        "print syscall(101, 16, $ARGV[0] + 0, 0, 0), ' ', $! + 0",
    ),
    (
        "ptrace(PTRACE_SEIZE)",
        "print syscall(101, 0x4206, $ARGV[0] + 0, 0, 0), ' ', $! + 0",
    ),
    (
        "process_vm_readv",
        "my $byte = ' '; my ($to, $from) = (pack('P1 Q', $byte, 1), pack('Q2', 4096, 1));
         print syscall(310, $ARGV[0] + 0, $to, 1, $from, 1, 0), ' ', $! + 0",
    ),
    (
        "pidfd_getfd",
        "my $process = syscall(434, $ARGV[0] + 0, 0);
         print syscall(438, $process, 0, 0), ' ', $! + 0",
    ),
];
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const DEBUGGERS: &[(&str, &str)] = &[];

// Covers: core-file, H18
#[test]
fn no_core() {
    let provider = Provider::start();
    let mut daemon = signed_in(&provider, "");
    let limits = fs::read_to_string(format!("/proc/{}/limits", pid(&daemon))).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let values: Vec<&str> = line.unwrap().split_whitespace().take(2).collect();
    assert_eq!(values, ["0", "0"]);
    daemon.kill_holder(nix::sys::signal::Signal::SIGABRT);
    daemon.shutdown();
    let files = fs::read_dir(daemon.path("")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("core")).count(), 0);
}

// Covers: H20
#[test]
fn hooks_keep_their_rights() {
    let provider = Provider::start();
    let hook = |daemon: &Daemon| {
        let home = daemon.path("seen");
        let home = home.display();
        let seen = "grep -E '^(NoNewPrivs|Seccomp):' /proc/$$/status; ulimit -c; ls /proc/$$/fd/";
        option(
            "token_event_cmd",
            &format!("{{ {seen}; }} >'{home}.new' && mv '{home}.new' '{home}'"),
        )
    };
    let mut daemon = Daemon::new("");
    daemon.write_config(&(hook(&daemon) + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    let seen = wait::until("the hook's end", || {
        fs::read_to_string(daemon.path("seen")).ok()
    });
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .filter(|line| line.starts_with("NoNewPrivs:") || line.starts_with("Seccomp:"));
    let mut lines = seen.lines();
    for line in own {
        assert_eq!(lines.next(), Some(line));
    }
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
    let blocks = lines.next().unwrap();
    assert_eq!(blocks == "0", soft == 0, "{seen}");
}

/// What the daemon has given up for itself, its hooks may still use: programs with another's rights.
#[test]
fn hooks_run_set_user_id_programs() {
    if !is_root("hooks_run_set_user_id_programs") {
        return;
    }
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let (id, seen) = (daemon.path("id"), daemon.path("seen"));
    let command = format!(
        "'{0}' -u >'{1}.new' && mv '{1}.new' '{1}'",
        id.display(),
        seen.display()
    );
    daemon.write_config(&(option("token_event_cmd", &command) + &provider.account("work")));
    daemon.give_to(NOBODY);
    // Another process writes it: see selftest.rs.
    let copied = Command::new("cp").arg("/usr/bin/id").arg(&id).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&id, fs::Permissions::from_mode(0o4755)).unwrap();
    let itself = daemon.neighbour(id.to_str().unwrap()).arg("-u").output();
    if itself.unwrap().stdout != b"0\n" {
        eprintln!("hooks_run_set_user_id_programs: skipped: not on this file system");
        return;
    }
    daemon.start();
    daemon.sign_in("work");
    let seen = wait::until("the hook's end", || fs::read_to_string(&seen).ok());
    assert_eq!(seen, "0\n");
    daemon.shutdown();
}

/// Code that somebody has smuggled into the daemon itself (a build for tests has some ready).
// Covers: sandbox
#[test]
fn an_intruder_gets_nowhere() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let drill = daemon.path("drill");
    fs::create_dir(&drill).unwrap();
    fs::write(drill.join("by-hand"), "mine").unwrap();
    let _mine = UnixListener::bind(drill.join("socket")).unwrap();
    daemon.env("PIZAUTH_DRILL", drill.to_str().unwrap());
    daemon.write_config(&(option("token_event_cmd", "true") + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    let info = daemon.run(&["info", "-j"]).ok().to_owned();
    if !cfg!(target_os = "linux") || !info.contains("\"landlock\"") {
        eprintln!("an_intruder_gets_nowhere: skipped: this system has no Landlock");
        return;
    }
    // A restart gives nothing back.
    for restarted in [false, true] {
        if restarted {
            let holder = daemon.holder();
            fs::write(drill.join("stay"), "").unwrap();
            daemon.run(&["restart"]).ok();
            wait::until("the end of who wanted to stay", || gone(holder));
            fs::remove_file(drill.join("stay")).unwrap();
        }
        for fd in ["0", "1"] {
            let stream = format!("/proc/{}/fd/{fd}", daemon.holder());
            let leads_to = fs::read_link(stream);
            assert!(leads_to.is_err() || leads_to.unwrap() == Path::new("/dev/null"));
        }
        fs::write(drill.join("intruder"), "").unwrap();
        daemon.run(&["reload"]).ok();
        let line = wait::until("the last try", || {
            let log = daemon.log().text();
            let mut lines = log.lines().filter(|it| it.contains(LAST_TRY));
            lines.nth(restarted.into()).map(str::to_owned)
        });
        assert!(
            line.ends_with("the configuration doesn't have it"),
            "{line}"
        );
    }
    let log = daemon.log().text();
    let tried: Vec<&str> = log.lines().filter(|it| it.contains("intruder: ")).collect();
    assert_eq!(tried.len(), 2 * 19, "{tried:#?}");
    assert!(
        tried.iter().all(|it| it.contains(": refused: ")),
        "{tried:#?}"
    );
    let left = fs::read_dir(&drill).unwrap();
    let left: BTreeSet<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["by-hand", "socket"].map(Into::into).into());
    assert_eq!(fs::read_to_string(drill.join("by-hand")).unwrap(), "mine");
    daemon.token("work");
    daemon.shutdown();
}

// Covers: H17
#[test]
fn no_secret_in_memory_after_revoke() {
    if !is_root("no_secret_in_memory_after_revoke") {
        return;
    }
    let provider = Provider::tagged(TAG);
    let mut daemon = signed_in(&provider, "");
    for _ in 0..3 {
        daemon.token("work");
    }
    assert!(hits(pid(&daemon), TAG) > 0, "the scan finds nothing at all");
    let dump = daemon.dump();
    daemon.run(&["revoke", "work"]).ok();
    daemon.run(&["status"]).ok();
    wait_forgotten(pid(&daemon), TAG);
    // Nor does a restored dump that is revoked leave anything.
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), format!("{TAG}at-1"));
    daemon.run(&["revoke", "work"]).ok();
    wait_forgotten(pid(&daemon), TAG);
    daemon.shutdown();
}

#[cfg(target_os = "linux")]
// Covers: H19
#[test]
fn secrets_are_locked() {
    use nix::sys::resource::{Resource, getrlimit};

    if !is_root("secrets_are_locked") {
        return;
    }
    let provider = Provider::tagged(TAG);
    let mut daemon = Daemon::new("");
    let options = format!(
        "client_secret = \"{CLIENT_SECRET}\"; token_file = \"{}\";",
        daemon.path("token").display()
    );
    daemon.write_config(&provider.account_with("work", &options));
    daemon.give_to(NOBODY);
    daemon.start();
    daemon.sign_in("work");
    if !daemon.run(&["info"]).ok().contains(", locked") {
        // Nobody without rights may lock memory here: a page or two isn't enough.
        let (_, limit) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        assert!(limit < 64 << 10, "{limit}");
        return;
    }
    secrets_are_only_locked(&daemon, "at-1");
    // A restored account may ask at once.
    let dump = daemon.dump();
    daemon.shutdown();
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    secrets_are_only_locked(&daemon, "at-1");
    daemon.run(&["refresh", "work"]).ok();
    secrets_are_only_locked(&daemon, "at-2");
    daemon.run(&["restart"]).ok();
    secrets_are_only_locked(&daemon, "at-2");
}

/// Waits until this access token is there, in its file, too, and its daemon has secrets in locked
/// memory alone.
#[cfg(target_os = "linux")]
fn secrets_are_only_locked(daemon: &Daemon, token: &str) {
    let token = format!("{TAG}{token}");
    wait::until("the token's file", || {
        let file = fs::read_to_string(daemon.path("token")).ok()?;
        (file == format!("{token}\n")).then_some(())
    });
    assert_eq!(daemon.token("work"), token);
    let process = pid(daemon);
    for word in [token.as_str(), TAG, CLIENT_SECRET] {
        wait::until("secrets in locked memory alone", || {
            let found = mappings_with(process, word);
            let locked = mappings_marked(process, &["lo", "dd", "wf"]);
            let all = !found.is_empty() && found.iter().all(|it| locked.contains(it));
            all.then_some(())
        });
    }
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(!status.contains("\nVmLck:\t       0 kB\n"), "{status}");
    for other in others(daemon) {
        assert_eq!(mappings_marked(other, &["lo"]), [""; 0], "{other}");
    }
}

// Covers: H20
#[test]
fn the_runner_has_no_secret() {
    if !is_root("the_runner_has_no_secret") {
        return;
    }
    let provider = Provider::tagged(TAG);
    let daemon = signed_in(&provider, &option("token_event_cmd", "true"));
    let [runner, monitor] = others(&daemon);
    assert!(
        hits(runner, "PIZAUTH_EVENT") > 0,
        "the scan finds nothing at all"
    );
    for secret in [TAG, CLIENT_SECRET] {
        assert!(hits(pid(&daemon), secret) > 0);
        assert_eq!([runner, monitor].map(|it| hits(it, secret)), [0, 0]);
    }
    // Nor does the one that takes its place.
    daemon.kill_hook_runner();
    let [next, _] = others(&daemon);
    daemon.run(&["refresh", "work"]).ok();
    wait::until("its first hook", || {
        (hits(next, "PIZAUTH_EVENT") > 0).then_some(())
    });
    assert_eq!([TAG, CLIENT_SECRET].map(|it| hits(next, it)), [0, 0]);
    // The state passes the monitor when another program takes over, and it doesn't look.
    daemon.run(&["restart"]).ok();
    assert!(hits(pid(&daemon), TAG) > 0);
    for process in others(&daemon) {
        assert_eq!(
            [TAG, CLIENT_SECRET].map(|it| hits(process, it)),
            [0, 0],
            "{process}"
        );
    }
}

#[test]
fn the_runner_forgets_what_a_command_has_printed() {
    if !is_root("the_runner_forgets_what_a_command_has_printed") {
        return;
    }
    let provider = Provider::tagged(TAG);
    let mut daemon = Daemon::new("");
    fs::write(daemon.path("secret"), format!("{CLIENT_SECRET}\nmore\n")).unwrap();
    let command = format!("cat '{}'", daemon.path("secret").display());
    let command = option("client_secret_cmd", &command);
    daemon.write_config(&provider.account_with("work", &command));
    daemon.give_to(NOBODY);
    daemon.start();
    daemon.sign_in("work");
    // Memory that changes while it is read counts as none.
    wait::until("the secret", || {
        (hits(pid(&daemon), CLIENT_SECRET) > 0).then_some(())
    });
    for process in others(&daemon) {
        wait_forgotten(process, CLIENT_SECRET);
    }
}

// Covers: H21
#[test]
fn no_secret_in_argv_or_environment() {
    let provider = Provider::tagged(TAG);
    let mut daemon = Daemon::new("");
    let gate = daemon.path("gate");
    // It holds every kind of process while we look.
    let hook = format!(
        "touch '{0}.up'; until [ -e '{0}' ]; do sleep 0.05; done",
        gate.display()
    );
    let secret = format!("client_secret = \"{CLIENT_SECRET}\";");
    let account = provider.account_with("work", &secret);
    daemon.write_config(&(option("token_event_cmd", &hook) + &account));
    daemon.start_forked();
    daemon.sign_in("work");
    wait::until("the hook's start", || {
        daemon.path("gate.up").exists().then_some(())
    });
    daemon.token("work");
    let mut looked = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(entry.as_ref().unwrap().path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            looked += usize::from(text.contains("gate.up"));
            assert!(
                !text.contains(TAG) && !text.contains(CLIENT_SECRET),
                "{text}"
            );
        }
    }
    assert!(looked > 0, "the hook wasn't among the processes");
    fs::write(gate, "").unwrap();
    daemon.shutdown();
}

/// A bug may cost the job that it is in, but not the server, nor a token. (Only builds for tests can
/// be made to panic.)
// Covers: H23
#[test]
fn panics_cost_a_job_and_no_token() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let file = format!("token_file = \"{}\";", daemon.path("token").display());
    daemon.write_config(&provider.account_with("work", &file));
    fs::create_dir(daemon.path("drill")).unwrap();
    let drill = daemon.path("drill");
    daemon.env("PIZAUTH_DRILL", drill.to_str().unwrap());
    daemon.start();
    daemon.sign_in("work");
    let dump = daemon.dump();
    daemon.restart();
    daemon.run_with(&["restore"], &dump).ok();
    for job in [
        "a request to a provider",
        "a token file",
        "a turn",
        "the main thread",
    ] {
        fs::write(drill.join(job), "").unwrap();
        if job == "a request to a provider" {
            daemon.run(&["refresh", "work"]).ok();
        } else {
            daemon.run(&["revoke", "work"]).ok();
            daemon.sign_in("work");
        }
        let said = format!("ERROR - a bug: {job} panicked; the server goes on");
        daemon.log().wait_line(&said);
        assert!(daemon.token("work").starts_with("at-"));
    }
    // Each of these ends by its own, and the next one begins.
    for job in ["reload", "restart"] {
        fs::write(drill.join(job), "").unwrap();
        let said = daemon.run(&[job]);
        assert_eq!(said.failed(75), "ERROR - it has failed by a bug\n");
        daemon.run(&[job]).ok();
    }
    let token = daemon.token("work");
    wait::until("the token file", || {
        let written = fs::read_to_string(daemon.path("token")).ok();
        written.filter(|written| written.trim() == token)
    });
    daemon.shutdown();
}

// Covers: H12
#[test]
fn one_daemon() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let config = daemon.config_path();
    let args = ["server", "-c", config.to_str().unwrap()];
    // A thousand, when somebody asks for them.
    let many = std::env::var("PIZAUTH_STARTS").map_or(50, |many| many.parse().unwrap());
    let starts: Vec<Running> = (0..many).map(|_| daemon.spawn(&args)).collect();
    let ends: Vec<Output> = starts.into_iter().map(Running::finish).collect();
    daemon.adopt();
    let started = ends.iter().filter(|end| end.status == 0).count();
    for end in ends.iter().filter(|end| end.status != 0) {
        assert_eq!(
            end.failed(1),
            "ERROR - a server is already running\nhint: `pizauth restart` has this version take \
             over, even from an older pizauth\n"
        );
    }
    assert_eq!(started, 1);
    daemon.sign_in("work");
    let runner = daemon.hook_runner().unwrap();
    daemon.shutdown();
    // Nothing is left of it or of the others.
    wait::until("the hook runner's end", || gone(runner));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&words).contains(args[2]),
            "{entry:?}"
        );
    }
}

// ---- the network ------------------------------------------------------------------------------

// Covers: statuses, H6
#[test]
fn captive_portal() {
    let portal = Provider::start();
    for answer in [
        Scripted::Redirect(302, portal.url("/login")),
        Scripted::Redirect(307, portal.token_uri()),
        Scripted::reply(200, "text/html", "<html>Welcome to the airport</html>"),
        Scripted::reply(511, "text/html", "<html>Sign in</html>"),
        Scripted::reply(400, "text/html", "invalid_grant"),
    ] {
        let provider = Provider::start();
        let daemon = restored(&provider);
        provider.script(TOKEN, answer.clone());
        daemon.run(&["refresh", "work"]).ok();
        daemon.eventually(&["status"], |status| status.stdout.contains("failing"));
        assert_eq!(daemon.token("work"), "at-1", "{answer:?}");
        for path in ["/login", TOKEN] {
            assert_eq!(portal.requests(path).len(), 0, "{answer:?}");
        }
    }
}

// Covers: words, H22
#[test]
fn escape_sequences() {
    let nasty = "\u{1b}]0;pwned\u{7}\u{202e}\u{9b}31m\r\nERROR - \0forged";
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("errors");
    let hook = record.option("error_notify_cmd", &["PIZAUTH_MSG"]);
    daemon.write_config(&(hook + &provider.account("work")));
    daemon.start();
    provider.script("/authorize", Scripted::Error("access_denied", nasty));
    let page = browser::visit(&daemon.authorization_url("work"));
    let told = record.wait_lines(1).concat();
    let shown = daemon.run(&["show", "work"]).failed(77).to_owned();
    let status = daemon.run(&["status"]).ok().to_owned();
    for text in [page.text(), told, shown, status, daemon.shutdown()] {
        let harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(text.chars().all(harmless), "{text:?}");
        assert!(!text.contains("\nERROR - forged"), "{text:?}");
    }
}

// Covers: H10
#[test]
fn hostile_web_page() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let url = daemon.authorization_url("work");
    let port = url
        .split("%3A")
        .last()
        .unwrap()
        .split("%2F")
        .next()
        .unwrap();
    let here = format!("http://127.0.0.1:{port}/?code=<script>&state=guess&x=%3Cscript%3E");
    let evil = |host: &str| {
        let fields = [("Host", host), ("Origin", "https://evil.example")];
        Pairs(
            fields
                .map(|(name, value)| (name.into(), value.into()))
                .to_vec(),
        )
    };
    let own = format!("localhost:{port}");
    for method in ["GET", "POST", "OPTIONS", "PUT", "DELETE"] {
        for host in ["evil.example", &format!("evil.example:{port}"), &own] {
            let page = browser::send(method, &here, &evil(host), b"");
            let (status, text) = (page.status(), page.text());
            assert!(status != 200 || host == own, "{method} {host}: {page:?}");
            assert!(
                !text.contains("script>") && !text.contains("guess"),
                "{text}"
            );
            let headers = String::from_utf8_lossy(&page.response.to_bytes()).to_lowercase();
            assert!(!headers.contains("access-control-allow"), "{headers}");
        }
    }
    // It disturbed nobody.
    assert_eq!(browser::visit(&url).status(), 200);
    daemon.token("work");
}

// Covers: H10
#[test]
fn nothing_tells_strangers_what_is_pending() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let info = daemon.run(&["info", "-j"]);
    let info: serde_json::Value = serde_json::from_str(info.ok()).unwrap();
    let port = info["server_info"]["http_port"].as_str().unwrap();
    let look = |path: &str| {
        let page = browser::get(&format!("http://localhost:{port}{path}"));
        (page.status(), page.text())
    };
    let paths = [
        "/",
        "/?code=c&state=s",
        "/?error=e&state=s",
        "/favicon.ico",
        "/other",
    ];
    let before = paths.map(look);
    daemon.authorization_url("work");
    assert_eq!(paths.map(look), before);
    daemon.sign_in("work");
    assert_eq!(paths.map(look), before);
}

#[test]
fn pages_are_for_one_browser() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let first = daemon.sign_in("work");
    daemon.run(&["revoke", "work"]).ok();
    let second = daemon.sign_in("work");
    assert_ne!(first.url, second.url);
    for page in [&first, &second] {
        let [.., callback, shown] = page.hops.as_slice() else {
            panic!("too few steps: {page:?}");
        };
        assert!(callback.as_str().contains("code="), "{callback}");
        assert!(shown.query().is_none(), "{shown}");
        // Whoever was sent there may load it again; no other address tells the same.
        assert!(browser::get(shown.as_str()).title().contains("work"));
        for guess in ["", "0", "x"] {
            let page = browser::get(&format!("{}{guess}", shown.join(".").unwrap()));
            assert_eq!(page.status(), 404);
            assert!(!page.text().contains("work"), "{page:?}");
        }
    }
}

#[test]
fn slow_redirect_client() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let url = daemon.authorization_url("work");
    let port: u16 = url
        .split("%3A")
        .last()
        .unwrap()
        .split("%2F")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /?code=").unwrap();
            stream
        })
        .collect();
    assert_eq!(browser::visit(&url).status(), 200);
    daemon.token("work");
    drop(silent);
}

/// What can't be written costs what was to be written, and is said; what can be shown is shown, and
/// what can be written again is.
#[test]
fn full_disk() {
    let provider = Provider::start();
    let (mut daemon, file) = with_token_file(&provider);
    if !daemon.limit("--fsize=0:unlimited") {
        // Elsewhere `cli::output_that_cannot_be_written_is_an_error` has to do.
        return;
    }
    daemon.sign_in("work");
    daemon.log().wait_line("File too large");
    assert_eq!(daemon.token("work"), "at-1");
    assert!(!file.exists(), "a part of a token was left behind");
    let dump = daemon.dump();
    assert!(daemon.limit("--fsize=unlimited:unlimited"));
    daemon.run(&["revoke", "work"]).ok();
    daemon.run_with(&["restore"], &dump).ok();
    wait_for_line(&file, "at-1");
    daemon.shutdown();
}

// Covers: H25
#[test]
fn a_dump_in_a_file() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let file = daemon.path("home/state");
    let name = file.to_str().unwrap();
    let names = |daemon: &Daemon| {
        let files = fs::read_dir(daemon.path("home")).unwrap();
        files
            .map(|file| file.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    fs::write(&file, "an older one").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(daemon.run(&["dump", "-o", name]).ok(), "");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(names(&daemon), ["state"]);
    let dump = fs::read(&file).unwrap();
    assert!(dump.starts_with(b"pizauth dump 3\n"));
    // A link stays one, and a device isn't replaced.
    symlink(&file, daemon.path("home/link")).unwrap();
    daemon.run(&["dump", "--output", "home/link"]).ok();
    assert!(daemon.path("home/link").is_symlink());
    // A link to nothing isn't a regular file, and stays.
    symlink("gone", daemon.path("home/dangling")).unwrap();
    assert_eq!(
        daemon.run(&["dump", "-o", "home/dangling"]).failed(1),
        "ERROR - can't write the dump to home/dangling: it is a link to nothing\n"
    );
    assert!(daemon.path("home/dangling").is_symlink());
    assert_ne!(fs::read(&file).unwrap(), dump);
    assert_eq!(
        daemon.run(&["dump", "-o", "/dev/full"]).failed(1),
        "ERROR - can't write the dump to /dev/full: it is there and no regular file\n"
    );
    let nowhere = daemon.run(&["dump", "-o", "nowhere/state"]);
    assert_eq!(
        nowhere.failed(1),
        "ERROR - can't write the dump to nowhere/state: No such file or directory (os error 2)\n"
    );
    // A server that is gone costs no older dump.
    let dump = fs::read(&file).unwrap();
    daemon.shutdown();
    daemon.run(&["dump", "-o", name]).failed(69);
    assert_eq!(fs::read(&file).unwrap(), dump);
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), "at-1");
}

// Covers: sandbox
#[test]
fn the_daemon_gains_no_privileges() {
    let provider = Provider::start();
    let daemon = signed_in(&provider, "");
    let info = daemon.run(&["info", "-j"]);
    let info: serde_json::Value = serde_json::from_str(info.ok()).unwrap();
    let layers = &info["server_info"]["sandbox"];
    let layers: Vec<&str> = layers
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert!(layers.contains(&"no_core"), "{layers:?}");
    if !cfg!(target_os = "linux") {
        return;
    }
    // Landlock is a question of the kernel, and locked memory one of the user's limits.
    let ours = [
        "no_core",
        "not_dumpable",
        "no_new_privs",
        "locked",
        "landlock",
        "seccomp",
    ];
    let may_lack = ["landlock", "locked"];
    let always = layers.iter().filter(|it| !may_lack.contains(it)).count();
    assert!(
        layers.iter().all(|it| ours.contains(it)) && always == 4,
        "{layers:?}"
    );
    // By the kernel's word: 2 is a filter. It holds for every thread.
    let tasks = fs::read_dir(format!("/proc/{}/task", pid(&daemon))).unwrap();
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.lines().any(|found| found == line), "{status}");
        }
    }
    let text = daemon.run(&["info"]);
    let line = format!("  sandbox: {}\n", layers.join(", "));
    assert!(text.ok().contains(&line), "{text:?}");
}
