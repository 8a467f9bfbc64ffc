//! The clock that retention goes by: it follows the wall clock only as far as one can be sure of it.
//!
//! Promise: whatever the wall clock says, what the store believes moves on by no more than the time that passed on the
//! monotonic clock, and one day for each start. A wall clock further ahead is held: it counts for nothing until it has run
//! without a step for 24 hours, or a person says that it is right.
//!
//! Invariants
//! 1. What a proven clock believes never goes back.
//! 2. A clock that is not proven yet follows the wall clock back, so that a first start at a wrong time can be mended.
//!
//! Pure: both clocks come in as arguments. Not here: cutoffs (`cutoffs`), and who writes them down (the parent module).

use super::cutoffs::{ClockRecord, PROVEN_NS};
use std::time::Duration;

/// How the wall clock stands to what the store believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockCondition {
    /// They agree.
    #[default]
    Followed,
    /// The wall clock is ahead by more than may be believed.
    Held {
        /// By how much, in nanoseconds.
        ahead_ns: i64,
    },
    /// The wall clock is more than a day behind: cutoffs wait for it.
    Behind {
        /// By how much, in nanoseconds.
        by_ns: i64,
    },
}

/// What a look at the clocks changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Time went by, or nothing did.
    On,
    /// A clock that is not proven was set back by so many nanoseconds, and the store with it.
    Back(i64),
}

/// Most that a start, or a confirmation, may add to the time that passed.
const GRANT_NS: i64 = 24 * 3600 * 1_000_000_000;
/// A change of the wall clock against the monotonic one by more than this is a step; less is a clock being slewed.
const STEP_NS: i64 = 2_000_000_000;

/// Most by which the wall clock may leave the monotonic one within a day in many small changes.
const DRIFT_NS: i64 = 60_000_000_000;
const DAY: Duration = Duration::from_hours(24);

/// How long the wall clock has run without a step, in this run of the process.
///
/// A clock that drifts away in small changes is as little to be believed as one that makes a step.
#[derive(Debug)]
pub(super) struct Calm {
    /// Wall less monotonic clock at the last look, in nanoseconds.
    offset_ns: i64,
    since: Duration,
    /// The same at most a day ago, after the last step, and when that was.
    before_ns: i64,
    before: Duration,
}

impl Calm {
    pub(super) fn new(wall_ns: i64, monotonic: Duration) -> Self {
        let offset_ns = offset(wall_ns, monotonic);
        Self { offset_ns, since: monotonic, before_ns: offset_ns, before: monotonic }
    }

    /// True if the clock made a step since the last look, or has drifted too far.
    pub(super) fn look(&mut self, wall_ns: i64, monotonic: Duration) -> bool {
        let offset_ns = offset(wall_ns, monotonic);
        let differs = |from_ns: i64, by_ns| offset_ns.saturating_sub(from_ns).saturating_abs() > by_ns;
        let stepped = differs(self.offset_ns, STEP_NS) || differs(self.before_ns, DRIFT_NS);
        self.offset_ns = offset_ns;
        if stepped {
            self.since = monotonic;
        }
        if stepped || monotonic.saturating_sub(self.before) >= DAY {
            (self.before_ns, self.before) = (offset_ns, monotonic);
        }
        stepped
    }

    /// Nanoseconds since the last step, up to [`PROVEN_NS`].
    pub(super) fn steady_ns(&self, monotonic: Duration) -> u64 {
        u64::try_from(monotonic.saturating_sub(self.since).as_nanos())
            .map_or(PROVEN_NS, |ns| ns.min(PROVEN_NS))
    }
}

/// What the store believes the time to be.
#[derive(Debug)]
pub(super) struct RetentionClock {
    /// Believed at the start or at the last confirmation, and the monotonic clock then.
    base_ns: i64,
    base: Duration,
    record: ClockRecord,
    seen: Duration,
    condition: ClockCondition,
}

impl RetentionClock {
    /// Goes on from what was recorded.
    pub(super) fn new(record: ClockRecord, monotonic: Duration) -> Self {
        let condition = ClockCondition::default();
        Self { base_ns: record.now_ns, base: monotonic, record, seen: monotonic, condition }
    }

    /// What is believed now.
    pub(super) fn record(&self) -> ClockRecord {
        self.record
    }

    pub(super) fn condition(&self) -> ClockCondition {
        self.condition
    }

