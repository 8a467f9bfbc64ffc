//! Which readings cannot be true: they are left out and counted, and nothing is put in their place.
//!
//! Promise: one wrong sample (a register of all ones, a factor of 16, a total that fell to zero, also as the first one
//! after a start) never reaches the store; a device that insists for [`INSISTS`] samples is believed, so that a replaced
//! inverter is not lost for ever.
//! Limits: domain experience of users of these inverters; each is generous by half.

use super::decode::Reading;
use super::registers::{Limit, Register};
use serde::Serialize;
use std::collections::BTreeMap;
use wattlog_model::{FieldValue, Timestamp};

/// Why readings were left out, counted per reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LeftOut {
    /// The device said that it has no data.
    pub no_data: u64,
    /// Outside what the field can be: a state of charge of 120 %.
    pub out_of_range: u64,
    /// A power that neither the inverter nor the house connection can carry.
    pub power_above_limit: u64,
    /// A lifetime total that fell, or was 0 when first seen.
    pub total_fell: u64,
    /// A total that grew faster than any power allows.
    pub total_jumped: u64,
}

/// A verdict on one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    OutOfRange,
    PowerAboveLimit,
    TotalFell,
    TotalJumped,
}

/// What the checks remember of one device.
#[derive(Debug, Clone, Default)]
pub struct Quality {
    rated_power_w: Option<u32>,
    totals: BTreeMap<u16, Total>,
    left_out: LeftOut,
}

/// What is known of one total.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    /// The last value that was believed and its time.
    last: Option<(f64, Timestamp)>,
    /// Values since then that were not.
    disbelieved: u32,
}

/// Samples in a row after which a total that looked wrong is the new truth.
pub const INSISTS: u32 = 5;

/// What a house connection carries: 3 x 63 A at 230 V is 43.5 kW. A common fault, all powers times 16, exceeds it from
/// 2.9 kW on.
const SUPPLY_W: f64 = 45_000.0;
/// Assumed rated power where the device does not tell it: the largest inverter of these families.
const LARGEST_W: f64 = 75_000.0;
/// Totals have steps of 0.1 kWh, are refreshed late, and the clocks differ by seconds.
const SLACK_KWH: f64 = 1.0;

impl Quality {
    /// Tells what the device is rated for.
    pub fn set_rated_power(&mut self, watts: Option<u32>) {
        self.rated_power_w = watts;
    }

    /// The most that can flow at the grid connection, as far as it is known.
    pub fn supply_power_w(&self) -> f64 {
        self.rated_power_w.map_or(SUPPLY_W, |rated| SUPPLY_W.max(1.5 * f64::from(rated)))
    }

    /// What was left out until now.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Takes the value from every reading that cannot be true; `implausible` gets the addresses of those that had one.
    pub fn check(&mut self, readings: &mut [Reading], at: Timestamp, implausible: &mut Vec<u16>) {
        for reading in readings {
            let number = match &reading.value {
                Some(FieldValue::Float(number)) => *number,
                Some(_) => continue,
                None => {
                    self.left_out.no_data += 1;
                    continue;
                }
            };
            let Err(fault) = self.judge(reading.register, number, at) else { continue };
            reading.value = None;
            implausible.push(reading.register.address);
            match fault {
                Fault::OutOfRange => self.left_out.out_of_range += 1,
                Fault::PowerAboveLimit => self.left_out.power_above_limit += 1,
                Fault::TotalFell => self.left_out.total_fell += 1,
                Fault::TotalJumped => self.left_out.total_jumped += 1,
            }
        }
    }

    fn judge(&mut self, register: &Register, number: f64, at: Timestamp) -> Result<(), Fault> {
        let inverter_w = 1.5 * self.rated_power_w.map_or(LARGEST_W, f64::from);
        let supply_w = inverter_w.max(SUPPLY_W);
        match register.limit {
            Limit::Free => Ok(()),
            Limit::Between(first, last) if (f64::from(first)..=f64::from(last)).contains(&number) => Ok(()),
            Limit::Between(..) => Err(Fault::OutOfRange),
            Limit::InverterPower if number.abs() <= inverter_w => Ok(()),
            Limit::SupplyPower if number.abs() <= supply_w => Ok(()),
            Limit::InverterPower | Limit::SupplyPower => Err(Fault::PowerAboveLimit),
            Limit::Total | Limit::DayTotal => self.judge_total(register, number, at, supply_w),
        }
    }

