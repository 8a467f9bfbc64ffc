//! The log on the simulated disk: what a power cut, a failed call or a flipped bit leaves, and what replay makes of it.

use super::record::{FIRST_RECORD_OFFSET, RECORD_HEADER_LEN};
use super::*;
use crate::ids::{LogId, Seq, StoreId};
use crate::io::Disk;
use crate::io::sim::{CallKind, Cut, CutMoment, Fault, FaultError, Lasting, SimDisk};
use std::io;
use std::sync::Arc;
use wattlog_model::Timestamp;

const STORE: StoreId = StoreId([5; 16]);

fn disk() -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new(1);
    sim.create_dir("wal").unwrap();
    sim.sync_dir("").unwrap();
    (sim.clone(), Arc::new(sim))
}

fn arc(sim: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(sim.clone())
}

fn payload(seq: u64) -> Vec<u8> {
    format!("body {seq} {}", "x".repeat((seq % 7) as usize * 40)).into_bytes()
}

fn head(kind: RecordKind, seq: u64, durable: u64) -> RecordHead {
    RecordHead { kind, seq: Seq(seq), durable_seq: Seq(durable), wall: Timestamp(1), manifest_edit: seq / 2 }
}

fn append(log: &mut LogWriter, seq: u64, durable: u64) {
    let payload = payload(seq);
    log.append(head(RecordKind::Points, seq, durable), &payload, crc32fast::hash(&payload));
}

/// Writes and syncs each of `seqs` as a group of its own.
fn commit(log: &mut LogWriter, seqs: std::ops::RangeInclusive<u64>) -> io::Result<()> {
    for seq in seqs {
        let durable = log.synced_seq().0;
        append(log, seq, durable);
        log.write()?;
        log.sync()?;
    }
    Ok(())
}

fn create(disk: &Arc<dyn Disk>, id: u64, first: u64) -> LogWriter {
    LogWriter::create(disk, STORE, LogId(id), None, Seq(first)).unwrap()
}

fn end(log: &mut LogWriter) {
    log.end(head(RecordKind::End, 0, 0)).unwrap();
}

/// Replays all, checks that payloads are what was written, and gives the sequences with the log each came from.
fn replayed(disk: &Arc<dyn Disk>, flushed: u64) -> (Vec<(u64, u64)>, ReplayReport) {
    let floor = ReplayFloor { flushed_seq: Seq(flushed), durable_seq: Seq(0), unknown: false };
    let mut seen = Vec::new();
    let report = replay(disk, STORE, floor, &mut |record| {
        assert_eq!(record.payload, payload(record.head.seq.0), "of another record");
        seen.push((record.head.seq.0, record.log.0));
        Ok(())
    })
    .unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order: {seen:?}");
    assert_eq!(report.records, seen.len() as u64);
    (seen, report)
}

fn fail_once(sim: &SimDisk, on: CallKind) {
    sim.inject(Fault::at(1, FaultError::Eio, Lasting::Once).on(on));
}

fn seqs(seen: &[(u64, u64)]) -> Vec<u64> {
    seen.iter().map(|(seq, _)| *seq).collect()
}

fn range(first: u64, last: u64) -> Vec<u64> {
    (first..=last).collect()
}

#[test]
fn an_empty_store_replays_to_nothing() {
    let (_, disk) = disk();
    let (seen, report) = replayed(&disk, 0);
    assert!(seen.is_empty());
    assert_eq!((report.last_seq, report.ended_cleanly), (Seq(0), true));
}

#[test]
fn logs_that_ended_are_one_sequence() {
    let (_, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=5).unwrap();
    end(&mut log);
    let mut log = create(&disk, 2, 6);
    commit(&mut log, 6..=8).unwrap();
    end(&mut log);
    assert_eq!(log.health(), LogHealth::Ended);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seqs(&seen), range(1, 8));
    assert!(report.ended_cleanly && report.torn.is_empty() && report.corrupt.is_empty());
    assert_eq!((report.last_seq, report.max_log_id), (Seq(8), LogId(2)));
    assert_eq!(report.manifest_edit_attested, 4);
    let last: Vec<u64> = report.logs.iter().map(|log| log.last_seq.0).collect();
    assert_eq!(last, [5, 8]);
    let (seen, report) = replayed(&disk, 6);
    assert_eq!((seqs(&seen), report.sealed), (vec![7, 8], 6));
}

