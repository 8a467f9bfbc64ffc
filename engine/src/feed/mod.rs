//! Change feed: committed bodies, and everything else that changes answers, in commit order.
//!
//! Promise: a body enters the feed after its writer was answered; a reader gets every body after its cursor once and
//! in order, or is told exactly which part it missed; a slow or absent reader never holds up a writer. What stands in the
//! log is in the feed again after a restart.
//!
//! Two kinds of readers: [`FeedReader`] gives bodies as they are, [`ChangeReader`] tells which ranges and which buckets
//! changed (`changes`, ADR 0013).
//!
//! Invariants
//! 1. The feed keeps at most `feed_bytes`; the oldest go first, and `History` remembers what they were in short.
//! 2. Sequences of kept bodies rise. Numbers between them belong to records that changed no answer.
//! 3. What comes without a record (cutoffs, damage) is placed after all records published before it: it waits until
//!    their bodies are in.

mod changes;
mod extent;
mod history;

pub use changes::{
    BucketRule, ChangeCursor, ChangeEvent, ChangeReader, ChangeRequest, ChangeStart, Changes, Subject,
};
pub use extent::Cause;
pub(crate) use extent::Extent;
pub(crate) use history::{Entry, History, Place, What};

use crate::ids::{LogId, NamespaceId, Seq};
use crate::memtable::SeriesBatch;
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_model::Timestamp;

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
    /// The wall clock when it was committed.
    pub wall: Timestamp,
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
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    history: History,
    /// Last record that was published, a body or another.
    newest: Cursor,
    /// All bodies up to here are in.
    settled: Seq,
    /// Changes without a record that wait for that, each with its manifest edit.
    waiting: Vec<(u64, Arc<[Extent]>)>,
    /// Highest manifest edit that anything in the feed stands after.
    edit: u64,
    /// Where this opening of the store began: a cursor of an older log beyond it is of an end that a power cut took.
    opened: Cursor,
    /// Logs that were there then, with the sequence that each begins with.
    logs: Vec<(LogId, Seq)>,
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

/// What the feed of a store begins with when it is opened.
#[derive(Debug)]
pub(crate) struct FeedSource {
    /// What the log holds.
    pub(crate) history: History,
    /// Its end.
    pub(crate) opened: Cursor,
    /// Logs that are there, with the sequence that each begins with.
    pub(crate) logs: Vec<(LogId, Seq)>,
    /// Number of the newest manifest edit.
    pub(crate) edit: u64,
    /// What may have changed while nobody read: told to cursors of earlier openings.
    pub(crate) unseen: Vec<Extent>,
}

