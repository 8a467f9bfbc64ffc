//! What can be made to go wrong, and the ledger of calls it is counted by.

use super::rng::Rng;
use std::fmt::Arguments;
use std::io;

/// The calls of the storage seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    Create,
    Open,
    Rename,
    Remove,
    CreateDir,
    List,
    SyncDir,
    Lock,
    AvailableBytes,
    Read,
    Write,
    Len,
    SetLen,
    SyncData,
    ForgetCached,
    Map,
    /// A copy out of a map: where a page fault strikes.
    MapCopy,
}

impl CallKind {
    pub const ALL: [Self; 17] = [
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::Remove,
        Self::CreateDir,
        Self::List,
        Self::SyncDir,
        Self::Lock,
        Self::AvailableBytes,
        Self::Read,
        Self::Write,
        Self::Len,
        Self::SetLen,
        Self::SyncData,
        Self::ForgetCached,
        Self::Map,
        Self::MapCopy,
    ];

    /// Whether it opens a file, so that a process that has too many open is refused.
    pub const fn takes_descriptor(self) -> bool {
        matches!(self, Self::Create | Self::Open | Self::List | Self::Lock)
    }

    /// Whether a signal can cut it short.
    pub const fn is_interruptible(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::SetLen | Self::SyncData | Self::SyncDir)
    }

    /// Whether a full disk can refuse it. A sync is among them: space is often only found when the bytes go out.
    pub const fn takes_space(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::CreateDir
                | Self::SyncDir
                | Self::Write
                | Self::SetLen
                | Self::SyncData
        )
    }
}

/// A thing that is synced, by what it means to the store. Found from the path: the first directory decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SyncName {
    RootDir,
    WalDir,
    SegmentsDir,
    CatalogDir,
    ManifestDir,
    QuarantineDir,
    WalFile,
    SegmentFile,
    CatalogFile,
    ManifestFile,
    QuarantineFile,
    Ballast,
    /// Any other file or directory.
    Other,
}

impl SyncName {
    pub const ALL: [Self; 13] = [
        Self::RootDir,
        Self::WalDir,
        Self::SegmentsDir,
        Self::CatalogDir,
        Self::ManifestDir,
        Self::QuarantineDir,
        Self::WalFile,
        Self::SegmentFile,
        Self::CatalogFile,
        Self::ManifestFile,
        Self::QuarantineFile,
        Self::Ballast,
        Self::Other,
    ];

    pub fn of_file(path: &str) -> Self {
        match path.split_once('/').map(|(dir, _)| dir) {
            Some("wal") => Self::WalFile,
            Some("segments") => Self::SegmentFile,
            Some("catalog") => Self::CatalogFile,
            Some("manifest") => Self::ManifestFile,
            Some("quarantine") => Self::QuarantineFile,
            None if path.starts_with("ballast") => Self::Ballast,
            _ => Self::Other,
        }
    }

    pub fn of_dir(path: &str) -> Self {
        match path {
            "" => Self::RootDir,
            "wal" => Self::WalDir,
            "segments" => Self::SegmentsDir,
            "catalog" => Self::CatalogDir,
            "manifest" => Self::ManifestDir,
            "quarantine" => Self::QuarantineDir,
            _ => Self::Other,
        }
    }
}

/// An error to come.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub error: FaultError,
    /// Strikes at this matching call from the injection on; 1 is the next one.
    pub nth: u64,
    pub lasting: Lasting,
    /// Which calls are counted and struck; `None` is every call.
    pub on: Option<CallKind>,
    /// Whose calls are counted and struck; `None` is every file and directory.
    pub within: Option<SyncName>,
}

impl Fault {
    /// At the `nth` call of any kind.
    pub const fn at(nth: u64, error: FaultError, lasting: Lasting) -> Self {
        Self { error, nth, lasting, on: None, within: None }
    }

    /// Counts and strikes calls of one kind alone.
    #[must_use]
    pub const fn on(mut self, kind: CallKind) -> Self {
        self.on = Some(kind);
        self
    }