#[test]
fn definitions_are_given_even_when_sealed() {
    let (_, disk) = disk();
    let mut log = create(&disk, 1, 1);
    let text = payload(1);
    log.append(head(RecordKind::Define, 1, 0), &text, crc32fast::hash(&text));
    append(&mut log, 2, 0);
    log.write().unwrap();
    log.sync().unwrap();
    let (seen, _) = replayed(&disk, 2);
    assert_eq!(seqs(&seen), [1]);
}

#[test]
fn a_group_torn_at_any_byte_leaves_whole_records_only() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=3).unwrap();
    let start = log.good_offset();
    for seq in 4..=6 {
        append(&mut log, seq, 3);
    }
    log.write().unwrap();
    let whole = sim.read_file(log.path()).unwrap();
    let ends: Vec<u64> = (4..=6)
        .scan(start, |at, seq| {
            *at += (RECORD_HEADER_LEN + payload(seq).len()) as u64;
            Some(*at)
        })
        .collect();
    for len in start..=whole.len() as u64 {
        for filler in [0, 0x57] {
            let fork = sim.fork();
            let mut bytes = whole.clone();
            bytes[len as usize..].fill(filler);
            fork.write_file(log.path(), bytes);
            let (seen, report) = replayed(&arc(&fork), 0);
            let kept = ends.iter().filter(|end| **end <= len).count() as u64;
            assert_eq!(seqs(&seen), range(1, 3 + kept), "torn at {len}");
            assert_eq!(report.last_seq, Seq(3 + kept));
            assert!(report.corrupt.is_empty(), "{:?}", report.corrupt);
            // Once more than its magic and log id are there, the torn record has left a trace.
            let start_of_torn = if kept == 0 { start } else { ends[kept as usize - 1] };
            let traced = kept < 3 && len >= start_of_torn + 24;
            assert!(report.torn.len() <= 1 && (report.torn.len() == 1 || !traced), "torn at {len}");
        }
    }
}

#[test]
fn pieces_of_a_group_in_any_order_leave_a_prefix() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=10).unwrap();
    for seq in 11..=40 {
        append(&mut log, seq, 10);
    }
    log.write().unwrap();
    let mut shortest = u64::MAX;
    let mut longest = 0;
    for seed in 0..400 {
        let after = sim.fork().cut(Cut::from_seed(seed));
        let (seen, report) = replayed(&arc(&after), 0);
        let last = seen.last().unwrap().0;
        assert_eq!(seqs(&seen), range(1, last), "seed {seed}");
        assert!(last >= 10, "seed {seed}: an acknowledged record is gone");
        assert!(report.corrupt.is_empty(), "seed {seed}: {:?}", report.corrupt);
        (shortest, longest) = (shortest.min(last), longest.max(last));
    }
    assert!(shortest < 40 && longest == 40, "the cuts were too kind or too hard: {shortest}..{longest}");
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    for nth in 1..80 {
        for seed in 0..8 {
            let (sim, disk) = disk();
            sim.settle();
            let moment = if seed % 2 == 0 { CutMoment::Before } else { CutMoment::After };
            sim.cut_at_call(nth, moment);
            let mut acked = 0;
            let finished = history(&disk, &mut acked);
            let after = sim.cut(Cut::from_seed(seed));
            let (seen, report) = replayed(&arc(&after), 0);
            assert_eq!(seqs(&seen), range(1, seen.len() as u64), "call {nth}, seed {seed}");
            assert!(seen.len() as u64 >= acked, "call {nth}, seed {seed}: {acked} acked, {seen:?}");
            assert!(report.corrupt.is_empty(), "call {nth}, seed {seed}: {:?}", report.corrupt);
            if finished.is_ok() {
                assert_eq!(acked, 12);
            }
        }
    }
}

