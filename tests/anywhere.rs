//! Signing in from anywhere: every channel, and every way to prove who the client is.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::browser;
use super::support::command::Running;
use super::support::daemon::Daemon;
use super::support::hooks::{Record, option};
use super::support::http::{Pairs, Response};
use super::support::provider::{
    AUTHORIZE, DEVICE, DEVICE_AUTHORIZATION, Gate, PUSH, Provider, REVOKE, Recorded, Scripted,
    TOKEN,
};
use super::support::wait;

/// A daemon that runs with `config`.
fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

fn header<'a>(request: &'a Recorded, name: &str) -> Option<&'a str> {
    request.headers.header(name)
}

fn names(form: &Pairs) -> Vec<&str> {
    form.0.iter().map(|(name, _)| name.as_str()).collect()
}

// ---- client authentication ----------------------------------------------------------------------

#[test]
fn basic_authentication_is_the_only_proof_and_goes_along_with_every_request() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("s&c + é".into()));
    let daemon = started(&provider.account_with(
        "work",
        "client_secret = \"s&c + é\"; client_auth = basic; \
         token_uri_fields = { \"resource\": \"a\", \"resource\": \"b\" }; \
         token_uri_headers = { \"Origin\": \"https://a.example\", \"user-agent\": \"me/1\" };",
    ));
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    let requests = provider.wait_for(TOKEN, 2);
    assert_eq!(
        names(&requests[0].form),
        [
            "grant_type",
            "code",
            "code_verifier",
            "redirect_uri",
            "resource",
            "resource"
        ]
    );
    assert_eq!(
        names(&requests[1].form),
        ["grant_type", "refresh_token", "resource", "resource"]
    );
    for request in &requests {
        let basic = "Basic Y2xpZW50LW9mLXdvcms6cyUyNmMrJTJCKyVDMyVBOQ==";
        assert_eq!(header(request, "Authorization"), Some(basic));
        assert_eq!(header(request, "Origin"), Some("https://a.example"));
        assert_eq!(header(request, "User-Agent"), Some("me/1"));
    }
}

/// A command that prints what is in `file`, and writes down that it ran.
fn secret_cmd(daemon: &Daemon, record: &Record) -> String {
    let file = daemon.path("secret");
    let command = format!(
        "{}; cat '{}'",
        record.command(&["PIZAUTH_ACCOUNT"]),
        file.display()
    );
    option("client_secret_cmd", &command)
}

#[test]
fn a_command_gives_the_secret_once_and_its_failure_costs_nothing() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let cmd = secret_cmd(&daemon, &record);
    daemon.write_config(&provider.account_with("work", &cmd));
    std::fs::write(daemon.path("secret"), "hush\nand more\n").unwrap();
    daemon.start();
    assert_eq!(record.lines(), [""; 0]);
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    let requests = provider.wait_for(TOKEN, 2);
    for request in requests {
        assert_eq!(request.form.get("client_secret"), Some("hush"));
    }
    assert_eq!(record.lines(), ["work"]);
    assert!(!daemon.shutdown().contains("hush"));
}

#[test]
fn a_secret_that_can_not_be_had_is_a_passing_trouble_with_the_commands_words() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let cmd = secret_cmd(&daemon, &record);
    daemon.write_config(&provider.account_with("work", &cmd));
    std::fs::write(daemon.path("secret"), "hush\n").unwrap();
    daemon.start();
    daemon.sign_in("work");
    // The provider says that the secret is wrong: the next request asks for it anew.
    provider.set(|settings| settings.client_secret = Some("hush2".into()));
    std::fs::remove_file(daemon.path("secret")).unwrap();
    daemon.run(&["refresh", "work"]).ok();
    daemon
        .log()
        .wait_line("refreshing has stopped: invalid_client");
    daemon.run(&["refresh", "work"]).ok();
    let line = daemon.log().wait_line("no client secret");
    assert!(
        line.contains("client_secret_cmd exited with status 1: "),
        "{line}"
    );
    assert!(line.contains("No such file"), "{line}");
    assert_eq!(daemon.token("work"), "at-1");
    std::fs::write(daemon.path("secret"), "hush2\n").unwrap();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    assert_eq!(record.lines(), ["work"; 3]);
    let log = daemon.shutdown();
    assert!(!log.contains("hush"), "{log}");
}

