//! Who fed whom: seven flows between PV, battery, grid and house, instant by instant.
//!
//! The rule of allocation. No meter tells which electron went where; this is an agreement, in this order:
//! 1. PV feeds the house, then the battery, then the grid.
//! 2. What the battery gives feeds the house, then the grid.
//! 3. What the grid gives feeds the house, then the battery.
//!
//! Each flow is the lesser of what its source has left and what its sink still wants. What is left at the end (registers
//! are not read at one instant, and inverters lose some energy) is told apart, as `source_left` and `sink_left`.

use super::WS_PER_KWH;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Power at one instant, in W; battery + = discharge, grid + = export.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Powers {
    /// From the roof; what is below 0 counts as 0.
    pub pv_w: f64,
    /// + = discharge.
    pub battery_w: f64,
    /// + = export.
    pub grid_w: f64,
    /// Of the house; what is below 0 counts as 0.
    pub consumption_w: f64,
}

/// Power of one instant that has a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerSample {
    /// When.
    pub time: Timestamp,
    /// All four powers; a sample that lacks one does not belong in the list.
    pub powers: Powers,
}

/// Seven flows and what no flow explains, in one unit (W or kWh). None is negative.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Flows {
    /// Used at once.
    pub pv_to_house: f64,
    /// Stored.
    pub pv_to_battery: f64,
    /// Sold at once.
    pub pv_to_grid: f64,
    /// Stored energy used.
    pub battery_to_house: f64,
    /// Stored energy sold.
    pub battery_to_grid: f64,
    /// Bought and used.
    pub grid_to_house: f64,
    /// Bought and stored.
    pub grid_to_battery: f64,
    /// Given by PV, battery or grid and taken by nobody.
    pub source_left: f64,
    /// Taken by house, battery or grid and given by nobody.
    pub sink_left: f64,
}

/// Flows of a period, and on how much of it they rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FlowEnergy {
    /// In kWh.
    pub kwh: Flows,
    /// Length of the steps that were counted, in nanoseconds.
    pub covered_ns: i64,
    /// Length of the period asked for, in nanoseconds.
    pub period_ns: i64,
}

/// Samples that cannot be integrated.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnergyError {
    /// Times do not rise.
    #[error("power samples must rise in time, but {later_ns} ns follows {earlier_ns} ns; sort them and keep one for each time", later_ns = .later.0, earlier_ns = .earlier.0)]
    Order {
        /// A time.
        earlier: Timestamp,
        /// What stands after it.
        later: Timestamp,
    },
    /// A power is no finite number.
    #[error("the power sample at {time_ns} ns holds a value that is no number: leave the sample out", time_ns = .time.0)]
    NotFinite {
        /// Its time.
        time: Timestamp,
    },
    /// The period is empty, or the largest gap allowed is less than a nanosecond.
    #[error("a period of {period_ns} ns with gaps of at most {max_gap_ns} ns: both must be more than 0")]
    Period {
        /// Length of the period.
        period_ns: i64,
        /// Largest gap.
        max_gap_ns: i64,
    },
}

impl Flows {
    /// The flows at an instant, in W.
    pub fn at(powers: Powers) -> Self {
        let (pv, house) = (powers.pv_w.max(0.0), powers.consumption_w.max(0.0));
        let (discharge, charge) = (powers.battery_w.max(0.0), (-powers.battery_w).max(0.0));
        let (export, import) = (powers.grid_w.max(0.0), (-powers.grid_w).max(0.0));
        let mut sources = [pv, discharge, import];
        let mut sinks = [house, charge, export];
        let mut allot = |source: usize, sink: usize| {
            let flow = sources[source].min(sinks[sink]);
            sources[source] -= flow;
            sinks[sink] -= flow;
            flow
        };
        let mut flows = Self {
            pv_to_house: allot(0, 0),
            pv_to_battery: allot(0, 1),
            pv_to_grid: allot(0, 2),
            battery_to_house: allot(1, 0),
            battery_to_grid: allot(1, 2),
            grid_to_house: allot(2, 0),
            grid_to_battery: allot(2, 1),
            ..Self::default()
        };
        flows.source_left = sources.iter().sum();
        flows.sink_left = sinks.iter().sum();
        flows
    }

