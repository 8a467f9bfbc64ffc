//! Reading: ranges, buckets, newest values.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::answer::{AnswerTooLong, Asked, encode};
use crate::wire::params::{self, Parameters, Route};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::time::Instant;

impl From<AnswerTooLong> for ApiError {
    fn from(error: AnswerTooLong) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "limit exceeded", error.to_string())
    }
}

/// Values of a measurement over a range: raw, or in buckets.
#[utoipa::path(get, path = "/api/v1/query", tag = "read",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("start" = String, Query, description = "Beginning, included: RFC 3339, whole number with s, ms, us or ns, now, -24h"),
        ("end" = Option<String>, Query, description = "End, not included; default now"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default all"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE (repeat for any of several), !VALUE, ~regex, !~regex"),
        ("every" = Option<String>, Query, description = "Bucket length, as in 15m; a bucket's time is its start"),
        ("fn" = Option<String>, Query, description = "Comma list of count, sum, mean, min, max, first, last"),
        ("group_by" = Option<String>, Query, description = "Comma list of tag keys, or *"),
        ("order" = Option<String>, Query, description = "asc (default) or desc"),
        ("limit" = Option<u64>, Query, description = "Rows per series"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "json (default), csv, ndjson")),
    responses(
        (status = 200, description = "Columns, in order of time"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown database"),
        (status = 422, description = "The answer would pass a limit; the message says which"),
        (status = 503, description = "Too many queries at a time, or out of time")))]
pub(crate) async fn query(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, ApiError> {
    answer(state, query, Route::Query).await
}

/// Newest value of each field, one row per series.
#[utoipa::path(get, path = "/api/v1/last", tag = "read",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default all"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE, !VALUE, ~regex, !~regex"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "json (default), csv, ndjson")),
    responses((status = 200, description = "One row per series"), (status = 400, description = "A parameter is wrong"),
        (status = 404, description = "Unknown database")))]
pub(crate) async fn last(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, ApiError> {
    answer(state, query, Route::Last).await
}

async fn answer(state: ServerState, query: Option<String>, route: Route) -> Result<Response<Body>, ApiError> {
    let options = &state.shared.options;
    let now = state.shared.clock.wall();
    let parameters =
        params::parse(query.as_deref().unwrap_or_default(), route, &options.default_database, now)
            .map_err(ApiError::bad_request)?;
    let Parameters { request, time_format, format } = parameters;
    let limit = options.limits.answer.len();
    let (endpoint, range) = match route {
        Route::Query => ("query", Some((request.start.0, request.end.0))),
        Route::Last => ("last", None),
    };
    let shared = state.clone();
    let (bytes, partial, as_of) = state
        .read(move |engine, control| {
            let begun = Instant::now();
            let result = engine.query(&request, control)?;
            let asked = Asked { measurement: &request.measurement, range, time_format, limit };
            let bytes = encode(&result, format, &asked)?;
            shared.shared.metrics.query(endpoint, begun.elapsed(), result.stats.points_scanned);
            Ok((bytes, result.is_partial(), result.stats.as_of))
        })
        .await?;
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    // Formats without an envelope say these here.
    headers.insert(
        HeaderName::from_static("x-wattlog-partial"),
        HeaderValue::from_static(if partial { "true" } else { "false" }),
    );
    if let Ok(cursor) = HeaderValue::from_str(&as_of.to_string()) {
        headers.insert(HeaderName::from_static("x-wattlog-as-of"), cursor);
    }
    Ok(response)
}
