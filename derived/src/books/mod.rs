//! The bookkeeper: what is computed from points and kept in the ledger, and when.
//!
//! ```text
//! change feed -> [times whose sessions are due] -> sessions -> [times whose reports are due] -> reports
//!      tariffs of the ledger --^                                 quarters of energy --^
//! ```
//!
//! It looks at the feed and at the tariffs once in [`BookOptions::every`], takes what changed into lists of times, and works through
//! them: a day of sessions, a report at a time. The lists and the place in the feed are written after that (`follow`).
//!
//! Promises
//! 1. `kill -9` at any moment costs work, not truth: what is done twice comes out the same, and what is the same is not written.
//! 2. A ledger that is away stops nothing: it is tried again, ever more rarely, and [`BookStatus::error`] says why.
//! 3. A tariff, or a market price, that changes makes the sessions and reports of its times due again; a capacity of a battery, all
//!    reports.

mod follower;
mod keeper;

pub use keeper::Bookkeeper;

use crate::energy::EnergyError;
use crate::follow::FollowError;
use crate::sessions::SamplesError;
use std::ops::Range;
use std::time::Duration;
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, QueryError, Zone};
use wattlog_ledger::{Actor, Edit, Ledger, LedgerError, Listing, Record, Stored};
use wattlog_model::Timestamp;

/// Who makes the records.
pub const ACTOR: &str = "analytics";

/// How the books are kept.
#[derive(Debug, Clone)]
pub struct BookOptions {
    /// The database with the points.
    pub database: String,
    /// Whose days and hours they are.
    pub zone: Zone,
    /// Pause between two looks. Default a minute.
    pub every: Duration,
    /// A session that goes on is written this often at most; each time is a row of history. Default ten minutes.
    pub active_every: Duration,
}

impl BookOptions {
    /// The defaults.
    pub fn new(database: &str, zone: Zone) -> Self {
        let (every, active_every) = (Duration::from_secs(60), Duration::from_secs(600));
        Self { database: database.to_owned(), zone, every, active_every }
    }
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BookStatus {
    /// Times whose sessions are not as their points are.
    pub sessions: Vec<Range<i64>>,
    /// Times whose daily reports are to be made, the present day among them.
    pub reports: Vec<Range<i64>>,
    /// Times whose sessions rest on points of which some cannot be read: tried again each hour and at a start.
    pub lost_sessions: Vec<Range<i64>>,
    /// The same of daily reports; beside them the times before and behind all that is known, which a file set aside may hold.
    pub lost_reports: Vec<Range<i64>>,
    /// Sessions made, written or removed since the start.
    pub sessions_written: u64,
    /// Reports made, written or removed since the start.
    pub reports_written: u64,
    /// Looks since the start after which nothing was left that could be done.
    pub rounds: u64,
    /// Why it does not get on, if so.
    pub error: Option<String>,
    /// Attempts since the start that failed.
    pub failures: u64,
    /// When it had last done a step, or found that there is nothing to do.
    pub last_success: Option<Timestamp>,
    /// True once it is known what is to be done.
    pub is_following: bool,
    /// False before the task has begun and once it has ended.
    pub is_running: bool,
    /// What is wrong with tariffs, prices and points, of the last look at which something was done.
    pub notes: Vec<String>,
}

/// Records that are changed in one transaction: as many commits as records made an import wait for the disk, and others wait for the
/// whole of one.
const MOST_EDITS: usize = 100;

/// Longest name of a device that can be named in the ledger, in bytes.
const MOST_NAME_BYTES: usize = 200;

/// Why the ledger has no `what` of the device, if it cannot be named there; for people.
pub(crate) fn unnameable(device: &str, what: &str) -> Option<String> {
    if device.len() <= MOST_NAME_BYTES && !device.chars().any(char::is_control) {
        return None;
    }
    let name: String = device.chars().filter(|c| !c.is_control()).take(40).collect();
    Some(format!(
        "device {name:?}...: its {what} have no name in the ledger: give it at most {MOST_NAME_BYTES} bytes without control characters"
    ))
}

/// What the work is done with.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) engine: Engine,
    pub(crate) database: String,
    pub(crate) ledger: Ledger,
    pub(crate) zone: Zone,
    pub(crate) control: QueryControl,
    pub(crate) active_every_ns: i64,
}

impl Hands {
    /// Asks the store on a thread that may wait.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &QueryControl) -> T + Send + 'static,
    ) -> Result<T, BookError> {
        let (engine, control) = (self.engine.clone(), self.control.clone());
        let asked = tokio::task::spawn_blocking(move || work(&engine, &control)).await;
        asked.map_err(|error| BookError::Ended(error.to_string()))
    }

    /// All pages of a listing.
    pub(crate) async fn list_all<R: Record>(
        &self,
        mut listing: Listing,
    ) -> Result<Vec<Stored<R>>, BookError> {
        let mut found = Vec::new();
        loop {
            let page = self.ledger.list::<R>(&listing).await?;
            found.extend(page.records);
            let Some(next) = page.next else { return Ok(found) };
            listing.after = Some(next);
        }
    }

    /// Changes records; gives how many were. What the ledger refuses is not kept.
    pub(crate) async fn apply<R: Record>(&self, edits: &[Edit<R>], named: Named) -> Result<u64, BookError> {
        let actor = Actor::new(ACTOR);
        let mut left: Vec<&[Edit<R>]> = edits.chunks(MOST_EDITS).rev().collect();
        let mut written = 0;
        while let Some(part) = left.pop() {
            match self.ledger.edit_all(part, &actor).await {
                Ok(_) => written += part.len() as u64,
                // Which of them it is shows when they are told in parts.
                Err(error) if is_refusal(&error) && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second, first]);
                }
                Err(error) if is_refusal(&error) && !(named == Named::Fails && is_there(&error)) => {
                    tracing::warn!(%error, table = R::TABLE, "a record is not kept");
                }
                // Also if somebody was faster: what is there now is looked at again.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

fn is_refusal(error: &LedgerError) -> bool {
    is_there(error) || matches!(error, LedgerError::Invalid { .. } | LedgerError::Refused { .. })
}

fn is_there(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Exists { .. })
}

/// What it means that there is a record with the name of one that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// It is another's: it stays, and ours is not kept.
    Stays,
    /// Somebody was faster: what is there now is looked at again.
    Fails,
}

/// Why the books are not kept at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Samples(#[from] SamplesError),
    #[error(transparent)]
    Energy(#[from] EnergyError),
    #[error("a thread that asked the store ended by itself: {0}")]
    Ended(String),
}

impl BookError {
    /// Nobody wrote to the database yet: no failure.
    fn is_new(&self) -> bool {
        match self {
            Self::Follow(error) => error.is_new(),
            Self::Query(QueryError::DatabaseNotFound(_)) => true,
            _ => false,
        }
    }
}
