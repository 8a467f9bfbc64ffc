//! What a query would read, without reading it: the choices of `scan`, `filter` and `fold`, told in numbers.
//!
//! Only the index and the statistics are looked at; no block is decoded. So what depends on values is told from above: a
//! group that another one overlaps counts as merged, although no row of both may share a time; with a limit on rows, less
//! may be read than is told here.

use super::budget::Budget;
use super::error::QueryError;
use super::filter::{Filter, FilterSink, Verdict};
use super::fold::is_inside;
use super::parallel;
use super::plan::{Plan, buckets, is_defined};
use super::prune::{Losses, Opened, Sources};
use super::request::{Aggregate, Function, QueryControl, QueryLimits, QueryRequest};
use super::scan::{GroupSource, Scan, Sink};
use super::{Buckets, fold, fold_parts};
use crate::column::SeriesRows;
use crate::feed::Cursor;
use crate::ids::SeriesId;
use crate::segment::{BlockStatistics, RowGroup};
use crate::snapshot::Snapshot;
use std::ops::Range;
use wattlog_model::FieldType;

/// What a query would do. Row groups are those of the asked series in the segments that are read; each is counted in
/// one of `groups_outside`, `groups_merged`, `groups_pruned`, `groups_judged` and `groups_whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Explanation {
    /// Place in the commit order up to which the answer would see.
    pub as_of: Cursor,
    /// Series of the store that are asked, and those of the answer that they are grouped in.
    pub series: u64,
    pub answer_series: u64,
    /// Segments that are looked into, those of them that cannot be read, and those left out by time or measurement.
    pub segments: u64,
    pub segments_lost: u64,
    pub segments_pruned: u64,
    /// Rows that are still in memory.
    pub rows_in_memory: u64,
    /// Row groups outside of the range.
    pub groups_outside: u64,
    /// Row groups that meet others or rows in memory: decoded and merged, never answered from statistics.
    pub groups_merged: u64,
    /// Row groups in which, by their statistics, no row satisfies the condition.
    pub groups_pruned: u64,
    /// Row groups of which rows must be looked at to tell which satisfy the condition.
    pub groups_judged: u64,
    /// Row groups that are taken as they are.
    pub groups_whole: u64,
    /// Of the last: field blocks that statistics answer, and field blocks that are decoded.
    pub blocks_from_statistics: u64,
    pub blocks_decoded: u64,
    /// Threads that would work at it.
    pub threads: u64,
}

/// Tells what [`super::run`] would do for points and functions.
///
/// # Errors
/// Those of the query that need no block: names, limits on series, a bad condition or bucket.
pub fn explain(
    snapshot: &Snapshot,
    request: &QueryRequest,
    limits: &QueryLimits,
    control: &QueryControl,
) -> Result<Explanation, QueryError> {
    let budget = Budget::new(limits, control);
    budget.check()?;
    let aggregate = buckets(request)?;
    let mut told = Explanation { as_of: snapshot.cursor(), ..Explanation::default() };
    let Some(mut plan) = Plan::new(snapshot, request, limits, &budget)? else { return Ok(told) };
    let filter = Filter::new(snapshot.catalog(), request, &mut plan)?;
    let sources = Sources::new(snapshot, &plan);
    let losses = Losses::new(snapshot, plan.range.clone());
    let scan = Scan {
        snapshot,
        plan: &plan,
        filter: filter.as_ref(),
        prices: None,
        sources: &sources,
        losses: &losses,
        budget: &budget,
    };
    told.series = plan.series.len() as u64;
    told.answer_series = plan.groups.len() as u64;
    told.segments = sources.list.len() as u64;
    told.segments_pruned = sources.pruned;
    for source in &sources.list {
        told.segments_lost += u64::from(matches!(source.open(scan.wide().plan, &losses)?, Opened::Lost));
    }
    let parts = match &aggregate {
        Some((aggregate, buckets)) => fold_parts(&plan).1 * fold::slices(scan, aggregate, buckets).len(),
        None => plan.groups.len(),
    };
    told.threads = parallel::threads(scan, parts) as u64;
    for series in &plan.series {
        Series { scan, series: *series, aggregate: aggregate.as_ref().map(|(a, b)| (&**a, b)) }
            .explain(&mut told)?;
    }
    Ok(told)
}

/// One series of a query.
struct Series<'a> {
    scan: Scan<'a>,
    series: SeriesId,
    aggregate: Option<(&'a Aggregate, &'a Buckets)>,
}

