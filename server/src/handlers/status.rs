//! How it is: devices, long work, and what `/metrics` says of the store.

use super::health::json_response;
use super::records::listing::{self, Asked};
use super::storage::write_amplification;
use crate::answer::AnswerWriter;
use crate::budget::Peer;
use crate::error::ApiError;
use crate::exposition::Group;
use crate::state::ServerState;
use crate::url::{PathParts, QueryPairs};
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use wattlog_engine::{ClockCondition, DURATION_BUCKETS_S, Engine, HistogramSnapshot};
use wattlog_ledger::Record as _;
use wattlog_ledger::schema::Device;
use wattlog_wire::shortened;

/// Devices: when those that are polled last answered and what went wrong, and what the ledger knows of each.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices",
    params(
        ("device_id" = Option<String>, Query, description = "Only this one, also of those that are polled"),
        ("kind" = Option<String>, Query, description = "Only records of this kind"),
        ("location" = Option<String>, Query, description = "Only records with this location"),
        ("start" = Option<String>, Query, description = "Records stored from this instant"),
        ("end" = Option<String>, Query, description = "Records stored before this instant"),
        ("order" = Option<String>, Query, description = "Of the records: desc, the newest first (default), or asc"),
        ("limit" = Option<u32>, Query, description = "Records of a page, 1 to 10000; default 1000"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("format" = Option<String>, Query, description = "json (default), or csv: the records alone")),
    responses((status = 200, description = "`devices`: one entry per configured device; `records`: those of the ledger, null if it does not answer; `next`"),
        (status = 400, description = "A parameter that cannot be read"),
        (status = 503, description = "For csv: the ledger does not answer")))]
pub(crate) async fn devices(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let wanted = query.0.iter().find(|(name, _)| name == "device_id").map(|(_, device)| device.clone());
    let Asked { listing, is_csv } =
        Asked::parse::<Device>(query, Device::FILTERS, state.shared.clock.wall())?;
    if is_csv {
        return listing::answer(&state, peer, &state.ledger()?.list::<Device>(&listing).await?, is_csv);
    }
    // How the devices answer must be seen also when the ledger does not.
    let page = match state.ledger() {
        Ok(ledger) => ledger.list::<Device>(&listing).await.ok(),
        Err(_) => None,
    };
    let is_wanted = |id: &str| wanted.as_deref().is_none_or(|wanted| wanted == id);
    let mut out = AnswerWriter::new(&state, peer);
    out.text("{\"devices\":")?;
    out.json(&polled(&state, is_wanted))?;
    out.text(",")?;
    match page {
        Some(page) => listing::members(&mut out, &page)?,
        None => out.text("\"next\":null,\"records\":null")?,
    }
    out.text("}")?;
    Ok(json_response(StatusCode::OK, out.finish()?))
}

/// Devices that are polled.
fn polled(state: &ServerState, is_wanted: impl Fn(&str) -> bool) -> Vec<Value> {
    let now = state.shared.clock.wall();
    state
        .devices()
        .into_iter()
        .filter(|device| is_wanted(&device.id))
        .map(|device| {
            let age_ms = device.last_success.map(|time| now.0.saturating_sub(time.0).max(0) / 1_000_000);
            // Three missed polls in a row are silence; one or two happen on any radio link.
            let fresh = age_ms.is_some_and(|age| age.unsigned_abs() <= device.interval_ms.saturating_mul(3));
            let errors: serde_json::Map<String, Value> =
                device.errors.iter().map(|(kind, count)| (kind.clone(), json!(count))).collect();
            json!({
                "id": device.id, "vendor": device.vendor, "transport": device.transport, "address": device.address,
                "interval_ms": device.interval_ms,
                "last_attempt": device.last_attempt.map(|time| rfc3339(time.0)),
                "last_success": device.last_success.map(|time| rfc3339(time.0)),
                "age_ms": age_ms, "fresh": fresh, "last_error": device.last_error,
                "polls_ok": device.polls_ok, "errors": errors, "sentinels": device.sentinels,
                "dropped_points": device.dropped_points,
            })
        })
        .collect()
}

