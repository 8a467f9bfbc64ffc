//! Thirty days of a plant with planted faults: every one is found, and nothing else is named.

use std::collections::BTreeSet;
use wattlog_analytics::energy::{PowerSample, Powers};
use wattlog_analytics::quality::{
    BalanceTolerance, BatteryReading, FieldChecks, FieldName, Findings, Limits, Rest, Sign, Signed,
    SpikeRule, StuckRule, assess, balance_violations, battery_sign_by_soc, ranges_where, sign_by_balance,
};
use wattlog_model::{TagSet, Timestamp};

const MINUTE: i64 = 60_000_000_000;
const DAYS: i64 = 30;

/// Numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }

    fn below(&mut self, count: i64) -> i64 {
        (self.unit() * count as f64) as i64
    }
}

/// One minute of the plant.
#[derive(Debug, Clone, Copy)]
struct Minute {
    pv: f64,
    house: f64,
    battery: f64,
    grid: f64,
    soc: f64,
}

/// A healthy plant: clouds, a fridge, a kettle, a battery of 10 kWh that is full on good days and empty in the morning.
fn plant(dice: &mut Dice) -> Vec<Minute> {
    let (mut minutes, mut cloud, mut kettle, mut soc): (Vec<Minute>, f64, i64, f64) =
        (Vec::new(), 0.8, 0, 40.0);
    for minute in 0..DAYS * 1440 {
        let of_day = (minute % 1440) as f64;
        let sun = ((of_day - 330.0) / 900.0 * std::f64::consts::PI).sin().max(0.0);
        let sun = if (330.0..1230.0).contains(&of_day) { sun } else { 0.0 };
        cloud = (cloud + (dice.unit() - 0.5) * 0.12).clamp(0.15, 1.0);
        let pv = (6000.0 * sun * cloud).round();
        kettle = if dice.below(240) == 0 { 4 + dice.below(60) } else { (kettle - 1).max(0) };
        let fridge = if minute / 17 % 2 == 0 { 90.0 } else { 0.0 };
        let house = (250.0 + fridge + if kettle > 0 { 1900.0 } else { 0.0 } + dice.unit() * 40.0).round();
        // The battery takes what is over and gives what is wanted, as far as it can.
        let wish = (house - pv).clamp(-3000.0, 3000.0);
        let battery = if (wish < 0.0 && soc >= 100.0) || (wish > 0.0 && soc <= 10.0) { 0.0 } else { wish };
        soc = (soc - battery / 60.0 / 10_000.0 * 100.0).clamp(10.0, 100.0);
        let grid = (pv + battery - house + (dice.unit() - 0.5) * 30.0).round();
        minutes.push(Minute { pv, house, battery, grid, soc: (soc * 10.0).round() / 10.0 });
    }
    minutes
}

fn time(minute: i64) -> Timestamp {
    Timestamp(minute * MINUTE)
}

/// A field as points, without the minutes of the gaps.
fn points(minutes: &[Minute], gaps: &BTreeSet<i64>, of: impl Fn(&Minute) -> f64) -> Vec<(Timestamp, f64)> {
    let known = (0_i64..).zip(minutes).filter(|(minute, _)| !gaps.contains(minute));
    known.map(|(minute, values)| (time(minute), of(values))).collect()
}

fn field(name: &str) -> FieldName {
    let tags = TagSet::new([("device_id", "roof")]).unwrap();
    FieldName { measurement: "energy_data".to_owned(), tags, field: name.to_owned() }
}

fn firsts(findings: &Findings) -> Vec<i64> {
    findings.stretches.iter().map(|stretch| stretch.first.0 / MINUTE).collect()
}

/// Places a day apart at noon or so, so that no fault touches another.
fn places(dice: &mut Dice, from_day: i64, count: i64, of_day: i64) -> Vec<i64> {
    (0..count).map(|i| (from_day + i) * 1440 + of_day + dice.below(90)).collect()
}

