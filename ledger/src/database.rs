//! The two databases behind one pool: how to connect, to begin a change, to check a file.
//!
//! What differs between them stands here and in `sql/`; everything else is said once, in words that both know.

use crate::error::LedgerError;
use crate::options::{Backend, LedgerOptions};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _, Row as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time that PostgreSQL may take for one statement.
const STATEMENT_TIMEOUT: &str = "30s";

/// A pool that has not connected yet.
pub(crate) fn pool(options: &LedgerOptions) -> Result<AnyPool, LedgerError> {
    sqlx::any::install_default_drivers();
    let connect = connect_options(&options.backend)?;
    let mut pool = AnyPoolOptions::new()
        .max_connections(options.max_connections.max(1))
        .acquire_timeout(options.wait)
        .test_before_acquire(true);
    if let Some(settings) = settings(options) {
        // A connection of SQLite is a thread and 2 MB of cache; one that rests costs more than it saves.
        pool = pool.idle_timeout(Duration::from_secs(60)).after_connect(move |connection, _| {
            let settings = sqlx::raw_sql(sqlx::AssertSqlSafe(settings.clone()));
            Box::pin(async move { connection.execute(settings).await.map(|_| ()) })
        });
    }
    Ok(pool.connect_lazy_with(connect))
}

/// One connection beside the pool, which would try for long what cannot succeed.
pub(crate) async fn connect(options: &LedgerOptions) -> Result<AnyConnection, LedgerError> {
    let connect = connect_options(&options.backend)?;
    let connecting = async {
        let mut connection = AnyConnection::connect_with(&connect).await?;
        if let Some(settings) = settings(options) {
            connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
        }
        Ok(connection)
    };
    let connected =
        tokio::time::timeout(options.wait, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    connected.map_err(|error| match (&options.backend, is_damage(&error)) {
        (Backend::Sqlite(file), true) => {
            LedgerError::Damaged { file: file.clone(), reason: error.to_string() }
        }
        _ => LedgerError::of("open the ledger", "ledger", &[], error),
    })
}

/// What each connection of SQLite is told. FULL: the log is synced at each commit, so an answer survives a power cut.
fn settings(options: &LedgerOptions) -> Option<String> {
    let Backend::Sqlite(_) = options.backend else { return None };
    Some(format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        options.wait.as_millis()
    ))
}

fn connect_options(backend: &Backend) -> Result<AnyConnectOptions, LedgerError> {
    let wrong = |error: sqlx::Error| LedgerError::Database {
        action: "read the address of the ledger",
        source: error,
    };
    let options = match backend {
        Backend::Sqlite(file) => {
            // The URL is decoded once more, and its writer leaves a percent sign as it is; a path must be absolute in it.
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let file = file.to_string_lossy().replace('%', "%25");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).create_if_missing(true);
            AnyConnectOptions::from_url(&options.to_url_lossy())
        }
        Backend::Postgres { url, password } => url.parse().map(|mut options: AnyConnectOptions| {
            // Through the options of PostgreSQL and back, a URL would lose its certificates.
            let url = &mut options.database_url;
            url.query_pairs_mut()
                .append_pair("application_name", "wattlog")
                .append_pair("options[statement_timeout]", STATEMENT_TIMEOUT);
            if let Some(password) = password {
                // Only a URL without a host has no place for one, and that does not parse as ours.
                let _set = url.set_password(Some(password));
            }
            options
        }),
    };
    let options = options.map_err(wrong)?;
    // Our own log tells what failed, and where.
    Ok(options.disable_statement_logging())
}

/// How a transaction that changes something begins. SQLite takes its one place for writers at once: one that reads first and
/// writes then would be refused if another wrote in between.
pub(crate) fn begin(backend: &Backend) -> &'static str {
    match backend {
        Backend::Sqlite(_) => "BEGIN IMMEDIATE",
        Backend::Postgres { .. } => "BEGIN",
    }
}

/// What follows a SELECT whose row is about to be changed.
pub(crate) fn for_update(backend: &Backend) -> &'static str {
    match backend {
        Backend::Sqlite(_) => "",
        Backend::Postgres { .. } => " FOR UPDATE",
    }
}

/// Makes others wait that say the same word, until the transaction ends. In SQLite they wait already.
pub(crate) async fn lock(
    backend: &Backend,
    connection: &mut AnyConnection,
    word: &str,
) -> Result<(), sqlx::Error> {
    if let Backend::Postgres { .. } = backend {
        let sql = "SELECT pg_advisory_xact_lock(hashtext($1))::text";
        sqlx::query(sql).bind(word.to_owned()).execute(connection).await?;
    }
    Ok(())
}

