//! Deletes: values that were stored before the request are hidden at once; compaction takes them out later.

use super::health::json_response;
use super::write::namespace_of;
use crate::body;
use crate::error::ApiError;
use crate::service::no_content;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::{params, predicate, time::parse_query_time};
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use wattlog_engine::query::{QueryError, TagFilter, TagPredicate};
use wattlog_engine::{DeleteError, DeleteRequest};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Body of the 2.x route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deletion {
    start: String,
    stop: String,
    #[serde(default)]
    predicate: String,
}

/// Deletes values stored before (InfluxDB 2.x).
#[utoipa::path(post, path = "/api/v2/delete", tag = "write",
    params(
        ("bucket" = String, Query, description = "Database, or database/retention-policy"),
        ("org" = Option<String>, Query, description = "Taken and not used")),
    request_body(content = String, content_type = "application/json",
        description = "`{\"start\",\"stop\",\"predicate\"}`: RFC 3339 times, stop not included; `_measurement=\"m\" AND tag=\"value\"`"),
    responses((status = 204, description = "Hidden, and durably so"), (status = 400, description = "Not understood"),
        (status = 404, description = "Unknown bucket"), (status = 503, description = "Overloaded or read-only: try again"), (status = 507, description = "The disk is full: try again")))]
pub(crate) async fn delete_influx2(
    State(state): State<ServerState>,
    mut parameters: QueryPairs,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let bucket = parameters.last("bucket").unwrap_or_default();
    let (database, retention_policy) = namespace_of(&bucket);
    let not_found = || ApiError::not_found(format!("bucket \"{}\" not found", shortened(&bucket)));
    let now = state.shared.clock.wall();
    let (head, body) = request.into_parts();
    let received = body::receive(&state, &head, body).await?;
    let outcome = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let told: Deletion = serde_json::from_slice(&plain.bytes)
                .map_err(|error| ApiError::bad_request(format!("the body is no delete request: {error}")))?;
            let time = |name: &str, text: &str| {
                parse_query_time(text, now).map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
            };
            let predicate = predicate::parse(&told.predicate).map_err(ApiError::bad_request)?;
            let is = |(key, value)| TagFilter { key, predicate: TagPredicate::In(vec![value]) };
            Ok(engine.delete(&DeleteRequest {
                database,
                retention_policy,
                measurement: predicate.measurement,
                fields: predicate.field.map(|field| vec![field]),
                tags: predicate.tags.into_iter().map(is).collect(),
                start: time("start", &told.start)?,
                end: time("stop", &told.stop)?,
            }))
        })
        .await?;
    match outcome {
        Ok(_) => Ok(no_content()),
        Err(DeleteError::Request(
            QueryError::DatabaseNotFound(_) | QueryError::RetentionPolicyNotFound(_),
        )) => Err(not_found()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes values of a measurement that were stored before.
#[utoipa::path(post, path = "/api/v1/delete", tag = "write",
    params(
        ("measurement" = String, Query, description = "Measurement"),
        ("start" = String, Query, description = "Beginning, included: RFC 3339, whole number with s, ms, us or ns, now, -24h"),
        ("end" = String, Query, description = "End, not included"),
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("fields" = Option<String>, Query, description = "Comma list; default whole points"),
        ("tag.KEY" = Option<String>, Query, description = "VALUE (repeat for any of several), !VALUE, ~regex, !~regex")),
    responses((status = 200, description = "`{\"series\",\"as_of\"}`: series that were covered, place in the commit order"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "Unknown database"), (status = 503, description = "Overloaded or read-only: try again"), (status = 507, description = "The disk is full: try again")))]
pub(crate) async fn delete(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
) -> Result<Response<Body>, ApiError> {
    let now: Timestamp = state.shared.clock.wall();
    let query = query.unwrap_or_default();
    let request = params::parse_delete(&query, &state.shared.options.default_database, now)
        .map_err(ApiError::bad_request)?;
    let receipt = state.write(move |engine| Ok(engine.delete(&request)?)).await?;
    let body = json!({ "series": receipt.series, "as_of": receipt.cursor.to_string() });
    Ok(json_response(StatusCode::OK, body.to_string()))
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Request(error) => error.into(),
            DeleteError::Commit(error) => error.into(),
            other => Self::internal(other.to_string()),
        }
    }
}
