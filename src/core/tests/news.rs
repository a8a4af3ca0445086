//! What those who watch hear, by the names that `watch -j` gives it, and nothing else.

use super::bench::{
    Bench, HOOKS, access_only, config, invalid_client, invalid_grant, lost, tokens,
};
use super::{one, signed_in};
use crate::view::News;

/// Everything that has happened, a line each.
fn news(bench: &mut Bench) -> Vec<String> {
    let line = |news| {
        let event: News<String> = {
            let json = serde_json::to_string(&News {
                account: None,
                ..news
            });
            serde_json::from_str(&json.unwrap()).unwrap()
        };
        let mut line = event.event;
        if let Some(expires) = event.expires {
            line += &format!(" until {}s", expires.since(bench.now.wall).as_secs());
        }
        if let (Some(failures), Some(at)) = (event.refresh_failures, event.refresh_at) {
            let wait = at.since(bench.now.wall).as_secs();
            line += &format!(" {failures}, next in {wait}s");
        }
        line + &event
            .reason
            .map_or_else(String::new, |why| format!(": {}", why.text))
    };
    let all = std::iter::from_fn(|| bench.core.next_news());
    all.map(line).collect()
}

/// The next refresh comes when it is due, and ends so.
fn refreshed(bench: &mut Bench, outcome: &crate::oauth::token::Outcome) -> Vec<String> {
    bench.deadline();
    bench.outcome("work", outcome);
    news(bench)
}

#[test]
fn a_sign_in_is_news_at_each_of_its_steps() {
    let mut bench = one();
    assert_eq!(news(&mut bench), [""; 0]);
    bench.show("work");
    bench.show("work");
    bench.effects();
    assert_eq!(news(&mut bench), ["authorisation_pending"]);
    bench.denied();
    assert_eq!(news(&mut bench), ["authorisation_failed: access_denied"]);
    bench.show("work");
    bench.code();
    bench.effects();
    assert_eq!(
        news(&mut bench),
        ["authorisation_pending", "authorisation_completing"]
    );
    bench.outcome("work", &access_only(1, 3600));
    assert_eq!(news(&mut bench), ["token_new until 3600s"]);
    bench.pass(3600);
    bench.show("work");
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    assert_eq!(
        news(&mut bench),
        [
            "authorisation_pending",
            "token_revoked",
            "authorisation_cancelled: the account's tokens were revoked",
        ]
    );
}

#[test]
fn a_refresh_is_news_however_it_ends() {
    let mut bench = signed_in(3600);
    news(&mut bench);
    // Nothing has failed before, so nothing recovers.
    for n in [2, 3] {
        let fresh = ["token_refreshed until 3600s"];
        assert_eq!(refreshed(&mut bench, &tokens(n, 3600)), fresh);
    }
    let why = "a.example: the request was sent but the reply was lost: connection reset";
    for (failures, wait) in [(1, 40), (2, 80)] {
        let failing = format!("refresh_failing {failures}, next in {wait}s: {why}");
        assert_eq!(refreshed(&mut bench, &lost()), [failing]);
    }
    let better = ["refresh_recovered", "token_refreshed until 3600s"];
    assert_eq!(refreshed(&mut bench, &tokens(4, 3600)), better);
    // What has worked so far isn't given up for a day.
    let failing = ["refresh_failing 1, next in 40s: invalid_client"];
    assert_eq!(refreshed(&mut bench, &invalid_client()), failing);
    bench.pass(86_400);
    assert_eq!(
        refreshed(&mut bench, &invalid_client()),
        ["refresh_stopped: invalid_client"]
    );
    let same = config(HOOKS, &[("work", "a.example")]);
    bench.feed(|core, cx| core.reload(cx, same));
    assert_eq!(news(&mut bench), ["reloaded"]);
    let fresh = ["token_refreshed until 3600s"];
    assert_eq!(refreshed(&mut bench, &tokens(5, 3600)), fresh);
    let dump = bench.dump();
    assert_eq!(
        refreshed(&mut bench, &invalid_grant()),
        ["authorisation_needed: invalid_grant", "token_invalidated"]
    );
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    assert_eq!(news(&mut bench), ["token_revoked"]);
    bench.pass(10);
    bench.restore(dump);
    assert_eq!(news(&mut bench), ["token_restored until 80s"]);
}

/// Several fail together; the jitter keeps them from coming back together.
#[test]
fn the_next_try_is_as_late_as_the_jitter_says() {
    for (jitter, wait) in [(0, 40), (255, 32)] {
        let mut bench = signed_in(3600);
        bench.jitter(jitter);
        news(&mut bench);
        let told = refreshed(&mut bench, &lost());
        let next = format!("refresh_failing 1, next in {wait}s: ");
        assert!(told[0].starts_with(&next), "{told:?}");
        assert_eq!(bench.deadline().0, wait);
    }
}
