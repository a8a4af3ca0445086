//! The body of a token endpoint's reply, read leniently: JSON (RFC 6749, 5.1 and 5.2), or a form
//! as some providers send. The content type isn't asked: too many are wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use url::form_urlencoded;

use super::{
    message::{MAX_BODY_BYTES, Reply},
    words,
};
use crate::secret::{Scrubber, Secret};

/// How long a token may live at most: longer than any real one, and far from where clocks end.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The members that mean something here: of a token endpoint's replies, and of an issuer's metadata
/// (RFC 8414, 2). All others are skipped (RFC 6749, 5.1), however they look.
const MEMBERS: &str = "\
    access_token authorization_expires_in device_code error error_description error_subtype \
    error_uri errors expires expires_at expires_in expires_in_sec expires_on ext_expires_in id_token \
    interval message refresh_expires_in refresh_token refresh_token_expires_in \
    refresh_token_timeout request_uri scope suberror token_type user_code verification_uri \
    verification_uri_complete verification_url verification_url_complete \
    authorization_endpoint authorization_response_iss_parameter_supported \
    code_challenge_methods_supported device_authorization_endpoint grant_types_supported issuer \
    pushed_authorization_request_endpoint registration_endpoint \
    require_pushed_authorization_requests revocation_endpoint scopes_supported token_endpoint \
    token_endpoint_auth_methods_supported";

/// Those that are secrets.
const SECRETS: [&str; 4] = ["access_token", "device_code", "id_token", "refresh_token"];

/// A reply's members; some of them are tokens.
#[derive(Default)]
pub(super) struct Members {
    values: BTreeMap<&'static str, Value>,
    repeated: Option<&'static str>,
}

/// Why a body has no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a reply of more than 1 MiB")]
    TooLong,
    #[error("an empty reply")]
    Empty,
    #[error("a web page instead of JSON")]
    WebPage,
    #[error("a reply that is cut short")]
    CutShort,
    #[error("more than one {0}")]
    Repeated(&'static str),
    #[error("something that is not a JSON object")]
    Foreign,
}

/// What a reply says went wrong.
pub(super) struct ProviderError {
    /// The error code; empty when there is only a description.
    pub(super) code: String,
    /// The provider's explanation.
    pub(super) description: Option<String>,
}

impl ProviderError {
    /// What a reply says went wrong, if it does.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        Members::read(reply).ok()?.error()
    }

    /// The error in one line.
    pub(super) fn sentence(&self) -> String {
        words::sentence(&self.code, self.description.as_deref())
    }
}

impl Members {
    /// Reads a body. No text in it repeats a secret that was sent, or another member that is one.
    pub(super) fn read(reply: &Reply) -> Result<Self, Unreadable> {
        Self::of(&reply.body).map(|members| members.scrubbed(&reply.sent))
    }

