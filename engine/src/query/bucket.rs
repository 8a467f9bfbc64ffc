//! Buckets: which stretch of time a value belongs to. One code path for all lengths, all zones and "all in one", and for
//! values, statistics and filling.
//!
//! How it works: between two changes of a zone's offset, local time is UTC plus a constant. Each such stretch (a regime)
//! knows which bucket it begins in; within it buckets are found by arithmetic. There is no list of borders, so a bucket
//! of a second over all of time costs nothing.
//!
//! Invariants
//! 1. A bucket is named by its first instant. Buckets do not overlap and leave nothing out.
//! 2. A bucket of nanoseconds begins whenever the local clock, less the offset asked for, shows a whole multiple of the
//!    length since 1970-01-01T00:00 local; both times if a clock set back shows it twice; multiples that a clock set
//!    forward leaves out begin where it goes on.
//! 3. A bucket of days, weeks (from Monday) or months begins at the first instant at which the local calendar, less the
//!    offset, has come so far, and only then: a midnight that comes twice begins one day.
//! 4. So every border of days is one of hours, every border of months one of days: smaller buckets add up to larger.

use super::request::{Aggregate, Every};
use super::zone::Zone;
use crate::codec::{Times, row_at};
use std::ops::Range;
use wattlog_model::Timestamp;

/// How a range of time is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    rule: Rule,
    /// By rising start; never empty.
    regimes: Vec<Regime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// One bucket.
    Whole(Range<i64>),
    Nanos(i64),
    /// Buckets of so many days, one of which begins `anchor` days after 1970-01-01.
    Days {
        days: i64,
        anchor: i64,
    },
    /// Buckets of so many months, counted from January 1970.
    Months(i64),
    /// So many parts of a range, as equal as nanoseconds allow.
    Parts {
        range: Range<i64>,
        parts: u32,
    },
}

/// A stretch of time with one offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Regime {
    start: i64,
    /// What has to be added to an instant to get local time less the offset asked for.
    shift: i64,
    /// First instant of the bucket that this begins in.
    carry: i64,
    /// Number of that bucket by the local clock.
    reached: i64,
}

impl Buckets {
    /// Buckets for instants of `range`. None if a length is zero or beyond 292 years, or the offset is not shorter.
    pub fn new(asked: &Aggregate, range: Range<i64>) -> Option<Self> {
        let rule = Rule::new(asked.every, &range)?;
        let longest = rule.longest();
        if asked.offset_ns.unsigned_abs() >= rule.shortest().unsigned_abs() {
            return None;
        }
        let reach = longest.saturating_add(asked.offset_ns.saturating_abs()).saturating_add(REACH_NS);
        let (low, high) = (range.start.saturating_sub(reach), range.end.saturating_add(reach));
        let regimes = regimes(&rule, &asked.zone, asked.offset_ns, low, high);
        Some(Self { rule, regimes })
    }

    /// The bucket of an instant: its first instant, and the first one after it (the last there is if that lies beyond).
    pub fn of(&self, time: i64) -> Range<i64> {
        if let Rule::Whole(range) = &self.rule {
            return range.clone();
        }
        let at = self.regimes.partition_point(|regime| regime.start <= time).saturating_sub(1);
        let regime = &self.regimes[at];
        let index = self.rule.index_at(time, regime.shift).max(regime.reached);
        let start = regime.start_of(&self.rule, index);
        start..self.end(at, index).max(time.saturating_add(1))
    }

    /// First instant of the bucket of `time`.
    pub(super) fn start(&self, time: i64) -> i64 {
        self.of(time).start
    }

    /// Rows of `times[from..]` (rising) that are in the same bucket as the first of them: (its start, end row).
    pub(super) fn stretch(&self, times: &[i64], from: usize) -> (i64, usize) {
        let Range { start, end } = self.of(times[from]);
        (start, row_at(times, from, end))
    }

