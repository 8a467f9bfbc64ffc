//! What becomes a point: readings, prices, forecasts, weather, states of the coordinator.
//!
//! Names and units of the fields are those that the collector writes for the same quantities, so one query covers both.
//! `data_source` (`source` for prices) tells them apart: a series of the import is never one of the collector.
//! Signs: battery + = discharge, grid + = export.

use super::names::Names;
use jiff::Timestamp as Instant;
use serde_json::{Map, Value};
use wattlog_migrate::{
    Decision, MarketPrice, PriceForecast, PvForecast, Reading, Record, SystemState, Weather,
};
use wattlog_model::{FieldKind, FieldMeaning, FieldValue, Point, TagSet, Timestamp, Unit};

/// `data_source` of readings, states, weather and price forecasts.
pub(super) const SOURCE: &str = "migration";
/// `data_source` of what decisions saw.
pub(super) const OF_DECISIONS: &str = "optimiser-decisions";
/// What `data_source` says of all that an import stored.
pub(crate) const IMPORTED: [&str; 2] = [SOURCE, OF_DECISIONS];
/// `source` of prices and forecasts that the optimiser kept.
pub(crate) const OPTIMISER: &str = "optimiser";
/// Originals of repaired values.
pub(super) const REPAIRS: &str = "import_repairs";

/// Every measurement of the import whose fields have units.
pub(super) const MEASUREMENTS: [&str; 7] = [
    "energy_data",
    "optimiser_state",
    "price_forecasts",
    "prices",
    "pv_forecasts",
    "tariff_prices",
    "weather_data",
];

/// Series that the import writes: of a measurement those with a tag, or all.
pub(super) struct Series {
    pub(super) measurement: &'static str,
    pub(super) tag: Option<(&'static str, &'static str)>,
}

/// All of them; nothing else writes there.
pub(super) const SERIES: &[Series] = &[
    Series { measurement: "energy_data", tag: Some(("data_source", SOURCE)) },
    Series { measurement: "energy_data", tag: Some(("data_source", OF_DECISIONS)) },
    Series { measurement: "optimiser_state", tag: Some(("data_source", SOURCE)) },
    Series { measurement: "price_forecasts", tag: Some(("data_source", SOURCE)) },
    Series { measurement: "prices", tag: Some(("source", OPTIMISER)) },
    Series { measurement: "pv_forecasts", tag: Some(("source", OPTIMISER)) },
    Series { measurement: "tariff_prices", tag: Some(("source", OF_DECISIONS)) },
    Series { measurement: "weather_data", tag: Some(("data_source", SOURCE)) },
    Series { measurement: REPAIRS, tag: None },
];

/// Which inverter and where, as tags say it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The serial number in the files.
    pub(super) serial: String,
    /// What it is called here.
    pub(super) device: String,
    pub(super) location: String,
}

impl Place {
    /// Its `device_id` here.
    pub(super) fn device_id<'a>(&'a self, in_files: &'a str) -> &'a str {
        if in_files == self.serial { &self.device } else { in_files }
    }

    fn tags(&self, device: &str, source: &str) -> Result<TagSet, String> {
        tags(&[("device_id", self.device_id(device)), ("data_source", source), ("location", &self.location)])
    }
}

/// A reading under its own names.
pub(super) fn reading(reading: &Reading, place: &Place) -> Result<Point, String> {
    let fields = reading.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let tags = place.tags(&reading.device, SOURCE)?;
    Ok(Point { measurement: "energy_data".to_owned(), tags, time: Some(reading.at), fields })
}

/// What a decision saw of the plant, and the total price of the moment.
pub(super) fn decision(decision: &Decision, place: &Place) -> Result<Vec<Point>, String> {
    let mut seen = Fields::default();
    seen.number("battery_soc", decision.battery_soc);
    seen.number("pv_power", decision.pv_power_w);
    seen.number("consumption", decision.consumption_w);
    if !seen.0.is_empty() {
        seen.text("tariff_zone", decision.tariff_zone.as_deref());
    }
    let mut price = Fields::default();
    price.number("total_price", decision.price_pln_kwh);
    let place_tags = place.tags(&place.serial, OF_DECISIONS)?;
    let prices = tags(&[("source", OF_DECISIONS)])?;
    let points = [
        seen.point("energy_data", place_tags, decision.at),
        price.point("tariff_prices", prices, decision.at),
    ];
    Ok(points.into_iter().filter(|point| !point.fields.is_empty()).collect())
}

