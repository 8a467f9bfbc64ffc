//! What is asked for to be drawn: pictures (`pixels`) and grids (`shape=grid`).
//!
//! A grid has round borders by the clock and calendar of its zone, so that neighbouring ranges, and the same range asked
//! again later, fall into the same buckets: a client may keep them as tiles.

use std::ops::{Range, RangeInclusive};
use wattlog_engine::query::{Aggregate, Buckets, Every, Fill, Function, Shape, Zone};
use wattlog_model::Timestamp;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// Lengths of buckets of a grid, rising; each divides the next one of a clock, or adds up to it.
const LADDER: [Every; 32] = [
    Every::Nanos(MS),
    Every::Nanos(2 * MS),
    Every::Nanos(5 * MS),
    Every::Nanos(10 * MS),
    Every::Nanos(20 * MS),
    Every::Nanos(50 * MS),
    Every::Nanos(100 * MS),
    Every::Nanos(200 * MS),
    Every::Nanos(500 * MS),
    Every::Nanos(S),
    Every::Nanos(2 * S),
    Every::Nanos(5 * S),
    Every::Nanos(10 * S),
    Every::Nanos(15 * S),
    Every::Nanos(30 * S),
    Every::Nanos(60 * S),
    Every::Nanos(120 * S),
    Every::Nanos(300 * S),
    Every::Nanos(600 * S),
    Every::Nanos(900 * S),
    Every::Nanos(1800 * S),
    Every::Nanos(3600 * S),
    Every::Nanos(2 * 3600 * S),
    Every::Nanos(3 * 3600 * S),
    Every::Nanos(6 * 3600 * S),
    Every::Nanos(12 * 3600 * S),
    Every::Days(1),
    Every::Weeks(1),
    Every::Months(1),
    Every::Months(12),
    Every::Months(120),
    Every::Months(1200),
];

/// How many buckets may be asked for.
pub const GRID_BUCKETS: RangeInclusive<u32> = 4..=10_000;

/// The shape and the range of a grid over `start..end` in at most `most` buckets; none if no length would do.
pub fn grid(
    start: Timestamp,
    end: Timestamp,
    most: u32,
    zone: &Zone,
) -> Option<(Shape, Timestamp, Timestamp)> {
    let span = end.0.checked_sub(start.0).filter(|span| *span > 0)?.unsigned_abs();
    // One more for the border within.
    let may_fit = |every: &Every| span / shortest_ns(*every) < u64::from(most);
    LADDER.into_iter().filter(may_fit).find_map(|every| {
        let aggregate = Aggregate {
            functions: vec![Function::Min, Function::Max, Function::First, Function::Last],
            every: Some(every),
            zone: zone.clone(),
            fill: Fill::Null,
            ..Aggregate::default()
        };
        let buckets = Buckets::new(&aggregate, start.0..end.0)?;
        let (start, end) = (buckets.of(start.0).start, buckets.of(end.0 - 1).end);
        let fits = count(&buckets, start..end, most) <= most;
        fits.then(|| (Shape::Aggregate(aggregate), Timestamp(start), Timestamp(end)))
    })
}

/// Buckets of a range, counted until there are more than `most`: clocks that are set make more of some lengths.
fn count(buckets: &Buckets, range: Range<i64>, most: u32) -> u32 {
    let (mut at, mut count) = (range.start, 0);
    while at < range.end && count <= most {
        at = buckets.of(at).end;
        count += 1;
    }
    count
}

/// Nanoseconds that a bucket has at least, save where a clock is set forward.
fn shortest_ns(every: Every) -> u64 {
    const DAY: u64 = 24 * 3600 * S;
    match every {
        Every::Nanos(ns) => ns,
        Every::Days(days) => u64::from(days) * DAY,
        Every::Weeks(weeks) => u64::from(weeks) * 7 * DAY,
        Every::Months(months) => u64::from(months) * 28 * DAY,
        // No step of the ladder.
        Every::Parts(_) => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(zone: &Zone, start: i64, end: i64, most: u32) -> (Every, i64, i64, usize) {
        let (shape, from, to) = grid(Timestamp(start), Timestamp(end), most, zone).unwrap();
        let Shape::Aggregate(aggregate) = shape else { panic!("a grid has buckets") };
        let buckets = Buckets::new(&aggregate, from.0..to.0).unwrap();
        let (mut at, mut count) = (from.0, 0);
        while at < to.0 {
            at = buckets.of(at).end;
            count += 1;
        }
        assert_eq!(at, to.0);
        (aggregate.every.unwrap(), from.0, to.0, count)
    }

    #[test]
    fn a_day_a_month_and_thirty_years_have_round_steps() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let start = 1_780_272_000_000_000_000 + 123;
        let day = Timestamp::DAY_NS;
        assert_eq!(of(&warsaw, start, start + day, 500).0, Every::Nanos(300 * S));
        assert_eq!(of(&warsaw, start, start + 30 * day, 500).0, Every::Nanos(2 * 3600 * S));
        assert_eq!(of(&warsaw, start - 30 * 365 * day, start, 500).0, Every::Months(1));
        assert_eq!(of(&warsaw, start, start + 1_000_000, 4).0, Every::Nanos(MS));
    }

    #[test]
    fn all_of_time_fits_no_grid_of_four() {
        assert!(grid(Timestamp::MIN, Timestamp::MAX, 4, &Zone::UTC).is_none());
        assert!(grid(Timestamp(5), Timestamp(5), 100, &Zone::UTC).is_none());
    }

    #[test]
    fn clocks_that_are_set_make_no_row_too_many() {
        // Two hours: a day of 23 h has twelve, one of 25 h thirteen.
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let [start, end] = [1_704_069_000, 1_776_054_599].map(|s| s * 1_000_000_000);
        assert!(of(&warsaw, start, end, 10_000).3 <= 10_000);
        let [start, end] = [1_707_525_000, 1_743_510_599].map(|s| s * 1_000_000_000);
        assert!(of(&warsaw, start, end, 5_000).3 <= 5_000);
    }

    proptest! {
        #[test]
        fn a_grid_covers_its_range_within_the_number_asked_for(
            start in 0..4_000_000_000_i64, span in 1..40_000_000_000_i64, most in GRID_BUCKETS, zone in 0..3_usize,
        ) {
            let zone = Zone::named(["Europe/Warsaw", "Australia/Lord_Howe", "Asia/Kolkata"][zone]).unwrap();
            let start = start * 1_000_000_000;
            let end = start + span * 30_000_000;
            let (_, from, to, count) = of(&zone, start, end, most);
            prop_assert!(from <= start && to >= end && count <= most as usize, "{} buckets", count);
            // A range within the grid has the same borders if its steps are the same.
            let (every, again, _, _) = of(&zone, from, to, most);
            prop_assert!(again == from || every != of(&zone, start, end, most).0);
        }
    }
}
