//! Records of the ledger over HTTP: list, make, read, replace, remove, history; the same for every kind.
//!
//! Promise: who replaces or removes a record names the version it saw (`If-Match`), so that no change of another is lost.
//! The routes themselves, with their descriptions, are in `routes`.

pub(crate) mod configurations;
pub(crate) mod routes;
pub(crate) mod sessions;

use super::energy::check_tariff;
use super::health::json_response;
use crate::body;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::records::{csv, named_columns};
use crate::wire::time::parse_query_time;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use wattlog_ledger::schema::Tariff;
use wattlog_ledger::{Actor, Change, Expected, Listing, Order, Page, Record, Stored};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// `GET` of many.
pub(super) async fn list<R: Record>(
    state: &ServerState,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let (listing, format) = listing::<R>(query, state.shared.clock.wall())?;
    let page = state.ledger()?.list::<R>(&listing).await?;
    let answer = match format {
        Format::Json => listed(&page)?,
        Format::Csv => {
            let text = csv(&named_columns::<R>(), &page.records).map_err(ApiError::internal)?;
            let mut response = Response::new(Body::from(text));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
            if let Some(next) = page.next.and_then(|next| HeaderValue::try_from(next.to_string()).ok()) {
                headers.insert("x-wattlog-next", next);
            }
            response
        }
    };
    Ok(answer)
}

/// `POST`: one record that is not there yet.
pub(super) async fn create<R: Record>(
    state: &ServerState,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (told, actor, _) = receive::<R>(state, request).await?;
    check(&told)?;
    let stored = state.ledger()?.insert(told, &actor).await?;
    one(StatusCode::CREATED, &stored)
}

/// What the ledger cannot tell of a record: whether a tariff can be reckoned with.
fn check<R: Record>(told: &R) -> Result<(), ApiError> {
    match (told as &dyn Any).downcast_ref::<Tariff>() {
        Some(tariff) => check_tariff(tariff),
        None => Ok(()),
    }
}

/// `GET` of one.
pub(super) async fn read<R: Record>(state: &ServerState, id: &str) -> Result<Response<Body>, ApiError> {
    let stored = state.ledger()?.get::<R>(number::<R>(id)?).await?;
    one(StatusCode::OK, &stored.ok_or_else(|| missing::<R>(id))?)
}

/// `PUT`: the whole record, in place of what is there.
pub(super) async fn replace<R: Record>(
    state: &ServerState,
    id: &str,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let id = number::<R>(id)?;
    let (told, actor, headers) = receive::<R>(state, request).await?;
    check(&told)?;
    let outcome = state.ledger()?.update(id, expected(&headers)?, told, &actor).await?;
    one(StatusCode::OK, &outcome.stored)
}

/// `DELETE`.
pub(super) async fn remove<R: Record>(
    state: &ServerState,
    id: &str,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (id, actor, expected) =
        (number::<R>(id)?, actor(Peer::of(request.extensions())), expected(request.headers())?);
    drop(request);
    let stored = state.ledger()?.remove::<R>(id, expected, &actor).await?;
    one(StatusCode::OK, &stored)
}

/// What became of a record.
pub(super) async fn history<R: Record>(
    state: &ServerState,
    id: &str,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [after] = query.only(["after"])?;
    let wrong = |_| ApiError::bad_request("after: the `next` of the page before is expected");
    let after = after.map_or(Ok(0), |text| text.parse().map_err(wrong))?;
    let (changes, next) = state.ledger()?.history::<R>(number::<R>(id)?, after).await?;
    if changes.is_empty() && after == 0 {
        return Err(missing::<R>(id));
    }
    Ok(json_response(StatusCode::OK, text(&Changes { changes: &changes, next })?))
}

/// A page of changes, without a copy of them.
#[derive(Serialize)]
struct Changes<'a> {
    changes: &'a [Change],
    next: Option<i64>,
}

