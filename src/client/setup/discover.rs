//! Asking a domain about itself: the servers of its mail, and who issues its tokens. Every answer
//! comes over https, and what it says is only printed for the user to read.

use serde_json::Value;
use url::Url;

use super::plan::{Plan, RESOURCE};
use crate::client::register::{host, with_scheme};
use crate::mail::autoconfig::{self, Autoconfig};
use crate::oauth::metadata::{Metadata, Miss, is_same_issuer};
use crate::oauth::token::Outcome;
use crate::providers::Provider;
use crate::{http::Agents, text::sanitize};

/// How often one is sent on to another address, as big domains do from the bare name to `www`.
const MAX_REDIRECTS: usize = 3;

/// The scope of mail (draft-ietf-mailmaint-oauth-public).
const MAIL: &str = "urn:ietf:params:oauth:scope:mail";

/// The scope of the user's name, which is what a mail server asks for where mail has no scope.
const NAME: &str = "openid";

/// The scopes to ask for, of those that a server lists, and what each is for.
const SCOPES: [(&str, &str); 3] = [
    (MAIL, "Reading and sending."),
    (NAME, ""),
    (
        "offline_access",
        "A refresh token, so that you needn't sign in again.",
    ),
];

/// What a mail domain says.
///
/// # Errors
/// Why that isn't enough for an account.
pub(super) fn domain(domain: &str, user: Option<&str>) -> Result<Plan, Miss> {
    let agents = Agents::default();
    let about = autoconfig(&agents, domain).unwrap_or_default();
    let named = about.issuer.as_deref().map(with_scheme);
    let known = (named.as_deref()).and_then(|issuer| Provider::at(&host(issuer), user));
    let known = known.or_else(|| {
        let mut servers = about.servers.iter();
        servers.find_map(|server| Provider::of_server(&server.host))
    });
    if let Some(provider) = known {
        return Ok(Plan::of(provider, user));
    }
    let issuer = named.or_else(|| published(&agents, domain));
    let found = match issuer.map(|issuer| agents.metadata(&issuer)) {
        Some(Ok(found)) => Ok(found),
        missed => agents
            .metadata(&format!("https://{domain}"))
            .map_err(|miss| miss.worse(missed.and_then(Result::err))),
    };
    let mut plan = match (found, &about.auth_uri, &about.token_uri) {
        (Ok(found), ..) => of_issuer(found),
        (Err(_), Some(auth_uri), Some(token_uri)) => Plan {
            endpoints: vec![
                ("auth_uri", auth_uri.to_string()),
                ("token_uri", token_uri.to_string()),
            ],
            notes: vec![ASK.into()],
            ..Plan::default()
        },
        (Err(miss), ..) => return Err(miss),
    };
    if !about.scopes.is_empty() {
        plan.scopes = about.scopes.iter().map(|it| (it.clone(), "")).collect();
    }
    if plan.scopes.is_empty() {
        let what = "It doesn't say which scopes mail needs; its documentation may.";
        plan.notes.push(what.into());
    }
    Ok(Plan {
        account: label(domain),
        title: domain.to_owned(),
        user: user.map(str::to_owned),
        servers: about.servers,
        ..plan
    })
}

/// What an issuer says of itself.
///
/// # Errors
/// Why nothing is known of it.
pub(super) fn issuer(issuer: &Url, user: Option<&str>) -> Result<Plan, Miss> {
    let found = Agents::default().metadata(issuer.as_str().trim_end_matches('/'))?;
    let title = host(issuer.as_str());
    Ok(Plan {
        account: label(&title),
        title,
        user: user.map(str::to_owned),
        ..of_issuer(found)
    })
}

/// What a protected resource says of itself (RFC 9728): who issues its tokens, and its scopes. `None`
/// when it says nothing.
///
/// # Errors
/// Why nothing is known of that issuer.
pub(super) fn resource(resource: &Url, user: Option<&str>) -> Option<Result<Plan, Miss>> {
    let agents = Agents::default();
    let document = protection(&agents, resource)?;
    let member = |name: &str| document.get(name);
    let named = member(RESOURCE)?.as_str()?;
    if !is_same_issuer(named, resource.as_str()) {
        return None;
    }
    let issuers = member("authorization_servers")?;
    let found = issuer(&Url::parse(issuers.get(0)?.as_str()?).ok()?, user);
    Some(found.map(|mut plan| {
        let scopes = member("scopes_supported").and_then(Value::as_array);
        let scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
        let scopes: Vec<String> = scopes.map(sanitize).collect();
        if !scopes.is_empty() {
            if let Some((_, wanted)) = &mut plan.registers {
                wanted.clone_from(&scopes);
            }
            plan.scopes = scopes.into_iter().map(|it| (it, "")).collect();
        }
        plan.title = host(resource.as_str());
        plan.account = label(&plan.title);
        plan.endpoints.push((RESOURCE, named.to_owned()));
        plan
    }))
}

