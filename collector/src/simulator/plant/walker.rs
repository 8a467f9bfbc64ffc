//! The plant, one tick after the other: what happens now follows from what was, so it is walked, never jumped.

use super::house::House;
use super::sun::{Sun, SunDay, Surface, day_share};
use super::weather::Weather;
use super::{BatteryUse, Counters, Place, PlantState, PvString, price};
use crate::seed::Rng;
use wattlog_model::Timestamp;

/// Length of a tick.
pub(super) const TICK_NS: i64 = 10_000_000_000;
pub(super) const TICKS_PER_DAY: i64 = Timestamp::DAY_NS / TICK_NS;
const TICK_HOURS: f64 = 10.0 / 3_600.0;

/// Peak power of a string, in W.
const STRING_PEAK_W: f64 = 4_600.0;
/// What the inverter gives at most, and takes from or puts into the battery.
const INVERTER_W: f64 = 10_000.0;
const BATTERY_W: f64 = 5_000.0;
const BATTERY_KWH: f64 = 10.65;
const LEAST_SOC: f64 = 0.10;
/// A battery below the one is filled from the grid up to the other.
const LOW_SOC: f64 = 0.45;
const FILLED_SOC: f64 = 0.60;
/// One way through battery or inverter.
const EFFICIENCY: f64 = 0.97;
/// What the inverter needs for itself.
const STANDBY_W: f64 = 35.0;
/// The inverter lets the grid have or give this much before it moves the battery.
const DEAD_BAND_W: f64 = 15.0;

/// A plant at one tick, ready for the next.
#[derive(Debug, Clone)]
pub(super) struct Walker {
    seed: u64,
    place: Place,
    start: Timestamp,
    battery_use: BatteryUse,
    local_offset_ns: i64,
    /// Ticks since `start`.
    pub(super) tick: i64,
    rng: Rng,
    sun_day: SunDay,
    surfaces: [Surface; 2],
    weather: Weather,
    house: House,
    stored_kwh: f64,
    /// A low battery is being filled from the grid.
    is_filling: bool,
    counters: Counters,
    inverter_c: f64,
    battery_c: f64,
    frequency_hz: f64,
    now: Flow,
}

/// Powers and what they depend on, at one tick.
#[derive(Debug, Clone, Default)]
struct Flow {
    strings: [PvString; 2],
    irradiance: f64,
    load_w: [f64; 3],
    battery_w: f64,
    inverter_ac_w: f64,
    grid_w: f64,
}

/// Whole hours by longitude: no zone, no summer time.
pub(super) fn local_offset_ns(place: Place) -> i64 {
    (place.longitude / 15.0).round() as i64 * 3_600_000_000_000
}

impl Walker {
    pub(super) fn new(seed: u64, place: Place, start: Timestamp, battery_use: BatteryUse) -> Self {
        let mut rng = Rng::new(seed ^ 0x0070_6C61_6E74);
        let (weather, house) = (Weather::new(&mut rng), House::new(&mut rng));
        let life = rng.between(0.5, 2.0);
        let counters = Counters {
            pv_kwh: 5_600.0 * life,
            ac_export_kwh: 5_200.0 * life,
            ac_import_kwh: 60.0 * life,
            load_kwh: 6_900.0 * life,
            charge_kwh: 1_900.0 * life,
            discharge_kwh: 1_750.0 * life,
            meter_export_kwh: 2_300.0 * life,
            meter_import_kwh: 3_700.0 * life,
            hours: 8_700.0 * life,
            ..Counters::default()
        };
        let mut walker = Self {
            seed,
            place,
            start,
            battery_use,
            local_offset_ns: local_offset_ns(place),
            tick: 0,
            sun_day: SunDay::new(place, start.utc_day()),
            surfaces: [Surface::new(120.0, 35.0), Surface::new(240.0, 35.0)],
            weather,
            house,
            stored_kwh: BATTERY_KWH * rng.between(0.25, 0.6),
            is_filling: false,
            counters,
            inverter_c: 30.0,
            battery_c: 22.0,
            frequency_hz: 50.0,
            now: Flow::default(),
            rng,
        };
        walker.new_local_day();
        walker.settle();
        walker
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp(self.start.0.saturating_add(self.tick * TICK_NS))
    }

