//! Recorded deletes: what a range delete hides, and its bytes in the log and in the manifest.
//!
//! Promise: a delete hides what was committed before it and nothing that was written after it.
//!
//! Invariants
//! 1. A tombstone with sequence T hides rows in everything whose last commit is below T. So a memtable that holds rows it
//!    hides is frozen before the tombstone is committed: no memtable and no segment has such rows on both sides of it.
//! 2. Compaction applies all tombstones to what it reads and notes that in the segment's entry; a tombstone goes when
//!    nothing is left that it could hide rows in.
//!
//! Bytes: format-spec.md sections 4 and 7.1. Decoding is total.

use crate::bytes::{Reader, put_varint};
use crate::ids::{FieldId, MeasurementId, NamespaceId, Seq, SeriesId};
use crate::segment::SegmentEntry;
use std::ops::Range;
use std::sync::Arc;

/// What one delete hides: values of one measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its place in the commit order.
    pub seq: Seq,
    /// Namespace of the measurement.
    pub namespace: NamespaceId,
    /// Whose rows.
    pub measurement: MeasurementId,
    /// Times that it covers.
    pub range: Range<i64>,
    /// Fields by rising id; none: whole rows.
    pub fields: Option<Arc<[FieldId]>>,
    /// Series by rising id; none: all there were.
    pub series: Option<Arc<[SeriesId]>>,
}

const ALL: u8 = 0;
const SOME: u8 = 1;

impl Tombstone {
    /// Whether it hides values of `series`.
    pub fn covers(&self, series: SeriesId) -> bool {
        self.series.as_ref().is_none_or(|list| list.binary_search(&series).is_ok())
    }

    /// Whether a row of `range` can be hidden by it.
    pub fn overlaps(&self, range: &Range<i64>) -> bool {
        self.range.start < range.end && range.start < self.range.end
    }

    /// Whether it may hide rows of a segment that compaction has not taken out yet.
    pub fn concerns(&self, entry: &SegmentEntry) -> bool {
        // What is set aside is never served again.
        !entry.quarantined
            && entry.max_seq < self.seq
            && entry.deletes_applied < self.seq
            && entry.namespace == self.namespace
            && entry.measurement.is_none_or(|own| own == self.measurement)
            && entry.overlaps(&self.range)
    }

    /// Bytes that it takes in a manifest at most; in memory, about as many.
    pub(crate) fn bytes(&self) -> usize {
        let ids = self.fields.as_ref().map_or(0, |list| list.len())
            + self.series.as_ref().map_or(0, |list| list.len());
        8 + MIN_ENCODED_LEN + 5 * (ids + 2)
    }

    /// Appends everything but the sequence.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.namespace.0.to_le_bytes());
        out.extend_from_slice(&self.measurement.0.to_le_bytes());
        out.extend_from_slice(&self.range.start.to_le_bytes());
        out.extend_from_slice(&self.range.end.to_le_bytes());
        put_ids(out, self.fields.as_deref().map(|list| list.iter().map(|id| id.0)));
        put_ids(out, self.series.as_deref().map(|list| list.iter().map(|id| id.0)));
    }

    /// Takes what [`Tombstone::encode`] wrote off the front; none if it is not that.
    pub(crate) fn decode(reader: &mut Reader<'_>, seq: Seq) -> Option<Self> {
        let namespace = NamespaceId(reader.u32()?);
        let measurement = MeasurementId(reader.u32()?);
        let range = reader.i64()?..reader.i64()?;
        let fields = take_ids(reader)?.of(FieldId);
        let series = take_ids(reader)?.of(SeriesId);
        (range.start < range.end).then_some(Self { seq, namespace, measurement, range, fields, series })
    }
}

/// Appends the payload of a Delete record: a count, then that many tombstones.
pub(crate) fn encode_deletes(tombstones: &[Tombstone], out: &mut Vec<u8>) {
    put_varint(out, tombstones.len() as u64);
    tombstones.iter().for_each(|tombstone| tombstone.encode(out));
}

