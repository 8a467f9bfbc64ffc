//! Values that cannot be: outside what a device can measure or do.

use super::{Findings, QualityError, Stretch, check_points, rows, rule};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Least and greatest value that can be, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Least.
    pub low: f64,
    /// Greatest.
    pub high: f64,
}

/// Rows of points outside their limits; `worst` is the value furthest outside.
///
/// # Errors
/// See [`QualityError`].
pub fn out_of_range(points: &[(Timestamp, f64)], limits: Limits) -> Result<Findings, QualityError> {
    let mut findings = Findings::default();
    visit(points, limits, |_, row| findings.push(row))?;
    Ok(findings)
}

/// As [`out_of_range`], each row with the places of its points.
pub(super) fn visit(
    points: &[(Timestamp, f64)],
    limits: Limits,
    found: impl FnMut(Range<usize>, Stretch),
) -> Result<(), QualityError> {
    // Also refuses NaN.
    rule(limits.low <= limits.high, "limits", "the least value must be a number not above the greatest")?;
    check_points(points)?;
    let judged = points.iter().map(|(time, value)| {
        let outside = (limits.low - value).max(value - limits.high);
        (*time, (outside > 0.0).then_some((*value, outside)))
    });
    rows(judged, found);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_outside_with_the_value_furthest_out() {
        let values = [50.0, 100.0, 100.1, 6553.5, 101.0, 0.0, -0.5, 7.0, 65535.0];
        let points: Vec<(Timestamp, f64)> = (0_i64..).zip(values).map(|(i, v)| (Timestamp(i), v)).collect();
        let found = out_of_range(&points, Limits { low: 0.0, high: 100.0 }).unwrap();
        let rows: Vec<(i64, i64, f64)> =
            found.stretches.iter().map(|row| (row.first.0, row.last.0, row.worst)).collect();
        assert_eq!(rows, [(2, 4, 6553.5), (6, 6, -0.5), (8, 8, 65535.0)]);
        assert_eq!((found.count, found.points), (3, 5));
    }

    #[test]
    fn limits_without_sense_are_refused() {
        for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert!(matches!(out_of_range(&[], Limits { low, high }), Err(QualityError::Rule { .. })));
        }
    }
}
