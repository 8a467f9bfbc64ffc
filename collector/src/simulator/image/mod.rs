//! The plant as inverters tell it: registers in the captured layout, and back to a point.
//!
//! Promise: values reach the registers through the same tables that the decoder reads, and a simulated point is made
//! by encoding a state and decoding it again, so that history and live polling agree to the last digit.

mod dt;
mod et;

use super::plant::PlantState;
use crate::config::{BlockName, DeviceConfig, Family, FieldChoice};
use crate::device::device_tags;
use crate::goodwe::decode::{Reading, decode_into};
use crate::goodwe::registers::{self, Block, Coding, Register, info_layout};
use crate::goodwe::{Assembler, DeviceInfo, MEASUREMENT};
use crate::modbus::Refusal;
use crate::poll::Plan;
use tokio::time::Instant;
use wattlog_model::{Point, TagSet};

/// The words at `start`, as far as one block of the inverter at `unit` holds them all.
pub(super) fn read(state: &PlantState, unit: u8, start: u16, count: u16) -> Result<Vec<u16>, Refusal> {
    let Some(family) = family_at(unit) else { return Err(Refusal(11)) };
    let info = info_layout(family);
    if let Some(words) = cut(&info_words(family), info.start, start, count) {
        return Ok(words);
    }
    let blocks: &[BlockName] = match family {
        Family::Et => &et::BLOCKS,
        Family::Dt => &dt::BLOCKS,
    };
    let blocks = blocks.iter().filter_map(|name| registers::block(family, *name));
    // No work for a block that cannot hold the words.
    let near = |block: &&Block| (block.start..=block.start + block.forms[0]).contains(&start);
    blocks
        .filter(near)
        .find_map(|block| cut(&words(family, block, block.forms[0], state), block.start, start, count))
        .ok_or(Refusal::ILLEGAL_DATA_ADDRESS)
}

/// The inverter that answers to a unit: the plant's hybrid, or a grid-only one on the same roof.
pub(super) fn family_at(unit: u8) -> Option<Family> {
    [Family::Et, Family::Dt].into_iter().find(|family| family.default_unit() == unit)
}

fn info_words(family: Family) -> Vec<u16> {
    match family {
        Family::Et => et::info(),
        Family::Dt => dt::info(),
    }
}

fn words_of_text(text: &[u8]) -> Vec<u16> {
    text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn cut(words: &[u16], first: u16, start: u16, count: u16) -> Option<Vec<u16>> {
    let at = usize::from(start.checked_sub(first)?);
    words.get(at..at + usize::from(count)).map(<[u16]>::to_vec)
}

/// Words of a block under construction; what nobody puts in stays "no data", what lies beyond the end is not kept.
struct Image {
    block: &'static Block,
    words: Vec<u16>,
    /// Where the last value went: the next one is mostly the one behind it.
    last: usize,
}

impl Image {
    /// The register that begins at `address`.
    fn register(&mut self, address: u16) -> &'static Register {
        let registers = self.block.registers;
        let next = self.last + 1;
        self.last = if registers.get(next).is_some_and(|register| register.address == address) {
            next
        } else {
            registers.partition_point(|register| register.address < address)
        };
        let register = &registers[self.last];
        debug_assert_eq!(register.address, address, "no register begins there");
        register
    }

    /// Writes `value`, in the unit of the field, into the register at `address` of this block.
    fn put(&mut self, address: u16, value: f64) {
        let register = self.register(address);
        self.put_raw(register, value * f64::from(register.divisor));
    }

    /// An energy counter shows whole steps that were passed, never the next one.
    fn put_energy(&mut self, address: u16, kwh: f64) {
        let register = self.register(address);
        self.put_raw(register, (kwh * f64::from(register.divisor)).floor());
    }

    fn put_all(&mut self, values: &[(u16, f64)]) {
        for (address, value) in values {
            self.put(*address, *value);
        }
    }

    fn put_raw(&mut self, register: &Register, raw: f64) {
        let at = usize::from(register.address - self.block.start);
        let Some(words) = self.words.get_mut(at..at + register.coding.words()) else { return };
        let whole = raw.round() as i64;
        match register.coding {
            Coding::U16 | Coding::I16 => words[0] = whole as u16,
            Coding::U32 | Coding::I32 => {
                words.copy_from_slice(&[(whole >> 16) as u16, whole as u16]);
            }
            Coding::F32 => {
                let bits = (raw as f32).to_bits();
                words.copy_from_slice(&[(bits >> 16) as u16, bits as u16]);
            }
            Coding::U64 => {
                for (index, word) in words.iter_mut().enumerate() {
                    *word = (whole >> (48 - 16 * index)) as u16;
                }
            }
            Coding::ByteHigh | Coding::ByteLow | Coding::Clock => {
                debug_assert!(false, "bytes are written as raw words");
            }
        }
    }

    /// The inverter's own clock, in the plant's local time.
    fn put_clock(&mut self, address: u16, state: &PlantState) {
        let local_ns = i128::from(state.time.0) + i128::from(state.local_offset_ns);
        let local = jiff::Timestamp::from_nanosecond(local_ns).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let local = jiff::tz::Offset::UTC.to_datetime(local);
        let bytes = |high: i8, low: i8| u16::from_be_bytes([high as u8, low as u8]);
        self.put_word(address, bytes((local.year() - 2000).clamp(0, 99) as i8, local.month()));
        self.put_word(address + 1, bytes(local.day(), local.hour()));
        self.put_word(address + 2, bytes(local.minute(), local.second()));
    }

    fn put_word(&mut self, address: u16, word: u16) {
        self.words[usize::from(address - self.block.start)] = word;
    }
}