    /// What the house got.
    pub fn house(&self) -> f64 {
        self.pv_to_house + self.battery_to_house + self.grid_to_house
    }

    /// Adds `other * factor` to each flow.
    fn add_scaled(&mut self, other: &Self, factor: f64) {
        self.pv_to_house += other.pv_to_house * factor;
        self.pv_to_battery += other.pv_to_battery * factor;
        self.pv_to_grid += other.pv_to_grid * factor;
        self.battery_to_house += other.battery_to_house * factor;
        self.battery_to_grid += other.battery_to_grid * factor;
        self.grid_to_house += other.grid_to_house * factor;
        self.grid_to_battery += other.grid_to_battery * factor;
        self.source_left += other.source_left * factor;
        self.sink_left += other.sink_left * factor;
    }
}

/// Flows over `range` from samples that rise in time. Neighbours further apart than `max_gap_ns` are not joined: what lies
/// between them is not counted. A step that reaches over an end of the range is cut there.
///
/// # Errors
/// See [`EnergyError`].
pub fn integrate_flows(
    samples: &[PowerSample],
    range: Range<Timestamp>,
    max_gap_ns: i64,
) -> Result<FlowEnergy, EnergyError> {
    let period_ns = range.end.0.saturating_sub(range.start.0);
    if period_ns < 1 || max_gap_ns < 1 {
        return Err(EnergyError::Period { period_ns, max_gap_ns });
    }
    if let Some(bad) = samples.iter().find(|sample| !sample.powers.is_finite()) {
        return Err(EnergyError::NotFinite { time: bad.time });
    }
    let mut watt_seconds = Flows::default();
    let mut covered_ns = 0;
    for pair in samples.windows(2) {
        let (earlier, later) = (pair[0].time, pair[1].time);
        if later <= earlier {
            return Err(EnergyError::Order { earlier, later });
        }
        let step_ns = later.0.saturating_sub(earlier.0);
        let (from, to) = (earlier.0.max(range.start.0), later.0.min(range.end.0));
        if step_ns > max_gap_ns || from >= to {
            continue;
        }
        let share = |ns: i64| (i128::from(ns) - i128::from(earlier.0)) as f64 / step_ns as f64;
        let at = |ns| pair[0].powers.towards(pair[1].powers, share(ns));
        add_step(&mut watt_seconds, at(from), at(to), (to - from) as f64 / 1e9);
        covered_ns += to - from;
    }
    let mut kwh = Flows::default();
    kwh.add_scaled(&watt_seconds, 1.0 / WS_PER_KWH);
    Ok(FlowEnergy { kwh, covered_ns, period_ns })
}

impl Powers {
    fn is_finite(self) -> bool {
        [self.pv_w, self.battery_w, self.grid_w, self.consumption_w].iter().all(|power| power.is_finite())
    }

    /// The powers at `share` (0..=1) of the way to `other`, on a line.
    fn towards(self, other: Self, share: f64) -> Self {
        let mix = |a: f64, b: f64| if share >= 1.0 { b } else { a + (b - a) * share };
        Self {
            pv_w: mix(self.pv_w, other.pv_w),
            battery_w: mix(self.battery_w, other.battery_w),
            grid_w: mix(self.grid_w, other.grid_w),
            consumption_w: mix(self.consumption_w, other.consumption_w),
        }
    }

    /// What may change sign where a flow has a kink: each power, the surplus of PV over the house, and the surplus
    /// after battery, grid or both.
    fn kinks(self) -> [f64; 8] {
        let surplus = self.pv_w.max(0.0) - self.consumption_w.max(0.0);
        let (battery, grid) = (self.battery_w, self.grid_w);
        [
            self.pv_w,
            self.consumption_w,
            battery,
            grid,
            surplus,
            surplus + battery,
            surplus - grid,
            surplus + battery - grid,
        ]
    }
}

