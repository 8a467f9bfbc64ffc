//! A straight line through points, by least squares.

use super::{TrendError, check};
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

const DAY_S: f64 = 86_400.0;

/// A line through points and how well it fits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Change per day, in the unit of the values.
    pub slope_per_day: f64,
    /// Standard error of the slope, per day; none with fewer than three points. Right if errors of the points are
    /// independent; neighbours of a home's series are not, so take means of days first.
    pub slope_error_per_day: Option<f64>,
    /// Value of the line at `middle`.
    pub level: f64,
    /// Mean time of the points.
    pub middle: Timestamp,
    /// Share of the variance that the line explains, 0..=1; none if values do not vary.
    pub r2: Option<f64>,
    /// Number of points.
    pub count: u64,
}

impl Line {
    /// The line's value at `time`.
    pub fn at(&self, time: Timestamp) -> f64 {
        self.level + self.slope_per_day * seconds(self.middle, time) / DAY_S
    }
}

/// Line through points by least squares, in any order of time. None with fewer than two points, if all have one time, or
/// if their values are too large for a double.
///
/// # Errors
/// [`TrendError::NotFinite`].
pub fn line(points: &[(Timestamp, f64)]) -> Result<Option<Line>, TrendError> {
    check(points)?;
    let count = points.len();
    if count < 2 {
        return Ok(None);
    }
    let n = count as f64;
    // Both means first: times are large numbers and squares of them would lose the differences.
    let sum_ns: i128 = points.iter().map(|(time, _)| i128::from(time.0)).sum();
    // A mean of i64 is one.
    let middle = Timestamp((sum_ns / count as i128) as i64);
    let mean_x = points.iter().map(|(time, _)| seconds(middle, *time)).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, value)| value / n).sum::<f64>();
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (time, value) in points {
        let (x, y) = (seconds(middle, *time) - mean_x, value - mean_y);
        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    let slope = xy / xx;
    if xx <= 0.0 || !slope.is_finite() || !yy.is_finite() || !mean_y.is_finite() {
        return Ok(None);
    }
    // What the line leaves; rounding may bring it below 0.
    let rest = (yy - slope * xy).max(0.0);
    let error = (count > 2).then(|| (rest / (n - 2.0) / xx).sqrt() * DAY_S);
    Ok(Some(Line {
        slope_per_day: slope * DAY_S,
        slope_error_per_day: error,
        level: mean_y - slope * mean_x,
        middle,
        r2: (yy > 0.0).then(|| (1.0 - rest / yy).clamp(0.0, 1.0)),
        count: count as u64,
    }))
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (i128::from(to.0) - i128::from(from.0)) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    fn days(values: &[f64]) -> Vec<(Timestamp, f64)> {
        // Not near zero: the year 2025.
        (0_i64..).zip(values).map(|(i, value)| (Timestamp(20_000 * DAY + i * DAY), *value)).collect()
    }

    #[test]
    fn a_line_goes_through_points_that_lie_on_one() {
        let found = line(&days(&[5.0, 7.0, 9.0, 11.0])).unwrap().unwrap();
        assert!((found.slope_per_day - 2.0).abs() < 1e-12);
        assert!((found.at(Timestamp(20_010 * DAY)) - 25.0).abs() < 1e-9);
        assert_eq!((found.r2, found.count), (Some(1.0), 4));
        assert!(found.slope_error_per_day.unwrap() < 1e-6);
    }

    #[test]
    fn slope_fit_and_error_of_a_worked_example() {
        // By hand: x 1..5, y 2 4 5 4 5: slope 0.6, r2 0.6, residual sum 2.4, error sqrt(2.4 / 3 / 10).
        let found = line(&days(&[2.0, 4.0, 5.0, 4.0, 5.0])).unwrap().unwrap();
        assert!((found.slope_per_day - 0.6).abs() < 1e-12);
        assert!((found.r2.unwrap() - 0.6).abs() < 1e-12);
        assert!((found.slope_error_per_day.unwrap() - 0.08_f64.sqrt()).abs() < 1e-9);
        assert!((found.level - 4.0).abs() < 1e-12);
        assert_eq!(found.middle, Timestamp(20_002 * DAY));
    }

    #[test]
    fn too_little_is_none_and_flat_has_no_fit() {
        assert_eq!(line(&[]).unwrap(), None);
        assert_eq!(line(&days(&[1.0])).unwrap(), None);
        assert_eq!(line(&[(Timestamp(5), 1.0), (Timestamp(5), 2.0)]).unwrap(), None);
        let flat = line(&days(&[3.0, 3.0, 3.0])).unwrap().unwrap();
        assert_eq!((flat.slope_per_day, flat.r2), (0.0, None));
        assert_eq!(line(&days(&[1.0, 2.0])).unwrap().unwrap().slope_error_per_day, None);
        assert!(line(&days(&[f64::NAN])).is_err());
        assert_eq!(line(&days(&[f64::MAX, -f64::MAX, f64::MAX])).unwrap(), None);
        assert!(line(&[(Timestamp::MIN, 1.0), (Timestamp::MAX, 2.0)]).unwrap().is_some());
    }
}
