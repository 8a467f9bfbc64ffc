//! A disk in memory that does to a store what real ones do on bad days, by seed.
//!
//! Each file is a durable image and a list of unsynced changes; names are a durable tree and a list of unsynced
//! operations. Only `sync_data` and `sync_dir` carry from list to image. Then
//! * **power cut** ([`SimDisk::cut`], [`SimDisk::cut_at_call`]): any part of the lists survives, in pieces of 512 bytes (or
//!   what [`SimDisk::set_piece_bytes`] says) and whole operations on names; lengths are apart from bytes; see [`Cut`];
//! * **failing calls** ([`SimDisk::inject`]): EIO, ENOSPC, short writes, EINTR at the Nth call, once or for good; a failed sync
//!   forgets what it was to keep, and the next one says that all is well;
//! * **full disk** ([`SimDisk::set_capacity_bytes`]): writes stop at the byte where the room ends, until files are removed
//!   or cut; growing a file by `set_len` reserves nothing;
//! * **lying disk** ([`SimDisk::set_lying`]): syncs do nothing and say they did; **skipped sync** ([`SimDisk::skip_sync`]):
//!   only those of one named kind of file or directory, to prove that a test suite would notice;
//! * **decay** ([`SimDisk::flip_bit`], [`SimDisk::spoil_page`]): a bit changes, a page cannot be read any more (EIO by
//!   `read_at`, a poisoned map by `copy_at`).
//!
//! The same calls in the same order with the same seed give the same disk. Each call holds one lock, so any number of
//! threads may use it; their order is then theirs.
//!
//! Not modelled: times, permissions, hard links, one file's writes becoming durable by another file's sync.

mod content;
mod cut;
mod faults;
mod file;
mod names;
mod rng;
#[cfg(test)]
mod tests;

pub use cut::{Cut, Survives};
pub use faults::{CallKind, Counts, CutMoment, Fault, FaultError, Lasting, SyncName};
pub use rng::Rng;

use super::interrupted::uninterrupted;
use super::{Access, DirEntry, Disk, File, Lock, Space, checked, in_context};
use content::Inode;
use faults::{Control, Ruling, no_power};
use file::SimFile;
use names::{Entry, Names, parent};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Arguments;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A handle on a simulated disk; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    names: Names,
    control: Control,
    locks: BTreeSet<String>,
    piece_bytes: usize,
    capacity_bytes: Option<u64>,
}

impl State {
    fn disk(names: Names, rng: Rng, piece_bytes: usize, capacity_bytes: Option<u64>) -> SimDisk {
        let control = Control::new(rng);
        let state = Self { names, control, locks: BTreeSet::new(), piece_bytes, capacity_bytes };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Room left for files that have names.
    fn available_bytes(&self) -> u64 {
        let Some(capacity) = self.capacity_bytes else { return UNLIMITED_BYTES };
        let used = self.names.files().map(|(_, inode)| inode.0.lock().allocated()).sum();
        capacity.saturating_sub(used)
    }

    fn file(&self, path: &str) -> io::Result<&Arc<Inode>> {
        match self.names.current.get(path) {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Dir) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn expect_dir(&self, dir: &str) -> io::Result<()> {
        if self.names.has_dir(dir) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }
}

/// The disk as its owner, the test, sees it. None of these calls is counted or can fail by a fault.
impl SimDisk {
    /// An empty disk; `seed` decides what chance does outside of cuts.
    pub fn new(seed: u64) -> Self {
        State::disk(Names::default(), Rng::new(seed), SECTOR_BYTES, None)
    }

    /// Takes the power away, for good. What comes back is another disk, with no faults armed, no locks held, counters at
    /// zero; every call on this one fails from now on. Cutting the same disk again gives another way it could come back.
    #[must_use]
    pub fn cut(&self, cut: Cut) -> Self {
        let mut state = self.state.lock();
        state.control.switch_off();
        let names = cut.apply(&state.names, state.piece_bytes);
        State::disk(names, Rng::new(cut.seed).split(), state.piece_bytes, state.capacity_bytes)
    }

    /// Takes the power away at the `nth` call from now, 1 being the next. [`SimDisk::cut`] then gives what is left.
    pub fn cut_at_call(&self, nth: u64, moment: CutMoment) {
        self.state.lock().control.cut_at(nth, moment);
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.state.lock().control.is_off()
    }

    /// A second disk in the same state, unsynced things included; no faults armed, counters at zero. Cheap: bytes are
    /// shared until one side writes.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state.lock();
        let mut copies: HashMap<*const Inode, Arc<Inode>> = HashMap::new();
        let names = state.names.over(|inode| {
            let copy = copies
                .entry(Arc::as_ptr(inode))
                .or_insert_with(|| Arc::new(Inode(Mutex::new(inode.0.lock().clone()))));
            Arc::clone(copy)
        });
        let rng = state.control.rng.split();
        State::disk(names, rng, state.piece_bytes, state.capacity_bytes)
    }

    /// Makes everything durable, as a disk left alone for a while does.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.names.settle();
        state.names.files().for_each(|(_, inode)| inode.0.lock().settle());
    }

