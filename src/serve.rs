//! The running appliance: what is started in which order, and stopped in the reverse one.
//!
//! Start: the HTTP side listens and answers `/ready` with "not yet"; then from the right of the data's way to its left: the
//! engine opens (lock, replay), the ledger beside it, HTTP is joined to both, energies, sessions and reports are kept, alerts are evaluated, devices are polled. A ledger that does not answer
//! keeps nothing from starting: what asks for it says so, and it is asked again.
//! Stop, from the left: devices (their last points are delivered), alerts (messages on their way have some seconds), HTTP (no new connections, requests under way are
//! answered), units and databases, sessions and reports, energies, the engine (everything written is synced, the log gets its sealing record), the ledger.
//!
//! Invariants
//! 1. Nothing writes to the engine when it is closed: every task that could has been joined before.
//! 2. A reload changes what can be changed while running and names the rest; a configuration that is refused changes
//!    nothing.

use crate::alerting::Alerting;
use crate::config::{Config, ReadWay};
use crate::databases::{self, Databases};
use crate::devices::Devices;
use crate::failure::{Failure, Kind, chain};
use crate::known::EngineKnown;
use crate::logging::Reload;
use crate::readings::EngineReadings;
use crate::sink::EngineSink;
use crate::units::{self, Units};
use jiff::tz::TimeZoneDatabase;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_alerts::{Alerts, AlertsConfig};
use wattlog_collector::Collector;
use wattlog_derived::books::{BookOptions, Bookkeeper};
use wattlog_derived::energy::{EnergyKeeper, EnergyOptions};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::options::Midnights;
use wattlog_engine::query::{QueryLimits, Zone};
use wattlog_engine::{Engine, OpenError, Options};
use wattlog_ledger::Ledger;
use wattlog_model::Clock;
use wattlog_server::{BuildInfo, DeviceStatusProvider as _, IngestSource, ServerState};

/// A runtime for everything that is not the engine; the engine has threads of its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("wattlog-io").build();
    runtime.map_err(|error| Failure::io("start the runtime", &error))
}

/// Opens the store in `folder`, or makes one there; replays its log.
pub(crate) async fn open_store(
    config: &Config,
    folder: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Engine, Failure> {
    let disk = OsDisk::new(folder).map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::CannotCreate,
        };
        Failure::new(kind, format!("open data folder {}: {error}", folder.display()))
    })?;
    let (options, seed) = (engine_options(config), store_seed());
    let opened =
        tokio::task::spawn_blocking(move || Engine::open(Arc::new(disk), options, clock, seed)).await;
    let engine = opened.map_err(|error| Failure::from_error(Kind::General, &error))?.map_err(|error| {
        Failure::new(kind_of(&error), format!("open store {}: {}", folder.display(), chain(&error)))
    })?;
    tracing::info!(folder = %folder.display(), "store open");
    Ok(engine)
}

/// The ledger beside the store in `folder`; it is opened meanwhile, so that a large one does not hold up the rest.
pub(crate) fn open_ledger(config: &Config, folder: &Path, clock: Arc<dyn Clock>) -> Result<Ledger, Failure> {
    let options = config.ledger.options(folder).map_err(|error| Failure::from_error(Kind::Config, &error))?;
    let ledger = Ledger::new(options, clock).map_err(|error| Failure::from_error(Kind::Config, &error))?;
    let opening = ledger.clone();
    tokio::spawn(async move {
        let backend = opening.backend().name();
        match opening.ready().await {
            Ok(opened) => tracing::info!(backend, schema_version = opened.schema_version, "ledger open"),
            Err(error) if error.may_pass() => {
                tracing::warn!(backend, %error, "the ledger does not answer yet: each use asks again");
            }
            Err(error) => {
                tracing::error!(backend, %error, "the ledger cannot be used: the rest runs without it");
            }
        }
    });
    Ok(ledger)
}

