//! The real disk: one folder of the machine's file system. The only module of the engine that uses `std::fs`.
//!
//! Invariants
//! 1. Directories are made with mode 0700 and files with 0600, whatever the umask: a household's habits are in them.
//! 2. Every directory made above the store's folder is synced into its parent before the store is used.
//! 3. Calls cut short by a signal are made again (`interrupted`); a short read or write goes on where it stopped.
//!
//! Crash behaviour is that of the file system; what the engine assumes of it stands in the parent module.

use super::interrupted::uninterrupted;
use super::map::{MappedFile, PreadMap};
use super::{Access, DirEntry, Disk, File, Lock, Map, Space, checked, in_context};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder on a real disk.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// Uses `root`, making it and what is missing above it.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        make_root(&root).map_err(|error| {
            io::Error::new(error.kind(), format!("make data directory {}: {error}", root.display()))
        })?;
        Ok(Self { root })
    }

    /// The folder, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        Ok(self.root.join(checked(path)?))
    }

    fn file(&self, action: &str, path: &str, options: &fs::OpenOptions) -> io::Result<Arc<dyn File>> {
        let file = options.open(self.resolve(path)?).map_err(|error| in_context(action, path, &error))?;
        Ok(Arc::new(OsFile { file: Arc::new(file), path: path.into() }))
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.file(
            "create",
            path,
            fs::OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE),
        )
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.file("open", path, fs::OpenOptions::new().read(true).write(access == Access::ReadWrite))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
            .map_err(|error| in_context(&format!("rename {from} to"), to, &error))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?).map_err(|error| in_context("remove", path, &error))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let full = self.resolve(path)?;
        match fs::DirBuilder::new().mode(DIR_MODE).create(&full) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && full.is_dir() => Ok(()),
            other => other.map_err(|error| in_context("make directory", path, &error)),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let read = || {
            let mut entries = Vec::new();
            for entry in fs::read_dir(self.resolve(dir)?)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    // Removed by another thread since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    other => other?,
                };
                entries.push(DirEntry {
                    // A name that is not text is none of ours; it is shown, and no call can be made with it.
                    name: entry.file_name().to_string_lossy().into_owned(),
                    len: if metadata.is_dir() { 0 } else { metadata.len() },
                    is_dir: metadata.is_dir(),
                });
            }
            entries.sort_unstable();
            Ok(entries)
        };
        read().map_err(|error| in_context("list", dir, &error))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_folder(&self.resolve(dir)?).map_err(|error| in_context("sync directory", dir, &error))
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        let full = self.resolve(path)?;
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&full)
            .map_err(|error| in_context("open lock", path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&full).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "another process".into(),
                    pid => format!("process {pid}"),
                };
                return Err(io::Error::new(
                    ErrorKind::WouldBlock,
                    format!("{} is in use by {holder}", self.root.display()),
                ));
            }
            Err(fs::TryLockError::Error(error)) => return Err(in_context("lock", path, &error)),
        }
        // The number is for the message above; a disk too full for it must not keep a store from being opened and read.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(OsLock { _file: file }))
    }

    fn space(&self) -> io::Result<Space> {
        super::map::space(&self.root).map_err(|error| in_context("ask free space of", "", &error))
    }
}

#[derive(Debug)]
struct OsFile {
    /// Shared with the twin of a map, which reads on after this handle is gone.
    file: Arc<fs::File>,
    path: Arc<str>,
}

impl OsFile {
    fn named<T>(&self, action: &str, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| in_context(action, &self.path, &error))
    }
}

