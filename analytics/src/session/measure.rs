//! What a stretch of time adds to a session: energy, its parts, money. Exact for power that moves on a line between two
//! readings and a price that steps.
//!
//! Invariants
//! 1. `energy = grid + local + unsplit`, each at least 0.
//! 2. Price spans rise and do not overlap; after a reading none is kept that ended before it.

use super::{Kind, Sample};
use crate::energy::{WS_PER_KWH, zero_crossing};
use serde::{Deserialize, Serialize};

/// A sample that has what its kind needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reading {
    pub(super) time_ns: i64,
    /// Power of the battery, in the direction of the kind.
    pub(super) power_w: f64,
    /// PV less house, if it is known.
    pub(super) surplus_w: Option<f64>,
    pub(super) soc_percent: Option<f64>,
}

impl Reading {
    pub(super) fn of(kind: Kind, sample: &Sample) -> Option<Self> {
        let power_w = kind.power_w(sample)?;
        // PV and consumption say it; where one is missing, the meter does: PV - house = grid - battery.
        let by_parts = sample.pv_w.zip(sample.consumption_w).map(|(pv, house)| pv.max(0.0) - house.max(0.0));
        let by_meter = sample.grid_w.zip(sample.battery_w).map(|(grid, battery)| grid - battery);
        let surplus_w = by_parts.or(by_meter);
        Some(Self { time_ns: sample.time.0, power_w, surplus_w, soc_percent: sample.soc_percent })
    }
}

/// Sums over joined readings.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measure {
    energy_ws: f64,
    grid_ws: f64,
    local_ws: f64,
    priced_ws: f64,
    /// Watt-seconds of the grid part x PLN/kWh.
    cost: f64,
    pub(super) covered_ns: i64,
    pub(super) peak_w: f64,
    pub(super) sample_count: u64,
}

impl Measure {
    pub(super) fn add(&mut self, other: &Self) {
        self.energy_ws += other.energy_ws;
        self.grid_ws += other.grid_ws;
        self.local_ws += other.local_ws;
        self.priced_ws += other.priced_ws;
        self.cost += other.cost;
        self.covered_ns = self.covered_ns.saturating_add(other.covered_ns);
        self.peak_w = self.peak_w.max(other.peak_w);
        self.sample_count = self.sample_count.saturating_add(other.sample_count);
    }

    pub(super) fn add_reading(&mut self, reading: &Reading) {
        self.sample_count = self.sample_count.saturating_add(1);
        self.peak_w = self.peak_w.max(reading.power_w);
    }

    /// The stretch between two joined readings.
    pub(super) fn between(kind: Kind, from: &Reading, to: &Reading, prices: &PriceLine) -> Self {
        let length_ns = to.time_ns - from.time_ns;
        let mut sums = Self { covered_ns: length_ns, ..Self::default() };
        let line = Line::new(kind, from, to);
        let (energy, grid) = line.integral(0.0, 1.0);
        sums.energy_ws = energy;
        if !line.is_split() {
            return sums;
        }
        sums.grid_ws = grid;
        sums.local_ws = (energy - grid).max(0.0);
        let share = |ns: i64| (ns - from.time_ns) as f64 / length_ns as f64;
        for (start, end, price) in prices.within(from.time_ns, to.time_ns) {
            let (_, grid) = line.integral(share(start), share(end));
            sums.priced_ws += grid;
            sums.cost += grid * price;
        }
        sums
    }

    pub(super) fn energy_kwh(&self) -> f64 {
        self.energy_ws / WS_PER_KWH
    }

    pub(super) fn grid_kwh(&self) -> f64 {
        self.grid_ws / WS_PER_KWH
    }

    pub(super) fn local_kwh(&self) -> f64 {
        self.local_ws / WS_PER_KWH
    }

    pub(super) fn unsplit_kwh(&self) -> f64 {
        let rest = self.energy_ws - self.grid_ws - self.local_ws;
        // What rounding leaves is no energy.
        if rest <= self.energy_ws * 1e-12 { 0.0 } else { rest / WS_PER_KWH }
    }

    pub(super) fn priced_kwh(&self) -> f64 {
        self.priced_ws / WS_PER_KWH
    }

    /// PLN for the priced part; none if there is, or may be, a grid part and no price for any of it.
    pub(super) fn cost_pln(&self) -> Option<f64> {
        let no_grid_part = self.grid_ws <= 0.0 && self.unsplit_kwh() <= 0.0;
        (no_grid_part || self.priced_ws > 0.0).then(|| self.cost / WS_PER_KWH)
    }

