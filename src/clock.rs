//! The one place that asks the operating system what time it is. Everything else is handed a [`Clock`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wattlog_model::{Clock, Timestamp};

/// Wall and monotonic time of this machine.
#[derive(Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the module that may")]
    fn wall(&self) -> Timestamp {
        // A clock before 1970 gives negative time, as the machine believes it to be.
        let ns = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        Timestamp(ns.clamp(Timestamp::MIN.0, Timestamp::MAX.0))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Begins at a chosen moment and runs on, or stands still: both of its clocks, since a wall clock that falls behind the
/// monotonic one is a step that the store records.
#[derive(Debug)]
pub(crate) struct DemoClock {
    start: Timestamp,
    frozen: bool,
    started: Instant,
}

impl DemoClock {
    pub(crate) fn new(start: Timestamp, frozen: bool) -> Self {
        Self { start, frozen, started: Instant::now() }
    }
}

impl Clock for DemoClock {
    fn wall(&self) -> Timestamp {
        let passed_ns = i64::try_from(self.monotonic().as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.start.0.saturating_add(passed_ns).clamp(Timestamp::MIN.0, Timestamp::MAX.0))
    }

    fn monotonic(&self) -> Duration {
        if self.frozen { Duration::ZERO } else { self.started.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_stands_still_as_a_whole() {
        // Its wall clock alone stood still: every two seconds the store recorded a step of the clock and warned.
        let clock = DemoClock::new(Timestamp(7), true);
        std::thread::yield_now();
        assert_eq!((clock.wall(), clock.monotonic()), (Timestamp(7), Duration::ZERO));
        let clock = DemoClock::new(Timestamp(7), false);
        let before = clock.monotonic();
        let wall = clock.wall();
        let after = clock.monotonic();
        let passed = Duration::from_nanos((wall.0 - 7).unsigned_abs());
        assert!((before..=after).contains(&passed));
    }
}
