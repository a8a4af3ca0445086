//! Points in time, as the core sees them. Nothing here reads a clock (daemon/clock.rs does).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the suspend-aware clock (CLOCK_BOOTTIME where there is one), in milliseconds.
/// Lifetimes and deadlines count on it: it runs while the machine sleeps and can't be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The point `millis` milliseconds after the clock's zero.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(millis)
    }

    /// Milliseconds since the clock's zero.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// This point moved into the future; stops at the clock's end instead of wrapping.
    pub fn after(self, span: Duration) -> Self {
        Instant(self.0.saturating_add(millis(span)))
    }

    /// This point moved into the past; stops at the clock's zero.
    pub fn before(self, span: Duration) -> Self {
        Instant(self.0.saturating_sub(millis(span)))
    }

    /// How long it is from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the wall clock, in milliseconds since 1970-01-01 UTC. Users and other machines see
/// this one; it can jump, so nothing is scheduled by it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(i64);

impl Wall {
    /// The point `millis` milliseconds after 1970-01-01 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Wall(millis)
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This point moved into the future; stops at the type's end.
    pub fn after(self, span: Duration) -> Self {
        Wall(self.0.saturating_add_unsigned(millis(span)))
    }

    /// This point moved into the past; stops at the type's end.
    pub fn before(self, span: Duration) -> Self {
        Wall(self.0.saturating_sub_unsigned(millis(span)))
    }

    /// How long it is from `earlier` to this point; zero when `earlier` is later.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// One reading of both clocks, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The suspend-aware clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: Wall,
}

impl Now {
    /// Where the wall clock stands, or will stand, at `instant`, as far as this reading knows.
    pub fn wall_at(self, instant: Instant) -> Wall {
        self.wall
            .after(instant.since(self.instant))
            .before(self.instant.since(instant))
    }

    /// The inverse of [`Now::wall_at`].
    pub fn instant_at(self, wall: Wall) -> Instant {
        self.instant
            .after(wall.since(self.wall))
            .before(self.wall.since(wall))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A span as the config writes it, `90s`, `5m`, `2h`, `1d`, or as a bare number of seconds.
pub fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit_secs = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(unit_secs).map(Duration::from_secs)
}

/// Names how a span is shown to people: its two largest units, as in `2d 3h`, `59m`, `12s`.
pub fn humane(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = span.as_secs();
    let counts = UNITS.map(|(size, unit)| {
        let count = rest / size;
        rest %= size;
        (count, unit)
    });
    let counts = counts.iter().skip_while(|(count, _)| *count == 0).take(2);
    let counts = counts.take_while(|(count, _)| *count > 0);
    let words: Vec<String> = counts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    match words.is_empty() {
        true => "0s".into(),
        false => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant(5).before(Duration::from_secs(1)), Instant(0));
        assert_eq!(Instant(5).after(Duration::MAX), Instant(u64::MAX));
        assert_eq!(Wall(5).after(Duration::MAX), Wall(i64::MAX));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
    }

    #[test]
    fn both_clocks_translate_into_each_other() {
        let now = Now {
            instant: Instant(10_000),
            wall: Wall(1_000_000),
        };
        for at in [0, 9_000, 10_000, 99_000] {
            assert_eq!(now.instant_at(now.wall_at(Instant(at))), Instant(at));
        }
        assert_eq!(now.wall_at(Instant(12_000)), Wall(1_002_000));
        assert_eq!(now.wall_at(Instant(8_000)), Wall(998_000));
    }

    #[test]
    fn spans_are_read_as_the_config_writes_them_or_as_seconds() {
        for (text, secs) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.5h", None),
            ("1h30m", None),
            ("99999999999999999999", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(parse_span(text), secs.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        for (secs, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m 59s"),
            (3_601, "1h"),
            (90_000, "1d 1h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(humane(Duration::from_secs(secs)), text);
        }
    }
}
