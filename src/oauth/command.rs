//! What `token_cmd` prints: a token on a line, or JSON as the programs print it that have tokens of
//! their own (`pizauth show -f json`, az, gcloud, the exec plugins of kubectl).

use serde_json::Value;

use super::{
    lifetime,
    reply::{clamp, seconds},
    token::{Cause, Refusal, Tokens, Verdict, is_bearer},
    words,
};
use crate::{secret::Secret, time::Wall};

/// Why a command has printed nothing that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFailure {
    /// Its exit status, if it ended by itself.
    pub status: Option<i32>,
    /// What happened; safe to show.
    pub what: String,
}

/// The exit statuses that no repetition changes (sysexits.h): wrong usage, wrong data, no such input,
/// no such user, not allowed, wrong configuration.
const FINAL: [i32; 6] = [64, 65, 66, 67, 77, 78];

/// Where an object has the token (RFC 6901): the fourth is kubectl's ExecCredential, the last that of
/// `gcloud config config-helper`.
const TOKENS: &str = "/access_token /accessToken /token /status/token /credential/access_token";

/// Where it says when the token expires: since 1970, or as a date with its offset. The `expiresOn` of
/// az has none.
const EXPIRIES: &str = "/expiry_unix /expires_on /expires_at /expiry /expiration \
    /status/expirationTimestamp /credential/token_expiry";

/// Judges the end of a command that was started at `wall`.
pub fn judge(printed: Result<Vec<u8>, CommandFailure>, wall: Wall) -> Verdict {
    let read = match printed {
        Ok(bytes) => read(bytes, wall),
        Err(CommandFailure { status, what }) => {
            let refusal = Refusal::new(what);
            if status.is_some_and(|status| FINAL.contains(&status)) {
                return Verdict::Parked(refusal);
            }
            return Verdict::later(refusal, Cause::Passing);
        }
    };
    match read {
        Ok(tokens) => Verdict::Granted(tokens),
        Err((what, hint)) => {
            let refusal = Refusal::new(format!("token_cmd printed {what}")).hint(hint);
            Verdict::later(refusal, Cause::Unexplained)
        }
    }
}

/// What is wrong with the output, and what may help.
type Unusable = (String, Option<&'static str>);

const PROMPT: &str = "it seems to ask something, and has no terminal: have it signed in beforehand";
const ONE: &str = "it has to print a token on one line, or one JSON object, and nothing else";
const EXPIRED: &str = "run it by hand: it may need to sign in again, or a clock is wrong";

fn read(bytes: Vec<u8>, wall: Wall) -> Result<Tokens, Unusable> {
    let Ok(text) = String::from_utf8(bytes).map(Secret::new) else {
        return Err(("what is no text".into(), Some(ONE)));
    };
    let trimmed = text.expose().trim();
    let (token, scopes, life) = match trimmed.bytes().next() {
        None => return Err(("nothing".into(), None)),
        Some(b'{') => read_object(trimmed, wall)?,
        Some(_) => (Secret::new(read_line(trimmed)?.into()), None, None),
    };
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = "a token with characters that no token may have";
        return Err((what.into(), None));
    }
    let expires = || Some(lifetime::expiry(&token)?.secs());
    let life = life.or_else(|| Some(expires()?.saturating_sub(wall.secs()) as f64));
    if life.is_some_and(|life| life < 1.0) {
        return Err(("a token that has expired".into(), Some(EXPIRED)));
    }
    Ok(Tokens {
        access_token: token,
        refresh_token: None,
        no_refresh_token: None,
        expires_in: life.and_then(clamp),
        refresh_life: None,
        scopes,
        id_token: None,
        warnings: Vec::new(),
    })
}

fn read_line(text: &str) -> Result<&str, Unusable> {
    let lines = text.lines().count();
    if text.ends_with([':', '?']) {
        Err(("a question instead of a token".into(), Some(PROMPT)))
    } else if lines > 1 {
        Err((format!("{lines} lines"), Some(ONE)))
    } else if text.contains(char::is_whitespace) {
        Err(("several words".into(), Some(ONE)))
    } else {
        Ok(text)
    }
}

/// A token, the scopes that were granted, and the seconds that it has left.
type Printed = (Secret, Option<Vec<String>>, Option<f64>);

