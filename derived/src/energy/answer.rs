//! Energy of days, months and years: sums of the rows that are kept, and of those that are yet to be.

use super::days::{EnergyCache, month};
use super::{
    DeviceQuarters, EnergyError, EnergyOptions, EnergyStatus, PRICED, QUARTER_NS, QuarterRow, Values, place,
    quarter_of, quarters,
};
use crate::months::months;
use crate::pending::Pending;
use crate::price::PricePiece;
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_engine::Engine;
use wattlog_engine::query::{Aggregate, Buckets, Every, QueryControl, QueryError, Zone};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct EnergyRequest {
    /// Whole quarters; the periods that its ends lie in are cut there.
    pub range: Range<i64>,
    /// The present: what is beyond it is not missing.
    pub now: i64,
    /// Length of a period: whole days, months or years.
    pub every: Every,
    /// Whose days they are.
    pub zone: Zone,
    /// Only this device.
    pub device: Option<String>,
    /// What bought energy costs, by rising time; none: no costs are computed.
    pub import_prices: Option<Vec<PricePiece>>,
    /// What sold energy brings.
    pub export_prices: Option<Vec<PricePiece>>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct EnergyAnswer {
    /// By rising device.
    pub devices: Vec<DeviceEnergy>,
    /// Times within the range whose energies are still to be computed: what is said of them is not the last word.
    pub pending: Vec<Range<i64>>,
    /// Times within the range of which something cannot be read.
    pub lost: Vec<Range<i64>>,
}

/// Periods of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceEnergy {
    /// Value of its tag.
    pub device: String,
    /// By rising time; a period without any row is left out.
    pub periods: Vec<Period>,
}

/// One period.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// The part of the period that was asked for.
    pub times: Range<i64>,
    /// Sums by [`FIELDS`](super::FIELDS); none where no quarter has a value.
    pub values: Values,
    /// What the bought energy cost; none if nothing of it had a price.
    pub cost: Option<Money>,
    /// What the sold energy brought; none if nothing of it had a price.
    pub revenue: Option<Money>,
}

/// Money, by what it was for, and for how much of the energy a price was known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Money {
    /// PLN, of all energy with a price.
    pub pln: f64,
    /// Of it: bought for the house; sold by PV. None where it is not known who fed whom.
    pub direct_pln: Option<f64>,
    /// Of it: bought for the battery; sold by the battery.
    pub battery_pln: Option<f64>,
    /// Energy with a price, kWh.
    pub priced_kwh: f64,
}

/// Answers `request`. Rows of quarters that are over come from the store; those since then are computed from their points.
/// With a `cache`, months whose rows and prices are as they were are not read again.
///
/// # Errors
/// See [`EnergyError`].
pub fn answer(
    engine: &Engine,
    options: &EnergyOptions,
    (status, cache): (&EnergyStatus, Option<&EnergyCache>),
    request: &EnergyRequest,
    control: &QueryControl,
) -> Result<EnergyAnswer, EnergyError> {
    let range = &request.range;
    let shape = Aggregate { every: Some(request.every), zone: request.zone.clone(), ..Aggregate::default() };
    let buckets = Buckets::new(&shape, range.clone()).ok_or(QueryError::BadBucket)?;
    let newest = range.end.min(request.now.saturating_add(QUARTER_NS));
    let horizon = status.horizon.unwrap_or_else(|| quarter_of(newest.saturating_sub(MOST_LIVE_NS)));
    let horizon = horizon.max(range.start);
    let mut lost = Vec::new();
    let mut sums = Sums { buckets, range: range.clone(), devices: BTreeMap::new() };
    for times in months(&(range.start..range.end.min(horizon)), &request.zone)? {
        let month = month(engine, options, request, (&times, cache), control)?;
        for of_device in &month.devices {
            for (day, sum) in &of_device.days {
                sums.of(&of_device.device, (*day).max(times.start)).add(sum);
            }
        }
        lost.extend(month.lost.iter().cloned());
    }
    let mut pending = Pending::new(status.pending.iter().cloned());
    if !status.is_following {
        pending.add(range.start..horizon);
    }
    if horizon < newest {
        // What is over since then is a quarter or two, unless nobody keeps on.
        let live = horizon..newest.min(horizon.saturating_add(MOST_LIVE_NS));
        let computed = quarters(engine, options, &live, request.device.as_deref(), control)?;
        for of_device in &computed.devices {
            sums.add_rows(of_device, request);
        }
        lost.extend(computed.lost);
        pending.add(live.end..newest);
    }
    pending.clip(range);
    let mut lost = Pending::new(lost);
    lost.clip(range);
    let (pending, lost) = (pending.ranges().to_vec(), lost.ranges().to_vec());
    Ok(EnergyAnswer { devices: sums.finish(request), pending, lost })
}

/// Quarters that are not kept yet are computed for this long a time.
const MOST_LIVE_NS: i64 = 96 * QUARTER_NS;

struct Sums {
    buckets: Buckets,
    range: Range<i64>,
    /// By device and start of the period.
    devices: BTreeMap<String, BTreeMap<i64, Sum>>,
}

/// What is added up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    values: Values,
    cost: Money,
    revenue: Money,
}

