//! The examples of pizauth.sock(7), taken out of the manual and run, those for status bars, and the
//! completions' names of accounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::provider::Provider;

/// The literal display in pizauth.sock(7) that starts with `start`, as a reader sees it.
fn example(start: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("pizauth.sock.7")).unwrap();
    let displays = manual.split(".Bd -literal\n").skip(1);
    let mut displays = displays.filter_map(|rest| rest.split("\n.Ed").next());
    let text = displays.find(|text| text.starts_with(start)).unwrap();
    text.replace("\\e", "\\") + "\n"
}

fn run(daemon: &Daemon, program: &str, args: &[&str]) -> Output {
    start(daemon, program, args).finish()
}

/// Starts `program` with `args` in the daemon's world.
fn start(daemon: &Daemon, program: &str, args: &[&str]) -> Running {
    let model = daemon.command(&[]);
    let mut command = Command::new(program);
    command.args(args).env_clear();
    for (name, value) in model.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Running::start(&mut command)
}

fn has(daemon: &Daemon, program: &str) -> bool {
    let found = run(
        daemon,
        "/bin/sh",
        &["-c", &format!("command -v {program} >/dev/null")],
    );
    found.status == 0
}

/// Says in the log of a run that something was not tested, and why.
fn missing(daemon: &Daemon, program: &str) -> bool {
    let missing = !has(daemon, program);
    if missing {
        eprintln!("{program} is missing: its example is not tested");
    }
    missing
}

/// A directory to find `pizauth` in.
fn called_by_name(daemon: &Daemon) -> PathBuf {
    let bin = daemon.path("bin");
    fs::create_dir(&bin).unwrap();
    let pizauth = daemon.command(&[]);
    std::os::unix::fs::symlink(pizauth.get_program(), bin.join("pizauth")).unwrap();
    bin
}

fn signed_in(provider: &Provider) -> Daemon {
    let mut daemon = Daemon::new(&(provider.account("work") + &provider.account("play")));
    daemon.start();
    daemon.sign_in("work");
    daemon
}

#[test]
fn the_python_of_the_manual_does_what_it_says() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    if missing(&daemon, "python3") {
        return;
    }
    let use_it = r#"
events = watch()
print(next(events)["event"])
print(show("work"))
print([(account["account"], account["valid"]) for account in status()])
try:
    show("gone")
except PizauthError as error:
    print(error.status, error)
ask("revoke", account="work")
print(next(events)["event"])
try:
    show("work", wait_secs=0)
except PizauthError as error:
    print(error.status)
"#;
    let script = example("import json") + use_it;
    let output = run(&daemon, "python3", &["-c", &script]);
    assert_eq!(
        output.ok(),
        "watching\nat-1\n[('play', False), ('work', True)]\n\
         67 No account 'gone' in the configuration\ntoken_revoked\n77\n"
    );
}

#[test]
fn the_shell_of_the_manual_does_what_it_says() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    if missing(&daemon, "socat") && missing(&daemon, "nc") {
        return;
    }
    let script = example("token() {") + "token work; token gone; echo $?\n";
    let output = run(&daemon, "/bin/sh", &["-c", &script]);
    assert_eq!(output.ok(), "at-1\n67\n");
}

#[test]
fn the_status_bars_say_who_needs_you() {
    let provider = Provider::start();
    let daemon = signed_in(&provider);
    if missing(&daemon, "jq") {
        return;
    }
    // They call `pizauth` and `i3status` by name.
    let bin = called_by_name(&daemon);
    std::os::unix::fs::symlink("/bin/echo", bin.join("i3status")).unwrap();
    let bars = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/statusbars");
    let bar = |name: &str| {
        let script = format!(
            "PATH='{}':$PATH; export PATH; exec '{}'",
            bin.display(),
            bars.join(name).display()
        );
        start(&daemon, "/bin/sh", &["-c", &script])
    };
    assert_eq!(bar("tmux.sh").finish().ok(), "#[fg=red]✉ play#[default]\n");
    assert_eq!(bar("i3status.sh").finish().ok(), "sign in: play | \n");
    // It goes on until the bar ends it.
    let waybar = bar("waybar.sh");
    let line: Value = serde_json::from_str(&waybar.stdout.wait_line("{")).unwrap();
    assert_eq!(
        [&line["text"], &line["class"]],
        [&json!("✉ 1"), &json!("needed")]
    );
    let tooltip = line["tooltip"].as_str().unwrap();
    assert!(
        tooltip.starts_with("play: sign in\nwork: valid until 20"),
        "{tooltip}"
    );
    daemon.sign_in("play");
    waybar.stdout.wait_line("\"good\"");
}

#[test]
fn the_completions_offer_every_name_whole() {
    let names = ["a: b", "q\"u\\o", "\u{e9}"];
    let account = |name: &str| {
        let name = pizauth::config::quoted(name);
        let uris = "auth_uri = \"https://a.example/\"; token_uri = \"https://a.example/\";";
        format!("account {name} {{ {uris} client_id = \"x\"; }}\n")
    };
    let mut daemon = Daemon::new(&names.map(account).concat());
    daemon.start();
    let bin = called_by_name(&daemon);
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("share");
    for (shell, script) in [
        ("bash", ". \"$0/bash/completion.bash\"; _pizauth_accounts"),
        (
            "fish",
            "source $argv[1]/fish/pizauth.fish; __pizauth_accounts",
        ),
        (
            "zsh",
            "compadd() { print -rl -- $accounts }; \
             source <(sed '/^_pizauth \"/d' \"$0/zsh/_pizauth\"); _pizauth_accounts",
        ),
    ] {
        if missing(&daemon, shell) {
            continue;
        }
        let set = format!("PATH='{}':$PATH; export PATH; exec \"$@\"", bin.display());
        let share = share.to_str().unwrap();
        let output = run(
            &daemon,
            "/bin/sh",
            &["-c", &set, "sh", shell, "-c", script, share],
        );
        assert_eq!(output.ok(), names.join("\n") + "\n", "{shell}");
    }
}
