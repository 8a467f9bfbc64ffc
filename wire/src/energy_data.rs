//! `energy_data` as the optimiser's plan writes it: flat JSON objects, in and out.
//!
//! In: one object or a list; `time` or `timestamp`, the tags `device_id`, `data_source`, `location`, all else fields.
//! JSON has one kind of number, so a number becomes a float, unless the field is an integer one already and the number
//! is whole; a whole number that a float cannot hold exactly is refused, as it is in line protocol. `null` is "no value". An element is taken whole or refused by its index; the others are not touched by it.

use super::answer::{EXACT_INTEGER, TimeFormat, cell, has, text};
use super::bounded::{Bounded, Watch};
use super::time::{Fold, parse_local_time, write_rfc3339};
use jiff::tz::TimeZone;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use wattlog_engine::WriteBatch;
use wattlog_engine::query::{QueryResult, ResultValues};
use wattlog_model::{FieldType, TagSet, Timestamp};

/// Measurement of these routes.
pub const MEASUREMENT: &str = "energy_data";
/// Keys that are tags.
pub const TAGS: [&str; 3] = ["device_id", "data_source", "location"];

/// How elements are read.
pub struct ReadOptions<'a> {
    /// Zone of times without one.
    pub home_zone: &'a TimeZone,
    /// Time of elements that have none.
    pub receive_time: Timestamp,
    /// Type of a field that exists.
    pub field_type: &'a dyn Fn(&str) -> Option<FieldType>,
}

impl fmt::Debug for ReadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.home_zone.iana_name();
        f.debug_struct("ReadOptions").field("home_zone", &zone).finish_non_exhaustive()
    }
}

/// An element that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the list, from zero.
    pub index: u32,
    /// What was wrong with it.
    pub reason: String,
}

/// What was read besides the rows in the batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// Elements seen.
    pub elements: u32,
    /// The first ones that were refused.
    pub refused: Vec<Refused>,
    /// How many were refused in all.
    pub refused_count: u64,
}

/// Why nothing of a body was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyRefused {
    /// It is no JSON, or neither an object nor a list.
    Json(String),
    /// Its points take more memory than they may.
    TooLarge,
}

/// Most refused elements named in an answer.
const NAMED: usize = 100;

/// Reads a body into `batch`, which may take up to `limit_bytes`; a row's number there is the element's index.
///
/// # Errors
/// See [`BodyRefused`]; the batch is of no use then.
pub fn parse_into(
    batch: &mut WriteBatch,
    body: &[u8],
    options: &ReadOptions<'_>,
    limit_bytes: usize,
) -> Result<Read, BodyRefused> {
    let mut read = Read::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let top = Top { batch: &mut *batch, options, read: &mut read, limit_bytes };
    let outcome = top.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if batch.bytes() > limit_bytes {
        return Err(BodyRefused::TooLarge);
    }
    outcome.map_err(|error| BodyRefused::Json(format!("JSON: {error}")))?;
    Ok(read)
}

struct Top<'a, 'b> {
    batch: &'a mut WriteBatch,
    options: &'a ReadOptions<'b>,
    read: &'a mut Read,
    limit_bytes: usize,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let pairs = pairs(map)?;
        take(self.batch, self.options, self.read, pairs);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element_seed(Element)? {
            take(self.batch, self.options, self.read, element);
            if self.batch.bytes() > self.limit_bytes {
                return Err(A::Error::custom("the batch is full"));
            }
        }
        Ok(())
    }
}

/// A value of an element. What is no plain value is skipped over and refused with the element.
#[derive(Debug)]
enum Scalar {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Nested,
}

type Pairs = Option<Vec<(String, Scalar)>>;

/// An element of the list: its pairs, or none if it is no object.
struct Element;

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Pairs;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pairs, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! no_object {
    ($($method:ident($type:ty)),*) => {$(
        fn $method<E>(self, _: $type) -> Result<Pairs, E> {
            Ok(None)
        }
    )*};
}

impl<'de> Visitor<'de> for Element {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    no_object!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E>(self) -> Result<Pairs, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pairs, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pairs, A::Error> {
        pairs(map)
    }
}

fn pairs<'de, A: MapAccess<'de>>(mut map: A) -> Result<Pairs, A::Error> {
    let mut pairs = Vec::new();
    while let Some(key) = map.next_key::<String>()? {
        if pairs.len() > wattlog_model::MAX_FIELDS_PER_POINT {
            return Err(A::Error::custom("an object has too many members"));
        }
        pairs.push((key, map.next_value_seed(Value)?));
    }
    Ok(Some(pairs))
}

struct Value;

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(v).map_or(Scalar::Unsigned(v), Scalar::Integer))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
}