impl Sums {
    fn of(&mut self, device: &str, time: i64) -> &mut Sum {
        let start = self.buckets.of(time).start;
        if !self.devices.contains_key(device) {
            self.devices.insert(device.to_owned(), BTreeMap::new());
        }
        self.devices.get_mut(device).expect("it was just put there").entry(start).or_default()
    }

    fn add_rows(&mut self, of_device: &DeviceQuarters, request: &EnergyRequest) {
        let mut pricing = Pricing::new(request);
        for QuarterRow { start, values } in &of_device.rows {
            let sum = self.of(&of_device.device, *start);
            sum.add_values(values);
            sum.add_money(pricing.of(*start, PRICED.map(|name| values[place(name)])));
        }
    }

    fn finish(self, request: &EnergyRequest) -> Vec<DeviceEnergy> {
        let Self { buckets, range, devices } = self;
        let period = |(start, sum): (i64, Sum)| {
            let bucket = buckets.of(start);
            Period {
                times: bucket.start.max(range.start)..bucket.end.min(range.end),
                values: sum.values,
                cost: sum.cost.known(request.import_prices.is_some(), sum.values[place("import_kwh")]),
                revenue: sum.revenue.known(request.export_prices.is_some(), sum.values[place("export_kwh")]),
            }
        };
        let device = |(device, periods): (String, BTreeMap<i64, Sum>)| DeviceEnergy {
            device,
            periods: periods.into_iter().map(period).collect(),
        };
        devices.into_iter().map(device).collect()
    }
}

impl Sum {
    pub(super) fn add_values(&mut self, values: &Values) {
        for (sum, value) in self.values.iter_mut().zip(values) {
            if let Some(value) = value {
                *sum = Some(sum.unwrap_or_default() + value);
            }
        }
    }

    pub(super) fn add_money(&mut self, [cost, revenue]: [Option<Money>; 2]) {
        self.cost.add(cost.as_ref());
        self.revenue.add(revenue.as_ref());
    }

    fn add(&mut self, other: &Self) {
        self.add_values(&other.values);
        self.add_money([Some(other.cost), Some(other.revenue)]);
    }
}

/// Prices for rows of rising time.
pub(super) struct Pricing<'a> {
    import: Line<'a>,
    export: Line<'a>,
}

struct Line<'a> {
    pieces: &'a [PricePiece],
    at: usize,
}

impl<'a> Pricing<'a> {
    pub(super) fn new(request: &'a EnergyRequest) -> Self {
        let line =
            |pieces: &'a Option<Vec<PricePiece>>| Line { pieces: pieces.as_deref().unwrap_or(&[]), at: 0 };
        Self { import: line(&request.import_prices), export: line(&request.export_prices) }
    }

    /// Cost and revenue of the quarter at `time` with these energies of [`PRICED`].
    pub(super) fn of(&mut self, time: i64, kwh: [Option<f64>; PRICED.len()]) -> [Option<Money>; 2] {
        let [import, to_house, to_battery, export, of_pv, of_battery] = kwh;
        let money = |price: f64, kwh: f64, direct: Option<f64>, battery: Option<f64>| Money {
            pln: price * kwh,
            direct_pln: direct.map(|kwh| price * kwh),
            battery_pln: battery.map(|kwh| price * kwh),
            priced_kwh: kwh,
        };
        let cost = import.and_then(|kwh| Some(money(self.import.mean(time)?, kwh, to_house, to_battery)));
        let revenue = export.and_then(|kwh| Some(money(self.export.mean(time)?, kwh, of_pv, of_battery)));
        [cost, revenue]
    }
}

impl Line<'_> {
    /// Mean price of the quarter from `time` on, if it has one all through; times rise.
    fn mean(&mut self, time: i64) -> Option<f64> {
        if self.at == 0 {
            self.at = self.pieces.partition_point(|piece| piece.end <= time);
        }
        while self.pieces.get(self.at).is_some_and(|piece| piece.end <= time) {
            self.at += 1;
        }
        let end = time.saturating_add(QUARTER_NS);
        let (mut covered, mut sum) = (time, 0.0);
        for piece in &self.pieces[self.at..] {
            if piece.start > covered || covered >= end {
                break;
            }
            let until = piece.end.min(end);
            sum += piece.pln_kwh * (until - covered) as f64;
            covered = until;
        }
        (covered >= end).then(|| sum / QUARTER_NS as f64)
    }
}

impl Money {
    /// Money for energy of which nothing had a price is not known; for no energy it is none, whatever its price.
    fn known(self, has_prices: bool, kwh: Option<f64>) -> Option<Self> {
        let is_known = has_prices && kwh.is_some_and(|kwh| kwh <= 0.0 || self.priced_kwh > 0.0);
        is_known.then_some(self)
    }

    fn add(&mut self, other: Option<&Self>) {
        let Some(other) = other else { return };
        self.pln += other.pln;
        for (sum, more) in
            [(&mut self.direct_pln, other.direct_pln), (&mut self.battery_pln, other.battery_pln)]
        {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or_default() + more);
            }
        }
        self.priced_kwh += other.priced_kwh;
    }
}
