//! The newest value of each field of a series, without a look at history.
//!
//! Why no merge is needed: the newest value is the newest of all sources' newest values, and of those at one time the
//! one of the youngest source. Each of them is a value that was written, whatever else overlaps. Only where a source
//! is lost could an older one be out of date; then the rows are merged after all, in the way that knows about losses.

use super::error::QueryError;
use super::raw::{Rows, cuts, rows_between};
use super::request::Order;
use super::result::ResultValues;
use super::scan::{Block, Scan};
use crate::column::Column;
use crate::ids::SeriesId;
use crate::memtable::{FieldSet, Memtable};
use crate::segment::{RowGroup, SegmentError};
use std::sync::atomic::Ordering;
use wattlog_model::FieldValue;

/// Time and value by slot of the plan; none for a field without a value.
pub(super) type Newest = Vec<Option<(i64, FieldValue)>>;

/// The newest value of each field of `series` in the range of the plan.
pub(super) fn newest(scan: Scan<'_>, series: SeriesId) -> Result<Newest, QueryError> {
    let mut search = Search { scan, series, best: vec![None; scan.plan.ids.len()] };
    for (i, memtable) in scan.snapshot.memtables().iter().enumerate().rev() {
        search.memtable(memtable, scan.sources.list.len() + i)?;
    }
    if search.segments()? {
        Ok(search.best.into_iter().map(|best| best.map(|best| (best.time, best.value))).collect())
    } else {
        merged(scan, series)
    }
}

/// Puts the newest values of a later series of the same group into `group`; at one time the later series counts.
pub(super) fn join(group: &mut Newest, other: Newest) {
    for (kept, new) in group.iter_mut().zip(other) {
        if let Some((time, _)) = &new
            && kept.as_ref().is_none_or(|(known, _)| known <= time)
        {
            *kept = new;
        }
    }
}

struct Search<'a> {
    scan: Scan<'a>,
    series: SeriesId,
    best: Vec<Option<Best>>,
}

#[derive(Debug, Clone)]
struct Best {
    time: i64,
    precedence: usize,
    value: FieldValue,
}

/// How far back a memtable is read at first, then next, in nanoseconds; after that, wholly.
const STEPS_NS: [i64; 4] = [0, 60_000_000_000, 3_600_000_000_000, 86_400_000_000_000];

