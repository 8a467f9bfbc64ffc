//! Queries: a request in, columns out, from one immutable snapshot.
//!
//! Flow: names to ids (`plan`), segments by time (`prune`), per series a scan in time order (`scan`) that merges only
//! where ranges overlap (`merge`); what comes out is kept as rows (`raw`), as the newest values (`last`) or in buckets
//! (`fold`, `aggregate`, `bucket`, `kernel`), or thinned out for a drawing (`picture`), or handed over piece by piece (`export`). A condition on rows (`condition`) stands between the scan and those (`filter`).
//!
//! Promise: an answer speaks of one snapshot, whole; it does not depend on what is sealed, how rows were cut into
//! blocks, or how many threads computed it. What cannot be read is told as a [`PartialRange`]; it is never replaced by
//! an older or another value. Reaching a limit is an error that names it.
//!
//! Invariants
//! 1. Statistics answer only for a block whose time range meets no other block of the same series in this snapshot.
//! 2. Series are computed in parts whose borders do not depend on the number of threads, and joined in order.
//!
//! Not here: what a text of a request means (the server), how an answer is written (the server).

mod aggregate;
mod answer;
mod bucket;
mod budget;
mod condition;
mod curve;
mod deviation;
mod error;
mod explain;
mod export;
mod expression;
mod fill;
mod filter;
mod fold;
mod kernel;
mod last;
mod last_counted;
mod memory;
mod merge;
mod parallel;
mod picture;
mod plan;
mod prices;
mod prune;
mod raw;
mod request;
mod result;
mod rewrite;
mod scan;
mod steps;
mod version;
mod zone;

pub use bucket::Buckets;
pub use condition::{Comparison, Condition, Literal, Name, Operator};
pub use error::QueryError;
pub use explain::{Explanation, explain};
pub use export::{ExportHead, ExportSink, Exported, OnDamage, export};
pub use expression::{Arithmetic, Computed, Expression};
pub use memory::{QueryCharge, QueryMemory};
pub(crate) use merge::slice;
pub(crate) use plan::{compile_filter, namespace};
pub use prune::time_range;
pub use request::{
    Aggregate, CancelFlag, Every, Fill, Function, GroupBy, HistogramEdges, Order, OutputUnit, PriceSource,
    QueryControl, QueryLimits, QueryRequest, Shape, Step, TagFilter, TagPredicate, UnknownFunction,
};
pub use result::{PartialRange, QueryResult, QueryStats, ResultColumn, ResultSeries, ResultValues};
pub(crate) use rewrite::{MergeError, MergeSink, merge_series};
pub use version::version;
pub use zone::Zone;

