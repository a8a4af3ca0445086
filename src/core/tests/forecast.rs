//! Years of an account whose provider ends its sign-ins by a rule of its own, and of a user who signs in
//! within a day of being asked.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::bench::{
    Bench, HOOKS, access_only, config, invalid_grant, lost, reply, state_of, tokens,
};
use super::handover::handed_over;
use crate::{
    core::{Waiter, dump::SignIns},
    oauth::token::Outcome,
    secret::Secret,
    time::Now,
    view::{EndsBy, Happening, SignInEnd, SignInStart},
};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// How long the user takes.
const ANSWER: u64 = 20 * HOUR;

/// What happened, and on which day.
#[derive(Debug, PartialEq)]
enum Event {
    /// A mail program got no token.
    NoToken(u64),
    /// The user was told before.
    Expiring(u64),
    SignedIn(u64),
}

struct World<R> {
    bench: Bench,
    /// How long the n-th sign-in lives, unless it ends after so long without use.
    rule: R,
    start: u64,
    began: u64,
    used: u64,
    sign_ins: u64,
    answer_at: Option<u64>,
    /// How long an access token lives.
    access: u64,
    events: Vec<Event>,
    /// What the provider says of the refresh token's life.
    says: Option<fn(u64) -> u64>,
    /// A planted bug: what is learned of a life of so many seconds, instead of it.
    learns: Option<fn(u64) -> u64>,
}

impl<R: FnMut(u64) -> (u64, u64)> World<R> {
    fn new(rule: R) -> Self {
        World::with(HOOKS, rule)
    }

    fn with(globals: &str, rule: R) -> Self {
        let globals = format!("{globals} refresh_at_least = 1d;");
        let mut bench = Bench::new(config(&globals, &[("work", "a.example")]));
        bench.log = false;
        let start = bench.now.instant.millis() / 1000;
        let mut world = World {
            bench,
            rule,
            start,
            began: 0,
            used: 0,
            sign_ins: 0,
            answer_at: None,
            access: 12 * HOUR,
            events: Vec::new(),
            says: None,
            learns: None,
        };
        world.bench.show("work");
        world.bench.effects();
        world.answer();
        world.events.clear();
        world
    }

    fn secs(&self) -> u64 {
        self.bench.now.instant.millis() / 1000 - self.start
    }

    fn day(&self) -> u64 {
        self.secs() / DAY
    }

    /// Where the sign-in that is pending leads, or one that begins unless it is to `join`.
    fn address(&mut self, join: bool) -> String {
        let start = self.bench.feed(|core, cx| {
            core.on(cx, "work", |it, env| {
                it.auth(env, join, false, false, Waiter(9))
            })
        });
        let Some(Ok(SignInStart::Open(ways))) = start else {
            panic!("{start:?} on day {}", self.day());
        };
        ways.browser_uri.expect("an address")
    }

    /// The user signs in.
    fn answer(&mut self) {
        self.bench.state = state_of(&self.address(true));
        self.bench.code();
        (self.began, self.used, self.answer_at) = (self.secs(), self.secs(), None);
        self.sign_ins += 1;
        self.events.push(Event::SignedIn(self.day()));
        self.serve();
    }