// ---- paste, and private-use schemes ---------------------------------------------------------------

#[test]
fn a_pasted_address_completes_the_sign_in_once() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    let address = browser::callback_of(&daemon.authorization_url("work"));
    for stale in [
        address.replace("state=", "state=0"),
        "http://localhost:1/?code=c&state=s".into(),
    ] {
        let output = daemon.run(&["redirect", &stale]);
        assert!(
            output
                .failed(1)
                .contains("no sign-in waits for this address"),
            "{output:?}"
        );
    }
    for (wrong, words) in [
        ("http://localhost/", "has no authorization response in it"),
        (
            &*daemon.authorization_url("work"),
            "has no authorization response in it",
        ),
        (
            "http://localhost/?code=c",
            "no usable authorization response: no state",
        ),
        (
            "http://localhost/?code=c&code=d&state=s",
            "code is there more than once",
        ),
        (" ", "no address given"),
    ] {
        let output = daemon.run(&["redirect", wrong]);
        assert!(output.failed(64).contains(words), "{output:?}");
    }
    assert_eq!(provider.requests(TOKEN).len(), 0);
    let output = daemon.run_with(&["redirect"], format!("\n  {address} \n").as_bytes());
    assert_eq!(output.ok(), "work: authorised\n");
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(
        daemon.run(&["redirect", &address]).ok(),
        "work: authorised\n"
    );
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

#[test]
fn a_paste_that_brings_no_token_says_why() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    provider.script(AUTHORIZE, Scripted::Error("access_denied", "not you"));
    let address = browser::callback_of(&daemon.authorization_url("work"));
    let said = daemon.run(&["redirect", &address]);
    let words = "ERROR - work: authorisation failed: access_denied: not you\n\
                 hint: you refused or closed the consent page\n";
    assert_eq!(said.failed(77), words);
    assert_eq!(
        daemon.run(&["redirect", &address]).failed(77),
        "ERROR - work: authorisation failed: access_denied: not you\nhint: you refused or closed the consent page\n"
    );
    provider.script(TOKEN, Scripted::Error("invalid_grant", "too late"));
    let address = browser::callback_of(&daemon.authorization_url("work"));
    let output = daemon.run(&["redirect", &address]);
    assert!(
        output.failed(77).contains("invalid_grant: too late"),
        "{output:?}"
    );
}

#[test]
fn a_paste_waits_for_the_exchange_and_hears_of_its_end() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let address = browser::callback_of(&daemon.authorization_url("work"));
    let mut first = daemon.spawn(&["redirect", &address]);
    provider.wait_for(TOKEN, 1);
    let second = daemon.spawn(&["redirect", &address]);
    assert!(first.is_running());
    gate.open();
    for waiting in [first, second] {
        assert_eq!(waiting.finish().ok(), "work: authorised\n");
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

#[test]
fn a_private_use_scheme_is_sent_as_it_is_and_its_handler_completes_the_sign_in() {
    let provider = Provider::start();
    let daemon = started(&provider.account_with(
        "work",
        "redirect_uri = \"org.example.pizauth://callback/x\";",
    ));
    let address = browser::callback_of(&daemon.authorization_url("work"));
    assert!(
        address.starts_with("org.example.pizauth://callback/x?code="),
        "{address}"
    );
    assert_eq!(
        daemon.run(&["redirect", &address]).ok(),
        "work: authorised\n"
    );
    let requests = provider.requests(TOKEN);
    assert_eq!(
        requests[0].form.get("redirect_uri"),
        Some("org.example.pizauth://callback/x")
    );
    assert_eq!(daemon.token("work"), "at-1");
}

// ---- revocation -----------------------------------------------------------------------------------

fn revocable(provider: &Provider, options: &str) -> String {
    let uri = provider.url(REVOKE);
    provider.account_with("work", &format!("revocation_uri = \"{uri}\"; {options}"))
}

// Covers: 72
#[test]
fn revoke_forgets_the_tokens_and_tells_the_provider_of_both() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let daemon = started(&revocable(
        &provider,
        "client_secret = \"hush\"; client_auth = basic;",
    ));
    daemon.sign_in("work");
    assert!(provider.accepts("at-1"));
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert!(!provider.accepts("at-1"));
    let forms: Vec<_> = (provider.requests(REVOKE).into_iter())
        .map(|request| request.form.0)
        .collect();
    let form = |token: &str, hint: &str| {
        vec![
            ("token".to_owned(), token.to_owned()),
            ("token_type_hint".to_owned(), hint.to_owned()),
        ]
    };
    let wanted = [form("rt-1", "refresh_token"), form("at-1", "access_token")];
    assert_eq!(forms, wanted);
    daemon.run(&["show", "work"]).failed(77);
    // There is nothing left to tell.
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert_eq!(provider.requests(REVOKE).len(), 2);
    assert!(
        daemon
            .run(&["revoke", "nobody"])
            .failed(67)
            .contains("nobody")
    );
}

