//! The goals of the plan that this replaces, measured on the running store.

use super::health::json_response;
use crate::error::ApiError;
use crate::link::escape;
use crate::pace::BUSY_SECONDS;
use crate::scorecard::{Asked, Figures, Judged, SAMPLE_AGE, Sample, Share, YEAR_NS};
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::rfc3339;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;
use wattlog_model::Timestamp;

/// What must hold of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    Below(f64),
    Above(f64),
}

/// One goal, and what was measured.
#[derive(Debug, Clone, Serialize)]
struct Measure {
    name: &'static str,
    /// As in `> 0.99`.
    target: String,
    unit: &'static str,
    value: Option<f64>,
    /// None: it cannot be told yet.
    met: Option<bool>,
    /// Over what it was measured.
    window: String,
    /// Why there is no value, or why it does not decide.
    reason: Option<String>,
    /// What gives the same number, or how it was measured.
    source: String,
    details: Value,
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::Above(limit) => value > limit,
        }
    }
}

impl Measure {
    fn new(name: &'static str, goal: Goal, unit: &'static str, value: Result<f64, String>) -> Self {
        let target = match goal {
            Goal::Below(limit) => format!("< {limit}"),
            Goal::Above(limit) => format!("> {limit}"),
        };
        let (value, reason) = match value {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason)),
        };
        let met = value.map(|value| goal.is_met(value));
        let (window, source) = (String::new(), String::new());
        Self { name, target, unit, value, met, window, reason, source, details: Value::Null }
    }

    /// The value stands, but it decides nothing, because of this.
    fn undecided(mut self, reason: Option<String>) -> Self {
        if reason.is_some() && self.value.is_some() {
            (self.met, self.reason) = (None, reason);
        }
        self
    }

    fn over(self, window: impl Into<String>) -> Self {
        Self { window: window.into(), ..self }
    }

    fn from(self, source: impl Into<String>) -> Self {
        Self { source: source.into(), ..self }
    }

    fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

/// Each goal with its target, the measured value, and whether it is met.
#[utoipa::path(get, path = "/api/v1/scorecard", tag = "status",
    responses((status = 200, description = "`{\"measured\",\"metrics\":[{\"name\",\"target\",\"unit\",\"value\",\"met\",\"window\",\"reason\",\"source\",\"details\"}],\"sample\"}`; `met` is null where nothing can be told yet, and `reason` says why"),
        (status = 503, description = "The store is being opened or closed, or busy")))]
pub(crate) async fn scorecard(
    State(state): State<ServerState>,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let [] = query.only([])?;
    let asked = asked(&state).await;
    let taken = state.sample(&asked).await?;
    let now = asked.now;
    let figures = state.survey(move |engine, control| Ok(Figures::of(engine, &asked, control))).await?;
    let resident = crate::exposition::resident_bytes().await;
    let sampled = taken.sample.as_ref().map_err(Clone::clone);
    let judged = taken.judged.as_ref().map_err(Clone::clone);
    let metrics = [
        query_time(&state),
        speed_up(sampled.clone()),
        ingest(&state, &figures),
        storage(&figures, sampled.clone()),
        memory(&figures, resident),
        uptime(&state, &figures),
        retention(&figures, now),
        completeness(judged.clone()),
        accuracy(judged),
        Measure::new("backup_success", Goal::Above(0.99), "share", Err("no backups exist yet".to_owned())),
    ];
    let body = json!({
        "measured": rfc3339(now.0), "metrics": metrics, "sample": sampled.ok().map(Sample::json),
    });
    Ok(json_response(StatusCode::OK, body.to_string()))
}

async fn asked(state: &ServerState) -> Asked {
    let inverters_w = state.inverters_w().await;
    let devices = state.devices();
    Asked {
        database: state.shared.options.default_database.clone(),
        now: state.shared.clock.wall(),
        uptime: state.uptime(),
        // That of a collector that is not told otherwise.
        own_interval: state.own_interval().unwrap_or(Duration::from_secs(60)),
        devices: devices
            .iter()
            .map(|device| (device.id.clone(), Duration::from_millis(device.interval_ms)))
            .collect(),
        inverters_w,
    }
}

/// Fewer queries have no hundredth.
const LEAST_QUERIES: usize = 100;