/// Three logs, the third in a recycled file.
fn history(disk: &Arc<dyn Disk>, acked: &mut u64) -> io::Result<()> {
    let mut recycler = Recycler::open(disk)?;
    let mut spare = None;
    for id in 1..=3 {
        let first = *acked + 1;
        let mut log = LogWriter::create(disk, STORE, LogId(id), spare.as_deref(), Seq(first))?;
        for seq in first..first + 4 {
            commit(&mut log, seq..=seq)?;
            *acked = seq;
        }
        log.end(head(RecordKind::End, 0, 0))?;
        if id == 1 {
            // A log that holds nothing, so that it may be recycled without a manifest.
            LogWriter::create(disk, STORE, LogId(100), None, Seq(first + 4))?;
            recycler.retire(disk, LogId(100), Retired::Spare)?;
            spare = recycler.take();
        }
    }
    Ok(())
}

#[test]
fn old_bytes_in_a_recycled_file_are_never_records() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=30).unwrap();
    end(&mut log);
    let mut recycler = Recycler::open(&disk).unwrap();
    recycler.retire(&disk, LogId(1), Retired::Spare).unwrap();
    let spare = recycler.take().unwrap();
    let mut log = LogWriter::create(&disk, STORE, LogId(2), Some(&spare), Seq(31)).unwrap();
    let (seen, report) = replayed(&disk, 30);
    assert!(seen.is_empty() && report.torn.is_empty() && report.corrupt.is_empty(), "{report:?}");
    commit(&mut log, 31..=33).unwrap();
    let (seen, report) = replayed(&disk, 30);
    assert_eq!(seqs(&seen), range(31, 33));
    assert!(report.torn.is_empty() && report.corrupt.is_empty() && !report.ended_cleanly, "{report:?}");
    assert_eq!(sim.paths().len(), 1);
}

#[test]
fn damage_that_is_attested_is_stepped_over() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    let mut offsets = vec![log.good_offset()];
    for seq in 1..=6 {
        commit(&mut log, seq..=seq).unwrap();
        offsets.push(log.good_offset());
    }
    // In the payload, in the header, in its length: of record 3, which record 4 attests.
    for (at, part) in [
        (RECORD_HEADER_LEN as u64, "payload_crc"),
        (30, "record_crc"),
        (9, "record_crc"),
        (0, "record_magic"),
    ] {
        let fork = sim.fork();
        fork.flip_bit(log.path(), offsets[2] + at, 2);
        let (seen, report) = replayed(&arc(&fork), 0);
        assert_eq!(seqs(&seen), [1, 2, 4, 5, 6]);
        assert_eq!(report.corrupt.len(), 1);
        let found = &report.corrupt[0];
        assert_eq!((found.damage.part, found.lost), (part, Some((Seq(3), Seq(3)))));
        assert_eq!((found.offset, found.len), (offsets[2], offsets[3] - offsets[2]));
        let copy = set_aside(&fork, &found.damage, found.offset, found.len).unwrap();
        assert_eq!(fork.read_file(&copy).unwrap().len() as u64, found.len);
        // What is sealed is not lost.
        let (_, report) = replayed(&arc(&fork), 3);
        assert_eq!(report.corrupt[0].lost, None);
    }
    // Of the last record, which nothing attests: a torn tail.
    let fork = sim.fork();
    fork.flip_bit(log.path(), offsets[5] + 70, 2);
    let (seen, report) = replayed(&arc(&fork), 0);
    assert_eq!((seqs(&seen), report.torn.len(), report.corrupt.len()), (range(1, 5), 1, 0));
    // Once the log has ended, the sealing record attests it.
    end(&mut log);
    sim.flip_bit(log.path(), offsets[5] + 70, 2);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!((seqs(&seen), report.torn.len(), report.corrupt.len()), (range(1, 5), 0, 1));
    assert_eq!(report.last_seq, Seq(6), "a lost sequence is not given again");
}

/// The store did not open: what came behind the cut-off payload of a record that something attests was looked for beyond
/// the end of the file.
#[test]
fn an_attested_record_whose_payload_is_cut_off_is_told() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=2).unwrap();
    let last = log.good_offset();
    commit(&mut log, 3..=3).unwrap();
    for left in 0..payload(3).len() as u64 {
        let fork = sim.fork();
        let file = fork.open(log.path(), crate::io::Access::ReadWrite).unwrap();
        file.set_len(last + RECORD_HEADER_LEN as u64 + left).unwrap();
        // The manifest attests what it has in segments.
        let (seen, report) = replayed(&arc(&fork), 3);
        assert!(seen.is_empty());
        assert_eq!(
            (report.corrupt.len(), report.corrupt[0].damage.part),
            (1, "payload_len"),
            "{left} bytes left"
        );
        assert_eq!(report.last_seq, Seq(3));
    }
}

