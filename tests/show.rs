//! `show` with its options, and what scripts read: `status -j`, `watch`, `check`, another socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::support::browser;
use crate::support::command::Running;
use crate::support::daemon::Daemon;
use crate::support::provider::{Gate, Provider, Scripted, TOKEN};
use crate::support::wait;

/// The longest anybody waits here: longer than a test may take, so that a wait that isn't ended by
/// what it waits for is found.
const LONG: &str = "1h";

fn started(provider: &Provider) -> Daemon {
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    daemon
}

fn signed_in(provider: &Provider) -> Daemon {
    let daemon = started(provider);
    daemon.sign_in("work");
    daemon
}

/// A daemon with the expired token of another, which it refreshes as `scripted`: nothing has been
/// requested in its life yet, so that nothing holds the refresh back.
fn with_expired_token(provider: &Provider, scripted: Scripted) -> Daemon {
    provider.set(|settings| settings.expires_in = Some(1));
    let mut daemon = signed_in(provider);
    let dump = daemon.command(&["dump"]).output().unwrap().stdout;
    daemon.shutdown();
    provider.set(|settings| settings.expires_in = Some(3600));
    provider.script(TOKEN, scripted);
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    provider.wait_for(TOKEN, 2);
    let expired = |text: &str| text.contains("Access token has expired");
    daemon.eventually(&["show", "work"], |output| expired(&output.stderr));
    daemon
}

/// Waits until so many clients have begun to wait, in the daemon's life.
fn waiters(daemon: &Daemon, count: usize) {
    wait::until("the clients to wait", || {
        let log = daemon.log().text();
        (log.matches(": a client waits for a token").count() >= count).then_some(())
    });
}

