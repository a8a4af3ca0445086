//! Those who wait for a token: when they hear, and what.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::bench::{Bench, busy, invalid_client, invalid_grant, reply, tokens};
use super::{one, sign_in, signed_in};
use crate::core::{
    Core, Cx, Env, LiveAccount, Patience, Progress, ShowAnswer, ShowRequest, Waiter,
};
use crate::form::Form;
use crate::oauth::token::Outcome;
use crate::view::SignInView;

/// What is asked for, by the client with this number.
fn ask(bench: &mut Bench, waiter: u64, min_valid_secs: u64, patience: Patience) -> String {
    let ask = ShowRequest {
        waiter: Waiter(waiter),
        form: Form::default(),
        no_url: false,
        min_valid: Duration::from_secs(min_valid_secs),
        patience,
        process: None,
    };
    match bench.feed(|core, cx| core.ask(cx, "work", ask)) {
        None => "waits".into(),
        Some(answer) => told(&answer),
    }
}

pub fn told(answer: &ShowAnswer) -> String {
    match answer {
        ShowAnswer::Token(handed) => handed.token.expose().into(),
        ShowAnswer::Not { progress, left, .. } => {
            let progress = match progress {
                Progress::SignIn { .. } => "sign in",
                Progress::Discovering { .. } => "discovering",
                Progress::AskingForCode => "asking for a code",
                Progress::Exchanging { .. } => "exchanging",
                Progress::Refreshing { trouble: None } => "refreshing",
                Progress::Refreshing { trouble: Some(_) } => "failing",
                Progress::Deferred { .. } => "deferred",
                Progress::Parked(_) => "parked",
            };
            match left {
                Some(left) => format!("{progress}, {}s left", left.as_secs()),
                None => progress.into(),
            }
        }
        ShowAnswer::ShortLived { lifetime } => format!("lives {}s", lifetime.as_secs()),
        ShowAnswer::NoIdToken => "no ID token".into(),
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
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
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
    let answer = bench.feed(|core, cx| {
        core.on(cx, "work", |it, env| it.give_up(env, Waiter(1)))
            .flatten()
    });
    assert_eq!(answer.as_ref().map(told), Some("sign in".into()));
    let again = bench.feed(|core, cx| {
        core.on(cx, "work", |it, env| it.give_up(env, Waiter(1)))
            .flatten()
    });
    assert_eq!(again, None);
    bench.feed(|core, cx| core.on(cx, "work", |it, _| it.forget(Waiter(2))));
    sign_in(&mut bench, "work", 60);
    assert_eq!(ask(&mut bench, 4, 0, Patience::None), "access1");
    let gone = bench.feed(|core, cx| {
        core.on(cx, "work", |it, env| it.give_up(env, Waiter(3)))
            .flatten()
    });
    assert_eq!(gone, None);
}

// ---- for which program ------------------------------------------------------------------------

/// The same by this process.
fn ask_by(bench: &mut Bench, waiter: u64, process: i32, patience: Patience) -> String {
    let ask = ShowRequest {
        waiter: Waiter(waiter),
        process: Some(process),
        patience,
        ..ShowRequest::default()
    };
    let answer = bench.feed(|core, cx| core.ask(cx, "work", ask));
    answer.map_or("waits".into(), |answer| told(&answer))
}

fn identified(bench: &mut Bench, requester: Option<&str>) {
    let requester = requester.map(str::to_owned);
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.identified(env, requester)));
}

