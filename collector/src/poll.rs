//! What is due, and when: pure decisions of the polling loop, tested with tables.
//!
//! Promise: a device is asked at whole multiples of its interval (so that stamps are regular and compress to nothing),
//! a silent one ever more rarely but for ever, a block that it refused again after an hour, and who it is until it says.

use crate::config::{BlockName, DeviceConfig, Family};
use crate::goodwe::registers::{self, Block};
use crate::goodwe::{DeviceInfo, SecondBattery};
use crate::modbus::ReadError;
use crate::seed::Rng;
use std::time::Duration;
use tokio::time::Instant;
use wattlog_model::Timestamp;

/// When cycles are due: at multiples of the interval since the epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    interval_ns: i64,
}

impl Schedule {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval_ns: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1) }
    }

    /// The next cycle after `now`, and not the one of `last` again if the clock was slewed back a little since.
    pub(crate) fn next(self, now: Timestamp, last: Timestamp) -> Timestamp {
        let after = |at: i64| (at.div_euclid(self.interval_ns) + 1).saturating_mul(self.interval_ns);
        let due = after(now.0);
        let slewed = due <= last.0 && last.0.saturating_sub(now.0) < TOLERANCE_NS;
        Timestamp(if slewed { after(last.0) } else { due })
    }

    /// The time that the points of a cycle carry: when it was due, or now if the clock says something quite different
    /// (it was set, or the machine slept).
    pub(crate) fn cycle_time(due: Timestamp, now: Timestamp) -> Timestamp {
        if now.0.abs_diff(due.0) <= TOLERANCE_NS.unsigned_abs() { due } else { now.truncated_to_millis() }
    }
}

/// How late a timer, or how far a clock discipline, may be.
const TOLERANCE_NS: i64 = 500_000_000;

/// Waits between attempts to reach a silent device: exponential, with full jitter, so that a fleet does not knock in
/// step. (Brooker, "Exponential Backoff And Jitter", 2015.)
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    longest: Duration,
    rng: Rng,
}

const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// A jitter near zero must not become a busy loop.
const BACKOFF_LEAST: Duration = Duration::from_millis(100);

impl Backoff {
    pub(crate) fn new(longest: Duration, seed: u64) -> Self {
        Self { failures: 0, longest, rng: Rng::new(seed) }
    }

    /// The wait after one more failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let ceiling = BACKOFF_BASE.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures += 1;
        ceiling.mul_f64(self.rng.unit()).max(BACKOFF_LEAST)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Whether to ask a device who it is: in every session until it said so, ever more rarely while it does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Introduction {
    settled: bool,
    misses: u32,
    /// Cycles to let pass before the next question.
    rest: u32,
}

/// Most cycles between two questions, less one.
const LONGEST_REST: u32 = 63;

impl Introduction {
    /// Called once per cycle.
    pub(crate) fn is_due(&mut self) -> bool {
        if self.settled || self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            return false;
        }
        true
    }

    /// It did not say so this time.
    pub(crate) fn missed(&mut self) {
        self.rest = ((1 << self.misses.min(6)) - 1).min(LONGEST_REST);
        self.misses += 1;
    }

    /// It did, or never will.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }
}

/// Which blocks to read in a cycle, and in which form.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    blocks: Vec<Planned>,
    /// Whether the device is of a size that has two batteries; none while it did not tell its size.
    has_two_batteries: Option<bool>,
}

#[derive(Debug, Clone)]
struct Planned {
    block: &'static Block,
    /// The configuration names it: try it whatever the device's size.
    named: bool,
    /// False if a device of this size does not have it.
    likely: bool,
    /// The form for a device of this size, the one that worked last, and the one to ask for next.
    usual_form: usize,
    working_form: usize,
    form: usize,
    /// When it was refused last, or answered in a shorter form than the usual one.
    refused: Option<Instant>,
    shortened: Option<Instant>,
}

/// Blocks that only large inverters have.
const LARGE_W: u32 = 15_000;
/// From here on inverters have two batteries.
const TWO_BATTERIES_W: u32 = 25_000;
/// After so long a refused block or form is asked for again: firmware is updated, and a refusal may have been a whim.
const ASK_AGAIN: Duration = Duration::from_hours(1);

impl Planned {
    fn is_wanted(&self, now: Instant) -> bool {
        (self.named || self.likely) && self.refused.is_none_or(|at| now.duration_since(at) >= ASK_AGAIN)
    }

    fn set_usual_form(&mut self, form: usize) {
        (self.usual_form, self.working_form, self.form) = (form, form, form);
        self.shortened = None;
    }
}

