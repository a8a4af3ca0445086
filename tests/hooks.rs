//! The hooks: what they are given, where they run, how long they live, and what becomes of those
//! that fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::browser;
use crate::support::command::Running;
use crate::support::daemon::{Daemon, gone};
use crate::support::hooks::{Record, UNSET, option};
use crate::support::provider::{AUTHORIZE, Provider, Scripted, TOKEN};
use crate::support::wait;

/// Every variable that a hook may be given.
const ALL: [&str; 4] = [
    "PIZAUTH_ACCOUNT",
    "PIZAUTH_URL",
    "PIZAUTH_MSG",
    "PIZAUTH_EVENT",
];

/// A world whose configuration can name its own paths.
fn world(config: impl FnOnce(&Daemon) -> String) -> Daemon {
    let daemon = Daemon::new("");
    daemon.write_config(&config(&daemon));
    daemon
}

/// The tokens of an account that has just signed in, as a dump. A daemon that restores them may
/// refresh at once; the one that signed in first waits out the gap between two requests.
fn signed_in(provider: &Provider, account: &str) -> Vec<u8> {
    let mut daemon = Daemon::new(&provider.account(account));
    daemon.start();
    daemon.sign_in(account);
    daemon.dump()
}

#[test]
fn auth_notify_cmd_gets_the_account_and_the_url() {
    let provider = Provider::start();
    // A name that a shell would trip over reaches the hook as it is.
    let name = "wörk; touch pwned $(touch pwned) 'x'";
    let mut daemon = world(|daemon| {
        let record = daemon.record("notified");
        record.option("auth_notify_cmd", &ALL) + &provider.account(name)
    });
    daemon.start();
    let url = daemon.authorization_url(name);
    let lines = daemon.record("notified").wait_lines(1);
    assert_eq!(lines, [format!("{name}\t{url}\t{UNSET}\t{UNSET}")]);
    assert!(!daemon.path("pwned").exists());
    // Asking again is no new attempt, and no new notification before the interval is over.
    assert_eq!(daemon.authorization_url(name), url);
    browser::visit(&url);
    assert_eq!(daemon.record("notified").lines().len(), 1);
}

/// A program has asked, whatever is between it and us; it is named where the user is told of it.
#[cfg(target_os = "linux")]
#[test]
fn a_sign_in_is_said_to_be_for_the_program_that_asks() {
    // How it is started, and how it starts us; whether our own process is still the one that has
    // started it.
    let cases = [
        ("exec \"$0\" work", "'{pizauth}' show work; exit 1", true),
        (
            "\"$0\" work; exit 1",
            "sh -c '\"{pizauth}\" show work; exit 1'; exit 1",
            true,
        ),
        (
            "(\"$0\" work >out 2>&1 &)",
            "'{pizauth}' show -w 5s work; exit 1",
            false,
        ),
    ];
    let ours = fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    for (start, asks, is_ours) in cases {
        let provider = Provider::start();
        let mut daemon = world(|daemon| {
            let record = daemon.record("notified");
            let variables = ["PIZAUTH_ACCOUNT", "PIZAUTH_REQUESTER"];
            record.option("auth_notify_cmd", &variables) + &provider.account("work")
        });
        // With a name that is hard to read, for a program and for a terminal.
        let program = daemon.path("x) R 1\u{1b}[2J");
        let script = asks.replace("{pizauth}", env!("CARGO_BIN_EXE_pizauth"));
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        daemon.start();
        let watcher = daemon.spawn(&["watch", "-j"]);
        watcher.stdout.wait_line("\"watching\"");
        let mut command = daemon.neighbour("sh");
        for (name, value) in daemon.command(&[]).get_envs() {
            value.map(|value| command.env(name, value));
        }
        Running::start(command.args(["-c", start]).arg(&program)).finish();
        let lines = daemon.record("notified").wait_lines(1);
        let (account, named) = lines[0].split_once('\t').unwrap();
        let expected = match is_ours {
            true => format!("x) R 1 [2J (started by {})", ours.trim_end()),
            false => named.to_owned(),
        };
        assert_eq!((account, named), ("work", &*expected));
        assert!(named.starts_with("x) R 1 [2J"), "{named}");
        daemon
            .log()
            .wait_line(&format!("INFO - work: asked for by {named}"));
        let event = watcher.stdout.wait_line("authorisation_pending");
        assert!(
            event.contains(&format!("\"requester\":\"{named}\"")),
            "{event}"
        );
        let status = daemon.run(&["status", "-j"]);
        assert!(
            status
                .ok()
                .contains(&format!("\"sign_in_requester\":\"{named}\""))
        );
        let status = daemon.run(&["status"]);
        assert!(
            status.ok().contains(&format!(", asked for by {named}\n")),
            "{status:?}"
        );
        // It isn't for a program that this sign-in begins.
        daemon.run(&["revoke", "work"]).ok();
        daemon.run(&["auth", "--no-wait", "work"]);
        assert_eq!(
            daemon.record("notified").wait_lines(2)[1],
            format!("work\t{UNSET}")
        );
    }
}