    /// Moves on. `calm` was looked at before, with what it answered in `stepped`.
    pub(super) fn look(&mut self, wall_ns: i64, monotonic: Duration, calm: &Calm, stepped: bool) -> Look {
        let passed_ns = nanos(monotonic.saturating_sub(self.seen));
        self.seen = monotonic;
        let sure_ns = self.base_ns.saturating_add(nanos(monotonic.saturating_sub(self.base)));
        let proven = self.record.steady_ns >= PROVEN_NS;
        if stepped && !proven {
            self.record.steady_ns = 0;
        }
        if wall_ns > sure_ns.saturating_add(GRANT_NS) {
            if calm.steady_ns(monotonic) >= PROVEN_NS {
                self.believe(wall_ns, monotonic);
                return Look::On;
            }
            self.record.now_ns = self.record.now_ns.max(sure_ns);
            self.condition = ClockCondition::Held { ahead_ns: wall_ns.saturating_sub(sure_ns) };
            return Look::On;
        }
        if !stepped {
            let steady_ns = self.record.steady_ns.saturating_add(passed_ns.unsigned_abs());
            self.record.steady_ns = steady_ns.min(PROVEN_NS);
        }
        let behind_ns = self.record.now_ns.saturating_sub(wall_ns);
        self.condition = ClockCondition::Followed;
        if behind_ns <= 0 {
            self.record.now_ns = wall_ns;
        } else if !proven && behind_ns > STEP_NS {
            self.record = ClockRecord { now_ns: wall_ns, steady_ns: 0 };
            (self.base_ns, self.base) = (wall_ns, monotonic);
            return Look::Back(behind_ns);
        } else if behind_ns > GRANT_NS {
            self.condition = ClockCondition::Behind { by_ns: behind_ns };
        }
        Look::On
    }

