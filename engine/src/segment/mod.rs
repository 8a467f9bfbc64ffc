//! Segments.

pub mod entry;

pub use entry::{FieldDef, SegmentEntry, SegmentSpec, SegmentSummary, segment_path};
