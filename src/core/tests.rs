//! Events in, answers and effects out, compared whole. [`table`] has every state and every event;
//! here are the stories that take several of them.

mod bench;
mod discovery;
mod forecast;
mod handover;
mod news;
mod stored;
mod table;
mod waiting;

use self::bench::{
    Bench, HOOKS, access_only, busy, config, invalid_client, invalid_grant, lost, not_sent, reply,
    tokens,
};
use super::{AttemptId, Waiter, dump::Dump, schedule::MIN_REQUEST_GAP};
use crate::{
    config::parse,
    oauth::token::Outcome,
    time::Instant,
    view::{SignInStart, SignInWays},
};

/// One account, all hooks but the probe.
fn one() -> Bench {
    Bench::new(config(HOOKS, &[("work", "a.example")]))
}

/// [`one`], signed in with tokens that live for so many seconds.
fn signed_in(life: u32) -> Bench {
    let mut bench = one();
    sign_in(&mut bench, "work", life);
    bench
}

fn sign_in(bench: &mut Bench, name: &str, life: u32) {
    bench.show(name);
    bench.effects();
    bench.code();
    bench.effects();
    bench.outcome(name, &tokens(1, life));
    bench.effects();
    bench.log = false;
}

#[test]
fn from_nothing_to_a_refreshed_token() {
    let mut bench = one();
    assert_eq!(bench.show("work"), "sign in with state 1");
    assert_eq!(
        bench.effects(),
        [
            "log INFO work: authorisation needed",
            "notify work/1 `notify` state 1 for 900s",
        ]
    );
    assert_eq!(bench.code(), "wait for work");
    let verifier = format!("{}2", "0".repeat(63));
    assert_eq!(
        bench.effects(),
        [
            "notify end 1".to_owned(),
            format!(
                "request work/2 https://a.example/token grant_type=authorization_code code=code \
                 client_id=id code_verifier={verifier} \
                 redirect_uri=http%3A%2F%2Flocalhost%3A14204%2F"
            ),
        ]
    );
    bench.pass(2);
    bench.outcome("work", &tokens(1, 3600));
    assert_eq!(
        bench.effects(),
        [
            "settled work [7]: done",
            "log INFO work: token_new",
            "announce work `event` token_new",
        ]
    );
    assert_eq!(bench.show("work"), "token access1");
    // The life counts from when the request was sent, two seconds ago.
    let (secs, effects) = bench.deadline();
    assert_eq!(secs, 3600 - 90 - 2);
    assert_eq!(
        effects,
        [
            "request work/3 https://a.example/token grant_type=refresh_token \
          refresh_token=refresh1 client_id=id"
        ]
    );
    assert_eq!(bench.show("work"), "token access1");
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(
        bench.effects(),
        [
            "log INFO work: token_refreshed",
            "announce work `event` token_refreshed",
        ]
    );
    assert_eq!(bench.show("work"), "token access2");
    assert_eq!(bench.effects(), [""; 0]);
}

/// Whatever bug left a deadline behind that nothing comes of: the tick ends.
#[test]
fn a_tick_takes_each_due_account_once() {
    let mut bench = signed_in(3600);
    let none = Instant::from_millis(0);
    bench.core.deadlines.insert((none, "work".into()));
    bench.feed(|core, cx| core.tick(cx));
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.core.poll_timeout(), Some(none));
}

#[test]
fn a_pending_sign_in_is_called_to_mind_until_it_ends() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    for _ in 0..3 {
        let reminder = vec!["notify work/1 `notify` state 1 for 900s".to_owned()];
        assert_eq!(bench.deadline(), (900, reminder));
    }
    bench.denied();
    bench.effects();
    assert_eq!(bench.core.poll_timeout(), None);
}

#[test]
fn failed_refreshes_back_off_to_ten_minutes_and_a_success_ends_it() {
    let mut bench = signed_in(3600);
    bench.deadline();
    for delay in [40, 80, 160, 320, 600, 600] {
        bench.outcome("work", &lost());
        assert_eq!(bench.effects(), [""; 0]);
        let (secs, effects) = bench.deadline();
        assert_eq!((secs, effects.len()), (delay, 1));
    }
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    bench.deadline();
    bench.outcome("work", &lost());
    bench.effects();
    assert_eq!(bench.deadline().0, 40);
}

// Covers: H3
#[test]
fn an_hour_of_trouble_is_told_once() {
    let mut bench = signed_in(3600);
    bench.deadline();
    let mut told = Vec::new();
    let mut span = 0;
    while span < 3 * 3600 {
        bench.outcome("work", &lost());
        let effects = bench.effects();
        if !effects.is_empty() {
            told.push((span, effects));
        }
        span += bench.deadline().0;
    }
    let error = "error work `error` refresh failed, trying again in 10m: a.example: the request \
                 was sent but the reply was lost: connection reset";
    assert_eq!(told, [(40 + 80 + 160 + 320 + 5 * 600, vec![error.into()])]);
}

