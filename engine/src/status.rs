//! What the store can do at the moment, and what its owner should look at.

use crate::error::Damage;
use parking_lot::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wattlog_model::Timestamp;

/// Damaged parts that [`Health`] lists and the log names; further ones are as little news as these a second time.
const MAX_LISTED_DAMAGE: usize = 64;

/// Condition of an open store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// False if writes are refused: until the store is opened again, or for as long as the disk is full.
    pub writable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Parts of files that could not be used, at open or since.
    pub damage: Vec<Damage>,
    /// Other things that a person should look at.
    pub alarms: Vec<String>,
}

/// How the last piece of work of one kind ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWork {
    /// When, by the wall clock of that time.
    pub ended: Timestamp,
    /// Bytes of the files that it made; 0 if it failed.
    pub bytes: u64,
    /// Why it failed; it is tried again by itself.
    pub error: Option<String>,
}

/// What the threads of the store did last, since it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Background {
    /// Memory to a segment.
    pub seal: Option<LastWork>,
    /// Segments to one.
    pub merge: Option<LastWork>,
}

/// Shared state behind [`Health`].
#[derive(Debug, Default)]
pub(crate) struct Status {
    read_only: RwLock<Option<String>>,
    refusing: RwLock<Option<String>>,
    beats: AtomicU64,
    closing: AtomicBool,
    damage: RwLock<Vec<Damage>>,
    alarms: RwLock<Vec<String>>,
    /// For as long as retention cannot follow the wall clock.
    clock_alarm: RwLock<Option<String>>,
    /// For as long as the disk is filling up.
    space_alarm: RwLock<Option<String>>,
    background: RwLock<Background>,
    unsealed_logs: AtomicU64,
    log_bytes: AtomicU64,
}

impl Status {
    pub(crate) fn set_read_only(&self, reason: &str) {
        self.read_only.write().get_or_insert_with(|| reason.to_owned());
    }

    pub(crate) fn read_only(&self) -> Option<String> {
        self.read_only.read().clone()
    }

    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What makes the writer refuse bodies at the moment; none once it takes them again.
    pub(crate) fn set_refusing(&self, reason: Option<String>) {
        if reason.is_some() || self.refusing.read().is_some() {
            *self.refusing.write() = reason;
        }
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.read().is_some()
    }

    /// The writer thread goes round.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Notes damage; true if it was not known yet.
    pub(crate) fn add_damage(&self, damage: &Damage) -> bool {
        let mut known = self.damage.write();
        if known.contains(damage) || known.len() >= MAX_LISTED_DAMAGE {
            return false;
        }
        known.push(damage.clone());
        true
    }

    pub(crate) fn add_alarm(&self, alarm: String) {
        self.alarms.write().push(alarm);
    }

    pub(crate) fn set_clock_alarm(&self, alarm: Option<String>) {
        *self.clock_alarm.write() = alarm;
    }

    pub(crate) fn set_space_alarm(&self, alarm: Option<String>) {
        *self.space_alarm.write() = alarm;
    }

    pub(crate) fn sealed(&self, last: LastWork) {
        self.background.write().seal = Some(last);
    }

    pub(crate) fn merged(&self, last: LastWork) {
        self.background.write().merge = Some(last);
    }

    pub(crate) fn background(&self) -> Background {
        self.background.read().clone()
    }

    pub(crate) fn set_wal(&self, unsealed_logs: u64, log_bytes: u64) {
        self.unsealed_logs.store(unsealed_logs, Ordering::Relaxed);
        self.log_bytes.store(log_bytes, Ordering::Relaxed);
    }

    pub(crate) fn health(&self) -> Health {
        let passing = [&self.clock_alarm, &self.space_alarm].map(|alarm| alarm.read().clone());
        let reason = self.read_only().or_else(|| self.refusing.read().clone());
        Health {
            writable: reason.is_none(),
            reason,
            damage: self.damage.read().clone(),
            alarms: self.alarms.read().iter().cloned().chain(passing.into_iter().flatten()).collect(),
        }
    }
}
