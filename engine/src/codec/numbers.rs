//! Blocks of 64-bit integers: the part that times, integers and scaled decimals have in common (format-spec.md 6.4).
//!
//! `choose` works out the exact size of each codec and takes the smallest, with a lean towards the faster decoder;
//! `decode` hands the integers of a block to a [`Sink`], at most 128 at a time.

use super::cursor::{Cursor, bit_len, put_varint, put_zigzag, varint_len, zigzag};
use super::line::{self, Line};
use super::mini::{
    Center, Run, StreamPlan, SumLine, get_packed, packed_len, put_packed, read_lines, read_list, read_stream,
    read_sums,
};
use super::{CodecTag, DecodeError, MAX_BLOCK_LEN, MINI_BLOCK_LEN, kernel, pco};

/// Most entries of a DICT block: their number less one is a byte.
pub(crate) const MAX_DICT_LEN: usize = 256;

/// Takes the integers of a block in order.
pub(crate) trait Sink {
    /// Whether [`Sink::line`] is cheaper than the values.
    const TAKES_LINES: bool = false;

    /// `count` times the same.
    fn run(&mut self, value: i64, count: usize) -> Result<(), &'static str>;
    /// At most [`MINI_BLOCK_LEN`] values; the slice may be changed.
    fn chunk(&mut self, values: &mut [i64]) -> Result<(), &'static str>;
    /// [`MINI_BLOCK_LEN`] values that were not made yet.
    fn line(&mut self, line: SumLine<'_>) -> Result<(), &'static str> {
        let mut values = [0; MINI_BLOCK_LEN];
        line.values(&mut values);
        self.chunk(&mut values)
    }
    /// `start + i * step` for `count` values, modulo 2^64.
    fn exact_line(&mut self, start: i64, step: i64, count: usize) -> Result<(), &'static str> {
        let mut values = [0; MINI_BLOCK_LEN];
        let mut done = 0;
        while done < count {
            let values = &mut values[..MINI_BLOCK_LEN.min(count - done)];
            values.fill(0);
            kernel::add_line(values, start.wrapping_add(step.wrapping_mul(done as i64)), step);
            self.chunk(values)?;
            done += values.len();
        }
        Ok(())
    }
}

/// Whether a straight line is worth a try even if neither FOR nor DELTA suggests one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hope {
    /// Times: nearly always a line with noise.
    Line,
    /// Readings: only if they rise or fall strictly.
    Any,
}

/// Appends tag, `head` and payload of `values`, unless that is `limit` bytes or more: then appends nothing.
pub(crate) fn encode(
    values: &[i64],
    head: &[u8],
    hope: Hope,
    limit: usize,
    out: &mut Vec<u8>,
) -> Option<CodecTag> {
    let choice = choose(values, hope, limit.saturating_sub(1 + head.len()))?;
    out.push(choice.tag() as u8);
    out.extend_from_slice(head);
    let start = out.len();
    choice.write(values, out);
    debug_assert_eq!(out.len() - start, choice.bytes(), "{:?}", choice.tag());
    Some(choice.tag())
}

/// A codec with all that its writer needs.
enum Choice {
    Const(i64),
    Rle { values: Vec<i64>, lengths: Vec<i64>, value_plan: StreamPlan, length_plan: StreamPlan },
    Dict { entries: Vec<i64>, gaps: Vec<i64>, gap_plan: StreamPlan, bytes: usize },
    For(StreamPlan),
    Delta { start: i64, deltas: Vec<i64>, plan: StreamPlan },
    Line(Line),
}

