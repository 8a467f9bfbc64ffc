//! Query answers as bytes: column-major JSON, CSV, or one JSON object a row.
//!
//! Promise: numbers go straight into one buffer; NaN and infinities never appear (they would be null); nanosecond times
//! and integers beyond 2^53 are strings, since most JSON readers would round them.

use super::bounded::{Bounded, Watch};
use super::number::{write_float, write_integer};
use super::time::{write_rfc3339, write_rfc3339_in};
use std::collections::HashMap;
use std::ops::Range;
use wattlog_engine::query::{ExportHead, QueryResult, QueryStats, ResultSeries, ResultValues, Zone};

/// How times are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// Whole milliseconds since the epoch (cut towards the past).
    #[default]
    Milliseconds,
    /// Nanoseconds since the epoch, as a string.
    Nanoseconds,
    /// `2026-03-01T10:00:00Z`.
    Rfc3339,
    /// `2026-03-01T11:00:00+01:00`: by the clock of a zone.
    Local(Zone),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerFormat {
    /// One object, values column by column.
    #[default]
    Json,
    /// A header line and one line per row.
    Csv,
    /// One object per row and line.
    Ndjson,
}

impl AnswerFormat {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// What the answer says besides the values.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Measurement asked for.
    pub measurement: &'a str,
    /// Range asked for, nanoseconds; none where all of time was meant.
    pub range: Option<(i64, i64)>,
    /// How times are written.
    pub time_format: TimeFormat,
}

/// Writes a whole answer.
///
/// # Errors
/// What `watch` says of the bytes written so far.
pub fn encode<E>(
    result: &QueryResult,
    format: AnswerFormat,
    asked: &Asked<'_>,
    watch: Watch<'_, E>,
) -> Result<Vec<u8>, E> {
    match format {
        AnswerFormat::Json => json(result, asked, watch),
        AnswerFormat::Csv => csv(result, asked, watch),
        AnswerFormat::Ndjson => ndjson(result, asked, watch),
    }
}

/// Integers up to here are exact in readers that hold numbers as doubles.
pub(crate) const EXACT_INTEGER: u64 = 1 << 53;

fn json<E>(result: &QueryResult, asked: &Asked<'_>, watch: Watch<'_, E>) -> Result<Vec<u8>, E> {
    let mut bounded = Bounded::new(512 + result.rows().min(1 << 20) * 24, watch);
    let out = &mut bounded.bytes;
    out.extend_from_slice(b"{\"measurement\":");
    text(out, asked.measurement);
    let bounds = asked.range.map_or((None, None), |(start, end)| (Some(start), Some(end)));
    for (name, bound) in [(&b",\"start\":"[..], bounds.0), (b",\"end\":", bounds.1)] {
        out.extend_from_slice(name);
        time(out, bound, &asked.time_format);
    }
    out.extend_from_slice(b",\"series\":[");
    for (i, series) in result.series.iter().enumerate() {
        comma(&mut bounded.bytes, i);
        json_series(&mut bounded, series, &asked.time_format)?;
    }
    json_end(&mut bounded.bytes, result, &asked.time_format);
    bounded.finish()
}

