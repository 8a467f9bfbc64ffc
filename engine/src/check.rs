//! Verifying a store and printing its files with the names of the specification.
//!
//! [`store`] reads every byte of every file and proves it; [`file`] does so for one file; [`dump`] tells what stands
//! where. What a file's bytes mean is known by the module that writes them: each verifies and dumps its own kind, and
//! nothing here repairs.
//!
//! Invariants
//! 1. Nothing here writes.
//! 2. A name that is printed stands in [`parts`], and `tests/tidy.rs` compares those with format-spec.md.

use crate::error::Damage;
use crate::io::Disk;
use crate::segment;
use std::io;

/// A named part of a file: one row of a table in format-spec.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSpec {
    /// Kind of file: `segment`, `wal`, `manifest`, `catalog`.
    pub file_kind: &'static str,
    /// Structure and field, as `footer.meta_offset`.
    pub name: &'static str,
    /// Offset from the start of the structure.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// `u32`, `i64`, `bytes` ...
    pub type_name: &'static str,
}

/// One part of a file, printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpLine {
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Name as in the specification.
    pub part: &'static str,
    /// What stands there.
    pub value: String,
}

/// What a check of one file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Path within the store.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Blocks (or records) that were proved.
    pub blocks: u64,
    /// Rows in them.
    pub rows: u64,
    /// Values in them.
    pub values: u64,
    /// What is wrong; empty if the file is whole.
    pub damage: Vec<Damage>,
}

impl FileReport {
    /// A report of a file of which nothing is known yet.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), bytes: 0, blocks: 0, rows: 0, values: 0, damage: Vec::new() }
    }
}

/// What a check of a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// One for each file of a kind that is known here.
    pub files: Vec<FileReport>,
    /// Files whose name says nothing: left by an unfinished write, or foreign.
    pub unknown: Vec<String>,
}

impl CheckReport {
    /// All damage in all files.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.files.iter().flat_map(|file| &file.damage)
    }

    /// Whether every byte was proved.
    pub fn is_whole(&self) -> bool {
        self.damage().next().is_none()
    }
}

/// A kind of file: the folder it is in, how its names end, and who knows it.
struct Kind {
    folder: &'static str,
    suffix: &'static str,
    verify: fn(&dyn Disk, &str) -> FileReport,
    dump: fn(&dyn Disk, &str) -> io::Result<Vec<DumpLine>>,
}

const KINDS: &[Kind] =
    &[Kind { folder: "segments", suffix: ".seg", verify: segment::verify_file, dump: segment::dump_file }];

/// Every named part of every kind of file, for the comparison with format-spec.md.
pub fn parts() -> impl Iterator<Item = &'static PartSpec> {
    segment::PARTS.iter()
}

/// Verifies one file of a store. `InvalidInput` if its name belongs to no kind of file.
pub fn file(disk: &dyn Disk, path: &str) -> io::Result<FileReport> {
    Ok((kind_of(path)?.verify)(disk, path))
}

/// What stands where in one file. `InvalidInput` if its name belongs to no kind of file. A damaged file is told as far
/// as it can be.
pub fn dump(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    (kind_of(path)?.dump)(disk, path)
}

/// Verifies every file of a store.
pub fn store(disk: &dyn Disk) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    for kind in KINDS {
        let entries = match disk.list(kind.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
            let path = format!("{}/{}", kind.folder, entry.name);
            if entry.name.ends_with(kind.suffix) {
                report.files.push((kind.verify)(disk, &path));
            } else {
                report.unknown.push(path);
            }
        }
    }
    Ok(report)
}

/// By the end of the name, so that a file copied elsewhere is known too.
fn kind_of(path: &str) -> io::Result<&'static Kind> {
    KINDS.iter().find(|kind| path.ends_with(kind.suffix)).ok_or_else(|| {
        let message = format!("{path}: no file of a store has such a name");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}
