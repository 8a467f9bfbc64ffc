//! Compares what the source says now with what the store and the ledger answer.
//!
//! Promise: counts, time ranges and sums of every field of every series of the import are compared, and every record of the
//! ledger; each difference is told. Sums of decimals are exact, so one changed digit is one.
//!
//! The source is read twice: first to learn which points and records come more than once (the later wins, field by field),
//! then to sum up. So only those are held; of the others 16 bytes each.

use super::done::hash;
use super::mapping::{Entry, Mapping};
use super::progress::Progress;
use super::report::listed;
use super::run::{Plan, read_failed};
use super::writer::{self, Stores};
use crate::failure::{Failure, Kind, chain};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use wattlog_engine::query::{
    QueryControl, QueryRequest, ResultSeries, ResultValues, TagFilter, TagPredicate,
};
use wattlog_ledger::{Actor, Ledger, Record as Entity};
use wattlog_migrate::{Context, Out, OutError, Record, Refusal, read_file};
use wattlog_model::{ExactSum, FieldValue, Point, Timestamp};

/// What a comparison found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Validation {
    /// Fields of series whose counts, ranges and sums were compared.
    fields: u64,
    /// Values they have in the source.
    values: u64,
    /// Records of the ledger that were compared.
    records: u64,
    /// Of them, those that somebody changed since: no difference of the import.
    changed_since: u64,
    /// What differs.
    differences: Vec<String>,
    /// Differences beyond those that are told.
    more: u64,
}

/// Differences told one by one.
const TOLD: usize = 1_000;
/// Points of the source that can be told apart while they are compared.
const MOST_POINTS: usize = 20_000_000;
/// Records compared at a time.
const MOST_PENDING: usize = 512;
/// Length of the ranges that the store is asked for.
const RANGE_NS: i64 = 31 * Timestamp::DAY_NS;

impl Validation {
    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }

    fn differ(&mut self, what: String) {
        if self.differences.len() < TOLD { self.differences.push(what) } else { self.more += 1 }
    }

    pub(super) fn tell(&self, out: &mut String) {
        listed(out, "DIFFERS ", self.differences.iter().cloned());
        let differences = self.differences.len() as u64 + self.more;
        let _ = writeln!(
            out,
            "compared {} values of {} fields and {} records with the source: {differences} differences, {} records changed \
             by somebody since",
            self.values, self.fields, self.records, self.changed_since
        );
    }
}

/// Reads the source again and compares.
///
/// # Errors
/// What keeps the source, the store or the ledger from being read. A difference is none.
pub(super) async fn compare(plan: &Plan, stores: &Stores, actor: &Actor) -> Result<Validation, Failure> {
    let again = read_through(plan, "validate (1 of 2)", None).await?;
    let gathered = read_through(plan, "validate (2 of 2)", Some((again, stores, actor))).await?;
    let Gather { mut series, held, entries, mut validation, .. } = gathered;
    for point in held.into_values() {
        take(&mut series, &point);
    }
    check_entries(&stores.ledger, actor, entries.into_values(), &mut validation).await?;
    tokio::task::block_in_place(|| check_series(stores, &series, &mut validation))?;
    Ok(validation)
}

async fn read_through<'a>(
    plan: &Plan,
    what: &'static str,
    second: Option<(Gather<'_>, &'a Stores, &'a Actor)>,
) -> Result<Gather<'a>, Failure> {
    let mut gather = Gather::new(plan.home.mapping());
    if let Some((first, stores, actor)) = second {
        (gather.twice, gather.entries_twice) = (first.twice, first.entries_twice);
        gather.ledger = Some((&stores.ledger, actor));
    }
    let mut context = Context::new(plan.home.options());
    let mut progress =
        Progress::new(what, plan.tree.files.len(), plan.tree.files.iter().map(|file| file.bytes).sum());
    for file in &plan.tree.files {
        if let Err(error) = read_file(file, &mut context, &mut gather).await {
            return Err(gather.failure.take().unwrap_or_else(|| read_failed(&error)));
        }
        progress.file(&file.name, file.bytes);
    }
    gather.compare_pending().await?;
    progress.end();
    Ok(gather)
}

