//! Where the tokens go beside the server's memory: `state_save_cmd` and `state_load_cmd`, and
//! whatever else outlives a server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::daemon::{Daemon, children, gone};
use super::support::hooks::{Record, option};
use super::support::provider::Provider;
use super::support::wait;

/// Saves into `file` and loads from it, in clear.
fn plain(file: &str) -> String {
    option(
        "state_save_cmd",
        &format!("cat >{file}.new && mv {file}.new {file}"),
    ) + &option("state_load_cmd", &format!("[ ! -e {file} ] || cat {file}"))
}

/// A daemon whose commands run in its own directory.
fn daemon(config: &str) -> Daemon {
    Daemon::new(config)
}

#[test]
fn tokens_outlive_a_server_that_is_killed() {
    let provider = Provider::start();
    let mut daemon = daemon(&(plain("tokens") + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    let token = daemon.token("work");
    daemon.log().wait_line("the tokens have been saved");
    let asked = provider.requests("/token").len();
    daemon.kill();
    fs::remove_dir_all(daemon.path("run/pizauth")).unwrap();

    daemon.start();
    // The very first answer has it, and nobody had to ask the provider.
    assert_eq!(daemon.token("work"), token);
    assert_eq!(provider.requests("/token").len(), asked);
    assert!(
        daemon
            .log()
            .text()
            .contains("all accounts: the saved tokens of 1 accounts have been loaded"),
        "{}",
        daemon.log().text()
    );
}

#[test]
fn nothing_saved_yet_is_no_error_and_a_forked_server_loads_before_it_answers() {
    let provider = Provider::start();
    let mut daemon = daemon(&(plain("tokens") + &provider.account("work")));
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_MSG"])
            + &plain("tokens")
            + &provider.account("work")),
    );
    daemon.start_forked();
    daemon.sign_in("work");
    let token = daemon.token("work");
    daemon.shutdown();
    daemon.start_forked();
    assert_eq!(daemon.token("work"), token);
    assert_eq!(errors.lines(), Vec::<String>::new());
}

#[test]
fn saves_never_overlap_and_changes_meanwhile_share_one() {
    let provider = Provider::start();
    let accounts = ["a", "b", "c", "d"];
    let blocks: String = accounts.map(|name| provider.account(name)).concat();
    let mut daemon = daemon("");
    let (began, ended) = (daemon.record("began"), daemon.record("ended"));
    // The first save waits for the test to look.
    let save = format!(
        "cat >tokens.new; {}; until [ -e gate ]; do sleep 0.01; done; mv tokens.new tokens; {}",
        began.command(&["PIZAUTH_ACCOUNT"]),
        ended.command(&["PIZAUTH_ACCOUNT"]),
    );
    daemon.write_config(&(option("state_save_cmd", &save) + &blocks));
    daemon.start();
    for account in accounts {
        daemon.sign_in(account);
    }
    let tokens = accounts.map(|account| daemon.token(account));
    // Nobody waits for it, and it has begun only once.
    assert_eq!(began.wait_lines(1).len(), 1);
    assert_eq!(ended.lines().len(), 0);
    fs::write(daemon.path("gate"), "").unwrap();
    // The one that was running, and one for the three accounts that came later.
    assert_eq!(ended.wait_lines(2).len(), 2);
    daemon.eventually(&["status"], |_| {
        daemon
            .log()
            .text()
            .matches("the tokens have been saved")
            .count()
            == 2
    });
    daemon.shutdown();
    assert_eq!(began.lines(), vec!["(unset)"; 3], "and one at the end");
    assert_eq!(ended.lines().len(), 3);

    let mut other = Daemon::new(&blocks);
    other.start();
    let dump = fs::read(daemon.path("tokens")).unwrap();
    other.run_with(&["restore"], &dump).ok();
    assert_eq!(accounts.map(|account| other.token(account)), tokens);
}

#[test]
fn a_save_that_fails_is_loud_and_the_next_change_tries_again() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = daemon.record("errors");
    let save = "[ -e disk ] || { echo 'no space' >&2; exit 3; }; cat >tokens";
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"])
            + &option("state_save_cmd", save)
            + &provider.account("work")
            + &provider.account("home")),
    );
    daemon.start();
    daemon.sign_in("work");
    assert_eq!(
        errors.wait_lines(1),
        ["all accounts\tthe tokens could not be saved: \
          state_save_cmd exited with status 3: no space"]
    );
    daemon.token("work");
    fs::write(daemon.path("disk"), "").unwrap();
    daemon.sign_in("home");
    daemon.log().wait_line("the tokens have been saved");
    assert_eq!(errors.lines().len(), 1);
    daemon.kill();
    assert!(daemon.path("tokens").exists());
}

