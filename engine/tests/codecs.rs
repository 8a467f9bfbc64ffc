//! One suite for all codecs: bit-exact round trips, and decoders that are total under any damage.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use wattlog_engine::codec::{self, DecodeError, FloatHint, MAX_BLOCK_LEN};

/// Small deterministic generator (SplitMix64): one printed seed names a whole run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Within -`most`..=`most`, small ones more often.
    fn noise(&mut self, most: i64) -> i64 {
        let sum: i64 = (0..3).map(|_| self.below(2 * most as u64 + 1) as i64 - most).sum();
        sum / 3
    }
}

/// Lengths around every boundary of a mini-block and of the packed lanes.
const LENGTHS: [usize; 17] = [1, 2, 3, 4, 5, 17, 31, 127, 128, 129, 255, 256, 257, 960, 1000, 1024, 2500];

/// Shapes of integer columns, from the friendly to the hostile.
fn integers(random: &mut Random, shape: usize, len: usize) -> Vec<i64> {
    let limits = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let base = random.next() as i64 >> random.below(64);
    let width = random.below(64);
    let mut level = base;
    (0..len as i64)
        .map(|i| match shape {
            0 => base,
            1 => random.next() as i64,
            2 => random.next() as i64 >> width,
            3 => limits[random.below(7) as usize],
            4 => base.wrapping_add(i.wrapping_mul(10_000)),
            5 => base.wrapping_sub(i.wrapping_mul(7)),
            6 => {
                level = level.wrapping_add(random.noise(20));
                level
            }
            7 => {
                level = level.wrapping_add(random.noise(1000) + if random.chance(2) { 1 << 40 } else { 0 });
                level
            }
            8 => {
                if random.chance(3) {
                    level = random.below(4000) as i64;
                }
                level
            }
            9 => [1, -7, 100_000, 31, i64::MAX][random.below(5) as usize],
            10 => base.wrapping_add(i.wrapping_mul(10_000) + random.noise(50)),
            11 => random.noise(100) + if random.chance(4) { random.next() as i64 } else { 0 },
            12 => 1_000_000 * random.noise(1000),
            13 => {
                level =
                    level.wrapping_add(10_000 * (1 + i64::from(random.chance(3)) * random.below(50) as i64));
                level.wrapping_add(random.noise(40))
            }
            14 => i % 2 * i64::MAX,
            15 => 5000 - if random.chance(4) { random.below(4000) as i64 } else { random.below(16) as i64 },
            _ => (i / 37).wrapping_mul(i64::MAX / 3),
        })
        .collect()
}

const INTEGER_SHAPES: usize = 17;

const ODD_FLOATS: [f64; 16] = [
    0.0,
    -0.0,
    f64::NAN,
    f64::from_bits(0x7ff0_0000_dead_beef),
    f64::from_bits(0xfff8_0000_0000_0001),
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::from_bits(1),
    -f64::MIN_POSITIVE / 2.0,
    f64::MAX,
    f64::MIN,
    9_007_199_254_740_992.0,
    -9_007_199_254_740_991.0,
    2_251_799_813_685_248.0,
    1.48e23,
    0.1 + 0.2,
];

/// Shapes of float columns.
fn floats(random: &mut Random, shape: usize, len: usize) -> Vec<f64> {
    let power = 10_f64.powi(random.below(10) as i32);
    let constant = ODD_FLOATS[random.below(16) as usize];
    let mut level = random.below(1_000_000) as i64;
    let mut smooth = random.next() as f64;
    (0..len)
        .map(|_| match shape {
            0 => f64::from_bits(random.next()),
            1 => ODD_FLOATS[random.below(16) as usize],
            2 => constant,
            3 => {
                level += random.noise(30);
                level as f64 / power
            }
            4 => {
                level += random.noise(30);
                if random.chance(4) { ODD_FLOATS[random.below(16) as usize] } else { level as f64 / power }
            }
            5 => {
                smooth *= 1.0 + random.noise(1000) as f64 * 1e-9;
                smooth
            }
            6 => (random.next() as i64 >> 11) as f64 / power,
            7 => (random.next() as i64 >> random.below(64)) as f64,
            8 => random.below(1000) as f64 / 3.0,
            9 => {
                if random.chance(3) {
                    level = random.below(20_000) as i64;
                }
                level as f64 / 10_000.0
            }
            10 => random.noise(5000) as f64 / if random.chance(5) { 1000.0 } else { 10.0 },
            11 => 1e-310 * random.below(100) as f64,
            _ => -(random.below(100) as f64) / 100.0,
        })
        .collect()
}

