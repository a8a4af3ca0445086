//! The rules about what is written for users: the manuals and the completions must say what the
//! tables in the code say, no less and no more.

use std::collections::{BTreeMap, BTreeSet};

use pizauth::{
    cli::{Opt, VERBS},
    config::{Level, options},
};

use super::tree::File;

/// The options of each verb, as `-x` and `--long`; those of no verb are at "".
pub type Options = BTreeMap<String, BTreeSet<String>>;

/// Which of an option's names one looks for.
#[derive(Clone, Copy, PartialEq)]
pub enum Names {
    /// The short one, or the long one if there is no other.
    Shortest,
    All,
}

fn names(opt: &Opt, which: Names) -> Vec<String> {
    let short = opt.short.map(|letter| format!("-{letter}"));
    short
        .into_iter()
        .chain([format!("--{}", opt.long)])
        .take(if which == Names::All { 2 } else { 1 })
        .collect()
}

/// What the table has.
pub fn table(which: Names) -> Options {
    let verbs = VERBS.iter().map(|spec| {
        let options = spec.options.iter().flat_map(|opt| names(opt, which));
        (spec.name.to_owned(), options.collect())
    });
    verbs.collect()
}

/// What `has` lacks of `wanted` and has beyond it.
pub fn differences(place: &str, has: &Options, wanted: &Options) -> Vec<String> {
    let pairs = |options: &Options| -> BTreeSet<String> {
        let verbs = options.keys().filter(|verb| !verb.is_empty()).cloned();
        let words = options.iter().flat_map(|(verb, words)| {
            let words = words
                .iter()
                .filter(|word| !GENERAL.contains(&word.as_str()));
            words.map(move |word| format!("{verb} {word}"))
        });
        verbs.chain(words).collect()
    };
    let (has, wanted) = (pairs(has), pairs(wanted));
    let lacks = wanted
        .difference(&has)
        .map(|it| format!("{place}: lacks `{it}`, which cli.rs has: nobody will find it"));
    let beyond = has
        .difference(&wanted)
        .map(|it| format!("{place}: has `{it}`, which cli.rs doesn't: it would be refused"));
    lacks.chain(beyond).collect()
}

/// Understood everywhere, and in no verb's row.
const GENERAL: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// The lines of an mdoc section.
pub fn section<'a>(manual: &'a File, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut inside = false;
    manual.text.lines().filter(move |line| {
        if let Some(title) = line.strip_prefix(".Sh ") {
            inside = title == name;
        }
        inside
    })
}

/// The options in an mdoc line: `Fl dv` are two, `Fl Fl wait` is one.
fn flags(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !line.starts_with('.') {
        return found;
    }
    let words: Vec<&str> = line[1..].split_whitespace().collect();
    let mut at = 0;
    while at < words.len() {
        match (words[at], words.get(at + 1), words.get(at + 2)) {
            ("Fl", Some(&"Fl"), Some(long)) => {
                let is_long = long.starts_with(|c: char| c.is_ascii_lowercase());
                found.extend(is_long.then(|| format!("--{long}")));
                at += 3;
            }
            ("Fl", Some(letters), _) => {
                let letters = letters.chars().filter(char::is_ascii_alphanumeric);
                found.extend(letters.map(|letter| format!("-{letter}")));
                at += 2;
            }
            _ => at += 1,
        }
    }
    found
}

/// What the SYNOPSIS says.
pub fn synopsis(manual: &File) -> Options {
    let mut options = Options::new();
    let mut verb = String::new();
    for line in section(manual, "SYNOPSIS") {
        if line.starts_with(".Nm") {
            verb.clear();
        } else if let Some(name) = line.strip_prefix(".Cm ") {
            verb = name.to_owned();
        }
        options.entry(verb.clone()).or_default().extend(flags(line));
    }
    options
}

/// What the part COMMANDS says: each verb has an item, in which its options are explained, and
/// those of other verbs may be mentioned.
pub fn commands(manual: &File) -> Options {
    let mut options = Options::new();
    let mut verb = String::new();
    let mut open = false;
    for line in section(manual, "COMMANDS") {
        // An item that is too long for a line: `.It Xo`, and its words on those that follow.
        open |= line == ".It Xo";
        let bare = if open {
            line.strip_prefix(".Cm ")
        } else {
            None
        };
        let item = [".It Cm ", ".It Xo Cm "];
        let item = item.iter().find_map(|start| line.strip_prefix(start));
        if let Some(name) = item
            .or(bare)
            .and_then(|rest| rest.split_whitespace().next())
        {
            verb = name.to_owned();
            open = false;
        }
        let entry = options.entry(verb.clone()).or_default();
        entry.extend(flags(line));
    }
    let table = table(Names::All);
    for (verb, words) in &mut options {
        let others = table.iter().filter(|(name, _)| *name != verb);
        let others: BTreeSet<&String> = others.flat_map(|(_, words)| words).collect();
        let own = table.get(verb);
        let is_own = |word: &String| own.is_some_and(|own| own.contains(word));
        words.retain(|word| is_own(word) || !others.contains(word));
    }
    options
}

