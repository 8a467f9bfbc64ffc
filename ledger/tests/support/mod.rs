//! A ledger of each database for one test.
//!
//! PostgreSQL is one of the test's own, started by `postgres.sh` and gone with the process. Where there is none the test says
//! so and passes, unless `WATTLOG_NEED_POSTGRES` is set.

#![allow(dead_code, reason = "each test program uses what it needs")]

mod cluster;

pub use cluster::Cluster;

use sqlx::{Connection as _, Executor as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;
use wattlog_ledger::{Actor, Backend, Ledger, LedgerOptions};
use wattlog_model::{ManualClock, Timestamp};

/// 2026-03-01T10:00:00Z.
pub const NOW: Timestamp = Timestamp(1_772_359_200_000_000_000);

/// The PostgreSQL that the tests of this process share.
pub fn shared_cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&[])).as_ref()
}

/// URL of a database that is made now.
pub async fn database(cluster: &Cluster) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("ledger_{}", MADE.fetch_add(1, Ordering::Relaxed));
    let mut admin = sqlx::PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    cluster.url(&name)
}

/// Where a ledger lies, and what has to live as long as it.
#[derive(Debug)]
pub struct Place {
    pub backend: Backend,
    pub clock: Arc<ManualClock>,
    _folder: Option<TempDir>,
}

impl Place {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = Backend::Sqlite(folder.path().join("ledger.db"));
        Self { backend, clock: Arc::new(ManualClock::new(NOW)), _folder: Some(folder) }
    }

    pub async fn postgres() -> Option<Self> {
        let url = database(shared_cluster()?).await;
        let backend = Backend::Postgres { url, password: None };
        Some(Self { backend, clock: Arc::new(ManualClock::new(NOW)), _folder: None })
    }

    pub async fn open(&self) -> Ledger {
        let ledger = self.handle();
        ledger.ready().await.unwrap();
        ledger
    }

    /// A ledger that may not be usable.
    pub fn handle(&self) -> Ledger {
        Ledger::new(LedgerOptions::new(self.backend.clone()), self.clock.clone()).unwrap()
    }

    /// The URL for a connection past the ledger.
    pub fn url(&self) -> String {
        match &self.backend {
            Backend::Sqlite(file) => format!("sqlite://{}?mode=rwc", file.display()),
            Backend::Postgres { url, .. } => url.clone(),
        }
    }

    /// Tables as a program of that version made them.
    pub async fn make_tables_of(&self, version: i64) {
        let dialect = if matches!(self.backend, Backend::Sqlite(_)) { "sqlite" } else { "postgres" };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql").join(dialect);
        let mut connection = sqlx::AnyConnection::connect(&self.url()).await.unwrap();
        let migrator = sqlx::migrate::Migrator::new(folder).await.unwrap();
        migrator.run_to(version, &mut connection).await.unwrap();
    }
}

pub fn actor() -> Actor {
    Actor::new("test")
}

/// The same test on both databases.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($place:ident) $body:block)*) => { $(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($place: &$crate::support::Place) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(&$crate::support::Place::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(place) = $crate::support::Place::postgres().await {
                    check(&place).await;
                }
            }
        }
    )* };
}
