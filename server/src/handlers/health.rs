//! Probes: is it there, is it open, is it well. The shapes are those that InfluxDB clients read.

use crate::service::no_content;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::time::Duration;

/// An answer of JSON text.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Says that a server is there; InfluxDB clients read its version from the headers.
#[utoipa::path(get, path = "/ping", tag = "health",
    params(("verbose" = Option<bool>, Query, description = "true: answer 200 with the version as JSON")),
    responses((status = 204, description = "Alive; `X-Influxdb-Version` holds the version")))]
pub(crate) async fn ping(State(state): State<ServerState>, mut query: QueryPairs) -> Response<Body> {
    if query.last("verbose").is_some_and(|word| word != "0" && word != "false") {
        return json_response(
            StatusCode::OK,
            json!({ "version": state.shared.options.reported_version }).to_string(),
        );
    }
    no_content()
}

/// Whether reads and writes work.
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, description = "`pass`: reads and writes work"),
    (status = 503, description = "`fail`: starting, or read-only; `message` says why")))]
pub(crate) async fn health(State(state): State<ServerState>) -> Response<Body> {
    let (pass, message) = state.condition();
    let status = if pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "name": "influxdb",
        "message": message,
        "status": if pass { "pass" } else { "fail" },
        "checks": checks(&state).await,
        "version": state.shared.options.reported_version,
        "commit": state.shared.build.commit,
    });
    json_response(status, body.to_string())
}

/// What a person should look at, though reads and writes work: damage that was set aside, alarms.
async fn checks(state: &ServerState) -> Vec<Value> {
    let Some(engine) = state.shared.store.opened() else { return Vec::new() };
    let ledger = match state.ledger() {
        Ok(ledger) => Some(ledger.health().await),
        Err(_) => None,
    };
    let ledger = ledger
        .and_then(|health| health.reason)
        .map(|reason| json!({ "name": "ledger", "status": "warn", "message": reason }));
    let health = engine.health();
    let damage = health.damage.iter().map(|damage| {
        json!({
            "name": "damage", "status": "warn", "message": damage.to_string(),
        })
    });
    let alarms =
        health.alarms.iter().map(|text| json!({ "name": "alarm", "status": "warn", "message": text }));
    damage.chain(alarms).chain(ledger).collect()
}

/// Whether the store is open: 503 until the log is replayed.
#[utoipa::path(get, path = "/ready", tag = "health", responses(
    (status = 200, description = "The store is open"), (status = 503, description = "The log is being replayed")))]
pub(crate) async fn ready(State(state): State<ServerState>) -> Response<Body> {
    let ready = state.shared.store.opened().is_some();
    let body = json!({
        "status": if ready { "ready" } else { "starting" },
        "started": rfc3339(state.shared.started.0),
        "up": up(state.uptime()),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json_response(status, body.to_string()).into_response();
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A duration as Go prints it: `1h2m3s`.
fn up(uptime: Duration) -> String {
    let seconds = uptime.as_secs();
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m{s}s"),
        _ => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn uptime_reads_like_the_real_thing() {
        let up = |seconds| super::up(std::time::Duration::from_secs(seconds));
        assert_eq!((up(5), up(65), up(3725)), ("5s".into(), "1m5s".into(), "1h2m5s".into()));
    }
}
