//! One series of the store, from all its sources, in time order.
//!
//! Row groups that meet nothing else of the series are handed over as they are, so that whoever computes may answer
//! from their statistics. All other rows are merged first.
//!
//! Invariants
//! 1. A group is handed over alone only if no row in hand, no other group and no lost source of the series has a time
//!    between its first and its last row.
//! 2. What is handed over rises in time, from call to call.

use super::budget::{Budget, Held};
use super::error::QueryError;
use super::filter::{Filter, FilterSink};
use super::merge::{Carry, Hole, masked, slice};
use super::plan::Plan;
use super::prices::Prices;
use super::prune::{Losses, Open, Opened, Source, Sources};
use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::{FieldId, SeriesId};
use crate::memtable::FieldSet;
use crate::segment::{RowGroup, SegmentError};
use crate::snapshot::Snapshot;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wattlog_model::FieldType;

/// What all series of a query share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Fields that the taker of the rows wants.
    pub(super) plan: &'a Plan,
    /// Which rows count; all if there is none.
    pub(super) filter: Option<&'a Filter>,
    /// The price that costs are computed with.
    pub(super) prices: Option<&'a Arc<Prices>>,
    pub(super) sources: &'a Sources,
    pub(super) losses: &'a Losses<'a>,
    pub(super) budget: &'a Budget<'a>,
}

/// Takes what a scan finds.
pub(super) trait Sink {
    /// Rows within the asked range.
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError>;
    /// Groups of one segment that meet nothing else; the first and the last may reach beyond the asked range.
    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError>;
    /// A value of `field` that does not count stood here: those on either side of it are no neighbours.
    fn part(&mut self, _field: FieldId) -> Result<(), QueryError> {
        Ok(())
    }
    /// Something of the series cannot be read.
    fn lost(&mut self, _hole: &Hole) {}
    /// True if nothing more is wanted.
    fn is_full(&self) -> bool {
        false
    }
}

/// Groups of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupSource<'a> {
    pub(super) source: &'a Source,
    pub(super) open: &'a Open,
    pub(super) groups: &'a [RowGroup],
}

/// A row group of one series, and its place in the order of precedence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) precedence: usize,
    pub(super) group: RowGroup,
}

/// What a range of one series is made of, before anything is decoded.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    series: SeriesId,
    /// By first time.
    pub(super) groups: Vec<Piece>,
    /// What is lost, then what is deleted.
    holes: Vec<Hole>,
    lost_count: usize,
    carry: Carry,
    /// Rows copied from memtables count until they were handed on.
    copied: Held<'a>,
}

impl Pieces<'_> {
    /// Which groups meet nothing else, as far as that can be told without decoding: by the times of their ends.
    pub(super) fn alone(&self) -> Vec<bool> {
        let mut before = None;
        let alone = self.groups.iter().enumerate().map(|(i, piece)| {
            let meets_earlier = before.is_some_and(|last| piece.group.first_time <= last);
            before = before.max(Some(piece.group.last_time));
            !meets_earlier && is_alone(piece, self.groups.get(i + 1), &self.carry, &self.holes)
        });
        alone.collect()
    }

    /// Rows that are in memory already.
    pub(super) fn rows_in_memory(&self) -> usize {
        self.carry.rows()
    }
}

/// Merged rows are handed on once this many are in hand.
const FLUSH_ROWS: usize = 4096;

impl<'a> Scan<'a> {
    /// The same for all fields that have to be read, those of a condition among them.
    pub(super) fn wide(self) -> Self {
        Self { plan: self.filter.map_or(self.plan, |filter| &filter.wide), filter: None, ..self }
    }

    /// From the first to behind the last time in any source, also of series that were not asked for; none if there is
    /// no source.
    pub(super) fn times_held(self) -> Option<Range<i64>> {
        let seq = self.snapshot.seq();
        let in_memory = self.snapshot.memtables().iter().flat_map(|memtable| {
            self.plan.series.iter().filter_map(move |series| memtable.time_range(*series, seq))
        });
        let spans = self.sources.list.iter().map(Source::times).chain(in_memory);
        let both = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        both.map(|(first, last)| first..last.saturating_add(1))
    }

    /// Hands all rows of `series` in `range` to `sink`.
    pub(super) fn run(
        self,
        series: SeriesId,
        range: &Range<i64>,
        sink: &mut impl Sink,
    ) -> Result<(), QueryError> {
        let pieces = self.pieces(series, range)?;
        self.sweep(pieces, range, sink)
    }

