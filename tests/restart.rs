//! `pizauth restart`: another program goes on with everything, or the old one does.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::browser;
use crate::support::command::{Output, Running};
use crate::support::daemon::{Daemon, gone, limit_process};
use crate::support::hooks::option;
use crate::support::provider::{DEVICE, DEVICE_AUTHORIZATION, Gate, Provider, Scripted, TOKEN};
use crate::support::wait;

fn info(daemon: &Daemon) -> serde_json::Value {
    let info = daemon.run(&["info", "-j"]).ok().to_owned();
    serde_json::from_str::<serde_json::Value>(&info).unwrap()["server_info"].take()
}

/// The info that must not change.
fn identity(daemon: &Daemon) -> Vec<serde_json::Value> {
    let info = info(daemon);
    [
        "pid",
        "http_port",
        "https_port",
        "https_pub_key",
        "https_fingerprint",
    ]
    .map(|name| info[name].clone())
    .into()
}

/// However a token holder `ends`, so many times and once more, the next one goes on with everything.
pub fn goes_on_after(times: usize, ends: impl Fn(&Daemon)) {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("home");
    let door = "socket \"~/door\" { accounts = [\"work\"]; }\n";
    let mut daemon = Daemon::new(&(accounts + door));
    daemon.start();
    daemon.sign_in("work");
    let token = daemon.token("work");
    let url = daemon.authorization_url("home");
    let before = identity(&daemon);
    let first = daemon.holder();
    for _ in 0..times {
        ends(&daemon);
        assert_eq!(daemon.token("work"), token);
        // The request that was pending is pending still, at the same port.
        assert_eq!(daemon.authorization_url("home"), url);
        assert_eq!(identity(&daemon), before);
    }
    assert_eq!(browser::visit(&url).status(), 200);
    let other = daemon.token("home");
    assert_eq!(provider.requests(TOKEN).len(), 2);
    // What has changed since counts the next time.
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 3);
    let newer = wait::until("a new token", || {
        let newer = daemon.token("work");
        (newer != token).then_some(newer)
    });
    ends(&daemon);
    assert_eq!(daemon.token("work"), newer);
    assert_eq!(daemon.token("home"), other);
    assert!(UnixStream::connect(daemon.path("home/door")).is_ok());
    wait::until("the end of the first", || gone(first));
    // It is still the one server, and ends as one does.
    daemon.run(&["server"]).failed(1);
    daemon.run(&["reload"]).ok();
    daemon.shutdown();
    assert!(!daemon.socket_path().exists());
    assert!(!daemon.path("home/door").exists());
}

#[test]
fn everything_goes_on() {
    let restarts = Cell::new(0);
    goes_on_after(3, |daemon| {
        daemon.run(&["restart"]).ok();
        restarts.set(restarts.get() + 1);
        assert_eq!(info(daemon)["restarts"], restarts.get());
    });
}

#[cfg(target_os = "linux")]
// Covers: sandbox
#[test]
fn what_was_given_up_is_given_up_once() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    // A filter outlives the program, and the kernel takes only so many.
    let given_up = || {
        let info = info(&daemon);
        let status = fs::read_to_string(format!("/proc/{}/status", info["token_holder"])).unwrap();
        let filters = status
            .lines()
            .find(|line| line.starts_with("Seccomp_filters:"));
        (info["sandbox"].clone(), filters.map(str::to_owned))
    };
    let before = given_up();
    for _ in 0..3 {
        daemon.run(&["restart"]).ok();
        assert_eq!(given_up(), before);
    }
}

#[test]
fn no_show_fails_meanwhile() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start_forked();
    daemon.sign_in("work");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let shows: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut shown = 0;
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(daemon.token("work"), "at-1");
                        shown += 1;
                    }
                    shown
                })
            })
            .collect();
        for _ in 0..10 {
            daemon.run(&["restart"]).ok();
        }
        done.store(true, Ordering::Relaxed);
        for show in shows {
            assert!(show.join().unwrap() > 0);
        }
    });
    assert_eq!(info(&daemon)["restarts"], 10);
}