/// No sign-in depends on the process that looks up for which program it is.
#[test]
fn a_sign_in_begins_without_a_look_at_who_asks() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let record = daemon.record("notified");
        let variables = ["PIZAUTH_ACCOUNT", "PIZAUTH_REQUESTER"];
        record.option("auth_notify_cmd", &variables) + &provider.account("work")
    });
    daemon.start();
    let runner = wait::until("the hook runner", || daemon.hook_runner());
    kill(runner, Signal::SIGSTOP).unwrap();
    daemon.authorization_url("work");
    kill(runner, Signal::SIGCONT).unwrap();
    let lines = daemon.record("notified").wait_lines(1);
    assert_eq!(lines, [format!("work\t{UNSET}")]);
}

#[test]
fn reminders_come_every_interval_until_the_attempt_ends() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let record = daemon
            .record("notified")
            .option("auth_notify_cmd", &ALL[..2]);
        let accounts = provider.account("here") + &provider.account("there");
        format!("auth_notify_interval = 1s;\n{record}{accounts}")
    });
    daemon.start();
    let here = daemon.authorization_url("here");
    let there = daemon.authorization_url("there");
    let of = |account: &str, url: &str| {
        let line = format!("{account}\t{url}");
        let lines = daemon.record("notified").lines();
        lines.iter().filter(|found| **found == line).count()
    };
    let reminded = |account: &str, url: &str, times: usize| {
        wait::until(&format!("reminder {times} of {account}"), || {
            (of(account, url) >= times).then_some(())
        });
    };
    reminded("here", &here, 3);
    reminded("there", &there, 3);
    browser::visit(&here);
    let before = of("here", &here);
    reminded("there", &there, of("there", &there) + 4);
    // One may have been on its way when the sign-in came.
    assert!(of("here", &here) <= before + 1);
}

/// A reminder that goes into a file with its shell's process and that of what it has started, which
/// stays for long and writes to stderr whenever it is told to.
fn reminder(daemon: &Daemon, interval: &str, rest: &str) -> String {
    let file = daemon.path("pids");
    let browser = "(trap 'echo here >&2; echo here >>answers' USR1; while :; do sleep 0.05; done)";
    let command = format!(
        "{browser} & printf '%s %s\\n' $! $$ >>'{}'; wait",
        file.display()
    );
    let hook = option("auth_notify_cmd", &command);
    format!("auth_notify_interval = {interval};\n{hook}{rest}")
}

/// What the reminder of this number has started, and its shell.
fn reminded(daemon: &Daemon, number: usize) -> [Pid; 2] {
    let lines = daemon.record("pids").wait_lines(number);
    let mut pids = lines[number - 1]
        .split(' ')
        .map(|pid| Pid::from_raw(pid.parse().unwrap()));
    [pids.next().unwrap(), pids.next().unwrap()]
}

/// The shell ends, and what it has started doesn't, even when it writes something.
fn leaves(daemon: &Daemon, pids: [Pid; 2], why: &str) {
    let [browser, shell] = pids;
    wait::until(why, || gone(shell));
    for _ in 0..2 {
        let answers = daemon.record("answers").lines().len();
        kill(browser, Signal::SIGUSR1).expect(why);
        daemon.record("answers").wait_lines(answers + 1);
    }
    kill(browser, Signal::SIGKILL).expect(why);
}

