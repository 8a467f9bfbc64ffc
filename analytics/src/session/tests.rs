//! Sessions by hand: flanks, hysteresis, pauses, gaps, prices; and that neither cuts nor late samples change anything.

use super::*;
use proptest::prelude::*;
use std::ops::Range;

const SECOND: i64 = 1_000_000_000;

/// A sample by seconds, power into the battery and a state of charge.
fn charge(second: i64, charge_w: f64) -> Sample {
    Sample {
        battery_w: Some(-charge_w),
        soc_percent: Some(second as f64 / 100.0),
        ..Sample::empty(at(second))
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * SECOND)
}

fn params() -> Params {
    Params {
        min_duration_ns: 60 * SECOND,
        merge_pause_ns: 100 * SECOND,
        max_gap_ns: 30 * SECOND,
        price_max_age_ns: 900 * SECOND,
        ..Params::default()
    }
}

/// All sessions, the open one last.
fn detect(kind: Kind, params: Params, samples: &[Sample]) -> Vec<Session> {
    let mut detector = Detector::new("bat", kind, params).unwrap();
    let mut sessions: Vec<Session> =
        samples.iter().filter_map(|sample| detector.feed(sample).unwrap()).collect();
    sessions.extend(detector.open_session());
    sessions
}

fn spans(sessions: &[Session]) -> Vec<(i64, i64)> {
    sessions.iter().map(|session| (session.start.0 / SECOND, session.end.0 / SECOND)).collect()
}

/// Power by steps of ten seconds.
fn powers(list: &[f64]) -> Vec<Sample> {
    (0_i64..).zip(list).map(|(i, power)| charge(i * 10, *power)).collect()
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
}

#[test]
fn a_session_has_both_flanks() {
    let mut list = vec![0.0, 0.0];
    list.extend([3600.0; 10]);
    list.extend([0.0; 20]);
    let sessions = detect(Kind::Charging, params(), &powers(&list));
    assert_eq!(spans(&sessions), [(10, 120)]);
    let session = &sessions[0];
    // Nine whole steps of 10 s at 3.6 kW and two halves.
    close(session.energy_kwh, 0.1);
    assert_eq!((session.soc_start_percent, session.soc_end_percent), (Some(0.1), Some(1.2)));
    assert_eq!((session.sample_count, session.peak_w, session.status), (12, 3600.0, Status::Closed));
    assert_eq!((session.covered_ns, session.coverage()), (110 * SECOND, 1.0));
    assert_eq!(session.key(), format!("bat/charging/{}", 10 * SECOND));
    // Nothing but the battery is known.
    close(session.unsplit_kwh, 0.1);
    assert_eq!((session.grid_kwh, session.local_kwh, session.cost_pln), (0.0, 0.0, None));
}

#[test]
fn hysteresis_keeps_a_session_and_does_not_start_one() {
    // 150 W lies between stop and start.
    let mut list = vec![0.0, 150.0, 150.0, 150.0, 250.0, 150.0, 150.0, 150.0, 150.0, 150.0, 150.0, 99.0];
    list.extend([0.0; 20]);
    assert_eq!(spans(&detect(Kind::Charging, params(), &powers(&list))), [(30, 110)]);
    assert_eq!(detect(Kind::Charging, params(), &powers(&[150.0; 50])), []);
}

#[test]
fn short_pauses_are_merged_and_long_ones_are_not() {
    let with_pause = |off: usize| {
        let mut list = vec![0.0];
        list.extend([1000.0; 10]);
        list.extend(vec![0.0; off]);
        list.extend([1000.0; 10]);
        list.extend([0.0; 20]);
        spans(&detect(Kind::Charging, params(), &powers(&list)))
    };
    // From the first reading off to the last one off: 10 steps are 100 s.
    assert_eq!(with_pause(11), [(0, 320)]);
    assert_eq!(with_pause(12), [(0, 110), (220, 330)]);
    assert_eq!(with_pause(1), [(0, 220)]);
}

