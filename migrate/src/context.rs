//! What is remembered from file to file: keys that were given out, passes of the repeated hour, the report.
//!
//! Promise: a record equal to one that was given out before is counted and not given out again; one with a known key and
//! other content is, and says so.
//!
//! Invariants
//! 1. Within one JSON file the last record of a key wins before anything is given out; of readings with one key it wins
//!    field by field, and fields that it lacks stay.
//! 2. Memory is bounded by [`Limits`]: beyond `remembered_keys` later records count as new, which costs time and nothing
//!    else, since whoever stores by key stores them once.

use crate::error::{Error, OutError};
use crate::limits::Limits;
use crate::record::{Body, Kind, Origin, Record};
use crate::report::{Counts, FileReport, Hole, Position, Refusal, Repair, Report, Rule};
use crate::tariff::{G12, Tariff};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use wattlog_model::{FieldValue, Timestamp};

/// Takes what is read, in the order of reading.
pub trait Out {
    /// Takes a record.
    ///
    /// # Errors
    /// Ends the migration; what was taken stays taken.
    fn record(&mut self, record: Record) -> Result<(), OutError>;

    /// Takes a refusal. At most [`Limits::refusals_per_file`] come for one file; all are counted.
    ///
    /// # Errors
    /// Ends the migration.
    fn refusal(&mut self, refusal: Refusal) -> Result<(), OutError>;
}

/// Everything in memory: for tests, previews, and one file at a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// Records in the order of reading.
    pub records: Vec<Record>,
    /// Refusals in the order of reading.
    pub refusals: Vec<Refusal>,
}

impl Out for Collected {
    fn record(&mut self, record: Record) -> Result<(), OutError> {
        self.records.push(record);
        Ok(())
    }

    fn refusal(&mut self, refusal: Refusal) -> Result<(), OutError> {
        self.refusals.push(refusal);
        Ok(())
    }
}

/// What must be known of a home to read its files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Zone of times without an offset.
    pub zone: TimeZone,
    /// Serial number of the inverter, for records that have none (see [`crate::find_device`]).
    pub device: String,
    /// What the seller and the grid added to the market price.
    pub tariff: Arc<dyn Tariff>,
    /// Stretches without a reading or a decision shorter than this are not listed, in nanoseconds. Of market prices every
    /// missing quarter is.
    pub hole_ns: i64,
    /// Where a store is copied to; `None` for the system's temporary folder.
    pub temporary: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

impl Options {
    /// Options of the optimiser's only known home: Europe/Warsaw, G12, holes from two hours on.
    ///
    /// # Panics
    /// Never: the zone is bundled.
    pub fn new(device: &str) -> Self {
        Self {
            zone: TimeZone::get("Europe/Warsaw").expect("the zones are bundled"),
            device: device.to_owned(),
            tariff: Arc::new(G12::default()),
            hole_ns: 2 * HOUR_NS,
            temporary: None,
            limits: Limits::default(),
        }
    }
}

const HOUR_NS: i64 = 3_600_000_000_000;
/// Length of a price period; the history left out every price below zero.
const QUARTER_NS: i64 = HOUR_NS / 4;
/// Readings of one night with a repeated hour, and some.
const REMEMBERED_PASSES: usize = 100_000;

/// Memory of a migration.
#[derive(Debug)]
pub struct Context {
    pub(crate) options: Options,
    seen: HashMap<u64, u64>,
    passes: HashMap<u64, Timestamp>,
    instants: BTreeMap<Kind, Vec<Timestamp>>,
    report: Report,
}

impl Context {
    /// Starts with nothing seen.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            seen: HashMap::new(),
            passes: HashMap::new(),
            instants: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// The report of the files read so far, without holes.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Ends the migration: the report with its holes.
    pub fn into_report(mut self) -> Report {
        let mut holes = Vec::new();
        for (kind, mut instants) in std::mem::take(&mut self.instants) {
            instants.sort_unstable();
            let pairs = instants.windows(2).map(|pair| Hole { kind, from: pair[0], to: pair[1] });
            let shortest_ns = if kind == Kind::MarketPrice { QUARTER_NS + 1 } else { self.options.hole_ns };
            holes.extend(pairs.filter(|hole| hole.to.0.saturating_sub(hole.from.0) >= shortest_ns));
        }
        holes.sort_by_key(|hole| std::cmp::Reverse(hole.to.0.saturating_sub(hole.from.0)));
        self.report.holes_found = holes.len() as u64;
        holes.truncate(self.options.limits.holes);
        self.report.holes = holes;
        self.report
    }

