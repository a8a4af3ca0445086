//! Nothing that is shown may have the token in it, whatever a server says.

use crate::secret::Secret;

/// How long a piece of the token may be before it is cut out, in bytes: so little is of use to
/// nobody, and other words may have it, too.
const MAX_PIECE: usize = 12;

/// What stands in its place.
pub const TOKEN: &str = "[token]";

/// `text` without the secrets, and without pieces of them.
pub fn scrub(text: &str, secrets: &[&Secret]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let secret = secrets.iter().map(|it| prefix(rest, it.expose()));
        match secret.max().unwrap_or(0) {
            0 => {
                clean.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
            length => {
                clean.push_str(TOKEN);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    clean
}

/// How many bytes at the beginning of `text` are a piece of `secret`, if that is a long one.
fn prefix(text: &str, secret: &str) -> usize {
    let least = MAX_PIECE.min(secret.len());
    if least == 0
        || text
            .get(..least)
            .is_none_or(|piece| !secret.contains(piece))
    {
        return 0;
    }
    let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
    let is_piece = |end: &usize| text.get(..*end).is_some_and(|piece| secret.contains(piece));
    ends.skip_while(|end| *end < least)
        .take_while(is_piece)
        .last()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_its_pieces_are_cut_out() {
        let token = Secret::new("eyJhbGciOiJSUzI1NiJ9.payload.signature".into());
        let short = Secret::new("at-1".into());
        for (text, clean) in [
            ("nothing here", "nothing here"),
            (
                "bad eyJhbGciOiJSUzI1NiJ9.payload.signature!",
                "bad [token]!",
            ),
            ("cut: UzI1NiJ9.payload", "cut: [token]"),
            ("at-1 at-2 at-11", "[token] at-2 [token]1"),
            ("payload.sig", "payload.sig"),
            ("é at-1 é", "é [token] é"),
            ("", ""),
        ] {
            assert_eq!(scrub(text, &[&token, &short]), clean);
        }
        assert_eq!(scrub("x", &[]), "x");
    }
}
