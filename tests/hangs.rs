//! What hangs, is killed or stands still beside the token holder: nobody else notices, and nothing
//! is left of it. (Builds for tests have helpers hang while a file lies in a directory.)

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use pizauth::wire::{Request, encode_request};

use crate::support::browser;
use crate::support::command::{Output, Running};
use crate::support::daemon::{Daemon, children, gone};
use crate::support::hooks::option;
use crate::support::provider::Provider;
use crate::support::{PATIENCE, wait};

/// When the last of many clients has given up a server that was stopped: they promise 15 seconds, and
/// the machine may be busy.
const GIVE_UP_SECS: u64 = 25;

const TOO_LONG: &str = "reading the configuration takes too long (more than 10s)";

/// A daemon with an account that is signed in, and one that isn't, whose helpers may hang.
fn world(options: &str) -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let drill = daemon.path("drill");
    fs::create_dir(&drill).unwrap();
    daemon.env("PIZAUTH_DRILL", drill.to_str().unwrap());
    daemon.write_config(&format!(
        "{options}{}{}",
        provider.account("work"),
        provider.account("play")
    ));
    daemon.start();
    daemon.sign_in("work");
    (provider, daemon)
}

/// From now on, helpers of a kind hang.
fn plant(daemon: &Daemon, drill: &str) {
    fs::write(daemon.path("drill").join(drill), "").unwrap();
}

/// From now on they don't, and those that hang go on.
fn take_away(daemon: &Daemon, drill: &str) {
    fs::remove_file(daemon.path("drill").join(drill)).unwrap();
}

/// The helpers that there are.
fn helpers(daemon: &Daemon) -> Vec<Pid> {
    let mut processes = children(daemon.pid().expect("a monitor"));
    let others = [daemon.holder(), daemon.hook_runner().expect("a runner")];
    processes.retain(|process| !others.contains(process));
    processes
}

/// Waits for a helper that hangs there.
fn hung(daemon: &Daemon, drill: &str) -> Pid {
    wait::until("a helper", || hanging(daemon, drill))
}

/// The same, if there is one.
fn hanging(daemon: &Daemon, drill: &str) -> Option<Pid> {
    let said = fs::read_to_string(daemon.path("drill").join(drill)).ok()?;
    let process = Pid::from_raw(said.lines().next()?.parse().ok()?);
    helpers(daemon).contains(&process).then_some(process)
}

/// Kills it, and every one that takes its place, until the command has ended.
fn kill_each(daemon: &Daemon, drill: &str, mut running: Running) -> Output {
    wait::until("the command's end", || {
        if let Some(process) = hanging(daemon, drill) {
            let _ = kill(process, Signal::SIGKILL);
        }
        (!running.is_running()).then_some(())
    });
    running.finish()
}

/// Waits until all of them are gone.
fn no_helpers(daemon: &Daemon) {
    wait::until("the helpers' end", || {
        helpers(daemon).is_empty().then_some(())
    });
}

/// How many descriptors the holder and the monitor have; none where only root may see that.
fn descriptors(daemon: &Daemon) -> [usize; 2] {
    [daemon.holder(), daemon.pid().unwrap()].map(|process| {
        let open = fs::read_dir(format!("/proc/{process}/fd"));
        open.map_or(0, Iterator::count)
    })
}

/// Waits until there are as many as `before`: connections take a moment to end.
fn no_more_descriptors_than(daemon: &Daemon, before: [usize; 2]) {
    wait::until("the descriptors' end", || {
        let now = descriptors(daemon);
        let settled = now.iter().zip(before).all(|(now, before)| *now <= before);
        settled.then_some(())
    });
}

/// Everything that a server is asked for, a sign-in aside.
fn serves(daemon: &Daemon) {
    daemon.token("work");
    daemon.run(&["status"]).ok();
    daemon.run(&["refresh", "work"]).ok();
    daemon.sign_in("play");
    daemon.run(&["revoke", "play"]).ok();
}

#[test]
fn a_configuration_that_is_a_fifo_is_refused_at_once() {
    let (_provider, daemon) = world("");
    let config = daemon.config_path();
    let text = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    mkfifo(&config, Mode::from_bits_truncate(0o600)).unwrap();
    let why = format!(
        "ERROR - the configuration {} is no regular file\n",
        config.display()
    );
    let reloads: Vec<Running> = (0..10).map(|_| daemon.spawn(&["reload"])).collect();
    serves(&daemon);
    for reload in reloads {
        assert_eq!(reload.finish().failed(1), why);
    }
    assert_eq!(daemon.run(&["restart"]).failed(1), why);
    fs::remove_file(&config).unwrap();
    daemon.write_config(&text);
    daemon.run(&["reload"]).ok();
    no_helpers(&daemon);
}

