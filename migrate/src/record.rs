//! What the optimiser knew, typed: one record for each thing it wrote down.
//!
//! Units: W, V, A, Hz, C, %, kWh, PLN, PLN/kWh, as the names say. Signs: battery + = discharge, grid + = export, PV and
//! consumption positive. `None` is "not known"; a zero is a zero.
//!
//! Keys: [`Record::key`] names the thing, not the writing: the same reading has the same key from every file and in every
//! run, so whoever stores by key can read a tree twice. Of two records with one key the later wins. A [`Reading`] adds its
//! fields to those the key already has; every other record takes the place of the earlier one.

use crate::report::{Position, Repair};
use jiff::civil::Date;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use wattlog_model::{FieldValue, Timestamp};

/// One thing, where it was found, and what was changed about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Stable name of the thing (see the module).
    pub key: String,
    /// Where it was found.
    pub position: Position,
    /// In what form it was written.
    pub origin: Origin,
    /// What differs from what was written.
    pub repairs: Vec<Repair>,
    /// True if an earlier file of this run had the key with other content.
    pub supersedes: bool,
    /// The thing.
    pub body: Body,
}

/// A thing the optimiser knew.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// See [`Reading`].
    Reading(Reading),
    /// See [`Decision`].
    Decision(Box<Decision>),
    /// See [`Session`].
    Session(Box<Session>),
    /// See [`SystemState`].
    SystemState(SystemState),
    /// See [`DailyPlan`].
    DailyPlan(DailyPlan),
    /// See [`PriceSchedule`].
    PriceSchedule(PriceSchedule),
    /// See [`MarketPrice`].
    MarketPrice(MarketPrice),
    /// See [`PriceForecast`].
    PriceForecast(PriceForecast),
    /// See [`PvForecast`].
    PvForecast(PvForecast),
    /// See [`DailyStats`].
    DailyStats(DailyStats),
    /// See [`Snapshot`].
    Snapshot(Snapshot),
    /// See [`SocDrop`].
    SocDrop(SocDrop),
    /// See [`Weather`].
    Weather(Weather),
}

/// Kind of a record; each is the record of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Reading,
    Decision,
    Session,
    SystemState,
    DailyPlan,
    PriceSchedule,
    MarketPrice,
    PriceForecast,
    PvForecast,
    DailyStats,
    Snapshot,
    SocDrop,
    Weather,
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reading(_) => Kind::Reading,
            Self::Decision(_) => Kind::Decision,
            Self::Session(_) => Kind::Session,
            Self::SystemState(_) => Kind::SystemState,
            Self::DailyPlan(_) => Kind::DailyPlan,
            Self::PriceSchedule(_) => Kind::PriceSchedule,
            Self::MarketPrice(_) => Kind::MarketPrice,
            Self::PriceForecast(_) => Kind::PriceForecast,
            Self::PvForecast(_) => Kind::PvForecast,
            Self::DailyStats(_) => Kind::DailyStats,
            Self::Snapshot(_) => Kind::Snapshot,
            Self::SocDrop(_) => Kind::SocDrop,
            Self::Weather(_) => Kind::Weather,
        }
    }
}

/// What the inverter said at one instant, under the names and units of the measurement `energy_data`.
///
/// The text field `tariff_zone` (`T1`, `T2`) is the optimiser's view: it compared with the peak price of tariff G12
/// whatever tariff was configured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// Serial number of the inverter; the configured device where the file has none.
    pub device: String,
    /// Fields that were read, sorted by name; never empty.
    pub fields: Vec<(&'static str, FieldValue)>,
}

/// In what form a thing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A nested object: the collector's own record.
    Nested,
    /// The nested object inside a coordinator state.
    State,
    /// A flat record of a list.
    Flat,
    /// A decision in a file or line of its own.
    Decision,
    /// A session in a list or a file of its own.
    Session,
    /// A session inside a daily plan.
    Plan,
    /// The session tracker of late November 2025.
    Tracker,
    /// A row of the SQLite store.
    Store,
    /// A summary, plan, forecast or list of prices.
    Other,
}

