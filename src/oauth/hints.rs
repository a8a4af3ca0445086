//! What the user can do about an error, and the few errors whose number says more than their
//! name. Everything here comes from the providers' documentation and from watching them.

use url::Url;

use super::message::Refusal;
use crate::config::Registration;

/// What an error means for the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A new sign-in is needed.
    Login,
    /// The configuration, or the client's registration at the provider, is wrong.
    Config,
    /// It passes.
    Transient,
    /// Words that are no error code: who says them isn't clear.
    Vague,
}

/// Microsoft's number for a known error. The numbers may change, so the error code decides, with
/// two exceptions: a [`Class::Transient`] number is always that, and a [`Class::Config`] one says
/// what the errors that mean anything (such as invalid_request) mean.
#[derive(Clone, Copy)]
pub(super) struct Aadsts {
    pub(super) number: u32,
    pub(super) class: Class,
    pub(super) hint: &'static str,
}

/// A loop of requests was noticed: this one wants to be left alone for minutes.
pub(super) const AADSTS_LOOP: u32 = 50196;

/// The numbers worth knowing: what they mean for the tokens, and what to do about them; one kind a line.
const AADSTS: &str = include_str!("aadsts.txt");

/// Error codes, and what to do about them: in an authorization response (`callback`), from the token
/// endpoint when a sign-in is needed (`login`) or the configuration is wrong (`config`), there as
/// Google's `error_subtype` or Microsoft's `suberror` (`subtype`), from Google alone (`google`), and
/// beside a description that names the client secret (`secret`). One kind a line.
const CODES: &str = include_str!("codes.txt");

/// The line of a table that has `word`, of those that start with a `kind` that will do: that, and the hint.
fn find(
    table: &'static str,
    will_do: impl Fn(&str) -> bool,
    word: &str,
) -> Option<(&'static str, &'static str)> {
    table.lines().find_map(|line| {
        let (head, hint) = line.split_once(": ")?;
        let (kind, words) = head.split_once(' ')?;
        (will_do(kind) && words.split(' ').any(|it| it == word)).then_some((kind, hint))
    })
}

/// What [`CODES`] has for a code at this place.
fn of_code(place: &str, code: &str) -> Option<&'static str> {
    let is_there = |places: &str| places.split('+').any(|it| it == place);
    find(CODES, is_there, code).map(|(_, hint)| hint)
}

/// What Microsoft's number in a description, if there is one that is known, means.
pub(super) fn aadsts(description: &str) -> Option<Aadsts> {
    let (_, rest) = description.split_once("AADSTS")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let (class, hint) = find(AADSTS, |_| true, digits)?;
    Some(Aadsts {
        number: digits.parse().ok()?,
        class: match class {
            "login" => Class::Login,
            "transient" => Class::Transient,
            _ => Class::Config,
        },
        hint,
    })
}

/// Microsoft's numbers that an administrator's consent ends.
const CONSENT: [u32; 3] = [65001, 90094, 90095];

impl Refusal {
    /// With the address at which an administrator can allow the program, where that may help.
    #[must_use]
    pub fn with_consent_address(mut self, registration: &Registration) -> Self {
        let address = consent_address(&self.text, registration);
        if let (Some(address), Some(hint)) = (address, &mut self.hint) {
            *hint = format!("{hint}: {address}");
        }
        self
    }
}

/// Where an administrator can allow the program, if that is what the refusal wants. The page is that
/// of all organisations; it wants each scope by its name.
fn consent_address(refusal: &str, registration: &Registration) -> Option<Url> {
    let endpoint = registration.provider()?;
    let wanted = aadsts(refusal).is_some_and(|known| CONSENT.contains(&known.number));
    let work = wanted && is_host(&endpoint, "microsoftonline.com microsoftonline.us");
    let personal = endpoint.path().starts_with("/consumers/");
    let mut address = endpoint
        .join("/organizations/v2.0/adminconsent")
        .ok()
        .filter(|_| work && !personal)?;
    let scopes = registration.scopes.iter().map(String::as_str);
    let scopes: Vec<&str> = scopes
        .filter(|scope| !scope.ends_with("/.default"))
        .collect();
    address
        .query_pairs_mut()
        .append_pair("client_id", &registration.client_id)
        .append_pair("scope", &scopes.join(" "))
        .append_pair("redirect_uri", registration.redirect_uri.as_str());
    Some(address)
}

