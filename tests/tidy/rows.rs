//! The lists that this project is held against, and which of their rows has a test.
//!
//! A test says `// Covers: 59, H3, drip` above itself: replies from the wild by their number, what
//! hardens the server as H1 and so on, what must always hold as I1 and so on, faults by name.
//! Replies of a token endpoint are cases of tests/conformance.rs, which has their numbers as data.

use std::collections::BTreeSet;

use super::tree::File;
use crate::conformance;

/// How many rows there are of each list with numbers.
const NUMBERED: [(&str, u32); 3] = [("", 72), ("H", 30), ("I", 10)];

/// The rows of the first list beyond those, as far as they are covered: it grows by kinds.
const LATER: [u32; 27] = [
    73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96,
    97, 98, 99,
];

/// The faults around the server, and the sandbox.
const NAMED: [&str; 35] = [
    "broken-replies",
    "clocks",
    "core-file",
    "descriptors",
    "dns",
    "drip",
    "endless-line",
    "file-size",
    "full-directory",
    "full-disk",
    "half-requests",
    "hang",
    "hooks-hang",
    "hooks-leave",
    "hostile-dumps",
    "loopback",
    "members",
    "memory",
    "mount",
    "other-user",
    "planted",
    "processes",
    "refused",
    "reloads",
    "rotation",
    "runner-killed",
    "sandbox",
    "signals",
    "signals-dump",
    "statuses",
    "syscalls",
    "tls",
    "two-daemons",
    "vanish",
    "words",
];

/// The rows without a test, what is no row, and marks above something that is no test.
pub fn uncovered(files: &[File]) -> Vec<String> {
    let numbered = NUMBERED
        .iter()
        .flat_map(|(list, last)| (1..=*last).map(move |row| format!("{list}{row}")));
    let later = LATER.iter().map(u32::to_string);
    let named = NAMED.map(str::to_owned);
    let rows: BTreeSet<_> = numbered.chain(later).chain(named).collect();
    let mut covered: BTreeSet<_> = conformance::rows().iter().map(u32::to_string).collect();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines: Vec<_> = file.text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let Some(named) = pair[0].strip_prefix("// Covers: ") else {
                continue;
            };
            if pair[1] != "#[test]" {
                wrong.push(format!("{}: `{named}` is above no test", file.path));
            }
            covered.extend(named.split(", ").map(str::to_owned));
        }
    }
    let none = rows.difference(&covered);
    wrong.extend(none.map(|row| format!("{row}: no test covers it")));
    let unknown = covered.difference(&rows);
    wrong.extend(unknown.map(|row| format!("{row} is in no list")));
    wrong
}
