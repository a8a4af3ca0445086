//! What a server tells in JSON before it refuses a token (RFC 7628, 3.2.2; Google's XOAUTH2 has the
//! same shape).

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::text::sanitize;

/// The reason in the server's words, made safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// `invalid_token`, or an HTTP status.
    pub status: Option<String>,
    /// The scope that the server wants.
    pub scope: Option<String>,
    /// Where the server's authorization server describes itself.
    pub configuration: Option<String>,
    /// What it was, if it wasn't JSON.
    pub text: Option<String>,
}

impl Challenge {
    /// Decodes what came in base64; `None` when that was nothing.
    pub fn decode(encoded: &str) -> Option<Self> {
        let encoded = encoded.trim();
        if encoded.is_empty() {
            return None;
        }
        let Ok(bytes) = STANDARD.decode(encoded) else {
            return Some(Challenge::words(encoded));
        };
        let members: serde_json::Value = match serde_json::from_slice(&bytes) {
            Ok(members @ serde_json::Value::Object(_)) => members,
            _ => return Some(Challenge::words(&String::from_utf8_lossy(&bytes))),
        };
        let member = |name: &str| {
            let text = match members.get(name)? {
                serde_json::Value::String(text) => sanitize(text),
                serde_json::Value::Number(number) => number.to_string(),
                _ => return None,
            };
            (!text.is_empty()).then_some(text)
        };
        Some(Challenge {
            status: member("status"),
            scope: member("scope"),
            configuration: member("openid-configuration"),
            text: None,
        })
    }

    fn words(text: &str) -> Self {
        Challenge {
            text: Some(sanitize(text)),
            ..Challenge::default()
        }
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("status ", &self.status),
            ("scope ", &self.scope),
            ("configuration ", &self.configuration),
            ("", &self.text),
        ];
        let parts = parts.into_iter();
        let parts = parts.filter_map(|(name, value)| Some(format!("{name}{}", value.as_ref()?)));
        match parts.collect::<Vec<_>>().join(", ").as_str() {
            "" => f.write_str("no reason"),
            reason => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_why_whatever_its_shape() {
        for (json, text) in [
            (
                // Google's.
                r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#,
                "status 400, scope https://mail.google.com/",
            ),
            (
                // RFC 7628, 4.3.
                r#"{"status":"invalid_token","scope":"example_scope","openid-configuration":
                   "https://example.com/.well-known/openid-configuration"}"#,
                "status invalid_token, scope example_scope, configuration \
                 https://example.com/.well-known/openid-configuration",
            ),
            (r#"{"status":401}"#, "status 401"),
            (r#"{"status":"","scope":[]}"#, "no reason"),
            (r#"{"status":"a\u001b[31mb\n"}"#, "status a [31mb"),
            ("[1]", "[1]"),
            ("not \u{7}today", "not today"),
        ] {
            let challenge = Challenge::decode(&STANDARD.encode(json)).unwrap();
            assert_eq!(challenge.to_string(), text);
        }
        assert_eq!(Challenge::decode("  "), None);
        let plain = Challenge::decode("try harder").unwrap();
        assert_eq!(plain.to_string(), "try harder");
    }
}
