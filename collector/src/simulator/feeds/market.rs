//! A market and a sky that could have been: any instant, the same for the same seed. What the servers tell and what a
//! test holds the store against.
//!
//! Invariant: every value has few decimals, as the services write them, so that nothing is lost on the way.

use crate::config::PseProduct;
use crate::seed::unit_at;
use crate::simulator::plant::market_price;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use wattlog_model::Timestamp;

/// Prices, rates and weather of one seed in one zone.
#[derive(Debug, Clone)]
pub struct Market {
    seed: u64,
    zone: TimeZone,
}

impl Market {
    /// The same seed gives the same market.
    pub fn new(seed: u64, zone: TimeZone) -> Self {
        Self { seed, zone }
    }

    /// Zone of the market.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Starts of the periods of a local day.
    pub fn periods(&self, day: Date, length_ns: i64) -> Vec<Timestamp> {
        let bounds = crate::feeds::local_day(day, &self.zone);
        let starts = (bounds.start.0..bounds.end.0).step_by(length_ns.max(1) as usize);
        starts.map(Timestamp).collect()
    }

    /// PLN/MWh with two decimals, of the quarter that begins at `start`; each revision has another value.
    pub fn pln_per_mwh(&self, product: PseProduct, start: Timestamp, revision: u32) -> f64 {
        let shift = f64::from(revision) * 7.25 + if product == PseProduct::RcePln { 3.5 } else { 0.0 };
        let level = market_price(self.seed, start, 3_600_000_000_000) * 1_000.0 + shift;
        (level * 100.0).round() / 100.0
    }

    /// EUR/MWh in halves, so that quarters often equal the one before.
    pub fn eur_per_mwh(&self, start: Timestamp) -> f64 {
        (market_price(self.seed, start, 3_600_000_000_000) * 1_000.0 / 4.25 * 0.2).round() * 2.5
    }

    /// PLN per EUR of the table of a date; weekends have none.
    pub fn rate(&self, date: Date) -> Option<f64> {
        let has_table = !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let place = i64::from(date.day_of_year()) + 1_000 * i64::from(date.year());
        has_table.then(|| (42_000.0 + 1_000.0 * unit_at(self.seed, RATE, place)).round() / 10_000.0)
    }

    /// Kompas code of the hour that begins at `start`.
    pub fn usage(&self, start: Timestamp) -> i64 {
        (unit_at(self.seed, USAGE, start.0 / HOUR_NS) * 4.0) as i64
    }

    /// Weather at an hour.
    pub fn weather(&self, hour: Timestamp) -> Weather {
        let place = hour.0.div_euclid(HOUR_NS);
        let draw = |kind: u64| unit_at(self.seed, WEATHER + kind, place);
        let clock = place.rem_euclid(24) as f64;
        let sun = ((clock - 5.0) / 14.0 * std::f64::consts::PI).sin().max(0.0);
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        Weather {
            temperature_c: tenths(8.0 + 6.0 * sun + 4.0 * (draw(0) - 0.5)),
            humidity_pct: tenths(85.0 - 30.0 * sun + 10.0 * draw(1)),
            cloud_cover_pct: (draw(2) * 100.0).round(),
            wind_m_s: tenths(6.0 * draw(3)),
            precipitation_mm: if draw(4) > 0.8 { tenths(3.0 * draw(5)) } else { 0.0 },
            irradiance_w_m2: tenths(700.0 * sun * (1.0 - 0.7 * draw(2))),
        }
    }
}

/// What both weather services tell.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "names with units say it all")]
pub struct Weather {
    pub temperature_c: f64,
    pub humidity_pct: f64,
    pub cloud_cover_pct: f64,
    pub wind_m_s: f64,
    pub precipitation_mm: f64,
    pub irradiance_w_m2: f64,
}

const HOUR_NS: i64 = 3_600_000_000_000;
const RATE: u64 = 0x71;
const USAGE: u64 = 0x72;
const WEATHER: u64 = 0x80;
