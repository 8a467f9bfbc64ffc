//! From readings of one cycle to the fields of one point.
//!
//! Promise: a field is there only if every part of it was read in this cycle and is plausible; the identity
//! `consumption = pv_power + battery_power + battery2_power - grid_power` holds exactly within a point of a hybrid. What
//! is not known to be absent counts as a part: without the power of a second battery that may exist there is no
//! `consumption`.
//!
//! Which register is `grid_power`? Register 35140 (i16) and 36025 (i32) tell the same quantity a moment apart. 35140
//! is read in one answer with PV and battery, so it keeps the identity true in time as well; it wraps beyond 32.7 kW.
//! So: 35140, unwrapped to the value nearest to 36025. Without 36025 a value that may stand for another one (a house
//! connection of 45 kW: from 20.5 kW on) is left out; without 35140 it is 36025 alone. While the meter does not answer
//! its inverter, neither tells anything. What the meter itself says is stored beside it as `meter_power`.
//!
//! `pv_power` is the sum of strings 1 to 4 for the same reason: they come in that one answer. Inverters with more
//! strings tell the whole of them in another one only.

use super::decode::Reading;
use super::quality::{LeftOut, Quality};
use super::registers::{self, Use};
use crate::config::{Family, FieldChoice};
use wattlog_model::{FieldMeaning, FieldValue, Timestamp, Unit};

/// Distance between two powers that an i16 shows as the same.
const WRAP_W: f64 = 65_536.0;

/// Name of the measurement.
pub const MEASUREMENT: &str = "energy_data";

/// Turns the readings of one device into fields, cycle after cycle.
#[derive(Debug, Clone)]
pub struct Assembler {
    family: Family,
    choice: FieldChoice,
    quality: Quality,
    second_battery: SecondBattery,
    /// It once told of more than four strings.
    has_more_strings: bool,
    implausible: Vec<u16>,
}

/// Whether the power of a second battery is a part of the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondBattery {
    /// The inverter has none.
    Absent,
    /// It has one, or nobody knows.
    Possible,
}

impl Assembler {
    /// Starts without a memory of totals and with a second battery possible.
    pub fn new(family: Family, choice: FieldChoice) -> Self {
        Self {
            family,
            choice,
            quality: Quality::default(),
            second_battery: SecondBattery::Possible,
            has_more_strings: false,
            implausible: Vec::new(),
        }
    }

    /// Tells whether a second battery may be there.
    pub fn set_second_battery(&mut self, second_battery: SecondBattery) {
        self.second_battery = second_battery;
    }

    /// Tells what the device is rated for, if it is known.
    pub fn set_rated_power(&mut self, watts: Option<u32>) {
        self.quality.set_rated_power(watts);
    }

    /// What was left out until now, and why.
    pub fn left_out(&self) -> LeftOut {
        self.quality.left_out()
    }

    /// Fields of one cycle; empty if no reading had a value. Sorts the readings and takes the value of those that
    /// cannot be true.
    pub fn fields(&mut self, readings: &mut [Reading], at: Timestamp) -> Vec<(String, FieldValue)> {
        readings.sort_by_key(|reading| reading.register.address);
        self.implausible.clear();
        self.quality.check(readings, at, &mut self.implausible);
        let cycle = Cycle { readings, implausible: &self.implausible };
        let mut fields = Vec::with_capacity(readings.len() + 16);
        let wanted = |used: Use| match used {
            Use::Essential => true,
            Use::Extra => self.choice == FieldChoice::All,
            Use::Part => false,
        };
        let silent_meter = cycle.meter_is_silent(self.family);
        let second_meter = self.family == Family::Et && cycle.number(ET_METER2_COMM) == Known(1.0);
        let no_battery = cycle.number(ET_BATTERY_MODE) == Known(0.0);
        for reading in cycle.readings.iter().filter(|reading| wanted(reading.register.used)) {
            let (field, address) = (reading.register.field, reading.register.address);
            let meaningless = silent_meter && field.starts_with("meter_") && field != "meter_comm_status"
                || !second_meter && field.starts_with("meter2_") && field != "meter2_comm_status"
                || no_battery && matches!(address, ET_BATTERY_VOLTAGE..=35183);
            if let Some(value) = reading.value.clone().filter(|_| !meaningless) {
                fields.push((field.to_owned(), value));
            }
        }
        let mut put = |field: &str, value: Option<FieldValue>| {
            if let Some(value) = value {
                fields.push((field.to_owned(), value));
            }
        };
        match self.family {
            Family::Et => {
                self.has_more_strings |= cycle.number(ET_CHANNELS).known().is_some_and(|count| count > 4.0);
                let pv = if self.has_more_strings {
                    cycle.number(ET_ALL_STRINGS).known()
                } else {
                    sum(&ET_STRING_POWER.map(|address| cycle.number(address)))
                };
                let grid = if silent_meter { None } else { cycle.grid_power(self.quality.supply_power_w()) };
                let battery = if no_battery { Some(0.0) } else { cycle.number(ET_BATTERY_POWER).known() };
                let balance = Balance { pv, grid, battery, battery2: cycle.battery2(self.second_battery) };
                balance.put(&mut put);
                cycle.derive_et(silent_meter, &mut put);
            }
            Family::Dt => cycle.derive_dt(silent_meter, self.choice, &mut put),
        }
        fields
    }
}

