//! Rows of each table as records: the builders of the files do the work, after the columns are given the files' names.
//!
//! Evidence for the repeated hour: `created_at` is UTC. Where it lies within ten minutes of one pass and not of the other,
//! it proves that pass; rows that a script copied later carry the time of copying and prove nothing.

use crate::context::Intake;
use crate::error::Error;
use crate::json::{Item, Items, NotFinite};
use crate::read::{Found, Object, Orders, Quantity, rfc3339, store_row, store_session, text};
use crate::record::{Body, Kind, Origin, PriceForecast, Purpose, PvForecast, Weather};
use crate::report::{Position, Rule};
use crate::time::{Order, Written, parse, parse_day, pass_by_stamp, resolve};
use jiff::civil::Time;
use serde_json::Value;

/// A table and what its rows are.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    pub kind: Kind,
    pub columns: &'static [&'static str],
}

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "energy_data",
        kind: Kind::Reading,
        columns: &[
            "timestamp",
            "battery_soc",
            "pv_power",
            "grid_power",
            "house_consumption",
            "battery_power",
            "grid_voltage",
            "grid_frequency",
            "battery_voltage",
            "battery_current",
            "battery_temperature",
            "price_pln",
            "grid_import_total_kwh",
            "grid_export_total_kwh",
            "house_consumption_total_kwh",
            "pv_generation_total_kwh",
            "tariff_zone",
            "created_at",
        ],
    },
    Table {
        name: "system_state",
        kind: Kind::SystemState,
        columns: &[
            "timestamp",
            "state",
            "uptime",
            "active_modules",
            "last_error",
            "metrics",
            "created_at",
            "id",
        ],
    },
    Table {
        name: "coordinator_decisions",
        kind: Kind::Decision,
        columns: &[
            "timestamp",
            "decision_type",
            "action",
            "reason",
            "parameters",
            "source_module",
            "created_at",
            "id",
        ],
    },
    Table {
        name: "charging_sessions",
        kind: Kind::Session,
        columns: &[
            "session_id",
            "start_time",
            "end_time",
            "target_soc",
            "energy_kwh",
            "cost_pln",
            "status",
            "avg_price",
            "created_at",
        ],
    },
    Table {
        name: "battery_selling_sessions",
        kind: Kind::Session,
        columns: &[
            "session_id",
            "start_time",
            "end_time",
            "energy_sold_kwh",
            "revenue_pln",
            "avg_price",
            "status",
            "created_at",
        ],
    },
    Table {
        name: "weather_data",
        kind: Kind::Weather,
        columns: &[
            "timestamp",
            "source",
            "temperature",
            "humidity",
            "pressure",
            "wind_speed",
            "wind_direction",
            "cloud_cover",
            "solar_irradiance",
            "precipitation",
            "created_at",
        ],
    },
    Table {
        name: "price_forecasts",
        kind: Kind::PriceForecast,
        columns: &["timestamp", "forecast_date", "hour", "price_pln", "source", "confidence", "created_at"],
    },
    Table {
        name: "pv_forecasts",
        kind: Kind::PvForecast,
        columns: &[
            "timestamp",
            "forecast_date",
            "hour",
            "predicted_power_w",
            "source",
            "confidence",
            "weather_conditions",
            "created_at",
        ],
    },
];

/// Column, field, what it can be. Of `weather_data`.
const WEATHER: &[(&str, &str, Quantity)] = &[
    ("cloud_cover", "cloud_cover", Quantity::Percent),
    ("humidity", "humidity", Quantity::Percent),
    ("solar_irradiance", "irradiance", Quantity::Free),
    ("precipitation", "precipitation", Quantity::Free),
    ("pressure", "pressure", Quantity::Free),
    ("temperature", "temperature", Quantity::Celsius),
    ("wind_direction", "wind_direction", Quantity::Free),
    ("wind_speed", "wind_speed", Quantity::Free),
];

/// Takes one row.
pub(super) fn take(
    table: &Table,
    mut object: Object,
    position: Position,
    orders: &mut Orders,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    prove_pass(&mut object, intake);
    object.remove("created_at");
    object.remove("id");
    let mut not_finite = Vec::new();
    let json_column = match table.kind {
        Kind::Decision => Some("parameters"),
        Kind::SystemState => Some("metrics"),
        _ => None,
    };
    if let Some(column) = json_column {
        unpack(column, &mut object, &mut not_finite, &position, intake)?;
    }
    let found = Found { object: &object, position, origin: Origin::Store, not_finite };
    match (table.kind, table.name) {
        (Kind::Session, "battery_selling_sessions") => store_session(found, Purpose::Selling, intake),
        (Kind::Session, _) => store_session(found, Purpose::Charging, intake),
        (Kind::Weather, _) => weather(found, intake),
        (Kind::PriceForecast | Kind::PvForecast, _) => forecast(table.kind, found, intake),
        (kind, _) => store_row(kind, found, orders, intake),
    }
}

