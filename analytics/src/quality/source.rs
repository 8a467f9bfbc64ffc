//! Where a number comes from, precisely enough to ask for it again.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::{TagSet, Timestamp};

/// A field of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldName {
    /// Measurement.
    pub measurement: String,
    /// Tags of the series.
    pub tags: TagSet,
    /// Field.
    pub field: String,
}

/// What was calculated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Points there are against points expected.
    Completeness,
    /// Stretches without points.
    Gaps,
    /// Values that stand still.
    Stuck,
    /// Values far from their neighbours on both sides.
    Spikes,
    /// Values outside their limits.
    OutOfRange,
    /// Share of points without a fault.
    Accuracy,
    /// Completeness x accuracy.
    Score,
    /// PV + battery - grid against consumption.
    Balance,
    /// Which way the battery's power counts, by the state of charge.
    SignBySoc,
    /// Which way the battery's power counts, by the balance.
    BatterySignByBalance,
    /// Which way the grid's power counts, by the balance.
    GridSignByBalance,
    /// The clock of a device against the time of receipt.
    ClockDrift,
}

/// From what a number was calculated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Measurement.
    pub measurement: String,
    /// Tags of the series, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Fields that were read.
    pub fields: Vec<String>,
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// What was done with them.
    pub function: Function,
}

impl Source {
    /// One function over one field.
    pub fn of(name: &FieldName, range: &Range<Timestamp>, function: Function) -> Self {
        Self::of_fields(name, std::slice::from_ref(&name.field), range, function)
    }

    /// One function over several fields of the series that `name` names.
    pub fn of_fields(
        name: &FieldName,
        fields: &[String],
        range: &Range<Timestamp>,
        function: Function,
    ) -> Self {
        Self {
            measurement: name.measurement.clone(),
            tags: name.tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            fields: fields.to_vec(),
            start: range.start,
            end: range.end,
            function,
        }
    }
}

/// A number, or a list, with its source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// What was found.
    pub value: T,
    /// From what.
    pub source: Source,
}