fn take(batch: &mut WriteBatch, options: &ReadOptions<'_>, read: &mut Read, pairs: Pairs) {
    let index = read.elements;
    read.elements += 1;
    let outcome = match pairs {
        Some(pairs) => element(batch, options, index, pairs),
        None => Err("no object".to_owned()),
    };
    if let Err(reason) = outcome {
        read.refused_count += 1;
        if read.refused.len() < NAMED {
            read.refused.push(Refused { index, reason });
        }
    }
}

fn element(
    batch: &mut WriteBatch,
    options: &ReadOptions<'_>,
    index: u32,
    pairs: Vec<(String, Scalar)>,
) -> Result<(), String> {
    let mut time = None;
    let mut tags = Vec::new();
    let mut fields = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        match (&*key, value) {
            (_, Scalar::Null) => {}
            (_, Scalar::Nested) => return Err(format!("{key}: a list or an object is no value")),
            ("time" | "timestamp", Scalar::Text(text)) => {
                if time.is_some() {
                    return Err("both time and timestamp".to_owned());
                }
                time = Some(parse_local_time(&text, options.home_zone, Fold::Earlier)?);
            }
            ("time" | "timestamp", _) => {
                return Err(format!(
                    "{key}: a number without its unit; write 2026-03-01T10:00:00Z or \"1772359200s\""
                ));
            }
            (tag, Scalar::Text(text)) if TAGS.contains(&tag) => {
                if !text.is_empty() {
                    tags.push((key, text));
                }
            }
            (tag, _) if TAGS.contains(&tag) => return Err(format!("{key}: must be text")),
            ("", _) => return Err("a field without a name".to_owned()),
            (_, value) => {
                let rounded = exceeds_floats(&value) && !is_integral((options.field_type)(&key));
                if rounded {
                    return Err(format!(
                        "{key}: a whole number beyond 2^53 would be rounded; only an integer field takes it"
                    ));
                }
                fields.push((key, value));
            }
        }
    }
    if fields.is_empty() {
        return Err("no field with a value".to_owned());
    }
    let tags = TagSet::new(tags).map_err(|error| error.to_string())?;
    let slot = batch.series(MEASUREMENT, &tags);
    let mut row = batch.row(slot, time.unwrap_or(options.receive_time), index);
    for (name, value) in &fields {
        let existing = (options.field_type)(name);
        match value {
            Scalar::Boolean(v) => row.boolean(name, *v),
            Scalar::Text(v) => row.string(name, v),
            Scalar::Integer(v) => match (existing, u64::try_from(*v)) {
                (Some(FieldType::Integer), _) => row.integer(name, *v),
                (Some(FieldType::Unsigned), Ok(v)) => row.unsigned(name, v),
                _ => row.float(name, *v as f64),
            },
            Scalar::Unsigned(v) => match existing {
                Some(FieldType::Unsigned) => row.unsigned(name, *v),
                _ => row.float(name, *v as f64),
            },
            Scalar::Float(v) => match (existing, whole(*v)) {
                (Some(FieldType::Integer), Some(v)) => row.integer(name, v),
                (Some(FieldType::Unsigned), Some(v)) if v >= 0 => row.unsigned(name, v.unsigned_abs()),
                _ => row.float(name, *v),
            },
            Scalar::Null | Scalar::Nested => {}
        }
    }
    Ok(())
}

fn exceeds_floats(value: &Scalar) -> bool {
    match value {
        Scalar::Integer(v) => v.unsigned_abs() > EXACT_INTEGER,
        Scalar::Unsigned(_) => true,
        _ => false,
    }
}

fn is_integral(field_type: Option<FieldType>) -> bool {
    matches!(field_type, Some(FieldType::Integer | FieldType::Unsigned))
}

/// The integer that a float is, where doubles still name each integer.
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() <= EXACT_INTEGER as f64).then_some(value as i64)
}

/// Writes an answer as a list of flat objects in time order.
///
/// # Errors
/// What `watch` says of the bytes written so far.
pub fn encode<E>(result: &QueryResult, watch: Watch<'_, E>) -> Result<Vec<u8>, E> {
    let mut rows: Vec<(i64, u32, u32)> = Vec::with_capacity(result.rows());
    for (number, series) in result.series.iter().enumerate() {
        if let Some(ResultValues::Time(times)) = series.columns.first().map(|column| &column.values) {
            let of_series = times.iter().enumerate();
            rows.extend(of_series.filter_map(|(row, time)| Some(((*time)?, number as u32, row as u32))));
        }
    }
    rows.sort_unstable();
    let tag_texts: Vec<Vec<u8>> = result
        .series
        .iter()
        .map(|series| {
            let mut out = Vec::new();
            for (key, value) in &series.tags {
                member(&mut out, key);
                text(&mut out, value);
            }
            out
        })
        .collect();
    let mut bounded = Bounded::new(rows.len().min(1 << 18) * 160 + 2, watch);
    bounded.bytes.push(b'[');
    for (i, (time, series, row)) in rows.into_iter().enumerate() {
        let (number, row) = (series as usize, row as usize);
        let series = &result.series[number];
        let out = &mut bounded.bytes;
        out.extend_from_slice(if i == 0 { b"{\"time\":\"" } else { b",{\"time\":\"" });
        write_rfc3339(out, time);
        out.push(b'"');
        out.extend_from_slice(&tag_texts[number]);
        for column in series.columns[1..].iter().filter(|column| has(&column.values, row)) {
            member(&mut bounded.bytes, &column.name);
            cell(&mut bounded.bytes, &column.values, row, &TimeFormat::Rfc3339);
            bounded.check()?;
        }
        bounded.bytes.push(b'}');
    }
    bounded.bytes.extend_from_slice(b"]\n");
    bounded.finish()
}