fn json_series<E>(
    bounded: &mut Bounded<'_, E>,
    series: &ResultSeries,
    time_format: &TimeFormat,
) -> Result<(), E> {
    let out = &mut bounded.bytes;
    out.extend_from_slice(b"{\"tags\":");
    tags(out, series);
    out.extend_from_slice(b",\"columns\":[");
    for (i, column) in series.columns.iter().enumerate() {
        comma(out, i);
        text(out, &column.name);
    }
    out.extend_from_slice(b"],\"units\":[");
    for (i, column) in series.columns.iter().enumerate() {
        comma(out, i);
        match &column.unit {
            Some(unit) => text(out, unit.as_str()),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b"],\"values\":[");
    for (i, column) in series.columns.iter().enumerate() {
        comma(&mut bounded.bytes, i);
        values(bounded, &column.values, time_format)?;
    }
    bounded.bytes.extend_from_slice(b"]}");
    bounded.check()
}

/// The numbers of the statistics, with the names they have on the wire.
pub fn counts(stats: &QueryStats) -> [(&'static str, u64); 7] {
    [
        ("series", stats.series),
        ("points_scanned", stats.points_scanned),
        ("blocks_decoded", stats.blocks_decoded),
        ("blocks_from_statistics", stats.blocks_from_statistics),
        ("groups_pruned", stats.groups_pruned),
        ("segments_pruned", stats.segments_pruned),
        ("elapsed_us", stats.elapsed_us),
    ]
}

/// What follows the series: missing parts and statistics.
fn json_end(out: &mut Vec<u8>, result: &QueryResult, time_format: &TimeFormat) {
    out.extend_from_slice(b"],\"partial\":");
    out.extend_from_slice(if result.is_partial() { b"true" } else { b"false" });
    if result.is_partial() {
        out.extend_from_slice(b",\"missing\":[");
        for (i, range) in result.partial.iter().enumerate() {
            comma(out, i);
            out.extend_from_slice(b"{\"first\":");
            time(out, Some(range.first), time_format);
            out.extend_from_slice(b",\"last\":");
            time(out, Some(range.last), time_format);
            out.extend_from_slice(b",\"reason\":");
            text(out, &range.reason);
            out.push(b'}');
        }
        out.push(b']');
    }
    let stats = &result.stats;
    out.extend_from_slice(b",\"stats\":{\"as_of\":");
    text(out, &stats.as_of.to_string());
    for (name, count) in counts(stats) {
        out.push(b',');
        text(out, name);
        out.push(b':');
        write_integer(out, count);
    }
    out.extend_from_slice(b"}}\n");
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

/// A JSON string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn tags(out: &mut Vec<u8>, series: &ResultSeries) {
    out.push(b'{');
    for (i, (key, value)) in series.tags.iter().enumerate() {
        comma(out, i);
        text(out, key);
        out.push(b':');
        text(out, value);
    }
    out.push(b'}');
}

fn column<T, E>(
    bounded: &mut Bounded<'_, E>,
    values: &[Option<T>],
    mut write: impl FnMut(&mut Vec<u8>, &T),
) -> Result<(), E> {
    bounded.bytes.push(b'[');
    for (i, value) in values.iter().enumerate() {
        comma(&mut bounded.bytes, i);
        match value {
            Some(value) => write(&mut bounded.bytes, value),
            None => bounded.bytes.extend_from_slice(b"null"),
        }
        bounded.check()?;
    }
    bounded.bytes.push(b']');
    Ok(())
}

fn values<E>(bounded: &mut Bounded<'_, E>, values: &ResultValues, format: &TimeFormat) -> Result<(), E> {
    match values {
        ResultValues::Time(v) => column(bounded, v, |out, ns| time(out, Some(*ns), format)),
        ResultValues::Float(v) => column(bounded, v, |out, v| float(out, *v)),
        ResultValues::Integer(v) => column(bounded, v, |out, v| integer(out, *v)),
        ResultValues::Unsigned(v) => column(bounded, v, |out, v| unsigned(out, *v)),
        ResultValues::Boolean(v) => column(bounded, v, |out, v| boolean(out, *v)),
        ResultValues::String(v) => column(bounded, v, |out, v| text(out, v)),
    }
}

fn time(out: &mut Vec<u8>, ns: Option<i64>, format: &TimeFormat) {
    match (ns, format) {
        (None, _) => out.extend_from_slice(b"null"),
        (Some(ns), TimeFormat::Milliseconds) => write_integer(out, ns.div_euclid(1_000_000)),
        (Some(ns), _) => {
            out.push(b'"');
            bare_time(out, ns, format);
            out.push(b'"');
        }
    }
}

fn bare_time(out: &mut Vec<u8>, ns: i64, format: &TimeFormat) {
    match format {
        TimeFormat::Milliseconds => write_integer(out, ns.div_euclid(1_000_000)),
        TimeFormat::Nanoseconds => write_integer(out, ns),
        TimeFormat::Rfc3339 => write_rfc3339(out, ns),
        TimeFormat::Local(zone) => write_rfc3339_in(out, ns, zone),
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() { write_float(out, value) } else { out.extend_from_slice(b"null") }
}

fn integer(out: &mut Vec<u8>, value: i64) {
    let exact = value.unsigned_abs() <= EXACT_INTEGER;
    quoted_unless(out, exact, |out| write_integer(out, value));
}

fn unsigned(out: &mut Vec<u8>, value: u64) {
    quoted_unless(out, value <= EXACT_INTEGER, |out| write_integer(out, value));
}

fn quoted_unless(out: &mut Vec<u8>, bare: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return write(out);
    }
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// One value as JSON; nothing is written and false given if there is none.
pub fn cell(out: &mut Vec<u8>, values: &ResultValues, row: usize, format: &TimeFormat) -> bool {
    match values {
        ResultValues::Time(v) => v[row].map(|ns| time(out, Some(ns), format)),
        ResultValues::Float(v) => {
            v[row].filter(|value| value.is_finite()).map(|value| write_float(out, value))
        }
        ResultValues::Integer(v) => v[row].map(|value| integer(out, value)),
        ResultValues::Unsigned(v) => v[row].map(|value| unsigned(out, value)),
        ResultValues::Boolean(v) => v[row].map(|value| boolean(out, value)),
        ResultValues::String(v) => v[row].as_ref().map(|value| text(out, value)),
    }
    .is_some()
}

/// True if that row has a value.
pub fn has(values: &ResultValues, row: usize) -> bool {
    match values {
        ResultValues::Time(v) | ResultValues::Integer(v) => v[row].is_some(),
        ResultValues::Float(v) => v[row].is_some_and(f64::is_finite),
        ResultValues::Unsigned(v) => v[row].is_some(),
        ResultValues::Boolean(v) => v[row].is_some(),
        ResultValues::String(v) => v[row].is_some(),
    }
}

fn ndjson<E>(result: &QueryResult, asked: &Asked<'_>, watch: Watch<'_, E>) -> Result<Vec<u8>, E> {
    let mut bounded = Bounded::new(0, watch);
    for series in &result.series {
        objects(&mut bounded, series, 0..series.rows(), &asked.time_format, |_| {})?;
    }
    bounded.finish()
}

/// One object a row and line; `lead` writes what stands before each.
fn objects<E>(
    bounded: &mut Bounded<'_, E>,
    series: &ResultSeries,
    rows: Range<usize>,
    time_format: &TimeFormat,
    mut lead: impl FnMut(&mut Vec<u8>),
) -> Result<(), E> {
    let Some((times, columns)) = series.columns.split_first() else { return Ok(()) };
    let mut tag_text = Vec::new();
    tags(&mut tag_text, series);
    for row in rows {
        let out = &mut bounded.bytes;
        lead(out);
        out.extend_from_slice(b"{\"time\":");
        if !cell(out, &times.values, row, time_format) {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"tags\":");
        out.extend_from_slice(&tag_text);
        out.extend_from_slice(b",\"fields\":{");
        let present = columns.iter().filter(|column| has(&column.values, row));
        for (written, column) in present.enumerate() {
            let out = &mut bounded.bytes;
            comma(out, written);
            text(out, &column.name);
            out.push(b':');
            cell(out, &column.values, row, time_format);
            bounded.check()?;
        }
        bounded.bytes.extend_from_slice(b"}}\n");
        bounded.check()?;
    }
    Ok(())
}

/// One table for all series: time, the tags of any, the columns of any; what a series does not have is empty.
fn csv<E>(result: &QueryResult, asked: &Asked<'_>, watch: Watch<'_, E>) -> Result<Vec<u8>, E> {
    let mut tag_keys: Vec<&str> =
        result.series.iter().flat_map(|s| s.tags.iter().map(|(key, _)| &**key)).collect();
    tag_keys.sort_unstable();
    tag_keys.dedup();
    let names = result.series.iter().flat_map(|series| series.columns.iter().skip(1)).map(|c| &*c.name);
    let table = Table::new(tag_keys, names);
    let mut bounded = Bounded::new(0, watch);
    table.head(&mut bounded)?;
    for series in &result.series {
        table.rows(&mut bounded, series, 0..series.rows(), &asked.time_format)?;
    }
    bounded.finish()
}

/// Columns of a CSV answer.
struct Table<'a> {
    tag_keys: Vec<&'a str>,
    names: Vec<&'a str>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Table<'a> {
    /// A column for each tag key, and one for each name the first time that it comes.
    fn new(tag_keys: Vec<&'a str>, all: impl Iterator<Item = &'a str>) -> Self {
        let (mut names, mut places) = (Vec::new(), HashMap::new());
        for name in all {
            places.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            });
        }
        Self { tag_keys, names, places }
    }

    fn head<E>(&self, bounded: &mut Bounded<'_, E>) -> Result<(), E> {
        bounded.bytes.extend_from_slice(b"time");
        for name in self.tag_keys.iter().chain(&self.names) {
            bounded.bytes.push(b',');
            csv_text(&mut bounded.bytes, name);
            bounded.check()?;
        }
        bounded.bytes.push(b'\n');
        Ok(())
    }

    /// Rows of a series whose columns are among those of the table.
    fn rows<E>(
        &self,
        bounded: &mut Bounded<'_, E>,
        series: &ResultSeries,
        rows: Range<usize>,
        time_format: &TimeFormat,
    ) -> Result<(), E> {
        let Some((times, own)) = series.columns.split_first() else { return Ok(()) };
        let mut columns: Vec<Option<&ResultValues>> = vec![None; self.names.len()];
        for column in own {
            // The first of two columns of one name counts; there are none in answers of the store.
            columns[self.places[&*column.name]].get_or_insert(&column.values);
        }
        let mut tag_text = Vec::new();
        for key in &self.tag_keys {
            tag_text.push(b',');
            let value = series.tags.iter().find(|(k, _)| k == key);
            csv_text(&mut tag_text, value.map_or("", |(_, value)| value));
        }
        for row in rows {
            csv_cell(&mut bounded.bytes, &times.values, row, time_format);
            bounded.bytes.extend_from_slice(&tag_text);
            for values in &columns {
                bounded.bytes.push(b',');
                if let Some(values) = values {
                    csv_cell(&mut bounded.bytes, values, row, time_format);
                }
                bounded.check()?;
            }
            bounded.bytes.push(b'\n');
        }
        Ok(())
    }
}

/// How an export is written: one object a row, by itself or in one array, or a table. The columns that a query's JSON
/// gives cannot be written for rows that follow each other without end.
#[derive(Debug)]
pub struct ExportWriter {
    format: AnswerFormat,
    time_format: TimeFormat,
    head: ExportHead,
    /// No object was written yet.
    is_empty: bool,
}

impl ExportWriter {
    /// Writes rows that `head` describes.
    pub fn new(format: AnswerFormat, time_format: TimeFormat, head: ExportHead) -> Self {
        Self { format, time_format, head, is_empty: true }
    }

    /// Writes what stands before all rows.
    pub fn head<E>(&self, bounded: &mut Bounded<'_, E>) -> Result<(), E> {
        match self.format {
            AnswerFormat::Csv => return self.table().head(bounded),
            AnswerFormat::Json => bounded.bytes.push(b'['),
            AnswerFormat::Ndjson => {}
        }
        Ok(())
    }

    /// Writes some rows of one series.
    pub fn rows<E>(
        &mut self,
        bounded: &mut Bounded<'_, E>,
        series: &ResultSeries,
        rows: Range<usize>,
    ) -> Result<(), E> {
        let Self { format, time_format, is_empty, .. } = self;
        match format {
            AnswerFormat::Csv => self.table().rows(bounded, series, rows, &self.time_format),
            AnswerFormat::Ndjson => objects(bounded, series, rows, time_format, |_| {}),
            AnswerFormat::Json => objects(bounded, series, rows, time_format, |out| {
                if !std::mem::take(is_empty) {
                    out.push(b',');
                }
            }),
        }
    }

    /// What stands behind all rows.
    pub fn tail(&self) -> &'static [u8] {
        if self.format == AnswerFormat::Json { b"]\n" } else { b"" }
    }

    fn table(&self) -> Table<'_> {
        let names = self.head.columns.iter().skip(1).map(|(name, _)| &**name);
        Table::new(self.head.tag_keys.iter().map(|key| &**key).collect(), names)
    }
}