/// Reads the whole file and compares its parts; gives what is wrong with the records alone, which is no damage of the file.
///
/// # Errors
/// [`LedgerError::Damaged`] with what was found first; other errors if the file cannot be read for now.
pub(crate) async fn check_file(
    connection: &mut AnyConnection,
    file: &Path,
) -> Result<Option<String>, LedgerError> {
    let found = async {
        let row = connection.fetch_one("PRAGMA integrity_check(1)").await?;
        let said: String = row.try_get(0)?;
        if said != "ok" {
            return Ok((Some(said), None));
        }
        let orphan = connection.fetch_optional("PRAGMA foreign_key_check").await?;
        let orphan = orphan.map(|row| row.try_get::<String, _>(0)).transpose()?;
        let remark = |table| {
            format!("a record of {table} refers to one that is not there: the tables were changed by hand")
        };
        Ok((None, orphan.map(remark)))
    };
    match found.await {
        Ok((None, remark)) => Ok(remark),
        Ok((Some(reason), _)) => Err(LedgerError::Damaged { file: file.to_owned(), reason }),
        Err(error) if is_damage(&error) => {
            Err(LedgerError::Damaged { file: file.to_owned(), reason: error.to_string() })
        }
        Err(error) => Err(LedgerError::of("check the file", "ledger", &[], error)),
    }
}

/// SQLITE_CORRUPT (11) with its extensions, SQLITE_NOTADB (26).
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

/// Renames the file and the logs beside it, so that a new one can be made; gives the new name of the file.
#[expect(clippy::disallowed_methods, reason = "the file is SQLite's, not one of a store")]
pub(crate) fn set_aside(file: &Path, now_ns: i64) -> Result<PathBuf, LedgerError> {
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let damaged = format!(".damaged-{now_ns}");
    // The logs first: without them the file is still found damaged at the next start, the other way round it is not.
    for log in ["-wal", "-shm", ""] {
        let (from, to) = (beside(log), beside(&format!("{damaged}{log}")));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !log.is_empty() => {}
            Err(source) => return Err(LedgerError::File { action: "set aside", file: from, source }),
        }
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| LedgerError::File { action: "sync", file: folder.to_owned(), source })?;
    Ok(beside(&damaged))
}

/// A copy of everything at one moment, while others write; the file must not exist.
///
/// `VACUUM INTO` is what SQLite offers beside its backup calls for this (sqlite.org/lang_vacuum.html): it reads in one
/// transaction, so that no write can fall between two pages.
pub(crate) async fn copy_to(pool: &AnyPool, file: &Path) -> Result<(), LedgerError> {
    let Some(name) = file.to_str() else {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name is not UTF-8");
        return Err(LedgerError::File { action: "copy the ledger to", file: file.to_owned(), source });
    };
    let copied = sqlx::query("VACUUM INTO $1").bind(name.to_owned()).execute(pool).await;
    copied.map_err(|error| LedgerError::of("copy the ledger", "ledger", &[], error))?;
    sync(file).map_err(|source| LedgerError::File { action: "sync", file: file.to_owned(), source })
}

#[expect(clippy::disallowed_methods, reason = "the file is SQLite's, not one of a store")]
fn sync(file: &Path) -> std::io::Result<()> {
    std::fs::File::open(file)?.sync_all()?;
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// True if the database answers.
pub(crate) async fn ping(pool: &AnyPool) -> Result<(), sqlx::Error> {
    pool.acquire().await?.ping().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_of_sqlite_is_synced_before_it_is_answered() {
        // FULL (2) in WAL mode syncs the log at each commit; NORMAL (1), the usual advice, does not.
        let folder = tempfile::tempdir().unwrap();
        let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("l.db")));
        let pool = pool(&options).unwrap();
        let mut direct = connect(&options).await.unwrap();
        let mut pooled = pool.acquire().await.unwrap();
        for connection in [&mut direct, &mut *pooled] {
            for (name, wanted) in [("synchronous", 2_i64), ("foreign_keys", 1), ("busy_timeout", 5000)] {
                let sql = sqlx::AssertSqlSafe(format!("PRAGMA {name}"));
                let row = connection.fetch_one(sql).await.unwrap();
                assert_eq!(row.get::<i64, _>(0), wanted, "{name}");
            }
            let row = connection.fetch_one("PRAGMA journal_mode").await.unwrap();
            assert_eq!(row.get::<String, _>(0), "wal");
        }
    }
}
