//! Tables of what happens when, and that neither batches, replays, restarts nor clocks change it.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use wattlog_model::Timestamp;

const SECOND: i64 = 1_000_000_000;

fn rule(condition: Condition, hold_s: i64) -> Rule {
    Rule {
        id: "r".to_owned(),
        input: Input::Price { figure: PriceFigure::Total },
        condition,
        hold_ns: hold_s * SECOND,
        stale_after_ns: None,
        severity: Severity::Warning,
    }
}

fn above(hold_s: i64) -> Rule {
    rule(Condition::Above { fire: 10.0, clear: 8.0 }, hold_s)
}

fn absent(longer_s: i64, hold_s: i64) -> Rule {
    rule(Condition::Absent { longer_than_ns: longer_s * SECOND }, hold_s)
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * SECOND)
}

fn samples(list: &[(i64, f64)]) -> Vec<Sample> {
    list.iter().map(|(second, value)| Sample { time: at(*second), value: *value }).collect()
}

/// (second, phase, second of the episode)
type Row = (i64, PhaseName, i64);

fn rows(transitions: &[Transition]) -> Vec<Row> {
    transitions.iter().map(|t| (t.time.0 / SECOND, t.to, t.episode.0 / SECOND)).collect()
}

fn check(rule: &Rule, list: &[(i64, f64)], now: i64, expected: &[Row]) {
    let begun = evaluate(rule, State::default(), &[], at(0)).unwrap().state;
    let result = evaluate(rule, begun, &samples(list), at(now)).unwrap();
    assert_eq!(rows(&result.transitions), expected, "{rule:?} {list:?}");
}

use PhaseName::{Firing, Ok as Quiet, Pending, Resolved};

#[test]
fn a_threshold_has_hysteresis() {
    check(
        &above(0),
        &[(1, 9.9), (2, 10.0), (3, 8.0), (4, 7.9), (5, 9.0), (6, 11.0)],
        9,
        &[(2, Firing, 2), (4, Resolved, 2), (6, Firing, 6)],
    );
    let below = rule(Condition::Below { fire: 5.0, clear: 7.0 }, 0);
    check(&below, &[(1, 5.1), (2, 5.0), (3, 7.0), (4, 7.1)], 9, &[(2, Firing, 2), (4, Resolved, 2)]);
}

#[test]
fn it_fires_when_it_has_held_for_long_enough() {
    check(&above(10), &[(1, 20.0)], 10, &[(1, Pending, 1)]);
    check(&above(10), &[(1, 20.0)], 11, &[(1, Pending, 1), (11, Firing, 1)]);
    // The value holds until the next sample, whenever that is seen.
    check(&above(10), &[(1, 20.0), (30, 0.0)], 40, &[(1, Pending, 1), (11, Firing, 1), (30, Resolved, 1)]);
    check(&above(10), &[(1, 20.0), (8, 0.0)], 40, &[(1, Pending, 1), (8, Quiet, 1)]);
    // A sample at the very instant decides.
    check(&above(10), &[(1, 20.0), (11, 0.0)], 40, &[(1, Pending, 1), (11, Quiet, 1)]);
    check(&above(10), &[(1, 20.0), (11, 9.0)], 40, &[(1, Pending, 1), (11, Firing, 1)]);
    // Between clear and fire a pending one stays so.
    check(&above(10), &[(1, 20.0), (5, 8.5)], 11, &[(1, Pending, 1), (11, Firing, 1)]);
}

#[test]
fn a_value_that_is_too_old_makes_nothing_fire() {
    let rule = Rule { stale_after_ns: Some(5 * SECOND), ..above(10) };
    check(&rule, &[(1, 20.0)], 40, &[(1, Pending, 1), (6, Quiet, 1)]);
    check(&rule, &[(1, 20.0), (5, 20.0), (9, 20.0)], 40, &[(1, Pending, 1), (11, Firing, 1)]);
    // What fires goes on in silence.
    check(
        &rule,
        &[(1, 20.0), (5, 20.0), (9, 20.0), (90, 0.0)],
        99,
        &[(1, Pending, 1), (11, Firing, 1), (90, Resolved, 1)],
    );
}