fn kind_of(error: &OpenError) -> Kind {
    match error {
        OpenError::InUse(_) => Kind::Busy,
        OpenError::TooNew { .. } => Kind::Data,
        OpenError::Disk { source, .. } if source.kind() == ErrorKind::PermissionDenied => Kind::Permission,
        _ => Kind::Io,
    }
}

fn engine_options(config: &Config) -> Options {
    let section = &config.engine;
    Options {
        read_mode: match section.read_mode {
            ReadWay::Auto => Options::default().read_mode,
            ReadWay::Map => ReadMode::Map,
            ReadWay::Pread => ReadMode::Pread,
        },
        memtable_bytes: section.memtable.0,
        wal_bytes: section.wal.0,
        seal_age: section.seal_age.0,
        queue_len: section.queue_len,
        queue_wait: section.queue_wait.0,
        ballast_bytes: section.ballast.0,
        disk_reserve_bytes: section.disk_reserve.map(|size| size.0),
        disk_warning_bytes: section.disk_warning.map(|size| size.0),
        max_series: section.max_series,
        max_fields: section.max_fields,
        max_open_maps: section.max_open_maps,
        max_tombstones: section.max_tombstones,
        compaction_bytes_per_second: section.compaction_rate.0,
        pco_after: section.pco_after.0.map(|span| span.0),
        compaction_memory_bytes: usize::try_from(section.compaction_memory.0).unwrap_or(usize::MAX),
        scrub_interval: section.scrub_interval.0,
        scrub_bytes_per_second: section.scrub_rate.0,
        midnights: midnights(&config.server.home_zone),
        auto_create_databases: section.auto_create_databases,
        default_durability: databases::durability(section.durability),
        query: QueryLimits { max_bytes: config.server.limits.query_bytes.0, ..QueryLimits::default() },
        ..Options::default()
    }
}

/// Midnights of the home zone, whose name was checked with the configuration; a day that begins later begins there.
fn midnights(home_zone: &str) -> Midnights {
    let Ok(zone) = TimeZoneDatabase::bundled().get(home_zone) else { return Midnights::utc() };
    Midnights::new(move |range| {
        let local = |ns: i64| {
            let instant = jiff::Timestamp::from_nanosecond(i128::from(ns)).ok()?;
            Some(zone.to_datetime(instant).date())
        };
        let (Some(mut date), Some(last)) = (local(range.start), local(range.end)) else { return Vec::new() };
        let mut midnights = Vec::new();
        while date <= last {
            let start = zone
                .to_ambiguous_zoned_datetime(date.to_datetime(jiff::civil::Time::midnight()))
                .compatible();
            let ns = start.ok().and_then(|start| i64::try_from(start.timestamp().as_nanosecond()).ok());
            midnights.extend(ns.filter(|ns| range.contains(ns)));
            let Ok(next) = date.tomorrow() else { break };
            date = next;
        }
        midnights
    })
}

/// Random bytes for the identity of a new store, from the seeds that the standard library draws from the system.
fn store_seed() -> [u8; 16] {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || RandomState::new().hash_one(std::process::id()).to_le_bytes();
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&half());
    seed[8..].copy_from_slice(&half());
    seed
}

/// A task and the way to end it.
struct Task {
    over: CancellationToken,
    handle: JoinHandle<()>,
}

impl Task {
    fn spawn<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(CancellationToken) -> F) -> Self {
        let over = CancellationToken::new();
        Self { handle: tokio::spawn(work(over.clone())), over }
    }

    async fn stop(self, name: &str) {
        self.over.cancel();
        if let Err(error) = self.handle.await {
            tracing::error!(task = name, %error, "a task ended by itself");
        }
    }
}

/// The HTTP side before there is a store behind it.
pub(crate) struct Front {
    address: SocketAddr,
    state: ServerState,
    http: Task,
}

