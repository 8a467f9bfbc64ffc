//! What became of every record: repairs with their originals, refusals with their reasons, and the counts.
//!
//! Invariants
//! 1. `read = kept + duplicate + replaced + refused` for every kind of every file. What cannot be read as any record
//!    (a torn line, an unknown shape) counts as refused alone, in [`FileReport::unread`].
//! 2. A repair keeps what was written; a refusal names the file and the place in it.

use crate::record::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use wattlog_model::Timestamp;

/// Where a record came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The file, relative to the tree's folder, with `/` between its parts.
    pub file: Arc<str>,
    /// Number of the record in the file (of the table, for a store), from 0.
    pub record: u64,
    /// The place in the file.
    pub place: Place,
}

/// The place of a record in its file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Start of the outermost object that holds the record, in the text (for a compressed file: decompressed).
    Text {
        /// Bytes from the start.
        offset: u64,
        /// Line, from 1.
        line: u64,
    },
    /// A row of the store.
    Row {
        /// Name of the table.
        table: Arc<str>,
        /// SQLite's number of the row; 0 for the table as a whole.
        rowid: i64,
    },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Text { offset, line } => {
                write!(f, "{}, line {line} (byte {offset}), record {}", self.file, self.record)
            }
            Place::Row { table, rowid } => write!(f, "{}, table {table}, row {rowid}", self.file),
        }
    }
}

/// Something that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where it is.
    pub position: Position,
    /// A sentence for the owner.
    pub reason: String,
}

/// A value that differs from what was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// Why it differs.
    pub rule: Rule,
    /// Name of the field in the record.
    pub field: String,
    /// What was written.
    pub original: Value,
    /// What the record holds; `null` if the value is missing now.
    pub repaired: Value,
}

/// Why a value differs from what was written. The evidence each rule asks for stands where it is applied (`src/read`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The file began with a byte order mark, which was skipped.
    ByteOrderMark,
    /// `NaN`, `Infinity` or a number beyond any double: missing.
    NotFinite,
    /// The register's "no data" (all ones): missing.
    NoData,
    /// A number that the quantity cannot have (a charge of 120 %): missing.
    OutOfRange,
    /// Text where a number should be: the number if it is one, else missing.
    NotANumber,
    /// A zero that stands for "not known": missing.
    FalseZero,
    /// A power in kilowatts under a name that meant watts.
    KilowattsAsWatts,
    /// Only the kilowatt twin of a power was there.
    WattsFromKilowatts,
    /// The daily counter stood under the name of the lifetime counter.
    DailyCounterAsTotal,
    /// A value stood under the name of another quantity.
    Misnamed,
    /// A probability in percent.
    ConfidenceInPercent,
    /// The market price in PLN/MWh was taken for PLN/kWh: 1000 times too large.
    PriceScale,
    /// A cost was divided by 1000 once too often.
    CostScale,
    /// A cost followed a price that was 1000 times too large.
    CostOfWrongPrice,
    /// A saving was calculated from a wrong cost.
    SavingsOfWrongCost,
    /// A cost of the time of the scale error that no price of its record explains: missing.
    CostUnexplained,
    /// Charge and discharge, or import and export, stood under each other's name.
    SwappedTotals,
    /// The end of a period stood as its time: the period's start was taken.
    PeriodEndAsTime,
    /// A guess from other quantities, no measurement: missing.
    NotMeasured,
    /// A time of the repeated hour without anything that tells its pass: the first.
    FirstPassAssumed,
    /// A local time that never existed: moved on by the length of the gap.
    MissingHour,
    /// The file was cut off; what was whole of the object was taken.
    CutOff,
}

/// Counts of one kind of record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records found.
    pub read: u64,
    /// Records given out.
    pub kept: u64,
    /// Equal to a record that was given out before.
    pub duplicate: u64,
    /// Followed in the same file by another record with the same key, which was taken instead, as the optimiser's own
    /// store did. Of a reading, fields that the later one lacks went into that.
    pub replaced: u64,
    /// Records given out (part of `kept`) whose key an earlier file had with other content.
    pub superseding: u64,
    /// Not taken.
    pub refused: u64,
}

/// What one file gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The file, relative to the tree's folder.
    pub file: String,
    /// Shapes found in it and how often each.
    pub shapes: BTreeMap<String, u64>,
    /// Records, by kind.
    pub kinds: BTreeMap<Kind, Counts>,
    /// Repairs, by rule.
    pub repairs: BTreeMap<Rule, u64>,
    /// Places that are no record at all, and were refused.
    pub unread: u64,
    /// Keys of records that nothing takes, and how often each was there; at most [`crate::Limits::unknown_keys`] names.
    pub unknown_keys: BTreeMap<String, u64>,
}

/// A stretch without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// What is missing.
    pub kind: Kind,
    /// The last record before.
    pub from: Timestamp,
    /// The first record after.
    pub to: Timestamp,
}

/// The whole of a migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One entry for each file, in the order of reading.
    pub files: Vec<FileReport>,
    /// Sum of the files' counts.
    pub kinds: BTreeMap<Kind, Counts>,
    /// Sum of the files' repairs.
    pub repairs: BTreeMap<Rule, u64>,
    /// Sum of the files' places that are no record.
    pub unread: u64,
    /// The longest holes first, at most [`crate::Limits::holes`].
    pub holes: Vec<Hole>,
    /// Holes found, also those beyond the list.
    pub holes_found: u64,
}

impl FileReport {
    /// Records of this kind that were given out.
    pub fn kept(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).map_or(0, |counts| counts.kept)
    }

    /// Everything refused in this file: records and places that are none.
    pub fn refused(&self) -> u64 {
        self.unread + self.kinds.values().map(|counts| counts.refused).sum::<u64>()
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.read += other.read;
        self.kept += other.kept;
        self.duplicate += other.duplicate;
        self.replaced += other.replaced;
        self.superseding += other.superseding;
        self.refused += other.refused;
    }
}

/// Text of a message, cut to a length that a log line bears.
pub(crate) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    if text.chars().count() <= MAX_CHARS {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    short.push('…');
    short
}
