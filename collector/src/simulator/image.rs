//! The plant as a hybrid inverter of 10 kW tells it: registers in the captured layout, and back to a point.
//!
//! Promise: values reach the registers through the same tables that the decoder reads, and a simulated point is made
//! by encoding a state and decoding it again, so that history and live polling agree to the last digit.

use super::plant::{Plant, PlantState};
use crate::config::{BlockName, DeviceConfig, Family, FieldChoice};
use crate::device::device_tags;
use crate::goodwe::decode::{Reading, decode_into};
use crate::goodwe::registers::{self, Block, Coding, info_layout};
use crate::goodwe::{Assembler, DeviceInfo, MEASUREMENT};
use crate::modbus::Refusal;
use crate::poll::Plan;
use wattlog_model::{Point, TagSet};

/// Unit that the simulated inverter answers to.
pub(super) const UNIT: u8 = 0xF7;
const RATED_W: u16 = 10_000;
const SERIAL: &[u8; 16] = b"9010KETU26SIM001";
const MODEL: &[u8; 10] = b"GW10K-ET  ";
const FIRMWARE: &[u8; 12] = b"04029-10-SIM";
const ARM_FIRMWARE: &[u8; 12] = b"02041-23-SIM";

/// The words at `start`, as far as one block holds them all.
pub(super) fn read(state: &PlantState, start: u16, count: u16) -> Result<Vec<u16>, Refusal> {
    let info = info_layout(Family::Et);
    if let Some(words) = cut(&info_words(), info.start, start, count) {
        return Ok(words);
    }
    for name in [BlockName::Running, BlockName::Battery, BlockName::Meter] {
        if let Some(block) = registers::block(Family::Et, name)
            && let Some(words) = cut(&words(block, state), block.start, start, count)
        {
            return Ok(words);
        }
    }
    Err(Refusal::ILLEGAL_DATA_ADDRESS)
}

fn cut(words: &[u16], first: u16, start: u16, count: u16) -> Option<Vec<u16>> {
    let at = usize::from(start.checked_sub(first)?);
    words.get(at..at + usize::from(count)).map(<[u16]>::to_vec)
}

fn info_words() -> Vec<u16> {
    let text =
        |text: &[u8]| text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let parts: [Vec<u16>; 6] = [
        vec![2, RATED_W, 254],
        text(SERIAL),
        text(MODEL),
        vec![10, 10, 167, 23, 237],
        text(FIRMWARE),
        text(ARM_FIRMWARE),
    ];
    parts.concat()
}

/// Words of a block under construction; what nobody puts in stays "no data".
struct Image {
    block: &'static Block,
    words: Vec<u16>,
}