fn query_time(state: &ServerState) -> Measure {
    let (count, p99) = state.shared.query_times.p99();
    let value = p99.map(|time| time.as_secs_f64() * 1e3).ok_or_else(|| "no query was asked yet".to_owned());
    let few = (count < LEAST_QUERIES)
        .then(|| format!("{count} queries were asked since the start, {LEAST_QUERIES} are needed"));
    Measure::new("query_time_p99", Goal::Below(100.0), "ms", value)
        .undecided(few)
        .over(format!("the last {count} queries since the start"))
        .from("times of the routes that wattlog_query_duration_seconds of /metrics counts, but for exports")
        .with(json!({ "queries": count }))
}

fn speed_up(sample: Result<&Sample, String>) -> Measure {
    let value = sample.clone().map(Sample::speed_up);
    let measure = Measure::new("query_speed_up", Goal::Above(10.0), "times", value);
    let Ok(sample) = sample else { return measure.over("a sample of stored points") };
    measure
        .over(format!("{} to {}", rfc3339(sample.start.0), rfc3339(sample.end.0)))
        .from(sample.query_link())
        .with(json!({
            "against": "reading the same points as lines of JSON that lie in memory",
            "measured": rfc3339(sample.measured.0), "measured_again_after_s": SAMPLE_AGE.as_secs(),
        }))
}

fn ingest(state: &ServerState, figures: &Figures) -> Measure {
    let uptime = state.uptime();
    let pace = state.shared.ingest_pace.figures(uptime);
    let busiest = pace.busiest as f64 / BUSY_SECONDS as f64;
    let value =
        if pace.total > 0 { Ok(busiest) } else { Err("no points came in since the start".to_owned()) };
    let goal = Goal::Above(1000.0);
    // Less than the goal is the store's fault only if it refused more.
    let offered = (figures.overloaded == 0 && !goal.is_met(busiest))
        .then(|| "no more points were offered than that, and none were refused for want of speed".to_owned());
    Measure::new("ingest_rate", goal, "points/s", value)
        .undecided(offered)
        .over(format!("the busiest {BUSY_SECONDS} s of {} s since the start", uptime.as_secs()))
        .from("wattlog_ingest_points_total and wattlog_store_overloaded_total of /metrics")
        .with(json!({
            "points": pace.total, "mean_since_start": per_second(pace.total, uptime),
            "last_minute": per_second(pace.last_minute, uptime.min(Duration::from_secs(60))),
            "refused_bodies": figures.overloaded,
        }))
}

fn per_second(points: u64, time: Duration) -> f64 {
    points as f64 / time.as_secs_f64().max(1.0)
}

/// Below this, logs and names, which have a size of their own, outweigh the points.
const LEAST_VALUES: u64 = 1_000_000;

fn storage(figures: &Figures, sample: Result<&Sample, String>) -> Measure {
    let json_bytes = sample.map(|sample| sample.json_bytes_of(figures.points, figures.values));
    let value = json_bytes.clone().map(|json| 1.0 - figures.disk_bytes as f64 / json);
    let few = (figures.values < LEAST_VALUES).then(|| {
        format!(
            "{} values are stored; below {LEAST_VALUES} logs and names of a size of their own outweigh them",
            figures.values
        )
    });
    Measure::new("storage_saved", Goal::Above(0.8), "share", value)
        .undecided(few)
        .over("all that is stored now")
        .from("/api/v1/storage/health (total_bytes), and bytes of JSON for each row and value of `sample`")
        .with(json!({
            "disk_bytes": figures.disk_bytes, "json_bytes_estimate": json_bytes.ok().map(|bytes| bytes as u64),
            "points": figures.points, "values": figures.values,
        }))
}

/// A time and a number of eight bytes each: the least that a program needs for a value that it holds.
const BYTES_IN_MEMORY: u64 = 16;

fn memory(figures: &Figures, resident: Option<f64>) -> Measure {
    let held = figures.values.saturating_mul(BYTES_IN_MEMORY) as f64;
    let value = match resident {
        None => Err("this system does not tell the memory of a process".to_owned()),
        Some(_) if figures.values == 0 => Err("nothing is stored yet".to_owned()),
        Some(resident) => Ok(1.0 - resident / held),
    };
    let small = resident.filter(|resident| held < *resident).map(|resident| {
        format!("all values would take {held} bytes of memory, the program alone takes {resident}")
    });
    Measure::new("memory_saved", Goal::Above(0.7), "share", value)
        .undecided(small)
        .over("now")
        .from("process_resident_memory_bytes of /metrics against 16 bytes for each value of /api/v1/storage")
        .with(json!({ "resident_bytes": resident, "values": figures.values, "in_memory_bytes": held }))
}