#[test]
fn revoke_local_tells_nobody() {
    let provider = Provider::start();
    let daemon = started(&revocable(&provider, ""));
    daemon.sign_in("work");
    assert_eq!(daemon.run(&["revoke", "--local", "work"]).ok(), "");
    daemon.run(&["show", "work"]).failed(77);
    assert!(provider.accepts("at-1"));
    assert_eq!(provider.requests(REVOKE).len(), 0);
}

// Covers: 72
#[test]
fn a_provider_that_does_not_revoke_is_a_remark_and_the_tokens_are_forgotten_first() {
    let provider = Provider::start();
    let daemon = started(&revocable(&provider, ""));
    daemon.sign_in("work");
    let gate = Gate::new();
    let refused = Scripted::Error("unsupported_token_type", "not such");
    provider.script(REVOKE, Scripted::Gated(gate.clone(), Box::new(refused)));
    let mut revoking = daemon.spawn(&["revoke", "work"]);
    provider.wait_for(REVOKE, 1);
    daemon.run(&["show", "work"]).failed(77);
    assert!(revoking.is_running());
    gate.open();
    let output = revoking.finish();
    assert_eq!((output.status, output.stdout.as_str()), (0, ""));
    let remark = "the tokens are forgotten here, but the provider has not revoked them: \
                  unsupported_token_type: not such \
                  (the provider doesn't revoke tokens of this kind)\n";
    assert_eq!(output.stderr, remark);
}

// Covers: 72
#[test]
fn a_revocation_endpoint_in_trouble_is_asked_again() {
    let provider = Provider::start();
    let daemon = started(&revocable(&provider, ""));
    daemon.sign_in("work");
    for _ in 0..2 {
        let mut busy = Response::new(503, "text/plain", "");
        busy.headers.0.push(("Retry-After".into(), "1".into()));
        provider.script(REVOKE, Scripted::Reply(busy));
    }
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert_eq!(provider.requests(REVOKE).len(), 4);
    assert!(!provider.accepts("at-1"));
}

// ---- device codes ---------------------------------------------------------------------------------

/// An account that can only sign in with a device code.
fn device_only(provider: &Provider, options: &str) -> String {
    format!(
        "account \"work\" {{ device_auth_uri = \"{}\"; token_uri = \"{}\"; client_id = \"box\"; \
         scopes = [\"mail\"]; {options} }}\n",
        provider.url(DEVICE_AUTHORIZATION),
        provider.token_uri()
    )
}

/// The same beside the browser.
fn both(provider: &Provider, options: &str) -> String {
    let uri = provider.url(DEVICE_AUTHORIZATION);
    provider.account_with("work", &format!("device_auth_uri = \"{uri}\"; {options}"))
}

/// What `show` says once there is a code.
fn shown_code(daemon: &Daemon) -> String {
    let output = daemon.eventually(&["show", "work"], |output| {
        output.stderr.contains("enter the code")
    });
    output.failed(77).to_owned()
}

fn enter(provider: &Provider, query: &str) {
    let page = browser::get(&provider.url(&format!("{DEVICE}?{query}")));
    assert_eq!(page.status(), 200);
}

