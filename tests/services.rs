//! The server under a service manager: readiness, and sockets that it was given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::support::PATIENCE;
use crate::support::command::Running;
use crate::support::daemon::Daemon;
use crate::support::hooks::UNSET;
use crate::support::provider::Provider;
use crate::support::wait;

/// Listens at the path in its first argument, and becomes the rest with that as descriptor 3.
const ACTIVATE: &str = r#"
    use Socket; use POSIX (); $^F = 64;
    my ($path, @command) = @ARGV;
    socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die "$!\n";
    bind($s, pack_sockaddr_un($path)) or die "$path: $!\n";
    listen($s, 16) or die "$!\n";
    POSIX::dup2(fileno($s), 3);
    $| = 1; print "listening\n";
    $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDNAMES} = "pizauth.socket";
    exec @command or die "$!\n";
"#;

/// `command`, started with a socket at `path` in the way of a service manager.
fn activated(daemon: &Daemon, path: &str, args: &[&str]) -> Running {
    let inner = daemon.command(args);
    let mut outer = Command::new("perl");
    outer
        .args(["-e", ACTIVATE, path])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear()
        .envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(daemon.path(""));
    Running::start(&mut outer)
}

fn runtime_dir(daemon: &Daemon) {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .mode(0o700)
        .create(daemon.path("run/pizauth"))
        .unwrap();
}

#[test]
fn a_socket_that_was_given_is_served_and_left_behind() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let started = daemon.record("started");
    let variables = [
        "FDSTORE",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "NOTIFY_SOCKET",
    ];
    // A manager that keeps nothing.
    daemon.env("FDSTORE", "0");
    daemon.write_config(&(started.option("startup_cmd", &variables) + &provider.account("work")));
    daemon.env(
        "NOTIFY_SOCKET",
        daemon.path("notify").to_str().unwrap().to_owned().as_str(),
    );
    let manager = UnixDatagram::bind(daemon.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    runtime_dir(&daemon);
    let path = daemon.socket_path();
    let server = activated(&daemon, path.to_str().unwrap(), &["server", "-d", "-vv"]);
    server.stdout.wait_line("listening");
    // Whoever comes before it is ready waits, and is served.
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    // The server's descriptors are no hook's to find; the manager is, for `systemd-notify`.
    let manager = daemon.path("notify").display().to_string();
    let told = [UNSET, UNSET, UNSET, UNSET, &manager].join("\t");
    assert_eq!(started.wait_lines(1), [told]);
    daemon.run(&["shutdown"]).ok();
    assert_eq!(server.finish().status, 0);
    assert!(path.exists(), "the file is the manager's");
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn a_socket_where_no_client_looks_is_an_error() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    runtime_dir(&daemon);
    let path = daemon.path("run/pizauth/other.sock");
    let server = activated(&daemon, path.to_str().unwrap(), &["server", "-d"]);
    let output = server.finish();
    assert_eq!(output.status, 1);
    let told = format!(
        "ERROR - the service manager listens at {}, but clients look for {}\n",
        path.display(),
        daemon.socket_path().display()
    );
    assert!(output.stderr.starts_with(&told), "{output:?}");
}

#[test]
fn the_manager_hears_of_readiness_reloads_and_the_end() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let path = daemon.path("notify").display().to_string();
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    daemon.env("NOTIFY_SOCKET", &path);
    daemon.start();
    assert_eq!(heard(), "READY=1\n");
    for good in [true, false] {
        if !good {
            daemon.write_config("frob = 1;");
        }
        daemon.run(&["reload"]);
        let reloading = heard();
        let time = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(time.trim().parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(heard(), "READY=1\n");
    }
    daemon.shutdown();
    assert_eq!(heard(), "STOPPING=1\n");
}

