//! From `show` without a token to a refreshed one, with a browser in between.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pizauth::core::dump;
use serde_json::{Value, json};
use url::Url;

use crate::support::browser;
use crate::support::daemon::Daemon;
use crate::support::http::Pairs;
use crate::support::issuer::challenge_of;
use crate::support::provider::{AUTHORIZE, Gate, Provider, Scripted, TOKEN};
use crate::support::wait::until;

fn one_account(options: &str) -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account_with("work", options));
    daemon.start();
    (provider, daemon)
}

/// The URL as `show` gives it, in parts.
fn authorization_url(daemon: &Daemon, account: &str) -> (String, Pairs) {
    let url = daemon.authorization_url(account);
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = Pairs::decode(query.as_bytes());
    (url, pairs)
}

// Covers: H8
#[test]
fn the_authorization_request_has_all_that_the_rfcs_ask() {
    let (provider, daemon) = one_account(
        "auth_uri_fields = { \"prompt\": \"consent\", \"hd\": \"b c\", \"hd\": \"d\" };",
    );
    let (url, query) = authorization_url(&daemon, "work");
    assert!(
        url.starts_with(&format!("{}?", provider.auth_uri())),
        "{url}"
    );
    let names: Vec<_> = query.0.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "access_type",
        "code_challenge",
        "code_challenge_method",
        "scope",
        "client_id",
        "redirect_uri",
        "response_type",
        "state",
        "prompt",
        "hd",
        "hd",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("access_type", "offline"),
        ("code_challenge_method", "S256"),
        ("scope", "mail offline"),
        ("client_id", "client-of-work"),
        ("response_type", "code"),
        ("prompt", "consent"),
        ("hd", "b c"),
    ] {
        assert_eq!(query.get(name), Some(value));
    }
    let state = query.get("state").expect("a state");
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(state.len() >= 32 && plain(state), "{state}");
    let redirect = Url::parse(query.get("redirect_uri").expect("a redirect_uri")).expect("a URI");
    let info: serde_json::Value =
        serde_json::from_str(daemon.run(&["info", "-j"]).ok()).expect("JSON");
    let port = info["server_info"]["http_port"].as_str().expect("a port");
    assert_eq!(redirect.as_str(), format!("http://localhost:{port}/"));
    assert_eq!(
        daemon.authorization_url("work"),
        url,
        "one request at a time"
    );

    let page = browser::visit(&url);
    assert_eq!(page.status(), 200);
    let exchange = &provider.requests(TOKEN)[0];
    assert_eq!(exchange.method, "POST");
    let names: Vec<_> = exchange
        .form
        .0
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "grant_type",
        "code",
        "client_id",
        "code_verifier",
        "redirect_uri",
    ];
    assert_eq!(names, expected);
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("client_id", "client-of-work"),
        ("redirect_uri", redirect.as_str()),
    ] {
        assert_eq!(exchange.form.get(name), Some(value));
    }
    let verifier = exchange.form.get("code_verifier").expect("a code_verifier");
    assert_eq!(
        Some(challenge_of(verifier).as_str()),
        query.get("code_challenge")
    );
    assert_eq!(exchange.headers.header("Accept"), Some("application/json"));
    assert!(exchange.headers.header("Authorization").is_none());

    daemon.run(&["revoke", "work"]).ok();
    let (_, again) = authorization_url(&daemon, "work");
    for name in ["state", "code_challenge"] {
        assert_ne!(again.get(name), query.get(name), "{name} is used once");
    }
}

/// Nothing of the authorization response is in the address bar.
fn assert_clean(url: &Url, scheme: &str) {
    let path = url.path().strip_prefix("/pizauth/").unwrap_or_default();
    assert!(path.len() == 32 && url.query().is_none(), "{url}");
    assert_eq!(url.scheme(), scheme);
}

