//! Lines of a series that came before, read in one pass: most of every body that is long enough to matter.
//!
//! What a line repeats (the bytes of its key, the names of its fields) is compared with the line before of that series
//! instead of being cut out and looked up; values go straight into their columns.
//!
//! Promise: a line is taken whole and exactly as `line_protocol` takes it, or nothing of it is and `line_protocol` reads
//! it from the beginning. So whatever is unusual (escapes, blanks too many, what has to be refused) is left to it.
//!
//! Invariants
//! 1. Before its values a taken line has no quote outside its key and no backslash that is not in bytes seen before, so
//!    its end is the first line feed outside the texts read here.
//! 2. No byte is looked at behind the end of the line, but for a fixed number: a body of rubbish costs no more.

use super::line_protocol::{LineOptions, Value, parse_boolean, parse_number};
use super::number::{LeadingDecimal, leading_digits};
use memchr::{memchr2, memchr2_iter};
use wattlog_engine::WriteBatch;
use wattlog_engine::ingest::{RepeatedRow, SeriesSlot};
use wattlog_model::Timestamp;

/// Takes the line that begins `text` into `batch`; gives its length, line end included. None if it is not taken.
#[inline]
pub(crate) fn read(batch: &mut WriteBatch, text: &[u8], number: u32, options: &LineOptions) -> Option<usize> {
    let (slot, key_len) = series(batch, text)?;
    let mut row = batch.repeated_row(slot)?;
    let mut at = key_len + 1;
    loop {
        at += row.field(&text[at..], b'=')?;
        at += value(&mut row, &text[at..])?;
        if text.get(at) != Some(&b',') {
            break;
        }
        at += 1;
    }
    let (time, time_len) = time(&text[at..], options)?;
    at += time_len;
    let end_len = match text[at..] {
        [] => 0,
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => return None,
    };
    if at > options.max_line_bytes {
        return None;
    }
    row.finish(time, number);
    Some(at + end_len)
}

/// The series that the line names and the length of its key, a blank behind it.
#[inline]
fn series(batch: &WriteBatch, text: &[u8]) -> Option<(SeriesSlot, usize)> {
    if let Some((slot, raw)) = batch.expected_series()
        && text.get(raw.len()) == Some(&b' ')
        && text.starts_with(raw)
    {
        return Some((slot, raw.len()));
    }
    // A key with a line feed in it (behind a backslash) is not looked for.
    let end = memchr2_iter(b' ', b'\n', text).find(|at| *at == 0 || text[*at - 1] != b'\\')?;
    let slot = if text[end] == b' ' { batch.known_series(&text[..end])? } else { return None };
    Some((slot, end))
}

/// Reads the value that begins `text` into the field of `row` just found; gives its length.
#[inline]
fn value(row: &mut RepeatedRow<'_>, text: &[u8]) -> Option<usize> {
    if let Some(decimal) = LeadingDecimal::read(text) {
        match text.get(decimal.len) {
            Some(b',' | b' ' | b'\n') => return row.float(decimal.float()).then_some(decimal.len),
            Some(b'i') if decimal.decimals.is_none() => {
                let integer = i64::from(decimal.digits);
                let integer = if decimal.negative { -integer } else { integer };
                return (is_end(text.get(decimal.len + 1)) && row.integer(integer))
                    .then_some(decimal.len + 1);
            }
            _ => {}
        }
    }
    longer_value(row, text)
}

fn longer_value(row: &mut RepeatedRow<'_>, text: &[u8]) -> Option<usize> {
    if let [b'"', inner @ ..] = text {
        let len = memchr2(b'"', b'\\', inner)?;
        let plain = inner[len] == b'"' && is_end(inner.get(len + 1));
        let string = std::str::from_utf8(&inner[..len]).ok().filter(|_| plain)?;
        return row.string(string).then_some(len + 2);
    }
    let len = text.iter().position(|byte| is_end(Some(byte))).unwrap_or(text.len());
    let word = std::str::from_utf8(&text[..len]).ok()?;
    let (value, _) = match text.first()? {
        b'0'..=b'9' | b'.' | b'-' | b'n' | b'N' => parse_number(word, 0).ok()?,
        _ => parse_boolean(word.as_bytes(), 0).ok()?,
    };
    let is_set = match value {
        Value::Float(v) => row.float(v),
        Value::Integer(v) => row.integer(v),
        Value::Unsigned(v) => row.unsigned(v),
        Value::Boolean(v) => row.boolean(v),
        Value::Text(_) => false,
    };
    is_set.then_some(len)
}

/// What may stand behind a value: a comma, a blank, a line end, nothing.
#[inline]
fn is_end(byte: Option<&u8>) -> bool {
    matches!(byte, None | Some(b',' | b' ' | b'\n' | b'\r'))
}

/// Reads the time behind the fields, with the one blank before it; gives the length of both.
#[inline]
fn time(text: &[u8], options: &LineOptions) -> Option<(Timestamp, usize)> {
    let [b' ', rest @ ..] = text else { return Some((options.receive_time, 0)) };
    let negative = rest.first() == Some(&b'-');
    let sign_len = usize::from(negative);
    let (number, count) = leading_digits(&rest[sign_len..])?;
    let number = i64::try_from(number).ok().filter(|_| count > 0)?;
    let number = if negative { -number } else { number };
    let time = Timestamp::from_units(number, options.precision.nanoseconds()).ok()?;
    Some((time, 1 + sign_len + count))
}
