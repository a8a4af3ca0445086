//! The main test: a seeded world around the core, with everything looked at after every step.
//!
//! [`world`] has the clocks and the core, and around it three parts: [`state`], a shadow of what the
//! core must hold and wait for; [`provider`], the issuers and their faults; [`people`], who ask, wait
//! and keep dumps. [`setup`] is the config as data, [`action`] what can happen, [`promise`] what
//! must hold. [`step`] lets it happen, by way of the files that are named after what they are about;
//! [`look`] looks; [`canary`] plants bugs. Imports go one way: the parts know no world.
//!
//! `make sim SEED=… STEPS=…` repeats a run: worlds of [`WORLD_STEPS`] steps each, with the seeds
//! SEED, SEED + 1 and so on, until STEPS are done.

pub mod action;
pub mod canary;
mod device;
mod discovery;
mod ending;
mod events;
mod handover;
mod issuer;
mod keep;
mod look;
mod outcomes;
pub mod people;
pub mod promise;
pub mod provider;
mod regressions;
mod revocations;
mod secrets;
pub mod setup;
pub mod state;
mod step;
mod waits;
pub mod world;
mod years;

use std::{
    env, fmt,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Instant, SystemTime},
};

use self::{
    action::{Action, Rng},
    canary::Canary,
    promise::Violation,
    world::World,
};

/// How long a world lives: long enough for months to pass in it, short enough for many to differ.
const WORLD_STEPS: u64 = 5_000;

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
    let accounts = 1 + rng.below(setup::NAMES.len());
    let issuers = 1 + rng.below(setup::ISSUERS.into()) as u8;
    let global = rng.next() as u8 % setup::GLOBALS;
    (World::new(accounts, issuers, global, canary), rng)
}

/// Runs one world for `steps` steps.
fn run(seed: u64, steps: u64, canary: Option<Canary>) -> Result<(), Box<Failure>> {
    let Err((whole, violation)) = walk(seed, steps, canary) else {
        return Ok(());
    };
    let steps = whole.len() as u64;
    let trace = match setting("PIZAUTH_MUTANT") {
        // It need only be noticed.
        Some(_) => whole,
        None => shrink(seed, canary, whole, &violation),
    };
    let (_, last) = replay(seed, canary, &trace);
    Err(Box::new(Failure {
        seed,
        steps,
        trace,
        violation: last.unwrap_or(violation),
    }))
}

/// The same, as it happened.
fn walk(seed: u64, steps: u64, canary: Option<Canary>) -> Result<(), (Vec<Action>, Violation)> {
    let (mut world, mut rng) = world_of(seed, canary);
    let mut trace = Vec::new();
    for _ in 0..steps {
        let action = action::next(&mut rng, &world);
        trace.push(action);
        if let Err(violation) = world.step(action) {
            return Err((trace, violation));
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
        let (needed, violation) = replay(seed, canary, &simpler);
        let alike = violation.is_some_and(|violation| violation.is_like(broken));
        if needed == trace.len() && alike {
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
// Covers: broken-replies, rotation, clocks, reloads, H8, H28, I1, I2, I3, I4, I5, I6, I8, I9, I10
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

/// A bug that takes days of its world to show: too long a trace to be cut down.
#[test]
fn a_planted_bug_that_learns_the_wrong_life_is_found() {
    let found = (3..50).find_map(|seed| walk(seed, WORLD_STEPS, Some(Canary::LearnDouble)).err());
    let (_, violation) = found.expect("it was not found");
    assert_eq!(violation.invariant, promise::Invariant::Ending);
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
        format!("{:?} {:?}", world.sut.core.accounts, world.state.shadows)
    };
    assert_eq!(walk(), walk());
}