#[test]
fn the_last_save_is_waited_for_and_its_failure_told() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_MSG"])
            + &option("state_save_cmd", "cat >tokens; [ ! -e full ]")
            + &provider.account("work")),
    );
    daemon.start();
    daemon.sign_in("work");
    daemon.log().wait_line("the tokens have been saved");
    fs::write(daemon.path("full"), "").unwrap();
    daemon.run(&["shutdown", "-f"]).ok();
    assert_eq!(daemon.wait_end(), Some(0));
    assert_eq!(
        errors.lines(),
        ["the tokens could not be saved: state_save_cmd exited with status 1"]
    );
}

/// A daemon whose state can't be saved while there is a file `full`; it has saved once, and can't
/// now. Its log of errors comes along.
fn unsaved(daemon: &mut Daemon, provider: &Provider) -> Record {
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_MSG"])
            + &option("state_save_cmd", "[ ! -e full ] && cat >tokens")
            + &option("state_load_cmd", "[ ! -e tokens ] || cat tokens")
            + &provider.account("work")),
    );
    daemon.start();
    daemon.sign_in("work");
    daemon.log().wait_line("the tokens have been saved");
    fs::write(daemon.path("full"), "").unwrap();
    errors
}

const UNSAVED: &str = "the tokens could not be saved: state_save_cmd exited with status 1";

#[test]
fn a_server_that_cannot_save_says_so_and_does_not_end() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = unsaved(&mut daemon, &provider);
    let output = daemon.run(&["shutdown"]);
    let hint = "hint: the server goes on; `pizauth shutdown -f` ends it nonetheless";
    assert_eq!(output.failed(1), format!("ERROR - {UNSAVED}\n{hint}\n"));
    let status = daemon.run(&["status"]);
    assert_eq!(status.status, 0);
    assert_eq!(status.stderr, format!("WARN - {UNSAVED}\n"));
    let json: serde_json::Value = serde_json::from_str(daemon.run(&["status", "-j"]).ok()).unwrap();
    assert_eq!(json["state_error"], UNSAVED);
    assert_eq!(errors.wait_lines(1), [UNSAVED]);
    daemon.token("work");

    fs::remove_file(daemon.path("full")).unwrap();
    fs::remove_file(daemon.path("tokens")).unwrap();
    daemon.shutdown();
    assert!(daemon.path("tokens").exists());
    daemon.start();
    let json: serde_json::Value = serde_json::from_str(daemon.run(&["status", "-j"]).ok()).unwrap();
    assert_eq!(json.get("state_error"), None);
    daemon.token("work");
}

#[test]
fn a_script_that_is_missing_or_no_program_is_found_by_check() {
    let provider = Provider::start();
    let daemon = daemon("");
    let script = daemon.path("home/save.sh");
    for name in ["state_load_cmd", "state_save_cmd"] {
        for path in [script.to_str().unwrap(), "~/save.sh"] {
            let command = option(name, &format!("{path} all"));
            daemon.write_config(&(command + &provider.account("work")));
            let why = |why: &str| format!("ERROR - {name}: {path} can't be run: {why}\n");
            let missing = why("No such file or directory (os error 2)");
            assert_eq!(daemon.run(&["check"]).failed(78), missing);
            fs::create_dir(&script).unwrap();
            assert_eq!(daemon.run(&["check"]).failed(78), why("it is no file"));
            fs::remove_dir(&script).unwrap();
            fs::write(&script, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&script, PermissionsExt::from_mode(0o600)).unwrap();
            let denied = why("Permission denied (os error 13)");
            assert_eq!(daemon.run(&["check"]).failed(78), denied);
            fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
            daemon.run(&["check"]).ok();
            fs::remove_file(&script).unwrap();
        }
        // What only a shell can tell is left to it.
        let command = option(name, "[ ! -e tokens ] || cat tokens");
        daemon.write_config(&(command + &provider.account("work")));
        daemon.run(&["check"]).ok();
    }
}

