//! Tests of what the other tests stand on.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use url::Url;

use super::PATIENCE;
use super::browser::{self, Page};
use super::command::Output;
use super::daemon::Daemon;
use super::hooks::{self, Record, UNSET};
use super::http::{Pairs, Response, read_request, read_response, write_request};
use super::issuer::challenge_of;
use super::provider::{AUTHORIZE, Dormant, Gate, Provider, Scripted, TOKEN};

const VERIFIER: &str = "a-code-verifier-of-forty-three-characters-x";
const REDIRECT: &str = "http://localhost:4321/";

// The client's side, by raw HTTP.

fn authorization_url(provider: &Provider, replace: &[(&str, &str)]) -> String {
    let challenge = challenge_of(VERIFIER);
    let mut pairs = HashMap::from([
        ("response_type", "code"),
        ("client_id", "me"),
        ("redirect_uri", REDIRECT),
        ("scope", "mail"),
        ("state", "st4te"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    pairs.extend(replace.iter().copied());
    pairs.retain(|_, value| !value.is_empty());
    Url::parse_with_params(&provider.auth_uri(), pairs)
        .unwrap()
        .into()
}

fn callback_pairs(url: &str) -> Pairs {
    let callback = Url::parse(&browser::callback_of(url)).unwrap();
    assert!(callback.as_str().starts_with(REDIRECT));
    Pairs::decode(callback.query().unwrap().as_bytes())
}

fn code(provider: &Provider) -> String {
    let pairs = callback_pairs(&authorization_url(provider, &[]));
    assert_eq!(pairs.get("state"), Some("st4te"));
    pairs.get("code").unwrap().into()
}

fn exchange(provider: &Provider, code: &str, replace: &[(&str, &str)]) -> Page {
    let mut pairs = HashMap::from([
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", "me"),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]);
    pairs.extend(replace.iter().copied());
    let owned = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
    browser::post(
        &provider.token_uri(),
        &Pairs(pairs.into_iter().map(owned).collect()),
    )
}

fn refresh_form(token: &str) -> Pairs {
    [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", "me"),
    ]
    .into()
}

fn refresh(provider: &Provider, token: &str) -> Page {
    browser::post(&provider.token_uri(), &refresh_form(token))
}

fn json(page: &Page) -> serde_json::Value {
    assert_eq!(page.header("Content-Type"), Some("application/json"));
    serde_json::from_str(&page.text()).unwrap()
}

#[track_caller]
fn assert_invalid_grant(page: &Page, words: &str) {
    let reply = json(page);
    assert_eq!(page.status(), 400);
    assert_eq!(reply["error"], "invalid_grant");
    assert!(
        reply["error_description"].as_str().unwrap().contains(words),
        "{reply}"
    );
}

/// A refresh over a connection of its own, for what a [`Page`] can't show.
fn raw_refresh(provider: &Provider) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", provider.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = refresh_form("rt-1").encode();
    write_request(
        &mut stream,
        "POST",
        TOKEN,
        &Pairs::default(),
        body.as_bytes(),
    )
    .unwrap();
    stream
}

fn read_raw(stream: &TcpStream) -> io::Result<Response> {
    read_response(&mut BufReader::new(stream), "POST")
}

/// A provider whose `rt-1` is out.
fn signed_in() -> Provider {
    let provider = Provider::start();
    let page = exchange(&provider, &code(&provider), &[]);
    assert_eq!(json(&page)["refresh_token"], "rt-1");
    provider
}

// The honest half.

#[test]
fn a_code_becomes_tokens_and_a_refresh_token_new_ones() {
    let provider = Provider::start();
    let page = exchange(&provider, &code(&provider), &[]);
    assert_eq!(page.status(), 200);
    assert_eq!(
        json(&page),
        serde_json::json!({
            "token_type": "Bearer", "access_token": "at-1", "refresh_token": "rt-1",
            "expires_in": 3600, "scope": "mail",
        })
    );
    assert!(provider.accepts("at-1") && !provider.accepts("at-2"));
    let page = refresh(&provider, "rt-1");
    assert_eq!(json(&page)["access_token"], "at-2");
    assert_eq!(json(&page)["refresh_token"], "rt-2");
    let asked = provider.wait_for(AUTHORIZE, 1);
    assert_eq!(asked[0].query.get("client_id"), Some("me"));
    let asked = provider.wait_for(TOKEN, 2);
    assert_eq!(asked[1].form.get("refresh_token"), Some("rt-1"));
    assert_eq!(asked[1].method, "POST");
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_code_is_good_once_and_for_its_client_redirect_and_verifier_only() {
    let provider = Provider::start();
    let other = "another-code-verifier-of-43-characters-or-so";
    for (replaced, words) in [
        (("code_verifier", other), "code_verifier"),
        (("code_verifier", "short"), "code_verifier"),
        (("redirect_uri", "http://localhost:4321"), "redirect_uri"),
        (("client_id", "you"), "another client"),
        (("code", "code-99"), "no such code"),
    ] {
        let page = exchange(&provider, &code(&provider), &[replaced]);
        assert_invalid_grant(&page, words);
    }
    let code = code(&provider);
    assert_eq!(exchange(&provider, &code, &[]).status(), 200);
    assert_invalid_grant(&exchange(&provider, &code, &[]), "used before");
    assert!(
        !provider.accepts("at-1"),
        "a code that is used twice ends the grant"
    );
}

#[test]
fn an_incomplete_authorization_request_goes_nowhere() {
    let provider = Provider::start();
    for (name, value) in [
        ("response_type", "token"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "nowhere"),
        ("state", ""),
        ("code_challenge", "short"),
        ("code_challenge_method", "plain"),
    ] {
        let page = browser::get(&authorization_url(&provider, &[(name, value)]));
        assert_eq!(page.status(), 400);
        assert!(page.text().contains(name), "{}", page.text());
    }
    let twice = authorization_url(&provider, &[]) + "&state=again";
    assert_eq!(browser::get(&twice).status(), 400);
}

#[test]
fn a_reused_refresh_token_ends_the_grant_or_not_as_set() {
    let provider = signed_in();
    assert_eq!(refresh(&provider, "rt-1").status(), 200);
    assert_invalid_grant(&refresh(&provider, "rt-1"), "used before");
    assert_invalid_grant(&refresh(&provider, "rt-2"), "ended");

    let provider = signed_in();
    provider.set(|settings| settings.reuse_detection = false);
    assert_eq!(json(&refresh(&provider, "rt-1"))["refresh_token"], "rt-2");
    assert_eq!(json(&refresh(&provider, "rt-1"))["refresh_token"], "rt-3");

    let provider = signed_in();
    provider.set(|settings| settings.rotate = false);
    assert_eq!(json(&refresh(&provider, "rt-1")).get("refresh_token"), None);
    assert_eq!(refresh(&provider, "rt-1").status(), 200);
    provider.end_grants();
    assert_invalid_grant(&refresh(&provider, "rt-1"), "ended");
}

#[test]
fn settings_shape_the_replies() {
    let provider = Provider::tagged("b-");
    provider.set(|settings| {
        settings.expires_in = None;
        settings.refresh_tokens = false;
        settings.callback_extras = vec![("iss".into(), "https://example.com".into())];
        settings.token_extras = vec![("token_type".into(), "mac".into())];
        settings.client_secret = Some("s3cret".into());
    });
    let pairs = callback_pairs(&authorization_url(&provider, &[]));
    assert_eq!(pairs.get("iss"), Some("https://example.com"));
    let code = pairs.get("code").unwrap();
    assert_eq!(
        json(&exchange(&provider, code, &[]))["error"],
        "invalid_client"
    );
    let page = exchange(&provider, code, &[("client_secret", "s3cret")]);
    assert_eq!(
        json(&page),
        serde_json::json!({ "token_type": "mac", "access_token": "b-at-1", "scope": "mail" })
    );
}

#[test]
fn a_client_may_prove_itself_by_basic() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("s: cret".into()));
    let code = code(&provider);
    let form: Pairs = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
    .into();
    // "me:s%3A+cret"
    let headers = [("Authorization", "Basic bWU6cyUzQStjcmV0")].into();
    let page = browser::send(
        "POST",
        &provider.token_uri(),
        &headers,
        form.encode().as_bytes(),
    );
    assert_eq!(json(&page)["access_token"], "at-1");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let provider = Provider::start();
    assert_eq!(browser::get(&provider.url("/favicon.ico")).status(), 404);
    assert_eq!(browser::get(&provider.token_uri()).status(), 405);
    provider.script(
        "/extra",
        Scripted::json(200, &serde_json::json!({"is": "there"})),
    );
    assert_eq!(json(&browser::get(&provider.url("/extra")))["is"], "there");
    assert_eq!(provider.requests("/extra").len(), 1);
}

#[test]
fn two_requests_share_a_connection_until_it_is_dropped() {
    let provider = signed_in();
    let mut stream = raw_refresh(&provider);
    assert_eq!(read_raw(&stream).unwrap().status, 200);
    let body = refresh_form("rt-2").encode();
    write_request(
        &mut stream,
        "POST",
        TOKEN,
        &Pairs::default(),
        body.as_bytes(),
    )
    .unwrap();
    assert_eq!(read_raw(&stream).unwrap().status, 200);
    let asked = provider.requests(TOKEN);
    assert_eq!(asked[1].connection, asked[2].connection);
    assert_ne!(asked[0].connection, asked[1].connection);
    provider.drop_connections();
    assert_eq!(
        read_raw(&stream).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
}

// The faults, as a client sees them.

#[test]
fn scripted_replies_come_in_turn_and_then_honesty_again() {
    let provider = signed_in();
    provider.script(TOKEN, Scripted::reply(503, "text/html", "<p>later"));
    provider.script(
        TOKEN,
        Scripted::Redirect(302, "http://portal.example/".into()),
    );
    provider.script(TOKEN, Scripted::Error("invalid_client", "who?"));
    let page = refresh(&provider, "rt-1");
    assert_eq!((page.status(), page.text().as_str()), (503, "<p>later"));
    let page = refresh(&provider, "rt-1");
    assert_eq!(
        (page.status(), page.header("Location")),
        (302, Some("http://portal.example/"))
    );
    assert_eq!(
        json(&refresh(&provider, "rt-1"))["error_description"],
        "who?"
    );
    assert_eq!(refresh(&provider, "rt-1").status(), 200);
    provider.script(TOKEN, Scripted::Close);
    assert_eq!(provider.unscript(TOKEN), 1);
    assert_eq!(refresh(&provider, "rt-2").status(), 200);
}

#[test]
fn a_scripted_error_at_the_authorization_endpoint_is_a_redirect() {
    let provider = Provider::start();
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "no & never"));
    let pairs = callback_pairs(&authorization_url(&provider, &[]));
    assert_eq!(pairs.get("error"), Some("access_denied"));
    assert_eq!(pairs.get("error_description"), Some("no & never"));
    assert_eq!(pairs.get("state"), Some("st4te"));
    assert_eq!(pairs.get("code"), None);
}

#[test]
fn no_reply_comes_as_close_reset_or_silence() {
    let provider = signed_in();
    for (scripted, kind) in [
        (Scripted::Close, ErrorKind::UnexpectedEof),
        (Scripted::Reset, ErrorKind::ConnectionReset),
        (Scripted::HappyButLost, ErrorKind::UnexpectedEof),
    ] {
        provider.script(TOKEN, scripted);
        assert_eq!(read_raw(&raw_refresh(&provider)).unwrap_err().kind(), kind);
    }
    assert_invalid_grant(&refresh(&provider, "rt-1"), "used before");

    provider.script(TOKEN, Scripted::Hang);
    let stream = raw_refresh(&provider);
    provider.wait_for(TOKEN, 6);
    stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    assert_eq!(read_raw(&stream).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(stream);
    provider.wait_for_hangups(1);
}

#[test]
fn a_truncated_reply_lacks_its_end_but_took_effect() {
    let provider = signed_in();
    provider.script(TOKEN, Scripted::Truncated);
    let error = read_raw(&raw_refresh(&provider)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(provider.accepts("at-2"));
}

#[test]
fn a_dripped_reply_stops_at_its_gate() {
    let provider = signed_in();
    let gate = Gate::new();
    provider.script(
        TOKEN,
        Scripted::Drip {
            bytes: 9,
            gate: gate.clone(),
        },
    );
    let stream = raw_refresh(&provider);
    let mut reader = BufReader::with_capacity(1, &stream);
    let mut first = [0; 9];
    io::Read::read_exact(&mut reader, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 ");
    assert!(
        provider.accepts("at-2"),
        "the effect doesn't wait for the gate"
    );
    gate.open();
    let mut rest = String::new();
    reader.read_line(&mut rest).unwrap();
    assert_eq!(rest, "200 Scripted\r\n");
}

#[test]
fn a_gated_request_has_no_effect_before_its_gate_opens() {
    let provider = signed_in();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let stream = raw_refresh(&provider);
    provider.wait_for(TOKEN, 2);
    assert!(!provider.accepts("at-2"));
    gate.open();
    assert_eq!(read_raw(&stream).unwrap().status, 200);
}

#[test]
fn a_huge_reply_is_as_long_as_asked() {
    let provider = signed_in();
    provider.script(TOKEN, Scripted::Huge(1_000_000));
    let reply = read_raw(&raw_refresh(&provider)).unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 1_000_002));
}

#[test]
fn dropping_a_provider_ends_everything_it_was_busy_with() {
    let provider = signed_in();
    let port = provider.port();
    provider.script(TOKEN, Scripted::Hang);
    provider.script(TOKEN, Scripted::gated(&Gate::new()));
    provider.script(
        TOKEN,
        Scripted::Drip {
            bytes: 0,
            gate: Gate::new(),
        },
    );
    let streams = [(); 3].map(|()| raw_refresh(&provider));
    let idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    provider.wait_for(TOKEN, 4);
    drop(provider);
    assert!(streams.iter().all(|stream| read_raw(stream).is_err()));
    assert!(read_raw(&idle).is_err());
}

#[test]
fn waiting_in_vain_ends_at_the_deadline() {
    let provider = Provider::start();
    assert!(
        provider
            .try_wait_for(TOKEN, 1, Duration::from_millis(10))
            .is_none()
    );
}

#[test]
fn a_dormant_provider_refuses_until_it_wakes() {
    let dormant = Dormant::new();
    let url = dormant.url("/favicon.ico");
    assert_eq!(
        browser::try_visit(&url).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let provider = dormant.wake();
    assert_eq!(browser::visit(&url).status(), 404);
    assert_eq!(provider.url("/favicon.ico"), url);
}

// The browser.

#[test]
fn the_browser_follows_redirects_to_the_end_but_not_for_ever() {
    let provider = Provider::start();
    provider.script("/a", Scripted::Redirect(302, "/b?x=1".into()));
    provider.script(
        "/b",
        Scripted::reply(200, "text/html", "<title>Done</title>"),
    );
    let page = browser::visit(&provider.url("/a"));
    assert_eq!((page.status(), page.title().as_str()), (200, "Done"));
    assert_eq!(page.hops.len(), 2);
    assert_eq!(page.url.as_str(), provider.url("/b?x=1"));
    for _ in 0..20 {
        provider.script("/loop", Scripted::Redirect(302, "/loop".into()));
    }
    assert!(browser::try_visit(&provider.url("/loop")).is_err());
}

#[test]
fn the_browser_takes_any_certificate_and_shows_it() {
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.example".into()]).unwrap();
    let der = made.cert.der().to_vec();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![made.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::StreamOwned::new(connection, stream);
        let asked = read_request(&mut BufReader::new(&mut tls))
            .unwrap()
            .unwrap();
        let reply = Response::new(200, "text/plain", asked.target);
        tls.write_all(&reply.to_bytes()).unwrap();
    });
    let page = browser::visit(&format!("https://localhost:{port}/x?y=z#fragment"));
    assert_eq!(page.text(), "/x?y=z");
    assert_eq!(page.certificate, Some(der));
    server.join().unwrap();
}

#[test]
fn urls_are_found_in_messages() {
    let message =
        "ERROR - Access token unavailable until authorised with URL https://a.example/?b=c\n";
    assert_eq!(browser::url_in(message), "https://a.example/?b=c");
}

// The daemon guard, with a shell script in the place of pizauth.

/// A world whose pizauth is the shell script `text`. Another process writes the script: were it
/// ours, a child that another thread forks meanwhile would inherit the open file, and a file that
/// is open for writing can't be run.
fn scripted_daemon(directory: &Path, text: &str) -> Daemon {
    let script = directory.join("pizauth");
    let written = Command::new("/bin/sh")
        .args([
            "-c",
            "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod 700 \"$0\"",
        ])
        .args([script.as_os_str(), text.as_ref()])
        .status();
    assert!(written.unwrap().success());
    Daemon::of_binary(&script, "the config")
}

#[test]
fn commands_run_in_a_world_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = scripted_daemon(
        directory.path(),
        "cat; cat \"$XDG_CONFIG_HOME/pizauth.conf\"; echo \" $# $1 ${EXTRA-no} ${USER-no}\"; \
         echo oops >&2; exit 3",
    );
    let output = daemon.run_with(&["show", "work"], b"input and ");
    assert_eq!(output.status, 3);
    assert_eq!(output.stdout, "input and the config 2 show no no\n");
    assert_eq!(output.stderr, "oops\n");
    daemon.env("EXTRA", "yes");
    assert_eq!(daemon.run(&[]).stdout, "the config 0  yes no\n");
    daemon.unset("EXTRA");
    assert_eq!(daemon.run(&[]).stdout, "the config 0  no no\n");
    for directory in ["run", "config", "home", "tmp"] {
        let mode = fs::metadata(daemon.path(directory))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_running_command_can_be_watched_signalled_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = scripted_daemon(
        directory.path(),
        "echo ready; read line; echo \"got $line\"",
    );
    let mut running = daemon.spawn(&[]);
    assert_eq!(running.stdout.wait_line("ready"), "ready");
    running.feed(b"it\n");
    assert_eq!(running.finish().ok(), "ready\ngot it\n");

    let running = daemon.spawn(&[]);
    running.stdout.wait_line("ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.finish().status, 128 + 15);

    let mut running = daemon.spawn(&[]);
    assert!(running.is_running());
    let pid = running.pid();
    drop(running);
    assert!(nix::sys::signal::kill(pid, None).is_err());
}

#[test]
fn outputs_are_judged_by_status_and_streams() {
    let output = |status, stdout: &str, stderr: &str| Output {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert_eq!(output(0, "x\n", "").ok(), "x\n");
    assert_eq!(output(77, "", "y\n").failed(77), "y\n");
    for bad in [output(1, "x\n", ""), output(0, "x\n", "y\n")] {
        assert!(std::panic::catch_unwind(|| bad.ok().to_owned()).is_err());
    }
    for bad in [output(0, "", ""), output(77, "x\n", ""), output(1, "", "")] {
        assert!(std::panic::catch_unwind(|| bad.failed(77).to_owned()).is_err());
    }
}

#[test]
fn records_hold_one_line_per_hook() {
    let directory = tempfile::tempdir().unwrap();
    let record = Record::new(directory.path(), "hooks");
    assert!(record.lines().is_empty());
    let command = record.command(&["A", "B"]);
    let running: Vec<_> = (0..8)
        .map(|n| {
            Command::new("/bin/sh")
                .args(["-c", &command])
                .env("A", format!("{n} $x \"'%s"))
                .env_remove("B")
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut lines = record.wait_lines(8);
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    lines.sort();
    let expected: Vec<_> = (0..8).map(|n| format!("{n} $x \"'%s\t{UNSET}")).collect();
    assert_eq!(lines, expected);
    assert_eq!(
        hooks::option("x_cmd", r#"printf "a\n""#),
        "x_cmd = \"printf \\\"a\\\\n\\\"\";\n"
    );
}

/// Plays `pizauth server` when [`STAND_IN`] runs this very test binary, and does nothing in a
/// normal run: it listens on the control socket until somebody says `shutdown`.
#[test]
fn stand_in() {
    let Ok(socket) = std::env::var("STAND_IN_SOCKET") else {
        return;
    };
    fs::create_dir_all(Path::new(&socket).parent().unwrap()).unwrap();
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    if let Ok(ready) = std::env::var("STAND_IN_READY") {
        fs::write(ready, "\n").unwrap();
    }
    eprintln!("the stand-in listens");
    for stream in listener.incoming() {
        let mut said = String::new();
        BufReader::new(stream.unwrap())
            .read_line(&mut said)
            .unwrap();
        if said == "shutdown\n" {
            return;
        }
    }
}

/// The other end of it.
#[test]
fn stand_in_shutdown() {
    if let Ok(socket) = std::env::var("STAND_IN_SOCKET") {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"shutdown\n").unwrap();
    }
}

/// `pizauth`, as far as the guard knows it. The runtime directory is an argument so that the
/// process list shows whose it is.
const STAND_IN: &str = r#"
STAND_IN_SOCKET=$XDG_RUNTIME_DIR/pizauth/pizauth.sock
export STAND_IN_SOCKET
case "$1 $2" in
"server -d")
    exec "$TESTS" --exact support::selftest::stand_in --nocapture "$XDG_RUNTIME_DIR" ;;
"server -c")
    STAND_IN_READY=$XDG_RUNTIME_DIR/ready
    export STAND_IN_READY
    mkfifo "$STAND_IN_READY"
    "$TESTS" --exact support::selftest::stand_in "$XDG_RUNTIME_DIR" \
        </dev/null >/dev/null 2>&1 &
    read -r _ <"$STAND_IN_READY" ;;
"shutdown ")
    [ -z "$DEAF" ] || exit 1
    exec "$TESTS" --exact support::selftest::stand_in_shutdown >/dev/null ;;
esac
"#;

fn stand_in_daemon(directory: &Path) -> Daemon {
    let mut daemon = scripted_daemon(directory, STAND_IN);
    let tests = std::env::current_exe().unwrap();
    daemon.env("TESTS", tests.to_str().unwrap()).env("DEAF", "");
    daemon
}

#[test]
fn a_daemon_in_the_foreground_is_started_heard_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = stand_in_daemon(directory.path());
    daemon.start();
    daemon.log().wait_line("the stand-in listens");
    let pid = daemon.pid().unwrap();
    assert!(daemon.shutdown().contains("the stand-in listens"));
    assert!(nix::sys::signal::kill(pid, None).is_err());
    daemon.start();
    daemon.kill();
    assert!(daemon.socket_path().exists(), "a crash leaves its socket");
}

#[test]
fn a_daemon_goes_with_its_guard() {
    let directory = tempfile::tempdir().unwrap();
    for deaf in ["", "yes"] {
        let mut daemon = stand_in_daemon(directory.path());
        daemon.env("DEAF", deaf);
        daemon.start();
        let pid = daemon.pid().unwrap();
        drop(daemon);
        assert!(nix::sys::signal::kill(pid, None).is_err());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_in_the_background_goes_with_its_guard_too() {
    let directory = tempfile::tempdir().unwrap();
    for deaf in ["", "yes"] {
        let mut daemon = stand_in_daemon(directory.path());
        daemon.env("DEAF", deaf);
        daemon.start_forked();
        let pid = daemon.pid().expect("the kernel knows the listener");
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(daemon);
        super::wait::until("the daemon's end", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}
