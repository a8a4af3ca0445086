//! The command line and the server's life from outside: help, usage errors, what stops a start,
//! who gets the socket, signals, and what the log says.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Uid, mkfifo};

use crate::support::PATIENCE;
use crate::support::browser;
use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::provider::Provider;
use crate::support::wait;

/// A configuration whose provider nobody asks.
const CONFIG: &str = r#"account "work" {
    auth_uri = "https://login.example/authorize";
    token_uri = "https://login.example/token";
    client_id = "id";
}
"#;

const VERBS: [&str; 12] = [
    "check", "dump", "info", "refresh", "reload", "restore", "revoke", "server", "show",
    "shutdown", "status", "watch",
];

/// What a second server says.
const RUNNING: &str = "ERROR - a server is already running\nhint: `pizauth restart` has this version \
                       take over, even from an older pizauth\n";

#[test]
fn help_is_on_stdout_with_exit_0_everywhere() {
    let daemon = Daemon::new(CONFIG);
    for flag in ["-h", "--help", "help"] {
        let output = daemon.run(&[flag]);
        let text = output.ok();
        assert!(text.starts_with("usage: pizauth <command>\n"), "{text}");
        for verb in VERBS {
            assert!(text.contains(&format!("\n  {verb}")), "{verb}: {text}");
        }
    }
    for verb in VERBS {
        for args in [&[verb, "-h"], &[verb, "--help"]] {
            let output = daemon.run(args);
            let start = format!("usage: pizauth {verb}");
            assert!(output.ok().starts_with(&start), "{output:?}");
        }
    }
    // Even where the rest of the line makes no sense yet.
    daemon.run(&["show", "work", "--help"]).ok();
    for flag in ["-V", "--version"] {
        let version = format!("pizauth {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(daemon.run(&[flag]).ok(), version);
    }
}

#[test]
fn usage_errors_exit_with_64_and_say_what_is_wrong() {
    let daemon = Daemon::new(CONFIG);
    let list = "hint: `pizauth --help` lists the commands\n";
    let show = "hint: usage: pizauth show [-u] [-f <format>] [--id-token] [-m <time>] [-w <time>] \
                [--user <name>] [--host <name>] [--port <number>] <account>\n";
    for (args, what, hint) in [
        (&[][..], "no command given", list),
        (&["frob"], "unknown command `frob`", list),
        (&["\u{1b}[31m"], "unknown command `[31m`", list),
        (&["-x"], "unknown option `-x`", list),
        (&["--frob"], "unknown option `--frob`", list),
        (&["show"], "no account given", show),
        (&["show", "a", "b"], "unexpected argument `b`", show),
        (&["show", "-x", "a"], "unknown option `-x`", show),
        (
            &["dump", "x"],
            "unexpected argument `x`",
            "hint: usage: pizauth dump [-f] [-o <file>]\n",
        ),
        (
            &["server", "-c"],
            "`-c` needs a value",
            "hint: usage: pizauth server [-c <file>] [-d] [-v]\n",
        ),
    ] {
        let stderr = format!("ERROR - {what}\n{hint}");
        assert_eq!(daemon.run(args).failed(64), stderr, "{args:?}");
    }
}

#[test]
fn without_a_server_every_verb_but_info_says_so() {
    let daemon = Daemon::new(CONFIG);
    let absent = format!(
        "ERROR - pizauth is not running\nhint: start it with `pizauth server`; it isn't at {}\n",
        daemon.socket_path().display()
    );
    for args in [
        &["dump"][..],
        &["refresh", "work"],
        &["reload"],
        &["restore"],
        &["revoke", "work"],
        &["show", "work"],
        &["shutdown"],
        &["status"],
        &["watch"],
    ] {
        assert_eq!(daemon.run(args).failed(69), absent, "{args:?}");
    }
    let info = info(&daemon);
    assert_eq!(info["server_running"], false);
    assert_eq!(info["server_info"], serde_json::Value::Null);
    let output = daemon.run(&["info"]);
    assert!(
        output.ok().ends_with("  server: not running\n"),
        "{output:?}"
    );
}

// Covers: H2
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    for args in [
        &["show", "work"][..],
        &["dump"],
        &["info"],
        &["info", "-j"],
        &["status"],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        assert_eq!(
            with_stdout(&daemon, args, OwnedFd::from(writer).into()).failed(1),
            "ERROR - can't write to stdout: Broken pipe (os error 32)\n",
            "{args:?}"
        );
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            continue;
        };
        assert_eq!(
            with_stdout(&daemon, args, full.into()).failed(1),
            "ERROR - can't write to stdout: No space left on device (os error 28)\n",
            "{args:?}"
        );
    }
    // The standard library's own start puts /dev/null in the place of a closed stdout.
    let told = cfg!(all(target_os = "linux", target_env = "gnu"));
    let closed = in_shell(&daemon, "\"$0\" show work >&-").finish();
    match told {
        true => assert_eq!(
            closed.failed(1),
            "ERROR - can't write to stdout: Bad file descriptor (os error 9)\n"
        ),
        false => assert_eq!(closed.ok(), ""),
    }
    // Without any descriptors at all it harms nobody.
    in_shell(&daemon, "\"$0\" show work <&- >&- 2>&-").finish();
    assert_eq!(daemon.token("work"), "at-1");
}