    /// Reads a body as it is.
    pub(super) fn of(body: &[u8]) -> Result<Self, Unreadable> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Unreadable::TooLong);
        }
        // A description in another encoding must not hide the error code beside it.
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        let members = match text.as_bytes().first() {
            None => return Err(Unreadable::Empty),
            Some(b'<') => return Err(Unreadable::WebPage),
            Some(b'{') => serde_json::from_str(text).map_err(|error: serde_json::Error| {
                if error.is_eof() {
                    Unreadable::CutShort
                } else {
                    Unreadable::Foreign
                }
            })?,
            Some(_) => Self::read_form(text).ok_or(Unreadable::Foreign)?,
        };
        match members.repeated {
            Some(name) => Err(Unreadable::Repeated(name)),
            None => Ok(members),
        }
    }

    fn scrubbed(mut self, sent: &Scrubber) -> Self {
        let mut own = Scrubber::default();
        let secrets = SECRETS.iter().filter_map(|name| self.text(name));
        secrets.for_each(|secret| own.add(secret));
        for (name, value) in &mut self.values {
            if !SECRETS.contains(name) {
                scrub(value, sent);
                // An address to sign in at may well be about the very device code.
                if !name.starts_with("verification_") {
                    scrub(value, &own);
                }
            }
        }
        self
    }

    /// Nearly every text is a valid form, so only one that has what we look for counts.
    fn read_form(text: &str) -> Option<Self> {
        let mut members = Members::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            if let Some(name) = known(&key) {
                members.insert(name, Value::String(value.into_owned()));
            }
        }
        let counts = ["access_token", "device_code", "error"].iter();
        counts
            .into_iter()
            .any(|name| members.values.contains_key(name))
            .then_some(members)
    }

    fn insert(&mut self, name: &'static str, value: Value) {
        if self.values.insert(name, value).is_some() {
            self.repeated = Some(name);
        }
    }

    /// The member, unless it is absent or null.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// Whether the member is there, if only as null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The member, if it is a string that isn't empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let text = self.values.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    }

    /// The member, if it is a string that isn't empty, taken out without a copy.
    pub(super) fn take_secret(&mut self, name: &str) -> Option<Secret> {
        self.text(name)?;
        match self.values.remove(name)? {
            Value::String(text) => Some(Secret::new(text)),
            _ => None,
        }
    }

    /// The member, if it is a number of seconds from one up, or a string that is.
    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        clamp(seconds(self.value(name)?)?)
    }

    /// What went wrong, if the reply says that anything did: an `error` that is a string
    /// (RFC 6749, 5.2), or the objects and lists that some providers send instead.
    pub(super) fn error(&self) -> Option<ProviderError> {
        let found = ["error", "errors"].map(|name| self.value(name).and_then(nested_error));
        let mut error = found.into_iter().flatten().next()?;
        if error.description.is_none() {
            let outer = self.text("error_description").or(self.text("message"));
            error.description = outer.map(str::to_owned);
        }
        Some(error)
    }
}

/// What a token says about itself, when it happens to be a JWT (RFC 7519). The signature is not looked
/// at: nothing but hints come of it.
pub fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// A number, or a string that is one.
pub(super) fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whole seconds from one up to [`MAX_LIFETIME`].
pub(super) fn clamp(seconds: f64) -> Option<Duration> {
    let most = MAX_LIFETIME.as_secs();
    // The comparison also turns away what is not a number.
    (seconds >= 1.0).then(|| Duration::from_secs((seconds as u64).min(most)))
}

