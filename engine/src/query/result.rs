//! Answers: columns out, never rows inside.

use crate::feed::Cursor;
use crate::ids::SegmentId;
use std::ops::Range;
use std::sync::Arc;
use wattlog_model::Unit;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryResult {
    /// Series by rising group tags. A series without a row is left out.
    pub series: Vec<ResultSeries>,
    /// What could not be read; empty if the answer is whole.
    pub partial: Vec<PartialRange>,
    /// What it took.
    pub stats: QueryStats,
}

impl QueryResult {
    /// True if something that belongs to the answer could not be read.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Rows of all series.
    pub fn rows(&self) -> usize {
        self.series.iter().map(ResultSeries::rows).sum()
    }
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultSeries {
    /// Tags that all of its points share: the whole tag set, or the keys grouped by (a missing tag is empty).
    pub tags: Vec<(String, String)>,
    /// Columns of equal length; the first is `time`.
    pub columns: Vec<ResultColumn>,
}

impl ResultSeries {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ResultColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultColumn {
    /// `time`, `FIELD`, `FIELD_FN` or `FIELD_time`.
    pub name: String,
    /// The field it comes from; none for `time`.
    pub field: Option<String>,
    /// Unit of the values, if the field has one and the function keeps it (a count has none).
    pub unit: Option<Unit>,
    /// One value per row; missing is none.
    pub values: ResultValues,
}

/// Values of a column, all of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultValues {
    /// Nanoseconds since the Unix epoch.
    Time(Vec<Option<i64>>),
    /// IEEE 754 binary64.
    Float(Vec<Option<f64>>),
    /// Signed integers.
    Integer(Vec<Option<i64>>),
    /// Unsigned integers.
    Unsigned(Vec<Option<u64>>),
    /// Booleans.
    Boolean(Vec<Option<bool>>),
    /// Texts.
    String(Vec<Option<Arc<str>>>),
}

impl ResultValues {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Time(v) | Self::Integer(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Unsigned(v) => v.len(),
            Self::Boolean(v) => v.len(),
            Self::String(v) => v.len(),
        }
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a range of row numbers.
    pub(super) fn slice(self, rows: Range<usize>) -> Self {
        fn cut<T>(mut values: Vec<T>, rows: Range<usize>) -> Vec<T> {
            values.truncate(rows.end);
            values.drain(..rows.start);
            values
        }
        match self {
            Self::Time(v) => Self::Time(cut(v, rows)),
            Self::Float(v) => Self::Float(cut(v, rows)),
            Self::Integer(v) => Self::Integer(cut(v, rows)),
            Self::Unsigned(v) => Self::Unsigned(cut(v, rows)),
            Self::Boolean(v) => Self::Boolean(cut(v, rows)),
            Self::String(v) => Self::String(cut(v, rows)),
        }
    }

    /// Turns the order of the rows round.
    pub fn reverse(&mut self) {
        match self {
            Self::Time(v) | Self::Integer(v) => v.reverse(),
            Self::Float(v) => v.reverse(),
            Self::Unsigned(v) => v.reverse(),
            Self::Boolean(v) => v.reverse(),
            Self::String(v) => v.reverse(),
        }
    }
}

/// A stretch of time in which something that belongs to the answer could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialRange {
    /// The damaged segment; none if names (the catalog) could not be read.
    pub segment: Option<SegmentId>,
    /// The field that is missing; none if all asked fields are.
    pub field: Option<String>,
    /// First and last time that may be missing, in nanoseconds, both inclusive.
    pub first: i64,
    pub last: i64,
    /// What was found.
    pub reason: String,
}

/// What an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Place in the commit order up to which the answer sees; the change feed takes it.
    pub as_of: Cursor,
    /// Series of the store that were asked.
    pub series: u64,
    /// Rows read: decoded from row groups or copied from memtables.
    pub points_scanned: u64,
    /// Field and time blocks decoded.
    pub blocks_decoded: u64,
    /// Field blocks answered from their statistics.
    pub blocks_from_statistics: u64,
    /// Row groups not decoded because their statistics prove that no row satisfies the condition.
    pub groups_pruned: u64,
    /// Segments of the namespace that were left out by time or measurement.
    pub segments_pruned: u64,
    /// Time it took, in microseconds.
    pub elapsed_us: u64,
}
