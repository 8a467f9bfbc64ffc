//! Damage: every flipped bit and every lost byte is found, costs at most the block it is in, and ends nothing; bytes
//! with right checksums and wrong meaning end nothing either.

use crate::data::{ALL, Random, STORE, SectionData, field, open, random_rows, spec, write};
use crate::naive::points_of;
use std::ops::Range;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, SegmentId, SeriesId, StoreId};
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::io::{Disk, ReadMode, open_sealed};
use wattlog_engine::segment::layout::{
    BlockEntry, FOOTER_LEN, Footer, HEADER_LEN, META_HEADER_END, PAGE_CONTENT_LEN, PAGE_HEADER_LEN, PAGE_LEN,
    SectionEntry, place_crc,
};
use wattlog_engine::segment::{Segment, SegmentError};
use wattlog_model::{FieldType, FieldValue, TagSet};

const PATH: &str = "1.seg";

/// One series of three short row groups' worth, one compact, and a second measurement with a single row.
fn small() -> Vec<SectionData> {
    let mut random = Random(3);
    let fields: Vec<_> = FieldType::ALL.iter().zip(1..).map(|(t, id)| field(id, *t)).collect();
    let key = |name: &str| TagSet::new([("device_id", name)]).unwrap();
    let mut series = Vec::new();
    for (id, rows) in [(1, 70), (2, 5), (4, 1030)] {
        let few = if rows > 1000 { &fields[..1] } else { &fields[..] };
        let rows = random_rows(&mut random, few, rows, 60_000_000_000);
        series.push((SeriesId(id), key(&format!("d{id}")), rows));
    }
    let one = SeriesRows {
        times: vec![5],
        columns: vec![(FieldId(9), Column { presence: Presence::All, values: Values::Float(vec![-0.0]) })],
    };
    vec![
        SectionData { measurement: 1, fields, series },
        SectionData {
            measurement: 2,
            fields: vec![field(9, FieldType::Float)],
            series: vec![(SeriesId(7), TagSet::default(), one)],
        },
    ]
}

fn written() -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(1);
    write(&disk, PATH, spec(1), &small());
    disk.settle();
    let bytes = disk.read_file(PATH).unwrap();
    (disk, bytes)
}

/// A block by (measurement, series, first time of the group, field) and its points, or that it could not be read.
type Block = ((u32, u32, i64, u32), Result<Vec<(i64, FieldValue)>, SegmentError>);

/// Everything that can be read, block by block.
fn read_blocks(segment: &Segment) -> Result<Vec<Block>, SegmentError> {
    let mut blocks = Vec::new();
    for section in segment.sections()? {
        let measurement = section.measurement();
        let mut series = Vec::new();
        segment.series_keys(&section, &mut |id, _| series.push(id))?;
        for id in series {
            for group in segment.row_groups(measurement, id, ALL)? {
                let mut times = Vec::new();
                let times = segment.read_times(&group, &mut times).map(|()| times);
                for field in section.fields().iter() {
                    let key = (measurement.0, id.0, group.first_time, field.id.0);
                    let mut column =
                        Column { presence: Presence::All, values: Values::new(field.field_type) };
                    let read = segment.read_column(&group, field.id, &mut column);
                    let points = match (&times, read) {
                        (_, Ok(false)) => continue,
                        (Ok(times), Ok(true)) => Ok((0..column.values.len())
                            .map(|i| (times[column.row(i)], column.values.get(i)))
                            .collect()),
                        (Err(error), _) => Err(error.to_damage().into()),
                        (_, Err(error)) => Err(error),
                    };
                    blocks.push((key, points));
                }
                for field in section.fields().iter() {
                    segment.statistics(&group, field.id)?;
                }
            }
        }
    }
    Ok(blocks)
}

fn same_points(a: &[(i64, FieldValue)], b: &[(i64, FieldValue)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.same_bits(&b.1))
}

on_both_read_modes! {
    every_flipped_bit_is_found_and_no_wrong_value_is_given,
    a_file_cut_anywhere_is_no_segment,
    a_file_of_another_name_or_store_is_refused,
    a_misdirected_block_is_found,
    a_page_that_cannot_be_read_is_an_error_and_marks_the_file,
    a_meta_region_that_stands_alone_proves_a_block_from_elsewhere,
    wrong_bytes_under_right_checksums_end_nothing,
    wrong_blocks_under_right_checksums_end_nothing,
    a_writer_that_meets_an_error_leaves_no_segment,
}

