//! Chunks of statistics: those of up to 64 row groups (or series) for one field, packed column by column.
//!
//! Bytes: format-spec.md section 5.11. A chunk is a bit mask of the groups described, then columns; a column is
//! {id, width, base, packed differences from the base}, so its length follows from the number of groups: a reader
//! skips a column whose id it does not know, and takes one entry out of one column without unpacking the rest.
//!
//! Invariants
//! 1. What is unpacked has the bits of what was packed.
//! 2. Unpacking is total: any bytes give statistics or the name of what does not hold.

use super::layout::STATISTICS_CHUNK;
use super::statistics::BlockStatistics;
use std::sync::Arc;
use wattlog_model::{ExactSum, FieldType, FieldValue, short_decimal};

/// Columns of version 1, with their numbers in the file. A column of zeros is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StatColumn {
    /// Rows of the group less the number of values; of a summary, the number of values.
    MissingRows = 1,
    /// Time of the first value after the group's first row, and of the last before its last row, in time units.
    FirstTime = 2,
    LastTime = 3,
    /// Time of the extremes after the group's first row, in time units.
    MinTime = 4,
    MaxTime = 5,
    /// Power of ten of the unit of all times here.
    TimeUnit = 6,
    /// Power of ten under the four values; [`RAW_VALUES`]: they are bits of doubles.
    Exponent = 7,
    FirstValue = 8,
    LastValue = 9,
    /// Above the least of first and last value, and below the greatest of them, so these stay small.
    MinBelow = 10,
    MaxAbove = 11,
    /// 1: there is no least and greatest value.
    NoExtremes = 12,
    /// Whole part of the sum, over 10^`SumUnit` billionths.
    Sum = 13,
    SumUnit = 14,
    SumRestHigh = 15,
    SumRestLow = 16,
    /// Whole part of the step integral less what regular times would give, over 10^`IntegralUnit` billionths.
    StepResidue = 17,
    /// The same for twice the trapezoid integral less twice the step integral.
    TrapezoidResidue = 18,
    IntegralUnit = 19,
    StepRestHigh = 20,
    StepRestLow = 21,
    TrapezoidRestHigh = 22,
    TrapezoidRestLow = 23,
    /// Longest gap in time units.
    LongestGap = 24,
    NegativeDeltas = 25,
    Exceptions = 26,
}

/// `Exponent` of values that are no short decimals over one power of ten.
pub(crate) const RAW_VALUES: u8 = 15;
/// Highest column number of version 1, plus one.
const COLUMNS: usize = 27;

/// What a chunk's numbers are relative to: the group's rows and times. For a summary `rows` is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub rows: u32,
    pub first_time: i64,
    pub last_time: i64,
}