/// A script that knows how to `try` is tried, as the ones in examples/persistence do; no other is run.
#[test]
fn what_a_script_can_try_is_tried_by_check() {
    let provider = Provider::start();
    let daemon = daemon("");
    let script = daemon.path("home/keep.sh");
    let body = |more: &str| format!("#!/bin/sh\necho \"$@\" >>ran\ncase $1 in\n{more}esac\n");
    let write = |text: &str| {
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    };
    let failing = "try)\n  echo \"no key for $2\" >&2\n  exit 2\n  ;;\n";
    for (save, more, warning, ran) in [
        ("~/keep.sh save", "try) ;;\n", "", ""),
        ("~/keep.sh save", "try)\n  ;;\n", "", "try\n"),
        (
            "~/keep.sh save a/b",
            failing,
            "WARN - `state_save_cmd` can't keep the tokens: no key for a/b\n",
            "try a/b\n",
        ),
        ("~/keep.sh saves", failing, "", ""),
        ("~/keep.sh save >x", failing, "", ""),
        ("cd / && ~/keep.sh save", failing, "", ""),
        ("~/keep.sh", failing, "", ""),
    ] {
        write(&body(more));
        daemon.write_config(&(option("state_save_cmd", save) + &provider.account("work")));
        let checked = daemon.run(&["check"]);
        assert_eq!((checked.status, &*checked.stderr), (0, warning), "{save}");
        let found = fs::read_to_string(daemon.path("ran")).unwrap_or_default();
        assert_eq!(found, ran, "{save}");
        let _ = fs::remove_file(daemon.path("ran"));
    }
}

#[test]
fn a_signal_has_the_last_save_tried_again() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = unsaved(&mut daemon, &provider);
    fs::remove_file(daemon.path("tokens")).unwrap();
    kill(daemon.pid().unwrap(), Signal::SIGTERM).unwrap();
    assert_eq!(errors.wait_lines(1), [UNSAVED]);
    fs::remove_file(daemon.path("full")).unwrap();
    assert_eq!(daemon.wait_end(), Some(0));
    assert_eq!(errors.lines(), [UNSAVED]);
    daemon.start();
    daemon.token("work");
}

/// A signal waits for no save where nothing saves, whatever has gone wrong before.
#[test]
fn a_server_that_only_loads_ends_at_once() {
    let provider = Provider::start();
    let mut daemon = daemon(&(option("state_load_cmd", "exit 3") + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    kill(daemon.pid().unwrap(), Signal::SIGTERM).unwrap();
    assert_eq!(daemon.wait_end(), Some(0));
}

#[test]
fn a_state_that_is_older_than_the_last_tokens_is_told() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = unsaved(&mut daemon, &provider);
    // What was saved is what there is.
    daemon.kill();
    daemon.start();
    let note = note_of(&daemon);
    daemon.run(&["refresh", "work"]).ok();
    assert_eq!(errors.wait_lines(1), [UNSAVED]);
    // The server before it has noted that there is something newer.
    wait::until("the note", || (note_of(&daemon) > note).then_some(()));
    daemon.kill();
    daemon.start();
    let told = &errors.wait_lines(2)[1];
    assert!(
        told.starts_with("the saved tokens are older than the last ones"),
        "{told}"
    );
    // It is told once.
    fs::remove_file(daemon.path("full")).unwrap();
    daemon.shutdown();
    daemon.start();
    daemon.token("work");
    assert_eq!(errors.lines().len(), 2);
}

/// When tokens have changed, as the lock's file says.
fn note_of(daemon: &Daemon) -> i64 {
    let note = fs::read_to_string(daemon.path("run/pizauth/pizauth.lock")).unwrap();
    note.trim().parse().unwrap()
}

/// A backup is put back, and all servers before that have saved what they had.
#[test]
fn a_state_that_was_put_back_is_told_before_a_refresh_token_is_spent() {
    const OLDER: &str = "the saved tokens are older than the last ones: if a provider has replaced \
                         a refresh token since, a new sign-in is needed";
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_MSG"])
            + &plain("tokens")
            + &provider.account("work")),
    );
    let state = daemon.path("tokens");
    daemon.start();
    daemon.sign_in("work");
    daemon.shutdown();
    let backup = fs::read(&state).unwrap();
    daemon.start();
    daemon.run(&["refresh", "work"]).ok();
    daemon.restart();
    daemon.shutdown();
    // What the last one has left is the last.
    daemon.start();
    daemon.shutdown();
    assert_eq!(errors.lines(), [""; 0]);

    fs::write(&state, &backup).unwrap();
    daemon.start();
    assert_eq!(errors.wait_lines(1), [OLDER]);
    daemon.log().wait_line("have been loaded");
    let log = daemon.log().text();
    let at = |words: &str| {
        log.find(words)
            .unwrap_or_else(|| panic!("no {words}: {log}"))
    };
    assert!(at("error_notify_cmd") < at("have been loaded"), "{log}");
    let state_error = |daemon: &Daemon| -> serde_json::Value {
        let json = daemon.run(&["status", "-j"]).ok().to_owned();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["state_error"].take()
    };
    assert_eq!(daemon.run(&["status"]).stderr, format!("WARN - {OLDER}\n"));
    assert_eq!(state_error(&daemon), OLDER);
    // Another server that has only these says it again.
    daemon.kill();
    daemon.start();
    assert_eq!(errors.wait_lines(2), [OLDER; 2]);
    // What is newer than all is saved, and that is the end of it.
    daemon.run(&["revoke", "--local", "work"]).ok();
    daemon.log().wait_line("the tokens have been saved");
    daemon.sign_in("work");
    assert_eq!(state_error(&daemon), serde_json::Value::Null);
    daemon.shutdown();
    daemon.start();
    daemon.token("work");
    assert_eq!(errors.lines().len(), 2);
}

