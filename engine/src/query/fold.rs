//! Aggregates: rows and groups of series into accumulators, and accumulators into columns.
//!
//! A group that lies in one bucket and within the range, and meets nothing else, is answered from its statistics. Any
//! other that meets nothing else is folded where totals and extremes of stretches say enough; what remains is decoded,
//! and only the columns asked for.

use super::aggregate::Accumulator;
use super::bucket::Buckets;
use super::budget::Budget;
use super::curve::{Curve, Frame};
use super::error::QueryError;
use super::parallel;
use super::plan::is_defined;
use super::prune::Open;
use super::request::{Aggregate, Function};
use super::scan::{Block, GroupSource, Scan, Sink};
use crate::codec::{Stretch, Times, Wanted};
use crate::column::{Column, SeriesRows};
use crate::ids::{FieldId, SeriesId};
use crate::segment::{Number, RowGroup, SegmentError};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Accumulators of one group of series.
#[derive(Debug)]
pub(super) struct Accumulators {
    /// By slot of the plan.
    pub(super) fields: Vec<Field>,
    /// Bytes of them that the budget knows of.
    held: u64,
}

/// What is known of one field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) cells: Accumulator,
    /// What lies between its points, if that was asked for.
    pub(super) curve: Option<Curve>,
}

impl Field {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.keys().is_empty() && self.curve.as_ref().is_none_or(|curve| curve.keys.is_empty())
    }

    fn bytes(&self) -> u64 {
        self.cells.bytes() + self.curve.as_ref().map_or(0, Curve::bytes)
    }

    /// What a fold of a block has to find; none if only its values tell.
    fn folds(&self) -> Option<Wanted> {
        if self.curve.is_none() { self.cells.folds() } else { None }
    }

    fn buckets(&self) -> usize {
        self.cells.keys().len().max(self.curve.as_ref().map_or(0, |curve| curve.keys.len()))
    }

    /// Adds rows of a column: to the buckets those within the range asked for, to the curve all.
    fn add_rows(
        &mut self,
        frame: Frame<'_>,
        times: &[i64],
        column: &Column,
        rows: Range<usize>,
        scratch: &mut Vec<i64>,
    ) -> Result<(), QueryError> {
        if let Some(curve) = &mut self.curve {
            curve.rows(frame, times, column, rows.clone(), scratch)?;
        }
        // Rows beyond the range are read where some field needs neighbours.
        let from = times[rows.clone()].partition_point(|time| *time < frame.asked.start) + rows.start;
        let to = times[rows.clone()].partition_point(|time| *time < frame.asked.end) + rows.start;
        if from < to {
            self.cells.add_rows(frame.buckets, times, column, from..to, scratch);
        }
        Ok(())
    }
}

impl Accumulators {
    /// Empty ones for the fields of a plan.
    pub(super) fn new(scan: Scan<'_>, aggregate: &Aggregate) -> Result<Self, QueryError> {
        let mut fields: Vec<Option<Field>> = (0..scan.plan.ids.len()).map(|_| None).collect();
        for field in &scan.plan.fields {
            let defined = |function: &Function| is_defined(*function, &field.def);
            let functions: Vec<Function> = aggregate.functions.iter().copied().filter(defined).collect();
            fields[field.slot] = Some(Field {
                cells: Accumulator::new(&functions, field.def.field_type),
                curve: Curve::new(&functions, field.def.kind, aggregate.max_gap_ns, scan.prices),
            });
        }
        let mut new = Self { fields: fields.into_iter().flatten().collect(), held: 0 };
        new.hold(scan.budget)?;
        Ok(new)
    }

    /// Adds the buckets of later series of the same group.
    pub(super) fn join(&mut self, other: Self, budget: &Budget<'_>) -> Result<(), QueryError> {
        for (own, other) in self.fields.iter_mut().zip(other.fields) {
            own.cells.merge(other.cells);
            if let (Some(own), Some(other)) = (&mut own.curve, other.curve) {
                own.merge(other);
            }
        }
        budget.let_go(other.held);
        self.hold(budget)
    }

    /// Tells the budget how large they have become.
    fn hold(&mut self, budget: &Budget<'_>) -> Result<(), QueryError> {
        let most = self.fields.iter().map(Field::buckets).max().unwrap_or(0);
        budget.allow_buckets(most as u64)?;
        let bytes = self.fields.iter().map(Field::bytes).sum();
        budget.hold_instead(&mut self.held, bytes)
    }
}

/// The buckets of one series, from its values in a part of the plan's range. The values of a field with a curve must not
/// be read in parts.
pub(super) fn series<'a>(
    scan: Scan<'a>,
    series: SeriesId,
    aggregate: &Aggregate,
    buckets: &'a Buckets,
    slice: &'a Slice,
    block: &mut Block,
) -> Result<Accumulators, QueryError> {
    let frame = Frame { buckets, asked: &slice.asked, budget: scan.budget };
    let found = Accumulators::new(scan, aggregate)?;
    let columns = found.fields.iter().map(|_| CutColumn::default()).collect();
    let cut = Cut { columns, ..Cut::default() };
    let mut sink = FoldSink { scan, frame, found, block, scratch: Vec::new(), cut };
    scan.run(series, &slice.range, &mut sink)?;
    let mut found = sink.found;
    for curve in found.fields.iter_mut().filter_map(|field| field.curve.as_mut()) {
        curve.end_series(frame)?;
    }
    Ok(found)
}