/// A page of a listing, without a copy of it.
#[derive(Serialize)]
#[serde(bound = "")]
pub(super) struct Listed<'a, R: Record> {
    next: Option<String>,
    records: &'a [Stored<R>],
}

/// A page as JSON.
pub(super) fn listed<R: Record>(page: &Page<R>) -> Result<Response<Body>, ApiError> {
    let next = page.next.map(|next| next.to_string());
    Ok(json_response(StatusCode::OK, text(&Listed { records: &page.records, next })?))
}

enum Format {
    Json,
    Csv,
}

/// The parameters of a listing; what is none of them is a field that records are filtered by.
fn listing<R: Record>(query: QueryPairs, now: Timestamp) -> Result<(Listing, Format), ApiError> {
    let (mut listing, mut format) = (Listing { order: Order::NewestFirst, ..Listing::all() }, Format::Json);
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in query.0 {
        if seen.contains(&name) {
            return Err(ApiError::bad_request(format!(
                "parameter {:?} stands more than once",
                shortened(&name)
            )));
        }
        let wrong = |takes: &str| ApiError::bad_request(format!("{name}={}: {takes}", shortened(&value)));
        match name.as_str() {
            "start" => listing.time.start = parse_query_time(&value, now).map_err(ApiError::bad_request)?,
            "end" => listing.time.end = parse_query_time(&value, now).map_err(ApiError::bad_request)?,
            "after" => {
                let cursor = value.parse().map_err(|_| wrong("the `next` of the page before is expected"))?;
                listing.after = Some(cursor);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=Listing::MAX_LIMIT).contains(limit));
                listing.limit = limit.ok_or_else(|| wrong("1 to 10000 are expected"))?;
            }
            "order" => {
                listing.order = match value.as_str() {
                    "asc" => Order::OldestFirst,
                    "desc" => Order::NewestFirst,
                    _ => return Err(wrong("asc or desc is expected")),
                };
            }
            "format" => {
                format = match value.as_str() {
                    "json" => Format::Json,
                    "csv" => Format::Csv,
                    _ => return Err(wrong("json or csv is expected")),
                };
            }
            _ if !R::FILTERS.contains(&name.as_str()) => {
                return Err(ApiError::bad_request(format!(
                    "unknown parameter {:?}: this route takes start, end, order, limit, after, format and the fields {}",
                    shortened(&name),
                    R::FILTERS.join(", ")
                )));
            }
            _ => listing.filters.push(R::filter(&name, &value).map_err(|invalid| wrong(&invalid.reason))?),
        }
        seen.push(name);
    }
    Ok((listing, format))
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

/// The JSON of a body, who sent it, and the headers.
pub(super) async fn receive<T: DeserializeOwned + Send + 'static>(
    state: &ServerState,
    request: Request,
) -> Result<(T, Actor, HeaderMap), ApiError> {
    let (head, body) = request.into_parts();
    let actor = actor(Peer::of(&head.extensions));
    let received = body::receive(state, &head, body).await?;
    // As JSON in memory a body takes up to a hundred times its size, so few are read at a time, and none that is large.
    let _turn = state.record_turn().await?;
    let read = tokio::task::spawn_blocking(move || {
        let plain = received.unpack()?;
        if plain.bytes.len() > MAX_RECORD_BYTES {
            let message = format!("a record of {} bytes, at most {MAX_RECORD_BYTES}", plain.bytes.len());
            return Err(ApiError::too_large("record", message));
        }
        serde_json::from_slice(&plain.bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not what is expected: {error}")))
    });
    let told = read.await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok((told, actor, head.headers))
}

/// Largest record in a body: the longest text of a field, and what is around it.
const MAX_RECORD_BYTES: usize = wattlog_ledger::Value::MAX_TEXT_BYTES + (64 << 10);

/// One record, with its version as an entity tag.
pub(super) fn one<R: Record>(status: StatusCode, stored: &Stored<R>) -> Result<Response<Body>, ApiError> {
    let mut response = json_response(status, text(stored)?);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", stored.version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn text(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| ApiError::internal(error.to_string()))
}
