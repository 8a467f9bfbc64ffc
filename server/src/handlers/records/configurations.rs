//! Named configurations: the one in force, its revisions, who changed them, how two of them differ.

use super::listing::{self, Asked};
use super::{after_change, answered, changed, missing_text, one, receive};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use wattlog_ledger::schema::Configuration;
use wattlog_ledger::{Expected, Listing};
use wattlog_wire::shortened;

/// The configurations in force.
#[utoipa::path(get, path = "/api/v1/configs", tag = "configs",
    params(
        ("name" = Option<String>, Query, description = "Only this one"),
        ("revision" = Option<i64>, Query, description = "Only those of which this revision is in force"),
        ("start" = Option<String>, Query, description = "Stored from this instant"),
        ("end" = Option<String>, Query, description = "Stored before this instant"),
        ("order" = Option<String>, Query, description = "desc (default) or asc"),
        ("limit" = Option<u32>, Query, description = "Records of a page, 1 to 10000; default 1000"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("format" = Option<String>, Query, description = "json (default) or csv")),
    responses((status = 200, description = "`{\"records\":[...],\"next\"}`"),
        (status = 400, description = "A parameter that cannot be read"), (status = 503, description = "The ledger does not answer")))]
pub(crate) async fn configurations(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let Asked { listing, is_csv } =
        Asked::parse::<Configuration>(query, &["name", "revision"], state.shared.clock.wall())?;
    let listing = listing.with("active", wattlog_ledger::Value::Int(Some(1)));
    listing::answer(&state, peer, &state.ledger()?.list::<Configuration>(&listing).await?, is_csv)
}

/// The revision in force, or another.
#[utoipa::path(get, path = "/api/v1/configs/{name}", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("revision" = Option<i64>, Query, description = "Not the one in force but this one")),
    responses((status = 200, description = "The revision; its number is the ETag"), (status = 404, description = "No such configuration")))]
pub(crate) async fn configuration(
    State(state): State<ServerState>,
    peer: Peer,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [revision] = query.only(["revision"])?;
    let revision = revision.map(|text| revision_of(&text)).transpose()?;
    let found = state.ledger()?.configuration(&name, revision).await?;
    answer(&state, peer, &found.ok_or_else(|| missing_text("configuration", &name))?)
}

/// All revisions, the newest first.
#[utoipa::path(get, path = "/api/v1/configs/{name}/revisions", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("revision" = Option<i64>, Query, description = "Only this one"),
        ("active" = Option<bool>, Query, description = "Only the one in force, or the others"),
        ("start" = Option<String>, Query, description = "Stored from this instant"),
        ("end" = Option<String>, Query, description = "Stored before this instant"),
        ("order" = Option<String>, Query, description = "desc (default) or asc"),
        ("limit" = Option<u32>, Query, description = "Records of a page, 1 to 10000; default 1000"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("format" = Option<String>, Query, description = "json (default) or csv")),
    responses((status = 200, description = "`{\"records\":[...],\"next\"}`"),
        (status = 400, description = "A parameter that cannot be read"), (status = 404, description = "No such configuration")))]
pub(crate) async fn revisions(
    State(state): State<ServerState>,
    peer: Peer,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let Asked { listing, is_csv } =
        Asked::parse::<Configuration>(query, &["revision", "active"], state.shared.clock.wall())?;
    let ledger = state.ledger()?;
    let page = ledger.list::<Configuration>(&listing.with_text("name", &name)).await?;
    if page.records.is_empty() {
        let any = Listing { limit: 1, ..Listing::all() }.with_text("name", &name);
        if ledger.list::<Configuration>(&any).await?.records.is_empty() {
            return Err(missing_text("configuration", &name));
        }
    }
    listing::answer(&state, peer, &page, is_csv)
}

/// Who saved it, put which revision in force, when.
#[utoipa::path(get, path = "/api/v1/configs/{name}/history", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("after" = Option<i64>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "`{\"changes\":[{\"version\",\"action\",\"at\",\"by\",\"record\"}],\"next\"}` of all revisions, the oldest first"),
        (status = 404, description = "No such configuration")))]
pub(crate) async fn history(
    State(state): State<ServerState>,
    peer: Peer,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let after = after_change(query)?;
    let (changes, next) = state.ledger()?.configuration_history(&name, after).await?;
    if changes.is_empty() && after == 0 {
        return Err(missing_text("configuration", &name));
    }
    changed(&state, peer, &changes, next)
}

/// How two revisions differ.
#[utoipa::path(get, path = "/api/v1/configs/{name}/diff", tag = "configs",
    params(("name" = String, Path, description = "Name of the configuration"),
        ("from" = i64, Query, description = "A revision"), ("to" = i64, Query, description = "Another")),
    responses((status = 200, description = "`{\"from\",\"to\",\"patch\"}`: the steps of RFC 6902 that make one of the other"),
        (status = 404, description = "No such revision")))]
pub(crate) async fn difference(
    State(state): State<ServerState>,
    peer: Peer,
    PathParts(name): PathParts<String>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [from, to] = query.only(["from", "to"])?;
    let (Some(from), Some(to)) = (from, to) else {
        return Err(ApiError::bad_request("say which two revisions: from=1&to=2"));
    };
    let found =
        state.ledger()?.configuration_difference(&name, revision_of(&from)?, revision_of(&to)?).await?;
    answered(&state, peer, StatusCode::OK, &found)
}

/// A configuration as it is told, with or without what an answer has beside it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    data: Value,
    label: Option<String>,
    note: Option<String>,
    name: Option<String>,
    revision: Option<i64>,
    // What is saved is in force, and the rest is the ledger's to give.
    #[serde(default, rename = "active")]
    _active: IgnoredAny,
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "created")]
    _created: IgnoredAny,
    #[serde(default, rename = "updated")]
    _updated: IgnoredAny,
}

/// Saves a new revision and puts it in force; the same data and label make none.
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
    let peer = Peer::of(request.extensions());
    let (told, actor, headers) = receive::<Told>(&state, request).await?;
    let expected =
        if headers.contains_key(header::IF_MATCH) { super::expected(&headers)? } else { Expected::Any };
    let Told { data, label, note, .. } = told;
    if let Some(told) = told.name.filter(|told| *told != name) {
        let message =
            format!("name: the body is {:?}, the path says {:?}", shortened(&told), shortened(&name));
        return Err(ApiError::bad_request(message).with("field", "name"));
    }
    if let (Some(told), Expected::Version(seen)) = (told.revision, expected)
        && told != seen
    {
        let message = format!("revision: the body has {told}, If-Match says {seen}");
        return Err(ApiError::bad_request(message).with("field", "revision"));
    }
    let saved = state.ledger()?.save_configuration(&name, label, data, note, expected, &actor).await?;
    answer(&state, peer, &saved)
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
    let peer = Peer::of(request.extensions());
    let (Wanted { revision }, actor, _) = receive(&state, request).await?;
    answer(&state, peer, &state.ledger()?.activate_configuration(&name, revision, &actor).await?)
}

/// The ETag is the number of the revision: its version also counts when it is taken out of force.
fn answer(
    state: &ServerState,
    peer: Peer,
    stored: &wattlog_ledger::Stored<Configuration>,
) -> Result<Response<Body>, ApiError> {
    let mut response = one(state, peer, StatusCode::OK, stored)?;
    if let Ok(tag) = format!("\"{}\"", stored.record.revision).try_into() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn revision_of(text: &str) -> Result<i64, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("{:?} is no number of a revision", shortened(text))))
}
