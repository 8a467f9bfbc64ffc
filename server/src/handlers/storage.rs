//! What the store holds and takes, and what is wrong with it.

use super::feeds::instant;
use super::health::json_response;
use super::retention::{clock_json, rule_json};
use crate::error::ApiError;
use crate::held::Held;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wattlog_engine::{Engine, LastWork, MetricsSnapshot, StorageInfo};
use wattlog_ledger::Health as LedgerHealth;

/// Sizes: points, bytes by kind, and how much smaller than JSON that is.
#[utoipa::path(get, path = "/api/v1/storage", tag = "status",
    responses((status = 200, description = "Counts and bytes by kind; `json_ratio` compares with the same points as JSON")))]
pub(crate) async fn storage(State(state): State<ServerState>) -> Result<Response<Body>, ApiError> {
    let body = state
        .read(|engine, _| {
            let info = engine.storage();
            let json_bytes = json_bytes(engine, &info);
            let disk = disk_bytes(&info);
            let ratio = |part: u64, whole: u64| if whole == 0 { Value::Null } else { json!(part as f64 / whole as f64) };
            let sealed_values = info.values - info.memtable_values.min(info.values);
            let sealed_bytes = info.data_bytes + info.time_bytes + info.meta_bytes;
            Ok(json!({
                "series": info.series, "points": info.points, "values": info.values, "segments": info.segments,
                "open_segments": info.open_segments, "tombstones": info.tombstones,
                "bytes": {
                    "data": info.data_bytes, "timestamps": info.time_bytes, "meta": info.meta_bytes,
                    "wal": info.wal_bytes, "catalog": info.catalog_bytes, "manifest": info.manifest_bytes, "total": disk,
                },
                "memtable": { "bytes": info.memtable_bytes, "values": info.memtable_values },
                "sealed_bytes_per_value": ratio(sealed_bytes, sealed_values),
                "json_bytes_estimate": json_bytes,
                "json_ratio": ratio(json_bytes, disk),
            }))
        })
        .await?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

pub(crate) fn disk_bytes(info: &StorageInfo) -> u64 {
    info.data_bytes
        + info.time_bytes
        + info.meta_bytes
        + info.wal_bytes
        + info.catalog_bytes
        + info.manifest_bytes
}

/// Bytes that the same points would take as a list of flat JSON objects: `{"time":"2026-03-01T10:00:00Z",` (31 bytes)
/// and the closing brace and comma, each tag and field as `"name":value,` with names of the store's average length,
/// tag values of 10 and numbers of 6 characters.
fn json_bytes(engine: &Engine, info: &StorageInfo) -> u64 {
    const TIME_AND_BRACES: f64 = 33.0;
    const TAG_VALUE: f64 = 10.0 + 2.0;
    const NUMBER: f64 = 6.0;
    const PUNCTUATION: f64 = 4.0;
    let (mut names, mut name_bytes, mut measurements, mut tag_bytes) = (0.0, 0.0, 0.0, 0.0);
    for database in engine.databases() {
        for measurement in engine.measurements(&database.name).unwrap_or_default() {
            let Ok(Some(info)) = engine.measurement(&database.name, &measurement) else { continue };
            measurements += 1.0;
            names += info.fields.len() as f64;
            name_bytes += info.fields.iter().map(|field| field.name.len() as f64).sum::<f64>();
            tag_bytes +=
                info.tag_keys.iter().map(|key| key.len() as f64 + TAG_VALUE + PUNCTUATION).sum::<f64>();
        }
    }
    if names == 0.0 {
        return 0;
    }
    let point = TIME_AND_BRACES + tag_bytes / measurements;
    let value = name_bytes / names + PUNCTUATION + NUMBER;
    (info.points as f64 * point + info.values as f64 * value) as u64
}

/// Of this run of the process: what was written for each byte that came in.
pub(super) fn write_amplification(metrics: &MetricsSnapshot) -> f64 {
    let written = metrics.wal_bytes_written
        + metrics.segment_bytes_written
        + metrics.catalog_bytes_written
        + metrics.compaction_bytes_written;
    if metrics.values == 0 { 0.0 } else { written as f64 / (metrics.values as f64 * 16.0) }
}

/// How much a problem matters; the greatest is the status of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Nothing is wrong.
    Ok,
    /// Nothing is refused or missing yet.
    Warning,
    /// Something is refused, or missing in answers.
    Critical,
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Problem {
    level: Level,
    area: &'static str,
    message: String,
    action: &'static str,
}

/// Room, files, work of the store, damage, retention and the ledger, and what to do about it.
#[utoipa::path(get, path = "/api/v1/storage/health", tag = "status",
    responses((status = 200, description = "`status` is ok, warning or critical; `problems` say what is wrong and what to do"),
        (status = 503, description = "The store is being opened or closed")))]
pub(crate) async fn health(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [] = query.only([])?;
    let ledger = match state.ledger() {
        Ok(ledger) => Some(ledger.health().await),
        Err(_) => None,
    };
    // Also notes what was refused since the last look.
    let (is_writable, condition) = state.condition();
    // The way of probes: a store that is busy can still be seen to be.
    let told = state
        .figures(move |engine| {
            let mut problems = Vec::new();
            if !is_writable {
                problems.push(Problem {
                    level: Level::Critical,
                    area: "writes",
                    message: condition,
                    action: "free space on the disk; if it says read-only, look at the disk and start again (docs/operations.md)",
                });
            }
            problems.extend(problems_of(engine));
            problems.extend(ledger.as_ref().and_then(ledger_problem));
            let mut body = figures(engine);
            body["status"] = json!(problems.iter().map(|problem| problem.level).max().unwrap_or(Level::Ok));
            body["ledger"] = ledger.as_ref().map_or(Value::Null, ledger_json);
            body["problems"] = json!(problems);
            body
        })
        .await;
    let body = told.ok_or_else(|| {
        ApiError::unavailable("the store is being opened or closed, try again", Duration::from_secs(1))
    })?;
    Ok(json_response(StatusCode::OK, body.to_string()))
}

