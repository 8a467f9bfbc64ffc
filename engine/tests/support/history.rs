//! Random lives of a store: what its owners do to it between two power cuts.

use super::content::{Body, Cell, Content, DATABASES, Deletion, Exact, FIELDS, INTERVAL_DATABASE, SERIES};
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::Rng;
use wattlog_engine::options::Options;
use wattlog_model::{FieldType, FieldValue};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write(Body),
    /// Written at once by as many threads, to cells that do not meet.
    Burst(Vec<Body>),
    /// Waits until all is in segments.
    Seal,
    /// Waits until there are as few segments as can be.
    Compact,
    /// Closed in order, opened again.
    Reopen,
    /// Dropped without a word, opened again.
    Drop,
    /// Time goes by.
    Wait(Duration),
    /// Units of some fields are told.
    Describe,
}

/// What sort of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// A new store and its first few steps.
    Young,
    /// Long enough for seals, retired logs and merged catalogs.
    Old,
}

/// Draws histories. What was written before is remembered, so that some of it is written again.
#[derive(Debug)]
pub(crate) struct Author {
    rng: Rng,
    now: i64,
    written: Vec<Cell>,
}

impl Author {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, now: START_NS, written: Vec::new() }
    }

    pub(crate) fn history(&mut self, life: Life) -> Vec<Step> {
        let steps = match life {
            Life::Young => 3 + self.rng.index(4),
            Life::Old => 12 + self.rng.index(28),
        };
        (0..steps).map(|_| self.step()).collect()
    }

    fn step(&mut self) -> Step {
        match self.rng.below(100) {
            0..56 => Step::Write(self.body()),
            56..62 => Step::Write(self.deletion()),
            62..64 => Step::Write(self.retention()),
            64..72 => self.burst(),
            72..79 => Step::Seal,
            79..82 => Step::Compact,
            82..88 => Step::Reopen,
            88..92 => Step::Drop,
            92..97 => Step::Wait(Duration::from_millis(500 + self.rng.below(20_000))),
            _ => Step::Describe,
        }
    }

    pub(crate) fn body(&mut self) -> Body {
        let database = self.rng.index(DATABASES.len());
        self.body_of(database, None)
    }

    /// Deletes something that was written, most of the time.
    fn deletion(&mut self) -> Body {
        let Some(cell) = (!self.written.is_empty()).then(|| *self.rng.pick(&self.written)) else {
            return self.body();
        };
        let len = *self.rng.pick(&[1, 10_000_000_001, DAY_NS]);
        let start = cell.time - self.rng.below(2) as i64 * self.rng.below(len as u64) as i64;
        let field = self.rng.chance(40).then_some(cell.field);
        let deletion = Deletion { series: cell.series, field, times: start..start + len };
        Body { deletion: Some(deletion), ..Body::new(cell.database, Vec::new()) }
    }

    /// Hides what is older than something that was written, most of the time; the clock never says less than it did first.
    fn retention(&mut self) -> Body {
        let old: Vec<Cell> = self.written.iter().copied().filter(|cell| cell.time < START_NS).collect();
        if old.is_empty() {
            return self.body();
        }
        let cell = *self.rng.pick(&old);
        let cutoff = (cell.time + self.rng.below(2) as i64).min(START_NS - 1);
        Body { cutoff: Some(cutoff), ..Body::new(cell.database, Vec::new()) }
    }

    /// Bodies whose cells do not meet: each has a series of its own.
    fn burst(&mut self) -> Step {
        let database = self.rng.index(DATABASES.len());
        let bodies = (0..2 + self.rng.index(2)).map(|i| self.body_of(database, Some(i))).collect();
        Step::Burst(bodies)
    }

    fn body_of(&mut self, database: usize, only: Option<usize>) -> Body {
        let mut cells = Content::new();
        for _ in 0..=self.rng.index(8) {
            let series = only.unwrap_or_else(|| self.rng.index(SERIES.len()));
            let time = self.time(database, series);
            for (field, (_, field_type)) in FIELDS.iter().enumerate() {
                if self.rng.chance(45) {
                    let cell = Cell { database, series, time, field };
                    cells.insert(cell, Exact(self.value(*field_type)));
                }
            }
        }
        if cells.is_empty() {
            let cell = Cell { database, series: only.unwrap_or(0), time: self.now, field: 0 };
            cells.insert(cell, Exact(self.value(FieldType::Float)));
        }
        self.written.extend(cells.keys().copied());
        Body::new(database, cells.into_iter().collect())
    }

    /// Mostly a little later than the last; some late, some over what is there, a few far off.
    fn time(&mut self, database: usize, series: usize) -> i64 {
        match self.rng.below(20) {
            0 | 1 => self.now - self.rng.below(3 * DAY_NS as u64) as i64,
            2..5 => {
                let same: Vec<i64> = self
                    .written
                    .iter()
                    .filter(|cell| cell.database == database && cell.series == series)
                    .map(|cell| cell.time)
                    .collect();
                if same.is_empty() { self.now } else { *self.rng.pick(&same) }
            }
            5 => *self.rng.pick(&[0, -1, 1, DAY_NS - 1, DAY_NS, 400 * DAY_NS]),
            _ => {
                self.now += 10_000_000_000;
                self.now
            }
        }
    }

    fn value(&mut self, field_type: FieldType) -> FieldValue {
        let number = self.rng.next_u64();
        match field_type {
            FieldType::Float => FieldValue::Float(match number % 8 {
                0 => -0.0,
                1 => f64::from_bits(number >> 12),
                2 => (number >> 20) as f64 / 7.0,
                _ => (number >> 32) as i32 as f64 / 10.0,
            }),
            FieldType::Integer => FieldValue::Integer(match number % 8 {
                0 => i64::MIN,
                1 => number as i64,
                _ => (number >> 48) as i64,
            }),
            FieldType::Unsigned => {
                FieldValue::Unsigned(if number.is_multiple_of(8) { u64::MAX } else { number >> 40 })
            }
            FieldType::Boolean => FieldValue::Boolean(number & 256 != 0),
            FieldType::String => FieldValue::String(match number % 6 {
                0 => "".into(),
                1 => "z\u{17c}\u{f3}\u{142}\u{107} ".repeat((number >> 8) as usize % 40).into(),
                other => ["normal", "off-grid", "eco", "fault"][other as usize - 2].into(),
            }),
        }
    }
}

/// Small limits, so that a short life meets every limit.
pub(crate) fn options(rng: &mut Rng, read_mode: ReadMode) -> Options {
    Options {
        read_mode,
        memtable_bytes: *rng.pick(&[4 << 10, 32 << 10, 1 << 30]),
        wal_bytes: *rng.pick(&[2 << 10, 16 << 10, 1 << 30]),
        ballast_bytes: *rng.pick(&[0, 4 << 10, 32 << 10]),
        max_open_maps: *rng.pick(&[1, 3, 1024]),
        min_retention: Duration::ZERO,
        pco_after: (read_mode == ReadMode::Pread).then_some(Duration::ZERO),
        ..Options::default()
    }
}

/// How the last of the databases is answered.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
pub(crate) const fn is_interval(database: usize) -> bool {
    database == INTERVAL_DATABASE
}

const DAY_NS: i64 = 86_400_000_000_000;
/// Shortly before a midnight (2026-03-01), so that histories cross one.
pub(crate) const START_NS: i64 = 1_772_322_900_000_000_000;
