//! Opening: what is done for each thing that can be found on the disk. The table is in format-spec.md section 8.
//!
//! Promise: opening never fails for what is in a file (only for a disk that does not answer, or a newer version); what
//! was acknowledged is readable when it returns, or the report names the damage that took it.
//!
//! Invariants
//! 1. Files are only deleted if a whole manifest says that they are of no use.
//! 2. Opening a second time, also after a cut in the middle of the first, finds the same points.
//! 3. Nothing is appended to a file of an earlier opening.

mod attempt;
mod folders;
mod names;
mod refusal;
mod replayed;
mod report;

pub(crate) use folders::{Orphans, UNUSED, existing_identity, names_missing_files, set_aside_whole};
pub(crate) use names::names_of;
pub(crate) use refusal::catalog_refused;
pub use report::{RecoveryReport, TornEnd};

use crate::engine::Found;
use crate::error::{Damage, OpenError};
use crate::feed::{Cursor, Extent, FeedSource};
use crate::ids::{LogId, NextIds, StoreId};
use crate::ingest::writer::WriterStart;
use crate::io::Disk;
use crate::manifest::{Edit, Manifest, ManifestCondition, State};
use crate::memtable::Memtable;
use crate::options::Options;
use crate::wal::{Recycler, ReplayReport, set_aside};
use attempt::{Attempt, Outcome};
use folders::{FOLDERS, next_file, refuse_if_nothing_is_read, remove_orphans};
use replayed::Recent;
use std::sync::Arc;

/// A store ready to be served.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) found: Found,
    pub(crate) writer: WriterStart,
    pub(crate) report: RecoveryReport,
}

/// Opens what is on `disk`.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    seed: StoreId,
    orphans: Orphans,
) -> Result<Recovered, OpenError> {
    for folder in FOLDERS {
        disk.create_dir(folder).map_err(OpenError::disk("make the folders of the store"))?;
    }
    disk.sync_dir("").map_err(OpenError::disk("make the folders of the store"))?;

    let mut report = RecoveryReport::default();
    let identity = existing_identity(&**disk).map_err(OpenError::disk("look for files of the store"))?;
    let (mut manifest, condition) = Manifest::open(disk, identity.unwrap_or(seed))?;
    if matches!(condition, ManifestCondition::Fresh | ManifestCondition::Damaged(_)) {
        refuse_if_nothing_is_read(&**disk)?;
    }
    let mut rebuild = false;
    match condition {
        ManifestCondition::Whole => {}
        ManifestCondition::TornTail(damage) => {
            // A torn edit took nothing away: files go only after the edit that drops them is durable. One that is gone says that
            // the edit was durable, and that it is damaged.
            if names_missing_files(&**disk, manifest.state()).map_err(OpenError::disk("list the segments"))? {
                rebuild = true;
                report.damage.push(damage);
            } else {
                report.torn.push(TornEnd { file: damage.file, offset: damage.offset });
            }
        }
        ManifestCondition::Fresh if identity.is_none() => {
            report.fresh = true;
            let first = Edit::Snapshot(manifest.state().clone());
            manifest.append(&first, 0).map_err(OpenError::disk("write the first manifest"))?;
        }
        ManifestCondition::Fresh => {
            rebuild = true;
            let damage =
                |part| Damage { file: "manifest".to_owned(), offset: 0, part, expected: 1, found: 0 };
            report.damage.push(damage("manifest file"));
        }
        ManifestCondition::Damaged(damage) => {
            rebuild = true;
            report.damage.extend(damage);
        }
    }
    let mut attempt = Attempt::new(disk, options, manifest.store(), manifest.state().clone());
    if rebuild {
        attempt.adopt_every_segment(&mut report)?;
    }
    let mut outcome = attempt.load(&mut report)?;
    if !rebuild && outcome.replay.manifest_edit_attested > manifest.state().edit {
        // The log knows of a later manifest: the end of this one is gone.
        rebuild = true;
        report.damage.push(Damage {
            file: "manifest".to_owned(),
            offset: 0,
            part: "edit_number",
            expected: outcome.replay.manifest_edit_attested,
            found: manifest.state().edit,
        });
        attempt = Attempt::new(disk, options, manifest.store(), manifest.state().clone());
        attempt.adopt_every_segment(&mut report)?;
        outcome = attempt.load(&mut report)?;
    }
    let Attempt { state, .. } = attempt;
    let Outcome { catalog, mut recent, replay, opener, segments } = outcome;
    if rebuild {
        report.rebuilt = true;
        report
            .alarms
            .push(
                "the manifest was damaged: the list of files was rebuilt from the segments; what was deleted and not yet \
                 compacted may show again: delete it once more; retention that was set over HTTP is gone: set it once more"
                    .to_owned(),
            );
        manifest.restart_above(replay.manifest_edit_attested);
        manifest
            .append(&Edit::Snapshot(state.clone()), 0)
            .map_err(OpenError::disk("write a new manifest"))?;
    } else {
        report.orphans_removed = remove_orphans(&**disk, &state, orphans);
    }
    finish_report(&**disk, &mut report, &replay, &recent);

    let last = replay.last_seq.max(state.flushed_seq);
    let next_file = next_file(&**disk, &state).map_err(OpenError::disk("list the segments"))?;
    let recycler = Recycler::open(disk).map_err(OpenError::disk("list the logs"))?;
    catalog.raise_next_ids(above_rules(state.next_ids, &state));
    let writer = WriterStart {
        last,
        next_log: LogId(replay.max_log_id.0 + 1),
        recycler,
        unsealed_logs: replay.logs.iter().map(|log| (log.id, log.last_seq)).collect(),
        seal_first: !replay.durable,
        next_ids: catalog.next_ids(),
        manifest_edit: manifest.state().edit,
        frozen: recent.frozen.clone(),
    };
    let feed = FeedSource {
        history: recent.take_feed(),
        opened: Cursor { log_id: replay.max_log_id, seq: last },
        logs: replay.logs.iter().filter_map(|log| Some((log.id, log.first_seq?))).collect(),
        edit: manifest.state().edit,
        unseen: unseen(&state, &report),
    };
    let mut tombstones = state.tombstones.clone();
    tombstones.extend(recent.tombstones);
    let frozen = recent.frozen.into_iter().map(|(memtable, _)| memtable).collect();
    let active = recent.active;
    let found = Found { manifest, catalog, opener, segments, active, frozen, tombstones, feed, next_file };
    Ok(Recovered { found, writer, report })
}