    pub(super) fn average_price(&self) -> Option<f64> {
        (self.priced_ws > 0.0).then(|| self.cost / self.priced_ws)
    }
}

/// Power between two joined readings.
#[derive(Debug)]
struct Line {
    power_w: (f64, f64),
    /// What PV can give to the battery (charging) or the house wants from it (selling).
    local_w: Option<(f64, f64)>,
    seconds: f64,
    /// Where, in 0..=1, a part of the power has a kink.
    cuts: [f64; 5],
}

impl Line {
    fn new(kind: Kind, from: &Reading, to: &Reading) -> Self {
        let power_w = (from.power_w, to.power_w);
        let sign = if kind == Kind::Charging { 1.0 } else { -1.0 };
        let local_w = from.surplus_w.zip(to.surplus_w).map(|(a, b)| (sign * a, sign * b));
        let crossing = |(a, b): (f64, f64)| zero_crossing(a, b).unwrap_or(1.0);
        let mut cuts = [0.0, 1.0, crossing(power_w), 1.0, 1.0];
        if let Some(local) = local_w {
            cuts[3] = crossing(local);
            cuts[4] = crossing((power_w.0 - local.0, power_w.1 - local.1));
        }
        cuts.sort_by(f64::total_cmp);
        Self { power_w, local_w, seconds: (to.time_ns - from.time_ns) as f64 / 1e9, cuts }
    }

    fn is_split(&self) -> bool {
        self.local_w.is_some()
    }

    /// Watt-seconds of the battery and of its grid part between two places of the line.
    fn integral(&self, from: f64, to: f64) -> (f64, f64) {
        let (mut energy, mut grid) = (0.0, 0.0);
        for pair in self.cuts.windows(2) {
            let (start, end) = (pair[0].max(from), pair[1].min(to));
            if start < end {
                let (a, b) = (self.at(start), self.at(end));
                let half = (end - start) * self.seconds / 2.0;
                energy += (a.0 + b.0) * half;
                grid += (a.1 + b.1) * half;
            }
        }
        (energy, grid)
    }

    /// Power of the battery and its grid part, W, neither negative.
    fn at(&self, share: f64) -> (f64, f64) {
        let mix = |(a, b): (f64, f64)| a + (b - a) * share;
        let power = mix(self.power_w).max(0.0);
        let local = self.local_w.map_or(0.0, |local| mix(local).max(0.0));
        (power, power - power.min(local))
    }
}

/// Most changes of price between two readings.
pub(super) const MAX_PRICE_SPANS: usize = 4096;

/// Prices that may hold between the last reading and the next: each from its time until the next one begins, and no longer
/// than `max_age_ns` after it was last heard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceLine {
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    from_ns: i64,
    /// End, if no other price begins before.
    until_ns: i64,
    price: f64,
}

impl PriceLine {
    /// A price begins to hold; times rise. False if there are too many to keep.
    pub(super) fn hear(&mut self, time_ns: i64, price: f64, max_age_ns: i64) -> bool {
        let until_ns = time_ns.saturating_add(max_age_ns);
        if let Some(last) = self.spans.last_mut() {
            if last.price == price && time_ns <= last.until_ns {
                last.until_ns = until_ns;
                return true;
            }
            if self.spans.len() >= MAX_PRICE_SPANS {
                return false;
            }
        }
        if let Some(last) = self.spans.last_mut() {
            last.until_ns = last.until_ns.min(time_ns);
        }
        self.spans.push(Span { from_ns: time_ns, until_ns, price });
        true
    }

    /// True if it can have been written by this module: spans rise, end after they begin, and are not too many.
    pub(super) fn is_sound(&self) -> bool {
        self.spans.len() <= MAX_PRICE_SPANS
            && self.spans.iter().all(|span| span.from_ns < span.until_ns)
            && self.spans.windows(2).all(|pair| pair[0].until_ns <= pair[1].from_ns)
    }

    /// Forgets what ended by `time_ns`.
    pub(super) fn forget(&mut self, time_ns: i64) {
        self.spans.retain(|span| span.until_ns > time_ns);
    }

    fn within(&self, from_ns: i64, to_ns: i64) -> impl Iterator<Item = (i64, i64, f64)> {
        self.spans.iter().filter_map(move |span| {
            let (start, end) = (span.from_ns.max(from_ns), span.until_ns.min(to_ns));
            (start < end).then_some((start, end, span.price))
        })
    }
}
