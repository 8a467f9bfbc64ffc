//! Charging and selling sessions of every device, found in its points and kept in the ledger as `origin = detected`.
//!
//! A change of points is looked at by detecting its window again ([`wattlog_analytics::session::affected_window`]) from the
//! points as they are, however long the sessions in it make that window, and writing what differs from the ledger.
//!
//! Invariants
//! 1. A session that comes out the same is not written: its version stays.
//! 2. A record of another origin is neither changed nor removed, also if it has the name that a detected one would get.
//! 3. Sessions that begin where points are hidden by age stay as they are, as do those of a window of which points cannot be
//!    read, until they can be.
//! 4. Money that is known outlives its prices: a session that begins where it did and whose prices are hidden by age, or cannot be
//!    read, keeps it.

mod detect;
mod keep;
mod record;
mod samples;
mod saving;

pub(crate) use keep::{Part, bounds, has_any, next_from, silent};
pub(crate) use samples::SamplesError;
pub(crate) use saving::days_of;

use wattlog_analytics::session::{Kind, Params};

/// Both kinds.
pub(crate) const KINDS: [Kind; 2] = [Kind::Charging, Kind::Selling];

/// A price is told anew this often while it holds, and holds no longer: pieces end where they end.
pub(crate) const PRICE_STEP_NS: i64 = 60_000_000_000;

/// The rules of detection.
pub(crate) fn params() -> Params {
    Params { price_max_age_ns: PRICE_STEP_NS, ..Params::default() }
}

/// How far back points reach that can change what is found at an instant.
pub(crate) fn reach_ns(params: &Params) -> i64 {
    // Each is at most 366 days.
    params.min_duration_ns + params.merge_pause_ns + params.max_gap_ns
}
