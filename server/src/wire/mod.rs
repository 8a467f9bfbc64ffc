//! Texts on the wire, pure: bytes in, rows or columns out, and back. No sockets, no store, no clock.

pub mod line_protocol;
mod number;
pub(crate) mod time;