/// A file system that hangs: each reload fails at its deadline, and everything else goes on.
#[test]
fn a_reading_that_hangs_holds_up_nobody_and_ends_at_its_deadline() {
    let (_provider, daemon) = world("");
    let before = descriptors(&daemon);
    plant(&daemon, "hang-Config");
    wait::until("a round within one deadline", || {
        let mut reload = daemon.spawn(&["reload"]);
        let helper = hung(&daemon, "hang-Config");
        serves(&daemon);
        let meanwhile = reload.is_running();
        let failed = reload.finish();
        assert_eq!(failed.failed(1), format!("ERROR - {TOO_LONG}\n"));
        // Its own alarm ends it.
        wait::until("the helper's end", || gone(helper));
        meanwhile.then_some(())
    });
    no_helpers(&daemon);
    no_more_descriptors_than(&daemon, before);
    take_away(&daemon, "hang-Config");
    daemon.run(&["reload"]).ok();
    daemon.token("work");
}

/// The same by SIGHUP, with a helper that nothing but the monitor's SIGKILL ends.
#[test]
fn a_reading_that_hears_no_alarm_is_killed_by_the_monitor() {
    let (_provider, daemon) = world("");
    let before = descriptors(&daemon);
    plant(&daemon, "deaf-Config");
    kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    let helper = hung(&daemon, "deaf-Config");
    kill(helper, Signal::SIGALRM).unwrap();
    serves(&daemon);
    daemon.log().wait_line(&format!(
        "ERROR - the configuration was not reloaded: {TOO_LONG}"
    ));
    wait::until("the helper's end", || gone(helper));
    no_helpers(&daemon);
    no_more_descriptors_than(&daemon, before);
    take_away(&daemon, "deaf-Config");
    kill(daemon.pid().unwrap(), Signal::SIGHUP).unwrap();
    daemon.log().wait_line("the configuration was reloaded");
}

/// Those that come while one runs share the next one.
#[test]
fn a_hundred_reloads_are_two_readings_and_stop_no_refresh() {
    let (_provider, mut daemon) = world("");
    let before = descriptors(&daemon);
    plant(&daemon, "hang-Config");
    let request = encode_request(&Request::Reload);
    let ask = || {
        let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&request).unwrap();
        stream
    };
    let mut clients = vec![ask()];
    let first = hung(&daemon, "hang-Config");
    clients.extend(std::iter::repeat_with(ask).take(99));
    let heard = "a client asks for reload";
    wait::until("all hundred", || {
        (daemon.log().text().matches(heard).count() == 100).then_some(())
    });
    serves(&daemon);
    assert_eq!(helpers(&daemon), [first]);
    take_away(&daemon, "hang-Config");
    for mut client in clients {
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with("pizauth 1 0 "), "{reply}");
    }
    no_helpers(&daemon);
    no_more_descriptors_than(&daemon, before);
    let log = daemon.shutdown();
    assert_eq!(log.matches("the configuration was reloaded").count(), 2);
}

/// Helpers of any kind are killed in the middle until none takes their place: that one request has
/// failed, and the next works.
#[test]
fn a_helper_that_is_killed_costs_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (provider, daemon) = world("");
    let file = format!("token_file = \"{}\";", path("token"));
    let with_file = provider.account_with("work", &file) + &provider.account("play");
    let socket = format!(
        "socket \"{}\" {{ accounts = [\"work\"]; }}\n",
        path("socket")
    );
    let broken = |words: &str| format!("ERROR - {words} was broken off: ");
    let reading = broken("reading the configuration");
    for (drill, verb, words) in [
        ("hang-Config", "reload", reading.as_str()),
        ("hang-Config", "restart", &reading),
        ("hang-Trial", "restart", &broken("trying the new program")),
    ] {
        plant(&daemon, drill);
        let said = kill_each(&daemon, drill, daemon.spawn(&[verb]));
        assert!(said.failed(1).starts_with(words), "{said:?}");
        take_away(&daemon, drill);
        daemon.run(&[verb]).ok();
        daemon.token("work");
    }
    daemon.write_config(&(socket + &with_file));
    plant(&daemon, "hang-Sockets");
    let reload = daemon.spawn(&["reload"]);
    let said = kill_each(&daemon, "hang-Sockets", reload);
    let words = broken(&format!("making the socket {}", path("socket")));
    assert!(said.failed(1).starts_with(&words), "{said:?}");
    take_away(&daemon, "hang-Sockets");
    plant(&daemon, "hang-Files");
    daemon.run(&["reload"]).ok();
    kill(hung(&daemon, "hang-Files"), Signal::SIGKILL).unwrap();
    take_away(&daemon, "hang-Files");
    daemon.run(&["refresh", "work"]).ok();
    wait::until("the token file", || {
        let written = fs::read_to_string(path("token")).ok()?;
        (written.trim() == daemon.token("work")).then_some(())
    });
    no_helpers(&daemon);
}