fn choose(values: &[i64], hope: Hope, limit: usize) -> Option<Choice> {
    let survey = kernel::survey_checked(values)?;
    if survey.changes == 0 {
        return Some(Choice::Const(survey.min)).filter(|choice| choice.bytes() < limit);
    }
    let deltas = differences(values);
    let slope = kernel::survey(&deltas[1..]);
    if slope.changes == 0 && values.len() >= line::MIN_LEN {
        return Some(Choice::Line(Line::exact(values[0], slope.min))).filter(|choice| choice.bytes() < limit);
    }
    let deltas = Choice::delta(values[0], deltas);
    let offsets = Choice::For(StreamPlan::new(values, Center::Sampled, usize::MAX));
    // FOR needs no prefix sum: it may be 3 % larger.
    let mut best = if offsets.bytes() * 100 <= deltas.bytes() * 103 { offsets } else { deltas };

    let is_monotone = slope.min > 0 || slope.max < 0;
    if (hope == Hope::Line || is_monotone)
        && let Some(line) = Line::fit(values, best.bytes())
    {
        best = Choice::Line(line);
    }
    // A run costs two bytes or more, nearly always.
    if 2 * survey.changes < best.bytes() {
        let runs = Choice::rle(values, survey.changes + 1);
        if runs.bytes() < best.bytes() {
            best = runs;
        }
    }
    // A look-up is slower than arithmetic: DICT has to be 6 % smaller.
    if let Some(dict) = Choice::dict(values, best.bytes() * 100 / 106) {
        best = dict;
    }
    Some(best).filter(|best| best.bytes() < limit)
}

impl Choice {
    fn tag(&self) -> CodecTag {
        match self {
            Self::Const(_) => CodecTag::Const,
            Self::Rle { .. } => CodecTag::Rle,
            Self::Dict { .. } => CodecTag::Dict,
            Self::For(_) => CodecTag::For,
            Self::Delta { .. } => CodecTag::Delta,
            Self::Line(_) => CodecTag::Line,
        }
    }

    /// Exact size of the payload.
    fn bytes(&self) -> usize {
        match self {
            Self::Const(value) => varint_len(zigzag(*value)),
            Self::Rle { values, value_plan, length_plan, .. } => {
                varint_len(values.len() as u64) + value_plan.bytes + length_plan.bytes
            }
            Self::Dict { bytes, .. } => *bytes,
            Self::For(plan) => plan.bytes,
            Self::Delta { start, plan, .. } => varint_len(zigzag(*start)) + plan.bytes,
            Self::Line(line) => line.bytes(),
        }
    }

    fn delta(first: i64, deltas: Vec<i64>) -> Self {
        let start = first.wrapping_sub(deltas[0]);
        let plan = StreamPlan::new(&deltas, Center::Zero, usize::MAX);
        Self::Delta { start, deltas, plan }
    }

    fn rle(values: &[i64], runs: usize) -> Self {
        let mut run_values = Vec::with_capacity(runs);
        let mut lengths = Vec::with_capacity(runs);
        for run in values.chunk_by(|a, b| a == b) {
            run_values.push(run[0]);
            lengths.push(run.len() as i64 - 1);
        }
        let value_plan = StreamPlan::new(&run_values, Center::Sampled, usize::MAX);
        let length_plan = StreamPlan::new(&lengths, Center::Sampled, usize::MAX);
        Self::Rle { values: run_values, lengths, value_plan, length_plan }
    }

    /// None if it would take `limit` bytes or more.
    fn dict(values: &[i64], limit: usize) -> Option<Self> {
        // The widest code that leaves a byte for each entry bounds the number of entries worth looking for.
        let width = (1..=8_u32).rev().find(|w| codes_len(values.len(), *w) + (1 << (w - 1)) + 3 < limit)?;
        let entries = distinct(values, 1 << width)?;
        let width = code_width(entries.len());
        let mut gaps = vec![0; entries.len()];
        kernel::differences(&entries, 0, &mut gaps);
        let gap_plan = StreamPlan::new(&gaps[1..], Center::Sampled, usize::MAX);
        let bytes = 1 + varint_len(zigzag(entries[0])) + gap_plan.bytes + codes_len(values.len(), width);
        (bytes < limit).then_some(Self::Dict { entries, gaps, gap_plan, bytes })
    }

    fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        match self {
            Self::Const(value) => put_zigzag(*value, out),
            Self::Rle { values, lengths, value_plan, length_plan } => {
                put_varint(values.len() as u64, out);
                value_plan.write(values, out);
                length_plan.write(lengths, out);
            }
            Self::Dict { entries, gaps, gap_plan, .. } => {
                out.push((entries.len() - 1) as u8);
                put_zigzag(entries[0], out);
                gap_plan.write(&gaps[1..], out);
                write_codes(values, entries, out);
            }
            Self::For(plan) => plan.write(values, out),
            Self::Delta { start, deltas, plan } => {
                put_zigzag(*start, out);
                plan.write(deltas, out);
            }
            Self::Line(line) => line.write(out),
        }
    }
}

/// Of at least two values. The first has no difference; it gets its neighbour's, which packs like it.
fn differences(values: &[i64]) -> Vec<i64> {
    let mut deltas = vec![0; values.len()];
    kernel::differences(values, values[0], &mut deltas);
    deltas[0] = deltas[1];
    deltas
}

fn code_width(entries: usize) -> u32 {
    bit_len(entries as u64 - 1)
}

fn codes_len(count: usize, width: u32) -> usize {
    count / MINI_BLOCK_LEN * packed_len(MINI_BLOCK_LEN, width) + packed_len(count % MINI_BLOCK_LEN, width)
}

