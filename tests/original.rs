//! The first minutes after the switch: the original's daemon still runs, its dumps lie about, and its
//! clients may still be called. And what else may listen where our server does.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::command::Output;
use crate::support::daemon::Daemon;
use crate::support::original::{Account, Original, Tokens, URL};
use crate::support::provider::{Provider, TOKEN};

/// What the original had written into this file before it went.
const DUMP: &[u8] = include_bytes!("data/original.dump");

const HERE: &str = "an older pizauth is running here";
const HINT: &str = "`pizauth restart` replaces it and keeps its tokens";

/// How long a client may take to know what it has met, in a machine that does much else.
const SOON: Duration = Duration::from_secs(10);

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock").as_secs()
}

/// `provider.account(name)` as the original holds it, signed in for `access`.
fn signed_in(provider: &Provider, name: &str, access: &str) -> (String, Account) {
    let tokens = Tokens {
        access: access.into(),
        obtained: now() - 60,
        expiry: now() + 3000,
        refresh: Some(format!("refresh-{access}")),
    };
    let account = Account {
        tokens: Some(tokens),
        ..signed_out(provider, name).1
    };
    (name.into(), account)
}

fn signed_out(provider: &Provider, name: &str) -> (String, Account) {
    let account = Account {
        auth_uri: provider.auth_uri(),
        client_id: format!("id-of-{name}"),
        redirect_uri: "http://localhost/".into(),
        scopes: vec!["mail".into()],
        token_uri: provider.token_uri(),
        ..Account::default()
    };
    (name.into(), account)
}

/// The same for our configuration, with these options more.
fn config(provider: &Provider, name: &str, options: &str) -> String {
    format!(
        "account \"{name}\" {{ auth_uri = \"{}\"; token_uri = \"{}\"; client_id = \"id-of-{name}\"; \
         scopes = [\"mail\"]; {options} }}\n",
        provider.auth_uri(),
        provider.token_uri()
    )
}

/// Somebody who has switched: our command, the original's daemon with `work` signed in.
fn switched() -> (Provider, Daemon, Original) {
    let provider = Provider::start();
    let text = config(&provider, "work", "") + &config(&provider, "play", "");
    let daemon = Daemon::new(&text);
    let accounts = [
        signed_in(&provider, "work", "old-1"),
        signed_out(&provider, "play"),
    ];
    let original = Original::start(&daemon.socket_path(), accounts);
    (provider, daemon, original)
}

#[track_caller]
fn soon(daemon: &Daemon, args: &[&str]) -> Output {
    let began = Instant::now();
    let output = daemon.run(args);
    assert!(began.elapsed() < SOON, "{args:?}: {:?}", began.elapsed());
    output
}

#[test]
fn commands_work_with_the_originals_daemon_and_say_so() {
    let (_provider, daemon, original) = switched();
    let note = format!("{HERE}; {HINT}\n");
    let status = soon(&daemon, &["status"]);
    assert_eq!(
        status.done(),
        "play: No access token\nwork: Active access token (obtained then; expires later)\n"
    );
    assert_eq!(status.stderr, note);
    // A mail program sees no difference.
    assert_eq!(soon(&daemon, &["show", "work"]).ok(), "old-1\n");
    for (args, uri) in [
        (&["show", "play"][..], format!(" with URL {URL}")),
        (&["show", "-u", "play"], String::new()),
        (&["refresh", "-u", "play"], String::new()),
    ] {
        let said = soon(&daemon, args);
        let wanted = format!(
            "ERROR - Access token unavailable until authorised{uri}\nhint: {HERE}; {HINT}\n"
        );
        assert_eq!(said.failed(77), wanted);
    }
    assert!(
        soon(&daemon, &["show", "x"])
            .failed(67)
            .starts_with("ERROR - No account 'x'\n")
    );
    for args in [&["refresh", "work"][..], &["reload"]] {
        let output = soon(&daemon, args);
        assert_eq!((output.done(), &*output.stderr), ("", &*note));
    }
    let info = soon(&daemon, &["info", "-j"]);
    let info: serde_json::Value = serde_json::from_str(info.done()).unwrap();
    assert_eq!(info["server_running"], true);
    assert_eq!(info["server_info"]["http_port"], "4001");
    assert!(
        soon(&daemon, &["info"])
            .done()
            .contains("\n  https public key: 04:0A\n")
    );
    soon(&daemon, &["revoke", "work"]).done();
    assert_eq!(soon(&daemon, &["show", "-u", "work"]).status, 77);
    assert!(!original.has_ended());
    assert_eq!(soon(&daemon, &["shutdown"]).done(), "");
    original.wait_end();
    assert_eq!(soon(&daemon, &["status"]).status, 69);
}

