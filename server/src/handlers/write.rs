//! Line protocol in: the write routes of InfluxDB 1.x and 2.x.
//!
//! Good lines of a body are stored whatever the others are; the answer then names what was refused. Status codes are
//! chosen by what clients do with them (docs/api.md, "Writing"): overload is never a 4xx, since Telegraf drops on those.

use crate::body;
use crate::error::ApiError;
use crate::metrics::IngestSource;
use crate::service::no_content;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::line_protocol::{LineErrors, LineOptions, Precision, parse_into};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use wattlog_engine::{WriteBatch, WriteError, WriteReceipt};
use wattlog_wire::shortened;

/// What became of a body.
struct Outcome {
    errors: LineErrors,
    receipt: WriteReceipt,
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
        (status = 503, description = "Overloaded or read-only: try again"), (status = 507, description = "The disk is full: try again")))]
pub(crate) async fn write_influx1(
    State(state): State<ServerState>,
    mut parameters: QueryPairs,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let Some(database) = parameters.last("db") else {
        return Err(ApiError::bad_request("database is required"));
    };
    let word = parameters.last("precision").unwrap_or_default();
    let Some(precision) = Precision::influx1(&word) else {
        let word = shortened(&word);
        return Err(ApiError::bad_request(format!("invalid precision {word:?} (use n, u, ms, s, m or h)")));
    };
    let policy = parameters.last("rp");
    let target = Target { database, policy, precision };
    let outcome = store(&state, request, target, IngestSource::Influx1).await?.map_err(ApiError::from)?;
    let LineErrors { text, unparsed, refused, refused_points, .. } = &outcome.errors;
    let (conflict, rejected) = rejections(&outcome.receipt);
    let dropped = rejected + refused_points;
    let stored = outcome.receipt.points;
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
        (status = 503, description = "Overloaded or read-only: try again"), (status = 507, description = "The disk is full: try again")))]
pub(crate) async fn write_influx2(
    State(state): State<ServerState>,
    mut parameters: QueryPairs,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let bucket = parameters.last("bucket").unwrap_or_default();
    let (database, policy) = namespace_of(&bucket);
    let not_found = || ApiError::not_found(format!("bucket \"{}\" not found", shortened(&bucket)));
    if database.is_empty() {
        return Err(not_found());
    }
    let Some(precision) = Precision::influx2(&parameters.last("precision").unwrap_or_default()) else {
        return Err(ApiError::bad_request("invalid precision; valid precision units are ns, us, ms, and s"));
    };
    let target = Target { database, policy, precision };
    let outcome = match store(&state, request, target, IngestSource::Influx2).await? {
        Ok(outcome) => outcome,
        Err(WriteError::DatabaseNotFound(_) | WriteError::RetentionPolicyNotFound(_)) => {
            return Err(not_found());
        }
        Err(error) => return Err(error.into()),
    };
    let LineErrors { text, unparsed, refused, refused_points, .. } = &outcome.errors;
    let (conflict, rejected) = rejections(&outcome.receipt);
    let dropped = rejected + refused_points + unparsed;
    let stored = outcome.receipt.points;
    if dropped == 0 {
        return Ok(no_content());
    }
    if *unparsed == dropped && stored == 0 {
        return Err(ApiError::bad_request(format!("{text} dropped={dropped}")));
    }
    let reasons = join(&[Some(text.as_str()), refused.as_deref(), conflict.as_deref()]);
    if *unparsed > 0 {
        return Err(ApiError::bad_request(format!("partial write: {reasons} dropped={dropped}")));
    }
    let message = format!("failure writing points to database: partial write: {reasons} dropped={dropped}");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable entity", message))
}

/// Database and retention policy that a bucket's name means: `DB` or `DB/POLICY`.
pub(super) fn namespace_of(bucket: &str) -> (String, Option<String>) {
    match bucket.split_once('/') {
        Some((database, policy)) => {
            (database.to_owned(), Some(policy.to_owned()).filter(|name| !name.is_empty()))
        }
        None => (bucket.to_owned(), None),
    }
}

async fn store(
    state: &ServerState,
    request: Request,
    target: Target,
    source: IngestSource,
) -> Result<Result<Outcome, WriteError>, ApiError> {
    let (head, body) = request.into_parts();
    let received = body::receive(state, &head, body).await?;
    let limits = state.shared.options.limits;
    let options = LineOptions {
        precision: target.precision,
        receive_time: state.shared.clock.wall().truncated_to_millis(),
        max_line_bytes: limits.line.in_memory(),
        max_batch_bytes: limits.batch.in_memory(),
    };
    let outcome = state
        .write(move |engine| {
            let plain = received.unpack()?;
            let mut batch = WriteBatch::new(&target.database, target.policy.as_deref());
            let Ok(errors) = parse_into(&mut batch, &plain.bytes, &options) else {
                return Err(ApiError::batch_too_large(limits.batch));
            };
            let _held = plain.read_into(batch.bytes())?;
            // A body without points goes to the store as well: whether its database is there must be told.
            Ok(engine.write(batch).map(|receipt| Outcome { errors, receipt }))
        })
        .await?;
    if let Ok(Outcome { errors, receipt }) = &outcome {
        let metrics = &state.shared.metrics;
        metrics.rejected_by("unparsed", errors.unparsed);
        metrics.rejected_by("invalid_name", errors.refused_points);
        metrics.limit_reached_by("line", errors.too_long);
        state.count_ingested(source, receipt.points);
        receipt.rejected.iter().for_each(|rejection| metrics.rejected(rejection.reason.label()));
    }
    Ok(outcome)
}

/// The first refusal by the store, in line order, and how many there were.
fn rejections(receipt: &WriteReceipt) -> (Option<String>, u64) {
    let rejected = &receipt.rejected;
    let first = rejected.iter().min_by_key(|rejection| rejection.line);
    (first.map(|rejection| rejection.reason.to_string()), rejected.len() as u64)
}

fn join(reasons: &[Option<&str>]) -> String {
    let present: Vec<&str> = reasons.iter().copied().flatten().filter(|reason| !reason.is_empty()).collect();
    present.join("\n")
}
