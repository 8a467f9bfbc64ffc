//! What every kind of record has in common, and how its fields become columns.
//!
//! Promise: a record is written and read by one list of its fields (`record!`), so a column cannot be forgotten on one
//! side; text with a NUL and numbers that are not finite are refused before the database sees them, because the two
//! databases would treat them differently.

use crate::error::LedgerError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use std::fmt;
use wattlog_model::Timestamp;

/// Who makes a change: `user:anna`, `http:192.168.1.20`, `analytics`, `import:optimiser`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 200;

    /// Cuts what is too long; an empty name is `unknown`.
    pub fn new(name: &str) -> Self {
        let name: String = name.chars().filter(|c| !c.is_control()).take(Self::MAX_CHARS).collect();
        Self(if name.is_empty() { "unknown".to_owned() } else { name })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// When.
    #[serde(with = "crate::instant")]
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

/// A record as it lies in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored<R> {
    /// Its number, given by the database.
    pub id: i64,
    /// Rises by one with each change, from 1.
    pub version: i64,
    /// When it was made, and by whom.
    pub created: Changed,
    /// When it was last changed, and by whom.
    pub updated: Changed,
    /// Its own fields.
    #[serde(flatten)]
    pub record: R,
}

/// One line of the history of a record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The version that this change made; of a removal, one more than the last.
    pub version: i64,
    /// `created`, `changed` or `removed`.
    pub action: String,
    /// When, and by whom.
    #[serde(flatten)]
    pub changed: Changed,
    /// The record after the change; of a removal, before it.
    pub record: serde_json::Value,
}

/// Which field cannot be stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Name of the field.
    pub field: &'static str,
    /// What would be right.
    pub reason: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Integers, truth values (0 and 1) and instants.
    Int(Option<i64>),
    /// Finite numbers.
    Real(Option<f64>),
    /// Text without NUL; also JSON and words of a fixed set.
    Text(Option<String>),
}

impl Value {
    /// Longest text, in bytes; also of JSON.
    pub const MAX_TEXT_BYTES: usize = 1 << 20;

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Int(_) | Self::Real(_) => 8,
            Self::Text(text) => text.as_ref().map_or(0, String::len),
        }
    }

    fn check(&self, column: &'static str) -> Result<(), Invalid> {
        match self {
            Self::Real(Some(value)) if !value.is_finite() => {
                Err(Invalid::new(column, "a finite number is expected"))
            }
            Self::Text(Some(text)) if text.contains('\0') => {
                Err(Invalid::new(column, "the text holds a NUL character"))
            }
            Self::Text(Some(text)) if text.len() > Self::MAX_TEXT_BYTES => {
                Err(Invalid::new(column, format!("{} bytes, at most {}", text.len(), Self::MAX_TEXT_BYTES)))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(Some(value)) => value.fmt(f),
            Self::Real(Some(value)) => value.fmt(f),
            Self::Text(Some(value)) => value.fmt(f),
            _ => f.write_str("null"),
        }
    }
}

/// A kind of record: one table.
pub trait Record:
    fmt::Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + Unpin + 'static
{
    /// Name of the table, and of the kind in messages.
    const TABLE: &'static str;
    /// Its own columns, in the order of [`Record::values`].
    const COLUMNS: &'static [&'static str];
    /// Columns whose values name one record; empty if only its number does.
    const KEY: &'static [&'static str];
    /// Column of the instant by which records are listed; never null.
    const TIME: &'static str;
    /// Columns by which a listing can be filtered.
    const FILTERS: &'static [&'static str];
    /// Whether each change leaves a row in `history`.
    const HISTORY: bool;

    /// What the types cannot say, with a message for people; the schema holds it too.
    ///
    /// # Errors
    /// The first field that is wrong.
    fn check(&self) -> Result<(), Invalid>;

    /// The values, in the order of the columns.
    fn values(&self) -> Vec<Value>;

    /// A filter of a listing from its text, as in `kind=charging`.
    ///
    /// # Errors
    /// A column that is no filter, or a text that is no value of it.
    fn filter(column: &str, text: &str) -> Result<(&'static str, Value), Invalid>;

    /// Reads the columns, the first of which stands at `first`.
    ///
    /// # Errors
    /// A column of another type: the table was changed by hand.
    fn read(row: &AnyRow, first: usize) -> Result<Self, sqlx::Error>;
}

/// Checks all of a record, and gives its values.
pub(crate) fn checked_values<R: Record>(record: &R) -> Result<Vec<Value>, LedgerError> {
    let values = record.values();
    let basic = R::COLUMNS.iter().zip(&values).try_for_each(|(column, value)| value.check(column));
    basic
        .and_then(|()| record.check())
        .map_err(|invalid| LedgerError::Invalid { entity: R::TABLE, invalid })?;
    Ok(values)
}

/// The values that name the record, in the order of its key.
pub(crate) fn key_values<R: Record>(values: &[Value]) -> Vec<Value> {
    let of = |key: &&str| R::COLUMNS.iter().position(|column| column == key).map(|at| values[at].clone());
    R::KEY.iter().filter_map(of).collect()
}

/// Columns that every record has, before its own.
pub(crate) const COMMON: &str = "id, version, created_ns, created_by, updated_ns, updated_by";
const COMMON_LEN: usize = 6;

pub(crate) fn read_stored<R: Record>(row: &AnyRow) -> Result<Stored<R>, sqlx::Error> {
    let changed = |at: usize| -> Result<Changed, sqlx::Error> {
        Ok(Changed { at: Timestamp(row.try_get(at)?), by: row.try_get(at + 1)? })
    };
    Ok(Stored {
        id: row.try_get(0)?,
        version: row.try_get(1)?,
        created: changed(2)?,
        updated: changed(4)?,
        record: R::read(row, COMMON_LEN)?,
    })
}