    fn granted(&self) -> Outcome {
        let Some(says) = self.says else {
            return tokens(1, self.access as u32);
        };
        let life = says(self.secs() - self.began);
        reply(
            200,
            &format!(
                r#"{{"access_token":"access","refresh_token":"refresh","token_type":"bearer",
                     "expires_in":{},"refresh_token_expires_in":{life}}}"#,
                self.access
            ),
        )
    }

    fn revoke(&mut self) {
        (self.bench).feed(|core, cx| core.on(cx, "work", |it, env| it.revoke(env, None)));
        self.bench.effects();
    }

    /// Carries out what the core wants.
    fn serve(&mut self) {
        for line in self.bench.effects() {
            if line.starts_with("request ") {
                let (life, idle) = (self.rule)(self.sign_ins);
                let now = self.secs();
                let dead = now - self.began > life || now - self.used > idle;
                if !dead {
                    self.used = now;
                }
                let outcome = match self.learns {
                    Some(learns) if dead => refused_after(learns(self.used - self.began)),
                    _ if dead => invalid_grant(),
                    _ => self.granted(),
                };
                self.bench.outcome("work", &outcome);
                return self.serve();
            }
            if line.starts_with("notify work") {
                self.answer_at.get_or_insert(self.secs() + ANSWER);
            }
            if line.ends_with(", expiring") {
                self.events.push(Event::Expiring(self.day()));
            }
        }
    }

    /// So many seconds, in which a mail program looks twice a day.
    fn live(&mut self, secs: u64) {
        let end = self.secs() + secs;
        let mut look_at = self.secs();
        while self.secs() < end {
            let deadline = self.bench.core.poll_timeout();
            let deadline =
                deadline.map(|at| (at.millis().div_ceil(1000)).saturating_sub(self.start));
            let next = [deadline, self.answer_at, Some(look_at), Some(end)];
            let next = next.into_iter().flatten().min().unwrap_or(end);
            self.bench.pass(next.saturating_sub(self.secs()));
            self.bench.feed(|core, cx| core.tick(cx));
            self.serve();
            if self.answer_at.is_some_and(|at| at <= self.secs()) {
                self.answer();
            }
            if look_at <= self.secs() {
                look_at = self.secs() + 12 * HOUR;
                if !self.bench.show("work").starts_with("token ") {
                    self.events.push(Event::NoToken(self.day()));
                }
                self.serve();
            }
        }
    }

    fn count(&self, wanted: fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

/// A refusal that names a life, which counts more than what was seen.
fn refused_after(secs: u64) -> Outcome {
    let what = format!("the maximum allowed lifetime for this request is {secs}");
    reply(
        400,
        &format!(r#"{{"error":"invalid_grant","error_description":"{what}"}}"#),
    )
}

/// Years of a provider that ends sign-ins after a week, once the user has been surprised by that: how
/// often there was no token, and how often the user was told before.
fn weekly(learns: Option<fn(u64) -> u64>) -> (usize, usize) {
    let mut world = World::new(|_| (7 * DAY, YEAR));
    world.learns = learns;
    world.live(9 * DAY);
    world.events.clear();
    world.live(2 * YEAR);
    let none = world.count(|it| matches!(it, Event::NoToken(_)));
    (none, world.count(|it| matches!(it, Event::Expiring(_))))
}

/// What finds fault with a program that has learned the wrong thing.
#[test]
fn a_planted_bug_that_learns_the_wrong_life_is_found() {
    let fault = |(none, told): (usize, usize)| none > 0 || told > 2 * 365 / 6 + 1;
    assert!(!fault(weekly(None)));
    let same: fn(u64) -> u64 = |life| life;
    assert!(!fault(weekly(Some(same))), "{:?}", weekly(Some(same)));
    type Wrong = fn(u64) -> u64;
    let planted: [(&str, Wrong); 4] = [
        ("too long", |life| life + life / 4),
        ("milliseconds", |life| life * 1000),
        ("minutes", |life| life / 60),
        ("half", |life| life / 2),
    ];
    for (name, learns) in planted {
        let found = weekly(Some(learns));
        assert!(fault(found), "{name}: {found:?}");
    }
}

/// Lives that follow no rule: each shorter one than those known may surprise, and none else.
#[test]
fn of_lives_without_a_rule_only_a_shorter_one_surprises() {
    for seed in 1..=3_u64 {
        let life = move |n: u64| {
            let random = (n + seed * 1000).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            (5 + random % 60) * DAY
        };
        let mut world = World::new(|n| (life(n), YEAR));
        world.live(10 * YEAR);
        let mut shortest = u64::MAX;
        let mut surprises = 0;
        for n in 1..=world.sign_ins {
            surprises += usize::from(life(n) < shortest);
            shortest = shortest.min(life(n));
        }
        let (mut found, mut over) = (0, false);
        for event in &world.events {
            let over_before = over;
            match event {
                Event::Expiring(_) => {}
                Event::SignedIn(_) => over = false,
                Event::NoToken(_) => over = true,
            }
            found += usize::from(over && !over_before);
        }
        assert!(
            found <= surprises,
            "{found} {surprises}: {:?}",
            world.events
        );
        assert!(world.sign_ins > 50, "{}", world.sign_ins);
    }
}

#[test]
fn what_has_ended_once_is_told_of_before_it_ends_again() {
    for (life, years) in [(2, 2), (7, 10), (90, 10)] {
        let mut world = World::new(|_| (life * DAY, YEAR));
        world.access = (12 * HOUR).min(life * DAY / 16);
        // The first one is a surprise.
        world.live((life + 2) * DAY);
        assert!(world.count(|it| matches!(it, Event::NoToken(_))) > 0);
        assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 0);
        world.events.clear();
        world.live(years * YEAR);
        let none = world.count(|it| matches!(it, Event::NoToken(_)));
        assert_eq!(none, 0, "{life}: {:?}", world.events);
        // Nobody is asked more often than needs be.
        let asked = world.count(|it| matches!(it, Event::Expiring(_)));
        let needed = (years * YEAR / ((life - 1) * DAY)) as usize;
        assert!(asked <= needed + 1, "{life}: {asked} times");
    }
}

/// With a command for it or without, and although another sign-in has been pending since the first day.
#[test]
fn a_notice_comes_once_a_day_to_all_who_listen() {
    for (globals, notified) in [(HOOKS, 3), ("", 0)] {
        let mut world = World::with(&format!("{globals} notice_before = 3d;"), |_| (YEAR, YEAR));
        world.says = Some(|age| (20 * DAY).saturating_sub(age));
        // The first tokens came before anything was said.
        world.address(false);
        world.answer();
        std::iter::from_fn(|| world.bench.core.next_news()).for_each(drop);
        world.events.clear();
        world.live(17 * DAY - HOUR);
        assert_eq!(world.events, []);
        // Without an answer.
        world.answer_at = Some(u64::MAX);
        world.live(3 * DAY);
        assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), notified);
        let news = std::iter::from_fn(|| world.bench.core.next_news());
        let news: Vec<_> = news.collect();
        let told = news
            .iter()
            .filter(|news| news.event == Happening::SignInExpiring);
        assert_eq!(told.count(), 3, "{news:?}");
        let begun = news
            .iter()
            .filter(|news| news.event == Happening::AuthorisationPending);
        assert_eq!(begun.count(), 1, "{news:?}");
    }
}