/// For which program the sign-in has begun, as `status` says.
fn requester(bench: &Bench) -> Option<String> {
    match bench.core.view("work", bench.now).map(|it| it.sign_in) {
        Some(SignInView::Pending { requester, .. }) => requester,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sign_in_begins_when_it_is_known_which_program_asks() {
    let mut bench = one();
    bench.log = false;
    assert_eq!(ask_by(&mut bench, 1, 7, Patience::None), "waits");
    assert_eq!(ask_by(&mut bench, 2, 8, Patience::Token), "waits");
    assert_eq!(bench.effects(), ["look up 7", "look up 8"]);
    identified(&mut bench, Some("msmtp"));
    let effects = bench.effects();
    let notified: Vec<_> = effects
        .iter()
        .filter(|it| it.starts_with("notify"))
        .collect();
    assert!(
        matches!(&notified[..], [it] if it.ends_with(", by msmtp")),
        "{effects:?}"
    );
    assert!(
        effects.contains(&"answer work 1: sign in".into()),
        "{effects:?}"
    );
    // Whoever comes later, or is looked up later, changes nothing.
    identified(&mut bench, Some("mbsync"));
    assert_eq!(ask_by(&mut bench, 3, 9, Patience::None), "sign in");
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(requester(&bench).as_deref(), Some("msmtp"));
    let (_, effects) = bench.deadline();
    assert!(
        matches!(&effects[..], [it] if it.ends_with(", by msmtp")),
        "{effects:?}"
    );
    // The next sign-in is nobody's that asks for a token.
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    let begin = |it: &mut LiveAccount, env: &mut Env| it.auth(env, false, false, false, Waiter(4));
    let _ = bench.feed(|core, cx| core.on(cx, "work", begin));
    assert_eq!(requester(&bench), None);
}

#[test]
fn a_sign_in_needs_no_answer_to_which_program_asks() {
    for patience in [Patience::None, Patience::Refresh, Patience::Token] {
        // Nobody knows.
        let mut bench = one();
        assert_eq!(ask_by(&mut bench, 1, 7, patience), "waits");
        identified(&mut bench, None);
        assert_eq!(requester(&bench), None);
        // It takes too long.
        let mut bench = one();
        assert_eq!(ask_by(&mut bench, 1, 7, patience), "waits");
        let late = |core: &mut Core, cx: &mut Cx| {
            core.on(cx, "work", |it, env| it.give_up(env, Waiter(1)))
        };
        let answer = bench.feed(late).flatten();
        assert_eq!(answer.as_ref().map(told), Some("sign in".into()));
        identified(&mut bench, Some("msmtp"));
        assert_eq!(requester(&bench), None);
        // The client has gone meanwhile, or the user wants it no more.
        let mut bench = one();
        assert_eq!(ask_by(&mut bench, 1, 7, patience), "waits");
        assert_eq!(ask_by(&mut bench, 2, 7, patience), "waits");
        bench.feed(|core, cx| core.on(cx, "work", |it, _| it.forget(Waiter(1))));
        bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
        let (heard, _) = answers(&mut bench);
        assert_eq!(heard, ["2: failed: the account's tokens were revoked"]);
        identified(&mut bench, Some("msmtp"));
        let view = bench.core.view("work", bench.now);
        assert_eq!(view.map(|it| it.sign_in), Some(SignInView::None));
    }
}

#[test]
fn nobody_is_looked_up_where_no_sign_in_begins() {
    let mut bench = signed_in(3600);
    assert_eq!(ask_by(&mut bench, 1, 7, Patience::None), "access1");
    bench.pass(3600);
    bench.effects();
    assert_eq!(ask_by(&mut bench, 2, 7, Patience::None), "refreshing");
    assert_eq!(ask_by(&mut bench, 3, 7, Patience::Token), "waits");
    assert_eq!(
        bench
            .effects()
            .iter()
            .filter(|it| it.starts_with("look"))
            .count(),
        0
    );
    // Now one does.
    bench.outcome("work", &invalid_grant());
    assert!(bench.effects().contains(&"look up 7".into()));
    identified(&mut bench, Some("msmtp"));
    assert_eq!(requester(&bench).as_deref(), Some("msmtp"));
    bench.show("work");
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(2, 60));
    assert_eq!(answers(&mut bench).0, ["3: access2"]);
}

// ---- the ID token beside it -------------------------------------------------------------------

/// Tokens for an hour, with an ID token that expires in so many seconds, if it says so.
fn with_id_token(bench: &Bench, number: u32, expires: Option<i64>) -> Outcome {
    let at = expires.map(|secs| bench.now.wall.secs() + secs);
    let claims = at.map_or("{}".into(), |at| format!("{{\"exp\":{at}}}"));
    let id_token = format!("e30.{}.{number}", URL_SAFE_NO_PAD.encode(claims));
    reply(
        200,
        &format!(
            r#"{{"access_token":"access{number}","refresh_token":"refresh{number}","expires_in":3600,
                 "token_type":"bearer","id_token":"{id_token}"}}"#
        ),
    )
}

