//! What goes wrong around a daemon, and what it must not cost: networks, certificates, proxies,
//! descriptors, directories, signals, reloads, dumps. Answers of a token endpoint that are merely
//! odd are in conformance.rs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::browser;
use crate::support::command::Running;
use crate::support::daemon::Daemon;
use crate::support::provider::{Gate, Provider, Scripted, TOKEN};
use crate::support::tls::{Authority, Face, Front, Tunnel, self_signed};
use crate::support::wait;

fn tokens(access: &str, life: u64) -> Scripted {
    Scripted::json(
        200,
        &json!({
            "access_token": access,
            "refresh_token": format!("rt-of-{access}"),
            "token_type": "Bearer",
            "expires_in": life,
        }),
    )
}

/// A provider, and a daemon with one account of it.
fn one_account() -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    (provider, daemon)
}

/// The part of a callback's address before its path.
fn origin_of(callback: &str) -> &str {
    callback.split("/?").next().unwrap_or_default()
}

// ---- networks ---------------------------------------------------------------------------------

/// Eight sign-ins hang at one endpoint, more than have workers: another endpoint, `show` and
/// `status` know nothing of it. Then the hang ends, and each browser learns that a code is sent once.
// Covers: hang
#[test]
fn a_hanging_endpoint_keeps_nobody_else_waiting() {
    let provider = Provider::start();
    let names: Vec<String> = (0..8).map(|n| format!("hung-{n}")).collect();
    let mut config = provider.account_at("work", "/token/work", "");
    for name in &names {
        config += &provider.account_at(name, "/token/hung", "");
        provider.script("/token/hung", Scripted::Hang);
    }
    let mut daemon = Daemon::new(&config);
    daemon.start();
    let browsers: Vec<_> = names
        .iter()
        .map(|name| {
            let url = daemon.authorization_url(name);
            thread::spawn(move || browser::visit(&url))
        })
        .collect();
    provider.wait_for("/token/hung", 7);
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), daemon.token("work"));
    daemon.eventually(&["status"], |status| {
        status
            .stdout
            .matches("authorisation being completed")
            .count()
            == 8
    });
    let shown = daemon.run(&["show", "hung-0"]);
    assert!(
        shown
            .failed(75)
            .contains("the authorisation is just being completed")
    );
    provider.drop_connections();
    provider.wait_for("/token/hung", 8);
    provider.drop_connections();
    for browser in browsers {
        let page = browser.join().expect("a page");
        assert_eq!(page.status(), 403);
        assert!(page.text().contains("a code can be sent only once"));
    }
    assert_eq!(provider.requests("/token/hung").len(), 8);
}

/// However an endpoint keeps silent, the request is given up within 31 seconds. Two of the three
/// send a part of a reply first; a byte now and then must not count as life.
// Covers: hang, drip, H6
#[test]
fn a_request_has_a_deadline() {
    let provider = Provider::start();
    let drip = Gate::new();
    let scripts = [
        ("silent", Scripted::Hang),
        (
            "head",
            Scripted::Drip {
                bytes: 9,
                gate: Gate::new(),
            },
        ),
        (
            "body",
            Scripted::Drip {
                bytes: 150,
                gate: drip.clone(),
            },
        ),
    ];
    let mut config = String::new();
    for (name, script) in &scripts {
        let path = format!("/token/{name}");
        config += &provider.account_at(name, &path, "");
        provider.script(&path, script.clone());
    }
    let mut daemon = Daemon::new(&config);
    daemon.start();
    for (name, _) in &scripts {
        let url = daemon.authorization_url(name);
        thread::spawn(move || browser::try_visit(&url));
        provider.wait_for(&format!("/token/{name}"), 1);
    }
    let began = Instant::now();
    provider
        .try_wait_for_hangups(1, Duration::from_secs(31))
        .unwrap_or_else(|| panic!("still waiting: {}", daemon.log().text()));
    assert!(began.elapsed() >= Duration::from_secs(25), "too hasty");
    for (name, _) in &scripts {
        let shown = daemon.eventually(&["show", name], |shown| shown.status == 77);
        assert!(shown.stderr.contains("the reply was lost"), "{shown:?}");
        assert_eq!(provider.requests(&format!("/token/{name}")).len(), 1);
    }
    assert!(began.elapsed() < Duration::from_secs(35));
    drop(drip);
}

