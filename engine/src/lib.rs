//! The time-series store of wattlog: append-only, checksummed, mmap-read.
//!
//! Promise, in this order: an acknowledged point survives any power cut; a wrong value is never served; no input ends
//! the process; it always starts; it is fast and small. Bytes on disk: format-spec.md.
//!
//! Pure and synchronous: threads and files, no async, no network, no environment variables, no wall clock of its own.

mod bytes;
pub mod catalog;
pub mod codec;
pub mod column;
pub mod error;
pub mod file_header;
pub mod ids;
pub mod ingest;
pub mod io;
pub mod memtable;
pub mod rows;
pub mod segment;
pub mod wal;
