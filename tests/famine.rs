//! Famines that begin while the daemon runs, and end: system calls that fail, no processes, no
//! memory, no disk. What fails meanwhile says so and nothing hangs; what was held is held afterwards.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

use crate::support::browser;
use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, TOKEN};
use crate::support::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// Whether this process may do to another what only root may, and has `program` for it.
fn can(test: &str, program: &str) -> bool {
    let mut there = Command::new(program);
    there
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let there = there.status().is_ok_and(|status| status.success());
    let root = Uid::effective().is_root();
    if !(there && root && cfg!(target_os = "linux")) {
        // Past the test harness, which swallows what is printed.
        let line = format!("{test} was skipped: it needs root, Linux and {program}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    there && root && cfg!(target_os = "linux")
}

fn signed_in() -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    (provider, daemon)
}

/// A daemon's system calls that fail, until it is over: strace(1) does it.
struct Failing {
    strace: Running,
    file: PathBuf,
    what: String,
}

impl Failing {
    fn begin(daemon: &Daemon, call: &str, fault: &str) -> Self {
        Failing::begin_in(daemon, daemon.holder(), call, fault)
    }

    /// The same of one of its processes, and of those that this forks.
    fn begin_in(daemon: &Daemon, process: Pid, call: &str, fault: &str) -> Self {
        let file = daemon.path("strace");
        let pid = process.to_string();
        let mut command = Command::new("strace");
        command
            .args(["-f", "-o"])
            .arg(&file)
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{fault}"), "-p", &pid]);
        let strace = Running::start(&mut command);
        strace.stderr.wait_line("attached");
        let what = format!("{call}:{fault}");
        Failing { strace, file, what }
    }

    /// Waits until a call has failed.
    fn bites(&self) {
        wait::until(&self.what, || {
            let text = fs::read_to_string(&self.file).unwrap_or_default();
            text.contains("INJECTED").then_some(())
        });
    }

    fn end(self) {
        self.strace.signal(Signal::SIGINT);
        self.strace.finish();
    }
}

/// How a call fails, and whether a client notices.
const FAULTS: [(&str, &str, Client); 22] = [
    ("accept4", "error=EMFILE", Client::Shed),
    ("accept4", "error=ENFILE", Client::Shed),
    ("accept4", "error=ENOMEM", Client::Waits),
    ("accept4", "error=EPERM", Client::Waits),
    ("accept4", "error=EINTR:when=1+2", Client::Served),
    ("accept4", "error=ECONNABORTED:when=1+2", Client::Served),
    ("getsockopt", "error=ENOBUFS", Client::Fails),
    ("recvfrom", "error=EINTR:when=1+2", Client::Served),
    ("recvfrom", "error=EAGAIN:when=1+2", Client::Served),
    ("recvfrom", "error=ENOMEM", Client::Fails),
    ("recvfrom", "error=ECONNRESET", Client::Fails),
    ("sendto", "error=EINTR:when=1+2", Client::Served),
    ("sendto", "error=EAGAIN:when=1+2", Client::Served),
    ("sendto", "error=ENOBUFS", Client::Fails),
    ("sendto", "error=EPIPE", Client::Fails),
    // A write that says it was short, and wasn't made: a part is never taken for the whole.
    ("sendto", "retval=1:when=1", Client::Fails),
    (
        "?epoll_wait,?epoll_pwait",
        "error=EINTR:when=1+2",
        Client::Served,
    ),
    (
        "?epoll_wait,?epoll_pwait",
        "error=ENOMEM:when=1+2",
        Client::Served,
    ),
    ("epoll_ctl", "error=ENOSPC", Client::Either),
    ("write", "error=ENOSPC", Client::Served),
    ("write", "error=EPIPE", Client::Served),
    ("write", "error=EINTR:when=1+2", Client::Served),
];

/// What becomes of a client meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// It gets its token.
    Served,
    /// It gets its token when the famine is over.
    Waits,
    /// The same, unless the famine ends just when the server takes it to turn it away.
    Shed,
    /// It fails, with a word.
    Fails,
    /// The one or the other.
    Either,
}