/// Reads the payload of a Delete record of sequence `seq`; none if it is not one, also if something follows it.
pub(crate) fn decode_deletes(payload: &[u8], seq: Seq) -> Option<Vec<Tombstone>> {
    let mut reader = Reader::new(payload);
    let count = reader.count(MIN_ENCODED_LEN)?;
    let tombstones: Option<Vec<Tombstone>> =
        (0..count).map(|_| Tombstone::decode(&mut reader, seq)).collect();
    tombstones.filter(|_| reader.is_empty())
}

/// Least bytes of an encoded tombstone: two ids, two times, two flags.
pub(crate) const MIN_ENCODED_LEN: usize = 4 + 4 + 8 + 8 + 1 + 1;

/// 0 for all; else 1, a count, the first id and the distances between them as varints.
fn put_ids(out: &mut Vec<u8>, ids: Option<impl ExactSizeIterator<Item = u32>>) {
    let Some(ids) = ids else { return out.push(ALL) };
    out.push(SOME);
    put_varint(out, ids.len() as u64);
    let mut before = 0;
    for id in ids {
        put_varint(out, u64::from(id - before));
        before = id;
    }
}

/// A list as it was read.
enum Ids {
    All,
    These(Vec<u32>),
}

impl Ids {
    fn of<T>(self, id: impl Fn(u32) -> T) -> Option<Arc<[T]>> {
        match self {
            Self::All => None,
            Self::These(ids) => Some(ids.into_iter().map(id).collect()),
        }
    }
}

fn take_ids(reader: &mut Reader<'_>) -> Option<Ids> {
    match reader.u8()? {
        ALL => Some(Ids::All),
        SOME => {
            let count = reader.count(1)?;
            let mut ids = Vec::with_capacity(count);
            let mut before: Option<u32> = None;
            for _ in 0..count {
                let step = reader.varint32()?;
                if before.is_some() && step == 0 {
                    return None;
                }
                let id = before.unwrap_or(0).checked_add(step)?;
                ids.push(id);
                before = Some(id);
            }
            Some(Ids::These(ids))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn tombstone(seq: u64) -> Tombstone {
        Tombstone {
            seq: Seq(seq),
            namespace: NamespaceId(1),
            measurement: MeasurementId(3),
            range: -5..i64::MAX,
            fields: None,
            series: Some([1, 2, 900].map(SeriesId).into()),
        }
    }

    #[test]
    fn deletes_come_back_and_no_truncation_passes() {
        let mut second = tombstone(9);
        second.fields = Some([FieldId(7)].into());
        second.series = None;
        let deletes = vec![tombstone(9), second];
        let mut bytes = Vec::new();
        encode_deletes(&deletes, &mut bytes);
        assert_eq!(decode_deletes(&bytes, Seq(9)), Some(deletes));
        for len in 0..bytes.len() {
            assert_eq!(decode_deletes(&bytes[..len], Seq(9)), None, "cut to {len}");
        }
        bytes.push(0);
        assert_eq!(decode_deletes(&bytes, Seq(9)), None);
    }

    #[test]
    fn the_example_of_the_specification_is_what_is_written() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../format-spec.md")).unwrap();
        let example = text.split("```delete-payload").nth(1).expect("the example stands in the text");
        let example = example.split("```").next().unwrap();
        let hex: String = example.lines().filter_map(|line| line.split('|').next()).collect();
        let delete = Tombstone {
            range: 0..1000,
            fields: Some([FieldId(5)].into()),
            series: Some([7, 9].map(SeriesId).into()),
            ..tombstone(9)
        };
        let mut bytes = Vec::new();
        encode_deletes(&[delete], &mut bytes);
        let shown: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, hex.split_whitespace().collect::<String>());
    }

    #[test]
    fn it_concerns_older_segments_of_its_measurement_and_time_until_they_are_rewritten() {
        let mut entry = crate::manifest::edit::tests::entry(1);
        entry.max_seq = Seq(8);
        assert!(tombstone(9).concerns(&entry));
        assert!(!tombstone(8).concerns(&entry), "nothing written after it");
        entry.deletes_applied = Seq(9);
        assert!(!tombstone(9).concerns(&entry));
        entry.deletes_applied = Seq(0);
        entry.measurement = Some(MeasurementId(4));
        assert!(!tombstone(9).concerns(&entry));
        entry.measurement = None;
        entry.last_time = -6;
        assert!(!tombstone(9).concerns(&entry));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_deletes(&bytes, Seq(1));
        }
    }
}
