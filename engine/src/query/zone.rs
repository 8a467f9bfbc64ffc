//! Time zones of the tz database that is built in.
//!
//! Promise: no answer depends on the zone files or the environment of the machine; two machines with one version of
//! wattlog agree on every local midnight.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::fmt;

/// An IANA time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone of that name (`Europe/Warsaw`), whatever the case of its letters; none if there is no such zone.
    pub fn named(name: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }

    /// Names of all zones, links among them.
    pub fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
    }

    /// Its name; `UTC` for that one.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The same for who reckons with calendars.
    pub fn time_zone(&self) -> &TimeZone {
        &self.0
    }

    /// Seconds by which its clocks are ahead of UTC at `time` (nanoseconds since the epoch).
    pub fn offset_seconds(&self, time: i64) -> i32 {
        self.0.to_offset(instant(time)).seconds()
    }

    /// Changes of the offset after `from`, up to `to`: (first instant of the new offset, its seconds), rising.
    pub(super) fn changes(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, i32)> {
        let known = |ns: i128| i64::try_from(ns).unwrap_or(i64::MAX);
        self.0
            .following(instant(from))
            .map(move |change| (known(change.timestamp().as_nanosecond()), change.offset().seconds()))
            .take_while(move |(time, _)| *time <= to && *time < i64::MAX)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

fn instant(time: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time)).expect("the years 1677 to 2262 are within -9999 to 9999")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_names_and_offsets() {
        let warsaw = Zone::named("europe/warsaw").unwrap();
        assert_eq!(warsaw.name(), "Europe/Warsaw");
        let summer = 1_780_272_000_000_000_000;
        assert_eq!((warsaw.offset_seconds(summer), Zone::UTC.offset_seconds(summer)), (7200, 0));
        assert_eq!(warsaw.changes(summer, summer + 365 * 86_400_000_000_000).count(), 2);
        assert_eq!(Zone::named("Mars/Olympus"), None);
        assert_eq!(Zone::named("UTC"), Some(Zone::UTC));
        assert!(Zone::names().len() > 400);
        for end in [i64::MIN, i64::MAX] {
            warsaw.offset_seconds(end);
        }
    }
}
