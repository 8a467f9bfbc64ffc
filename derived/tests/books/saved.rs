//! What sessions cost and saved, where prices of their day cannot be read or are too old to be there.

use super::*;
use serde_json::json;
use std::collections::BTreeSet;
use wattlog_engine::Rule;

/// Days of 24 hours from the beginning on.
const ZONE: &str = "Etc/GMT-2";

async fn market(home: &Home) -> Stored<Tariff> {
    let market = Tariff {
        definition: json!({ "sold": true, "energy": { "market": { "source": "test" } } }),
        ..tariff(Direction::Import, 0.0, START, None)
    };
    home.ledger.insert(market, &Actor::new("test")).await.unwrap()
}

fn price(hour: usize) -> f64 {
    0.1 + 0.02 * (hour % 24) as f64
}

/// Mean of a day.
const MEAN: f64 = 0.33;

/// What a night's charge costs: half a minute's flank before one o'clock, and one after three.
fn night_cost() -> f64 {
    let flank = 3.6 * 0.5 / 60.0;
    flank * price(0) + 3.6 * price(1) + (3.6 * 59.0 / 60.0 + flank) * price(2)
}

/// A byte of the data of a file, however small: they stand behind 512 bytes of header.
const DATA: u64 = 530;

fn files(home: &Home) -> BTreeSet<String> {
    home.engine.snapshot().segments().iter().map(|segment| segment.entry().path()).collect()
}

/// The night's charge was not recorded, as the price of that evening could not be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_is_told_though_a_price_of_its_evening_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let now = START + 30 * HOUR;
    let prices: Vec<f64> = (0..24).map(price).collect();
    let path = folder.path().join("other");
    std::fs::create_dir(&path).unwrap();
    let home = Home::open_in(SimDisk::new(41), &path, now, ZONE);
    home.energy.stop();
    home.task.abort();
    home.write(&points("roof", 24, 60 * SECOND));
    hours(&home, 0, &prices[..12]);
    home.engine.seal().unwrap();
    // A file of the evening's prices alone.
    let known = files(&home);
    hours(&home, 12, &prices[12..]);
    home.engine.seal().unwrap();
    let (disk, damaged): (_, Vec<String>) =
        (home.disk.clone(), files(&home).difference(&known).cloned().collect());
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    home.stop_store().await;
    disk.flip_bit(&damaged[0], DATA, 1);

    let home = Home::open_in(disk.clone(), folder.path(), now, ZONE);
    market(&home).await;
    home.settle().await;
    let is_lost = |home: &Home| !home.books.status().lost_sessions.is_empty();
    home.until("what is lost is told", || is_lost(&home)).await;
    let first = home.sessions().await;
    assert_eq!(first.len(), 3, "{:?}", home.books.status());
    close(first[0].record.total_cost, night_cost(), "cost");
    assert_eq!(first[0].record.savings, None);
    let notes = home.books.status().notes;
    assert!(notes.iter().any(|note| note.starts_with("savings are not known: ")), "{notes:?}");

    // The file is put right; within an hour that is found.
    disk.flip_bit(&damaged[0], DATA, 1);
    home.clock.advance(Duration::from_secs(3600));
    home.until("nothing is lost any more", || !is_lost(&home)).await;
    home.settle().await;
    let whole = home.sessions().await;
    close(whole[0].record.savings, 7.2 * MEAN - night_cost(), "savings");

    // Damaged once more, it takes nothing from what was known.
    home.stop().await;
    disk.flip_bit(&damaged[0], DATA, 1);
    let home = Home::open_in(disk, folder.path(), now + HOUR, ZONE);
    let (device, time, mut values) = points("roof", 24, 60 * SECOND)[90].clone();
    values[1] -= 100.0;
    home.write(&[(device, time, values)]);
    home.settle().await;
    let late = home.sessions().await;
    assert_eq!((late[0].version, late[0].record.savings), (whole[0].version + 1, whole[0].record.savings));
    assert!(late[0].record.energy_kwh > whole[0].record.energy_kwh && is_lost(&home));
    assert_eq!(late[1..], whole[1..]);
    home.stop().await;
}

