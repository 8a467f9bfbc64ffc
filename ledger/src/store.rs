//! Making, changing, removing and reading records of any kind, each change with its history.
//!
//! Invariants
//! 1. A change of a record and its row in `history` are one transaction.
//! 2. A version rises by one with each change, also with the one that removes the record.
//! 3. A change that would alter nothing is none: no version, no history. So telling the same twice is telling it once.

use crate::database;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::listing::{Cursor, Listing, Page};
use crate::options::Backend;
use crate::record::{Actor, COMMON, Changed, Record, Stored, Value, checked_values, key_values, read_stored};
use sqlx::any::{Any, AnyArguments};
use sqlx::query::Query;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, Transaction};
use wattlog_model::Timestamp;

/// Records of the first statement of a page, before their size is known.
const FIRST_CHUNK: usize = 8;

/// How often [`Ledger::put_all`] begins anew because another made one of its records meanwhile.
const PUT_ATTEMPTS: usize = 5;

/// What must be true of a record for it to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// This is still its version.
    Version(i64),
    /// Whatever its version is.
    Any,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Made it.
    Created,
    /// Changed it.
    Changed,
    /// Removed it.
    Removed,
    /// It was already so.
    Unchanged,
}

impl Action {
    /// The word in `history`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A record after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome<R> {
    /// What was done.
    pub action: Action,
    /// The record as it is now.
    pub stored: Stored<R>,
}

/// One transaction that changes something, and who makes it.
pub(crate) struct Writing {
    backend: Backend,
    transaction: Transaction<'static, Any>,
    actor: Actor,
    now: Timestamp,
}

impl Ledger {
    /// Makes a record.
    ///
    /// # Errors
    /// [`LedgerError::Exists`] if there is one with the same key; [`LedgerError::Invalid`], [`LedgerError::Refused`]; the database.
    pub async fn insert<R: Record>(&self, record: R, actor: &Actor) -> Result<Stored<R>, LedgerError> {
        self.noted(async {
            let values = checked_values(&record)?;
            let mut writing = self.write(actor).await?;
            let stored = writing.create(record, &values).await?;
            writing.commit(stored).await
        })
        .await
    }

    /// Makes a record, or changes the one with the same key.
    ///
    /// # Errors
    /// As [`Ledger::insert`], but for [`LedgerError::Exists`].
    pub async fn put<R: Record>(&self, record: R, actor: &Actor) -> Result<Outcome<R>, LedgerError> {
        let mut outcomes = self.put_all(vec![record], actor).await?;
        // One in, one out.
        outcomes.pop().ok_or(LedgerError::Missing { entity: R::TABLE, id: "just stored".to_owned() })
    }

    /// [`Ledger::put`] for many, all or none; the outcomes stand in the order of the records.
    ///
    /// # Errors
    /// As [`Ledger::put`], for the first record that fails.
    pub async fn put_all<R: Record>(
        &self,
        records: Vec<R>,
        actor: &Actor,
    ) -> Result<Vec<Outcome<R>>, LedgerError> {
        self.noted(async {
            let checked: Vec<(R, Vec<Value>)> = records
                .into_iter()
                .map(|record| checked_values(&record).map(|values| (record, values)))
                .collect::<Result<_, _>>()?;
            let mut attempts = 1;
            loop {
                match self.put_checked(&checked, actor).await {
                    // Somebody made it between the look and the storing: the next look finds it.
                    Err(LedgerError::Exists { .. }) if attempts < PUT_ATTEMPTS && !R::KEY.is_empty() => {
                        attempts += 1;
                    }
                    done => return done,
                }
            }
        })
        .await
    }

    async fn put_checked<R: Record>(
        &self,
        records: &[(R, Vec<Value>)],
        actor: &Actor,
    ) -> Result<Vec<Outcome<R>>, LedgerError> {
        let mut writing = self.write(actor).await?;
        let mut outcomes = Vec::with_capacity(records.len());
        for (record, values) in records {
            outcomes.push(writing.put(record.clone(), values).await?);
        }
        writing.commit(outcomes).await
    }

    /// Puts `record` in the place of number `id`.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] if somebody changed it since; [`LedgerError::Missing`]; as [`Ledger::insert`].
    pub async fn update<R: Record>(
        &self,
        id: i64,
        expected: Expected,
        record: R,
        actor: &Actor,
    ) -> Result<Outcome<R>, LedgerError> {
        self.noted(async {
            let values = checked_values(&record)?;
            let mut writing = self.write(actor).await?;
            let old = writing.expect::<R>(id, expected).await?;
            let outcome = writing.change(old, record, &values).await?;
            writing.commit(outcome).await
        })
        .await
    }

