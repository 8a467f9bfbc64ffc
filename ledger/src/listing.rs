//! Many records at a time: by time, filtered, page by page.

use crate::record::{Record, Stored, Value};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use wattlog_model::Timestamp;

/// Which records, in which order.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Columns and the value they must have; a null is looked for as such.
    pub filters: Vec<(&'static str, Value)>,
    /// Columns and a value that they must not have.
    pub except: Vec<(&'static str, Value)>,
    /// Where the instant of the record must lie.
    pub time: Range<Timestamp>,
    /// By that instant, then by number.
    pub order: Order,
    /// Go on after this record.
    pub after: Option<Cursor>,
    /// Records of a page, 1 to [`Listing::MAX_LIMIT`].
    pub limit: usize,
}

/// Which come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    OldestFirst,
    /// The newest.
    NewestFirst,
}

/// A place in a listing. As text: `TIME_NS.NUMBER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Instant of the last record.
    pub time_ns: i64,
    /// Its number.
    pub id: i64,
}

/// Records of one page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<R> {
    /// In the order that was asked for.
    pub records: Vec<Stored<R>>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<Cursor>,
}

impl Listing {
    /// Most records of a page.
    pub const MAX_LIMIT: usize = 10_000;
    /// A page ends after this many bytes of values, however many records were asked for.
    pub const MAX_PAGE_BYTES: usize = 8 << 20;
    /// Records of a page where nobody says.
    pub const DEFAULT_LIMIT: usize = 1_000;

    /// Everything, the oldest first.
    pub fn all() -> Self {
        Self {
            filters: Vec::new(),
            except: Vec::new(),
            time: Timestamp(i64::MIN)..Timestamp(i64::MAX),
            order: Order::OldestFirst,
            after: None,
            limit: Self::DEFAULT_LIMIT,
        }
    }

    /// Only records whose `column` has `value`.
    #[must_use]
    pub fn with(mut self, column: &'static str, value: Value) -> Self {
        self.filters.push((column, value));
        self
    }

    /// Only records whose column has `text`.
    #[must_use]
    pub fn with_text(self, column: &'static str, text: &str) -> Self {
        self.with(column, Value::Text(Some(text.to_owned())))
    }

    /// Only records whose column has another text, or none.
    #[must_use]
    pub fn without_text(mut self, column: &'static str, text: &str) -> Self {
        self.except.push((column, Value::Text(Some(text.to_owned()))));
        self
    }

    /// Only records whose instant lies in `time`.
    #[must_use]
    pub fn within(self, time: Range<Timestamp>) -> Self {
        Self { time, ..self }
    }

    /// The statement and what is bound to it. One record more than asked for is read, to know whether there is a next page.
    pub(crate) fn statement<R: Record>(&self, columns: &str) -> (String, Vec<Value>) {
        let time = R::TIME;
        let mut bound = vec![Value::Int(Some(self.time.start.0)), Value::Int(Some(self.time.end.0))];
        let mut sql = format!("SELECT {columns} FROM {} WHERE {time} >= $1 AND {time} < $2", R::TABLE);
        for (column, value) in &self.filters {
            match value {
                Value::Int(None) | Value::Real(None) | Value::Text(None) => {
                    sql.push_str(&format!(" AND {column} IS NULL"));
                }
                value => {
                    bound.push(value.clone());
                    sql.push_str(&format!(" AND {column} = ${}", bound.len()));
                }
            }
        }
        for (column, value) in &self.except {
            bound.push(value.clone());
            sql.push_str(&format!(" AND ({column} <> ${} OR {column} IS NULL)", bound.len()));
        }
        let (than, word) = match self.order {
            Order::OldestFirst => (">", "ASC"),
            Order::NewestFirst => ("<", "DESC"),
        };
        if let Some(after) = self.after {
            bound.push(Value::Int(Some(after.time_ns)));
            bound.push(Value::Int(Some(after.id)));
            sql.push_str(&format!(" AND ({time}, id) {than} (${}, ${})", bound.len() - 1, bound.len()));
        }
        let limit = self.limit.clamp(1, Self::MAX_LIMIT) + 1;
        sql.push_str(&format!(" ORDER BY {time} {word}, id {word} LIMIT {limit}"));
        (sql, bound)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.time_ns, self.id)
    }
}

impl FromStr for Cursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (time, id) = text.split_once('.').unwrap_or((text, ""));
        Ok(Self { time_ns: time.parse()?, id: id.parse()? })
    }
}
