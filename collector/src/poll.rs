//! What is due, and when: pure decisions of the polling loop, tested with tables.
//!
//! Promise: a device is asked at whole multiples of its interval (so that stamps are regular and compress to nothing),
//! a silent one ever more rarely but for ever, and a block that it refused not again in the same session.

use crate::config::{BlockName, DeviceConfig, Family};
use crate::goodwe::DeviceInfo;
use crate::goodwe::registers::{self, Block};
use crate::seed::Rng;
use std::time::Duration;
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

/// Which blocks to read in a cycle, and in which form.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    blocks: Vec<Planned>,
}

#[derive(Debug, Clone)]
struct Planned {
    block: &'static Block,
    /// The configuration names it: try it whatever the device's size.
    named: bool,
    /// False if a device of this size does not have it.
    likely: bool,
    form: usize,
    refused: bool,
}

/// Blocks that only large inverters have.
const LARGE_W: u32 = 15_000;
/// From here on inverters have two batteries.
const TWO_BATTERIES_W: u32 = 25_000;

impl Plan {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        let named = |name: BlockName| config.blocks.as_ref().is_some_and(|blocks| blocks.contains(&name));
        let planned = |name: BlockName| {
            let block = registers::block(config.family, name)?;
            Some(Planned { block, named: named(name), likely: true, form: 0, refused: false })
        };
        let mut plan = Self { blocks: config.blocks().into_iter().filter_map(planned).collect() };
        plan.start_session(config.family, &DeviceInfo::default());
        plan
    }

    /// Begins anew with a device that was just reached: it may have been replaced or updated meanwhile.
    pub(crate) fn start_session(&mut self, family: Family, info: &DeviceInfo) {
        let large = info.is_rated_at_least(LARGE_W) || info.is_platform_745();
        for planned in &mut self.blocks {
            planned.refused = false;
            planned.form = 0;
            planned.likely = match (family, planned.block.name) {
                (Family::Et, BlockName::Battery2 | BlockName::Battery2Power) => {
                    info.is_rated_at_least(TWO_BATTERIES_W)
                }
                (Family::Et, BlockName::Mppt) => large,
                (Family::Et, BlockName::Meter) => {
                    // Small inverters have the shortest form only, and some fall silent at a longer question.
                    planned.form = if large || planned.named { 0 } else { planned.block.forms.len() - 1 };
                    true
                }
                _ => true,
            };
        }
    }

    /// Blocks to read in this session, in order.
    pub(crate) fn wanted(&self) -> Vec<BlockName> {
        let wanted =
            self.blocks.iter().filter(|planned| (planned.named || planned.likely) && !planned.refused);
        wanted.map(|planned| planned.block.name).collect()
    }

    /// The request for a block: its table and how many words to ask for.
    pub(crate) fn request(&self, name: BlockName) -> Option<(&'static Block, u16)> {
        let planned = self.blocks.iter().find(|planned| planned.block.name == name && !planned.refused)?;
        Some((planned.block, planned.block.forms[planned.form]))
    }

    /// Takes note that the device has no such registers. The running block is never given up: without it there is
    /// nothing to poll.
    pub(crate) fn refuse(&mut self, name: BlockName) -> AfterRefusal {
        let Some(planned) = self.blocks.iter_mut().find(|planned| planned.block.name == name) else {
            return AfterRefusal::GivenUp;
        };
        if planned.form + 1 < planned.block.forms.len() {
            planned.form += 1;
            return AfterRefusal::TryShorter;
        }
        if name == BlockName::Running {
            return AfterRefusal::TryNextCycle;
        }
        planned.refused = true;
        AfterRefusal::GivenUp
    }

    /// Blocks given up in this session.
    pub(crate) fn refused(&self) -> Vec<BlockName> {
        self.blocks.iter().filter(|planned| planned.refused).map(|planned| planned.block.name).collect()
    }
}

/// What to do about a refused block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    /// Ask for its next shorter form at once.
    TryShorter,
    /// Ask again in the next cycle.
    TryNextCycle,
    /// Do not ask again in this session.
    GivenUp,
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_is_asked_depends_on_the_size_of_the_inverter() {
        use BlockName::{Battery, Battery2, Battery2Power, Meter, Mppt, Running};
        let mut plan = Plan::new(&DeviceConfig::new("roof", "h"));
        for (info, wanted, meter_words) in [
            (DeviceInfo::default(), vec![Running, Battery, Meter], 45),
            (info(10_000, "9010KETU000W0000"), vec![Running, Battery, Meter], 45),
            (info(10_000, "9010KETT000W0000"), vec![Running, Battery, Meter, Mppt], 125),
            (info(20_000, "9020KETC000W0000"), vec![Running, Battery, Meter, Mppt], 125),
            (
                info(30_000, "9030KETC000W0000"),
                vec![Running, Battery, Battery2, Battery2Power, Meter, Mppt],
                125,
            ),
        ] {
            plan.start_session(Family::Et, &info);
            assert_eq!(plan.wanted(), wanted, "{info:?}");
            assert_eq!(plan.request(Meter).unwrap().1, meter_words, "{info:?}");
        }
    }

    #[test]
    fn a_refused_block_disables_itself_alone_and_the_meter_gets_shorter_first() {
        let mut config = DeviceConfig::new("roof", "h");
        config.blocks = Some(vec![BlockName::Running, BlockName::Battery, BlockName::Meter]);
        let mut plan = Plan::new(&config);
        let words = |plan: &Plan| plan.request(BlockName::Meter).map(|(_, words)| words);
        assert_eq!(words(&plan), Some(125));
        assert_eq!(plan.refuse(BlockName::Meter), AfterRefusal::TryShorter);
        assert_eq!(words(&plan), Some(58));
        assert_eq!(plan.refuse(BlockName::Meter), AfterRefusal::TryShorter);
        assert_eq!(words(&plan), Some(45));
        assert_eq!(plan.refuse(BlockName::Meter), AfterRefusal::GivenUp);
        assert_eq!(words(&plan), None);
        assert_eq!(plan.wanted(), [BlockName::Running, BlockName::Battery]);
        assert_eq!(plan.refuse(BlockName::Running), AfterRefusal::TryNextCycle);
        assert_eq!(plan.refused(), [BlockName::Meter]);
        plan.start_session(Family::Et, &DeviceInfo::default());
        assert_eq!(words(&plan), Some(125));
    }
}
