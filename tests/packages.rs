//! What packages of other systems take from the tree, and what `make install` makes of it: each row
//! is what a recipe relies on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What recipes copy, or rewrite: who does it, the file, and words that are in it.
const TAKEN: [(&str, &str, &str); 16] = [
    ("nixpkgs", "Makefile", "target/release"),
    (
        "nixpkgs",
        "lib/systemd/user/pizauth.service",
        "=/usr/bin/pizauth ",
    ),
    ("nixpkgs", "share/bash/completion.bash", "complete "),
    ("nixpkgs", "share/zsh/_pizauth", "#compdef pizauth"),
    ("nixpkgs", "share/fish/pizauth.fish", "complete "),
    ("Void", "LICENSE-APACHE", "Apache License"),
    ("Void", "LICENSE-MIT", "Permission is hereby granted"),
    ("Void", "Makefile", "target/release"),
    ("Void", "examples/pizauth.conf", "account "),
    ("FreeBSD", "Cargo.toml", "\n[features]\n"),
    ("FreeBSD", "Cargo.lock", "name = \"pizauth\""),
    ("FreeBSD", "LICENSE-APACHE", "Apache License"),
    ("FreeBSD", "LICENSE-MIT", "Permission is hereby granted"),
    ("OpenBSD", "share/bash/completion.bash", "complete "),
    ("OpenBSD", "examples/pizauth.conf", "account "),
    ("OpenBSD", "pizauth.conf.5", ".Dt PIZAUTH.CONF 5"),
];

/// What `make install` needs of the tree.
const SOURCES: [&str; 13] = [
    "Makefile",
    "pizauth.1",
    "pizauth.conf.5",
    "pizauth.sock.7",
    "README.md",
    "SECURITY.md",
    "CHANGES.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Cargo.toml",
    "examples",
    "lib",
    "share",
];

/// What it installs below a prefix, without the examples.
const INSTALLED: [&str; 12] = [
    "bin/pizauth",
    "share/bash-completion/completions/pizauth",
    "share/doc/pizauth/CHANGES.md",
    "share/doc/pizauth/LICENSE-APACHE",
    "share/doc/pizauth/LICENSE-MIT",
    "share/doc/pizauth/README.md",
    "share/doc/pizauth/SECURITY.md",
    "share/fish/vendor_completions.d/pizauth.fish",
    "share/man/man1/pizauth.1",
    "share/man/man5/pizauth.conf.5",
    "share/man/man7/pizauth.sock.7",
    "share/zsh/site-functions/_pizauth",
];

/// The same with systemd's units.
const UNITS: [&str; 2] = [
    "lib/systemd/user/pizauth.service",
    "lib/systemd/user/pizauth.socket",
];

/// A cargo that builds where it is told to, and notes its arguments.
const CARGO: &str = r#"#!/bin/sh
echo "$@" >>cargo.log
mkdir -p "${CARGO_TARGET_DIR:-target}/release"
printf 'from cargo' >"${CARGO_TARGET_DIR:-target}/release/pizauth"
chmod 755 "${CARGO_TARGET_DIR:-target}/release/pizauth"
"#;