// Covers: syscalls, H24
#[test]
fn system_calls_may_fail() {
    if !can("system_calls_may_fail", "strace") {
        return;
    }
    let (_provider, mut daemon) = signed_in();
    let pid = daemon.holder();
    for (call, fault, client) in FAULTS {
        let failing = Failing::begin(&daemon, call, fault);
        if call == "write" {
            // A reload logs; a client's answer is no write.
            kill(pid, Signal::SIGHUP).expect("to signal");
        }
        let asked = daemon.spawn(&["show", "work"]);
        if call != "epoll_ctl" {
            failing.bites();
        }
        let shown = match client {
            Client::Waits | Client::Shed => {
                failing.end();
                asked.finish()
            }
            Client::Served | Client::Fails | Client::Either => {
                let shown = asked.finish();
                failing.end();
                shown
            }
        };
        let served = shown.status == 0 && shown.stdout == "at-1\n" && shown.stderr.is_empty();
        let failed =
            shown.status != 0 && shown.stdout.is_empty() && shown.stderr.starts_with("ERROR - ");
        let good = match client {
            Client::Served | Client::Waits => served,
            Client::Fails => failed,
            Client::Shed | Client::Either => served || failed,
        };
        assert!(good, "{call}:{fault}: {shown:?}");
        assert_eq!(daemon.token("work"), "at-1", "after {call}:{fault}");
        assert_eq!(daemon.holder(), pid);
    }
    daemon.shutdown();
}

/// A code whose request could not be sent is good until it could be.
// Covers: descriptors, processes
#[test]
fn a_code_outlives_a_famine_of_sockets_and_threads() {
    if !can("a_code_outlives_a_famine_of_sockets_and_threads", "strace") {
        return;
    }
    let provider = Provider::start();
    let faults = [
        ("?clone3,?clone", "error=EAGAIN"),
        ("socket", "error=EMFILE"),
        ("socket", "error=ENFILE"),
        ("connect", "error=ENETUNREACH"),
        ("connect", "error=ETIMEDOUT"),
    ];
    let names: Vec<String> = (0..faults.len()).map(|n| format!("a{n}")).collect();
    let accounts = names.iter().map(|name| provider.account(name));
    let mut daemon = Daemon::new(&accounts.collect::<String>());
    daemon.start();
    let mut browsers = Vec::new();
    for (name, (call, fault)) in names.iter().zip(faults) {
        let url = daemon.authorization_url(name);
        let failing = Failing::begin(&daemon, call, fault);
        browsers.push(thread::spawn(move || browser::visit(&url)));
        let words = format!("WARN - {name}: will try again to exchange the code: ");
        daemon.log().wait_line(&words);
        failing.end();
    }
    for browser in browsers {
        assert_eq!(browser.join().expect("a page").status(), 200);
    }
    for name in &names {
        daemon.token(name);
    }
    assert_eq!(provider.requests(TOKEN).len(), faults.len());
}

