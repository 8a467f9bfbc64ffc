//! The price of distribution over a range, cut where it changes.

use super::definition::KompasRates;
use super::rules::{DistributionPrice, Schedule, by_kompas};
use super::{Tariff, TariffError};
use crate::calendar::{HOUR_NS, LocalHours};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use wattlog_model::Timestamp;

/// Longest range of one question: 20 years of 366 days, at most 175 680 pieces.
pub const MAX_RANGE_NS: i64 = 20 * 366 * 24 * HOUR_NS;

/// Code of an hour in the Kompas of PSE, the Polish grid operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Kompas {
    /// 0: use is recommended.
    RecommendedUse,
    /// 1: normal use.
    Normal,
    /// 2: saving is recommended.
    RecommendedSaving,
    /// 3: limiting is required.
    RequiredLimiting,
}

impl Kompas {
    /// The code as published; none for a number that is no code.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::RecommendedUse, Self::Normal, Self::RecommendedSaving, Self::RequiredLimiting]
            .get(usize::from(code))
            .copied()
    }

    pub(super) fn rate(rates: &KompasRates, kompas: Option<Self>) -> (&'static str, f64) {
        let named = Self::rates(rates);
        named[kompas.map_or(4, |code| usize::from(u8::from(code)))]
    }

    pub(super) fn rates(rates: &KompasRates) -> [(&'static str, f64); 5] {
        [
            ("recommended_use", rates.recommended_use),
            ("normal", rates.normal),
            ("recommended_saving", rates.recommended_saving),
            ("required_limiting", rates.required_limiting),
            ("unknown", rates.unknown),
        ]
    }
}

impl From<Kompas> for u8 {
    fn from(kompas: Kompas) -> Self {
        match kompas {
            Kompas::RecommendedUse => 0,
            Kompas::Normal => 1,
            Kompas::RecommendedSaving => 2,
            Kompas::RequiredLimiting => 3,
        }
    }
}

impl TryFrom<u8> for Kompas {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        Self::from_code(code).ok_or_else(|| format!("{code} is no Kompas code: 0 to 3 are"))
    }
}

/// The code of one hour; it holds for an hour or until the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KompasHour {
    /// First instant of the hour.
    pub start: Timestamp,
    /// Its code.
    pub code: Kompas,
}

/// A stretch of time with one price of distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece<'t> {
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
    /// Zone and price.
    pub distribution: DistributionPrice<'t>,
}

impl Tariff {
    /// The price of distribution over `range` where clocks are those of `zone`: pieces that touch, from the start of the
    /// range to its end, neighbours different. `kompas` is read by tariffs that go by it; an hour that is not there has
    /// the price for "unknown" and says so ([`DistributionPrice::assumed`]).
    ///
    /// # Errors
    /// [`TariffError::Range`], or [`TariffError::Order`] if the Kompas hours do not rise.
    pub fn pieces(
        &self,
        range: Range<Timestamp>,
        zone: &TimeZone,
        kompas: &[KompasHour],
    ) -> Result<Vec<Piece<'_>>, TariffError> {
        check_range(&range)?;
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        let mut push = |start, end, distribution| match pieces.last_mut() {
            Some(last) if last.distribution == distribution => last.end = end,
            _ => pieces.push(Piece { start, end, distribution }),
        };
        match self.schedule() {
            Schedule::Clock { .. } => {
                for hour in LocalHours::new(zone, range) {
                    let distribution = self.by_clock(hour.date, hour.hour);
                    push(hour.start, hour.end, distribution);
                }
            }
            Schedule::Kompas(rates) => {
                check_order("Kompas hours", kompas.iter().map(|hour| hour.start))?;
                for (part, code) in codes(range, kompas) {
                    push(part.start, part.end, by_kompas(rates, code));
                }
            }
        }
        Ok(pieces)
    }
}

/// Parts of `range` with the code that holds there.
fn codes(range: Range<Timestamp>, hours: &[KompasHour]) -> Vec<(Range<Timestamp>, Option<Kompas>)> {
    let mut parts = Vec::new();
    let mut at = range.start.0;
    let mut next = hours.partition_point(|hour| hour.start.0 <= at);
    while at < range.end.0 {
        let until_next = hours.get(next).map_or(i64::MAX, |hour| hour.start.0);
        let current = next.checked_sub(1).map(|index| hours[index]);
        let held = current.filter(|hour| hour.start.0.saturating_add(HOUR_NS) > at);
        let end = match held {
            Some(hour) => until_next.min(hour.start.0.saturating_add(HOUR_NS)),
            None => until_next,
        };
        let end = end.min(range.end.0);
        parts.push((Timestamp(at)..Timestamp(end), held.map(|hour| hour.code)));
        at = end;
        if at == until_next {
            next += 1;
        }
    }
    parts
}

pub(super) fn check_range(range: &Range<Timestamp>) -> Result<(), TariffError> {
    let (start_ns, end_ns) = (range.start.0, range.end.0);
    let inside = start_ns >= Timestamp::MIN.0 && end_ns <= Timestamp::MAX.0;
    match end_ns.checked_sub(start_ns) {
        Some(length) if inside && length > 0 && length <= MAX_RANGE_NS => Ok(()),
        _ => Err(TariffError::Range { start_ns, end_ns }),
    }
}

pub(super) fn check_order(
    list: &'static str,
    times: impl Iterator<Item = Timestamp>,
) -> Result<(), TariffError> {
    let mut before: Option<Timestamp> = None;
    for later in times {
        if let Some(earlier) = before.filter(|earlier| *earlier >= later) {
            return Err(TariffError::Order { list, earlier, later });
        }
        before = Some(later);
    }
    Ok(())
}
