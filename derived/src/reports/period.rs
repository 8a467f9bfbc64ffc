//! Which periods there are, and which of them are due.

use crate::energy::QUARTER_NS;
use crate::pending::Pending;
use std::ops::Range;
use wattlog_engine::query::{Aggregate, Buckets, Every, Zone};

/// Length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Day,
    Month,
    Year,
}

/// Periods that are looked at for one that can be made, before the rest waits for the next look.
const MOST_LOOKED_AT: usize = 4096;

impl Length {
    pub(crate) const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Year];

    /// `report_type` of its reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    pub(crate) fn every(self) -> Every {
        match self {
            Self::Day => Every::Days(1),
            Self::Month => Every::Months(1),
            Self::Year => Every::Months(12),
        }
    }
}

/// The oldest period that is over for a quarter of an hour, of which something is pending and nothing is in `waiting`.
pub(crate) fn due(
    pending: &Pending,
    length: Length,
    zone: &Zone,
    now: i64,
    waiting: &[Range<i64>],
) -> Option<Range<i64>> {
    let shape = Aggregate { every: Some(length.every()), zone: zone.clone(), ..Aggregate::default() };
    let mut looked_at = 0;
    for held in pending.ranges() {
        let buckets = Buckets::new(&shape, held.clone())?;
        let mut period = buckets.of(held.start);
        while period.start < held.end && looked_at < MOST_LOOKED_AT {
            looked_at += 1;
            if period.end.saturating_add(QUARTER_NS) > now {
                break;
            }
            if !waiting.iter().any(|busy| busy.start < period.end && period.start < busy.end) {
                return Some(period);
            }
            period = buckets.of(period.end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 4 * QUARTER_NS;

    #[test]
    fn the_oldest_day_that_is_over_and_does_not_wait_is_due() {
        // 2026-10-24T22:00:00Z, midnight in Warsaw: this day has 25 hours.
        let start = 1_792_879_200_000_000_000_i64;
        let zone = Zone::named("Europe/Warsaw").unwrap();
        let pending = Pending::new(std::iter::once(start + HOUR..start + 60 * HOUR));
        let ask = |now: i64, waiting: &[Range<i64>]| {
            let found = due(&pending, Length::Day, &zone, now, waiting);
            found.map(|day| ((day.start - start) / HOUR, (day.end - start) / HOUR))
        };
        assert_eq!(ask(start + 25 * HOUR, &[]), None, "it has just ended");
        assert_eq!(ask(start + 25 * HOUR + QUARTER_NS, &[]), Some((0, 25)));
        let second = start + 24 * HOUR..start + 25 * HOUR;
        assert_eq!(ask(start + 50 * HOUR, std::slice::from_ref(&second)), Some((25, 49)));
        assert_eq!(ask(start + 49 * HOUR, &[second]), None);
        let month = due(&pending, Length::Month, &zone, start + 800 * HOUR, &[]).unwrap();
        assert_eq!((month.end - month.start) / HOUR, 31 * 24 + 1);
    }
}