/// The network of a hotel: the refresh meets its portal, twice. The token that is valid is shown
/// all the time, and the next refresh succeeds.
// Covers: statuses
#[test]
fn a_captive_portal_costs_nothing() {
    let provider = Provider::start();
    let portal = Provider::start();
    let mut daemon = Daemon::new("");
    let (events, errors) = (daemon.record("events"), daemon.record("errors"));
    daemon.write_config(
        &[
            events.option("token_event_cmd", &["PIZAUTH_EVENT"]),
            errors.option("error_notify_cmd", &["PIZAUTH_MSG"]),
            provider.account_with("work", "refresh_retry = 1s;"),
        ]
        .concat(),
    );
    daemon.start();
    daemon.sign_in("work");
    // The floor of ten seconds counts from the last request: a daemon that starts has made none.
    daemon.restart();
    let page = "<html><title>Welcome to the hotel</title>";
    provider.script(TOKEN, Scripted::Redirect(302, portal.url("/welcome")));
    provider.script(TOKEN, Scripted::reply(200, "text/html", page));
    daemon.run(&["refresh", "work"]).ok();
    daemon.log().wait_line(&format!(
        "points to {}",
        portal.url("").trim_start_matches("http://")
    ));
    for count in 2..=3 {
        assert_eq!(daemon.token("work"), "at-1");
        provider.wait_for(TOKEN, count + 1);
    }
    let shown = daemon.eventually(&["show", "work"], |shown| shown.stdout != "at-1\n");
    assert_eq!(shown.ok(), "at-2\n");
    assert_eq!(events.wait_lines(2), ["token_new", "token_refreshed"]);
    assert!(errors.lines().is_empty(), "{:?}", errors.lines());
    assert!(portal.requests("/welcome").is_empty());
    let sent = provider.requests(TOKEN);
    assert!(
        sent[1..]
            .iter()
            .all(|it| it.form.get("refresh_token") == Some("rt-1"))
    );
}

/// A provider that replaces its refresh tokens, and a reply that gets lost with the new one.
// Covers: rotation
#[test]
fn a_lost_rotation_is_explained() {
    let (provider, mut daemon) = one_account();
    provider.set(|settings| settings.expires_in = Some(1));
    daemon.sign_in("work");
    // The fresh daemon finds the token expired, and refreshes at once.
    provider.script(TOKEN, Scripted::HappyButLost);
    daemon.restart();
    daemon
        .log()
        .wait_line("the request was sent but the reply was lost");
    let shown = daemon.eventually(&["show", "work"], |shown| shown.status == 77);
    let why = "invalid_grant: the refresh token was used before; an earlier reply was lost on the \
               way, and a new refresh token perhaps with it";
    assert!(shown.failed(77).contains(why), "{shown:?}");
    assert!(daemon.run(&["status"]).ok().contains(why));
    assert_eq!(provider.requests(TOKEN).len(), 3);
}

/// Two daemons with one login, at a provider that takes the second use of a refresh token for theft:
/// whoever comes second hears of it, once, and asks no more.
// Covers: two-daemons
#[test]
fn two_daemons_with_one_login_end_in_a_word_and_no_loop() {
    let provider = Provider::start();
    let config = |daemon: &Daemon| {
        let errors = daemon.record("errors");
        let hook = errors.option("error_notify_cmd", &["PIZAUTH_MSG"]);
        daemon.write_config(&format!("{hook}{}", provider.account("work")));
        errors
    };
    let (mut first, mut second) = (Daemon::new(""), Daemon::new(""));
    let (_, heard) = (config(&first), config(&second));
    first.start();
    first.sign_in("work");
    let dump = first.dump();
    first.shutdown();
    first.start();
    second.start();
    for (daemon, count) in [(&first, 2), (&second, 3)] {
        daemon.run_with(&["restore"], &dump).ok();
        daemon.run(&["refresh", "work"]).ok();
        provider.wait_for(TOKEN, count);
    }
    first.eventually(&["show", "work"], |shown| shown.stdout == "at-2\n");
    let words = "authorisation needed again: invalid_grant: the refresh token was used before";
    let line = heard.wait_lines(1).remove(0);
    assert!(line.starts_with(words), "{line}");
    assert_eq!(second.token("work"), "at-1", "shown to its expiry");
    let asked = provider.requests(TOKEN).len();
    second.run(&["status"]).ok();
    assert_eq!((asked, heard.lines().len()), (3, 1));
}

/// A name that no server knows: nothing was sent, and nothing is lost.
// Covers: dns
#[test]
fn a_name_that_does_not_resolve_costs_nothing() {
    let provider = Provider::start();
    let authority = Authority::new();
    let front = Front::start(provider.port(), authority.certify("provider.invalid"));
    let tunnel = Tunnel::start(front.port);
    let proxy = format!("http://127.0.0.1:{}", tunnel.port);
    let mut daemon = Daemon::new(&account_behind(&provider, "far", "provider.invalid", 443));
    trust(&mut daemon, &authority);
    // By way of the proxy there is a first token.
    daemon.env("HTTPS_PROXY", &proxy);
    daemon.start();
    daemon.sign_in("far");
    daemon.unset("HTTPS_PROXY");
    daemon.restart();
    daemon.run(&["refresh", "far"]).ok();
    let line = daemon
        .log()
        .wait_line("WARN - far: refresh failed, trying again in");
    assert!(
        line.contains("provider.invalid: failed to lookup"),
        "{line}"
    );
    assert_eq!(daemon.token("far"), "at-1");
    daemon.env("HTTPS_PROXY", &proxy);
    daemon.restart();
    daemon.run(&["refresh", "far"]).ok();
    daemon.eventually(&["show", "far"], |shown| shown.stdout == "at-2\n");
}

// ---- TLS and proxies --------------------------------------------------------------------------

/// An account whose token endpoint is behind `front`, at `host`.
fn account_behind(provider: &Provider, name: &str, host: &str, port: u16) -> String {
    provider.account(name).replace(
        &provider.token_uri(),
        &format!("https://{host}:{port}{TOKEN}"),
    )
}

