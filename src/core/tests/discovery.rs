//! Accounts whose endpoints their issuer says.

use super::bench::{Bench, HOOKS, lost, not_sent, reply, tokens};
use crate::{
    config,
    core::{
        Core, CoreState, Ports, Waiter,
        dump::{self, Dump},
    },
    oauth::token::Outcome,
    secret::Secret,
    view::SignInStart,
};

const INSERTED: &str = "https://a.example/.well-known/oauth-authorization-server";
const APPENDED: &str = "https://a.example/.well-known/openid-configuration";

/// Accounts that have nothing but an issuer.
fn found(accounts: &[&str], options: &str) -> config::Config {
    let account = |name: &&str| {
        format!(
            r#"account "{name}" {{ issuer = "https://a.example"; client_id = "id";
                scopes = ["mail"]; {options} }}"#
        )
    };
    let accounts: String = accounts.iter().map(account).collect();
    config::parse("test.conf", &format!("{HOOKS}{accounts}")).expect("a config")
}

fn one() -> Bench {
    let mut bench = Bench::new(found(&["work"], ""));
    bench.log = false;
    bench
}

/// The issuer's document, with these members beside the issuer.
fn says(members: &str) -> Outcome {
    reply(
        200,
        &format!(r#"{{"issuer":"https://a.example",{members}}}"#),
    )
}

fn document() -> Outcome {
    at("a.example")
}

/// The same with endpoints on `host`.
fn at(host: &str) -> Outcome {
    says(&format!(
        r#""authorization_endpoint":"https://{host}/auth",
           "token_endpoint":"https://{host}/token",
           "revocation_endpoint":"https://{host}/revoke""#
    ))
}

fn nothing() -> Outcome {
    reply(404, "")
}

/// Two revocations that wait for the issuer, and its answer doesn't come: both are tried again, and a
/// tick leaves neither behind.
#[test]
fn revocations_that_nobody_can_send_are_all_put_off() {
    let mut bench = signed_in();
    let dump = bench.dump();
    // A program that has just started knows no endpoints.
    let mut bench = one();
    for waiter in [1, 2] {
        let dump = dump::open(&dump::seal(&dump, [0; 32])).expect("a dump");
        assert_eq!(bench.restore(dump), 1);
        bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, Some(Waiter(waiter)))));
        bench.effects();
    }
    bench.discovered(&lost());
    bench.effects();
    for _ in 0..2 {
        bench.deadline();
        let next = bench.core.poll_timeout();
        assert!(next.is_none_or(|at| at > bench.now.instant), "{next:?}");
    }
}

/// [`one`], signed in.
fn signed_in() -> Bench {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    bench.discovered(&document());
    bench.show("work");
    bench.effects();
    bench.code();
    bench.effects();
    bench.outcome("work", &tokens(1, 3600));
    bench.effects();
    bench
}

#[test]
fn the_first_need_asks_and_the_sign_in_begins_by_itself() {
    let mut bench = one();
    assert_eq!(bench.effects(), [""; 0]);
    assert_eq!(bench.core.poll_timeout(), None);
    assert_eq!(bench.show("work"), "discovering");
    assert_eq!(bench.effects(), [format!("discover/1 {INSERTED}")]);
    // Everybody else joins.
    assert_eq!(bench.show("work"), "discovering");
    assert_eq!(bench.refresh("work"), "discovering");
    assert_eq!(bench.effects(), [""; 0]);
    bench.discovered(&nothing());
    assert_eq!(bench.effects(), [format!("discover/2 {APPENDED}")]);
    bench.discovered(&document());
    assert_eq!(bench.effects(), ["notify work/3 `notify` state 1 for 900s"]);
    assert_eq!(bench.show("work"), "sign in with state 1");
    assert_eq!(bench.code(), "wait for work");
    let effects = bench.effects();
    assert!(
        effects[1]
            .starts_with("request work/4 https://a.example/token grant_type=authorization_code"),
        "{effects:?}"
    );
    bench.outcome("work", &tokens(1, 3600));
    assert_eq!(bench.show("work"), "token access1");
}

#[test]
fn accounts_of_one_issuer_share_what_it_says() {
    let mut bench = Bench::new(found(&["work", "home", "list"], ""));
    bench.log = false;
    bench.show("work");
    bench.show("home");
    assert_eq!(bench.effects(), [format!("discover/1 {INSERTED}")]);
    bench.discovered(&document());
    assert_eq!(bench.effects().len(), 2);
    // Who comes later finds it there.
    assert!(bench.show("list").starts_with("sign in with"));
    assert_eq!(bench.effects().len(), 1);
}

