//! Line protocol in: the write routes of InfluxDB 1.x and 2.x.
//!
//! Good lines of a body are stored whatever the others are; the answer then names what was refused. Status codes are
//! chosen by what clients do with them (docs/api.md, "Writing"): overload is never a 4xx, since Telegraf drops on those.

use crate::body;
use crate::error::{ApiError, shortened};
use crate::metrics::IngestSource;
use crate::service::no_content;
use crate::state::ServerState;
use crate::wire::line_protocol::{LineErrors, LineOptions, Precision, parse_into};
use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{Response, StatusCode};
use std::collections::HashMap;
use wattlog_engine::{WriteBatch, WriteError, WriteReceipt};

/// What became of a body.
struct Outcome {
    errors: LineErrors,
    receipt: Option<WriteReceipt>,
}

struct Target {
    database: String,
    policy: Option<String>,
    precision: Precision,
}

/// Stores points given as line protocol (InfluxDB 1.x).
#[utoipa::path(post, path = "/write", tag = "write",
    params(
        ("db" = String, Query, description = "Database; created if unknown, unless that is switched off"),
        ("rp" = Option<String>, Query, description = "Retention policy"),
        ("precision" = Option<String>, Query, description = "Unit of times: n (default), u, ms, s, m, h")),
    request_body(content = String, content_type = "text/plain", description = "Line protocol, plain or gzip"),
    responses(
        (status = 204, description = "All stored and durable"),
        (status = 400, description = "Some or all lines refused; good lines are stored"),
        (status = 404, description = "Unknown database"), (status = 413, description = "Body too large"),
        (status = 503, description = "Overloaded, full or read-only: try again")))]
pub(crate) async fn write_influx1(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let mut parameters = parameters(query.as_deref());
    let database = parameters.remove("db").unwrap_or_default();
    if database.is_empty() {
        return Err(ApiError::bad_request("database is required"));
    }
    let word = parameters.remove("precision").unwrap_or_default();
    let Some(precision) = Precision::influx1(&word) else {
        let word = shortened(&word);
        return Err(ApiError::bad_request(format!("invalid precision {word:?} (use n, u, ms, s, m or h)")));
    };
    let policy = parameters.remove("rp").filter(|name| !name.is_empty());
    let target = Target { database, policy, precision };
    let outcome = store(&state, request, target, IngestSource::Influx1).await?.map_err(ApiError::from)?;
    let LineErrors { text, unparsed, refused, refused_points } = &outcome.errors;
    let (conflict, rejected) = rejections(outcome.receipt.as_ref());
    let dropped = rejected + refused_points;
    let stored = outcome.receipt.as_ref().map_or(0, |receipt| receipt.points);
    if *unparsed == 0 && dropped == 0 {
        return Ok(no_content());
    }
    if stored == 0 && dropped == 0 {
        return Err(ApiError::bad_request(text));
    }
    let reasons = join(&[Some(text.as_str()), refused.as_deref(), conflict.as_deref()]);
    Err(ApiError::bad_request(format!("partial write: {reasons} dropped={dropped}")))
}

/// Stores points given as line protocol (InfluxDB 2.x).
#[utoipa::path(post, path = "/api/v2/write", tag = "write",
    params(
        ("bucket" = String, Query, description = "Database, or database/retention-policy"),
        ("org" = Option<String>, Query, description = "Taken and not used"),
        ("precision" = Option<String>, Query, description = "Unit of times: ns (default), us, ms, s")),
    request_body(content = String, content_type = "text/plain", description = "Line protocol, plain or gzip"),
    responses(
        (status = 204, description = "All stored and durable"),
        (status = 400, description = "Lines that could not be parsed; good lines are stored"),
        (status = 404, description = "Unknown bucket"), (status = 413, description = "Body too large"),
        (status = 422, description = "Points refused, for one because of a field's type; the others are stored"),
        (status = 503, description = "Overloaded, full or read-only: try again")))]