#[test]
fn power_in_a_merged_pause_counts() {
    let mut list = vec![0.0];
    list.extend([3600.0; 10]);
    list.extend([36.0; 5]);
    list.extend([3600.0; 10]);
    list.extend([0.0; 20]);
    let sessions = detect(Kind::Charging, params(), &powers(&list));
    // Two ramps to 0 W (5 s each), two rows of nine steps, the two ramps to 36 W, four steps of 36 W.
    close(
        sessions[0].energy_kwh,
        (3600.0 * 10.0 + 2.0 * 3600.0 * 90.0 + 3636.0 * 10.0 + 36.0 * 40.0) / 3.6e6,
    );
}

#[test]
fn what_is_too_short_is_none() {
    let mut list = vec![0.0; 3];
    list.extend([1000.0; 4]);
    list.extend([0.0; 20]);
    // From the reading before to the reading after: 50 s.
    assert_eq!(detect(Kind::Charging, params(), &powers(&list)), []);
    list.insert(4, 1000.0);
    assert_eq!(spans(&detect(Kind::Charging, params(), &powers(&list))), [(20, 80)]);
}

#[test]
fn a_gap_is_not_filled_and_a_long_one_ends_a_session() {
    let row = |from: i64, to: i64| (from..to).map(|i| charge(i * 10, 3600.0));
    let wide: Vec<Sample> = row(0, 11).chain(row(50, 61)).collect();
    let sessions = detect(Kind::Charging, params(), &wide);
    assert_eq!(spans(&sessions), [(0, 100), (500, 600)]);
    close(sessions[0].energy_kwh, 0.1);
    assert_eq!(sessions[1].status, Status::Open);
    let narrow: Vec<Sample> = row(0, 11).chain(row(16, 27)).collect();
    let sessions = detect(Kind::Charging, params(), &narrow);
    assert_eq!(spans(&sessions), [(0, 260)]);
    close(sessions[0].energy_kwh, 0.2);
    assert_eq!((sessions[0].covered_ns, sessions[0].sample_count), (200 * SECOND, 22));
    close(sessions[0].coverage(), 200.0 / 260.0);
}

#[test]
fn the_grid_part_of_charging_is_what_pv_does_not_give() {
    let sample = |second: i64, pv: Option<f64>, house: Option<f64>, grid: Option<f64>| Sample {
        pv_w: pv,
        consumption_w: house,
        grid_w: grid,
        ..charge(second, 3000.0)
    };
    let run = |pv, house, grid| {
        let samples: Vec<Sample> = (0..=36).map(|i| sample(i * 10, pv, house, grid)).collect();
        let session = detect(Kind::Charging, params(), &samples).remove(0);
        close(session.energy_kwh, 0.3);
        close(session.grid_kwh + session.local_kwh + session.unsplit_kwh, 0.3);
        (session.grid_kwh, session.local_kwh)
    };
    let check = |found: (f64, f64), expected: (f64, f64)| {
        close(found.0, expected.0);
        close(found.1, expected.1);
    };
    check(run(Some(2000.0), Some(1000.0), None), (0.2, 0.1));
    check(run(Some(5000.0), Some(1000.0), None), (0.0, 0.3));
    check(run(Some(0.0), Some(1000.0), None), (0.3, 0.0));
    // Without PV or house the meter tells: importing 1 kW while 3 kW go in.
    check(run(None, Some(1000.0), Some(-1000.0)), (0.1, 0.2));
    check(run(None, None, Some(500.0)), (0.0, 0.3));
    // Where they disagree, PV and house stand before the meter.
    check(run(Some(2000.0), Some(1000.0), Some(0.0)), (0.2, 0.1));
    check(run(Some(100.0), None, None), (0.0, 0.0));
}

#[test]
fn selling_needs_discharge_and_export() {
    let sample = |second: i64, battery: f64, grid: Option<f64>| Sample {
        battery_w: Some(battery),
        grid_w: grid,
        pv_w: Some(0.0),
        consumption_w: Some(battery - grid.unwrap_or(0.0)),
        export_price_pln_kwh: (second % 900 == 0).then_some(0.5),
        ..Sample::empty(at(second))
    };
    let run = |battery: f64, grid: Option<f64>| {
        let samples: Vec<Sample> = (0..=360).map(|i| sample(i * 10, battery, grid)).collect();
        detect(Kind::Selling, params(), &samples)
    };
    assert_eq!(run(3000.0, Some(0.0)), []);
    assert_eq!(run(0.0, Some(3000.0)), []);
    assert_eq!(run(3000.0, None), []);
    let sessions = run(3000.0, Some(2000.0));
    assert_eq!(spans(&sessions), [(0, 3600)]);
    let session = &sessions[0];
    close(session.energy_kwh, 3.0);
    close(session.grid_kwh, 2.0);
    close(session.local_kwh, 1.0);
    close(session.cost_pln.unwrap(), -1.0);
    close(session.average_price_pln_kwh.unwrap(), 0.5);
}

