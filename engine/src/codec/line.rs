//! LINE: a start, a step, a list of gaps, and packed residuals (format-spec.md 6.9).
//!
//! Times read in a loop lie on a line with jitter; taking differences would double the noise. A gap says that some
//! steps are missing before a value (or, negative, that it came twice), so that an outage does not bend the line.

use super::cursor::{Cursor, put_varint, put_zigzag, unzigzag, varint_len, zigzag};
use super::mini::{Center, StreamPlan, read_stream};
use super::numbers::Sink;
use super::{DecodeError, MINI_BLOCK_LEN, kernel};

/// A line through values, with what is left of them.
pub(crate) struct Line {
    start: i64,
    step: i64,
    /// (index of the value, steps skipped before it), by rising index.
    gaps: Vec<(usize, i64)>,
    /// Empty if every value lies on the line.
    residuals: Vec<i64>,
    plan: StreamPlan,
}

/// Below this the start and the step cost more than the residuals save.
pub(crate) const MIN_LEN: usize = 32;

impl Line {
    /// The line that meets every value.
    pub(crate) fn exact(start: i64, step: i64) -> Self {
        Self { start, step, gaps: Vec::new(), residuals: Vec::new(), plan: StreamPlan::default() }
    }

    /// The line that takes fewer than `limit` bytes, if there is one.
    pub(crate) fn fit(values: &[i64], limit: usize) -> Option<Self> {
        if values.len() < MIN_LEN {
            return None;
        }
        // Differences of a line fit in 63 bits; anything wilder is left to the other codecs.
        let survey = kernel::survey_checked(values)?;
        if survey.max.checked_sub(survey.min)? >= 1 << 62 {
            return None;
        }
        let rough = median_difference(values);
        if rough == 0 {
            return None;
        }
        let most_gaps = values.len() / 16;
        let mut gaps = find_gaps(values, rough, most_gaps)?;
        // Over the whole block the jitter of the ends weighs little: this step is exact to a fraction of it.
        let steps = values.len() as i64 - 1 + gaps.iter().map(|(_, skipped)| skipped).sum::<i64>();
        let span = values[values.len() - 1] - values[0];
        let step = if steps == 0 { rough } else { divide_to_nearest(span, steps) };
        if step != rough && step != 0 {
            gaps = find_gaps(values, step, most_gaps)?;
        }
        let step = if step == 0 { rough } else { step };
        let line = Self::along(values, step, gaps);
        (line.bytes() < limit).then_some(line)
    }

    fn along(values: &[i64], step: i64, gaps: Vec<(usize, i64)>) -> Self {
        let mut residuals = values.to_vec();
        let start = values[0];
        let mut expected = start;
        let mut next_gap = gaps.iter().peekable();
        for (index, residual) in residuals.iter_mut().enumerate() {
            if let Some((_, skipped)) = next_gap.next_if(|(at, _)| *at == index) {
                expected = expected.wrapping_add(step.wrapping_mul(*skipped));
            }
            *residual = residual.wrapping_sub(expected);
            expected = expected.wrapping_add(step);
        }
        if residuals.iter().all(|r| *r == 0) {
            residuals.clear();
        }
        let plan = StreamPlan::new(&residuals, Center::Sampled, usize::MAX);
        Self { start, step, gaps, residuals, plan }
    }

    /// Exact size of the payload.
    pub(crate) fn bytes(&self) -> usize {
        let mut previous = 0;
        let gaps: usize = self
            .gaps
            .iter()
            .map(|(index, skipped)| {
                let bytes = varint_len((index - previous) as u64) + varint_len(zigzag(*skipped));
                previous = *index;
                bytes
            })
            .sum();
        varint_len(zigzag(self.start))
            + varint_len(zigzag(self.step))
            + varint_len(self.gaps.len() as u64)
            + gaps
            + 1
            + self.plan.bytes
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_zigzag(self.start, out);
        put_zigzag(self.step, out);
        put_varint(self.gaps.len() as u64, out);
        let mut previous = 0;
        for (index, skipped) in &self.gaps {
            put_varint((index - previous) as u64, out);
            put_zigzag(*skipped, out);
            previous = *index;
        }
        out.push(u8::from(!self.residuals.is_empty()));
        self.plan.write(&self.residuals, out);
    }
}