pub(crate) async fn write_influx2(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let mut parameters = parameters(query.as_deref());
    let bucket = parameters.remove("bucket").unwrap_or_default();
    let (database, policy) = match bucket.split_once('/') {
        Some((database, policy)) => (database.to_owned(), Some(policy.to_owned())),
        None => (bucket.clone(), None),
    };
    if database.is_empty() {
        return Err(ApiError::bad_request("bucket is required"));
    }
    let Some(precision) = Precision::influx2(parameters.get("precision").map_or("", String::as_str)) else {
        return Err(ApiError::bad_request("invalid precision; valid precision units are ns, us, ms, and s"));
    };
    let target = Target { database, policy: policy.filter(|name| !name.is_empty()), precision };
    let outcome = match store(&state, request, target, IngestSource::Influx2).await? {
        Ok(outcome) => outcome,
        Err(WriteError::DatabaseNotFound(_) | WriteError::RetentionPolicyNotFound(_)) => {
            return Err(ApiError::not_found(format!("bucket \"{bucket}\" not found")));
        }
        Err(error) => return Err(error.into()),
    };
    let LineErrors { text, unparsed, refused, refused_points } = &outcome.errors;
    let (conflict, rejected) = rejections(outcome.receipt.as_ref());
    let dropped = rejected + refused_points + unparsed;
    let stored = outcome.receipt.as_ref().map_or(0, |receipt| receipt.points);
    if dropped == 0 {
        return Ok(no_content());
    }
    if *unparsed == dropped && stored == 0 {
        return Err(ApiError::bad_request(text));
    }
    let reasons = join(&[Some(text.as_str()), refused.as_deref(), conflict.as_deref()]);
    if *unparsed > 0 {
        return Err(ApiError::bad_request(format!("partial write: {reasons} dropped={dropped}")));
    }
    let message = format!("failure writing points to database: partial write: {reasons} dropped={dropped}");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable entity", message))
}

/// Parameters of a URL; of one that stands twice the last counts. Unknown ones are ignored, as the real servers do.
fn parameters(query: Option<&str>) -> HashMap<String, String> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

async fn store(
    state: &ServerState,
    request: Request,
    target: Target,
    source: IngestSource,
) -> Result<Result<Outcome, WriteError>, ApiError> {
    let (head, body) = request.into_parts();
    let received = body::receive(state, &head.headers, body).await?;
    let options = LineOptions {
        precision: target.precision,
        receive_time: state.shared.clock.wall().truncated_to_millis(),
        max_line_bytes: state.shared.options.limits.line.len(),
    };
    let outcome = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let mut batch = WriteBatch::new(&target.database, target.policy.as_deref());
            let errors = parse_into(&mut batch, &plain.bytes, &options);
            drop(plain);
            if batch.bytes() == 0 {
                return Ok(Ok(Outcome { errors, receipt: None }));
            }
            Ok(engine.write(batch).map(|receipt| Outcome { errors, receipt: Some(receipt) }))
        })
        .await?;
    if let Ok(outcome) = &outcome {
        let metrics = &state.shared.metrics;
        metrics.rejected_by("unparsed", outcome.errors.unparsed);
        metrics.rejected_by("invalid_name", outcome.errors.refused_points);
        if let Some(receipt) = &outcome.receipt {
            metrics.ingested(source, receipt.points);
            receipt.rejected.iter().for_each(|rejection| metrics.rejected(rejection.reason.label()));
        }
    }
    Ok(outcome)
}

/// The first refusal by the store, in line order, and how many there were.
fn rejections(receipt: Option<&WriteReceipt>) -> (Option<String>, u64) {
    let rejected = receipt.map_or(&[][..], |receipt| &receipt.rejected);
    let first = rejected.iter().min_by_key(|rejection| rejection.line);
    (first.map(|rejection| rejection.reason.to_string()), rejected.len() as u64)
}

fn join(reasons: &[Option<&str>]) -> String {
    let present: Vec<&str> = reasons.iter().copied().flatten().filter(|reason| !reason.is_empty()).collect();
    present.join("\n")
}
