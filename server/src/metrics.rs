//! Counters of the server itself. Labels come from closed sets, never from a request.

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::time::Duration;

/// The way by which points came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestSource {
    /// `POST /write`.
    Influx1,
    /// `POST /api/v2/write`.
    Influx2,
    /// `POST /api/energy-data`.
    EnergyData,
    /// The collector's polls.
    Collector,
    /// A file or stream read by a command.
    Import,
}

impl IngestSource {
    fn label(self) -> &'static str {
        match self {
            Self::Influx1 => "influx1",
            Self::Influx2 => "influx2",
            Self::EnergyData => "energy_data",
            Self::Collector => "collector",
            Self::Import => "import",
        }
    }
}

type Labels = [(&'static str, &'static str); 1];

#[derive(Debug, Clone)]
struct DurationBuckets;

impl MetricConstructor<Histogram> for DurationBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
        ])
    }
}

/// What the server counts.
pub(crate) struct ServerMetrics {
    registry: Mutex<Registry>,
    ingested: Family<Labels, Counter>,
    rejected: Family<Labels, Counter>,
    queries: Family<Labels, Histogram, DurationBuckets>,
    points_scanned: Counter,
    limits: Family<Labels, Counter>,
    responses: Family<Labels, Counter>,
    pub(crate) panics: Counter,
    pub(crate) changes_waiting: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_total: Counter,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("wattlog")),
            ingested: Family::default(),
            rejected: Family::default(),
            queries: Family::new_with_constructor(DurationBuckets),
            points_scanned: Counter::default(),
            limits: Family::default(),
            responses: Family::default(),
            panics: Counter::default(),
            changes_waiting: Gauge::default(),
            connections: Gauge::default(),
            connections_total: Counter::default(),
        };
        let mut registry = metrics.registry.lock();
        registry.register(
            "ingest_points",
            "Points stored, by the way they came in",
            metrics.ingested.clone(),
        );
        registry.register(
            "ingest_rejected_points",
            "Points refused one by one, by reason",
            metrics.rejected.clone(),
        );
        registry.register_with_unit(
            "query_duration",
            "Time of queries, from their turn to the encoded answer",
            Unit::Seconds,
            metrics.queries.clone(),
        );
        registry.register(
            "query_points_scanned",
            "Values that queries decoded or took from statistics",
            metrics.points_scanned.clone(),
        );
        registry.register(
            "http_limit_reached",
            "Requests that met a limit, by its name",
            metrics.limits.clone(),
        );
        registry.register("http_responses", "Answers by class of status", metrics.responses.clone());
        registry.register("http_panics", "Requests whose handler panicked", metrics.panics.clone());
        registry.register(
            "changes_waiting",
            "Requests that wait for changes",
            metrics.changes_waiting.clone(),
        );
        registry.register("http_connections", "Open connections", metrics.connections.clone());
        registry.register(
            "http_connections_accepted",
            "Connections accepted",
            metrics.connections_total.clone(),
        );
        drop(registry);
        metrics
    }
}

impl ServerMetrics {
    pub(crate) fn ingested(&self, source: IngestSource, points: u64) {
        self.ingested.get_or_create(&[("source", source.label())]).inc_by(points);
    }

    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&[("reason", reason)]).inc();
    }

    pub(crate) fn rejected_by(&self, reason: &'static str, points: u64) {
        if points > 0 {
            self.rejected.get_or_create(&[("reason", reason)]).inc_by(points);
        }
    }

    pub(crate) fn query(&self, endpoint: &'static str, duration: Duration, points_scanned: u64) {
        self.queries.get_or_create(&[("endpoint", endpoint)]).observe(duration.as_secs_f64());
        self.points_scanned.inc_by(points_scanned);
    }

    /// `name` is that of the limit in the configuration.
    pub(crate) fn limit_reached(&self, name: &'static str) {
        self.limits.get_or_create(&[("limit", name)]).inc();
    }

    /// The same for a limit that one request may meet many times.
    pub(crate) fn limit_reached_by(&self, name: &'static str, times: u64) {
        if times > 0 {
            self.limits.get_or_create(&[("limit", name)]).inc_by(times);
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        let class = match status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500..600 => "5xx",
            _ => "other",
        };
        self.responses.get_or_create(&[("status", class)]).inc();
    }

    /// All of it as OpenMetrics text without the final `# EOF`.
    pub(crate) fn encode(&self, out: &mut String) {
        let start = out.len();
        // Writing to a string cannot fail.
        let _ = encode(out, &self.registry.lock());
        let body = out[start..].strip_suffix("# EOF\n").map_or(out.len(), |text| start + text.len());
        out.truncate(body);
    }
}

impl fmt::Debug for ServerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetrics").finish_non_exhaustive()
    }
}