    /// The pass that was proven for this reading in another file.
    pub(crate) fn known_pass(&self, reading: u64) -> Option<Timestamp> {
        self.passes.get(&reading).copied()
    }

    pub(crate) fn remember_pass(&mut self, reading: u64, at: Timestamp) {
        if self.passes.len() < REMEMBERED_PASSES {
            self.passes.insert(reading, at);
        }
    }

    fn put_away(&mut self, report: FileReport) {
        for (kind, counts) in &report.kinds {
            self.report.kinds.entry(*kind).or_default().add(*counts);
        }
        for (rule, count) in &report.repairs {
            *self.report.repairs.entry(*rule).or_default() += count;
        }
        self.report.unread += report.unread;
        self.report.files.push(report);
    }
}

/// Whether records of a key may still be replaced by later ones of the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Until the file's end.
    Whole,
    /// No: the source has each key once, or is too long to be held.
    Nothing,
}

/// The records of one file on their way out.
pub(crate) struct Intake<'a> {
    pub context: &'a mut Context,
    out: &'a mut (dyn Out + Send),
    file: Arc<str>,
    hold: Hold,
    held: Vec<Option<Held>>,
    latest: HashMap<String, usize>,
    refusals_told: u64,
    report: FileReport,
}

struct Held {
    record: Record,
    content: u64,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(
        context: &'a mut Context,
        out: &'a mut (dyn Out + Send),
        file: Arc<str>,
        hold: Hold,
    ) -> Self {
        let report = FileReport { file: file.to_string(), ..FileReport::default() };
        Self { context, out, file, hold, held: Vec::new(), latest: HashMap::new(), refusals_told: 0, report }
    }

    pub(crate) fn file(&self) -> Arc<str> {
        self.file.clone()
    }

    pub(crate) fn shape(&mut self, shape: &str) {
        if let Some(count) = self.report.shapes.get_mut(shape) {
            *count += 1;
        } else {
            self.report.shapes.insert(shape.to_owned(), 1);
        }
    }

    /// Counts a key that nothing takes.
    pub(crate) fn unknown_key(&mut self, key: &str) {
        if let Some(count) = self.report.unknown_keys.get_mut(key) {
            *count += 1;
        } else if self.report.unknown_keys.len() < self.context.options.limits.unknown_keys {
            self.report.unknown_keys.insert(crate::report::shortened(key), 1);
        }
    }

    /// Counts a repair that belongs to the file and no record of it.
    pub(crate) fn file_repair(&mut self, rule: Rule) {
        *self.report.repairs.entry(rule).or_default() += 1;
    }

    pub(crate) fn counts(&mut self, kind: Kind) -> &mut Counts {
        self.report.kinds.entry(kind).or_default()
    }

    /// Takes a record.
    pub(crate) fn record(
        &mut self,
        key: String,
        position: Position,
        origin: Origin,
        repairs: Vec<Repair>,
        body: Body,
    ) -> Result<(), Error> {
        let kind = body.kind();
        self.counts(kind).read += 1;
        let mut record = Record { key, position, origin, repairs, supersedes: false, body };
        if self.hold == Hold::Nothing {
            let content = content(&record.body);
            return self.hand_on(Held { record, content });
        }
        let next = self.held.len();
        let before = self.latest.get(&record.key).copied();
        if let Some(held) = before.and_then(|before| self.held[before].as_ref()) {
            add_what_it_lacks(&mut record, &held.record);
        }
        let content = content(&record.body);
        if let Some(before) = before {
            let same = self.held[before].as_ref().is_some_and(|held| held.content == content);
            if same {
                self.counts(kind).duplicate += 1;
                return Ok(());
            }
            self.held[before] = None;
            self.counts(kind).replaced += 1;
        }
        self.latest.insert(record.key.clone(), next);
        self.held.push(Some(Held { record, content }));
        Ok(())
    }