impl Front {
    /// Serves on `listener` from now on.
    pub(crate) fn start(
        config: &Config,
        listener: TcpListener,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let build = BuildInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("WATTLOG_COMMIT").unwrap_or("unknown").to_owned(),
        };
        let state = ServerState::new(config.server.clone(), build, clock)
            .map_err(|error| Failure::from_error(Kind::Config, &error))?;
        let address =
            listener.local_addr().map_err(|error| Failure::io("ask for the own address", &error))?;
        let served = state.clone();
        let http = Task::spawn(|over| async move {
            if let Err(error) = wattlog_server::run(listener, served, over.cancelled_owned()).await {
                tracing::error!(%error, "the HTTP server ended by itself: restart the program");
            }
        });
        tracing::info!(%address, "listening");
        Ok(Self { address, state, http })
    }

    /// For a stop before there is a store.
    pub(crate) async fn stop(self) {
        self.http.stop("http").await;
    }
}

/// Everything that runs.
pub(crate) struct Appliance {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    ledger: Ledger,
    /// What is in force, as far as it can change while running.
    config: Config,
    /// What the rest of the configuration still is.
    at_start: Config,
    clock: Arc<dyn Clock>,
    devices: Arc<Devices>,
    alerting: Arc<Alerting>,
    /// Counts what the collector stores.
    state: ServerState,
    http: Task,
    units: Task,
    energy: Arc<EnergyKeeper>,
    /// Sessions and reports.
    books: Task,
    /// None once the databases are as configured.
    databases: Option<Task>,
    /// None if they are switched off.
    alerts: Option<Task>,
    /// None only while one replaces another.
    collector: Option<Task>,
}

impl Appliance {
    /// Joins the store to the HTTP side and begins to poll.
    pub(crate) async fn start(
        front: Front,
        config: Config,
        engine: Engine,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        // Before anyone writes, so that the first point finds its database where writing makes none.
        let databases = spawn_databases(&engine, &config, &config).await;
        let devices = Arc::new(Devices::default());
        front.state.set_devices(devices.clone());
        front.state.set_feeds(devices.clone());
        if !front.state.set_ledger(ledger.clone()) || !front.state.set_engine(engine.clone()) {
            return Err(Failure::new(Kind::General, "the HTTP side already has a store"));
        }
        let units = spawn_units(&engine, config.units.clone());
        let energy = EnergyOptions::new(&config.server.default_database);
        let energy = EnergyKeeper::start(engine.clone(), energy, clock.clone())
            .map_err(|error| Failure::io("start the thread that keeps energies", &error))?;
        let energy = Arc::new(energy);
        front.state.set_energy(energy.clone());
        let books = bookkeeper(&engine, &ledger, &energy, &config, &clock);
        front.state.set_books(books.clone());
        let books = Task::spawn(|over| async move { books.run(over).await });
        let collector = Collector::new(config.collector.clone())
            .map_err(|error| Failure::from_error(Kind::Config, &error))?;
        let database = &config.server.default_database;
        let alerting = Arc::new(Alerting::default());
        front.state.set_alerts(alerting.clone());
        let alerts = spawn_alerts(&config.alerts, &config, &engine, &ledger, (&clock, &alerting))?;
        let collector = Some(spawn_collector(collector, &engine, database, &clock, &devices, &front.state));
        Ok(Self {
            address: front.address,
            engine,
            ledger,
            at_start: config.clone(),
            config,
            clock,
            devices,
            alerting,
            state: front.state,
            http: front.http,
            units,
            energy,
            books,
            databases,
            alerts,
            collector,
        })
    }

    /// Where the server can be asked from this machine, also when it listens on all addresses.
    pub(crate) fn reachable_address(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        address
    }

    /// One line for the service manager.
    pub(crate) fn status(&self) -> String {
        let devices = self.config.collector.devices.len();
        let health = self.engine.health();
        match health.reason {
            Some(reason) => format!("read-only: {reason}"),
            None => format!("http://{}, {devices} devices", self.address),
        }
    }

