//! Segments through the public API: what is written comes back bit for bit, statistics say what a naive computation
//! says, damage costs at most the block it is in.

use std::ops::Range;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq, SeriesId, StoreId};
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::segment::{
    BlockStatistics, FieldDef, RowGroup, Segment, SegmentError, SegmentSpec, SegmentSummary, SegmentWriter,
};
use wattlog_model::{ExactSum, FieldKind, FieldType, FieldValue, TagSet, Timestamp, Unit, short_decimal};

const DAY: i64 = Timestamp::DAY_NS;
const SECOND: i64 = 1_000_000_000;
/// 2026-01-05, a Monday.
const START: i64 = 20_458 * DAY;
const ALL: Range<i64> = i64::MIN..i64::MAX;
const STORE: StoreId = StoreId(*b"0123456789abcdef");
const MODES: [ReadMode; 2] = [ReadMode::Map, ReadMode::Pread];

/// A section to write: measurement, name, fields, series with their keys and rows.
#[derive(Debug, Clone, Default)]
struct SectionData {
    measurement: u32,
    fields: Vec<FieldDef>,
    series: Vec<(SeriesId, TagSet, SeriesRows)>,
}

fn spec(id: u64) -> SegmentSpec {
    SegmentSpec {
        store: STORE,
        id: SegmentId(id),
        namespace: NamespaceId(7),
        namespace_name: ("wattlog".into(), "autogen".into()),
        min_seq: Seq(10),
        max_seq: Seq(99),
        first_day: 20_458,
        end_day: 20_459,
    }
}

fn field(id: u32, field_type: FieldType) -> FieldDef {
    FieldDef {
        id: FieldId(id),
        name: format!("field {id}").into(),
        field_type,
        unit: Unit::new(if id.is_multiple_of(2) { "W" } else { "" }),
        kind: FieldKind::from_number((id % 3) as u8).unwrap(),
    }
}

