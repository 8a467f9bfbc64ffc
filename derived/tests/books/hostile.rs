//! Points, deletes, rules of age and zones that used to stop the books, or to make them forget what they knew.

use super::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::Range;
use wattlog_engine::Rule;
use wattlog_engine::query::{QueryRequest, ResultSeries};

/// A delete of points of the battery's measurement, or of another.
fn delete(home: &Home, measurement: &str, times: (i64, i64)) {
    let request = DeleteRequest {
        database: "wattlog".to_owned(),
        retention_policy: None,
        measurement: Some(measurement.to_owned()),
        fields: None,
        tags: Vec::new(),
        start: Timestamp(times.0),
        end: Timestamp(times.1),
    };
    home.engine.delete(&request).unwrap();
}

/// Reports by their start, when they are so many and `done` says that they are those that are waited for.
async fn reports(home: &Home, count: usize, done: impl Fn(&[Stored<Report>]) -> bool) -> Vec<Stored<Report>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        home.settle().await;
        let mut found = home.all::<Report>().await;
        found.sort_by_key(|report| report.record.start);
        if found.len() == count && done(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:#?} {:?}", home.books.status());
    }
}

/// One point of a clock that had not been set: half a century of prices by the minute filled the memory, and each day of it was
/// looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_stray_point_of_1970_costs_no_half_century() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(21), &folder, START + 30 * HOUR);
    home.tariff(Direction::Import, 0.8, i64::MIN / 2, None).await;
    home.write(&[("roof".to_owned(), HOUR, plant(0))]);
    home.write(&points("roof", 24, 60 * SECOND));
    home.settle().await;
    let found = home.sessions().await;
    assert_eq!(found.len(), 3);
    close(found[0].record.total_cost, 7.2 * 0.8, "the night's charge");
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_up_to_the_newest_point_shortens_the_last_session() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(22), &folder, START + 30 * HOUR);
    let mut all = points("roof", 24, 60 * SECOND);
    all.retain(|point| point.1 <= START + 3 * HOUR);
    home.write(&all);
    home.settle().await;
    close(home.sessions().await[0].record.energy_kwh, 7.2, "whole");
    delete(&home, RAW, (START + 2 * HOUR, i64::MAX));
    home.settle().await;
    let left = home.sessions().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].record.end, Some(Timestamp(START + 2 * HOUR - 60 * SECOND)));
    // A flank, and an hour less a minute.
    close(left[0].record.energy_kwh, 3.6 * (0.5 + 59.0) / 60.0, "what is left");
    home.stop().await;
}

/// The rule of a database hides the quarters too: reports were removed, or written with what was left.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_the_whole_database_leaves_reports() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(23), &folder, START + 90 * HOUR);
    home.write(&points("roof", 73, 60 * SECOND));
    let before = reports(&home, 3, |found| found[0].record.data["sessions"]["charging"]["count"] == 3).await;
    // The first day is gone whole, the second in part.
    home.engine.set_retention("wattlog", None, None, Rule::Keep { ns: 48 * HOUR as u64 }).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    home.tariff(Direction::Import, 0.5, START, None).await;
    let after = reports(&home, 3, |found| found[2].record.data["cost"]["pln"].is_number()).await;
    assert_eq!(after[..2], before[..2]);
    assert!(after[2].version > before[2].version);
    home.stop().await;
}

