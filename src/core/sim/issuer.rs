//! An issuer that says itself where its endpoints are (RFC 8414), and its documents: honest, late,
//! wrong, missing or somebody else's.

use super::setup::{host, issuer_uri};
use crate::{
    core::AttemptId,
    oauth::token::{Outcome, Reply},
    time::Instant,
};

/// Whose document it is that isn't the issuer's.
pub const STRANGER: &str = "https://evil.example";

/// An issuer, and what the daemon that now runs knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Issuer {
    /// Where its endpoints are.
    pub place: u8,
    /// Where it has said that they are.
    pub known: Option<u8>,
    pub asking: Option<Asking>,
    /// Where else to look, at once.
    pub next: Option<usize>,
    pub failed: Option<Instant>,
}

/// A document that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asking {
    pub attempt: AttemptId,
    /// At which of the places where it may be.
    pub nth: usize,
    pub sent: Instant,
}

/// What comes back for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Honest,
    /// The document of somebody who would like to be the issuer.
    Stranger,
    /// Its token endpoint could be read along.
    Plain,
    Missing,
    Page,
    Moved,
    Busy,
    Lost,
    NotSent,
}

impl Found {
    /// One of them, mostly an honest one.
    pub fn pick(index: usize) -> Found {
        use Found::*;
        let all = [
            Honest, Honest, Honest, Honest, Stranger, Plain, Missing, Missing, Page, Moved, Busy,
            Lost, NotSent,
        ];
        all[index % all.len()]
    }

    pub fn is_unreachable(self) -> bool {
        matches!(self, Found::Lost | Found::NotSent)
    }

    pub fn outcome(self, issuer: u8, place: u8) -> Outcome {
        let document = |issuer: &str, base: &str| {
            format!(
                "{{\"issuer\":\"{issuer}\",\"authorization_endpoint\":\"{base}/auth\",\
                 \"token_endpoint\":\"{base}/token\",\
                 \"token_endpoint_auth_methods_supported\":[\"client_secret_post\"]}}"
            )
        };
        let ours = issuer_uri(issuer);
        let reply = |status, body: String| {
            Outcome::Reply(Reply {
                status,
                retry_after: None,
                date: None,
                location: (status == 302).then(|| format!("{STRANGER}/")),
                body: body.into_bytes().into(),
                ..Reply::default()
            })
        };
        match self {
            Found::Honest => reply(
                200,
                document(&ours, &format!("https://{}", host(issuer, place))),
            ),
            Found::Stranger => reply(200, document(STRANGER, STRANGER)),
            Found::Plain => reply(
                200,
                document(&ours, &format!("http://{}", host(issuer, place))),
            ),
            Found::Missing => reply(404, String::new()),
            Found::Page => reply(200, "<html>Welcome to the hotel</html>".into()),
            Found::Moved => reply(302, String::new()),
            Found::Busy => reply(503, String::new()),
            Found::Lost => Outcome::Lost("connection reset".into()),
            Found::NotSent => Outcome::NotSent("no route to host".into()),
        }
    }
}
