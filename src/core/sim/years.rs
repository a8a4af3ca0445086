//! The accelerated half of `make soak`: one world for years of its own time.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use super::{action, fresh_seed, setting, world::World, world_of};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// After how many steps the core is measured again: often beside how long a world of years is.
const SAMPLE_STEPS: u64 = 100;

/// How much more the core may hold at its fullest in the second half of the time, beside twice what it
/// held in the first: more accounts may be in trouble at once. What really grows grows by millions.
const SLACK: usize = 16 * 1024;

/// One world lives for years, or in an ordinary test run for half of one, and keeps its promises at
/// every step; when the faults stop, whoever can be valid is. What the core holds stays as small as it
/// was: it is the core that is measured, since the world around it remembers every token.
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
    let (mut steps, mut most) = (0_u64, [0, 0]);
    loop {
        let passed = world.now.instant.since(begun);
        if passed >= span {
            break;
        }
        if steps % SAMPLE_STEPS == 0 {
            let half = &mut most[usize::from(passed >= span / 2)];
            *half = (*half).max(size(&world));
        }
        let action = action::next(&mut rng, &world);
        if let Err(violation) = world.step(action) {
            panic!("{violation:?} after {steps} steps, at {action:?}, SEED={seed}");
        }
        steps += 1;
    }
    if let Err(violation) = world.calm() {
        panic!("{violation:?} when the faults had stopped, SEED={seed}");
    }
    let took = started.elapsed();
    println!("{days} days in {took:?}, {steps} steps; the core's size in each half: {most:?}");
    assert!(
        most[1] <= 2 * most[0] + SLACK,
        "what the core holds grows: {most:?}, SEED={seed}"
    );
}

/// How much the core holds: the length of all that it can tell of its accounts, and the number of what
/// they share.
fn size(world: &World) -> usize {
    let core = &world.sut.core;
    let common = &core.common;
    let shared = [
        core.deadlines.len(),
        common.spent.len(),
        common.output.effects.len(),
        common.output.news.len(),
    ];
    format!("{:?}{:?}", core.accounts, common.pauses).len() + shared.iter().sum::<usize>()
}
