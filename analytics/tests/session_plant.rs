//! Ninety days of a plant whose sessions are known beforehand. What they hold is calculated from their shape by formula;
//! the detector sees only samples, with jitter, gaps, distractions and restarts.

use wattlog_analytics::session::{Detector, Kind, Params, Sample, Session};
use wattlog_model::Timestamp;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// 1 June 2025, midnight in UTC.
const BEGIN: i64 = 1_748_736_000;
const RAMP: f64 = 60.0;

/// Numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % count) as i64
    }
}

/// Power that rises from 0 to `power_w` in a minute, stays, and falls in a minute. Seconds since the epoch.
#[derive(Debug, Clone)]
struct Shape {
    kind: Kind,
    from: i64,
    to: i64,
    power_w: f64,
    pv_w: f64,
    house_w: f64,
    /// A time without samples within it.
    gap: Option<(i64, i64)>,
    /// True if it is long enough to be a session.
    counts: bool,
}

impl Shape {
    fn power_at(&self, second: f64) -> f64 {
        let (up, down) = ((second - self.from as f64) / RAMP, (self.to as f64 - second) / RAMP);
        self.power_w * up.min(down).clamp(0.0, 1.0)
    }

    /// Power above which all comes from the grid (charging) or goes into it (selling).
    fn level(&self) -> f64 {
        let surplus = self.pv_w - self.house_w;
        (if self.kind == Kind::Charging { surplus } else { -surplus }).max(0.0)
    }

    /// Watt-seconds above `level` from `a` to `b`: the area of the shape cut off at that height, by formula.
    fn area(&self, level: f64, a: f64, b: f64) -> f64 {
        self.area_until(level, b) - self.area_until(level, a)
    }

    fn area_until(&self, level: f64, second: f64) -> f64 {
        if level >= self.power_w {
            return 0.0;
        }
        // Above the level stands a trapezoid again: lower, shorter, with shorter ramps.
        let height = self.power_w - level;
        let ramp = RAMP * height / self.power_w;
        let delay = RAMP * level / self.power_w;
        let length = (self.to - self.from) as f64 - 2.0 * delay;
        let at = (second - self.from as f64 - delay).clamp(0.0, length);
        let rising = at.min(ramp);
        let flat = (at - ramp).clamp(0.0, length - 2.0 * ramp);
        let falling = (at - (length - ramp)).max(0.0);
        height * (rising * rising / (2.0 * ramp) + flat + falling - falling * falling / (2.0 * ramp))
    }

    /// Watt-seconds x PLN/kWh above the level: one price for each quarter of an hour.
    fn money(&self, a: f64, b: f64) -> f64 {
        let (first, last) = (a as i64 / 900, b as i64 / 900);
        let quarter = |q: i64| {
            let (start, end) = ((q * 900) as f64, ((q + 1) * 900) as f64);
            self.area(self.level(), start.max(a), end.min(b)) * price(self.kind, q)
        };
        (first..=last).map(quarter).sum()
    }
}

/// Price of a quarter of an hour since the epoch, PLN/kWh; some are negative.
fn price(kind: Kind, quarter: i64) -> f64 {
    let wave = ((quarter * 7919) % 97) as f64 / 97.0;
    if kind == Kind::Charging { 0.4 + wave } else { wave - 0.15 }
}

/// State of charge with one decimal, a function of time alone.
fn soc(second: i64) -> f64 {
    (200 + (second / 60) % 700) as f64 / 10.0
}

fn shapes(dice: &mut Dice) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for day in 0..90 {
        let midnight = BEGIN + day * DAY;
        let shape = |kind, from: i64, length: i64, power: i64, pv: i64, house: i64| Shape {
            kind,
            from: midnight + from,
            to: midnight + from + length,
            power_w: power as f64,
            pv_w: pv as f64,
            house_w: house as f64,
            gap: None,
            counts: length > 300,
        };
        if dice.below(5) > 0 {
            let (length, power) = (1200 + dice.below(9000), 1500 + dice.below(3500));
            shapes.push(shape(
                Kind::Charging,
                3600 + dice.below(1800),
                length,
                power,
                0,
                300 + dice.below(300),
            ));
        }
        // By day: all from PV, or a part of it.
        let (length, power) = (2400 + dice.below(9000), 2000 + dice.below(3000));
        shapes.push(shape(
            Kind::Charging,
            36_000 + dice.below(3600),
            length,
            power,
            500 + dice.below(6000),
            400,
        ));
        // A charge too short to be a session, well apart from the others.
        shapes.push(shape(Kind::Charging, 55_000 + dice.below(900), 70, 2500, 0, 300));
        if dice.below(3) > 0 {
            let (length, power) = (1200 + dice.below(7200), 2500 + dice.below(2500));
            shapes.push(shape(Kind::Selling, 64_000 + dice.below(3600), length, power, dice.below(200), 350));
        }
        let last = shapes.last_mut().unwrap();
        let long = last.to - last.from > 3600 && last.counts;
        let middle = i64::midpoint(last.from, last.to);
        last.gap = match dice.below(4) {
            0 if long => Some((middle - 1500, middle + 1500)),
            1 if long => Some((middle - 240, middle + 240)),
            _ => None,
        };
    }
    shapes
}

