//! A token holder that is killed: another one goes on from what it has left in memory.

use std::os::unix::net::UnixListener;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::restart::goes_on_after;
use crate::support::browser;
use crate::support::daemon::{Daemon, children, gone};
use crate::support::hooks::option;
use crate::support::provider::{Gate, Provider, Scripted, TOKEN};
use crate::support::wait;

#[test]
fn everything_goes_on() {
    goes_on_after(1, |daemon| daemon.kill_holder(Signal::SIGKILL));
}

/// What was revoked is gone, and what a reload or a restart has brought is there.
#[test]
fn what_has_changed_before_counts() {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("home");
    let mut daemon = Daemon::new(&accounts);
    daemon.start();
    daemon.sign_in("work");
    daemon.sign_in("home");
    let token = daemon.token("home");
    daemon.run(&["revoke", "--local", "work"]).ok();
    daemon.kill_holder(Signal::SIGKILL);
    assert_eq!(daemon.token("home"), token);
    daemon.run(&["show", "work"]).failed(77);
    daemon.write_config(&(provider.account("other") + &provider.account("home")));
    daemon.run(&["reload"]).ok();
    daemon.kill_holder(Signal::SIGKILL);
    daemon.run(&["show", "work"]).failed(67);
    assert_eq!(daemon.token("home"), token);
    daemon.shutdown();
    // From a restart on, too.
    daemon.start();
    daemon.sign_in("home");
    let token = daemon.token("home");
    daemon.run(&["restart"]).ok();
    daemon.kill_holder(Signal::SIGKILL);
    assert_eq!(daemon.token("home"), token);
    daemon.shutdown();
}

/// A daemon whose refresh is under way: the provider doesn't answer.
fn refreshing() -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    provider.script(TOKEN, Scripted::Hang);
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    (provider, daemon)
}

/// A request whose reply was lost with the process is sent again.
#[test]
fn a_refresh_under_way_is_sent_again() {
    let (provider, mut daemon) = refreshing();
    daemon.kill_holder(Signal::SIGKILL);
    assert_eq!(daemon.token("work"), "at-1");
    provider.wait_for(TOKEN, 3);
    daemon.eventually(&["show", "work"], |output| !output.stdout.contains("at-1"));
    daemon.shutdown();
}

/// What goes on after a death is the program that is there now: a `restart` need not be waited for.
#[test]
fn a_death_ends_a_restart() {
    let (_provider, mut daemon) = refreshing();
    let restart = daemon.spawn(&["restart"]);
    daemon.log().wait_line("about to be restarted in place");
    daemon.kill_holder(Signal::SIGKILL);
    restart.finish().ok();
    daemon.shutdown();
}

/// What kills every holder isn't waited for, and says so.
#[test]
fn the_third_death_within_a_minute_is_the_last() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    daemon.kill_holder(Signal::SIGKILL);
    daemon.kill_holder(Signal::SIGKILL);
    let holder = daemon.holder();
    kill(holder, Signal::SIGKILL).unwrap();
    daemon
        .log()
        .wait_line("was killed by SIGKILL and is not replaced");
    let ended = daemon.wait_end();
    assert!(ended.is_none_or(|it| it == 128 + 9), "{ended:?}");
    // Nothing keeps the next one from starting.
    daemon.start();
    daemon.authorization_url("work");
    daemon.shutdown();
}