/// Adds the flows of one step of `seconds`, in watt-seconds.
fn add_step(total: &mut Flows, from: Powers, to: Powers, seconds: f64) {
    // PV or house below 0 bends the surplus, so the other kinks are looked for between those two.
    let (first, last) = (from.kinks(), to.kinks());
    let mut bends = [0.0, 1.0, 1.0, 1.0];
    bends[1] = zero_crossing(first[0], last[0]).unwrap_or(1.0);
    bends[2] = zero_crossing(first[1], last[1]).unwrap_or(1.0);
    bends.sort_by(f64::total_cmp);
    for part in bends.windows(2).filter(|part| part[0] < part[1]) {
        let (start, end) = (from.towards(to, part[0]), from.towards(to, part[1]));
        let (first, last) = (start.kinks(), end.kinks());
        let mut cuts = [1.0; 8];
        cuts[0] = 0.0;
        for (cut, index) in cuts[1..7].iter_mut().zip(2..8) {
            *cut = zero_crossing(first[index], last[index]).unwrap_or(1.0);
        }
        cuts.sort_by(f64::total_cmp);
        for cut in cuts.windows(2).filter(|cut| cut[0] < cut[1]) {
            let length = seconds * (part[1] - part[0]) * (cut[1] - cut[0]);
            total.add_scaled(&Flows::at(start.towards(end, cut[0])), length / 2.0);
            total.add_scaled(&Flows::at(start.towards(end, cut[1])), length / 2.0);
        }
    }
}

