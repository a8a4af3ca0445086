//! Tokens across dump, restore and reload: what is kept, what is dropped, and that nothing
//! reaches a server that it was not meant for.

use std::fs;

use crate::support::browser;
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, TOKEN};
use crate::support::wait;

fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

#[track_caller]
fn restore(daemon: &Daemon, dump: &[u8]) {
    assert_eq!(daemon.run_with(&["restore"], dump).ok(), "");
}

#[test]
fn a_fresh_daemon_goes_on_with_what_was_dumped() {
    let provider = Provider::start();
    let config = provider.account("work") + &provider.account("play") + &provider.account("idle");
    let mut before = started(&config);
    before.sign_in("work");
    before.sign_in("play");
    let dump = before.dump();
    before.shutdown();

    let after = started(&config);
    restore(&after, &dump);
    assert_eq!(after.token("work"), "at-1");
    assert_eq!(after.token("play"), "at-2");
    after.authorization_url("idle");
    // The refresh tokens have come along as well.
    after.run(&["refresh", "work"]).ok();
    after.eventually(&["show", "work"], |output| output.stdout == "at-3\n");
    let form = provider.requests(TOKEN)[2].form.clone();
    assert_eq!(form.get("refresh_token"), Some("rt-1"));
    assert_eq!(form.get("client_id"), Some("client-of-work"));
}

#[test]
fn lifetimes_go_on_counting_through_dump_and_restore() {
    let provider = Provider::start();
    provider.set(|settings| {
        settings.expires_in = Some(2);
        settings.refresh_tokens = false;
    });
    let before = started(&provider.account("work"));
    before.sign_in("work");
    let dump = before.dump();
    before.eventually(&["show", "work"], |output| output.status == 77);
    let after = started(&provider.account("work"));
    restore(&after, &dump);
    after.authorization_url("work");
}

#[test]
fn restore_ignores_what_belongs_to_another_registration() {
    let provider = Provider::start();
    let config = provider.account("work") + &provider.account("play") + &provider.account("gone");
    let before = started(&config);
    for account in ["work", "play", "gone"] {
        before.sign_in(account);
    }
    let dump = before.dump();
    let asked = provider.requests(TOKEN).len();

    let config = provider
        .account("work")
        .replace("client-of-work", "another")
        + &provider.account("play");
    let after = started(&config);
    restore(&after, &dump);
    after.authorization_url("work");
    assert_eq!(after.token("play"), "at-2");
    after.run(&["show", "gone"]).failed(67);
    // A refresh of what was not restored is a sign-in, and sends nothing.
    after.run(&["refresh", "work"]).failed(77);
    assert_eq!(provider.requests(TOKEN).len(), asked);
}

#[test]
fn an_older_token_never_replaces_a_live_one() {
    let provider = Provider::start();
    let config = provider.account("work");
    let before = started(&config);
    before.sign_in("work");
    let older = before.dump();
    restore(&before, &older);
    before.run(&["revoke", "work"]).ok();
    before.sign_in("work");
    let newer = before.dump();
    restore(&before, &older);
    assert_eq!(before.token("work"), "at-2");

    let after = started(&config);
    for (dump, token) in [(&older, "at-1"), (&newer, "at-2"), (&older, "at-2")] {
        restore(&after, dump);
        assert_eq!(after.token("work"), token);
    }
}

