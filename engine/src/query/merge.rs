//! Rows held back until nothing older or younger can meet them any more, then joined and handed on.
//!
//! Invariants
//! 1. Runs are kept by rising precedence; [`merge_runs`] gets them in that order.
//! 2. Rows are handed on in time order, each time once.
//! 3. Where a younger source is lost, what older runs hold is not served: it may have been overwritten.

use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::FieldId;
use crate::rows::{all_if_full, merge_runs};
use std::ops::Range;

/// Runs of one series in hand.
#[derive(Debug, Default)]
pub(super) struct Carry {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    precedence: usize,
    rows: SeriesRows,
    /// First row that was not handed on yet.
    next: usize,
}

/// Rows of a source that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) precedence: usize,
    /// First and last time, both inclusive.
    pub(super) first: i64,
    pub(super) last: i64,
    /// The field that is lost; none for all.
    pub(super) field: Option<FieldId>,
}

impl Hole {
    /// Whether values of a field may be among what is gone.
    pub(super) fn may_hold(&self, field: FieldId) -> bool {
        self.field.is_none_or(|own| own == field)
    }
}

impl Carry {
    pub(super) fn add(&mut self, precedence: usize, rows: SeriesRows) {
        if !rows.times.is_empty() {
            let at = self.runs.partition_point(|run| run.precedence <= precedence);
            self.runs.insert(at, Run { precedence, rows, next: 0 });
        }
    }

    /// Number of rows in hand.
    pub(super) fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.rows.times.len() - run.next).sum()
    }

    /// Whether a row in hand has a time of `first..=last`.
    pub(super) fn meets(&self, first: i64, last: i64) -> bool {
        self.runs.iter().any(|run| {
            let left = &run.rows.times[run.next..];
            left.get(left.partition_point(|time| *time < first)).is_some_and(|time| *time <= last)
        })
    }

    /// Forgets what `hole` may have overwritten.
    pub(super) fn mask(&mut self, hole: &Hole) {
        for run in self.runs.iter_mut().filter(|run| run.precedence < hole.precedence) {
            let rest = slice(&run.rows, run.next..run.rows.times.len());
            run.rows = masked(rest, hole);
            run.next = 0;
        }
        self.runs.retain(|run| !run.rows.times.is_empty());
    }

    /// Hands on all rows before `end` (or all there are), joined.
    pub(super) fn flush<E>(
        &mut self,
        end: Option<i64>,
        mut visit: impl FnMut(&SeriesRows, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let ready = |run: &Run| {
            let left = &run.rows.times[run.next..];
            run.next..run.next + end.map_or(left.len(), |end| left.partition_point(|time| *time < end))
        };
        let parts: Vec<Range<usize>> = self.runs.iter().map(ready).collect();
        let mut with_rows = self.runs.iter().zip(&parts).filter(|(_, part)| !part.is_empty());
        match (with_rows.next(), with_rows.next()) {
            (None, _) => return Ok(()),
            (Some((run, part)), None) => visit(&run.rows, part.clone())?,
            _ => {
                let copies = self.runs.iter().zip(&parts).map(|(run, part)| slice(&run.rows, part.clone()));
                let merged = merge_runs(copies.collect());
                visit(&merged, 0..merged.times.len())?;
            }
        }
        for (run, part) in self.runs.iter_mut().zip(parts) {
            run.next = part.end;
        }
        self.runs.retain(|run| run.next < run.rows.times.len());
        Ok(())
    }
}

/// Copies the rows of a range of row numbers.
pub(crate) fn slice(rows: &SeriesRows, range: Range<usize>) -> SeriesRows {
    let columns = rows.columns.iter().filter_map(|(field, column)| {
        let (presence, positions) = match &column.presence {
            Presence::All => (Presence::All, range.clone()),
            Presence::Rows(present) => {
                let from = present.partition_point(|row| (*row as usize) < range.start);
                let to = present.partition_point(|row| (*row as usize) < range.end);
                let kept = present[from..to].iter().map(|row| row - range.start as u32).collect();
                (all_if_full(kept, range.len()), from..to)
            }
        };
        if positions.is_empty() {
            return None;
        }
        let mut values = Values::new(column.values.field_type());
        values.extend_from(&column.values, positions);
        Some((*field, Column { presence, values }))
    });
    SeriesRows { times: rows.times[range.clone()].to_vec(), columns: columns.collect() }
}

