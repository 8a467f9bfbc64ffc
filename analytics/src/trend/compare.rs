//! This month against the same month of last year: which instants to compare, and how.

use super::TrendError;
use crate::calendar::HOUR_NS;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// A period of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Period {
    /// A day.
    Day {
        /// Year.
        year: i16,
        /// Month, 1..=12.
        month: i8,
        /// Day of the month.
        day: i8,
    },
    /// A month.
    Month {
        /// Year.
        year: i16,
        /// Month, 1..=12.
        month: i8,
    },
    /// A year.
    Year {
        /// Year.
        year: i16,
    },
}

impl Period {
    /// First date, and the first date after it.
    fn dates(self) -> Result<(Date, Date), TrendError> {
        let known = |year: i16| (1678..=2261).contains(&year);
        let date = |year, month, day| Date::new(year, month, day).map_err(|_| TrendError::Period);
        match self {
            Self::Day { year, month, day } if known(year) => {
                let first = date(year, month, day)?;
                Ok((first, first.tomorrow().map_err(|_| TrendError::Period)?))
            }
            Self::Month { year, month: 12 } if known(year) => Ok((date(year, 12, 1)?, date(year + 1, 1, 1)?)),
            Self::Month { year, month } if known(year) => {
                Ok((date(year, month, 1)?, date(year, month.saturating_add(1), 1)?))
            }
            Self::Year { year } if known(year) => Ok((date(year, 1, 1)?, date(year + 1, 1, 1)?)),
            _ => Err(TrendError::Period),
        }
    }

    /// Its instants where clocks are those of `zone`, from local midnight to local midnight. A midnight that a clock skips
    /// is the first instant after it.
    ///
    /// # Errors
    /// [`TrendError::Period`] for a date that does not exist or is not in the years of a timestamp.
    pub fn range(self, zone: &TimeZone) -> Result<Range<Timestamp>, TrendError> {
        let (first, after) = self.dates()?;
        Ok(midnight(first, zone)?..midnight(after, zone)?)
    }

    /// The same period of the year before; 28 February for 29 February.
    #[must_use]
    pub fn last_year(self) -> Self {
        match self {
            Self::Day { year, month: 2, day: 29 } => {
                Self::Day { year: year.saturating_sub(1), month: 2, day: 28 }
            }
            Self::Day { year, month, day } => Self::Day { year: year.saturating_sub(1), month, day },
            Self::Month { year, month } => Self::Month { year: year.saturating_sub(1), month },
            Self::Year { year } => Self::Year { year: year.saturating_sub(1) },
        }
    }
}

fn midnight(date: Date, zone: &TimeZone) -> Result<Timestamp, TrendError> {
    // "Compatible" takes the later offset's reading of a skipped midnight, the earlier pass of a repeated one.
    let instant = zone.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| TrendError::Period)?;
    i64::try_from(instant.as_nanosecond()).map(Timestamp).map_err(|_| TrendError::Period)
}

/// The instants of `period` and those of the year before to compare with it. If `now` lies within the period, both end
/// early: the period at `now`, last year's after the same number of days and hours of the clock, so that the first eleven
/// days of March are compared with the first eleven days of March.
///
/// # Errors
/// [`TrendError::Period`].
pub fn same_period_last_year(
    period: Period,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<(Range<Timestamp>, Range<Timestamp>), TrendError> {
    let this = period.range(zone)?;
    let before = period.last_year().range(zone)?;
    if !this.contains(&now) {
        return Ok((this, before));
    }
    let (first, _) = period.dates()?;
    let (first_before, _) = period.last_year().dates()?;
    let local = zone.to_datetime(crate::calendar::instant(now));
    let days = local.date().duration_since(first);
    // 29 February of a leap year has no day of its own last year; the range of the period bounds it.
    let date = first_before.checked_add(days).map_err(|_| TrendError::Period)?;
    let instant = zone.to_timestamp(date.to_datetime(local.time())).map_err(|_| TrendError::Period)?;
    let end = i64::try_from(instant.as_nanosecond()).map_err(|_| TrendError::Period)?;
    let end = Timestamp(end.clamp(before.start.0, before.end.0));
    Ok((this.start..now, before.start..end))
}

/// Two totals, or means, of comparable periods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Of this period.
    pub this: f64,
    /// Of the one before.
    pub before: f64,
    /// `this - before`.
    pub change: f64,
    /// `change / |before|`; none if that is 0.
    pub share: Option<f64>,
    /// `this` per hour of its range; of means without sense.
    pub this_per_hour: f64,
    /// `before` per hour of its range: days with 23 hours and leap years compare by these.
    pub before_per_hour: f64,
}

