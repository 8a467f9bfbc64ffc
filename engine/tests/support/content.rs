//! Points of a few series, small enough to list, and how they are asked back.

use std::collections::BTreeMap;
use std::fmt;
use wattlog_engine::query::{
    GroupBy, Order, QueryControl, QueryError, QueryRequest, QueryResult, ResultValues, Shape, TagFilter,
    TagPredicate,
};
use wattlog_engine::{DeleteRequest, Engine, ingest::WriteBatch};
use wattlog_model::{FieldType, FieldValue, TagSet, Timestamp};

/// Databases: the last one is answered before its points are durable.
pub(crate) const DATABASES: [&str; 3] = ["home", "shed", "lab"];
/// The database whose writers are answered at once, with a sync to follow.
pub(crate) const INTERVAL_DATABASE: usize = 2;

/// Series: a measurement and its tags.
pub(crate) const SERIES: [(&str, &[(&str, &str)]); 5] = [
    ("energy_data", &[("device_id", "a"), ("location", "roof")]),
    ("energy_data", &[("device_id", "b")]),
    ("energy_data", &[]),
    ("weather_data", &[("source", "imgw")]),
    ("system_metrics", &[("component", "disk"), ("status", "ok")]),
];

pub(crate) const FIELDS: [(&str, FieldType); 6] = [
    ("power", FieldType::Float),
    ("price", FieldType::Float),
    ("energy", FieldType::Integer),
    ("total", FieldType::Unsigned),
    ("on", FieldType::Boolean),
    ("mode", FieldType::String),
];

/// The place of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) database: usize,
    pub(crate) series: usize,
    pub(crate) time: i64,
    pub(crate) field: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measurement, tags) = SERIES[self.series];
        let (database, field) = (DATABASES[self.database], FIELDS[self.field].0);
        write!(f, "{database} {measurement}{tags:?} {field} at {}", self.time)
    }
}

/// A value that is equal only to the same bits.
#[derive(Debug, Clone)]
pub(crate) struct Exact(pub(crate) FieldValue);

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_bits(&other.0)
    }
}

/// All values of a store.
pub(crate) type Content = BTreeMap<Cell, Exact>;

/// What one call does to one database: points are written, or values deleted.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) database: usize,
    pub(crate) cells: Vec<(Cell, Exact)>,
    /// Instead of cells.
    pub(crate) deletion: Option<Deletion>,
    /// Instead of cells: points before this time are too old from now on, also those that are written later.
    pub(crate) cutoff: Option<i64>,
}

/// Values of one series to hide.
#[derive(Debug, Clone)]
pub(crate) struct Deletion {
    pub(crate) series: usize,
    /// None: whole points.
    pub(crate) field: Option<usize>,
    pub(crate) times: std::ops::Range<i64>,
}

impl Body {
    pub(crate) fn new(database: usize, cells: Vec<(Cell, Exact)>) -> Self {
        Self { database, cells, deletion: None, cutoff: None }
    }

    pub(crate) fn apply(&self, content: &mut Content) {
        content.extend(self.cells.iter().cloned());
        if let Some(deletion) = &self.deletion {
            let hidden = |cell: &Cell| {
                (cell.database, cell.series) == (self.database, deletion.series)
                    && deletion.field.is_none_or(|field| field == cell.field)
                    && deletion.times.contains(&cell.time)
            };
            content.retain(|cell, _| !hidden(cell));
        }
        if let Some(cutoff) = self.cutoff {
            content.retain(|cell, _| cell.database != self.database || cell.time >= cutoff);
        }
    }

    /// Without the rows of these lines of its batch.
    pub(crate) fn without(&self, lines: &[u32]) -> Self {
        let rows = self.cells.chunk_by(Self::same_row).zip(1_u32..);
        let kept =
            rows.filter(|(_, line)| !lines.contains(line)).flat_map(|(cells, _)| cells.iter().cloned());
        Self { cells: kept.collect(), ..self.clone() }
    }

    fn same_row(a: &(Cell, Exact), b: &(Cell, Exact)) -> bool {
        (a.0.series, a.0.time) == (b.0.series, b.0.time)
    }

    /// The delete, if it is one.
    pub(crate) fn delete(&self) -> Option<DeleteRequest> {
        let deletion = self.deletion.as_ref()?;
        let (measurement, tags) = SERIES[deletion.series];
        let mut keys: Vec<&str> =
            SERIES.iter().flat_map(|(_, tags)| tags.iter().map(|(key, _)| *key)).collect();
        keys.sort_unstable();
        keys.dedup();
        let is = |key: &&str| {
            let value = tags.iter().find(|(own, _)| own == key).map_or("", |(_, value)| value);
            let predicate = TagPredicate::In(vec![value.to_owned()]);
            TagFilter { key: (*key).to_owned(), predicate }
        };
        Some(DeleteRequest {
            database: DATABASES[self.database].to_owned(),
            retention_policy: None,
            measurement: Some(measurement.to_owned()),
            fields: deletion.field.map(|field| vec![FIELDS[field].0.to_owned()]),
            tags: keys.iter().map(is).collect(),
            start: Timestamp(deletion.times.start),
            end: Timestamp(deletion.times.end),
        })
    }