/// Units and kinds of every field that a device of this family can have.
pub fn fields(family: Family) -> Vec<FieldMeaning> {
    let registers = registers::blocks(family).iter().flat_map(|block| block.registers);
    let read = registers.filter(|register| register.used != Use::Part).map(|register| {
        let (unit, kind) = (Unit::new(register.unit), register.kind);
        FieldMeaning { field: register.field.to_owned(), unit, kind }
    });
    let derived = registers::derived(family).iter().map(|derived| {
        let (unit, kind) = (Unit::new(derived.unit), derived.kind);
        FieldMeaning { field: derived.field.to_owned(), unit, kind }
    });
    read.chain(derived).collect()
}

/// What a cycle knows of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Knowledge {
    /// It was read.
    Known(f64),
    /// The device has none, or the block was not read.
    Absent,
    /// It was read and cannot be true: nothing may be calculated from it.
    Doubtful,
}
use Knowledge::{Absent, Doubtful, Known};

impl Knowledge {
    fn known(self) -> Option<f64> {
        if let Known(number) = self { Some(number) } else { None }
    }
}

const ET_STRING_POWER: [u16; 4] = [35105, 35109, 35113, 35117];
const ET_ACTIVE_POWER: u16 = 35140;
const ET_BATTERY_VOLTAGE: u16 = 35180;
const ET_BATTERY_POWER: u16 = 35182;
const ET_BATTERY_MODE: u16 = 35184;
const ET_BATTERY2_POWER: u16 = 35264;
const ET_BATTERY2_MODE: u16 = 35266;
const ET_ALL_STRINGS: u16 = 35301;
const ET_CHANNELS: u16 = 35303;
const ET_METER_COMM: u16 = 36004;
const ET_METER_POWER: u16 = 36025;
const ET_METER2_COMM: u16 = 36051;
const DT_STRINGS: u16 = 30103;
const DT_AC_VOLTAGE: u16 = 30118;
const DT_AC_CURRENT: u16 = 30121;
const DT_INVERTER_POWER: u16 = 30127;
const DT_METER_POWER: u16 = 30195;
const DT_METER_COMM: u16 = 30209;

/// The readings of one cycle, by rising address, checked.
struct Cycle<'a> {
    readings: &'a [Reading],
    implausible: &'a [u16],
}

