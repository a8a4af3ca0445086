//! The files of this project, and what of a Rust file is code.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where files of the project are; what else lies about in a checkout is its owner's business.
const ROOTS: [&str; 8] = [
    ".ci", "benches", "examples", "fuzz", "lib", "share", "src", "tests",
];

/// A file, or something planted as one.
#[derive(Clone)]
pub struct File {
    /// Relative to the root of the project.
    pub path: String,
    pub text: String,
    pub executable: bool,
}

impl File {
    /// A file that only a rule's own test sees.
    pub fn planted(path: &str, text: &str) -> Self {
        File {
            path: path.into(),
            text: text.into(),
            executable: false,
        }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every text file of the project.
pub fn tree() -> Vec<File> {
    // Cargo's word of now: the one at build time is of another checkout, if they share a target.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    let root = root.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = root.as_path();
    let mut files = Vec::new();
    for entry in fs::read_dir(root).expect("the project") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        // In a linked work tree this is a file.
        if name == ".git" {
            continue;
        }
        if path.is_file() {
            read(root, &path, &mut files);
        } else if ROOTS.contains(&name.as_ref()) {
            walk(root, &path, &mut files);
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 60, "the tree wasn't found: {}", files.len());
    files
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        // What fuzzing leaves behind.
        let left = ["target", "artifacts", "corpus"];
        if !path.is_dir() {
            read(root, &path, files);
        } else if !left.iter().any(|it| path.ends_with(it)) {
            walk(root, &path, files);
        }
    }
}

fn read(root: &Path, path: &Path, files: &mut Vec<File>) {
    // What isn't UTF-8 is data.
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    let mode = fs::metadata(path).expect("metadata").permissions().mode();
    let path = path.strip_prefix(root).expect("a path below the root");
    files.push(File {
        path: path.to_string_lossy().into_owned(),
        text,
        executable: mode & 0o111 != 0,
    });
}

/// The file at `path`, which must be there.
pub fn file<'a>(files: &'a [File], path: &str) -> &'a File {
    files
        .iter()
        .find(|file| file.path == path)
        .unwrap_or_else(|| panic!("no file {path}"))
}

/// The files of src/ as code without what only tests are made of.
pub fn shipped(files: &[File]) -> Vec<File> {
    let sources = files
        .iter()
        .filter(|file| file.path.starts_with("src/") && file.is_rust());
    let sources: Vec<File> = sources
        .map(|file| File {
            text: code(&file.text),
            ..file.clone()
        })
        .collect();
    let test_only: Vec<String> = sources.iter().flat_map(test_modules).collect();
    let is_shipped = |file: &&File| !test_only.iter().any(|path| file.path.starts_with(path));
    sources
        .iter()
        .filter(is_shipped)
        .map(|file| File {
            text: without_tests(&file.text),
            ..file.clone()
        })
        .collect()
}

/// How many lines of code the files of src/ have, without comments, blank lines and tests.
pub fn lines_of_code(files: &[File]) -> Vec<(String, usize)> {
    let shipped = shipped(files);
    let is_code = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//")
    };
    let sources = shipped.iter().map(|file| self::file(files, &file.path));
    sources
        .map(|file| {
            let text = without_tests(&file.text);
            (file.path.clone(), text.lines().filter(is_code).count())
        })
        .collect()
}

/// The paths of the modules that `file` declares for tests only: `a/b.rs` and `a/b/`.
fn test_modules(file: &File) -> Vec<String> {
    let home = ["mod.rs", "lib.rs", "main.rs"]
        .iter()
        .find_map(|name| file.path.strip_suffix(name))
        .map_or(file.path.replace(".rs", "/"), str::to_owned);
    let mut found = Vec::new();
    let mut lines = file.text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        let words: Vec<&str> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let module = match words[..] {
            [.., "mod", name] => name.strip_suffix(';'),
            _ => None,
        };
        if let Some(name) = module {
            found.extend([format!("{home}{name}.rs"), format!("{home}{name}/")]);
        }
    }
    found
}

/// `code` with the items behind `#[cfg(test)]` blanked. It relies on rustfmt's indentation.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        kept.push('\n');
        let end = format!("{}}}", indent(line));
        let mut first = true;
        for line in lines.by_ref() {
            kept.push('\n');
            let whole =
                first && !line.trim().starts_with("#[") && line.trim().ends_with([';', '}']);
            if whole || line == end {
                break;
            }
            first &= line.trim().starts_with("#[");
        }
    }
    kept
}

/// The white space that a line starts with.
pub fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// `text` with a blank for every character of its comments and literals. Lines stay lines.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = match foreign(rest, before) {
            Some(length) => (length, false),
            None => (first.len_utf8(), true),
        };
        let (token, after) = rest.split_at(length);
        match is_code {
            true => out.push_str(token),
            false => out.extend(token.chars().map(|c| if c == '\n' { c } else { ' ' })),
        }
        before = first;
        rest = after;
    }
    out
}

/// How long the comment or literal is that `rest` starts with.
fn foreign(rest: &str, before: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |at| at + 2));
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return Some(1 + closing(inside, '"'));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut chars = inside.chars();
        return match (chars.next()?, chars.next()) {
            ('\\', _) => Some(1 + closing(inside, '\'')),
            (only, Some('\'')) => Some(2 + only.len_utf8()),
            // A lifetime.
            _ => None,
        };
    }
    if before.is_alphanumeric() || before == '_' {
        return None;
    }
    let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let inside = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(rest.len() - inside.len() + length)
}

/// Where `quote` closes, behind it.
fn closing(inside: &str, quote: char) -> usize {
    let mut chars = inside.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => _ = chars.next(),
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    inside.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, seen) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b */ c", "a         c"),
        (r#"f("x\"y") + z"#, "f(      ) + z"),
        (r##"f(r#"x"y"#, z)"##, "f(        , z)"),
        ("f('\\'', 'x', &'a str)", "f(    ,    , &'a str)"),
        ("for_r(\"x\")", "for_r(   )"),
    ] {
        assert_eq!(code(text), seen, "{text}");
    }
}

#[test]
fn what_only_tests_are_made_of_is_not_shipped() {
    let files = [
        File::planted(
            "src/a.rs",
            "one();\n#[cfg(test)]\nmod tests {\n    two();\n}\nthree();\n#[cfg(test)]\nmod sim;\nfour();\n",
        ),
        File::planted("src/a/sim.rs", "five();\n"),
        File::planted("src/a/simple.rs", "six();\n"),
        File::planted("tests/b.rs", "seven();\n"),
    ];
    let shipped = shipped(&files);
    let words: Vec<&str> = shipped
        .iter()
        .flat_map(|file| file.text.split_whitespace())
        .collect();
    assert_eq!(words, ["one();", "three();", "four();", "six();"]);
}