use crate::ids::SeriesId;
use crate::snapshot::Snapshot;
use budget::Budget;
use filter::Filter;
use plan::Plan;
use prices::Prices;
use prune::{Losses, Sources};
use scan::{Block, Scan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Answers `request` from `snapshot`.
///
/// An unknown measurement or field has no rows; an unknown database is an error.
///
/// # Errors
/// See [`QueryError`]. Damage is none: it makes the answer partial.
pub fn run(
    snapshot: &Snapshot,
    request: &QueryRequest,
    limits: &QueryLimits,
    control: &QueryControl,
) -> Result<QueryResult, QueryError> {
    if !request.steps.is_empty() {
        return run_steps(snapshot, request, limits, control);
    }
    let began = Instant::now();
    let budget = Budget::new(limits, control);
    budget.check()?;
    let aggregate = plan::buckets(request)?;
    let mut stats = QueryStats { as_of: snapshot.cursor(), ..QueryStats::default() };
    let Some(mut plan) = Plan::new(snapshot, request, limits, &budget)? else {
        stats.elapsed_us = began.elapsed().as_micros() as u64;
        return Ok(QueryResult { stats, ..QueryResult::default() });
    };
    let filter = Filter::new(snapshot.catalog(), request, &mut plan)?;
    let (prices, mut partial) = match Prices::load(snapshot, request, limits, control)? {
        Some((prices, partial)) => (Some(Arc::new(prices)), partial),
        None => (None, Vec::new()),
    };
    let sources = Sources::new(snapshot, &plan);
    let losses = Losses::new(snapshot, plan.range.clone());
    let scan = Scan {
        snapshot,
        plan: &plan,
        filter: filter.as_ref(),
        prices: prices.as_ref(),
        sources: &sources,
        losses: &losses,
        budget: &budget,
    };
    let series = match (&request.shape, aggregate) {
        _ if request.limit == Some(0) => Vec::new(),
        (Shape::Last, _) => newest(scan)?,
        (_, Some((aggregate, buckets))) => {
            let groups = fold_all(scan, &aggregate, &buckets)?;
            match request.shape {
                Shape::Pixels(_) => picture::points(scan, request, groups)?,
                _ => answer::buckets(scan, request, &aggregate, &buckets, groups)?,
            }
        }
        (_, None) => points(scan, request)?,
    };
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    stats.series = plan.series.len() as u64;
    stats.points_scanned = read(&budget.points_scanned);
    stats.blocks_decoded = read(&budget.blocks_decoded);
    stats.blocks_from_statistics = read(&budget.blocks_from_statistics);
    stats.groups_pruned = read(&budget.groups_pruned);
    stats.segments_pruned = sources.pruned;
    stats.elapsed_us = began.elapsed().as_micros() as u64;
    partial.extend(losses.into_ranges(filter.as_ref().map_or(&plan, |filter| &filter.wide)));
    Ok(QueryResult { series, partial, stats })
}

/// The same for a request with steps: the answer without them, all of it and oldest first, is what they are taken on.
fn run_steps(
    snapshot: &Snapshot,
    request: &QueryRequest,
    limits: &QueryLimits,
    control: &QueryControl,
) -> Result<QueryResult, QueryError> {
    let began = Instant::now();
    steps::check(request)?;
    let plain = QueryRequest {
        steps: Vec::new(),
        order: Order::Ascending,
        limit: request.limit.filter(|limit| *limit == 0),
        ..request.clone()
    };
    let mut result = run(snapshot, &plain, limits, control)?;
    // What was held for the answer so far is counted anew.
    control.memory.let_go(u64::MAX);
    result.series = steps::apply(result.series, request, &Budget::new(limits, control))?;
    result.stats.elapsed_us = began.elapsed().as_micros() as u64;
    Ok(result)
}

/// Points of every group.
fn points(scan: Scan<'_>, request: &QueryRequest) -> Result<Vec<ResultSeries>, QueryError> {
    let plan = scan.plan;
    let groups = parallel::map(scan, plan.groups.len(), |i| {
        let members = &plan.series[plan.groups[i].members.clone()];
        let mut rows = raw::Rows::new(plan);
        for series in members {
            rows.extend(raw::series_rows(scan, *series, request.order, request.limit)?);
        }
        if members.len() > 1 {
            rows.sort(request.order);
            rows.keep(request.limit.unwrap_or(usize::MAX), scan.budget);
        }
        if rows.len() > 0 {
            scan.budget.hold_bytes(answer::frame_bytes(plan, &plan.groups[i]))?;
        }
        Ok(answer::points(plan, &plan.groups[i], rows))
    })?;
    Ok(groups.into_iter().flatten().collect())
}

/// The newest values of every group.
fn newest(scan: Scan<'_>) -> Result<Vec<ResultSeries>, QueryError> {
    let plan = scan.plan;
    let groups = parallel::map(scan, plan.groups.len(), |i| {
        let mut all: last::Newest = vec![None; plan.ids.len()];
        for series in &plan.series[plan.groups[i].members.clone()] {
            last::join(&mut all, newest_of(scan, *series)?);
        }
        scan.budget.answer_rows(1)?;
        scan.budget.hold_bytes(2 * answer::frame_bytes(plan, &plan.groups[i]))?;
        Ok(answer::newest(plan, &plan.groups[i], all))
    })?;
    Ok(groups.into_iter().flatten().collect())
}

fn newest_of(scan: Scan<'_>, series: SeriesId) -> Result<last::Newest, QueryError> {
    if scan.filter.is_some() { last_counted::newest(scan, series) } else { last::newest(scan, series) }
}

/// Series of a part, and number of parts. They depend on the number of series alone: sums of floats that are no decimals
/// round alike everywhere. (Parts of time do not matter to them: see `fold::slices`.)
fn fold_parts(plan: &Plan) -> (usize, usize) {
    let part_len = (plan.series.len() / 64).max(1);
    (part_len, plan.series.len().div_ceil(part_len))
}

/// Buckets of every group, in the order of the groups.
fn fold_all(
    scan: Scan<'_>,
    aggregate: &Aggregate,
    buckets: &Buckets,
) -> Result<Vec<fold::Accumulators>, QueryError> {
    let plan = scan.plan;
    let (part_len, parts) = fold_parts(plan);
    let slices = fold::slices(scan, aggregate, buckets);
    let group_of = |at: usize| plan.groups.partition_point(|group| group.members.end <= at);
    let parts = parallel::map(scan, parts * slices.len(), |part| {
        let mut block = Block::default();
        let mut out: Vec<(usize, fold::Accumulators)> = Vec::new();
        let (part, slice) = (part / slices.len(), &slices[part % slices.len()]);
        for at in part * part_len..((part + 1) * part_len).min(plan.series.len()) {
            let found = fold::series(scan, plan.series[at], aggregate, buckets, slice, &mut block)?;
            match out.last_mut() {
                Some((group, known)) if *group == group_of(at) => known.join(found, scan.budget)?,
                _ => out.push((group_of(at), found)),
            }
        }
        Ok(out)
    })?;
    let empty = |_: &plan::Group| fold::Accumulators::new(scan, aggregate);
    let mut groups = plan.groups.iter().map(empty).collect::<Result<Vec<_>, _>>()?;
    for (group, found) in parts.into_iter().flatten() {
        scan.budget.check()?;
        groups[group].join(found, scan.budget)?;
    }
    Ok(groups)
}
