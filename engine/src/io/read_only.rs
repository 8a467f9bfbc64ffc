//! A disk that nothing can be changed on: for tools that read a store which may be somebody's last copy.
//!
//! Invariant: no call reaches the disk behind it that could change a byte, a name or a length. What only makes durable or
//! lets go of caches is answered "done": there is nothing of ours to make durable.

use super::{Access, DirEntry, Disk, File, Lock, Map, Space};
use std::io;
use std::sync::Arc;

/// Another disk, to be read only.
#[derive(Debug)]
pub struct ReadOnlyDisk(Arc<dyn Disk>);

impl ReadOnlyDisk {
    /// Shows `disk`, and changes nothing on it.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self(disk)
    }
}

impl Disk for ReadOnlyDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Err(refused("create", path))
    }

    fn open(&self, path: &str, _: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(ReadOnlyFile { file: self.0.open(path, Access::Read)?, path: path.into() }))
    }

    fn rename(&self, from: &str, _: &str) -> io::Result<()> {
        Err(refused("rename", from))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        Err(refused("remove", path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        Err(refused("make directory", path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        Err(refused("lock", path))
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: Arc<dyn File>,
    path: Arc<str>,
}

impl File for ReadOnlyFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(refused("write", &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(refused("set length of", &self.path))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        self.file.map()
    }
}

fn refused(action: &str, path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, format!("{action} {path}: the store is only read"))
}
