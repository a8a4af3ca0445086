//! The token endpoint (RFC 6749, 3.2): request forms, and the verdict on a reply.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{civil::DateTime, tz::Offset};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use super::{
    client::{Assertion, Credentials, Endpoint, Field},
    hints::{self, Class},
    lifetime::{lifetime, refresh_life},
    message::authority,
    reply::{Members, ProviderError, Unreadable},
    words,
};
use crate::{
    config::{Registration, TokenSource},
    secret::Secret,
    text::sanitize,
    time::Wall,
};

pub use super::{
    lifetime::{expiry, usable_in},
    message::{MAX_BODY_BYTES, Outcome, Refusal, Reply, Request},
    reply::claims,
    words::CUT,
};

/// How long a provider may ask to be left alone: longer, and mail would wait for nothing when it is
/// back early.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// How long to leave a provider alone that has noticed a loop of requests (AADSTS50196).
const LOOP_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// The grant that a client signs (RFC 7523, 2.1).
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Error codes by what they are, one kind a line:
/// - `passing`: they pass, whichever side causes them (RFC 6749, 4.1.2.1; RFC 8628, 3.5; the rest is seen
///   in the wild).
/// - `client`: about the client or what it asks for, which no sign-in mends (RFC 6749, 5.2; RFC 8707;
///   RFC 9449; GitHub, Google, Microsoft, Zoho).
/// - `grant`: about the grant itself, definite whatever the status (RFC 6749, 5.2; OpenID Connect Core,
///   3.1.2.6).
/// - `vague`: about anything can be behind them, so that the description decides (RFC 6749, 5.2).
/// - `grant_type`: they forbid the client this grant type: a server that doesn't let it refresh may well
///   let it sign in, but not the other way round.
/// - `phrase`: what a status is called (RFC 9110, 15) and what else gateways say, as an error code would
///   spell it: whoever answers so need not be the provider.
/// - `odd`: the error codes of providers that don't look like one (Facebook).
const ERRORS: &str = include_str!("errors.txt");

/// What was asked of the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// `authorization_code` (RFC 6749, 4.1.3).
    AuthorizationCode,
    /// `refresh_token` (RFC 6749, 6).
    RefreshToken,
    /// `client_credentials` (RFC 6749, 4.4), or what the client has signed (RFC 7523, 2.1).
    ClientCredentials,
    /// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628, 3.4).
    DeviceCode,
}

/// The tokens of a successful reply (RFC 6749, 5.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The access token: printable ASCII without spaces.
    pub access_token: Secret,
    /// The refresh token, when the reply carried a non-empty one.
    pub refresh_token: Option<Secret>,
    /// A sign-in has brought none: what may help.
    pub no_refresh_token: Option<&'static str>,
    /// How long the access token lives, from when the request was sent; `None` when the provider
    /// didn't say anything usable.
    pub expires_in: Option<Duration>,
    /// How long the refresh token lives, when the reply said; [`Duration::MAX`] for ever.
    pub refresh_life: Option<Duration>,
    /// The scopes granted, when the reply said (RFC 6749, 3.3); safe to show.
    pub scopes: Option<Vec<String>>,
    /// The ID token, when the reply carried one (OpenID Connect Core 1.0, 3.1.3.3): printable ASCII
    /// without spaces.
    pub id_token: Option<Arc<Secret>>,
    /// Oddities worth one line in the log each; safe to show.
    pub warnings: Vec<String>,
}

/// What an ID token's claims call the user; safe to show. TLS vouches for it (OpenID Connect Core,
/// 3.1.3.7), and nothing but a remark depends on it.
pub fn users(id_token: &Secret) -> Vec<String> {
    let claims = claims(id_token.expose()).unwrap_or_default();
    let texts = ["email", "preferred_username", "upn"].map(|name| claims.get(name)?.as_str());
    let texts = texts.into_iter().flatten().map(words::foreign);
    texts.filter(|text| !text.is_empty()).collect()
}

