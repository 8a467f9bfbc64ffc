//! What a household switches on: a base that never stops, a fridge and a heat pump that cycle by temperature, and
//! people who cook, boil water and wash at their hours.

use crate::seed::Rng;
use std::ops::Range;

/// Ticks of an hour.
const HOUR: f64 = 360.0;
const TICK_HOURS: f64 = 1.0 / HOUR;

/// An appliance used for a while.
#[derive(Debug, Clone, PartialEq)]
struct Use {
    kind: Kind,
    /// Ticks of the local day.
    ticks: Range<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kettle,
    Oven,
    Washer,
    Lights,
}

/// The house and what is on in it.
#[derive(Debug, Clone)]
pub(super) struct House {
    uses: Vec<Use>,
    fridge_c: f64,
    fridge_on: bool,
    room_c: f64,
    heating: bool,
    base_w: f64,
}

impl House {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            uses: Vec::new(),
            fridge_c: 5.0,
            fridge_on: false,
            room_c: 21.0,
            heating: false,
            base_w: rng.between(110.0, 160.0),
        }
    }

    /// Plans a local day.
    pub(super) fn new_day(&mut self, rng: &mut Rng, weekend: bool) {
        self.uses.clear();
        let late = if weekend { 1.5 } else { 0.0 };
        let mut plan = |kind: Kind, rng: &mut Rng, from_hour: f64, to_hour: f64, minutes: f64| {
            let start = (rng.between(from_hour, to_hour) * HOUR) as u32;
            self.uses.push(Use { kind, ticks: start..start + (minutes / 60.0 * HOUR) as u32 });
        };
        plan(Kind::Kettle, rng, 6.2 + late, 7.2 + late, 3.5);
        plan(Kind::Kettle, rng, 7.2 + late, 9.0 + late, 2.5);
        plan(Kind::Kettle, rng, 16.0, 18.0, 3.0);
        plan(Kind::Kettle, rng, 19.5, 21.5, 3.0);
        if weekend || rng.unit() < 0.3 {
            plan(Kind::Kettle, rng, 10.5, 15.0, 3.0);
        }
        if rng.unit() < if weekend { 0.75 } else { 0.45 } {
            plan(Kind::Oven, rng, if weekend { 11.5 } else { 17.0 }, 18.5, 50.0);
        }
        if rng.unit() < if weekend { 0.6 } else { 0.3 } {
            plan(Kind::Washer, rng, 9.0, 17.0, 105.0);
        }
        plan(Kind::Lights, rng, 5.8 + late, 6.6 + late, 95.0);
        plan(Kind::Lights, rng, 16.5, 18.0, 310.0);
    }

    /// One tick of 10 s; the load of each phase in W.
    pub(super) fn step(&mut self, rng: &mut Rng, local_tick: u32, outdoor_c: f64) -> [f64; 3] {
        let mut phases = [self.base_w + 14.0 * (rng.unit() - 0.5), 0.0, 0.0];

        self.fridge_c += if self.fridge_on { -4.5 * TICK_HOURS } else { 2.4 * TICK_HOURS };
        self.fridge_on = if self.fridge_on { self.fridge_c > 4.0 } else { self.fridge_c > 6.0 };
        if self.fridge_on {
            phases[1] += 85.0 + 4.0 * rng.unit();
        }

        // A house that loses its warmth in a day and a half, and a heat pump that is weaker when it is cold.
        let heat_w = if self.heating { (1_250.0 - 12.0 * outdoor_c).clamp(900.0, 1_600.0) } else { 0.0 };
        let gain_c = heat_w / 1_600.0 * 2.1 + 0.12;
        self.room_c += ((outdoor_c - self.room_c) / 35.0 + gain_c) * TICK_HOURS;
        self.heating = if self.heating { self.room_c < 21.4 } else { self.room_c < 20.6 };
        if self.heating {
            for phase in &mut phases {
                *phase += heat_w / 3.0 * (0.99 + 0.02 * rng.unit());
            }
        }

        for Use { kind, ticks } in &self.uses {
            if !ticks.contains(&local_tick) {
                continue;
            }
            let since = local_tick - ticks.start;
            match kind {
                Kind::Kettle => phases[0] += 1_960.0 + 12.0 * rng.unit(),
                // Heats up for nine minutes, then a thermostat.
                Kind::Oven if since < 54 || since % 18 < 7 => phases[2] += 2_240.0 + 10.0 * rng.unit(),
                Kind::Oven => phases[2] += 45.0,
                Kind::Washer if (36..150).contains(&since) => phases[1] += 1_930.0 + 15.0 * rng.unit(),
                Kind::Washer => phases[1] += if since % 6 < 4 { 160.0 } else { 25.0 } + 40.0 * rng.unit(),
                Kind::Lights => phases[2] += 230.0 + 30.0 * rng.unit(),
            }
        }
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day_kwh(seed: u64, outdoor_c: f64) -> f64 {
        let mut rng = Rng::new(seed);
        let mut house = House::new(&mut rng);
        let mut kwh = 0.0;
        for day in 0..10 {
            house.new_day(&mut rng, day % 7 > 4);
            for tick in 0..8_640 {
                kwh += house.step(&mut rng, tick, outdoor_c).iter().sum::<f64>() / 360_000.0;
            }
        }
        kwh / 10.0
    }

    #[test]
    fn a_summer_day_takes_some_and_a_winter_day_more() {
        let (summer, winter) = (day_kwh(3, 20.0), day_kwh(3, -5.0));
        assert!((5.0..14.0).contains(&summer), "{summer}");
        assert!((15.0..45.0).contains(&winter), "{winter}");
    }
}