#[test]
fn absence_is_due_after_the_last_sample_or_after_the_first_question() {
    check(&absent(60, 0), &[], 59, &[]);
    check(&absent(60, 0), &[], 60, &[(60, Firing, 60)]);
    check(&absent(60, 0), &[(10, 1.0), (70, 1.0)], 129, &[]);
    check(&absent(60, 0), &[(10, 1.0), (71, 1.0)], 100, &[(70, Firing, 70), (71, Resolved, 70)]);
    check(&absent(60, 30), &[(10, 1.0), (99, 1.0)], 100, &[(70, Pending, 70), (99, Quiet, 70)]);
    check(&absent(60, 30), &[(10, 1.0)], 100, &[(70, Pending, 70), (100, Firing, 70)]);
}

#[test]
fn a_rise_is_taken_over_its_time() {
    let rising = rule(Condition::Rising { fire: 36.0, clear: 18.0, over_ns: 100 * SECOND }, 0);
    // 0.01 a second are 36 an hour; half of the time must be there.
    let slow: Vec<(i64, f64)> = (0..40).map(|i| (i * 10, i as f64 * 0.09)).collect();
    check(&rising, &slow, 400, &[]);
    let quick: Vec<(i64, f64)> =
        (0..40).map(|i| (i * 10, if i < 20 { i as f64 * 0.11 } else { 2.09 })).collect();
    let result = evaluate(&rising, State::default(), &samples(&quick), at(400)).unwrap();
    let found = rows(&result.transitions);
    assert_eq!((found.len(), found[0], found[1].1), (2, (50, Firing, 50), Resolved), "{found:?}");
    assert!(found[1].0 > 240 && found[1].0 <= 280, "{found:?}");
    assert!((result.transitions[0].value.unwrap() - 39.6).abs() < 1e-9);
    // After a hole the change is not known: what was judged before it is what the transition tells.
    let slow_to_fire = Rule { hold_ns: 400 * SECOND, ..rising.clone() };
    let with_hole: Vec<(i64, f64)> = quick[..10].iter().copied().chain([(300, 9.0)]).collect();
    let result = evaluate(&slow_to_fire, State::default(), &samples(&with_hole), at(500)).unwrap();
    assert_eq!(rows(&result.transitions), [(50, Pending, 50), (450, Firing, 50)]);
    assert!((result.transitions[1].value.unwrap() - 39.6).abs() < 1e-9, "{:?}", result.transitions);
    let falling = rule(Condition::Falling { fire: 36.0, clear: 18.0, over_ns: 100 * SECOND }, 0);
    let down: Vec<(i64, f64)> = quick.iter().map(|(t, v)| (*t, -v)).collect();
    check(&falling, &down, 400, &found);
}

#[test]
fn a_rise_remembers_little_whatever_comes() {
    let rising = rule(Condition::Rising { fire: 1.0, clear: 1.0, over_ns: 1000 * SECOND }, 0);
    let list: Vec<Sample> =
        (0..100_000).map(|i| Sample { time: Timestamp(i * SECOND / 10), value: (i % 7) as f64 }).collect();
    let state = evaluate(&rising, State::default(), &list, at(10_000)).unwrap().state;
    assert!(state.recent.len() <= 130, "{}", state.recent.len());
}

#[test]
fn samples_that_are_late_ahead_or_no_numbers_are_counted_and_change_nothing() {
    let list = samples(&[(5, 20.0), (5, 0.0), (4, 0.0), (6, f64::NAN), (900, 0.0)]);
    let result = evaluate(&above(0), State::default(), &list, at(10)).unwrap();
    assert_eq!(rows(&result.transitions), [(5, Firing, 5)]);
    assert_eq!(result.ignored, Ignored { late: 2, ahead: 1, not_finite: 1 });
    // What was ahead is taken when its time has come.
    let later = evaluate(&above(0), result.state, &list, at(900)).unwrap();
    assert_eq!(rows(&later.transitions), [(900, Resolved, 5)]);
}

