//! InfluxDB line protocol: bytes of a body straight into columns.
//!
//! `measurement[,tag=value]* field=value[,field=value]* [time]`, one point a line. The corners (escapes, quotes, what is
//! refused and in which words) are those of InfluxDB 1.x, whose clients search answers for these texts. Differences,
//! all on the lenient or the safe side: a line may end in CR LF; unsigned integers (`3u`) are taken; text after a
//! closing quote is refused; limits have names.
//!
//! Promise: any bytes give points and refusals, never a panic; a refused line leaves nothing in the batch; a good line
//! of a series seen before allocates nothing here.
//!
//! Invariants
//! 1. A line ends at a line feed outside quotes; a quote counts only in a field's value (`line_end`).
//! 2. The bytes up to the first blank without a backslash before it name the series, so equal bytes need no parsing.
//! 3. What `repeated_line` reads, and what it leaves to this module, makes no difference to the batch.

use super::number::short_decimal;
use super::repeated_line;
use memchr::{memchr, memchr3};
use std::borrow::Cow;
use std::fmt::Write as _;
use wattlog_engine::ingest::WriteBatch;
use wattlog_model::{
    InvalidTags, MAX_FIELDS_PER_POINT, MAX_KEY_LEN_BYTES, MAX_STRING_LEN_BYTES, MAX_TAGS_PER_POINT, TagSet,
    Timestamp,
};

/// What the times of a body count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds, the default.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes (1.x only).
    Minutes,
    /// Hours (1.x only).
    Hours,
}

impl Precision {
    /// A word of the 1.x API; an empty one is nanoseconds.
    pub fn influx1(word: &str) -> Option<Self> {
        match word {
            "" | "n" | "ns" => Some(Self::Nanoseconds),
            "u" | "us" | "\u{b5}" | "\u{3bc}" | "\u{b5}s" | "\u{3bc}s" => Some(Self::Microseconds),
            "ms" => Some(Self::Milliseconds),
            "s" => Some(Self::Seconds),
            "m" => Some(Self::Minutes),
            "h" => Some(Self::Hours),
            _ => None,
        }
    }

    /// A word of the 2.x API; an empty one is nanoseconds.
    pub fn influx2(word: &str) -> Option<Self> {
        match word {
            "" | "ns" => Some(Self::Nanoseconds),
            "us" => Some(Self::Microseconds),
            "ms" => Some(Self::Milliseconds),
            "s" => Some(Self::Seconds),
            _ => None,
        }
    }

    /// Length of the unit.
    pub fn nanoseconds(self) -> i64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
        }
    }
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy)]
pub struct LineOptions {
    /// Unit of times.
    pub precision: Precision,
    /// Time of points that have none.
    pub receive_time: Timestamp,
    /// Longest line taken.
    pub max_line_bytes: usize,
    /// Most memory that the points may take together.
    pub max_batch_bytes: usize,
}

/// The points of a body take more memory than they may; the batch is of no use then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFull;

/// Lines that were refused. Texts are kept for the first ones only, so that a body of rubbish costs no memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineErrors {
    /// `unable to parse 'LINE': REASON`, one a line.
    pub text: String,
    /// Lines that could not be parsed.
    pub unparsed: u64,
    /// How many of them were not looked at because they are too long.
    pub too_long: u64,
    /// First refusal of a point that could be parsed but is not allowed, in the words of the 1.x server.
    pub refused: Option<String>,
    /// How many were refused like that.
    pub refused_points: u64,
}

/// Most texts of refused lines in one answer.
const SHOWN_ERRORS: u64 = 100;
/// Most bytes of a refused line in an answer.
const SHOWN_LINE_BYTES: usize = 1024;

impl LineErrors {
    /// True if every line was good.
    pub fn is_empty(&self) -> bool {
        self.unparsed == 0 && self.refused_points == 0
    }

    fn unparsed(&mut self, line: &[u8], reason: &str) {
        self.unparsed += 1;
        if self.unparsed > SHOWN_ERRORS {
            return;
        }
        if self.unparsed > 1 {
            self.text.push('\n');
        }
        let cut = line.len().min(SHOWN_LINE_BYTES);
        let more = if cut < line.len() { "..." } else { "" };
        let shown = String::from_utf8_lossy(&line[..cut]);
        // Writing to a string cannot fail.
        let _ = write!(self.text, "unable to parse '{shown}{more}': {reason}");
    }

