use super::*;
use crate::ids::{LogId, Seq, StoreId};
use crate::io::sim::SimDisk;
use crate::manifest::{Edit, Manifest};
use crate::wal::{LogWriter, RecordHead, RecordKind};
use wattlog_model::Timestamp;

const STORE: StoreId = StoreId([7; 16]);
const LOG: &str = "wal/wal-0000000000000001.log";

/// A store with one log of three records, whether or not it was ended, and a manifest of two edits.
fn small(ended: bool) -> (SimDisk, Arc<dyn Disk>) {
    small_of(RecordKind::Clock, ended)
}

fn small_of(kind: RecordKind, ended: bool) -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    for folder in ["wal", "manifest", "segments"] {
        disk.create_dir(folder).unwrap();
    }
    let mut log = LogWriter::create(&disk, STORE, LogId(1), None, Seq(1)).unwrap();
    let head = |kind, seq: u64| RecordHead {
        kind,
        seq: Seq(seq),
        durable_seq: Seq(seq.saturating_sub(1)),
        wall: Timestamp(5),
        manifest_edit: 0,
    };
    for seq in 1..=3 {
        let payload = [seq as u8; 40];
        log.append(head(kind, seq), &payload, crc32fast::hash(&payload));
        log.write().unwrap();
        log.sync().unwrap();
    }
    if ended {
        log.end(head(RecordKind::End, 3)).unwrap();
    }
    let (mut manifest, _) = Manifest::open(&disk, STORE).unwrap();
    manifest.append(&Edit::Snapshot(State { next_file: 1, ..State::default() }), 0).unwrap();
    manifest.append(&Edit::Quarantined(crate::ids::SegmentId(4)), 0).unwrap();
    sim.settle();
    (sim, disk)
}

#[test]
fn a_whole_store_is_whole() {
    for ended in [false, true] {
        let (_, disk) = small(ended);
        let report = store(&disk).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!((report.files.len(), &report.unknown[..]), (2, &[][..]));
        let log = report.files.iter().find(|file| file.file == LOG).unwrap();
        assert_eq!((log.blocks, log.torn_at), (3 + u64::from(ended), None));
    }
}

#[test]
fn what_is_printed_has_the_names_of_the_parts() {
    let (sim, disk) = small(true);
    let names: Vec<_> = parts().map(|part| part.name).collect();
    for (path, _) in sim.paths() {
        let lines = dump(&*disk, &path).unwrap();
        assert!(lines.iter().all(|line| names.contains(&line.part) || line.part == "payload"), "{lines:?}");
        assert!(lines.iter().filter(|line| line.part == "payload").count() >= 2);
        assert!(!lines.iter().any(|line| line.value == "damaged"));
    }
    assert!(dump(&*disk, "README.md").is_err());
}

#[test]
fn every_flipped_bit_of_a_log_is_found_torn_or_in_no_record() {
    let (sim, disk) = small(true);
    let bytes = sim.read_file(LOG).unwrap();
    for offset in 0..bytes.len() as u64 {
        sim.flip_bit(LOG, offset, (offset % 8) as u8);
        let report = store(&disk).unwrap();
        let log = report.files.iter().find(|file| file.file == LOG).unwrap();
        // A record of 104 bytes; the last one that something attests as durable is the third.
        let attested = offset < 64 + 2 * 104;
        assert!(!attested || !report.is_whole(), "byte {offset}: {report:?}");
        // Without its sealing record a log just ends, as after a power cut.
        let sealing = offset >= 64 + 3 * 104;
        assert!(sealing || !report.is_whole() || log.torn_at.is_some(), "byte {offset}: {report:?}");
        dump(&*disk, LOG).unwrap();
        sim.flip_bit(LOG, offset, (offset % 8) as u8);
    }
}

#[test]
fn damage_of_a_manifest_and_missing_files_are_told() {
    let (sim, disk) = small(false);
    let path =
        sim.paths().into_iter().map(|(path, _)| path).find(|path| path.starts_with("manifest")).unwrap();
    let bytes = sim.read_file(&path).unwrap();
    sim.flip_bit(&path, FILE_HEADER_LEN as u64 + 40, 1);
    assert!(!store(&disk).unwrap().is_whole());
    sim.write_file(&path, bytes[..bytes.len() - 1].to_vec());
    let report = file(&*disk, &path).unwrap();
    assert!(report.damage.is_empty() && report.torn_at.is_some());
    sim.write_file("wal/notes.txt", vec![1]);
    assert_eq!(store(&disk).unwrap().unknown, ["wal/notes.txt"]);
}

