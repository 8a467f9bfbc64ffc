//! Records of the ledger over HTTP: list, make, read, replace, remove, history; the same for every kind.
//!
//! Promise: who replaces or removes a record names the version it saw (`If-Match`), so that no change of another is lost.
//! What an answer gives can be told again. Records that the appliance keeps (`origin` `detected`, `computed`) are its alone.
//! The routes themselves, with their descriptions, are in `routes`.

pub(crate) mod configurations;
pub(super) mod listing;
mod plan;
pub(crate) mod routes;
pub(crate) mod sessions;
mod told;

use super::energy::check_tariff;
use super::health::json_response;
use crate::answer::AnswerWriter;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::any::Any;
use told::{receive, receive_record};
use wattlog_ledger::schema::{Report, ReportOrigin, Session, SessionOrigin, Tariff};
use wattlog_ledger::{Actor, Change, Expected, Record, Stored};
use wattlog_wire::shortened;

/// `GET` of many.
pub(super) async fn list<R: Record>(
    state: &ServerState,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let asked = listing::Asked::parse::<R>(query, R::FILTERS, state.shared.clock.wall())?;
    let page = state.ledger()?.list::<R>(&asked.listing).await?;
    listing::answer(state, peer, &page, asked.is_csv)
}

/// `POST`: one record that is not there yet; number, version and author of another are not taken over.
pub(super) async fn create<R: Record>(
    state: &ServerState,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let peer = Peer::of(request.extensions());
    let (told, actor, _) = receive_record::<R>(state, request).await?;
    check(&told.record)?;
    let stored = state.ledger()?.insert(told.record, &actor).await?;
    one(state, peer, StatusCode::CREATED, &stored)
}

/// What the ledger cannot tell of a record: whether a tariff can be reckoned with, and that a client does not speak for the appliance.
fn check<R: Record>(told: &R) -> Result<(), ApiError> {
    if let Some(origin) = kept_origin(told) {
        let message = format!("origin: {origin} is for what the appliance finds itself");
        return Err(ApiError::bad_request(message).with("field", "origin"));
    }
    match (told as &dyn Any).downcast_ref::<Tariff>() {
        Some(tariff) => check_tariff(tariff),
        None => Ok(()),
    }
}

/// The origin of a record that the appliance makes, changes and removes by itself.
fn kept_origin<R: Record>(record: &R) -> Option<&'static str> {
    let record = record as &dyn Any;
    let session = record.downcast_ref::<Session>().map(|session| session.origin);
    let report = record.downcast_ref::<Report>().map(|report| report.origin);
    let session = session.filter(|origin| *origin == SessionOrigin::Detected).map(SessionOrigin::as_str);
    let report = report.filter(|origin| *origin == ReportOrigin::Computed).map(ReportOrigin::as_str);
    session.or(report)
}

/// # Errors
/// 409: a record that the appliance keeps.
fn refuse_kept<R: Record>(old: &Stored<R>) -> Result<(), ApiError> {
    let Some(origin) = kept_origin(&old.record) else { return Ok(()) };
    let message = format!(
        "{} {} is kept by the appliance (origin {origin}), which would undo a change: make one of your own, or an annotation",
        R::TABLE,
        old.id
    );
    Err(ApiError::new(StatusCode::CONFLICT, "kept", message))
}

/// `GET` of one.
pub(super) async fn read<R: Record>(
    state: &ServerState,
    peer: Peer,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let stored = state.ledger()?.get::<R>(number::<R>(id)?).await?;
    one(state, peer, StatusCode::OK, &stored.ok_or_else(|| missing::<R>(id))?)
}