/// Packs the statistics of one field. `entries` are (place 0..64 in the chunk, its frame, its statistics), rising.
///
/// Texts give their place in the dictionary through `text_id`; an entry whose texts have none must not be here.
pub(crate) fn pack(
    entries: &[(u32, Frame, BlockStatistics)],
    text_id: &dyn Fn(&str) -> Option<u32>,
    out: &mut Vec<u8>,
) {
    if entries.is_empty() {
        return;
    }
    let mask = entries.iter().fold(0_u64, |mask, (place, ..)| mask | 1 << place);
    out.extend_from_slice(&mask.to_le_bytes());

    let exponents = common_exponents(entries);
    let residues: Vec<_> =
        entries.iter().zip(exponents).map(|((.., s), e)| integral_residues(s, e)).collect();
    let units = Units::of(entries, &residues);
    let mut columns = vec![[0_i128; STATISTICS_CHUNK]; COLUMNS];
    for (i, (_, frame, statistics)) in entries.iter().enumerate() {
        let mut set = |column: StatColumn, value: i128| columns[column as usize][i] = value;
        let time = |t: i64| (i128::from(t) - i128::from(frame.first_time)) / units.time;
        set(StatColumn::MissingRows, i128::from(frame.rows).wrapping_sub(i128::from(statistics.count)));
        set(StatColumn::FirstTime, time(statistics.first.0));
        set(StatColumn::LastTime, (i128::from(frame.last_time) - i128::from(statistics.last.0)) / units.time);
        set(StatColumn::TimeUnit, i128::from(units.time_power));
        let number = |value: &FieldValue| integer_form(value, exponents[i], text_id);
        let (first, last) = (number(&statistics.first.1), number(&statistics.last.1));
        set(StatColumn::Exponent, i128::from(exponents[i]));
        set(StatColumn::FirstValue, first);
        set(StatColumn::LastValue, last);
        if let (Some(min), Some(max)) = (&statistics.min, &statistics.max) {
            set(StatColumn::MinTime, time(min.0));
            set(StatColumn::MaxTime, time(max.0));
            set(StatColumn::MinBelow, first.min(last).wrapping_sub(number(&min.1)));
            set(StatColumn::MaxAbove, number(&max.1).wrapping_sub(first.max(last)));
        } else {
            set(StatColumn::NoExtremes, 1);
        }
        let (sum, high, low) = statistics.sum.parts();
        set(StatColumn::Sum, sum / units.sum);
        set(StatColumn::SumUnit, i128::from(units.sum_power));
        set(StatColumn::SumRestHigh, i128::from(high.to_bits()));
        set(StatColumn::SumRestLow, i128::from(low.to_bits()));
        let (_, high, low) = statistics.integral_step.parts();
        let (step, trapezoid) = residues[i];
        set(StatColumn::StepResidue, step / units.integral);
        set(StatColumn::TrapezoidResidue, trapezoid / units.integral);
        set(StatColumn::IntegralUnit, i128::from(units.integral_power));
        set(StatColumn::StepRestHigh, i128::from(high.to_bits()));
        set(StatColumn::StepRestLow, i128::from(low.to_bits()));
        let (_, high, low) = statistics.integral_trapezoid_twice.parts();
        set(StatColumn::TrapezoidRestHigh, i128::from(high.to_bits()));
        set(StatColumn::TrapezoidRestLow, i128::from(low.to_bits()));
        set(StatColumn::LongestGap, i128::from(statistics.longest_gap_ns) / units.time);
        set(StatColumn::NegativeDeltas, i128::from(statistics.negative_deltas));
        set(StatColumn::Exceptions, i128::from(statistics.exceptions));
    }
    for (id, column) in columns.iter().enumerate() {
        let values = &column[..entries.len()];
        if values.iter().any(|v| *v != 0) {
            put_column(id as u8, values, out);
        }
    }
}

/// What values at regular times would give: the step integral, and what twice the trapezoid has more than twice that.
///
/// `first`, `last` and `sum` are billionths. All of it wraps in 128 bits: it is added on one side what is taken off on
/// the other.
fn predicted_integrals(count: u32, span: i128, first: i128, last: i128, sum: i128) -> (i128, i128) {
    let gap = if count > 1 { span / i128::from(count - 1) } else { 0 };
    (sum.wrapping_sub(last).wrapping_mul(gap), last.wrapping_sub(first).wrapping_mul(gap))
}

/// Billionths of a value's integer form.
fn nanos(integer: i128, exponent: u8) -> i128 {
    if exponent == RAW_VALUES { 0 } else { integer.wrapping_mul(10_i128.pow(9 - u32::from(exponent))) }
}

fn integral_residues(statistics: &BlockStatistics, exponent: u8) -> (i128, i128) {
    let number = |value: &FieldValue| match value {
        // Texts and booleans have no integral, and need no prediction.
        FieldValue::String(_) | FieldValue::Boolean(_) => 0,
        number => nanos(integer_form(number, exponent, &|_| None), exponent),
    };
    let (first, last) = (number(&statistics.first.1), number(&statistics.last.1));
    let span = i128::from(statistics.last.0) - i128::from(statistics.first.0);
    let (step, excess) = predicted_integrals(statistics.count, span, first, last, statistics.sum.parts().0);
    let true_step = statistics.integral_step.parts().0;
    let true_excess = statistics.integral_trapezoid_twice.parts().0.wrapping_sub(true_step.wrapping_mul(2));
    (true_step.wrapping_sub(step), true_excess.wrapping_sub(excess))
}

