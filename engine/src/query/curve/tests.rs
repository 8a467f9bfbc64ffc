use super::super::request::{Aggregate, Every, QueryControl, QueryLimits};
use super::*;
use crate::column::{Column, Presence, Values};
use proptest::prelude::*;

const S: i64 = 1_000_000_000;

/// A fraction in lowest terms.
#[derive(Debug, Clone, Copy)]
struct Fraction(i128, i128);

impl Fraction {
    fn new(above: i128, below: i128) -> Self {
        let (mut a, mut b) = (above.abs(), below);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        if a == 0 { Self(0, 1) } else { Self(above / a, below / a) }
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    /// Of tenths.
    fn value(self) -> f64 {
        self.0 as f64 / (self.1 * 10) as f64
    }
}

fn buckets_of(every_s: i64) -> Buckets {
    let every = Some(Every::Nanos((every_s * S) as u64));
    Buckets::new(&Aggregate { every, ..Aggregate::default() }, ASKED).unwrap()
}

const ASKED: Range<i64> = 0..1000 * S;

/// Feeds tenths at whole seconds; stretches as long as `blocks` says as statistics, where that is allowed.
fn curve(
    points: &[(i64, i64)],
    functions: &[Function],
    kind: FieldKind,
    every_s: i64,
    blocks: &[usize],
) -> Curve {
    let buckets = buckets_of(every_s);
    let (limits, control) = (QueryLimits::default(), QueryControl::default());
    let budget = Budget::new(&limits, &control);
    let frame = Frame { buckets: &buckets, asked: &ASKED, budget: &budget };
    let mut curve = Curve::new(functions, kind, 60 * S, None).unwrap();
    let number = |tenths: i64| Number::of_float(tenths as f64 / 10.0);
    let mut at = 0;
    while at < points.len() {
        let len = blocks.get(at % blocks.len().max(1)).copied().unwrap_or(1).min(points.len() - at);
        let part = &points[at..at + len];
        let times: Vec<i64> = part.iter().map(|(time, _)| time * S).collect();
        let values = Values::Float(part.iter().map(|(_, v)| *v as f64 / 10.0).collect());
        let block = BlockStatistics::compute(&times, &values, 0..len).unwrap();
        let is_inside = times[0] >= ASKED.start && times[len - 1] < buckets.of(times[0]).end.min(ASKED.end);
        let next = points.get(at + len).map(|(_, tenths)| number(*tenths));
        if !blocks.is_empty() && is_inside && curve.takes(&block, next) {
            curve.block(frame, &block).unwrap();
        } else {
            for (time, tenths) in part {
                curve.point(frame, time * S, number(*tenths)).unwrap();
            }
        }
        at += len;
    }
    curve.end_series(frame).unwrap();
    curve
}

fn all(curve: &Curve, function: Function, every_s: i64) -> Vec<Option<f64>> {
    let buckets = buckets_of(every_s);
    let starts = (0..).map(|i| i * every_s * S).take_while(|start| *start < ASKED.end);
    starts.map(|key| curve.value(function, key, &buckets, &ASKED, S as f64)).collect()
}

fn bits(curve: &Curve, function: Function, every_s: i64) -> Vec<Option<u64>> {
    all(curve, function, every_s).into_iter().map(|value| value.map(f64::to_bits)).collect()
}

/// The integral over a bucket in tenths times seconds, by the words of the rule.
fn integral(points: &[(i64, i64)], step: bool, from: i64, to: i64) -> Option<Fraction> {
    let mut sum: Option<Fraction> = None;
    for pair in points.windows(2) {
        let [(t0, v0), (t1, v1)] = pair else { unreachable!() };
        let (a, b) = ((*t0).max(from).max(0), (*t1).min(to).min(1000));
        if t1 - t0 > 60 || a >= b {
            continue;
        }
        let [v0, v1, span, a, b] =
            [*v0, if step { *v0 } else { *v1 }, t1 - t0, a - t0, b - t0].map(i128::from);
        // The mean of the values at both ends, v0 + (v1 - v0) * (a + b) / (2 * span), times the length.
        let piece = Fraction::new((2 * span * v0 + (v1 - v0) * (a + b)) * (b - a), 2 * span);
        sum = Some(sum.map_or(piece, |sum| sum.plus(piece)));
    }
    sum
}

fn points() -> impl Strategy<Value = Vec<(i64, i64)>> {
    const GAPS: [i64; 14] = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60, 61, 100];
    prop::collection::vec((prop::sample::select(&GAPS[..]), -100_000_i64..100_000), 0..60).prop_map(|steps| {
        let mut time = -50;
        let point = |(gap, value)| {
            time += gap;
            (time, value)
        };
        steps.into_iter().map(point).collect()
    })
}

