//! The main test: a seeded world around the core, with everything looked at after every step.
//!
//! [`world`] holds the clocks, the accounts, the requests in flight and a shadow of what the core
//! must hold; [`provider`] the issuers and their faults, [`discovery`] what they say of themselves;
//! [`action`] what can happen, as data;
//! [`events`] and [`outcomes`] let it happen; [`look`] looks; [`canary`] plants bugs.
//!
//! `make sim SEED=… STEPS=…` repeats a run: worlds of [`WORLD_STEPS`] steps each, with the seeds
//! SEED, SEED + 1 and so on, until STEPS are done.

pub mod action;
pub mod canary;
mod device;
mod discovery;
mod events;
mod handover;
mod keep;
mod look;
mod outcomes;
pub mod provider;
mod regressions;
mod revocations;
mod secrets;
mod waits;
pub mod world;
mod years;

use std::{
    env, fmt,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use self::{
    action::{Action, Rng},
    canary::Canary,
    world::World,
};

/// The least time between two refreshes of an account: what is promised.
const FLOOR: Duration = Duration::from_secs(10);

/// How long a world lives: long enough for months to pass in it, short enough for many to differ.
const WORLD_STEPS: u64 = 5_000;

/// What the core promises, whatever happens around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// A secret is shown or sent only under the registration that it was obtained under.
    Origin,
    /// After `revoke` and `reload` nothing older is shown, held or sent.
    NothingOlder,
    /// What is held is lost only by revoke, a changed registration or a successor.
    Kept,
    /// One request in flight per account; a sign-in's exchange alone may run beside a refresh.
    OneInFlight,
    /// Ten seconds between refreshes, `Retry-After` kept, none without hope.
    Floor,
    /// Hooks and users hear of everything once, in order.
    Events,
    /// Whoever waits for a sign-in hears of its end, once.
    Answers,
    /// A state is good once, a code is sent once, and a completed sign-in is never discarded.
    SignIn,
    /// Nothing that happens outside ends the daemon.
    NoPanic,
    /// restore(dump) is the identity, and never replaces what is live by something older.
    Restore,
    /// No expired token is shown.
    NoneExpired,
    /// Whatever can be renewed has a deadline; when faults stop, all of it is valid soon.
    Liveness,
    /// No secret in the log, in a message, in Debug.
    Secrecy,
    /// Device codes are asked for when they are needed, shown as they are, and polled for no more
    /// often than the provider allows (RFC 8628, 3.5).
    Device,
    /// The provider is told of a `revoke` or somebody hears that it wasn't, once (RFC 7009).
    Revoked,
    /// The index of deadlines is what a look at every account gives.
    Index,
    /// The commands that keep the state run one at a time; each change is saved, and nothing is
    /// saved over what was not loaded.
    Keeping,
    /// A token file has the token that is shown, or isn't there.
    Published,
    /// A restart in place loses nothing, and nothing is sent that it could lose.
    Handover,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub what: String,
}

impl Violation {
    /// Whether it is of the same kind: the words agree as far as they name no account.
    fn is_like(&self, other: &Violation) -> bool {
        let words = |text: &str| text.chars().take(16).collect::<String>();
        self.invariant == other.invariant && words(&self.what) == words(&other.what)
    }
}

pub type Check = Result<(), Violation>;

/// A violation.
pub fn fail<T>(invariant: Invariant, what: String) -> Result<T, Violation> {
    Err(Violation { invariant, what })
}

/// A violation, unless `condition` holds.
pub fn ensure(condition: bool, invariant: Invariant, what: impl FnOnce() -> String) -> Check {
    match condition {
        true => Ok(()),
        false => fail(invariant, what()),
    }
}

/// A run that broke a promise, cut down to what is needed for that.
struct Failure {
    seed: u64,
    steps: u64,
    trace: Vec<Action>,
    violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, what } = &self.violation;
        writeln!(f, "{invariant:?} is broken: {what}")?;
        writeln!(f, "the shortest way there:")?;
        for action in &self.trace {
            writeln!(f, "    {action:?}")?;
        }
        let Failure { seed, steps, .. } = self;
        write!(f, "repeat it with: make sim SEED={seed} STEPS={steps}")
    }
}