/// Largest powers of ten that divide all times, sums and integrals of a chunk.
struct Units {
    time: i128,
    time_power: u32,
    sum: i128,
    sum_power: u32,
    integral: i128,
    integral_power: u32,
}

impl Units {
    fn of(entries: &[(u32, Frame, BlockStatistics)], residues: &[(i128, i128)]) -> Self {
        let (mut time, mut sum, mut integral) = (Power::new(18), Power::new(38), Power::new(38));
        for (_, frame, s) in entries {
            let from = |t: i64| i128::from(t) - i128::from(frame.first_time);
            time.divide(from(s.first.0));
            time.divide(i128::from(frame.last_time) - i128::from(s.last.0));
            s.min.iter().chain(&s.max).for_each(|(t, _)| time.divide(from(*t)));
            time.divide(i128::from(s.longest_gap_ns));
            sum.divide(s.sum.parts().0);
        }
        for (step, trapezoid) in residues {
            integral.divide(*step);
            integral.divide(*trapezoid);
        }
        Self {
            time: time.value,
            time_power: time.exponent,
            sum: sum.value,
            sum_power: sum.exponent,
            integral: integral.value,
            integral_power: integral.exponent,
        }
    }
}

/// The largest power of ten that divides everything shown to it. Zero only if all was zero: then it is one.
struct Power {
    value: i128,
    exponent: u32,
    seen: bool,
    most: u32,
}

impl Power {
    fn new(most: u32) -> Self {
        Self { value: 1, exponent: 0, seen: false, most }
    }

    fn divide(&mut self, number: i128) {
        if number == 0 {
            return;
        }
        if !self.seen {
            self.seen = true;
            while self.exponent < self.most && number % (self.value * 10) == 0 {
                self.value *= 10;
                self.exponent += 1;
            }
        }
        while number % self.value != 0 {
            self.value /= 10;
            self.exponent -= 1;
        }
    }
}

/// One exponent per entry: the chunk's greatest where the integers stay below 2^53, else the entry's own.
fn common_exponents(entries: &[(u32, Frame, BlockStatistics)]) -> [u8; STATISTICS_CHUNK] {
    let mut own = [0_u8; STATISTICS_CHUNK];
    let mut greatest = 0;
    for (i, (.., statistics)) in entries.iter().enumerate() {
        own[i] = decimal_exponent(statistics);
        if own[i] != RAW_VALUES {
            greatest = greatest.max(own[i]);
        }
    }
    for (i, (.., statistics)) in entries.iter().enumerate() {
        let fits = |v: &FieldValue| match v {
            FieldValue::Float(v) => scaled(*v, greatest).is_some(),
            _ => true,
        };
        if own[i] != RAW_VALUES && values_of(statistics).all(fits) {
            own[i] = greatest;
        }
    }
    own
}

fn values_of(statistics: &BlockStatistics) -> impl Iterator<Item = &FieldValue> {
    [&statistics.first, &statistics.last]
        .into_iter()
        .chain(&statistics.min)
        .chain(&statistics.max)
        .map(|(_, v)| v)
}

/// Smallest exponent over which all four values are whole, or [`RAW_VALUES`].
fn decimal_exponent(statistics: &BlockStatistics) -> u8 {
    let mut exponent = 0;
    for value in values_of(statistics) {
        if let FieldValue::Float(v) = value {
            match short_decimal(*v) {
                Some((_, own)) => exponent = exponent.max(own),
                None => return RAW_VALUES,
            }
        }
    }
    let fits = |v: &FieldValue| match v {
        FieldValue::Float(v) => scaled(*v, exponent).is_some(),
        _ => true,
    };
    if values_of(statistics).all(fits) { exponent } else { RAW_VALUES }
}

