//! Open files and maps of the simulated disk.

use super::SimDisk;
use super::content::Inode;
use super::faults::{CallKind, FaultError, SyncName};
use crate::io::interrupted::uninterrupted;
use crate::io::map::{checked_start, poisoned};
use crate::io::{Access, File, Map, in_context};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: Arc<Inode>,
    pub(super) path: Box<str>,
    pub(super) access: Access,
}

impl SimFile {
    fn writable(&self, action: &str) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(in_context(action, &self.path, &io::Error::from_raw_os_error(libc::EBADF))),
        }
    }

    fn error(&self, action: &str, fault: FaultError) -> io::Error {
        in_context(action, &self.path, &fault.to_error())
    }

    fn read_once(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf.len();
        self.disk.call(CallKind::Read, &self.path, format_args!("{offset}+{wanted}"), |state, fault| {
            let found = match fault {
                None => self.inode.0.lock().read(offset, buf),
                Some(_) => None,
            };
            let found = found.ok_or_else(|| self.error("read", fault.unwrap_or(FaultError::Eio)))?;
            state.control.counts.bytes_read += found as u64;
            Ok(found)
        })
    }

    fn write_once(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.call(
            CallKind::Write,
            &self.path,
            format_args!("{offset}+{}", bytes.len()),
            |state, fault| {
                let room = state.available_bytes();
                let mut content = self.inode.0.lock();
                let lacking = content.growth(offset, bytes.len() as u64).saturating_sub(room);
                let (fits, fault) = match fault {
                    Some(FaultError::ShortWrite | FaultError::Interrupted) => {
                        (state.control.rng.index(bytes.len().max(1)), fault)
                    }
                    Some(_) => (0, fault),
                    None if lacking > 0 => {
                        (bytes.len().saturating_sub(lacking as usize), Some(FaultError::NoSpace))
                    }
                    None => (bytes.len(), None),
                };
                content.write(offset, &bytes[..fits]);
                state.control.counts.bytes_written += fits as u64;
                fault.map_or(Ok(()), |fault| Err(self.error("write", fault)))
            },
        )
    }

    fn set_len_once(&self, len: u64) -> io::Result<()> {
        self.disk.call(CallKind::SetLen, &self.path, format_args!("{len}"), |_, fault| match fault {
            None => {
                self.inode.0.lock().set_len(len);
                Ok(())
            }
            Some(fault) => Err(self.error("set length of", fault)),
        })
    }

    fn sync_once(&self) -> io::Result<()> {
        self.disk.call(CallKind::SyncData, &self.path, format_args!(""), |state, fault| {
            if fault == Some(FaultError::Interrupted) {
                return Err(self.error("sync", FaultError::Interrupted));
            }
            if state.control.is_skipped(SyncName::of_file(&self.path)) {
                return Ok(());
            }
            let mut content = self.inode.0.lock();
            if let Some(fault) = fault {
                content.fail_sync(state.piece_bytes, &mut state.control.rng);
                return Err(self.error("sync", fault));
            }
            state.control.counts.bytes_synced += content.sync();
            Ok(())
        })
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.read_once(offset, buf))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable("write")?;
        uninterrupted(|| self.write_once(offset, bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.call(CallKind::Len, &self.path, format_args!(""), |_, fault| match fault {
            None => Ok(self.inode.0.lock().len()),
            Some(fault) => Err(self.error("ask length of", fault)),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable("set length of")?;
        uninterrupted(|| self.set_len_once(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        uninterrupted(|| self.sync_once())
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.disk.call(CallKind::ForgetCached, &self.path, format_args!(""), |_, fault| match fault {
            None => {
                self.inode.0.lock().forget_cached();
                Ok(())
            }
            Some(fault) => Err(self.error("forget cached pages of", fault)),
        })
    }

    fn map(&self) -> io::Result<Arc<dyn Map>> {
        self.disk.call(CallKind::Map, &self.path, format_args!(""), |_, fault| match fault {
            None => Ok(Arc::new(SimMap {
                disk: self.disk.clone(),
                inode: Arc::clone(&self.inode),
                path: self.path.clone(),
                len: self.inode.0.lock().len(),
                poisoned: AtomicBool::new(false),
            }) as Arc<dyn Map>),
            Some(fault) => Err(self.error("map", fault)),
        })
    }
}

/// A map sees its file as it is at each copy, as a real one does: a test may spoil the file under it.
#[derive(Debug)]
struct SimMap {
    disk: SimDisk,
    inode: Arc<Inode>,
    path: Box<str>,
    len: u64,
    poisoned: AtomicBool,
}

impl Map for SimMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        checked_start(offset, buf.len(), self.len, &self.path)?;
        let wanted = buf.len();
        self.disk.call(CallKind::MapCopy, &self.path, format_args!("{offset}+{wanted}"), |state, fault| {
            let whole = fault.is_none() && self.inode.0.lock().read(offset, buf) == Some(buf.len());
            if !whole {
                self.poisoned.store(true, Ordering::SeqCst);
            }
            if self.is_poisoned() {
                buf.fill(0);
                return Err(poisoned(&self.path));
            }
            state.control.counts.bytes_read += buf.len() as u64;
            Ok(())
        })
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }
}
