//! Changes over HTTP: parameters in, events out.
//!
//! Times are ranges, half-open; with milliseconds the start is rounded down and the end up, so that a range never says less
//! than it holds. No bound is null.

use super::answer::TimeFormat;
use super::time::{parse_every, parse_signed_span, parse_span, write_rfc3339, write_rfc3339_in};
use crate::error::ApiError;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::time::Duration;
use wattlog_engine::query::Zone;
use wattlog_engine::{BucketRule, ChangeEvent, ChangeRequest, ChangeStart, Changes, Subject};
use wattlog_wire::shortened;

/// Longest `wait`; proxies cut what is silent for longer.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// Most events of one answer.
pub(crate) const MAX_EVENTS: usize = 5000;
const DEFAULT_EVENTS: usize = 1000;

/// What was asked and how it is to be answered.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) request: ChangeRequest,
    pub(crate) start: ChangeStart,
    pub(crate) wait: Duration,
    pub(crate) time_format: TimeFormat,
    pub(crate) format: ChangeFormat,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeFormat {
    Json,
    Ndjson,
}

/// What the route takes.
pub(crate) const TAKES: [&str; 12] = [
    "db",
    "rp",
    "measurement",
    "after",
    "wait",
    "limit",
    "every",
    "offset",
    "tz",
    "grace",
    "time_format",
    "format",
];

/// Reads the parameters, in the order of [`TAKES`].
pub(crate) fn parse(values: [Option<String>; TAKES.len()], home_zone: &Zone) -> Result<Asked, String> {
    let [db, rp, measurement, after, wait, limit, every, offset, tz, grace, time_format, format] = values;
    let span = |name: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        Some("0" | "0s") => Ok(Some(0)),
        Some(text) => parse_span(text).map(Some).map_err(|error| format!("{name}: {error}")),
    };
    if rp.is_some() && db.is_none() {
        return Err("rp needs db".to_owned());
    }
    let start = match after {
        None => ChangeStart::Now,
        Some(text) => ChangeStart::After(text.parse().map_err(|error| format!("after: {error}"))?),
    };
    let wait = span("wait", &wait)?.map_or(DEFAULT_WAIT, |ns| Duration::from_nanos(ns.unsigned_abs()));
    let limit = match limit {
        None => DEFAULT_EVENTS,
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=MAX_EVENTS).contains(number));
            number.ok_or_else(|| {
                format!("limit: {:?} is no whole number from 1 to {MAX_EVENTS}", shortened(&text))
            })?
        }
    };
    let zone = match tz {
        None => None,
        Some(name) => Some(Zone::named(&name).ok_or_else(|| {
            format!("tz: {:?} is no IANA time zone: write one like Europe/Warsaw", shortened(&name))
        })?),
    };
    let offset = offset.map(|text| parse_signed_span(&text).map_err(|error| format!("offset: {error}")));
    let (offset_ns, buckets) = (offset.transpose()?, every);
    let buckets = match buckets {
        None if offset_ns.is_some() => return Err("offset needs every".to_owned()),
        None => None,
        Some(text) => Some(BucketRule {
            every: parse_every(&text).map_err(|error| format!("every: {error}"))?,
            offset_ns: offset_ns.unwrap_or(0),
            zone: zone.clone().unwrap_or_else(|| home_zone.clone()),
        }),
    };
    let grace_ns = span("grace", &grace)?.map_or(0, i64::unsigned_abs);
    let time_format = match time_format.as_deref() {
        None | Some("ms") => TimeFormat::Milliseconds,
        Some("ns") => TimeFormat::Nanoseconds,
        Some("rfc3339") => zone.map_or(TimeFormat::Rfc3339, TimeFormat::Local),
        Some(other) => return Err(format!("time_format: {:?} is none of ms, ns, rfc3339", shortened(other))),
    };
    let format = match format.as_deref() {
        None | Some("json") => ChangeFormat::Json,
        Some("ndjson") => ChangeFormat::Ndjson,
        Some(other) => return Err(format!("format: {:?} is none of json, ndjson", shortened(other))),
    };
    let request = ChangeRequest { database: db, retention_policy: rp, measurement, buckets, grace_ns, limit };
    Ok(Asked { request, start, wait: wait.min(MAX_WAIT), time_format, format })
}

impl ChangeFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Writes an answer; `look` hears every so often how long it has become.
    pub(crate) fn encode(
        self,
        told: &Changes,
        times: &TimeFormat,
        look: &mut dyn FnMut(&Vec<u8>) -> Result<(), ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let cursor = json!(told.cursor.to_string());
        let mut out = Vec::new();
        if self == Self::Json {
            out.extend_from_slice(format!("{{\"cursor\":{cursor},\"events\":[").as_bytes());
        }
        for (at, event) in told.events.iter().enumerate() {
            if self == Self::Json && at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(event_json(event, times).to_string().as_bytes());
            if self == Self::Ndjson {
                out.push(b'\n');
            }
            look(&out)?;
        }
        match self {
            Self::Json => out.extend_from_slice(b"]}"),
            Self::Ndjson => out.extend_from_slice(format!("{{\"cursor\":{cursor}}}\n").as_bytes()),
        }
        look(&out)?;
        Ok(out)
    }
}

