//! Pictures: as few points as draw the same line as all of them.
//!
//! The range is cut in as many equal parts as the drawing is pixels wide; of each part the first, the last, a least and
//! a greatest point of each field are kept. A line through them covers the same pixels as a line through all points:
//! within a column both reach from the least to the greatest value, and from column to column both go from the last
//! point to the next first.
//!
//! # Source
//! U. Jugel, Z. Jerzak, G. Hackenbroich, V. Markl, "M4: A Visualization-Oriented Time Series Data Aggregation",
//! PVLDB 7(10), 2014.

use super::answer::{column, time_column};
use super::error::QueryError;
use super::fold::{Accumulators, Field};
use super::plan::{Group, Plan};
use super::raw::has_value;
use super::request::{Aggregate, Every, Function, Order, QueryRequest};
use super::result::{ResultSeries, ResultValues};
use super::scan::Scan;

/// What has to be known of each part.
pub(super) fn parts(pixels: u32) -> Aggregate {
    Aggregate {
        functions: vec![Function::First, Function::Min, Function::Max, Function::Last],
        every: Some(Every::Parts(pixels)),
        ..Aggregate::default()
    }
}

/// Series of points; those without a value are left out. A field has a value in the rows that it was kept for.
pub(super) fn points(
    scan: Scan<'_>,
    request: &QueryRequest,
    groups: Vec<Accumulators>,
) -> Result<Vec<ResultSeries>, QueryError> {
    let mut out = Vec::new();
    for (group, Accumulators { fields, .. }) in scan.plan.groups.iter().zip(groups) {
        scan.budget.check()?;
        out.extend(series(scan, request, group, &fields)?);
    }
    Ok(out)
}

/// Memory of a value of a column, in bytes; texts are shared.
const CELL_BYTES: u64 = 16;

fn series(
    scan: Scan<'_>,
    request: &QueryRequest,
    group: &Group,
    fields: &[Field],
) -> Result<Option<ResultSeries>, QueryError> {
    let plan: &Plan = scan.plan;
    let kept: Vec<(Vec<i64>, ResultValues)> = fields.iter().map(|field| field.cells.picture()).collect();
    let mut times: Vec<i64> = kept.iter().flat_map(|(times, _)| times).copied().collect();
    times.sort_unstable();
    times.dedup();
    if times.is_empty() {
        return Ok(None);
    }
    let rows = request.limit.map_or(times.len(), |limit| limit.min(times.len()));
    let shown = match request.order {
        Order::Ascending => 0..rows,
        Order::Descending => times.len() - rows..times.len(),
    };
    scan.budget.answer_rows(rows as u64)?;
    scan.budget.hold_bytes(CELL_BYTES * (times.len() * (plan.fields.len() + 1)) as u64)?;
    let mut columns = vec![time_column(times[shown.clone()].iter().copied().map(Some).collect())];
    for field in &plan.fields {
        let (own, values) = &kept[field.slot];
        let values = spread(values, own, &times).slice(shown.clone());
        if plan.named || has_value(&values) {
            columns.push(column(field, values));
        }
    }
    if request.order == Order::Descending {
        columns.iter_mut().for_each(|column| column.values.reverse());
    }
    Ok(Some(ResultSeries { tags: group.tags.clone(), columns }))
}

/// Values at the times `own` in rows at the times `all`, among which those are.
fn spread(values: &ResultValues, own: &[i64], all: &[i64]) -> ResultValues {
    fn wide<T: Clone>(values: &[Option<T>], own: &[i64], all: &[i64]) -> Vec<Option<T>> {
        let mut next = own.iter().zip(values).peekable();
        all.iter()
            .map(|time| next.next_if(|(own, _)| *own == time).and_then(|(_, value)| value.clone()))
            .collect()
    }
    match values {
        ResultValues::Time(v) => ResultValues::Time(wide(v, own, all)),
        ResultValues::Float(v) => ResultValues::Float(wide(v, own, all)),
        ResultValues::Integer(v) => ResultValues::Integer(wide(v, own, all)),
        ResultValues::Unsigned(v) => ResultValues::Unsigned(wide(v, own, all)),
        ResultValues::Boolean(v) => ResultValues::Boolean(wide(v, own, all)),
        ResultValues::String(v) => ResultValues::String(wide(v, own, all)),
    }
}
