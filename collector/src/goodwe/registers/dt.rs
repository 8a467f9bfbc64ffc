//! Grid-only inverters (DT, MS, D-NS, XS, SDT).
//!
//! They live on PV: silent all night, and their day totals start again at dawn, not at midnight. There are no
//! registers for the power of a string, it is voltage times current. Sources: as `et`, checked against a capture of
//! a GW10K-MS-30.

use super::{Block, Coding, Derived, InfoLayout, Limit, Register, Versions};
use crate::config::BlockName;
use wattlog_model::FieldKind;

/// Phase 1 voltage: without it the inverter measures nothing at all.
const AC: u16 = 30118;
const METER: u16 = 30209;

pub(super) const INFO: InfoLayout = InfoLayout {
    start: 30001,
    count: 40,
    head: None,
    serial: 3,
    model: 11,
    versions: Versions { dsp1: 33, dsp2: 34, dsp_build: 36, arm: 35, arm_build: 37 },
    texts: None,
};

pub(super) const BLOCKS: &[Block] = &[
    Block { name: BlockName::Running, start: 30100, forms: &[73], registers: RUNNING },
    Block { name: BlockName::Meter, start: 30195, forms: &[15], registers: METER_BLOCK },
];

pub(super) const DERIVED: &[Derived] = &[
    Derived::essential("pv1_power", "W", FieldKind::Linear, "pv1_voltage x pv1_current, rounded"),
    Derived::essential("pv2_power", "W", FieldKind::Linear, "pv2_voltage x pv2_current, rounded"),
    Derived::essential("pv3_power", "W", FieldKind::Linear, "pv3_voltage x pv3_current, rounded"),
    Derived::essential("pv4_power", "W", FieldKind::Linear, "pv4_voltage x pv4_current, rounded"),
    Derived::extra("pv5_power", "W", FieldKind::Linear, "pv5_voltage x pv5_current, rounded"),
    Derived::extra("pv6_power", "W", FieldKind::Linear, "pv6_voltage x pv6_current, rounded"),
    Derived::essential("ac_power_l1", "W", FieldKind::Linear, "ac_voltage_l1 x ac_current_l1, rounded"),
    Derived::essential("ac_power_l2", "W", FieldKind::Linear, "ac_voltage_l2 x ac_current_l2, rounded"),
    Derived::essential("ac_power_l3", "W", FieldKind::Linear, "ac_voltage_l3 x ac_current_l3, rounded"),
    Derived::essential("pv_power", "W", FieldKind::Linear, "sum of the PV strings that are there"),
    Derived::essential(
        "grid_power",
        "W",
        FieldKind::Linear,
        "meter_power while the meter answers, + = export",
    ),
    Derived::essential(
        "consumption",
        "W",
        FieldKind::Linear,
        "what the house uses: inverter_power - grid_power",
    ),
];