#[test]
fn failures_are_retried_at_growing_intervals_for_as_long_as_somebody_waits() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    bench.discovered(&not_sent());
    // Nothing else of that host will do better.
    assert_eq!(bench.effects(), [""; 0]);
    let said = bench.show("work");
    assert!(
        said.starts_with("discovering: no endpoints from https://a.example: a.example: "),
        "{said}"
    );
    assert_eq!(bench.effects(), [""; 0]);
    for delay in [10, 20, 40, 80, 160, 320, 600, 600] {
        let (secs, effects) = bench.deadline();
        assert_eq!((secs, effects.len()), (delay, 1), "{effects:?}");
        bench.discovered(&not_sent());
        assert_eq!(bench.effects(), [""; 0]);
    }
    // Whoever asks needn't wait for that.
    bench.pass(10);
    bench.show("work");
    assert_eq!(bench.effects().len(), 1);
    bench.discovered(&not_sent());
    bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
    bench.effects();
    let (_, effects) = bench.deadline();
    assert_eq!(effects, [""; 0]);
    assert_eq!(bench.core.poll_timeout(), None);
}

#[test]
fn an_issuer_that_answers_wrong_is_told_of_at_the_fifth_time() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    let mut told = Vec::new();
    for n in 1..=8 {
        bench.discovered(&reply(200, "<html>"));
        bench.effects();
        bench.discovered(&nothing());
        let effects = bench.effects();
        if !effects.is_empty() {
            told.push((n, effects));
        }
        bench.deadline();
    }
    let error = "error work `error` can't sign in: no endpoints from https://a.example: \
                 a.example has a web page instead of JSON (the network may want a sign-in of its \
                 own: open any web page to see; else check the issuer)";
    assert_eq!(told, [(5, vec![error.to_owned()])]);
}

#[test]
fn what_the_config_says_counts_more() {
    let options = r#"token_uri = "https://b.example/t"; revocation_uri = "https://b.example/r";"#;
    let mut bench = Bench::new(found(&["work"], options));
    bench.log = false;
    bench.show("work");
    bench.effects();
    bench.discovered(&document());
    bench.show("work");
    bench.effects();
    bench.code();
    let effects = bench.effects();
    assert!(effects[1].contains(" https://b.example/t "), "{effects:?}");
}