fn every_flipped_bit_is_found_and_no_wrong_value_is_given(read_mode: ReadMode) {
    let (disk, bytes) = written();
    let truth = read_blocks(&open(&disk, PATH, 1, read_mode).unwrap()).unwrap();
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes[bytes.len() - FOOTER_LEN..]);
    let data = HEADER_LEN..footer.data_end.get() as usize;
    println!("{} bytes, {} of them data", bytes.len(), data.len());
    let groups: std::collections::BTreeSet<_> = truth.iter().map(|((m, s, t, _), _)| (*m, *s, *t)).collect();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << bit;
            disk.write_file(PATH, flipped);
            let report = check::file(&disk, PATH).unwrap();
            assert!(!report.damage.is_empty(), "bit {bit} of byte {offset} was not found");
            if bit != offset % 8 && !data.contains(&offset) {
                continue;
            }
            let Ok(segment) = open(&disk, PATH, 1, read_mode) else {
                assert!(
                    !data.contains(&offset),
                    "damage of a block, byte {offset}, leaves the rest readable"
                );
                continue;
            };
            let Ok(found) = read_blocks(&segment) else {
                assert!(
                    !data.contains(&offset),
                    "damage of a block, byte {offset}, leaves the index readable"
                );
                continue;
            };
            let mut lost = std::collections::BTreeSet::new();
            let mut lost_blocks = 0;
            for ((key, found), (true_key, truth)) in found.iter().zip(&truth) {
                assert_eq!(key, true_key);
                if let (Ok(found), Ok(truth)) = (found, truth) {
                    assert!(same_points(found, truth), "byte {offset}: a wrong value");
                } else {
                    lost.insert((key.0, key.1, key.2));
                    lost_blocks += 1;
                }
            }
            if data.contains(&offset) {
                assert_eq!(lost.len(), 1, "byte {offset}");
                assert!(groups.contains(lost.first().unwrap()) && lost_blocks >= 1);
            }
        }
    }
}

fn a_file_cut_anywhere_is_no_segment(read_mode: ReadMode) {
    let (disk, bytes) = written();
    for len in 0..bytes.len() {
        disk.write_file(PATH, bytes[..len].to_vec());
        let error = open(&disk, PATH, 1, read_mode).expect_err("a cut file has no footer");
        assert!(matches!(error, SegmentError::Damage(_)), "{len}: {error}");
        assert!(!check::file(&disk, PATH).unwrap().damage.is_empty(), "{len}");
        check::dump(&disk, PATH).unwrap();
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&bytes[bytes.len() - FOOTER_LEN..]);
    disk.write_file(PATH, longer);
    assert!(open(&disk, PATH, 1, read_mode).is_err());
}

fn a_file_of_another_name_or_store_is_refused(read_mode: ReadMode) {
    let (disk, _) = written();
    let other = Segment::open(&disk, PATH, STORE, SegmentId(2), read_mode).unwrap_err();
    assert!(other.to_string().contains("segment"), "{other}");
    assert!(Segment::open(&disk, PATH, StoreId::default(), SegmentId(1), read_mode).is_err());
    let missing = open(&disk, "2.seg", 2, read_mode).unwrap_err();
    assert!(matches!(missing, SegmentError::Io { .. }), "{missing}");
    assert_eq!(missing.to_damage().part, "read");
}

/// A block of the same length at another place of the same file, and the same place of another file: the bytes are
/// whole, the place is wrong.
fn a_misdirected_block_is_found(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    let fields = vec![field(1, FieldType::Integer)];
    let rows = |value: i64| SeriesRows {
        times: (0..100).collect(),
        columns: vec![(
            FieldId(1),
            Column { presence: Presence::All, values: Values::Integer(vec![value; 100]) },
        )],
    };
    let series = |value| {
        vec![
            (SeriesId(1), TagSet::default(), rows(value)),
            (SeriesId(2), TagSet::new([("a", "b")]).unwrap(), rows(value + 1)),
        ]
    };
    for (id, value) in [(1, 5), (2, 9)] {
        let section = SectionData { measurement: 1, fields: fields.clone(), series: series(value) };
        write(&disk, &format!("{id}.seg"), spec(id), &[section]);
    }
    disk.settle();
    let (one, two) = (disk.read_file("1.seg").unwrap(), disk.read_file("2.seg").unwrap());
    let footer: Footer = bytemuck::pod_read_unaligned(&one[one.len() - FOOTER_LEN..]);
    let data = HEADER_LEN..footer.data_end.get() as usize;
    let half = data.len() / 2;

    let mut swapped = one.clone();
    swapped[data.start..data.start + half].copy_from_slice(&one[data.start + half..data.end]);
    disk.write_file("1.seg", swapped);
    assert!(!check::file(&disk, "1.seg").unwrap().damage.is_empty());

    let mut foreign = one.clone();
    foreign[data.clone()].copy_from_slice(&two[data]);
    disk.write_file("1.seg", foreign);
    let segment = open(&disk, "1.seg", 1, read_mode).unwrap();
    for (_, points) in read_blocks(&segment).unwrap() {
        assert!(matches!(points, Err(SegmentError::Damage(d)) if d.part == "block_crc"));
    }
}