/// What was decided about the battery, and on what grounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// About what.
    pub about: Purpose,
    /// `charge`, `wait`, `battery_selling` ...
    pub action: Option<String>,
    /// Of a decision about selling: `start_selling`, `wait` ...
    pub choice: Option<String>,
    /// Where the energy comes from: `grid`, `pv`, `hybrid`.
    pub source: Option<String>,
    /// Reasons in words; numbers in it are not repaired.
    pub reason: Option<String>,
    /// `low` to `emergency`.
    pub priority: Option<String>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// Planned hours.
    pub duration_h: Option<f64>,
    /// Planned energy, never a measured one.
    pub energy_kwh: Option<f64>,
    /// Expected cost.
    pub estimated_cost_pln: Option<f64>,
    /// Expected saving; may be negative.
    pub estimated_savings_pln: Option<f64>,
    /// Expected revenue of selling.
    pub expected_revenue_pln: Option<f64>,
    /// Total price of the moment: market, selling component and distribution.
    pub price_pln_kwh: Option<f64>,
    /// Lowest total price of the day.
    pub cheapest_price_pln_kwh: Option<f64>,
    /// Local hour of it, 0 to 23.
    pub cheapest_hour: Option<u8>,
    /// Charge of the battery, %.
    pub battery_soc: Option<f64>,
    /// PV power at that moment.
    pub pv_power_w: Option<f64>,
    /// Consumption of the house at that moment.
    pub consumption_w: Option<f64>,
    /// Power to sell with.
    pub selling_power_w: Option<f64>,
    /// `T1` or `T2`, see [`Reading`].
    pub tariff_zone: Option<String>,
    /// Whether the order reached the inverter, where that was written down.
    pub executed: Option<bool>,
    /// Why not.
    pub execution_error: Option<String>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// What a decision or a session is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Charging the battery.
    Charging,
    /// Selling from the battery.
    Selling,
}

/// A stretch of charging or selling, planned or done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Session {
    /// What was done.
    pub purpose: Purpose,
    /// The optimiser's name for it; the tracker has none.
    pub id: Option<String>,
    /// Start; of a session of the tracker, the moment it was noted.
    pub start: Timestamp,
    /// End.
    pub end: Option<Timestamp>,
    /// When it was planned.
    pub created_at: Option<Timestamp>,
    /// When it truly began.
    pub started_at: Option<Timestamp>,
    /// When it truly ended.
    pub completed_at: Option<Timestamp>,
    /// `planned`, `active`, `completed`, `cancelled`, `failed`.
    pub status: Option<String>,
    /// 1 to 3.
    pub priority: Option<i64>,
    /// Energy charged or sold.
    pub energy_kwh: Option<f64>,
    /// Whether that was measured or planned.
    pub energy_is: Basis,
    /// Cost of charging, revenue of selling.
    pub amount_pln: Option<f64>,
    /// Whether that was reckoned afterwards or before.
    pub amount_is: Basis,
    /// As written, else amount by energy.
    pub average_price_pln_kwh: Option<f64>,
    /// Expected saving.
    pub estimated_savings_pln: Option<f64>,
    /// Charge of the battery at the start, %.
    pub start_soc: Option<f64>,
    /// Charge of the battery at the end, %.
    pub end_soc: Option<f64>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// Whether a number tells what was or what was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Written after the fact.
    Actual,
    /// Written before.
    Planned,
    /// There is no number.
    Absent,
}

/// What the coordinator was doing. The reading inside it is a record of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SystemState {
    /// When.
    pub at: Timestamp,
    /// `initializing`, `monitoring`, `charging`, `optimizing`, `error`, `maintenance`.
    pub state: Option<String>,
    /// Seconds since its start.
    pub uptime_s: Option<f64>,
    /// Decisions since its start.
    pub decision_count: Option<u64>,
    /// PV power, which stood under the name `pv_efficiency`.
    pub pv_power_w: Option<f64>,
    /// Last error.
    pub last_error: Option<String>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// The plan of one day; its sessions are records of their own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DailyPlan {
    /// Which day.
    #[serde(serialize_with = "day")]
    pub date: Date,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// `planned`, `active`, `completed`, `cancelled`.
    pub status: Option<String>,
    /// Sessions it names; fewer of them follow if the file was cut off.
    pub total_sessions: Option<u64>,
    /// Sum of the sessions.
    pub total_duration_h: Option<f64>,
    /// Sum of the sessions.
    pub total_energy_kwh: Option<f64>,
    /// Sum of the sessions.
    pub total_cost_pln: Option<f64>,
    /// Sum of the sessions.
    pub total_savings_pln: Option<f64>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// An analysis of one day's market prices with the windows it found: a plan, no session.
