//! Texts on the wire, pure: bytes in, rows or columns out, and back. No sockets, no store, no clock.

pub mod answer;
pub mod bounded;
pub(crate) mod changes;
pub mod condition;
mod drawing;
pub mod energy_data;
pub mod expression;
pub mod line_protocol;
mod number;
pub mod params;
pub mod predicate;
pub mod query_string;
pub(crate) mod records;
mod repeated_line;
pub mod steps;
pub(crate) mod time;
