//! The same stored points twice: as the engine answers them, and as lines of JSON that are read from memory.
//!
//! The question is that of a dashboard: the mean of one field by hours. JSON is given every advantage: it lies in memory, its
//! hours are cut from the text of its times, and what it costs to find and read the files is not counted.

use crate::wire::time::rfc3339;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use wattlog_engine::query::{
    Function, GroupBy, Order, QueryControl, QueryRequest, QueryResult, ResultSeries, ResultValues, Shape,
};
use wattlog_engine::{Engine, MeasurementInfo};
use wattlog_model::{FieldType, Timestamp};

/// Rows that a sample wants.
const ROWS: usize = 20_000;
/// Fewer say nothing.
const LEAST_ROWS: usize = 1_000;
/// Most values of a sample, over all fields.
const MAX_VALUES: usize = 1_000_000;
/// Most bytes of it as JSON; what is older than fits is left out.
const MAX_JSON_BYTES: usize = 32 << 20;
/// How often each of the two is timed; the middle time counts.
const RUNS: usize = 3;
/// Measurements that are looked at for one to take a sample of.
const MAX_LOOKED_AT: usize = 100;
const HOUR_NS: i64 = 3_600_000_000_000;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) measured: Timestamp,
    pub(crate) measurement: String,
    pub(crate) field: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) rows: u64,
    pub(crate) values: u64,
    /// Bytes of all rows as JSON.
    pub(crate) json_bytes: u64,
    /// Of them, those of times, tags and braces.
    pub(crate) row_bytes: u64,
    /// Time to read the JSON and answer from it.
    pub(crate) scan: Duration,
    /// Time of the engine for the same answer.
    pub(crate) query: Duration,
}

impl Sample {
    /// Bytes that so many rows and values of the same shape would take as JSON.
    pub(crate) fn json_bytes_of(&self, rows: u64, values: u64) -> f64 {
        let per_row = self.row_bytes as f64 / self.rows as f64;
        let per_value = (self.json_bytes - self.row_bytes) as f64 / self.values as f64;
        rows as f64 * per_row + values as f64 * per_value
    }

    /// How often the engine answers while JSON is read once.
    pub(crate) fn speed_up(&self) -> f64 {
        self.scan.as_secs_f64() / self.query.as_secs_f64().max(1e-9)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "measured": rfc3339(self.measured.0), "measurement": self.measurement, "field": self.field,
            "start": rfc3339(self.start.0), "end": rfc3339(self.end.0),
            "rows": self.rows, "values": self.values, "json_bytes": self.json_bytes,
            "json_scan_ms": self.scan.as_secs_f64() * 1e3, "query_ms": self.query.as_secs_f64() * 1e3,
        })
    }

    /// The query whose time is told.
    pub(crate) fn query_link(&self) -> String {
        let Self { measurement, field, start, end, .. } = self;
        let text = |text: &str| text.bytes().map(escaped).collect::<String>();
        format!(
            "/api/v1/query?measurement={}&fields={}&fn=mean,count&every=1h&tz=UTC&start={}&end={}",
            text(measurement),
            text(field),
            rfc3339(start.0),
            rfc3339(end.0)
        )
    }
}

/// What is sampled.
struct Subject<'a> {
    engine: &'a Engine,
    database: &'a str,
    measurement: String,
    field: String,
    control: &'a QueryControl,
}

/// Takes a sample of the newest points; the error says why there is none.
pub(super) fn take(
    engine: &Engine,
    database: &str,
    control: &QueryControl,
    now: Timestamp,
) -> Result<Sample, String> {
    let (measurement, info, field) = subject(engine, database)?;
    let (first, last) = info.first.zip(info.last).ok_or("nothing is stored yet")?;
    let end = Timestamp(last.0.saturating_add(1));
    let wanted = ROWS.min(MAX_VALUES / info.fields.len().max(1));
    if wanted < LEAST_ROWS {
        return Err(format!("{measurement} has too many fields for a sample"));
    }
    let subject = Subject { engine, database, measurement, field, control };
    let start = subject.start(first, end, wanted)?;
    let rows = QueryRequest {
        order: Order::Descending,
        limit: Some(wanted),
        ..QueryRequest::raw(database, &subject.measurement, start, end)
    };
    let json = Json::newest(&subject.ask(&rows)?, wanted, MAX_JSON_BYTES);
    let Some(start) = json.start.filter(|_| json.rows >= LEAST_ROWS as u64) else {
        return Err(format!(
            "{} rows within {wanted} and {MAX_JSON_BYTES} bytes of JSON, {LEAST_ROWS} are needed",
            json.rows
        ));
    };
    let hourly = QueryRequest {
        fields: Some(vec![subject.field.clone()]),
        shape: Shape::aggregate(
            vec![Function::Mean, Function::Count],
            Some(Duration::from_nanos(HOUR_NS.unsigned_abs())),
        ),
        ..QueryRequest::raw(database, &subject.measurement, start, end)
    };
    let (query, answered) = timed(|| subject.ask(&hourly))?;
    let (scan, scanned) = timed(|| json.hourly(&subject.field, control))?;
    if !agree(&answered, &scanned, &subject.field) {
        return Err("the store and the JSON of the sample gave different answers".to_owned());
    }
    Ok(Sample {
        measured: now,
        measurement: subject.measurement,
        field: subject.field,
        start,
        end,
        rows: json.rows,
        values: json.values,
        json_bytes: json.text.len() as u64,
        row_bytes: json.row_bytes,
        scan,
        query,
    })
}