///
/// Times are as written. The optimiser took the end of a price period for its start, so each window lies a quarter late.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PriceSchedule {
    /// Which day.
    #[serde(serialize_with = "day")]
    pub date: Date,
    /// Statistics, PLN/MWh, as written.
    pub analysis: Map<String, Value>,
    /// Windows to charge in.
    pub windows: Vec<ChargingWindow>,
}

/// A window of a [`PriceSchedule`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChargingWindow {
    /// First moment.
    pub start: Timestamp,
    /// Moment after the last.
    pub end: Timestamp,
    /// Market price.
    pub average_price_pln_mwh: Option<f64>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// One market price of a quarter of an hour.
///
/// Prices below zero were never written here, and total prices of a first start are refused. Take them where no feed has
/// the day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MarketPrice {
    /// First moment of the period: a quarter before what was written.
    pub start: Timestamp,
    /// Without selling component and distribution.
    pub price_pln_kwh: f64,
}

/// One hour of a price forecast in the store; the optimiser had no writer for them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PriceForecast {
    /// The hour.
    pub at: Timestamp,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// As the column says.
    pub price_pln: f64,
    /// Who made it.
    pub source: Option<String>,
    /// 0 to 1.
    pub confidence: Option<f64>,
}

/// One step of a PV forecast.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PvForecast {
    /// The step.
    pub at: Timestamp,
    /// When it was made.
    pub issued_at: Option<Timestamp>,
    /// Expected power.
    pub power_w: f64,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// How it was made, or by whom.
    pub method: Option<String>,
}

/// Sums of power times an assumed interval since the process started: not to be trusted, reckon them anew from readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DailyStats {
    /// Day on which the process started; the sums go on over midnight.
    #[serde(serialize_with = "day")]
    pub started_on: Date,
    /// Day of saving, from the file's name.
    #[serde(serialize_with = "some_day")]
    pub saved_on: Option<Date>,
    /// PV, as written.
    pub pv_production: Map<String, Value>,
    /// Battery, with charge and discharge set right.
    pub battery: Map<String, Value>,
    /// Grid, with import and export set right.
    pub grid: Map<String, Value>,
    /// Consumption, as written.
    pub consumption: Map<String, Value>,
}

/// A day or a month as the optimiser summed it up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// First day of it.
    #[serde(serialize_with = "day")]
    pub first_day: Date,
    /// How long.
    pub span: Span,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Numbers under their names; units as the names say.
    pub totals: std::collections::BTreeMap<String, f64>,
    /// Every other key, as written.
    pub rest: Map<String, Value>,
}

/// Length of a [`Snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// A local day.
    Day,
    /// A local month.
    Month,
}

/// By how much the battery's charge fell over one day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SocDrop {
    /// The day.
    #[serde(serialize_with = "day")]
    pub date: Date,
    /// Percent points.
    pub points: f64,
}

/// A row of the store's weather table; the optimiser had no writer for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weather {
    /// When.
    pub at: Timestamp,
    /// `IMGW`, `Open-Meteo` ...
    pub source: Option<String>,
    /// Columns that hold a number, sorted by name.
    pub fields: Vec<(&'static str, f64)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde calls")]
fn day<S: Serializer>(day: &Date, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(day)
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "the form serde calls")]
fn some_day<S: Serializer>(day: &Option<Date>, to: S) -> Result<S::Ok, S::Error> {
    match day {
        Some(day) => to.collect_str(day),
        None => to.serialize_none(),
    }
}
