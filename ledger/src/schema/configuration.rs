//! Configurations as they were, are, and who changed them.
//!
//! Invariants
//! 1. Of each name at most one revision is active.
//! 2. Data and label of a revision never change; saving makes a new one, numbered from 1 without gaps.

use super::check_name;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::listing::Listing;
use crate::record::{Actor, Invalid, Stored, Value as Column, checked_values, record};
use crate::store::{Expected, bind, failed};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row as _;

record! {
    /// One revision of a named configuration.
    pub struct Configuration in "configurations"
    key ["name", "revision"] time "created_ns" filters ["name", "revision", "active"] history true
    {
        /// What it configures.
        name: String => "name",
        /// Number among those of its name.
        revision: i64 => "revision",
        /// What its owner calls this version, as in `1.4`.
        #[serde(default)] label: Option<String> => "label",
        /// Any JSON.
        data: Value => "data",
        /// In force.
        active: bool => "active",
        /// For people.
        #[serde(default)] note: String => "note",
    }
}

impl Configuration {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        if self.revision < 1 {
            return Err(Invalid::new("revision", "at least 1"));
        }
        Ok(())
    }
}

/// Who saves or puts in force a configuration of this name waits for others that do.
fn lock_of(name: &str) -> String {
    format!("configurations {name}")
}

/// How two revisions differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Revision that is changed.
    pub from: i64,
    /// Revision it becomes.
    pub to: i64,
    /// Steps that make one of the other (RFC 6902).
    pub patch: json_patch::Patch,
}

impl Ledger {
    /// Saves a new revision and puts it in force; the same label and data as in the one in force make none, but another note is put to it.
    /// No note leaves that as it is.
    ///
    /// # Errors
    /// As [`Ledger::insert`]; [`LedgerError::Conflict`] if `expected` names a revision and another one is in force.
    pub async fn save_configuration(
        &self,
        name: &str,
        label: Option<String>,
        data: Value,
        note: Option<String>,
        expected: Expected,
        actor: &Actor,
    ) -> Result<Stored<Configuration>, LedgerError> {
        self.noted(async {
        let is_told = note.is_some();
        let note = note.unwrap_or_default();
        let mut fresh = Configuration { name: name.to_owned(), revision: 1, label, data, active: true, note };
        checked_values(&fresh)?;
        let mut writing = self.write(actor).await?;
        writing.lock(&lock_of(name)).await?;
        let sql =
            "SELECT MAX(revision), MAX(CASE WHEN active = 1 THEN id END) FROM configurations WHERE name = $1";
        let row = bind(sql, &[Column::Text(Some(name.to_owned()))]).fetch_one(writing.connection()).await;
        let read =
            row.and_then(|row| Ok((row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?)));
        let (last, active) = read.map_err(|error| failed::<Configuration>("read", error))?;
        let active = match active {
            Some(id) => Some(writing.expect::<Configuration>(id, Expected::Any).await?),
            None => None,
        };
        if let Expected::Version(seen) = expected {
            let found = active.as_ref().map_or(0, |active| active.record.revision);
            if found != seen {
                let id = active.map_or(0, |active| active.id);
                return Err(LedgerError::Conflict { entity: "configurations", id, expected: seen, found });
            }
        }
        if let Some(active) = active {
            if active.record.data == fresh.data && active.record.label == fresh.label {
                if !is_told || active.record.note == fresh.note {
                    return Ok(active);
                }
                fresh.revision = active.record.revision;
                let values = checked_values(&fresh)?;
                let outcome = writing.change(active, fresh, &values).await?;
                return writing.commit(outcome.stored).await;
            }
            let retired = Configuration { active: false, ..active.record.clone() };
            let values = checked_values(&retired)?;
            writing.change(active, retired, &values).await?;
        }
        fresh.revision = last.unwrap_or(0) + 1;
        let values = checked_values(&fresh)?;
        let outcome = writing.put(fresh, &values).await?;
        writing.commit(outcome.stored).await
        })
        .await
    }