/// A market price of the optimiser's history. A feed that fetches the same day has a series of its own.
pub(super) fn market_price(price: &MarketPrice) -> Result<Point, String> {
    let mut fields = Fields::default();
    fields.number("market_price", Some(price.price_pln_kwh));
    let tags = tags(&[("source", OPTIMISER), ("product", "csdac-pln"), ("area", "PL")])?;
    Ok(fields.point("prices", tags, price.start))
}

/// An hour of a price forecast; unit as its column says, PLN.
pub(super) fn price_forecast(forecast: &PriceForecast, names: &mut Names) -> Result<Point, String> {
    let mut fields = Fields::default();
    fields.number("price", Some(forecast.price_pln));
    fields.number("confidence", forecast.confidence);
    fields.text("issued_at", forecast.issued_at.map(rfc3339).as_deref());
    let source = names.tag(forecast.source.as_deref().unwrap_or(OPTIMISER));
    let tags = tags(&[("source", &source), ("data_source", SOURCE)])?;
    Ok(fields.point("price_forecasts", tags, forecast.at))
}

/// A step of a PV forecast. Its distance from the moment of forecasting, in whole hours, is a tag, so that an hour keeps what
/// was expected of it at each distance.
pub(super) fn pv_forecast(forecast: &PvForecast) -> Result<Point, String> {
    let mut fields = Fields::default();
    fields.number("power", Some(forecast.power_w));
    fields.number("confidence", forecast.confidence);
    fields.text("method", forecast.method.as_deref());
    fields.text("issued_at", forecast.issued_at.map(rfc3339).as_deref());
    let ahead = forecast.issued_at.map(|issued| forecast.at.0.saturating_sub(issued.0).div_euclid(HOUR_NS));
    let ahead = ahead.filter(|hours| (-1..=MOST_HOURS_AHEAD).contains(hours)).map(|hours| hours.to_string());
    let mut pairs = vec![("source", OPTIMISER)];
    if let Some(hours) = &ahead {
        pairs.push(("hours_ahead", hours));
    }
    Ok(fields.point("pv_forecasts", tags(&pairs)?, forecast.at))
}

/// What the coordinator was doing.
pub(super) fn state(state: &SystemState) -> Result<Point, String> {
    let mut fields = Fields::default();
    fields.text("state", state.state.as_deref());
    fields.number("uptime_s", state.uptime_s);
    let count = state.decision_count.and_then(|count| i64::try_from(count).ok());
    if let Some(count) = count {
        fields.0.push(("decision_count".to_owned(), FieldValue::Integer(count)));
    }
    fields.number("pv_power", state.pv_power_w);
    fields.text("last_error", state.last_error.as_deref());
    if !state.rest.is_empty() {
        fields.text("details", Some(&Value::Object(state.rest.clone()).to_string()));
    }
    Ok(fields.point("optimiser_state", tags(&[("data_source", SOURCE)])?, state.at))
}

/// A row of the weather table.
pub(super) fn weather(weather: &Weather, place: &Place, names: &mut Names) -> Result<Point, String> {
    let mut fields = Fields::default();
    for (name, value) in &weather.fields {
        fields.number(name, Some(*value));
    }
    let source = names.tag(weather.source.as_deref().unwrap_or(OPTIMISER));
    // The feeds name the same sources.
    let tags = tags(&[("source", &source), ("location", &place.location), ("data_source", SOURCE)])?;
    Ok(fields.point("weather_data", tags, weather.at))
}

