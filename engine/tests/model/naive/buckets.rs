//! Answers made of buckets, filled or not.

use super::answer::{Column, times};
use super::curve::{Curves, between, needs_neighbours};
use super::functions::{Answer, compute, is_defined, number, settle_sums};
use super::{FIELDS, Row};
use std::collections::BTreeMap;
use wattlog_engine::query::{Aggregate, Buckets, Every, Fill, Function, Order, QueryRequest, Zone};
use wattlog_model::{FieldType, FieldValue};

/// First instant of the bucket of an instant.
pub(super) fn bucket_start(request: &QueryRequest, aggregate: &Aggregate) -> impl Fn(i64) -> i64 {
    let (start, offset, every) = (request.start.0, aggregate.offset_ns, aggregate.every);
    // Borders in zones have a suite of their own (`calendar`); here it matters that all sources use the same.
    let buckets = Buckets::new(aggregate, start..request.end.0).expect("a good length");
    let utc = aggregate.zone == Zone::UTC;
    move |time| match every {
        None => start,
        Some(Every::Nanos(ns)) if utc => {
            let (ns, offset) = (i128::from(ns), i128::from(offset));
            let start = (i128::from(time) - offset).div_euclid(ns) * ns + offset;
            start.max(i128::from(i64::MIN)) as i64
        }
        Some(_) => buckets.of(time).start,
    }
}

pub(super) fn buckets(
    request: &QueryRequest,
    fields: &[usize],
    aggregate: &Aggregate,
    rows: &[(i64, &Row)],
    curves: &Curves,
) -> Vec<Column> {
    let start = bucket_start(request, aggregate);
    let mut by_bucket: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for (time, row) in rows {
        by_bucket.entry(start(*time)).or_default().push(row);
    }
    let is_filled = aggregate.fill != Fill::None;
    for start in curves.values().flat_map(BTreeMap::keys) {
        by_bucket.entry(*start).or_default();
    }
    if is_filled {
        for start in all_buckets(request, aggregate) {
            by_bucket.entry(start).or_default();
        }
    }
    let mut buckets: Vec<(i64, Vec<&Row>)> = by_bucket.into_iter().collect();
    let limit = request.limit.unwrap_or(usize::MAX).min(buckets.len());
    let kept = match request.order {
        Order::Ascending => 0..limit,
        Order::Descending => buckets.len() - limit..buckets.len(),
    };
    if !is_filled {
        buckets = buckets[kept.clone()].to_vec();
    }
    let starts: Vec<i64> = buckets.iter().map(|(start, _)| *start).collect();
    let mut columns = vec![times(starts.iter().copied())];
    for field in fields {
        for function in aggregate.functions.iter().filter(|function| is_defined(**function, *field)) {
            let name = format!("{}_{function}", FIELDS[*field].0);
            if needs_neighbours(*function) {
                let ranges = Buckets::new(aggregate, request.start.0..request.end.0).expect("a good length");
                let found = starts.iter().map(|start| {
                    let bucket = ranges.of((*start).max(request.start.0));
                    let clipped = i128::from(bucket.end.min(request.end.0))
                        - i128::from(bucket.start.max(request.start.0));
                    between(*function, curves.get(field).and_then(|curve| curve.get(start)), clipped as f64)
                });
                let (values, slack): (Vec<_>, Vec<_>) = found.unzip();
                let values = values.into_iter().map(|value| value.map(FieldValue::Float)).collect();
                let mut column = Column { name, values, ulps: vec![0; slack.len()], slack };
                if *function != Function::Coverage {
                    fill(aggregate.fill, &starts, &mut column, &FieldValue::Float(0.0));
                }
                columns.push(column);
                continue;
            }
            let values = buckets.iter().map(|(_, rows)| {
                let values: Vec<&FieldValue> = rows.iter().filter_map(|row| row[*field].as_ref()).collect();
                compute(*function, &values)
            });
            let (mut values, inexact): (Vec<_>, Vec<_>) = values.unzip();
            if *function == Function::Sum {
                settle_sums(FIELDS[*field].1, &mut values);
            }
            let values = values.into_iter().map(Answer::value).collect();
            let ulps: Vec<u64> = inexact
                .into_iter()
                .map(|inexact| match (inexact, function) {
                    (true, Function::Stddev) => 1 << 20,
                    (inexact, _) => u64::from(inexact),
                })
                .collect();
            let largest = |rows: &[&Row]| {
                rows.iter()
                    .filter_map(|row| row[*field].as_ref())
                    .map(|v| number(v).abs())
                    .fold(0.0, f64::max)
            };
            let slack = buckets.iter().map(|(_, rows)| match function {
                Function::Stddev => largest(rows) * 1e-9,
                _ => 0.0,
            });
            let slack = slack.collect();
            let mut column = Column { name, values, ulps, slack };
            let empty = match (FIELDS[*field].1, function) {
                (_, Function::Mean | Function::Stddev | Function::Median | Function::Quantile(_))
                | (FieldType::Float, _) => FieldValue::Float(0.0),
                (FieldType::Integer, Function::Spread) => FieldValue::Unsigned(0),
                (FieldType::Integer, _) => FieldValue::Integer(0),
                (FieldType::Unsigned, _) => FieldValue::Unsigned(0),
                (FieldType::Boolean | FieldType::String, _) => FieldValue::Boolean(false),
            };
            if !matches!(function, Function::Count | Function::Distinct) {
                fill(aggregate.fill, &starts, &mut column, &empty);
            }
            columns.push(column);
        }
    }
    for column in &mut columns {
        if is_filled {
            column.values = column.values[kept.clone()].to_vec();
            column.ulps = column.ulps[kept.clone()].to_vec();
            column.slack = column.slack[kept.clone()].to_vec();
        }
        if request.order == Order::Descending {
            column.values.reverse();
            column.ulps.reverse();
            column.slack.reverse();
        }
    }
    columns
}

