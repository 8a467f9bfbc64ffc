//! Values that stand still while they should move.

use super::{Findings, QualityError, Stretch, check_points, rule};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// When a value that stands still is no news: PV at 0 in the dark, a battery that is full.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// Least value that may rest.
    pub low: f64,
    /// Greatest value that may rest.
    pub high: f64,
    /// Where it may rest, ranges that rise and do not overlap ([`super::ranges_where`]); everywhere if none.
    pub within: Option<Vec<Range<Timestamp>>>,
}

/// When a value counts as stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StuckRule {
    /// The same value for longer than this is stuck.
    pub longest_ns: i64,
    /// Points further apart do not belong together.
    pub max_gap_ns: i64,
}

/// Rows of points with the same value (the same bits) for longer than allowed; a point that may rest ends a row.
///
/// # Errors
/// See [`QualityError`].
pub fn stuck(
    points: &[(Timestamp, f64)],
    limits: StuckRule,
    rests: &[Rest],
) -> Result<Findings, QualityError> {
    let mut findings = Findings::default();
    visit(points, limits, rests, |_, row| findings.push(row))?;
    Ok(findings)
}

/// As [`stuck`], each row with the places of its points.
pub(super) fn visit(
    points: &[(Timestamp, f64)],
    limits: StuckRule,
    rests: &[Rest],
    mut found: impl FnMut(Range<usize>, Stretch),
) -> Result<(), QualityError> {
    rule(limits.longest_ns > 0 && limits.max_gap_ns > 0, "stuck", "both times must be more than 0")?;
    check_points(points)?;
    for ranges in rests.iter().filter_map(|rest| rest.within.as_ref()) {
        check_ranges(ranges)?;
    }
    let mut keep = |row: Option<(Range<usize>, Stretch)>| {
        if let Some((places, row)) = row
            && row.last.0.saturating_sub(row.first.0) > limits.longest_ns
        {
            found(places, row);
        }
    };
    let mut row: Option<(Range<usize>, Stretch)> = None;
    for (index, (time, value)) in points.iter().enumerate() {
        let may_rest = rests.iter().any(|rest| rest.allows(*time, *value));
        match &mut row {
            Some((places, row))
                if !may_rest
                    && row.worst.to_bits() == value.to_bits()
                    && time.0.saturating_sub(row.last.0) <= limits.max_gap_ns =>
            {
                places.end = index + 1;
                row.last = *time;
                row.points += 1;
            }
            _ => {
                let first = Stretch { first: *time, last: *time, points: 1, worst: *value };
                keep(std::mem::replace(&mut row, (!may_rest).then_some((index..index + 1, first))));
            }
        }
    }
    keep(row);
    Ok(())
}

/// Refuses ranges that do not rise, overlap or have no length.
fn check_ranges(ranges: &[Range<Timestamp>]) -> Result<(), QualityError> {
    let long = ranges.iter().all(|range| range.start < range.end);
    let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    rule(long && apart, "stuck", "the ranges of a rest must rise, have a length and not overlap")
}

impl Rest {
    fn allows(&self, time: Timestamp, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
            && self.within.as_ref().is_none_or(|ranges| {
                let after = ranges.partition_point(|range| range.start <= time);
                after.checked_sub(1).is_some_and(|index| ranges[index].contains(&time))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule_of(longest_ns: i64) -> StuckRule {
        StuckRule { longest_ns, max_gap_ns: 20 }
    }

    fn points(values: &[f64]) -> Vec<(Timestamp, f64)> {
        (0_i64..).zip(values).map(|(i, value)| (Timestamp(i * 10), *value)).collect()
    }

    fn found(values: &[f64], longest_ns: i64, rests: &[Rest]) -> Vec<(i64, i64, u64)> {
        let findings = stuck(&points(values), rule_of(longest_ns), rests).unwrap();
        findings.stretches.iter().map(|s| (s.first.0, s.last.0, s.points)).collect()
    }

    #[test]
    fn the_same_value_for_longer_than_allowed() {
        assert_eq!(found(&[1.0, 2.0, 2.0, 2.0, 3.0, 3.0], 15, &[]), [(10, 30, 3)]);
        assert_eq!(found(&[1.0, 2.0, 2.0, 2.0, 3.0], 20, &[]), []);
        assert_eq!(found(&[5.0; 4], 29, &[]), [(0, 30, 4)]);
    }

    #[test]
    fn a_gap_ends_a_row() {
        let list = [(0, 7.0), (10, 7.0), (50, 7.0), (60, 7.0)].map(|(t, v)| (Timestamp(t), v));
        assert_eq!(stuck(&list, rule_of(15), &[]).unwrap(), Findings::default());
    }

    #[test]
    fn night_and_a_full_battery_are_at_rest_and_zero_by_day_is_not() {
        let night = vec![Timestamp(0)..Timestamp(31)];
        let rest = Rest { low: 0.0, high: 0.0, within: Some(night) };
        assert_eq!(found(&[0.0; 4], 15, std::slice::from_ref(&rest)), []);
        assert_eq!(found(&[0.0; 8], 15, std::slice::from_ref(&rest)), [(40, 70, 4)]);
        let full = Rest { low: 99.5, high: 100.0, within: None };
        assert_eq!(found(&[100.0; 8], 15, std::slice::from_ref(&full)), []);
        assert_eq!(found(&[50.0; 8], 15, &[full, rest]), [(0, 70, 8)]);
    }

    #[test]
    fn what_has_no_sense_is_refused() {
        assert!(matches!(stuck(&points(&[f64::NAN]), rule_of(1), &[]), Err(QualityError::NotFinite { .. })));
        assert!(matches!(stuck(&[], rule_of(0), &[]), Err(QualityError::Rule { .. })));
        let crossed = Rest { low: 0.0, high: 0.0, within: Some(vec![Timestamp(5)..Timestamp(1)]) };
        assert!(matches!(stuck(&[], rule_of(1), &[crossed]), Err(QualityError::Rule { .. })));
    }
}
