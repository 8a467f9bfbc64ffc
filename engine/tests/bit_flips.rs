//! Bits of every file of a small store are turned over, one at a time: the answers are the same, or the damage is told; a
//! wrong value is never served, and nothing panics or refuses to open.
//!
//! `WATTLOG_FLIPS=all` turns every bit (some minutes on two cores); by default every seventeenth is, from a place that differs
//! from run to run, `WATTLOG_SEED` choosing it.

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::content::{Body, Cell, Content, DATABASES, Exact, FIELDS, read_everything};
use support::history::START_NS;
use support::run::{Run, open};
use support::seeds::seeds;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::options::Options;
use wattlog_model::{FieldType, FieldValue, ManualClock, Timestamp};

/// One value of a shape that leads to one coding or another: constant, runs, few different, small steps, a line, decimals
/// with exceptions, true doubles, few and many texts.
fn value(rng: &mut Rng, field: usize, series: usize, row: i64) -> FieldValue {
    let noise = rng.next_u64();
    match (FIELDS[field].1, series) {
        (FieldType::Float, 0) => FieldValue::Float(231.5),
        (FieldType::Float, 1) => FieldValue::Float(f64::from_bits(noise >> 2)),
        (FieldType::Float, 2) => FieldValue::Float((noise % 4000) as f64 / 10.0),
        (FieldType::Float, 3) => {
            FieldValue::Float(if noise.is_multiple_of(40) { 1.0 / 3.0 } else { row as f64 / 100.0 })
        }
        (FieldType::Float, _) => FieldValue::Float((row as f64 / 9.0).sin() * 5000.0),
        (FieldType::Integer, 0) => FieldValue::Integer(row * 10),
        (FieldType::Integer, 1) => FieldValue::Integer(noise as i64),
        (FieldType::Integer, 2) => FieldValue::Integer(row / 17),
        (FieldType::Integer, _) => FieldValue::Integer((noise % 9) as i64 * 1_000_003),
        (FieldType::Unsigned, 0 | 1) => FieldValue::Unsigned(u64::MAX - noise % 100),
        (FieldType::Unsigned, _) => FieldValue::Unsigned(row.unsigned_abs() * 3 + noise % 3),
        (FieldType::Boolean, 0) => FieldValue::Boolean(row / 20 % 2 == 0),
        (FieldType::Boolean, _) => FieldValue::Boolean(noise & 1 == 1),
        (FieldType::String, 0 | 1) => {
            FieldValue::String(["eco", "normal", "off"][(noise % 3) as usize].into())
        }
        (FieldType::String, _) => FieldValue::String(format!("message {noise:x}").into()),
    }
}

fn body(rng: &mut Rng, database: usize, rows: std::ops::Range<i64>) -> Body {
    let mut cells = Content::new();
    for series in 0..5 {
        for row in rows.clone() {
            let jitter = if series == 4 { rng.below(1_000_000) as i64 } else { 0 };
            let time = START_NS + row * 10_000_000_000 + jitter;
            for field in 0..FIELDS.len() {
                // Series have different fields, some of them with holes.
                let has = (series + field) % 3 != 0 && !(series == 2 && rng.chance(30));
                if has {
                    cells.insert(
                        Cell { database, series, time, field },
                        Exact(value(rng, field, series, row)),
                    );
                }
            }
        }
    }
    Body::new(database, cells.into_iter().collect())
}

/// A store with segments of two databases, one over the other, a catalog file, a manifest with several edits, retired
/// logs and one that is not sealed; closed in order. With all values each cell ever had.
fn small_store() -> (SimDisk, Options, BTreeMap<Cell, Vec<Exact>>) {
    let options = Options { ballast_bytes: 512, min_retention: Duration::ZERO, ..Options::default() };
    let mut rng = Rng::new(11);
    let mut run = Run::new(SimDisk::new(1), options.clone());
    run.open();
    let mut versions: BTreeMap<Cell, Vec<Exact>> = BTreeMap::new();
    let engine = run.engine().expect("opens").clone();
    let mut write = |body: Body| {
        engine.write(body.batch()).expect("stored");
        for (cell, value) in body.cells {
            versions.entry(cell).or_default().push(value);
        }
    };
    write(body(&mut rng, 0, 0..70));
    write(body(&mut rng, 1, 0..8));
    engine.seal().expect("sealed");
    write(body(&mut rng, 0, 66..80));
    write(body(&mut rng, 1, -3..2));
    engine.seal().expect("sealed");
    write(body(&mut rng, 0, 78..84));
    write(body(&mut rng, 1, 8..9));
    drop(engine);
    run.close();
    run.disk.settle();
    (run.disk.clone(), options, versions)
}

