//! What all connections share: options, the store once it is open, tasks, counters.

use crate::alerting::AlertsProvider;
use crate::budget::{Bound, Budget};
use crate::devices::DeviceStatusProvider;
use crate::error::ApiError;
use crate::feeds::FeedStatusProvider;
use crate::metrics::{IngestSource, ServerMetrics};
use crate::options::{InvalidOption, ServerOptions};
use crate::pace::{IngestPace, QueryTimes};
use crate::queries::Queries;
use crate::scorecard::Samples;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::validator::Validators;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use wattlog_derived::PriceCache;
use wattlog_derived::books::Bookkeeper;
use wattlog_derived::energy::{EnergyCache, EnergyKeeper};
use wattlog_engine::query::{QueryMemory, Zone};
use wattlog_engine::{Engine, MetricsSnapshot};
use wattlog_ledger::Ledger;
use wattlog_model::{Clock, Timestamp};

/// Which build is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the program.
    pub version: String,
    /// Commit it was built from, or `unknown`.
    pub commit: String,
}

/// A record in hand takes up to a hundred megabytes if it is made for that.
const RECORDS_AT_A_TIME: usize = 2;

/// Shared by all connections; cheap to clone. It exists before the store is open, so that `/ready` can say "not yet".
#[derive(Clone)]
pub struct ServerState {
    pub(crate) shared: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: ServerOptions,
    pub(crate) home_zone: TimeZone,
    /// The same, for buckets.
    pub(crate) bucket_zone: Zone,
    pub(crate) build: BuildInfo,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Timestamp,
    started_monotonic: Duration,
    pub(crate) tasks: Tasks,
    devices: RwLock<Arc<dyn DeviceStatusProvider>>,
    feeds: RwLock<Arc<dyn FeedStatusProvider>>,
    alerts: RwLock<Arc<dyn AlertsProvider>>,
    pub(crate) metrics: ServerMetrics,
    pub(crate) store: Store,
    ledger: OnceLock<Ledger>,
    energy: OnceLock<Arc<EnergyKeeper>>,
    books: OnceLock<Arc<Bookkeeper>>,
    /// Bodies of records that are read as JSON at a time.
    record_turns: Semaphore,
    pub(crate) queries: Queries,
    pub(crate) query_times: QueryTimes,
    pub(crate) ingest_pace: IngestPace,
    /// What the scorecard measured last.
    pub(crate) samples: Samples,
    /// The server was told to stop: who waits for changes is answered.
    pub(crate) stopping: AtomicBool,
    /// Bodies being received or stored.
    pub(crate) bodies: Arc<Budget>,
    /// Rows and buckets that queries have in hand.
    pub(crate) query_memory: Arc<QueryMemory>,
    /// Answers of queries and of the ledger, until they are sent.
    pub(crate) answers: Arc<Budget>,
    /// Entity tags of answers that are asked for again and again.
    pub(crate) validators: Validators,
    /// Months of energy and prices that were asked for lately.
    pub(crate) months: (EnergyCache, PriceCache),
    disk_full: Mutex<DiskFull>,
    request_seed: u32,
    requests: AtomicU64,
}

/// Whether the disk is full, told from the store's counters: whoever writes, and by whatever way, moves them.
#[derive(Debug, Default)]
struct DiskFull {
    /// Bodies refused, at the last look.
    refused: u64,
    /// Bodies committed when that number last rose, and the time of the look that saw it.
    risen: Option<(u64, Duration)>,
}

impl DiskFull {
    /// How long a refusal counts when nobody writes any more: a writer that retries comes back sooner.
    const REMEMBERED: Duration = Duration::from_secs(60);

    /// True if bodies were refused since the last look, or before it and none was stored since then.
    fn look(&mut self, metrics: &MetricsSnapshot, now: Duration) -> bool {
        if metrics.disk_full > self.refused {
            self.refused = metrics.disk_full;
            self.risen = Some((metrics.bodies, now));
        }
        self.risen.is_some_and(|(bodies, time)| {
            metrics.bodies == bodies && now.saturating_sub(time) < Self::REMEMBERED
        })
    }
}

impl ServerState {
    /// Takes checked options; nothing is opened.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub fn new(
        options: ServerOptions,
        build: BuildInfo,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidOption> {
        options.check()?;
        // The zones that are built in: the files of the machine may be of another age.
        let home_zone = TimeZoneDatabase::bundled()
            .get(&options.home_zone)
            .map_err(|error| InvalidOption { key: "home_zone", reason: error.to_string() })?;
        let started = clock.wall();
        let limits = options.limits;
        let inner = Inner {
            bucket_zone: Zone::named(&options.home_zone).unwrap_or_default(),
            home_zone,
            build,
            started,
            started_monotonic: clock.monotonic(),
            tasks: Tasks::new(clock.clone()),
            devices: RwLock::new(Arc::new(())),
            feeds: RwLock::new(Arc::new(())),
            alerts: RwLock::new(Arc::new(())),
            metrics: ServerMetrics::default(),
            store: Store::new(&limits),
            ledger: OnceLock::new(),
            energy: OnceLock::new(),
            books: OnceLock::new(),
            record_turns: Semaphore::new(RECORDS_AT_A_TIME),
            stopping: AtomicBool::new(false),
            query_times: QueryTimes::default(),
            ingest_pace: IngestPace::default(),
            samples: Samples::default(),
            queries: Queries::new(options.slow_query_time.0, options.slow_queries),
            bodies: Budget::new(
                Bound { name: "bodies_in_memory", bytes: limits.bodies_in_memory.0 },
                Bound { name: "bodies_per_address", bytes: limits.bodies_per_address.0 },
            ),
            query_memory: QueryMemory::new(limits.queries_in_memory.0),
            answers: Budget::new(
                Bound { name: "answers_in_memory", bytes: limits.answers_in_memory.0 },
                Bound { name: "answers_per_address", bytes: limits.answers_per_address.0 },
            ),
            validators: Validators::default(),
            months: Default::default(),
            disk_full: Mutex::default(),
            // Ids need only differ between runs in one log, so the start time is random enough.
            request_seed: (started.0 / 1_000_000) as u32,
            requests: AtomicU64::new(0),
            clock,
            options,
        };
        Ok(Self { shared: Arc::new(inner) })
    }

