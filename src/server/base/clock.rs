//! The only readers of the system's clocks and random numbers.

use std::time::Duration;

use nix::poll::PollTimeout;
use nix::time::{ClockId, clock_gettime};

use crate::time::{Instant, Now, Wall};

/// The clock that lifetimes count on: it runs while the machine sleeps, and it can't be set.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "openbsd"))]
pub const SUSPEND_AWARE: ClockId = ClockId::CLOCK_BOOTTIME;
/// The clock that lifetimes count on; on Apple's systems it runs while the machine sleeps.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "openbsd")))]
pub const SUSPEND_AWARE: ClockId = ClockId::CLOCK_MONOTONIC;

/// What is added to the suspend-aware clock, so that points before the machine's start (a token
/// from a dump) can be told: ten years, longer than any token lives.
const BEFORE_BOOT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Both clocks, read now.
pub fn now() -> Now {
    Now {
        instant: Instant::from_millis(0).after(read(SUSPEND_AWARE).saturating_add(BEFORE_BOOT)),
        wall: Wall::from_millis(0).after(read(ClockId::CLOCK_REALTIME)),
    }
}

/// How long it is from now to `at`; zero when it has passed.
pub fn until(at: Instant) -> Duration {
    at.since(now().instant)
}

/// So long as poll(2) has it, rounded up, so that nothing is woken a moment too early.
pub fn poll_timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX)
}

/// A clock's reading; the two clocks used here exist wherever this compiles.
fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// The kernel's random numbers.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // A kernel without random numbers can't keep a secret; nothing here may go on.
        log::error!("no random numbers: {error}");
        std::process::abort();
    }
    bytes
}

/// A name that can't be guessed: 128 bits in hexadecimal.
pub fn name() -> String {
    let bytes = random();
    let digits = bytes.iter().take(16).map(|byte| format!("{byte:02x}"));
    digits.collect()
}