#[test]
fn a_price_steps_within_a_step_of_power_and_ages() {
    // One step of power of 1000 s, prices between: 0.2 for the first half, 0.6 for a quarter, then none.
    let rules = Params { max_gap_ns: 1000 * SECOND, price_max_age_ns: 250 * SECOND, ..params() };
    let price =
        |second: i64, price: f64| Sample { import_price_pln_kwh: Some(price), ..Sample::empty(at(second)) };
    let power = |second: i64, power: f64| Sample {
        pv_w: Some(0.0),
        consumption_w: Some(0.0),
        ..charge(second, power)
    };
    let samples = [
        price(-10, 0.2),
        power(0, 3600.0),
        price(240, 0.2),
        price(490, 0.2),
        price(500, 0.6),
        power(1000, 3600.0),
    ];
    let session = detect(Kind::Charging, rules, &samples).remove(0);
    close(session.energy_kwh, 1.0);
    close(session.grid_kwh, 1.0);
    close(session.priced_kwh, 0.75);
    close(session.cost_pln.unwrap(), 0.5 * 0.2 + 0.25 * 0.6);
    close(session.average_price_pln_kwh.unwrap(), 0.25 / 0.75);
    // The same price comes again after it was too old: between, there was none.
    let again = [price(-10, 0.2), power(0, 3600.0), price(500, 0.2), power(1000, 3600.0)];
    let session = detect(Kind::Charging, rules, &again).remove(0);
    close(session.priced_kwh, 0.24 + 0.25);
    // A ramp from 3.6 kW to 0: the first half holds three quarters of the energy.
    let ramp = [
        price(-10, 0.2),
        power(0, 3600.0),
        price(240, 0.2),
        price(490, 0.2),
        price(500, 0.6),
        power(1000, 0.0),
    ];
    let session = detect(Kind::Charging, rules, &ramp).remove(0);
    close(session.cost_pln.unwrap(), 0.375 * 0.2 + (0.125 - 0.03125) * 0.6);
}

#[test]
fn pv_alone_costs_nothing_and_an_unknown_price_is_no_zero() {
    let run = |pv: f64| {
        let sample = |i: i64| Sample { pv_w: Some(pv), consumption_w: Some(0.0), ..charge(i * 10, 1000.0) };
        let samples: Vec<Sample> = (0..20).map(sample).collect();
        detect(Kind::Charging, params(), &samples).remove(0)
    };
    assert_eq!((run(2000.0).cost_pln, run(2000.0).average_price_pln_kwh), (Some(0.0), None));
    assert_eq!((run(500.0).cost_pln, run(500.0).average_price_pln_kwh), (None, None));
}

#[test]
fn prices_without_power_do_not_pile_up() {
    let mut detector = Detector::new("bat", Kind::Selling, params()).unwrap();
    for i in 0..100_000 {
        let price = Sample { export_price_pln_kwh: Some(i as f64), ..Sample::empty(at(i)) };
        assert_eq!(detector.feed(&price), Ok(None));
    }
    assert!(serde_json::to_string(&detector).unwrap().len() < 4000);
    // More changes than there are seconds: refused with a reason, and the state goes on.
    let refused = (0..5000).find_map(|i| {
        let time = Timestamp(100_000 * SECOND + i);
        let price = Sample { export_price_pln_kwh: Some((i % 2) as f64), ..Sample::empty(time) };
        detector.feed(&price).err()
    });
    assert!(matches!(refused, Some(SessionError::TooManyPrices { limit: 4096, .. })), "{refused:?}");
}