    /// Takes number `id` away; its history stays.
    ///
    /// # Errors
    /// As [`Ledger::update`].
    pub async fn remove<R: Record>(
        &self,
        id: i64,
        expected: Expected,
        actor: &Actor,
    ) -> Result<Stored<R>, LedgerError> {
        self.noted(async {
            let mut writing = self.write(actor).await?;
            let old = writing.expect::<R>(id, expected).await?;
            writing.remove(&old).await?;
            writing.commit(old).await
        })
        .await
    }

    /// [`Ledger::remove`] for many, each by its number and the version that was seen: all or none.
    ///
    /// # Errors
    /// As [`Ledger::remove`], for the first record that fails.
    pub async fn remove_all<R: Record>(&self, seen: &[(i64, i64)], actor: &Actor) -> Result<(), LedgerError> {
        if seen.is_empty() {
            return Ok(());
        }
        self.noted(async {
            let mut writing = self.write(actor).await?;
            for (id, version) in seen {
                let old = writing.expect::<R>(*id, Expected::Version(*version)).await?;
                writing.remove(&old).await?;
            }
            writing.commit(()).await
        })
        .await
    }

    /// Number `id`, if there is one.
    ///
    /// # Errors
    /// The database.
    pub async fn get<R: Record>(&self, id: i64) -> Result<Option<Stored<R>>, LedgerError> {
        self.noted(async {
            let pool = self.pool().await?;
            let mut connection = pool.acquire().await.map_err(|error| failed::<R>("read", error))?;
            by_id(&mut connection, id, "").await
        })
        .await
    }

    /// The record with this key, in the order of [`Record::KEY`], if there is one.
    ///
    /// # Errors
    /// The database.
    pub async fn find<R: Record>(&self, key: &[Value]) -> Result<Option<Stored<R>>, LedgerError> {
        self.noted(async {
            let pool = self.pool().await?;
            let mut connection = pool.acquire().await.map_err(|error| failed::<R>("read", error))?;
            by_key(&mut connection, key, "").await
        })
        .await
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// The database.
    pub async fn list<R: Record>(&self, listing: &Listing) -> Result<Page<R>, LedgerError> {
        self.noted(async {
            let pool = self.pool().await?;
            let limit = listing.limit.clamp(1, Listing::MAX_LIMIT);
            let mut page = Page { records: Vec::new(), next: None };
            let (mut bytes, mut at_once) = (0, FIRST_CHUNK);
            loop {
                let left = limit - page.records.len();
                // A statement is asked for no more than will be taken: what it has left is read to its end all the same.
                let chunk = Listing {
                    limit: left.min(at_once),
                    after: page.next.or(listing.after),
                    ..listing.clone()
                };
                let (sql, bound) = chunk.statement::<R>(&columns::<R>());
                let rows =
                    bind(&sql, &bound).fetch_all(&pool).await.map_err(|error| failed::<R>("list", error))?;
                let more = rows.len() > chunk.limit;
                for row in rows.iter().take(chunk.limit) {
                    let stored: Stored<R> = read_stored(row).map_err(|error| failed::<R>("read", error))?;
                    bytes += stored.record.values().iter().map(Value::bytes).sum::<usize>();
                    page.records.push(stored);
                }
                page.next = page.records.last().filter(|_| more).map(cursor);
                if !more || page.records.len() == limit || bytes >= Listing::MAX_PAGE_BYTES {
                    return Ok(page);
                }
                let usual = bytes / page.records.len().max(1);
                at_once = ((Listing::MAX_PAGE_BYTES - bytes) / usual.max(1)).clamp(1, Listing::MAX_LIMIT);
            }
        })
        .await
    }

    /// A transaction of `actor`.
    pub(crate) async fn write(&self, actor: &Actor) -> Result<Writing, LedgerError> {
        let pool = self.pool().await?;
        let transaction = pool
            .begin_with(database::begin(self.backend()))
            .await
            .map_err(|error| LedgerError::of("begin a change", "ledger", &[], error))?;
        Ok(Writing { backend: self.backend().clone(), transaction, actor: actor.clone(), now: self.now() })
    }
}

impl Writing {
    /// Makes what was done durable, and then gives `result`.
    pub(crate) async fn commit<T>(self, result: T) -> Result<T, LedgerError> {
        let committed = self.transaction.commit().await;
        committed.map_err(|error| LedgerError::of("commit", "ledger", &[], error))?;
        Ok(result)
    }

