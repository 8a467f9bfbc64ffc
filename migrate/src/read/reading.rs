//! Readings: the nested object of the collector and the flat record of the later lists and of the store.
//!
//! Promise: fields have wattlog's names, units and signs (battery + = discharge, grid + = export, which is what the
//! optimiser stored under these keys); of its own derivations, which had wrong signs and false zeros, nothing is taken.

use super::draft::{Draft, Object, Quantity, text};
use crate::context::{Intake, fields_hash, hash_of};
use crate::json::NotFinite;
use crate::record::{Body, Kind, Origin, Reading};
use crate::report::{Position, Rule};
use crate::time::{Order, Sureness};
use serde_json::Value;
use std::sync::Arc;
use wattlog_model::FieldValue;

/// One record, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Found<'a> {
    pub object: &'a Object,
    pub position: Position,
    pub origin: Origin,
    /// Numbers of it that were none, with paths from its top.
    pub not_finite: Vec<NotFinite>,
}

impl Found<'_> {
    /// The same, told to be of this form.
    pub(crate) fn of(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// A draft that already tells what was no number.
    pub(crate) fn draft(&self) -> Draft {
        let mut draft = Draft::default();
        for mark in &self.not_finite {
            draft.repair(Rule::NotFinite, &mark.path, Value::from(mark.token.as_str()), Value::Null);
        }
        draft
    }
}

/// Group, key, field, what it can be. Of several keys for one field the first that is there counts.
const NESTED: &[(&str, &str, &str, Quantity)] = &[
    ("battery", "soc_percent", "battery_soc", Quantity::Percent),
    ("battery", "voltage", "battery_voltage", Quantity::Volt),
    ("battery", "current", "battery_current", Quantity::Ampere),
    ("battery", "power_w", "battery_power", Quantity::Watt),
    ("battery", "temperature", "battery_temp", Quantity::Celsius),
    ("photovoltaic", "current_power_w", "pv_power", Quantity::Watt),
    ("photovoltaic", "pv1_power_w", "pv1_power", Quantity::StringWatt),
    ("photovoltaic", "pv2_power_w", "pv2_power", Quantity::StringWatt),
    ("photovoltaic", "pv1_voltage", "pv1_voltage", Quantity::Volt),
    ("photovoltaic", "pv2_voltage", "pv2_voltage", Quantity::Volt),
    ("photovoltaic", "pv1_current", "pv1_current", Quantity::Ampere),
    ("photovoltaic", "pv2_current", "pv2_current", Quantity::Ampere),
    ("photovoltaic", "daily_production_kwh", "pv_energy_today", Quantity::DayKwh),
    ("grid", "power_w", "grid_power", Quantity::Watt),
    ("grid", "voltage", "ac_voltage_l1", Quantity::Volt),
    ("grid", "l1_current_a", "ac_current_l1", Quantity::Ampere),
    ("grid", "l2_current_a", "ac_current_l2", Quantity::Ampere),
    ("grid", "l3_current_a", "ac_current_l3", Quantity::Ampere),
    ("grid", "l1_power", "meter_power_l1", Quantity::Watt),
    ("grid", "l2_power", "meter_power_l2", Quantity::Watt),
    ("grid", "l3_power", "meter_power_l3", Quantity::Watt),
    ("grid", "total_exported_kwh", "grid_export_energy_total", Quantity::TotalKwh),
    ("grid", "total_imported_kwh", "grid_import_energy_total", Quantity::TotalKwh),
    ("grid", "today_exported_kwh", "ac_export_energy_today", Quantity::DayKwh),
    ("grid", "today_imported_kwh", "ac_import_energy_today", Quantity::DayKwh),
    ("house_consumption", "current_power_w", "consumption", Quantity::Watt),
    ("house_consumption", "daily_total_kwh", "load_energy_today", Quantity::DayKwh),
    ("house_consumption", "total_consumption_kwh", "load_energy_total", Quantity::TotalKwh),
    // The later adapter's names.
    ("photovoltaic", "daily_generation_kwh", "pv_energy_today", Quantity::DayKwh),
    ("photovoltaic", "string1_power_w", "pv1_power", Quantity::StringWatt),
    ("photovoltaic", "string2_power_w", "pv2_power", Quantity::StringWatt),
    ("photovoltaic", "string3_power_w", "pv3_power", Quantity::StringWatt),
    ("photovoltaic", "string4_power_w", "pv4_power", Quantity::StringWatt),
    ("grid", "current_power_w", "grid_power", Quantity::Watt),
    ("grid", "frequency", "ac_frequency_l1", Quantity::Hertz),
    ("grid", "daily_import_kwh", "ac_import_energy_today", Quantity::DayKwh),
    ("grid", "daily_export_kwh", "ac_export_energy_today", Quantity::DayKwh),
    ("grid", "phase1_current_a", "ac_current_l1", Quantity::Ampere),
    ("grid", "phase2_current_a", "ac_current_l2", Quantity::Ampere),
    ("grid", "phase3_current_a", "ac_current_l3", Quantity::Ampere),
    ("inverter", "temperature", "inverter_temp", Quantity::Celsius),
];

