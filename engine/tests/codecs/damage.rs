//! Decoders are total: truncated, flipped and random bytes give values or an error, in bounded memory.

use super::packed::{packed_floats, packed_integers};
use super::shapes::{FLOAT_SHAPES, INTEGER_SHAPES, Random, booleans, floats, integers, texts};
use super::{
    round_trip_booleans, round_trip_floats, round_trip_ids, round_trip_integers, round_trip_texts,
    round_trip_times,
};
use std::sync::Arc;
use wattlog_engine::codec::{self, DecodeError, FloatHint, MAX_BLOCK_LEN};

/// A decoder that forgets its type: how many values it gave, as bit patterns, or the error.
pub(crate) type Decoder = fn(&[u8], usize) -> Result<Vec<u64>, DecodeError>;

/// Runs a decoder behind one value that is already there and checks what must hold whatever the bytes are.
fn total<T: Clone>(
    decode: impl Fn(&[u8], usize, &mut Vec<T>) -> Result<(), DecodeError>,
    first: T,
    bits: impl Fn(&T) -> u64,
    bytes: &[u8],
    count: usize,
) -> Result<Vec<u64>, DecodeError> {
    let mut out = vec![first];
    let result = decode(bytes, count, &mut out);
    assert!(
        out.capacity() <= 2 * count.min(MAX_BLOCK_LEN) + 16,
        "{} places for {count} values",
        out.capacity()
    );
    assert_eq!(out.len(), if result.is_ok() { count + 1 } else { 1 });
    result.map(|()| out[1..].iter().map(bits).collect())
}

pub(crate) const DECODERS: [(&str, Decoder); 7] = [
    ("floats", |bytes, count| total(codec::decode_floats, 0.5, |v| v.to_bits(), bytes, count)),
    ("integers", |bytes, count| total(codec::decode_integers, 5, |v| *v as u64, bytes, count)),
    ("unsigned", |bytes, count| total(codec::decode_unsigned, 5, |v| *v, bytes, count)),
    ("times", |bytes, count| total(codec::decode_times, 5, |v| *v as u64, bytes, count)),
    ("booleans", |bytes, count| total(codec::decode_booleans, true, |v| u64::from(*v), bytes, count)),
    ("texts", |bytes, count| total(decode_few_texts, "x".into(), |v| v.len() as u64, bytes, count)),
    ("ids", |bytes, count| total(codec::decode_string_ids, 5, |v| u64::from(*v), bytes, count)),
];

/// With the small limit a container would give.
pub(crate) fn decode_few_texts(
    bytes: &[u8],
    count: usize,
    out: &mut Vec<Arc<str>>,
) -> Result<(), DecodeError> {
    codec::decode_strings(bytes, count, 1 << 16, out)
}

/// Every decoder, the folds and the presence forms over the same bytes; nothing to assert but that they return.
fn throw_at_all(bytes: &[u8], count: usize) {
    for (_, decode) in DECODERS {
        let _ = decode(bytes, count);
    }
    if count > 0 {
        for fold in [codec::fold_floats, codec::fold_integers, codec::fold_unsigned] {
            let _ = fold(bytes, count, &[count as u32], codec::Wanted::Extremes, &mut Vec::new());
        }
    }
    let mut rows = vec![7];
    let result = codec::decode_positions(bytes, count as u32, &mut rows);
    assert!(rows.len() <= count + 1 && (result.is_ok() || rows == [7]));
    assert!(rows[1..].is_sorted_by(|a, b| a < b) && rows[1..].iter().all(|row| (*row as usize) < count));
}

/// One block of each shape and type, with its number of values.
fn blocks(random: &mut Random, len: usize) -> Vec<(Vec<u8>, usize)> {
    let mut blocks = Vec::new();
    for shape in 0..INTEGER_SHAPES {
        let values = integers(random, shape, len);
        blocks.push(round_trip_integers(&values, &shape));
        blocks.push(round_trip_times(&values, &shape));
    }
    for shape in 0..FLOAT_SHAPES {
        blocks.push(round_trip_floats(&floats(random, shape, len), FloatHint::default(), &shape));
    }
    for shape in 0..INTEGER_SHAPES {
        blocks.extend(packed_integers(&integers(random, shape, len)));
    }
    for shape in 0..FLOAT_SHAPES {
        blocks.extend(packed_floats(&floats(random, shape, len)));
    }
    for shape in 0..4 {
        blocks.push(round_trip_booleans(&booleans(random, shape, len), &shape));
        blocks.push(round_trip_texts(&texts(random, shape, len), &shape));
    }
    blocks.push(round_trip_ids(&(0..len as u32).map(|i| i % 9).collect::<Vec<_>>(), &len));
    blocks.into_iter().map(|block| (block, len)).collect()
}

#[test]
fn truncation_at_every_byte_is_an_error_for_its_own_decoder() {
    let mut random = Random(21);
    for len in [1, 5, 64, 128, 300] {
        for (block, count) in blocks(&mut random, len) {
            let whole: Vec<&str> = DECODERS
                .iter()
                .filter(|(_, decode)| decode(&block, count).is_ok())
                .map(|(name, _)| *name)
                .collect();
            assert!(!whole.is_empty());
            for end in 0..block.len() {
                for (name, decode) in DECODERS.iter().filter(|(name, _)| whole.contains(name)) {
                    assert!(
                        decode(&block[..end], count).is_err(),
                        "{name} took {end} of {} bytes",
                        block.len()
                    );
                }
                throw_at_all(&block[..end], count);
            }
            // One byte too many is no block either, except where zstd or padding would not know.
            let mut longer = block.clone();
            longer.push(0);
            for (name, decode) in DECODERS.iter().filter(|(name, _)| whole.contains(name)) {
                assert!(decode(&longer, count).is_err(), "{name} ignored a byte");
            }
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let mut random = Random(22);
    for len in [1, 7, 128, 200] {
        for (block, count) in blocks(&mut random, len) {
            let step = if block.len() > 400 { 7 } else { 1 };
            for bit in (0..block.len() * 8).step_by(step) {
                let mut damaged = block.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                throw_at_all(&damaged, count);
            }
        }
    }
    for (block, count) in blocks(&mut random, 1024) {
        for _ in 0..60 {
            let mut damaged = block.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] ^= 1 << random.below(8);
            }
            let other = [count, count - 1, count + 1, 1, 0, MAX_BLOCK_LEN][random.below(6) as usize];
            throw_at_all(&damaged, other);
        }
    }
}

#[test]
fn random_bytes_never_panic_nor_take_more_memory_than_was_asked_for() {
    let mut random = Random(23);
    for round in 0..60_000_u64 {
        let len = random.below(if round % 10 == 0 { 3000 } else { 60 }) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        // A likely start gets further than noise does.
        if let Some(first) = bytes.first_mut() {
            *first = (round % 14) as u8;
        }
        if let Some(second) = bytes.get_mut(1) {
            *second = [*second, 0, 1, 31, 0x81, 9][random.below(6) as usize];
        }
        let count = match random.below(8) {
            0 => MAX_BLOCK_LEN,
            1 => MAX_BLOCK_LEN + 1,
            2 => usize::MAX / 2,
            3 => 0,
            _ => random.below(1100) as usize,
        };
        for (_, decode) in DECODERS {
            if count > MAX_BLOCK_LEN {
                assert!(decode(&bytes, count).is_err());
            }
        }
        if count <= MAX_BLOCK_LEN {
            throw_at_all(&bytes, count);
        }
    }
}