impl Search<'_> {
    fn offer(&mut self, slot: usize, precedence: usize, time: i64, value: impl FnOnce() -> FieldValue) {
        let best = &mut self.best[slot];
        if best.as_ref().is_none_or(|best| (best.time, best.precedence) < (time, precedence)) {
            *best = Some(Best { time, precedence, value: value() });
        }
    }

    /// Whether a value at `time` in a source of that precedence would count.
    fn wants(&self, slot: usize, precedence: usize, time: i64) -> bool {
        self.best[slot].as_ref().is_none_or(|best| (best.time, best.precedence) < (time, precedence))
    }

    fn memtable(&mut self, memtable: &Memtable, precedence: usize) -> Result<(), QueryError> {
        let (seq, range) = (self.scan.snapshot.seq(), &self.scan.plan.range);
        let Some((first, last)) = memtable.time_range(self.series, seq) else { return Ok(()) };
        let first = first.max(range.start);
        let mut end = last.saturating_add(1).min(range.end);
        let newest = end.saturating_sub(1);
        let starts = STEPS_NS.iter().map(|step| newest.saturating_sub(*step)).chain([first]);
        let mut found = vec![false; self.best.len()];
        for start in starts.map(|start| start.max(first)) {
            let missing =
                |slot: &usize| !found[*slot] && self.wants(*slot, precedence, end.saturating_sub(1));
            let slots: Vec<usize> = (0..found.len()).filter(missing).collect();
            if start >= end || slots.is_empty() {
                continue;
            }
            self.scan.budget.check()?;
            let fields: Vec<_> = slots.iter().map(|slot| self.scan.plan.ids[*slot]).collect();
            if let Some(rows) = memtable.read(self.series, &(start..end), FieldSet::Only(&fields), seq) {
                self.scan.budget.scan(rows.times.len() as u64, (rows.times.len() * fields.len()) as u64)?;
                for (field, column) in &rows.columns {
                    if let (Some(slot), Some((time, value))) =
                        (self.scan.plan.slot(*field), newest_of(&rows.times, column, rows.times.len()))
                    {
                        self.offer(slot, precedence, time, || value);
                        found[slot] = true;
                    }
                }
            }
            end = start;
        }
        Ok(())
    }

    /// Looks through segments from the newest on; false if one that counts is lost.
    fn segments(&mut self) -> Result<bool, QueryError> {
        let sources = &self.scan.sources.list;
        let mut newest_first: Vec<usize> = (0..sources.len()).collect();
        newest_first.sort_by_key(|i| std::cmp::Reverse((sources[*i].times().1, *i)));
        for precedence in newest_first {
            let (_, last) = sources[precedence].times();
            if !(0..self.best.len()).any(|slot| self.wants(slot, precedence, last)) {
                // What follows ends no later. At the same end it has a lower precedence.
                break;
            }
            self.scan.budget.check()?;
            match self.segment(precedence) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // Told again, with its time and field, by the merge.
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn segment(&mut self, precedence: usize) -> Result<bool, SegmentError> {
        let scan = self.scan;
        let source = &scan.sources.list[precedence];
        let Some(open) = source.open(scan.plan, scan.losses) else { return Ok(false) };
        let Some(section) = &open.section else { return Ok(true) };
        let (measurement, range) = (scan.plan.measurement, &scan.plan.range);
        let (_, last) = source.times();
        let mut groups: Option<Vec<RowGroup>> = None;
        for slot in 0..self.best.len() {
            let field = scan.plan.ids[slot];
            if section.field_place(field).is_none() || !self.wants(slot, precedence, last) {
                continue;
            }
            if last < range.end
                && let Some(all) = open.segment.series_statistics(measurement, self.series, field)?
            {
                scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
                if all.last.0 >= range.start {
                    self.offer(slot, precedence, all.last.0, || all.last.1);
                }
                continue;
            }
            if groups.is_none() {
                let mut found = Vec::new();
                open.segment
                    .for_each_group(section, self.series, range.clone(), |group| found.push(group))?;
                groups = Some(found);
            }
            for group in groups.iter().flatten().rev() {
                if !self.wants(slot, precedence, group.last_time) {
                    break;
                }
                if let Some((time, value)) = self.newest_in(precedence, group, slot)? {
                    self.offer(slot, precedence, time, || value);
                    break;
                }
            }
        }
        Ok(true)
    }

    /// The newest value of a field in a group, within the range.
    fn newest_in(
        &self,
        precedence: usize,
        group: &RowGroup,
        slot: usize,
    ) -> Result<Option<(i64, FieldValue)>, SegmentError> {
        let scan = self.scan;
        let (range, field) = (&scan.plan.range, scan.plan.ids[slot]);
        let Some(open) = scan.sources.list[precedence].open(scan.plan, scan.losses) else { return Ok(None) };
        if group.last_time < range.end
            && let Some(block) = open.segment.statistics(group, field)?
        {
            scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(block.last).filter(|(time, _)| *time >= range.start));
        }
        let mut column = Block::column(scan.plan, slot);
        if !open.segment.read_column(group, field, &mut column)? {
            return Ok(None);
        }
        let mut times = Vec::new();
        open.segment.read_times(group, &mut times)?;
        scan.budget.blocks_decoded.fetch_add(2, Ordering::Relaxed);
        scan.budget.points_scanned.fetch_add(u64::from(group.rows), Ordering::Relaxed);
        let end = times.partition_point(|time| *time < range.end);
        Ok(newest_of(&times, &column, end).filter(|(time, _)| *time >= range.start))
    }
}

/// The last value of a column before row `end`.
fn newest_of(times: &[i64], column: &Column, end: usize) -> Option<(i64, FieldValue)> {
    let values = match &column.presence {
        crate::column::Presence::All => end.min(column.values.len()),
        crate::column::Presence::Rows(rows) => rows.partition_point(|row| (*row as usize) < end),
    };
    let position = values.checked_sub(1)?;
    Some((times[column.row(position)], column.values.get(position)))
}

/// The same from merged rows, window by window from the newest: slower, and right where sources are lost.
fn merged(scan: Scan<'_>, series: SeriesId) -> Result<Newest, QueryError> {
    let mut newest: Newest = vec![None; scan.plan.ids.len()];
    let mut end = scan.plan.range.end;
    for cut in cuts(scan, series, Order::Descending).into_iter().chain([scan.plan.range.start]) {
        if cut >= end || newest.iter().all(Option::is_some) {
            continue;
        }
        let rows = rows_between(scan, series, &(cut..end))?;
        for (slot, known) in newest.iter_mut().enumerate().filter(|(_, known)| known.is_none()) {
            *known = last_value(&rows, slot);
        }
        scan.budget.give_back_rows(rows.len() as u64);
        end = cut;
    }
    Ok(newest)
}

fn last_value(rows: &Rows, slot: usize) -> Option<(i64, FieldValue)> {
    fn find<T: Clone>(values: &[Option<T>], wrap: impl Fn(T) -> FieldValue) -> Option<(usize, FieldValue)> {
        let row = values.iter().rposition(Option::is_some)?;
        Some((row, wrap(values[row].clone()?)))
    }
    let (row, value) = match &rows.columns[slot] {
        ResultValues::Float(v) => find(v, FieldValue::Float),
        ResultValues::Integer(v) | ResultValues::Time(v) => find(v, FieldValue::Integer),
        ResultValues::Unsigned(v) => find(v, FieldValue::Unsigned),
        ResultValues::Boolean(v) => find(v, FieldValue::Boolean),
        ResultValues::String(v) => find(v, FieldValue::String),
    }?;
    Some((rows.times[row], value))
}