/// Cuts secrets out of all that is in a member.
fn scrub(value: &mut Value, secrets: &Scrubber) {
    let clean = |text: &str| secrets.scrub(text, words::CUT);
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::String(text) => *text = clean(text),
        Value::Number(number) => {
            let digits = number.to_string();
            let rest = clean(&digits);
            if rest != digits {
                *value = Value::String(rest);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| scrub(value, secrets)),
        Value::Object(members) => {
            let old = std::mem::take(members).into_iter();
            members.extend(old.map(|(name, mut value)| {
                scrub(&mut value, secrets);
                (clean(&name), value)
            }));
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    MEMBERS.split(' ').find(|known| *known == name)
}

/// An error in any of its shapes; `None` for the ways to say that there wasn't one.
fn nested_error(value: &Value) -> Option<ProviderError> {
    let code = |code: String| ProviderError {
        code,
        description: None,
    };
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::String(text) => (!text.is_empty()).then(|| code(text.clone())),
        Value::Bool(true) | Value::Number(_) => Some(code(value.to_string())),
        // serde_json bounds the depth of what it reads, and so this recursion.
        Value::Array(list) => list.iter().find_map(nested_error),
        Value::Object(members) if members.is_empty() => None,
        Value::Object(members) => {
            let text = |name: &&str| Some(members.get(*name)?.as_str()?.to_owned());
            let number = || Some(members.get("code")?.as_number()?.to_string());
            let codes = ["error", "errorType", "code", "type", "status", "reason"];
            let descriptions = ["message", "error_description", "description", "detail"];
            let found = codes.iter().find_map(text).or_else(number);
            let description = descriptions.iter().find_map(text);
            Some(match (found, description) {
                (None, None) => code(words::foreign(&value.to_string())),
                (found, description) => ProviderError {
                    code: found.unwrap_or_default(),
                    description,
                },
            })
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(key) = map.next_key::<String>()? {
                    match known(&key) {
                        Some(name) => members.insert(name, map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &[u8]) -> Reply {
        Reply {
            body: body.to_vec().into(),
            ..Reply::default()
        }
    }

    fn fault(body: &[u8]) -> Option<Unreadable> {
        Members::read(&reply(body)).err()
    }

    #[test]
    fn bodies_without_members_say_why() {
        for (body, why) in [
            (&b""[..], Unreadable::Empty),
            (b" \r\n", Unreadable::Empty),
            (b"\xef\xbb\xbf", Unreadable::Empty),
            (b"<!DOCTYPE html>", Unreadable::WebPage),
            (b"\n <?xml?>", Unreadable::WebPage),
            (b"{\"access_token\":\"a", Unreadable::CutShort),
            (b"{", Unreadable::CutShort),
            (b"{} trailing", Unreadable::Foreign),
            (b"[{\"access_token\":\"a\"}]", Unreadable::Foreign),
            (b"\"access_token\"", Unreadable::Foreign),
            (b"Not Found", Unreadable::Foreign),
            (b"a=b&c=d", Unreadable::Foreign),
            (b"\x00\xff", Unreadable::Foreign),
            (
                b"access_token=a&access_token=a",
                Unreadable::Repeated("access_token"),
            ),
            (
                b"{\"error\":null,\"error\":\"x\"}",
                Unreadable::Repeated("error"),
            ),
            (
                b"{\"refresh_token\":\"a\",\"refresh\\u005ftoken\":\"b\"}",
                Unreadable::Repeated("refresh_token"),
            ),
        ] {
            assert_eq!(fault(body), Some(why), "{}", body.escape_ascii());
        }
        for (more, why) in [(0, None), (1, Some(Unreadable::TooLong))] {
            let body = format!("{{{}}}", " ".repeat(MAX_BODY_BYTES - 2 + more));
            assert_eq!(fault(body.as_bytes()), why);
        }
    }

    #[test]
    fn unknown_members_are_skipped_whatever_they_are() {
        let deep = format!(
            "{{\"x\":{}{},\"scope\":\"a\"}}",
            "[".repeat(9_000),
            "]".repeat(9_000)
        );
        let members = Members::read(&reply(deep.as_bytes())).ok().unwrap();
        assert_eq!(members.text("scope"), Some("a"));
        let twice = Members::read(&reply(b"{\"x\":1,\"x\":1e999,\"scope\":null}"))
            .ok()
            .unwrap();
        assert!(twice.has("scope") && twice.value("scope").is_none());
        let latin1 = Members::read(&reply(b"{\"error\":\"e\",\"error_description\":\"\xe9\"}"))
            .ok()
            .unwrap();
        assert_eq!(latin1.text("error_description"), Some("\u{fffd}"));
    }

    #[test]
    fn errors_are_found_in_all_their_shapes() {
        for (body, found) in [
            ("{}", None),
            ("{\"error\":null}", None),
            ("{\"error\":\"\"}", None),
            ("{\"error\":0,\"errors\":[]}", None),
            ("{\"error\":false,\"errors\":{}}", None),
            ("{\"error\":\"e\"}", Some(("e", None))),
            (
                "{\"error\":\"e\",\"error_description\":\"d\"}",
                Some(("e", Some("d"))),
            ),
            (
                "{\"error\":true,\"message\":\"m\"}",
                Some(("true", Some("m"))),
            ),
            (
                "{\"error\":{\"code\":400,\"message\":\"x\"}}",
                Some(("400", Some("x"))),
            ),
            (
                "{\"error\":{\"code\":190,\"type\":\"OAuthException\",\"message\":\"x\"}}",
                Some(("OAuthException", Some("x"))),
            ),
            ("{\"error\":{\"message\":\"x\"}}", Some(("", Some("x")))),
            ("{\"error\":7}", Some(("7", None))),
            ("{\"error\":{\"why\":1}}", Some(("{\"why\":1}", None))),
            (
                "{\"errors\":[{\"errorType\":\"invalid_grant\"}]}",
                Some(("invalid_grant", None)),
            ),
            ("{\"errors\":[null,\"e\"]}", Some(("e", None))),
            ("error=e&error_description=d+d", Some(("e", Some("d d")))),
        ] {
            let members = Members::read(&reply(body.as_bytes())).ok().unwrap();
            let error = members.error();
            let error = error
                .as_ref()
                .map(|e| (e.code.as_str(), e.description.as_deref()));
            assert_eq!(error, found, "{body}");
        }
    }
}