const FLOAT_SHAPES: usize = 13;

fn booleans(random: &mut Random, shape: usize, len: usize) -> Vec<bool> {
    let stay = [0, 50, 97, 100][shape % 4];
    let mut value = random.chance(50);
    (0..len)
        .map(|_| {
            value ^= !random.chance(stay);
            value
        })
        .collect()
}

fn texts(random: &mut Random, shape: usize, len: usize) -> Vec<Arc<str>> {
    let modes = ["", "eco", "backup", "żółć 日本 🔋", "a longer text that says the same thing over and over"];
    let mut last: Arc<str> = modes[1].into();
    (0..len)
        .map(|i| {
            last = match shape {
                0 => "".into(),
                1 => modes[random.below(5) as usize].into(),
                2 => format!("event {i}: code {:016x}", random.next()).into(),
                3 if random.chance(90) => Arc::clone(&last),
                3 => modes[random.below(5) as usize].into(),
                _ => "x".repeat(random.below(2000) as usize).into(),
            };
            Arc::clone(&last)
        })
        .collect()
}

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

/// A decoder that forgets its type: how many values it gave, as bit patterns, or the error.
type Decoder = fn(&[u8], usize) -> Result<Vec<u64>, DecodeError>;

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

const DECODERS: [(&str, Decoder); 7] = [
    ("floats", |bytes, count| total(codec::decode_floats, 0.5, |v| v.to_bits(), bytes, count)),
    ("integers", |bytes, count| total(codec::decode_integers, 5, |v| *v as u64, bytes, count)),
    ("unsigned", |bytes, count| total(codec::decode_unsigned, 5, |v| *v, bytes, count)),
    ("times", |bytes, count| total(codec::decode_times, 5, |v| *v as u64, bytes, count)),
    ("booleans", |bytes, count| total(codec::decode_booleans, true, |v| u64::from(*v), bytes, count)),
    ("texts", |bytes, count| total(decode_few_texts, "x".into(), |v| v.len() as u64, bytes, count)),
    ("ids", |bytes, count| total(codec::decode_string_ids, 5, |v| u64::from(*v), bytes, count)),
];

/// With the small limit a container would give.
fn decode_few_texts(bytes: &[u8], count: usize, out: &mut Vec<Arc<str>>) -> Result<(), DecodeError> {
    codec::decode_strings(bytes, count, 1 << 16, out)
}

/// Every decoder, the sums and the presence forms over the same bytes; nothing to assert but that they return.
fn throw_at_all(bytes: &[u8], count: usize) {
    for (_, decode) in DECODERS {
        let _ = decode(bytes, count);
    }
    let _ = codec::sum_floats(bytes, count);
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
                let decode = || {
                    let sum = codec::sum_floats(block, len).map(|sum| sum.parts());
                    let bits = sum.map(|(nanos, high, low)| (nanos, high.to_bits(), low.to_bits()));
                    (DECODERS[0].1(block, len), DECODERS[1].1(block, len), bits)
                };
                dispatch(Some(Dispatch::Scalar));
                let scalar = decode();
                assert_eq!(dispatch(Some(Dispatch::Avx2)), Dispatch::Avx2);
                assert_eq!(decode(), scalar, "shape {shape}, {len} values");
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
fn a_block_adds_up_as_its_values_do() {
    let mut random = Random(41);
    for len in LENGTHS {
        for shape in 0..FLOAT_SHAPES {
            let values = floats(&mut random, shape, len);
            let block = round_trip_floats(&values, FloatHint::default(), &shape);
            let mut expected = wattlog_model::ExactSum::default();
            values.iter().for_each(|value| expected.add_float(*value));
            let sum = codec::sum_floats(&block, len).unwrap();
            assert_eq!(sum.value().to_bits(), expected.value().to_bits(), "shape {shape}, {len} values");
            assert_eq!(sum.parts().0, expected.parts().0, "shape {shape}, {len} values");
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
