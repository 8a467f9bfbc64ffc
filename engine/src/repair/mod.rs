//! Repair: makes a damaged store one that opens without healing, out of what is left, and sets the rest aside.
//!
//! Promise: nothing is deleted that a person could still read something from: what cannot be used is moved to `quarantine/`, with a
//! report beside it. No value that could be read before is lost by it. What cannot be rebuilt stays missing, and answers that need it stay
//! partial. A second run changes nothing.
//!
//! What opening a store heals anyway is healed by opening it (`recovery`, the table in format-spec.md section 8.5): the
//! manifest, names that catalog files lost, damaged logs. Beyond that
//! 1. what is in logs is sealed, so that the logs are retired, and a new catalog file takes the place of damaged ones;
//! 2. a segment of which every value can be read, but not its ends or its statistics, is written anew;
//! 3. a segment of which nothing can be read is set aside. One that is damaged in part stays: the rest of it is served.
//!
//! Not here: finding damage (`check`), values out of damaged files (`salvage`).

mod rewrite;

use crate::check::{self, CheckReport};
use crate::engine::{Engine, Shared};
use crate::error::{Damage, EngineError, OpenError};
use crate::ids::CatalogFileId;
use crate::io::{Access, Disk, Lock, ReadMode};
use crate::manifest::Edit;
use crate::options::Options;
use crate::recovery::{Orphans, UNUSED, set_aside_whole};
use crate::segment::{Segment, SegmentEntry};
use rewrite::Rewritten;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_model::Clock;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// What was found before.
    pub before: CheckReport,
    /// What was done, in sentences; empty if there was nothing to do.
    pub done: Vec<String>,
    /// What is still wrong.
    pub after: CheckReport,
    /// Whether values are lost, or may be: those of a damaged part that nothing else holds.
    pub lost: bool,
    /// Path of the report within the store; none if nothing was done.
    pub report: Option<String>,
}

/// How long a repair waits until a damaged catalog file was given up.
const HEALING: Duration = Duration::from_secs(5);

/// Why a repair ended early. What was done until then stays done, and another run goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The store could not be opened: in use, of a newer version, or the disk does not answer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something that an open store does failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be read, moved or written.
    #[error("repair")]
    Disk(#[from] io::Error),
}

/// Repairs the store on `disk`; nothing is touched if nothing is wrong with it.
///
/// # Errors
/// [`RepairError`]; `InUse` if any process has the store open.
pub fn repair(
    disk: &Arc<dyn Disk>,
    options: Options,
    clock: &Arc<dyn Clock>,
) -> Result<RepairReport, RepairError> {
    let lock = Engine::lock(&**disk)?;
    let before = check::store(disk)?;
    if before.is_whole() && before.unknown.is_empty() {
        return Ok(RepairReport {
            after: before.clone(),
            before,
            done: Vec::new(),
            lost: false,
            report: None,
        });
    }
    let mut done = Vec::new();
    disk.create_dir("quarantine")?;
    keep_manifests(&**disk, &before, &mut done)?;
    let mut healed = heal(disk, &options, clock, lock, &before, &mut done)?;
    if healed.settled {
        // Catalog files come last: segments that were written anew tell names too.
        let lock = Engine::lock(&**disk)?;
        let rest = check::store(disk)?;
        healed.lost |= heal(disk, &options, clock, lock, &rest, &mut done)?.lost;
    }
    let lost = healed.lost;

    let _lock = Engine::lock(&**disk)?;
    move_unnamed(&**disk, &before, &mut done)?;
    let after = check::store(disk)?;
    let lost = lost || !after.is_whole();
    let report = match &done[..] {
        [] => None,
        done => Some(write_report(&**disk, &**clock, &before, done, &after)?),
    };
    Ok(RepairReport { before, done, after, lost, report })
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default)]
struct Healed {
    /// Something is lost for good.
    lost: bool,
    /// A segment that could not be read was written anew or given up.
    settled: bool,
}