fn samples(shapes: &[Shape], dice: &mut Dice) -> Vec<Sample> {
    let (mut samples, mut second, mut next) = (Vec::new(), BEGIN, 0);
    while second < BEGIN + 90 * DAY {
        let before = second;
        second += 16 + dice.below(9);
        while shapes.get(next).is_some_and(|shape| shape.to < second) {
            next += 1;
        }
        let shape = shapes.get(next).filter(|shape| shape.from <= second);
        let (day, of_day) = ((second - BEGIN) / DAY, (second - BEGIN) % DAY);
        let in_gap = shape.and_then(|shape| shape.gap).is_some_and(|(from, to)| (from..to).contains(&second));
        // Whole hours without data where nothing happens.
        let silent = in_gap || (day % 4 == 1 && (23_000..30_000).contains(&of_day));
        // The price of a quarter is known from its first second on, whether the plant is heard or not.
        let border = second / 900 * 900;
        let begins = |kind| (border > before).then(|| price(kind, border / 900));
        if border > before && (border < second || silent) {
            samples.push(Sample {
                import_price_pln_kwh: begins(Kind::Charging),
                export_price_pln_kwh: begins(Kind::Selling),
                ..Sample::empty(Timestamp(border * SECOND))
            });
        }
        if silent {
            continue;
        }
        let at = second as f64;
        let (pv, house) = shape.map_or((0.0, 500.0), |shape| (shape.pv_w, shape.house_w));
        let battery = match shape {
            Some(shape) if shape.kind == Kind::Charging => -shape.power_at(at),
            Some(shape) => shape.power_at(at),
            // In the evening the battery feeds the house, some nights it takes a little: neither is a session.
            None if of_day > 80_000 => house,
            None if day % 2 == 0 && of_day < 3000 => -150.0,
            None => 0.0,
        };
        let on_border = border == second;
        samples.push(Sample {
            time: Timestamp(second * SECOND),
            battery_w: Some(battery),
            grid_w: Some(pv + battery - house),
            pv_w: Some(pv),
            consumption_w: Some(house),
            soc_percent: Some(soc(second)),
            import_price_pln_kwh: if on_border { begins(Kind::Charging) } else { None },
            export_price_pln_kwh: if on_border { begins(Kind::Selling) } else { None },
        });
    }
    samples
}

/// Sessions, with the state written down and read back every few hours.
fn detect(kind: Kind, samples: &[Sample]) -> Vec<Session> {
    let mut detector = Detector::new("roof", kind, Params::default()).unwrap();
    let mut sessions = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        if i % 1013 == 1012 {
            let text = serde_json::to_string(&detector).unwrap();
            detector = serde_json::from_str(&text).unwrap();
        }
        sessions.extend(detector.feed(sample).unwrap());
    }
    sessions.extend(detector.open_session());
    sessions
}

#[test]
fn sessions_of_ninety_days_are_those_of_the_plant() {
    let mut dice = Dice(20_250_601);
    let shapes = shapes(&mut dice);
    let samples = samples(&shapes, &mut dice);
    let (mut charging, mut selling, mut split, mut worst) = (0, 0, 0, [0.0_f64; 3]);
    for kind in [Kind::Charging, Kind::Selling] {
        let found = detect(kind, &samples);
        // What is to be found: each shape, or both ends of one with a long gap.
        let mut expected: Vec<(&Shape, i64, i64)> = Vec::new();
        for shape in shapes.iter().filter(|shape| shape.kind == kind && shape.counts) {
            match shape.gap.filter(|(from, to)| to - from > 900 + 100) {
                None => expected.push((shape, shape.from, shape.to)),
                Some((from, to)) => {
                    // Known up to the last sample before the gap and from the first after it.
                    let times =
                        samples.iter().filter(|sample| sample.battery_w.is_some()).map(|s| s.time.0 / SECOND);
                    let before = times.clone().filter(|second| *second < from).max().unwrap();
                    let after = times.filter(|second| *second >= to).min().unwrap();
                    expected.push((shape, shape.from, before));
                    expected.push((shape, after, shape.to));
                    split += 1;
                }
            }
        }
        assert_eq!(found.len(), expected.len(), "{kind}: sessions found and planted");
        for (session, (shape, from, to)) in found.iter().zip(&expected) {
            let (start, end) = (session.start.0 / SECOND, session.end.0 / SECOND);
            assert!((start - from).abs() <= 25 && (end - to).abs() <= 25, "{shape:?}: {start}..{end}");
            let (a, b) = (*from as f64, *to as f64);
            let energy_kwh = shape.area(0.0, a, b) / 3.6e6;
            let grid_kwh = shape.area(shape.level(), a, b) / 3.6e6;
            let sign = if kind == Kind::Charging { 1.0 } else { -1.0 };
            let cost_pln = sign * shape.money(a, b) / 3.6e6;
            let off = |found: f64, planted: f64, scale: f64| (found - planted).abs() / scale;
            let errors = [
                off(session.energy_kwh, energy_kwh, energy_kwh),
                off(session.grid_kwh, grid_kwh, energy_kwh),
                // Prices of both signs may cancel: the scale is what the energy costs at a middling price.
                off(session.cost_pln.unwrap(), cost_pln, cost_pln.abs().max(0.2 * energy_kwh)),
            ];
            for (worst, error) in worst.iter_mut().zip(errors) {
                *worst = worst.max(error);
                assert!(error < 0.005, "{shape:?}: {errors:?} {session:?}");
            }
            assert_eq!(session.soc_start_percent, Some(soc(start)));
            assert_eq!(session.soc_end_percent, Some(soc(end)));
            assert!((session.priced_kwh - session.grid_kwh).abs() < 1e-9, "{session:?}");
            assert!((session.peak_w - shape.power_w).abs() < 1e-6);
            assert_eq!(session.unsplit_kwh, 0.0);
        }
        let count = if kind == Kind::Charging { &mut charging } else { &mut selling };
        *count = found.len();
    }
    assert!(charging > 130 && selling > 50 && split > 5, "{charging} {selling} {split}");
    eprintln!(
        "{charging} charging, {selling} selling, {split} cut by a gap; largest errors of energy, grid part, cost: {worst:?}"
    );
}