// Covers: hooks-leave, H20
#[test]
fn what_a_reminder_has_started_outlives_it() {
    let provider = Provider::start();
    for foreground in [true, false] {
        let mut daemon = world(|daemon| reminder(daemon, "2s", &provider.account("work")));
        match foreground {
            true => daemon.start(),
            false => daemon.start_forked(),
        }
        // When the next reminder is due.
        let url = daemon.authorization_url("work");
        leaves(&daemon, reminded(&daemon, 1), "the next reminder");
        // When the attempt ends, by the user or by revoke.
        let second = reminded(&daemon, 2);
        browser::visit(&url);
        leaves(&daemon, second, "the sign-in");
        daemon.run(&["revoke", "work"]).ok();
        let runs = daemon.record("pids").lines().len();
        daemon.authorization_url("work");
        let third = reminded(&daemon, runs + 1);
        daemon.run(&["revoke", "work"]).ok();
        leaves(&daemon, third, "revoke");
    }
}

/// However the server ends.
// Covers: hooks-leave
#[test]
fn what_a_reminder_has_started_outlives_the_server() {
    let provider = Provider::start();
    for killed in [false, true] {
        let mut daemon = world(|daemon| reminder(daemon, "1h", &provider.account("work")));
        daemon.start();
        daemon.authorization_url("work");
        let pids = reminded(&daemon, 1);
        let runner = daemon.hook_runner().unwrap();
        match killed {
            true => daemon.kill(),
            false => kill(daemon.pid().unwrap(), Signal::SIGTERM).unwrap(),
        }
        wait::until("the hook runner's end", || gone(runner));
        leaves(&daemon, pids, "the server's end");
        daemon.wait_end();
    }
}

// Covers: hooks-hang
#[test]
fn a_reminder_ends_at_its_deadline_when_nobody_ends_it() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| reminder(daemon, "3s", &provider.account("work")));
    daemon.start();
    daemon.authorization_url("work");
    // The next reminder, which would end it, is not due before tomorrow.
    let config = fs::read_to_string(daemon.config_path()).unwrap();
    daemon.write_config(&config.replace("= 3s", "= 1d"));
    daemon.run(&["reload"]).ok();
    leaves(&daemon, reminded(&daemon, 1), "the deadline");
}

/// So that what follows them is that of the user, and not what the server has for itself.
#[test]
fn hooks_have_the_users_umask_environment_and_streams() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let said = daemon
            .record("said")
            .command(&["OF_THE_USERS", "NOTIFY_SOCKET"]);
        let command = format!("umask >umask; {said}; echo to stdout; echo to stderr >&2");
        option("startup_cmd", &command) + &provider.account("work")
    });
    daemon
        .env("OF_THE_USERS", "own")
        .env("NOTIFY_SOCKET", "/nowhere");
    let server = daemon.command(&["server", "-d"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 027; exec \"$@\"", "sh"])
        .arg(server.get_program())
        .args(server.get_args())
        .env_clear()
        .envs(
            server
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(daemon.path(""));
    let running = Running::start(&mut command);
    assert_eq!(daemon.record("said").wait_lines(1), ["own\t/nowhere"]);
    assert_eq!(running.stdout.wait_line("to"), "to stdout");
    assert_eq!(running.stderr.wait_line("to std"), "to stderr");
    assert_eq!(daemon.record("umask").wait_lines(1), ["0027"]);
    // What the server makes is the user's alone all the same.
    let socket = fs::metadata(daemon.socket_path()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o077, 0);
    daemon.adopt();
    daemon.shutdown();
}

#[test]
fn a_reminder_that_waits_for_its_click_is_no_failure() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let started = daemon.record("started").command(&["PIZAUTH_ACCOUNT"]);
        let hook = option("auth_notify_cmd", &format!("{started}; exec sleep 300"));
        format!(
            "auth_notify_interval = 1s;\n{hook}{}",
            provider.account("work")
        )
    });
    daemon.start();
    let url = daemon.authorization_url("work");
    daemon.record("started").wait_lines(3);
    browser::visit(&url);
    let log = daemon.shutdown();
    assert!(!log.contains("ERROR - work: auth_notify_cmd"), "{log}");
}