/// Where no process can be started, tokens are shown and hooks fail with a word; afterwards all is
/// as before. Root may start as many as it likes, so this is another user's daemon.
// Covers: processes, H24
#[test]
fn a_famine_of_processes_is_survived() {
    const SOMEBODY: u32 = 61_871;
    if !can("a_famine_of_processes_is_survived", "prlimit") {
        return;
    }
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let notices = daemon.record("notices");
    let hook = notices.option("auth_notify_cmd", &["PIZAUTH_ACCOUNT"]);
    let accounts = ["work", "later"].map(|name| provider.account(name));
    daemon.write_config(&[hook, accounts.concat()].concat());
    daemon.give_to(SOMEBODY);
    daemon.start();
    let url = daemon.authorization_url("work");
    // A sign-in that is over at once ends its hook.
    notices.wait_lines(1);
    assert_eq!(browser::visit(&url).status(), 200);
    let daemon_pid = daemon.holder();
    let runner = daemon.hook_runner().expect("the runner");
    let pids = [daemon_pid, runner].map(|pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{daemon_pid}/limits")).expect("its limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max processes"));
    let before = line.and_then(|line| line.split_whitespace().next());
    let before = before.expect("a limit").to_owned();
    let limit = |limit: &str| {
        for pid in &pids {
            let limit = format!("--nproc={limit}:");
            let status = daemon
                .neighbour("prlimit")
                .args(["--pid", pid, &limit])
                .status();
            assert!(status.expect("prlimit").success());
        }
    };
    limit("1");
    assert_eq!(daemon.token("work"), "at-1");
    let url = daemon.authorization_url("later");
    daemon.log().wait_line("auth_notify_cmd");
    let page = thread::spawn(move || browser::visit(&url));
    let line = daemon
        .log()
        .wait_line("WARN - later: will try again to exchange the code: ");
    assert!(line.contains("no thread to ask with"), "{line}");
    assert_eq!(daemon.token("work"), "at-1");
    limit(&before);
    assert_eq!(page.join().expect("a page").status(), 200);
    assert_eq!(daemon.token("later"), "at-2");
    assert_eq!(notices.lines(), ["work"]);
    daemon.run(&["revoke", "work"]).ok();
    daemon.authorization_url("work");
    notices.wait_lines(2);
    daemon.shutdown();
}

/// A daemon in a mount namespace of its own, in which `mounts` (commands of a POSIX shell) were run.
fn apart(directory: &Path, mounts: &str, config: &str) -> Daemon {
    let script = directory.join("pizauth");
    let binary = std::env::var("PIZAUTH_UNDER_TEST")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_pizauth").into());
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = server ] || exec '{binary}' \"$@\"\n\
         exec unshare -m /bin/sh -c '{mounts} && exec \"$0\" \"$@\"' '{binary}' \"$@\"\n"
    );
    // Another process writes it: see selftest.rs.
    let written = Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 700 \"$0\""])
        .args([script.as_os_str(), text.as_ref()])
        .status();
    assert!(written.expect("to write the script").success());
    Daemon::of_binary(&script, config)
}

/// What `path` is in the daemon's own namespace.
fn as_seen_by(daemon: &Daemon, path: &Path) -> PathBuf {
    let root = format!("/proc/{}/root", daemon.pid().expect("a pid"));
    Path::new(&root).join(path.strip_prefix("/").expect("an absolute path"))
}

/// A disk that is full: token files and saved states fail with a word, those that are there stay
/// whole, and once there is room the state is saved again.
// Covers: full-disk
#[test]
fn a_full_disk_costs_nothing_that_is_held() {
    if !can("a_full_disk_costs_nothing_that_is_held", "unshare") {
        return;
    }
    let provider = Provider::start();
    let directory = tempfile::tempdir().expect("a directory");
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).expect("a directory");
    let at = disk.display();
    let account =
        |name: &str| provider.account_with(name, &format!("token_file = \"{at}/{name}\";"));
    let state = disk.join("state");
    let config = format!(
        "state_save_cmd = \"cat >{at}/new && mv {at}/new {at}/state\";\n{}{}{}",
        account("one"),
        account("two"),
        account("three")
    );
    let mounts = format!("mount -t tmpfs -o size=64k,mode=700 none {at}");
    let mut daemon = apart(directory.path(), &mounts, &config);
    daemon.start();
    daemon.sign_in("one");
    let log = daemon.log();
    log.wait_line("the tokens have been saved");
    let inside = |path: &Path| as_seen_by(&daemon, path);
    // A thread of its own writes them.
    let kept = |name: &str, line: &[u8]| {
        let file = inside(&disk.join(name));
        wait::until("the token file", || {
            let written = fs::read(&file).unwrap_or_default();
            (written == line).then_some(())
        });
    };
    kept("one", b"at-1\n");
    let saved = fs::read(inside(&state)).expect("the saved state");
    let fill = inside(&disk.join("fill"));
    let mut filling = fs::File::create(&fill).expect("a file");
    let full = (0..100).find_map(|_| filling.write_all(&[0; 1024]).err());
    assert!(full.is_some(), "the disk isn't full");
    drop(filling);

    daemon.sign_in("two");
    let line = log.wait_line("ERROR - two: the token file could not be kept: ");
    assert!(line.contains("No space left"), "{line}");
    log.wait_line("ERROR - all accounts: the tokens could not be saved: ");
    assert_eq!(daemon.token("one"), "at-1");
    assert_eq!(daemon.token("two"), "at-2");
    assert_eq!(fs::read(inside(&state)).expect("the state"), saved);
    assert_eq!(
        fs::read(inside(&disk.join("one"))).expect("a file"),
        b"at-1\n"
    );
    assert!(!inside(&disk.join("two")).exists());

    fs::remove_file(fill).expect("to make room");
    daemon.sign_in("three");
    wait::until("the state to be saved", || {
        let now = fs::read(inside(&state)).expect("the state");
        (now.len() > 2 * saved.len()).then_some(())
    });
    kept("three", b"at-3\n");
    let state = fs::read(inside(&state)).expect("the state");
    let mut successor = Daemon::new(&config.replace("state_save_cmd", "startup_cmd"));
    successor.start();
    successor.run_with(&["restore"], &state).ok();
    for (name, token) in [("one", "at-1"), ("two", "at-2"), ("three", "at-3")] {
        assert_eq!(successor.token(name), token);
    }
}

