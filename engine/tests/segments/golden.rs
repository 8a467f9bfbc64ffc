//! The text of the specification against the code: the worked example byte for byte, the tables part by part.

use crate::data::{SECOND, START, STORE, SectionData, write};
use std::collections::BTreeMap;
use std::path::Path;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, NamespaceId, SegmentId, Seq, SeriesId};
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
fn example() -> Vec<u8> {
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
    let spec = SegmentSpec {
        store: STORE,
        id: SegmentId(1),
        namespace: NamespaceId(1),
        namespace_name: ("wattlog".into(), "autogen".into()),
        min_seq: Seq(1),
        max_seq: Seq(64),
        first_day: 20_458,
        end_day: 20_459,
    };
    write(&disk, "1.seg", spec, &[section]);
    assert_eq!(check::file(&disk, "1.seg").unwrap().damage, []);
    disk.read_file("1.seg").unwrap()
}

/// Sixteen bytes a line; lines of zeros are left out.
fn hex(bytes: &[u8]) -> BTreeMap<usize, String> {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let lines = bytes.chunks(16).enumerate().map(|(i, chunk)| (16 * i, line(chunk)));
    lines.filter(|(_, text)| text.bytes().any(|c| c != b'0' && c != b' ')).collect()
}

#[test]
fn the_worked_example_is_what_the_writer_writes() {
    let chapter = chapter();
    let (_, rest) = chapter.split_once("```hex segment-example\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let mut told = BTreeMap::new();
    for line in block.lines() {
        let (offset, rest) = line.split_once("  ").expect("an offset, two blanks, bytes");
        let bytes = rest.split("  ").next().unwrap_or_default().trim();
        told.insert(usize::from_str_radix(offset, 16).unwrap(), bytes.to_owned());
    }
    let written = example();
    let expected = hex(&written);
    if told != expected {
        for (offset, bytes) in &expected {
            println!("{offset:08x}  {bytes}");
        }
    }
    assert_eq!(told, expected);
    assert!(
        chapter.contains(&format!("{} bytes", written.len())),
        "the text tells the length of the example"
    );
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
