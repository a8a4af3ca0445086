//! What a provider says of itself, and of a client that it has registered.

use pizauth::{
    config,
    oauth::{
        metadata::{self, Metadata},
        registration::{self, REDIRECTS, Refused, Wanted},
        token::{Outcome, Reply},
    },
};
use url::Url;

use super::assert_line;

const ISSUER: &str = "https://op.example";

/// A document is believed only with endpoints that may be asked; what is printed for a client that
/// was registered is always a good configuration.
pub fn provider_document(data: &[u8]) {
    let known = match metadata::parse(data, ISSUER) {
        Ok(known) => known,
        Err(fault) => {
            assert_line(&fault.text);
            assert_line(fault.hint.unwrap());
            bare()
        }
    };
    assert!(metadata::is_same_issuer(&known.issuer, ISSUER));
    endpoints(&known).for_each(assert_usable);
    known.warnings.iter().for_each(|line| assert_line(line));
    known
        .listed_scopes()
        .iter()
        .for_each(|line| assert_line(line));
    let carried = serde_json::to_string(&known).expect("to be carried");
    assert_eq!(
        serde_json::from_str::<Metadata>(&carried).ok(),
        Some(known.clone())
    );
    for status in [201, 400, 401] {
        registered(&known, status, data);
    }
}

fn registered(known: &Metadata, status: u16, body: &[u8]) {
    let endpoint = "https://op.example/register".parse().expect("a URL");
    let outcome = Outcome::Reply(Reply {
        status,
        retry_after: None,
        date: None,
        location: None,
        body: pizauth::secret::SecretBytes::new(body.to_vec()),
        ..Reply::default()
    });
    let wanted = Wanted {
        redirect_uri: REDIRECTS[0],
        scopes: &[],
        device: registration::offers_device_codes(known),
    };
    match registration::judge(&endpoint, &outcome) {
        Ok(client) => {
            let block = registration::block("op", known, &wanted, &client);
            let config = config::parse("x", block.expose()).expect("a good account");
            let registration = &config.accounts[0].registration;
            assert_eq!(registration.client_id, client.client_id);
            assert_eq!(registration.issuer.as_deref(), Some(known.issuer.as_str()));
        }
        Err(
            Refused::Redirect(why)
            | Refused::Metadata(why)
            | Refused::Token(why)
            | Refused::Other(why)
            | Refused::Passing(why),
        ) => assert_line(&why),
    }
}

/// The least that can be known.
fn bare() -> Metadata {
    let document = br#"{"issuer":"https://op.example","token_endpoint":"https://op.example/t",
        "authorization_endpoint":"https://op.example/a"}"#;
    metadata::parse(document, ISSUER).expect("a good document")
}

fn endpoints(known: &Metadata) -> impl Iterator<Item = &Url> {
    let all = [
        &known.authorization_endpoint,
        &known.token_endpoint,
        &known.device_authorization_endpoint,
        &known.revocation_endpoint,
        &known.registration_endpoint,
    ];
    all.into_iter().flatten()
}

fn assert_usable(uri: &Url) {
    assert_eq!(uri.scheme(), "https");
    assert!(uri.fragment().is_none() && uri.username().is_empty() && uri.password().is_none());
}
