//! Price of a kilowatt-hour by tariff: market price + fixed component + distribution, all in PLN/kWh.
//!
//! A tariff is data ([`TariffDefinition`]): named zones with a price, and rules that give each local hour of each day
//! its zone. The tariffs of [`builtin`] are values of that type; a household writes its own in the same form.
//! A [`Tariff`] is a definition that was checked: every hour of every day of a year has a price.
//!
//! Invariants
//! 1. Hours are hours of the local clock, start inclusive, end exclusive; in a repeated hour both passes cost the same.
//! 2. Pieces rise, touch, are not empty, and two neighbours differ.
//! 3. Where no market price is known there is no total price.
//!
//! No VAT and no fixed monthly fees. Not here: cost of energy (the engine joins a price series to power by time).

mod builtin;
mod definition;
mod error;
mod hold;
mod holidays;
mod pieces;
mod rules;
mod total;

pub use builtin::{BUILTIN_NAMES, builtin};
pub use definition::{
    Days, Distribution, HourRange, KompasRates, MAX_PRICE_PLN_KWH, MAX_RULES, MAX_ZONES, MonthDay, Rule,
    Season, TariffDefinition,
};
pub use error::TariffError;
pub use hold::{LONGEST_PRICE_NS, price_ends};
pub use holidays::{Holidays, easter_sunday};
pub use pieces::{Kompas, KompasHour, MAX_RANGE_NS, Piece};
pub use rules::{DistributionPrice, Tariff};
pub use total::{MarketPrices, TotalPiece};

/// The part of the price that is the same in all tariffs, PLN/kWh.
pub const SC_COMPONENT_PLN_KWH: f64 = 0.0892;

#[cfg(test)]
mod tests;