/// `script` in a shell, with the program as `$0` and the configuration as `$1`.
fn in_shell(daemon: &Daemon, script: &str) -> Running {
    let pizauth = daemon.command(&[]);
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", script])
        .arg(pizauth.get_program())
        .arg(daemon.config_path())
        .env_clear()
        .envs(
            pizauth
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(daemon.path(""));
    Running::start(&mut command)
}

fn with_stdout(daemon: &Daemon, args: &[&str], stdout: Stdio) -> Output {
    let mut command = daemon.command(args);
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // The command's own copy of the descriptor must go too.
    drop(command);
    Running::of(child).finish()
}

#[test]
fn it_works_without_home_shell_and_xdg_variables() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.unset("HOME").unset("SHELL");
    daemon.start_forked();
    assert_eq!(
        daemon.run(&["status"]).ok(),
        "work: No access token; sign in with `pizauth auth work`\n"
    );
    daemon.shutdown();

    // Without HOME there is still the user database, and `-c` needs neither.
    daemon.unset("XDG_CONFIG_HOME").unset("XDG_RUNTIME_DIR");
    daemon.start_forked();
    let runtime_dir = daemon.path(&format!("tmp/pizauth-{}", Uid::effective()));
    assert_eq!(fs::metadata(&runtime_dir).unwrap().mode() & 0o7777, 0o700);
    let info = info(&daemon);
    assert_eq!(info["cache_directory"], runtime_dir.to_str().unwrap());
    assert_eq!(info["server_running"], true);
    daemon.shutdown();
    assert_eq!(
        fs::read_dir(&runtime_dir)
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name() == "pizauth.sock")
            .count(),
        0
    );

    // The default place; variables that aren't absolute paths are as good as unset.
    fs::create_dir(daemon.path("home/.config")).unwrap();
    fs::copy(
        daemon.config_path(),
        daemon.path("home/.config/pizauth.conf"),
    )
    .unwrap();
    let home = daemon.path("home");
    daemon
        .env("HOME", home.to_str().unwrap())
        .env("XDG_CONFIG_HOME", "config")
        .env("XDG_RUNTIME_DIR", "run");
    assert_eq!(daemon.run(&["server"]).ok(), "");
    daemon.adopt();
    let info = self::info(&daemon);
    let config = daemon.path("home/.config/pizauth.conf");
    assert_eq!(info["config_file"], config.to_str().unwrap());
    assert_eq!(info["server_info"]["config_file"], config.to_str().unwrap());
    assert_eq!(info["cache_directory"], runtime_dir.to_str().unwrap());
    daemon.shutdown();
}

#[test]
fn what_the_server_makes_is_the_users_alone() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.start_forked();
    for entry in fs::read_dir(daemon.path("run/pizauth")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{:?}: {mode:o}", entry.file_name());
    }
    assert_eq!(
        fs::metadata(daemon.path("run/pizauth")).unwrap().mode() & 0o7777,
        0o700
    );
}