/// A watchdog hears of the server as long as the process with the tokens answers, and not beside
/// another process's watchdog.
#[test]
fn the_watchdog_hears_of_a_server_that_answers() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let path = daemon.path("notify").display().to_string();
    let manager = UnixDatagram::bind(&path).unwrap();
    let hear = |patience| {
        manager.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
    };
    daemon.env("NOTIFY_SOCKET", &path);
    daemon.env("WATCHDOG_USEC", "200000");
    daemon.start();
    // It may answer before it says that it does.
    wait::until("the start", || {
        hear(PATIENCE).filter(|it| it == "READY=1\n")
    });
    for _ in 0..3 {
        assert_eq!(hear(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }
    let holder = daemon.holder();
    kill(holder, Signal::SIGSTOP).unwrap();
    let silence = Duration::from_secs(2);
    wait::until("silence", || hear(silence).is_none().then_some(()));
    kill(holder, Signal::SIGCONT).unwrap();
    for _ in 0..2 {
        assert_eq!(hear(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }
    daemon.shutdown();
    wait::until("the end", || {
        hear(PATIENCE).filter(|it| it.contains("STOPPING"))
    });
    wait::until("silence", || hear(silence).is_none().then_some(()));
    daemon.env("WATCHDOG_PID", "1");
    daemon.start();
    assert_eq!(hear(PATIENCE).as_deref(), Some("READY=1\n"));
    assert_eq!(hear(silence), None);
    daemon.shutdown();
}

/// The state is kept by a manager whose place nobody else could take, and by no other.
#[test]
fn a_manager_whose_socket_others_could_replace_gets_no_state() {
    let provider = Provider::start();
    for (mode, stores) in [(0o755, true), (0o777, false), (0o1777, false)] {
        let mut daemon = Daemon::new(&provider.account("work"));
        let dir = daemon.path("manager");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
        let path = dir.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        daemon.env("NOTIFY_SOCKET", path.to_str().unwrap());
        daemon.env("FDSTORE", "8");
        daemon.start();
        let log = daemon.shutdown();
        let mut stored = 0;
        let mut buffer = [0; 512];
        loop {
            let count = manager.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            stored += usize::from(text.starts_with("FDSTORE=1"));
            if text.starts_with("STOPPING=1") {
                break;
            }
        }
        assert_eq!(stored > 0, stores, "{mode:o}");
        let told = "can't keep the state: others could take its socket's place";
        assert_eq!(log.contains(told), !stores, "{mode:o}: {log}");
    }
}

/// What was read last is in force: a reload that has read an older file, and takes its time with
/// it, doesn't come into force after one that has read a newer.
#[test]
fn of_two_reloads_the_later_one_counts() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let path = daemon.path("notify").display().to_string();
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |what: &str| {
        let mut buffer = [0; 512];
        let count = manager.recv(&mut buffer).unwrap();
        assert!(buffer[..count].starts_with(what.as_bytes()), "{what}");
    };
    daemon.env("NOTIFY_SOCKET", &path);
    daemon.start();
    hear("READY");
    let many = (0..2_000).map(|number| provider.account(&format!("account-{number}")));
    daemon.write_config(&many.collect::<String>());
    kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    hear("RELOADING");
    daemon.write_config(&provider.account("play"));
    daemon.run(&["reload"]).ok();
    for _ in 0..2 {
        // In any order: the second begins while the first is at it, or later.
        manager.recv(&mut [0; 512]).unwrap();
    }
    hear("READY");
    let output = daemon.run(&["status"]);
    let status = output.ok();
    assert!(
        status.starts_with("play: ") && status.lines().count() == 1,
        "{status}"
    );
    daemon.shutdown();
}

/// `systemd-analyze` reads the units as the user's manager would, and has nothing to say. The
/// exposure that it computes must not grow unnoticed (in tenths; it counts what only a system's
/// manager could take away).
#[test]
fn the_units_for_systemd_are_understood() {
    let analyze = |daemon: &Daemon, args: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(args).current_dir(daemon.path(""));
        command.env("XDG_RUNTIME_DIR", daemon.path("run"));
        command.stdin(Stdio::null());
        Running::start(&mut command).finish()
    };
    let daemon = Daemon::new("");
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        // Where it is missing, so is systemd.
        return;
    }
    let shipped = |path: &str| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(root.join(path)).unwrap()
    };
    let unit = shipped("lib/systemd/user/pizauth.service").replace("/usr/bin/pizauth", "/bin/sh");
    std::fs::write(daemon.path("pizauth.service"), unit).unwrap();
    let socket = shipped("lib/systemd/user/pizauth.socket");
    std::fs::write(daemon.path("pizauth.socket"), socket).unwrap();
    let verify = [
        "verify",
        "--user",
        "--man=no",
        "./pizauth.service",
        "./pizauth.socket",
    ];
    let said = analyze(&daemon, &verify);
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{said:?}");
    let drop_in = shipped("examples/services/systemd/hardened.conf");
    std::fs::create_dir(daemon.path("pizauth.service.d")).unwrap();
    std::fs::write(daemon.path("pizauth.service.d/hardened.conf"), drop_in).unwrap();
    let said = analyze(&daemon, &verify);
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{said:?}");
    let rate = [
        "security",
        "--user",
        "--offline=true",
        "--threshold=67",
        "./pizauth.service",
    ];
    let said = analyze(&daemon, &rate);
    assert_eq!(said.status, 0, "{said:?}");
}
