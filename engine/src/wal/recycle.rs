//! Log files that are no longer needed, kept for their blocks: a new log in an old file costs no allocation at its syncs.
//!
//! Names: `wal/spare-<n>.log`. What a spare holds is of an older log id and never passes for a record of the log it becomes.
//! A log may be retired only when everything in it is sealed, and a durable record attests the manifest's edit.

use crate::error::Damage;
use crate::ids::LogId;
use crate::io::{Access, Disk, in_context};
use crate::wal::record::{log_path, spare_number_of, spare_path};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Most spares kept.
pub const MAX_SPARES: usize = 4;
/// Longest file kept as a spare, in bytes: a log that one huge body blew up gives its space back.
pub const MAX_SPARE_BYTES: u64 = 32 << 20;
/// Bytes copied at once when damage is set aside.
const COPY_BYTES: usize = 1 << 20;

/// What becomes of a log that is no longer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// Its file is kept for a later log.
    Spare,
    /// Its file goes: a sync of it failed, so no later sync of it says anything.
    Removed,
}

/// The spares of a store.
#[derive(Debug, Default)]
pub struct Recycler {
    /// Numbers of the spares whose names are durable, oldest first.
    spares: VecDeque<u64>,
    next: u64,
}

impl Recycler {
    /// Finds the spares that are there, and removes those beyond the limits.
    pub fn open(disk: &Arc<dyn Disk>) -> io::Result<Self> {
        let mut recycler = Self { spares: VecDeque::new(), next: 1 };
        let entries = match disk.list("wal") {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recycler),
            Err(error) => return Err(error),
        };
        // Their names may be in no durable folder yet, if a killed process made them.
        disk.sync_dir("wal")?;
        for entry in entries {
            let Some(number) = spare_number_of(&entry.name) else { continue };
            recycler.next = recycler.next.max(number.saturating_add(1));
            if recycler.spares.len() >= MAX_SPARES || entry.len > MAX_SPARE_BYTES {
                discard(disk, &spare_path(number));
            } else {
                recycler.spares.push_back(number);
            }
        }
        Ok(recycler)
    }

    /// Path of a spare to make a log of. It is not offered again, whatever becomes of it.
    pub fn take(&mut self) -> Option<String> {
        self.spares.pop_front().map(spare_path)
    }

    /// Number of spares.
    pub fn len(&self) -> usize {
        self.spares.len()
    }

    /// True if there is no spare.
    pub fn is_empty(&self) -> bool {
        self.spares.is_empty()
    }

    /// Takes the log out of use: it becomes a spare, or is removed if there are enough or if it may not be used again.
    ///
    /// # Errors
    /// The disk's. The log may or may not still be there; replay of a sealed log does no harm, and retiring it again is
    /// allowed.
    pub fn retire(&mut self, disk: &Arc<dyn Disk>, log: LogId, then: Retired) -> io::Result<()> {
        let path = log_path(log);
        let len = match disk.open(&path, Access::Read).and_then(|file| file.len()) {
            Ok(len) => len,
            // Retired before, in an attempt whose sync failed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return disk.sync_dir("wal"),
            Err(error) => return Err(error),
        };
        if then == Retired::Removed || self.spares.len() >= MAX_SPARES || len > MAX_SPARE_BYTES {
            disk.remove(&path)?;
            return disk.sync_dir("wal");
        }
        let number = self.next;
        self.next += 1;
        disk.rename(&path, &spare_path(number))?;
        // Until the new name is durable the file may come back as the log it was: it must not be written to.
        disk.sync_dir("wal")?;
        self.spares.push_back(number);
        Ok(())
    }
}

/// Copies `len` bytes from `offset` of a damaged file into `quarantine/`, durable, before the file is recycled or removed.
/// Returns the path of the copy. A copy that is there already, from an earlier opening, is left as it is.
pub fn set_aside(disk: &dyn Disk, damage: &Damage, offset: u64, len: u64) -> io::Result<String> {
    let name = damage.file.rsplit('/').next().unwrap_or_default();
    let path = format!("quarantine/{name}-at-{offset}.bin");
    disk.create_dir("quarantine")?;
    let to = match disk.create(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(path),
        Err(error) => return Err(error),
    };
    let from = disk.open(&damage.file, Access::Read)?;
    let mut buf = vec![0; COPY_BYTES.min(usize::try_from(len).unwrap_or(COPY_BYTES))];
    let mut done = 0;
    while done < len {
        let piece = buf.len().min(usize::try_from(len - done).unwrap_or(usize::MAX));
        let read = from.read_at(offset + done, &mut buf[..piece])?;
        if read == 0 {
            break;
        }
        to.write_at(done, &buf[..read])?;
        done += read as u64;
    }
    to.sync_data().map_err(|error| in_context("sync", &path, &error))?;
    disk.sync_dir("quarantine")?;
    disk.sync_dir("")?;
    Ok(path)
}

fn discard(disk: &Arc<dyn Disk>, path: &str) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!(file = %path, %error, "a spare log could not be removed");
    }
}
