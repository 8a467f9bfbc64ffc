//! What a consumer of changes asks for.

use super::ChangeCursor;
use crate::query::{Every, Zone};

/// What a consumer wants to hear of. With a cursor it must be what it was when the cursor was given.
#[derive(Debug, Clone, Default)]
pub struct ChangeRequest {
    /// Name of the database; every one if none is named.
    pub database: Option<String>,
    /// Retention policy; every one if none is named.
    pub retention_policy: Option<String>,
    /// Name of the measurement; every one if none is named.
    pub measurement: Option<String>,
    /// Tell buckets that are finished and revised.
    pub buckets: Option<BucketRule>,
    /// How far behind the newest row another may be without being late, in nanoseconds.
    pub grace_ns: u64,
    /// Most events of one answer; at least one.
    pub limit: usize,
}

/// Which buckets; as in a query.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketRule {
    /// Their length. Not [`Every::Parts`].
    pub every: Every,
    /// How much later they begin, in nanoseconds; shorter than a bucket.
    pub offset_ns: i64,
    /// Whose clock and calendar counts.
    pub zone: Zone,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStart {
    /// With the next change.
    Now,
    /// After what was told together with this cursor.
    After(ChangeCursor),
}
