//! A restart by the service manager, which keeps state and sockets meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::{fs::PermissionsExt, net::UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::proxy::free_port;
use crate::support::browser;
use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::hooks::option;
use crate::support::mail::{MailServer, Manners, Protocol, Tls};
use crate::support::provider::{Gate, Provider, Scripted, TOKEN};
use crate::support::wait;

/// What the sockets of a server with one restricted socket and the two pieces of its state are called.
const STORED: [&str; 5] = [
    "pizauth-port",
    "pizauth-socket",
    "pizauth-socket",
    "pizauth-state",
    "pizauth-state",
];

/// The same without that.
const WITHOUT_RESTRICTED: [&str; 4] = [
    "pizauth-port",
    "pizauth-socket",
    "pizauth-state",
    "pizauth-state",
];

/// A service manager with a server.
pub struct Manager<'a> {
    daemon: &'a Daemon,
    pub running: Running,
    /// How much of what it has said was read.
    read: usize,
}

impl<'a> Manager<'a> {
    /// `None` where there is none to be had.
    pub fn start(daemon: &'a Daemon) -> Option<Self> {
        if Command::new("python3").arg("-V").output().is_err() || !cfg!(target_os = "linux") {
            eprintln!("python3 is missing, of which the service manager is made");
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/manager.py");
        let inner = daemon.command(&["server", "-d", "-vv"]);
        let mut command = Command::new("python3");
        command.arg(script).arg(daemon.path("notify"));
        command.arg(inner.get_program()).args(inner.get_args());
        let env = inner.get_envs();
        command
            .env_clear()
            .envs(env.filter_map(|(name, value)| Some((name, value?))))
            .current_dir(daemon.path(""));
        let running = Running::start(&mut command);
        let mut manager = Manager {
            daemon,
            running,
            read: 0,
        };
        manager.expect("heard READY=1");
        Some(manager)
    }

    /// The next line that it says.
    fn next(&mut self) -> String {
        let line = wait::until("the service manager's word", || {
            let text = self.running.stdout.text();
            let whole = text.get(..text.rfind('\n')?)?;
            whole.lines().nth(self.read).map(str::to_owned)
        });
        self.read += 1;
        line
    }

    #[track_caller]
    fn expect(&mut self, line: &str) {
        assert_eq!(self.next(), line, "{}", self.log());
    }

    pub fn order(&mut self, order: &str) {
        self.running.say(order);
    }

    fn log(&self) -> String {
        self.running.stderr.text()
    }

    /// The server stops well and leaves this.
    #[track_caller]
    fn expect_left(&mut self, stored: &[&str]) {
        self.expect("heard STOPPING=1");
        let ended = [&["ended 0"], stored].concat();
        self.expect(&ended.join(" "));
    }

    /// Kills the unit's processes that this names; all that was stored stays.
    #[track_caller]
    fn kill(&mut self, which: &str) {
        self.order(&format!("kill {which}"));
        self.expect(&[&["ended -9"], &WITHOUT_RESTRICTED[..]].concat().join(" "));
    }

    /// Another one starts: its state takes the place of the one before, and the sockets stay.
    #[track_caller]
    fn expect_taken(&mut self) {
        self.expect("heard READY=1");
        self.expect_removed("pizauth-state", 2);
    }

    #[track_caller]
    fn expect_removed(&mut self, what: &str, count: usize) {
        for _ in 0..count {
            self.expect(&format!("removed 1 {what}"));
        }
    }

    /// So many states have been stored, and so many are still there to be read.
    #[track_caller]
    fn expect_secrets(&mut self, states: usize, secrets: usize) {
        self.order("look");
        self.expect(&format!("states {states} secrets {secrets} 0o600"));
    }

    fn show(&self, account: &str) -> Output {
        self.daemon.run(&["show", account])
    }
}

impl Drop for Manager<'_> {
    /// It takes the server along.
    fn drop(&mut self) {
        self.running.hush();
        self.running.wait();
    }
}

