//! Hybrid inverters with a battery (ET, EH, BT, BH): platforms 205, 745 and 753.
//!
//! This file is long because it is one table. Sources: GoodWe's Modbus protocol for hybrid inverters as collected in
//! the MIT-licensed library `marcelblijleven/goodwe`, checked against captures of a GW10K-ET.
//! Signs: battery power and current + = discharge, grid power + = export.

use super::{Block, Coding, Derived, InfoLayout, Limit, Register, Versions};
use crate::config::BlockName;
use wattlog_model::FieldKind;

/// Phase 1 voltage: without it the inverter measures nothing at all.
const AC: u16 = 35121;
/// Currents of the phases: an inverter without a phase has none for it.
const AC_PHASES: [u16; 3] = [35122, 35127, 35132];
const BATTERY: u16 = 35180;
const BATTERY2: u16 = 35262;
const METER: u16 = 36004;
const METER2: u16 = 36051;
const MPPT: u16 = 35303;

pub(super) const INFO: InfoLayout = InfoLayout {
    start: 35000,
    count: 33,
    head: Some(0),
    serial: 3,
    model: 11,
    versions: Versions { dsp1: 16, dsp2: 17, dsp_build: 18, arm: 19, arm_build: 20 },
    texts: Some(21),
};

/// 125 words are the most that Modbus allows in one answer, so "running" and the longest meter form fill it.
pub(super) const BLOCKS: &[Block] = &[
    Block { name: BlockName::Running, start: 35100, forms: &[125], registers: RUNNING },
    Block { name: BlockName::Battery, start: 37000, forms: &[24], registers: BATTERY_1 },
    Block { name: BlockName::Battery2, start: 39000, forms: &[22], registers: BATTERY_2 },
    Block { name: BlockName::Battery2Power, start: 35262, forms: &[6], registers: BATTERY_2_POWER },
    Block { name: BlockName::Meter, start: 36000, forms: &[125, 58, 45], registers: METER_BLOCK },
    Block { name: BlockName::Mppt, start: 35301, forms: &[61], registers: MPPT_BLOCK },
];

pub(super) const DERIVED: &[Derived] = &[
    Derived::essential(
        "pv_power",
        "W",
        FieldKind::Linear,
        "sum of PV strings 1 to 4, or power of all strings where there are more",
    ),
    Derived::essential("grid_power", "W", FieldKind::Linear, "power at the grid connection, + = export"),
    Derived::essential(
        "consumption",
        "W",
        FieldKind::Linear,
        "what the house uses: pv_power + battery_power + battery2_power - grid_power",
    ),
    Derived::essential(
        "grid_export_energy_total",
        "kWh",
        FieldKind::Counter,
        "energy exported through the meter since installation",
    ),
    Derived::essential(
        "grid_import_energy_total",
        "kWh",
        FieldKind::Counter,
        "energy imported through the meter since installation",
    ),
    Derived::essential(
        "battery_error_bits",
        "",
        FieldKind::Step,
        "errors of the battery, high word << 16 | low word",
    ),
    Derived::essential(
        "battery_warning_bits",
        "",
        FieldKind::Step,
        "warnings of the battery, high word << 16 | low word",
    ),
    Derived::essential(
        "battery2_error_bits",
        "",
        FieldKind::Step,
        "errors of the second battery, high word << 16 | low word",
    ),
    Derived::essential(
        "battery2_warning_bits",
        "",
        FieldKind::Step,
        "warnings of the second battery, high word << 16 | low word",
    ),
];

