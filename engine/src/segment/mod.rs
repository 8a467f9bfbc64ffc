//! Segments: sealed, immutable, checksummed files of rows in columns.
//!
//! Bytes: format-spec.md section 5. Files: `segments/seg-<id>.seg`, written by [`SegmentWriter`] alone, read by
//! [`Segment`], found by [`SegmentSet`].
//! Promise: a value is given out only after the copy it was decoded from passed its checksum; a bad byte costs at most
//! the block it is in; a file is taken for a segment only if its footer proves it complete.
//!
//! Invariants
//! 1. A sealed file never changes; every checksum covers the place as well as the bytes.
//! 2. Statistics stand in the meta region only, and can be computed again from the blocks bit for bit.
//! 3. A segment holds the names, types, kinds, units and keys of all that is in it: segments alone rebuild the catalog.
//!
//! Not here: which rows go into which file (`seal`), which files are true (`manifest`), merging (`query`).

mod block;
mod chunk;
mod content;
mod describe;
mod dump;
mod ends;
pub mod entry;
mod error;
pub mod layout;
mod meta;
mod page;
mod parts;
mod plan;
mod read;
mod reader;
mod remains;
mod section;
mod section_writer;
mod set;
mod statistics;
mod verify;
mod writer;

pub use dump::dump_file;
pub use ends::peek_identity;
pub use entry::{FieldDef, SegmentEntry, SegmentSpec, SegmentSummary, segment_path};
pub use error::SegmentError;
pub use page::PageCache;
pub use parts::PARTS;
pub use plan::Part;
pub use reader::{RowGroup, Segment};
pub use remains::Lost;
pub(crate) use remains::{Finder, Piece, Remains, identity};
pub use section::Section;
pub use set::{SegmentHandle, SegmentOpener, SegmentSet};
pub use statistics::BlockStatistics;
pub(crate) use statistics::{Extent, Number};
pub use verify::{differs_from, verify_file};
pub use writer::SegmentWriter;
