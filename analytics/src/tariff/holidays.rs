//! Days on which a tariff counts a Saturday or Sunday price all day: weekends and public holidays.
//!
//! Polish holidays by law ("ustawa o dniach wolnych od pracy"), each with the first year in which it was one: 6 January
//! came with 2011, 24 December with 2025. Easter by the computus of Meeus, Jones and Butcher.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use serde::{Deserialize, Serialize};

/// Which public holidays count as free days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holidays {
    /// Those of Poland.
    #[default]
    Poland,
    /// None: Saturdays and Sundays alone are free.
    None,
}

impl Holidays {
    /// True if `date` is a public holiday; Sundays that are none by themselves are not.
    pub fn contains(self, date: Date) -> bool {
        match self {
            Self::None => false,
            Self::Poland => polish_holiday(date),
        }
    }

    /// True if `date` is a Saturday, a Sunday or a holiday.
    pub fn is_free_day(self, date: Date) -> bool {
        matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) || self.contains(date)
    }
}

fn polish_holiday(date: Date) -> bool {
    let fixed = FIXED
        .iter()
        .any(|&(month, day, since)| (date.month(), date.day()) == (month, day) && date.year() >= since);
    fixed || {
        let easter = easter_sunday(date.year());
        AFTER_EASTER.iter().any(|days| easter.saturating_add(i64::from(*days).days()) == date)
    }
}

/// Month, day, first year in which the law makes it a day off.
const FIXED: [(i8, i8, i16); 10] = [
    (1, 1, i16::MIN),
    (1, 6, 2011),
    (5, 1, i16::MIN),
    (5, 3, i16::MIN),
    (8, 15, i16::MIN),
    (11, 1, i16::MIN),
    (11, 11, i16::MIN),
    (12, 24, 2025),
    (12, 25, i16::MIN),
    (12, 26, i16::MIN),
];

/// Easter Sunday and Monday, Pentecost, Corpus Christi.
const AFTER_EASTER: [i32; 4] = [0, 1, 49, 60];

/// Easter Sunday of the Gregorian calendar in `year`, for any year (before 1583 by reckoning back).
///
/// # Source
/// J. Meeus, Astronomical Algorithms, chapter 8 (anonymous algorithm of 1876).
pub fn easter_sunday(year: i16) -> Date {
    let y = i32::from(year);
    let a = y.rem_euclid(19);
    let (b, c) = (y.div_euclid(100), y.rem_euclid(100));
    let (d, e) = (b.div_euclid(4), b.rem_euclid(4));
    let g = (8 * b + 13).div_euclid(25);
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k).rem_euclid(7);
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    // n / 31 is 3 or 4 and n % 31 + 1 a day of that month: both fit, and no year is outside the calendar of a timestamp.
    Date::new(year, (n / 31) as i8, (n % 31 + 1) as i8).unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn easter_of_known_years() {
        for (year, month, day) in [
            (1818, 3, 22),
            (1943, 4, 25),
            (1961, 4, 2),
            (2000, 4, 23),
            (2008, 3, 23),
            (2019, 4, 21),
            (2024, 3, 31),
            (2025, 4, 20),
            (2026, 4, 5),
            (2027, 3, 28),
            (2038, 4, 25),
            (2076, 4, 19),
            (2285, 3, 22),
        ] {
            assert_eq!(easter_sunday(year), date(year, month, day));
        }
    }

    #[test]
    fn easter_is_a_sunday_between_its_bounds_in_every_year_of_a_timestamp() {
        for year in 1677..=2262 {
            let easter = easter_sunday(year);
            assert_eq!(easter.weekday(), Weekday::Sunday, "{year}");
            assert!(easter >= date(year, 3, 22) && easter <= date(year, 4, 25), "{easter}");
        }
        for year in [i16::MIN, -9999, -1, 0, 9999, i16::MAX] {
            easter_sunday(year);
        }
    }

    #[test]
    fn christmas_eve_and_epiphany_have_a_first_year() {
        let free = |y, m, d| Holidays::Poland.contains(date(y, m, d));
        assert!(!free(2024, 12, 24) && free(2025, 12, 24) && free(2030, 12, 24));
        assert!(!free(2010, 1, 6) && free(2011, 1, 6) && free(2026, 1, 6));
    }

    #[test]
    fn holidays_of_2025_and_no_other_day() {
        let expected = [
            "2025-01-01",
            "2025-01-06",
            "2025-04-20",
            "2025-04-21",
            "2025-05-01",
            "2025-05-03",
            "2025-06-08",
            "2025-06-19",
            "2025-08-15",
            "2025-11-01",
            "2025-11-11",
            "2025-12-24",
            "2025-12-25",
            "2025-12-26",
        ];
        let found: Vec<String> = date(2025, 1, 1)
            .series(1.day())
            .take_while(|day| day.year() == 2025)
            .filter(|day| Holidays::Poland.contains(*day))
            .map(|day| day.to_string())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn free_days_are_weekends_too() {
        assert!(Holidays::None.is_free_day(date(2025, 6, 7)));
        assert!(!Holidays::None.is_free_day(date(2025, 6, 19)));
        assert!(Holidays::Poland.is_free_day(date(2025, 6, 19)));
        assert!(!Holidays::Poland.is_free_day(date(2025, 6, 20)));
    }
}
