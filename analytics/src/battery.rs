//! How hard a battery works and how much of the energy comes back.

use serde::{Deserialize, Serialize};

/// What a battery did over a period. Energies in kWh, at the place where its power is measured, none negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryPeriod {
    /// Into the battery.
    pub charge_kwh: f64,
    /// Out of the battery.
    pub discharge_kwh: f64,
    /// State of charge at the start, %; none if it is not known.
    pub soc_start_percent: Option<f64>,
    /// State of charge at the end, %; none if it is not known.
    pub soc_end_percent: Option<f64>,
}

/// Efficiency of a period, and how much of it rests on the state of charge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundTrip {
    /// Energy that came out, over energy that went in for it; 0..=1 but for errors of measurement.
    pub efficiency: f64,
    /// kWh by which the battery is fuller at the end (negative: emptier), by state of charge and capacity.
    pub stored_kwh: f64,
    /// `|stored|` over the energy charged: how much an error of the state of charge, or of the capacity, counts. With 0.1 an
    /// error of a tenth in the capacity moves the efficiency by about a hundredth.
    pub correction: f64,
}

impl BatteryPeriod {
    /// Equivalent full cycles: energy out over the usable capacity in kWh. None if the capacity is not above 0 or the
    /// energy is no number.
    ///
    /// # Source
    /// The usual measure of warranties: throughput of discharge / usable energy.
    pub fn full_cycles(&self, capacity_kwh: f64) -> Option<f64> {
        let cycles = self.discharge_kwh / capacity_kwh;
        (capacity_kwh > 0.0 && self.discharge_kwh >= 0.0 && cycles.is_finite()).then_some(cycles)
    }

    /// Round-trip efficiency: what came out over what went in, each corrected by what is stored at the end and was not at
    /// the start. With capacity C and stored s = C (SoC end - SoC start) / 100, losses l = charge - discharge - s; they are
    /// taken as equal for the energy that came out and for that still stored, so
    /// efficiency = (discharge + s) / charge if the battery got fuller, and discharge / (charge - s) if it got emptier.
    ///
    /// None if a state of charge is missing or outside 0..=100, the capacity is not above 0, an energy is negative or no
    /// number, nothing went in, or the correction is more than half of the energy that moved: then the answer would be
    /// made of the state of charge alone.
    pub fn round_trip(&self, capacity_kwh: f64) -> Option<RoundTrip> {
        let percent = |soc: Option<f64>| soc.filter(|soc| (0.0..=100.0).contains(soc));
        let (start, end) = (percent(self.soc_start_percent)?, percent(self.soc_end_percent)?);
        let (charge, discharge) = (self.charge_kwh, self.discharge_kwh);
        let sound = [charge, discharge, capacity_kwh].iter().all(|value| value.is_finite());
        if !sound || capacity_kwh <= 0.0 || charge <= 0.0 || discharge < 0.0 {
            return None;
        }
        let stored_kwh = capacity_kwh * (end - start) / 100.0;
        let efficiency = if stored_kwh >= 0.0 {
            (discharge + stored_kwh) / charge
        } else {
            discharge / (charge - stored_kwh)
        };
        let correction = stored_kwh.abs() / charge.max(discharge);
        (correction <= 0.5 && efficiency.is_finite()).then_some(RoundTrip {
            efficiency,
            stored_kwh,
            correction,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(charge_kwh: f64, discharge_kwh: f64, start: f64, end: f64) -> BatteryPeriod {
        let (soc_start_percent, soc_end_percent) = (Some(start), Some(end));
        BatteryPeriod { charge_kwh, discharge_kwh, soc_start_percent, soc_end_percent }
    }

    #[test]
    fn cycles_are_discharge_over_capacity() {
        assert_eq!(period(60.0, 50.0, 10.0, 10.0).full_cycles(10.0), Some(5.0));
        assert_eq!(period(0.0, 0.0, 10.0, 10.0).full_cycles(10.0), Some(0.0));
        for capacity in [0.0, -1.0, f64::NAN, f64::INFINITY - f64::INFINITY] {
            assert_eq!(period(60.0, 50.0, 10.0, 10.0).full_cycles(capacity), None);
        }
        assert_eq!(period(60.0, f64::NAN, 10.0, 10.0).full_cycles(10.0), None);
    }

    #[test]
    fn what_is_stored_is_no_loss_and_what_was_stored_is_no_gain() {
        let check = |battery: BatteryPeriod, efficiency: f64, stored: f64| {
            let found = battery.round_trip(10.0).unwrap();
            assert!((found.efficiency - efficiency).abs() < 1e-12, "{found:?}");
            assert!((found.stored_kwh - stored).abs() < 1e-12, "{found:?}");
        };
        check(period(100.0, 90.0, 50.0, 50.0), 0.9, 0.0);
        // Four kWh more at the end: 86 came out and 4 are there.
        check(period(100.0, 86.0, 20.0, 60.0), 0.9, 4.0);
        // Five kWh less: 100 + 5 gave 94.5.
        check(period(100.0, 94.5, 80.0, 30.0), 0.9, -5.0);
        assert_eq!(period(100.0, 86.0, 20.0, 60.0).round_trip(10.0).unwrap().correction, 0.04);
    }

    #[test]
    fn what_cannot_be_told_is_none() {
        assert_eq!(period(0.0, 5.0, 80.0, 30.0).round_trip(10.0), None);
        assert_eq!(period(10.0, 3.0, 10.0, 70.0).round_trip(10.0), None, "mostly state of charge");
        assert_eq!(period(10.0, 9.0, 10.0, 65_535.0).round_trip(10.0), None);
        assert_eq!(period(10.0, 9.0, f64::NAN, 10.0).round_trip(10.0), None);
        assert_eq!(period(10.0, 9.0, 10.0, 10.0).round_trip(0.0), None);
        assert_eq!(period(10.0, -9.0, 10.0, 10.0).round_trip(10.0), None);
        let unknown = BatteryPeriod { soc_end_percent: None, ..period(10.0, 9.0, 10.0, 10.0) };
        assert_eq!(unknown.round_trip(10.0), None);
    }
}
