//! The issuers. They mint tagged secrets, so that each one that turns up anywhere tells whose it
//! is, rotate refresh tokens each in its own manner, and fail in every way of [`Fault`].

use std::{collections::BTreeSet, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    issuer::Issuer,
    promise::{Invariant, Violation, ensure},
    setup::{ISSUERS, MARK, Origin, user},
    world::START_WALL,
};
use crate::{
    oauth::{
        authorization,
        command::CommandFailure,
        token::{MAX_RETRY_AFTER, Outcome, Reply},
    },
    time::{Instant, Wall},
};

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
    /// A device code (RFC 8628).
    Device,
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
    /// Of a device code: whether whoever entered it agreed.
    agreed: Option<bool>,
    /// Of a device code.
    expires: Option<Instant>,
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
    /// A device code, with its life and interval in seconds.
    Device {
        code: Tag,
        life: u32,
        interval: Option<u32>,
    },
    /// Nobody has entered the code, or somebody who polls is too fast.
    NotYet {
        slower: bool,
    },
    /// Whoever entered the code has refused.
    Denied,
    /// Nobody entered it in time.
    Expired,
    /// What the token belongs to has ended.
    Revoked,
}

impl Decision {
    /// What was minted for it.
    pub fn tags(self) -> impl Iterator<Item = Tag> {
        let (access, refresh) = match self {
            Decision::Granted {
                access, refresh, ..
            } => (Some(access), refresh),
            Decision::Device { code, .. } => (Some(code), None),
            Decision::InvalidGrant
            | Decision::NotYet { .. }
            | Decision::Denied
            | Decision::Expired
            | Decision::Revoked => (None, None),
        };
        access.into_iter().chain(refresh)
    }
}

#[derive(Clone, Debug, Default, Hash)]
pub struct Provider {
    minted: Vec<Minted>,
    families: Vec<Family>,
    pub issuers: [Issuer; ISSUERS as usize],
    /// What an issuer, or somebody in its place, has called revoked.
    pub revoked: BTreeSet<Tag>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    Exchange,
    Refresh,
    /// A token of the client's own.
    Own,
    /// A device code.
    Code,
    /// Whether the device code was entered.
    Poll,
    Revocation,
}

/// The parts of a request's form that matter here.
#[derive(Clone, Debug)]
pub struct Form {
    pub asks: Asks,
    /// The secret that it is about; a request for a device code has none.
    pub tag: Option<Tag>,
    pub client_id: String,
    pub client_secret: Option<String>,
    pub redirect_uri: String,
    verifier: Option<String>,
}