/// First instants of all buckets that meet the range, found by asking for one instant after the other.
pub(super) fn all_buckets(request: &QueryRequest, aggregate: &Aggregate) -> Vec<i64> {
    let start_of = bucket_start(request, aggregate);
    let step = match aggregate.every {
        None => return vec![request.start.0],
        Some(Every::Nanos(ns)) => ns as i64,
        Some(_) => 3_600_000_000_000,
    };
    let mut starts: Vec<i64> = Vec::new();
    let mut time = request.start.0;
    while time < request.end.0 {
        starts.push(start_of(time));
        time = time.saturating_add(step);
    }
    starts.push(start_of(request.end.0 - 1));
    starts.dedup();
    starts
}

/// Fills what is missing; `empty` has the type of a column without a value.
pub(super) fn fill(fill: Fill, starts: &[i64], column: &mut Column, empty: &FieldValue) {
    let old = column.values.clone();
    let before = |i: usize| (0..i).rev().find_map(|j| Some((j, old[j].clone()?)));
    let after = |i: usize| (i + 1..old.len()).find_map(|j| Some((j, old[j].clone()?)));
    let float = |value: &FieldValue| match value {
        FieldValue::Float(v) => Some(*v),
        FieldValue::Integer(v) => Some(*v as f64),
        FieldValue::Unsigned(v) => Some(*v as f64),
        FieldValue::Boolean(_) | FieldValue::String(_) => None,
    };
    let sample = old.iter().flatten().next().unwrap_or(empty);
    for (i, value) in column.values.iter_mut().enumerate().filter(|(_, value)| value.is_none()) {
        match fill {
            Fill::None | Fill::Null => {}
            Fill::Previous => {
                if let Some((j, known)) = before(i) {
                    (*value, column.ulps[i]) = (Some(known), column.ulps[j]);
                    column.slack[i] = column.slack[j];
                }
            }
            Fill::Number(number) => *value = float(sample).map(|_| FieldValue::Float(number)),
            Fill::Linear => {
                if let (Some((l, left)), Some((r, right))) = (before(i), after(i))
                    && let (Some(left), Some(right)) = (float(&left), float(&right))
                {
                    let share = (starts[i] - starts[l]) as f64 / (starts[r] - starts[l]) as f64;
                    *value = Some(FieldValue::Float(left * (1.0 - share) + right * share));
                    column.ulps[i] = 4 * column.ulps[l].max(column.ulps[r]);
                    column.slack[i] = 2.0 * column.slack[l].max(column.slack[r]);
                }
            }
        }
    }
    // A column has one type: integers stay integers only beside integers.
    let whole = |value: &Option<FieldValue>| match (value, sample) {
        (Some(FieldValue::Float(v)), FieldValue::Integer(_)) => v.fract() == 0.0,
        (Some(FieldValue::Float(v)), FieldValue::Unsigned(_)) => v.fract() == 0.0 && *v >= 0.0,
        _ => true,
    };
    let stays = !matches!(fill, Fill::Linear)
        && match fill {
            Fill::Number(number) => whole(&Some(FieldValue::Float(number))),
            _ => true,
        };
    for value in &mut column.values {
        *value = match (value.take(), sample) {
            (Some(FieldValue::Float(v)), FieldValue::Integer(_)) if stays => {
                Some(FieldValue::Integer(v as i64))
            }
            (Some(FieldValue::Float(v)), FieldValue::Unsigned(_)) if stays => {
                Some(FieldValue::Unsigned(v as u64))
            }
            (Some(value), _) if !stays => Some(float(&value).map_or(value, FieldValue::Float)),
            (value, _) => value,
        };
    }
}