#[test]
fn a_device_code_signs_in_where_there_is_no_browser() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let variables = [
        "PIZAUTH_ACCOUNT",
        "PIZAUTH_URL",
        "PIZAUTH_USER_CODE",
        "PIZAUTH_VERIFICATION_URI",
    ];
    let notify = record.option("auth_notify_cmd", &variables);
    let resource = "token_uri_fields = { \"resource\": \"r\" };";
    daemon.write_config(&format!("{notify}{}", device_only(&provider, resource)));
    daemon.start();
    let page = provider.url(DEVICE);
    assert_eq!(
        shown_code(&daemon),
        format!(
            "ERROR - Access token unavailable until authorised with URL {page}?user_code=USER-1\n\
             on any device: open {page} and enter the code USER-1\n"
        )
    );
    assert_eq!(
        daemon.run(&["show", "-u", "work"]).failed(77),
        "ERROR - Access token unavailable until authorised\n"
    );
    let status = daemon.run(&["status"]);
    let words = format!("; open {page} and enter the code USER-1 within ");
    assert!(status.ok().contains(&words), "{status:?}");
    assert_eq!(
        record.wait_lines(1),
        [format!("work\t{page}?user_code=USER-1\tUSER-1\t{page}")]
    );
    provider.wait_for(TOKEN, 1);
    enter(&provider, "user_code=USER-1");
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    let asked = provider.requests(DEVICE_AUTHORIZATION);
    assert_eq!(asked.len(), 1);
    let pairs = [("client_id", "box"), ("scope", "mail"), ("resource", "r")];
    assert_eq!(asked[0].form, Pairs::from(pairs));
    let polls = provider.requests(TOKEN);
    let pairs = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", "dc-1"),
        ("client_id", "box"),
        ("resource", "r"),
    ];
    assert_eq!(polls[0].form, Pairs::from(pairs));
}

#[test]
fn whichever_channel_is_first_wins_and_the_others_die() {
    let provider = Provider::start();
    let daemon = started(&both(&provider, ""));
    // The code wins: the browser that comes late hears so, and nothing is exchanged.
    let url = browser::url_in(&shown_code(&daemon));
    assert!(url.starts_with(&provider.auth_uri()), "{url}");
    enter(&provider, "user_code=USER-1");
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    let page = browser::visit(&url);
    assert_eq!(page.title(), "Account “work” is authorised - pizauth");
    assert!(page.text().contains("It already was"), "{}", page.text());
    assert_eq!(daemon.token("work"), "at-1");
    // The browser wins: the code is no longer asked about.
    daemon.run(&["revoke", "work"]).ok();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let polls = provider.requests(TOKEN).len();
    let url = browser::url_in(&shown_code(&daemon));
    // A poll is under way when the browser comes.
    provider.wait_for(TOKEN, polls + 1);
    assert_eq!(browser::visit(&url).status(), 200);
    enter(&provider, "user_code=USER-2");
    assert_eq!(daemon.token("work"), "at-2");
    gate.open();
    let grants: Vec<_> = (provider.requests(TOKEN).iter())
        .filter_map(|request| request.form.get("grant_type").map(str::to_owned))
        .collect();
    assert_eq!(
        grants.last().map(String::as_str),
        Some("authorization_code")
    );
    assert_eq!(provider.requests(TOKEN).len(), polls + 2);
}

// Covers: 62
#[test]
fn a_refused_code_ends_the_sign_in_and_says_so() {
    let provider = Provider::start();
    let daemon = started(&device_only(&provider, ""));
    shown_code(&daemon);
    enter(&provider, "user_code=USER-1&deny=1");
    let line = daemon.log().wait_line("authorisation failed");
    let words = "the person who entered the code refused (access_denied: the user said no)";
    assert!(line.contains(words), "{line}");
    let status = daemon.run(&["status"]);
    assert!(status.ok().contains(words), "{status:?}");
    // The next one has a new code.
    assert!(shown_code(&daemon).contains("USER-2"));
}

// Covers: 62
#[test]
fn an_expired_code_is_replaced_when_somebody_asks() {
    let provider = Provider::start();
    provider.set(|settings| settings.device_expires_in = 2);
    let daemon = started(&both(&provider, ""));
    assert!(shown_code(&daemon).contains("USER-1"));
    daemon
        .log()
        .wait_line("no sign-in by code: the code has expired before anybody entered it");
    provider.set(|settings| settings.device_expires_in = 600);
    let first = daemon.run(&["show", "work"]).stderr;
    let again = shown_code(&daemon);
    assert!(again.contains("USER-2"), "{again}");
    assert_eq!(browser::url_in(&first), browser::url_in(&again));
}

