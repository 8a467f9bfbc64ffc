//! What is told of a period, by name: its energies, shares and money, rounded as people are shown them.

use super::{FIELDS, Money, Period, Values, place};
use serde_json::{Map, Value, json};
use wattlog_analytics::energy::{Flows, Share};

/// Everything that is known of a period that is told as ending at `end`; what is not known is null.
pub fn figures(period: &Period, end: i64) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("coverage".into(), json!(coverage(period, end)));
    for (name, value) in energies(&period.values) {
        out.insert(name.into(), json!(value));
    }
    let [consumption, sufficiency] = shares(&period.values);
    out.insert("self_consumption".into(), json!(consumption));
    out.insert("self_sufficiency".into(), json!(sufficiency));
    let money = |of: Option<Money>, direct: &str| {
        of.map(|money| {
            json!({
                "pln": rounded(money.pln), direct: money.direct_pln.map(rounded),
                "battery_pln": money.battery_pln.map(rounded), "priced_kwh": rounded(money.priced_kwh),
            })
        })
    };
    out.insert("cost".into(), json!(money(period.cost, "house_pln")));
    out.insert("revenue".into(), json!(money(period.revenue, "pv_pln")));
    out
}

/// Energies with their names; what is in seconds is told as coverage.
pub fn energies(values: &Values) -> impl Iterator<Item = (&'static str, Option<f64>)> {
    let named = FIELDS.into_iter().zip(*values).filter(|(name, _)| name.ends_with("_kwh"));
    named.map(|(name, value)| (name, value.map(rounded)))
}

/// Sums of milliwatt hours are shown as such; zero has no sign.
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6 + 0.0
}

/// Share of its time up to `end` that rests on points.
pub fn coverage(period: &Period, end: i64) -> f64 {
    let covered_s = period.values[place("covered_s")].unwrap_or_default();
    let length_ns = (period.times.end.min(end) - period.times.start).max(1);
    // Points may be a moment ahead of the clock.
    rounded((covered_s / (length_ns as f64 / 1e9)).min(1.0))
}

/// Self-consumption and self-sufficiency.
pub fn shares(values: &Values) -> [Option<f64>; 2] {
    let value = |name: &str| values[FIELDS.iter().position(|field| *field == name)?];
    let flows = || {
        Some(Flows {
            pv_to_house: value("pv_to_house_kwh")?,
            pv_to_battery: value("pv_to_battery_kwh")?,
            pv_to_grid: value("pv_to_grid_kwh")?,
            battery_to_house: value("battery_to_house_kwh")?,
            battery_to_grid: value("battery_to_grid_kwh")?,
            grid_to_house: value("grid_to_house_kwh")?,
            grid_to_battery: value("grid_to_battery_kwh")?,
            ..Flows::default()
        })
    };
    let share = |share: Option<Share>| share.map(|share| rounded(share.share));
    let Some(flows) = flows() else { return [None, None] };
    [share(flows.self_consumption()), share(flows.self_sufficiency())]
}
