//! Ninety days of the simulated household: what is polled of it, when nobody hears it, and what its energy costs.

use crate::truth::{QUARTER, Reading, SECOND, TICK, Tick, sessions};
use jiff::civil::{Date, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::ops::Range;
use std::time::Duration;
use wattlog_collector::config::PseProduct;
use wattlog_collector::simulator::feeds::{Market, midnight};
use wattlog_collector::simulator::{Place, Plant};
use wattlog_engine::io::sim::Rng;
use wattlog_ledger::schema::SessionKind;
use wattlog_model::Timestamp;

pub(crate) const ZONE: &str = "Europe/Warsaw";
/// First days of the two stretches: the one has the day with 25 hours, the other that with 23.
const FIRST_DAYS: [Date; 2] = [date(2026, 10, 5), date(2027, 3, 6)];
const DAYS: i64 = 45;
/// Days between two changes of what the collector's polls are in step with.
const PART_DAYS: i64 = 5;
/// From this day on another tariff holds.
pub(crate) const TURN: Date = date(2026, 11, 1);

pub(crate) const KINDS: [SessionKind; 2] = [SessionKind::Charging, SessionKind::Selling];

/// Where the home is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// For minutes, within a session: its readings are joined across.
    Short,
    /// For longer, within a session: it falls apart.
    Long,
    /// Where a session begins, or ends.
    Flank,
    /// For hours, anywhere.
    Hours,
}

pub(crate) struct Story {
    pub(crate) plant: Plant,
    pub(crate) market: Market,
    /// Of both stretches.
    pub(crate) ticks: Vec<Tick>,
    /// When each tick is polled.
    pub(crate) polls: Vec<i64>,
    /// Some days each, without the other stretch.
    pub(crate) parts: Vec<Range<usize>>,
    pub(crate) silences: Vec<(Silence, Range<usize>)>,
    is_silent: Vec<bool>,
}

/// Whose clock it is.
pub(crate) fn zone() -> TimeZone {
    TimeZoneDatabase::bundled().get(ZONE).unwrap()
}

impl Story {
    pub(crate) fn new(seed: u64, rng: &mut Rng) -> Self {
        let market = Market::new(seed, zone());
        let start = midnight(date(2026, 10, 1), &market);
        let plant = Plant::new(seed, Place::default()).trading().commissioned(start);
        let (mut ticks, mut polls, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for first in FIRST_DAYS {
            for part in (0..DAYS).step_by(PART_DAYS as usize) {
                let day = |days: i64| midnight(first + jiff::Span::new().days(days), &market);
                let times = day(part)..day(part + PART_DAYS);
                let (from, phase) = (ticks.len(), rng.below(TICK as u64) as i64);
                for state in plant.history(times, Duration::from_nanos(TICK as u64)) {
                    ticks.push(Tick {
                        start: state.time.0,
                        battery_w: state.battery_power_w,
                        grid_w: state.grid_power_w,
                        soc_percent: state.battery_soc_percent,
                        charge_kwh: state.counters.charge_kwh,
                        discharge_kwh: state.counters.discharge_kwh,
                    });
                    polls.push(state.time.0 + phase);
                }
                parts.push(from..ticks.len());
            }
        }
        let is_silent = vec![false; ticks.len()];
        let mut story = Self { plant, market, ticks, polls, parts, silences: Vec::new(), is_silent };
        story.fall_silent(rng);
        story
    }

    fn fall_silent(&mut self, rng: &mut Rng) {
        let readings = self.readings();
        let minutes = |least: u64, most: u64, rng: &mut Rng| (6 * (least + rng.below(most - least))) as usize;
        for kind in KINDS {
            for (first, last) in sessions(&readings, kind) {
                let length = last - first;
                let (silence, from, count) = match rng.below(12) {
                    0 if length > 6 * 50 => (Silence::Short, first + length / 2, minutes(2, 14, rng)),
                    1 if length > 6 * 90 => (Silence::Long, first + length / 3, minutes(16, 40, rng)),
                    2 => (Silence::Flank, first.saturating_sub(20), minutes(6, 30, rng)),
                    3 => (Silence::Flank, last.saturating_sub(20), minutes(6, 30, rng)),
                    _ => continue,
                };
                self.silences.push((silence, from..(from + count).min(self.ticks.len())));
            }
        }
        for _ in 0..10 {
            let from = rng.below(self.ticks.len() as u64) as usize;
            let count = minutes(60, 300, rng);
            self.silences.push((Silence::Hours, from..(from + count).min(self.ticks.len())));
        }
        for (_, ticks) in &self.silences {
            self.is_silent[ticks.clone()].fill(true);
        }
    }

    /// The last silence of that sort that has no other within an hour.
    pub(crate) fn apart(&self, silence: Silence) -> Range<usize> {
        let hour = 360;
        let is_apart = |ticks: &Range<usize>| {
            let near =
                |other: &Range<usize>| other.start < ticks.end + hour && ticks.start < other.end + hour;
            self.silences.iter().filter(|(_, other)| near(other)).count() == 1
        };
        let is_it = |(kind, ticks): &&(Silence, Range<usize>)| *kind == silence && is_apart(ticks);
        self.silences.iter().rfind(is_it).expect("some are apart").1.clone()
    }

    /// The home was heard at that time after all.
    pub(crate) fn fill(&mut self, ticks: &Range<usize>) {
        self.is_silent[ticks.clone()].fill(false);
    }

    /// Days of the home.
    pub(crate) fn days() -> impl Iterator<Item = Date> {
        FIRST_DAYS.into_iter().flat_map(|first| (0..DAYS).map(move |day| first + jiff::Span::new().days(day)))
    }

    pub(crate) fn is_silent(&self, tick: usize) -> bool {
        self.is_silent[tick]
    }

    /// All polls that are answered.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let heard = (0..self.ticks.len()).filter(|tick| !self.is_silent[*tick]);
        heard.map(|tick| Reading { at: self.polls[tick], tick: self.ticks[tick] }).collect()
    }