#[test]
fn a_sign_in_over_http_ends_on_a_page_that_says_so() {
    let (_provider, daemon) = one_account("");
    let page = daemon.sign_in("work");
    assert_clean(&page.url, "http");
    assert_eq!(page.title(), "Account “work” is authorised - pizauth");
    assert!(page.text().contains("You can close this window."));
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for part in ["<script", "src=", "href="] {
        assert!(!page.text().contains(part), "{part}");
    }
    assert_eq!(daemon.token("work"), "at-1");
    assert!(
        daemon
            .run(&["status"])
            .ok()
            .starts_with("work: Active access token (valid for ")
    );
}

#[test]
fn a_sign_in_over_https_shows_the_certificate_that_info_names() {
    let provider = Provider::start();
    let account = provider.account_with("work", "redirect_uri = \"https://localhost/back\";");
    let mut daemon = Daemon::new(&format!("https_listen = \"127.0.0.1:0\";\n{account}"));
    daemon.start();
    let page = daemon.sign_in("work");
    assert_clean(&page.url, "https");
    let [.., callback, _] = page.hops.as_slice() else {
        panic!("too few steps: {page:?}");
    };
    assert_eq!(callback.path(), "/back");
    assert_eq!(page.title(), "Account “work” is authorised - pizauth");
    let info: serde_json::Value =
        serde_json::from_str(daemon.run(&["info", "-j"]).ok()).expect("JSON");
    let server = &info["server_info"];
    assert_eq!(
        page.url.port().map(|port| port.to_string()).as_deref(),
        server["https_port"].as_str()
    );
    let certificate = page.certificate.expect("a certificate");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&certificate);
    let digest: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let told = server["https_fingerprint"].as_str().expect("a fingerprint");
    let told: String = told.chars().filter(char::is_ascii_alphanumeric).collect();
    assert_eq!(told.to_ascii_uppercase(), digest);
    assert_eq!(daemon.token("work"), "at-1");
}

/// `localhost` is 127.0.0.1 to one browser and [::1] to another.
#[test]
fn both_loopback_addresses_listen_on_one_port() {
    let (_provider, daemon) = one_account("");
    let callback = browser::callback_of(&daemon.authorization_url("work"));
    for host in ["127.0.0.1", "[::1]"] {
        if host == "[::1]" && TcpStream::connect(("::1", 9)).is_err_and(no_ipv6) {
            continue;
        }
        let url = callback.replace("//localhost:", &format!("//{host}:"));
        // To the browser it is the host of the redirect.
        let port = url::Url::parse(&url).unwrap().port().unwrap();
        let headers = [("Host", &*format!("localhost:{port}"))].into();
        assert_eq!(
            browser::send("GET", &url, &headers, b"").status(),
            200,
            "{host}"
        );
    }
    assert_eq!(daemon.token("work"), "at-1");
}

/// Whether the machine doesn't have that address at all.
fn no_ipv6(error: std::io::Error) -> bool {
    error.kind() != std::io::ErrorKind::ConnectionRefused
}

