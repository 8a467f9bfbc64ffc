//! Points as they are: rows of one series into columns with gaps, oldest or newest first, with or without a limit.
//!
//! Promise: with a limit, only as much history is read as the limit needs, from the end that is asked for.

use super::budget::Budget;
use super::error::QueryError;
use super::plan::Plan;
use super::request::Order;
use super::result::ResultValues;
use super::scan::{Block, GroupSource, Pieces, Scan, Sink};
use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::SeriesId;
use std::ops::Range;
use wattlog_model::FieldType;

/// Rows of an answer in the making. Columns stand by slot of the plan.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) times: Vec<i64>,
    pub(super) columns: Vec<ResultValues>,
}

macro_rules! each {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            ResultValues::Time($v) | ResultValues::Integer($v) => $body,
            ResultValues::Float($v) => $body,
            ResultValues::Unsigned($v) => $body,
            ResultValues::Boolean($v) => $body,
            ResultValues::String($v) => $body,
        }
    };
}

impl Rows {
    pub(super) fn new(plan: &Plan) -> Self {
        let columns = (0..plan.ids.len()).map(|slot| empty(plan.def(slot).field_type)).collect();
        Self { times: Vec::new(), columns }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Memory of the rows from `from` on, in bytes, their texts as if none were shared.
    pub(super) fn bytes_from(&self, from: usize) -> u64 {
        let row = 8 + self.columns.iter().map(value_bytes).sum::<u64>();
        let texts = self.columns.iter().map(|column| match column {
            ResultValues::String(texts) => texts[from..].iter().flatten().map(|text| text.len() as u64).sum(),
            _ => 0,
        });
        row * (self.len() - from) as u64 + texts.sum::<u64>()
    }

    /// Keeps at most the first `rows` and gives the others back to the budget.
    pub(super) fn keep(&mut self, rows: usize, budget: &Budget<'_>) {
        if self.len() > rows {
            budget.give_back((self.len() - rows) as u64, self.bytes_from(rows));
            self.truncate(rows);
        }
    }

    /// Appends the rows of `range` in which at least one column has a value.
    fn append(&mut self, times: &[i64], columns: &[(usize, &Column)], range: Range<usize>) {
        let all = columns.iter().any(|(_, column)| column.presence == Presence::All);
        let base = self.times.len();
        let kept: Option<Vec<u32>> = (!all).then(|| rows_with_a_value(columns, &range));
        match &kept {
            None => self.times.extend_from_slice(&times[range.clone()]),
            Some(rows) => self.times.extend(rows.iter().map(|row| times[*row as usize])),
        }
        let len = self.times.len();
        for (slot, own) in self.columns.iter_mut().enumerate() {
            let Some((_, column)) = columns.iter().find(|(s, _)| *s == slot) else {
                each!(own, v => v.resize(len, None));
                continue;
            };
            match (own, &column.values) {
                (ResultValues::Float(v), Values::Float(from)) => {
                    fill(v, len, base, column, from, &range, kept.as_deref());
                }
                (ResultValues::Integer(v), Values::Integer(from)) => {
                    fill(v, len, base, column, from, &range, kept.as_deref());
                }
                (ResultValues::Unsigned(v), Values::Unsigned(from)) => {
                    fill(v, len, base, column, from, &range, kept.as_deref());
                }
                (ResultValues::Boolean(v), Values::Boolean(from)) => {
                    fill(v, len, base, column, from, &range, kept.as_deref());
                }
                (ResultValues::String(v), Values::String(from)) => {
                    fill(v, len, base, column, from, &range, kept.as_deref());
                }
                (own, _) => {
                    debug_assert!(false, "a field has one type");
                    each!(own, v => v.resize(len, None));
                }
            }
        }
    }

    /// Appends all rows of another answer of the same plan.
    pub(super) fn extend(&mut self, other: Self) {
        if self.len() == 0 {
            *self = other;
            return;
        }
        self.times.extend(other.times);
        for (own, from) in self.columns.iter_mut().zip(other.columns) {
            match (own, from) {
                (ResultValues::Float(a), ResultValues::Float(b)) => a.extend(b),
                (ResultValues::Integer(a), ResultValues::Integer(b)) => a.extend(b),
                (ResultValues::Unsigned(a), ResultValues::Unsigned(b)) => a.extend(b),
                (ResultValues::Boolean(a), ResultValues::Boolean(b)) => a.extend(b),
                (ResultValues::String(a), ResultValues::String(b)) => a.extend(b),
                (_, _) => debug_assert!(false, "a slot has one type"),
            }
        }
    }

    pub(super) fn reverse(&mut self) {
        self.times.reverse();
        self.columns.iter_mut().for_each(|column| each!(column, v => v.reverse()));
    }

    fn truncate(&mut self, rows: usize) {
        self.times.truncate(rows);
        self.columns.iter_mut().for_each(|column| each!(column, v => v.truncate(rows)));
    }

    /// Puts the rows of several series in order of time; those of one time stay in the order of their series.
    pub(super) fn sort(&mut self, order: Order) {
        let mut places: Vec<u32> = (0..self.times.len() as u32).collect();
        let times = &self.times;
        match order {
            Order::Ascending => places.sort_by_key(|i| times[*i as usize]),
            Order::Descending => places.sort_by_key(|i| std::cmp::Reverse(times[*i as usize])),
        }
        self.times = places.iter().map(|i| times[*i as usize]).collect();
        for column in &mut self.columns {
            each!(column, v => *v = places.iter().map(|i| v[*i as usize].take()).collect());
        }
    }
}

/// An empty column for values of a type.
pub(super) fn empty(field_type: FieldType) -> ResultValues {
    match field_type {
        FieldType::Float => ResultValues::Float(Vec::new()),
        FieldType::Integer => ResultValues::Integer(Vec::new()),
        FieldType::Unsigned => ResultValues::Unsigned(Vec::new()),
        FieldType::Boolean => ResultValues::Boolean(Vec::new()),
        FieldType::String => ResultValues::String(Vec::new()),
    }
}

/// Whether a column has a value at all.
pub(super) fn has_value(column: &ResultValues) -> bool {
    each!(column, v => v.iter().any(Option::is_some))
}

fn value_bytes(column: &ResultValues) -> u64 {
    fn size<T>(_: &[Option<T>]) -> u64 {
        size_of::<Option<T>>() as u64
    }
    each!(column, v => size(v))
}

/// Rows of `range` that one of `columns`, none of them full, has a value for; rising.
fn rows_with_a_value(columns: &[(usize, &Column)], range: &Range<usize>) -> Vec<u32> {
    let mut kept = Vec::new();
    for (_, column) in columns {
        if let Presence::Rows(rows) = &column.presence {
            let from = rows.partition_point(|row| (*row as usize) < range.start);
            let to = rows.partition_point(|row| (*row as usize) < range.end);
            kept.extend_from_slice(&rows[from..to]);
        }
    }
    if columns.len() > 1 {
        kept.sort_unstable();
        kept.dedup();
    }
    kept
}

/// Brings `own` to `len` rows with the values that `column` has for the rows of `range` (only `kept` ones, if given).
fn fill<T: Clone>(
    own: &mut Vec<Option<T>>,
    len: usize,
    base: usize,
    column: &Column,
    values: &[T],
    range: &Range<usize>,
    kept: Option<&[u32]>,
) {
    let Presence::Rows(present) = &column.presence else {
        own.extend(values[range.clone()].iter().cloned().map(Some));
        return;
    };
    own.resize(len, None);
    let from = present.partition_point(|row| (*row as usize) < range.start);
    let mut at = 0;
    for (row, value) in present[from..].iter().zip(&values[from..]) {
        if *row as usize >= range.end {
            break;
        }
        let place = match kept {
            None => *row as usize - range.start,
            Some(kept) => {
                while kept[at] < *row {
                    at += 1;
                }
                at
            }
        };
        own[base + place] = Some(value.clone());
    }
}

/// Gathers rows until there are enough.
struct RawSink<'a> {
    scan: Scan<'a>,
    budget: &'a Budget<'a>,
    rows: Rows,
    limit: usize,
    block: Block,
}