/// Compares the totals of two ranges. None if one is missing or no number, or a range is empty.
pub fn compare(
    this: Option<f64>,
    before: Option<f64>,
    ranges: &(Range<Timestamp>, Range<Timestamp>),
) -> Option<Comparison> {
    let (this, before) = (this?, before?);
    let hours = |range: &Range<Timestamp>| {
        let length = i128::from(range.end.0) - i128::from(range.start.0);
        (length > 0).then(|| length as f64 / HOUR_NS as f64)
    };
    let change = this - before;
    let share = change / before.abs();
    change.is_finite().then_some(Comparison {
        this,
        before,
        change,
        share: share.is_finite().then_some(share),
        this_per_hour: this / hours(&ranges.0)?,
        before_per_hour: before / hours(&ranges.1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64)
    }

    fn hours(range: &Range<Timestamp>) -> i64 {
        (range.end.0 - range.start.0) / HOUR_NS
    }

    #[test]
    fn periods_go_from_midnight_to_midnight_on_the_wall() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        let check = |period: Period, start: &str, expected_hours: i64| {
            let range = period.range(&warsaw).unwrap();
            assert_eq!((range.start, hours(&range)), (at(start), expected_hours), "{period:?}");
        };
        check(Period::Month { year: 2025, month: 3 }, "2025-02-28T23:00:00Z", 31 * 24 - 1);
        check(Period::Month { year: 2025, month: 10 }, "2025-09-30T22:00:00Z", 31 * 24 + 1);
        check(Period::Month { year: 2024, month: 12 }, "2024-11-30T23:00:00Z", 31 * 24);
        check(Period::Day { year: 2025, month: 10, day: 26 }, "2025-10-25T22:00:00Z", 25);
        check(Period::Year { year: 2024 }, "2023-12-31T23:00:00Z", 366 * 24);
        // Clocks in Beirut skipped midnight.
        let beirut = zone("Asia/Beirut").unwrap();
        assert_eq!(hours(&Period::Day { year: 2022, month: 3, day: 27 }.range(&beirut).unwrap()), 23);
    }

    #[test]
    fn a_month_that_is_not_over_is_compared_with_as_much_of_last_year() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        let month = Period::Month { year: 2026, month: 4 };
        let (this, before) = same_period_last_year(month, &warsaw, at("2026-04-11T10:00:00Z")).unwrap();
        assert_eq!((this.end, before.end), (at("2026-04-11T10:00:00Z"), at("2025-04-11T10:00:00Z")));
        assert_eq!(before.start, at("2025-03-31T22:00:00Z"));
        // The change to summer time lies on another day, the clock shows the same.
        let march = Period::Month { year: 2026, month: 3 };
        let (_, before) = same_period_last_year(march, &warsaw, at("2026-03-29T12:00:00Z")).unwrap();
        assert_eq!(before.end, at("2025-03-29T13:00:00Z"));
        // Over, or not begun: both whole.
        let (this, before) = same_period_last_year(month, &warsaw, at("2027-01-01T00:00:00Z")).unwrap();
        assert_eq!((hours(&this), hours(&before)), (720, 720));
        // The last day of a leap February ends with the February before.
        let leap = Period::Month { year: 2024, month: 2 };
        let (_, before) = same_period_last_year(leap, &warsaw, at("2024-02-29T12:00:00Z")).unwrap();
        assert_eq!(before.end, at("2023-02-28T23:00:00Z"));
        assert_eq!(
            Period::Day { year: 2024, month: 2, day: 29 }.last_year(),
            Period::Day { year: 2023, month: 2, day: 28 }
        );
    }

    #[test]
    fn totals_are_compared_and_missing_ones_are_not() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        let year = Period::Year { year: 2024 };
        let ranges = same_period_last_year(year, &warsaw, Timestamp(0)).unwrap();
        let found = compare(Some(3660.0), Some(-3650.0), &ranges).unwrap();
        assert_eq!((found.change, found.share), (7310.0, Some(7310.0 / 3650.0)));
        assert_eq!((found.this_per_hour * 24.0, found.before_per_hour * 24.0), (10.0, -10.0));
        assert_eq!(compare(Some(1.0), Some(0.0), &ranges).unwrap().share, None);
        assert_eq!(compare(None, Some(0.0), &ranges), None);
        assert_eq!(compare(Some(f64::NAN), Some(0.0), &ranges), None);
        let empty = (Timestamp(0)..Timestamp(0), ranges.1);
        assert_eq!(compare(Some(1.0), Some(1.0), &empty), None);
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        let warsaw = zone("Europe/Warsaw").unwrap();
        for period in [
            Period::Day { year: 2025, month: 2, day: 29 },
            Period::Month { year: 2025, month: 13 },
            Period::Month { year: 2025, month: 0 },
            Period::Month { year: 2025, month: i8::MAX },
            Period::Year { year: 1500 },
            Period::Year { year: i16::MAX },
        ] {
            assert_eq!(period.range(&warsaw), Err(TrendError::Period), "{period:?}");
        }
        assert!(Period::Year { year: 2261 }.range(&warsaw).is_ok());
        assert!(Period::Year { year: 1678 }.last_year().range(&warsaw).is_err());
    }
}
