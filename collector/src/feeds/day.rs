//! Local days of the market and their periods: 92, 96 or 100 quarters, 23, 24 or 25 hours.

use super::rows::{HOUR_NS, QUARTER_NS, timestamp};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use std::ops::Range;
use wattlog_model::Timestamp;

/// From one local midnight to the next; none for dates that no point can have.
pub(crate) fn bounds(day: Date, zone: &TimeZone) -> Option<Range<Timestamp>> {
    let midnight = |day: Date| timestamp(zone.to_timestamp(day.to_datetime(Time::midnight())).ok()?);
    Some(midnight(day)?..midnight(day.tomorrow().ok()?)?)
}

/// The local date and clock time of an instant.
pub(crate) fn local(time: Timestamp, zone: &TimeZone) -> jiff::civil::DateTime {
    let clamped = time.0.clamp(Timestamp::MIN.0, Timestamp::MAX.0);
    jiff::Timestamp::from_nanosecond(clamped.into())
        .map_or(jiff::civil::DateTime::MIN, |at| zone.to_datetime(at))
}

/// True if periods that begin at `starts` (ascending) and are `length_ns` long fill the day: no gap, none beside it.
///
/// Without a length a day may be filled by quarters or by hours.
pub(crate) fn is_filled(day: Date, zone: &TimeZone, starts: &[i64], length_ns: Option<i64>) -> bool {
    let Some(bounds) = bounds(day, zone) else { return false };
    let inside: Vec<i64> =
        starts.iter().copied().filter(|at| (bounds.start.0..bounds.end.0).contains(at)).collect();
    let filled_by = |length_ns: i64| {
        let count = (bounds.end.0 - bounds.start.0) / length_ns;
        let wanted = (0..count).map(|i| bounds.start.0 + i * length_ns);
        inside.len() as i64 == count && inside.iter().copied().eq(wanted)
    };
    match length_ns {
        Some(length_ns) => filled_by(length_ns),
        None => filled_by(QUARTER_NS) || filled_by(HOUR_NS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn days_of_a_clock_change_have_their_own_number_of_periods() {
        let zone = TimeZone::get("Europe/Warsaw").unwrap();
        for (day, quarters) in [
            (date(2026, 3, 29), 92),
            (date(2026, 3, 28), 96),
            (date(2026, 10, 25), 100),
            (date(2025, 10, 26), 100),
        ] {
            let bounds = bounds(day, &zone).unwrap();
            let mut starts: Vec<i64> = (0..quarters).map(|i| bounds.start.0 + i * QUARTER_NS).collect();
            assert!(is_filled(day, &zone, &starts, Some(QUARTER_NS)), "{day}");
            assert!(!is_filled(day, &zone, &starts, Some(HOUR_NS)));
            starts.remove(40);
            assert!(!is_filled(day, &zone, &starts, None));
            let hours: Vec<i64> = (0..quarters / 4).map(|i| bounds.start.0 + i * HOUR_NS).collect();
            assert!(is_filled(day, &zone, &hours, None) && !is_filled(day, &zone, &hours, Some(QUARTER_NS)));
        }
    }
}
