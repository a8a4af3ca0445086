//! What a provider does with what it is told and asked: it repeats secrets, answers what nobody has
//! asked, and keeps the server waiting.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use base64::{Engine, prelude::BASE64_STANDARD};
use url::form_urlencoded;

use crate::support::daemon::{Daemon, wait_for_line, with_token_file};
use crate::support::provider::{Provider, Scripted};
use crate::support::{browser, command::Output};

/// A request's body.
fn body(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(body.to_owned());
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend(&chunk[..read]),
        }
    }
}

fn reply(status: &str, json: &serde_json::Value) -> String {
    let json = json.to_string();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

/// A token endpoint that answers each form as `answer` says.
fn endpoint(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}/token", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                while let Some(body) = body(&mut stream) {
                    if stream.write_all(answer(&body).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    uri
}

/// A refusal that repeats all that was sent, in every way.
fn parrot(form: &str) -> String {
    let mut said = vec!["no".to_owned()];
    for (name, value) in form_urlencoded::parse(form.as_bytes()) {
        if !["client_id", "grant_type", "redirect_uri", "scope"].contains(&&*name) {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            said.push(encoded.to_lowercase());
            said.push(BASE64_STANDARD.encode(format!("x{value}")));
            said.push(value.into_owned());
        }
    }
    let said = said.join(" ");
    reply(
        "400 Bad Request",
        &serde_json::json!({"error": "invalid_grant", "error_description": said}),
    )
}

/// A code, its verifier, a refresh token and the client's secret come back in the endpoint's own words,
/// and are in none of those that anybody sees.
// Covers: 99
#[test]
fn a_provider_that_repeats_them_gives_nothing_away() {
    const SECRET: &str = "t0p/s3cr+t~x";
    let provider = Provider::tagged("c0de~of+37/chars-and_no.more-than-that-");
    let mut daemon = Daemon::new("");
    let record = daemon.record("errors");
    let hook = record.option("error_notify_cmd", &["PIZAUTH_MSG"]);
    let account = provider.account_with("work", &format!("client_secret = \"{SECRET}\";"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sent = seen.clone();
    let answer = move |form: &str| {
        let fields = form_urlencoded::parse(form.as_bytes());
        let is_secret = |name: &str| ["code", "code_verifier", "refresh_token"].contains(&name);
        let fields = fields.filter(|(name, _)| is_secret(name));
        let mut sent = sent.lock().unwrap();
        sent.extend(fields.map(|(_, value)| value.into_owned()));
        // Of the first two codes and all else only the second code is good.
        match sent.len() {
            4 => reply(
                "200 OK",
                &serde_json::json!({"access_token": "at", "token_type": "bearer",
                    "refresh_token": "r3fr/e+sh~tok=en%2F"}),
            ),
            _ => parrot(form),
        }
    };
    let account = account.replace(&provider.token_uri(), &endpoint(answer));
    daemon.write_config(&(hook + &account));
    daemon.start_with(&["-vvv"]);
    let url = daemon.authorization_url("work");
    let state = form_urlencoded::parse(url.split_once('?').unwrap().1.as_bytes())
        .find_map(|(name, value)| (name == "state").then(|| value.into_owned()))
        .unwrap();
    let refused = format!("state={state}&error=access_denied&error_description=for+{state}");
    let callback = browser::callback_of(&url);
    let callback = callback.split_once('?').unwrap().0;
    let first = browser::get(&format!("{callback}?{refused}"));
    assert!(first.text().contains("access_denied"), "{}", first.text());
    let page = browser::visit(&daemon.authorization_url("work"));
    let told = record.wait_lines(2).concat();
    assert!(told.contains("invalid_grant: no"), "{told}");
    let shown = daemon.run(&["show", "work"]).failed(77).to_owned();
    let status = daemon.run(&["status"]).ok().to_owned();
    let json = daemon.run(&["status", "-j"]).ok().to_owned();
    daemon.sign_in("work");
    let refresh = daemon.run(&["refresh", "work"]).ok().to_owned();
    let told_again = record.wait_lines(3).concat();
    assert!(told_again.contains("invalid_grant: no"), "{told_again}");
    let later = daemon.run(&["status", "-j"]).ok().to_owned();
    let mut secrets = seen.lock().unwrap().clone();
    assert_eq!(
        secrets.len(),
        5,
        "two codes, their verifiers, a refresh token"
    );
    secrets.extend([SECRET.to_owned(), state]);
    for text in [
        first.text(),
        page.text(),
        told,
        shown,
        status,
        json,
        refresh,
        told_again,
        later,
        daemon.shutdown(),
    ] {
        for secret in &secrets {
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let base64 = BASE64_STANDARD.encode(format!("x{secret}"));
            let forms = [&**secret, &encoded.to_lowercase(), &base64[4..]];
            for form in forms {
                for at in 0..form.len() - 7 {
                    let piece = &form[at..at + 8];
                    assert!(!text.contains(piece), "{piece} of {secret}: {text}");
                }
            }
        }
    }
}

/// A reply that nobody has asked for is nobody's, whether it comes with another or a little later.
// Covers: 97
#[test]
fn an_unasked_reply_is_no_other_accounts_token() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let token = |form: &str| {
        let field = |wanted: &str| {
            form_urlencoded::parse(form.as_bytes())
                .find_map(|(name, value)| (name == wanted).then(|| value.into_owned()))
                .unwrap()
        };
        let tokens = serde_json::json!({
            "access_token": format!("{}-of-{}", field("grant_type"), field("client_id")),
            "refresh_token": "rt",
            "token_type": "Bearer",
            "expires_in": 3600,
        });
        reply("200 OK", &tokens)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!("http://{}/token", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // The answer before comes once more, when the next one is waited for.
                let mut before = String::new();
                while let Some(body) = body(&mut stream) {
                    let answer = token(&body);
                    let _ = stream.write_all((before + &answer + &answer).as_bytes());
                    // why: so that it comes after what a client has read by then
                    thread::sleep(Duration::from_millis(20));
                    let _ = stream.write_all(answer.as_bytes());
                    before = answer;
                }
            });
        }
    });
    let names: Vec<String> = (0..30).map(|number| format!("a{number}")).collect();
    let accounts = names.iter().map(|name| provider.account(name));
    let config: String = accounts.collect();
    daemon.write_config(&config.replace(&provider.token_uri(), &uri));
    daemon.start();
    for name in &names {
        daemon.sign_in(name);
    }
    // All at once, and at once: what is restored was obtained long ago.
    daemon.restart();
    let all: Vec<_> = names
        .iter()
        .map(|name| daemon.spawn(&["refresh", name]))
        .collect();
    for refresh in all {
        refresh.finish();
    }
    for name in &names {
        let new = |output: &Output| output.stdout.starts_with("refresh_token");
        let token = daemon.eventually(&["show", name], new);
        let wanted = format!("refresh_token-of-client-of-{name}");
        assert_eq!(token.ok().trim(), wanted);
    }
}

