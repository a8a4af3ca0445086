//! Those who wait for a token: when they hear, and what.

use std::time::Duration;

use super::bench::{Bench, busy, invalid_client, invalid_grant, tokens};
use super::{one, sign_in, signed_in};
use crate::core::{Patience, Progress, Show, ShowAnswer, ShowRequest, Waiter};
use crate::form::Form;

/// What is asked for, by the client with this number.
fn ask(bench: &mut Bench, waiter: u64, min_valid_secs: u64, patience: Patience) -> String {
    let ask = ShowRequest {
        waiter: Waiter(waiter),
        form: Form::default(),
        no_url: false,
        min_valid: Duration::from_secs(min_valid_secs),
        patience,
    };
    match bench.feed(|core, cx| core.ask(cx, "work", ask)) {
        None => "waits".into(),
        Some(answer) => told(&answer),
    }
}

pub fn told(answer: &ShowAnswer) -> String {
    match answer {
        ShowAnswer::Token(handed) => handed.token.expose().into(),
        ShowAnswer::Not { show, left, .. } => {
            let show = match show {
                Show::Token(_) => "token",
                Show::Coming(Progress::SignIn { .. }) => "sign in",
                Show::Coming(Progress::Discovering { .. }) => "discovering",
                Show::Coming(Progress::AskingForCode) => "asking for a code",
                Show::Coming(Progress::Exchanging { .. }) => "exchanging",
                Show::Coming(Progress::Refreshing { trouble: None }) => "refreshing",
                Show::Coming(Progress::Refreshing { trouble: Some(_) }) => "failing",
                Show::Coming(Progress::Deferred { .. }) => "deferred",
                Show::Parked(_) => "parked",
            };
            match left {
                Some(left) => format!("{show}, {}s left", left.as_secs()),
                None => show.into(),
            }
        }
        ShowAnswer::ShortLived { lifetime } => format!("lives {}s", lifetime.as_secs()),
        ShowAnswer::Failed(refusal) => format!("failed: {}", refusal.text),
        ShowAnswer::Gone => "gone".into(),
    }
}

/// The effects that are answers, as `waiter: answer`; how many requests there were beside.
fn answers(bench: &mut Bench) -> (Vec<String>, usize) {
    let effects = bench.effects();
    let answers = effects
        .iter()
        .filter_map(|line| line.strip_prefix("answer work "));
    let requests = effects.iter().filter(|line| line.starts_with("request "));
    (answers.map(str::to_owned).collect(), requests.count())
}

fn heard(answers: &[&str], requests: usize) -> (Vec<String>, usize) {
    let answers = answers.iter().map(|answer| (*answer).to_owned());
    (answers.collect(), requests)
}

#[test]
fn a_token_that_is_long_enough_is_given_at_once() {
    let mut bench = signed_in(3600);
    bench.pass(600);
    for patience in [Patience::None, Patience::Refresh, Patience::Token] {
        assert_eq!(ask(&mut bench, 1, 2999, patience), "access1");
    }
    assert_eq!(answers(&mut bench), heard(&[], 0));
}

#[test]
fn one_refresh_is_shared_and_every_waiter_is_answered_once() {
    let mut bench = signed_in(3600);
    bench.pass(600);
    assert_eq!(ask(&mut bench, 1, 3001, Patience::Refresh), "waits");
    assert_eq!(ask(&mut bench, 2, 3100, Patience::Token), "waits");
    assert_eq!(
        ask(&mut bench, 3, 3100, Patience::None),
        "refreshing, 3000s left"
    );
    assert_eq!(answers(&mut bench), heard(&[], 1));
    bench.pass(2);
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(answers(&mut bench), heard(&["1: access2", "2: access2"], 0));
    bench.outcome("work", &tokens(3, 3600));
    assert_eq!(answers(&mut bench), heard(&[], 0));
}

#[test]
fn a_life_that_the_provider_never_gives_is_refused_and_costs_no_request() {
    let mut bench = signed_in(3600);
    bench.pass(600);
    // Ten seconds beyond what is asked for, for the way and the next who asks.
    for min_valid in [3591, 7200] {
        for patience in [Patience::None, Patience::Refresh, Patience::Token] {
            assert_eq!(ask(&mut bench, 1, min_valid, patience), "lives 3600s");
        }
    }
    assert_eq!(answers(&mut bench), heard(&[], 0));
    // One that could do, but doesn't when it comes, ends the wait as well.
    assert_eq!(ask(&mut bench, 1, 3590, Patience::Token), "waits");
    assert_eq!(answers(&mut bench), heard(&[], 1));
    bench.pass(12);
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(answers(&mut bench), heard(&["1: lives 3600s"], 0));
}

