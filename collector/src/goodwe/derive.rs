//! From readings of one cycle to the fields of one point.
//!
//! Promise: a field is there only if every part of it was read in this cycle and is plausible; the identity
//! `consumption = pv_power + battery_power + battery2_power - grid_power` holds exactly within a point of a hybrid.
//!
//! Which register is `grid_power`? Register 35140 (i16) and 36025 (i32) tell the same quantity a moment apart. 35140
//! is read in one answer with PV and battery, so it keeps the identity true in time as well; it wraps beyond 32.7 kW.
//! So: 35140, unless the meter's 36025 shows more than [`WRAPS_W`] or 35140 is missing; then 36025. What the meter
//! itself says is stored beside it as `meter_power`.

use super::decode::Reading;
use super::quality::{LeftOut, Quality};
use super::registers::{self, Use};
use crate::config::{Family, FieldChoice};
use wattlog_model::{FieldMeaning, FieldValue, Timestamp, Unit};

/// Beyond this an i16 power may have wrapped.
const WRAPS_W: f64 = 32_000.0;

/// Name of the measurement.
pub const MEASUREMENT: &str = "energy_data";

/// Turns the readings of one device into fields, cycle after cycle.
#[derive(Debug, Clone)]
pub struct Assembler {
    family: Family,
    choice: FieldChoice,
    quality: Quality,
    /// Once a second battery was seen, a cycle without it has no `consumption`.
    has_battery2: bool,
    implausible: Vec<u16>,
}

