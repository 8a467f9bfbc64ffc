//! What a file may be by its name, and what a value in it is by its keys.
//!
//! The same name held different shapes over the months, and the same shape stood under different names. So the keys
//! decide; the name settles only what no key tells, and which files are looked at all.

use crate::read::Object;
use jiff::civil::Date;
use serde_json::Value;

/// What the name of a file promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// A file whose records are known by their keys alone.
    Known,
    /// `system_state_...`: any object of the data access layer.
    AnyState,
    /// `decision_...`: any object of the data access layer.
    AnyDecision,
    /// A session of selling, where a record is a session.
    Selling,
    /// A name the optimiser never used.
    Foreign,
}

const KNOWN: &[&str] = &[
    "current_data_",
    "historical_data_",
    "daily_stats_",
    "charging_decision_",
    "coordinator_state_",
    "energy_data_",
    "charging_schedule_",
    "daily_plan_",
    "partial_charging_sessions",
    "snapshot_",
    "daily_snapshot_",
    "monthly_snapshot_",
    "pv_forecast_",
    "price_history",
    "price_cache",
    "daily_soc_drops",
    "sensor_investigation",
    "decisions_",
];
const SELLING: &[&str] = &[
    "battery_selling_decision_",
    "battery_selling_session",
    "session_records",
    "daily_summaries",
    "monthly_reports",
];

/// Reads a file's name, without its folders.
pub(crate) fn of_name(name: &str) -> Name {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(KNOWN) {
        Name::Known
    } else if starts(SELLING) {
        Name::Selling
    } else if name.starts_with("system_state_") {
        Name::AnyState
    } else if name.starts_with("decision_") {
        Name::AnyDecision
    } else {
        Name::Foreign
    }
}

/// The first day in a file's name: `daily_stats_20250917.json`, `energy_data_2025-12-02.json`.
pub(crate) fn day_in_name(name: &str) -> Option<Date> {
    let digits: Vec<u8> = name.bytes().filter(u8::is_ascii_digit).take(8).collect();
    let text = std::str::from_utf8(&digits).ok().filter(|text| text.len() == 8)?;
    Date::new(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?).ok()
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Nested,
    Flat,
    Wrapped,
    Decision,
    ChargingSession,
    SellingSession,
    State,
    DailyPlan,
    Tracker,
    PriceSchedule,
    PvForecast,
    DailyStats,
    DailySnapshot,
    MonthlySnapshot,
    SocDrops,
    /// Prices fetched for the moment.
    Cache,
    /// A list of the registers that a script found.
    SensorList,
    /// Sums of selling over a day or a month, whose sessions are records of their own.
    SellingSummary,
}

impl Shape {
    /// Name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nested => "nested reading",
            Self::Flat => "flat reading",
            Self::Wrapped => "wrapped list of flat readings",
            Self::Decision => "decision",
            Self::ChargingSession => "charging session",
            Self::SellingSession => "selling session",
            Self::State => "coordinator state",
            Self::DailyPlan => "daily plan",
            Self::Tracker => "session tracker",
            Self::PriceSchedule => "price analysis",
            Self::PvForecast => "PV forecast",
            Self::DailyStats => "daily statistics",
            Self::DailySnapshot => "daily snapshot",
            Self::MonthlySnapshot => "monthly snapshot",
            Self::SocDrops => "drops of charge",
            Self::Cache => "price cache (skipped)",
            Self::SensorList => "list of sensors (skipped)",
            Self::SellingSummary => "summary of selling (skipped)",
        }
    }

    /// True if what was whole of a cut object is worth taking: a list, or numbers that stand alone.
    pub(crate) fn is_container(self) -> bool {
        matches!(self, Self::Wrapped | Self::DailyPlan | Self::Tracker | Self::PvForecast | Self::SocDrops)
    }
}

