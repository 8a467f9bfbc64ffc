//! Columns to encode, from the friendly to the hostile, out of one seed.

use std::sync::Arc;

/// Small deterministic generator (SplitMix64): one printed seed names a whole run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Within -`most`..=`most`, small ones more often.
    fn noise(&mut self, most: i64) -> i64 {
        let sum: i64 = (0..3).map(|_| self.below(2 * most as u64 + 1) as i64 - most).sum();
        sum / 3
    }
}

/// Lengths around every boundary of a mini-block and of the packed lanes.
pub(crate) const LENGTHS: [usize; 17] =
    [1, 2, 3, 4, 5, 17, 31, 127, 128, 129, 255, 256, 257, 960, 1000, 1024, 2500];

/// Shapes of integer columns, from the friendly to the hostile.
pub(crate) fn integers(random: &mut Random, shape: usize, len: usize) -> Vec<i64> {
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

pub(crate) const INTEGER_SHAPES: usize = 17;

pub(crate) const ODD_FLOATS: [f64; 16] = [
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
pub(crate) fn floats(random: &mut Random, shape: usize, len: usize) -> Vec<f64> {
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

pub(crate) const FLOAT_SHAPES: usize = 13;

pub(crate) fn booleans(random: &mut Random, shape: usize, len: usize) -> Vec<bool> {
    let stay = [0, 50, 97, 100][shape % 4];
    let mut value = random.chance(50);
    (0..len)
        .map(|_| {
            value ^= !random.chance(stay);
            value
        })
        .collect()
}

pub(crate) fn texts(random: &mut Random, shape: usize, len: usize) -> Vec<Arc<str>> {
    let modes = ["", "eco", "backup", "żółć 日本 🔋", "a longer text that says the same thing over and over"];
    let mut last: Arc<str> = modes[1].into();
    (0..len)
        .map(|i| {
            last = match shape {
                0 => "".into(),
                2 => format!("event {i}: code {:016x}", random.next()).into(),
                3 if random.chance(90) => Arc::clone(&last),
                1 | 3 => modes[random.below(5) as usize].into(),
                _ => "x".repeat(random.below(2000) as usize).into(),
            };
            Arc::clone(&last)
        })
        .collect()
}