    /// Cuts `times` (rising) where buckets end: the start of each bucket, and the row at which it ends.
    pub(super) fn cut(&self, times: &Times, starts: &mut Vec<i64>, ends: &mut Vec<u32>) {
        starts.clear();
        ends.clear();
        let mut row = 0;
        while row < times.len() {
            let Range { start, end } = self.of(times.get(row));
            // The bucket of a time holds it, even where there is no later instant to end it.
            row = times.row_at(row, end).max(row + 1);
            starts.push(start);
            ends.push(row as u32);
        }
    }

    /// First instant after bucket `index`, which regime `at` knows.
    fn end(&self, mut at: usize, mut index: i64) -> i64 {
        loop {
            let end = self.rule.instant(index.saturating_add(1), self.regimes[at].shift);
            match self.regimes.get(at + 1) {
                Some(later) if end >= later.start => {
                    if later.carry == later.start {
                        return later.start;
                    }
                    index = later.reached;
                    at += 1;
                }
                _ => return end,
            }
        }
    }
}

impl Regime {
    fn start_of(&self, rule: &Rule, index: i64) -> i64 {
        if index <= self.reached {
            return self.carry;
        }
        rule.instant(index, self.shift)
    }
}

/// What is looked at beyond a range: more than any clock was ever set by.
const REACH_NS: i64 = 3 * Timestamp::DAY_NS;

fn regimes(rule: &Rule, zone: &Zone, offset_ns: i64, low: i64, high: i64) -> Vec<Regime> {
    let shift = |seconds: i32| (i64::from(seconds) * 1_000_000_000).saturating_sub(offset_ns);
    let first = shift(zone.offset_seconds(low));
    // Parts of a range have numbers within it; far before it they would not fit.
    let reached = match rule {
        Rule::Parts { .. } => i64::MIN,
        _ => rule.index_at(i64::MIN, first),
    };
    let mut all = vec![Regime { start: i64::MIN, shift: first, carry: i64::MIN, reached }];
    if matches!(rule, Rule::Whole(_) | Rule::Parts { .. }) || *zone == Zone::UTC {
        return all;
    }
    for (start, seconds) in zone.changes(low, high) {
        let before = &all[all.len() - 1];
        let shift = shift(seconds);
        if shift == before.shift {
            continue;
        }
        let last = rule.index_at(start - 1, before.shift).max(before.reached);
        let now = rule.index_at(start, shift);
        let (begins, reached) = match rule {
            Rule::Nanos(ns) => (now > last || start.saturating_add(shift).rem_euclid(*ns) == 0, now),
            _ => (now > last, now.max(last)),
        };
        let carry = if begins { start } else { before.start_of(rule, last) };
        all.push(Regime { start, shift, carry, reached });
    }
    all
}

impl Rule {
    fn new(every: Option<Every>, range: &Range<i64>) -> Option<Self> {
        let rule = match every {
            None => Self::Whole(range.clone()),
            Some(Every::Nanos(ns)) => Self::Nanos(i64::try_from(ns).ok()?),
            Some(Every::Days(days)) => Self::Days { days: days.into(), anchor: 0 },
            Some(Every::Weeks(weeks)) => Self::Days { days: i64::from(weeks) * 7, anchor: MONDAY },
            Some(Every::Months(months)) => Self::Months(months.into()),
            Some(Every::Parts(parts)) => Self::Parts { range: range.clone(), parts },
        };
        match rule {
            Self::Whole(_) => Some(rule),
            Self::Nanos(n) if n > 0 => Some(rule),
            Self::Days { days, .. } if (1..=MAX_DAYS).contains(&days) => Some(rule),
            Self::Months(months) if (1..=MAX_MONTHS).contains(&months) => Some(rule),
            Self::Parts { parts, .. } if parts > 0 => Some(rule),
            _ => None,
        }
    }

    /// Nanoseconds that a bucket has at most, clock changes aside.
    fn longest(&self) -> i64 {
        match self {
            Self::Whole(_) | Self::Parts { .. } => 0,
            Self::Nanos(ns) => *ns,
            Self::Days { days, .. } => days.saturating_mul(Timestamp::DAY_NS),
            Self::Months(months) => months.saturating_mul(31 * Timestamp::DAY_NS),
        }
    }

