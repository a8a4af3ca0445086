//! Text to [`Item`]s by the lexer and the generated parser, and what to say when they refuse it.

use cfgrammar::{NewlineCache, Span};
use lrlex::LRNonStreamingLexer;
use lrpar::{LexParseError, Lexeme};

use super::{
    ast::Item,
    error::{ConfigError, Source},
    lexer::{self, Token},
};

/// The tables that build.rs makes from grammar.y.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
mod tables {
    use lrpar::lrpar_mod;

    lrpar_mod!("config/grammar.y");

    pub(super) use grammar_y::parse;
}

/// The entries of the file, or its first error.
pub(super) fn parse(source: &Source) -> Result<Vec<Item>, ConfigError> {
    let (tokens, unreadable) = lexer::tokens(source.text);
    let parsed = parse_tokens(source.text, &tokens);
    let failure = Failure { source, tokens };
    Err(match (parsed, unreadable) {
        (Ok(items), None) => return Ok(items),
        // What comes first counts more.
        (Err(Some(token)), _) if failure.is_real(token) => failure.unexpected(token),
        (_, Some(at)) => failure.unreadable(at),
        (Err(Some(token)), None) => failure.unexpected(token),
        (Err(None), None) => ConfigError::of_file(source.file, "can't be parsed"),
    })
}

/// The entries that `tokens` make, or the token at which the grammar refuses them.
fn parse_tokens(text: &str, tokens: &[Token]) -> Result<Vec<Item>, Option<Token>> {
    let lexemes = tokens.iter().map(|token| Ok(*token)).collect();
    let lexer = LRNonStreamingLexer::new(text, lexemes, NewlineCache::new());
    match tables::parse(&lexer) {
        (Some(items), errors) if errors.is_empty() => Ok(items),
        (_, errors) => Err(errors.into_iter().find_map(|error| match error {
            LexParseError::ParseError(error) => Some(*error.lexeme()),
            LexParseError::LexError(_) => None,
        })),
    }
}

/// All that is known about a file that doesn't parse.
struct Failure<'a> {
    source: &'a Source<'a>,
    /// The file's tokens, up to where the lexer gave up.
    tokens: Vec<Token>,
}

