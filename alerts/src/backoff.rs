//! When a delivery is tried again. Pure: the jitter comes from the delivery and the attempt, so the same is the same again.

use crate::config::RetryConfig;
use std::time::Duration;

/// Wait before the attempt after number `attempts` (from 1): `first`, twice as long each time, at most `longest`, each a tenth
/// more or less by `seed`; as long as the channel asks for, if that is longer, but no longer than `longest`.
pub(crate) fn wait(retry: &RetryConfig, attempts: u32, seed: u64, asked: Option<Duration>) -> Duration {
    let (first, longest) = (retry.first.0, retry.longest.0);
    let doubled =
        first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX).max(1));
    let share = 0.9 + 0.2 * unit(seed ^ u64::from(attempts).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    doubled.min(longest).mul_f64(share).max(asked.unwrap_or_default()).min(longest)
}

/// 0 up to 1, evenly: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_a_little() {
        let retry = RetryConfig::default();
        let secs = |attempts, seed| wait(&retry, attempts, seed, None).as_secs_f64();
        for (attempts, usual) in [(1, 5.0), (2, 10.0), (5, 80.0), (10, 2560.0)] {
            for seed in 0..200 {
                let waits = secs(attempts, seed);
                assert!((0.9 * usual..=1.1 * usual).contains(&waits), "{attempts} {waits}");
            }
        }
        for attempts in [11, 33, 1000, u32::MAX] {
            assert!((3240.0..=3600.0).contains(&secs(attempts, 7)), "{attempts}");
        }
        assert_ne!(secs(3, 1).to_bits(), secs(3, 2).to_bits());
    }

    #[test]
    fn what_the_channel_asks_for_is_obeyed_within_bounds() {
        let retry = RetryConfig::default();
        assert_eq!(wait(&retry, 1, 0, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(wait(&retry, 1, 0, Some(Duration::from_secs(999_999))), Duration::from_secs(3600));
        assert!(wait(&retry, 1, 0, Some(Duration::ZERO)) >= Duration::from_secs(4));
    }
}
