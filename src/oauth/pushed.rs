//! Pushed authorization requests (RFC 9126): what a browser would take along is left with the provider,
//! and the browser brings only a name for it, which lives for a minute or so.

use std::time::Duration;

use url::Url;

use super::{
    client::{Credentials, Endpoint, Field},
    device,
    message::{Outcome, Refusal, Request},
};
use crate::time::Wall;

/// How long a request is kept when the provider doesn't say, though it must (RFC 9126, 2.2).
const EXPIRES_IN: Duration = Duration::from_secs(60);

/// The request that leaves `uri`'s parameters with the provider (RFC 9126, 2.1).
pub fn request(endpoint: Endpoint, credentials: &Credentials, uri: &Url) -> Request {
    let fields: Vec<_> = uri.query_pairs().collect();
    let fields: Vec<(&str, Field)> = (fields.iter())
        .map(|(name, value)| (&**name, (&**value).into()))
        .collect();
    credentials.request(endpoint, &fields)
}

/// The name of a request that was left with the provider, and how long it lives from when it was sent
/// (RFC 9126, 2.2).
///
/// # Errors
/// Why there is none, and whether that may pass.
pub fn judge(
    endpoint: &Url,
    outcome: &Outcome,
    wall: Wall,
) -> Result<(String, Duration), (Refusal, bool)> {
    device::judge_answer(endpoint, outcome, wall, "a request_uri", |members| {
        let life = members.seconds("expires_in").unwrap_or(EXPIRES_IN);
        let name = members.text("request_uri").filter(|it| !it.is_empty());
        Ok((name.ok_or("has no request_uri")?.to_owned(), life))
    })
}

/// Where the browser goes with that name (RFC 9126, 4).
pub fn authorization_uri(endpoint: &Url, client_id: &str, request_uri: &str) -> String {
    let mut uri = endpoint.clone();
    (uri.query_pairs_mut())
        .append_pair("client_id", client_id)
        .append_pair("request_uri", request_uri);
    uri.into()
}

#[cfg(test)]
mod tests {
    use super::super::message::Reply;
    use super::*;

    #[test]
    fn a_name_comes_with_its_life_or_there_is_a_reason() {
        let endpoint = Url::parse("https://a.example/par").unwrap();
        for (status, body, wanted) in [
            (
                201,
                r#"{"request_uri":"urn:x:1","expires_in":90}"#,
                Ok(("urn:x:1", 90)),
            ),
            (
                200,
                r#"{"request_uri":"urn:x:1","expires_in":"30"}"#,
                Ok(("urn:x:1", 30)),
            ),
            (201, r#"{"request_uri":"urn:x:1"}"#, Ok(("urn:x:1", 60))),
            (
                201,
                r#"{"request_uri":"","expires_in":90}"#,
                Err((
                    "a.example: the reply to the request for a request_uri has no request_uri",
                    false,
                )),
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"no"}"#,
                Err(("invalid_request: no", false)),
            ),
            (
                503,
                "",
                Err(("a.example answered 503 with an empty reply", true)),
            ),
        ] {
            let reply = Reply {
                status,
                body: Vec::from(body).into(),
                ..Reply::default()
            };
            let got = judge(&endpoint, &Outcome::Reply(reply), Wall::from_millis(0));
            let got = got.map_err(|(refusal, passes)| (refusal.text, passes));
            let wanted = wanted
                .map(|(name, life)| (name.to_owned(), Duration::from_secs(life)))
                .map_err(|(text, passes): (&str, bool)| (text.to_owned(), passes));
            assert_eq!(got, wanted, "{body}");
        }
        let uri = authorization_uri(&endpoint, "a&b", "urn:x:1");
        assert_eq!(
            uri,
            "https://a.example/par?client_id=a%26b&request_uri=urn%3Ax%3A1"
        );
    }
}