/// `value` over 10^`exponent`, if it is a short decimal of at most that exponent and comes back bit for bit.
fn scaled(value: f64, exponent: u8) -> Option<i64> {
    let (integer, own) = short_decimal(value)?;
    let more = exponent.checked_sub(own)?;
    let integer = integer.checked_mul(10_i64.pow(u32::from(more)))?;
    (integer.unsigned_abs() < 1 << 53).then_some(integer)
}

fn integer_form(value: &FieldValue, exponent: u8, text_id: &dyn Fn(&str) -> Option<u32>) -> i128 {
    match value {
        FieldValue::Float(v) if exponent == RAW_VALUES => i128::from(v.to_bits()),
        FieldValue::Float(v) => {
            i128::from(scaled(*v, exponent).expect("the exponent was chosen for this value"))
        }
        FieldValue::Integer(v) => i128::from(*v),
        FieldValue::Unsigned(v) => i128::from(*v),
        FieldValue::Boolean(v) => i128::from(*v),
        FieldValue::String(v) => {
            i128::from(text_id(v).expect("only texts of the dictionary have statistics"))
        }
    }
}

fn put_column(id: u8, values: &[i128], out: &mut Vec<u8>) {
    let base = *values.iter().min().expect("a column has at least one value");
    let widest = values.iter().map(|v| v.wrapping_sub(base) as u128).max().unwrap_or(0);
    let width = u128::BITS - widest.leading_zeros();
    out.push(id);
    out.push(width as u8);
    put_zigzag(base, out);
    let start = out.len();
    out.resize(start + packed_len(values.len(), width), 0);
    for (i, value) in values.iter().enumerate() {
        put_bits(&mut out[start..], i * width as usize, width, value.wrapping_sub(base) as u128);
    }
}

fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

fn put_bits(out: &mut [u8], at: usize, width: u32, value: u128) {
    let mut done = 0;
    while done < width {
        let bit = at + done as usize;
        let room = 8 - (bit % 8) as u32;
        let taken = room.min(width - done);
        let part = (value >> done) as u8 & (0xff >> (8 - taken));
        out[bit / 8] |= part << (bit % 8);
        done += taken;
    }
}

/// `width` bits from bit `at`; the caller made sure that they are there.
fn take_bits(bytes: &[u8], at: usize, width: u32) -> u128 {
    let (byte, shift) = (at / 8, (at % 8) as u32);
    if width <= 56
        && let Some(word) = bytes.get(byte..).and_then(|rest| rest.first_chunk::<8>())
    {
        return u128::from(u64::from_le_bytes(*word) >> shift & ((1 << width) - 1));
    }
    let mut value = 0;
    let mut done = 0;
    while done < width {
        let bit = at + done as usize;
        let room = 8 - (bit % 8) as u32;
        let taken = room.min(width - done);
        let part = (bytes[bit / 8] >> (bit % 8)) & (0xff >> (8 - taken));
        value |= u128::from(part) << done;
        done += taken;
    }
    value
}

fn put_zigzag(value: i128, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 127)) as u128;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_zigzag(bytes: &mut &[u8]) -> Option<i128> {
    let mut value = 0_u128;
    for shift in (0..128).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 126 && *byte > 3 {
            return None;
        }
        value |= u128::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some((value >> 1) as i128 ^ -((value & 1) as i128));
        }
    }
    None
}

/// What does not hold in a chunk: its part's name in the specification.
pub(crate) type ChunkFault = &'static str;

/// A chunk whose columns have been found; entries are taken out one at a time.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    mask: u64,
    columns: [Option<Packed<'a>>; COLUMNS],
}