// Covers: planted, H11
#[test]
fn a_runtime_directory_that_others_could_enter_is_refused() {
    let daemon = Daemon::new(CONFIG);
    let dir = daemon.path("run/pizauth");
    let refused = |why: &str| {
        format!(
            "ERROR - refusing to use the directory {}: {why}\n",
            dir.display()
        )
    };
    let both = |stderr: &str| {
        for args in [&["server"][..], &["server", "-d"]] {
            assert_eq!(daemon.run(args).failed(1), stderr, "{args:?}");
        }
    };

    symlink(daemon.path("home"), &dir).unwrap();
    both(&refused("it is a symbolic link"));
    fs::remove_file(&dir).unwrap();

    symlink(daemon.path("nowhere"), &dir).unwrap();
    both(&refused("it is a symbolic link"));
    fs::remove_file(&dir).unwrap();

    fs::write(&dir, "").unwrap();
    both(&refused("it is no directory"));
    fs::remove_file(&dir).unwrap();

    if Uid::effective().is_root() {
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
        both(&refused("it belongs to another user"));
        fs::remove_dir(&dir).unwrap();
    }

    // Nor is one around it in which others could put another in its place.
    let run = daemon.path("run");
    let refused = |why: &str| {
        let run = run.display();
        format!("ERROR - refusing to use the directory {run}: {why}\n")
    };
    for mode in [0o777, 0o720] {
        fs::set_permissions(&run, PermissionsExt::from_mode(mode)).unwrap();
        both(&refused(
            "others can replace what is in it (its mode should be 0700)",
        ));
    }
    fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).unwrap();
    if Uid::effective().is_root() {
        std::os::unix::fs::chown(&run, Some(65_534), None).unwrap();
        both(&refused("it belongs to another user"));
        std::os::unix::fs::chown(&run, Some(0), None).unwrap();
    }

    if !Uid::effective().is_root() {
        fs::set_permissions(daemon.path("run"), PermissionsExt::from_mode(0o500)).unwrap();
        both(&format!(
            "ERROR - can't make the directory {}: Permission denied (os error 13)\n",
            dir.display()
        ));
    }
}

#[test]
fn a_runtime_directory_is_made_and_its_mode_mended() {
    let mut daemon = Daemon::new(CONFIG);
    let dir = daemon.path("run/pizauth");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    daemon.start_forked();
    assert_eq!(mode(&dir), 0o700);
    daemon.shutdown();
    fs::remove_dir_all(daemon.path("run")).unwrap();
    daemon.start_forked();
    assert_eq!((mode(&dir), mode(&daemon.path("run"))), (0o700, 0o700));
}

// Covers: H11
#[test]
fn the_client_trusts_no_socket_in_a_directory_that_others_could_enter() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.start();
    let dir = daemon.path("run/pizauth");
    let refused = |daemon: &Daemon, why: &str| {
        for args in [&["show", "work"][..], &["dump"], &["info"]] {
            let stderr = format!(
                "ERROR - refusing to use the directory {}: {why}\n",
                dir.display()
            );
            assert_eq!(daemon.run(args).failed(1), stderr, "{args:?}");
        }
    };
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o701)).unwrap();
    refused(&daemon, "others may enter it (its mode should be 0700)");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();

    let run = daemon.path("run");
    fs::set_permissions(&run, PermissionsExt::from_mode(0o777)).unwrap();
    let output = daemon.run(&["show", "work"]);
    let told = output.failed(1);
    assert!(told.contains("others can replace what is in it"), "{told}");
    // The sticky bit keeps them from that.
    fs::set_permissions(&run, PermissionsExt::from_mode(0o1777)).unwrap();
    daemon.run(&["info"]).ok();
    fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).unwrap();

    if Uid::effective().is_root() {
        std::os::unix::fs::chown(&dir, Some(65_534), None).unwrap();
        refused(&daemon, "it belongs to another user");
        std::os::unix::fs::chown(&dir, Some(0), None).unwrap();
    }

    let aside = daemon.path("run/aside");
    fs::rename(&dir, &aside).unwrap();
    symlink(&aside, &dir).unwrap();
    refused(&daemon, "it is a symbolic link");
    fs::remove_file(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    daemon.shutdown();
}