#[test]
fn prices_that_change_with_every_reading_do_not_pile_up() {
    let rules = Params { max_gap_ns: 100 * 86_400 * SECOND, ..params() };
    let mut detector = Detector::new("bat", Kind::Charging, rules).unwrap();
    for i in 0..10_000 {
        let sample = Sample { import_price_pln_kwh: Some((i % 7) as f64), ..charge(i * 10, 500.0) };
        assert_eq!(detector.feed(&sample), Ok(None));
    }
    assert!(serde_json::to_string(&detector).unwrap().len() < 2000);
}

#[test]
fn samples_that_are_late_or_no_numbers_change_nothing() {
    let mut detector = Detector::new("bat", Kind::Charging, params()).unwrap();
    detector.feed(&charge(10, 1000.0)).unwrap();
    let before = detector.clone();
    for sample in [charge(10, 5.0), charge(9, 5.0), charge(20, f64::NAN), charge(20, f64::INFINITY)] {
        assert!(detector.feed(&sample).is_err());
        assert_eq!(detector, before);
    }
    let error = detector.feed(&charge(9, 5.0)).unwrap_err().to_string();
    assert!(error.contains("detect its window again"), "{error}");
}

#[test]
fn silence_closes_a_session_when_now_is_told() {
    let mut detector = Detector::new("bat", Kind::Charging, params()).unwrap();
    for i in 0..20 {
        detector.feed(&charge(i * 10, 1000.0)).unwrap();
    }
    assert_eq!(detector.advance(at(200)), None);
    // Not joined any more, but still within a pause that would be bridged.
    assert_eq!(detector.advance(at(225)), None);
    assert_eq!(detector.advance(at(291)).map(|session| session.status), Some(Status::Closed));
    assert!(detector.is_idle());
    assert_eq!(detector.advance(at(400)), None);
    // A sample from before is late from here on.
    assert!(matches!(detector.feed(&charge(210, 1000.0)), Err(SessionError::Late { .. })));
}

