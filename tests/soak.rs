//! `make soak`: two hundred accounts and a fault a second, for as long as one likes. In the end every
//! account whose grant the provider hasn't ended has a valid token without a new sign-in, and the
//! daemon is as small as it was.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::browser;
use crate::support::command::Running;
use crate::support::daemon::Daemon;
use crate::support::provider::{AUTHORIZE, Gate, Provider, Scripted, TOKEN};

/// How many accounts there are.
const ACCOUNTS: usize = 200;

/// How many of them belong to the provider that takes the second use of a refresh token for theft.
const STRICT: usize = 110;

/// How many of those lose their grant now and then, by the provider's own word.
const ENDED: usize = 10;

/// How long the tokens live, in seconds: each account asks twice a minute.
const LIFE_SECS: u64 = 60;

/// How far apart two requests of an account are made at least, if the second is a refresh.
const FLOOR: Duration = Duration::from_secs(10);

/// How long a busy machine may hold up a request on its way. It makes one gap look shorter; of a row of
/// gaps that are too short each adds to it.
const HELD_UP: Duration = Duration::from_millis(2_500);

/// How much more the daemon may usually have in the last quarter than it had in the second, in kB. The
/// median: a restart tries the next program beside the old one, for a moment.
const MAX_GROWTH_KB: u64 = 2 * 1024;

/// How many threads all its processes may ever have: 56 workers (24 refreshes at each of two hosts, and
/// eight that are kept for sign-ins), and what else there is.
const MAX_THREADS: u64 = 64;

/// How many descriptors more it may have in the last quarter than it had in the second.
const MAX_MORE_DESCRIPTORS: u64 = 16;

/// Everything of one soak.
struct Soak {
    strict: Provider,
    lax: Provider,
    daemon: Daemon,
    random: u64,
    /// Replies that are held back, and until when.
    gates: Vec<(Instant, Gate)>,
    /// Strangers at the control socket who have said half a request.
    strangers: Vec<UnixStream>,
    /// A restart that waits for the requests under way, up to half a minute.
    restarting: Option<Running>,
    /// A dump of a while ago.
    old: Vec<u8>,
    samples: Vec<Sample>,
    faults: usize,
    sign_ins: usize,
    shown: [usize; 2],
    wrong: Vec<String>,
}

/// What the daemon's processes have at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    resident_kb: u64,
    threads: u64,
    descriptors: u64,
    zombies: u64,
}

/// A number of the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(default)
}

/// The next random number, below this one.
pub fn below(random: &mut u64, bound: usize) -> usize {
    // Numerical Recipes' constants; the high bits are good enough for this.
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*random >> 33) as usize) % bound
}

pub fn name(number: usize) -> String {
    format!("a{number}")
}

pub fn path(number: usize) -> String {
    format!("{TOKEN}/{}", name(number))
}

#[test]
#[ignore = "a soak takes as long as one likes: make soak MINUTES=10"]
fn nothing_is_lost_and_nothing_grows() {
    let span = Duration::from_secs(60 * setting("MINUTES", 10));
    let seed = setting("SEED", u64::from(std::process::id()));
    println!("{ACCOUNTS} accounts, a fault a second for {span:?}, SEED={seed}");
    let mut soak = Soak::start(seed);
    let began = Instant::now();
    let mut beats = 0;
    while began.elapsed() < span {
        beats += 1;
        soak.beat(beats);
        let next = Duration::from_secs(beats).saturating_sub(began.elapsed());
        // why: the beat itself, one fault a second.
        thread::sleep(next);
    }
    soak.settle();
    soak.judge(began.elapsed());
}