/// Somebody has begun to sign in by hand, long before.
#[test]
fn a_sign_in_that_is_pending_already_is_the_one_to_complete() {
    let mut world = World::new(|_| (YEAR, YEAR));
    world.says = Some(|age| (20 * DAY).saturating_sub(age));
    world.address(false);
    world.answer();
    world.events.clear();
    world.live(5 * DAY);
    let address = world.address(false);
    world.answer_at = Some(u64::MAX);
    world.live(13 * DAY);
    assert_eq!(world.events, []);
    world.live(DAY + HOUR);
    assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 1);
    assert_eq!(world.address(false), address);
}

#[test]
fn what_the_provider_says_is_told_of_the_first_time() {
    let mut world = World::new(|_| (7 * DAY, YEAR));
    world.says = Some(|age| (7 * DAY).saturating_sub(age));
    // The one who has signed in first heard nothing.
    world.live(9 * DAY);
    world.events.clear();
    world.live(YEAR);
    let none = world.count(|it| matches!(it, Event::NoToken(_)));
    assert_eq!(none, 0, "{:?}", world.events);
    // As often as a refresh puts it off, nothing is said.
    let mut world = World::new(|_| (YEAR * 20, 7 * DAY));
    world.says = Some(|_| 7 * DAY);
    world.live(10 * YEAR);
    assert_eq!(world.events, []);
}

/// Nobody was there to be told.
#[test]
fn an_end_for_want_of_use_teaches_nothing() {
    let mut world = World::new(|_| (YEAR * 20, 90 * DAY));
    for _ in 0..10 {
        world.live(YEAR - 100 * DAY);
        // The machine is off.
        world.bench.pass(100 * DAY);
    }
    assert!(world.sign_ins > 5, "{:?}", world.events);
    assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 0);
}

