//! Prices and forecasts: the history of market prices, price analyses of a day, PV forecasts.
//!
//! Promise: a market price has the start of its period; the optimiser wrote the end. A pair whose time ends no quarter of
//! an hour is refused: a first start filled the history with total prices, at the instants of decisions. Windows of an
//! analysis stay as written: they are plans, and no data follows from them.

use super::draft::{Draft, Object, Quantity, rest, text};
use super::reading::Found;
use crate::context::Intake;
use crate::record::{Body, ChargingWindow, Kind, MarketPrice, Origin, PriceSchedule, PvForecast};
use crate::report::{Position, Rule};
use crate::time::{Order, Written, parse, parse_day, resolve};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde_json::Value;
use wattlog_model::Timestamp;

/// Length of a price period.
const QUARTER_NS: i64 = 900_000_000_000;

/// Order of the times of a price history, in which each fetch appended its day anew.
#[derive(Debug, Default)]
pub(crate) struct PriceOrder {
    order: Order,
    last: Option<DateTime>,
}

impl PriceOrder {
    /// A step back by more than a repeated hour can make is the start of another fetch.
    fn follow(&mut self, written: Written) -> &mut Order {
        if let Written::Local(local) = written {
            if self.last.is_some_and(|last| last.duration_since(local) > SignedDuration::from_hours(2)) {
                self.order = Order::default();
            }
            self.last = Some(local);
        }
        &mut self.order
    }
}

/// Takes a pair of the price history: end of the period, PLN/kWh.
pub(crate) fn market_price(
    pair: &[Value],
    position: Position,
    order: &mut PriceOrder,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let [Value::String(written), Value::Number(price)] = pair else {
        let reason = "not a pair of a time and a price".to_owned();
        return intake.refuse(Some(Kind::MarketPrice), position, reason);
    };
    let zone = intake.context.options.zone.clone();
    let resolved = match parse(written).and_then(|written| resolve(written, &zone, order.follow(written))) {
        Ok(resolved) => resolved,
        Err(reason) => return intake.refuse(Some(Kind::MarketPrice), position, reason),
    };
    let price_pln_kwh = match price.as_f64() {
        Some(price) if (-1_000.0..=1_000.0).contains(&price) => price,
        _ => {
            let reason = format!("{price} is no price in PLN/kWh");
            return intake.refuse(Some(Kind::MarketPrice), position, reason);
        }
    };
    if resolved.at.0.rem_euclid(QUARTER_NS) != 0 {
        return intake.refuse(Some(Kind::MarketPrice), position, total_price(written));
    }
    let mut draft = Draft::default();
    draft.note_sureness("start", written, resolved);
    let start = Timestamp(resolved.at.0.saturating_sub(QUARTER_NS).max(Timestamp::MIN.0));
    let repaired = Value::from(super::draft::rfc3339(start));
    draft.repair(Rule::PeriodEndAsTime, "start", Value::from(written.as_str()), repaired);
    let key = format!("market_price/{}", start.0);
    let body = Body::MarketPrice(MarketPrice { start, price_pln_kwh });
    intake.record(key, position, Origin::Other, draft.repairs, body)
}

/// Why a pair is no market price. As one it would have selling component and distribution added a second time; the
/// decision that it came from is read from a file of its own.
fn total_price(written: &str) -> String {
    let written = crate::report::shortened(written);
    format!("{written} ends no quarter of an hour: the total price of a decision, and no market price")
}

/// Takes the analysis of a day.
pub(crate) fn schedule(found: Found<'_>, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let object = found.object;
    let date =
        match object.get("date").and_then(Value::as_str).ok_or("no date".to_owned()).and_then(parse_day) {
            Ok(date) => date,
            Err(reason) => return intake.refuse(Some(Kind::PriceSchedule), found.position, reason),
        };
    let zone = intake.context.options.zone.clone();
    let mut windows = Vec::new();
    for (index, window) in
        object.get("charging_windows").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let Some(window) = window.as_object() else { continue };
        let mut order = Order::default();
        let start = draft.time(window, "start_time", &zone, &mut order);
        let end = draft.time(window, "end_time", &zone, &mut order);
        let (start, end) = match (start, end) {
            (Ok(start), Ok(end)) => (start.at, end.at),
            (Err(reason), _) | (_, Err(reason)) => {
                let position = Position { record: index as u64, ..found.position.clone() };
                intake.refuse(None, position, format!("a window of the price analysis: {reason}"))?;
                continue;
            }
        };
        let average_price_pln_mwh = draft.number(
            window,
            "avg_price",
            &format!("windows/{index}/average_price_pln_mwh"),
            Quantity::Free,
        );
        let rest = rest(window, &["start_time", "end_time", "avg_price"]);
        windows.push(ChargingWindow { start, end, average_price_pln_mwh, rest });
    }
    let analysis = object.get("analysis").and_then(Value::as_object).cloned().unwrap_or_default();
    let body = Body::PriceSchedule(PriceSchedule { date, analysis, windows });
    intake.record(format!("price_schedule/{date}"), found.position, Origin::Other, draft.repairs, body)
}

/// Takes every step of a PV forecast.
pub(crate) fn pv_forecast(found: Found<'_>, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    let zone = intake.context.options.zone.clone();
    let issued_at = Draft::default().optional_time(found.object, "timestamp", &zone, &mut Order::default());
    let mut order = Order::default();
    let steps =
        found.object.get("forecasts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut marks = super::marks_of_elements(&found.not_finite, "forecasts/");
    for (index, step) in steps.iter().enumerate() {
        let inner = super::inner(&found, index, Origin::Other, &mut marks);
        let Some(object) = step.as_object() else {
            intake.refuse(Some(Kind::PvForecast), inner.position, "a step that is no object".to_owned())?;
            continue;
        };
        let inner = Found { object, ..inner };
        let mut draft = inner.draft();
        let at = match draft.time(object, "timestamp", &zone, &mut order) {
            Ok(resolved) => resolved.at,
            Err(reason) => {
                intake.refuse(Some(Kind::PvForecast), inner.position, reason)?;
                continue;
            }
        };
        let Some(power_w) = forecast_power(object, &mut draft) else {
            intake.refuse(Some(Kind::PvForecast), inner.position, "no power forecast".to_owned())?;
            continue;
        };
        let body = PvForecast {
            at,
            issued_at,
            power_w,
            confidence: draft.confidence(object, "confidence"),
            method: text(object, "method"),
        };
        let key = format!("pv_forecast/{}/{}", issued_at.map_or(0, |at| at.0), at.0);
        intake.record(key, inner.position, Origin::Other, draft.repairs, Body::PvForecast(body))?;
    }
    Ok(())
}

fn forecast_power(object: &Object, draft: &mut Draft) -> Option<f64> {
    if let Some(power) = draft.number(object, "forecasted_power_w", "power_w", Quantity::Watt) {
        return Some(power);
    }
    let kilowatts = draft.number(object, "forecasted_power_kw", "power_w", Quantity::Watt)?;
    let watts = crate::tariff::rounded(kilowatts * 1000.0);
    draft.repair(Rule::WattsFromKilowatts, "power_w", Value::from(kilowatts), Value::from(watts));
    Some(watts)
}
