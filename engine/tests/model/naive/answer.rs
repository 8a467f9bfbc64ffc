//! An answer value by value, found or expected, and how far the two may differ.

use crate::exact::ulps_between;
use wattlog_engine::query::{QueryRequest, ResultSeries, ResultValues};
use wattlog_model::FieldValue;

/// One series of an answer.
#[derive(Debug)]
pub(crate) struct Series {
    pub(super) tags: Vec<(String, String)>,
    pub(super) columns: Vec<Column>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) values: Vec<Option<FieldValue>>,
    /// By how many units in the last place each row may be off: sums of doubles that are no short decimals.
    pub(super) ulps: Vec<u64>,
    /// By how much each row may be off.
    pub(super) slack: Vec<f64>,
}

impl Column {
    pub(super) fn exact(name: String, values: Vec<Option<FieldValue>>) -> Self {
        let ulps = vec![0; values.len()];
        let slack = vec![0.0; values.len()];
        Self { name, values, ulps, slack }
    }
}

pub(super) fn times(times: impl Iterator<Item = i64>) -> Column {
    Column::exact("time".to_owned(), times.map(|time| Some(FieldValue::Integer(time))).collect())
}

impl Series {
    pub(crate) fn of(series: &ResultSeries) -> Self {
        let columns = series.columns.iter().map(|column| {
            let (name, rows) = (column.name.clone(), column.values.len());
            Column::exact(name, (0..rows).map(|row| value_at(&column.values, row)).collect())
        });
        Self { tags: series.tags.clone(), columns: columns.collect() }
    }
}

pub(super) fn value_at(values: &ResultValues, row: usize) -> Option<FieldValue> {
    match values {
        ResultValues::Float(v) => v[row].map(FieldValue::Float),
        ResultValues::Integer(v) | ResultValues::Time(v) => v[row].map(FieldValue::Integer),
        ResultValues::Unsigned(v) => v[row].map(FieldValue::Unsigned),
        ResultValues::Boolean(v) => v[row].map(FieldValue::Boolean),
        ResultValues::String(v) => v[row].clone().map(FieldValue::String),
    }
}

/// Fails unless the answer is the expected one, value by value.
pub(crate) fn check(found: &[Series], expected: &[Series], request: &QueryRequest) {
    let tags = |series: &[Series]| series.iter().map(|s| s.tags.clone()).collect::<Vec<_>>();
    assert_eq!(tags(found), tags(expected), "series of {request:?}");
    for (found, expected) in found.iter().zip(expected) {
        let names = |series: &Series| series.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(found), names(expected), "columns of {:?}: {request:?}", expected.tags);
        for (own, wanted) in found.columns.iter().zip(&expected.columns) {
            let what = format!("{} of {:?}: {request:?}", wanted.name, expected.tags);
            assert_eq!(own.values.len(), wanted.values.len(), "rows of {what}");
            for (row, (a, b)) in own.values.iter().zip(&wanted.values).enumerate() {
                let same = match (a, b) {
                    (Some(FieldValue::Float(a)), Some(FieldValue::Float(b))) => {
                        a.to_bits() == b.to_bits()
                            || (a - b).abs() <= wanted.slack[row]
                            || wanted.ulps[row] > 0 && ulps_between(*a, *b) <= wanted.ulps[row]
                    }
                    (Some(a), Some(b)) => a.same_bits(b),
                    (a, b) => a.is_none() && b.is_none(),
                };
                assert!(same, "row {row}: found {a:?}, expected {b:?} in {what}");
            }
        }
    }
}
