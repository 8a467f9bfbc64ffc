//! One instant: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch, UTC. The two extremes of `i64` are reserved as "before all" and "after all".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A number that cannot be an instant of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time outside range")]
pub struct TimestampOutOfRange;

impl Timestamp {
    /// First instant a point may have.
    pub const MIN: Self = Self(i64::MIN + 1);
    /// Last instant a point may have.
    pub const MAX: Self = Self(i64::MAX - 1);
    /// Length of a UTC day in nanoseconds.
    pub const DAY_NS: i64 = 86_400_000_000_000;

    /// Takes a count of `unit_ns` nanoseconds (1 for ns, 1_000_000 for ms ...) since the epoch.
    ///
    /// # Errors
    /// [`TimestampOutOfRange`] if the product leaves [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub fn from_units(count: i64, unit_ns: i64) -> Result<Self, TimestampOutOfRange> {
        let ns = count.checked_mul(unit_ns).ok_or(TimestampOutOfRange)?;
        if (Self::MIN.0..=Self::MAX.0).contains(&ns) { Ok(Self(ns)) } else { Err(TimestampOutOfRange) }
    }

    /// Days since the epoch of the UTC day that holds this instant (negative before 1970).
    pub fn utc_day(self) -> i32 {
        // 2^63 ns are 106 751 days: the quotient always fits.
        self.0.div_euclid(Self::DAY_NS) as i32
    }

    /// The instants of whole UTC days, as nanoseconds, cut where they leave the range of a timestamp.
    pub fn of_utc_days(days: std::ops::Range<i32>) -> std::ops::Range<i64> {
        let edge = |day: i32| i64::from(day).saturating_mul(Self::DAY_NS);
        edge(days.start)..edge(days.end)
    }

    /// The same instant cut down to whole milliseconds (towards the past).
    #[must_use]
    pub fn truncated_to_millis(self) -> Self {
        Self(self.0.div_euclid(1_000_000).saturating_mul(1_000_000).max(Self::MIN.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_overflow_are_refused_and_the_extremes_are_reserved() {
        assert_eq!(
            Timestamp::from_units(1_780_272_000, 1_000_000_000),
            Ok(Timestamp(1_780_272_000_000_000_000))
        );
        assert_eq!(Timestamp::from_units(i64::MAX / 1_000_000 + 1, 1_000_000), Err(TimestampOutOfRange));
        assert_eq!(Timestamp::from_units(i64::MAX, 1), Err(TimestampOutOfRange));
        assert_eq!(Timestamp::from_units(i64::MIN, 1), Err(TimestampOutOfRange));
        assert_eq!(Timestamp::from_units(i64::MIN + 1, 1), Ok(Timestamp::MIN));
    }

    #[test]
    fn days_and_milliseconds_round_towards_the_past() {
        assert_eq!(Timestamp(-1).utc_day(), -1);
        let first = Timestamp::MIN.utc_day();
        assert_eq!(Timestamp::of_utc_days(first..first + 1), i64::MIN..-106_751 * Timestamp::DAY_NS);
        assert_eq!(Timestamp(Timestamp::DAY_NS).utc_day(), 1);
        assert_eq!(Timestamp(-1).truncated_to_millis(), Timestamp(-1_000_000));
        assert_eq!(Timestamp(1_999_999).truncated_to_millis(), Timestamp(1_000_000));
    }
}
