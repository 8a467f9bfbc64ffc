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
use std::time::Duration;
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
    /// What opening failed with last.
    failed: Mutex<Option<String>>,
    /// Damage of the file that a call met first.
    damaged: Mutex<Option<String>>,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Version of the tables.
    pub schema_version: i64,
    /// Where the damaged file lies now, and what was wrong with it.
    pub set_aside: Option<(PathBuf, String)>,
    /// What is wrong with records, in a file that is sound.
    pub remark: Option<String>,
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
    /// Damage of the file that a call met since it was opened: what lies there can be neither read nor changed.
    pub damaged: Option<String>,
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
        let inner = Inner {
            options,
            clock,
            pool: Mutex::new(Some(pool)),
            ready: OnceCell::new(),
            failed: Mutex::new(None),
            damaged: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens the database if that was not done yet: checks the file of SQLite, makes tables or brings them up to date.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; [`LedgerError::Schema`]: what waiting does not mend.
    pub async fn ready(&self) -> Result<&Opened, LedgerError> {
        self.inner.ready.get_or_try_init(|| self.prepare()).await
    }

    /// [`Ledger::ready`] for a caller that has no time: it waits as long as for a connection. An opening that another began goes
    /// on; one that this caller began is given up with it, and the next caller begins anew.
    async fn ready_soon(&self) -> Result<&Opened, LedgerError> {
        let opening = tokio::time::timeout(self.inner.options.wait, self.ready()).await;
        opening.unwrap_or_else(|_| Err(LedgerError::Unavailable { reason: self.not_open() }))
    }

    fn not_open(&self) -> String {
        lock(&self.inner.failed).clone().unwrap_or_else(|| "it is being opened".to_owned())
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
        // Whoever looks after the machine is told at once, also while an opening hangs.
        let asked = match (self.opened(), self.current_pool()) {
            (None, _) => Err(self.not_open()),
            (_, Err(error)) => Err(error.to_string()),
            (Some(_), Ok(pool)) => match tokio::time::timeout(PROBE, database::ping(&pool)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("it does not answer within {} s", PROBE.as_secs())),
            },
        };
        // Closed handles stay closed.
        if let (Err(_), Some(_), Ok(_), Backend::Sqlite(_)) =
            (&asked, self.opened(), self.current_pool(), self.backend())
        {
            self.look_closer().await;
        }
        let opened = self.opened().cloned();
        let aside = opened.as_ref().and_then(|opened| opened.set_aside.as_ref()).map(|(file, reason)| {
            format!("a damaged ledger was set aside as {} ({reason}); a new one was begun", file.display())
        });
        let remark = opened.as_ref().and_then(|opened| opened.remark.clone());
        let damaged = lock(&self.inner.damaged).clone();
        let told = damaged.as_ref().map(|reason| {
            format!("the ledger is damaged ({reason}): stop wattlog and put a copy in its place, or recover it; the next start sets it aside")
        });
        let reason = told.or(asked.as_ref().err().cloned()).or(aside).or(remark);
        Health { backend: self.backend().name(), available: asked.is_ok(), reason, damaged, opened }
    }

    /// Makes a call, and remembers the damage that it meets.
    pub(crate) async fn noted<T>(
        &self,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let done = call.await;
        let (Err(LedgerError::Database { action, source }), Backend::Sqlite(file)) = (&done, self.backend())
        else {
            return done;
        };
        if !database::is_damage(source) {
            return done;
        }
        let reason = format!("{action}: {source}");
        self.remember(file, &reason);
        Err(LedgerError::Damaged { file: file.clone(), reason })
    }

    fn remember(&self, file: &Path, reason: &str) {
        let mut damaged = lock(&self.inner.damaged);
        if damaged.is_none() {
            tracing::error!(file = %file.display(), reason, "the ledger is damaged: put a copy in its place, or recover it with sqlite3");
            *damaged = Some(reason.to_owned());
        }
    }

    /// Why the pool gets no connection to a file: it tries again for as long as it may, and then does not say what was wrong.
    async fn look_closer(&self) {
        let connecting = tokio::time::timeout(PROBE, database::connect(&self.inner.options));
        match connecting.await {
            Ok(Err(LedgerError::Damaged { file, reason })) => self.remember(&file, &reason),
            Ok(Ok(connection)) => drop(connection.close().await),
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// A copy of everything as it is at one moment, in a new file; SQLite only.
    ///
    /// # Errors
    /// The file exists or cannot be written; [`LedgerError::Refused`] for PostgreSQL, which has tools of its own (`pg_dump`).
    pub async fn copy_to(&self, file: &Path) -> Result<(), LedgerError> {
        self.noted(async {
            let pool = self.pool().await?;
            match self.backend() {
                Backend::Sqlite(_) => database::copy_to(&pool, file).await,
                Backend::Postgres { .. } => Err(LedgerError::Refused {
                    entity: "ledger",
                    reason: "a PostgreSQL database is copied by pg_dump".to_owned(),
                }),
            }
        })
        .await
    }

    /// Waits for calls under way, closes all connections. Later calls fail.
    pub async fn close(&self) {
        let pool = lock(&self.inner.pool).take();
        if let Some(pool) = pool
            && tokio::time::timeout(self.inner.options.wait, pool.close()).await.is_err()
        {
            tracing::warn!("a connection of the ledger did not end in time and is left behind");
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.wall()
    }

    /// The pool, once the tables are there.
    pub(crate) async fn pool(&self) -> Result<AnyPool, LedgerError> {
        self.ready_soon().await?;
        self.current_pool()
    }

    fn current_pool(&self) -> Result<AnyPool, LedgerError> {
        lock(&self.inner.pool)
            .clone()
            .ok_or_else(|| LedgerError::Unavailable { reason: "it was closed".to_owned() })
    }

    fn prepare(&self) -> Pin<Box<dyn Future<Output = Result<Opened, LedgerError>> + Send + '_>> {
        Box::pin(async {
            let limit = MOST_OPENING.max(self.inner.options.wait);
            let opened = tokio::time::timeout(limit, self.prepared()).await;
            let opened = opened.unwrap_or_else(|_| {
                Err(LedgerError::Unavailable {
                    reason: format!("opening it took more than {} s", limit.as_secs()),
                })
            });
            *lock(&self.inner.failed) = opened.as_ref().err().map(ToString::to_string);
            opened
        })
    }

    async fn prepared(&self) -> Result<Opened, LedgerError> {
        // Closed handles stay closed.
        self.current_pool()?;
        let options = &self.inner.options;
        let (mut set_aside, mut remark) = (None, None);
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
                Ok(found) => remark = found,
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
        Ok(Opened { schema_version: migrations::latest(), set_aside, remark })
    }

    /// Closes what holds the damaged file, renames it, and makes a new pool.
    async fn begin_anew(&self, file: &Path) -> Result<PathBuf, LedgerError> {
        let fresh = database::pool(&self.inner.options)?;
        let Some(old) = lock(&self.inner.pool).replace(fresh) else {
            lock(&self.inner.pool).take();
            return Err(LedgerError::Unavailable { reason: "it was closed".to_owned() });
        };
        // The new one connects to nothing before the first call, which waits for this.
        old.close().await;
        database::set_aside(file, self.now().0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that can panic runs under them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a probe waits for an answer.
const PROBE: Duration = Duration::from_secs(2);
/// Longest opening: the check of a large file, or migrations that wait for another program's.
const MOST_OPENING: Duration = Duration::from_secs(300);

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
        can_be_spawned(ledger.history::<Configuration>(1, 0));
        can_be_spawned(ledger.insert(record.clone(), actor));
        can_be_spawned(ledger.put(record.clone(), actor));
        can_be_spawned(ledger.update(1, Expected::Any, record, actor));
        can_be_spawned(ledger.remove::<Annotation>(1, Expected::Any, actor));
        can_be_spawned(ledger.activate_configuration("", 1, actor));
    }
}
