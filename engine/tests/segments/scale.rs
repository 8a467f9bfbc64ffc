//! Many series, long series, odd times: the limits of the form.

use crate::data::{ALL, DAY, MODES, START, SectionData, field, open, spec, write};
use std::sync::Arc;
use wattlog_engine::check;
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, SeriesId, StoreId};
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::io::{Disk, ReadMode};
use wattlog_engine::segment::{SegmentEntry, SegmentOpener, SegmentSet, SegmentWriter};
use wattlog_model::{FieldType, FieldValue, TagSet, Timestamp};

fn floats(times: Vec<i64>, values: Vec<f64>) -> SeriesRows {
    SeriesRows {
        times,
        columns: vec![(FieldId(1), Column { presence: Presence::All, values: Values::Float(values) })],
    }
}

#[test]
fn a_hundred_thousand_series_of_one_row() {
    let folder = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(folder.path()).unwrap();
    let mut writer = SegmentWriter::create(&disk, "1.seg", spec(1)).unwrap();
    writer.begin_section(MeasurementId(1), "m", &[field(1, FieldType::Float)]).unwrap();
    let count = 100_000;
    for id in 1..=count {
        let tags = TagSet::new([("device_id", format!("d{id}"))]).unwrap();
        writer
            .write_series(SeriesId(id * 2), &tags, &floats(vec![START + i64::from(id)], vec![f64::from(id)]))
            .unwrap();
    }
    let summary = writer.finish().unwrap();
    assert_eq!((summary.rows, summary.values), (u64::from(count), u64::from(count)));
    println!("{} B a series", summary.file_bytes / u64::from(count));
    for mode in MODES {
        let segment = open(&disk, "1.seg", 1, mode).unwrap();
        let mut column = Column { presence: Presence::All, values: Values::new(FieldType::Float) };
        let mut times = Vec::new();
        for id in (1..=count).step_by(997) {
            let groups = segment.row_groups(MeasurementId(1), SeriesId(id * 2), ALL).unwrap();
            assert_eq!(groups.len(), 1);
            segment.read_times(&groups[0], &mut times).unwrap();
            assert!(segment.read_column(&groups[0], FieldId(1), &mut column).unwrap());
            assert_eq!(
                (times[0], column.values.get(0)),
                (START + i64::from(id), FieldValue::Float(f64::from(id)))
            );
            assert!(segment.row_groups(MeasurementId(1), SeriesId(id * 2 + 1), ALL).unwrap().is_empty());
        }
        let section = segment.section(MeasurementId(1)).unwrap().unwrap();
        let mut keys = 0;
        segment
            .series_keys(&section, &mut |id, tags| {
                keys += 1;
                assert_eq!(tags.value("device_id"), Some(&*format!("d{}", id.0 / 2)));
            })
            .unwrap();
        assert_eq!(keys, count);
    }
    assert_eq!(check::file(&disk, "1.seg").unwrap().damage, []);
}

on_both_read_modes! {
    the_ends_of_time_and_empty_inputs,
    repeated_texts_share_a_dictionary_and_different_ones_do_not,
    a_set_finds_by_time_and_opens_few_at_once,
    many_threads_open_more_segments_than_may_be_open,
}

fn the_ends_of_time_and_empty_inputs(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    let times = vec![Timestamp::MIN.0, -1, 0, Timestamp::MAX.0];
    let values = vec![f64::MAX, -0.0, 5e-324, 0.1];
    let step = i128::from(i64::MAX / 50);
    let dense: Vec<i64> = (0..100).map(|i| (i128::from(Timestamp::MIN.0) + i * step) as i64).collect();
    let section = SectionData {
        measurement: 3,
        fields: vec![field(1, FieldType::Float), field(2, FieldType::String)],
        series: vec![
            (SeriesId(1), TagSet::default(), floats(times.clone(), values.clone())),
            (SeriesId(2), TagSet::default(), SeriesRows::default()),
            (SeriesId(3), TagSet::default(), floats(dense, (0..100).map(|i| f64::from(i) * 1e300).collect())),
            // Rows of which every field is missing: times alone.
            (SeriesId(4), TagSet::default(), SeriesRows { times: (0..70).collect(), columns: vec![] }),
        ],
    };
    write(&disk, "1.seg", spec(1), &[section]);
    let segment = open(&disk, "1.seg", 1, read_mode).unwrap();
    let groups = segment.row_groups(MeasurementId(3), SeriesId(1), ALL).unwrap();
    assert_eq!(
        groups.iter().map(|g| g.first_time).collect::<Vec<_>>(),
        [Timestamp::MIN.0, -1, 0, Timestamp::MAX.0]
    );
    assert!(segment.row_groups(MeasurementId(3), SeriesId(2), ALL).unwrap().is_empty());
    let groups = segment.row_groups(MeasurementId(3), SeriesId(4), ALL).unwrap();
    assert_eq!((groups.len(), groups[0].rows), (1, 70));
    assert_eq!(segment.fields_of(&groups[0]).unwrap(), []);
    assert_eq!(check::file(&disk, "1.seg").unwrap().damage, []);

    let empty = SegmentWriter::create(&disk, "2.seg", spec(2)).unwrap().finish().unwrap();
    assert_eq!((empty.rows, empty.sections.len()), (0, 0));
    assert_eq!(check::file(&disk, "2.seg").unwrap().damage, []);
    assert_eq!(open(&disk, "2.seg", 2, read_mode).unwrap().measurements().count(), 0);
}

