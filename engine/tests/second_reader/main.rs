//! A second reader, written in another language from format-spec.md alone, sees in random stores what the engine sees.
//!
//! The reader (tests/format, Python's standard library) also verifies what it reads: checksums, order, every statistic.
//! If the two disagree, the engine, the reader or the text is wrong.
//!
//! Knobs: `WATTLOG_STORES` (how many), `WATTLOG_SEED` (the first; the others follow), `WATTLOG_PYTHON`,
//! `WATTLOG_KEEP` (a folder for the stores and what was read from them). A failure names the
//! seed of its store: `WATTLOG_SEED=<it> WATTLOG_STORES=1` makes that store again.

mod canonical;
mod dice;
mod golden;
mod life;
mod python;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Stores of a run that says nothing else.
const STORES: u64 = 200;
/// Stores that one process of the reader is given.
const BATCH: u64 = 20;
/// From so many stores on a run must have met every form of the format.
const STORES_WITH_ALL_FORMS: u64 = 200;

#[test]
fn random_stores_read_the_same_from_the_specification_alone() {
    let Some(python) = python::interpreter() else { return };
    let knob = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (stores, first) = (knob("WATTLOG_STORES").unwrap_or(STORES), knob("WATTLOG_SEED").unwrap_or(1));
    println!("{stores} stores from WATTLOG_SEED={first} on");

    let workers = 2;
    let batches: Vec<u64> = (0..stores).step_by(BATCH as usize).collect();
    let (failures, forms) = std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|worker| {
                let mine: Vec<u64> = batches.iter().copied().skip(worker).step_by(workers).collect();
                let python = &python;
                scope.spawn(move || {
                    let mut found = (Vec::new(), BTreeMap::new());
                    for batch in mine {
                        let seeds = first + batch..first + stores.min(batch + BATCH);
                        compare(python, seeds, &mut found.0, &mut found.1);
                    }
                    found
                })
            })
            .collect();
        let mut all = (Vec::new(), BTreeMap::new());
        for worker in running {
            let (failures, forms) = worker.join().unwrap();
            all.0.extend(failures);
            for (form, count) in forms {
                *all.1.entry(form).or_insert(0) += count;
            }
        }
        all
    });

    println!("forms met: {forms:?}");
    assert!(failures.is_empty(), "{} of {stores} stores:\n{}", failures.len(), failures.join("\n"));
    if stores >= STORES_WITH_ALL_FORMS {
        let missing: Vec<&&str> = FORMS.iter().filter(|form| !forms.contains_key(**form)).collect();
        assert!(missing.is_empty(), "no store had {missing:?}");
    }
}

/// Makes the stores of `seeds`, has them read, and tells each that differs.
fn compare(
    python: &Path,
    seeds: std::ops::Range<u64>,
    failures: &mut Vec<String>,
    forms: &mut BTreeMap<String, u64>,
) {
    let room = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let lived: Vec<life::Lived> = seeds.clone().map(|seed| life::live(seed, room.path())).collect();
    let folders: Vec<PathBuf> = lived.iter().map(|store| store.folder.clone()).collect();
    let made = begin.elapsed();
    let begin = Instant::now();
    let reading = python::read(python, room.path(), &folders);
    println!("{seeds:?}: made in {made:.1?}, read in {:.1?}", begin.elapsed());
    for (seed, store) in seeds.zip(&lived) {
        let name = store.folder.file_name().unwrap().to_string_lossy().into_owned();
        let read = std::fs::read_to_string(room.path().join(format!("{name}.ndjson"))).unwrap_or_default();
        if let Some(difference) = first_difference(&store.points, &read) {
            failures.push(format!("WATTLOG_SEED={seed} ({:?}): {difference}", store.end));
        }
        let prefix = format!("{}: ", store.folder.display());
        let said: Vec<&str> = reading.said.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
        let damage = said.iter().any(|said| said.starts_with("damage: "));
        // What is damaged may also be wrong: a lost definition is missed by what uses it.
        let wrong = said.iter().filter(|said| !store.damaged && said.starts_with("wrong: "));
        let unlike = (damage != store.damaged).then(|| format!("damage to the engine: {}", store.damaged));
        for what in wrong.map(|said| (*said).to_owned()).chain(unlike) {
            failures.push(format!("WATTLOG_SEED={seed} ({:?}): {what}; the reader says {said:?}", store.end));
        }
    }
    if let Some(kept) = std::env::var_os("WATTLOG_KEEP") {
        life::copy_folder(room.path(), Path::new(&kept));
    }
    for (form, count) in reading.forms {
        *forms.entry(form).or_insert(0) += count;
    }
}

fn first_difference(engine: &str, reader: &str) -> Option<String> {
    if engine == reader {
        return None;
    }
    let mut lines = (engine.lines(), reader.lines());
    for number in 1.. {
        let (ours, theirs) = (lines.0.next(), lines.1.next());
        if ours != theirs {
            return Some(format!("point {number}\n  engine: {ours:?}\n  reader: {theirs:?}"));
        }
        ours?;
    }
    None
}

/// What a run of [`STORES_WITH_ALL_FORMS`] must have met, as the reader names it. The engine's encoder never finds a use
/// for the others: `presence all` (a column without one says the same), runs of times, XOR for anything but floats.
pub const FORMS: [&str; 51] = [
    "times CONST",
    "times FOR",
    "times DELTA",
    "times LINE",
    "times RAW64",
    "float RAW64",
    "float CONST",
    "float RLE",
    "float DICT",
    "float FOR",
    "float DELTA",
    "float XOR",
    "float PCO",
    "integer RAW64",
    "integer CONST",
    "integer RLE",
    "integer DICT",
    "integer FOR",
    "integer DELTA",
    "integer LINE",
    "integer PCO",
    "unsigned RAW64",
    "unsigned CONST",
    "unsigned RLE",
    "unsigned DICT",
    "unsigned FOR",
    "unsigned DELTA",
    "boolean CONST",
    "boolean RLE",
    "boolean BITMAP",
    "string PLAIN",
    "string PLAIN_ZSTD",
    "string_ids STRDICT",
    "presence bitmap",
    "presence runs",
    "presence positions",
    "compact group",
    "compressed keys",
    "PCO with differences",
    "exceptions",
    "patches",
    "Compacted edit",
    "dropped tombstone",
    "tombstone in a manifest",
    "tombstone in a log",
    "hidden value of a segment",
    "hidden value of a log",
    "younger file with a lower id",
    "Retention edit",
    "row hidden by age",
    "segment dropped as a whole",
];

/// What random values seldom come to: golden stores have it.
pub const RARE_FORMS: [&str; 2] = ["unsigned PCO", "PCO without differences"];
