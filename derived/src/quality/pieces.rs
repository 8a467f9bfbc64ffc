//! Days that are judged together, and how often points usually come.

use super::MOST_POINTS;
use std::ops::Range;
use wattlog_model::Timestamp;

/// Neighbouring days that belong together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) places: Range<usize>,
    points: u64,
    /// Why they are not judged.
    pub(super) unread: Option<&'static str>,
}

const LOST: &str = "points cannot be read: wattlog check";
const TOO_MANY: &str =
    "more points in a day than are judged together (200000 of a field): ask for a shorter range";

/// Days in pieces of at most [`MOST_POINTS`].
pub(super) fn pieces(days: &[Range<i64>], counts: &[u64], lost: &[Range<i64>]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (place, (day, points)) in days.iter().zip(counts).enumerate() {
        let is_lost = lost.iter().any(|lost| lost.start < day.end && day.start < lost.end);
        let unread = match (is_lost, *points > MOST_POINTS) {
            (true, _) => Some(LOST),
            (false, true) => Some(TOO_MANY),
            (false, false) => None,
        };
        match pieces.last_mut() {
            Some(last)
                if last.unread == unread
                    && (unread.is_some() || last.points.saturating_add(*points) <= MOST_POINTS) =>
            {
                last.places.end = place + 1;
                last.points = last.points.saturating_add(*points);
            }
            _ => pieces.push(Piece { places: place..place + 1, points: *points, unread }),
        }
    }
    pieces
}

/// The middle of the times between points; none with fewer than three.
pub(super) fn median_step(points: &[(Timestamp, f64)]) -> Option<i64> {
    let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].0.0.saturating_sub(pair[0].0.0)).collect();
    if steps.len() < 2 {
        return None;
    }
    let middle = steps.len() / 2;
    Some((*steps.select_nth_unstable(middle).1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_judged_together_as_long_as_their_points_are_few_enough() {
        let days: Vec<Range<i64>> = (0..7).map(|day| day * 10..day * 10 + 10).collect();
        let counts = [100_000, 100_000, 1, 0, 300_000, 5, 5];
        let found: Vec<(Range<usize>, bool)> = pieces(&days, &counts, std::slice::from_ref(&(55..56)))
            .into_iter()
            .map(|piece| (piece.places, piece.unread.is_some()))
            .collect();
        let expected = [(0..2, false), (2..4, false), (4..5, true), (5..6, true), (6..7, false)];
        assert_eq!(found, expected);
        assert!(TOO_MANY.contains(&MOST_POINTS.to_string()));
    }

    #[test]
    fn the_usual_step_is_not_moved_by_gaps() {
        let points = |times: &[i64]| -> Vec<(Timestamp, f64)> {
            times.iter().map(|time| (Timestamp(*time), 0.0)).collect()
        };
        assert_eq!(median_step(&points(&[0, 10, 20, 500, 510, 520])), Some(10));
        assert_eq!(median_step(&points(&[0, 10])), None);
    }
}