#[test]
fn a_restart_by_the_manager_loses_nothing() {
    let provider = Provider::start();
    let daemon = Daemon::new("");
    let door = "socket \"~/door\" { accounts = [\"work\"]; }\n";
    let saved = option("state_save_cmd", "cat >tokens.new && mv tokens.new tokens")
        + &option(
            "state_load_cmd",
            "echo load >>loads; [ ! -e tokens ] || cat tokens",
        );
    let file = provider.account_with("work", "token_file = \"~/token\";");
    let config = saved + door + &file + &provider.account("home");
    daemon.write_config(&config);
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    let url = daemon.authorization_url("home");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let shows: Vec<_> = [&[][..], &["-w", "30s"], &["-m", "10s"]]
            .into_iter()
            .map(|options| {
                let (daemon, done) = (&daemon, &done);
                scope.spawn(move || {
                    let mut shown = 0;
                    while !done.load(Ordering::Relaxed) {
                        let args = [&["show"], options, &["work"]].concat();
                        assert_eq!(daemon.run(&args).ok(), "at-1\n");
                        shown += 1;
                    }
                    shown
                })
            })
            .collect();
        let mut waiting = daemon.spawn(&["show", "-w", "1h", "home"]);
        for _ in 0..5 {
            manager.order("restart");
            manager.expect_left(&STORED);
            manager.expect_taken();
        }
        assert!(waiting.is_running());
        // The request that was pending is pending still, at the same port.
        assert_eq!(daemon.authorization_url("home"), url);
        assert_eq!(browser::visit(&url).status(), 200);
        assert_eq!(waiting.finish().ok(), "at-2\n");
        done.store(true, Ordering::Relaxed);
        for show in shows {
            assert!(show.join().unwrap() > 0);
        }
    });
    manager.expect_secrets(12, 1);
    assert_eq!(provider.requests(TOKEN).len(), 2);
    let loads = fs::read_to_string(daemon.path("loads")).unwrap();
    assert_eq!(loads, "load\n", "what is there needn't be loaded");
    wait::until("the token file", || {
        fs::read_to_string(daemon.path("home/token")).ok()
    });
    assert!(std::os::unix::net::UnixStream::connect(daemon.path("home/door")).is_ok());
    // One by itself goes on as well, and the manager's next, too.
    daemon.run(&["restart"]).ok();
    manager.expect_taken();
    manager.order("restart");
    manager.expect_left(&STORED);
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-1");
    // Another configuration is in force then: as by a reload.
    daemon.write_config(&provider.account("home"));
    manager.order("restart");
    manager.expect_left(&STORED);
    manager.expect("heard READY=1");
    manager.expect_removed("pizauth-socket", 1);
    manager.expect_removed("pizauth-state", 2);
    assert_eq!(daemon.token("home"), "at-2");
    manager.show("work").failed(67);
    assert!(!daemon.path("home/door").exists());
}

#[test]
fn a_token_file_that_the_next_configuration_lacks_goes_without_a_word() {
    let provider = Provider::start();
    let file = "token_file = \"~/token\";";
    let daemon = Daemon::new(&provider.account_with("work", file));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    let written = || fs::read_to_string(daemon.path("home/token")).ok();
    wait::until("the token file", written);
    daemon.write_config(&provider.account("work"));
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
    assert_eq!(written(), None);
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-1");
    // At its end the server has tried all that it wanted to do to files.
    manager.order("stop");
    manager.expect_left(&WITHOUT_RESTRICTED);
    manager.expect("stopped");
    let log = manager.log();
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn a_stop_for_good_leaves_nothing() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    manager.order("stop");
    manager.expect_left(&WITHOUT_RESTRICTED);
    manager.expect("stopped");
    let told = "ERROR - pizauth is not running\nhint: start it with `pizauth server`; it isn't at ";
    let said = manager.show("work");
    assert!(said.failed(69).starts_with(told), "{said:?}");
    manager.order("start");
    manager.expect("heard READY=1");
    manager.show("work").failed(77);
    // A shutdown is for good in any case.
    daemon.sign_in("work");
    daemon.run(&["shutdown"]).ok();
    manager.order("wait");
    manager.expect("heard STOPPING=1");
    manager.expect_removed("pizauth-state", 2);
    manager.expect_removed("pizauth-socket", 1);
    manager.expect("ended 0");
    assert!(!daemon.socket_path().exists());
    manager.order("start");
    manager.expect("heard READY=1");
}