/// One request over the socket by hand; what comes back until the server hangs up.
fn ask(daemon: &Daemon, verb: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(daemon.socket_path()).unwrap();
    let request = format!("pizauth 1 {verb} {}\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn status(daemon: &Daemon) -> Value {
    let output = daemon.run(&["status", "-j"]);
    serde_json::from_str(output.ok()).unwrap()
}

/// What a second server says.
const RUNNING: &str = "ERROR - a server is already running\nhint: `pizauth restart` has this version \
                       take over, even from an older pizauth\n";

// Covers: H27
#[test]
fn who_waits_gets_the_token_of_the_one_sign_in() {
    let provider = Provider::start();
    let daemon = started(&provider);
    let url = daemon.authorization_url("work");
    let waiting: Vec<Running> = (0..8)
        .map(|_| daemon.spawn(&["show", "-w", LONG, "work"]))
        .collect();
    waiters(&daemon, 8);
    assert_eq!(browser::visit(&url).status(), 200);
    for client in waiting {
        assert_eq!(client.finish().ok(), "at-1\n");
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

#[test]
fn a_wait_that_ends_in_vain_says_what_is_missing() {
    let provider = Provider::start();
    let daemon = started(&provider);
    let output = daemon.run(&["show", "--wait", "1", "work"]);
    let url = browser::url_in(output.failed(77));
    assert_eq!(
        output.stderr,
        format!("ERROR - Access token unavailable until authorised with URL {url}\n")
    );
    let output = daemon.run(&["show", "-u", "-w", "1s", "work"]);
    assert_eq!(
        output.failed(77),
        "ERROR - Access token unavailable until authorised\n"
    );
    daemon.run(&["show", "-w", LONG, "play"]).failed(67);
}

#[test]
fn a_sign_in_that_fails_or_is_revoked_ends_the_wait() {
    let provider = Provider::start();
    let daemon = started(&provider);
    let url = daemon.authorization_url("work");
    let client = daemon.spawn(&["show", "-w", LONG, "work"]);
    waiters(&daemon, 1);
    let refusal = json!({"error": "invalid_grant", "error_description": "not today"});
    provider.script(TOKEN, Scripted::json(400, &refusal));
    browser::visit(&url);
    let output = client.finish();
    let stderr = output.failed(77);
    assert!(
        stderr.starts_with("ERROR - the authorisation failed: ") && stderr.contains("not today"),
        "{stderr}"
    );
    // Nobody is asked again because of that.
    assert_eq!(status(&daemon)["accounts"][0]["sign_in"], "failed");

    let client = daemon.spawn(&["show", "-w", LONG, "work"]);
    waiters(&daemon, 2);
    daemon.run(&["revoke", "work"]).ok();
    assert_eq!(
        client.finish().failed(77),
        "ERROR - the authorisation failed: the account's tokens were revoked\n"
    );
}

#[test]
fn an_account_that_goes_or_changes_takes_its_waiters_along() {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("play");
    let mut daemon = Daemon::new(&accounts);
    daemon.start();
    daemon.authorization_url("play");
    daemon.authorization_url("work");
    let gone = daemon.spawn(&["show", "-w", LONG, "play"]);
    let changed = daemon.spawn(&["show", "-w", LONG, "work"]);
    waiters(&daemon, 2);
    daemon.write_config(
        &provider.account_with("work", "auth_uri_fields = { \"prompt\": \"consent\" };"),
    );
    daemon.run(&["reload"]).ok();
    assert_eq!(
        gone.finish().failed(67),
        "ERROR - No account 'play' in the configuration\nhint: there are work\n"
    );
    // A new request has been made for the one that stays.
    let url = daemon.authorization_url("work");
    assert!(url.contains("prompt=consent"), "{url}");
    browser::visit(&url);
    assert_eq!(changed.finish().ok(), "at-1\n");
}

#[test]
fn a_wait_ends_with_its_server_and_a_client_that_leaves_is_forgotten() {
    let provider = Provider::start();
    let mut daemon = started(&provider);
    daemon.authorization_url("work");
    let mut waiting: Vec<Running> = (0..2)
        .map(|_| daemon.spawn(&["show", "-w", LONG, "work"]))
        .collect();
    waiters(&daemon, 2);
    let mut left = waiting.remove(0);
    left.kill();
    daemon.shutdown();
    assert_eq!(
        waiting.remove(0).finish().failed(69),
        "ERROR - the server is stopping\n"
    );
}

// Covers: H27
#[test]
fn one_refresh_is_shared_by_all_who_wait_for_it() {
    let provider = Provider::start();
    let gate = Gate::new();
    let daemon = with_expired_token(&provider, Scripted::gated(&gate));
    assert_eq!(
        daemon.run(&["show", "work"]).failed(75),
        "ERROR - Access token has expired. Refreshing is in progress but has not yet succeeded\n"
    );
    let waiting: Vec<Running> = [["-m", "5m"], ["-w", LONG]]
        .iter()
        .cycle()
        .take(6)
        .map(|[flag, time]| daemon.spawn(&["show", flag, time, "work"]))
        .collect();
    waiters(&daemon, 6);
    gate.open();
    for client in waiting {
        assert_eq!(client.finish().ok(), "at-2\n");
    }
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

#[test]
fn a_failed_refresh_ends_only_the_wait_for_one() {
    let provider = Provider::start();
    let gate = Gate::new();
    let busy = Scripted::reply(503, "text/plain", "busy");
    let daemon = with_expired_token(&provider, Scripted::Gated(gate.clone(), Box::new(busy)));
    let impatient = daemon.spawn(&["show", "-m", "5m", "work"]);
    let patient = daemon.spawn(&["show", "-m", "5m", "-w", LONG, "work"]);
    waiters(&daemon, 2);
    gate.open();
    let output = impatient.finish();
    let stderr = output.failed(75);
    assert!(
        stderr.starts_with("ERROR - Access token has expired. Refreshing is in progress but has not yet succeeded: "),
        "{stderr}"
    );
    // Nothing but the next try, which somebody asks for, brings the token now.
    daemon.run(&["refresh", "work"]).ok();
    assert_eq!(patient.finish().ok(), "at-2\n");
}

#[test]
fn a_refused_refresh_makes_who_waits_wait_for_a_sign_in() {
    let provider = Provider::start();
    let gate = Gate::new();
    let refusal = Scripted::json(400, &json!({"error": "invalid_grant"}));
    let daemon = with_expired_token(&provider, Scripted::Gated(gate.clone(), Box::new(refusal)));
    let impatient = daemon.spawn(&["show", "-m", "5m", "work"]);
    let patient = daemon.spawn(&["show", "-w", LONG, "work"]);
    waiters(&daemon, 2);
    gate.open();
    let output = impatient.finish();
    let url = browser::url_in(output.failed(77));
    browser::visit(&url);
    assert_eq!(patient.finish().ok(), "at-2\n");
}

#[test]
fn a_life_that_no_token_has_is_refused_without_asking_the_provider() {
    let provider = Provider::start();
    provider.set(|settings| settings.expires_in = Some(600));
    let daemon = signed_in(&provider);
    for args in [&["-m", "10m"][..], &["-m", "1d", "-w", LONG]] {
        assert_eq!(
            daemon
                .run(&[&["show"], args, &["work"]].concat())
                .failed(75),
            "ERROR - no token is valid so long: the provider lets them live 10m\n"
        );
    }
    assert_eq!(daemon.run(&["show", "-m", "9m", "work"]).ok(), "at-1\n");
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

#[test]
fn every_format_is_one_line() {
    let provider = Provider::start();
    let hint = "auth_uri_fields = { \"login_hint\": \"me@example.com\" };";
    let accounts = provider.account_with("work", hint) + &provider.account("bare");
    let mut daemon = Daemon::new(&accounts);
    daemon.start();
    provider.set(|settings| settings.token_extras = vec![("scope".into(), json!("mail,Drive"))]);
    daemon.sign_in("work");
    provider.set(|settings| {
        settings.token_extras.clear();
        settings.expires_in = None;
    });
    daemon.sign_in("bare");
    let show = |args: &[&str]| {
        let output = daemon.run(&[&["show"], args].concat());
        let line = output.ok().strip_suffix('\n').unwrap().to_owned();
        assert!(!line.contains('\n'), "{line}");
        line
    };
    let decoded = |args: &[&str]| String::from_utf8(STANDARD.decode(show(args)).unwrap()).unwrap();
    assert_eq!(show(&["-f", "raw", "work"]), "at-1");
    assert_eq!(
        show(&["-f", "bearer", "work"]),
        "Authorization: Bearer at-1"
    );
    assert_eq!(
        decoded(&["-f", "xoauth2", "work"]),
        "user=me@example.com\x01auth=Bearer at-1\x01\x01"
    );
    assert_eq!(
        decoded(&["-f", "xoauth2", "--user", "you", "work"]),
        "user=you\x01auth=Bearer at-1\x01\x01"
    );
    let server = ["--host", "imap.example.com", "--port", "993"];
    assert_eq!(
        decoded(&[&["-f", "oauthbearer"], &server[..], &["work"]].concat()),
        "n,a=me@example.com,\x01host=imap.example.com\x01port=993\x01auth=Bearer at-1\x01\x01"
    );
    assert_eq!(
        decoded(&["-f", "oauthbearer", "bare"]),
        "n,,\x01auth=Bearer at-2\x01\x01"
    );
    let output = daemon.run(&["show", "-f", "xoauth2", "bare"]);
    assert_eq!(
        output.failed(64),
        "ERROR - no user: the account has no login_hint\nhint: name the mailbox with `--user`\n"
    );
    let work: Value = serde_json::from_str(&show(&["-f", "json", "work"])).unwrap();
    let unix = work["expiry_unix"].as_i64().unwrap();
    let rfc3339 = jiff::Timestamp::from_second(unix).unwrap().to_string();
    assert_eq!(
        work,
        json!({
            "token": "at-1", "type": "Bearer", "expiry": rfc3339, "expiry_unix": unix,
            "scopes": ["mail", "Drive"], "account": "work", "login_hint": "me@example.com",
            "provider": "127.0.0.1",
        })
    );
    let bare: Value = serde_json::from_str(&show(&["-f", "json", "bare"])).unwrap();
    assert_eq!(
        bare,
        json!({
            "token": "at-2", "type": "Bearer", "expiry": null, "expiry_unix": null,
            "scopes": ["mail", "offline"], "account": "bare", "login_hint": null, "provider": "127.0.0.1",
        })
    );
}

#[test]
fn granted_scopes_outlive_a_dump_and_a_refresh_that_names_none() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    provider.set(|settings| settings.token_extras = vec![("scope".into(), json!("mail"))]);
    daemon.sign_in("work");
    provider.set(|settings| settings.token_extras = vec![("scope".into(), Value::Null)]);
    daemon.restart();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    let shown = daemon.run(&["show", "-f", "json", "work"]).ok().to_owned();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["token"], &shown["scopes"]),
        (&json!("at-2"), &json!(["mail"]))
    );
}

#[test]
fn status_in_json_is_sorted_and_says_what_the_user_has_to_do() {
    let provider = Provider::start();
    let names = ["work", "Home", "also"];
    let accounts: String = names.iter().map(|name| provider.account(name)).collect();
    let mut daemon = Daemon::new(&accounts);
    daemon.start();
    daemon.sign_in("work");
    daemon.authorization_url("also");
    let status = status(&daemon);
    assert_eq!(status["status_format_version"], 1);
    let accounts = status["accounts"].as_array().unwrap();
    let told: Vec<[&Value; 5]> = accounts
        .iter()
        .map(|account| ["account", "valid", "needs", "refresh", "sign_in"].map(|key| &account[key]))
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["Home", false, "sign_in", "none", "none"],
            ["also", false, "sign_in", "none", "pending"],
            ["work", true, "none", "scheduled", "none"],
        ])
    );
    let [obtained, expires] = ["obtained_unix", "expires_unix"].map(|key| &accounts[2][key]);
    assert_eq!(expires.as_i64().unwrap() - obtained.as_i64().unwrap(), 3600);
    assert_eq!(accounts[0].get("expires"), None);
    // No colour where nobody sees it.
    assert!(!daemon.run(&["status"]).ok().contains('\x1b'));
}