#[test]
fn however_often_one_asks_requests_keep_their_distance() {
    let mut bench = signed_in(60);
    let mut requests = 0;
    let mut number = 1;
    for second in 0..100 {
        ask(&mut bench, second, 45, Patience::Refresh);
        bench.feed(|core, cx| core.tick(cx));
        let (_, sent) = answers(&mut bench);
        if sent > 0 {
            requests += sent;
            number += 1;
            bench.outcome("work", &tokens(number, 60));
            answers(&mut bench);
        }
        bench.pass(1);
    }
    // One in 16 seconds: 60 to live, less than 45 left.
    assert_eq!(requests, 6);
}

#[test]
fn a_failure_ends_the_wait_for_a_refresh_and_a_token_that_for_a_token() {
    let mut bench = signed_in(60);
    bench.pass(61);
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    assert_eq!(ask(&mut bench, 2, 30, Patience::Refresh), "waits");
    assert_eq!(answers(&mut bench), heard(&[], 1));
    bench.outcome("work", &busy(0));
    assert_eq!(answers(&mut bench), heard(&["2: failing"], 0));
    let (_, effects) = bench.deadline();
    assert_eq!(effects.len(), 1, "{effects:?}");
    bench.outcome("work", &tokens(2, 60));
    assert_eq!(answers(&mut bench), heard(&["1: access2"], 0));
}

#[test]
fn a_refusal_makes_them_wait_for_a_person() {
    let mut bench = signed_in(60);
    bench.pass(61);
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    assert_eq!(ask(&mut bench, 2, 30, Patience::Refresh), "waits");
    answers(&mut bench);
    bench.outcome("work", &invalid_grant());
    assert_eq!(answers(&mut bench), heard(&["2: sign in"], 0));
    bench.show("work");
    bench.code();
    assert_eq!(answers(&mut bench), heard(&[], 1));
    bench.outcome("work", &tokens(2, 60));
    assert_eq!(answers(&mut bench), heard(&["1: access2"], 0));
}

#[test]
fn what_no_wait_can_mend_ends_every_wait() {
    // The user says no.
    let mut bench = one();
    assert_eq!(ask(&mut bench, 1, 0, Patience::Refresh), "sign in");
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    bench.show("work");
    answers(&mut bench);
    bench.denied();
    let (told, _) = answers(&mut bench);
    assert!(told[0].starts_with("1: failed: access_denied"), "{told:?}");
    // And is not asked again because of that.
    assert!(bench.effects().is_empty());

    // The configuration is wrong.
    let mut bench = signed_in(60);
    bench.pass(61);
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    answers(&mut bench);
    bench.outcome("work", &invalid_client());
    assert_eq!(answers(&mut bench), heard(&["1: parked"], 0));
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "parked");

    // The tokens are given up.
    let mut bench = one();
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    bench.feed(|core, cx| core.revoke(cx, "work"));
    assert_eq!(
        answers(&mut bench),
        heard(&["1: failed: the account's tokens were revoked"], 0)
    );
}

#[test]
fn who_gives_up_or_leaves_is_not_answered_again() {
    let mut bench = one();
    assert_eq!(ask(&mut bench, 1, 0, Patience::Token), "waits");
    assert_eq!(ask(&mut bench, 2, 0, Patience::Token), "waits");
    assert_eq!(ask(&mut bench, 3, 0, Patience::Token), "waits");
    let answer = bench.feed(|core, cx| core.give_up(cx, "work", Waiter(1)));
    assert_eq!(answer.as_ref().map(told), Some("sign in".into()));
    let again = bench.feed(|core, cx| core.give_up(cx, "work", Waiter(1)));
    assert_eq!(again, None);
    bench.core.forget("work", Waiter(2));
    sign_in(&mut bench, "work", 60);
    assert_eq!(ask(&mut bench, 4, 0, Patience::None), "access1");
    let gone = bench.feed(|core, cx| core.give_up(cx, "work", Waiter(3)));
    assert_eq!(gone, None);
}
