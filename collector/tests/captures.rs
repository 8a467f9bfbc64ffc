//! Recorded answers of devices, replayed by the simulator and asked back through real sockets, over TCP and over UDP:
//! every value that the index expects of a register comes out equal, every "no data" comes out missing.

mod common;

use common::{Running, TRANSPORTS, own_captures, shared_captures};
use serde_json::Value;
use std::path::Path;
use wattlog_collector::config::{Family, FieldChoice};
use wattlog_collector::goodwe::decode::Reading;
use wattlog_collector::goodwe::registers::{Coding, bit_labels, label};
use wattlog_collector::goodwe::{Assembler, DeviceInfo};
use wattlog_collector::simulator::{Captures, Source};
use wattlog_collector::{Probe, probe};
use wattlog_model::{FieldValue, Timestamp};

#[tokio::test]
async fn every_value_of_the_real_captures_is_decoded() {
    let Some(folder) = shared_captures() else {
        println!("skipped: no fixtures/goodwe in WATTLOG_SHARED or ../shared");
        return;
    };
    assert_eq!(check(&folder).await, 2 * 271, "values compared");
}

#[tokio::test]
async fn every_value_of_our_own_captures_is_decoded() {
    assert!(check(&own_captures()).await > 300);
}

/// Asks every installation of the folder over both transports; the number of values compared.
async fn check(folder: &Path) -> usize {
    let text = tokio::fs::read_to_string(folder.join("expected.json")).await.unwrap();
    let index: Value = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for (name, installation) in index.as_object().unwrap() {
        let reads = installation["reads"].as_array().unwrap();
        let is_dt = reads.iter().any(|read| read["start"] == 30100);
        for transport in TRANSPORTS {
            let captures = Captures::load(folder, Some(name)).await.unwrap();
            let simulator = Running::start(Source::Captures(captures)).await;
            let mut config = simulator.device(transport);
            config.family = if is_dt { Family::Dt } else { Family::Et };
            config.retries = 3;
            let probe = probe(&config).await.unwrap();
            compared +=
                compare(config.family, &probe, &installation["sensors"], &format!("{name} {transport:?}"));
            compare_info(&probe.info, &installation["device_info"]);
            simulator.stop().await;
        }
    }
    compared
}

fn compare(family: Family, probe: &Probe, sensors: &Value, place: &str) -> usize {
    let mut assembler = Assembler::new(family, FieldChoice::All);
    assembler.set_second_battery(probe.second_battery);
    let fields = assembler.fields(&mut probe.readings.clone(), Timestamp(0));
    let mut compared = 0;
    for (sensor, expected) in sensors.as_object().unwrap() {
        let context = format!("{place}: {sensor}");
        let wanted = &expected["value"];
        if expected["calculated"] == true {
            if NOT_OURS.contains(&sensor.as_str()) {
                continue;
            }
            let field = field_of(sensor);
            let found = fields.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone());
            assert_eq!(found, Some(FieldValue::Float(wanted.as_f64().unwrap())), "{context}");
            compared += 1;
            continue;
        }
        let Some(register) = expected["register"].as_u64() else { panic!("{context} has no register") };
        let coding = expected["type"].as_str().unwrap();
        let reading = |address: u64, coding: Coding| {
            let found = probe.readings.iter().find(|reading| {
                u64::from(reading.register.address) == address && reading.register.coding == coding
            });
            found.unwrap_or_else(|| panic!("{context}: register {address} was not read"))
        };
        match coding {
            "u16_enum" | "i8_low_enum" | "i8_high_enum" => {
                let reading = reading(register, coding_of(coding.trim_end_matches("_enum")));
                let Some(FieldValue::Integer(code)) = reading.value else { panic!("{context}: no code") };
                assert_eq!(label(family, reading.register.field, code), wanted.as_str(), "{context}");
            }
            "u32_bitmap" => {
                let reading = reading(register, Coding::U32);
                let bits = if let Some(FieldValue::Integer(bits)) = reading.value { bits } else { 0 };
                let words = bit_labels(reading.register.field, bits as u32).join(", ");
                assert_eq!(Some(words.as_str()), wanted.as_str(), "{context}");
            }
            "u16x2_bitmap" => {
                let field = format!("{sensor}_bits");
                let bits = fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value.clone());
                let Some(FieldValue::Integer(bits)) = bits else { panic!("{context}: no bits") };
                let words = bit_labels(&field, bits as u32).join(", ");
                assert_eq!(Some(words.as_str()), wanted.as_str(), "{context}");
            }
            _ => {
                let reading = reading(register, coding_of(coding));
                assert_eq!(reading.register.field, field_of(sensor), "{context}");
                compare_number(reading, expected, &context);
            }
        }
        compared += 1;
    }
    compared
}

