//! The authorization request (RFC 6749, 4.1.1, with PKCE, RFC 7636) and its response at the
//! redirection endpoint (4.1.2).

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};

use super::{hints, message::Refusal, words};
use crate::{
    config::Registration,
    secret::{Scrubber, Secret},
};

/// How long a callback may be, in bytes: codes of several kilobytes exist, and servers and
/// browsers send no more than this in one request line.
pub const MAX_CALLBACK_BYTES: usize = 16 * 1024;

/// The redirection endpoint of one authorization request: the configured one, with the port that
/// the listener has. The authorization request and the exchange must send this very string
/// (RFC 6749, 4.1.3). One with a private-use scheme (RFC 8252, 7.1) stays as it is.
pub fn redirect_uri(configured: &Url, port: u16) -> String {
    let mut uri = configured.clone();
    if matches!(uri.scheme(), "http" | "https") {
        // These can always have one.
        let _ = uri.set_port(Some(port));
    }
    uri.into()
}

/// Random bytes as a state or a code_verifier: 256 bits as 64 letters and digits. They survive
/// whatever browsers and providers do to punctuation, and are a valid code_verifier (RFC 7636, 4.1).
pub fn token_text(random: &[u8; 32]) -> Secret {
    Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The `S256` code_challenge of a code_verifier (RFC 7636, 4.2).
pub fn code_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// Where the user's browser is sent. A query of the registration's own comes first, then our
/// parameters, then the `auth_uri_fields` in their order. Whoever configured an `access_type`
/// replaces ours: a parameter must not repeat (RFC 6749, 3.1).
pub fn authorization_uri(
    endpoint: &Url,
    registration: &Registration,
    redirect_uri: &str,
    state: &str,
    code_challenge: &str,
) -> String {
    let fields = &registration.auth_uri_fields;
    let own_access_type = fields.iter().any(|(name, _)| name == "access_type")
        || (endpoint.query_pairs()).any(|(name, _)| name == "access_type");
    let mut uri = endpoint.clone();
    let mut query = uri.query_pairs_mut();
    if !own_access_type {
        query.append_pair("access_type", "offline");
    }
    query.append_pair("code_challenge", code_challenge);
    query.append_pair("code_challenge_method", "S256");
    if !registration.scopes.is_empty() {
        query.append_pair("scope", &registration.scopes.join(" "));
    }
    query.append_pair("client_id", &registration.client_id);
    query.append_pair("redirect_uri", redirect_uri);
    query.append_pair("response_type", "code");
    query.append_pair("state", state);
    query.extend_pairs(fields);
    drop(query);
    uri.into()
}

/// An authorization response (RFC 6749, 4.1.2). It proves nothing before its `state`, and its
/// `iss` if there is one (RFC 9207), have been compared with those of a pending request.
#[derive(Debug, PartialEq, Eq)]
pub struct Callback {
    /// To which request it claims to belong.
    pub state: Secret,
    /// Which authorization server it claims to come from.
    pub iss: Option<String>,
    /// What the user and the provider decided.
    pub result: CallbackResult,
}

/// What an authorization response brings.
#[derive(Debug, PartialEq, Eq)]
pub enum CallbackResult {
    /// An authorization code.
    Code(Secret),
    /// No authorization (RFC 6749, 4.1.2.1); as received, so only to be shown by [`refusal`].
    Error {
        /// The error code.
        error: String,
        /// The provider's explanation.
        description: Option<String>,
        /// A page with more.
        uri: Option<String>,
    },
}

/// Reads an authorization response: the query of the redirect, or the body of a form_post. An
/// empty parameter counts as absent and an unknown one is ignored (RFC 6749, 3.1 and 4.1.2). With
/// both an error and a code, the error counts.
///
/// # Errors
/// What it lacks, or has too much of.
pub fn parse_callback(query: &str) -> Result<Callback, String> {
    if query.len() > MAX_CALLBACK_BYTES {
        return Err(format!("longer than {MAX_CALLBACK_BYTES} bytes"));
    }
    let code = parameter(query, "code")?.map(Secret::new);
    let error = parameter(query, "error")?;
    let iss = parameter(query, "iss")?;
    let state = parameter(query, "state")?.ok_or("no state")?;
    let mut secrets = Scrubber::default();
    secrets.add(&state);
    (code.iter()).for_each(|code| secrets.add(code.expose()));
    let clean = |text: String| secrets.scrub(&text, words::CUT);
    let result = match (error, code) {
        (Some(error), _) => CallbackResult::Error {
            error: clean(error),
            description: first(query, "error_description").map(&clean),
            uri: first(query, "error_uri").map(&clean),
        },
        (None, Some(code)) => CallbackResult::Code(code),
        (None, None) => return Err("neither a code nor an error".into()),
    };
    Ok(Callback {
        // It is compared letter by letter.
        iss,
        state: Secret::new(state),
        result,
    })
}

/// Whether a response that arrived `at` this address may answer a request with this `redirect_uri`
/// (RFC 9700, 4.4.2.2). The port doesn't count, since it is the same for all accounts, nor does the
/// path's last slash: some browsers and providers add or drop it.
pub fn is_redirect(redirect_uri: &str, at: &Url) -> bool {
    let place = |url: &Url| {
        let path = url.path().strip_suffix('/').unwrap_or(url.path());
        [url.scheme(), url.host_str().unwrap_or_default(), path].map(str::to_owned)
    };
    Url::parse(redirect_uri).is_ok_and(|sent| place(&sent) == place(at))
}

/// The code of a response without a state: a page that shows codes need not give it back.
pub fn bare_code(params: &str) -> Option<String> {
    match (first(params, "code"), first(params, "state")) {
        (code, None) => code,
        (_, Some(_)) => None,
    }
}

/// What a user has pasted.
#[derive(Debug, PartialEq, Eq)]
pub enum Pasted<'a> {
    /// The address that a browser was sent to.
    Address {
        /// It.
        at: Url,
        /// The parameters of the authorization response in it: its query, or its fragment where the
        /// provider answers in that.
        params: &'a str,
    },
    /// A code that a page has shown.
    Code(&'a str),
    /// Neither.
    Other,
}

/// What the user has pasted, perhaps with what mail programs and chats put around an address.
pub fn pasted(text: &str) -> Pasted<'_> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || "<>\"'".contains(c));
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let query = before.split_once('?').map_or("", |(_, query)| query);
    let has_response = |params: &&str| {
        let mut pairs = form_urlencoded::parse(params.as_bytes());
        pairs.any(|(name, _)| matches!(&*name, "code" | "error"))
    };
    let params = [query, fragment].into_iter().find(has_response);
    match (Url::parse(text), params) {
        (Ok(at), Some(params)) => Pasted::Address { at, params },
        _ if text.is_empty() || text.contains([' ', '&', '?']) || text.contains(":/") => {
            Pasted::Other
        }
        _ => Pasted::Code(text.strip_prefix("code=").unwrap_or(text)),
    }
}

