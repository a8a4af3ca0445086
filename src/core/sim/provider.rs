//! The issuers. They mint tagged secrets, so that each one that turns up anywhere tells whose it
//! is, rotate refresh tokens each in its own manner, and fail in every way of [`Fault`].

use std::{fmt, time::Duration};

use url::Url;
use zeroize::Zeroizing;

use super::{Invariant, ensure};
use crate::{
    oauth::{
        authorization,
        token::{MAX_RETRY_AFTER, Outcome, Reply},
    },
    time::Instant,
};

/// What every minted or configured secret starts with.
pub const MARK: &str = "S3CR-";

/// How many issuers there are. Their manners differ, see [`Manner`].
pub const ISSUERS: u8 = 3;

/// To whom a secret belongs: the account's name and what the sim varies of its registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub account: usize,
    pub issuer: u8,
    pub client: u8,
}

/// What an issuer does to a refresh token that has been used.
#[derive(PartialEq, Eq)]
enum Manner {
    /// A new one replaces it; the old one ends them all (RFC 9700, 4.14.2).
    DetectsReuse,
    /// It stays, and the reply has none.
    Keeps,
    /// A new one comes along, and the old one works on.
    Tolerates,
}

fn manner(issuer: u8) -> Manner {
    match issuer {
        0 => Manner::DetectsReuse,
        1 => Manner::Keeps,
        _ => Manner::Tolerates,
    }
}

/// A minted secret's number, which its text carries.
pub type Tag = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Access,
    Refresh,
    Code,
}

#[derive(Clone, Debug, Hash)]
pub struct Minted {
    pub kind: Kind,
    pub origin: Origin,
    family: usize,
    generation: u32,
    /// Of a code: what the code_verifier must match.
    challenge: String,
    spent: bool,
}

/// All tokens that came of one sign-in.
#[derive(Clone, Debug, Hash)]
struct Family {
    generation: u32,
    dead: bool,
}

/// What an issuer has decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    Granted {
        access: Tag,
        refresh: Option<Tag>,
        /// In seconds.
        life: Option<u32>,
    },
    InvalidGrant,
}

impl Decision {
    /// What was minted for it.
    pub fn tags(self) -> impl Iterator<Item = Tag> {
        let (access, refresh) = match self {
            Decision::Granted {
                access, refresh, ..
            } => (Some(access), refresh),
            Decision::InvalidGrant => (None, None),
        };
        access.into_iter().chain(refresh)
    }
}

#[derive(Clone, Debug, Default, Hash)]
pub struct Provider {
    minted: Vec<Minted>,
    families: Vec<Family>,
}

/// The parts of a token request's form that matter here.
pub struct Form {
    pub kind: Kind,
    pub tag: Tag,
    verifier: Option<String>,
}

impl Form {
    /// Reads a token request's body; a secret that nobody minted is a violation.
    pub fn read(form: &str) -> Result<Form, super::Violation> {
        let field = |name: &str| {
            form.split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let (kind, text) = match (field("code"), field("refresh_token")) {
            (Some(code), None) => (Kind::Code, code),
            (None, Some(token)) => (Kind::Refresh, token),
            _ => (Kind::Code, ""),
        };
        let tag = read_tag(text);
        ensure(tag.is_some(), Invariant::Origin, || {
            "a request without a minted secret".into()
        })?;
        Ok(Form {
            kind,
            tag: tag.unwrap_or_default(),
            verifier: field("code_verifier").map(str::to_owned),
        })
    }
}

/// The number in a minted secret's text.
pub fn read_tag(text: &str) -> Option<Tag> {
    text.strip_prefix(MARK)?.split('-').next()?.parse().ok()
}

/// The issuer that `uri` belongs to.
pub fn endpoint_of(uri: &Url) -> Option<u8> {
    let host = uri.host_str()?.strip_prefix("iss")?;
    host.strip_suffix(".example")?.parse().ok()
}

impl Provider {
    pub fn get(&self, tag: Tag) -> Option<&Minted> {
        self.minted.get(tag)
    }

    /// The secret itself.
    pub fn text(&self, tag: Tag) -> String {
        let minted = &self.minted[tag];
        let Origin {
            account,
            issuer,
            client,
        } = minted.origin;
        let kind = match minted.kind {
            Kind::Access => "access",
            Kind::Refresh => "refresh",
            Kind::Code => "code",
        };
        let generation = minted.generation;
        format!("{MARK}{tag}-{kind}-iss{issuer}.acct{account}.client{client}.gen{generation}")
    }

    fn mint(&mut self, kind: Kind, origin: Origin, family: usize, generation: u32) -> Tag {
        self.minted.push(Minted {
            kind,
            origin,
            family,
            generation,
            challenge: String::new(),
            spent: false,
        });
        self.minted.len() - 1
    }

    /// The user has agreed: an authorization code.
    pub fn authorize(&mut self, origin: Origin, challenge: &str) -> Tag {
        self.families.push(Family {
            generation: 0,
            dead: false,
        });
        let code = self.mint(Kind::Code, origin, self.families.len() - 1, 0);
        self.minted[code].challenge = challenge.into();
        code
    }