    /// Moves on by one tick.
    pub(super) fn step(&mut self) {
        self.count();
        self.tick += 1;
        if self.tick % TICKS_PER_DAY == 0 {
            self.sun_day = SunDay::new(self.place, self.time().utc_day());
        }
        if self.local().0.rem_euclid(Timestamp::DAY_NS) < TICK_NS {
            self.new_local_day();
        }
        self.settle();
    }

    fn local(&self) -> Timestamp {
        Timestamp(self.time().0.saturating_add(self.local_offset_ns))
    }

    fn new_local_day(&mut self) {
        let weekday = (i64::from(self.local().utc_day()) + 3).rem_euclid(7);
        self.weather.new_day(&mut self.rng);
        self.house.new_day(&mut self.rng, weekday > 4);
        self.counters.start_day();
    }

    /// Adds what flowed during the tick that ends.
    fn count(&mut self) {
        let kwh = |watts: f64| watts.max(0.0) * TICK_HOURS / 1_000.0;
        let flow = &self.now;
        let load_w: f64 = flow.load_w.iter().sum();
        let counters = &mut self.counters;
        counters.add_pv(kwh(flow.strings.iter().map(|string| string.power_w).sum()));
        counters.add_ac(kwh(flow.inverter_ac_w), kwh(-flow.inverter_ac_w));
        counters.add_load(kwh(load_w));
        counters.add_battery(kwh(-flow.battery_w), kwh(flow.battery_w));
        counters.meter_export_kwh += kwh(flow.grid_w);
        counters.meter_import_kwh += kwh(-flow.grid_w);
        counters.hours += TICK_HOURS;
        self.stored_kwh += kwh(-flow.battery_w) * EFFICIENCY - kwh(flow.battery_w) / EFFICIENCY;
        self.stored_kwh = self.stored_kwh.clamp(0.0, BATTERY_KWH);
    }

    /// Finds the powers of the tick that begins.
    fn settle(&mut self) {
        let time = self.time();
        let local_share = day_share(self.local());
        let year_share = ((f64::from(time.utc_day()) - 10_957.0) / 365.25).rem_euclid(1.0);
        self.weather.step(&mut self.rng, year_share, local_share, self.place.latitude < 0.0);
        let sun = self.sun_day.at(day_share(time));
        let outdoor_c = self.weather.outdoor_c();
        let (strings, irradiance) = self.strings(sun, outdoor_c);
        let pv_w: f64 = strings.iter().map(|string| string.power_w).sum();
        let local_tick = (local_share * TICKS_PER_DAY as f64).round() as u32;
        let load_w = self.house.step(&mut self.rng, local_tick, outdoor_c);
        let house_w: f64 = load_w.iter().sum();

        let wanted_w = self.wanted_from_battery(pv_w, house_w, year_share, time);
        let battery_w = self.within_battery(wanted_w);
        let dc_w = pv_w + battery_w;
        let through_w = if dc_w >= 0.0 { dc_w * EFFICIENCY } else { dc_w / EFFICIENCY };
        let inverter_ac_w = (through_w - STANDBY_W).min(INVERTER_W);
        let grid_w = inverter_ac_w - house_w;
        let busy_w = dc_w.abs() + battery_w.abs();
        self.inverter_c += 0.01 * (outdoor_c.max(15.0) + 9.0 + 0.003 * busy_w - self.inverter_c);
        self.battery_c +=
            0.001 * (20.0 + 0.4 * (outdoor_c - 10.0).max(0.0) + 0.0016 * battery_w.abs() - self.battery_c);
        self.frequency_hz += 0.02 * (50.0 - self.frequency_hz) + 0.008 * (self.rng.unit() - 0.5);
        self.now = Flow { strings, irradiance, load_w, battery_w, inverter_ac_w, grid_w };
    }

    fn strings(&mut self, sun: Sun, outdoor_c: f64) -> ([PvString; 2], f64) {
        let (beam, diffuse) = (self.weather.beam_share(), self.weather.diffuse_share());
        let strings = self.surfaces.map(|surface| {
            let irradiance = surface.irradiance(sun, beam, diffuse);
            let cell_c = outdoor_c + 0.03 * irradiance;
            let power = STRING_PEAK_W * irradiance / 1_000.0 * (1.0 - 0.004 * (cell_c - 25.0)) * 0.92;
            if power < 25.0 {
                // Too little to start the converter; at dawn the voltage is there before the power.
                let voltage_v = if irradiance > 1.0 { 210.0 * irradiance / (irradiance + 3.0) } else { 0.0 };
                return PvString { voltage_v, current_a: 0.0, power_w: 0.0 };
            }
            let voltage_v = 352.0 - 1.1 * (cell_c - 25.0) - 1_500.0 / (irradiance + 15.0);
            PvString { voltage_v, current_a: power / voltage_v, power_w: power.round() }
        });
        let horizontal = sun.beam * beam * sun.up.max(0.0) + sun.diffuse * diffuse;
        (strings, horizontal)
    }