impl Plan {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        let named = |name: BlockName| config.blocks.as_ref().is_some_and(|blocks| blocks.contains(&name));
        let planned = |name: BlockName| {
            let (usual_form, working_form, form) = (0, 0, 0);
            Some(Planned {
                block: registers::block(config.family, name)?,
                named: named(name),
                likely: true,
                usual_form,
                working_form,
                form,
                refused: None,
                shortened: None,
            })
        };
        let blocks = config.blocks().into_iter().filter_map(planned).collect();
        let mut plan = Self { blocks, has_two_batteries: None };
        plan.start_session(config.family, &DeviceInfo::default());
        plan
    }

    /// Begins anew with a device that was just reached: it may have been replaced or updated meanwhile. What `info` does
    /// not tell is unknown.
    pub(crate) fn start_session(&mut self, family: Family, info: &DeviceInfo) {
        let large = info.is_rated_at_least(LARGE_W) || info.is_platform_745();
        self.has_two_batteries = match family {
            Family::Et => info.rated_power_w.map(|rated| rated >= TWO_BATTERIES_W),
            Family::Dt => Some(false),
        };
        for planned in &mut self.blocks {
            planned.refused = None;
            planned.set_usual_form(0);
            planned.likely = match (family, planned.block.name) {
                (Family::Et, BlockName::Battery2) => self.has_two_batteries == Some(true),
                // Without it the balance of an inverter of unknown size is not known.
                (Family::Et, BlockName::Battery2Power) => self.has_two_batteries != Some(false),
                (Family::Et, BlockName::Mppt) => large,
                (Family::Et, BlockName::Meter) => {
                    // Small inverters have the shortest form only, and some fall silent at a longer question.
                    planned.set_usual_form(if large { 0 } else { planned.block.forms.len() - 1 });
                    true
                }
                _ => true,
            };
        }
    }

    /// Blocks to read in this cycle, in order.
    pub(crate) fn wanted(&mut self, now: Instant) -> Vec<BlockName> {
        for planned in &mut self.blocks {
            if planned.shortened.is_some_and(|at| now.duration_since(at) >= ASK_AGAIN) {
                planned.set_usual_form(planned.usual_form);
            }
        }
        let wanted = self.blocks.iter().filter(|planned| planned.is_wanted(now));
        wanted.map(|planned| planned.block.name).collect()
    }

    /// The request for a block: its table and how many words to ask for.
    pub(crate) fn request(&self, name: BlockName) -> Option<(&'static Block, u16)> {
        let planned = self.blocks.iter().find(|planned| planned.block.name == name)?;
        Some((planned.block, planned.block.forms[planned.form]))
    }

    /// Takes note that a block was read.
    pub(crate) fn answered(&mut self, name: BlockName, now: Instant) {
        let Some(planned) = self.planned(name) else { return };
        planned.refused = None;
        if planned.form != planned.working_form {
            planned.shortened = Some(now);
        }
        planned.working_form = planned.form;
    }

    /// Takes note that a block was not read, and says what to do about it. The running block is never given up: without
    /// it there is nothing to poll.
    pub(crate) fn failed(&mut self, name: BlockName, error: &ReadError, now: Instant) -> AfterFailure {
        let Some(planned) = self.planned(name) else { return AfterFailure::TryNextCycle };
        let (against_block, against_form) = match error {
            ReadError::Refused(refusal) => (refusal.is_final(), refusal.is_final()),
            // Nothing was asked.
            ReadError::Connect(_) => (false, false),
            // Silence, damage, a short answer: so may a device react to a question that is too long for it.
            ReadError::Silence | ReadError::Lost(_) | ReadError::Malformed(_) => (false, true),
        };
        if against_form && planned.form + 1 < planned.block.forms.len() {
            planned.form += 1;
            return AfterFailure::TryShorter;
        }
        // Not even the shortest form, or nothing to do with it.
        planned.form = planned.working_form;
        let given_up = against_block && name != BlockName::Running;
        if given_up || planned.refused.is_some() {
            planned.refused = Some(now);
        }
        if given_up { AfterFailure::GivenUp } else { AfterFailure::TryNextCycle }
    }

    /// Blocks that were refused.
    pub(crate) fn refused(&self) -> Vec<BlockName> {
        let refused = self.blocks.iter().filter(|planned| planned.refused.is_some());
        refused.map(|planned| planned.block.name).collect()
    }

    /// Whether there may be a second battery whose power is a part of the balance.
    pub(crate) fn second_battery(&self) -> SecondBattery {
        let power = self.blocks.iter().find(|planned| planned.block.name == BlockName::Battery2Power);
        let refused = power.is_some_and(|planned| planned.refused.is_some());
        let unlikely = self.has_two_batteries == Some(false) && power.is_none_or(|planned| !planned.named);
        if refused || unlikely { SecondBattery::Absent } else { SecondBattery::Possible }
    }

    fn planned(&mut self, name: BlockName) -> Option<&mut Planned> {
        self.blocks.iter_mut().find(|planned| planned.block.name == name)
    }
}