fn trust(daemon: &mut Daemon, authority: &Authority) {
    let file = daemon.path("authority.pem");
    fs::write(&file, authority.pem()).expect("to write the certificate");
    daemon.env("SSL_CERT_FILE", file.to_str().expect("a path in UTF-8"));
}

/// A certificate of an authority that SSL_CERT_FILE names is good. Any other is not: nothing is
/// sent, and nothing is lost.
// Covers: tls, H7, 91
#[test]
fn certificates_are_checked() {
    let provider = Provider::start();
    let authority = Authority::new();
    let good = authority.certify("localhost");
    let unknown = "is from an unknown authority (self-signed, or a corporate proxy";
    let faces: [(&str, Option<Face>, &str); 8] = [
        ("good", None, ""),
        (
            "expired",
            Some(authority.certify_formerly("localhost")),
            "expired on 2002-01-01 00:00 UTC (this machine's clock says 20",
        ),
        (
            "not-yet",
            Some(authority.certify_some_day("localhost")),
            "valid only from 2201-01-01 00:00 UTC (this machine's clock says 20",
        ),
        ("self-signed", Some(self_signed("localhost")), unknown),
        (
            "own-authority",
            Some(authority.own_face()),
            "is self-signed and marked as an authority's (CA:TRUE): the server needs one that isn't",
        ),
        (
            "stranger",
            Some(Authority::new().certify("localhost")),
            unknown,
        ),
        (
            "wrong-host",
            Some(authority.certify("elsewhere.example")),
            "is for elsewhere.example, not for localhost: check the address",
        ),
        (
            "not-tls",
            Some(Face::Plain),
            "the answer is not TLS: check the address",
        ),
    ];
    let fronts = faces
        .each_ref()
        .map(|_| Front::start(provider.port(), good.clone()));
    let mut config = String::new();
    for ((name, ..), front) in faces.iter().zip(&fronts) {
        config += &account_behind(&provider, name, "localhost", front.port);
    }
    let mut daemon = Daemon::new(&config);
    trust(&mut daemon, &authority);
    daemon.start();
    for (name, ..) in &faces {
        daemon.sign_in(name);
    }
    daemon.restart();
    for ((_, face, _), front) in faces.iter().zip(&fronts) {
        if let Some(face) = face {
            front.show(face.clone());
        }
    }
    let before: Vec<_> = faces.iter().map(|(name, ..)| daemon.token(name)).collect();
    for ((name, face, words), before) in faces.iter().zip(&before) {
        daemon.run(&["refresh", name]).ok();
        if face.is_none() {
            daemon.eventually(&["show", name], |shown| shown.stdout.trim_end() != before);
            continue;
        }
        let line = daemon
            .log()
            .wait_line(&format!("WARN - {name}: refresh failed, trying again in"));
        assert!(line.contains(words), "{line}");
        assert!(!line.contains("the request was sent"), "{line}");
        assert_eq!(daemon.token(name), *before);
    }
    assert_eq!(provider.requests(TOKEN).len(), faces.len() + 1);
}