    /// Puts an earlier revision in force again.
    ///
    /// # Errors
    /// [`LedgerError::Missing`]; the database.
    pub async fn activate_configuration(
        &self,
        name: &str,
        revision: i64,
        actor: &Actor,
    ) -> Result<Stored<Configuration>, LedgerError> {
        self.noted(async {
        let mut writing = self.write(actor).await?;
        writing.lock(&lock_of(name)).await?;
        // Read by the same connection: one that waits for another while others wait for it would wait for ever.
        let sql = "SELECT MAX(CASE WHEN revision = $2 THEN id END), MAX(CASE WHEN active = 1 THEN id END) \
                   FROM configurations WHERE name = $1";
        let bound = [Column::Text(Some(name.to_owned())), Column::Int(Some(revision))];
        let row = bind(sql, &bound).fetch_one(writing.connection()).await;
        let read =
            row.and_then(|row| Ok((row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?)));
        let (wanted, current) = read.map_err(|error| failed::<Configuration>("read", error))?;
        let missing = || LedgerError::Missing { entity: "configurations", id: format!("{name} {revision}") };
        let wanted = wanted.ok_or_else(missing)?;
        if let Some(current) = current.filter(|current| *current != wanted) {
            let current = writing.expect::<Configuration>(current, Expected::Any).await?;
            let retired = Configuration { active: false, ..current.record.clone() };
            let values = checked_values(&retired)?;
            writing.change(current, retired, &values).await?;
        }
        let wanted = writing.expect::<Configuration>(wanted, Expected::Any).await?;
        let active = Configuration { active: true, ..wanted.record.clone() };
        let values = checked_values(&active)?;
        let outcome = writing.change(wanted, active, &values).await?;
        writing.commit(outcome.stored).await
        })
        .await
    }

    /// A revision of `name`; none: the one in force.
    ///
    /// # Errors
    /// The database.
    pub async fn configuration(
        &self,
        name: &str,
        revision: Option<i64>,
    ) -> Result<Option<Stored<Configuration>>, LedgerError> {
        let listing = Listing { limit: 1, ..Listing::all() }.with_text("name", name);
        let listing = match revision {
            Some(revision) => listing.with("revision", Column::Int(Some(revision))),
            None => listing.with("active", Column::Int(Some(1))),
        };
        Ok(self.list::<Configuration>(&listing).await?.records.pop())
    }

    /// How revision `to` differs from revision `from`.
    ///
    /// # Errors
    /// [`LedgerError::Missing`]; [`LedgerError::TooLarge`]: data whose every step would name a long path; the database.
    pub async fn configuration_difference(
        &self,
        name: &str,
        from: i64,
        to: i64,
    ) -> Result<Difference, LedgerError> {
        let mut data = Vec::with_capacity(2);
        for revision in [from, to] {
            let found = self.configuration(name, Some(revision)).await?;
            let missing =
                || LedgerError::Missing { entity: "configurations", id: format!("{name} {revision}") };
            data.push(found.ok_or_else(missing)?.record.data);
        }
        // Each step names its whole path, and there may be one for each part.
        let mut left = MAX_PATH_BYTES;
        if !data.iter().all(|data| take_paths(data, 0, &mut left)) {
            return Err(LedgerError::TooLarge { what: "the difference", limit: MAX_PATH_BYTES });
        }
        let patch = tokio::task::spawn_blocking(move || json_patch::diff(&data[0], &data[1])).await;
        let patch = patch.map_err(|error| LedgerError::Unavailable { reason: error.to_string() })?;
        Ok(Difference { from, to, patch })
    }
}

/// Most bytes of the paths of all parts of two revisions.
const MAX_PATH_BYTES: usize = 8 << 20;

/// Takes the length of the path of each part from `left`; false if that is not enough.
fn take_paths(data: &Value, path: usize, left: &mut usize) -> bool {
    let Some(rest) = left.checked_sub(path + 1) else { return false };
    *left = rest;
    match data {
        // An index has up to seven digits in a megabyte.
        Value::Array(items) => items.iter().all(|item| take_paths(item, path + 8, left)),
        // Two characters for one that has to be escaped.
        Value::Object(map) => map.iter().all(|(key, item)| take_paths(item, path + 1 + key.len() * 2, left)),
        _ => true,
    }
}
