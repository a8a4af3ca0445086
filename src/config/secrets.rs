//! Where a config file may hold the value of a secret, so that no error shows it.
//!
//! The file is wrong when this is asked, so it goes by looks and not by the grammar: after a
//! name that looks like `client_secret`, everything up to the end of the setting is hidden,
//! whether it is quoted or not, complete or not. Hiding too much costs little.

use cfgrammar::Span;

use super::options;
use crate::text::nearest;

/// The parts of `text` to hide, in order. The quotes around a hidden string aren't part.
///
/// A string may go over lines, or lack its closing quote: both readings count.
pub(super) fn spans(text: &str) -> Vec<Span> {
    let mut found = found(text, true);
    found.extend(self::found(text, false));
    found.sort_by_key(|span| (span.start(), span.end()));
    let mut merged: Vec<Span> = Vec::with_capacity(found.len());
    for span in found {
        match merged.last_mut() {
            Some(last) if span.start() < last.end() => {
                *last = Span::new(last.start(), last.end().max(span.end()));
            }
            Some(_) | None => merged.push(span),
        }
    }
    merged
}

/// The parts of `text` to hide if strings go over lines, or don't.
fn found(text: &str, over_lines: bool) -> Vec<Span> {
    let mut scan = Scan {
        text,
        at: 0,
        end: text.len(),
        over_lines,
        hiding: false,
        hidden: false,
        found: Vec::new(),
    };
    scan.run(true);
    scan.found
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    /// Whether a string ends at its closing quote only, and not also where its line does.
    over_lines: bool,
    /// Whether the setting that is being read looks like a secret.
    hiding: bool,
    /// Whether anything of that setting's value was seen.
    hidden: bool,
    found: Vec<Span>,
}

impl Scan<'_> {
    /// Reads up to `end`. A comment is read as text of its own: it may be a setting turned off.
    fn run(&mut self, comments: bool) {
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => self.string(),
                // What comes before the value doesn't end the setting.
                ';' | '}' if self.hidden => self.punctuation(false),
                '=' | ':' | ',' | ';' | '[' | ']' | '{' | '}' => self.punctuation(self.hiding),
                '/' if comments && self.rest().starts_with("//") => self.comment(),
                c if is_word(c) => self.word(),
                c if c.is_whitespace() => self.at += c.len_utf8(),
                c => self.take(c.len_utf8()),
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..self.end).unwrap_or_default()
    }

    fn punctuation(&mut self, hiding: bool) {
        self.expect(hiding);
        self.at += 1;
    }

    /// Says whether what follows is a secret.
    fn expect(&mut self, secret: bool) {
        self.hidden &= secret && self.hiding;
        self.hiding = secret;
    }

    /// Goes on by `len`, and hides that much if need be.
    fn take(&mut self, len: usize) {
        if self.hiding {
            self.found.push(Span::new(self.at, self.at + len));
            self.hidden = true;
        }
        self.at += len;
    }

    /// A string, whether or not it is closed.
    fn string(&mut self) {
        self.at += 1;
        let mut escaped = false;
        let over_lines = self.over_lines;
        let ends = |c: char| {
            let end = (c == '\n' && !over_lines) || (c == '"' && !escaped);
            escaped = c == '\\' && !escaped;
            end
        };
        let len = self.rest().find(ends).unwrap_or(self.rest().len());
        let string = self.rest().get(..len).unwrap_or_default();
        // The key of a field, or a name and more that a stray quote made part of a string.
        let key = looks_secret(string);
        let name = if key { name_end(string) } else { 0 };
        self.take(name);
        self.expect(self.hiding || key);
        self.take(len - name);
        self.at += usize::from(self.rest().starts_with('"'));
    }

    fn word(&mut self) {
        let rest = self.rest();
        let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or_default();
        let (secret, option) = (looks_secret(word), options::option(word).is_some());
        // The name of the next option ends a setting that lacks its semicolon.
        if option || !self.hiding {
            self.expect(secret);
            self.at += len;
        } else {
            self.take(len);
        }
    }

    fn comment(&mut self) {
        let rest = self.rest();
        let len = rest.find('\n').unwrap_or(rest.len());
        if self.hiding {
            // An unquoted secret may hold two slashes.
            return self.take(len);
        }
        let (end, comment_end) = (self.end, self.at + len);
        self.end = comment_end;
        self.run(false);
        (self.at, self.end) = (comment_end, end);
        self.expect(false);
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where the word in `string` ends that makes it look like a secret.
fn name_end(string: &str) -> usize {
    let start = string.to_ascii_lowercase().find("secret").unwrap_or(0);
    let tail = string.get(start..).unwrap_or_default();
    start + tail.find(|c| !is_word(c)).unwrap_or(tail.len())
}

/// Whether a setting of this name, however misspelt, is likely to hold a secret.
fn looks_secret(name: &str) -> bool {
    name.to_ascii_lowercase().contains("secret") || nearest(name, ["client_secret"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let mut shown = text.to_string();
        for span in spans(text).iter().rev() {
            shown.replace_range(span.start()..span.end(), &"*".repeat(span.len()));
        }
        shown
    }

    #[test]
    fn whatever_may_be_a_secret_is_hidden() {
        for (text, shown) in [
            (r#"client_secret = "abc";"#, r#"client_secret = "***";"#),
            (
                r#"client_secret="a\"b" ;x = 1;"#,
                r#"client_secret="****" ;x = 1;"#,
            ),
            (
                "client_secret =\n  \"abc\"\n;",
                "client_secret =\n  \"***\"\n;",
            ),
            (r#"client_secret = "abc"#, r#"client_secret = "***"#),
            ("client_secret = \"a\nb\";", "client_secret = \"***\"*"),
            (
                "client_secret = \"a\nclient_id b\"; x = \"c\";",
                "client_secret = \"*************\"; x = \"c\";",
            ),
            (
                "client_id = \"a;\nclient_secret = \"b\";",
                "client_id = \"a;\nclient_secret***\"*\"*",
            ),
            ("client_secret = ab//cd+1;", "client_secret = *********"),
            (r#"client_secret = 'ab c';"#, r#"client_secret = *** **;"#),
            (r#"client_secret "abc";"#, r#"client_secret "***";"#),
            (r#"clientsecrte = "abc";"#, r#"clientsecrte = "***";"#),
            (r#"Client-Secret: "abc";"#, r#"Client-Secret: "***";"#),
            (
                r#"client_secret = ["abc", "d"];"#,
                r#"client_secret = ["***", "*"];"#,
            ),
            (
                r#"f = { "client_secret": "abc" };"#,
                r#"f = { "client_secret": "***" };"#,
            ),
            (
                r#"// client_secret = "abc";"#,
                r#"// client_secret = "***";"#,
            ),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    #[test]
    fn the_rest_is_shown() {
        for text in [
            r#"client_id = "abc"; x = "client_secret";"#,
            "// our secret\nclient_id = \"abc\";",
            "// it isn't \"closed\nclient_id = \"abc\";",
            r#"socket "path" { }"#,
        ] {
            assert_eq!(masked(text), text);
        }
        assert_eq!(
            masked("client_secret = \"a\"\nscopes = [\"b\"];"),
            "client_secret = \"*\"\nscopes = [\"b\"];"
        );
        assert_eq!(
            masked("account \"x\" { client_secret = \"a\" } foo = \"b\";"),
            "account \"x\" { client_secret = \"*\" } foo = \"b\";"
        );
    }
}
