//! The newest value of each field of a series, without a look at history.
//!
//! Why no merge is needed: the newest value is the newest of all sources' newest values, and of those at one time the
//! one of the youngest source. Each of them is a value that was written, whatever else overlaps.
//!
//! Invariant: a value at a time at which a younger source is lost is not served, it may have been overwritten; the newest
//! one that is certain is. A loss may come to light after such a value was found; then the search is done again.

use super::error::QueryError;
use super::merge::{Hole, masked};
use super::prune::{Open, Opened, Source};
use super::scan::{Block, Scan};
use crate::column::Column;
use crate::ids::{FieldId, SeriesId};
use crate::memtable::{FieldSet, Memtable};
use crate::segment::{BlockStatistics, RowGroup};
use std::sync::atomic::Ordering;
use wattlog_model::{FieldType, FieldValue};

/// Time and value by slot of the plan; none for a field without a value.
pub(super) type Newest = Vec<Option<(i64, FieldValue)>>;

/// The newest value of each field of `series` in the range of the plan.
pub(super) fn newest(scan: Scan<'_>, series: SeriesId) -> Result<Newest, QueryError> {
    let mut holes = scan.deleted(series, &scan.plan.range);
    loop {
        let best = vec![None; scan.plan.ids.len()];
        let mut search = Search { scan, series, best, holes };
        for (i, memtable) in scan.snapshot.memtables().iter().enumerate().rev() {
            search.memtable(memtable, scan.sources.list.len() + i)?;
        }
        search.segments()?;
        let masked = |(slot, best): (usize, &Option<Best>)| {
            best.as_ref().is_some_and(|best| search.mask(slot, best.precedence, best.time).is_some())
        };
        if !search.best.iter().enumerate().any(masked) {
            return Ok(search
                .best
                .into_iter()
                .map(|best| best.map(|best| (best.time, best.value)))
                .collect());
        }
        holes = search.holes;
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
    /// What was found lost so far.
    holes: Vec<Hole>,
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
            if let Some(mut rows) = memtable.read(self.series, &(start..end), FieldSet::Only(&fields), seq) {
                for hole in self.holes.iter().filter(|hole| hole.precedence > precedence) {
                    rows = masked(rows, hole);
                }
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

    /// The loss of a younger source that may have overwritten a value, if there is one.
    fn mask(&self, slot: usize, precedence: usize, time: i64) -> Option<&Hole> {
        let field = self.scan.plan.ids[slot];
        self.holes.iter().find(|hole| {
            hole.precedence > precedence
                && (hole.first..=hole.last).contains(&time)
                && hole.field.is_none_or(|lost| lost == field)
        })
    }

    /// Whether a value at that time may be served.
    fn is_certain(&self, slot: usize, precedence: usize, time: i64) -> bool {
        self.scan.plan.range.contains(&time) && self.mask(slot, precedence, time).is_none()
    }

    fn lose(&mut self, precedence: usize, (first, last): (i64, i64), field: Option<FieldId>) {
        let hole = Hole { precedence, first, last, field };
        if !self.holes.contains(&hole) {
            self.holes.push(hole);
        }
    }

    /// Looks through segments from the newest on.
    fn segments(&mut self) -> Result<(), QueryError> {
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
            match sources[precedence].open(self.scan.plan, self.scan.losses)? {
                Opened::Rows(open) => self.segment(precedence, &open)?,
                Opened::Empty => {}
                Opened::Lost => self.lose(precedence, sources[precedence].times(), None),
            }
        }
        Ok(())
    }

    fn segment(&mut self, precedence: usize, open: &Open) -> Result<(), QueryError> {
        let scan = self.scan;
        let source = &scan.sources.list[precedence];
        let (_, last) = source.times();
        // First what is known of the whole series; then its groups, for the fields of which that is not enough.
        let mut untold = Vec::new();
        for slot in 0..self.best.len() {
            let field = scan.plan.ids[slot];
            if open.section.field_place(field).is_none() || !self.wants(slot, precedence, last) {
                continue;
            }
            let known = scan.read_from(source, open, |open| {
                open.segment.series_statistics(scan.plan.measurement, self.series, field)
            })?;
            match known {
                Ok(Some(all)) if self.is_certain(slot, precedence, all.last.0) => {
                    scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
                    self.offer(slot, precedence, all.last.0, || all.last.1);
                }
                Ok(_) => untold.push(slot),
                Err(error) => {
                    // The blocks still hold all there is to know.
                    scan.losses.report(&error);
                    untold.push(slot);
                }
            }
        }
        if untold.is_empty() {
            return Ok(());
        }
        let mut groups: Vec<RowGroup> = Vec::new();
        let found = scan.read_from(source, open, |open| {
            groups.clear();
            let range = scan.plan.range.clone();
            open.segment.for_each_group(&open.section, self.series, range, |group| groups.push(group))
        })?;
        if let Err(error) = found {
            scan.losses.add_error(source.id(), None, source.times(), &error);
            self.lose(precedence, source.times(), None);
            return Ok(());
        }
        self.groups(precedence, open, &groups, untold)
    }

    /// Looks through the groups of one source from the newest on, for the fields `slots`.
    fn groups(
        &mut self,
        precedence: usize,
        open: &Open,
        groups: &[RowGroup],
        mut slots: Vec<usize>,
    ) -> Result<(), QueryError> {
        let scan = self.scan;
        let source = &scan.sources.list[precedence];
        let described = slots.iter().map(|slot| described(scan, source, open, groups, *slot));
        let mut described: Vec<(usize, Described)> =
            slots.iter().copied().zip(described.collect::<Result<Vec<_>, _>>()?).collect();
        let mut block = Block::default();
        for (i, group) in groups.iter().enumerate().rev() {
            slots.retain(|slot| self.wants(*slot, precedence, group.last_time));
            if slots.is_empty() {
                break;
            }
            scan.budget.check()?;
            let mut decoded = Vec::new();
            for (slot, told) in described.iter_mut().filter(|(slot, _)| slots.contains(slot)) {
                match told.blocks[i].take() {
                    Some(known) if self.is_certain(*slot, precedence, known.last.0) => {
                        scan.budget.blocks_from_statistics.fetch_add(1, Ordering::Relaxed);
                        self.offer(*slot, precedence, known.last.0, || known.last.1);
                    }
                    None if told.all && !group.compact => {}
                    _ => decoded.push(*slot),
                }
            }
            if decoded.is_empty() {
                continue;
            }
            let mut lost = Vec::new();
            scan.decode(source, open, group, decoded.iter().copied(), &mut block, |field| lost.push(field))?;
            for field in lost {
                self.lose(precedence, (group.first_time, group.last_time), field);
            }
            for slot in decoded.into_iter().filter(|slot| block.present[*slot]) {
                if let Some((time, value)) = self.newest_certain(&block, slot, precedence) {
                    self.offer(slot, precedence, time, || value);
                }
            }
        }
        Ok(())
    }

    /// The newest value of a decoded group that may be served.
    fn newest_certain(&self, block: &Block, slot: usize, precedence: usize) -> Option<(i64, FieldValue)> {
        let rows = block.rows_in(&self.scan.plan.range);
        let mut end = rows.end;
        loop {
            let (time, value) = newest_of(&block.times, &block.columns[slot], end)?;
            match self.mask(slot, precedence, time) {
                None => return Some((time, value)).filter(|(time, _)| *time >= self.scan.plan.range.start),
                Some(hole) => end = block.times.partition_point(|time| *time < hole.first),
            }
        }
    }
}

/// Statistics of one field by group.
struct Described {
    blocks: Vec<Option<BlockStatistics>>,
    /// Whether a group without statistics, unless it is compact, has no value of the field.
    all: bool,
}

/// What is known of a field in each group, without decoding any.
fn described(
    scan: Scan<'_>,
    source: &Source,
    open: &Open,
    groups: &[RowGroup],
    slot: usize,
) -> Result<Described, QueryError> {
    let mut blocks = Vec::with_capacity(groups.len());
    let read = scan.read_from(source, open, |open| {
        blocks.clear();
        open.segment.statistics_of(groups, scan.plan.ids[slot], |_, block| blocks.push(block))
    })?;
    if let Err(error) = &read {
        scan.losses.report(error);
    }
    blocks.resize(groups.len(), None);
    let all = read.is_ok() && scan.plan.def(slot).field_type != FieldType::String;
    Ok(Described { blocks, all })
}

/// The last value of a column before row `end`.
pub(super) fn newest_of(times: &[i64], column: &Column, end: usize) -> Option<(i64, FieldValue)> {
    let values = match &column.presence {
        crate::column::Presence::All => end.min(column.values.len()),
        crate::column::Presence::Rows(rows) => rows.partition_point(|row| (*row as usize) < end),
    };
    let position = values.checked_sub(1)?;
    Some((times[column.row(position)], column.values.get(position)))
}