impl Image {
    /// Writes `value`, in the unit of the field, into the register at `address` of this block.
    fn put(&mut self, address: u16, value: f64) {
        let registers = self.block.registers;
        let index = registers.partition_point(|register| register.address < address);
        let register = &registers[index];
        debug_assert_eq!(register.address, address, "no register begins there");
        let raw = value * f64::from(register.divisor);
        let at = usize::from(address - self.block.start);
        let whole = raw.round() as i64;
        let words = &mut self.words[at..at + register.coding.words()];
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

    /// An energy counter shows whole steps that were passed, never the next one.
    fn put_energy(&mut self, address: u16, kwh: f64) {
        let registers = self.block.registers;
        let register = &registers[registers.partition_point(|register| register.address < address)];
        let steps = f64::from(register.divisor);
        self.put(address, (kwh * steps).floor() / steps);
    }

    fn put_all(&mut self, values: &[(u16, f64)]) {
        for (address, value) in values {
            self.put(*address, *value);
        }
    }

    fn put_word(&mut self, address: u16, word: u16) {
        self.words[usize::from(address - self.block.start)] = word;
    }
}

fn words(block: &'static Block, state: &PlantState) -> Vec<u16> {
    let mut image = Image { block, words: vec![0xFFFF; usize::from(block.forms[0])] };
    match block.name {
        BlockName::Running => running(&mut image, state),
        BlockName::Battery => battery(&mut image, state),
        BlockName::Meter => meter(&mut image, state),
        _ => {}
    }
    image.words
}

fn running(image: &mut Image, state: &PlantState) {
    let local_ns = i128::from(state.time.0 + state.local_offset_ns);
    let local = jiff::Timestamp::from_nanosecond(local_ns).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let local = jiff::tz::Offset::UTC.to_datetime(local);
    let year = u16::try_from(i32::from(local.year()) - 2000).unwrap_or(0) & 0xFF;
    let bytes = |high: i8, low: i8| u16::from_be_bytes([high as u8, low as u8]);
    image.put_word(35100, year << 8 | local.month() as u16);
    image.put_word(35101, bytes(local.day(), local.hour()));
    image.put_word(35102, bytes(local.minute(), local.second()));

    let mode = |power: f64, volts: f64| if power > 0.0 { 2 } else { u16::from(volts > 50.0) };
    for (base, string) in [35103, 35107].into_iter().zip(state.strings) {
        image.put_all(&[(base, string.voltage_v), (base + 1, string.current_a), (base + 2, string.power_w)]);
    }
    let [first, second] = state.strings;
    image.put_word(35120, mode(second.power_w, second.voltage_v) << 8 | mode(first.power_w, first.voltage_v));
    let phase_w = state.inverter_ac_w / 3.0;
    for (phase, base) in [35121, 35126, 35131].into_iter().enumerate() {
        let volts = phase_volts(state, phase);
        let amps = phase_w.abs() / volts;
        image.put_all(&[
            (base, volts),
            (base + 1, amps),
            (base + 2, state.frequency_hz),
            (base + 4, phase_w),
        ]);
    }
    for (phase, base) in [35145, 35151, 35157].into_iter().enumerate() {
        let volts = phase_volts(state, phase);
        image.put_all(&[(base, volts), (base + 1, 0.0), (base + 2, state.frequency_hz)]);
        image.put_all(&[(base + 3, 0.0), (base + 5, 0.0)]);
    }
    let load_w: f64 = state.load_w.iter().sum();
    image.put_all(&[
        (35136, 1.0),
        (35138, state.inverter_ac_w),
        (35140, state.grid_power_w),
        (35142, 0.0),
        (35144, state.inverter_ac_w.abs()),
        (35164, state.load_w[0]),
        (35166, state.load_w[1]),
        (35168, state.load_w[2]),
        (35170, 0.0),
        (35172, load_w),
        (35173, 0.0),
        (35174, state.inverter_c - 6.0),
        (35176, state.inverter_c),
        (35177, 0.0),
        (35178, 790.0 + state.inverter_c / 5.0),
        (35179, 395.0 + state.inverter_c / 10.0),
        (35180, state.battery_voltage_v),
        (35181, state.battery_power_w / state.battery_voltage_v),
        (35182, state.battery_power_w),
        (35184, battery_mode(state.battery_power_w)),
        (35185, 0.0),
        (35186, 13.0),
        (35187, 1.0),
        (35188, 0.0),
        (35189, 0.0),
        (35197, state.counters.hours.floor()),
        (35220, 0.0),
    ]);
    let counters = &state.counters;
    for (address, kwh) in [
        (35191, counters.pv_kwh),
        (35193, counters.pv_today_kwh),
        (35195, counters.ac_export_kwh),
        (35199, counters.ac_export_today_kwh),
        (35200, counters.ac_import_kwh),
        (35202, counters.ac_import_today_kwh),
        (35203, counters.load_kwh),
        (35205, counters.load_today_kwh),
        (35206, counters.charge_kwh),
        (35208, counters.charge_today_kwh),
        (35209, counters.discharge_kwh),
        (35211, counters.discharge_today_kwh),
    ] {
        image.put_energy(address, kwh);
    }
}

fn battery(image: &mut Image, state: &PlantState) {
    let cell_v = state.battery_voltage_v / 96.0;
    image.put_all(&[
        (37000, 255.0),
        (37001, 256.0),
        (37002, 1.0),
        (37003, state.battery_c),
        (37004, 25.0),
        (37005, 25.0),
        (37006, 0.0),
        (37007, state.battery_soc_percent.floor()),
        (37008, 99.0),
        (37009, 5.0),
        (37010, 0.0),
        (37011, 257.0),
        (37012, 0.0),
        (37013, 0.0),
        (37014, 14.0),
        (37015, 3.0),
        (37016, 17.0),
        (37017, 62.0),
        (37018, 40.0),
        (37019, 81.0),
        (37020, state.battery_c + 0.8),
        (37021, state.battery_c - 0.7),
        (37022, cell_v + 0.004),
        (37023, cell_v - 0.005),
    ]);
}

fn meter(image: &mut Image, state: &PlantState) {
    let phases: [f64; 3] = std::array::from_fn(|phase| state.inverter_ac_w / 3.0 - state.load_w[phase]);
    let apparent: [f64; 3] = phases.map(|watts| watts.abs() + 12.0);
    image.put_all(&[
        (36000, 1.0),
        (36001, 58.0),
        (36002, 10.0),
        (36003, 1.0),
        (36004, 1.0),
        (36008, state.grid_power_w),
        (36009, 0.0),
        (36013, state.grid_power_w / (state.grid_power_w.abs() + 36.0)),
        (36014, state.frequency_hz),
        (36015, state.counters.meter_export_kwh),
        (36017, state.counters.meter_import_kwh),
        (36025, state.grid_power_w),
        (36033, 0.0),
        (36041, apparent.iter().sum()),
        (36043, 2.0),
        (36044, 3.0),
    ]);
    for (phase, watts) in phases.into_iter().enumerate() {
        let (one, two) = (phase as u16, 2 * phase as u16);
        let volts = phase_volts(state, phase);
        image.put_all(&[
            (36005 + one, watts),
            (36010 + one, watts / apparent[phase]),
            (36019 + two, watts),
            (36027 + two, 0.0),
            (36035 + two, apparent[phase]),
            (36052 + one, volts),
            (36055 + one, watts.abs() / volts),
        ]);
    }
    image.put_energy(36104, state.counters.meter_export_kwh);
    image.put_energy(36120, state.counters.meter_import_kwh);
}

/// Export raises the voltage of a long line.
fn phase_volts(state: &PlantState, phase: usize) -> f64 {
    let line = [233.1, 234.6, 232.2][phase];
    line + 0.000_6 * (state.inverter_ac_w / 3.0 - state.load_w[phase]) + 12.0 * (state.frequency_hz - 50.0)
}

fn battery_mode(power_w: f64) -> f64 {
    match power_w {
        watts if watts >= 1.0 => 2.0,
        watts if watts <= -1.0 => 3.0,
        _ => 1.0,
    }
}

/// Makes points of states, exactly as polling the simulated inverter would.
#[derive(Debug)]
pub struct PlantPoints {
    tags: TagSet,
    blocks: Vec<(&'static Block, u16)>,
    assembler: Assembler,
}

impl PlantPoints {
    /// Points of the device with this id at this location, with all or the essential fields.
    pub fn new(device_id: &str, location: &str, fields: FieldChoice) -> Self {
        let config = DeviceConfig::new(device_id, "simulated");
        let info = DeviceInfo::decode(Family::Et, &info_words());
        let mut plan = Plan::new(&config);
        plan.start_session(Family::Et, &info);
        // Blocks that a device of this size has; those that the simulator refuses are no block of it.
        let blocks = plan.wanted().into_iter().filter_map(|name| plan.request(name)).collect();
        let mut assembler = Assembler::new(Family::Et, fields);
        assembler.set_rated_power(info.rated_power_w);
        let tags = device_tags(device_id, config.vendor.name(), location);
        Self { tags, blocks, assembler }
    }

