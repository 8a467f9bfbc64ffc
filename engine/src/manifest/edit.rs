//! Edits of the manifest: what became true, as bytes (format-spec.md, "Manifest").
//!
//! Decoding is total: any bytes give an edit or `None`; nothing is reserved for a count that the bytes cannot hold.

use crate::bytes::{Reader, put_varint};
use crate::ids::{CatalogFileId, MeasurementId, NamespaceId, NextIds, SegmentId, Seq};
use crate::options::Durability;
use crate::retention::{ClockRecord, PROVEN_NS, Retained, Retentions, Rule};
use crate::segment::SegmentEntry;
use crate::tombstone::{MIN_ENCODED_LEN, Tombstone};
use std::collections::BTreeMap;
use std::time::Duration;

/// A catalog file as the manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its number.
    pub id: CatalogFileId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Definitions in it.
    pub definitions: u64,
}

/// Everything the manifest says at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Number of the last edit.
    pub edit: u64,
    /// Segments that are true.
    pub segments: BTreeMap<SegmentId, SegmentEntry>,
    /// Catalog files that are true, oldest first.
    pub catalogs: Vec<CatalogEntry>,
    /// Every record up to here is in the segments.
    pub flushed_seq: Seq,
    /// Number that the next segment or catalog file gets.
    pub next_file: u64,
    /// Ids that were never given.
    pub next_ids: NextIds,
    /// Namespaces with a durability of their own.
    pub durability: BTreeMap<NamespaceId, Durability>,
    /// Deletes that may still hide rows of a segment, by rising sequence.
    pub tombstones: Vec<Tombstone>,
    /// What is kept for how long, and what is hidden by age.
    pub retentions: Retentions,
}

/// One step from one state to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// All of it: the first record of each manifest file.
    Snapshot(State),
    /// A memtable became segments.
    Sealed {
        /// The new segments.
        segments: Vec<SegmentEntry>,
        /// The new catalog file, if there were new definitions.
        catalog: Option<CatalogEntry>,
        /// Catalog files whose content the new one holds too.
        replaces_catalogs: Vec<CatalogFileId>,
        /// Every record up to here is in segments now.
        flushed_seq: Seq,
        /// As in [`State`].
        next_file: u64,
        /// As in [`State`].
        next_ids: NextIds,
        /// Deletes committed up to `flushed_seq` that no edit has told yet.
        tombstones: Vec<Tombstone>,
    },
    /// Segments were merged into others.
    Compacted {
        /// The new segments.
        segments: Vec<SegmentEntry>,
        /// Those whose rows they hold.
        replaced: Vec<SegmentId>,
        /// As in [`State`].
        next_file: u64,
        /// Sequences of deletes that hide nothing any more.
        applied: Vec<Seq>,
    },
    /// A segment was set aside because it is damaged.
    Quarantined(SegmentId),
    /// A namespace got a durability of its own.
    Durability(NamespaceId, Durability),
    /// Rules were set or cutoffs moved: these entries are as told from now on, and so is the clock.
    Retention(Retentions),
}

const SNAPSHOT: u8 = 1;
const SEALED: u8 = 2;
const QUARANTINED: u8 = 3;
const DURABILITY: u8 = 4;
const COMPACTED: u8 = 5;
const RETENTION: u8 = 6;
/// A snapshot of a store in which a retention was set.
const SNAPSHOT_WITH_RETENTION: u8 = 7;
/// Bytes of an encoded [`SegmentEntry`]: twelve u64, two u32, one flag byte.
const SEGMENT_ENTRY_LEN: usize = 12 * 8 + 2 * 4 + 1;
/// Bytes of an encoded [`Retained`] with its key: two u32, a kind byte, two u64.
const RETAINED_LEN: usize = 2 * 4 + 1 + 2 * 8;

