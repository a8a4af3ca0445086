//! What is good configuration and still won't work: slips that many users make, by what is known of
//! the provider. Each warning says what to write.

use std::collections::BTreeSet;

use cfgrammar::Span;
use url::Url;

use super::{Account, section::Section, value::is_loopback};
use crate::providers::Provider;

/// Options with values of the user's own.
const OWN: &str =
    "address client_id client_secret issuer auth_uri token_uri device_auth_uri login_hint";

/// Whether it still is what an example has in the place of one's own.
fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let has = |part: Option<&str>, word: &str| part.is_some_and(|it| it.eq_ignore_ascii_case(word));
    let starts = |start: &&str| has(text.get(..start.len()), start);
    let is_template = text.bytes().any(|byte| b"<>{}".contains(&byte)) && text.contains("://");
    let is_filler = text.len() > 2 && text.chars().all(|c| "xX.*…".contains(c));
    let end = text.len().checked_sub("example.com".len());
    let is_address = starts(&"you@") && has(end.and_then(|at| text.get(at..)), "example.com");
    let words = ["your ", "your_", "your-", "<", "changeme"];
    words.iter().any(starts) || is_template || is_filler || is_address
}

/// The slips in one account, each with its place.
pub(super) fn of(section: &Section, name: Span, account: &Account) -> Vec<(Span, String)> {
    let mut found = Vec::new();
    let mut warn =
        |option: &str, what: &str| found.push((section.place(option, name), what.to_owned()));
    for option in OWN.split(' ') {
        let text = section.string(option).ok().flatten();
        if text.is_some_and(|text| is_placeholder(&text.value)) {
            warn(
                option,
                &format!("`{option}` is a placeholder: write your own, see `pizauth setup`"),
            );
        }
    }
    let registration = &account.registration;
    let mut fields = registration.auth_uri_fields.iter();
    if section.value("auth_uri_fields").is_some() && fields.any(|(_, value)| is_placeholder(value))
    {
        warn(
            "auth_uri_fields",
            "`auth_uri_fields` has a placeholder: write your own address",
        );
    }
    let host = registration.provider_host().unwrap_or_default();
    let provider = Provider::at(&host, None).filter(|_| registration.source.is_person());
    let Some(provider) = provider else {
        return found;
    };
    let redirect = &registration.redirect_uri;
    if is_refused(provider, redirect) {
        let what = format!(
            "{} allows a desktop client no such redirect URI, and a Web client is no use here: write \
             `redirect_uri = \"{}\";`",
            provider.title, provider.redirect_uri
        );
        warn("redirect_uri", &what);
    }
    match provider.name {
        "google" => {
            let consent = ("prompt".to_owned(), "consent".to_owned());
            if !registration.auth_uri_fields.contains(&consent) {
                let what = "without a prompt for consent, Google gives no refresh token at a second sign-in: \
                            write \
                            `\"prompt\": \"consent\"` in `auth_uri_fields`, or `provider = \"google\";`";
                warn("auth_uri_fields", what);
            }
            if account.client.secret == super::ClientSecret::None {
                warn(
                    "client_id",
                    "Google's clients of the type \"Desktop app\" have a secret: write `client_secret`",
                );
            }
        }
        "microsoft" => microsoft(account, warn),
        _ => {}
    }
    found
}

/// Whether no client for this machine can have this redirect URI.
fn is_refused(provider: &Provider, redirect: &Url) -> bool {
    // They send browsers nowhere else, but for another loopback address.
    let strict = ["microsoft", "google", "yahoo", "aol", "att"];
    let has_tls = provider.redirect_uri.starts_with("https:");
    strict.contains(&provider.name)
        && match redirect.scheme() {
            "https" => !has_tls,
            "http" => has_tls || !is_loopback(redirect),
            _ => false,
        }
}

fn microsoft(account: &Account, mut warn: impl FnMut(&str, &str)) {
    let registration = &account.registration;
    let issuer = registration.issuer.as_deref().unwrap_or_default();
    let parts = ["/common", "/organizations", "/consumers", "/{tenantid}"];
    if parts.iter().any(|part| issuer.contains(part)) {
        let what = "Microsoft's documents are those of a single tenant: write its id in `issuer`, or \
                    `provider = \"microsoft\";` instead";
        warn("issuer", what);
    }
    let scopes = &registration.scopes;
    if scopes.iter().all(|scope| scope != "offline_access") {
        warn(
            "scopes",
            "without the scope \"offline_access\", Microsoft gives no refresh token: add it",
        );
    }
    let resource = |scope: &String| Some(scope.split_once("://")?.1.split('/').next()?.to_owned());
    let resources: BTreeSet<String> = scopes.iter().filter_map(resource).collect();
    if resources.len() > 1 {
        let what = format!(
            "a token of Microsoft is for one resource, and these scopes are of {}: make an account for each",
            Vec::from_iter(resources).join(" and ")
        );
        warn("scopes", &what);
    }
}