#[test]
fn hooks_run_by_the_users_shell_where_the_server_was_started() {
    let provider = Provider::start();
    let command = "printf '%s\\n' \"$(pwd -P)\" >>where";
    let mut daemon = world(|_| option("startup_cmd", command) + &provider.account("work"));
    let shell = daemon.path("shell");
    let record = daemon.path("shell.log");
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" >>'{}'\nexec /bin/sh \"$@\"\n",
        record.display()
    );
    fs::write(&shell, script).unwrap();
    fs::set_permissions(&shell, PermissionsExt::from_mode(0o755)).unwrap();
    daemon.env("SHELL", shell.to_str().unwrap());
    daemon.start_forked();
    let here = fs::canonicalize(daemon.path("")).unwrap();
    let lines = daemon.record("where").wait_lines(1);
    assert_eq!(lines, [here.to_str().unwrap()]);
    assert_eq!(
        fs::read_to_string(record).unwrap(),
        format!("2|-c|{command}|")
    );
}

#[test]
fn without_a_shell_of_the_users_it_is_bin_sh() {
    for shell in [None, Some("")] {
        let mut daemon = world(|daemon| {
            let file = daemon.path("shell");
            let command = format!("printf '%s\\n' \"$0\" >>'{}'", file.display());
            option("startup_cmd", &command) + &Provider::start().account("work")
        });
        match shell {
            None => daemon.unset("SHELL"),
            Some(shell) => daemon.env("SHELL", shell),
        };
        daemon.start();
        assert_eq!(daemon.record("shell").wait_lines(1), ["/bin/sh"]);
    }
}

#[test]
fn a_shell_that_is_not_there_is_said_to_be() {
    let config = option("startup_cmd", "true") + &Provider::start().account("work");
    let mut daemon = Daemon::new(&config);
    daemon.env("SHELL", "/nonexistent/shell");
    daemon.start_with(&[]);
    assert_eq!(
        daemon.log().wait_line("startup_cmd"),
        "ERROR - startup: startup_cmd couldn't be started: No such file or directory (os error 2)"
    );
    daemon.authorization_url("work");
}

// Covers: H20
#[test]
fn a_hook_gets_a_clean_process_and_no_secret() {
    let provider = Provider::tagged("a-token-for-nobody-else-");
    let secret = "the-secret-of-the-client";
    let mut daemon = world(|daemon| {
        let home = daemon.path("");
        let home = home.display();
        // What it reads, what is open, which signals are blocked, and its environment.
        let command = format!(
            "cd '{home}' && wc -c >stdin && (exec ls /proc/self/fd >fds) && \
             grep -E '^Sig(Blk|Ign)' /proc/self/status >signals; env >env.new && mv env.new env"
        );
        option("token_event_cmd", &command)
            + &provider.account_with("work", &format!("client_secret = \"{secret}\";"))
    });
    // Others, dash among them, unblock what they find blocked.
    if fs::exists("/bin/bash").unwrap() {
        daemon.env("SHELL", "/bin/bash");
    }
    daemon.start();
    daemon.sign_in("work");
    let env = wait::until("the hook's end", || {
        fs::read_to_string(daemon.path("env")).ok()
    });
    let read = |name: &str| fs::read_to_string(daemon.path(name)).unwrap();
    assert_eq!(read("stdin").trim(), "0");
    if cfg!(target_os = "linux") {
        let fds = read("fds");
        let open: Vec<&str> = fds.split_whitespace().collect();
        // The last is the directory that `ls` reads.
        assert_eq!(open, ["0", "1", "2", "3"]);
        let signals = read("signals");
        let mask = |name: &str| {
            let line = signals.lines().find_map(|line| line.strip_prefix(name));
            u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
        };
        assert_eq!(mask("SigBlk:"), 0);
        assert_eq!(mask("SigIgn:") & 1 << (Signal::SIGPIPE as u64 - 1), 0);
    }
    let mut added: Vec<&str> = env
        .lines()
        .filter(|line| line.starts_with("PIZAUTH"))
        .collect();
    added.sort_unstable();
    assert_eq!(added, ["PIZAUTH_ACCOUNT=work", "PIZAUTH_EVENT=token_new"]);
    let form = provider.requests(TOKEN)[0].form.clone();
    for hidden in [
        "a-token-for-nobody-else-",
        secret,
        form.get("code").unwrap(),
        form.get("code_verifier").unwrap(),
    ] {
        assert!(!env.contains(hidden), "{hidden} is in:\n{env}");
    }
}