fn compare_number(reading: &Reading, expected: &Value, context: &str) {
    let wanted = &expected["value"];
    let sentinel = expected["sentinel"] == true;
    assert_eq!(sentinel, wanted.is_null(), "{context}");
    match &reading.value {
        None => assert!(sentinel, "{context}: missing instead of {wanted}"),
        Some(FieldValue::Float(number)) => assert_eq!(Some(*number), wanted.as_f64(), "{context}"),
        Some(FieldValue::Integer(seconds)) if reading.register.coding == Coding::Clock => {
            let shown = jiff::Timestamp::from_second(*seconds).unwrap().to_string();
            assert_eq!(Some(shown.trim_end_matches('Z')), wanted.as_str(), "{context}");
        }
        Some(FieldValue::Integer(number)) => assert_eq!(Some(*number), wanted.as_i64(), "{context}"),
        Some(other) => panic!("{context}: {other:?}"),
    }
    let unit = expected["unit"].as_str().unwrap_or("");
    if reading.register.coding != Coding::Clock {
        assert_eq!(reading.register.unit, unit, "{context}");
    }
}

fn compare_info(info: &DeviceInfo, expected: &Value) {
    let Some(expected) = expected.as_object() else { return };
    for (name, wanted) in expected {
        let found = match name.as_str() {
            "model_name" => serde_json::to_value(&info.model),
            "serial_number" => serde_json::to_value(&info.serial),
            "rated_power" => serde_json::to_value(info.rated_power_w),
            "modbus_version" => serde_json::to_value(info.modbus_version),
            "ac_output_type" => serde_json::to_value(info.ac_output_type),
            "dsp1_version" => serde_json::to_value(info.dsp1_version),
            "dsp2_version" => serde_json::to_value(info.dsp2_version),
            "dsp_svn_version" => serde_json::to_value(info.dsp_build),
            "arm_version" => serde_json::to_value(info.arm_version),
            "arm_svn_version" => serde_json::to_value(info.arm_build),
            "firmware" => serde_json::to_value(&info.firmware),
            "arm_firmware" => serde_json::to_value(&info.arm_firmware),
            other => panic!("{other} is not decoded"),
        };
        assert_eq!(found.unwrap(), *wanted, "{name}");
    }
}

fn coding_of(word: &str) -> Coding {
    match word {
        "u16" => Coding::U16,
        "i16" => Coding::I16,
        "u32" => Coding::U32,
        "i32" => Coding::I32,
        "u64" => Coding::U64,
        "f32" => Coding::F32,
        "i8_low" => Coding::ByteLow,
        "i8_high" => Coding::ByteHigh,
        "datetime6" => Coding::Clock,
        other => panic!("unknown coding {other}"),
    }
}

/// "Which way" is told by the sign; the phases whose power the index calls 0 have no data.
const NOT_OURS: [&str; 4] = ["grid_in_out", "grid_in_out_label", "pgrid2", "pgrid3"];

/// Our field for a sensor of the index; our own captures use our names.
fn field_of(sensor: &str) -> &str {
    FIELDS.iter().find(|(theirs, _)| *theirs == sensor).map_or(sensor, |(_, ours)| ours)
}

