//! Accumulators: what is known of the buckets of one field while rows and statistics stream by.
//!
//! Invariants
//! 1. Buckets are held by rising first instant. Rows of one series arrive in time order, so a new bucket is always the last.
//! 2. Where two inputs tie, time decides, then the order of series: `first` keeps the earlier, `last` takes the later,
//!    `min` and `max` keep the oldest time. So an answer does not depend on how rows were cut into blocks.
//! 3. Every list that is in use has one entry per bucket.

use super::bucket::Buckets;
use super::deviation::Squares;
use super::kernel::Cell;
use super::request::Function;
use super::result::ResultValues;
use crate::codec::{Stretch, Times, Wanted};
use crate::column::{Column, Presence, Values};
use crate::segment::BlockStatistics;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::{ExactSum, FieldType};

/// What the functions asked for need to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Needs {
    sum: bool,
    extremes: bool,
    first: bool,
    last: bool,
    squares: bool,
    values: bool,
}

impl Needs {
    pub(super) fn of(functions: &[Function], field_type: FieldType) -> Self {
        let any = |wanted: &[Function]| functions.iter().any(|f| wanted.contains(f));
        let number = !matches!(field_type, FieldType::Boolean | FieldType::String);
        Self {
            sum: number && any(&[Function::Sum, Function::Mean]),
            extremes: number && any(&[Function::Min, Function::Max, Function::Spread]),
            first: any(&[Function::First]),
            last: any(&[Function::Last]),
            squares: number && any(&[Function::Stddev]),
            values: any(&[Function::Mode, Function::Distinct])
                || number && functions.iter().any(|f| matches!(f, Function::Median | Function::Quantile(_))),
        }
    }
}

/// Buckets of one field, typed.
#[derive(Debug, Clone)]
pub(super) struct Cells<T> {
    needs: Needs,
    keys: Vec<i64>,
    counts: Vec<u64>,
    sums: Vec<ExactSum>,
    least: Vec<(i64, T)>,
    greatest: Vec<(i64, T)>,
    first: Vec<(i64, T)>,
    last: Vec<(i64, T)>,
    squares: Vec<Squares>,
    /// All values.
    values: Vec<Vec<T>>,
    /// Decimal exponent that fitted the last values summed.
    hint: u8,
    /// Bytes of the texts that `first`, `last` and `values` hold, and of the lists of values.
    text_bytes: u64,
}

/// Buckets of one field.
#[derive(Debug, Clone)]
pub(super) enum Accumulator {
    Float(Cells<f64>),
    Integer(Cells<i64>),
    Unsigned(Cells<u64>),
    Boolean(Cells<bool>),
    String(Cells<Arc<str>>),
}

macro_rules! each {
    ($accumulator:expr, $cells:ident => $body:expr) => {
        match $accumulator {
            Accumulator::Float($cells) => $body,
            Accumulator::Integer($cells) => $body,
            Accumulator::Unsigned($cells) => $body,
            Accumulator::Boolean($cells) => $body,
            Accumulator::String($cells) => $body,
        }
    };
}

impl Accumulator {
    pub(super) fn new(functions: &[Function], field_type: FieldType) -> Self {
        let needs = Needs::of(functions, field_type);
        match field_type {
            FieldType::Float => Self::Float(Cells::new(needs)),
            FieldType::Integer => Self::Integer(Cells::new(needs)),
            FieldType::Unsigned => Self::Unsigned(Cells::new(needs)),
            FieldType::Boolean => Self::Boolean(Cells::new(needs)),
            FieldType::String => Self::String(Cells::new(needs)),
        }
    }