impl Form {
    /// Reads a request's body; a secret that nobody minted is a violation.
    pub fn read(form: &str) -> Result<Form, Violation> {
        let field = |name: &str| {
            form.split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let secrets = [
            (Asks::Exchange, "code"),
            (Asks::Refresh, "refresh_token"),
            (Asks::Poll, "device_code"),
            (Asks::Revocation, "token"),
        ];
        let mut found = secrets
            .iter()
            .filter_map(|(asks, name)| Some((*asks, field(name)?)));
        let first = found.next();
        ensure(found.next().is_none(), Invariant::Origin, || {
            "a request with more secrets than one".into()
        })?;
        let grant = field("grant_type");
        let without = match grant {
            Some("client_credentials") => Asks::Own,
            Some(_) | None => Asks::Code,
        };
        let asks = first.map_or(without, |(asks, _)| asks);
        let tag = first.and_then(|(_, text)| read_tag(text));
        ensure(
            tag.is_some() || asks == Asks::Own || (asks == Asks::Code && grant.is_none()),
            Invariant::Origin,
            || "a request without a minted secret".into(),
        )?;
        Ok(Form {
            asks,
            tag,
            client_id: field("client_id").unwrap_or_default().to_owned(),
            client_secret: field("client_secret").map(str::to_owned),
            redirect_uri: url::form_urlencoded::parse(form.as_bytes())
                .find_map(|(name, value)| (name == "redirect_uri").then(|| value.into_owned()))
                .unwrap_or_default(),
            verifier: field("code_verifier").map(str::to_owned),
        })
    }
}

/// The number in a minted secret's text.
pub fn read_tag(text: &str) -> Option<Tag> {
    text.strip_prefix(MARK)?.split('-').next()?.parse().ok()
}

impl Provider {
    /// Whether an issuer is asked for its document.
    pub fn asks_issuers(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.asking.is_some())
    }

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
            place,
        } = minted.origin;
        let kind = match minted.kind {
            Kind::Access => "access",
            Kind::Refresh => "refresh",
            Kind::Code => "code",
            Kind::Device => "device",
        };
        let generation = minted.generation;
        let claims = match waits(tag) {
            Some(secs) if minted.kind == Kind::Refresh => {
                let claims = format!("{{\"iat\":1000,\"nbf\":{}}}", 1000 + secs);
                format!("-.{}.", URL_SAFE_NO_PAD.encode(claims))
            }
            Some(_) | None => String::new(),
        };
        format!(
            "{MARK}{tag}-{kind}{claims}-iss{issuer}.acct{account}.client{client}.place{place}.gen{generation}"
        )
    }

    fn mint(&mut self, kind: Kind, origin: Origin, family: usize, generation: u32) -> Tag {
        self.minted.push(Minted {
            kind,
            origin,
            family,
            generation,
            challenge: String::new(),
            spent: false,
            agreed: None,
            expires: None,
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
            (minted.spent, minted.agreed),
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

    /// The request arrives at `issuer`, for the account and client of `origin`.
    pub fn decide(
        &mut self,
        origin: Origin,
        form: &Form,
        now: Instant,
        life: Option<u32>,
    ) -> Result<Decision, Violation> {
        let Some(tag) = form.tag else {
            return Ok(match form.asks {
                Asks::Own => self.give_own(origin, life),
                _ => self.give_code(origin, now, life),
            });
        };
        let minted = self.minted[tag].clone();
        let fits = match minted.kind {
            Kind::Code => form.asks == Asks::Exchange,
            Kind::Device => form.asks == Asks::Poll,
            Kind::Refresh => matches!(form.asks, Asks::Refresh | Asks::Revocation),
            Kind::Access => form.asks == Asks::Revocation,
        };
        ensure(
            fits && minted.origin.issuer == origin.issuer,
            Invariant::Origin,
            || format!("issuer {} was sent {}", origin.issuer, self.text(tag)),
        )?;
        Ok(match form.asks {
            Asks::Exchange => self.exchange(form, tag, &minted, life),
            Asks::Refresh | Asks::Own | Asks::Code => self.refresh(tag, &minted, life),
            Asks::Poll => self.polled(tag, &minted, now, life),
            Asks::Revocation => {
                // An access token alone ends alone.
                self.families[minted.family].dead |= minted.kind == Kind::Refresh;
                Decision::Revoked
            }
        })
    }

    /// A token of the client's own. Some issuers add a refresh token, which nobody should keep.
    pub fn give_own(&mut self, origin: Origin, life: Option<u32>) -> Decision {
        self.families.push(Family {
            generation: 0,
            dead: false,
        });
        let family = self.families.len() - 1;
        Decision::Granted {
            access: self.mint(Kind::Access, origin, family, 0),
            refresh: (origin.issuer == 1).then(|| self.mint(Kind::Refresh, origin, family, 0)),
            life,
        }
    }

    /// A device code; its life and interval come from the life that tokens were to have.
    fn give_code(&mut self, origin: Origin, now: Instant, life: Option<u32>) -> Decision {
        self.families.push(Family {
            generation: 0,
            dead: false,
        });
        let code = self.mint(Kind::Device, origin, self.families.len() - 1, 0);
        let secs = life.unwrap_or(900);
        let span = Duration::from_secs(secs.into());
        self.minted[code].expires = Some(now.after(span));
        let interval = match secs {
            60 => Some(1),
            25 => None,
            600 => Some(30),
            _ => Some(5),
        };
        Decision::Device {
            code,
            life: secs,
            interval,
        }
    }

    /// Somebody enters a device code, and agrees or refuses. What was said first counts.
    pub fn enter(&mut self, code: Tag, agrees: bool) {
        self.minted[code].agreed.get_or_insert(agrees);
    }

    fn polled(&mut self, code: Tag, minted: &Minted, now: Instant, life: Option<u32>) -> Decision {
        if minted.spent {
            return Decision::InvalidGrant;
        }
        if minted.expires.is_some_and(|at| at <= now) {
            return Decision::Expired;
        }
        match minted.agreed {
            None => Decision::NotYet {
                slower: life == Some(25),
            },
            Some(false) => Decision::Denied,
            Some(true) => {
                self.minted[code].spent = true;
                Decision::Granted {
                    access: self.mint(Kind::Access, minted.origin, minted.family, 0),
                    refresh: Some(self.mint(Kind::Refresh, minted.origin, minted.family, 0)),
                    life,
                }
            }
        }
    }

    fn exchange(&mut self, form: &Form, tag: Tag, minted: &Minted, life: Option<u32>) -> Decision {
        let verifier = form.verifier.as_deref().unwrap_or_default();
        let proven = authorization::code_challenge(verifier) == minted.challenge;
        if minted.spent || !proven {
            self.families[minted.family].dead = true;
            return Decision::InvalidGrant;
        }
        self.minted[tag].spent = true;
        Decision::Granted {
            access: self.mint(Kind::Access, minted.origin, minted.family, 0),
            refresh: Some(self.mint(Kind::Refresh, minted.origin, minted.family, 0)),
            life,
        }
    }

    fn refresh(&mut self, tag: Tag, minted: &Minted, life: Option<u32>) -> Decision {
        if !self.would_refresh(tag) {
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
    /// It passes, unless it comes over and over.
    Vague,
}

/// What a reply means for a poll with a device code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Granted,
    NotYet {
        slower: bool,
    },
    /// It is repeated, later and later.
    Troubled {
        lost: bool,
        wait: Duration,
    },
    Denied,
    Expired,
    Failed,
}

/// The status, `Retry-After`, body and meaning of replies that aren't honest.
type Script = (u16, Option<&'static str>, &'static str, Class);

const NOW: Class = Class::Transient(Duration::ZERO);
const PORTAL: &str = "<!DOCTYPE html><html><body>Welcome to the hotel</body></html>";

pub const SCRIPTS: [Script; 42] = [
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
    (
        403,
        None,
        "{\"error\":\"Forbidden\",\"message\":\"Request blocked\"}",
        Class::Vague,
    ),
    (401, None, "{\"error\":\"Unauthorized\"}", Class::Vague),
    (
        400,
        None,
        "{\"status\":400,\"error\":\"Bad Request\",\"path\":\"/token\"}",
        Class::Vague,
    ),
    (
        500,
        Some("600"),
        "",
        Class::Transient(Duration::from_secs(600)),
    ),
    (
        503,
        Some("3600"),
        "{\"error\":\"temporarily_unavailable\"}",
        Class::Transient(MAX_RETRY_AFTER),
    ),
    (401, None, "{\"error\":\"invalid_client\"}", Class::Parked),
    (
        404,
        None,
        "{\"error\":\"Realm does not exist\"}",
        Class::Parked,
    ),
    (404, None, "{\"error\":\"Not Found\"}", Class::Parked),
    (
        400,
        None,
        "{\"error\":\"unauthorized_client\",\"error_description\":\"AADSTS700016: no such application\"}",
        Class::Parked,
    ),
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

    /// Whether it says that the endpoint has too much to do.
    pub fn is_busy(self) -> bool {
        matches!(self, Fault::Scripted(row) if matches!(SCRIPTS[usize::from(row)].0, 429 | 503))
    }

    /// Whether something refused the request without a reason that counts at once.
    pub fn is_unexplained(self) -> bool {
        let Fault::Scripted(row) = self else {
            return false;
        };
        let (status, _, body, class) = SCRIPTS[usize::from(row)];
        if matches!(class, Class::Vague | Class::Parked) {
            return true;
        }
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

    /// What it means for `token_cmd`.
    pub fn command_class(self) -> Class {
        match self {
            Fault::Honest | Fault::NoRefreshToken => Class::Granted,
            Fault::Scripted(row) => match SCRIPTS[usize::from(row)].3 {
                Class::Login | Class::Parked => Class::Parked,
                Class::Granted | Class::Transient(_) | Class::Vague => NOW,
            },
            _ => NOW,
        }
    }

    /// What `token_cmd` prints, or how it ends.
    pub fn printed(
        self,
        provider: &Provider,
        decision: Option<Decision>,
    ) -> Result<Vec<u8>, CommandFailure> {
        let failed = |status| {
            let what = "token_cmd failed".into();
            Err(CommandFailure { status, what })
        };
        let (token, life) = match decision {
            Some(Decision::Granted { access, life, .. }) => (provider.text(access), life),
            _ => (String::new(), None),
        };
        let text = match (self, life) {
            (Fault::Truncated, _) => format!("{{\"token\":\"{token}"),
            (Fault::BrokenToken, _) => format!("{token} {token}"),
            (Fault::Honest | Fault::NoRefreshToken, None) => format!("{token}\n"),
            (Fault::Honest | Fault::NoRefreshToken, Some(life)) => {
                format!("{{\"token\":\"{token}\",\"expires_in\":{life}}}")
            }
            (Fault::Scripted(_), _) if self.command_class() == Class::Parked => {
                return failed(Some(78));
            }
            (Fault::Scripted(_), _) => return failed(Some(1)),
            (Fault::ReplyLost | Fault::RequestLost | Fault::NotSent, _) => return failed(None),
        };
        Ok(text.into_bytes())
    }

    /// Whether it brings a device code, given the issuer's decision.
    pub fn gives_code(self, decision: Option<Decision>) -> bool {
        let whole = matches!(self, Fault::Honest | Fault::NoRefreshToken);
        whole && matches!(decision, Some(Decision::Device { .. }))
    }

    /// What it means for a poll, given the issuer's decision; `lost` is whether the reply to an
    /// earlier one was.
    pub fn poll(self, decision: Option<Decision>, lost: bool) -> Polled {
        let trouble = |wait| Polled::Troubled { lost: false, wait };
        match self {
            Fault::ReplyLost | Fault::RequestLost => Polled::Troubled {
                lost: true,
                wait: Duration::ZERO,
            },
            Fault::NotSent => trouble(Duration::ZERO),
            Fault::Scripted(row) => match SCRIPTS[usize::from(row)] {
                (_, _, body, _) if body.contains("slow_down") => Polled::NotYet { slower: true },
                (_, _, body, _) if lost && body.contains("invalid_grant") => Polled::Failed,
                (.., Class::Transient(wait)) => trouble(wait),
                (.., Class::Vague) => trouble(Duration::ZERO),
                (.., Class::Login | Class::Parked | Class::Granted) => Polled::Failed,
            },
            Fault::Honest | Fault::NoRefreshToken | Fault::Truncated | Fault::BrokenToken => {
                match decision {
                    Some(Decision::Granted { .. }) => match self {
                        Fault::Truncated => trouble(Duration::ZERO),
                        Fault::BrokenToken => Polled::Failed,
                        _ => Polled::Granted,
                    },
                    Some(Decision::NotYet { slower }) => Polled::NotYet { slower },
                    Some(Decision::Denied) => Polled::Denied,
                    Some(Decision::Expired) => Polled::Expired,
                    _ => Polled::Failed,
                }
            }
        }
    }

    /// Whether it says that a token is revoked.
    pub fn revokes(self) -> bool {
        match self {
            Fault::ReplyLost | Fault::RequestLost | Fault::NotSent => false,
            Fault::Scripted(row) => (200..300).contains(&SCRIPTS[usize::from(row)].0),
            Fault::Honest | Fault::NoRefreshToken | Fault::Truncated | Fault::BrokenToken => true,
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
        let error = |name: &str| reply(400, None, &format!("{{\"error\":\"{name}\"}}"));
        let Some(decision) = decision else {
            return error("invalid_grant");
        };
        match decision {
            Decision::Granted {
                access,
                refresh,
                life,
            } => self.tokens(provider, access, refresh, life),
            Decision::InvalidGrant => error("invalid_grant"),
            Decision::Device {
                code,
                life,
                interval,
            } => self.device(provider, code, life, interval),
            Decision::NotYet { slower: false } => error("authorization_pending"),
            Decision::NotYet { slower: true } => error("slow_down"),
            Decision::Denied => error("access_denied"),
            Decision::Expired => error("expired_token"),
            Decision::Revoked => reply(200, None, ""),
        }
    }

    fn device(self, provider: &Provider, code: Tag, life: u32, interval: Option<u32>) -> Outcome {
        let issuer = provider.minted[code].origin.issuer;
        let mut body = format!(
            "{{\"device_code\":\"{}\",\"expires_in\":{life},\
             \"verification_uri\":\"https://iss{issuer}.example/device\"",
            provider.text(code)
        );
        if let Some(secs) = interval {
            body.push_str(&format!(",\"interval\":{secs}"));
        }
        if self != Fault::BrokenToken {
            body.push_str(&format!(",\"user_code\":\"{}\"", user_code(code)));
        }
        if self != Fault::Truncated {
            body.push('}');
        }
        reply(200, None, &body)
    }

    fn tokens(
        self,
        provider: &Provider,
        access: Tag,
        refresh: Option<Tag>,
        life: Option<u32>,
    ) -> Outcome {
        let mut body = format!("{{\"access_token\":\"{}", provider.text(access));
        if self == Fault::BrokenToken {
            body.push_str(" x");
        }
        if has_id_token(access) {
            let id_token = id_token(access, provider.minted[access].origin.account);
            body.push_str(&format!("\",\"id_token\":\"{id_token}"));
        }
        let kind = ["Bearer", "bearer", "BearerToken", "bearer_token"][access % 4];
        body.push_str(&format!("\",\"token_type\":\"{kind}\""));
        if let Some(life) = life {
            body.push_str(&match access / 4 % 4 {
                0 => format!(",\"expires_in_sec\":{life}"),
                1 => format!(",\"expires_in\":\"{life}\""),
                // In milliseconds.
                2 if life >= 3600 => {
                    format!(",\"expires_in\":{life}000,\"expires_in_sec\":{life}")
                }
                _ => format!(",\"expires_in\":{life}"),
            });
        }
        if let Some(refresh) = refresh.filter(|_| self != Fault::NoRefreshToken) {
            body.push_str(&format!(
                ",\"refresh_token\":\"{}\"",
                provider.text(refresh)
            ));
            if let Some(life) = refresh_life(refresh) {
                body.push_str(&match refresh / 8 % 3 {
                    0 => format!(",\"refresh_expires_in\":{life}"),
                    1 => format!(",\"refresh_token_expires_in\":\"{life}\""),
                    _ => format!(",\"refresh_token_timeout\":{life}"),
                });
            }
        }
        if self != Fault::Truncated {
            body.push('}');
        }
        reply(200, None, &body)
    }
}

/// What the user types for a device code.
pub fn user_code(code: Tag) -> String {
    format!("USER-{code}")
}

fn reply(status: u16, retry_after: Option<&str>, body: &str) -> Outcome {
    let moved = (300..400).contains(&status);
    Outcome::Reply(Reply {
        status,
        retry_after: retry_after.map(str::to_owned),
        date: None,
        location: moved.then(|| "http://portal.example/login".into()),
        body: body.as_bytes().to_vec().into(),
        ..Reply::default()
    })
}

/// How long a refresh token lives in seconds, as the issuer says: 0 for ever, `None` where it says
/// nothing. No issuer keeps its word: what is tested is that the core believes it.
pub fn refresh_life(tag: Tag) -> Option<u32> {
    [
        None,
        Some(0),
        None,
        Some(90),
        Some(1800),
        None,
        Some(7200),
        None,
    ][tag % 8]
}

/// Somebody else.
pub const OTHER_USER: &str = "other@x.example";

/// Whether an ID token comes with an access token.
pub fn has_id_token(access: Tag) -> bool {
    access % 6 != 0
}

/// The ID token that comes with an access token.
pub fn id_token(access: Tag, account: usize) -> String {
    let own = user(account);
    let exp =
        id_token_expires(access).map_or(String::new(), |at| format!(",\"exp\":{}", at.secs()));
    let claims = match access % 6 {
        1 => format!("{{\"email\":\"{own}\"{exp}}}"),
        2 | 3 => format!("{{\"email\":\"{OTHER_USER}\"{exp}}}"),
        4 => format!("{{\"email\":7,\"upn\":\"{}\"}}", own.to_uppercase()),
        _ => "no JSON".into(),
    };
    format!("e30.{}.{MARK}{access}-id", URL_SAFE_NO_PAD.encode(claims))
}

/// With which access token an ID token came.
pub fn read_id_token(text: &str) -> Option<Tag> {
    read_tag(text.rsplit('.').next()?)
}

/// When an ID token expires, if it says so: some have expired when they come.
pub fn id_token_expires(access: Tag) -> Option<Wall> {
    let secs = match access % 6 {
        1 => 900,
        2 | 3 => 7200,
        _ => return None,
    };
    Some(START_WALL.after(Duration::from_secs(secs * access as u64)))
}

/// Whether another user has signed in than was to, as far as the reply with an access token says.
pub fn is_other_user(access: Tag) -> Option<bool> {
    [None, Some(false), Some(true), Some(true), Some(false), None][access % 6]
}

/// After how many seconds a refresh token can be used, as it says itself.
pub fn waits(tag: Tag) -> Option<u32> {
    (tag % 9 == 4).then_some(45)
}

/// When a token of `life` seconds expires that was asked for at `sent`.
pub fn expiry(sent: Instant, life: Option<u32>) -> Option<Instant> {
    life.map(|secs| sent.after(Duration::from_secs(secs.max(1).into())))
}