/// One account's pause is its own. The endpoint's it is when two are told so by an endpoint that has
/// too much to do.
#[test]
fn a_retry_after_counts_for_the_account_and_of_two_for_the_endpoint() {
    let accounts = [
        ("work", "a.example"),
        ("home", "a.example"),
        ("club", "a.example"),
        ("bank", "b.example"),
    ];
    for (status, others) in [(503, 0), (429, 0), (500, 1)] {
        let mut bench = Bench::new(config(HOOKS, &accounts));
        for (name, _) in accounts {
            sign_in(&mut bench, name, 7200);
        }
        bench.pass(5400);
        let due = "request";
        bench.feed(|core, cx| core.tick(cx));
        let requests = bench.effects();
        assert!(requests.iter().all(|line| line.starts_with(due)));
        let last = bench.attempt.0;
        let mut paused = |name: &str, back: u64, secs: u64| {
            bench.attempt = AttemptId(last - back);
            let mut outcome = busy(secs);
            if let Outcome::Reply(reply) = &mut outcome {
                reply.status = status;
            }
            bench.outcome(name, &outcome);
        };
        // In the order of their names: bank, club, home, work.
        paused("work", 0, 300);
        paused("home", 1, 200);
        bench.attempt = AttemptId(last - 2);
        bench.outcome("club", &not_sent());
        bench.effects();
        assert_eq!(
            bench.refresh("club"),
            [
                "refreshing in 200s: a.example: no route to host",
                "refreshing: a.example: no route to host"
            ][others]
        );
        assert_eq!(
            bench.refresh("home"),
            format!("refreshing in 200s: a.example answered {status} with an empty reply")
        );
    }
}

// Covers: H5
#[test]
fn no_one_gets_two_requests_within_the_floor() {
    let mut bench = signed_in(1);
    bench.pass(1);
    let mut last = bench.sent;
    for n in 2..20 {
        // However often and in whatever way it is asked for.
        while bench.effects().is_empty() {
            bench.show("work");
            bench.refresh("work");
            bench.feed(|core, cx| core.tick(cx));
            bench.pass(1);
        }
        assert!(bench.sent.since(last) >= MIN_REQUEST_GAP);
        last = bench.sent;
        bench.outcome("work", &tokens(n, 1));
        bench.effects();
    }
}

#[test]
fn a_code_whose_request_was_not_sent_is_retried_until_its_life_is_over() {
    let mut bench = one();
    bench.log = false;
    bench.show("work");
    bench.code();
    bench.effects();
    let mut tries = 1;
    loop {
        bench.outcome("work", &not_sent());
        let effects = bench.effects();
        let why = "a.example: no route to host";
        // The user hears of it once, after a minute.
        if tries == 7 {
            let error = format!("error work `error` can't complete the authorisation yet: {why}");
            assert_eq!(effects, [error]);
        } else if !effects.is_empty() {
            let settled = format!("settled work [7]: {why}");
            let error = format!("error work `error` authorisation failed: {why}");
            assert_eq!(effects, [settled, error]);
            break;
        }
        for said in [bench.show("work"), bench.refresh("work")] {
            assert_eq!(said, format!("exchanging: {why}"));
        }
        assert_eq!(
            bench.condition("work"),
            "no token, exchanging in vain; next in 10s"
        );
        assert_eq!(bench.deadline().0, 10);
        // The reason stays while it is tried again.
        assert_eq!(bench.show("work"), format!("exchanging: {why}"));
        tries += 1;
    }
    assert_eq!(tries, 60);
    assert_eq!(
        bench.condition("work"),
        "no token, sign-in failed; no deadline"
    );
    assert_eq!(
        bench.show("work"),
        "sign in with state 3: a.example: no route to host"
    );
}

#[test]
fn the_reason_of_a_failed_sign_in_is_told_as_often_as_somebody_asks() {
    let mut bench = one();
    bench.show("work");
    bench.denied();
    for _ in 0..3 {
        assert_eq!(
            bench.show("work"),
            "sign in with state 3: access_denied",
            "the reason"
        );
        assert_eq!(bench.refresh("work"), "sign in with state 3: access_denied");
        assert_eq!(
            bench.condition("work"),
            "no token, pending again; next in 900s"
        );
    }
    // The next failure takes its place, and a sign-in ends it.
    bench.code();
    bench.effects();
    bench.outcome("work", &invalid_grant());
    assert_eq!(bench.show("work"), "sign in with state 5: invalid_grant");
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(1, 3600));
    assert_eq!(bench.condition("work"), "valid, scheduled; next in 3510s");
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    assert_eq!(bench.show("work"), "sign in with state 7");
}