/// A page of another site, whose name was made to point here, gets nothing.
// Covers: H10
#[test]
fn another_host_is_misdirected() {
    let (provider, daemon) = one_account("");
    let callback = browser::callback_of(&daemon.authorization_url("work"));
    let port = Url::parse(&callback)
        .expect("a URL")
        .port()
        .expect("a port");
    for host in [
        "evil.example",
        "localhost.evil.example",
        "localhost:1",
        "localhost@evil",
    ] {
        let headers = Pairs::from([("Host", host)]);
        assert_eq!(
            browser::send("GET", &callback, &headers, b"").status(),
            421,
            "{host}"
        );
    }
    assert!(provider.requests(TOKEN).is_empty());
    for host in [format!("LOCALHOST:{port}"), "127.0.0.1".into()] {
        let headers = Pairs::from([("Host", host.as_str())]);
        assert_eq!(
            browser::send("GET", &callback, &headers, b"").status(),
            200,
            "{host}"
        );
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// Tokens of two seconds: refreshed in the background, at most once in ten seconds, by a refresh
/// token that is replaced each time. Nobody has to ask.
#[test]
fn tokens_are_refreshed_in_the_background() {
    let provider = Provider::start();
    provider.set(|settings| settings.expires_in = Some(2));
    let mut daemon = Daemon::new("");
    let events = daemon.record("events");
    let option = events.option("token_event_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_EVENT"]);
    daemon.write_config(&format!("{option}{}", provider.account("work")));
    daemon.start();
    let before = std::time::Instant::now();
    daemon.sign_in("work");
    provider.wait_for(TOKEN, 2);
    assert!(before.elapsed().as_secs() >= 10, "the floor of ten seconds");
    assert_eq!(
        events.wait_lines(2),
        ["work\ttoken_new", "work\ttoken_refreshed"]
    );
    provider.wait_for(TOKEN, 3);
    assert!(before.elapsed().as_secs() >= 20, "the floor of ten seconds");
    events.wait_lines(3);
    let sent = provider.requests(TOKEN);
    for (request, token) in sent[1..].iter().zip(["rt-1", "rt-2"]) {
        let names: Vec<_> = request
            .form
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["grant_type", "refresh_token", "client_id"]);
        assert_eq!(request.form.get("grant_type"), Some("refresh_token"));
        assert_eq!(request.form.get("refresh_token"), Some(token));
    }
}

