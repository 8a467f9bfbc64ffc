//! What is computed from points, kept beside them or in the ledger, and in step with them.
//!
//! Promise: what is kept is what would be computed anew from the points as they are, but for what the change feed has not told
//! yet or is being computed, and that is said. Nothing here is the only copy of anything: it may be deleted and comes back.
//!
//! Quality, trends and prices are computed when they are asked for, and not kept.
//!
//! The arithmetic is in `wattlog-analytics`, the reading and keeping in the engine and the ledger; this crate decides what to
//! compute when.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod books;
pub mod energy;
pub mod price;
pub mod prices;
pub mod quality;
pub mod series;
pub mod tariffs;
pub mod trend;

mod follow;
mod months;
mod pending;
mod price_cache;
mod remembered;
mod reports;
mod sessions;

pub use price_cache::PriceCache;