/// 35100: what the inverter is doing.
const RUNNING: &[Register] = &[
    Register::code(35100, Coding::Clock, "inverter_clock").unit_of_clock().about("the inverter's own clock, local time without a zone, as seconds since 1970-01-01 00:00 of that clock"),
    Register::volts(35103, "pv1_voltage").essential().about("voltage of PV string 1"),
    Register::amps(35104, "pv1_current").essential().about("current of PV string 1"),
    Register::new(35105, Coding::U32, 1, "pv1_power", "W").limit(Limit::InverterPower).essential().about("power of PV string 1"),
    Register::volts(35107, "pv2_voltage").essential().about("voltage of PV string 2"),
    Register::amps(35108, "pv2_current").essential().about("current of PV string 2"),
    Register::new(35109, Coding::U32, 1, "pv2_power", "W").limit(Limit::InverterPower).essential().about("power of PV string 2"),
    Register::volts(35111, "pv3_voltage").essential().about("voltage of PV string 3"),
    Register::amps(35112, "pv3_current").essential().about("current of PV string 3"),
    Register::new(35113, Coding::U32, 1, "pv3_power", "W").limit(Limit::InverterPower).essential().about("power of PV string 3"),
    Register::volts(35115, "pv4_voltage").essential().about("voltage of PV string 4"),
    Register::amps(35116, "pv4_current").essential().about("current of PV string 4"),
    Register::new(35117, Coding::U32, 1, "pv4_power", "W").limit(Limit::InverterPower).essential().about("power of PV string 4"),
    Register::code(35119, Coding::ByteHigh, "pv4_mode").about("state of PV string 4: 0 none, 1 connected, 2 producing"),
    Register::code(35119, Coding::ByteLow, "pv3_mode").about("state of PV string 3: 0 none, 1 connected, 2 producing"),
    Register::code(35120, Coding::ByteHigh, "pv2_mode").about("state of PV string 2: 0 none, 1 connected, 2 producing"),
    Register::code(35120, Coding::ByteLow, "pv1_mode").about("state of PV string 1: 0 none, 1 connected, 2 producing"),
    Register::volts(35121, "ac_voltage_l1").essential().about("voltage of phase 1 at the inverter"),
    Register::amps(35122, "ac_current_l1").essential().about("current of phase 1 at the inverter"),
    Register::hertz(35123, "ac_frequency_l1").essential().about("frequency of phase 1 at the inverter"),
    Register::watts(35125, Coding::I16, "ac_power_l1", AC_PHASES[0]).limit(Limit::InverterPower).essential().about("power of phase 1 out of the inverter"),
    Register::volts(35126, "ac_voltage_l2").essential().about("voltage of phase 2 at the inverter"),
    Register::amps(35127, "ac_current_l2").essential().about("current of phase 2 at the inverter"),
    Register::hertz(35128, "ac_frequency_l2").about("frequency of phase 2 at the inverter"),
    Register::watts(35130, Coding::I16, "ac_power_l2", AC_PHASES[1]).limit(Limit::InverterPower).essential().about("power of phase 2 out of the inverter"),
    Register::volts(35131, "ac_voltage_l3").essential().about("voltage of phase 3 at the inverter"),
    Register::amps(35132, "ac_current_l3").essential().about("current of phase 3 at the inverter"),
    Register::hertz(35133, "ac_frequency_l3").about("frequency of phase 3 at the inverter"),
    Register::watts(35135, Coding::I16, "ac_power_l3", AC_PHASES[2]).limit(Limit::InverterPower).essential().about("power of phase 3 out of the inverter"),
    Register::code(35136, Coding::U16, "grid_mode").essential().about("0 off, 1 connected, 2 fault"),
    Register::watts(35138, Coding::I16, "inverter_power", AC).essential().about("total power out of the inverter"),
    Register::watts(35140, Coding::I16, "active_power", AC).essential().about("power at the grid connection, + = export; 16 bits, so it wraps beyond 32.7 kW"),
    Register::signed(35142, Coding::I16, 1, "reactive_power", "var", AC).about("reactive power"),
    Register::signed(35144, Coding::I16, 1, "apparent_power", "VA", AC).about("apparent power"),
    Register::volts(35145, "backup_voltage_l1").about("voltage of phase 1 at the back-up output"),
    Register::amps(35146, "backup_current_l1").about("current of phase 1 at the back-up output"),
    Register::hertz(35147, "backup_frequency_l1").about("frequency of phase 1 at the back-up output"),
    Register::code(35148, Coding::U16, "backup_mode_l1").about("back-up output of phase 1: 0 no load, 1 load connected"),
    Register::watts(35150, Coding::I16, "backup_power_l1", 35145).limit(Limit::InverterPower).about("power of phase 1 at the back-up output"),
    Register::volts(35151, "backup_voltage_l2").about("voltage of phase 2 at the back-up output"),
    Register::amps(35152, "backup_current_l2").about("current of phase 2 at the back-up output"),
    Register::hertz(35153, "backup_frequency_l2").about("frequency of phase 2 at the back-up output"),
    Register::code(35154, Coding::U16, "backup_mode_l2").about("back-up output of phase 2: 0 no load, 1 load connected"),
    Register::watts(35156, Coding::I16, "backup_power_l2", 35151).limit(Limit::InverterPower).about("power of phase 2 at the back-up output"),
    Register::volts(35157, "backup_voltage_l3").about("voltage of phase 3 at the back-up output"),
    Register::amps(35158, "backup_current_l3").about("current of phase 3 at the back-up output"),
    Register::hertz(35159, "backup_frequency_l3").about("frequency of phase 3 at the back-up output"),
    Register::code(35160, Coding::U16, "backup_mode_l3").about("back-up output of phase 3: 0 no load, 1 load connected"),
    Register::watts(35162, Coding::I16, "backup_power_l3", 35157).limit(Limit::InverterPower).about("power of phase 3 at the back-up output"),
    Register::watts(35164, Coding::I16, "load_power_l1", AC_PHASES[0]).about("load on phase 1 of the grid side"),
    Register::watts(35166, Coding::I16, "load_power_l2", AC_PHASES[1]).about("load on phase 2 of the grid side"),
    Register::watts(35168, Coding::I16, "load_power_l3", AC_PHASES[2]).about("load on phase 3 of the grid side"),
    Register::watts(35170, Coding::I16, "backup_power", AC).limit(Limit::InverterPower).essential().about("load at the back-up output"),
    Register::watts(35172, Coding::I16, "load_power", AC).essential().about("load on the grid side"),
    Register::percent(35173, "backup_load").limit(Limit::Between(0, 200)).about("load of the back-up output, share of what it can give"),
    Register::celsius(35174, "inverter_temp_air").essential().about("temperature: air inside the inverter"),
    Register::celsius(35175, "inverter_temp_module").about("temperature: power module"),
    Register::celsius(35176, "inverter_temp").essential().about("temperature: radiator of the inverter"),
    Register::code(35177, Coding::U16, "function_bits").about("functions that are on"),
    Register::volts(35178, "bus_voltage").about("voltage of the DC bus"),
    Register::volts(35179, "half_bus_voltage").about("voltage of half the DC bus"),
    Register::volts(35180, "battery_voltage").limit(Limit::Between(0, 1_000)).essential().about("voltage of the battery"),
    Register::signed(35181, Coding::I16, 10, "battery_current", "A", BATTERY).limit(Limit::Between(-500, 500)).essential().about("current of the battery, + = discharge"),
    Register::watts(35182, Coding::I32, "battery_power", BATTERY).limit(Limit::InverterPower).essential().about("power of the battery, + = discharge"),
    Register::code(35184, Coding::U16, "battery_mode").essential().about("0 none, 1 standby, 2 discharge, 3 charge, 4 to be charged, 5 to be discharged"),
    Register::code(35185, Coding::U16, "warning_code").essential().about("warning of the inverter"),
    Register::code(35186, Coding::U16, "safety_country").about("grid code the inverter was set to"),
    Register::code(35187, Coding::U16, "work_mode").essential().about("ET: 0 wait, 1 on grid, 2 off grid, 3 fault, 4 flash, 5 check; DT: 0 wait, 1 normal, 2 error, 4 check"),
    Register::code(35188, Coding::U16, "operation_mode").about("mode of operation"),
    Register::code(35189, Coding::U32, "error_bits").essential().about("errors of the inverter, a bit each"),
    Register::energy(35191, Coding::U32, 10, "pv_energy_total", Limit::Total).essential().about("PV energy since installation"),
    Register::energy(35193, Coding::U32, 10, "pv_energy_today", Limit::DayTotal).essential().about("PV energy of the day"),
    Register::energy(35195, Coding::U32, 10, "ac_export_energy_total", Limit::Total).essential().about("energy out of the inverter's AC side since installation"),
    Register::new(35197, Coding::U32, 1, "operating_hours", "h").counter().about("hours in operation"),
    Register::energy(35199, Coding::U16, 10, "ac_export_energy_today", Limit::DayTotal).essential().about("energy out of the inverter's AC side of the day"),
    Register::energy(35200, Coding::U32, 10, "ac_import_energy_total", Limit::Total).essential().about("energy into the inverter's AC side since installation"),
    Register::energy(35202, Coding::U16, 10, "ac_import_energy_today", Limit::DayTotal).essential().about("energy into the inverter's AC side of the day"),
    Register::energy(35203, Coding::U32, 10, "load_energy_total", Limit::Total).essential().about("energy used by the house since installation"),
    Register::energy(35205, Coding::U16, 10, "load_energy_today", Limit::DayTotal).essential().about("energy used by the house of the day"),
    Register::energy(35206, Coding::U32, 10, "battery_charge_energy_total", Limit::Total).essential().about("energy into the battery since installation"),
    Register::energy(35208, Coding::U16, 10, "battery_charge_energy_today", Limit::DayTotal).essential().about("energy into the battery of the day"),
    Register::energy(35209, Coding::U32, 10, "battery_discharge_energy_total", Limit::Total).essential().about("energy out of the battery since installation"),
    Register::energy(35211, Coding::U16, 10, "battery_discharge_energy_today", Limit::DayTotal).essential().about("energy out of the battery of the day"),
    Register::code(35220, Coding::U32, "diagnosis_bits").about("why the battery does what it does, a bit each"),
];