    /// Adds the values of `rows` of a column over `times`; `scratch` is room for times.
    pub(super) fn add_rows(
        &mut self,
        buckets: &Buckets,
        times: &[i64],
        column: &Column,
        rows: Range<usize>,
        scratch: &mut Vec<i64>,
    ) {
        let (times, positions) = match &column.presence {
            Presence::All => (&times[rows.clone()], rows),
            Presence::Rows(present) => {
                let from = present.partition_point(|row| (*row as usize) < rows.start);
                let to = present.partition_point(|row| (*row as usize) < rows.end);
                scratch.clear();
                scratch.extend(present[from..to].iter().map(|row| times[*row as usize]));
                (&scratch[..], from..to)
            }
        };
        match (self, &column.values) {
            (Self::Float(cells), Values::Float(v)) => cells.add_values(buckets, times, &v[positions]),
            (Self::Integer(cells), Values::Integer(v)) => cells.add_values(buckets, times, &v[positions]),
            (Self::Unsigned(cells), Values::Unsigned(v)) => cells.add_values(buckets, times, &v[positions]),
            (Self::Boolean(cells), Values::Boolean(v)) => cells.add_values(buckets, times, &v[positions]),
            (Self::String(cells), Values::String(v)) => cells.add_values(buckets, times, &v[positions]),
            (_, values) => debug_assert!(false, "a field has one type, found {}", values.field_type()),
        }
    }

    /// What a fold of a block has to find; none if that is not enough, and the block must be decoded.
    pub(super) fn folds(&self) -> Option<Wanted> {
        let needs = match self {
            Self::Float(cells) => cells.needs,
            Self::Integer(cells) => cells.needs,
            Self::Unsigned(cells) => cells.needs,
            Self::Boolean(_) | Self::String(_) => return None,
        };
        let wanted = if needs.extremes { Wanted::Extremes } else { Wanted::Totals };
        (!(needs.squares || needs.values)).then_some(wanted)
    }

    /// Adds a folded group: its rows are at `times`, its stretches in the buckets that begin at `starts` and end before
    /// the rows `ends`.
    pub(super) fn add_folded(
        &mut self,
        times: &Times,
        starts: &[i64],
        ends: &[u32],
        folded: &[Stretch],
        exponent: u8,
    ) {
        let mut row = 0;
        for ((start, end), stretch) in starts.iter().zip(ends).zip(folded) {
            let end = *end as usize;
            each!(self, cells => cells.add_folded(*start, times, row..end, stretch, exponent));
            row = end;
        }
    }

    /// Whether statistics of a block say all that is needed.
    pub(super) fn statistics_suffice(&self) -> bool {
        each!(self, cells => !(cells.needs.squares || cells.needs.values))
    }

    /// To be called once all is added, before columns are asked for.
    pub(super) fn finish(&mut self) {
        each!(self, cells => cells.values.iter_mut().for_each(|values| values.sort_unstable_by(Cell::order)));
    }

    /// Adds a block whose values are all in the bucket that begins at `bucket`.
    pub(super) fn add_statistics(&mut self, bucket: i64, block: &BlockStatistics) {
        each!(self, cells => cells.add_statistics(bucket, block));
    }

    /// Adds the buckets of another accumulator of the same field, of series that stand later.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.merge(b),
            (Self::Integer(a), Self::Integer(b)) => a.merge(b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.merge(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.merge(b),
            (Self::String(a), Self::String(b)) => a.merge(b),
            (_, _) => debug_assert!(false, "a field has one type"),
        }
    }

    /// First instants of the buckets with a value, rising.
    pub(super) fn keys(&self) -> &[i64] {
        each!(self, cells => &cells.keys)
    }

    /// Memory in use, in bytes: what is set aside for buckets, and texts as if none were shared.
    pub(super) fn bytes(&self) -> u64 {
        size_of::<Self>() as u64 + each!(self, cells => cells.bytes())
    }

    /// The points that draw each bucket: first, least, greatest and last, by rising time; those that are one stand once.
    pub(super) fn picture(&self) -> (Vec<i64>, ResultValues) {
        each!(self, cells => cells.picture())
    }