fn world_of(seed: u64, canary: Option<Canary>) -> (World, Rng) {
    let mut rng = Rng(seed);
    let accounts = 1 + rng.below(world::NAMES.len());
    let issuers = 1 + rng.below(provider::ISSUERS.into()) as u8;
    let global = rng.next() as u8 % world::GLOBALS;
    (World::new(accounts, issuers, global, canary), rng)
}

/// Runs one world for `steps` steps.
fn run(seed: u64, steps: u64, canary: Option<Canary>) -> Result<(), Box<Failure>> {
    let (mut world, mut rng) = world_of(seed, canary);
    let mut trace = Vec::new();
    for step in 0..steps {
        let action = action::next(&mut rng, &world);
        trace.push(action);
        if let Err(violation) = world.step(action) {
            let trace = shrink(seed, canary, trace, &violation);
            let (_, last) = replay(seed, canary, &trace);
            return Err(Box::new(Failure {
                seed,
                steps: step + 1,
                trace,
                violation: last.unwrap_or(violation),
            }));
        }
    }
    Ok(())
}

/// Lets `trace` happen in the world of `seed`; after how many steps which promise broke.
fn replay(seed: u64, canary: Option<Canary>, trace: &[Action]) -> (usize, Option<Violation>) {
    let (mut world, _) = world_of(seed, canary);
    for (done, action) in trace.iter().enumerate() {
        if let Err(violation) = world.step(*action) {
            return (done + 1, Some(violation));
        }
    }
    (trace.len(), None)
}

/// The trace without what isn't needed to break the same promise (delta debugging).
fn shrink(
    seed: u64,
    canary: Option<Canary>,
    trace: Vec<Action>,
    broken: &Violation,
) -> Vec<Action> {
    let trace = without_chunks(seed, canary, trace, broken);
    let trace = with_newest_dumps(seed, canary, trace, broken);
    let trace = without_chunks(seed, canary, trace, broken);
    without_pairs(seed, canary, trace, broken)
}

/// The trace with restores of the newest dump where that will do: the others can go then.
fn with_newest_dumps(
    seed: u64,
    canary: Option<Canary>,
    mut trace: Vec<Action>,
    broken: &Violation,
) -> Vec<Action> {
    for at in 0..trace.len() {
        let mut simpler = trace.clone();
        match &mut simpler[at] {
            Action::Restore(pick) | Action::Kill(action::Kill::Crash(pick)) => *pick = 0,
            _ => continue,
        }
        if let (needed, Some(violation)) = replay(seed, canary, &simpler)
            && needed == trace.len()
            && violation.is_like(broken)
        {
            trace = simpler;
        }
    }
    trace
}

/// The trace without those of its parts, from its halves to single steps, that aren't needed.
fn without_chunks(
    seed: u64,
    canary: Option<Canary>,
    mut trace: Vec<Action>,
    broken: &Violation,
) -> Vec<Action> {
    let mut chunk = trace.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        let before = trace.len();
        while at < trace.len() {
            let mut shorter = trace.clone();
            shorter.drain(at..(at + chunk).min(trace.len()));
            match replay(seed, canary, &shorter) {
                (needed, Some(violation)) if violation.is_like(broken) => {
                    shorter.truncate(needed);
                    trace = shorter;
                }
                _ => at += chunk,
            }
        }
        // At the end, again and again until every single one is needed.
        if chunk > 1 || trace.len() == before {
            chunk /= 2;
        }
    }
    trace
}

