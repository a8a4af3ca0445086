//! Where authorization responses may arrive, and whose they are there (RFC 9700, 4.4).

use url::Url;

use super::support::browser;
use super::support::daemon::Daemon;
use super::support::http::Pairs;
use super::support::provider::{Provider, TOKEN};

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