// Covers: H20
#[test]
fn token_events_come_one_at_a_time_and_in_order() {
    let provider = Provider::start();
    let dump = signed_in(&provider, "work");
    let mut daemon = world(|daemon| {
        let gate = daemon.path("go");
        // Every hook but the first would overtake its turn here if it could.
        let command = format!(
            "echo \"begin $PIZAUTH_EVENT\" >>events; until test -e '{}'; do sleep 0.02; done; \
             echo \"end $PIZAUTH_EVENT\" >>events",
            gate.display()
        );
        option("token_event_cmd", &command) + &provider.account("work")
    });
    daemon.start();
    let events = daemon.record("events");
    assert_eq!(daemon.run_with(&["restore"], &dump).ok(), "");
    daemon.run(&["refresh", "work"]).ok();
    assert_eq!(events.wait_lines(1), ["begin token_refreshed"]);
    daemon.run(&["revoke", "work"]).ok();
    daemon.sign_in("work");
    let config = fs::read_to_string(daemon.config_path()).unwrap();
    daemon.write_config(&config.replace("client-of-work", "another-client"));
    daemon.run(&["reload"]).ok();
    assert_eq!(events.lines(), ["begin token_refreshed"]);
    fs::write(daemon.path("go"), "").unwrap();
    let expected: Vec<String> = [
        "token_refreshed",
        "token_revoked",
        "token_new",
        "token_invalidated",
    ]
    .iter()
    .flat_map(|event| [format!("begin {event}"), format!("end {event}")])
    .collect();
    assert_eq!(events.wait_lines(8), expected);
}

/// What ran then is reported as lost and doesn't run on beside its successors; what waited comes in
/// its turn, from the next runner; and so it is after a restart in place.
// Covers: runner-killed
#[test]
fn a_killed_hook_runner_is_replaced_and_the_order_kept() {
    let provider = Provider::start();
    let dump = signed_in(&provider, "work");
    let mut daemon = world(|daemon| {
        let gate = daemon.path("go");
        let command = format!(
            "echo \"begin $PIZAUTH_EVENT $$\" >>events; until test -e '{}'; do sleep 0.02; done; \
             echo \"end $PIZAUTH_EVENT\" >>events",
            gate.display()
        );
        let notify = daemon.record("notify");
        option("token_event_cmd", &command)
            + &notify.option("auth_notify_cmd", &["PIZAUTH_ACCOUNT"])
            + &provider.account("work")
    });
    daemon.start();
    let events = daemon.record("events");
    daemon.run_with(&["restore"], &dump).ok();
    daemon.run(&["refresh", "work"]).ok();
    let begun = events.wait_lines(1)[0].clone();
    let first = begun.strip_prefix("begin token_refreshed ").unwrap();
    let first = Pid::from_raw(first.parse().unwrap());
    daemon.run(&["revoke", "work"]).ok();
    daemon.sign_in("work");
    daemon.kill_hook_runner();
    wait::until("the end of the hook that ran", || gone(first));
    daemon
        .log()
        .wait_line("ERROR - the hook runner was killed; another one takes its place");
    daemon
        .log()
        .wait_line("ERROR - work: token_event_cmd was lost with the hook runner, which was killed");
    let second = events.wait_lines(2)[1].clone();
    assert!(second.starts_with("begin token_revoked "), "{second}");
    // The next program hears of the next runner, too; the hook that runs goes on meanwhile.
    daemon.run(&["restart"]).ok();
    fs::write(daemon.path("go"), "").unwrap();
    let lines = events.wait_lines(5);
    assert_eq!(lines[2], "end token_revoked");
    assert!(lines[3].starts_with("begin token_new "), "{lines:?}");
    assert_eq!(lines[4], "end token_new");
    daemon.kill_hook_runner();
    daemon.run(&["revoke", "work"]).ok();
    assert_eq!(events.wait_lines(7)[6], "end token_revoked");
    let reminded = daemon.record("notify").lines().len();
    daemon.authorization_url("work");
    assert_eq!(
        daemon.record("notify").wait_lines(reminded + 1)[reminded],
        "work"
    );
    let info = daemon.run(&["info"]).ok().to_owned();
    let runner = daemon.hook_runner().unwrap();
    let line = format!("  hook runner process: {runner}\n  hook runners killed before: 2\n");
    assert!(info.contains(&line), "{info}");
}

