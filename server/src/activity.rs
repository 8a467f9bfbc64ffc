//! What a connection is doing, seen from its socket: the base of all its time limits.
//!
//! Invariants
//! 1. A connection is in one phase at a time; the time it entered the phase is kept with it.
//! 2. A write that the peer does not take is remembered from its first refusal to its next success.

use crate::options::Limits;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Activity {
    epoch: Instant,
    phase: AtomicU8,
    since_ms: AtomicU64,
    /// Milliseconds plus one since a write waits for the peer; zero if none does.
    stalled_ms: AtomicU64,
    /// A long-lived route (live streams) is served: idle limits do not apply.
    exempt: AtomicBool,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Waiting for a request.
    Idle = 0,
    /// Part of a request's headers has come.
    Head = 1,
    /// A request is being answered.
    Request = 2,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since_ms: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(0),
            exempt: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Request,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.since_ms.store(self.now_ms(), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Lifts the idle limits for as long as the connection lives.
    pub(crate) fn exempt(&self) {
        self.exempt.store(true, Ordering::Relaxed);
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
        let since = self.since_ms.load(Ordering::Relaxed);
        match self.phase() {
            Phase::Idle => beyond(now, since, limits.keep_alive_time.0).then_some("keep_alive_time"),
            Phase::Head => beyond(now, since, limits.header_time.0).then_some("header_time"),
            // Bodies and handlers have their own clocks.
            Phase::Request => None,
        }
    }

    fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

fn beyond(now_ms: u64, since_ms: u64, limit: Duration) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) > limit.as_millis()
}

/// A socket that tells its [`Activity`] what passes through it.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, activity: Arc<Activity>) -> Self {
        Self { socket, activity }
    }

    fn wrote<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stalled = &self.activity.stalled_ms;
        if poll.is_ready() {
            stalled.store(0, Ordering::Relaxed);
        } else if stalled.load(Ordering::Relaxed) == 0 {
            stalled.store(self.activity.now_ms() + 1, Ordering::Relaxed);
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before && self.activity.phase() == Phase::Idle {
            self.activity.enter(Phase::Head);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(poll)
    }
}
