//! How long an access token lives (RFC 6749, 5.1), however the provider spells it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    reply::{Members, clamp, seconds},
    words,
};
use crate::time::Wall;

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
