//! A long range by months, so that what is over can be remembered.

use std::ops::Range;
use wattlog_engine::query::{Aggregate, Buckets, Every, QueryError, Zone};

/// Parts of `range` of at most a month each, cut where months begin by the clock of `zone`.
pub(crate) fn months(range: &Range<i64>, zone: &Zone) -> Result<Vec<Range<i64>>, QueryError> {
    let mut parts = Vec::new();
    if range.start < range.end {
        let rule = Aggregate { every: Some(Every::Months(1)), zone: zone.clone(), ..Aggregate::default() };
        let buckets = Buckets::new(&rule, range.clone()).ok_or(QueryError::BadBucket)?;
        let mut start = range.start;
        while start < range.end {
            let end = buckets.of(start).end.min(range.end);
            parts.push(start..end);
            start = end;
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_touch_and_are_cut_at_local_midnights() {
        let zone = Zone::named("Europe/Warsaw").unwrap();
        let hour = 3_600_000_000_000;
        // 2025-10-15T10:00Z to 2025-12-01T00:00Z; Warsaw leaves summer time on the 26th.
        let start = 1_760_522_400_000_000_000;
        let end = 1_764_547_200_000_000_000;
        let november = 1_761_951_600_000_000_000;
        let december = november + 30 * 24 * hour;
        let parts = months(&(start..end), &zone).unwrap();
        assert_eq!(parts, [start..november, november..december, december..end]);
        assert_eq!(months(&(5..5), &zone).unwrap(), []);
    }
}
