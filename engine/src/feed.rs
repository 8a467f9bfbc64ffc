//! Change feed: committed bodies in commit order, for whoever streams them on.
//!
//! Promise: a body enters the feed after its writer was answered; a reader gets every body after its cursor once and
//! in order, or is told exactly which part it missed; a slow or absent reader never holds up a writer.
//!
//! Invariants
//! 1. The feed keeps at most `feed_bytes` of bodies; the oldest go first, and `evicted` remembers up to where.
//! 2. Sequences of kept bodies rise. Numbers between them belong to records that are no points.

use crate::column::{Column, Values};
use crate::ids::{LogId, NamespaceId, Seq};
use crate::memtable::SeriesBatch;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A place in the commit order, as `as_of` of an answer prints it: `<log id, hex>-<sequence>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// Log that held the record.
    pub log_id: LogId,
    /// Its sequence.
    pub seq: Seq,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.log_id.0, self.seq.0)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor looks like \"1f-4711\": take one from `as_of` of an answer")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (log_id, seq) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self {
            log_id: LogId(u64::from_str_radix(log_id, 16).map_err(|_| InvalidCursor)?),
            seq: Seq(seq.parse().map_err(|_| InvalidCursor)?),
        })
    }
}

/// One committed body.
#[derive(Debug)]
pub struct CommittedBatch {
    /// Where it stands in the commit order.
    pub cursor: Cursor,
    /// Namespace of its series.
    pub namespace: NamespaceId,
    /// Its rows.
    pub batches: Vec<SeriesBatch>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedStart {
    /// With the next body.
    Now,
    /// With the first body after that place.
    After(Cursor),
}

/// What a reader is told.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// The next body.
    Batch(Arc<CommittedBatch>),
    /// Bodies after `after` up to `upto` are no longer kept: ask a query for them, then read on.
    Gap {
        /// Last sequence the reader had.
        after: Seq,
        /// Last sequence it missed.
        upto: Seq,
    },
    /// Nothing came in time.
    Timeout,
    /// The store was closed; nothing will come any more.
    Closed,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
    limit_bytes: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    kept: VecDeque<(usize, Arc<CommittedBatch>)>,
    bytes: usize,
    /// Last sequence that is not kept any more (or never was, being older than this opening of the store).
    evicted: Seq,
    /// Last sequence that was published, of a body or of another record.
    newest: Seq,
    /// Where this opening of the store began: a cursor of an older log beyond it is of an end that a power cut took.
    opened: Cursor,
    closed: bool,
}

/// A reader's end.
#[derive(Debug)]
pub struct FeedReader {
    shared: Arc<Shared>,
    after: Seq,
    /// Where the reader had come to in a log whose end is lost: its sequences were given again.
    lost: Option<Seq>,
}

impl Feed {
    /// A feed that begins after `opened`, the end of the store so far.
    pub(crate) fn new(opened: Cursor, limit_bytes: usize) -> Self {
        let (evicted, newest) = (opened.seq, opened.seq);
        let state = State { kept: VecDeque::new(), bytes: 0, evicted, newest, opened, closed: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }), limit_bytes }
    }

    /// Everything up to `seq` is about to be published; its bodies are pushed after their writers were answered.
    pub(crate) fn published(&self, seq: Seq) {
        self.shared.state.lock().newest = seq;
    }

    /// Adds a body; called in commit order, after [`Feed::published`] of its group.
    pub(crate) fn push(&self, batch: CommittedBatch) {
        let bytes = 64 + batch.batches.iter().map(size_of_batch).sum::<usize>();
        let mut state = self.shared.state.lock();
        debug_assert!(batch.cursor.seq <= state.newest, "pushed before it is published");
        state.bytes += bytes;
        state.kept.push_back((bytes, Arc::new(batch)));
        while state.bytes > self.limit_bytes
            && let Some((bytes, oldest)) = state.kept.pop_front()
        {
            state.bytes -= bytes;
            state.evicted = oldest.cursor.seq;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Tells all readers that nothing more will come.
    pub(crate) fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// A new reader.
    pub(crate) fn reader(&self, start: FeedStart) -> FeedReader {
        let state = self.shared.state.lock();
        let (after, lost) = match start {
            FeedStart::Now => (state.newest, None),
            FeedStart::After(cursor)
                if cursor.log_id <= state.opened.log_id && cursor.seq > state.opened.seq =>
            {
                (state.opened.seq, Some(cursor.seq))
            }
            FeedStart::After(cursor) => (cursor.seq, None),
        };
        drop(state);
        FeedReader { shared: self.shared.clone(), after, lost }
    }
}

impl FeedReader {
    /// The next event, waiting for at most `timeout`.
    pub fn next(&mut self, timeout: Duration) -> FeedEvent {
        let deadline = Instant::now() + timeout;
        if let Some(after) = self.lost.take() {
            return FeedEvent::Gap { after, upto: self.after };
        }
        let mut state = self.shared.state.lock();
        loop {
            let ahead = self.after > state.newest;
            if self.after < state.evicted || ahead {
                // A cursor ahead of the store is of another store, or made up.
                let upto = if ahead { state.newest } else { state.evicted };
                let event = FeedEvent::Gap { after: self.after, upto };
                self.after = upto;
                return event;
            }
            let next = state.kept.partition_point(|(_, batch)| batch.cursor.seq <= self.after);
            if let Some((_, batch)) = state.kept.get(next) {
                self.after = batch.cursor.seq;
                return FeedEvent::Batch(batch.clone());
            }
            if state.closed {
                return FeedEvent::Closed;
            }
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return FeedEvent::Timeout;
            }
        }
    }
}

fn size_of_batch(batch: &SeriesBatch) -> usize {
    let text = |column: &Column| match &column.values {
        Values::String(texts) => texts.iter().map(|text| text.len() + 16).sum(),
        _ => 0_usize,
    };
    let values = batch.columns.iter().map(|(_, c)| c.values.len() * 12 + 48 + text(c)).sum::<usize>();
    batch.times.len() * 8 + values + 96
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(seq: u64) -> CommittedBatch {
        CommittedBatch { cursor: at(seq), namespace: NamespaceId(1), batches: Vec::new() }
    }

    fn at(seq: u64) -> Cursor {
        Cursor { log_id: LogId(1), seq: Seq(seq) }
    }

    fn seqs(reader: &mut FeedReader) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            out.push(match reader.next(Duration::ZERO) {
                FeedEvent::Batch(batch) => batch.cursor.seq.to_string(),
                FeedEvent::Gap { after, upto } => format!("gap {after}..={upto}"),
                FeedEvent::Closed => "closed".into(),
                FeedEvent::Timeout => return out,
            });
            if out.last().is_some_and(|last| last == "closed") {
                return out;
            }
        }
    }

    #[test]
    fn a_reader_gets_each_body_once_or_hears_of_the_gap() {
        let feed = Feed::new(at(10), 3 * 64);
        let push = |seq| {
            feed.published(Seq(seq));
            feed.push(body(seq));
        };
        let mut from_now = feed.reader(FeedStart::Now);
        let mut resumed = feed.reader(FeedStart::After(at(10)));
        let mut stale = feed.reader(FeedStart::After(at(4)));
        assert_eq!(seqs(&mut stale), ["gap 4..=10"]);
        [12, 13, 15].into_iter().for_each(push);
        assert_eq!(seqs(&mut from_now), ["12", "13", "15"]);
        [16, 18].into_iter().for_each(push);
        assert_eq!(seqs(&mut resumed), ["gap 10..=13", "15", "16", "18"]);
        assert_eq!(seqs(&mut from_now), ["16", "18"]);
        let ahead = Cursor { log_id: LogId(9), seq: Seq(99) };
        assert_eq!(seqs(&mut feed.reader(FeedStart::After(ahead))), ["gap 99..=18"]);
        // A record that is no body is a place to resume from, too.
        feed.published(Seq(19));
        assert!(
            seqs(&mut feed.reader(FeedStart::After(Cursor { log_id: LogId(2), seq: Seq(19) }))).is_empty()
        );
        // The log of this cursor lost its end; what has these sequences now is something else.
        assert_eq!(
            seqs(&mut feed.reader(FeedStart::After(at(16)))),
            ["gap 16..=10", "gap 10..=13", "15", "16", "18"]
        );
        feed.close();
        assert_eq!(seqs(&mut from_now), ["closed"]);
        assert_eq!(seqs(&mut stale), ["gap 10..=13", "15", "16", "18", "closed"]);
    }

    #[test]
    fn cursors_print_and_parse() {
        let cursor = Cursor { log_id: LogId(0x1f), seq: Seq(4711) };
        assert_eq!(cursor.to_string(), "1f-4711");
        assert_eq!("1f-4711".parse(), Ok(cursor));
        for bad in ["", "1f", "-", "x-1", "1--1", "1-18446744073709551616"] {
            assert_eq!(bad.parse::<Cursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}
