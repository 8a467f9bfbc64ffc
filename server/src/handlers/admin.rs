//! Work that an owner starts by hand; both routes answer when it is done.

use super::health::json_response;
use super::status::task_json;
use crate::error::ApiError;
use crate::state::ServerState;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

/// Writes everything committed so far into segments.
#[utoipa::path(post, path = "/api/v1/admin/seal", tag = "admin",
    responses((status = 200, description = "Sealed; tells files, rows, values and bytes"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn seal(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let task = state.tasks().begin("seal", "waiting for its turn");
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
    let sealed = json!({
        "segments": report.segments, "rows": report.rows, "values": report.values, "bytes": report.bytes,
    });
    Ok(done(&state, id, "sealed", sealed))
}

/// Merges segments and takes out what deletes hide, until nothing is left to do.
#[utoipa::path(post, path = "/api/v1/admin/compact", tag = "admin",
    responses((status = 200, description = "Done; tells files and bytes before and after"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn compact(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let task = state.tasks().begin("compact", "waiting for its turn");
    let id = task.id();
    let report = state
        .long_work(move |engine| {
            task.progress(0, None, "sealing and merging");
            match engine.compact() {
                Ok(report) => {
                    let (before, after) = (report.segments_before, report.segments_after);
                    task.progress(report.bytes_before, Some(report.bytes_before), "merged");
                    task.finish(&format!("{before} segments became {after}"));
                    Ok(report)
                }
                Err(error) => {
                    task.fail(&error.to_string());
                    Err(error.into())
                }
            }
        })
        .await?;
    let compacted = json!({
        "steps": report.steps,
        "segments_before": report.segments_before, "segments_after": report.segments_after,
        "bytes_before": report.bytes_before, "bytes_after": report.bytes_after,
    });
    Ok(done(&state, id, "compacted", compacted))
}

/// Reads and verifies every sealed file.
#[utoipa::path(post, path = "/api/v1/admin/scrub", tag = "admin",
    responses((status = 200, description = "Done; tells files, bytes and how many files are damaged"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn scrub(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let task = state.tasks().begin("scrub", "waiting for its turn");
    let id = task.id();
    let report = state
        .long_work(move |engine| {
            task.progress(0, Some(engine.scrub_status().total_bytes), "reading");
            match engine.scrub() {
                Ok(report) => {
                    task.progress(report.bytes, Some(report.bytes), "read");
                    task.finish(&format!("{} of {} files are damaged", report.damaged, report.files));
                    Ok(report)
                }
                Err(error) => {
                    task.fail(&error.to_string());
                    Err(error.into())
                }
            }
        })
        .await?;
    let scrubbed = json!({ "files": report.files, "bytes": report.bytes, "damaged": report.damaged });
    Ok(done(&state, id, "scrubbed", scrubbed))
}

fn done(state: &ServerState, task: u64, what: &str, report: Value) -> Response<Body> {
    let task = state.tasks().find(task).map(|task| task_json(&task));
    json_response(StatusCode::OK, json!({ what: report, "task": task }).to_string())
}
