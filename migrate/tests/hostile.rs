//! Any bytes end in an answer, and damage costs what it hits and nothing else.

mod support;

use proptest::prelude::*;
use std::fs;
use std::path::Path;
use support::generator::make;
use support::truth::{Seed, State, pretty};
use support::{DEVICE, Migrated, migrate, migrate_with, utc};
use wattlog_migrate::{Kind, Options, Rule};

const NAMES: [&str; 6] = [
    "out/energy_data/energy_data_2025-12-02.json",
    "out/charging_decision_20251203.json",
    "out/coordinator_state_20251203.json",
    "data/price_history.json",
    "out/energy_data/energy_data_2025-12-09.json.gz",
    "data/goodwe_energy.db",
];

fn read_one(name: &str, bytes: &[u8]) -> Migrated {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), name, bytes);
    migrate(folder.path(), None)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bytes that look like JSON more often than chance has it.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\n  ",
        " ",
        "\"timestamp\"",
        "\"2025-10-26T02:30:00\"",
        "\"data\"",
        "\"sessions\"",
        "\"battery\"",
        "\"pv_power\"",
        "\"action\"",
        "NaN",
        "-Infinity",
        "-1e999",
        "1",
        "0.5",
        "null",
        "true",
        "\"parameters\"",
        "\u{FEFF}",
        "ż",
        "\u{0}",
        "\"date\"",
        "\"2025-12-02\"",
        "\"state\"",
        "\"current_data\"",
        "\"record_count\"",
        "\"forecasts\"",
        "{\"timestamp\": \"2025-12-02T22:40:40\", \"pv_power\": 5}",
    ]);
    prop::collection::vec(pieces, 0..120).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(name in prop::sample::select(NAMES.to_vec()), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let migrated = read_one(name, &bytes);
        prop_assert_eq!(migrated.report.files.len(), 1);
        prop_assert!(migrated.out.records.len() <= bytes.len());
    }

    #[test]
    fn almost_json_ends_in_an_answer(name in prop::sample::select(NAMES[..4].to_vec()), bytes in almost_json()) {
        let migrated = read_one(name, &bytes);
        prop_assert!(migrated.out.records.len() <= bytes.len());
        prop_assert!(migrated.out.refusals.len() <= bytes.len());
    }

    #[test]
    fn a_changed_byte_costs_at_most_the_records_around_it(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let count = 12;
        let text = list(seed, count);
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let migrated = read_one(NAMES[0], &bytes);
        let kept = migrated.report.kinds.get(&Kind::Reading).map_or(0, |counts| counts.read - counts.refused);
        // A quotation mark may open a text that runs to its line's end; nothing runs further.
        prop_assert!(kept + 2 >= count, "{kept} of {count} after byte {at} became {byte:#04x}");
    }
}

fn list(seed: u64, count: u64) -> String {
    let mut seed = Seed(seed);
    let start = utc("2025-12-02T10:00:00Z").0 / 1000;
    let states = (0..count.cast_signed()).map(|index| State::random(&mut seed, start + index * 60_000_001));
    pretty(&states.map(|state| serde_json::Value::Object(state.flat())).collect())
}

#[test]
fn a_list_cut_at_any_byte_keeps_its_whole_records() {
    let text = list(3, 4);
    for end in 0..=text.len() {
        let whole = text[..end].matches("\n  }").count() as u64;
        let migrated = read_one(NAMES[0], &text.as_bytes()[..end]);
        let file = migrated.file(NAMES[0]);
        assert_eq!(file.kept(Kind::Reading), whole, "cut at {end}");
        let complete = end == 0 || end == text.len();
        assert_eq!(file.unread == 0, complete, "the cut at {end} is told: {:?}", migrated.out.refusals);
    }
}

#[test]
fn lines_cut_at_any_byte_keep_their_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), 11);
    let text = fs::read_to_string(folder.path().join(NAMES[1])).unwrap();
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        let whole = text[..end].lines().filter(|line| line.ends_with('}')).count() as u64;
        let migrated = read_one(NAMES[1], &text.as_bytes()[..end]);
        assert_eq!(migrated.file(NAMES[1]).kept(Kind::Decision), whole, "cut at {end}");
    }
}