/// The trace without those steps that only undo each other.
fn without_pairs(
    seed: u64,
    canary: Option<Canary>,
    mut trace: Vec<Action>,
    broken: &Violation,
) -> Vec<Action> {
    let mut first = 0;
    while first < trace.len() && trace.len() <= MAX_PAIRED {
        let shorter = (first + 1..trace.len()).find_map(|second| {
            let mut shorter = trace.clone();
            shorter.remove(second);
            shorter.remove(first);
            let (needed, violation) = replay(seed, canary, &shorter);
            shorter.truncate(needed);
            violation
                .is_some_and(|it| it.is_like(broken))
                .then_some(shorter)
        });
        match shorter {
            Some(shorter) => trace = shorter,
            None => first += 1,
        }
    }
    trace
}

/// How long a trace may be of which all pairs are tried.
const MAX_PAIRED: usize = 60;

/// Worlds with the seeds from `seed` on, `steps` steps in all, on `threads` threads.
fn run_many(seed: u64, steps: u64, threads: usize) -> Result<(), Box<Failure>> {
    let worlds = steps.div_ceil(WORLD_STEPS);
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let world = next.fetch_add(1, Ordering::Relaxed);
            if world >= worlds {
                return Ok(());
            }
            let left = steps - world * WORLD_STEPS;
            let result = run(seed.wrapping_add(world), left.min(WORLD_STEPS), None);
            if result.is_err() {
                next.store(worlds, Ordering::Relaxed);
                return result;
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join().expect("a worker");
        workers.into_iter().try_for_each(join)
    })
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// A seed that no run has had.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Rng(since.unwrap_or_default().as_nanos() as u64).next() >> 16
}

/// What `make sim` asks for; otherwise a fixed list of worlds and a fresh one.
#[test]
fn every_promise_holds_in_every_world() {
    let asked = (setting("PIZAUTH_SIM_SEED"), setting("PIZAUTH_SIM_STEPS"));
    let (fixed, seed, steps) = match asked {
        (None, None) => (FIXED_WORLDS, fresh_seed(), WORLD_STEPS),
        (seed, steps) => (
            0,
            seed.unwrap_or_else(fresh_seed),
            steps.unwrap_or(1_000_000),
        ),
    };
    // Past the test harness, which swallows what is printed: the seed must be known in any case.
    let line = format!("make sim SEED={seed} STEPS={steps} repeats the fresh part of this run\n");
    let _ = io::stderr().write_all(line.as_bytes());
    let started = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let result = run_many(1, fixed * WORLD_STEPS, threads);
    let result = result.and_then(|()| run_many(seed, steps, threads));
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let total = fixed * WORLD_STEPS + steps;
    let rate = total as f64 / started.elapsed().as_secs_f64() * 60.0;
    println!("{total} steps, {rate:.0} a minute on {threads} threads");
}

/// How many worlds with known seeds an ordinary test run visits.
const FIXED_WORLDS: u64 = 20;

/// Each planted bug is found, as what it is, and cut down to a trace that can be read.
#[test]
fn every_planted_bug_is_found() {
    for (canary, invariant) in Canary::ALL {
        let found = (1..50).find_map(|seed| run(seed, WORLD_STEPS, Some(canary)).err());
        let Some(failure) = found else {
            panic!("{canary:?} was not found");
        };
        let length = failure.trace.len();
        println!(
            "{canary:?}: {invariant:?} after {} steps, cut to {length}",
            failure.steps
        );
        assert_eq!(
            failure.violation.invariant, invariant,
            "{canary:?}: {failure}"
        );
        assert!(length <= MAX_TRACE, "{canary:?}: {failure}");
    }
}

/// How long a trace may be that is said to be short.
const MAX_TRACE: usize = 12;

/// What one run does, another does: else no trace could be repeated.
#[test]
fn a_run_can_be_repeated() {
    let walk = || {
        let (mut world, mut rng) = world_of(7, None);
        for _ in 0..300 {
            let action = action::next(&mut rng, &world);
            world.step(action).expect("no violation");
        }
        format!("{:?} {:?}", world.sut.core.accounts, world.shadows)
    };
    assert_eq!(walk(), walk());
}