fn checks(minutes: &[Minute], low: f64, high: f64, rests: Vec<Rest>) -> FieldChecks {
    assert!(minutes.len() as i64 == DAYS * 1440);
    FieldChecks {
        asleep: Vec::new(),
        interval_ns: MINUTE,
        longest_gap_ns: 5 * MINUTE,
        limits: Some(Limits { low, high }),
        stuck: Some(StuckRule { longest_ns: 45 * MINUTE, max_gap_ns: 5 * MINUTE }),
        rests,
        spikes: Some(SpikeRule { side: 7, spreads: 4.0, least: 2500.0 }),
    }
}

#[test]
fn planted_faults_of_pv_are_found_and_nothing_else() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let healthy = plant(&mut dice);
        let dark = ranges_where(&points(&healthy, &BTreeSet::new(), |m| m.pv), 2 * MINUTE, |pv| pv == 0.0);
        let rests = vec![Rest { low: 0.0, high: 0.0, within: Some(dark) }];
        let checks = checks(&healthy, 0.0, 7000.0, rests);
        let range = time(0)..time(DAYS * 1440);
        let clean =
            assess(&field("pv_power"), &points(&healthy, &BTreeSet::new(), |m| m.pv), &range, &checks)
                .unwrap();
        assert_eq!(clean.score.value, 1.0, "seed {seed}: a healthy plant: {clean:?}");

        let mut minutes = healthy;
        let stuck = places(&mut dice, 2, 4, 700);
        let spikes = places(&mut dice, 8, 6, 640);
        let outside = places(&mut dice, 15, 4, 500);
        let zero = places(&mut dice, 20, 2, 720);
        for at in &stuck {
            let value = 1000.5 + *at as f64;
            minutes[*at as usize..*at as usize + 60]
                .iter_mut()
                .for_each(|minute| minute.pv = value.min(6500.0));
        }
        for at in &spikes {
            // Within the limits, and far from what is around it.
            let minute = &mut minutes[*at as usize];
            minute.pv = if minute.pv > 3450.0 { 0.0 } else { 6900.0 };
        }
        for at in &outside {
            minutes[*at as usize..*at as usize + 12].iter_mut().for_each(|minute| minute.pv = 65_535.0);
        }
        for at in &zero {
            minutes[*at as usize..*at as usize + 90].iter_mut().for_each(|minute| minute.pv = 0.0);
        }
        let mut gaps = BTreeSet::new();
        let holes = places(&mut dice, 23, 5, 600);
        for at in &holes {
            gaps.extend(*at..*at + 20);
        }
        let report = assess(&field("pv_power"), &points(&minutes, &gaps, |m| m.pv), &range, &checks).unwrap();
        assert_eq!((report.completeness.value.missing, report.gap_count), (100, 5));
        let found: Vec<i64> = report.gaps.value.iter().map(|gap| gap.start.0 / MINUTE + 1).collect();
        assert_eq!(found, holes);
        assert_eq!(firsts(&report.out_of_range.as_ref().unwrap().value), outside);
        assert_eq!(firsts(&report.spikes.as_ref().unwrap().value), spikes, "seed {seed}");
        let mut still: Vec<i64> = [stuck, zero].concat();
        still.sort_unstable();
        assert_eq!(firsts(&report.stuck.as_ref().unwrap().value), still);
        // 4 x 60 and 2 x 90 minutes stand still, 6 spikes, 4 x 12 outside; 100 minutes are missing.
        let points = (DAYS * 1440 - 100) as f64;
        assert!((report.accuracy.unwrap().value - (1.0 - 474.0 / points)).abs() < 1e-12, "seed {seed}");
    }
}