/// A part of the range of a query that begins and ends where buckets do, so that none has values in two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// As [`Plan::asked`](super::plan::Plan::asked).
    pub(super) asked: Range<i64>,
    /// As [`Plan::range`](super::plan::Plan::range).
    pub(super) range: Range<i64>,
}

/// Parts of a query over few series that several threads can compute: so many that threads end at about the same time.
const SLICES: usize = 8;

/// The range of a query, in parts if there is much to read of few series. No bit of the answer depends on it.
pub(super) fn slices(scan: Scan<'_>, aggregate: &Aggregate, buckets: &Buckets) -> Vec<Slice> {
    let plan = scan.plan;
    let whole = Slice { asked: plan.asked.clone(), range: plan.range.clone() };
    let wanted = SLICES / plan.series.len().max(1);
    let has_curve = aggregate.functions.iter().any(|function| function.needs_neighbours());
    if wanted <= 1 || has_curve || !parallel::is_large(scan) {
        return vec![whole];
    }
    let Some(held) = scan.times_held() else { return vec![whole] };
    let (first, last) = (held.start.max(plan.range.start), held.end.min(plan.range.end));
    let mut slices = Vec::new();
    let mut rest = whole;
    for i in 1..wanted as i128 {
        let at = i128::from(first) + (i128::from(last) - i128::from(first)) * i / wanted as i128;
        let cut = buckets.start(at as i64);
        if cut > rest.asked.start.max(rest.range.start) && cut < rest.asked.end.min(rest.range.end) {
            slices.push(Slice { asked: rest.asked.start..cut, range: rest.range.start..cut });
            rest = Slice { asked: cut..rest.asked.end, range: cut..rest.range.end };
        }
    }
    slices.push(rest);
    slices
}

/// First instants of all buckets in which a field has a value, rising.
pub(super) fn bucket_keys(fields: &[Field]) -> Vec<i64> {
    let mut keys: Vec<i64> = Vec::new();
    let curves = fields.iter().filter_map(|field| Some(&field.curve.as_ref()?.keys[..]));
    for own in fields.iter().map(|field| field.cells.keys()).chain(curves) {
        if keys.is_empty() {
            keys.extend_from_slice(own);
        } else if keys != own {
            keys.extend_from_slice(own);
            keys.sort_unstable();
            keys.dedup();
        }
    }
    keys
}

/// Whether the group lies in one bucket and within what was asked for, and all of its rows are read: retention may hide some.
pub(super) fn is_inside(buckets: &Buckets, group: &RowGroup, asked: &Range<i64>, read: &Range<i64>) -> bool {
    !group.compact
        && group.first_time >= asked.start.max(read.start)
        && group.last_time < asked.end.min(read.end)
        && group.last_time < buckets.of(group.first_time).end
}

struct FoldSink<'a, 'b> {
    scan: Scan<'a>,
    frame: Frame<'a>,
    found: Accumulators,
    block: &'b mut Block,
    scratch: Vec<i64>,
    cut: Cut,
}

/// A group cut where buckets end; its room is used again for the next one.
#[derive(Debug, Default)]
struct Cut {
    times: Times,
    /// Start of the bucket of each stretch, and the row at which it ends.
    starts: Vec<i64>,
    ends: Vec<u32>,
    /// By slot.
    columns: Vec<CutColumn>,
}

#[derive(Debug, Default)]
struct CutColumn {
    /// The group has no value of the field.
    is_absent: bool,
    /// Of the values in `stretches`; none if the column was not folded.
    exponent: Option<u8>,
    stretches: Vec<Stretch>,
}

impl Cut {
    /// Folds the columns for whose slot `asked` gives the field and what to find.
    fn read(
        &mut self,
        open: &Open,
        group: &RowGroup,
        buckets: &Buckets,
        asked: impl Fn(usize) -> Option<(FieldId, Wanted)>,
    ) -> Result<(), SegmentError> {
        let mut blocks = open.segment.blocks(group)?;
        self.times.clear();
        for (slot, column) in self.columns.iter_mut().enumerate() {
            (column.is_absent, column.exponent) = (false, None);
            let Some((field, wanted)) = asked(slot) else { continue };
            let Some(block) = blocks.find(field)? else {
                column.is_absent = true;
                continue;
            };
            if self.times.is_empty() {
                blocks.times(&mut self.times)?;
                buckets.cut(&self.times, &mut self.starts, &mut self.ends);
            }
            column.exponent = blocks.fold(&block, &self.ends, wanted, &mut column.stretches)?.ok();
        }
        Ok(())
    }
}

