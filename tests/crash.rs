//! A token holder that is killed: another one goes on from what it has left in memory.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::browser;
use crate::support::daemon::{Daemon, gone};
use crate::support::provider::{Provider, Scripted, TOKEN};
use crate::support::wait;

/// Kills the token holder, and waits for the next one.
fn kill_holder(daemon: &Daemon) -> Pid {
    let victim = daemon.holder();
    kill(victim, Signal::SIGKILL).unwrap();
    wait::until("another token holder", || {
        // It may be asked just as it ends.
        let info = daemon.run(&["info", "-j"]);
        let info: serde_json::Value = serde_json::from_str(&info.stdout).ok()?;
        let holder = info["server_info"]["token_holder"].as_i64()?;
        let holder = Pid::from_raw(i32::try_from(holder).unwrap());
        (holder != victim).then_some(holder)
    })
}

#[test]
fn everything_goes_on() {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("home");
    let door = "socket \"~/door\" { accounts = [\"work\"]; }\n";
    let mut daemon = Daemon::new(&(accounts + door));
    daemon.start();
    daemon.sign_in("work");
    let token = daemon.token("work");
    let url = daemon.authorization_url("home");
    let monitor = daemon.pid();
    let victim = daemon.holder();
    kill_holder(&daemon);
    assert_eq!(daemon.pid(), monitor);
    assert_eq!(daemon.token("work"), token);
    // The request that was pending is pending still, at the same port.
    assert_eq!(daemon.authorization_url("home"), url);
    assert_eq!(browser::visit(&url).status(), 200);
    let other = daemon.token("home");
    // What has changed since counts the next time.
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 3);
    let newer = wait::until("a new token", || {
        let newer = daemon.token("work");
        (newer != token).then_some(newer)
    });
    kill_holder(&daemon);
    assert_eq!(daemon.token("work"), newer);
    assert_eq!(daemon.token("home"), other);
    assert!(std::os::unix::net::UnixStream::connect(daemon.path("home/door")).is_ok());
    wait::until("the end of the first", || gone(victim));
    // It is still the one server, and ends as one does.
    daemon.run(&["server"]).failed(1);
    daemon.run(&["reload"]).ok();
    daemon.shutdown();
    assert!(!daemon.socket_path().exists());
    assert!(!daemon.path("home/door").exists());
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
    kill_holder(&daemon);
    assert_eq!(daemon.token("home"), token);
    daemon.run(&["show", "work"]).failed(77);
    daemon.write_config(&(provider.account("other") + &provider.account("home")));
    daemon.run(&["reload"]).ok();
    kill_holder(&daemon);
    daemon.run(&["show", "work"]).failed(67);
    assert_eq!(daemon.token("home"), token);
    daemon.shutdown();
    // From a restart on, too.
    daemon.start();
    daemon.sign_in("home");
    let token = daemon.token("home");
    daemon.run(&["restart"]).ok();
    kill_holder(&daemon);
    assert_eq!(daemon.token("home"), token);
    daemon.shutdown();
}

/// A request whose reply was lost with the process is sent again.
#[test]
fn a_refresh_under_way_is_sent_again() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    provider.script(TOKEN, Scripted::Hang);
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    kill_holder(&daemon);
    assert_eq!(daemon.token("work"), "at-1");
    provider.wait_for(TOKEN, 3);
    daemon.eventually(&["show", "work"], |output| !output.stdout.contains("at-1"));
    daemon.shutdown();
}

/// What kills every holder isn't waited for, and says so.
#[test]
fn the_third_death_within_a_minute_is_the_last() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    kill_holder(&daemon);
    kill_holder(&daemon);
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