/// The page waits for a slow provider; and a browser that goes away meanwhile, or never reads,
/// takes nothing along.
#[test]
fn browsers_wait_for_the_exchange_but_the_exchange_not_for_them() {
    let provider = Provider::start();
    let mut config = String::new();
    for name in ["patient", "gone", "deaf"] {
        config += &provider.account_at(name, &format!("{TOKEN}/{name}"), "");
    }
    let mut daemon = Daemon::new(&config);
    daemon.start();
    let gate = Gate::new();
    let mut deaf = Vec::new();
    for name in ["gone", "deaf"] {
        let path = format!("{TOKEN}/{name}");
        provider.script(&path, Scripted::gated(&gate));
        let callback = browser::callback_of(&daemon.authorization_url(name));
        let url = Url::parse(&callback).expect("a URL");
        let port = url.port().expect("a port");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("to connect");
        let query = url.query().expect("a query");
        let head = format!("GET /?{query} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("to ask");
        provider.wait_for(&path, 1);
        if name == "deaf" {
            deaf.push(stream);
        }
    }
    provider.script("/token/patient", Scripted::gated(&gate));
    let url = daemon.authorization_url("patient");
    let patient = thread::spawn(move || browser::visit(&url));
    provider.wait_for("/token/patient", 1);
    let status = daemon.run(&["status"]).ok().to_owned();
    assert_eq!(status.matches("authorisation being completed").count(), 3);
    gate.open();
    let page = patient.join().expect("a page");
    assert_eq!(page.title(), "Account “patient” is authorised - pizauth");
    for name in ["patient", "gone", "deaf"] {
        daemon.eventually(&["show", name], |shown| shown.status == 0);
    }
}

/// Somebody has signed in, but the code can't be exchanged: whoever asks hears why.
#[test]
fn a_code_that_can_not_be_exchanged_yet_says_why() {
    let provider = Provider::start();
    // Nothing listens there, and nobody but root could.
    let nowhere = provider
        .account("nowhere")
        .replace(&provider.token_uri(), "http://127.0.0.1:1/token");
    let secret = provider.account_with("secret", "client_secret_cmd = \"exit 3\";");
    let mut daemon = Daemon::new(&(nowhere + &secret));
    daemon.start();
    for (name, why) in [
        ("nowhere", "127.0.0.1:1: "),
        ("secret", "no client secret: "),
    ] {
        let address = browser::callback_of(&daemon.authorization_url(name));
        let paste = daemon.spawn(&["redirect", &address]);
        let shown = daemon.eventually(&["show", name], |shown| {
            shown.stderr.contains("could not be completed yet")
        });
        let what = format!("ERROR - the authorisation could not be completed yet: {why}");
        let stderr = shown.failed(75);
        assert!(stderr.starts_with(&what), "{stderr}");
        let reason = stderr.trim().rsplit("yet: ").next().expect("a reason");
        let reason = reason.split("\nhint").next().expect("a reason");
        let status = daemon.run(&["status"]).ok().to_owned();
        let line = status.lines().find(|line| line.starts_with(name));
        let line = line.expect("a line");
        assert!(line.contains("authorisation being completed"), "{line}");
        assert!(
            line.contains(&format!(", not yet possible: {reason}")),
            "{line}"
        );
        let json = daemon.run(&["status", "-j"]).ok().to_owned();
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let accounts = json["accounts"].as_array().expect("accounts");
        let account = accounts.iter().find(|it| it["account"] == name);
        let account = account.expect("the account");
        assert_eq!(account["sign_in"], "completing");
        assert_eq!(account["sign_in_error"], reason);
        // The user's part is done.
        assert_eq!(account["needs"], "none");
        // There is nothing to show, so the state is.
        let auth = daemon.run(&["auth", "-n", name]);
        assert!(auth.ok().contains(reason), "{auth:?}");
        drop(paste);
    }
}

/// A cron job that asks first must not be the only one to hear why.
#[test]
fn why_the_last_sign_in_failed_is_told_until_the_next() {
    let (provider, daemon) = one_account("");
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "not you"));
    browser::visit(&daemon.authorization_url("work"));
    let status = daemon.run(&["status"]).ok().to_owned();
    let words = "access_denied: not you (you refused or closed the consent page)";
    let failed = format!(
        "work: No access token; the last authorisation failed: {words}; \
         try again with `pizauth auth work`\n"
    );
    assert_eq!(status, failed);
    for _ in 0..2 {
        let shown = daemon.run(&["show", "-u", "work"]);
        assert_eq!(
            shown.failed(77),
            format!("ERROR - Access token unavailable until authorised\nhint: {words}\n")
        );
        let status = daemon.run(&["status"]).ok().to_owned();
        assert!(
            status.starts_with("work: Access token pending authentication; authorisation pending")
                && status.ends_with(&format!("; the last one failed: {words}\n")),
            "{status}"
        );
    }
    daemon.sign_in("work");
    assert!(!daemon.run(&["status"]).ok().contains("access_denied"));
}

/// Another registration is no failure of anybody, and the way out is named.
#[test]
fn a_changed_registration_says_so_and_how_to_sign_in() {
    let provider = Provider::start();
    let config = provider.account("my work");
    let mut daemon = Daemon::new(&config);
    daemon.start();
    daemon.sign_in("my work");
    daemon.write_config(&config.replace("client-of-", "other-client-of-"));
    daemon.run(&["reload"]).ok();
    assert_eq!(
        daemon.run(&["status"]).ok(),
        "my work: No access token: the account's registration was changed in the config; \
         sign in with `pizauth auth 'my work'`\n"
    );
    let json = daemon.run(&["status", "-j"]).ok().to_owned();
    assert!(json.contains("\"sign_in\":\"none\""), "{json}");
    assert!(
        json.contains("\"refresh_error\":\"the account's registration was changed in the config\""),
        "{json}"
    );
    for _ in 0..2 {
        let shown = daemon.run(&["show", "-u", "my work"]);
        assert_eq!(
            shown.failed(77),
            "ERROR - Access token unavailable until authorised\n\
             hint: the account's registration was changed in the config\n"
        );
    }
}

