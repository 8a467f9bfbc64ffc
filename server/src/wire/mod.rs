//! Texts on the wire that speak of the server's own errors or of records; the others are a crate of their own.

pub(crate) mod changes;
pub(crate) mod records;

pub(crate) use wattlog_wire::{
    answer, bounded, energy_data, line_protocol, params, predicate, query_string, time,
};
