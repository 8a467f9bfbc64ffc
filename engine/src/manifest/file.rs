//! Files of the manifest: reading at open, appending, and moving on to a new generation.

use super::edit::{Edit, State};
use crate::error::{Damage, OpenError};
use crate::file_header::{FILE_HEADER_LEN, FileHeader, HeaderError, field};
use crate::ids::StoreId;
use crate::io::{Disk, File, read_all};
use std::io;
use std::sync::Arc;

/// First bytes of a manifest file.
pub const MANIFEST_MAGIC: [u8; 8] = *b"WATTMAN1";
/// First bytes of an edit's record.
const RECORD_MAGIC: [u8; 4] = *b"MEDT";
/// Length of the header of a record.
pub const RECORD_HEADER_LEN: usize = 32;
/// Names, offsets and lengths of the parts of a record's header, as in format-spec.md.
pub const RECORD_PARTS: &[(&str, usize, usize)] = &[
    ("edit_magic", 0, 4),
    ("edit_len", 4, 4),
    ("edit_number", 8, 8),
    ("edit_wall_ns", 16, 8),
    ("edit_payload_crc", 24, 4),
    ("edit_header_crc", 28, 4),
];
/// Longest manifest file that is read. At 105 bytes a segment this is more than two million segments.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// A file that grew to this and is mostly old edits is followed by a new generation.
const REWRITE_BYTES: u64 = 1 << 20;

/// How the manifest was found at open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestCondition {
    /// There is none, and no sign that there ever was one.
    Fresh,
    /// Every byte as written.
    Whole,
    /// The last edit was torn by a power cut: it had not been answered.
    TornTail(Damage),
    /// Some of it cannot be trusted; the state is what could be read, possibly none.
    Damaged(Vec<Damage>),
}

/// The open manifest.
#[derive(Debug)]
pub struct Manifest {
    disk: Arc<dyn Disk>,
    store: StoreId,
    state: State,
    generation: u64,
    /// None until the first edit of this opening: an old file is never appended to.
    file: Option<(Arc<dyn File>, u64)>,
    /// Snapshot bytes of the current file, to know when edits outweigh it.
    snapshot_bytes: u64,
}

/// Path of a generation within the store.
pub(crate) fn manifest_path(generation: u64) -> String {
    format!("manifest/manifest-{generation:016x}.log")
}

fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("manifest-")?.strip_suffix(".log")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

