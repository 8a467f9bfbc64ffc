//! Events of one answer in the making: what a body touched, and what says the same joined.

use super::{ChangeEvent, Subject};
use crate::feed::Cause;
use crate::query::Buckets;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of one measurement in one body.
#[derive(Default)]
pub(super) struct Touched {
    late: Option<Range<i64>>,
    /// Finished buckets with late rows, up to one more than may be told.
    revised: BTreeMap<i64, i64>,
    fresh: Option<Range<i64>>,
    fresh_rows: u64,
    limit: usize,
}

impl Touched {
    pub(super) fn rows(&mut self, times: &[i64], horizon: i64, buckets: Option<&Buckets>, limit: usize) {
        self.limit = limit;
        let mut bucket = 0..0;
        for time in times.iter().copied() {
            if time >= horizon {
                widen(&mut self.fresh, time);
                self.fresh_rows += 1;
                continue;
            }
            widen(&mut self.late, time);
            if let Some(buckets) = buckets
                && !bucket.contains(&time)
                && self.revised.len() <= limit
            {
                bucket = buckets.of(time);
                self.revised.insert(bucket.start, bucket.end);
            }
        }
    }

    pub(super) fn events(self, of: &Subject, buckets: Option<&Buckets>, events: &mut Vec<ChangeEvent>) {
        let (of, cause) = (of.clone(), Cause::Late);
        match (self.late, buckets) {
            (None, _) => {}
            (Some(times), None) => {
                events.push(ChangeEvent::Dirty { of: of.clone(), times, fields: None, cause });
            }
            (Some(late), Some(buckets)) if self.revised.len() > self.limit => {
                let times = buckets.of(late.start).start..buckets.of(late.end - 1).end;
                events.push(ChangeEvent::Dirty { of: of.clone(), times, fields: None, cause });
            }
            (Some(_), Some(_)) => {
                let revised = self.revised.into_iter().map(|(start, end)| start..end);
                events.extend(revised.map(|bucket| ChangeEvent::Revised { of: of.clone(), bucket, cause }));
            }
        }
        if let (Some(times), None) = (self.fresh, buckets) {
            events.push(ChangeEvent::Appended { of, times, rows: self.fresh_rows });
        }
    }
}

/// One answer in the making.
#[derive(Default)]
pub(super) struct Told {
    pub(super) events: Vec<ChangeEvent>,
    revised: HashSet<(Subject, i64, Cause)>,
    appended: HashMap<Subject, usize>,
    dirty: HashMap<(Subject, Cause), usize>,
}

impl Told {
    /// One change is told whole or not at all.
    pub(super) fn has_room(&self, more: usize, limit: usize) -> bool {
        self.events.is_empty() || self.events.len() + more <= limit
    }

    pub(super) fn add_all(&mut self, events: Vec<ChangeEvent>) {
        events.into_iter().for_each(|event| self.add(event));
    }

    fn add(&mut self, event: ChangeEvent) {
        let next = self.events.len();
        match &event {
            ChangeEvent::Finished { .. } => {}
            ChangeEvent::Revised { of, bucket, cause } => {
                if !self.revised.insert((of.clone(), bucket.start, *cause)) {
                    return;
                }
            }
            ChangeEvent::Appended { of, times, rows } => {
                let at = *self.appended.entry(of.clone()).or_insert(next);
                if let Some(ChangeEvent::Appended { times: told, rows: more, .. }) = self.events.get_mut(at) {
                    *told = told.start.min(times.start)..told.end.max(times.end);
                    *more += rows;
                    return;
                }
            }
            ChangeEvent::Dirty { of, times, fields, cause } => {
                let at = self.dirty.entry((of.clone(), *cause)).or_insert(next);
                if let Some(ChangeEvent::Dirty { times: told, fields: known, .. }) = self.events.get_mut(*at)
                    && known == fields
                    && told.start <= times.end
                    && times.start <= told.end
                {
                    *told = told.start.min(times.start)..told.end.max(times.end);
                    return;
                }
                *at = next;
            }
        }
        self.events.push(event);
    }
}

pub(super) fn widen(range: &mut Option<Range<i64>>, time: i64) {
    let end = time.saturating_add(1);
    *range = Some(range.take().map_or(time..end, |known| known.start.min(time)..known.end.max(end)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_the_same_is_told_once_and_what_lies_apart_is_not_joined() {
        let mut told = Told::default();
        let of = Subject::default;
        let dirty = |times, cause| ChangeEvent::Dirty { of: of(), times, fields: None, cause };
        let appended = |times, rows| ChangeEvent::Appended { of: of(), times, rows };
        let revised = |bucket| ChangeEvent::Revised { of: of(), bucket, cause: Cause::Late };
        told.add_all(vec![
            dirty(0..5, Cause::Late),
            appended(20..21, 1),
            dirty(5..8, Cause::Late),
            dirty(6..9, Cause::Delete),
            dirty(12..14, Cause::Late),
            dirty(13..15, Cause::Late),
            appended(18..30, 2),
            revised(0..10),
            ChangeEvent::Finished { bucket: 10..20 },
            revised(0..10),
        ]);
        let expected = [
            dirty(0..8, Cause::Late),
            appended(18..30, 3),
            dirty(6..9, Cause::Delete),
            dirty(12..15, Cause::Late),
            revised(0..10),
            ChangeEvent::Finished { bucket: 10..20 },
        ];
        assert_eq!(told.events, expected);
        assert!(told.has_room(4, 10) && !told.has_room(5, 10));
        assert!(Told::default().has_room(11, 10));
    }
}