/// `rows` without what `hole` may have overwritten.
pub(super) fn masked(rows: SeriesRows, hole: &Hole) -> SeriesRows {
    let from = rows.times.partition_point(|time| *time < hole.first);
    let to = rows.times.partition_point(|time| *time <= hole.last);
    if from == to {
        return rows;
    }
    let parts = [0..from, from..to, to..rows.times.len()];
    let mut kept: Vec<SeriesRows> = parts.into_iter().map(|part| slice(&rows, part)).collect();
    match hole.field {
        None => drop(kept.remove(1)),
        Some(field) => kept[1].columns.retain(|(id, _)| *id != field),
    }
    merge_runs(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Cells = BTreeMap<i64, BTreeMap<u32, i64>>;

    fn run_of(cells: &Cells) -> SeriesRows {
        let times: Vec<i64> = cells.keys().copied().collect();
        let mut columns: BTreeMap<u32, (Vec<u32>, Vec<i64>)> = BTreeMap::new();
        for (row, fields) in cells.values().enumerate() {
            for (field, value) in fields {
                let column = columns.entry(*field).or_default();
                column.0.push(row as u32);
                column.1.push(*value);
            }
        }
        let column = |(id, (present, values)): (u32, (Vec<u32>, Vec<i64>))| {
            let presence = all_if_full(present, times.len());
            (FieldId(id), Column { presence, values: Values::Integer(values) })
        };
        let columns = columns.into_iter().map(column).collect();
        SeriesRows { times, columns }
    }

    fn cells_of(rows: &SeriesRows, range: Range<usize>, into: &mut Cells) {
        for row in range {
            let cells = into.entry(rows.times[row]).or_default();
            for (field, column) in &rows.columns {
                if let (Some(position), Values::Integer(values)) =
                    (column.position(row as u32), &column.values)
                {
                    cells.insert(field.0, values[position]);
                }
            }
        }
    }

    fn cells() -> impl Strategy<Value = Cells> {
        prop::collection::btree_map(-30_i64..30, prop::collection::btree_map(0_u32..3, 0_i64..9, 1..3), 0..12)
    }

    proptest! {
        #[test]
        fn runs_come_out_joined_whatever_the_cuts(
            runs in prop::collection::vec(cells(), 0..5), mut cuts in prop::collection::vec(-30_i64..30, 0..5),
        ) {
            let mut expected = Cells::new();
            let mut carry = Carry::default();
            for (precedence, run) in runs.iter().enumerate() {
                for (time, fields) in run {
                    expected.entry(*time).or_default().extend(fields.clone());
                }
                carry.add(precedence, run_of(run));
            }
            cuts.sort_unstable();
            let mut found = Cells::new();
            for end in cuts.into_iter().map(Some).chain([None]) {
                carry.flush(end, |rows, range| {
                    if let (Some(last), Some(first)) = (found.keys().next_back(), rows.times.get(range.start)) {
                        assert!(last < first, "rows come in time order");
                    }
                    cells_of(rows, range, &mut found);
                    Ok::<(), ()>(())
                }).unwrap();
                prop_assert!(end.is_none_or(|end| found.keys().all(|t| *t < end) && !carry.meets(i64::MIN, end - 1)));
            }
            prop_assert_eq!(carry.rows(), 0);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_hole_hides_what_it_may_have_overwritten(
            run in cells(), first in -30_i64..30, len in 0_i64..20, field in prop::option::of(0_u32..3),
        ) {
            let hole = Hole { precedence: 1, first, last: first + len, field: field.map(FieldId) };
            let mut expected = run.clone();
            for (time, cells) in &mut expected {
                if (first..=first + len).contains(time) {
                    cells.retain(|id, _| field.is_some_and(|field| field != *id));
                }
            }
            expected.retain(|_, cells| !cells.is_empty());
            let rows = masked(run_of(&run), &hole);
            let mut found = Cells::new();
            cells_of(&rows, 0..rows.times.len(), &mut found);
            found.retain(|_, cells| !cells.is_empty());
            prop_assert_eq!(found, expected);
        }
    }
}