/// What to do when the token endpoint wants a new sign-in, for a reason that has no number; `subtype`
/// is Google's `error_subtype` or Microsoft's `suberror`.
pub(super) fn for_login(
    endpoint: &Url,
    code: &str,
    description: &str,
    subtype: &str,
) -> Option<&'static str> {
    let is_rapt = |text: &&str| text.contains("invalid_rapt") || text.contains("rapt_required");
    if [code, subtype, description].iter().any(is_rapt) {
        return of_code("login", "invalid_rapt");
    }
    if description.contains("JWT") {
        return of_code("assertion", code);
    }
    of_code("subtype", subtype)
        .or_else(|| of_code("login", code))
        .or_else(|| of_code("google", code).filter(|_| is_google(endpoint)))
}

/// What to do when the token endpoint, answering with this status, finds fault with the client.
pub(super) fn for_config(status: u16, code: &str, description: &str) -> Option<&'static str> {
    match status {
        404 | 405 => Some("check token_uri"),
        _ => for_code(code, description),
    }
}

/// What to do about an authorization response that is an error.
pub(super) fn for_callback(code: &str, description: &str) -> Option<&'static str> {
    if let Some(known) = aadsts(description) {
        return Some(known.hint);
    }
    let code = code.to_ascii_lowercase();
    of_code("callback", &code).or_else(|| for_code(&code, description))
}

/// What an error code alone says, on either endpoint.
fn for_code(code: &str, description: &str) -> Option<&'static str> {
    let of_secret = of_code("secret", code).filter(|_| description.contains("client_secret"));
    of_secret.or_else(|| of_code("config", code))
}

/// What to do when a proxy or portal seems to have answered in the provider's place.
pub(super) fn on_the_way(status: u16, web_page: bool) -> Option<&'static str> {
    match status {
        407 => Some("a proxy wants a name and password: set them in the proxy variable"),
        429 => Some("the provider wants fewer requests"),
        511 => Some(PORTAL),
        200..=399 if web_page => Some(PORTAL),
        400..=499 if web_page => Some("a proxy or firewall may be in the way: check token_uri too"),
        _ => None,
    }
}

/// What to do about a redirect, or about a web page that comes as if all were well.
pub(super) const PORTAL: &str =
    "the network may want a sign-in of its own: open any web page to see; else check token_uri";

/// How to get a refresh token from this provider.
pub(super) fn no_refresh_token(endpoint: &Url, scopes: &[String]) -> &'static str {
    let path = endpoint.path();
    let offline = scopes.iter().any(|scope| scope == "offline_access");
    let by_scope = is_microsoft(endpoint)
        || path.contains("/protocol/openid-connect/")
        || path.contains("/application/o/");
    if is_google(endpoint) {
        "add \"prompt\": \"consent\" to auth_uri_fields (and leave access_type at offline)"
    } else if is_host(endpoint, "dropbox.com dropboxapi.com") {
        "add \"token_access_type\": \"offline\" to auth_uri_fields"
    } else if by_scope && !offline {
        "add \"offline_access\" to scopes"
    } else if offline {
        "the provider may not give one to this client"
    } else {
        "if the provider gives one at all, it may want \"offline_access\" in scopes"
    }
}

fn is_google(endpoint: &Url) -> bool {
    is_host(endpoint, "google.com googleapis.com")
}

fn is_microsoft(endpoint: &Url) -> bool {
    let domains = "microsoftonline.com microsoftonline.us microsoftonline.cn live.com";
    is_host(endpoint, domains)
}