// Covers: hostile-dumps
#[test]
fn what_is_no_dump_is_refused_and_changes_nothing() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    daemon.sign_in("work");
    let dump = daemon.dump();
    daemon.run(&["revoke", "work"]).ok();
    daemon.sign_in("work");
    let status = |daemon: &Daemon| {
        let status = daemon.run(&["status"]).ok().to_owned();
        status
            .split_once(", until ")
            .map(|(_, until)| until.to_owned())
            .unwrap()
    };
    let before = status(&daemon);

    let newer = [b"pizauth dump 4\n", dump.split_at(15).1].concat();
    let mut refused = vec![
        (Vec::new(), "the dump is empty"),
        (
            b"hello\n".to_vec(),
            "this is not a pizauth dump, or one that was damaged",
        ),
        (
            b"{\"version\": 1}".to_vec(),
            "this is not a pizauth dump, or one that was damaged",
        ),
        (
            vec![0; 1000],
            "this is not a pizauth dump, or one that was damaged",
        ),
        (newer, "the dump was made by a newer version of pizauth"),
        (
            [&dump[..], b"\n"].concat(),
            "the dump is truncated or corrupted",
        ),
    ];
    for cut in [5, 14, 15, 20, dump.len() / 2, dump.len() - 1] {
        refused.push((dump[..cut].to_vec(), "the dump is truncated or corrupted"));
    }
    for at in [15, 30, dump.len() / 2, dump.len() - 1] {
        let mut altered = dump.clone();
        altered[at] ^= 0x20;
        refused.push((altered, "the dump is truncated or corrupted"));
    }
    for (bytes, why) in refused {
        let output = daemon.run_with(&["restore"], &bytes);
        assert_eq!(
            output.failed(1),
            format!("ERROR - nothing was restored: {why}\n"),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(daemon.token("work"), "at-2");
    }
    assert_eq!(status(&daemon), before);
}

#[test]
fn a_dump_cannot_be_searched() {
    let provider = Provider::tagged("a-recognisable-");
    let option = "client_secret = \"the-secret-of-the-client\";";
    let daemon = started(&provider.account_with("work-account", option));
    daemon.sign_in("work-account");
    let dump = daemon.dump();
    let text = String::from_utf8_lossy(&dump);
    for word in [
        "a-recognisable-",
        "work-account",
        "the-secret",
        "127.0.0.1",
        "client-of",
        "access",
        "refresh",
        "http://",
    ] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
    assert_ne!(daemon.dump(), dump);
    // A daemon without any tokens has a dump too.
    let empty = started(&provider.account("work"));
    let dump = empty.dump();
    restore(&empty, &dump);
    restore(&daemon, &dump);
    assert_eq!(daemon.token("work-account"), "a-recognisable-at-1");
}

#[test]
fn reload_keeps_the_tokens_of_an_unchanged_registration_and_drops_all_others() {
    let provider = Provider::start();
    let keeper = provider.account("keeper");
    for (what, from, to) in [
        ("client_id", "client-of-work", "another-client"),
        ("scopes", "[\"mail\", \"offline\"]", "[\"mail\"]"),
        (
            "redirect_uri",
            "// here",
            "redirect_uri = \"http://localhost/other\";",
        ),
        ("auth_uri", "/authorize", "/authorize2"),
        ("token_uri", "/token\"", "/token2\""),
        (
            "auth_uri_fields",
            "// here",
            "auth_uri_fields = { \"tenant\": \"x\" };",
        ),
        ("login_hint", "// here", "login_hint = \"me@example.com\";"),
    ] {
        let account = provider.account_with("work", "// here");
        let changed = account.replacen(from, to, 1);
        assert_ne!(account, changed, "{what}");
        let daemon = started(&format!("{keeper}{account}"));
        daemon.sign_in("work");
        daemon.sign_in("keeper");
        let kept = daemon.token("keeper");
        // The same again changes nothing, nor does another order.
        assert_eq!(daemon.run(&["reload"]).ok(), "");
        daemon.token("work");
        daemon.write_config(&format!("// moved\n{account}{keeper}"));
        assert_eq!(daemon.run(&["reload"]).ok(), "");
        daemon.token("work");

        daemon.write_config(&format!("{keeper}{changed}"));
        assert_eq!(daemon.run(&["reload"]).ok(), "");
        let asked = provider.requests(TOKEN).len();
        let show = daemon.run(&["show", "work"]);
        let stderr = show.failed(77);
        assert!(
            stderr.ends_with("\nhint: the account's registration was changed in the config\n"),
            "{what}: {stderr}"
        );
        daemon.run(&["refresh", "work"]).failed(77);
        assert_eq!(provider.requests(TOKEN).len(), asked, "{what}");
        assert_eq!(daemon.token("keeper"), kept, "{what}");
        // The old registration is no way back to the old tokens.
        daemon.write_config(&format!("{keeper}{account}"));
        daemon.run(&["reload"]).ok();
        daemon.run(&["show", "work"]).failed(77);
    }
}

