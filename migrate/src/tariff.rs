//! What is added to the market price, hour by hour, and how a price that was scaled wrongly is known.
//!
//! The optimiser's total is market / 1000 + selling component + distribution of the local hour, in PLN/kWh without fixed
//! fees. Until 2026-01-01 it divided only market prices above 10 PLN/MWh by 1000; any other, negative ones included, was
//! taken for PLN/kWh.

use jiff::civil::DateTime;
use std::fmt::Debug;

/// Selling component and distribution of an hour.
pub trait Tariff: Debug + Send + Sync {
    /// PLN/kWh added to the market price at this local time.
    fn added_pln_kwh(&self, local: DateTime) -> f64;
}

/// Tariff G12, in use since October 2025 at the latest: every day alike, peak from 7 to 22 but for 13 to 15.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct G12 {
    /// The seller's component, PLN/kWh.
    pub selling_component: f64,
    /// Distribution in the peak hours, PLN/kWh.
    pub peak: f64,
    /// Distribution in all others, PLN/kWh.
    pub off_peak: f64,
}

impl Default for G12 {
    fn default() -> Self {
        Self { selling_component: 0.0892, peak: 0.3566, off_peak: 0.0749 }
    }
}

impl Tariff for G12 {
    fn added_pln_kwh(&self, local: DateTime) -> f64 {
        let peak = matches!(local.hour(), 7..=12 | 15..=21);
        self.selling_component + if peak { self.peak } else { self.off_peak }
    }
}

/// Whether the optimiser that stored a price left the division by 1000 out of small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Division {
    /// Before it was repaired.
    Missing,
    /// After it was repaired, on a box that may have been updated late.
    Doubtful,
}

/// The true total of a stored one, if the stored one is provably 1000 times the market price plus what is added.
///
/// Evidence: without `added` it is a market price as the exchange writes it, with at most two decimals, of at most
/// 10 PLN/MWh, and as PLN/kWh it is one that no hour had.
/// - Where the division was missing that is a total below zero or above 3: each negative market price was hit. Among 5 910
///   stored prices of one home this finds the 11 wrong ones and no other.
/// - Where it is doubtful, a total below zero may be true (-500 PLN/MWh is -0.5). There the market price itself must lie
///   below -1 or above 3 PLN/kWh. No hour was below -0.6; a true one above 3 (up to 5 were seen) would have to be a round
///   ten of PLN/MWh to show two decimals, as one price in a thousand is.
///
/// A market price between 0 and 3 PLN/MWh leaves no trace and stays as it is; so does one from -1 on where it is doubtful.
pub(crate) fn true_price(stored: f64, added: f64, division: Division) -> Option<f64> {
    let market_pln_mwh = stored - added;
    let hundredths = market_pln_mwh * 100.0;
    let two_decimals = (hundredths - hundredths.round()).abs() < 1e-6;
    let impossible = match division {
        Division::Missing => !(0.0..=3.0).contains(&stored),
        Division::Doubtful => !(-1.0 - SLACK..=3.0 + SLACK).contains(&market_pln_mwh),
    };
    (two_decimals && market_pln_mwh <= LARGEST_UNSCALED + SLACK && impossible)
        .then(|| rounded(market_pln_mwh / 1000.0 + added))
}

/// Rounded to a millionth, the precision of sums of prices with two and rates with four decimals.
pub(crate) fn rounded(amount: f64) -> f64 {
    (amount * 1e6).round() / 1e6
}

/// Market prices above this were divided.
const LARGEST_UNSCALED: f64 = 10.0;
/// What a difference of two decimals may be off.
const SLACK: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn peak_hours_start_inclusive_and_end_exclusive() {
        let added = |hour| G12::default().added_pln_kwh(date(2025, 11, 15).at(hour, 59, 0, 0));
        let peak: Vec<i8> = (0..24).filter(|hour| added(*hour) > 0.4).collect();
        assert_eq!(peak, [7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 19, 20, 21]);
        assert!((added(6) - 0.1641).abs() < 1e-12 && (added(7) - 0.4458).abs() < 1e-12);
    }

    #[test]
    fn prices_that_were_not_divided_are_known_and_only_those() {
        let (peak, off_peak) = (0.0892 + 0.3566, 0.0892 + 0.0749);
        for (stored, added, expected) in [
            (5.4541, off_peak, Some(0.16939)),
            (-1.8259, off_peak, Some(0.16211)),
            (4.5958, peak, Some(0.44995)),
            (-599.8359, off_peak, Some(-0.4359)),
            (10.4458, peak, Some(0.4558)),
            // A genuine evening peak, a genuine small one, one that no two decimals explain, one above the border.
            (2.4458, peak, None),
            (0.4161, off_peak, None),
            (3.12345, off_peak, None),
            (10.4558, peak, None),
            (0.0, peak, None),
        ] {
            assert_eq!(true_price(stored, added, Division::Missing), expected, "{stored}");
        }
    }

    #[test]
    fn where_the_division_is_doubtful_only_what_no_market_had_is_proof() {
        let (peak, off_peak) = (0.0892 + 0.3566, 0.0892 + 0.0749);
        for added in [peak, off_peak] {
            for (market, expected) in [
                // Both sides of each border, in hundredths as the exchange has them.
                (3.01, Some(0.00301)),
                (3.0, None),
                (10.0, Some(0.01)),
                (10.01, None),
                (-1.0, None),
                (-1.01, Some(-0.00101)),
                (-600.0, Some(-0.6)),
                // True prices: -500 and -600 PLN/MWh, an evening peak, one of 4 000.13 PLN/MWh.
                (-0.5, None),
                (-0.6, None),
                (2.0, None),
                (4.00013, None),
                // Three decimals are of no exchange.
                (5.291, None),
            ] {
                // As it was stored: rounded like a sum of two and four decimals, or not at all.
                for stored in [market + added, rounded(market + added)] {
                    let expected = expected.map(|market: f64| rounded(market + added));
                    assert_eq!(true_price(stored, added, Division::Doubtful), expected, "{market}");
                }
            }
        }
    }
}