    fn finish(&mut self) {
        if self.unparsed > SHOWN_ERRORS {
            let _ = write!(self.text, "\n... and {} more lines", self.unparsed - SHOWN_ERRORS);
        }
    }
}

/// Reads a body into `batch`. A point's number in the batch is that of its line, counted from zero (comments and empty
/// lines count too).
pub fn parse_into(
    batch: &mut WriteBatch,
    body: &[u8],
    options: &LineOptions,
) -> Result<LineErrors, BatchFull> {
    parse_body(batch, body, options)
}

/// Where good points go.
trait LineSink {
    /// Takes a point. `raw_key` are the bytes that name the series; `parse_key` is called if they are new.
    fn point(
        &mut self,
        raw_key: &[u8],
        parse_key: impl FnOnce() -> Result<(String, TagSet), Refusal>,
        at: At,
        fields: &[Field<'_>],
    ) -> Result<(), Refusal>;

    /// Takes the line that begins `rest`, if it is one of those that come again and again; gives its length with its end.
    fn repeated_line(&mut self, rest: &[u8], number: u32, options: &LineOptions) -> Option<usize>;

    /// Memory taken so far.
    fn bytes(&self) -> usize;
}

/// Time of a point and number of its line.
#[derive(Debug, Clone, Copy)]
struct At {
    time: Timestamp,
    line: u32,
}

impl LineSink for WriteBatch {
    fn point(
        &mut self,
        raw_key: &[u8],
        parse_key: impl FnOnce() -> Result<(String, TagSet), Refusal>,
        at: At,
        fields: &[Field<'_>],
    ) -> Result<(), Refusal> {
        let slot = self.series_by_raw(raw_key, parse_key)?;
        let mut row = self.row(slot, at.time, at.line);
        for (name, value) in fields {
            match value {
                Value::Float(v) => row.float(name, *v),
                Value::Integer(v) => row.integer(name, *v),
                Value::Unsigned(v) => row.unsigned(name, *v),
                Value::Boolean(v) => row.boolean(name, *v),
                Value::Text(v) => row.string(name, v),
            }
        }
        Ok(())
    }

    #[inline]
    fn repeated_line(&mut self, rest: &[u8], number: u32, options: &LineOptions) -> Option<usize> {
        repeated_line::read(self, rest, number, options)
    }

    #[inline]
    fn bytes(&self) -> usize {
        WriteBatch::bytes(self)
    }
}

fn parse_body(sink: &mut impl LineSink, body: &[u8], options: &LineOptions) -> Result<LineErrors, BatchFull> {
    let mut errors = LineErrors::default();
    let mut fields = Vec::new();
    let mut at = 0;
    let mut number = 0_u32;
    while at < body.len() {
        if sink.bytes() > options.max_batch_bytes {
            return Err(BatchFull);
        }
        if let Some(len) = sink.repeated_line(&body[at..], number, options) {
            at += len;
            number = number.saturating_add(1);
            continue;
        }
        let end = line_end(body, at);
        let (mut start, mut stop) = (at, end);
        at = end + 1;
        let line_number = number;
        number = number.saturating_add(1);
        if stop > start && body[stop - 1] == b'\r' {
            stop -= 1;
        }
        while start < stop && matches!(body[start], b' ' | b'\t' | 0) {
            start += 1;
        }
        if start == stop || body[start] == b'#' {
            continue;
        }
        let bytes = &body[start..stop];
        if bytes.len() > options.max_line_bytes {
            errors.too_long += 1;
            errors.unparsed(bytes, &format!("line longer than {} bytes", options.max_line_bytes));
            continue;
        }
        let Ok(line) = std::str::from_utf8(bytes) else {
            errors.unparsed(bytes, "invalid UTF-8");
            continue;
        };
        fields.clear();
        match parse_line(sink, line, line_number, options, &mut fields) {
            Ok(()) => {}
            Err(Refusal::Unparsed(reason)) => errors.unparsed(bytes, &reason),
            Err(Refusal::NotAllowed(reason)) => {
                errors.refused_points += 1;
                errors.refused.get_or_insert(reason);
            }
        }
    }
    if sink.bytes() > options.max_batch_bytes {
        return Err(BatchFull);
    }
    errors.finish();
    Ok(errors)
}

#[derive(Debug)]
enum Refusal {
    Unparsed(Cow<'static, str>),
    NotAllowed(String),
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::Unparsed(Cow::Borrowed(reason))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(Cow<'a, str>),
}

type Field<'a> = (Cow<'a, str>, Value<'a>);

/// End of the line that begins at `start`: the next line feed that is no data, or the end of the body.
///
/// A backslash hides the byte after it. After the first blank, a quote opens or closes a text if it stands in a value,
/// which is so while more `=` than `,` were seen.
fn line_end(body: &[u8], start: usize) -> usize {
    let rest = &body[start..];
    match memchr3(b'\n', b'"', b'\\', rest) {
        None => return body.len(),
        Some(at) if rest[at] == b'\n' => return start + at,
        Some(_) => {}
    }
    let (mut quoted, mut fields) = (false, false);
    let (mut equals, mut commas) = (0_usize, 0_usize);
    let mut i = start;
    while i < body.len() {
        match body[i] {
            b'\\' if i + 2 < body.len() => {
                i += 2;
                continue;
            }
            b' ' => fields = true,
            b'=' if fields && !quoted => equals += 1,
            b',' if fields && !quoted => commas += 1,
            b'"' if fields && equals > commas => quoted = !quoted,
            b'\n' if !quoted => return i,
            _ => {}
        }
        i += 1;
    }
    body.len()
}

/// Reads one line without its end; `fields` is filled only with what the line holds.
fn parse_line<'a>(
    sink: &mut impl LineSink,
    line: &'a str,
    number: u32,
    options: &LineOptions,
    fields: &mut Vec<Field<'a>>,
) -> Result<(), Refusal> {
    let bytes = line.as_bytes();
    let key_end = key_end(bytes);
    if key_end == bytes.len() || bytes[0] == b',' {
        return Err(parse_key(line).err().unwrap_or_else(|| "missing fields".into()));
    }
    // Fields and time come before the series is looked up, so that a line that is refused leaves no series behind. A
    // fault in the key is told all the same, since it stands first in the line.
    let rest = parse_fields(line, key_end, fields).and_then(|end| parse_time(bytes, end, options));
    let time = rest.map_err(|reason| parse_key(line).err().unwrap_or(Refusal::Unparsed(reason)))?;
    if fields.iter().any(|(name, _)| name == "time") {
        // The name of the time itself: left out if the point has other fields.
        fields.retain(|(name, _)| name != "time");
        if fields.is_empty() {
            let (measurement, _) = parse_key(line)?;
            return Err(Refusal::NotAllowed(format!(
                "invalid field name: input field \"time\" on measurement \"{measurement}\" is invalid"
            )));
        }
    }
    sink.point(&bytes[..key_end], || parse_key(line), At { time, line: number }, fields)
}

/// First blank that no backslash hides, or the end.
fn key_end(line: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr(b' ', &line[from..]) {
        let at = from + at;
        if at == 0 || line[at - 1] != b'\\' {
            return at;
        }
        from = at + 1;
    }
    line.len()
}

/// Measurement and tags of a line.
fn parse_key(line: &str) -> Result<(String, TagSet), Refusal> {
    let bytes = line.as_bytes();
    if matches!(bytes.first(), None | Some(b',')) {
        return Err("missing measurement".into());
    }
    // A byte after a backslash is never a border.
    let border = |i: usize, byte: u8| bytes[i] == byte && bytes[i - 1] != b'\\';
    let mut i = 1;
    while i < bytes.len() && !border(i, b',') && !border(i, b' ') {
        i += 1;
    }
    if i == bytes.len() {
        return Err("missing fields".into());
    }
    let measurement = unescape(&line[..i], b", ");
    let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    while bytes[i] == b',' {
        let key_start = i + 1;
        i = key_start;
        if matches!(bytes.get(i), None | Some(b' ' | b',' | b'=')) {
            return Err("missing tag key".into());
        }
        loop {
            i += 1;
            if i >= bytes.len() || border(i, b' ') || border(i, b',') {
                return Err("missing tag value".into());
            }
            if border(i, b'=') {
                break;
            }
        }
        let key = &line[key_start..i];
        let value_start = i + 1;
        i = value_start;
        if matches!(bytes.get(i), None | Some(b' ' | b',')) {
            return Err("missing tag value".into());
        }
        loop {
            i += 1;
            if i >= bytes.len() {
                return Err("missing fields".into());
            }
            if border(i, b'=') {
                return Err("invalid tag format".into());
            }
            if border(i, b',') || border(i, b' ') {
                break;
            }
        }
        pairs.push((unescape(key, b",= "), unescape(&line[value_start..i], b",= ")));
        if pairs.len() > MAX_TAGS_PER_POINT {
            return Err(Refusal::Unparsed(format!("more than {MAX_TAGS_PER_POINT} tags").into()));
        }
    }
    if measurement.len() > MAX_KEY_LEN_BYTES {
        return Err(key_too_long(measurement.len()));
    }
    if pairs.iter().any(|(key, _)| key == "time") {
        return Err(Refusal::NotAllowed(format!(
            "invalid tag key: input tag \"time\" on measurement \"{measurement}\" is invalid"
        )));
    }
    let longest = pairs.iter().map(|(key, value)| key.len().max(value.len())).max().unwrap_or(0);
    let tags = TagSet::new(pairs).map_err(|error| match error {
        InvalidTags::TooLong => key_too_long(longest),
        other => Refusal::Unparsed(other.to_string().into()),
    })?;
    Ok((measurement.into_owned(), tags))
}

fn key_too_long(len: usize) -> Refusal {
    Refusal::Unparsed(format!("max key length exceeded: {len} > {MAX_KEY_LEN_BYTES}").into())
}

/// Takes away backslashes that stand before one of `specials`.
fn unescape<'a>(text: &'a str, specials: &[u8]) -> Cow<'a, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escapes = c == '\\'
            && chars.peek().is_some_and(|next| next.is_ascii() && specials.contains(&(*next as u8)));
        if escapes {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Reads the fields that begin behind `from`; gives the place behind them.
fn parse_fields<'a>(
    line: &'a str,
    from: usize,
    fields: &mut Vec<Field<'a>>,
) -> Result<usize, Cow<'static, str>> {
    let bytes = line.as_bytes();
    let mut i = skip_blanks(bytes, from);
    if i >= bytes.len() {
        return Err("missing fields".into());
    }
    loop {
        let key_start = i;
        let mut escaped = false;
        loop {
            match bytes.get(i) {
                Some(b'=') => break,
                Some(b'\\') if i + 1 < bytes.len() => {
                    escaped = true;
                    i += 2;
                }
                Some(b',') if bytes.get(i + 1) == Some(&b'=') => return Err("missing field key".into()),
                None | Some(b',' | b' ') => return Err("invalid field format".into()),
                Some(_) => i += 1,
            }
        }
        if i == key_start {
            return Err("missing field key".into());
        }
        let key = &line[key_start..i];
        let key = if escaped { unescape(key, b",= ") } else { Cow::Borrowed(key) };
        if key.len() > MAX_KEY_LEN_BYTES {
            return Err(format!("max key length exceeded: {} > {MAX_KEY_LEN_BYTES}", key.len()).into());
        }
        i += 1;
        let (value, end) = match bytes.get(i) {
            None | Some(b',' | b' ') => return Err("missing field value".into()),
            Some(b'"') => parse_text(line, i)?,
            Some(b'0'..=b'9' | b'.' | b'-' | b'n' | b'N') => parse_number(line, i)?,
            Some(_) => parse_boolean(bytes, i)?,
        };
        if fields.len() >= MAX_FIELDS_PER_POINT {
            return Err(format!("more than {MAX_FIELDS_PER_POINT} fields").into());
        }
        fields.push((key, value));
        match bytes.get(end) {
            Some(b',') => i = end + 1,
            _ => return Ok(end),
        }
    }
}

fn skip_blanks(bytes: &[u8], mut i: usize) -> usize {
    while matches!(bytes.get(i), Some(b' ' | b'\t' | 0)) {
        i += 1;
    }
    i
}

/// End of a value without quotes.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let len = bytes[start..].iter().take_while(|byte| !matches!(byte, b',' | b' ')).count();
    start + len
}

