//! Values far from their neighbours on both sides.
//!
//! A step is no spike: it agrees with one side. Medians do not move by a few wild values, so several spikes near each
//! other are found, as long as fewer than half of each side are wild and no value is wild four times.

use super::{Findings, QualityError, Stretch, check_points, median, rule};
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// When a value counts as a spike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeRule {
    /// Points on each side that are looked at, 3..=100.
    pub side: usize,
    /// A spike is further from the median of each side than so many times the spread (1.4826 x the median absolute
    /// deviation, which is the standard deviation of normal noise).
    pub spreads: f64,
    /// And further than this, in the unit of the field: the noise of a sensor that stands still has no spread.
    pub least: f64,
}

/// Points that are too far above, or too far below, both their sides. The first and last `side` points are judged by fewer
/// neighbours, but never by less than three on a side.
///
/// # Errors
/// See [`QualityError`].
/// # Source
/// The decision filter of Hampel (F. R. Hampel, JASA 69 (1974), 383-393), asked of each side by itself.
pub fn spikes(points: &[(Timestamp, f64)], limits: SpikeRule) -> Result<Findings, QualityError> {
    let mut findings = Findings::default();
    visit(points, limits, |_, spike| findings.push(spike))?;
    Ok(findings)
}

/// As [`spikes`], each with its place.
pub(super) fn visit(
    points: &[(Timestamp, f64)],
    limits: SpikeRule,
    mut found: impl FnMut(usize, Stretch),
) -> Result<(), QualityError> {
    rule((3..=100).contains(&limits.side), "spikes", "3 to 100 points must be looked at on each side")?;
    let sound =
        limits.spreads.is_finite() && limits.spreads > 0.0 && limits.least.is_finite() && limits.least > 0.0;
    rule(sound, "spikes", "spreads and least must be numbers above 0")?;
    check_points(points)?;
    let mut values = Vec::with_capacity(limits.side);
    for (i, (time, value)) in points.iter().enumerate() {
        let left = &points[i.saturating_sub(limits.side)..i];
        let right = &points[i + 1..(i + 1 + limits.side).min(points.len())];
        let (Some(left), Some(right)) = (side(left, &mut values), side(right, &mut values)) else { continue };
        let (from_left, from_right) = (value - left.median, value - right.median);
        let nearest = from_left.abs().min(from_right.abs());
        let limit = (limits.spreads * left.spread.max(right.spread)).max(limits.least);
        let is_far = (from_left > 0.0) == (from_right > 0.0) && nearest > limit;
        if is_far && company(points, i, limits.side, nearest / 2.0) < 3 {
            found(i, Stretch { first: *time, last: *time, points: 1, worst: *value });
        }
    }
    Ok(())
}

/// How many of the neighbours on both sides are within `distance` of the point: a value that comes again and again (a
/// heater that switches) is no spike.
fn company(points: &[(Timestamp, f64)], at: usize, side: usize, distance: f64) -> usize {
    let value = points[at].1;
    let around = &points[at.saturating_sub(side)..(at + 1 + side).min(points.len())];
    // The point itself is within any distance.
    around.iter().filter(|(_, other)| (other - value).abs() <= distance).count() - 1
}

struct Side {
    median: f64,
    spread: f64,
}

fn side(points: &[(Timestamp, f64)], values: &mut Vec<f64>) -> Option<Side> {
    if points.len() < 3 {
        return None;
    }
    values.clear();
    values.extend(points.iter().map(|(_, value)| *value));
    let middle = median(values)?;
    values.iter_mut().for_each(|value| *value = (*value - middle).abs());
    Some(Side { median: middle, spread: 1.4826 * median(values)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[f64]) -> Vec<i64> {
        let points: Vec<(Timestamp, f64)> = (0_i64..).zip(values).map(|(i, v)| (Timestamp(i), *v)).collect();
        let limits = SpikeRule { side: 5, spreads: 6.0, least: 10.0 };
        spikes(&points, limits).unwrap().stretches.iter().map(|stretch| stretch.first.0).collect()
    }

    #[test]
    fn spikes_up_and_down_but_no_steps() {
        let mut flat: Vec<f64> = vec![100.0; 30];
        assert!(found(&flat).is_empty());
        (flat[10], flat[20]) = (6553.5, 0.0);
        assert_eq!(found(&flat), [10, 20]);
        let step: Vec<f64> = (0..30).map(|i| if i < 15 { 100.0 } else { 4000.0 }).collect();
        assert!(found(&step).is_empty());
        let slope: Vec<f64> = (0..30).map(|i| f64::from(i) * 300.0).collect();
        assert!(found(&slope).is_empty());
        // Two neighbours that are wild together.
        let mut pair: Vec<f64> = vec![100.0; 30];
        (pair[10], pair[11]) = (900.0, 950.0);
        assert_eq!(found(&pair), [10, 11]);
    }

    #[test]
    fn a_value_that_comes_again_and_again_is_no_spike() {
        let switching: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 200.0 } else { 5.0 }).collect();
        assert!(found(&switching).is_empty());
    }

    #[test]
    fn noise_widens_the_limit_and_ends_are_left_alone() {
        let noisy: Vec<f64> = (0..40).map(|i| f64::from((i * 7919) % 200)).collect();
        assert!(found(&noisy).is_empty());
        assert!(found(&[9e9, 1.0, 1.0, 1.0, 1.0]).is_empty());
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn the_noisier_side_sets_the_limit() {
        let mut half: Vec<f64> = vec![20.0, 190.0, 60.0, 170.0, 10.0, 150.0, 40.0, 180.0, 90.0, 30.0];
        half.push(260.0);
        half.extend([100.0; 10]);
        assert!(found(&half).is_empty(), "{:?}", found(&half));
        half[10] = 900.0;
        assert_eq!(found(&half), [10]);
    }

    #[test]
    fn what_has_no_sense_is_refused() {
        let good = SpikeRule { side: 5, spreads: 6.0, least: 10.0 };
        for bad in [
            SpikeRule { side: 2, ..good },
            SpikeRule { side: 101, ..good },
            SpikeRule { spreads: 0.0, ..good },
            SpikeRule { least: f64::NAN, ..good },
        ] {
            assert!(matches!(spikes(&[], bad), Err(QualityError::Rule { .. })), "{bad:?}");
        }
    }
}