fn uptime(state: &ServerState, figures: &Figures) -> Measure {
    let day = Duration::from_secs(24 * 3600);
    let short = (watched(&figures.uptime) < day).then(|| "it is watched for less than a day".to_owned());
    Measure::new("uptime", Goal::Above(0.999), "share", figures.uptime.value.clone())
        .undecided(short)
        .over(window(&figures.uptime))
        .from(format!(
            "stored points: stretches of {} s with a point of system_metrics; a shorter stop is not seen",
            figures.stretch.as_secs()
        ))
        .with(json!({ "process_uptime_s": state.uptime().as_secs() }))
}

fn watched(share: &Share) -> Duration {
    let ns = share.range.end.0.saturating_sub(share.range.start.0).max(0);
    Duration::from_nanos(ns.unsigned_abs())
}

fn window(share: &Share) -> String {
    if share.range.is_empty() {
        return String::new();
    }
    format!("{} to {}", rfc3339(share.range.start.0), rfc3339(share.range.end.0))
}

fn retention(figures: &Figures, now: Timestamp) -> Measure {
    let days = |ns: i64| ns as f64 / 86_400e9;
    let oldest = figures
        .times
        .clone()
        .and_then(|times| times.oldest.ok_or_else(|| "nothing is stored yet".to_owned()));
    let age = oldest.clone().map(|oldest| now.0.saturating_sub(oldest.0));
    let value = age.clone().map(days);
    let newest = figures.times.as_ref().ok().and_then(|times| times.newest);
    let mut measure = Measure::new("retention", Goal::Above(days(YEAR_NS)), "days", value);
    if age.is_ok_and(|age| age <= YEAR_NS) {
        measure = match &figures.short_rule {
            Some(rule) => Measure { reason: Some(rule.clone()), ..measure },
            None => measure
                .undecided(Some("there are no older points, and no rule drops any before a year".to_owned())),
        };
    }
    measure
        .over("from the oldest point to now")
        .from("/api/v1/storage/health (oldest), /api/v1/retention")
        .with(json!({
            "oldest": oldest.ok().map(|time| rfc3339(time.0)),
            "newest": newest.map(|time| rfc3339(time.0)),
            "short_rule": figures.short_rule,
        }))
}

fn completeness(judged: Result<&Judged, String>) -> Measure {
    let value = judged.clone().and_then(Judged::completeness);
    let measure = Measure::new("completeness", Goal::Above(0.99), "share", value);
    let Ok(judged) = judged else { return measure.over(LAST_DAYS) };
    let devices: Vec<Value> = judged
        .devices
        .iter()
        .map(|device| {
            let mut source = quality_link(&device.range);
            source.push_str("&device_id=");
            escape(&mut source, &device.device);
            json!({
                "device_id": device.device, "completeness": device.share,
                "since": rfc3339(device.range.start.0), "lacks": device.lacks, "source": source,
            })
        })
        .collect();
    judged_over(measure, judged).with(json!({
        "devices": devices, "devices_left_out": judged.left_out,
        "measured_again_after_s": SAMPLE_AGE.as_secs(),
    }))
}

fn accuracy(judged: Result<&Judged, String>) -> Measure {
    let value = judged.clone().and_then(Judged::accuracy);
    let measure = Measure::new("accuracy", Goal::Above(0.999), "share", value);
    let Ok(judged) = judged else { return measure.over(LAST_DAYS) };
    judged_over(measure, judged).with(json!({
        "points": judged.points, "faulty": judged.faulty, "measured_again_after_s": SAMPLE_AGE.as_secs(),
    }))
}

const LAST_DAYS: &str = "the last 7 days";

fn judged_over(measure: Measure, judged: &Judged) -> Measure {
    let (start, end) = (rfc3339(judged.range.start.0), rfc3339(judged.range.end.0));
    measure.undecided(judged.doubt()).over(format!("{start} to {end}")).from(quality_link(&judged.range))
}

/// The report of the times; of every device, if none is added.
fn quality_link(range: &Range<Timestamp>) -> String {
    format!("/api/v1/quality?start={}&end={}", rfc3339(range.start.0), rfc3339(range.end.0))
}