/// What an outcome means. There are exactly these four.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Tokens.
    Granted(Tokens),
    /// The provider rejects the grant: a new sign-in is needed.
    LoginNeeded(Refusal),
    /// The configuration is wrong: neither a retry nor a sign-in helps.
    Parked(Refusal),
    /// Anything else: keep the tokens and try again later.
    Transient {
        /// What happened.
        refusal: Refusal,
        /// The provider asked to be left alone for so long.
        retry_after: Option<Duration>,
        /// What it says about the next try.
        cause: Cause,
    },
}

/// What a transient failure says about the tries that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing: it passes.
    Passing,
    /// The endpoint may have done what was asked, and replaced the refresh token (RFC 9700, 4.14.2),
    /// without our hearing of it.
    Lost,
    /// Something refused the request (a status of the 400s) without saying why. It passes when a
    /// proxy or a portal did, and never when the endpoint itself did.
    Unexplained,
    /// Something answered with an error, but not with an error code of OAuth: a gateway most likely,
    /// though some providers say so that a refresh token is dead.
    Vague,
    /// The provider says that the configuration is wrong. It passes when the provider is out of order.
    Config,
}

/// Who makes the requests of an account's tokens, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The endpoint that takes them.
    pub endpoint: Endpoint<'a>,
    /// What the tokens are for.
    pub registration: &'a Registration,
    /// What proves the client.
    pub credentials: &'a Credentials<'a>,
}

impl Requester<'_> {
    /// The request that exchanges an authorization code for tokens (RFC 6749, 4.1.3; RFC 7636, 4.5).
    /// `redirect_uri` is the very string of the authorization request.
    pub fn exchange(&self, code: &Secret, verifier: &Secret, redirect_uri: &str) -> Request {
        self.request(&[
            ("grant_type", "authorization_code".into()),
            ("code", code.into()),
            ("client_id", self.registration.client_id.as_str().into()),
            ("code_verifier", verifier.into()),
            ("redirect_uri", redirect_uri.into()),
        ])
    }

    /// The request that asks for a new access token (RFC 6749, 6).
    pub fn refresh(&self, refresh_token: &Secret) -> Request {
        self.request(&[
            ("grant_type", "refresh_token".into()),
            ("refresh_token", refresh_token.into()),
            ("client_id", self.registration.client_id.as_str().into()),
        ])
    }

    /// The request of a client that asks for itself (RFC 6749, 4.4.2), or with a grant that it signs
    /// (RFC 7523, 2.1).
    pub fn for_itself(&self) -> Request {
        let scope = self.registration.scopes.join(" ");
        if let TokenSource::JwtBearer { subject, .. } = &self.registration.source {
            let mut request = self.request(&[("grant_type", JWT_BEARER.into())]);
            let subject = subject.iter().map(|it| ("sub", it.clone()));
            request.assertion = self.credentials.secret.map(|key| Assertion {
                key: key.clone(),
                field: "assertion",
                claims: subject.chain([("scope", scope)]).collect(),
            });
            return request;
        }
        let mut fields = vec![
            ("grant_type", "client_credentials".into()),
            ("client_id", self.registration.client_id.as_str().into()),
        ];
        let mut added = self.registration.token_uri_fields.iter();
        if !scope.is_empty() && !added.any(|(name, _)| name == "scope") {
            fields.push(("scope", scope.as_str().into()));
        }
        self.request(&fields)
    }

    /// A token request: the grant's own `fields`, and what the config adds.
    pub(super) fn request(&self, fields: &[(&str, Field)]) -> Request {
        let added = self.registration.token_uri_fields.iter();
        let added = added.map(|(name, value)| (name.as_str(), value.as_str().into()));
        let fields: Vec<_> = fields.iter().copied().chain(added).collect();
        self.credentials.request(self.endpoint, &fields)
    }
}