    fn judge_total(
        &mut self,
        register: &Register,
        number: f64,
        at: Timestamp,
        supply_w: f64,
    ) -> Result<(), Fault> {
        let total = self.totals.entry(register.address).or_default();
        let lifetime = register.limit == Limit::Total;
        let fault = match total.last {
            // The one sample of 0 may be the first that is seen; taken as the truth, it would make the right one a jump.
            None => (lifetime && number == 0.0).then_some(Fault::TotalFell),
            Some((last, _)) if number < last && lifetime => Some(Fault::TotalFell),
            Some((last, since)) => {
                // A clock that was set back must not make every growth too fast: count at least the time of one answer.
                let hours = (at.0.saturating_sub(since.0) as f64 / 3.6e12).max(0.0);
                (number - last > supply_w / 1_000.0 * hours + SLACK_KWH).then_some(Fault::TotalJumped)
            }
        };
        match fault {
            Some(fault) if total.disbelieved + 1 < INSISTS => {
                total.disbelieved += 1;
                Err(fault)
            }
            _ => {
                *total = Total { last: Some((number, at)), disbelieved: 0 };
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::goodwe::registers;

    fn reading(field: &str, number: f64) -> Reading {
        let register = registers::blocks(Family::Et)
            .iter()
            .flat_map(|block| block.registers)
            .find(|register| register.field == field)
            .unwrap();
        Reading { register, value: Some(FieldValue::Float(number)) }
    }

    fn passes(quality: &mut Quality, field: &str, number: f64, second: i64) -> bool {
        let mut readings = [reading(field, number)];
        let mut implausible = Vec::new();
        quality.check(&mut readings, Timestamp(second * 1_000_000_000), &mut implausible);
        assert_eq!(readings[0].value.is_none(), !implausible.is_empty());
        implausible.is_empty()
    }

    #[test]
    fn what_cannot_be_is_left_out_and_counted() {
        let mut quality = Quality::default();
        quality.set_rated_power(Some(10_000));
        for (field, number, expected) in [
            ("battery_soc", 100.0, true),
            ("battery_soc", 120.0, false),
            ("inverter_temp", 121.0, false),
            ("battery_voltage", 3_276.0, false),
            ("pv1_power", 15_000.0, true),
            ("pv1_power", 15_001.0, false),
            // -3.3 kW shown as -52.8 kW.
            ("active_power", -52_800.0, false),
            ("active_power", -17_000.0, true),
        ] {
            assert_eq!(passes(&mut quality, field, number, 0), expected, "{field} {number}");
        }
        let left_out = quality.left_out();
        assert_eq!((left_out.out_of_range, left_out.power_above_limit), (3, 2));
    }

    #[test]
    fn a_lifetime_total_that_falls_for_one_sample_is_left_out() {
        let mut quality = Quality::default();
        assert!(passes(&mut quality, "pv_energy_total", 6_085.3, 0));
        assert!(!passes(&mut quality, "pv_energy_total", 0.0, 10));
        assert!(passes(&mut quality, "pv_energy_total", 6_085.4, 20));
        assert!(!passes(&mut quality, "pv_energy_total", 430_000_000.0, 30));
        assert_eq!((quality.left_out().total_fell, quality.left_out().total_jumped), (1, 1));
    }

    #[test]
    fn a_zero_as_the_first_sample_after_a_start_does_not_hide_the_true_total() {
        let mut quality = Quality::default();
        assert!(!passes(&mut quality, "pv_energy_total", 0.0, 0));
        assert!(passes(&mut quality, "pv_energy_total", 6_085.3, 10));
        assert!(passes(&mut quality, "pv_energy_today", 0.0, 10), "a day begins with nothing");
        // An inverter on its first day insists.
        let mut quality = Quality::default();
        let verdicts: Vec<bool> = (1..=i64::from(INSISTS) + 1)
            .map(|n| passes(&mut quality, "battery_charge_energy_total", 0.0, n * 10))
            .collect();
        assert_eq!(verdicts.iter().position(|passed| *passed), Some(INSISTS as usize - 1));
        assert!(*verdicts.last().unwrap());
    }

    #[test]
    fn a_new_inverter_is_believed_after_a_while() {
        let mut quality = Quality::default();
        assert!(passes(&mut quality, "pv_energy_total", 6_085.3, 0));
        let verdicts: Vec<bool> =
            (1..=i64::from(INSISTS)).map(|n| passes(&mut quality, "pv_energy_total", 0.1, n * 10)).collect();
        assert_eq!(verdicts.iter().filter(|passed| **passed).count(), 1);
        assert!(*verdicts.last().unwrap());
        assert!(passes(&mut quality, "pv_energy_total", 0.2, 1_000));
    }

    #[test]
    fn a_day_total_may_start_again_and_a_gap_may_hold_much_energy() {
        let mut quality = Quality::default();
        assert!(passes(&mut quality, "pv_energy_today", 31.4, 0));
        assert!(passes(&mut quality, "pv_energy_today", 0.0, 10));
        assert!(passes(&mut quality, "pv_energy_today", 25.0, 36_000));
        assert!(!passes(&mut quality, "pv_energy_today", 60.0, 36_010));
    }
}