/// 37000: the battery as its own management sees it.
const BATTERY_1: &[Register] = &[
    Register::code(37000, Coding::U16, "battery_bms").about("make of the battery management"),
    Register::code(37001, Coding::U16, "battery_index").about("place of the battery in its group"),
    Register::code(37002, Coding::U16, "battery_status").about("state of the battery"),
    Register::celsius(37003, "battery_temp").essential().about("temperature of the battery"),
    Register::new(37004, Coding::U16, 1, "battery_charge_limit", "A")
        .step()
        .about("charging current the battery allows"),
    Register::new(37005, Coding::U16, 1, "battery_discharge_limit", "A")
        .step()
        .about("discharging current the battery allows"),
    Register::code(37006, Coding::U16, "battery_error_low")
        .part()
        .about("errors of the battery, bits 0 to 15"),
    Register::percent(37007, "battery_soc").essential().about("state of charge of the battery"),
    Register::percent(37008, "battery_soh").step().essential().about("state of health of the battery"),
    Register::code(37009, Coding::U16, "battery_modules").about("modules of the battery"),
    Register::code(37010, Coding::U16, "battery_warning_low")
        .part()
        .about("warnings of the battery, bits 0 to 15"),
    Register::code(37011, Coding::U16, "battery_protocol").about("protocol of the battery"),
    Register::code(37012, Coding::U16, "battery_error_high")
        .part()
        .about("errors of the battery, bits 16 to 31"),
    Register::code(37013, Coding::U16, "battery_warning_high")
        .part()
        .about("warnings of the battery, bits 16 to 31"),
    Register::code(37014, Coding::U16, "battery_software").about("software of the battery"),
    Register::code(37015, Coding::U16, "battery_hardware").about("hardware of the battery"),
    Register::code(37016, Coding::U16, "battery_max_cell_temp_id").about("warmest cell of the battery"),
    Register::code(37017, Coding::U16, "battery_min_cell_temp_id").about("coldest cell of the battery"),
    Register::code(37018, Coding::U16, "battery_max_cell_voltage_id")
        .about("cell of the battery with the highest voltage"),
    Register::code(37019, Coding::U16, "battery_min_cell_voltage_id")
        .about("cell of the battery with the lowest voltage"),
    Register::celsius(37020, "battery_max_cell_temp").about("temperature of the warmest cell of the battery"),
    Register::celsius(37021, "battery_min_cell_temp").about("temperature of the coldest cell of the battery"),
    Register::new(37022, Coding::U16, 1000, "battery_max_cell_voltage", "V")
        .about("highest cell voltage of the battery"),
    Register::new(37023, Coding::U16, 1000, "battery_min_cell_voltage", "V")
        .about("lowest cell voltage of the battery"),
];

