//! The first look: which store it is, which files count, what they name, what was deleted.

use crate::catalog::{Catalog, Definition, decode_definitions};
use crate::check;
use crate::error::OpenError;
use crate::ids::{NamespaceId, SegmentId, Seq, StoreId};
use crate::ingest::payload;
use crate::io::{Disk, ReadMode, open_sealed};
use crate::manifest::{Manifest, ManifestCondition, State};
use crate::recovery;
use crate::segment::{Lost, Remains, SegmentEntry, SegmentError};
use crate::tombstone::{Tombstone, decode_deletes};
use crate::wal::{Record, RecordKind, ReplayFloor, replay};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// What a first look gives.
pub(super) struct Sources {
    pub(super) store: StoreId,
    pub(super) catalog: Catalog,
    /// By rising sequence.
    pub(super) tombstones: Vec<Tombstone>,
    pub(super) found: Whereabouts,
    pub(super) notes: Vec<String>,
}

/// Where points are.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    /// In commit order.
    pub(super) segments: Vec<Place>,
    /// Files of which nothing can be read.
    pub(super) unreadable: Vec<(String, Lost)>,
    pub(super) logs: bool,
    /// Of points in logs.
    pub(super) in_logs: BTreeSet<NamespaceId>,
    /// All up to here is in segments, as a manifest that can be trusted says.
    pub(super) flushed_seq: Option<Seq>,
}

/// A segment of which something can be read.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) namespace: NamespaceId,
    pub(super) max_seq: Seq,
    pub(super) id: SegmentId,
}

/// With every record that is there, as if nothing were sealed.
pub(super) const EVERYTHING: ReplayFloor =
    ReplayFloor { flushed_seq: Seq(0), durable_seq: Seq(0), unknown: true };

impl Sources {
    pub(super) fn look(disk: &Arc<dyn Disk>) -> Result<Self, OpenError> {
        let nobody = StoreId::default();
        let seed = identity(&**disk).unwrap_or(nobody);
        let (store, state, condition) = match Manifest::open(disk, seed) {
            Ok((manifest, condition)) => (manifest.store(), manifest.state().clone(), condition),
            // The folder is not there.
            Err(OpenError::Disk { .. }) => (seed, State::default(), ManifestCondition::Fresh),
            Err(error) => return Err(error),
        };
        if store == nobody {
            let source = io::Error::new(io::ErrorKind::NotFound, "no file here says that it is of a store");
            return Err(OpenError::Disk { action: "look for files of a store", source });
        }
        let mut sources = Self {
            store,
            catalog: Catalog::default(),
            tombstones: state.tombstones.clone(),
            found: Whereabouts::default(),
            notes: Vec::new(),
        };
        let mut from_logs = Vec::new();
        let attested = sources.logs(disk, &mut from_logs);
        let trusted = match condition {
            ManifestCondition::Whole => true,
            ManifestCondition::TornTail(_) => {
                recovery::names_missing_files(&**disk, &state).is_ok_and(|missing| !missing)
            }
            _ => false,
        } && attested <= state.edit;
        if !trusted {
            sources.notes.push(
                "the manifest is lost, damaged or too old: every segment there is was taken. Values that were deleted show again \
                 where neither a log nor what is left of the manifest tells of the delete"
                    .to_owned(),
            );
        }
        let mut from_segments = Vec::new();
        let state = trusted.then_some(&state);
        sources.found.flushed_seq = state.map(|state| state.flushed_seq);
        let names_are_whole = sources.catalogs(disk, state)?;
        let wanted = if names_are_whole { None } else { Some(&mut from_segments) };
        sources.segments(disk, state, wanted);
        sources.apply(&from_segments);
        sources.apply(&from_logs);
        Ok(sources)
    }

    /// Applies what is true whatever order it comes in: names that need others which come later are tried a second time.
    fn apply(&self, definitions: &[Definition]) {
        let names = |definition: &&Definition| !matches!(definition, Definition::Meaning { .. });
        let rank = |definition: &Definition| match definition {
            Definition::Namespace { .. } => 0,
            Definition::Measurement { .. } => 1,
            _ => 2,
        };
        let mut ordered: Vec<Definition> = definitions.iter().filter(names).cloned().collect();
        ordered.sort_by_key(rank);
        self.catalog.apply(&ordered);
    }

