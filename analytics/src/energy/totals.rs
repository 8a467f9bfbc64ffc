//! Six totals of a period from samples of power, each quantity by itself: one that is missing does not take the others along.

use super::flow::{EnergyError, zero_crossing};
use super::{PeriodEnergy, WS_PER_KWH};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Power at one instant, in W, as far as it is known; battery + = discharge, grid + = export.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartialSample {
    /// When.
    pub time: Timestamp,
    /// From the roof; what is below 0 counts as 0.
    pub pv_w: Option<f64>,
    /// + = discharge.
    pub battery_w: Option<f64>,
    /// + = export.
    pub grid_w: Option<f64>,
    /// Of the house; what is below 0 counts as 0.
    pub consumption_w: Option<f64>,
}

/// Totals, and on how much of the period each rests.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TotalEnergy {
    /// A total of which no step was counted is `None`.
    pub energy: PeriodEnergy,
    /// Length of the steps that were counted, in nanoseconds: PV, battery, grid, consumption.
    pub covered_ns: [i64; 4],
}

/// Totals over `range` from samples that rise in time: power moves on a line between neighbours, and changes its sign where
/// that line does. Of each quantity, neighbours further apart than `max_gap_ns` are not joined; a step that reaches over an
/// end of the range is cut there.
///
/// # Errors
/// See [`EnergyError`].
pub fn integrate_totals(
    samples: &[PartialSample],
    range: Range<Timestamp>,
    max_gap_ns: i64,
) -> Result<TotalEnergy, EnergyError> {
    let period_ns = range.end.0.saturating_sub(range.start.0);
    if period_ns < 1 || max_gap_ns < 1 {
        return Err(EnergyError::Period { period_ns, max_gap_ns });
    }
    if let Some(pair) = samples.windows(2).find(|pair| pair[1].time <= pair[0].time) {
        return Err(EnergyError::Order { earlier: pair[0].time, later: pair[1].time });
    }
    let total = |power: fn(&PartialSample) -> Option<f64>| {
        let known = samples.iter().filter_map(|sample| Some((sample.time, power(sample)?)));
        integrate(known, &range, max_gap_ns)
    };
    let pv = total(|sample| sample.pv_w)?;
    let battery = total(|sample| sample.battery_w)?;
    let grid = total(|sample| sample.grid_w)?;
    let house = total(|sample| sample.consumption_w)?;
    let known = |of: &Integral, value: f64| (of.covered_ns > 0).then_some(value);
    Ok(TotalEnergy {
        energy: PeriodEnergy {
            pv_kwh: known(&pv, pv.positive_kwh),
            charge_kwh: known(&battery, battery.negative_kwh),
            discharge_kwh: known(&battery, battery.positive_kwh),
            import_kwh: known(&grid, grid.negative_kwh),
            export_kwh: known(&grid, grid.positive_kwh),
            consumption_kwh: known(&house, house.positive_kwh),
        },
        covered_ns: [pv, battery, grid, house].map(|of| of.covered_ns),
    })
}

/// What lies above and below zero; neither is negative.
#[derive(Debug, Clone, Copy, Default)]
struct Integral {
    positive_kwh: f64,
    negative_kwh: f64,
    covered_ns: i64,
}

fn integrate(
    samples: impl Iterator<Item = (Timestamp, f64)>,
    range: &Range<Timestamp>,
    max_gap_ns: i64,
) -> Result<Integral, EnergyError> {
    let mut sum = Integral::default();
    let mut before: Option<(Timestamp, f64)> = None;
    for (time, power) in samples {
        if !power.is_finite() {
            return Err(EnergyError::NotFinite { time });
        }
        let Some((start, first)) = before.replace((time, power)) else { continue };
        let step_ns = time.0.saturating_sub(start.0);
        let (from, to) = (start.0.max(range.start.0), time.0.min(range.end.0));
        if step_ns > max_gap_ns || from >= to {
            continue;
        }
        let at = |ns: i64| first + (power - first) * ((ns - start.0) as f64 / step_ns as f64);
        let (a, b) = (at(from), if to == time.0 { power } else { at(to) });
        let seconds = (to - from) as f64 / 1e9;
        let cut = zero_crossing(a, b).unwrap_or(1.0);
        sum.add(if cut < 1.0 { a / 2.0 } else { f64::midpoint(a, b) }, seconds * cut);
        sum.add(b / 2.0, seconds * (1.0 - cut));
        sum.covered_ns += to - from;
    }
    Ok(sum)
}