/// What a flip led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Harmless,
    Told,
}

struct Bench {
    store: SimDisk,
    options: Options,
    versions: BTreeMap<Cell, Vec<Exact>>,
    whole: Content,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn flip(&self, path: &str, offset: u64, bit: u8) -> Result<Found, String> {
        let disk = self.store.fork();
        disk.flip_bit(path, offset, bit);
        let engine =
            open(&disk, &self.options, &self.clock).map_err(|error| format!("did not open: {error}"))?;
        let answer = read_everything(&engine);
        let report = engine.recovery_report();
        let health = engine.health();
        let told = !report.damage.is_empty()
            || report.rebuilt
            || !report.torn.is_empty()
            || !health.damage.is_empty();
        // A query that fails says so; one that answers may lack values if it says so.
        let Ok((content, partial)) = answer else { return Ok(Found::Told) };
        if content == self.whole {
            return Ok(if told || partial { Found::Told } else { Found::Harmless });
        }
        for (cell, value) in &content {
            if !self.versions.get(cell).is_some_and(|values| values.contains(value)) {
                return Err(format!("a wrong value was served: {cell} is {value:?}"));
            }
        }
        if told || partial {
            Ok(Found::Told)
        } else {
            Err(format!("{} of {} values were served without a word", content.len(), self.whole.len()))
        }
    }
}

/// Turns every `stride`th bit.
fn bits(read_mode: ReadMode, stride: u64) {
    let phase = seeds("bit_flips", 0)[0] % stride;
    let (store, options, versions) = small_store();
    let options = Options { read_mode, ..options };
    let clock = Arc::new(ManualClock::new(Timestamp(START_NS)));
    let whole: Content =
        versions.iter().map(|(cell, values)| (*cell, values.last().expect("one at least").clone())).collect();
    {
        let engine = open(&store.fork(), &options, &clock).expect("opens");
        let (content, partial) = read_everything(&engine).expect("reads");
        assert!(content == whole && !partial, "the store is whole before any flip");
        assert!(engine.recovery_report().clean, "{:?}", engine.recovery_report());
        assert_eq!(engine.databases().len(), DATABASES.len() - 1);
    }
    let bytes: Vec<(String, u64)> = store
        .paths()
        .into_iter()
        .flat_map(|(path, len)| (0..len).map(move |offset| (path.clone(), offset)))
        .collect();
    let total: usize = bytes.len() * 8;
    let bench = Bench { store, options, versions, whole, clock };
    let next = AtomicUsize::new(phase as usize);
    let told = AtomicUsize::new(0);
    let flips = AtomicUsize::new(0);
    // A panic is caught and reported with its place; its own message would be noise here.
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(stride as usize, Ordering::Relaxed);
                        let Some((path, offset)) = bytes.get(at / 8) else { break };
                        let bit = (at % 8) as u8;
                        let place = format!("{path} byte {offset} bit {bit}");
                        let found = catch_unwind(AssertUnwindSafe(|| bench.flip(path, *offset, bit)));
                        match found {
                            Ok(Ok(Found::Told)) => told.fetch_add(1, Ordering::Relaxed),
                            Ok(Ok(Found::Harmless)) => 0,
                            Ok(Err(wrong)) => panic!("{place}: {wrong}"),
                            Err(_) => panic!("{place}: a panic"),
                        };
                        flips.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let (flips, told) = (flips.into_inner(), told.into_inner());
    println!(
        "{read_mode:?}: {flips} flips, every {stride}th from {phase}, of {total} bits in {} files: {told} told",
        bench.store.paths().len()
    );
    assert!(told * 2 > flips, "most flips of a store in use hurt something: {told} of {flips}");
}

#[test]
fn any_bit_of_a_small_store_is_harmless_or_told() {
    let all = std::env::var("WATTLOG_FLIPS").is_ok_and(|which| which == "all");
    bits(ReadMode::Map, if all { 1 } else { 17 });
}

/// A share of the same, drawn evenly: the twin reads the same bytes through another call.
#[test]
fn bits_read_by_pread_are_harmless_or_told() {
    bits(ReadMode::Pread, 97);
}
