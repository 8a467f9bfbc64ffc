//! The handle: open, health, copy, close.
//!
//! Promise: a database that does not answer is asked again by each call, and its tables are made or brought up to date by
//! the first that reaches it; a file that is damaged is set aside under a name of its own, never deleted, and a new one is begun,
//! which [`Health`] tells for as long as the process runs.
//!
//! Threads: cheap to clone; each connection of SQLite has a thread of its own.

use crate::database;
use crate::error::LedgerError;
use crate::migrations;
use crate::options::{Backend, LedgerOptions};
use serde::Serialize;
use sqlx::{AnyPool, Connection as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use wattlog_model::{Clock, Timestamp};

/// The relational side of the store.
#[derive(Debug, Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: LedgerOptions,
    clock: Arc<dyn Clock>,
    /// None once the ledger was closed; another one if a damaged file was set aside.
    pool: Mutex<Option<AnyPool>>,
    /// The tables are there and as they should be.
    ready: OnceCell<Opened>,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Version of the tables.
    pub schema_version: i64,
    /// Where the damaged file lies now, and what was wrong with it.
    pub set_aside: Option<(PathBuf, String)>,
}

/// How the ledger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `sqlite` or `postgresql`.
    pub backend: &'static str,
    /// It answers.
    pub available: bool,
    /// Why it does not, or what the owner has to look at.
    pub reason: Option<String>,
    /// What opening found; none before the database answered for the first time.
    pub opened: Option<Opened>,
}

impl Ledger {
    /// A handle; nothing is opened before the first call. Needs a runtime of tokio.
    ///
    /// # Errors
    /// An address that cannot be read.
    pub fn new(options: LedgerOptions, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        let pool = database::pool(&options)?;
        let inner = Inner { options, clock, pool: Mutex::new(Some(pool)), ready: OnceCell::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens the database if that was not done yet: checks the file of SQLite, makes tables or brings them up to date.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; [`LedgerError::Schema`]: what waiting does not mend.
    pub async fn ready(&self) -> Result<&Opened, LedgerError> {
        self.inner.ready.get_or_try_init(|| self.prepare()).await
    }

    /// Which database it is.
    pub fn backend(&self) -> &Backend {
        &self.inner.options.backend
    }

    /// What opening found; none before the database answered for the first time.
    pub fn opened(&self) -> Option<&Opened> {
        self.inner.ready.get()
    }

    /// Asks the database.
    pub async fn health(&self) -> Health {
        let asked = match self.pool().await {
            Ok(pool) => database::ping(&pool)
                .await
                .map_err(|error| LedgerError::of("ask the ledger", "ledger", &[], error)),
            Err(error) => Err(error),
        };
        let opened = self.opened().cloned();
        let aside = opened.as_ref().and_then(|opened| opened.set_aside.as_ref()).map(|(file, reason)| {
            format!("a damaged ledger was set aside as {} ({reason}); a new one was begun", file.display())
        });
        let reason = asked.as_ref().err().map(ToString::to_string).or(aside);
        Health { backend: self.backend().name(), available: asked.is_ok(), reason, opened }
    }

    /// A copy of everything as it is at one moment, in a new file; SQLite only.
    ///
    /// # Errors
    /// The file exists or cannot be written; [`LedgerError::Refused`] for PostgreSQL, which has tools of its own (`pg_dump`).
    pub async fn copy_to(&self, file: &Path) -> Result<(), LedgerError> {
        let pool = self.pool().await?;
        match self.backend() {
            Backend::Sqlite(_) => database::copy_to(&pool, file).await,
            Backend::Postgres { .. } => Err(LedgerError::Refused {
                entity: "ledger",
                reason: "a PostgreSQL database is copied by pg_dump".to_owned(),
            }),
        }
    }

    /// Waits for calls under way, closes all connections. Later calls fail.
    pub async fn close(&self) {
        let pool = self.lock().take();
        if let Some(pool) = pool {
            pool.close().await;
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.wall()
    }

    /// The pool, once the tables are there.
    pub(crate) async fn pool(&self) -> Result<AnyPool, LedgerError> {
        self.ready().await?;
        self.current_pool()
    }

    fn current_pool(&self) -> Result<AnyPool, LedgerError> {
        self.lock().clone().ok_or_else(|| LedgerError::Unavailable { reason: "it was closed".to_owned() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<AnyPool>> {
        // Nothing that can panic runs under it.
        self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self) -> Pin<Box<dyn Future<Output = Result<Opened, LedgerError>> + Send + '_>> {
        Box::pin(self.prepared())
    }

    async fn prepared(&self) -> Result<Opened, LedgerError> {
        // Closed handles stay closed.
        self.current_pool()?;
        let options = &self.inner.options;
        let mut set_aside = None;
        if let Backend::Sqlite(file) = self.backend() {
            let checked = match database::connect(options).await {
                Ok(mut connection) => {
                    let checked = database::check_file(&mut connection, file).await;
                    // Its end may move the log into the file, which is no matter if the file is sound.
                    let _closed = connection.close().await;
                    checked
                }
                Err(error) => Err(error),
            };
            match checked {
                Ok(()) => {}
                Err(LedgerError::Damaged { file, reason }) => {
                    let aside = self.begin_anew(&file).await?;
                    tracing::error!(
                        file = %file.display(), aside = %aside.display(), reason,
                        "the ledger is damaged and was set aside; a new one was begun: restore a backup of it, or recover it with sqlite3"
                    );
                    set_aside = Some((aside, reason));
                }
                Err(other) => return Err(other),
            }
        }
        let mut connection = database::connect(options).await?;
        let brought = migrations::of(self.backend())
            .run_direct(None, &mut connection, false)
            .await
            .map_err(migrations::explain);
        let _closed = connection.close().await;
        brought?;
        Ok(Opened { schema_version: migrations::latest(), set_aside })
    }

    /// Closes what holds the damaged file, renames it, and makes a new pool.
    async fn begin_anew(&self, file: &Path) -> Result<PathBuf, LedgerError> {
        let old = self.lock().take();
        if let Some(old) = old {
            old.close().await;
        }
        let fresh = database::pool(&self.inner.options)?;
        let aside = database::set_aside(file, self.now().0);
        *self.lock() = Some(fresh);
        aside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Actor;
    use crate::schema::{Annotation, Configuration};
    use crate::{Expected, Listing};

    /// A handler of a server is spawned, so every call must be one that can move between threads.
    fn can_be_spawned<F: Future + Send>(_: F) {}

    #[expect(dead_code, reason = "it is enough that it compiles")]
    fn calls(ledger: &Ledger, actor: &Actor, record: Annotation) {
        can_be_spawned(ledger.ready());
        can_be_spawned(ledger.health());
        can_be_spawned(ledger.copy_to(Path::new("")));
        can_be_spawned(ledger.get::<Annotation>(1));
        can_be_spawned(ledger.list::<Annotation>(&Listing::all()));
        can_be_spawned(ledger.history::<Configuration>(1));
        can_be_spawned(ledger.insert(record.clone(), actor));
        can_be_spawned(ledger.put(record.clone(), actor));
        can_be_spawned(ledger.update(1, Expected::Any, record, actor));
        can_be_spawned(ledger.remove::<Annotation>(1, Expected::Any, actor));
        can_be_spawned(ledger.activate_configuration("", 1, actor));
    }
}