#[test]
fn a_refresh_under_way_is_waited_for() {
    let provider = Provider::start();
    let saved = option("state_save_cmd", "cat >tokens.new && mv tokens.new tokens")
        + &option("state_load_cmd", "[ ! -e tokens ] || cat tokens");
    let mut daemon = Daemon::new(&(saved + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    daemon.shutdown();
    // A server that has just been started may refresh at once.
    daemon.start();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    let mut restart = daemon.spawn(&["restart"]);
    // Meanwhile everybody is served.
    for _ in 0..5 {
        assert_eq!(daemon.token("work"), "at-1");
    }
    assert!(restart.is_running());
    gate.open();
    restart.finish().ok();
    assert_eq!(daemon.token("work"), "at-2");
    daemon.run(&["refresh", "work"]).ok();
    daemon.shutdown();
}

/// A daemon of a binary that the test may replace.
fn replaceable(config: &str) -> (Daemon, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("pizauth");
    symlink(env!("CARGO_BIN_EXE_pizauth"), &binary).unwrap();
    (Daemon::of_binary(&binary, config), dir)
}

/// Puts `script` in the place of the binary, as an upgrade would. A process of its own writes it:
/// a file that another test's child happens to inherit open for writing can't be run.
fn upgrade(dir: &Path, script: &str) {
    let status = Command::new("sh")
        .args([
            "-ec",
            "printf %s \"$1\" >new; chmod 755 new; mv new pizauth",
            "sh",
        ])
        .arg(script)
        .current_dir(dir)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn what_cannot_take_over_is_refused_and_the_old_server_goes_on() {
    let provider = Provider::start();
    let (mut daemon, dir) = replaceable(&provider.account("work"));
    let program = dir.path().join("pizauth").display().to_string();
    daemon.start();
    daemon.sign_in("work");
    let old = dir.path().join("old");
    symlink(env!("CARGO_BIN_EXE_pizauth"), &old).unwrap();
    let asker = Daemon::of_binary(&old, "");
    let ask = |args: &[&str]| {
        let mut command = asker.command(args);
        command.env("XDG_RUNTIME_DIR", daemon.path("run"));
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for (script, why) in [
        (
            "#!/bin/sh\necho 'ERROR - of another age' >&2; exit 1\n",
            "of another age",
        ),
        ("#!/bin/sh\nexit 3\n", "it ends with exit status: 3"),
        // Something that it leaves behind is nobody to wait for.
        (
            "#!/bin/sh\nsleep 60 & echo $! >\"${0%/*}/left\"; kill -9 $$\n",
            "it ends with signal: 9 (SIGKILL)",
        ),
        // Nor is it left behind by what has to be killed.
        (
            "#!/bin/sh\nkill $(cat \"${0%/*}/left\"); sleep 60 & echo $! >\"${0%/*}/left\"; wait\n",
            "it takes too long",
        ),
        ("no program", "Exec format error (os error 8)"),
    ] {
        upgrade(dir.path(), script);
        let told = format!("ERROR - {program} can't take over: {why}\n");
        assert_eq!(ask(&["restart"]), (Some(1), told));
        assert_eq!(ask(&["show", "work"]), (Some(0), String::new()));
    }
    // That a program ends well proves nothing, nor does what anybody can say of what it was given.
    for script in [
        "exit 0",
        "cat",
        "sha256sum",
        "sha256sum | cut -c1-64 | tr -d '\\n'",
    ] {
        upgrade(dir.path(), &format!("#!/bin/sh\n{script}\n"));
        let (status, told) = ask(&["restart"]);
        assert_eq!(status, Some(1), "{script}: {told}");
        assert!(
            told.contains("doesn't show that it has read the state"),
            "{told}"
        );
        assert_eq!(ask(&["show", "work"]), (Some(0), String::new()));
    }
    let left = fs::read_to_string(dir.path().join("left")).unwrap();
    wait::until("its child is gone", || {
        let mut test = Command::new("sh");
        let gone = !test
            .args(["-c", "kill -0 $1 2>/dev/null", "sh", left.trim()])
            .status()
            .unwrap()
            .success();
        gone.then_some(())
    });
    // A real one, that comes in the place of the first.
    fs::rename(&old, dir.path().join("pizauth")).unwrap();
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn a_config_that_cannot_be_in_force_is_refused() {
    let provider = Provider::start();
    let good = provider.account("work");
    let mut daemon = Daemon::new(&good);
    daemon.start();
    daemon.sign_in("work");
    for (config, why) in [
        (
            format!("{good}frob = 1;\n"),
            "unknown option `frob`\nfrob = 1;\n^^^^\n",
        ),
        (
            format!("{good}https_listen = none;\n"),
            "http_listen or https_listen was changed, which needs a stop and a start",
        ),
    ] {
        daemon.write_config(&config);
        let output = daemon.run(&["restart"]);
        assert!(output.failed(1).contains(why), "{output:?}");
        assert_eq!(daemon.token("work"), "at-1");
    }
    // What is another registration now loses its tokens, as on a reload.
    daemon.write_config(&good.replace("client-of-work", "another"));
    daemon.run(&["restart"]).ok();
    daemon.authorization_url("work");
}

#[test]
fn an_account_that_is_gone_afterwards_leaves_nothing_behind() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let events = daemon.record("events");
    let hook = events.option("token_event_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_EVENT"]);
    let with = |name: &str, rest: &str| {
        let file = format!("token_file = \"~/{name}{rest}\";");
        provider.account_with(name, &file)
    };
    daemon.write_config(&(hook.clone() + &with("work", "") + &with("home", "")));
    daemon.start();
    daemon.sign_in("work");
    daemon.sign_in("home");
    let file = |name: &str| daemon.path("home").join(name);
    for name in ["work", "home"] {
        wait::until("a token file", || file(name).exists().then_some(()));
    }
    daemon.write_config(&(hook + &with("home", ".token")));
    daemon.run(&["restart"]).ok();
    let told = [
        "work\ttoken_new",
        "home\ttoken_new",
        "work\ttoken_invalidated",
    ];
    assert_eq!(events.wait_lines(3), told);
    wait::until("the file elsewhere", || {
        file("home.token").exists().then_some(())
    });
    assert!(!file("work").exists() && !file("home").exists());
    daemon.run(&["show", "work"]).failed(67);
    assert_eq!(daemon.token("home"), "at-2");
}

/// Returns when somebody has begun to wait for a token so many times.
fn waiting(daemon: &Daemon, times: usize) {
    let words = "a client waits for a token";
    let begun = || daemon.log().text().matches(words).count() == times;
    wait::until("clients that wait", || begun().then_some(()));
}

#[test]
fn whoever_waits_or_watches_goes_on_doing_so() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&(provider.account("work") + &provider.account("home")));
    daemon.start();
    let url = daemon.authorization_url("work");
    let mut shows: Vec<_> = ["30s", "1h"]
        .map(|wait| daemon.spawn(&["show", "-w", wait, "work"]))
        .into();
    let mut auth = daemon.spawn(&["auth", "work"]);
    let watch = daemon.spawn(&["watch", "-j"]);
    watch.stdout.wait_line("\"watching\"");
    auth.stdout.wait_line("http");
    waiting(&daemon, 2);
    for _ in 0..2 {
        daemon.run(&["restart"]).ok();
    }
    assert!(shows.iter_mut().all(Running::is_running) && auth.is_running());
    assert_eq!(browser::visit(&url).status(), 200);
    for show in shows {
        assert_eq!(show.finish().ok(), "at-1\n");
    }
    assert!(auth.finish().done().contains("Active access token"));
    watch.stdout.wait_line("token_new");
    // Whoever speaks the protocol is told to ask again.
    let body = "{\"account\":\"home\",\"wait_secs\":30}";
    let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
    write!(stream, "pizauth 1 show {}\n{body}", body.len()).unwrap();
    waiting(&daemon, 7);
    daemon.run(&["restart"]).ok();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let told = "the server is just being restarted\nhint: ask again";
    assert_eq!(reply, format!("pizauth 1 75 {}\n{told}", told.len()));
}

#[test]
fn a_socket_that_goes_meanwhile_comes_back_meanwhile() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&(provider.account("work") + &provider.account("home")));
    daemon.start();
    daemon.sign_in("work");
    daemon.sign_in("home");
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 3);
    let mut restart = daemon.spawn(&["restart"]);
    daemon.log().wait_line("about to be restarted");
    fs::remove_file(daemon.socket_path()).unwrap();
    wait::until("the socket", || {
        UnixStream::connect(daemon.socket_path()).ok()
    });
    assert_eq!(daemon.token("home"), "at-2");
    assert!(restart.is_running());
    gate.open();
    restart.finish().ok();
    assert_eq!(daemon.token("work"), "at-3");
}

