//! What `state = "…"` stands for: the scripts of examples/persistence, as command lines.

/// The programs that can keep tokens, and the script for each, which knows `save`, `load` and `try`, and
/// takes a place as a further argument. No script holds a single quote, so that one pair of them
/// takes it through every shell to sh(1).
const KEEPERS: [(&str, &str); 5] = [
    ("age", include_str!("../../examples/persistence/age.sh")),
    ("gpg", include_str!("../../examples/persistence/gpg.sh")),
    (
        "systemd-creds",
        include_str!("../../examples/persistence/systemd-creds.sh"),
    ),
    (
        "secret-tool",
        include_str!("../../examples/persistence/secret-tool.sh"),
    ),
    ("pass", include_str!("../../examples/persistence/pass.sh")),
];

/// What `word` stands for: commands that save, load and try. It is a program's name, and behind a
/// colon the place; `None` for what is neither.
pub(super) fn commands(word: &str) -> Option<[String; 3]> {
    let (name, place) = word.split_once(':').unwrap_or((word, ""));
    let (_, script) = KEEPERS.iter().find(|(known, _)| *known == name)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._@+-".contains(c);
    let bare = place.strip_prefix("~/").unwrap_or(place);
    let is_file = script.contains("XDG_STATE_HOME") && !place.is_empty();
    let is_relative = is_file && bare == place && !place.starts_with('/');
    let is_odd =
        place.starts_with('-') || word.ends_with([':', '/']) || !bare.chars().all(is_plain);
    if is_relative || is_odd {
        return None;
    }
    let lines = script.lines().map(str::trim);
    let lines = lines.filter(|it| !it.is_empty() && !it.starts_with('#'));
    let script = lines.collect::<Vec<_>>().join("\n");
    let command = |verb| format!("exec /bin/sh -c '{script}' {name} {verb} {place}");
    Some(["save", "load", "try"].map(command))
}

/// The programs.
pub fn keepers() -> [&'static str; 5] {
    KEEPERS.map(|(name, _)| name)
}
