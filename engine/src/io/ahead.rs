//! How far ahead of a copy a mapped file is fetched.
//!
//! Left to itself, the system reads around every page that is touched first, by a length that is set for the disk: from 128 KiB up to
//! 8 MiB a touch, which for a file that is opened only to find nothing in it is the whole file. What is asked for before it is
//! touched is read as it is asked for: what a copy needs and a little more, twice as much each time copies go on where
//! earlier ones ended. The system's way is left for what was asked for long ago and is gone again.
//!
//! Invariant: what is said here changes no answer, only when bytes come from the disk.

use parking_lot::Mutex;
use std::ops::Range;

/// Fetched behind a copy that goes on nowhere.
const FIRST: u64 = 16 * 1024;
/// Most that is fetched behind a copy.
const MOST: u64 = 256 * 1024;
/// Places at which one file is read on: its blocks and its index pages, by two threads.
const STREAMS: usize = 4;

/// Where one file is being read. Shared by all threads: one that does not get at it at once fetches nothing ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<Streams>);

impl Ahead {
    /// What is to be fetched before the bytes `wanted` are copied; none if that was asked for before.
    pub(super) fn fetch(&self, wanted: Range<u64>) -> Option<Range<u64>> {
        self.0.try_lock()?.fetch(wanted)
    }
}

#[derive(Debug, Default)]
struct Streams {
    list: [Stream; STREAMS],
    /// The one that makes room.
    next: usize,
}

/// A stretch that was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    start: u64,
    end: u64,
    /// 0: there is no stream.
    ahead: u64,
}

impl Streams {
    fn fetch(&mut self, wanted: Range<u64>) -> Option<Range<u64>> {
        for stream in self.list.iter_mut().filter(|stream| stream.ahead > 0) {
            if stream.start <= wanted.start && wanted.end <= stream.end {
                return None;
            }
            // It goes on where it was, or a little further.
            if stream.start <= wanted.start && wanted.start <= stream.end.saturating_add(stream.ahead) {
                stream.ahead = (2 * stream.ahead).min(MOST);
                let fetched = stream.end.max(wanted.start)..wanted.end.saturating_add(stream.ahead);
                (stream.start, stream.end) = (wanted.start, fetched.end);
                return Some(fetched);
            }
        }
        let end = wanted.end.saturating_add(FIRST);
        self.list[self.next] = Stream { start: wanted.start, end, ahead: FIRST };
        self.next = (self.next + 1) % STREAMS;
        Some(wanted.start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_on_is_fetched_in_longer_and_longer_pieces_without_a_hole() {
        let mut streams = Streams::default();
        let (mut end, mut calls) = (0, 0);
        for at in (0..4 << 20).step_by(1000) {
            if let Some(fetched) = streams.fetch(at..at + 1000) {
                assert_eq!(fetched.start, end, "nothing twice, nothing left out");
                assert!(fetched.end - fetched.start <= MOST + 1000);
                (end, calls) = (fetched.end, calls + 1);
            }
            assert!(at + 1000 <= end);
        }
        assert!(calls < 24, "{calls} calls for 4 MiB");
    }

    #[test]
    fn a_copy_by_itself_fetches_little_and_streams_do_not_disturb_each_other() {
        let mut streams = Streams::default();
        assert_eq!(streams.fetch(0..512), Some(0..512 + FIRST));
        assert_eq!(streams.fetch(1 << 20..(1 << 20) + 96), Some(1 << 20..(1 << 20) + 96 + FIRST));
        // The first goes on, though there was another.
        assert_eq!(streams.fetch(600..700), None);
        assert_eq!(streams.fetch(16_000..17_000), Some(512 + FIRST..17_000 + 2 * FIRST));
        // Backwards is no stream.
        assert_eq!(streams.fetch(100..200), Some(100..200 + FIRST));
    }

    #[test]
    fn who_does_not_get_at_the_streams_fetches_nothing_and_waits_for_nobody() {
        let ahead = Ahead::default();
        let held = ahead.0.lock();
        assert_eq!(ahead.fetch(0..512), None);
        drop(held);
        assert!(ahead.fetch(0..512).is_some());
    }
}
