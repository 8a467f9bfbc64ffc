//! What can be wrong with a tariff or with a question to it.

use wattlog_model::Timestamp;

/// Why a tariff or its prices cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TariffError {
    /// No tariff of that name is built in.
    #[error(
        "no tariff {name:?} is built in; built in are {known}. Others are written out with zones and rules"
    )]
    UnknownTariff {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The tariff exists, but its rates are not known here.
    #[error(
        "tariff {name:?} has no rates here: write it out with zones and rules from the price list of your supplier"
    )]
    NoRates {
        /// The name asked for.
        name: String,
    },
    /// The definition has no sense.
    #[error("tariff {tariff:?}: {problem}")]
    Definition {
        /// Name of the tariff.
        tariff: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// No rule of the tariff gives this hour a zone.
    #[error(
        "tariff {tariff:?}: no rule covers {month:02}-{day:02}, {kind}, {hour} o'clock; end the rules with one that has neither season nor days nor hours"
    )]
    Uncovered {
        /// Name of the tariff.
        tariff: String,
        /// Month, 1..=12.
        month: u8,
        /// Day of the month.
        day: u8,
        /// "a workday" or "a free day".
        kind: &'static str,
        /// Hour on the local clock.
        hour: u8,
    },
    /// The range is empty, turned round or longer than [`super::MAX_RANGE_NS`].
    #[error(
        "prices of {start_ns}..{end_ns} ns: the range must not be empty nor longer than 20 years; ask for less at a time"
    )]
    Range {
        /// First instant.
        start_ns: i64,
        /// End.
        end_ns: i64,
    },
    /// Times of a list do not rise.
    #[error("{list}: the times must rise, but {later_ns} ns follows {earlier_ns} ns; sort the list and keep one value for each time", later_ns = .later.0, earlier_ns = .earlier.0)]
    Order {
        /// Which list.
        list: &'static str,
        /// A time.
        earlier: Timestamp,
        /// What stands after it.
        later: Timestamp,
    },
    /// A market price is not a number that a price can be.
    #[error("market price {value} at {time_ns} ns is no price: leave out what is not known", time_ns = .time.0)]
    MarketPrice {
        /// Its time.
        time: Timestamp,
        /// The value given.
        value: f64,
    },
    /// A market price must hold for some time.
    #[error(
        "a market price cannot hold for {max_age_ns} ns: give the length of a period or more, e.g. 900 s"
    )]
    MaxAge {
        /// The value given.
        max_age_ns: i64,
    },
}