impl State {
    /// The state after `edit`.
    pub fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Snapshot(state) => *self = state.clone(),
            Edit::Sealed {
                segments,
                catalog,
                replaces_catalogs,
                flushed_seq,
                next_file,
                next_ids,
                tombstones,
            } => {
                self.segments.extend(segments.iter().map(|entry| (entry.id, entry.clone())));
                self.catalogs.retain(|entry| !replaces_catalogs.contains(&entry.id));
                self.catalogs.extend(catalog);
                self.flushed_seq = self.flushed_seq.max(*flushed_seq);
                self.next_file = self.next_file.max(*next_file);
                self.next_ids = self.next_ids.max(*next_ids);
                self.tombstones.extend(tombstones.iter().cloned());
            }
            Edit::Compacted { segments, replaced, next_file, applied } => {
                self.segments.retain(|id, _| !replaced.contains(id));
                self.segments.extend(segments.iter().map(|entry| (entry.id, entry.clone())));
                self.next_file = self.next_file.max(*next_file);
                self.tombstones.retain(|tombstone| !applied.contains(&tombstone.seq));
            }
            Edit::Quarantined(id) => {
                if let Some(entry) = self.segments.get_mut(id) {
                    entry.quarantined = true;
                }
            }
            Edit::Durability(namespace, durability) => {
                self.durability.insert(*namespace, *durability);
            }
            Edit::Retention(told) => self.retentions.take(told),
        }
    }
}