    /// The column of one function for the buckets `wanted` (rising, all of [`Accumulator::keys`] among them).
    pub(super) fn column(&self, function: Function, wanted: &[i64]) -> ResultValues {
        let places = places(self.keys(), wanted);
        match function {
            Function::Count => {
                let counts = each!(self, cells => &cells.counts);
                // No value is a count of zero, which is true, unlike a value of zero.
                let count = |place: &Option<usize>| Some(place.map_or(0, |i| counts[i] as i64));
                ResultValues::Integer(places.iter().map(count).collect())
            }
            Function::Mean => {
                let (counts, sums) = each!(self, cells => (&cells.counts, &cells.sums));
                let mean = |i: usize| sums[i].value() / counts[i] as f64;
                ResultValues::Float(places.iter().map(|place| place.map(mean)).collect())
            }
            Function::Sum => self.sums(&places),
            Function::Min => each!(self, cells => points(&cells.least, &places)),
            Function::Max => each!(self, cells => points(&cells.greatest, &places)),
            Function::First => each!(self, cells => points(&cells.first, &places)),
            Function::Last => each!(self, cells => points(&cells.last, &places)),
            Function::Spread => self.spreads(&places),
            Function::Stddev => {
                let squares = each!(self, cells => &cells.squares);
                let deviation = |place: &Option<usize>| place.and_then(|i| squares[i].deviation());
                ResultValues::Float(places.iter().map(deviation).collect())
            }
            Function::Median => self.quantiles(500_000, &places),
            Function::Quantile(millionths) => self.quantiles(millionths, &places),
            Function::Mode => each!(self, cells => modes(&cells.values, &places)),
            Function::Distinct => {
                let distinct =
                    |i: usize| each!(self, cells => cells.values[i].chunk_by(Cell::is_same).count() as i64);
                let column = places.iter().map(|place| Some(place.map_or(0, distinct)));
                ResultValues::Integer(column.collect())
            }
            function => {
                debug_assert!(!function.needs_neighbours(), "curves answer {function}");
                ResultValues::Float(vec![None; wanted.len()])
            }
        }
    }

    /// Of sorted values; see [`Function::Quantile`].
    fn quantiles(&self, millionths: u32, places: &[Option<usize>]) -> ResultValues {
        let quantile = |i: usize| each!(self, cells => quantile(&cells.values[i], millionths));
        ResultValues::Float(places.iter().map(|place| place.and_then(quantile)).collect())
    }

    /// Of integers always whole and positive; of floats exact for decimals.
    fn spreads(&self, places: &[Option<usize>]) -> ResultValues {
        match self {
            Self::Integer(cells) => {
                let spread = |i: usize| cells.greatest[i].1.abs_diff(cells.least[i].1);
                ResultValues::Unsigned(places.iter().map(|place| place.map(spread)).collect())
            }
            Self::Unsigned(cells) => {
                let spread = |i: usize| cells.greatest[i].1 - cells.least[i].1;
                ResultValues::Unsigned(places.iter().map(|place| place.map(spread)).collect())
            }
            Self::Float(cells) => {
                let spread = |i: usize| {
                    let mut sum = ExactSum::default();
                    sum.add_float(cells.greatest[i].1);
                    sum.add_float(-cells.least[i].1);
                    sum.value()
                };
                ResultValues::Float(places.iter().map(|place| place.map(spread)).collect())
            }
            Self::Boolean(_) | Self::String(_) => ResultValues::Float(vec![None; places.len()]),
        }
    }

    /// Sums of integers stay integers if all of them fit.
    fn sums(&self, places: &[Option<usize>]) -> ResultValues {
        let sums = each!(self, cells => &cells.sums);
        let whole = |i: usize| sums[i].integer();
        let used = || places.iter().flatten().copied();
        match self {
            Self::Integer(_) if used().all(|i| whole(i).is_some_and(|v| i64::try_from(v).is_ok())) => {
                let value = |i: usize| whole(i).and_then(|v| i64::try_from(v).ok());
                ResultValues::Integer(places.iter().map(|place| place.and_then(value)).collect())
            }
            Self::Unsigned(_) if used().all(|i| whole(i).is_some_and(|v| u64::try_from(v).is_ok())) => {
                let value = |i: usize| whole(i).and_then(|v| u64::try_from(v).ok());
                ResultValues::Unsigned(places.iter().map(|place| place.and_then(value)).collect())
            }
            _ => ResultValues::Float(places.iter().map(|place| place.map(|i| sums[i].value())).collect()),
        }
    }
}

/// Values that can stand in a column of an answer.
trait Answer: Sized {
    fn column(values: Vec<Option<Self>>) -> ResultValues;
}

