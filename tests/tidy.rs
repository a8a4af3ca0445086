//! Rules as tests, each with its reason in its message. A rule is a function over files; beside
//! every test of the tree stands one that plants a violation, so that no rule sleeps.

mod oldest_rust;
mod papers;
mod rows;
mod rules;
mod tree;

use std::collections::BTreeSet;

use pizauth::{config, error::Exit, view::ServerInfo};

use self::{
    papers::{Names, Options},
    tree::{File, file, tree},
};

/// Fails with one line for each violation.
fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The violations in one planted file.
fn planted(rule: impl Fn(&[File]) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&[File::planted(path, text)]).len()
}

#[test]
fn arrows_between_modules_point_one_way() {
    none(rules::arrows(&tree()));
}

#[test]
fn a_wrong_arrow_is_found() {
    for (path, text, count) in [
        ("src/core/mod.rs", "use crate::server::clock;\n", 1),
        (
            "src/core/mod.rs",
            "use crate::{\n    config::{self, Config},\n    serve,\n};\n",
            1,
        ),
        ("src/time.rs", "fn f() {\n    super::view::g();\n}\n", 1),
        (
            "src/redirect/page.rs",
            "fn f() {\n    crate::core::g();\n}\n",
            1,
        ),
        ("src/redirect/page.rs", "use super::super::core;\n", 1),
        ("src/client/mod.rs", "use crate::core::Core;\n", 1),
        ("src/novel.rs", "", 1),
        ("src/main.rs", "use pizauth::{cli, core::Core};\n", 1),
        (
            "src/core/mod.rs",
            "use crate::config;\n// crate::server\n",
            0,
        ),
        (
            "src/core/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::server;\n}\n",
            0,
        ),
    ] {
        assert_eq!(planted(rules::arrows, path, text), count, "{path}: {text}");
    }
}

#[test]
fn arrows_between_the_rooms_of_the_server_point_one_way() {
    none(rules::rooms(&tree()));
}

#[test]
fn a_wrong_arrow_between_rooms_is_found() {
    for (path, text, count) in [
        (
            "src/server/monitor/mod.rs",
            "use crate::server::holder::state;\n",
            1,
        ),
        (
            "src/server/monitor/children.rs",
            "use crate::core::Core;\n",
            1,
        ),
        (
            "src/server/runner/mod.rs",
            "use crate::server::{base, helper::serve};\n",
            1,
        ),
        (
            "src/server/helper/trial.rs",
            "fn f() {\n    crate::server::holder::g();\n}\n",
            1,
        ),
        (
            "src/server/helper/mod.rs",
            "use crate::{\n    config::{self, Config},\n    server::{\n        base::error,\n        start::{a, b},\n    },\n};\n",
            2,
        ),
        ("src/server/ipc/line.rs", "use crate::server::monitor;\n", 1),
        ("src/server/ipc/line.rs", "use crate::core::Core;\n", 1),
        (
            "src/server/base/fork.rs",
            "use crate::server::ipc::line;\n",
            1,
        ),
        (
            "src/server/base/clock.rs",
            "use crate::{core::Entropy, time};\n",
            1,
        ),
        (
            "src/server/holder/mod.rs",
            "use crate::server::monitor;\n",
            1,
        ),
        ("src/server/holder/mod.rs", "use crate::server::start;\n", 1),
        ("src/server/start/mod.rs", "use crate::core::Core;\n", 1),
        ("src/server/attic/mod.rs", "", 1),
        (
            "src/server/helper/trial.rs",
            "use super::super::holder;\n",
            1,
        ),
        (
            "src/server/holder/mod.rs",
            "use crate::{core::Core, server::{base::clock, ipc::line::Line}};\n",
            0,
        ),
    ] {
        assert_eq!(planted(rules::rooms, path, text), count, "{path}: {text}");
    }
}

#[test]
fn pure_modules_act_on_nothing() {
    none(rules::purity(&tree()));
}

#[test]
fn an_action_in_a_pure_module_is_found() {
    for (path, text, count) in [
        ("src/core/account.rs", "use std::{fmt, fs};\n", 1),
        (
            "src/oauth/mod.rs",
            "fn f() {\n    std::thread::spawn(g);\n}\n",
            1,
        ),
        ("src/core/mod.rs", "use std::sync::Mutex;\n", 1),
        ("src/config/mod.rs", "use nix::unistd;\n", 1),
        ("src/server/mod.rs", "use std::fs;\n", 0),
    ] {
        assert_eq!(planted(rules::purity, path, text), count, "{path}: {text}");
    }
}