/// `PUT`: the whole record, in place of what is there.
pub(super) async fn replace<R: Record>(
    state: &ServerState,
    id: &str,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let peer = Peer::of(request.extensions());
    let id = number::<R>(id)?;
    let (told, actor, headers) = receive_record::<R>(state, request).await?;
    let expected = expected(&headers)?;
    let told = told.of(id, expected)?;
    let ledger = state.ledger()?;
    // No record becomes one of the appliance's between the look and the change: it makes its own anew.
    if let Some(old) = ledger.get::<R>(id).await? {
        refuse_kept(&old)?;
    }
    check(&told)?;
    let outcome = ledger.update(id, expected, told, &actor).await?;
    one(state, peer, StatusCode::OK, &outcome.stored)
}

/// `DELETE`.
pub(super) async fn remove<R: Record>(
    state: &ServerState,
    id: &str,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let peer = Peer::of(request.extensions());
    let (id, actor, expected) = (number::<R>(id)?, actor(peer), expected(request.headers())?);
    drop(request);
    let ledger = state.ledger()?;
    if let Some(old) = ledger.get::<R>(id).await? {
        refuse_kept(&old)?;
    }
    let stored = ledger.remove::<R>(id, expected, &actor).await?;
    one(state, peer, StatusCode::OK, &stored)
}

/// What became of a record.
pub(super) async fn history<R: Record>(
    state: &ServerState,
    peer: Peer,
    id: &str,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let after = after_change(query)?;
    let (changes, next) = state.ledger()?.history::<R>(number::<R>(id)?, after).await?;
    if changes.is_empty() && after == 0 {
        return Err(missing::<R>(id));
    }
    changed(state, peer, &changes, next)
}

/// The only parameter of a history.
fn after_change(query: QueryPairs) -> Result<i64, ApiError> {
    let [after] = query.only(["after"])?;
    let wrong = |_| ApiError::bad_request("after: the `next` of the page before is expected");
    after.map_or(Ok(0), |text| text.parse().map_err(wrong))
}

/// A page of changes.
fn changed(
    state: &ServerState,
    peer: Peer,
    changes: &[Change],
    next: Option<i64>,
) -> Result<Response<Body>, ApiError> {
    answered(state, peer, StatusCode::OK, &Changes { changes, next })
}

/// A page of changes, without a copy of them.
#[derive(Serialize)]
struct Changes<'a> {
    changes: &'a [Change],
    next: Option<i64>,
}

/// The number in a path. What is none is no record either.
fn number<R: Record>(id: &str) -> Result<i64, ApiError> {
    id.parse().map_err(|_| missing::<R>(id))
}

fn missing<R: Record>(id: &str) -> ApiError {
    missing_text(R::TABLE, id)
}

pub(super) fn missing_text(kind: &str, id: &str) -> ApiError {
    ApiError::not_found(format!("there is no {kind} {}", shortened(id)))
}

/// Who calls; a name once there are users.
pub(super) fn actor(peer: Peer) -> Actor {
    Actor::new(&format!("http:{}", peer.0))
}

/// The version of `If-Match`.
fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
    let Some(told) = headers.get(header::IF_MATCH) else {
        let message = "say which version you saw: If-Match with the ETag of the record, or * for any";
        return Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, "precondition required", message));
    };
    let text = told.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Expected::Any);
    }
    let version =
        text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|text| text.parse().ok());
    version.map(Expected::Version).ok_or_else(|| {
        ApiError::bad_request(format!(
            "If-Match {:?}: the ETag of the record is expected, as in \"3\"",
            shortened(text)
        ))
    })
}

/// One record, with its version as an entity tag.
pub(super) fn one<R: Record>(
    state: &ServerState,
    peer: Peer,
    status: StatusCode,
    stored: &Stored<R>,
) -> Result<Response<Body>, ApiError> {
    let mut response = answered(state, peer, status, stored)?;
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", stored.version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn answered(
    state: &ServerState,
    peer: Peer,
    status: StatusCode,
    value: &impl Serialize,
) -> Result<Response<Body>, ApiError> {
    let mut out = AnswerWriter::new(state, peer);
    out.json(value)?;
    Ok(json_response(status, out.finish()?))
}
