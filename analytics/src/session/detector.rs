//! The state machine that finds sessions, one sample at a time.

use super::measure::{MAX_PRICE_SPANS, Measure, PriceLine, Reading};
use super::{InvalidParams, Kind, Params, Sample, Session, SessionError, Status};
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// Finds the sessions of one kind of one device. Written down and read back it goes on as if nothing had been.
///
/// Memory: a few hundred bytes, and 24 bytes for each change of price since the last reading (at most 4096).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Detector(State);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    device: String,
    kind: Kind,
    params: Params,
    /// Latest time seen, of any sample.
    seen: Option<Timestamp>,
    prices: PriceLine,
    last: Option<Reading>,
    /// Whether the last reading is on.
    on: bool,
    open: Option<Open>,
}

/// A session that may still grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    start_ns: i64,
    soc_start: Option<f64>,
    /// End of its last run.
    end_ns: i64,
    soc_end: Option<f64>,
    /// From start to end.
    body: Measure,
    /// Since the end; becomes part of the body if another run is merged.
    pause: Measure,
}

impl TryFrom<State> for Detector {
    type Error = InvalidParams;

    fn try_from(state: State) -> Result<Self, InvalidParams> {
        state.params.check()?;
        let seen = state.seen.map_or(i64::MIN, |seen| seen.0);
        let open = state.open.as_ref();
        let sound = state.prices.is_sound()
            && state.last.is_none_or(|last| last.time_ns <= seen)
            && open.is_none_or(|open| open.start_ns <= open.end_ns && open.end_ns <= seen);
        let problem = "the state of a detector has times that do not rise: detect again from the samples";
        if sound { Ok(Self(state)) } else { Err(InvalidParams { problem }) }
    }
}

impl From<Detector> for State {
    fn from(detector: Detector) -> Self {
        detector.0
    }
}

impl Detector {
    /// A detector that has seen nothing.
    ///
    /// # Errors
    /// [`InvalidParams`] if the rules have no sense.
    pub fn new(device: &str, kind: Kind, params: Params) -> Result<Self, InvalidParams> {
        params.check()?;
        let prices = PriceLine::default();
        let device = device.to_owned();
        Ok(Self(State { device, kind, params, seen: None, prices, last: None, on: false, open: None }))
    }

    /// Takes the next sample; gives the session that it ends, if it ends one.
    ///
    /// # Errors
    /// See [`SessionError`]; the state is then as before.
    pub fn feed(&mut self, sample: &Sample) -> Result<Option<Session>, SessionError> {
        self.accept(sample)?;
        let state = &mut self.0;
        let Some(reading) = Reading::of(state.kind, sample) else { return Ok(None) };
        let joined = state.last.filter(|last| state.params.joins(last.time_ns, reading.time_ns));
        let was_on = state.on && joined.is_some();
        let is_on = state.kind.is_on(&state.params, sample, was_on);
        // What is in no session is not added up.
        let step = joined
            .filter(|_| is_on || state.open.is_some())
            .map(|last| Measure::between(state.kind, &last, &reading, &state.prices));
        let mut ended = None;
        if is_on {
            let first = joined.unwrap_or(reading);
            if let Some(open) = &state.open
                && first.time_ns.saturating_sub(open.end_ns) > state.params.merge_pause_ns
            {
                ended = state.close();
            }
            match &mut state.open {
                Some(open) => open.grow(step.as_ref(), &reading),
                none => {
                    let open = none.insert(Open::begin(&first));
                    if joined.is_some() {
                        open.grow(step.as_ref(), &reading);
                    }
                }
            }
        } else if let Some(open) = &mut state.open {
            if was_on {
                open.grow(step.as_ref(), &reading);
            } else if reading.time_ns.saturating_sub(open.end_ns) > state.params.merge_pause_ns {
                ended = state.close();
            } else {
                open.rest(step.as_ref(), &reading);
            }
        }
        state.prices.forget(reading.time_ns);
        state.last = Some(reading);
        state.on = is_on;
        Ok(ended)
    }

