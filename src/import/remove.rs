//! Takes an import out again: its points, its records, its marks.
//!
//! Promise: what the import stored and nobody changed since is gone, and nothing else; a dry run tells the same counts and
//! changes nothing. Twice is once, and broken off and begun again is once too.
//!
//! Invariants
//! 1. Marks go first: a run that is broken off leaves no file that counts as stored while its points are gone, so an import
//!    after it stores everything.
//! 2. What is to be removed is found by its own tags, `origin` and who wrote it, never by marks: a second run finds what the
//!    first left.
//! 3. A record that somebody else changed stays and is told.

use super::done;
use super::points::{self, Series};
use super::report::listed;
use super::run::ACTOR;
use super::settings;
use super::writer::{self, Stores};
use crate::failure::{Failure, Kind, chain};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use wattlog_engine::DeleteRequest;
use wattlog_engine::query::{
    Order, QueryControl, QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues, TagFilter,
    TagPredicate,
};
use wattlog_ledger::schema::{Configuration, Decision, Device, ImportRun, Report, Session, Tariff};
use wattlog_ledger::{Actor, Listing, Record};
use wattlog_model::Timestamp;

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Remove.
    Done,
    /// Tell what would be removed.
    Pretended,
}

/// What was removed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RemovalReport {
    /// Nothing was removed.
    pub(crate) dry_run: bool,
    /// Points by measurement.
    points: BTreeMap<&'static str, u64>,
    /// Records of the ledger by table.
    records: BTreeMap<&'static str, u64>,
    /// Records that somebody changed since, which stay.
    kept: Vec<String>,
    /// Kept records beyond those that are told.
    kept_more: u64,
    /// Measurements of which a part cannot be read: what lies there was not counted, and may not be removed.
    unread: BTreeSet<&'static str>,
}

/// Kept records told one by one.
const TOLD: usize = 1_000;
/// Records of one transaction.
const MOST_AT_ONCE: usize = 512;
/// Length of the ranges whose points are counted at a time.
const RANGE_NS: i64 = 31 * Timestamp::DAY_NS;

/// Removes every import of the optimiser from the store and the ledger.
///
/// # Errors
/// What keeps the store or the ledger from answering; what was removed by then stays removed.
pub(crate) async fn remove(stores: &Stores, removal: Removal) -> Result<RemovalReport, Failure> {
    let report = RemovalReport { dry_run: removal == Removal::Pretended, ..RemovalReport::default() };
    let mut remover = Remover { stores, actor: Actor::new(ACTOR), removal, report };
    remover.records::<ImportRun>(&Listing::all().with_text("tool", done::TOOL)).await?;
    for series in points::SERIES {
        tokio::task::block_in_place(|| remover.points(series))?;
    }
    // Also those whose origin somebody changed: they stay, and are told.
    let all = Listing::all();
    remover.records::<Decision>(&all).await?;
    remover.records::<Session>(&all).await?;
    remover.records::<Report>(&all).await?;
    remover.records::<Tariff>(&all).await?;
    remover.records::<Device>(&all).await?;
    remover.configuration().await?;
    Ok(remover.report)
}

struct Remover<'a> {
    stores: &'a Stores,
    actor: Actor,
    removal: Removal,
    report: RemovalReport,
}