#[test]
fn watchers_hear_of_everything_in_order_until_the_server_ends() {
    let provider = Provider::start();
    let mut daemon = started(&provider);
    let json = daemon.spawn(&["watch", "-j"]);
    let text = daemon.spawn(&["watch"]);
    json.stdout.wait_line("\"watching\"");
    text.stdout.wait_line(" watching");
    // One that never reads holds nobody up.
    let mut deaf = UnixStream::connect(daemon.socket_path()).unwrap();
    deaf.write_all(b"pizauth 1 watch 0\n").unwrap();
    let browser = daemon.sign_in("work");
    assert_eq!(browser.status(), 200);
    daemon.run(&["reload"]).ok();
    daemon.run(&["revoke", "work"]).ok();
    text.stdout.wait_line("work: token revoked");
    json.stdout.wait_line("\"token_revoked\"");
    daemon.shutdown();
    let output = json.finish();
    assert_eq!(output.status, 69, "{output:?}");
    assert_eq!(output.stderr, "ERROR - the server is stopping\n");
    let events: Vec<Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<[&Value; 2]> = events
        .iter()
        .map(|event| ["event", "account"].map(|key| &event[key]))
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["watching", null],
            ["authorisation_pending", "work"],
            ["authorisation_completing", "work"],
            ["token_new", "work"],
            ["reloaded", null],
            ["token_revoked", "work"],
        ])
    );
    let token_new = &events[3];
    let life =
        token_new["expires_unix"].as_i64().unwrap() - token_new["time_unix"].as_i64().unwrap();
    assert!((3590..=3600).contains(&life), "{token_new}");
    let output = text.finish();
    assert_eq!(output.status, 69, "{output:?}");
    assert!(output.stdout.contains(" work: token new, valid until "));
}

