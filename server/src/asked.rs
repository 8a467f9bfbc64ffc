//! Parameters that several routes take, and how their answers tell time.

use crate::error::ApiError;
use crate::wire::time::{parse_query_time, write_rfc3339_in};
use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use wattlog_engine::query::{TagFilter, Zone};
use wattlog_model::Timestamp;
use wattlog_wire::answer::csv_text;
use wattlog_wire::params::add_filter;
use wattlog_wire::shortened;

/// The zone of that name, or the usual one.
pub(crate) fn zone(name: Option<&str>, usual: &Zone) -> Result<Zone, ApiError> {
    let Some(name) = name else { return Ok(usual.clone()) };
    Zone::named(name).ok_or_else(|| {
        ApiError::bad_request(format!(
            "tz: {:?} is no IANA time zone: write one like Europe/Warsaw",
            shortened(name)
        ))
    })
}

/// The instant that the parameter `name` tells, if it is there.
pub(crate) fn time(name: &str, text: Option<&str>, now: Timestamp) -> Result<Option<i64>, ApiError> {
    let read = |text: &str| {
        parse_query_time(text, now).map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
    };
    Ok(text.map(read).transpose()?.map(|time| time.0))
}

/// A number above 0.
pub(crate) fn positive(name: &str, text: Option<&str>) -> Result<Option<f64>, ApiError> {
    let read = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| {
            ApiError::bad_request(format!("{name}: {:?} is no number above 0", shortened(text)))
        })
    };
    text.map(read).transpose()
}

/// One of a few words, the first if there is none.
pub(crate) fn word<T: Copy>(name: &str, text: Option<&str>, known: &[(&str, T)]) -> Result<T, ApiError> {
    let words = || known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let found = match text {
        None => known.first(),
        Some(text) => known.iter().find(|(word, _)| *word == text),
    };
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let text = shortened(text.unwrap_or_default());
        ApiError::bad_request(format!("{name}: {text:?} is none of {}", words()))
    })
}

/// How an answer is written.
pub(crate) fn is_csv(format: Option<&str>) -> Result<bool, ApiError> {
    word("format", format, &[("json", false), ("csv", true)])
}

/// Takes conditions on tags out of the parameters, as they stand: `tag.KEY` and `device_id`.
pub(crate) fn tags(pairs: &mut Vec<(String, String)>) -> Result<Vec<TagFilter>, ApiError> {
    let mut filters = Vec::new();
    let mut others = Vec::new();
    for (name, value) in pairs.drain(..) {
        match name.strip_prefix("tag.") {
            Some(key) => add_filter(&mut filters, key, value).map_err(ApiError::bad_request)?,
            // An exact name, whatever it begins with.
            None if name == "device_id" && !value.is_empty() => {
                add_filter(&mut filters, "device_id", format!("={value}")).map_err(ApiError::bad_request)?;
            }
            None => others.push((name, value)),
        }
    }
    *pairs = others;
    Ok(filters)
}

/// An instant by the clock of a zone, with its offset.
pub(crate) fn clock(ns: i64, zone: &Zone) -> String {
    let mut out = Vec::new();
    write_rfc3339_in(&mut out, ns, zone);
    out.into_iter().map(char::from).collect()
}

/// A line of CSV.
pub(crate) fn csv_line(out: &mut Vec<u8>, cells: impl IntoIterator<Item = String>) {
    for (at, text) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        csv_text(out, &text);
    }
    out.extend_from_slice(b"\r\n");
}

/// An answer of CSV or of JSON.
pub(crate) fn told(body: impl Into<Body>, is_csv: bool) -> Response<Body> {
    let mut response = Response::new(body.into());
    let kind = if is_csv { "text/csv; charset=utf-8" } else { "application/json" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
