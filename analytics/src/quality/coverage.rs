//! What is missing: points against those expected, and stretches without any.

use super::{QualityError, check_inside, check_order, rule};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Points there are against points expected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completeness {
    /// Points that the range would have at the interval expected.
    pub expected: u64,
    /// Of those, how many are missing; points that come more often than expected make up for none.
    pub missing: u64,
    /// `1 - missing / expected`, 0..=1.
    pub share: f64,
}

/// A stretch without points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The point before it, or the start of the range.
    pub start: Timestamp,
    /// The point after it, or the end of the range.
    pub end: Timestamp,
}

/// Completeness of a range in which a point is expected every `interval_ns`.
///
/// Between two points that are `n` intervals apart (rounded) `n - 1` are missing, so jitter of less than half an interval
/// counts for nothing.
///
/// # Errors
/// See [`QualityError`].
pub fn completeness(
    points: &[(Timestamp, f64)],
    range: &Range<Timestamp>,
    interval_ns: i64,
) -> Result<Completeness, QualityError> {
    rule(interval_ns > 0, "completeness", "the interval expected must be more than 0")?;
    check_order(points.iter().map(|(time, _)| *time))?;
    check_inside(points, range)?;
    let interval = i128::from(interval_ns);
    let apart = |from: Timestamp, to: Timestamp| i128::from(to.0) - i128::from(from.0);
    let expected = (apart(range.start, range.end) + interval - 1) / interval;
    let missing = match (points.first(), points.last()) {
        (Some(first), Some(last)) => {
            let before = apart(range.start, first.0) / interval;
            let after = (apart(last.0, range.end) + interval - 1) / interval - 1;
            let between = points.windows(2).map(|pair| {
                let steps = (apart(pair[0].0, pair[1].0) + interval / 2) / interval;
                (steps - 1).max(0)
            });
            before + after + between.sum::<i128>()
        }
        _ => expected,
    };
    let missing = missing.clamp(0, expected);
    let share = 1.0 - missing as f64 / expected as f64;
    // A range of i64 has less than 2^64 nanoseconds.
    Ok(Completeness { expected: expected as u64, missing: missing as u64, share })
}

/// Stretches of more than `longest_ns` without a point, those at both ends of the range included.
///
/// # Errors
/// See [`QualityError`].
pub fn gaps(
    points: &[(Timestamp, f64)],
    range: &Range<Timestamp>,
    longest_ns: i64,
) -> Result<Vec<Gap>, QualityError> {
    rule(longest_ns > 0, "gaps", "the longest stretch allowed must be more than 0")?;
    check_order(points.iter().map(|(time, _)| *time))?;
    check_inside(points, range)?;
    let starts = std::iter::once(range.start).chain(points.iter().map(|(time, _)| *time));
    let ends = points.iter().map(|(time, _)| *time).chain(std::iter::once(range.end));
    let gaps = starts.zip(ends).filter(|(start, end)| end.0.saturating_sub(start.0) > longest_ns);
    Ok(gaps.map(|(start, end)| Gap { start, end }).collect())
}

/// Ranges over which a condition on values held: rows of points that fulfil it and are at most `max_gap_ns` apart, each
/// from its first point to just after its last. For [`super::Rest::within`]: where a battery is full, where it is dark.
pub fn ranges_where(
    points: &[(Timestamp, f64)],
    max_gap_ns: i64,
    holds: impl Fn(f64) -> bool,
) -> Vec<Range<Timestamp>> {
    let mut ranges: Vec<Range<Timestamp>> = Vec::new();
    let mut running = false;
    for (time, value) in points {
        if !holds(*value) {
            running = false;
            continue;
        }
        let end = Timestamp(time.0.saturating_add(1));
        match ranges.last_mut() {
            Some(last) if running && end.0.saturating_sub(last.end.0) <= max_gap_ns => last.end = end,
            _ => ranges.push(*time..end),
        }
        running = true;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(times: &[i64]) -> Vec<(Timestamp, f64)> {
        times.iter().map(|time| (Timestamp(*time), 1.0)).collect()
    }

    #[test]
    fn points_expected_and_missing() {
        let check = |times: &[i64], expected: u64, missing: u64| {
            let found = completeness(&points(times), &(Timestamp(0)..Timestamp(100)), 10).unwrap();
            assert_eq!((found.expected, found.missing), (expected, missing), "{times:?}");
            assert_eq!(found.share, 1.0 - missing as f64 / expected as f64);
        };
        check(&[0, 10, 20, 30, 40, 50, 60, 70, 80, 90], 10, 0);
        // Jitter, and a first point that comes late in its place.
        check(&[9, 14, 26, 34, 41, 52, 63, 69, 83, 91], 10, 0);
        check(&[0, 10, 40, 50, 60, 70, 80, 90], 10, 2);
        check(&[20, 30, 40, 50, 60, 70], 10, 4);
        // One and a half intervals are two.
        check(&[0, 10, 26, 36, 46, 56, 66, 76, 86, 96], 10, 1);
        check(&[0, 10, 24, 34, 44, 54, 64, 74, 84, 94], 10, 0);
        check(&[], 10, 10);
        // Twice as many points in one half do not make up for the other.
        check(&[0, 5, 10, 15, 20, 25, 30, 35, 40, 45], 10, 5);
    }

    #[test]
    fn gaps_between_and_at_both_ends() {
        let gap = |start, end| Gap { start: Timestamp(start), end: Timestamp(end) };
        let range = Timestamp(0)..Timestamp(100);
        assert_eq!(gaps(&points(&[20, 30, 60, 70]), &range, 20).unwrap(), [gap(30, 60), gap(70, 100)]);
        assert_eq!(gaps(&points(&[]), &range, 20).unwrap(), [gap(0, 100)]);
        assert_eq!(gaps(&points(&[21, 40, 60, 80]), &range, 20).unwrap(), [gap(0, 21)]);
    }

    #[test]
    fn ranges_of_a_condition() {
        let list: Vec<(Timestamp, f64)> = [(0, 1.0), (10, 5.0), (20, 5.0), (50, 5.0), (60, 1.0), (70, 5.0)]
            .map(|(t, v)| (Timestamp(t), v))
            .into();
        let found = ranges_where(&list, 20, |value| value > 2.0);
        let found: Vec<(i64, i64)> = found.iter().map(|range| (range.start.0, range.end.0)).collect();
        assert_eq!(found, [(10, 21), (50, 51), (70, 71)]);
    }

    #[test]
    fn what_has_no_sense_is_refused() {
        let range = Timestamp(0)..Timestamp(100);
        assert!(matches!(completeness(&[], &range, 0), Err(QualityError::Rule { .. })));
        assert!(matches!(gaps(&points(&[5, 5]), &range, 1), Err(QualityError::Order { .. })));
        assert!(matches!(gaps(&points(&[5, 100]), &range, 1), Err(QualityError::Outside { .. })));
        assert!(matches!(gaps(&[], &(Timestamp(5)..Timestamp(5)), 1), Err(QualityError::Rule { .. })));
        let all = Timestamp::MIN..Timestamp::MAX;
        assert_eq!(completeness(&[], &all, 1).unwrap().share, 0.0);
    }
}