proptest! {
    #[test]
    fn integrals_are_those_of_fractions_however_they_are_cut(
        points in points(),
        every_s in 1_i64..200,
        step in any::<bool>(),
        blocks in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let kind = if step { FieldKind::Step } else { FieldKind::Linear };
        let functions = [Function::Integral, Function::Twa, Function::Coverage];
        let whole = curve(&points, &functions, kind, every_s, &[]);
        let cut = curve(&points, &functions, kind, every_s, &blocks);
        for function in functions {
            prop_assert_eq!(bits(&whole, function, every_s), bits(&cut, function, every_s), "{}", function);
        }
        for (i, found) in all(&whole, Function::Integral, every_s).into_iter().enumerate() {
            let from = i as i64 * every_s;
            let expected = integral(&points, step, from, from + every_s).map(Fraction::value);
            match (found, expected) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() <= b.abs() * 4.5e-16 + 1e-15, "{} {}", a, b),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
        // All buckets together are the whole, to the last bit.
        let total = curve(&points, &functions, kind, 1000, &blocks);
        let mut sum = ExactSum::default();
        whole.buckets.iter().for_each(|bucket| sum.merge(&bucket.area_twice));
        prop_assert_eq!(sum, total.buckets.first().map(|bucket| bucket.area_twice).unwrap_or_default());
    }

    #[test]
    fn counters_are_counted_by_fractions_however_they_are_cut(
        steps in prop::collection::vec((1_i64..60, 0_i64..50), 1..40),
        every_s in 1_i64..200,
        blocks in prop::collection::vec(1_usize..9, 1..5),
        reset in 2_usize..60,
        glitches in prop::collection::vec(2_usize..60, 0..3),
    ) {
        // A reset goes to zero and stays low; a glitch is one value that is far off, with good ones around it.
        let (mut time, mut reading) = (-50, 1_000_000);
        let mut seen: Vec<(i64, i64)> = Vec::new();
        let mut expected = Fraction::new(0, 1);
        let last = steps.len() - 1;
        for (i, (gap, growth)) in steps.iter().enumerate() {
            let before = time;
            time += gap;
            reading = if i == reset && i < last { *growth } else { reading + growth };
            let within = (time.min(1000) - before.max(0)).max(0);
            let good = i < 2 || i + 2 > last || i.abs_diff(reset) <= 2 || !glitches.contains(&i);
            let alone = !glitches.contains(&(i + 1)) && !glitches.contains(&(i.wrapping_sub(1)));
            seen.push((time, if good || !alone { reading } else { 900_000_000 * (i as i64 % 2) }));
            if i > 0 {
                expected = expected.plus(Fraction::new(i128::from(growth * within), i128::from(*gap)));
            }
        }
        let functions = [Function::Increase, Function::Rate];
        let whole = curve(&seen, &functions, FieldKind::Counter, every_s, &[]);
        let cut = curve(&seen, &functions, FieldKind::Counter, every_s, &blocks);
        for function in functions {
            prop_assert_eq!(bits(&whole, function, every_s), bits(&cut, function, every_s), "{}", function);
        }
        let mut sum = ExactSum::default();
        whole.buckets.iter().for_each(|bucket| sum.merge(&bucket.rise));
        // A pair around a glitch, or the border of the range, may divide its growth in another way.
        let clean = seen.iter().zip(&steps).all(|((_, v), _)| *v != 0 && *v != 900_000_000);
        let tolerance = if clean { 1e-7 } else { 20.0 };
        prop_assert!((sum.value() - expected.value()).abs() <= tolerance, "{} {}", sum.value(), expected.value());
    }
}

/// Values that are decimals of many lengths, and some that are none.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-100_000_i64..100_000).prop_map(|tenths| tenths as f64 / 10.0),
        2 => (-100_000_000_i64..100_000_000, 0_i32..10).prop_map(|(v, e)| v as f64 / 10.0_f64.powi(e)),
        1 => prop::sample::select(vec![0.0, -0.0, 1.0 / 3.0, 1e300, 9e15, 4_503_599_627_370_497.5, 1e-9, -2e6]),
    ]
}