/// Which one is shown, or why none is.
fn ask_for_id_token(bench: &mut Bench, min_valid_secs: u64, patience: Patience) -> String {
    let ask = ShowRequest {
        waiter: Waiter(1),
        form: Form {
            id_token: true,
            ..Form::default()
        },
        no_url: false,
        min_valid: Duration::from_secs(min_valid_secs),
        patience,
        process: None,
    };
    let answer = bench.feed(|core, cx| core.ask(cx, "work", ask));
    let told = answer.map_or("waits".into(), |answer| told(&answer));
    let number = told.rsplit('.').next().unwrap_or_default();
    number.to_owned()
}

/// One that is signed in so.
fn with(expires: Option<i64>) -> Bench {
    let mut bench = one();
    bench.show("work");
    bench.code();
    bench.effects();
    let outcome = with_id_token(&bench, 1, expires);
    bench.outcome("work", &outcome);
    bench.effects();
    bench
}

#[test]
fn an_id_token_lasts_until_it_says_itself_and_a_refresh_that_brings_none_ends_it_only_then() {
    let mut bench = with(Some(1800));
    bench.pass(1000);
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "1");
    assert_eq!(ask_for_id_token(&mut bench, 799, Patience::None), "1");
    bench.refresh("work");
    bench.effects();
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "1");
    // How long it lasts from the last request on is what counts: another refresh would be in vain.
    assert_eq!(
        ask_for_id_token(&mut bench, 900, Patience::None),
        "lives 800s"
    );
    assert_eq!(answers(&mut bench), heard(&[], 0));
    bench.pass(800);
    // Expired: one more refresh may bring another, and after that there is none to refresh.
    assert_eq!(
        ask_for_id_token(&mut bench, 0, Patience::None),
        "refreshing"
    );
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::Refresh), "waits");
    assert_eq!(answers(&mut bench), heard(&[], 1));
    bench.outcome("work", &tokens(3, 3600));
    assert_eq!(answers(&mut bench), heard(&["1: no ID token"], 0));
    bench.pass(60);
    assert_eq!(
        ask_for_id_token(&mut bench, 0, Patience::Token),
        "no ID token"
    );
    assert_eq!(ask(&mut bench, 1, 0, Patience::None), "access3");
    assert_eq!(answers(&mut bench), heard(&[], 0));
}

#[test]
fn an_id_token_that_lives_for_less_than_the_access_token_is_refreshed_for_who_asks() {
    let mut bench = with(Some(120));
    assert_eq!(ask_for_id_token(&mut bench, 60, Patience::None), "1");
    bench.pass(61);
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "1");
    assert_eq!(
        ask_for_id_token(&mut bench, 60, Patience::None),
        "refreshing, 59s left"
    );
    assert_eq!(ask_for_id_token(&mut bench, 60, Patience::Refresh), "waits");
    assert_eq!(answers(&mut bench), heard(&[], 1));
    let outcome = with_id_token(&bench, 2, Some(120));
    bench.outcome("work", &outcome);
    let (told, _) = answers(&mut bench);
    assert!(told[0].ends_with(".2"), "{told:?}");
    bench.pass(12);
    assert_eq!(
        ask_for_id_token(&mut bench, 111, Patience::Refresh),
        "lives 120s"
    );
}

#[test]
fn one_that_says_nothing_of_its_end_ends_with_the_access_token_that_it_came_with() {
    let mut bench = with(None);
    bench.pass(3599);
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "1");
    bench.refresh("work");
    bench.effects();
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(
        ask_for_id_token(&mut bench, 0, Patience::None),
        "no ID token"
    );
}

/// Whose it is isn't known: another user may have signed in.
#[test]
fn another_sign_in_does_not_keep_it() {
    let mut bench = with(Some(100_000));
    bench.pass(60);
    bench.refresh("work");
    bench.effects();
    bench.outcome("work", &invalid_grant());
    bench.show("work");
    bench.effects();
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "1");
    bench.pass(3600);
    bench.show("work");
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(
        ask_for_id_token(&mut bench, 0, Patience::None),
        "no ID token"
    );
    // Nor does an account whose tokens are revoked.
    let mut bench = with(Some(100_000));
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    assert_eq!(ask_for_id_token(&mut bench, 0, Patience::None), "sign in");
}