    /// Counts and strikes calls on one kind of file or directory alone.
    #[must_use]
    pub const fn within(mut self, name: SyncName) -> Self {
        self.within = Some(name);
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// The device fails (EIO). A sync so struck loses what it was to keep: a part chosen by the seed reaches the disk,
    /// the rest is forgotten and counts as clean, as Linux does. A copy from a map so struck poisons the map.
    Eio,
    /// No room (ENOSPC). Calls that take no room are counted but not struck; a sync so struck is as above.
    NoSpace,
    /// A write stops part way and then fails with EIO; other calls fail as `Eio`.
    ShortWrite,
    /// The process has too many files open (EMFILE). Calls that open none are counted but not struck.
    NoDescriptors,
    /// A signal cuts the call short (EINTR): a write leaves a part, everything else is as if it had not been called. Calls
    /// that no signal cuts short are counted but not struck. Each call that is made again is counted anew.
    Interrupted,
}

impl FaultError {
    pub(super) fn to_error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Eio | Self::ShortWrite => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
            Self::NoDescriptors => libc::EMFILE,
            Self::Interrupted => libc::EINTR,
        })
    }

    /// Whether a call of this kind can fail so.
    pub const fn strikes(self, kind: CallKind) -> bool {
        match self {
            Self::Eio | Self::ShortWrite => true,
            Self::NoSpace => kind.takes_space(),
            Self::NoDescriptors => kind.takes_descriptor(),
            Self::Interrupted => kind.is_interruptible(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    Once,
    ForGood,
}

/// Where in a call the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutMoment {
    /// The call does nothing.
    Before,
    /// The call does all it should, but nobody hears of it.
    After,
}

/// What was done to the disk so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub bytes_written: u64,
    pub bytes_read: u64,
    /// Bytes that a sync carried to the durable image.
    pub bytes_synced: u64,
    /// Syncs that the skip switch kept from having an effect.
    pub syncs_skipped: u64,
    by_kind: [u64; CallKind::ALL.len()],
    syncs: [u64; SyncName::ALL.len()],
}

impl Counts {
    pub fn of(&self, kind: CallKind) -> u64 {
        self.by_kind[kind as usize]
    }

    /// Calls of `sync_data` and `sync_dir` on one kind of file or directory.
    pub fn syncs_of(&self, name: SyncName) -> u64 {
        self.syncs[name as usize]
    }
}

/// What `begin` decided about a call.
pub(super) enum Ruling {
    Go,
    /// Do it, then answer nothing: the power goes.
    GoAndDie,
    Fail(FaultError),
}

/// The ledger: every call passes here before it has any effect.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) counts: Counts,
    pub(super) rng: Rng,
    pub(super) skip: Option<SyncName>,
    pub(super) lying: bool,
    pub(super) trace: Option<Vec<String>>,
    off: bool,
    cut_at: Option<(u64, CutMoment)>,
    faults: Vec<Fault>,
}

impl Control {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            counts: Counts::default(),
            rng,
            skip: None,
            lying: false,
            trace: None,
            off: false,
            cut_at: None,
            faults: Vec::new(),
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off
    }

    pub(super) fn switch_off(&mut self) {
        self.off = true;
    }

    pub(super) fn cut_at(&mut self, nth: u64, moment: CutMoment) {
        self.cut_at = Some((self.counts.calls + nth, moment));
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
        self.cut_at = None;
    }

    /// Counts one call and says what becomes of it; an error if there is no power.
    pub(super) fn begin(&mut self, kind: CallKind, path: &str, detail: Arguments<'_>) -> io::Result<Ruling> {
        if self.off {
            return Err(no_power());
        }
        let name = match kind {
            CallKind::SyncDir | CallKind::CreateDir | CallKind::List => SyncName::of_dir(path),
            _ => SyncName::of_file(path),
        };
        self.counts.calls += 1;
        self.counts.by_kind[kind as usize] += 1;
        if matches!(kind, CallKind::SyncDir | CallKind::SyncData) {
            self.counts.syncs[name as usize] += 1;
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {kind:?} {path} {detail}", self.counts.calls).trim_end().to_owned());
        }
        let mut struck = None;
        self.faults.retain_mut(|fault| {
            if fault.on.is_some_and(|on| on != kind) || fault.within.is_some_and(|within| within != name) {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth > 0 {
                return true;
            }
            if struck.is_none() && fault.error.strikes(kind) {
                struck = Some(fault.error);
            }
            fault.lasting == Lasting::ForGood
        });
        if let Some((at, moment)) = self.cut_at
            && at == self.counts.calls
        {
            self.off = true;
            self.note("power cut");
            return if moment == CutMoment::Before { Err(no_power()) } else { Ok(Ruling::GoAndDie) };
        }
        Ok(struck.map_or(Ruling::Go, |error| {
            self.note("fails");
            Ruling::Fail(error)
        }))
    }

    /// Whether a sync of this name has no effect although it says it had.
    pub(super) fn is_skipped(&mut self, name: SyncName) -> bool {
        let skipped = self.lying || self.skip == Some(name);
        if skipped {
            self.counts.syncs_skipped += 1;
            self.note("skipped");
        }
        skipped
    }

    fn note(&mut self, what: &str) {
        if let Some(line) = self.trace.as_mut().and_then(|trace| trace.last_mut()) {
            line.push_str(" [");
            line.push_str(what);
            line.push(']');
        }
    }
}

pub(super) fn no_power() -> io::Error {
    io::Error::other("the power is cut")
}
