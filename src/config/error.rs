//! What is wrong with a config file, and where: a line that names the place, the line of the
//! file, a caret under the culprit, and a hint.

use cfgrammar::Span;

use super::secrets;
use crate::{error::below, text::is_harmful};

/// How much of an overlong line is shown, in characters: an ordinary line fits whole, and a
/// terminal doesn't wrap the caret away from its culprit.
const MAX_LINE_CHARS: usize = 120;

/// How much of a name from the file a message repeats, in characters.
const MAX_NAME_CHARS: usize = 60;

/// What stands in a shown line for a character that a terminal would act upon.
const NEUTRAL: char = '\u{fffd}';

/// A config file that can't be used. It never holds the value of a client secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.report(), below(.advice))]
pub struct ConfigError {
    file: String,
    /// The line of the file, from 1.
    pub line: usize,
    /// The column of the culprit's first character, counted in characters from 1.
    pub column: usize,
    message: String,
    /// A line of the file, made safe, and the carets below it; none for an error about the whole file.
    excerpt: Option<String>,
    /// What the user may have meant, or can do.
    pub advice: Option<String>,
}

impl ConfigError {
    /// An error about the whole of `file`.
    pub(super) fn of_file(file: &str, message: impl Into<String>) -> Self {
        ConfigError {
            file: file.chars().map(harmless).collect(),
            line: 1,
            column: 1,
            message: message.into(),
            excerpt: None,
            advice: None,
        }
    }

    /// The same error with a hint.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.maybe_hint(Some(hint.into()))
    }

    /// The same error with a hint, if there is one.
    pub(super) fn maybe_hint(self, advice: Option<String>) -> Self {
        ConfigError { advice, ..self }
    }

    /// Place and cause on one line: `file:line:column: message`.
    pub fn what(&self) -> String {
        let place = format!("{}:{}:{}", self.file, self.line, self.column);
        format!("{place}: {}", self.message)
    }

    /// Place and cause, then the line of the file and the carets below it; without the hint.
    pub fn report(&self) -> String {
        match &self.excerpt {
            Some(excerpt) => format!("{}\n{excerpt}", self.what()),
            None => self.what(),
        }
    }
}

/// A file's name and text: what turns spans into text and errors.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// The text at `span`.
    pub(super) fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start()..span.end()).unwrap_or_default()
    }

    /// The file's name as a terminal may show it.
    pub(super) fn shown_file(&self) -> String {
        self.file.chars().map(harmless).collect()
    }

    /// The number of the line that `span` starts on, from 1. Counts from the file's beginning.
    pub(super) fn line(&self, span: Span) -> usize {
        let before = self.text.as_bytes().iter().take(span.start());
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// The text at `span` as a message may show it: harmless, short, and nothing if it may be
    /// the value of a secret.
    pub(super) fn quote(&self, span: Span) -> Option<String> {
        let hidden = secrets::hidden(self.text);
        let hidden = hidden.get(span.start()..span.end()).unwrap_or_default();
        (!hidden.contains(&true)).then(|| quoted(self.slice(span)))
    }

    /// An error about what stands at `span`.
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> ConfigError {
        let start = self.text.get(..span.start()).unwrap_or(self.text);
        let line_start = start.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line_len = rest.find('\n').unwrap_or(rest.len());
        let line = Span::new(line_start, line_start + line_len);
        let before = self.slice(Span::new(line_start, start.len()));
        let column = before.chars().count();
        let culprit = Span::new(start.len(), span.end().min(line.end()).max(start.len()));
        let width = self.slice(culprit).chars().count();
        ConfigError {
            line: self.line(span),
            column: column + 1,
            excerpt: excerpt(&self.masked(line), column, width),
            ..ConfigError::of_file(self.file, message)
        }
    }

    /// The characters of `line`, with asterisks for what may be the value of a secret.
    fn masked(&self, line: Span) -> Vec<char> {
        let seen = self.text.get(..line.end()).unwrap_or(self.text);
        let hidden = secrets::hidden(seen);
        let chars = self.slice(line).char_indices();
        let shown = |(at, c)| match hidden.get(line.start() + at) {
            Some(true) => '*',
            _ => harmless(c),
        };
        chars.map(shown).collect()
    }
}