    /// In what pieces unsynced bytes survive: 512 (a sector), 4096 (a page), any power of two.
    pub fn set_piece_bytes(&self, bytes: usize) {
        assert!(bytes.is_power_of_two(), "pieces are powers of two");
        self.state.lock().piece_bytes = bytes;
    }

    /// How much all files together may hold; `None` is without limit.
    pub fn set_capacity_bytes(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Bytes held by files that have names.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().names.files().map(|(_, inode)| inode.0.lock().allocated()).sum()
    }

    /// Arms a fault. Several may be armed; of two that strike at once the older one does.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().control.inject(fault);
    }

    /// Disarms faults and a cut to come.
    pub fn clear_faults(&self) {
        self.state.lock().control.clear_faults();
    }

    /// Makes the syncs of one kind of file or directory say `Ok` and do nothing.
    pub fn skip_sync(&self, name: Option<SyncName>) {
        self.state.lock().control.skip = name;
    }

    /// Makes all syncs say `Ok` and do nothing.
    pub fn set_lying(&self, lying: bool) {
        self.state.lock().control.lying = lying;
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().control.counts.clone()
    }

    /// Starts to note every call, in words, for the message of a failing test.
    pub fn start_trace(&self) {
        self.state.lock().control.trace = Some(Vec::new());
    }

    /// The calls noted since the trace was started.
    pub fn trace(&self) -> Vec<String> {
        self.state.lock().control.trace.clone().unwrap_or_default()
    }

    /// All files, sorted by path, with their lengths.
    pub fn paths(&self) -> Vec<(String, u64)> {
        let state = self.state.lock();
        state.names.files().map(|(path, inode)| (path.to_owned(), inode.0.lock().len())).collect()
    }

    /// The bytes of a file as calls see them, `None` if there is no such file.
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.file(path).ok().map(|inode| inode.0.lock().current.as_ref().clone())
    }

    /// Puts bytes in place of a file's, durably, also under open handles and maps; on a disk whose names are settled. Makes the
    /// file if its directory is there.
    pub fn write_file(&self, path: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        match state.names.current.get(path) {
            Some(Entry::File(inode)) => inode.0.lock().replace(bytes),
            Some(Entry::Dir) => panic!("{path} is a directory"),
            None => {
                assert!(state.names.has_dir(parent(path)), "no directory for {path}");
                let entry = Entry::File(Inode::new(bytes));
                state.names.current.insert(path.into(), entry.clone());
                state.names.durable.insert(path.into(), entry);
            }
        }
    }

    /// Takes a file away, durably.
    pub fn remove_file(&self, path: &str) {
        let mut state = self.state.lock();
        state.names.current.remove(path);
        state.names.durable.remove(path);
    }

    /// Turns one bit over, on the disk and in what calls see.
    pub fn flip_bit(&self, path: &str, offset: u64, bit: u8) {
        let mut bytes = self.read_file(path).unwrap_or_else(|| panic!("no file {path}"));
        bytes[offset as usize] ^= 1 << bit;
        self.write_file(path, bytes);
    }

    /// Makes the 4 KiB page that holds `offset` unreadable.
    pub fn spoil_page(&self, path: &str, offset: u64) {
        let state = self.state.lock();
        let inode = state.file(path).unwrap_or_else(|_| panic!("no file {path}"));
        let start = offset - offset % PAGE_BYTES;
        inode.0.lock().spoil(start..start + PAGE_BYTES);
    }

    /// Passes one call of the seam through the ledger. `effect` is told of a fault that strikes it.
    fn call<T>(
        &self,
        kind: CallKind,
        path: &str,
        detail: Arguments<'_>,
        effect: impl FnOnce(&mut State, Option<FaultError>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.control.begin(kind, path, detail)? {
            Ruling::Go => effect(&mut state, None),
            Ruling::GoAndDie => {
                let unheard = effect(&mut state, None);
                drop(state);
                // Only now: it may be a lock, which asks for the state when it goes.
                drop(unheard);
                Err(no_power())
            }
            Ruling::Fail(error) => effect(&mut state, Some(error)),
        }
    }

    /// A call that does nothing when a fault strikes it.
    fn plain_call<T>(
        &self,
        kind: CallKind,
        (action, path, detail): (&str, &str, &str),
        effect: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        checked(path)?;
        self.call(kind, path, format_args!("{detail}"), |state, fault| {
            let result = fault.map_or_else(|| effect(state), |fault| Err(fault.to_error()));
            result.map_err(|error| in_context(action, path, &error))
        })
    }

    fn handle(&self, inode: &Arc<Inode>, path: &str, access: Access) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), inode: Arc::clone(inode), path: path.into(), access })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.plain_call(CallKind::Create, ("create", path, ""), |state| {
            state.expect_dir(parent(path))?;
            if path.is_empty() || state.names.current.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let inode = Inode::new(Vec::new());
            state.names.link(path, Entry::File(Arc::clone(&inode)));
            Ok(self.handle(&inode, path, Access::ReadWrite))
        })
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn File>> {
        self.plain_call(CallKind::Open, ("open", path, ""), |state| {
            Ok(self.handle(state.file(path)?, path, access))
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        checked(to)?;
        self.plain_call(CallKind::Rename, ("rename", from, to), |state| {
            state.file(from)?;
            state.expect_dir(parent(to))?;
            if matches!(state.names.current.get(to), Some(Entry::Dir)) || to.is_empty() {
                return Err(ErrorKind::IsADirectory.into());
            }
            state.names.rename(from, to);
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.plain_call(CallKind::Remove, ("remove", path, ""), |state| {
            state.file(path)?;
            state.names.unlink(path);
            Ok(())
        })
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.plain_call(CallKind::CreateDir, ("make directory", path, ""), |state| {
            if state.names.has_dir(path) {
                return Ok(());
            }
            state.expect_dir(parent(path))?;
            if state.names.current.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            state.names.link(path, Entry::Dir);
            Ok(())
        })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.plain_call(CallKind::List, ("list", dir, ""), |state| {
            state.expect_dir(dir)?;
            let mut entries: Vec<DirEntry> = state
                .names
                .inside(dir)
                .map(|(name, entry)| match entry {
                    Entry::Dir => DirEntry { name: name.into(), len: 0, is_dir: true },
                    Entry::File(inode) => {
                        DirEntry { name: name.into(), len: inode.0.lock().len(), is_dir: false }
                    }
                })
                .collect();
            entries.sort_unstable();
            Ok(entries)
        })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        checked(dir)?;
        let sync = |state: &mut State, fault: Option<FaultError>| {
            let named = |error: io::Error| in_context("sync directory", dir, &error);
            state.expect_dir(dir).map_err(named)?;
            if fault == Some(FaultError::Interrupted) {
                return Err(named(FaultError::Interrupted.to_error()));
            }
            if state.control.is_skipped(SyncName::of_dir(dir)) {
                return Ok(());
            }
            if let Some(fault) = fault {
                state.names.sync_dir_in_part(dir, &mut state.control.rng);
                return Err(named(fault.to_error()));
            }
            state.names.sync_dir(dir);
            Ok(())
        };
        uninterrupted(|| self.call(CallKind::SyncDir, dir, format_args!(""), sync))
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Lock>> {
        self.plain_call(CallKind::Lock, ("lock", path, ""), |state| {
            if state.locks.contains(path) {
                return Err(io::Error::new(ErrorKind::WouldBlock, "in use by another handle"));
            }
            if !state.names.current.contains_key(path) {
                state.expect_dir(parent(path))?;
                state.names.link(path, Entry::File(Inode::new(Vec::new())));
            }
            state.locks.insert(path.into());
            Ok(Box::new(SimLock { disk: self.clone(), path: path.into() }) as Box<dyn Lock>)
        })
    }

    fn space(&self) -> io::Result<Space> {
        self.plain_call(CallKind::AvailableBytes, ("ask free space of", "", ""), |state| {
            let total_bytes = state.capacity_bytes.unwrap_or(UNLIMITED_BYTES);
            Ok(Space { available_bytes: state.available_bytes(), total_bytes })
        })
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Files and maps hold their disk: no more than its name, and no lock taken.
        f.write_str("SimDisk")
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: String,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

impl Lock for SimLock {}

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: u64 = 4096;
/// What a disk without a limit says is free.
const UNLIMITED_BYTES: u64 = 1 << 40;
