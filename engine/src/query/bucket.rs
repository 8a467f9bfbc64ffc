//! Buckets: which stretch of time a value belongs to. One code path for fixed lengths and for "all in one".
//!
//! Invariants
//! 1. Buckets are numbered by rising start; each instant belongs to exactly one.
//! 2. Buckets of a fixed length begin at whole multiples of it since the Unix epoch, before 1970 too.

use std::time::Duration;

/// How a range of time is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buckets {
    /// One bucket, whose time is given.
    Whole {
        /// First instant of the range.
        start: i64,
    },
    /// Buckets of this many nanoseconds.
    Every(i64),
}

impl Buckets {
    /// Buckets of length `every`, or one that begins at `start`. None if the length is zero or beyond 292 years.
    pub(super) fn new(every: Option<Duration>, start: i64) -> Option<Self> {
        match every {
            None => Some(Self::Whole { start }),
            Some(every) => i64::try_from(every.as_nanos()).ok().filter(|ns| *ns > 0).map(Self::Every),
        }
    }

    /// Number of the bucket of an instant.
    pub(super) fn index(self, time: i64) -> i64 {
        match self {
            Self::Whole { .. } => 0,
            Self::Every(ns) => time.div_euclid(ns),
        }
    }

    /// First instant of a bucket; the earliest there is where that would lie before it.
    pub(super) fn start(self, index: i64) -> i64 {
        match self {
            Self::Whole { start } => start,
            Self::Every(ns) => index.saturating_mul(ns),
        }
    }

    /// First instant after a bucket; the last there is where that would lie behind it.
    pub(super) fn end(self, index: i64) -> i64 {
        match self {
            Self::Whole { .. } => i64::MAX,
            Self::Every(ns) => index.saturating_add(1).saturating_mul(ns),
        }
    }

    /// Rows of `times[from..]` (rising) that are in the same bucket as the first of them: (bucket, end row).
    pub(super) fn stretch(self, times: &[i64], from: usize) -> (i64, usize) {
        let index = self.index(times[from]);
        let end = self.end(index);
        let rest = &times[from..];
        if rest[rest.len() - 1] < end || end == i64::MAX {
            return (index, times.len());
        }
        // Doubling steps: short buckets are found in a few looks, long ones in a logarithm.
        let mut step = 1;
        while step < rest.len() && rest[step] < end {
            step *= 2;
        }
        let (low, high) = (step / 2, step.min(rest.len()));
        (index, from + low + rest[low..high].partition_point(|time| *time < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_begin_at_multiples_of_their_length_before_the_epoch_too() {
        let hour = Buckets::new(Some(Duration::from_secs(3600)), 5).unwrap();
        let h = 3_600_000_000_000_i64;
        let check = |time: i64, index: i64| {
            assert_eq!(hour.index(time), index, "bucket of {time}");
            assert_eq!((hour.start(index), hour.end(index)), (index * h, (index + 1) * h));
        };
        check(0, 0);
        check(h - 1, 0);
        check(h, 1);
        check(-1, -1);
        check(-h, -1);
        check(-h - 1, -2);
    }

    #[test]
    fn the_ends_of_time_have_buckets() {
        let day = Buckets::Every(86_400_000_000_000);
        let first = day.index(i64::MIN + 1);
        assert_eq!(day.start(first), i64::MIN);
        assert_eq!(day.end(day.index(i64::MAX - 1)), i64::MAX);
        assert_eq!(Buckets::new(None, 7), Some(Buckets::Whole { start: 7 }));
        assert_eq!(Buckets::new(Some(Duration::ZERO), 0), None);
        assert_eq!(Buckets::new(Some(Duration::MAX), 0), None);
        assert_eq!(Buckets::Whole { start: 7 }.stretch(&[-5, 0, 9], 1), (0, 3));
    }

    proptest! {
        #[test]
        fn a_stretch_is_all_of_one_bucket(
            mut times in prop::collection::vec(-1000_i64..1000, 1..200), every in 1_i64..300, from in 0_usize..200,
        ) {
            times.sort_unstable();
            times.dedup();
            let from = from.min(times.len() - 1);
            let (index, end) = Buckets::Every(every).stretch(&times, from);
            let bucket = |time: &i64| time.div_euclid(every);
            prop_assert_eq!(index, bucket(&times[from]));
            prop_assert!(times[from..end].iter().all(|t| bucket(t) == index));
            prop_assert!(end == times.len() || bucket(&times[end]) != index);
        }
    }
}
