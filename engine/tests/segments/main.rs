//! Segments through the public API: what is written comes back bit for bit, statistics say what a naive computation
//! says, damage is found and costs at most the block it is in.

#[macro_use]
#[path = "../support/read_modes.rs"]
mod read_modes;

mod damage;
mod data;
mod golden;
mod naive;
mod scale;
mod store;

use data::{
    ALL, MODES, Random, SECOND, START, SectionData, field, open, plant_day, random_sections, spec, write,
};
use naive::assert_statistics;
use std::ops::Range;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, SeriesId};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::segment::Segment;
use wattlog_model::{FieldType, TagSet};

fn same_column(a: &Column, b: &Column) -> bool {
    let rows = |c: &Column| (0..c.values.len()).map(|i| c.row(i)).collect::<Vec<_>>();
    a.values.len() == b.values.len()
        && rows(a) == rows(b)
        && (0..a.values.len()).all(|i| a.values.get(i).same_bits(&b.values.get(i)))
}

/// The rows of one series as the segment gives them back.
fn read_series(segment: &Segment, section: &SectionData, series: SeriesId, range: Range<i64>) -> SeriesRows {
    let groups = segment.row_groups(MeasurementId(section.measurement), series, range).unwrap();
    let mut rows = SeriesRows::default();
    let mut times = Vec::new();
    let mut found: Vec<(FieldId, Vec<u32>, Values)> =
        section.fields.iter().map(|f| (f.id, Vec::new(), Values::new(f.field_type))).collect();
    for group in &groups {
        segment.read_times(group, &mut times).unwrap();
        assert_eq!(times.len(), group.rows as usize);
        let mut present = Vec::new();
        for (id, positions, values) in &mut found {
            let mut column = Column { presence: Presence::All, values: Values::new(FieldType::Float) };
            if segment.read_column(group, *id, &mut column).unwrap() {
                present.push(*id);
                for i in 0..column.values.len() {
                    positions.push((rows.times.len() + column.row(i)) as u32);
                }
                values.extend_from(&column.values, 0..column.values.len());
            }
        }
        let mut fields = segment.fields_of(group).unwrap();
        fields.sort_unstable();
        assert_eq!(fields, present);
        rows.times.extend_from_slice(&times);
    }
    for (id, positions, values) in found {
        if !values.is_empty() {
            rows.columns.push((id, Column { presence: Presence::Rows(positions), values }));
        }
    }
    rows
}

fn assert_same_rows(found: &SeriesRows, expected: &SeriesRows) {
    assert_eq!(found.times, expected.times);
    assert_eq!(found.columns.len(), expected.columns.len());
    for ((a, found), (b, expected)) in found.columns.iter().zip(&expected.columns) {
        assert_eq!(a, b);
        let found_rows = Column {
            presence: match &expected.presence {
                Presence::All => Presence::All,
                Presence::Rows(_) => found.presence.clone(),
            },
            values: found.values.clone(),
        };
        assert!(same_column(&found_rows, expected), "field {a}");
    }
}

