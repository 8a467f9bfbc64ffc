//! One suite for all codecs: bit-exact round trips here, damage and the vectors of the specification beside it.

#[path = "codecs/damage.rs"]
mod damage;
#[path = "codecs/folds.rs"]
mod folds;
#[path = "codecs/packed.rs"]
mod packed;
#[path = "codecs/shapes.rs"]
mod shapes;
#[path = "codecs/vectors.rs"]
mod vectors;

use damage::DECODERS;
use shapes::{FLOAT_SHAPES, INTEGER_SHAPES, LENGTHS, ODD_FLOATS, Random, booleans, floats, integers, texts};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use wattlog_engine::codec::{self, DecodeError, FloatHint, MAX_BLOCK_LEN};

/// Encodes, decodes behind something already there, and compares; gives the block.
fn round_trip<T: Clone + Debug>(
    values: &[T],
    encode: impl Fn(&[T], &mut Vec<u8>),
    decode: impl Fn(&[u8], usize, &mut Vec<T>) -> Result<(), DecodeError>,
    same: impl Fn(&T, &T) -> bool,
    what: &dyn Debug,
) -> Vec<u8> {
    let mut bytes = vec![0xa5];
    encode(values, &mut bytes);
    let block = bytes.split_off(1);
    assert_eq!(bytes, [0xa5], "the encoder touched what was there");
    let mut back: Vec<T> = values.iter().take(1).cloned().collect();
    let kept = back.len();
    decode(&block, values.len(), &mut back).unwrap_or_else(|error| panic!("{what:?}: {error}"));
    assert_eq!(back.len() - kept, values.len(), "{what:?}");
    for (i, (a, b)) in values.iter().zip(&back[kept..]).enumerate() {
        assert!(same(a, b), "{what:?}, value {i}: {a:?} came back as {b:?}");
    }
    block
}

fn round_trip_floats(values: &[f64], hint: FloatHint, what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[f64], out: &mut Vec<u8>| {
        codec::encode_floats(values, &mut hint.clone(), out);
    };
    round_trip(values, encode, codec::decode_floats, |a, b| a.to_bits() == b.to_bits(), what)
}

fn round_trip_integers(values: &[i64], what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[i64], out: &mut Vec<u8>| _ = codec::encode_integers(values, out);
    round_trip(values, encode, codec::decode_integers, i64::eq, what)
}

fn round_trip_unsigned(values: &[u64], what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[u64], out: &mut Vec<u8>| _ = codec::encode_unsigned(values, out);
    round_trip(values, encode, codec::decode_unsigned, u64::eq, what)
}

fn round_trip_times(values: &[i64], what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[i64], out: &mut Vec<u8>| _ = codec::encode_times(values, out);
    round_trip(values, encode, codec::decode_times, i64::eq, what)
}

fn round_trip_booleans(values: &[bool], what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[bool], out: &mut Vec<u8>| _ = codec::encode_booleans(values, out);
    round_trip(values, encode, codec::decode_booleans, bool::eq, what)
}

const TEXT_LIMIT: usize = 1 << 27;

fn decode_texts(bytes: &[u8], count: usize, out: &mut Vec<Arc<str>>) -> Result<(), DecodeError> {
    codec::decode_strings(bytes, count, TEXT_LIMIT, out)
}

fn round_trip_texts(values: &[Arc<str>], what: &dyn Debug) -> Vec<u8> {
    let encode = |values: &[Arc<str>], out: &mut Vec<u8>| _ = codec::encode_strings(values, out);
    round_trip(values, encode, decode_texts, Arc::eq, what)
}

fn round_trip_ids(values: &[u32], what: &dyn Debug) -> Vec<u8> {
    round_trip(values, codec::encode_string_ids, codec::decode_string_ids, u32::eq, what)
}

/// Ten million values in all, and every codec reached.
#[test]
fn ten_million_values_come_back_bit_for_bit() {
    const WANTED: usize = 10_000_000;
    let seed = 0x5eed_0001;
    let mut random = Random(seed);
    let mut done = 0;
    let mut tags = BTreeMap::<u8, usize>::new();
    let mut round = 0;
    while done < WANTED {
        let len = LENGTHS[round % LENGTHS.len()];
        let mut count = |block: Vec<u8>, len: usize| {
            *tags.entry(block[0]).or_default() += 1;
            done += len;
        };
        for shape in 0..INTEGER_SHAPES {
            let what = ("seed", seed, "round", round, "shape", shape);
            let values = integers(&mut random, shape, len);
            count(round_trip_integers(&values, &what), len);
            count(round_trip_times(&values, &what), len);
            let unsigned: Vec<u64> = values.iter().map(|v| *v as u64).collect();
            count(round_trip_unsigned(&unsigned, &what), len);
            let ids: Vec<u32> = values.iter().map(|v| (*v & 0xfff) as u32).collect();
            count(round_trip_ids(&ids, &what), len);
        }
        let mut hint = FloatHint::default();
        for shape in 0..FLOAT_SHAPES {
            let what = ("seed", seed, "round", round, "float shape", shape);
            let values = floats(&mut random, shape, len);
            count(round_trip_floats(&values, hint, &what), len);
            codec::encode_floats(&values, &mut hint, &mut Vec::new());
        }
        for shape in 0..4 {
            let values = booleans(&mut random, shape, len);
            count(round_trip_booleans(&values, &("seed", seed, "round", round, "bool shape", shape)), len);
        }
        if round % 8 == 0 {
            for shape in 0..5 {
                let values = texts(&mut random, shape, len.min(300));
                let what = ("seed", seed, "round", round, "text shape", shape);
                count(round_trip_texts(&values, &what), values.len());
            }
        }
        round += 1;
    }
    println!("{done} values, {round} rounds, blocks by tag: {tags:?}");
    let reached: Vec<u8> = tags.keys().copied().collect();
    assert_eq!(reached, [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12], "a codec was never chosen");
}

