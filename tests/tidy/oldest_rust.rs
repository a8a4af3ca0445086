//! The Rust that Cargo.toml names builds it: no dependency wants a newer one, and no syntax of ours
//! does. Clippy looks after the library's calls (`incompatible_msrv`), but knows no syntax.

use std::process::Command;

use serde_json::Value;

use super::tree::{File, code, file, indent, tree};

/// What cargo says about the dependencies as they are locked; they are here, since this was built.
fn cargo(args: &[&str]) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(args).args(["--locked", "--offline"]);
    let output = output.current_dir(root).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The target that this machine builds for by itself.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let host = output.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// `1.85` as (1, 85).
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The packages that want a newer Rust than `oldest`.
fn newer(oldest: &str, packages: &[Value]) -> Vec<String> {
    let wants = |package: &Value| {
        let wanted = package["rust_version"].as_str()?;
        let name = package["name"].as_str()?;
        (version(wanted) > version(oldest)).then(|| format!("{name} wants Rust {wanted}"))
    };
    packages.iter().filter_map(wants).collect()
}

#[test]
fn no_dependency_wants_a_newer_rust() {
    let filter = ["--format-version=1", "--all-features", "--filter-platform"];
    let metadata = cargo(&[&["metadata"], &filter[..], &[&host()]].concat());
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 80, "{}", packages.len());
    let ours = packages.iter().find(|it| it["name"] == "pizauth").unwrap();
    let oldest = ours["rust_version"].as_str().unwrap();
    assert_eq!(newer(oldest, packages), [""; 0]);
    // It can find one: there are some that say what they want, and none is content with that.
    assert!(newer("1.10", packages).len() > 20);
}

#[test]
fn the_readme_names_the_rust_of_the_manifest() {
    let files = tree();
    let manifest = &file(&files, "Cargo.toml").text;
    let line = (manifest.lines()).find_map(|line| line.strip_prefix("rust-version = "));
    let oldest = line.unwrap().trim_matches('"');
    let readme = &file(&files, "README.md").text;
    assert!(readme.contains(&format!("Rust {oldest} or later")));
}

/// What deny.toml says of it: nothing in the program parses dates by `time`.
#[test]
fn the_program_parses_no_dates_by_time() {
    let tree = cargo(&["tree", "--edges=normal,features", "--invert=time"]);
    assert!(tree.contains("rcgen"), "{tree}");
    assert!(!tree.contains("parsing"), "{tree}");
}

/// The lines at which a chain of conditions with `let` begins, which Rust has since 1.88. It relies
/// on rustfmt, which puts each condition on a line of its own.
fn chains(file: &File) -> Vec<usize> {
    let code = code(&file.text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.trim_start().starts_with("&& let ") || line.contains(" && let ") {
            found.push(at + 1);
        }
        if line.trim() != "{" {
            continue;
        }
        let own = indent(line);
        let begins = |line: &str| {
            indent(line) == own && line.trim_start().starts_with(|c: char| c.is_alphabetic())
        };
        let above = lines[..at].iter().rposition(|line| begins(line));
        let condition = &lines[above.unwrap_or(at)..at];
        let Some((head, rest)) = condition.split_first() else {
            continue;
        };
        let more = format!("{own}    && ");
        let lets = head.contains("if let ") || head.contains("while let ");
        if lets && rest.iter().any(|line| line.starts_with(&more)) {
            found.push(at - rest.len());
        }
    }
    found
}

#[test]
fn no_condition_is_a_chain_with_let() {
    let mut places = Vec::new();
    for file in tree().iter().filter(|file| file.is_rust()) {
        let lines = chains(file).into_iter();
        places.extend(lines.map(|line| format!("{}:{line}", file.path)));
    }
    assert_eq!(places, [""; 0]);
}

#[test]
fn a_chain_with_let_is_found() {
    for (text, lines) in [
        ("if a && let Some(b) = c {\n}\n", &[1][..]),
        ("if a()\n    && let Some(b) = c\n{\n}\n", &[2]),
        ("if let Some(b) = c\n    && b\n{\n}\n", &[1]),
        (
            "    while let B {\n        b,\n    } = c\n        && b\n    {\n",
            &[1],
        ),
        ("if let Some(b) = c {\n    a && b\n}\n{\n}\n", &[]),
        ("if a()\n    && b()\n{\n}\n", &[]),
        ("// if a && let b = c {\n", &[]),
    ] {
        let file = File::planted("a.rs", text);
        assert_eq!(chains(&file), lines, "{text}");
    }
}