#[test]
fn a_lock_that_is_no_regular_file_is_refused_at_once() {
    let daemon = Daemon::new(CONFIG);
    let dir = daemon.path("run/pizauth");
    let lock = dir.join("pizauth.lock");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    let mode = Mode::from_bits_truncate(0o600);
    let makers: [&dyn Fn(); 4] = [
        &|| mkfifo(&lock, mode).unwrap(),
        &|| fs::create_dir(&lock).unwrap(),
        &|| drop(UnixListener::bind(&lock).unwrap()),
        &|| {
            // Only root may make a device.
            if mknod(&lock, SFlag::S_IFCHR, mode, makedev(1, 3)).is_err() {
                fs::create_dir(&lock).unwrap();
            }
        },
    ];
    for make in makers {
        make();
        let why = format!(
            "ERROR - can't use the lock {}: it is no regular file\n",
            lock.display()
        );
        assert_eq!(daemon.run(&["server"]).failed(1), why);
        // A client that meets something silent looks at it, too.
        let listener = UnixListener::bind(daemon.socket_path()).unwrap();
        daemon.run(&["show", "work"]).failed(69);
        drop(listener);
        fs::remove_file(daemon.socket_path()).unwrap();
        fs::remove_dir(&lock)
            .or_else(|_| fs::remove_file(&lock))
            .unwrap();
    }
}

// Covers: H12
#[test]
fn a_stale_socket_is_replaced() {
    let mut daemon = Daemon::new(CONFIG);
    fs::create_dir(daemon.path("run/pizauth")).unwrap();
    fs::set_permissions(daemon.path("run/pizauth"), PermissionsExt::from_mode(0o700)).unwrap();
    drop(UnixListener::bind(daemon.socket_path()).unwrap());
    assert!(daemon.socket_path().exists());
    daemon.start_forked();
    daemon.run(&["status"]).ok();
    // A crash leaves one too.
    daemon.kill();
    assert!(daemon.socket_path().exists());
    daemon.start_forked();
    daemon.run(&["status"]).ok();
    daemon.shutdown();
    assert!(!daemon.socket_path().exists());
}

#[test]
fn a_second_server_is_refused_and_the_first_goes_on() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start_forked();
    daemon.sign_in("work");
    for args in [&["server"][..], &["server", "-d"], &["server", "-dvvvv"]] {
        let output = daemon.run(args);
        assert_eq!(output.failed(1), RUNNING);
    }
    // Also when somebody has tidied the lock away.
    fs::remove_file(daemon.path("run/pizauth/pizauth.lock")).unwrap();
    let output = daemon.run(&["server"]);
    assert_eq!(output.failed(1), RUNNING);
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn of_twenty_servers_started_at_once_exactly_one_wins() {
    let mut daemon = Daemon::new(CONFIG);
    let config = daemon.config_path();
    let args = ["server", "-c", config.to_str().unwrap()];
    let started: Vec<Running> = (0..20).map(|_| daemon.spawn(&args)).collect();
    let outputs: Vec<Output> = started.into_iter().map(Running::finish).collect();
    daemon.adopt();
    let (won, lost): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status == 0);
    assert_eq!(won.len(), 1, "{outputs:?}");
    assert_eq!(won[0].ok(), "");
    for output in lost {
        assert_eq!(output.failed(1), RUNNING);
    }
    daemon.run(&["status"]).ok();
}

// Covers: H14
#[test]
fn exit_0_means_that_it_answers_also_right_after_a_shutdown() {
    let mut daemon = Daemon::new(CONFIG);
    for _ in 0..5 {
        daemon.start_forked();
        daemon.authorization_url("work");
        // The one that goes may take a moment; a new one waits for it.
        daemon.run(&["shutdown"]).ok();
        assert!(!daemon.socket_path().exists());
        let config = daemon.config_path();
        let output = daemon.run(&["server", "-c", config.to_str().unwrap()]);
        assert_eq!(output.ok(), "");
        daemon.authorization_url("work");
        daemon.run(&["shutdown"]).ok();
        daemon.wait_end();
    }
}