/// A type that fits in a column.
pub(crate) trait Column: Sized {
    /// The value that `text` stands for, in a filter.
    fn parse(text: &str) -> Option<Value>;
    fn value(&self) -> Value;
    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! plain_columns {
    ($($type:ty: $kind:ident;)*) => { $(
        impl Column for $type {
            fn parse(text: &str) -> Option<Value> { Some(Value::$kind(Some(text.parse().ok()?))) }
            fn value(&self) -> Value { Value::$kind(Some(self.clone())) }
            fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> { row.try_get(at) }
        }
        impl Column for Option<$type> {
            fn parse(text: &str) -> Option<Value> { <$type as Column>::parse(text) }
            fn value(&self) -> Value { Value::$kind(self.clone()) }
            fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> { row.try_get(at) }
        }
    )* };
}
plain_columns! { i64: Int; f64: Real; String: Text; }

impl Column for bool {
    fn parse(text: &str) -> Option<Value> {
        text.parse().ok().map(|truth: bool| truth.value())
    }

    fn value(&self) -> Value {
        Value::Int(Some((*self).into()))
    }

    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        Ok(row.try_get::<i64, _>(at)? != 0)
    }
}

impl Column for Timestamp {
    fn parse(text: &str) -> Option<Value> {
        crate::instant::parse(text).ok().map(|at| at.value())
    }

    fn value(&self) -> Value {
        Value::Int(Some(self.0))
    }

    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        row.try_get(at).map(Timestamp)
    }
}

impl Column for Option<Timestamp> {
    fn parse(text: &str) -> Option<Value> {
        <Timestamp as Column>::parse(text)
    }

    fn value(&self) -> Value {
        Value::Int(self.map(|at| at.0))
    }

    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(at)?.map(Timestamp))
    }
}

impl Column for serde_json::Value {
    fn parse(_: &str) -> Option<Value> {
        None
    }

    fn value(&self) -> Value {
        Value::Text(Some(self.to_string()))
    }

    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        serde_json::from_str(&row.try_get::<String, _>(at)?).map_err(|error| undecodable(at, error))
    }
}

impl Column for Vec<String> {
    fn parse(_: &str) -> Option<Value> {
        None
    }

    fn value(&self) -> Value {
        serde_json::Value::from(self.clone()).value()
    }

    fn read(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        serde_json::from_str(&row.try_get::<String, _>(at)?).map_err(|error| undecodable(at, error))
    }
}

/// A column whose text is not what its type holds.
pub(crate) fn undecodable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: at.to_string(), source: Box::new(error) }
}

/// A kind of record from the list of its fields.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $table:literal
        key [$($key:literal),*] time $time:literal filters [$($filter:literal),*] history $history:literal
        { $( $(#[$field_meta:meta])* $field:ident: $type:ty => $column:literal, )* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $( $(#[$field_meta])* pub $field: $type, )* }

        impl $crate::record::Record for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$($column),*];
            const KEY: &'static [&'static str] = &[$($key),*];
            const TIME: &'static str = $time;
            const FILTERS: &'static [&'static str] = &[$($filter),*];
            const HISTORY: bool = $history;

            fn check(&self) -> Result<(), $crate::record::Invalid> {
                self.check_meaning()
            }

            fn filter(
                column: &str,
                text: &str,
            ) -> Result<(&'static str, $crate::record::Value), $crate::record::Invalid> {
                let known = Self::FILTERS.iter().copied().find(|known| *known == column);
                let Some(known) = known else {
                    return Err($crate::record::Invalid::new("filter", format!("one of {}", Self::FILTERS.join(", "))));
                };
                let value = match known {
                    $($column => <$type as $crate::record::Column>::parse(text),)*
                    _ => None,
                };
                let wrong = || $crate::record::Invalid::new(known, "no value of this field");
                Ok((known, value.ok_or_else(wrong)?))
            }

            fn values(&self) -> Vec<$crate::record::Value> {
                vec![$($crate::record::Column::value(&self.$field)),*]
            }

            fn read(row: &sqlx::any::AnyRow, first: usize) -> Result<Self, sqlx::Error> {
                let mut at = first;
                let mut next = || { at += 1; at - 1 };
                Ok(Self { $($field: <$type as $crate::record::Column>::read(row, next())?),* })
            }
        }
    };
}
pub(crate) use record;

/// A fixed set of words, as text in the table and in JSON.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[$word_meta:meta])* $word:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$word_meta])* #[serde(rename = $text)] $word, )* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];

            /// The word as it is stored.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text),* }
            }
        }

        impl $crate::record::Column for $name {
            fn parse(text: &str) -> Option<$crate::record::Value> {
                Self::ALL.iter().find(|word| word.as_str() == text).map(|word| word.value())
            }

            fn value(&self) -> $crate::record::Value {
                $crate::record::Value::Text(Some(self.as_str().to_owned()))
            }

            fn read(row: &sqlx::any::AnyRow, at: usize) -> Result<Self, sqlx::Error> {
                let text: String = sqlx::Row::try_get(row, at)?;
                let known = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                known.ok_or_else(|| $crate::record::undecodable(at, $crate::record::UnknownWord(text)))
            }
        }
    };
}
pub(crate) use words;

/// A word that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no word of this column")]
pub(crate) struct UnknownWord(pub(crate) String);