/// Berlin has the same midnights: the report could not be made beside the old one, and nothing went on.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_with_the_same_midnights_takes_reports_over() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(24), &folder, START + 30 * HOUR);
    home.write(&points("roof", 25, 60 * SECOND));
    let before = reports(&home, 1, |found| found[0].record.data["sessions"]["charging"]["count"] == 2).await;
    let disk = home.disk.clone();
    home.stop().await;
    let home = Home::open_in(disk, folder.path(), START + 30 * HOUR, "Europe/Berlin");
    let after = reports(&home, 1, |found| found[0].record.time_zone == "Europe/Berlin").await;
    assert_eq!((after[0].id, home.books.status().error), (before[0].id, None));
    assert_eq!(after[0].record.data, before[0].record.data);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_among_the_registers_stops_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(25), &folder, START + 30 * HOUR);
    let mut batch = WriteBatch::new("wattlog", None);
    // The other cannot be named in the ledger.
    let long = "x".repeat(210);
    for device in ["roof", &long] {
        let slot = batch.series(RAW, &TagSet::new([("device_id", device)]).unwrap());
        for minute in 0..=25 * 60_i64 {
            let mut row = batch.row(slot, Timestamp(START + minute * 60 * SECOND), minute as u32);
            row.float("pv_power", 1500.0);
            row.float("grid_power", 500.0);
            row.float("consumption", 1000.0);
            row.string("battery_soc", "unknown");
        }
    }
    assert_eq!(home.engine.write(batch).unwrap().rejected, []);
    let found = reports(&home, 1, |_| true).await;
    let report = &found[0].record;
    assert_eq!((report.device_id.as_str(), &report.data["peak"]["export_w"]), ("roof", &json!(500.0)));
    assert_eq!(report.data["battery"]["soc_end_percent"], json!(null));
    let status = home.books.status();
    assert!(status.notes.iter().any(|note| note.contains("its reports have no name")), "{status:?}");
    assert_eq!(status.error, None);
    home.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_behind_the_age_of_points_is_closed_at_its_last_reading() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(26), &folder, START + 90 * HOUR);
    home.write(&points("roof", 73, 60 * SECOND));
    home.settle().await;
    home.engine.set_retention("wattlog", None, Some(RAW), Rule::Keep { ns: 48 * HOUR as u64 }).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    let told = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).unwrap().to_string();
    let active: Session = serde_json::from_value(json!({
        "session_id": "shed/charging/1", "kind": "charging", "device_id": "shed", "start": told(START),
        "source": "grid", "status": "active", "origin": "detected", "energy_kwh": 2.5,
        "details": { "last_reading": told(START + HOUR) },
    }))
    .unwrap();
    let active = home.ledger.insert(active, &Actor::new("test")).await.unwrap();
    home.settle().await;
    let found = home.sessions().await;
    let closed = &found.iter().find(|stored| stored.id == active.id).unwrap().record;
    assert_eq!((closed.status, closed.end), (SessionStatus::Completed, Some(Timestamp(START + HOUR))));
    assert_eq!(closed.energy_kwh, Some(2.5));
    home.stop().await;
}

/// The stop wrote the place again, so that nothing was computed after the restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_deleted_has_all_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(27), &folder, START + 30 * HOUR);
    home.write(&points("roof", 24, 60 * SECOND));
    home.settle().await;
    let disk = home.disk.clone();
    home.stop().await;
    let home = Home::open(disk.clone(), &folder, START + 30 * HOUR);
    home.settle().await;
    let quarters = || home.engine.measurement("wattlog", QUARTERS).unwrap().and_then(|known| known.first);
    home.until("the quarters", || quarters() == Some(Timestamp(START))).await;
    // Somebody lost two of the three, and the quarters of the first hours.
    let found = home.sessions().await;
    assert_eq!(found.len(), 3);
    for stored in &found[..2] {
        home.ledger.remove::<Session>(stored.id, Expected::Any, &Actor::new("test")).await.unwrap();
    }
    delete(&home, QUARTERS, (i64::MIN, START + 6 * HOUR));
    home.settle().await;
    assert_eq!((home.sessions().await.len(), quarters()), (1, Some(Timestamp(START + 6 * HOUR))));
    delete(&home, "derived_state", (i64::MIN, i64::MAX));
    home.stop().await;
    let home = Home::open(disk, &folder, START + 30 * HOUR);
    home.settle().await;
    assert_eq!(content(&home.sessions().await), content(&found));
    let quarters = || home.engine.measurement("wattlog", QUARTERS).unwrap().and_then(|known| known.first);
    home.until("the quarters", || quarters() == Some(Timestamp(START))).await;
    home.stop().await;
}

/// Path and length of the newest file of the most rows: of a row a minute, no row a quarter of an hour.
fn points_file(home: &Home) -> (String, u64) {
    let snapshot = home.engine.snapshot();
    let entries = snapshot.segments().iter().map(|segment| segment.entry());
    let entry = entries.max_by_key(|entry| (entry.rows, entry.id)).expect("a segment");
    (entry.path(), entry.file_bytes)
}

