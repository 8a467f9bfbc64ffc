//! Failing calls: what failed is not acknowledged, reads go on, and what was acknowledged is there after the next start.
//!
//! Six scripted lives meet an error at each of their disk calls in turn: EIO, a full disk, a short write, a signal; once and
//! for good. Then the disk works again. A signal that comes once is not noticed by anybody.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;
#[path = "support/scripts.rs"]
mod scripts;
mod support;

use scripts::body;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::content::{Content, read_everything};
use support::history::{Author, Life, Step, options};
use support::run::{Run, Told, open};
use support::seeds::seeds;
use support::verdict::judge;
use wattlog_engine::error::WriteError;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Counts, Fault, FaultError, Lasting, Rng, SimDisk, SyncName};
use wattlog_engine::options::Options;
use wattlog_engine::{DeleteError, Health};

/// Lives `history` under `fault`, then without it. `Err` says what was wrong.
fn live(history: &[Step], options: &Options, fault: Fault) -> Result<(), String> {
    let mut run = Run::new(SimDisk::new(fault.nth), options.clone());
    if std::env::var_os("WATTLOG_TRACE").is_some() {
        run.disk.start_trace();
    }
    run.disk.inject(fault);
    run.live(history);
    let struck = !run.complaints.is_empty();
    run.disk.clear_faults();
    let with_trace = |what: String, run: &Run| format!("{what}\n  {}", run.disk.trace().join("\n  "));
    if fault.error == FaultError::Interrupted && fault.lasting == Lasting::Once && struck {
        return Err(with_trace(format!("a signal was noticed: {:?}", run.complaints), &run));
    }

    if run.engine().is_some() {
        reads_go_on(&run).map_err(|wrong| with_trace(wrong, &run))?;
        // Writes go on, or the store says why not. (A full disk that is so no more must not keep it read-only.)
        run.complaints.clear();
        let health = write_until_taken(&mut run);
        let last = run.entries.last().expect("just written").told;
        if last != Told::Stored {
            let excused = !health.writable && health.reason.is_some() && fault.error != FaultError::NoSpace;
            let sync = fault.on == Some(CallKind::SyncData) || fault.on.is_none();
            if !(excused && sync) {
                return Err(with_trace(
                    format!("writes did not resume: {:?} {health:?}", run.complaints),
                    &run,
                ));
            }
        }
        run.close();
    }
    run.end();
    let engine =
        open(&run.disk, options, &run.clock).map_err(|e| with_trace(format!("reopen: {e}"), &run))?;
    let (content, partial) = read_everything(&engine)?;
    // What no read gave at an opening is damage by what that opening told. Else a failed call is none.
    if run.damage_told && fault.lasting == Lasting::ForGood && fault.on == Some(CallKind::Read) {
        return nothing_is_invented(&run, &content).map_err(|wrong| with_trace(wrong, &run));
    }
    // The power stayed on: what was refused is nowhere.
    for entry in run.entries.iter_mut().filter(|entry| entry.told == Told::Refused) {
        entry.told = Told::Unasked;
    }
    judge(&run.entries, &content).map_err(|wrong| with_trace(format!("after reopening: {wrong}"), &run))?;
    let report = engine.recovery_report();
    if partial || !report.damage.is_empty() || report.rebuilt {
        return Err(with_trace(
            format!("a failed call was taken for damage (struck: {struck}): {report:?}"),
            &run,
        ));
    }
    Ok(())
}