#[test]
fn a_state_that_nobody_wrote_is_refused() {
    let mut detector = Detector::new("bat", Kind::Charging, params()).unwrap();
    for i in 0..10 {
        detector.feed(&charge(i * 10, 1000.0)).unwrap();
    }
    let text = serde_json::to_string(&detector).unwrap();
    assert_eq!(serde_json::from_str::<Detector>(&text).unwrap(), detector);
    for (from, to) in [
        (r#""seen":90000000000"#, r#""seen":5"#),
        (r#""min_duration_ns":60000000000"#, r#""min_duration_ns":0"#),
    ] {
        assert!(text.contains(from), "{text}");
        let error = serde_json::from_str::<Detector>(&text.replace(from, to)).unwrap_err();
        assert!(
            error.to_string().contains("must be at least") || error.to_string().contains("detect again"),
            "{error}"
        );
    }
}

#[test]
fn a_state_whose_last_reading_was_never_seen_is_refused() {
    let mut detector = Detector::new("bat", Kind::Charging, params()).unwrap();
    detector.feed(&charge(90, 0.0)).unwrap();
    let text = serde_json::to_string(&detector).unwrap();
    let turned = text.replace(r#""seen":90000000000"#, r#""seen":5"#);
    assert_ne!(text, turned);
    assert!(serde_json::from_str::<Detector>(&turned).unwrap_err().to_string().contains("detect again"));
}

/// A day in short: stretches of power of both kinds, pauses, gaps, missing values, prices.
fn feed() -> impl Strategy<Value = Vec<Sample>> {
    let levels = prop_oneof![
        Just(-2000.0),
        Just(-150.0),
        Just(-120.0),
        Just(0.0),
        Just(130.0),
        Just(1500.0),
        -3000.0..3000.0
    ];
    let stretch = (levels, 1_usize..14, prop_oneof![8 => Just(0_i64), 1 => 20_i64..60, 1 => 60_i64..400]);
    (proptest::collection::vec(stretch, 1..25), any::<u64>()).prop_map(|(stretches, seed)| {
        let (mut second, mut state, mut samples) = (0_i64, seed | 1, Vec::new());
        let mut chance = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        for (level, count, gap) in stretches {
            second += gap;
            for _ in 0..count {
                second += 5 + (chance() * 10.0) as i64;
                let battery = level + (chance() - 0.5) * 80.0;
                let pv = chance() * 3000.0;
                let grid = pv + battery - 700.0 + (chance() - 0.5) * 1500.0;
                samples.push(Sample {
                    time: at(second),
                    battery_w: (chance() < 0.95).then_some(battery),
                    grid_w: (chance() < 0.9).then_some(grid),
                    pv_w: (chance() < 0.8).then_some(pv),
                    consumption_w: (chance() < 0.8).then_some(chance() * 900.0),
                    soc_percent: (chance() < 0.7).then(|| (chance() * 100.0).round()),
                    import_price_pln_kwh: (chance() < 0.3).then(|| (chance() * 5.0).round() / 5.0),
                    export_price_pln_kwh: (chance() < 0.3).then(|| (chance() * 5.0).round() / 5.0),
                });
            }
        }
        samples
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(512), ..ProptestConfig::default() })]

    #[test]
    fn a_restart_between_any_two_samples_changes_nothing(samples in feed(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(samples.len())).collect();
        for kind in [Kind::Charging, Kind::Selling] {
            let whole = detect(kind, params(), &samples);
            let mut detector = Detector::new("bat", kind, params()).unwrap();
            let mut sessions = Vec::new();
            for (i, sample) in samples.iter().enumerate() {
                if cuts.contains(&i) {
                    let text = serde_json::to_string(&detector).unwrap();
                    detector = serde_json::from_str(&text).unwrap();
                }
                sessions.extend(detector.feed(sample).unwrap());
            }
            sessions.extend(detector.open_session());
            prop_assert_eq!(&sessions, &whole);
            for pair in sessions.windows(2) {
                prop_assert!(pair[1].start.0 - pair[0].end.0 > params().merge_pause_ns);
            }
            for session in &sessions {
                let parts = session.grid_kwh + session.local_kwh + session.unsplit_kwh;
                prop_assert!((session.energy_kwh - parts).abs() < 1e-9);
                prop_assert!(session.priced_kwh <= session.grid_kwh + 1e-9);
                prop_assert!(session.coverage() <= 1.0 && session.sample_count > 0);
            }
        }
    }

    #[test]
    fn late_samples_revise_what_detection_over_everything_finds(
        samples in feed(), from in any::<prop::sample::Index>(), length in 1_usize..12,
    ) {
        let first = from.index(samples.len());
        let last = (first + length).min(samples.len());
        let late = samples[first].time..Timestamp(samples[last - 1].time.0 + 1);
        let early: Vec<Sample> = samples.iter().filter(|sample| !late.contains(&sample.time)).copied().collect();
        for kind in [Kind::Charging, Kind::Selling] {
            let (old, whole) = (detect(kind, params(), &early), detect(kind, params(), &samples));
            let window = affected_window(&old, &late, &params());
            let read = samples.iter().filter(|sample| sample.time >= window.prices_from).copied();
            let again = redetect("bat", kind, params(), window, &old, read).unwrap();
            let inside = |session: &&Session| again.window.contains(&session.start);
            let replaced: Vec<Session> = old.iter().filter(inside).cloned().collect();
            let mut result: Vec<Session> = old.iter().filter(|session| !inside(session)).cloned().collect();
            result.extend(again.sessions.iter().cloned());
            result.sort_by_key(|session| session.start);
            prop_assert_eq!(&result, &whole, "window {:?}", again.window);
            // The changes turn the old list into the new one.
            let mut list: Vec<Session> = old.clone();
            for change in revise(&replaced, &again.sessions).changes {
                match change {
                    Change::Created(new) => list.push(new),
                    Change::Withdrawn(gone) => list.retain(|session| *session != gone),
                    Change::Changed { old, new } => {
                        let place = list.iter().position(|session| *session == old).unwrap();
                        prop_assert!(old != new && old.key() == new.key());
                        list[place] = new;
                    }
                }
            }
            list.sort_by_key(|session| session.start);
            prop_assert_eq!(list, whole);
        }
    }
}

/// A short feed on a coarse grid, so that every border of every rule is met exactly: steps of ten seconds, power that is on,
/// between the thresholds, or off.
fn grid() -> impl Strategy<Value = (Params, Vec<Sample>, usize, usize)> {
    let step = prop_oneof![12 => Just(1_i64), 2 => 2_i64..5, 1 => 5_i64..40];
    let level = prop_oneof![3 => Just(300.0), 2 => Just(150.0), 4 => Just(0.0)];
    let rules = (1_i64..9, 0_i64..6, 1_i64..4).prop_map(|(least, pause, gap)| Params {
        min_duration_ns: least * 10 * SECOND,
        merge_pause_ns: pause * 10 * SECOND,
        max_gap_ns: gap * 10 * SECOND,
        price_max_age_ns: 20 * SECOND,
        ..Params::default()
    });
    (rules, proptest::collection::vec((step, level), 1..70), 0_usize..70, 1_usize..6).prop_map(
        |(rules, list, late, length)| {
            let mut time = 0;
            let sample = |(step, level): (i64, f64)| {
                time += step;
                charge(time * 10, level)
            };
            (rules, list.into_iter().map(sample).collect(), late, length)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(8192), ..ProptestConfig::default() })]

    #[test]
    fn late_samples_at_every_border_revise_what_detection_over_everything_finds(
        (rules, samples, late, length) in grid(),
    ) {
        let first = late % samples.len();
        let last = (first + length).min(samples.len());
        let late = samples[first].time..Timestamp(samples[last - 1].time.0 + 1);
        let early: Vec<Sample> = samples.iter().filter(|sample| !late.contains(&sample.time)).copied().collect();
        let (old, whole) = (detect(Kind::Charging, rules, &early), detect(Kind::Charging, rules, &samples));
        let window = affected_window(&old, &late, &rules);
        let read = samples.iter().filter(|sample| sample.time >= window.prices_from).copied();
        let again = redetect("bat", Kind::Charging, rules, window, &old, read).unwrap();
        let outside = old.iter().filter(|session| !again.window.contains(&session.start));
        let mut result: Vec<Session> = outside.cloned().chain(again.sessions.iter().cloned()).collect();
        result.sort_by_key(|session| session.start);
        prop_assert_eq!(result, whole, "{:?} late {:?} window {:?}", rules, late, again.window);
    }

    #[test]
    fn after_late_samples_the_running_detector_goes_on_to_what_detection_over_everything_finds(
        (rules, samples, late, length) in grid(), more in 0_usize..40,
    ) {
        let first = late % samples.len();
        let last = (first + length).min(samples.len());
        let late = samples[first].time..Timestamp(samples[last - 1].time.0 + 1);
        let result = revised(rules, &samples, &late, last + more);
        let whole = detect(Kind::Charging, rules, &samples);
        prop_assert_eq!(result, whole, "{:?} late {:?}", rules, late);
    }
}

/// The sessions if those of `late` come after sample number `known`: detection again, and then the detector that goes on.
fn revised(rules: Params, samples: &[Sample], late: &Range<Timestamp>, known: usize) -> Vec<Session> {
    let (known, to_come) = samples.split_at(known.min(samples.len()));
    let mut running = Detector::new("bat", Kind::Charging, rules).unwrap();
    let on_time = known.iter().filter(|sample| !late.contains(&sample.time));
    let closed: Vec<Session> = on_time.filter_map(|sample| running.feed(sample).unwrap()).collect();
    let old: Vec<Session> = closed.iter().cloned().chain(running.open_session()).collect();
    let window = affected_window(&old, late, &rules);
    let read = known.iter().filter(|sample| sample.time >= window.prices_from).copied();
    let again = redetect("bat", Kind::Charging, rules, window, &old, read).unwrap();
    let mut running = again.detector.unwrap_or(running);
    let outside = closed.into_iter().filter(|session| !again.window.contains(&session.start));
    let inside = again.sessions.into_iter().filter(|session| session.status == Status::Closed);
    let mut result: Vec<Session> = outside.chain(inside).collect();
    result.extend(to_come.iter().filter_map(|sample| running.feed(sample).unwrap()));
    result.extend(running.open_session());
    result.sort_by_key(|session| session.start);
    result
}

/// All short feeds: whether a long row is on may hang on one late sample, which chance hardly makes.
#[test]
fn after_one_late_sample_every_short_feed_goes_on_rightly() {
    const LEN: usize = 8;
    let late = at(10)..at(11);
    for code in 0..3_usize.pow(LEN as u32) {
        let level = |place: usize| [0.0, 150.0, 300.0][code / 3_usize.pow(place as u32) % 3];
        let samples = powers(&std::array::from_fn::<f64, LEN, _>(level));
        for (least, pause, gap) in [(1, 2, 2), (2, 1, 2), (3, 2, 3), (3, 3, 2)] {
            let rules = Params {
                min_duration_ns: least * 10 * SECOND,
                merge_pause_ns: pause * 10 * SECOND,
                max_gap_ns: gap * 10 * SECOND,
                price_max_age_ns: 20 * SECOND,
                ..params()
            };
            let whole = detect(Kind::Charging, rules, &samples);
            for known in 2..=LEN {
                assert_eq!(revised(rules, &samples, &late, known), whole, "{rules:?} {known} of {samples:?}");
            }
        }
    }
}

/// Samples that change its start make an old session void; until its merge pause is over the running detector would add
/// the next run to it.
#[test]
fn an_old_session_holds_until_its_merge_pause_is_over() {
    let rules = Params {
        min_duration_ns: 20 * SECOND,
        merge_pause_ns: 50 * SECOND,
        max_gap_ns: 40 * SECOND,
        price_max_age_ns: 20 * SECOND,
        ..params()
    };
    let old =
        detect(Kind::Charging, rules, &powers(&[0.0, 300.0, 300.0, 300.0, 300.0, 300.0, 0.0, 0.0, 0.0]));
    assert_eq!(spans(&old), [(0, 60)]);
    let window = affected_window(&old, &(at(1)..at(2)), &rules);
    // Nothing of it is on any more: idle at every reading.
    let again: Vec<Sample> = (0..9).map(|i| charge(i * 10, 0.0)).collect();
    let held = redetect("bat", Kind::Charging, rules, window, &old, again.clone()).unwrap();
    assert!(held.detector.is_some(), "the pause lasts until 110 s: {held:?}");
    let longer = again.into_iter().chain((9..13).map(|i| charge(i * 10, 0.0)));
    let over = redetect("bat", Kind::Charging, rules, window, &old, longer).unwrap();
    assert_eq!((over.detector, over.window.end), (None, at(120)));
}

#[test]
fn a_late_batch_touches_only_what_it_reaches() {
    // Three sessions an hour apart; the late samples fill the middle of the second.
    let mut samples: Vec<Sample> = Vec::new();
    for hour in 0..3 {
        for i in 0..360 {
            let power = if (60..180).contains(&i) { 2000.0 } else { 0.0 };
            samples.push(charge(hour * 3600 + i * 10, power));
        }
    }
    let late = at(3600 + 900)..at(3600 + 1200);
    let early: Vec<Sample> = samples.iter().filter(|sample| !late.contains(&sample.time)).copied().collect();
    let old = detect(Kind::Charging, params(), &early);
    assert_eq!(old.len(), 4);
    let window = affected_window(&old, &late, &params());
    // Only what is read counts: the reader is asked for no more than it needs.
    let mut read = 0;
    let source = samples.iter().filter(|sample| sample.time >= window.prices_from).inspect(|_| read += 1);
    let again = redetect("bat", Kind::Charging, params(), window, &old, source.copied()).unwrap();
    assert!(read < 400, "{read} samples of {}", samples.len());
    let inside: Vec<Session> =
        old.iter().filter(|session| again.window.contains(&session.start)).cloned().collect();
    let revision = revise(&inside, &again.sessions);
    assert_eq!(revision.changes.len(), 2, "{revision:?}");
    assert!(matches!(&revision.changes[0], Change::Changed { old, new }
        if old.start == new.start && old.end < new.end && old.start == at(3600 + 590)));
    assert!(matches!(&revision.changes[1], Change::Withdrawn(gone) if gone.start == at(3600 + 1200)));
    assert_eq!(revise(&old, &old), Revision::default());
}