/// Two sign-ins at once don't get in each other's way, whichever ends first.
#[test]
fn two_accounts_sign_in_at_once() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&[provider.account("a"), provider.account("b")].concat());
    daemon.start();
    let urls = ["a", "b"].map(|name| daemon.authorization_url(name));
    let [first, second] = urls.each_ref().map(|url| browser::callback_of(url));
    let page = browser::get(&second);
    assert!(page.text().contains("Account “b” is authorised"));
    assert_eq!(daemon.authorization_url("a"), urls[0]);
    assert!(
        browser::get(&first)
            .text()
            .contains("Account “a” is authorised")
    );
    let sent = provider.requests(TOKEN);
    let clients: Vec<_> = sent.iter().map(|it| it.form.get("client_id")).collect();
    assert_eq!(clients, [Some("client-of-b"), Some("client-of-a")]);
    assert_eq!(sent[0].form.get("code"), Some("code-2"));
    assert_ne!(daemon.token("a"), daemon.token("b"));
}

/// A code is sent once, so it gets a connection of its own: the server may be closing any other.
#[test]
fn a_code_has_a_connection_of_its_own() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&[provider.account("a"), provider.account("b")].concat());
    daemon.start();
    for name in ["a", "b"] {
        daemon.sign_in(name);
    }
    let sent = provider.requests(TOKEN);
    assert_ne!(sent[0].connection, sent[1].connection);
}