    /// Takes nothing of the sample but its price: what held before a window that is detected again.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn feed_price(&mut self, sample: &Sample) -> Result<(), SessionError> {
        self.accept(sample)?;
        self.0.prices.forget(sample.time.0);
        Ok(())
    }

    /// Says that no sample before `now` is to come: a session that cannot go on any more is closed and given. Samples
    /// up to `now` are late from here on. Without effect if `now` has been passed already.
    pub fn advance(&mut self, now: Timestamp) -> Option<Session> {
        let state = &mut self.0;
        if state.seen.is_some_and(|seen| seen >= now) {
            return None;
        }
        let last = state.last?;
        let over = state.open.as_ref().is_some_and(|open| {
            !state.params.joins(last.time_ns, now.0)
                && now.0.saturating_sub(open.end_ns) > state.params.merge_pause_ns
        });
        if !over {
            return None;
        }
        state.seen = Some(now);
        state.on = false;
        state.close()
    }

    /// The session that is under way, if it is long enough to be one.
    pub fn open_session(&self) -> Option<Session> {
        let state = &self.0;
        state.open.as_ref().and_then(|open| state.session(open, Status::Open))
    }

    /// True if no session is under way, not even one too short so far.
    pub fn is_idle(&self) -> bool {
        self.0.open.is_none() && !self.0.on
    }

    /// Its rules.
    pub fn params(&self) -> &Params {
        &self.0.params
    }

    /// Latest time that it has seen.
    pub fn seen(&self) -> Option<Timestamp> {
        self.0.seen
    }

    /// Checks a sample and hears its price.
    fn accept(&mut self, sample: &Sample) -> Result<(), SessionError> {
        let (time, state) = (sample.time, &mut self.0);
        if let Some(seen) = state.seen.filter(|seen| *seen >= time) {
            return Err(SessionError::Late { time, seen });
        }
        let values = [
            sample.battery_w,
            sample.grid_w,
            sample.pv_w,
            sample.consumption_w,
            sample.soc_percent,
            sample.import_price_pln_kwh,
            sample.export_price_pln_kwh,
        ];
        if values.into_iter().flatten().any(|value| !value.is_finite()) {
            return Err(SessionError::NotFinite { time });
        }
        // No step that is to come begins before this.
        state.prices.forget(time.0.saturating_sub(state.params.max_gap_ns));
        if let Some(price) = state.kind.price(sample)
            && !state.prices.hear(time.0, price, state.params.price_max_age_ns)
        {
            return Err(SessionError::TooManyPrices { time, limit: MAX_PRICE_SPANS });
        }
        state.seen = Some(time);
        Ok(())
    }
}

impl Params {
    fn joins(&self, earlier_ns: i64, later_ns: i64) -> bool {
        later_ns.saturating_sub(earlier_ns) <= self.max_gap_ns
    }
}

impl State {
    /// Takes the open session away; gives it if it is long enough.
    fn close(&mut self) -> Option<Session> {
        let open = self.open.take()?;
        self.session(&open, Status::Closed)
    }

    fn session(&self, open: &Open, status: Status) -> Option<Session> {
        if open.end_ns.saturating_sub(open.start_ns) < self.params.min_duration_ns {
            return None;
        }
        let body = &open.body;
        let sign = if self.kind == Kind::Charging { 1.0 } else { -1.0 };
        Some(Session {
            device: self.device.clone(),
            kind: self.kind,
            start: Timestamp(open.start_ns),
            end: Timestamp(open.end_ns),
            status,
            energy_kwh: body.energy_kwh(),
            grid_kwh: body.grid_kwh(),
            local_kwh: body.local_kwh(),
            unsplit_kwh: body.unsplit_kwh(),
            priced_kwh: body.priced_kwh(),
            // Zero has no sign.
            cost_pln: body.cost_pln().map(|cost| sign * cost + 0.0),
            average_price_pln_kwh: body.average_price(),
            soc_start_percent: open.soc_start,
            soc_end_percent: open.soc_end,
            peak_w: body.peak_w,
            sample_count: body.sample_count,
            covered_ns: body.covered_ns,
        })
    }
}

impl Open {
    fn begin(first: &Reading) -> Self {
        let mut body = Measure::default();
        body.add_reading(first);
        let (start_ns, soc_start) = (first.time_ns, first.soc_percent);
        Self { start_ns, soc_start, end_ns: start_ns, soc_end: soc_start, body, pause: Measure::default() }
    }

    /// The reading, and all since the end, become part of the body.
    fn grow(&mut self, step: Option<&Measure>, reading: &Reading) {
        let pause = std::mem::take(&mut self.pause);
        self.body.add(&pause);
        if let Some(step) = step {
            self.body.add(step);
        }
        self.body.add_reading(reading);
        self.end_ns = reading.time_ns;
        self.soc_end = reading.soc_percent;
    }

    /// The reading may become part of the body later.
    fn rest(&mut self, step: Option<&Measure>, reading: &Reading) {
        if let Some(step) = step {
            self.pause.add(step);
        }
        self.pause.add_reading(reading);
    }
}
