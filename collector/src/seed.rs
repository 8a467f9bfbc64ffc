//! Numbers that look random and are the same for the same seed.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and three mixings per number, any seed is good.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// In `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        to_unit(self.next_u64())
    }

    /// In `first..end`.
    pub(crate) fn between(&mut self, first: f64, end: f64) -> f64 {
        first + (end - first) * self.unit()
    }
}

/// A number in `0.0..1.0` that belongs to this seed, this kind of thing and this place, whatever was asked before.
pub(crate) fn unit_at(seed: u64, kind: u64, place: i64) -> f64 {
    to_unit(mix(mix(seed ^ kind.wrapping_mul(0xD6E8_FEB8_6659_FD93)) ^ place as u64))
}

/// A seed that belongs to a text.
pub(crate) fn of_text(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| mix(hash ^ u64::from(byte)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

fn to_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_seed_alone_and_fill_their_range() {
        let draw = |seed: u64| {
            let mut rng = Rng::new(seed);
            (0..1_000).map(|_| rng.between(-1.0, 1.0)).collect::<Vec<f64>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|number| (-1.0..1.0).contains(number)));
        assert!(draw(7).iter().sum::<f64>().abs() < 60.0);
        assert_ne!(unit_at(1, 2, 3), unit_at(1, 3, 2));
        assert_ne!(of_text("roof"), of_text("barn"));
    }
}
