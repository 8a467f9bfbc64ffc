//! Time as an argument: the engine and the planners ask this trait, never the operating system.

use crate::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A wall clock that may jump and a monotonic one that may not.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, as the owner of the machine believes it to be.
    fn wall(&self) -> Timestamp;
    /// Time since some fixed instant of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A clock that moves only when told to: for tests, simulations and reproducible demos.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ns: AtomicI64,
    monotonic_ns: AtomicI64,
}

impl ManualClock {
    /// Starts at `wall`, with the monotonic clock at zero.
    pub fn new(wall: Timestamp) -> Self {
        Self { wall_ns: AtomicI64::new(wall.0), monotonic_ns: AtomicI64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.wall_ns.fetch_add(ns, Ordering::Relaxed);
        self.monotonic_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Sets the wall clock alone, as an operator or a time service does.
    pub fn set_wall(&self, wall: Timestamp) {
        self.wall_ns.store(wall.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall_ns.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::Relaxed).max(0).unsigned_abs())
    }
}