#[test]
fn the_latest_reason_counts() {
    let mut bench = signed_in(3600);
    bench.deadline();
    bench.outcome("work", &invalid_grant());
    for _ in 0..2 {
        assert_eq!(bench.show("work"), "token access1");
        assert_eq!(bench.refresh("work"), "sign in with state 3: invalid_grant");
    }
    bench.denied();
    for _ in 0..2 {
        assert_eq!(bench.refresh("work"), "sign in with state 5: access_denied");
    }
    // Also when it is the provider that said something after that.
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(2, 3600));
    let start = bench.feed(|core, cx| {
        core.on(cx, "work", |it, env| {
            it.auth(env, false, false, false, Waiter(9))
        })
    });
    let Some(Ok(SignInStart::Open(SignInWays { browser_uri, .. }))) = start else {
        panic!("{start:?}");
    };
    bench.state = bench::state_of(&browser_uri.expect("an address"));
    bench.denied();
    bench.effects();
    bench.deadline();
    bench.outcome("work", &invalid_grant());
    assert_eq!(bench.refresh("work"), "sign in with state 9: invalid_grant");
}

#[test]
fn a_changed_registration_is_no_failed_sign_in() {
    let mut bench = signed_in(3600);
    let of = |host| config(HOOKS, &[("work", host)]);
    for host in ["b.example", "c.example"] {
        bench.feed(|core, cx| core.reload(cx, of(host)));
        assert_eq!(bench.condition("work"), "no token, lost; no deadline");
    }
    for _ in 0..2 {
        assert_eq!(
            bench.show("work"),
            "sign in with state 3: the account's registration was changed in the config"
        );
        assert_eq!(
            bench.condition("work"),
            "no token, lost, pending; next in 900s"
        );
    }
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(bench.condition("work"), "valid, scheduled; next in 3510s");
}

#[test]
fn late_outcomes_change_nothing() {
    let mut bench = signed_in(3600);
    bench.deadline();
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    assert_eq!(bench.effects(), ["announce work `event` token_revoked"]);
    for outcome in [tokens(2, 3600), invalid_grant(), invalid_client(), lost()] {
        bench.outcome("work", &outcome);
        assert_eq!(bench.effects(), [""; 0]);
        assert_eq!(bench.condition("work"), "no token; no deadline");
    }
}

#[test]
fn an_ended_sign_in_says_so_as_often_as_it_is_asked() {
    let mut bench = one();
    bench.show("work");
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(1, 3600));
    bench.effects();
    for _ in 0..3 {
        assert_eq!(bench.code(), "work over: done");
        assert_eq!(bench.effects(), [""; 0]);
    }
}

#[test]
fn everyone_who_waits_for_an_exchange_hears_of_its_end() {
    let mut bench = one();
    bench.log = false;
    bench.show("work");
    bench.code();
    bench.code();
    bench.denied();
    bench.effects();
    bench.outcome("work", &tokens(1, 3600));
    assert_eq!(
        bench.effects(),
        [
            "settled work [7, 7, 7]: done",
            "announce work `event` token_new"
        ]
    );
}

#[test]
fn a_token_of_unknown_life_is_shown_and_refreshed_by_age() {
    let mut bench = one();
    bench.show("work");
    bench.code();
    bench.effects();
    let body = r#"{"access_token":"a","refresh_token":"r","token_type":"bearer"}"#;
    bench.outcome("work", &reply(200, body));
    bench.effects();
    assert_eq!(bench.condition("work"), "valid, scheduled; next in 5400s");
    bench.pass(30 * 86_400);
    assert_eq!(bench.show("work"), "token a");
}

#[test]
fn a_reload_keeps_deadlines() {
    let mut bench = signed_in(3600);
    let before = bench.condition("work");
    let same = config(HOOKS, &[("work", "a.example")]);
    bench.feed(|core, cx| core.reload(cx, same));
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.condition("work"), before);
    assert_eq!(bench.deadline().0, 3510);
}

#[test]
fn a_reloaded_policy_bites_at_once() {
    let slow = format!("{HOOKS} refresh_retry = 2h;");
    let mut bench = Bench::new(config(&slow, &[("work", "a.example")]));
    sign_in(&mut bench, "work", 3600);
    bench.deadline();
    bench.outcome("work", &lost());
    bench.effects();
    assert_eq!(bench.condition("work"), "valid, failing 1; next in 7200s");
    let fast = config(HOOKS, &[("work", "a.example")]);
    bench.feed(|core, cx| core.reload(cx, fast));
    assert_eq!(bench.condition("work"), "valid, failing 1; next in 40s");
}