    /// Positive is discharge. Covers the house from the battery, stores what is left over, and in the dark months
    /// fills a low battery from the grid in the cheapest hours of the night; see [`BatteryUse`] for one that trades.
    fn wanted_from_battery(&mut self, pv_w: f64, house_w: f64, year_share: f64, time: Timestamp) -> f64 {
        let hour = day_share(self.local()) * 24.0;
        if self.battery_use == BatteryUse::Market
            && let Some(wanted_w) = self.traded_w(pv_w, hour, time)
        {
            return wanted_w;
        }
        let dark = !(0.13..0.80).contains(&year_share);
        let is_cheap = || price::pln_per_kwh(self.seed, time, self.local_offset_ns) < 0.42;
        // Once begun it goes on to a higher mark: no inverter turns its battery round every ten seconds.
        let full = if self.is_filling { FILLED_SOC } else { LOW_SOC };
        self.is_filling =
            dark && (1.0..4.0).contains(&hour) && self.stored_kwh < full * BATTERY_KWH && is_cheap();
        if self.is_filling {
            return -2_400.0 - pv_w;
        }
        // The controller is never exact.
        let needed = (house_w + STANDBY_W) / EFFICIENCY - pv_w + 10.0 * (self.rng.unit() - 0.5);
        if needed.abs() < DEAD_BAND_W { 0.0 } else { needed }
    }

    /// What buying and selling want, if it is time for that.
    fn traded_w(&self, pv_w: f64, hour: f64, time: Timestamp) -> Option<f64> {
        let price = price::pln_per_kwh(self.seed, time, self.local_offset_ns);
        if (1.0..4.0).contains(&hour) && price < 0.42 {
            return Some(if self.stored_kwh < 0.9 * BATTERY_KWH { -2_400.0 - pv_w } else { 0.0 });
        }
        let sells = (18.0..21.0).contains(&hour) && price > 0.7 && self.stored_kwh > 0.35 * BATTERY_KWH;
        sells.then_some(4_000.0)
    }

    fn within_battery(&self, wanted_w: f64) -> f64 {
        let soc = self.stored_kwh / BATTERY_KWH;
        if wanted_w > 0.0 {
            return if soc <= LEAST_SOC { 0.0 } else { wanted_w.min(BATTERY_W) };
        }
        // The last twentieth is charged ever more slowly.
        let most = BATTERY_W * ((1.0 - soc) / 0.05).clamp(0.0, 1.0);
        let charge = (-wanted_w).min(most);
        if charge < 40.0 { 0.0 } else { -charge }
    }

    pub(super) fn state(&self) -> PlantState {
        let flow = &self.now;
        let soc = self.stored_kwh / BATTERY_KWH;
        // Lithium iron phosphate: flat in the middle, steep at both ends; 96 cells and a little resistance.
        let rest_v =
            96.0 * (3.24 + 0.10 * soc - 0.25 * (-soc * 25.0).exp() + 0.12 * ((soc - 1.0) * 30.0).exp());
        let battery_voltage_v = rest_v - 0.25 * flow.battery_w / rest_v;
        PlantState {
            time: self.time(),
            local_offset_ns: self.local_offset_ns,
            strings: flow.strings,
            irradiance_w_m2: flow.irradiance,
            outdoor_c: self.weather.outdoor_c(),
            load_w: flow.load_w,
            battery_power_w: flow.battery_w,
            battery_voltage_v,
            battery_soc_percent: 100.0 * soc,
            battery_c: self.battery_c,
            inverter_ac_w: flow.inverter_ac_w,
            inverter_c: self.inverter_c,
            grid_power_w: flow.grid_w,
            frequency_hz: self.frequency_hz,
            counters: self.counters,
            price_pln_kwh: price::pln_per_kwh(self.seed, self.time(), self.local_offset_ns),
        }
    }
}
