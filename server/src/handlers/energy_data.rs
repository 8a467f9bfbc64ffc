//! `/api/energy-data`: the optimiser's `store_energy_data` and `get_energy_data` over HTTP.

use super::health::json_response;
use super::query::{PARTIAL, partial_text};
use crate::answer::AnswerWatch;
use crate::body;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::metrics::IngestSource;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::energy_data::{self, BodyRefused, MEASUREMENT, ReadOptions};
use crate::wire::time::{Fold, parse_local_time};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use wattlog_engine::WriteBatch;
use wattlog_engine::query::{QueryError, QueryRequest, QueryResult, TagFilter, TagPredicate};
use wattlog_model::FieldType;

/// Stores one object or a list of objects.
#[utoipa::path(post, path = "/api/energy-data", tag = "plan",
    request_body(content_type = "application/json", content = Object,
        description = "`time` or `timestamp`, `device_id`, `data_source`, `location`; every other member is a field"),
    responses((status = 200, description = "All stored and durable: `{\"stored\":N}`"),
        (status = 400, description = "No JSON, or elements refused: `rejected` names them; the others are stored"),
        (status = 413, description = "Body too large"), (status = 503, description = "Try again")))]
pub(crate) async fn store(
    State(state): State<ServerState>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let received = body::receive(&state, &head, body).await?;
    let receive_time = state.shared.clock.wall().truncated_to_millis();
    let shared = state.clone();
    let (read, receipt) = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let options = &shared.shared.options;
            let database = &options.default_database;
            let types = field_types(engine.measurement(database, MEASUREMENT))?;
            let read_options = ReadOptions {
                home_zone: &shared.shared.home_zone,
                receive_time,
                field_type: &|name| types.get(name).copied(),
            };
            let mut batch = WriteBatch::new(database, None);
            let limit = options.limits.batch;
            let read =
                match energy_data::parse_into(&mut batch, &plain.bytes, &read_options, limit.in_memory()) {
                    Ok(read) => read,
                    Err(BodyRefused::TooLarge) => return Err(ApiError::batch_too_large(limit)),
                    Err(BodyRefused::Json(reason)) => return Err(ApiError::bad_request(reason)),
                };
            let _held = plain.read_into(batch.bytes())?;
            Ok((read, engine.write(batch)?))
        })
        .await?;
    let stored = receipt.points;
    let metrics = &state.shared.metrics;
    state.count_ingested(IngestSource::EnergyData, stored);
    metrics.rejected_by("unparsed", read.refused_count);
    let mut refused: Vec<(u32, String)> = read.refused.into_iter().map(|r| (r.index, r.reason)).collect();
    let mut count = read.refused_count;
    for rejection in &receipt.rejected {
        metrics.rejected(rejection.reason.label());
        count += 1;
        refused.push((rejection.line, rejection.reason.to_string()));
    }
    if count == 0 {
        return Ok(json_response(StatusCode::OK, json!({ "stored": stored }).to_string()));
    }
    refused.sort();
    refused.truncate(100);
    let (first, reason) = &refused[0];
    let message = format!("element {first}: {reason}; {stored} stored, {count} refused");
    let list: Vec<Value> =
        refused.iter().map(|(index, reason)| json!({ "index": index, "message": reason })).collect();
    Err(ApiError::bad_request(message).with("stored", stored).with("refused", count).with("rejected", list))
}

fn field_types(
    info: Result<Option<wattlog_engine::MeasurementInfo>, QueryError>,
) -> Result<HashMap<String, FieldType>, ApiError> {
    match info {
        Ok(info) => {
            Ok(info.into_iter().flat_map(|info| info.fields).map(|f| (f.name, f.field_type)).collect())
        }
        Err(QueryError::DatabaseNotFound(_)) => Ok(HashMap::new()),
        Err(error) => Err(error.into()),
    }
}

/// Points of a range, as a list in order of time.
#[utoipa::path(get, path = "/api/energy-data", tag = "plan",
    params(
        ("start_time" = String, Query, description = "Beginning, included; a time without a zone is home time"),
        ("end_time" = String, Query, description = "End, not included; a time without a zone is home time"),
        ("device_id" = Option<String>, Query, description = "Only this device")),
    responses((status = 200, description = "List of flat objects"), (status = 400, description = "A parameter is wrong"),
        (status = 422, description = "The answer would pass a limit")))]
pub(crate) async fn list(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let options = &state.shared.options;
    let text: Vec<String> = query.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let [start, end, device] = query.only(["start_time", "end_time", "device_id"])?;
    let time = |name: &str, text: Option<String>, fold: Fold| {
        let text = text.ok_or_else(|| ApiError::bad_request(format!("parameter {name:?} is required")))?;
        parse_local_time(&text, &state.shared.home_zone, fold)
            .map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
    };
    let start = time("start_time", start, Fold::Earlier)?;
    let end = time("end_time", end, Fold::Later)?;
    let mut request = QueryRequest::raw(&options.default_database, MEASUREMENT, start, end);
    if let Some(device) = device {
        let predicate = TagPredicate::In(vec![device]);
        request.tags.push(TagFilter { key: "device_id".to_owned(), predicate });
    }
    let shared = state.clone();
    let (answer, partial) = state
        .query("energy_data", text.join("&"), move |engine, control, watched| {
            let result = match engine.query(&request, control) {
                Ok(result) => result,
                // Before the first point the default database is not there; the plan's answer is an empty list.
                Err(QueryError::DatabaseNotFound(_)) => QueryResult::default(),
                Err(error) => return Err(error.into()),
            };
            watched.stats = Some(result.stats);
            let mut watch = AnswerWatch::new(&shared, peer, control);
            let bytes = energy_data::encode(&result, &mut |bytes| watch.look(bytes))?;
            Ok((watch.finish(bytes), result.is_partial()))
        })
        .await?;
    let mut response = json_response(StatusCode::OK, answer);
    response.headers_mut().insert(PARTIAL, partial_text(partial));
    Ok(response)
}