/// Recognises an object by its keys, and by its file's name where they tell nothing.
///
/// # Errors
/// What is missing.
pub(crate) fn of_object(object: &Object, name: Name) -> Result<Shape, String> {
    let has = |key: &str| object.contains_key(key);
    let list = |key: &str| object.get(key).is_some_and(Value::is_array);
    let group = |key: &str| object.get(key).is_some_and(Value::is_object);
    let any = |keys: &[&str]| keys.iter().any(|key| has(key));

    if name == Name::Selling && !has("timestamp") && !has("session_id") && !object.is_empty() {
        return Ok(Shape::SellingSummary);
    }
    if list("data") && any(&["record_count", "file_timestamp"]) {
        return Ok(Shape::Wrapped);
    }
    if list("charging_windows") || (group("analysis") && has("date")) {
        return Ok(Shape::PriceSchedule);
    }
    if list("sessions") {
        return Ok(if has("date") { Shape::DailyPlan } else { Shape::Tracker });
    }
    if list("forecasts") {
        return Ok(Shape::PvForecast);
    }
    if list("available_sensors") || (group("inverter_info") && has("runtime_data")) {
        return Ok(Shape::SensorList);
    }
    if group("price_data") || has("cache_timestamp") {
        return Ok(Shape::Cache);
    }
    if has("month") && any(&["total_decisions", "days_with_data", "daily_summaries"]) {
        return Ok(Shape::MonthlySnapshot);
    }
    if has("date") && has("total_decisions") {
        return Ok(Shape::DailySnapshot);
    }
    if has("date") && group("pv_production") && !has("timestamp") {
        return Ok(Shape::DailyStats);
    }
    if has("session_id") && has("start_time") {
        let selling = name == Name::Selling || any(&["energy_sold_kwh", "revenue_pln", "start_soc"]);
        return Ok(if selling { Shape::SellingSession } else { Shape::ChargingSession });
    }
    if has("state") && any(&["current_data", "performance_metrics", "uptime_seconds", "decision_count"]) {
        return Ok(Shape::State);
    }
    if group("battery") || group("photovoltaic") || group("grid") || group("house_consumption") {
        return Ok(Shape::Nested);
    }
    if has("timestamp") {
        if any(&["action", "decision_type", "decision"]) {
            return Ok(Shape::Decision);
        }
        if any(&[
            "battery_soc",
            "pv_power",
            "grid_power",
            "house_consumption",
            "consumption",
            "battery_power",
            "grid_voltage",
        ]) {
            return Ok(Shape::Flat);
        }
        return match name {
            Name::AnyState => Ok(Shape::State),
            Name::AnyDecision => Ok(Shape::Decision),
            _ => Err("no keys that the optimiser used beside the timestamp".to_owned()),
        };
    }
    if !object.is_empty() && object.keys().all(|key| crate::time::parse_day(key).is_ok()) {
        return Ok(Shape::SocDrops);
    }
    Err(if object.is_empty() {
        "an empty object".to_owned()
    } else {
        "no timestamp and no keys of a known shape".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(object: &Value, name: &str, expected: Option<Shape>) {
        assert_eq!(
            of_object(object.as_object().unwrap(), of_name(name)).ok(),
            expected,
            "{object} in {name}"
        );
    }

    #[test]
    fn keys_decide_before_names() {
        let schedule = json!({"date": "2025-08-31", "analysis": {}, "charging_windows": []});
        check(&schedule, "charging_schedule_2025-08-31.json", Some(Shape::PriceSchedule));
        let session = json!({"session_id": "a", "start_time": "x"});
        check(&session, "charging_schedule_2025-12-12.json", Some(Shape::ChargingSession));
        check(&session, "battery_selling_decision_20251113_050000.json", Some(Shape::SellingSession));
        check(
            &json!({"timestamp": "t", "pv_power": 1, "action": "wait"}),
            "energy_data_x.json",
            Some(Shape::Decision),
        );
        check(&json!({"timestamp": "t", "pv_power": 1}), "charging_decision_x.json", Some(Shape::Flat));
    }

    #[test]
    fn names_decide_where_keys_tell_nothing() {
        let any = json!({"timestamp": "t", "x": 1});
        check(&any, "system_state_20251208_230000_000123.json", Some(Shape::State));
        check(&any, "decision_20251208_230000_000123.json", Some(Shape::Decision));
        check(&any, "energy_data_2025-12-08.json", None);
        check(
            &json!({"date": "2025-10-01", "sessions": []}),
            "daily_summaries.json",
            Some(Shape::SellingSummary),
        );
        check(&json!({}), "decision_20251208_230000_000123.json", None);
        check(&json!({"name": "a package"}), "package.json", None);
    }

    #[test]
    fn the_day_of_a_name_is_found_in_both_forms() {
        let day = |name| day_in_name(name).map(|day| day.to_string());
        assert_eq!(day("daily_stats_20250917.json").as_deref(), Some("2025-09-17"));
        assert_eq!(day("energy_data_2025-12-02.json").as_deref(), Some("2025-12-02"));
        assert_eq!(day("price_history.json"), None);
        assert_eq!(day("x_20251399.json"), None);
    }
}