/// What a browser asks for beside the callback consumes nothing, and what comes too late or too
/// often says so.
#[test]
fn stale_states_and_stray_requests() {
    let (provider, daemon) = one_account("");
    let old = browser::callback_of(&daemon.authorization_url("work"));
    daemon.run(&["revoke", "work"]).ok();
    let new = browser::callback_of(&daemon.authorization_url("work"));
    let page = browser::get(&old);
    assert_eq!(page.status(), 404);
    assert_eq!(page.title(), "This link is no longer valid - pizauth");
    assert!(!page.text().contains("work"), "a stranger learns no names");
    // A connection ahead of need, as browsers make them.
    let url = Url::parse(&new).expect("a URL");
    let port = url.port().expect("a port");
    drop(TcpStream::connect(("127.0.0.1", port)).expect("to connect"));
    let idle = browser::get(&format!("http://localhost:{port}/"));
    assert_eq!(idle.title(), "pizauth is listening - pizauth");
    assert_eq!(
        browser::get(&format!("http://localhost:{port}/favicon.ico")).status(),
        404
    );
    let head = browser::send("HEAD", &new, &Pairs::default(), b"");
    assert_eq!((head.status(), head.text().as_str()), (200, ""));
    assert!(provider.requests(TOKEN).is_empty());
    assert_eq!(browser::get(&new).status(), 200);
    assert!(browser::get(&new).text().contains("It already was"));
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// A browser isn't left before an empty window: within a second it sees what is waited for, within
/// five that no answer comes, and in the end, at the same address, what came of it.
#[test]
fn a_page_that_waits_says_for_what() {
    let (provider, daemon) = one_account("");
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let back = Url::parse(&browser::callback_of(&daemon.authorization_url("work"))).unwrap();
    let once = |url: &Url| browser::request_once("GET", url, &Pairs::default(), b"").unwrap();
    let begun = Instant::now();
    let sent_on = once(&back);
    assert_eq!(sent_on.status(), 303);
    let url = back.join(sent_on.header("Location").unwrap()).unwrap();
    let page = once(&url);
    assert_eq!((page.status(), page.header("Refresh")), (202, Some("2")));
    let waits = "Your part is done. pizauth is asking <strong>127.0.0.1</strong> for the tokens";
    assert!(page.text().contains(waits), "{}", page.text());
    assert!(!page.text().contains("Reason:"), "{}", page.text());
    until("the page to give a reason", || {
        let text = once(&url).text();
        text.contains("there is no answer yet").then_some(())
    });
    assert!(begun.elapsed() > Duration::from_secs(2));
    assert!(!once(&url).text().contains("client-of-work"));
    gate.open();
    until("the outcome", || (once(&url).status() == 200).then_some(()));
    assert!(once(&url).text().contains("Account “work” is authorised"));
}

/// The page says whose mailbox it is and for how long, and that there will be no refresh.
#[test]
fn a_page_says_whose_tokens_came_and_for_how_long() {
    let (provider, daemon) = one_account("");
    let claims = URL_SAFE_NO_PAD.encode(r#"{"preferred_username":"you@x.example"}"#);
    let mut tokens = json!({ "access_token": "at", "token_type": "bearer", "expires_in": 3600,
        "refresh_token": "rt", "id_token": format!("e30.{claims}.sig") });
    let sign_in = |tokens: &Value| {
        provider.script(TOKEN, Scripted::json(200, tokens));
        let auth = daemon.run(&["auth", "-n", "work"]);
        browser::visit(&browser::url_in(auth.ok())).text()
    };
    let page = sign_in(&tokens);
    assert!(
        page.contains("<p>Signed in as you@x.example.</p>"),
        "{page}"
    );
    let (_, valid) = page
        .split_once("The access token is valid for 1h, until ")
        .expect("a time");
    assert!(
        valid[16..].starts_with(":") && valid[19..].starts_with(" UTC. pizauth refreshes it"),
        "{page}"
    );
    daemon.run(&["revoke", "work"]).ok();
    tokens.as_object_mut().unwrap().remove("refresh_token");
    tokens.as_object_mut().unwrap().remove("id_token");
    let page = sign_in(&tokens);
    assert!(
        page.contains(" UTC. No refresh token came, so you have to sign in again then."),
        "{page}"
    );
    assert!(!page.contains("Signed in as"), "{page}");
}

/// The page of a failed sign-in leads to another one, of which nobody else is told.
#[test]
fn a_failed_sign_in_can_be_tried_again_in_the_browser() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let notify = record.option("auth_notify_cmd", &["PIZAUTH_URL"]);
    daemon.write_config(&format!("{notify}{}", provider.account("work")));
    daemon.start();
    let first = daemon.authorization_url("work");
    // Nobody is told of a sign-in that has ended by then.
    record.wait_lines(1);
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "no"));
    let failed = browser::visit(&first);
    assert_eq!(failed.status(), 403);
    let again = |page: &browser::Page| {
        let text = page.text();
        let (_, token) = text
            .split_once("name=\"token\" value=\"")
            .expect("a button");
        let token = token.split('"').next().unwrap_or_default();
        let url = page.url.join("/pizauth/again").unwrap();
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let elsewhere = [form, ("Sec-Fetch-Site", "cross-site")].into();
        let body = format!("token={token}");
        let forged = browser::send("POST", url.as_str(), &elsewhere, body.as_bytes());
        assert_eq!((forged.status(), forged.header("Refresh")), (404, None));
        let page = browser::post(url.as_str(), &[("token", token)].into());
        let uri = page.header("Refresh")?.strip_prefix("0; url=")?.to_owned();
        Some(uri)
    };
    let second = again(&failed).expect("another sign-in");
    assert_ne!(second, first);
    assert_eq!(again(&failed), None, "once");
    // Loaded again, the page has a button for the sign-in that is pending now.
    let reloaded = browser::get(failed.hops[1].as_str());
    assert_eq!(again(&reloaded), Some(second.clone()));
    assert_eq!(daemon.authorization_url("work"), second);
    assert_eq!(browser::visit(&second).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(record.wait_lines(1), [first]);
}

/// What is dangerous to a terminal, a log or a page.
const HOSTILE: &str = "no\u{1b}]0;title\u{7}\u{1b}[31m <script>alert(\"x\")</script>\r\nERROR - \
                       forged\u{202e}\u{9b}2J & 'more'";

/// The same made safe, on one line.
const SAFE: &str = "no ]0;title [31m <script>alert(\"x\")</script> ERROR - forged 2J & 'more'";

