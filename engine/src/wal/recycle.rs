//! What becomes of logs whose records are sealed: spares for later logs, within a limit.
//!
//! A spare's blocks are allocated and written, so a log made from one costs no change of the file system's metadata at
//! each sync. Old bytes never count: a record's checksum covers the id of its log.

use super::record::{log_path, spare_number_of, spare_path};
use crate::ids::LogId;
use crate::io::Disk;
use std::io;
use std::sync::Arc;

/// Keeps spares.
#[derive(Debug)]
pub struct Recycler {
    /// Paths, oldest first.
    spares: Vec<String>,
    next_number: u64,
    max_spares: usize,
    damaged: Vec<LogId>,
}

impl Recycler {
    /// Takes over the spares that are there; at most `max_spares` are kept from now on. Logs in `damaged` are moved to
    /// `quarantine/` instead of being used again.
    pub fn open(disk: &dyn Disk, max_spares: usize, damaged: Vec<LogId>) -> io::Result<Self> {
        let mut numbers: Vec<u64> =
            disk.list("wal")?.iter().filter_map(|e| spare_number_of(&e.name)).collect();
        numbers.sort_unstable();
        let next_number = numbers.last().map_or(0, |last| last + 1);
        let spares = numbers.into_iter().map(spare_path).collect();
        Ok(Self { spares, next_number, max_spares, damaged })
    }

    /// A spare to make a log from, if there is one.
    pub fn take(&mut self) -> Option<String> {
        self.spares.pop()
    }

    /// Takes a log out of use whose every record is sealed, the manifest edit that says so being attested.
    pub fn retire(&mut self, disk: &Arc<dyn Disk>, log: LogId) -> io::Result<()> {
        let path = log_path(log);
        if self.damaged.contains(&log) {
            disk.rename(&path, &format!("quarantine/wal-{:016x}.log", log.0))?;
            disk.sync_dir("quarantine")?;
            return disk.sync_dir("wal");
        }
        if self.spares.len() < self.max_spares {
            let spare = spare_path(self.next_number);
            self.next_number += 1;
            disk.rename(&path, &spare)?;
            disk.sync_dir("wal")?;
            self.spares.push(spare);
            return Ok(());
        }
        disk.remove(&path)?;
        disk.sync_dir("wal")
    }
}
