//! Named configurations: the one in force, its revisions, how two of them differ.

use super::{listed, missing_text, one, receive};
use crate::error::ApiError;
use crate::handlers::health::json_response;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use wattlog_ledger::schema::Configuration;
use wattlog_ledger::{Cursor, Expected, Listing};
use wattlog_wire::shortened;

/// The configurations in force.
#[utoipa::path(get, path = "/api/v1/configs", tag = "configs",
    params(("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "`{\"records\":[...],\"next\"}`"), (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn configurations(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let active = wattlog_ledger::Value::Int(Some(1));
    let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() }.with("active", active);
    let listing = Listing { after: cursor(query)?, ..listing };
    listed(&state.ledger()?.list::<Configuration>(&listing).await?)
}

/// The revision in force, or another.
#[utoipa::path(get, path = "/api/v1/configs/{name}", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("revision" = Option<i64>, Query, description = "Not the one in force but this one")),
    responses((status = 200, description = "The revision; its number is the ETag"), (status = 404, description = "No such configuration")))]
pub(crate) async fn configuration(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [revision] = query.only(["revision"])?;
    let revision = revision.map(|text| revision_of(&text)).transpose()?;
    let found = state.ledger()?.configuration(&name, revision).await?;
    answer(&found.ok_or_else(|| missing_text("configuration", &name))?)
}

/// All revisions, the newest first.
#[utoipa::path(get, path = "/api/v1/configs/{name}/revisions", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "`{\"records\":[...],\"next\"}`"), (status = 404, description = "No such configuration")))]
pub(crate) async fn revisions(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let after = cursor(query)?;
    let page = state.ledger()?.configuration_revisions(&name, after).await?;
    if page.records.is_empty() && after.is_none() {
        return Err(missing_text("configuration", &name));
    }
    listed(&page)
}

fn cursor(query: QueryPairs) -> Result<Option<Cursor>, ApiError> {
    let [after] = query.only(["after"])?;
    let wrong = |_| ApiError::bad_request("after: the `next` of the page before is expected");
    after.map(|text| text.parse().map_err(wrong)).transpose()
}

/// How two revisions differ.
#[utoipa::path(get, path = "/api/v1/configs/{name}/diff", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("from" = i64, Query, description = "A revision"), ("to" = i64, Query, description = "Another")),
    responses((status = 200, description = "`{\"from\",\"to\",\"patch\"}`: the steps of RFC 6902 that make one of the other"),
        (status = 404, description = "No such revision")))]
pub(crate) async fn difference(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [from, to] = query.only(["from", "to"])?;
    let (Some(from), Some(to)) = (from, to) else {
        return Err(ApiError::bad_request("say which two revisions: from=1&to=2"));
    };
    let found =
        state.ledger()?.configuration_difference(&name, revision_of(&from)?, revision_of(&to)?).await?;
    Ok(json_response(StatusCode::OK, json!(found).to_string()))
}

/// A configuration as it is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    data: Value,
    label: Option<String>,
    #[serde(default)]
    note: String,
}

/// Saves a new revision and puts it in force; the same data makes none.
#[utoipa::path(put, path = "/api/v1/configs/{name}", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("If-Match" = Option<String>, Header, description = "The revision that must be in force (its ETag); without it whatever is")),
    request_body(content_type = "application/json", content = Object, description = "`{\"data\":...,\"label\",\"note\"}`"),
    responses((status = 200, description = "The revision in force"), (status = 400, description = "A field is wrong"),
        (status = 412, description = "Another revision is in force")))]
pub(crate) async fn save(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (Told { data, label, note }, actor, headers) = receive(&state, request).await?;
    let expected =
        if headers.contains_key(header::IF_MATCH) { super::expected(&headers)? } else { Expected::Any };
    let saved = state.ledger()?.save_configuration(&name, label, data, note, expected, &actor).await?;
    answer(&saved)
}

/// Which revision is to be in force.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    revision: i64,
}

/// Puts an earlier revision in force again.
#[utoipa::path(post, path = "/api/v1/configs/{name}/activate", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration")),
    request_body(content_type = "application/json", content = Object, description = "`{\"revision\":1}`"),
    responses((status = 200, description = "The revision in force"), (status = 404, description = "No such revision")))]
pub(crate) async fn activate(
    State(state): State<ServerState>,
    PathParts(name): PathParts<String>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (Wanted { revision }, actor, _) = receive(&state, request).await?;
    answer(&state.ledger()?.activate_configuration(&name, revision, &actor).await?)
}

/// The ETag is the number of the revision: its version also counts when it is taken out of force.
fn answer(stored: &wattlog_ledger::Stored<Configuration>) -> Result<Response<Body>, ApiError> {
    let mut response = one(StatusCode::OK, stored)?;
    if let Ok(tag) = format!("\"{}\"", stored.record.revision).try_into() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn revision_of(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("{:?} is no number of a revision", shortened(text))))
}
