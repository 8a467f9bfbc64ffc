//! Points of one device and prices, in order of time, read as far as they are wanted.
//!
//! Bounds: [`ROWS`] rows are held at a time, and [`MOST_READINGS`] are read for one window. Prices are told only between readings
//! that are joined, so there are at most as many for each of them as a gap has minutes, and as prices change in it.

use super::PRICE_STEP_NS;
use crate::energy::{DEVICE, RAW, number, of_device, times};
use crate::price::PricePiece;
use crate::tariffs::{pieces_of, priced};
use std::collections::VecDeque;
use std::iter::Peekable;
use wattlog_analytics::session::{Kind, RedetectError, Sample};
use wattlog_engine::Engine;
use wattlog_engine::query::{GroupBy, QueryControl, QueryError, QueryRequest, ResultSeries, Zone};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::{Direction, Tariff};
use wattlog_model::Timestamp;

/// Rows that are read at a time.
const ROWS: usize = 20_000;
/// Readings of one window: a year of one in eight seconds. What is longer is no session of a battery.
const MOST_READINGS: usize = 4_000_000;

/// Notes of prices that are kept of one window.
const MOST_NOTES: usize = 20;

/// What samples are read from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) database: &'a str,
    pub(crate) tariffs: &'a [Stored<Tariff>],
    /// Whose hours tariffs go by.
    pub(crate) zone: &'a Zone,
    /// Readings further apart are not joined, so no price is wanted between them.
    pub(crate) max_gap_ns: i64,
    pub(crate) control: &'a QueryControl,
}

/// Why there are no more samples.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SamplesError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{0}")]
    Damaged(String),
    #[error("more than {MOST_READINGS} readings belong together")]
    TooMany,
    #[error(transparent)]
    Detect(#[from] RedetectError),
}

impl SamplesError {
    /// The same question may have an answer later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Query(_))
    }
}

/// See the module. Ends early where something fails: then [`Samples::failure`] says what.
#[derive(Debug)]
pub(crate) struct Samples<'a> {
    source: &'a Source<'a>,
    device: &'a str,
    kind: Kind,
    /// Rows from here on are still to be read, up to `upto`.
    next: i64,
    upto: i64,
    /// Readings and prices are told up to here.
    told: i64,
    read: usize,
    ready: VecDeque<Sample>,
    pub(crate) failure: Option<SamplesError>,
    /// What is wrong with prices.
    pub(crate) notes: Vec<String>,
}

impl<'a> Samples<'a> {
    /// Samples of `device` from `start` on and before `upto`.
    pub(crate) fn new(
        source: &'a Source<'a>,
        device: &'a str,
        kind: Kind,
        (start, upto): (i64, i64),
    ) -> Self {
        let (ready, failure, notes) = (VecDeque::new(), None, Vec::new());
        Self { source, device, kind, next: start, upto, told: i64::MIN, read: 0, ready, failure, notes }
    }

    fn fill(&mut self) -> Result<(), SamplesError> {
        let source = self.source;
        let request = QueryRequest {
            fields: Some(FIELDS.map(str::to_owned).to_vec()),
            tags: vec![of_device(self.device)],
            group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
            limit: Some(ROWS),
            ..QueryRequest::raw(source.database, RAW, Timestamp(self.next), Timestamp(self.upto))
        };
        let result = source.engine.query(&request, source.control)?;
        if let Some(lost) = result.partial.first() {
            let reason = format!("points of {RAW} cannot be read in part: {}", lost.reason);
            return Err(SamplesError::Damaged(reason));
        }
        let Some(series) = result.series.first() else {
            self.next = self.upto;
            return Ok(());
        };
        let mut readings = readings_of(series);
        self.next = self.upto;
        if series.rows() >= ROWS
            && let Some(last) = readings.last().map(|sample| sample.time)
        {
            // Rows of the same instant may have been cut off: they come with the next ones.
            if readings.len() > 1 {
                readings.pop();
                self.next = last.0;
            } else {
                self.next = last.0.saturating_add(1);
            }
        }
        self.read += readings.len();
        if self.read > MOST_READINGS {
            return Err(SamplesError::TooMany);
        }
        let is_last = self.next >= self.upto;
        let mut rest = readings.as_slice();
        while !rest.is_empty() {
            let (run, others) = rest.split_at(run_len(rest, source.max_gap_ns));
            let is_joined = run[0].time.0.saturating_sub(self.told) <= source.max_gap_ns;
            let prices = match run {
                // Nothing is reckoned of one that stands alone; the last may be joined by the next.
                [_] if !is_joined && (is_last || !others.is_empty()) => Vec::new(),
                _ => self.prices_of(run)?,
            };
            merge(run, prices, self.kind, &mut self.ready);
            self.told = run[run.len() - 1].time.0;
            rest = others;
        }
        Ok(())
    }

