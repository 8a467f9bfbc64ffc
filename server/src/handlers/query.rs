//! Reading: ranges, buckets, newest values.

use super::health::json_response;
use crate::answer::{Answer, AnswerWatch};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::queries::Running;
use crate::state::ServerState;
use crate::validator::{Question, Tag};
use crate::wire::answer::{Asked, counts, encode};
use crate::wire::params::{self, Parameters, Route};
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use wattlog_engine::query::{Explanation, QueryStats};

/// Values of a measurement over a range: raw, or in buckets.
#[utoipa::path(get, path = "/api/v1/query", tag = "read",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("start" = String, Query, description = "Beginning, included: RFC 3339, whole number with s, ms, us or ns, now, -24h"),
        ("end" = Option<String>, Query, description = "End, not included; default now"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default all"),
        ("expr" = Option<String>, Query, description = "Computed column, as pv_power - consumption; may be repeated"),
        ("as" = Option<String>, Query, description = "Its name; repeated in the order of expr"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE (repeat for any of several), !VALUE, ~regex, !~regex"),
        ("where" = Option<String>, Query, description = "Condition on rows: comparisons (= != < <= > >=) of fields and tags with numbers, true, false or quoted texts; and, or, not, parentheses"),
        ("every" = Option<String>, Query, description = "Bucket length: a number and ns, us, ms, s, m, h, d, w, mo, q or y, as in 15m or 1mo; a bucket's time is its start"),
        ("offset" = Option<String>, Query, description = "How much later buckets begin, as in 6h or -15m; default 0"),
        ("gap" = Option<String>, Query, description = "Longest time between two points that integral, twa and coverage take as covered; default 1h"),
        ("unit" = Option<String>, Query, description = "What integral and rate count in: s, m, h (default), d; for integrals of powers also Wh, kWh, MWh"),
        ("fill" = Option<String>, Query, description = "What stands in buckets without a value: none (default: they are left out), null, previous, linear, a number"),
        ("tz" = Option<String>, Query, description = "IANA zone of buckets and of rfc3339 times; default for buckets the home zone, for times UTC"),
        ("pixels" = Option<u32>, Query, description = "Width of a drawing from start to end: only points that it needs, at most four per pixel and field"),
        ("shape" = Option<String>, Query, description = "grid: min, max, first and last of each field in at most `buckets` buckets, borders where the clock of the zone shows round times"),
        ("buckets" = Option<u32>, Query, description = "For shape=grid: most rows, 4 to 10000"),
        ("fn" = Option<String>, Query, description = "Comma list of count, sum, mean, min, max, first, last, spread, stddev, median, p95 or quantile(0.95), mode, distinct, integral, twa, increase, rate, coverage, cost, priced"),
        ("price.field" = Option<String>, Query, description = "For cost and priced: field of the price, in currency per Wh, kWh or MWh"),
        ("price.measurement" = Option<String>, Query, description = "Its measurement; default that of the query"),
        ("price.tag.KEY" = Option<String>, Query, description = "Conditions on its tags, as tag.KEY; one series must satisfy them"),
        ("price.max_age" = Option<String>, Query, description = "Longest time that a price holds; default 24h"),
        ("then" = Option<String>, Query, description = "Comma list of functions over the columns: derivative(1h), non_negative_derivative(1h), difference, non_negative_difference, cumulative_sum, moving_average(5), top(3), bottom(3), histogram(10) or histogram(0,10,50)"),
        ("group_by" = Option<String>, Query, description = "Comma list of tag keys, or *"),
        ("order" = Option<String>, Query, description = "asc (default) or desc"),
        ("limit" = Option<u64>, Query, description = "Rows per series"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "json (default), csv, ndjson"),
        ("explain" = Option<u8>, Query, description = "1: what would be read, instead of reading it")),
    responses(
        (status = 200, description = "Columns, in order of time"),
        (status = 304, description = "With pixels or shape=grid: the answer is the one that If-None-Match names"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown database"),
        (status = 422, description = "The answer would pass a limit; the message says which"),
        (status = 503, description = "Too many queries at a time, or out of time")))]
pub(crate) async fn query(
    State(state): State<ServerState>,
    peer: Peer,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    answer(state, peer, query, headers, Route::Query).await
}

/// Newest value of each field, one row per series.
#[utoipa::path(get, path = "/api/v1/last", tag = "read",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default all"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE, !VALUE, ~regex, !~regex"),
        ("expr" = Option<String>, Query, description = "Computed column, as for /api/v1/query"),
        ("as" = Option<String>, Query, description = "Its name"),
        ("where" = Option<String>, Query, description = "Condition on rows, as for /api/v1/query: the newest values among those that satisfy it"),
        ("tz" = Option<String>, Query, description = "IANA zone of rfc3339 times; default UTC"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "json (default), csv, ndjson")),
    responses((status = 200, description = "One row per series"), (status = 400, description = "A parameter is wrong"),
        (status = 404, description = "Unknown database")))]
pub(crate) async fn last(
    State(state): State<ServerState>,
    peer: Peer,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    answer(state, peer, query, headers, Route::Last).await
}

/// Queries that took long of late, newest first, and those that run now.
#[utoipa::path(get, path = "/api/v1/queries/slow", tag = "status",
    responses((status = 200, description = "`{\"threshold_ms\",\"slow\":[..],\"running\":[..]}`: times, parameters and statistics")))]