/// Its document: where its challenge says, or at the known place (RFC 9728, 3.1 and 5.1).
fn protection(agents: &Agents, resource: &Url) -> Option<Value> {
    let mut known = resource.clone();
    let path = resource.path().trim_end_matches('/');
    known.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
    let challenge = match agents.get(resource) {
        Outcome::Reply(reply) => reply.challenge,
        Outcome::NotSent(_) | Outcome::Lost(_) => return None,
    };
    let told = challenge.and_then(|it| {
        let (_, rest) = it.split_once("resource_metadata=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    let told = told.filter(|it| it.starts_with("https://"));
    let text = fetch(agents, told.as_deref().unwrap_or(known.as_str()))?;
    serde_json::from_str(&text).ok()
}

const ASK: &str = "Ask the provider for one, for a native application with the redirect URI \
                   http://127.0.0.1/ on any port.";

fn of_issuer(found: Metadata) -> Plan {
    let lists = found.scopes.unwrap_or_default();
    let is_listed = |name: &str| lists.iter().any(|it| it == name);
    let is_wanted = |name: &str| is_listed(name) && (name != NAME || !is_listed(MAIL));
    let scopes = SCOPES.into_iter().filter(|(name, _)| is_wanted(name));
    let scopes: Vec<_> = scopes
        .map(|(name, about)| (name.to_owned(), about))
        .collect();
    let names = scopes.iter().map(|(name, _)| name.clone());
    let registers = found.registration_endpoint.is_some();
    Plan {
        registers: registers.then(|| (found.issuer.clone(), names.collect())),
        notes: (!registers).then(|| ASK.into()).into_iter().collect(),
        endpoints: vec![("issuer", found.issuer)],
        scopes,
        ..Plan::default()
    }
}

/// What hosts are called that have the name of their domain behind it.
const COMMON: [&str; 11] = [
    "accounts", "api", "auth", "id", "identity", "imap", "irc", "login", "mail", "sso", "www",
];

/// A name for the account: the part of a domain that tells it from others. An IP address has none.
fn label(domain: &str) -> String {
    let is_name = |label: &&str| label.contains(char::is_alphabetic) && !COMMON.contains(label);
    let label = domain.split('.').find(is_name).unwrap_or("mail");
    label.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn autoconfig(agents: &Agents, domain: &str) -> Option<Autoconfig> {
    // The address isn't sent along, as some programs do: the domain is enough.
    [
        format!("https://autoconfig.{domain}/mail/config-v1.1.xml"),
        format!("https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml"),
    ]
    .iter()
    .find_map(|url| autoconfig::parse(&fetch(agents, url)?))
}

/// The issuer in the domain's own description for mail programs (draft-ietf-mailmaint-pacc).
fn published(agents: &Agents, domain: &str) -> Option<String> {
    let url = format!("https://{domain}/.well-known/user-agent-configuration");
    let text = fetch(agents, &url)?;
    let document: Value = serde_json::from_str(&text).ok()?;
    let issuer = document.pointer("/authentication/oauth-public/issuer")?;
    issuer.as_str().map(sanitize)
}

/// A document, as text.
fn fetch(agents: &Agents, url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    for _ in 0..=MAX_REDIRECTS {
        let Outcome::Reply(reply) = agents.get(&url) else {
            return None;
        };
        match reply.status {
            200 => return String::from_utf8(reply.body.to_vec()).ok(),
            300..=399 => {
                url = url.join(&reply.location?).ok()?;
                if url.scheme() != "https" {
                    return None;
                }
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn an_account_is_called_what_tells_its_domain_from_others() {
        for (domain, name) in [
            ("mail.example.org", "example"),
            ("login.1und1.de", "1und1"),
            ("irc.example.org", "example"),
            ("42.example.org", "example"),
            ("my-host", "myhost"),
            ("127.0.0.1", "mail"),
            ("[::1]", "mail"),
            ("mail.auth", "mail"),
        ] {
            assert_eq!(label(domain), name, "{domain}");
        }
    }
}
