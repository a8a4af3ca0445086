//! The core alone: no process, no socket, and no clock but this one.

use std::{
    hint::black_box,
    process::Command,
    time::{Duration, Instant},
};

use pizauth::{
    config::{self, Config},
    core::{AttemptId, Core, Cx, Effect, Entropy, Ports, ShowRequest},
    oauth::token::{Outcome, Reply},
    server::fuzzing,
    time::{Instant as Moment, Now, Wall},
};

use crate::{
    report::{Report, median, millis},
    world,
};

/// The sizes whose difference tells how something grows.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// How many steps the simulator takes: some seconds.
const STEPS: u32 = 200_000;

pub fn core(report: &mut Report) {
    report.section("the core alone");
    grows(report, "parse a config", "ms", |accounts| {
        let text = world::config("https://127.0.0.1:1", accounts, "");
        millis(time(|| drop(black_box(config::parse("bench.conf", &text)))))
    });
    grows(report, "when to tick next", "ns", |accounts| {
        let bench = Bench::new(accounts, Duration::ZERO);
        nanos_each(10_000, |_| {
            black_box(bench.core.poll_timeout());
        })
    });
    grows(
        report,
        "an event: show of a token that is held",
        "ns",
        |accounts| {
            let mut bench = Bench::new(accounts, Duration::ZERO);
            nanos_each(10_000, |number| bench.show(number % accounts))
        },
    );
    grows(report, "an event: a refresh's reply", "ns", |accounts| {
        let mut bench = Bench::new(accounts, Duration::from_secs(3600));
        let due = bench.tick();
        assert_eq!(due.len(), accounts, "all are due at once");
        nanos_each(accounts, |number| bench.answer(&due[number]))
    });
    for accounts in [3, 10_000] {
        let bench = Bench::new(accounts, Duration::ZERO);
        let mut write = fuzzing::state_writer().unwrap();
        let mut row = |what: &str, act: &mut dyn FnMut()| {
            let mut spans: Vec<f64> = (0..99).map(|_| 1e3 * millis(time(&mut *act))).collect();
            let name = format!("{what} the state that outlives a crash, {accounts} accounts");
            report.row(&name, "us, median of 99", median(&mut spans), "");
        };
        let state = bench.core.state(bench.now);
        row("taking", &mut || {
            drop(black_box(bench.core.state(bench.now)))
        });
        row("writing", &mut || write(&state).unwrap());
    }
    simulator(report);
}

/// A row for each size, and how it grows.
fn grows(report: &mut Report, name: &str, unit: &str, measure: impl Fn(usize) -> f64) {
    let sizes = [FEW, MANY];
    let values = sizes.map(|accounts| {
        let mut spans: Vec<f64> = (0..9).map(|_| measure(accounts)).collect();
        let value = median(&mut spans);
        let name = format!("{name}, {accounts} accounts");
        report.row(&name, &format!("{unit}, median of 9"), value, "");
        value
    });
    let exponent = (values[1] / values[0]).log10();
    report.row(name, "exponent from 1,000 to 10,000", exponent, "");
}

fn time(act: impl FnOnce()) -> Duration {
    let start = Instant::now();
    act();
    start.elapsed()
}

fn nanos_each(count: usize, act: impl FnMut(usize)) -> f64 {
    let all = time(|| (0..count).for_each(act));
    all.as_nanos() as f64 / count as f64
}

/// Tests come with the simulator. It is built as the daemon is, which is what the rest of the
/// benchmark has built already; `make sim` builds another, which is faster.
fn simulator(report: &mut Report) {
    let words = "test --locked --release --lib core::sim::every_promise -- --nocapture";
    let output = Command::new(env!("CARGO"))
        .args(words.split(' '))
        .env("PIZAUTH_SIM_STEPS", STEPS.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let rate = words.windows(3).find(|words| words[1..] == ["a", "minute"]);
    match rate.and_then(|words| words[0].parse::<f64>().ok()) {
        Some(rate) => report.row("the simulator", "steps a second", rate / 60.0, ""),
        None => report.note("the simulator fails: see `make sim`"),
    }
}

/// A core with a clock that stands still.
struct Bench {
    core: Core,
    now: Now,
}

/// As good as random, for what nobody keeps.
struct Counter(u8);

impl Entropy for Counter {
    fn bytes32(&mut self) -> [u8; 32] {
        self.0 = self.0.wrapping_add(1);
        [self.0; 32]
    }
}

impl Bench {
    /// With tokens that live for an hour and are so old.
    fn new(accounts: usize, age: Duration) -> Self {
        let text = world::config("https://127.0.0.1:1", accounts, "");
        let config: Config = config::parse("bench.conf", &text).unwrap();
        let now = Now {
            instant: Moment::from_millis(1_000_000_000),
            wall: Wall::from_millis(1_700_000_000_000),
        };
        let expires = Duration::from_secs(3600).saturating_sub(age);
        let dump = world::tokens(&config, now.wall.before(age), now.wall.after(expires));
        let core = Core::new(config, Ports::default());
        let mut bench = Bench { core, now };
        let taken = bench.event(|core, cx| core.restore(cx, dump));
        assert_eq!(taken, accounts);
        bench
    }

    fn event<T>(&mut self, event: impl FnOnce(&mut Core, &mut Cx) -> T) -> T {
        let mut cx = Cx {
            now: self.now,
            entropy: &mut Counter(0),
        };
        let value = event(&mut self.core, &mut cx);
        while self.core.next_news().is_some() {}
        value
    }

    fn show(&mut self, number: usize) {
        let name = format!("a{number}");
        black_box(self.event(|core, cx| core.ask(cx, &name, ShowRequest::default())));
    }

    /// Whose tokens are asked for now.
    fn tick(&mut self) -> Vec<(String, AttemptId)> {
        self.event(|core, cx| core.tick(cx));
        let effects = std::iter::from_fn(|| self.core.next_effect());
        let asked = effects.filter_map(|effect| match effect {
            Effect::Request {
                account, attempt, ..
            } => Some((account.to_string(), attempt)),
            _ => None,
        });
        asked.collect()
    }

    fn answer(&mut self, (name, attempt): &(String, AttemptId)) {
        let body = br#"{"access_token":"another","token_type":"bearer","expires_in":3600}"#;
        let outcome = Outcome::Reply(Reply {
            status: 200,
            retry_after: None,
            date: None,
            location: None,
            body: pizauth::secret::SecretBytes::new(body.to_vec()),
            ..Reply::default()
        });
        let sent = self.now.instant;
        self.event(|core, cx| {
            core.on(cx, name, |it, env| {
                it.token_outcome(env, *attempt, sent, &outcome)
            })
        });
        while self.core.next_effect().is_some() {}
    }
}
