//! Answers made of rows that were written: points, pictures, last values.

use super::answer::{Column, times};
use super::functions::is_defined;
use super::{FIELDS, Row};
use crate::exact::Wide;
use std::collections::BTreeMap;
use wattlog_engine::query::{Aggregate, Function, Order, QueryRequest, Shape};
use wattlog_model::FieldValue;

/// Fields of the answer, in its order.
pub(super) fn fields(request: &QueryRequest) -> Vec<usize> {
    let all = 0..FIELDS.len();
    match (&request.fields, &request.shape) {
        (Some(names), _) => {
            names.iter().filter_map(|name| FIELDS.iter().position(|(own, _)| own == name)).collect()
        }
        (None, Shape::Aggregate(Aggregate { functions, .. })) => {
            all.filter(|field| functions.iter().any(|function| is_defined(*function, *field))).collect()
        }
        (None, _) => all.collect(),
    }
}

pub(super) fn raw(request: &QueryRequest, fields: &[usize], mut rows: Vec<(i64, Row)>) -> Vec<Column> {
    if request.order == Order::Descending {
        rows.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    }
    rows.truncate(request.limit.unwrap_or(usize::MAX));
    let mut columns = vec![times(rows.iter().map(|(time, _)| *time))];
    for field in fields {
        let values: Vec<_> = rows.iter().map(|(_, row)| row[*field].clone()).collect();
        // An unnamed field has a column only if one of the rows of the answer has a value.
        if request.fields.is_some() || values.iter().any(Option::is_some) {
            columns.push(Column::exact(FIELDS[*field].0.to_owned(), values));
        }
    }
    columns
}

/// The rows that draw a series: of each part of the range the first, the last, the first least and the first greatest of
/// each field, and nothing but those.
pub(super) fn picture(
    request: &QueryRequest,
    pixels: u32,
    fields: &[usize],
    rows: &[(i64, &Row)],
) -> Vec<(i64, Row)> {
    let (start, end) = (i128::from(request.start.0), i128::from(request.end.0));
    let part = |time: i64| (i128::from(time) - start) * i128::from(pixels) / (end - start);
    let mut kept: BTreeMap<i64, Row> = BTreeMap::new();
    for field in fields {
        let points: Vec<(i64, &FieldValue)> =
            rows.iter().filter_map(|(time, row)| Some((*time, row[*field].as_ref()?))).collect();
        for own in points.chunk_by(|a, b| part(a.0) == part(b.0)) {
            let mut wanted = vec![own[0], own[own.len() - 1]];
            if is_defined(Function::Min, *field) {
                let by = |a: &FieldValue, b: &FieldValue| Wide::of(a).order(&Wide::of(b));
                let better = |is: std::cmp::Ordering| {
                    own.iter()
                        .copied()
                        .reduce(|best, point| if by(point.1, best.1) == is { point } else { best })
                };
                wanted.extend(
                    [better(std::cmp::Ordering::Less), better(std::cmp::Ordering::Greater)]
                        .into_iter()
                        .flatten(),
                );
            }
            for (time, value) in wanted {
                kept.entry(time).or_insert_with(|| FIELDS.map(|_| None))[*field] = Some(value.clone());
            }
        }
    }
    kept.into_iter().collect()
}

pub(super) fn last(fields: &[usize], rows: &[(i64, &Row)]) -> Vec<Column> {
    let newest = |field: usize| rows.iter().rev().find_map(|(time, r)| Some((*time, r[field].clone()?)));
    let row_time = fields.iter().filter_map(|field| newest(*field)).map(|(time, _)| time).max();
    let row_time = row_time.expect("a row has a value");
    let mut columns = vec![times([row_time].into_iter())];
    for field in fields {
        let (name, newest) = (FIELDS[*field].0, newest(*field));
        columns.push(Column::exact(name.to_owned(), vec![newest.clone().map(|(_, value)| value)]));
        if let Some((time, _)) = newest.filter(|(time, _)| *time < row_time) {
            columns.push(Column::exact(format!("{name}_time"), vec![Some(FieldValue::Integer(time))]));
        }
    }
    columns
}
