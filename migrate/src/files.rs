//! The files of a tree: listed, read, decompressed, copied. Nothing is ever written beside the originals.
//!
//! The one home of `std::fs` in this crate.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the module that may; all of it reads, but for a copy in a temporary folder"
)]

use crate::error::Error;
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    File { bytes: u64 },
    Link,
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub path: PathBuf,
    pub name: String,
    pub kind: EntryKind,
}

/// The names in a folder, sorted. Links are not followed.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>, Error> {
    let failed = |source| Error::Io { action: "list", path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = match entry.file_type().map_err(failed)? {
            kind if kind.is_symlink() => EntryKind::Link,
            kind if kind.is_dir() => EntryKind::Folder,
            // A file that went since it was listed has no length, and reading it will tell.
            kind if kind.is_file() => {
                EntryKind::File { bytes: entry.metadata().map_or(0, |data| data.len()) }
            }
            _ => EntryKind::Other,
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(Entry { path: entry.path(), name, kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Length of a file that was named outright; links are followed.
pub(crate) fn length(path: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let data = fs::metadata(path).map_err(failed)?;
    if data.is_file() { Ok(data.len()) } else { Err(failed(io::Error::other("not a file"))) }
}

/// True if both paths lead to one file.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// The text of a file, and why it ends early, if it does.
#[derive(Debug)]
pub(crate) struct Text {
    pub bytes: Vec<u8>,
    pub broken: Option<String>,
}

/// Reads a file whole, decompressed if it is gzip. What came before damage in the compressed stream is kept.
///
/// # Errors
/// A sentence, if nothing of it can be read or it is longer than `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Text, String> {
    let mut file = fs::File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let mut head = [0; 2];
    let len = read_up_to(&mut file, &mut head).map_err(|error| format!("it cannot be read: {error}"))?;
    let whole = (&head[..len]).chain(file);
    let compressed = head == GZIP_MAGIC;
    let mut from: Box<dyn Read> =
        if compressed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut bytes = Vec::new();
    let ended = from.by_ref().take(limit.saturating_add(1)).read_to_end(&mut bytes);
    if bytes.len() as u64 > limit {
        return Err(format!("longer than {limit} bytes: raise the limit `json_file_bytes` if this is right"));
    }
    match ended {
        Ok(_) => Ok(Text { bytes, broken: None }),
        Err(error) if compressed => {
            let broken = Some(format!("the compressed stream breaks off here: {error}"));
            Ok(Text { bytes, broken })
        }
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

fn read_up_to(file: &mut fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// A copy of a store in a folder of its own, which goes when this goes.
#[derive(Debug)]
pub(crate) struct StoreCopy {
    pub database: PathBuf,
    _folder: TempDir,
}

/// Copies a store with its log. The index of the log (`-shm`) stays behind: SQLite builds it from the log, and a copied
/// one could hide frames that were written after it.
///
/// # Errors
/// [`Error::Limit`] above `limit` bytes, [`Error::StoreInUse`] if it changed during each of several attempts.
pub(crate) fn copy_store(path: &Path, into: Option<&Path>, limit: u64) -> Result<StoreCopy, Error> {
    copy_store_watched(path, into, limit, || ())
}

/// As [`copy_store`]; `copied` runs after each attempt, before it is judged.
fn copy_store_watched(
    path: &Path,
    into: Option<&Path>,
    limit: u64,
    mut copied: impl FnMut(),
) -> Result<StoreCopy, Error> {
    let into = into.map_or_else(std::env::temp_dir, Path::to_owned);
    let folder = tempfile::Builder::new()
        .prefix("wattlog-migrate-")
        .tempdir_in(&into)
        .map_err(|source| Error::Io { action: "make a temporary folder in", path: into.clone(), source })?;
    let database = folder.path().join("store.db");
    for _ in 0..COPY_ATTEMPTS {
        let before = stamps(path)?;
        let bytes: u64 = before.iter().flatten().map(|(len, _)| len).sum();
        if bytes > limit {
            let what = format!("{bytes} bytes with its log, more than {limit}");
            return Err(Error::Limit { limit: "store_bytes", path: path.to_owned(), what });
        }
        for (suffix, stamp) in SUFFIXES.iter().zip(&before) {
            let (from, to) = (with_suffix(path, suffix), with_suffix(&database, suffix));
            let ended = match stamp {
                Some(_) => fs::copy(&from, &to).map(drop),
                None if to.exists() => fs::remove_file(&to),
                None => Ok(()),
            };
            match ended {
                // It went since it was looked at: the stamps will differ.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
                Err(source) => return Err(Error::Io { action: "copy", path: from, source }),
                Ok(()) => {}
            }
        }
        copied();
        if stamps(path)? == before {
            return Ok(StoreCopy { database, _folder: folder });
        }
    }
    Err(Error::StoreInUse { path: path.to_owned() })
}

type Stamp = Option<(u64, Option<SystemTime>)>;

fn stamps(path: &Path) -> Result<[Stamp; 3], Error> {
    let mut stamps = [None; 3];
    for (suffix, stamp) in SUFFIXES.iter().zip(&mut stamps) {
        let path = with_suffix(path, suffix);
        *stamp = match fs::metadata(&path) {
            Ok(data) => Some((data.len(), data.modified().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => None,
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
    }
    Ok(stamps)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The database, its log, and the journal of the older mode.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];
const COPY_ATTEMPTS: u32 = 5;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, bytes: &[u8]) {
        use std::io::Write;
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn a_store_that_changes_during_every_copy_is_not_taken_half() {
        let folder = tempfile::tempdir().unwrap();
        let (store, log) = (folder.path().join("s.db"), folder.path().join("s.db-wal"));
        append(&store, b"pages");
        let error = copy_store_watched(&store, None, 1 << 20, || append(&log, b"a frame")).unwrap_err();
        assert!(matches!(error, Error::StoreInUse { .. }), "{error:?}");
        assert!(error.to_string().contains("stop the optimiser"), "{error}");
    }

    #[test]
    fn a_store_that_changed_during_one_copy_is_copied_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, log) = (folder.path().join("s.db"), folder.path().join("s.db-wal"));
        append(&store, b"pages");
        append(&log, b"frames");
        let mut times = 0;
        let copy = copy_store_watched(&store, None, 1 << 20, || {
            times += 1;
            if times == 1 {
                // The optimiser put its log away.
                append(&store, b" and more");
                fs::remove_file(&log).unwrap();
            }
        })
        .unwrap();
        assert_eq!(times, 2);
        assert_eq!(fs::read(&copy.database).unwrap(), b"pages and more");
        assert!(
            !with_suffix(&copy.database, "-wal").exists(),
            "a log that is gone is not left beside the new pages"
        );
    }

    #[test]
    fn a_store_above_the_limit_and_one_that_is_not_there_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("s.db");
        assert!(matches!(copy_store(&store, None, 1), Err(Error::Io { action: "read", .. })));
        append(&store, b"pages");
        let error = copy_store(&store, None, 4).unwrap_err();
        assert!(error.to_string().contains("`store_bytes`"), "{error}");
        let nowhere = folder.path().join("nowhere");
        let error = copy_store(&store, Some(&nowhere), 100).unwrap_err();
        assert!(error.to_string().starts_with("make a temporary folder in"), "{error}");
    }
}