#[test]
fn a_clock_that_was_ahead_does_no_lasting_harm() {
    // It is a year ahead when the rule begins, and again later.
    let year = 366 * 86_400;
    let rule = absent(60, 0);
    let state = evaluate(&rule, State::default(), &[], at(year)).unwrap().state;
    let result = evaluate(&rule, state, &[], at(100)).unwrap();
    assert_eq!(result.transitions, []);
    let result = evaluate(&rule, result.state, &[], at(160)).unwrap();
    assert_eq!(rows(&result.transitions), [(160, Firing, 160)]);
    let result = evaluate(&rule, result.state, &samples(&[(170, 1.0)]), at(175)).unwrap();
    assert_eq!(rows(&result.transitions), [(170, Resolved, 160)]);
    let result = evaluate(&rule, result.state, &[], at(year)).unwrap();
    assert_eq!(rows(&result.transitions), [(230, Firing, 230)]);
    // Back again: the samples of the right time end it, and nothing flaps.
    let mut state = result.state;
    let mut all = Vec::new();
    for i in 0..20 {
        let time = 180 + i * 10;
        let result = evaluate(&rule, state, &samples(&[(time, 1.0)]), at(time + 1)).unwrap();
        all.extend(rows(&result.transitions));
        state = result.state;
    }
    assert_eq!(all, [(180, Resolved, 230)]);
}

#[test]
fn due_tells_when_to_ask_again() {
    let rule = above(10);
    let state = evaluate(&rule, State::default(), &samples(&[(1, 20.0)]), at(2)).unwrap().state;
    assert_eq!(due(&rule, &state), Some(at(11)));
    let state = evaluate(&rule, state, &[], at(11)).unwrap().state;
    assert_eq!(due(&rule, &state), None);
    assert_eq!(due(&absent(60, 0), &State { begun: Some(at(5)), ..State::default() }), Some(at(65)));
    assert_eq!(due(&absent(60, 0), &State::default()), None);
}

#[test]
fn a_key_names_rule_episode_and_phase() {
    let result = evaluate(&above(0), State::default(), &samples(&[(5, 20.0)]), at(10)).unwrap();
    assert_eq!(result.transitions[0].key(), "r/5000000000/firing");
    let text = serde_json::to_string(&result.transitions[0]).unwrap();
    assert_eq!(serde_json::from_str::<Transition>(&text).unwrap(), result.transitions[0]);
}

#[test]
fn rules_without_sense_are_refused() {
    let quality = Input::Quality {
        measurement: "energy_data".to_owned(),
        tags: std::collections::BTreeMap::new(),
        field: "pv_power".to_owned(),
        figure: QualityFigure::Score,
    };
    for (bad, reason) in [
        (Rule { id: String::new(), ..above(0) }, "id"),
        (Rule { id: "a/b".to_owned(), ..above(0) }, "id"),
        (rule(Condition::Above { fire: 1.0, clear: 2.0 }, 0), "quiet side"),
        (rule(Condition::Below { fire: 2.0, clear: 1.0 }, 0), "quiet side"),
        (rule(Condition::Above { fire: f64::NAN, clear: 2.0 }, 0), "quiet side"),
        (rule(Condition::Rising { fire: 1.0, clear: 1.0, over_ns: 0 }, 0), "times"),
        (absent(0, 0), "times"),
        (above(-1), "hold_ns"),
        (Rule { hold_ns: i64::MAX, ..above(0) }, "hold_ns"),
        (Rule { stale_after_ns: Some(0), ..above(0) }, "stale_after_ns"),
        (
            Rule { input: quality, condition: Condition::Below { fire: 99.0, clear: 99.5 }, ..above(0) },
            "share",
        ),
    ] {
        let error = evaluate(&bad, State::default(), &[], at(0)).unwrap_err();
        assert!(error.problem.contains(reason), "{error}");
    }
}

#[test]
fn rules_are_written_as_data() {
    let text = r#"{"id":"disk","input":{"storage":{"figure":"free_bytes"}},
        "condition":{"below":{"fire":1e9,"clear":2e9}},"severity":"critical"}"#;
    let disk: Rule = serde_json::from_str(text).unwrap();
    assert_eq!((disk.hold_ns, disk.severity, disk.check()), (0, Severity::Critical, Ok(())));
    let text = r#"{"id":"pv","input":{"field":{"measurement":"energy_data","field":"pv_power"}},
        "condition":{"absent":{"longer_than_ns":600000000000}},"hold_ns":5}"#;
    let pv: Rule = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&serde_json::to_string(&pv).unwrap()).unwrap(), pv);
    for bad in [r#""conditions":1"#, r#""hold":5"#] {
        let text = text.replace(r#""hold_ns":5"#, bad);
        assert!(serde_json::from_str::<Rule>(&text).is_err(), "{text}");
    }
}