#[derive(Debug, Clone, Copy)]
struct Packed<'a> {
    base: i128,
    width: u32,
    bits: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Finds the columns of a chunk; no bytes are a chunk without entries.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Result<Self, ChunkFault> {
        let mut chunk = Self { mask: 0, columns: [None; COLUMNS] };
        if bytes.is_empty() {
            return Ok(chunk);
        }
        let (mask, rest) = bytes.split_first_chunk::<8>().ok_or("statistics_mask")?;
        bytes = rest;
        chunk.mask = u64::from_le_bytes(*mask);
        let count = chunk.mask.count_ones() as usize;
        let mut before = 0;
        while let [id, width, rest @ ..] = bytes {
            if *id <= before || *width > 128 {
                return Err("statistics_column");
            }
            before = *id;
            bytes = rest;
            let base = take_zigzag(&mut bytes).ok_or("statistics_column")?;
            let (bits, rest) =
                bytes.split_at_checked(packed_len(count, u32::from(*width))).ok_or("statistics_column")?;
            bytes = rest;
            // A column of a later version is skipped.
            if let Some(column) = chunk.columns.get_mut(usize::from(*id)) {
                *column = Some(Packed { base, width: u32::from(*width), bits });
            }
        }
        if bytes.is_empty() { Ok(chunk) } else { Err("statistics_column") }
    }

    fn number(&self, column: StatColumn, index: usize) -> i128 {
        self.columns[column as usize].map_or(0, |packed| {
            let at = index * packed.width as usize;
            packed.base.wrapping_add(take_bits(packed.bits, at, packed.width) as i128)
        })
    }

    /// The entry of `place`, if it has one.
    pub(crate) fn get(
        &self,
        place: u32,
        frame: Frame,
        field_type: FieldType,
        texts: &[Arc<str>],
    ) -> Result<Option<BlockStatistics>, ChunkFault> {
        if place >= STATISTICS_CHUNK as u32 || self.mask >> place & 1 == 0 {
            return Ok(None);
        }
        let index = (self.mask & ((1 << place) - 1)).count_ones() as usize;
        let number = |column| self.number(column, index);
        let small = |column, most: u32| u32::try_from(number(column)).ok().filter(|v| *v <= most);
        let unit = |column, most| small(column, most).map(|power| 10_i128.pow(power));
        let time_unit = unit(StatColumn::TimeUnit, 18).ok_or("statistics_time_unit")?;
        let time = |column| {
            let after = number(column).checked_mul(time_unit)?;
            let time = i128::from(frame.first_time).checked_add(after)?;
            i64::try_from(time).ok().filter(|t| (frame.first_time..=frame.last_time).contains(t))
        };
        let count = i128::from(frame.rows).wrapping_sub(number(StatColumn::MissingRows));
        let count = u32::try_from(count).ok().filter(|c| *c > 0 && (frame.rows == 0 || *c <= frame.rows));
        let count = count.ok_or("statistics_count")?;
        let exponent =
            small(StatColumn::Exponent, 15).map(|e| e as u8).filter(|e| *e <= 9 || *e == RAW_VALUES);
        let exponent =
            exponent.filter(|e| *e == 0 || field_type == FieldType::Float).ok_or("statistics_exponent")?;
        let value = |number| value_form(number, exponent, field_type, texts).ok_or("statistics_value");

        let (first, last) = (number(StatColumn::FirstValue), number(StatColumn::LastValue));
        let first_time = time(StatColumn::FirstTime).ok_or("statistics_time")?;
        let before_last = number(StatColumn::LastTime).checked_mul(time_unit).ok_or("statistics_time")?;
        let last_time = i128::from(frame.last_time)
            .checked_sub(before_last)
            .and_then(|t| i64::try_from(t).ok())
            .filter(|t| (first_time..=frame.last_time).contains(t))
            .ok_or("statistics_time")?;
        let numeric = !matches!(field_type, FieldType::Boolean | FieldType::String);
        let (min, max) = if numeric && number(StatColumn::NoExtremes) == 0 {
            let min = first.min(last).wrapping_sub(number(StatColumn::MinBelow));
            let max = first.max(last).wrapping_add(number(StatColumn::MaxAbove));
            let min_time = time(StatColumn::MinTime).ok_or("statistics_time")?;
            let max_time = time(StatColumn::MaxTime).ok_or("statistics_time")?;
            (Some((min_time, value(min)?)), Some((max_time, value(max)?)))
        } else {
            (None, None)
        };
        let double =
            |column| u64::try_from(number(column)).map(f64::from_bits).map_err(|_| "statistics_rest");
        let sum_unit = unit(StatColumn::SumUnit, 38).ok_or("statistics_sum_unit")?;
        let integral_unit = unit(StatColumn::IntegralUnit, 38).ok_or("statistics_integral_unit")?;
        let sum = number(StatColumn::Sum).checked_mul(sum_unit).ok_or("statistics_sum")?;
        let residue = |column| number(column).checked_mul(integral_unit).ok_or("statistics_integral");
        let span = i128::from(last_time) - i128::from(first_time);
        let (step, excess) = if numeric {
            predicted_integrals(count, span, nanos(first, exponent), nanos(last, exponent), sum)
        } else {
            (0, 0)
        };
        let step = step.wrapping_add(residue(StatColumn::StepResidue)?);
        let trapezoid =
            excess.wrapping_add(residue(StatColumn::TrapezoidResidue)?).wrapping_add(step.wrapping_mul(2));
        let gap = number(StatColumn::LongestGap).checked_mul(time_unit).ok_or("statistics_gap")?;
        Ok(Some(BlockStatistics {
            count,
            first: (first_time, value(first)?),
            last: (last_time, value(last)?),
            min,
            max,
            sum: ExactSum::from_parts(sum, double(StatColumn::SumRestHigh)?, double(StatColumn::SumRestLow)?),
            integral_step: ExactSum::from_parts(
                step,
                double(StatColumn::StepRestHigh)?,
                double(StatColumn::StepRestLow)?,
            ),
            integral_trapezoid_twice: ExactSum::from_parts(
                trapezoid,
                double(StatColumn::TrapezoidRestHigh)?,
                double(StatColumn::TrapezoidRestLow)?,
            ),
            longest_gap_ns: i64::try_from(gap).ok().filter(|g| *g >= 0).ok_or("statistics_gap")?,
            negative_deltas: small(StatColumn::NegativeDeltas, u32::MAX).ok_or("statistics_deltas")?,
            exceptions: small(StatColumn::Exceptions, u32::MAX).ok_or("statistics_exceptions")?,
        }))
    }
}