/// A first sign-in that ended after a month, and one after it that goes on.
fn ended_early() -> World<impl FnMut(u64) -> (u64, u64)> {
    let mut world = World::new(|n| {
        if n == 1 {
            (30 * DAY, YEAR)
        } else {
            (YEAR * 20, YEAR)
        }
    });
    world.live(35 * DAY);
    world.events.clear();
    world
}

/// A password that was changed, say: the user is told once that this may be the rule, for a few days.
#[test]
fn an_end_for_another_reason_is_soon_forgotten() {
    let mut world = ended_early();
    world.live(5 * YEAR);
    // Each time the user signs in as was proposed, so nobody can tell; but it is no more than once a month.
    assert!(world.count(|it| matches!(it, Event::Expiring(_))) <= 5 * 13);
    assert_eq!(world.count(|it| matches!(it, Event::NoToken(_))), 0);
}

/// Who doesn't want to sign in isn't asked for ever.
#[test]
fn a_sign_in_that_lives_on_is_no_longer_told_of() {
    let mut world = ended_early();
    // Told, and away until it should have ended.
    while world.count(|it| matches!(it, Event::Expiring(_))) == 0 {
        world.live(DAY / 2);
    }
    world.answer_at = Some(u64::MAX);
    world.live(YEAR);
    let told = world.count(|it| matches!(it, Event::Expiring(_)));
    assert!((1..=2).contains(&told), "{told}: {:?}", world.events);
    assert_eq!(world.count(|it| matches!(it, Event::NoToken(_))), 0);
}

/// A sign-in that began so many seconds ago, after one that lived so long.
fn learned(bench: &Bench, ago: u64, life: u64) -> SignIns {
    let began = bench.now.wall.before(Duration::from_secs(ago)).millis();
    let text = format!(r#"{{"began":{began},"lives":[{{"secs":{life},"nanos":0}}]}}"#);
    serde_json::from_str(&text).expect("what a dump has")
}

/// The code for the notice comes after the clock was set back.
#[test]
fn a_clock_that_is_set_back_repeats_no_notice() {
    let text = r#"auth_notify_cmd = "notify"; account "work" { auth_uri = "https://a.example/auth";
        client_id = "id"; token_uri = "https://a.example/token"; scopes = ["mail"];
        device_auth_uri = "https://a.example/device"; }"#;
    let mut bench = Bench::new(crate::config::parse("test.conf", text).expect("a config"));
    bench.log = false;
    let mut dump = bench.saved("work", Some("refresh"), bench.now.instant);
    dump.grants[0].sign_ins = learned(&bench, 6 * DAY + HOUR, 7 * DAY);
    assert_eq!(bench.restore(dump), 1);
    bench.effects();
    bench.feed(|core, cx| core.tick(cx));
    let asks = bench.effects();
    assert!(
        asks.len() == 1 && asks[0].starts_with("request "),
        "{asks:?}"
    );
    bench.now.wall = bench.now.wall.before(Duration::from_secs(HOUR));
    let code = r#"{"device_code":"dc","user_code":"UC","verification_uri":"https://a.example/",
        "expires_in":900,"interval":5}"#;
    bench.outcome("work", &reply(200, code));
    let told = bench.effects();
    assert!(
        told.len() == 1 && told[0].ends_with(", expiring"),
        "{told:?}"
    );
    for _ in 0..3 {
        bench.feed(|core, cx| core.tick(cx));
        assert_eq!(bench.effects(), [""; 0]);
    }
}