// Covers: H14
#[test]
fn what_stops_a_start_is_said_before_it_detaches() {
    let mut daemon = Daemon::new("account \"work\" {\n    client_idd = \"x\";\n}\n");
    let path = daemon.config_path();
    let path = path.to_str().unwrap();
    let wrong = format!(
        "ERROR - {path}:2:5: unknown option `client_idd`\n    client_idd = \"x\";\n    \
         ^^^^^^^^^^\nhint: did you mean `client_id`?\n"
    );
    assert_eq!(daemon.run(&["server"]).failed(1), wrong);
    assert_eq!(daemon.run(&["server", "-d"]).failed(1), wrong);

    fs::remove_file(path).unwrap();
    let missing = format!(
        "ERROR - can't read the configuration {path}: No such file or directory (os error 2)\nhint: `pizauth setup` makes one\n"
    );
    assert_eq!(daemon.run(&["server"]).failed(1), missing);
    assert_eq!(daemon.run(&["server", "-d"]).failed(1), missing);
    let elsewhere = daemon.path("run");
    assert_eq!(
        daemon.run(&["server", "-c", "run"]).failed(1),
        format!(
            "ERROR - the configuration {} is no regular file\n",
            elsewhere.display()
        )
    );

    for option in ["http_listen", "https_listen"] {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = busy.local_addr().unwrap();
        daemon.write_config(&format!("{option} = \"{address}\";\n{CONFIG}"));
        let output = daemon.run(&["server"]);
        let stderr = output.failed(1);
        assert!(
            stderr.starts_with(&format!("ERROR - {option}: ")),
            "{stderr}"
        );
        assert!(stderr.contains(&address.to_string()), "{stderr}");
    }

    // Nothing of all that is left behind.
    assert!(!daemon.socket_path().exists());
    daemon.write_config(CONFIG);
    daemon.start_forked();
    daemon.run(&["status"]).ok();
}

#[test]
fn a_configuration_given_by_a_relative_path_is_found_again() {
    let mut daemon = Daemon::new(CONFIG);
    assert_eq!(
        daemon.run(&["server", "-c", "config/pizauth.conf"]).ok(),
        ""
    );
    daemon.adopt();
    daemon.write_config(&CONFIG.replace("work", "play"));
    assert_eq!(daemon.run(&["reload"]).ok(), "");
    assert_eq!(
        daemon.run(&["status"]).ok(),
        "play: No access token; sign in with `pizauth auth play`\n"
    );
    daemon.run(&["shutdown"]).ok();
    daemon.wait_end();
}

// Covers: H14
#[test]
fn a_pipe_of_the_starting_command_ends_with_it() {
    let mut daemon = Daemon::new(&format!("startup_cmd = \"sleep 30\";\n{CONFIG}"));
    let script = "\"$0\" server -c \"$1\" 2>&1 9>&1 | cat; echo done";
    let output = in_shell(&daemon, script).finish();
    daemon.adopt();
    assert_eq!(output.ok(), "done\n");
    daemon.run(&["status"]).ok();
}

#[test]
fn sighup_reloads_and_an_error_in_the_config_changes_nothing() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.start_with(&["-vv"]);
    let log = daemon.log();
    let hang_up = |daemon: &Daemon| kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    daemon.write_config(&format!("{CONFIG}{}", CONFIG.replace("work", "play")));
    hang_up(&daemon);
    log.wait_line("INFO - the configuration was reloaded");
    let both = daemon.run(&["status"]).ok().to_owned();
    assert_eq!(both.lines().count(), 2);

    daemon.write_config("startup_comd = \"x\";");
    hang_up(&daemon);
    let line = log.wait_line("ERROR - the configuration was not reloaded: ");
    let why = "pizauth.conf:1:1: unknown option `startup_comd` (did you mean `startup_cmd`?)";
    assert!(line.ends_with(why), "{line}");
    assert_eq!(daemon.run(&["status"]).ok(), both);
}