/// What service managers and containers take from the tree of files, as systemd.exec(5) has it: /proc,
/// writing where programs are (ProtectSystem=full) or anywhere but at home (strict), what others have in
/// /tmp (PrivateTmp), and other users (PrivateUsers).
#[test]
fn a_tree_with_less_in_it_is_enough() {
    if !can("a_tree_with_less_in_it_is_enough", "unshare") {
        return;
    }
    let provider = Provider::start();
    for mounts in [
        "mount -t tmpfs none /proc",
        "for dir in /usr /etc; do mount --bind $dir $dir && mount -o remount,bind,ro $dir; done",
        "mount --bind ${HOME%/*} ${HOME%/*} && mount -o remount,bind,ro / && ! touch /usr/new 2>/dev/null",
        "both=\"${HOME%/*} ${0%/*}\"; mount -t tmpfs none /mnt && \
         for dir in $both; do mkdir -p /mnt$dir && mount --bind $dir /mnt$dir; done && \
         mount -t tmpfs none /tmp && mount -t tmpfs none /var/tmp && \
         for dir in $both; do mkdir -p $dir && mount --bind /mnt$dir $dir; done",
        "exec unshare --user --map-root-user \"$0\" \"$@\"",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut daemon = apart(directory.path(), mounts, &provider.account("work"));
        daemon.start();
        daemon.sign_in("work");
        let token = daemon.token("work");
        daemon.run(&["reload"]).ok();
        daemon.run(&["restart"]).ok();
        assert_eq!(daemon.token("work"), token, "{mounts}");
        daemon.shutdown();
    }
}

/// What couldn't be refreshed for want of a network is tried again soon once there is one, however
/// long the configuration would wait.
#[test]
fn a_change_of_the_network_is_noticed() {
    let test = "a_change_of_the_network_is_noticed";
    if !can(test, "unshare") || !can(test, "nsenter") {
        return;
    }
    let (provider, first) = signed_in();
    let dump = first.dump();
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!("refresh_retry = 10m;\n{}", provider.account("work"));
    // Not even the loopback is up there.
    let alone = "exec unshare -n \"$0\" \"$@\"";
    let mut daemon = apart(directory.path(), alone, &config);
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    daemon.run(&["refresh", "work"]);
    // When it is tried again, in seconds from now.
    let next = |output: &Output| {
        let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        let account = &status["accounts"][0];
        let failing = account["refresh"] == "failing";
        let at = account["refresh_at_unix"].as_i64().filter(|_| failing)?;
        Some(at - i64::try_from(SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs()).ok()?)
    };
    daemon.eventually(&["status", "-j"], |output| next(output) > Some(240));
    let holder = daemon.holder().to_string();
    let up = Command::new("nsenter")
        .args(["-t", &holder, "-n", "ip", "link", "set", "lo", "up"])
        .status();
    if !up.is_ok_and(|status| status.success()) {
        // Past the test harness, as above.
        let _ =
            std::io::stderr().write_all(format!("{test} was skipped: it needs ip\n").as_bytes());
        return;
    }
    daemon.eventually(&["status", "-j"], |output| {
        next(output).is_some_and(|secs| secs <= 62)
    });
}

