//! What there is: databases, measurements, fields, tag values.

use super::health::json_response;
use crate::body;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wattlog_model::{FieldKind, FieldMeaning, Unit};
use wattlog_wire::shortened;

/// All databases.
#[utoipa::path(get, path = "/api/v1/databases", tag = "schema",
    responses((status = 200, description = "`{\"databases\":[{\"name\",\"retention_policies\",\"measurements\",\"series\"}]}`")))]
pub(crate) async fn databases(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let list = state
        .read(|engine, _| {
            let of = |info: wattlog_engine::DatabaseInfo| {
                json!({
                    "name": info.name, "retention_policies": info.retention_policies,
                    "measurements": info.measurements, "series": info.series,
                })
            };
            Ok(engine.databases().into_iter().map(of).collect::<Vec<Value>>())
        })
        .await?;
    Ok(json_response(StatusCode::OK, json!({ "databases": list }).to_string()))
}

/// Measurements of a database.
#[utoipa::path(get, path = "/api/v1/measurements", tag = "schema",
    params(("db" = Option<String>, Query, description = "Database; default wattlog")),
    responses((status = 200, description = "`{\"measurements\":[..]}`"), (status = 404, description = "Unknown database")))]
pub(crate) async fn measurements(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let database = database(&state, query)?;
    let (database, names) = state
        .read(move |engine, _| {
            let names = engine.measurements(&database)?;
            Ok((database, names))
        })
        .await?;
    Ok(json_response(StatusCode::OK, json!({ "database": database, "measurements": names }).to_string()))
}

/// Fields, tag keys, series and time range of a measurement.
#[utoipa::path(get, path = "/api/v1/measurements/{measurement}", tag = "schema",
    params(("measurement" = String, Path, description = "Measurement"),
        ("db" = Option<String>, Query, description = "Database; default wattlog")),
    responses((status = 200, description = "Fields with type, unit and kind; tag keys; series; first and last time"),
        (status = 404, description = "Unknown database or measurement")))]
pub(crate) async fn measurement(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let database = database(&state, query)?;
    let body = state
        .read(move |engine, _| {
            let unknown = || ApiError::not_found(format!("measurement not found: \"{}\"", shortened(&name)));
            let info = engine.measurement(&database, &name)?.ok_or_else(unknown)?;
            let fields: Vec<Value> = info
                .fields
                .iter()
                .map(|field| {
                    json!({ "name": field.name, "type": field.field_type, "unit": field.unit, "kind": field.kind })
                })
                .collect();
            Ok(json!({
                "database": database, "measurement": name, "fields": fields, "tag_keys": info.tag_keys,
                "series": info.series,
                "first": info.first.map(|time| rfc3339(time.0)), "last": info.last.map(|time| rfc3339(time.0)),
            }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

/// What a field means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meaning {
    unit: Option<String>,
    kind: Option<FieldKind>,
}

/// Sets unit and kind of a field; values stay as they are.
#[utoipa::path(post, path = "/api/v1/measurements/{measurement}/fields/{field}", tag = "schema",
    params(("measurement" = String, Path, description = "Measurement"), ("field" = String, Path, description = "Field"),
        ("db" = Option<String>, Query, description = "Database; default wattlog")),
    request_body(content = String, content_type = "application/json",
        description = "`{\"unit\":\"kWh\",\"kind\":\"counter\"}`: kind is linear, step or counter; a null unit is none; what is left out stays"),
    responses((status = 200, description = "`{\"name\",\"unit\",\"kind\"}` as they are now"),
        (status = 400, description = "No unit, no kind"), (status = 404, description = "Unknown database, measurement or field")))]
pub(crate) async fn describe_field(
    State(state): State<ServerState>,
    PathParts((measurement, field)): PathParts<(String, String)>,
    query: QueryPairs,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let database = database(&state, query)?;
    let (head, body) = request.into_parts();
    let received = body::receive(&state, &head, body).await?;
    let body = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let told: Map<String, Value> = serde_json::from_slice(&plain.bytes)
                .map_err(|error| ApiError::bad_request(format!("the body is no JSON object: {error}")))?;
            let keeps_unit = !told.contains_key("unit");
            let Meaning { unit, kind } = serde_json::from_value(Value::Object(told))
                .map_err(|error| ApiError::bad_request(format!("the body tells no meaning: {error}")))?;
            let unknown = || ApiError::not_found(format!("field not found: \"{}\"", shortened(&field)));
            let known = engine.measurement(&database, &measurement)?;
            let known = known.and_then(|info| info.fields.into_iter().find(|own| own.name == field));
            let known = known.ok_or_else(unknown)?;
            let unit = match unit {
                _ if keeps_unit => known.unit,
                None => None,
                Some(text) => Some(Unit::new(&text).ok_or_else(|| {
                    let most = Unit::MAX_LEN_BYTES;
                    ApiError::bad_request(format!("a unit has 1 to {most} bytes and no control characters"))
                })?),
            };
            let meaning = FieldMeaning { field, unit, kind: kind.unwrap_or(known.kind) };
            engine.describe_fields(&database, &measurement, std::slice::from_ref(&meaning))?;
            Ok(json!({ "name": meaning.field, "unit": meaning.unit, "kind": meaning.kind }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

/// Values of a tag.
#[utoipa::path(get, path = "/api/v1/measurements/{measurement}/tags/{key}", tag = "schema",
    params(("measurement" = String, Path, description = "Measurement"), ("key" = String, Path, description = "Tag key"),
        ("db" = Option<String>, Query, description = "Database; default wattlog")),
    responses((status = 200, description = "`{\"values\":[..]}`, sorted"), (status = 404, description = "Unknown database")))]
pub(crate) async fn tag_values(
    State(state): State<ServerState>,
    PathParts((measurement, key)): PathParts<(String, String)>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let database = database(&state, query)?;
    let body = state
        .read(move |engine, _| {
            let values = engine.tag_values(&database, &measurement, &key)?;
            Ok(json!({ "database": database, "measurement": measurement, "key": key, "values": values }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

fn database(state: &ServerState, query: QueryPairs) -> Result<String, ApiError> {
    let [database] = query.only(["db"])?;
    Ok(database.unwrap_or_else(|| state.shared.options.default_database.clone()))
}