/// Judges what came back for a request of `grant_type`; `requested_scopes` are those of the
/// registration, `endpoint` names the host in messages, `wall` is needed for a `Retry-After` and
/// an `expires_on` that are dates, if the reply has none of its own.
///
/// The error code decides first, the status second. An authorization code is sent at most once
/// (RFC 6749, 4.1.2), so whatever may have reached the endpoint and brought no tokens ends that
/// grant: where a refresh is [`Verdict::Transient`], an exchange is [`Verdict::LoginNeeded`].
pub fn judge(
    grant_type: GrantType,
    endpoint: &Url,
    requested_scopes: &[String],
    outcome: &Outcome,
    wall: Wall,
) -> Verdict {
    let case = Case {
        grant_type,
        endpoint,
        requested_scopes,
        wall: match outcome {
            Outcome::Reply(reply) => reply.date.unwrap_or(wall),
            Outcome::NotSent(_) | Outcome::Lost(_) => wall,
        },
    };
    let host = case.host();
    match outcome {
        Outcome::NotSent(why) => {
            let refusal = Refusal::new(format!("{host}: {}", sanitize(why)));
            Verdict::later(refusal, Cause::Passing)
        }
        Outcome::Lost(why) => {
            let why = sanitize(why);
            let text = format!("{host}: the request was sent but the reply was lost: {why}");
            case.later(Refusal::new(text), None).because(Cause::Lost)
        }
        Outcome::Reply(reply) => case.judge_reply(reply),
    }
}

/// What a reply is judged against.
struct Case<'a> {
    grant_type: GrantType,
    endpoint: &'a Url,
    requested_scopes: &'a [String],
    wall: Wall,
}