    /// The wall clock is right.
    pub(super) fn believe(&mut self, wall_ns: i64, monotonic: Duration) {
        self.record = ClockRecord { now_ns: wall_ns, steady_ns: PROVEN_NS };
        (self.base_ns, self.base) = (wall_ns, monotonic);
        self.seen = monotonic;
        self.condition = ClockCondition::Followed;
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn offset(wall_ns: i64, monotonic: Duration) -> i64 {
    wall_ns.saturating_sub(nanos(monotonic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1_000_000_000;
    const DAY: i64 = 24 * HOUR;
    const START: i64 = 1_780_000_000_000_000_000;

    /// A store in one run of the process, looked at once an hour or whenever its clock is set.
    struct Run {
        clock: RetentionClock,
        calm: Calm,
        wall: i64,
        monotonic: i64,
    }

    impl Run {
        fn start(now_ns: i64, steady_ns: u64, wall: i64) -> Self {
            let clock = RetentionClock::new(ClockRecord { now_ns, steady_ns }, Duration::ZERO);
            let mut run = Self { clock, calm: Calm::new(wall, Duration::ZERO), wall, monotonic: 0 };
            run.look();
            run
        }

        fn look(&mut self) -> Look {
            let monotonic = Duration::from_nanos(self.monotonic.unsigned_abs());
            let stepped = self.calm.look(self.wall, monotonic);
            self.clock.look(self.wall, monotonic, &self.calm, stepped)
        }

        fn set(&mut self, wall: i64) -> Look {
            self.wall = wall;
            self.look()
        }

        fn run_for(&mut self, hours: i64) {
            for _ in 0..hours {
                self.wall = self.wall.saturating_add(HOUR);
                self.monotonic += HOUR;
                self.look();
            }
        }

        fn now(&self) -> i64 {
            self.clock.record().now_ns
        }

        fn is_held(&self) -> bool {
            matches!(self.clock.condition(), ClockCondition::Held { .. })
        }
    }

    #[test]
    fn a_jump_of_more_than_a_day_is_held_and_counts_only_the_time_that_passed() {
        for jump in [400 * DAY, DAY + 10 * HOUR, i64::MAX - START] {
            let mut run = Run::start(START, PROVEN_NS, START);
            run.run_for(5);
            run.set(run.wall.saturating_add(jump));
            run.run_for(23);
            assert!(run.is_held());
            assert_eq!(run.now(), START + 28 * HOUR, "jump of {jump}");
            // Back in time: as if nothing had been.
            run.set(START + 28 * HOUR);
            run.run_for(1);
            assert_eq!((run.now(), run.is_held()), (START + 29 * HOUR, false));
        }
    }

    #[test]
    fn a_day_of_steady_running_or_a_word_ends_the_hold() {
        let mut run = Run::start(START, PROVEN_NS, START);
        run.set(START + 400 * DAY);
        run.run_for(23);
        assert!(run.is_held());
        run.run_for(1);
        assert_eq!((run.now(), run.is_held()), (START + 401 * DAY, false));
        run.set(START + 800 * DAY);
        assert!(run.is_held());
        run.clock.believe(run.wall, Duration::from_nanos(run.monotonic.unsigned_abs()));
        assert_eq!(run.now(), START + 800 * DAY);
    }

    #[test]
    fn a_start_grants_a_day_at_most_and_a_run_no_more_than_that_in_all() {
        assert_eq!(Run::start(START, PROVEN_NS, START + DAY).now(), START + DAY);
        let held = Run::start(START, PROVEN_NS, START + DAY + 1);
        assert_eq!((held.now(), held.is_held()), (START, true), "held as a whole");
        let mut run = Run::start(START, PROVEN_NS, START + 20 * HOUR);
        run.set(START + 24 * HOUR);
        assert_eq!(run.now(), START + DAY);
        run.set(START + 25 * HOUR);
        assert_eq!((run.now(), run.is_held()), (START + DAY, true));
    }

    #[test]
    fn many_starts_with_a_wrong_clock_believe_nothing_of_it() {
        let mut now = START;
        for _ in 0..100 {
            let mut run = Run::start(now, PROVEN_NS, i64::MAX - 1);
            run.run_for(1);
            now = run.now();
        }
        assert_eq!(now, START + 100 * HOUR);
    }

    #[test]
    fn a_clock_that_drifts_away_in_small_changes_is_not_steady() {
        const MINUTE: i64 = HOUR / 60;
        const SECOND: i64 = MINUTE / 60;
        for (drift_ns, steady) in
            [(SECOND / 100, true), (-SECOND / 30, true), (2 * SECOND, false), (-2 * SECOND, false)]
        {
            // Only a steady clock proves itself.
            let mut run = Run::start(START, 0, START);
            for _ in 0..24 * 60 {
                run.wall += MINUTE + drift_ns;
                run.monotonic += MINUTE;
                run.look();
            }
            assert_eq!(run.clock.record().steady_ns >= PROVEN_NS, steady, "{drift_ns} ns a minute");
            // And only in the hands of one is a jump believed after a day.
            let mut run = Run::start(START, PROVEN_NS, START + 400 * DAY);
            for _ in 0..24 * 60 {
                run.wall += MINUTE + drift_ns;
                run.monotonic += MINUTE;
                run.look();
            }
            assert_eq!(run.is_held(), !steady, "{drift_ns} ns a minute");
        }
    }

    #[test]
    fn a_proven_clock_waits_for_a_wall_clock_that_is_behind() {
        let mut run = Run::start(START, PROVEN_NS, START);
        for back in [HOUR, 400 * DAY, START] {
            run.set(START - back);
            run.run_for(1);
            assert_eq!(run.now(), START.max(START - back + HOUR));
            assert_eq!(matches!(run.clock.condition(), ClockCondition::Behind { .. }), back > DAY);
        }
        run.set(START + 3 * HOUR);
        assert_eq!(run.now(), START + 3 * HOUR);
    }

    #[test]
    fn a_first_start_at_a_wrong_time_is_taken_back_until_the_clock_is_proven() {
        let mut run = Run::start(START + 400 * DAY, 0, START + 400 * DAY);
        run.run_for(3);
        assert_eq!(run.set(START), Look::Back(400 * DAY + 3 * HOUR));
        assert_eq!((run.now(), run.clock.record().steady_ns), (START, 0));
        run.run_for(23);
        assert!(run.clock.record().steady_ns < PROVEN_NS);
        // What was steady before a restart counts.
        let mut next = Run::start(run.now(), run.clock.record().steady_ns, START + 24 * HOUR);
        next.run_for(1);
        assert_eq!(next.clock.record().steady_ns, PROVEN_NS);
        assert_eq!(next.set(START), Look::On);
        assert_eq!(next.now(), START + 25 * HOUR);
    }
}
