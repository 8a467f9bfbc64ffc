//! The words of wattlog: what a point, a series key, a unit or a sum is, and nothing that acts.
//!
//! Promise: pure values. No I/O, no clock of its own, no randomness; every other crate may depend on this one.
//!
//! Invariants
//! 1. A [`TagSet`] is sorted by key and holds each key once, so equal tag sets are equal bytes.
//! 2. [`Timestamp`] counts nanoseconds since the Unix epoch in UTC; local time does not exist here.
//! 3. [`ExactSum`] gives the same bits however its inputs were grouped, as long as they are decimals.

mod clock;
mod field;
mod interval;
mod limits;
mod point;
mod sum;
mod tags;
mod time;

pub use clock::{Clock, ManualClock};
pub use field::{FieldKind, FieldType, FieldValue, Unit};
pub use interval::{Interval, InvalidInterval};
pub use limits::{MAX_FIELDS_PER_POINT, MAX_KEY_LEN_BYTES, MAX_STRING_LEN_BYTES, MAX_TAGS_PER_POINT};
pub use point::{FieldMeaning, Point};
pub use sum::{ExactSum, NANOS_PER_UNIT, short_decimal};
pub use tags::{InvalidTags, TagSet};
pub use time::{Timestamp, TimestampOutOfRange};