/// A verdict that nobody could give costs no login.
#[test]
fn a_probe_that_is_lost_with_the_hook_runner_counts_as_a_passing_trouble() {
    let provider = Provider::start();
    let daemon = with_probe(&provider, |probed| {
        format!("{}; sleep 300", probed.command(&ALL))
    });
    daemon.kill_hook_runner();
    daemon
        .log()
        .wait_line("WARN - work: refresh failed, trying again in ");
    assert_eq!(daemon.token("work"), "at-1");
    assert!(daemon.record("events").lines().is_empty());
}

/// The monitor, who holds the tokens, the hook runner: without the first two there is no server.
// Covers: runner-killed
#[test]
fn the_servers_processes_end_together() {
    let provider = Provider::start();
    let mut daemon = world(|_| provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let runner = wait::until("the hook runner", || daemon.hook_runner());
    let (monitor, holder) = (daemon.pid().unwrap(), daemon.holder());
    kill(monitor, Signal::SIGKILL).unwrap();
    let ended = daemon.wait_end();
    assert!(ended.is_none_or(|it| it == 128 + 9), "{ended:?}");
    for process in [monitor, holder, runner] {
        wait::until("its end", || gone(process));
    }
    // Nothing keeps the next one from starting.
    daemon.start();
    daemon.authorization_url("work");
    daemon.shutdown();
}

/// A service manager takes the monitor's end for the server's.
#[test]
fn the_monitor_ends_last() {
    let provider = Provider::start();
    let mut daemon = world(|_| provider.account("work"));
    daemon.start();
    let runner = wait::until("the hook runner", || daemon.hook_runner());
    let (monitor, holder) = (daemon.pid().unwrap(), daemon.holder());
    let begun = Instant::now();
    kill(runner, Signal::SIGSTOP).unwrap();
    kill(monitor, Signal::SIGTERM).unwrap();
    wait::until("the token holder's end", || gone(holder));
    kill(runner, Signal::SIGCONT).unwrap();
    wait::until("the monitor's end", || gone(monitor));
    let left = gone(runner).is_none();
    // It waits two seconds; on a machine that is busier than that, nothing is to be seen here.
    assert!(!left || begun.elapsed() > Duration::from_secs(2));
    assert!(daemon.wait_end().is_none_or(|status| status == 0));
}

// Covers: hooks-leave
#[test]
fn a_hook_that_fails_is_logged_with_its_status_and_last_words() {
    for (command, line) in [
        (
            "echo all is well; echo oops >&2; exit 3",
            "token_event_cmd exited with status 3: oops",
        ),
        ("exit 1", "token_event_cmd exited with status 1"),
        ("kill -9 $$", "token_event_cmd was ended by signal 9"),
        (
            "printf 'a\\033[31mb\\nc\\n' >&2; exit 4",
            "token_event_cmd exited with status 4: a [31mb c",
        ),
    ] {
        let provider = Provider::start();
        let config = option("token_event_cmd", command) + &provider.account("work");
        let mut daemon = Daemon::new(&config);
        daemon.start_with(&[]);
        daemon.sign_in("work");
        let found = daemon.log().wait_line("token_event_cmd");
        assert_eq!(found, format!("ERROR - work: {line}"));
        assert_eq!(daemon.token("work"), "at-1");
    }
}

// Covers: hooks-leave
#[test]
fn a_hook_that_floods_its_output_is_neither_stuck_nor_quoted_whole() {
    let provider = Provider::start();
    let flood = "yes flood | head -c 5000000";
    let command = format!("{flood}; {flood} >&2; echo last words >&2; exit 5");
    let mut daemon =
        Daemon::new(&(option("token_event_cmd", &command) + &provider.account("work")));
    daemon.start_with(&[]);
    daemon.sign_in("work");
    let line = daemon.log().wait_line("token_event_cmd");
    assert!(
        line.starts_with("ERROR - work: token_event_cmd exited with status 5: "),
        "{line}"
    );
    assert!(line.ends_with("last words"), "{line}");
    assert!(line.chars().count() < 1000, "{line}");
}

// Covers: hooks-leave
#[test]
fn a_hook_that_leaves_a_process_behind_holds_up_nobody() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        // The process that stays holds the hook's stderr open.
        let left = format!("sleep 60 & echo $! >>'{}'", daemon.path("left").display());
        let record = daemon.record("events").command(&["PIZAUTH_EVENT"]);
        option("token_event_cmd", &format!("{left}; {record}")) + &provider.account("work")
    });
    daemon.start();
    daemon.sign_in("work");
    daemon.run(&["revoke", "work"]).ok();
    assert_eq!(
        daemon.record("events").wait_lines(2),
        ["token_new", "token_revoked"]
    );
    let server = daemon.pid().unwrap();
    daemon.run(&["shutdown"]).ok();
    wait::until("the server's end", || gone(server));
    // They hold its standard output open, too.
    for pid in daemon.record("left").wait_lines(2) {
        let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
    }
    assert_eq!(daemon.wait_end(), Some(0));
}