impl Soak {
    fn start(seed: u64) -> Self {
        let (strict, lax) = (Provider::tagged("strict-"), Provider::tagged("lax-"));
        strict.set(|settings| settings.expires_in = Some(LIFE_SECS));
        lax.set(|settings| {
            settings.expires_in = Some(LIFE_SECS);
            settings.reuse_detection = false;
        });
        let account = |number| {
            let provider = if number < STRICT { &strict } else { &lax };
            provider.account_at(&name(number), &path(number), "refresh_retry = 2s;")
        };
        let mut daemon = Daemon::new(&(0..ACCOUNTS).map(account).collect::<String>());
        daemon.start_with(&[]);
        let mut soak = Soak {
            strict,
            lax,
            daemon,
            random: seed,
            gates: Vec::new(),
            strangers: Vec::new(),
            restarting: None,
            old: Vec::new(),
            samples: Vec::new(),
            faults: 0,
            sign_ins: 0,
            shown: [0; 2],
            wrong: Vec::new(),
        };
        for number in 0..ACCOUNTS {
            soak.sign_in(number);
        }
        soak
    }

    fn provider(&self, number: usize) -> &Provider {
        if number < STRICT {
            &self.strict
        } else {
            &self.lax
        }
    }

    fn sign_in(&mut self, number: usize) {
        // A fault that waits for the account's next refresh would meet the code instead.
        self.provider(number).unscript(&path(number));
        let account = name(number);
        let page = browser::visit(&self.daemon.authorization_url(&account));
        // A server that is just becoming another program takes the code along, but not the page that
        // waits for its end.
        let lost = page.text().contains("This page is no longer there");
        let fine = [200, 503].contains(&page.status()) || lost;
        assert!(fine, "{}", page.text());
        self.daemon
            .eventually(&["show", &account], |shown| shown.status == 0);
        self.sign_ins += 1;
    }

    fn below(&mut self, bound: usize) -> usize {
        below(&mut self.random, bound)
    }

    /// What happens in one second.
    fn beat(&mut self, beat: u64) {
        let victim = self.below(ACCOUNTS);
        let fault = self.fault(victim >= STRICT);
        self.provider(victim).script(&path(victim), fault);
        self.faults += 1;
        let now = Instant::now();
        self.gates.retain(|(until, gate)| {
            let held = *until > now;
            if !held {
                gate.open();
            }
            held
        });
        let asked = self.below(ACCOUNTS);
        self.show(asked);
        if self.restarting.as_mut().is_some_and(|it| !it.is_running()) {
            self.await_restart();
        }
        if beat % 5 == 0 {
            self.disturb(beat);
        }
        if beat % 20 == 0 {
            self.end_a_grant();
        }
        self.samples.push(self.sample());
    }

    /// An answer that costs no login; with `lax` also those that the provider has acted on.
    fn fault(&mut self, lax: bool) -> Scripted {
        const STATUSES: [u16; 20] = [
            204, 302, 307, 400, 403, 404, 407, 408, 425, 429, 451, 500, 502, 503, 504, 511, 520,
            522, 525, 527,
        ];
        let page = "<!DOCTYPE html><title>Welcome to the network</title>";
        match self.below(if lax { 14 } else { 11 }) {
            0..6 => match STATUSES[self.below(STATUSES.len())] {
                status @ (302 | 307) => Scripted::Redirect(status, self.lax.url("/elsewhere")),
                429 => {
                    let error = json!({ "error": "temporarily_unavailable" });
                    let mut answer = Scripted::json(429, &error);
                    if let Scripted::Reply(reply) = &mut answer {
                        reply.headers.0.push(("Retry-After".into(), "15".into()));
                    }
                    answer
                }
                status => Scripted::reply(status, "text/html", page),
            },
            6 => Scripted::reply(200, "text/html", page),
            7 => Scripted::Hang,
            8 => Scripted::Reset,
            9 => Scripted::Close,
            10 => Scripted::Huge(2 << 20),
            11 => Scripted::Truncated,
            12 => Scripted::HappyButLost,
            _ => {
                let gate = Gate::new();
                let until = Instant::now() + Duration::from_secs(5);
                self.gates.push((until, gate.clone()));
                Scripted::Drip { bytes: 40, gate }
            }
        }
    }

