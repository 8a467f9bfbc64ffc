//! Verifying a store and printing its files with the names of the specification.
//!
//! [`store`] reads every byte of every file and proves it, and that each is the file its name and the manifest speak of;
//! [`file()`] does so for one file by its name alone; [`dump`] tells what stands where. What a segment means is known by
//! `segment`, which verifies and dumps its own; logs, manifests and catalogs are walked here with the parsers of their
//! modules. Nothing here repairs.
//!
//! Invariants
//! 1. Nothing here changes a byte of a store.
//! 2. A store that is running may be checked: files are listed after the manifest that names them was read, and what is
//!    missing then is missing only if a later manifest names it still.
//! 3. A name that is printed stands in [`parts`], and tests compare those with format-spec.md.

mod catalog;
mod logs;
mod manifest;

use crate::catalog::{DIRECTORY_PARTS, FOOTER_PARTS};
use crate::error::Damage;
use crate::file_header::{self, FILE_HEADER_LEN};
use crate::ids::StoreId;
use crate::io::{Disk, os_code};
use crate::manifest::State;
use crate::segment;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A named part of a file: one row of a table in format-spec.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSpec {
    /// Kind of file: `any` for the common header, `segment`, `wal`, `manifest`, `catalog`.
    pub file_kind: &'static str,
    /// The name in the table; in segments with its structure, as `footer.meta_offset`.
    pub name: &'static str,
    /// Offset from the start of the structure.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
    /// `u32`, `i64`, `bytes` ...; by the length alone where the module does not say more.
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
    /// Rows in them; zero for a file that does not count rows.
    pub rows: u64,
    /// Values in them; zero for a file that does not count values.
    pub values: u64,
    /// Where the file ends in a write that a power cut tore: nothing that was answered is lost by it.
    pub torn_at: Option<u64>,
    /// What is wrong; empty if the file is whole.
    pub damage: Vec<Damage>,
}

impl FileReport {
    /// A report of a file of which nothing is known yet.
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            bytes: 0,
            blocks: 0,
            rows: 0,
            values: 0,
            torn_at: None,
            damage: Vec::new(),
        }
    }
}

/// What a check of a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// One for each file of a kind that is known here.
    pub files: Vec<FileReport>,
    /// Files whose name says nothing: left by an unfinished write, or foreign.
    pub unknown: Vec<String>,
    /// What is wrong between files: one that is missing, a sequence that no log holds.
    pub between: Vec<Damage>,
}

impl CheckReport {
    /// All damage there is.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.files.iter().flat_map(|file| &file.damage).chain(&self.between)
    }

    /// Whether every byte was proved.
    pub fn is_whole(&self) -> bool {
        self.damage().next().is_none()
    }
}

/// Whose a file must be, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
struct Owner {
    store: Option<StoreId>,
    /// The id in its name.
    file_id: Option<u64>,
}

/// A kind of file: the folder it is in, how its names begin and end, and who knows it.
struct Kind {
    folder: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    verify: fn(&dyn Disk, &str, Owner) -> FileReport,
    dump: fn(&dyn Disk, &str) -> io::Result<Vec<DumpLine>>,
}

/// The manifest first: what it names must be there when the other folders are listed.
const KINDS: &[Kind] = &[
    Kind {
        folder: "manifest",
        prefix: "manifest-",
        suffix: ".log",
        verify: manifest::verify_file,
        dump: manifest::dump_file,
    },
    Kind {
        folder: "catalog",
        prefix: "cat-",
        suffix: ".cat",
        verify: catalog::verify_file,
        dump: catalog::dump_file,
    },
    Kind {
        folder: "segments",
        prefix: "seg-",
        suffix: ".seg",
        verify: |disk, path, owner| segment::verify_file(disk, path, owner.store, owner.file_id),
        dump: segment::dump_file,
    },
    Kind { folder: "wal", prefix: "wal-", suffix: ".log", verify: logs::verify_file, dump: logs::dump_file },
];

impl Kind {
    /// The id in a name; none if it is no name of this kind.
    fn id_of(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?;
        let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (digits.len() == 16 && lower).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    }
}

/// Every named part of every kind of file, for the comparison with format-spec.md.
pub fn parts() -> impl Iterator<Item = PartSpec> {
    let by_size = |file_kind| {
        move |&(name, offset, size): &(&'static str, usize, usize)| {
            let type_name = match size {
                _ if name.ends_with("magic") => "bytes",
                1 => "u8",
                2 => "u16",
                4 => "u32",
                8 if name.ends_with("_ns") => "i64",
                8 => "u64",
                _ => "bytes",
            };
            PartSpec { file_kind, name, offset: offset as u64, size: size as u64, type_name }
        }
    };
    let wal = crate::wal::record::RECORD_PARTS.iter().chain(crate::wal::record::END_PARTS);
    file_header::PARTS
        .iter()
        .map(by_size("any"))
        .chain(segment::PARTS.iter().copied())
        .chain(wal.map(by_size("wal")))
        .chain(crate::manifest::RECORD_PARTS.iter().map(by_size("manifest")))
        .chain(DIRECTORY_PARTS.iter().chain(FOOTER_PARTS).map(by_size("catalog")))
        .chain(crate::scrub::PARTS.iter().map(by_size("scrub")))
}

/// Verifies one file of a store. `InvalidInput` if its name belongs to no kind of file.
pub fn file(disk: &dyn Disk, path: &str) -> io::Result<FileReport> {
    let (kind, file_id) = kind_of(path)?;
    Ok((kind.verify)(disk, path, Owner { store: None, file_id }))
}

