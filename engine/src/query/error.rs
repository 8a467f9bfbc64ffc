//! Why a query has no answer. Each text says what to do; damage is no error but a partial answer.

use super::request::Function;
use crate::catalog::CatalogError;
use wattlog_model::{FieldType, Unit};

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No such database.
    #[error("database not found: \"{0}\"")]
    DatabaseNotFound(String),
    /// The database has no such retention policy.
    #[error("retention policy not found: \"{0}\"")]
    RetentionPolicyNotFound(String),
    /// An expression of a tag filter that is none, or is too large.
    #[error("tag \"{key}\": {reason}")]
    BadRegex {
        /// Key of the filter.
        key: String,
        /// What is wrong with the expression.
        reason: String,
    },
    /// `start` is not before `end`.
    #[error("the range is empty: start must be before end")]
    EmptyRange,
    /// An aggregate without functions.
    #[error("no function: name at least one, as mean")]
    NoFunction,
    /// A bucket length that is none, or an offset as long as a bucket.
    #[error("a bucket must be at least 1 ns and at most 292 years long, and its offset shorter than that")]
    BadBucket,
    /// The function is not defined for the field's type.
    #[error(
        "{function} is not defined for \"{field}\", a {field_type} field: ask for count, first, last, mode, distinct or coverage"
    )]
    NotDefined {
        /// The function.
        function: Function,
        /// Name of the field.
        field: String,
        /// Its type.
        field_type: FieldType,
    },
    /// Energy of a field that is no power.
    #[error("\"{field}\" has {}: only an integral of W, kW or MW can be told in Wh, kWh or MWh; use unit=h", unit_text(.unit.as_ref()))]
    NoPower {
        /// Name of the field.
        field: String,
        /// Its unit.
        unit: Option<Unit>,
    },
    /// A name in a condition that says nothing.
    #[error("the measurement has neither a field nor a tag \"{name}\"")]
    UnknownName {
        /// As it stands in the condition.
        name: String,
    },
    /// A comparison of what cannot be compared.
    #[error(
        "\"{name}\" is a {kind} and cannot be compared so: {name} {comparison}; numbers are compared with numbers, texts and tags \
         with quoted texts, booleans by = or != with true or false"
    )]
    NotComparable {
        /// The field or tag.
        name: String,
        /// What it is.
        kind: String,
        /// Operator and value.
        comparison: String,
    },
    /// A condition nested too deeply.
    #[error("the condition is nested more than {limit} deep: write it with fewer parentheses")]
    ConditionTooDeep {
        /// `Condition::MAX_DEPTH`.
        limit: usize,
    },
    /// A condition with too many comparisons.
    #[error("the condition has more than {limit} comparisons: ask in several queries")]
    TooManyComparisons {
        /// `Condition::MAX_COMPARISONS`.
        limit: usize,
    },
    /// An expression that cannot be computed.
    #[error("{reason}")]
    BadExpression {
        /// What would be right.
        reason: String,
    },
    /// A function over results that cannot be computed.
    #[error("{reason}")]
    BadStep {
        /// What would be right.
        reason: String,
    },
    /// A function over results of what are no numbers.
    #[error("{step} is not defined for \"{column}\": it has no numbers")]
    NoNumbers {
        /// The function.
        step: String,
        /// Name of the column.
        column: String,
    },
    /// A picture of several series at once.
    #[error("each series is drawn by itself: leave group_by out, or group by *")]
    PictureOfGroups,
    /// A cost without a price.
    #[error(
        "cost and priced need a price: name its field, as price.field=price, and its measurement if it is another"
    )]
    NoPrice,
    /// More than one price series.
    #[error("{found} series match the price: name one of them by its tags, as price.tag.KEY=VALUE")]
    SeveralPrices {
        /// Series with prices in the range.
        found: usize,
    },
    /// Power and price that make no cost.
    #[error(
        "cost needs a power in W, kW or MW and a price per Wh, kWh or MWh, as PLN/kWh: \"{field}\" has {}, the price has {}",
        unit_text(.unit.as_ref()), unit_text(.price.as_ref())
    )]
    NoCost {
        /// Name of the power's field.
        field: String,
        /// Its unit.
        unit: Option<Unit>,
        /// The unit of the price.
        price: Option<Unit>,
    },
    /// A gap that is none.
    #[error("a gap must be at least 1 ns long")]
    BadGap,
    /// More series than one query may look at.
    #[error("{wanted} series match, one query may read {limit}: add a tag filter")]
    TooManySeries {
        /// Series that match.
        wanted: u64,
        /// `max_series`.
        limit: u64,
    },
    /// More buckets than one answer may hold.
    #[error(
        "the answer would have {wanted} buckets, {limit} are allowed: use longer buckets or a shorter range"
    )]
    TooManyBuckets {
        /// Buckets asked for; at least this many.
        wanted: u64,
        /// `max_buckets`.
        limit: u64,
    },
    /// More rows than one answer may hold.
    #[error("the answer would have more than {limit} rows: use limit, a shorter range or buckets")]
    TooManyPoints {
        /// `max_points`.
        limit: u64,
    },
    /// More values to read than one query may.
    #[error("more than {limit} values would have to be read: use a shorter range or fewer series and fields")]
    TooMuchScanned {
        /// `max_scanned`.
        limit: u64,
    },
    /// More memory than one query may hold.
    #[error(
        "the query needs more than {limit} bytes of memory: use a shorter range, fewer fields or longer buckets"
    )]
    TooManyBytes {
        /// `max_bytes`.
        limit: u64,
    },
    /// An export of what are no rows.
    #[error("an export has the points as they are, oldest first: leave out functions, order and limit")]
    NotRows,
    /// A part of an export cannot be read.
    #[error("a part of the range is damaged: {0}; an export can leave it out, with damaged=skip")]
    Damaged(String),
    /// More memory than all queries together may hold.
    #[error("queries hold all of the {limit} bytes of memory that they may: try again, or ask for less")]
    MemoryTaken {
        /// What they may hold together.
        limit: u64,
    },
    /// The caller went away.
    #[error("the query was cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error(
        "the query took too long and was stopped: use a shorter range or longer buckets, or allow more time"
    )]
    TimedOut,
    /// The machine has no file descriptors or memory left to open a file; nothing is wrong with the file.
    #[error("a file of the store cannot be opened now: {0}; allow more open files or try again")]
    NoResources(String),
    /// Names could not be read.
    #[error("the catalog cannot be read: {0}; run `wattlog check`")]
    Catalog(String),
}

impl From<CatalogError> for QueryError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(match &error {
            CatalogError::Io { source, .. } => format!("{error}: {source}"),
            CatalogError::Damage(_) | CatalogError::TooNew(_) => error.to_string(),
        })
    }
}

fn unit_text(unit: Option<&Unit>) -> String {
    unit.map_or_else(|| "no unit".to_owned(), |unit| format!("the unit {unit}"))
}