/// A document without a token endpoint is enough for who has one of another place; who comes later and
/// has none has the issuer asked again.
#[test]
fn a_document_need_not_have_what_the_config_says() {
    let options = r#"token_uri = "https://b.example/t";"#;
    let mut bench = Bench::new(found(&["work"], options));
    bench.log = false;
    bench.show("work");
    bench.effects();
    let without = says(r#""authorization_endpoint":"https://a.example/auth""#);
    bench.discovered(&without);
    bench.show("work");
    bench.effects();
    bench.code();
    let effects = bench.effects();
    assert!(effects[1].contains(" https://b.example/t "), "{effects:?}");
    bench.outcome("work", &tokens(1, 3600));
    bench.effects();
    let mut both = found(&["other"], "");
    both.accounts.extend(found(&["work"], options).accounts);
    // What has been asked by then is answered.
    bench.pass(60);
    assert_eq!(bench.refresh("work"), "refreshing");
    assert_eq!(bench.effects().len(), 1);
    bench.feed(|core, cx| core.reload(cx, both));
    bench.outcome("work", &tokens(2, 3600));
    bench.effects();
    assert_eq!(bench.show("other"), "discovering");
    assert_eq!(bench.effects(), [format!("discover/5 {INSERTED}")]);
    bench.discovered(&without);
    bench.effects();
    bench.discovered(&nothing());
    let why = "discovering: no endpoints from https://a.example: a.example has a document \
               without a usable token_endpoint";
    assert_eq!(bench.show("other"), why);
    // The one that is served goes on.
    assert_eq!(bench.show("work"), "token access2");
    bench.effects();
    assert_eq!(bench.refresh("work"), "refreshing");
}

#[test]
fn nothing_is_asked_when_the_config_says_all_that_is_needed() {
    let options = r#"auth_uri = "https://b.example/a"; token_uri = "https://b.example/t";"#;
    let mut bench = Bench::new(found(&["work"], options));
    bench.log = false;
    assert_eq!(bench.show("work"), "sign in with state 1");
    // The issuer is known all the same.
    let code = || {
        crate::oauth::authorization::CallbackResult::Code(crate::secret::Secret::new("code".into()))
    };
    let state = bench.state.clone();
    let other = bench.callback(&state, Some("https://b.example"), code());
    assert_eq!(other, "work: other issuer");
    let ours = bench.callback(&state, Some("https://a.example"), code());
    assert_eq!(ours, "wait for work");
}

#[test]
fn an_iss_is_compared_letter_by_letter_and_required_when_it_was_promised() {
    for (promised, iss, answer) in [
        (true, None, "work: other issuer"),
        (true, Some("https://a.example/"), "work: other issuer"),
        (true, Some("https://a.example:443"), "work: other issuer"),
        (true, Some("https://evil.example"), "work: other issuer"),
        (true, Some("https://a.example"), "wait for work"),
        (false, None, "wait for work"),
        (false, Some("https://a.example/"), "work: other issuer"),
        (false, Some("https://a.example"), "wait for work"),
    ] {
        let mut bench = one();
        bench.show("work");
        bench.effects();
        bench.discovered(&says(&format!(
            r#""authorization_endpoint":"https://b.example/auth",
               "token_endpoint":"https://b.example/token",
               "authorization_response_iss_parameter_supported":{promised}"#
        )));
        bench.show("work");
        let code = crate::secret::Secret::new("code".into());
        let code = crate::oauth::authorization::CallbackResult::Code(code);
        let state = bench.state.clone();
        assert_eq!(
            bench.callback(&state, iss, code),
            answer,
            "{promised} {iss:?}"
        );
        // It is still pending.
        let after = match answer {
            "wait for work" => "exchanging",
            _ => "sign in with state 1",
        };
        assert_eq!(bench.show("work"), after);
    }
}

#[test]
fn a_refresh_waits_for_the_endpoints_and_fails_as_any_other() {
    let mut bench = signed_in();
    let dump = bench.dump();
    let mut bench = one();
    assert_eq!(bench.restore(dump), 1);
    assert_eq!(bench.show("work"), "token access1");
    assert_eq!(bench.effects(), [""; 0]);
    let (secs, effects) = bench.deadline();
    assert_eq!(
        (secs, effects),
        (3510, vec![format!("discover/2 {INSERTED}")])
    );
    bench.discovered(&lost());
    assert_eq!(bench.effects(), [""; 0]);
    let (secs, effects) = bench.deadline();
    assert_eq!((secs, effects.len()), (40, 1));
    bench.discovered(&document());
    let effects = bench.effects();
    assert!(
        effects[0].contains("https://a.example/token grant_type=refresh_token"),
        "{effects:?}"
    );
    bench.outcome("work", &tokens(2, 3600));
    assert_eq!(bench.show("work"), "token access2");
}

/// A dump of [`signed_in`] in a world whose issuer names other endpoints.
fn elsewhere(document: &Outcome) -> Bench {
    let dump = signed_in().dump();
    let mut bench = one();
    assert_eq!(bench.restore(dump), 1);
    bench.pass(3600);
    assert_eq!(bench.show("work"), "refreshing");
    bench.effects();
    bench.discovered(document);
    bench
}

#[test]
fn a_refresh_token_is_not_sent_where_the_issuer_did_not_have_it_sent_when_it_was_issued() {
    let mut bench = elsewhere(&at("evil.example"));
    let effects = bench.effects();
    let error = "error work `error` authorisation needed again: the issuer now names the token \
                 endpoint https://evil.example/token, of another origin than when you signed in; \
                 the refresh token is not sent there (sign in again if that is right)";
    let announced = "announce work `event` token_invalidated";
    assert_eq!(effects, [error, announced]);
    let said = bench.show("work");
    assert!(
        said.starts_with("sign in with state 1: the issuer now names"),
        "{said}"
    );
    // Nor is it sent there to be revoked.
    bench.effects();
    assert_eq!(
        bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, Some(Waiter(1))))),
        Some(true)
    );
    let effects = bench.effects();
    assert!(
        !effects.iter().any(|line| line.starts_with("request")),
        "{effects:?}"
    );
    assert!(
        effects
            .iter()
            .any(|line| line.contains("settled work [1]: the issuer now names")),
        "{effects:?}"
    );
}

#[test]
fn another_path_of_the_same_origin_is_no_other_server() {
    let mut bench = elsewhere(&says(
        r#""authorization_endpoint":"https://b.example/a",
           "token_endpoint":"https://a.example/v2/token""#,
    ));
    let effects = bench.effects();
    assert!(
        effects[0].contains("https://a.example/v2/token"),
        "{effects:?}"
    );
}