    /// Answered polls of a device since the collector was started.
    pub(crate) fn polls(&self, device: &str) -> u64 {
        self.devices.devices().iter().find(|known| known.id == device).map_or(0, |known| known.polls_ok)
    }

    /// Takes over what can change while running: log level, devices, durability, units.
    pub(crate) async fn reload(&mut self, config: Config, log: &Reload) {
        if let Err(error) = log.set_level(&config.log.level) {
            tracing::error!(%error, "the log level stays as it was");
        }
        if let Some(former) = self.databases.take() {
            former.stop("databases").await;
        }
        self.databases = spawn_databases(&self.engine, &config, &self.at_start).await;
        if config.units != self.config.units {
            let fresh = spawn_units(&self.engine, config.units.clone());
            std::mem::replace(&mut self.units, fresh).stop("units").await;
        }
        if config.alerts != self.config.alerts {
            self.replace_alerts(&config.alerts).await;
        }
        if config.collector != self.config.collector {
            match Collector::new(config.collector.clone()) {
                Ok(collector) => self.replace_collector(collector).await,
                Err(error) => tracing::error!(%error, "the devices stay as they were"),
            }
        }
        let restart_needed = restart_needed(&self.at_start, &config);
        self.config = config;
        tracing::info!(restart_needed = restart_needed.join(", "), "reloaded");
    }

    /// One after the other, so that no device has two connections; what the old one left is delivered first.
    async fn replace_collector(&mut self, collector: Collector) {
        if let Some(old) = self.collector.take() {
            old.stop("collector").await;
        }
        let database = &self.at_start.server.default_database;
        let (clock, devices) = (&self.clock, &self.devices);
        self.collector =
            Some(spawn_collector(collector, &self.engine, database, clock, devices, &self.state));
    }

    /// One after the other, so that no delivery has two senders.
    async fn replace_alerts(&mut self, alerts: &AlertsConfig) {
        if let Some(old) = self.alerts.take() {
            old.stop("alerts").await;
            self.alerting.stopped();
        }
        let around = (&self.clock, &*self.alerting);
        match spawn_alerts(alerts, &self.at_start, &self.engine, &self.ledger, around) {
            Ok(task) => self.alerts = task,
            // It was checked when it was loaded.
            Err(error) => tracing::error!(%error, "alerts are off: put their configuration right and reload"),
        }
    }

    /// Stops in order; what was acknowledged before is safe whether or not this succeeds.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        if let Some(collector) = self.collector {
            collector.stop("collector").await;
        }
        if let Some(alerts) = self.alerts {
            alerts.stop("alerts").await;
        }
        self.http.stop("http").await;
        self.units.stop("units").await;
        if let Some(databases) = self.databases {
            databases.stop("databases").await;
        }
        self.books.stop("books").await;
        let (engine, energy) = (self.engine, self.energy);
        let close = move || {
            energy.stop();
            engine.close()
        };
        let closed = tokio::task::spawn_blocking(close).await;
        self.ledger.close().await;
        closed
            .map_err(|error| Failure::from_error(Kind::General, &error))?
            .map_err(|error| Failure::new(Kind::Io, format!("close the store: {error}")))
    }
}

fn spawn_units(engine: &Engine, units: Units) -> Task {
    let engine = engine.clone();
    Task::spawn(|over| units::keep_told(engine, units, over))
}

