//! Timestamps: nanoseconds since the Unix epoch, one block shared by all fields of a row group (format-spec.md 6.6).
//!
//! They are integers; only, a straight line with jitter is likely. Any order round-trips. A straight line without jitter,
//! a device read by the clock, need not be written out to be looked at: [`Times`].

use super::cursor::Cursor;
use super::ints::{Head, IntegerSink};
use super::numbers::{self, Hope, Sink};
use super::{CodecTag, DecodeError, ints};

/// Appends a block of `times`; at most [`MAX_BLOCK_LEN`](super::MAX_BLOCK_LEN) of them.
pub fn encode_times(times: &[i64], out: &mut Vec<u8>) -> CodecTag {
    ints::encode(times, Hope::Line, out)
}

/// Appends the `count` times of a block to `out`, which after an error is as before.
pub fn decode_times(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    ints::decode(bytes, count, out, |value| value)
}

/// The times of a block: a straight line, or a list.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Empty while there is a line.
    list: Vec<i64>,
    line: Option<StraightLine>,
}

/// `count` times, each `step` after the one before; none of them leaves 64 bits, and there is one at least.
#[derive(Debug, Clone, Copy)]
struct StraightLine {
    start: i64,
    step: i64,
    count: usize,
}

impl Times {
    /// Empty, with room for a list in `list`.
    pub fn reusing(mut list: Vec<i64>) -> Self {
        list.clear();
        Self { list, line: None }
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.list.clear();
        self.line = None;
    }