/// 39000: the second battery; the order of 37002 on.
const BATTERY_2: &[Register] = &[
    Register::code(39000, Coding::U16, "battery2_status").about("state of the second battery"),
    Register::celsius(39001, "battery2_temp").essential().about("temperature of the second battery"),
    Register::new(39002, Coding::U16, 1, "battery2_charge_limit", "A")
        .step()
        .about("charging current the second battery allows"),
    Register::new(39003, Coding::U16, 1, "battery2_discharge_limit", "A")
        .step()
        .about("discharging current the second battery allows"),
    Register::code(39004, Coding::U16, "battery2_error_low")
        .part()
        .about("errors of the second battery, bits 0 to 15"),
    Register::percent(39005, "battery2_soc").essential().about("state of charge of the second battery"),
    Register::percent(39006, "battery2_soh")
        .step()
        .essential()
        .about("state of health of the second battery"),
    Register::code(39007, Coding::U16, "battery2_modules").about("modules of the second battery"),
    Register::code(39008, Coding::U16, "battery2_warning_low")
        .part()
        .about("warnings of the second battery, bits 0 to 15"),
    Register::code(39009, Coding::U16, "battery2_protocol").about("protocol of the second battery"),
    Register::code(39010, Coding::U16, "battery2_error_high")
        .part()
        .about("errors of the second battery, bits 16 to 31"),
    Register::code(39011, Coding::U16, "battery2_warning_high")
        .part()
        .about("warnings of the second battery, bits 16 to 31"),
    Register::code(39012, Coding::U16, "battery2_software").about("software of the second battery"),
    Register::code(39013, Coding::U16, "battery2_hardware").about("hardware of the second battery"),
    Register::code(39014, Coding::U16, "battery2_max_cell_temp_id")
        .about("warmest cell of the second battery"),
    Register::code(39015, Coding::U16, "battery2_min_cell_temp_id")
        .about("coldest cell of the second battery"),
    Register::code(39016, Coding::U16, "battery2_max_cell_voltage_id")
        .about("cell of the second battery with the highest voltage"),
    Register::code(39017, Coding::U16, "battery2_min_cell_voltage_id")
        .about("cell of the second battery with the lowest voltage"),
    Register::celsius(39018, "battery2_max_cell_temp")
        .about("temperature of the warmest cell of the second battery"),
    Register::celsius(39019, "battery2_min_cell_temp")
        .about("temperature of the coldest cell of the second battery"),
    Register::new(39020, Coding::U16, 1000, "battery2_max_cell_voltage", "V")
        .about("highest cell voltage of the second battery"),
    Register::new(39021, Coding::U16, 1000, "battery2_min_cell_voltage", "V")
        .about("lowest cell voltage of the second battery"),
];