impl Edit {
    /// Name of the kind in format-spec.md.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "Snapshot",
            Self::Sealed { .. } => "Sealed",
            Self::Compacted { .. } => "Compacted",
            Self::Quarantined(_) => "Quarantined",
            Self::Durability(..) => "Durability",
            Self::Retention(_) => "Retention",
        }
    }

    /// Appends the payload of this edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Snapshot(state) => {
                let retained = state.retentions.clock.is_some();
                out.push(if retained { SNAPSHOT_WITH_RETENTION } else { SNAPSHOT });
                put_u64(out, state.edit);
                put_segments(out, state.segments.values());
                put_varint(out, state.catalogs.len() as u64);
                state.catalogs.iter().for_each(|entry| put_catalog(out, entry));
                put_u64(out, state.flushed_seq.0);
                put_u64(out, state.next_file);
                put_next_ids(out, state.next_ids);
                put_varint(out, state.durability.len() as u64);
                for (namespace, durability) in &state.durability {
                    put_durability(out, *namespace, *durability);
                }
                put_tombstones(out, &state.tombstones);
                if retained {
                    put_retentions(out, &state.retentions);
                }
            }
            Self::Sealed {
                segments,
                catalog,
                replaces_catalogs,
                flushed_seq,
                next_file,
                next_ids,
                tombstones,
            } => {
                out.push(SEALED);
                put_segments(out, segments.iter());
                put_varint(out, u64::from(catalog.is_some()));
                catalog.iter().for_each(|entry| put_catalog(out, entry));
                put_varint(out, replaces_catalogs.len() as u64);
                replaces_catalogs.iter().for_each(|id| put_u64(out, id.0));
                put_u64(out, flushed_seq.0);
                put_u64(out, *next_file);
                put_next_ids(out, *next_ids);
                put_tombstones(out, tombstones);
            }
            Self::Compacted { segments, replaced, next_file, applied } => {
                out.push(COMPACTED);
                put_segments(out, segments.iter());
                put_varint(out, replaced.len() as u64);
                replaced.iter().for_each(|id| put_u64(out, id.0));
                put_u64(out, *next_file);
                put_varint(out, applied.len() as u64);
                applied.iter().for_each(|seq| put_u64(out, seq.0));
            }
            Self::Quarantined(id) => {
                out.push(QUARANTINED);
                put_u64(out, id.0);
            }
            Self::Durability(namespace, durability) => {
                out.push(DURABILITY);
                put_durability(out, *namespace, *durability);
            }
            Self::Retention(told) => {
                out.push(RETENTION);
                put_retentions(out, told);
            }
        }
    }

    /// Reads a payload; none if it is not one, also if something follows it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let edit = match reader.u8()? {
            kind @ (SNAPSHOT | SNAPSHOT_WITH_RETENTION) => {
                let edit = reader.u64()?;
                let segments = segments(&mut reader)?.into_iter().map(|entry| (entry.id, entry)).collect();
                let count = reader.count(24)?;
                let catalogs = (0..count).map(|_| catalog(&mut reader)).collect::<Option<_>>()?;
                let flushed_seq = Seq(reader.u64()?);
                let next_file = reader.u64()?;
                let next_ids = next_ids(&mut reader)?;
                let count = reader.count(13)?;
                let durability = (0..count).map(|_| durability(&mut reader)).collect::<Option<_>>()?;
                let tombstones = tombstones(&mut reader)?;
                let retentions =
                    if kind == SNAPSHOT { Retentions::default() } else { retentions(&mut reader)? };
                Self::Snapshot(State {
                    edit,
                    segments,
                    catalogs,
                    flushed_seq,
                    next_file,
                    next_ids,
                    durability,
                    tombstones,
                    retentions,
                })
            }
            SEALED => {
                let segments = segments(&mut reader)?;
                let catalog = match reader.varint()? {
                    0 => None,
                    1 => Some(catalog(&mut reader)?),
                    _ => return None,
                };
                let count = reader.count(8)?;
                let replaces = (0..count).map(|_| reader.u64().map(CatalogFileId)).collect::<Option<_>>()?;
                Self::Sealed {
                    segments,
                    catalog,
                    replaces_catalogs: replaces,
                    flushed_seq: Seq(reader.u64()?),
                    next_file: reader.u64()?,
                    next_ids: next_ids(&mut reader)?,
                    tombstones: tombstones(&mut reader)?,
                }
            }
            COMPACTED => {
                let segments = segments(&mut reader)?;
                let count = reader.count(8)?;
                let replaced = (0..count).map(|_| reader.u64().map(SegmentId)).collect::<Option<_>>()?;
                let next_file = reader.u64()?;
                let count = reader.count(8)?;
                let applied = (0..count).map(|_| reader.u64().map(Seq)).collect::<Option<_>>()?;
                Self::Compacted { segments, replaced, next_file, applied }
            }
            QUARANTINED => Self::Quarantined(SegmentId(reader.u64()?)),
            DURABILITY => {
                let (namespace, durability) = durability(&mut reader)?;
                Self::Durability(namespace, durability)
            }
            RETENTION => Self::Retention(retentions(&mut reader)?),
            _ => return None,
        };
        reader.is_empty().then_some(edit)
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_segments<'a>(out: &mut Vec<u8>, segments: impl ExactSizeIterator<Item = &'a SegmentEntry>) {
    put_varint(out, segments.len() as u64);
    for entry in segments {
        put_u64(out, entry.id.0);
        put_u32(out, entry.namespace.0);
        put_u32(out, entry.measurement.map_or(0, |id| id.0));
        put_u64(out, entry.first_time.cast_unsigned());
        put_u64(out, entry.last_time.cast_unsigned());
        for number in [
            entry.min_seq.0,
            entry.max_seq.0,
            entry.rows,
            entry.values,
            entry.data_bytes,
            entry.time_bytes,
            entry.meta_bytes,
            entry.file_bytes,
            entry.deletes_applied.0,
        ] {
            put_u64(out, number);
        }
        out.push(u8::from(entry.quarantined) | u8::from(entry.packed) << 1);
    }
}

fn segments(reader: &mut Reader<'_>) -> Option<Vec<SegmentEntry>> {
    let count = reader.count(SEGMENT_ENTRY_LEN)?;
    (0..count).map(|_| segment(reader)).collect()
}

fn segment(reader: &mut Reader<'_>) -> Option<SegmentEntry> {
    let entry = SegmentEntry {
        id: SegmentId(reader.u64()?),
        namespace: NamespaceId(reader.u32()?),
        measurement: Some(reader.u32()?).filter(|id| *id != 0).map(MeasurementId),
        first_time: reader.i64()?,
        last_time: reader.i64()?,
        min_seq: Seq(reader.u64()?),
        max_seq: Seq(reader.u64()?),
        rows: reader.u64()?,
        values: reader.u64()?,
        data_bytes: reader.u64()?,
        time_bytes: reader.u64()?,
        meta_bytes: reader.u64()?,
        file_bytes: reader.u64()?,
        deletes_applied: Seq(reader.u64()?),
        quarantined: false,
        packed: false,
    };
    let flags = reader.u8()?;
    (flags <= 3).then_some(SegmentEntry { quarantined: flags & 1 != 0, packed: flags & 2 != 0, ..entry })
}

