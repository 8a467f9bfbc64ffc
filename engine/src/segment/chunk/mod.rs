//! Chunks of statistics: those of up to 64 row groups (or series) for one field, packed column by column.
//!
//! Bytes: format-spec.md section 5.11. A chunk is a bit mask of the groups described, then columns; a column is
//! {id, width, base, packed differences from the base}, so its length follows from the number of groups: a reader
//! skips a column whose id it does not know, and takes one entry out of one column without unpacking the rest.
//!
//! Invariants
//! 1. What is unpacked has the bits of what was packed.
//! 2. Unpacking is total: any bytes give statistics or the name of what does not hold.

mod pack;
mod unpack;

#[cfg(test)]
mod tests;

pub(crate) use pack::pack;
pub(crate) use unpack::Chunk;

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

fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}
