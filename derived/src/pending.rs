//! Ranges of time that wait to be computed: sorted, apart from each other, few.

use std::ops::Range;
use std::time::Duration;

/// What could not be read is tried again this often, and at every start.
pub(crate) const LOST_EVERY: Duration = Duration::from_secs(3600);
/// More ranges than this are joined, those with the least between them first.
const MOST_RANGES: usize = 64;

/// Half-open ranges in nanoseconds; none is empty and no two touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pending(Vec<Range<i64>>);

impl Pending {
    pub(crate) fn new(ranges: impl IntoIterator<Item = Range<i64>>) -> Self {
        let mut pending = Self::default();
        ranges.into_iter().for_each(|range| pending.add(range));
        pending
    }

    pub(crate) fn ranges(&self) -> &[Range<i64>] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, time: i64) -> bool {
        let at = self.0.partition_point(|held| held.end <= time);
        self.0.get(at).is_some_and(|held| held.contains(&time))
    }

    pub(crate) fn add(&mut self, range: Range<i64>) {
        if range.start >= range.end {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let last = self.0.partition_point(|held| held.start <= range.end);
        let (mut start, mut end) = (range.start, range.end);
        if first < last {
            start = start.min(self.0[first].start);
            end = end.max(self.0[last - 1].end);
        }
        self.0.splice(first..last, std::iter::once(start..end));
        while self.0.len() > MOST_RANGES {
            let gap = |at: &usize| self.0[at + 1].start.saturating_sub(self.0[*at].end);
            let at = (0..self.0.len() - 1).min_by_key(gap).unwrap_or_default();
            self.0[at].end = self.0[at + 1].end;
            self.0.remove(at + 1);
        }
    }

    /// All that is in the other, too.
    pub(crate) fn add_all(&mut self, other: Self) {
        other.0.into_iter().for_each(|range| self.add(range));
    }

    /// Takes out all that is not in `range`.
    pub(crate) fn clip(&mut self, range: &Range<i64>) {
        for held in &mut self.0 {
            *held = held.start.max(range.start)..held.end.min(range.end);
        }
        self.0.retain(|held| held.start < held.end);
    }

    /// The youngest part, of `length` at most and within one of the stretches of that length that are counted from 0.
    pub(crate) fn youngest(&self, length: i64) -> Option<Range<i64>> {
        let last = self.0.last()?;
        let border = (last.end - 1).div_euclid(length).saturating_mul(length);
        Some(last.start.max(border)..last.end)
    }

    /// The oldest part, cut in the same way.
    pub(crate) fn oldest(&self, length: i64) -> Option<Range<i64>> {
        let first = self.0.first()?;
        let border = first.start.div_euclid(length).saturating_add(1).saturating_mul(length);
        Some(first.start..first.end.min(border))
    }

    /// Takes `range` out.
    pub(crate) fn done(&mut self, range: &Range<i64>) {
        let left =
            |held: &Range<i64>| [held.start..held.end.min(range.start), held.start.max(range.end)..held.end];
        let left = self.0.iter().flat_map(left).filter(|part| part.start < part.end);
        self.0 = left.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_youngest_goes_first_in_whole_stretches() {
        let mut pending = Pending::new([0..250, 300..310]);
        let mut given = Vec::new();
        while let Some(part) = pending.youngest(100) {
            pending.done(&part);
            given.push(part);
        }
        assert_eq!(given, [300..310, 200..250, 100..200, 0..100]);
        let mut given = Vec::new();
        let mut pending = Pending::new([0..250, 300..310]);
        while let Some(part) = pending.oldest(100) {
            pending.done(&part);
            given.push(part);
        }
        assert_eq!(given, [0..100, 100..200, 200..250, 300..310]);
        let mut holed = Pending::new([0..100, 200..300]);
        holed.done(&(50..60));
        holed.done(&(90..210));
        assert_eq!(holed.ranges(), [0..50, 60..90, 210..300]);
        let mut clipped = Pending::new([0..250, 300..310]);
        clipped.clip(&(100..305));
        assert_eq!(clipped.ranges(), [100..250, 300..305]);
    }

    proptest! {
        /// What was added is in it, sorted and apart; nothing else is while there are few.
        #[test]
        fn holds_what_was_added(added in proptest::collection::vec((0_i64..5000, 1_i64..40), 0..200)) {
            let pending = Pending::new(added.iter().map(|(start, len)| *start..start + len));
            prop_assert!(pending.ranges().len() <= MOST_RANGES);
            prop_assert!(pending.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            for (start, len) in &added {
                prop_assert!(pending.ranges().iter().any(|r| r.start <= *start && start + len <= r.end));
            }
            if added.len() <= MOST_RANGES {
                let inside = |t: i64| added.iter().any(|(start, len)| (*start..start + len).contains(&t));
                for range in pending.ranges() {
                    prop_assert!(range.clone().all(inside), "{range:?}");
                }
                prop_assert!((-1..5050).all(|t| pending.contains(t) == inside(t)));
            }
        }
    }
}
