//! A home whose readings are known: instants in UTC, values from a seed, and the text the optimiser would have written.

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Debug, Clone)]
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `from` to `to`, both included.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + (self.next() % (to - from + 1).unsigned_abs()).cast_signed()
    }
}

/// What the inverter said at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    pub at_us: i64,
    pub soc: i64,
    pub pv_w: i64,
    pub battery_w: i64,
    pub grid_w: i64,
    pub export_kwh: f64,
}

impl State {
    pub fn random(seed: &mut Seed, at_us: i64) -> Self {
        Self {
            at_us,
            soc: seed.between(10, 100),
            pv_w: seed.between(0, 9000),
            battery_w: seed.between(-5000, 5000),
            grid_w: seed.between(-8000, 8000),
            export_kwh: seed.between(3_000_000, 3_100_000) as f64 / 1000.0,
        }
    }

    /// The identity that holds within a reading.
    pub fn house_w(&self) -> i64 {
        self.pv_w + self.battery_w - self.grid_w
    }

    /// Key of the record.
    pub fn key(&self, device: &str) -> String {
        format!("reading/{device}/{}", self.at_us * 1000)
    }

    pub fn flat(&self) -> Map<String, Value> {
        let flat = json!({
            "timestamp": local(self.at_us), "battery_soc": self.soc as f64, "pv_power": self.pv_w, "grid_power": self.grid_w,
            "house_consumption": self.house_w(), "battery_power": self.battery_w, "grid_voltage": 231.5,
            "grid_frequency": null, "battery_voltage": 396.4, "battery_current": 6.1, "battery_temperature": 21.5,
            "price_pln": null
        });
        flat.as_object().cloned().expect("an object")
    }

    pub fn nested(&self, device: &str) -> Value {
        let stamp = local(self.at_us);
        json!({
            "timestamp": stamp, "date": stamp[..10], "time": stamp[11..19],
            "battery": {
                "soc_percent": self.soc, "voltage": 396.4, "current": 6.1, "power_w": self.battery_w,
                "power_kw": self.battery_w as f64 / 1000.0, "temperature": 21.5, "charging_status": false,
                "fast_charging_enabled": false
            },
            "photovoltaic": {
                "current_power_w": self.pv_w, "current_power_kw": self.pv_w as f64 / 1000.0, "pv1_power_w": self.pv_w / 2,
                "pv2_power_w": self.pv_w - self.pv_w / 2, "pv1_voltage": 614.4, "pv1_current": 3.4, "pv2_voltage": 553.1,
                "pv2_current": 3.4, "daily_production_kwh": 5.7, "efficiency_percent": 0.0
            },
            "grid": {
                "power_w": self.grid_w, "power_kw": self.grid_w as f64 / 1000.0, "flow_direction": "Import",
                "import_rate": 0.0, "export_rate": 0.0, "l1_power": 0, "l2_power": 0, "l3_power": 0,
                "total_exported_kwh": self.export_kwh, "total_imported_kwh": 2254.858, "today_exported_kwh": 8.3,
                "today_imported_kwh": 1.6
            },
            "house_consumption": {
                "current_power_w": self.house_w(), "current_power_kw": self.house_w() as f64 / 1000.0, "daily_total_kwh": 4.4,
                "total_consumption_kwh": 8820.2, "calculated_power_w": 0, "calculated_power_kw": 0.0
            },
            "system": {
                "inverter_model": "GW10KN-ET", "inverter_serial": device, "connection_status": "Connected",
                "last_update": stamp
            }
        })
    }
}

/// Python's isoformat of the local time in Warsaw: no fraction for whole seconds.
pub fn local(at_us: i64) -> String {
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at_us) * 1000).expect("a time of our century");
    let zone = TimeZone::get("Europe/Warsaw").expect("a bundled zone");
    let local = zone.to_datetime(instant);
    let fraction = local.subsec_nanosecond() / 1000;
    let date = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second()
    );
    if fraction == 0 { date } else { format!("{date}.{fraction:06}") }
}

/// What Python's `json.dump` with an indent of 2 writes.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data")
}

/// What Python's `json.dumps` writes of a record, in which the time comes first.
pub fn line(value: &Value) -> String {
    let mut members = value.as_object().cloned().expect("an object");
    let timestamp = members.remove("timestamp").expect("a time");
    let rest = Value::Object(members).to_string();
    format!("{{\"timestamp\": {timestamp}, {}", &rest[1..])
}