impl Answer for f64 {
    fn column(values: Vec<Option<Self>>) -> ResultValues {
        ResultValues::Float(values)
    }
}

impl Answer for i64 {
    fn column(values: Vec<Option<Self>>) -> ResultValues {
        ResultValues::Integer(values)
    }
}

impl Answer for u64 {
    fn column(values: Vec<Option<Self>>) -> ResultValues {
        ResultValues::Unsigned(values)
    }
}

impl Answer for bool {
    fn column(values: Vec<Option<Self>>) -> ResultValues {
        ResultValues::Boolean(values)
    }
}

impl Answer for Arc<str> {
    fn column(values: Vec<Option<Self>>) -> ResultValues {
        ResultValues::String(values)
    }
}

fn points<T: Answer + Clone>(points: &[(i64, T)], places: &[Option<usize>]) -> ResultValues {
    T::column(places.iter().map(|place| place.map(|i| points[i].1.clone())).collect())
}

/// The most frequent of sorted values, the first of several.
fn modes<T: Answer + Cell>(values: &[Vec<T>], places: &[Option<usize>]) -> ResultValues {
    let mode = |i: usize| {
        let longest = values[i].chunk_by(T::is_same).reduce(|a, b| if b.len() > a.len() { b } else { a });
        longest.map(|same| same[0].clone())
    };
    T::column(places.iter().map(|place| place.and_then(mode)).collect())
}

/// Between the two values on either side of place `(n - 1) * share` of sorted values, by a straight line.
fn quantile<T: Cell>(values: &[T], millionths: u32) -> Option<f64> {
    let place = u128::from(values.len().checked_sub(1)? as u64) * u128::from(millionths);
    let (below, part) = ((place / 1_000_000) as usize, (place % 1_000_000) as f64 / 1e6);
    let low = values[below].float()?;
    match values.get(below + 1).and_then(Cell::float) {
        Some(high) if part > 0.0 && high != low => Some(low * (1.0 - part) + high * part),
        _ => Some(low),
    }
}

/// For each of `wanted` its index in `keys`; both rise.
fn places(keys: &[i64], wanted: &[i64]) -> Vec<Option<usize>> {
    let mut at = 0;
    wanted
        .iter()
        .map(|key| {
            while keys.get(at).is_some_and(|own| own < key) {
                at += 1;
            }
            (keys.get(at) == Some(key)).then_some(at)
        })
        .collect()
}

impl<T: Cell> Cells<T> {
    fn new(needs: Needs) -> Self {
        Self {
            needs,
            keys: Vec::new(),
            counts: Vec::new(),
            sums: Vec::new(),
            least: Vec::new(),
            greatest: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            squares: Vec::new(),
            values: Vec::new(),
            hint: 0,
            text_bytes: 0,
        }
    }

    fn picture(&self) -> (Vec<i64>, ResultValues)
    where
        T: Answer,
    {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for i in 0..self.keys.len() {
            let mut points: Vec<&(i64, T)> = [&self.first, &self.least, &self.greatest, &self.last]
                .iter()
                .filter_map(|list| list.get(i))
                .collect();
            points.sort_by_key(|(time, _)| *time);
            points.dedup_by_key(|(time, _)| *time);
            for (time, value) in points {
                times.push(*time);
                values.push(Some(value.clone()));
            }
        }
        (times, T::column(values))
    }

    fn bytes(&self) -> u64 {
        let points = [&self.least, &self.greatest, &self.first, &self.last];
        let points: usize = points.into_iter().map(Vec::capacity).sum();
        let bytes = self.keys.capacity() * size_of::<i64>()
            + self.counts.capacity() * size_of::<u64>()
            + self.sums.capacity() * size_of::<ExactSum>()
            + self.squares.capacity() * size_of::<Squares>()
            + self.values.capacity() * size_of::<Vec<T>>()
            + points * size_of::<(i64, T)>();
        bytes as u64 + self.text_bytes
    }

    /// Adds values at rising times, all later than those added before.
    fn add_values(&mut self, buckets: &Buckets, times: &[i64], values: &[T]) {
        let mut row = 0;
        while row < times.len() {
            let (bucket, end) = buckets.stretch(times, row);
            self.add_stretch(bucket, &times[row..end], &values[row..end]);
            row = end;
        }
    }

