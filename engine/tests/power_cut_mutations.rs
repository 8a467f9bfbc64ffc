//! Proof of the proof: if the store left out any one sync, the power-cut suite would say so.
//!
//! A switch of the simulated disk makes the syncs of one named kind of file or directory do nothing. For each of them
//! the same trials as in `power_cut.rs` must find a violation, within far fewer cuts than that suite makes.

mod support;

use support::trial::{Mutation, Tally, trial};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::SyncName;

/// Trials until one fails; the number of cuts that took.
fn cuts_until_found(mutation: Mutation) -> Result<(u64, String), Tally> {
    let mut tally = Tally::default();
    for seed in 1..=MOST_TRIALS {
        let read_mode = if seed % 2 == 0 { ReadMode::Map } else { ReadMode::Pread };
        match trial(seed, read_mode, mutation) {
            Ok(cuts) => tally.add(cuts),
            Err(wrong) => return Ok((tally.cuts + 1, wrong)),
        }
    }
    Err(tally)
}

#[test]
fn every_sync_that_is_left_out_is_found() {
    let mut missed = Vec::new();
    for name in NEEDED {
        match cuts_until_found(Mutation::Skip(name)) {
            Ok((cuts, wrong)) => {
                let wrong: String = wrong.chars().take(160).collect();
                println!("{name:?}: found after {cuts} cuts: {wrong}");
            }
            Err(tally) => missed.push(format!("{name:?} not found by {tally:?}")),
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_disk_that_lies_is_found() {
    let (cuts, _) = cuts_until_found(Mutation::Lie).expect("found");
    assert!(cuts < 100, "found only after {cuts} cuts");
}

/// All names but those that no promise hangs on: the ballast (space, not data), what was set aside as damaged, and the lock.
const NEEDED: [SyncName; 9] = [
    SyncName::RootDir,
    SyncName::WalDir,
    SyncName::SegmentsDir,
    SyncName::CatalogDir,
    SyncName::ManifestDir,
    SyncName::WalFile,
    SyncName::SegmentFile,
    SyncName::CatalogFile,
    SyncName::ManifestFile,
];

/// Some 2 000 cuts.
const MOST_TRIALS: u64 = 500;