    /// Reads the `count` times of a block in place of what it held; after an error it is empty.
    pub fn read(&mut self, bytes: &[u8], count: usize) -> Result<(), DecodeError> {
        self.clear();
        let mut cursor = Cursor::new(bytes);
        match ints::read_head(&mut cursor, count)? {
            Head::Raw64(words) => self.list.extend(words.iter().map(|word| i64::from_le_bytes(*word))),
            Head::Scaled(tag, exponent) => {
                let Self { list, line } = self;
                let inner = IntegerSink::new(list, exponent, |time| time);
                let read = numbers::decode(tag, &mut cursor, count, &mut TimesSink { inner, exponent, line });
                if read.is_err() {
                    self.clear();
                }
                read?;
            }
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.line.map_or(self.list.len(), |line| line.count)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time of a row below [`Times::len`].
    pub fn get(&self, row: usize) -> i64 {
        match &self.line {
            Some(line) => line.at(row),
            None => self.list[row],
        }
    }

    /// The first and the last, if there are any.
    pub fn ends(&self) -> Option<(i64, i64)> {
        let last = self.len().checked_sub(1)?;
        Some((self.get(0), self.get(last)))
    }

    /// Whether each is later than the one before.
    pub fn is_rising(&self) -> bool {
        match &self.line {
            Some(line) => line.step > 0 || line.count == 1,
            None => self.list.is_sorted_by(|a, b| a < b),
        }
    }

    /// Of rising times: the first row from `from` on that is at `end` or later, or [`Times::len`].
    pub fn row_at(&self, from: usize, end: i64) -> usize {
        match &self.line {
            Some(line) => line.row_at(end).clamp(from, line.count),
            None => row_at(&self.list, from, end),
        }
    }

    /// All of them, one by one.
    pub fn into_list(mut self) -> Vec<i64> {
        if let Some(line) = self.line {
            self.list.extend((0..line.count).map(|row| line.at(row)));
        }
        self.list
    }
}

/// Of `times`, which rise: the first row from `from` on that is at `end` or later, or their number.
pub(crate) fn row_at(times: &[i64], from: usize, end: i64) -> usize {
    let rest = &times[from..];
    if rest.last().is_none_or(|last| *last < end) {
        return times.len();
    }
    // Doubling steps: near ends are found in a few looks, far ones in a logarithm.
    let mut step = 1;
    while step < rest.len() && rest[step] < end {
        step *= 2;
    }
    let (low, high) = (step / 2, step.min(rest.len()));
    from + low + rest[low..high].partition_point(|time| *time < end)
}

impl StraightLine {
    /// `count` times from `start` by `step`, both times `factor`; none if one of them would leave 64 bits.
    fn within(start: i64, step: i64, count: usize, factor: i64) -> Option<Self> {
        let (start, step) = (start.checked_mul(factor)?, step.checked_mul(factor)?);
        start.checked_add(step.checked_mul(count as i64 - 1)?)?;
        Some(Self { start, step, count })
    }

    fn at(&self, row: usize) -> i64 {
        // Within 64 bits, but the product alone need not be.
        self.start.wrapping_add(self.step.wrapping_mul(row as i64))
    }

    /// Rows before `end`, if there were no last one; the line rises.
    fn row_at(&self, end: i64) -> usize {
        if end <= self.start || self.step <= 0 {
            return if end <= self.start { 0 } else { self.count };
        }
        end.abs_diff(self.start).div_ceil(self.step as u64) as usize
    }
}

/// Keeps a straight line that stays within 64 bits as it is, and lists everything else.
struct TimesSink<'a, F> {
    inner: IntegerSink<'a, i64, F>,
    exponent: u8,
    line: &'a mut Option<StraightLine>,
}

impl<F: Fn(i64) -> i64> Sink for TimesSink<'_, F> {
    fn run(&mut self, value: i64, count: usize) -> Result<(), &'static str> {
        self.inner.run(value, count)
    }

    fn chunk(&mut self, values: &mut [i64]) -> Result<(), &'static str> {
        self.inner.chunk(values)
    }

    fn exact_line(&mut self, start: i64, step: i64, count: usize) -> Result<(), &'static str> {
        *self.line = StraightLine::within(start, step, count, 10_i64.pow(u32::from(self.exponent)));
        if self.line.is_some() { Ok(()) } else { self.inner.exact_line(start, step, count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64], is_line: bool) {
        let mut bytes = Vec::new();
        encode_times(values, &mut bytes);
        let mut times = Times::default();
        times.read(&bytes, values.len()).expect("a block of times");
        assert_eq!(times.line.is_some(), is_line, "{values:?}");
        assert_eq!(times.len(), values.len());
        assert_eq!(times.ends(), values.first().copied().zip(values.last().copied()));
        assert_eq!(times.is_rising(), values.is_sorted_by(|a, b| a < b), "{values:?}");
        values.iter().enumerate().for_each(|(row, value)| assert_eq!(times.get(row), *value));
        if times.is_rising() {
            let near = values.iter().flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]);
            for end in near.chain([i64::MIN, 0, i64::MAX]) {
                for from in [0, values.len() / 2, values.len()] {
                    let expected = from.max(values.partition_point(|time| *time < end));
                    assert_eq!(times.row_at(from, end), expected, "{end} from {from} of {values:?}");
                }
            }
        }
        assert_eq!(times.into_list(), values);
    }

    #[test]
    fn a_line_is_kept_as_one_and_says_what_a_list_would() {
        let line = |start: i64, step: i64| (0..100).map(|i| start + i * step).collect::<Vec<_>>();
        check(&line(1_780_272_000_000_000_000, 10_000_000_000), true);
        check(&line(-3, 1), true);
        check(&line(50, -7), true);
        check(&line(i64::MAX - 99, 1), true);
        check(&line(i64::MIN, 1 << 56), true);
        check(&[], false);
        check(&[5], false);
        check(&[7; 40], false);
        let mut bent = line(1_000_000, 1_000);
        bent[40] += 1;
        check(&bent, false);
        let mut gap = line(1_000_000, 1_000);
        gap[60..].iter_mut().for_each(|time| *time += 5_000);
        check(&gap, false);
        check(&[i64::MIN, -1, i64::MAX], false);
    }

    #[test]
    fn a_line_that_leaves_64_bits_is_listed() {
        let wrapped: Vec<i64> = (0..64).map(|i| (i64::MAX - 10).wrapping_add(i)).collect();
        check(&wrapped, false);
    }
}