fn a_page_that_cannot_be_read_is_an_error_and_marks_the_file(read_mode: ReadMode) {
    let (disk, _) = written();
    let segment = open(&disk, PATH, 1, read_mode).unwrap();
    disk.spoil_page(PATH, 600);
    let group = segment.row_groups(MeasurementId(1), SeriesId(1), ALL).unwrap()[0];
    let error = segment.read_times(&group, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, SegmentError::Io { .. }), "{error}");
    assert!(segment.is_poisoned());
    assert!(!check::file(&disk, PATH).unwrap().damage.is_empty());
}

fn a_meta_region_that_stands_alone_proves_a_block_from_elsewhere(read_mode: ReadMode) {
    let (disk, bytes) = written();
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes[bytes.len() - FOOTER_LEN..]);
    let meta = footer.meta_offset.get() as usize..bytes.len() - FOOTER_LEN;
    disk.write_file("1.meta", bytes[meta].to_vec());
    let whole = read_blocks(&open(&disk, PATH, 1, read_mode).unwrap()).unwrap();
    // Only the data region is left of the segment, and one byte of it is wrong.
    let mut data = bytes[..footer.data_end.get() as usize].to_vec();
    data[HEADER_LEN] ^= 1;
    disk.write_file(PATH, data);
    let open = |path: &str| open_sealed(&disk, path, read_mode).unwrap();
    let alone = Segment::open_detached(open("1.meta"), open(PATH), PATH, STORE, SegmentId(1)).unwrap();
    let found = read_blocks(&alone).unwrap();
    let mut lost = 0;
    for ((key, found), (true_key, truth)) in found.iter().zip(&whole) {
        assert_eq!(key, true_key);
        match found {
            Ok(found) => assert!(same_points(found, truth.as_ref().unwrap())),
            Err(_) => lost += 1,
        }
    }
    assert!(lost > 0 && lost < whole.len());
    let group = alone.row_groups(MeasurementId(2), SeriesId(7), ALL).unwrap()[0];
    assert!(points_of(&alone, &group, FieldId(9))[0].1.same_bits(&FieldValue::Float(-0.0)));
}

/// Computes every checksum again over bytes that were changed.
fn fix_checksums(bytes: &mut [u8]) {
    let end = bytes.len() - FOOTER_LEN;
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes[end..]);
    let header = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&header);
    let header = crc32fast::hash(&bytes[..HEADER_LEN - 4]).to_le_bytes();
    bytes[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&header);
    let mut all = crc32fast::Hasher::new();
    let start = (footer.meta_offset.get() as usize).min(end);
    // The common header inside the meta region has a checksum of its own.
    let common = start + PAGE_HEADER_LEN..start + PAGE_HEADER_LEN + 60;
    if let Some(common_bytes) = bytes.get(common.clone()) {
        let crc = crc32fast::hash(common_bytes).to_le_bytes();
        bytes[common.end..common.end + 4].copy_from_slice(&crc);
    }
    for page in bytes[start..end].chunks_exact_mut(PAGE_LEN) {
        let crc = crc32fast::hash(&page[4..]).to_le_bytes();
        page[..4].copy_from_slice(&crc);
        all.update(&crc);
    }
    bytes[end + 88..end + 92].copy_from_slice(&all.finalize().to_le_bytes());
    let crc = crc32fast::hash(&bytes[end..end + 92]).to_le_bytes();
    bytes[end + 92..].copy_from_slice(&crc);
}

/// Reads all there is in every way; only the absence of a panic and of an endless loop matters.
fn exercise(disk: &SimDisk, read_mode: ReadMode) {
    let report = check::file(disk, PATH).unwrap();
    check::dump(disk, PATH).unwrap();
    if let Ok(segment) = open(disk, PATH, 1, read_mode) {
        let read = read_blocks(&segment);
        if report.damage.is_empty() {
            assert!(read.unwrap().iter().all(|(_, points)| points.is_ok()));
        }
        for series in 0..9 {
            for measurement in [1, 2] {
                let (measurement, series) = (MeasurementId(measurement), SeriesId(series));
                let _ = segment.row_groups(measurement, series, 0..i64::MAX);
                (1..10).for_each(|id| drop(segment.series_statistics(measurement, series, FieldId(id))));
            }
        }
    }
}