impl Case<'_> {
    fn judge_reply(&self, reply: &Reply) -> Verdict {
        let retry_after =
            (reply.retry_after.as_deref()).and_then(|value| parse_retry_after(value, self.wall));
        // These come from a proxy or portal, or say nothing about the grant.
        match reply.status {
            300..=399 => return self.later(self.redirected(reply), retry_after),
            407 | 511 => return self.later(self.intercepted(reply.status), retry_after),
            _ => {}
        }
        let members = match Members::read(reply) {
            Ok(members) => members,
            Err(why) => {
                let refusal = self.unreadable(reply.status, why);
                return self
                    .later(refusal, retry_after)
                    .because(cause(reply.status));
            }
        };
        if let Some(error) = members.error() {
            return self.judge_error(reply.status, &members, &error, retry_after);
        }
        match reply.status {
            200..=299 => self.judge_tokens(members, retry_after),
            status => {
                let refusal = self.without_error(status, &members);
                self.later(refusal, retry_after).because(cause(status))
            }
        }
    }

    /// A failure that decides nothing: a refresh is tried again; a code can't be.
    fn later(&self, refusal: Refusal, retry_after: Option<Duration>) -> Verdict {
        match self.grant_type {
            GrantType::RefreshToken | GrantType::ClientCredentials | GrantType::DeviceCode => {
                Verdict::Transient {
                    refusal,
                    retry_after,
                    cause: Cause::Passing,
                }
            }
            GrantType::AuthorizationCode => Verdict::LoginNeeded(Refusal {
                text: format!(
                    "{}; a code can be sent only once, so sign in again",
                    refusal.text
                ),
                ..refusal
            }),
        }
    }

    /// A success reply whose tokens can't be used, though the provider won't change its mind.
    fn unusable(&self, refusal: Refusal, retry_after: Option<Duration>) -> Verdict {
        match self.grant_type {
            GrantType::RefreshToken | GrantType::ClientCredentials => {
                self.later(refusal, retry_after)
            }
            GrantType::AuthorizationCode | GrantType::DeviceCode => Verdict::Parked(refusal),
        }
    }

    fn judge_error(
        &self,
        status: u16,
        members: &Members,
        error: &ProviderError,
        retry_after: Option<Duration>,
    ) -> Verdict {
        let description = error.description.as_deref().unwrap_or_default();
        let words = error.sentence();
        let number = hints::aadsts(description);
        let by_number = number.map(|known| known.class);
        let class = self.classify(status, error, by_number, retry_after.is_some());
        let text = match (class, status) {
            // Here the status counted, not the words.
            (Class::Transient | Class::Vague, _) | (Class::Config, 404 | 405) => {
                format!("{} answered {status}: {words}", self.host())
            }
            _ => words,
        };
        let code = error.code.to_ascii_lowercase();
        let hint = match class {
            Class::Vague => hints::on_the_way(status, true),
            _ if number.is_some() => number.map(|known| known.hint),
            Class::Login => {
                let subtype = members.text("error_subtype").or(members.text("suberror"));
                let subtype = subtype.unwrap_or_default();
                hints::for_login(self.endpoint, &code, description, subtype)
            }
            Class::Config => hints::for_config(status, &code, description),
            Class::Transient => hints::on_the_way(status, false),
        };
        let refusal = Refusal {
            text,
            hint: (hint.map(str::to_owned)).or_else(|| words::see(members.text("error_uri"))),
        };
        match class {
            Class::Login => Verdict::LoginNeeded(refusal),
            Class::Config => Verdict::Parked(refusal),
            Class::Transient if number.is_some_and(|it| it.number == hints::AADSTS_LOOP) => {
                // A loop that Microsoft noticed takes minutes to forget.
                let retry_after = retry_after.unwrap_or_default().max(LOOP_RETRY_AFTER);
                self.later(refusal, Some(retry_after))
            }
            Class::Transient => self.later(refusal, retry_after),
            Class::Vague => self.later(refusal, retry_after).because(Cause::Vague),
        }
    }

    /// What an error means. On a refresh, an error code that is neither transient nor about the client
    /// is the provider's way to say that the refresh token is dead: few say invalid_grant.
    fn classify(
        &self,
        status: u16,
        error: &ProviderError,
        number: Option<Class>,
        asked_to_wait: bool,
    ) -> Class {
        let description = error.description.as_deref().unwrap_or_default();
        // Rate limits, and an endpoint that says when it will be back.
        let waiting = status == 429 || (status == 503 && asked_to_wait);
        if waiting || number == Some(Class::Transient) {
            return Class::Transient;
        }
        let refresh = self.grant_type == GrantType::RefreshToken;
        let about_client = number == Some(Class::Config) || description.contains("client_secret");
        let code = error.code.to_ascii_lowercase();
        let is_among = |kind: &str| {
            let mut kinds = ERRORS.lines().filter_map(|line| line.split_once(' '));
            kinds.any(|(it, codes)| it == kind && codes.split(' ').any(|it| it == code))
        };
        // A number within an object says no more than the status does.
        let is_number = error.code.parse::<u64>().is_ok();
        let is_code = match is_number {
            true => status == 400,
            false => is_among("odd") || looks_like_code(&error.code),
        };
        if is_among("passing") {
            Class::Transient
        } else if is_among("client")
            || (is_among("vague") && about_client)
            || (is_among("grant_type") && !refresh)
        {
            Class::Config
        } else if is_among("grant") || is_among("vague") {
            Class::Login
        } else {
            match by_status(status, description) {
                Class::Login if !is_code || is_among("phrase") => Class::Vague,
                class => class,
            }
        }
    }

    fn judge_tokens(&self, mut members: Members, retry_after: Option<Duration>) -> Verdict {
        let Some(access_token) = members.take_secret("access_token") else {
            return self.without_access_token(&members, retry_after);
        };
        let is_printable = |it: &Secret| it.expose().bytes().all(|b| b.is_ascii_graphic());
        if !is_printable(&access_token) {
            let text = "has characters that no token may have";
            let refusal = Refusal::new(format!("{}: the access token {text}", self.host()));
            return self.unusable(refusal, retry_after);
        }
        let mut warnings = Vec::new();
        if let Some(refused) = check_token_type(&members, &mut warnings) {
            let hint =
                "only bearer tokens can be used: have the provider register the client for them";
            let refusal = Refusal::new(format!("{}: {refused}", self.host()));
            return Verdict::LoginNeeded(refusal.hint(Some(hint)));
        }
        let expires_in = lifetime(&members, self.wall, &mut warnings);
        let refresh_token = members.take_secret("refresh_token");
        if members
            .value("refresh_token")
            .is_some_and(|v| !v.is_string())
        {
            warnings.push("the refresh_token is no text, so it is ignored".into());
        }
        let signs_in = match self.grant_type {
            GrantType::AuthorizationCode | GrantType::DeviceCode => true,
            GrantType::RefreshToken | GrantType::ClientCredentials => false,
        };
        // A client that asks for itself needs none, and should get none (RFC 6749, 4.4.3).
        let refresh_token =
            refresh_token.filter(|_| self.grant_type != GrantType::ClientCredentials);
        let no_refresh_token = (signs_in && refresh_token.is_none())
            .then(|| hints::no_refresh_token(self.endpoint, self.requested_scopes));
        let scopes = members.value("scope").and_then(granted_scopes);
        let lacking = |granted: &Vec<String>| lacking_scopes(self.requested_scopes, granted);
        warnings.extend(scopes.as_ref().and_then(lacking));
        Verdict::Granted(Tokens {
            access_token,
            refresh_token,
            no_refresh_token,
            expires_in,
            refresh_life: refresh_life(&members),
            scopes,
            id_token: (members.take_secret("id_token").filter(is_printable)).map(Arc::new),
            warnings,
        })
    }

    fn without_access_token(&self, members: &Members, retry_after: Option<Duration>) -> Verdict {
        let host = self.host();
        if members.value("id_token").is_some() {
            let refusal = Refusal::new(format!("{host} gave an id_token but no access token"));
            let hint = "add a scope of the resource itself (the mail, say) to scopes";
            return Verdict::Parked(refusal.hint(Some(hint)));
        }
        let refusal = Refusal::new(format!("{host} answered without an access token"));
        self.later(refusal, retry_after)
    }

    fn redirected(&self, reply: &Reply) -> Refusal {
        let target = (reply.location.as_deref())
            .and_then(|location| self.endpoint.join(location).ok())
            .map(|uri| sanitize(&authority(&uri)));
        let what = match target {
            Some(target) => format!(" and points to {target}; it was not followed"),
            None => " and points nowhere".into(),
        };
        self.answered(reply.status, &what, Some(hints::PORTAL))
    }

    fn intercepted(&self, status: u16) -> Refusal {
        let what = match status {
            407 => ": a proxy refused to pass the request on",
            _ => ": the network wants a sign-in of its own",
        };
        self.answered(status, what, hints::on_the_way(status, true))
    }

    fn unreadable(&self, status: u16, why: Unreadable) -> Refusal {
        let hint = hints::on_the_way(status, why == Unreadable::WebPage);
        self.answered(status, &format!(" with {why}"), hint)
    }

    fn without_error(&self, status: u16, members: &Members) -> Refusal {
        let said = members.text("message");
        let what = match said.or(members.text("error_description")) {
            Some(said) => format!(": {}", words::foreign(said)),
            None => " without an error code".into(),
        };
        self.answered(status, &what, hints::on_the_way(status, false))
    }

    fn answered(&self, status: u16, what: &str, hint: Option<&str>) -> Refusal {
        Refusal::new(format!("{} answered {status}{what}", self.host())).hint(hint)
    }

    fn host(&self) -> String {
        authority(self.endpoint)
    }
}