/// A curve of `values`, row by row or in slices of `lens` at a time.
fn priced(
    points: &[(i64, f64)],
    kind: FieldKind,
    every_s: i64,
    prices: &Arc<Prices>,
    lens: &[usize],
    as_integers: bool,
) -> Curve {
    let buckets = buckets_of(every_s);
    let (limits, control) = (QueryLimits::default(), QueryControl::default());
    let budget = Budget::new(&limits, &control);
    let frame = Frame { buckets: &buckets, asked: &ASKED, budget: &budget };
    let functions = [Function::Integral, Function::Cost];
    let mut curve = Curve::new(&functions, kind, 60 * S, Some(prices)).unwrap();
    let times: Vec<i64> = points.iter().map(|(time, _)| *time).collect();
    let floats = points.iter().map(|(_, value)| *value);
    let values = if as_integers {
        Values::Integer(floats.map(|value| value as i64).collect())
    } else {
        Values::Float(floats.collect())
    };
    let column = Column { presence: Presence::All, values };
    let mut at = 0;
    while at < times.len() {
        let len = lens.get(at % lens.len().max(1)).copied().unwrap_or(0).min(times.len() - at);
        if len == 0 {
            curve.point(frame, times[at], Number::at(&column.values, at)).unwrap();
        } else {
            curve.rows(frame, &times, &column, at..at + len, &mut Vec::new()).unwrap();
        }
        at += len.max(1);
    }
    curve.end_series(frame).unwrap();
    curve
}

