//! Columns of the answer, from rows, newest values or buckets.

use super::bucket::Buckets;
use super::error::QueryError;
use super::fill::{self, all_buckets};
use super::fold::{Accumulators, bucket_keys};
use super::last::Newest;
use super::plan::is_defined;
use super::plan::{Group, Plan, PlannedField};
use super::raw::{Rows, empty, has_value};
use super::request::{Aggregate, Fill, Function, Order, QueryRequest};
use super::result::{ResultColumn, ResultSeries, ResultValues};
use super::scan::Scan;
use wattlog_model::FieldValue;

/// A series of points; none if it has no row.
pub(super) fn points(plan: &Plan, group: &Group, rows: Rows) -> Option<ResultSeries> {
    if rows.len() == 0 {
        return None;
    }
    let Rows { times, columns: by_slot } = rows;
    let mut by_slot: Vec<Option<ResultValues>> = by_slot.into_iter().map(Some).collect();
    let mut columns = vec![time_column(times.into_iter().map(Some).collect())];
    for field in &plan.fields {
        let Some(values) = by_slot[field.slot].take() else { continue };
        if plan.named || has_value(&values) {
            columns.push(column(field, None, values));
        }
    }
    Some(ResultSeries { tags: group.tags.clone(), columns })
}

/// A series of one row with the newest values; none if there is no value.
pub(super) fn newest(plan: &Plan, group: &Group, newest: Newest) -> Option<ResultSeries> {
    let row_time = newest.iter().flatten().map(|(time, _)| *time).max()?;
    let mut columns = vec![time_column(vec![Some(row_time)])];
    for field in &plan.fields {
        match &newest[field.slot] {
            Some((time, value)) => {
                columns.push(column(field, None, single(value)));
                if *time < row_time {
                    let name = format!("{}_time", field.def.name);
                    let values = ResultValues::Time(vec![Some(*time)]);
                    columns.push(ResultColumn {
                        name,
                        field: Some(field.def.name.to_string()),
                        unit: None,
                        values,
                    });
                }
            }
            None if plan.named => {
                let mut values = empty(field.def.field_type);
                push_none(&mut values);
                columns.push(column(field, None, values));
            }
            None => {}
        }
    }
    Some(ResultSeries { tags: group.tags.clone(), columns })
}

/// Series of buckets; those without a value are left out.
pub(super) fn buckets(
    scan: Scan<'_>,
    request: &QueryRequest,
    aggregate: &Aggregate,
    buckets: &Buckets,
    groups: Vec<Accumulators>,
) -> Result<Vec<ResultSeries>, QueryError> {
    let (plan, fill) = (scan.plan, aggregate.fill);
    let all = match fill {
        Fill::None => None,
        _ => Some(all_buckets(buckets, &plan.range, scan.budget)?),
    };
    let mut out = Vec::new();
    for (group, Accumulators { fields, .. }) in plan.groups.iter().zip(groups) {
        scan.budget.check()?;
        let with_value = bucket_keys(&fields);
        if with_value.is_empty() {
            continue;
        }
        let keys = all.as_ref().unwrap_or(&with_value);
        scan.budget.answer_buckets(keys.len() as u64)?;
        let limit = request.limit.map_or(keys.len(), |limit| limit.min(keys.len()));
        let kept = match request.order {
            Order::Ascending => 0..limit,
            Order::Descending => keys.len() - limit..keys.len(),
        };
        let mut columns = vec![time_column(keys[kept.clone()].iter().copied().map(Some).collect())];
        for field in &plan.fields {
            let own = &fields[field.slot];
            if !plan.named && own.keys().is_empty() {
                continue;
            }
            for function in aggregate.functions.iter().filter(|function| is_defined(**function, &field.def)) {
                scan.budget.hold_bytes(CELL_BYTES * limit as u64)?;
                let values = if fill == Fill::None {
                    own.column(*function, &keys[kept.clone()])
                } else {
                    // What stands before a row may be what fills it.
                    let values = own.column(*function, keys);
                    let filled =
                        if function.knows_nothing() { values } else { fill::fill(fill, keys, values) };
                    filled.slice(kept.clone())
                };
                columns.push(column(field, Some(*function), values));
            }
        }
        if request.order == Order::Descending {
            columns.iter_mut().for_each(|column| column.values.reverse());
        }
        out.push(ResultSeries { tags: group.tags.clone(), columns });
    }
    Ok(out)
}

/// Memory of a value of a column, in bytes; texts are shared with the accumulators.
const CELL_BYTES: u64 = 16;

fn time_column(times: Vec<Option<i64>>) -> ResultColumn {
    ResultColumn { name: "time".to_owned(), field: None, unit: None, values: ResultValues::Time(times) }
}

fn column(field: &PlannedField, function: Option<Function>, values: ResultValues) -> ResultColumn {
    let name = match function {
        None => field.def.name.to_string(),
        Some(function) => format!("{}_{function}", field.def.name),
    };
    let unit = field.def.unit.clone().filter(|_| function != Some(Function::Count));
    ResultColumn { name, field: Some(field.def.name.to_string()), unit, values }
}

fn single(value: &FieldValue) -> ResultValues {
    match value {
        FieldValue::Float(v) => ResultValues::Float(vec![Some(*v)]),
        FieldValue::Integer(v) => ResultValues::Integer(vec![Some(*v)]),
        FieldValue::Unsigned(v) => ResultValues::Unsigned(vec![Some(*v)]),
        FieldValue::Boolean(v) => ResultValues::Boolean(vec![Some(*v)]),
        FieldValue::String(v) => ResultValues::String(vec![Some(v.clone())]),
    }
}

fn push_none(values: &mut ResultValues) {
    match values {
        ResultValues::Time(v) | ResultValues::Integer(v) => v.push(None),
        ResultValues::Float(v) => v.push(None),
        ResultValues::Unsigned(v) => v.push(None),
        ResultValues::Boolean(v) => v.push(None),
        ResultValues::String(v) => v.push(None),
    }
}