/// Row 74: a TLS hello that nobody answers costs no code, since nothing was sent.
#[test]
fn a_code_outlives_an_endpoint_that_takes_connections_and_says_nothing() {
    let provider = Provider::start();
    let authority = Authority::new();
    let front = Front::start(provider.port(), Face::Silent);
    let mut daemon = Daemon::new(&account_behind(&provider, "work", "localhost", front.port));
    trust(&mut daemon, &authority);
    daemon.start();
    let url = daemon.authorization_url("work");
    let browser = thread::spawn(move || browser::visit(&url));
    let line = daemon
        .log()
        .wait_line("will try again to exchange the code");
    assert!(line.contains("TLS got no answer"), "{line}");
    front.show(authority.certify("localhost"));
    assert_eq!(browser.join().expect("a page").status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// Row 91: a variable that should name certificates and doesn't is named itself.
#[test]
fn a_trust_store_that_cannot_be_read_is_named() {
    let provider = Provider::start();
    let authority = Authority::new();
    let front = Front::start(provider.port(), authority.certify("localhost"));
    let mut daemon = Daemon::new(&account_behind(&provider, "work", "localhost", front.port));
    let (none, empty) = (daemon.path("none.pem"), daemon.path("empty.pem"));
    fs::write(&empty, "").expect("to write a file");
    for (variable, value, words) in [
        (
            "SSL_CERT_FILE",
            &none,
            "SSL_CERT_FILE names .*none.pem, which can't be read",
        ),
        (
            "SSL_CERT_FILE",
            &empty,
            "SSL_CERT_FILE names .*empty.pem, which has no certificate",
        ),
        (
            "SSL_CERT_DIR",
            &none,
            "SSL_CERT_DIR names .*none.pem, which can't be read",
        ),
        (
            "REQUESTS_CA_BUNDLE",
            &none,
            "pizauth doesn't read REQUESTS_CA_BUNDLE: set SSL_CERT_FILE",
        ),
    ] {
        daemon.env(variable, value.to_str().expect("a path in UTF-8"));
        daemon.start();
        let url = daemon.authorization_url("work");
        thread::spawn(move || browser::try_visit(&url));
        let line = daemon
            .log()
            .wait_line("will try again to exchange the code");
        let all = words.split(".*").all(|part| line.contains(part));
        assert!(all, "{variable}: {line}");
        daemon.unset(variable);
        daemon.shutdown();
    }
    assert!(provider.requests(TOKEN).is_empty());
}

/// A proxy of the environment is used for what is elsewhere (and then needs no name server), and
/// not for this machine.
// Covers: H6
#[test]
fn proxies_are_for_elsewhere() {
    let provider = Provider::start();
    let authority = Authority::new();
    let front = Front::start(provider.port(), authority.certify("provider.invalid"));
    let tunnel = Tunnel::start(front.port);
    let config = [
        account_behind(&provider, "far", "provider.invalid", 443),
        provider.account("near"),
    ]
    .concat();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let mut daemon = Daemon::new(&config);
        trust(&mut daemon, &authority);
        let before = tunnel.asked().len();
        daemon.env(variable, &format!("http://127.0.0.1:{}", tunnel.port));
        daemon.env("HTTP_PROXY", &format!("http://127.0.0.1:{}", tunnel.port));
        daemon.start();
        daemon.sign_in("near");
        assert_eq!(tunnel.asked().len(), before);
        daemon.sign_in("far");
        assert_eq!(tunnel.asked()[before..], ["CONNECT provider.invalid:443"]);
        daemon.token("far");
    }
}

/// Row 90: a SOCKS proxy is used, and one that can't be is refused in words: nothing goes past it.
// Covers: 90
#[test]
fn a_proxy_is_used_or_refused() {
    let provider = Provider::start();
    let authority = Authority::new();
    // What goes past the proxy is answered, too.
    let front = Front::start(provider.port(), authority.certify("localhost.localdomain"));
    let tunnel = Tunnel::start(front.port);
    let host = "localhost.localdomain";
    let mut daemon = Daemon::new(&account_behind(&provider, "far", host, front.port));
    trust(&mut daemon, &authority);
    daemon.env("ALL_PROXY", &format!("socks5h://127.0.0.1:{}", tunnel.port));
    daemon.start();
    daemon.sign_in("far");
    assert_eq!(tunnel.asked(), [format!("SOCKS {host}:{}", front.port)]);
    daemon.restart();
    for (proxy, words) in [
        ("socks5h://127.0.0.1:1", "Connection refused"),
        (
            "gopher://me:secret@127.0.0.1:1",
            "ALL_PROXY names no proxy that can be used",
        ),
        ("http://", "ALL_PROXY names no proxy that can be used"),
    ] {
        daemon.env("ALL_PROXY", proxy);
        daemon.restart();
        daemon.run(&["refresh", "far"]).ok();
        let line = daemon
            .log()
            .wait_line("WARN - far: refresh failed, trying again in");
        assert!(line.contains(words), "{proxy}: {line}");
        assert!(!line.contains("secret"), "{line}");
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

// ---- famine -----------------------------------------------------------------------------------

/// A world whose daemon starts under `limits`, commands of a POSIX shell.
pub fn starved(directory: &Path, limits: &str, config: &str) -> Daemon {
    let script = directory.join("pizauth");
    let binary = std::env::var("PIZAUTH_UNDER_TEST")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_pizauth").into());
    // Another process writes it: see selftest.rs.
    let text =
        format!("#!/bin/sh\n[ \"$1\" != server ] || {{ {limits}; }}\nexec '{binary}' \"$@\"\n");
    let written = std::process::Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 700 \"$0\""])
        .args([script.as_os_str(), text.as_ref()])
        .status();
    assert!(written.expect("to write the script").success());
    Daemon::of_binary(&script, config)
}

/// With few descriptors, and idle strangers at both doors who want them all, everybody is served.
// Covers: descriptors, H24
#[test]
fn a_famine_of_descriptors_is_survived() {
    let provider = Provider::start();
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = starved(directory.path(), "ulimit -n 36", &provider.account("work"));
    daemon.start();
    let callback = browser::callback_of(&daemon.authorization_url("work"));
    let address = origin_of(&callback)
        .trim_start_matches("http://")
        .to_owned();
    let at_redirect: Vec<_> = (0..64).map(|_| TcpStream::connect(&address)).collect();
    let at_socket: Vec<_> = (0..64)
        .map(|_| UnixStream::connect(daemon.socket_path()))
        .collect();
    daemon.eventually(&["status"], |status| status.status == 0);
    let page = wait::until("the callback to be served", || {
        browser::try_visit(&callback).ok()
    });
    // Whoever had no descriptor for the exchange tries again; the code is still good.
    assert!([200, 202].contains(&page.status()), "{page:?}");
    daemon.eventually(&["show", "work"], |shown| shown.status == 0);
    drop((at_redirect, at_socket));
    daemon.eventually(&["show", "work"], |shown| shown.status == 0);
    daemon.shutdown();
}

/// 64 MiB of addresses are enough for TLS, threads, a sign-in, and a reply of 12 MB that isn't taken.
// Covers: memory, H24
#[test]
fn little_memory_is_enough() {
    let provider = Provider::start();
    let authority = Authority::new();
    let front = Front::start(provider.port(), authority.certify("localhost"));
    let directory = tempfile::tempdir().expect("a directory");
    let config = account_behind(&provider, "work", "localhost", front.port);
    let mut daemon = starved(directory.path(), "ulimit -v 65536", &config);
    trust(&mut daemon, &authority);
    daemon.start();
    provider.script(TOKEN, Scripted::Huge(12 << 20));
    let page = browser::visit(&daemon.authorization_url("work"));
    assert!(page.text().contains("more than 1 MiB"), "{}", page.text());
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
}

/// Where no file may grow, a token file can't be written; the rest works.
// Covers: file-size
#[test]
fn a_limit_on_files_ends_no_daemon() {
    let provider = Provider::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let option = format!("token_file = \"{}\";", file.display());
    let config = provider.account_with("work", &option);
    let mut daemon = starved(directory.path(), "ulimit -f 0", &config);
    daemon.start();
    daemon.sign_in("work");
    let line = daemon
        .log()
        .wait_line("ERROR - work: the token file could not be kept: ");
    assert!(line.contains("too large"), "{line}");
    assert_eq!(daemon.token("work"), "at-1");
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["pizauth"], "a part of a token file was left behind");
    daemon.shutdown();
}