/// What old sessions cost and saved was taken away when they were found again, as their prices were too old to be there.
#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_rule_for_prices_leaves_what_sessions_cost() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open_in(SimDisk::new(42), folder.path(), START + 80 * HOUR, ZONE);
    let tariff = market(&home).await;
    let all = points("roof", 72, 60 * SECOND);
    home.write(&all);
    hours(&home, 0, &(0..75).map(price).collect::<Vec<_>>());
    home.settle().await;
    let before = home.sessions().await;
    assert_eq!(before.len(), 9);
    for night in [0, 3, 6] {
        close(before[night].record.savings, 7.2 * MEAN - night_cost(), "savings");
    }
    // Those of the first day and of the second night are gone.
    let keep = Rule::Keep { ns: 48 * HOUR as u64 };
    home.engine.set_retention("wattlog", None, Some(PRICES), keep).unwrap();
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    let first = home.engine.measurement("wattlog", PRICES).unwrap().unwrap().first.unwrap();
    assert!(first.0 >= START + 32 * HOUR, "prices are hidden: {}", (first.0 - START) / HOUR);

    // Late points in the first night's charge and in that from the roof, a tariff that is edited, and another evening's price.
    for at in [90, 11 * 60 + 30] {
        let (device, time, mut values) = all[at].clone();
        values[1] -= 100.0;
        home.write(&[(device, time, values)]);
    }
    let edited = Tariff { note: "a word".to_owned(), ..tariff.record.clone() };
    let expected = Expected::Version(tariff.version);
    home.ledger.update(tariff.id, expected, edited, &Actor::new("test")).await.unwrap();
    hours(&home, 68, &[1.5]);
    // A device whose points are imported only now.
    home.write(&points("shed", 5, 60 * SECOND));
    home.settle().await;
    let after = home.sessions().await;
    let roof = &after[..9];
    let (first, was) = (&roof[0].record, &before[0].record);
    assert!(first.energy_kwh > was.energy_kwh && roof[0].version == before[0].version + 1, "{first:?}");
    let money = |session: &Session| (session.total_cost, session.average_price, session.savings);
    assert_eq!(money(first), money(was), "what it cost is not known any more, but that it was");
    assert!(roof[1].record.energy_kwh > before[1].record.energy_kwh, "no price is needed");
    assert_eq!(roof[2..6], before[2..6]);
    let dear = 7.2 * (MEAN + (1.5 - price(68)) / 24.0) - night_cost();
    close(roof[6].record.savings, dear, "prices of its day are there");
    let shed: Vec<_> =
        after[9..].iter().map(|stored| (stored.record.energy_kwh, stored.record.total_cost)).collect();
    assert_eq!(shed, [(Some(7.2), None)], "it is told without a price");
    home.stop().await;
}

/// One that was under way when the home fell silent, and whose prices are too old by now, ends with what it cost; what comes late and
/// joins it to another takes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_under_way_ends_though_its_prices_are_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open_in(SimDisk::new(43), folder.path(), START + 2 * HOUR, ZONE);
    market(&home).await;
    let all = points("roof", 24, 60 * SECOND);
    // From one o'clock on it is charged; heard until two.
    home.write(&all[..120]);
    hours(&home, 0, &(0..75).map(price).collect::<Vec<_>>());
    home.settle().await;
    let open = home.sessions().await;
    assert_eq!((open.len(), open[0].record.status), (1, SessionStatus::Active), "{open:?}");
    let money = |session: &Session| (session.total_cost, session.average_price, session.savings);
    let known = money(&open[0].record);
    assert!(known.0.is_some() && known.2.is_some(), "{known:?}");
    let keep = Rule::Keep { ns: 48 * HOUR as u64 };
    home.engine.set_retention("wattlog", None, Some(PRICES), keep).unwrap();
    let disk = home.disk.clone();
    home.stop().await;

    let home = Home::open_in(disk, folder.path(), START + 80 * HOUR, ZONE);
    home.engine.confirm_clock().unwrap();
    home.engine.retain().unwrap();
    let first = home.engine.measurement("wattlog", PRICES).unwrap().unwrap().first.unwrap();
    assert!(first.0 >= START + 24 * HOUR, "prices are hidden: {}", (first.0 - START) / HOUR);
    home.settle().await;
    let over = home.sessions().await;
    assert_eq!((over.len(), over[0].record.status), (1, SessionStatus::Completed), "{over:?}");
    assert_eq!((money(&over[0].record), home.books.status().sessions), (known, Vec::new()));
    // What comes after a hole is one without a cost; what fills the hole joins the two.
    home.write(&all[150..240]);
    home.settle().await;
    let two = home.sessions().await;
    assert_eq!((two.len(), &two[0], two[1].record.total_cost), (2, &over[0], None), "{two:?}");
    home.write(&all[120..150]);
    home.settle().await;
    let joined = home.sessions().await;
    assert_eq!((joined.len(), money(&joined[0].record)), (1, known), "{joined:?}");
    close(joined[0].record.energy_kwh, 7.2, "energy of the whole night");
    let written = home.books.status().sessions_written;
    home.settle().await;
    assert_eq!(home.books.status().sessions_written, written);
    home.stop().await;
}
