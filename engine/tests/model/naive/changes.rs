//! What changes the store, as the history draws it and as the engine is asked for it.

use super::{FIELDS, SERIES};
use crate::history::NOW;
use wattlog_engine::query::{TagFilter, TagPredicate};
use wattlog_engine::{DeleteRequest, Rule, WriteBatch};
use wattlog_model::{FieldValue, TagSet, Timestamp};

/// One row that is written.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) series: usize,
    pub(crate) time: i64,
    /// Field and value.
    pub(crate) values: Vec<(usize, FieldValue)>,
}

/// Rows of one write, in their order.
#[derive(Debug)]
pub(crate) struct Body(pub(super) Vec<Point>);

impl Body {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, point: Point) {
        self.0.push(point);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&Point) -> bool) {
        self.0.retain(keep);
    }

    pub(crate) fn batch(&self) -> WriteBatch {
        let mut batch = WriteBatch::new("home", None);
        for (line, point) in self.0.iter().enumerate() {
            let (measurement, tags) = SERIES[point.series];
            let tags = TagSet::new(tags.iter().copied()).expect("the tags above are good");
            let slot = batch.series(measurement, &tags);
            let mut row = batch.row(slot, Timestamp(point.time), line as u32 + 1);
            point.values.iter().for_each(|(field, value)| row.value(FIELDS[*field].0, value));
        }
        batch
    }
}

impl FromIterator<Point> for Body {
    fn from_iter<T: IntoIterator<Item = Point>>(points: T) -> Self {
        Self(points.into_iter().collect())
    }
}

/// Values to hide: of one series or a whole measurement, of some fields or all.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) measurement: &'static str,
    pub(crate) series: Option<usize>,
    pub(crate) fields: Option<Vec<usize>>,
    /// First time, and the first that is not covered.
    pub(crate) range: (i64, i64),
}

impl Deletion {
    pub(crate) fn request(&self) -> DeleteRequest {
        let is = |(key, value): (&str, &str)| TagFilter {
            key: key.to_owned(),
            predicate: TagPredicate::In(vec![value.to_owned()]),
        };
        let tags = self.series.map_or(Vec::new(), |series| {
            let value =
                |key| SERIES[series].1.iter().find(|(own, _)| *own == key).map_or("", |(_, value)| value);
            ["device_id", "location"].map(|key| is((key, value(key)))).to_vec()
        });
        let names = |fields: &Vec<usize>| fields.iter().map(|field| FIELDS[*field].0.to_owned()).collect();
        DeleteRequest {
            database: "home".to_owned(),
            retention_policy: None,
            measurement: Some(self.measurement.to_owned()),
            fields: self.fields.as_ref().map(names),
            tags,
            start: Timestamp(self.range.0),
            end: Timestamp(self.range.1),
        }
    }
}

/// What is kept of a measurement, or of all that have no rule of their own.
#[derive(Debug)]
pub(crate) struct Retention {
    pub(crate) measurement: Option<&'static str>,
    pub(crate) cutoff: Cutoff,
}

#[derive(Debug)]
pub(crate) enum Cutoff {
    Forever,
    /// As the database has it.
    Inherited,
    At(i64),
}

impl Retention {
    pub(crate) fn rule(&self) -> Rule {
        match self.cutoff {
            Cutoff::Forever => Rule::Forever,
            Cutoff::Inherited => Rule::Inherited,
            Cutoff::At(cutoff) => Rule::Keep { ns: NOW.abs_diff(cutoff) },
        }
    }
}