/// Where no memory may be locked, or less than two tokens take, they are where all else is.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_locked_memory_costs_no_token() {
    let tag = "t".repeat(3000);
    let provider = Provider::tagged(&tag);
    let directory = tempfile::tempdir().expect("a directory");
    let config = provider.account("work");
    for limits in ["ulimit -l 0", "ulimit -l 8"] {
        let mut daemon = starved(directory.path(), limits, &config);
        daemon.start();
        daemon.sign_in("work");
        assert!(daemon.token("work").starts_with(&tag));
        daemon.run(&["restart"]).ok();
        assert!(daemon.token("work").starts_with(&tag));
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.holder()));
        let status = status.expect("its status");
        let locked = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .expect("what is locked")
            .trim();
        let told = daemon.run(&["info"]).ok().contains(", locked");
        assert_eq!(told, locked != "0 kB", "{locked}");
        assert!(limits.ends_with('8') || !told, "{limits}: {locked}");
        assert!(["0 kB", "4 kB"].contains(&locked), "{limits}: {locked}");
        daemon.shutdown();
    }
}

/// How much more memory strangers at the redirect port may cost, in kB.
#[cfg(target_os = "linux")]
const MAX_GROWTH_KB: u64 = 2048;

/// What a daemon has cost so far: its largest memory in kB, and its CPU time in hundredths of a second.
#[cfg(target_os = "linux")]
fn cost(daemon: &Daemon) -> (u64, u64) {
    let read = |file: &str| {
        let pid = daemon.holder();
        fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a file of proc(5)")
    };
    let number = |word: Option<&str>| -> u64 { word.and_then(|it| it.parse().ok()).expect("one") };
    let status = read("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = number(peak.and_then(|line| line.split_whitespace().next()));
    // utime and stime are the 14th and 15th field; the second, the name, ends with the last bracket.
    let stat = read("stat");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut times = fields.split_whitespace().skip(11);
    (peak, number(times.next()) + number(times.next()))
}

/// 1,100 connections that say half a request each: the real callback is served among them, and they
/// cost next to nothing.
// Covers: half-requests
#[test]
#[cfg(target_os = "linux")]
fn a_crowd_at_the_redirect_port_keeps_nobody_out() {
    let (_provider, mut daemon) = one_account();
    let callback = browser::callback_of(&daemon.authorization_url("work"));
    let origin = origin_of(&callback);
    // Whatever the first request takes is there from now on.
    assert_eq!(browser::get(&format!("{origin}/")).status(), 200);
    let (before, idle) = cost(&daemon);
    let crowd: Vec<_> = (0..1100)
        .map(|_| {
            let mut stream =
                TcpStream::connect(origin.trim_start_matches("http://")).expect("to connect");
            // It may have been shown out already.
            let _ = stream.write_all(b"GET /?state=x HTTP/1.1\r\nHost: loc");
            stream
        })
        .collect();
    assert_eq!(browser::get(&format!("{origin}/")).status(), 200);
    let (peak, busy) = cost(&daemon);
    println!("{} kB, {} ms of CPU", peak - before, (busy - idle) * 10);
    assert!(peak <= before + MAX_GROWTH_KB, "{before} kB became {peak}");
    // A millisecond a connection, with a build that isn't optimised.
    assert!(busy - idle <= 110, "it took {} ms", (busy - idle) * 10);
    // Those that stay cost nothing more, while others come and go.
    for _ in 0..100 {
        daemon.run(&["show", "none"]).failed(67);
    }
    let (_, rest) = cost(&daemon);
    assert!(rest - busy <= 30, "it took {} ms", (rest - busy) * 10);
    assert_eq!(browser::visit(&callback).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    drop(crowd);
    daemon.shutdown();
}

/// A request line of 800 MiB, as far as it is taken: the memory stays as it is, next to nothing is
/// done, and the real callback is served.
// Covers: endless-line
#[test]
#[cfg(target_os = "linux")]
fn a_line_without_end_costs_no_memory() {
    let (_provider, mut daemon) = one_account();
    let callback = browser::callback_of(&daemon.authorization_url("work"));
    let origin = origin_of(&callback);
    assert_eq!(browser::get(&format!("{origin}/")).status(), 200);
    let (before, idle) = cost(&daemon);
    let mut stream = TcpStream::connect(origin.trim_start_matches("http://")).expect("to connect");
    let piece = [b'x'; 64 << 10];
    let mut sent = 0_u64;
    let taken = stream.write_all(b"GET /?").and_then(|()| {
        while sent < 800 << 20 {
            stream.write_all(&piece)?;
            sent += piece.len() as u64;
        }
        Ok(())
    });
    assert!(taken.is_err(), "all of it was taken");
    let (peak, busy) = cost(&daemon);
    println!(
        "{} kB, {} ms of CPU for {sent} bytes",
        peak - before,
        (busy - idle) * 10
    );
    assert!(
        peak <= before + MAX_GROWTH_KB,
        "{before} kB became {peak} for {sent} bytes"
    );
    assert!(busy - idle <= 10, "it took {} ms", (busy - idle) * 10);
    assert_eq!(browser::visit(&callback).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    daemon.shutdown();
}

// ---- the runtime directory --------------------------------------------------------------------

/// The socket goes, the directory goes, the lock goes: the daemon is found again with its tokens.
// Covers: vanish, H12
#[test]
fn a_runtime_directory_that_vanishes_is_made_again() {
    let (_provider, mut daemon) = one_account();
    daemon.sign_in("work");
    let log = daemon.log();
    let socket = daemon.socket_path();
    let directory = socket.parent().expect("a directory").to_owned();
    let found = |times: usize| {
        daemon.eventually(&["show", "work"], |shown| shown.stdout == "at-1\n");
        let words = "WARN - the control socket was gone and has been made again";
        wait::until("the word about it", || {
            (log.text().matches(words).count() >= times).then_some(())
        });
        assert_eq!(log.text().matches(words).count(), times);
    };
    fs::remove_file(&socket).expect("to remove the socket");
    found(1);
    fs::remove_dir_all(&directory).expect("to remove the directory");
    found(2);
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&socket)), (0o700, 0o700));
    fs::rename(&directory, directory.with_extension("away")).expect("to move the directory");
    found(3);
    let around = directory.parent().expect("a directory around");
    fs::rename(around, around.with_extension("away")).expect("to move what is around");
    log.wait_line("ERROR - the control socket is gone: can't make the directory");
    fs::rename(around.with_extension("away"), around).expect("to move it back");
    // Every lock was made again with its directory: there can still be one server only.
    wait::until("the socket", || UnixStream::connect(&socket).ok());
    let second = daemon.run(&["server"]);
    assert!(second.failed(1).contains("a server is already running"));
    fs::remove_file(directory.join("pizauth.lock")).expect("to remove the lock");
    log.wait_line("WARN - the lock was gone and has been made again");
    daemon.shutdown();
    assert!(!socket.exists());
}

