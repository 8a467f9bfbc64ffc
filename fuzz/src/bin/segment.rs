//! Segments: of any damage to a segment that was written, a reader gives the values that were written or an error, and
//! so does salvage, which also finds what a reader of the whole file would not open. With checksums that fit, nothing ends
//! the process.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq, SeriesId, StoreId};
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::salvage::{PointSink, Salvage, SeriesName, Wanted};
use wattlog_engine::segment::{FieldDef, Segment, SegmentError, SegmentSpec, SegmentWriter, segment_path};
use wattlog_fuzz::{take_flips, turn_over};
use wattlog_model::{FieldKind, FieldType, FieldValue, TagSet};

const STORE: StoreId = StoreId([7; 16]);
const ID: SegmentId = SegmentId(3);
const DAY: i64 = 20_458 * 86_400_000_000_000;
const FIELDS: [(&str, FieldType); 5] = [
    ("f", FieldType::Float),
    ("i", FieldType::Integer),
    ("u", FieldType::Unsigned),
    ("b", FieldType::Boolean),
    ("s", FieldType::String),
];

/// Value by series, time and field.
type Cells = BTreeMap<(u32, i64, u32), FieldValue>;

fuzz_target!(|data: &[u8]| {
    let Some((flips, rest)) = take_flips(data, 4) else { return };
    let Some((&mode, rest)) = rest.split_first() else { return };
    let sim = SimDisk::new(1);
    sim.create_dir("segments").expect("a new disk");
    let path = segment_path(ID);
    let written = write(&sim, &path, rest);
    let mut bytes = sim.read_file(&path).expect("a segment was made");
    if mode & 1 == 1 {
        // Most of a small file is meta region: flips there alone.
        let start = meta_offset(&bytes);
        turn_over(&mut bytes[start..], &flips);
    } else {
        turn_over(&mut bytes, &flips);
    }
    if mode & 2 == 2 {
        bytes.truncate(bytes.len() - usize::from(mode >> 2).min(bytes.len()));
    }
    let trusted = mode & 0x80 == 0;
    if !trusted {
        fix_checksums(&mut bytes);
    }
    let untouched = flips.iter().all(|(_, mask)| *mask == 0) && mode & 2 == 0;
    sim.write_file(&path, bytes);

    let mut read = Cells::new();
    let opened = read_all(&sim, &path, &mut read);
    let mut salvaged = Sink::default();
    let report = Salvage::look(Arc::new(sim.clone()))
        .map(|salvage| salvage.run(&Wanted::default(), &mut salvaged).expect("the sink takes everything"));
    let verified = check::file(&sim, &path).expect("a segment by its name");
    check::dump(&sim, &path).expect("a segment by its name");
    if trusted {
        for (cell, value) in read.iter().chain(&salvaged.cells) {
            assert!(written.get(cell).is_some_and(|own| own.same_bits(value)), "{cell:?} is {value:?}");
        }
        let all = salvaged.cells.len() == written.len();
        assert!(all || !report.is_ok_and(|report| report.is_whole()), "what is missing is told");
        assert!(read.len() <= salvaged.cells.len(), "salvage finds what a reader finds");
    }
    if untouched && trusted {
        assert!(opened.is_ok() && verified.damage.is_empty(), "{opened:?} {verified:?}");
        assert!(read.len() == written.len() && salvaged.cells.len() == written.len());
    }
});

/// A few series with rows out of the input: two bytes a row, what is left over makes texts.
fn write(disk: &SimDisk, path: &str, input: &[u8]) -> Cells {
    let def = |(id, (name, field_type)): (u32, &(&str, FieldType))| FieldDef {
        id: FieldId(id),
        name: (*name).into(),
        field_type: *field_type,
        unit: None,
        kind: FieldKind::Linear,
    };
    let fields: Vec<FieldDef> = (1..).zip(&FIELDS).map(def).collect();
    let spec = SegmentSpec {
        store: STORE,
        id: ID,
        namespace: NamespaceId(1),
        namespace_name: ("home".into(), "autogen".into()),
        min_seq: Seq(1),
        max_seq: Seq(9),
        first_day: 20_458,
        end_day: 20_459,
        midnights: Vec::new(),
    };
    let mut cells = Cells::new();
    // Packed or not, by the input.
    let packed = input.first().is_some_and(|byte| byte & 4 != 0);
    let writer = SegmentWriter::create(disk, path, spec).expect("a disk that works");
    let mut writer = writer.packing_before(if packed { i64::MAX } else { i64::MIN });
    writer.begin_section(MeasurementId(1), "m", &fields).expect("a disk that works");
    for (series, piece) in (1..).zip(input.chunks(input.len() / 3 + 1).take(3)) {
        let mut own: BTreeMap<i64, Vec<(u32, FieldValue)>> = BTreeMap::new();
        let mut time = DAY;
        for (row, pair) in piece.chunks_exact(2).enumerate() {
            time += i64::from(pair[0]) + 1;
            // Some rows many times over, so that there are long groups too.
            let repeats = if pair[0] == 0xff { 80 } else { 1 };
            for _ in 0..repeats {
                time += 1_000_000;
                let fields = (1..=5).filter(|field| pair[1] & (1 << field) != 0 || *field == 1);
                let values = fields.map(|field| (field, value(field, pair[1], row as i64))).collect();
                own.insert(time, values);
            }
        }
        if own.is_empty() {
            continue;
        }
        let tags = TagSet::new([("id", format!("{series}"))]).expect("a good tag");
        writer.write_series(SeriesId(series), &tags, &rows_of(&own)).expect("a disk that works");
        for (time, values) in own {
            cells.extend(values.into_iter().map(|(field, value)| ((series, time, field), value)));
        }
    }
    if cells.is_empty() {
        let own = BTreeMap::from([(DAY, vec![(1, FieldValue::Float(1.5))])]);
        writer.write_series(SeriesId(1), &TagSet::default(), &rows_of(&own)).expect("a disk that works");
        cells.insert((1, DAY, 1), FieldValue::Float(1.5));
    }
    writer.finish().expect("a disk that works");
    cells
}