/// Series and instant of a point.
type Spot = (u64, i64);
/// Fields by name, of each series by measurement and tags.
type Sums = BTreeMap<(String, String), BTreeMap<String, Sum>>;

struct Gather<'a> {
    mapping: Mapping,
    /// Where entries are compared; none in the first pass.
    ledger: Option<(&'a Ledger, &'a Actor)>,
    seen: HashSet<Spot>,
    twice: HashSet<Spot>,
    entries_seen: HashSet<u64>,
    entries_twice: HashSet<u64>,
    series: Sums,
    /// Points that come more than once, as they end.
    held: HashMap<Spot, Point>,
    entries: HashMap<u64, Entry>,
    pending: Vec<Entry>,
    validation: Validation,
    failure: Option<Failure>,
}

impl Gather<'_> {
    fn new(mapping: Mapping) -> Self {
        Self {
            mapping,
            ledger: None,
            seen: HashSet::new(),
            twice: HashSet::new(),
            entries_seen: HashSet::new(),
            entries_twice: HashSet::new(),
            series: Sums::new(),
            held: HashMap::new(),
            entries: HashMap::new(),
            pending: Vec::new(),
            validation: Validation::default(),
            failure: None,
        }
    }

    fn look(&mut self, points: &[Point], entry: Option<&Entry>) -> Result<(), Failure> {
        for point in points {
            let spot = spot_of(point);
            if !self.seen.insert(spot) {
                self.twice.insert(spot);
            }
        }
        if let Some(entry) = entry
            && !self.entries_seen.insert(key_hash(entry))
        {
            self.entries_twice.insert(key_hash(entry));
        }
        if self.seen.len() > MOST_POINTS {
            let told = format!("more than {MOST_POINTS} points: validate parts of the tree one by one");
            return Err(Failure::new(Kind::Data, told));
        }
        Ok(())
    }

    fn sum_up(&mut self, points: Vec<Point>, entry: Option<Entry>) {
        for point in points {
            let spot = spot_of(&point);
            if !self.twice.contains(&spot) {
                take(&mut self.series, &point);
                continue;
            }
            match self.held.entry(spot) {
                std::collections::hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(point);
                }
                std::collections::hash_map::Entry::Occupied(mut held) => {
                    let fields = &mut held.get_mut().fields;
                    for (name, value) in point.fields {
                        fields.retain(|(its, _)| *its != name);
                        fields.push((name, value));
                    }
                }
            }
        }
        let Some(entry) = entry else { return };
        let key = key_hash(&entry);
        if self.entries_twice.contains(&key) {
            self.entries.insert(key, entry);
        } else {
            self.pending.push(entry);
        }
    }

    async fn compare_pending(&mut self) -> Result<(), Failure> {
        let pending = std::mem::take(&mut self.pending);
        match self.ledger {
            Some((ledger, actor)) => {
                check_entries(ledger, actor, pending.into_iter(), &mut self.validation).await
            }
            None => Ok(()),
        }
    }
}

impl Out for Gather<'_> {
    fn record(&mut self, record: Record) -> Result<(), OutError> {
        let mapped = self.mapping.map(&record);
        let mut outcome = Ok(());
        if self.ledger.is_none() {
            outcome = self.look(&mapped.points, mapped.entry.as_ref());
        } else {
            self.sum_up(mapped.points, mapped.entry);
            if self.pending.len() >= MOST_PENDING {
                let handle = tokio::runtime::Handle::current();
                outcome = tokio::task::block_in_place(|| handle.block_on(self.compare_pending()));
            }
        }
        outcome.map_err(|failure| {
            let told = failure.to_string();
            self.failure = Some(failure);
            told.into()
        })
    }

    fn refusal(&mut self, _: Refusal) -> Result<(), OutError> {
        Ok(())
    }
}

/// Count, range and sum of one field.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    count: u64,
    first: i64,
    last: i64,
    numbers: ExactSum,
    /// Of texts and truth values: a sum of hashes, the same in any order.
    others: u64,
}

