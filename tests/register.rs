//! `pizauth register`: a client is registered, and its account works as printed.

use serde_json::{Value, json};

use super::support::browser;
use super::support::daemon::Daemon;
use super::support::provider::{Dormant, METADATA, OPENID, Provider, REGISTER, Scripted, TOKEN};

const BY_HAND: &str = "hint: register pizauth by hand, as the provider's documentation says, and \
                       put issuer and client_id into pizauth.conf\n";

fn bodies(provider: &Provider) -> Vec<Value> {
    let requests = provider.requests(REGISTER).into_iter();
    let bodies = requests.map(|request| serde_json::from_slice(&request.body).unwrap());
    bodies.collect()
}

// Covers: 71
#[test]
fn the_account_that_is_printed_signs_in() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let issuer = provider.url("");
    let output = daemon.run(&["register", "-n", "work", "-s", "mail", "-s", "x:y", &issuer]);
    let said = "registered: put this account into pizauth.conf, and run `pizauth reload`\n";
    assert_eq!(output.stderr, said);
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    assert_eq!(
        bodies(&provider),
        [json!({
            "client_name": "pizauth",
            "application_type": "native",
            "redirect_uris": ["http://127.0.0.1/"],
            "grant_types": ["authorization_code", "refresh_token", device],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": "mail x:y",
        })]
    );
    daemon.write_config(output.done());
    daemon.start();
    let shown = daemon.eventually(&["show", "work"], |output| output.status == 77);
    assert_eq!(
        browser::visit(&browser::url_in(&shown.stderr)).status(),
        200
    );
    assert_eq!(daemon.token("work"), "at-1");
    let request = &provider.requests(TOKEN)[0];
    assert_eq!(request.form.get("client_id"), Some("registered-1"));
    assert_eq!(request.form.get("client_secret"), None);
}

// Covers: 71
#[test]
fn one_redirect_after_the_other_is_tried() {
    for (accepted, count) in [
        ("http://127.0.0.1/", 1),
        ("http://localhost/", 2),
        ("localhost.pizauth:/", 3),
        ("https://", 3),
    ] {
        let provider = Provider::start();
        provider.set(|settings| settings.redirects = Some(accepted.into()));
        let daemon = Daemon::new("");
        let output = daemon.run(&["register", &provider.url("")]);
        assert_eq!(bodies(&provider).len(), count);
        if accepted == "https://" {
            let words = format!(
                "ERROR - the provider takes no redirect to this machine: 127.0.0.1:{} answered \
                 400: invalid_redirect_uri: not this one\n{BY_HAND}",
                provider.port()
            );
            assert_eq!(output.failed(1), words);
        } else {
            let line = format!("    redirect_uri = \"{accepted}");
            assert!(output.stdout.contains(&line), "{output:?}");
        }
    }
}

