//! Points of one device and prices, in order of time, read as far as they are wanted.
//!
//! Bounds: [`ROWS`] rows are held at a time, and [`MOST_KEPT`] readings for the other kind of session; [`MOST_READINGS`] are read
//! for one window besides those of the times that changed. Prices are told only where a session may be, between readings that are
//! joined, so there are at most as many for each of them as a gap has minutes, and as prices change in it.

use super::{PRICE_STEP_NS, reach_ns};
use crate::energy::{DEVICE, RAW, number, of_device, times};
use crate::pending::Pending;
use crate::price::PricePiece;
use crate::tariffs::{pieces_of, priced};
use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use wattlog_analytics::session::{Kind, Params, RedetectError, Sample};
use wattlog_engine::Engine;
use wattlog_engine::query::{GroupBy, QueryControl, QueryError, QueryRequest, ResultSeries, Zone};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::{Direction, Tariff};
use wattlog_model::Timestamp;

/// Rows that are read at a time.
const ROWS: usize = 20_000;
/// Where detection may settle at the next reading so many are read at a time, and then twice as many.
const FEW_ROWS: usize = 500;
/// Readings of one window: a year of one in eight seconds. What is longer is no session of a battery.
const MOST_READINGS: usize = 4_000_000;
/// Readings of one device that are kept, some 15 MB: two weeks of one in ten seconds. What is beyond them is read once for each
/// kind of session.
const MOST_KEPT: usize = 125_000;

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
    pub(crate) params: Params,
    pub(crate) control: &'a QueryControl,
}

/// A part of a device's readings: those of `range`, of its first `rows` rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    range: Range<i64>,
    rows: usize,
}

#[derive(Debug)]
struct Readings {
    /// By rising time, no two at the same.
    samples: Vec<Sample>,
    /// The part after this one begins here.
    next: i64,
}

/// Readings of one device that both kinds of session are found in.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    parts: HashMap<Part, Arc<Readings>>,
    count: usize,
}

impl Kept {
    fn keep(&mut self, part: Part, readings: &Arc<Readings>) {
        if self.count + readings.samples.len() <= MOST_KEPT {
            self.count += readings.samples.len();
            self.parts.insert(part, readings.clone());
        }
    }
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

/// What samples are wanted.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) device: &'a str,
    pub(crate) kind: Kind,
    /// Samples from its start on, and before its end.
    pub(crate) times: Range<i64>,
    /// Those in here are wanted in any case; what is after them, as far as detection needs it.
    pub(crate) surely: Range<i64>,
}

/// See the module. Ends early where something fails: then [`Samples::failure`] says what.
#[derive(Debug)]
pub(crate) struct Samples<'a> {
    source: &'a Source<'a>,
    wanted: Wanted<'a>,
    kept: &'a mut Kept,
    /// Rows from here on are still to be read.
    next: i64,
    /// So many at a time behind what is wanted in any case.
    few: usize,
    /// Readings and prices are told up to here.
    told: i64,
    /// Prices count up to here, as far as is known.
    busy_until: i64,
    read: usize,
    ready: VecDeque<Sample>,
    pub(crate) failure: Option<SamplesError>,
    /// What is wrong with prices.
    pub(crate) notes: Vec<String>,
}

impl<'a> Samples<'a> {
    pub(crate) fn new(source: &'a Source<'a>, wanted: Wanted<'a>, kept: &'a mut Kept) -> Self {
        Self {
            source,
            kept,
            next: wanted.times.start,
            wanted,
            few: FEW_ROWS,
            told: i64::MIN,
            busy_until: i64::MIN,
            read: 0,
            ready: VecDeque::new(),
            failure: None,
            notes: Vec::new(),
        }
    }

    /// The part that is read next. Parts end where the sure ones begin and end, so that they are the same for both kinds.
    fn part(&mut self) -> Part {
        let Wanted { times, surely, .. } = &self.wanted;
        let end = [surely.start, surely.end].into_iter().find(|end| self.next < *end);
        let rows = if end.is_some() { ROWS } else { self.few };
        if end.is_none() {
            self.few = (2 * self.few).min(ROWS);
        }
        Part { range: self.next..end.map_or(times.end, |end| end.min(times.end)), rows }
    }

