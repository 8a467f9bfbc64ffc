//! Puts a batch away: points into the store, records into the ledger, in this order.
//!
//! Promise: `store` returns after all of it is durable. What the store refuses for good is a refusal with its place and the rest
//! is stored; anything else ends the import, which can be begun again.

use super::mapping::Entry;
use super::report::Tally;
use crate::failure::{Failure, Kind, chain};
use std::collections::HashMap;
use std::sync::Arc;
use wattlog_engine::{Engine, WriteBatch, WriteError};
use wattlog_ledger::{Action, Actor, Ledger, LedgerError, Record, Value};
use wattlog_migrate::Position;
use wattlog_model::{Clock, FieldValue, Point, Timestamp};

/// Where everything goes.
pub(crate) struct Stores {
    pub(crate) engine: Engine,
    pub(crate) database: String,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What waits to be stored.
#[derive(Debug, Default)]
pub(super) struct Batch {
    points: Vec<(Point, Arc<Position>)>,
    entries: Vec<(Entry, Arc<Position>)>,
    bytes: usize,
}

/// Points of one write; a few syncs a second while an import runs.
const MOST_POINTS: usize = 8192;
/// Records of one transaction.
const MOST_ENTRIES: usize = 512;
/// Texts and values held, about.
const MOST_BYTES: usize = 8 << 20;
/// How often a write is tried again while the store is busy sealing.
const ATTEMPTS: u32 = 60;

impl Batch {
    pub(super) fn push(&mut self, points: Vec<Point>, entry: Option<Entry>, position: &Position) {
        let position = Arc::new(position.clone());
        for point in points {
            self.bytes +=
                point.fields.iter().map(|(name, value)| name.len() + bytes_of(value)).sum::<usize>();
            self.points.push((point, position.clone()));
        }
        if let Some(entry) = entry {
            self.bytes += ENTRY_BYTES + entry.text_bytes();
            self.entries.push((entry, position));
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.points.len() >= MOST_POINTS || self.entries.len() >= MOST_ENTRIES || self.bytes >= MOST_BYTES
    }

    /// Counts all of it as what would be stored.
    pub(super) fn pretend(self, tally: &mut Tally) {
        self.points.iter().for_each(|(point, _)| tally.point(&point.measurement));
        self.entries.iter().for_each(|(entry, _)| tally.entry(entry.table(), Action::Created));
    }

    /// Stores all of it.
    ///
    /// # Errors
    /// What keeps the store or the ledger from taking more; nothing is lost by beginning again.
    pub(super) async fn store(
        mut self,
        stores: &Stores,
        actor: &Actor,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        // Stable: of two rows of one instant the later stays the later.
        self.points.sort_by_key(|(point, _)| point.time);
        tokio::task::block_in_place(|| write(stores, &self.points, tally))?;
        let (mut decisions, mut sessions, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, position) in self.entries {
            match entry {
                Entry::Decision(decision) => decisions.push((*decision, position)),
                Entry::Session(session) => sessions.push((*session, position)),
                Entry::Report(report) => reports.push((*report, position)),
            }
        }
        put(&stores.ledger, decisions, actor, tally).await?;
        put(&stores.ledger, sessions, actor, tally).await?;
        put(&stores.ledger, reports, actor, tally).await
    }
}

/// Writes rows; a body that is too large goes in halves.
fn write(stores: &Stores, rows: &[(Point, Arc<Position>)], tally: &mut Tally) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        let mut batch = WriteBatch::new(&stores.database, None);
        for (line, (point, _)) in rows.iter().enumerate() {
            batch.push(point, point.time.unwrap_or(Timestamp(0)), line as u32);
        }
        match stores.engine.write(batch) {
            Ok(receipt) => {
                let mut refused: HashMap<usize, String> = HashMap::new();
                for rejection in receipt.rejected {
                    refused.entry(rejection.line as usize).or_insert_with(|| rejection.reason.to_string());
                }
                for (line, (point, position)) in rows.iter().enumerate() {
                    match refused.remove(&line) {
                        None => tally.point(&point.measurement),
                        Some(reason) => {
                            tally.refuse_for_now(position, format!("{}: {reason}", point.measurement));
                        }
                    }
                }
                return Ok(());
            }
            Err(WriteError::TooLarge { .. } | WriteError::TooScattered { .. }) if rows.len() > 1 => {
                let (first, second) = rows.split_at(rows.len() / 2);
                write(stores, first, tally)?;
                return write(stores, second, tally);
            }
            Err(error @ (WriteError::TooLarge { .. } | WriteError::TooScattered { .. })) => {
                tally.refuse_for_now(&rows[0].1, format!("{}: {error}", rows[0].0.measurement));
                return Ok(());
            }
            Err(WriteError::Overloaded { retry_after }) if attempt < ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(retry_after);
            }
            Err(error) => {
                return Err(Failure::new(
                    Kind::Io,
                    format!(
                        "store points: {}; mend that and begin again, nothing is stored twice",
                        chain(&error)
                    ),
                ));
            }
        }
    }
}