/// Originals of what was repaired about a point, each a point of its own beside it: under the tags of that point, so that
/// two inverters, or two forecasts of an hour, keep theirs apart.
pub(super) fn repairs(record: &Record, beside: &Point, names: &mut Names) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = Vec::new();
    let at = beside.time.unwrap_or(Timestamp(0));
    for repair in record.repairs.iter().take(MOST_REPAIRS) {
        let rule = word_of(&repair.rule);
        let field = names.tag(&repair.field);
        let mut fields = Fields::default();
        fields.text("name", Some(&repair.field));
        fields.text("original", Some(&repair.original.to_string()));
        fields.text("repaired", Some(&repair.repaired.to_string()));
        fields.text("file", Some(&record.position.file));
        fields.text("position", Some(&record.position.to_string()));
        let own = [("measurement", beside.measurement.as_str()), ("rule", &rule), ("field", &field)];
        let with = |more: Option<(&str, &str)>| {
            let pairs = own.into_iter().chain(beside.tags.iter()).chain(more);
            TagSet::new(pairs).map_err(|error| format!("its tags: {error}"))
        };
        let mut tags = with(None)?;
        // One key was wrong in two ways that have one name, or two fields have the word of all others.
        let mut nth = 2;
        while points.iter().any(|point| point.tags == tags) {
            tags = with(Some(("nth", &nth.to_string())))?;
            nth += 1;
        }
        points.push(fields.point(REPAIRS, tags, at));
    }
    Ok(points)
}

/// Units and kinds of the fields that no collector tells.
pub(super) fn meanings(measurement: &str) -> Vec<FieldMeaning> {
    let own: &[(&str, &str, FieldKind)] = match measurement {
        "energy_data" => {
            let mut known = wattlog_collector::goodwe::fields(wattlog_collector::config::Family::Et);
            known.push(meaning("price", "PLN/kWh", FieldKind::Step));
            known.push(meaning("tariff_zone", "", FieldKind::Step));
            return known;
        }
        "tariff_prices" => &[("total_price", "PLN/kWh", FieldKind::Step)],
        "prices" => &[("market_price", "PLN/kWh", FieldKind::Step)],
        "price_forecasts" => &[("price", "PLN", FieldKind::Step)],
        "pv_forecasts" => &[("power", "W", FieldKind::Linear)],
        "optimiser_state" => &[
            ("state", "", FieldKind::Step),
            ("uptime_s", "s", FieldKind::Counter),
            ("decision_count", "", FieldKind::Counter),
            ("pv_power", "W", FieldKind::Linear),
        ],
        "weather_data" => &[
            ("temperature", "C", FieldKind::Linear),
            ("humidity", "%", FieldKind::Linear),
            ("pressure", "hPa", FieldKind::Linear),
            ("wind_speed", "m/s", FieldKind::Linear),
            ("wind_direction", "deg", FieldKind::Linear),
            ("cloud_cover", "%", FieldKind::Linear),
            ("irradiance", "W/m2", FieldKind::Linear),
            ("precipitation", "mm", FieldKind::Linear),
        ],
        _ => &[],
    };
    own.iter().map(|(field, unit, kind)| meaning(field, unit, *kind)).collect()
}

fn meaning(field: &str, unit: &str, kind: FieldKind) -> FieldMeaning {
    FieldMeaning { field: field.to_owned(), unit: Unit::new(unit), kind }
}

/// The word of a rule or a kind in reports.
pub(super) fn word_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => super::names::OTHER.to_owned(),
    }
}

/// An instant as JSON has it.
pub(super) fn rfc3339(at: Timestamp) -> String {
    match Instant::from_nanosecond(i128::from(at.0)) {
        Ok(instant) => instant.to_string(),
        Err(_) => at.0.to_string(),
    }
}

/// Text and number fields that are there.
#[derive(Debug, Default)]
struct Fields(Vec<(String, FieldValue)>);

impl Fields {
    fn number(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.push((name.to_owned(), FieldValue::Float(value)));
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((name.to_owned(), FieldValue::String(value.into())));
        }
    }

    fn point(self, measurement: &str, tags: TagSet, at: Timestamp) -> Point {
        Point { measurement: measurement.to_owned(), tags, time: Some(at), fields: self.0 }
    }
}

fn tags(pairs: &[(&str, &str)]) -> Result<TagSet, String> {
    TagSet::new(pairs.iter().copied()).map_err(|error| format!("its tags: {error}"))
}

/// Keys that are not empty objects, as a JSON object.
pub(super) fn object(pairs: Vec<(&str, Value)>) -> Value {
    let there = pairs.into_iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    Value::Object(there.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

const HOUR_NS: i64 = 3_600_000_000_000;
/// Steps further away have no tag for it.
const MOST_HOURS_AHEAD: i64 = 240;
/// Repairs of one record that become points; a record that needs more is one that somebody made for it.
const MOST_REPAIRS: usize = 64;