fn repeated_texts_share_a_dictionary_and_different_ones_do_not(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    let rows = |text: &dyn Fn(usize) -> String| {
        let values = Values::String((0..5000).map(|i| text(i).into()).collect());
        SeriesRows {
            times: (0..5000).map(|i| START + i * 1_000_000_000).collect(),
            columns: vec![(FieldId(1), Column { presence: Presence::All, values })],
        }
    };
    let modes = rows(&|i| ["standby", "charging", "discharging"][i / 100 % 3].to_owned());
    let unique = rows(&|i| format!("{:x}", (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let key = |v: &str| TagSet::new([("k", v)]).unwrap();
    let section = SectionData {
        measurement: 1,
        fields: vec![field(1, FieldType::String)],
        series: vec![(SeriesId(1), key("a"), modes), (SeriesId(2), key("b"), unique.clone())],
    };
    write(&disk, "1.seg", spec(1), &[section]);
    let dump = check::dump(&disk, "1.seg").unwrap();
    let texts: Vec<_> = dump.iter().filter(|line| line.part == "dictionary_texts").collect();
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0].value, r#"["standby", "charging", "discharging"]"#);
    let segment = open(&disk, "1.seg", 1, read_mode).unwrap();
    let group = segment.row_groups(MeasurementId(1), SeriesId(1), ALL).unwrap()[0];
    let statistics = segment.statistics(&group, FieldId(1)).unwrap().unwrap();
    assert_eq!(statistics.first.1, FieldValue::String("standby".into()));
    let group = segment.row_groups(MeasurementId(1), SeriesId(2), ALL).unwrap()[0];
    assert_eq!(segment.statistics(&group, FieldId(1)).unwrap(), None);
    assert_eq!(check::file(&disk, "1.seg").unwrap().damage, []);
}

#[test]
fn the_writer_refuses_what_no_reader_would_find() {
    let disk = SimDisk::new(1);
    let fields = [field(1, FieldType::Float)];
    let rows = || floats(vec![1, 2], vec![1.0, 2.0]);
    let tags = TagSet::default();
    let mut writer = SegmentWriter::create(&disk, "1.seg", spec(1)).unwrap();
    assert!(writer.write_series(SeriesId(1), &tags, &rows()).is_err(), "no section");
    writer.begin_section(MeasurementId(2), "m", &fields).unwrap();
    writer.write_series(SeriesId(5), &tags, &rows()).unwrap();
    assert!(writer.write_series(SeriesId(5), &tags, &rows()).is_err(), "a series twice");
    assert!(
        writer.write_series(SeriesId(6), &tags, &floats(vec![2, 2], vec![1.0, 2.0])).is_err(),
        "a time twice"
    );
    let mut other = rows();
    other.columns[0].0 = FieldId(2);
    assert!(writer.write_series(SeriesId(6), &tags, &other).is_err(), "a field that is not declared");
    other.columns[0] = (FieldId(1), Column { presence: Presence::All, values: Values::Integer(vec![1, 2]) });
    assert!(writer.write_series(SeriesId(6), &tags, &other).is_err(), "another type");
    assert!(writer.begin_section(MeasurementId(2), "m", &fields).is_err(), "a section twice");
    assert!(SegmentWriter::create(&disk, "1.seg", spec(1)).is_err(), "a file that is there");
}

fn a_set_finds_by_time_and_opens_few_at_once(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    disk.create_dir("segments").unwrap();
    let opener = SegmentOpener::new(Arc::new(disk.clone()), spec(1).store, read_mode, 4, 128);
    let mut handles = Vec::new();
    for day in 0..20_u64 {
        let mut spec = spec(day + 1);
        spec.max_seq.0 = 100 - day;
        let rows =
            floats(vec![START + day as i64 * DAY, START + day as i64 * DAY + 5], vec![day as f64, 0.0]);
        let section = SectionData {
            measurement: 1 + (day % 2) as u32,
            fields: vec![field(1, FieldType::Float)],
            series: vec![(SeriesId(1), TagSet::default(), rows)],
        };
        let path = wattlog_engine::segment::segment_path(SegmentId(day + 1));
        let summary = write(&disk, &path, spec.clone(), &[section]);
        let entry = summary.entry(&spec);
        assert_eq!((entry.path(), entry.first_time), (path, START + day as i64 * DAY));
        handles.push(opener.handle(entry));
    }
    let set = SegmentSet::new(handles);
    let ids = |m: u32, range| {
        let found = set.for_range(NamespaceId(7), MeasurementId(m), range);
        found.map(|handle| handle.entry().id.0).collect::<Vec<_>>()
    };
    // By rising max_seq, which falls with the day here.
    assert_eq!(ids(1, START..START + 5 * DAY), [5, 3, 1]);
    assert_eq!(ids(2, START..START + 5 * DAY), [4, 2]);
    assert_eq!(ids(1, START + 6..START + 2 * DAY), [0_u64; 0]);
    assert_eq!(ids(1, START + 5..START + 2 * DAY), [1]);
    assert_eq!(ids(1, i64::MIN..START), [0_u64; 0]);
    assert_eq!(set.for_range(NamespaceId(8), MeasurementId(1), ALL).count(), 0);
    for round in 0..3 {
        for handle in set.iter() {
            let segment = handle.open().unwrap();
            let day = handle.entry().id.0 - 1;
            let groups = segment.row_groups(MeasurementId(1 + (day % 2) as u32), SeriesId(1), ALL).unwrap();
            assert_eq!(groups[0].first_time, START + day as i64 * DAY, "round {round}");
            assert!(opener.open_count() <= 4);
        }
    }
    let fewer = set.with([], &[SegmentId(1), SegmentId(3)]);
    assert_eq!((set.len(), fewer.len()), (20, 18));
    let found = fewer.for_range(NamespaceId(7), MeasurementId(1), START..START + 5 * DAY);
    assert_eq!(found.map(|handle| handle.entry().id.0).collect::<Vec<_>>(), [5]);
    let aside = SegmentEntry { quarantined: true, ..set.iter().next().unwrap().entry().clone() };
    let error = opener.handle(aside).open().unwrap_err();
    assert_eq!(error.to_damage().part, "quarantined");
    let foreign = SegmentOpener::new(Arc::new(disk), StoreId::default(), read_mode, 4, 16);
    assert!(foreign.handle(set.iter().next().unwrap().entry().clone()).open().is_err());
}

fn many_threads_open_more_segments_than_may_be_open(read_mode: ReadMode) {
    let disk = SimDisk::new(1);
    disk.create_dir("segments").unwrap();
    let opener = SegmentOpener::new(Arc::new(disk.clone()), spec(1).store, read_mode, 3, 8);
    let handles: Vec<_> = (1..=12_u64)
        .map(|id| {
            let rows = floats((0..100).map(|i| START + i).collect(), vec![id as f64; 100]);
            let section = SectionData {
                measurement: 1,
                fields: vec![field(1, FieldType::Float)],
                series: vec![(SeriesId(1), TagSet::default(), rows)],
            };
            let path = wattlog_engine::segment::segment_path(SegmentId(id));
            opener.handle(write(&disk, &path, spec(id), &[section]).entry(&spec(id)))
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (handles, opener) = (&handles, &opener);
            scope.spawn(move || {
                for i in 0..300 {
                    let handle = &handles[(i * (thread + 1) + thread) % handles.len()];
                    let segment = handle.open().unwrap();
                    let group = segment.row_groups(MeasurementId(1), SeriesId(1), ALL).unwrap()[0];
                    // The pages of all segments share eight places: none may answer for another.
                    let statistics = segment.statistics(&group, FieldId(1)).unwrap().unwrap();
                    assert_eq!(statistics.first.1, FieldValue::Float(handle.entry().id.0 as f64));
                    // A handle that is being opened by another thread is passed over, so there may be one a thread more.
                    assert!(opener.open_count() <= 3 + 4);
                }
            });
        }
    });
    handles[0].open().unwrap();
}
