//! Where authorization responses may arrive, and whose they are there (RFC 9700, 4.4).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use url::Url;

use super::support::browser;
use super::support::daemon::Daemon;
use super::support::http::{Pairs, Response};
use super::support::provider::{Provider, Scripted, TOKEN};

/// A daemon that runs with `config`.
fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).expect("a URL");
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.expect("a parameter").1.into_owned()
}

fn redirect(uri: &str) -> String {
    format!("redirect_uri = \"{uri}\";")
}

/// Two accounts whose providers send no `iss`, and the address at the honest one to which the evil one
/// sends the browser: the honest client and redirect, but its own state and challenge.
struct MixUp {
    honest: Provider,
    evil: Provider,
    daemon: Daemon,
    urls: [String; 2],
}

impl MixUp {
    fn new(redirects: [&str; 2]) -> Self {
        let (honest, evil) = (Provider::tagged("h-"), Provider::tagged("e-"));
        let daemon = started(&format!(
            "{}{}",
            honest.account_with("honest", &redirect(redirects[0])),
            evil.account_with("evil", &redirect(redirects[1])),
        ));
        let urls = ["honest", "evil"].map(|name| daemon.authorization_url(name));
        MixUp {
            honest,
            evil,
            daemon,
            urls,
        }
    }

    fn attack(&self) -> String {
        let mut url = Url::parse(&self.urls[1]).expect("a URL");
        let [honest, _] = &self.urls;
        let pairs: Vec<(String, String)> = (url.query_pairs())
            .map(|(name, value)| match &*name {
                "client_id" | "redirect_uri" => (name.to_string(), parameter(honest, &name)),
                _ => (name.into_owned(), value.into_owned()),
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
        format!("{}?{}", self.honest.auth_uri(), url.query().expect("one"))
    }

    /// The evil provider has got nothing, and both sign-ins can still be completed.
    fn is_harmless(&self) {
        assert!(self.honest.requests(TOKEN).is_empty());
        assert!(self.evil.requests(TOKEN).is_empty());
        for (name, url) in ["honest", "evil"].iter().zip(&self.urls) {
            assert_eq!(browser::visit(url).status(), 200);
            self.daemon.token(name);
        }
        let codes = self.evil.requests(TOKEN);
        let code = codes[0].form.get("code").expect("a code");
        assert!(code.starts_with("e-"), "{code}");
    }
}

/// Row 98: the code of an honest provider arrives at the honest redirect, with the state of another
/// account, whose provider sent the browser there.
// Covers: 98
#[test]
fn row_98_a_response_counts_only_at_its_own_redirect() {
    for redirects in [
        ["http://localhost/honest", "http://localhost/evil"],
        ["http://localhost/", "http://localhost/evil"],
        ["http://localhost/honest", "http://127.0.0.1/honest"],
        ["https://localhost/", "http://localhost/"],
        ["http://localhost/", "https://localhost/"],
    ] {
        let mix = MixUp::new(redirects);
        let page = browser::visit(&mix.attack());
        assert_eq!(page.status(), 400, "{redirects:?}");
        assert!(page.text().contains("another provider"), "{}", page.text());
        mix.daemon
            .log()
            .wait_line("WARN - evil: an authorization response that arrived elsewhere was ignored");
        mix.is_harmless();
    }
}

/// The same by hand, or as a form.
#[test]
fn a_pasted_or_posted_response_counts_only_at_its_own_redirect() {
    let mix = MixUp::new(["http://localhost/honest", "http://localhost/evil"]);
    let address = browser::callback_of(&mix.attack());
    let refused = mix.daemon.run(&["redirect", &address]);
    let why = refused.failed(1);
    assert!(why.contains("another provider"), "{why}");
    let (place, query) = address.split_once('?').expect("a query");
    let page = browser::post(place, &Pairs::decode(query.as_bytes()));
    assert_eq!(page.status(), 400);
    let refusal = address.replace("code=", "error=access_denied&x=");
    assert_eq!(browser::get(&refusal).status(), 400);
    mix.is_harmless();
}

// ---- redirects that end elsewhere -----------------------------------------------------------------

const PASTE: &str = "after signing in, give the address of the last page, or the code that it shows, \
                     to `pizauth redirect`";

/// Redirects that no listener of ours is for.
const ELSEWHERE: [&str; 5] = [
    "https://login.example/common/oauth2/nativeclient",
    "https://Proxy.Example:8443",
    "https://proxy.example/a?b=c",
    "http://auth.example/cb",
    "urn:ietf:wg:oauth:2.0:oob",
];

#[test]
fn a_redirect_that_ends_elsewhere_is_sent_letter_by_letter_and_completed_by_paste() {
    for uri in ELSEWHERE {
        let provider = Provider::start();
        let daemon = started(&provider.account_with("work", &redirect(uri)));
        let url = daemon.authorization_url("work");
        assert_eq!(parameter(&url, "redirect_uri"), uri);
        let address = browser::callback_of(&url);
        let said = daemon.run(&["redirect", &address]);
        assert_eq!(said.ok(), "work: authorised\n", "{uri}");
        let sent = provider.requests(TOKEN);
        assert_eq!(sent[0].form.get("redirect_uri"), Some(uri));
        assert_eq!(daemon.token("work"), "at-1");
    }
}

#[test]
fn whoever_asks_to_sign_in_says_what_becomes_of_the_last_page() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let notify = record.option("auth_notify_cmd", &["PIZAUTH_URL", "PIZAUTH_MSG"]);
    let account = provider.account_with("work", &redirect(ELSEWHERE[0]));
    let usual = provider.account("usual");
    daemon.write_config(&format!("{notify}{account}{usual}"));
    daemon.start();
    let output = daemon.run(&["show", "work"]);
    let said = output.failed(77);
    assert!(said.ends_with(&format!("\n{PASTE}\n")), "{said}");
    let url = daemon.authorization_url("work");
    assert_eq!(record.wait_lines(1), [format!("{url}\t{PASTE}")]);
    let auth = daemon.run(&["auth", "-n", "work"]);
    let ways = format!("Sign in with a browser; {PASTE}:\n  {url}\n");
    assert!(auth.ok().starts_with(&ways), "{auth:?}");
    assert!(daemon.run(&["status"]).ok().contains(PASTE));
    let status = daemon.run(&["status", "-j"]);
    assert!(status.ok().contains("\"sign_in_paste\":true"), "{status:?}");
    let usual = daemon.run(&["show", "usual"]);
    assert!(!usual.failed(77).contains("pizauth redirect"), "{usual:?}");
}

/// The code that the provider shows after signing in at `url`.
fn code_at(url: &str) -> String {
    parameter(&browser::callback_of(url), "code")
}

#[test]
fn a_bare_code_is_for_the_one_sign_in_that_ends_elsewhere() {
    let provider = Provider::start();
    let daemon = started(&format!(
        "{}{}{}",
        provider.account_with("club", &redirect(ELSEWHERE[4])),
        provider.account_with("work", &redirect(ELSEWHERE[0])),
        provider.account("usual"),
    ));
    let unclear = |args: &[&str]| {
        let output = daemon.run(args);
        let why = output.failed(64).to_owned();
        assert!(why.contains("which sign-in this code is for"), "{why}");
    };
    let usual = daemon.authorization_url("usual");
    unclear(&["redirect", &code_at(&usual)]);
    unclear(&["redirect", "-a", "usual", &code_at(&usual)]);
    unclear(&["redirect", "-a", "club", "1234567"]);
    let club = code_at(&daemon.authorization_url("club"));
    let work = daemon.authorization_url("work");
    unclear(&["redirect", &club]);
    unclear(&["redirect", "-a", "nobody", &club]);
    // An address without a state is for the one whose redirect it is.
    let address = format!("{}?code={}", ELSEWHERE[0], code_at(&work));
    let said = daemon.run_with(&["redirect"], format!("{address}&amp;x=y\n").as_bytes());
    assert_eq!(said.ok(), "work: authorised\n");
    let elsewhere = format!("https://evil.example/?code={club}");
    assert!(
        daemon
            .run(&["redirect", &elsewhere])
            .failed(64)
            .contains("no state")
    );
    assert_eq!(daemon.run(&["redirect", &club]).ok(), "club: authorised\n");
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

#[test]
fn an_address_that_was_cut_or_escaped_on_the_way_is_told_of_or_mended() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    let whole = browser::callback_of(&daemon.authorization_url("work"));
    let (cut, _) = whole.split_once('&').expect("two parameters");
    let why = daemon.run(&["redirect", cut]);
    let hint =
        "a shell cuts it at `&`, so put it in quotes, or run `pizauth redirect` and paste it there";
    assert!(why.failed(64).contains(hint), "{why:?}");
    let escaped = whole.replace('&', "&amp;");
    assert_eq!(
        daemon.run(&["redirect", &escaped]).ok(),
        "work: authorised\n"
    );
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// Row 93: what stands around the tokens costs no code and no refresh token.
// Covers: 93
#[test]
fn row_93_a_reply_with_many_headers_is_read() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    for (count, length) in [
        (110, 590),
        (129, 1),
        (2000, 20),
        (50, 4 << 10),
        (1, 64 << 10),
    ] {
        let around = |token: &str| {
            let body = json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600,
                "refresh_token": "rt" });
            let mut reply = Response::new(200, "application/json", body.to_string());
            let cookie = |n| format!("c{n}={}", "y".repeat(length));
            let cookies = (0..count).map(|n| ("Set-Cookie".to_owned(), cookie(n)));
            reply.headers.0.extend(cookies);
            provider.script(TOKEN, Scripted::Reply(reply));
        };
        around("by-code");
        daemon.sign_in("work");
        assert_eq!(daemon.token("work"), "by-code");
        around("by-refresh");
        daemon.run(&["refresh", "work"]).ok();
        daemon.eventually(&["show", "work"], |output| output.stdout == "by-refresh\n");
        daemon.run(&["revoke", "work"]).ok();
    }
    assert_eq!(provider.requests(TOKEN).len(), 10);
}

