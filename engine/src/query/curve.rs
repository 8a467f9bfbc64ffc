//! What lies between the points of a field: integrals, covered time, and the growth of counters.
//!
//! Rules (docs/api.md, "Between points"): two neighbours that are no further apart than the gap allowed cover the time
//! between them, by a straight line or, for step fields, by the value of the earlier. Counters grow between any two
//! neighbours, evenly. What two neighbours say is divided between the buckets that it lies in.
//!
//! Invariants
//! 1. Points of one series arrive in time order; which of them come as rows and which as statistics changes no bit, as
//!    long as values are short decimals. A cost is rounded down to a billionth once for each run of rows under one price.
//! 2. The parts of a pair of neighbours add up to the whole exactly: each is the difference of two values of one
//!    function of time, rounded once to 10^-18 of a unit and second.
//! 3. Time beyond the range asked for is looked at for neighbours only.

mod runs;

use super::bucket::Buckets;
use super::budget::Budget;
use super::error::QueryError;
use super::prices::Prices;
use super::request::Function;
use crate::segment::{BlockStatistics, Number};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{ExactSum, FieldKind, NANOS_PER_UNIT};

/// What all curves of a query share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) buckets: &'a Buckets,
    /// The range that was asked for.
    pub(super) asked: &'a Range<i64>,
    pub(super) budget: &'a Budget<'a>,
}

/// The buckets of one field, and where the series in hand has got to.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    step: bool,
    max_gap_ns: i64,
    area: bool,
    rise: bool,
    /// The price of what the field draws, if its cost was asked for, and where it was found last.
    prices: Option<Arc<Prices>>,
    price_at: usize,
    /// First instants of the buckets, rising; the lists below have one entry for each.
    pub(super) keys: Vec<i64>,
    buckets: Vec<Covered>,
    /// Series that had a value.
    series: u64,
    /// The bucket that was met last.
    current: Range<i64>,
    last: Option<(i64, Number)>,
    counter: Counter,
}

/// What is known of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Covered {
    /// Twice the integral, in units times nanoseconds.
    area_twice: ExactSum,
    /// Of all series together: 600 of them pass 64 bits in a year.
    covered_ns: u128,
    /// Twice the integral of what it costs, in units times prices times nanoseconds.
    cost_twice: ExactSum,
    /// Covered time that has a price.
    priced_ns: u128,
    rise: ExactSum,
    /// Time between the points that the rise was taken from.
    observed_ns: u128,
}

/// The last points of a counter: the one that is counted, and one that is not judged yet.
#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    level: Option<(i64, Number)>,
    pending: Option<(i64, Number)>,
}

/// What became of a counter's pending point.
enum Verdict {
    /// It was out of line with both of its neighbours, or a small dip.
    Glitch,
    /// The counter grew.
    Rise,
    /// It began again from zero.
    Reset,
}