/// Whether an authorization response with this `iss` may be an answer to a request to `endpoint`
/// (RFC 9207, 2.4). Without knowing the issuer it must have the origin of the authorization
/// endpoint, as every server's that is known to send one.
pub fn is_issuer(endpoint: &Url, iss: &str) -> bool {
    Url::parse(iss).is_ok_and(|iss| iss.origin() == endpoint.origin())
}

/// What to tell the user about an authorization response that brought no code.
pub fn refusal(error: &str, description: Option<&str>, uri: Option<&str>) -> Refusal {
    Refusal {
        text: words::sentence(error, description),
        hint: hints::for_callback(error, description.unwrap_or_default())
            .map(str::to_owned)
            .or_else(|| words::see(uri)),
    }
}

/// The value of a parameter that must not repeat (RFC 6749, 3.1).
fn parameter(query: &str, name: &str) -> Result<Option<String>, String> {
    match values(query, name).nth(1) {
        Some(_) => Err(format!("{name} is there more than once")),
        None => Ok(first(query, name)),
    }
}

/// The first value of a parameter that is only ever shown.
fn first(query: &str, name: &str) -> Option<String> {
    let value = values(query, name).next().map(Cow::into_owned);
    value.filter(|text| !text.is_empty())
}

fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Cow<'q, str>> {
    form_urlencoded::parse(query.as_bytes())
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn registration(auth_uri: &str, scopes: &[&str], fields: &[(&str, &str)]) -> Registration {
        Registration {
            source: crate::config::TokenSource::Person,
            issuer: None,
            auth_uri: Url::parse(auth_uri).ok().map(Arc::new),
            token_uri: Url::parse("https://login.example/token").ok().map(Arc::new),
            client_id: "client&1".into(),
            redirect_uri: Arc::new(Url::parse("http://localhost/").unwrap()),
            scopes: scopes.iter().map(|&scope| scope.into()).collect(),
            auth_uri_fields: (fields.iter())
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            token_uri_fields: Vec::new(),
        }
    }

    #[test]
    fn the_redirect_gets_the_listeners_port() {
        for (configured, port, uri) in [
            ("http://localhost/", 14204, "http://localhost:14204/"),
            ("http://localhost", 14204, "http://localhost:14204/"),
            ("http://127.0.0.1:99/a?b=c", 7, "http://127.0.0.1:7/a?b=c"),
            ("http://[::1]/cb", 65535, "http://[::1]:65535/cb"),
            ("http://localhost:99/", 80, "http://localhost/"),
            ("https://localhost/", 443, "https://localhost/"),
            ("https://localhost/", 8443, "https://localhost:8443/"),
            ("com.example.app:/cb", 14204, "com.example.app:/cb"),
            ("com.example.app://cb/x", 14204, "com.example.app://cb/x"),
        ] {
            assert_eq!(redirect_uri(&Url::parse(configured).unwrap(), port), uri);
        }
    }

    #[test]
    fn challenges_are_as_in_rfc_7636_appendix_b() {
        assert_eq!(
            code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn random_text_is_64_letters_and_digits() {
        let mut random = [0; 32];
        random[0] = 0x0f;
        random[31] = 0xa9;
        assert_eq!(
            token_text(&random).expose(),
            format!("0f{}a9", "00".repeat(30))
        );
        let text = token_text(&[0xff; 32]);
        assert_eq!(text.expose().len(), 64);
        assert!(text.expose().bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn the_authorization_request_is_in_order_and_repeats_nothing() {
        const OURS: &str = "code_challenge=ch&code_challenge_method=S256";
        const REST: &str = "client_id=client%261&redirect_uri=http%3A%2F%2Flocalhost%3A1%2F\
                            &response_type=code&state=st";
        for (auth_uri, scopes, fields, query) in [
            (
                "https://login.example/auth",
                &[][..],
                &[][..],
                format!("access_type=offline&{OURS}&{REST}"),
            ),
            (
                "https://login.example/auth?",
                &["a", "https://b.example/c"],
                &[("prompt", "consent"), ("x", "1"), ("x", "2 &")],
                format!(
                    "access_type=offline&{OURS}&scope=a+https%3A%2F%2Fb.example%2Fc&{REST}\
                     &prompt=consent&x=1&x=2+%26"
                ),
            ),
            (
                "https://login.example/auth?tenant=t&p=q",
                &["a"],
                &[("login_hint", "me@example.org"), ("access_type", "online")],
                format!(
                    "tenant=t&p=q&{OURS}&scope=a&{REST}&login_hint=me%40example.org\
                     &access_type=online"
                ),
            ),
            (
                "https://login.example/auth?access_type=none",
                &[],
                &[],
                format!("access_type=none&{OURS}&{REST}"),
            ),
        ] {
            let registration = registration(auth_uri, scopes, fields);
            assert_eq!(
                authorization_uri(
                    registration.auth_uri.as_ref().unwrap(),
                    &registration,
                    "http://localhost:1/",
                    "st",
                    "ch"
                ),
                format!("https://login.example/auth?{query}")
            );
        }
    }

    fn code(state: &str, iss: Option<&str>, code: &str) -> Result<Callback, String> {
        Ok(Callback {
            state: Secret::new(state.into()),
            iss: iss.map(str::to_owned),
            result: CallbackResult::Code(Secret::new(code.into())),
        })
    }

    fn fault(text: &str) -> Result<Callback, String> {
        Err(text.to_owned())
    }

    fn error(error: &str, description: Option<&str>) -> Result<Callback, String> {
        Ok(Callback {
            state: Secret::new("S".into()),
            iss: None,
            result: CallbackResult::Error {
                error: error.into(),
                description: description.map(str::to_owned),
                uri: None,
            },
        })
    }

    #[test]
    fn callbacks_are_read_or_refused() {
        let long = "c".repeat(MAX_CALLBACK_BYTES - "state=S&code=".len());
        for (query, callback) in [
            ("code=c&state=S", code("S", None, "c")),
            (
                "state=S&code=4%2F0A+b%23.%21&scope=x&authuser=0&scope=y",
                code("S", None, "4/0A b#.!"),
            ),
            (
                "code=c&state=S&iss=https%3A%2F%2Fa.example",
                code("S", Some("https://a.example"), "c"),
            ),
            ("code=c&state=S&error=", code("S", None, "c")),
            ("code=c&state=S&session_state", code("S", None, "c")),
            (&format!("state=S&code={long}"), code("S", None, &long)),
            ("error=access_denied&state=S", error("access_denied", None)),
            (
                "error=e&state=S&error_description=a+b&error_description=c",
                error("e", Some("a b")),
            ),
            ("error=e&code=c&state=S", error("e", None)),
            ("", fault("no state")),
            ("code=c", fault("no state")),
            ("code=c&state=", fault("no state")),
            ("error=access_denied", fault("no state")),
            ("state=S", fault("neither a code nor an error")),
            ("state=S&code=", fault("neither a code nor an error")),
            ("state=S&Code=c", fault("neither a code nor an error")),
            (
                "state=S&state=S&code=c",
                fault("state is there more than once"),
            ),
            (
                "state=S&code=c&code=",
                fault("code is there more than once"),
            ),
            (
                "state=S&error=a&error=b",
                fault("error is there more than once"),
            ),
            (
                "state=S&code=c&iss=a&iss=a",
                fault("iss is there more than once"),
            ),
            (
                &format!("state=S&code={long}c"),
                fault("longer than 16384 bytes"),
            ),
        ] {
            assert_eq!(parse_callback(query), callback, "{query}");
        }
    }

    #[test]
    fn pasted_addresses_have_their_response_in_the_query_or_the_fragment() {
        for (address, params) in [
            ("http://localhost:1/?code=c&state=s", "code=c&state=s"),
            (
                " <http://localhost:1/?error=e&state=s#_=_>\n",
                "error=e&state=s",
            ),
            ("com.example.app:/cb?code=c&state=s", "code=c&state=s"),
            ("http://localhost:1/?a=b#state=s&code=c", "state=s&code=c"),
        ] {
            let Pasted::Address { params: found, .. } = pasted(address) else {
                panic!("{address}");
            };
            assert_eq!(found, params, "{address}");
        }
        for code in ["1234567", "4/0AX-y_z=", "M.C5:x", "\"c\"", " code=c\n"] {
            let bare = code.trim().trim_matches('"').replace("code=", "");
            assert_eq!(pasted(code), Pasted::Code(&bare), "{code}");
        }
        for other in [
            "",
            "http://localhost:1/",
            "http://localhost:1/?state=s",
            "https://login.example/auth?client_id=x&state=s",
            "com.example.app:/cb",
            "code=c&state=s",
            "?code=c",
            "two words",
        ] {
            assert_eq!(pasted(other), Pasted::Other, "{other}");
        }
    }

    #[test]
    fn a_response_counts_at_the_scheme_host_and_path_of_its_redirect() {
        for (redirect_uri, at, same) in [
            ("http://localhost:1/", "http://localhost:1/?code=c", true),
            ("http://localhost:1/", "http://LocalHost#code=c", true),
            ("http://localhost:1/a", "http://localhost:1/a/", true),
            ("http://localhost:1/", "https://localhost:1/", false),
            ("http://localhost:1/", "http://127.0.0.1:1/", false),
            ("http://localhost:1/a", "http://localhost:1/b", false),
            ("http://localhost:1/a", "http://localhost:1/a/b", false),
            ("http://localhost:1/a", "http://localhost:1/A", false),
            ("http://localhost:1/a", "http://localhost:1/", false),
            ("com.example.app:/cb", "com.example.app:/cb?code=c", true),
            ("com.example.app://cb/x", "com.example.app://cb/x?a", true),
            ("com.example.app://cb/x", "com.example.app://cc/x?a", false),
            ("com.example.app:/cb", "com.example.other:/cb", false),
        ] {
            let at = Url::parse(at).unwrap();
            assert_eq!(is_redirect(redirect_uri, &at), same, "{redirect_uri} {at}");
        }
    }

    #[test]
    fn refusals_are_safe_and_hint_at_a_remedy() {
        for (error, description, uri, text, hint) in [
            (
                "access_denied",
                None,
                None,
                "access_denied",
                Some("you refused or closed the consent page"),
            ),
            (
                "access_denied",
                Some("AADSTS65004: User\r\ndeclined"),
                None,
                "access_denied: AADSTS65004: User declined",
                Some("you refused what the program asks for: sign in again and accept"),
            ),
            (
                "odd\u{1b}[31m",
                None,
                Some("https://login.example/help"),
                "odd [31m",
                Some("see https://login.example/help"),
            ),
            ("odd", None, Some("file:///etc/passwd"), "odd", None),
        ] {
            let refusal = refusal(error, description, uri);
            assert_eq!(refusal.text, text);
            assert_eq!(refusal.hint.as_deref(), hint);
        }
    }
}