    /// Somebody asks for a token: it is good, or it is refreshed soon.
    fn show(&mut self, number: usize) {
        let shown = self.daemon.run(&["show", &name(number)]);
        let ended = number < ENDED;
        match shown.status {
            0 if ended || self.provider(number).accepts(shown.stdout.trim_end()) => {
                self.shown[0] += 1;
            }
            75 => self.shown[1] += 1,
            77 if ended => {}
            _ => self.wrong.push(format!("{}: {shown:?}", name(number))),
        }
    }

    /// What else happens around a daemon.
    fn disturb(&mut self, beat: u64) {
        let pid = self.pid();
        match self.below(9) {
            0 => kill(pid, Signal::SIGHUP).expect("to signal"),
            1 => {
                let status = self.daemon.run(&["status"]);
                let log = self.daemon.log().text();
                let last = log.lines().rev().take(20).collect::<Vec<_>>();
                assert_eq!(status.status, 0, "{status:?}, the log backwards: {last:#?}");
            }
            2 => self.old = self.daemon.dump(),
            // What it holds is newer; nothing changes.
            3 if !self.old.is_empty() => {
                self.daemon.run_with(&["restore"], &self.old).ok();
            }
            4 => {
                self.strangers.clear();
                for _ in 0..50 {
                    let mut stranger = self.connect();
                    // It may have been shown out already.
                    let _ = stranger.write_all(b"pizauth 1 show 99\n{");
                    self.strangers.push(stranger);
                }
            }
            5 => kill(pid, Signal::SIGUSR1).expect("to signal"),
            6 => self.lax.drop_connections(),
            7 => self.strict.drop_connections(),
            _ if beat % 10 == 0 => {
                fs::remove_file(self.daemon.socket_path()).expect("to remove the socket");
                // It comes back by itself.
                self.connect();
            }
            _ if self.restarting.is_some() => {}
            _ => {
                self.restarting = Some(self.daemon.spawn(&["restart"]));
            }
        }
    }

    fn await_restart(&mut self) {
        if let Some(restarting) = self.restarting.take() {
            restarting.finish().ok();
        }
    }

    fn connect(&self) -> UnixStream {
        crate::support::wait::until("the control socket", || {
            UnixStream::connect(self.daemon.socket_path()).ok()
        })
    }

    /// The provider ends a grant; whoever had it signs in again.
    fn end_a_grant(&mut self) {
        let number = self.below(ENDED);
        self.strict
            .end_grants_of(&format!("client-of-{}", name(number)));
        for number in 0..ENDED {
            let shown = self.daemon.run(&["show", &name(number)]);
            if shown.status == 77 {
                self.sign_in(number);
            }
        }
    }

    fn pid(&self) -> Pid {
        self.daemon.pid().expect("the daemon's pid")
    }

