//! How good the stored points are, and from which query each number is.

mod faults;
mod told;

use crate::answer::AnswerWatch;
use crate::asked;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::parse_span;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use std::collections::BTreeMap;
use wattlog_derived::energy::RAW;
use wattlog_derived::quality::{QualityRequest, ReportError, report};
use wattlog_derived::series::Selection;
use wattlog_engine::query::Zone;
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Completeness, gaps and faults of points, and a score; each with the query that shows it.
#[utoipa::path(get, path = "/api/v1/quality", tag = "meaning",
    params(
        ("start" = Option<String>, Query, description = "Beginning, as for /api/v1/query; default: 7 days before end"),
        ("end" = Option<String>, Query, description = "End, not included; default and at most now"),
        ("measurement" = Option<String>, Query, description = "Default energy_data, which is judged as a plant"),
        ("fields" = Option<String>, Query, description = "Comma list: only these, each by itself; default: of energy_data the plant, otherwise all that are numbers"),
        ("device_id" = Option<String>, Query, description = "Only this device"),
        ("interval" = Option<String>, Query, description = "How often a point is expected, as in 10s; default: how often the device is polled, or the median step"),
        ("rated_w" = Option<f64>, Query, description = "Rated power of the plant in W, for the limits of its powers; default: that of the inverter in the ledger, or as it says itself"),
        ("tz" = Option<String>, Query, description = "IANA zone of days and times; default the home zone"),
        ("format" = Option<String>, Query, description = "json (default), csv")),
    responses(
        (status = 200, description = "`{\"measurement\",\"start\",\"end\",\"tz\",\"series\":[{\"tags\",\"score\",\"problems\",\"absent\",\"parts\":[{\"start\",\"end\",\"fields\",\"plant\"}],\"unread\"}]}`"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown measurement"),
        (status = 422, description = "More than is judged at a time; the message says what to do"),
        (status = 503, description = "Too many queries at a time, or out of time")))]
pub(crate) async fn quality(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let now = state.shared.clock.wall();
    let mut asked = Asked::parse(query, &state, now)?;
    asked.request.inverters_w = state.inverters_w().await;
    let is_csv = asked.is_csv;
    let request = &asked.request;
    let text = format!("quality {} {:?}", request.selection.measurement, request.range);
    let shared = state.clone();
    let answer = state
        .query("quality", text, move |engine, control, _| {
            let found = report(engine, &asked.request, control).map_err(refusal)?;
            let bytes = if asked.is_csv { told::csv(&found, &asked) } else { told::json(&found, &asked) };
            AnswerWatch::new(&shared, peer, control).written(bytes)
        })
        .await?;
    Ok(asked::told(answer, is_csv))
}

struct Asked {
    request: QualityRequest,
    zone: Zone,
    is_csv: bool,
}

/// Judged if no beginning is asked for.
const USUAL_DAYS: i64 = 7;

impl Asked {
    fn parse(query: QueryPairs, state: &ServerState, now: Timestamp) -> Result<Self, ApiError> {
        let [start, end, measurement, fields, device, interval, rated, tz, format] = query.only([
            "start",
            "end",
            "measurement",
            "fields",
            "device_id",
            "interval",
            "rated_w",
            "tz",
            "format",
        ])?;
        let bad = |text: String| ApiError::bad_request(text);
        let zone = asked::zone(tz.as_deref(), &state.shared.bucket_zone)?;
        // What is to come is not missing.
        let end = asked::time("end", end.as_deref(), now)?.unwrap_or(now.0).min(now.0);
        let usual = || end.saturating_sub(USUAL_DAYS * Timestamp::DAY_NS);
        let start = asked::time("start", start.as_deref(), now)?.unwrap_or_else(usual);
        if start >= end {
            return Err(bad("start: must be before end and before now".to_owned()));
        }
        let interval_ns = match interval.as_deref() {
            None => None,
            Some(text) => Some(parse_span(text).map_err(|error| bad(format!("interval: {error}")))?),
        };
        let fields = match fields.as_deref() {
            None => None,
            Some(list) if list.split(',').any(str::is_empty) => {
                return Err(bad(format!("fields: {:?} has an empty name", shortened(list))));
            }
            Some(list) => Some(list.split(',').map(str::to_owned).collect()),
        };
        let wanted =
            state.devices().into_iter().filter(|one| device.as_ref().is_none_or(|device| *device == one.id));
        let devices: BTreeMap<String, i64> = wanted
            .filter_map(|one| {
                let interval_ns = i64::try_from(one.interval_ms).ok()?.checked_mul(1_000_000)?;
                (interval_ns > 0).then_some((one.id, interval_ns))
            })
            .collect();
        let mut filters: Vec<(String, String)> =
            device.map(|device| ("device_id".to_owned(), device)).into_iter().collect();
        let request = QualityRequest {
            selection: Selection {
                database: state.shared.options.default_database.clone(),
                measurement: measurement.unwrap_or_else(|| RAW.to_owned()),
                tags: asked::tags(&mut filters)?,
            },
            fields,
            range: start..end,
            zone: zone.clone(),
            home: state.shared.bucket_zone.clone(),
            interval_ns,
            devices,
            rated_w: asked::positive("rated_w", rated.as_deref())?,
            inverters_w: BTreeMap::new(),
        };
        let is_csv = asked::is_csv(format.as_deref())?;
        Ok(Self { request, zone, is_csv })
    }

    fn time(&self, ns: i64) -> String {
        asked::clock(ns, &self.zone)
    }
}

fn refusal(error: ReportError) -> ApiError {
    let text = error.to_string();
    match error {
        ReportError::Query(error) => error.into(),
        ReportError::Measurement(_) => ApiError::not_found(text),
        ReportError::BadField { .. } => ApiError::bad_request(text),
        ReportError::TooMany { .. } => ApiError::beyond("quality", text),
        _ => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable_points", text),
    }
}