#[test]
fn a_watcher_goes_when_nobody_reads_it() {
    let provider = Provider::start();
    let daemon = started(&provider);
    // `head` takes the first line and goes; nothing else ever happens.
    let mut shell = std::process::Command::new("/bin/sh");
    let program = daemon.command(&["watch"]);
    let pizauth = program.get_program().to_str().unwrap();
    let script = format!("{{ '{pizauth}' watch -j; echo \"status $?\" >&2; }} | head -n 1");
    shell.arg("-c").arg(script);
    for (name, value) in program.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    let output = Running::start(&mut shell).finish();
    assert_eq!(output.stderr, "status 0\n");
    assert!(output.stdout.contains("\"watching\""), "{output:?}");
    // One that is interrupted goes at once, without a word.
    let watcher = daemon.spawn(&["watch"]);
    watcher.stdout.wait_line("watching");
    watcher.signal(nix::sys::signal::Signal::SIGINT);
    let output = watcher.finish();
    assert_eq!((output.status, output.stderr.as_str()), (130, ""));
}

#[test]
fn check_says_nothing_of_a_good_config_and_points_at_what_is_wrong() {
    let provider = Provider::start();
    let daemon = Daemon::new(&provider.account("work"));
    assert_eq!(daemon.run(&["check"]).ok(), "");
    fs::write(daemon.path("bad.conf"), "frob = 1;\n").unwrap();
    let output = daemon.run(&["check", "-c", "bad.conf"]);
    let stderr = output.failed(78);
    let start = format!(
        "ERROR - {}:1:1: unknown option `frob`\n",
        daemon.path("bad.conf").display()
    );
    assert!(stderr.starts_with(&start), "{stderr}");
    daemon.run(&["check", "-c", "none.conf"]).failed(78);
    daemon.write_config(&provider.account_with("work", "login_hint = \"me\";"));
    let output = daemon.run(&["check"]);
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    let start = format!("WARN - {}:", daemon.config_path().display());
    assert!(output.stderr.starts_with(&start), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1);
}