#[test]
fn a_configuration_may_come_through_a_pipe() {
    let mut daemon = Daemon::new("frob = 1;");
    for script in ["\"$0\" check -c /dev/stdin", "\"$0\" server -c /dev/stdin"] {
        let mut running = in_shell(&daemon, script);
        running.feed(CONFIG.as_bytes());
        running.finish().ok();
    }
    daemon.adopt();
    daemon.authorization_url("work");
    for args in [["reload"], ["restart"]] {
        let said = daemon.run(&args);
        let words = "ERROR - the configuration came through a pipe and can't be read again\n";
        assert!(said.failed(1).starts_with(words), "{said:?}");
    }
    daemon.authorization_url("work");
    let again = in_shell(&daemon, "\"$0\" check -c /dev/stdin </dev/null");
    assert!(
        again
            .finish()
            .failed(78)
            .contains("no account is configured")
    );
}

/// A terminal that is closed says so by this signal.
#[cfg(target_os = "linux")]
#[test]
fn sighup_ends_a_server_on_a_terminal() {
    let daemon = Daemon::new(CONFIG);
    let script = r#"script -qec "'$0' server -d" /dev/null"#;
    let mut running = in_shell(&daemon, script);
    wait::until("the server", || {
        assert!(running.is_running(), "{}", running.stderr.text());
        std::os::unix::net::UnixStream::connect(daemon.socket_path()).ok()
    });
    let pid = info(&daemon)["server_info"]["pid"].as_i64().unwrap();
    kill(
        nix::unistd::Pid::from_raw(pid.try_into().unwrap()),
        Signal::SIGHUP,
    )
    .unwrap();
    running.finish();
    wait::until("the socket's end", || {
        (!daemon.socket_path().exists()).then_some(())
    });
}

#[test]
fn sigterm_and_sigint_end_it_cleanly_and_sigusr1_does_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::new(CONFIG);
        daemon.start_with(&["-vv"]);
        let pid = daemon.pid().unwrap();
        for ignored in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE] {
            kill(pid, ignored).unwrap();
        }
        // Whatever those do, they do before this.
        kill(pid, Signal::SIGHUP).unwrap();
        daemon.log().wait_line("the configuration was reloaded");
        daemon.run(&["status"]).ok();
        kill(pid, signal).unwrap();
        assert_eq!(daemon.wait_end(), Some(0));
        assert!(!daemon.socket_path().exists());
    }
}

#[test]
fn sigterm_ends_a_detached_server_too() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.start_forked();
    let Some(pid) = daemon.pid() else {
        return;
    };
    kill(pid, Signal::SIGTERM).unwrap();
    daemon.wait_end();
    assert!(!daemon.socket_path().exists());
    let output = daemon.run(&["status"]);
    assert!(
        output
            .failed(69)
            .starts_with("ERROR - pizauth is not running\n")
    );
}

#[test]
fn a_detached_server_needs_no_syslog() {
    // Where there is one, this shows only that every level of logging starts.
    let mut daemon = Daemon::new(CONFIG);
    let config = daemon.config_path();
    let output = daemon.run(&["server", "-vvvv", "-c", config.to_str().unwrap()]);
    assert_eq!(output.ok(), "");
    daemon.adopt();
    daemon.authorization_url("work");
    daemon.shutdown();
}

#[test]
fn the_service_manager_hears_of_the_start_and_the_end() {
    for foreground in [true, false] {
        let mut daemon = Daemon::new(CONFIG);
        let manager = UnixDatagram::bind(daemon.path("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = || {
            let mut buffer = [0; 256];
            let count = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..count])
                .trim_end()
                .to_owned()
        };
        let socket = daemon.path("notify");
        daemon.env("NOTIFY_SOCKET", socket.to_str().unwrap());
        match foreground {
            true => daemon.start(),
            false => daemon.start_forked(),
        }
        assert_eq!(told(), "READY=1");
        // By then it answers.
        daemon.authorization_url("work");
        daemon.shutdown();
        assert_eq!(told(), "STOPPING=1");
    }
}