    /// Nanoseconds that an offset must stay below.
    fn shortest(&self) -> i64 {
        match self {
            Self::Whole(_) | Self::Parts { .. } => i64::MAX,
            Self::Months(months) => months.saturating_mul(28 * Timestamp::DAY_NS),
            other => other.longest(),
        }
    }

    /// Number of the bucket of an instant whose local time is `shift` later.
    fn index_at(&self, time: i64, shift: i64) -> i64 {
        match time.checked_add(shift) {
            Some(wall) => self.index(wall),
            None => self.index_beyond(i128::from(time) + i128::from(shift)),
        }
    }

    /// Number of the bucket of a local time.
    fn index(&self, wall: i64) -> i64 {
        match self {
            Self::Whole(_) => 0,
            Self::Nanos(ns) => wall.div_euclid(*ns),
            Self::Days { days, anchor } => (wall.div_euclid(Timestamp::DAY_NS) - anchor).div_euclid(*days),
            Self::Months(months) => month_of(wall.div_euclid(Timestamp::DAY_NS)).div_euclid(*months),
            Self::Parts { .. } => self.index_beyond(wall.into()),
        }
    }

    /// The same for a local time beyond the range of instants.
    fn index_beyond(&self, wall: i128) -> i64 {
        let days = wall.div_euclid(i128::from(Timestamp::DAY_NS)) as i64;
        match self {
            Self::Whole(_) => 0,
            Self::Nanos(ns) => wall.div_euclid(i128::from(*ns)) as i64,
            Self::Days { days: length, anchor } => (days - anchor).div_euclid(*length),
            Self::Months(months) => month_of(days).div_euclid(*months),
            Self::Parts { range, parts } => {
                let (part, length) = ((wall - i128::from(range.start)) * i128::from(*parts), width(range));
                part.div_euclid(length) as i64
            }
        }
    }

    /// The instant at which a bucket begins by local time, which is `shift` later; an end of time where it lies beyond.
    fn instant(&self, index: i64, shift: i64) -> i64 {
        let days = |days: i64| i128::from(days) * i128::from(Timestamp::DAY_NS);
        let wall = match self {
            Self::Whole(range) => i128::from(range.start),
            Self::Nanos(ns) => i128::from(index) * i128::from(*ns),
            Self::Days { days: length, anchor } => {
                days(index.saturating_mul(*length).saturating_add(*anchor))
            }
            Self::Months(months) => days(first_day_of(index.saturating_mul(*months))),
            // The first nanosecond that is not in the part before.
            Self::Parts { range, parts } => {
                let (reached, parts) = (i128::from(index) * width(range), i128::from(*parts));
                i128::from(range.start) + (reached + parts - 1).div_euclid(parts)
            }
        };
        let instant = wall - i128::from(shift);
        instant.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

/// Nanoseconds of a range that is not empty.
fn width(range: &Range<i64>) -> i128 {
    i128::from(range.end) - i128::from(range.start)
}

/// Days from 1970-01-01, a Thursday, to the Monday before it.
const MONDAY: i64 = -3;
/// 292 years.
const MAX_DAYS: i64 = 106_751;
const MAX_MONTHS: i64 = 292 * 12;

/// Months since January 1970 of a day since 1970-01-01, in the proleptic Gregorian calendar.
///
/// # Source
/// H. Hinnant, "chrono-compatible low-level date algorithms": eras of 400 years that begin on 1 March.
fn month_of(day: i64) -> i64 {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_after_march = (5 * day_of_year + 2) / 153;
    (year_of_era + era * 400) * 12 + months_after_march + 2 - 1970 * 12
}

/// The day since 1970-01-01 on which a month since January 1970 begins; the inverse of [`month_of`].
fn first_day_of(month: i64) -> i64 {
    // Beyond all instants, and small enough for what follows.
    let month = month.clamp(-12_000, 12_000);
    let since_march = month + 1970 * 12 - 2;
    let (year, months_after_march) = (since_march.div_euclid(12), since_march.rem_euclid(12));
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * months_after_march + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests;