/// Puts records; those that somebody else changed last stay as they are.
pub(super) async fn put<R: Record>(
    ledger: &Ledger,
    records: Vec<(R, Arc<Position>)>,
    actor: &Actor,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut ours = Vec::with_capacity(records.len());
    for (record, position) in records {
        let found = ledger.find::<R>(&key_of(&record)).await.map_err(|error| refused(&error))?;
        match found {
            Some(stored) if stored.updated.by != actor.as_str() => {
                tally.kept(R::TABLE, &stored.updated.by, &position);
            }
            _ => ours.push((record, position)),
        }
    }
    if ours.is_empty() {
        return Ok(());
    }
    let all: Vec<R> = ours.iter().map(|(record, _)| record.clone()).collect();
    match ledger.put_all(all, actor).await {
        Ok(outcomes) => {
            outcomes.iter().for_each(|outcome| tally.entry(R::TABLE, outcome.action));
            return Ok(());
        }
        Err(error) if is_of_one_record(&error) => {}
        Err(error) => return Err(refused(&error)),
    }
    // One of them cannot be stored: which?
    for (record, position) in ours {
        match ledger.put(record, actor).await {
            Ok(outcome) => tally.entry(R::TABLE, outcome.action),
            Err(error) if is_of_one_record(&error) => tally.refuse_for_now(&position, chain(&error)),
            Err(error) => return Err(refused(&error)),
        }
    }
    Ok(())
}

/// The values that name a record.
pub(super) fn key_of<R: Record>(record: &R) -> Vec<Value> {
    let values = record.values();
    let of = |key: &&str| R::COLUMNS.iter().position(|column| column == key).map(|at| values[at].clone());
    R::KEY.iter().filter_map(of).collect()
}

/// True if the record is at fault and not the database.
fn is_of_one_record(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Invalid { .. } | LedgerError::Refused { .. } | LedgerError::TooLarge { .. })
}

/// Why the ledger ends an import.
pub(super) fn refused(error: &LedgerError) -> Failure {
    let kind = match error {
        LedgerError::Unavailable { .. } => Kind::Unavailable,
        LedgerError::NoRoom { .. } => Kind::Io,
        LedgerError::Schema { .. } | LedgerError::Damaged { .. } => Kind::Data,
        _ => Kind::General,
    };
    Failure::new(kind, format!("ledger: {}", chain(error)))
}

impl Entry {
    pub(super) fn table(&self) -> &'static str {
        match self {
            Self::Decision(_) => wattlog_ledger::schema::Decision::TABLE,
            Self::Session(_) => wattlog_ledger::schema::Session::TABLE,
            Self::Report(_) => wattlog_ledger::schema::Report::TABLE,
        }
    }

    /// The values that name it in its table.
    pub(super) fn key(&self) -> Vec<Value> {
        match self {
            Self::Decision(decision) => key_of(&**decision),
            Self::Session(session) => key_of(&**session),
            Self::Report(report) => key_of(&**report),
        }
    }

    fn text_bytes(&self) -> usize {
        let values = match self {
            Self::Decision(decision) => decision.values(),
            Self::Session(session) => session.values(),
            Self::Report(report) => report.values(),
        };
        let text = |value: &Value| if let Value::Text(Some(text)) = value { text.len() } else { 0 };
        values.iter().map(text).sum()
    }
}

fn bytes_of(value: &FieldValue) -> usize {
    match value {
        FieldValue::String(text) => text.len(),
        _ => 8,
    }
}

const ENTRY_BYTES: usize = 512;