impl Sum {
    fn seen(&mut self, at: i64) {
        (self.first, self.last) =
            if self.count == 0 { (at, at) } else { (self.first.min(at), self.last.max(at)) };
        self.count += 1;
    }

    fn text(&mut self, text: &str) {
        self.others = self.others.wrapping_add(hash(&[text.as_bytes()]));
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.count, self.first, self.last, self.others)
            == (other.count, other.first, other.last, other.others)
            && {
                // Doubles that are no short decimals are summed to the last place, whatever their order.
                let (a, b) = (self.numbers.value(), other.numbers.value());
                a == b || (a - b).abs() <= 4.0 * f64::EPSILON * a.abs()
            }
    }

    fn tell(&self) -> String {
        if self.count == 0 {
            return "nothing".to_owned();
        }
        let at = |ns| super::points::rfc3339(Timestamp(ns));
        let sum = self.numbers.value();
        format!("{} values, {} to {}, sum {sum}", self.count, at(self.first), at(self.last))
    }
}

fn take(series: &mut Sums, point: &Point) {
    let fields = series.entry((point.measurement.clone(), tags_of(point))).or_default();
    let at = point.time.map_or(0, |time| time.0);
    for (name, value) in &point.fields {
        let sum = match fields.get_mut(name) {
            Some(sum) => sum,
            None => fields.entry(name.clone()).or_default(),
        };
        sum.seen(at);
        match value {
            FieldValue::Float(number) => sum.numbers.add_float(*number),
            FieldValue::Integer(number) => sum.numbers.add_integer(i128::from(*number)),
            FieldValue::Unsigned(number) => sum.numbers.add_integer(i128::from(*number)),
            FieldValue::Boolean(truth) => sum.text(if *truth { "true" } else { "false" }),
            FieldValue::String(text) => sum.text(text),
        }
    }
}

/// The store's own sums, range by range.
fn check_series(stores: &Stores, source: &Sums, validation: &mut Validation) -> Result<(), Failure> {
    let mut measurements: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for ((measurement, _), fields) in source {
        for sum in fields.values() {
            let range = measurements.entry(measurement).or_insert((sum.first, sum.last));
            *range = (range.0.min(sum.first), range.1.max(sum.last));
        }
    }
    let mut stored = Sums::new();
    for (measurement, (first, last)) in measurements {
        let known = stores.engine.measurement(&stores.database, measurement);
        if known.map_err(|error| Failure::from_error(Kind::Io, &error))?.is_none() {
            continue;
        }
        let mut start = first;
        while start <= last {
            let end = start.saturating_add(RANGE_NS).min(last.saturating_add(1));
            let mut request =
                QueryRequest::raw(&stores.database, measurement, Timestamp(start), Timestamp(end));
            request.tags = source_filter(source, measurement);
            let answer = stores.engine.query(&request, &QueryControl::default()).map_err(|error| {
                Failure::new(Kind::Io, format!("ask the store for {measurement}: {}", chain(&error)))
            })?;
            if answer.is_partial() {
                validation
                    .differ(format!("{measurement}: a part of the store cannot be read (wattlog check)"));
            }
            for series in &answer.series {
                sum_answer(&mut stored, measurement, series);
            }
            start = end;
        }
    }
    for (key, fields) in source {
        for (field, sum) in fields {
            validation.fields += 1;
            validation.values += sum.count;
            let there = stored.get(key).and_then(|fields| fields.get(field)).copied().unwrap_or_default();
            if !sum.is_like(&there) {
                let (measurement, tags) = key;
                validation.differ(format!(
                    "{measurement} {{{tags}}} {field}: the source has {}, the store {}{}",
                    sum.tell(),
                    there.tell(),
                    if sum.others == there.others { "" } else { " (other texts)" }
                ));
            }
        }
    }
    Ok(())
}