proptest! {
    #[test]
    fn rows_at_a_time_are_the_same_as_one_by_one(
        points in points(),
        values in prop::collection::vec(value(), 60),
        every_s in prop_oneof![1_i64..200, Just(1000)],
        step in any::<bool>(),
        as_integers in any::<bool>(),
        lens in prop::collection::vec(0_usize..40, 1..5),
        prices in prop::collection::btree_map(-100_i64..1100, -500_i64..2000, 0..9),
        odd_ns in prop_oneof![3 => Just(0), 1 => 1_i64..S],
    ) {
        let kind = if step { FieldKind::Step } else { FieldKind::Linear };
        let points: Vec<(i64, f64)> =
            points.iter().zip(&values).map(|((time, _), value)| (time * S + odd_ns * (time % 2), *value)).collect();
        let of = |(time, price): (&i64, &i64)| (time * S, Number::of_float(*price as f64 / 1000.0));
        let prices = Arc::new(Prices::of(&prices.iter().map(of).collect::<Vec<_>>(), 300 * S));
        let singly = priced(&points, kind, every_s, &prices, &[], as_integers);
        let by_rows = priced(&points, kind, every_s, &prices, &lens, as_integers);
        for function in [Function::Integral, Function::Twa, Function::Coverage, Function::Priced] {
            prop_assert_eq!(bits(&singly, function, every_s), bits(&by_rows, function, every_s), "{}", function);
        }
        // A price is multiplied once for all rows of a run, so what is rounded down is less.
        let (singly, by_rows) = (all(&singly, Function::Cost, every_s), all(&by_rows, Function::Cost, every_s));
        for pair in singly.iter().zip(&by_rows) {
            match pair {
                (Some(a), Some(b)) if odd_ns == 0 && as_integers => prop_assert_eq!(a.to_bits(), b.to_bits()),
                (Some(a), Some(b)) if a.is_nan() => prop_assert!(b.is_nan(), "{} {}", a, b),
                (Some(a), Some(b)) => prop_assert!(a == b || (a - b).abs() <= a.abs() * 1e-14 + 1e-15, "{} {}", a, b),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}

#[test]
fn a_run_goes_on_as_long_as_values_are_decimals() {
    let mut integers = Vec::new();
    let floats: Vec<f64> =
        (0..1024).map(|i| f64::from(i % 77) / if i < 500 { 10.0 } else { 1000.0 }).collect();
    assert_eq!((runs::decimals(&Values::Float(floats), 0..1024, &mut integers), integers.len()), (3, 1024));
    let mixed = Values::Float(vec![1.5, -0.0, 1.0 / 3.0, 2.0]);
    assert_eq!((runs::decimals(&mixed, 0..4, &mut integers), integers.len()), (1, 2));
    assert_eq!(runs::decimals(&Values::Integer(vec![1, i64::MAX]), 0..2, &mut integers), 0);
    assert_eq!(integers, [1]);
}

#[test]
fn values_too_large_for_a_run_take_no_longer_than_one_by_one() {
    // One bucket of 11 days. A run that leaves 128 bits must not be begun anew at each row: that would be 5 * 10^9 steps.
    const ROWS: i64 = 100_000;
    let asked = 0..ROWS * 10 * S;
    let buckets = Buckets::new(&Aggregate::default(), asked.clone()).unwrap();
    let (limits, control) = (QueryLimits::default(), QueryControl::default());
    let budget = Budget::new(&limits, &control);
    let frame = Frame { buckets: &buckets, asked: &asked, budget: &budget };
    let times: Vec<i64> = (0..ROWS).map(|i| i * 10 * S).collect();
    let column =
        Column { presence: Presence::All, values: Values::Integer(vec![2_000_000_000_000_000; times.len()]) };
    let new = || Curve::new(&[Function::Integral], FieldKind::Linear, 60 * S, None).unwrap();
    let (mut singly, mut by_rows) = (new(), new());
    for (at, time) in times.iter().enumerate() {
        singly.point(frame, *time, Number::at(&column.values, at)).unwrap();
    }
    by_rows.rows(frame, &times, &column, 0..times.len(), &mut Vec::new()).unwrap();
    let [singly, by_rows] = [singly, by_rows]
        .map(|curve| curve.value(Function::Integral, curve.keys[0], &buckets, &asked, S as f64).unwrap());
    assert!((singly / by_rows - 1.0).abs() < 1e-15 && by_rows > 1.99e21, "{singly} {by_rows}");
}

#[test]
fn a_negative_zero_at_the_end_of_a_run_is_zero() {
    let points = [(0, 1.0), (5 * S, -0.0), (15 * S, 0.1)];
    let prices = Arc::new(Prices::of(&[], S));
    let by_rows = priced(&points, FieldKind::Linear, 10, &prices, &[3], false);
    assert_eq!(all(&by_rows, Function::Integral, 10)[..2], [Some(2.625), Some(0.375)]);
}

#[test]
fn resets_and_glitches_are_told_apart() {
    let increase = |readings: &[i64]| {
        let points: Vec<(i64, i64)> = readings.iter().enumerate().map(|(i, v)| (i as i64 * 10, *v)).collect();
        let curve = curve(&points, &[Function::Increase], FieldKind::Counter, 1000, &[]);
        all(&curve, Function::Increase, 1000)[0]
    };
    // Growth.
    assert_eq!(increase(&[1000, 1001, 1005]), Some(0.5));
    // One value of zero, as inverters send when they wake up.
    assert_eq!(increase(&[1000, 0, 1001, 1002]), Some(0.2));
    // One value far above.
    assert_eq!(increase(&[1000, 4_294_967_295, 1001, 1002]), Some(0.2));
    // A tenth less for a while is no lifetime of energy.
    assert_eq!(increase(&[1000, 1001, 1000, 1000, 1001, 1003]), Some(0.3));
    // A new meter, or a day that begins again.
    assert_eq!(increase(&[1000, 1001, 3, 5]), Some(0.6));
    assert_eq!(increase(&[1000, 1001, 0, 0, 4]), Some(0.5));
    // A fall at the very end is not decided yet.
    assert_eq!(increase(&[1000, 1001, 3]), Some(0.1));
    assert_eq!(increase(&[1000]), None);
}

#[test]
fn what_lies_beyond_128_bits_is_a_double() {
    let area = area_twice(Number::of_float(1e300), Number::of_float(-1e300), 100, 0..50, false);
    assert_eq!(area.value(), 5e301);
    let largest = Number::of_integer(i128::from(u64::MAX));
    let whole = area_twice(largest, Number::ZERO, u64::MAX, 0..u64::MAX, false).value();
    assert!((whole / (u64::MAX as f64 * u64::MAX as f64) - 1.0).abs() < 1e-15, "{whole}");
    let part = area_twice(largest, Number::ZERO, u64::MAX, 0..u64::MAX / 2, false).value();
    assert!((part / whole - 0.75).abs() < 1e-15, "{part}");
    // A small part beside a large one keeps its own digits.
    let small = area_twice(largest, Number::ZERO, 1 << 40, (1 << 40) - 1..1 << 40, false).value();
    assert!((small / (u64::MAX as f64 / 2_f64.powi(40)) - 1.0).abs() < 1e-9, "{small}");
}
