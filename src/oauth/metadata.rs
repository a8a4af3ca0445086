//! What an authorization server says of itself (RFC 8414; OpenID Connect Discovery 1.0): where the
//! document is, and what it may say. Unknown members are ignored; nothing in it is believed that
//! isn't checked here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    message::{Outcome, authority},
    reply::{Members, Unreadable},
    words::foreign,
};
use crate::{
    config::{ClientAuth, is_loopback},
    text::sanitize,
};

/// How many of a list's values are kept, such as the scopes: more than anybody reads.
const MAX_VALUES: usize = 100;

/// How many of the scopes are listed for people.
const MAX_LISTED_SCOPES: usize = 20;

/// How long an endpoint's address is at most, in bytes: more than servers have to take (RFC 9110, 4.1).
const MAX_URL_BYTES: usize = 8 << 10;

/// What a server that says nothing of it takes (RFC 8414, 2).
const DEFAULT_AUTH_METHOD: &str = "client_secret_basic";

/// An authorization server's metadata, checked (RFC 8414, 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The issuer as it writes itself: what an `iss` must be, letter by letter (RFC 9207, 2.4).
    pub issuer: String,
    /// Where the user's browser goes.
    pub authorization_endpoint: Option<Url>,
    /// Where codes and refresh tokens go.
    pub token_endpoint: Option<Url>,
    /// Where device codes come from (RFC 8628, 4).
    pub device_authorization_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where clients are registered (RFC 7591).
    pub registration_endpoint: Option<Url>,
    /// Where authorization requests are left, if it takes no others (RFC 9126, 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_endpoint: Option<Url>,
    /// Every authorization response has an `iss` (RFC 9207, 3).
    pub iss_in_responses: bool,
    /// How a client may prove who it is, in the words of RFC 7591, 2.
    pub auth_methods: Vec<String>,
    /// The grant types, when it says which.
    pub grant_types: Option<Vec<String>>,
    /// The scopes, when it says which; they need not be all (RFC 8414, 2).
    pub scopes: Option<Vec<String>>,
    /// What the issuer has that is odd, worth one line in the log each; safe to show.
    pub warnings: Vec<String>,
}

impl Metadata {
    /// How a client with a secret proves who it is: as RFC 6749, 2.3.1 wants every server to take
    /// it, unless this one says that it doesn't.
    pub fn client_auth(&self) -> ClientAuth {
        let takes = |method: &str| self.auth_methods.iter().any(|it| it == method);
        match (takes(DEFAULT_AUTH_METHOD), takes("client_secret_post")) {
            (true, _) => ClientAuth::Basic,
            (false, true) => ClientAuth::Body,
            (false, false) if takes("none") => ClientAuth::None,
            (false, false) => ClientAuth::default(),
        }
    }

    /// The scopes that it says there are, as words for people.
    pub fn listed_scopes(&self) -> Option<String> {
        let all = self.scopes.as_ref().filter(|all| !all.is_empty())?;
        let some = all.get(..MAX_LISTED_SCOPES).unwrap_or(all);
        let more = if some.len() < all.len() { " …" } else { "" };
        let list = sanitize(&some.join(" "));
        Some(format!("the provider lists these scopes: {list}{more}"))
    }
}

/// What an account needs of a document, since its configuration doesn't have it.
#[derive(Clone, Copy, Debug)]
pub struct Gaps {
    /// Where codes and refresh tokens go.
    pub token_uri: bool,
    /// Where a sign-in begins.
    pub beginning: bool,
}

impl Gaps {
    /// All of it, as an account that is yet to be written does.
    pub const ALL: Gaps = Gaps {
        token_uri: true,
        beginning: true,
    };

    /// # Errors
    /// What `metadata` lacks.
    pub fn filled_by(self, metadata: &Metadata) -> Result<(), Miss> {
        let begins = &metadata.authorization_endpoint;
        let begins = begins.is_some() || metadata.device_authorization_endpoint.is_some();
        let missing = if self.token_uri && metadata.token_endpoint.is_none() {
            "token_endpoint"
        } else if self.beginning && !begins {
            "authorization_endpoint"
        } else {
            return Ok(());
        };
        let unusable = metadata
            .warnings
            .iter()
            .find(|it| it.starts_with(&whose(missing)));
        Err(unusable.map_or_else(|| Miss::lacks(missing), |it| Miss::wrong(it, TELL)))
    }
}