#[test]
fn a_hook_may_call_pizauth() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let program = daemon
            .command(&[])
            .get_program()
            .to_str()
            .unwrap()
            .to_owned();
        let home = daemon.path("");
        let home = home.display();
        // By the time that startup_cmd runs, the server answers.
        let startup = format!("'{program}' status >>'{home}/status'");
        let event = format!("'{program}' show \"$PIZAUTH_ACCOUNT\" >>'{home}/tokens'");
        let notify = format!("'{program}' show \"$PIZAUTH_ACCOUNT\" 2>>'{home}/urls'");
        option("startup_cmd", &startup)
            + &option("token_event_cmd", &event)
            + &option("auth_notify_cmd", &notify)
            + &provider.account("work")
    });
    daemon.start();
    let status = daemon.record("status").wait_lines(1);
    assert_eq!(
        status,
        ["work: No access token; sign in with `pizauth auth work`"]
    );
    let url = daemon.authorization_url("work");
    let told = daemon.record("urls").wait_lines(1);
    assert_eq!(
        told,
        [format!(
            "ERROR - Access token unavailable until authorised with URL {url}"
        )]
    );
    browser::visit(&url);
    assert_eq!(daemon.record("tokens").wait_lines(1), ["at-1"]);
}

#[test]
fn startup_cmd_runs_once() {
    for foreground in [true, false] {
        let provider = Provider::start();
        let mut daemon = world(|daemon| {
            let started = daemon.record("started").option("startup_cmd", &ALL);
            let notified = daemon
                .record("notified")
                .option("auth_notify_cmd", &ALL[..1]);
            started + &notified + &provider.account("work")
        });
        match foreground {
            true => daemon.start(),
            false => daemon.start_forked(),
        }
        let nothing = [UNSET; 4].join("\t");
        assert_eq!(
            daemon.record("started").wait_lines(1),
            std::slice::from_ref(&nothing)
        );
        daemon.run(&["reload"]).ok();
        // A hook that was asked for after the reload has run, so one of the reload has too.
        daemon.authorization_url("work");
        daemon.record("notified").wait_lines(1);
        assert_eq!(daemon.record("started").lines(), [nothing]);
    }
}

#[test]
fn error_notify_cmd_gets_the_providers_words_made_safe() {
    let provider = Provider::start();
    let mut daemon = world(|daemon| {
        let record = daemon.record("errors");
        record.option("error_notify_cmd", &ALL) + &provider.account("work")
    });
    daemon.start_with(&[]);
    provider.script(
        AUTHORIZE,
        Scripted::Error(
            "access_denied",
            "not\u{1b}[31m\r\n today\u{202e}, \"friend\" $(id)",
        ),
    );
    let page = browser::visit(&daemon.authorization_url("work"));
    assert!(page.text().contains("access_denied"), "{page:?}");
    let message = "authorisation failed: access_denied: not [31m today , \"friend\" $(id) \
                   (you refused or closed the consent page)";
    assert_eq!(
        daemon.record("errors").wait_lines(1),
        [format!("work\t{UNSET}\t{message}\t{UNSET}")]
    );
    // It was told, so it isn't logged as well.
    assert_eq!(daemon.shutdown(), "");
}

