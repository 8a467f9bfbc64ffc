//! What a connection is doing: the base of all its time limits, and of when it may be cut.
//!
//! Invariants
//! 1. A connection is in one phase at a time; the time it entered the phase is kept with it.
//! 2. `Idle` means that nothing is owed to the client: the last answer has left for the socket to its last byte.
//! 3. The time that an answer waited for its client and the bytes that were taken of it are counted together.
//!
//! Not here: the socket that tells all this (`watched`), who ends the connection (`run`).

use crate::options::Limits;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// See the module. Written by the connection's own task alone.
#[derive(Debug)]
pub(crate) struct Activity {
    epoch: Instant,
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Bytes read in the phase `Head`.
    head_bytes: AtomicU64,
    /// Milliseconds plus one since a write waits for the client; zero if none does.
    stalled_ms: AtomicU64,
    /// How long writes have waited for the client in this window, besides the one that waits now.
    waited_ms: AtomicU64,
    /// Bytes taken in this window.
    taken_bytes: AtomicU64,
    /// A long-lived route (live streams) is being served: only a client that takes nothing is cut.
    exempt: AtomicBool,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waiting for a request. The beginning of one that came together with the request before it counts from its next
    /// byte only.
    Idle = 0,
    /// Part of a request's headers has come.
    Head = 1,
    /// A request is being answered.
    Request = 2,
    /// The answer is complete, but not all of it has left.
    Sending = 3,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since_ms: AtomicU64::new(0),
            head_bytes: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(0),
            exempt: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Request,
            _ => Phase::Sending,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.head_bytes.store(0, Ordering::Relaxed);
    }

    /// Lifts the limits of time for as long as this request is served.
    pub(crate) fn exempt(&self) {
        self.exempt.store(true, Ordering::Relaxed);
    }

    /// Bytes came from the client.
    pub(crate) fn read(&self, bytes: &[u8]) {
        // Line ends before a request are no part of it; some clients send one after a body.
        if self.phase() == Phase::Idle && !bytes.iter().all(|byte| b"\r\n".contains(byte)) {
            self.enter(Phase::Head);
        }
        if self.phase() == Phase::Head {
            self.head_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Bytes of the head that is being received.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.head_bytes.load(Ordering::Relaxed)
    }

    /// The socket took bytes.
    pub(crate) fn wrote(&self, bytes: usize) {
        let stalled = self.stalled_ms.swap(0, Ordering::Relaxed);
        if stalled > 0 {
            self.waited_ms.fetch_add((self.now_ms() + 1).saturating_sub(stalled), Ordering::Relaxed);
        }
        self.taken_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The socket takes nothing at the moment.
    pub(crate) fn stalled(&self) {
        if self.stalled_ms.load(Ordering::Relaxed) == 0 {
            self.stalled_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        }
    }

    /// Nothing is left to be written.
    pub(crate) fn flushed(&self) {
        if self.phase() == Phase::Sending {
            self.begin_window();
            self.exempt.store(false, Ordering::Relaxed);
            self.enter(Phase::Idle);
        }
    }

    /// The name of the limit that this connection is beyond, if it is beyond one.
    pub(crate) fn expired(&self, limits: &Limits) -> Option<&'static str> {
        let now = self.now_ms();
        let stalled = self.stalled_ms.load(Ordering::Relaxed);
        if stalled > 0 && beyond(now, stalled - 1, limits.body_idle_time.0) {
            return Some("body_idle_time");
        }
        if self.exempt.load(Ordering::Relaxed) {
            return None;
        }
        if self.too_slow(now, limits) {
            return Some("transfer_rate");
        }
        let since = self.since_ms.load(Ordering::Relaxed);
        match self.phase() {
            Phase::Idle => beyond(now, since, limits.keep_alive_time.0).then_some("keep_alive_time"),
            Phase::Head => beyond(now, since, limits.header_time.0).then_some("header_time"),
            // Bodies and handlers have their own clocks; a client that takes its answer fast enough may go on.
            Phase::Request | Phase::Sending => None,
        }
    }

    /// True if the answer has waited for a whole window and too little was taken in it. Begins the next window.
    fn too_slow(&self, now: u64, limits: &Limits) -> bool {
        let stalled = self.stalled_ms.load(Ordering::Relaxed);
        let waiting = if stalled > 0 { (now + 1).saturating_sub(stalled) } else { 0 };
        if !beyond(self.waited_ms.load(Ordering::Relaxed) + waiting, 0, limits.body_idle_time.0) {
            return false;
        }
        self.begin_window() < limits.least_per_window()
    }

    /// Gives the bytes of the window that ends.
    fn begin_window(&self) -> u64 {
        self.waited_ms.store(0, Ordering::Relaxed);
        self.taken_bytes.swap(0, Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

fn beyond(now_ms: u64, since_ms: u64, limit: Duration) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) > limit.as_millis()
}
