//! The clock on the wall of a home: local hours of instants, on days of 23 and 25 hours as well.
//!
//! Promise: only the tz database that is built in is asked, so no answer depends on the files of the machine.
//! Invariant: the hours of a range follow each other without a hole and without overlap; none is empty.

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Length of an hour in nanoseconds.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// A name that the tz database does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no time zone is called {name:?}: give an IANA name such as Europe/Warsaw")]
pub struct UnknownZone {
    /// The name that was asked for.
    pub name: String,
}

/// The IANA time zone of that name, whatever the case of its letters.
///
/// # Errors
/// [`UnknownZone`] if there is none.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| UnknownZone { name: name.to_owned() })
}

/// The instant as jiff writes it.
pub(crate) fn instant(time: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(time.0))
        .expect("the years 1677 to 2262 are within -9999 to 9999")
}

/// The part of one hour of the local clock that lies in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalHour {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) date: Date,
    /// Hour on the clock, 0..=23.
    pub(crate) hour: u8,
}

/// Hours of the local clock in a range, in order of time. A repeated hour comes twice, a skipped one not at all.
#[derive(Debug)]
pub(crate) struct LocalHours<'z> {
    zone: &'z TimeZone,
    at: i64,
    end: i64,
    offset_ns: i64,
    /// Until when the offset is known to hold.
    offset_until: i64,
}

impl<'z> LocalHours<'z> {
    /// The hours of `range`; the first and the last may be cut.
    pub(crate) fn new(zone: &'z TimeZone, range: Range<Timestamp>) -> Self {
        Self { zone, at: range.start.0, end: range.end.0, offset_ns: 0, offset_until: i64::MIN }
    }
}

impl Iterator for LocalHours<'_> {
    type Item = LocalHour;

    fn next(&mut self) -> Option<LocalHour> {
        if self.at >= self.end {
            return None;
        }
        let start = Timestamp(self.at);
        if self.at >= self.offset_until {
            self.offset_ns = i64::from(self.zone.to_offset(instant(start)).seconds()) * 1_000_000_000;
            let change = self.zone.following(instant(start)).next();
            self.offset_until = change
                .and_then(|change| i64::try_from(change.timestamp().as_nanosecond()).ok())
                .unwrap_or(i64::MAX);
        }
        let into_hour =
            (i128::from(self.at) + i128::from(self.offset_ns)).rem_euclid(i128::from(HOUR_NS)) as i64;
        let end = self.at.saturating_add(HOUR_NS - into_hour).min(self.offset_until).min(self.end);
        self.at = end;
        let local = self.zone.to_datetime(instant(start));
        // The clock of civil time shows 0 to 23.
        let hour = local.hour().unsigned_abs();
        Some(LocalHour { start, end: Timestamp(end), date: local.date(), hour })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(zone_name: &str, from: &str, to: &str) -> Vec<(i64, u8)> {
        let zone = zone(zone_name).unwrap();
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64);
        let range = at(from)..at(to);
        let hours: Vec<LocalHour> = LocalHours::new(&zone, range.clone()).collect();
        assert_eq!(hours.first().unwrap().start, range.start);
        assert_eq!(hours.last().unwrap().end, range.end);
        assert!(hours.windows(2).all(|pair| pair[0].end == pair[1].start));
        hours.iter().map(|hour| ((hour.end.0 - hour.start.0) / 60_000_000_000, hour.hour)).collect()
    }

    #[test]
    fn a_repeated_hour_comes_twice_and_a_skipped_one_never() {
        let back = hours("Europe/Warsaw", "2025-10-25T23:30:00Z", "2025-10-26T02:00:00Z");
        assert_eq!(back, [(30, 1), (60, 2), (60, 2)]);
        let forward = hours("Europe/Warsaw", "2025-03-30T00:00:00Z", "2025-03-30T02:00:00Z");
        assert_eq!(forward, [(60, 1), (60, 3)]);
    }

    #[test]
    fn hours_of_a_clock_between_the_hours() {
        let kolkata = hours("Asia/Kolkata", "2025-01-01T00:00:00Z", "2025-01-01T02:00:00Z");
        assert_eq!(kolkata, [(30, 5), (60, 6), (30, 7)]);
        // Half an hour back: the clock shows 1:30 to 2:00 twice.
        let lord_howe = hours("Australia/Lord_Howe", "2025-04-05T14:00:00Z", "2025-04-05T16:00:00Z");
        assert_eq!(lord_howe, [(60, 1), (30, 1), (30, 2)]);
    }

    #[test]
    fn a_clock_that_is_set_within_an_hour_cuts_it() {
        // Newfoundland, 2010: at one minute past midnight back to one minute past eleven.
        let st_johns = hours("America/St_Johns", "2010-11-07T02:00:00Z", "2010-11-07T04:30:00Z");
        assert_eq!(st_johns, [(30, 23), (1, 0), (59, 23), (60, 0)]);
    }

    #[test]
    fn the_ends_of_time_are_hours_too() {
        let warsaw = zone("europe/warsaw").unwrap();
        let first = Timestamp::MIN..Timestamp(Timestamp::MIN.0 + 10);
        assert_eq!(LocalHours::new(&warsaw, first).count(), 1);
        let last = Timestamp(Timestamp::MAX.0 - 10)..Timestamp::MAX;
        assert_eq!(LocalHours::new(&warsaw, last).count(), 1);
        assert!(zone("Mars/Olympus").unwrap_err().to_string().contains("IANA"));
    }
}
