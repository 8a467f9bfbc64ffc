//! The same stored points twice: as the engine answers them, and as lines of JSON that are read from memory.
//!
//! The question is that of a dashboard: the mean of one field by hours. JSON is given every advantage: it lies in memory, its
//! hours are cut from the text of its times, and what it costs to find and read the files is not counted.

use crate::wire::time::rfc3339;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use wattlog_engine::query::{Function, QueryControl, QueryRequest, QueryResult, ResultValues, Shape};
use wattlog_engine::{Engine, MeasurementInfo};
use wattlog_model::{FieldType, Timestamp};

/// Rows that a sample wants.
const ROWS: u64 = 20_000;
/// Fewer say nothing.
const LEAST_ROWS: u64 = 1_000;
/// Most values of a sample, over all fields.
const MAX_VALUES: u64 = 1_000_000;
/// Most bytes of it as JSON.
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
    let wanted = ROWS.min(MAX_VALUES / info.fields.len().max(1) as u64);
    if wanted < LEAST_ROWS {
        return Err(format!("{measurement} has too many fields for a sample"));
    }
    let subject = Subject { engine, database, measurement, field, control };
    let start = subject.start(first, end, wanted)?;
    let rows = subject.ask(start, end, Shape::Raw, None)?;
    let json = Json::of(&rows)?;
    drop(rows);
    if json.rows < LEAST_ROWS {
        return Err(format!("{} rows in a sample, {LEAST_ROWS} are needed", json.rows));
    }
    let hourly = || {
        let shape = Shape::aggregate(
            vec![Function::Mean, Function::Count],
            Some(Duration::from_nanos(HOUR_NS.unsigned_abs())),
        );
        subject.ask(start, end, shape, Some(&subject.field))
    };
    let (query, answered) = timed(hourly)?;
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
    fn ask(
        &self,
        start: Timestamp,
        end: Timestamp,
        shape: Shape,
        field: Option<&str>,
    ) -> Result<QueryResult, String> {
        let request = QueryRequest {
            fields: field.map(|field| vec![field.to_owned()]),
            shape,
            ..QueryRequest::raw(self.database, &self.measurement, start, end)
        };
        self.engine.query(&request, self.control).map_err(|error| error.to_string())
    }

    /// From where on there are about as many values of the field as wanted: a stretch is doubled until it holds them, or halved
    /// until it holds no more than twice as many.
    fn start(&self, first: Timestamp, end: Timestamp, wanted: u64) -> Result<Timestamp, String> {
        let from = |span: i64| Timestamp(end.0.saturating_sub(span).max(first.0));
        let mut span = HOUR_NS;
        while self.count(from(span), end)? < wanted && from(span) > first {
            span = span.saturating_mul(2);
        }
        let mut count = self.count(from(span), end)?;
        while count > wanted.saturating_mul(2) && span > 1_000_000_000 {
            span /= 2;
            count = self.count(from(span), end)?;
        }
        match count {
            0..LEAST_ROWS => {
                Err(format!("{count} values of {} are stored, {LEAST_ROWS} are needed", self.field))
            }
            _ if count > wanted.saturating_mul(2) => Err("points lie too close for a sample".to_owned()),
            _ => Ok(from(span)),
        }
    }

    fn count(&self, start: Timestamp, end: Timestamp) -> Result<u64, String> {
        let answer =
            self.ask(start, end, Shape::aggregate(vec![Function::Count], None), Some(&self.field))?;
        let column = answer.series.first().and_then(|series| series.column(&format!("{}_count", self.field)));
        let counted = column.and_then(|column| whole(&column.values, 0));
        Ok(counted.unwrap_or(0))
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

/// Rows as lines of JSON, one flat object each.
struct Json {
    text: String,
    rows: u64,
    values: u64,
    row_bytes: u64,
}

impl Json {
    fn of(answer: &QueryResult) -> Result<Self, String> {
        let mut json = Self { text: String::new(), rows: 0, values: 0, row_bytes: 0 };
        for series in &answer.series {
            let tags: String = series
                .tags
                .iter()
                .map(|(key, value)| format!(",{}:{}", quoted(key), quoted(value)))
                .collect();
            let names: Vec<String> = series.columns.iter().map(|column| quoted(&column.name)).collect();
            let Some((time, columns)) = series.columns.split_first() else { continue };
            for row in 0..series.rows() {
                let ResultValues::Time(times) = &time.values else { continue };
                let Some(ns) = times[row] else { continue };
                let begun = json.text.len();
                let _ = write!(json.text, "{{\"time\":\"{}\"{tags}", rfc3339(ns));
                let named = json.text.len();
                for (column, name) in columns.iter().zip(&names[1..]) {
                    if let Some(value) = text(&column.values, row) {
                        let _ = write!(json.text, ",{name}:{value}");
                        json.values += 1;
                    }
                }
                json.row_bytes += (named - begun) as u64 + 2;
                json.text.push_str("}\n");
                json.rows += 1;
                if json.text.len() > MAX_JSON_BYTES {
                    return Err(format!("the sample is longer than {MAX_JSON_BYTES} bytes as JSON"));
                }
            }
        }
        Ok(json)
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