/// What a cursor of an earlier opening may not know: what is hidden by age, what lies in files that are set aside, and, after
/// damage, anything.
fn unseen(state: &State, report: &RecoveryReport) -> Vec<Extent> {
    if report.rebuilt || !report.damage.is_empty() {
        return vec![Extent::everything()];
    }
    let aside = state.segments.values().filter(|entry| entry.quarantined).map(|entry| {
        Extent::damaged(entry.namespace, entry.measurement, (entry.first_time, entry.last_time))
    });
    Extent::hidden(&state.retentions).into_iter().chain(aside).collect()
}

/// Ids above all that retention speaks of: a rule must not meet another measurement than the one it was made for, even if the
/// log that defined it was lost.
fn above_rules(mut next: NextIds, state: &State) -> NextIds {
    for (namespace, measurement) in state.retentions.entries.keys() {
        next.namespace = next.namespace.max(namespace.0.saturating_add(1));
        next.measurement = next.measurement.max(measurement.map_or(0, |id| id.0.saturating_add(1)));
    }
    next
}

fn finish_report(disk: &dyn Disk, report: &mut RecoveryReport, replay: &ReplayReport, recent: &Recent) {
    report.clean = replay.ended_cleanly && report.damage.is_empty() && !report.rebuilt;
    report.replayed_records = replay.records;
    report.replayed_points = recent.memtables().map(Memtable::rows).sum();
    report.replayed_values = recent.memtables().map(Memtable::values).sum();
    report.void_records = replay.void;
    let torn = replay.torn.iter().map(|torn| TornEnd { file: torn.file.clone(), offset: torn.offset });
    report.torn.extend(torn);
    for found in &replay.corrupt {
        report.damage.push(found.damage.clone());
        if let Some((first, last)) = found.lost {
            report.alarms.push(format!("the log lost the commits {first} to {last}: {}", found.damage));
        }
        if found.len > 0
            && let Err(error) = set_aside(disk, &found.damage, found.offset, found.len)
        {
            tracing::warn!(file = %found.damage.file, %error, "damaged bytes could not be copied to quarantine");
        }
    }
    for torn in &report.torn {
        tracing::info!(file = %torn.file, offset = torn.offset, "a torn end was dropped; nothing in it was acknowledged");
    }
}