/// The middle one of up to 31 differences, spread over the block.
fn median_difference(values: &[i64]) -> i64 {
    let last = values.len() - 1;
    let samples = last.min(31);
    let mut differences = [0; 31];
    for (i, difference) in differences[..samples].iter_mut().enumerate() {
        let at = (2 * i + 1) * last / (2 * samples);
        *difference = values[at + 1] - values[at];
    }
    *differences[..samples].select_nth_unstable(samples / 2).1
}

/// Where a difference is nearer to another multiple of `step` than to one; None if that is so in too many places.
fn find_gaps(values: &[i64], step: i64, most: usize) -> Option<Vec<(usize, i64)>> {
    let mut gaps = Vec::new();
    let half = step.unsigned_abs() / 2;
    for (index, pair) in values.windows(2).enumerate() {
        let off = pair[1] - pair[0] - step;
        if off.unsigned_abs() > half {
            let skipped = divide_to_nearest(off, step);
            if skipped != 0 {
                if gaps.len() == most {
                    return None;
                }
                gaps.push((index + 1, skipped));
            }
        }
    }
    Some(gaps)
}

fn divide_to_nearest(dividend: i64, divisor: i64) -> i64 {
    let (dividend, divisor) = (i128::from(dividend), i128::from(divisor));
    let half = divisor.abs() / 2;
    let shifted = if dividend < 0 { dividend - half } else { dividend + half };
    (shifted / divisor) as i64
}

/// Reads the payload and hands the values on.
pub(crate) fn decode(cursor: &mut Cursor<'_>, count: usize, sink: &mut impl Sink) -> Result<(), DecodeError> {
    let mut expected = cursor.zigzag()?;
    let step = cursor.zigzag()?;
    let gap_count = cursor.varint_in(0..=count - 1, "number of gaps")?;
    let mut gaps = Vec::with_capacity(gap_count.min(cursor.left()));
    let mut index = 0;
    for _ in 0..gap_count {
        index += cursor.varint_in(1..=count - 1 - index, "index of a gap")?;
        gaps.push((index, unzigzag(cursor.varint()?)));
    }
    let mut next_gap = gaps.iter().copied().peekable();
    let mut index = 0;
    // Adds the line to residuals, stretch by stretch between gaps.
    let mut add_line = |residuals: &mut [i64]| {
        let mut from = 0;
        while from < residuals.len() {
            if let Some((_, skipped)) = next_gap.next_if(|(at, _)| *at == index) {
                expected = expected.wrapping_add(step.wrapping_mul(skipped));
            }
            let to =
                next_gap.peek().map_or(residuals.len(), |(at, _)| residuals.len().min(from + at - index));
            kernel::add_line(&mut residuals[from..to], expected, step);
            expected = expected.wrapping_add(step.wrapping_mul((to - from) as i64));
            index += to - from;
            from = to;
        }
    };
    match cursor.byte()? {
        0 if gaps.is_empty() => sink.exact_line(expected, step, count).map_err(|what| cursor.error(what)),
        0 => {
            let mut values = [0; MINI_BLOCK_LEN];
            let mut left = count;
            while left > 0 {
                let len = left.min(MINI_BLOCK_LEN);
                values[..len].fill(0);
                add_line(&mut values[..len]);
                sink.chunk(&mut values[..len]).map_err(|what| cursor.error(what))?;
                left -= len;
            }
            Ok(())
        }
        1 => read_stream(cursor, count, |residuals, at| {
            add_line(residuals);
            sink.chunk(residuals).map_err(|what| at.error(what))
        }),
        _ => Err(cursor.error("neither with residuals nor without")),
    }
}