/// 30100: what the inverter is doing.
const RUNNING: &[Register] = &[
    Register::code(30100, Coding::Clock, "inverter_clock").unit_of_clock().about("the inverter's own clock, local time without a zone, as seconds since 1970-01-01 00:00 of that clock"),
    Register::volts(30103, "pv1_voltage").essential().about("voltage of PV string 1"),
    Register::amps(30104, "pv1_current").essential().about("current of PV string 1"),
    Register::volts(30105, "pv2_voltage").essential().about("voltage of PV string 2"),
    Register::amps(30106, "pv2_current").essential().about("current of PV string 2"),
    Register::volts(30107, "pv3_voltage").essential().about("voltage of PV string 3"),
    Register::amps(30108, "pv3_current").essential().about("current of PV string 3"),
    Register::volts(30109, "pv4_voltage").essential().about("voltage of PV string 4"),
    Register::amps(30110, "pv4_current").essential().about("current of PV string 4"),
    Register::volts(30111, "pv5_voltage").about("voltage of PV string 5"),
    Register::amps(30112, "pv5_current").about("current of PV string 5"),
    Register::volts(30113, "pv6_voltage").about("voltage of PV string 6"),
    Register::amps(30114, "pv6_current").about("current of PV string 6"),
    Register::volts(30115, "ac_voltage_l1_l2").about("voltage between phases 1 and 2"),
    Register::volts(30116, "ac_voltage_l2_l3").about("voltage between phases 2 and 3"),
    Register::volts(30117, "ac_voltage_l3_l1").about("voltage between phases 3 and 1"),
    Register::volts(30118, "ac_voltage_l1").essential().about("voltage of phase 1 at the inverter"),
    Register::volts(30119, "ac_voltage_l2").essential().about("voltage of phase 2 at the inverter"),
    Register::volts(30120, "ac_voltage_l3").essential().about("voltage of phase 3 at the inverter"),
    Register::amps(30121, "ac_current_l1").essential().about("current of phase 1 at the inverter"),
    Register::amps(30122, "ac_current_l2").essential().about("current of phase 2 at the inverter"),
    Register::amps(30123, "ac_current_l3").essential().about("current of phase 3 at the inverter"),
    Register::hertz(30124, "ac_frequency_l1").essential().about("frequency of phase 1 at the inverter"),
    Register::hertz(30125, "ac_frequency_l2").about("frequency of phase 2 at the inverter"),
    Register::hertz(30126, "ac_frequency_l3").about("frequency of phase 3 at the inverter"),
    Register::new(30127, Coding::U32, 1, "inverter_power", "W").limit(Limit::InverterPower).essential().about("total power out of the inverter"),
    Register::code(30129, Coding::U16, "work_mode").essential().about("ET: 0 wait, 1 on grid, 2 off grid, 3 fault, 4 flash, 5 check; DT: 0 wait, 1 normal, 2 error, 4 check"),
    Register::code(30130, Coding::U32, "error_bits").essential().about("errors of the inverter, a bit each"),
    Register::code(30132, Coding::U16, "warning_code").essential().about("warning of the inverter"),
    Register::signed(30133, Coding::I32, 1, "apparent_power", "VA", AC).about("apparent power"),
    Register::signed(30135, Coding::I32, 1, "reactive_power", "var", AC).about("reactive power"),
    Register::signed(30137, Coding::I16, 1, "input_power", "W", AC).about("DC power as the inverter tells it; -1 where it cannot"),
    Register::signed(30139, Coding::I16, 1000, "power_factor", "", AC).limit(Limit::Between(-1, 1)).about("power factor"),
    Register::celsius(30141, "inverter_temp").essential().about("temperature: radiator of the inverter"),
    Register::celsius(30142, "inverter_temp_heatsink").about("temperature: heat sink"),
    Register::energy(30144, Coding::U16, 10, "pv_energy_today", Limit::DayTotal).essential().about("PV energy of the day"),
    Register::energy(30145, Coding::U32, 10, "pv_energy_total", Limit::Total).essential().about("PV energy since installation"),
    Register::new(30147, Coding::U32, 1, "operating_hours", "h").counter().about("hours in operation"),
    Register::code(30149, Coding::U16, "safety_country").about("grid code the inverter was set to"),
    Register::code(30162, Coding::U16, "function_bits").about("functions that are on"),
    Register::volts(30163, "bus_voltage").about("voltage of the DC bus"),
    Register::volts(30164, "half_bus_voltage").about("voltage of half the DC bus"),
    Register::code(30165, Coding::U32, "derating_bits").about("why the inverter gives less than it could, a bit each"),
    Register::code(30172, Coding::U16, "rssi").about("strength of the radio signal"),
];

/// 30195: the meter at the grid, where there is one.
const METER_BLOCK: &[Register] = &[
    Register::watts(30195, Coding::I32, "meter_power", METER)
        .essential()
        .about("power at the meter, + = export"),
    Register::meter_total(30197, Coding::U32, 1000, "grid_export_energy_total")
        .essential()
        .about("energy exported through the meter since installation"),
    Register::meter_total(30199, Coding::U32, 1000, "grid_import_energy_total")
        .essential()
        .about("energy imported through the meter since installation"),
    Register::code(30209, Coding::U16, "meter_comm_status")
        .essential()
        .about("ET: 1 the meter answers, 0 it does not; DT: 1 it answers, 2 it does not"),
];