/// 35262: the second battery as the inverter sees it.
const BATTERY_2_POWER: &[Register] = &[
    Register::volts(35262, "battery2_voltage")
        .limit(Limit::Between(0, 1_000))
        .essential()
        .about("voltage of the second battery"),
    Register::signed(35263, Coding::I16, 10, "battery2_current", "A", BATTERY2)
        .limit(Limit::Between(-500, 500))
        .essential()
        .about("current of the second battery, + = discharge"),
    Register::watts(35264, Coding::I32, "battery2_power", BATTERY2)
        .limit(Limit::InverterPower)
        .essential()
        .about("power of the second battery, + = discharge"),
    Register::code(35266, Coding::U16, "battery2_mode").essential().about("as battery_mode"),
];

/// 36000: the meter at the grid. The first 45 words exist everywhere, 58 and 125 on newer firmware.
const METER_BLOCK: &[Register] = &[
    Register::code(36000, Coding::U16, "meter_mode").about("how the meter is connected"),
    Register::code(36001, Coding::U16, "rssi").about("strength of the radio signal"),
    Register::code(36002, Coding::U16, "meter_maker").about("make of the meter"),
    Register::code(36003, Coding::U16, "meter_test_status")
        .about("0 not checked, 1 right, 2 reversed, 3 wrong"),
    Register::code(36004, Coding::U16, "meter_comm_status")
        .essential()
        .about("ET: 1 the meter answers, 0 it does not; DT: 1 it answers, 2 it does not"),
    Register::watts(36005, Coding::I16, "meter_short_power_l1", METER)
        .limit(Limit::Free)
        .part()
        .about("power of phase 1 at the meter in 16 bits, which wrap"),
    Register::watts(36006, Coding::I16, "meter_short_power_l2", METER)
        .limit(Limit::Free)
        .part()
        .about("power of phase 2 at the meter in 16 bits, which wrap"),
    Register::watts(36007, Coding::I16, "meter_short_power_l3", METER)
        .limit(Limit::Free)
        .part()
        .about("power of phase 3 at the meter in 16 bits, which wrap"),
    Register::watts(36008, Coding::I16, "meter_short_power", METER)
        .limit(Limit::Free)
        .part()
        .about("power at the meter in 16 bits, which wrap"),
    Register::signed(36009, Coding::I16, 1, "meter_short_reactive_power", "var", METER)
        .part()
        .about("reactive power at the meter in 16 bits"),
    Register::signed(36010, Coding::I16, 1000, "meter_power_factor_l1", "", METER)
        .limit(Limit::Between(-1, 1))
        .about("power factor of phase 1 at the meter"),
    Register::signed(36011, Coding::I16, 1000, "meter_power_factor_l2", "", METER)
        .limit(Limit::Between(-1, 1))
        .about("power factor of phase 2 at the meter"),
    Register::signed(36012, Coding::I16, 1000, "meter_power_factor_l3", "", METER)
        .limit(Limit::Between(-1, 1))
        .about("power factor of phase 3 at the meter"),
    Register::signed(36013, Coding::I16, 1000, "meter_power_factor", "", METER)
        .limit(Limit::Between(-1, 1))
        .about("power factor at the meter"),
    Register::hertz(36014, "meter_frequency").about("frequency at the meter"),
    Register::meter_total(36015, Coding::F32, 1000, "meter_float_export_energy")
        .part()
        .about("exported energy as a float, exact to 16.7 MWh"),
    Register::meter_total(36017, Coding::F32, 1000, "meter_float_import_energy")
        .part()
        .about("imported energy as a float, exact to 16.7 MWh"),
    Register::watts(36019, Coding::I32, "meter_power_l1", METER)
        .essential()
        .about("power of phase 1 at the meter, + = export"),
    Register::watts(36021, Coding::I32, "meter_power_l2", METER)
        .essential()
        .about("power of phase 2 at the meter, + = export"),
    Register::watts(36023, Coding::I32, "meter_power_l3", METER)
        .essential()
        .about("power of phase 3 at the meter, + = export"),
    Register::watts(36025, Coding::I32, "meter_power", METER)
        .essential()
        .about("power at the meter, + = export"),
    Register::signed(36027, Coding::I32, 1, "meter_reactive_power_l1", "var", METER)
        .about("reactive power of phase 1 at the meter"),
    Register::signed(36029, Coding::I32, 1, "meter_reactive_power_l2", "var", METER)
        .about("reactive power of phase 2 at the meter"),
    Register::signed(36031, Coding::I32, 1, "meter_reactive_power_l3", "var", METER)
        .about("reactive power of phase 3 at the meter"),
    Register::signed(36033, Coding::I32, 1, "meter_reactive_power", "var", METER)
        .about("reactive power at the meter"),
    Register::signed(36035, Coding::I32, 1, "meter_apparent_power_l1", "VA", METER)
        .about("apparent power of phase 1 at the meter"),
    Register::signed(36037, Coding::I32, 1, "meter_apparent_power_l2", "VA", METER)
        .about("apparent power of phase 2 at the meter"),
    Register::signed(36039, Coding::I32, 1, "meter_apparent_power_l3", "VA", METER)
        .about("apparent power of phase 3 at the meter"),
    Register::signed(36041, Coding::I32, 1, "meter_apparent_power", "VA", METER)
        .about("apparent power at the meter"),
    Register::code(36043, Coding::U16, "meter_type")
        .about("0 one phase, 1 three phases 3 wires, 2 three phases 4 wires, 3 HomeKit"),
    Register::code(36044, Coding::U16, "meter_software").about("software of the meter"),
    Register::watts(36045, Coding::I32, "meter2_power", METER2)
        .about("power at the second meter, + = export"),
    Register::meter_total(36047, Coding::F32, 1000, "meter2_export_energy_total")
        .about("energy exported through the second meter"),
    Register::meter_total(36049, Coding::F32, 1000, "meter2_import_energy_total")
        .about("energy imported through the second meter"),
    Register::code(36051, Coding::U16, "meter2_comm_status")
        .about("1 the second meter answers, 0 it does not"),
    Register::volts(36052, "meter_voltage_l1").about("voltage of phase 1 at the meter"),
    Register::volts(36053, "meter_voltage_l2").about("voltage of phase 2 at the meter"),
    Register::volts(36054, "meter_voltage_l3").about("voltage of phase 3 at the meter"),
    Register::amps(36055, "meter_current_l1").about("current of phase 1 at the meter"),
    Register::amps(36056, "meter_current_l2").about("current of phase 2 at the meter"),
    Register::amps(36057, "meter_current_l3").about("current of phase 3 at the meter"),
    Register::meter_total(36092, Coding::U64, 100, "meter_export_energy_total_l1")
        .about("energy exported on phase 1"),
    Register::meter_total(36096, Coding::U64, 100, "meter_export_energy_total_l2")
        .about("energy exported on phase 2"),
    Register::meter_total(36100, Coding::U64, 100, "meter_export_energy_total_l3")
        .about("energy exported on phase 3"),
    Register::meter_total(36104, Coding::U64, 100, "meter_long_export_energy")
        .part()
        .about("exported energy in 64 bits"),
    Register::meter_total(36108, Coding::U64, 100, "meter_import_energy_total_l1")
        .about("energy imported on phase 1"),
    Register::meter_total(36112, Coding::U64, 100, "meter_import_energy_total_l2")
        .about("energy imported on phase 2"),
    Register::meter_total(36116, Coding::U64, 100, "meter_import_energy_total_l3")
        .about("energy imported on phase 3"),
    Register::meter_total(36120, Coding::U64, 100, "meter_long_import_energy")
        .part()
        .about("imported energy in 64 bits"),
];

