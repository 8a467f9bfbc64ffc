//! What a feed has stored lately, so that only news goes to the store and days are known to be whole.
//!
//! Invariants
//! 1. A row counts as seen only after it was stored.
//! 2. A row published earlier than the one stored is no news, whatever it says.

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
    is_whole: bool,
}

impl Seen {
    /// True if the row says something that is not stored.
    pub(crate) fn is_news(&self, row: &Row) -> bool {
        self.by_time.get(&row.time.0).is_none_or(|stored| {
            let is_older = matches!((row.published, stored.published), (Some(new), Some(old)) if new < old);
            !is_older && stored.digest != digest(row)
        })
    }

    /// The row is stored; `is_whole` if nothing of it is still to come.
    pub(crate) fn stored(&mut self, row: &Row, is_whole: bool) {
        let stored = Stored { digest: digest(row), published: row.published, is_whole };
        self.by_time.insert(row.time.0, stored);
    }

    /// Times of whole rows within a range, ascending.
    pub(crate) fn whole(&self, range: std::ops::Range<Timestamp>) -> Vec<i64> {
        let rows = self.by_time.range(range.start.0..range.end.0);
        rows.filter(|(_, stored)| stored.is_whole).map(|(time, _)| *time).collect()
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
