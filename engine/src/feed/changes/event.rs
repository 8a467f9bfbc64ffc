//! What a consumer of changes hears.

use super::ChangeCursor;
use crate::feed::Cause;
use std::ops::Range;
use std::sync::Arc;

/// Whose values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Subject {
    /// Name of the database; none: any.
    pub database: Option<Arc<str>>,
    /// Name of its retention policy; none: any.
    pub retention_policy: Option<Arc<str>>,
    /// Name of the measurement; none: any.
    pub measurement: Option<Arc<str>>,
}

/// What a consumer hears. Times are nanoseconds, ranges half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeEvent {
    /// Rows at or after the horizon. Only without buckets.
    Appended {
        /// Whose.
        of: Subject,
        /// Times that hold them.
        times: Range<i64>,
        /// How many.
        rows: u64,
    },
    /// Any value in these times may have changed. With buckets, their borders are borders of buckets.
    Dirty {
        /// Whose.
        of: Subject,
        /// In which times.
        times: Range<i64>,
        /// Names of the fields; none: any.
        fields: Option<Vec<String>>,
        /// Why.
        cause: Cause,
    },
    /// The horizon has passed a bucket.
    Finished {
        /// It.
        bucket: Range<i64>,
    },
    /// A finished bucket may have changed.
    Revised {
        /// Whose values.
        of: Subject,
        /// Which bucket.
        bucket: Range<i64>,
        /// Why.
        cause: Cause,
    },
}

/// What a reader is told at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Oldest first; none if nothing came in time.
    pub events: Vec<ChangeEvent>,
    /// Where to go on.
    pub cursor: ChangeCursor,
    /// The store was closed; nothing more will come.
    pub closed: bool,
}