// Covers: H26
#[test]
fn check_and_the_log_warn_of_a_secret_that_others_may_read() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account_with("work", "client_secret = \"s\";\n"));
    let path = daemon.config_path();
    assert_eq!(daemon.run(&["check"]).stderr, "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let warning = format!(
        "WARN - {}: the file's mode lets other users read it, and a client_secret is in it (`chmod go-r` helps)",
        path.display()
    );
    let output = daemon.run(&["check"]);
    assert_eq!(output.stderr, format!("{warning}\n"), "{output:?}");
    daemon.start();
    daemon.log().wait_line(&warning);
    // Without a secret, the file may be anybody's to read.
    fs::write(&path, provider.account("work")).unwrap();
    assert_eq!(daemon.run(&["check"]).stderr, "");
    daemon.shutdown();
}

#[test]
fn another_socket_may_be_named_where_nobody_else_can_write() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let socket = daemon.path("home/of its own/socket");
    daemon.env("PIZAUTH_SOCK", socket.to_str().unwrap());
    daemon.start_forked();
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    assert!(!daemon.socket_path().exists());
    let output = daemon.run(&["info", "-j"]);
    let info: Value = serde_json::from_str(output.ok()).unwrap();
    assert_eq!(info["socket"], socket.to_str().unwrap());
    assert_eq!(
        info["cache_directory"],
        socket.parent().unwrap().to_str().unwrap()
    );
    let again = daemon.run(&["server"]);
    assert_eq!(again.failed(1), RUNNING);
    // A socket of the user's is good wherever it is; a server isn't as trusting.
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(socket.parent().unwrap(), open).unwrap();
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["server"]).failed(1);
    fs::set_permissions(socket.parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
    daemon.shutdown();
    fs::set_permissions(daemon.path("tmp"), PermissionsExt::from_mode(0o777)).unwrap();
    let open = daemon.path("tmp/socket");
    daemon.env("PIZAUTH_SOCK", open.to_str().unwrap());
    assert_eq!(
        daemon.run(&["server"]).failed(1),
        format!(
            "ERROR - refusing to use the directory {}: others can write to it\n\
             hint: PIZAUTH_SOCK names a socket in it\n",
            daemon.path("tmp").display()
        )
    );
    daemon.env("PIZAUTH_SOCK", "relative.sock");
    for args in [&["show", "work"][..], &["status"]] {
        assert_eq!(
            daemon.run(args).failed(64),
            "ERROR - PIZAUTH_SOCK is no absolute path of a socket\n"
        );
    }
    daemon.unset("PIZAUTH_SOCK");
}

#[test]
fn the_socket_ignores_arguments_that_it_does_not_know() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    assert_eq!(
        ask(
            &daemon,
            "show",
            r#"{"account": "work", "from": "the future"}"#
        ),
        "pizauth 1 0 4\nat-1"
    );
    let bad = ask(&daemon, "show", r#"{"account": "work", "format": "xml"}"#);
    assert!(bad.starts_with("pizauth 1 1 "), "{bad}");
}

// ---- ID tokens --------------------------------------------------------------------------------

/// The provider's replies have an ID token from now on that expires in so many seconds; that one, and
/// when it expires (RFC 3339).
fn give_id_token(provider: &Provider, secs: i64) -> (String, String) {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({ "sub": "1", "aud": "id", "exp": now + secs }).to_string();
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let extras = vec![("id_token".into(), token.clone().into())];
    provider.set(|settings| settings.token_extras = extras);
    let expires = jiff::Timestamp::from_second(now + secs).unwrap();
    (token, expires.to_string())
}

fn give_none(provider: &Provider) {
    provider.set(|settings| settings.token_extras.clear());
}

const NO_ID_TOKEN: &str = "ERROR - the provider has sent no ID token\n\
                           hint: add the scope openid, and sign in again\n";

