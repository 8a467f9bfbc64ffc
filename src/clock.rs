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

/// A wall clock that begins at a chosen moment and runs on, or stands still; monotonic time is real.
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
        let passed = if self.frozen { Duration::ZERO } else { self.started.elapsed() };
        let passed_ns = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        Timestamp(self.start.0.saturating_add(passed_ns).clamp(Timestamp::MIN.0, Timestamp::MAX.0))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