#[rustfmt::skip]
const FIELDS: &[(&str, &str)] = &[
    ("timestamp", "inverter_clock"), ("vpv1", "pv1_voltage"), ("ipv1", "pv1_current"), ("ppv1", "pv1_power"),
    ("vpv2", "pv2_voltage"), ("ipv2", "pv2_current"), ("ppv2", "pv2_power"), ("pv1_mode", "pv1_mode"),
    ("pv2_mode", "pv2_mode"), ("vgrid", "ac_voltage_l1"), ("igrid", "ac_current_l1"),
    ("fgrid", "ac_frequency_l1"), ("pgrid", "ac_power_l1"), ("vgrid2", "ac_voltage_l2"),
    ("igrid2", "ac_current_l2"), ("fgrid2", "ac_frequency_l2"), ("pgrid2", "ac_power_l2"),
    ("vgrid3", "ac_voltage_l3"), ("igrid3", "ac_current_l3"), ("fgrid3", "ac_frequency_l3"),
    ("pgrid3", "ac_power_l3"), ("grid_mode", "grid_mode"), ("total_inverter_power", "inverter_power"),
    ("active_power", "active_power"), ("reactive_power", "reactive_power"),
    ("apparent_power", "apparent_power"), ("backup_v1", "backup_voltage_l1"),
    ("backup_i1", "backup_current_l1"), ("backup_f1", "backup_frequency_l1"),
    ("load_mode1", "backup_mode_l1"), ("backup_p1", "backup_power_l1"), ("backup_v2", "backup_voltage_l2"),
    ("backup_i2", "backup_current_l2"), ("backup_f2", "backup_frequency_l2"),
    ("load_mode2", "backup_mode_l2"), ("backup_p2", "backup_power_l2"), ("backup_v3", "backup_voltage_l3"),
    ("backup_i3", "backup_current_l3"), ("backup_f3", "backup_frequency_l3"),
    ("load_mode3", "backup_mode_l3"), ("backup_p3", "backup_power_l3"), ("load_p1", "load_power_l1"),
    ("load_p2", "load_power_l2"), ("load_p3", "load_power_l3"), ("load_ptotal", "load_power"),
    ("backup_ptotal", "backup_power"), ("ups_load", "backup_load"), ("temperature_air", "inverter_temp_air"),
    ("temperature_module", "inverter_temp_module"), ("temperature", "inverter_temp"),
    ("function_bit", "function_bits"), ("bus_voltage", "bus_voltage"), ("nbus_voltage", "half_bus_voltage"),
    ("vbattery1", "battery_voltage"), ("ibattery1", "battery_current"), ("pbattery1", "battery_power"),
    ("battery_mode", "battery_mode"), ("warning_code", "warning_code"), ("safety_country", "safety_country"),
    ("work_mode", "work_mode"), ("operation_mode", "operation_mode"), ("error_codes", "error_bits"),
    ("e_total", "pv_energy_total"), ("e_day", "pv_energy_today"), ("e_total_exp", "ac_export_energy_total"),
    ("h_total", "operating_hours"), ("e_day_exp", "ac_export_energy_today"),
    ("e_total_imp", "ac_import_energy_total"), ("e_day_imp", "ac_import_energy_today"),
    ("e_load_total", "load_energy_total"), ("e_load_day", "load_energy_today"),
    ("e_bat_charge_total", "battery_charge_energy_total"),
    ("e_bat_charge_day", "battery_charge_energy_today"),
    ("e_bat_discharge_total", "battery_discharge_energy_total"),
    ("e_bat_discharge_day", "battery_discharge_energy_today"), ("diagnose_result", "diagnosis_bits"),
    ("battery_bms", "battery_bms"), ("battery_index", "battery_index"), ("battery_status", "battery_status"),
    ("battery_temperature", "battery_temp"), ("battery_charge_limit", "battery_charge_limit"),
    ("battery_discharge_limit", "battery_discharge_limit"), ("battery_soc", "battery_soc"),
    ("battery_soh", "battery_soh"), ("battery_modules", "battery_modules"),
    ("battery_warning_l", "battery_warning_low"), ("battery_protocol", "battery_protocol"),
    ("battery_error_h", "battery_error_high"), ("battery_warning_h", "battery_warning_high"),
    ("battery_sw_version", "battery_software"), ("battery_hw_version", "battery_hardware"),
    ("battery_max_cell_temp_id", "battery_max_cell_temp_id"),
    ("battery_min_cell_temp_id", "battery_min_cell_temp_id"),
    ("battery_max_cell_voltage_id", "battery_max_cell_voltage_id"),
    ("battery_min_cell_voltage_id", "battery_min_cell_voltage_id"),
    ("battery_max_cell_temp", "battery_max_cell_temp"), ("battery_min_cell_temp", "battery_min_cell_temp"),
    ("battery_max_cell_voltage", "battery_max_cell_voltage"),
    ("battery_min_cell_voltage", "battery_min_cell_voltage"), ("commode", "meter_mode"), ("rssi", "rssi"),
    ("manufacture_code", "meter_maker"), ("meter_test_status", "meter_test_status"),
    ("meter_comm_status", "meter_comm_status"), ("active_power1", "meter_short_power_l1"),
    ("active_power2", "meter_short_power_l2"), ("active_power3", "meter_short_power_l3"),
    ("active_power_total", "meter_short_power"), ("reactive_power_total", "meter_short_reactive_power"),
    ("meter_power_factor1", "meter_power_factor_l1"), ("meter_power_factor2", "meter_power_factor_l2"),
    ("meter_power_factor3", "meter_power_factor_l3"), ("meter_power_factor", "meter_power_factor"),
    ("meter_freq", "meter_frequency"), ("meter_e_total_exp", "meter_float_export_energy"),
    ("meter_e_total_imp", "meter_float_import_energy"), ("meter_active_power1", "meter_power_l1"),
    ("meter_active_power2", "meter_power_l2"), ("meter_active_power3", "meter_power_l3"),
    ("meter_active_power_total", "meter_power"), ("meter_reactive_power1", "meter_reactive_power_l1"),
    ("meter_reactive_power2", "meter_reactive_power_l2"),
    ("meter_reactive_power3", "meter_reactive_power_l3"),
    ("meter_reactive_power_total", "meter_reactive_power"),
    ("meter_apparent_power1", "meter_apparent_power_l1"),
    ("meter_apparent_power2", "meter_apparent_power_l2"),
    ("meter_apparent_power3", "meter_apparent_power_l3"),
    ("meter_apparent_power_total", "meter_apparent_power"), ("meter_type", "meter_type"),
    ("meter_sw_version", "meter_software"), ("battery_error_l", "battery_error_low"),
    ("vline1", "ac_voltage_l1_l2"), ("vline2", "ac_voltage_l2_l3"), ("vline3", "ac_voltage_l3_l1"),
    ("vgrid1", "ac_voltage_l1"), ("igrid1", "ac_current_l1"), ("fgrid1", "ac_frequency_l1"),
    ("total_input_power", "input_power"), ("temperature_heatsink", "inverter_temp_heatsink"),
    ("funbit", "function_bits"), ("vbus", "bus_voltage"), ("vnbus", "half_bus_voltage"),
    ("derating_mode", "derating_bits"), ("power_factor", "power_factor"), ("ppv", "pv_power"),
    ("house_consumption", "consumption"), ("pgrid1", "ac_power_l1"),
];
