//! Signing in from anywhere: every channel, and every way to prove who the client is.

use super::support::browser;
use super::support::daemon::Daemon;
use super::support::hooks::{Record, option};
use super::support::http::{Pairs, Response};
use super::support::provider::{AUTHORIZE, Gate, Provider, REVOKE, Recorded, Scripted, TOKEN};

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
            output.failed(1).contains("nobody waits for this address"),
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
