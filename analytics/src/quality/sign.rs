//! A power that counts the wrong way round: the mistake that turns every session and every bill upside down.

use super::balance::check_samples;
use super::{QualityError, check_order, rule};
use crate::energy::PowerSample;
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// Which way a power counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// As wattlog has it: battery + = discharge, grid + = export.
    Right,
    /// The other way round.
    Reversed,
    /// The data do not say.
    Undetermined,
}

/// Which of the two powers that have a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signed {
    /// Of the battery.
    Battery,
    /// Of the grid.
    Grid,
}

/// A verdict and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignVerdict {
    /// The verdict.
    pub sign: Sign,
    /// -1..=1: the correlation, or how much smaller the error of the balance is one way than the other. From 0.5 on the
    /// sign is right, from -0.5 down it is reversed.
    pub strength: f64,
    /// Windows or samples that were compared.
    pub count: u64,
}

impl SignVerdict {
    fn of(strength: Option<f64>, count: u64, least: u64) -> Self {
        let strength = strength.filter(|strength| strength.is_finite()).unwrap_or(0.0);
        let sign = match strength {
            _ if count < least => Sign::Undetermined,
            right if right >= 0.5 => Sign::Right,
            reversed if reversed <= -0.5 => Sign::Reversed,
            _ => Sign::Undetermined,
        };
        Self { sign, strength, count }
    }
}

/// Battery power and state of charge at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatteryReading {
    /// When.
    pub time: Timestamp,
    /// W, said to be + = discharge.
    pub battery_w: f64,
    /// %.
    pub soc_percent: f64,
}

/// Fewest windows, or samples, that allow a verdict.
const LEAST_WINDOWS: u64 = 8;
const LEAST_SAMPLES: u64 = 20;
/// Powers below this say nothing about a direction.
const LEAST_POWER_W: f64 = 100.0;

/// Whether the state of charge falls when the battery gives: the correlation, over windows of `window_ns` (half an hour
/// suits a home), of the energy given and the charge lost. Readings further apart than `max_gap_ns` begin a new window.
///
/// # Errors
/// See [`QualityError`].
pub fn battery_sign_by_soc(
    readings: &[BatteryReading],
    window_ns: i64,
    max_gap_ns: i64,
) -> Result<SignVerdict, QualityError> {
    rule(window_ns > 0 && max_gap_ns > 0, "sign", "window and gap must be more than 0")?;
    check_order(readings.iter().map(|reading| reading.time))?;
    let finite = |reading: &BatteryReading| reading.battery_w.is_finite() && reading.soc_percent.is_finite();
    if let Some(bad) = readings.iter().find(|reading| !finite(reading)) {
        return Err(QualityError::NotFinite { time: bad.time });
    }
    let mut windows: Vec<(f64, f64)> = Vec::new();
    let (mut first, mut given_ws) = (readings.first(), 0.0);
    for pair in readings.windows(2) {
        let (earlier, later) = (&pair[0], &pair[1]);
        let step_ns = later.time.0.saturating_sub(earlier.time.0);
        if step_ns > max_gap_ns {
            (first, given_ws) = (Some(later), 0.0);
            continue;
        }
        given_ws += f64::midpoint(earlier.battery_w, later.battery_w) * step_ns as f64 / 1e9;
        if let Some(start) = first
            && later.time.0.saturating_sub(start.time.0) >= window_ns
        {
            windows.push((given_ws, start.soc_percent - later.soc_percent));
            (first, given_ws) = (Some(later), 0.0);
        }
    }
    // A window in which nothing moves would only draw the correlation to nothing.
    windows.retain(|(given, lost)| *given != 0.0 && *lost != 0.0);
    Ok(SignVerdict::of(correlation(&windows), windows.len() as u64, LEAST_WINDOWS))
}

/// Whether the balance PV + battery - grid = consumption is better with the power as it is or turned round, over samples
/// in which that power is at least 100 W either way. Says nothing where consumption was itself calculated from this power:
/// then one way fits exactly by construction.
///
/// # Errors
/// See [`QualityError`].
pub fn sign_by_balance(samples: &[PowerSample], which: Signed) -> Result<SignVerdict, QualityError> {
    check_samples(samples)?;
    let (mut as_it_is, mut turned, mut count) = (0.0, 0.0, 0);
    for sample in samples {
        let powers = sample.powers;
        let (power, rest) = match which {
            Signed::Battery => (powers.battery_w, powers.pv_w - powers.grid_w - powers.consumption_w),
            Signed::Grid => (-powers.grid_w, powers.pv_w + powers.battery_w - powers.consumption_w),
        };
        if power.abs() >= LEAST_POWER_W {
            as_it_is += (rest + power).abs();
            turned += (rest - power).abs();
            count += 1;
        }
    }
    let larger = f64::max(as_it_is, turned);
    let strength = (larger > 0.0).then(|| (turned - as_it_is) / larger);
    Ok(SignVerdict::of(strength, count, LEAST_SAMPLES))
}

