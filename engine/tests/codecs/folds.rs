//! Folds of blocks say what the values of the blocks say, or that the block must be decoded.

use crate::shapes::{FLOAT_SHAPES, INTEGER_SHAPES, LENGTHS, Random, floats, integers};
use std::cmp::Ordering;
use std::fmt::Debug;
use wattlog_engine::codec::{
    self, DecodeError, Dispatch, FloatHint, Folded, NotFolded, Stretch, Wanted, dispatch,
};
use wattlog_model::ExactSum;

type Decode<T> = fn(&[u8], usize, &mut Vec<T>) -> Result<(), DecodeError>;
type Fold = fn(&[u8], usize, &[u32], Wanted, &mut Vec<Stretch>) -> Folded;

/// What a fold of a type is compared by.
struct Kind<T> {
    decode: Decode<T>,
    fold: Fold,
    value: fn(i64, u8) -> T,
    bits: fn(&T) -> u64,
    order: fn(&T, &T) -> Ordering,
    add: fn(&T, &mut ExactSum),
    add_total: fn(i128, u8, &mut ExactSum),
}

const FLOATS: Kind<f64> = Kind {
    decode: codec::decode_floats,
    fold: codec::fold_floats,
    value: |integer, exponent| integer as f64 / 10_f64.powi(exponent.into()),
    bits: |value| value.to_bits(),
    order: f64::total_cmp,
    add: |value, sum| sum.add_float(*value),
    add_total: |total, exponent, sum| sum.add_decimal(total, exponent),
};

const INTEGERS: Kind<i64> = Kind {
    decode: codec::decode_integers,
    fold: codec::fold_integers,
    value: |integer, exponent| integer * 10_i64.pow(exponent.into()),
    bits: |value| *value as u64,
    order: i64::cmp,
    add: |value, sum| sum.add_integer((*value).into()),
    add_total: |total, exponent, sum| sum.add_integer(total * 10_i128.pow(exponent.into())),
};

const UNSIGNED: Kind<u64> = Kind {
    decode: codec::decode_unsigned,
    fold: codec::fold_unsigned,
    value: |integer, exponent| integer as u64 * 10_u64.pow(exponent.into()),
    bits: |value| *value,
    order: u64::cmp,
    add: |value, sum| sum.add_integer((*value).into()),
    add_total: |total, exponent, sum| sum.add_integer(total * 10_i128.pow(exponent.into())),
};

/// Rising ends of stretches of random lengths, the last `len`.
fn random_ends(random: &mut Random, len: usize) -> Vec<u32> {
    let most = [1, 6, 130, 1000, 70_000][random.below(5) as usize];
    let longest = 1 + random.below(most);
    let mut ends = Vec::new();
    let mut at = 0;
    while at < len {
        at = len.min(at + 1 + random.below(longest) as usize);
        ends.push(at as u32);
    }
    ends
}

/// Compares a fold of `block` with its decoded values; true if it was folded.
fn check<T: Debug>(kind: &Kind<T>, block: &[u8], len: usize, ends: &[u32], what: &dyn Debug) -> bool {
    let mut values = Vec::new();
    let decoded = (kind.decode)(block, len, &mut values);
    let mut stretches = Vec::new();
    let (mut totals, mut exponent) = (Vec::new(), None);
    for wanted in [Wanted::Totals, Wanted::Extremes] {
        match (kind.fold)(block, len, ends, wanted, &mut stretches) {
            Ok(Ok(found)) => exponent = Some(found),
            Ok(Err(NotFolded)) => return false,
            Err(_) => {
                assert!(decoded.is_err(), "{what:?}: a good block was refused");
                return false;
            }
        }
        totals.push(stretches.iter().map(|s| (s.total, s.first, s.last)).collect::<Vec<_>>());
    }
    assert!(decoded.is_ok(), "{what:?}: a bad block was folded");
    assert_eq!(totals[0], totals[1], "{what:?}");
    assert_eq!(stretches.len(), ends.len(), "{what:?}");
    let exponent = exponent.expect("folded twice");
    let mut from = 0;
    for (stretch, end) in stretches.iter().zip(ends) {
        let rows = &values[from..*end as usize];
        let same = |integer: i64, value: &T| {
            assert_eq!((kind.bits)(&(kind.value)(integer, exponent)), (kind.bits)(value), "{what:?}");
        };
        same(stretch.first, &rows[0]);
        same(stretch.last, &rows[rows.len() - 1]);
        let place = |wanted: Ordering| {
            (1..rows.len())
                .fold(0, |best, i| if (kind.order)(&rows[i], &rows[best]) == wanted { i } else { best })
        };
        let (least, greatest) = (place(Ordering::Less), place(Ordering::Greater));
        assert_eq!(
            (stretch.min.0 as usize, stretch.max.0 as usize),
            (from + least, from + greatest),
            "{what:?}"
        );
        same(stretch.min.1, &rows[least]);
        same(stretch.max.1, &rows[greatest]);
        let (mut one_by_one, mut at_once) = (ExactSum::default(), ExactSum::default());
        rows.iter().for_each(|value| (kind.add)(value, &mut one_by_one));
        (kind.add_total)(stretch.total, exponent, &mut at_once);
        assert_eq!(at_once, one_by_one, "{what:?}");
        from = *end as usize;
    }
    true
}

