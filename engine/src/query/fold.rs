//! Aggregates: rows and groups of series into accumulators, and accumulators into columns.
//!
//! A group that lies in one bucket and within the range, and meets nothing else, is answered from its statistics; all
//! others are decoded, and of them only the columns asked for.

use super::aggregate::Accumulator;
use super::bucket::Buckets;
use super::budget::Budget;
use super::error::QueryError;
use super::request::Function;
use super::scan::{Block, GroupSource, Scan, Sink};
use crate::column::SeriesRows;
use crate::ids::SeriesId;
use crate::segment::RowGroup;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Accumulators of one group of series.
#[derive(Debug)]
pub(super) struct Accumulators {
    /// By slot of the plan.
    pub(super) fields: Vec<Accumulator>,
    /// Bytes of them that the budget knows of.
    held: u64,
}

impl Accumulators {
    /// Empty ones for the fields of a plan.
    pub(super) fn new(scan: Scan<'_>, functions: &[Function]) -> Result<Self, QueryError> {
        let mut fields: Vec<Option<Accumulator>> = (0..scan.plan.ids.len()).map(|_| None).collect();
        for field in &scan.plan.fields {
            fields[field.slot] = Some(Accumulator::new(functions, field.def.field_type));
        }
        let mut new = Self { fields: fields.into_iter().flatten().collect(), held: 0 };
        new.hold(scan.budget)?;
        Ok(new)
    }

    /// Adds the buckets of later series of the same group.
    pub(super) fn join(&mut self, other: Self, budget: &Budget<'_>) -> Result<(), QueryError> {
        for (own, other) in self.fields.iter_mut().zip(other.fields) {
            own.merge(other);
        }
        budget.let_go(other.held);
        self.hold(budget)
    }

    /// Tells the budget how large they have become.
    fn hold(&mut self, budget: &Budget<'_>) -> Result<(), QueryError> {
        let most = self.fields.iter().map(|field| field.keys().len()).max().unwrap_or(0);
        budget.allow_buckets(most as u64)?;
        let bytes = self.fields.iter().map(Accumulator::bytes).sum();
        budget.hold_instead(&mut self.held, bytes)
    }
}

/// The buckets of one series.
pub(super) fn series<'a>(
    scan: Scan<'a>,
    series: SeriesId,
    functions: &[Function],
    buckets: &'a Buckets,
    block: &mut Block,
) -> Result<Accumulators, QueryError> {
    let mut sink =
        FoldSink { scan, buckets, found: Accumulators::new(scan, functions)?, block, scratch: Vec::new() };
    scan.run(series, &scan.plan.range, &mut sink)?;
    Ok(sink.found)
}

/// First instants of all buckets in which a field has a value, rising.
pub(super) fn bucket_keys(fields: &[Accumulator]) -> Vec<i64> {
    let mut keys: Vec<i64> = Vec::new();
    for field in fields {
        if keys.is_empty() {
            keys.extend_from_slice(field.keys());
        } else if keys != field.keys() {
            keys.extend_from_slice(field.keys());
            keys.sort_unstable();
            keys.dedup();
        }
    }
    keys
}

/// Whether the group lies in one bucket and within the range.
fn is_inside(buckets: &Buckets, group: &RowGroup, range: &Range<i64>) -> bool {
    !group.compact
        && group.first_time >= range.start
        && group.last_time < range.end
        && group.last_time < buckets.of(group.first_time).end
}

struct FoldSink<'a, 'b> {
    scan: Scan<'a>,
    buckets: &'a Buckets,
    found: Accumulators,
    block: &'b mut Block,
    scratch: Vec<i64>,
}

impl FoldSink<'_, '_> {
    /// Answers groups that are inside from statistics, field by field; decodes blocks that have none.
    fn add_from_statistics(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        let (scan, open) = (self.scan, source.open);
        for (slot, field) in scan.plan.ids.iter().enumerate() {
            let mut known = Vec::with_capacity(source.groups.len());
            let read = scan.read_from(source.source, open, |open| {
                known.clear();
                open.segment.statistics_of(source.groups, *field, |_, block| known.push(block))
            })?;
            if let Err(error) = read {
                // The blocks still hold all there is to know.
                scan.losses.report(&error);
            }
            known.resize(source.groups.len(), None);
            for (group, block) in source.groups.iter().zip(known) {
                if let Some(block) = block {
                    scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
                    self.found.fields[slot].add_statistics(self.buckets.start(group.first_time), &block);
                } else {
                    self.decode(source, group, slot..slot + 1, range)?;
                }
            }
            self.found.hold(scan.budget)?;
        }
        Ok(())
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
            self.found.fields[slot].add_rows(
                self.buckets,
                &self.block.times,
                column,
                rows.clone(),
                &mut self.scratch,
            );
        }
        // After each group: the buckets of one are all that is ever in hand unseen.
        self.found.hold(self.scan.budget)
    }
}

impl Sink for FoldSink<'_, '_> {
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        for (field, column) in &rows.columns {
            if let Some(slot) = self.scan.plan.slot(*field) {
                self.found.fields[slot].add_rows(
                    self.buckets,
                    &rows.times,
                    column,
                    range.clone(),
                    &mut self.scratch,
                );
            }
        }
        self.found.hold(self.scan.budget)
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        let buckets = self.buckets;
        let inside = |group: &RowGroup| is_inside(buckets, group, range);
        for alike in source.groups.chunk_by(|a, b| inside(a) == inside(b)) {
            if inside(&alike[0]) {
                self.add_from_statistics(GroupSource { groups: alike, ..source }, range)?;
            } else {
                for group in alike {
                    self.scan.budget.check()?;
                    self.decode(source, group, 0..self.found.fields.len(), range)?;
                }
            }
        }
        Ok(())
    }
}