/// A store with segments and a catalog, sealed twice.
fn sealed() -> (SimDisk, Arc<dyn Disk>, crate::Engine) {
    let sim = SimDisk::new(2);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let clock = Arc::new(wattlog_model::ManualClock::new(Timestamp(5)));
    let options = crate::Options { ballast_bytes: 0, ..crate::Options::default() };
    let engine = crate::Engine::open(disk.clone(), options, clock, STORE.0).unwrap();
    for value in [1.5, 2.5] {
        let mut batch = crate::WriteBatch::new("d", None);
        for device in 0..40 {
            let tags = wattlog_model::TagSet::new([("device_id", device.to_string())]).unwrap();
            let slot = batch.series(if value < 2.0 { "m" } else { "n" }, &tags);
            batch.row(slot, Timestamp(7), device).float("v", value);
        }
        engine.write(batch).unwrap();
        engine.seal().unwrap();
    }
    (sim, disk, engine)
}

#[test]
fn a_running_store_is_whole_and_all_its_files_are_printed() {
    let (sim, disk, engine) = sealed();
    let report = store(&disk).unwrap();
    assert!(report.is_whole(), "{report:?}");
    for folder in ["segments/", "catalog/", "wal/", "manifest/"] {
        assert!(report.files.iter().any(|file| file.file.starts_with(folder)), "{folder}: {report:?}");
    }
    let names: Vec<_> = parts().map(|part| part.name).collect();
    for (path, _) in sim.paths().into_iter().filter(|(path, _)| path.starts_with("catalog/")) {
        let lines = dump(&*disk, &path).unwrap();
        let known = |line: &DumpLine| names.contains(&line.part) || line.part.ends_with("_block");
        assert!(lines.iter().all(|line| known(line) && line.value != "damaged"), "{lines:?}");
        assert!(lines.iter().any(|line| line.part == "postings_block" && line.value.contains("device_id")));
    }
    engine.close().unwrap();
}

#[test]
fn a_whole_copy_of_another_file_is_not_the_file() {
    for folder in ["segments/", "catalog/"] {
        let (sim, disk, engine) = sealed();
        engine.close().unwrap();
        let paths: Vec<String> =
            sim.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(folder)).collect();
        let second = sim.read_file(&paths[1]).unwrap();
        if folder == "segments/" {
            assert_eq!(sim.read_file(&paths[0]).unwrap().len(), second.len());
        }
        sim.write_file(&paths[0], second);
        let report = store(&disk).unwrap();
        assert!(report.damage().any(|damage| damage.file == paths[0]), "{report:?}");
        // Alone, its name tells.
        assert!(!file(&*disk, &paths[0]).unwrap().damage.is_empty());
        sim.remove_file(&paths[0]);
        assert!(store(&disk).unwrap().between.iter().any(|damage| damage.file == paths[0]));
    }
}

#[test]
fn every_flipped_bit_of_a_catalog_file_is_found() {
    let (sim, disk, engine) = sealed();
    engine.close().unwrap();
    let (path, len) = sim.paths().into_iter().find(|(path, _)| path.starts_with("catalog/")).unwrap();
    for offset in 0..len {
        sim.flip_bit(&path, offset, (offset % 8) as u8);
        assert!(!file(&*disk, &path).unwrap().damage.is_empty(), "byte {offset} of {len}");
        dump(&*disk, &path).unwrap();
        sim.flip_bit(&path, offset, (offset % 8) as u8);
    }
}

#[test]
fn a_payload_that_is_whole_but_means_nothing_is_told() {
    let (_, disk) = small_of(RecordKind::Points, true);
    let report = store(&disk).unwrap();
    assert_eq!(report.between.iter().map(|damage| damage.part).collect::<Vec<_>>(), ["Points"; 3]);
}