    /// What the daemon and the runner of its hooks have now.
    fn sample(&self) -> Sample {
        let daemon = self.pid();
        let children = format!("/proc/{daemon}/task/{daemon}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let mut all = Sample::default();
        for pid in [daemon.to_string().as_str()]
            .into_iter()
            .chain(children.split_whitespace())
        {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let field = |key: &str| -> u64 {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
                number.unwrap_or(0)
            };
            all.resident_kb += field("VmRSS:");
            all.threads += field("Threads:");
            all.zombies += u64::from(status.contains("State:\tZ"));
            // Only root may look.
            let fds = fs::read_dir(format!("/proc/{pid}/fd"));
            all.descriptors += fds.map_or(0, |fds| fds.count() as u64);
        }
        all
    }

    /// The faults end; everybody has a valid token soon.
    fn settle(&mut self) {
        for number in 0..ACCOUNTS {
            self.provider(number).unscript(&path(number));
        }
        self.gates.iter().for_each(|(_, gate)| gate.open());
        self.strangers.clear();
        self.strict.drop_connections();
        self.lax.drop_connections();
        self.await_restart();
        for number in 0..ENDED {
            if self.daemon.run(&["show", &name(number)]).status == 77 {
                self.sign_in(number);
            }
        }
        for number in 0..ACCOUNTS {
            let account = name(number);
            let shown = self
                .daemon
                .eventually(&["show", "-w", "20s", &account], |shown| shown.status != 75);
            // A token of a grant that was ended since may be shown until it expires.
            let good = match shown.status {
                0 => number < ENDED || self.provider(number).accepts(shown.stdout.trim_end()),
                _ => number < ENDED && shown.status == 77,
            };
            if !good {
                self.wrong.push(format!("in the end, {account}: {shown:?}"));
            }
        }
    }

    /// By how much a refresh was at most earlier than the floor allows, given all requests of its
    /// account before it; and the shortest time between two.
    fn earliest(&self) -> [Duration; 2] {
        let (mut early, mut shortest) = (Duration::ZERO, Duration::MAX);
        for number in 0..ACCOUNTS {
            // When the next refresh may arrive at the earliest, by what has arrived so far.
            let mut allowed: Option<Instant> = None;
            let mut last: Option<Instant> = None;
            for request in self.provider(number).requests(&path(number)) {
                if request.form.get("grant_type") == Some("refresh_token") {
                    let ahead = allowed.map(|at| at.saturating_duration_since(request.at));
                    early = early.max(ahead.unwrap_or_default());
                    let gap = last.map(|at| request.at.duration_since(at));
                    shortest = shortest.min(gap.unwrap_or(Duration::MAX));
                } else {
                    // The exchange of a code waits for nothing.
                    allowed = None;
                }
                let next = request.at + FLOOR;
                allowed = Some(allowed.map_or(next, |at| next.max(at + FLOOR)));
                last = Some(request.at);
            }
        }
        [early, shortest]
    }

    fn judge(mut self, took: Duration) {
        let quarter = self.samples.len() / 4;
        let most = |range: std::ops::Range<usize>, of: fn(&Sample) -> u64| {
            self.samples[range].iter().map(of).max().unwrap_or_default()
        };
        let (second, last) = (quarter..2 * quarter, 3 * quarter..self.samples.len());
        let usual = |range: std::ops::Range<usize>| {
            let mut part: Vec<u64> = self.samples[range]
                .iter()
                .map(|it| it.resident_kb)
                .collect();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        let resident = [second.clone(), last.clone()].map(usual);
        let fds = [second, last].map(|part| most(part, |it| it.descriptors));
        let all = 0..self.samples.len();
        let threads = most(all.clone(), |it| it.threads);
        let zombies = self.samples.last().map_or(0, |sample| sample.zombies);
        let asked = [&self.strict, &self.lax].map(|it| it.requests(AUTHORIZE).len());
        let requests = (0..ACCOUNTS)
            .map(|number| self.provider(number).requests(&path(number)).len())
            .sum::<usize>();
        let [early, gap] = self.earliest();
        println!(
            "took {took:?}, the end included; {} faults, {requests} token requests",
            self.faults
        );
        println!(
            "shown {} tokens, {} times \"try again later\"",
            self.shown[0], self.shown[1]
        );
        println!(
            "sign-ins: {} wanted, {} made",
            self.sign_ins,
            asked.iter().sum::<usize>()
        );
        println!("shortest time between two requests of an account: {gap:?}; {early:?} early");
        println!("kB resident usually, second and last quarter: {resident:?}");
        println!("descriptors at most, second and last quarter: {fds:?}");
        println!("threads at most: {threads}; zombies in the end: {zombies}");
        let mut judged = |good: bool, what: &str| {
            if !good {
                self.wrong.push(what.to_owned());
            }
        };
        judged(
            asked.iter().sum::<usize>() == self.sign_ins,
            "somebody had to sign in again",
        );
        judged(early <= HELD_UP, "requests too close to each other");
        judged(
            resident[1] <= resident[0] + MAX_GROWTH_KB,
            "the memory grows",
        );
        judged(
            fds[1] <= fds[0] + MAX_MORE_DESCRIPTORS,
            "the descriptors grow",
        );
        judged(threads <= MAX_THREADS, "too many threads");
        judged(zombies == 0, "a zombie");
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        self.daemon.shutdown();
    }
}
