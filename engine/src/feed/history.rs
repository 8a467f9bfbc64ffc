//! What the feed keeps: bodies and other changes in commit order, and in short what became of those that it let go.
//!
//! Invariants
//! 1. Places of kept entries rise strictly.
//! 2. An entry that is let go is in `missed` from then on: who asks for it hears of a range that holds it.
//! 3. `missed` is bounded: [`MAX_FOLDS`] folds of at most [`MAX_PARTS`] measurements and [`MAX_EXTENTS`] other changes each;
//!    what goes beyond becomes "everything".

use super::CommittedBatch;
use super::extent::{Cause, Extent, Scope};
use crate::column::{Column, Values};
use crate::ids::{LogId, MeasurementId, NamespaceId, Seq};
use crate::memtable::SeriesBatch;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Where an entry stands: after the records up to `seq`, and after the manifest edits up to `edit` that followed them. Records
/// have edit 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) seq: Seq,
    pub(crate) edit: u64,
}

impl Place {
    pub(crate) fn of_record(seq: Seq) -> Self {
        Self { seq, edit: 0 }
    }
}

/// One kept change.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    /// Log that was written then.
    pub(crate) log_id: LogId,
    pub(crate) what: What,
}

/// What it is.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Batch(Arc<CommittedBatch>),
    Extents(Arc<[Extent]>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    entries: VecDeque<(usize, Entry)>,
    bytes: usize,
    limit_bytes: usize,
    /// Last body that is not kept any more, or never was.
    evicted: Seq,
    /// Oldest first.
    missed: VecDeque<Fold>,
    /// Whether somebody may ask what was let go: if not, it costs nothing to say "everything".
    pub(crate) watched: bool,
}

/// What was let go, in short.
#[derive(Debug)]
struct Fold {
    upto: Place,
    bytes: usize,
    what: Folded,
}

#[derive(Debug)]
enum Folded {
    Everything,
    Some { rows: BTreeMap<(NamespaceId, MeasurementId), Range<i64>>, extents: Vec<Extent> },
}

const MAX_FOLDS: usize = 32;
const MAX_PARTS: usize = 256;
const MAX_EXTENTS: usize = 64;

impl History {
    /// What follows `floor`; all before it is not known.
    pub(crate) fn new(floor: Seq, limit_bytes: usize) -> Self {
        let before = Fold { upto: Place::of_record(floor), bytes: 0, what: Folded::Everything };
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            limit_bytes,
            evicted: floor,
            missed: VecDeque::from([before]),
            watched: false,
        }
    }

    /// Everything up to `floor` was sealed before: it is not known. Nothing of it is kept.
    pub(crate) fn raise_floor(&mut self, floor: Seq) {
        if let Some(before) = self.missed.front_mut().filter(|before| before.upto.seq < floor) {
            before.upto = Place::of_record(floor);
            self.evicted = self.evicted.max(floor);
        }
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(self.end() < entry.place, "entries come in order");
        let bytes = 64
            + match &entry.what {
                What::Batch(batch) => batch.batches.iter().map(bytes_of_batch).sum::<usize>(),
                What::Extents(extents) => extents.iter().map(Extent::bytes).sum(),
            };
        self.bytes += bytes;
        self.entries.push_back((bytes, entry));
        while self.bytes > self.limit_bytes
            && let Some((bytes, oldest)) = self.entries.pop_front()
        {
            self.bytes -= bytes;
            if let What::Batch(batch) = &oldest.what {
                self.evicted = batch.cursor.seq;
            }
            self.let_go(&oldest, bytes);
        }
    }

    /// The place of the newest entry, kept or not.
    pub(crate) fn end(&self) -> Place {
        let kept = self.entries.back().map(|(_, entry)| entry.place);
        kept.max(self.missed.back().map(|fold| fold.upto)).unwrap_or_default()
    }

    /// Entries after `place`, oldest first.
    pub(crate) fn after(&self, place: Place) -> impl Iterator<Item = &Entry> {
        let next = self.entries.partition_point(|(_, entry)| entry.place <= place);
        self.entries.range(next..).map(|(_, entry)| entry)
    }

    /// Last body that is not kept any more.
    pub(crate) fn evicted(&self) -> Seq {
        self.evicted
    }

    /// What was let go after `place`, and the place up to which that goes; none if all is kept.
    pub(crate) fn missed_after(&self, place: Place) -> Option<(Place, Vec<Extent>)> {
        let upto = self.missed.back().map(|fold| fold.upto).filter(|upto| place < *upto)?;
        let (mut rows, mut extents) = (BTreeMap::new(), Vec::new());
        for fold in self.missed.iter().filter(|fold| place < fold.upto) {
            match &fold.what {
                Folded::Everything => return Some((upto, vec![Extent::everything()])),
                Folded::Some { rows: own, extents: others } => {
                    own.iter().for_each(|(key, times)| widen(&mut rows, *key, times));
                    extents.extend(others.iter().cloned());
                }
            }
        }
        extents.extend(rows.into_iter().map(|((namespace, measurement), times)| Extent {
            namespace: Some(namespace),
            scope: Scope::One(measurement),
            times,
            fields: None,
            cause: Cause::Missed,
        }));
        Some((upto, extents))
    }

    fn let_go(&mut self, entry: &Entry, bytes: usize) {
        let share = self.limit_bytes / 4;
        let full = self.missed.back().is_none_or(|fold| match fold.what {
            Folded::Everything => self.watched,
            Folded::Some { .. } => fold.bytes >= share || !self.watched,
        });
        if full {
            let what = if self.watched {
                Folded::Some { rows: BTreeMap::new(), extents: Vec::new() }
            } else {
                Folded::Everything
            };
            self.missed.push_back(Fold { upto: entry.place, bytes: 0, what });
        }
        if let Some(fold) = self.missed.back_mut() {
            fold.upto = entry.place;
            fold.bytes = fold.bytes.saturating_add(bytes);
            fold.what.add(&entry.what);
        }
        if self.missed.len() > MAX_FOLDS
            && let Some(oldest) = self.missed.pop_front()
            && let Some(next) = self.missed.front_mut()
        {
            next.what.join(oldest.what);
        }
    }
}