#[test]
fn what_the_originals_daemon_can_not_do_is_refused_at_once() {
    let (_provider, daemon, original) = switched();
    for args in [
        &["auth", "work"][..],
        &["watch"],
        &["status", "-j"],
        &["redirect", "http://localhost/?code=a"],
        &["show", "-m", "5m", "work"],
        &["show", "-f", "json", "work"],
    ] {
        let said = soon(&daemon, args);
        assert_eq!(
            said.failed(69),
            format!("ERROR - {HERE}\nhint: {HINT}\n"),
            "{args:?}"
        );
    }
    let said = soon(&daemon, &["server"]);
    assert!(
        said.failed(1).contains("even from an older pizauth"),
        "{said:?}"
    );
    drop(original);
}

#[test]
fn its_dump_is_ours_byte_by_byte() {
    let (_provider, daemon, original) = switched();
    let dump = original.dump();
    let file = daemon.path("dump");
    soon(&daemon, &["dump", "-o", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read(&file).unwrap(), dump);
}

#[test]
fn what_is_no_pizauth_is_told_by_what_it_is() {
    let daemon = Daemon::new("");
    let directory = daemon.socket_path();
    let mut builder = fs::DirBuilder::new();
    builder
        .mode(0o700)
        .create(directory.parent().unwrap())
        .unwrap();
    let listener = UnixListener::bind(daemon.socket_path()).unwrap();
    // It says nothing, ever.
    for args in [&["status"][..], &["show", "work"], &["restart"]] {
        let said = soon(&daemon, args);
        let said = said.failed(69);
        assert!(said.contains(" but is no pizauth\nhint: end it"), "{said}");
        assert!(
            said.contains(&format!("process {} (", std::process::id())),
            "{said}"
        );
    }
    // It says something else.
    let stranger = thread::spawn(move || {
        for stream in listener.incoming().skip(3).take(2) {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    for args in [&["status"][..], &["show", "work"]] {
        let said = soon(&daemon, args);
        assert!(
            said.failed(69).contains("this is not pizauth's protocol"),
            "{said:?}"
        );
    }
    stranger.join().unwrap();
}

#[test]
fn clients_of_the_original_hear_from_our_server_in_their_words() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon.sign_in("work");
    let ask = |command: &[u8]| {
        let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
        stream.write_all(command).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for command in [
        &b"status:"[..],
        b"showtoken:withurl work",
        b"refresh:withouturl work",
        b"reload:",
        b"revoke:work",
        b"shutdown:",
        b"info:",
        DUMP,
    ] {
        let command = match command == DUMP {
            true => [b"restore:", command].concat(),
            false => command.to_vec(),
        };
        let answer = ask(&command);
        assert!(
            answer.starts_with("error:a newer pizauth is running here"),
            "{answer}"
        );
    }
    // Whatever it got it would keep as a dump.
    assert_eq!(ask(b"dump:"), "");
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn old_dumps_are_restored_where_the_registration_is_the_same() {
    let provider = Provider::start();
    let accounts = ["same", "hinted", "scopes", "client", "elsewhere", "gone"];
    let accounts = accounts.map(|name| signed_in(&provider, name, &format!("of-{name}")));
    let home = tempfile::tempdir().unwrap();
    let original = Original::start(&home.path().join("run/pizauth.sock"), accounts);
    let text = [
        config(&provider, "same", ""),
        config(&provider, "hinted", "login_hint = \"me\";"),
        config(&provider, "scopes", "").replace("[\"mail\"]", "[\"more\"]"),
        config(&provider, "client", "").replace("id-of-client", "another"),
        config(&provider, "elsewhere", "").replace("/token", "/token/of/others"),
    ];
    let mut daemon = Daemon::new(&text.concat());
    daemon.start();
    assert_eq!(daemon.run_with(&["restore"], &original.dump()).ok(), "");
    for name in ["same", "hinted"] {
        assert_eq!(daemon.token(name), format!("of-{name}"));
    }
    for name in ["scopes", "client", "elsewhere"] {
        daemon.authorization_url(name);
    }
    assert!(provider.requests(TOKEN).is_empty());

    // What is held is newer than that.
    let newer = [signed_in(&provider, "same", "too-old")].map(|(name, mut account)| {
        account.tokens.as_mut().unwrap().obtained -= 3600;
        (name, account)
    });
    let older = Original::start(&home.path().join("other/pizauth.sock"), newer);
    daemon.run_with(&["restore"], &older.dump()).ok();
    assert_eq!(daemon.token("same"), "of-same");
    // Of another config altogether.
    daemon.run_with(&["restore"], DUMP).ok();
    assert_eq!(daemon.token("same"), "of-same");
    // Cut and altered ones change nothing.
    let dump = original.dump();
    for bytes in [
        dump[..dump.len() - 1].to_vec(),
        [&dump[..40], &dump[41..]].concat(),
    ] {
        assert_eq!(
            daemon.run_with(&["restore"], &bytes).failed(1),
            "ERROR - nothing was restored: this is not a pizauth dump, or one that was damaged\n"
        );
    }
    assert_eq!(daemon.token("same"), "of-same");
}

#[test]
fn state_load_cmd_may_print_an_old_dump() {
    let provider = Provider::start();
    let home = tempfile::tempdir().unwrap();
    let accounts = [signed_in(&provider, "work", "old-1")];
    let original = Original::start(&home.path().join("run/pizauth.sock"), accounts);
    let file = home.path().join("dump");
    fs::write(&file, original.dump()).unwrap();
    let text = format!("state_load_cmd = \"cat '{}'\";\n", file.display());
    let mut daemon = Daemon::new(&(text + &config(&provider, "work", "")));
    daemon.start_forked();
    assert_eq!(daemon.token("work"), "old-1");
}

/// As units of the original do it: `ExecStartPost=` beside a server that isn't ready yet.
#[test]
fn restore_waits_for_a_server_that_is_just_starting() {
    let provider = Provider::start();
    let accounts = [signed_in(&provider, "work", "old-1")];
    let home = tempfile::tempdir().unwrap();
    let dump = Original::start(&home.path().join("run/pizauth.sock"), accounts).dump();
    for _ in 0..12 {
        let mut daemon = Daemon::new(&config(&provider, "work", ""));
        let mut restoring = daemon.spawn(&["restore"]);
        restoring.feed(&dump);
        daemon.start();
        restoring.finish().ok();
        assert_eq!(daemon.token("work"), "old-1");
    }
}

/// A service manager may be quicker than the daemon that it ends.
#[test]
fn restore_outlives_a_server_that_is_just_ending() {
    let (provider, mut daemon, original) = switched();
    let dump = original.dump();
    drop(original);
    fs::remove_file(daemon.socket_path()).unwrap();
    let dying = UnixListener::bind(daemon.socket_path()).unwrap();
    let mut restoring = daemon.spawn(&["restore"]);
    restoring.feed(&dump);
    // It has read all, and dies.
    let mut client = dying.accept().unwrap().0;
    client.read_exact(&mut vec![0; dump.len()]).unwrap();
    fs::remove_file(daemon.socket_path()).unwrap();
    drop((client, dying));
    daemon.start();
    restoring.finish().ok();
    assert_eq!(daemon.token("work"), "old-1");
    assert!(provider.requests(TOKEN).is_empty());
}

#[test]
fn restart_takes_the_originals_place_with_its_tokens() {
    let (provider, mut daemon, original) = switched();
    let restart = daemon.run(&["restart"]);
    daemon.adopt();
    assert_eq!(restart.done(), "");
    assert!(original.has_ended());
    let asked = original.asked();
    assert_eq!(
        asked.last().map(String::as_str),
        Some("shutdown:"),
        "{asked:?}"
    );
    assert_eq!(daemon.token("work"), "old-1");
    daemon.authorization_url("play");
    assert!(provider.requests(TOKEN).is_empty());
    let info: serde_json::Value = serde_json::from_str(daemon.run(&["info", "-j"]).ok()).unwrap();
    assert_eq!(
        info["server_info"]["pizauth_version"],
        info["pizauth_version"]
    );
    // From now on it is ours, in place.
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "old-1");
    daemon.shutdown();
    assert!(!daemon.socket_path().exists());
}

#[test]
fn a_restart_that_can_not_be_leaves_the_original_alone() {
    let (_provider, daemon, original) = switched();
    daemon.write_config("frob = 1;\n");
    let said = daemon.run(&["restart"]);
    let said = said.failed(1);
    assert!(
        said.starts_with("ERROR - the new server can't start: "),
        "{said}"
    );
    assert!(
        said.contains("pizauth.conf:1:1") && said.contains("frob"),
        "{said}"
    );
    assert!(!original.asked().contains(&"shutdown:".to_owned()));
    assert_eq!(soon(&daemon, &["show", "work"]).ok(), "old-1\n");
}

#[test]
fn an_original_that_does_not_end_stays() {
    let (provider, daemon, original) = switched();
    original.stay();
    let said = daemon.run(&["restart"]);
    // It may still end, and then there is a copy.
    let copy = daemon.path("run/pizauth/dump");
    assert_eq!(
        said.failed(1),
        format!(
            "ERROR - the older pizauth has been told to end and hasn't: it goes on\n\
             hint: its log may say why; if the older pizauth has ended, its tokens are in {}, for \
             `pizauth restore`\n",
            copy.display()
        )
    );
    assert!(copy.exists());
    assert!(!original.has_ended());
    assert_eq!(daemon.run(&["show", "work"]).ok(), "old-1\n");
    assert!(provider.requests(TOKEN).is_empty());
}

/// The old one is gone by then, and can't be brought back.
#[test]
fn a_restart_that_fails_late_keeps_the_tokens_in_a_file() {
    let (provider, mut daemon, original) = switched();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = config(&provider, "work", "");
    daemon.write_config(&format!("http_listen = \"127.0.0.1:{port}\";\n{text}"));
    let said = daemon.run(&["restart"]);
    let file = daemon.path("run/pizauth/dump");
    let said = said.failed(1);
    assert!(
        said.starts_with("ERROR - the new server can't start: "),
        "{said}"
    );
    let kept = format!(
        "its tokens are in {}, for `pizauth restore`",
        file.display()
    );
    assert!(said.contains(&kept), "{said}");
    original.wait_end();
    daemon.write_config(&text);
    daemon.start_forked();
    daemon
        .run_with(&["restore"], &fs::read(&file).unwrap())
        .ok();
    assert_eq!(daemon.token("work"), "old-1");
}

/// Its port is the new one's, too.
#[test]
fn restart_waits_for_the_originals_port() {
    let (provider, mut daemon, original) = switched();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = config(&provider, "work", "");
    daemon.write_config(&format!("http_listen = \"127.0.0.1:{port}\";\n{text}"));
    let restart = daemon.spawn(&["restart"]);
    original.wait_end();
    drop(taken);
    let restart = restart.finish();
    daemon.adopt();
    assert_eq!(restart.done(), "");
    assert_eq!(daemon.token("work"), "old-1");
}
