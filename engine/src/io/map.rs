//! The one home of mapped memory, and with it of `unsafe` in the engine's I/O.
//!
//! Promise: reading a sealed file through a map gives its bytes or an error, also when the disk under it fails; it never
//! ends the process and never hands out bytes that were not read.
//!
//! Invariants
//! 1. Maps are read-only, of whole sealed files, and copied from; no reference into one ever leaves this module.
//! 2. A map that is alive stands in the watch table. The handler touches nothing that does not stand there.
//! 3. The poisoned mark is set before a zero page can be seen, and looked at after every copy: zeros laid by the handler
//!    are never taken for data.
//!
//! A page that cannot be read (bad flash, a file cut by somebody else) raises SIGBUS in the thread that touches it. The
//! handler marks the file, lays an anonymous zero page over the lost one and returns; the copy goes on over zeros, and is
//! thrown away. A fault outside our maps is none of ours: it goes to the handler that was there before, or kills.
//!
//! Threads: maps may be read by any number of threads. The handler uses atomics and one system call, no lock, no memory.

use super::ahead::Ahead;
use super::{File, Map, Space, in_context};
use parking_lot::Mutex;
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// A mapped sealed file.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: Box<str>,
    /// `None` for an empty file, which cannot be mapped and needs no watching. Dropped in this order: the table forgets
    /// the range before the addresses can be given to somebody else.
    watched: Option<(Watch, memmap2::Mmap)>,
    ahead: Ahead,
}

impl MappedFile {
    /// Maps the first `len` bytes of a file, all of it as its caller knows. `None` if no more maps can be watched.
    pub(super) fn new(file: &impl AsRawFd, len: u64, path: &str) -> io::Result<Option<Self>> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Some(Self { path: path.into(), watched: None, ahead: Ahead::default() }));
        }
        handler::install()?;
        #[expect(unsafe_code, reason = "mapping is this module's purpose")]
        // SAFETY: the file is sealed: nobody writes or cuts it while it has this name, it is dropped by unlink, and the
        // folder lock keeps a second process out. Bytes are only ever copied out through `copy_at`, so a change from
        // outside can spoil a copy (its checksum tells) but no reference. Guard: test `mapped_segment_survives_unlink`.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file.as_raw_fd())? };
        let Some(watch) = Watch::over(map.as_ptr() as usize, len) else { return Ok(None) };
        Ok(Some(Self { path: path.into(), watched: Some((watch, map)), ahead: Ahead::default() }))
    }
}

impl Map for MappedFile {
    fn len(&self) -> u64 {
        self.watched.as_ref().map_or(0, |(_, map)| map.len() as u64)
    }

    fn copy_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = checked_start(offset, buf.len(), self.len(), &self.path)?;
        let Some((watch, map)) = &self.watched else { return Ok(()) };
        if !watch.is_poisoned() {
            if let Some(fetched) = self.ahead.fetch(offset..offset + buf.len() as u64) {
                // Within the map, and so within what addresses can name.
                let end = fetched.end.min(map.len() as u64) as usize;
                let from = fetched.start.min(end as u64) as usize;
                // A system that takes no advice reads as it likes.
                let _ = map.advise_range(memmap2::Advice::WillNeed, from, end - from);
            }
            #[expect(
                unsafe_code,
                reason = "a copy by pointer: a slice would promise bytes that cannot change"
            )]
            // SAFETY: `start + buf.len()` is within the map (checked above), which lives as long as `self`; `buf` is the
            // caller's own memory. A page that cannot be read is replaced by the handler before the copy goes on.
            unsafe {
                std::ptr::copy_nonoverlapping(map.as_ptr().add(start), buf.as_mut_ptr(), buf.len());
            }
            // Pairs with the handler of whichever thread laid a zero page: bytes first, then the mark.
            fence(Ordering::SeqCst);
            if !watch.is_poisoned() {
                return Ok(());
            }
        }
        Err(poisoned(&self.path))
    }

    fn is_poisoned(&self) -> bool {
        self.watched.as_ref().is_some_and(|(watch, _)| watch.is_poisoned())
    }
}

/// The twin of a map: the same promises by reading. For 32-bit machines, network disks, and a table that is full.
#[derive(Debug)]
pub(super) struct PreadMap {
    file: Arc<dyn File>,
    path: Box<str>,
    len: u64,
    poisoned: AtomicBool,
}

