//! How a line of IMAP is read (RFC 9051, 4).

/// How long a literal is, and whether the program waits to be asked for it.
type Literal = (usize, bool);

/// What stands before the literal that a line ends with, and that.
fn literal(line: &str) -> Option<(&str, Option<Literal>)> {
    let (before, mark) = line.strip_suffix('}')?.rsplit_once('{')?;
    let digits = mark.trim_end_matches('+');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // One that is no number for us is longer than any may be.
    let length = digits.parse().unwrap_or(usize::MAX);
    is_number.then_some((before, Some((length, digits == mark))))
}

/// A line's words, quotes undone, and the literal that it ends with.
pub fn words(line: &str) -> (Vec<String>, Option<Literal>) {
    let (line, literal) = literal(line).unwrap_or((line, None));
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    let line = line.trim();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => word.extend(chars.next()),
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    // A quoted one may be empty.
    words.extend(Some(word).filter(|_| !line.is_empty()));
    (words, literal)
}