    /// When which price is told for readings of which none is further than a gap from the one before it.
    fn prices_of(&mut self, run: &[Sample]) -> Result<Vec<(i64, f64)>, SamplesError> {
        let source = self.source;
        let last = run[run.len() - 1].time.0;
        let after = run[0].time.0.saturating_sub(source.max_gap_ns).max(self.told);
        // Wider than what is told of it, so that no piece ends where the question does.
        let around = 2 * PRICE_STEP_NS;
        let range = after.saturating_sub(around)..last.saturating_add(around);
        let direction = match self.kind {
            Kind::Charging => Direction::Import,
            Kind::Selling => Direction::Export,
        };
        let found = priced(source.tariffs, direction, &range, |definition, times| {
            let store = (source.engine, source.database);
            pieces_of(definition, store, times, source.zone, source.control)
        });
        if let Some(error) = found.failed {
            return Err(error.into());
        }
        if found.is_lost {
            return Err(SamplesError::Damaged(found.notes.join("; ")));
        }
        for note in found.notes {
            if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        let mut prices = steps_of(&found.pieces.unwrap_or_default());
        prices.retain(|(time, _)| after < *time && *time <= last);
        Ok(prices)
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        while self.ready.is_empty() && self.next < self.upto && self.failure.is_none() {
            if let Err(error) = self.fill() {
                self.failure = Some(error);
            }
        }
        self.ready.pop_front()
    }
}

const FIELDS: [&str; 5] = ["battery_power", "grid_power", "pv_power", "consumption", "battery_soc"];

/// Rows as samples; of rows at one time the first that has a value gives it.
fn readings_of(series: &ResultSeries) -> Vec<Sample> {
    let columns = FIELDS.map(|name| series.column(name).map(|column| &column.values));
    let mut readings: Vec<Sample> = Vec::with_capacity(series.rows());
    for (row, time) in times(series).enumerate() {
        let [battery_w, grid_w, pv_w, consumption_w, soc_percent] = columns
            .map(|values| values.and_then(|values| number(values, row)).filter(|value| value.is_finite()));
        let empty = Sample::empty(Timestamp(time));
        let found = Sample { battery_w, grid_w, pv_w, consumption_w, soc_percent, ..empty };
        match readings.last_mut().filter(|last| last.time == found.time) {
            None => readings.push(found),
            Some(last) => {
                last.battery_w = last.battery_w.or(found.battery_w);
                last.grid_w = last.grid_w.or(found.grid_w);
                last.pv_w = last.pv_w.or(found.pv_w);
                last.consumption_w = last.consumption_w.or(found.consumption_w);
                last.soc_percent = last.soc_percent.or(found.soc_percent);
            }
        }
    }
    readings
}

/// How many of them are joined to the first.
fn run_len(readings: &[Sample], max_gap_ns: i64) -> usize {
    let is_apart = |pair: &[Sample]| pair[1].time.0.saturating_sub(pair[0].time.0) > max_gap_ns;
    readings.windows(2).position(is_apart).map_or(readings.len(), |at| at + 1)
}

/// Instants at which each price is told, so that it holds to the end of its piece and no longer: a price holds for
/// [`PRICE_STEP_NS`] after it was told. A piece that is shorter than that counts only where another follows it at once.
fn steps_of(pieces: &[PricePiece]) -> Vec<(i64, f64)> {
    let mut steps = Vec::new();
    for (place, piece) in pieces.iter().enumerate() {
        let last = piece.end.saturating_sub(PRICE_STEP_NS);
        if last < piece.start {
            if pieces.get(place + 1).is_some_and(|next| next.start == piece.end) {
                steps.push((piece.start, piece.pln_kwh));
            }
            continue;
        }
        let mut at = piece.start;
        while at < last {
            steps.push((at, piece.pln_kwh));
            // Counted from 0, so that it does not matter where a question begins.
            at = at.div_euclid(PRICE_STEP_NS).saturating_add(1).saturating_mul(PRICE_STEP_NS);
        }
        steps.push((last, piece.pln_kwh));
    }
    steps
}

/// Both by rising time; a price at the instant of a reading is part of it.
fn merge(readings: &[Sample], prices: Vec<(i64, f64)>, kind: Kind, out: &mut VecDeque<Sample>) {
    let mut prices: Peekable<_> = prices.into_iter().peekable();
    let told = |mut sample: Sample, price: f64| {
        match kind {
            Kind::Charging => sample.import_price_pln_kwh = Some(price),
            Kind::Selling => sample.export_price_pln_kwh = Some(price),
        }
        sample
    };
    for mut reading in readings.iter().copied() {
        while let Some((time, price)) = prices.next_if(|(time, _)| *time <= reading.time.0) {
            if time == reading.time.0 {
                reading = told(reading, price);
            } else {
                out.push_back(told(Sample::empty(Timestamp(time)), price));
            }
        }
        out.push_back(reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_told_for_as_long_as_it_holds() {
        let piece = |start: i64, end: i64, pln_kwh: f64| PricePiece {
            start: start * PRICE_STEP_NS / 60,
            end: end * PRICE_STEP_NS / 60,
            pln_kwh,
        };
        let seconds = |pieces: &[PricePiece]| -> Vec<(i64, f64)> {
            steps_of(pieces).into_iter().map(|(ns, price)| (ns / (PRICE_STEP_NS / 60), price)).collect()
        };
        assert_eq!(seconds(&[piece(0, 150, 1.0)]), [(0, 1.0), (60, 1.0), (90, 1.0)]);
        assert_eq!(seconds(&[piece(0, 60, 1.0), piece(60, 180, 2.0)]), [(0, 1.0), (60, 2.0), (120, 2.0)]);
        // Half a minute before another price, and half a minute before none.
        assert_eq!(seconds(&[piece(0, 30, 1.0), piece(30, 90, 2.0)]), [(0, 1.0), (30, 2.0)]);
        assert_eq!(seconds(&[piece(0, 30, 1.0), piece(40, 60, 2.0)]), []);
    }
}