/// As the kernel does it that runs out of memory: one process, or all of the unit.
#[test]
fn a_unit_that_is_killed_comes_back_whole() {
    let provider = Provider::start();
    let daemon = Daemon::new(&(provider.account("work") + &provider.account("home")));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    let url = daemon.authorization_url("home");
    for which in ["all", "monitor"] {
        manager.kill(which);
        manager.order("start");
        manager.expect_taken();
        assert_eq!(daemon.token("work"), "at-1");
        assert_eq!(daemon.authorization_url("home"), url);
    }
    // A browser that returns while no process is there waits for the next one.
    let callback = browser::callback_of(&url);
    manager.kill("all");
    thread::scope(|scope| {
        let browser = scope.spawn(|| browser::visit(&callback));
        manager.order("start");
        manager.expect_taken();
        assert_eq!(browser.join().unwrap().status(), 200);
    });
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

/// A process that is just dying has the lock still, and the socket that the manager keeps answers
/// nobody meanwhile: that is no other server.
#[test]
fn a_server_waits_for_the_end_of_one_that_was_killed() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    manager.kill("all");
    let file = fs::File::open(daemon.path("run/pizauth/pizauth.lock")).unwrap();
    let dying = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    manager.order("start");
    // why: a server that says nothing for a second counts as one that runs.
    thread::sleep(Duration::from_millis(1_500));
    drop(dying);
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-1");
}

/// The manager may take its time for the next start.
#[test]
fn a_client_waits_for_the_server_that_comes_to_a_kept_socket() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    manager.kill("all");
    let client = daemon.spawn(&["show", "work"]);
    // why: a client that has waited for a second and a half asks itself who is there.
    thread::sleep(Duration::from_millis(2_000));
    manager.order("start");
    manager.expect_taken();
    assert_eq!(client.finish().ok(), "at-1\n");
}

/// Mail programs know no pizauth: they find nobody refusing them, and wait.
#[test]
fn programs_at_a_proxy_wait_for_the_next_server() {
    let provider = Provider::start();
    let manners = Manners::of(Protocol::Imap, Tls::Never).with_mechanisms(&["OAUTHBEARER"]);
    let server = MailServer::start(manners.admit("me@example.com", "at-1"));
    let port = free_port();
    let block = |address: &str| {
        format!(
            "proxy \"{address}\" {{ account = \"work\"; user = \"me@example.com\";
                 password_cmd = \"echo right\"; server = \"imap://127.0.0.1:{}\"; }}\n",
            server.port
        )
    };
    let blocks = block("~/mail") + &block(&format!("127.0.0.1:{port}"));
    let daemon = Daemon::new(&(provider.account("work") + &blocks));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    let path = daemon.path("home/mail");
    let begin = || {
        let connections: [OwnedFd; 2] = [
            UnixStream::connect(&path).unwrap().into(),
            TcpStream::connect(("127.0.0.1", port)).unwrap().into(),
        ];
        connections.map(File::from)
    };
    let end = |connections: [File; 2]| {
        for mut program in connections {
            program.write_all(b"a LOGIN me right\r\n").unwrap();
            let lines = BufReader::new(program).lines();
            let mut told = lines.map_while(Result::ok);
            assert!(told.any(|line| line.starts_with("a OK ")));
        }
    };
    end(begin());
    let mut stored = WITHOUT_RESTRICTED.to_vec();
    stored.insert(1, "pizauth-proxy");
    for which in ["all", "monitor"] {
        manager.order(&format!("kill {which}"));
        manager.expect(&[&["ended -9"], &stored[..]].concat().join(" "));
        let programs = begin();
        manager.order("start");
        manager.expect_taken();
        end(programs);
    }
    manager.order("pause");
    manager.expect_left(&stored);
    let programs = begin();
    manager.order("start");
    manager.expect_taken();
    end(programs);
    // A configuration without some of them.
    daemon.write_config(&(provider.account("work") + &block("~/mail")));
    daemon.run(&["reload"]).ok();
    manager.expect("heard RELOADING=1");
    manager.expect("heard READY=1");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    manager.order("pause");
    manager.expect_left(&stored);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    daemon.write_config(&provider.account("work"));
    manager.order("start");
    manager.expect_taken();
    assert!(!path.exists());
    manager.order("pause");
    manager.expect_left(&WITHOUT_RESTRICTED);
}