    fn fill(&mut self) -> Result<(), SamplesError> {
        let (source, part) = (self.source, self.part());
        let readings = match self.kept.parts.get(&part) {
            Some(known) => known.clone(),
            None => {
                let read = Arc::new(read(source, self.wanted.device, &part)?);
                self.kept.keep(part.clone(), &read);
                read
            }
        };
        self.next = readings.next;
        if !self.wanted.surely.contains(&part.range.start) {
            self.read += readings.samples.len();
        }
        if self.read > MOST_READINGS {
            return Err(SamplesError::TooMany);
        }
        let is_last = self.next >= self.wanted.times.end;
        let mut rest = readings.samples.as_slice();
        while !rest.is_empty() {
            let (run, others) = rest.split_at(run_len(rest, source.params.max_gap_ns));
            // The last run may go on with the next readings.
            let prices = self.prices_of(run, !is_last && others.is_empty())?;
            merge(run, prices, self.wanted.kind, &mut self.ready);
            self.told = run[run.len() - 1].time.0;
            rest = others;
        }
        Ok(())
    }

    /// Times in which a session may be, or what is near enough to one to belong to it; none touch.
    fn busy(&mut self, run: &[Sample], goes_on: bool) -> Vec<Range<i64>> {
        let (params, kind) = (&self.source.params, self.wanted.kind);
        // From one reading that is on to the next there may be a gap, a pause and a gap; a price is told some time before it counts.
        let reach = reach_ns(params).saturating_add(2 * PRICE_STEP_NS);
        let mut busy: Vec<Range<i64>> = std::iter::once(i64::MIN..self.busy_until).collect();
        let last = run[run.len() - 1].time.0;
        let on = run.iter().filter(|sample| kind.can_be_on(params, sample)).map(|sample| sample.time.0);
        // What follows the last reading is not known yet.
        for time in on.chain(goes_on.then_some(last)) {
            let (start, end) = (time.saturating_sub(reach), time.saturating_add(reach));
            match busy.last_mut().filter(|last| start <= last.end) {
                Some(last) => last.end = end,
                None => busy.push(start..end),
            }
        }
        self.busy_until = busy[busy.len() - 1].end;
        busy
    }

    /// When which price is told for readings of which none is further than a gap from the one before it.
    fn prices_of(&mut self, run: &[Sample], goes_on: bool) -> Result<Vec<(i64, f64)>, SamplesError> {
        let source = self.source;
        let last = run[run.len() - 1].time.0;
        let after = run[0].time.0.saturating_sub(source.params.max_gap_ns).max(self.told);
        let mut busy = Pending::new(self.busy(run, goes_on));
        busy.clip(&(after.saturating_add(1)..last.saturating_add(1)));
        let (Some(first), Some(end)) = (busy.ranges().first(), busy.ranges().last()) else {
            return Ok(Vec::new());
        };
        // Wider than what is told of it, so that no piece ends where the question does.
        let around = 2 * PRICE_STEP_NS;
        let range = first.start.saturating_sub(around)..end.end.saturating_add(around);
        let direction = match self.wanted.kind {
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
        prices.retain(|(time, _)| busy.contains(*time));
        Ok(prices)
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        while self.ready.is_empty() && self.next < self.wanted.times.end && self.failure.is_none() {
            if let Err(error) = self.fill() {
                self.failure = Some(error);
            }
        }
        self.ready.pop_front()
    }
}

/// Reads a part.
fn read(source: &Source<'_>, device: &str, part: &Part) -> Result<Readings, SamplesError> {
    let Range { start, end } = part.range;
    let request = QueryRequest {
        fields: Some(FIELDS.map(str::to_owned).to_vec()),
        tags: vec![of_device(device)],
        group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
        limit: Some(part.rows),
        ..QueryRequest::raw(source.database, RAW, Timestamp(start), Timestamp(end))
    };
    let result = source.engine.query(&request, source.control)?;
    if let Some(lost) = result.partial.first() {
        let reason = format!("points of {RAW} cannot be read in part: {}", lost.reason);
        return Err(SamplesError::Damaged(reason));
    }
    let Some(series) = result.series.first() else {
        return Ok(Readings { samples: Vec::new(), next: end });
    };
    let mut samples = readings_of(series);
    let mut next = end;
    if series.rows() >= part.rows
        && let Some(last) = samples.last().map(|sample| sample.time.0)
    {
        // Rows of the same instant may have been cut off: they come with the next ones.
        next = if samples.len() > 1 {
            samples.pop();
            last
        } else {
            last.saturating_add(1)
        };
    }
    Ok(Readings { samples, next })
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
