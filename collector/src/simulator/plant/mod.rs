//! A household that could exist: roof, battery, meter, loads and prices, the same for the same seed.
//!
//! Promise: the state at an instant depends on seed, place and commissioning date alone, not on what was asked before.
//! It changes every 10 s and is held in between. Powers balance, totals are the integral of the powers.
//!
//! How: the plant is walked tick by tick from its first day; the state at every midnight is remembered, so an instant
//! costs at most one day of ticks (about a millisecond), and the next instant one tick. The first question far from
//! the commissioning date walks there once: some tens of milliseconds for each month in between.
//!
//! Not here: registers (`super::image`).

mod house;
mod price;
mod sun;
mod walker;
mod weather;

pub(super) use price::pln_per_kwh as market_price;

use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use walker::{TICK_NS, TICKS_PER_DAY, Walker};
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

/// A PV string.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PvString {
    /// Voltage in V.
    pub voltage_v: f64,
    /// Current in A.
    pub current_a: f64,
    /// Power in W.
    pub power_w: f64,
}

/// Totals since installation and of the local day, in kWh.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counters {
    /// PV energy.
    pub pv_kwh: f64,
    /// PV energy of the day.
    pub pv_today_kwh: f64,
    /// Out of the inverter's AC side.
    pub ac_export_kwh: f64,
    /// Out of the inverter's AC side, of the day.
    pub ac_export_today_kwh: f64,
    /// Into the inverter's AC side.
    pub ac_import_kwh: f64,
    /// Into the inverter's AC side, of the day.
    pub ac_import_today_kwh: f64,
    /// Used by the house.
    pub load_kwh: f64,
    /// Used by the house, of the day.
    pub load_today_kwh: f64,
    /// Into the battery.
    pub charge_kwh: f64,
    /// Into the battery, of the day.
    pub charge_today_kwh: f64,
    /// Out of the battery.
    pub discharge_kwh: f64,
    /// Out of the battery, of the day.
    pub discharge_today_kwh: f64,
    /// Through the meter to the grid.
    pub meter_export_kwh: f64,
    /// Through the meter from the grid.
    pub meter_import_kwh: f64,
    /// Hours in operation.
    pub hours: f64,
}

impl Counters {
    fn start_day(&mut self) {
        *self = Self {
            pv_today_kwh: 0.0,
            ac_export_today_kwh: 0.0,
            ac_import_today_kwh: 0.0,
            load_today_kwh: 0.0,
            charge_today_kwh: 0.0,
            discharge_today_kwh: 0.0,
            ..*self
        };
    }

    fn add_pv(&mut self, kwh: f64) {
        self.pv_kwh += kwh;
        self.pv_today_kwh += kwh;
    }

    fn add_ac(&mut self, out_kwh: f64, in_kwh: f64) {
        self.ac_export_kwh += out_kwh;
        self.ac_export_today_kwh += out_kwh;
        self.ac_import_kwh += in_kwh;
        self.ac_import_today_kwh += in_kwh;
    }

    fn add_load(&mut self, kwh: f64) {
        self.load_kwh += kwh;
        self.load_today_kwh += kwh;
    }

    fn add_battery(&mut self, in_kwh: f64, out_kwh: f64) {
        self.charge_kwh += in_kwh;
        self.charge_today_kwh += in_kwh;
        self.discharge_kwh += out_kwh;
        self.discharge_today_kwh += out_kwh;
    }
}

/// What the plant does at one instant. Signs as everywhere: battery + = discharge, grid + = export.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantState {
    /// Start of the tick that holds the instant.
    pub time: Timestamp,
    /// What the inverter's clock and the household's habits add to UTC: whole hours by longitude, no summer time.
    pub local_offset_ns: i64,
    /// The two strings, south-east and south-west.
    pub strings: [PvString; 2],
    /// On the horizontal.
    pub irradiance_w_m2: f64,
    /// Air temperature.
    pub outdoor_c: f64,
    /// Load of each phase.
    pub load_w: [f64; 3],
    /// + = discharge.
    pub battery_power_w: f64,
    /// At the battery's terminals.
    pub battery_voltage_v: f64,
    /// 0..100.
    pub battery_soc_percent: f64,
    /// Temperature of the battery.
    pub battery_c: f64,
    /// Out of the inverter's AC side; negative while it charges from the grid.
    pub inverter_ac_w: f64,
    /// Temperature of the inverter's radiator.
    pub inverter_c: f64,
    /// + = export.
    pub grid_power_w: f64,
    /// Of the grid.
    pub frequency_hz: f64,
    /// Totals.
    pub counters: Counters,
    /// Day-ahead price of the quarter of an hour.
    pub price_pln_kwh: f64,
}