/// A directory that somebody could have planted isn't used, whatever it costs.
// Covers: vanish, planted, H11
#[test]
fn a_planted_directory_is_refused() {
    let (_provider, daemon) = one_account();
    let directory = daemon
        .socket_path()
        .parent()
        .expect("a directory")
        .to_owned();
    let trap = daemon.path("trap");
    fs::create_dir(&trap).expect("a directory");
    fs::rename(&directory, directory.with_extension("away")).expect("to move the directory");
    symlink(&trap, &directory).expect("a link");
    let line = daemon
        .log()
        .wait_line("ERROR - the control socket is gone: ");
    assert!(line.ends_with("it is a symbolic link"), "{line}");
    assert_eq!(fs::read_dir(&trap).expect("the trap").count(), 0);
    assert!(daemon.run(&["show", "work"]).status != 0);
}

/// A server whose place has been taken ends, and leaves the other alone.
// Covers: vanish, H12
#[test]
fn a_server_whose_place_was_taken_ends() {
    let (_provider, daemon) = one_account();
    let directory = daemon
        .socket_path()
        .parent()
        .expect("a directory")
        .to_owned();
    // Held up, the first daemon can't make its place again before the second has taken it.
    let pid = daemon.holder();
    let send = |signal| nix::sys::signal::kill(pid, signal).expect("to signal");
    send(Signal::SIGSTOP);
    fs::remove_dir_all(&directory).expect("to remove the directory");
    let second = Running::start(&mut daemon.command(&["server", "-d", "-vvvv"]));
    wait::until("the second server", || {
        UnixStream::connect(daemon.socket_path()).ok()
    });
    send(Signal::SIGCONT);
    let line = daemon.log().wait_line("another server has taken its place");
    assert!(line.starts_with("ERROR - "), "{line}");
    daemon.eventually(&["status"], |status| status.status == 0);
    daemon.run(&["shutdown"]).ok();
    assert_eq!(second.finish().status, 0);
}

// ---- signals ----------------------------------------------------------------------------------