/// Where, strictly between 0 and 1, the line from `from` to `to` crosses zero.
pub(crate) fn zero_crossing(from: f64, to: f64) -> Option<f64> {
    if (from < 0.0) == (to < 0.0) || from == 0.0 || to == 0.0 {
        return None;
    }
    let share = from / (from - to);
    (share > 0.0 && share < 1.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn powers(pv_w: f64, battery_w: f64, grid_w: f64, consumption_w: f64) -> Powers {
        Powers { pv_w, battery_w, grid_w, consumption_w }
    }

    #[test]
    fn the_rule_of_allocation_at_an_instant() {
        let check = |p: Powers, expected: [f64; 9]| {
            let f = Flows::at(p);
            let found = [
                f.pv_to_house,
                f.pv_to_battery,
                f.pv_to_grid,
                f.battery_to_house,
                f.battery_to_grid,
                f.grid_to_house,
                f.grid_to_battery,
                f.source_left,
                f.sink_left,
            ];
            assert_eq!(found, expected, "{p:?}");
        };
        // A sunny noon: house, battery, rest sold.
        check(powers(6000.0, -2000.0, 3000.0, 1000.0), [1000., 2000., 3000., 0., 0., 0., 0., 0., 0.]);
        // A cheap night: house and battery from the grid.
        check(powers(0.0, -3000.0, -3400.0, 400.0), [0., 0., 0., 0., 0., 400., 3000., 0., 0.]);
        // An evening peak: the battery feeds the house and sells; so does what PV is left.
        check(powers(500.0, 4000.0, 3500.0, 1000.0), [500., 0., 0., 500., 3500., 0., 0., 0., 0.]);
        // A dull day: PV and grid together charge.
        check(powers(1500.0, -3000.0, -2500.0, 1000.0), [1000., 500., 0., 0., 0., 0., 2500., 0., 0.]);
        // Registers of two instants: 30 W come from nowhere, the night's PV of -5 W is none.
        check(powers(-5.0, 0.0, -300.0, 330.0), [0., 0., 0., 0., 0., 300., 0., 0., 30.]);
        check(powers(100.0, 50.0, 0.0, 90.0), [90., 0., 0., 0., 0., 0., 0., 60., 0.]);
    }

    #[test]
    fn a_step_over_a_change_of_direction_is_split_where_power_is_zero() {
        // From charging 3 kW to discharging 1 kW in an hour, house 1 kW, grid does the rest.
        let samples = [
            PowerSample { time: Timestamp(0), powers: powers(0.0, -3000.0, -4000.0, 1000.0) },
            PowerSample { time: Timestamp(HOUR), powers: powers(0.0, 1000.0, 0.0, 1000.0) },
        ];
        let energy = integrate_flows(&samples, Timestamp(0)..Timestamp(HOUR), HOUR).unwrap();
        // Zero after 45 min: a triangle of 3 kW x 0.75 h, and one of 1 kW x 0.25 h.
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(energy.kwh.grid_to_battery, 1.125);
        close(energy.kwh.battery_to_house, 0.125);
        close(energy.kwh.grid_to_house, 0.875);
        close(energy.kwh.source_left + energy.kwh.sink_left, 0.0);
        assert_eq!((energy.covered_ns, energy.period_ns), (HOUR, HOUR));
    }

    #[test]
    fn gaps_are_not_filled_and_ends_are_cut() {
        let sample =
            |h: i64| PowerSample { time: Timestamp(h * HOUR), powers: powers(0.0, 0.0, -1000.0, 1000.0) };
        let samples = [sample(0), sample(1), sample(5), sample(6)];
        let range = Timestamp(HOUR / 2)..Timestamp(5 * HOUR + HOUR / 4);
        let energy = integrate_flows(&samples, range, HOUR).unwrap();
        assert!((energy.kwh.grid_to_house - 0.75).abs() < 1e-12);
        assert_eq!(energy.covered_ns, HOUR * 3 / 4);
        assert_eq!(energy.period_ns, HOUR * 19 / 4);
    }

    #[test]
    fn what_cannot_be_integrated_is_an_error() {
        let sample = |time, pv| PowerSample { time: Timestamp(time), powers: powers(pv, 0.0, 0.0, 0.0) };
        let ask =
            |samples: &[PowerSample], end, gap| integrate_flows(samples, Timestamp(0)..Timestamp(end), gap);
        assert!(matches!(ask(&[sample(1, 0.0), sample(1, 0.0)], 9, 9), Err(EnergyError::Order { .. })));
        assert!(matches!(ask(&[sample(1, f64::NAN)], 9, 9), Err(EnergyError::NotFinite { .. })));
        assert!(matches!(ask(&[], 0, 9), Err(EnergyError::Period { .. })));
        assert!(matches!(ask(&[], 9, 0), Err(EnergyError::Period { .. })));
        let empty = ask(&[], 9, 9).unwrap();
        assert_eq!((empty.covered_ns, empty.kwh), (0, Flows::default()));
        let far = [sample(i64::MIN + 1, 1.0), sample(i64::MAX - 1, 1.0)];
        assert_eq!(ask(&far, 9, i64::MAX).unwrap().covered_ns, 9);
    }

    proptest! {
        /// Many small steps without any cut come to the same as one exact step.
        #[test]
        fn exact_steps_agree_with_many_small_ones(
            a in proptest::array::uniform4(-50_i32..50), b in proptest::array::uniform4(-50_i32..50),
        ) {
            let from_array = |a: [i32; 4]| {
                let [pv, battery, grid, house] = a.map(|power| f64::from(power) * 100.0);
                powers(pv, battery, grid, house)
            };
            let (from, to) = (from_array(a), from_array(b));
            let mut exact = Flows::default();
            add_step(&mut exact, from, to, 3600.0);
            let mut fine = Flows::default();
            let count = 4000;
            for i in 0..count {
                let middle = from.towards(to, (f64::from(i) + 0.5) / f64::from(count));
                fine.add_scaled(&Flows::at(middle), 3600.0 / f64::from(count));
            }
            let list = |f: &Flows| [
                f.pv_to_house, f.pv_to_battery, f.pv_to_grid, f.battery_to_house, f.battery_to_grid, f.grid_to_house,
                f.grid_to_battery, f.source_left, f.sink_left,
            ];
            for (exact, fine) in list(&exact).into_iter().zip(list(&fine)) {
                // One small step is 0.9 s and moves at most 20 kW (two sums of four powers) / 4000.
                prop_assert!((exact - fine).abs() < 40.0, "{exact} {fine}");
                prop_assert!(exact >= 0.0);
            }
            let given = |p: Powers| p.pv_w.max(0.0) + p.battery_w.max(0.0) + (-p.grid_w).max(0.0);
            let flows = Flows::at(from);
            let out = flows.house() + flows.pv_to_battery + flows.pv_to_grid + flows.battery_to_grid
                + flows.grid_to_battery + flows.source_left;
            prop_assert!((given(from) - out).abs() < 1e-6);
        }
    }
}