    pub(crate) async fn create<R: Record>(
        &mut self,
        record: R,
        values: &[Value],
    ) -> Result<Stored<R>, LedgerError> {
        let (now, by) = (self.now, self.actor.as_str().to_owned());
        let mut bound = vec![
            Value::Int(Some(1)),
            Value::Int(Some(now.0)),
            Value::Text(Some(by.clone())),
            Value::Int(Some(now.0)),
            Value::Text(Some(by.clone())),
        ];
        bound.extend_from_slice(values);
        let places: Vec<String> = (1..=bound.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "INSERT INTO {} (version, created_ns, created_by, updated_ns, updated_by, {}) VALUES ({}) RETURNING id",
            R::TABLE,
            R::COLUMNS.join(", "),
            places.join(", ")
        );
        let row = bind(&sql, &bound).fetch_one(&mut *self.transaction).await;
        let id = row.and_then(|row| row.try_get(0)).map_err(|error| failed::<R>("store", error))?;
        let changed = Changed { at: now, by };
        let stored = Stored { id, version: 1, created: changed.clone(), updated: changed, record };
        self.tell_history(&stored, Action::Created).await?;
        Ok(stored)
    }

    pub(crate) async fn put<R: Record>(
        &mut self,
        record: R,
        values: &[Value],
    ) -> Result<Outcome<R>, LedgerError> {
        match self.find(&key_values::<R>(values)).await? {
            Some(old) => self.change(old, record, values).await,
            None => {
                let stored = self.create(record, values).await?;
                Ok(Outcome { action: Action::Created, stored })
            }
        }
    }

    /// The record with this key, kept from others until the transaction ends.
    pub(crate) async fn find<R: Record>(&mut self, key: &[Value]) -> Result<Option<Stored<R>>, LedgerError> {
        let suffix = database::for_update(&self.backend);
        by_key(&mut self.transaction, key, suffix).await
    }

    /// The record, if it is as expected.
    pub(crate) async fn expect<R: Record>(
        &mut self,
        id: i64,
        expected: Expected,
    ) -> Result<Stored<R>, LedgerError> {
        let suffix = database::for_update(&self.backend);
        let old: Option<Stored<R>> = by_id(&mut self.transaction, id, suffix).await?;
        let old = old.ok_or_else(|| LedgerError::Missing { entity: R::TABLE, id: id.to_string() })?;
        match expected {
            Expected::Version(version) if version != old.version => {
                Err(LedgerError::Conflict { entity: R::TABLE, id, expected: version, found: old.version })
            }
            _ => Ok(old),
        }
    }

    pub(crate) async fn change<R: Record>(
        &mut self,
        old: Stored<R>,
        record: R,
        values: &[Value],
    ) -> Result<Outcome<R>, LedgerError> {
        if old.record == record {
            return Ok(Outcome { action: Action::Unchanged, stored: old });
        }
        let version = old.version + 1;
        let mut bound = vec![
            Value::Int(Some(version)),
            Value::Int(Some(self.now.0)),
            Value::Text(Some(self.actor.as_str().to_owned())),
        ];
        bound.extend_from_slice(values);
        let mut sets = String::new();
        for (at, column) in ["version", "updated_ns", "updated_by"].iter().chain(R::COLUMNS).enumerate() {
            sets.push_str(&format!("{}{column} = ${}", if at == 0 { "" } else { ", " }, at + 1));
        }
        bound.push(Value::Int(Some(old.id)));
        bound.push(Value::Int(Some(old.version)));
        let sql = format!(
            "UPDATE {} SET {sets} WHERE id = ${} AND version = ${}",
            R::TABLE,
            bound.len() - 1,
            bound.len()
        );
        let done = bind(&sql, &bound).execute(&mut *self.transaction).await;
        let changed = done.map_err(|error| failed::<R>("change", error))?.rows_affected();
        if changed != 1 {
            return Err(LedgerError::Conflict {
                entity: R::TABLE,
                id: old.id,
                expected: old.version,
                found: version,
            });
        }
        let updated = Changed { at: self.now, by: self.actor.as_str().to_owned() };
        let stored = Stored { id: old.id, version, created: old.created, updated, record };
        self.tell_history(&stored, Action::Changed).await?;
        Ok(Outcome { action: Action::Changed, stored })
    }

