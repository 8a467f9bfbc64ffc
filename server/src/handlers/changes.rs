//! What changed: a long poll that goes on from a cursor.

use crate::answer::AnswerWatch;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::changes::{Asked, TAKES, parse};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use wattlog_engine::query::QueryControl;

/// Ranges and buckets that changed after a cursor; waits for the next change if there is none yet.
#[utoipa::path(get, path = "/api/v1/changes", tag = "read",
    params(
        ("db" = Option<String>, Query, description = "Database; default every one"),
        ("rp" = Option<String>, Query, description = "Retention policy; default every one"),
        ("measurement" = Option<String>, Query, description = "Measurement; default every one"),
        ("after" = Option<String>, Query, description = "`cursor` of the answer before, or `as_of` of a query; default now"),
        ("wait" = Option<String>, Query, description = "Longest wait for a change, as 30s (default); 0s to 60s"),
        ("limit" = Option<u32>, Query, description = "Most events, 1 to 5000; default 1000"),
        ("every" = Option<String>, Query, description = "Tell buckets of this length when they are finished and when they are revised, as 15m or 1d"),
        ("offset" = Option<String>, Query, description = "How much later buckets begin, as 6h or -15m"),
        ("tz" = Option<String>, Query, description = "IANA zone of buckets and of rfc3339 times; default for buckets the home zone, for times UTC"),
        ("grace" = Option<String>, Query, description = "How far behind the newest row another may be without being late; default 0s"),
        ("time_format" = Option<String>, Query, description = "ms (default), ns, rfc3339"),
        ("format" = Option<String>, Query, description = "json (default) or ndjson, whose last line is the cursor")),
    responses(
        (status = 200, description = "`{\"cursor\",\"events\":[{\"event\",\"start\",\"end\",..}]}`: event is appended, dirty, finished or revised"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 503, description = "Too many wait for changes, or the server is stopping")))]
pub(crate) async fn changes(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let values = query.only(TAKES)?;
    let asked = parse(values, &state.shared.bucket_zone).map_err(ApiError::bad_request)?;
    let Asked { request, start, wait, time_format, format } = asked;
    let told = state.follow(request, start, wait).await?;
    let mut watch = AnswerWatch::new(&state, peer, &QueryControl::default());
    let bytes = format.encode(&told, &time_format, &mut |bytes| watch.look(bytes))?;
    let mut response = Response::new(Body::from(watch.finish(bytes)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