// Covers: 59
#[test]
fn polling_slows_down_backs_off_and_goes_on() {
    let provider = Provider::start();
    let daemon = started(&device_only(&provider, ""));
    for trouble in [
        Scripted::reply(502, "text/html", "<html>"),
        Scripted::reply(
            428,
            "application/json",
            "{\"error\":\"authorization_pending\"}",
        ),
        Scripted::Reset,
        Scripted::HappyButLost,
    ] {
        provider.script(TOKEN, trouble);
    }
    shown_code(&daemon);
    provider.wait_for(TOKEN, 3);
    enter(&provider, "user_code=USER-1");
    // The reply with the tokens is lost, and the provider gives them only once.
    let line = daemon.log().wait_line("authorisation failed");
    let words = "the sign-in was agreed to, but the provider's reply was lost (invalid_grant";
    assert!(line.contains(words), "{line}");
    assert!(line.contains("sign in again"), "{line}");
}

/// Not yet, as GitHub says it and as Google does; whoever is asked to slow down stays slow.
// Covers: 60, 61
#[test]
fn every_way_to_say_not_yet() {
    let provider = Provider::start();
    let json = |status, body: &str| Scripted::reply(status, "application/json", body);
    provider.script(TOKEN, json(403, r#"{"error":"slow_down"}"#));
    provider.script(TOKEN, json(200, r#"{"error":"authorization_pending"}"#));
    let daemon = started(&device_only(&provider, ""));
    shown_code(&daemon);
    provider.wait_for(TOKEN, 2);
    enter(&provider, "user_code=USER-1");
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    let polls = provider.requests(TOKEN);
    assert_eq!(polls.len(), 3);
    for pair in polls.windows(2) {
        // Five seconds more than the interval; the network may hold the first of a pair up.
        let gap = pair[1].at.duration_since(pair[0].at);
        assert!(gap > Duration::from_secs(5), "{gap:?}");
    }
}

// Covers: 62
#[test]
fn every_way_to_say_no() {
    let provider = Provider::start();
    let cases = [
        ("access_denied", "the person who entered the code refused"),
        (
            "authorization_declined",
            "the person who entered the code refused",
        ),
        (
            "expired_token",
            "the code has expired before anybody entered it",
        ),
    ];
    let account = |(name, _): &(&str, &str)| {
        let own = format!("{TOKEN}/{name}");
        let refusal = format!(r#"{{"error":"{name}"}}"#);
        provider.script(&own, Scripted::reply(400, "application/json", &refusal));
        device_only(&provider, "")
            .replace("\"work\"", &format!("\"{name}\""))
            .replace(&provider.token_uri(), &provider.url(&own))
    };
    let daemon = started(&cases.iter().map(account).collect::<String>());
    for (name, _) in &cases {
        daemon.run(&["show", name]).failed(77);
    }
    for (name, words) in &cases {
        let line = daemon.log().wait_line(&format!("{words} ({name})"));
        assert!(line.contains(&format!(" - {name}: ")), "{line}");
        assert_eq!(provider.requests(&format!("{TOKEN}/{name}")).len(), 1);
    }
}

/// As older providers put it: another name for the page, a number as text, no end.
// Covers: 63
#[test]
fn a_device_code_by_other_names() {
    let provider = Provider::start();
    let page = provider.url(DEVICE);
    let code = format!(
        r#"{{"device_code":"d","user_code":"ABCD","verification_url":"{page}","interval":"5"}}"#
    );
    let answer = Scripted::reply(200, "application/json", &code);
    provider.script(DEVICE_AUTHORIZATION, answer);
    let tokens = r#"{"access_token":"a","token_type":"bearer","refresh_token":"r"}"#;
    provider.script(TOKEN, Scripted::reply(200, "application/json", tokens));
    let daemon = started(&device_only(&provider, ""));
    assert!(shown_code(&daemon).contains(&format!("open {page} and enter the code ABCD")));
    let status = daemon.run(&["status"]);
    assert!(status.ok().contains("within 29m"), "{status:?}");
    daemon.eventually(&["show", "work"], |output| output.stdout == "a\n");
    let asked = provider.requests(DEVICE_AUTHORIZATION).remove(0);
    let poll = provider.requests(TOKEN).remove(0);
    assert_eq!(poll.form.get("device_code"), Some("d"));
    let gap = poll.at.duration_since(asked.at);
    assert!(gap > Duration::from_millis(4_500), "{gap:?}");
}

#[test]
fn a_provider_without_device_codes_leaves_the_browser() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let notify = record.option("auth_notify_cmd", &["PIZAUTH_URL", "PIZAUTH_USER_CODE"]);
    daemon.write_config(&format!("{notify}{}", both(&provider, "")));
    let refused = Scripted::Error("invalid_scope", "Invalid device flow scope");
    provider.script(DEVICE_AUTHORIZATION, refused);
    daemon.start();
    let url = daemon.authorization_url("work");
    daemon
        .log()
        .wait_line("no sign-in by code: invalid_scope: Invalid device flow scope");
    assert_eq!(record.wait_lines(1), [format!("{url}\t(unset)")]);
    assert_eq!(browser::visit(&url).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(provider.requests(DEVICE_AUTHORIZATION).len(), 1);
}

// ---- requests that are pushed -----------------------------------------------------------------------

/// Where a sign-in begins, once the issuer has named its endpoints.
pub fn located(daemon: &Daemon) -> String {
    daemon.eventually(&["show", "work"], |output| output.status == 77);
    daemon.authorization_url("work")
}

/// Opens a short address until it leads elsewhere.
pub fn led_on(short: &str) -> String {
    wait::until("the way on", || {
        let page = browser::get(short);
        let waits = page
            .header("Refresh")
            .is_some_and(|it| short.ends_with(&it["1; url=".len()..]));
        assert!(page.status() == 302 || waits, "{}", page.text());
        page.header("Location").map(str::to_owned)
    })
}

#[test]
fn a_request_is_pushed_when_a_browser_comes_and_again_when_it_has_expired() {
    let provider = Provider::start();
    provider.set(|settings| {
        settings.pushed_only = true;
        settings.client_secret = Some("hush".into());
        settings.metadata_extras = vec![("device_authorization_endpoint".into(), json!(null))];
    });
    let daemon = started(&provider.issuer_account("work", "client_secret = \"hush\";"));
    let short = located(&daemon);
    assert!(short.starts_with("http://localhost:"), "{short}");
    assert_eq!(provider.requests(PUSH).len(), 0, "nobody has come yet");
    let brief = json!({ "request_uri": "brief", "expires_in": 1 }).to_string();
    provider.script(PUSH, Scripted::reply(201, "application/json", &brief));
    let first = led_on(&short);
    assert!(first.ends_with("&request_uri=brief"), "{first}");
    wait::until("its end", || (led_on(&short) != first).then_some(()));

    let on = led_on(&short);
    let pushed = &provider.requests(PUSH)[1];
    let form = |name| pushed.form.get(name).unwrap_or_default();
    assert!(header(pushed, "Authorization").is_some_and(|it| it.starts_with("Basic ")));
    assert_eq!(
        (form("client_id"), form("scope")),
        ("client-of-work", "mail offline")
    );
    assert_eq!(
        (form("response_type"), form("code_challenge_method")),
        ("code", "S256")
    );
    let name = "urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A0";
    let wanted = format!("/authorize?client_id=client-of-work&request_uri={name}");
    assert_eq!(on, provider.url(&wanted));
    // It lives for a minute, in which it isn't pushed again; nor does a restart lose it.
    daemon.run(&["restart"]).ok();
    assert_eq!(led_on(&short), on);
    assert_eq!(provider.requests(PUSH).len(), 2);
    assert_eq!(browser::visit(&on).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn a_request_that_the_provider_does_not_take_is_told_to_the_browser() {
    let provider = Provider::start();
    provider.set(|settings| settings.pushed_only = true);
    provider.script(PUSH, Scripted::Error("invalid_request", "not like this"));
    let daemon = started(&provider.issuer_account("work", ""));
    let short = located(&daemon);
    let page = wait::until("the refusal", || {
        let page = browser::visit(&short);
        (page.status() == 403).then_some(page)
    });
    assert!(
        page.text().contains("invalid_request: not like this"),
        "{}",
        page.text()
    );
    // The next one tries again.
    assert_eq!(browser::visit(&led_on(&short)).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
}

// ---- pizauth auth ---------------------------------------------------------------------------------

#[test]
fn auth_shows_every_way_waits_and_ends_with_the_state() {
    let provider = Provider::start();
    let daemon = started(&both(&provider, ""));
    let first = daemon.spawn(&["auth", "work"]);
    first.stdout.wait_line("  USER-1");
    let second = daemon.spawn(&["auth", "--qr", "work"]);
    second.stdout.wait_line("▀");
    for running in [&first, &second] {
        running.stderr.wait_line("work: waiting for the sign-in");
    }
    let short = browser::url_in(&first.stdout.text());
    let url = daemon.authorization_url("work");
    let page = provider.url(DEVICE);
    let ways = format!(
        "Sign in with a browser on this machine:\n  {short}\n\
         If it runs elsewhere, open\n  {url}\nand paste the address that it ends at here while \
         this waits, or into `pizauth redirect`.\n\
         Or on any device: open\n  {page}\nand enter the code\n  USER-1\n"
    );
    assert_eq!(first.stdout.text(), ways);
    assert!(second.stdout.text().starts_with(&ways));
    assert!(
        short.starts_with("http://localhost:") && short.len() < 50,
        "{short}"
    );
    let page = browser::visit(&short);
    assert_eq!((page.status(), page.hops[1].as_str()), (200, &*url));
    // The address is of that request alone.
    assert_eq!(browser::get(&short).status(), 404);
    for running in [first, second] {
        let output = running.finish();
        assert_eq!(output.status, 0, "{output:?}");
        let last = output.stdout.lines().last().unwrap_or_default().to_owned();
        assert!(
            last.starts_with("work: Active access token (valid for 59m"),
            "{last}"
        );
        assert_eq!(output.stderr, "work: waiting for the sign-in\n");
    }
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn auth_signs_in_anew_with_a_code_and_tells_of_a_refusal() {
    let provider = Provider::start();
    let daemon = started(&device_only(&provider, ""));
    let waiting = daemon.spawn(&["auth", "work"]);
    waiting.stderr.wait_line("waiting for the sign-in");
    enter(&provider, "user_code=USER-1");
    assert_eq!(waiting.finish().status, 0);
    assert_eq!(daemon.token("work"), "at-1");
    let waiting = daemon.spawn(&["auth", "work"]);
    waiting.stderr.wait_line("waiting for the sign-in");
    enter(&provider, "user_code=USER-2&deny=1");
    let output = waiting.finish();
    assert_eq!(output.status, 77, "{output:?}");
    let words = "ERROR - work: authorisation failed: the person who entered the code refused \
                 (access_denied: the user said no)\n";
    assert!(output.stderr.ends_with(words), "{output:?}");
    // The token that was there stays.
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["auth", "nobody"]).failed(67);
}

#[test]
fn auth_that_is_interrupted_leaves_the_request_pending() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    let waiting = daemon.spawn(&["auth", "work"]);
    waiting.stderr.wait_line("waiting for the sign-in");
    waiting.signal(Signal::SIGINT);
    let output = waiting.finish();
    assert_eq!(output.status, 130);
    let short = browser::url_in(&output.stdout);
    let ways = daemon.run(&["auth", "--no-wait", "work"]);
    assert_eq!(ways.ok(), output.stdout);
    let url = daemon.authorization_url("work");
    assert_eq!(browser::get(&short).header("Location"), Some(&*url));
    assert_eq!(browser::visit(&url).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn auth_opens_the_address_with_the_desktops_own_command() {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    let record = daemon.record("opened");
    let opener = format!("URL=$1; {}", record.command(&["URL"]));
    let write = openers(&mut daemon);
    write(&opener);
    daemon.start();
    let output = daemon.run(&["auth", "-on", "work"]);
    assert_eq!(record.wait_lines(1), [browser::url_in(output.ok())]);
    assert_eq!(output.stderr, "");
    write("exit 3");
    let failed = daemon.run(&["auth", "-on", "work"]);
    assert_eq!(failed.stdout, output.stdout);
    assert!(
        failed
            .stderr
            .contains("open failed (exit status: 3): open the address yourself\n"),
        "{failed:?}"
    );
}

/// Puts programs that open addresses into the daemon's PATH; what they do is to be given.
fn openers(daemon: &mut Daemon) -> impl Fn(&str) + use<> {
    let bin = daemon.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    daemon.env("PATH", &path);
    move |script| {
        for name in ["xdg-open", "open"] {
            std::fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(bin.join(name), mode).unwrap();
        }
    }
}

/// While it waits, its standard input takes what a browser elsewhere ended at, with and without an end
/// of line; what is none is remarked upon.
#[test]
fn auth_takes_a_pasted_address_while_it_waits() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    for token in ["at-1", "at-2"] {
        let mut waiting = daemon.spawn(&["auth", "work"]);
        waiting.stderr.wait_line("waiting for the sign-in");
        waiting.say("\nhttps://example.com/nothing");
        waiting.stderr.wait_line("no authorization response in it");
        // It was printed first, but another thread reads it.
        waiting.stdout.wait_line("paste the address");
        let shown = waiting.stdout.text();
        let long = shown
            .split_whitespace()
            .filter(|it| it.starts_with("http"))
            .nth(1);
        let back = browser::callback_of(long.expect("an address"));
        match token {
            "at-1" => waiting.say(&back),
            _ => waiting.feed(back.as_bytes()),
        }
        let output = waiting.finish();
        assert_eq!(output.status, 0, "{output:?}");
        assert!(
            output.stdout.contains("\nwork: Active access token"),
            "{output:?}"
        );
        assert_eq!(daemon.token("work"), token);
    }
}

/// Who has just asked for a sign-in needs no notification, unless nothing else opens a browser.
#[test]
fn auth_that_opens_a_browser_runs_no_command_that_may_open_it_again() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let opened = daemon.record("opened");
    let open = format!("URL=$1; {}", opened.command(&["URL"]));
    openers(&mut daemon)(&open);
    let hook = option("auth_notify_cmd", "xdg-open \"$PIZAUTH_URL\"");
    daemon.write_config(&(hook + &provider.account("work") + &provider.account("home")));
    daemon.start();
    let short = browser::url_in(daemon.run(&["auth", "-on", "work"]).ok());
    assert_eq!(opened.wait_lines(1), [short.as_str()]);
    daemon.run(&["auth", "-n", "home"]).ok();
    let home = daemon.authorization_url("home");
    assert_eq!(opened.wait_lines(2), [short.as_str(), &home]);
    // The one that is pending isn't forgotten.
    daemon.run(&["refresh", "work"]);
    assert_eq!(opened.lines().len(), 2);
}

/// A loop over names that runs `auth` keeps its names, from a file or a pipe.
#[test]
fn auth_leaves_a_shells_loop_its_input() {
    let provider = Provider::start();
    let daemon = started(&(provider.account("work") + &provider.account("home")));
    std::fs::write(daemon.path("names"), "work\nhome\n").unwrap();
    let pizauth = daemon.command(&["auth"]).get_program().to_owned();
    let body = "while read -r name; do \"$0\" auth \"$name\"; echo \"end of $name\"; done";
    for (number, script) in [
        format!("{body} <names"),
        format!("cat names | {{ sleep 0.2; {body}; }}"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut shell = daemon.command(&[]);
        let env: Vec<_> = (shell.get_envs())
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        shell = daemon.neighbour("/bin/sh");
        shell.arg("-c").arg(&script).arg(&pizauth);
        shell.env_clear().envs(env);
        let running = Running::start(&mut shell);
        for name in ["work", "home"] {
            running
                .stderr
                .wait_line(&format!("{name}: waiting for the sign-in"));
            let visited = browser::visit(&daemon.authorization_url(name));
            assert_eq!(visited.status(), 200, "{number}");
            running.stdout.wait_line(&format!("end of {name}"));
        }
        let output = running.finish();
        assert!(!output.stderr.contains("ERROR"), "{output:?}");
        for name in ["work", "home"] {
            daemon.run(&["revoke", "--local", name]).ok();
        }
    }
}