// Covers: H22
#[test]
fn the_log_says_as_much_as_was_asked_for_and_never_a_secret() {
    let secret = "the-secret-of-the-client";
    let mut logs = Vec::new();
    for flags in [&[][..], &["-v"], &["-vv"], &["-vvv"], &["-vvvv"]] {
        let provider = Provider::tagged("a-token-that-nobody-may-see-");
        provider.set(|settings| settings.client_secret = Some(secret.into()));
        let option = format!("client_secret = \"{secret}\";");
        let hook = "auth_notify_cmd = \"true\";\n".to_owned();
        let mut daemon = Daemon::new(&(hook + &provider.account_with("work", &option)));
        daemon.start_with(flags);
        let url = url::Url::parse(&daemon.authorization_url("work")).unwrap();
        browser::visit(url.as_str());
        let token = daemon.token("work");
        assert!(provider.accepts(&token));
        daemon.run(&["reload"]).ok();
        daemon.run(&["show", "nobody"]).failed(67);
        let form = provider.requests("/token")[0].form.clone();
        let log = daemon.shutdown();
        let state = url
            .query_pairs()
            .find(|(name, _)| name == "state")
            .unwrap()
            .1;
        for hidden in [
            &state,
            secret,
            form.get("code").unwrap(),
            form.get("code_verifier").unwrap(),
            "a-token-that-nobody-may-see-",
        ] {
            assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
        }
        logs.push(log);
    }
    // A sign-in that works is no news to who asked for errors and warnings alone.
    assert_eq!(logs[..2], ["", ""]);
    let details = [
        "a client asks for show work",
        "running auth_notify_cmd for work",
        "a browser brings an authorization response",
        "work: asking 127.0.0.1",
        "work: asking 127.0.0.1: answered 200 after ",
        "work: next refresh in ",
        "a client asks for reload",
    ]
    .map(|detail| format!("DEBUG - {detail}"));
    for (log, said) in [(&logs[2], false), (&logs[3], true), (&logs[4], true)] {
        for detail in &details {
            assert_eq!(log.contains(detail), said, "{detail} in:\n{log}");
        }
    }
    for log in &logs[2..] {
        let lines: Vec<&str> = log.lines().collect();
        let at = |line: &str| lines.iter().position(|found| *found == line);
        let events = [
            "INFO - work: authorisation needed",
            "INFO - work: token_new",
            "INFO - the configuration was reloaded",
        ]
        .map(|line| at(line).unwrap_or_else(|| panic!("no {line:?} in:\n{log}")));
        assert!(events.is_sorted(), "{log}");
    }
}

#[test]
fn info_tells_programs_and_people_the_same() {
    let mut daemon = Daemon::new(CONFIG);
    daemon.start_forked();
    let info = info(&daemon);
    let keys: Vec<&String> = info.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "cache_directory",
            "config_file",
            "executed_as",
            "info_format_version",
            "pizauth_version",
            "server_info",
            "server_running",
            "socket",
        ]
    );
    let server = &info["server_info"];
    for port in ["http_port", "https_port"] {
        let port = server[port].as_str().unwrap().parse::<u16>();
        assert!(port.is_ok_and(|port| port > 0), "{info}");
    }
    let output = daemon.run(&["info"]);
    for fact in [
        &server["http_port"],
        &server["https_port"],
        &server["https_pub_key"],
        &server["https_fingerprint"],
        &info["config_file"],
        &info["cache_directory"],
        &info["pizauth_version"],
    ] {
        let fact = fact.to_string();
        assert!(
            output.ok().contains(fact.trim_matches('"')),
            "{fact}: {output:?}"
        );
    }
    // Its sockets are bound to loopback alone.
    wait::until("the http port", || {
        std::net::TcpStream::connect((
            "127.0.0.1",
            server["http_port"].as_str()?.parse::<u16>().ok()?,
        ))
        .ok()
    });
}

fn info(daemon: &Daemon) -> serde_json::Value {
    serde_json::from_str(daemon.run(&["info", "-j"]).ok()).unwrap()
}