impl Series<'_> {
    fn explain(&self, told: &mut Explanation) -> Result<(), QueryError> {
        let Self { scan, series, .. } = *self;
        let range = &scan.plan.range;
        let pieces = scan.pieces(series, range)?;
        told.rows_in_memory += pieces.rows_in_memory() as u64;
        told.groups_outside += self.groups_at_all()?.saturating_sub(pieces.groups.len() as u64);
        let alone = pieces.alone();
        let mut at = 0;
        for batch in pieces.groups.chunk_by(|a, b| a.precedence == b.precedence) {
            let own = &alone[at..at + batch.len()];
            at += batch.len();
            told.groups_merged += own.iter().filter(|alone| !**alone).count() as u64;
            let groups: Vec<RowGroup> =
                batch.iter().zip(own).filter(|(_, alone)| **alone).map(|(piece, _)| piece.group).collect();
            let source = &scan.sources.list[batch[0].precedence];
            if groups.is_empty() {
                continue;
            }
            scan.budget.check()?;
            if let Opened::Rows(open) = source.open(scan.wide().plan, scan.losses)? {
                self.groups(GroupSource { source, open: &open, groups: &groups }, told)?;
            }
        }
        Ok(())
    }

    /// Row groups of the series in the segments that are read, whatever their time.
    fn groups_at_all(&self) -> Result<u64, QueryError> {
        let mut count = 0;
        for source in &self.scan.sources.list {
            let Opened::Rows(open) = source.open(self.scan.wide().plan, self.scan.losses)? else { continue };
            // A loss shows when the groups within the range are looked for.
            _ = self.scan.read_from(source, &open, |open| {
                open.segment.for_each_group(&open.section, self.series, i64::MIN..i64::MAX, |_| count += 1)
            })?;
        }
        Ok(count)
    }

    /// Groups that meet nothing else.
    fn groups(&self, source: GroupSource<'_>, told: &mut Explanation) -> Result<(), QueryError> {
        let verdicts = match self.scan.filter {
            None => vec![Verdict::Always; source.groups.len()],
            Some(filter) => match FilterSink::new(self.scan, filter, self.series, &mut Nobody) {
                Ok(sink) => sink.judge(source)?,
                Err(_) => vec![Verdict::Always; source.groups.len()],
            },
        };
        let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count() as u64;
        told.groups_pruned += count(Verdict::Never);
        told.groups_judged += count(Verdict::Maybe);
        told.groups_whole += count(Verdict::Always);
        let whole = source.groups.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Always);
        let groups: Vec<RowGroup> = whole.map(|(group, _)| *group).collect();
        self.whole(GroupSource { groups: &groups, ..source }, told)
    }

    fn whole(&self, source: GroupSource<'_>, told: &mut Explanation) -> Result<(), QueryError> {
        let scan = self.scan;
        for field in &scan.plan.fields {
            let mut known: Vec<Option<BlockStatistics>> = Vec::new();
            let read = scan.read_from(source.source, source.open, |open| {
                known.clear();
                open.segment.statistics_of(source.groups, field.def.id, |_, block| known.push(block))
            })?;
            let in_section = source.open.section.field_place(field.def.id).is_some();
            known.resize(source.groups.len(), None);
            for (group, block) in source.groups.iter().zip(&known) {
                // Of texts there are blocks without statistics, and what cannot be read has to be decoded.
                let is_there = block.is_some()
                    || in_section
                        && (group.compact || read.is_err() || field.def.field_type == FieldType::String);
                let defined = |function: &&Function| is_defined(**function, &field.def);
                let told_by_statistics =
                    self.aggregate.zip(block.as_ref()).is_some_and(|((aggregate, buckets), block)| {
                        is_inside(buckets, group, &scan.plan.asked, &scan.plan.range)
                            && aggregate
                                .functions
                                .iter()
                                .filter(defined)
                                .all(|f| f.is_told_by(block, aggregate))
                    });
                told.blocks_from_statistics += u64::from(told_by_statistics);
                told.blocks_decoded += u64::from(is_there && !told_by_statistics);
            }
        }
        Ok(())
    }
}

impl Function {
    /// Whether the statistics of a block that lies in one bucket say all there is to know, as far as they tell themselves.
    fn is_told_by(self, block: &BlockStatistics, aggregate: &Aggregate) -> bool {
        match self {
            Self::Cost
            | Self::Priced
            | Self::Stddev
            | Self::Median
            | Self::Quantile(_)
            | Self::Mode
            | Self::Distinct => false,
            Self::Integral | Self::Twa | Self::Coverage => block.longest_gap_ns <= aggregate.max_gap_ns,
            Self::Increase | Self::Rate => block.negative_deltas == 0,
            Self::Count
            | Self::Sum
            | Self::Mean
            | Self::Min
            | Self::Max
            | Self::First
            | Self::Last
            | Self::Spread => true,
        }
    }
}

/// Takes nothing: a plan hands on no rows.
struct Nobody;

impl Sink for Nobody {
    fn rows(&mut self, _: &SeriesRows, _: Range<usize>) -> Result<(), QueryError> {
        Ok(())
    }

    fn groups(&mut self, _: GroupSource<'_>, _: &Range<i64>) -> Result<(), QueryError> {
        Ok(())
    }
}