/// `energy_data` if it has numbers, or else the measurement that has the newest point.
fn subject(engine: &Engine, database: &str) -> Result<(String, MeasurementInfo, String), String> {
    let names = engine.measurements(database).map_err(|_| "nothing is stored yet".to_owned())?;
    let usual = names.iter().filter(|name| *name == "energy_data");
    let others = names.iter().filter(|name| *name != "energy_data");
    let mut best: Option<(String, MeasurementInfo, String)> = None;
    for name in usual.chain(others).take(MAX_LOOKED_AT) {
        let Ok(Some(info)) = engine.measurement(database, name) else { continue };
        let Some(field) = number_field(&info) else { continue };
        let is_newer = best.as_ref().is_none_or(|(_, known, _)| known.last < info.last);
        let is_usual = name == "energy_data";
        if is_usual || is_newer {
            best = Some((name.clone(), info, field));
        }
        if is_usual {
            break;
        }
    }
    best.ok_or_else(|| "no field of numbers is stored yet".to_owned())
}

/// The field that is asked for: power of the roof, or the first that is a number.
pub(super) fn number_field(info: &MeasurementInfo) -> Option<String> {
    let is_number = |kind| matches!(kind, FieldType::Float | FieldType::Integer | FieldType::Unsigned);
    let mut numbers = info.fields.iter().filter(|field| is_number(field.field_type));
    let first = numbers.clone().next()?;
    Some(numbers.find(|field| field.name == "pv_power").unwrap_or(first).name.clone())
}

impl Subject<'_> {
    fn ask(&self, request: &QueryRequest) -> Result<QueryResult, String> {
        self.engine.query(request, self.control).map_err(|error| error.to_string())
    }

    /// Time of the oldest of the newest `wanted` values of the field, of all series together.
    fn start(&self, first: Timestamp, end: Timestamp, wanted: usize) -> Result<Timestamp, String> {
        let request = QueryRequest {
            fields: Some(vec![self.field.clone()]),
            group_by: GroupBy::Keys(Vec::new()),
            order: Order::Descending,
            limit: Some(wanted),
            ..QueryRequest::raw(self.database, &self.measurement, first, end)
        };
        let answer = self.ask(&request)?;
        let times = answer.series.first().map(times).unwrap_or_default();
        match times.last() {
            Some(Some(oldest)) if times.len() >= LEAST_ROWS => Ok(Timestamp(*oldest)),
            _ => Err(format!("{} values of {} are stored, {LEAST_ROWS} are needed", times.len(), self.field)),
        }
    }
}

/// The column of times.
fn times(series: &ResultSeries) -> &[Option<i64>] {
    match series.columns.first().map(|column| &column.values) {
        Some(ResultValues::Time(times)) => times,
        _ => &[],
    }
}

/// The time of one run in the middle of some, and what the last gave.
fn timed<T>(mut run: impl FnMut() -> Result<T, String>) -> Result<(Duration, T), String> {
    let mut times = Vec::with_capacity(RUNS);
    loop {
        let begun = Instant::now();
        let given = run()?;
        times.push(begun.elapsed());
        if times.len() == RUNS {
            times.sort_unstable();
            return Ok((times[RUNS / 2], given));
        }
    }
}

/// Rows as lines of JSON, one flat object each, newest first.
#[derive(Debug, Default)]
struct Json {
    text: String,
    rows: u64,
    values: u64,
    row_bytes: u64,
    /// From here on it has all rows.
    start: Option<Timestamp>,
}

/// What the rows of a series begin with, and the names of its columns, as JSON.
struct Frame<'a> {
    series: &'a ResultSeries,
    tags: String,
    names: Vec<String>,
}

impl<'a> Frame<'a> {
    fn of(series: &'a ResultSeries) -> Self {
        let tag = |(key, value): (&String, &String)| format!(",{}:{}", quoted(key), quoted(value));
        let tags = series.tags.iter().map(|(key, value)| tag((key, value))).collect();
        let names = series.columns.iter().map(|column| quoted(&column.name)).collect();
        Self { series, tags, names }
    }
}