#[test]
fn locks_clocks_randomness_secrets_printing_and_unsafe_have_their_places() {
    let files = tree();
    let found = rules::BANS
        .iter()
        .flat_map(|ban| rules::banned(ban, &files));
    none(found.collect());
}

#[test]
fn whatever_is_banned_is_found_elsewhere() {
    for ban in &rules::BANS {
        for pattern in ban.patterns {
            // As a planted file it is the only one, so all the exceptions are stale.
            let text = format!("fn f() {{\n    {pattern} y\n}}\n");
            let found = planted(|files| rules::banned(ban, files), "src/novel.rs", &text);
            assert_eq!(found, 1 + ban.only_in.len(), "{pattern}");
        }
        for (path, _) in ban.only_in {
            let text = format!("fn f() {{ {} }}\n", ban.patterns[0]);
            let found = planted(|files| rules::banned(ban, files), path, &text);
            assert_eq!(found, ban.only_in.len() - 1, "{path}");
        }
    }
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    none(rules::unexplained_unsafe(&tree()));
}

#[test]
fn unexplained_unsafe_code_is_found() {
    for (text, count) in [
        ("let x = unsafe { f() };\n", 1),
        (
            "// SAFETY: f has no contract.\nlet x = unsafe { f() };\n",
            0,
        ),
        ("// unsafe { f() }\n", 0),
    ] {
        assert_eq!(
            planted(rules::unexplained_unsafe, "src/a.rs", text),
            count,
            "{text}"
        );
    }
}

#[test]
fn functions_fit_on_a_screen() {
    none(rules::long_functions(&tree()));
}

#[test]
fn a_long_function_is_found() {
    let body = "    g();\n".repeat(rules::MAX_FUNCTION_LINES - 1);
    let test = "    g();\n".repeat(rules::MAX_TEST_FUNCTION_LINES - 1);
    for (path, text, count) in [
        ("src/a.rs", format!("fn f() {{\n{body}}}\n"), 1),
        ("src/a.rs", format!("fn f() {{\n{}}}\n", &body[9..]), 0),
        (
            "src/a.rs",
            format!("    pub(super) fn f(\n{body}    ) {{\n    }}\n"),
            1,
        ),
        ("tests/a.rs", format!("fn f() {{\n{body}}}\n"), 0),
        ("tests/a.rs", format!("fn f() {{\n{test}}}\n"), 1),
        ("tests/a.rs", format!("#[test]\nfn f() {{\n{test}}}\n"), 0),
    ] {
        assert_eq!(
            planted(rules::long_functions, path, &text),
            count,
            "{path}: {text}"
        );
    }
}

#[test]
fn functions_that_may_be_long_are() {
    let files = tree();
    let stale = rules::LONG_FUNCTIONS.iter().filter(|(path, name)| {
        let file = files.iter().find(|file| file.path == *path);
        !file.is_some_and(|file| file.text.contains(&format!("fn {name}(")))
    });
    none(
        stale
            .map(|(path, name)| format!("{path} has no {name}"))
            .collect(),
    );
}

#[test]
fn files_are_about_one_thing() {
    none(rules::large_files(&tree()));
}

#[test]
fn a_large_file_is_found() {
    let listed = rules::LARGE_FILES.len();
    let lines = "fn f() {}\n// Why.\n\n".repeat(rules::MAX_FILE_LINES);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{lines}}}\n");
    for (path, text, count) in [
        ("src/a.rs", lines.clone() + &tests, 0),
        ("src/a.rs", lines.clone() + "fn g() {}\n", 1),
        ("tests/a.rs", lines.clone() + "fn g() {}\n", 0),
    ] {
        assert_eq!(
            planted(rules::large_files, path, &text),
            listed + count,
            "{path}"
        );
    }
}

#[test]
fn a_name_of_a_public_type_means_one_thing() {
    none(rules::shared_names(&tree()));
}

#[test]
fn a_name_of_two_types_is_found() {
    let listed = rules::SHARED_NAMES.len();
    let one = File::planted("src/a.rs", "pub struct Novel<'a>(&'a str);\n");
    for (text, count) in [
        ("pub enum Novel {}\n", 1),
        ("enum Novel {}\n", 0),
        ("pub enum NovelToo {}\n", 0),
        ("#[cfg(test)]\nmod tests {\n    pub enum Novel {}\n}\n", 0),
    ] {
        let files = [one.clone(), File::planted("src/b.rs", text)];
        assert_eq!(rules::shared_names(&files).len(), listed + count, "{text}");
    }
}