    /// Whether a refresh with this token would succeed.
    pub fn would_refresh(&self, tag: Tag) -> bool {
        let minted = &self.minted[tag];
        let family = &self.families[minted.family];
        let current = minted.generation == family.generation;
        !family.dead && (current || manner(minted.origin.issuer) != Manner::DetectsReuse)
    }

    /// Everything about a secret that the future depends on, but for its family's number.
    pub fn outlook(&self, tag: Tag) -> (usize, impl fmt::Debug + use<>) {
        let minted = &self.minted[tag];
        let family = &self.families[minted.family];
        let behind = family.generation - minted.generation;
        let text = (
            minted.kind,
            minted.origin,
            minted.spent,
            family.dead,
            behind,
        );
        (minted.family, text)
    }

    /// The issuer ends what came of a sign-in, for reasons of its own.
    pub fn end_family(&mut self, tag: Tag) {
        let family = self.minted[tag].family;
        self.families[family].dead = true;
    }

    /// The request arrives at `issuer`.
    pub fn decide(
        &mut self,
        issuer: u8,
        form: &Form,
        life: Option<u32>,
    ) -> Result<Decision, super::Violation> {
        let minted = self.minted[form.tag].clone();
        ensure(
            minted.kind == form.kind && minted.origin.issuer == issuer,
            Invariant::Origin,
            || format!("issuer {issuer} was sent {}", self.text(form.tag)),
        )?;
        Ok(match form.kind {
            Kind::Code => self.exchange(form, &minted, life),
            Kind::Refresh | Kind::Access => self.refresh(form, &minted, life),
        })
    }

    fn exchange(&mut self, form: &Form, minted: &Minted, life: Option<u32>) -> Decision {
        let verifier = form.verifier.as_deref().unwrap_or_default();
        let proven = authorization::code_challenge(verifier) == minted.challenge;
        if minted.spent || !proven {
            self.families[minted.family].dead = true;
            return Decision::InvalidGrant;
        }
        self.minted[form.tag].spent = true;
        Decision::Granted {
            access: self.mint(Kind::Access, minted.origin, minted.family, 0),
            refresh: Some(self.mint(Kind::Refresh, minted.origin, minted.family, 0)),
            life,
        }
    }

    fn refresh(&mut self, form: &Form, minted: &Minted, life: Option<u32>) -> Decision {
        if !self.would_refresh(form.tag) {
            self.families[minted.family].dead = true;
            return Decision::InvalidGrant;
        }
        let rotates = manner(minted.origin.issuer) != Manner::Keeps;
        if rotates {
            self.families[minted.family].generation += 1;
        }
        let generation = self.families[minted.family].generation;
        let refresh =
            rotates.then(|| self.mint(Kind::Refresh, minted.origin, minted.family, generation));
        Decision::Granted {
            access: self.mint(Kind::Access, minted.origin, minted.family, generation),
            refresh,
            life,
        }
    }
}

/// What comes back for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The issuer's decision.
    Honest,
    /// The issuer's decision, without a refresh token.
    NoRefreshToken,
    /// The issuer decided, and its reply was lost.
    ReplyLost,
    /// The issuer decided, and its reply was cut short.
    Truncated,
    /// The issuer decided, and its access token would break a line.
    BrokenToken,
    /// Sent, but it never arrived.
    RequestLost,
    /// Nothing was sent.
    NotSent,
    /// Something else answered, or the issuer in an odd manner: a row of [`SCRIPTS`].
    Scripted(u8),
}

/// What a reply means for a refresh. (An exchange is retried after `NotSent` only.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Granted,
    Login,
    Parked,
    Transient(Duration),
}

/// The status, `Retry-After`, body and meaning of replies that aren't honest.
type Script = (u16, Option<&'static str>, &'static str, Class);

const NOW: Class = Class::Transient(Duration::ZERO);
const PORTAL: &str = "<!DOCTYPE html><html><body>Welcome to the hotel</body></html>";

pub const SCRIPTS: [Script; 34] = [
    (302, None, PORTAL, NOW),
    (307, None, "", NOW),
    (200, None, PORTAL, NOW),
    (200, None, "", NOW),
    (200, None, "{}", NOW),
    (200, None, "[]", NOW),
    (200, None, "{\"access_token\":\"\"}", NOW),
    (
        200,
        None,
        "{\"access_token\":null,\"token_type\":\"bearer\"}",
        NOW,
    ),
    (200, None, "\u{0}\u{1}garbage", NOW),
    (204, None, "", NOW),
    (400, None, PORTAL, NOW),
    (400, None, "{}", NOW),
    (403, None, "{\"message\":\"blocked\"}", NOW),
    (404, None, PORTAL, NOW),
    (407, None, PORTAL, NOW),
    (408, None, "", NOW),
    (425, None, "", NOW),
    (429, None, "", NOW),
    (
        429,
        Some("120"),
        "",
        Class::Transient(Duration::from_secs(120)),
    ),
    (
        429,
        Some("99999999999999999999999"),
        "",
        Class::Transient(MAX_RETRY_AFTER),
    ),
    (429, Some("soon"), "{\"error\":\"invalid_grant\"}", NOW),
    (500, None, "{\"error\":\"server_error\"}", NOW),
    (502, None, PORTAL, NOW),
    (
        503,
        Some("30"),
        "",
        Class::Transient(Duration::from_secs(30)),
    ),
    (511, None, PORTAL, NOW),
    (522, None, "error code: 522", NOW),
    (400, None, "{\"error\":\"temporarily_unavailable\"}", NOW),
    (400, None, "{\"error\":\"slow_down\"}", NOW),
    (401, None, "{\"error\":\"invalid_client\"}", Class::Parked),
    (400, None, "{\"error\":\"invalid_scope\"}", Class::Parked),
    (400, None, "{\"error\":\"invalid_grant\"}", Class::Login),
    (
        200,
        None,
        "{\"error\":\"invalid_grant\",\"error_description\":\"\\u001b[31mred\\u0007\"}",
        Class::Login,
    ),
    (
        400,
        None,
        "error=invalid_grant&error_description=gone",
        Class::Login,
    ),
    (
        400,
        None,
        "{\"error\":\"interaction_required\"}",
        Class::Login,
    ),
];

