//! Stretches of time in which the battery was charged, or sold to the grid.

use super::{
    check_at_least_zero, check_between, check_currency, check_device, check_end, check_name, check_object,
    empty_object, usual_currency,
};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// What was done.
    pub enum SessionKind {
        /// Energy went into the battery.
        Charging = "charging",
        /// Energy of the battery went to the grid.
        Selling = "selling",
    }
}

words! {
    /// Where the energy came from.
    pub enum SessionSource {
        /// The grid.
        Grid = "grid",
        /// The roof.
        Pv = "pv",
        /// Both.
        Mixed = "mixed",
        /// The battery, as in every selling session.
        Battery = "battery",
        /// Nobody told.
        Unknown = "unknown",
    }
}

words! {
    /// How far it is.
    pub enum SessionStatus {
        /// Will begin.
        Planned = "planned",
        /// Goes on.
        Active = "active",
        /// Over.
        Completed = "completed",
        /// Given up before it began or ended.
        Cancelled = "cancelled",
        /// Did not do what it should.
        Failed = "failed",
    }
}

words! {
    /// Who says so.
    pub enum SessionOrigin {
        /// Found in the measured power.
        Detected = "detected",
        /// Told by a client over HTTP.
        Reported = "reported",
        /// Read from the optimiser's files.
        Imported = "imported",
    }
}

fn reported() -> SessionOrigin {
    SessionOrigin::Reported
}

record! {
    /// One session; numbers that were not measured are `None`.
    pub struct Session in "sessions"
    key ["session_id"] time "start_ns" filters ["session_id", "kind", "device_id", "source", "status", "origin"] history true
    {
        /// Names it for whoever told it; `charging/ID` or `selling/ID` of the optimiser.
        session_id: String => "session_id",
        /// Charging or selling.
        kind: SessionKind => "kind",
        /// As in the tag `device_id`.
        #[serde(default)] device_id: Option<String> => "device_id",
        /// First instant.
        #[serde(with = "crate::instant")] start: Timestamp => "start_ns",
        /// Last instant; none while it goes on.
        #[serde(default, with = "crate::instant::maybe")] end: Option<Timestamp> => "end_ns",
        /// Where the energy came from.
        source: SessionSource => "source",
        /// How far it is.
        status: SessionStatus => "status",
        /// Who says so.
        #[serde(default = "reported")] origin: SessionOrigin => "origin",
        /// 1 is the most urgent.
        #[serde(default)] priority: Option<i64> => "priority",
        /// What was planned, kWh.
        #[serde(default)] target_energy_kwh: Option<f64> => "target_energy_kwh",
        /// What was planned, percent.
        #[serde(default)] target_soc: Option<f64> => "target_soc",
        /// State of charge at the start, percent.
        #[serde(default)] battery_soc_start: Option<f64> => "battery_soc_start",
        /// State of charge at the end, percent.
        #[serde(default)] battery_soc_end: Option<f64> => "battery_soc_end",
        /// Into the battery, or out of it when selling, kWh.
        #[serde(default)] energy_kwh: Option<f64> => "energy_kwh",
        /// Of it from the grid, or to the grid when selling, kWh.
        #[serde(default)] energy_grid_kwh: Option<f64> => "energy_grid_kwh",
        /// Of it from the roof, kWh.
        #[serde(default)] energy_pv_kwh: Option<f64> => "energy_pv_kwh",
        /// Largest battery power, W, without a sign.
        #[serde(default)] peak_power_w: Option<f64> => "peak_power_w",
        /// Currency per kWh of the energy bought or sold; may be negative.
        #[serde(default)] average_price: Option<f64> => "average_price",
        /// What the energy from the grid cost; may be negative.
        #[serde(default)] total_cost: Option<f64> => "total_cost",
        /// What the energy to the grid earned; may be negative.
        #[serde(default)] revenue: Option<f64> => "revenue",
        /// Against the usual price, as whoever told it reckons.
        #[serde(default)] savings: Option<f64> => "savings",
        /// ISO 4217.
        #[serde(default = "usual_currency")] currency: String => "currency",
        /// Share of its time with measurements, 0 to 1.
        #[serde(default)] coverage: Option<f64> => "coverage",
        /// Anything else, a JSON object.
        #[serde(default = "empty_object")] details: Value => "details",
    }
}

impl Session {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("session_id", &self.session_id)?;
        check_device(self.device_id.as_deref())?;
        check_currency(&self.currency)?;
        check_object("details", &self.details)?;
        check_end("end", self.start, self.end)?;
        if self.status == SessionStatus::Completed && self.end.is_none() {
            return Err(Invalid::new("end", "a completed session has an end"));
        }
        check_at_least_zero(&[
            ("target_energy_kwh", self.target_energy_kwh),
            ("energy_kwh", self.energy_kwh),
            ("energy_grid_kwh", self.energy_grid_kwh),
            ("energy_pv_kwh", self.energy_pv_kwh),
            ("peak_power_w", self.peak_power_w),
        ])?;
        let shares = [
            ("target_soc", self.target_soc),
            ("battery_soc_start", self.battery_soc_start),
            ("battery_soc_end", self.battery_soc_end),
        ];
        check_between(&shares, 0.0, 100.0)?;
        check_between(&[("coverage", self.coverage)], 0.0, 1.0)
    }
}
