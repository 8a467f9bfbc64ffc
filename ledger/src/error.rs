//! Why the ledger did not do what was asked.
//!
//! Promise: after any of these the ledger is as it was before the call, but for a change whose commit got no answer because the
//! connection ended: nobody can say then, and telling it again finds out.

use crate::record::Invalid;
use sqlx::error::{DatabaseError, ErrorKind};
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database does not answer, or is busy for longer than it may be. The same call can work later.
    #[error("the ledger does not answer: {reason}")]
    Unavailable {
        /// What the database or the network said.
        reason: String,
    },
    /// Its disk is full.
    #[error("the disk of the ledger is full: {reason}")]
    NoRoom {
        /// What the database said.
        reason: String,
    },
    /// Somebody else changed the record since it was read.
    #[error("{entity} {id} has version {found}, not {expected}: read it again and repeat the change")]
    Conflict {
        /// Name of the table.
        entity: &'static str,
        /// Number of the record.
        id: i64,
        /// The version that the caller saw.
        expected: i64,
        /// The version there is.
        found: i64,
    },
    /// Another record has what only one may have.
    #[error("{entity}: there is another one with the same {key}")]
    Exists {
        /// Name of the table.
        entity: &'static str,
        /// Columns that name a record.
        key: String,
    },
    /// No such record.
    #[error("there is no {entity} {id}")]
    Missing {
        /// Name of the table.
        entity: &'static str,
        /// Number, or the values that name it.
        id: String,
    },
    /// The record cannot be stored as it is.
    #[error("{entity}: {invalid}")]
    Invalid {
        /// Name of the table.
        entity: &'static str,
        /// Which field and why.
        invalid: Invalid,
    },
    /// What was asked takes more than it may.
    #[error("{what}: more than {limit} bytes")]
    TooLarge {
        /// What takes so much.
        what: &'static str,
        /// How much it may take.
        limit: usize,
    },
    /// A constraint of the schema refused it.
    #[error("{entity}: refused by the schema: {reason}")]
    Refused {
        /// Name of the table.
        entity: &'static str,
        /// The constraint, as the database names it.
        reason: String,
    },
    /// The tables are those of a newer program, or were changed by hand.
    #[error("the tables of the ledger are not those of this version: {reason}")]
    Schema {
        /// Which migration differs and what to do.
        reason: String,
    },
    /// The file is damaged.
    #[error("{file}: {reason}", file = file.display())]
    Damaged {
        /// The file of SQLite.
        file: PathBuf,
        /// What the check found.
        reason: String,
    },
    /// A file of the ledger could not be made, moved or read.
    #[error("{action} {file}: {source}", file = file.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        file: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Anything else that the database says.
    #[error("{action}: {source}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
}

impl LedgerError {
    /// Sorts what the database said about `entity`.
    pub(crate) fn of(action: &'static str, entity: &'static str, key: &[&str], error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => {
                Self::Unavailable { reason: error.to_string() }
            }
            E::Database(ref told) => match Self::told(told.as_ref(), entity, key) {
                Some(known) => known,
                None => Self::Database { action, source: error },
            },
            _ => Self::Database { action, source: error },
        }
    }

    fn told(told: &dyn DatabaseError, entity: &'static str, key: &[&str]) -> Option<Self> {
        let reason = told.message().to_owned();
        // Of the trigger in SQLite and of the two constraints in PostgreSQL.
        if reason.contains(APART) || told.constraint().is_some_and(|name| name.starts_with(APART)) {
            let reason = "another tariff of this direction is valid at the same time".to_owned();
            return Some(Self::Invalid { entity, invalid: Invalid { field: "valid_from", reason } });
        }
        match told.kind() {
            ErrorKind::UniqueViolation => {
                return Some(Self::Exists { entity, key: key.join(" and ") });
            }
            ErrorKind::ForeignKeyViolation
            | ErrorKind::NotNullViolation
            | ErrorKind::CheckViolation
            | ErrorKind::ExclusionViolation => {
                let reason = told.constraint().map_or(reason, str::to_owned);
                return Some(Self::Refused { entity, reason });
            }
            _ => {}
        }
        let code = told.code()?;
        // Classes of PostgreSQL have five characters (appendix A of its manual); also: who may not log in, and a database that is
        // not there yet.
        if code.len() == 5
            && code.parse::<u32>().map_or(true, |number| number >= 8000 || code.starts_with('0'))
        {
            let passes = ["08", "28", "3D", "40", "53", "57"].iter().any(|class| code.starts_with(class));
            return match code.as_ref() {
                "53100" => Some(Self::NoRoom { reason }),
                _ => passes.then_some(Self::Unavailable { reason }),
            };
        }
        // SQLite gives extended codes, whose last byte is the primary one (sqlite.org/rescode.html): busy, locked, read-only,
        // failing disk, full, cannot open, protocol.
        match code.parse::<u32>().ok()? & 0xff {
            13 => Some(Self::NoRoom { reason }),
            5 | 6 | 8 | 10 | 14 | 15 => Some(Self::Unavailable { reason }),
            _ => None,
        }
    }

    /// True if the same call can work later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoRoom { .. })
    }
}

/// Name of the constraint that keeps tariffs apart.
const APART: &str = "tariffs_apart";