#[test]
fn every_flipped_bit_is_detected_or_harmless() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=4).unwrap();
    end(&mut log);
    let len = sim.read_file(log.path()).unwrap().len();
    let (mut lost, mut harmless) = (0, 0);
    for offset in 0..len as u64 {
        for bit in 0..8 {
            let fork = sim.fork();
            fork.flip_bit(log.path(), offset, bit);
            // `replayed` compares every payload with what was written.
            let (seen, report) = replayed(&arc(&fork), 0);
            if seen.len() == 4 {
                harmless += 1;
                let told = !report.corrupt.is_empty() || !report.ended_cleanly;
                assert!(told, "byte {offset} bit {bit} was not noticed");
            } else {
                lost += 1;
                assert_eq!((seen.len(), report.corrupt.len()), (3, 1), "byte {offset} bit {bit}: {report:?}");
            }
        }
    }
    assert!(lost > 0 && harmless > 0);
}

#[test]
fn a_log_abandoned_on_a_full_disk_ends_where_the_next_begins() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=3).unwrap();
    sim.set_capacity_bytes(Some(sim.used_bytes() + 150));
    for seq in 4..=6 {
        append(&mut log, seq, 3);
    }
    assert!(crate::io::is_full(&log.write().unwrap_err()));
    assert_eq!((log.health(), log.written_seq()), (LogHealth::Abandoned, Seq(3)));
    assert!(log.write().is_err());
    log.sync().unwrap();
    sim.set_capacity_bytes(None);
    let mut next = create(&disk, 2, 4);
    commit(&mut next, 4..=5).unwrap();
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]);
    assert!(report.corrupt.is_empty(), "{report:?}");
}

#[test]
fn what_a_failed_sync_left_is_void_once_a_new_log_begins() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=3).unwrap();
    append(&mut log, 4, 3);
    append(&mut log, 5, 3);
    log.write().unwrap();
    fail_once(&sim, CallKind::SyncData);
    assert!(log.sync().is_err());
    assert_eq!((log.health(), log.synced_seq()), (LogHealth::Dead, Seq(3)));
    // The disk would now say "synced" of what it dropped: it is never asked.
    let before = sim.counts().of(CallKind::SyncData);
    assert!(log.sync().is_err() && log.write().is_err() && log.end(head(RecordKind::End, 0, 0)).is_err());
    assert_eq!(sim.counts().of(CallKind::SyncData), before);
    let mut next = create(&disk, 2, 4);
    commit(&mut next, 4..=4).unwrap();
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1), (4, 2)]);
    assert!(report.corrupt.is_empty() && report.last_seq == Seq(4), "{report:?}");
}

#[test]
fn a_missing_log_is_told() {
    let (sim, disk) = disk();
    for (id, first) in [(1, 1), (2, 4), (3, 7)] {
        let mut log = create(&disk, id, first);
        commit(&mut log, first..=first + 2).unwrap();
        end(&mut log);
    }
    sim.remove_file("wal/wal-0000000000000002.log");
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seqs(&seen), [1, 2, 3, 7, 8, 9]);
    assert_eq!(report.corrupt[0].lost, Some((Seq(4), Seq(6))));
    let (_, report) = replayed(&disk, 6);
    assert!(report.corrupt.is_empty(), "what is sealed needs no log: {report:?}");
    sim.remove_file("wal/wal-0000000000000003.log");
    let floor = ReplayFloor { flushed_seq: Seq(0), durable_seq: Seq(9), unknown: false };
    let report = replay(&disk, STORE, floor, &mut |_| Ok(())).unwrap();
    assert_eq!(report.corrupt[0].lost, Some((Seq(4), Seq(9))));
    assert_eq!(report.last_seq, Seq(9));
}

#[test]
fn a_damaged_file_header_costs_no_record() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=3).unwrap();
    sim.flip_bit(log.path(), 50, 1);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seqs(&seen), range(1, 3));
    assert_eq!(report.corrupt[0].damage.part, "header_crc");
}