impl Json {
    /// The newest rows, as many as there are in both bounds; those of one instant all or none.
    fn newest(answer: &QueryResult, most_rows: usize, most_bytes: usize) -> Self {
        let frames: Vec<Frame<'_>> = answer.series.iter().map(Frame::of).collect();
        let mut rows = Vec::new();
        for frame in &frames {
            let known = times(frame.series).iter().enumerate();
            rows.extend(known.filter_map(|(row, ns)| Some(((*ns)?, frame, row))));
        }
        rows.sort_unstable_by_key(|(ns, _, row)| (Reverse(*ns), *row));
        let mut json = Self::default();
        for instant in rows.chunk_by(|one, other| one.0 == other.0) {
            let whole = (json.text.len(), json.rows, json.values, json.row_bytes);
            for (ns, frame, row) in instant {
                json.push(*ns, frame, *row);
                if json.rows > most_rows as u64 || json.text.len() > most_bytes {
                    json.text.truncate(whole.0);
                    (json.rows, json.values, json.row_bytes) = (whole.1, whole.2, whole.3);
                    return json;
                }
            }
            json.start = Some(Timestamp(instant[0].0));
        }
        json
    }

    fn push(&mut self, ns: i64, frame: &Frame<'_>, row: usize) {
        let begun = self.text.len();
        let _ = write!(self.text, "{{\"time\":\"{}\"{}", rfc3339(ns), frame.tags);
        let named = self.text.len();
        for (column, name) in frame.series.columns.iter().zip(&frame.names).skip(1) {
            if let Some(value) = text(&column.values, row) {
                let _ = write!(self.text, ",{name}:{value}");
                self.values += 1;
            }
        }
        self.row_bytes += (named - begun) as u64 + 2;
        self.text.push_str("}\n");
        self.rows += 1;
    }

    /// Sum and number of the field's values by hour, the hour as it stands in the times.
    fn hourly(&self, field: &str, control: &QueryControl) -> Result<BTreeMap<String, (f64, u64)>, String> {
        let mut hours: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        for (number, line) in self.text.lines().enumerate() {
            if number % 1024 == 0 && is_over(control) {
                return Err("the measurement took too long".to_owned());
            }
            let row: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let (Some(time), Some(value)) = (row["time"].as_str(), row[field].as_f64()) else { continue };
            let hour = time.get(..HOUR_CHARS).unwrap_or(time);
            let (sum, count) = match hours.get_mut(hour) {
                Some(known) => known,
                None => hours.entry(hour.to_owned()).or_default(),
            };
            *sum += value;
            *count += 1;
        }
        Ok(hours)
    }
}

/// A byte as it stands in a URL.
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// `2026-03-01T10`.
const HOUR_CHARS: usize = 13;

fn is_over(control: &QueryControl) -> bool {
    control.cancel.is_cancelled() || control.deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Whether both have the same hours with the same numbers of values and the same means, but for rounding.
fn agree(answer: &QueryResult, scanned: &BTreeMap<String, (f64, u64)>, field: &str) -> bool {
    let Some(series) = answer.series.first() else { return scanned.is_empty() };
    let column = |of: &str| series.column(&format!("{field}_{of}")).map(|column| &column.values);
    let (Some(means), Some(counts)) = (column("mean"), column("count")) else { return false };
    let Some(ResultValues::Time(times)) = series.columns.first().map(|column| &column.values) else {
        return false;
    };
    let same = |(row, ns): (usize, &Option<i64>)| {
        let (Some(ns), ResultValues::Float(means)) = (ns, means) else { return false };
        let Some((sum, count)) = scanned.get(&rfc3339(*ns)[..HOUR_CHARS]) else { return false };
        let scanned = sum / *count as f64;
        let close = |mean: f64| (mean - scanned).abs() <= 1e-9 * mean.abs().max(1.0);
        whole(counts, row) == Some(*count) && means[row].is_some_and(close)
    };
    times.len() == scanned.len() && times.iter().enumerate().all(same)
}

fn whole(values: &ResultValues, row: usize) -> Option<u64> {
    match values {
        ResultValues::Integer(values) => values.get(row).copied().flatten().map(i64::unsigned_abs),
        ResultValues::Unsigned(values) => values.get(row).copied().flatten(),
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value as JSON has it; none where there is none.
fn text(values: &ResultValues, row: usize) -> Option<String> {
    match values {
        ResultValues::Time(values) => values[row].map(|ns| quoted(&rfc3339(ns))),
        ResultValues::Float(values) => values[row].map(|value| Value::from(value).to_string()),
        ResultValues::Integer(values) => values[row].map(|value| value.to_string()),
        ResultValues::Unsigned(values) => values[row].map(|value| value.to_string()),
        ResultValues::Boolean(values) => values[row].map(|value| value.to_string()),
        ResultValues::String(values) => values[row].as_ref().map(|value| quoted(value)),
    }
}