/// How a warning about an endpoint begins.
fn whose(member: &str) -> String {
    format!("a document whose {member} ")
}

/// What to do about a document that nobody can use.
const TELL: &str = "tell the provider; auth_uri and token_uri work without its document";

/// What to do about a web page in its place.
const WEB_PAGE: &str = "the network may want a sign-in of its own: open any web page to see; else check the \
                        issuer";

/// What to do when there is no document.
const CHECK_ISSUER: &str = "check the issuer; not every provider has such a document: auth_uri and \
                            token_uri work without";

/// Why no document was had from one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// What happened; safe to show.
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<&'static str>,
    /// How much it says about the issuer.
    pub kind: MissKind,
}

/// How much a [`Miss`] says about the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissKind {
    /// Nothing is there: look elsewhere.
    Absent,
    /// What is there won't do: look elsewhere, but this is worth telling.
    Wrong,
    /// The issuer can't be reached: no other place of its will do better.
    Unreachable,
}

impl Miss {
    /// There is a document, and this is wrong with it.
    fn wrong(text: impl Into<String>, hint: &'static str) -> Self {
        Miss {
            text: text.into(),
            hint: Some(hint),
            kind: MissKind::Wrong,
        }
    }

    /// It lacks this, or has it in a shape that it can't have.
    fn lacks(member: &str) -> Self {
        Miss::wrong(format!("a document without a usable {member}"), TELL)
    }

    /// It is another issuer's (RFC 8414, 3.3).
    fn other_issuer(found: &str, wanted: &str) -> Self {
        let hint = match found.contains('{') {
            true => {
                "this provider's documents are templates: use the issuer of your own tenant, or \
                 auth_uri and token_uri instead"
            }
            false => "the issuer must be as the provider writes it; when that is yours, use it",
        };
        let (found, wanted) = (sanitize(found), sanitize(wanted));
        let text = format!("the document of the issuer {found}, not of {wanted}");
        Miss::wrong(text, hint)
    }

    /// The one that says more; of two that say as much, the one `before`.
    pub fn worse(self, before: Option<Miss>) -> Miss {
        match before {
            Some(before) if before.kind >= self.kind => before,
            Some(_) | None => self,
        }
    }
}

/// Where an issuer's document may be, in the order in which to look (RFC 8414, 3.1 and 5; OpenID
/// Connect Discovery 1.0, 4): inserted before the issuer's path, then appended. None when `issuer`
/// is no URL that could have one.
pub fn well_known(issuer: &str) -> Vec<Url> {
    let Ok(base) = Url::parse(issuer) else {
        return Vec::new();
    };
    // An issuer has no query (RFC 8414, 2).
    if !base.has_host() || check(&base, true).is_err() || base.query().is_some() {
        return Vec::new();
    }
    let path = base.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = base.clone();
        url.set_path(&path);
        url
    };
    vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
    ]
}

/// Why an `issuer` without [`well_known`] places can't be one.
pub fn no_issuer(issuer: &str) -> Miss {
    let text = format!("`{}` is no https address", sanitize(issuer));
    Miss::wrong(text, "an issuer looks like https://login.example.com")
}

/// Whether both name the same issuer. The comparison is exact (RFC 8414, 3.3) but for one slash at
/// the end, which many configurations and some providers have too many or too few.
pub fn is_same_issuer(one: &str, other: &str) -> bool {
    let bare = |text| str::strip_suffix(text, "/").unwrap_or(text);
    bare(one) == bare(other)
}

/// The metadata in what came back from `url`, one of [`well_known`], if it is enough for `accounts`.
///
/// # Errors
/// Why there is none.
pub fn judge(
    issuer: &str,
    url: &Url,
    outcome: &Outcome,
    accounts: impl IntoIterator<Item = Gaps>,
) -> Result<Metadata, Miss> {
    let host = authority(url);
    let miss = |kind, text: String, hint| Miss { text, hint, kind };
    let reply = outcome.reply(&host);
    let reply = reply.map_err(|text| miss(MissKind::Unreachable, text, None))?;
    match reply.status {
        200 => {
            let metadata = parse(&reply.body, issuer).and_then(|metadata| {
                let mut accounts = accounts.into_iter();
                accounts.try_for_each(|it| it.filled_by(&metadata))?;
                Ok(metadata)
            });
            metadata.map_err(|miss| Miss {
                text: format!("{host} has {}", miss.text),
                ..miss
            })
        }
        status => {
            let (kind, more) = match status {
                404 | 410 => (MissKind::Absent, String::new()),
                300..=399 => {
                    let to = foreign(reply.location.as_deref().unwrap_or("nowhere"));
                    (MissKind::Wrong, format!(", with another address: {to}"))
                }
                _ => (MissKind::Wrong, String::new()),
            };
            let hint = (300..=499).contains(&status).then_some(CHECK_ISSUER);
            Err(miss(kind, format!("{host} answered {status}{more}"), hint))
        }
    }
}