// Covers: H5
#[test]
fn the_floor_outlives_a_changed_registration() {
    let mut bench = signed_in(3600);
    let dump = bench.dump();
    for host in ["b.example", "a.example"] {
        let changed = config(HOOKS, &[("work", host)]);
        bench.feed(|core, cx| core.reload(cx, changed));
    }
    assert_eq!(bench.effects(), ["announce work `event` token_invalidated"]);
    assert_eq!(bench.restore(dump), 1);
    assert_eq!(bench.refresh("work"), "refreshing");
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.deadline().0, 10);
}

#[test]
fn a_refresh_waits_for_the_exchange() {
    let mut bench = one();
    bench.log = false;
    bench.show("work");
    bench.code();
    bench.effects();
    let dump = bench.saved(
        "work",
        Some("restored"),
        bench.now.instant.before(MIN_REQUEST_GAP),
    );
    assert_eq!(bench.restore(dump), 1);
    bench.pass(3600);
    assert_eq!(bench.show("work"), "refreshing");
    bench.feed(|core, cx| core.tick(cx));
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.core.poll_timeout(), None);
    bench.outcome("work", &lost());
    bench.effects();
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (0, 1), "{effects:?}");
}

#[test]
fn a_sign_in_without_a_refresh_token_leaves_the_one_on_its_way() {
    let mut bench = one();
    bench.log = false;
    bench.show("work");
    bench.effects();
    let dump = bench.saved("work", Some("restored"), bench.now.instant);
    bench.restore(dump);
    assert_eq!(bench.refresh("work"), "refreshing");
    bench.effects();
    let (refresh, sent) = (bench.attempt, bench.sent);
    bench.code();
    bench.effects();
    bench.outcome("work", &access_only(1, 3600));
    bench.effects();
    assert_eq!(bench.condition("work"), "valid, under way; no deadline");
    // The issuer has rotated: only this reply has the refresh token that works.
    (bench.attempt, bench.sent) = (refresh, sent);
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(bench.effects(), ["announce work `event` token_refreshed"]);
    let refresh_token = bench.dump().grants[0].refresh_token.clone();
    assert_eq!(refresh_token.expect("a token").expose(), "refresh2");
}

#[test]
fn a_dump_without_a_refresh_token_does_not_cost_one() {
    let mut bench = signed_in(3600);
    bench.pass(60);
    let dump = bench.saved("work", None, bench.now.instant);
    assert_eq!(bench.restore(dump), 1);
    assert_eq!(bench.show("work"), "token restored");
    let refresh_token = bench.dump().grants[0].refresh_token.clone();
    assert_eq!(refresh_token.expect("a token").expose(), "refresh1");
}

// Covers: H28
#[test]
fn a_clock_that_was_set_back_makes_no_dump_newer_and_no_token_older() {
    let mut bench = signed_in(3600);
    let (old, fresh) = (bench.dump(), bench.dump());
    bench.deadline();
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    bench.now.wall = bench
        .now
        .wall
        .before(std::time::Duration::from_secs(365 * 86_400));
    assert_eq!(bench.restore(old), 0);
    assert_eq!(bench.show("work"), "token access2");
    // Where nothing is held it is taken, but for no longer than its life, and renewed at once.
    let mut other = one();
    other.now = bench.now;
    assert_eq!(other.restore(fresh), 1);
    assert_eq!(other.condition("work"), "valid, scheduled; next in 0s");
    other.pass(3600);
    assert_eq!(other.show("work"), "refreshing");
}

/// A machine without a battery starts with the clock of its shutdown, eight hours ago: once it is set
/// right, the tokens are as old as they are.
// Covers: 88, clocks
#[test]
fn loaded_tokens_age_with_a_clock_that_is_set() {
    let hours = |n: u64| std::time::Duration::from_secs(n * 3600);
    for (life, after) in [
        (3600, "expired, scheduled; next in 0s"),
        (36_000, "valid, scheduled; next in 0s"),
    ] {
        let mut bench = signed_in(life);
        bench.pass(600);
        let dump = bench.dump();
        let mut other = one();
        other.now = bench.now;
        assert_eq!(other.restore(dump), 1);
        let condition = other.condition("work");
        assert!(
            condition.starts_with("valid, scheduled; next in "),
            "{condition}"
        );
        assert_eq!(other.show("work"), "token access1");
        // Little by little is no step.
        other.now.wall = other.now.wall.after(std::time::Duration::from_secs(9));
        assert_eq!(other.show("work"), "token access1");
        assert_eq!(other.condition("work"), condition);
        other.now.wall = other.now.wall.after(hours(8));
        other.feed(|_, _| ());
        assert_eq!(other.condition("work"), after);
        let (secs, effects) = other.deadline();
        assert_eq!((secs, effects.len()), (0, 1), "{effects:?}");
        other.outcome("work", &tokens(2, 3600));
        // Those of a reply have their times from the other clock.
        other.now.wall = other.now.wall.after(hours(8));
        assert_eq!(other.show("work"), "token access2");
        // Back again: what has died isn't alive for that.
        let dump = other.dump();
        let mut third = one();
        third.now = other.now;
        third.restore(dump);
        third.pass(3500);
        third.now.wall = third.now.wall.before(hours(8));
        assert_eq!(third.show("work"), "token access2");
        third.pass(100);
        assert_eq!(third.show("work"), "refreshing");
    }
}