/// Names that can't be looked up keep nobody from reading the configuration.
#[test]
fn names_that_hang_stop_no_reload() {
    let (provider, mut daemon) = world("");
    let token_uri = "https://names.invalid/token";
    let named = provider
        .account("named")
        .replace(&provider.token_uri(), token_uri);
    daemon.write_config(&(provider.account("work") + &provider.account("play") + &named));
    daemon.run(&["reload"]).ok();
    plant(&daemon, "hang-Names");
    let url = daemon.authorization_url("named");
    std::thread::spawn(move || browser::visit(&url));
    let helper = hung(&daemon, "hang-Names");
    daemon.run(&["reload"]).ok();
    serves(&daemon);
    assert!(gone(helper).is_none());
    // Nor does it keep the server from ending, or stay behind.
    daemon.shutdown();
    wait::until("the helper's end", || gone(helper));
}

/// Nor does a hook runner that stands still: hooks wait, and run when it goes on.
#[test]
fn a_runner_that_is_stopped_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let command = format!("echo $PIZAUTH_EVENT >>'{}'", seen.display());
    let (_provider, mut daemon) = world(&option("token_event_cmd", &command));
    let count = || fs::read_to_string(&seen).map_or(0, |text| text.lines().count());
    wait::until("the first hook", || (count() == 1).then_some(()));
    let runner = daemon.hook_runner().unwrap();
    kill(runner, Signal::SIGSTOP).unwrap();
    serves(&daemon);
    daemon.run(&["reload"]).ok();
    assert_eq!(count(), 1);
    kill(runner, Signal::SIGCONT).unwrap();
    wait::until("the hooks that waited", || (count() >= 4).then_some(()));
    // It keeps no server from ending, and isn't left behind.
    kill(runner, Signal::SIGSTOP).unwrap();
    daemon.shutdown();
    let left = wait::try_until(|| gone(runner));
    let _ = kill(runner, Signal::SIGKILL);
    assert!(left.is_some(), "the stopped runner stays behind");
}

/// What has been stopped answers nobody. Whatever is asked of it, however long that may take, and
/// however many have come already, a client gives up.
#[test]
fn a_server_that_was_stopped_is_given_up_by_every_command() {
    let (_provider, mut daemon) = world("");
    let dump = daemon.dump();
    let holder = daemon.holder();
    let waiting = daemon.spawn(&["show", "-w", "1h", "play"]);
    let sign_in = daemon.spawn(&["auth", "play"]);
    sign_in.stderr.wait_line("waiting for the sign-in");
    daemon.log().wait_line("play: a client waits for a token");
    kill(holder, Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    let commands: [&[&str]; 14] = [
        &["auth", "play"],
        &["dump"],
        &["redirect", "http://localhost/?code=c&state=s"],
        &["refresh", "work"],
        &["reload"],
        &["restart"],
        &["revoke", "work"],
        &["show", "work"],
        &["show", "-w", "1h", "play"],
        &["show", "-m", "10m", "work"],
        &["shutdown"],
        &["status"],
        &["watch"],
        &["git-credential", "work", "get"],
    ];
    let mut running: Vec<(String, Running)> = commands
        .map(|args| {
            let mut command = daemon.spawn(args);
            // git's input has to end before it is answered.
            command.hush();
            (args.join(" "), command)
        })
        .into();
    let mut restore = daemon.spawn(&["restore"]);
    restore.feed(&[&dump[..], &[0; 4 << 20]].concat());
    restore.hush();
    running.push(("restore".into(), restore));
    running.push(("show that waited".into(), waiting));
    running.push(("auth that waited".into(), sign_in));
    for (words, command) in running {
        let output = command.finish();
        assert!(!matches!(output.status, 0), "{words}: {output:?}");
        let silent = "the server doesn't answer";
        let is_told = output.stderr.contains(silent) || words.starts_with("git-credential");
        assert!(is_told, "{words}: {output:?}");
        let took = began.elapsed();
        assert!(took.as_secs() < GIVE_UP_SECS, "{words} took {took:?}");
    }
    let log = daemon.log();
    log.wait_line("the token holder doesn't answer");
    kill(holder, Signal::SIGCONT).unwrap();
    log.wait_line("the token holder answers again");
    let log = daemon.shutdown();
    assert_eq!(log.matches("the token holder doesn't").count(), 1, "{log}");
}