fn value_form(number: i128, exponent: u8, field_type: FieldType, texts: &[Arc<str>]) -> Option<FieldValue> {
    Some(match field_type {
        FieldType::Float if exponent == RAW_VALUES => {
            FieldValue::Float(f64::from_bits(u64::try_from(number).ok()?))
        }
        FieldType::Float if exponent <= 9 => {
            let integer = i64::try_from(number).ok().filter(|v| v.unsigned_abs() < 1 << 53)?;
            FieldValue::Float(integer as f64 / 10_i64.pow(u32::from(exponent)) as f64)
        }
        FieldType::Float => return None,
        FieldType::Integer => FieldValue::Integer(i64::try_from(number).ok()?),
        FieldType::Unsigned => FieldValue::Unsigned(u64::try_from(number).ok()?),
        FieldType::Boolean => FieldValue::Boolean(match number {
            0 => false,
            1 => true,
            _ => return None,
        }),
        FieldType::String => FieldValue::String(Arc::clone(texts.get(usize::try_from(number).ok()?)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Values;
    use proptest::prelude::*;

    fn unpack(bytes: &[u8], entries: &[(u32, Frame, BlockStatistics)], field_type: FieldType) {
        let chunk = Chunk::parse(bytes).unwrap();
        let mut expected = entries.iter();
        let mut next = expected.next();
        for place in 0..STATISTICS_CHUNK as u32 {
            let frame = next.map_or(Frame { rows: 1, first_time: 0, last_time: 0 }, |entry| entry.1);
            let found = chunk.get(place, frame, field_type, &[]).unwrap();
            match next {
                Some((at, _, statistics)) if *at == place => {
                    assert!(found.unwrap().same_bits(statistics));
                    next = expected.next();
                }
                _ => assert!(found.is_none()),
            }
        }
        assert!(next.is_none());
    }

    fn float_entries(blocks: &[Vec<(u32, f64)>], summary: bool) -> Vec<(u32, Frame, BlockStatistics)> {
        let mut entries = Vec::new();
        for (i, block) in blocks.iter().enumerate().filter(|(_, block)| !block.is_empty()) {
            let mut time = 1_000_000_000 * i as i64;
            let times: Vec<i64> = block
                .iter()
                .map(|(gap, _)| {
                    time += i64::from(*gap) + 1;
                    time
                })
                .collect();
            let values = Values::Float(block.iter().map(|(_, value)| *value).collect());
            let statistics = BlockStatistics::compute(&times, &values, 0..times.len()).unwrap();
            let frame = Frame {
                rows: if summary { 0 } else { times.len() as u32 + 3 },
                first_time: times[0] - 7,
                last_time: time + 9,
            };
            entries.push((i as u32, frame, statistics));
        }
        entries
    }

    fn any_float() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => (-100_000..100_000_i32).prop_map(|v| f64::from(v) / 10.0),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop::sample::select(vec![-0.0, 0.0, f64::NAN, f64::INFINITY, 5e-324, f64::MAX, 9_007_199_254_740_991.0, 1e-9]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_packed_comes_back_bit_for_bit(
            blocks in prop::collection::vec(prop::collection::vec((any::<u32>(), any_float()), 0..20), 0..64),
            summary: bool,
        ) {
            let entries = float_entries(&blocks, summary);
            let mut bytes = Vec::new();
            pack(&entries, &|_| None, &mut bytes);
            unpack(&bytes, &entries, FieldType::Float);
        }

        #[test]
        fn any_bytes_are_a_chunk_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), place in 0_u32..64, rows: u32) {
            if let Ok(chunk) = Chunk::parse(&bytes) {
                for field_type in FieldType::ALL {
                    let frame = Frame { rows, first_time: -5, last_time: i64::MAX };
                    let _ = chunk.get(place, frame, field_type, &[]);
                }
            }
        }

        #[test]
        fn changed_bytes_are_a_chunk_or_an_error(seed: u64, at in 0_usize..400, byte: u8) {
            let blocks: Vec<Vec<(u32, f64)>> = (0..40)
                .map(|b| (0..9).map(|i| ((seed >> (i % 60)) as u32, (seed.rotate_left(i * b) % 5000) as f64 / 10.0)).collect())
                .collect();
            let mut bytes = Vec::new();
            pack(&float_entries(&blocks, false), &|_| None, &mut bytes);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(chunk) = Chunk::parse(&bytes) {
                for place in 0..64 {
                    let frame = Frame { rows: 12, first_time: i64::MIN, last_time: i64::MAX };
                    let _ = chunk.get(place, frame, FieldType::Float, &[]);
                }
            }
        }

        #[test]
        fn bits_come_back_from_where_they_were_put(values in prop::collection::vec(any::<u128>(), 1..20), width in 0_u32..=128) {
            let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
            let mut bytes = vec![0; packed_len(values.len(), width)];
            for (i, value) in values.iter().enumerate() {
                put_bits(&mut bytes, i * width as usize, width, value & mask);
            }
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(take_bits(&bytes, i * width as usize, width), value & mask);
            }
        }

        #[test]
        fn bases_of_128_bits_come_back(value: i128) {
            let mut bytes = Vec::new();
            put_zigzag(value, &mut bytes);
            prop_assert!(bytes.len() <= 19);
            prop_assert_eq!(take_zigzag(&mut &bytes[..]), Some(value));
        }
    }

    #[test]
    fn a_column_of_a_later_version_is_skipped() {
        let entries = float_entries(&[vec![(1, 1.5), (2, 2.5)], vec![(3, -1.5)]], false);
        let mut bytes = Vec::new();
        pack(&entries, &|_| None, &mut bytes);
        put_column(200, &[i128::MAX, 17], &mut bytes);
        unpack(&bytes, &entries, FieldType::Float);
    }
}