impl Failure<'_> {
    /// Whether `token` is in the file; the end of the file isn't.
    fn is_real(&self, token: Token) -> bool {
        self.name(token).is_some()
    }

    fn name(&self, token: Token) -> Option<&str> {
        let found = lexer::NAMES.iter().find(|(id, _)| *id == token.tok_id());
        found.map(|(_, name)| *name)
    }

    /// What the grammar would take after `tokens`: each kind of token is tried.
    fn expected(&self, tokens: &[Token]) -> Vec<&str> {
        // Whole entries before the one at fault don't matter, and would have to be read each time.
        let entry = tokens.get(self.last_entry(tokens)..);
        let mut tokens = entry.unwrap_or_default().to_vec();
        let end = tokens.last().map_or(0, |token| token.span().end());
        let mut fits = Vec::new();
        for (id, name) in lexer::NAMES {
            tokens.push(Token::new(id, end, 0));
            match parse_tokens(self.source.text, &tokens) {
                Err(Some(refused)) if self.is_real(refused) => {}
                _ => fits.push(name),
            }
            tokens.pop();
        }
        fits
    }

    /// The index of the token that starts the last entry of the file: a word outside everything
    /// that follows a `;` or a `}`.
    fn last_entry(&self, tokens: &[Token]) -> usize {
        let mut depth = 0_usize;
        let mut start = 0;
        let mut before = None;
        for (index, token) in tokens.iter().enumerate() {
            let name = self.name(*token);
            match (name, before) {
                (Some("{"), _) => depth += 1,
                (Some("}"), _) => depth = depth.saturating_sub(1),
                (Some("WORD"), Some(";" | "}")) if depth == 0 => start = index,
                _ => {}
            }
            before = name;
        }
        start
    }

    /// A token, or the end of the file, where the grammar has no place for it.
    fn unexpected(&self, token: Token) -> ConfigError {
        let at = token.span();
        let is_before = |it: &Token| it.span().end() <= at.start();
        let before = self.tokens.get(..self.tokens.partition_point(is_before));
        let before = before.unwrap_or_default();
        let slip = || self.usual_slip(before, token);
        if let Some(error) = self.runaway(before, at.start()).or_else(slip) {
            return error;
        }
        let expected = self.expected(before);
        let what = format!("expected {}", self.phrase(&expected, before));
        let closing = !expected.contains(&"WORD") && !expected.contains(&"STRING");
        // What is missing at the end of a line is missed there, and not on the next.
        let place = before.last().map_or(at, |last| last.span());
        let gap = behind(place);
        if !self.is_real(token) {
            let what = format!("{what}, found the end of the file");
            return (self.source.error(gap, what)).maybe_hint(self.unclosed(before));
        }
        if closing && self.newline_between(place.end(), at.start()) {
            return self.source.error(gap, what);
        }
        // No string is repeated, and no word that may be a secret.
        let found = match self.name(token) {
            Some("STRING") => Some("a string".into()),
            _ => self.source.quote(at),
        };
        let found = found.unwrap_or_else(|| "something else".into());
        self.source.error(at, format!("{what}, found {found}"))
    }

    /// A string that lacks its closing quote goes on to the opening one of the next, whose content
    /// then stands right behind it, at `at`, as no setting ever does.
    fn runaway(&self, before: &[Token], at: usize) -> Option<ConfigError> {
        let last = before.last()?;
        let span = last.span();
        let is_string = self.name(*last) == Some("STRING");
        let is_closed = !self.newline_between(span.start(), at);
        if !is_string || is_closed || self.newline_between(span.end(), at) {
            return None;
        }
        let line = self.source.line(behind(span));
        let what = format!("the string isn't closed on its line, and goes on to line {line}");
        Some(self.unclosed_string(span.start(), &what))
    }

    /// Errors that the grammar notices late or that have a name of their own.
    fn usual_slip(&self, before: &[Token], token: Token) -> Option<ConfigError> {
        let [.., earlier, last] = before else {
            return None;
        };
        let is_word = self.name(*last) == Some("WORD");
        let (earlier_at, at) = (earlier.span(), last.span());
        match (self.name(*earlier), self.name(token)) {
            // `client_id =`, and the next setting was taken for its value.
            (Some("="), Some("="))
                if is_word && self.newline_between(earlier_at.end(), at.start()) =>
            {
                Some(self.source.error(behind(earlier_at), "expected a value"))
            }
            (_, Some("STRING")) if is_word && self.source.slice(at) == "account" => {
                let what = "an account can't be inside an account";
                let error = self.source.error(at, what);
                Some(error.hint(self.unclosed(before)?))
            }
            _ => None,
        }
    }

    fn newline_between(&self, from: usize, to: usize) -> bool {
        let gap = self.source.text.get(from..to);
        gap.is_some_and(|gap| gap.contains('\n'))
    }

    /// The expected tokens in words.
    fn phrase(&self, expected: &[&str], before: &[Token]) -> String {
        let has = |name| expected.contains(&name);
        let last = before.last().map(|token| self.source.slice(token.span()));
        match () {
            () if has("NUMBER") => "a value".into(),
            () if has("WORD") && has("}") => "an option or `}`".into(),
            () if has("WORD") => "an option or `account`".into(),
            () if has("=") && has("STRING") && last == Some("account") => {
                "the account's name in double quotes".into()
            }
            () if has("=") => "`=`".into(),
            () => {
                // A list may begin with a comma, which nobody should be told to do.
                let nouns = expected
                    .iter()
                    .filter(|name| **name != "," || !has("STRING"));
                let nouns = nouns.map(|name| match *name {
                    "STRING" => "a string".to_string(),
                    mark => format!("`{mark}`"),
                });
                nouns.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// Which bracket of `before` is still open, if one is.
    fn unclosed(&self, before: &[Token]) -> Option<String> {
        let mut open = Vec::new();
        for token in before {
            match self.name(*token) {
                Some("{" | "[") => open.push(token.span()),
                Some("}" | "]") => {
                    open.pop();
                }
                _ => {}
            }
        }
        let innermost = open.pop()?;
        let (mark, line) = (self.source.slice(innermost), self.source.line(innermost));
        Some(format!("the `{mark}` on line {line} isn't closed"))
    }

    /// A character that starts no token.
    fn unreadable(&self, at: usize) -> ConfigError {
        let rest = self.source.text.get(at..).unwrap_or_default();
        let c = rest.chars().next().unwrap_or_default();
        if let Some(error) = self.runaway(&self.tokens, at) {
            return error;
        }
        if c == '"' {
            let Some(nul) = rest.find('\0') else {
                return self.unclosed_string(at, "the string isn't closed");
            };
            let nul = Span::new(at + nul, at + nul + 1);
            return (self.source).error(nul, "a string can't hold a NUL character");
        }
        let span = Span::new(at, at + c.len_utf8());
        let (alike, code) = (look_alike(c), u32::from(c));
        let what = match (self.source.quote(span), alike) {
            (None, _) => "unexpected character".into(),
            (Some(_), _) if c.is_control() => format!("unexpected control character U+{code:04X}"),
            (Some(_), Some((name, _))) => format!("unexpected {name} (U+{code:04X})"),
            (Some(quoted), None) => format!("unexpected character {quoted}"),
        };
        let hint = match c {
            '#' => Some("a comment starts with `//`"),
            '/' => Some("a comment starts with `//` and ends with its line"),
            '\'' | '`' => Some(STRINGS),
            _ => alike.map(|(_, hint)| hint),
        };
        self.source
            .error(span, what)
            .maybe_hint(hint.map(Into::into))
    }

    /// A string at `at` whose line has no quote that closes it.
    fn unclosed_string(&self, at: usize, what: &str) -> ConfigError {
        let rest = self.source.text.get(at..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let span = Span::new(at, at + line.trim_end().len());
        let error = self.source.error(span, what);
        let inside = r#"`\"` is a quote inside a string; a backslash is `\\`"#;
        let slips = [
            ("\\\"", inside),
            (
                "\u{201d}",
                "a curly quote ends no string: type \" in its place",
            ),
        ];
        let slip = slips.iter().find(|(slip, _)| line.contains(slip));
        error.maybe_hint(slip.map(|(_, hint)| (*hint).into()))
    }
}

/// The place right behind another.
fn behind(place: Span) -> Span {
    Span::new(place.end(), place.end())
}

/// What a string looks like.
const STRINGS: &str = "strings stand in double quotes: \"…\"";

/// A character that can't be seen, or can't be told from one that may stand in a configuration, as
/// web pages and word processors put it there: its name, and what to do.
fn look_alike(c: char) -> Option<(&'static str, &'static str)> {
    const SPACE: &str = "type an ordinary space in its place";
    Some(match c {
        '\u{a0}' | '\u{202f}' => ("no-break space", SPACE),
        '\u{2000}'..='\u{200a}' | '\u{205f}' | '\u{3000}' => ("wide space", SPACE),
        '\u{feff}' => ("byte order mark", "delete it; it can't be seen"),
        '\u{200b}' => ("zero-width space", "delete it; it can't be seen"),
        '\u{ad}' | '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => {
            ("invisible character", "delete it, or type the line anew")
        }
        '\u{2018}'..='\u{201f}' => ("curly quote", STRINGS),
        '\u{37e}' => ("Greek question mark", "type a semicolon in its place"),
        _ => return None,
    })
}
