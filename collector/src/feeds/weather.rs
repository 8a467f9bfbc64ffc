//! Answers of Open-Meteo (forecast) and IMGW (observation).
//!
//! Open-Meteo is asked for `timeformat=unixtime` in GMT, because its local labels are wrong around a clock change; an
//! answer with text labels is refused. Sums and means are of the hour **before** the instant, as both services have it.

use super::rows::{ParseError, Parsed, Row, number, utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use wattlog_model::{FieldKind, FieldMeaning, FieldValue, Timestamp, Unit};

/// Measurement of weather.
pub(crate) const MEASUREMENT: &str = "weather_data";

/// Variable of Open-Meteo, field, unit, unit as Open-Meteo writes it, least and greatest value.
const VARIABLES: [(&str, &str, &str, &str, f64, f64); 6] = [
    ("temperature_2m", "temperature", "C", "°C", -100.0, 70.0),
    ("relative_humidity_2m", "humidity", "%", "%", 0.0, 110.0),
    ("cloud_cover", "cloud_cover", "%", "%", 0.0, 100.0),
    ("wind_speed_10m", "wind_speed", "m/s", "m/s", 0.0, 150.0),
    ("precipitation", "precipitation", "mm", "mm", 0.0, 1_000.0),
    ("shortwave_radiation", "irradiance", "W/m2", "W/m²", 0.0, 2_000.0),
];

/// Names for the query, with commas.
pub(crate) fn variables() -> String {
    VARIABLES.map(|(variable, ..)| variable).join(",")
}

/// Units of what both services store.
pub(crate) fn meanings() -> Vec<FieldMeaning> {
    let known = VARIABLES.map(|(_, field, unit, ..)| (field, unit));
    let more = [("wind_direction", "deg"), ("pressure", "hPa")];
    let meaning = |(field, unit): (&str, &str)| FieldMeaning {
        field: field.to_owned(),
        unit: Unit::new(unit),
        kind: FieldKind::Linear,
    };
    known.into_iter().chain(more).map(meaning).collect()
}

#[derive(Deserialize)]
struct Forecast {
    utc_offset_seconds: i64,
    hourly_units: Map<String, Value>,
    hourly: Map<String, Value>,
}

/// Reads a forecast of Open-Meteo.
///
/// # Errors
/// If the bytes are no such JSON, times are not whole seconds in GMT, units differ from those asked for, columns
/// differ in length, or no row can be used.
pub fn parse_open_meteo(body: &[u8]) -> Result<Parsed, ParseError> {
    let answer: Forecast = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    let unit = |key: &str| answer.hourly_units.get(key).and_then(Value::as_str);
    if unit("time") != Some("unixtime") || answer.utc_offset_seconds != 0 {
        return Err(ParseError("times are not in seconds of GMT, as was asked".to_owned()));
    }
    let column = |key: &str| answer.hourly.get(key).and_then(Value::as_array);
    let times = column("time").ok_or_else(|| ParseError("hourly.time is missing".to_owned()))?;
    let mut columns = Vec::new();
    for (variable, field, _, told, least, greatest) in VARIABLES {
        let Some(values) = column(variable) else { continue };
        if values.len() != times.len() {
            return Err(ParseError(format!("{variable} has {} values, not {}", values.len(), times.len())));
        }
        if unit(variable) != Some(told) {
            return Err(ParseError(format!("the unit of {variable} is {:?}, not {told}", unit(variable))));
        }
        columns.push((field, values, least..=greatest));
    }
    let mut parsed = Parsed::default();
    for (i, time) in times.iter().enumerate() {
        let row = || {
            let second = time.as_i64().ok_or("a time is no number of seconds")?;
            let time = Timestamp::from_units(second, 1_000_000_000).map_err(|error| error.to_string())?;
            let mut fields = Vec::new();
            for (field, values, range) in &columns {
                if let Some(value) = number(values.get(i))? {
                    if !range.contains(&value) {
                        return Err(format!("{field}: {value} cannot be"));
                    }
                    fields.push((*field, FieldValue::Float(value)));
                }
            }
            Ok((!fields.is_empty()).then_some(Row { time, length_ns: 0, published: None, fields }))
        };
        parsed.add(row());
    }
    parsed.or_all_refused()
}

/// Column of IMGW, field, least and greatest value.
const COLUMNS: [(&str, &str, f64, f64); 6] = [
    ("temperatura", "temperature", -100.0, 70.0),
    ("predkosc_wiatru", "wind_speed", 0.0, 150.0),
    ("kierunek_wiatru", "wind_direction", 0.0, 360.0),
    ("wilgotnosc_wzgledna", "humidity", 0.0, 110.0),
    ("suma_opadu", "precipitation", 0.0, 1_000.0),
    ("cisnienie", "pressure", 800.0, 1_100.0),
];

/// Reads an observation of IMGW. The hour is UTC. What is null is left out, the rest of the observation stays.
///
/// # Errors
/// If the bytes are no such JSON or the observation cannot be used.
pub fn parse_imgw(body: &[u8]) -> Result<Parsed, ParseError> {
    let tree: Value = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    let Some(entry) = tree.as_object() else {
        return Err(ParseError("the answer is no single observation".to_owned()));
    };
    let mut parsed = Parsed::default();
    parsed.add(observation(entry));
    parsed.or_all_refused()
}

fn observation(entry: &Map<String, Value>) -> Result<Option<Row>, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key} is missing"));
    let hour: u8 = text("godzina_pomiaru")?.trim().parse().map_err(|_| "godzina_pomiaru is no hour")?;
    let time = utc(&format!("{} {hour:02}:00", text("data_pomiaru")?))?;
    let mut fields = Vec::new();
    for (column, field, least, greatest) in COLUMNS {
        if let Some(value) = number(entry.get(column)).map_err(|error| format!("{column}: {error}"))? {
            if !(least..=greatest).contains(&value) {
                return Err(format!("{column}: {value} cannot be"));
            }
            fields.push((field, FieldValue::Float(value)));
        }
    }
    Ok((!fields.is_empty()).then_some(Row { time, length_ns: 0, published: None, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_costs_its_value_and_not_the_observation() {
        let body = br#"{"data_pomiaru":"2025-12-02","godzina_pomiaru":"6","temperatura":"-0.6","cisnienie":null,"suma_opadu":"0"}"#;
        let parsed = parse_imgw(body).unwrap();
        assert_eq!(parsed.rows[0].time.0, 1_764_655_200_000_000_000);
        let fields = [("temperature", FieldValue::Float(-0.6)), ("precipitation", FieldValue::Float(0.0))];
        assert_eq!(parsed.rows[0].fields, fields);
        for bad in ["[]", r#"{"data_pomiaru":"2025-12-02","godzina_pomiaru":"24","temperatura":"1"}"#] {
            assert!(parse_imgw(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_forecast_in_local_labels_or_other_units_is_refused() {
        let body = |time: &str, unit: &str| {
            format!(
                r#"{{"utc_offset_seconds":0,"hourly_units":{{"time":"{time}","wind_speed_10m":"{unit}"}},
                     "hourly":{{"time":[3600,7200],"wind_speed_10m":[null,2.5]}}}}"#
            )
        };
        let parsed = parse_open_meteo(body("unixtime", "m/s").as_bytes()).unwrap();
        assert_eq!(parsed.rows.len(), 1);
        assert_eq!(parsed.rows[0].time, Timestamp(7_200_000_000_000));
        assert!(parse_open_meteo(body("iso8601", "m/s").as_bytes()).is_err());
        assert!(parse_open_meteo(body("unixtime", "km/h").as_bytes()).is_err());
    }
}
