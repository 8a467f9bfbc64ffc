//! Reports of days, months and years of every device, by the calendar of the home zone, kept in the ledger as
//! `origin = computed`.
//!
//! A report is made when its period is over, from the same sums as `/api/v1/energy` tells, the ledger's sessions that began in it,
//! and the store's own aggregates; and again when one of them changes. `inputs` is a fingerprint of all that went into it: the
//! record is written only when that is another.
//!
//! Invariants
//! 1. No report is made while energies of its period are still to be computed.
//! 2. What rests on points that age hides or that cannot be read stays as it was told before; what cannot be read is tried
//!    again, so that nothing stays partial longer than an hour after it can be.

mod keep;
mod known;
mod period;
mod reckon;

pub(crate) use known::{Batteries, Known};
pub(crate) use period::{Length, due};