/// Row 80: a refresh token that can't be used yet. Rows 81 and 82: one that ends.
// Covers: 80, 81, 82
#[test]
fn a_refresh_token_is_used_in_its_time() {
    let jwt = |claims: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!(
            "eyJhbGciOiJub25lIn0.{}.c2ln",
            URL_SAFE_NO_PAD.encode(claims)
        )
    };
    let now = 1_750_000_000;
    let nbf = |at: i64| jwt(&format!(r#"{{"nbf":{at}}}"#));
    for (expires_in, refresh_token, more, due) in [
        (120, "rt".to_owned(), "", 60),
        (120, "rt".into(), r#","refresh_token_expires_in":40"#, 20),
        (120, "rt".into(), r#","refresh_expires_in":"40""#, 20),
        (120, "rt".into(), r#","refresh_token_timeout":40"#, 20),
        (
            120,
            "rt".into(),
            r#","authorization_expires_in":40,"refresh_expires_in":90"#,
            20,
        ),
        (3600, "rt".into(), r#","refresh_expires_in":1800"#, 1350),
        (3600, "rt".into(), r#","refresh_expires_in":0"#, 3510),
        (
            3600,
            "rt".into(),
            r#","refresh_expires_in":"0","refresh_token_timeout":7776000"#,
            3510,
        ),
        (3600, "rt".into(), r#","refresh_expires_in":-1"#, 3510),
        (120, nbf(now + 90), "", 90),
        // What it says of itself needs no clock.
        (120, jwt(r#"{"iat":1000,"nbf":1100}"#), "", 100),
        (120, nbf(now - 90), "", 60),
        (120, nbf(now + 90_000), "", 60),
        (120, "a.!.c".into(), "", 60),
    ] {
        let mut bench = one();
        bench.show("work");
        bench.code();
        bench.effects();
        let text = format!(
            r#"{{"access_token":"a","token_type":"Bearer","expires_in":{expires_in},
                "refresh_token":"{refresh_token}"{more}}}"#
        );
        bench.outcome("work", &reply(200, &text));
        bench.effects();
        let wanted = format!("valid, scheduled; next in {due}s");
        assert_eq!(bench.condition("work"), wanted, "{text}");
        // A dump and a restart keep it.
        let dump = bench.dump();
        let ends = dump.grants[0].refresh_ends;
        let said = !more.is_empty() && !more.ends_with(":0") && !more.ends_with("-1");
        assert_eq!(ends.is_some(), said, "{text}");
        let mut other = one();
        other.now = bench.now;
        other.restore(dump);
        if !refresh_token.contains('.') {
            assert_eq!(other.condition("work"), wanted, "{text}");
        }
        // Somebody asks in vain before its time.
        if due > 60 && refresh_token.contains('.') {
            bench.pass(30);
            assert_eq!(
                bench.refresh("work"),
                format!("refreshing in {}s", due - 30)
            );
        }
    }
}

/// Retries don't outlast the refresh token, and a reply that says nothing of its end changes nothing.
#[test]
fn retries_come_before_the_refresh_tokens_end() {
    let mut bench = one();
    bench.show("work");
    bench.code();
    bench.effects();
    let text = r#"{"access_token":"a","token_type":"Bearer","expires_in":120,"refresh_token":"r",
        "refresh_expires_in":404}"#;
    bench.outcome("work", &reply(200, text));
    bench.deadline();
    let mut left = 344;
    for wait in [40, 80, 112, 56, 28] {
        bench.outcome("work", &not_sent());
        assert_eq!(bench.deadline().0, wait);
        left -= wait;
    }
    bench.outcome("work", &access_only(2, 3600));
    bench.effects();
    // What is left of the old one's life counts.
    assert_eq!(
        bench.condition("work"),
        format!("valid, scheduled; next in {}s", left / 2)
    );
}

/// A laptop that wakes up where there is a network tries at once what has failed elsewhere, and what has
/// stopped.
#[test]
fn a_change_of_the_network_is_a_reason_to_try_again() {
    for (outcome, tries) in [(not_sent(), 6), (invalid_client(), 1)] {
        let mut bench = one();
        bench.feed(|core, cx| core.network_changed(cx));
        bench.show("work");
        bench.code();
        bench.effects();
        bench.outcome("work", &tokens(1, 3600));
        bench.deadline();
        // What fails is about to be tried again in any case.
        bench.outcome("work", &outcome);
        assert!(bench.core.heeds_network());
        for _ in 1..tries {
            bench.deadline();
            bench.outcome("work", &outcome);
        }
        bench.effects();
        bench.pass(10);
        let before = bench.condition("work");
        bench.feed(|core, cx| core.network_changed(cx));
        assert!(!bench.core.heeds_network());
        if tries > 1 {
            assert!(before.ends_with("next in 590s"), "{before}");
            assert!(bench.condition("work").ends_with("next in 50s"));
        }
        bench.pass(70);
        bench.feed(|core, cx| core.tick(cx));
        bench.effects();
        bench.outcome("work", &outcome);
        assert!(bench.core.heeds_network());
        // Long after the last try it takes a moment.
        bench.effects();
        bench.pass(100);
        bench.feed(|core, cx| core.network_changed(cx));
        if tries > 1 {
            assert!(bench.condition("work").ends_with("next in 2s"));
        }
        let (_, effects) = bench.deadline();
        assert_eq!(effects.len(), 1, "{effects:?}");
        bench.outcome("work", &tokens(2, 3600));
        bench.feed(|core, cx| core.network_changed(cx));
        assert_eq!(bench.condition("work"), "valid, scheduled; next in 3510s");
    }
}

/// Nobody knows whether tokens from the future are newer: what works without a person stays.
#[test]
fn a_dump_from_the_future_replaces_only_what_does_not_work() {
    let valid_but_refused = |bench: &mut Bench| {
        bench.deadline();
        bench.outcome("work", &invalid_grant());
    };
    let expired = |bench: &mut Bench| bench.pass(3600);
    let expired_and_refused = |bench: &mut Bench| {
        valid_but_refused(bench);
        bench.pass(3600);
    };
    type Make<'a> = &'a dyn Fn(&mut Bench);
    let cases: [(Make, usize); 3] = [
        (&valid_but_refused, 0),
        (&expired, 0),
        (&expired_and_refused, 1),
    ];
    for (at, (make, taken)) in cases.into_iter().enumerate() {
        let mut bench = signed_in(3600);
        make(&mut bench);
        let ahead = bench.now.instant.after(MIN_REQUEST_GAP);
        let dump = bench.saved("work", Some("other"), ahead);
        assert_eq!(bench.restore(dump), taken, "case {at}");
    }
}

#[test]
fn a_request_is_waited_for_until_it_is_answered() {
    let mut bench = one();
    bench.show("work");
    assert!(!bench.core.awaits_reply());
    bench.code();
    bench.effects();
    assert!(bench.core.awaits_reply());
    for outcome in [tokens(1, 3600), lost(), tokens(2, 3600)] {
        bench.outcome("work", &outcome);
        assert!(!bench.core.awaits_reply());
        bench.deadline();
        assert!(bench.core.awaits_reply());
    }
}

#[test]
fn restored_without_an_access_token_it_is_refreshed_at_once() {
    let mut bench = one();
    let mut dump = bench.saved("work", Some("restored"), bench.now.instant);
    dump.grants[0].access = None;
    assert_eq!(bench.restore(dump), 1);
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (0, 1), "{effects:?}");
}

#[test]
fn dump_and_restore_are_inverse() {
    let accounts = [("work", "a.example"), ("home", "b.example")];
    let mut bench = Bench::new(config(HOOKS, &accounts));
    for (name, _) in accounts {
        sign_in(&mut bench, name, 3600);
        bench.pass(100);
    }
    let dump = bench.dump();
    let mut other = Bench::new(config(HOOKS, &accounts));
    // Another process, on a machine that has been up for less long.
    other.now.instant = Instant::from_millis(500_000_000);
    other.now.wall = bench.now.wall;
    let copy = bench.dump();
    assert_eq!(other.restore(copy), 2);
    assert_eq!(other.dump(), dump);
    assert_eq!(other.condition("home"), bench.condition("home"));
    // Again it changes nothing.
    assert_eq!(other.restore(dump), 0);
}

#[test]
fn a_dump_in_pieces_restores_what_the_whole_does() {
    let accounts = ["a", "b", "c", "d", "e"].map(|name| (name, "a.example"));
    let mut bench = Bench::new(config(HOOKS, &accounts));
    for (name, _) in accounts {
        sign_in(&mut bench, name, 3600);
        bench.pass(100);
    }
    let whole = bench.dump();
    // What is sealed apart is what the core seals.
    assert_eq!(bench.core.unsealed_dump(bench.now), whole);
    for (size, sizes) in [(1, &[1; 5][..]), (2, &[2, 2, 1]), (5, &[5]), (9, &[5])] {
        let mut other = Bench::new(config(HOOKS, &accounts));
        other.now = bench.now;
        let pieces = bench.dump().pieces(size);
        let taken: Vec<usize> = pieces.map(|piece| other.restore(piece)).collect();
        assert_eq!(taken, sizes, "pieces of {size}");
        assert_eq!(other.dump(), whole, "pieces of {size}");
    }
}

#[test]
fn restore_ignores_what_is_not_of_the_same_registration() {
    let mut bench = signed_in(3600);
    let dump = bench.dump();
    let mut other = Bench::new(config(HOOKS, &[("work", "b.example")]));
    other.now = bench.now;
    assert_eq!(other.restore(dump), 0);
    assert_eq!(other.condition("work"), "no token; no deadline");
    assert_eq!(other.restore(Dump::default()), 0);
}

/// What has never worked stops at once, and is told once; then it is tried every hour, when somebody
/// asks after its expiry, and after a reload.
// Covers: H3
#[test]
fn a_parked_refresh_is_told_once_and_tried_again_after_a_reload() {
    let mut bench = signed_in(7200);
    bench.deadline();
    bench.outcome("work", &invalid_client());
    assert_eq!(bench.effects().len(), 1);
    assert_eq!(bench.condition("work"), "valid, parked; next in 3600s");
    // By itself.
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (3600, 1), "{effects:?}");
    bench.outcome("work", &invalid_client());
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.condition("work"), "expired, parked; next in 3600s");
    // By a show.
    bench.pass(59);
    assert_eq!(bench.show("work"), "parked: invalid_client");
    assert_eq!(bench.effects(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.show("work"), "refreshing: invalid_client");
    assert_eq!(bench.effects().len(), 1);
    // What passes doesn't begin anew what is known to be wrong.
    bench.outcome("work", &not_sent());
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.show("work"), "parked: invalid_client");
    assert_eq!(bench.condition("work"), "expired, parked; next in 3600s");
    let same = config(HOOKS, &[("work", "a.example")]);
    bench.feed(|core, cx| core.reload(cx, same));
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (10, 1), "{effects:?}");
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(bench.effects(), ["announce work `event` token_refreshed"]);
}

/// One answer doesn't outweigh weeks of success: it must come for a day.
// Covers: 79
#[test]
fn what_has_worked_is_not_given_up_for_a_day() {
    let mut bench = signed_in(3600);
    bench.deadline();
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    bench.deadline();
    let (begun, mut told) = (bench.now.instant, Vec::new());
    loop {
        bench.outcome("work", &invalid_client());
        told.extend(bench.effects());
        if bench.condition("work").contains("parked") {
            break;
        }
        assert!(bench.deadline().0 <= 600);
    }
    let span = bench.now.instant.since(begun).as_secs();
    assert!((86_400..87_000).contains(&span), "{span}");
    let begins = [
        "error work `error` refresh failed, trying again in ",
        "error work `error` refreshing has stopped: ",
    ];
    let as_told = told
        .iter()
        .zip(begins)
        .all(|(line, begin)| line.starts_with(begin));
    assert!(told.len() == 2 && as_told, "{told:?}");
    // A changed client is one that has never worked.
    bench.deadline();
    bench.outcome("work", &tokens(3, 3600));
    let other = config(HOOKS, &[("work", "a.example")]);
    let text = |secret: &str| {
        format!(
            r#"account "work" {{ auth_uri = "https://a.example/auth"; client_id = "id"; {secret}
                token_uri = "https://a.example/token"; scopes = ["mail"]; }}"#
        )
    };
    for (config, parked) in [
        (other, false),
        (
            parse("test.conf", &text("client_secret = \"x\";")).unwrap(),
            true,
        ),
    ] {
        bench.feed(|core, cx| core.reload(cx, config));
        bench.effects();
        bench.deadline();
        bench.outcome("work", &invalid_client());
        assert_eq!(bench.condition("work").contains("parked"), parked);
    }
}

