//! The language the other way round: what is put into a configuration that is printed.

use crate::text::sanitize;

/// A string, quoted. Control characters are the caller's to see to.
pub fn quoted(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// Words as a comment, made safe, in lines of at most `width` characters where the words allow it.
pub fn comment(indent: &str, words: &str, width: usize) -> String {
    let start = format!("{indent}//");
    let mut text = start.clone();
    let mut columns = start.chars().count();
    for (number, word) in sanitize(words).split(' ').enumerate() {
        let length = word.chars().count() + 1;
        columns += length;
        if columns > width && number > 0 {
            text.push('\n');
            text.push_str(&start);
            columns = start.chars().count() + length;
        }
        text.push(' ');
        text.push_str(word);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_ends_where_it_should() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }

    #[test]
    fn comments_are_cut_between_words_and_hold_no_line_of_their_own() {
        let cut = "  // one two\n  // three\n";
        assert_eq!(comment("  ", "one two three", 12), cut);
        assert_eq!(comment("", "toolongbyfar x", 4), "// toolongbyfar\n// x\n");
        let lines = comment("", "a\nclient_id = 1;", 80);
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
}