impl Integral {
    fn add(&mut self, mean_w: f64, seconds: f64) {
        let kwh = mean_w * seconds / WS_PER_KWH;
        if kwh > 0.0 {
            self.positive_kwh += kwh;
        } else {
            self.negative_kwh -= kwh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::{PowerSample, Powers, integrate_flows};
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn sample(time: i64, powers: [Option<f64>; 4]) -> PartialSample {
        let [pv_w, battery_w, grid_w, consumption_w] = powers;
        PartialSample { time: Timestamp(time), pv_w, battery_w, grid_w, consumption_w }
    }

    #[test]
    fn a_quantity_that_is_missing_leaves_the_others() {
        let samples = [
            sample(0, [Some(1000.0), None, Some(-400.0), Some(500.0)]),
            sample(HOUR / 2, [None, None, Some(-400.0), Some(500.0)]),
            sample(HOUR, [Some(1000.0), None, Some(400.0), None]),
        ];
        let total = integrate_totals(&samples, Timestamp(0)..Timestamp(HOUR), HOUR).unwrap();
        let energy = total.energy;
        assert_eq!(energy.pv_kwh, Some(1.0), "over the instant at which it was not read");
        assert_eq!((energy.charge_kwh, energy.discharge_kwh), (None, None));
        // 0.5 h at 400 W, then a quarter of an hour down to 0 and one up.
        assert!((energy.import_kwh.unwrap() - 0.25).abs() < 1e-12);
        assert!((energy.export_kwh.unwrap() - 0.05).abs() < 1e-12);
        assert_eq!(energy.consumption_kwh, Some(0.25));
        assert_eq!(total.covered_ns, [HOUR, 0, HOUR, HOUR / 2]);
        let narrow = integrate_totals(&samples, Timestamp(0)..Timestamp(HOUR), HOUR / 2).unwrap();
        assert_eq!(narrow.energy.pv_kwh, None, "its samples are too far apart");
    }

    #[test]
    fn what_cannot_be_integrated_is_an_error() {
        let one = |time| sample(time, [Some(1.0), None, None, None]);
        let ask = |samples: &[PartialSample], end, gap| {
            integrate_totals(samples, Timestamp(0)..Timestamp(end), gap)
        };
        assert!(matches!(ask(&[one(1), one(1)], 9, 9), Err(EnergyError::Order { .. })));
        assert!(matches!(ask(&[], 0, 9), Err(EnergyError::Period { .. })));
        assert!(matches!(ask(&[], 9, 0), Err(EnergyError::Period { .. })));
        let nan = sample(1, [None, None, Some(f64::NAN), None]);
        assert!(matches!(ask(&[nan], 9, 9), Err(EnergyError::NotFinite { .. })));
        assert_eq!(ask(&[], 9, 9).unwrap(), TotalEnergy::default());
    }

    proptest! {
        /// Parts of a period add up to it, and where all is known the totals are those of the flows.
        #[test]
        fn parts_add_up_and_agree_with_flows(
            powers in proptest::collection::vec(proptest::array::uniform4(-50_i32..50), 2..20),
            cut in 1_i64..1000,
        ) {
            let end = (powers.len() as i64 - 1) * HOUR;
            let cut = end * cut / 1000;
            prop_assume!(cut > 0 && cut < end);
            let w = |power: i32| f64::from(power) * 100.0;
            let samples: Vec<_> = powers.iter().enumerate().map(|(i, p)| {
                sample(i as i64 * HOUR, p.map(|power| Some(w(power))))
            }).collect();
            let ask = |range: Range<i64>| {
                integrate_totals(&samples, Timestamp(range.start)..Timestamp(range.end), HOUR).unwrap().energy
            };
            let list = |e: PeriodEnergy| [
                e.pv_kwh, e.charge_kwh, e.discharge_kwh, e.import_kwh, e.export_kwh, e.consumption_kwh,
            ].map(Option::unwrap);
            let (whole, first, second) = (list(ask(0..end)), list(ask(0..cut)), list(ask(cut..end)));
            for i in 0..6 {
                prop_assert!((whole[i] - first[i] - second[i]).abs() < 1e-9);
            }
            let full: Vec<_> = powers.iter().enumerate().map(|(i, p)| PowerSample {
                time: Timestamp(i as i64 * HOUR),
                powers: Powers { pv_w: w(p[0]), battery_w: w(p[1]), grid_w: w(p[2]), consumption_w: w(p[3]) },
            }).collect();
            let flows = integrate_flows(&full, Timestamp(0)..Timestamp(end), HOUR).unwrap().kwh;
            let given = flows.pv_to_house + flows.pv_to_battery + flows.pv_to_grid + flows.battery_to_house
                + flows.battery_to_grid + flows.grid_to_house + flows.grid_to_battery + flows.source_left;
            prop_assert!((whole[0] + whole[2] + whole[3] - given).abs() < 1e-9);
        }
    }
}