// Covers: clocks, H28
#[test]
fn three_days_asleep_cost_no_login() {
    let mut bench = signed_in(3600);
    bench.pass(3 * 86_400);
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (0, 1), "{effects:?}");
    bench.outcome("work", &not_sent());
    assert_eq!(bench.effects(), [""; 0]);
    bench.pass(5);
    assert_eq!(
        bench.show("work"),
        "refreshing: a.example: no route to host"
    );
    assert_eq!(bench.deadline().0, 5);
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    assert_eq!(bench.show("work"), "token access2");
}

/// The provider's longer wish counts, in whatever order they arrive, and never for more than a quarter
/// of an hour.
#[test]
fn a_shorter_retry_after_does_not_replace_a_longer_one() {
    for (spans, counts) in [([300, 90], 300), ([90, 300], 300), ([3600, 1], 900)] {
        let mut bench = signed_in(3600);
        bench.deadline();
        bench.outcome("work", &busy(spans[0]));
        bench.pass(91);
        assert_eq!(
            bench.show("work"),
            "refreshing: a.example answered 429 with an empty reply"
        );
        bench.effects();
        bench.outcome("work", &busy(spans[1]));
        let (secs, effects) = bench.deadline();
        let left = if spans[0] > spans[1] {
            counts - 91
        } else {
            counts
        };
        assert_eq!((secs, effects.len()), (left, 1), "{spans:?}");
    }
}