fn event_json(event: &ChangeEvent, format: &TimeFormat) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    let mut begin = |name: &str, of: Option<&Subject>, times: &Range<i64>| {
        put("event", json!(name));
        if let Some(of) = of {
            put("database", json!(of.database.as_deref()));
            put("retention_policy", json!(of.retention_policy.as_deref()));
            put("measurement", json!(of.measurement.as_deref()));
        }
        put("start", time_json(times.start, i64::MIN, Rounding::Down, format));
        put("end", time_json(times.end, i64::MAX, Rounding::Up, format));
    };
    match event {
        ChangeEvent::Appended { of, times, rows } => {
            begin("appended", Some(of), times);
            put("rows", json!(rows));
        }
        ChangeEvent::Dirty { of, times, fields, cause } => {
            begin("dirty", Some(of), times);
            put("fields", json!(fields));
            put("cause", json!(cause.name()));
        }
        ChangeEvent::Finished { bucket } => begin("finished", None, bucket),
        ChangeEvent::Revised { of, bucket, cause } => {
            begin("revised", Some(of), bucket);
            put("cause", json!(cause.name()));
        }
        // Of a kind that this version of the route does not know: anything may have changed.
        _ => {
            begin("dirty", Some(&Subject::default()), &(i64::MIN..i64::MAX));
            put("cause", json!("missed"));
        }
    }
    Value::Object(out)
}

#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Up,
}

fn time_json(ns: i64, unbounded: i64, rounding: Rounding, format: &TimeFormat) -> Value {
    if ns == unbounded {
        return Value::Null;
    }
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        json!(String::from_utf8_lossy(&out))
    };
    match format {
        TimeFormat::Milliseconds => json!(match rounding {
            Rounding::Down => ns.div_euclid(1_000_000),
            Rounding::Up => ns.div_euclid(1_000_000) + i64::from(ns.rem_euclid(1_000_000) > 0),
        }),
        TimeFormat::Nanoseconds => json!(ns.to_string()),
        TimeFormat::Rfc3339 => text(&|out| write_rfc3339(out, ns)),
        TimeFormat::Local(zone) => text(&|out| write_rfc3339_in(out, ns, zone)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wattlog_engine::Cause;
    use wattlog_engine::query::Every;

    fn asked(pairs: &[(&str, &str)]) -> Result<Asked, String> {
        let value = |name: &str| pairs.iter().find(|(own, _)| *own == name).map(|(_, v)| (*v).to_owned());
        parse(TAKES.map(value), &Zone::UTC)
    }

    #[test]
    fn parameters_become_a_request() {
        let least = asked(&[]).unwrap();
        assert_eq!((least.start, least.wait), (ChangeStart::Now, DEFAULT_WAIT));
        assert_eq!((least.request.limit, least.request.grace_ns), (DEFAULT_EVENTS, 0));
        let most = asked(&[
            ("db", "home"),
            ("rp", "autogen"),
            ("measurement", "power"),
            ("after", "1f-7-2-5"),
            ("wait", "2m"),
            ("limit", "5"),
            ("every", "1d"),
            ("offset", "6h"),
            ("tz", "Europe/Warsaw"),
            ("grace", "90s"),
            ("time_format", "rfc3339"),
            ("format", "ndjson"),
        ])
        .unwrap();
        let zone = Zone::named("Europe/Warsaw").unwrap();
        let rule = BucketRule { every: Every::Days(1), offset_ns: 21_600_000_000_000, zone: zone.clone() };
        assert_eq!(most.request.buckets, Some(rule));
        assert_eq!((most.wait, most.request.grace_ns), (MAX_WAIT, 90_000_000_000));
        assert_eq!((most.time_format, most.format), (TimeFormat::Local(zone), ChangeFormat::Ndjson));
        assert_eq!(asked(&[("wait", "0s")]).unwrap().wait, Duration::ZERO);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, text) in [
            ("after", "yesterday", "after: a cursor looks like"),
            ("wait", "soon", "wait: "),
            ("wait", "-5s", "wait: "),
            ("limit", "0", "limit: \"0\" is no whole number from 1 to 5000"),
            ("limit", "5001", "limit: "),
            ("every", "hour", "every: "),
            ("offset", "1h", "offset needs every"),
            ("rp", "autogen", "rp needs db"),
            ("tz", "Mars/Olympus", "tz: "),
            ("grace", "x", "grace: "),
            ("time_format", "s", "time_format: "),
            ("format", "csv", "format: "),
        ] {
            let error = asked(&[(name, value)]).unwrap_err();
            assert!(error.contains(text), "{name}={value}: {error}");
        }
    }

    #[test]
    fn ranges_are_never_written_shorter_than_they_are() {
        let of = Subject { database: Some("home".into()), ..Subject::default() };
        let (fields, cause) = (Some(vec!["x".to_owned()]), Cause::Delete);
        let event = ChangeEvent::Dirty { of, times: -1..1_500_001, fields, cause };
        let expected = json!({ "event": "dirty", "database": "home", "retention_policy": null, "measurement": null,
            "start": -1, "end": 2, "fields": ["x"], "cause": "delete" });
        assert_eq!(event_json(&event, &TimeFormat::Milliseconds), expected);
        let bucket = i64::MIN..1_000_000_000;
        let finished = event_json(&ChangeEvent::Finished { bucket }, &TimeFormat::Rfc3339);
        assert_eq!(finished, json!({ "event": "finished", "start": null, "end": "1970-01-01T00:00:01Z" }));
    }

    proptest! {
        #[test]
        fn any_texts_are_taken_or_refused(values in proptest::array::uniform12(proptest::option::of("[ -~]{0,12}"))) {
            let _ = parse(values, &Zone::UTC);
        }
    }
}