impl Manifest {
    /// Reads what is there. `seed` becomes the identity of a store that has no manifest yet.
    ///
    /// # Errors
    /// The disk's, or [`OpenError::TooNew`]. Damage is no error: it is told in the condition.
    pub fn open(disk: &Arc<dyn Disk>, seed: StoreId) -> Result<(Self, ManifestCondition), OpenError> {
        let entries = disk.list("manifest").map_err(OpenError::disk("list the manifest"))?;
        let mut generations: Vec<u64> =
            entries.iter().filter_map(|entry| generation_of(&entry.name)).collect();
        generations.sort_unstable();
        // An unfinished file of a cut has its number used up as well.
        let unfinished =
            entries.iter().filter_map(|entry| generation_of(entry.name.strip_suffix(".tmp")?)).max();
        let newest = generations.last().copied().max(unfinished).unwrap_or(0);
        let mut manifest = Self {
            disk: disk.clone(),
            store: seed,
            state: State { next_file: 1, ..State::default() },
            generation: newest,
            file: None,
            snapshot_bytes: 0,
        };
        let mut damage = Vec::new();
        for generation in generations.iter().rev() {
            let path = manifest_path(*generation);
            // A page that could not be read once is read again: much is lost without a manifest.
            let read = || read_all(&**disk, &path, MAX_FILE_BYTES);
            let bytes = match read().or_else(|_| read()) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::error!(file = %path, %error, "a manifest file cannot be read");
                    damage.push(Damage {
                        file: path,
                        offset: 0,
                        part: "manifest file",
                        expected: 1,
                        found: 0,
                    });
                    continue;
                }
            };
            let header = match FileHeader::decode(&bytes, &path, MANIFEST_MAGIC, None, Some(*generation)) {
                Ok(header) => header,
                Err(HeaderError::TooNew(found)) => return Err(OpenError::too_new(found)),
                Err(HeaderError::Damage(found)) => {
                    damage.push(found);
                    continue;
                }
            };
            manifest.store = header.store;
            let (state, tail) = read_records(&bytes, &path, &header);
            let Some(state) = state else {
                damage.extend(tail.map(|(_, found)| found));
                continue;
            };
            manifest.state = state;
            return Ok(match tail {
                None if damage.is_empty() => (manifest, ManifestCondition::Whole),
                Some((Tail::Torn, found)) if damage.is_empty() => {
                    (manifest, ManifestCondition::TornTail(found))
                }
                tail => {
                    damage.extend(tail.map(|(_, found)| found));
                    (manifest, ManifestCondition::Damaged(damage))
                }
            });
        }
        let condition =
            if damage.is_empty() { ManifestCondition::Fresh } else { ManifestCondition::Damaged(damage) };
        Ok((manifest, condition))
    }

    /// What is true.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Identity of the store.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Bytes of the current file.
    pub fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(_, end)| *end)
    }

    /// Begins a new generation with the next edit, whose number is above `number`: what was true up to there is lost, and
    /// logs attest it.
    pub fn restart_above(&mut self, number: u64) {
        self.file = None;
        self.state.edit = self.state.edit.max(number);
    }

    /// Makes `edit` true and durable; returns its number.
    ///
    /// # Errors
    /// The disk's, if neither the current file nor a new generation could be written and synced. Nothing changed then.
    pub fn append(&mut self, edit: &Edit, wall_ns: i64) -> io::Result<u64> {
        let mut next = self.state.clone();
        next.apply(edit);
        next.edit = self.state.edit + 1;
        let grown =
            self.file.as_ref().is_some_and(|(_, end)| *end > REWRITE_BYTES.max(3 * self.snapshot_bytes));
        let appended = if grown { None } else { self.append_to_file(edit, next.edit, wall_ns) };
        if let Some(Err(error)) = &appended {
            tracing::warn!(%error, "the manifest file is left; a new generation begins");
        }
        if !matches!(appended, Some(Ok(()))) {
            // The failed file may or may not hold the edit: either way the new generation says the same.
            self.file = None;
            self.write_generation(&next, wall_ns)?;
        }
        self.state = next;
        Ok(self.state.edit)
    }

    /// None if there is no file to append to.
    fn append_to_file(&mut self, edit: &Edit, number: u64, wall_ns: i64) -> Option<io::Result<()>> {
        let (file, end) = self.file.as_mut()?;
        let record = record(edit, number, wall_ns, self.store, self.generation, *end);
        let result = file.write_at(*end, &record).and_then(|()| file.sync_data());
        if result.is_ok() {
            *end += record.len() as u64;
        }
        Some(result)
    }

    fn write_generation(&mut self, state: &State, wall_ns: i64) -> io::Result<()> {
        let before = self.generation;
        // Never tried twice under one number: a failed attempt may have left a file.
        self.generation += 1;
        let path = manifest_path(self.generation);
        let temporary = format!("{path}.tmp");
        let header =
            FileHeader { magic: MANIFEST_MAGIC, store: self.store, file_id: self.generation, param: before };
        let mut bytes = header.encode().to_vec();
        let snapshot = Edit::Snapshot(state.clone());
        bytes.extend(record(
            &snapshot,
            state.edit,
            wall_ns,
            self.store,
            self.generation,
            FILE_HEADER_LEN as u64,
        ));
        let file = match self.write_whole(&temporary, &bytes) {
            Ok(file) => file,
            Err(error) => {
                // Attempts that fail one after the other must not fill the disk.
                let _ = self.disk.remove(&temporary);
                return Err(error);
            }
        };
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir("manifest")?;
        self.snapshot_bytes = bytes.len() as u64;
        self.file = Some((file, bytes.len() as u64));
        self.remove_older();
        Ok(())
    }

    fn write_whole(&self, path: &str, bytes: &[u8]) -> io::Result<Arc<dyn File>> {
        let file = self.disk.create(path)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        Ok(file)
    }

    /// Older generations and unfinished files are of no use once the newest is durable.
    fn remove_older(&self) {
        let Ok(entries) = self.disk.list("manifest") else { return };
        let current = manifest_path(self.generation);
        for entry in entries {
            let path = format!("manifest/{}", entry.name);
            if path != current
                && let Err(error) = self.disk.remove(&path)
            {
                tracing::warn!(file = %path, %error, "an old manifest file could not be removed");
            }
        }
    }
}

