//! The one door for writes.

mod batch;
mod reject;

pub use batch::{Row, SeriesSlot, WriteBatch};
pub use reject::{RejectReason, Rejection};
