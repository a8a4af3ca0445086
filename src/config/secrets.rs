//! Where a config file may hold the value of a secret, so that no error shows it.
//!
//! The file is wrong when this is asked, so it goes by looks and not by the grammar: after a
//! name that looks like `client_secret` or a password, everything up to the end of the setting is hidden,
//! whether it is quoted or not, complete or not. Hiding too much costs little.

use super::options;
use crate::text::nearest;

/// Whether to hide it, for each byte of `text`. The quotes around a hidden string are shown.
///
/// A string may go over lines, or lack its closing quote: both readings count.
pub(super) fn hidden(text: &str) -> Vec<bool> {
    let mut hidden = vec![false; text.len()];
    for over_lines in [true, false] {
        let mut scan = Scan {
            text,
            at: 0,
            over_lines,
            is_comment: false,
            hiding: false,
            hides: false,
            hidden: &mut hidden,
        };
        scan.run();
    }
    for (scheme, _) in text.match_indices("://") {
        let rest = text.get(scheme..).unwrap_or_default();
        let authority = rest.get(3..).unwrap_or_default();
        let authority = authority.split(['/', '"', '\n']).next();
        let user = authority.and_then(|it| Some(it.rsplit_once('@')?.0));
        if let Some((name, password)) = user.and_then(|user| user.split_once(':')) {
            let start = scheme + 3 + name.len() + 1;
            let password = hidden.get_mut(start..start + password.len());
            password.unwrap_or_default().fill(true);
        }
    }
    hidden
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// Whether a string ends at its closing quote only, and not also where its line does.
    over_lines: bool,
    /// A comment is read as text of its own: it may be a setting turned off.
    is_comment: bool,
    /// Whether the setting that is being read looks like a secret.
    hiding: bool,
    /// Whether anything of that setting's value was seen.
    hides: bool,
    hidden: &'a mut [bool],
}

impl Scan<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => self.string(),
                // What comes before the value doesn't end the setting.
                ';' | '}' if self.hides => self.punctuation(false),
                '=' | ':' | ',' | ';' | '[' | ']' | '{' | '}' => self.punctuation(self.hiding),
                '/' if !self.is_comment && self.rest().starts_with("//") => self.comment(),
                '\n' if self.is_comment => {
                    self.is_comment = false;
                    self.punctuation(false);
                }
                c if is_word(c) => self.word(),
                c if c.is_whitespace() => self.at += c.len_utf8(),
                c => self.take(c.len_utf8()),
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn punctuation(&mut self, hiding: bool) {
        self.expect(hiding);
        self.at += 1;
    }

    /// Says whether what follows is a secret.
    fn expect(&mut self, secret: bool) {
        self.hides &= secret && self.hiding;
        self.hiding = secret;
    }

    /// Goes on by `len`, and hides that much if need be.
    fn take(&mut self, len: usize) {
        if self.hiding {
            let hidden = self.hidden.get_mut(self.at..self.at + len);
            hidden.unwrap_or_default().fill(true);
            self.hides = true;
        }
        self.at += len;
    }

    /// A string, whether or not it is closed.
    fn string(&mut self) {
        self.at += 1;
        let mut escaped = false;
        let over_lines = self.over_lines && !self.is_comment;
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
        let secret = looks_secret(word);
        // The name of the next option ends a setting that lacks its semicolon. A plain word may be
        // part of the secret.
        let after = rest.get(len..).unwrap_or_default().trim_start();
        let is_name = word.contains('_') || after.starts_with('=');
        let option = is_name && options::option(word).is_some();
        if option || !self.hiding {
            self.expect(secret);
            self.at += len;
        } else {
            self.take(len);
        }
    }

    fn comment(&mut self) {
        // An unquoted secret may hold two slashes.
        self.is_comment = !self.hiding;
        let line = self.rest().lines().next().unwrap_or_default().len();
        self.take(if self.is_comment { 2 } else { line });
    }
}

/// What the names of settings contain that hold secrets, or would.
const SECRETS: [&str; 2] = ["secret", "password"];

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Where the word in `string` ends that makes it look like a secret.
fn name_end(string: &str) -> usize {
    let lower = string.to_ascii_lowercase();
    let starts = SECRETS.into_iter().filter_map(|it| lower.find(it));
    let start = starts.min().unwrap_or(0);
    let tail = string.get(start..).unwrap_or_default();
    start + tail.find(|c| !is_word(c)).unwrap_or(tail.len())
}

/// Whether a setting of this name, however misspelt, is likely to hold a secret.
fn looks_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRETS.into_iter().any(|it| lower.contains(it)) || nearest(name, ["client_secret"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let hidden = hidden(text);
        let shown = text.bytes().zip(hidden);
        let shown = shown.map(|(byte, hidden)| if hidden { b'*' } else { byte });
        String::from_utf8(shown.collect()).unwrap()
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
            (r#"proxy_password = "abc";"#, r#"proxy_password = "***";"#),
            (r#"client_secret = my user"#, r#"client_secret = ** ****"#),
            (
                r#"x = "https://me:a:b@c@d.example:1/e@f";"#,
                r#"x = "https://me:*****@d.example:1/e@f";"#,
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
            r#"x = "https://me@d.example:1/a:b";"#,
            "x = \"https://d:1\";\ny = \"a@b\";",
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