/// Writes the instant in place of a local time that exists twice, if the row's stamp proves its pass.
fn prove_pass(object: &mut Object, intake: &Intake<'_>) {
    let written = |key: &str| object.get(key).and_then(Value::as_str).and_then(|text| parse(text).ok());
    let (Some(time), Some(Written::Local(stamp))) = (written("timestamp"), written("created_at")) else {
        return;
    };
    let Ok(stamp) = resolve(Written::Local(stamp), &jiff::tz::TimeZone::UTC, &mut Order::default()) else {
        return;
    };
    if let Some(at) = pass_by_stamp(time, stamp.at, &intake.context.options.zone) {
        object.insert("timestamp".to_owned(), Value::from(rfc3339(at)));
    }
}

/// Puts the members of a column with JSON beside the columns; a column wins over a member of its name.
fn unpack(
    column: &str,
    object: &mut Object,
    not_finite: &mut Vec<NotFinite>,
    position: &Position,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    let Some(packed) = object.remove(column) else { return Ok(()) };
    let mut items = match &packed {
        Value::String(json) => Items::new(json.as_bytes()),
        _ => Items::new(b""),
    };
    match (items.next(), items.next()) {
        (Some(Item::Value { value: Value::Object(members), not_finite: marks, .. }), None) => {
            not_finite.extend(marks);
            for (key, value) in members {
                object.entry(key).or_insert(value);
            }
            Ok(())
        }
        (None, _) | (Some(Item::Value { value: Value::Null, .. }), None) => Ok(()),
        _ => {
            object.insert(format!("{column}_text"), packed);
            let reason =
                format!("{column} is no JSON object; the other columns are taken, its text stays as it is");
            intake.refuse(None, position.clone(), reason)
        }
    }
}

fn weather(found: Found<'_>, intake: &mut Intake<'_>) -> Result<(), Error> {
    let mut draft = found.draft();
    let zone = intake.context.options.zone.clone();
    let at = match draft.time(found.object, "timestamp", &zone, &mut Order::default()) {
        Ok(resolved) => resolved.at,
        Err(reason) => return intake.refuse(Some(Kind::Weather), found.position, reason),
    };
    let source = text(found.object, "source");
    let mut fields = Vec::new();
    for (column, field, quantity) in WEATHER {
        let Some(number) = draft.number(found.object, column, field, *quantity) else { continue };
        if *column == "cloud_cover"
            && source.as_deref().is_some_and(|source| source.eq_ignore_ascii_case("imgw"))
        {
            // The station measures none; it was guessed from humidity, pressure and rain.
            draft.repair(Rule::NotMeasured, field, Value::from(number), Value::Null);
            continue;
        }
        fields.push((*field, number));
    }
    if fields.is_empty() {
        return intake.refuse(Some(Kind::Weather), found.position, "no value of the row is known".to_owned());
    }
    fields.sort_by_key(|(name, _)| *name);
    let key = format!("weather/{}/{}", source.as_deref().unwrap_or("-"), at.0);
    let body = Body::Weather(Weather { at, source, fields });
    intake.record(key, found.position, found.origin, draft.repairs, body)
}

/// Rows of both forecast tables: a local day, an hour of it, a number.
fn forecast(kind: Kind, found: Found<'_>, intake: &mut Intake<'_>) -> Result<(), Error> {
    let mut draft = found.draft();
    let object = found.object;
    let zone = intake.context.options.zone.clone();
    let hour = draft.count(object, "hour", "hour").filter(|hour| *hour < 24);
    let day = object
        .get("forecast_date")
        .and_then(Value::as_str)
        .ok_or("no forecast_date".to_owned())
        .and_then(parse_day);
    let local = match (day, hour) {
        (Ok(day), Some(hour)) => day.to_datetime(Time::constant(hour as i8, 0, 0, 0)),
        (Err(reason), _) => return intake.refuse(Some(kind), found.position, reason),
        (_, None) => return intake.refuse(Some(kind), found.position, "no hour from 0 to 23".to_owned()),
    };
    let resolved = match resolve(Written::Local(local), &zone, &mut Order::default()) {
        Ok(resolved) => resolved,
        Err(reason) => return intake.refuse(Some(kind), found.position, reason),
    };
    draft.note_sureness("at", &local.to_string(), resolved);
    let at = resolved.at;
    let issued_at = draft.optional_time(object, "timestamp", &zone, &mut Order::default());
    let source = text(object, "source");
    let confidence = draft.confidence(object, "confidence");
    let by = source.clone().unwrap_or_else(|| "-".to_owned());
    let (key, body) = match kind {
        Kind::PriceForecast => {
            let Some(price_pln) = draft.number(object, "price_pln", "price_pln", Quantity::Free) else {
                return intake.refuse(Some(kind), found.position, "no price".to_owned());
            };
            let body = Body::PriceForecast(PriceForecast { at, issued_at, price_pln, source, confidence });
            (format!("price_forecast/{by}/{}", at.0), body)
        }
        _ => {
            let Some(power_w) = draft.number(object, "predicted_power_w", "power_w", Quantity::Watt) else {
                return intake.refuse(Some(kind), found.position, "no power".to_owned());
            };
            let body = Body::PvForecast(PvForecast { at, issued_at, power_w, confidence, method: source });
            (format!("pv_forecast/{by}/{}", at.0), body)
        }
    };
    intake.record(key, found.position, found.origin, draft.repairs, body)
}