#[test]
fn a_new_sign_in_at_another_origin_is_good_there() {
    let mut bench = elsewhere(&at("b.example"));
    bench.effects();
    bench.show("work");
    bench.effects();
    bench.code();
    let effects = bench.effects();
    assert!(
        effects[1].contains("https://b.example/token"),
        "{effects:?}"
    );
    bench.outcome("work", &tokens(5, 3600));
    bench.effects();
    let (_, effects) = bench.deadline();
    assert!(
        effects[0].contains("https://b.example/token"),
        "{effects:?}"
    );
}

#[test]
fn a_forged_dump_without_origins_sends_no_refresh_token_anywhere() {
    let mut dump = signed_in().dump();
    dump.grants[0].refresh_origins = None;
    let mut bench = one();
    bench.restore(dump);
    bench.pass(3600);
    bench.show("work");
    bench.effects();
    bench.discovered(&document());
    assert!(bench.show("work").starts_with("sign in with"));
}

#[test]
fn a_dump_of_an_account_without_an_issuer_is_as_before() {
    let mut bench = super::signed_in(3600);
    let text = serde_json::to_string(&bench.dump()).unwrap();
    assert!(
        !text.contains("issuer") && !text.contains("origins"),
        "{text}"
    );
    let text = serde_json::to_string(&signed_in().dump()).unwrap();
    let origins = r#""refresh_origins":["https://a.example"]"#;
    assert!(
        text.contains(r#""issuer":"https://a.example""#) && text.contains(origins),
        "{text}"
    );
    assert!(serde_json::from_str::<Dump>(&text).is_ok());
}

/// The successor of `bench`.
fn handed_over(bench: &mut Bench) -> Bench {
    let text = serde_json::to_string(&bench.core.state(bench.now)).unwrap();
    let state: CoreState = serde_json::from_str(&text).unwrap();
    let config = (**bench.core.config()).clone();
    let mut next = bench.clone();
    let ports = Ports {
        http: Some(14204),
        https: None,
    };
    next.core = Core::new(config, ports);
    next.feed(|core, cx| core.adopt(cx, state));
    next
}

#[test]
fn a_successor_knows_what_the_issuer_said_and_goes_on_asking() {
    let mut bench = signed_in();
    let mut next = handed_over(&mut bench);
    let (_, effects) = next.deadline();
    assert!(
        effects[0].contains("https://a.example/token"),
        "{effects:?}"
    );
    // One that is asked while nothing may be sent is asked afterwards.
    let mut bench = one();
    bench.feed(|core, _| core.hold());
    assert_eq!(bench.show("work"), "discovering");
    assert_eq!(bench.effects(), [""; 0]);
    assert!(!bench.core.awaits_reply());
    let mut next = handed_over(&mut bench);
    assert_eq!(next.effects(), [format!("discover/1 {INSERTED}")]);
    next.discovered(&document());
    assert!(next.show("work").starts_with("sign in with"));
    bench.feed(|core, cx| core.release(cx));
    let (_, effects) = bench.deadline();
    assert_eq!(effects, [format!("discover/1 {INSERTED}")]);
}

#[test]
fn a_revocation_that_had_to_wait_is_not_forgotten() {
    let dump = signed_in().dump();
    let mut bench = one();
    bench.restore(dump);
    bench.feed(|core, _| core.hold());
    let told =
        bench.feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, Some(Waiter(1)))));
    assert_eq!(told, Some(true));
    bench.effects();
    bench.feed(|core, cx| core.release(cx));
    let (_, effects) = bench.deadline();
    assert_eq!(effects, [format!("discover/3 {INSERTED}")]);
    bench.discovered(&document());
    let effects = bench.effects();
    assert!(
        effects[0].contains("https://a.example/revoke token=refresh1"),
        "{effects:?}"
    );
}