fn member(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    text(out, name);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<(Read, u64, u64), BodyRefused> {
        read_within(body, usize::MAX)
    }

    fn read_within(body: &str, limit_bytes: usize) -> Result<(Read, u64, u64), BodyRefused> {
        let mut batch = WriteBatch::new("wattlog", None);
        let types = |name: &str| (name == "count").then_some(FieldType::Integer);
        let zone = TimeZone::get("Europe/Warsaw").unwrap();
        let options = ReadOptions { home_zone: &zone, receive_time: Timestamp(7), field_type: &types };
        let read = parse_into(&mut batch, body.as_bytes(), &options, limit_bytes)?;
        Ok((read, batch.points(), batch.values()))
    }

    #[test]
    fn an_object_and_a_list_are_taken() {
        let one = r#"{"time":"2026-03-01T10:00:00Z","device_id":"a","battery_soc":55.5,"mode":"x","on":true,"p":null}"#;
        assert_eq!(read(one), Ok((Read { elements: 1, ..Read::default() }, 1, 3)));
        let list = r#"[{"timestamp":"2026-03-01T11:00:00","pv_power":1},{"pv_power":2,"count":3}]"#;
        assert_eq!(read(list), Ok((Read { elements: 2, ..Read::default() }, 2, 3)));
        assert_eq!(read("[]").unwrap().0.elements, 0);
    }

    #[test]
    fn bad_elements_are_named_and_leave_the_others() {
        let body = r#"[{"v":1},5,{"time":5,"v":1},{"device_id":1,"v":1},{"v":[1]},{"time":"soon","v":1},{"device_id":"a"},
            {"time":"2026-03-01T10:00:00Z","timestamp":"2026-03-01T10:00:00Z","v":1},{"v":2},[{"v":1}]]"#;
        let (read, points, _) = read(body).unwrap();
        assert_eq!((read.elements, read.refused_count, points), (10, 8, 2));
        let reasons: Vec<_> = read.refused.iter().map(|r| (r.index, r.reason.as_str())).collect();
        assert_eq!(reasons[0], (1, "no object"));
        assert!(reasons[1].1.starts_with("time: a number without its unit"));
        assert_eq!(reasons[2], (3, "device_id: must be text"));
        assert_eq!(reasons[3], (4, "v: a list or an object is no value"));
        assert!(reasons[4].1.contains("is no time"));
        assert_eq!(reasons[5], (6, "no field with a value"));
        assert_eq!(reasons[6], (7, "both time and timestamp"));
        assert_eq!(reasons[7], (9, "no object"));
    }

    #[test]
    fn whole_numbers_that_a_float_would_round_are_refused() {
        let body = r#"[{"v":9007199254740992},{"v":9007199254740993},{"v":-9007199254740993},{"v":18446744073709551615},
            {"count":9007199254740993}]"#;
        let (read, points, _) = read(body).unwrap();
        assert_eq!((read.elements, read.refused_count, points), (5, 3, 2));
        assert!(read.refused.iter().all(|r| r.reason.starts_with("v: a whole number beyond 2^53")));
    }

    #[test]
    fn what_is_no_json_is_refused_whole() {
        for body in ["", "{", "5", "\"x\"", "[{\"v\":1}", "{\"v\":NaN}", "[{\"v\":1}] x", "{\"v\":1e999}"] {
            assert!(
                matches!(read(body), Err(BodyRefused::Json(text)) if text.starts_with("JSON: ")),
                "{body}"
            );
        }
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("{{\"v\":{}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn points_beyond_the_memory_of_one_body_end_the_reading() {
        let body: String = (0..1000).map(|n| format!(",{{\"device_id\":\"d{n}\",\"v\":1}}")).collect();
        let body = format!("[{}]", &body[1..]);
        assert_eq!(read_within(&body, 10_000), Err(BodyRefused::TooLarge));
        assert_eq!(read(&body).unwrap().1, 1000);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(body in "[\\[\\]{}\",:a-e0-9.eE \\\\u+-]{0,60}") {
            let _ = read(&body);
        }
    }
}
