//! Manifests: any payload is an edit that means the same when it is written again, or none; of any damage to a
//! manifest that was written, what is read is what it said at some moment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use wattlog_engine::OpenError;
use wattlog_engine::check;
use wattlog_engine::ids::StoreId;
use wattlog_engine::io::Disk;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::manifest::{Edit, Manifest, ManifestCondition, State};
use wattlog_fuzz::{take_flips, turn_over};

const STORE: StoreId = StoreId([7; 16]);

fuzz_target!(|data: &[u8]| {
    let Some((flips, rest)) = take_flips(data, 4) else { return };
    let mut edits = Vec::new();
    for payload in rest.split(|byte| *byte == 0xfe) {
        let Some(edit) = Edit::decode(payload) else { continue };
        let mut again = Vec::new();
        edit.encode(&mut again);
        assert_eq!(Edit::decode(&again).as_ref(), Some(&edit), "what was accepted means the same again");
        // A snapshot in the middle may go back: the writer makes none there.
        if !matches!(edit, Edit::Snapshot(_)) {
            edits.push(edit);
        }
    }
    damaged(&edits, &flips);
});

fn damaged(edits: &[Edit], flips: &[(usize, u8)]) {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    disk.create_dir("manifest").expect("a new disk");
    let (mut manifest, condition) = Manifest::open(&disk, STORE).expect("nothing is there");
    assert_eq!(condition, ManifestCondition::Fresh);
    manifest.append(&Edit::Snapshot(manifest.state().clone()), 0).expect("a disk that works");
    let mut said: Vec<State> = vec![manifest.state().clone()];
    for edit in edits {
        manifest.append(edit, 0).expect("a disk that works");
        said.push(manifest.state().clone());
    }
    let path = sim.paths().pop().expect("a manifest was made").0;
    let mut bytes = sim.read_file(&path).expect("a manifest was made");
    turn_over(&mut bytes, flips);
    let untouched = flips.iter().all(|(_, mask)| *mask == 0);
    sim.write_file(&path, bytes);
    let (read, condition) = match Manifest::open(&disk, STORE) {
        Ok(opened) => opened,
        // The flips hit the checksum of the header as well, and it fits.
        Err(OpenError::TooNew { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let newest = said.last().expect("one at least");
    match &condition {
        ManifestCondition::Fresh => panic!("something is there"),
        ManifestCondition::Whole => assert_eq!(read.state(), newest),
        ManifestCondition::TornTail(_) => assert!(said.contains(read.state())),
        ManifestCondition::Damaged(damage) => {
            assert!(!damage.is_empty());
            assert!(said.contains(read.state()) || read.state().edit == 0);
        }
    }
    assert!(!untouched || condition == ManifestCondition::Whole, "{condition:?}");
    check::file(&*disk, &path).expect("a manifest by its name");
    check::dump(&*disk, &path).expect("a manifest by its name");
}