    pub(crate) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new(DATABASES[self.database], None);
        for (line, cells) in self.cells.chunk_by(Self::same_row).enumerate() {
            let at = cells[0].0;
            let slot = batch.series(SERIES[at.series].0, &tags(at.series));
            let mut row = batch.row(slot, Timestamp(at.time), line as u32 + 1);
            for (cell, value) in cells {
                row.value(FIELDS[cell.field].0, &value.0);
            }
        }
        batch
    }
}

pub(crate) fn tags(series: usize) -> TagSet {
    TagSet::new(SERIES[series].1.iter().copied()).expect("the tags above are good")
}

/// Everything in the store, and whether some answer was partial.
pub(crate) fn read_everything(engine: &Engine) -> Result<(Content, bool), String> {
    let mut content = Content::new();
    let mut partial = false;
    for database in 0..DATABASES.len() {
        let mut measurements: Vec<&str> = SERIES.iter().map(|(measurement, _)| *measurement).collect();
        measurements.dedup();
        for measurement in measurements {
            let Some(result) = ask(engine, database, measurement)? else { continue };
            partial |= !result.partial.is_empty();
            gather(&result, database, measurement, &mut content)?;
        }
    }
    Ok((content, partial))
}

/// All points of a measurement; `None` if there is no such database.
fn ask(engine: &Engine, database: usize, measurement: &str) -> Result<Option<QueryResult>, String> {
    let request = QueryRequest {
        database: DATABASES[database].to_owned(),
        retention_policy: None,
        measurement: measurement.to_owned(),
        fields: None,
        computed: Vec::new(),
        start: Timestamp::MIN,
        end: Timestamp::MAX,
        tags: Vec::new(),
        condition: None,
        shape: Shape::Raw,
        steps: Vec::new(),
        group_by: GroupBy::Default,
        order: Order::Ascending,
        limit: None,
    };
    match engine.query(&request, &QueryControl::default()) {
        Ok(result) => Ok(Some(result)),
        Err(QueryError::DatabaseNotFound(_)) => Ok(None),
        Err(error) => Err(format!("query of {} {measurement}: {error}", DATABASES[database])),
    }
}

fn gather(
    result: &QueryResult,
    database: usize,
    measurement: &str,
    content: &mut Content,
) -> Result<(), String> {
    for found in &result.series {
        let has = |wanted: &[(&str, &str)]| {
            let present = found.tags.iter().filter(|(_, value)| !value.is_empty());
            present.map(|(key, value)| (key.as_str(), value.as_str())).eq(wanted.iter().copied())
        };
        let series = SERIES.iter().position(|(name, tags)| *name == measurement && has(tags));
        let series = series.ok_or_else(|| format!("invented series {measurement} {:?}", found.tags))?;
        let Some(ResultValues::Time(times)) = found.columns.first().map(|column| &column.values) else {
            return Err("an answer without its times".into());
        };
        for column in &found.columns[1..] {
            let field = FIELDS.iter().position(|(name, _)| *name == column.name);
            let field = field.ok_or_else(|| format!("invented field {measurement} {}", column.name))?;
            for (index, time) in times.iter().enumerate() {
                let time = time.ok_or("a row without its time")?;
                let Some(value) = value_at(&column.values, index) else { continue };
                if value.field_type() != FIELDS[field].1 {
                    return Err(format!("field {} has become {}", column.name, value.field_type()));
                }
                let cell = Cell { database, series, time, field };
                if content.insert(cell, Exact(value)).is_some() {
                    return Err(format!("{cell} was answered twice"));
                }
            }
        }
    }
    Ok(())
}

fn value_at(values: &ResultValues, index: usize) -> Option<FieldValue> {
    match values {
        ResultValues::Float(values) => values[index].map(FieldValue::Float),
        ResultValues::Integer(values) | ResultValues::Time(values) => values[index].map(FieldValue::Integer),
        ResultValues::Unsigned(values) => values[index].map(FieldValue::Unsigned),
        ResultValues::Boolean(values) => values[index].map(FieldValue::Boolean),
        ResultValues::String(values) => values[index].clone().map(FieldValue::String),
    }
}