impl Fault {
    /// The `index`-th, over and over.
    pub fn pick(index: usize) -> Fault {
        let plain = [
            Fault::Honest,
            Fault::NoRefreshToken,
            Fault::ReplyLost,
            Fault::Truncated,
            Fault::BrokenToken,
            Fault::RequestLost,
            Fault::NotSent,
        ];
        let index = index % (plain.len() + SCRIPTS.len());
        match plain.get(index) {
            Some(fault) => *fault,
            None => Fault::Scripted((index - plain.len()) as u8),
        }
    }

    /// Whether the issuer sees the request.
    pub fn arrives(self) -> bool {
        match self {
            Fault::Honest
            | Fault::NoRefreshToken
            | Fault::ReplyLost
            | Fault::Truncated
            | Fault::BrokenToken => true,
            Fault::RequestLost | Fault::NotSent | Fault::Scripted(_) => false,
        }
    }

    /// Whether something refused the request without a reason.
    pub fn is_unexplained(self) -> bool {
        let Fault::Scripted(row) = self else {
            return false;
        };
        let (status, _, body, class) = SCRIPTS[usize::from(row)];
        let proxy = matches!(status, 407 | 408 | 425 | 429);
        (400..500).contains(&status) && !proxy && class == NOW && !body.contains("\"error\"")
    }

    /// What it means for a refresh, given the issuer's decision.
    pub fn class(self, decision: Option<Decision>) -> Class {
        let refused = decision == Some(Decision::InvalidGrant);
        match self {
            Fault::ReplyLost | Fault::RequestLost | Fault::NotSent => NOW,
            Fault::Scripted(row) => SCRIPTS[usize::from(row)].3,
            _ if refused => Class::Login,
            Fault::Honest | Fault::NoRefreshToken => Class::Granted,
            Fault::Truncated | Fault::BrokenToken => NOW,
        }
    }

    /// What the shell reports.
    pub fn outcome(self, provider: &Provider, decision: Option<Decision>) -> Outcome {
        match self {
            Fault::ReplyLost | Fault::RequestLost => Outcome::Lost("connection reset".into()),
            Fault::NotSent => Outcome::NotSent("no route to host".into()),
            Fault::Scripted(row) => {
                let (status, retry_after, body, _) = SCRIPTS[usize::from(row)];
                reply(status, retry_after, body)
            }
            Fault::Honest | Fault::NoRefreshToken | Fault::Truncated | Fault::BrokenToken => {
                self.granted(provider, decision)
            }
        }
    }

    fn granted(self, provider: &Provider, decision: Option<Decision>) -> Outcome {
        let Some(Decision::Granted {
            access,
            refresh,
            life,
        }) = decision
        else {
            return reply(400, None, "{\"error\":\"invalid_grant\"}");
        };
        let mut body = format!("{{\"access_token\":\"{}", provider.text(access));
        if self == Fault::BrokenToken {
            body.push_str(" x");
        }
        body.push_str("\",\"token_type\":\"Bearer\"");
        if let Some(life) = life {
            body.push_str(&format!(",\"expires_in\":{life}"));
        }
        if let Some(refresh) = refresh.filter(|_| self != Fault::NoRefreshToken) {
            body.push_str(&format!(
                ",\"refresh_token\":\"{}\"",
                provider.text(refresh)
            ));
        }
        if self != Fault::Truncated {
            body.push('}');
        }
        reply(200, None, &body)
    }
}

fn reply(status: u16, retry_after: Option<&str>, body: &str) -> Outcome {
    let moved = (300..400).contains(&status);
    Outcome::Reply(Reply {
        status,
        retry_after: retry_after.map(str::to_owned),
        location: moved.then(|| "http://portal.example/login".into()),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    })
}

/// When a token of `life` seconds expires that was asked for at `sent`.
pub fn expiry(sent: Instant, life: Option<u32>) -> Option<Instant> {
    life.map(|secs| sent.after(Duration::from_secs(secs.max(1).into())))
}
