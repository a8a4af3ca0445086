//! What a token says about itself, when it happens to be a JWT (RFC 7519). Only for advice: nobody
//! but the servers is to rely on it.

use crate::{
    oauth::token::{claims, granted_scopes},
    secret::Secret,
    text::sanitize,
};

/// The claims that explain a refusal, made safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// What is allowed, as words.
    pub scopes: Vec<String>,
    /// Who signed in, if that is an address.
    pub user: Option<String>,
    /// From when on it is valid, in seconds since 1970, by the provider's clock.
    pub not_before: Option<i64>,
    /// Until when.
    pub expires: Option<i64>,
}

impl Claims {
    /// Reads a token's; `None` when it isn't a JWT.
    pub fn of(token: &Secret) -> Option<Self> {
        let claims = claims(token.expose())?;
        let text = |name: &str| claims.get(name)?.as_str().map(sanitize);
        let number = |name: &str| claims.get(name)?.as_i64();
        let scopes = ["scp", "scope"].iter().find_map(|name| claims.get(name));
        let users = ["upn", "preferred_username", "unique_name", "email"];
        Some(Claims {
            scopes: scopes.and_then(granted_scopes).unwrap_or_default(),
            user: users
                .iter()
                .filter_map(|name| text(name))
                .find(|user| user.contains('@')),
            not_before: number("nbf").or(number("iat")),
            expires: number("exp"),
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn jwt(payload: &str) -> Secret {
        let payload = URL_SAFE_NO_PAD.encode(payload);
        Secret::new(format!("eyJ0eXAiOiJKV1QifQ.{payload}.c2lnbmF0dXJl"))
    }

    #[test]
    fn a_jwt_tells_whose_it_is_and_for_what() {
        let token = jwt(
            r#"{"aud":"https://outlook.office.com","scp":"IMAP.AccessAsUser.All SMTP.Send",
                "unique_name":"nobody","upn":"me@example.com","iat":1,"nbf":2,"exp":3600}"#,
        );
        let claims = Claims {
            scopes: vec!["IMAP.AccessAsUser.All".into(), "SMTP.Send".into()],
            user: Some("me@example.com".into()),
            not_before: Some(2),
            expires: Some(3600),
        };
        assert_eq!(Claims::of(&token), Some(claims));
        let token = jwt(r#"{"aud":["a","b"],"scope":["x","y"],"email":"a@b\u001b","iat":7}"#);
        let claims = Claims {
            scopes: vec!["x".into(), "y".into()],
            user: Some("a@b".into()),
            not_before: Some(7),
            ..Claims::default()
        };
        assert_eq!(Claims::of(&token), Some(claims));
    }

    #[test]
    fn other_tokens_tell_nothing() {
        for token in ["ya29.a0AfH6SM", "a.b.c", "opaque", "", "e30.bm90IGpzb24.x"] {
            assert_eq!(Claims::of(&Secret::new(token.into())), None, "{token}");
        }
    }
}
