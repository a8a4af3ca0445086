//! "Did you mean …?"

/// The candidate that `word` is most likely a slip of, if one is near enough: at most a third of
/// the candidate's letters may differ, case and dashes aside. The first of several wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(steps, candidate)| *steps <= candidate.len() / 3)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two words, where swapping two neighbours is one step (optimal string
/// alignment). Words whose lengths are far apart are far apart, and cost nothing to compare.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > b.len() / 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut left = i + 1;
        let mut corner = i;
        for (j, (&y, &up)) in b.iter().zip(above.iter().skip(1)).enumerate() {
            let mut steps = (corner + usize::from(x != y)).min(up + 1).min(left + 1);
            let swapped = j > 0 && last == Some(y) && b.get(j - 1) == Some(&x);
            if let (true, Some(two_back)) = (swapped, before.get(j.wrapping_sub(1))) {
                steps = steps.min(two_back + 1);
            }
            corner = up;
            left = steps;
            row.push(steps);
        }
        before = std::mem::replace(&mut above, row);
        last = Some(x);
    }
    above.last().copied().unwrap_or(0)
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
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), steps, "{a} {b}");
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