#[test]
fn nothing_and_a_full_block_round_trip() {
    let mut random = Random(7);
    for len in [0, MAX_BLOCK_LEN] {
        for shape in 0..INTEGER_SHAPES {
            let values = integers(&mut random, shape, len);
            round_trip_integers(&values, &shape);
            round_trip_times(&values, &shape);
        }
        for shape in 0..FLOAT_SHAPES {
            round_trip_floats(&floats(&mut random, shape, len), FloatHint::default(), &shape);
        }
        round_trip_booleans(&booleans(&mut random, 1, len), &len);
        round_trip_texts(&texts(&mut random, 1, len), &len);
        round_trip_ids(&vec![u32::MAX; len], &len);
    }
}

#[test]
fn every_odd_value_alone_and_repeated_comes_back() {
    let mut random = Random(11);
    for len in [1, 2, 130] {
        for value in ODD_FLOATS {
            round_trip_floats(&vec![value; len], FloatHint::default(), &value);
        }
        for value in integers(&mut random, 3, 50).into_iter().chain(integers(&mut random, 2, 50)) {
            round_trip_integers(&vec![value; len], &value);
            round_trip_times(&vec![value; len], &value);
        }
    }
}

#[test]
fn vector_and_scalar_kernels_agree() {
    use codec::{Dispatch, dispatch};
    if dispatch(None) == Dispatch::Scalar {
        println!("skipped: this processor has no AVX2, there is only one copy of the kernels");
        return;
    }
    let mut random = Random(31);
    for len in [1, 100, 128, 131, 960, 1024] {
        for shape in 0..INTEGER_SHAPES.max(FLOAT_SHAPES) {
            let ints = integers(&mut random, shape, len);
            let reals = floats(&mut random, shape % FLOAT_SHAPES, len);
            let encode = || {
                let mut blocks = [Vec::new(), Vec::new(), Vec::new()];
                codec::encode_integers(&ints, &mut blocks[0]);
                codec::encode_times(&ints, &mut blocks[1]);
                codec::encode_floats(&reals, &mut FloatHint::default(), &mut blocks[2]);
                blocks
            };
            let mut blocks = encode().to_vec();
            dispatch(Some(Dispatch::Scalar));
            assert_eq!(encode().as_slice(), blocks.as_slice(), "shape {shape}, {len} values");
            // Damaged blocks reach integers that no encoder writes.
            for i in 0..3 {
                for _ in 0..20 {
                    let mut damaged = blocks[i].clone();
                    let at = random.below(damaged.len() as u64) as usize;
                    damaged[at] ^= 1 << random.below(8);
                    blocks.push(damaged);
                }
            }
            for block in &blocks {
                let decode = || (DECODERS[0].1(block, len), DECODERS[1].1(block, len));
                dispatch(Some(Dispatch::Scalar));
                let scalar = decode();
                assert_eq!(dispatch(Some(Dispatch::Avx2)), Dispatch::Avx2);
                assert_eq!(decode(), scalar, "shape {shape}, {len} values");
                if len > 0 {
                    folds::both_kernels_agree(block, len);
                }
            }
        }
    }
    // The division itself, over every exponent and the whole range of its integers.
    for exponent in 0..10_u32 {
        for _ in 0..200 {
            let limit = random.below(51);
            let values: Vec<f64> = (0..128)
                .map(|_| (random.next() as i64 >> (63 - limit)) as f64 / 10_f64.powi(exponent as i32))
                .collect();
            let block = round_trip_floats(&values, FloatHint::default(), &exponent);
            dispatch(Some(Dispatch::Scalar));
            round_trip_floats(&values, FloatHint::default(), &exponent);
            assert_eq!(
                DECODERS[0].1(&block, 128).unwrap(),
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            );
            dispatch(Some(Dispatch::Avx2));
        }
    }
}

#[test]
fn presence_comes_back_in_its_cheapest_form() {
    let mut random = Random(51);
    let check = |rows: &[u32], row_count: u32, form: Option<u8>, most: usize| {
        let mut bytes = Vec::new();
        codec::encode_positions(rows, row_count, &mut bytes);
        let mut back = vec![9];
        codec::decode_positions(&bytes, row_count, &mut back).unwrap();
        assert_eq!(&back[1..], rows);
        assert!(bytes.len() <= most, "{} bytes", bytes.len());
        assert!(form.is_none_or(|form| bytes[0] == form), "form {}", bytes[0]);
        for end in 0..bytes.len() {
            assert!(codec::decode_positions(&bytes[..end], row_count, &mut Vec::new()).is_err());
        }
    };
    let all: Vec<u32> = (0..1000).collect();
    check(&all, 1000, Some(0), 1);
    check(&[], 0, Some(0), 1);
    check(&all[17..600], 1000, Some(2), 5);
    check(&[3, 500, 999], 1000, Some(3), 7);
    check(&[], 1000, None, 2);
    let half: Vec<u32> = all.iter().copied().filter(|row| row % 2 == 0).collect();
    check(&half, 1000, Some(1), 126);
    check(&[0, 65_535], 65_536, Some(3), 6);
    for round in 0..400 {
        let rows: Vec<u32> = (0..random.below(1100) as u32).filter(|_| random.chance(round / 4)).collect();
        let row_count = rows.last().map_or(0, |row| row + 1) + random.below(5) as u32;
        check(&rows, row_count, None, 1 + row_count.div_ceil(8) as usize);
    }
}
