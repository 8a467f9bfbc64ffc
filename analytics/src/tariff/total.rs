//! Total price over a range: a step at each change of the market price and at each border of the tariff.

use super::pieces::{KompasHour, check_order};
use super::price_ends;
use super::{Tariff, TariffError};
use jiff::tz::TimeZone;
use std::ops::Range;
use wattlog_model::Timestamp;

/// Market prices: each holds from its time until [`price_ends`], and for `max_age_ns` at most.
#[derive(Debug, Clone, Copy)]
pub struct MarketPrices<'m> {
    /// First instant of a period and its price in PLN/MWh; times rise.
    pub points: &'m [(Timestamp, f64)],
    /// How long a price holds that stands alone: the longest period there is, in nanoseconds.
    pub max_age_ns: i64,
}

/// A stretch of time with one total price.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TotalPiece<'t> {
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// Market price, PLN/MWh.
    pub market_pln_mwh: f64,
    /// Zone of the tariff.
    pub zone: &'t str,
    /// Price of distribution, PLN/kWh.
    pub distribution_pln_kwh: f64,
    /// Market / 1000 + fixed component + distribution, PLN/kWh. May be negative.
    pub total_pln_kwh: f64,
    /// True if the distribution price is that for an unknown Kompas code.
    pub assumed: bool,
}

impl Tariff {
    /// Total prices over `range`: pieces that rise and do not overlap. Where no market price holds there is no piece.
    ///
    /// # Errors
    /// As [`Tariff::pieces`]; also if market prices do not rise, are no numbers, or hold for no time.
    pub fn total_prices(
        &self,
        market: MarketPrices<'_>,
        range: Range<Timestamp>,
        zone: &TimeZone,
        kompas: &[KompasHour],
    ) -> Result<Vec<TotalPiece<'_>>, TariffError> {
        if market.max_age_ns < 1 {
            return Err(TariffError::MaxAge { max_age_ns: market.max_age_ns });
        }
        check_order("market prices", market.points.iter().map(|(time, _)| *time))?;
        if let Some(&(time, value)) = market.points.iter().find(|(_, price)| !price.is_finite()) {
            return Err(TariffError::MarketPrice { time, value });
        }
        let pieces = self.pieces(range.clone(), zone, kompas)?;
        let mut totals: Vec<TotalPiece<'_>> = Vec::new();
        let mut piece_index = 0;
        for (start, end, market_pln_mwh) in stretches(market, &range) {
            // Both lists rise: what ended before this stretch is not needed again.
            while pieces.get(piece_index).is_some_and(|piece| piece.end.0 <= start) {
                piece_index += 1;
            }
            for piece in pieces[piece_index..].iter().take_while(|piece| piece.start.0 < end) {
                let distribution = piece.distribution;
                let total = TotalPiece {
                    start: Timestamp(piece.start.0.max(start)),
                    end: Timestamp(piece.end.0.min(end)),
                    market_pln_mwh,
                    zone: distribution.zone,
                    distribution_pln_kwh: distribution.pln_kwh,
                    total_pln_kwh: self.total_of(market_pln_mwh, distribution.pln_kwh),
                    assumed: distribution.assumed,
                };
                match totals.last_mut() {
                    Some(last) if continues(last, &total) => last.end = total.end,
                    _ => totals.push(total),
                }
            }
        }
        Ok(totals)
    }
}

/// True if `next` begins where `last` ends and nothing changes there.
fn continues(last: &TotalPiece<'_>, next: &TotalPiece<'_>) -> bool {
    last.end == next.start && TotalPiece { start: last.start, end: last.end, ..*next } == *last
}

/// Stretches of the market price inside `range`; none is empty.
fn stretches<'m>(
    market: MarketPrices<'m>,
    range: &Range<Timestamp>,
) -> impl Iterator<Item = (i64, i64, f64)> + use<'m> {
    let (first, last) = (range.start.0, range.end.0);
    let points = market.points;
    let begin = points.partition_point(|(time, _)| time.0 <= first).saturating_sub(1);
    points.iter().enumerate().skip(begin).take_while(move |(_, (time, _))| time.0 < last).filter_map(
        move |(index, (time, price))| {
            let at = |index: usize| points.get(index).map(|(time, _)| time.0);
            let before = index.checked_sub(1).and_then(at);
            let start = time.0.max(first);
            let end = price_ends(before, time.0, at(index + 1), market.max_age_ns).min(last);
            (start < end).then_some((start, end, *price))
        },
    )
}