    /// The point of one state.
    pub fn point(&mut self, state: &PlantState) -> Point {
        let mut readings: Vec<Reading> = Vec::with_capacity(160);
        for (block, count) in &self.blocks {
            decode_into(block, &words(block, state)[..usize::from(*count)], &mut readings);
        }
        Point {
            measurement: MEASUREMENT.to_owned(),
            tags: self.tags.clone(),
            time: Some(state.time),
            fields: self.assembler.fields(readings, state.time),
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
    use crate::simulator::Place;
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
            ("battery_soc", state.battery_soc_percent, 1.0),
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
        for state in plant.history(start..end, Duration::from_secs(60)) {
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
            assert_eq!(read(&state, start, count).unwrap().len(), usize::from(count), "{start}");
        }
        for (start, count) in [(39000, 22), (35301, 61), (35224, 2), (47000, 1), (0, 1)] {
            assert_eq!(read(&state, start, count), Err(Refusal::ILLEGAL_DATA_ADDRESS), "{start}");
        }
        let info = DeviceInfo::decode(Family::Et, &read(&state, 35000, 33).unwrap());
        assert_eq!((info.model.as_deref(), info.rated_power_w), (Some("GW10K-ET"), Some(10_000)));
        assert_eq!(info.arm_firmware.as_deref(), Some("02041-23-SIM"));
    }
}
