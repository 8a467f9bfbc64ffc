//! One try to load everything that a manifest, or the files themselves, name.

use super::folders::{segment_id_of, set_aside_whole};
use super::names::names_from_segments;
use super::refusal::{catalog_refused, damage_of, refuses_opening, segment_refused};
use super::replayed::{Nameless, Points, Recent, UNDEFINED, apply};
use super::report::RecoveryReport;
use crate::catalog::Catalog;
use crate::error::{Damage, OpenError};
use crate::ids::{SegmentId, StoreId};
use crate::io::Disk;
use crate::manifest::State;
use crate::options::Options;
use crate::segment::{Segment, SegmentOpener, SegmentSet};
use crate::undefined;
use crate::wal::{Record, ReplayFloor, ReplayReport, log_path, replay, set_aside};
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// Pages of segment meta regions kept in memory, of 4 KiB each.
const CACHED_META_PAGES: usize = 4096;

/// One try to load everything that a state names.
pub(super) struct Attempt<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    store: StoreId,
    pub(super) state: State,
    /// True if the state was made from the files instead of the manifest.
    adopted: bool,
}

pub(super) struct Outcome {
    pub(super) catalog: Catalog,
    pub(super) recent: Recent,
    pub(super) replay: ReplayReport,
    pub(super) opener: Arc<SegmentOpener>,
    pub(super) segments: SegmentSet,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(disk: &'a Arc<dyn Disk>, options: &'a Options, store: StoreId, state: State) -> Self {
        Self { disk, options, store, state, adopted: false }
    }

    /// Takes every whole segment and catalog file that is there into the state. Segments hold what logs held under the same
    /// sequences, so one that a seal had not published yet does no harm. A segment that cannot be opened is set aside: the new
    /// manifest will not name it, and the next opening removes what no manifest names.
    pub(super) fn adopt_every_segment(&mut self, report: &mut RecoveryReport) -> Result<(), OpenError> {
        self.adopted = true;
        self.state.segments.clear();
        let entries = self.disk.list("segments").map_err(OpenError::disk("list the segments"))?;
        for file in entries {
            let Some(id) = segment_id_of(&file.name) else { continue };
            let path = format!("segments/{}", file.name);
            match Segment::open(&**self.disk, &path, self.store, id, self.options.read_mode) {
                Ok(segment) => {
                    self.state.segments.insert(id, segment.entry());
                }
                Err(error) if refuses_opening(&error) => return Err(segment_refused(error)),
                Err(error) => {
                    report.damage.push(damage_of(&path, &error));
                    let aside = set_aside_whole(&**self.disk, &path, "");
                    let aside = aside.map_err(OpenError::disk("set a segment aside"))?;
                    report.alarms.push(format!("{path} cannot be used and lies in {aside} now: {error}"));
                }
            }
        }
        let catalogs = Catalog::list_files(self.disk, self.store, self.options.read_mode);
        self.state.catalogs = catalogs.map_err(|error| catalog_refused("list the catalog files", error))?;
        Ok(())
    }