/// The processes that are left hear of it, and needn't be killed: only after them a service manager starts
/// the next server, for which clients wait.
#[test]
fn after_the_last_death_the_proxies_end_by_themselves() {
    let provider = Provider::start();
    let proxy = "proxy \"~/mail\" { account = \"work\"; server = \"imap://127.0.0.1:1\"; }\n";
    let mut daemon = Daemon::new(&(provider.account("work") + proxy));
    daemon.start();
    daemon.kill_holder(Signal::SIGKILL);
    daemon.kill_holder(Signal::SIGKILL);
    let monitor = daemon.pid().unwrap();
    let left = children(monitor);
    kill(daemon.holder(), Signal::SIGKILL).unwrap();
    daemon
        .log()
        .wait_line("was killed by SIGKILL and is not replaced");
    // From now on it kills none.
    kill(monitor, Signal::SIGSTOP).unwrap();
    for process in left {
        wait::until("the end of all its processes", || gone(process));
    }
    kill(monitor, Signal::SIGCONT).unwrap();
    let ended = daemon.wait_end();
    assert!(ended.is_none_or(|it| it == 128 + 9), "{ended:?}");
}

/// Something that never answers is at the control socket, which a helper waits for.
#[test]
fn a_start_goes_on_without_the_helpers_that_were_killed() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let path = daemon.socket_path();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let silent = UnixListener::bind(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let (asked, _) = silent.accept().unwrap();
                let helper = getsockopt(&asked, PeerCredentials).unwrap().pid();
                kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
            }
            drop(silent);
        });
        daemon.start_forked();
    });
    daemon.sign_in("work");
    daemon.shutdown();
}

/// What a browser brings is in the state before anything follows from it. Whose request died with the
/// process goes to the same address again.
#[test]
fn a_browser_that_was_hung_up_on_may_come_again() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    for (script, status) in [
        (Scripted::Hang, 200),
        // The provider has taken the code.
        (
            Scripted::Drip {
                bytes: 0,
                gate: Gate::new(),
            },
            403,
        ),
    ] {
        let callback = browser::callback_of(&daemon.authorization_url("work"));
        provider.script(TOKEN, script);
        let sent = provider.requests(TOKEN).len() + 1;
        thread::scope(|scope| {
            // On a slow machine it is sent to a page that waits, and finds that gone.
            scope.spawn(|| browser::try_visit(&callback));
            provider.wait_for(TOKEN, sent);
            daemon.kill_holder(Signal::SIGKILL);
        });
        let page = browser::visit(&callback);
        assert_eq!(page.status(), status, "{page:?}");
        if status == 200 {
            daemon.token("work");
            daemon.run(&["revoke", "--local", "work"]).ok();
        } else {
            let why = "the server ended before an earlier reply came, so sign in again";
            assert!(page.text().contains(why), "{page:?}");
            daemon.sign_in("work");
        }
    }
    daemon.shutdown();
}

/// The provider takes what it sees twice for theft.
#[test]
fn a_login_that_was_lost_in_flight_is_told_of_as_that() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::Drip { bytes: 0, gate });
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    daemon.kill_holder(Signal::SIGKILL);
    provider.wait_for(TOKEN, 3);
    daemon
        .log()
        .wait_line("an earlier reply was lost on the way, and a new refresh token");
    daemon.shutdown();
}

/// Who has been notified isn't notified once more by a death, unless a command waited for a click: it has
/// died, too.
#[test]
fn a_notification_is_repeated_only_if_its_command_has_died() {
    for (rest, times) in [("", 1), ("; exec sleep 600", 2)] {
        let provider = Provider::start();
        let mut daemon = Daemon::new("");
        let record = daemon.record("told");
        let command = record.command(&["PIZAUTH_URL"]) + rest;
        let notify = option("auth_notify_cmd", &command);
        daemon.write_config(&(notify + &provider.account("work")));
        daemon.start();
        let first = daemon.authorization_url("work");
        record.wait_lines(1);
        if times == 1 {
            daemon
                .log()
                .wait_line("work: the notification has been shown");
        }
        daemon.kill_holder(Signal::SIGKILL);
        assert_eq!(daemon.authorization_url("work"), first);
        record.wait_lines(times);
        // Another sign-in has its own.
        daemon.run(&["revoke", "work"]).ok();
        let second = daemon.authorization_url("work");
        let lines = record.wait_lines(times + 1);
        assert_eq!(lines, [vec![first; times], vec![second]].concat());
        daemon.shutdown();
    }
}
