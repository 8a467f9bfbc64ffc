//! How long a price of the market holds.

/// No price holds for longer: prices come by the hour at most.
pub const LONGEST_PRICE_NS: i64 = 3_600_000_000_000;
/// Prices nearer than this are no measure of a period: one of them was written astray.
const SHORTEST_PRICE_NS: i64 = 60_000_000_000;
/// By one such part of its period a price may be late.
const LATE_PART: i64 = 4;

/// The end of a price that begins at `time`, with others of its series `before` and `after` it; `longest_ns` after it at the latest.
///
/// It holds until the next, but no longer than its own period: the smaller of its distances to the two. So a price is not carried over
/// a hole, the newest one ends as those before it did, and where hours become quarters each holds for what it is. Quarters that
/// become hours cannot be told from a hole: of the first hour only a quarter has its price. One alone, also between two holes, holds
/// for `longest_ns`. A neighbour that is nearer than a minute ends a price, but is no measure of its period.
///
/// A next one that comes late by no more than a quarter of the period is still the next: holes of hours by quarters are longer.
pub fn price_ends(before: Option<i64>, time: i64, after: Option<i64>, longest_ns: i64) -> i64 {
    let since = before.map_or(i64::MAX, |before| time.saturating_sub(before));
    let until = after.map_or(i64::MAX, |after| after.saturating_sub(time));
    let distances = [since, until].into_iter().filter(|ns| *ns >= SHORTEST_PRICE_NS);
    let period = distances.fold(longest_ns, i64::min);
    if until < SHORTEST_PRICE_NS || until <= period.saturating_add(period / LATE_PART).min(longest_ns) {
        time.saturating_add(until.min(longest_ns))
    } else {
        time.saturating_add(period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    /// Ends, in minutes, of prices at `times`.
    fn ends(times: &[i64]) -> Vec<i64> {
        let at = |place: usize| times.get(place).map(|time| time * MINUTE);
        let end = |(place, time): (usize, &i64)| {
            let before = place.checked_sub(1).and_then(at);
            price_ends(before, time * MINUTE, at(place + 1), LONGEST_PRICE_NS) / MINUTE
        };
        times.iter().enumerate().map(end).collect()
    }

    #[test]
    fn a_price_holds_until_the_next_and_not_over_a_hole() {
        assert_eq!(ends(&[0, 15, 30, 45]), [15, 30, 45, 60], "the newest one as those before it");
        assert_eq!(ends(&[0, 15, 90, 105]), [15, 30, 105, 120], "a hole of an hour");
        assert_eq!(ends(&[0, 15, 45, 60]), [15, 30, 60, 75], "a hole of a quarter");
        assert_eq!(ends(&[0, 60, 120]), [60, 120, 180]);
        assert_eq!(ends(&[0, 60, 180, 240]), [60, 120, 240, 300], "an hour that is missing");
    }

    #[test]
    fn a_change_of_the_period_does_not_stretch_a_price() {
        assert_eq!(ends(&[0, 60, 120, 135, 150]), [60, 120, 135, 150, 165]);
        assert_eq!(ends(&[0, 15, 30, 90, 150]), [15, 30, 45, 150, 210], "the same as a hole");
    }

    /// Nearly a quarter of an hour was without a price after a row that came a second after another.
    #[test]
    fn a_stray_neighbour_is_no_measure_of_a_period() {
        let at = |second: i64| second * 1_000_000_000;
        let end = |before, second, after: Option<i64>| {
            price_ends(Some(at(before)), at(second), after.map(at), LONGEST_PRICE_NS) / at(1)
        };
        assert_eq!(end(-900, 0, Some(1)), 1, "the next one ends it");
        assert_eq!(end(0, 1, Some(900)), 900);
        assert_eq!(end(1, 900, Some(1800)), 1800);
        assert_eq!(end(0, 1, Some(3 * 3600)), 3601, "nothing else says how long");
        assert_eq!(end(-60, 0, Some(900)), 60, "a minute is one");
    }

    #[test]
    fn one_alone_holds_for_the_longest_time() {
        assert_eq!(ends(&[7]), [67]);
        assert_eq!(ends(&[0, 500, 1000]), [60, 560, 1060]);
        assert_eq!(price_ends(None, 5, None, 10), 15);
        assert_eq!(price_ends(None, i64::MAX - 1, None, 10), i64::MAX);
        assert_eq!(price_ends(Some(i64::MIN), 0, Some(i64::MAX), 10), 10);
    }

    #[test]
    fn a_next_one_that_is_a_little_late_is_the_next() {
        assert_eq!(ends(&[0, 15, 33, 48]), [15, 33, 48, 63]);
        assert_eq!(ends(&[0, 15, 37, 38, 53]), [15, 30, 38, 39, 68]);
        assert_eq!(ends(&[0, 30, 75]), [30, 60, 120], "two holes");
        assert_eq!(ends(&[0, 45, 105]), [45, 90, 165], "two longer ones");
        assert_eq!(ends(&[0, 60, 121, 181]), [60, 120, 181, 241], "never beyond an hour");
    }
}