/// Writes a body; again, as a client would, while the store says that the disk is full: it looks for room by itself.
fn write_until_taken(run: &mut Run) -> Health {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        run.step(&Step::Write(body(0, 1, 7)));
        let health = run.engine().expect("still open").health();
        let refused = run.entries.last().expect("just written").told == Told::Refused;
        // The seal that makes room is tried again after ten seconds, for as long as a write waits for its turn: either may be first.
        let passes = ["the disk is full", "the write queue is full"];
        let passing =
            run.complaints.last().is_some_and(|told| passes.iter().any(|words| told.contains(words)));
        if !refused || !passing || Instant::now() > deadline {
            return health;
        }
        // Nothing of it was stored: it is not one more body in doubt.
        run.entries.pop();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What callers were told is stored is readable in this opening, and nothing else. A page that could not be read may make
/// an answer partial.
fn reads_go_on(run: &Run) -> Result<(), String> {
    let mut expected = Content::new();
    let acknowledged = run.entries.iter().filter(|entry| matches!(entry.told, Told::Stored | Told::Taken));
    acknowledged.for_each(|entry| entry.body.apply(&mut expected));
    let (found, partial) = read_everything(run.engine().expect("asked for an open store"))?;
    // A store that was opened after a failure may hold what it could not tell of then.
    if found == expected || partial || judge(&run.entries, &found).is_ok() {
        return Ok(());
    }
    if run.damage_told {
        return nothing_is_invented(run, &found);
    }
    Err(format!("in the same opening {} values are readable, {} were stored", found.len(), expected.len()))
}

/// Every value that is there was written to its place.
fn nothing_is_invented(run: &Run, found: &Content) -> Result<(), String> {
    let written: Vec<_> = run.entries.iter().flat_map(|entry| &entry.body.cells).collect();
    let known = |(cell, value)| written.iter().any(|(at, told)| (at, told) == (cell, value));
    found.iter().find(|entry| !known(*entry)).map_or(Ok(()), |(cell, _)| Err(format!("{cell} is invented")))
}

/// A life mostly waits for the pauses between two attempts: many are lived side by side.
const SIDE_BY_SIDE: usize = 12;

on_both_read_modes! {
    steady_writes_and_seals,
    an_interval_database,
    deletes_and_a_compaction,
    retention,
    reopening_and_recycling,
    catalog_growth,
    a_disk_that_fills_up_takes_writes_again_once_there_is_room,
}

fn steady_writes_and_seals(read_mode: ReadMode) {
    every_call(&scripts::steady_writes_and_seals(), read_mode);
}

fn an_interval_database(read_mode: ReadMode) {
    every_call(&scripts::an_interval_database(), read_mode);
}

fn deletes_and_a_compaction(read_mode: ReadMode) {
    every_call(&scripts::deletes_and_a_compaction(), read_mode);
}

fn retention(read_mode: ReadMode) {
    every_call(&scripts::retention(), read_mode);
}

fn reopening_and_recycling(read_mode: ReadMode) {
    every_call(&scripts::reopening_and_recycling(), read_mode);
}

fn catalog_growth(read_mode: ReadMode) {
    every_call(&scripts::catalog_growth(), read_mode);
}

/// Lives `history` once for every call that can fail and every way in which it can.
fn every_call(history: &[Step], read_mode: ReadMode) {
    let options =
        Options { ballast_bytes: 4096, min_retention: Duration::ZERO, read_mode, ..Options::default() };
    let faults = every_fault(&calls_of(history, &options), read_mode);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(&fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if failed.lock().expect("no panic holds it").is_some() {
                        return;
                    }
                    if let Err(wrong) = live(history, &options, fault) {
                        *failed.lock().expect("no panic holds it") = Some(format!("{fault:?}: {wrong}"));
                    }
                }
            });
        }
    });
    if let Some(wrong) = failed.into_inner().expect("no panic holds it") {
        panic!("{wrong}");
    }
    println!("{} lives", faults.len());
}

/// How many calls of each kind the history makes on a disk that works.
fn calls_of(history: &[Step], options: &Options) -> Counts {
    let mut run = Run::new(SimDisk::new(1), options.clone());
    run.live(history);
    let counts = run.disk.counts();
    assert_eq!(run.complaints, Vec::<String>::new());
    for kind in [CallKind::Create, CallKind::Write, CallKind::SyncData, CallKind::SyncDir, CallKind::Rename] {
        assert!(counts.of(kind) > 3, "the script makes {} calls of {kind:?}", counts.of(kind));
    }
    counts
}

/// Each call fails alone, in each way that a call of its kind can. For good: from each call on, and the syncs alone from
/// each of them on. The way of reading makes a difference only to calls that read.
fn every_fault(counts: &Counts, read_mode: ReadMode) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut add = |error, lasting, on: Option<CallKind>| {
        let calls = on.map_or(counts.calls, |kind| counts.of(kind));
        faults.extend((1..=calls).map(|nth| Fault { error, nth, lasting, on, within: None }));
    };
    let reads = |kind| matches!(kind, CallKind::Open | CallKind::Read | CallKind::Map | CallKind::MapCopy);
    for kind in CallKind::ALL.into_iter().filter(|kind| read_mode == ReadMode::Map || reads(*kind)) {
        for error in ERRORS {
            // A short write is EIO to every other call.
            if error.strikes(kind) && (error != FaultError::ShortWrite || kind == CallKind::Write) {
                add(error, Lasting::Once, Some(kind));
            }
        }
        if matches!(kind, CallKind::SyncData | CallKind::SyncDir) {
            add(FaultError::Eio, Lasting::ForGood, Some(kind));
            add(FaultError::NoSpace, Lasting::ForGood, Some(kind));
        }
    }
    if read_mode == ReadMode::Map {
        add(FaultError::Eio, Lasting::ForGood, None);
        add(FaultError::NoSpace, Lasting::ForGood, None);
        for error in [FaultError::ShortWrite, FaultError::Interrupted] {
            add(error, Lasting::ForGood, Some(CallKind::Write));
        }
        add(FaultError::Interrupted, Lasting::ForGood, Some(CallKind::SyncData));
    } else {
        add(FaultError::Eio, Lasting::ForGood, Some(CallKind::Read));
        add(FaultError::Interrupted, Lasting::ForGood, Some(CallKind::Read));
    }
    faults
}

const ERRORS: [FaultError; 4] =
    [FaultError::Eio, FaultError::NoSpace, FaultError::ShortWrite, FaultError::Interrupted];