/// Opens the store and puts right what an open store can.
fn heal(
    disk: &Arc<dyn Disk>,
    options: &Options,
    clock: &Arc<dyn Clock>,
    lock: Box<dyn Lock>,
    before: &CheckReport,
    done: &mut Vec<String>,
) -> Result<Healed, RepairError> {
    // Nobody writes and nobody reads: only what is asked for here shall happen.
    let options = Options {
        compaction_bytes_per_second: 0,
        scrub_interval: Duration::ZERO,
        retention: false,
        ..options.clone()
    };
    let seed = crate::ids::StoreId::default();
    let engine = Engine::open_locked(disk.clone(), options, clock.clone(), seed, (lock, Orphans::SetAside))?;
    let opened = engine.recovery_report();
    if opened.orphans_removed > 0 {
        done.push(format!("{} files that nothing names were moved to quarantine/", opened.orphans_removed));
    }
    let in_logs: Vec<&Damage> =
        opened.damage.iter().filter(|damage| damage.file.starts_with("wal")).collect();
    let mut healed = Healed { lost: opened.rebuilt || !in_logs.is_empty(), settled: false };
    let mut unsealed = false;
    let shared = engine.shared().clone();
    match engine.seal() {
        Ok(sealed) => {
            // Logs that were retired are told once; where nothing could be sealed, every opening tells of them again.
            let retired = sealed.segments > 0;
            for damage in in_logs.iter().filter(|_| retired) {
                done.push(format!(
                    "damaged bytes of a log were copied to quarantine/ and stepped over: {damage}"
                ));
            }
            if opened.rebuilt || (retired && healed.lost) {
                done.extend(opened.alarms.iter().cloned());
            }
            if retired {
                done.push(format!("{} values in logs were sealed", sealed.values));
            }
        }
        Err(error) => {
            // Most often rows of a series whose name was lost: they stay in the log, where salvage counts them.
            tracing::warn!(%error, "what is in logs could not be sealed, and catalog files are left as they are");
            (healed.lost, unsealed) = (true, true);
        }
    }
    // Of the manifest, not of the view: that one leaves out what an opening cannot use.
    let entries: Vec<SegmentEntry> = shared.manifest.lock().state().segments.values().cloned().collect();
    let damaged: BTreeSet<&str> =
        before.damage().chain(&opened.damage).map(|damage| damage.file.as_str()).collect();
    for entry in entries.iter().filter(|entry| !entry.quarantined && damaged.contains(&*entry.path())) {
        match segment(&shared, entry, done)? {
            Became::Whole => healed.settled = true,
            Became::Partial => healed.lost = true,
            Became::GivenUp => (healed.lost, healed.settled) = (true, true),
        }
    }
    // Names in a segment that was just written anew are not known to this opening, but to the next one.
    if !unsealed && !healed.settled {
        replace_catalogs(&shared, before, done)?;
    }
    drop(shared);
    engine.close()?;
    Ok(healed)
}

/// Copies damaged manifest files: a new generation removes the old ones.
fn keep_manifests(disk: &dyn Disk, report: &CheckReport, done: &mut Vec<String>) -> io::Result<()> {
    let damaged = |file: &&check::FileReport| file.file.starts_with("manifest/") && !file.damage.is_empty();
    for file in report.files.iter().filter(damaged) {
        let copy = crate::wal::set_aside(disk, &file.damage[0], 0, file.bytes)?;
        done.push(format!("{} was copied to {copy}", file.file));
    }
    Ok(())
}

/// Moves what was replaced, which the next opening would remove, and files of no kind.
fn move_unnamed(disk: &dyn Disk, before: &CheckReport, done: &mut Vec<String>) -> io::Result<()> {
    let mut paths: BTreeSet<String> = BTreeSet::new();
    if let Some(named) = check::named_paths(disk) {
        for folder in ["segments", "catalog"] {
            let files = disk.list(folder)?.into_iter().filter(|file| !file.is_dir);
            let there = files.map(|file| format!("{folder}/{}", file.name));
            paths.extend(there.filter(|path| !named.contains(path)));
        }
    }
    let in_logs = before.unknown.iter().filter(|path| path.starts_with("wal/"));
    paths.extend(in_logs.filter(|path| disk.open(path, Access::Read).is_ok()).cloned());
    for path in paths {
        let aside = set_aside_whole(disk, &path, UNUSED)?;
        done.push(format!("{path} is named by nothing and lies in {aside} now"));
    }
    Ok(())
}

