//! The storage seam: every byte the engine keeps goes through [`Disk`], [`File`] and [`Map`].
//!
//! Three homes of bytes stand behind it: [`os`] is the real disk, [`sim`] a seeded one in memory that loses, tears and
//! refuses what a real one may, and [`map`] the one place that maps files. The rest of the engine knows no paths of the
//! machine, no descriptors and no `std::fs`.
//!
//! What the engine may rely on, and nothing else
//! 1. `sync_data` that returned `Ok` made all bytes and the length of that file durable, written by any handle before it began.
//! 2. A name (create, rename, remove, new directory) is durable only after `sync_dir` of the directory that holds it.
//! 3. Without a sync any part of what was written may be there after a power cut, in pieces of 512 bytes, in any order;
//!    the length may be there without the bytes.
//! 4. A rename inside one directory is atomic: either name is there, never neither.
//! 5. After an error from `sync_data` the bytes it covered are in an unknown state, and a later `Ok` says nothing of them.
//! 6. No call fails because a signal cut it short (`interrupted`).
//!
//! Threads: all three traits may be used from any number of threads; two writes to overlapping bytes at once are the
//! caller's mistake. Not here: what the files mean.

mod ahead;
mod interrupted;
pub mod map;
pub mod os;
pub mod read_only;
pub(crate) mod reread;
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// The folder of one store.
///
/// Paths are relative to it, ASCII, separated by `/` and never climb: `wal/wal-0000000000000001.log`. The folder itself
/// is the empty path. Errors name the action and the path in their text and keep the kind of their cause.
pub trait Disk: Send + Sync + Debug {
    /// Makes a new, empty file for reading and writing. `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file that is there.
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file's name away; handles and maps of it stay good.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a directory; `Ok` if it is there already. Its parent must exist.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// What a directory holds, sorted by name.
    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Keeps every other process out until the lock is dropped. `WouldBlock`, naming the holder, if one is in.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>>;
    /// How much room there is; a hint, true only for the moment.
    fn space(&self) -> io::Result<Space>;
    /// Bytes that can still be written before the disk is full.
    fn available_bytes(&self) -> io::Result<u64> {
        self.space().map(|space| space.available_bytes)
    }
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads at `offset`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, or fails; on an error any part may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file, or grows it by zeros that take no space until they are written.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes data and length durable. After an error the file is dead: see the module's point 5.
    fn sync_data(&self) -> io::Result<()>;
    /// Lets go of what memory holds of the file, so that later reads tell what the device holds: after a failed sync the
    /// two may differ, for all a later `Ok` of `sync_data` says. A wish; bytes that are not synced stay as they are.
    fn forget_cached(&self) -> io::Result<()>;
    /// Maps the whole file for reading. Only for sealed files: never again written, never cut.
    fn map(&self) -> io::Result<Arc<dyn Map>>;
}

/// The bytes of a sealed file.
///
/// Gives copies only, never a slice: a page can be evicted and read again from bad flash, so what was checked must be
/// what is decoded.
pub trait Map: Send + Sync + Debug {
    /// Length when it was opened.
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buf` from `offset`. `UnexpectedEof` if that reaches beyond the end. Once a page of the file could not be
    /// read, every copy fails with kind `Other`: the content of `buf` must not be used after any error.
    fn copy_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Whether a page of the file could not be read since it was opened.
    fn is_poisoned(&self) -> bool;
}

/// Room on the file system of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written before it is full.
    pub available_bytes: u64,
    /// Bytes that it holds when it is full.
    pub total_bytes: u64,
}

/// Held for as long as a store is open.
pub trait Lock: Send + Sync + Debug {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: String,
    /// Bytes; zero for a directory.
    pub len: u64,
    pub is_dir: bool,
}

/// How sealed files are read. Both ways give the same bytes and the same errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    Map,
    Pread,
}

impl Default for ReadMode {
    /// Maps, but where addresses are too few for a store's worth of them.
    fn default() -> Self {
        if cfg!(target_pointer_width = "64") { Self::Map } else { Self::Pread }
    }
}

/// Opens a sealed file for reading.
pub fn open_sealed(disk: &dyn Disk, path: &str, mode: ReadMode) -> io::Result<Arc<dyn Map>> {
    let file = disk.open(path, Access::Read)?;
    match mode {
        ReadMode::Map => file.map(),
        ReadMode::Pread => Ok(Arc::new(map::PreadMap::new(file, path)?)),
    }
}

/// Fills `buf` from `offset`; `UnexpectedEof` if the file ends first.
pub fn read_exact_at(file: &dyn File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let found = file.read_at(offset, buf)?;
    if found == buf.len() {
        return Ok(());
    }
    let wanted = buf.len();
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("wanted {wanted} bytes at offset {offset}, the file holds {found} of them"),
    ))
}

/// The whole of a file of at most `limit` bytes; `FileTooLarge` beyond that, before anything is read.
pub fn read_all(disk: &dyn Disk, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let len = file.len()?;
    let size = usize::try_from(len).ok().filter(|_| len <= limit).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("read {path}: {len} bytes, at most {limit} were expected"),
        )
    })?;
    let mut bytes = vec![0; size];
    read_exact_at(file.as_ref(), 0, &mut bytes).map_err(|error| in_context("read", path, &error))?;
    Ok(bytes)
}

/// Whether an error says that there is no room, so that the same call may succeed once there is.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Says what was being done to which file. The kind stays; the text of the cause is part of the new one.
pub(crate) fn in_context(action: &str, path: &str, error: &io::Error) -> io::Error {
    let name = if path.is_empty() { "the data directory" } else { path };
    let context = InContext { text: format!("{action} {name}: {error}"), code: os_code(error) };
    io::Error::new(error.kind(), context)
}

/// A system error with the call and the path it met.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct InContext {
    text: String,
    code: Option<i32>,
}

/// The system's number of an error, also where the call and the path were added to it.
pub(crate) fn os_code(error: &io::Error) -> Option<i32> {
    let inner = || error.get_ref()?.downcast_ref::<InContext>()?.code;
    error.raw_os_error().or_else(inner)
}

/// Whether that number says that the machine lacks file descriptors or memory: then nothing is known about the file.
pub(crate) fn is_want_of_resources(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOMEM)
}

/// Refuses what is no path of a store, before it can name a file outside its folder.
fn checked(path: &str) -> io::Result<&str> {
    let sane = path.is_empty()
        || path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b':')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if sane {
        Ok(path)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} is no path inside a store")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_inside_the_store_are_taken() {
        for good in ["", "LOCK", "wal/wal-01.log", "a/b/c.tmp", "..a"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["/", "/etc", "a/", "a//b", ".", "..", "wal/../x", "a\\b", "c:x", "a b", "\u{e9}", "a\0"] {
            assert_eq!(checked(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn an_error_keeps_its_kind_and_names_the_file() {
        let error = in_context("write", "wal/a.log", &io::Error::from(io::ErrorKind::StorageFull));
        assert!(is_full(&error));
        assert!(error.to_string().starts_with("write wal/a.log: "), "{error}");
    }
}
