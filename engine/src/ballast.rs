//! A file of no content that is given up when the disk is full, so that what is in memory can still be sealed.

use crate::io::Disk;
use parking_lot::Mutex;
use std::io;

const PATH: &str = "ballast";
const PIECE_BYTES: usize = 1 << 20;

/// The reserve of one store.
#[derive(Debug)]
pub(crate) struct Ballast {
    bytes: u64,
    laid: Mutex<bool>,
}

impl Ballast {
    /// A reserve of `bytes`; zero means none.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { bytes, laid: Mutex::new(false) }
    }

    /// Makes sure that the reserve is there. A disk without room for it is no error: it is laid again after a seal.
    pub(crate) fn lay(&self, disk: &dyn Disk) {
        let mut laid = self.laid.lock();
        if *laid || self.bytes == 0 {
            return;
        }
        match self.write(disk) {
            Ok(()) => *laid = true,
            Err(error) => {
                tracing::warn!(%error, bytes = self.bytes, "no room for the ballast");
                // A part of a reserve is no reserve; what it took is better free.
                let _ = disk.remove(PATH);
            }
        }
    }

    /// Gives the reserve up; true if there was one.
    pub(crate) fn release(&self, disk: &dyn Disk) -> bool {
        let mut laid = self.laid.lock();
        let released = *laid && disk.remove(PATH).and_then(|()| disk.sync_dir("")).is_ok();
        *laid = false;
        released
    }

    fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let present = disk.list("")?.into_iter().find(|entry| entry.name == PATH).map(|entry| entry.len);
        match present {
            Some(len) if len == self.bytes => return Ok(()),
            Some(_) => disk.remove(PATH)?,
            None => {}
        }
        // A little more than is taken must be free, or laying the reserve would itself fill the disk.
        if disk.available_bytes()? < self.bytes.saturating_mul(2) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = disk.create(PATH)?;
        // Real bytes, not a hole: only allocated blocks come back when the file goes.
        let piece = vec![0xa5; PIECE_BYTES];
        let mut at = 0;
        while at < self.bytes {
            let len = piece.len().min((self.bytes - at) as usize);
            file.write_at(at, &piece[..len])?;
            at += len as u64;
        }
        file.sync_data()?;
        disk.sync_dir("")
    }
}
