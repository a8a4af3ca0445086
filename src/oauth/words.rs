//! A provider's own words, made fit to show.

use url::Url;

use crate::text::sanitize;

/// How long an unbroken run of token characters must be to be cut, in characters: longer than a
/// trace id (36), no longer than the shortest tokens seen in the wild (40).
const MIN_TOKEN_CHARS: usize = 40;

/// How long an error_uri may be before it isn't worth a line in a terminal, in bytes.
const MAX_URI_BYTES: usize = 200;

/// What stands where a secret was, or something that looks like one.
pub const CUT: &str = "[cut]";

/// What an error is called that is nothing but unprintable characters.
const NAMELESS: &str = "an error without a name";

/// Foreign text as one harmless line, without anything that looks like a token: error replies are
/// known to repeat what they were sent.
pub(super) fn foreign(text: &str) -> String {
    let line = sanitize(text);
    let pieces = line.split_inclusive(|c| !is_token_char(c));
    let safe = pieces.map(|piece| {
        let run = piece.trim_end_matches(|c| !is_token_char(c));
        match looks_like_token(run) {
            true => piece.replacen(run, CUT, 1),
            false => piece.to_owned(),
        }
    });
    safe.collect()
}

/// An error and its description (RFC 6749, 4.1.2.1 and 5.2) as one harmless line.
pub(super) fn sentence(error: &str, description: Option<&str>) -> String {
    let line = match description.map(str::trim).filter(|text| !text.is_empty()) {
        None => foreign(error),
        Some(text) if error.is_empty() || text.eq_ignore_ascii_case(error) => foreign(text),
        Some(text) => foreign(&format!("{error}: {text}")),
    };
    if line.is_empty() {
        return NAMELESS.into();
    }
    line
}

/// A hint at an `error_uri`, when it is one that can be shown.
pub(super) fn see(error_uri: Option<&str>) -> Option<String> {
    let uri = Url::parse(error_uri?).ok()?;
    let short = uri.as_str().len() <= MAX_URI_BYTES;
    (uri.scheme() == "https" && short).then(|| format!("see {}", foreign(uri.as_str())))
}

/// The characters of a token (RFC 6750, 2.1) but `/`, which would take URLs for tokens.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '=' | '%')
}

/// Long names without a digit are permissions and hosts rather than tokens.
fn looks_like_token(run: &str) -> bool {
    run.len() >= MIN_TOKEN_CHARS && run.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_is_cut_and_the_rest_survives() {
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln";
        for (text, safe) in [
            (
                "Trace ID: 0f3e2a10-1111-2222-3333-444455556666".to_owned(),
                "Trace ID: 0f3e2a10-1111-2222-3333-444455556666",
            ),
            (format!("token {jwt} is bad"), "token [cut] is bad"),
            (
                format!("refresh_token=x&code=4/{jwt}"),
                "refresh_token=x&code=4/[cut]",
            ),
            (
                format!("{{\"refresh_token\":\"{jwt}\"}}"),
                "{\"refresh_token\":\"[cut]\"}",
            ),
            (
                "scope https://outlook.office.com/IMAP.AccessAsUser.All".to_owned(),
                "scope https://outlook.office.com/IMAP.AccessAsUser.All",
            ),
            ("\u{1b}[2J\u{202e}é".to_owned(), "[2J é"),
        ] {
            assert_eq!(foreign(&text), safe);
        }
    }

    #[test]
    fn sentences_join_error_and_description() {
        for (error, description, line) in [
            ("invalid_grant", None, "invalid_grant"),
            ("invalid_grant", Some(" "), "invalid_grant"),
            (
                "invalid_grant",
                Some("Bad\r\nRequest"),
                "invalid_grant: Bad Request",
            ),
            ("Not Found", Some("not found"), "not found"),
            ("", Some("x"), "x"),
            ("\u{1b}", None, "an error without a name"),
        ] {
            assert_eq!(sentence(error, description), line);
        }
    }

    #[test]
    fn only_short_https_error_uris_are_shown() {
        for (uri, hint) in [
            (
                "https://login.example/error?code=50076",
                Some("see https://login.example/error?code=50076"),
            ),
            ("http://login.example/", None),
            ("javascript:alert(1)", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(see(Some(uri)).as_deref(), hint);
        }
        assert_eq!(see(Some(&format!("https://a/{}", "b".repeat(200)))), None);
        assert_eq!(see(None), None);
    }
}
