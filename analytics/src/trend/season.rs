//! The usual day and the usual year: means by hour of the local clock, or by month.

use super::{TrendError, check};
use crate::calendar::instant;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// What is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Season {
    /// Hours 0 to 23 of the local clock.
    HourOfDay,
    /// Days 1 (Monday) to 7.
    DayOfWeek,
    /// Months 1 to 12.
    MonthOfYear,
}

/// Mean of one place of a season.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeasonalMean {
    /// Hour, day or month.
    pub place: u8,
    /// Mean of its points.
    pub mean: f64,
    /// Standard deviation of its points (over n - 1); none with one point.
    pub deviation: Option<f64>,
    /// Number of its points.
    pub count: u64,
}

/// Means by place of a season where clocks are those of `zone`; places without points are left out. Each point counts
/// alike: give points of equal weight (means of hours, totals of months).
///
/// # Errors
/// [`TrendError::NotFinite`].
pub fn seasonal(
    points: &[(Timestamp, f64)],
    season: Season,
    zone: &TimeZone,
) -> Result<Vec<SeasonalMean>, TrendError> {
    check(points)?;
    // Welford's running mean and sum of squares.
    let mut places = [(0_u64, 0.0_f64, 0.0_f64); 24];
    for (time, value) in points {
        let local = zone.to_datetime(instant(*time));
        let place = match season {
            Season::HourOfDay => local.hour(),
            Season::DayOfWeek => local.weekday().to_monday_one_offset(),
            Season::MonthOfYear => local.month(),
        };
        // 0..=23, 1..=7 or 1..=12.
        let (count, mean, squares) = &mut places[usize::from(place.unsigned_abs())];
        *count += 1;
        let off = value - *mean;
        *mean += off / *count as f64;
        *squares += off * (value - *mean);
    }
    let known = (0_u8..).zip(places).filter(|(_, (count, _, _))| *count > 0);
    Ok(known
        .map(|(place, (count, mean, squares))| SeasonalMean {
            place,
            mean,
            deviation: (count > 1).then(|| (squares / (count - 1) as f64).sqrt()),
            count,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64)
    }

    #[test]
    fn hours_are_those_of_the_clock_on_the_wall() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        // 12:30 in winter, in summer, and both passes of 2:30 on the day the clock goes back.
        let points = [
            (at("2025-01-10T11:30:00Z"), 10.0),
            (at("2025-07-10T10:30:00Z"), 20.0),
            (at("2025-10-26T00:30:00Z"), 1.0),
            (at("2025-10-26T01:30:00Z"), 3.0),
        ];
        let found = seasonal(&points, Season::HourOfDay, &warsaw).unwrap();
        let rows: Vec<(u8, f64, u64)> = found.iter().map(|row| (row.place, row.mean, row.count)).collect();
        assert_eq!(rows, [(2, 2.0, 2), (12, 15.0, 2)]);
        assert!((found[1].deviation.unwrap() - 50.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn months_and_days_of_the_week() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        // The last hour of January in UTC is February in Warsaw; 1 February 2025 is a Saturday.
        let points = [(at("2025-01-31T23:30:00Z"), 5.0), (at("2025-01-31T22:30:00Z"), 7.0)];
        let months = seasonal(&points, Season::MonthOfYear, &warsaw).unwrap();
        assert_eq!(months.iter().map(|row| row.place).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((months[0].mean, months[0].deviation), (7.0, None));
        let days = seasonal(&points, Season::DayOfWeek, &warsaw).unwrap();
        assert_eq!(days.iter().map(|row| row.place).collect::<Vec<_>>(), [5, 6]);
        assert!(seasonal(&[], Season::HourOfDay, &warsaw).unwrap().is_empty());
        assert!(seasonal(&[(Timestamp(0), f64::NAN)], Season::HourOfDay, &warsaw).is_err());
    }
}