impl Remover<'_> {
    /// Removes those of a listing that the import made and nobody else changed.
    async fn records<R: Record>(&mut self, listing: &Listing) -> Result<(), Failure> {
        let mut listing = Listing { limit: MOST_AT_ONCE, ..listing.clone() };
        loop {
            let page =
                self.stores.ledger.list::<R>(&listing).await.map_err(|error| writer::refused(&error))?;
            let mut seen = Vec::with_capacity(page.records.len());
            for stored in page.records.iter().filter(|stored| stored.created.by == ACTOR) {
                if stored.updated.by == ACTOR {
                    seen.push((stored.id, stored.version));
                } else {
                    self.keep(R::TABLE, stored.id, &stored.updated.by);
                }
            }
            self.take::<R>(&seen).await?;
            let Some(next) = page.next else { return Ok(()) };
            listing.after = Some(next);
        }
    }

    /// The optimiser's settings. Revisions are numbered without gaps: all of them, or none.
    async fn configuration(&mut self) -> Result<(), Failure> {
        let (mut seen, mut foreign) = (Vec::new(), None);
        let mut listing = Listing::all().with_text("name", settings::NAME);
        loop {
            let page = self.stores.ledger.list::<Configuration>(&listing).await;
            let page = page.map_err(|error| writer::refused(&error))?;
            for stored in page.records {
                if let Some(by) = [stored.created.by, stored.updated.by].into_iter().find(|by| by != ACTOR) {
                    foreign = Some((stored.id, by));
                }
                seen.push((stored.id, stored.version));
            }
            let Some(next) = page.next else { break };
            listing.after = Some(next);
        }
        match foreign {
            None => self.take::<Configuration>(&seen).await,
            Some((id, by)) => {
                self.keep(Configuration::TABLE, id, &by);
                Ok(())
            }
        }
    }

    async fn take<R: Record>(&mut self, seen: &[(i64, i64)]) -> Result<(), Failure> {
        if self.removal == Removal::Done {
            let removed = self.stores.ledger.remove_all::<R>(seen, &self.actor).await;
            removed.map_err(|error| writer::refused(&error))?;
        }
        if !seen.is_empty() {
            *self.report.records.entry(R::TABLE).or_default() += seen.len() as u64;
        }
        Ok(())
    }

    /// Hides the points of a series or several, and counts them.
    fn points(&mut self, series: &Series) -> Result<(), Failure> {
        let Stores { engine, database, .. } = self.stores;
        let measurement = series.measurement;
        let failed = |what: &str, error: &(dyn std::error::Error + 'static)| {
            let told = format!("{what} {measurement}: {}; mend that and begin again", chain(error));
            Failure::new(Kind::Io, told)
        };
        // A database that nobody wrote to is not there at all.
        if !engine.databases().iter().any(|known| known.name == *database) {
            return Ok(());
        }
        let known = engine.measurement(database, measurement);
        if known.map_err(|error| failed("look at", &error))?.is_none() {
            return Ok(());
        }
        let mut request = QueryRequest::raw(database, measurement, Timestamp::MIN, Timestamp::MAX);
        request.tags = series.tag.iter().map(|(key, word)| filter(key, word)).collect();
        let mut whole = |answer: Result<QueryResult, QueryError>| {
            let answer = answer.map_err(|error| failed("look for the points of", &error))?;
            if answer.is_partial() {
                self.report.unread.insert(measurement);
            }
            Ok::<_, Failure>(answer)
        };
        let one = |order: Order| {
            engine.query(&QueryRequest { limit: Some(1), order, ..request.clone() }, &QueryControl::default())
        };
        let (oldest, newest) = (whole(one(Order::Ascending))?, whole(one(Order::Descending))?);
        let (Some(first), Some(last)) = (times(&oldest).min(), times(&newest).max()) else { return Ok(()) };
        let (mut count, mut start, mut span) = (0, first, RANGE_NS);
        while start <= last {
            let end = start.saturating_add(span).min(last.saturating_add(1));
            (request.start, request.end) = (Timestamp(start), Timestamp(end));
            match engine.query(&request, &QueryControl::default()) {
                // A small machine gives a question little memory.
                Err(QueryError::TooManyBytes { .. } | QueryError::TooManyPoints { .. }) if span > 1 => {
                    span /= 2;
                    continue;
                }
                answer => count += whole(answer)?.rows() as u64,
            }
            start = end;
        }
        if self.removal == Removal::Done {
            let QueryRequest { tags, database, .. } = request;
            let (start, end) = (Timestamp(first), Timestamp(last.saturating_add(1)));
            let measurement = Some(measurement.to_owned());
            let delete = DeleteRequest {
                database,
                retention_policy: None,
                measurement,
                fields: None,
                tags,
                start,
                end,
            };
            engine.delete(&delete).map_err(|error| failed("delete points of", &error))?;
        }
        *self.report.points.entry(measurement).or_default() += count;
        Ok(())
    }

    fn keep(&mut self, table: &str, id: i64, by: &str) {
        if self.report.kept.len() < TOLD {
            self.report.kept.push(format!("{table} {id}: changed by {by} since"));
        } else {
            self.report.kept_more += 1;
        }
    }
}

fn filter(key: &str, word: &str) -> TagFilter {
    TagFilter { key: key.to_owned(), predicate: TagPredicate::In(vec![word.to_owned()]) }
}

fn times(answer: &QueryResult) -> impl Iterator<Item = i64> {
    let of_series = |series: &ResultSeries| match series.columns.first().map(|column| &column.values) {
        Some(ResultValues::Time(times)) => times.iter().flatten().copied().collect(),
        _ => Vec::new(),
    };
    answer.series.iter().flat_map(of_series)
}

impl RemovalReport {
    /// For a person.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        let word = if self.dry_run { "would be removed" } else { "removed" };
        for (measurement, count) in &self.points {
            let _ = writeln!(out, "removed  {measurement:<15} {count} points {word}");
        }
        for (table, count) in &self.records {
            let _ = writeln!(out, "removed  {table:<15} {count} records {word}");
        }
        listed(&mut out, "kept    ", self.kept.iter().cloned());
        if self.kept_more > 0 {
            let _ = writeln!(out, "kept     {} more", self.kept_more);
        }
        let unread = |measurement: &&str| {
            format!("{measurement}: a part of the store cannot be read, and was left (wattlog check)")
        };
        listed(&mut out, "UNREAD  ", self.unread.iter().map(unread));
        if self.points.is_empty() && self.records.is_empty() {
            let _ = writeln!(out, "nothing of an import is here");
        }
        out
    }

    /// Everything that was looked for could be read.
    pub(crate) fn is_whole(&self) -> bool {
        self.unread.is_empty()
    }
}