impl Verdict {
    /// A failure that says nothing of when to try again.
    pub fn later(refusal: Refusal, cause: Cause) -> Self {
        Verdict::Transient {
            refusal,
            retry_after: None,
            cause,
        }
    }

    /// The same, if it is transient, for another cause.
    fn because(mut self, why: Cause) -> Self {
        if let Verdict::Transient { cause, .. } = &mut self {
            *cause = why;
        }
        self
    }
}

/// What the status of a reply says in which nothing can be read.
fn cause(status: u16) -> Cause {
    match status {
        408 | 425 | 429 => Cause::Passing,
        400..=499 => Cause::Unexplained,
        _ => Cause::Passing,
    }
}

/// Whether an error is spelt as an error code is (RFC 6749, 5.2): one that was made up for programs.
fn looks_like_code(error: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    !error.is_empty() && error.bytes().all(is_part)
}

/// What an error with an unknown code means.
fn by_status(status: u16, description: &str) -> Class {
    let busy = description
        .to_ascii_lowercase()
        .contains("too many requests");
    match status {
        404 | 405 => Class::Config,
        408 | 425 | 429 | 500..=599 => Class::Transient,
        _ if busy => Class::Transient,
        _ => Class::Login,
    }
}

/// A `Retry-After` (RFC 9110, 10.2.3), in seconds or as a date, at most [`MAX_RETRY_AFTER`];
/// `None` for zero and for what can't be read.
pub(super) fn parse_retry_after(value: &str, wall: Wall) -> Option<Duration> {
    let value = value.trim();
    let span = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that don't fit are many seconds.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        parse_http_date(value)?.since(wall)
    };
    (!span.is_zero()).then_some(span.min(MAX_RETRY_AFTER))
}

