//! `/metrics`: everything countable, as Prometheus text.

use crate::state::ServerState;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, header};

/// Counters and gauges, in Prometheus' text form, or OpenMetrics if the client accepts that.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Metrics", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(state): State<ServerState>, headers: HeaderMap) -> Response<Body> {
    let mut text = String::with_capacity(16 * 1024);
    state.shared.metrics.encode(&mut text);
    crate::exposition::encode(&state, &mut text).await;
    text.push_str("# EOF\n");
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (text, content_type) = if accept.contains("application/openmetrics-text") {
        (text, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (crate::exposition::classic(&text), "text/plain; version=0.0.4; charset=utf-8")
    };
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