#[test]
fn a_fold_says_what_the_values_say() {
    let seed = 0x5eed_f01d;
    let mut random = Random(seed);
    let (mut folded, mut blocks) = ([0; 3], 0);
    for round in 0..4 {
        for len in LENGTHS.into_iter().filter(|len| *len > 0) {
            for shape in 0..FLOAT_SHAPES.max(INTEGER_SHAPES) {
                let ends = random_ends(&mut random, len);
                let what = ("seed", seed, "round", round, "shape", shape, "len", len);
                let mut block = Vec::new();
                codec::encode_floats(
                    &floats(&mut random, shape % FLOAT_SHAPES, len),
                    &mut FloatHint::default(),
                    &mut block,
                );
                folded[0] += usize::from(check(&FLOATS, &block, len, &ends, &what));
                let whole = integers(&mut random, shape % INTEGER_SHAPES, len);
                block.clear();
                codec::encode_integers(&whole, &mut block);
                folded[1] += usize::from(check(&INTEGERS, &block, len, &ends, &what));
                let whole: Vec<u64> = whole.iter().map(|value| *value as u64).collect();
                block.clear();
                codec::encode_unsigned(&whole, &mut block);
                folded[2] += usize::from(check(&UNSIGNED, &block, len, &ends, &what));
                blocks += 1;
            }
        }
    }
    println!("{blocks} blocks of each type, folded: {folded:?}");
    assert!(folded.iter().all(|folded| *folded > blocks / 5), "{folded:?} of {blocks} blocks folded");
}

#[test]
fn damaged_blocks_fold_as_they_decode_or_not_at_all() {
    let mut random = Random(0xda_ba6e);
    for len in LENGTHS.into_iter().filter(|len| (1..=1024).contains(len)) {
        for shape in 0..FLOAT_SHAPES {
            let mut block = Vec::new();
            codec::encode_floats(&floats(&mut random, shape, len), &mut FloatHint::default(), &mut block);
            for _ in 0..40 {
                let mut damaged = block.clone();
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] ^= 1 << random.below(8);
                let ends = random_ends(&mut random, len);
                let what = ("shape", shape, "len", len, "byte", at);
                check(&FLOATS, &damaged, len, &ends, &what);
                check(&INTEGERS, &damaged, len, &ends, &what);
                check(&UNSIGNED, &damaged, len, &ends, &what);
            }
        }
    }
}

#[test]
fn integers_on_both_sides_of_the_limit_of_a_fold() {
    let limit = 1_i64 << 50;
    for (values, folds) in
        [(vec![limit - 1, 1, -limit], true), (vec![limit, 1, 0], false), (vec![-limit - 1, 1, 0], false)]
    {
        let mut block = Vec::new();
        codec::encode_integers(&values, &mut block);
        let mut out = Vec::new();
        let folded = codec::fold_integers(&block, 3, &[3], Wanted::Extremes, &mut out);
        assert_eq!(folded.unwrap().is_ok(), folds && block[0] != 0, "{values:?}");
    }
}

/// Part of `vector_and_scalar_kernels_agree`: both copies of the kernels fold alike.
pub(crate) fn both_kernels_agree(block: &[u8], len: usize) {
    let ends: Vec<u32> = (0..len as u32).step_by(37).skip(1).chain([len as u32]).collect();
    let fold = |wanted| {
        let mut out = Vec::new();
        codec::fold_floats(block, len, &ends, wanted, &mut out).map(|folded| folded.map(|e| (e, out)))
    };
    for wanted in [Wanted::Totals, Wanted::Extremes] {
        dispatch(Some(Dispatch::Scalar));
        let scalar = fold(wanted);
        dispatch(Some(Dispatch::Avx2));
        assert_eq!(fold(wanted), scalar);
    }
}
