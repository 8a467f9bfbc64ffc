//! A day-ahead price that could have been: two peaks, a dip where the sun is, every quarter of an hour.

use crate::seed::unit_at;
use wattlog_model::Timestamp;

const QUARTER_NS: i64 = 900_000_000_000;
const DAY_LEVEL: u64 = 0x51;
const QUARTER_NOISE: u64 = 0x52;

/// PLN/kWh for the quarter that holds `time`, in steps of 0.01 PLN/MWh. May be negative at a sunny noon.
pub(in crate::simulator) fn pln_per_kwh(seed: u64, time: Timestamp, local_offset_ns: i64) -> f64 {
    let quarter = time.0.div_euclid(QUARTER_NS);
    let local_ns = time.0.saturating_add(local_offset_ns);
    let day = local_ns.div_euclid(Timestamp::DAY_NS);
    let hour = local_ns.rem_euclid(Timestamp::DAY_NS).div_euclid(QUARTER_NS) as f64 / 4.0;
    let bell = |centre: f64, width: f64| (-((hour - centre) / width).powi(2)).exp();
    // 1 at midsummer, 0 at midwinter (northern year; the market is one).
    let summer = 0.5 - 0.5 * (std::f64::consts::TAU * ((day as f64 - 10_957.0) / 365.25 + 0.03)).cos();
    let weekend = (day + 3).rem_euclid(7) > 4;
    let level = 0.30 + 0.22 * unit_at(seed, DAY_LEVEL, day) - if weekend { 0.07 } else { 0.0 };
    let sun = (0.16 + 0.34 * summer) * unit_at(seed, DAY_LEVEL + 1, day);
    let price = level + 0.18 * bell(7.5, 1.6) + (0.42 - 0.12 * summer) * bell(19.0 + summer, 1.9)
        - sun * bell(12.8, 3.0)
        - 0.09 * bell(2.5, 3.0)
        + 0.03 * (unit_at(seed, QUARTER_NOISE, quarter) - 0.5);
    (price * 100_000.0).round() / 100_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenings_cost_more_than_noons_and_a_quarter_has_one_price() {
        let at = |hour: i64, day: i64| {
            let time = Timestamp((19_900 + day) * Timestamp::DAY_NS + hour * 4 * QUARTER_NS);
            assert_eq!(pln_per_kwh(5, time, 0), pln_per_kwh(5, Timestamp(time.0 + QUARTER_NS - 1), 0));
            pln_per_kwh(5, time, 0)
        };
        let mean = |hour: i64| (0..365).map(|day| at(hour, day)).sum::<f64>() / 365.0;
        assert!(mean(19) > mean(13) + 0.3);
        assert!((0.2..0.6).contains(&mean(10)));
        assert!((0..365).any(|day| at(13, day) < 0.05));
    }
}
