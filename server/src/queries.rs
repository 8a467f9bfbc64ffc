//! Which queries run, and which of late took long.
//!
//! Promise: bounded memory (`slow_queries` entries, texts cut at [`MAX_TEXT_CHARS`]); what is noted costs a lock of a short
//! list at the beginning and at the end of a query, however long it runs.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_engine::query::QueryStats;
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Characters of a query that are kept.
const MAX_TEXT_CHARS: usize = 2000;

/// The list; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Queries {
    threshold: Duration,
    kept: usize,
    inner: Arc<Mutex<Lists>>,
}

#[derive(Debug, Default)]
struct Lists {
    next: u64,
    running: BTreeMap<u64, Running>,
    /// Newest last.
    slow: VecDeque<Ended>,
}

/// A query that runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) endpoint: &'static str,
    /// As it stands in the URL.
    pub(crate) text: String,
    /// When it got its turn.
    pub(crate) began: Timestamp,
    clock: Instant,
}

/// A query that took at least the threshold.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) query: Running,
    pub(crate) took: Duration,
    /// What was read; none if it ended before there was an answer.
    pub(crate) stats: Option<QueryStats>,
    /// Why it has no answer.
    pub(crate) error: Option<String>,
}

impl Running {
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}

/// Taken off the list of running queries when it goes, also by a panic.
#[derive(Debug)]
pub(crate) struct Watched {
    queries: Queries,
    id: u64,
    /// For the list of slow ones.
    pub(crate) stats: Option<QueryStats>,
    pub(crate) error: Option<String>,
}

impl Queries {
    pub(crate) fn new(threshold: Duration, kept: u32) -> Self {
        Self { threshold, kept: kept as usize, inner: Arc::default() }
    }

    /// Notes the beginning of a query.
    pub(crate) fn begin(&self, endpoint: &'static str, text: &str, now: Timestamp) -> Watched {
        let text = match text.char_indices().nth(MAX_TEXT_CHARS) {
            None => text.to_owned(),
            Some((end, _)) => format!("{}...", &text[..end]),
        };
        let running = Running { endpoint, text, began: now, clock: Instant::now() };
        let mut lists = self.inner.lock();
        let id = lists.next;
        lists.next += 1;
        lists.running.insert(id, running);
        Watched { queries: self.clone(), id, stats: None, error: None }
    }

    /// Time from which a query counts as slow.
    pub(crate) fn threshold(&self) -> Duration {
        self.threshold
    }

    /// Running queries, oldest first.
    pub(crate) fn running(&self) -> Vec<Running> {
        self.inner.lock().running.values().cloned().collect()
    }

    /// Slow queries, newest first.
    pub(crate) fn slow(&self) -> Vec<Ended> {
        self.inner.lock().slow.iter().rev().cloned().collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut lists = self.queries.inner.lock();
        let Some(query) = lists.running.remove(&self.id) else { return };
        let took = query.elapsed();
        if took < self.queries.threshold || self.queries.kept == 0 {
            return;
        }
        if lists.slow.len() >= self.queries.kept {
            lists.slow.pop_front();
        }
        let error = self.error.take().map(|text| shortened(&text));
        lists.slow.push_back(Ended { query, took, stats: self.stats, error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(queries: &Queries, text: &str) -> Watched {
        queries.begin("query", text, Timestamp(5))
    }

    #[test]
    fn the_newest_slow_queries_are_kept_and_running_ones_told() {
        let queries = Queries::new(Duration::ZERO, 2);
        let first = begin(&queries, "a");
        let mut second = begin(&queries, "b");
        assert_eq!(queries.running().iter().map(|q| q.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(queries.slow().len(), 0);
        second.stats = Some(QueryStats { points_scanned: 7, ..QueryStats::default() });
        drop(second);
        drop(first);
        let mut third = begin(&queries, "c");
        third.error = Some("out of time".into());
        drop(third);
        assert_eq!(queries.running().len(), 0);
        let slow = queries.slow();
        assert_eq!(slow.iter().map(|q| q.query.text.as_str()).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(slow[0].error.as_deref(), Some("out of time"));
        assert_eq!((slow[1].stats, slow[1].query.began), (None, Timestamp(5)));
    }

    #[test]
    fn quick_queries_are_not_kept_and_long_texts_are_cut() {
        let queries = Queries::new(Duration::from_secs(3600), 5);
        drop(begin(&queries, "quick"));
        assert_eq!(queries.slow().len(), 0);
        let none = Queries::new(Duration::ZERO, 0);
        drop(begin(&none, "x"));
        assert_eq!(none.slow().len(), 0);
        let long = begin(&queries, &"ż".repeat(100_000));
        assert_eq!(queries.running()[0].text.chars().count(), MAX_TEXT_CHARS + 3);
        drop(long);
    }
}
