//! How good data are: what is missing, what cannot be true, what contradicts itself.
//!
//! Checks of one field ([`assess`]): completeness and gaps, values that stand still, spikes, values out of range, and a
//! score. Checks across fields: the balance of power ([`balance_violations`]), a sign the wrong way round
//! ([`battery_sign_by_soc`], [`sign_by_balance`]), the clock of a device ([`clock_drift`]); [`assess_plant`] makes them all.
//!
//! Invariants
//! 1. Every number of a report carries its [`Source`]: measurement, tags, fields, range and function, from which the query
//!    that shows the same can be written.
//! 2. A list of findings has at most [`MAX_FINDINGS`] entries; its counts are of all.
//! 3. The same points give the same report.
//!
//! The checks find what is suspicious. They change nothing: a point is corrected or deleted by its owner.

mod balance;
mod clock;
mod coverage;
mod limits;
mod plant;
mod report;
mod sign;
mod source;
mod spikes;
mod stuck;

pub use balance::{BalanceTolerance, balance_violations};
pub use clock::{ClockDrift, ClockReading, ClockStep, clock_drift};
pub use coverage::{Completeness, Gap, completeness, gaps, ranges_where};
pub use limits::{Limits, out_of_range};
pub use plant::{PlantChecks, PlantData, PlantFields, PlantReport, assess_plant};
pub use report::{FieldChecks, FieldReport, assess};
pub use sign::{BatteryReading, Sign, SignVerdict, Signed, battery_sign_by_soc, sign_by_balance};
pub use source::{FieldName, Function, Source, Sourced};
pub use spikes::{SpikeRule, spikes};
pub use stuck::{Rest, StuckRule, stuck};

use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Most entries of a list of findings.
pub const MAX_FINDINGS: usize = 1000;

/// A row of neighbouring points with one fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Time of its first point.
    pub first: Timestamp,
    /// Time of its last point; that of the first if there is one only.
    pub last: Timestamp,
    /// Number of points.
    pub points: u64,
    /// What is worst in it, in the unit of the check: the value that stands still, the value of the spike, the value
    /// furthest out of range, the largest error of the balance in W.
    pub worst: f64,
}

/// Faults of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// In order of time; the first [`MAX_FINDINGS`].
    pub stretches: Vec<Stretch>,
    /// Number of stretches, those left out of the list included.
    pub count: u64,
    /// Number of points in all stretches.
    pub points: u64,
}

impl Findings {
    fn push(&mut self, stretch: Stretch) {
        self.count += 1;
        self.points += stretch.points;
        if self.stretches.len() < MAX_FINDINGS {
            self.stretches.push(stretch);
        }
    }
}

/// Calls `found` for each row of neighbouring points that are bad (a value to show, and how bad it is), with the places of
/// its points.
fn rows(
    points: impl Iterator<Item = (Timestamp, Option<(f64, f64)>)>,
    mut found: impl FnMut(Range<usize>, Stretch),
) {
    let mut row: Option<(Range<usize>, Stretch, f64)> = None;
    for (index, (time, bad)) in points.enumerate() {
        match (&mut row, bad) {
            (Some((places, stretch, worst)), Some((value, badness))) => {
                places.end = index + 1;
                stretch.last = time;
                stretch.points += 1;
                if badness > *worst {
                    (*worst, stretch.worst) = (badness, value);
                }
            }
            (None, Some((value, badness))) => {
                let stretch = Stretch { first: time, last: time, points: 1, worst: value };
                row = Some((index..index + 1, stretch, badness));
            }
            (_, None) => {
                if let Some((places, stretch, _)) = row.take() {
                    found(places, stretch);
                }
            }
        }
    }
    if let Some((places, stretch, _)) = row {
        found(places, stretch);
    }
}

/// Points or rules that cannot be checked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// Times do not rise.
    #[error("points must rise in time, but {later_ns} ns follows {earlier_ns} ns; sort them and keep one for each time", later_ns = .later.0, earlier_ns = .earlier.0)]
    Order {
        /// A time.
        earlier: Timestamp,
        /// What stands after it.
        later: Timestamp,
    },
    /// A value is no finite number.
    #[error("the point at {time_ns} ns has a value that is no number: leave it out", time_ns = .time.0)]
    NotFinite {
        /// Its time.
        time: Timestamp,
    },
    /// A point lies outside the range that is asked for.
    #[error("the point at {time_ns} ns lies outside the range {start_ns}..{end_ns} ns: give the points of the range", time_ns = .time.0)]
    Outside {
        /// Its time.
        time: Timestamp,
        /// Start of the range.
        start_ns: i64,
        /// End of the range.
        end_ns: i64,
    },
    /// A rule has no sense.
    #[error("{rule}: {problem}")]
    Rule {
        /// Which rule.
        rule: &'static str,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
}

/// Refuses points that do not rise or are no numbers.
fn check_points(points: &[(Timestamp, f64)]) -> Result<(), QualityError> {
    check_order(points.iter().map(|(time, _)| *time))?;
    let bad = points.iter().find(|(_, value)| !value.is_finite());
    bad.map_or(Ok(()), |(time, _)| Err(QualityError::NotFinite { time: *time }))
}

fn check_order(times: impl Iterator<Item = Timestamp>) -> Result<(), QualityError> {
    let mut before: Option<Timestamp> = None;
    for later in times {
        if let Some(earlier) = before.filter(|earlier| *earlier >= later) {
            return Err(QualityError::Order { earlier, later });
        }
        before = Some(later);
    }
    Ok(())
}

/// Refuses a range without length and points outside it. Points rise.
fn check_inside(points: &[(Timestamp, f64)], range: &Range<Timestamp>) -> Result<(), QualityError> {
    if range.start >= range.end {
        return Err(QualityError::Rule { rule: "range", problem: "its end must lie after its start" });
    }
    let ends = points.first().into_iter().chain(points.last());
    let outside = ends.map(|(time, _)| *time).find(|time| !range.contains(time));
    let (start_ns, end_ns) = (range.start.0, range.end.0);
    outside.map_or(Ok(()), |time| Err(QualityError::Outside { time, start_ns, end_ns }))
}

fn rule(holds: bool, rule: &'static str, problem: &'static str) -> Result<(), QualityError> {
    if holds { Ok(()) } else { Err(QualityError::Rule { rule, problem }) }
}

/// The middle of `values` (the mean of both middle ones if their number is even); sorts them. None if there are none.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}