/// Pearson's correlation; none if one of both does not vary. Both means are taken as 0, because a battery that neither
/// gives nor takes neither loses nor gains: so a night of discharge alone has a verdict too.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let sum = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>();
    let (xx, yy, xy) = (sum(|(x, _)| x * x), sum(|(_, y)| y * y), sum(|(x, y)| x * y));
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Powers;

    const MINUTE: i64 = 60_000_000_000;

    /// A battery of 10 kWh over a day; `turn` is -1 for a sensor that counts the other way.
    fn day(turn: f64) -> Vec<BatteryReading> {
        let mut soc = 50.0;
        (0..1440)
            .map(|minute| {
                let power = if minute % 300 < 150 { -2000.0 } else { 1800.0 };
                soc -= power / 60.0 / 10_000.0 * 100.0;
                BatteryReading {
                    time: Timestamp(minute * MINUTE),
                    battery_w: turn * power,
                    soc_percent: f64::round(soc),
                }
            })
            .collect()
    }

    fn by_soc(readings: &[BatteryReading]) -> Sign {
        battery_sign_by_soc(readings, 30 * MINUTE, 5 * MINUTE).unwrap().sign
    }

    #[test]
    fn the_state_of_charge_tells_the_direction_of_the_battery() {
        assert_eq!(by_soc(&day(1.0)), Sign::Right);
        assert_eq!(by_soc(&day(-1.0)), Sign::Reversed);
        assert_eq!(by_soc(&day(1.0)[..120]), Sign::Undetermined, "too short");
        let idle: Vec<BatteryReading> =
            day(1.0).iter().map(|r| BatteryReading { battery_w: 0.0, ..*r }).collect();
        assert_eq!(by_soc(&idle), Sign::Undetermined);
        // Discharge alone, six hours.
        let night: Vec<BatteryReading> = (0..600)
            .map(|m| BatteryReading {
                time: Timestamp(m * MINUTE),
                battery_w: 900.0,
                soc_percent: 95.0 - m as f64 * 0.15,
            })
            .collect();
        assert_eq!(by_soc(&night), Sign::Right);
        // Every 40 minutes nobody looks for an hour, in which the battery is filled again: that is no window.
        let unseen: Vec<BatteryReading> = (0..1200)
            .filter(|m| m % 100 < 40)
            .map(|m| BatteryReading {
                time: Timestamp(m * MINUTE),
                battery_w: 900.0,
                soc_percent: 50.0 + (m / 100) as f64 * 3.0 - (m % 100) as f64 * 0.02,
            })
            .collect();
        assert_eq!(by_soc(&unseen), Sign::Right);
    }

    #[test]
    fn the_balance_tells_the_direction_of_battery_and_grid() {
        let samples = |battery: f64, grid: f64| -> Vec<PowerSample> {
            (0..100)
                .map(|i| {
                    let (pv, load) = (f64::from(i) * 30.0, 800.0);
                    let stored = (pv - load) / 2.0;
                    let powers = Powers {
                        pv_w: pv,
                        battery_w: -stored * battery,
                        grid_w: (pv - load - stored) * grid,
                        consumption_w: load,
                    };
                    PowerSample { time: Timestamp(i64::from(i)), powers }
                })
                .collect()
        };
        let ask = |list: &[PowerSample], which| sign_by_balance(list, which).unwrap().sign;
        let good = samples(1.0, 1.0);
        assert_eq!((ask(&good, Signed::Battery), ask(&good, Signed::Grid)), (Sign::Right, Sign::Right));
        assert_eq!(ask(&samples(1.0, -1.0), Signed::Grid), Sign::Reversed);
        assert_eq!(ask(&samples(-1.0, 1.0), Signed::Battery), Sign::Reversed);
        assert_eq!(ask(&good[..10], Signed::Grid), Sign::Undetermined);
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let mut bad = day(1.0);
        bad[5].soc_percent = f64::NAN;
        assert!(matches!(battery_sign_by_soc(&bad, 1, 1), Err(QualityError::NotFinite { .. })));
        assert!(matches!(battery_sign_by_soc(&[], 0, 1), Err(QualityError::Rule { .. })));
    }
}