impl RawSink<'_> {
    fn take(&mut self, before: usize) -> Result<(), QueryError> {
        self.rows.truncate(self.limit.max(before));
        self.budget.answer_rows((self.rows.len() - before) as u64)?;
        self.budget.hold_bytes(self.rows.bytes_from(before))
    }
}

impl Sink for RawSink<'_> {
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        let plan = self.scan.plan;
        let columns = rows.columns.iter().filter_map(|(field, column)| Some((plan.slot(*field)?, column)));
        let before = self.rows.len();
        self.rows.append(&rows.times, &columns.collect::<Vec<_>>(), range);
        self.take(before)
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        for group in source.groups {
            if self.is_full() {
                break;
            }
            self.budget.check()?;
            let before = self.rows.len();
            self.scan.decode(
                source.source,
                source.open,
                group,
                0..self.scan.plan.ids.len(),
                &mut self.block,
                |_| {},
            )?;
            let present = self.block.present.iter().enumerate().filter(|(_, present)| **present);
            let columns: Vec<(usize, &Column)> = present.map(|(i, _)| (i, &self.block.columns[i])).collect();
            if !columns.is_empty() {
                self.rows.append(&self.block.times, &columns, self.block.rows_in(range));
                self.take(before)?;
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }
}

/// Rows of one series in the order asked for, at most `limit` of them.
pub(super) fn series_rows(
    scan: Scan<'_>,
    series: SeriesId,
    order: Order,
    limit: Option<usize>,
) -> Result<Rows, QueryError> {
    let gather = |range: &Range<i64>, pieces: Option<Pieces<'_>>, limit: usize| {
        gather(scan, series, range, pieces, limit)
    };
    let whole = &scan.plan.range;
    let Some(limit) = limit else {
        let mut rows = gather(whole, None, usize::MAX)?;
        if order == Order::Descending {
            rows.reverse();
        }
        return Ok(rows);
    };
    let mut out = Rows::new(scan.plan);
    match order {
        Order::Ascending => {
            let mut start = whole.start;
            for cut in cuts(scan, series, order).into_iter().chain([whole.end]) {
                if cut > start && out.len() < limit {
                    out.extend(gather(&(start..cut), None, limit - out.len())?);
                    start = cut;
                }
            }
        }
        Order::Descending => {
            let mut end = whole.end;
            // A group may have few rows with a value, or none: what is tried doubles, so that looking for rows that are
            // rare or not there costs a few passes over the list of groups, not one for each of them.
            let mut tried = limit;
            for cut in cuts(scan, series, order).into_iter().chain([whole.start]) {
                while cut < end && out.len() < limit {
                    let pieces = scan.pieces(series, &(cut..end))?;
                    let start = newest_part(&pieces, tried, cut..end);
                    tried = tried.saturating_mul(2);
                    // Those of all are let go before a part of them is read again.
                    let pieces = (start == cut).then_some(pieces);
                    let mut rows = gather(&(start..end), pieces, usize::MAX)?;
                    rows.reverse();
                    rows.keep(limit - out.len(), scan.budget);
                    out.extend(rows);
                    end = start;
                }
            }
        }
    }
    Ok(out)
}

