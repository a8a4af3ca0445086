//! What a successor makes of a state under another configuration: the same as a reload.

use super::bench::{Bench, HOOKS, invalid_grant, not_sent, tokens};
use crate::{
    config::{self, Config},
    core::{AttemptId, Core, CoreState},
};

/// Accounts `work` and `home`, signed in, and `club`, for which somebody has yet to.
fn bench() -> Bench {
    let mut bench = Bench::new(of(&["club", "home", "work"], "a.example", "/old/"));
    for (number, name) in [(1, "home"), (2, "work")] {
        bench.show(name);
        bench.effects();
        bench.code();
        bench.effects();
        bench.outcome(name, &tokens(number, 3600));
    }
    bench.show("club");
    bench.log = false;
    bench.effects();
    bench
}

/// These accounts of a provider, whose files are in `dir`.
fn of(names: &[&str], host: &str, dir: &str) -> Config {
    let accounts = names.iter().map(|name| {
        format!(
            r#"account "{name}" {{ auth_uri = "https://{host}/auth"; client_id = "id";
                token_uri = "https://{host}/token"; token_file = "{dir}{name}"; }}"#
        )
    });
    let text = HOOKS.to_owned() + &accounts.collect::<String>();
    config::parse("test.conf", &text).expect("a config")
}

/// What a successor with this configuration makes of it, and what it does.
fn succeeded(config: Config) -> (Bench, Vec<String>) {
    handed_over(&bench(), config)
}

/// The same of another predecessor.
pub fn handed_over(bench: &Bench, config: Config) -> (Bench, Vec<String>) {
    let text = serde_json::to_string(&bench.core.state(bench.now)).unwrap();
    let state: CoreState = serde_json::from_str(&text).unwrap();
    let mut next = bench.clone();
    next.core = Core::new(config, bench.core.common.ports);
    next.feed(|core, cx| core.adopt(cx, state));
    next.feed(|core, cx| core.publish(cx));
    let effects = next.effects();
    (next, effects)
}

/// The same of a reload; the files that stay are written anew by a successor only.
fn reloaded(config: Config) -> Vec<String> {
    let mut bench = bench();
    bench.feed(|core, cx| core.reload(cx, config));
    bench.effects()
}

#[test]
fn an_account_that_is_gone_ends_as_by_a_reload() {
    let config = || of(&["home"], "a.example", "/old/");
    let ended = [
        "notify end 5",
        "no token file club /old/club",
        "announce work `event` token_invalidated",
        "no token file work /old/work",
    ];
    assert_eq!(reloaded(config()), ended);
    let (mut next, effects) = succeeded(config());
    let kept = "token file home /old/home access1";
    assert_eq!(effects, [&ended[..], &[kept]].concat());
    assert_eq!(next.show("home"), "token access1");
    assert_eq!(next.show("work"), "no such account");
}

#[test]
fn an_account_with_another_registration_ends_and_starts_anew() {
    let config = || of(&["club", "home", "work"], "b.example", "/old/");
    let (next, effects) = succeeded(config());
    let ended = [
        "notify end 5",
        "no token file club /old/club",
        "announce home `event` token_invalidated",
        "no token file home /old/home",
        "announce work `event` token_invalidated",
        "no token file work /old/work",
    ];
    // Both then make sure that none was left behind.
    let none = ["club", "home", "work"].map(|name| format!("no token file {name} /old/{name}"));
    let ended: Vec<_> = ended.into_iter().map(str::to_owned).chain(none).collect();
    assert_eq!(effects, ended);
    assert_eq!(reloaded(config()), ended);
    assert_eq!(next.condition("club"), "no token; no deadline");
    for name in ["home", "work"] {
        assert_eq!(next.condition(name), "no token, lost; no deadline");
    }
}

#[test]
fn reasons_go_along() {
    let config = |host| of(&["club", "home", "work"], host, "/old/");
    let (mut bench, _) = succeeded(config("b.example"));
    bench.log = false;
    bench.show("work");
    bench.denied();
    bench.show("work");
    bench.show("club");
    bench.code();
    bench.effects();
    bench.outcome("club", &not_sent());
    let before = ["club", "home", "work"].map(|name| bench.condition(name));
    let (mut next, _) = handed_over(&bench, config("b.example"));
    let after = ["club", "home", "work"].map(|name| next.condition(name));
    assert_eq!(after, before);
    assert_eq!(next.show("club"), "exchanging: b.example: no route to host");
    assert!(next.show("work").ends_with(": access_denied"));
    assert!(next.show("home").ends_with(" was changed in the config"));
}