/// Signals that mean nothing cost nothing, at any time; SIGHUP reloads; SIGTERM and SIGINT end the
/// daemon, with a word to the browser that waits.
// Covers: signals, H15
#[test]
fn signals_in_every_state() {
    for last in [Signal::SIGTERM, Signal::SIGINT] {
        let (provider, mut daemon) = one_account();
        let log = daemon.log();
        let pid = daemon.pid().expect("a pid");
        let send = |signal| nix::sys::signal::kill(pid, signal).expect("to signal");
        let mut reloads = 0;
        let mut all = || {
            for signal in [
                Signal::SIGUSR1,
                Signal::SIGUSR2,
                Signal::SIGPIPE,
                Signal::SIGHUP,
            ] {
                send(signal);
            }
            reloads += 1;
            wait::until("the reload", || {
                let count = log.text().matches("the configuration was reloaded").count();
                (count == reloads).then_some(())
            });
        };
        all();
        let url = daemon.authorization_url("work");
        all();
        assert_eq!(daemon.authorization_url("work"), url);
        let gate = Gate::new();
        provider.script(TOKEN, Scripted::gated(&gate));
        let browser = thread::spawn(move || browser::visit(&url));
        provider.wait_for(TOKEN, 1);
        all();
        assert!(daemon.run(&["status"]).ok().contains("being completed"));
        send(last);
        let page = browser.join().expect("a page");
        assert_eq!(page.status(), 503);
        assert!(page.text().contains("pizauth is being stopped"));
        assert_eq!(daemon.wait_end(), Some(0));
        assert!(!daemon.socket_path().exists());
    }
}

/// SIGQUIT ends the server as it ends any program, but without a core.
// Covers: core-file, H15
#[test]
fn quit_leaves_no_core() {
    let (_provider, mut daemon) = one_account();
    daemon.sign_in("work");
    let pid = daemon.pid().expect("a pid");
    nix::sys::signal::kill(pid, Signal::SIGQUIT).expect("to signal");
    assert_eq!(daemon.wait_end(), Some(128 + Signal::SIGQUIT as i32));
    let files = fs::read_dir(daemon.path("")).expect("the directory");
    let cores = files
        .map(|file| file.expect("a file").file_name())
        .filter(|name| name.to_string_lossy().starts_with("core"));
    assert_eq!(cores.count(), 0);
}

// ---- reload -----------------------------------------------------------------------------------

/// A reload in the middle of an exchange: an unchanged registration keeps the sign-in; another
/// ends it, and its late tokens go nowhere, not even when the old registration comes back.
// Covers: reloads
#[test]
fn reloads_during_an_exchange() {
    let provider = Provider::start();
    let account = |options: &str| provider.account_with("work", options);
    let mut daemon = Daemon::new(&account(""));
    daemon.start();
    let begin = || {
        let gate = Gate::new();
        provider.script(TOKEN, Scripted::gated(&gate));
        let url = daemon.authorization_url("work");
        let before = provider.requests(TOKEN).len();
        let browser = thread::spawn(move || browser::visit(&url));
        provider.wait_for(TOKEN, before + 1);
        (gate, browser)
    };

    let (gate, browser) = begin();
    daemon.write_config(&account("refresh_retry = 60s;"));
    daemon.run(&["reload"]).ok();
    gate.open();
    assert_eq!(browser.join().expect("a page").status(), 200);
    assert_eq!(daemon.token("work"), "at-1");

    daemon.run(&["revoke", "work"]).ok();
    let (gate, browser) = begin();
    daemon.write_config(&account("auth_uri_fields = { \"tenant\": \"b\" };"));
    daemon.run(&["reload"]).ok();
    let page = browser.join().expect("a page");
    assert_eq!(page.status(), 403);
    assert!(
        page.text()
            .contains("the account was changed or removed in the config")
    );
    daemon.write_config(&account(""));
    daemon.run(&["reload"]).ok();
    gate.open();
    wait::until("the late tokens", || provider.accepts("at-2").then_some(()));
    daemon.authorization_url("work");
    let status = daemon.run(&["status"]).ok().to_owned();
    assert!(
        status.starts_with("work: Access token pending authentication"),
        "{status}"
    );
}

/// The same in the middle of a refresh, and a config that can't be read.
// Covers: reloads
#[test]
fn reloads_during_a_refresh() {
    let provider = Provider::start();
    let account = |options: &str| provider.account_with("work", options);
    let mut daemon = Daemon::new(&account(""));
    daemon.start();
    daemon.sign_in("work");
    daemon.restart();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 2);
    for bad in ["", "account", "nonsense = 1;\n", "account \"work\" { }\n"] {
        daemon.write_config(bad);
        daemon.run(&["reload"]).failed(1);
    }
    daemon.write_config(&account("refresh_before_expiry = 2s;"));
    daemon.run(&["reload"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    gate.open();
    daemon.eventually(&["show", "work"], |shown| shown.stdout == "at-2\n");

    daemon.restart();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    daemon.run(&["refresh", "work"]).ok();
    provider.wait_for(TOKEN, 3);
    daemon.write_config(&account("scopes_are_no_option = 1;"));
    daemon.run(&["reload"]).failed(1);
    assert_eq!(daemon.token("work"), "at-2");
    daemon.write_config(&account("client_secret = \"new\"; login_hint = \"b\";"));
    daemon.run(&["reload"]);
    daemon.authorization_url("work");
    gate.open();
    wait::until("the late tokens", || provider.accepts("at-3").then_some(()));
    let shown = daemon.run(&["show", "work"]);
    assert!(!shown.stdout.contains("at-3"), "{shown:?}");
    shown.failed(77);
}

// ---- dumps ------------------------------------------------------------------------------------

/// A dump that was cut, bent, made up or emptied changes nothing.
// Covers: hostile-dumps, H25
#[test]
fn hostile_dumps_change_nothing() {
    let (_provider, daemon) = one_account();
    daemon.sign_in("work");
    let file = daemon.path("dump");
    let out = fs::File::create(&file).expect("a file");
    let status = daemon.command(&["dump"]).stdout(out).status();
    assert!(status.expect("to run dump").success());
    let dump = fs::read(&file).expect("the dump");
    assert!(!dump.windows(4).any(|bytes| bytes == b"at-1"));
    let refused = |bytes: &[u8]| {
        let output = daemon.run_with(&["restore"], bytes);
        let why = output.failed(1);
        assert!(why.starts_with("ERROR - nothing was restored: "), "{why}");
        assert_eq!(
            why.lines().filter(|line| line.starts_with("ERROR")).count(),
            1
        );
    };
    for keep in [0, 1, 7, dump.len() / 2, dump.len() - 1] {
        refused(&dump[..keep]);
    }
    for at in (0..dump.len()).step_by(dump.len() / 24) {
        let mut bent = dump.clone();
        bent[at] ^= 0x40;
        refused(&bent);
    }
    refused(&[dump.clone(), b"x".to_vec()].concat());
    refused(b"{\"accounts\":[]}\n");
    refused(&vec![0xff; 1 << 20]);
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), "at-1");
}

