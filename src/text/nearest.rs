//! "Did you mean …?"

/// The candidate that `word` is most likely a slip of, if one is near enough: at most a third of
/// the candidate's letters may differ, case and dashes aside. The first of several wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(steps, candidate)| *steps <= candidate.len() / 3)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two words, where swapping two neighbours is one step (optimal string
/// alignment). Words whose lengths are far apart are far apart, and cost nothing to compare.
fn distance(a: &str, b: &str) -> usize {
    match a.len().abs_diff(b.len()) > b.len() / 3 {
        true => usize::MAX,
        false => strsim::osa_distance(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, steps) in [
            ("", "", 0),
            ("scopes", "scopes", 0),
            ("scope", "scopes", 1),
            ("socpes", "scopes", 1),
            ("clientid", "client_id", 1),
            ("tokne_uir", "token_uri", 2),
            ("kitten", "sitting", 3),
            ("a", "scopes", usize::MAX),
        ] {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["client_id", "client_secret", "scopes"];
        assert_eq!(nearest("Client-ID", names), Some("client_id"));
        assert_eq!(nearest("scpoe", names), Some("scopes"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("é", names), None);
    }
}
