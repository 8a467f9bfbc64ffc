//! A home's columns, every 10 s: the shapes of the benchmark generator `shared/bench/gen.py`, made without it.

/// SplitMix64 with the two distributions needed here.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / 9_007_199_254_740_992.0
    }

    pub(crate) fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Sum of twelve uniforms: close enough to normal for sensor noise.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

const STEP_S: usize = 10;
const PER_DAY: usize = 86_400 / STEP_S;

/// The six fields of `energy_data`, and more that a home has.
pub(crate) struct Home {
    pub(crate) soc: Vec<f64>,
    pub(crate) temperature: Vec<f64>,
    pub(crate) pv: Vec<f64>,
    pub(crate) grid: Vec<f64>,
    pub(crate) load: Vec<f64>,
    pub(crate) price: Vec<f64>,
    pub(crate) voltage: Vec<f64>,
    pub(crate) counter: Vec<f64>,
}

fn round_to(value: f64, decimals: i32) -> f64 {
    let power = 10_f64.powi(decimals);
    (value * power).round_ties_even() / power + 0.0
}

pub(crate) fn home(days: usize, seed: u64) -> Home {
    let mut r = Random(seed);
    let n = days * PER_DAY;
    let hour = |i: usize| (i * STEP_S % 86_400) as f64 / 3600.0;

    let cap = r.range(4000.0, 9000.0);
    let noise5: Vec<f64> = (0..days * 288 + 12).map(|_| r.normal()).collect();
    let day_factor: Vec<f64> = (0..days).map(|_| r.range(0.45, 1.05)).collect();
    let mut pv = Vec::with_capacity(n);
    for i in 0..n {
        let h = hour(i);
        let up = h > 4.5 && h < 20.5;
        let sun = if up { (std::f64::consts::PI * (h - 4.5) / 16.0).sin().max(0.0).powf(1.3) } else { 0.0 };
        let at = i * STEP_S / 300;
        let part = (i * STEP_S % 300) as f64 / 300.0;
        let cloud_at = |k: usize| {
            let c5 = noise5[k..k + 9].iter().sum::<f64>() / 3.0;
            1.0 / (1.0 + (-(c5 + 1.0)).exp())
        };
        let cloud = cloud_at(at) * (1.0 - part) + cloud_at(at + 1) * part;
        let cloud = (cloud * day_factor[i / PER_DAY]).clamp(0.03, 1.0);
        pv.push(round_to(cap * sun * cloud * (1.0 + 0.01 * r.normal()), 0));
    }

    let base = r.range(150.0, 400.0);
    let phase = r.range(0.0, 3600.0) as usize;
    let mut load: Vec<f64> = (0..n)
        .map(|i| {
            let fridge = if (i * STEP_S + phase) % 3600 < 1200 { 90.0 } else { 0.0 };
            base + fridge + 250.0 * (-((hour(i) - 19.5) / 2.0).powi(2)).exp()
        })
        .collect();
    for (per_day, watts, secs) in [(6.0, 2000.0, 180.0), (2.0, 2500.0, 2400.0), (0.5, 7200.0, 5400.0)] {
        for _ in 0..(per_day * days as f64) as usize {
            let from = (r.uniform() * n as f64) as usize;
            let len = (secs / STEP_S as f64 * r.range(0.5, 1.5)) as usize + 1;
            let more = watts * r.range(0.8, 1.1);
            for w in &mut load[from..(from + len).min(n)] {
                *w += more;
            }
        }
    }
    for w in &mut load {
        *w = round_to((*w + 6.0 * r.normal()).max(20.0), 0);
    }

    let mins = n / 6;
    let (cap_wh, mut soc) = (r.range(5000.0, 15_000.0), r.range(30.0, 60.0));
    let (mut socs, mut battery) = (Vec::new(), Vec::new());
    for m in 0..mins {
        let net = (0..6).map(|i| pv[6 * m + i] - load[6 * m + i]).sum::<f64>() / 6.0;
        let mut p = net.clamp(-3000.0, 3000.0);
        if (p > 0.0 && soc >= 100.0) || (p < 0.0 && soc <= 10.0) {
            p = 0.0;
        }
        soc = (soc + p / 60.0 / cap_wh * 100.0).clamp(8.0, 100.0);
        socs.push(soc);
        battery.push(p);
    }
    let soc = (0..n)
        .map(|i| {
            let next = socs[(i / 6 + 1).min(mins - 1)];
            let part = (i % 6) as f64 / 6.0;
            round_to(socs[i / 6] * (1.0 - part) + next * part, 1)
        })
        .collect();
    let grid = (0..n).map(|i| round_to(load[i] - pv[i] + battery[i / 6], 0)).collect();
    let mut heat = 0.0;
    let mut jitter = 0.0;
    let temperature = (0..n)
        .map(|i| {
            heat += (battery[i / 6].abs() / 400.0 - heat) / 360.0;
            if i % 6 == 0 {
                jitter = 0.05 * r.normal();
            }
            let day = (std::f64::consts::TAU * (hour(i) - 9.0) / 24.0).sin();
            round_to(20.0 + 4.0 * day + heat + jitter, 1)
        })
        .collect();
    let quarter: Vec<f64> = (0..days * 96)
        .map(|q| {
            let h = (q % 96) as f64 / 4.0;
            let bump = |at: f64, width: f64| (-((h - at) / width).powi(2)).exp();
            let p = 0.55 + 0.35 * bump(7.5, 1.6) + 0.55 * bump(19.5, 2.0) - 0.35 * bump(13.0, 2.5);
            round_to(p + 0.03 * r.normal(), 4)
        })
        .collect();
    let price = (0..n).map(|i| quarter[i / 90]).collect();
    let mut volts = 232.0;
    let voltage = (0..n)
        .map(|_| {
            volts += 0.25 * r.normal() - (volts - 232.0) / 200.0;
            round_to(volts, 1)
        })
        .collect();
    let mut wh = 12_345_678.0;
    let counter = load
        .iter()
        .map(|w| {
            wh += w / 360.0;
            round_to(wh / 1000.0, 1)
        })
        .collect();
    Home { soc, temperature, pv, grid, load, price, voltage, counter }
}

/// Nanoseconds every 10 s from 2026-06-01, off by up to `jitter_ms`, in whole milliseconds.
pub(crate) fn times(count: usize, jitter_ms: i64, seed: u64) -> Vec<i64> {
    let mut r = Random(seed);
    let mut jitter = || if jitter_ms == 0 { 0.0 } else { r.range(-(jitter_ms as f64), jitter_ms as f64) };
    (0..count as i64).map(|i| (1_780_272_000_000 + i * 10_000 + jitter() as i64) * 1_000_000).collect()
}

/// One-minute means: no decimals.
pub(crate) fn means(values: &[f64]) -> Vec<f64> {
    values.windows(7).map(|w| w.iter().sum::<f64>() / 7.0).collect()
}
