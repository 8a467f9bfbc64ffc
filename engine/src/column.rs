//! Decoded columns: what the memtable gives, a segment takes and a query computes on.
//!
//! Invariants
//! 1. In [`SeriesRows`] times rise strictly; each column speaks of the same rows.
//! 2. A [`Column`] holds the values of present rows only, in row order; `values.len()` equals the rows present.

use crate::ids::FieldId;
use std::sync::Arc;
use wattlog_model::{FieldType, FieldValue};

/// Values of one field, all of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// IEEE 754 binary64.
    Float(Vec<f64>),
    /// Signed integers.
    Integer(Vec<i64>),
    /// Unsigned integers.
    Unsigned(Vec<u64>),
    /// Booleans.
    Boolean(Vec<bool>),
    /// Texts; equal neighbours usually share one allocation.
    String(Vec<Arc<str>>),
}

/// Which rows of a row group or run hold a value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Every row.
    All,
    /// The rows listed, rising.
    Rows(Vec<u32>),
}

/// One field over some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Rows that have a value.
    pub presence: Presence,
    /// Their values, in row order.
    pub values: Values,
}

/// Rows of one series in time order, without duplicates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeriesRows {
    /// Timestamps in nanoseconds, rising strictly.
    pub times: Vec<i64>,
    /// Columns by field id, rising; a field without any value here is left out.
    pub columns: Vec<(FieldId, Column)>,
}

impl Values {
    /// An empty column of that type.
    pub fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Vec::new()),
            FieldType::Integer => Self::Integer(Vec::new()),
            FieldType::Unsigned => Self::Unsigned(Vec::new()),
            FieldType::Boolean => Self::Boolean(Vec::new()),
            FieldType::String => Self::String(Vec::new()),
        }
    }

    /// Type of the values.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(v) => v.len(),
            Self::Integer(v) => v.len(),
            Self::Unsigned(v) => v.len(),
            Self::Boolean(v) => v.len(),
            Self::String(v) => v.len(),
        }
    }

    /// True if there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value at `index`, copied out.
    ///
    /// # Panics
    /// If `index` is not below [`Values::len`].
    pub fn get(&self, index: usize) -> FieldValue {
        match self {
            Self::Float(v) => FieldValue::Float(v[index]),
            Self::Integer(v) => FieldValue::Integer(v[index]),
            Self::Unsigned(v) => FieldValue::Unsigned(v[index]),
            Self::Boolean(v) => FieldValue::Boolean(v[index]),
            Self::String(v) => FieldValue::String(v[index].clone()),
        }
    }

    /// Appends `value` if it has this column's type; gives it back otherwise.
    pub fn push(&mut self, value: FieldValue) -> Result<(), FieldValue> {
        match (self, value) {
            (Self::Float(v), FieldValue::Float(x)) => v.push(x),
            (Self::Integer(v), FieldValue::Integer(x)) => v.push(x),
            (Self::Unsigned(v), FieldValue::Unsigned(x)) => v.push(x),
            (Self::Boolean(v), FieldValue::Boolean(x)) => v.push(x),
            (Self::String(v), FieldValue::String(x)) => v.push(x),
            (_, other) => return Err(other),
        }
        Ok(())
    }

    /// Appends `from[range]`; both must have the same type.
    ///
    /// # Panics
    /// If the types differ or the range is out of bounds.
    pub fn extend_from(&mut self, from: &Self, range: std::ops::Range<usize>) {
        match (self, from) {
            (Self::Float(a), Self::Float(b)) => a.extend_from_slice(&b[range]),
            (Self::Integer(a), Self::Integer(b)) => a.extend_from_slice(&b[range]),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.extend_from_slice(&b[range]),
            (Self::Boolean(a), Self::Boolean(b)) => a.extend_from_slice(&b[range]),
            (Self::String(a), Self::String(b)) => a.extend_from_slice(&b[range]),
            (a, b) => panic!("a column of {} cannot take values of {}", a.field_type(), b.field_type()),
        }
    }

    /// Keeps the first `len` values.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Float(v) => v.truncate(len),
            Self::Integer(v) => v.truncate(len),
            Self::Unsigned(v) => v.truncate(len),
            Self::Boolean(v) => v.truncate(len),
            Self::String(v) => v.truncate(len),
        }
    }

    /// Removes all values and keeps the room.
    pub fn clear(&mut self) {
        match self {
            Self::Float(v) => v.clear(),
            Self::Integer(v) => v.clear(),
            Self::Unsigned(v) => v.clear(),
            Self::Boolean(v) => v.clear(),
            Self::String(v) => v.clear(),
        }
    }
}

impl Column {
    /// Position in `values` of the value of `row`, if that row has one.
    pub fn position(&self, row: u32) -> Option<usize> {
        match &self.presence {
            Presence::All => ((row as usize) < self.values.len()).then_some(row as usize),
            Presence::Rows(rows) => rows.binary_search(&row).ok(),
        }
    }

    /// Row of the value at `position` in `values`.
    pub fn row(&self, position: usize) -> usize {
        match &self.presence {
            Presence::All => position,
            Presence::Rows(rows) => rows[position] as usize,
        }
    }
}
