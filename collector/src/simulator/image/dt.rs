//! The same roof as a grid-only inverter tells it: no battery, no house; a meter of its own it has not.

use super::{Image, phase_volts, words_of_text};
use crate::config::BlockName;
use crate::simulator::plant::PlantState;

const SERIAL: &[u8; 16] = b"9010KDTU26SIM002";
const MODEL: &[u8; 10] = b"GW10K-DT  ";

/// 40 words; the versions lie behind a gap.
pub(super) fn info() -> Vec<u16> {
    let mut words = vec![0xFFFF; 40];
    words[3..11].copy_from_slice(&words_of_text(SERIAL));
    words[11..16].copy_from_slice(&words_of_text(MODEL));
    words[33..38].copy_from_slice(&[4, 4, 16, 300, 12]);
    words
}

pub(super) const BLOCKS: [BlockName; 1] = [BlockName::Running];

pub(super) fn fill(image: &mut Image, state: &PlantState) {
    image.put_clock(30100, state);
    for (base, string) in [30103, 30105].into_iter().zip(state.strings) {
        image.put_all(&[(base, string.voltage_v), (base + 1, string.current_a)]);
    }
    let dc_w: f64 = state.strings.iter().map(|string| string.power_w).sum();
    let ac_w = 0.97 * dc_w;
    for phase in 0..3 {
        let (one, volts) = (phase as u16, phase_volts(state, phase));
        let line = 3.0_f64.sqrt() * volts;
        image.put_all(&[
            (30115 + one, line),
            (30118 + one, volts),
            (30121 + one, ac_w / 3.0 / volts),
            (30124 + one, state.frequency_hz),
        ]);
    }
    image.put_all(&[
        (30127, ac_w),
        (30129, if ac_w > 0.0 { 1.0 } else { 0.0 }),
        (30130, 0.0),
        (30132, 0.0),
        (30133, ac_w),
        (30135, 0.0),
        (30137, dc_w),
        (30139, 1.0),
        (30141, state.inverter_c),
        (30147, state.counters.hours.floor()),
        (30149, 13.0),
        (30163, 620.0),
    ]);
    image.put_energy(30144, state.counters.pv_today_kwh);
    image.put_energy(30145, state.counters.pv_kwh);
}