#[test]
fn device_codes_are_given_up_when_they_cost_the_rest() {
    let provider = Provider::start();
    let refused = Scripted::Error("invalid_client_metadata", "no such grant type");
    provider.script(REGISTER, refused);
    let output = Daemon::new("").run(&["register", &provider.url("")]);
    assert_eq!(output.status, 0);
    let grants: Vec<usize> = bodies(&provider)
        .iter()
        .map(|body| body["grant_types"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(grants, [3, 2]);
}

#[test]
fn a_scope_that_is_refused_is_answered_with_those_that_there_are() {
    let provider = Provider::start();
    let scopes = ("scopes_supported".to_owned(), json!(["mail", "post"]));
    provider.set(|settings| settings.metadata_extras.push(scopes));
    for _ in 0..2 {
        let refused = Scripted::Error("invalid_client_metadata", "no such scope");
        provider.script(REGISTER, refused);
    }
    let said = Daemon::new("").run(&["register", "-s", "bogus", &provider.url("")]);
    let hint = "no such scope\nhint: the provider lists these scopes: mail post\n";
    assert!(said.failed(1).ends_with(hint), "{said:?}");
}

#[test]
fn a_secret_that_comes_along_is_in_the_account_and_nowhere_else() {
    let provider = Provider::start();
    provider.set(|settings| {
        for (name, value) in [
            ("client_secret", "hush"),
            ("token_endpoint_auth_method", "client_secret_basic"),
        ] {
            settings
                .registration_extras
                .push((name.into(), value.into()));
        }
    });
    let output = Daemon::new("").run(&["register", &provider.url("")]);
    assert!(
        output
            .stdout
            .contains("    client_secret = \"hush\";\n    client_auth = basic;\n")
    );
    assert!(!output.stderr.contains("hush"), "{output:?}");
}

#[test]
fn a_provider_that_wants_a_token_first_gets_it_from_a_command() {
    let provider = Provider::start();
    provider.set(|settings| settings.initial_access_token = Some("iat-1".into()));
    let daemon = Daemon::new("");
    let issuer = provider.url("");
    let said = daemon.run(&["register", &issuer]);
    assert!(
        said.failed(1).ends_with(
            "answered 401\nhint: get an initial access token from the provider, and name a \
             command that prints it with `--token-cmd`\n"
        ),
        "{said:?}"
    );
    for (command, words) in [
        ("false", "the command of --token-cmd failed: exit status: 1"),
        ("true", "the command of --token-cmd printed no token"),
        (
            "echo wrong",
            "hint: the token may be spent or expired: get another",
        ),
    ] {
        let said = daemon.run(&["register", "-t", command, &issuer]);
        assert!(said.failed(1).contains(words), "{said:?}");
        assert!(!said.stderr.contains("iat-1"));
    }
    let output = daemon.run(&["register", "--token-cmd", "echo iat-1; echo more", &issuer]);
    assert_eq!(output.status, 0, "{output:?}");
}

// Covers: 71
#[test]
fn what_can_not_be_is_an_error_that_says_what_to_do() {
    let provider = Provider::start();
    let daemon = Daemon::new("");
    let issuer = provider.url("");
    let none = ("registration_endpoint".to_owned(), Value::Null);
    provider.set(|settings| settings.metadata_extras.push(none));
    let words = format!(
        "ERROR - {issuer} has no registration_endpoint: programs can't register themselves\n{BY_HAND}"
    );
    assert_eq!(daemon.run(&["register", &issuer]).failed(1), words);
    // The account would have nowhere to sign in.
    let document = json!({ "issuer": issuer, "authorization_endpoint": provider.auth_uri(),
        "registration_endpoint": provider.url(REGISTER), "token_endpoint": "/token" });
    provider.script(METADATA, Scripted::json(200, &document));
    let said = daemon.run(&["register", &issuer]);
    assert_eq!(
        said.failed(1),
        format!(
            "ERROR - nothing is known of {issuer}: 127.0.0.1:{} has a document whose token_endpoint is \
             no URL\nhint: tell the provider; auth_uri and token_uri work without its document\n",
            provider.port()
        )
    );
    assert_eq!(provider.requests(REGISTER).len(), 0);
    provider.script(METADATA, Scripted::reply(404, "text/plain", ""));
    provider.script(OPENID, Scripted::reply(200, "text/html", "<html>"));
    let said = daemon.run(&["register", &issuer]);
    assert!(
        said.failed(1)
            .contains("has a web page instead of JSON\nhint: "),
        "{said:?}"
    );
    for odd in [
        "http://op.example",
        "https://me@op.example",
        "op example",
        "",
    ] {
        let said = daemon.run(&["register", odd]);
        assert!(
            said.failed(1).ends_with(
                "is no https address\nhint: an issuer looks like https://login.example.com\n"
            ),
            "{said:?}"
        );
    }
    let dormant = Dormant::new();
    let said = daemon.run(&["register", &dormant.url("")]);
    assert!(
        said.failed(75).starts_with("ERROR - nothing is known of "),
        "{said:?}"
    );
    assert_eq!(provider.requests(REGISTER).len(), 0);
}