fn csv_cell(out: &mut Vec<u8>, values: &ResultValues, row: usize, format: &TimeFormat) {
    match values {
        ResultValues::Time(v) => {
            if let Some(ns) = v[row] {
                bare_time(out, ns, format);
            }
        }
        ResultValues::Integer(v) => {
            if let Some(value) = v[row] {
                write_integer(out, value);
            }
        }
        ResultValues::Unsigned(v) => {
            if let Some(value) = v[row] {
                write_integer(out, value);
            }
        }
        ResultValues::String(v) => {
            if let Some(value) = &v[row] {
                csv_text(out, value);
            }
        }
        ResultValues::Float(_) | ResultValues::Boolean(_) => {
            cell(out, values, row, format);
        }
    }
}

/// A CSV cell (RFC 4180): quoted if it holds a comma, a quote, a line end or an outer blank.
pub fn csv_text(out: &mut Vec<u8>, text: &str) {
    let outer_blank = text.starts_with(' ') || text.ends_with(' ');
    if outer_blank || text.contains([',', '"', '\n', '\r']) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_engine::query::{PartialRange, ResultColumn};
    use wattlog_model::Unit;

    fn column(name: &str, unit: Option<&str>, values: ResultValues) -> ResultColumn {
        ResultColumn { name: name.into(), field: Some(name.into()), unit: unit.and_then(Unit::new), values }
    }

    fn result() -> QueryResult {
        let columns = vec![
            column("time", None, ResultValues::Time(vec![Some(1_500_000), Some(-1)])),
            column("pv", Some("W"), ResultValues::Float(vec![Some(55.5), None])),
            column("n", None, ResultValues::Integer(vec![Some(1 << 53), Some((1 << 53) + 1)])),
            column("big", None, ResultValues::Unsigned(vec![Some(u64::MAX), Some(0)])),
            column("ok", None, ResultValues::Boolean(vec![Some(true), None])),
            column("mode", None, ResultValues::String(vec![Some("a \"b\",\u{fc}".into()), None])),
        ];
        let tags = vec![("device_id".to_owned(), "a,b".to_owned())];
        QueryResult { series: vec![ResultSeries { tags, columns }], ..QueryResult::default() }
    }

    fn asked(time_format: TimeFormat) -> Asked<'static> {
        Asked { measurement: "energy_data", range: Some((0, 10_000_000)), time_format }
    }

    fn encoded(result: &QueryResult, format: AnswerFormat, time_format: TimeFormat) -> String {
        let bytes = encode(result, format, &asked(time_format), &mut |_| Ok::<_, ()>(())).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_column_by_column() {
        let text = encoded(&result(), AnswerFormat::Json, TimeFormat::Milliseconds);
        let expected = "{\"measurement\":\"energy_data\",\"start\":0,\"end\":10,\"series\":[{\"tags\":{\"device_id\":\"a,b\"},\
            \"columns\":[\"time\",\"pv\",\"n\",\"big\",\"ok\",\"mode\"],\"units\":[null,\"W\",null,null,null,null],\
            \"values\":[[1,-1],[55.5,null],[9007199254740992,\"9007199254740993\"],[\"18446744073709551615\",0],\
            [true,null],[\"a \\\"b\\\",\u{fc}\",null]]}],\"partial\":false,\"stats\":{\"as_of\":\"0-0\",\"series\":0,\
            \"points_scanned\":0,\"blocks_decoded\":0,\"blocks_from_statistics\":0,\"groups_pruned\":0,\
            \"segments_pruned\":0,\"elapsed_us\":0}}\n";
        assert_eq!(text, expected);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn times_in_three_forms_and_missing_parts_named() {
        let mut result = result();
        result.partial.push(PartialRange {
            segment: None,
            field: None,
            first: 0,
            last: 1,
            reason: "lost".into(),
        });
        let text = encoded(&result, AnswerFormat::Json, TimeFormat::Nanoseconds);
        assert!(text.contains("[[\"1500000\",\"-1\"]") && text.contains("\"start\":\"0\""));
        assert!(
            text.contains(
                "\"partial\":true,\"missing\":[{\"first\":\"0\",\"last\":\"1\",\"reason\":\"lost\"}]"
            )
        );
        let text = encoded(&result, AnswerFormat::Json, TimeFormat::Rfc3339);
        assert!(
            text.contains("[\"1970-01-01T00:00:00.0015Z\",\"1969-12-31T23:59:59.999999999Z\"]"),
            "{text}"
        );
    }

    #[test]
    fn rows_as_csv_and_as_objects() {
        let mut result = result();
        result.series.push(ResultSeries {
            tags: vec![("site".into(), "x".into())],
            columns: vec![
                column("time", None, ResultValues::Time(vec![Some(0)])),
                column("extra", None, ResultValues::Float(vec![Some(1.0)])),
            ],
        });
        assert_eq!(
            encoded(&result, AnswerFormat::Csv, TimeFormat::Nanoseconds),
            "time,device_id,site,pv,n,big,ok,mode,extra\n\
             1500000,\"a,b\",,55.5,9007199254740992,18446744073709551615,true,\"a \"\"b\"\",\u{fc}\",\n\
             -1,\"a,b\",,,9007199254740993,0,,,\n0,,x,,,,,,1\n"
        );
        let text = encoded(&result, AnswerFormat::Ndjson, TimeFormat::Milliseconds);
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[1]["fields"], serde_json::json!({"n": "9007199254740993", "big": 0}));
        assert_eq!(rows[2], serde_json::json!({"time": 0, "tags": {"site": "x"}, "fields": {"extra": 1}}));
    }

    /// The longest that an answer gets while only 1000 bytes are allowed.
    fn longest(result: &QueryResult, format: AnswerFormat) -> usize {
        let mut seen = 0;
        let mut watch = |bytes: &Vec<u8>| {
            seen = bytes.len();
            if seen > 1000 { Err(()) } else { Ok(()) }
        };
        assert_eq!(encode(result, format, &asked(TimeFormat::Rfc3339), &mut watch), Err(()));
        seen
    }

    #[test]
    fn a_short_answer_beyond_the_limit_is_given_up_too() {
        let mut long = result();
        long.series = vec![long.series[0].clone(); 10];
        for format in [AnswerFormat::Json, AnswerFormat::Csv, AnswerFormat::Ndjson] {
            assert!(longest(&long, format) < 64 * 1024);
        }
    }

    #[test]
    fn a_column_of_long_texts_is_given_up_within_a_few_values() {
        let long: std::sync::Arc<str> = "x".repeat(64 * 1024).into();
        let columns = vec![
            column("time", None, ResultValues::Time(vec![Some(0); 100])),
            column("a", None, ResultValues::String(vec![Some(long.clone()); 100])),
            column("b", None, ResultValues::String(vec![Some(long); 100])),
        ];
        let series = vec![ResultSeries { tags: Vec::new(), columns }];
        let result = QueryResult { series, ..QueryResult::default() };
        for format in [AnswerFormat::Json, AnswerFormat::Csv, AnswerFormat::Ndjson] {
            let longest = longest(&result, format);
            assert!(longest < 200 * 1024, "{format:?}: {longest} bytes before a look");
        }
    }

    #[test]
    fn a_table_of_many_series_and_columns_costs_no_more_than_its_cells() {
        // 3000 series with a column of its own each: comparing each name with each would be 9 million comparisons of
        // names per table; here a slow table shows as a test that takes minutes.
        let series = (0..3000).map(|n| ResultSeries {
            tags: vec![("id".into(), n.to_string())],
            columns: vec![
                column("time", None, ResultValues::Time(vec![Some(n)])),
                column(&format!("f{n}"), None, ResultValues::Integer(vec![Some(n)])),
            ],
        });
        let result = QueryResult { series: series.collect(), ..QueryResult::default() };
        let text = encoded(&result, AnswerFormat::Csv, TimeFormat::Nanoseconds);
        assert_eq!(text.lines().count(), 3001);
        let last = format!("2999,2999,{}2999", ",".repeat(2999));
        assert_eq!(text.lines().last(), Some(&*last));
    }
}