/// What a load that can't succeed leaves behind: the saved file as it was.
fn a_load_that_fails(spoil: impl Fn(&Path), mend: impl Fn(&Path), why: &str) {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = daemon.record("errors");
    let accounts = provider.account("work") + &provider.account("home");
    let commands = option("state_save_cmd", "cat >tokens.new && mv tokens.new tokens")
        + &option(
            "state_load_cmd",
            "[ ! -e locked ] || { echo locked >&2; exit 2; }; cat tokens",
        );
    let config = errors.option("error_notify_cmd", &["PIZAUTH_MSG"]) + &commands + &accounts;
    daemon.write_config(&accounts);
    daemon.start();
    daemon.sign_in("work");
    let work = daemon.token("work");
    fs::write(daemon.path("tokens"), raw_dump(&daemon)).unwrap();
    daemon.kill();
    daemon.write_config(&config);

    spoil(&daemon.path(""));
    let spoilt = fs::read(daemon.path("tokens")).unwrap();
    daemon.start();
    let told = format!(
        "the saved tokens could not be loaded: {why}; \
         nothing is saved over them before that has worked"
    );
    assert_eq!(errors.wait_lines(1), [told.as_str()]);
    // The server runs all the same. A change leads to another try, and to no save.
    daemon.sign_in("home");
    let home = daemon.token("home");
    wait::until("the second try", || {
        let log = daemon.log().text();
        (log.matches(why).count() == 1).then_some(())
    });
    assert_eq!(fs::read(daemon.path("tokens")).unwrap(), spoilt);

    mend(&daemon.path(""));
    daemon.run(&["reload"]).ok();
    daemon.log().wait_line("the tokens have been saved");
    assert_eq!(daemon.token("work"), work);
    assert_eq!(daemon.token("home"), home);
    daemon.kill();
    daemon.start();
    assert_eq!(daemon.token("work"), work);
    assert_eq!(daemon.token("home"), home);
    assert_eq!(errors.lines().len(), 1);
}

/// A dump as its bytes.
fn raw_dump(daemon: &Daemon) -> Vec<u8> {
    daemon.command(&["dump"]).output().unwrap().stdout
}

#[test]
fn a_load_command_that_fails_costs_nothing_that_is_saved() {
    a_load_that_fails(
        |dir| fs::write(dir.join("locked"), "").unwrap(),
        |dir| fs::remove_file(dir.join("locked")).unwrap(),
        "state_load_cmd exited with status 2: locked",
    );
}

/// What a command prints is refused at the bound, and takes no more memory than that.
#[test]
fn a_load_command_that_prints_too_much_is_refused_at_the_bound() {
    let load = option("state_load_cmd", "head -c 300000000 /dev/zero");
    let mut daemon = daemon(&(load + &Provider::start().account("work")));
    daemon.start();
    daemon.log().wait_line(
        "the saved tokens could not be loaded: its output can't be read: it is more than 64 MiB",
    );
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.holder()));
    if let Ok(status) = status {
        let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
        let mut words = peak.expect("the peak").split_whitespace();
        let kib: u64 = words.nth(1).unwrap().parse().unwrap();
        assert!(kib < 110 << 10, "{kib} KiB");
    }
}

#[test]
fn a_damaged_state_is_not_overwritten() {
    a_load_that_fails(
        |dir| {
            let dump = fs::read(dir.join("tokens")).unwrap();
            fs::write(dir.join("whole"), &dump).unwrap();
            fs::write(dir.join("tokens"), &dump[..dump.len() - 1]).unwrap();
        },
        |dir| fs::rename(dir.join("whole"), dir.join("tokens")).unwrap(),
        "`state_load_cmd` printed no state: the dump is truncated or corrupted",
    );
}

#[test]
fn a_server_without_tokens_saves_nothing_when_it_ends() {
    let provider = Provider::start();
    let saved = |daemon: &Daemon| daemon.path("tokens").exists();
    let mut daemon = daemon(&(option("state_save_cmd", "cat >tokens") + &provider.account("work")));
    daemon.start();
    daemon.shutdown();
    assert!(!saved(&daemon));
}