    /// Names and deletes that logs tell; returns the highest manifest edit that they attest.
    fn logs(&mut self, disk: &Arc<dyn Disk>, names: &mut Vec<Definition>) -> u64 {
        let known: BTreeSet<Seq> = self.tombstones.iter().map(|tombstone| tombstone.seq).collect();
        let (tombstones, in_logs) = (&mut self.tombstones, &mut self.found.in_logs);
        let mut visit = |record: Record<'_>| {
            match record.head.kind {
                RecordKind::Define => names.extend(decode_definitions(record.payload).unwrap_or_default()),
                RecordKind::Delete if !known.contains(&record.head.seq) => {
                    tombstones.extend(decode_deletes(record.payload, record.head.seq).unwrap_or_default());
                }
                RecordKind::Points => in_logs.extend(payload::namespace(record.payload)),
                _ => {}
            }
            Ok(())
        };
        let replayed = replay(disk, self.store, EVERYTHING, &mut visit);
        self.tombstones.sort_by_key(|tombstone| tombstone.seq);
        match replayed {
            Ok(report) => {
                self.found.logs = !report.logs.is_empty();
                report.manifest_edit_attested
            }
            Err(error) => {
                self.notes.push(format!("the logs cannot be read: {error}"));
                0
            }
        }
    }

    /// Opens the catalog files that are whole; false if one that may be needed is not among them.
    fn catalogs(&mut self, disk: &Arc<dyn Disk>, state: Option<&State>) -> Result<bool, OpenError> {
        let refused = |error| recovery::catalog_refused("open the catalog files", error);
        let mut whole = match Catalog::list_files(disk, self.store, ReadMode::Pread) {
            Ok(entries) => entries,
            Err(error) => match refused(error) {
                error @ OpenError::TooNew { .. } => return Err(error),
                // The folder cannot be listed: segments and logs tell.
                _ => Vec::new(),
            },
        };
        whole.retain(|entry| {
            let path = crate::catalog::file_path(entry.id);
            check::file(&**disk, &path).is_ok_and(|report| report.damage.is_empty())
        });
        let opened = Catalog::open(disk, self.store, ReadMode::Pread, &whole).map_err(refused)?;
        self.catalog = opened.catalog;
        let all = |state: &State| state.catalogs.iter().all(|named| whole.contains(named));
        Ok(state.is_some_and(all) && opened.damage.is_empty())
    }

    /// Finds the segments that count: those that `state` names, if there is one, and what was set aside.
    fn segments(
        &mut self,
        disk: &Arc<dyn Disk>,
        state: Option<&State>,
        mut names: Option<&mut Vec<Definition>>,
    ) {
        let named: Option<BTreeSet<String>> =
            state.map(|state| state.segments.values().map(SegmentEntry::path).collect());
        let mut paths = BTreeSet::new();
        for folder in ["segments", "quarantine"] {
            let files = match disk.list(folder) {
                Ok(files) => files,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.notes.push(format!("{error}: its segments were not read"));
                    continue;
                }
            };
            for file in files.iter().filter(|file| !file.is_dir) {
                let path = format!("{folder}/{}", file.name);
                let is_segment = file.name.starts_with("seg-") && file.name.contains(".seg");
                let counts =
                    folder == "quarantine" || named.as_ref().is_none_or(|named| named.contains(&path));
                if is_segment && !file.name.ends_with(".tmp") && counts {
                    paths.insert(path);
                } else {
                    self.notes.push(format!("{path} was not read: {}", why_not(folder, is_segment)));
                }
            }
        }
        // Named and not there: told with the others, as it cannot be opened.
        paths.extend(named.into_iter().flatten());
        for path in paths {
            match Remains::open(&**disk, &path, self.store) {
                Ok(remains) => {
                    if let Some(names) = &mut names {
                        names_of(&remains, names);
                    } else {
                        // The name of the namespace is needed whatever else is known.
                        names_of_namespace(&remains, &self.catalog);
                    }
                    let spec = remains.spec();
                    self.found.segments.push(Place {
                        path,
                        namespace: spec.namespace,
                        max_seq: spec.max_seq,
                        id: spec.id,
                    });
                }
                Err(error) => {
                    let entry =
                        state.and_then(|state| state.segments.values().find(|entry| entry.path() == path));
                    let lost = Lost {
                        measurement: entry
                            .and_then(|entry| self.catalog.measurement_name(entry.measurement?)),
                        times: entry.map(|entry| (entry.first_time, entry.last_time)),
                        ..Lost::anything(SegmentError::to_damage(&error))
                    };
                    self.found.unreadable.push((path, lost));
                }
            }
        }
        self.found.segments.sort_by_key(|place| (place.max_seq, place.id));
    }
}

fn why_not(folder: &str, is_segment: bool) -> &'static str {
    match (folder, is_segment) {
        ("segments", true) => {
            "the manifest does not name it, so it was never finished or others hold its points"
        }
        ("quarantine", false) => "it is no segment that was set aside",
        _ => "it is no segment by its name",
    }
}

/// All that a segment says of names.
fn names_of(remains: &Remains, out: &mut Vec<Definition>) {
    let spec = remains.spec();
    let namespace = spec.namespace;
    out.extend(namespace_of(remains));
    for section in remains.sections() {
        let measurement = section.measurement();
        out.push(Definition::Measurement { id: measurement, namespace, name: section.name().clone() });
        for field in section.fields().iter() {
            let (id, name, field_type) = (field.id, field.name.clone(), field.field_type);
            out.push(Definition::Field { id, measurement, name, field_type });
        }
        remains.series_keys(&section, &mut |id, tags| out.push(Definition::Series { id, measurement, tags }));
    }
}

fn names_of_namespace(remains: &Remains, catalog: &Catalog) {
    if catalog.namespace_name(remains.spec().namespace).is_none() {
        catalog.apply(namespace_of(remains).as_slice());
    }
}

fn namespace_of(remains: &Remains) -> Option<Definition> {
    let spec = remains.spec();
    let (database, policy) = &spec.namespace_name;
    (!database.is_empty()).then(|| Definition::Namespace {
        id: spec.namespace,
        database: Arc::from(database.as_str()),
        policy: Arc::from(policy.as_str()),
    })
}

/// Whose files these are: as the newest log says, else a segment.
fn identity(disk: &dyn Disk) -> Option<StoreId> {
    if let Ok(Some(store)) = recovery::existing_identity(disk) {
        return Some(store);
    }
    ["segments", "quarantine"].into_iter().find_map(|folder| {
        let files = disk.list(folder).ok()?;
        files.iter().filter(|file| file.name.starts_with("seg-")).find_map(|file| {
            let map = open_sealed(disk, &format!("{folder}/{}", file.name), ReadMode::Pread).ok()?;
            crate::segment::identity(&*map)
        })
    })
}
