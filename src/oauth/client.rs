//! How the client proves who it is (RFC 6749, 2.3), the same way at each of the provider's
//! endpoints that it asks directly.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::token::Request;
use crate::{
    config::{ClientAuth, Header},
    secret::Secret,
};

/// What goes along with a request to prove who asks.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// By which method; exactly one a request.
    pub auth: ClientAuth,
    /// The client secret. An empty one counts as none: public clients must not send one.
    pub secret: Option<&'a Secret>,
    /// Further headers, as configured.
    pub headers: &'a [Header],
}

impl Credentials<'_> {
    /// A POST of `fields` to `endpoint`, with the client's proof. The field `client_id` is left
    /// out where the header says it.
    pub fn request(&self, endpoint: &Url, fields: &[(&str, &str)]) -> Request {
        let id = fields.iter().find(|(name, _)| *name == "client_id");
        let secret = (self.secret.map(Secret::expose)).filter(|secret| !secret.is_empty());
        let (basic, body) = match (self.auth, id, secret) {
            (ClientAuth::Basic, Some((_, id)), Some(secret)) => (Some(basic(id, secret)), None),
            (ClientAuth::Body, _, Some(secret)) => (None, Some(("client_secret", secret))),
            (ClientAuth::Basic | ClientAuth::Body | ClientAuth::None, _, _) => (None, None),
        };
        let said = |name: &str| basic.is_some() && name == "client_id";
        let form = encode(
            (fields.iter().copied())
                .filter(|(name, _)| !said(name))
                .chain(body),
        );
        let mut headers: Vec<Header> = self.headers.to_vec();
        headers.extend(basic);
        Request {
            endpoint: endpoint.clone(),
            form: Arc::new(form),
            headers,
            only_once: false,
        }
    }
}

/// `application/x-www-form-urlencoded`.
fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Secret {
    // Encoding at most triples. A buffer that had to grow would leave its secrets behind.
    let room = (fields.clone()).map(|(name, value)| 3 * (name.len() + value.len()) + 2);
    let buffer = String::with_capacity(room.sum());
    let form = form_urlencoded::Serializer::new(buffer)
        .extend_pairs(fields)
        .finish();
    Secret::new(form)
}

/// The header of HTTP Basic: id and secret are form-encoded first (RFC 6749, 2.3.1).
fn basic(id: &str, secret: &str) -> Header {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    pair.extend(form_urlencoded::byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    const SCHEME: &str = "Basic ";
    let mut value = String::with_capacity(SCHEME.len() + pair.len().div_ceil(3) * 4);
    value.push_str(SCHEME);
    STANDARD.encode_string(pair.as_bytes(), &mut value);
    Header {
        name: "Authorization".into(),
        value: Arc::new(Secret::new(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_proves_itself_by_exactly_one_method() {
        // "id one:x" and "s&c+é" are form-encoded before they are put together.
        const BASIC: &str = "Basic aWQrb25lJTNBeDpzJTI2YyUyQiVDMyVBOQ==";
        for (auth, secret, form, header) in [
            (
                ClientAuth::Body,
                Some("s&c+é"),
                "grant_type=g&client_id=id+one%3Ax&client_secret=s%26c%2B%C3%A9",
                None,
            ),
            (
                ClientAuth::Basic,
                Some("s&c+é"),
                "grant_type=g",
                Some(BASIC),
            ),
            (
                ClientAuth::None,
                Some("s"),
                "grant_type=g&client_id=id+one%3Ax",
                None,
            ),
            (
                ClientAuth::Basic,
                Some(""),
                "grant_type=g&client_id=id+one%3Ax",
                None,
            ),
            (
                ClientAuth::Body,
                Some(""),
                "grant_type=g&client_id=id+one%3Ax",
                None,
            ),
            (
                ClientAuth::Basic,
                None,
                "grant_type=g&client_id=id+one%3Ax",
                None,
            ),
        ] {
            let secret = secret.map(|secret| Secret::new(secret.into()));
            let extra = Header {
                name: "Origin".into(),
                value: Arc::new(Secret::new("https://a.example".into())),
            };
            let credentials = Credentials {
                auth,
                secret: secret.as_ref(),
                headers: std::slice::from_ref(&extra),
            };
            let endpoint = Url::parse("https://a.example/token").unwrap();
            let fields = [("grant_type", "g"), ("client_id", "id one:x")];
            let request = credentials.request(&endpoint, &fields);
            assert_eq!(request.endpoint, endpoint);
            assert_eq!(request.form.expose(), form);
            let headers: Vec<_> = (request.headers.iter())
                .map(|header| (header.name.as_str(), header.value.expose()))
                .collect();
            let mut wanted = vec![("Origin", "https://a.example")];
            wanted.extend(header.map(|value| ("Authorization", value)));
            assert_eq!(headers, wanted);
        }
    }
}
