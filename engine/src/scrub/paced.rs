//! Reading a file from the device, not from memory, no faster than allowed, and until the store closes: the disk that a
//! scrub verifies files on.

use super::Orders;
use crate::io::{Access, DirEntry, Disk, File, Lock, Map, Space};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wattlog_model::Clock;

/// How fast reading may go, over the files of one run of the process.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    orders: Arc<Orders>,
    bytes_per_second: u64,
    /// Bytes read since `since`, on the monotonic clock.
    read: AtomicU64,
    since_ns: AtomicU64,
}

/// Unused time counts no longer than this: no burst after a pause.
const MEMORY: Duration = Duration::from_secs(1);

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>, orders: Arc<Orders>, bytes_per_second: u64) -> Arc<Self> {
        let since_ns = AtomicU64::new(nanos(clock.monotonic()));
        Arc::new(Self { clock, orders, bytes_per_second, read: AtomicU64::new(0), since_ns })
    }

    /// Waits until `bytes` more may be read. `Interrupted` if the store closes.
    fn spend(&self, bytes: u64) -> io::Result<()> {
        loop {
            if self.orders.stop.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the store is closing"));
            }
            if self.orders.waiting.load(Ordering::Relaxed) > 0 || self.bytes_per_second == 0 {
                return Ok(());
            }
            let now = nanos(self.clock.monotonic());
            let elapsed = Duration::from_nanos(now.saturating_sub(self.since_ns.load(Ordering::Relaxed)));
            let owed = self.read.load(Ordering::Relaxed) as f64 / self.bytes_per_second as f64;
            if elapsed.as_secs_f64() >= owed {
                if elapsed.as_secs_f64() > owed + MEMORY.as_secs_f64() {
                    self.since_ns.store(now, Ordering::Relaxed);
                    self.read.store(0, Ordering::Relaxed);
                }
                self.read.fetch_add(bytes, Ordering::Relaxed);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A disk whose files are read at a pace.
#[derive(Debug)]
pub(super) struct PacedDisk {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) pace: Arc<Pace>,
}

impl Disk for PacedDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(path)
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, access)?;
        // What memory holds may be better than what the device holds.
        if let Err(error) = file.forget_cached() {
            tracing::debug!(file = path, %error, "cached pages are read instead of the device");
        }
        Ok(Arc::new(PacedFile { file, pace: Arc::clone(&self.pace) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

#[derive(Debug)]
struct PacedFile {
    file: Arc<dyn File>,
    pace: Arc<Pace>,
}

impl File for PacedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pace.spend(buf.len() as u64)?;
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.file.forget_cached()
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        self.file.map()
    }
}
