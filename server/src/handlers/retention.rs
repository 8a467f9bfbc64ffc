//! For how long points are kept: rules, the cutoffs that follow from them, and the clock that they go by.

use super::health::json_response;
use crate::body;
use crate::error::ApiError;
use crate::keep::Keep;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use wattlog_engine::{ClockCondition, Engine, RetentionInfo, Rule};
use wattlog_wire::shortened;

/// All rules, and the clock.
#[utoipa::path(get, path = "/api/v1/retention", tag = "retention",
    params(("db" = Option<String>, Query, description = "Only those of this database")),
    responses((status = 200, description = "`{\"clock\",\"rules\":[{\"database\",\"retention_policy\",\"measurement\",\"keep\",\"cutoff\"}]}`")))]
pub(crate) async fn list(
    State(state): State<ServerState>,
    mut query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let database = query.last("db");
    let body = state
        .read(move |engine, _| {
            let wanted = |rule: &RetentionInfo| database.as_ref().is_none_or(|name| *name == rule.database);
            let rules: Vec<Value> =
                engine.retentions().iter().filter(|rule| wanted(rule)).map(rule_json).collect();
            Ok(json!({ "clock": clock_json(engine), "rules": rules }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

/// The rule that is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// None: as the database.
    keep: Option<String>,
}

/// Sets for how long points are kept; what is older is hidden at once.
#[utoipa::path(post, path = "/api/v1/retention", tag = "retention",
    params(
        ("db" = Option<String>, Query, description = "Database; default wattlog"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("measurement" = Option<String>, Query, description = "Only this measurement, in place of the rule of its database")),
    request_body(content = String, content_type = "application/json",
        description = "`{\"keep\":\"30d\"}`: w, d, h, m, s, at least 2d; `inf` for ever; null takes the rule of a measurement away"),
    responses((status = 200, description = "The rule and its cutoff as they are now"),
        (status = 400, description = "No retention"), (status = 404, description = "Unknown database"),
        (status = 507, description = "The disk is full")))]
pub(crate) async fn set(
    State(state): State<ServerState>,
    mut query: QueryPairs,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let database = query.last("db").unwrap_or_else(|| state.shared.options.default_database.clone());
    let (policy, measurement) = (query.last("rp"), query.last("measurement"));
    let (head, body) = request.into_parts();
    let received = body::receive(&state, &head, body).await?;
    let body = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let told: Value = serde_json::from_slice(&plain.bytes)
                .map_err(|error| ApiError::bad_request(format!("the body is no JSON object: {error}")))?;
            if told.get("keep").is_none() {
                return Err(ApiError::bad_request("the body tells no `keep`"));
            }
            let Told { keep } = serde_json::from_value(told)
                .map_err(|error| ApiError::bad_request(format!("the body tells no retention: {error}")))?;
            let rule = match keep {
                None if measurement.is_some() => Rule::Inherited,
                None => Rule::Forever,
                Some(text) => {
                    let keep: Keep =
                        shortened(&text).parse().map_err(|error: crate::keep::InvalidKeep| {
                            ApiError::bad_request(error.to_string())
                        })?;
                    keep.rule()
                }
            };
            let set = engine.set_retention(&database, policy.as_deref(), measurement.as_deref(), rule)?;
            tracing::info!(
                database,
                measurement = measurement.as_deref(),
                keep = Keep::of(rule).map(|keep| keep.to_string()),
                cutoff_ns = set.cutoff.map(|cutoff| cutoff.0),
                "a retention was set"
            );
            Ok(rule_json(&set))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

/// Says that the clock of the machine is right, so that retention follows it.
#[utoipa::path(post, path = "/api/v1/admin/confirm-clock", tag = "admin",
    responses((status = 200, description = "The clock as it is believed now"), (status = 507, description = "The disk is full")))]
pub(crate) async fn confirm_clock(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let body = state
        .write(|engine| {
            engine.confirm_clock()?;
            Ok(json!({ "clock": clock_json(engine) }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

pub(super) fn rule_json(rule: &RetentionInfo) -> Value {
    json!({
        "database": rule.database, "retention_policy": rule.policy, "measurement": rule.measurement,
        "keep": Keep::of(rule.rule).map(|keep| keep.to_string()),
        "cutoff": rule.cutoff.map(|cutoff| rfc3339(cutoff.0)),
    })
}

/// Null before there was a rule.
pub(super) fn clock_json(engine: &Engine) -> Value {
    let Some(clock) = engine.retention_clock() else { return Value::Null };
    let (condition, off_ns) = match clock.condition {
        ClockCondition::Followed => ("followed", 0),
        ClockCondition::Held { ahead_ns } => ("held", ahead_ns),
        ClockCondition::Behind { by_ns } => ("behind", by_ns),
    };
    json!({
        "believed": rfc3339(clock.believed.0), "wall": rfc3339(clock.wall.0), "proven": clock.proven,
        "condition": condition, "off_seconds": off_ns / 1_000_000_000,
    })
}