impl FoldSink<'_, '_> {
    /// Answers groups that are inside from statistics, field by field; decodes blocks that have none, or not enough.
    fn add_from_statistics(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        let (scan, open, frame) = (self.scan, source.open, self.frame);
        for (slot, field) in scan.plan.ids.iter().enumerate() {
            let mut known = Vec::with_capacity(source.groups.len());
            if self.found.fields[slot].cells.statistics_suffice() {
                let read = scan.read_from(source.source, open, |open| {
                    known.clear();
                    open.segment.statistics_of(source.groups, *field, |_, block| known.push(block))
                })?;
                if let Err(error) = read {
                    // The blocks still hold all there is to know.
                    scan.losses.report(&error);
                }
            }
            known.resize(source.groups.len(), None);
            for (i, group) in source.groups.iter().enumerate() {
                let own = &mut self.found.fields[slot];
                let next = known.get(i + 1).and_then(Option::as_ref).and_then(|b| Number::of(&b.first.1));
                match (&known[i], &mut own.curve) {
                    (Some(block), None) => {
                        own.cells.add_statistics(frame.buckets.start(group.first_time), block);
                    }
                    (Some(block), Some(curve)) if curve.takes(block, next) => {
                        curve.block(frame, block)?;
                        own.cells.add_statistics(frame.buckets.start(group.first_time), block);
                    }
                    _ => {
                        self.decode(source, group, slot..slot + 1, range)?;
                        continue;
                    }
                }
                scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
            }
            self.found.hold(scan.budget)?;
        }
        Ok(())
    }

    /// Adds all fields of a group: folded where that says enough, else decoded.
    fn add(
        &mut self,
        source: GroupSource<'_>,
        group: &RowGroup,
        range: &Range<i64>,
    ) -> Result<(), QueryError> {
        let (scan, asked) = (self.scan, self.frame.asked);
        let slots = 0..self.found.fields.len();
        let is_whole = !group.compact
            && group.first_time >= asked.start.max(range.start)
            && group.last_time < asked.end.min(range.end);
        if !is_whole || self.found.fields.iter().all(|field| field.folds().is_none()) {
            return self.decode(source, group, slots, range);
        }
        let (cut, fields) = (&mut self.cut, &self.found.fields);
        let read = scan.read_from(source.source, source.open, |open| {
            cut.read(open, group, self.frame.buckets, |slot| {
                Some((scan.plan.ids[slot], fields[slot].folds()?))
            })
        })?;
        if read.is_err() {
            // Decoding tells what is lost and takes the rest.
            return self.decode(source, group, slots, range);
        }
        let folded = self.cut.columns.iter().filter(|column| column.exponent.is_some()).count() as u64;
        if folded > 0 {
            scan.budget.blocks_decoded.fetch_add(folded + 1, Ordering::Relaxed);
            scan.budget.scan(u64::from(group.rows), u64::from(group.rows) * folded)?;
        }
        for slot in slots {
            let column = &self.cut.columns[slot];
            match column.exponent {
                Some(exponent) => {
                    let Cut { times, starts, ends, .. } = &self.cut;
                    let cells = &mut self.found.fields[slot].cells;
                    cells.add_folded(times, starts, ends, &column.stretches, exponent);
                }
                None if column.is_absent => {}
                None => self.decode(source, group, slot..slot + 1, range)?,
            }
        }
        self.found.hold(scan.budget)
    }

    /// Adds the fields `slots` of a group from its blocks.
    fn decode(
        &mut self,
        source: GroupSource<'_>,
        group: &RowGroup,
        slots: Range<usize>,
        range: &Range<i64>,
    ) -> Result<(), QueryError> {
        self.scan.decode(source.source, source.open, group, slots.clone(), self.block, |_| {})?;
        let rows = self.block.rows_in(range);
        for slot in slots.filter(|slot| self.block.present[*slot]) {
            let column = &self.block.columns[slot];
            let (times, field) = (&self.block.times, &mut self.found.fields[slot]);
            field.add_rows(self.frame, times, column, rows.clone(), &mut self.scratch)?;
        }
        // After each group: the buckets of one are all that is ever in hand unseen.
        self.found.hold(self.scan.budget)
    }
}

impl Sink for FoldSink<'_, '_> {
    fn part(&mut self, field: FieldId) -> Result<(), QueryError> {
        let slot = self.scan.plan.slot(field);
        let curve = slot.and_then(|slot| self.found.fields[slot].curve.as_mut());
        curve.map_or(Ok(()), |curve| curve.end_series(self.frame))
    }

    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        for (field, column) in &rows.columns {
            if let Some(slot) = self.scan.plan.slot(*field) {
                let field = &mut self.found.fields[slot];
                field.add_rows(self.frame, &rows.times, column, range.clone(), &mut self.scratch)?;
            }
        }
        self.found.hold(self.scan.budget)
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        let (buckets, asked) = (self.frame.buckets, self.frame.asked);
        let inside = |group: &RowGroup| is_inside(buckets, group, asked, range);
        for alike in source.groups.chunk_by(|a, b| inside(a) == inside(b)) {
            if inside(&alike[0]) {
                self.add_from_statistics(GroupSource { groups: alike, ..source }, range)?;
            } else {
                for group in alike {
                    self.scan.budget.check()?;
                    self.add(source, group, range)?;
                }
            }
        }
        Ok(())
    }
}
