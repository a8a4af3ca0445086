//! Foreign text made safe: what a provider, a web page or a hook says before it reaches a
//! terminal, a log, an environment variable or a page.

mod nearest;

pub use nearest::nearest;

/// How long a foreign sentence may be before it is cut, in characters: enough for the longest
/// AADSTS description, short enough for a notification and one log line.
pub const MAX_FOREIGN_CHARS: usize = 800;

/// `text` as one harmless line: control characters (C0, DEL, C1), line separators and
/// bidirectional overrides become spaces, runs of white space become one space, the ends are
/// trimmed, and what is longer than [`MAX_FOREIGN_CHARS`] is cut with an ellipsis.
pub fn sanitize(text: &str) -> String {
    let words = text.split(is_harmful).filter(|word| !word.is_empty());
    // No more can be shown.
    let words: Vec<&str> = words.take(MAX_FOREIGN_CHARS).collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_FOREIGN_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// `text` as lines, each harmless and as long as it was: what [`sanitize`] takes out becomes a
/// space, so that a caret stays below its culprit. Empty lines at the end go.
pub fn sanitize_lines(text: &str) -> String {
    let lines = text.replace(|c| c != '\n' && is_harmful(c), " ");
    lines.trim_end().to_owned()
}

/// White space, what a terminal acts upon, and characters that change how the text around them is
/// shown and show nothing themselves.
pub fn is_harmful(c: char) -> bool {
    let is_invisible = matches!(c,
        '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_whitespace() || c.is_control() || is_invisible
}

/// `text` for HTML's text and quoted attributes.
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// `name` as one types it as an argument of a command in a shell.
pub fn shell_word(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@._+:/-".contains(c);
    let word = if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    };
    if name.starts_with('-') {
        format!("-- {word}")
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Covers: H22
    #[test]
    fn control_and_bidi_characters_become_spaces() {
        for (foreign, safe) in [
            ("plain words", "plain words"),
            ("  two\r\n lines\t", "two lines"),
            ("\u{1b}[31mred\u{1b}[0m", "[31mred [0m"),
            ("a\u{202e}b\u{9b}c\u{7f}d\0", "a b c d"),
            ("\u{feff}é", "é"),
            ("", ""),
        ] {
            assert_eq!(sanitize(foreign), safe);
        }
    }

    #[test]
    fn long_text_is_cut_and_sanitising_twice_changes_nothing() {
        let once = sanitize(&"x\u{7}".repeat(5_000));
        assert_eq!(once.chars().count(), MAX_FOREIGN_CHARS + 1);
        assert_eq!(sanitize("a \u{1b} b"), sanitize(&sanitize("a \u{1b} b")));
    }

    #[test]
    fn lines_stay_lines_and_columns_columns() {
        assert_eq!(
            sanitize_lines("a\tb\u{1b}[1m\r\n  \u{202e}^\n\n"),
            "a b [1m \n   ^"
        );
    }

    #[test]
    fn a_name_can_be_typed_as_it_is_shown() {
        for (name, word) in [
            ("work", "work"),
            ("me@example.com", "me@example.com"),
            ("my work", "'my work'"),
            ("it's", r"'it'\''s'"),
            ("-u", "-- -u"),
            ("$(id)", "'$(id)'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(name), word);
        }
    }

    #[test]
    fn html_is_escaped() {
        assert_eq!(
            escape_html("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
    }
}
