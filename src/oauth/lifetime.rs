//! How long an access token lives (RFC 6749, 5.1), however the provider spells it, and in what time
//! a refresh token can be used.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    reply::{Members, claims, clamp, seconds},
    words,
};
use crate::{secret::Secret, time::Wall};

/// What says how long a refresh token lives, or the authorization behind it
/// (draft-ietf-oauth-refresh-token-expiration; Keycloak; Zoom's and Salesforce's kin).
const REFRESH_LIVES: &str = "authorization_expires_in refresh_expires_in refresh_token_expires_in \
                             refresh_token_timeout";

/// How long a refresh token's word that it can't be used yet is believed: such tokens come into force
/// as the access token expires, and more is a clock out of order.
const MAX_NOT_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the refresh token lives, by the shortest word on it; [`Duration::MAX`] for ever, which
/// they call 0.
pub(super) fn refresh_life(members: &Members) -> Option<Duration> {
    let life = |name| {
        let secs = seconds(members.value(name)?).filter(|secs| *secs >= 0.0)?;
        Some(clamp(secs).unwrap_or(Duration::MAX))
    };
    REFRESH_LIVES.split(' ').filter_map(life).min()
}

/// In what time a refresh token that is a JWT can be used (`nbf`, RFC 7519, 4.1.5). It counts from
/// `iat` if the token is `fresh`, which needs no clock of ours.
pub fn usable_in(refresh_token: &Secret, fresh: bool, now: Wall) -> Option<Duration> {
    let claims = claims(refresh_token.expose())?;
    let claim = |name: &str| claims.get(name)?.as_f64();
    let issued = claim("iat").filter(|_| fresh);
    let span = clamp(claim("nbf")? - issued.unwrap_or(now.secs() as f64))?;
    (span <= MAX_NOT_BEFORE).then_some(span)
}

/// When a token that is a JWT expires by its own word, which nobody has verified (`exp`, RFC 7519, 4.1.4).
pub fn expiry(token: &Secret) -> Option<Wall> {
    let secs = claims(token.expose())?.get("exp")?.as_f64()?;
    Some(Wall::from_millis((secs * 1000.0) as i64))
}

/// From where on `expires` counts seconds since 1970 rather than from now: a life of 31 years is
/// none, and 2001 is over.
const MIN_EPOCH_SECS: f64 = 1e9;

/// From where on such a number counts milliseconds: as seconds they would be the year 5138.
const MIN_EPOCH_MILLIS: f64 = 1e11;

/// How long an access token may seem to live before another member is asked whether these are
/// milliseconds: longer than any that says so in two members.
const MAX_PLAUSIBLE: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// How long the access token lives (RFC 6749, 5.1), however the provider spells it.
pub(super) fn lifetime(
    members: &Members,
    wall: Wall,
    warnings: &mut Vec<String>,
) -> Option<Duration> {
    let member = |name| members.value(name).and_then(seconds);
    let span = member("expires_in").and_then(clamp);
    if span.is_none() && members.has("expires_in") {
        let value = members.value("expires_in").unwrap_or(&Value::Null);
        let value = words::foreign(&value.to_string());
        warnings.push(format!("expires_in is {value}, which says nothing"));
    }
    let expires = || match member("expires") {
        Some(secs) if secs < MIN_EPOCH_SECS => clamp(secs),
        _ => until(members.value("expires")?, wall),
    };
    let second = (member("expires_in_sec").and_then(clamp))
        .or_else(expires)
        .or_else(|| until(members.value("expires_at")?, wall))
        .or_else(|| until(members.value("expires_on")?, wall));
    match span {
        Some(span) if span > MAX_PLAUSIBLE => {
            // How long it may be used where the provider is out of order is no lifetime, but a clue.
            let clue = second.or_else(|| clamp(member("ext_expires_in")?));
            let secs = span.as_secs_f64();
            let disagrees = |clue: Duration| (clue.as_secs_f64() - secs).abs() > secs / 10.0;
            match clue.is_some_and(disagrees) {
                true => clamp(secs / 1000.0),
                false => Some(span),
            }
        }
        Some(span) => Some(span),
        None => second,
    }
}

/// How long it is until a time that is to come; see [`left`].
fn until(value: &Value, wall: Wall) -> Option<Duration> {
    clamp(left(value, wall)?)
}

/// The seconds until a time that is a number since 1970 or a date (RFC 3339).
pub(super) fn left(value: &Value, wall: Wall) -> Option<f64> {
    let epoch = match seconds(value) {
        Some(millis) if millis >= MIN_EPOCH_MILLIS => millis / 1000.0,
        Some(secs) => secs,
        None => value
            .as_str()?
            .trim()
            .parse::<Timestamp>()
            .ok()?
            .as_second() as f64,
    };
    Some(epoch - wall.secs() as f64)
}
