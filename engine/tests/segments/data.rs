//! Rows to write, seeded, and the writing of them.

use std::ops::Range;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq, SeriesId, StoreId};
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::segment::{FieldDef, Segment, SegmentError, SegmentSpec, SegmentSummary, SegmentWriter};
use wattlog_model::{FieldKind, FieldType, FieldValue, TagSet, Timestamp, Unit};

pub(crate) const DAY: i64 = Timestamp::DAY_NS;
pub(crate) const SECOND: i64 = 1_000_000_000;
/// 2026-01-05, a Monday.
pub(crate) const START: i64 = 20_458 * DAY;
pub(crate) const ALL: Range<i64> = i64::MIN..i64::MAX;
pub(crate) const STORE: StoreId = StoreId(*b"0123456789abcdef");
pub(crate) const MODES: [ReadMode; 2] = [ReadMode::Map, ReadMode::Pread];

/// A section to write: measurement, name, fields, series with their keys and rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct SectionData {
    pub(crate) measurement: u32,
    pub(crate) fields: Vec<FieldDef>,
    pub(crate) series: Vec<(SeriesId, TagSet, SeriesRows)>,
}

pub(crate) fn spec(id: u64) -> SegmentSpec {
    SegmentSpec {
        store: STORE,
        id: SegmentId(id),
        namespace: NamespaceId(7),
        namespace_name: ("wattlog".into(), "autogen".into()),
        min_seq: Seq(10),
        max_seq: Seq(99),
        first_day: 20_458,
        end_day: 20_459,
        midnights: Vec::new(),
    }
}

pub(crate) fn field(id: u32, field_type: FieldType) -> FieldDef {
    FieldDef {
        id: FieldId(id),
        name: format!("field {id}").into(),
        field_type,
        unit: Unit::new(if id.is_multiple_of(2) { "W" } else { "" }),
        kind: FieldKind::from_number((id % 3) as u8).unwrap(),
    }
}

pub(crate) fn write(
    disk: &dyn Disk,
    path: &str,
    spec: SegmentSpec,
    sections: &[SectionData],
) -> SegmentSummary {
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

pub(crate) fn open(disk: &dyn Disk, path: &str, id: u64, mode: ReadMode) -> Result<Segment, SegmentError> {
    Segment::open(disk, path, STORE, SegmentId(id), mode)
}

/// Small, fast and seeded (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(crate) fn random_value(random: &mut Random, field_type: FieldType, style: u64) -> FieldValue {
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

pub(crate) fn random_rows(random: &mut Random, fields: &[FieldDef], rows: usize, step: i64) -> SeriesRows {
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

pub(crate) fn random_sections(random: &mut Random) -> Vec<SectionData> {
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

/// A day of a plant at 10 s: 10 devices, six decimals each; `jitter_ms` moves each stamp.
pub(crate) fn plant_day(jitter_ms: u64) -> SectionData {
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