impl File for OsFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            let count = uninterrupted(|| self.file.read_at(&mut buf[filled..], offset + filled as u64));
            match self.named("read", count)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let count = uninterrupted(|| self.file.write_at(&bytes[written..], offset + written as u64));
            match self.named("write", count)? {
                0 => return self.named("write", Err(ErrorKind::WriteZero.into())),
                count => written += count,
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.named("ask length of", self.file.metadata().map(|metadata| metadata.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.named("set length of", uninterrupted(|| plain::set_len(&self.file, len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.named("sync", uninterrupted(|| plain::sync_data(&self.file)))
    }

    fn forget_cached(&self) -> io::Result<()> {
        // Elsewhere there is no such call, and it is only a wish.
        #[cfg(target_os = "linux")]
        {
            let forgotten = rustix::fs::fadvise(&*self.file, 0, None, rustix::fs::Advice::DontNeed);
            self.named("forget cached pages of", forgotten.map_err(io::Error::from))?;
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        let len = self.len()?;
        if let Some(map) = self.named("map", MappedFile::new(self.file.as_ref(), len, &self.path))? {
            return Ok(Arc::new(map));
        }
        // No room for one more watched map: the twin gives the same bytes, a little slower.
        let twin = Self { file: Arc::clone(&self.file), path: Arc::clone(&self.path) };
        Ok(Arc::new(PreadMap::new(Arc::new(twin), &self.path)?))
    }
}

/// The kernel lets go of the lock with the last descriptor of the file, also when the process is killed.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

fn make_root(root: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut above = Some(root);
    while let Some(path) = above.filter(|path| !path.is_dir()) {
        missing.push(path);
        above = path.parent();
    }
    for path in missing.iter().rev() {
        match fs::DirBuilder::new().mode(DIR_MODE).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        if let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
    }
    if missing.is_empty()
        && let Some(parent) = root.parent()
    {
        // A start that ended between making the folder and syncing its parent left the name to chance. A parent that
        // may not be read (a mount point, a service's home) was made by somebody else, long ago.
        let _ = sync_folder(parent);
    }
    Ok(())
}

// On Linux by the plain calls: those of the standard library begin again after a signal for as long as it takes. (So does its
// `open`, which is left as it is: nothing waits behind it.)
#[cfg(target_os = "linux")]
mod plain {
    use std::{fs::File, io};

    pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(file, len)?)
    }

    pub(super) fn sync_data(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    pub(super) fn sync_all(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }
}

// Elsewhere a sync is more than one plain call.
#[cfg(not(target_os = "linux"))]
mod plain {
    use std::{fs::File, io};

    pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    pub(super) fn sync_data(file: &File) -> io::Result<()> {
        file.sync_data()
    }

    pub(super) fn sync_all(file: &File) -> io::Result<()> {
        file.sync_all()
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = fs::File::open(path)?;
    match uninterrupted(|| plain::sync_all(&folder)) {
        // Some network file systems have no such call and keep names by themselves.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{ReadMode, open_sealed, read_all, read_exact_at};
    use std::os::unix::fs::PermissionsExt;

    fn disk() -> (tempfile::TempDir, OsDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(&folder.path().join("above/store")).unwrap();
        (folder, disk)
    }

    #[test]
    fn makes_its_folder_and_those_above_for_the_owner_alone() {
        let (_folder, disk) = disk();
        disk.create_dir("wal").unwrap();
        disk.create_dir("wal").unwrap();
        disk.create("wal/a.log").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(disk.root()), 0o700);
        assert_eq!(mode(disk.root().parent().unwrap()), 0o700);
        assert_eq!(mode(&disk.root().join("wal")), 0o700);
        assert_eq!(mode(&disk.root().join("wal/a.log")), 0o600);
        OsDisk::new(disk.root()).unwrap();
    }

    #[test]
    fn files_are_written_read_renamed_listed_and_removed() {
        let (_folder, disk) = disk();
        let file = disk.create("a").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_at(2, b"cd").unwrap();
        file.write_at(0, b"ab").unwrap();
        file.sync_data().unwrap();
        let mut buf = [0; 8];
        assert_eq!(file.read_at(1, &mut buf).unwrap(), 3);
        assert_eq!(&buf[..3], b"bcd");
        assert_eq!(file.read_at(9, &mut buf).unwrap(), 0);
        assert_eq!(read_exact_at(file.as_ref(), 1, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);

        disk.create_dir("dir").unwrap();
        disk.create("dir/b").unwrap();
        disk.rename("a", "dir/b").unwrap();
        disk.sync_dir("dir").unwrap();
        disk.sync_dir("").unwrap();
        let entry = |name: &str, len, is_dir| DirEntry { name: name.into(), len, is_dir };
        assert_eq!(disk.list("").unwrap(), [entry("dir", 0, true)]);
        assert_eq!(disk.list("dir").unwrap(), [entry("b", 4, false)]);
        assert_eq!(read_all(&disk, "dir/b", 4).unwrap(), b"abcd");
        assert_eq!(read_all(&disk, "dir/b", 3).unwrap_err().kind(), ErrorKind::FileTooLarge);

        file.set_len(1).unwrap();
        assert_eq!(file.len().unwrap(), 1);
        disk.remove("dir/b").unwrap();
        let error = disk.open("dir/b", Access::Read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("dir/b"), "{error}");
        assert_eq!(disk.list("gone").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_handle_for_reading_cannot_write() {
        let (_folder, disk) = disk();
        disk.create("a").unwrap();
        assert!(disk.open("a", Access::Read).unwrap().write_at(0, b"x").is_err());
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let (_folder, disk) = disk();
        let lock = disk.lock("LOCK").unwrap();
        let error = disk.lock("LOCK").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        disk.lock("LOCK").unwrap();
    }

    #[test]
    fn both_ways_of_reading_give_the_same_bytes_and_errors() {
        let (_folder, disk) = disk();
        let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
        disk.create("full").unwrap().write_at(0, &bytes).unwrap();
        disk.create("empty").unwrap();
        for mode in [ReadMode::Map, ReadMode::Pread] {
            let map = open_sealed(&disk, "full", mode).unwrap();
            assert_eq!(map.len(), 10_000);
            let mut buf = [0; 5000];
            map.copy_at(4096, &mut buf).unwrap();
            assert_eq!(buf, bytes[4096..9096]);
            map.copy_at(10_000, &mut []).unwrap();
            for (offset, len) in [(5001, 5000), (10_001, 0), (u64::MAX, 1)] {
                let error = map.copy_at(offset, &mut buf[..len]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            }
            assert!(!map.is_poisoned());
            let empty = open_sealed(&disk, "empty", mode).unwrap();
            assert!(empty.is_empty());
            assert_eq!(empty.copy_at(0, &mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn free_space_is_asked_of_the_file_system() {
        let (_folder, disk) = disk();
        assert!(disk.available_bytes().unwrap() > 0);
    }
}
