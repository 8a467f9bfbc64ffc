//! How far ahead of a copy a mapped file is fetched.
//!
//! Left to itself, the system reads around every page that is touched first, by a length that is set for the disk: from 128 KiB up to
//! 8 MiB a touch, which for a file that is opened only to find nothing in it is the whole file. So maps are told that they are
//! read at random, and what is fetched is decided here: what a copy needs, and twice as much each time it goes on where an earlier
//! one ended.
//!
//! Invariant: what is said here changes no answer, only when bytes come from the disk.
//!
//! Threads: each has streams of its own. A thread that reads a file while another does may fetch what is there already.

use std::cell::RefCell;
use std::ops::Range;

/// Fetched behind a copy that goes on nowhere.
const FIRST: u64 = 16 * 1024;
/// Most that is fetched behind a copy.
const MOST: u64 = 256 * 1024;
/// Places a thread reads on from: blocks and index pages of a file or two.
const STREAMS: usize = 4;

thread_local! {
    static STREAMS_HERE: RefCell<Streams> = const { RefCell::new(Streams { list: [Stream::NONE; STREAMS], next: 0 }) };
}

/// What is to be fetched before `wanted` bytes of the file `file` are copied; none if it was asked for before.
pub(super) fn fetch(file: u64, wanted: Range<u64>) -> Option<Range<u64>> {
    STREAMS_HERE.with_borrow_mut(|streams| streams.fetch(file, wanted))
}

/// What a thread reads.
#[derive(Debug)]
struct Streams {
    list: [Stream; STREAMS],
    /// The one that makes room.
    next: usize,
}

/// A stretch of a file that was asked for.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// No file has the number 0.
    file: u64,
    start: u64,
    end: u64,
    ahead: u64,
}

impl Stream {
    const NONE: Self = Self { file: 0, start: 0, end: 0, ahead: 0 };
}

impl Streams {
    fn fetch(&mut self, file: u64, wanted: Range<u64>) -> Option<Range<u64>> {
        for stream in self.list.iter_mut().filter(|stream| stream.file == file) {
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
        self.list[self.next] = Stream { file, start: wanted.start, end, ahead: FIRST };
        self.next = (self.next + 1) % STREAMS;
        Some(wanted.start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        Streams { list: [Stream::NONE; STREAMS], next: 0 }
    }

    #[test]
    fn what_is_read_on_is_fetched_in_longer_and_longer_pieces_without_a_hole() {
        let mut streams = streams();
        let (mut end, mut calls) = (0, 0);
        for at in (0..4 << 20).step_by(1000) {
            if let Some(fetched) = streams.fetch(1, at..at + 1000) {
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
        let mut streams = streams();
        assert_eq!(streams.fetch(1, 0..512), Some(0..512 + FIRST));
        assert_eq!(streams.fetch(1, 1 << 20..(1 << 20) + 96), Some(1 << 20..(1 << 20) + 96 + FIRST));
        assert_eq!(streams.fetch(2, 0..512), Some(0..512 + FIRST), "another file");
        // The first goes on, though there were others.
        assert_eq!(streams.fetch(1, 600..700), None);
        assert_eq!(streams.fetch(1, 16_000..17_000), Some(512 + FIRST..17_000 + 2 * FIRST));
        // Backwards is no stream.
        assert_eq!(streams.fetch(1, 100..200), Some(100..200 + FIRST));
    }
}
