//! Functions over the columns of an answer: what changes from row to row, what adds up, what stands out.
//!
//! Each step takes the columns as those before it left them. Rows are in the order of time; a missing value is passed over,
//! so the value before another is the nearest earlier one that is there. Definitions: docs/api.md, "Functions over results".
//!
//! Invariants
//! 1. What an answer is bounded by bounds a step: it makes no more rows than it gets, a histogram no more than its bins.
//! 2. Sums and differences are those of [`ExactSum`]: exact for decimals, rounded once.

use super::answer::per;
use super::budget::Budget;
use super::error::QueryError;
use super::request::{HistogramEdges, Order, QueryRequest, Step};
use super::result::{ResultColumn, ResultSeries, ResultValues};
use wattlog_model::{ExactSum, Unit};

/// Applies the steps of a request to series in rising order of time, then its order and limit.
pub(super) fn apply(
    mut series: Vec<ResultSeries>,
    request: &QueryRequest,
    budget: &Budget<'_>,
) -> Result<Vec<ResultSeries>, QueryError> {
    let mut held = 0;
    budget.hold_instead(&mut held, series.iter().map(bytes).sum())?;
    for step in &request.steps {
        for one in &mut series {
            budget.check()?;
            let before = bytes(one);
            // What a step makes beside what it reads: at most this, for a moment.
            let beside = beside(one, step);
            budget.hold_bytes(beside)?;
            if let Step::Histogram(edges) = step {
                budget.answer_rows(bins(edges))?;
            }
            apply_one(one, step, request, budget)?;
            budget.let_go(beside);
            let now = held.saturating_sub(before) + bytes(one);
            budget.hold_instead(&mut held, now)?;
        }
    }
    for one in &mut series {
        if request.order == Order::Descending {
            one.columns.iter_mut().for_each(|column| column.values.reverse());
        }
        let rows = request.limit.unwrap_or(usize::MAX).min(one.rows());
        for column in &mut one.columns {
            let values = std::mem::replace(&mut column.values, ResultValues::Time(Vec::new()));
            column.values = values.slice(0..rows);
        }
    }
    series.retain(|one| one.rows() > 0);
    Ok(series)
}