    /// Refuses a record of a known kind, or (`None`) a place that is none.
    pub(crate) fn refuse(
        &mut self,
        kind: Option<Kind>,
        position: Position,
        reason: String,
    ) -> Result<(), Error> {
        match kind {
            Some(kind) => {
                let counts = self.counts(kind);
                counts.read += 1;
                counts.refused += 1;
            }
            None => self.report.unread += 1,
        }
        if self.refusals_told >= self.context.options.limits.refusals_per_file {
            return Ok(());
        }
        self.refusals_told += 1;
        let file = self.file.to_string();
        self.out.refusal(Refusal { position, reason }).map_err(|source| Error::Out { file, source })
    }

    /// Gives out what is held and puts the report of the file away.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        for held in std::mem::take(&mut self.held).into_iter().flatten() {
            self.hand_on(held)?;
        }
        self.context.put_away(self.report);
        Ok(())
    }

    fn hand_on(&mut self, held: Held) -> Result<(), Error> {
        let Held { mut record, content } = held;
        let kind = record.body.kind();
        let key = hash_of(&record.key);
        let seen = self.context.seen.get(&key).copied();
        if seen == Some(content) {
            self.counts(kind).duplicate += 1;
            return Ok(());
        }
        if seen.is_some() || self.context.seen.len() < self.context.options.limits.remembered_keys {
            self.context.seen.insert(key, content);
        }
        record.supersedes = seen.is_some();
        let counts = self.counts(kind);
        counts.kept += 1;
        counts.superseding += u64::from(seen.is_some());
        for repair in &record.repairs {
            *self.report.repairs.entry(repair.rule).or_default() += 1;
        }
        if seen.is_none()
            && let Some(at) = steady(&record.body)
        {
            self.context.instants.entry(kind).or_default().push(at);
        }
        self.give(record)
    }

    fn give(&mut self, record: Record) -> Result<(), Error> {
        let file = self.file.to_string();
        self.out.record(record).map_err(|source| Error::Out { file, source })
    }
}

/// Adds to a reading the fields of an earlier one with its key, and what was repaired about those.
fn add_what_it_lacks(record: &mut Record, earlier: &Record) {
    let (Body::Reading(reading), Body::Reading(before)) = (&mut record.body, &earlier.body) else { return };
    let lacks =
        |fields: &[(&'static str, FieldValue)], name: &str| fields.iter().all(|(its, _)| *its != name);
    let told = record.repairs.len();
    for repair in &earlier.repairs {
        let again =
            record.repairs[..told].iter().any(|its| (its.rule, &its.field) == (repair.rule, &repair.field));
        if !again && lacks(&reading.fields, &repair.field) {
            record.repairs.push(repair.clone());
        }
    }
    let added: Vec<_> =
        before.fields.iter().filter(|(name, _)| lacks(&reading.fields, name)).cloned().collect();
    reading.fields.extend(added);
    reading.fields.sort_by_key(|(name, _)| *name);
}

/// The instant of a record of a kind that was written at a steady pace, so that a stretch without it means something.
fn steady(body: &Body) -> Option<Timestamp> {
    match body {
        Body::Reading(reading) => Some(reading.at),
        Body::Decision(decision) => Some(decision.at),
        Body::MarketPrice(price) => Some(price.start),
        _ => None,
    }
}

/// Hash of a reading's fields, bit by bit.
pub(crate) fn fields_hash(fields: &[(&'static str, FieldValue)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in fields {
        name.hash(&mut hasher);
        match value {
            FieldValue::Boolean(value) => (0_u8, value).hash(&mut hasher),
            FieldValue::Integer(value) => (1_u8, value).hash(&mut hasher),
            FieldValue::Unsigned(value) => (2_u8, value).hash(&mut hasher),
            FieldValue::Float(value) => (3_u8, value.to_bits()).hash(&mut hasher),
            FieldValue::String(value) => (4_u8, value).hash(&mut hasher),
        }
    }
    hasher.finish()
}

pub(crate) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn content(body: &Body) -> u64 {
    match body {
        Body::Reading(reading) => fields_hash(&reading.fields),
        // Every body is plain data with text keys, so this cannot fail; a failure would read as "never equal".
        other => serde_json::to_string(other).map_or(u64::MAX, hash_of),
    }
}