/// An HTTP date in any of its three forms (RFC 9110, 5.6.7).
pub fn parse_http_date(value: &str) -> Option<Wall> {
    const FORMS: [&str; 3] = [
        "%a, %d %b %Y %H:%M:%S GMT",
        "%A, %d-%b-%y %H:%M:%S GMT",
        "%a %b %d %H:%M:%S %Y",
    ];
    let date = FORMS
        .iter()
        .find_map(|form| DateTime::strptime(form, value).ok())?;
    let timestamp = Offset::UTC.to_timestamp(date).ok()?;
    Some(Wall::from_millis(timestamp.as_millisecond()))
}

/// What is wrong with the token type, if anything: a token of a type that one doesn't understand
/// must not be used (RFC 6749, 7.1).
fn check_token_type(members: &Members, warnings: &mut Vec<String>) -> Option<String> {
    match members.value("token_type") {
        None => {}
        Some(Value::String(text)) if text.trim().is_empty() => {}
        Some(Value::String(text)) if is_bearer(text) => return None,
        Some(Value::String(text)) => {
            let text = words::foreign(text);
            return Some(format!("the token_type \"{text}\" is not known here"));
        }
        Some(_) => return Some("the token_type is no text".into()),
    }
    warnings.push("the reply has no token_type; bearer is assumed".into());
    None
}

/// Also by the names that some libraries have for it: BearerToken, bearer_token.
pub(super) fn is_bearer(token_type: &str) -> bool {
    let name = token_type.trim().to_ascii_lowercase();
    matches!(
        name.as_str(),
        "bearer" | "bearertoken" | "bearer_token" | "bearer token"
    )
}

/// A warning that names the requested scopes that were not granted, if the provider says what was.
fn lacking_scopes(requested: &[String], granted: &[String]) -> Option<String> {
    let granted: HashSet<String> = granted.iter().map(|scope| canonical(scope)).collect();
    // Microsoft answers with a URL for a name, or a name for a URL.
    let names: HashSet<&str> = granted.iter().map(|scope| last_segment(scope)).collect();
    let urls_or_names = |scope: &str| {
        granted.contains(scope)
            || (!scope.contains("://") && names.contains(scope))
            || granted.contains(last_segment(scope))
    };
    let lacking: Vec<&str> = (requested.iter())
        .filter(|scope| !is_silent(scope) && !urls_or_names(&canonical(scope)))
        .map(String::as_str)
        .collect();
    (!lacking.is_empty()).then(|| {
        let lacking = words::foreign(&lacking.join(" "));
        format!("the provider did not grant all scopes; lacking: {lacking}")
    })
}

/// The scopes that a reply or a token names, in its order, separated by spaces (RFC 6749, 3.3) or commas.
pub fn granted_scopes(value: &Value) -> Option<Vec<String>> {
    let lists = match value {
        Value::Array(lists) => lists.as_slice(),
        one => std::slice::from_ref(one),
    };
    let words = (lists.iter().filter_map(Value::as_str))
        .flat_map(|list| list.split([' ', ',', '\t', '\r', '\n']))
        .filter(|scope| !scope.is_empty());
    let scopes: Vec<String> = words.map(sanitize).collect();
    (!scopes.is_empty()).then_some(scopes)
}

/// A scope as it is compared: in lower case, without percent-encoding and final slash, and with
/// one name for the two that Outlook has.
fn canonical(scope: &str) -> String {
    let decoded = percent_decode_str(scope).decode_utf8_lossy();
    let lower = decoded.to_ascii_lowercase();
    let lower = lower.replace("://outlook.office365.com", "://outlook.office.com");
    lower.trim_end_matches('/').to_owned()
}

fn last_segment(scope: &str) -> &str {
    scope.rsplit_once('/').map_or(scope, |(_, name)| name)
}

/// Scopes whose absence from a reply says nothing.
fn is_silent(scope: &str) -> bool {
    const SILENT: [&str; 4] = ["offline_access", "openid", "profile", "email"];
    SILENT.iter().any(|name| scope.eq_ignore_ascii_case(name)) || scope.ends_with("/.default")
}

#[cfg(test)]
mod tests;