#[test]
fn an_id_token_is_shown_in_every_format_for_programs() {
    let provider = Provider::start();
    let (token, expires) = give_id_token(&provider, 1800);
    let door = "socket \"~/door\" { accounts = [\"work\"]; }\n";
    let other = "socket \"~/other\" { accounts = [\"work\"]; allow = [\"status\"]; }\n";
    let mut daemon = Daemon::new(&[door, other, &provider.account("work")].concat());
    daemon.start();
    let unsigned = daemon.run(&["show", "--id-token", "-u", "work"]);
    assert_eq!(
        unsigned.failed(77),
        "ERROR - Access token unavailable until authorised\n"
    );
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    let show = |format: &str| {
        let output = daemon.run(&["show", "--id-token", "-f", format, "work"]);
        output.ok().trim_end().to_owned()
    };
    let read = |format: &str| -> Value { serde_json::from_str(&show(format)).unwrap() };
    assert_eq!(show("raw"), token);
    assert_eq!(show("bearer"), format!("Authorization: Bearer {token}"));
    let header = json!({ "Authorization": format!("Bearer {token}") });
    assert_eq!(read("headers"), header);
    let status = json!({ "expirationTimestamp": expires, "token": token });
    assert_eq!(read("kubernetes")["status"], status);
    let object = read("json");
    assert_eq!(object["token"], token);
    assert_eq!(object["expiry"], expires);
    for format in ["xoauth2", "oauthbearer"] {
        let args = ["show", "--id-token", "-f", format, "--user", "me", "work"];
        let why = daemon.run(&args).failed(64).to_owned();
        assert!(
            why.starts_with("ERROR - mail servers take no ID token"),
            "{why}"
        );
    }
    // A restricted socket hands it out if it shows tokens.
    let through = |door: &str| {
        let mut command = daemon.command(&["show", "--id-token", "work"]);
        let output = command.env("PIZAUTH_SOCK", daemon.path(door)).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(through("home/door"), format!("{token}\n"));
    assert_eq!(through("home/other"), "");
    let log = daemon.shutdown();
    assert!(!log.contains(&token), "{log}");
}

#[test]
fn an_id_token_outlives_what_the_access_token_outlives() {
    let provider = Provider::start();
    let (token, _) = give_id_token(&provider, 1800);
    let mut daemon = signed_in(&provider);
    let shown = |daemon: &Daemon| {
        let output = daemon.run(&["show", "--id-token", "work"]);
        assert_eq!(output.ok(), format!("{token}\n"));
    };
    daemon.kill_holder(nix::sys::signal::Signal::SIGKILL);
    shown(&daemon);
    daemon.run(&["restart"]).ok();
    shown(&daemon);
    let dump = daemon.dump();
    assert!(
        !dump
            .windows(token.len())
            .any(|part| part == token.as_bytes())
    );
    daemon.run(&["revoke", "--local", "work"]).ok();
    daemon.run(&["show", "--id-token", "-u", "work"]).failed(77);
    daemon.run_with(&["restore"], &dump).ok();
    shown(&daemon);
    // A refresh needn't bring another; one that does replaces it.
    give_none(&provider);
    daemon.restart();
    let refresh = |count| {
        daemon.run(&["refresh", "work"]).ok();
        daemon.eventually(&["show", "work"], |output| {
            output.stdout == format!("at-{count}\n")
        });
    };
    refresh(2);
    shown(&daemon);
    let (newer, _) = give_id_token(&provider, 3600);
    refresh(3);
    let output = daemon.run(&["show", "--id-token", "work"]);
    assert_eq!(output.ok(), format!("{newer}\n"));
}

#[test]
fn an_id_token_that_is_missing_or_has_expired_is_an_error() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    for args in [
        &["show", "--id-token", "work"][..],
        &["show", "--id-token", "-w", LONG, "work"],
    ] {
        assert_eq!(daemon.run(args).failed(78), NO_ID_TOKEN);
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
    // Where a refresh brings no other one, one that has expired is gone.
    let (_, expires) = give_id_token(&provider, 20);
    daemon.run(&["revoke", "--local", "work"]).ok();
    daemon.sign_in("work");
    let expires: jiff::Timestamp = expires.parse().unwrap();
    wait::until("its end", || {
        (jiff::Timestamp::now() > expires).then_some(())
    });
    let gate = Gate::new();
    provider.script(
        TOKEN,
        Scripted::Gated(gate.clone(), Box::new(Scripted::Happy)),
    );
    give_none(&provider);
    let output = daemon.run(&["show", "--id-token", "work"]);
    assert_eq!(
        output.failed(75),
        "ERROR - ID token has expired. Refreshing is in progress but has not yet succeeded\n"
    );
    let waiting = daemon.spawn(&["show", "--id-token", "-w", LONG, "work"]);
    waiters(&daemon, 1);
    gate.open();
    assert_eq!(waiting.finish().failed(78), NO_ID_TOKEN);
    assert_eq!(daemon.token("work"), "at-3");
}
