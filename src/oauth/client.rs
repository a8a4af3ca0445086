//! How the client proves who it is (RFC 6749, 2.3), the same way at each of the provider's
//! endpoints that it asks directly.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Url, form_urlencoded};

use super::message::Request;
use crate::{
    config::{ClientAuth, Header},
    secret::{Mark, Secret},
};

/// The kind of assertion that proves the client (RFC 7523, 2.2).
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What goes along with a request to prove who asks.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// By which method; exactly one a request.
    pub auth: ClientAuth,
    /// The client secret, or the private key. An empty one counts as none: public clients must not
    /// send one.
    pub secret: Option<&'a Arc<Secret>>,
    /// Further headers, as configured.
    pub headers: &'a [Header],
    /// The registration beside which all that is configured.
    pub under: Mark,
}

/// A JWT that a request needs (RFC 7521), which is signed right before the request is sent.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// The private key, as the file of `client_key` or `key_file` has it.
    pub key: Arc<Secret>,
    /// The field of the form that it becomes.
    pub field: &'static str,
    /// Its claims, but for those of the clock and, where the key's file says them, of who signs.
    pub claims: Vec<(&'static str, String)>,
}

/// One of a provider's endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// Its address.
    pub url: &'a Url,
    /// The registration that names it, itself or by its issuer.
    pub under: Mark,
}

/// The value of a form's field.
#[derive(Clone, Copy)]
pub enum Field<'a> {
    /// Nothing secret.
    Plain(&'a str),
    /// What only the provider may see that has issued it.
    Secret(&'a Secret),
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(value: &'a str) -> Self {
        Field::Plain(value)
    }
}

impl<'a> From<&'a Secret> for Field<'a> {
    fn from(value: &'a Secret) -> Self {
        Field::Secret(value)
    }
}

impl<'a> Field<'a> {
    fn text(self) -> &'a str {
        match self {
            Field::Plain(text) => text,
            Field::Secret(secret) => secret.expose(),
        }
    }

    /// Whether an endpoint of this registration may see it.
    fn is_for(self, mark: Mark) -> bool {
        match self {
            Field::Plain(_) => true,
            Field::Secret(secret) => secret.belongs_to(mark),
        }
    }
}

impl Credentials<'_> {
    /// A POST of `fields` to `endpoint`, with the client's proof. The field `client_id` is left
    /// out where the header says it, or a key says who asks.
    /// What belongs elsewhere makes a request that isn't sent ([`Request::may_be_sent`]).
    pub fn request(&self, endpoint: Endpoint, fields: &[(&str, Field)]) -> Request {
        let id = fields.iter().find(|(name, _)| *name == "client_id");
        let id = id.map(|(_, id)| id.text()).filter(|id| !id.is_empty());
        let secret = self.secret.filter(|secret| !secret.expose().is_empty());
        let (mut header, mut field, mut assertion) = (None, None, None);
        match (self.auth, id, secret) {
            (ClientAuth::Basic, Some(id), Some(secret)) => {
                header = Some(basic(id, secret.expose()));
            }
            (ClientAuth::Body, _, Some(secret)) => {
                field = Some(("client_secret", secret.expose()));
            }
            (ClientAuth::PrivateKeyJwt, Some(id), Some(key)) => {
                field = Some(("client_assertion_type", CLIENT_ASSERTION));
                assertion = Some(Assertion {
                    key: key.clone(),
                    field: "client_assertion",
                    claims: vec![("iss", id.to_owned()), ("sub", id.to_owned())],
                });
            }
            (_, _, _) => {}
        }
        // An authorization request has it in any case (RFC 9126, 2.1).
        let is_pushed = fields.iter().any(|(name, _)| *name == "response_type");
        let said =
            |name: &str| name == "client_id" && (header.is_some() && !is_pushed || id.is_none());
        let form = encode(
            (fields.iter().map(|(name, value)| (*name, value.text())))
                .filter(|(name, _)| !said(name))
                .chain(field),
        );
        let theirs = fields.iter().all(|(_, value)| value.is_for(endpoint.under));
        if theirs && self.under == endpoint.under {
            form.bind(endpoint.under);
        }
        let mut headers: Vec<Header> = self.headers.to_vec();
        headers.extend(header);
        Request {
            endpoint: endpoint.url.clone(),
            under: endpoint.under,
            form: Arc::new(form),
            headers,
            known: Vec::new(),
            assertion,
            due: None,
        }
    }
}

/// `application/x-www-form-urlencoded`.
fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Secret {
    let mut form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    // Thousands of forms may wait for their turn.
    form.shrink_to_fit();
    Secret::new(form)
}

/// The header of HTTP Basic: id and secret are form-encoded first (RFC 6749, 2.3.1).
fn basic(id: &str, secret: &str) -> Header {
    let [id, secret] = [id, secret]
        .map(|text| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    let pair = STANDARD.encode(format!("{id}:{secret}"));
    Header {
        name: "Authorization".into(),
        value: Arc::new(Secret::new(format!("Basic {pair}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the three that a request is made of may be of another registration, or of none.
    #[test]
    fn a_request_with_a_secret_of_another_registration_is_not_sent() {
        let [ours, theirs] = [&b"ours"[..], b"theirs"].map(Mark::of);
        let url = Url::parse("https://a.example/token").unwrap();
        let client_secret = Arc::new(Secret::new("s".into()));
        for (client, endpoint, issued, sent) in [
            (ours, ours, Some(ours), true),
            (ours, ours, Some(theirs), false),
            (ours, ours, None, false),
            (ours, theirs, Some(ours), false),
            (ours, theirs, Some(theirs), false),
            (theirs, ours, Some(ours), false),
        ] {
            let token = Secret::new("t".into());
            if let Some(mark) = issued {
                token.bind(mark);
            }
            let credentials = Credentials {
                auth: ClientAuth::Body,
                secret: Some(&client_secret),
                headers: &[],
                under: client,
            };
            let at = Endpoint {
                url: &url,
                under: endpoint,
            };
            let fields = [
                ("client_id", "id".into()),
                ("refresh_token", (&token).into()),
            ];
            let request = credentials.request(at, &fields);
            assert_eq!(
                request.may_be_sent(),
                sent,
                "{client:?} {endpoint:?} {issued:?}"
            );
        }
    }

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
            let secret = secret.map(|secret| Arc::new(Secret::new(secret.into())));
            let extra = Header {
                name: "Origin".into(),
                value: Arc::new(Secret::new("https://a.example".into())),
            };
            let credentials = Credentials {
                auth,
                secret: secret.as_ref(),
                headers: std::slice::from_ref(&extra),
                under: Mark::of(b"ours"),
            };
            let url = Url::parse("https://a.example/token").unwrap();
            let fields = [("grant_type", "g"), ("client_id", "id one:x")];
            let fields = fields.map(|(name, value)| (name, value.into()));
            let endpoint = Endpoint {
                url: &url,
                under: Mark::of(b"ours"),
            };
            let request = credentials.request(endpoint, &fields);
            assert_eq!(request.endpoint, url);
            assert!(request.may_be_sent());
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