fn problems_of(engine: &Engine) -> Vec<Problem> {
    let health = engine.health();
    let damage = health.damage.iter().map(|damage| Problem {
        level: Level::Critical,
        area: "damage",
        message: damage.to_string(),
        action: "answers that need it are partial: stop, restore the file from a backup, or run `wattlog check DIR --repair`",
    });
    let alarms = health.alarms.iter().map(|alarm| Problem {
        level: Level::Warning,
        area: "store",
        message: alarm.clone(),
        action: action_of(alarm),
    });
    let work = engine.background();
    let failed = |area, last: Option<&LastWork>, action| {
        let (last, error) = last.and_then(|last| Some((last, last.error.as_ref()?)))?;
        let message = format!("failed at {}: {error}", rfc3339(last.ended.0));
        Some(Problem { level: Level::Warning, area, message, action })
    };
    let seal = failed(
        "seal",
        work.seal.as_ref(),
        "points stay in memory and in the log, it is tried again: make room on the disk and look at the log",
    );
    let merge = failed(
        "merge",
        work.merge.as_ref(),
        "it is tried again: make room on the disk, or restore the damaged file that the log names",
    );
    damage.chain(alarms).chain(seal).chain(merge).collect()
}

/// Alarms are told in the words of docs/operations.md.
fn action_of(alarm: &str) -> &'static str {
    let known = [
        ("the disk is filling up", "free space, set a retention (POST /api/v1/retention), or delete points"),
        ("the wall clock is ahead", "look at the clock; if it is right: POST /api/v1/admin/confirm-clock"),
        ("the wall clock is behind", "set the clock right: cutoffs wait for it"),
    ];
    let action = known.iter().find(|(words, _)| alarm.starts_with(words)).map(|(_, action)| *action);
    action.unwrap_or("docs/operations.md says what to do under these words")
}

fn ledger_problem(health: &LedgerHealth) -> Option<Problem> {
    let message = health.reason.clone()?;
    let (level, action) = if health.damaged.is_some() {
        (
            Level::Critical,
            "docs/ledger.md says what to do with a damaged ledger; points are stored all the same",
        )
    } else if health.available {
        (Level::Warning, "docs/ledger.md says what to do with a ledger that was set aside or changed by hand")
    } else {
        (
            Level::Critical,
            "points are stored all the same, records are refused: look at its database and the log",
        )
    };
    Some(Problem { level, area: "ledger", message, action })
}

fn ledger_json(health: &LedgerHealth) -> Value {
    let opened = health.opened.as_ref();
    let aside = opened.and_then(|opened| opened.set_aside.as_ref());
    json!({
        "backend": health.backend, "available": health.available, "last_error": health.reason,
        "damaged": health.damaged,
        "opened": opened.is_some(), "schema_version": opened.map(|opened| opened.schema_version),
        "set_aside": aside.map(|(file, reason)| json!({ "file": file.display().to_string(), "reason": reason })),
    })
}

/// For how long measurements are asked for their times: other probes wait for it.
const TIMES_TIME: Duration = Duration::from_secs(1);

fn figures(engine: &Engine) -> Value {
    let info = engine.storage();
    let (space, metrics, scrub) = (engine.space(), engine.metrics(), engine.scrub_status());
    let work = engine.background();
    let held = Held::until(engine, Instant::now() + TIMES_TIME);
    let rules = engine.retentions();
    let told_rules: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let mut told = rule_json(rule);
            told["oldest"] = json!(instant(held.under(rule, &rules).ok().and_then(|times| times.oldest)));
            told
        })
        .collect();
    let times = held.all().unwrap_or_default();
    let damage: Vec<String> = engine.health().damage.iter().map(ToString::to_string).collect();
    json!({
        "space": {
            "available_bytes": space.available_bytes, "total_bytes": space.total_bytes,
            "reserve_bytes": space.reserve_bytes, "warning_bytes": space.warning_bytes, "full": space.full,
        },
        "total_bytes": disk_bytes(&info),
        "segments": {
            "count": info.segments, "open": info.open_segments, "quarantined": info.quarantined_segments,
            "bytes": info.data_bytes + info.time_bytes + info.meta_bytes,
        },
        "logs": { "files": info.wal_files, "bytes": info.wal_bytes },
        "memtable": { "bytes": info.memtable_bytes, "values": info.memtable_values },
        "tombstones": info.tombstones,
        "seal": {
            "done": metrics.seals, "failed": metrics.seal_failures, "last": work.seal.as_ref().map(work_json),
        },
        "merge": {
            "done": metrics.compactions, "failed": metrics.compaction_failures,
            "last": work.merge.as_ref().map(work_json),
        },
        "scrub": {
            "running": scrub.running, "done_bytes": scrub.done_bytes, "total_bytes": scrub.total_bytes,
            "finished": instant(scrub.finished), "passes": metrics.scrub_passes,
            "damaged_files": metrics.scrub_damaged_files,
        },
        "damage": damage,
        "quarantine": { "files": info.quarantine_files, "bytes": info.quarantine_bytes },
        "retention": { "clock": clock_json(engine), "rules": told_rules },
        "write_amplification": (metrics.values > 0).then(|| write_amplification(&metrics)),
        "oldest": instant(times.oldest), "newest": instant(times.newest), "times_reason": held.missing(),
    })
}

fn work_json(last: &LastWork) -> Value {
    json!({ "ended": rfc3339(last.ended.0), "bytes": last.bytes, "error": last.error })
}