    fn add_stretch(&mut self, bucket: i64, times: &[i64], values: &[T]) {
        let end = values.len() - 1;
        let at = self.open(bucket, || (times[0], &values[0]));
        self.counts[at] += values.len() as u64;
        if self.needs.sum {
            T::sum(values, &mut self.hint, &mut self.sums[at]);
        }
        if self.needs.extremes {
            let (least, greatest) = T::extremes(values);
            keep_least(&mut self.least[at], times[least], &values[least]);
            keep_greatest(&mut self.greatest[at], times[greatest], &values[greatest]);
        }
        if self.needs.last {
            self.replace_last(at, (times[end], values[end].clone()));
        }
        if self.needs.squares {
            T::squares(values, &mut self.squares[at]);
        }
        if self.needs.values {
            self.keep_values(at, values);
        }
    }

    fn keep_values(&mut self, at: usize, values: &[T]) {
        let kept = &mut self.values[at];
        let before = kept.capacity();
        kept.extend_from_slice(values);
        let texts: u64 = values.iter().map(Cell::text_bytes).sum();
        self.text_bytes += texts + ((kept.capacity() - before) * size_of::<T>()) as u64;
    }

    fn add_statistics(&mut self, bucket: i64, block: &BlockStatistics) {
        let (Some(first), Some(last)) = (T::of(&block.first.1), T::of(&block.last.1)) else {
            return debug_assert!(false, "a field has one type");
        };
        let at = self.open(bucket, || (block.first.0, &first));
        self.counts[at] += u64::from(block.count);
        if self.needs.sum {
            self.sums[at].merge(&block.sum);
        }
        if self.needs.extremes {
            let value = |point: &Option<(i64, wattlog_model::FieldValue)>| {
                point.as_ref().and_then(|(time, value)| Some((*time, T::of(value)?)))
            };
            if let (Some(least), Some(greatest)) = (value(&block.min), value(&block.max)) {
                keep_least(&mut self.least[at], least.0, &least.1);
                keep_greatest(&mut self.greatest[at], greatest.0, &greatest.1);
            }
        }
        if self.needs.last {
            self.replace_last(at, (block.last.0, last));
        }
    }

    fn add_folded(
        &mut self,
        bucket: i64,
        times: &Times,
        rows: Range<usize>,
        stretch: &Stretch,
        exponent: u8,
    ) {
        let (Some(first), Some(last)) =
            (T::of_folded(stretch.first, exponent), T::of_folded(stretch.last, exponent))
        else {
            return debug_assert!(false, "only numbers are folded");
        };
        let at = self.open(bucket, || (times.get(rows.start), &first));
        self.counts[at] += rows.len() as u64;
        if self.needs.sum {
            T::add_total(stretch.total, exponent, &mut self.sums[at]);
        }
        if self.needs.extremes {
            let value = |(row, integer): (u32, i64)| {
                Some((times.get(row as usize), T::of_folded(integer, exponent)?))
            };
            if let (Some(least), Some(greatest)) = (value(stretch.min), value(stretch.max)) {
                keep_least(&mut self.least[at], least.0, &least.1);
                keep_greatest(&mut self.greatest[at], greatest.0, &greatest.1);
            }
        }
        if self.needs.last {
            self.replace_last(at, (times.get(rows.end - 1), last));
        }
    }

