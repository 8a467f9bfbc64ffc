//! Work that an owner starts by hand; both routes answer when it is done.

use super::health::json_response;
use super::status::task_json;
use crate::error::ApiError;
use crate::state::ServerState;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::json;

/// Writes everything committed so far into segments.
#[utoipa::path(post, path = "/api/v1/admin/seal", tag = "admin",
    responses((status = 200, description = "Sealed; tells files, rows, values and bytes"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn seal(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    run(state, "seal").await
}

/// Tidies the segments. In this version it seals and no more: there is nothing to merge yet.
#[utoipa::path(post, path = "/api/v1/admin/compact", tag = "admin",
    responses((status = 200, description = "Done; tells files, rows, values and bytes"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn compact(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    run(state, "compact").await
}

async fn run(state: ServerState, kind: &'static str) -> Result<Response<Body>, ApiError> {
    let task = state.tasks().begin(kind, "waiting for its turn");
    let id = task.id();
    let report = state
        .long_work(move |engine| {
            task.progress(0, Some(engine.storage().memtable_values), "sealing");
            match engine.seal() {
                Ok(report) => {
                    task.progress(report.values, Some(report.values), "sealed");
                    task.finish(&format!("{} values in {} segments", report.values, report.segments));
                    Ok(report)
                }
                Err(error) => {
                    task.fail(&error.to_string());
                    Err(error.into())
                }
            }
        })
        .await?;
    let task = state.tasks().find(id).map(|task| task_json(&task));
    let sealed = json!({
        "segments": report.segments, "rows": report.rows, "values": report.values, "bytes": report.bytes,
    });
    Ok(json_response(StatusCode::OK, json!({ "sealed": sealed, "task": task }).to_string()))
}