pub(crate) fn parse_number(line: &str, start: usize) -> Result<(Value<'_>, usize), Cow<'static, str>> {
    const INVALID: Cow<'static, str> = Cow::Borrowed("invalid number");
    let bytes = line.as_bytes();
    let end = value_end(bytes, start);
    let text = &bytes[start..end];
    if let Some(value) = short_decimal(text) {
        return Ok((Value::Float(value), end));
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if let [number @ .., b'i'] = digits {
        if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
            return Err(INVALID);
        }
        let number = &line[start..end - 1];
        let value = number.parse().map_err(|_| out_of_range("integer", "ParseInt", number))?;
        return Ok((Value::Integer(value), end));
    }
    if let [number @ .., b'u'] = digits {
        if number.is_empty() || digits.len() < text.len() || !number.iter().all(u8::is_ascii_digit) {
            return Err(INVALID);
        }
        let number = &line[start..end - 1];
        let value = number.parse().map_err(|_| out_of_range("unsigned", "ParseUint", number))?;
        return Ok((Value::Unsigned(value), end));
    }
    // Digits with at most one point, then perhaps an exponent. What passes here and is no number all the same
    // ("1e", "1e5e5") or too large ("1e400") is "invalid float".
    let mut point = false;
    for (i, byte) in digits.iter().enumerate() {
        let plain = match byte {
            b'0'..=b'9' => true,
            b'.' => !std::mem::replace(&mut point, true),
            b'e' | b'E' => i > 0 || digits.len() < text.len(),
            b'+' | b'-' => i > 0 && matches!(digits[i - 1], b'e' | b'E'),
            _ => false,
        };
        if !plain {
            return Err(INVALID);
        }
    }
    if digits.len() == usize::from(point) {
        return Err(INVALID);
    }
    match line[start..end].parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Value::Float(value), end)),
        _ => Err("invalid float".into()),
    }
}