/// A pause is obeyed while the token lives. Then whoever asks may have the provider asked once a
/// minute, and is told when.
// Covers: 86
#[test]
fn a_pause_does_not_outlast_the_token_for_those_who_ask() {
    let mut bench = signed_in(3600);
    bench.deadline();
    bench.outcome("work", &busy(3600));
    bench.pass(20);
    let deferred =
        |secs: u64| format!("refreshing in {secs}s: a.example answered 429 with an empty reply");
    // 70 s are left of the token's life.
    assert_eq!(bench.refresh("work"), deferred(70));
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.deadline().0, 70);
    bench.outcome("work", &busy(3600));
    bench.pass(15);
    assert_eq!(bench.refresh("work"), deferred(45));
    let why = "refreshing: a.example answered 429 with an empty reply";
    for event in ["show", "reload"] {
        bench.pass(45);
        match event {
            "show" => assert_eq!(bench.show("work"), why),
            _ => {
                let same = config(HOOKS, &[("work", "a.example")]);
                bench.feed(|core, cx| core.reload(cx, same));
                bench.feed(|core, cx| core.tick(cx));
            }
        }
        assert_eq!(bench.effects().len(), 1, "{event}");
        bench.outcome("work", &busy(3600));
        bench.pass(15);
        assert_eq!(bench.effects(), [""; 0]);
    }
    // Nobody asks: a quarter of an hour of silence.
    assert_eq!(bench.deadline().0, 885);
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    assert_eq!(bench.show("work"), "token access2");
    assert_eq!(bench.refresh("work"), "refreshing");
}

