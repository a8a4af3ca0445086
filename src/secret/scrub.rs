//! Cuts secrets out of texts that others have written: who was told a secret may repeat it.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use super::SecretBytes;

/// How long a piece of a secret must be to be cut out, in bytes: other words may have a shorter one,
/// too, and it is of little use to anybody.
const MIN_PIECE: usize = 8;

/// How long a secret must be to be cut out at all, in bytes: without a shorter one, no text would
/// be left, and its absence would tell it.
const MIN_SECRET: usize = 4;

/// What is to be cut out, in each of the forms in which it may be repeated.
#[derive(Debug, Default)]
pub struct Scrubber {
    forms: Vec<SecretBytes>,
}

impl Scrubber {
    /// Cuts this one out, too: as it is, percent-encoded (RFC 3986, 2.1) and in either alphabet of
    /// base64 (RFC 4648), also within something longer.
    pub fn add(&mut self, secret: &str) {
        self.forms.push(folded(secret));
        if secret.contains(' ') {
            // As a form has it.
            self.forms.push(folded(&secret.replace(' ', "+")));
        }
        // What is before it in what was encoded shifts it by 0, 1 or 2 bytes.
        let shifts = (0..3).filter_map(|shift| secret.as_bytes().get(shift..));
        let encoded = shifts.map(|rest| folded(&STANDARD_NO_PAD.encode(rest)));
        (self.forms).extend(encoded.filter(|form| form.len() >= MIN_PIECE));
    }

    /// `text` without them, and without pieces of them: `mark` is there instead.
    pub fn scrub(&self, text: &str, mark: &str) -> String {
        let (bytes, spans): (Vec<u8>, Vec<(usize, usize)>) = fold(text).unzip();
        let mut cut = vec![false; text.len()];
        for form in self.forms.iter().filter(|form| form.len() >= MIN_SECRET) {
            let length = MIN_PIECE.min(form.len());
            let theirs: HashSet<&[u8]> = bytes.windows(length).collect();
            let pieces = form.windows(length).filter(|piece| theirs.contains(piece));
            let pieces: HashSet<&[u8]> = pieces.collect();
            for (piece, spans) in bytes.windows(length).zip(spans.windows(length)) {
                if let ([(from, _), .., (_, to)], true) = (spans, pieces.contains(piece)) {
                    cut.get_mut(*from..*to).unwrap_or_default().fill(true);
                }
            }
        }
        let mut clean = String::with_capacity(text.len());
        let mut within = false;
        for (at, char) in text.char_indices() {
            let is_cut = cut.get(at) == Some(&true);
            match (is_cut, within) {
                (false, _) => clean.push(char),
                (true, false) => clean.push_str(mark),
                (true, true) => {}
            }
            within = is_cut;
        }
        clean
    }
}

/// What is compared of a text: its letters, digits and signs, in lower case, decoded, in one of
/// base64's alphabets, and without what may have been put between them; and where in it each stands.
fn fold(text: &str) -> impl Iterator<Item = (u8, (usize, usize))> {
    let mut done = 0;
    let units = text.char_indices().filter_map(move |(at, char)| {
        if at < done {
            return None;
        }
        let rest = text.get(at..)?;
        let (decoded, length) = match percent_decoded(rest) {
            Some((byte, length)) => (Some(byte), length),
            None => (None, char.len_utf8()),
        };
        let end = at.saturating_add(length);
        done = end;
        let plain = match decoded {
            Some(_) => &[],
            None => rest.as_bytes().get(..length)?,
        };
        let counts = decoded != Some(b'\\')
            && plain != b"\\"
            && (char.is_alphanumeric() || char.is_ascii_graphic());
        let bytes = decoded.into_iter().chain(plain.iter().copied());
        counts.then(|| bytes.map(move |byte| (byte, (at, end))))
    });
    units.flatten().map(|(byte, span)| match byte {
        b'-' => (b'+', span),
        b'_' => (b'/', span),
        byte => (byte.to_ascii_lowercase(), span),
    })
}

fn folded(text: &str) -> SecretBytes {
    SecretBytes::new(fold(text).map(|(byte, _)| byte).collect())
}

/// The byte that `text` begins with percent-encoded, however often, and how long that is.
fn percent_decoded(text: &str) -> Option<(u8, usize)> {
    let all = text.strip_prefix('%')?;
    let once = |digits: &str| {
        u8::from_str_radix(digits.get(..2)?, 16)
            .ok()
            .filter(|it| *it != 0)
    };
    let inner = all.trim_start_matches("25");
    let (byte, digits) = once(inner)
        .map(|it| (it, inner))
        .or_else(|| Some((once(all)?, all)))?;
    let before = text.len().saturating_sub(digits.len());
    Some((byte, before.saturating_add(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_and_its_pieces_are_cut_out() {
        let mut scrubber = Scrubber::default();
        scrubber.add("eyJhbGciOiJSUzI1NiJ9.payload.signature");
        scrubber.add("at-1");
        scrubber.add("abc");
        for (text, clean) in [
            ("nothing here", "nothing here"),
            ("bad eyJhbGciOiJSUzI1NiJ9.payload.signature!", "bad [cut]!"),
            (
                "bad EYJHBGCIOIJSUzI1NiJ9 and .payload.",
                "bad [cut] and [cut]",
            ),
            ("cut: UzI1NiJ9.payload", "cut: [cut]"),
            ("at-1 at-2 at-11", "[cut] at-2 [cut]1"),
            ("payload", "payload"),
            ("é at-1 é abc", "é [cut] é abc"),
            ("a\u{200b}t\u{ad}-\n1é", "[cut]é"),
            ("%61t-%31 %2561%2574%252d1 a%u 100%", "[cut] [cut] a%u 100%"),
            ("", ""),
        ] {
            assert_eq!(scrubber.scrub(text, "[cut]"), clean);
        }
        assert_eq!(Scrubber::default().scrub("x", "y"), "x");
        assert_eq!(
            format!("{scrubber:?}").matches("redacted").count(),
            scrubber.forms.len()
        );
    }

    /// However it comes back, and whatever is around it, no eight characters of it are left.
    #[test]
    fn a_secret_is_cut_out_in_all_its_forms() {
        let secret = "s3cr~t/Q+9=x";
        let mut scrubber = Scrubber::default();
        scrubber.add(secret);
        let upper = "s3cr%7Et%2FQ%2B9%3Dx";
        let all: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut repeated = vec![secret.to_owned(), upper.into(), upper.to_lowercase(), all];
        for before in ["", "a", "ab"] {
            for after in ["", "y"] {
                let whole = format!("{before}{secret}{after}");
                repeated.push(STANDARD_NO_PAD.encode(&whole));
                repeated.push(base64::engine::general_purpose::URL_SAFE.encode(&whole));
            }
        }
        repeated.push(upper.replace('%', "%25"));
        repeated.push("s3cr~t\\/Q+9=x".into());
        for text in repeated {
            let clean = scrubber.scrub(&format!("it was <{text}>, no?"), "[cut]");
            assert!(clean.contains("[cut]"), "{text}: {clean}");
            assert!(clean.len() < 30, "{text}: {clean}");
        }
    }
}