#[test]
fn a_notification_that_waits_for_a_click_lives_on_and_ends_with_the_sign_in() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let hook = "echo up >>notified; trap '' HUP; until [ -e click ]; do sleep 0.02; done; \
                echo clicked >>notified";
    let notified = daemon.record("notified");
    daemon.write_config(&(option("auth_notify_cmd", hook) + &provider.account("work")));
    daemon.start();
    let url = daemon.authorization_url("work");
    notified.wait_lines(1);
    daemon.run(&["restart"]).ok();
    fs::write(daemon.path("click"), "").unwrap();
    assert_eq!(notified.wait_lines(2), ["up", "clicked"]);
    assert_eq!(browser::visit(&url).status(), 200);
    daemon.token("work");
}

/// The next hook is run by the new program; one that runs already goes on, and its end is still told.
#[test]
fn the_hook_runner_is_renewed() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let hook = "echo \"begin $PIZAUTH_EVENT $PPID\" >>events; until [ -e go ]; do sleep 0.02; done; \
                echo end >>events; [ $PIZAUTH_EVENT = token_revoked ] || exit 7";
    let events = daemon.record("events");
    daemon.write_config(&(option("token_event_cmd", hook) + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    let runner = |daemon: &Daemon| wait::until("the hook runner", || daemon.hook_runner());
    let first = runner(&daemon);
    assert_eq!(events.wait_lines(1), [format!("begin token_new {first}")]);
    daemon.run(&["restart"]).ok();
    let second = runner(&daemon);
    assert_ne!(second, first);
    daemon.run(&["revoke", "work"]).ok();
    // The second in the queue waits for the first, whoever runs that.
    assert!(gone(first).is_none());
    assert_eq!(events.lines().len(), 1);
    fs::write(daemon.path("go"), "").unwrap();
    let told = daemon.log().wait_line("token_event_cmd exited");
    assert_eq!(told, "ERROR - work: token_event_cmd exited with status 7");
    let next = format!("begin token_revoked {second}");
    assert_eq!(events.wait_lines(4)[1..], ["end", next.as_str(), "end"]);
    wait::until("the old runner's end", || gone(first));
    assert_eq!(info(&daemon)["hook_runner_losses"], 0);
}

#[test]
fn a_device_code_that_waits_is_good_afterwards() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&format!(
        "account \"work\" {{ device_auth_uri = \"{}\"; token_uri = \"{}\"; client_id = \"box\"; }}\n",
        provider.url(DEVICE_AUTHORIZATION),
        provider.token_uri()
    ));
    daemon.start();
    let with_code = |daemon: &Daemon| {
        let code = |output: &Output| output.stderr.contains("enter the code USER-1");
        daemon.eventually(&["show", "work"], code);
    };
    with_code(&daemon);
    daemon.run(&["restart"]).ok();
    with_code(&daemon);
    assert_eq!(provider.requests(DEVICE_AUTHORIZATION).len(), 1);
    let page = browser::get(&provider.url(&format!("{DEVICE}?user_code=USER-1")));
    assert_eq!(page.status(), 200);
    daemon.eventually(&["show", "work"], |output| output.status == 0);
}