/// The first `count` words of a block.
fn words(family: Family, block: &'static Block, count: u16, state: &PlantState) -> Vec<u16> {
    let mut image = Image { block, words: vec![0xFFFF; usize::from(count)], last: 0 };
    match family {
        Family::Et => et::fill(&mut image, state),
        Family::Dt => dt::fill(&mut image, state),
    }
    image.words
}

/// Export raises the voltage of a long line.
fn phase_volts(state: &PlantState, phase: usize) -> f64 {
    let line = [233.1, 234.6, 232.2][phase];
    line + 0.000_6 * (state.inverter_ac_w / 3.0 - state.load_w[phase]) + 12.0 * (state.frequency_hz - 50.0)
}

/// Makes points of states, exactly as polling the simulated inverter would.
#[derive(Debug)]
pub struct PlantPoints {
    tags: TagSet,
    blocks: Vec<(&'static Block, u16)>,
    assembler: Assembler,
    readings: Vec<Reading>,
}

impl PlantPoints {
    /// Points of the device with this id at this location, with all or the essential fields.
    pub fn new(device_id: &str, location: &str, fields: FieldChoice) -> Self {
        let config = DeviceConfig::new(device_id, "simulated");
        let info = DeviceInfo::decode(Family::Et, &info_words(Family::Et));
        let mut plan = Plan::new(&config);
        plan.start_session(Family::Et, &info);
        // Blocks that a device of this size has; those that the simulator refuses are no block of it.
        let wanted = plan.wanted(Instant::now()).into_iter();
        let blocks = wanted.filter_map(|name| plan.request(name)).collect();
        let mut assembler = Assembler::new(Family::Et, fields);
        assembler.set_rated_power(info.rated_power_w);
        assembler.set_second_battery(plan.second_battery());
        let tags = device_tags(device_id, config.vendor.name(), location);
        Self { tags, blocks, assembler, readings: Vec::new() }
    }