fn write(disk: &dyn Disk, path: &str, spec: SegmentSpec, sections: &[SectionData]) -> SegmentSummary {
    let mut writer = SegmentWriter::create(disk, path, spec).unwrap();
    for section in sections {
        let name = format!("m{}", section.measurement);
        writer.begin_section(MeasurementId(section.measurement), &name, &section.fields).unwrap();
        for (id, tags, rows) in &section.series {
            writer.write_series(*id, tags, rows).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn open(disk: &dyn Disk, path: &str, id: u64, mode: ReadMode) -> Result<Segment, SegmentError> {
    Segment::open(disk, path, STORE, SegmentId(id), mode)
}

/// Small, fast and seeded (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn random_value(random: &mut Random, field_type: FieldType, style: u64) -> FieldValue {
    match field_type {
        FieldType::Float => FieldValue::Float(match style {
            // Decimals of a sensor.
            0 => random.below(100_000) as f64 / 10.0,
            // Decimals with garbage among them.
            1 if random.one_in(40) => f64::from_bits(random.next() & 0x7fef_ffff_ffff_ffff),
            1 => random.below(50_000) as f64 / 100.0 - 100.0,
            // True doubles.
            2 => (random.below(1 << 53) as f64).sqrt() - 1e7,
            3 => [0.0, -0.0, 5e-324, f64::MAX, f64::MIN, 1e-9, 0.1, 9_007_199_254_740_991.0]
                [random.below(8) as usize],
            _ => 42.5,
        }),
        FieldType::Integer => FieldValue::Integer(match style {
            0 => random.below(1000) as i64 - 500,
            1 => random.next() as i64,
            2 => [i64::MIN, i64::MAX, 0, -1][random.below(4) as usize],
            _ => random.below(1 << 40) as i64,
        }),
        FieldType::Unsigned => FieldValue::Unsigned(match style {
            0 => random.below(1000),
            1 => random.next(),
            _ => [u64::MAX, 0][random.below(2) as usize],
        }),
        FieldType::Boolean => FieldValue::Boolean(random.one_in(if style == 0 { 2 } else { 50 })),
        FieldType::String => FieldValue::String(match style {
            0 => ["idle", "charge", "discharge", ""][random.below(4) as usize].into(),
            1 => format!("{:x}", random.next()).into(),
            _ => "error ".repeat(random.below(20) as usize).into(),
        }),
    }
}

fn random_rows(random: &mut Random, fields: &[FieldDef], rows: usize, step: i64) -> SeriesRows {
    let mut times = Vec::with_capacity(rows);
    let mut time = START + random.below(3) as i64 * SECOND;
    let jitter = [1, 50_000_000, 1_000_003][random.below(3) as usize];
    for _ in 0..rows {
        times.push(time + random.below(jitter.min(step as u64)) as i64);
        time += step * if random.one_in(100) { 20 } else { 1 };
    }
    let mut columns = Vec::new();
    for field in fields {
        let (presence, style) = (random.below(5), random.below(5));
        let mut present = Vec::new();
        let mut values = Values::new(field.field_type);
        let mut run = true;
        for row in 0..rows as u32 {
            let here = match presence {
                0 | 1 => true,
                2 => random.one_in(2),
                3 => random.one_in(100),
                _ => {
                    run ^= random.one_in(60);
                    run
                }
            };
            if here {
                present.push(row);
                values.push(random_value(random, field.field_type, style)).unwrap();
            }
        }
        if present.is_empty() {
            continue;
        }
        let all = present.len() == rows && random.one_in(2);
        let presence = if all { Presence::All } else { Presence::Rows(present) };
        columns.push((field.id, Column { presence, values }));
    }
    SeriesRows { times, columns }
}

fn random_sections(random: &mut Random) -> Vec<SectionData> {
    let mut sections = Vec::new();
    let (mut measurement, mut series_id) = (0, 0);
    for _ in 0..=random.below(4) {
        measurement += 1 + random.below(5) as u32;
        let mut id = 0;
        let fields: Vec<FieldDef> = (0..=random.below(7))
            .map(|_| {
                id += 1 + random.below(3) as u32;
                field(id, FieldType::ALL[random.below(5) as usize])
            })
            .collect();
        let mut series = Vec::new();
        for s in 0..=random.below(6) {
            series_id += 1 + random.below(3) as u32;
            let tags =
                TagSet::new([("device_id", format!("dev-{s}")), ("location", "roof".to_owned())]).unwrap();
            let rows = [1, 5, 63, 64, 500, 1024, 1025, 3000][random.below(8) as usize];
            let step = [SECOND, 10 * SECOND, 900 * SECOND, 1][random.below(4) as usize].max(1_100_000);
            series.push((SeriesId(series_id), tags, random_rows(random, &fields, rows, step)));
        }
        sections.push(SectionData { measurement, fields, series });
    }
    sections
}

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

/// Statistics by the words of the specification, one value at a time.
fn naive(points: &[(i64, FieldValue)]) -> BlockStatistics {
    let number = |value: &FieldValue| match value {
        FieldValue::Float(v) => Some(*v),
        FieldValue::Integer(v) => Some(*v as f64),
        FieldValue::Unsigned(v) => Some(*v as f64),
        _ => None,
    };
    let less = |a: &FieldValue, b: &FieldValue| match (a, b) {
        (FieldValue::Float(a), FieldValue::Float(b)) => a < b,
        (FieldValue::Integer(a), FieldValue::Integer(b)) => a < b,
        (FieldValue::Unsigned(a), FieldValue::Unsigned(b)) => a < b,
        _ => false,
    };
    let nanos = |value: &FieldValue| match value {
        FieldValue::Float(v) => short_decimal(*v).map(|(i, e)| i128::from(i) * 10_i128.pow(9 - u32::from(e))),
        FieldValue::Integer(v) => Some(i128::from(*v) * 1_000_000_000),
        FieldValue::Unsigned(v) => Some(i128::from(*v) * 1_000_000_000),
        _ => None,
    };
    let product = |value: &FieldValue, gap: i128| match nanos(value) {
        Some(nanos) => nanos.checked_mul(gap).map_or_else(
            || {
                let mut sum = ExactSum::default();
                sum.add_rest(nanos as f64 / 1e9 * gap as f64);
                sum
            },
            |product| ExactSum::from_parts(product, 0.0, 0.0),
        ),
        None => {
            let mut sum = ExactSum::default();
            sum.add_rest(number(value).unwrap() * gap as f64);
            sum
        }
    };
    let mut statistics = BlockStatistics {
        count: points.len() as u32,
        first: points[0].clone(),
        last: points[points.len() - 1].clone(),
        min: None,
        max: None,
        sum: ExactSum::default(),
        integral_step: ExactSum::default(),
        integral_trapezoid_twice: ExactSum::default(),
        longest_gap_ns: 0,
        negative_deltas: 0,
        exceptions: 0,
    };
    for (i, (time, value)) in points.iter().enumerate() {
        match value {
            FieldValue::Float(v) => statistics.sum.add_float(*v),
            FieldValue::Integer(v) => statistics.sum.add_integer(i128::from(*v)),
            FieldValue::Unsigned(v) => statistics.sum.add_integer(i128::from(*v)),
            _ => {}
        }
        if let Some(number) = number(value) {
            statistics.exceptions += u32::from(nanos(value).is_none());
            if !number.is_nan() && statistics.min.as_ref().is_none_or(|(_, min)| less(value, min)) {
                statistics.min = Some((*time, value.clone()));
            }
            if !number.is_nan() && statistics.max.as_ref().is_none_or(|(_, max)| less(max, value)) {
                statistics.max = Some((*time, value.clone()));
            }
        }
        if i > 0 {
            let (before, earlier) = &points[i - 1];
            let gap = i128::from(*time) - i128::from(*before);
            statistics.longest_gap_ns = statistics.longest_gap_ns.max(i64::try_from(gap).unwrap_or(i64::MAX));
            if number(value).is_some() {
                statistics.negative_deltas += u32::from(less(value, earlier));
                statistics.integral_step.merge(&product(earlier, gap));
                statistics.integral_trapezoid_twice.merge(&product(earlier, gap));
                statistics.integral_trapezoid_twice.merge(&product(value, gap));
            }
        }
    }
    statistics
}

fn points_of(segment: &Segment, group: &RowGroup, field: FieldId) -> Vec<(i64, FieldValue)> {
    let mut times = Vec::new();
    let mut column = Column { presence: Presence::All, values: Values::new(FieldType::Float) };
    segment.read_times(group, &mut times).unwrap();
    if !segment.read_column(group, field, &mut column).unwrap() {
        return Vec::new();
    }
    (0..column.values.len()).map(|i| (times[column.row(i)], column.values.get(i))).collect()
}

fn assert_statistics(segment: &Segment, section: &SectionData) {
    let measurement = MeasurementId(section.measurement);
    for (series, ..) in &section.series {
        let groups = segment.row_groups(measurement, *series, ALL).unwrap();
        for field in &section.fields {
            let mut at_once = Vec::new();
            segment.statistics_of(&groups, field.id, |_, statistics| at_once.push(statistics)).unwrap();
            let mut joined: Option<BlockStatistics> = None;
            let mut described = true;
            for (group, at_once) in groups.iter().zip(&at_once) {
                let points = points_of(segment, group, field.id);
                let found = segment.statistics(group, field.id).unwrap();
                assert_eq!(found.is_some(), at_once.is_some());
                let Some(found) = found else {
                    assert!(points.is_empty() || group.compact || field.field_type == FieldType::String);
                    described &= points.is_empty();
                    continue;
                };
                assert!(found.same_bits(at_once.as_ref().unwrap()));
                let expected = naive(&points);
                assert!(found.same_bits(&expected), "{found:?}\n{expected:?}");
                match &mut joined {
                    Some(joined) => joined.join(&found),
                    None => joined = Some(found),
                }
            }
            let summary = segment.series_statistics(measurement, *series, field.id).unwrap();
            if let Some(summary) = &summary {
                assert!(summary.same_bits(joined.as_ref().unwrap()), "{summary:?}\n{joined:?}");
            }
            let several = joined.as_ref().is_some_and(|j| described && j.count > 1024);
            assert!(summary.is_some() || !several, "a summary is kept where several blocks are described");
        }
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
        let path = format!("seg-{seed}");
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
    }
}

#[test]
fn a_range_gives_the_groups_that_meet_it() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    let fields = vec![field(1, FieldType::Float)];
    let times: Vec<i64> = (0..8640).map(|i| START + i * 10 * SECOND).collect();
    let values = Values::Float((0..8640).map(|i| f64::from(i) / 10.0).collect());
    let rows = SeriesRows { times, columns: vec![(FieldId(1), Column { presence: Presence::All, values })] };
    let section =
        SectionData { measurement: 1, fields, series: vec![(SeriesId(5), TagSet::default(), rows)] };
    write(&disk, "seg", spec(1), &[section]);
    let segment = open(&disk, "seg", 1, ReadMode::Map).unwrap();
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

/// A day of a plant at 10 s: 10 devices, six decimals each; `jitter_ms` moves each stamp.
fn plant_day(jitter_ms: u64) -> SectionData {
    let mut random = Random(11);
    let fields: Vec<FieldDef> = (1..=6).map(|id| field(id, FieldType::Float)).collect();
    let series = (1..=10)
        .map(|device| {
            let times: Vec<i64> = (0..8640)
                .map(|i| START + i * 10 * SECOND + (random.below(jitter_ms.max(1)) * 1_000_000) as i64)
                .collect();
            let columns = [
                (1000.0, 10.0),
                (80_000.0, 10.0),
                (50_000.0, 1.0),
                (60_000.0, 1.0),
                (400.0, 10.0),
                (900.0, 1e4),
            ]
            .iter()
            .enumerate()
            .map(|(i, (size, scale))| {
                let mut level = random.below(*size as u64) as f64;
                let values = (0..8640)
                    .map(|_| {
                        level =
                            (level + (random.below(41) as f64 - 20.0) * size / 2000.0).clamp(-size, *size);
                        level.round() / scale + 0.0
                    })
                    .collect();
                let column = Column { presence: Presence::All, values: Values::Float(values) };
                (FieldId(i as u32 + 1), column)
            })
            .collect();
            let tags = TagSet::new([("device_id", format!("inverter-{device}"))]).unwrap();
            (SeriesId(device), tags, SeriesRows { times, columns })
        })
        .collect();
    SectionData { measurement: 1, fields, series }
}

#[test]
fn what_describes_a_day_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    for (id, jitter_ms, limit) in [(1, 0, 0.05), (2, 100, 0.07)] {
        let path = format!("seg-{id}");
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