#[test]
fn a_state_that_makes_no_sense_is_not_used() {
    let provider = Provider::start();
    let saved = option("state_save_cmd", "cat >tokens.new && mv tokens.new tokens")
        + &option("state_load_cmd", "[ ! -e tokens ] || cat tokens");
    let daemon = Daemon::new(&(saved + &provider.account("work")));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    let told = "the state that the service manager has kept is not used: ";
    for (how, why) in [
        ("file", "it is no sealed memory"),
        ("memory", "it is no sealed memory"),
        (
            "version",
            "it is of version 999, and this program knows version 15",
        ),
    ] {
        manager.order("pause");
        manager.expect_left(&WITHOUT_RESTRICTED);
        manager.order(&format!("spoil {how}"));
        manager.expect("spoilt");
        manager.order("start");
        manager.expect("heard READY=1");
        manager.expect_removed("pizauth-state", 1);
        assert!(manager.log().contains(&format!("{told}{why}\n")));
        // What was saved is loaded instead.
        assert_eq!(daemon.token("work"), "at-1");
    }
}

/// Here others could listen in the manager's place, so it isn't given the state.
#[test]
fn what_a_manager_has_stays_where_it_takes_nothing_else() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    for mode in [0o777, 0o700] {
        manager.kill("all");
        fs::set_permissions(daemon.path(""), PermissionsExt::from_mode(mode)).unwrap();
        manager.order("start");
        if mode == 0o777 {
            manager.expect("heard READY=1");
            let told = "the service manager can't keep the state: others could";
            manager.running.stderr.wait_line(told);
        } else {
            manager.expect_taken();
        }
        assert_eq!(daemon.token("work"), "at-1");
    }
    // What it didn't take before, it takes at the end.
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-1");
}

/// What stays isn't touched: a unit may be killed at any moment.
#[test]
fn a_reload_takes_nothing_away() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    for _ in 0..2 {
        daemon.run(&["reload"]).ok();
        manager.expect("heard RELOADING=1");
        manager.expect("heard READY=1");
    }
    manager.expect_secrets(2, 1);
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
}

#[test]
fn a_start_that_fails_leaves_the_state_for_the_next() {
    let provider = Provider::start();
    let good = provider.account("work");
    let daemon = Daemon::new(&good);
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    daemon.write_config("frob = 1;");
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
    // Nobody shall wait for a server that doesn't come.
    manager.expect("removed 1 pizauth-socket");
    manager.order("wait");
    manager.expect("ended 1 pizauth-state pizauth-state");
    manager.show("work").failed(69);
    manager.expect_secrets(2, 1);
    daemon.write_config(&good);
    manager.order("start");
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-1");
    manager.expect_secrets(4, 1);
}

#[test]
fn a_reply_on_its_way_is_waited_for() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    daemon.sign_in("work");
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
    manager.expect_taken();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    manager.order("restart");
    manager.expect("heard STOPPING=1");
    assert_eq!(daemon.token("work"), "at-1");
    gate.open();
    manager.expect("ended 0 pizauth-port pizauth-socket pizauth-state pizauth-state");
    manager.expect_taken();
    assert_eq!(daemon.token("work"), "at-2");
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

#[test]
fn who_is_to_sign_in_is_asked_again_by_the_next_server() {
    let provider = Provider::start();
    let daemon = Daemon::new("");
    let notified = daemon.record("notified");
    let hook = notified.option("auth_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_URL"]);
    daemon.write_config(&(hook + &provider.account("work")));
    let Some(mut manager) = Manager::start(&daemon) else {
        return;
    };
    let url = daemon.authorization_url("work");
    // A hook that runs ends with the server, and may not have written anything until then.
    notified.wait_lines(1);
    manager.order("restart");
    manager.expect_left(&WITHOUT_RESTRICTED);
    manager.expect_taken();
    let told = format!("work\t{url}");
    assert_eq!(notified.wait_lines(2), [told.clone(), told]);
    assert_eq!(browser::visit(&url).status(), 200);
    daemon.token("work");
}