/// Whoever sleeps isn't told: in summer and winter it is at nine where the user lives.
#[test]
fn a_notice_comes_at_the_hour_that_the_config_says() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let mut world = World::with(&format!("{HOOKS} notice_at = \"09:00\";"), |_| {
        (7 * DAY, YEAR)
    });
    let mut config = (**world.bench.core.config()).clone();
    config.notice_at = config.notice_at.map(|(time, _)| (time, zone.clone()));
    world.bench.feed(|core, cx| core.reload(cx, config));
    // The first is a surprise.
    world.live(9 * DAY);
    world.events.clear();
    while std::iter::from_fn(|| world.bench.core.next_news()).count() > 0 {}
    world.live(2 * YEAR);
    assert_eq!(world.count(|it| matches!(it, Event::NoToken(_))), 0);
    let news = std::iter::from_fn(|| world.bench.core.next_news());
    let mut ahead = Vec::new();
    for news in news.filter(|news| news.event == Happening::SignInExpiring) {
        let at = Timestamp::from_millisecond(news.at.millis()).expect("a time");
        let local = zone.to_datetime(at);
        assert_eq!((local.hour(), local.minute()), (9, 0), "{local}");
        let end = news.expires.expect("an end");
        ahead.push(end.since(news.at).as_secs() / HOUR);
    }
    // News of two years don't all wait for a reader.
    assert!(ahead.len() > 10, "{ahead:?}");
    assert!(
        ahead.iter().all(|hours| (24..=48).contains(hours)),
        "{ahead:?}"
    );
}

/// An access token that comes alone and lasts for days.
#[test]
fn the_end_of_an_access_token_alone_is_told_of() {
    for (life, told) in [(30 * DAY, 1), (8 * HOUR, 1), (8 * HOUR - 1, 0)] {
        let mut world = World::new(|_| (YEAR, YEAR));
        world.revoke();
        world.bench.show("work");
        world.bench.effects();
        world.bench.state = state_of(&world.address(true));
        world.bench.code();
        world.bench.effects();
        world.bench.outcome("work", &access_only(1, life as u32));
        world.bench.effects();
        world.answer_at = Some(u64::MAX);
        world.events.clear();
        world.live(life - 60);
        assert_eq!(
            world.count(|it| matches!(it, Event::Expiring(_))),
            told,
            "{life}"
        );
        assert_eq!(
            world.count(|it| matches!(it, Event::NoToken(_))),
            0,
            "{life}"
        );
        // Then it is as ever.
        world.live(DAY);
        assert!(world.count(|it| matches!(it, Event::NoToken(_))) > 0);
        assert_eq!(
            world.count(|it| matches!(it, Event::Expiring(_))),
            told,
            "{life}"
        );
    }
}

/// A provider that has set an end and lets the refresh token live on isn't believed.
#[test]
fn an_end_that_has_passed_without_effect_is_not_told_of() {
    let mut world = World::new(|_| (20 * YEAR, YEAR));
    world.says = Some(|age| (20 * DAY).saturating_sub(age));
    world.live(DAY);
    world.events.clear();
    world.answer_at = Some(u64::MAX);
    world.live(YEAR);
    assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 1);
    let view = &world.bench.core.status(world.bench.now)[0];
    assert_eq!(view.sign_in_end, None);
}

/// What is used every day outlives a limit on its idle time.
#[test]
fn a_limit_on_the_time_without_use_is_never_met() {
    let mut world = World::new(|_| (20 * YEAR, 90 * DAY));
    world.live(10 * YEAR);
    assert_eq!(world.events, []);
}

fn ends(bench: &Bench) -> Option<SignInEnd> {
    bench.core.status(bench.now)[0].sign_in_end
}

/// One that knows nothing yet.
fn fresh(now: Now) -> Bench {
    let mut bench = Bench::new(config(HOOKS, &[("work", "a.example")]));
    (bench.log, bench.now) = (false, now);
    bench
}

/// Lives that were learned go with the state, and an older state doesn't take them away.
#[test]
fn lives_that_were_learned_are_kept() {
    let mut world = World::new(|_| (7 * DAY, YEAR));
    world.live(9 * DAY);
    let end = ends(&world.bench).expect("an end");
    assert_eq!(end.by, EndsBy::Experience);
    let dump = world.bench.dump();
    let text = serde_json::to_string(&dump.grants[0].sign_ins).expect("a text");
    assert!(text.contains("\"lives\":[{"), "{text}");
    let mut bench = fresh(world.bench.now);
    assert_eq!(bench.restore(dump), 1);
    assert_eq!(ends(&bench), Some(end));
    bench.pass(60);
    let mut older = bench.dump();
    older.grants[0].obtained = bench.now.wall;
    older.grants[0].sign_ins = SignIns::default();
    older.grants[0].sign_ins.began = Some(bench.now.wall);
    assert_eq!(bench.restore(older), 1);
    assert_eq!(ends(&bench).map(|end| end.by), Some(EndsBy::Experience));
}

