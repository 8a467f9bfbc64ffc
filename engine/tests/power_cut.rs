//! Power cuts on the simulated disk: what was acknowledged is there, what is there was written, and it always opens.
//!
//! Random lives are cut at a random call, short ones at every call, before it and after it; each cut comes back in
//! several ways: nothing that was not synced survives, everything does, or some of it in pieces. A quarter are cut again
//! while they recover. The rules are those of `support/verdict.rs`.
//!
//! `WATTLOG_POWER_CUTS=20000` makes more cuts, `WATTLOG_SEED=n` runs the life of one seed again, `WATTLOG_TRACE=1` lists
//! its disk calls.

#[macro_use]
#[path = "support/read_modes.rs"]
mod read_modes;
mod support;

use std::time::Duration;
use support::content::{Body, Cell, Exact};
use support::history::{START_NS, Step};
use support::seeds::{seeds, wanted_cuts};
use support::trial::{Mutation, Tally, trial, trial_at};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::CutMoment;
use wattlog_engine::options::Options;
use wattlog_model::FieldValue;

on_both_read_modes! {
    random_lives_survive,
    a_short_life_survives_a_cut_before_and_after_every_call,
}

fn random_lives_survive(read_mode: ReadMode) {
    let mut tally = Tally::default();
    // Four ways to come back for each life, on each of two ways of reading.
    for (done, seed) in seeds("power_cut", 250).into_iter().enumerate() {
        // A long run that was ended goes on from here.
        if done > 0 && done % 2000 == 0 {
            println!("{read_mode:?}: {tally:?}, next WATTLOG_SEED={seed}");
        }
        match trial(seed, read_mode, Mutation::None) {
            Ok(cuts) => tally.add(cuts),
            Err(wrong) => panic!("WATTLOG_SEED={seed} ({read_mode:?}): {wrong}"),
        }
    }
    println!("{read_mode:?}: {tally:?}");
    if std::env::var_os("WATTLOG_SEED").is_none() {
        assert!(tally.cuts >= wanted_cuts() / 2, "{tally:?}");
        assert!(tally.twice * 5 >= tally.cuts && tally.young * 4 >= tally.cuts, "{tally:?}");
    }
}

/// A new store, two databases, a seal, a late point, a rewrite, retention that hides the late point, a clean end and a second
/// start.
fn short_life() -> Vec<Step> {
    let body = |database, times: &[i64], power: f64| {
        let cells = times.iter().flat_map(|time| {
            let cell = move |field| Cell { database, series: 0, time: START_NS + time, field };
            [(cell(0), Exact(FieldValue::Float(power))), (cell(5), Exact(FieldValue::String("eco".into())))]
        });
        Step::Write(Body::new(database, cells.collect()))
    };
    vec![
        body(0, &[0, 10], 1.5),
        body(2, &[0, 10], 2.5),
        Step::Seal,
        body(0, &[-1_000_000, 10], 3.5),
        body(2, &[20], 4.5),
        Step::Write(Body { cutoff: Some(START_NS - 10), ..Body::new(0, Vec::new()) }),
        Step::Wait(Duration::from_secs(11)),
        Step::Seal,
        Step::Reopen,
        body(0, &[30], 5.5),
    ]
}

fn a_short_life_survives_a_cut_before_and_after_every_call(read_mode: ReadMode) {
    let options =
        Options { read_mode, ballast_bytes: 4096, min_retention: Duration::ZERO, ..Options::default() };
    let history = short_life();
    let mut tally = Tally::default();
    let mut last = 0;
    for moment in [CutMoment::Before, CutMoment::After] {
        for nth in 1.. {
            match trial_at(&history, &options, (nth, moment), Mutation::None) {
                Ok(Some(cuts)) => tally.add(cuts),
                Ok(None) => {
                    last = nth - 1;
                    break;
                }
                Err(wrong) => panic!("cut {moment:?} call {nth}: {wrong}"),
            }
        }
    }
    println!("{last} calls: {tally:?}");
    assert!(last > 50, "the life is too short to say anything: {last} calls");
}