    pub(super) fn load(&mut self, report: &mut RecoveryReport) -> Result<Outcome, OpenError> {
        let present = self.disk.list("segments").map_err(OpenError::disk("list the segments"))?;
        let lens: HashMap<&str, u64> = present.iter().map(|file| (file.name.as_str(), file.len)).collect();
        // These are lost for good, with the names that nothing else holds.
        let given_up: HashSet<SegmentId> =
            self.state.segments.values().filter(|entry| entry.quarantined).map(|entry| entry.id).collect();
        for entry in self.state.segments.values_mut() {
            let path = entry.path();
            let name = path.rsplit('/').next().unwrap_or_default();
            let len = lens.get(name).copied().unwrap_or(0);
            if len != entry.file_bytes && !entry.quarantined {
                let part = "segment file";
                report.damage.push(Damage {
                    file: path,
                    offset: 0,
                    part,
                    expected: entry.file_bytes,
                    found: len,
                });
                // Its rows would be missed in silence otherwise; every answer that needs it is partial.
                entry.quarantined = true;
            }
        }
        let opener = SegmentOpener::new(
            self.disk.clone(),
            self.store,
            self.options.read_mode,
            self.options.max_open_maps,
            CACHED_META_PAGES,
        );
        let segments =
            SegmentSet::new(self.state.segments.values().map(|entry| opener.handle(entry.clone())));
        let opened = Catalog::open(self.disk, self.store, self.options.read_mode, &self.state.catalogs)
            .map_err(|error| catalog_refused("open the catalog files", error))?;
        let whole = opened.damage.is_empty() && !self.adopted;
        if !opened.damage.is_empty() {
            report.damage.extend(opened.damage.iter().cloned());
            report.alarms.push("a catalog file is damaged: names were taken from the segments".to_owned());
        }
        if !whole || self.state.catalogs.is_empty() {
            let wanted = segments.iter().filter(|handle| !given_up.contains(&handle.entry().id));
            names_from_segments(&opened, wanted, report)?;
        }
        let catalog = opened.catalog;
        catalog.raise_next_ids(self.state.next_ids);
        let mut floor = ReplayFloor {
            flushed_seq: self.state.flushed_seq,
            unknown: self.adopted,
            ..ReplayFloor::default()
        };
        let (mut recent, mut replay) = self.replay(&catalog, whole, floor, Points::All, report)?;
        let sealed = self.state.segments.values().map(|entry| entry.max_seq).max().unwrap_or_default();
        if self.adopted && replay.last_seq < sealed.max(floor.flushed_seq) {
            // Logs up to the newest segment were retired, so all they held is in segments: what is left is older.
            floor.flushed_seq = sealed;
            self.state.flushed_seq = sealed;
            (recent, replay) = self.replay(&catalog, whole, floor, Points::All, report)?;
        }
        let is_damaged = !replay.corrupt.is_empty() || !report.damage.is_empty();
        if is_damaged && recent.memtables().any(|memtable| undefined::is_in(&catalog, memtable)) {
            (recent, replay) = self.replay(&catalog, whole, floor, Points::Defined, report)?;
        }
        self.state.flushed_seq = replay.flushed_seq;
        recent.feed.raise_floor(replay.flushed_seq);
        // A rebuilt list of files may know deletes that are in a log too.
        recent.tombstones.retain(|new| self.state.tombstones.iter().all(|known| known.seq != new.seq));
        Ok(Outcome { catalog, recent, replay, opener, segments })
    }

    /// Replays the logs; `whole` says that the catalog files tell all that is sealed.
    fn replay(
        &self,
        catalog: &Catalog,
        whole: bool,
        floor: ReplayFloor,
        points: Points,
        report: &mut RecoveryReport,
    ) -> Result<(Recent, ReplayReport), OpenError> {
        let mut recent = Recent::new(floor.flushed_seq, self.options.feed_bytes);
        let mut nameless: Vec<Nameless> = Vec::new();
        let mut visit = |record: Record<'_>| {
            // A log that could not be retired must not take back what a later one said.
            let meanings = !whole || record.head.seq > floor.flushed_seq;
            if let Err(part) = apply(catalog, &mut recent, &record, meanings, points) {
                // Whole by its checksum, yet not what a record of its kind holds.
                let file = log_path(record.log);
                let (expected, found) = (record.head.seq.0, record.payload.len() as u64);
                let damage = Damage { file, offset: record.offset, part, expected, found };
                match nameless.last_mut().filter(|last| part == UNDEFINED && last.damage.file == damage.file)
                {
                    Some(last) => last.reach(record.offset + record.len),
                    None if part == UNDEFINED => {
                        nameless.push(Nameless { damage, end: record.offset + record.len, records: 1 });
                    }
                    // The other replays of this opening tell the same.
                    None if points == Points::All => report.damage.push(damage),
                    None => {}
                }
            }
            Ok(())
        };
        let replayed =
            replay(self.disk, self.store, floor, &mut visit).map_err(OpenError::disk("replay the log"))?;
        for Nameless { damage, end, records } in nameless {
            report.alarms.push(format!(
                "{records} bodies in {} have points of a series or field whose definition is damaged: they are not taken in, and lie in quarantine/",
                damage.file
            ));
            if let Err(error) = set_aside(&**self.disk, &damage, damage.offset, end - damage.offset) {
                tracing::warn!(file = %damage.file, %error, "damaged bytes could not be copied to quarantine");
            }
            report.damage.push(damage);
        }
        // An id that points once had is not given again: they would come back under another name.
        catalog.raise_next_ids(recent.met);
        Ok((recent, replayed))
    }
}