/// One host hangs, at as many paths as there are accounts: who signs in elsewhere doesn't wait.
#[test]
fn a_host_that_hangs_leaves_others_half_of_the_workers() {
    let (hostile, provider) = (Provider::start(), Provider::start());
    let names: Vec<String> = (0..40).map(|number| format!("hung{number}")).collect();
    let mut config = provider.account("work");
    for name in &names {
        let path = format!("/token/{name}");
        config += &hostile.account_at(name, &path, "");
        hostile.script(&path, Scripted::Hang);
    }
    let mut daemon = Daemon::new(&config);
    daemon.start();
    for name in &names {
        let callback = browser::callback_of(&daemon.authorization_url(name));
        thread::spawn(move || browser::get(&callback));
    }
    hostile.wait_for("/token/hung8", 1);
    let began = Instant::now();
    browser::visit(&daemon.authorization_url("work"));
    daemon.eventually(&["show", "work"], |shown| shown.status == 0);
    // Each of the others has a worker for 29 s.
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// What can't be replaced isn't left to expire, and is written as soon as there is room.
#[test]
fn a_token_file_without_room_is_removed_and_tried_again() {
    let provider = Provider::start();
    let (mut daemon, file) = with_token_file(&provider);
    daemon.sign_in("work");
    daemon.restart();
    wait_for_line(&file, "at-1");
    if !daemon.limit("--fsize=0:unlimited") {
        eprintln!("a_token_file_without_room: skipped: no prlimit");
        return;
    }
    daemon.run(&["refresh", "work"]).ok();
    daemon.log().wait_line("the token file could not be kept");
    assert!(!file.exists(), "the old token is still there");
    assert!(daemon.limit("--fsize=unlimited:unlimited"));
    wait_for_line(&file, "at-2");
}

/// Two names of one file are one file.
#[test]
fn a_token_file_takes_no_other_files_place() {
    let provider = Provider::start();
    let daemon = Daemon::new("");
    fs::create_dir(daemon.path("real")).unwrap();
    std::os::unix::fs::symlink(daemon.path("real"), daemon.path("link")).unwrap();
    std::os::unix::fs::symlink(daemon.path("config"), daemon.path("c")).unwrap();
    let account = |name: &str, file: &str| {
        let option = format!("token_file = \"{}\";", daemon.path(file).display());
        provider.account_with(name, &option)
    };
    for (first, second, is) in [
        ("real/token", "link/token", "the token_file of account a"),
        (
            "real/token",
            "real/../link/token",
            "the token_file of account a",
        ),
        ("real/token", "c/pizauth.conf", "the configuration"),
        (
            "real/token",
            "run/pizauth/../pizauth/pizauth.sock",
            "the control socket",
        ),
        (
            "real/token",
            "run/pizauth/pizauth.lock",
            "the server's lock",
        ),
        (
            "real/token",
            "home/.local/state/pizauth/tokens.age",
            "the saved state",
        ),
        ("real/token", "home/mine.age", "the saved state"),
    ] {
        fs::create_dir_all(daemon.path("run/pizauth")).unwrap();
        let state = "state = \"age:~/mine.age\";\n".to_owned();
        daemon.write_config(&(state + &account("a", first) + &account("b", second)));
        for command in [&["check"][..], &["server", "-d"]] {
            let refused = daemon.run(command);
            assert!(refused.status != 0, "{second}: {refused:?}");
            assert!(refused.stderr.contains(&format!(" is {is}")), "{refused:?}");
        }
    }
}