/// The distinct values, rising; None if there are more than `most`.
fn distinct(values: &[i64], most: usize) -> Option<Vec<i64>> {
    const SLOTS: usize = 4 * MAX_DICT_LEN;
    // Open addressing, never more than a quarter full; slot 0 means free.
    let mut table = [0_u16; SLOTS];
    let mut entries: Vec<i64> = Vec::with_capacity(most.min(MAX_DICT_LEN));
    let mut last = None;
    for value in values {
        if last == Some(*value) {
            continue;
        }
        last = Some(*value);
        let mut slot = ((*value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize;
        loop {
            match table[slot % SLOTS] {
                0 => {
                    if entries.len() == most {
                        return None;
                    }
                    entries.push(*value);
                    table[slot % SLOTS] = entries.len() as u16;
                    break;
                }
                taken if entries[taken as usize - 1] == *value => break,
                _ => slot += 1,
            }
        }
    }
    entries.sort_unstable();
    Some(entries)
}

fn write_codes(values: &[i64], entries: &[i64], out: &mut Vec<u8>) {
    let width = code_width(entries.len());
    let mut codes = [0_u64; MINI_BLOCK_LEN];
    for mini in values.chunks(MINI_BLOCK_LEN) {
        let mut last = (entries[0], 0);
        for (code, value) in codes.iter_mut().zip(mini) {
            if last.0 != *value {
                last = (*value, entries.partition_point(|entry| entry < value) as u64);
            }
            *code = last.1;
        }
        put_packed(&codes[..mini.len()], width, out);
    }
}

/// Reads the first byte of a block of `count` values. An empty block has no other byte and no codec that needs a value.
pub(crate) fn read_tag(cursor: &mut Cursor<'_>, count: usize) -> Result<CodecTag, DecodeError> {
    if count > MAX_BLOCK_LEN {
        return Err(cursor.error("more values than a block may have"));
    }
    let tag = CodecTag::from_byte(cursor.byte()?).ok_or(DecodeError { offset: 0, what: "unknown codec" })?;
    let of_nothing = [CodecTag::Raw64, CodecTag::Bitmap, CodecTag::Plain, CodecTag::StrDict];
    if count == 0 && !of_nothing.contains(&tag) {
        return Err(DecodeError { offset: 0, what: "codec needs a value" });
    }
    Ok(tag)
}

/// Reads the payload of `count` integers (at least one) under `tag` and hands them on.
pub(crate) fn decode<S: Sink>(
    tag: CodecTag,
    cursor: &mut Cursor<'_>,
    count: usize,
    sink: &mut S,
) -> Result<(), DecodeError> {
    match tag {
        CodecTag::Const => {
            let value = cursor.zigzag()?;
            sink.run(value, count).map_err(|what| cursor.error(what))?;
        }
        CodecTag::Rle => decode_rle(cursor, count, sink)?,
        CodecTag::Dict => decode_dict(cursor, count, sink)?,
        CodecTag::For if S::TAKES_LINES => read_lines(cursor, count, None, |run, at| hand_on(sink, run, at))?,
        CodecTag::Delta if S::TAKES_LINES => {
            let start = Some(cursor.zigzag()?);
            read_lines(cursor, count, start, |run, at| hand_on(sink, run, at))?;
        }
        CodecTag::For => {
            read_stream(cursor, count, |mini, at| sink.chunk(mini).map_err(|what| at.error(what)))?;
        }
        CodecTag::Delta => {
            let start = cursor.zigzag()?;
            read_sums(cursor, count, start, |mini, at| sink.chunk(mini).map_err(|what| at.error(what)))?;
        }
        CodecTag::Line => line::decode(cursor, count, sink)?,
        CodecTag::Pco => pco::decode(cursor, count, sink)?,
        _ => return Err(DecodeError { offset: 0, what: "codec is not one for numbers" }),
    }
    cursor.end()
}

fn hand_on(sink: &mut impl Sink, run: Run<'_>, at: &Cursor<'_>) -> Result<(), DecodeError> {
    let taken = match run {
        Run::Line(line) => sink.line(line),
        Run::Values(values) => sink.chunk(values),
    };
    taken.map_err(|what| at.error(what))
}

fn decode_rle(cursor: &mut Cursor<'_>, count: usize, sink: &mut impl Sink) -> Result<(), DecodeError> {
    let runs = cursor.varint_in(1..=count, "number of runs")?;
    let values = read_list(cursor, runs)?;
    let mut left = count;
    let mut values = values.iter();
    read_stream(cursor, runs, |lengths, at| {
        for (length, value) in lengths.iter().zip(&mut values) {
            let length = usize::try_from(*length).ok().filter(|length| *length < left);
            let length = length.ok_or_else(|| at.error("length of a run"))? + 1;
            left -= length;
            sink.run(*value, length).map_err(|what| at.error(what))?;
        }
        Ok(())
    })?;
    if left == 0 { Ok(()) } else { Err(cursor.error("runs end early")) }
}

fn decode_dict(cursor: &mut Cursor<'_>, count: usize, sink: &mut impl Sink) -> Result<(), DecodeError> {
    let len = cursor.byte()? as usize + 1;
    // All 256 codes of a byte may be looked up; those past the end are refused before.
    let mut entries = [0_i64; MAX_DICT_LEN];
    entries[0] = cursor.zigzag()?;
    let mut filled = 1;
    read_stream(cursor, len - 1, |gaps, _| {
        let last = entries[filled - 1];
        kernel::prefix_sum(gaps, last);
        entries[filled..filled + gaps.len()].copy_from_slice(gaps);
        filled += gaps.len();
        Ok(())
    })?;
    let width = code_width(len);
    let mut codes = [0_i64; MINI_BLOCK_LEN];
    let mut left = count;
    while left > 0 {
        let mini = left.min(MINI_BLOCK_LEN);
        get_packed(cursor, mini, width, 0, &mut codes)?;
        let mut largest = 0;
        for code in &mut codes[..mini] {
            largest = largest.max(*code);
            *code = entries[*code as u8 as usize];
        }
        if largest >= len as i64 {
            return Err(cursor.error("code outside the dictionary"));
        }
        sink.chunk(&mut codes[..mini]).map_err(|what| cursor.error(what))?;
        left -= mini;
    }
    Ok(())
}