#[test]
fn lines_fit_side_by_side() {
    none(rules::long_lines(&tree()));
}

#[test]
fn a_long_line_is_found() {
    let line = "é".repeat(rules::MAX_COLUMNS);
    let literal = format!("    \"{line}\"");
    assert_eq!(planted(rules::long_lines, "src/a.rs", &literal), 0);
    assert_eq!(planted(rules::long_lines, "src/a.rs", &line), 0);
    assert_eq!(planted(rules::long_lines, "src/a.rs", &(line + "é")), 1);
}

#[test]
fn nothing_is_left_over() {
    none(rules::leftovers(&tree()));
}

#[test]
fn a_leftover_is_found() {
    for (path, text) in [
        ("README.md", concat!("TO", "DO: write")),
        ("src/a.rs", concat!("// FIX", "ME")),
        ("src/a.rs", concat!("fn f() { todo", "!() }")),
        ("tests/a.rs", concat!("dbg", "!(x);")),
        ("tests/a.rs", concat!("#[ig", "nore]\nfn f() {}")),
    ] {
        assert_eq!(planted(rules::leftovers, path, text), 1, "{text}");
    }
    assert_eq!(
        planted(rules::leftovers, "a.rs", "#[ignore = \"a measurement\"]"),
        0
    );
}

#[test]
fn tests_wait_for_conditions_and_never_hope() {
    none(rules::hopeful_sleeps(&tree()));
}

#[test]
fn a_hopeful_sleep_is_found() {
    for (text, count) in [
        ("thread::sleep(SECOND);\n", 1),
        ("// why: nothing tells when\nthread::sleep(SECOND);\n", 0),
        (
            "std::thread::sleep(SECOND); // why: nothing tells when\n",
            0,
        ),
        ("command(\"sleep(3)\");\n", 0),
    ] {
        assert_eq!(
            planted(rules::hopeful_sleeps, "tests/a.rs", text),
            count,
            "{text}"
        );
    }
}

#[test]
fn nothing_is_only_true_of_one_machine() {
    none(rules::machine_paths(&tree()));
}

#[test]
fn a_machine_of_one_is_found() {
    for (path, text) in [
        ("README.md", concat!("cd /ho", "me/me/pizauth")),
        ("src/a.rs", concat!("// as DES", "IGN.md says")),
        (
            "Cargo.lock",
            "source = \"registry+https://crates.example/index\"",
        ),
        (
            "tests/package-lock.json",
            "  \"resolved\": \"https://registry.example/a.tgz\",",
        ),
    ] {
        assert_eq!(planted(rules::machine_paths, path, text), 1, "{text}");
    }
}

#[test]
fn scripts_can_be_run() {
    none(rules::scripts(&tree()));
}

#[test]
fn a_script_that_can_not_be_run_is_found() {
    assert_eq!(planted(rules::scripts, "a.sh", "#!/bin/sh\n"), 1);
    assert_eq!(planted(rules::scripts, "a.sh", "echo\n"), 1);
    let mut plain = File::planted("README.md", "# pizauth\n");
    plain.executable = true;
    assert_eq!(rules::scripts(&[plain]).len(), 1);
}

// Covers: H29
#[test]
fn every_row_that_this_is_held_against_has_a_test() {
    none(rows::uncovered(&tree()));
}