#[test]
fn without_error_notify_cmd_errors_go_to_the_log() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start_with(&[]);
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "no\u{1b}[2J"));
    browser::visit(&daemon.authorization_url("work"));
    assert_eq!(
        daemon.log().wait_line("authorisation failed"),
        "ERROR - work: authorisation failed: access_denied: no [2J (you refused or closed the \
         consent page)"
    );
}

/// A daemon whose tokens' refresh fails with 503, and that asks `command` whether that may pass.
fn with_probe(provider: &Provider, command: impl FnOnce(&Record) -> String) -> Daemon {
    let dump = signed_in(provider, "work");
    let mut daemon = world(|daemon| {
        let probed = daemon.record("probed");
        option("transient_error_if_cmd", &command(&probed))
            + &daemon
                .record("events")
                .option("token_event_cmd", &["PIZAUTH_EVENT"])
            + &daemon
                .record("errors")
                .option("error_notify_cmd", &["PIZAUTH_MSG"])
            + &provider.account("work")
    });
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    provider.script(TOKEN, Scripted::reply(503, "text/plain", "busy"));
    daemon.run(&["refresh", "work"]).ok();
    assert_eq!(
        daemon.record("probed").wait_lines(1),
        [["work", UNSET, UNSET, UNSET].join("\t")]
    );
    daemon
}

#[test]
fn transient_error_if_cmd_with_status_0_ignores_the_error() {
    let provider = Provider::start();
    let daemon = with_probe(&provider, |probed| probed.command(&ALL));
    daemon
        .log()
        .wait_line("WARN - work: refresh failed, trying again in ");
    assert_eq!(daemon.token("work"), "at-1");
    assert!(daemon.record("errors").lines().is_empty());
    assert!(daemon.record("events").lines().is_empty());
}

#[test]
fn transient_error_if_cmd_with_another_status_invalidates_the_token() {
    let provider = Provider::start();
    let daemon = with_probe(&provider, |probed| {
        format!("{}; exit 1", probed.command(&ALL))
    });
    assert_eq!(daemon.record("events").wait_lines(1), ["token_invalidated"]);
    let errors = daemon.record("errors").wait_lines(1);
    assert!(
        errors[0].starts_with("authorisation needed again: "),
        "{errors:?}"
    );
    assert!(errors[0].contains("503"), "{errors:?}");
    // The provider has refused nothing.
    let status = daemon.run(&["status"]).ok().to_owned();
    let words = "; refreshing given up ";
    assert!(status.contains(words), "{status}");
    let words = ", sign in again with `pizauth auth work`: transient_error_if_cmd took this for \
                 final: ";
    assert!(status.contains(words), "{status}");
    browser::visit(&daemon.authorization_url("work"));
    assert_eq!(daemon.token("work"), "at-2");
    // Its verdict is an answer, not a failure.
    let failed = "ERROR - work: transient_error_if_cmd";
    assert!(!daemon.log().text().contains(failed));
}

#[test]
fn nobody_waits_while_the_probe_thinks() {
    let provider = Provider::start();
    let daemon = with_probe(&provider, |probed| {
        format!("{}; sleep 300", probed.command(&ALL))
    });
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(daemon.run(&["refresh", "work"]).ok(), "");
    assert!(
        daemon
            .run(&["status"])
            .ok()
            .ends_with("; refresh under way\n")
    );
}

// Covers: hooks-hang
#[test]
fn nobody_waits_for_a_hook_that_hangs() {
    let provider = Provider::start();
    let config = [
        "token_event_cmd",
        "auth_notify_cmd",
        "startup_cmd",
        "error_notify_cmd",
    ]
    .map(|name| option(name, "sleep 300"))
    .concat();
    let mut daemon = Daemon::new(&(config + &provider.account("work")));
    daemon.start_forked();
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "no"));
    daemon.run(&["revoke", "work"]).ok();
    browser::visit(&daemon.authorization_url("work"));
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-2");
    daemon.shutdown();
}

#[test]
fn a_changed_hook_bites_at_once() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    let url = daemon.authorization_url("work");
    // The pending request gets its first notification from the new config.
    let hook = daemon
        .record("notified")
        .option("auth_notify_cmd", &ALL[..2]);
    daemon.write_config(&(hook + &provider.account("work")));
    daemon.run(&["reload"]).ok();
    assert_eq!(
        daemon.record("notified").wait_lines(1),
        [format!("work\t{url}")]
    );
}