impl PreadMap {
    pub(super) fn new(file: Arc<dyn File>, path: &str) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, path: path.into(), len, poisoned: AtomicBool::new(false) })
    }
}

impl Map for PreadMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        checked_start(offset, buf.len(), self.len, &self.path)?;
        if !self.is_poisoned() {
            // A file that is shorter than it was is as lost as one that gives EIO.
            if matches!(self.file.read_at(offset, buf), Ok(found) if found == buf.len()) {
                return Ok(());
            }
            self.poisoned.store(true, Ordering::SeqCst);
        }
        Err(poisoned(&self.path))
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }
}

/// Where a copy starts, if all of it lies within `len` bytes.
pub(super) fn checked_start(offset: u64, wanted: usize, len: u64, path: &str) -> io::Result<usize> {
    let inside = offset.checked_add(wanted as u64).is_some_and(|end| end <= len);
    match usize::try_from(offset) {
        Ok(start) if inside => Ok(start),
        // A file too long for the addresses of a small machine is never mapped, and its twin needs no address.
        Err(_) if inside => Ok(usize::MAX),
        _ => Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            format!("read {path}: {wanted} bytes at offset {offset} reach beyond its {len}"),
        )),
    }
}

pub(super) fn poisoned(path: &str) -> io::Error {
    in_context(
        "read",
        path,
        &io::Error::other("poisoned: a page of the file could not be read from the disk"),
    )
}

/// What the file system of `dir` holds, and still gives to a user without privileges.
pub(super) fn space(dir: &Path) -> io::Result<Space> {
    let dir = CString::new(dir.as_os_str().as_bytes())?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    #[expect(unsafe_code, reason = "the standard library has no such call")]
    // SAFETY: `dir` is a string with its end mark, `answer` has room for what the call writes, and is all zero before,
    // which is a valid value of its integers.
    let answer = unsafe {
        if libc::statvfs(dir.as_ptr(), answer.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        answer.assume_init()
    };
    // The widths of these differ between machines.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    let [available, blocks, block_len] =
        [answer.f_bavail as u64, answer.f_blocks as u64, answer.f_frsize as u64];
    Ok(Space {
        available_bytes: available.saturating_mul(block_len),
        total_bytes: blocks.saturating_mul(block_len),
    })
}

/// One range of addresses the handler may repair. A place in the table, given back when dropped.
#[derive(Debug)]
struct Watch {
    slot: usize,
}

impl Watch {
    /// `None` if the table is full.
    fn over(start: usize, len: usize) -> Option<Self> {
        let slot = {
            let mut free = FREE_SLOTS.lock();
            let next = free.1;
            free.0.pop().or_else(|| {
                free.1 += usize::from(next < SLOTS);
                (next < SLOTS).then_some(next)
            })?
        };
        let entry = &TABLE[slot];
        entry.start.store(start, Ordering::Relaxed);
        entry.end.store(start + len, Ordering::Relaxed);
        entry.poisoned.store(false, Ordering::Relaxed);
        entry.turn.fetch_add(1, Ordering::SeqCst);
        Some(Self { slot })
    }

    fn is_poisoned(&self) -> bool {
        TABLE[self.slot].poisoned.load(Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        TABLE[self.slot].turn.fetch_add(1, Ordering::SeqCst);
        FREE_SLOTS.lock().0.push(self.slot);
    }
}

/// A range in the table. `turn` is odd while the range is alive and changes with every use, so that a handler that reads
/// a slot while it changes hands sees that it did. (A fault inside a range can only happen while that range is alive.)
struct Slot {
    turn: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

/// Four times the maps an engine keeps open by default.
const SLOTS: usize = 4096;

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        turn: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    }
}; SLOTS];

/// Slots given back, and how many were ever used.
static FREE_SLOTS: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

mod handler {
    //! What happens on SIGBUS. Everything here but `install` runs inside a signal handler.

    use super::{OnceLock, Ordering, TABLE, io};
    use std::sync::atomic::AtomicUsize;

    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
    static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
    static INSTALLED: parking_lot::Mutex<bool> = parking_lot::Mutex::new(false);

