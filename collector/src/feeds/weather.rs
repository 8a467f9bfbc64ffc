//! Answers of Open-Meteo (forecast) and IMGW (observation).
//!
//! Open-Meteo is asked for `timeformat=unixtime` in GMT, because its local labels are wrong around a clock change; an
//! answer with text labels is refused. Sums and means are of the hour **before** the instant, as both services have it.
//!
//! A value that cannot be (a wind of 990 degrees, an empty text) costs itself and is counted; the rest of its row stays.

use super::rows::{ParseError, Parsed, Row, number, utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;
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
        let mut values = Values::default();
        for (field, column, range) in &columns {
            values.take(field, field, column.get(i), range);
        }
        let time = time.as_i64().ok_or_else(|| "a time is no number of seconds".to_owned());
        let time = time.and_then(|second| {
            Timestamp::from_units(second, 1_000_000_000).map_err(|error| error.to_string())
        });
        values.into_row(time, &mut parsed);
    }
    parsed.or_all_refused()
}

/// What one instant has.
#[derive(Default)]
struct Values {
    fields: Vec<(&'static str, FieldValue)>,
    refused: u64,
    first_refusal: Option<String>,
}

impl Values {
    fn take(
        &mut self,
        column: &str,
        field: &'static str,
        value: Option<&Value>,
        range: &RangeInclusive<f64>,
    ) {
        let reason = match number(value) {
            Ok(None) => return,
            Ok(Some(value)) if range.contains(&value) => {
                self.fields.push((field, FieldValue::Float(value)));
                return;
            }
            Ok(Some(value)) => format!("{column}: {value} cannot be"),
            Err(error) => format!("{column}: {error}"),
        };
        self.refused += 1;
        self.first_refusal.get_or_insert(reason);
    }

    /// A row of what can be used. Where nothing can, though something was there, the row is refused as a whole.
    fn into_row(self, time: Result<Timestamp, String>, parsed: &mut Parsed) {
        let Self { fields, refused, first_refusal } = self;
        let row = match (time, first_refusal) {
            (Err(reason), _) => Err(reason),
            (Ok(_), Some(reason)) if fields.is_empty() => Err(reason),
            (Ok(_), None) if fields.is_empty() => Ok(None),
            (Ok(time), reason) => {
                parsed.refused_values += refused;
                parsed.first_refusal = parsed.first_refusal.take().or(reason);
                Ok(Some(Row { time, length_ns: 0, published: None, fields }))
            }
        };
        parsed.add(row);
    }
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

/// Reads an observation of IMGW. The hour is UTC. What is null or cannot be is left out, the rest of the observation stays.
///
/// # Errors
/// If the bytes are no such JSON or nothing of the observation can be used.
pub fn parse_imgw(body: &[u8]) -> Result<Parsed, ParseError> {
    let tree: Value = serde_json::from_slice(body).map_err(|error| ParseError::json(&error, body))?;
    let Some(entry) = tree.as_object() else {
        return Err(ParseError("the answer is no single observation".to_owned()));
    };
    let mut values = Values::default();
    for (column, field, least, greatest) in COLUMNS {
        values.take(column, field, entry.get(column), &(least..=greatest));
    }
    let mut parsed = Parsed::default();
    values.into_row(time_of(entry), &mut parsed);
    parsed.or_all_refused()
}

fn time_of(entry: &Map<String, Value>) -> Result<Timestamp, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key} is missing"));
    let hour: u8 = text("godzina_pomiaru")?.trim().parse().map_err(|_| "godzina_pomiaru is no hour")?;
    utc(&format!("{} {hour:02}:00", text("data_pomiaru")?))
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
    fn a_value_that_cannot_be_costs_itself_and_is_counted() {
        // A wind of 990 degrees, the station's word for "changing", took the temperature of that hour along.
        for wrong in ["990", "", "brak", "-1"] {
            let body = format!(
                r#"{{"data_pomiaru":"2025-12-02","godzina_pomiaru":"6","temperatura":"-0.6","kierunek_wiatru":"{wrong}","cisnienie":"1013.2"}}"#
            );
            let parsed = parse_imgw(body.as_bytes()).unwrap();
            let expected =
                [("temperature", FieldValue::Float(-0.6)), ("pressure", FieldValue::Float(1013.2))];
            assert_eq!(parsed.rows[0].fields, expected, "{wrong}");
            assert_eq!((parsed.refused, parsed.refused_values), (0, 1), "{wrong}");
            let told = parsed.first_refusal.unwrap();
            assert!(told.starts_with("kierunek_wiatru: "), "{told}");
        }
        let nothing = br#"{"data_pomiaru":"2025-12-02","godzina_pomiaru":"6","kierunek_wiatru":"990"}"#;
        assert!(parse_imgw(nothing).is_err());
        let body = r#"{"utc_offset_seconds":0,
            "hourly_units":{"time":"unixtime","wind_speed_10m":"m/s","cloud_cover":"%"},
            "hourly":{"time":[3600,7200,10800],"wind_speed_10m":[-3,2.5,400],"cloud_cover":[40,"n/a",101]}}"#;
        let parsed = parse_open_meteo(body.as_bytes()).unwrap();
        let rows: Vec<_> = parsed.rows.iter().map(|row| (row.time.0, row.fields.clone())).collect();
        let expected = [
            (3_600_000_000_000, vec![("cloud_cover", FieldValue::Float(40.0))]),
            (7_200_000_000_000, vec![("wind_speed", FieldValue::Float(2.5))]),
        ];
        assert_eq!(rows, expected);
        // Of the third hour nothing is left.
        assert_eq!((parsed.refused, parsed.refused_values), (1, 2));
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