#[test]
fn a_battery_that_is_full_or_empty_is_not_stuck_and_one_that_hangs_is() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let mut minutes = plant(&mut dice);
        let none = BTreeSet::new();
        let soc = points(&minutes, &none, |m| m.soc);
        let rests =
            vec![Rest { low: 99.9, high: 100.0, within: None }, Rest { low: 10.0, high: 10.1, within: None }];
        // It may also stand still while little flows: where power is small.
        let idle = ranges_where(&points(&minutes, &none, |m| m.battery), 2 * MINUTE, |w| w.abs() < 30.0);
        let rests = [rests, vec![Rest { low: 0.0, high: 100.0, within: Some(idle) }]].concat();
        let mut checks = checks(&minutes, 0.0, 100.0, rests);
        checks.spikes = Some(SpikeRule { side: 7, spreads: 8.0, least: 8.0 });
        let range = time(0)..time(DAYS * 1440);
        let clean = assess(&field("battery_soc"), &soc, &range, &checks).unwrap();
        assert_eq!(clean.score.value, 1.0, "seed {seed}: {clean:?}");
        // The BMS hangs for two hours in which energy flows, and twice answers a sentinel.
        let flows = |minute: &Minute| minute.battery.abs() > 100.0 && (15.0..90.0).contains(&minute.soc);
        let at = (10 * 1440..DAYS as usize * 1440 - 130)
            .find(|at| minutes[*at..*at + 130].iter().all(flows))
            .expect("a month has two such hours");
        let value = minutes[at].soc;
        minutes[at..at + 120].iter_mut().for_each(|minute| minute.soc = value);
        (minutes[5000].soc, minutes[9000].soc) = (65_535.0, 6553.5);
        assert!(at > 9100);
        let report =
            assess(&field("battery_soc"), &points(&minutes, &none, |m| m.soc), &range, &checks).unwrap();
        let stuck = report.stuck.unwrap().value;
        assert_eq!(stuck.count, 1, "seed {seed}: {stuck:?}");
        let first = stuck.stretches[0].first.0 / MINUTE;
        assert!((at as i64 - 15..=at as i64).contains(&first), "seed {seed}: {first} {at}");
        assert_eq!(firsts(&report.out_of_range.unwrap().value), [5000, 9000]);
        assert_eq!(firsts(&report.spikes.unwrap().value), [5000, 9000]);
    }
}

#[test]
fn a_broken_balance_and_a_sign_the_wrong_way_round_are_found() {
    let tolerance = BalanceTolerance { absolute_w: 60.0, share: 0.03, shortest_ns: 3 * MINUTE };
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let mut minutes = plant(&mut dice);
        let samples = |minutes: &[Minute], turn_battery: f64, turn_grid: f64| -> Vec<PowerSample> {
            let sample = |(minute, m): (i64, &Minute)| {
                let powers = Powers {
                    pv_w: m.pv,
                    battery_w: turn_battery * m.battery,
                    grid_w: turn_grid * m.grid,
                    consumption_w: m.house,
                };
                PowerSample { time: time(minute), powers }
            };
            (0_i64..).zip(minutes).map(sample).collect()
        };
        let readings = |turn: f64| -> Vec<BatteryReading> {
            let reading = |(minute, m): (i64, &Minute)| BatteryReading {
                time: time(minute),
                battery_w: turn * m.battery,
                soc_percent: m.soc,
            };
            (0_i64..).zip(&minutes).map(reading).collect()
        };
        let good = samples(&minutes, 1.0, 1.0);
        assert_eq!(balance_violations(&good, tolerance).unwrap(), Findings::default(), "seed {seed}");
        let by_balance = |list: &[PowerSample], which| sign_by_balance(list, which).unwrap().sign;
        let by_soc = |turn| battery_sign_by_soc(&readings(turn), 30 * MINUTE, 5 * MINUTE).unwrap().sign;
        assert_eq!((by_soc(1.0), by_soc(-1.0)), (Sign::Right, Sign::Reversed));
        assert_eq!(by_balance(&good, Signed::Battery), Sign::Right);
        assert_eq!(by_balance(&good, Signed::Grid), Sign::Right);
        assert_eq!(by_balance(&samples(&minutes, -1.0, 1.0), Signed::Battery), Sign::Reversed);
        assert_eq!(by_balance(&samples(&minutes, 1.0, -1.0), Signed::Grid), Sign::Reversed);
        // A load that the meter of the house does not see, in three nights; one that is too short to tell.
        let hidden = places(&mut dice, 5, 3, 60);
        for at in &hidden {
            minutes[*at as usize..*at as usize + 30].iter_mut().for_each(|minute| minute.grid -= 1500.0);
        }
        minutes[30_000].grid += 900.0;
        let found = balance_violations(&samples(&minutes, 1.0, 1.0), tolerance).unwrap();
        assert_eq!(firsts(&found), hidden, "seed {seed}");
        assert_eq!(found.points, 90);
        assert!(found.stretches.iter().all(|row| (row.worst - 1500.0).abs() < 20.0), "{found:?}");
    }
}