    /// Finds what there is of `series` in `range`.
    pub(super) fn pieces(self, series: SeriesId, range: &Range<i64>) -> Result<Pieces<'a>, QueryError> {
        self.wide().find(series, range)
    }

    fn find(self, series: SeriesId, range: &Range<i64>) -> Result<Pieces<'a>, QueryError> {
        self.budget.check()?;
        let (groups, holes) = (Vec::new(), Vec::new());
        let copied = Held::new(self.budget, 0)?;
        let mut pieces = Pieces { series, groups, holes, lost_count: 0, carry: Carry::default(), copied };
        for (precedence, source) in self.sources.list.iter().enumerate() {
            let (first, last) = source.times();
            if first >= range.end || last < range.start {
                continue;
            }
            let lost = Hole { precedence, first, last, field: None };
            let open = match source.open(self.plan, self.losses)? {
                Opened::Rows(open) => open,
                Opened::Empty => continue,
                Opened::Lost => {
                    pieces.holes.push(lost);
                    continue;
                }
            };
            let known = pieces.groups.len();
            let found = self.read_from(source, &open, |open| {
                pieces.groups.truncate(known);
                let visit = |group| pieces.groups.push(Piece { precedence, group });
                open.segment.for_each_group(&open.section, series, range.clone(), visit)
            })?;
            if let Err(error) = found {
                self.losses.add_error(source.id(), None, (first, last), &error);
                pieces.groups.truncate(known);
                pieces.holes.push(lost);
            }
        }
        pieces.groups.sort_by_key(|piece| (piece.group.first_time, piece.precedence));
        pieces.lost_count = pieces.holes.len();
        pieces.holes.extend(self.deleted(series, range));
        // Before they are copied, so that many queries at once cannot copy more than may be held.
        let near = self.snapshot.memtables().iter().map(|memtable| {
            let (rows, values) = memtable.rows_near(series, range);
            // A time per row; a value, with its row, where there is one.
            (rows * self.row_bytes()).min(rows * 8 + values * 24)
        });
        pieces.copied.set(near.sum())?;
        for (i, memtable) in self.snapshot.memtables().iter().enumerate() {
            let fields = FieldSet::Only(&self.plan.ids);
            if let Some(mut rows) = memtable.read(series, range, fields, self.snapshot.seq()) {
                self.count(&rows)?;
                let precedence = self.sources.list.len() + i;
                for hole in pieces.holes.iter().filter(|hole| hole.precedence > precedence) {
                    rows = masked(rows, hole);
                }
                pieces.carry.add(precedence, rows);
            }
        }
        pieces.copied.set(pieces.carry.rows() as u64 * self.row_bytes())?;
        Ok(pieces)
    }

    /// Bytes of a row with all fields that are read; texts are shared with their memtable.
    fn row_bytes(self) -> u64 {
        let texts =
            (0..self.plan.ids.len()).filter(|slot| self.plan.def(*slot).field_type == FieldType::String);
        8 * (1 + self.plan.ids.len() + texts.count()) as u64
    }

    /// What deletes hide of `series` in `range`: as if a younger source had been lost there, but nothing is partial.
    pub(super) fn deleted(self, series: SeriesId, range: &Range<i64>) -> Vec<Hole> {
        let mut holes = Vec::new();
        for tombstone in self.snapshot.tombstones_of(self.plan.measurement) {
            if !tombstone.overlaps(range) || !tombstone.covers(series) {
                continue;
            }
            let sources = &self.sources.list;
            let segments = sources.iter().take_while(|source| source.max_seq() < tombstone.seq).count();
            let memtables = self.snapshot.memtables().iter();
            // All segments are older than any memtable.
            let precedence = match memtables.take_while(|memtable| memtable.max_seq() < tombstone.seq).count()
            {
                0 => segments,
                memtables => sources.len() + memtables,
            };
            let (first, last) = (tombstone.range.start, tombstone.range.end.saturating_sub(1));
            match &tombstone.fields {
                None => holes.push(Hole { precedence, first, last, field: None }),
                Some(fields) => holes.extend(
                    fields.iter().filter(|field| self.plan.slot(**field).is_some()).map(|field| Hole {
                        precedence,
                        first,
                        last,
                        field: Some(*field),
                    }),
                ),
            }
        }
        holes
    }

    /// Hands `pieces` to `sink`, clipped to `range`: the rows that count.
    pub(super) fn sweep(
        self,
        pieces: Pieces<'_>,
        range: &Range<i64>,
        sink: &mut impl Sink,
    ) -> Result<(), QueryError> {
        let Some(filter) = self.filter else { return self.sweep_all(pieces, range, sink) };
        match FilterSink::new(self, filter, pieces.series, sink) {
            Ok(mut filtered) => self.wide().sweep_all(pieces, range, &mut filtered),
            Err(sink) => self.wide().sweep_all(pieces, range, sink),
        }
    }

    fn sweep_all(
        self,
        pieces: Pieces<'_>,
        range: &Range<i64>,
        sink: &mut impl Sink,
    ) -> Result<(), QueryError> {
        let Pieces { groups, mut holes, mut carry, lost_count, copied: _copied, .. } = pieces;
        holes[..lost_count].iter().for_each(|hole| sink.lost(hole));
        let mut batch: Vec<RowGroup> = Vec::new();
        let mut at = 0;
        while at < groups.len() && !sink.is_full() {
            self.budget.check()?;
            let first = groups[at];
            let alone = groups[at..].iter().enumerate().take_while(|(i, piece)| {
                piece.precedence == first.precedence
                    && is_alone(piece, groups.get(at + i + 1), &carry, &holes)
                    && (*i == 0 || !carry.meets(first.group.first_time, piece.group.last_time))
            });
            batch.clear();
            batch.extend(alone.take(MAX_BATCH).map(|(_, piece)| piece.group));
            if batch.is_empty() {
                at += 1;
                let known = holes.len();
                let loaded = self.load(&first, range, &mut holes, &mut carry)?;
                holes[known..].iter().for_each(|hole| sink.lost(hole));
                carry.add(first.precedence, loaded);
                if carry.rows() >= FLUSH_ROWS {
                    let end = groups.get(at).map(|next| next.group.first_time);
                    carry.flush(end, |rows, range| sink.rows(rows, range))?;
                }
            } else {
                at += batch.len();
                carry.flush(Some(first.group.first_time), |rows, range| sink.rows(rows, range))?;
                let source = &self.sources.list[first.precedence];
                if let Opened::Rows(open) = source.open(self.plan, self.losses)? {
                    sink.groups(GroupSource { source, open: &open, groups: &batch }, range)?;
                }
            }
        }
        if sink.is_full() {
            return Ok(());
        }
        carry.flush(None, |rows, range| sink.rows(rows, range))
    }

    /// Decodes a group whose rows have to be merged; what is damaged becomes a hole.
    fn load(
        self,
        piece: &Piece,
        range: &Range<i64>,
        holes: &mut Vec<Hole>,
        carry: &mut Carry,
    ) -> Result<SeriesRows, QueryError> {
        let RowGroup { first_time, last_time, .. } = piece.group;
        let hidden = |hole: &Hole| {
            hole.precedence > piece.precedence
                && hole.field.is_none()
                && hole.first <= first_time
                && hole.last >= last_time
        };
        if holes.iter().any(hidden) {
            return Ok(SeriesRows::default());
        }
        let source = &self.sources.list[piece.precedence];
        let mut block = Block::default();
        let mut lost = Vec::new();
        match source.open(self.plan, self.losses)? {
            Opened::Rows(open) => {
                let slots = 0..self.plan.ids.len();
                self.decode(source, &open, &piece.group, slots, &mut block, |field| lost.push(field))?;
            }
            // It could be opened when its groups were listed, and was closed since.
            Opened::Lost | Opened::Empty => lost.push(None),
        }
        for field in lost {
            let hole = Hole { precedence: piece.precedence, first: first_time, last: last_time, field };
            carry.mask(&hole);
            holes.push(hole);
        }
        let rows = block.into_rows(self.plan);
        let from = rows.times.partition_point(|time| *time < range.start);
        let to = rows.times.partition_point(|time| *time < range.end);
        let mut rows = if to - from == rows.times.len() { rows } else { slice(&rows, from..to) };
        for hole in holes.iter().filter(|hole| hole.precedence > piece.precedence) {
            rows = masked(rows, hole);
        }
        Ok(rows)
    }

    /// Decodes the fields `slots` of a group, and its times if it has any of them. Damage is noted, and told to `lost`
    /// (none: all fields of the group).
    pub(super) fn decode(
        self,
        source: &Source,
        open: &Open,
        group: &RowGroup,
        slots: impl Iterator<Item = usize> + Clone,
        block: &mut Block,
        mut lost: impl FnMut(Option<FieldId>),
    ) -> Result<(), QueryError> {
        let span = (group.first_time, group.last_time);
        let read = if group.compact {
            // One copy, checked once, holds all fields.
            self.read_from(source, open, |open| {
                block.begin(self.plan);
                let Block { times, columns, present } = &mut *block;
                let slot_of =
                    |field| self.plan.slot(field).filter(|slot| slots.clone().any(|own| own == *slot));
                open.segment.read_compact(group, slot_of, times, columns, present)
            })?
        } else {
            block.begin(self.plan);
            for slot in slots {
                let field = self.plan.ids[slot];
                let read = self.read_from(source, open, |open| {
                    open.segment.read_column(group, field, &mut block.columns[slot])
                })?;
                block.present[slot] = read.unwrap_or_else(|error| {
                    self.losses.add_error(source.id(), Some(field), span, &error);
                    lost(Some(field));
                    false
                });
            }
            if block.present.contains(&true) {
                self.read_from(source, open, |open| open.segment.read_times(group, &mut block.times))?
            } else {
                Ok(())
            }
        };
        if let Err(error) = read {
            self.losses.add_error(source.id(), None, span, &error);
            lost(None);
            block.begin(self.plan);
            return Ok(());
        }
        let columns = block.present.iter().filter(|present| **present).count() as u64;
        if columns > 0 {
            self.budget.blocks_decoded.fetch_add(columns + 1, Ordering::Relaxed);
            self.budget.scan(u64::from(group.rows), u64::from(group.rows) * columns)?;
        }
        Ok(())
    }

    /// Reads from an open segment; once more from a new map of it if a page could not be read, so that a page that is
    /// lost costs what is in it and not the rest of the file.
    pub(super) fn read_from<R>(
        self,
        source: &Source,
        open: &Open,
        mut read: impl FnMut(&Open) -> Result<R, SegmentError>,
    ) -> Result<Result<R, SegmentError>, QueryError> {
        let first = read(open);
        if first.is_err()
            && open.segment.is_poisoned()
            && let Opened::Rows(again) = source.open(self.plan, self.losses)?
        {
            return Ok(read(&again));
        }
        Ok(first)
    }

    fn count(self, rows: &SeriesRows) -> Result<(), QueryError> {
        let values: usize = rows.columns.iter().map(|(_, column)| column.values.len()).sum();
        self.budget.scan(rows.times.len() as u64, values as u64)
    }
}

