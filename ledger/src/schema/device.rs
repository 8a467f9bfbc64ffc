//! What is installed.

use super::{check_after, check_name, check_object, empty_object};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// What a device is.
    pub enum DeviceKind {
        /// Turns direct current into alternating current; with or without a battery.
        Inverter = "inverter",
        /// A battery with an entry of its own.
        Battery = "battery",
        /// Counts energy.
        Meter = "meter",
        /// Charges a car.
        Charger = "charger",
        /// Heats or cools.
        HeatPump = "heat_pump",
        /// Measures something else.
        Sensor = "sensor",
        /// None of these.
        Other = "other",
    }
}

record! {
    /// A device; `device_id` is the tag of its points.
    pub struct Device in "devices"
    key ["device_id"] time "created_ns" filters ["device_id", "kind", "location"] history true
    {
        /// As in the tag `device_id`.
        device_id: String => "device_id",
        /// What it is.
        kind: DeviceKind => "kind",
        /// Who made it.
        #[serde(default)] manufacturer: Option<String> => "manufacturer",
        /// Its model.
        #[serde(default)] model: Option<String> => "model",
        /// Its serial number.
        #[serde(default)] serial_number: Option<String> => "serial_number",
        /// As in the tag `location`.
        #[serde(default)] location: Option<String> => "location",
        /// Watts.
        #[serde(default)] rated_power_w: Option<f64> => "rated_power_w",
        /// Kilowatt-hours between empty and full.
        #[serde(default)] battery_capacity_kwh: Option<f64> => "battery_capacity_kwh",
        /// First day of service.
        #[serde(default, with = "crate::instant::maybe")] commissioned: Option<Timestamp> => "commissioned_ns",
        /// Last day of service.
        #[serde(default, with = "crate::instant::maybe")] retired: Option<Timestamp> => "retired_ns",
        /// Anything else, a JSON object.
        #[serde(default = "empty_object")] settings: Value => "settings",
        /// For people.
        #[serde(default)] note: String => "note",
    }
}

impl Device {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("device_id", &self.device_id)?;
        check_object("settings", &self.settings)?;
        for (field, value) in
            [("rated_power_w", self.rated_power_w), ("battery_capacity_kwh", self.battery_capacity_kwh)]
        {
            if value.is_some_and(|value| value <= 0.0) {
                return Err(Invalid::new(field, "more than 0, or null if it is not known"));
            }
        }
        match self.commissioned {
            Some(start) => check_after("retired", start, self.retired),
            None => Ok(()),
        }
    }
}
