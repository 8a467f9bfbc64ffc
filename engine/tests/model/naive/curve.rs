//! What lies between points: areas under lines, growth of counters, and what part of a bucket is known.

use super::functions::{is_defined, number};
use super::{Row, Store, counts};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_engine::query::{Buckets, Function, QueryRequest, Shape};

/// By field and first instant of the bucket.
pub(super) type Curves = BTreeMap<usize, BTreeMap<i64, Between>>;

/// What lies between the points of a bucket, in units, nanoseconds and units times nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Between {
    area: f64,
    /// Bound of what was added to the area, for the tolerance.
    size: f64,
    covered: f64,
    rise: f64,
    risen: f64,
    observed: f64,
    /// Parts of pairs, each of which is rounded to a billionth of a unit, or of a unit and nanosecond.
    parts: f64,
    series: f64,
}

impl Store {
    /// What lies between points, by field and bucket.
    pub(super) fn curves(&self, request: &QueryRequest, fields: &[usize], members: &[usize]) -> Curves {
        let mut curves = Curves::new();
        let Shape::Aggregate(aggregate) = &request.shape else { return curves };
        let gap = aggregate.max_gap_ns;
        let range = request.start.0..request.end.0;
        let buckets = Buckets::new(aggregate, range.clone()).expect("a good length");
        let (from, to) = (request.start.0.saturating_sub(gap), request.end.0.saturating_add(gap));
        for field in fields {
            let wanted = |of: &[Function]| {
                aggregate
                    .functions
                    .iter()
                    .any(|function| of.contains(function) && is_defined(*function, *field))
            };
            let area = wanted(&[Function::Integral, Function::Twa, Function::Coverage]);
            let rise = wanted(&[Function::Increase, Function::Rate]);
            if !area && !rise {
                continue;
            }
            let curve = curves.entry(*field).or_default();
            for series in members {
                let rows = self.rows.range((*series, from)..(*series, to));
                let points: Vec<(i64, f64, bool)> = rows
                    .filter_map(|((_, time), row)| {
                        Some((*time, number(row[*field].as_ref()?), counts(request, *series, row)))
                    })
                    .collect();
                // A value that does not count parts its neighbours.
                for numbers in points.split(|(.., counts)| !counts) {
                    let numbers: Vec<(i64, f64)> = numbers.iter().map(|(time, v, _)| (*time, *v)).collect();
                    if area {
                        for pair in numbers
                            .windows(2)
                            .filter(|pair| i128::from(pair[1].0) - i128::from(pair[0].0) <= i128::from(gap))
                        {
                            divide(&buckets, &range, pair[0].0, pair[1].0, |bucket, a, b| {
                                let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
                                let at = |t: i64| v0 + (v1 - v0) * ((t - t0) as f64 / (t1 - t0) as f64);
                                let piece = f64::midpoint(at(a), at(b)) * (b - a) as f64;
                                let bucket = curve.entry(bucket).or_default();
                                bucket.area += piece;
                                bucket.size += v0.abs().max(v1.abs()) * (b - a) as f64;
                                bucket.covered += (b - a) as f64;
                                bucket.parts += 1.0;
                            });
                        }
                    }
                    if rise {
                        for ((t0, v0), (t1, v1)) in growths(numbers) {
                            let span = (i128::from(t1) - i128::from(t0)) as f64;
                            divide(&buckets, &range, t0, t1, |bucket, a, b| {
                                let bucket = curve.entry(bucket).or_default();
                                let length = (i128::from(b) - i128::from(a)) as f64;
                                bucket.rise += (v1 - v0) * (length / span);
                                bucket.risen += v0.abs().max(v1.abs()) * (length / span);
                                bucket.observed += length;
                                bucket.parts += 1.0;
                            });
                        }
                    }
                }
            }
            let series = members.iter().filter(|series| {
                let counted = |row: &Row| row[*field].is_some() && counts(request, **series, row);
                self.rows.range((**series, from)..(**series, to)).any(|(_, row)| counted(row))
            });
            let series = series.count() as f64;
            curve.values_mut().for_each(|bucket| bucket.series = series);
        }
        curves
    }
}

/// The parts of a stretch within the range, bucket by bucket.
pub(super) fn divide(
    buckets: &Buckets,
    range: &Range<i64>,
    from: i64,
    to: i64,
    mut add: impl FnMut(i64, i64, i64),
) {
    let (mut at, end) = (from.max(range.start), to.min(range.end));
    while at < end {
        let bucket = buckets.of(at);
        let stop = bucket.end.min(end);
        add(bucket.start, at, stop);
        at = stop;
    }
}

/// Pairs of readings between which a counter grew: first all that is out of line with both neighbours is left out, then
/// falls of at most a hundredth; other falls begin at zero, but for the very last.
pub(super) fn growths(readings: Vec<(i64, f64)>) -> Vec<((i64, f64), (i64, f64))> {
    let mut all = Vec::new();
    let mut readings = readings.into_iter().peekable();
    let Some(mut level) = readings.next() else { return all };
    while let Some(reading) = readings.next() {
        let falls = reading.1 < level.1;
        match readings.peek() {
            Some(next) if next.1 >= level.1 && (falls || next.1 < reading.1) => continue,
            None if falls => continue,
            _ => {}
        }
        if falls && level.1 - reading.1 <= level.1.abs() / 100.0 * (1.0 + 1e-12) {
            continue;
        }
        all.push(if falls { ((level.0, 0.0), reading) } else { (level, reading) });
        level = reading;
    }
    all
}

/// The value of a function and how far off it may be.
pub(super) fn between(function: Function, bucket: Option<&Between>, length: f64) -> (Option<f64>, f64) {
    let hour = 3.6e12;
    let Some(bucket) = bucket else { return ((function == Function::Coverage).then_some(0.0), 0.0) };
    let (area, rise) = (bucket.covered > 0.0, bucket.observed > 0.0);
    let size = bucket.size * 1e-12 + bucket.parts * 2e-9;
    let risen = bucket.risen * 1e-12 + bucket.parts * 2e-9;
    match function {
        Function::Coverage => (Some(bucket.covered / (length * bucket.series.max(1.0))), 1e-12),
        Function::Integral => (area.then_some(bucket.area / hour), size / hour),
        Function::Twa => (area.then_some(bucket.area / bucket.covered), size / bucket.covered),
        Function::Increase => (rise.then_some(bucket.rise), risen),
        _ => (rise.then_some(bucket.rise / bucket.observed * hour), risen / bucket.observed * hour),
    }
}

pub(super) fn needs_neighbours(function: Function) -> bool {
    use Function::{Coverage, Increase, Integral, Rate, Twa};
    matches!(function, Integral | Twa | Increase | Rate | Coverage)
}