#[test]
fn a_log_whose_header_never_came_is_passed_over() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=2).unwrap();
    sim.write_file("wal/wal-0000000000000002.log", Vec::new());
    sim.write_file("wal/wal-0000000000000003.log", vec![0; 4096]);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!(seqs(&seen), range(1, 2));
    assert!(report.corrupt.is_empty(), "{report:?}");
    assert_eq!(report.max_log_id, LogId(3));
}

#[test]
fn an_unreadable_sector_costs_its_records_and_is_told() {
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    commit(&mut log, 1..=100).unwrap();
    end(&mut log);
    sim.settle();
    sim.spoil_page(log.path(), 4096 * 2);
    let (seen, report) = replayed(&disk, 0);
    assert!(seen.len() > 50 && seen.len() < 100, "{}", seen.len());
    assert!(report.corrupt.iter().any(|found| found.damage.part == "unreadable"));
    let lost = report.corrupt.iter().filter_map(|found| found.lost).map(|(first, last)| last.0 - first.0 + 1);
    assert_eq!(lost.sum::<u64>(), 100 - seen.len() as u64);
}

#[test]
fn what_replay_gives_is_durable() {
    // A killed process leaves a record in the page cache; the store opens, attests it with a new log, loses power.
    let (sim, disk) = disk();
    let mut log = create(&disk, 1, 1);
    append(&mut log, 1, 0);
    log.write().unwrap();
    drop(log);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!((seen.len(), report.durable), (1, true));
    let mut log = create(&disk, 2, 2);
    commit(&mut log, 2..=2).unwrap();
    for seed in 0..50 {
        let after = sim.fork().cut(Cut::from_seed(seed));
        let (seen, report) = replayed(&arc(&after), 0);
        assert_eq!(seqs(&seen), [1, 2], "seed {seed}: {report:?}");
    }
    fail_once(&sim, CallKind::SyncData);
    let (seen, report) = replayed(&disk, 0);
    assert_eq!((seen.len(), report.durable), (2, false));
}

#[test]
fn spares_are_bounded_and_found_again() {
    let (sim, disk) = disk();
    let mut recycler = Recycler::open(&disk).unwrap();
    for id in 1..=MAX_SPARES as u64 + 2 {
        create(&disk, id, id);
        recycler.retire(&disk, LogId(id), Retired::Spare).unwrap();
        recycler.retire(&disk, LogId(id), Retired::Spare).unwrap();
    }
    assert_eq!(recycler.len(), MAX_SPARES);
    assert_eq!(sim.paths().len(), MAX_SPARES);
    let mut again = Recycler::open(&disk).unwrap();
    assert_eq!(again.len(), MAX_SPARES);
    let taken = again.take().unwrap();
    assert_eq!(taken, "wal/spare-0000000000000001.log");
    LogWriter::create(&disk, STORE, LogId(9), Some(&taken), Seq(9)).unwrap();
    assert_eq!(sim.paths().len(), MAX_SPARES);
    assert_eq!(replayed(&disk, 8).1.logs.len(), 1);
}

#[test]
fn a_spare_is_offered_only_once_its_name_is_durable() {
    let (sim, disk) = disk();
    create(&disk, 1, 1);
    let mut recycler = Recycler::open(&disk).unwrap();
    fail_once(&sim, CallKind::SyncDir);
    assert!(recycler.retire(&disk, LogId(1), Retired::Spare).is_err());
    assert_eq!(recycler.take(), None);
}

#[test]
fn random_bytes_as_a_log_never_panic_and_are_never_records() {
    let (sim, disk) = disk();
    let mut rng = crate::io::sim::Rng::new(7);
    for round in 0..100 {
        let len = rng.index(3000);
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        if round % 2 == 0 && len > FIRST_RECORD_OFFSET as usize {
            // A good file header and rubbish behind it.
            let header = crate::file_header::FileHeader {
                magic: record::LOG_MAGIC,
                store: STORE,
                file_id: 1,
                param: rng.next_u64(),
            };
            bytes[..64].copy_from_slice(&header.encode());
        }
        sim.write_file("wal/wal-0000000000000001.log", bytes);
        let (seen, _) = replayed(&disk, 0);
        assert!(seen.is_empty());
    }
}
