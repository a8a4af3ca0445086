//! Restricted sockets: a client that has only one of them gets what it is for, and nothing else.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::PATIENCE;
use crate::support::daemon::Daemon;
use crate::support::provider::Provider;
use crate::support::wait;

/// What a server says to one request: its exit code and the body.
fn ask(socket: &Path, verb: &str, body: &str) -> (u8, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "pizauth 1 {verb} {}\n{body}", body.len()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once('\n').unwrap();
    let code = head.split(' ').nth(2).unwrap().parse().unwrap();
    (code, body.to_owned())
}

fn account(name: &str) -> String {
    format!("{{\"account\":\"{name}\"}}")
}

fn block(name: &str, rules: &str) -> String {
    format!("socket \"~/{name}\" {{ {rules} }}\n")
}

#[test]
fn a_restricted_socket_shows_its_account_and_nothing_else() {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("home");
    let mut daemon = Daemon::new(&(accounts + &block("door", "accounts = [\"work\"];")));
    let door = daemon.path("home/door");
    daemon.start();
    daemon.sign_in("work");
    daemon.sign_in("home");
    let file = fs::symlink_metadata(&door).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o077, 0);

    let token = daemon.token("work");
    assert_eq!(ask(&door, "show", &account("work")), (0, token));
    let no_account = |name: &str| (67, format!("No account '{name}' in the configuration"));
    assert_eq!(ask(&door, "show", &account("home")), no_account("home"));
    assert_eq!(ask(&door, "show", &account("none")), no_account("none"));
    for (verb, body) in [("status", ""), ("refresh", &*account("work"))] {
        let why = format!("this socket doesn't allow `{verb}`");
        assert_eq!(ask(&door, verb, body), (1, why));
    }
    for verb in ["dump", "info", "reload", "shutdown", "restore"] {
        let why = "this socket doesn't allow that".into();
        assert_eq!(ask(&door, verb, ""), (1, why), "{verb}");
    }
    assert_eq!(ask(&door, "revoke", &account("work")).0, 1);
    // Paths are no secret.
    let info = |args: &[&str]| {
        let mut command = daemon.command(args);
        let output = command.env("PIZAUTH_SOCK", &door).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = info(&["info"]);
    assert!(
        told.ends_with("\n  server: running, and this socket tells no more of it\n"),
        "{told}"
    );
    let json: serde_json::Value = serde_json::from_str(&info(&["info", "-j"])).unwrap();
    assert_eq!(json["server_running"], true);
    assert!(json.get("server_info").is_none(), "{json}");
    daemon.token("work");

    let uid = nix::unistd::Uid::effective();
    let pid = std::process::id();
    for line in [
        format!("INFO - socket ~/door: show work by process {pid} of user {uid}"),
        format!("WARN - socket ~/door: show home by process {pid} of user {uid} was refused"),
        format!("WARN - socket ~/door: status by process {pid} of user {uid} was refused"),
        format!("WARN - socket ~/door: dump by process {pid} of user {uid} was refused"),
    ] {
        assert_eq!(daemon.log().wait_line(&line), line);
    }
    daemon.shutdown();
    assert!(!door.exists());
}

#[test]
fn a_sign_in_that_is_needed_shows_no_url_there() {
    let provider = Provider::start();
    let door = block(
        "door",
        "accounts = [\"work\"]; allow = [\"show\", \"refresh\", \"status\"];",
    );
    let accounts = provider.account("work") + &provider.account("home");
    let mut daemon = Daemon::new(&(door + &accounts));
    let door = daemon.path("home/door");
    daemon.start();
    let needed = (77, "Access token unavailable until authorised".to_owned());
    assert_eq!(ask(&door, "show", &account("work")), needed);
    assert_eq!(ask(&door, "refresh", &account("work")), needed);
    let (code, status) = ask(&door, "status", "");
    assert_eq!(code, 0);
    assert!(
        status.contains("\"work\"") && !status.contains("home"),
        "{status}"
    );
}

#[test]
fn a_reload_opens_closes_and_changes_doors() {
    let provider = Provider::start();
    let accounts = provider.account("work") + &provider.account("home");
    let rules = |name: &str| format!("accounts = [\"{name}\"];");
    let config = |doors: &[(&str, &str)]| {
        let doors: String = doors
            .iter()
            .map(|(door, name)| block(door, &rules(name)))
            .collect();
        accounts.clone() + &doors
    };
    let mut daemon = Daemon::new(&config(&[("one", "work"), ("two", "work")]));
    let door = |name: &str| daemon.path("home").join(name);
    let (one, two, three) = (door("one"), door("two"), door("three"));
    daemon.start();
    daemon.sign_in("work");
    daemon.sign_in("home");
    assert_eq!(ask(&one, "show", &account("work")).0, 0);

    daemon.write_config(&config(&[("one", "home"), ("three", "home")]));
    daemon.run(&["reload"]).ok();
    assert_eq!(ask(&one, "show", &account("work")).0, 67);
    assert_eq!(ask(&one, "show", &account("home")).0, 0);
    assert!(!two.exists());
    wait::until("the third door", || UnixStream::connect(&three).ok());
    assert_eq!(ask(&three, "show", &account("home")).0, 0);

    // What can't be opened refuses the whole, and leaves nothing behind.
    daemon.write_config(&config(&[("two", "home"), ("missing/door", "home")]));
    let output = daemon.run(&["reload"]);
    let told = output.failed(1);
    assert!(told.contains("missing/door: No such file"), "{told}");
    assert!(!two.exists());
    assert_eq!(ask(&three, "show", &account("home")).0, 0);
}

#[test]
fn a_door_replaces_a_stale_socket_and_no_other_file() {
    let provider = Provider::start();
    let rules = "accounts = [\"work\"];";
    let mut daemon = Daemon::new(&(provider.account("work") + &block("door", rules)));
    let door = daemon.path("home/door");
    daemon.start();
    daemon.kill();
    assert!(door.exists());
    daemon.start();
    daemon.shutdown();

    fs::write(&door, "precious").unwrap();
    let output = daemon.run(&["server"]);
    let told = output.failed(1);
    assert!(told.contains("there is a file that is no socket"), "{told}");
    assert_eq!(fs::read_to_string(&door).unwrap(), "precious");
    assert!(!daemon.socket_path().exists());
}