#[test]
fn a_revoked_token_leaves_the_saved_state_too() {
    let provider = Provider::start();
    let mut daemon = daemon(&(plain("tokens") + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    daemon.log().wait_line("the tokens have been saved");
    daemon.run(&["revoke", "work"]).ok();
    wait::until("the second save", || {
        let log = daemon.log().text();
        (log.matches("the tokens have been saved").count() == 2).then_some(())
    });
    daemon.kill();
    daemon.start();
    daemon.authorization_url("work");
}

#[test]
fn a_large_state_arrives_whole_in_both_directions() {
    let provider = Provider::start();
    // More than a pipe holds.
    let long = "r".repeat(200_000);
    provider.set(|settings| settings.token_extras = vec![("refresh_token".into(), long.into())]);
    let mut daemon = daemon(&(plain("tokens") + &provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    daemon.log().wait_line("the tokens have been saved");
    daemon.shutdown();
    daemon.start();
    daemon.token("work");
}

// ---- examples/persistence ---------------------------------------------------------------------

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/persistence");
    examples.join(name)
}

/// Whether a program is there; where CI is set, it has to be.
fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        eprintln!("SKIPPED: {program} is missing");
    }
    found
}

/// Puts a stand-in for `program` into the PATH of the daemon's commands.
fn stand_in(daemon: &mut Daemon, program: &str, script: &str) {
    let bin = daemon.path("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join(program), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(bin.join(program), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    daemon.env("PATH", &path);
}

/// Runs the example's commands through a "reboot", twice: the second save replaces the first.
fn survives_a_reboot(daemon: Daemon, script: &str) -> Daemon {
    let word = script.trim_end_matches(".sh");
    let script = example(script);
    let hook = |verb| format!("{} {verb}", script.display());
    let commands =
        option("state_save_cmd", &hook("save")) + &option("state_load_cmd", &hook("load"));
    let mut daemon = keeps(daemon, &commands);
    daemon.kill();
    // And so does the word for it.
    keeps(daemon, &option("state", word))
}

fn keeps(mut daemon: Daemon, options: &str) -> Daemon {
    let provider = Provider::start();
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_MSG"])
            + options
            + &provider.account("work")
            + &provider.account("home")),
    );
    let mut known: Vec<(&str, String)> = Vec::new();
    for account in ["work", "home"] {
        daemon.start();
        for (name, token) in &known {
            assert_eq!(&daemon.token(name), token);
        }
        daemon.sign_in(account);
        known.push((account, daemon.token(account)));
        daemon.log().wait_line("the tokens have been saved");
        daemon.kill();
        fs::remove_dir_all(daemon.path("run/pizauth")).unwrap();
    }
    daemon.start();
    for (name, token) in &known {
        assert_eq!(&daemon.token(name), token);
    }
    assert_eq!(errors.lines(), Vec::<String>::new());
    assert_eq!(daemon.run(&["check"]).ok(), "");
    daemon
}