fn clean(text: &str) -> bool {
    !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}')
}

/// A provider's words reach the page, stderr, the hook, `status` and the log: whole, and harmless.
#[test]
fn a_providers_words_are_shown_and_made_safe() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let hook = daemon.record("hook");
    let option = hook.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"]);
    for (at, logged) in [(AUTHORIZE, false), (TOKEN, false), (TOKEN, true)] {
        let hooks = if logged { "" } else { option.as_str() };
        daemon.write_config(&format!("{hooks}{}", provider.account("work")));
        daemon.start();
        let before = hook.lines().len();
        let error = if at == AUTHORIZE {
            "access_denied"
        } else {
            "invalid_grant"
        };
        provider.script(at, Scripted::Error(error, HOSTILE));
        let page = browser::visit(&daemon.authorization_url("work"));
        assert_eq!(page.status(), 403);
        assert_clean(&page.url, "http");
        let text = page.text();
        let escaped = SAFE
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;");
        let reason = format!("<strong>Reason:</strong> {error}: {escaped}</p>");
        assert!(text.contains(&reason) && clean(&text), "{text}");
        let message = format!("authorisation failed: {error}: {SAFE}");
        let log = match logged {
            true => daemon.log().wait_line(&format!("ERROR - work: {message}")),
            false => hook.wait_lines(before + 1)[before].replace('\t', " "),
        };
        assert!(log.contains(&message) && clean(&log), "{log:?}");
        let status = daemon.run(&["status"]).ok().to_owned();
        assert!(
            status.contains(&format!("{error}: {SAFE}")) && clean(&status),
            "{status:?}"
        );
        assert_eq!(status.lines().count(), 1);
        let shown = daemon.run(&["show", "work"]);
        let said = shown.failed(77);
        assert!(
            said.contains(&format!("{error}: {SAFE}")) && clean(said),
            "{said:?}"
        );
        assert!(!daemon.shutdown().contains('\u{1b}'));
    }
}

/// A word of 64 KiB is cut to what fits a notification.
// Covers: words
#[test]
fn long_words_are_cut() {
    let (provider, daemon) = one_account("");
    let long = serde_json::json!({
        "error": "invalid_grant",
        "error_description": "word ".repeat(13_000),
    });
    provider.script(TOKEN, Scripted::json(400, &long));
    let page = browser::visit(&daemon.authorization_url("work"));
    assert!(page.text().len() < 8_000);
    let line = daemon
        .log()
        .wait_line("ERROR - work: authorisation failed: invalid_grant: word");
    assert!(line.chars().count() < 1_000 && line.contains('…'), "{line}");
}

/// The account's status, and tokens of which the provider says how long their sign-in still lasts.
fn status_of_one(daemon: &Daemon) -> Value {
    let status = daemon.run(&["status", "-j"]);
    let status: Value = serde_json::from_str(status.ok()).unwrap();
    status["accounts"][0].clone()
}

fn tokens_that_end_in(secs: u64) -> Scripted {
    let body = json!({
        "access_token": format!("for-{secs}"), "token_type": "Bearer", "expires_in": 3600,
        "refresh_token": "of-seven-days", "refresh_token_expires_in": secs,
    });
    Scripted::json(200, &body)
}

const DAY_SECS: u64 = 24 * 3600;