/// A name from the file, in backquotes, as a message may show it.
pub(super) fn quoted(name: &str) -> String {
    let mut shown: String = name
        .chars()
        .take(MAX_NAME_CHARS + 1)
        .map(harmless)
        .collect();
    if let Some((cut, _)) = shown.char_indices().nth(MAX_NAME_CHARS) {
        shown.truncate(cut);
        shown.push('…');
    }
    format!("`{shown}`")
}

/// `c`, or what stands for it where a terminal or a log would act upon it. One for one, so that
/// columns stay true.
fn harmless(c: char) -> char {
    match c {
        ' ' | '\t' => ' ',
        c if is_harmful(c) => NEUTRAL,
        c => c,
    }
}

/// The shown part of a line and its carets: `width` of them (at least one) from `column` (from 0).
fn excerpt(line: &[char], column: usize, width: usize) -> Option<String> {
    let len = line.iter().rposition(|c| *c != ' ' && *c != NEUTRAL)? + 1;
    let start = if len > MAX_LINE_CHARS {
        // Some of what stands before the culprit, the rest for itself and what follows.
        column.saturating_sub(MAX_LINE_CHARS / 3)
    } else {
        0
    };
    let end = len.min(start + MAX_LINE_CHARS);
    let mut shown = String::new();
    let mut carets = " ".repeat(column - start);
    if start > 0 {
        shown.push('…');
        carets.push(' ');
    }
    shown.extend(line.get(start..end).unwrap_or_default());
    if end < len {
        shown.push('…');
    }
    carets.push_str(&"^".repeat(width.min(end.saturating_sub(column)).max(1)));
    Some(format!("{shown}\n{carets}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, start: usize, end: usize) -> String {
        let source = Source { file: "f", text };
        source.error(Span::new(start, end), "no").to_string()
    }

    #[test]
    fn columns_count_characters_and_tabs_take_one() {
        assert_eq!(
            show("a = é;\n\t\"é\" x", 14, 15),
            "f:2:6: no\n \"é\" x\n     ^"
        );
    }

    #[test]
    fn a_terminal_sees_nothing_to_act_upon() {
        assert_eq!(
            show("a\u{1b}[31m\u{202e} b\r\n", 10, 11),
            "f:1:9: no\na\u{fffd}[31m\u{fffd} b\n        ^"
        );
        let file = Source {
            file: "a\u{7}b",
            text: "x",
        };
        assert_eq!(
            file.error(Span::new(0, 1), "no").what(),
            "a\u{fffd}b:1:1: no"
        );
    }

    #[test]
    fn an_overlong_line_is_windowed_around_the_culprit() {
        let text = format!("{}CULPRIT{}", "a".repeat(1000), "b".repeat(1000));
        let shown = format!(
            "f:1:1001: no\n…{}CULPRIT{}…\n{}^^^^^^^",
            "a".repeat(40),
            "b".repeat(73),
            " ".repeat(41)
        );
        assert_eq!(show(&text, 1000, 1007), shown);
        let long = show(&text, 0, 2007);
        assert!(long.ends_with(&format!("…\n{}", "^".repeat(120))), "{long}");
    }

    #[test]
    fn the_end_of_a_file_and_a_span_of_many_lines_have_their_place() {
        assert_eq!(show("a = 1s", 6, 6), "f:1:7: no\na = 1s\n      ^");
        assert_eq!(show("a = {\n};\n", 4, 7), "f:1:5: no\na = {\n    ^");
        assert_eq!(show("", 0, 0), "f:1:1: no");
    }

    #[test]
    fn names_are_cut() {
        assert_eq!(quoted("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quoted(&"é".repeat(61)), format!("`{}…`", "é".repeat(60)));
        assert_eq!(quoted(&"é".repeat(60)), format!("`{}`", "é".repeat(60)));
    }
}