/// The same refusal without an explanation is told at the fifth time in a row: another one, and
/// one that explains itself, begin a new row.
#[test]
fn a_row_of_unexplained_refusals_is_counted_from_its_own_first() {
    let empty = || reply(400, "");
    let page = || reply(400, "<html>");
    let busy = || reply(503, "");
    for (before, told) in [
        (vec![], 5),
        (vec![page()], 6),
        (vec![empty(), page()], 7),
        (vec![empty(), empty(), busy()], 8),
        (vec![lost(), busy()], 7),
    ] {
        let mut bench = signed_in(3600);
        let case = format!("{before:?}");
        let outcomes = before.into_iter().chain(std::iter::repeat_with(empty));
        let errors = outcomes.take(9).enumerate().filter_map(|(at, outcome)| {
            bench.deadline();
            bench.outcome("work", &outcome);
            let effects = bench.effects();
            let error = |line: &String| line.starts_with("error ");
            effects.iter().any(error).then_some(at + 1)
        });
        assert_eq!(errors.collect::<Vec<_>>(), [told], "{case}");
    }
}

/// RFC 6749, 6: what a refresh doesn't say is as it was.
#[test]
fn a_refresh_that_names_no_scopes_keeps_those_granted() {
    let scoped = |n: u32, scope: &str| {
        reply(
            200,
            &format!(
                r#"{{"access_token":"access{n}","refresh_token":"refresh{n}",
                    "token_type":"bearer","expires_in":3600{scope}}}"#
            ),
        )
    };
    let mut bench = one();
    bench.show("work");
    bench.code();
    bench.effects();
    bench.outcome("work", &scoped(1, r#","scope":"mail calendar""#));
    for (scope, kept) in [
        ("", vec!["mail", "calendar"]),
        (r#","scope":"mail""#, vec!["mail"]),
        ("", vec!["mail"]),
    ] {
        bench.deadline();
        bench.outcome("work", &scoped(2, scope));
        let dump = bench.dump();
        let access = dump.grants[0].access.as_ref().expect("an access token");
        let scopes = access.scopes.as_deref().expect("scopes");
        assert_eq!(scopes, kept, "after {scope:?}");
    }
}

/// RFC 9700, 4.4: whoever sends the browser to another provider gets nothing of what it answers.
// Covers: 98
#[test]
fn a_response_that_arrives_at_another_redirect_changes_nothing() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    for at in [
        "http://localhost/other",
        "http://127.0.0.1/",
        "https://localhost/",
    ] {
        assert_eq!(bench.code_at(at), "work: other issuer");
        let log = "log WARN work: an authorization response that arrived elsewhere was ignored";
        assert_eq!(bench.effects(), [log]);
    }
    assert_eq!(bench.code(), "wait for work");
    // Nor does it wait for the end.
    assert_eq!(bench.code_at("http://127.0.0.1/"), "work: other issuer");
}