    /// Place of `bucket`, which is the last one or comes after it; a new one begins with `first` in every list.
    fn open<'a>(&mut self, bucket: i64, first: impl FnOnce() -> (i64, &'a T)) -> usize
    where
        T: 'a,
    {
        if self.keys.last() == Some(&bucket) {
            return self.keys.len() - 1;
        }
        debug_assert!(self.keys.last().is_none_or(|last| *last < bucket), "rows arrive in time order");
        self.keys.push(bucket);
        self.counts.push(0);
        if self.needs.sum {
            self.sums.push(ExactSum::default());
        }
        let (time, value) = first();
        let begin = |needed: bool, list: &mut Vec<(i64, T)>| {
            if needed {
                list.push((time, value.clone()));
            }
        };
        begin(self.needs.extremes, &mut self.least);
        begin(self.needs.extremes, &mut self.greatest);
        begin(self.needs.first, &mut self.first);
        begin(self.needs.last, &mut self.last);
        if self.needs.squares {
            self.squares.push(Squares::default());
        }
        if self.needs.values {
            self.values.push(Vec::new());
        }
        let texts = u64::from(self.needs.first) + u64::from(self.needs.last);
        self.text_bytes += texts * value.text_bytes();
        self.keys.len() - 1
    }

    fn replace_last(&mut self, at: usize, point: (i64, T)) {
        self.text_bytes += point.1.text_bytes();
        self.text_bytes -= self.last[at].1.text_bytes();
        self.last[at] = point;
    }

    fn merge(&mut self, other: Self) {
        if self.keys.is_empty() {
            *self = other;
            return;
        }
        let places = places(&self.keys, &other.keys);
        if places.iter().all(Option::is_some) {
            for (from, place) in places.into_iter().enumerate() {
                self.merge_bucket(place.unwrap_or_default(), &other, from);
            }
            return;
        }
        // Other buckets too: both lists are woven into a new one.
        let mine = std::mem::replace(self, Self::new(self.needs));
        let (mut a, mut b) = (0, 0);
        while a < mine.keys.len() || b < other.keys.len() {
            let (left, right) = (mine.keys.get(a), other.keys.get(b));
            let from_mine = left.is_some_and(|l| right.is_none_or(|r| l <= r));
            let from_other = right.is_some_and(|r| left.is_none_or(|l| r <= l));
            if from_mine {
                self.push_bucket(&mine, a);
                a += 1;
            }
            match (from_mine, from_other) {
                (true, true) => self.merge_bucket(self.keys.len() - 1, &other, b),
                (false, _) => self.push_bucket(&other, b),
                (true, false) => continue,
            }
            b += 1;
        }
    }

    fn push_bucket(&mut self, from: &Self, i: usize) {
        self.keys.push(from.keys[i]);
        self.counts.push(from.counts[i]);
        self.sums.extend(from.sums.get(i));
        self.least.extend(from.least.get(i).cloned());
        self.greatest.extend(from.greatest.get(i).cloned());
        self.first.extend(from.first.get(i).cloned());
        self.last.extend(from.last.get(i).cloned());
        self.squares.extend(from.squares.get(i));
        if self.needs.values {
            self.values.push(Vec::new());
            self.keep_values(self.values.len() - 1, &from.values[i]);
        }
        let texts = [from.first.get(i), from.last.get(i)].into_iter().flatten();
        self.text_bytes += texts.map(|(_, value)| value.text_bytes()).sum::<u64>();
    }

    fn merge_bucket(&mut self, at: usize, other: &Self, i: usize) {
        self.counts[at] += other.counts[i];
        if self.needs.sum {
            self.sums[at].merge(&other.sums[i]);
        }
        if self.needs.extremes {
            keep_least(&mut self.least[at], other.least[i].0, &other.least[i].1);
            keep_greatest(&mut self.greatest[at], other.greatest[i].0, &other.greatest[i].1);
        }
        if self.needs.first && other.first[i].0 < self.first[at].0 {
            self.text_bytes += other.first[i].1.text_bytes();
            self.text_bytes -= self.first[at].1.text_bytes();
            self.first[at] = other.first[i].clone();
        }
        if self.needs.last && other.last[i].0 >= self.last[at].0 {
            self.replace_last(at, other.last[i].clone());
        }
        if self.needs.squares {
            self.squares[at].merge(&other.squares[i]);
        }
        if self.needs.values {
            self.keep_values(at, &other.values[i]);
        }
    }
}

fn keep_least<T: Cell>(kept: &mut (i64, T), time: i64, value: &T) {
    if value.is_less(&kept.1) || !kept.1.is_less(value) && time < kept.0 {
        *kept = (time, value.clone());
    }
}

fn keep_greatest<T: Cell>(kept: &mut (i64, T), time: i64, value: &T) {
    if kept.1.is_less(value) || !value.is_less(&kept.1) && time < kept.0 {
        *kept = (time, value.clone());
    }
}
