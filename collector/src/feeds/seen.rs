//! What a feed has stored lately, so that only news goes to the store and days are known to be whole.
//!
//! Invariants
//! 1. A row counts as seen only after it was stored.
//! 2. A row published earlier than the one stored is no news, whatever it says.

use super::agenda::Fill;
use super::rows::Row;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use wattlog_model::{FieldValue, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Seen {
    by_time: BTreeMap<i64, Stored>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    digest: u64,
    published: Option<Timestamp>,
    fill: Fill,
}

impl Seen {
    /// True if the row says something that is not stored.
    pub(crate) fn is_news(&self, row: &Row) -> bool {
        self.by_time.get(&row.time.0).is_none_or(|stored| {
            let is_older = matches!((row.published, stored.published), (Some(new), Some(old)) if new < old);
            !is_older && stored.digest != digest(row)
        })
    }

    /// The row is stored. One that is older than what is known leaves that alone.
    pub(crate) fn stored(&mut self, row: &Row, fill: Fill) {
        let digest = digest(row);
        let is_known = self.by_time.get(&row.time.0).is_some_and(|stored| stored.digest == digest);
        if is_known || self.is_news(row) {
            let published =
                row.published.max(self.by_time.get(&row.time.0).and_then(|stored| stored.published));
            self.by_time.insert(row.time.0, Stored { digest, published, fill });
        }
    }

    /// Times of rows within a range that have at least so much, ascending.
    pub(crate) fn filled(&self, range: std::ops::Range<Timestamp>, least: Fill) -> Vec<i64> {
        let rows = self.by_time.range(range.start.0..range.end.0);
        rows.filter(|(_, stored)| stored.fill >= least).map(|(time, _)| *time).collect()
    }

    /// Forgets rows before an instant, and more if there are very many.
    pub(crate) fn forget_before(&mut self, time: Timestamp) {
        self.by_time = self.by_time.split_off(&time.0);
        while self.by_time.len() > MOST_ROWS {
            self.by_time.pop_first();
        }
    }
}

/// 400 days of quarters.
const MOST_ROWS: usize = 38_400;

fn digest(row: &Row) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (field, value) in &row.fields {
        field.hash(&mut hasher);
        match value {
            FieldValue::Float(value) => value.to_bits().hash(&mut hasher),
            FieldValue::Integer(value) => value.hash(&mut hasher),
            FieldValue::Unsigned(value) => value.hash(&mut hasher),
            FieldValue::Boolean(value) => value.hash(&mut hasher),
            FieldValue::String(value) => value.hash(&mut hasher),
        }
    }
    hasher.finish()
}
