//! The balance of power: PV + battery - grid = consumption.

use super::{Findings, QualityError, check_order, rule};
use crate::energy::PowerSample;
use serde::{Deserialize, Serialize};

/// How far the balance may be off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceTolerance {
    /// In W: what registers that are not read at one instant make of it.
    pub absolute_w: f64,
    /// Share of the largest of the four powers: losses of the inverter.
    pub share: f64,
    /// A violation of no longer than this is none (a load switched on between two registers).
    pub shortest_ns: i64,
}

/// Rows of samples whose balance is off by more than allowed, for longer than allowed. `worst` is the largest error in W,
/// PV + battery - grid - consumption, with its sign. Samples that lack one of the four powers do not belong in the list.
///
/// # Errors
/// See [`QualityError`].
pub fn balance_violations(
    samples: &[PowerSample],
    tolerance: BalanceTolerance,
) -> Result<Findings, QualityError> {
    let sound = |number: f64| number.is_finite() && number >= 0.0;
    let is_sound = sound(tolerance.absolute_w) && sound(tolerance.share) && tolerance.shortest_ns >= 0;
    rule(is_sound, "balance", "tolerances must be numbers of at least 0")?;
    check_samples(samples)?;
    let rows = samples.iter().map(|sample| {
        let powers = sample.powers;
        let error = powers.pv_w + powers.battery_w - powers.grid_w - powers.consumption_w;
        let sizes = [powers.pv_w, powers.battery_w, powers.grid_w, powers.consumption_w].map(f64::abs);
        let largest = sizes.into_iter().fold(0.0, f64::max);
        let limit = tolerance.absolute_w + tolerance.share * largest;
        (sample.time, (error.abs() > limit).then_some((error, error.abs())))
    });
    let mut findings = Findings::default();
    super::rows(rows, |_, row| {
        if row.last.0.saturating_sub(row.first.0) > tolerance.shortest_ns {
            findings.push(row);
        }
    });
    Ok(findings)
}

pub(super) fn check_samples(samples: &[PowerSample]) -> Result<(), QualityError> {
    check_order(samples.iter().map(|sample| sample.time))?;
    let finite = |sample: &PowerSample| {
        let powers = sample.powers;
        [powers.pv_w, powers.battery_w, powers.grid_w, powers.consumption_w]
            .iter()
            .all(|power| power.is_finite())
    };
    let bad = samples.iter().find(|sample| !finite(sample));
    bad.map_or(Ok(()), |sample| Err(QualityError::NotFinite { time: sample.time }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Powers;
    use wattlog_model::Timestamp;

    fn sample(second: i64, consumption_w: f64) -> PowerSample {
        let powers = Powers { pv_w: 3000.0, battery_w: -1000.0, grid_w: 500.0, consumption_w };
        PowerSample { time: Timestamp(second), powers }
    }

    const TOLERANCE: BalanceTolerance = BalanceTolerance { absolute_w: 50.0, share: 0.05, shortest_ns: 15 };

    #[test]
    fn a_balance_that_is_off_for_long_is_found_with_its_sign() {
        // The limit is 50 + 0.05 x 3000 = 200 W.
        let off = [1500.0, 1690.0, 1310.0, 1200.0, 1100.0, 1250.0, 1500.0, 900.0, 1500.0];
        let samples: Vec<PowerSample> = (0_i64..).zip(off).map(|(i, c)| sample(i * 10, c)).collect();
        let found = balance_violations(&samples, TOLERANCE).unwrap();
        assert_eq!((found.count, found.points), (1, 3));
        let row = found.stretches[0];
        assert_eq!((row.first.0, row.last.0, row.worst), (30, 50, 400.0));
    }

    #[test]
    fn a_violation_must_last_longer_than_the_shortest() {
        let off = [1500.0, 1000.0, 1000.0, 1000.0, 1500.0];
        let samples: Vec<PowerSample> = (0_i64..).zip(off).map(|(i, c)| sample(i * 10, c)).collect();
        let count = |shortest_ns| {
            balance_violations(&samples, BalanceTolerance { shortest_ns, ..TOLERANCE }).unwrap().count
        };
        assert_eq!((count(19), count(20)), (1, 0));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        assert!(matches!(
            balance_violations(&[sample(1, f64::NAN)], TOLERANCE),
            Err(QualityError::NotFinite { .. })
        ));
        assert!(matches!(
            balance_violations(&[sample(1, 1.0), sample(0, 1.0)], TOLERANCE),
            Err(QualityError::Order { .. })
        ));
        let bad = BalanceTolerance { absolute_w: -1.0, ..TOLERANCE };
        assert!(matches!(balance_violations(&[], bad), Err(QualityError::Rule { .. })));
    }
}