/// A user who has given up the second sign-in, after a first one that lived for a week.
fn revoked() -> World<impl FnMut(u64) -> (u64, u64)> {
    let mut world = World::new(|_| (7 * DAY, YEAR));
    world.live(9 * DAY);
    world.revoke();
    world
}

/// They are the account's, and stay when its tokens go.
#[test]
fn lives_that_were_learned_outlive_a_revoke() {
    type Passes = fn(&mut Bench, &mut Bench);
    let ways: [(&str, Passes); 3] = [
        ("a dump", |before, after| {
            assert_eq!(after.restore(before.dump()), 0);
        }),
        ("two dumps", |before, after| {
            let mut between = fresh(before.now);
            assert_eq!(between.restore(before.dump()), 0);
            assert_eq!(after.restore(between.dump()), 0);
        }),
        ("a state", |before, after| {
            let config = (**before.core.config()).clone();
            (*after, _) = handed_over(before, config);
        }),
    ];
    for (way, pass) in ways {
        let mut world = revoked();
        let mut next = fresh(world.bench.now);
        pass(&mut world.bench, &mut next);
        assert_eq!(next.effects(), [""; 0], "{way}");
        assert_eq!(ends(&next), None, "{way}");
        world.bench = next;
        world.bench.show("work");
        world.bench.effects();
        world.answer();
        let end = ends(&world.bench).expect(way);
        assert_eq!(end.by, EndsBy::Experience, "{way}");
        let days = end.at.since(world.bench.now.wall).as_secs() / DAY;
        assert!((6..=7).contains(&days), "{way}: {days}");
    }
}

/// They are saved at once, even if they have come by a restore.
#[test]
fn lives_that_were_learned_are_saved_without_tokens() {
    let dump = revoked().bench.dump();
    let saves = format!("{HOOKS} state_save_cmd = \"save\";");
    let mut bench = Bench::new(config(&saves, &[("work", "a.example")]));
    bench.log = false;
    assert_eq!(bench.restore(dump), 0);
    let effects = bench.effects();
    let saved = |it: &String| it.starts_with("save ");
    assert!(effects.iter().any(saved), "{effects:?}");
}

/// A dump without tokens takes none away, nor what is known of them.
#[test]
fn what_was_learned_elsewhere_is_learned_beside_tokens() {
    let mut world = revoked();
    let dump = world.bench.dump();
    let mut bench = fresh(world.bench.now);
    let obtained = bench.now.instant.before(Duration::from_secs(HOUR));
    let mut held = bench.saved("work", Some("refresh"), obtained);
    let began = held.grants[0].obtained;
    held.grants[0].sign_ins.began = Some(began);
    held.grants[0]
        .access
        .as_mut()
        .expect("an access token")
        .expires = None;
    assert_eq!(bench.restore(held), 1);
    bench.effects();
    assert_eq!(ends(&bench), None);
    assert_eq!(bench.restore(dump), 0);
    assert_eq!(bench.show("work"), "token restored");
    let end = ends(&bench).expect("an end");
    assert!((6..=7).contains(&(end.at.since(began).as_secs() / DAY)));
}

/// The user gives up tokens, and takes those of a dump from before the last life was learned.
#[test]
fn an_older_dump_takes_no_life_away() {
    let mut world = World::new(|n| (if n == 1 { 60 * DAY } else { 7 * DAY }, YEAR));
    world.live(62 * DAY);
    let older = world.bench.dump();
    world.live(9 * DAY);
    world.revoke();
    assert_eq!(world.bench.restore(older), 1);
    let known = serde_json::to_value(&world.bench.dump().grants[0].sign_ins).expect("a value");
    assert_eq!(known["lives"].as_array().map(Vec::len), Some(2), "{known}");
}

