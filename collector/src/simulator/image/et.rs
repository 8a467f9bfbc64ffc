//! The plant as a hybrid inverter of 10 kW with battery and meter tells it.

use super::{Image, phase_volts, words_of_text};
use crate::config::BlockName;
use crate::simulator::plant::{PlantState, PvString};

const RATED_W: u16 = 10_000;
const SERIAL: &[u8; 16] = b"9010KETU26SIM001";
const MODEL: &[u8; 10] = b"GW10K-ET  ";
const FIRMWARE: &[u8; 12] = b"04029-10-SIM";
const ARM_FIRMWARE: &[u8; 12] = b"02041-23-SIM";

pub(super) fn info() -> Vec<u16> {
    let parts: [Vec<u16>; 6] = [
        vec![2, RATED_W, 254],
        words_of_text(SERIAL),
        words_of_text(MODEL),
        vec![10, 10, 167, 23, 237],
        words_of_text(FIRMWARE),
        words_of_text(ARM_FIRMWARE),
    ];
    parts.concat()
}

/// Blocks that an inverter of this size has.
pub(super) const BLOCKS: [BlockName; 3] = [BlockName::Running, BlockName::Battery, BlockName::Meter];

pub(super) fn fill(image: &mut Image, state: &PlantState) {
    match image.block.name {
        BlockName::Running => running(image, state),
        BlockName::Battery => battery(image, state),
        BlockName::Meter => meter(image, state),
        _ => {}
    }
}

fn running(image: &mut Image, state: &PlantState) {
    image.put_clock(35100, state);
    for (base, string) in [35103, 35107].into_iter().zip(state.strings) {
        image.put_all(&[(base, string.voltage_v), (base + 1, string.current_a), (base + 2, string.power_w)]);
    }
    let [first, second] = state.strings;
    image.put_word(35120, string_mode(second) << 8 | string_mode(first));
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
        (37007, state.battery_soc_percent.round()),
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

fn string_mode(string: PvString) -> u16 {
    if string.power_w > 0.0 { 2 } else { u16::from(string.voltage_v > 50.0) }
}

fn battery_mode(power_w: f64) -> f64 {
    match power_w {
        watts if watts >= 1.0 => 2.0,
        watts if watts <= -1.0 => 3.0,
        _ => 1.0,
    }
}