/// A signal that comes while a restart is under way is its successor's to answer, or ends the server.
#[test]
fn a_signal_meanwhile_is_not_lost() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let pid = daemon.pid().expect("a pid");
    let count = |daemon: &Daemon, words| daemon.log().text().matches(words).count();
    for number in 1..=20 {
        let asked = daemon.spawn(&["restart"]);
        wait::until("the restart", || {
            let begun = count(&daemon, "about to be restarted in place");
            (begun == number).then_some(())
        });
        nix::sys::signal::kill(pid, Signal::SIGHUP).expect("to signal");
        assert_eq!(asked.finish().status, 0);
        wait::until("the reload", || {
            let reloads = count(&daemon, "the configuration was reloaded");
            (reloads == number).then_some(())
        });
    }
    let mut silent = UnixStream::connect(daemon.socket_path()).expect("to connect");
    silent.write_all(b"{").expect("half a request");
    let _asked = daemon.spawn(&["restart"]);
    daemon.log().wait_line("about to be restarted in place");
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("to signal");
    assert_eq!(daemon.wait_end(), Some(0));
}

/// What was tried when a restart was asked for isn't what is there when it can begin: it is refused,
/// and nothing is lost.
#[test]
fn what_changes_while_a_restart_waits_is_tried_too() {
    let provider = Provider::start();
    let config = provider.account("work");
    let mut daemon = Daemon::new(&config);
    daemon.start();
    daemon.sign_in("work");
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let token = daemon.token("work");
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    let asked = daemon.spawn(&["restart"]);
    daemon.log().wait_line("about to be restarted in place");
    daemon.write_config(&format!("https_listen = none;\n{config}"));
    daemon.run(&["reload"]).ok();
    assert_eq!(daemon.token("work"), token);
    gate.open();
    let refused = asked.finish();
    let why = "the server was not restarted and goes on: ";
    assert!(refused.failed(1).contains(why), "{refused:?}");
    assert!(
        refused.stderr.contains("needs a stop and a start"),
        "{refused:?}"
    );
    daemon.eventually(&["show", "work"], |shown| shown.stdout == "at-2\n");
    daemon.shutdown();
}

/// What the monitor has no room for costs what was to be done, and nothing else.
#[test]
fn a_monitor_without_descriptors_costs_nothing() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let pid = daemon.pid().expect("a pid");
    let limit = |soft: &str| limit_process(pid, &format!("--nofile={soft}:"));
    if !limit("6") {
        eprintln!("a_monitor_without_descriptors_costs_nothing: skipped: no prlimit");
        return;
    }
    for soft in ["6", "8", "10", "12"] {
        assert!(limit(soft));
        for verb in ["reload", "restart"] {
            let output = daemon.run(&[verb]);
            assert!(
                output.status == 0 || output.stderr.starts_with("ERROR - "),
                "{output:?}"
            );
            assert_eq!(daemon.token("work"), "at-1");
        }
    }
    assert!(limit("1024"));
    daemon.run(&["reload"]).ok();
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    daemon.shutdown();
}