/// That is no end by the provider; nor is it known when the user signed in for what another program
/// had.
#[test]
fn a_revoke_and_tokens_of_another_program_teach_nothing() {
    let mut world = World::new(|n| (if n == 1 { 30 * DAY } else { YEAR }, YEAR));
    world.live(20 * DAY);
    world.revoke();
    let imported = world.bench.feed(|core, cx| {
        let token = Secret::new("refresh".into());
        core.on(cx, "work", |it, env| it.import(env, token, Waiter(1)))
    });
    assert!(matches!(imported, Some(Ok(()))), "{imported:?}");
    world.serve();
    world.live(15 * DAY);
    assert_eq!(world.sign_ins, 2);
    assert_eq!(ends(&world.bench), None);
}

/// Nothing but that is kept of an account without tokens.
#[test]
fn an_account_that_has_learned_nothing_is_in_no_dump() {
    let mut world = World::new(|_| (YEAR, YEAR));
    world.live(9 * DAY);
    world.revoke();
    assert_eq!(world.bench.dump().grants, []);
}

/// An end by experience moves with the clock that it is told by.
#[test]
fn a_clock_that_is_set_moves_no_end() {
    let mut world = World::new(|_| (7 * DAY, YEAR));
    world.live(9 * DAY);
    let bench = &mut world.bench;
    let left = |bench: &Bench| {
        let end = bench.core.status(bench.now)[0].sign_in_end.expect("an end");
        end.at.since(bench.now.wall)
    };
    let before = left(bench);
    for set in [40 * DAY, 400 * DAY] {
        bench.now.wall = bench.now.wall.before(Duration::from_secs(set));
        bench.feed(|core, cx| core.compare_clocks(cx));
        assert_eq!(left(bench), before);
        bench.now.wall = bench.now.wall.after(Duration::from_secs(set + DAY));
        bench.feed(|core, cx| core.compare_clocks(cx));
        assert_eq!(left(bench), before);
    }
}

/// The old tokens serve until there are new ones: a sign-in beside them that is refused costs nothing, and
/// the next notice comes a day later.
#[test]
fn a_second_sign_in_that_fails_costs_nothing() {
    let mut world = World::with(&format!("{HOOKS} notice_before = 3d;"), |_| {
        (20 * DAY, YEAR)
    });
    world.says = Some(|age| (20 * DAY).saturating_sub(age));
    world.live(17 * DAY - HOUR);
    world.events.clear();
    world.answer_at = Some(u64::MAX);
    world.live(2 * HOUR);
    assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 1);
    world.bench.state = state_of(&world.address(true));
    world.bench.code();
    world.bench.effects();
    world.bench.outcome("work", &invalid_grant());
    world.bench.effects();
    assert!(world.bench.show("work").starts_with("token "));
    world.live(DAY);
    assert_eq!(world.count(|it| matches!(it, Event::Expiring(_))), 2);
    assert_eq!(world.count(|it| matches!(it, Event::NoToken(_))), 0);
    world.answer();
    world.live(10 * DAY);
    assert_eq!(world.count(|it| matches!(it, Event::NoToken(_))), 0);
}

/// The machine was off for long: what the next refresh puts off isn't told of before that.
#[test]
fn an_end_is_not_told_of_before_the_refresh_that_puts_it_off() {
    let mut bench = Bench::new(config(HOOKS, &[("work", "a.example")]));
    bench.log = false;
    let obtained = bench.now.instant.before(Duration::from_secs(29 * DAY));
    let mut dump = bench.saved("work", Some("refresh"), obtained);
    dump.grants[0].refresh_ends = Some(bench.now.wall.after(Duration::from_secs(20 * HOUR)));
    dump.grants[0].obtained = bench.now.wall.before(Duration::from_secs(29 * DAY));
    assert_eq!(bench.restore(dump), 1);
    bench.feed(|core, cx| core.tick(cx));
    let effects = bench.effects();
    assert!(
        effects.iter().any(|it| it.starts_with("request ")),
        "{effects:?}"
    );
    assert!(
        !effects.iter().any(|it| it.contains("expiring")),
        "{effects:?}"
    );
    // It fails, so nobody knows.
    bench.outcome("work", &lost());
    bench.feed(|core, cx| core.tick(cx));
    let effects = bench.effects();
    assert!(
        effects.iter().any(|it| it.ends_with(", expiring")),
        "{effects:?}"
    );
}
