//! The text of the specification against the code: the worked example byte for byte, the tables part by part.

use crate::data::{ALL, SECOND, START, STORE, SectionData, open, write};
use crate::{assert_same_rows, read_series};
use std::collections::BTreeMap;
use std::path::Path;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq, SeriesId};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::segment::{FieldDef, SegmentSpec};
use wattlog_model::{FieldKind, FieldType, TagSet, Unit};

/// The chapter on segments, wherever it stands.
fn chapter() -> String {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine is a member of the workspace");
    let texts =
        ["format-spec.md", "docs/spec-parts/segment.md"].map(|path| std::fs::read_to_string(root.join(path)));
    let text = texts.into_iter().flatten().find(|text| text.contains("```hex segment-example"));
    text.expect("format-spec.md has the worked example of a segment")
}

/// The segment of the worked example: a day's first 64 readings of one field at 10 s.
fn example() -> (Vec<u8>, SectionData) {
    let disk = SimDisk::new(1);
    let values = Values::Float((0..64).map(|i| f64::from(1000 + 5 * i) / 10.0).collect());
    let rows = SeriesRows {
        times: (0..64).map(|i| START + i * 10 * SECOND).collect(),
        columns: vec![(FieldId(3), Column { presence: Presence::All, values })],
    };
    let fields = vec![FieldDef {
        id: FieldId(3),
        name: "pv_power".into(),
        field_type: FieldType::Float,
        unit: Unit::new("W"),
        kind: FieldKind::Linear,
    }];
    let tags = TagSet::new([("device_id", "inv1")]).unwrap();
    let section = SectionData { measurement: 1, fields, series: vec![(SeriesId(2), tags, rows)] };
    write(&disk, "1.seg", spec(), std::slice::from_ref(&section));
    (disk.read_file("1.seg").unwrap(), section)
}

fn spec() -> SegmentSpec {
    SegmentSpec {
        store: STORE,
        id: SegmentId(1),
        namespace: NamespaceId(1),
        namespace_name: ("wattlog".into(), "autogen".into()),
        min_seq: Seq(1),
        max_seq: Seq(64),
        first_day: 20_458,
        end_day: 20_459,
        midnights: Vec::new(),
    }
}

/// Sixteen bytes a line; lines of zeros are left out.
fn hex(bytes: &[u8]) -> BTreeMap<usize, String> {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let lines = bytes.chunks(16).enumerate().map(|(i, chunk)| (16 * i, line(chunk)));
    lines.filter(|(_, text)| text.bytes().any(|c| c != b'0' && c != b' ')).collect()
}

/// The bytes of the worked example: what the text shows, and zeros.
fn told() -> Vec<u8> {
    let chapter = chapter();
    let (_, rest) = chapter.split_once("The file has ").expect("the text tells the length");
    let len = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number of bytes");
    let mut bytes = vec![0; len];
    let (_, rest) = chapter.split_once("```hex segment-example\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    for line in block.lines() {
        let (offset, rest) = line.split_once("  ").expect("an offset, two blanks, bytes");
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let shown = rest.split("  ").next().unwrap_or_default().split_whitespace();
        for (i, byte) in shown.enumerate() {
            bytes[offset + i] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    bytes
}

on_both_read_modes! {
    the_worked_example_is_read_as_the_text_says,
}

/// The encoder may choose another codec one day; what the text shows must be read the same for ever.
fn the_worked_example_is_read_as_the_text_says(read_mode: ReadMode) {
    let (told, (written, section)) = (told(), example());
    if told != written {
        println!("{} bytes as the writer writes it now:", written.len());
        for (offset, bytes) in hex(&written) {
            println!("{offset:08x}  {bytes}");
        }
    }
    let disk = SimDisk::new(1);
    disk.write_file("1.seg", told);
    assert_eq!(check::file(&disk, "1.seg").unwrap().damage, []);
    let segment = open(&disk, "1.seg", 1, read_mode).unwrap();
    assert_eq!(segment.spec(), &spec());
    let found = segment.section(MeasurementId(1)).unwrap().unwrap();
    assert_eq!((&**found.name(), &found.fields()[..]), ("m1", &section.fields[..]));
    let (series, tags, rows) = &section.series[0];
    segment.series_keys(&found, &mut |id, key| assert_eq!((id, &key), (*series, tags))).unwrap();
    assert_same_rows(&read_series(&segment, &section, *series, ALL), rows);
    let group = segment.row_groups(MeasurementId(1), *series, ALL).unwrap()[0];
    let statistics = segment.statistics(&group, FieldId(3)).unwrap().unwrap();
    assert_eq!((statistics.sum.value(), statistics.longest_gap_ns), (7408.0, 10 * SECOND));
}

#[test]
fn the_tables_name_every_part_where_it_stands() {
    let chapter = chapter();
    let mut told = BTreeMap::new();
    for line in chapter.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, offset, size, type_name, name, ..] = cells[..]
            && let (Ok(offset), Ok(size)) = (offset.parse::<u64>(), size.parse::<u64>())
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            told.insert(name.to_owned(), (offset, size, type_name.to_owned()));
        }
    }
    for part in check::parts().filter(|part| part.file_kind == "segment") {
        let expected = (part.offset, part.size, part.type_name.to_owned());
        assert_eq!(told.get(part.name), Some(&expected), "{}", part.name);
    }
}
