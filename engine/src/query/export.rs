//! Exports: raw rows of any number, in pieces, so that no answer is ever held as a whole.
//!
//! Promise: the rows, their order and their values are those of the same request answered whole; all pieces are of one
//! snapshot. Memory does not grow with the range: see [`Pace`].
//!
//! Invariants
//! 1. Pieces of a series rise in time and do not overlap; series follow each other in the order of an answer.
//! 2. Every piece has all columns of the head, whether they have a value in it or not.
//! 3. A block that cannot be read ends the export with [`QueryError::Damaged`], before a row behind it is handed over,
//!    unless the caller asked to go on without it.

use super::answer;
use super::budget::Budget;
use super::error::QueryError;
use super::filter::Filter;
use super::plan::{Group, Plan};
use super::prune::{Losses, Sources};
use super::raw::{self, Rows};
use super::request::{Order, QueryControl, QueryLimits, QueryRequest, Shape};
use super::result::{PartialRange, QueryStats, ResultSeries};
use super::scan::Scan;
use crate::feed::Cursor;
use crate::snapshot::Snapshot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wattlog_model::Unit;

/// What is known before the first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHead {
    /// Where the change feed goes on behind the snapshot that the rows are of.
    pub as_of: Cursor,
    /// Tag keys of all series together, rising.
    pub tag_keys: Vec<String>,
    /// Names and units of the columns of every piece, `time` first.
    pub columns: Vec<(String, Option<Unit>)>,
}

/// Takes an export. An error ends it and is what [`export`] gives.
pub trait ExportSink {
    /// Once, before all pieces, also if there are none.
    fn head(&mut self, head: &ExportHead) -> Result<(), QueryError>;
    /// Rows of one series, at least one.
    fn piece(&mut self, piece: ResultSeries) -> Result<(), QueryError>;
}

/// How an export went.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// What is missing; empty unless damage was to be left out.
    pub partial: Vec<PartialRange>,
    /// What was read.
    pub stats: QueryStats,
}

/// What to do about rows that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// End the export.
    Stop,
    /// Leave them out, and tell at the end.
    LeaveOut,
}

/// Hands all rows of `request` to `sink`.
///
/// # Errors
/// [`QueryError::NotRows`] for a request that is not one for raw rows, oldest first, without a limit; of the limits only
/// those of series and of memory hold (the latter for one piece). What the sink gives.
pub fn export(
    snapshot: &Snapshot,
    request: &QueryRequest,
    limits: &QueryLimits,
    control: &QueryControl,
    on_damage: OnDamage,
    sink: &mut dyn ExportSink,
) -> Result<Exported, QueryError> {
    let is_rows = request.shape == Shape::Raw && request.steps.is_empty();
    if !is_rows || request.order != Order::Ascending || request.limit.is_some() {
        return Err(QueryError::NotRows);
    }
    let began = Instant::now();
    let limits = &QueryLimits { max_scanned: u64::MAX, max_points: u64::MAX, ..*limits };
    let mut stats = QueryStats { as_of: snapshot.cursor(), ..QueryStats::default() };
    let budget = Budget::new(limits, control);
    let Some(mut plan) = Plan::new(snapshot, request, limits, &budget)? else {
        sink.head(&ExportHead { as_of: stats.as_of, tag_keys: Vec::new(), columns: vec![time_column()] })?;
        return Ok(Exported { stats, ..Exported::default() });
    };
    plan.named = true;
    let filter = Filter::new(snapshot.catalog(), request, &mut plan)?;
    let sources = Sources::new(snapshot, &plan);
    let losses = Losses::new(snapshot, plan.range.clone());
    let (plan, filter) = (&plan, filter.as_ref());
    let scan =
        Scan { snapshot, plan, filter, prices: None, sources: &sources, losses: &losses, budget: &budget };
    sink.head(&head(plan, stats.as_of))?;
    let mut partial = Vec::new();
    for group in &plan.groups {
        rows_of(scan, group, limits, control, &mut stats, &mut |piece, missing| {
            if let (OnDamage::Stop, Some(first)) = (on_damage, missing.first()) {
                return Err(QueryError::Damaged(first.reason.clone()));
            }
            join(&mut partial, missing);
            piece.map_or(Ok(()), |piece| sink.piece(piece))
        })?;
    }
    stats.series = plan.series.len() as u64;
    stats.segments_pruned = sources.pruned;
    stats.elapsed_us = began.elapsed().as_micros() as u64;
    Ok(Exported { partial, stats })
}

/// Adds what a piece misses; what is missing of one field in one segment is told as one stretch.
fn join(partial: &mut Vec<PartialRange>, missing: Vec<PartialRange>) {
    for range in missing {
        match partial.iter_mut().find(|known| (known.segment, &known.field) == (range.segment, &range.field))
        {
            Some(known) => {
                known.first = known.first.min(range.first);
                known.last = known.last.max(range.last);
            }
            None => partial.push(range),
        }
    }
}

fn time_column() -> (String, Option<Unit>) {
    ("time".to_owned(), None)
}