#[test]
fn times_at_the_ends_of_the_range_do_no_harm() {
    let ends = [Timestamp::MIN, Timestamp(0), Timestamp::MAX];
    for rule in
        [above(0), above(10), absent(60, 5), rule(Condition::Rising { fire: 1.0, clear: 0.0, over_ns: 5 }, 1)]
    {
        for now in ends {
            let list: Vec<Sample> = ends.iter().map(|time| Sample { time: *time, value: 1e308 }).collect();
            let state = evaluate(&rule, State::default(), &list, now).unwrap().state;
            for now in ends {
                evaluate(&rule, state.clone(), &list, now).unwrap();
            }
        }
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let condition = prop_oneof![
        Just(Condition::Above { fire: 10.0, clear: 7.0 }),
        Just(Condition::Below { fire: 4.0, clear: 6.0 }),
        (5_i64..60).prop_map(|s| Condition::Absent { longer_than_ns: s * SECOND }),
        (10_i64..200).prop_map(|s| Condition::Rising { fire: 300.0, clear: 100.0, over_ns: s * SECOND }),
        (10_i64..200).prop_map(|s| Condition::Falling { fire: 300.0, clear: 100.0, over_ns: s * SECOND }),
    ];
    let stale = proptest::option::of(1_i64..80);
    (condition, prop_oneof![Just(0_i64), 1_i64..60], stale).prop_map(|(condition, hold, stale)| Rule {
        stale_after_ns: stale.map(|s| s * SECOND),
        ..rule(condition, hold)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1024), ..ProptestConfig::default() })]

    #[test]
    fn batches_replays_restarts_and_a_clock_set_back_change_nothing(
        rule in any_rule(),
        list in proptest::collection::vec((1_i64..40, 0.0_f64..14.0), 0..60),
        asks in proptest::collection::btree_set(1_i64..1500, 0..40),
        back in 0_i64..2000,
    ) {
        let mut second = 0;
        let list: Vec<Sample> = list
            .iter()
            .map(|(step, value)| {
                second += step;
                Sample { time: at(second), value: *value }
            })
            .collect();
        let end = at(1600);
        let begun = evaluate(&rule, State::default(), &[], at(0)).unwrap().state;
        let known = |now: Timestamp| list.partition_point(|sample| sample.time <= now);
        let whole = evaluate(&rule, begun.clone(), &list[..known(end)], end).unwrap();

        let (mut state, mut all) = (begun, Vec::new());
        let mut done = 0;
        for now in asks.iter().map(|second| at(*second)).chain([end]) {
            let upto = known(now);
            let before = state.clone();
            let result = evaluate(&rule, state, &list[done..upto], now).unwrap();
            // The state of before a restart, asked again, gives the same keys.
            let again = evaluate(&rule, before, &list[done..upto], now).unwrap();
            prop_assert_eq!(&again, &result);
            all.extend(result.transitions);
            // Everything once more, and a clock that was set back: nothing new.
            let text = serde_json::to_string(&result.state).unwrap();
            state = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&state, &result.state);
            let replay = evaluate(&rule, state.clone(), &list[..upto], now).unwrap();
            prop_assert_eq!(&replay.transitions, &[]);
            prop_assert_eq!(replay.ignored.late, upto as u64);
            prop_assert_eq!(&replay.state, &state);
            let earlier = Timestamp(now.0.saturating_sub(back * SECOND).max(0));
            let set_back = evaluate(&rule, state.clone(), &[], earlier).unwrap();
            prop_assert_eq!(&set_back.transitions, &[]);
            prop_assert_eq!(&set_back.state, &state);
            done = upto;
        }
        prop_assert_eq!(&all, &whole.transitions);
        prop_assert_eq!(state, whole.state);
        let keys: BTreeSet<String> = all.iter().map(Transition::key).collect();
        prop_assert_eq!(keys.len(), all.len());
        prop_assert!(all.windows(2).all(|pair| pair[0].time <= pair[1].time));
        // Phases follow each other as they may.
        let mut phase = Quiet;
        for transition in &all {
            let may = matches!(
                (phase, transition.to),
                (Quiet | Resolved, Pending | Firing) | (Pending, Firing | Quiet) | (Firing, Resolved)
            );
            prop_assert!(may, "{:?} to {:?}", phase, transition);
            phase = transition.to;
        }
    }
}