/// What the battery is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatteryUse {
    /// It covers the house; in the dark months a low one is filled in cheap hours of the night.
    House,
    /// Beside that it buys in cheap hours of any night, keeps that until the morning, and sells in dear hours of the evening.
    Market,
}

/// A plant; clones share what they have walked.
#[derive(Debug, Clone)]
pub struct Plant {
    seed: u64,
    place: Place,
    start: Timestamp,
    battery_use: BatteryUse,
    walked: Arc<Mutex<Walked>>,
}

#[derive(Debug)]
struct Walked {
    /// The plant at each UTC midnight since its start.
    midnights: Vec<Walker>,
    /// Where the last question ended.
    last: Walker,
}

/// A plant lives for 30 years and stands still behind them: a clock that is centuries wrong must not walk for ever.
const LIFE_TICKS: i64 = 30 * 366 * TICKS_PER_DAY;

/// 2026-01-01T00:00:00Z.
const DEFAULT_START: Timestamp = Timestamp(1_767_225_600_000_000_000);

impl Plant {
    /// A plant that began to work at 2026-01-01T00:00:00Z.
    pub fn new(seed: u64, place: Place) -> Self {
        Self::starting(seed, place, DEFAULT_START, BatteryUse::House)
    }

    /// The same plant, whose battery buys and sells by the price besides covering the house.
    #[must_use]
    pub fn trading(self) -> Self {
        Self::starting(self.seed, self.place, self.start, BatteryUse::Market)
    }

    /// The same plant, put to work at the start of the UTC day of `start`; its totals begin there. Before that day it
    /// stands still in its first state.
    #[must_use]
    pub fn commissioned(self, start: Timestamp) -> Self {
        let midnight = i64::from(start.utc_day()).saturating_mul(Timestamp::DAY_NS);
        Self::starting(self.seed, self.place, Timestamp(midnight), self.battery_use)
    }

    fn starting(seed: u64, place: Place, start: Timestamp, battery_use: BatteryUse) -> Self {
        let first = Walker::new(seed, place, start, battery_use);
        let walked = Walked { midnights: vec![first.clone()], last: first };
        Self { seed, place, start, battery_use, walked: Arc::new(Mutex::new(walked)) }
    }

    /// The seed given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The place given.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The state at an instant.
    pub fn at(&self, time: Timestamp) -> PlantState {
        let tick = self.tick_of(time);
        let mut walked = self.walked.lock();
        walked.walk_to(tick);
        walked.last.state()
    }

    /// Day-ahead price of the quarter of an hour that holds `time`, in PLN/kWh. Needs no walking.
    pub fn price_at(&self, time: Timestamp) -> f64 {
        price::pln_per_kwh(self.seed, time, walker::local_offset_ns(self.place))
    }

    /// Ticks from the start to the tick that holds `time`.
    fn tick_of(&self, time: Timestamp) -> i64 {
        (time.0.saturating_sub(self.start.0).max(0) / TICK_NS).min(LIFE_TICKS)
    }

    /// States from `range.start` (inclusive) to `range.end` (exclusive), `step` apart; the state at each of these
    /// instants, as [`Plant::at`] gives it.
    pub fn history(&self, range: Range<Timestamp>, step: Duration) -> History {
        let mut walked = self.walked.lock();
        walked.walk_to(self.tick_of(range.start));
        let step_ns = i64::try_from(step.as_nanos()).unwrap_or(i64::MAX).max(1);
        History {
            plant: self.clone(),
            walker: walked.last.clone(),
            next: range.start,
            end: range.end,
            step_ns,
        }
    }
}

impl Walked {
    fn walk_to(&mut self, tick: i64) {
        let near = (0..=TICKS_PER_DAY).contains(&(tick - self.last.tick));
        if !near {
            let day =
                usize::try_from(tick / TICKS_PER_DAY).unwrap_or(usize::MAX).min(self.midnights.len() - 1);
            self.last = self.midnights[day].clone();
        }
        while self.last.tick < tick {
            self.last.step();
            let is_next_midnight = self.last.tick == self.midnights.len() as i64 * TICKS_PER_DAY;
            if is_next_midnight {
                self.midnights.push(self.last.clone());
            }
        }
    }
}

/// See [`Plant::history`].
#[derive(Debug)]
pub struct History {
    plant: Plant,
    walker: Walker,
    next: Timestamp,
    end: Timestamp,
    step_ns: i64,
}

impl Iterator for History {
    type Item = PlantState;

