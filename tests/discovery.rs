//! Accounts whose endpoints their issuer says (RFC 8414), and what it says of authorization
//! responses (RFC 9207).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::browser;
use super::support::daemon::Daemon;
use super::support::provider::{
    AUTHORIZE, DEVICE, DEVICE_AUTHORIZATION, Dormant, METADATA, OPENID, Provider, REVOKE, Scripted,
    TOKEN,
};

fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

/// A provider without device codes, so that a sign-in has its URL at once.
fn plain() -> Provider {
    let provider = Provider::start();
    says(&provider, "device_authorization_endpoint", Value::Null);
    provider
}

fn says(provider: &Provider, member: &str, value: Value) {
    provider.set(|settings| settings.metadata_extras.push((member.into(), value)));
}

/// Where to sign in, once that is known.
fn url(daemon: &Daemon) -> String {
    let output = daemon.eventually(&["show", "work"], |output| output.status == 77);
    browser::url_in(&output.stderr)
}

fn signed_in(provider: &Provider, options: &str) -> Daemon {
    let daemon = started(&provider.issuer_account("work", options));
    assert_eq!(browser::visit(&url(&daemon)).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    daemon
}

fn status(daemon: &Daemon) -> Value {
    let text = daemon.run(&["status", "-j"]).ok().to_owned();
    let mut status: Value = serde_json::from_str(&text).unwrap();
    status["accounts"][0].take()
}

/// Whoever doesn't want to wait hears at once what is known.
#[test]
fn an_issuer_that_has_failed_keeps_nobody_waiting() {
    let provider = Provider::start();
    let config = provider.issuer_account("work", "");
    let down = provider.go_down();
    let daemon = started(&config);
    // The first has to ask the issuer.
    let said = daemon.run(&["auth", "-n", "work"]).failed(75).to_owned();
    let words = "ERROR - work: signing in isn't possible yet: no endpoints from http://127.0.0.1:";
    assert!(said.starts_with(words), "{said}");
    // It isn't asked again for ten seconds, which is longer than this takes.
    let before = Instant::now();
    for flags in [&["auth", "-n", "work"][..], &["auth", "work"]] {
        assert_eq!(daemon.run(flags).failed(75), said);
    }
    assert!(before.elapsed() < Duration::from_secs(5));
    let awake = down.wake();
    // When it is asked and doesn't answer, the reason of the last time will do.
    for path in [METADATA, OPENID] {
        awake.script(path, Scripted::Hang);
    }
    awake.wait_for(METADATA, 1);
    assert_eq!(daemon.run(&["auth", "-n", "work"]).failed(75), said);
}

#[test]
fn an_issuer_a_client_and_scopes_are_all_that_an_account_needs() {
    let provider = plain();
    let daemon = started(&provider.issuer_account("work", ""));
    let issuer = provider.url("");
    assert_eq!(
        daemon.run(&["status"]).ok(),
        "work: No access token; sign in with `pizauth auth work`\n"
    );
    assert_eq!(
        status(&daemon)["discovery"],
        json!({ "issuer": issuer, "state": "not_yet" })
    );
    assert_eq!(provider.requests(METADATA).len(), 0);
    assert_eq!(browser::visit(&url(&daemon)).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    let line = daemon.run(&["status"]).ok().to_owned();
    let words = format!("; endpoints of {issuer}: browser, revocation\n");
    assert!(line.ends_with(&words), "{line}");
    assert_eq!(
        status(&daemon)["discovery"],
        json!({
            "issuer": issuer,
            "state": "done",
            "auth_uri": provider.auth_uri(),
            "token_uri": provider.token_uri(),
            "revocation_uri": provider.url(REVOKE),
        })
    );
    // Kept for the life of the process, which a restart in place doesn't end.
    daemon.run(&["reload"]).ok();
    daemon.run(&["restart"]).ok();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-3\n");
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert_eq!(provider.requests(REVOKE).len(), 2);
    let asked = provider.requests(METADATA);
    assert_eq!(asked.len(), 1);
    assert_eq!(provider.requests(OPENID).len(), 0);
    assert_eq!(asked[0].method, "GET");
}

// Covers: 70
#[test]
fn openid_connects_document_is_the_second_choice() {
    let provider = plain();
    provider.script(METADATA, Scripted::reply(404, "text/html", "<html>nothing"));
    let base = provider.url("");
    let document = json!({
        "issuer": format!("{base}/"),
        "authorization_endpoint": provider.auth_uri(),
        "token_endpoint": provider.token_uri(),
        "subject_types_supported": ["public"],
    });
    provider.script(OPENID, Scripted::json(200, &document));
    let _daemon = signed_in(&provider, "");
    assert_eq!(provider.requests(METADATA).len(), 1);
    assert_eq!(provider.requests(OPENID).len(), 1);
}

#[test]
fn what_the_config_says_counts_more() {
    let (provider, other) = (plain(), Provider::tagged("other-"));
    let options = format!("token_uri = \"{}\";", other.token_uri());
    let daemon = started(&provider.issuer_account("work", &options));
    let page = browser::visit(&url(&daemon));
    // The code is none of the other server's.
    assert_eq!(page.status(), 403);
    assert_eq!(other.requests(TOKEN).len(), 1);
    assert_eq!(provider.requests(TOKEN).len(), 0);
}

/// What the document has in its place may be unusable.
#[test]
fn what_the_config_says_is_not_looked_at_in_the_document() {
    for odd in [
        Value::Null,
        json!(7),
        json!("/x"),
        json!("http://op.example/x"),
    ] {
        let provider = plain();
        says(&provider, "token_endpoint", odd.clone());
        says(&provider, "revocation_endpoint", odd.clone());
        signed_in(
            &provider,
            &format!("token_uri = \"{}\";", provider.token_uri()),
        );
        let provider = plain();
        says(&provider, "authorization_endpoint", odd.clone());
        signed_in(
            &provider,
            &format!("auth_uri = \"{}\";", provider.auth_uri()),
        );
        let provider = Provider::start();
        says(&provider, "authorization_endpoint", odd.clone());
        says(&provider, "device_authorization_endpoint", odd.clone());
        let uri = provider.url(DEVICE_AUTHORIZATION);
        let options = format!("device_auth_uri = \"{uri}\";");
        let daemon = started(&provider.issuer_account("work", &options));
        let _ = daemon.run(&["show", "work"]);
        daemon.eventually(&["status"], |output| output.stdout.contains("USER-1"));
        // A client that signs in for itself needs neither.
        let provider = plain();
        says(&provider, "authorization_endpoint", odd);
        let options = "client_secret = \"s\"; grant = \"client_credentials\";";
        let daemon = started(&provider.issuer_account("work", options));
        let _ = daemon.run(&["show", "-w", "20s", "work"]);
        provider.wait_for(TOKEN, 1);
    }
}

#[test]
fn every_channel_that_the_issuer_names_is_offered() {
    let provider = Provider::start();
    let daemon = started(&provider.issuer_account("work", ""));
    let shown = daemon.run(&["auth", "--no-wait", "work"]).ok().to_owned();
    let page = provider.url(DEVICE);
    let words = format!("Or on any device: open\n  {page}\nand enter the code\n  USER-1\n");
    assert!(
        shown.contains(&provider.url(AUTHORIZE)) && shown.contains(&words),
        "{shown}"
    );
    browser::get(&format!("{page}?user_code=USER-1"));
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    assert_eq!(provider.requests(DEVICE_AUTHORIZATION).len(), 1);
}

#[test]
fn whoever_waits_for_a_token_waits_for_the_endpoints_too() {
    let provider = Provider::start();
    let daemon = started(&provider.issuer_account("work", ""));
    let waiting = daemon.spawn(&["show", "-w", "30s", "work"]);
    provider.wait_for(DEVICE_AUTHORIZATION, 1);
    daemon.eventually(&["status"], |output| output.stdout.contains("USER-1"));
    browser::get(&provider.url(&format!("{DEVICE}?user_code=USER-1")));
    assert_eq!(waiting.finish().ok(), "at-1\n");
}

/// The same, with this provider as the issuer.
fn of(provider: &Provider, scripted: Scripted) -> Scripted {
    match scripted {
        Scripted::Reply(reply) => {
            let body = reply.text().replace("ISSUER", &provider.url(""));
            Scripted::reply(reply.status, "application/json", &body)
        }
        other => other,
    }
}

// Covers: 70
#[test]
fn a_document_that_will_not_do_is_refused_with_the_reason() {
    let check = "check the issuer; not every provider has such a document: auth_uri and token_uri \
                 work without";
    for (scripted, why, hint) in [
        (
            Scripted::json(
                200,
                &json!({
                    "issuer": "https://evil.example",
                    "authorization_endpoint": "https://evil.example/a",
                    "token_endpoint": "https://evil.example/t",
                }),
            ),
            "has the document of the issuer https://evil.example, not of ",
            "the issuer must be as the provider writes it; when that is yours, use it",
        ),
        (
            Scripted::json(
                200,
                &json!({
                    "issuer": "ISSUER",
                    "authorization_endpoint": "https://op.example/a",
                    "token_endpoint": "http://op.example/t",
                }),
            ),
            "has a document whose token_endpoint is not https",
            "tell the provider; auth_uri and token_uri work without its document",
        ),
        (
            Scripted::reply(200, "text/html", "<html>Welcome"),
            "has a web page instead of JSON",
            "the network may want a sign-in of its own: open any web page to see; else check the \
             issuer",
        ),
        (
            Scripted::Huge(2 << 20),
            "has a document of more than 1 MiB",
            check,
        ),
        (
            Scripted::Redirect(302, "/elsewhere".into()),
            "answered 302, with another address: /elsewhere",
            check,
        ),
        (
            Scripted::reply(404, "text/plain", ""),
            "answered 404",
            check,
        ),
        (
            Scripted::reply(200, "text/plain", ""),
            "has an empty document",
            check,
        ),
    ] {
        let provider = Provider::start();
        provider.script(METADATA, of(&provider, scripted));
        let daemon = started(&provider.issuer_account("work", ""));
        let said = daemon.eventually(&["show", "work"], |output| {
            output.stderr.contains("no endpoints from")
        });
        let said = said.failed(75);
        let start = format!(
            "ERROR - Access token unavailable until authorised: no endpoints from {}: 127.0.0.1:{} {why}",
            provider.url(""),
            provider.port(),
        );
        assert!(said.starts_with(&start), "{said}");
        assert!(said.ends_with(&format!("\nhint: {hint}\n")), "{said}");
        assert_eq!(provider.requests(OPENID).len(), 1);
        assert_eq!(provider.requests("/elsewhere").len(), 0);
        let told = status(&daemon);
        assert_eq!(told["sign_in"], "discovering");
        assert_eq!(told["discovery"]["state"], "failed");
        assert_eq!(told["discovery"]["hint"], hint);
        let line = daemon.run(&["status"]).ok().to_owned();
        assert!(
            line.contains(why) && line.contains("(1 attempt, next in "),
            "{line}"
        );
    }
}

#[test]
fn a_dead_issuer_is_never_fatal_and_the_sign_in_begins_when_it_is_back() {
    let dormant = Dormant::new();
    let mut daemon = Daemon::new(&format!(
        "account \"work\" {{ issuer = \"{}\"; client_id = \"c\"; }}\n",
        dormant.url("")
    ));
    daemon.start();
    let said = daemon.eventually(&["show", "work"], |output| {
        output.stderr.contains("no endpoints from")
    });
    assert!(said.failed(75).contains("refused"), "{said:?}");
    let said = daemon.run(&["auth", "work"]);
    assert!(
        said.failed(75)
            .contains("work: signing in isn't possible yet: no endpoints from"),
        "{said:?}"
    );
    let provider = dormant.wake();
    let url = url(&daemon);
    assert!(url.starts_with(&provider.auth_uri()), "{url}");
}

// Covers: 65
#[test]
fn a_response_without_the_promised_iss_or_with_another_leaves_the_sign_in_pending() {
    let provider = plain();
    says(
        &provider,
        "authorization_response_iss_parameter_supported",
        json!(true),
    );
    let daemon = started(&provider.issuer_account("work", ""));
    let url = url(&daemon);
    let issuer = provider.url("");
    let iss = |value: &str| vec![("iss".to_owned(), value.to_owned())];
    for extras in [
        Vec::new(),
        iss(&format!("{issuer}/")),
        iss("https://evil.example"),
        iss(&provider.auth_uri()),
    ] {
        provider.set(|settings| settings.callback_extras = extras.clone());
        let page = browser::visit(&url);
        assert_eq!(page.status(), 400, "{extras:?}");
        assert!(page.text().contains("another"), "{}", page.text());
        assert_eq!(daemon.authorization_url("work"), url);
    }
    assert_eq!(provider.requests(TOKEN).len(), 0);
    provider.set(|settings| settings.callback_extras = iss(&issuer));
    assert_eq!(browser::visit(&url).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn tokens_stay_away_from_an_origin_that_the_issuer_names_only_later() {
    let (provider, stranger) = (plain(), Provider::tagged("stranger-"));
    let mut before = signed_in(&provider, "");
    let dump = before.dump();
    before.shutdown();
    says(&provider, "token_endpoint", json!(stranger.token_uri()));
    says(
        &provider,
        "revocation_endpoint",
        json!(stranger.url(REVOKE)),
    );
    let after = started(&provider.issuer_account("work", ""));
    assert_eq!(after.run_with(&["restore"], &dump).ok(), "");
    assert_eq!(after.token("work"), "at-1");
    after.run(&["refresh", "work"]).ok();
    let line = after.log().wait_line("authorisation needed again");
    let why = format!(
        "the issuer now names the token endpoint {}, of another origin than when you signed in; \
         the refresh token is not sent there (sign in again if that is right)",
        stranger.token_uri()
    );
    assert!(line.ends_with(&why), "{line}");
    // What is held is good to its end.
    assert_eq!(after.token("work"), "at-1");
    assert!(after.run(&["status"]).ok().contains(&why));
    let remark = after.run(&["revoke", "work"]).stderr;
    assert!(remark.contains("the tokens are not sent there"), "{remark}");
    assert_eq!(
        stranger.requests(TOKEN).len() + stranger.requests(REVOKE).len(),
        0
    );
    // Whoever signs in anew has agreed to it.
    browser::visit(&url(&after));
    assert_eq!(stranger.requests(TOKEN).len(), 1);
}

// Covers: H30
#[test]
fn revoke_finds_out_whom_to_tell() {
    let provider = plain();
    let mut before = signed_in(&provider, "");
    let dump = before.dump();
    before.shutdown();
    let after = started(&provider.issuer_account("work", ""));
    assert_eq!(after.run_with(&["restore"], &dump).ok(), "");
    assert_eq!(after.run(&["revoke", "work"]).ok(), "");
    assert_eq!(provider.requests(METADATA).len(), 2);
    assert_eq!(provider.requests(REVOKE).len(), 2);
    assert!(!provider.accepts("at-1"));
}

#[test]
fn the_client_proves_itself_as_the_issuer_wants() {
    for (methods, basic) in [("client_secret_basic", true), ("client_secret_post", false)] {
        let provider = plain();
        provider.set(|settings| settings.client_secret = Some("hush".into()));
        let methods = json!([methods]);
        says(&provider, "token_endpoint_auth_methods_supported", methods);
        let _daemon = signed_in(&provider, "client_secret = \"hush\";");
        let request = &provider.requests(TOKEN)[0];
        assert_eq!(request.headers.header("Authorization").is_some(), basic);
        assert_eq!(request.form.get("client_secret").is_some(), !basic);
    }
}

#[test]
fn a_refused_scope_is_answered_with_those_that_there_are() {
    let provider = plain();
    says(&provider, "scopes_supported", json!(["openid", "post"]));
    let daemon = started(&provider.issuer_account("work", ""));
    provider.script(AUTHORIZE, Scripted::Error("invalid_scope", "no mail here"));
    let page = browser::visit(&url(&daemon));
    let hint = "the provider lists these scopes: openid post";
    assert!(page.text().contains(hint), "{}", page.text());
}