fn put_tombstones(out: &mut Vec<u8>, tombstones: &[Tombstone]) {
    put_varint(out, tombstones.len() as u64);
    for tombstone in tombstones {
        put_u64(out, tombstone.seq.0);
        tombstone.encode(out);
    }
}

fn tombstones(reader: &mut Reader<'_>) -> Option<Vec<Tombstone>> {
    let count = reader.count(8 + MIN_ENCODED_LEN)?;
    let one = |reader: &mut Reader<'_>| {
        let seq = Seq(reader.u64()?);
        Tombstone::decode(reader, seq)
    };
    (0..count).map(|_| one(reader)).collect()
}

fn put_catalog(out: &mut Vec<u8>, entry: &CatalogEntry) {
    [entry.id.0, entry.file_bytes, entry.definitions].into_iter().for_each(|number| put_u64(out, number));
}

fn catalog(reader: &mut Reader<'_>) -> Option<CatalogEntry> {
    Some(CatalogEntry {
        id: CatalogFileId(reader.u64()?),
        file_bytes: reader.u64()?,
        definitions: reader.u64()?,
    })
}

fn put_next_ids(out: &mut Vec<u8>, next: NextIds) {
    [next.namespace, next.measurement, next.field, next.series].into_iter().for_each(|id| put_u32(out, id));
}

fn next_ids(reader: &mut Reader<'_>) -> Option<NextIds> {
    Some(NextIds {
        namespace: reader.u32()?,
        measurement: reader.u32()?,
        field: reader.u32()?,
        series: reader.u32()?,
    })
}

