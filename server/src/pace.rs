//! How fast points came in and how long queries took lately, for the scorecard: numbers that counters since the start hide.
//!
//! Both take a bounded room whatever is asked of the server.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;

/// Seconds of which the points are kept one by one.
const KEPT_SECONDS: usize = 60;
/// Seconds over which the busiest time is taken: shorter ones are single bodies.
pub(crate) const BUSY_SECONDS: usize = 10;

/// Points by second, and the busiest stretch since the start.
#[derive(Debug, Default)]
pub(crate) struct IngestPace(Mutex<Seconds>);

#[derive(Debug, Default)]
struct Seconds {
    /// The last seconds, the present one last.
    points: VecDeque<u64>,
    /// Number of the present second.
    now: u64,
    total: u64,
    /// Points of the busiest stretch.
    busiest: u64,
}

/// What came in, in points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IngestFigures {
    /// Since the start.
    pub(crate) total: u64,
    /// In the last [`KEPT_SECONDS`], the one that is not over included.
    pub(crate) last_minute: u64,
    /// In the busiest [`BUSY_SECONDS`] in a row.
    pub(crate) busiest: u64,
}

impl Seconds {
    fn move_to(&mut self, second: u64) {
        let passed = second.saturating_sub(self.now).min(KEPT_SECONDS as u64);
        self.now = self.now.max(second);
        for _ in 0..passed {
            if self.points.len() == KEPT_SECONDS {
                self.points.pop_front();
            }
            self.points.push_back(0);
        }
        if self.points.is_empty() {
            self.points.push_back(0);
        }
    }
}

impl IngestPace {
    /// Counts points at a monotonic time.
    pub(crate) fn add(&self, now: Duration, points: u64) {
        let mut seconds = self.0.lock();
        seconds.move_to(now.as_secs());
        seconds.total += points;
        if let Some(last) = seconds.points.back_mut() {
            *last += points;
        }
        let stretch = seconds.points.iter().rev().take(BUSY_SECONDS).sum();
        seconds.busiest = seconds.busiest.max(stretch);
    }

    pub(crate) fn figures(&self, now: Duration) -> IngestFigures {
        let mut seconds = self.0.lock();
        seconds.move_to(now.as_secs());
        let last_minute = seconds.points.iter().sum();
        IngestFigures { total: seconds.total, last_minute, busiest: seconds.busiest }
    }
}

/// Queries whose times are kept.
const KEPT_QUERIES: usize = 1024;

/// Times of the last queries.
#[derive(Debug, Default)]
pub(crate) struct QueryTimes(Mutex<VecDeque<Duration>>);

impl QueryTimes {
    pub(crate) fn note(&self, took: Duration) {
        let mut times = self.0.lock();
        if times.len() == KEPT_QUERIES {
            times.pop_front();
        }
        times.push_back(took);
    }

    /// How many times are kept, and the one that 99 of 100 do not exceed (nearest rank).
    pub(crate) fn p99(&self) -> (usize, Option<Duration>) {
        let mut times: Vec<Duration> = self.0.lock().iter().copied().collect();
        times.sort_unstable();
        let rank = (times.len() * 99).div_ceil(100);
        (times.len(), rank.checked_sub(1).and_then(|at| times.get(at).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_told_by_minute_and_busiest_stretch() {
        let pace = IngestPace::default();
        let second = Duration::from_secs;
        assert_eq!(pace.figures(second(5)), IngestFigures { total: 0, last_minute: 0, busiest: 0 });
        for now in 100..130 {
            pace.add(second(now), 200);
        }
        pace.add(Duration::from_millis(130_500), 1);
        assert_eq!(
            pace.figures(second(131)),
            IngestFigures { total: 6001, last_minute: 6001, busiest: 2000 }
        );
        pace.add(second(150), 5000);
        // The busiest ten seconds are those that hold the large body; what is older than a minute is gone.
        assert_eq!(
            pace.figures(second(185)),
            IngestFigures { total: 11_001, last_minute: 5801, busiest: 5000 }
        );
        assert_eq!(
            pace.figures(second(9999)),
            IngestFigures { total: 11_001, last_minute: 0, busiest: 5000 }
        );
    }

    #[test]
    fn ninety_nine_of_a_hundred_queries_are_not_slower_than_the_time_told() {
        let times = QueryTimes::default();
        assert_eq!(times.p99(), (0, None));
        for ms in (1..=200).rev() {
            times.note(Duration::from_millis(ms));
        }
        assert_eq!(times.p99(), (200, Some(Duration::from_millis(198))));
        for _ in 0..KEPT_QUERIES {
            times.note(Duration::from_millis(3));
        }
        assert_eq!(times.p99(), (KEPT_QUERIES, Some(Duration::from_millis(3))));
    }
}