/// What stands behind the last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing valid follows: a write that a power cut tore.
    Torn,
    /// Good records follow the bad one.
    Damaged,
}

/// Reads the records of a file whose header is good: the last state, and what is wrong behind it, if anything is.
pub(crate) fn read_records(
    bytes: &[u8],
    path: &str,
    header: &FileHeader,
) -> (Option<State>, Option<(Tail, Damage)>) {
    let mut state: Option<State> = None;
    let mut at = FILE_HEADER_LEN;
    while at < bytes.len() {
        let next = parse(bytes, at, header).and_then(|(number, payload)| {
            let edit = Edit::decode(payload)?;
            let follows = match (&state, &edit) {
                (None, Edit::Snapshot(_)) => true,
                (Some(state), _) => number == state.edit + 1,
                (None, _) => false,
            };
            follows.then_some((edit, number, at + RECORD_HEADER_LEN + payload.len()))
        });
        let Some((edit, number, end)) = next else {
            let follows = ((at + 1)..=bytes.len().saturating_sub(RECORD_HEADER_LEN))
                .any(|later| parse(bytes, later, header).is_some());
            let tail = if follows { Tail::Damaged } else { Tail::Torn };
            let found =
                bytes.get(at..at + 4).map_or(0, |magic| u64::from(u32::from_le_bytes(field(magic, 0))));
            let expected = u64::from(u32::from_le_bytes(RECORD_MAGIC));
            let damage =
                Damage { file: path.to_owned(), offset: at as u64, part: "edit record", expected, found };
            return (state, Some((tail, damage)));
        };
        let after = state.get_or_insert_default();
        after.apply(&edit);
        after.edit = number;
        at = end;
    }
    if state.is_none() {
        let damage =
            Damage { file: path.to_owned(), offset: at as u64, part: "edit record", expected: 1, found: 0 };
        return (None, Some((Tail::Torn, damage)));
    }
    (state, None)
}

fn record(edit: &Edit, number: u64, wall_ns: i64, store: StoreId, generation: u64, offset: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    edit.encode(&mut payload);
    let mut out = Vec::with_capacity(RECORD_HEADER_LEN + payload.len());
    out.extend_from_slice(&RECORD_MAGIC);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&wall_ns.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    let crc = header_crc(&out, store, generation, offset);
    out.extend_from_slice(&crc.to_le_bytes());
    out.append(&mut payload);
    out
}

/// Checksum of a record's header, its place included: a record moved to another offset, file or store does not pass.
fn header_crc(fields: &[u8], store: StoreId, generation: u64, offset: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&store.0);
    hasher.update(&generation.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(fields);
    hasher.finalize()
}