impl Cycle<'_> {
    fn number(&self, address: u16) -> Knowledge {
        let first = self.readings.partition_point(|reading| reading.register.address < address);
        match self.readings.get(first).filter(|reading| reading.register.address == address) {
            Some(Reading { value: Some(FieldValue::Float(number)), .. }) => Known(*number),
            Some(Reading { value: Some(FieldValue::Integer(number)), .. }) => Known(*number as f64),
            _ if self.implausible.contains(&address) => Doubtful,
            _ => Absent,
        }
    }

    /// A meter that says it does not answer leaves old or zero values in its block.
    fn meter_is_silent(&self, family: Family) -> bool {
        match family {
            Family::Et => self.number(ET_METER_COMM) == Known(0.0),
            Family::Dt => self.number(DT_METER_COMM) == Known(2.0),
        }
    }

    /// Power at the grid connection of a hybrid; see the module.
    fn grid_power(&self, supply_power_w: f64) -> Option<f64> {
        match (self.number(ET_ACTIVE_POWER), self.number(ET_METER_POWER)) {
            (Known(active), Known(meter)) => Some(active + WRAP_W * ((meter - active) / WRAP_W).round()),
            (Known(active), _) if active.abs() < WRAP_W - supply_power_w => Some(active),
            (Known(_), _) => None,
            (_, meter) => meter.known(),
        }
    }

    fn battery2(&self, second_battery: SecondBattery) -> Option<f64> {
        match (self.number(ET_BATTERY2_POWER), self.number(ET_BATTERY2_MODE)) {
            (_, Known(0.0)) => Some(0.0),
            (Absent, _) if second_battery == SecondBattery::Absent => Some(0.0),
            (power, _) => power.known(),
        }
    }

    fn derive_et(&self, silent_meter: bool, put: &mut dyn FnMut(&str, Option<FieldValue>)) {
        for (field, long, short) in
            [("grid_export_energy_total", 36104, 36015), ("grid_import_energy_total", 36120, 36017)]
        {
            let energy = match (self.number(long), self.number(short)) {
                _ if silent_meter => None,
                (Absent, short) => short.known(),
                (long, _) => long.known(),
            };
            put(field, energy.map(FieldValue::Float));
        }
        for (field, high, low) in [
            ("battery_error_bits", 37012, 37006),
            ("battery_warning_bits", 37013, 37010),
            ("battery2_error_bits", 39010, 39004),
            ("battery2_warning_bits", 39011, 39008),
        ] {
            let bits = match (self.number(high), self.number(low)) {
                (Known(high), Known(low)) => Some((high as i64) << 16 | low as i64),
                _ => None,
            };
            put(field, bits.map(FieldValue::Integer));
        }
    }

    fn derive_dt(
        &self,
        silent_meter: bool,
        choice: FieldChoice,
        put: &mut dyn FnMut(&str, Option<FieldValue>),
    ) {
        let float = |number: Option<f64>| number.map(FieldValue::Float);
        let product = |volts: u16, amps: u16| match (self.number(volts), self.number(amps)) {
            (Known(volts), Known(amps)) => Known((volts * amps).round()),
            (Absent, Absent) => Absent,
            _ => Doubtful,
        };
        let strings: [Knowledge; 6] =
            std::array::from_fn(|n| product(DT_STRINGS + 2 * n as u16, DT_STRINGS + 2 * n as u16 + 1));
        for (n, power) in strings.iter().enumerate() {
            if n < 4 || choice == FieldChoice::All {
                put(&format!("pv{}_power", n + 1), float(power.known()));
            }
        }
        for phase in 0..3 {
            let power = product(DT_AC_VOLTAGE + phase, DT_AC_CURRENT + phase);
            put(&format!("ac_power_l{}", phase + 1), float(power.known()));
        }
        let grid = if silent_meter { None } else { self.number(DT_METER_POWER).known() };
        let inverter = self.number(DT_INVERTER_POWER).known();
        put("pv_power", float(sum(&strings)));
        put("grid_power", float(grid));
        put("consumption", float(inverter.zip(grid).map(|(inverter, grid)| inverter - grid)));
    }
}

/// The powers of a hybrid in one cycle.
struct Balance {
    pv: Option<f64>,
    grid: Option<f64>,
    battery: Option<f64>,
    battery2: Option<f64>,
}

impl Balance {
    fn put(&self, put: &mut dyn FnMut(&str, Option<FieldValue>)) {
        put("pv_power", self.pv.map(FieldValue::Float));
        put("grid_power", self.grid.map(FieldValue::Float));
        put("consumption", self.consumption().map(FieldValue::Float));
    }

    fn consumption(&self) -> Option<f64> {
        Some(self.pv? + self.battery? + self.battery2? - self.grid?)
    }
}

/// Sum of the strings that are there; none if none is there, or if one of them cannot be true.
fn sum(strings: &[Knowledge]) -> Option<f64> {
    if strings.contains(&Doubtful) || strings.iter().all(|power| *power == Absent) {
        return None;
    }
    Some(strings.iter().filter_map(|power| power.known()).sum())
}

#[cfg(test)]
mod tests;