fn head(plan: &Plan, as_of: Cursor) -> ExportHead {
    let mut tag_keys: Vec<String> =
        plan.groups.iter().flat_map(|group| group.tags.iter().map(|(key, _)| key.clone())).collect();
    tag_keys.sort_unstable();
    tag_keys.dedup();
    let fields = plan.fields.iter().map(|field| (field.def.name.to_string(), field.def.unit.clone()));
    ExportHead { as_of, tag_keys, columns: std::iter::once(time_column()).chain(fields).collect() }
}

/// How much time a piece covers: so much that it has about half as many cells and bytes as it may have. Data may be denser
/// there than it was before; a piece with too many rows is given up and a shorter one read, so that memory stays bounded.
#[derive(Debug)]
struct Pace {
    width_ns: i64,
    most_rows: u64,
}

impl Pace {
    /// Cells of a piece, times among them: 64 Ki.
    const MOST_CELLS: u64 = 65_536;
    /// Bytes that a piece aims to stay below, its texts as if none were shared: 16 MiB.
    const MOST_BYTES: u64 = 16 << 20;
    /// Rows of each series of a group that a piece may have at least, whatever they take: all may have one at one instant.
    const LEAST_ROWS: u64 = 16;
    /// Where to begin: an hour.
    const FIRST_NS: i64 = 3_600_000_000_000;
    /// Below this a piece is not given up for its bytes: what it takes then is not its own rows.
    const LEAST_NS: i64 = 1_000_000_000;
    /// A width changes by no more than this at a time.
    const STEP: i64 = 8;

    fn new(columns: usize, series: usize) -> Self {
        let most_rows = Self::MOST_CELLS / (columns as u64 + 1);
        Self { width_ns: Self::FIRST_NS, most_rows: most_rows.max(64).max(Self::LEAST_ROWS * series as u64) }
    }

    fn limits(&self, limits: &QueryLimits) -> QueryLimits {
        // What is there at one instant cannot be cut further.
        if self.width_ns == 1 {
            return *limits;
        }
        QueryLimits { max_points: self.most_rows, ..*limits }
    }

    /// True if a shorter piece may do where this one met `error`.
    fn shorten(&mut self, error: &QueryError) -> bool {
        let least = match error {
            QueryError::TooManyPoints { .. } => 1,
            QueryError::TooManyBytes { .. } => Self::LEAST_NS,
            _ => return false,
        };
        let was = self.width_ns;
        self.width_ns = (was / Self::STEP).max(1);
        was > least
    }

    fn adjust(&mut self, rows: u64, bytes: u64) {
        let width = i128::from(self.width_ns);
        let by_rows = width * i128::from(self.most_rows / 2) / i128::from(rows.max(1));
        let by_bytes = width * i128::from(Self::MOST_BYTES / 2) / i128::from(bytes.max(1));
        let step = i128::from(Self::STEP);
        let kept = by_rows.min(by_bytes).clamp(width / step, width * step).clamp(1, i128::from(i64::MAX));
        self.width_ns = kept as i64;
    }
}

/// For how long a piece waits for memory that other queries hold, looking so often: what was begun is not to fail because
/// they do for a while.
const MEMORY_WAIT: Duration = Duration::from_secs(30);
const MEMORY_LOOK: Duration = Duration::from_millis(20);

/// Hands over the rows of a group, and what is missing beside them; `visit` is also called for a stretch without rows.
fn rows_of(
    scan: Scan<'_>,
    group: &Group,
    limits: &QueryLimits,
    control: &QueryControl,
    stats: &mut QueryStats,
    visit: &mut dyn FnMut(Option<ResultSeries>, Vec<PartialRange>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let (plan, whole) = (scan.plan, &scan.plan.range);
    let wide = scan.wide().plan;
    let members = &plan.series[group.members.clone()];
    let mut pace = Pace::new(plan.ids.len(), members.len());
    let mut refused: Option<Instant> = None;
    let mut start = whole.start;
    while start < whole.end {
        let end = start.saturating_add(pace.width_ns).min(whole.end);
        let limits = pace.limits(limits);
        let budget = Budget::new(&limits, control);
        // A piece that is given up must not leave a loss that lies behind what is then handed over.
        let losses = Losses::new(scan.snapshot, start..end);
        let scan = Scan { budget: &budget, losses: &losses, ..scan };
        let mut rows = Rows::new(plan);
        let read = members.iter().try_for_each(|series| {
            rows.extend(raw::rows_between(scan, *series, &(start..end))?);
            Ok(())
        });
        let read_from = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.points_scanned += read_from(&budget.points_scanned);
        stats.blocks_decoded += read_from(&budget.blocks_decoded);
        stats.groups_pruned += read_from(&budget.groups_pruned);
        if let Err(error) = read {
            budget.let_go_all();
            let since = *refused.get_or_insert_with(Instant::now);
            if matches!(error, QueryError::MemoryTaken { .. }) && since.elapsed() < MEMORY_WAIT {
                budget.check()?;
                std::thread::sleep(MEMORY_LOOK);
            } else if !pace.shorten(&error) {
                return Err(error);
            }
            continue;
        }
        refused = None;
        if members.len() > 1 {
            rows.sort(Order::Ascending);
        }
        pace.adjust(rows.len() as u64, rows.bytes_from(0));
        let missing = losses.into_ranges(wide);
        // From here on it is the taker's, for as long as that takes.
        budget.let_go_all();
        visit(answer::points(plan, group, rows), missing)?;
        start = end;
    }
    Ok(())
}