fn value(field: u32, byte: u8, row: i64) -> FieldValue {
    match field {
        1 if byte.is_multiple_of(7) => FieldValue::Float(f64::from(byte) / 3.0),
        1 => FieldValue::Float(f64::from(byte) / 10.0),
        2 => FieldValue::Integer(row * 10 - i64::from(byte)),
        3 => FieldValue::Unsigned(u64::from(byte) << 40),
        4 => FieldValue::Boolean(byte > 99),
        _ => FieldValue::String(["eco", "off", "normal"][usize::from(byte) % 3].into()),
    }
}

fn rows_of(own: &BTreeMap<i64, Vec<(u32, FieldValue)>>) -> SeriesRows {
    let mut columns: BTreeMap<u32, (Vec<u32>, Values)> = BTreeMap::new();
    for (row, values) in (0..).zip(own.values()) {
        for (field, value) in values {
            let column =
                columns.entry(*field).or_insert_with(|| (Vec::new(), Values::new(value.field_type())));
            column.0.push(row);
            column.1.push(value.clone()).expect("one type a field");
        }
    }
    let column = |(field, (rows, values)): (u32, (Vec<u32>, Values))| {
        let all = rows.len() == own.len();
        let presence = if all { Presence::All } else { Presence::Rows(rows) };
        (FieldId(field), Column { presence, values })
    };
    SeriesRows { times: own.keys().copied().collect(), columns: columns.into_iter().map(column).collect() }
}

/// Everything that an ordinary reader gives; the first error ends the way it is on.
fn read_all(disk: &SimDisk, path: &str, out: &mut Cells) -> Result<(), SegmentError> {
    let segment = Segment::open(disk, path, STORE, ID, ReadMode::Pread)?;
    for section in segment.sections()? {
        let mut series = Vec::new();
        segment.series_keys(&section, &mut |id, _| series.push(id))?;
        for id in series {
            for group in segment.row_groups(section.measurement(), id, i64::MIN..i64::MAX)? {
                let mut times = Vec::new();
                if segment.read_times(&group, &mut times).is_err() {
                    continue;
                }
                for field in section.fields().iter() {
                    let mut column =
                        Column { presence: Presence::All, values: Values::new(field.field_type) };
                    if let Ok(true) = segment.read_column(&group, field.id, &mut column) {
                        for at in 0..column.values.len() {
                            let cell = (id.0, times[column.row(at)], field.id.0);
                            out.insert(cell, column.values.get(at));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Sink {
    cells: Cells,
}

impl PointSink for Sink {
    fn point(
        &mut self,
        name: &SeriesName<'_>,
        time: i64,
        fields: &[(Arc<str>, FieldValue)],
    ) -> io::Result<()> {
        let series = name.tags.iter().next().and_then(|(_, value)| value.parse().ok()).unwrap_or(1);
        for (field, value) in fields {
            let place = FIELDS.iter().position(|own| *own.0 == **field).map_or(0, |at| at as u32 + 1);
            self.cells.insert((series, time, place), value.clone());
        }
        Ok(())
    }
}

/// Of the footer (format-spec.md section 5.15).
fn meta_offset(bytes: &[u8]) -> usize {
    let at = bytes.len() - 96 + 40;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
}

/// Makes the checksums of pages and ends fit what they cover, where their places can still be found.
fn fix_checksums(bytes: &mut [u8]) {
    let len = bytes.len();
    if len < 512 + 4096 + 96 {
        return;
    }
    let put = |bytes: &mut [u8], at: usize, covered: std::ops::Range<usize>| {
        let crc = crc32fast::hash(&bytes[covered]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
        crc
    };
    put(bytes, 60, 0..60);
    put(bytes, 508, 0..508);
    let meta = meta_offset(bytes);
    let mut pages = Vec::new();
    if meta < len - 96 {
        for page in (meta..len - 96).step_by(4096).filter(|page| page + 4096 <= len - 96) {
            if page == meta {
                // The header that stands first in the content.
                put(bytes, page + 32 + 60, page + 32..page + 32 + 60);
            }
            pages.extend(put(bytes, page, page + 4..page + 4096));
        }
    }
    let crc = crc32fast::hash(&pages).to_le_bytes();
    bytes[len - 8..len - 4].copy_from_slice(&crc);
    put(bytes, len - 4, len - 96..len - 4);
}
