//! How good stored points are: gathers what `wattlog_analytics::quality` judges, and says what could not be read.
//!
//! Two forms. Of any measurement each numeric field is judged by itself. Of [`RAW`](crate::energy::RAW) without a list of
//! fields the plant is judged too: whether the powers agree, which way they count, and how the device's clock goes.
//!
//! Limits: at most [`MOST_POINTS`] points of a field are in hand at a time; a longer range is judged in parts of whole days,
//! so a row of faults over the border of two parts is two. A day with more than that is told as not read.
//! Days of which something cannot be read are left out and told.

mod checks;
mod gather;
mod pieces;
mod plant;
mod sleep;

pub use checks::{BALANCE, BALANCE_WITHOUT_BATTERY};
pub use gather::report;

use crate::series::{Selection, Tags};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::quality::{FieldReport, Limits, PlantReport, QualityError};
use wattlog_engine::query::{QueryError, Zone};
use wattlog_model::Timestamp;

/// Most points of a field that are judged together.
pub const MOST_POINTS: u64 = 200_000;
/// Most series of an answer.
pub const MOST_SERIES: usize = 50;
/// Most fields of a series.
pub const MOST_FIELDS: usize = 64;
/// Most reports of one field over one part in an answer, those included that could not be made.
pub const MOST_REPORTS: usize = 2000;
/// Most days of a range.
pub const MOST_DAYS: i64 = 3660;
/// Most faults of a list that are kept; counts are of all.
pub const MOST_SHOWN: usize = 100;

/// Keeps the first [`MOST_SHOWN`] of a list, and no memory for the others: an answer has thousands of lists.
fn cut<T>(list: &mut Vec<T>) {
    list.truncate(MOST_SHOWN);
    list.shrink_to_fit();
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityRequest {
    /// Which series.
    pub selection: Selection,
    /// Only these fields; none: the plant, or all that are numbers.
    pub fields: Option<Vec<String>>,
    /// Which points.
    pub range: Range<i64>,
    /// Whose days parts are made of.
    pub zone: Zone,
    /// What the clocks of devices and the sun go by.
    pub home: Zone,
    /// A point is expected so often, in nanoseconds, whatever is known of the device.
    pub interval_ns: Option<i64>,
    /// The same of devices that are known, by name. Those of a plant are told also if they have no points.
    pub devices: BTreeMap<String, i64>,
    /// Rated power of the plant in W, for the limits of powers, whatever is known of the device.
    pub rated_w: Option<f64>,
    /// Rated power of the inverter in W, of devices of which it is known.
    pub inverters_w: BTreeMap<String, f64>,
}

/// How good one series is.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesQuality {
    /// Its tags.
    pub tags: Tags,
    /// Fields without any point in the range: they are not judged.
    pub absent: Vec<String>,
    /// It lives off its own PV: nothing is expected of it in the dark.
    pub sleeps: bool,
    /// By rising time.
    pub parts: Vec<Part>,
    /// What could not be judged.
    pub unread: Vec<Unread>,
}

/// A stretch of whole days, or the range.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its times.
    pub range: Range<i64>,
    /// Where nothing was expected, for it slept.
    pub asleep: Vec<Range<Timestamp>>,
    /// Each field by itself.
    pub fields: Vec<FieldQuality>,
    /// The fields of a plant against each other.
    pub plant: Option<PlantReport>,
    /// Whether the plant has a battery: without one its power is 0 in the balance.
    pub has_battery: bool,
}

/// One field over a part.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldQuality {
    /// Its name.
    pub field: String,
    /// Points that were judged.
    pub points: u64,
    /// How often one is expected, in nanoseconds.
    pub interval_ns: i64,
    /// Where that is from.
    pub interval_from: IntervalFrom,
    /// A longer stretch without a point is a gap, in nanoseconds.
    pub longest_gap_ns: i64,
    /// What its values can be.
    pub limits: Option<Limits>,
    /// The verdict; lists hold the first [`MOST_SHOWN`].
    pub report: FieldReport,
}

/// How it is known how often points are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalFrom {
    /// Asked for.
    Request,
    /// The device is polled so often.
    Device,
    /// The median of the times between the points.
    Points,
}

/// What was not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// When.
    pub range: Range<i64>,
    /// Which field; none: all.
    pub field: Option<String>,
    /// Why, and what to do.
    pub reason: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The points could not be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Points or rules that cannot be judged.
    #[error("field {field:?}: {error}")]
    Field {
        /// Which field, or which fields.
        field: String,
        /// Why.
        error: QualityError,
    },
    /// No such measurement.
    #[error("measurement not found: {0:?}")]
    Measurement(String),
    /// A field that is not there, or holds no numbers.
    #[error("fields: {field:?} {problem}")]
    BadField {
        /// As it was asked for.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than an answer takes.
    #[error("{what}: {found}, at most {most} are judged at a time; {advice}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
        /// What to do.
        advice: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_holds_no_memory_for_the_rest() {
        let mut list: Vec<u64> = (0..200_000).collect();
        cut(&mut list);
        assert_eq!((list.len(), list[99]), (MOST_SHOWN, 99));
        assert!(list.capacity() < 2 * MOST_SHOWN, "{}", list.capacity());
    }
}