fn bookkeeper(
    engine: &Engine,
    ledger: &Ledger,
    energy: &Arc<EnergyKeeper>,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Arc<Bookkeeper> {
    let server = &config.server;
    // The name was checked with the configuration.
    let zone = Zone::named(&server.home_zone).unwrap_or(Zone::UTC);
    let options = BookOptions::new(&server.default_database, zone);
    let books = Bookkeeper::new(engine.clone(), ledger.clone(), energy.clone(), options, clock.clone());
    Arc::new(books)
}

/// Makes the databases and tells their durability; a task if something is left to try again.
async fn spawn_databases(engine: &Engine, config: &Config, at_start: &Config) -> Option<Task> {
    // The server and the collector keep the database they started with.
    let databases = Arc::new(Databases::of(config, &at_start.server.default_database));
    let settled = databases::settle(engine, &databases).await;
    let engine = engine.clone();
    (!settled).then(|| Task::spawn(|over| databases::keep_settling(engine, databases, over)))
}

/// `at_start` says where the store and the home are.
fn spawn_alerts(
    alerts: &AlertsConfig,
    at_start: &Config,
    engine: &Engine,
    ledger: &Ledger,
    (clock, alerting): (&Arc<dyn Clock>, &Alerting),
) -> Result<Option<Task>, Failure> {
    if !alerts.enabled {
        return Ok(None);
    }
    let server = &at_start.server;
    let zone = TimeZoneDatabase::bundled()
        .get(&server.home_zone)
        .map_err(|error| Failure::from_error(Kind::Config, &error))?;
    let home = Zone::named(&server.home_zone).unwrap_or(Zone::UTC);
    let (database, query_time) = (&server.default_database, server.limits.query_time.0);
    let readings = EngineReadings::new(engine.clone(), ledger.clone(), database, home, query_time);
    let mut alerts = Alerts::new(alerts, ledger.clone(), Arc::new(readings), clock.clone(), zone)
        .map_err(|error| Failure::from_error(Kind::Config, &error))?;
    if let Some(before) = alerting.last() {
        alerts = alerts.counting_on(&before);
    }
    alerting.watch(alerts.handle());
    Ok(Some(Task::spawn(|over| alerts.run(over))))
}

fn spawn_collector(
    collector: Collector,
    engine: &Engine,
    database: &str,
    clock: &Arc<dyn Clock>,
    devices: &Devices,
    state: &ServerState,
) -> Task {
    // Process numbers repeat in containers, where every start may be number 1.
    let collector = collector
        .with_seed(u64::from(std::process::id()) ^ clock.wall().0.unsigned_abs())
        .with_known(Arc::new(EngineKnown::new(engine.clone(), database)));
    devices.watch(collector.status());
    let state = state.clone();
    let count_stored = Arc::new(move |points| state.count_ingested(IngestSource::Collector, points));
    let sink = Arc::new(EngineSink::new(engine.clone(), database, clock.clone(), count_stored));
    let clock = clock.clone();
    Task::spawn(|over| collector.run(sink, clock, over))
}

/// Keys that differ and that only a start takes over.
fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (tree(old), tree(new));
    let mut keys = Vec::new();
    for section in ["server", "engine", "ledger"] {
        differences(section, &old[section], &new[section], &mut keys);
    }
    if old["log"]["format"] != new["log"]["format"] {
        keys.push("log.format".to_owned());
    }
    keys
}

fn tree(config: &Config) -> Value {
    // A configuration that was read is one that can be written.
    serde_json::to_value(config).unwrap_or_default()
}

fn differences(path: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                differences(&format!("{path}.{key}"), old.get(key).unwrap_or(&Value::Null), value, keys);
            }
        }
        _ if old != new => keys.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_may_not_be_read_is_a_matter_of_permission() {
        // A data folder of another user left with 74, as a failing disk does.
        let failed =
            |kind: ErrorKind| kind_of(&OpenError::Disk { action: "lock the store", source: kind.into() });
        assert_eq!(failed(ErrorKind::PermissionDenied), Kind::Permission);
        assert_eq!(failed(ErrorKind::StorageFull), Kind::Io);
    }

    #[test]
    fn what_needs_a_restart_is_named_by_its_path() {
        let old = Config::default();
        let mut new = old.clone();
        assert!(restart_needed(&old, &new).is_empty());
        new.log.level = "debug".into();
        new.server.limits.concurrent_queries += 1;
        new.engine.seal_age.0 *= 2;
        assert_eq!(restart_needed(&old, &new), ["server.limits.concurrent_queries", "engine.seal_age"]);
    }
}