    fn next(&mut self) -> Option<PlantState> {
        if self.next >= self.end {
            return None;
        }
        let tick = self.plant.tick_of(self.next);
        while self.walker.tick < tick {
            self.walker.step();
        }
        self.next = Timestamp(self.next.0.saturating_add(self.step_ns));
        Some(self.walker.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: i64 = Timestamp::DAY_NS;
    const HOUR_NS: i64 = 3_600_000_000_000;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second() * 1_000_000_000)
    }

    #[test]
    fn a_state_does_not_depend_on_what_was_asked_before() {
        let forward = Plant::new(11, Place::default());
        let times =
            ["2026-01-03T12:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T23:59:59Z", "2026-01-03T00:00:05Z"];
        let mut sorted = times.map(at);
        sorted.sort();
        let expected: Vec<PlantState> = sorted.iter().map(|time| forward.at(*time)).collect();
        for time in times.map(at).into_iter().chain(times.map(at).into_iter().rev()) {
            let index = sorted.iter().position(|other| *other == time).unwrap();
            assert_eq!(Plant::new(11, Place::default()).at(time), expected[index]);
            assert_eq!(forward.at(time), expected[index]);
        }
        assert_eq!(forward.price_at(times.map(at)[0]), forward.at(times.map(at)[0]).price_pln_kwh);
        assert_ne!(Plant::new(12, Place::default()).at(sorted[3]), expected[3]);
        let before = forward.at(at("2020-05-05T05:05:05Z"));
        assert_eq!(before, forward.at(at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn history_is_the_same_as_asking_for_each_instant() {
        let plant = Plant::new(4, Place::default()).commissioned(at("2026-06-10T15:00:00Z"));
        let range = at("2026-06-11T22:00:03Z")..at("2026-06-12T04:00:00Z");
        let history: Vec<PlantState> = plant.history(range.clone(), Duration::from_mins(5)).collect();
        assert_eq!(history.len(), 72);
        for (index, state) in history.iter().enumerate() {
            let time = Timestamp(range.start.0 + index as i64 * 300_000_000_000);
            assert_eq!(*state, plant.at(time));
        }
    }

    #[test]
    fn powers_balance_totals_integrate_and_limits_hold() {
        let plant = Plant::new(1, Place::default()).commissioned(at("2026-06-01T00:00:00Z"));
        let first = plant.at(at("2026-06-01T00:00:00Z"));
        let (mut pv_kwh, mut export_kwh, mut last) = (0.0, 0.0, first.clone());
        let mut day_starts = 0;
        for state in plant.history(first.time..Timestamp(first.time.0 + 3 * DAY_NS), Duration::from_secs(10))
        {
            let pv: f64 = state.strings.iter().map(|string| string.power_w).sum();
            let load: f64 = state.load_w.iter().sum();
            assert!((state.inverter_ac_w - load - state.grid_power_w).abs() < 1e-6);
            let lost = pv + state.battery_power_w - state.inverter_ac_w;
            assert!((0.0..450.0).contains(&lost) || pv + state.battery_power_w > 10_000.0, "{lost} W lost");
            assert!((0.0..=100.0).contains(&state.battery_soc_percent));
            assert!(state.battery_power_w.abs() <= 5_000.0 && state.inverter_ac_w <= 10_000.0);
            assert!(state.counters.pv_kwh >= last.counters.pv_kwh);
            day_starts += i32::from(state.counters.load_today_kwh < last.counters.load_today_kwh);
            pv_kwh += pv / 360_000.0;
            export_kwh += state.grid_power_w.max(0.0) / 360_000.0;
            last = state;
        }
        let end = plant.at(Timestamp(last.time.0 + TICK_NS));
        assert!((end.counters.pv_kwh - first.counters.pv_kwh - pv_kwh).abs() < 1e-6);
        assert!((end.counters.meter_export_kwh - first.counters.meter_export_kwh - export_kwh).abs() < 1e-6);
        assert_eq!(day_starts, 3);
    }

    #[test]
    fn a_plant_that_trades_buys_at_night_and_sells_in_the_evening() {
        let range = at("2026-03-20T00:00:00Z")..at("2026-04-03T00:00:00Z");
        let usual = Plant::new(6, Place::default()).commissioned(range.start);
        let traded_kwh = |plant: &Plant| {
            let (mut bought_kwh, mut sold_kwh) = (0.0, 0.0);
            for state in plant.history(range.clone(), Duration::from_secs(10)) {
                let local_hour = (state.time.0 + state.local_offset_ns).rem_euclid(DAY_NS) / HOUR_NS;
                let (battery_w, grid_w) = (state.battery_power_w, state.grid_power_w);
                assert!((0.0..=100.0).contains(&state.battery_soc_percent) && battery_w.abs() <= 5_000.0);
                if battery_w < 0.0 && grid_w < -1_000.0 {
                    assert!((1..4).contains(&local_hour) && state.price_pln_kwh < 0.42, "{state:?}");
                    bought_kwh -= battery_w / 360_000.0;
                }
                if battery_w > 0.0 && grid_w > 1_000.0 {
                    assert!((18..21).contains(&local_hour) && state.price_pln_kwh > 0.7, "{state:?}");
                    sold_kwh += battery_w / 360_000.0;
                }
            }
            (bought_kwh, sold_kwh)
        };
        assert_eq!(traded_kwh(&usual), (0.0, 0.0));
        let (bought_kwh, sold_kwh) = traded_kwh(&usual.trading());
        assert!(bought_kwh > 20.0 && sold_kwh > 20.0, "{bought_kwh} {sold_kwh}");
    }

    #[test]
    fn a_battery_that_is_filled_at_night_is_not_turned_round_again_and_again() {
        // At 45 % of charge it was charged and discharged from one tick to the next for hours.
        let plant = Plant::new(1, Place::default()).commissioned(at("2026-01-01T00:00:00Z"));
        let range = at("2026-01-01T00:00:00Z")..at("2026-01-31T00:00:00Z");
        let (mut turns, mut filled_kwh, mut last_w) = (0, 0.0, 0.0_f64);
        for state in plant.history(range, Duration::from_secs(10)) {
            let local_hour = (state.time.0 + state.local_offset_ns).rem_euclid(DAY_NS) / HOUR_NS;
            let battery_w = state.battery_power_w;
            if (1..4).contains(&local_hour) {
                turns += i32::from(battery_w * last_w < 0.0);
                filled_kwh += (-battery_w).max(0.0) / 360_000.0;
            }
            last_w = battery_w;
        }
        // Into charging and out of it, once a night.
        assert!(filled_kwh > 20.0 && turns <= 60, "{filled_kwh} kWh, {turns} turns");
    }

    #[test]
    fn the_plant_works_anywhere_on_earth() {
        let start = at("2026-03-19T00:00:00Z");
        for (latitude, longitude) in [(90.0, 0.0), (-90.0, 0.0), (0.0, 180.0), (-45.0, -180.0), (67.0, 26.0)]
        {
            let plant = Plant::new(2, Place { latitude, longitude }).commissioned(start);
            let end = Timestamp(start.0 + 2 * DAY_NS);
            for state in plant.history(start..end, Duration::from_mins(5)) {
                let numbers = [
                    state.strings[0].power_w,
                    state.strings[1].voltage_v,
                    state.battery_voltage_v,
                    state.grid_power_w,
                    state.outdoor_c,
                    state.irradiance_w_m2,
                    state.price_pln_kwh,
                ];
                assert!(numbers.iter().all(|number| number.is_finite()), "{latitude} {longitude}: {state:?}");
            }
        }
    }

    #[test]
    fn a_year_looks_like_a_year() {
        let plant = Plant::new(7, Place::default()).commissioned(at("2025-01-01T00:00:00Z"));
        let month_kwh =
            |from: &str, to: &str| plant.at(at(to)).counters.pv_kwh - plant.at(at(from)).counters.pv_kwh;
        let january = month_kwh("2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z");
        let june = month_kwh("2025-06-01T00:00:00Z", "2025-07-01T00:00:00Z");
        let year = month_kwh("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z");
        assert!((80.0..500.0).contains(&january), "{january}");
        assert!((700.0..1_700.0).contains(&june), "{june}");
        // 9.2 kWp in Kraków give 8 to 10 MWh a year.
        assert!((6_500.0..11_500.0).contains(&year), "{year}");
        let (first, last) = (plant.at(at("2025-01-01T00:00:00Z")), plant.at(at("2026-01-01T00:00:00Z")));
        let load = last.counters.load_kwh - first.counters.load_kwh;
        assert!((3_000.0..9_000.0).contains(&load), "{load}");
        let cycled = last.counters.discharge_kwh - first.counters.discharge_kwh;
        assert!((800.0..3_000.0).contains(&cycled), "{cycled}");
        assert!(
            plant.at(at("2025-07-15T11:00:00Z")).outdoor_c > plant.at(at("2025-01-15T11:00:00Z")).outdoor_c
        );
        assert_eq!(plant.at(at("2025-07-15T23:00:00Z")).strings[0].power_w, 0.0);
    }
}
