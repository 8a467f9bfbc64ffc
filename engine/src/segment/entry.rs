//! What the rest of the engine knows of a segment without opening it.

use crate::ids::{FieldId, MeasurementId, NamespaceId, SegmentId, Seq, StoreId};
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{FieldKind, FieldType, Unit};

/// A sealed segment as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    pub id: SegmentId,
    pub namespace: NamespaceId,
    /// The one measurement of the file; none if several share it.
    pub measurement: Option<MeasurementId>,
    /// Time of the oldest and the newest row, both inclusive.
    pub first_time: i64,
    pub last_time: i64,
    /// Commits whose rows the segment holds, both inclusive.
    pub min_seq: Seq,
    pub max_seq: Seq,
    pub rows: u64,
    pub values: u64,
    /// Bytes of field blocks and compact groups.
    pub data_bytes: u64,
    /// Bytes of time blocks.
    pub time_bytes: u64,
    /// Bytes of header, meta region and footer, padding included.
    pub meta_bytes: u64,
    pub file_bytes: u64,
    /// Rows hidden by tombstones up to here were left out when it was written.
    pub deletes_applied: Seq,
    /// Set aside because damaged: its file is in `quarantine/`, answers that would need it are partial.
    pub quarantined: bool,
    /// A compaction has written it when all of its rows were old enough for PCO: there is nothing more to gain.
    pub packed: bool,
}

impl SegmentEntry {
    /// Path of the sealed file within the store.
    pub fn path(&self) -> String {
        segment_path(self.id)
    }

    /// Whether a row of `range` can be in it.
    pub fn overlaps(&self, range: &Range<i64>) -> bool {
        self.first_time < range.end && self.last_time >= range.start
    }
}

/// Path of a sealed segment within the store.
pub fn segment_path(id: SegmentId) -> String {
    format!("segments/seg-{:016x}.seg", id.0)
}

/// What a segment is told when it is created, and tells when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSpec {
    pub store: StoreId,
    pub id: SegmentId,
    pub namespace: NamespaceId,
    /// Database and retention policy, so that segments alone rebuild the catalog.
    pub namespace_name: (String, String),
    pub min_seq: Seq,
    pub max_seq: Seq,
    /// Window in UTC days since the epoch, `first_day..end_day`.
    pub first_day: i32,
    pub end_day: i32,
    /// Midnights of the home zone within the window at which row groups are cut instead of UTC's, rising; none in what a
    /// seal writes. At most [`MAX_MIDNIGHTS`](super::layout::MAX_MIDNIGHTS).
    pub midnights: Vec<i64>,
}

/// What was written, for the manifest and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Measurements in the order of their sections.
    pub sections: Vec<MeasurementId>,
    pub first_time: i64,
    pub last_time: i64,
    pub rows: u64,
    pub values: u64,
    pub blocks: u64,
    pub data_bytes: u64,
    pub time_bytes: u64,
    pub meta_bytes: u64,
    pub file_bytes: u64,
}

impl SegmentSummary {
    /// The manifest's entry for a segment written as `spec` says.
    pub fn entry(&self, spec: &SegmentSpec) -> SegmentEntry {
        SegmentEntry {
            id: spec.id,
            namespace: spec.namespace,
            measurement: match self.sections[..] {
                [only] => Some(only),
                _ => None,
            },
            first_time: self.first_time,
            last_time: self.last_time,
            min_seq: spec.min_seq,
            max_seq: spec.max_seq,
            rows: self.rows,
            values: self.values,
            data_bytes: self.data_bytes,
            time_bytes: self.time_bytes,
            meta_bytes: self.meta_bytes,
            file_bytes: self.file_bytes,
            deletes_applied: Seq(0),
            quarantined: false,
            packed: false,
        }
    }
}

/// A field of a measurement: what its blocks mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDef {
    pub id: FieldId,
    pub name: Arc<str>,
    pub field_type: FieldType,
    pub unit: Option<Unit>,
    pub kind: FieldKind,
}