impl Folded {
    fn add(&mut self, what: &What) {
        let Self::Some { rows, extents } = self else { return };
        match what {
            What::Batch(batch) => {
                for series in &batch.batches {
                    let least = series.times.iter().copied().min();
                    if let (Some(first), Some(last)) = (least, series.times.iter().copied().max()) {
                        let times = first..last.saturating_add(1);
                        widen(rows, (batch.namespace, series.measurement), &times);
                    }
                }
            }
            What::Extents(more) => extents.extend(more.iter().cloned()),
        }
        self.bound();
    }

    fn join(&mut self, older: Self) {
        match (&mut *self, older) {
            (Self::Some { rows, extents }, Self::Some { rows: more, extents: others }) => {
                more.iter().for_each(|(key, times)| widen(rows, *key, times));
                extents.extend(others);
                self.bound();
            }
            _ => *self = Self::Everything,
        }
    }

    fn bound(&mut self) {
        if let Self::Some { rows, extents } = self
            && (rows.len() > MAX_PARTS || extents.len() > MAX_EXTENTS)
        {
            *self = Self::Everything;
        }
    }
}

fn widen(
    rows: &mut BTreeMap<(NamespaceId, MeasurementId), Range<i64>>,
    key: (NamespaceId, MeasurementId),
    times: &Range<i64>,
) {
    let own = rows.entry(key).or_insert_with(|| times.clone());
    *own = own.start.min(times.start)..own.end.max(times.end);
}

fn bytes_of_batch(batch: &SeriesBatch) -> usize {
    let text = |column: &Column| match &column.values {
        Values::String(texts) => texts.iter().map(|text| text.len() + 16).sum(),
        _ => 0_usize,
    };
    let values = batch.columns.iter().map(|(_, c)| c.values.len() * 12 + 48 + text(c)).sum::<usize>();
    batch.times.len() * 8 + values + 96
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Cursor;
    use crate::feed::extent::ALL_TIME;
    use crate::ids::SeriesId;
    use wattlog_model::Timestamp;

    fn body(seq: u64, measurement: u32, times: &[i64]) -> Entry {
        let series = SeriesBatch {
            series: SeriesId(measurement),
            measurement: MeasurementId(measurement),
            times: times.to_vec(),
            columns: Vec::new(),
        };
        let (log_id, seq) = (LogId(1), Seq(seq));
        let batch = CommittedBatch {
            cursor: Cursor { log_id, seq },
            wall: Timestamp(0),
            namespace: NamespaceId(1),
            batches: vec![series],
        };
        Entry { place: Place::of_record(seq), log_id, what: What::Batch(Arc::new(batch)) }
    }

    fn missed(history: &History, seq: u64) -> Vec<(Option<u32>, Range<i64>)> {
        let told = history.missed_after(Place::of_record(Seq(seq))).map_or_else(Vec::new, |(_, told)| told);
        let one = |extent: Extent| match extent.scope {
            Scope::One(id) => (Some(id.0), extent.times),
            Scope::AllBut(_) => (None, extent.times),
        };
        told.into_iter().map(one).collect()
    }

    #[test]
    fn what_is_let_go_is_told_in_short_once_somebody_may_ask() {
        // Each of these bodies takes 64 + 96 + 8 bytes a row: one is kept.
        let mut history = History::new(Seq(4), 200);
        history.push(body(5, 1, &[10]));
        history.push(body(6, 1, &[20]));
        assert_eq!(missed(&history, 3), [(None, ALL_TIME)], "before the floor");
        assert_eq!(missed(&history, 4), [(None, ALL_TIME)], "nobody watched");
        assert_eq!(missed(&history, 5), []);
        history.watched = true;
        history.push(body(7, 2, &[30, 25]));
        history.push(body(8, 1, &[40]));
        history.push(body(9, 1, &[50]));
        assert_eq!(missed(&history, 5), [(Some(1), 20..41), (Some(2), 25..31)]);
        assert_eq!(missed(&history, 7), [(Some(1), 40..41)]);
        assert_eq!(missed(&history, 8), []);
        assert_eq!(history.after(Place::of_record(Seq(3))).count(), 1);
    }

    #[test]
    fn too_much_to_tell_in_short_becomes_everything() {
        let mut history = History::new(Seq(0), 0);
        history.watched = true;
        for seq in 1..=MAX_PARTS as u64 + 2 {
            history.push(body(seq, seq as u32, &[seq as i64]));
        }
        // Each body is a fold of its own here, and folds are joined from the oldest on.
        assert!(history.missed.len() <= MAX_FOLDS);
        assert_eq!(missed(&history, MAX_PARTS as u64).len(), 2);
        for seq in 0..MAX_PARTS as u64 {
            history.push(body(1000 + seq, 1000 + seq as u32, &[0]));
        }
        assert_eq!(missed(&history, 0), [(None, ALL_TIME)]);
    }
}
