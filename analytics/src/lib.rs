//! What the numbers of a home mean: prices by tariff, charging and selling sessions, quality of data, alerts.
//!
//! Promise: pure functions. No I/O, no clock (`now` is an argument), no randomness, no threads; the same input gives the
//! same bits, so a result can be calculated again and compared. Nothing here panics on any input: what cannot be answered
//! is an error that names what to do, or `None`.
//!
//! Invariants
//! 1. Signs: battery power + = discharge, grid power + = export; PV and consumption are positive.
//! 2. Times are nanoseconds UTC; a time zone is an argument and is asked only for the clock of a wall.
//! 3. Missing is missing: no value is taken as 0, and a number that rests on part of the data says on how much.
//!
//! Not here: arithmetic over whole series (integrals, increases, costs of a bucket: the engine's queries), storing
//! results, sending messages.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod alert;
pub mod battery;
mod calendar;
pub mod energy;
pub mod quality;
pub mod session;
pub mod tariff;
pub mod trend;

pub use calendar::{UnknownZone, zone};