/// Whoever is started by cron(8) knows no runtime directory; the server is in the usual one.
#[test]
fn a_client_that_cron_starts_finds_the_server() {
    if !can("a_client_that_cron_starts_finds_the_server", "unshare") {
        return;
    }
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let runtime_dir = daemon.path("run");
    let binary = std::env::var("PIZAUTH_UNDER_TEST")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_pizauth").into());
    let script = "mount -t tmpfs none /run && mkdir -p /run/user/$(id -u) && \
                  mount --bind \"$0\" /run/user/$(id -u) && exec \"$@\"";
    let mut cron = Command::new("unshare");
    cron.args(["-m", "/bin/sh", "-c", script]);
    cron.arg(&runtime_dir).args([&*binary, "show", "work"]);
    let environment = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("SHELL", "/bin/sh"),
    ];
    let output = cron.env_clear().envs(environment).output().expect("to run");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "at-1\n",
        "{output:?}"
    );
    // Where there is none either, it says where it looked.
    let mut nowhere = Command::new("unshare");
    nowhere.args([
        "-m",
        "/bin/sh",
        "-c",
        "mount -t tmpfs none /run && exec \"$@\"",
        "sh",
    ]);
    nowhere
        .args([&*binary, "show", "work"])
        .env_clear()
        .envs(environment);
    let output = nowhere.output().expect("to run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    let uid = nix::unistd::Uid::current();
    assert!(said.contains(&format!("/run/user/{uid}/pizauth")), "{said}");
}

/// Another file system over the runtime directory hides the socket from everybody: there is one in it
/// soon.
// Covers: mount
#[test]
fn a_mount_over_the_runtime_directory_is_noticed() {
    if !can("a_mount_over_the_runtime_directory_is_noticed", "unshare") {
        return;
    }
    let provider = Provider::start();
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = apart(directory.path(), "true", &provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let socket = daemon.socket_path();
    let place = socket.parent().expect("a directory");
    let pid = daemon.pid().expect("a pid").to_string();
    let status = Command::new("nsenter")
        .args([
            "-t", &pid, "-m", "mount", "-t", "tmpfs", "-o", "mode=700", "none",
        ])
        .arg(place)
        .status();
    assert!(status.expect("nsenter").success());
    daemon
        .log()
        .wait_line("WARN - the control socket was gone and has been made again");
    assert!(as_seen_by(&daemon, &socket).exists());
    let shown = Command::new("nsenter")
        .args(["-t", &pid, "-m"])
        .arg(daemon.command(&[]).get_program())
        .args(["show", "work"])
        .env(
            "XDG_RUNTIME_DIR",
            place.parent().expect("a directory around"),
        )
        .output();
    assert_eq!(shown.expect("nsenter").stdout, b"at-1\n");
}

/// A socket that can't be made again, because the runtime directory is full, is made when it can be.
// Covers: full-directory
#[test]
fn a_socket_that_cannot_be_made_again_is_made_later() {
    if !can("a_socket_that_cannot_be_made_again_is_made_later", "strace") {
        return;
    }
    let (_provider, daemon) = signed_in();
    // A hand makes it.
    let monitor = daemon.pid().expect("a pid");
    let failing = Failing::begin_in(&daemon, monitor, "bind", "error=ENOSPC");
    fs::remove_file(daemon.socket_path()).expect("to remove the socket");
    let line = daemon
        .log()
        .wait_line("ERROR - the control socket is gone: ");
    assert!(line.contains("No space left"), "{line}");
    failing.end();
    // It looks again after a minute; a change in the directory makes it look at once.
    let stray = daemon.path("run/pizauth/stray");
    fs::write(&stray, "").expect("a file");
    fs::remove_file(&stray).expect("to remove it");
    daemon.eventually(&["show", "work"], |shown| shown.stdout == "at-1\n");
}