#[test]
fn a_device_code_that_the_client_may_not_have_leaves_the_browser() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    bench.discovered(&says(
        r#""authorization_endpoint":"https://a.example/auth",
           "device_authorization_endpoint":"https://a.example/device",
           "token_endpoint":"https://a.example/token""#,
    ));
    bench.effects();
    bench.outcome("work", &reply(400, r#"{"error":"unauthorized_client"}"#));
    assert_eq!(bench.effects(), ["notify work/2 `notify` state 1 for 900s"]);
    assert_eq!(bench.show("work"), "sign in with state 1");
    assert_eq!(bench.effects(), [""; 0]);
}

#[test]
fn who_asks_how_to_sign_in_hears_it_or_why_not() {
    for good in [true, false] {
        let mut bench = one();
        let start = bench.feed(|core, cx| {
            core.on(cx, "work", |it, env| {
                it.auth(env, false, false, false, Waiter(3))
            })
        });
        assert_eq!(start, Some(Ok(SignInStart::AskingForCode)));
        let waits = bench
            .feed(|core, cx| core.on(cx, "work", |it, env| it.wait_for_sign_in(env, Waiter(4))));
        assert!(waits.is_some_and(|it| it.is_ok()));
        bench.effects();
        bench.discovered(&if good { document() } else { lost() });
        let settled: Vec<_> = (bench.effects().into_iter())
            .filter(|line| line.starts_with("settled"))
            .collect();
        let said = match good {
            true => "settled work [3]: done",
            false => "settled work [3]: no endpoints from https://a.example",
        };
        assert_eq!(settled.len(), 1);
        assert!(settled[0].starts_with(said), "{settled:?}");
        if good {
            bench.show("work");
            bench.denied();
            let effects = bench.effects();
            assert!(
                effects
                    .iter()
                    .any(|line| line.starts_with("settled work [4]"))
            );
        }
    }
}

#[test]
fn who_is_in_a_hurry_hears_at_once_why_the_issuer_says_nothing() {
    let mut bench = one();
    let auth = |bench: &mut Bench, hurry| {
        let start = bench.feed(|core, cx| {
            core.on(cx, "work", |it, env| {
                it.auth(env, false, hurry, false, Waiter(3))
            })
        });
        match start {
            Some(Ok(start)) => start == SignInStart::AskingForCode,
            Some(Err(refusal)) => {
                let why = "no endpoints from https://a.example: ";
                assert!(refusal.text.starts_with(why), "{refusal:?}");
                false
            }
            None => panic!("no such account"),
        }
    };
    // The first time it may take what it takes.
    assert!(auth(&mut bench, true));
    bench.effects();
    bench.discovered(&lost());
    bench.effects();
    // Nobody asks the issuer so soon again.
    assert!(!auth(&mut bench, true) && !auth(&mut bench, false));
    assert_eq!(bench.effects(), [""; 0]);
    bench.pass(10);
    assert!(auth(&mut bench, false));
    assert_eq!(bench.effects().len(), 1);
    assert!(!auth(&mut bench, true));
    bench.discovered(&document());
    let effects = bench.effects();
    assert!(
        effects.contains(&"settled work [3]: done".to_owned()),
        "{effects:?}"
    );
}

#[test]
fn a_device_code_is_asked_for_where_the_issuer_says() {
    let mut bench = one();
    bench.show("work");
    bench.effects();
    bench.discovered(&says(
        r#""device_authorization_endpoint":"https://a.example/device",
           "token_endpoint":"https://a.example/token""#,
    ));
    let effects = bench.effects();
    assert_eq!(effects.len(), 1);
    assert!(
        effects[0].contains(" https://a.example/device "),
        "{effects:?}"
    );
    assert_eq!(bench.show("work"), "asking for a code");
}

#[test]
fn the_client_proves_itself_as_the_issuer_wants_unless_it_is_configured() {
    for (options, methods, header, body) in [
        (
            "client_secret = \"s\";",
            r#"["client_secret_basic"]"#,
            true,
            false,
        ),
        (
            "client_secret = \"s\";",
            r#"["client_secret_post"]"#,
            false,
            true,
        ),
        (
            "client_secret = \"s\"; client_auth = body;",
            r#"["client_secret_basic"]"#,
            false,
            true,
        ),
        ("", r#"["client_secret_basic"]"#, false, false),
    ] {
        let mut bench = Bench::new(found(&["work"], options));
        bench.log = false;
        bench.show("work");
        bench.effects();
        bench.discovered(&says(&format!(
            r#""authorization_endpoint":"https://a.example/auth",
               "token_endpoint":"https://a.example/token",
               "token_endpoint_auth_methods_supported":{methods}"#
        )));
        bench.show("work");
        bench.effects();
        bench.code();
        let effects = bench.effects();
        let request = &effects[1];
        assert_eq!(request.contains("client_secret=s"), body, "{request}");
        // With the header, the form doesn't repeat who asks.
        assert_eq!(!request.contains("client_id=id"), header, "{request}");
    }
}

/// How often a user is notified of a sign-in that `auth` has begun, whose client `opens` a browser:
/// at once, and at the next reminder.
fn notified(opens: bool, answers: &[Outcome], code: bool, before: bool) -> [usize; 2] {
    let mut bench = one();
    let mut counts = [0; 2];
    let count = |effects: &[String]| {
        let notified = effects.iter().filter(|line| line.starts_with("notify "));
        notified.count()
    };
    if before {
        // What a mail program wants has been notified of already, or will be.
        bench.show("work");
        bench.effects();
    }
    bench.feed(|core, cx| {
        core.on(cx, "work", |it, env| {
            it.auth(env, false, false, opens, Waiter(3))
        })
    });
    counts[0] += count(&bench.effects());
    for answer in answers {
        bench.discovered(answer);
        counts[0] += count(&bench.effects());
        bench.pass(10);
        bench.feed(|core, cx| core.tick(cx));
        bench.effects();
    }
    if code {
        let code = r#"{"device_code":"dc","user_code":"UC","verification_uri":"https://a.example/",
            "expires_in":3600,"interval":5}"#;
        bench.outcome("work", &reply(200, code));
        counts[0] += count(&bench.effects());
    }
    bench.pass(900);
    bench.feed(|core, cx| core.tick(cx));
    counts[1] = count(&bench.effects());
    counts
}

#[test]
fn a_client_that_opens_a_browser_needs_no_notification() {
    let device = || {
        says(
            r#""authorization_endpoint":"https://a.example/auth",
               "device_authorization_endpoint":"https://a.example/device",
               "token_endpoint":"https://a.example/token""#,
        )
    };
    for (opens, answers, code, before, wanted) in [
        (false, &[document()][..], false, false, [1, 1]),
        (true, &[document()], false, false, [0, 1]),
        (false, &[device()], true, false, [1, 1]),
        (true, &[device()], true, false, [0, 1]),
        (true, &[document()], false, true, [0, 1]),
        // By then the client is gone.
        (true, &[lost(), document()], false, false, [1, 1]),
    ] {
        let told = notified(opens, answers, code, before);
        assert_eq!(told, wanted, "{opens} {answers:?} {code} {before}");
    }
    // What was joined has been notified of, and so is the next one.
    for ends in [false, true] {
        let mut bench = one();
        bench.show("work");
        bench.effects();
        bench.discovered(&document());
        assert_eq!(bench.effects().len(), 1);
        bench.feed(|core, cx| {
            core.on(cx, "work", |it, env| {
                it.auth(env, false, false, true, Waiter(3))
            })
        });
        assert_eq!(bench.effects(), [""; 0]);
        if ends {
            bench.show("work");
            bench.denied();
            bench.effects();
            bench.show("work");
        } else {
            bench.pass(900);
            bench.feed(|core, cx| core.tick(cx));
        }
        assert_eq!(bench.effects().len(), 1, "{ends}");
    }
}

/// What is to be pushed goes the plain way when a reload finds that the issuer takes no such request
/// any more.
#[test]
fn a_browser_does_not_wait_for_an_endpoint_that_is_gone() {
    let with = |command: &str| found(&["work"], &format!("client_secret_cmd = \"{command}\";"));
    let mut bench = Bench::new(with("one"));
    bench.log = false;
    let endpoints = r#""authorization_endpoint":"https://a.example/auth",
        "token_endpoint":"https://a.example/token""#;
    let pushes = r#","require_pushed_authorization_requests":true,
        "pushed_authorization_request_endpoint":"https://a.example/par""#;
    bench.show("work");
    bench.effects();
    bench.discovered(&says(&format!("{endpoints}{pushes}")));
    bench.effects();
    let browser = bench.core.accounts["work"].pending_browser().unwrap();
    let (name, uri) = (browser.short_name(), browser.uri.clone());
    let visit = |bench: &mut Bench| {
        let name = Secret::new(name.clone());
        let (_, way) = bench.feed(|core, cx| core.sign_in_at(cx, &name)).unwrap();
        way.unwrap()
    };
    // The request waits for the client secret.
    assert_eq!(visit(&mut bench), None);
    bench.effects();
    bench.core.common.issuers.forget("https://a.example");
    bench.feed(|core, cx| core.reload(cx, with("another")));
    bench.effects();
    bench.discovered(&says(endpoints));
    assert_eq!(visit(&mut bench), Some(uri));
}