    /// PLN/kWh that the market tells for the quarter of an hour.
    pub(crate) fn market_pln_kwh(&self, kind: SessionKind, at: i64) -> f64 {
        let product = product_of(kind);
        self.market.pln_per_mwh(product, Timestamp(at.div_euclid(QUARTER) * QUARTER), 0) / 1000.0
    }
}

/// What is bought and sold by.
pub(crate) fn product_of(kind: SessionKind) -> PseProduct {
    match kind {
        SessionKind::Charging => PseProduct::CsdacPln,
        SessionKind::Selling => PseProduct::RcePln,
    }
}

/// What a kWh costs or brings in each quarter of an hour, reckoned once.
pub(crate) struct Prices {
    first: i64,
    pln_kwh: [Vec<f64>; 2],
}

/// Of g11, and of g12 by the hour of the clock: read off the table of the operator, PLN/kWh.
const G11: f64 = 0.3125;
const G12: &[u8; 24] = b"nnnnnnnPPPPPPnnPPPPPPPnn";
const FIXED: f64 = 0.0892;

impl Prices {
    pub(crate) fn new(story: &Story) -> Self {
        let first = story.ticks[0].start.div_euclid(QUARTER);
        let end = story.ticks[story.ticks.len() - 1].start.div_euclid(QUARTER) + 1;
        let (zone, turn) = (zone(), midnight(TURN, &story.market).0);
        let of = |kind: SessionKind, quarter: i64| {
            let at = quarter * QUARTER;
            let market = story.market_pln_kwh(kind, at);
            if kind == SessionKind::Selling {
                return market;
            }
            let local = zone.to_datetime(jiff::Timestamp::from_second(at / SECOND).unwrap());
            let distribution = match G12[local.hour() as usize] {
                _ if at < turn => G11,
                b'P' => 0.3566,
                _ => 0.0749,
            };
            market + FIXED + distribution
        };
        Self { first, pln_kwh: KINDS.map(|kind| (first..end).map(|quarter| of(kind, quarter)).collect()) }
    }

    pub(crate) fn at(&self, kind: SessionKind, at: i64) -> f64 {
        let place = usize::from(kind == SessionKind::Selling);
        self.pln_kwh[place][(at.div_euclid(QUARTER) - self.first) as usize]
    }
}