/// Whether a request's steps can be taken.
pub(super) fn check(request: &QueryRequest) -> Result<(), QueryError> {
    let bad = |reason: &str| Err(QueryError::BadStep { reason: reason.to_owned() });
    if request.steps.len() > Step::MAX_STEPS {
        return bad(&format!("at most {} steps follow each other", Step::MAX_STEPS));
    }
    for (i, step) in request.steps.iter().enumerate() {
        match step {
            Step::Derivative { unit_ns, .. } if *unit_ns < 1 => {
                return bad("the unit of a derivative is at least 1 ns");
            }
            Step::MovingAverage(n) if !(1..=Step::MAX_WINDOW).contains(n) => {
                return bad(&format!("a moving average is over 1 to {} values", Step::MAX_WINDOW));
            }
            Step::Top(0) | Step::Bottom(0) => return bad("top and bottom keep at least one value"),
            Step::Histogram(_) if i + 1 < request.steps.len() => return bad("nothing follows a histogram"),
            Step::Histogram(HistogramEdges::Equal(bins)) if !(1..=Step::MAX_BINS).contains(bins) => {
                return bad(&format!("a histogram has 1 to {} bins", Step::MAX_BINS));
            }
            Step::Histogram(HistogramEdges::Given(edges))
                if edges.len() < 2
                    || edges.len() > Step::MAX_BINS as usize + 1
                    || edges.iter().any(|edge| !edge.is_finite())
                    || edges.windows(2).any(|pair| pair[0] >= pair[1]) =>
            {
                return bad("the edges of a histogram are two or more finite numbers that rise");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Memory of a value of a column, in bytes.
const CELL_BYTES: u64 = 16;
/// The same of a value while it is computed.
const SUM_BYTES: u64 = 48;

fn bytes(series: &ResultSeries) -> u64 {
    CELL_BYTES * (series.rows() * series.columns.len()) as u64
}

fn beside(series: &ResultSeries, step: &Step) -> u64 {
    let (rows, columns) = (series.rows() as u64, series.columns.len() as u64);
    match step {
        Step::Histogram(edges) => CELL_BYTES * (rows + bins(edges) * (3 * columns + 1)),
        _ => SUM_BYTES * rows + CELL_BYTES * rows * columns,
    }
}

fn bins(edges: &HistogramEdges) -> u64 {
    match edges {
        HistogramEdges::Equal(bins) => u64::from(*bins),
        HistogramEdges::Given(edges) => edges.len() as u64,
    }
}

fn apply_one(
    series: &mut ResultSeries,
    step: &Step,
    request: &QueryRequest,
    budget: &Budget<'_>,
) -> Result<(), QueryError> {
    let Some(ResultColumn { values: ResultValues::Time(times), .. }) = series.columns.first() else {
        return Ok(());
    };
    let times: Vec<i64> = times.iter().copied().flatten().collect();
    let mut columns = std::mem::take(&mut series.columns);
    let time = columns.remove(0);
    for column in &columns {
        let is_number = is_number(&column.values);
        if !is_number && request.fields.is_some() {
            return Err(QueryError::NoNumbers { step: step.to_string(), column: column.name.clone() });
        }
    }
    columns.retain(|column| is_number(&column.values));
    if let Step::Histogram(edges) = step {
        series.columns = histogram(&columns, edges, request.start.0);
        return Ok(());
    }
    let mut made = vec![time];
    for column in columns {
        budget.check()?;
        let values = match step {
            Step::Difference { non_negative } => difference(&column.values, *non_negative),
            Step::Derivative { unit_ns, non_negative } => {
                derivative(&column.values, &times, *unit_ns, *non_negative)
            }
            Step::CumulativeSum => cumulative_sum(&column.values),
            Step::MovingAverage(n) => moving_average(&column.values, *n as usize),
            Step::Top(n) => outstanding(column.values, *n as usize, true),
            Step::Bottom(n) => outstanding(column.values, *n as usize, false),
            Step::Histogram(_) => unreachable!("a histogram has left above"),
        };
        let unit = match step {
            Step::Derivative { unit_ns, .. } => derived_unit(column.unit.as_ref(), *unit_ns),
            _ => column.unit,
        };
        let name = format!("{}_{}", column.name, step.word());
        made.push(ResultColumn { name, field: column.field, unit, values });
    }
    series.columns = made;
    drop_empty_rows(series);
    Ok(())
}

fn derived_unit(unit: Option<&Unit>, unit_ns: i64) -> Option<Unit> {
    let marks =
        [(1_000_000_000, "s"), (60_000_000_000, "min"), (3_600_000_000_000, "h"), (86_400_000_000_000, "d")];
    let (_, mark) = marks.into_iter().find(|(ns, _)| *ns == unit_ns)?;
    per(unit.map(Unit::as_str), mark)
}

fn is_number(values: &ResultValues) -> bool {
    matches!(values, ResultValues::Float(_) | ResultValues::Integer(_) | ResultValues::Unsigned(_))
}

/// A value as sums see it.
fn number(values: &ResultValues, row: usize) -> Option<ExactSum> {
    let mut sum = ExactSum::default();
    match values {
        ResultValues::Float(v) => sum.add_float(v[row]?),
        ResultValues::Integer(v) => sum.add_integer(v[row]?.into()),
        ResultValues::Unsigned(v) => sum.add_integer(v[row]?.into()),
        ResultValues::Time(_) | ResultValues::Boolean(_) | ResultValues::String(_) => return None,
    }
    Some(sum)
}

fn double(values: &ResultValues, row: usize) -> Option<f64> {
    match values {
        ResultValues::Float(v) => v[row],
        ResultValues::Integer(v) => v[row].map(|v| v as f64),
        ResultValues::Unsigned(v) => v[row].map(|v| v as f64),
        ResultValues::Time(_) | ResultValues::Boolean(_) | ResultValues::String(_) => None,
    }
}

/// A column of sums: of whole numbers whole if all of them fit.
fn column(of: &ResultValues, sums: Vec<Option<ExactSum>>) -> ResultValues {
    let whole = |sum: &ExactSum| sum.integer().and_then(|v| i64::try_from(v).ok());
    let is_whole =
        !matches!(of, ResultValues::Float(_)) && sums.iter().flatten().all(|sum| whole(sum).is_some());
    if is_whole {
        return ResultValues::Integer(sums.iter().map(|sum| sum.as_ref().and_then(whole)).collect());
    }
    ResultValues::Float(sums.iter().map(|sum| sum.as_ref().map(ExactSum::value)).collect())
}

fn negated(sum: ExactSum) -> ExactSum {
    let (nanos, high, low) = sum.parts();
    ExactSum::from_parts(-nanos, -high, -low)
}

fn differences(values: &ResultValues) -> impl Iterator<Item = Option<(usize, ExactSum)>> {
    let mut before: Option<(usize, ExactSum)> = None;
    (0..values.len()).map(move |row| {
        let own = number(values, row)?;
        let (from, earlier) = before.replace((row, own))?;
        let mut sum = own;
        sum.merge(&negated(earlier));
        Some((from, sum))
    })
}

fn difference(values: &ResultValues, non_negative: bool) -> ResultValues {
    let kept = |sum: &ExactSum| !non_negative || sum.value() >= 0.0;
    let sums = differences(values).map(|found| found.map(|(_, sum)| sum).filter(kept));
    column(values, sums.collect())
}

fn derivative(values: &ResultValues, times: &[i64], unit_ns: i64, non_negative: bool) -> ResultValues {
    let slopes = differences(values).enumerate().map(|(row, found)| {
        let (from, sum) = found?;
        // Several series in one may have a value at one time: no slope.
        let span = times[row].wrapping_sub(times[from]) as u64;
        let slope = sum.value() * unit_ns as f64 / span as f64;
        (span > 0 && (!non_negative || slope >= 0.0) && slope.is_finite()).then_some(slope)
    });
    ResultValues::Float(slopes.collect())
}

fn cumulative_sum(values: &ResultValues) -> ResultValues {
    let mut all = ExactSum::default();
    let sums = (0..values.len()).map(|row| {
        all.merge(&number(values, row)?);
        Some(all)
    });
    column(values, sums.collect())
}

/// Mean of the last `n` values, from the `n`-th on. A queue of two stacks: nothing is ever taken off a sum, which for
/// doubles of very different size would leave what is no part of it any more.
fn moving_average(values: &ResultValues, n: usize) -> ResultValues {
    let mut older: Vec<ExactSum> = Vec::new();
    let (mut newer, mut newer_sum) = (Vec::new(), ExactSum::default());
    let means = (0..values.len()).map(|row| {
        let own = number(values, row)?;
        if older.len() + newer.len() == n {
            if older.is_empty() {
                let mut sum = ExactSum::default();
                while let Some(value) = newer.pop() {
                    sum.merge(&value);
                    older.push(sum);
                }
                newer_sum = ExactSum::default();
            }
            older.pop();
        }
        newer.push(own);
        newer_sum.merge(&own);
        let mut sum = newer_sum;
        if let Some(rest) = older.last() {
            sum.merge(rest);
        }
        (older.len() + newer.len() == n).then(|| sum.value() / n as f64)
    });
    ResultValues::Float(means.collect())
}

/// Keeps the `n` greatest or least values; of equal ones the oldest.
fn outstanding(values: ResultValues, n: usize, greatest: bool) -> ResultValues {
    fn keep<T: PartialOrd + Copy>(mut values: Vec<Option<T>>, n: usize, greatest: bool) -> Vec<Option<T>> {
        let mut rows: Vec<usize> = (0..values.len()).filter(|row| values[*row].is_some()).collect();
        let order = |a: &usize, b: &usize| {
            let order = values[*a].partial_cmp(&values[*b]).unwrap_or(std::cmp::Ordering::Equal);
            (if greatest { order.reverse() } else { order }).then(a.cmp(b))
        };
        if rows.len() > n {
            rows.select_nth_unstable_by(n, order);
            rows.split_off(n).into_iter().for_each(|row| values[row] = None);
        }
        values
    }
    match values {
        ResultValues::Float(v) => ResultValues::Float(keep(v, n, greatest)),
        ResultValues::Integer(v) => ResultValues::Integer(keep(v, n, greatest)),
        ResultValues::Unsigned(v) => ResultValues::Unsigned(keep(v, n, greatest)),
        other => other,
    }
}

/// One row per bin, three columns per column: where the bin begins, where it ends, how many values are in it.
fn histogram(columns: &[ResultColumn], edges: &HistogramEdges, start: i64) -> Vec<ResultColumn> {
    let mut made: Vec<ResultColumn> = Vec::new();
    let mut rows = 0;
    for column in columns {
        let values: Vec<f64> =
            (0..column.values.len()).filter_map(|row| double(&column.values, row)).collect();
        if values.is_empty() {
            continue;
        }
        let edges = match edges {
            HistogramEdges::Given(edges) => edges.clone(),
            HistogramEdges::Equal(bins) => equal_edges(&values, *bins),
        };
        let bins = edges.len() - 1;
        let mut counts = vec![0_i64; bins];
        for value in values {
            // The last bin holds its upper edge.
            let place = edges.partition_point(|edge| *edge <= value);
            if place > 0 && value <= edges[bins] {
                counts[(place - 1).min(bins - 1)] += 1;
            }
        }
        rows = rows.max(bins);
        let mut push = |suffix: &str, unit: Option<Unit>, values| {
            let name = format!("{}_{suffix}", column.name);
            made.push(ResultColumn { name, field: column.field.clone(), unit, values });
        };
        let ends =
            |from: usize| ResultValues::Float(edges[from..from + bins].iter().map(|e| Some(*e)).collect());
        push("from", column.unit.clone(), ends(0));
        push("to", column.unit.clone(), ends(1));
        push("histogram", None, ResultValues::Integer(counts.into_iter().map(Some).collect()));
    }
    for column in &mut made {
        match &mut column.values {
            ResultValues::Float(values) => values.resize(rows, None),
            ResultValues::Integer(values) => values.resize(rows, None),
            _ => {}
        }
    }
    let time = ResultValues::Time(vec![Some(start); rows]);
    made.insert(0, ResultColumn { name: "time".to_owned(), field: None, unit: None, values: time });
    made
}

/// Bins of one width from the least to the greatest value; one bin if all values are equal.
fn equal_edges(values: &[f64], bins: u32) -> Vec<f64> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if least == greatest {
        return vec![least, greatest];
    }
    let edge = |i: u32| {
        let share = f64::from(i) / f64::from(bins);
        if i == bins { greatest } else { least * (1.0 - share) + greatest * share }
    };
    (0..=bins).map(edge).collect()
}

/// Takes rows out in which no column has a value.
fn drop_empty_rows(series: &mut ResultSeries) {
    fn kept<T>(values: Vec<T>, keep: &[bool]) -> Vec<T> {
        values.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| value).collect()
    }
    let rows = series.rows();
    let has = |row: usize| series.columns.iter().skip(1).any(|column| double(&column.values, row).is_some());
    let keep: Vec<bool> = (0..rows).map(has).collect();
    if keep.iter().all(|keep| *keep) {
        return;
    }
    for column in &mut series.columns {
        match &mut column.values {
            ResultValues::Time(v) | ResultValues::Integer(v) => *v = kept(std::mem::take(v), &keep),
            ResultValues::Float(v) => *v = kept(std::mem::take(v), &keep),
            ResultValues::Unsigned(v) => *v = kept(std::mem::take(v), &keep),
            ResultValues::Boolean(v) => *v = kept(std::mem::take(v), &keep),
            ResultValues::String(v) => *v = kept(std::mem::take(v), &keep),
        }
    }
}
