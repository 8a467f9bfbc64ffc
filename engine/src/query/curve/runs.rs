//! Areas of many neighbours at once: what lies in one bucket, under one price, is summed as integers.
//!
//! A run is a stretch of rows whose values are short decimals of one exponent, each no further from the next than the gap
//! allowed. Its area is a sum of products of integers, so it has the bits that the pairs one by one have; its price is
//! multiplied once for all of it, which rounds less often.

use super::{Curve, Frame, product};
use crate::column::{Column, Presence, Values};
use crate::query::error::QueryError;
use crate::segment::Number;
use std::ops::Range;
use wattlog_model::ExactSum;

/// Below this an integer over a power of ten and its double name each other, whichever power it is.
const LARGEST: u64 = 1 << 51;
const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Replaces `integers` by `values[rows]` as integers over a common power of ten, whose exponent it gives; they end before the
/// first value that is no such decimal.
pub(super) fn decimals(values: &Values, rows: Range<usize>, integers: &mut Vec<i64>) -> u8 {
    integers.clear();
    match values {
        Values::Float(v) => return float_decimals(&v[rows], integers),
        Values::Integer(v) => {
            integers.extend(v[rows].iter().take_while(|value| value.unsigned_abs() < LARGEST));
        }
        Values::Unsigned(v) => {
            let small = v[rows].iter().take_while(|value| **value < LARGEST);
            integers.extend(small.map(|value| value.cast_signed()));
        }
        Values::Boolean(_) | Values::String(_) => {}
    }
    0
}

fn float_decimals(floats: &[f64], integers: &mut Vec<i64>) -> u8 {
    let mut common = 0;
    for value in floats {
        let exponents = common..POWERS.len() as u8;
        let mut found = exponents.filter_map(|e| Some((e, as_integer(*value, POWERS[usize::from(e)])?)));
        let Some((exponent, integer)) = found.next() else { break };
        if exponent > common {
            let factor = 10_i64.pow(u32::from(exponent - common));
            let most = LARGEST / factor.unsigned_abs();
            if integers.iter().any(|integer| integer.unsigned_abs() >= most) {
                break;
            }
            integers.iter_mut().for_each(|integer| *integer *= factor);
            common = exponent;
        }
        integers.push(integer);
    }
    common
}

/// The integer whose quotient by `power` has the bits of `value`, if it is small; a zero of either sign is zero.
fn as_integer(value: f64, power: f64) -> Option<i64> {
    let scaled = (value * power).round_ties_even();
    let is_same = scaled / power == value && scaled.abs() < LARGEST as f64;
    is_same.then_some(scaled as i64)
}

impl Curve {
    /// Adds the next rows of the series: those of `rows` that have a value. `integers` is room that is used again.
    pub(in super::super) fn rows(
        &mut self,
        frame: Frame<'_>,
        times: &[i64],
        column: &Column,
        rows: Range<usize>,
        integers: &mut Vec<i64>,
    ) -> Result<(), QueryError> {
        integers.clear();
        let has_runs = self.area && !self.rise && column.presence == Presence::All;
        let exponent = if has_runs { decimals(&column.values, rows.clone(), integers) } else { 0 };
        let positions = match &column.presence {
            Presence::All => rows,
            Presence::Rows(present) => {
                let from = present.partition_point(|row| (*row as usize) < rows.start);
                from..present.partition_point(|row| (*row as usize) < rows.end)
            }
        };
        let number = |position: usize| Number::at(&column.values, position);
        let first = positions.start;
        let mut at = first;
        while at < positions.end {
            // The point before is one of these too: so it is the last one of the curve.
            let from_before = at.checked_sub(first + 1).and_then(|before| integers.get(before..));
            let taken = match from_before {
                Some(integers) => self.run(frame, &times[at - 1..], integers, exponent)?,
                None => 0,
            };
            if taken > 0 {
                at += taken;
                self.last = Some((times[at - 1], number(at - 1).without_sign_of_zero()));
            } else {
                self.point(frame, times[column.row(at)], number(at))?;
                at += 1;
                if at.is_multiple_of(4096) {
                    frame.budget.check()?;
                }
            }
        }
        Ok(())
    }

    /// Adds the areas between the last point, which is the first of these, and those after it, as far as they lie in one bucket
    /// and under one price; how many points that took.
    fn run(
        &mut self,
        frame: Frame<'_>,
        times: &[i64],
        integers: &[i64],
        exponent: u8,
    ) -> Result<usize, QueryError> {
        let from = times[0];
        if from < frame.asked.start || from >= frame.asked.end || integers.len() < 2 {
            return Ok(0);
        }
        if !self.current.contains(&from) {
            self.current = frame.buckets.of(from);
        }
        let mut until = self.current.end.min(frame.asked.end);
        let mut price = None;
        if let Some(prices) = &self.prices {
            let (found, changes) = prices.at(from, &mut self.price_at);
            (price, until) = (found, until.min(changes));
        }
        let factor = 10_i128.pow(9 - u32::from(exponent));
        let (mut area_twice, mut taken) = (0_i128, 0);
        for (time, value) in times.windows(2).zip(integers.windows(2)) {
            let length = time[1].wrapping_sub(time[0]) as u64;
            if time[1] > until || length > self.max_gap_ns as u64 {
                break;
            }
            let both = if self.step { 2 * value[0] } else { value[0] + value[1] };
            // Below 2^52 times 2^64 for all of them together; in billionths it may leave 128 bits.
            let more = area_twice + i128::from(both) * i128::from(length);
            if more.unsigned_abs() > i128::MAX.unsigned_abs() / factor.unsigned_abs() {
                break;
            }
            area_twice = more;
            taken += 1;
        }
        if taken == 0 {
            return Ok(0);
        }
        let area = ExactSum::from_parts(area_twice * factor, 0.0, 0.0);
        let length = u128::from(times[taken].wrapping_sub(from) as u64);
        let place = self.open(self.current.start, frame)?;
        let bucket = &mut self.buckets[place];
        bucket.covered_ns += length;
        bucket.area_twice.merge(&area);
        if let Some(price) = price {
            bucket.priced_ns += length;
            bucket.cost_twice.merge(&product(&area, price));
        }
        Ok(taken)
    }
}
