//! Files and folders of the store: whose they are, which of them nothing names, and what becomes of those.

use crate::error::OpenError;
use crate::file_header::{FILE_HEADER_LEN, FileHeader};
use crate::ids::{SegmentId, StoreId};
use crate::io::{Access, Disk, ReadMode, in_context, open_sealed, read_exact_at};
use crate::manifest::State;
use crate::segment::{SegmentEntry, peek_identity};
use crate::wal::record::LOG_MAGIC;
use hashbrown::HashSet;
use std::io;

pub(super) const FOLDERS: [&str; 5] = ["manifest", "wal", "catalog", "segments", "quarantine"];

/// How names in `quarantine/` begin of files that nothing named: others hold what is in them, or deletes took it.
pub(crate) const UNUSED: &str = "unused-";

/// What becomes of files that a whole manifest does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orphans {
    /// They are of no use.
    Remove,
    /// They are moved to `quarantine/`: something is wrong with the store, and nothing shall be deleted.
    SetAside,
}

/// Whether a segment that should be there is not, or has another length.
pub(crate) fn names_missing_files(disk: &dyn Disk, state: &State) -> io::Result<bool> {
    let present = disk.list("segments")?;
    Ok(state.segments.values().filter(|entry| !entry.quarantined).any(|entry| {
        let path = entry.path();
        !present.iter().any(|file| path.ends_with(&file.name) && file.len == entry.file_bytes)
    }))
}

/// No manifest tells what is true. If no other file can be read either, the disk does not answer: what would be begun here takes
/// the place of what is there, and gives its ids to other names.
pub(super) fn refuse_if_nothing_is_read(disk: &dyn Disk) -> Result<(), OpenError> {
    match identity(disk).map_err(OpenError::disk("look for files of the store"))? {
        (None, Some(source)) => Err(OpenError::Disk { action: "read any file of the store", source }),
        _ => Ok(()),
    }
}

/// The identity in the header of any file that is there.
pub(crate) fn existing_identity(disk: &dyn Disk) -> io::Result<Option<StoreId>> {
    identity(disk).map(|(found, _)| found)
}

/// The same. If none is found: why a file that may tell it could not be read, where that was the disk's error.
fn identity(disk: &dyn Disk) -> io::Result<(Option<StoreId>, Option<io::Error>)> {
    let mut unread = None;
    let mut note = |error: io::Error| {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            unread = Some(error);
        }
    };
    for entry in disk.list("wal")?.iter().rev() {
        let path = format!("wal/{}", entry.name);
        let mut header = [0; FILE_HEADER_LEN];
        match disk.open(&path, Access::Read).and_then(|file| read_exact_at(&*file, 0, &mut header)) {
            Ok(()) => {
                if let Ok(header) = FileHeader::decode(&header, &path, LOG_MAGIC, None, None) {
                    return Ok((Some(header.store), None));
                }
            }
            Err(error) => note(in_context("read", &path, &error)),
        }
    }
    for entry in disk.list("segments")? {
        let path = format!("segments/{}", entry.name);
        match open_sealed(disk, &path, ReadMode::Pread) {
            Ok(map) => {
                if let Some((store, ..)) = peek_identity(&*map) {
                    return Ok((Some(store), None));
                }
                if map.is_poisoned() {
                    note(io::Error::other(format!("read {path}: a page could not be read")));
                }
            }
            Err(error) => note(error),
        }
    }
    Ok((None, unread))
}

pub(super) fn segment_id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".seg")?;
    u64::from_str_radix(digits, 16).ok().map(SegmentId)
}

/// Removes what a whole manifest does not name. A file that cannot be removed stays an orphan for the next opening.
pub(super) fn remove_orphans(disk: &dyn Disk, state: &State, orphans: Orphans) -> u64 {
    let mut removed = 0;
    let segments = state.segments.values().map(SegmentEntry::path);
    let named: HashSet<String> =
        segments.chain(state.catalogs.iter().map(|entry| crate::catalog::file_path(entry.id))).collect();
    for folder in ["segments", "catalog"] {
        let Ok(entries) = disk.list(folder) else { continue };
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let path = format!("{folder}/{}", entry.name);
            if named.contains(&path) {
                continue;
            }
            let gone = match orphans {
                Orphans::Remove => disk.remove(&path),
                Orphans::SetAside => set_aside_whole(disk, &path, UNUSED).map(drop),
            };
            if gone.is_ok() {
                tracing::info!(file = %path, ?orphans, "an unfinished or unused file was put out of the way");
                removed += 1;
            }
        }
    }
    removed
}

/// Moves a file to `quarantine/`, its name behind `prefix`; returns its new path, under which no other file is lost.
pub(crate) fn set_aside_whole(disk: &dyn Disk, path: &str, prefix: &str) -> io::Result<String> {
    let name = format!("{prefix}{}", path.rsplit('/').next().unwrap_or(path));
    let taken: HashSet<String> = disk.list("quarantine")?.into_iter().map(|entry| entry.name).collect();
    let numbered = (1_u32..).map(|number| format!("{name}.{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
    let aside = format!("quarantine/{}", free.unwrap_or_default());
    disk.rename(path, &aside)?;
    disk.sync_dir("quarantine")?;
    if let Some((folder, _)) = path.rsplit_once('/') {
        disk.sync_dir(folder)?;
    }
    Ok(aside)
}

pub(super) fn next_file(disk: &dyn Disk, state: &State) -> io::Result<u64> {
    let mut next = state.next_file.max(1);
    for folder in ["segments", "catalog"] {
        for entry in disk.list(folder)? {
            let digits = entry.name.split(['-', '.']).nth(1).and_then(|d| u64::from_str_radix(d, 16).ok());
            next = next.max(digits.map_or(0, |id| id + 1));
        }
    }
    Ok(next)
}