/// A token of the past, restored where a newer one is held, changes nothing either.
#[test]
fn an_old_dump_replaces_nothing() {
    let (provider, mut daemon) = one_account();
    provider.script(TOKEN, tokens("old", 3600));
    daemon.sign_in("work");
    let file = daemon.path("dump");
    let out = fs::File::create(&file).expect("a file");
    let status = daemon.command(&["dump"]).stdout(out).status();
    assert!(status.expect("to run dump").success());
    daemon.shutdown();
    daemon.start();
    provider.script(TOKEN, tokens("new", 3600));
    daemon.sign_in("work");
    daemon
        .run_with(&["restore"], &fs::read(&file).expect("the dump"))
        .ok();
    assert_eq!(daemon.token("work"), "new");
}

/// `dump` into a full disk or a closed pipe fails, loudly.
// Covers: full-disk
#[test]
#[cfg(target_os = "linux")]
fn a_dump_that_cannot_be_written_fails() {
    let (_provider, daemon) = one_account();
    daemon.sign_in("work");
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut child = daemon
        .command(&["dump"])
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("to run dump");
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("its stderr");
    stderr.read_to_string(&mut said).expect("what it says");
    assert_eq!(child.wait().expect("its end").code(), Some(1));
    assert!(
        said.starts_with("ERROR - can't write to stdout: "),
        "{said}"
    );
}

/// Stands between a client and the server that it asks: sends `signal` to that one as soon as the
/// first bytes of the reply are there, and passes on what comes nevertheless.
fn meddle(listener: &UnixListener, server: &Path, pid: nix::unistd::Pid, signal: Signal) {
    let (mut client, _) = listener.accept().expect("a client");
    let mut behind = UnixStream::connect(server).expect("the server");
    let mut request = [0; 256];
    let length = client.read(&mut request).expect("a request");
    behind.write_all(&request[..length]).expect("to ask");
    let mut first = [0; 100];
    behind
        .read_exact(&mut first)
        .expect("the reply's beginning");
    nix::sys::signal::kill(pid, signal).expect("to signal");
    client.write_all(&first).expect("to pass it on");
    // Whatever ends this is what the client has to bear.
    let _ = std::io::copy(&mut behind, &mut client);
}

/// A server that is told to end finishes the dump that it has begun; of one that is killed there is
/// only a part, which is no dump.
// Covers: signals-dump, H2
#[test]
fn a_dump_is_whole_or_an_error() {
    let provider = Provider::start();
    // Together far more than a socket's buffers hold.
    let names = ["a", "b", "c"];
    let config: String = names.iter().map(|name| provider.account(name)).collect();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let mut daemon = Daemon::new(&config);
        daemon.start();
        for name in names {
            provider.script(TOKEN, tokens(&name.repeat(400_000), 3600));
            daemon.sign_in(name);
        }
        let door = daemon.path("door");
        let listener = UnixListener::bind(&door).expect("a socket");
        let (server, pid) = (daemon.socket_path(), daemon.holder());
        let between = thread::spawn(move || meddle(&listener, &server, pid, signal));
        let mut dump = daemon.command(&["dump"]);
        dump.env("PIZAUTH_SOCK", &door);
        let running = Running::start(&mut dump);
        let stdout = running.stdout.clone();
        let output = running.finish();
        between.join().expect("its end");
        if signal == Signal::SIGKILL {
            assert!(output.failed(69).starts_with("ERROR - "), "{output:?}");
            daemon.kill();
        } else {
            assert_eq!((output.status, output.stderr.as_str()), (0, ""));
            assert_eq!(daemon.wait_end(), Some(0));
            daemon.start();
            daemon.run_with(&["restore"], &stdout.bytes()).ok();
            assert_eq!(daemon.token("c"), "c".repeat(400_000));
        }
    }
}