    /// Joins the store: from here on `/ready` says so and every route works. A second store is ignored and false is
    /// given.
    pub fn set_engine(&self, engine: Engine) -> bool {
        self.shared.store.set(engine)
    }

    /// Joins the relational side: sessions, configurations and the like. A second one is ignored and false is given.
    pub fn set_ledger(&self, ledger: Ledger) -> bool {
        self.shared.ledger.set(ledger).is_ok()
    }

    /// The relational side, once it is joined.
    pub(crate) fn ledger(&self) -> Result<&Ledger, ApiError> {
        let starting =
            || ApiError::unavailable("starting: the ledger is not open yet", Duration::from_secs(1));
        self.shared.ledger.get().ok_or_else(starting)
    }

    /// Joins what keeps energies. A second one is ignored and false is given.
    pub fn set_energy(&self, keeper: Arc<EnergyKeeper>) -> bool {
        self.shared.energy.set(keeper).is_ok()
    }

    /// What keeps energies, once it is joined.
    pub(crate) fn energy(&self) -> Result<Arc<EnergyKeeper>, ApiError> {
        let starting =
            || ApiError::unavailable("starting: energies are not kept yet", Duration::from_secs(1));
        self.shared.energy.get().cloned().ok_or_else(starting)
    }

    /// Joins what keeps sessions and reports, for its metrics. A second one is ignored and false is given.
    pub fn set_books(&self, books: Arc<Bookkeeper>) -> bool {
        self.shared.books.set(books).is_ok()
    }

    pub(crate) fn books(&self) -> Option<&Bookkeeper> {
        self.shared.books.get().map(|books| &**books)
    }

    /// A turn to read a record.
    pub(crate) async fn record_turn(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let busy = || {
            ApiError::unavailable("too many records at a time", Duration::from_secs(1)).at_limit("records")
        };
        self.shared.record_turns.acquire().await.map_err(|_| busy())
    }

    /// Joins the collector: where `/api/v1/devices` and the device metrics come from.
    pub fn set_devices(&self, provider: Arc<dyn DeviceStatusProvider>) {
        *self.shared.devices.write() = provider;
    }

    /// Joins the collector once more: where `/api/v1/feeds` and the metrics of feeds and broker come from.
    pub fn set_feeds(&self, provider: Arc<dyn FeedStatusProvider>) {
        *self.shared.feeds.write() = provider;
    }

    pub(crate) fn feeds(&self) -> Arc<dyn FeedStatusProvider> {
        self.shared.feeds.read().clone()
    }

    /// Joins alerts: where `/api/v1/alerts/status` and their metrics come from.
    pub fn set_alerts(&self, provider: Arc<dyn AlertsProvider>) {
        *self.shared.alerts.write() = provider;
    }

    pub(crate) fn alerts(&self) -> Arc<dyn AlertsProvider> {
        self.shared.alerts.read().clone()
    }

    /// Long work that `/api/v1/tasks/{id}` shows; the root may begin its own here.
    pub fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    /// Counts points that came in, by whatever way.
    pub fn count_ingested(&self, source: IngestSource, points: u64) {
        self.shared.metrics.ingested(source, points);
        self.shared.ingest_pace.add(self.uptime(), points);
    }

    pub(crate) fn devices(&self) -> Vec<crate::devices::DeviceStatus> {
        let provider = self.shared.devices.read().clone();
        provider.devices()
    }

    /// Time between two points of the program's own figures, if it is told.
    pub(crate) fn own_interval(&self) -> Option<Duration> {
        self.shared.devices.read().own_interval()
    }

    /// Whether reads and writes work, and the sentence that says so.
    pub(crate) fn condition(&self) -> (bool, String) {
        let Some(engine) = self.shared.store.opened() else {
            return (false, "starting: the log is being replayed".to_owned());
        };
        // Looked at in any case: what was refused while the store said so itself is no news afterwards.
        let full = self.shared.disk_full.lock().look(&engine.metrics(), self.shared.clock.monotonic());
        let health = engine.health();
        if !health.writable {
            return (false, format!("read-only: {}", health.reason.as_deref().unwrap_or("see the log")));
        }
        if full {
            return (false, "the disk is full: writes are refused until there is room".to_owned());
        }
        (true, "ready for queries and writes".to_owned())
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.shared.clock.monotonic().saturating_sub(self.shared.started_monotonic)
    }

    pub(crate) fn next_request_id(&self) -> String {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:06x}", self.shared.request_seed)
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_until_a_body_is_stored_or_nobody_tries_any_more() {
        let mut full = DiskFull::default();
        let mut look = |refused, bodies, seconds| {
            let metrics = MetricsSnapshot { disk_full: refused, bodies, ..MetricsSnapshot::default() };
            full.look(&metrics, Duration::from_secs(seconds))
        };
        assert!(!look(0, 5, 0));
        assert!(look(2, 7, 10));
        assert!(look(2, 7, 20));
        assert!(!look(2, 8, 30), "a body was stored");
        assert!(look(3, 8, 40) && look(3, 8, 99));
        assert!(!look(3, 8, 100), "nobody has tried for a minute");
    }
}
