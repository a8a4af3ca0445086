//! The server under other people's filters of system calls: it goes on without what they don't
//! allow, and says so.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::provider::Provider;

fn ours(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file)
}

/// A world in which every `pizauth` is under the filter that `variables` describe.
fn filtered(config: &str, variables: &[(&str, &str)]) -> Daemon {
    let mut daemon = Daemon::of_binary(&ours("support/filtered"), config);
    daemon.env("FILTERED", env!("CARGO_BIN_EXE_pizauth"));
    for (name, value) in variables {
        daemon.env(name, value);
    }
    daemon
}

/// What is in force, and what isn't, by their names.
fn layers(daemon: &Daemon) -> (Vec<String>, Vec<String>) {
    let info: Value = serde_json::from_str(daemon.run(&["info", "-j"]).ok()).unwrap();
    let texts = |member: &str| {
        let texts = info["server_info"][member].as_array().unwrap().iter();
        let texts = texts.map(|it| it.as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    let (log, info) = (daemon.log().text(), daemon.run(&["info"]));
    let refused = texts("sandbox_refused").into_iter().map(|refused| {
        assert!(log.contains(&refused), "{refused:?} isn't in {log}");
        let line = format!("  not in force: {refused}\n");
        assert!(info.ok().contains(&line), "{line:?} isn't in {info:?}");
        refused.split(':').next().unwrap().to_owned()
    });
    let refused = refused.collect();
    (texts("sandbox"), refused)
}

/// A server's life under a filter: a sign-in, a token, a reload, a restart, and its end.
#[track_caller]
fn lives(variables: &[(&str, &str)], refused: &[&str]) {
    let provider = Provider::start();
    let mut daemon = filtered("", variables);
    let record = daemon.record("events");
    let config = record.option("token_event_cmd", &["PIZAUTH_ACCOUNT"]) + &provider.account("work");
    daemon.write_config(&config);
    daemon.start();
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    let (in_force, not) = layers(&daemon);
    for layer in refused {
        assert!(not.iter().any(|it| it == layer), "{variables:?}: {not:?}");
        assert!(!in_force.iter().any(|it| it == layer), "{in_force:?}");
    }
    // Landlock is a question of the kernel, too.
    let others = not.iter().filter(|it| *it != "landlock");
    let expected = refused.iter().filter(|it| **it != "landlock");
    assert!(others.eq(expected), "{variables:?}: {not:?}");
    daemon.run(&["reload"]).ok();
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(layers(&daemon), (in_force, not));
    record.wait_lines(1);
    daemon.shutdown();
}

// Covers: sandbox
#[test]
fn under_the_filter_of_systemds_services_it_serves_and_says_what_isnt_in_force() {
    let list = ours("data/system-service");
    for action in ["kill", "trap", "EPERM", "ENOSYS"] {
        let variables = [
            ("FILTER_ACTION", action),
            ("FILTER_ALLOWED", list.to_str().unwrap()),
        ];
        lives(&variables, &["landlock", "seccomp"]);
    }
}

/// What the server could do without, and the layer that it belongs to.
const DISPENSABLE: [(&str, &[&str]); 7] = [
    // landlock_create_ruleset, landlock_add_rule and landlock_restrict_self.
    ("444", &["landlock"]),
    ("445", &["landlock"]),
    ("446", &["landlock"]),
    // seccomp.
    ("317", &["seccomp"]),
    // prctl: PR_SET_DUMPABLE.
    ("157:0:4", &["not_dumpable"]),
    // PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG.
    ("157:0:36", &[]),
    ("157:0:1", &[]),
];

// Covers: sandbox
#[test]
fn no_single_call_that_it_can_do_without_is_its_death() {
    for (calls, refused) in DISPENSABLE {
        for action in ["kill", "EPERM"] {
            lives(
                &[("FILTER_ACTION", action), ("FILTER_DENIED", calls)],
                refused,
            );
        }
    }
}

#[test]
fn restrictions_of_a_service_manager_take_nothing_from_it() {
    // As systemd.exec(5) has them: MemoryDenyWriteExecute=yes, by mmap(2) and mprotect(2), and
    // RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX.
    let families = (3..=45).filter(|family| *family != 10);
    let families: Vec<_> = families.map(|it| format!("41:0:{it}")).collect();
    for (action, calls) in [
        ("EPERM", "9:2:6 9:2:7 10:2:4 10:2:5 10:2:6 10:2:7"),
        ("EAFNOSUPPORT", &families.join(" ")),
    ] {
        lives(&[("FILTER_ACTION", action), ("FILTER_DENIED", calls)], &[]);
    }
}
