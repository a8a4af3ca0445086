//! Text to tokens. What a string, a number or a word may hold is checked where it is used
//! (lower.rs): an error there can say more than one here.

use lrlex::DefaultLexeme;
use lrpar::Lexeme;

/// The tokens that grammar.y names, from build.rs.
mod tokens {
    include!(concat!(env!("OUT_DIR"), "/config/tokens.rs"));
}

pub(super) use tokens::NAMES;

pub(super) type Token = DefaultLexeme<u32>;

/// The tokens of `text`, and the first place where none starts, if they don't go up to its end.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Option<usize>) {
    let mut tokens = Vec::new();
    let mut at = skip(text, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((id, len)) = token(rest.as_bytes()) else {
            return (tokens, Some(at));
        };
        tokens.push(Token::new(id, at, len));
        at = skip(text, at + len);
    }
    (tokens, None)
}

/// Where the white space and the comments at `at` end.
fn skip(text: &str, at: usize) -> usize {
    let mut rest = text.get(at..).unwrap_or_default();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if !rest.starts_with("//") {
            return text.len() - rest.len();
        }
        rest = rest.trim_start_matches(|c| c != '\n');
    }
}

/// The kind and length of the token that `rest` starts with.
fn token(rest: &[u8]) -> Option<(u32, usize)> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let number = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    match rest.first()? {
        b'"' => Some((tokens::STRING, string(rest)?)),
        byte if byte.is_ascii_digit() => Some((tokens::NUMBER, run(rest, number))),
        byte if byte.is_ascii_alphabetic() || *byte == b'_' => {
            Some((tokens::WORD, run(rest, word)))
        }
        byte => Some((mark(*byte)?, 1)),
    }
}

/// The length of the string that `rest` starts with, quotes included; it may go over lines.
fn string(rest: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            b'\0' => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The token that is just this character.
fn mark(byte: u8) -> Option<u32> {
    let named = NAMES.iter().find(|(_, name)| name.as_bytes() == [byte]);
    named.map(|(id, _)| *id)
}

/// How many bytes at the start of `rest` are such.
fn run(rest: &[u8], such: impl Fn(u8) -> bool) -> usize {
    rest.iter().take_while(|byte| such(**byte)).count()
}