fn read_object(text: &str, wall: Wall) -> Result<Printed, Unusable> {
    let mut object: Value = serde_json::from_str(text).map_err(|error| {
        let what = match error.is_eof() {
            true => "JSON that is cut short",
            false => "something that is not one JSON object",
        };
        (what.to_owned(), Some(ONE))
    })?;
    let types = ["token_type", "tokenType", "type"];
    let mut types = types.iter().filter_map(|name| object.get(name)?.as_str());
    if let Some(other) = types.find(|it| !is_bearer(it)) {
        let other = words::foreign(other);
        return Err((
            format!("a token of type \"{other}\", not a bearer token"),
            None,
        ));
    }
    let left = |path| lifetime::left(object.pointer(path)?, wall);
    let life = EXPIRIES.split(' ').find_map(left);
    let life = life.or_else(|| seconds(object.get("expires_in")?));
    let scopes = object.get("scopes").and_then(Value::as_array);
    let scopes = scopes.map(|all| all.iter().filter_map(Value::as_str));
    let scopes = scopes.map(|all| all.map(crate::text::sanitize).collect());
    for path in TOKENS.split(' ') {
        match object.pointer_mut(path).map(Value::take) {
            Some(Value::String(token)) if !token.is_empty() => {
                return Ok((Secret::new(token), scopes, life));
            }
            _ => {}
        }
    }
    Err(("JSON without a token".into(), Some(ONE)))
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const WALL: Wall = Wall::from_millis(784_111_777_000);

    fn show(printed: Result<&str, (Option<i32>, &str)>) -> String {
        let printed = match printed {
            Ok(text) => Ok(text.as_bytes().to_vec()),
            Err((status, what)) => Err(CommandFailure {
                status,
                what: what.into(),
            }),
        };
        match judge(printed, WALL) {
            Verdict::Granted(tokens) => {
                let life = tokens.expires_in.map(|life| life.as_secs());
                let scopes = tokens.scopes.unwrap_or_default().join(" ");
                format!("{} {life:?} {scopes}", tokens.access_token.expose())
            }
            Verdict::Transient { refusal, cause, .. } => format!("{cause:?}: {}", refusal.line()),
            Verdict::Parked(refusal) => format!("parked: {}", refusal.line()),
            Verdict::LoginNeeded(refusal) => format!("login: {}", refusal.line()),
        }
    }

    #[test]
    fn what_programs_print_is_understood() {
        let jwt = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        let (lives, opaque) = (jwt(r#"{"exp":784112377}"#), jwt(r#"{"exp":"x"}"#));
        for (printed, outcome) in [
            ("ya29.a0\n", "ya29.a0 None "),
            ("  ya29.a0\r\n\r\n", "ya29.a0 None "),
            (lives.as_str(), &format!("{lives} Some(600) ")),
            (opaque.as_str(), &format!("{opaque} None ")),
            // pizauth show -f json
            (
                r#"{"token":"t","type":"Bearer","expiry":"1994-11-06T08:59:37Z","expiry_unix":784112377,"scopes":["a","b"],"account":"w","login_hint":null,"provider":"p"}"#,
                "t Some(600) a b",
            ),
            // az account get-access-token, of today and before.
            (
                r#"{"accessToken":"t","expiresOn":"1994-11-06 09:59:37.000000","expires_on":784112377,"subscription":"s","tenant":"x","tokenType":"Bearer"}"#,
                "t Some(600) ",
            ),
            (
                r#"{"accessToken":"t","expiresOn":"1994-11-06 09:59:37.000000","tokenType":"Bearer"}"#,
                "t None ",
            ),
            // gcloud config config-helper --format=json
            (
                r#"{"configuration":{"active_configuration":"default"},"credential":{"access_token":"t","id_token":"i","token_expiry":"1994-11-06T08:59:37Z"},"sentinels":{}}"#,
                "t Some(600) ",
            ),
            // ExecCredential
            (
                r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false},"status":{"expirationTimestamp":"1994-11-06T09:59:37+01:00","token":"t"}}"#,
                "t Some(600) ",
            ),
            // A reply of a token endpoint, by a script.
            (
                r#"{"access_token":"t","token_type":"bearer","expires_in":"600","refresh_token":"r"}"#,
                "t Some(600) ",
            ),
        ] {
            assert_eq!(show(Ok(printed)), outcome, "{printed}");
        }
    }

    #[test]
    fn what_is_no_token_says_what_it_is() {
        let one = format!("({ONE})");
        for (printed, outcome) in [
            ("", "nothing"),
            (" \n\n", "nothing"),
            ("one\ntwo\n", &format!("2 lines {one}")),
            ("ERROR: sign in first", &format!("several words {one}")),
            (
                "Password: ",
                &format!("a question instead of a token ({PROMPT})"),
            ),
            (
                "continue (y/n)?",
                &format!("a question instead of a token ({PROMPT})"),
            ),
            ("t\u{e9}", "a token with characters that no token may have"),
            (
                r#"{"token":"a b"}"#,
                "a token with characters that no token may have",
            ),
            ("{", &format!("JSON that is cut short {one}")),
            (
                "{}x",
                &format!("something that is not one JSON object {one}"),
            ),
            ("{}", &format!("JSON without a token {one}")),
            (r#"{"token":""}"#, &format!("JSON without a token {one}")),
            (r#"{"token":5}"#, &format!("JSON without a token {one}")),
            (
                r#"{"token":"t","type":"mac"}"#,
                "a token of type \"mac\", not a bearer token",
            ),
            (
                r#"{"token":"t","expiry_unix":784111777}"#,
                &format!("a token that has expired ({EXPIRED})"),
            ),
            (
                r#"{"token":"t","expires_in":0}"#,
                &format!("a token that has expired ({EXPIRED})"),
            ),
        ] {
            let wanted = format!("Unexplained: token_cmd printed {outcome}");
            assert_eq!(show(Ok(printed)), wanted, "{printed}");
        }
        assert_eq!(judge(Ok(vec![0xff]), WALL), {
            let refusal = Refusal {
                text: "token_cmd printed what is no text".into(),
                hint: Some(ONE.into()),
            };
            Verdict::later(refusal, Cause::Unexplained)
        });
    }

    #[test]
    fn only_some_exit_statuses_are_final() {
        for status in 0..=255 {
            let parked = [64, 65, 66, 67, 77, 78].contains(&status);
            let wanted = if parked { "parked: x" } else { "Passing: x" };
            assert_eq!(show(Err((Some(status), "x"))), wanted, "{status}");
        }
        assert_eq!(show(Err((None, "x"))), "Passing: x");
    }
}
