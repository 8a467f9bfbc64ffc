//! The tables, and how those of an older version become those of this one.
//!
//! Files of a released version are never edited: the database remembers their checksums, and a file that differs is refused.
//! Each runs in a transaction of its own.

use crate::error::LedgerError;
use crate::options::Backend;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

/// Version, what it does, SQLite, PostgreSQL.
const ALL: &[(i64, &str, &str, &str)] = &[(
    1,
    "initial",
    include_str!("sql/sqlite/0001_initial.sql"),
    include_str!("sql/postgres/0001_initial.sql"),
)];

/// Version of the tables that this program makes.
pub(crate) fn latest() -> i64 {
    ALL.last().map_or(0, |last| last.0)
}

/// The migrations of `backend`.
pub(crate) fn of(backend: &Backend) -> Migrator {
    let migrations = ALL.iter().map(|&(version, description, sqlite, postgres)| {
        let sql = match backend {
            Backend::Sqlite(_) => sqlite,
            Backend::Postgres { .. } => postgres,
        };
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// What a migration said, for the owner.
pub(crate) fn explain(error: MigrateError) -> LedgerError {
    let reason = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return LedgerError::of("bring the tables up to date", "ledger", &[], error);
        }
        MigrateError::VersionMissing(version) => format!(
            "they have version {version}, this program knows {}: start the newer program again, or another ledger",
            latest()
        ),
        MigrateError::VersionMismatch(version) => {
            format!("version {version} was made by other statements than those of this program")
        }
        other => other.to_string(),
    };
    LedgerError::Schema { reason }
}
