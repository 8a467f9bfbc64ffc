//! The manifest: the one list of which files are true.
//!
//! Bytes: format-spec.md, "Manifest". Files: `manifest/manifest-<generation>.log`, owned by this module alone.
//! Promise: what [`Manifest::append`] returned is true after any power cut; what it did not return is true as a whole or
//! not at all.
//!
//! Invariants
//! 1. A file begins with a snapshot and holds edits with rising numbers; edit numbers go on across generations.
//! 2. A new generation is written under a temporary name, synced, renamed, and its folder synced, before an older one
//!    is removed. So the whole file with the highest generation holds the truth.
//! 3. After a failed write or sync a file takes nothing more; the next edit begins a new generation from memory.
//! 4. A torn last edit is as if it had never been asked for. Damage before a later edit, or fewer edits than the log
//!    attests, is reported: the engine then rebuilds the list from the segments themselves.

pub(crate) mod edit;
mod file;

pub use edit::{CatalogEntry, Edit, State};
pub use file::{MANIFEST_MAGIC, Manifest, ManifestCondition, RECORD_HEADER_LEN, RECORD_PARTS};
pub(crate) use file::{Tail, read_records};