    /// Puts the handler in place, once in the life of the process.
    pub(super) fn install() -> io::Result<()> {
        let mut installed = INSTALLED.lock();
        if *installed {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "signals have no safe interface")]
        // SAFETY: `sigaction` is given valid pointers to zeroed (hence initialised) structures. The previous action and
        // the page size are stored before the handler can run.
        unsafe {
            let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE));
            PAGE_BYTES.store(page.map_err(io::Error::other)?, Ordering::SeqCst);
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) != 0 {
                return Err(io::Error::last_os_error());
            }
            let _ = PREVIOUS.set(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            if libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        *installed = true;
        Ok(())
    }

    extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        #[expect(unsafe_code, reason = "the kernel hands over plain pointers")]
        // SAFETY: with SA_SIGINFO the kernel passes a valid `info`; for a fault (code above zero) it holds an address.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        if code > 0 && repair(address) {
            return;
        }
        pass_on(signal, code, info, context);
    }

    /// Marks the map that holds `address` and makes the page readable. False if it is none of ours.
    fn repair(address: usize) -> bool {
        for slot in &TABLE {
            let turn = slot.turn.load(Ordering::SeqCst);
            let inside =
                (slot.start.load(Ordering::SeqCst)..slot.end.load(Ordering::SeqCst)).contains(&address);
            if turn % 2 == 0 || !inside || slot.turn.load(Ordering::SeqCst) != turn {
                continue;
            }
            slot.poisoned.store(true, Ordering::SeqCst);
            let page_bytes = PAGE_BYTES.load(Ordering::SeqCst);
            let page = address & !(page_bytes - 1);
            #[expect(unsafe_code, reason = "the page has to be replaced where it is")]
            // SAFETY: `page` lies in a map of ours that is alive, as the thread that faulted is inside `copy_at` of it:
            // nothing else can live at these addresses. The new page is readable, as the old one was, and goes with the
            // map when it is dropped.
            let laid = unsafe {
                libc::mmap(
                    page as *mut libc::c_void,
                    page_bytes,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0,
                )
            };
            return laid != libc::MAP_FAILED;
        }
        false
    }

    /// Does what would have happened without us.
    fn pass_on(
        signal: libc::c_int,
        code: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // Set before the handler was installed; reading it is one atomic load.
        let Some(previous) = PREVIOUS.get() else { return };
        let sent = code <= 0;
        #[expect(unsafe_code, reason = "calls or restores what the process had before")]
        // SAFETY: the address and flags are those the process itself gave to the kernel, so it is a function of the shape
        // that its flags say. Otherwise the default action is restored with valid pointers.
        unsafe {
            match previous.sa_sigaction {
                libc::SIG_IGN if sent => {}
                libc::SIG_IGN | libc::SIG_DFL => {
                    let mut default: libc::sigaction = std::mem::zeroed();
                    default.sa_sigaction = libc::SIG_DFL;
                    libc::sigaction(signal, &raw const default, std::ptr::null_mut());
                    // A fault happens again when we return, and now kills; a signal somebody sent has to be sent again.
                    if sent {
                        libc::raise(signal);
                    }
                }
                function if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                    std::mem::transmute::<usize, Handler>(function)(signal, info, context);
                }
                function => {
                    std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(function)(signal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::os::OsDisk;
    use crate::io::{Disk, ReadMode, open_sealed};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const FILE_BYTES: usize = 64 * 1024;

    fn disk_with(name: &str) -> (tempfile::TempDir, OsDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(folder.path()).unwrap();
        disk.create(name).unwrap().write_at(0, &vec![7; FILE_BYTES]).unwrap();
        (folder, disk)
    }

    #[test]
    fn mapped_segment_survives_unlink() {
        let (_folder, disk) = disk_with("a.seg");
        let map = open_sealed(&disk, "a.seg", ReadMode::Map).unwrap();
        disk.remove("a.seg").unwrap();
        disk.create("a.seg").unwrap().write_at(0, &vec![1; FILE_BYTES]).unwrap();
        let mut buf = vec![0; FILE_BYTES];
        map.copy_at(0, &mut buf).unwrap();
        assert!(buf.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_file_cut_under_its_map_gives_an_error_and_stays_marked() {
        for mode in [ReadMode::Map, ReadMode::Pread] {
            let (_folder, disk) = disk_with("a.seg");
            let map = open_sealed(&disk, "a.seg", mode).unwrap();
            let other = open_sealed(&disk, "a.seg", mode).unwrap();
            disk.open("a.seg", crate::io::Access::ReadWrite).unwrap().set_len(16 * 1024).unwrap();

            let mut buf = vec![0; 8192];
            map.copy_at(0, &mut buf).unwrap();
            let error = map.copy_at(32 * 1024, &mut buf).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Other);
            assert!(error.to_string().contains("a.seg"), "{error}");
            assert!(map.is_poisoned());
            assert!(map.copy_at(0, &mut buf).is_err(), "a marked map gives nothing more");
            assert!(!other.is_poisoned(), "only the map that met the page is marked");
            assert!(other.copy_at(15 * 1024, &mut buf).is_err(), "a copy that reaches into the lost part");
        }
    }

    #[test]
    fn many_threads_meet_lost_pages_at_once() {
        let (_folder, disk) = disk_with("a.seg");
        let maps: Vec<_> = (0..8).map(|_| open_sealed(&disk, "a.seg", ReadMode::Map).unwrap()).collect();
        disk.open("a.seg", crate::io::Access::ReadWrite).unwrap().set_len(0).unwrap();
        std::thread::scope(|scope| {
            for map in &maps {
                for _ in 0..2 {
                    scope.spawn(|| assert!(map.copy_at(0, &mut vec![0; FILE_BYTES]).is_err()));
                }
            }
        });
    }

    #[test]
    fn a_full_table_falls_back_to_reading() {
        let (_folder, disk) = disk_with("a.seg");
        let maps: Vec<_> = (0..=SLOTS).map(|_| open_sealed(&disk, "a.seg", ReadMode::Map).unwrap()).collect();
        let mut byte = [0];
        for map in &maps {
            map.copy_at(FILE_BYTES as u64 - 1, &mut byte).unwrap();
            assert_eq!(byte, [7]);
        }
        let twins = maps.iter().filter(|map| format!("{map:?}").starts_with("PreadMap")).count();
        assert!(twins >= 1, "one more than the table has places");
        drop(maps);
        let again = open_sealed(&disk, "a.seg", ReadMode::Map).unwrap();
        assert!(format!("{again:?}").starts_with("MappedFile"), "places are given back");
    }

    /// Runs this same test in a child, which dies of a fault in a map that is not ours.
    #[test]
    fn a_fault_outside_our_maps_still_ends_the_process() {
        let this = "io::map::tests::a_fault_outside_our_maps_still_ends_the_process";
        match std::env::var("WATTLOG_TEST_FAULT").as_deref() {
            Ok("with a handler before") => die_of_a_foreign_map(),
            Ok("with the default before") => {
                #[expect(unsafe_code, reason = "undoes the handler of the standard library")]
                // SAFETY: a plain system call, before any map is made.
                unsafe {
                    libc::signal(libc::SIGBUS, libc::SIG_DFL);
                }
                die_of_a_foreign_map();
            }
            _ => {
                for case in ["with a handler before", "with the default before"] {
                    let status = Command::new(std::env::current_exe().unwrap())
                        .args([this, "--exact", "--nocapture"])
                        .env("WATTLOG_TEST_FAULT", case)
                        .output()
                        .unwrap()
                        .status;
                    assert_eq!(status.signal(), Some(libc::SIGBUS), "{case}: {status}");
                }
            }
        }
    }

    fn die_of_a_foreign_map() -> ! {
        let (folder, disk) = disk_with("a.seg");
        let ours = open_sealed(&disk, "a.seg", ReadMode::Map).unwrap();
        let foreign =
            std::fs::File::options().read(true).write(true).open(folder.path().join("a.seg")).unwrap();
        #[expect(unsafe_code, reason = "a map as another library would make one")]
        // SAFETY: only read, and meant to fault; the limit keeps the death from leaving a core file behind.
        let byte = unsafe {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            let map = memmap2::Mmap::map(&foreign).unwrap();
            foreign.set_len(0).unwrap();
            assert!(ours.copy_at(0, &mut [0]).is_err(), "the handler is in place and repairs our own");
            std::ptr::read_volatile(map.as_ptr())
        };
        panic!("read {byte} from a page that is not there");
    }
}