#[test]
fn a_token_file_that_has_moved_is_removed_where_it_was() {
    // Where the file of one account was is now that of another.
    let mut swapped = of(&["club", "home", "work"], "a.example", "/old/");
    let files: Vec<_> = (swapped.accounts.iter())
        .map(|account| account.token_file.clone())
        .collect();
    for (account, file) in
        swapped
            .accounts
            .iter_mut()
            .zip([None, files[2].clone(), files[1].clone()])
    {
        account.token_file = file;
    }
    let (_, effects) = succeeded(swapped);
    assert_eq!(
        effects,
        [
            "no token file club /old/club",
            "no token file home /old/home",
            "no token file work /old/work",
            "token file home /old/work access1",
            "token file work /old/home access2",
        ]
    );
}

#[test]
fn what_has_expired_leaves_its_file_while_a_restart_waits() {
    let mut bench = bench();
    bench.feed(|core, _| core.hold());
    let gone = ["home", "work"].map(|name| format!("no token file {name} /old/{name}"));
    assert_eq!(bench.deadline(), (3600, gone.into()));
    assert_eq!(bench.core.poll_timeout(), None);
}

#[test]
fn a_pending_request_is_told_again_where_the_hooks_have_ended() {
    let config = || of(&["club", "home", "work"], "a.example", "/old/");
    let (mut next, _) = succeeded(config());
    let notify = "notify club/5 `notify` state 5 for 900s";
    assert_eq!(next.deadline(), (900, vec![notify.to_owned()]));
    let (mut next, _) = succeeded(config());
    next.feed(|core, cx| core.remind_again(cx, false));
    assert_eq!(next.deadline(), (0, vec![notify.to_owned()]));
    // Not if it had ended by itself before.
    let mut told = bench();
    for other in [6, 5] {
        told.feed(|core, cx| core.on(cx, "club", |it, env| it.notified(env, AttemptId(other))));
        let (mut next, _) = handed_over(&told, config());
        let mut all = next.clone();
        all.feed(|core, cx| core.remind_again(cx, true));
        assert_eq!(all.deadline(), (0, vec![notify.to_owned()]));
        next.feed(|core, cx| core.remind_again(cx, false));
        let due = if other == 5 { 900 } else { 0 };
        assert_eq!(next.deadline(), (due, vec![notify.to_owned()]), "{other}");
    }
    // On another port it has come to nothing, and the next one starts anew.
    let mut bench = bench();
    bench.core.common.ports.http = Some(1);
    let text = serde_json::to_string(&bench.core.state(bench.now)).unwrap();
    let state: CoreState = serde_json::from_str(&text).unwrap();
    let ports = bench.core.common.ports;
    bench.core = Core::new(config(), ports);
    bench.feed(|core, cx| core.adopt(cx, state));
    assert_eq!(bench.effects(), ["notify end 5"]);
    assert_eq!(bench.condition("club"), "no token; next in 3510s");
    assert_eq!(bench.condition("home"), "valid, scheduled; next in 3510s");
}

/// A provider takes what it sees twice for theft: the user is told what may have come before.
#[test]
fn a_refusal_of_what_was_sent_twice_says_so() {
    let config = || of(&["club", "home", "work"], "a.example", "/old/");
    let refresh = |bench: &mut Bench| {
        bench.refresh("work");
    };
    let exchange = |bench: &mut Bench| {
        bench.show("club");
        bench.code();
    };
    type Begin = fn(&mut Bench);
    for (name, begin, words) in [
        (
            "work",
            refresh as Begin,
            "authorisation needed again: invalid_grant; an earlier reply was lost on the way, and a \
             new refresh token perhaps with it",
        ),
        (
            "club",
            exchange,
            "authorisation failed: invalid_grant; the server ended before an earlier reply came, so \
             sign in again",
        ),
    ] {
        let mut bench = bench();
        bench.pass(60);
        begin(&mut bench);
        let sent = bench.effects();
        let (mut next, _) = handed_over(&bench, config());
        let trouble = next.refresh(name);
        let ended = ": the server ended before the reply came";
        assert!(trouble.ends_with(ended), "{trouble}");
        let again = next.deadline().1;
        let form = |lines: &[String]| {
            let request = lines.iter().find(|line| line.starts_with("request"));
            request.map(|line| line.split_once(" https").unwrap().1.to_owned())
        };
        assert_eq!(form(&again), form(&sent), "{again:?}");
        next.outcome(name, &invalid_grant());
        let told = next.effects();
        let error = format!("error {name} `error` {words}");
        assert!(told.contains(&error), "{told:?}");
    }
}