impl Curve {
    /// None if no function needs to know what lies between points.
    pub(super) fn new(
        functions: &[Function],
        kind: FieldKind,
        max_gap_ns: i64,
        prices: Option<&Arc<Prices>>,
    ) -> Option<Self> {
        let any = |wanted: &[Function]| functions.iter().any(|f| wanted.contains(f));
        let cost = functions.iter().any(|function| function.needs_price());
        let area = cost || any(&[Function::Integral, Function::Twa, Function::Coverage]);
        let rise = any(&[Function::Increase, Function::Rate]);
        (area || rise).then(|| Self {
            step: kind == FieldKind::Step,
            max_gap_ns,
            area,
            rise,
            prices: prices.filter(|_| cost).cloned(),
            price_at: 0,
            keys: Vec::new(),
            buckets: Vec::new(),
            series: 0,
            current: 0..0,
            last: None,
            counter: Counter::default(),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.keys.capacity() * size_of::<i64>() + self.buckets.capacity() * size_of::<Covered>();
        bytes as u64
    }

    /// Adds the next point of the series.
    pub(super) fn point(&mut self, frame: Frame<'_>, time: i64, value: Number) -> Result<(), QueryError> {
        self.series = self.series.max(1);
        let value = value.without_sign_of_zero();
        if self.area {
            if let Some((from, before)) = self.last
                && is_within(from, time, self.max_gap_ns)
            {
                self.area_between(frame, (from, before), (time, value))?;
            }
            self.last = Some((time, value));
        }
        if self.rise { self.count(frame, (time, value)) } else { Ok(()) }
    }

    /// Whether the statistics of a block that lies in one bucket say all there is to know; `next` is the first value
    /// after it, if that is known.
    pub(super) fn takes(&self, block: &BlockStatistics, next: Option<Number>) -> bool {
        let (Some(first), Some(last)) = (Number::of(&block.first.1), Number::of(&block.last.1)) else {
            return !self.rise && block.longest_gap_ns <= self.max_gap_ns;
        };
        let area = !self.area || block.longest_gap_ns <= self.max_gap_ns;
        let level = match (self.counter.level, self.counter.pending) {
            (Some(level), Some(pending)) => match judge(level.1, pending.1, Some(first)) {
                Verdict::Glitch => Some(level.1),
                Verdict::Rise | Verdict::Reset => Some(pending.1),
            },
            (level, _) => level.map(|(_, value)| value),
        };
        // With these no value of the block can be out of line with its neighbours.
        let grows = block.negative_deltas == 0
            && level.is_none_or(|level| !first.is_less(level))
            && next.is_some_and(|next| !next.is_less(last));
        let span = block.first.0..block.last.0;
        let priced = self.prices.as_ref().is_none_or(|prices| prices.only(span).is_ok());
        area && priced && (!self.rise || grows)
    }

    /// Adds a block that [`Curve::takes`].
    pub(super) fn block(&mut self, frame: Frame<'_>, block: &BlockStatistics) -> Result<(), QueryError> {
        let value = |value| Number::of(value).unwrap_or(Number::ZERO).without_sign_of_zero();
        let (first, last) = ((block.first.0, value(&block.first.1)), (block.last.0, value(&block.last.1)));
        self.point(frame, first.0, first.1)?;
        let length = last.0.wrapping_sub(first.0) as u64;
        if length == 0 {
            return Ok(());
        }
        if self.area {
            let step = self.step;
            // None where it is not the same throughout: such a block was not taken.
            let price = self.prices.as_ref().and_then(|prices| prices.only(first.0..last.0).ok().flatten());
            self.pieces(frame, first.0, last.0, |bucket, _| {
                bucket.covered_ns += u128::from(length);
                if let Some(price) = price {
                    let mut area = block.integral_trapezoid_twice;
                    if step {
                        area = block.integral_step;
                        area.merge(&block.integral_step);
                    }
                    bucket.priced_ns += u128::from(length);
                    bucket.cost_twice.merge(&product(&area, price));
                }
                if step {
                    bucket.area_twice.merge(&block.integral_step);
                    bucket.area_twice.merge(&block.integral_step);
                } else {
                    bucket.area_twice.merge(&block.integral_trapezoid_twice);
                }
            })?;
            self.last = Some(last);
        }
        if self.rise {
            if let (Some(level), Some(pending)) = (self.counter.level, self.counter.pending) {
                self.grow(frame, level, pending)?;
            }
            self.grow(frame, first, last)?;
            self.counter = Counter { level: Some(last), pending: None };
        }
        Ok(())
    }

    /// Ends a series, or a stretch of one; the next point is no neighbour of the last.
    pub(super) fn end_series(&mut self, frame: Frame<'_>) -> Result<(), QueryError> {
        self.last = None;
        let Counter { level, pending } = std::mem::take(&mut self.counter);
        if let (Some(level), Some(pending)) = (level, pending)
            && !pending.1.is_less(level.1)
        {
            self.grow(frame, level, pending)?;
        }
        Ok(())
    }

    /// Adds the buckets of other series.
    pub(super) fn merge(&mut self, other: Self) {
        self.series += other.series;
        if self.keys == other.keys {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| own.add(other));
            return;
        }
        let mine = std::mem::take(&mut self.keys).into_iter().zip(std::mem::take(&mut self.buckets));
        let (mut left, mut right) = (mine.peekable(), other.keys.into_iter().zip(other.buckets).peekable());
        loop {
            let from_left = match (left.peek(), right.peek()) {
                (None, None) => return,
                (Some(a), Some(b)) => a.0 <= b.0,
                (a, _) => a.is_some(),
            };
            let Some((key, bucket)) = (if from_left { left.next() } else { right.next() }) else { return };
            match self.buckets.last_mut().filter(|_| self.keys.last() == Some(&key)) {
                Some(last) => last.add(&bucket),
                None => {
                    self.keys.push(key);
                    self.buckets.push(bucket);
                }
            }
        }
    }

    /// Value of a function for the bucket that begins at `key`; `unit_ns` is the time that integrals and rates speak of.
    pub(super) fn value(
        &self,
        function: Function,
        key: i64,
        buckets: &Buckets,
        asked: &Range<i64>,
        unit_ns: f64,
    ) -> Option<f64> {
        let bucket = self.keys.binary_search(&key).ok().map(|place| &self.buckets[place]);
        match function {
            Function::Coverage => {
                let Range { start, end } = buckets.of(key.max(asked.start));
                let length = end.min(asked.end).wrapping_sub(start.max(asked.start)) as u64;
                let whole = length as f64 * self.series.max(1) as f64;
                Some(bucket.map_or(0.0, |bucket| bucket.covered_ns as f64 / whole))
            }
            Function::Integral => bucket
                .filter(|bucket| bucket.covered_ns > 0)
                .map(|bucket| bucket.area_twice.value() / (2.0 * unit_ns)),
            Function::Twa => bucket
                .filter(|bucket| bucket.covered_ns > 0)
                .map(|bucket| bucket.area_twice.value() / (2.0 * bucket.covered_ns as f64)),
            Function::Cost => bucket
                .filter(|bucket| bucket.priced_ns > 0)
                .map(|bucket| bucket.cost_twice.value() / (2.0 * unit_ns)),
            Function::Priced => bucket
                .filter(|bucket| bucket.covered_ns > 0)
                .map(|bucket| bucket.priced_ns as f64 / bucket.covered_ns as f64),
            Function::Increase => {
                bucket.filter(|bucket| bucket.observed_ns > 0).map(|bucket| bucket.rise.value())
            }
            Function::Rate => bucket
                .filter(|bucket| bucket.observed_ns > 0)
                .map(|bucket| bucket.rise.value() / (bucket.observed_ns as f64 / unit_ns)),
            _ => None,
        }
    }

    fn area_between(
        &mut self,
        frame: Frame<'_>,
        from: (i64, Number),
        to: (i64, Number),
    ) -> Result<(), QueryError> {
        let span = to.0.wrapping_sub(from.0) as u64;
        let step = self.step;
        let (prices, mut price_at) = (self.prices.take(), self.price_at);
        let done = self.pieces(frame, from.0, to.0, |bucket, piece| {
            let since = |t: i64| t.wrapping_sub(from.0) as u64;
            let (start, end) = (since(piece.start), since(piece.end));
            bucket.covered_ns += u128::from(end - start);
            let whole = area_twice(from.1, to.1, span, start..end, step);
            bucket.area_twice.merge(&whole);
            let Some(prices) = &prices else { return };
            prices.split(piece.clone(), &mut price_at, |part, price| {
                let (start, end) = (since(part.start), since(part.end));
                let area =
                    if part == piece { whole } else { area_twice(from.1, to.1, span, start..end, step) };
                bucket.priced_ns += u128::from(end - start);
                bucket.cost_twice.merge(&product(&area, price));
            });
        });
        (self.prices, self.price_at) = (prices, price_at);
        done
    }

    fn count(&mut self, frame: Frame<'_>, point: (i64, Number)) -> Result<(), QueryError> {
        let Counter { level, pending } = self.counter;
        let Some(level) = level else {
            self.counter.level = Some(point);
            return Ok(());
        };
        self.counter.pending = Some(point);
        let Some(pending) = pending else { return Ok(()) };
        match judge(level.1, pending.1, Some(point.1)) {
            Verdict::Glitch => return Ok(()),
            Verdict::Rise => self.grow(frame, level, pending)?,
            Verdict::Reset => self.grow(frame, (level.0, Number::ZERO), pending)?,
        }
        self.counter.level = Some(pending);
        Ok(())
    }

    /// Counts the growth between two points, evenly.
    fn grow(&mut self, frame: Frame<'_>, from: (i64, Number), to: (i64, Number)) -> Result<(), QueryError> {
        let span = to.0.wrapping_sub(from.0) as u64;
        self.pieces(frame, from.0, to.0, |bucket, piece| {
            let [start, end] = [piece.start, piece.end].map(|t| t.wrapping_sub(from.0) as u64);
            bucket.observed_ns += u128::from(end - start);
            if start > 0 && !(from.1.is_exact() && to.1.is_exact()) {
                return bucket.rise.merge(&share(from.1, to.1, span, end - start));
            }
            bucket.rise.merge(&share(from.1, to.1, span, end));
            if start > 0 {
                bucket.rise.merge(&negated(&share(from.1, to.1, span, start)));
            }
        })
    }

    /// Hands the parts of `from..to` within the range to `add`, with their buckets.
    fn pieces(
        &mut self,
        frame: Frame<'_>,
        from: i64,
        to: i64,
        mut add: impl FnMut(&mut Covered, Range<i64>),
    ) -> Result<(), QueryError> {
        let (mut at, end) = (from.max(frame.asked.start), to.min(frame.asked.end));
        while at < end {
            if !self.current.contains(&at) {
                self.current = frame.buckets.of(at);
            }
            let stop = end.min(self.current.end);
            let place = self.open(self.current.start, frame)?;
            add(&mut self.buckets[place], at..stop);
            at = stop;
        }
        Ok(())
    }

    fn open(&mut self, key: i64, frame: Frame<'_>) -> Result<usize, QueryError> {
        if self.keys.last() == Some(&key) {
            return Ok(self.keys.len() - 1);
        }
        match self.keys.binary_search(&key) {
            Ok(place) => Ok(place),
            // At the end, but for a counter that was judged late.
            Err(place) => {
                self.keys.insert(place, key);
                self.buckets.insert(place, Covered::default());
                frame.budget.allow_buckets(self.keys.len() as u64)?;
                if self.keys.len().is_multiple_of(4096) {
                    frame.budget.check()?;
                }
                Ok(place)
            }
        }
    }
}

impl Covered {
    fn add(&mut self, other: &Self) {
        self.area_twice.merge(&other.area_twice);
        self.covered_ns += other.covered_ns;
        self.cost_twice.merge(&other.cost_twice);
        self.priced_ns += other.priced_ns;
        self.rise.merge(&other.rise);
        self.observed_ns += other.observed_ns;
    }
}

/// Whether two neighbours cover the time between them.
fn is_within(from: i64, to: i64, max_gap_ns: i64) -> bool {
    to.wrapping_sub(from) as u64 <= max_gap_ns as u64
}

/// Tells resets from glitches: `pending` came after `level`, and `next` after it.
fn judge(level: Number, pending: Number, next: Option<Number>) -> Verdict {
    let falls = pending.is_less(level);
    if let Some(next) = next
        && !next.is_less(level)
        && (falls || next.is_less(pending))
    {
        return Verdict::Glitch;
    }
    match falls {
        false => Verdict::Rise,
        true if level.falls_by_a_hundredth_at_most(pending) => Verdict::Glitch,
        true => Verdict::Reset,
    }
}

/// Twice the integral of a part of `span` nanoseconds, from one value to another.
fn area_twice(from: Number, to: Number, span: u64, part: Range<u64>, step: bool) -> ExactSum {
    let to = if step { from } else { to };
    if part == (0..span) {
        let mut sum = from.times(span.into());
        sum.merge(&to.times(span.into()));
        return sum;
    }
    let until = |time| area_until(from, to, span, time);
    if let (Some(start), Some(end)) = (until(part.start), until(part.end))
        && let Some(area) = end.checked_sub(start)
    {
        return ExactSum::from_parts(area, 0.0, 0.0);
    }
    // The difference of two doubles would have the error of the larger one.
    let (from, to) = (from.float(), to.float());
    let at = |time: u64| {
        let share = time as f64 / span as f64;
        from * (1.0 - share) + to * share
    };
    rest((at(part.start) + at(part.end)) * (part.end - part.start) as f64)
}

/// What an area costs: rounded down to a billionth once, or a double where it is no decimal or leaves 128 bits.
fn product(area: &ExactSum, price: Number) -> ExactSum {
    let (nanos, high, low) = area.parts();
    if let Number::Nanos(price) = price
        && high == 0.0
        && low == 0.0
        && let Some(product) = nanos.checked_mul(price)
    {
        return ExactSum::from_parts(product.div_euclid(NANOS_PER_UNIT), 0.0, 0.0);
    }
    rest(area.value() * price.float())
}

/// Twice the integral of the first `time` nanoseconds of `span`, in billionths; none if it is not exact or too large.
fn area_until(from: Number, to: Number, span: u64, time: u64) -> Option<i128> {
    let (Number::Nanos(from), Number::Nanos(to)) = (from, to) else { return None };
    let time = i128::from(time);
    let growth = to.checked_sub(from)?.checked_mul(time)?;
    from.checked_mul(2 * time)?.checked_add(scaled(growth, time, span.into())?)
}

/// What of the growth from one value to another falls into the first `part` nanoseconds of `span`.
fn share(from: Number, to: Number, span: u64, part: u64) -> ExactSum {
    if let (Number::Nanos(from), Number::Nanos(to)) = (from, to)
        && let Some(growth) = to.checked_sub(from)
        && let Some(part) = scaled(growth, part.into(), span.into())
    {
        return ExactSum::from_parts(part, 0.0, 0.0);
    }
    if part == span {
        let mut sum = to.times(1);
        sum.merge(&negated(&from.times(1)));
        return sum;
    }
    rest((to.float() - from.float()) * (part as f64 / span as f64))
}

/// `value * part / whole`, rounded down; `part <= whole`.
fn scaled(value: i128, part: i128, whole: i128) -> Option<i128> {
    let (quotient, remainder) = (value.div_euclid(whole), value.rem_euclid(whole));
    // The remainder is less than 2^64, so its product fits.
    quotient.checked_mul(part)?.checked_add((remainder as u128 * part as u128 / whole as u128) as i128)
}

fn negated(sum: &ExactSum) -> ExactSum {
    let (nanos, high, low) = sum.parts();
    ExactSum::from_parts(nanos.wrapping_neg(), -high, -low)
}

fn rest(value: f64) -> ExactSum {
    let mut sum = ExactSum::default();
    sum.add_rest(value);
    sum
}

impl Number {
    const ZERO: Self = Self::Nanos(0);

    fn float(self) -> f64 {
        match self {
            Self::Nanos(nanos) => ExactSum::from_parts(nanos, 0.0, 0.0).value(),
            Self::Rest(value) => value,
        }
    }

    /// A zero of either sign is zero.
    fn without_sign_of_zero(self) -> Self {
        if matches!(self, Self::Rest(0.0)) { Self::ZERO } else { self }
    }

    fn is_exact(self) -> bool {
        matches!(self, Self::Nanos(_))
    }

    fn is_less(self, other: Self) -> bool {
        match (self, other) {
            (Self::Nanos(a), Self::Nanos(b)) => a < b,
            (a, b) => a.float().partial_cmp(&b.float()) == Some(Ordering::Less),
        }
    }

    /// Whether `other`, which is less, is so by no more than a hundredth.
    fn falls_by_a_hundredth_at_most(self, other: Self) -> bool {
        match (self, other) {
            (Self::Nanos(a), Self::Nanos(b)) => (a - b).unsigned_abs() <= a.unsigned_abs() / 100,
            (a, b) => a.float() - b.float() <= a.float().abs() / 100.0,
        }
    }
}

#[cfg(test)]
mod tests;
