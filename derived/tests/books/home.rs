//! A home as the books see it: engine, ledger and keepers, which can be stopped, cut off and opened again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_derived::books::{BookOptions, Bookkeeper};
use wattlog_derived::energy::{EnergyKeeper, EnergyOptions};
use wattlog_engine::io::sim::{Cut, SimDisk};
use wattlog_engine::query::Zone;
use wattlog_engine::{Engine, Options};
use wattlog_ledger::schema::Session;
use wattlog_ledger::{Backend, Ledger, LedgerOptions, Listing, Record, Stored};
use wattlog_model::{ManualClock, Timestamp};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The keepers of the appliance over a store on a simulated disk, and the file of a ledger.
pub(crate) struct Home {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Engine,
    pub(crate) ledger: Ledger,
    pub(crate) energy: Arc<EnergyKeeper>,
    pub(crate) books: Arc<Bookkeeper>,
    over: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Home {
    /// Opens what the disk has; the keepers run from then on.
    pub(crate) fn open_in(disk: SimDisk, folder: &Path, now: i64, zone: &str) -> Self {
        Self::open_with(disk, Backend::Sqlite(folder.join("ledger.db")), now, zone)
    }

    pub(crate) fn open_with(disk: SimDisk, backend: Backend, now: i64, zone: &str) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(now)));
        let engine =
            Engine::open(Arc::new(disk.clone()), Options::default(), clock.clone(), [7; 16]).unwrap();
        let mut options = LedgerOptions::new(backend);
        if let Backend::Postgres { .. } = options.backend {
            // One that is away is away at once.
            options.wait = Duration::from_secs(1);
        }
        let ledger = Ledger::new(options, clock.clone()).unwrap();
        let energy = EnergyKeeper::start(engine.clone(), EnergyOptions::new("wattlog"), clock.clone());
        let energy = Arc::new(energy.unwrap());
        let options = BookOptions {
            every: Duration::from_millis(10),
            ..BookOptions::new("wattlog", Zone::named(zone).unwrap())
        };
        let (engine_too, ledger_too) = (engine.clone(), ledger.clone());
        let books = Bookkeeper::new(engine_too, ledger_too, energy.clone(), options, clock.clone());
        let books = Arc::new(books);
        let over = CancellationToken::new();
        let (running, ended) = (books.clone(), over.clone());
        let task = tokio::spawn(async move { running.run(ended).await });
        Self { disk, clock, engine, ledger, energy, books, over, task }
    }

    pub(crate) async fn all<R: Record>(&self) -> Vec<Stored<R>> {
        let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
        self.ledger.list::<R>(&listing).await.unwrap().records
    }

    /// Sessions by device and start.
    pub(crate) async fn sessions(&self) -> Vec<Stored<Session>> {
        let mut all = self.all::<Session>().await;
        all.sort_by_key(|s| (s.record.device_id.clone(), s.record.start, s.record.session_id.clone()));
        all
    }

    /// Waits until everything that was written before is in the ledger.
    pub(crate) async fn settle(&self) {
        let before = self.books.status().rounds;
        self.until("the books to be kept", || {
            let status = self.books.status();
            status.rounds >= before + 2 && status.sessions.is_empty()
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "waited in vain for {what}: {:?}", self.books.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(mut self) {
        self.over.cancel();
        (&mut self.task).await.unwrap();
        self.stop_store().await;
    }

    pub(crate) async fn stop_store(self) {
        let (energy, engine) = (self.energy, self.engine);
        tokio::task::spawn_blocking(move || {
            energy.stop();
            engine.close().unwrap();
        })
        .await
        .unwrap();
        self.ledger.close().await;
    }

    /// What a power cut leaves of the store; the ledger's file stays as it is at that moment.
    pub(crate) async fn cut(self, seed: u64) -> SimDisk {
        self.task.abort();
        let disk = self.disk.cut(Cut::from_seed(seed));
        let _aborted = self.task.await;
        tokio::task::spawn_blocking(move || drop((self.energy, self.engine))).await.unwrap();
        self.ledger.close().await;
        disk
    }
}
