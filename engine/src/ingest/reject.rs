//! Why one row of a body was not stored, in words its sender can act on.

use wattlog_model::{FieldType, MAX_FIELDS_PER_POINT, MAX_KEY_LEN_BYTES, MAX_STRING_LEN_BYTES};

/// One row that was refused; the other rows of its body are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The number that the edge gave to the row.
    pub line: u32,
    /// What was wrong.
    pub reason: RejectReason,
}

/// What was wrong with a row. The texts of type conflicts are those that line-protocol clients look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The field exists with another type.
    #[error(
        "field type conflict: input field \"{field}\" on measurement \"{measurement}\" is type {given}, \
         already exists as type {existing}"
    )]
    TypeConflict {
        /// Measurement of the row.
        measurement: String,
        /// Field in conflict.
        field: String,
        /// Type in the row.
        given: FieldType,
        /// Type fixed by the field's first write.
        existing: FieldType,
    },
    /// An integer beyond 2^53 was written to a float field: it would not come back as it was.
    #[error("field \"{field}\" is type float and cannot hold the integer {value} exactly")]
    WideningLoss {
        /// Field in question.
        field: String,
        /// The integer.
        value: i128,
    },
    /// NaN or an infinity.
    #[error("field \"{field}\" is not a finite number")]
    NotFinite {
        /// Field in question.
        field: String,
    },
    /// A text above the limit.
    #[error("field \"{field}\" holds {len} bytes of text; the limit is {MAX_STRING_LEN_BYTES}")]
    StringTooLong {
        /// Field in question.
        field: String,
        /// Its length in bytes.
        len: usize,
    },
    /// More fields in one row than a row may have.
    #[error("more than {MAX_FIELDS_PER_POINT} fields in one point")]
    TooManyFields,
    /// The measurement holds as many fields as it may.
    #[error("max-fields-per-measurement limit exceeded: ({limit})")]
    TooManyMeasurementFields {
        /// The limit of a measurement (`engine.max_fields`).
        limit: u32,
    },
    /// An empty or overlong measurement or field name.
    #[error("a measurement or field name is empty or longer than {MAX_KEY_LEN_BYTES} bytes")]
    InvalidName,
    /// The store holds as many series as it may.
    #[error("max-series-per-database limit exceeded: ({limit})")]
    TooManySeries {
        /// The limit of the store (`engine.max_series`).
        limit: u32,
    },
    /// Older than the retention policy keeps.
    #[error("points beyond retention policy")]
    BeyondRetention,
}

impl RejectReason {
    /// A word for metrics: a small closed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TypeConflict { .. } => "type_conflict",
            Self::WideningLoss { .. } => "widening_loss",
            Self::NotFinite { .. } => "not_finite",
            Self::StringTooLong { .. } => "string_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::TooManyMeasurementFields { .. } => "too_many_measurement_fields",
            Self::InvalidName => "invalid_name",
            Self::TooManySeries { .. } => "too_many_series",
            Self::BeyondRetention => "beyond_retention",
        }
    }
}