/// A report that was made while a file could not be read said so for ever; its energies stayed away, and its sessions as they were.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_told_anew_when_it_can_be() {
    for is_restarted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(SimDisk::new(28), &folder, START + 24 * HOUR);
        let all = points("roof", 24, 60 * SECOND);
        let (first, rest) = all.split_at(11 * 60 + 30);
        home.write(first);
        home.settle().await;
        home.engine.seal().unwrap();
        home.write(rest);
        home.settle().await;
        home.engine.seal().unwrap();
        let found = home.sessions().await;
        assert_eq!(found.len(), 3);
        // All is to be computed again, from files of which one is damaged.
        delete(&home, QUARTERS, (i64::MIN, i64::MAX));
        delete(&home, "derived_state", (i64::MIN, i64::MAX));
        let (disk, (damaged, len)) = (home.disk.clone(), points_file(&home));
        home.stop().await;
        disk.flip_bit(&damaged, len / 2, 1);
        let mut home = Home::open(disk.clone(), &folder, START + 26 * HOUR);
        home.tariff(Direction::Import, 0.8, START, None).await;
        let partial = reports(&home, 1, |found| found[0].record.data["is_partial"] == true).await;
        assert!(partial[0].record.data["charge_kwh"].as_f64() < Some(9.5), "{partial:?}");
        assert_eq!(home.sessions().await[1..], found[1..]);
        let lost = |home: &Home| {
            let status = home.books.status();
            let within = |lost: Vec<Range<i64>>| {
                lost.iter().any(|lost| lost.start < START + 24 * HOUR && START < lost.end)
            };
            [status.lost_sessions, status.lost_reports, home.energy.status().lost].map(within)
        };
        // Energies of a file that was set aside before they were looked for lie behind all that is known: not lost, not there yet.
        home.until("what is lost is told", || lost(&home)[..2] == [true; 2]).await;
        // The file is put right; within an hour, or with the next start, that is found.
        if is_restarted {
            home.stop().await;
            disk.flip_bit(&damaged, len / 2, 1);
            home = Home::open(disk.clone(), &folder, START + 26 * HOUR);
        } else {
            disk.flip_bit(&damaged, len / 2, 1);
            home.clock.advance(Duration::from_secs(3600));
        }
        let is_whole = |found: &[Stored<Report>]| {
            let data = &found[0].record.data;
            data["is_partial"] == false && data["charge_kwh"] == json!(10.2)
        };
        reports(&home, 1, is_whole).await;
        let sessions = home.sessions().await;
        close(sessions[0].record.total_cost, 7.2 * 0.8, "the night's charge");
        home.until("nothing is lost any more", || lost(&home) == [false; 3]).await;
        home.stop().await;
    }
}

/// A block that stays damaged costs the sessions of its day, not those of two weeks around it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_costs_no_session_of_other_days() {
    let folder = tempfile::tempdir().unwrap();
    let now = START + 16 * 24 * HOUR;
    let home = Home::open(SimDisk::new(32), &folder, now);
    home.energy.stop();
    home.task.abort();
    home.write(&points("roof", 16 * 24, 60 * SECOND));
    home.engine.seal().unwrap();
    let (disk, (damaged, len)) = (home.disk.clone(), points_file(&home));
    home.stop_store().await;
    // In the data, which stand before the index: somewhere in the first days.
    disk.flip_bit(&damaged, len / 5, 1);
    let home = Home::open(disk, &folder, now);
    // Three sessions a day, by hand; what is damaged lacks those of a day or two.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let days: BTreeSet<i64> =
            home.sessions().await.iter().map(|s| (s.record.start.0 - START) / (24 * HOUR)).collect();
        if days.len() >= 13 && days.contains(&15) {
            assert!(days.len() < 16, "nothing of it was damaged");
            break;
        }
        assert!(Instant::now() < deadline, "{days:?}, {:?}", home.books.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    home.stop().await;
}