/// Progress of long work.
#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "status",
    params(("id" = u64, Path, description = "Number of the task")),
    responses((status = 200, description = "The task", body = crate::Task),
        (status = 404, description = "No such task in this run, or long ended")))]
pub(crate) async fn task(
    State(state): State<ServerState>,
    PathParts(id): PathParts<String>,
) -> Result<Response<Body>, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no task {} in this run", shortened(&id)));
    let task = id.parse().ok().and_then(|id| state.tasks().find(id)).ok_or_else(unknown)?;
    Ok(json_response(StatusCode::OK, task_json(&task).to_string()))
}

/// A task as the routes show it.
pub(super) fn task_json(task: &crate::Task) -> Value {
    json!({
        "id": task.id, "kind": task.kind, "state": task.state, "done": task.done, "total": task.total,
        "message": task.message, "started": rfc3339(task.started.0), "ended": task.ended.map(|time| rfc3339(time.0)),
    })
}

impl ServerState {
    /// What `/metrics` says of the store; nothing before it is open.
    pub(crate) async fn store_groups(&self) -> Vec<Group> {
        self.figures(store_groups).await.unwrap_or_default()
    }
}

fn store_groups(engine: &Engine) -> Vec<Group> {
    let storage = engine.storage();
    let metrics = engine.metrics();
    let health = engine.health();
    let scrub = engine.scrub_status();
    let space = engine.space();
    let sealed_values = storage.values - storage.memtable_values.min(storage.values);
    let sealed_bytes = storage.data_bytes + storage.time_bytes + storage.meta_bytes;
    let hot = vec![(vec![("tier", "hot".to_owned())], sealed_bytes as f64)];
    let mut groups = vec![
        Group::gauge("series", "Series in the catalog", storage.series as f64),
        Group::gauge("wal_bytes", "Bytes of log files", storage.wal_bytes as f64),
        Group::gauges("segment_bytes", "Bytes of sealed segments", hot),
        Group::gauge("segments", "Sealed segments", storage.segments as f64),
        Group::gauge(
            "tombstones",
            "Deletes that may still hide values of segments",
            storage.tombstones as f64,
        ),
        Group::gauge("memtable_bytes", "Memory of points that are not sealed", storage.memtable_bytes as f64),
        Group::gauge("store_writable", "1 while writes are taken", f64::from(u8::from(health.writable))),
        Group::gauge("store_damaged_parts", "Damaged parts of files known of", health.damage.len() as f64),
        Group::gauge(
            "disk_available_bytes",
            "Room on the disk of the store, at the last look",
            space.available_bytes.map_or(f64::NAN, |bytes| bytes as f64),
        ),
        Group::gauge("disk_reserve_bytes", "Room below which writes are refused", space.reserve_bytes as f64),
        Group::counter("store_points", "Points committed", metrics.points),
        Group::counter("store_values", "Values committed", metrics.values),
        Group::counter("store_rejected_points", "Points refused one by one", metrics.rejected_points),
        Group::counter("store_bodies", "Bodies committed", metrics.bodies),
        Group::counter(
            "store_overloaded",
            "Bodies refused because the queue stayed full",
            metrics.overloaded,
        ),
        Group::counter("store_disk_full", "Bodies refused because the disk was full", metrics.disk_full),
        Group::counter("store_outcome_unknown", "Bodies whose sync failed", metrics.outcome_unknown),
        Group::counter("wal_groups", "Groups of bodies written to the log", metrics.groups),
        Group::counter("wal_written_bytes", "Bytes written to logs", metrics.wal_bytes_written),
        Group::counter("wal_abandoned", "Logs given up after an error", metrics.logs_abandoned),
        Group::counter("seals", "Seals that ended well", metrics.seals),
        Group::counter("seal_failures", "Attempts to seal that failed", metrics.seal_failures),
        Group::counter("segment_written_bytes", "Bytes of segments written", metrics.segment_bytes_written),
        Group::counter("deletes", "Deletes committed", metrics.deletes),
        Group::counter("compactions", "Merges of segments that ended well", metrics.compactions),
        Group::counter("compaction_failures", "Merges of segments given up", metrics.compaction_failures),
        Group::counter(
            "compaction_read_bytes",
            "Bytes of segments read to be merged",
            metrics.compaction_bytes_read,
        ),
        Group::counter(
            "compaction_written_bytes",
            "Bytes of segments written by merges",
            metrics.compaction_bytes_written,
        ),
        Group::counter(
            "scrub_passes",
            "Full passes of the scrub over all sealed files",
            metrics.scrub_passes,
        ),
        Group::counter("scrub_read_bytes", "Bytes that the scrub read", metrics.scrub_bytes),
        Group::counter(
            "scrub_damaged_files",
            "Files in which the scrub found damage",
            metrics.scrub_damaged_files,
        ),
        Group::gauge(
            "scrub_progress_ratio",
            "Share of the sealed bytes that the pass going on has read; 0 between passes",
            scrub.done_bytes as f64 / scrub.total_bytes.max(1) as f64,
        ),
        Group::gauge(
            "write_amplification_ratio",
            "Bytes written to logs, segments and by merges, over 16 bytes a value stored",
            write_amplification(&metrics),
        ),
        Group::counter(
            "retention_dropped_segments",
            "Segments that were dropped by age as a whole",
            metrics.retention_segments,
        ),
        Group::counter("retention_dropped_bytes", "Bytes of them", metrics.retention_bytes),
        Group::gauge(
            "retention_clock_off_seconds",
            "How far the wall clock is ahead of what retention believes (behind: negative) where it is not followed",
            retention_clock_off(engine),
        ),
        Group::counter(
            "retention_clock_held",
            "Times that retention would not follow the wall clock ahead",
            metrics.clocks_held,
        ),
        Group::counter(
            "store_future_points",
            "Points stored with a time more than 24 hours ahead of the clock",
            metrics.future_points,
        ),
        Group::counter(
            "clock_steps",
            "Steps of the wall clock of more than two seconds",
            metrics.clock_steps,
        ),
        Group::counter("change_events", "Events told to who follows changes", metrics.change_events),
        Group::counter(
            "changes_missed",
            "Times that who follows changes came for some that are no longer kept",
            metrics.changes_missed,
        ),
        histogram("wal_fsync_duration_seconds", "Time of each sync of the log", &metrics.wal_sync),
        histogram("seal_duration_seconds", "Time of each seal", &metrics.seal),
    ];
    if let Some(finished) = scrub.finished {
        let seconds = finished.0 as f64 / 1e9;
        let help =
            "When the last full pass of the scrub ended, in seconds since 1970; not there before the first";
        groups.push(Group::gauge("scrub_finished_timestamp_seconds", help, seconds));
    }
    if sealed_bytes > 0 {
        // Raw is a time and a value of eight bytes each.
        let ratio = sealed_values as f64 * 16.0 / sealed_bytes as f64;
        groups.push(Group::gauge("compression_ratio", "Raw bytes (16 a value) over sealed bytes", ratio));
    }
    groups
}

fn retention_clock_off(engine: &Engine) -> f64 {
    match engine.retention_clock().map(|clock| clock.condition) {
        Some(ClockCondition::Held { ahead_ns }) => ahead_ns as f64 / 1e9,
        Some(ClockCondition::Behind { by_ns }) => -(by_ns as f64) / 1e9,
        Some(ClockCondition::Followed) | None => 0.0,
    }
}

fn histogram(name: &'static str, help: &'static str, snapshot: &HistogramSnapshot) -> Group {
    let bounds = DURATION_BUCKETS_S.into_iter().chain([f64::INFINITY]);
    Group::histogram(name, help, snapshot.sum_seconds, bounds.zip(snapshot.buckets).collect())
}