/// What stands where in one file. `InvalidInput` if its name belongs to no kind of file. A damaged file is told as far
/// as it can be.
pub fn dump(disk: &dyn Disk, path: &str) -> io::Result<Vec<DumpLine>> {
    (kind_of(path)?.0.dump)(disk, path)
}

/// Verifies every file of a store, and that they agree with each other.
pub fn store(disk: &Arc<dyn Disk>) -> io::Result<CheckReport> {
    let mut report = CheckReport::default();
    let newest = manifest::newest(&**disk);
    let store = newest.as_ref().map(|(store, _)| *store);
    for kind in KINDS {
        for entry in entries(&**disk, kind.folder)? {
            let path = format!("{}/{}", kind.folder, entry);
            if let Some(id) = kind.id_of(&entry) {
                report.files.push((kind.verify)(&**disk, &path, Owner { store, file_id: Some(id) }));
            } else if !(entry.starts_with("spare-") && kind.folder == "wal") {
                report.unknown.push(path);
            }
        }
    }
    if let Some((store, state)) = &newest {
        let missing = named_files(&**disk, *store, state, &mut report);
        // A file may have gone since the manifest was read, with the edit that says so.
        let still = manifest::newest(&**disk).map(|(_, state)| state);
        let named = |damage: &Damage| still.as_ref().is_none_or(|state| names(state, &damage.file));
        report.between.extend(missing.into_iter().filter(named));
    }
    logs::together(disk, newest.as_ref(), &mut report);
    Ok(report)
}

/// What is wrong with the files that the manifest names: gone, or not the file of which it speaks. A segment says as
/// much of itself as the manifest does.
fn named_files(disk: &dyn Disk, store: StoreId, state: &State, report: &mut CheckReport) -> Vec<Damage> {
    let mut wrong = Vec::new();
    let mut expect = |report: &CheckReport, file: String, part, expected: u64| {
        let found = report.files.iter().find(|known| known.file == file).map_or(0, |known| known.bytes);
        if found != expected {
            wrong.push(Damage { file, offset: 0, part, expected, found });
        }
        found == expected
    };
    for entry in &state.catalogs {
        expect(report, crate::catalog::file_path(entry.id), "catalog file", entry.file_bytes);
    }
    for entry in state.segments.values().filter(|entry| !entry.quarantined) {
        let there = expect(report, entry.path(), "segment file", entry.file_bytes);
        let whole = |file: &&mut FileReport| file.file == entry.path() && file.damage.is_empty();
        if there && let Some(file) = report.files.iter_mut().find(whole) {
            file.damage.extend(segment::differs_from(disk, entry, store));
        }
    }
    wrong
}

/// Paths of all sealed files that the manifest names, also of those that were set aside; none if it is not whole.
pub(crate) fn named_paths(disk: &dyn Disk) -> Option<BTreeSet<String>> {
    let state = manifest::whole(disk)?;
    let segments = state.segments.values().map(segment::SegmentEntry::path);
    Some(segments.chain(state.catalogs.iter().map(|entry| crate::catalog::file_path(entry.id))).collect())
}

/// Whether the manifest names that file as one that is true.
fn names(state: &State, path: &str) -> bool {
    state.segments.values().any(|entry| !entry.quarantined && entry.path() == path)
        || state.catalogs.iter().any(|entry| crate::catalog::file_path(entry.id) == path)
}

fn entries(disk: &dyn Disk, folder: &str) -> io::Result<Vec<String>> {
    match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => Ok(listed?.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect()),
    }
}

/// By the file's own name, so that a file copied elsewhere is known too; with the id in the name, if it has one.
fn kind_of(path: &str) -> io::Result<(&'static Kind, Option<u64>)> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some(found) = KINDS.iter().find_map(|kind| Some((kind, Some(kind.id_of(name)?)))) {
        return Ok(found);
    }
    let alike = |kind: &&Kind| {
        // Logs of two kinds share an ending.
        name.ends_with(kind.suffix) && (kind.suffix != ".log" || name.starts_with(kind.prefix))
    };
    KINDS.iter().find(alike).map(|kind| (kind, None)).ok_or_else(|| {
        let message = format!("{path}: no file of a store has such a name");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// Lines for the fields of a structure that starts at `base` in the file, as a list of names, offsets and lengths.
fn field_lines(parts: &[(&'static str, usize, usize)], bytes: &[u8], base: u64, out: &mut Vec<DumpLine>) {
    for &(part, offset, len) in parts {
        let Some(field) = bytes.get(offset..offset + len) else { continue };
        let value = if len <= 8 && !part.ends_with("magic") {
            let mut word = [0; 8];
            word[..len].copy_from_slice(field);
            let number = u64::from_le_bytes(word);
            if part.ends_with("crc") { format!("{number:#010x}") } else { number.to_string() }
        } else {
            field.escape_ascii().to_string()
        };
        out.push(DumpLine { offset: base + offset as u64, len: len as u64, part, value });
    }
}

/// Lines for the common header of a file.
fn header_lines(bytes: &[u8], out: &mut Vec<DumpLine>) {
    field_lines(file_header::PARTS, &bytes[..bytes.len().min(FILE_HEADER_LEN)], 0, out);
}

/// The whole of a file that cannot be read is damage at its start.
pub(crate) fn unreadable(path: &str, error: &io::Error) -> Damage {
    let found = os_code(error).map_or(u64::MAX, |code| code as u64);
    Damage { file: path.to_owned(), offset: 0, part: "read", expected: 0, found }
}

/// Whether damage is only that the machine lacked file descriptors or memory when the file was read.
pub(crate) fn is_want_of_resources(damage: &Damage) -> bool {
    damage.part == "read" && i32::try_from(damage.found).is_ok_and(crate::io::is_want_of_resources)
}

#[cfg(test)]
mod tests;
