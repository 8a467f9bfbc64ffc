//! Clouds and temperature: a Markov chain of days, clouds that pass within them, and slow temperatures.

use crate::seed::Rng;

/// What kind of day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sky {
    Clear,
    Broken,
    Overcast,
}

impl Sky {
    /// The next day is like this one more often than not.
    fn next(self, rng: &mut Rng) -> Self {
        let (clear, broken) = match self {
            Self::Clear => (0.55, 0.35),
            Self::Broken => (0.25, 0.45),
            Self::Overcast => (0.10, 0.40),
        };
        match rng.unit() {
            draw if draw < clear => Self::Clear,
            draw if draw < clear + broken => Self::Broken,
            _ => Self::Overcast,
        }
    }
}

/// The weather at one tick.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    sky: Sky,
    /// A cloud stands before the sun.
    shaded: bool,
    /// Share of the beam that passes now; follows the cloud's edge within a minute.
    beam: f64,
    /// Thickness of the cloud layer, 0..1, slow.
    thickness: f64,
    /// Difference of the day's mean temperature from the season's.
    anomaly_c: f64,
    anomaly_goal_c: f64,
    outdoor_c: f64,
}

impl Weather {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let anomaly_c = rng.between(-3.0, 3.0);
        Self {
            sky: Sky::Broken,
            shaded: false,
            beam: 0.8,
            thickness: 0.4,
            anomaly_c,
            anomaly_goal_c: anomaly_c,
            outdoor_c: 9.0 + anomaly_c,
        }
    }

    pub(super) fn new_day(&mut self, rng: &mut Rng) {
        self.sky = self.sky.next(rng);
        self.anomaly_goal_c = 0.7 * self.anomaly_goal_c + rng.between(-3.5, 3.5);
    }

    /// One tick of 10 s. `year_share` 0 is 1 January; `day_share` is local.
    pub(super) fn step(&mut self, rng: &mut Rng, year_share: f64, day_share: f64, southern: bool) {
        // Chances per tick of a cloud coming and going: clouds of some minutes, gaps of more or less.
        let (comes, goes, goal) = match self.sky {
            Sky::Clear => (0.000_3, 0.03, 0.1),
            Sky::Broken => (0.012, 0.018, 0.45),
            Sky::Overcast => (0.05, 0.001_5, 0.85),
        };
        let draw = rng.unit();
        self.shaded = if self.shaded { draw >= goes } else { draw < comes };
        self.thickness += 0.002 * (goal - self.thickness) + 0.004 * (rng.unit() - 0.5);
        self.thickness = self.thickness.clamp(0.0, 1.0);
        let passes = if self.shaded { 0.35 * (1.0 - self.thickness) } else { 1.0 - 0.15 * self.thickness };
        self.beam += 0.3 * (passes - self.beam);
        self.anomaly_c += 0.000_4 * (self.anomaly_goal_c - self.anomaly_c);

        use std::f64::consts::TAU;
        let season = (TAU * (year_share - 0.054 + if southern { 0.5 } else { 0.0 })).cos();
        // Coldest before sunrise, warmest in mid-afternoon; clouds flatten the day.
        let swing = (5.5 - 3.0 * self.thickness) * (TAU * (day_share - 0.625)).cos();
        let goal_c = 9.0 - 11.0 * season + self.anomaly_c + swing;
        self.outdoor_c += 0.01 * (goal_c - self.outdoor_c);
    }

    /// Share of the beam that reaches the roof.
    pub(super) fn beam_share(&self) -> f64 {
        self.beam
    }

    /// Diffuse light against that of a clear sky: thin clouds add to it, thick ones swallow it.
    pub(super) fn diffuse_share(&self) -> f64 {
        1.0 + 1.6 * self.thickness - 2.0 * self.thickness * self.thickness
    }

    pub(super) fn outdoor_c(&self) -> f64 {
        self.outdoor_c
    }
}
