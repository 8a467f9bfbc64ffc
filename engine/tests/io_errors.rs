//! Failing calls: what failed is not acknowledged, reads go on, and what was acknowledged is there after the next start.
//!
//! One scripted life meets an error at each of its disk calls in turn: EIO, a full disk, a short write; once and for
//! good. Then the disk works again.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;
mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::content::{Body, Cell, Content, Deletion, Exact, read_everything};
use support::history::{Author, Life, START_NS, Step, options};
use support::run::{Run, Told, open};
use support::seeds::seeds;
use support::verdict::judge;
use wattlog_engine::Health;
use wattlog_engine::error::WriteError;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, Rng, SimDisk};
use wattlog_engine::options::Options;
use wattlog_model::FieldValue;

fn body(database: usize, time: i64) -> Body {
    let cell = |field| Cell { database, series: 1, time: START_NS + time, field };
    let cells = vec![
        (cell(0), Exact(FieldValue::Float(time as f64 / 8.0))),
        (cell(2), Exact(FieldValue::Integer(time))),
        (cell(5), Exact(FieldValue::String(format!("at {time}").into()))),
    ];
    Body::new(database, cells)
}

fn deletion(database: usize, times: std::ops::Range<i64>) -> Body {
    let times = START_NS + times.start..START_NS + times.end;
    let deletion = Deletion { series: 1, field: None, times };
    Body { deletion: Some(deletion), ..Body::new(database, Vec::new()) }
}

fn cutoff(database: usize, time: i64) -> Body {
    Body { cutoff: Some(START_NS + time), ..Body::new(database, Vec::new()) }
}

/// Two databases, seals, a wait that makes an interval sync due, a second start, a delete, retention, a compaction.
fn script() -> Vec<Step> {
    vec![
        Step::Write(body(0, 1)),
        Step::Write(body(2, 2)),
        Step::Seal,
        Step::Write(body(0, 3)),
        Step::Write(body(0, 1)),
        Step::Reopen,
        Step::Write(body(2, 4)),
        Step::Wait(Duration::from_secs(11)),
        Step::Write(body(0, 5)),
        Step::Write(deletion(0, 1..4)),
        Step::Seal,
        Step::Write(body(0, 6)),
        Step::Write(body(0, -5_000_000_000)),
        Step::Write(cutoff(0, -1_000_000_000)),
        Step::Compact,
        Step::Write(body(0, 8)),
    ]
}

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
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        run.step(&Step::Write(body(0, 7)));
        let health = run.engine().expect("still open").health();
        let refused = run.entries.last().expect("just written").told == Told::Refused;
        let full = run.complaints.last().is_some_and(|told| told.contains("the disk is full"));
        if !refused || !full || Instant::now() > deadline {
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
    Err(format!("in the same opening {} values are readable, {} were stored", found.len(), expected.len()))
}

const SIDE_BY_SIDE: usize = 8;

fn every_call(error: FaultError, lasting: Lasting, on: Option<CallKind>, read_mode: ReadMode) {
    let history = script();
    let options =
        Options { ballast_bytes: 4096, min_retention: Duration::ZERO, read_mode, ..Options::default() };
    let calls = {
        let mut run = Run::new(SimDisk::new(1), options.clone());
        run.live(&history);
        let counts = run.disk.counts();
        assert_eq!(run.complaints, Vec::<String>::new());
        on.map_or(counts.calls, |kind| counts.of(kind))
    };
    assert!(calls > 3, "the script makes {calls} calls of this kind");
    // A life mostly waits for the pauses between two attempts: many are lived side by side.
    let (next, failed) = (AtomicU64::new(1), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth > calls || failed.lock().expect("no panic holds it").is_some() {
                        return;
                    }
                    let fault = Fault { error, nth, lasting, on, within: None };
                    if let Err(wrong) = live(&history, &options, fault) {
                        *failed.lock().expect("no panic holds it") = Some(format!("{fault:?}: {wrong}"));
                    }
                }
            });
        }
    });
    if let Some(wrong) = failed.into_inner().expect("no panic holds it") {
        panic!("{wrong}");
    }
    println!("{error:?} {lasting:?} {on:?}: {calls} calls");
}

on_both_read_modes! {
    an_io_error_at_every_call,
    a_full_disk_at_every_call,
    a_short_write_at_every_write,
    a_failed_sync_at_every_sync,
    a_disk_that_fills_up_takes_writes_again_once_there_is_room,
}

fn an_io_error_at_every_call(read_mode: ReadMode) {
    every_call(FaultError::Eio, Lasting::Once, None, read_mode);
    every_call(FaultError::Eio, Lasting::ForGood, None, read_mode);
}

fn a_full_disk_at_every_call(read_mode: ReadMode) {
    every_call(FaultError::NoSpace, Lasting::Once, None, read_mode);
    every_call(FaultError::NoSpace, Lasting::ForGood, None, read_mode);
}

fn a_short_write_at_every_write(read_mode: ReadMode) {
    for lasting in [Lasting::Once, Lasting::ForGood] {
        every_call(FaultError::ShortWrite, lasting, Some(CallKind::Write), read_mode);
    }
}

fn a_failed_sync_at_every_sync(read_mode: ReadMode) {
    for kind in [CallKind::SyncData, CallKind::SyncDir] {
        for error in [FaultError::Eio, FaultError::NoSpace] {
            for lasting in [Lasting::Once, Lasting::ForGood] {
                every_call(error, lasting, Some(kind), read_mode);
            }
        }
    }
}

#[test]
fn random_lives_with_a_failing_call() {
    for seed in seeds("io_errors", 120) {
        let mut rng = Rng::new(seed);
        let mode = if rng.chance(50) { ReadMode::Map } else { ReadMode::Pread };
        let options = options(&mut rng, mode);
        let history: Vec<Step> = Author::new(rng.split()).history(Life::Old).into_iter().take(16).collect();
        let fault = Fault {
            error: *rng.pick(&[FaultError::Eio, FaultError::NoSpace, FaultError::ShortWrite]),
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
            run.step(&Step::Write(body(0, time)));
            refused += u64::from(run.entries.last().expect("just written").told != Told::Stored);
        }
        if run.engine().is_none() {
            continue;
        }
        assert_eq!(refused, 3, "{capacity} bytes never filled up");
        let engine = run.engine().expect("open").clone();
        let error = engine.write(body(0, 0).batch());
        assert!(
            !matches!(error, Err(WriteError::ReadOnly(_))),
            "{capacity}: a full disk is not the end: {error:?}"
        );
        reads_go_on(&run).unwrap();
        run.disk.set_capacity_bytes(None);
        // Room was made. The first write may still find the log that could not be written.
        let resumed = (1..10).any(|i| {
            run.step(&Step::Write(body(0, time + i)));
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