#[test]
fn an_archive_cut_at_any_byte_gives_a_prefix_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), 11);
    let bytes = fs::read(folder.path().join(NAMES[4])).unwrap();
    let mut most = 0;
    for end in 1..bytes.len() {
        let migrated = read_one(NAMES[4], &bytes[..end]);
        let kept = migrated.file(NAMES[4]).kept(Kind::Reading);
        assert!(kept >= most, "{kept} after {most} at {end}");
        assert!(migrated.file(NAMES[4]).unread > 0, "the cut at {end} is told");
        most = kept;
    }
    assert!(most >= 30, "{most} records before the last byte");
}

#[test]
fn a_store_with_any_damage_ends_in_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), 11);
    let database = fs::read(folder.path().join(NAMES[5])).unwrap();
    let log = fs::read(folder.path().join("data/goodwe_energy.db-wal")).unwrap();
    let mut seed = Seed(5);
    for case in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let (mut database, mut log) = (database.clone(), log.clone());
        for bytes in [&mut database, &mut log] {
            for _ in 0..seed.between(0, 200) {
                let at = seed.between(0, bytes.len() as i64 - 1) as usize;
                bytes[at] = seed.next() as u8;
            }
            if seed.between(0, 3) == 0 {
                let len = seed.between(0, bytes.len() as i64) as usize;
                bytes.truncate(len);
            }
        }
        put(folder.path(), NAMES[5], &database);
        put(folder.path(), "data/goodwe_energy.db-wal", &log);
        let migrated = migrate(folder.path(), None);
        assert!(migrated.out.records.len() <= 40, "case {case}: {}", migrated.out.records.len());
    }
}

#[test]
fn refusals_are_told_up_to_a_limit_and_counted_beyond() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), NAMES[1], "{\"timestamp\": 1, \"action\": \"wait\"}\n".repeat(50).as_bytes());
    let mut options = Options::new(DEVICE);
    options.limits.refusals_per_file = 7;
    let migrated = migrate_with(folder.path(), None, options);
    assert_eq!(migrated.out.refusals.len(), 7);
    assert_eq!(migrated.report.kinds[&Kind::Decision].refused, 50);
}

#[test]
fn a_text_longer_than_allowed_is_refused_and_the_next_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), 11);
    let mut options = Options::new(DEVICE);
    options.limits.store_text_bytes = 40;
    let migrated = migrate_with(folder.path(), None, options);
    let file = migrated.file(NAMES[5]);
    assert_eq!(file.kept(Kind::Reading), 9);
    assert!(file.kinds[&Kind::Decision].refused > 0, "{file:?}");
    assert!(migrated.out.refusals.iter().any(|refusal| refusal.reason.contains("store_text_bytes")));
}

#[test]
fn a_list_whose_every_element_holds_a_number_that_is_none_is_read_in_one_walk() {
    const COUNT: u64 = 100_000;
    let elements: Vec<String> = (0..COUNT)
        .map(|index| {
            let (hour, minute, second) = (index / 3600 % 24, index / 60 % 60, index % 60);
            let day = 1 + index / 86_400;
            format!(r#"{{"timestamp":"2025-12-{day:02}T{hour:02}:{minute:02}:{second:02}","pv_power":1,"battery_soc":NaN}}"#)
        })
        .collect();
    let text = format!(r#"{{"record_count":{COUNT},"data":[{}]}}"#, elements.join(","));
    // Each element asking every mark would be ten thousand million comparisons of text.
    let migrated = read_one("out/energy_data/energy_data_20251202_030300_724320.json", text.as_bytes());
    let file = &migrated.report.files[0];
    assert_eq!((file.kept(Kind::Reading), file.repairs[&Rule::NotFinite]), (COUNT, COUNT));
}
