//! `kill -9` at any moment, then the same command again: the same as one run.
//!
//! `WATTLOG_KILLS` sets how many, `WATTLOG_SEED` which.

use crate::asked::Answers;
use crate::support::{Dice, knob};
use crate::{Home, migrate_support};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn killed_and_begun_again_is_one_import() {
    let tree = tempfile::tempdir().unwrap();
    // The same days told by several trees: records that replace each other, in every order of killing.
    for part in 1..=4 {
        migrate_support::generator::make(&tree.path().join(format!("part{part}")), part);
    }
    let whole = Home::new();
    let begin = Instant::now();
    whole.import(tree.path(), &[]);
    let took_ms = begin.elapsed().as_millis() as u64;
    let expected = Answers::of(&whole);
    assert!(expected.points["energy_data"].len() > 500, "enough to be killed in the middle of");

    let kills = knob("WATTLOG_KILLS", 8);
    let mut dice = Dice(knob("WATTLOG_SEED", 1));
    let mut broken = Home::new();
    let mut met = 0;
    for round in 0..kills {
        let mut child = broken
            .command(tree.path(), &["--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(dice.roll(took_ms + took_ms / 4)));
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        met += u64::from(!ended);
        // Half of the time the next run is killed too.
        if !ended && dice.roll(2) == 0 && round + 1 < kills {
            continue;
        }
        let (_, report) = broken.import(tree.path(), &["--validate"]);
        assert_eq!(report["validation"]["differences"], serde_json::json!([]), "round {round}");
        expected.assert_same(&Answers::of(&broken), &format!("round {round}"));
        broken = Home::new();
    }
    println!("interrupted: {met} of {kills} kills met a running import of {took_ms} ms");
    assert!(met > 0, "no kill met a running import");
}
