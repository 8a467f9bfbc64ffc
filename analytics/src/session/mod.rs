//! Charging and selling sessions: when the battery was charged, when it sold, how much, from where, for what money.
//!
//! One [`Detector`] looks for sessions of one [`Kind`] of one device. It is fed samples in order of time, keeps little
//! (its state can be written down and read back between any two samples), and says which sessions have ended.
//!
//! What a session is. Samples that have what the kind needs (charging: battery power; selling: battery and grid power)
//! are *readings*; two neighbouring readings at most `max_gap_ns` apart are *joined*, power between them moves on a line.
//! 1. A reading is *on* at or above the start thresholds, or at or above the stop thresholds if the joined reading before
//!    it was on.
//! 2. A *run* is a row of joined readings that are on. It begins with the joined reading before it and ends with the
//!    joined reading after it (so both flanks belong to it), or with its own first and last where nothing is joined.
//! 3. Runs with at most `merge_pause_ns` from the end of one to the begin of the next are one session.
//! 4. What is shorter than `min_duration_ns` is no session.
//!
//! Invariants
//! 1. Sessions of a detector rise, and are more than `merge_pause_ns` apart.
//! 2. The result depends on the samples alone: not on how they were cut into calls, nor on restarts between them.
//! 3. Energy between readings that are not joined is not counted; `covered_ns` tells how much of a session was.
//!
//! Late samples: [`affected_window`], [`redetect`] and [`revise`].

mod detector;
mod measure;
mod params;
mod revise;

pub use detector::Detector;
pub use params::{InvalidParams, Params, Thresholds};
pub use revise::{
    AffectedWindow, Change, RedetectError, Redetection, Revision, affected_window, redetect, revise,
};

use serde::{Deserialize, Serialize};
use std::fmt;
use wattlog_model::Timestamp;

/// What kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Energy goes into the battery.
    Charging,
    /// Energy goes out of the battery while the home exports.
    Selling,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Charging => "charging",
            Self::Selling => "selling",
        })
    }
}

/// What is known at one instant. Every value may be missing; a price is that which begins to hold here, not one that is
/// carried on from before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When.
    pub time: Timestamp,
    /// W, + = discharge.
    #[serde(default)]
    pub battery_w: Option<f64>,
    /// W, + = export.
    #[serde(default)]
    pub grid_w: Option<f64>,
    /// W.
    #[serde(default)]
    pub pv_w: Option<f64>,
    /// W, of the house.
    #[serde(default)]
    pub consumption_w: Option<f64>,
    /// State of charge, %.
    #[serde(default)]
    pub soc_percent: Option<f64>,
    /// What a kWh from the grid costs, PLN.
    #[serde(default)]
    pub import_price_pln_kwh: Option<f64>,
    /// What a kWh to the grid earns, PLN.
    #[serde(default)]
    pub export_price_pln_kwh: Option<f64>,
}

impl Sample {
    /// A sample in which nothing is known.
    pub fn empty(time: Timestamp) -> Self {
        Self {
            time,
            battery_w: None,
            grid_w: None,
            pv_w: None,
            consumption_w: None,
            soc_percent: None,
            import_price_pln_kwh: None,
            export_price_pln_kwh: None,
        }
    }
}

/// Whether a session may still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The samples end in it, or so soon after it that it may go on.
    Open,
    /// Over, unless late samples come.
    Closed,
}

/// One session. Its key is ([`Session::device`], [`Session::kind`], [`Session::start`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Whose battery.
    pub device: String,
    /// What kind.
    pub kind: Kind,
    /// Time of its first reading.
    pub start: Timestamp,
    /// Time of its last reading so far.
    pub end: Timestamp,
    /// May it still grow?
    pub status: Status,
    /// kWh into the battery (charging) or out of it (selling): integral of power on lines between readings.
    pub energy_kwh: f64,
    /// The part from the grid (charging) or into it (selling).
    pub grid_kwh: f64,
    /// The part from PV (charging) or to the house (selling).
    pub local_kwh: f64,
    /// The part of which neither PV and consumption nor the grid's power was known; the three parts add up.
    pub unsplit_kwh: f64,
    /// The part of `grid_kwh` for which a price was known.
    pub priced_kwh: f64,
    /// What `priced_kwh` cost, PLN; earned money is negative. None if nothing of a grid part had a price.
    pub cost_pln: Option<f64>,
    /// Mean price of `priced_kwh` weighted by energy, PLN/kWh. None if that is 0.
    pub average_price_pln_kwh: Option<f64>,
    /// State of charge in the first reading, %.
    pub soc_start_percent: Option<f64>,
    /// State of charge in the last reading, %.
    pub soc_end_percent: Option<f64>,
    /// Largest power of a reading, W.
    pub peak_w: f64,
    /// Number of readings, those at both ends included.
    pub sample_count: u64,
    /// Time between joined readings, in nanoseconds; `end - start` if nothing is missing.
    pub covered_ns: i64,
}

impl Session {
    /// The key as text: `device/kind/start`, the start in nanoseconds since the epoch.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.device, self.kind, self.start.0)
    }

    /// Share of its time that is covered by joined readings, 0..=1.
    pub fn coverage(&self) -> f64 {
        let length = self.end.0.saturating_sub(self.start.0);
        if length < 1 { 1.0 } else { self.covered_ns as f64 / length as f64 }
    }
}

/// Why a sample was refused; the state is as before.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It is not later than what was seen.
    #[error("the sample at {time_ns} ns is not later than {seen_ns} ns, which was seen already: detect its window again", time_ns = .time.0, seen_ns = .seen.0)]
    Late {
        /// Its time.
        time: Timestamp,
        /// The latest time seen.
        seen: Timestamp,
    },
    /// A value is no finite number.
    #[error("the sample at {time_ns} ns holds a value that is no number: leave the value out", time_ns = .time.0)]
    NotFinite {
        /// Its time.
        time: Timestamp,
    },
    /// Too many changes of price came between two readings.
    #[error("more than {limit} changes of price between two readings of power, the last at {time_ns} ns: leave out prices that change nothing, or give a sample without prices first", time_ns = .time.0)]
    TooManyPrices {
        /// Time of the price that was refused.
        time: Timestamp,
        /// How many there may be.
        limit: usize,
    },
}

#[cfg(test)]
mod tests;
