//! A token holder that is killed: another one goes on from what it has left in memory.

use nix::sys::signal::{Signal, kill};

use crate::restart::goes_on_after;
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, Scripted, TOKEN};

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