/// Reads the document of `issuer`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(body: &[u8], issuer: &str) -> Result<Metadata, Miss> {
    let text = std::str::from_utf8(body).map_err(|_| unreadable(Unreadable::Foreign))?;
    let document = Members::of(text.as_bytes()).map_err(unreadable)?;
    let found = document.text("issuer");
    let found = found.ok_or_else(|| Miss::lacks("issuer"))?;
    if !is_same_issuer(found, issuer) {
        return Err(Miss::other_issuer(found, issuer));
    }
    // A remote issuer must not make us ask what listens on this machine.
    let local = Url::parse(issuer).is_ok_and(|url| is_loopback(&url));
    let mut warnings = Vec::new();
    // A list of strings, made safe.
    let texts = |name| {
        let texts = document.value(name)?.as_array()?.iter();
        let texts = texts.filter_map(Value::as_str).take(MAX_VALUES);
        Some(texts.map(sanitize).collect::<Vec<_>>())
    };
    let challenges = texts("code_challenge_methods_supported");
    if challenges.is_some_and(|methods| methods.iter().all(|method| method != "S256")) {
        let what = "doesn't list S256 among its code_challenge_methods; it is used all the same";
        warnings.push(format!("a document that {what}"));
    }
    let methods = texts("token_endpoint_auth_methods_supported");
    let iss = document.value("authorization_response_iss_parameter_supported");
    let pushes = document.value("require_pushed_authorization_requests");
    let mut usable = |name| {
        let usable = endpoint(document.value(name)?, local);
        usable.map_err(|why| warnings.push(whose(name) + why)).ok()
    };
    Ok(Metadata {
        issuer: found.to_owned(),
        authorization_endpoint: usable("authorization_endpoint"),
        token_endpoint: usable("token_endpoint"),
        device_authorization_endpoint: usable("device_authorization_endpoint"),
        revocation_endpoint: usable("revocation_endpoint"),
        registration_endpoint: usable("registration_endpoint"),
        push_endpoint: (pushes == Some(&Value::Bool(true)))
            .then(|| usable("pushed_authorization_request_endpoint"))
            .flatten(),
        iss_in_responses: iss == Some(&Value::Bool(true)),
        auth_methods: methods.unwrap_or_else(|| vec![DEFAULT_AUTH_METHOD.into()]),
        grant_types: texts("grant_types_supported"),
        scopes: texts("scopes_supported"),
        warnings,
    })
}

fn unreadable(why: Unreadable) -> Miss {
    let (text, hint) = match why {
        Unreadable::TooLong => ("a document of more than 1 MiB", CHECK_ISSUER),
        Unreadable::Empty => ("an empty document", CHECK_ISSUER),
        Unreadable::WebPage => ("a web page instead of JSON", WEB_PAGE),
        Unreadable::CutShort | Unreadable::Repeated(_) | Unreadable::Foreign => {
            ("something that is not a JSON object", CHECK_ISSUER)
        }
    };
    Miss::wrong(text, hint)
}

/// An endpoint that may be used.
///
/// # Errors
/// What is wrong with it.
fn endpoint(value: &Value, local: bool) -> Result<Url, &'static str> {
    let text = value.as_str().ok_or("is no string")?;
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    check(&url, local).map(|()| url)
}

/// Whether a provider's URL may be asked: over TLS, or for a `local` provider on this machine, and
/// nothing about it that could mislead (RFC 8414, 6.1).
fn check(url: &Url, local: bool) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => {}
        "http" if local && is_loopback(url) => {}
        "http" => return Err("is not https"),
        _ => return Err("is neither https nor http"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password in it");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    if url.port() == Some(0) {
        return Err("has the port 0");
    }
    if url.as_str().len() > MAX_URL_BYTES {
        return Err("is too long");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