/// Series of the collector have the same measurement and are left out, by the tag that all series of the import have there.
fn source_filter(source: &Sums, measurement: &str) -> Vec<TagFilter> {
    let series: Vec<&str> =
        source.keys().filter(|(its, _)| its == measurement).map(|(_, tags)| tags.as_str()).collect();
    let words = |key: &str| -> Option<TagFilter> {
        let word = |tags: &&str| {
            let pair = tags.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            pair.map(str::to_owned)
        };
        let words: Option<BTreeSet<String>> = series.iter().map(word).collect();
        words.map(|words| TagFilter {
            key: key.to_owned(),
            predicate: TagPredicate::In(words.into_iter().collect()),
        })
    };
    ["data_source", "source"].into_iter().filter_map(words).collect()
}

fn sum_answer(stored: &mut Sums, measurement: &str, series: &ResultSeries) {
    let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fields = stored.entry((measurement.to_owned(), tags.join(","))).or_default();
    let Some(ResultValues::Time(times)) = series.columns.first().map(|column| &column.values) else { return };
    for column in series.columns.iter().skip(1) {
        let sum = fields.entry(column.name.clone()).or_default();
        for (row, at) in times.iter().enumerate() {
            let Some(at) = *at else { continue };
            let there = match &column.values {
                ResultValues::Float(values) => {
                    values[row].map(|value| sum.numbers.add_float(value)).is_some()
                }
                ResultValues::Integer(values) | ResultValues::Time(values) => {
                    values[row].map(|value| sum.numbers.add_integer(i128::from(value))).is_some()
                }
                ResultValues::Unsigned(values) => {
                    values[row].map(|value| sum.numbers.add_integer(i128::from(value))).is_some()
                }
                ResultValues::Boolean(values) => {
                    values[row].map(|truth| sum.text(if truth { "true" } else { "false" })).is_some()
                }
                ResultValues::String(values) => values[row].as_deref().map(|text| sum.text(text)).is_some(),
            };
            if there {
                sum.seen(at);
            }
        }
    }
}

async fn check_entries(
    ledger: &Ledger,
    actor: &Actor,
    entries: impl Iterator<Item = Entry>,
    validation: &mut Validation,
) -> Result<(), Failure> {
    for entry in entries {
        match entry {
            Entry::Decision(decision) => check_entry(ledger, actor, &*decision, validation).await?,
            Entry::Session(session) => check_entry(ledger, actor, &*session, validation).await?,
            Entry::Report(report) => check_entry(ledger, actor, &*report, validation).await?,
        }
    }
    Ok(())
}

async fn check_entry<R: Entity>(
    ledger: &Ledger,
    actor: &Actor,
    record: &R,
    validation: &mut Validation,
) -> Result<(), Failure> {
    validation.records += 1;
    let key = writer::key_of(record);
    let found = ledger.find::<R>(&key).await.map_err(|error| writer::refused(&error))?;
    let name = || key.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match found {
        None => validation.differ(format!("{} {}: not in the ledger", R::TABLE, name())),
        Some(stored) if stored.record == *record => {}
        Some(stored) if stored.updated.by != actor.as_str() => validation.changed_since += 1,
        Some(stored) => {
            let columns = R::COLUMNS.iter().zip(record.values().into_iter().zip(stored.record.values()));
            let differ: Vec<&str> =
                columns.filter(|(_, (ours, its))| ours != its).map(|(column, _)| *column).collect();
            validation.differ(format!("{} {}: {} differ", R::TABLE, name(), differ.join(", ")));
        }
    }
    Ok(())
}

fn tags_of(point: &Point) -> String {
    let tags: Vec<String> = point.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    tags.join(",")
}

fn spot_of(point: &Point) -> Spot {
    let tags = tags_of(point);
    (hash(&[point.measurement.as_bytes(), tags.as_bytes()]), point.time.map_or(0, |time| time.0))
}

fn key_hash(entry: &Entry) -> u64 {
    let key = match entry {
        Entry::Decision(decision) => writer::key_of(&**decision),
        Entry::Session(session) => writer::key_of(&**session),
        Entry::Report(report) => writer::key_of(&**report),
    };
    let parts: Vec<String> = key.iter().map(ToString::to_string).collect();
    let parts: Vec<&[u8]> =
        [entry.table().as_bytes()].into_iter().chain(parts.iter().map(String::as_bytes)).collect();
    hash(&parts)
}
