use super::*;
use crate::column::{Presence, Values};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DAY: i64 = Timestamp::DAY_NS;

fn floats(series: u32, rows: &[(i64, f64)]) -> SeriesBatch {
    SeriesBatch {
        series: SeriesId(series),
        measurement: MeasurementId(1),
        times: rows.iter().map(|r| r.0).collect(),
        columns: vec![(
            FieldId(1),
            Column { presence: Presence::All, values: Values::Float(rows.iter().map(|r| r.1).collect()) },
        )],
    }
}

fn read(memtable: &Memtable, seq: u64) -> Vec<(i64, f64)> {
    let all = i64::MIN..i64::MAX;
    let Some(rows) = memtable.read(SeriesId(1), &all, FieldSet::All, Seq(seq)) else { return Vec::new() };
    let Values::Float(values) = &rows.columns[0].1.values else { panic!("floats went in") };
    rows.times.iter().copied().zip(values.iter().copied()).collect()
}

#[test]
fn a_reader_sees_whole_commits_up_to_its_sequence() {
    let memtable = Memtable::new(Seq(10));
    memtable.apply(NamespaceId(1), Seq(11), &[floats(1, &[(1, 1.0), (2, 2.0)])]);
    memtable.apply(NamespaceId(1), Seq(12), &[floats(1, &[(2, 2.5), (3, 3.0), (DAY, 4.0), (0, 0.5)])]);
    assert_eq!(read(&memtable, 10), []);
    assert_eq!(read(&memtable, 11), [(1, 1.0), (2, 2.0)]);
    assert_eq!(read(&memtable, 12), [(0, 0.5), (1, 1.0), (2, 2.5), (3, 3.0), (DAY, 4.0)]);
    assert_eq!(memtable.time_range(SeriesId(1), Seq(11)), Some((1, 2)));
    assert_eq!(memtable.time_range(SeriesId(1), Seq(12)), Some((0, DAY)));
    assert_eq!(
        memtable.series_days().iter().map(|d| (d.day, d.values)).collect::<Vec<_>>(),
        [(0, 5), (1, 1)]
    );
}

#[test]
fn a_day_of_single_rows_costs_24_bytes_a_value_and_one_unfilled_chunk_a_list() {
    let memtable = Memtable::new(Seq(0));
    for i in 0..8640 {
        memtable.apply(NamespaceId(1), Seq(i + 1), &[floats(1, &[(i as i64 * 10_000_000_000, 1.0)])]);
    }
    let per_value = memtable.bytes() as f64 / memtable.values() as f64;
    assert!(per_value <= 26.0, "{per_value} bytes a value");
    assert_eq!(read(&memtable, 8640).len(), 8640);
}

#[test]
fn a_series_of_one_row_costs_a_quarter_of_a_kibibyte() {
    let memtable = Memtable::new(Seq(0));
    let batches: Vec<_> = (0..1000).map(|series| floats(series, &[(5, 1.0)])).collect();
    memtable.apply(NamespaceId(1), Seq(1), &batches);
    let per_series = memtable.bytes() / 1000;
    assert!((64..=256).contains(&per_series), "{per_series} bytes a series");
    assert_eq!(read(&memtable, 1), [(5, 1.0)]);
}

#[test]
fn few_rows_that_become_many_keep_their_marks_and_their_order() {
    let memtable = Memtable::new(Seq(0));
    let mut expected = BTreeMap::new();
    for seq in 1..40_u64 {
        // Two rows a commit: one new, one that corrects an older one; a step back over midnight now and then.
        let (new, old) = (seq as i64 * 10 - if seq % 7 == 0 { DAY } else { 0 }, seq as i64 / 2 * 10);
        memtable.apply(NamespaceId(1), Seq(seq), &[floats(1, &[(new, seq as f64), (old, -(seq as f64))])]);
        expected.insert(new, seq as f64);
        expected.insert(old, -(seq as f64));
        let now: Vec<(i64, f64)> = expected.iter().map(|(time, value)| (*time, *value)).collect();
        assert_eq!(read(&memtable, seq), now, "commit {seq}");
        assert_eq!(
            memtable.time_range(SeriesId(1), Seq(seq)),
            Some((now[0].0, now[now.len() - 1].0)),
            "commit {seq}"
        );
    }
    // Each earlier commit is still seen as it was.
    assert_eq!(read(&memtable, 1), [(0, -1.0), (10, 1.0)]);
    assert_eq!(read(&memtable, 4), [(0, -1.0), (10, -3.0), (20, -4.0), (30, 3.0), (40, 4.0)]);
    let days: Vec<_> = memtable.series_days().iter().map(|day| (day.day, day.values)).collect();
    assert_eq!(days, [(-1, 5), (0, 73)]);
}

type Model = BTreeMap<i64, BTreeMap<u32, i64>>;

proptest! {
    #[test]
    fn any_order_of_rows_reads_like_an_ordered_map(
        commits in prop::collection::vec(
            prop::collection::vec((-3_i64..3, 0_i64..12, prop::collection::btree_map(0_u32..5, any::<i64>(), 1..4)), 1..25),
            1..12,
        ),
        upto in 0_usize..12,
    ) {
        let memtable = Memtable::new(Seq(0));
        let mut expected = Model::new();
        for (i, commit) in commits.iter().enumerate() {
            let times: Vec<i64> = commit.iter().map(|(day, step, _)| day * DAY + step).collect();
            let mut columns: BTreeMap<u32, (Vec<u32>, Vec<i64>)> = BTreeMap::new();
            for (row, (_, _, fields)) in commit.iter().enumerate() {
                for (field, value) in fields {
                    let column = columns.entry(*field).or_default();
                    column.0.push(row as u32);
                    column.1.push(*value);
                }
                if i <= upto {
                    expected.entry(times[row]).or_default().extend(fields.clone());
                }
            }
            let columns = columns.into_iter().map(|(id, (rows, values))| {
                let presence = crate::rows::all_if_full(rows, times.len());
                (FieldId(id), Column { presence, values: Values::Integer(values) })
            }).collect();
            let batch = SeriesBatch { series: SeriesId(1), measurement: MeasurementId(1), times, columns };
            memtable.apply(NamespaceId(1), Seq(i as u64 + 1), &[batch]);
        }
        let seq = Seq(upto as u64 + 1);
        let rows = memtable.read(SeriesId(1), &(i64::MIN..i64::MAX), FieldSet::All, seq).unwrap_or_default();
        let mut seen: Model = rows.times.iter().map(|t| (*t, BTreeMap::new())).collect();
        for (field, column) in &rows.columns {
            let Values::Integer(values) = &column.values else { panic!("integers went in") };
            for (position, value) in values.iter().enumerate() {
                seen.get_mut(&rows.times[column.row(position)]).unwrap().insert(field.0, *value);
            }
        }
        prop_assert_eq!(seen, expected);
        let half = -DAY..5;
        let part = memtable.read(SeriesId(1), &half, FieldSet::Only(&[FieldId(2)]), seq).unwrap_or_default();
        prop_assert_eq!(part, crate::rows::slice_rows(only(rows, FieldId(2)), &half));
    }
}

fn only(mut rows: SeriesRows, field: FieldId) -> SeriesRows {
    rows.columns.retain(|(id, _)| *id == field);
    rows
}
