//! What a row of failures makes of an account, through the core's own events.

mod under_way;

use std::time::Duration;

use crate::{
    config,
    core::{
        AttemptId, CallbackAnswer, Core, Cx, Effect, Entropy, Ports, ShowAnswer, ShowRequest,
        Waiter,
        hook::{Hook, HookInput},
    },
    oauth::{
        authorization,
        token::{Outcome, Reply},
    },
    time::{Instant, Now, Wall},
};

pub use under_way::UnderWay;

const CONFIG: &str = r#"
account "work" {
    auth_uri = "https://login.example/authorize";
    token_uri = "https://login.example/token";
    client_id = "id";
}"#;

const TOKENS: &str = r#"{"access_token":"a","expires_in":60,"refresh_token":"r"}"#;

/// The same bytes throughout an event: only sign-ins need to differ here. The first is the jitter.
struct Same(u8);

impl Entropy for Same {
    fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [self.0; 32];
        bytes[0] = 0;
        bytes
    }
}

/// One account, its clock, and what it has asked for.
struct World {
    core: Core,
    secs: u64,
    sign_ins: u8,
    request: Option<AttemptId>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl World {
    fn new() -> Self {
        World {
            core: Core::new(config::parse("c", CONFIG).unwrap(), Ports::default()),
            secs: 1_000_000,
            sign_ins: 0,
            request: None,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn signed_in() -> Self {
        let mut world = World::new();
        world.sign_in(TOKENS);
        world
    }

    /// Somebody signs in, and the provider gives this.
    fn sign_in(&mut self, tokens: &str) {
        self.begin_sign_in();
        self.end_sign_in(tokens);
    }

    fn begin_sign_in(&mut self) {
        self.sign_ins += 1;
        let _ = self.on(|core, cx| core.ask(cx, "work", ShowRequest::default()));
    }

    fn end_sign_in(&mut self, tokens: &str) {
        let state = authorization::token_text(&Same(self.sign_ins).bytes32());
        let query = format!("code=c&state={}", state.expose());
        let callback = authorization::parse_callback(&query).unwrap();
        let at = url::Url::parse("http://localhost/").unwrap();
        let answer = self.on(|core, cx| core.callback(cx, &at, callback, Waiter(1)));
        assert!(matches!(answer, CallbackAnswer::Wait { .. }));
        self.answer(&reply(200, tokens));
    }

    fn on<T>(&mut self, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: Now {
                instant: Instant::from_millis(self.secs * 1000),
                wall: Wall::from_millis(1_700_000_000_000),
            },
            entropy: &mut Same(self.sign_ins),
        };
        let value = event(&mut self.core, &mut cx);
        while let Some(effect) = self.core.next_effect() {
            match effect {
                Effect::Request { attempt, .. } => self.request = Some(attempt),
                Effect::Error { message, .. }
                | Effect::Hook(Hook {
                    input: HookInput::Message(message),
                    ..
                }) => self.errors.push(message),
                Effect::Log {
                    level: log::Level::Warn,
                    message,
                    ..
                } => self.warnings.push(message),
                _ => {}
            }
        }
        value
    }

    /// The request under way ends so.
    fn answer(&mut self, outcome: &Outcome) {
        let attempt = self.request.take().expect("a request under way");
        let sent = Instant::from_millis(self.secs * 1000);
        self.on(|core, cx| {
            core.on(cx, "work", |it, env| {
                it.token_outcome(env, attempt, sent, outcome)
            })
        });
    }

    /// The next refresh comes when it is due, and ends so.
    fn refresh(&mut self, outcome: &Outcome) {
        let due = self.core.poll_timeout().expect("a deadline");
        let wait = due.since(Instant::from_millis(self.secs * 1000));
        self.secs += wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.on(|core, cx| core.tick(cx));
        self.answer(outcome);
    }
}

fn reply(status: u16, body: &str) -> Outcome {
    Outcome::Reply(Reply {
        status,
        retry_after: None,
        date: None,
        location: None,
        body: Vec::from(body).into(),
        ..Reply::default()
    })
}

fn dead() -> Outcome {
    reply(400, r#"{"error":"invalid_grant"}"#)
}

fn lost() -> Outcome {
    Outcome::Lost("timeout".into())
}

// Covers: 39
#[test]
fn the_same_refusal_without_an_explanation_is_told_once_at_the_fifth() {
    let mut world = World::signed_in();
    for failures in 1..=9 {
        world.refresh(&reply(400, ""));
        let told = usize::from(failures >= 5);
        assert_eq!(world.errors.len(), told, "{failures}: {:?}", world.errors);
    }
    let words =
        "refresh failed, trying again in 10m: login.example answered 400 with an empty reply";
    assert_eq!(world.errors, [words]);
    world.refresh(&reply(200, TOKENS));
    world.refresh(&reply(400, ""));
    assert_eq!(world.errors.len(), 1, "a new row of failures counts anew");
}

/// Rauthy says so of a dead refresh token, and gateways of anything: it is believed late, and not while
/// there is a token to show.
// Covers: 76
#[test]
fn words_that_are_no_error_code_are_believed_once_the_token_has_expired() {
    let vague = || reply(401, r#"{"error":"Unauthorized"}"#);
    let words = "authorisation needed again: login.example answered 401: Unauthorized";
    let begin = 1_000_000;
    let mut world = World::signed_in();
    for _ in 0..4 {
        world.refresh(&vague());
        assert!(world.errors.is_empty(), "{:?}", world.errors);
    }
    world.refresh(&vague());
    assert!(world.errors[0].starts_with(words), "{:?}", world.errors);
    assert!(world.secs - begin >= 600);
    // While there is a token to show, the user is told once.
    let day = Duration::from_secs(86_400).as_secs();
    let mut world = World::new();
    world.sign_in(&TOKENS.replace("60", &day.to_string()));
    while world.errors.len() < 2 {
        world.refresh(&vague());
    }
    let told = "refresh failed, trying again in 10m: login.example answered 401: Unauthorized";
    assert!(world.errors[0].starts_with(told), "{:?}", world.errors);
    assert!(world.errors[1].starts_with(words), "{:?}", world.errors);
    assert!(
        (day..day + 1200).contains(&(world.secs - begin)),
        "{}",
        world.secs
    );
    // Without any words nothing makes it so.
    let mut world = World::signed_in();
    for _ in 0..20 {
        world.refresh(&reply(403, "<html>"));
    }
    assert_eq!(world.errors.len(), 1, "{:?}", world.errors);
    assert!(
        world.errors[0].starts_with("refresh failed"),
        "{:?}",
        world.errors
    );
}

#[test]
fn refusals_that_differ_or_pass_are_not_counted() {
    let mut world = World::signed_in();
    for _ in 0..2 {
        world.refresh(&reply(400, ""));
        world.refresh(&reply(400, ""));
        world.refresh(&reply(400, "<html>"));
    }
    assert!(world.errors.is_empty());
    let mut world = World::signed_in();
    for _ in 0..6 {
        world.refresh(&reply(503, ""));
    }
    assert!(world.errors.is_empty());
}

#[test]
fn a_refusal_after_a_lost_reply_says_so() {
    let note = "; an earlier reply was lost on the way, and a new refresh token perhaps with it";
    for (before, noted) in [
        (vec![], false),
        (vec![lost()], true),
        (vec![lost(), reply(503, "")], true),
        (vec![Outcome::NotSent("no route".into())], false),
        (vec![lost(), reply(200, TOKENS)], false),
    ] {
        let mut world = World::signed_in();
        for outcome in &before {
            world.refresh(outcome);
        }
        world.refresh(&dead());
        let note = if noted { note } else { "" };
        let words = format!("authorisation needed again: invalid_grant{note}");
        assert_eq!(world.errors, [words], "{before:?}");
    }
}

#[test]
fn a_providers_habit_is_warned_of_once() {
    let mut world = World::signed_in();
    for _ in 0..3 {
        world.refresh(&reply(200, TOKENS));
    }
    let words = "the reply has no token_type; bearer is assumed";
    assert_eq!(world.warnings, [words]);
    let typed = TOKENS.replace('{', r#"{"token_type":"bearer","#);
    world.refresh(&reply(200, &typed));
    world.refresh(&reply(200, TOKENS));
    assert_eq!(world.warnings, [words, words], "it is news again");
    assert!(world.secs < 1_000_000 + Duration::from_secs(600).as_secs());
}

/// A sign-in without a refresh token is told of while it is fresh, once: the next sign-ins bring
/// none either. A provider whose tokens don't expire is another matter.
// Covers: 13
#[test]
fn a_sign_in_that_cannot_last_is_told_of_early_and_once() {
    const SHORT: &str = r#"{"access_token":"a","token_type":"bearer","expires_in":3600}"#;
    const ENDLESS: &str = r#"{"access_token":"a","token_type":"bearer"}"#;
    let typed = TOKENS.replace('{', r#"{"token_type":"bearer","#);
    let words = "authorised for only 1h: no refresh token came along (if the provider gives one at \
                 all, it may want \"offline_access\" in scopes)";
    let mut world = World::new();
    world.sign_in(SHORT);
    assert_eq!(world.errors, [words]);
    assert_eq!(world.core.poll_timeout(), None, "the token stays as it is");
    for _ in 0..2 {
        world.secs += 3600;
        world.sign_in(SHORT);
    }
    assert_eq!(world.errors, [words]);
    assert_eq!(world.warnings, [words; 2], "the log has every one");
    world.secs += 3600;
    world.sign_in(&typed);
    world.refresh(&reply(200, SHORT));
    assert_eq!(world.errors, [words], "a refresh keeps the refresh token");
    world.refresh(&dead());
    world.secs += 3600;
    world.sign_in(SHORT);
    assert_eq!(world.errors[2..], [words], "it is news again");

    let mut world = World::new();
    world.sign_in(ENDLESS);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
    assert_eq!(world.warnings.len(), 1);
}

/// Whoever comes back to a URL of last week still signs in, also when others have asked meanwhile.
#[test]
fn a_sign_in_may_take_its_time() {
    let mut world = World::new();
    world.begin_sign_in();
    for _ in 0..7 {
        world.secs += Duration::from_secs(86_400).as_secs();
        let _ = world.on(|core, cx| core.ask(cx, "work", ShowRequest::default()));
        world.on(|core, cx| core.tick(cx));
    }
    world.end_sign_in(TOKENS);
    assert!(world.errors.is_empty(), "{:?}", world.errors);
    let shown = world.on(|core, cx| core.ask(cx, "work", ShowRequest::default()));
    assert!(matches!(shown, Some(ShowAnswer::Token(_))), "{shown:?}");
}
