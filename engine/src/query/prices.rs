//! A price that holds from one point to the next, joined to another series by time (an as-of join), for `cost`.
//!
//! Rules (docs/api.md, "Cost"): at any instant the price is that of the newest point of the price series at or before it,
//! if that is not older than allowed. Instants are UTC: no clock that is set can double or lose an hour.
//!
//! Invariant: stretches rise, do not overlap, and none is empty.

use super::error::QueryError;
use super::plan::namespace;
use super::request::{Aggregate, GroupBy, Order, QueryControl, QueryLimits, QueryRequest, Shape};
use super::result::{PartialRange, ResultValues};
use crate::segment::Number;
use crate::snapshot::Snapshot;
use std::ops::Range;
use wattlog_model::{Timestamp, Unit};

/// The price over time.
#[derive(Debug)]
pub(super) struct Prices {
    stretches: Vec<Stretch>,
    pub(super) unit: Option<Unit>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: i64,
    until: i64,
    price: Number,
}

impl Prices {
    /// Reads the price series of a request, and what of it could not be read; none if no function asks for it.
    ///
    /// # Errors
    /// No price series is named, several match, its field has no numbers, a limit.
    pub(super) fn load(
        snapshot: &Snapshot,
        request: &QueryRequest,
        limits: &QueryLimits,
        control: &QueryControl,
    ) -> Result<Option<(Self, Vec<PartialRange>)>, QueryError> {
        let Shape::Aggregate(aggregate) = &request.shape else { return Ok(None) };
        if !aggregate.functions.iter().any(|function| function.needs_price()) {
            return Ok(None);
        }
        let Aggregate { price: Some(source), .. } = aggregate else { return Err(QueryError::NoPrice) };
        if source.max_age_ns < 1 {
            return Err(QueryError::BadGap);
        }
        let catalog = snapshot.catalog();
        let namespace = namespace(catalog, &request.database, request.retention_policy.as_deref())?;
        let measurement = catalog.measurement(namespace, &source.measurement);
        let def = measurement.and_then(|measurement| catalog.field(measurement, &source.field));
        let def = def.ok_or_else(|| QueryError::UnknownName { name: source.field.clone() })?;
        let asked = QueryRequest {
            fields: Some(vec![source.field.clone()]),
            computed: Vec::new(),
            measurement: source.measurement.clone(),
            tags: source.tags.clone(),
            condition: None,
            start: Timestamp(request.start.0.saturating_sub(source.max_age_ns)),
            shape: Shape::Raw,
            steps: Vec::new(),
            group_by: GroupBy::All,
            order: Order::Ascending,
            limit: None,
            ..request.clone()
        };
        let found = super::run(snapshot, &asked, limits, control)?;
        if found.series.len() > 1 {
            return Err(QueryError::SeveralPrices { found: found.series.len() });
        }
        let mut prices = Self { stretches: Vec::new(), unit: def.unit };
        let Some(column) = found.series.first().and_then(|series| series.column(&source.field)) else {
            return Ok(Some((prices, found.partial)));
        };
        let Some(ResultValues::Time(times)) = found.series[0].columns.first().map(|time| &time.values) else {
            return Ok(Some((prices, found.partial)));
        };
        let mut points = Vec::new();
        for (row, time) in times.iter().enumerate() {
            let price = match &column.values {
                ResultValues::Float(v) => v[row].map(Number::of_float),
                ResultValues::Integer(v) => v[row].map(|v| Number::of_integer(v.into())),
                ResultValues::Unsigned(v) => v[row].map(|v| Number::of_integer(v.into())),
                _ => return Err(QueryError::NoNumbers { step: "cost".into(), column: source.field.clone() }),
            };
            if let (Some(from), Some(price)) = (*time, price) {
                points.push((from, price));
            }
        }
        prices.stretches = stretches(&points, source.max_age_ns);
        Ok(Some((prices, found.partial)))
    }

    /// The price at `time`, and the instant up to which it is that, or up to which there is none. `hint` is where the last
    /// call found something.
    pub(super) fn at(&self, time: i64, hint: &mut usize) -> (Option<Number>, i64) {
        if !self.stretches.get(*hint).is_some_and(|stretch| (stretch.from..stretch.until).contains(&time)) {
            *hint = self.stretches.partition_point(|stretch| stretch.until <= time);
        }
        match self.stretches.get(*hint) {
            Some(stretch) if stretch.from <= time => (Some(stretch.price), stretch.until),
            Some(next) => (None, next.from),
            None => (None, i64::MAX),
        }
    }

    /// Hands the parts of `range` that have a price to `visit`, in order. `hint` is where the last call found something.
    pub(super) fn split(
        &self,
        range: Range<i64>,
        hint: &mut usize,
        mut visit: impl FnMut(Range<i64>, Number),
    ) {
        let is_first = |at: usize| {
            self.stretches.get(at).is_some_and(|stretch| (stretch.from..stretch.until).contains(&range.start))
        };
        if !is_first(*hint) {
            *hint = self.stretches.partition_point(|stretch| stretch.until <= range.start);
        }
        let mut at = *hint;
        while let Some(stretch) = self.stretches.get(at).filter(|stretch| stretch.from < range.end) {
            let part = stretch.from.max(range.start)..stretch.until.min(range.end);
            if !part.is_empty() {
                visit(part, stretch.price);
            }
            at += 1;
        }
    }

    /// The only price of a range of time; `Err` if it changes, begins or ends within.
    pub(super) fn only(&self, range: Range<i64>) -> Result<Option<Number>, ()> {
        let (mut parts, mut covered, mut hint) = (0, None, usize::MAX);
        self.split(range.clone(), &mut hint, |part, price| {
            parts += 1;
            covered = Some((part, price));
        });
        match (parts, covered) {
            (0, _) => Ok(None),
            (1, Some((part, price))) if part == range => Ok(Some(price)),
            _ => Err(()),
        }
    }
}

/// From rising points of a price: each holds until the next, and for `max_age_ns` at most.
fn stretches(points: &[(i64, Number)], max_age_ns: i64) -> Vec<Stretch> {
    let nexts = points.iter().skip(1).map(|(next, _)| *next).chain([i64::MAX]);
    let stretch = |(&(from, price), next): (&(i64, Number), i64)| Stretch {
        from,
        until: from.saturating_add(max_age_ns).min(next),
        price,
    };
    points.iter().zip(nexts).map(stretch).collect()
}

#[cfg(test)]
impl Prices {
    pub(super) fn of(points: &[(i64, Number)], max_age_ns: i64) -> Self {
        Self { stretches: stretches(points, max_age_ns), unit: None }
    }
}