impl Assembler {
    /// Starts without a memory of totals.
    pub fn new(family: Family, choice: FieldChoice) -> Self {
        Self { family, choice, quality: Quality::default(), has_battery2: false, implausible: Vec::new() }
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
        let no_battery = cycle.number(ET_BATTERY_MODE) == Known(0.0);
        for reading in cycle.readings.iter().filter(|reading| wanted(reading.register.used)) {
            let (field, address) = (reading.register.field, reading.register.address);
            let meaningless = silent_meter && field.starts_with("meter_") && field != "meter_comm_status"
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
                self.has_battery2 |= cycle.number(ET_BATTERY2_POWER) != Absent;
                cycle.derive_et(silent_meter, no_battery, self.has_battery2, &mut put);
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
const ET_ALL_STRINGS: u16 = 35301;
const ET_METER_COMM: u16 = 36004;
const ET_METER_POWER: u16 = 36025;
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

    fn derive_et(
        &self,
        silent_meter: bool,
        no_battery: bool,
        has_battery2: bool,
        put: &mut dyn FnMut(&str, Option<FieldValue>),
    ) {
        let float = |number: Option<f64>| number.map(FieldValue::Float);
        let strings = ET_STRING_POWER.map(|address| self.number(address));
        let pv = match self.number(ET_ALL_STRINGS) {
            Known(all) => Some(all),
            _ => sum(&strings),
        };
        let meter = if silent_meter { Absent } else { self.number(ET_METER_POWER) };
        let grid = match (self.number(ET_ACTIVE_POWER), meter) {
            (_, Known(meter)) if meter.abs() > WRAPS_W => Some(meter),
            (Known(active), _) => Some(active),
            (_, meter) => meter.known(),
        };
        let battery = if no_battery { Some(0.0) } else { self.number(ET_BATTERY_POWER).known() };
        let battery2 = if has_battery2 { self.number(ET_BATTERY2_POWER).known() } else { Some(0.0) };
        let consumption = match (pv, battery, battery2, grid) {
            (Some(pv), Some(battery), Some(battery2), Some(grid)) => Some(pv + battery + battery2 - grid),
            _ => None,
        };
        put("pv_power", float(pv));
        put("grid_power", float(grid));
        put("consumption", float(consumption));
        for (field, long, short) in
            [("grid_export_energy_total", 36104, 36015), ("grid_import_energy_total", 36120, 36017)]
        {
            let energy = match (self.number(long), self.number(short)) {
                _ if silent_meter => None,
                (Known(0.0), Known(short)) => Some(short),
                (Known(long), _) => Some(long),
                (_, short) => short.known(),
            };
            put(field, float(energy));
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

/// Sum of the strings that are there; none if none is there, or if one of them cannot be true.
fn sum(strings: &[Knowledge]) -> Option<f64> {
    if strings.contains(&Doubtful) || strings.iter().all(|power| *power == Absent) {
        return None;
    }
    Some(strings.iter().filter_map(|power| power.known()).sum())
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode_into;
    use super::*;
    use proptest::prelude::*;
    use wattlog_model::FieldKind;

    /// Readings of these registers; `None` is "no data".
    fn readings(family: Family, values: &[(u16, Option<f64>)]) -> Vec<Reading> {
        let reading = |(address, value): &(u16, Option<f64>)| {
            let registers = registers::blocks(family).iter().flat_map(|block| block.registers);
            let register = registers.into_iter().find(|register| register.address == *address).unwrap();
            let value = value.map(|number| match register.number {
                registers::Number::Float => FieldValue::Float(number),
                registers::Number::Integer => FieldValue::Integer(number as i64),
            });
            Reading { register, value }
        };
        values.iter().map(reading).collect()
    }

    fn check(family: Family, values: &[(u16, Option<f64>)], expected: &[(&str, Option<f64>)]) {
        let fields =
            Assembler::new(family, FieldChoice::All).fields(&mut readings(family, values), Timestamp(0));
        for (name, wanted) in expected {
            let found = fields.iter().find(|(field, _)| field == name).map(|(_, value)| match value {
                FieldValue::Float(number) => *number,
                FieldValue::Integer(number) => *number as f64,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, *wanted, "{name} of {values:?}");
        }
    }

    const HYBRID: [(u16, Option<f64>); 5] = [
        (35105, Some(1_695.0)),
        (35109, Some(1_761.0)),
        (35113, None),
        (35140, Some(-3.0)),
        (35182, Some(-2_512.0)),
    ];

    fn hybrid(others: &[(u16, Option<f64>)]) -> Vec<(u16, Option<f64>)> {
        let kept = HYBRID.iter().filter(|(address, _)| others.iter().all(|(other, _)| other != address));
        kept.copied().chain(others.iter().copied()).collect()
    }

    #[test]
    fn the_balance_of_a_hybrid() {
        let expected =
            [("pv_power", Some(3_456.0)), ("grid_power", Some(-3.0)), ("consumption", Some(947.0))];
        check(Family::Et, &hybrid(&[]), &expected);
        // The meter's own reading of a moment later does not disturb the balance.
        check(Family::Et, &hybrid(&[(36025, Some(-110.0))]), &expected);
    }

    #[test]
    fn nothing_is_calculated_from_what_is_not_there() {
        for (others, pv, grid, consumption) in [
            (vec![(35105, None), (35109, None)], None, Some(-3.0), None),
            (vec![(35140, None)], Some(3_456.0), None, None),
            (vec![(35140, None), (36025, Some(-110.0))], Some(3_456.0), Some(-110.0), Some(1_054.0)),
            (vec![(35182, None)], Some(3_456.0), Some(-3.0), None),
            // A string that cannot be true makes the sum unknown, not smaller.
            (vec![(35109, Some(4e9))], None, Some(-3.0), None),
        ] {
            let expected = [("pv_power", pv), ("grid_power", grid), ("consumption", consumption)];
            check(Family::Et, &hybrid(&others), &expected);
        }
    }

    #[test]
    fn a_power_that_wraps_is_taken_from_the_meter() {
        let wrapped = hybrid(&[(35140, Some(25_536.0)), (36025, Some(-40_000.0))]);
        check(Family::Et, &wrapped, &[("grid_power", Some(-40_000.0)), ("consumption", Some(40_944.0))]);
    }

    #[test]
    fn an_inverter_without_battery_has_no_battery_fields_and_a_balance_all_the_same() {
        let values =
            hybrid(&[(35180, Some(0.0)), (35181, Some(0.0)), (35182, Some(0.0)), (35184, Some(0.0))]);
        let expected = [
            ("battery_power", None),
            ("battery_voltage", None),
            ("battery_mode", Some(0.0)),
            ("consumption", Some(3_459.0)),
        ];
        check(Family::Et, &values, &expected);
    }

    #[test]
    fn a_second_battery_once_seen_is_needed_for_the_balance() {
        let mut assembler = Assembler::new(Family::Et, FieldChoice::All);
        let mut consumption = |others: &[(u16, Option<f64>)]| {
            let fields = assembler.fields(&mut readings(Family::Et, &hybrid(others)), Timestamp(0));
            fields.into_iter().find(|(name, _)| name == "consumption").map(|(_, value)| value)
        };
        assert_eq!(consumption(&[]), Some(FieldValue::Float(947.0)));
        assert_eq!(consumption(&[(35264, Some(500.0))]), Some(FieldValue::Float(1_447.0)));
        assert_eq!(consumption(&[]), None);
    }

    #[test]
    fn a_meter_that_does_not_answer_its_inverter_tells_nothing() {
        let values = hybrid(&[(36004, Some(0.0)), (36025, Some(0.0)), (36015, Some(12.0))]);
        let expected = [
            ("meter_power", None),
            ("grid_export_energy_total", None),
            ("meter_comm_status", Some(0.0)),
            ("grid_power", Some(-3.0)),
        ];
        check(Family::Et, &values, &expected);
    }

    #[test]
    fn totals_of_the_meter_prefer_the_long_form_and_bits_join_two_words() {
        let long =
            [(36015, Some(16_777.3)), (36104, Some(16_777.31)), (36017, Some(5.0)), (36120, Some(0.0))];
        let expected =
            [("grid_export_energy_total", Some(16_777.31)), ("grid_import_energy_total", Some(5.0))];
        check(Family::Et, &long, &expected);
        let bits = [(37006, Some(3.0)), (37012, Some(1.0)), (37010, Some(1.0)), (37013, None)];
        let expected = [
            ("battery_error_bits", Some(65_539.0)),
            ("battery_warning_bits", None),
            ("battery_error_low", None),
        ];
        check(Family::Et, &bits, &expected);
    }

    #[test]
    fn a_grid_only_inverter_multiplies_volts_and_amps() {
        let values = [
            (30103, Some(400.6)),
            (30104, Some(6.9)),
            (30105, Some(364.0)),
            (30106, None),
            (30107, None),
            (30108, None),
            (30127, Some(5_914.0)),
            (30195, Some(4_000.0)),
            (30209, Some(1.0)),
        ];
        let expected = [
            ("pv1_power", Some(2_764.0)),
            ("pv2_power", None),
            ("pv3_power", None),
            // Half of a string is known: the sum is not.
            ("pv_power", None),
            ("grid_power", Some(4_000.0)),
            ("consumption", Some(1_914.0)),
        ];
        check(Family::Dt, &values, &expected);
        let mut silent = values;
        silent[8].1 = Some(2.0);
        check(Family::Dt, &silent, &[("grid_power", None), ("consumption", None), ("meter_power", None)]);
    }

    #[test]
    fn every_field_that_is_stored_says_its_unit_and_kind() {
        for family in [Family::Et, Family::Dt] {
            let meanings = fields(family);
            let pv = meanings.iter().find(|meaning| meaning.field == "pv_power").unwrap();
            assert_eq!((pv.unit.as_ref().unwrap().as_str(), pv.kind), ("W", FieldKind::Linear));
            let words = [0x0102_u16; 125];
            let mut readings = Vec::new();
            for block in registers::blocks(family) {
                decode_into(block, &words, &mut readings);
            }
            let stored = Assembler::new(family, FieldChoice::All).fields(&mut readings, Timestamp(0));
            for (name, _) in stored {
                assert!(meanings.iter().any(|meaning| meaning.field == name), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_words_give_finite_fields_of_different_names(
            words in proptest::collection::vec(any::<u16>(), 0..126),
            rated in proptest::option::of(0_u32..100_000),
        ) {
            for family in [Family::Et, Family::Dt] {
                let mut assembler = Assembler::new(family, FieldChoice::All);
                assembler.set_rated_power(rated);
                let mut readings = Vec::new();
                for block in registers::blocks(family) {
                decode_into(block, &words, &mut readings);
            }
                let fields = assembler.fields(&mut readings, Timestamp(0));
                let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                names.sort_unstable();
                prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
                for (name, value) in &fields {
                    if let FieldValue::Float(number) = value {
                        prop_assert!(number.is_finite(), "{} {}", name, number);
                    }
                }
            }
        }
    }
}