#[test]
fn a_token_is_never_sent_to_another_server() {
    let old = Provider::tagged("old-");
    let new = Provider::tagged("new-");
    let daemon = started(&old.account("work"));
    daemon.sign_in("work");
    let dump = daemon.dump();
    daemon.write_config(&new.account("work"));
    daemon.run(&["reload"]).ok();
    restore(&daemon, &dump);
    daemon.run(&["refresh", "work"]).failed(77);
    assert_eq!(new.requests(TOKEN).len(), 0);
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "new-at-1");
    restore(&daemon, &dump);
    assert_eq!(daemon.token("work"), "new-at-1");
    assert_eq!(old.requests(TOKEN).len(), 1);
    for request in new.requests(TOKEN) {
        let values: Vec<&String> = request.form.0.iter().map(|(_, value)| value).collect();
        assert!(
            !values.iter().any(|value| value.contains("old-")),
            "{request:?}"
        );
    }
}

#[test]
fn accounts_that_swap_their_names_keep_nothing() {
    let provider = Provider::start();
    let config = provider.account("one") + &provider.account("two");
    let daemon = started(&config);
    daemon.sign_in("one");
    daemon.sign_in("two");
    let swapped = config
        .replace("client-of-one", "x")
        .replace("client-of-two", "client-of-one")
        .replace("\"x\"", "\"client-of-two\"");
    daemon.write_config(&swapped);
    daemon.run(&["reload"]).ok();
    daemon.authorization_url("one");
    daemon.authorization_url("two");
}