fn out_of_range(kind: &str, function: &str, number: &str) -> Cow<'static, str> {
    format!("unable to parse {kind} {number}: strconv.{function}: parsing \"{number}\": value out of range")
        .into()
}

pub(crate) fn parse_boolean(bytes: &[u8], start: usize) -> Result<(Value<'_>, usize), Cow<'static, str>> {
    let end = value_end(bytes, start);
    let value = match &bytes[start..end] {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => true,
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => false,
        _ => return Err("invalid boolean".into()),
    };
    Ok((Value::Boolean(value), end))
}

fn parse_text(line: &str, start: usize) -> Result<(Value<'_>, usize), Cow<'static, str>> {
    let bytes = line.as_bytes();
    let mut i = start + 1;
    let mut escaped = false;
    loop {
        match bytes.get(i) {
            None => return Err("unbalanced quotes".into()),
            Some(b'"') => break,
            Some(b'\\') => {
                escaped |= matches!(bytes.get(i + 1), Some(b'"' | b'\\'));
                i += 2;
            }
            Some(_) => i += 1,
        }
    }
    let text = &line[start + 1..i];
    let text = if escaped { unescape(text, b"\"\\") } else { Cow::Borrowed(text) };
    if text.len() > MAX_STRING_LEN_BYTES {
        return Err(format!("string of {} bytes is longer than {MAX_STRING_LEN_BYTES}", text.len()).into());
    }
    if !matches!(bytes.get(i + 1), None | Some(b',' | b' ')) {
        return Err("invalid field format".into());
    }
    Ok((Value::Text(text), i + 1))
}

/// Reads the time behind the fields, if there is one.
fn parse_time(bytes: &[u8], from: usize, options: &LineOptions) -> Result<Timestamp, Cow<'static, str>> {
    let start = skip_blanks(bytes, from);
    let rest = &bytes[start..];
    if rest.is_empty() {
        return Ok(options.receive_time);
    }
    let end = memchr(b' ', rest).unwrap_or(rest.len());
    let text = &rest[..end];
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err("bad timestamp".into());
    }
    let shown = || String::from_utf8_lossy(text).into_owned();
    if digits.is_empty() {
        return Err(format!("strconv.ParseInt: parsing \"{}\": invalid syntax", shown()).into());
    }
    let Some(count) = parse_count(digits, digits.len() < text.len()) else {
        return Err(format!("strconv.ParseInt: parsing \"{}\": value out of range", shown()).into());
    };
    let time = Timestamp::from_units(count, options.precision.nanoseconds())
        .map_err(|_| format!("time outside range {} - {}", Timestamp::MIN.0, Timestamp::MAX.0))?;
    if rest[end..].iter().any(|byte| *byte != b' ') {
        return Err("point is invalid".into());
    }
    Ok(time)
}

fn parse_count(digits: &[u8], negative: bool) -> Option<i64> {
    let mut count = 0_i64;
    for byte in digits {
        let digit = i64::from(byte - b'0');
        count = count.checked_mul(10)?;
        count = if negative { count.checked_sub(digit)? } else { count.checked_add(digit)? };
    }
    Some(count)
}

#[cfg(test)]
#[path = "line_protocol_tests.rs"]
mod tests;