/// What to do about a block that was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// Ask for its next shorter form at once.
    TryShorter,
    /// Ask again in the next cycle.
    TryNextCycle,
    /// The device has no such block: do not ask again for an hour.
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::{Malformed, Refusal};

    const S: i64 = 1_000_000_000;

    #[test]
    fn cycles_are_due_at_multiples_of_the_interval() {
        let schedule = Schedule::new(Duration::from_secs(10));
        for (now, last, expected) in [
            (12 * S, 10 * S, 20 * S),
            (20 * S, 10 * S, 30 * S),
            (-3 * S, -10 * S, 0),
            // The timer woke early, or the clock was slewed: not the same cycle twice.
            (20 * S - 1, 20 * S, 30 * S),
            // The clock was set back by an hour: go on from there.
            (-3_591 * S, 20 * S, -3_590 * S),
            // A cycle took 25 s: the two it overran are not made up for.
            (45 * S, 20 * S, 50 * S),
        ] {
            assert_eq!(schedule.next(Timestamp(now), Timestamp(last)), Timestamp(expected), "{now} {last}");
        }
    }

    #[test]
    fn points_carry_the_due_time_unless_the_clock_jumped() {
        for (due, now, expected) in
            [(20 * S, 20 * S + 3_141_592, 20 * S), (20 * S, 3_600 * S + 1_234_567, 3_600 * S + 1_000_000)]
        {
            assert_eq!(Schedule::cycle_time(Timestamp(due), Timestamp(now)), Timestamp(expected));
        }
    }

    #[test]
    fn waits_grow_to_their_limit_and_are_never_nothing() {
        let longest = Duration::from_secs(30);
        let waits = |seed: u64| {
            let mut backoff = Backoff::new(longest, seed);
            (0..200).map(|_| backoff.after_failure()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        assert!(waits(1)[0] <= BACKOFF_BASE);
        assert!(waits(1).iter().all(|wait| (BACKOFF_LEAST..=longest).contains(wait)));
        assert!(waits(1).iter().any(|wait| *wait > Duration::from_secs(20)));
        let mut backoff = Backoff::new(longest, 3);
        for _ in 0..10 {
            backoff.after_failure();
        }
        backoff.reset();
        assert!(backoff.after_failure() <= BACKOFF_BASE);
    }

    fn info(rated: u32, serial: &str) -> DeviceInfo {
        DeviceInfo { rated_power_w: Some(rated), serial: Some(serial.into()), ..DeviceInfo::default() }
    }

    fn refused() -> ReadError {
        ReadError::Refused(Refusal::ILLEGAL_DATA_ADDRESS)
    }

    #[test]
    fn what_is_asked_depends_on_the_size_of_the_inverter() {
        use BlockName::{Battery, Battery2, Battery2Power, Meter, Mppt, Running};
        use SecondBattery::{Absent, Possible};
        let mut plan = Plan::new(&DeviceConfig::new("roof", "h"));
        for (info, wanted, meter_words, second_battery) in [
            (DeviceInfo::default(), vec![Running, Battery, Battery2Power, Meter], 45, Possible),
            (info(10_000, "9010KETU000W0000"), vec![Running, Battery, Meter], 45, Absent),
            (info(10_000, "9010KETT000W0000"), vec![Running, Battery, Meter, Mppt], 125, Absent),
            (info(20_000, "9020KETC000W0000"), vec![Running, Battery, Meter, Mppt], 125, Absent),
            (
                info(30_000, "9030KETC000W0000"),
                vec![Running, Battery, Battery2, Battery2Power, Meter, Mppt],
                125,
                Possible,
            ),
        ] {
            plan.start_session(Family::Et, &info);
            assert_eq!(plan.wanted(Instant::now()), wanted, "{info:?}");
            assert_eq!(plan.request(Meter).unwrap().1, meter_words, "{info:?}");
            assert_eq!(plan.second_battery(), second_battery, "{info:?}");
        }
        // Left out by the configuration, it may be there all the same.
        let mut config = DeviceConfig::new("roof", "h");
        config.blocks = Some(vec![Running, Meter]);
        let mut plan = Plan::new(&config);
        assert_eq!(plan.second_battery(), Possible);
        plan.start_session(Family::Et, &info(30_000, ""));
        assert_eq!(plan.second_battery(), Possible);
        plan.start_session(Family::Et, &info(10_000, ""));
        // A small inverter was asked for the longest form because the configuration named the meter.
        assert_eq!((plan.second_battery(), plan.request(Meter).unwrap().1), (Absent, 45));
    }

    /// A plan for a large inverter and the words it asks the meter for.
    fn large() -> (Plan, impl Fn(&mut Plan, Instant) -> Option<u16>) {
        let mut plan = Plan::new(&DeviceConfig::new("roof", "h"));
        plan.start_session(Family::Et, &info(20_000, "9020KETC000W0000"));
        let words = |plan: &mut Plan, now: Instant| {
            let wanted = plan.wanted(now).contains(&BlockName::Meter);
            plan.request(BlockName::Meter).filter(|_| wanted).map(|(_, words)| words)
        };
        (plan, words)
    }

    #[test]
    fn a_refused_block_gets_shorter_then_rests_for_an_hour_and_disables_itself_alone() {
        let ((mut plan, words), now) = (large(), Instant::now());
        for (expected, after) in
            [(125, AfterFailure::TryShorter), (58, AfterFailure::TryShorter), (45, AfterFailure::GivenUp)]
        {
            assert_eq!(words(&mut plan, now), Some(expected));
            assert_eq!(plan.failed(BlockName::Meter, &refused(), now), after);
        }
        assert_eq!(words(&mut plan, now), None);
        assert_eq!(plan.wanted(now), [BlockName::Running, BlockName::Battery, BlockName::Mppt]);
        assert_eq!(plan.failed(BlockName::Running, &refused(), now), AfterFailure::TryNextCycle);
        assert_eq!(plan.refused(), [BlockName::Meter]);

        let later = now + ASK_AGAIN;
        assert_eq!(words(&mut plan, later), Some(125));
        assert_eq!(plan.refused(), [BlockName::Meter], "until it answers");
        for after in [AfterFailure::TryShorter, AfterFailure::TryShorter, AfterFailure::TryNextCycle] {
            assert_eq!(plan.failed(BlockName::Meter, &ReadError::Silence, later), after);
        }
        assert_eq!(words(&mut plan, later), None, "silence is no answer either");
        plan.answered(BlockName::Meter, later);
        assert!(plan.refused().is_empty() && words(&mut plan, later).is_some());
    }

    #[test]
    fn a_form_that_is_refused_or_met_with_silence_is_left_for_an_hour_if_a_shorter_one_answers() {
        for error in [refused(), ReadError::Silence, ReadError::Malformed(Malformed::Frame)] {
            let ((mut plan, words), now) = (large(), Instant::now());
            assert_eq!(plan.failed(BlockName::Meter, &error, now), AfterFailure::TryShorter);
            plan.answered(BlockName::Meter, now);
            assert_eq!(words(&mut plan, now), Some(58), "{error}");
            plan.answered(BlockName::Meter, now + ASK_AGAIN / 2);
            assert_eq!(words(&mut plan, now + ASK_AGAIN), Some(125), "{error}");
        }
        // Silence to every form says nothing of the form.
        let ((mut plan, words), now) = (large(), Instant::now());
        for after in [AfterFailure::TryShorter, AfterFailure::TryShorter, AfterFailure::TryNextCycle] {
            assert_eq!(plan.failed(BlockName::Meter, &ReadError::Silence, now), after);
        }
        assert_eq!(words(&mut plan, now), Some(125));
        let busy = ReadError::Refused(Refusal::BUSY);
        assert_eq!(plan.failed(BlockName::Meter, &busy, now), AfterFailure::TryNextCycle);
        assert_eq!(words(&mut plan, now), Some(125));
    }

    #[test]
    fn who_it_is_is_asked_at_once_then_ever_more_rarely_until_it_says() {
        let mut introduction = Introduction::default();
        let asked: Vec<u32> = (0..200)
            .filter(|_| {
                let due = introduction.is_due();
                if due {
                    introduction.missed();
                }
                due
            })
            .collect();
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 127, 191]);
        introduction.settle();
        assert!((0..200).all(|_| !introduction.is_due()));
    }
}
