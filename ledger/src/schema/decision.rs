//! What the optimiser decided, with what it saw.

use super::{
    check_at_least_zero, check_between, check_currency, check_device, check_name, check_object, empty_list,
    empty_object, usual_currency,
};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// What was decided about.
    pub enum DecisionKind {
        /// Charging the battery.
        Charging = "charging",
        /// Selling from it.
        Selling = "selling",
        /// Something else.
        Other = "other",
    }
}

words! {
    /// Who says so.
    pub enum DecisionOrigin {
        /// Told by a client over HTTP.
        Reported = "reported",
        /// Read from the optimiser's files.
        Imported = "imported",
    }
}

fn reported() -> DecisionOrigin {
    DecisionOrigin::Reported
}

record! {
    /// One decision.
    pub struct Decision in "decisions"
    key ["decision_key"] time "at_ns"
    filters ["decision_key", "kind", "device_id", "action", "source", "priority", "tariff_zone", "origin"] history true
    {
        /// Names it, so that telling it twice makes one.
        decision_key: String => "decision_key",
        /// When it was decided.
        #[serde(with = "crate::instant")] at: Timestamp => "at_ns",
        /// What it is about.
        kind: DecisionKind => "kind",
        /// As in the tag `device_id`.
        #[serde(default)] device_id: Option<String> => "device_id",
        /// `charge`, `wait`, `battery_selling`, ...
        action: String => "action",
        /// `grid`, `pv`, `hybrid`.
        #[serde(default)] source: Option<String> => "source",
        /// `low` to `emergency`.
        #[serde(default)] priority: Option<String> => "priority",
        /// For people.
        #[serde(default)] reason: Option<String> => "reason",
        /// 0 to 1.
        #[serde(default)] confidence: Option<f64> => "confidence",
        /// Hours planned.
        #[serde(default)] duration_h: Option<f64> => "duration_h",
        /// Energy planned, kWh.
        #[serde(default)] energy_kwh: Option<f64> => "energy_kwh",
        /// What it would cost.
        #[serde(default)] estimated_cost: Option<f64> => "estimated_cost",
        /// What it would save.
        #[serde(default)] estimated_savings: Option<f64> => "estimated_savings",
        /// What it would earn.
        #[serde(default)] expected_revenue: Option<f64> => "expected_revenue",
        /// Total price per kWh as seen; none if it was not known, which the optimiser wrote as 0.
        #[serde(default)] price_kwh: Option<f64> => "price_kwh",
        /// Lowest of the day.
        #[serde(default)] cheapest_price_kwh: Option<f64> => "cheapest_price_kwh",
        /// Local hour of it.
        #[serde(default)] cheapest_hour: Option<i64> => "cheapest_hour",
        /// ISO 4217.
        #[serde(default = "usual_currency")] currency: String => "currency",
        /// Percent.
        #[serde(default)] battery_soc: Option<f64> => "battery_soc",
        /// Watts.
        #[serde(default)] pv_power_w: Option<f64> => "pv_power_w",
        /// Watts.
        #[serde(default)] consumption_w: Option<f64> => "consumption_w",
        /// Zone of the tariff.
        #[serde(default)] tariff_zone: Option<String> => "tariff_zone",
        /// Who says so.
        #[serde(default = "reported")] origin: DecisionOrigin => "origin",
        /// Anything else, a JSON object.
        #[serde(default = "empty_object")] details: Value => "details",
        /// What an import put right: a list of `{"rule","field","original","repaired"}`.
        #[serde(default = "empty_list")] repairs: Value => "repairs",
    }
}

impl Decision {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("decision_key", &self.decision_key)?;
        check_device(self.device_id.as_deref())?;
        check_name("action", &self.action)?;
        check_currency(&self.currency)?;
        check_object("details", &self.details)?;
        if !self.repairs.is_array() {
            return Err(Invalid::new("repairs", "a JSON list is expected"));
        }
        if self.cheapest_hour.is_some_and(|hour| !(0..=24).contains(&hour)) {
            return Err(Invalid::new("cheapest_hour", "0 to 24"));
        }
        check_at_least_zero(&[("duration_h", self.duration_h)])?;
        check_between(&[("confidence", self.confidence)], 0.0, 1.0)?;
        check_between(&[("battery_soc", self.battery_soc)], 0.0, 100.0)
    }
}