/// Energies that wait for a damaged file must not be computed from nothing when the points are too old by then.
#[tokio::test(flavor = "multi_thread")]
async fn energies_of_a_damaged_file_outlive_its_points() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(29), &folder, START + 24 * HOUR);
    let all = points("roof", 90, 60 * SECOND);
    // A file of the points alone.
    home.energy.stop();
    home.write(&all[..24 * 60]);
    home.engine.seal().unwrap();
    let (disk, (damaged, len)) = (home.disk.clone(), points_file(&home));
    home.stop().await;
    let home = Home::open(disk.clone(), &folder, START + 24 * HOUR);
    let last =
        |home: &Home| home.engine.measurement("wattlog", QUARTERS).unwrap().and_then(|known| known.last);
    home.until("the quarters", || last(&home) >= Some(Timestamp(START + 23 * HOUR))).await;
    home.until("the rest", || home.energy.status().pending.is_empty()).await;
    home.stop().await;
    disk.flip_bit(&damaged, len / 2, 1);
    let home = Home::open(disk, &folder, START + 90 * HOUR);
    let request = QueryRequest::raw("wattlog", QUARTERS, Timestamp(START), Timestamp(START + 26 * HOUR));
    let rows = || {
        let told = home.engine.query(&request, &QueryControl::default()).unwrap();
        told.series.iter().map(ResultSeries::rows).sum::<usize>()
    };
    let before = rows();
    assert!(before >= 92, "{before}");
    // A late point among them cannot be reckoned with.
    home.write(&[("roof".to_owned(), START + 12 * HOUR + 30 * SECOND, plant(12 * HOUR))]);
    home.write(&all[24 * 60..89 * 60]);
    home.until("the quarters", || last(&home) >= Some(Timestamp(START + 88 * HOUR))).await;
    home.until("what is late", || home.energy.status().pending.is_empty()).await;
    let after = rows();
    assert!(after >= before, "they stay as they were: {before}, {after}");
    home.engine.set_retention("wattlog", None, Some(RAW), Rule::Keep { ns: 48 * HOUR as u64 }).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    home.clock.advance(Duration::from_secs(3600));
    home.write(&all[89 * 60..]);
    home.until("the quarters", || last(&home) >= Some(Timestamp(START + 89 * HOUR))).await;
    home.until("what is late", || home.energy.status().pending.is_empty()).await;
    assert_eq!(rows(), after, "the points are gone, what they came to is not");
    home.stop().await;
}

/// A capacity that was put right changed no report until something else did.
#[tokio::test(flavor = "multi_thread")]
async fn another_capacity_has_reports_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(SimDisk::new(31), &folder, START + 80 * HOUR);
    home.write(&points("roof", 73, 60 * SECOND));
    // By hand: the first day has three charges and a sale, 17.4 and 2.5 kWh.
    let cycles = |found: &[Stored<Report>]| found[0].record.data["battery"]["full_cycles"].as_f64();
    let bare = reports(&home, 3, |found| found[0].record.data["sessions"]["charging"]["count"] == 3).await;
    assert_eq!(cycles(&bare), None);
    let battery = |kwh: f64| -> Device {
        let device = json!({ "device_id": "roof", "kind": "inverter", "battery_capacity_kwh": kwh });
        serde_json::from_value(device).unwrap()
    };
    let actor = Actor::new("test");
    let stored = home.ledger.insert(battery(10.0), &actor).await.unwrap();
    let first = reports(&home, 3, |found| found.iter().all(|report| report.version == 2)).await;
    let discharged = first[0].record.data["discharge_kwh"].as_f64().unwrap();
    close(Some(discharged), 2.5, "discharged");
    close(cycles(&first), discharged / 10.0, "of ten kilowatt hours");
    // Put right while nobody looks.
    let disk = home.disk.clone();
    home.stop().await;
    {
        let home = Home::open(disk.clone(), &folder, START + 80 * HOUR);
        home.task.abort();
        home.ledger.update(stored.id, Expected::Any, battery(5.0), &actor).await.unwrap();
        home.stop_store().await;
    }
    let home = Home::open(disk, &folder, START + 80 * HOUR);
    let second = reports(&home, 3, |found| found.iter().all(|report| report.version == 3)).await;
    close(cycles(&second), discharged / 5.0, "of five");
    assert_eq!(home.sessions().await.iter().map(|session| session.version).max(), Some(1));
    home.stop().await;
}
