//! One point as an edge hands it over: before it has series or field ids.

use crate::{FieldKind, FieldValue, TagSet, Timestamp, Unit};

/// Timestamp + measurement + tag set + one or more field values.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name of the group of fields: `energy_data`.
    pub measurement: String,
    /// What tells this source from others.
    pub tags: TagSet,
    /// When it was true; the receiver's time, cut to milliseconds, if none.
    pub time: Option<Timestamp>,
    /// Values by field name. A name that stands twice: the last one counts.
    pub fields: Vec<(String, FieldValue)>,
}

/// What a source knows of a field beyond its values: told to the store once, kept in its catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMeaning {
    /// Field name within the measurement.
    pub field: String,
    /// Unit, if it has one.
    pub unit: Option<Unit>,
    /// How the value behaves between points.
    pub kind: FieldKind,
}