    pub(crate) async fn remove<R: Record>(&mut self, old: &Stored<R>) -> Result<(), LedgerError> {
        let sql = format!("DELETE FROM {} WHERE id = $1 AND version = $2", R::TABLE);
        let bound = [Value::Int(Some(old.id)), Value::Int(Some(old.version))];
        let done = bind(&sql, &bound).execute(&mut *self.transaction).await;
        let removed = done.map_err(|error| failed::<R>("remove", error))?.rows_affected();
        if removed != 1 {
            let (id, expected) = (old.id, old.version);
            return Err(LedgerError::Conflict { entity: R::TABLE, id, expected, found: expected + 1 });
        }
        let last = Stored { version: old.version + 1, ..old.clone() };
        self.tell_history(&last, Action::Removed).await
    }

    async fn tell_history<R: Record>(
        &mut self,
        stored: &Stored<R>,
        action: Action,
    ) -> Result<(), LedgerError> {
        if !R::HISTORY {
            return Ok(());
        }
        let record = serde_json::to_string(&stored.record).map_err(|error| LedgerError::Invalid {
            entity: R::TABLE,
            invalid: crate::record::Invalid { field: "record", reason: error.to_string() },
        })?;
        let sql = "INSERT INTO history (entity, entity_id, version, action, at_ns, actor, record) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let told = sqlx::query(sql)
            .bind(R::TABLE)
            .bind(stored.id)
            .bind(stored.version)
            .bind(action.as_str())
            .bind(self.now.0)
            .bind(self.actor.as_str().to_owned())
            .bind(record)
            .execute(&mut *self.transaction)
            .await;
        told.map(|_| ()).map_err(|error| failed::<R>("write the history", error))
    }

    /// Makes other changes that say the same word wait until this one ends.
    pub(crate) async fn lock(&mut self, word: &str) -> Result<(), LedgerError> {
        let locked = database::lock(&self.backend, &mut self.transaction, word).await;
        locked.map_err(|error| LedgerError::of("wait for another change", "ledger", &[], error))
    }

    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

pub(crate) fn failed<R: Record>(action: &'static str, error: sqlx::Error) -> LedgerError {
    LedgerError::of(action, R::TABLE, R::KEY, error)
}

pub(crate) fn columns<R: Record>() -> String {
    format!("{COMMON}, {}", R::COLUMNS.join(", "))
}

async fn by_id<R: Record>(
    connection: &mut AnyConnection,
    id: i64,
    suffix: &str,
) -> Result<Option<Stored<R>>, LedgerError> {
    let sql = format!("SELECT {} FROM {} WHERE id = $1{suffix}", columns::<R>(), R::TABLE);
    one(connection, &sql, &[Value::Int(Some(id))]).await
}

async fn by_key<R: Record>(
    connection: &mut AnyConnection,
    key: &[Value],
    suffix: &str,
) -> Result<Option<Stored<R>>, LedgerError> {
    if R::KEY.is_empty() {
        return Ok(None);
    }
    let conditions: Vec<String> =
        R::KEY.iter().enumerate().map(|(at, column)| format!("{column} = ${}", at + 1)).collect();
    let sql =
        format!("SELECT {} FROM {} WHERE {}{suffix}", columns::<R>(), R::TABLE, conditions.join(" AND "));
    one(connection, &sql, key).await
}

async fn one<R: Record>(
    connection: &mut AnyConnection,
    sql: &str,
    bound: &[Value],
) -> Result<Option<Stored<R>>, LedgerError> {
    let row =
        bind(sql, bound).fetch_optional(connection).await.map_err(|error| failed::<R>("read", error))?;
    row.as_ref().map(read_stored).transpose().map_err(|error| failed::<R>("read", error))
}

/// The statement, made of names of this program alone, with its values.
pub(crate) fn bind<'q>(sql: &str, values: &[Value]) -> Query<'q, Any, AnyArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(*value),
            Value::Real(Some(value)) => query.bind(*value),
            // Told as f32 it reaches PostgreSQL as the double that the column is: `sqlx::any` (0.9) exchanges the two for a null, and
            // a statement that was prepared with a null of four bytes refuses the first number of eight.
            Value::Real(None) => query.bind(None::<f32>),
            Value::Text(value) => query.bind(value.clone()),
        };
    }
    query
}

/// Where a listing goes on after this record.
fn cursor<R: Record>(stored: &Stored<R>) -> Cursor {
    let own = R::COLUMNS.iter().position(|column| *column == R::TIME);
    let time = own.and_then(|at| stored.record.values().into_iter().nth(at));
    let time_ns = match time {
        Some(Value::Int(Some(ns))) => ns,
        _ => stored.created.at.0,
    };
    Cursor { time_ns, id: stored.id }
}
