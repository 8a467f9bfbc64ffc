//! Joining runs of rows: the one place that decides which of two values at one time is served.
//!
//! Rule (format-spec.md, "Duplicates"): same series and time, then fields are merged and the last write wins per
//! field. Runs come oldest first; a later run overrides a field at an equal time only where it holds a value for it.

use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::FieldId;

/// Joins runs of one series, oldest first, into one run in time order without duplicates.
///
/// Runs whose times do not meet are put one after the other without looking at single rows.
pub fn merge_runs(mut runs: Vec<SeriesRows>) -> SeriesRows {
    runs.retain(|run| !run.times.is_empty());
    match runs.len() {
        0 => return SeriesRows::default(),
        1 => return runs.remove(0),
        _ => {}
    }
    let mut by_time: Vec<usize> = (0..runs.len()).collect();
    by_time.sort_by_key(|i| runs[*i].times[0]);
    let apart = by_time.windows(2).all(|pair| runs[pair[0]].times.last() < runs[pair[1]].times.first());
    if apart { concatenate(&runs, &by_time) } else { interleave(&runs) }
}

/// Keeps the rows with `start <= time < end`.
#[must_use]
pub fn slice_rows(rows: SeriesRows, range: &std::ops::Range<i64>) -> SeriesRows {
    let first = rows.times.partition_point(|t| *t < range.start);
    let end = rows.times.partition_point(|t| *t < range.end);
    if first == 0 && end == rows.times.len() {
        return rows;
    }
    let mut out = SeriesRows { times: rows.times[first..end].to_vec(), columns: Vec::new() };
    for (field, column) in &rows.columns {
        let (presence, from, to) = match &column.presence {
            Presence::All => (Presence::All, first, end),
            Presence::Rows(present) => {
                let from = present.partition_point(|row| (*row as usize) < first);
                let to = present.partition_point(|row| (*row as usize) < end);
                let kept: Vec<u32> = present[from..to].iter().map(|row| row - first as u32).collect();
                (all_if_full(kept, end - first), from, to)
            }
        };
        if to > from {
            let mut values = Values::new(column.values.field_type());
            values.extend_from(&column.values, from..to);
            out.columns.push((*field, Column { presence, values }));
        }
    }
    out
}

/// `All` if the rising list names every one of `rows` rows.
pub(crate) fn all_if_full(present: Vec<u32>, rows: usize) -> Presence {
    if present.len() == rows { Presence::All } else { Presence::Rows(present) }
}

fn concatenate(runs: &[SeriesRows], order: &[usize]) -> SeriesRows {
    let total: usize = runs.iter().map(|run| run.times.len()).sum();
    let mut out = SeriesRows { times: Vec::with_capacity(total), columns: Vec::new() };
    for i in order {
        out.times.extend_from_slice(&runs[*i].times);
    }
    for (field, template) in union_of_fields(runs) {
        let mut values = Values::new(template.field_type());
        let mut present = Vec::new();
        let mut base = 0_u32;
        for run in order.iter().map(|i| &runs[*i]) {
            if let Some(column) = column_of(run, field) {
                values.extend_from(&column.values, 0..column.values.len());
                present.extend((0..column.values.len()).map(|p| base + column.row(p) as u32));
            }
            base += run.times.len() as u32;
        }
        out.columns.push((field, Column { presence: all_if_full(present, total), values }));
    }
    out
}

fn interleave(runs: &[SeriesRows]) -> SeriesRows {
    let mut times: Vec<i64> = runs.iter().flat_map(|run| run.times.iter().copied()).collect();
    // A stable sort finds the rising stretches of the inputs by itself: linear for runs that barely overlap.
    times.sort_unstable();
    times.dedup();
    let places: Vec<Vec<u32>> = runs.iter().map(|run| places_in(&times, &run.times)).collect();
    let mut columns = Vec::new();
    const NONE: u32 = u32::MAX;
    let mut owner = vec![(NONE, 0_u32); times.len()];
    for (field, template) in union_of_fields(runs) {
        owner.fill((NONE, 0));
        for (index, run) in runs.iter().enumerate() {
            if let Some(column) = column_of(run, field) {
                for position in 0..column.values.len() {
                    owner[places[index][column.row(position)] as usize] = (index as u32, position as u32);
                }
            }
        }
        let mut values = Values::new(template.field_type());
        let mut present = Vec::new();
        let mut row = 0;
        while row < owner.len() {
            let (run, position) = owner[row];
            if run == NONE {
                row += 1;
                continue;
            }
            // One stretch of neighbours from the same run is copied at once.
            let mut len = 1;
            while row + len < owner.len() && owner[row + len] == (run, position + len as u32) {
                len += 1;
            }
            if let Some(column) = column_of(&runs[run as usize], field) {
                values.extend_from(&column.values, position as usize..position as usize + len);
            }
            present.extend(row as u32..(row + len) as u32);
            row += len;
        }
        columns.push((field, Column { presence: all_if_full(present, times.len()), values }));
    }
    SeriesRows { times, columns }
}

/// For each of `part` (rising, all contained in `all`) its index in `all`.
fn places_in(all: &[i64], part: &[i64]) -> Vec<u32> {
    let mut at = 0;
    part.iter()
        .map(|time| {
            while all[at] < *time {
                at += 1;
            }
            at as u32
        })
        .collect()
}

fn union_of_fields(runs: &[SeriesRows]) -> Vec<(FieldId, &Values)> {
    let mut fields: Vec<(FieldId, &Values)> =
        runs.iter().flat_map(|run| run.columns.iter().map(|(id, column)| (*id, &column.values))).collect();
    fields.sort_by_key(|(id, _)| *id);
    fields.dedup_by_key(|(id, _)| *id);
    fields
}

fn column_of(run: &SeriesRows, field: FieldId) -> Option<&Column> {
    run.columns.binary_search_by_key(&field, |(id, _)| *id).ok().map(|i| &run.columns[i].1)
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
        let columns = columns
            .into_iter()
            .map(|(id, (present, values))| {
                let presence = all_if_full(present, times.len());
                (FieldId(id), Column { presence, values: Values::Integer(values) })
            })
            .collect();
        SeriesRows { times, columns }
    }

    fn cells() -> impl Strategy<Value = Cells> {
        prop::collection::btree_map(
            -30_i64..30,
            prop::collection::btree_map(0_u32..4, any::<i64>(), 1..4),
            0..20,
        )
    }

    proptest! {
        #[test]
        fn the_last_write_wins_per_field(parts in prop::collection::vec(cells(), 0..5)) {
            let mut expected = Cells::new();
            for part in &parts {
                for (time, fields) in part {
                    expected.entry(*time).or_default().extend(fields.clone());
                }
            }
            let merged = merge_runs(parts.iter().map(run_of).collect());
            prop_assert_eq!(merged, run_of(&expected));
        }

        #[test]
        fn slices_keep_just_the_rows_inside(part in cells(), a in -35_i64..35, len in 0_i64..40) {
            let kept: Cells = part.range(a..a + len).map(|(t, f)| (*t, f.clone())).collect();
            prop_assert_eq!(slice_rows(run_of(&part), &(a..a + len)), run_of(&kept));
        }
    }
}