#[test]
fn what_is_written_comes_back_in_both_read_modes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let sections = random_sections(&mut random);
        let path = format!("{seed}.seg");
        let summary = write(&disk, &path, spec(seed), &sections);
        let rows: usize = sections.iter().flat_map(|s| &s.series).map(|(.., rows)| rows.times.len()).sum();
        assert_eq!(summary.rows, rows as u64);
        for mode in MODES {
            let segment = open(&disk, &path, seed, mode).unwrap();
            assert_eq!(segment.spec(), &spec(seed));
            assert_eq!(segment.totals(), (summary.rows, summary.values));
            assert_eq!(segment.time_range(), (summary.first_time, summary.last_time));
            let (data, time, meta) = segment.bytes_by_kind();
            assert_eq!((data, time, meta), (summary.data_bytes, summary.time_bytes, summary.meta_bytes));
            assert_eq!(data + time + meta, summary.file_bytes);
            assert_eq!(segment.measurements().collect::<Vec<_>>(), summary.sections);
            for section in &sections {
                let found = segment.section(MeasurementId(section.measurement)).unwrap().unwrap();
                assert_eq!(found.fields()[..], section.fields[..]);
                assert_eq!(**found.name(), *format!("m{}", section.measurement));
                let mut keys = Vec::new();
                segment.series_keys(&found, &mut |id, tags| keys.push((id, tags))).unwrap();
                let expected: Vec<_> =
                    section.series.iter().map(|(id, tags, _)| (*id, tags.clone())).collect();
                assert_eq!(keys, expected);
                for (series, _, rows) in &section.series {
                    assert_same_rows(&read_series(&segment, section, *series, ALL), rows);
                }
                assert_statistics(&segment, section);
            }
            assert!(segment.section(MeasurementId(999)).unwrap().is_none());
        }
        let report = check::file(&disk, &path).unwrap();
        assert_eq!(report.damage, []);
        assert_eq!((report.rows, report.values), (summary.rows, summary.values));
        assert_eq!((report.blocks, report.bytes), (summary.blocks, summary.file_bytes));
        assert!(check::dump(&disk, &path).unwrap().iter().all(|line| line.part != "damage"));
    }
}

on_both_read_modes! {
    a_range_gives_the_groups_that_meet_it,
}

fn a_range_gives_the_groups_that_meet_it(read_mode: ReadMode) {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    let fields = vec![field(1, FieldType::Float)];
    let times: Vec<i64> = (0..8640).map(|i| START + i * 10 * SECOND).collect();
    let values = Values::Float((0..8640).map(|i| f64::from(i) / 10.0).collect());
    let rows = SeriesRows { times, columns: vec![(FieldId(1), Column { presence: Presence::All, values })] };
    let section =
        SectionData { measurement: 1, fields, series: vec![(SeriesId(5), TagSet::default(), rows)] };
    write(&disk, "1.seg", spec(1), &[section]);
    let segment = open(&disk, "1.seg", 1, read_mode).unwrap();
    let groups = |range: Range<i64>| {
        let found = segment.row_groups(MeasurementId(1), SeriesId(5), range).unwrap();
        found.iter().map(|g| (g.first_time - START) / SECOND).collect::<Vec<_>>()
    };
    assert_eq!(groups(ALL).len(), 9);
    assert_eq!(groups(START..START + 1), [0]);
    assert_eq!(groups(START + 10_230 * SECOND..START + 10_240 * SECOND), [0]);
    assert_eq!(groups(START + 10_231 * SECOND..START + 10_240 * SECOND), [0_i64; 0]);
    assert_eq!(groups(START + 10_231 * SECOND..START + 10_241 * SECOND), [10_240]);
    assert_eq!(groups(START - 5..START), [0_i64; 0]);
    assert_eq!(groups(START + 86_390 * SECOND..i64::MAX), [81_920]);
    assert_eq!(groups(START + 86_391 * SECOND..i64::MAX), [0_i64; 0]);
    assert!(segment.row_groups(MeasurementId(1), SeriesId(4), ALL).unwrap().is_empty());
    assert!(segment.row_groups(MeasurementId(2), SeriesId(5), ALL).unwrap().is_empty());
    let all = segment.series_statistics(MeasurementId(1), SeriesId(5), FieldId(1)).unwrap().unwrap();
    assert_eq!((all.count, all.sum.value()), (8640, 8639.0 * 8640.0 / 20.0));
}

#[test]
fn what_describes_a_day_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    for (id, jitter_ms, limit) in [(1, 0, 0.05), (2, 100, 0.07)] {
        let path = format!("{id}.seg");
        let summary = write(&disk, &path, spec(id), &[plant_day(jitter_ms)]);
        let per_value = |bytes: u64| bytes as f64 / summary.values as f64;
        println!(
            "jitter {jitter_ms} ms: data {:.4}, time {:.4}, meta {:.4} B/value",
            per_value(summary.data_bytes),
            per_value(summary.time_bytes),
            per_value(summary.meta_bytes)
        );
        assert!(per_value(summary.meta_bytes) <= limit, "{}", per_value(summary.meta_bytes));
    }
}