/// What bash's completion offers: `refresh | show) options+=(-u --no-url) ;;`.
pub fn bash(file: &File) -> Options {
    let mut options = Options::new();
    let verbs = file
        .text
        .split("printf '%s\\n' auth")
        .nth(1)
        .unwrap_or_default();
    let verbs = verbs
        .split(')')
        .next()
        .unwrap_or_default()
        .replace('\\', " ");
    for verb in verbs.split_whitespace().chain(["auth"]) {
        options.entry(verb.to_owned()).or_default();
    }
    let joined = file.text.replace("\\\n", " ");
    for line in joined.lines() {
        let Some((arm, rest)) = line.split_once(") options+=(") else {
            continue;
        };
        let words = rest.split(')').next().unwrap_or_default();
        for verb in arm.split('|').map(|verb| verb.trim().trim_matches('\'')) {
            let words = words.split_whitespace().map(str::to_owned);
            options.entry(verb.to_owned()).or_default().extend(words);
        }
    }
    options
}

/// What zsh's offers: `'dump:…'` among the commands, and an arm with `_arguments` for each verb
/// that has options.
pub fn zsh(file: &File) -> Options {
    let mut options = Options::new();
    let (head, arms) = file
        .text
        .split_once("case $words[1] in")
        .unwrap_or_default();
    let list = head.split("commands=(").nth(1).unwrap_or_default();
    let list = list.split("\n    )").next().unwrap_or_default();
    for line in list.lines() {
        if let Some((verb, _)) = line.trim().trim_start_matches('\'').split_once(':') {
            options.entry(verb.to_owned()).or_default();
        }
    }
    let mut verbs: Vec<String> = Vec::new();
    for line in arms.lines().map(str::trim) {
        match line.strip_suffix(')') {
            Some(arm)
                if arm
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || "|- ".contains(c)) =>
            {
                verbs = arm.split('|').map(|verb| verb.trim().to_owned()).collect();
            }
            _ if line == ";;" => verbs.clear(),
            _ => {
                for verb in &verbs {
                    options
                        .entry(verb.clone())
                        .or_default()
                        .extend(zsh_words(line));
                }
            }
        }
    }
    options
}

/// The options in a line of `_arguments`: `'-j[as JSON]'` and `{-j,--json}'[as JSON]'`.
fn zsh_words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, char) in line.char_indices() {
        if char == '-' && "'\"{,*()".contains(before) {
            let word = line[at..].chars();
            let word: String = word
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect();
            found.extend((word.len() > 1).then_some(word));
        }
        before = char;
    }
    found
}

/// What fish's offers: `--condition '__fish_seen_subcommand_from show' --short-option u`.
pub fn fish(file: &File) -> Options {
    let mut options = Options::new();
    for line in file
        .text
        .lines()
        .filter(|line| line.starts_with("complete "))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let behind = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        if line.contains("--condition __fish_use_subcommand") {
            if let Some(verb) = behind("--arguments") {
                options.entry(verb.to_owned()).or_default();
            }
            continue;
        }
        let Some(verbs) = line.split("__fish_seen_subcommand_from ").nth(1) else {
            continue;
        };
        let short = behind("--short-option").map(|name| format!("-{name}"));
        let long = behind("--long-option").map(|name| format!("--{name}"));
        for verb in verbs
            .split('\'')
            .next()
            .unwrap_or_default()
            .split_whitespace()
        {
            let entry = options.entry(verb.to_owned()).or_default();
            entry.extend(short.iter().chain(&long).cloned());
        }
    }
    options
}

/// What differs between the manual of the configuration and the table of its options.
pub fn config_options(manual: &File) -> Vec<String> {
    let documented = |name: &'static str| -> BTreeSet<&str> {
        let items = section(manual, name).filter_map(|line| line.strip_prefix(".It Ic "));
        items
            .filter_map(|item| item.split(" No = ").next())
            .collect()
    };
    let mut found = Vec::new();
    for (title, level) in [
        ("GLOBAL OPTIONS", Level::Global),
        ("ACCOUNT OPTIONS", Level::Account),
        ("RESTRICTED SOCKETS", Level::Socket),
        ("PROXIES", Level::Proxy),
    ] {
        let documented = documented(title);
        let is_both = matches!(level, Level::Global | Level::Account);
        let options = options().filter(|(_, it)| *it == level || *it == Level::Both && is_both);
        let known: BTreeSet<&str> = options.map(|(name, _)| name).collect();
        for name in known.difference(&documented) {
            found.push(format!(
                "{}: {title} lacks {name}: nobody will find it",
                manual.path
            ));
        }
        for name in documented.difference(&known) {
            found.push(format!(
                "{}: {title} has {name}: it would be refused",
                manual.path
            ));
        }
    }
    found
}

/// Mail programs whose example the README doesn't name, and what it shows of them that isn't what
/// their example says.
pub fn mail_programs(readme: &File, files: &[File]) -> Vec<String> {
    let text = readme.text.split_once("\n## Mail programs\n");
    let text = text.map_or("", |(_, rest)| rest);
    let text = text.split("\n## ").next().unwrap_or_default();
    let examples = || {
        let all = files.iter();
        all.filter_map(|file| Some((file.path.strip_prefix("examples/clients/")?, &file.text)))
    };
    let mut found = Vec::new();
    for (path, _) in examples() {
        let program = path.split('/').next().unwrap_or_default();
        if !text.contains(&format!("(examples/clients/{program})")) {
            found.push(format!("{path}: README.md doesn't name it"));
        }
    }
    for block in text.split("\n```").skip(1).step_by(2) {
        let code = block.split_once('\n').map_or("", |(_, code)| code);
        if !examples().any(|(_, text)| text.trim_end() == code) {
            found.push(format!(
                "README.md: no example of a mail program says: {code}"
            ));
        }
    }
    found
}
