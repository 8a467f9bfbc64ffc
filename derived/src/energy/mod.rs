//! Energy by quarter of an hour: what PV, battery, grid and house gave and took, and who fed whom.
//!
//! One row per device and quarter in the measurement [`QUARTERS`], computed from the powers of [`RAW`]; its time is the start of
//! the quarter, in UTC (so every zone's hours, days and months are whole quarters). A month of energy is then the sum of some
//! three thousand rows and not the integral of a quarter of a million.
//!
//! Promise
//! 1. A row is what [`quarters`] computes from the points that were there when the change feed last told of a change in or
//!    beside its quarter. What is still to be computed is told by [`EnergyStatus::pending`].
//! 2. The place in the feed up to which they follow it is written after the rows: `kill -9` at any moment costs work, not truth.
//! 3. Retention of the points leaves the rows; a delete of points takes theirs along.
//! 4. Points that cannot be read (damage) leave the rows that may rest on them as they were, and are tried again each hour and at
//!    every start.
//!
//! Values are rounded to a milliwatt hour: their sums then are exact, and small on the disk.

mod answer;
mod compute;
mod days;
mod figures;
mod keeper;
mod units;

pub use answer::{DeviceEnergy, EnergyAnswer, EnergyRequest, Money, Period, answer};
pub use compute::{DeviceQuarters, EnergyError, QuarterRow, Quarters, quarters};
pub(crate) use compute::{number, of_device, times};
pub use days::EnergyCache;
pub use figures::{coverage, energies, figures, rounded, shares};
pub use keeper::{EnergyKeeper, EnergyStatus};

use std::time::Duration;

/// Where the powers are.
pub const RAW: &str = "energy_data";
/// Where the energies are.
pub const QUARTERS: &str = "energy_quarters";
/// Where it is kept how far they are.
pub const STATE: &str = "derived_state";
/// The tag that tells devices apart.
pub const DEVICE: &str = "device_id";
/// Length of a quarter of an hour.
pub const QUARTER_NS: i64 = 900_000_000_000;

/// Fields of a row: six totals, seven flows, what no flow explains (kWh), and how much of the quarter that rests on (s).
pub const FIELDS: [&str; 16] = [
    "pv_kwh",
    "charge_kwh",
    "discharge_kwh",
    "import_kwh",
    "export_kwh",
    "consumption_kwh",
    "pv_to_house_kwh",
    "pv_to_battery_kwh",
    "pv_to_grid_kwh",
    "battery_to_house_kwh",
    "battery_to_grid_kwh",
    "grid_to_house_kwh",
    "grid_to_battery_kwh",
    "source_left_kwh",
    "sink_left_kwh",
    "covered_s",
];

/// What prices are put on: what was bought, of it for house and battery; what was sold, of it by PV and battery.
pub(crate) const PRICED: [&str; 6] = [
    "import_kwh",
    "grid_to_house_kwh",
    "grid_to_battery_kwh",
    "export_kwh",
    "pv_to_grid_kwh",
    "battery_to_grid_kwh",
];

/// Values of a row or of a period, in the order of [`FIELDS`].
pub type Values = [Option<f64>; FIELDS.len()];

/// Where [`FIELDS`] has a name.
pub(crate) const fn place(name: &str) -> usize {
    let mut at = 0;
    while at < FIELDS.len() {
        if same(FIELDS[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no field of that name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// How energies are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnergyOptions {
    /// The database with the powers, which gets the energies too.
    pub database: String,
    /// Points further apart than this are not joined: what was between them is not known.
    pub max_gap: Duration,
}

impl EnergyOptions {
    /// Gaps of up to ten minutes: the optimiser stored a point every 314 s.
    pub fn new(database: &str) -> Self {
        Self { database: database.to_owned(), max_gap: Duration::from_secs(600) }
    }

    pub(crate) fn max_gap_ns(&self) -> i64 {
        i64::try_from(self.max_gap.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Start of the quarter that holds `time`.
pub fn quarter_of(time: i64) -> i64 {
    time.div_euclid(QUARTER_NS).saturating_mul(QUARTER_NS)
}
