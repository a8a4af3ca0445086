//! Every state an account can be in, and every event that it can meet there: the answer, all
//! effects, and what is left. `table.txt` has what is expected; it is read by people before it is
//! committed. PIZAUTH_WRITE_TABLE=1 writes it anew.

use std::{env, fmt::Write, fs};

use super::bench::{
    Bench, HOOKS, access_only, config, invalid_client, invalid_grant, lost, not_sent, reply, tokens,
};

const EXPECTED: &str = include_str!("table.txt");

/// A way to a state.
type State = (&'static str, fn() -> Bench);

/// An event, and its answer.
type Event = (&'static str, fn(&mut Bench) -> String);

const STATES: [State; 20] = [
    ("absent", absent),
    ("pending", pending),
    ("exchanging", exchanging),
    ("exchange to be retried", || {
        after(exchanging, &[not_sent()])
    }),
    ("valid", valid),
    ("valid, refresh wanted within the floor", || {
        let mut bench = valid();
        bench.refresh("work");
        bench.effects();
        bench
    }),
    ("valid, in flight", in_flight),
    ("valid, failing", || after(in_flight, &[lost()])),
    ("valid, probing", probing),
    ("valid, rejected", || after(in_flight, &[invalid_grant()])),
    ("valid, parked", || after(in_flight, &[invalid_client()])),
    ("expired", || expired(valid)),
    ("expired, in flight", || expired(in_flight)),
    ("expired, failing", || {
        expired(|| after(in_flight, &[lost()]))
    }),
    ("expired, probing", || expired(probing)),
    ("expired, rejected", || {
        expired(|| after(in_flight, &[invalid_grant()]))
    }),
    ("expired, rejected, pending", || {
        let mut bench = expired(|| after(in_flight, &[invalid_grant()]));
        bench.show("work");
        bench.effects();
        bench
    }),
    ("expired, parked", || {
        expired(|| after(in_flight, &[invalid_client()]))
    }),
    ("valid, no refresh token", || {
        after(exchanging, &[access_only(1, 3600)])
    }),
    ("expired, no refresh token", || {
        expired(|| after(exchanging, &[access_only(1, 3600)]))
    }),
];

const EVENTS: [Event; 21] = [
    ("show", |bench| bench.show("work")),
    ("refresh", |bench| bench.refresh("work")),
    ("revoke", |bench| {
        let told = bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
        told.is_some().to_string()
    }),
    ("tick", |bench| {
        bench.feed(|core, cx| core.tick(cx));
        String::new()
    }),
    ("callback with a code", Bench::code),
    ("callback with an error", Bench::denied),
    ("callback of another issuer", |bench| {
        let code = crate::oauth::authorization::CallbackResult::Code(crate::secret::Secret::new(
            "code".into(),
        ));
        let state = bench.state.clone();
        bench.callback(&state, Some("https://evil.example"), code)
    }),
    ("callback with an unknown state", |bench| {
        bench.state = "f".repeat(64);
        bench.code()
    }),
    ("tokens", |bench| outcome(bench, &tokens(2, 3600))),
    ("tokens without a refresh token", |bench| {
        outcome(bench, &access_only(2, 3600))
    }),
    ("invalid_grant", |bench| outcome(bench, &invalid_grant())),
    ("invalid_client", |bench| outcome(bench, &invalid_client())),
    ("a captive portal", |bench| {
        outcome(bench, &reply(200, "<html>Welcome</html>"))
    }),
    ("a lost reply", |bench| outcome(bench, &lost())),
    ("nothing sent", |bench| outcome(bench, &not_sent())),
    ("a late outcome", |bench| {
        bench.attempt = super::super::AttemptId(999);
        outcome(bench, &tokens(2, 3600))
    }),
    ("probe: transient", |bench| {
        bench.probed("work", true);
        String::new()
    }),
    ("probe: definite", |bench| {
        bench.probed("work", false);
        String::new()
    }),
    ("reload, same", |bench| {
        reload(bench, &[("work", "a.example")])
    }),
    ("reload, other registration", |bench| {
        reload(bench, &[("work", "b.example")])
    }),
    ("reload, removed", |bench| {
        reload(bench, &[("home", "b.example")])
    }),
];

/// Restores have two rows of their own: of newer and of older tokens.
const RESTORES: [Event; 2] = [
    ("restore, newer", |bench| {
        let dump = bench.saved("work", Some("restored"), bench.now.instant);
        format!("{} taken", bench.restore(dump))
    }),
    ("restore, older", |bench| {
        let before = crate::time::Instant::from_millis(900_000_000);
        let dump = bench.saved("work", Some("restored"), before);
        format!("{} taken", bench.restore(dump))
    }),
];

fn outcome(bench: &mut Bench, outcome: &crate::oauth::token::Outcome) -> String {
    bench.outcome("work", outcome);
    String::new()
}

fn reload(bench: &mut Bench, accounts: &[(&str, &str)]) -> String {
    let config = config(HOOKS, accounts);
    bench.feed(|core, cx| core.reload(cx, config));
    String::new()
}

fn absent() -> Bench {
    Bench::new(config(HOOKS, &[("work", "a.example")]))
}

fn pending() -> Bench {
    let mut bench = absent();
    bench.show("work");
    bench.effects();
    bench.pass(5);
    bench
}

fn exchanging() -> Bench {
    let mut bench = pending();
    bench.code();
    bench.effects();
    bench.pass(5);
    bench
}

fn valid() -> Bench {
    after(exchanging, &[tokens(1, 3600)])
}

fn in_flight() -> Bench {
    let mut bench = valid();
    bench.deadline();
    bench
}

fn probing() -> Bench {
    let mut bench = in_flight();
    let probe = format!("{HOOKS} transient_error_if_cmd = \"probe\";");
    let config = config(&probe, &[("work", "a.example")]);
    bench.feed(|core, cx| core.reload(cx, config));
    bench.outcome("work", &lost());
    bench.effects();
    bench
}

/// `state`, and then these outcomes of its last request.
fn after(state: fn() -> Bench, outcomes: &[crate::oauth::token::Outcome]) -> Bench {
    let mut bench = state();
    for outcome in outcomes {
        bench.outcome("work", outcome);
        bench.effects();
    }
    bench
}

/// `state`, and two hours later; nothing has ticked.
fn expired(state: impl Fn() -> Bench) -> Bench {
    let mut bench = state();
    bench.pass(7200);
    bench
}

#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (state, make) in STATES {
        let bench = make();
        let condition = bench.condition("work");
        let _ = writeln!(table, "== {state} ({condition})");
        for (event, meet) in EVENTS.iter().chain(&RESTORES) {
            let mut bench = bench.clone();
            let answer = meet(&mut bench);
            let colon = if answer.is_empty() { "" } else { ": " };
            let _ = writeln!(table, "{event}{colon}{answer}");
            for effect in bench.effects() {
                let _ = writeln!(table, "    {effect}");
            }
            let left = bench.condition("work");
            if left != condition {
                let _ = writeln!(table, "    -> {left}");
            }
        }
        table.push('\n');
    }
    if env::var_os("PIZAUTH_WRITE_TABLE").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/core/tests/table.txt");
        fs::write(file, &table).expect("a table");
    } else if let Some((got, expected)) = table
        .lines()
        .chain([""])
        .zip(EXPECTED.lines().chain([""]))
        .find(|(got, expected)| got != expected)
    {
        panic!("got      {got}\nexpected {expected}\nin\n{table}");
    }
    assert!(table == EXPECTED || env::var_os("PIZAUTH_WRITE_TABLE").is_some());
}
