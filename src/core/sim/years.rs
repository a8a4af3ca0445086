//! The accelerated half of `make soak`: one world for years of its own time.

use std::{
    fs,
    io::{self, Write},
    time::{Duration, Instant},
};

use super::{action, fresh_seed, setting, world_of};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// How much the second half of the years may add to the memory of the first, in kB.
const MAX_GROWTH_KB: u64 = 2 * 1024;

/// One world lives for years, or in an ordinary test run for half of one, and keeps its promises at
/// every step; when the faults stop, whoever can be valid is. Asked for by itself, it also looks at
/// the memory: with other tests beside it that would say nothing.
#[test]
fn years_pass_and_nothing_grows() {
    let asked = setting("PIZAUTH_SIM_YEARS");
    let span = asked.map_or(YEAR / 2, |years| YEAR * years as u32);
    let seed = setting("PIZAUTH_SIM_SEED").unwrap_or_else(fresh_seed);
    let days = span.as_secs() / 86_400;
    // Past the test harness, as the seed of the other run.
    let _ = io::stderr().write_all(format!("{days} days with SEED={seed}\n").as_bytes());
    let (mut world, mut rng) = world_of(seed, None);
    let (begun, started) = (world.now.instant, Instant::now());
    let (mut steps, mut half) = (0_u64, 0);
    loop {
        let passed = world.now.instant.since(begun);
        if passed >= span {
            break;
        }
        if half == 0 && passed >= span / 2 {
            half = resident_kb();
        }
        let action = action::next(&mut rng, &world);
        if let Err(violation) = world.step(action) {
            panic!("{violation:?} after {steps} steps, at {action:?}, SEED={seed}");
        }
        steps += 1;
    }
    let end = resident_kb();
    if let Err(violation) = world.calm() {
        panic!("{violation:?} when the faults had stopped, SEED={seed}");
    }
    let took = started.elapsed();
    println!(
        "{days} days in {took:?}, {steps} steps; {half} kB after one half, {end} kB after both"
    );
    if asked.is_some() {
        assert!(end <= half + MAX_GROWTH_KB, "the memory grows");
    }
}

/// What this process has in memory; 0 where nothing tells.
fn resident_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}