#[track_caller]
fn prepare(daemon: &Daemon, script: &str) {
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(daemon.path(""))
        .env("HOME", daemon.path("home"))
        .env("GNUPGHOME", daemon.path("home/.gnupg"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
}

/// GnuPG with a key of its own in the daemon's home, whose agent goes with the directory.
fn gnupg(daemon: &mut Daemon) {
    // A socket's path is short, and this one would not be.
    let home = daemon.path("home/.gnupg");
    daemon.env("GNUPGHOME", home.to_str().unwrap());
    prepare(
        daemon,
        "mkdir -m 700 \"$GNUPGHOME\"
         gpg --batch --quiet --passphrase '' --quick-generate-key test@example.com",
    );
}

// Covers: H25
#[test]
fn the_example_for_age_survives_a_reboot() {
    if !has("age") {
        return;
    }
    let daemon = daemon("");
    prepare(
        &daemon,
        "mkdir -p home/.config
         age-keygen -o home/.config/pizauth-age.key
         age-keygen -y -o home/.config/pizauth-age.pub home/.config/pizauth-age.key",
    );
    let daemon = survives_a_reboot(daemon, "age.sh");
    let file = daemon.path("home/.local/state/pizauth/tokens.age");
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(
        fs::read(&file)
            .unwrap()
            .starts_with(b"age-encryption.org/v1")
    );
    // With one key alone, elsewhere, and by way of any shell.
    let mut daemon = daemon;
    daemon.kill();
    fs::remove_file(daemon.path("home/.config/pizauth-age.pub")).unwrap();
    for shell in ["bash", "dash", "zsh", "fish", "tcsh"] {
        let found = Command::new(shell).args(["-c", "true"]).status();
        if !found.is_ok_and(|status| status.success()) {
            continue;
        }
        daemon.env("SHELL", shell);
        let place = format!("age:~/elsewhere/{shell}.age");
        daemon = keeps(daemon, &option("state", &place));
        assert!(daemon.path(&format!("home/elsewhere/{shell}.age")).exists());
        daemon.kill();
    }
    // `check` tries it.
    fs::remove_file(daemon.path("home/.config/pizauth-age.key")).unwrap();
    let output = daemon.run(&["check"]);
    assert_eq!(output.status, 0, "{output:?}");
    let what = ":2: `state` can't keep the tokens: age: error: ";
    assert!(output.stderr.contains(what), "{output:?}");
}

/// A server that is killed while it saves looks like one that has ended: the command's input ends
/// there. What was saved before stays.
#[test]
fn the_examples_keep_the_last_state_when_only_a_part_of_the_next_one_comes() {
    let work = tempfile::tempdir().unwrap();
    let bin = work.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = |name: &str, script: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    for name in ["age", "gpg", "systemd-creds", "secret-tool"] {
        program(name, "exec cat");
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // More than a pipe holds.
    let whole: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    for name in ["age", "gpg", "systemd-creds"] {
        let save = |bytes: &[u8], length: Option<&str>| {
            let mut command = Command::new(example(&format!("{name}.sh")));
            command.arg("save").env_clear().env("PATH", &path);
            command
                .env("XDG_STATE_HOME", work.path())
                .env("HOME", work.path());
            if let Some(length) = length {
                command.env("PIZAUTH_BYTES", length);
            }
            let mut child = command
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(bytes).unwrap();
            child.wait_with_output().unwrap()
        };
        let saved = || {
            let directory = work.path().join("pizauth");
            let files = fs::read_dir(directory)
                .unwrap()
                .map(|file| file.unwrap().path());
            let mut files = files.filter(|file| file.extension().is_some_and(|end| end != "new"));
            let file = files.find(|file| match name {
                "age" => file.ends_with("tokens.age"),
                "gpg" => file.ends_with("tokens.gpg"),
                _ => file.ends_with("tokens.cred"),
            });
            fs::read(file.unwrap()).unwrap()
        };
        assert!(save(&whole, Some("300000")).status.success(), "{name}");
        assert_eq!(saved(), whole);
        let cut = save(&whole[..150_000], Some("300000"));
        assert!(!cut.status.success(), "{name}");
        let why = String::from_utf8(cut.stderr).unwrap();
        assert!(
            why.contains("only 150000 of 300000 bytes have come"),
            "{why}"
        );
        assert_eq!(saved(), whole);
        // An older server doesn't say.
        assert!(save(&whole[..5], None).status.success(), "{name}");
        assert_eq!(saved(), &whole[..5]);
    }
}

/// `killall -9` in the middle of a save of 1.2 MB: the example keeps what was saved before.
#[test]
fn a_server_that_is_killed_while_it_saves_costs_nothing_that_was_saved() {
    if !has("age") {
        return;
    }
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let state = daemon.path("state");
    daemon.env("XDG_STATE_HOME", state.to_str().unwrap());
    prepare(
        &daemon,
        "mkdir -p home/.config && age-keygen -o home/.config/pizauth-age.key 2>/dev/null",
    );
    let script = example("age.sh");
    let script = script.display();
    // From when on there is a file, the command stands still in the middle of its input.
    let save = format!(
        "{{ if [ -e slow ]; then head -c 1000; echo $$ >pid; mv pid reading; \
         until [ -e go ]; do sleep 0.05; done; fi; cat; }} | {script} save"
    );
    let commands =
        option("state_save_cmd", &save) + &option("state_load_cmd", &format!("{script} load"));
    daemon.write_config(&(commands + &provider.account("first") + &provider.account("second")));
    daemon.start();
    let long = "r".repeat(600_000);
    provider.set(|settings| settings.token_extras = vec![("refresh_token".into(), long.into())]);
    daemon.sign_in("first");
    let token = daemon.token("first");
    daemon.log().wait_line("the tokens have been saved");
    let file = state.join("pizauth/tokens.age");
    let good = fs::read(&file).unwrap();

    // Now it is more than a pipe can hold at most.
    fs::write(daemon.path("slow"), "").unwrap();
    daemon.sign_in("second");
    let reading = wait::until("the command to read", || {
        fs::read_to_string(daemon.path("reading")).ok()
    });
    let command = Pid::from_raw(reading.trim().parse().unwrap());
    // All at once: what is left of a server saves.
    let mut processes = vec![daemon.pid().unwrap()];
    processes.extend(children(processes[0]));
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for process in &processes {
            kill(*process, signal).unwrap();
        }
    }
    daemon.kill();
    fs::write(daemon.path("go"), "").unwrap();
    wait::until("the end of the command", || gone(command));
    let saved = fs::read(&file).unwrap();
    let lengths = (saved.len(), good.len());
    assert!(saved == good, "another file was saved: {lengths:?}");

    for name in ["slow", "go", "reading"] {
        fs::remove_file(daemon.path(name)).unwrap();
    }
    let _ = fs::remove_dir_all(daemon.path("run/pizauth"));
    daemon.start();
    assert_eq!(daemon.token("first"), token);
}

#[test]
fn the_save_command_hears_how_long_the_state_is() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let record = daemon.record("lengths");
    let save = option(
        "state_save_cmd",
        &format!(
            "PIZAUTH_MSG=$(wc -c | tr -d ' '); export PIZAUTH_MSG; {}",
            record.command(&["PIZAUTH_BYTES", "PIZAUTH_MSG"])
        ),
    );
    daemon.write_config(&format!("{save}{}", provider.account("work")));
    daemon.start();
    daemon.sign_in("work");
    let lines = record.wait_lines(1);
    let (said, counted) = lines[0].split_once('\t').expect("two values");
    assert_eq!(said, counted);
    assert!(said.parse::<usize>().unwrap() > 100, "{said}");
}

#[test]
fn the_example_for_gpg_survives_a_reboot() {
    if !has("gpg") {
        return;
    }
    let mut daemon = daemon("");
    gnupg(&mut daemon);
    let daemon = survives_a_reboot(daemon, "gpg.sh");
    prepare(&daemon, "gpgconf --kill gpg-agent");
}

#[test]
fn the_example_for_pass_survives_a_reboot() {
    if !has("gpg") || !has("pass") {
        return;
    }
    let mut daemon = daemon("");
    gnupg(&mut daemon);
    prepare(&daemon, "pass init test@example.com");
    let daemon = survives_a_reboot(daemon, "pass.sh");
    prepare(&daemon, "gpgconf --kill gpg-agent");
}

#[test]
fn the_example_for_systemd_creds_survives_a_reboot() {
    // The machine's key isn't a test's to use, nor is it in every container.
    let mut daemon = daemon("");
    stand_in(
        &mut daemon,
        "systemd-creds",
        "[ \"$1 $2\" = '--user --name=pizauth' ] || exit 64
         case $3 in
         encrypt) [ \"$4 $5\" = '- -' ] && base64 ;;
         decrypt) [ \"$5\" = - ] && cat -- \"$4\" | base64 -d ;;
         esac",
    );
    survives_a_reboot(daemon, "systemd-creds.sh");
}

#[test]
fn the_example_for_secret_tool_survives_a_reboot_and_tells_locked_from_empty() {
    let mut daemon = daemon("");
    let keyring = daemon.path("keyring").display().to_string();
    stand_in(
        &mut daemon,
        "secret-tool",
        &format!(
            "case $1 in
             store) [ \"$3 $4\" = 'application pizauth' ] && cat >'{keyring}' ;;
             lookup) [ \"$2 $3\" = 'application pizauth' ] || exit 64
                 [ ! -e '{keyring}.locked' ] || {{ echo locked >&2; exit 1; }}
                 [ -e '{keyring}' ] && cat '{keyring}' ;;
             esac"
        ),
    );
    let mut daemon = survives_a_reboot(daemon, "secret-tool.sh");
    let errors = daemon.record("errors");
    daemon.kill();
    fs::write(format!("{keyring}.locked"), "").unwrap();
    daemon.start();
    let [told] = errors.wait_lines(1).try_into().unwrap();
    assert!(
        told.contains("state_load_cmd exited with status 1: locked"),
        "{told}"
    );
}

// ---- token files ------------------------------------------------------------------------------

/// Waits until `path` holds what `good` likes, and gives it.
fn file_with(path: &Path, good: impl Fn(&str) -> bool) -> String {
    wait::until(&format!("the right {}", path.display()), || {
        fs::read_to_string(path).ok().filter(|text| good(text))
    })
}

fn no_file(path: &Path) {
    wait::until(&format!("{} to go", path.display()), || {
        (!path.exists()).then_some(())
    });
}

#[test]
fn a_token_file_holds_the_token_and_goes_with_it() {
    let provider = Provider::start();
    let account = provider.account_with("work", "token_file = \"~/token\";\n");
    let mut daemon = daemon(&(plain("tokens") + &account));
    let file = daemon.path("home/token");
    fs::write(&file, "left behind\n").unwrap();
    daemon.start();
    no_file(&file);
    daemon.sign_in("work");
    let first = daemon.token("work");
    assert_eq!(file_with(&file, |_| true), format!("{first}\n"));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    // A killed server leaves it behind; the next one knows that the token is the same.
    daemon.log().wait_line("the tokens have been saved");
    daemon.kill();
    assert!(file.exists());
    daemon.start();
    let reader = fs::File::open(&file).unwrap();
    daemon.run(&["refresh", "work"]).ok();
    let second = file_with(&file, |text| text != format!("{first}\n"));
    assert_eq!(second, format!("{}\n", daemon.token("work")));
    // It was replaced and not written over: whoever is reading the old one reads it to its end.
    assert_eq!(
        std::io::read_to_string(reader).unwrap(),
        format!("{first}\n")
    );

    daemon.run(&["revoke", "work"]).ok();
    no_file(&file);
    daemon.sign_in("work");
    file_with(&file, |_| true);
    daemon.shutdown();
    assert!(!file.exists());
    let left: Vec<_> = fs::read_dir(daemon.path("home")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_token_file_has_the_format_that_was_asked_for() {
    let provider = Provider::start();
    provider.set(|settings| {
        settings.token_extras = vec![("access_token".into(), "t0k\"en\\".into())];
    });
    let options = |name: &str, format: &str| {
        format!(
            "token_file = \"~/{name}\"; token_file_format = {format}; \
             auth_uri_fields = {{ \"login_hint\": \"me@example.com\" }};\n"
        )
    };
    let config = provider.account_with("json", &options("json", "json"))
        + &provider.account_with("sasl", &options("sasl", "xoauth2"));
    let mut daemon = daemon(&config);
    daemon.start();
    daemon.sign_in("json");
    daemon.sign_in("sasl");
    let json = file_with(&daemon.path("home/json"), |_| true);
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expires = json["expires_at"].take().as_i64().unwrap();
    assert!(expires > 1_600_000_000, "{expires}");
    assert_eq!(json["account"], "json");
    assert_eq!(json["access_token"], "t0k\"en\\");
    assert_eq!(json["token_type"], "Bearer");
    assert!(json["scopes"].is_array());
    // user=me@example.com^Aauth=Bearer t0k"en\^A^A
    assert_eq!(
        file_with(&daemon.path("home/sasl"), |_| true),
        "dXNlcj1tZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB0MGsiZW5cAQE=\n"
    );
}

#[test]
fn an_expired_token_is_in_no_file() {
    let provider = Provider::start();
    provider.set(|settings| {
        // Long enough to be seen, however busy the machine is.
        settings.expires_in = Some(5);
        settings.refresh_tokens = false;
    });
    let account = provider.account_with("work", "token_file = \"~/token\";\n");
    let mut daemon = daemon(&account);
    daemon.start();
    daemon.sign_in("work");
    file_with(&daemon.path("home/token"), |_| true);
    no_file(&daemon.path("home/token"));
    daemon.run(&["show", "work"]).failed(77);
}

#[test]
fn a_reload_moves_and_removes_token_files() {
    let provider = Provider::start();
    let account = |name: &str, options: &str| provider.account_with(name, options);
    let mut daemon = daemon(
        &(account("a", "token_file = \"~/one\";\n") + &account("b", "token_file = \"~/two\";\n")),
    );
    let (one, two) = (daemon.path("home/one"), daemon.path("home/two"));
    daemon.start();
    daemon.sign_in("a");
    daemon.sign_in("b");
    let (a, b) = (daemon.token("a"), daemon.token("b"));
    file_with(&one, |_| true);
    file_with(&two, |_| true);
    // Each takes the other's.
    daemon.write_config(
        &(account("a", "token_file = \"~/two\";\n") + &account("b", "token_file = \"~/one\";\n")),
    );
    daemon.run(&["reload"]).ok();
    file_with(&one, |text| text == format!("{b}\n"));
    file_with(&two, |text| text == format!("{a}\n"));
    // One stays without, and one is no account any more.
    daemon.write_config(&account("a", ""));
    daemon.run(&["reload"]).ok();
    no_file(&one);
    no_file(&two);
    assert_eq!(daemon.token("a"), a);
}

#[test]
fn a_token_file_that_cannot_be_written_is_reported() {
    let provider = Provider::start();
    let mut daemon = daemon("");
    let errors = daemon.record("errors");
    daemon.write_config(
        &(errors.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"])
            + &provider.account_with("work", "token_file = \"~/missing/token\";\n")),
    );
    daemon.start();
    daemon.sign_in("work");
    assert_eq!(
        errors.wait_lines(1),
        ["work\tthe token file could not be kept: ~/missing/token: \
          No such file or directory (os error 2)"]
    );
    daemon.token("work");
}