/// An install that writes nothing outside the test's directory, so that a Makefile that forgets a
/// variable does no harm.
const INSTALL: &str = r#"#!/bin/sh
here=$(dirname "$0")
for word; do
    case $word in
    "$here"/*) ;;
    /*) echo "$word is outside" >&2; exit 1 ;;
    esac
done
exec install "$@"
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_recipes_take_is_in_the_tree() {
    for (who, file, words) in TAKEN {
        let text = fs::read_to_string(root().join(file));
        let text = text.unwrap_or_else(|error| panic!("{who} takes {file}: {error}"));
        assert!(text.contains(words), "{who} relies on {words:?} in {file}");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let features = manifest.split("[features]\n").nth(1).unwrap();
    let features = features.split("\n[").next().unwrap();
    let features = features.lines().filter(|line| !line.starts_with('#'));
    let features: Vec<&str> = features.filter(|line| !line.is_empty()).collect();
    // `--all-features` and `--features systemd` build what every build does.
    assert_eq!(features, ["systemd = []"]);
}

/// The tree's copy, so that it can be rewritten, with a directory for what is installed.
struct Tree {
    dir: TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::create_dir(dir.path().join("user")).unwrap();
        let mut copy = Command::new("cp");
        let copy = copy.arg("-Rp").args(SOURCES.map(|it| root().join(it)));
        assert!(copy.arg(&source).status().unwrap().success());
        let tree = Tree { dir };
        tree.program("cargo", CARGO);
        tree.program("install", INSTALL);
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn program(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// What a recipe's sed does; it fails where there is nothing to replace.
    fn replace(&self, path: &str, old: &str, new: &str) {
        let path = self.path(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{}: no {old}", path.display());
        fs::write(&path, text.replace(old, new)).unwrap();
    }

    /// Runs `make` with these words, and with these variables in the environment.
    fn make(&self, make: &str, words: &[&str], variables: &[(&str, &str)]) {
        let at = |text: &str| text.replace("@", self.dir.path().to_str().unwrap());
        let output = Command::new(make)
            .args(words.iter().map(|it| at(it)))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path("user"))
            .env("CARGO", self.path("cargo"))
            .env("INSTALL", self.path("install"))
            .envs(variables.iter().map(|(name, value)| (name, at(value))))
            .current_dir(self.path("source"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{make} {words:?}: {said}");
    }

    /// The files below `path`, without the examples but for the configuration.
    fn files(&self, path: &str) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        let mut dirs = vec![self.path(path)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let entry = entry.unwrap().path();
                match entry.is_dir() {
                    true => dirs.push(entry),
                    false => {
                        let name = entry.strip_prefix(self.path(path)).unwrap();
                        files.insert(name.to_str().unwrap().to_owned());
                    }
                }
            }
        }
        files
    }

    /// Everything but the source itself: what an installation can have touched.
    fn touched(&self) -> BTreeSet<String> {
        let files = self.files("").into_iter();
        files
            .filter(|it| !it.starts_with("source/") && it != "cargo" && it != "install")
            .collect()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

/// GNU make, and BSD's where it is installed.
fn makes() -> Vec<&'static str> {
    let there = |make: &&str| {
        let mut look = Command::new("sh");
        let found = look.args(["-c", "command -v \"$0\"", make]).output();
        found.is_ok_and(|it| it.status.success())
    };
    ["make", "bmake"].into_iter().filter(there).collect()
}

fn below(prefix: &str, files: &[&str]) -> BTreeSet<String> {
    files.iter().map(|it| format!("{prefix}/{it}")).collect()
}

fn without_examples(files: BTreeSet<String>) -> BTreeSet<String> {
    let others = files.into_iter();
    others.filter(|it| !it.contains("/examples/")).collect()
}

#[test]
fn an_installation_goes_where_the_variables_say() {
    /// Words, environment, the prefix and the units that come of them.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, bool);
    let cases: [Case; 5] = [
        (
            &["install"],
            &[("DESTDIR", "@/dest"), ("USESYSTEMD", "yes")],
            "dest/usr/local",
            true,
        ),
        (
            &["install"],
            &[
                ("DESTDIR", "@/dest"),
                ("PREFIX", "/usr"),
                ("USESYSTEMD", "no"),
            ],
            "dest/usr",
            false,
        ),
        (
            &["DESTDIR=@/dest", "PREFIX=/opt", "USESYSTEMD=", "install"],
            &[("PREFIX", "@/wrong"), ("DESTDIR", "@/wrong")],
            "dest/opt",
            cfg!(target_os = "linux"),
        ),
        (
            &["install", "install-systemd", "USESYSTEMD=no"],
            &[("PREFIX", "@/prefix")],
            "prefix",
            true,
        ),
        (
            &["install"],
            &[("PREFIX", "@/dir with a space"), ("USESYSTEMD", "no")],
            "dir with a space",
            false,
        ),
    ];
    for make in makes() {
        for (words, variables, prefix, units) in cases {
            let tree = Tree::new();
            tree.program("source/target/release/pizauth", "built");
            tree.make(make, words, variables);
            let mut wanted = below(prefix, &INSTALLED);
            if units {
                wanted.append(&mut below(prefix, &UNITS));
            }
            let touched = tree.touched();
            let example = format!("{prefix}/share/examples/pizauth/pizauth.conf");
            assert!(touched.contains(&example), "{touched:?}");
            let seen = without_examples(touched);
            assert_eq!(seen, wanted, "{make} {words:?} {variables:?}");
            // What is built already is taken, whatever cargo would make.
            assert_eq!(tree.read(&format!("{prefix}/bin/pizauth")), "built");
            assert!(!tree.path("source/cargo.log").exists());
            let uninstall: Vec<&str> = words
                .iter()
                .copied()
                .filter(|it| !it.starts_with("install"))
                .chain(["uninstall"])
                .collect();
            tree.make(make, &uninstall, variables);
            assert_eq!(tree.touched(), BTreeSet::new(), "{make} {uninstall:?}");
        }
    }
}

#[test]
fn each_directory_can_be_named() {
    let variables = [
        ("DESTDIR", "@/dest"),
        ("BINDIR", "/b"),
        ("LIBDIR", "/l"),
        ("SHAREDIR", "/s"),
        ("MANDIR", "/m"),
        ("EXAMPLESDIR", "/e"),
        ("USESYSTEMD", "yes"),
    ];
    for make in makes() {
        let tree = Tree::new();
        tree.program("source/target/release/pizauth", "built");
        tree.make(make, &["install"], &variables);
        for file in [
            "b/pizauth",
            "l/systemd/user/pizauth.service",
            "s/doc/pizauth/LICENSE-MIT",
            "m/man5/pizauth.conf.5",
            "e/pizauth/pizauth.conf",
        ] {
            assert!(tree.path("dest").join(file).is_file(), "{make}: {file}");
        }
        let dirs: BTreeSet<String> = (tree.touched().iter())
            .map(|it| it.split('/').take(2).collect::<Vec<_>>().join("/"))
            .collect();
        let wanted = ["dest/b", "dest/e", "dest/l", "dest/m", "dest/s"];
        assert_eq!(dirs, wanted.map(str::to_owned).into(), "{make}");
        let unit = tree.read("dest/l/systemd/user/pizauth.service");
        assert!(unit.contains("\nExecStart=/b/pizauth server "), "{unit}");
        assert!(!unit.contains("/usr/"), "{unit}");
        let plist = tree.read("dest/e/pizauth/services/pizauth.plist");
        assert!(plist.contains("<string>/b/pizauth</string>"), "{plist}");
    }
}

#[test]
fn in_a_home_the_units_are_where_systemd_looks() {
    let tree = Tree::new();
    tree.program("source/target/release/pizauth", "built");
    let variables = [("PREFIX", "@/user/.local"), ("USESYSTEMD", "yes")];
    tree.make("make", &["install"], &variables);
    let unit = tree.read("user/.local/share/systemd/user/pizauth.service");
    let start = format!(
        "\nExecStart={}/pizauth server ",
        tree.path("user/.local/bin").display()
    );
    assert!(unit.contains(&start), "{unit}");
    assert!(!tree.path("user/.local/lib").exists());
}

#[test]
fn cargo_is_called_only_where_nothing_is_built() {
    for make in makes() {
        let tree = Tree::new();
        let variables = [("PREFIX", "@/prefix"), ("USESYSTEMD", "no")];
        tree.make(make, &["install"], &variables);
        tree.make(make, &["install"], &variables);
        let log = tree.read("source/cargo.log");
        assert_eq!(log, "build --locked --release\n", "{make}");
        assert_eq!(tree.read("prefix/bin/pizauth"), "from cargo");
        let elsewhere = [("CARGO_TARGET_DIR", "@/target"), ("PREFIX", "@/other")];
        tree.make(make, &["install"], &elsewhere);
        assert_eq!(tree.read("source/cargo.log"), log.repeat(2), "{make}");
        assert_eq!(tree.read("other/bin/pizauth"), "from cargo");
    }
}

/// As nixpkgs and Void do it: both rewrite the Makefile for the target that they build for, and
/// nixpkgs the unit for its store.
#[test]
fn a_recipe_may_rewrite_paths() {
    let built = "target/aarch64-unknown-linux-gnu/release";
    let unit = "source/lib/systemd/user/pizauth.service";
    for make in makes() {
        for elsewhere in [false, true] {
            let tree = Tree::new();
            tree.replace("source/Makefile", "target/release", built);
            tree.replace(unit, "/usr/bin/", "/store/pizauth/bin/");
            let home = if elsewhere { "" } else { "source/" };
            tree.program(&format!("{home}{built}/pizauth"), "built");
            let mut variables = vec![
                ("PREFIX", "/store/pizauth"),
                ("DESTDIR", "@/dest"),
                ("USESYSTEMD", "1"),
            ];
            variables.extend(elsewhere.then_some(("CARGO_TARGET_DIR", "@/target")));
            tree.make(make, &["install"], &variables);
            assert_eq!(tree.read("dest/store/pizauth/bin/pizauth"), "built");
            let unit = tree.read("dest/store/pizauth/lib/systemd/user/pizauth.service");
            let lines = unit.lines().filter(|line| line.starts_with("Exec"));
            for line in lines.clone() {
                assert!(line.contains("=/store/pizauth/bin/pizauth "), "{line}");
            }
            assert_eq!(lines.count(), 2, "{unit}");
        }
    }
}
