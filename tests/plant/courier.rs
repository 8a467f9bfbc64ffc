//! Brings what was polled and what the market told into the store, as the collector writes it.

use crate::home::Home;
use crate::story::{KINDS, Story, product_of};
use crate::truth::{QUARTER, TICK};
use std::ops::Range;
use std::time::Duration;
use wattlog_collector::config::FieldChoice;
use wattlog_collector::simulator::PlantPoints;
use wattlog_derived::price::PRICES;
use wattlog_engine::WriteBatch;
use wattlog_model::{TagSet, Timestamp};

/// Of the first days every register is written, of the next the essential ones, as may be configured. Of the others what the
/// keepers read, and the counters: writing is not what takes its time here.
const FIELDS: [&str; 9] = [
    "pv_power",
    "battery_power",
    "grid_power",
    "consumption",
    "battery_soc",
    "battery_charge_energy_total",
    "battery_discharge_energy_total",
    "pv_energy_total",
    "grid_import_energy_total",
];
/// Values of a body.
const BODY_VALUES: u64 = 30_000;

/// What arrives at once.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    Polls(Range<usize>),
    /// Of both products, for the times of these ticks.
    Prices(Range<usize>),
}

pub(crate) struct Courier {
    all: PlantPoints,
    essential: PlantPoints,
    /// Points that were written.
    pub(crate) written: u64,
}

impl Courier {
    pub(crate) fn new(device: &str) -> Self {
        let points = |fields| PlantPoints::new(device, "home", fields);
        Self { all: points(FieldChoice::All), essential: points(FieldChoice::Essential), written: 0 }
    }

    pub(crate) fn bring(&mut self, home: &Home, story: &Story, block: &Block) {
        match block {
            Block::Polls(ticks) => self.polls(home, story, ticks),
            Block::Prices(ticks) => prices(home, story, ticks),
        }
    }

    fn polls(&mut self, home: &Home, story: &Story, ticks: &Range<usize>) {
        let first = Timestamp(story.ticks[ticks.start].start);
        let states =
            story.plant.history(first..Timestamp(i64::MAX), Duration::from_nanos(TICK.unsigned_abs()));
        let mut batch = WriteBatch::new("wattlog", None);
        for (tick, state) in ticks.clone().zip(states) {
            assert_eq!(state.time.0, story.ticks[tick].start);
            if story.is_silent(tick) {
                continue;
            }
            let is_of = |part: usize| story.parts[part].contains(&tick);
            let points = if is_of(0) { &mut self.all } else { &mut self.essential };
            let mut point = points.point(&state);
            if !is_of(0) && !is_of(1) {
                point.fields.retain(|(name, _)| FIELDS.contains(&name.as_str()));
            }
            point.time = Some(Timestamp(story.polls[tick]));
            batch.push(&point, state.time, 0);
            self.written += 1;
            if batch.values() > BODY_VALUES {
                write(home, std::mem::replace(&mut batch, WriteBatch::new("wattlog", None)));
            }
        }
        write(home, batch);
    }
}

fn prices(home: &Home, story: &Story, ticks: &Range<usize>) {
    let mut batch = WriteBatch::new("wattlog", None);
    let quarter = |tick: usize| story.ticks[tick].start.div_euclid(QUARTER);
    for kind in KINDS {
        let tags = [("source", "pse"), ("product", product_of(kind).name()), ("area", "PL")];
        let slot = batch.series(PRICES, &TagSet::new(tags).unwrap());
        for quarter in quarter(ticks.start)..=quarter(ticks.end - 1) {
            let price = story.market_pln_kwh(kind, quarter * QUARTER);
            batch.row(slot, Timestamp(quarter * QUARTER), 0).float("market_price", price);
        }
    }
    write(home, batch);
}

fn write(home: &Home, batch: WriteBatch) {
    if !batch.is_empty() {
        assert_eq!(home.engine.write(batch).unwrap().rejected, []);
    }
}