/// Whether the endpoint's host is one of the domains or below it.
fn is_host(endpoint: &Url, domains: &str) -> bool {
    let host = endpoint.host_str().unwrap_or_default();
    domains.split(' ').any(|domain| {
        host.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a table: the word at the start, what follows it, and the hint.
    fn rows(table: &str) -> impl Iterator<Item = (&str, &str, &str)> {
        table.lines().map(|line| {
            let (head, hint) = line.split_once(": ").unwrap();
            let (kind, words) = head.split_once(' ').unwrap();
            (kind, words, hint)
        })
    }

    #[test]
    fn no_number_is_in_the_table_twice() {
        let numbers = rows(AADSTS).flat_map(|(_, numbers, _)| numbers.split(' '));
        let mut numbers: Vec<u32> = numbers.map(|it| it.parse().unwrap()).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }

    #[test]
    fn numbers_are_read_from_descriptions() {
        for (description, class) in [
            ("AADSTS50076: Due to a change", Some(Class::Login)),
            ("x AADSTS7000222", Some(Class::Config)),
            ("AADSTS50196: loop AADSTS50076", Some(Class::Transient)),
            ("AADSTS99999999999: unheard of", None),
            ("AADSTS1: unheard of", None),
            ("AADSTS", None),
            ("AADSTSé", None),
            ("50076", None),
        ] {
            assert_eq!(aadsts(description).map(|a| a.class), class, "{description}");
        }
    }

    #[test]
    fn hints_are_short_and_plain() {
        let hints = rows(AADSTS).chain(rows(CODES)).map(|(_, _, hint)| hint);
        for hint in hints.chain([PORTAL]) {
            assert!(hint.len() < 200, "{hint}");
            assert!(!hint.ends_with('.') && !hint.contains("  "), "{hint}");
        }
    }

    #[test]
    fn the_remedy_for_no_refresh_token_is_the_providers() {
        for (endpoint, scopes, remedy) in [
            (
                "https://oauth2.googleapis.com/token",
                &["https://mail.google.com/"][..],
                "add \"prompt\": \"consent\" to auth_uri_fields (and leave access_type at offline)",
            ),
            (
                "https://login.microsoftonline.com/common/oauth2/v2.0/token",
                &["https://outlook.office.com/SMTP.Send"],
                "add \"offline_access\" to scopes",
            ),
            (
                "https://id.example/realms/r/protocol/openid-connect/token",
                &[],
                "add \"offline_access\" to scopes",
            ),
            (
                "https://id.example/application/o/token/",
                &["offline_access"],
                "the provider may not give one to this client",
            ),
            (
                "https://api.dropboxapi.com/oauth2/token",
                &[],
                "add \"token_access_type\": \"offline\" to auth_uri_fields",
            ),
            (
                "https://notgoogle.com/token",
                &[],
                "if the provider gives one at all, it may want \"offline_access\" in scopes",
            ),
        ] {
            let scopes: Vec<String> = scopes.iter().map(|&scope| scope.into()).collect();
            let endpoint = Url::parse(endpoint).unwrap();
            assert_eq!(no_refresh_token(&endpoint, &scopes), remedy, "{endpoint}");
        }
    }

    #[test]
    fn an_administrator_gets_an_address() {
        let registration = |token_uri: &str| Registration {
            source: crate::config::TokenSource::Person,
            issuer: None,
            auth_uri: None,
            token_uri: Some(Url::parse(token_uri).unwrap().into()),
            client_id: "c 1".into(),
            redirect_uri: Url::parse("http://localhost/").unwrap().into(),
            scopes: vec![
                "offline_access".into(),
                "https://outlook.office.com/SMTP.Send".into(),
            ],
            auth_uri_fields: Vec::new(),
            token_uri_fields: Vec::new(),
        };
        let common = "https://login.microsoftonline.com/common/oauth2/v2.0/token";
        let consumers = common.replace("common", "consumers");
        let address = "https://login.microsoftonline.com/organizations/v2.0/adminconsent?client_id=c+1&scope=\
                       offline_access+https%3A%2F%2Foutlook.office.com%2FSMTP.Send&redirect_uri=\
                       http%3A%2F%2Flocalhost%2F";
        for (text, token_uri, expected) in [
            ("access_denied: AADSTS90095: wait", common, Some(address)),
            (
                "invalid_grant: AADSTS65001: no consent",
                common,
                Some(address),
            ),
            ("invalid_grant: AADSTS50076: a factor", common, None),
            ("access_denied: AADSTS90095: wait", &consumers, None),
            (
                "access_denied: AADSTS90095: wait",
                "https://a.example/token",
                None,
            ),
        ] {
            let found = consent_address(text, &registration(token_uri));
            assert_eq!(found.as_ref().map(Url::as_str), expected, "{text}");
        }
        let mut discovering = registration(common);
        discovering.token_uri = None;
        discovering.issuer = Some("https://login.microsoftonline.com/common/v2.0".into());
        let found = consent_address("access_denied: AADSTS90095: wait", &discovering);
        assert_eq!(found.as_ref().map(Url::as_str), Some(address));
    }
}
