//! Where a field goes: its line, its usual day, week or year, and the same times a year ago.

use crate::answer::AnswerWatch;
use crate::asked;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::link::QueryLink;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::parse_span;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::ops::Range;
use wattlog_analytics::trend::{Comparison, Line, Season, SeasonalMean};
use wattlog_derived::series::Selection;
use wattlog_derived::trend::{Figure, Inputs, SeriesTrend, TrendAnswer, TrendRefused, TrendRequest, answer};
use wattlog_engine::query::{Aggregate, Function, Zone};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Line, usual day, week or year, and comparison with the year before, of one field.
#[utoipa::path(get, path = "/api/v1/trends", tag = "meaning",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("field" = String, Query, description = "A field with numbers"),
        ("start" = Option<String>, Query, description = "Beginning, as for /api/v1/query; default: 30 days before end"),
        ("end" = Option<String>, Query, description = "End, not included; default now"),
        ("device_id" = Option<String>, Query, description = "Only this device"),
        ("tag.KEY" = Option<String>, Query, description = "Conditions on tags, as for /api/v1/query"),
        ("season" = Option<String>, Query, description = "day (default): by hour; week: by day of the week; year: by month"),
        ("gap" = Option<String>, Query, description = "Longest time between two points that counts as covered; default 1h"),
        ("least_coverage" = Option<f64>, Query, description = "Hours and days with less data are left out; above 0 to 1, default 0.5"),
        ("tz" = Option<String>, Query, description = "IANA zone of hours, days and years; default the home zone")),
    responses(
        (status = 200, description = "`{\"measurement\",\"field\",\"function\",\"series\":[{\"tags\",\"line\",\"seasonal\",\"comparison\"}],\"lost\"}`"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown measurement or database"),
        (status = 422, description = "More series than are told at a time"),
        (status = 503, description = "Too many queries at a time, or out of time")))]
pub(crate) async fn trends(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let now = state.shared.clock.wall();
    let database = state.shared.options.default_database.clone();
    let request = parse(query, database, &state.shared.bucket_zone, now)?;
    let text = format!("trends {} {} {:?}", request.selection.measurement, request.field, request.range);
    let counted = state.clone();
    let body = state
        .query("trends", text, move |engine, control, _| {
            let found = answer(engine, &request, control).map_err(refusal)?;
            let body = told(&found, &request).to_string().into_bytes();
            AnswerWatch::new(&counted, peer, control).written(body)
        })
        .await?;
    Ok(asked::told(body, false))
}

/// Told if no beginning is asked for.
const USUAL_DAYS: i64 = 30;
const USUAL_COVERAGE: f64 = 0.5;

fn parse(
    mut query: QueryPairs,
    database: String,
    home: &Zone,
    now: Timestamp,
) -> Result<TrendRequest, ApiError> {
    let tags = asked::tags(&mut query.0)?;
    let [measurement, field, start, end, season, gap, coverage, tz] =
        query.only(["measurement", "field", "start", "end", "season", "gap", "least_coverage", "tz"])?;
    let bad = |text: String| ApiError::bad_request(text);
    let needed = |name: &str, value: Option<String>| {
        value.ok_or_else(|| bad(format!("parameter {name:?} is required")))
    };
    let end = asked::time("end", end.as_deref(), now)?.unwrap_or(now.0);
    let usual = || end.saturating_sub(USUAL_DAYS * Timestamp::DAY_NS);
    let start = asked::time("start", start.as_deref(), now)?.unwrap_or_else(usual);
    if start >= end {
        return Err(bad("start: must be before end".to_owned()));
    }
    let max_gap_ns = match gap.as_deref() {
        None => Aggregate::DEFAULT_MAX_GAP_NS,
        Some(text) => parse_span(text).map_err(|error| bad(format!("gap: {error}")))?,
    };
    let least_coverage = asked::positive("least_coverage", coverage.as_deref())?.unwrap_or(USUAL_COVERAGE);
    if least_coverage > 1.0 {
        return Err(bad("least_coverage: above 0 to 1".to_owned()));
    }
    let seasons = [("day", Season::HourOfDay), ("week", Season::DayOfWeek), ("year", Season::MonthOfYear)];
    Ok(TrendRequest {
        selection: Selection { database, measurement: needed("measurement", measurement)?, tags },
        field: needed("field", field)?,
        range: start..end,
        season: asked::word("season", season.as_deref(), &seasons)?,
        zone: asked::zone(tz.as_deref(), home)?,
        max_gap_ns,
        least_coverage,
    })
}

