//! A sealed file that is opened anew when a page of it could not be read.
//!
//! Promise: one page that could not be read, once or for good, costs only the reads that need it. A map is poisoned as a
//! whole by one fault; what is opened in its place reads by `pread` and is asked again.

use super::{Disk, Map, ReadMode, open_sealed};
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct RereadMap {
    disk: Arc<dyn Disk>,
    path: Box<str>,
    len: u64,
    current: RwLock<Arc<dyn Map>>,
}

impl RereadMap {
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &str, mode: ReadMode) -> io::Result<Self> {
        let current = open_sealed(&**disk, path, mode)?;
        Ok(Self { disk: disk.clone(), path: path.into(), len: current.len(), current: RwLock::new(current) })
    }
}

impl Map for RereadMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let current = self.current.read().clone();
        let error = match current.copy_at(offset, buf) {
            Err(error) if current.is_poisoned() => error,
            result => return result,
        };
        let again = open_sealed(&*self.disk, &self.path, ReadMode::Pread)?;
        if again.len() != self.len {
            return Err(error);
        }
        again.copy_at(offset, buf)?;
        *self.current.write() = again;
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        self.current.read().is_poisoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{CallKind, Fault, FaultError, Lasting, SimDisk};

    #[test]
    fn a_page_that_fails_once_is_read_again_and_one_that_is_gone_costs_itself() {
        let sim = SimDisk::new(1);
        let bytes: Vec<u8> = (0..3 * 4096_u32).map(|i| (i % 251) as u8).collect();
        sim.write_file("a", bytes.clone());
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        for mode in [ReadMode::Map, ReadMode::Pread] {
            let map = RereadMap::open(&disk, "a", mode).unwrap();
            let kind = if mode == ReadMode::Map { CallKind::MapCopy } else { CallKind::Read };
            sim.inject(Fault::at(1, FaultError::Eio, Lasting::Once).on(kind));
            let mut buf = [0; 100];
            map.copy_at(5000, &mut buf).unwrap();
            assert_eq!(buf, bytes[5000..5100]);
        }
        let map = RereadMap::open(&disk, "a", ReadMode::Map).unwrap();
        sim.spoil_page("a", 4096);
        let mut buf = [0; 100];
        assert!(map.copy_at(5000, &mut buf).is_err());
        map.copy_at(8192, &mut buf).unwrap();
        assert_eq!(buf, bytes[8192..8292]);
    }
}