fn parse<'a>(bytes: &'a [u8], at: usize, file: &FileHeader) -> Option<(u64, &'a [u8])> {
    let header = bytes.get(at..at + RECORD_HEADER_LEN)?;
    if header[..4] != RECORD_MAGIC {
        return None;
    }
    if header_crc(&header[..28], file.store, file.file_id, at as u64) != u32::from_le_bytes(field(header, 28))
    {
        return None;
    }
    let len = u32::from_le_bytes(field(header, 4)) as usize;
    let start = at + RECORD_HEADER_LEN;
    let payload = bytes.get(start..start.checked_add(len)?)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(field(header, 24)))
        .then(|| (u64::from_le_bytes(field(header, 8)), payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SegmentId, Seq};
    use crate::io::sim::{CallKind, Cut, Fault, FaultError, Lasting, SimDisk, Survives};
    use crate::manifest::edit::tests::sealed;

    fn disk() -> (SimDisk, Arc<dyn Disk>) {
        let sim = SimDisk::new(1);
        sim.create_dir("manifest").unwrap();
        sim.sync_dir("").unwrap();
        (sim.clone(), Arc::new(sim))
    }

    fn open(sim: &SimDisk) -> (Manifest, ManifestCondition) {
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        Manifest::open(&disk, StoreId([9; 16])).unwrap()
    }

    fn filled() -> (SimDisk, State) {
        let (sim, _) = disk();
        let (mut manifest, condition) = open(&sim);
        assert_eq!(condition, ManifestCondition::Fresh);
        for id in [3, 10, 20] {
            manifest.append(&sealed(id), 5).unwrap();
        }
        manifest.append(&Edit::Quarantined(SegmentId(10)), 6).unwrap();
        (sim, manifest.state().clone())
    }

    #[test]
    fn edits_are_there_after_a_cut_and_numbers_go_on() {
        let (sim, state) = filled();
        let after = sim.cut(Cut { seed: 1, survives: Survives::Nothing });
        let (mut manifest, condition) = open(&after);
        assert_eq!((manifest.state(), condition), (&state, ManifestCondition::Whole));
        assert_eq!(manifest.append(&sealed(40), 7).unwrap(), state.edit + 1);
        assert_eq!(manifest.store(), StoreId([9; 16]));
        let (again, condition) = open(&after);
        assert_eq!((again.state(), condition), (manifest.state(), ManifestCondition::Whole));
        assert_eq!(after.paths().len(), 1, "older generations are removed: {:?}", after.paths());
    }

    #[test]
    fn every_flipped_bit_is_seen_or_changes_nothing() {
        let (sim, state) = filled();
        let (path, len) = sim.paths()[0].clone();
        for offset in 0..len {
            for bit in 0..8 {
                sim.flip_bit(&path, offset, bit);
                let (manifest, condition) = open(&sim);
                let same = manifest.state() == &state;
                assert!(!same || condition != ManifestCondition::Fresh);
                assert!(same || condition != ManifestCondition::Whole, "byte {offset}, bit {bit}");
                sim.flip_bit(&path, offset, bit);
            }
        }
    }

    #[test]
    fn a_torn_edit_is_dropped_and_damage_before_a_good_one_is_told() {
        let (sim, state) = filled();
        let (path, len) = sim.paths()[0].clone();
        let bytes = sim.read_file(&path).unwrap();
        // The last edit is 41 bytes long: every shorter rest of it is torn.
        for cut in len as usize - 40..len as usize {
            sim.write_file(&path, bytes[..cut].to_vec());
            let (manifest, condition) = open(&sim);
            assert!(matches!(condition, ManifestCondition::TornTail(_)), "cut to {cut}: {condition:?}");
            assert_eq!(manifest.state().edit, state.edit - 1);
        }
        let mut damaged = bytes.clone();
        damaged[FILE_HEADER_LEN + 200] ^= 1;
        sim.write_file(&path, damaged);
        assert!(matches!(open(&sim).1, ManifestCondition::Damaged(_)));
    }

    #[test]
    fn a_failed_sync_moves_on_to_a_new_file_and_a_second_failure_changes_nothing() {
        let (sim, _) = filled();
        let (mut manifest, _) = open(&sim);
        manifest.append(&sealed(50), 0).unwrap();
        sim.inject(Fault::at(1, FaultError::Eio, Lasting::Once).on(CallKind::SyncData));
        let number = manifest.append(&sealed(60), 0).unwrap();
        let (after, condition) = open(&sim.fork().cut(Cut { seed: 3, survives: Survives::Nothing }));
        assert_eq!((after.state().edit, condition), (number, ManifestCondition::Whole));
        for kind in [CallKind::Write, CallKind::SyncData] {
            sim.inject(Fault::at(1, FaultError::NoSpace, Lasting::ForGood).on(kind));
            assert!(manifest.append(&sealed(70), 0).is_err());
            assert!(!sim.paths().iter().any(|(path, _)| path.ends_with(".tmp")), "{:?}", sim.paths());
            sim.clear_faults();
        }
        sim.inject(Fault::at(1, FaultError::NoSpace, Lasting::ForGood));
        assert!(manifest.append(&sealed(70), 0).is_err());
        assert_eq!(manifest.state(), after.state());
        sim.clear_faults();
        assert_eq!(manifest.append(&sealed(70), 0).unwrap(), number + 1);
        assert_eq!(manifest.state().flushed_seq, Seq(81));
    }

    #[test]
    fn a_long_file_is_followed_by_a_short_one() {
        let (sim, _) = disk();
        let (mut manifest, _) = open(&sim);
        for id in 0..12_000 {
            manifest.append(&Edit::Quarantined(SegmentId(id)), 0).unwrap();
        }
        let bytes: u64 = sim.paths().iter().map(|(_, len)| *len).sum();
        assert!(bytes < 2 * REWRITE_BYTES, "{bytes} bytes for an empty state");
        assert_eq!(open(&sim).0.state(), manifest.state());
    }
}