fn refusal(error: TrendRefused) -> ApiError {
    let text = error.to_string();
    match error {
        TrendRefused::Query(error) => error.into(),
        TrendRefused::Measurement(name) => {
            ApiError::not_found(format!("measurement not found: {:?}", shortened(&name)))
        }
        TrendRefused::Field { .. } | TrendRefused::Range(_) => ApiError::bad_request(text),
        TrendRefused::Series { .. } => ApiError::beyond("trends", text),
        _ => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable_points", text),
    }
}

fn told(found: &TrendAnswer, request: &TrendRequest) -> Value {
    let time = |ns: i64| asked::clock(ns, &request.zone);
    let range = |range: &Range<i64>| json!({ "start": time(range.start), "end": time(range.end) });
    let series: Vec<Value> = found.series.iter().map(|series| of_series(series, found, request)).collect();
    let season = match request.season {
        Season::HourOfDay => "day",
        Season::DayOfWeek => "week",
        Season::MonthOfYear => "year",
    };
    json!({
        "measurement": request.selection.measurement, "field": request.field,
        "unit": found.unit, "function": found.function.to_string(),
        "start": time(request.range.start), "end": time(request.range.end), "tz": request.zone.name(),
        "season": season, "least_coverage": request.least_coverage,
        "series": series, "lost": found.lost.iter().map(range).collect::<Vec<_>>(),
    })
}

fn of_series(series: &SeriesTrend, found: &TrendAnswer, request: &TrendRequest) -> Value {
    let time = |ns: i64| asked::clock(ns, &request.zone);
    let tags: Map<String, Value> =
        series.tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let function = found.function.to_string();
    let link = QueryLink::new(&request.selection.measurement, &series.tags, &request.range)
        .among(&series.tags, &request.selection.tags)
        .with("fields", &request.field)
        .with("tz", request.zone.name())
        .with("gap", &format!("{}ns", request.max_gap_ns));
    let inputs = |inputs: &Inputs, every: &str| {
        let link = link.with("fn", &format!("{function},coverage")).with("every", every);
        json!({
            "every": every, "expected": inputs.expected, "used": inputs.used,
            "left_out": inputs.left_out, "query": link.to_string(),
        })
    };
    let line = |line: Line| {
        json!({
            "slope_per_day": line.slope_per_day, "slope_error_per_day": line.slope_error_per_day,
            "r2": line.r2, "level": line.level, "middle": time(line.middle.0), "count": line.count,
        })
    };
    let (word, every) = match request.season {
        Season::HourOfDay => ("hour", "1h"),
        Season::DayOfWeek => ("day", "1d"),
        Season::MonthOfYear => ("month", "1d"),
    };
    let mean = |mean: &SeasonalMean| json!({ word: mean.place, "mean": mean.mean, "deviation": mean.deviation, "count": mean.count });
    let figure = |figure: Option<Figure>, range: &Range<i64>| {
        let link = link.over(range.clone()).with("fn", &format!("{function},count,coverage"));
        json!({
            "start": time(range.start), "end": time(range.end),
            "value": figure.map(|figure| figure.value),
            "points": figure.map_or(0, |figure| figure.points),
            "coverage": figure.map_or(0.0, |figure| figure.coverage),
            "query": link.to_string(),
        })
    };
    json!({
        "tags": tags,
        "line": { "fit": series.line.map(line), "inputs": inputs(&series.days, "1d") },
        "seasonal": {
            "means": series.seasonal.iter().map(mean).collect::<Vec<_>>(),
            "inputs": inputs(&series.seasonal_inputs, every),
        },
        "year_before": {
            "this": figure(series.this, &request.range),
            "before": found.year_before.as_ref().map(|before| figure(series.before, before)),
            "comparison": series.comparison.map(|comparison| compared(&comparison, found.function)),
        },
    })
}

/// Growth has a rate; a mean has none.
fn compared(comparison: &Comparison, function: Function) -> Value {
    let mut told = json!({ "change": comparison.change, "share": comparison.share });
    if function == Function::Increase {
        told["this_per_hour"] = json!(comparison.this_per_hour);
        told["before_per_hour"] = json!(comparison.before_per_hour);
    }
    told
}
