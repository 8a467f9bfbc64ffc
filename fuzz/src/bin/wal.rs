//! Logs: of any damage to a log that was written, replay gives records that were written, each once, in order, and tells
//! if one that was durable is missing; of any bytes instead of a log it gives nothing that is not whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use wattlog_engine::check;
use wattlog_engine::ids::{LogId, Seq, StoreId};
use wattlog_engine::io::Disk;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::wal::{LogWriter, RecordHead, RecordKind, ReplayFloor, log_path, replay};
use wattlog_fuzz::{take_flips, turn_over};
use wattlog_model::Timestamp;

const STORE: StoreId = StoreId([7; 16]);
const ID: LogId = LogId(1);

fuzz_target!(|data: &[u8]| {
    let Some((flips, rest)) = take_flips(data, 4) else { return };
    let Some((&mode, rest)) = rest.split_first() else { return };
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    disk.create_dir("wal").expect("a new disk");
    let written = write(&disk, rest, mode & 1 == 1);
    let path = log_path(ID);
    let mut bytes = sim.read_file(&path).expect("a log was made");
    if mode & 2 == 2 {
        // Behind the header anything may stand.
        bytes.truncate(64);
        bytes.extend_from_slice(rest);
    }
    turn_over(&mut bytes, &flips);
    if mode & 4 == 4 {
        bytes.truncate(rest.len() % (bytes.len() + 1));
    }
    let untouched = flips.iter().all(|(_, mask)| *mask == 0) && mode & 6 == 0;
    sim.write_file(&path, bytes);

    let mut given: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut visit = |record: wattlog_engine::wal::Record<'_>| {
        given.push((record.head.seq.0, record.payload.to_vec()));
        Ok(())
    };
    let report = match replay(&disk, STORE, ReplayFloor::default(), &mut visit) {
        Ok(report) => report,
        // A newer version by its header: the flips hit its checksum as well, and it fits.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return,
        Err(error) => panic!("{error}"),
    };
    assert!(given.is_sorted_by(|a, b| a.0 < b.0), "each once, in order");
    for (seq, payload) in &given {
        assert_eq!(written.get(*seq as usize - 1), Some(payload), "record {seq} is what was written");
    }
    // Whoever is missing below one that is there is told.
    let last = given.last().map_or(0, |(seq, _)| *seq);
    if (given.len() as u64) < last {
        assert!(!report.corrupt.is_empty(), "{report:?}");
    }
    if untouched {
        assert_eq!(given.len(), written.len());
        assert!(report.corrupt.is_empty() && report.torn.is_empty(), "{report:?}");
    }
    // The verifier and the printer take whatever replay takes.
    let verified = check::file(&*disk, &path).expect("a log by its name");
    assert!(!untouched || verified.damage.is_empty(), "{verified:?}");
    check::dump(&*disk, &path).expect("a log by its name");
});

/// Records out of the input: kind, length, payload. Every second one knows the one before it as durable.
fn write(disk: &Arc<dyn Disk>, mut rest: &[u8], end: bool) -> Vec<Vec<u8>> {
    let mut log = LogWriter::create(disk, STORE, ID, None, Seq(1)).expect("a new log");
    let mut written = Vec::new();
    let head = |kind, seq: u64| RecordHead {
        kind,
        seq: Seq(seq),
        durable_seq: Seq(if seq.is_multiple_of(2) { seq.saturating_sub(1) } else { 0 }),
        wall: Timestamp(1_772_359_200_000_000_000),
        manifest_edit: 0,
    };
    while let Some((&[kind, len], after)) = rest.split_first_chunk::<2>() {
        let kind = [RecordKind::Points, RecordKind::Define, RecordKind::Clock, RecordKind::Delete]
            [usize::from(kind) % 4];
        let payload = &after[..after.len().min(usize::from(len))];
        rest = &after[payload.len()..];
        log.append(head(kind, written.len() as u64 + 1), payload, crc32fast::hash(payload));
        written.push(payload.to_vec());
    }
    log.write().and_then(|()| log.sync()).expect("a disk that works");
    if end {
        log.end(head(RecordKind::End, written.len() as u64)).expect("a disk that works");
    }
    written
}
