//! A store on a real disk with the home columns of `columns` in it, for the benches that go through the engine.

#![allow(dead_code, reason = "each bench uses a part of it")]

use crate::columns::{Home, home};
use std::sync::Arc;
use tempfile::TempDir;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::{Engine, Options, WriteBatch};
use wattlog_model::{ManualClock, TagSet, Timestamp};

pub(crate) const DATABASE: &str = "wattlog";
pub(crate) const MEASUREMENT: &str = "energy_data";
/// 2025-01-01 in Warsaw: a year from there is over.
pub(crate) const START_S: i64 = 1_735_686_000;
pub(crate) const STEP_S: i64 = 10;
pub(crate) const FIELDS: [&str; 6] =
    ["battery_soc", "battery_temp", "pv_power", "grid_power", "consumption", "price"];

/// Rows of each device in a body.
pub(crate) const ROWS_PER_BODY: usize = 500;

/// A folder beside the build, so that syncs reach a disk and not memory.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder can be written")
}

pub(crate) fn open(folder: &TempDir) -> Engine {
    let disk = Arc::new(OsDisk::new(folder.path()).expect("the folder is there"));
    let clock = Arc::new(ManualClock::new(Timestamp((START_S + 400 * 86_400) * 1_000_000_000)));
    Engine::open(disk, Options::default(), clock, [7; 16]).expect("the store opens")
}

/// True under `cargo test --benches`: everything once, on little data.
pub(crate) fn is_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

/// What `devices` homes report, row by row.
pub(crate) struct Plant {
    homes: Vec<[Vec<f64>; 6]>,
    tags: Vec<TagSet>,
}

impl Plant {
    pub(crate) fn new(devices: usize, days: usize) -> Self {
        let columns = |seed| {
            let Home { soc, temperature, pv, grid, load, price, .. } = home(days, seed);
            [soc, temperature, pv, grid, load, price]
        };
        let tags = (0..devices).map(|device| {
            TagSet::new([
                ("device_id", format!("dev{device:03}")),
                ("location", format!("site{:02}", device / 2)),
            ])
            .expect("valid tags")
        });
        Self { homes: (1..=devices as u64).map(columns).collect(), tags: tags.collect() }
    }

    /// Rows of each device.
    pub(crate) fn rows(&self) -> usize {
        self.homes[0][0].len()
    }

    pub(crate) fn column(&self, device: usize, field: usize) -> &[f64] {
        &self.homes[device][field]
    }

    /// One body of `rows` of every device, as an edge builds it; row `first + i` of the plant at row `time + i`.
    pub(crate) fn body(&self, first: usize, time: usize, rows: usize) -> WriteBatch {
        let mut batch = WriteBatch::new(DATABASE, None);
        let mut line = 0;
        for (home, tags) in self.homes.iter().zip(&self.tags) {
            let slot = batch.series(MEASUREMENT, tags);
            for i in 0..rows {
                line += 1;
                let mut row = batch.row(slot, time_of(time + i), line);
                for (name, column) in FIELDS.iter().zip(home) {
                    row.float(name, column[(first + i) % column.len()]);
                }
            }
        }
        batch
    }

    /// Writes everything, oldest first; gives the number of values.
    pub(crate) fn load(&self, engine: &Engine) -> u64 {
        let mut values = 0;
        for first in (0..self.rows()).step_by(ROWS_PER_BODY) {
            let rows = ROWS_PER_BODY.min(self.rows() - first);
            let receipt = engine.write(self.body(first, first, rows)).expect("the disk takes it");
            assert!(receipt.rejected.is_empty());
            values += receipt.values;
        }
        values
    }
}

pub(crate) fn time_of(row: usize) -> Timestamp {
    Timestamp((START_S + row as i64 * STEP_S) * 1_000_000_000)
}
