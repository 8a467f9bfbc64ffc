//! The checks across the fields of one plant together.

use super::{
    BalanceTolerance, BatteryReading, ClockDrift, ClockReading, FieldName, Findings, Function, QualityError,
    SignVerdict, Signed, Source, Sourced, balance_violations, battery_sign_by_soc, clock_drift,
    sign_by_balance,
};
use crate::energy::PowerSample;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::{TagSet, Timestamp};

/// Names of the fields of a plant, all of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantFields {
    /// Measurement.
    pub measurement: String,
    /// Tags of the series.
    pub tags: TagSet,
    /// Field with the power of PV.
    pub pv: String,
    /// Field with the power of the battery.
    pub battery: String,
    /// Field with the power of the grid.
    pub grid: String,
    /// Field with the consumption.
    pub consumption: String,
    /// Field with the state of charge.
    pub soc: String,
    /// Field with the clock of the device.
    pub clock: String,
}

/// What is known of a plant over a range; each list rises in time and holds what is complete only.
#[derive(Debug, Clone, Copy)]
pub struct PlantData<'d> {
    /// The four powers.
    pub powers: &'d [PowerSample],
    /// Battery power and state of charge.
    pub battery: &'d [BatteryReading],
    /// The clock of the device.
    pub clock: &'d [ClockReading],
}

/// What a plant is held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantChecks {
    /// How far the balance may be off.
    pub balance: BalanceTolerance,
    /// Window of the comparison of battery power and state of charge, in nanoseconds.
    pub sign_window_ns: i64,
    /// Readings further apart are not compared.
    pub max_gap_ns: i64,
    /// A change of the clock's offset by more than this is a step.
    pub clock_step_ns: i64,
}

/// Whether the fields of a plant agree with each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantReport {
    /// Where the balance of power is off.
    pub balance: Sourced<Findings>,
    /// Sign of the battery's power by the state of charge.
    pub battery_by_soc: Sourced<SignVerdict>,
    /// Sign of the battery's power by the balance.
    pub battery_by_balance: Sourced<SignVerdict>,
    /// Sign of the grid's power by the balance.
    pub grid_by_balance: Sourced<SignVerdict>,
    /// The clock of the device; none without readings.
    pub clock: Option<Sourced<ClockDrift>>,
}

/// Checks a plant over `range`, from which all data are.
///
/// # Errors
/// See [`QualityError`].
pub fn assess_plant(
    fields: &PlantFields,
    data: PlantData<'_>,
    range: &Range<Timestamp>,
    checks: &PlantChecks,
) -> Result<PlantReport, QualityError> {
    let first = FieldName {
        measurement: fields.measurement.clone(),
        tags: fields.tags.clone(),
        field: fields.battery.clone(),
    };
    let of = |names: &[&String], function| {
        let names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        Source::of_fields(&first, &names, range, function)
    };
    let powers = [&fields.pv, &fields.battery, &fields.grid, &fields.consumption];
    let clock = clock_drift(data.clock, checks.clock_step_ns)?;
    Ok(PlantReport {
        balance: Sourced {
            value: balance_violations(data.powers, checks.balance)?,
            source: of(&powers, Function::Balance),
        },
        battery_by_soc: Sourced {
            value: battery_sign_by_soc(data.battery, checks.sign_window_ns, checks.max_gap_ns)?,
            source: of(&[&fields.battery, &fields.soc], Function::SignBySoc),
        },
        battery_by_balance: Sourced {
            value: sign_by_balance(data.powers, Signed::Battery)?,
            source: of(&powers, Function::BatterySignByBalance),
        },
        grid_by_balance: Sourced {
            value: sign_by_balance(data.powers, Signed::Grid)?,
            source: of(&powers, Function::GridSignByBalance),
        },
        clock: clock.map(|value| Sourced { value, source: of(&[&fields.clock], Function::ClockDrift) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Powers;
    use crate::quality::Sign;

    const MINUTE: i64 = 60_000_000_000;

    #[test]
    fn a_report_says_from_which_fields_each_verdict_is() {
        let fields = PlantFields {
            measurement: "energy_data".to_owned(),
            tags: TagSet::new([("device_id", "roof")]).unwrap(),
            pv: "pv_power".to_owned(),
            battery: "battery_power".to_owned(),
            grid: "grid_power".to_owned(),
            consumption: "consumption".to_owned(),
            soc: "battery_soc".to_owned(),
            clock: "inverter_clock".to_owned(),
        };
        // Six hours of charging with PV, the sensor of the battery the wrong way round.
        let powers: Vec<PowerSample> = (0..360)
            .map(|m| {
                let powers = Powers { pv_w: 2500.0, battery_w: 1500.0, grid_w: 600.0, consumption_w: 400.0 };
                PowerSample { time: Timestamp(m * MINUTE), powers }
            })
            .collect();
        let battery: Vec<BatteryReading> = (0..360)
            .map(|m| BatteryReading {
                time: Timestamp(m * MINUTE),
                battery_w: 1500.0,
                soc_percent: 10.0 + m as f64 / 5.0,
            })
            .collect();
        let clock = [ClockReading { received: Timestamp(9), device: Timestamp(7_000_000_009) }];
        let data = PlantData { powers: &powers, battery: &battery, clock: &clock };
        let balance = BalanceTolerance { absolute_w: 100.0, share: 0.05, shortest_ns: MINUTE };
        let checks = PlantChecks {
            balance,
            sign_window_ns: 30 * MINUTE,
            max_gap_ns: 5 * MINUTE,
            clock_step_ns: 60_000_000_000,
        };
        let range = Timestamp(0)..Timestamp(360 * MINUTE);
        let report = assess_plant(&fields, data, &range, &checks).unwrap();
        assert_eq!((report.balance.value.count, report.balance.value.points), (1, 360));
        assert_eq!(report.battery_by_soc.value.sign, Sign::Reversed);
        assert_eq!(report.battery_by_balance.value.sign, Sign::Reversed);
        assert_eq!(report.battery_by_soc.source.fields, ["battery_power", "battery_soc"]);
        assert_eq!(report.balance.source.fields.len(), 4);
        assert_eq!(report.grid_by_balance.source.function, Function::GridSignByBalance);
        assert_eq!(report.clock.as_ref().unwrap().value.offset_s, 7.0);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<PlantReport>(&text).unwrap(), report);
        let none = PlantData { powers: &[], battery: &[], clock: &[] };
        let empty = assess_plant(&fields, none, &range, &checks).unwrap();
        assert_eq!((empty.clock, empty.grid_by_balance.value.sign), (None, Sign::Undetermined));
    }
}
