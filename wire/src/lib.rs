//! Texts on the wire, pure: bytes in, rows or columns out, and back. No sockets, no store, no clock.
//!
//! Promise: no bytes make a parser panic; what a parser makes of a body is bounded by the body; an error says where and what
//! to do. The fuzz targets of what comes from outside need nothing but this crate.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod answer;
pub mod bounded;
pub mod condition;
mod drawing;
pub mod energy_data;
pub mod expression;
pub mod line_protocol;
pub mod number;
pub mod params;
pub mod predicate;
pub mod query_string;
mod repeated_line;
pub mod steps;
mod text;
pub mod time;

pub use text::shortened;