/// 35301: strings beyond four and trackers, on inverters from 15 kW.
const MPPT_BLOCK: &[Register] = &[
    Register::new(35301, Coding::U32, 1, "pv_power_all", "W")
        .limit(Limit::InverterPower)
        .about("power of all PV strings, those beyond 4 included"),
    Register::code(35303, Coding::U16, "pv_channels").about("PV strings the inverter has"),
    Register::volts(35304, "pv5_voltage").about("voltage of PV string 5"),
    Register::amps(35305, "pv5_current").about("current of PV string 5"),
    Register::volts(35306, "pv6_voltage").about("voltage of PV string 6"),
    Register::amps(35307, "pv6_current").about("current of PV string 6"),
    Register::volts(35308, "pv7_voltage").about("voltage of PV string 7"),
    Register::amps(35309, "pv7_current").about("current of PV string 7"),
    Register::volts(35310, "pv8_voltage").about("voltage of PV string 8"),
    Register::amps(35311, "pv8_current").about("current of PV string 8"),
    Register::volts(35312, "pv9_voltage").about("voltage of PV string 9"),
    Register::amps(35313, "pv9_current").about("current of PV string 9"),
    Register::volts(35314, "pv10_voltage").about("voltage of PV string 10"),
    Register::amps(35315, "pv10_current").about("current of PV string 10"),
    Register::volts(35316, "pv11_voltage").about("voltage of PV string 11"),
    Register::amps(35317, "pv11_current").about("current of PV string 11"),
    Register::volts(35318, "pv12_voltage").about("voltage of PV string 12"),
    Register::amps(35319, "pv12_current").about("current of PV string 12"),
    Register::volts(35320, "pv13_voltage").about("voltage of PV string 13"),
    Register::amps(35321, "pv13_current").about("current of PV string 13"),
    Register::volts(35322, "pv14_voltage").about("voltage of PV string 14"),
    Register::amps(35323, "pv14_current").about("current of PV string 14"),
    Register::volts(35324, "pv15_voltage").about("voltage of PV string 15"),
    Register::amps(35325, "pv15_current").about("current of PV string 15"),
    Register::volts(35326, "pv16_voltage").about("voltage of PV string 16"),
    Register::amps(35327, "pv16_current").about("current of PV string 16"),
    Register::new(35337, Coding::U16, 1, "mppt1_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 1"),
    Register::new(35338, Coding::U16, 1, "mppt2_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 2"),
    Register::new(35339, Coding::U16, 1, "mppt3_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 3"),
    Register::new(35340, Coding::U16, 1, "mppt4_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 4"),
    Register::new(35341, Coding::U16, 1, "mppt5_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 5"),
    Register::new(35342, Coding::U16, 1, "mppt6_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 6"),
    Register::new(35343, Coding::U16, 1, "mppt7_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 7"),
    Register::new(35344, Coding::U16, 1, "mppt8_power", "W")
        .limit(Limit::InverterPower)
        .about("power of tracker 8"),
    Register::amps(35345, "mppt1_current").about("current of tracker 1"),
    Register::amps(35346, "mppt2_current").about("current of tracker 2"),
    Register::amps(35347, "mppt3_current").about("current of tracker 3"),
    Register::amps(35348, "mppt4_current").about("current of tracker 4"),
    Register::amps(35349, "mppt5_current").about("current of tracker 5"),
    Register::amps(35350, "mppt6_current").about("current of tracker 6"),
    Register::amps(35351, "mppt7_current").about("current of tracker 7"),
    Register::amps(35352, "mppt8_current").about("current of tracker 8"),
    Register::signed(35353, Coding::I32, 1, "reactive_power_l1", "var", MPPT)
        .about("reactive power of phase 1"),
    Register::signed(35355, Coding::I32, 1, "reactive_power_l2", "var", MPPT)
        .about("reactive power of phase 2"),
    Register::signed(35357, Coding::I32, 1, "reactive_power_l3", "var", MPPT)
        .about("reactive power of phase 3"),
    Register::signed(35359, Coding::I32, 1, "apparent_power_l1", "VA", MPPT)
        .about("apparent power of phase 1"),
];