#[test]
fn an_account_that_was_removed_comes_back_without_tokens() {
    let provider = Provider::start();
    let both = provider.account("work") + &provider.account("play");
    let daemon = started(&both);
    daemon.sign_in("work");
    let url = daemon.authorization_url("play");
    daemon.write_config(&provider.account("idle"));
    daemon.run(&["reload"]).ok();
    daemon.run(&["show", "work"]).failed(67);
    // A pending request goes with its account.
    let late = browser::visit(&url);
    assert_ne!(late.status(), 200, "{late:?}");
    daemon.write_config(&both);
    daemon.run(&["reload"]).ok();
    daemon.authorization_url("work");
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

#[test]
fn a_changed_client_secret_keeps_the_tokens_and_is_used_from_then_on() {
    let provider = Provider::start();
    let account =
        |secret: &str| provider.account_with("work", &format!("client_secret = \"{secret}\";"));
    let before = started(&account("first"));
    before.sign_in("work");
    let after = started(&account("first"));
    // A restored account may refresh at once; see tests/hooks.rs.
    restore(&after, &before.dump());
    after.write_config(&account("second"));
    after.run(&["reload"]).ok();
    assert_eq!(after.token("work"), "at-1");
    after.run(&["refresh", "work"]).ok();
    after.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    let secrets: Vec<Option<String>> = provider
        .requests(TOKEN)
        .iter()
        .map(|request| request.form.get("client_secret").map(str::to_owned))
        .collect();
    assert_eq!(secrets, [Some("first".into()), Some("second".into())]);
}

#[test]
fn a_changed_policy_bites_at_once() {
    let provider = Provider::start();
    let before = started(&provider.account("work"));
    before.sign_in("work");
    let after = started(&provider.account("work"));
    restore(&after, &before.dump());
    assert_eq!(after.token("work"), "at-1");
    after.write_config(&provider.account_with("work", "refresh_at_least = 1s;"));
    after.run(&["reload"]).ok();
    // Older than that by the time it is asked, or soon.
    after.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    assert_eq!(
        provider.requests(TOKEN)[1].form.get("grant_type"),
        Some("refresh_token")
    );
}

// Covers: H26
#[test]
fn a_config_with_an_error_changes_nothing() {
    let provider = Provider::start();
    let good = provider.account("work");
    let daemon = started(&good);
    daemon.sign_in("work");
    let path = daemon.config_path();
    let path = path.display();
    let changed = good.replace("client-of-work", "another") + &provider.account("play");
    for (config, stderr) in [
        (
            format!("{changed}frob = 1;\n"),
            format!("ERROR - {path}:15:1: unknown option `frob`\nfrob = 1;\n^^^^\n"),
        ),
        (String::new(), format!("ERROR - {path}:1:1: ")),
        (
            format!("{changed}{}", provider.account("play")),
            format!("ERROR - {path}:15:9: there are two accounts `play`, the first on line 8\n"),
        ),
    ] {
        daemon.write_config(&config);
        let output = daemon.run(&["reload"]);
        assert!(output.failed(1).starts_with(&stderr), "{output:?}");
        assert_eq!(daemon.token("work"), "at-1");
        daemon.run(&["show", "play"]).failed(67);
    }
    fs::remove_file(daemon.config_path()).unwrap();
    assert_eq!(
        daemon.run(&["reload"]).failed(1),
        format!(
            "ERROR - can't read the configuration {path}: No such file or directory (os error 2)\nhint: `pizauth setup` makes one\n"
        )
    );
    assert_eq!(daemon.token("work"), "at-1");
    // And a good one is taken again.
    daemon.write_config(&(good + &provider.account("play")));
    daemon.run(&["reload"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    daemon.authorization_url("play");
}

// Covers: H26
#[test]
fn listeners_that_would_move_are_said_to_need_a_new_start() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    daemon.sign_in("work");
    daemon.write_config(&format!(
        "https_listen = none;\n{}",
        provider.account("work")
    ));
    assert_eq!(
        daemon.run(&["reload"]).ok(),
        "http_listen and https_listen stay as they were until you run `pizauth shutdown` and \
         `pizauth server`\n"
    );
    assert_eq!(daemon.token("work"), "at-1");
}

#[test]
fn revoke_forgets_the_tokens_and_cancels_a_pending_request() {
    let provider = Provider::start();
    let daemon = started(&provider.account("work"));
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    daemon.sign_in("work");
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    let first = daemon.authorization_url("work");
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert_eq!(
        daemon.run(&["status"]).ok(),
        "work: No access token; sign in with `pizauth auth work`\n"
    );
    let late = browser::visit(&first);
    assert_ne!(late.status(), 200, "{late:?}");
    assert_eq!(provider.requests(TOKEN).len(), 1);
    let second = daemon.authorization_url("work");
    assert_ne!(first, second);
    browser::visit(&second);
    assert_eq!(daemon.token("work"), "at-2");
}

#[test]
fn nothing_is_kept_over_a_restart_that_was_not_dumped() {
    let provider = Provider::start();
    let mut daemon = started(&provider.account("work"));
    daemon.sign_in("work");
    daemon.shutdown();
    daemon.start();
    daemon.authorization_url("work");
    // Nor is anything left in the files.
    let mut files = Vec::new();
    for dir in ["home", "config", "run/pizauth", "tmp"] {
        let entries = fs::read_dir(daemon.path(dir)).unwrap().flatten();
        files.extend(entries.map(|entry| entry.file_name().into_string().unwrap()));
    }
    files.sort();
    assert_eq!(files, ["pizauth.conf", "pizauth.lock", "pizauth.sock"]);
    wait::until("the socket", || daemon.socket_path().exists().then_some(()));
}