pub(crate) async fn slow(State(state): State<ServerState>) -> Response<Body> {
    let queries = &state.shared.queries;
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let began = |query: &Running| json!({ "endpoint": query.endpoint, "query": query.text, "began": rfc3339(query.began.0) });
    let slow = queries.slow().into_iter().map(|ended| {
        let mut entry = began(&ended.query);
        entry["took_ms"] = json!(millis(ended.took));
        entry["stats"] = ended.stats.map_or(Value::Null, |stats| stats_json(&stats));
        entry["error"] = json!(ended.error);
        entry
    });
    let running = queries.running().into_iter().map(|query| {
        let mut entry = began(&query);
        entry["running_ms"] = json!(millis(query.elapsed()));
        entry
    });
    let body = json!({
        "threshold_ms": millis(queries.threshold()),
        "slow": slow.collect::<Vec<_>>(), "running": running.collect::<Vec<_>>(),
    });
    json_response(StatusCode::OK, body.to_string())
}

fn stats_json(stats: &QueryStats) -> Value {
    let counts = counts(stats).map(|(name, count)| (name.to_owned(), json!(count)));
    Value::Object(counts.into_iter().collect())
}

fn explanation_json(told: &Explanation) -> Value {
    json!({
        "as_of": told.as_of.to_string(),
        "series": told.series, "answer_series": told.answer_series, "threads": told.threads,
        "segments": { "read": told.segments, "lost": told.segments_lost, "pruned": told.segments_pruned },
        "rows_in_memory": told.rows_in_memory,
        "row_groups": {
            "outside": told.groups_outside, "merged": told.groups_merged, "pruned": told.groups_pruned,
            "judged": told.groups_judged, "whole": told.groups_whole,
        },
        "blocks_of_whole_groups": {
            "from_statistics": told.blocks_from_statistics, "decoded": told.blocks_decoded,
        },
    })
}

async fn answer(
    state: ServerState,
    peer: Peer,
    query: Option<String>,
    headers: HeaderMap,
    route: Route,
) -> Result<Response<Body>, ApiError> {
    let now = state.shared.clock.wall();
    let default_database = &state.shared.options.default_database;
    let parameters = params::parse(
        query.as_deref().unwrap_or_default(),
        route,
        default_database,
        &state.shared.bucket_zone,
        now,
    )
    .map_err(ApiError::bad_request)?;
    let Parameters { request, time_format, format, is_drawn, explain, .. } = parameters;
    let text = query.unwrap_or_default();
    if explain {
        let told =
            state.query("explain", text, move |engine, control, _| Ok(engine.explain(&request, control)?));
        let body = json!({ "explain": explanation_json(&told.await?) });
        return Ok(json_response(StatusCode::OK, body.to_string()));
    }
    let (endpoint, range) = match route {
        Route::Last => ("last", None),
        Route::Query | Route::Export => ("query", Some((request.start.0, request.end.0))),
    };
    let shared = state.clone();
    let answered = state
        .query(endpoint, text, move |engine, control, watched| {
            let question = is_drawn.then(|| Question::new(&request, format, &time_format));
            let validators = &shared.shared.validators;
            let mut version = 0;
            if let Some(question) = question {
                version = engine.query_version(&request)?;
                if let Some(tag) = validators.get(question, version).filter(|tag| tag.is_known_to(&headers)) {
                    return Ok(Answered::Unchanged(tag));
                }
            }
            let result = engine.query(&request, control)?;
            watched.stats = Some(result.stats);
            let partial = result.is_partial();
            // What is missing today may be read again tomorrow.
            let tag = question.filter(|_| !partial).map(|question| {
                let tag = Tag::of(question, &result);
                validators.put(question, version, tag);
                tag
            });
            if let Some(tag) = tag.filter(|tag| tag.is_known_to(&headers)) {
                return Ok(Answered::Unchanged(tag));
            }
            let asked = Asked { measurement: &request.measurement, range, time_format };
            let mut watch = AnswerWatch::new(&shared, peer, control);
            let bytes = encode(&result, format, &asked, &mut |bytes| watch.look(bytes))?;
            let answer = watch.finish(bytes);
            Ok(Answered::Whole { answer, partial, as_of: result.stats.as_of.to_string(), tag })
        })
        .await?;
    let (mut response, tag) = match answered {
        Answered::Unchanged(tag) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            (response, Some(tag))
        }
        Answered::Whole { answer, partial, as_of, tag } => {
            let mut response = Response::new(Body::from(answer));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            // Formats without an envelope say these here.
            headers.insert(PARTIAL, partial_text(partial));
            if let Ok(cursor) = HeaderValue::from_str(&as_of) {
                headers.insert(HeaderName::from_static("x-wattlog-as-of"), cursor);
            }
            (response, tag)
        }
    };
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag.header());
        // To be kept, and asked for again each time: late points change old ranges too.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    Ok(response)
}

enum Answered {
    /// The client has this answer.
    Unchanged(Tag),
    Whole {
        answer: Answer,
        partial: bool,
        as_of: String,
        tag: Option<Tag>,
    },
}

/// Says whether something is missing from the answer because it is damaged.
pub(super) const PARTIAL: HeaderName = HeaderName::from_static("x-wattlog-partial");

pub(super) fn partial_text(partial: bool) -> HeaderValue {
    HeaderValue::from_static(if partial { "true" } else { "false" })
}