#[test]
fn random_lives_with_a_failing_call() {
    for seed in seeds("io_errors", 120) {
        let mut rng = Rng::new(seed);
        let mode = if rng.chance(50) { ReadMode::Map } else { ReadMode::Pread };
        let options = options(&mut rng, mode);
        let history: Vec<Step> = Author::new(rng.split()).history(Life::Old).into_iter().take(16).collect();
        let fault = Fault {
            error: *rng.pick(&ERRORS),
            nth: 1 + rng.below(300),
            lasting: Lasting::Once,
            on: None,
            within: None,
        };
        if let Err(wrong) = live(&history, &options, fault) {
            panic!("WATTLOG_SEED={seed}: {fault:?}: {wrong}");
        }
    }
}

/// Was taken for a lost store: a new manifest took the place of the one that could not be read, ids were given again, and when
/// the disk answered again points showed under the names of other series.
#[test]
fn a_disk_of_which_nothing_is_read_is_no_lost_store() {
    let mut run = Run::new(SimDisk::new(1), Options::default());
    run.live(&scripts::catalog_growth());
    run.close();
    let paths = run.disk.paths();
    run.disk.inject(Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::Read));
    let refused = open(&run.disk, &run.options, &run.clock).unwrap_err();
    assert!(refused.contains("read any file of the store"), "{refused}");
    run.disk.clear_faults();
    assert_eq!(run.disk.paths(), paths, "nothing was touched");
    let engine = open(&run.disk, &run.options, &run.clock).unwrap();
    judge(&run.entries, &read_everything(&engine).unwrap().0).unwrap();
}

/// One EIO on the manifest made an opening forget deletes and retention.
#[test]
fn a_manifest_that_is_not_read_once_is_read_again() {
    let mut run = Run::new(SimDisk::new(1), Options::default());
    run.live(&scripts::deletes_and_a_compaction());
    run.close();
    let fault = Fault::at(1, FaultError::Eio, Lasting::Once).on(CallKind::Read);
    run.disk.inject(fault.within(SyncName::ManifestFile));
    let engine = open(&run.disk, &run.options, &run.clock).unwrap();
    let report = engine.recovery_report();
    assert!(!report.rebuilt && report.damage.is_empty(), "{report:?}");
}

/// A body was answered "outcome unknown", a delete of it "done, nothing to hide"; after the next start the body was there.
#[test]
fn a_read_only_store_refuses_a_delete_of_what_it_does_not_know() {
    let mut run = Run::new(SimDisk::new(1), Options::default());
    run.open();
    run.engine().expect("open").create_database("home").unwrap();
    run.disk.inject(Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::SyncData));
    run.step(&Step::Write(body(0, 1, 1)));
    assert_eq!(run.entries[0].told, Told::Unknown);
    let engine = run.engine().expect("open");
    // The caller is answered before the store has found that no new log can be begun either.
    let deadline = Instant::now() + Duration::from_secs(20);
    while engine.health().writable && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = engine.delete(&scripts::deletion(1..2).delete().expect("it is one"));
    assert!(matches!(refused, Err(DeleteError::Commit(WriteError::ReadOnly(_)))), "{refused:?}");
}

/// The disk fills up for real, byte by byte; room is made; nobody restarts anything.
fn a_disk_that_fills_up_takes_writes_again_once_there_is_room(read_mode: ReadMode) {
    for capacity in (24..72).map(|kib| kib * 1024 + 77 * kib) {
        let options =
            Options { read_mode, ballast_bytes: 16 << 10, memtable_bytes: 64 << 10, ..Options::default() };
        let mut run = Run::new(SimDisk::new(capacity), options);
        run.open();
        run.disk.set_capacity_bytes(Some(capacity));
        let mut refused = 0;
        let mut time = 0;
        while refused < 3 && time < 4000 {
            time += 1;
            run.step(&Step::Write(body(0, 1, time)));
            refused += u64::from(run.entries.last().expect("just written").told != Told::Stored);
        }
        if run.engine().is_none() {
            continue;
        }
        assert_eq!(refused, 3, "{capacity} bytes never filled up");
        let engine = run.engine().expect("open").clone();
        let error = engine.write(body(0, 1, 0).batch());
        assert!(
            !matches!(error, Err(WriteError::ReadOnly(_))),
            "{capacity}: a full disk is not the end: {error:?}"
        );
        reads_go_on(&run).unwrap();
        run.disk.set_capacity_bytes(None);
        // Room was made. The first write may still find the log that could not be written.
        let resumed = (1..10).any(|i| {
            run.step(&Step::Write(body(0, 1, time + i)));
            run.entries.last().expect("just written").told == Told::Stored
        });
        assert!(resumed, "{capacity}: {:?} {:?}", run.complaints.last(), engine.health());
        run.step(&Step::Seal);
        drop(engine);
        run.close();
        run.open();
        let (content, _) = read_everything(run.engine().expect("opens")).unwrap();
        let stored = run.entries.iter().filter(|entry| entry.told == Told::Stored);
        for (cell, value) in stored.flat_map(|entry| &entry.body.cells) {
            assert_eq!(content.get(cell), Some(value), "{capacity}: {cell}");
        }
    }
}