/// All rows of one series in a part of the plan's range, oldest first.
pub(super) fn rows_between(scan: Scan<'_>, series: SeriesId, range: &Range<i64>) -> Result<Rows, QueryError> {
    gather(scan, series, range, None, usize::MAX)
}

fn gather(
    scan: Scan<'_>,
    series: SeriesId,
    range: &Range<i64>,
    pieces: Option<Pieces<'_>>,
    limit: usize,
) -> Result<Rows, QueryError> {
    let rows = Rows::new(scan.plan);
    let mut sink = RawSink { scan, budget: scan.budget, rows, limit, block: Block::default() };
    match pieces {
        Some(pieces) => scan.sweep(pieces, range, &mut sink)?,
        None => scan.run(series, range, &mut sink)?,
    }
    Ok(sink.rows)
}

/// Where to begin so that about `wanted` rows lie between there and the end of `range`.
pub(super) fn newest_part(pieces: &Pieces<'_>, wanted: usize, range: Range<i64>) -> i64 {
    let mut rows = pieces.rows_in_memory();
    for piece in pieces.groups.iter().rev() {
        // Enough without this group, as far as one can tell: begin behind it, if that leaves anything at all.
        let behind = piece.group.last_time.saturating_add(1);
        if rows >= wanted && behind < range.end {
            return behind.max(range.start);
        }
        rows += piece.group.rows as usize;
    }
    range.start
}

/// Times within the range at which to pause and see whether there are enough rows: ends of sources, at doubling
/// distances from the end that is asked for.
pub(super) fn cuts(scan: Scan<'_>, series: SeriesId, order: Order) -> Vec<i64> {
    let seq = scan.snapshot.seq();
    let in_memory = scan.snapshot.memtables().iter().filter_map(|m| m.time_range(series, seq));
    let spans = scan.sources.list.iter().map(super::prune::Source::times).chain(in_memory);
    let mut cuts: Vec<i64> = match order {
        Order::Ascending => spans.map(|(first, _)| first).collect(),
        Order::Descending => spans.map(|(_, last)| last.saturating_add(1)).collect(),
    };
    cuts.sort_unstable();
    cuts.dedup();
    if order == Order::Descending {
        cuts.reverse();
    }
    let doubling = |i: &usize| i.is_power_of_two();
    let cuts = cuts.into_iter().enumerate().filter(|(i, _)| doubling(i)).map(|(_, cut)| cut);
    cuts.filter(|cut| scan.plan.range.contains(cut)).collect()
}