fn wrong_bytes_under_right_checksums_end_nothing(read_mode: ReadMode) {
    let (disk, bytes) = written();
    let mut random = Random(99);
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes[bytes.len() - FOOTER_LEN..]);
    let meta = footer.meta_offset.get() as usize;
    for round in 0..3000 {
        let mut changed = bytes.clone();
        // Mostly in the meta region, where numbers steer the reader; sometimes in header and footer.
        let range: Range<usize> = match round % 8 {
            0 => 0..HEADER_LEN,
            1 => bytes.len() - FOOTER_LEN..bytes.len(),
            2 | 3 => meta..meta + PAGE_HEADER_LEN + META_HEADER_END + 2 * size_of::<SectionEntry>(),
            _ => meta..bytes.len() - FOOTER_LEN,
        };
        for _ in 0..=random.below(3) {
            let at = range.start + random.below(range.len() as u64) as usize;
            changed[at] = match random.below(4) {
                0 => 0,
                1 => 0xff,
                2 => changed[at].wrapping_add(1),
                _ => random.next() as u8,
            };
        }
        fix_checksums(&mut changed);
        disk.write_file(PATH, changed);
        exercise(&disk, read_mode);
    }
}

/// Blocks changed together with their checksums: the codecs see the bytes.
fn wrong_blocks_under_right_checksums_end_nothing(read_mode: ReadMode) {
    let (disk, bytes) = written();
    let mut random = Random(7);
    let footer: Footer = bytemuck::pod_read_unaligned(&bytes[bytes.len() - FOOTER_LEN..]);
    let meta = footer.meta_offset.get() as usize;
    let place = |content: u64| {
        let content = content as usize;
        meta + content / PAGE_CONTENT_LEN * PAGE_LEN + PAGE_HEADER_LEN + content % PAGE_CONTENT_LEN
    };
    let section_at = place(META_HEADER_END as u64);
    let section: SectionEntry =
        bytemuck::pod_read_unaligned(&bytes[section_at..section_at + size_of::<SectionEntry>()]);
    let mut group_start = HEADER_LEN as u64;
    let mut group_end = group_start;
    let mut blocks = Vec::new();
    for i in 0..u64::from(section.block_count.get()) {
        let at = place(section.blocks_offset.get() + i * size_of::<BlockEntry>() as u64);
        let entry: BlockEntry = bytemuck::pod_read_unaligned(&bytes[at..at + size_of::<BlockEntry>()]);
        if entry.offset.get() == 0 {
            group_start = group_end;
        }
        let offset = group_start + u64::from(entry.offset.get());
        let range = offset as usize..(offset + u64::from(entry.len.get())) as usize;
        if place_crc(1, offset, &bytes[range.clone()]) == entry.crc.get() {
            blocks.push((at, offset, range.clone()));
        }
        group_end = range.end as u64;
    }
    assert!(blocks.len() >= 6, "the blocks of the first series are found");
    for _ in 0..3000 {
        let mut changed = bytes.clone();
        let (at, offset, range) = &blocks[random.below(blocks.len() as u64) as usize];
        for _ in 0..=random.below(2) {
            // The first bytes say how the rest is read.
            let near = if random.one_in(2) { 12 } else { range.len() as u64 };
            let byte = range.start + random.below(near.min(range.len() as u64)) as usize;
            changed[byte] =
                if random.one_in(3) { changed[byte].wrapping_add(1) } else { random.next() as u8 };
        }
        let crc = place_crc(1, *offset, &changed[range.clone()]).to_le_bytes();
        changed[at + 8..at + 12].copy_from_slice(&crc);
        fix_checksums(&mut changed);
        disk.write_file(PATH, changed);
        exercise(&disk, read_mode);
    }
}

fn a_writer_that_meets_an_error_leaves_no_segment(read_mode: ReadMode) {
    for nth in 1..=12 {
        let disk = SimDisk::new(nth);
        disk.cut_at_call(nth, wattlog_engine::io::sim::CutMoment::Before);
        let wrote =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(&disk, PATH, spec(1), &small())));
        let Err(_) = wrote else { return };
        let after = disk.cut(wattlog_engine::io::sim::Cut::from_seed(nth));
        if after.list("").unwrap().iter().any(|entry| entry.name == PATH) {
            assert!(open(&after, PATH, 1, read_mode).is_err(), "cut before call {nth}");
        }
    }
}