/// Group, key in kW, field: asked only where the power in W is missing. A zero there was put in for "Unknown".
const TWINS: &[(&str, &str, &str)] = &[
    ("battery", "power_kw", "battery_power"),
    ("photovoltaic", "current_power_kw", "pv_power"),
    ("grid", "power_kw", "grid_power"),
    ("house_consumption", "current_power_kw", "consumption"),
];

/// Keys of nested records that are derived, wrong, copies, or no measurement.
const NESTED_LEFT: &[&str] = &[
    "battery/charging_status",
    "battery/fast_charging_enabled",
    "photovoltaic/efficiency_percent",
    "grid/flow_direction",
    "grid/import_rate",
    "grid/export_rate",
    "house_consumption/calculated_power_w",
    "house_consumption/calculated_power_kw",
];
/// Groups that tell of the device, or repeat other groups.
const GROUPS_LEFT: &[&str] = &[
    "timestamp",
    "date",
    "time",
    "system",
    "tariff_zone",
    "pv",
    "consumption",
    "weather",
    "battery_selling",
    "battery_selling_safety",
];

const FLAT: &[(&str, &str, Quantity)] = &[
    ("battery_soc", "battery_soc", Quantity::Percent),
    ("pv_power", "pv_power", Quantity::Watt),
    ("grid_power", "grid_power", Quantity::Watt),
    ("house_consumption", "consumption", Quantity::Watt),
    ("battery_power", "battery_power", Quantity::Watt),
    ("grid_voltage", "ac_voltage_l1", Quantity::Volt),
    ("grid_frequency", "ac_frequency_l1", Quantity::Hertz),
    ("battery_voltage", "battery_voltage", Quantity::Volt),
    ("battery_current", "battery_current", Quantity::Ampere),
    ("battery_temperature", "battery_temp", Quantity::Celsius),
    ("price_pln", "price", Quantity::PlnPerKwh),
    ("grid_import_total_kwh", "grid_import_energy_total", Quantity::TotalKwh),
    ("grid_export_total_kwh", "grid_export_energy_total", Quantity::TotalKwh),
    ("house_consumption_total_kwh", "load_energy_total", Quantity::TotalKwh),
    // Holds the daily counter.
    (MISNAMED_DAILY_COUNTER, "pv_energy_today", Quantity::DayKwh),
    // Names of its own tests.
    ("consumption", "consumption", Quantity::Watt),
    ("battery_temp", "battery_temp", Quantity::Celsius),
    ("price", "price", Quantity::PlnPerKwh),
];

/// Names of tariff zones are `T1` and `T2`; longer text is none.
const LONGEST_ZONE: usize = 16;
const MISNAMED_DAILY_COUNTER: &str = "pv_generation_total_kwh";

/// Takes a nested record.
pub(crate) fn nested(
    found: Found<'_>,
    order: &mut Order,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let mut fields = Fields::default();
    let group = |name: &str| found.object.get(name).and_then(Value::as_object);
    for (name, key, field, quantity) in NESTED {
        let Some(object) = group(name) else { continue };
        if !fields.has(field) {
            fields.put(field, draft.number(object, key, field, *quantity));
        }
    }
    for (name, key, field) in TWINS {
        let Some(object) = group(name) else { continue };
        if fields.has(field) {
            continue;
        }
        let Some(kilowatts) = object.get(*key).and_then(Value::as_f64) else { continue };
        if kilowatts == 0.0 {
            draft.repair(Rule::FalseZero, field, Value::from(kilowatts), Value::Null);
        } else if let Some(watts) = Some(kilowatts * 1000.0).filter(|watts| watts.abs() <= 60_000.0) {
            draft.repair(Rule::WattsFromKilowatts, field, Value::from(kilowatts), Value::from(watts));
            fields.put(field, Some(watts));
        }
    }
    for (name, value) in found.object {
        if GROUPS_LEFT.contains(&name.as_str()) {
            continue;
        }
        let Some(members) = value.as_object() else {
            intake.unknown_key(name);
            continue;
        };
        for key in members.keys().filter(|_| name != "inverter") {
            let known = NESTED.iter().any(|(group, known, ..)| group == name && known == key)
                || TWINS.iter().any(|(group, known, _)| group == name && known == key)
                || NESTED_LEFT.contains(&format!("{name}/{key}").as_str());
            if !known {
                intake.unknown_key(&format!("{name}/{key}"));
            }
        }
    }
    let serial = serial(found.object).unwrap_or_else(|written| {
        draft.repair(
            Rule::OutOfRange,
            "device",
            Value::from(crate::report::shortened(&written)),
            Value::Null,
        );
        None
    });
    finish(found, draft, fields, serial, order, intake)
}