    /// The point of one state.
    pub fn point(&mut self, state: &PlantState) -> Point {
        self.readings.clear();
        for (block, count) in &self.blocks {
            decode_into(block, &words(Family::Et, block, *count, state), &mut self.readings);
        }
        Point {
            measurement: MEASUREMENT.to_owned(),
            tags: self.tags.clone(),
            time: Some(state.time),
            fields: self.assembler.fields(&mut self.readings, state.time),
        }
    }
}

/// One point with every field; [`PlantPoints`] makes many faster.
pub fn plant_point(device_id: &str, location: &str, state: &PlantState) -> Point {
    PlantPoints::new(device_id, location, FieldChoice::All).point(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{Place, Plant};
    use std::time::Duration;
    use wattlog_model::{FieldValue, Timestamp};

    fn float(point: &Point, name: &str) -> f64 {
        match point.fields.iter().find(|(field, _)| field == name) {
            Some((_, FieldValue::Float(number))) => *number,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let plant = Plant::new(3, Place::default());
        let noon = Timestamp(1_767_225_600_000_000_000 + 100 * Timestamp::DAY_NS + 39_600_000_000_000);
        let state = plant.at(noon);
        let point = plant_point("roof", "home", &state);
        assert_eq!(point.time, Some(noon));
        assert_eq!(point.tags.value("device_id"), Some("roof"));
        let pv: f64 = state.strings.iter().map(|string| string.power_w).sum();
        for (field, expected, step) in [
            ("pv_power", pv, 1.0),
            ("battery_power", state.battery_power_w, 0.5),
            ("grid_power", state.grid_power_w, 0.5),
            ("meter_power", state.grid_power_w, 0.5),
            ("battery_soc", state.battery_soc_percent, 0.5),
            ("battery_temp", state.battery_c, 0.05),
            ("pv1_voltage", state.strings[0].voltage_v, 0.05),
            ("pv_energy_total", state.counters.pv_kwh, 0.1),
            ("grid_import_energy_total", state.counters.meter_import_kwh, 0.001),
            ("inverter_temp", state.inverter_c, 0.05),
        ] {
            let found = float(&point, field);
            assert!((found - expected).abs() <= step, "{field}: {found} for {expected}");
        }
        let balance =
            float(&point, "pv_power") + float(&point, "battery_power") - float(&point, "grid_power");
        assert_eq!(balance, float(&point, "consumption"));
        assert!(!point.fields.iter().any(|(name, _)| name.starts_with("pv3")));
    }

    #[test]
    fn no_honest_value_is_taken_for_implausible() {
        let plant = Plant::new(8, Place::default());
        let start = Timestamp(1_767_225_600_000_000_000 + 170 * Timestamp::DAY_NS);
        let mut points = PlantPoints::new("roof", "home", FieldChoice::All);
        let end = Timestamp(start.0 + 2 * Timestamp::DAY_NS);
        for state in plant.history(start..end, Duration::from_mins(1)) {
            assert!(points.point(&state).fields.len() > 100);
        }
        let left_out = points.assembler.left_out();
        assert!(left_out.no_data > 0, "absent strings are no data");
        assert_eq!(left_out.out_of_range + left_out.power_above_limit, 0, "{left_out:?}");
        assert_eq!(left_out.total_fell + left_out.total_jumped, 0, "{left_out:?}");
    }

    #[test]
    fn the_inverter_answers_for_what_it_has() {
        let state = Plant::new(1, Place::default()).at(Timestamp(1_767_225_600_000_000_000));
        for (start, count) in
            [(35000, 33), (35100, 125), (37000, 24), (36000, 45), (36000, 58), (36000, 125), (35180, 5)]
        {
            assert_eq!(read(&state, 0xF7, start, count).unwrap().len(), usize::from(count), "{start}");
        }
        for (start, count) in [(39000, 22), (35301, 61), (35224, 2), (47000, 1), (0, 1)] {
            assert_eq!(read(&state, 0xF7, start, count), Err(Refusal::ILLEGAL_DATA_ADDRESS), "{start}");
        }
        let info = DeviceInfo::decode(Family::Et, &read(&state, 0xF7, 35000, 33).unwrap());
        assert_eq!((info.model.as_deref(), info.rated_power_w), (Some("GW10K-ET"), Some(10_000)));
        assert_eq!(info.arm_firmware.as_deref(), Some("02041-23-SIM"));
        let info = DeviceInfo::decode(Family::Dt, &read(&state, 0x7F, 30001, 40).unwrap());
        assert_eq!((info.model.as_deref(), info.firmware.as_deref()), (Some("GW10K-DT"), Some("4.4.10")));
        assert_eq!(read(&state, 0x7F, 30100, 73).unwrap().len(), 73);
        assert_eq!(read(&state, 0x7F, 30195, 15), Err(Refusal::ILLEGAL_DATA_ADDRESS));
    }
}