/// What the provider says of a sign-in's end, once it is known whether refreshing puts it off.
#[test]
fn status_says_until_when_a_sign_in_will_do() {
    let (provider, daemon) = one_account("");
    let week = 7 * DAY_SECS;
    provider.script(TOKEN, tokens_that_end_in(week));
    daemon.sign_in("work");
    let refreshed = |secs: u64| {
        provider.script(TOKEN, tokens_that_end_in(secs));
        daemon.run(&["refresh", "work"]).ok();
        let wanted = format!("for-{secs}\n");
        daemon.eventually(&["show", "work"], |output| output.stdout == wanted);
        status_of_one(&daemon)
    };
    // A refresh may put it off.
    assert_eq!(status_of_one(&daemon)["sign_in_ends"], Value::Null);
    let account = refreshed(week - 10);
    let left = |name: &str| account[name].as_i64().expect("a time");
    let left = left("sign_in_ends_unix") - left("obtained_unix");
    // The clocks are read twice.
    assert!(left.abs_diff(week as i64 - 10) <= 1, "{left}");
    assert_eq!(account["sign_in_ends_by"], "provider");
    let status = daemon.run(&["status"]).ok().to_owned();
    assert!(
        status.contains("; sign in again by 2") && status.ends_with(", the provider says\n"),
        "{status}"
    );
    // It lives two weeks from this refresh on: nobody has to sign in by then.
    assert_eq!(refreshed(2 * week)["sign_in_ends"], Value::Null);
}

/// The notification leads to a sign-in that can be done at once, while the tokens of old still serve:
/// here those of Google for an application in "Testing", which last a week.
#[test]
fn a_sign_in_that_ends_soon_is_announced_and_done_again_beside_the_tokens() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let asked = daemon.record("asked");
    let variables = ["PIZAUTH_ACCOUNT", "PIZAUTH_EVENT", "PIZAUTH_URL"];
    let notify = asked.option("auth_notify_cmd", &variables);
    daemon.write_config(&format!("{notify}{}", provider.account("work")));
    daemon.start();
    provider.script(TOKEN, tokens_that_end_in(7 * DAY_SECS));
    daemon.run(&["show", "work"]);
    // The end of the sign-in would end the command.
    let first = asked.wait_lines(1);
    assert!(first[0].starts_with("work\t(unset)\thttp"), "{first:?}");
    daemon.sign_in("work");
    // Six days and an hour later.
    let mut saved = dump::open(&daemon.dump()).expect("a dump");
    daemon.shutdown();
    let later = Duration::from_secs(6 * DAY_SECS + 3600);
    let grant = &mut saved.grants[0];
    grant.obtained = grant.obtained.before(later);
    grant.sign_ins.began = grant.sign_ins.began.map(|at| at.before(later));
    grant.refresh_ends = grant.refresh_ends.map(|at| at.before(later));
    let left = DAY_SECS - 3600;
    provider.script(TOKEN, tokens_that_end_in(left));
    daemon.start();
    let watcher = daemon.spawn(&["watch", "-j"]);
    watcher.stdout.wait_line("\"watching\"");
    let restored = daemon.run_with(&["restore"], &dump::seal(&saved, [7; 32]));
    assert_eq!(restored.ok(), "");
    let lines = asked.wait_lines(2);
    let line = lines[1].strip_prefix("work\tsign_in_expiring\t");
    let url = line.unwrap_or_else(|| panic!("{lines:?}")).to_owned();
    let event = watcher.stdout.wait_line("sign_in_expiring");
    let event: Value = serde_json::from_str(&event).expect("an event");
    assert_eq!(event["account"], "work");
    assert!(event["expires_unix"].is_i64(), "{event}");
    let log = daemon.log().wait_line("the sign-in ends in 2");
    assert!(
        log.ends_with(": sign in again with `pizauth auth work`"),
        "{log}"
    );
    let account = status_of_one(&daemon);
    assert_eq!(account["sign_in"], "pending", "{account}");
    assert_eq!(account["needs"], "none", "{account}");
    assert_eq!(account["sign_in_ends_by"], "provider", "{account}");
    // Nothing happens by itself.
    assert_eq!(daemon.token("work"), format!("for-{left}"));
    assert_eq!(browser::visit(&url).status(), 200);
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    let account = status_of_one(&daemon);
    assert_eq!(account["sign_in"], "none", "{account}");
    assert_eq!(account["sign_in_ends"], Value::Null, "{account}");
    assert_eq!(asked.lines().len(), 2);
}
