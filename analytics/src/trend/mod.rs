//! Where a series goes: a line through it, its usual day and year, and the same period a year ago.
//!
//! Invariant: what rests on too few points is `None`, and every figure says on how many it rests.

mod compare;
mod line;
mod season;

pub use compare::{Comparison, Period, compare, same_period_last_year};
pub use line::{Line, line};
pub use season::{Season, SeasonalMean, seasonal};

use wattlog_model::Timestamp;

/// Points that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrendError {
    /// A value is no finite number.
    #[error("the point at {time_ns} ns has a value that is no number: leave it out", time_ns = .time.0)]
    NotFinite {
        /// Its time.
        time: Timestamp,
    },
    /// A period that is not in the calendar of a timestamp.
    #[error(
        "no such period: give a year from 1678 to 2261, and a month of 1 to 12 or a day that the month has"
    )]
    Period,
}

fn check(points: &[(Timestamp, f64)]) -> Result<(), TrendError> {
    let bad = points.iter().find(|(_, value)| !value.is_finite());
    bad.map_or(Ok(()), |(time, _)| Err(TrendError::NotFinite { time: *time }))
}