/// Most groups handed over at once.
const MAX_BATCH: usize = 256;

fn is_alone(piece: &Piece, next: Option<&Piece>, carry: &Carry, holes: &[Hole]) -> bool {
    let RowGroup { first_time: first, last_time: last, .. } = piece.group;
    next.is_none_or(|next| next.group.first_time > last)
        && !holes
            .iter()
            .any(|hole| hole.precedence > piece.precedence && hole.first <= last && hole.last >= first)
        && !carry.meets(first, last)
}

/// A decoded group; its room is used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Times of all rows; empty if no column is present.
    pub(super) times: Vec<i64>,
    /// One column per slot of the plan.
    pub(super) columns: Vec<Column>,
    /// Whether the group has that column.
    pub(super) present: Vec<bool>,
}

impl Block {
    pub(super) fn begin(&mut self, plan: &Plan) {
        self.times.clear();
        self.present.clear();
        self.present.resize(plan.ids.len(), false);
        if self.columns.len() != plan.ids.len() {
            self.columns = (0..plan.ids.len()).map(|slot| Self::column(plan, slot)).collect();
        }
    }

    /// An empty column for a slot.
    pub(super) fn column(plan: &Plan, slot: usize) -> Column {
        Column { presence: Presence::All, values: Values::new(plan.def(slot).field_type) }
    }

    /// Rows of the block within `range`.
    pub(super) fn rows_in(&self, range: &Range<i64>) -> Range<usize> {
        let from = self.times.partition_point(|time| *time < range.start);
        from..from + self.times[from..].partition_point(|time| *time < range.end)
    }

    /// The rows of all columns that are present.
    pub(super) fn into_rows(self, plan: &Plan) -> SeriesRows {
        let columns = plan.ids.iter().copied().zip(self.columns).zip(self.present);
        SeriesRows { times: self.times, columns: columns.filter(|(_, p)| *p).map(|(c, _)| c).collect() }
    }
}