#[test]
fn a_row_without_a_test_is_found() {
    let before = rows::uncovered(&[]).len();
    for (text, count) in [
        ("// Covers: 59, H3\n#[test]\nfn f() {}\n", before - 2),
        ("// Covers: 999\n    #[test]\nfn f() {}\n", before + 1),
        ("// Covers: I1\nfn f() {}\n", before),
    ] {
        assert_eq!(
            planted(rows::uncovered, "tests/a.rs", text),
            count,
            "{text}"
        );
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let files = tree();
    none(rules::dependencies(file(&files, "Cargo.toml")));
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let text =
        "[package]\nname = \"x\"\n[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n[lints]\nc = 1\n";
    assert_eq!(
        rules::dependencies(&File::planted("Cargo.toml", text)).len(),
        1
    );
}

#[test]
fn the_manual_has_every_command_and_option() {
    let files = tree();
    let manual = file(&files, "pizauth.1");
    let synopsis = papers::synopsis(manual);
    none(papers::differences(
        "pizauth.1, SYNOPSIS",
        &synopsis,
        &papers::table(Names::Shortest),
    ));
    none(papers::differences(
        "pizauth.1, COMMANDS",
        &papers::commands(manual),
        &papers::table(Names::All),
    ));
}

#[test]
fn the_completions_have_every_command_and_option() {
    let files = tree();
    let all = papers::table(Names::All);
    for (path, read) in [
        (
            "share/bash/completion.bash",
            papers::bash as fn(&File) -> Options,
        ),
        ("share/zsh/_pizauth", papers::zsh),
        ("share/fish/pizauth.fish", papers::fish),
    ] {
        none(papers::differences(path, &read(file(&files, path)), &all));
    }
}

/// Takes `-u`, `--no-url` and `status` out of each paper, and adds what doesn't exist.
#[test]
fn a_command_or_option_that_is_missing_or_too_many_is_found() {
    let files = tree();
    let all = papers::table(Names::All);
    type Reader = fn(&File) -> Options;
    let cases: [(&str, Reader, &str, &str); 9] = [
        (
            "pizauth.1",
            papers::commands,
            ".It Cm status",
            ".It Cm statis",
        ),
        ("pizauth.1", papers::commands, "Fl Fl no-url", "Ar no-url"),
        ("pizauth.1", papers::synopsis, ".Cm status", ".Ar status"),
        ("share/bash/completion.bash", papers::bash, "status)", ")"),
        (
            "share/bash/completion.bash",
            papers::bash,
            "--no-url",
            "--no-uri",
        ),
        ("share/zsh/_pizauth", papers::zsh, "'status:", "'statis:"),
        ("share/zsh/_pizauth", papers::zsh, "--no-url", "--no-uri"),
        (
            "share/fish/pizauth.fish",
            papers::fish,
            "--arguments status",
            "--arguments statis",
        ),
        (
            "share/fish/pizauth.fish",
            papers::fish,
            "--long-option no-url",
            "--long-option no-uri",
        ),
    ];
    for (path, read, old, new) in cases {
        let mut paper = file(&files, path).clone();
        assert!(paper.text.contains(old), "{path} has no `{old}`");
        let before = papers::differences(path, &read(&paper), &all).len();
        paper.text = paper.text.replace(old, new);
        let after = papers::differences(path, &read(&paper), &all).len();
        assert!(after > before, "{path}: `{old}` -> `{new}`");
    }
}

#[test]
fn the_manual_has_every_exit_status() {
    let files = tree();
    let items = papers::section(file(&files, "pizauth.1"), "EXIT STATUS");
    let items = items.filter_map(|line| line.strip_prefix(".It "));
    let documented: BTreeSet<&str> = items.collect();
    let known = (1..=u8::MAX).filter(|code| Exit::from_code(*code).code() == *code);
    let known: BTreeSet<String> = known.chain([0]).map(|code| code.to_string()).collect();
    assert_eq!(documented, known.iter().map(String::as_str).collect());
}

#[test]
fn the_manual_has_every_member_of_info() {
    let files = tree();
    let manual = file(&files, "pizauth.1");
    let info = serde_json::to_value(ServerInfo::default()).unwrap();
    let mut members = info.as_object().unwrap().keys();
    assert_eq!(members.clone().count(), 15);
    let items = papers::section(manual, "COMMANDS").filter_map(|line| line.strip_prefix(".It Va "));
    let documented: BTreeSet<&str> = items.flat_map(|item| item.split(" , ")).collect();
    assert_eq!(
        members.find(|name| !documented.contains(name.as_str())),
        None
    );
}

#[test]
fn the_manual_has_every_option_of_the_configuration() {
    let files = tree();
    none(papers::config_options(file(&files, "pizauth.conf.5")));
    let general = &file(&files, "examples/pizauth.conf").text;
    let lacks = config::options().filter(|(name, _)| !general.contains(&format!("{name} =")));
    // It is deprecated, and nobody shall start with it.
    let lacks: Vec<&str> = lacks
        .map(|(name, _)| name)
        .filter(|name| *name != "login_hint")
        .collect();
    assert!(
        lacks.is_empty(),
        "examples/pizauth.conf says that it has every option: {lacks:?}"
    );
}

#[test]
fn an_option_of_the_configuration_that_is_missing_or_too_many_is_found() {
    let files = tree();
    let mut manual = file(&files, "pizauth.conf.5").clone();
    manual.text = manual
        .text
        .replacen(".It Ic scopes No", ".It Ic scope No", 1);
    assert_eq!(papers::config_options(&manual).len(), 2);
}

/// What doesn't fit belongs in the manuals.
#[test]
fn the_readme_stays_short() {
    let files = tree();
    assert!(file(&files, "README.md").text.len() <= 12_000);
}

/// What examples of programs say to put beside an account, in their comments or as it is.
#[test]
fn the_examples_of_proxies_are_understood() {
    let files = tree();
    let mut count = 0;
    for file in &files {
        if !file.path.starts_with("examples/clients/") {
            continue;
        }
        let lines = file.text.lines();
        let lines = lines.map(|line| line.strip_prefix("#   ").unwrap_or(line));
        let mut block: Vec<&str> = lines
            .skip_while(|line| !line.starts_with("proxy "))
            .collect();
        let end = block.iter().position(|line| *line == "}");
        let Some(end) = end.filter(|_| !block.is_empty()) else {
            continue;
        };
        block.truncate(end + 1);
        let account = "account \"work\" { issuer = \"https://login.example.com\"; \
             client_id = \"pizauth\"; }";
        let text = format!("{account}\n{}\n", block.join("\n"));
        let config = config::parse(&file.path, &text);
        let mut config = config.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(config.proxies.len(), 1, "{}", file.path);
        // That is what a printer is for.
        (config.warnings).retain(|it| !it.contains("from other machines"));
        assert!(
            config.warnings.is_empty(),
            "{}: {:?}",
            file.path,
            config.warnings
        );
        count += 1;
    }
    assert_eq!(count, 6);
}

/// Whatever users are to copy must be understood.
#[test]
fn the_examples_are_understood() {
    let files = tree();
    let mut examples: Vec<(String, String)> = files
        .iter()
        .filter(|file| {
            file.path == "examples/pizauth.conf" || file.path.starts_with("examples/providers/")
        })
        .map(|file| (file.path.clone(), file.text.clone()))
        .collect();
    assert_eq!(examples.len(), 11);
    let manual = manual_examples(file(&files, "pizauth.conf.5"));
    assert_eq!(
        manual.len(),
        5,
        "the smallest one, the one with everything, and three that need nobody"
    );
    examples.extend(
        manual
            .into_iter()
            .map(|text| ("pizauth.conf.5".into(), text)),
    );
    for (path, text) in examples {
        let mut config =
            config::parse(&path, &text).unwrap_or_else(|error| panic!("{}", error.report()));
        // What is one's own can't be in an example.
        config.warnings.retain(|it| !it.contains("placeholder"));
        assert!(config.warnings.is_empty(), "{path}: {:?}", config.warnings);
    }
}

#[test]
fn the_readme_shows_the_examples_of_mail_programs() {
    let files = tree();
    none(papers::mail_programs(file(&files, "README.md"), &files));
}

#[test]
fn a_mail_program_that_the_readme_shows_otherwise_is_found() {
    let example = File::planted("examples/clients/msmtp/msmtprc", "auth xoauth2\n");
    for (text, count) in [
        ("(examples/clients/msmtp)\n```text\nauth xoauth2\n```\n", 0),
        ("(examples/clients/msmtp)\n```text\nauth plain\n```\n", 1),
        ("```text\nauth xoauth2\n```\n", 1),
    ] {
        let readme = format!("# pizauth\n\n## Mail programs\n\n{text}\n## Starting it\n");
        let readme = File::planted("README.md", &readme);
        let found = papers::mail_programs(&readme, std::slice::from_ref(&example));
        assert_eq!(found.len(), count, "{text}: {found:?}");
    }
}

/// The whole configurations in the manual, without mdoc's escapes.
fn manual_examples(manual: &File) -> Vec<String> {
    let displays = manual.text.split(".Bd -literal").skip(1);
    let displays = displays.filter_map(|rest| rest.split_once('\n')?.1.split_once("\n.Ed"));
    let displays = displays.map(|(text, _)| text.replace("\\e", "\\"));
    displays
        .filter(|text| text.contains("account \""))
        .collect()
}