/// Row 89: who has signed in, where an id_token says it.
// Covers: 89
#[test]
fn row_89_tokens_of_another_user_are_named() {
    let id_token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
    for (hint, claims, other) in [
        (
            "me@x.example",
            r#"{"email":"other@x.example"}"#,
            Some("other@x.example"),
        ),
        (
            "me@x.example",
            r#"{"upn":"Other@x.example","email":7}"#,
            Some("Other@x.example"),
        ),
        (
            "me@x.example",
            r#"{"email":"a@x.example","preferred_username":"ME@x.example"}"#,
            None,
        ),
        ("me", r#"{"email":"me@x.example"}"#, None),
        ("me@x.example", r#"{"sub":"1"}"#, None),
        ("me@x.example", "no JSON", None),
    ] {
        let provider = Provider::start();
        let mut daemon = Daemon::new("");
        let record = daemon.record("told");
        let notify = record.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"]);
        let fields = format!("auth_uri_fields = {{ \"login_hint\": \"{hint}\" }};");
        daemon.write_config(&format!(
            "{notify}{}",
            provider.account_with("work", &fields)
        ));
        daemon.start();
        let body = json!({ "access_token": "at", "token_type": "bearer", "expires_in": 3600,
            "refresh_token": "rt", "id_token": id_token(claims) });
        provider.script(TOKEN, Scripted::json(200, &body));
        let page = daemon.sign_in("work");
        let said = other
            .map(|other| format!("signed in as {other}, which isn't the login_hint of the config"));
        let status = daemon.run(&["status"]).ok().to_owned();
        let status_json = daemon.run(&["status", "-j"]).ok().to_owned();
        match said {
            Some(said) => {
                let html = said.replace('\'', "&#39;");
                assert!(page.text().contains(&html), "{}", page.text());
                assert_eq!(record.wait_lines(1), [format!("work\t{said}")]);
                assert!(status.contains(&said), "{status}");
                let member = format!("\"other_user\":\"{}\"", other.unwrap_or_default());
                assert!(status_json.contains(&member), "{status_json}");
                // A refresh without an id_token is of the same user.
                let next = json!({ "access_token": "new", "token_type": "bearer" });
                provider.script(TOKEN, Scripted::json(200, &next));
                daemon.run(&["refresh", "work"]).ok();
                daemon.eventually(&["show", "work"], |output| output.stdout == "new\n");
                assert!(daemon.run(&["status"]).ok().contains(&said));
                // So it is after a restart, and where a dump was restored.
                daemon.run(&["restart"]).ok();
                assert!(daemon.run(&["status"]).ok().contains(&said));
                daemon.restart();
                assert!(daemon.run(&["status"]).ok().contains(&said));
            }
            None => {
                assert!(!page.text().contains("Warning"), "{claims}");
                assert!(!status.contains("signed in as"), "{status}");
                assert!(!status_json.contains("other_user"), "{status_json}");
                assert_eq!(record.lines(), [""; 0]);
            }
        }
        assert_eq!(daemon.run(&["show", "work"]).status, 0);
    }
}