/// Writes the names that damaged catalog files held to a new one.
fn replace_catalogs(shared: &Arc<Shared>, before: &CheckReport, done: &mut Vec<String>) -> io::Result<()> {
    let damaged: BTreeSet<&str> = before.damage().map(|damage| damage.file.as_str()).collect();
    for entry in shared.catalog.file_entries() {
        if damaged.contains(&*crate::catalog::file_path(entry.id)) {
            shared.catalog.distrust(entry.id);
        }
    }
    // The sealing thread alone gives up files (`heal`); it looks every second.
    let began = Instant::now();
    while !shared.catalog.broken_files().is_empty() && began.elapsed() < HEALING {
        std::thread::sleep(Duration::from_millis(20));
    }
    if !shared.catalog.broken_files().is_empty() {
        done.push(
            "a damaged catalog file is kept: names in it are found nowhere else, or a segment cannot be read"
                .to_owned(),
        );
    }
    let id = CatalogFileId(shared.next_file_id());
    let Some(names) = shared.catalog.write_unsealed(&shared.disk, shared.store, id)? else { return Ok(()) };
    let replaced: Vec<String> = names.replaces().iter().map(|id| crate::catalog::file_path(*id)).collect();
    let state = shared.manifest.lock().state().clone();
    let edit = Edit::Sealed {
        segments: Vec::new(),
        catalog: Some(*names.entry()),
        replaces_catalogs: names.replaces().to_vec(),
        flushed_seq: state.flushed_seq,
        next_file: shared.peek_next_file(),
        next_ids: shared.catalog.next_ids(),
        tombstones: Vec::new(),
    };
    append(shared, &edit)?;
    shared.catalog.adopt(names);
    let place = if replaced.is_empty() { "no file".to_owned() } else { replaced.join(", ") };
    let path = crate::catalog::file_path(id);
    done.push(format!("{path} was written with all names that are known, in place of {place}"));
    Ok(())
}

/// A segment after its repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// Nothing is lost.
    Whole,
    /// It stays, and what is left of it is served.
    Partial,
    /// It is set aside.
    GivenUp,
}

/// Repairs one segment, if that is possible.
fn segment(shared: &Arc<Shared>, entry: &SegmentEntry, done: &mut Vec<String>) -> io::Result<Became> {
    let (disk, path) = (&*shared.disk, entry.path());
    let values = match rewrite::rewrite(shared, entry)? {
        Rewritten::Whole(new) => {
            let replacement = new.path();
            append(
                shared,
                &Edit::Compacted {
                    segments: vec![new],
                    replaced: vec![entry.id],
                    next_file: shared.peek_next_file(),
                    applied: Vec::new(),
                },
            )?;
            let aside = set_aside_whole(disk, &path, "")?;
            done.push(format!(
                "{path}: every value can be read; it was written anew as {replacement} and lies in {aside} now"
            ));
            return Ok(Became::Whole);
        }
        Rewritten::NotWhole { values } => values,
    };
    let opened = Segment::open(disk, &path, shared.store, entry.id, ReadMode::Pread);
    if values > 0 && opened.is_ok_and(|segment| segment.entry().file_bytes == entry.file_bytes) {
        // The check that follows tells what is not served.
        return Ok(Became::Partial);
    }
    append(shared, &Edit::Quarantined(entry.id))?;
    if disk.open(&path, Access::Read).is_err() {
        done.push(format!("{path} is missing; answers that need it stay partial"));
        return Ok(Became::GivenUp);
    }
    let aside = set_aside_whole(disk, &path, "")?;
    let all = entry.values;
    done.push(format!(
        "{path} cannot be served and lies in {aside} now; answers that need it stay partial. `wattlog salvage` finds {values} of \
         its {all} values"
    ));
    Ok(Became::GivenUp)
}

fn append(shared: &Arc<Shared>, edit: &Edit) -> io::Result<()> {
    let number = shared.manifest.lock().append(edit, shared.clock.wall().0)?;
    shared.attest(number);
    Ok(())
}

/// Writes what was found and done beside what was set aside.
fn write_report(
    disk: &dyn Disk,
    clock: &dyn Clock,
    before: &CheckReport,
    done: &[String],
    after: &CheckReport,
) -> io::Result<String> {
    use std::fmt::Write as _;
    let mut text = String::from("Repair of this store.\n\nFound:\n");
    let strange = before.unknown.iter().map(|path| format!("{path}: no file of a store by its name"));
    let damage = |report: &CheckReport| report.damage().map(ToString::to_string).collect::<Vec<_>>();
    for (heading, lines) in [
        ("", damage(before).into_iter().chain(strange).collect()),
        ("\nDone:\n", done.to_vec()),
        ("\nStill wrong:\n", damage(after)),
    ] {
        text.push_str(heading);
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    let base = format!("quarantine/repair-{}", clock.wall().0);
    for number in 0_u32.. {
        let path = if number == 0 { format!("{base}.txt") } else { format!("{base}-{number}.txt") };
        match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => {
                let file = created?;
                file.write_at(0, text.as_bytes())?;
                file.sync_data()?;
                disk.sync_dir("quarantine")?;
                return Ok(path);
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether a segment entry still says what it said of the values.
fn same_content(old: &SegmentEntry, new: &SegmentEntry) -> bool {
    let said = |entry: &SegmentEntry| {
        (entry.namespace, entry.measurement, entry.first_time, entry.last_time, entry.rows, entry.values)
    };
    said(old) == said(new)
}
