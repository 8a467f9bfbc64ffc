//! A household that could exist: roof, battery, meter, loads and prices, the same for the same seed.

use std::ops::Range;
use std::time::Duration;
use wattlog_model::Timestamp;

/// Where a plant stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees, north positive.
    pub latitude: f64,
    /// Degrees, east positive.
    pub longitude: f64,
}

impl Default for Place {
    /// Kraków.
    fn default() -> Self {
        Self { latitude: 50.06, longitude: 19.94 }
    }
}

/// A plant; cheap to clone.
#[derive(Debug, Clone)]
pub struct Plant {
    seed: u64,
    place: Place,
    commissioned: Timestamp,
}

/// What the plant does at one instant. Signs as everywhere: battery + = discharge, grid + = export.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantState {
    /// The instant.
    pub time: Timestamp,
}

impl Plant {
    /// A plant that began to work at 2026-01-01T00:00:00Z.
    pub fn new(seed: u64, place: Place) -> Self {
        Self { seed, place, commissioned: Timestamp(1_767_225_600_000_000_000) }
    }

    /// The same plant, put to work at the start of the UTC day of `start`; its counters begin there.
    #[must_use]
    pub fn commissioned(mut self, start: Timestamp) -> Self {
        self.commissioned = Timestamp(i64::from(start.utc_day()) * Timestamp::DAY_NS);
        self
    }

    /// The seed given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The place given.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The state at an instant, whatever was asked before.
    pub fn at(&self, time: Timestamp) -> PlantState {
        PlantState { time: time.max(self.commissioned) }
    }

    /// States from `range.start` (inclusive) to `range.end` (exclusive), `step` apart.
    pub fn history(
        &self,
        range: Range<Timestamp>,
        step: Duration,
    ) -> impl Iterator<Item = PlantState> + use<> {
        let plant = self.clone();
        let step = (step.as_nanos() as usize).max(1);
        (range.start.0..range.end.0).step_by(step).map(move |time| plant.at(Timestamp(time)))
    }
}