/// Namespace, kind (0 always, 1 interval), interval in nanoseconds.
fn put_durability(out: &mut Vec<u8>, namespace: NamespaceId, durability: Durability) {
    put_u32(out, namespace.0);
    let (kind, interval) = match durability {
        Durability::Always => (0, Duration::ZERO),
        Durability::Interval(interval) => (1, interval),
    };
    out.push(kind);
    put_u64(out, u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
}

fn durability(reader: &mut Reader<'_>) -> Option<(NamespaceId, Durability)> {
    let namespace = NamespaceId(reader.u32()?);
    let kind = reader.u8()?;
    let interval = Duration::from_nanos(reader.u64()?);
    match kind {
        0 if interval.is_zero() => Some((namespace, Durability::Always)),
        1 => Some((namespace, Durability::Interval(interval))),
        _ => None,
    }
}

/// The clock, then a list of: namespace, measurement (0: all that have none of their own), kind (0 inherited, 1 for ever, 2
/// keep), nanoseconds to keep, cutoff.
fn put_retentions(out: &mut Vec<u8>, told: &Retentions) {
    let clock = told.clock.unwrap_or_default();
    put_u64(out, clock.now_ns.cast_unsigned());
    put_u64(out, clock.steady_ns);
    put_varint(out, told.entries.len() as u64);
    for ((namespace, measurement), entry) in &told.entries {
        put_u32(out, namespace.0);
        put_u32(out, measurement.map_or(0, |id| id.0));
        let (kind, keep_ns) = match entry.rule {
            Rule::Inherited => (0, 0),
            Rule::Forever => (1, 0),
            Rule::Keep { ns } => (2, ns),
        };
        out.push(kind);
        put_u64(out, keep_ns);
        put_u64(out, entry.cutoff_ns.cast_unsigned());
    }
}

fn retentions(reader: &mut Reader<'_>) -> Option<Retentions> {
    let clock = ClockRecord { now_ns: reader.i64()?, steady_ns: reader.u64()? };
    if clock.steady_ns > PROVEN_NS {
        return None;
    }
    let count = reader.count(RETAINED_LEN)?;
    let entries = (0..count).map(|_| retained(reader)).collect::<Option<_>>()?;
    Some(Retentions { clock: Some(clock), entries })
}

fn retained(reader: &mut Reader<'_>) -> Option<((NamespaceId, Option<MeasurementId>), Retained)> {
    let namespace = NamespaceId(reader.u32()?);
    let measurement = Some(reader.u32()?).filter(|id| *id != 0).map(MeasurementId);
    let rule = match (reader.u8()?, reader.u64()?) {
        (0, 0) if measurement.is_some() => Rule::Inherited,
        (1, 0) => Rule::Forever,
        (2, ns) if ns > 0 => Rule::Keep { ns },
        _ => return None,
    };
    Some(((namespace, measurement), Retained { rule, cutoff_ns: reader.i64()? }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tombstone::tests::tombstone;
    use proptest::prelude::*;

    pub(crate) fn entry(id: u64) -> SegmentEntry {
        SegmentEntry {
            id: SegmentId(id),
            namespace: NamespaceId(1),
            measurement: (id % 2 == 1).then_some(MeasurementId(3)),
            first_time: i64::MIN + 1,
            last_time: i64::MAX - 1,
            min_seq: Seq(id),
            max_seq: Seq(id + 10),
            rows: 5,
            values: 30,
            data_bytes: 100,
            time_bytes: 20,
            meta_bytes: 4096,
            file_bytes: 8192,
            deletes_applied: Seq(id / 2),
            quarantined: id == 4,
            packed: id % 3 == 1,
        }
    }

    pub(crate) fn sealed(id: u64) -> Edit {
        Edit::Sealed {
            segments: vec![entry(id), entry(id + 1)],
            catalog: Some(CatalogEntry { id: CatalogFileId(id + 2), file_bytes: 4096, definitions: 9 }),
            replaces_catalogs: vec![CatalogFileId(1), CatalogFileId(2)],
            flushed_seq: Seq(id + 11),
            next_file: id + 3,
            next_ids: NextIds { namespace: 2, measurement: 4, field: 8, series: 16 },
            tombstones: vec![tombstone(id + 5)],
        }
    }

    fn retentions() -> Retentions {
        let all = Retained { rule: Rule::Keep { ns: 3_600_000_000_000 }, cutoff_ns: -7 };
        let own = Retained { rule: Rule::Inherited, cutoff_ns: i64::MIN };
        let entries = [((NamespaceId(1), None), all), ((NamespaceId(1), Some(MeasurementId(3))), own)];
        let clock = Some(ClockRecord { now_ns: 5, steady_ns: 9 });
        Retentions { clock, entries: entries.into() }
    }

    fn samples() -> Vec<Edit> {
        let mut state = State { edit: 7, ..State::default() };
        state.apply(&sealed(3));
        state.durability.insert(NamespaceId(2), Durability::Interval(Duration::from_secs(10)));
        let mut with_retention = state.clone();
        with_retention.apply(&Edit::Retention(retentions()));
        vec![
            Edit::Snapshot(state),
            Edit::Snapshot(with_retention),
            Edit::Retention(retentions()),
            sealed(3),
            Edit::Quarantined(SegmentId(9)),
            Edit::Durability(NamespaceId(1), Durability::Always),
            Edit::Compacted {
                segments: vec![entry(50)],
                replaced: vec![SegmentId(3), SegmentId(4)],
                next_file: 51,
                applied: vec![Seq(8)],
            },
        ]
    }

    #[test]
    fn edits_come_back_and_no_truncation_passes() {
        for edit in samples() {
            let mut bytes = Vec::new();
            edit.encode(&mut bytes);
            assert_eq!(Edit::decode(&bytes).as_ref(), Some(&edit));
            for len in 0..bytes.len() {
                assert_eq!(Edit::decode(&bytes[..len]), None, "{} cut to {len}", edit.name());
            }
            bytes.push(0);
            assert_eq!(Edit::decode(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(kind in 0_u8..9, mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            bytes.insert(0, kind);
            let _ = Edit::decode(&bytes);
        }
    }
}