/// The serial number in a nested record; `Err` with what is written there if that is none.
pub(crate) fn serial(object: &Object) -> Result<Option<String>, String> {
    let places = [("system", "inverter_serial"), ("inverter", "inverter_serial"), ("inverter", "serial")];
    let written = places.iter().find_map(|(name, key)| text(object.get(*name)?.as_object()?, key));
    match written {
        Some(serial) if serial.len() > 64 || !serial.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(serial)
        }
        written => Ok(written),
    }
}

/// Takes a flat record.
pub(crate) fn flat(found: Found<'_>, order: &mut Order, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let mut fields = Fields::default();
    for (key, field, quantity) in FLAT {
        if fields.has(field) {
            continue;
        }
        let number = draft.number(found.object, key, field, *quantity);
        if let Some(number) = number.filter(|_| *key == MISNAMED_DAILY_COUNTER) {
            let original = serde_json::json!({ MISNAMED_DAILY_COUNTER: number });
            draft.repair(Rule::DailyCounterAsTotal, field, original, Value::from(number));
        }
        fields.put(field, number);
    }
    for key in found.object.keys() {
        let known = FLAT.iter().any(|(known, ..)| known == key);
        if !known && !matches!(key.as_str(), "timestamp" | "created_at" | "tariff_zone") {
            intake.unknown_key(key);
        }
    }
    finish(found, draft, fields, None, order, intake)
}

#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, FieldValue)>);

impl Fields {
    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == field)
    }

    fn number(&self, field: &str) -> Option<f64> {
        self.0.iter().find_map(|(name, value)| match value {
            FieldValue::Float(number) if *name == field => Some(*number),
            _ => None,
        })
    }

    fn put(&mut self, field: &'static str, number: Option<f64>) {
        if let Some(number) = number {
            self.0.push((field, FieldValue::Float(number)));
        }
    }

    fn take(&mut self, field: &str) -> Option<f64> {
        let number = self.number(field);
        self.0.retain(|(name, _)| *name != field);
        number
    }
}

fn finish(
    found: Found<'_>,
    mut draft: Draft,
    mut fields: Fields,
    serial: Option<String>,
    order: &mut Order,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    // The library turned "no data" of voltage, current and charge into 0: a battery at 0 V answers nothing at all.
    if fields.number("battery_voltage") == Some(0.0) && fields.number("battery_soc") == Some(0.0) {
        for field in ["battery_soc", "battery_voltage", "battery_current"] {
            if let Some(number) = fields.take(field) {
                draft.repair(Rule::FalseZero, field, Value::from(number), Value::Null);
            }
        }
    }
    if let Some(zone) = text(found.object, "tariff_zone") {
        if zone.len() <= LONGEST_ZONE {
            fields.0.push(("tariff_zone", FieldValue::String(Arc::from(zone))));
        } else {
            draft.repair(
                Rule::OutOfRange,
                "tariff_zone",
                Value::from(crate::report::shortened(&zone)),
                Value::Null,
            );
        }
    }
    let measured = fields.0.iter().any(|(_, value)| matches!(value, FieldValue::Float(_)));
    fields.0.sort_by_key(|(name, _)| *name);
    let fields = fields.0;
    let device = serial.unwrap_or_else(|| intake.context.options.device.clone());

    let zone = intake.context.options.zone.clone();
    let marks = draft.repairs.len();
    let mut resolved = match draft.time(found.object, "timestamp", &zone, order) {
        Ok(resolved) => resolved,
        Err(reason) => return intake.refuse(Some(Kind::Reading), found.position, reason),
    };
    if !measured {
        let reason = "no value of the reading is known".to_owned();
        return intake.refuse(Some(Kind::Reading), found.position, reason);
    }
    if resolved.twice {
        // The dumps overlap: another one may have begun before the hour and so known the pass of this very reading.
        let reading = hash_of((&device, resolved.local.to_string(), fields_hash(&fields)));
        match (resolved.sureness, intake.context.known_pass(reading)) {
            (Sureness::Sure, _) => intake.context.remember_pass(reading, resolved.at),
            (_, Some(known)) => {
                resolved.at = known;
                order.saw(known);
                draft.repairs.truncate(marks);
            }
            (_, None) => {}
        }
    }
    let key = format!("reading/{device}/{}", resolved.at.0);
    let body = Body::Reading(Reading { at: resolved.at, device, fields });
    intake.record(key, found.position, found.origin, draft.repairs, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_one_quantity_under_every_name() {
        let all = NESTED.iter().map(|(_, _, field, quantity)| (*field, *quantity));
        let all: Vec<_> = all.chain(FLAT.iter().map(|(_, field, quantity)| (*field, *quantity))).collect();
        for (field, quantity) in &all {
            assert!(all.iter().all(|(other, its)| other != field || its == quantity), "{field}");
        }
        for (_, _, field) in TWINS {
            assert!(all.contains(&(field, Quantity::Watt)), "{field}");
        }
    }
}