impl Feed {
    /// A feed that goes on from what opening found.
    pub(crate) fn new(source: FeedSource) -> Self {
        let FeedSource { history, opened, logs, edit, unseen } = source;
        let (newest, settled, waiting) = (opened, opened.seq, Vec::new());
        let mut state = State { history, newest, settled, waiting, edit, opened, logs, closed: false };
        if !unseen.is_empty() {
            state.note(edit, unseen.into());
        }
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Everything up to `newest` is about to be published; its bodies are pushed after their writers were answered, then
    /// [`Feed::settle`] says so.
    pub(crate) fn published(&self, newest: Cursor) {
        self.shared.state.lock().newest = newest;
    }

    /// Adds a body; called in commit order, after [`Feed::published`] of its group.
    pub(crate) fn push(&self, batch: CommittedBatch) {
        let Cursor { log_id, seq } = batch.cursor;
        self.add(log_id, seq, What::Batch(Arc::new(batch)));
    }

    /// Adds what another record changed; likewise.
    pub(crate) fn changed(&self, cursor: Cursor, extents: Vec<Extent>) {
        self.add(cursor.log_id, cursor.seq, What::Extents(extents.into()));
    }

    fn add(&self, log_id: LogId, seq: Seq, what: What) {
        let mut state = self.shared.state.lock();
        debug_assert!(seq <= state.newest.seq, "pushed before it is published");
        state.history.push(Entry { place: Place::of_record(seq), log_id, what });
        drop(state);
        self.shared.changed.notify_all();
    }

    /// All of the group that was published last is in.
    pub(crate) fn settle(&self) {
        let mut state = self.shared.state.lock();
        state.settled = state.newest.seq;
        for (edit, extents) in std::mem::take(&mut state.waiting) {
            state.note(edit, extents);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Adds what a manifest edit changed, once it is in force. Called by rising edit.
    pub(crate) fn note(&self, edit: u64, extents: Vec<Extent>) {
        if extents.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock();
        if state.settled == state.newest.seq {
            state.note(edit, extents.into());
        } else {
            state.waiting.push((edit, extents.into()));
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
            FeedStart::Now => (state.newest.seq, None),
            FeedStart::After(cursor) if state.is_lost(cursor) => (state.opened.seq, Some(cursor.seq)),
            FeedStart::After(cursor) => (cursor.seq, None),
        };
        drop(state);
        FeedReader { shared: self.shared.clone(), after, lost }
    }

    /// For readers of changes.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl State {
    fn note(&mut self, edit: u64, extents: Arc<[Extent]>) {
        self.edit = self.edit.max(edit);
        let place = Place { seq: self.newest.seq, edit };
        self.history.push(Entry { place, log_id: self.newest.log_id, what: What::Extents(extents) });
    }

    /// Whether what stood there was, or may have been, lost and its sequence given again, in this opening or in one between. One of
    /// a log that is gone cannot be told from that.
    fn is_lost(&self, cursor: Cursor) -> bool {
        if cursor.log_id > self.opened.log_id || cursor == self.opened || cursor.seq == Seq(0) {
            return false;
        }
        let held =
            |(id, first): &(LogId, Seq)| *id == cursor.log_id && first.0 <= cursor.seq.0.saturating_add(1);
        let given_again = |(id, first): &(LogId, Seq)| *id > cursor.log_id && *first <= cursor.seq;
        cursor.seq > self.opened.seq || !self.logs.iter().any(held) || self.logs.iter().any(given_again)
    }

    /// A log that stands for the record there.
    fn log_of(&self, seq: Seq) -> LogId {
        if seq > self.opened.seq {
            // One that followed in this opening began when all before it was durable.
            return self.newest.log_id;
        }
        let began = self.logs.iter().filter(|(_, first)| *first <= seq).map(|(id, _)| *id);
        began.max().unwrap_or(self.opened.log_id)
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
            let (evicted, newest) = (state.history.evicted(), state.newest.seq);
            let ahead = self.after > newest;
            if self.after < evicted || ahead {
                // A cursor ahead of the store is of another store, or made up.
                let upto = if ahead { newest } else { evicted };
                let event = FeedEvent::Gap { after: self.after, upto };
                self.after = upto;
                return event;
            }
            let next = state.history.after(Place { seq: self.after, edit: u64::MAX });
            let next = next.into_iter().find_map(|entry| match &entry.what {
                What::Batch(batch) => Some(batch.clone()),
                What::Extents(_) => None,
            });
            if let Some(batch) = next {
                self.after = batch.cursor.seq;
                return FeedEvent::Batch(batch);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn body(seq: u64) -> CommittedBatch {
        CommittedBatch { cursor: at(seq), wall: Timestamp(0), namespace: NamespaceId(1), batches: Vec::new() }
    }

    fn at(seq: u64) -> Cursor {
        Cursor { log_id: LogId(1), seq: Seq(seq) }
    }

    fn feed(limit_bytes: usize) -> Feed {
        let history = History::new(Seq(10), limit_bytes);
        Feed::new(FeedSource { history, opened: at(10), logs: Vec::new(), edit: 3, unseen: Vec::new() })
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
        let feed = feed(3 * 64);
        let push = |seq| {
            feed.published(at(seq));
            feed.push(body(seq));
            feed.settle();
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
        feed.published(at(19));
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

    /// A consumer's cursor stood in the end that a power cut took; the store was opened twice before it came back, and nothing
    /// told it that what has its sequence now is something else.
    #[test]
    fn a_cursor_of_a_lost_end_is_known_after_later_openings_too() {
        let opened = Cursor { log_id: LogId(3), seq: Seq(20) };
        let logs = vec![(LogId(1), Seq(1)), (LogId(2), Seq(11)), (LogId(3), Seq(21))];
        let history = History::new(Seq(0), 1 << 20);
        let feed = Feed::new(FeedSource { history, opened, logs, edit: 0, unseen: Vec::new() });
        let state = feed.shared.state.lock();
        let lost = |log, seq| state.is_lost(Cursor { log_id: LogId(log), seq: Seq(seq) });
        assert!(!lost(1, 10) && lost(1, 11) && lost(1, 15));
        assert!(lost(0, 5) && !lost(0, 0), "of a log that is gone; of nothing");
        assert!(!lost(2, 11) && !lost(2, 20) && lost(2, 21) && !lost(3, 20) && lost(3, 21) && !lost(4, 21));
    }

    #[test]
    fn what_comes_without_a_record_stands_after_all_bodies_published_before_it() {
        let feed = feed(1 << 20);
        feed.note(4, vec![Extent::everything()]);
        feed.published(at(12));
        feed.note(5, vec![Extent::everything()]);
        feed.push(body(11));
        feed.push(body(12));
        feed.settle();
        feed.note(6, vec![Extent::everything()]);
        feed.note(7, Vec::new());
        let state = feed.shared.state.lock();
        let places: Vec<_> = state.history.after(Place::default()).map(|entry| entry.place).collect();
        let place = |seq, edit| Place { seq: Seq(seq), edit };
        assert_eq!(places, [place(10, 4), place(11, 0), place(12, 0), place(12, 5), place(12, 6)]);
        assert_eq!(state.edit, 6);
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
